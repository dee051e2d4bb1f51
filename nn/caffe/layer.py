"""The base of all layers, and the register of their types."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

from agnostic_ad.config import Place, place
from agnostic_ad.levels import unify
from agnostic_ad.nn.caffe.blob import Blob, keywords
from agnostic_ad.nn.caffe.message import DefinitionError, Message, nearest
from agnostic_ad.random import Generator, default_generator

__all__ = ["LAYERS", "Layer", "create", "layer_class", "noted", "register"]

LAYERS: dict[str, type[Layer]] = {}
"""The class of each type of layer, by Caffe's name."""

_L = TypeVar("_L", bound="type[Layer]")


def register(name: str) -> Callable[[_L], _L]:
    """Make a class the layer of a type: a decorator.

    Parameters
    ----------
    name : str
        The type's name in prototxt files. A later class of the same name takes its place.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> @caffe.register("Twice")
    ... class Twice(caffe.Layer):
    ...     exact_bottoms = exact_tops = 1
    ...
    ...     def reshape(self, bottom, top):
    ...         top[0].reshape_like(bottom[0])
    ...
    ...     def forward(self, bottom, top):
    ...         top[0].data = 2 * bottom[0].data
    ...
    ...     def backward(self, top, propagate_down, bottom):
    ...         bottom[0].diff = 2 * top[0].diff
    >>> del caffe.LAYERS["Twice"]
    """

    def add(made: _L) -> _L:
        made.type = name
        LAYERS[name] = made
        return made

    return add


def layer_class(name: str | None, where: str = "") -> type[Layer]:
    """Give the class of a type of layer."""
    if not name:
        raise DefinitionError(f'{where}its type is missing: type: "ReLU", for one')
    found = LAYERS.get(name)
    if found is None:
        raise DefinitionError(f"{where}there is no layer of type {name!r}{nearest(name, LAYERS)}; caffe.register adds one")
    return found


class Layer:
    """A step of a net: it computes its tops from its bottoms, and the gradient of its bottoms and parameters from that of its tops.

    A layer of one's own defines ``reshape``, ``forward`` and ``backward``, and ``setup`` where it has something to prepare. ``forward`` writes
    the tops' ``data``. ``backward`` writes ``diff`` of the bottoms that ``propagate_down`` marks, and *adds to* ``diff`` of the parameters,
    ``blobs``. A bottom and a top may be the same blob (an in-place layer).

    Parameters
    ----------
    param : Message, optional
        A LayerParameter; or its fields as keywords.
    phase : str, optional
        "TRAIN" or "TEST"; by default the parameter's, else "TRAIN".
    xp, dtype, device
        The array library, the dtype and the device; by default as `agnostic_ad.defaults` says.
    generator : Generator, optional
        What random numbers come from; by default the default generator.
    **fields
        Fields of a LayerParameter, in place of those of ``param``, which is left as it is.

    Attributes
    ----------
    type : str
        Caffe's name for this kind of layer.
    blobs : list of Blob
        The parameters, which ``setup`` makes.
    loss_weight : list of float
        How much each top counts in the loss: the net fills it.
    param_propagate_down : list of bool
        Which parameters want their gradient.
    xp : Backend
        The array library: the standard's functions, and what the operations of neural networks need besides.
    """

    type: ClassVar[str] = ""
    exact_bottoms: ClassVar[int | None] = None
    min_bottoms: ClassVar[int] = 0
    max_bottoms: ClassVar[int | None] = None
    exact_tops: ClassVar[int | None] = None
    min_tops: ClassVar[int] = 0
    max_tops: ClassVar[int | None] = None
    equal_bottoms_and_tops: ClassVar[bool] = False
    auto_top_blobs: ClassVar[bool] = False
    """Whether the net makes the tops that are needed and not named (losses do)."""
    is_loss: ClassVar[bool] = False
    """Whether the first top has loss weight 1 where nothing is said."""
    in_place: ClassVar[bool] = True
    """Whether a top may be one of the bottoms."""
    makes_data: ClassVar[bool] = False
    """Whether the tops come from outside, so that `Net` may be given arrays in this layer's place."""

    param_str: str = ""
    """What ``python_param`` hands to a layer of the type "Python"."""

    def __init__(
        self,
        param: Message | None = None,
        *,
        phase: str | None = None,
        xp: Any = None,
        dtype: Any = None,
        device: Any = None,
        generator: Generator | None = None,
        **fields: Any,
    ) -> None:
        self.param = (param or Message("LayerParameter")).but(**fields)
        if not self.param.has("type"):
            self.param.type = self.type
        self.phase = phase or self.param.phase or "TRAIN"
        self.place: Place = place(xp, dtype, device)
        self.xp: Any = self.place.backend
        self.generator = generator or default_generator
        self.blobs: list[Blob] = []
        self.loss_weight: list[float] = []
        self.param_propagate_down: list[bool] = []

    @property
    def name(self) -> str:
        """The layer's name, else its type."""
        return self.param.name or self.type

    def param_of(self, field: str) -> Message:
        """Give the parameters of a kind of layer, such as "convolution_param", with Caffe's defaults for what was not said."""
        found: Message = getattr(self.param, field)
        return found

    def allow_force_backward(self, index: int) -> bool:
        """Tell whether ``force_backward`` makes this layer compute the gradient of a bottom (of labels, losses do not)."""
        return True

    def apply(self, *bottoms: Any, params: Any = None, tops: int | None = None) -> Any:
        """Use the layer as an operation on arrays, with its own backward for derivative; see `as_function`."""
        from agnostic_ad.nn.caffe.bridge import as_function

        return as_function(self, tops)(*bottoms, params=params)

    # --- what a layer defines ---------------------------------------------------------------------------------------
    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Read the parameters and make ``blobs``: once, when the net is built."""

    def feed(self, *arrays: Any) -> None:
        """Take the arrays to read examples from: MemoryData does."""
        raise self.fail("it reads no arrays")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Give the tops their shapes: before each forward."""
        raise NotImplementedError(f"{type(self).__name__} defines reshape(bottom, top)")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> Any:
        """Compute the tops' data."""
        raise NotImplementedError(f"{type(self).__name__} defines forward(bottom, top)")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Compute the gradients."""
        raise NotImplementedError(f"{type(self).__name__} defines backward(top, propagate_down, bottom)")

    # --- what its methods use ---------------------------------------------------------------------------------------
    def space(self, *arrays: Any) -> Any:
        """Give the namespace that computes with arrays, raw ones or those of a transformation: what ``forward`` computes in."""
        return unify(list(arrays))[0]

    def blob(self, *shape: int, name: str = "") -> Blob:
        """Make a blob where this layer's arrays live."""
        return Blob(shape, **keywords(self.place), name=name)

    def fail(self, problem: str) -> DefinitionError:
        """Make an error that names the layer and the place of its definition."""
        return DefinitionError(f"{self.param.at()}layer {self.name!r} ({self.type}): {problem}")

    def check_counts(self, bottoms: int, tops: int) -> None:
        """Refuse a wrong number of bottoms or tops."""
        for what, count, exact, least, most in (
            ("bottom", bottoms, self.exact_bottoms, self.min_bottoms, self.max_bottoms),
            ("top", tops, self.exact_tops, self.min_tops, self.max_tops),
        ):
            if exact is not None and count != exact:
                raise self.fail(f"it takes {exact} {what} blob{'s' * (exact != 1)}, and {count} are named")
            if count < least:
                raise self.fail(f"it takes at least {least} {what} blob{'s' * (least != 1)}, and {count} are named")
            if most is not None and count > most:
                raise self.fail(f"it takes at most {most} {what} blob{'s' * (most != 1)}, and {count} are named")
        if self.equal_bottoms_and_tops and bottoms != tops:
            raise self.fail(f"it takes as many bottoms as tops, and {bottoms} and {tops} are named")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def create(param: Message, **where: Any) -> Layer:
    """Make the layer that a LayerParameter defines; for the type "Python", of the class that it names."""
    if param.type != "Python":
        return layer_class(param.type, f"{param.at()}layer {param.name!r}: ")(param, **where)
    named = param.python_param
    problem = f"{param.at()}layer {param.name!r} (Python): "
    if not named.module or not named.layer:
        raise DefinitionError(f"{problem}python_param says which class it is: a module, and the name of a layer in it")
    try:
        module = importlib.import_module(named.module)
    except Exception as error:  # whatever is wrong with somebody's module
        raise DefinitionError(f"{problem}module {named.module!r} cannot be imported: {error}") from error
    found = getattr(module, named.layer, None)
    if found is None:
        raise DefinitionError(f"{problem}module {named.module!r} has no {named.layer!r}{nearest(named.layer, vars(module))}")
    if not (isinstance(found, type) and issubclass(found, Layer)):
        raise DefinitionError(f"{problem}{named.module}.{named.layer} is no subclass of caffe.Layer")
    made = found(param, **where)
    made.param_str = named.param_str
    return made


@contextmanager
def noted(layer: Layer, definition: bool = False) -> Iterator[None]:
    """Say in which layer an error arose; a wrong value is the definition's where the layer is only made."""
    try:
        yield
    except DefinitionError:
        raise
    except Exception as error:
        if definition and isinstance(error, ValueError):
            raise layer.fail(str(error)) from error
        error.add_note(f"in {layer.param.at()}layer {layer.name!r} ({layer.type})")
        raise
