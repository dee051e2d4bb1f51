"""Parameters that are functions of other parameters.

A module with a parametrization on ``weight`` has a class of its own, in which ``weight`` is a property: reading it computes the function,
assigning to it goes the other way. What is trained, saved and loaded is ``parametrizations.weight.original``.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from agnostic_ad import Variable, no_grad
from agnostic_ad.levels import Array, device_of
from agnostic_ad.nn.containers import ModuleDict, ModuleList
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Parameter, assign

__all__ = [
    "ParametrizationList",
    "cached",
    "is_parametrized",
    "register_parametrization",
    "remove_parametrizations",
    "transfer_parametrizations_and_params",
    "type_before_parametrizations",
]

_CACHE: ContextVar[dict[tuple[int, str], Any] | None] = ContextVar("agnostic_ad_parametrizations", default=None)


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Compute each parametrized parameter once in a ``with``, however often it is read.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    >>> layer.weight is layer.weight
    False
    >>> with nn.utils.parametrize.cached():
    ...     layer.weight is layer.weight
    True
    """
    token = _CACHE.set({}) if _CACHE.get() is None else None
    try:
        yield
    finally:
        if token is not None:
            _CACHE.reset(token)


def _check_like(x: Any, dtype: Any, shape: Any, what: str) -> None:
    """Refuse a result that could not stand for what it was computed from."""
    if not isinstance(x, Array):
        raise ValueError(f"{what} gives an array, not {type(x).__name__}")
    if x.dtype != dtype or tuple(x.shape) != tuple(shape):
        raise ValueError(
            f"{what} gives an array of shape {tuple(x.shape)} and dtype {x.dtype} for one of shape {tuple(shape)} and dtype {dtype}. "
            "If that is intended, pass unsafe=True."
        )


def _register(module: Module, name: str, x: Variable) -> None:
    (module.register_parameter if isinstance(x, Parameter) else module.register_buffer)(name, x)


def _set(original: Variable, new: Any, what: str) -> None:
    """Give an original another value, of its own kind."""
    if not isinstance(new, Array):
        raise ValueError(f"{what} gives an array, not {type(new).__name__}")
    if new.dtype != original.dtype or device_of(new) != device_of(original):
        raise ValueError(f"{what} keeps dtype and device: {original.dtype} on {device_of(original)}, not {new.dtype} on {device_of(new)}")
    assign(original, new.data)


class ParametrizationList(ModuleList):
    """The functions that make one parameter, applied one after the other, and what they make it from.

    `register_parametrization` makes it.

    Parameters
    ----------
    modules : sequence of Module
        The functions.
    original : Parameter or Buffer
        What they take the place of.
    unsafe : bool
        Whether they may change shape or dtype.

    Attributes
    ----------
    original : Parameter or Buffer
        What is trained; or ``original0``, ``original1`` and so on, where ``right_inverse`` of the first function gives several arrays.
    """

    def __init__(self, modules: Sequence[Module], original: Variable, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList takes one module or more")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype, new = original.shape, original.dtype, original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    with contextlib.suppress(NotImplementedError):
                        new = module.right_inverse(new)
        self.is_tensor = isinstance(new, Array)
        if not self.is_tensor and not isinstance(new, Sequence):
            raise ValueError(f"right_inverse gives an array or a sequence of arrays, not {type(new).__name__}")
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            _set(original, new, "right_inverse of one array")
            _register(self, "original", original)
        else:
            for i, part in enumerate(new):
                if not isinstance(part, Variable):
                    raise ValueError(f"right_inverse gives arrays; element {i} is {type(part).__name__}")
                part = part.detach()
                part.requires_grad = original.requires_grad
                _register(self, f"original{i}", Parameter.mark(part) if isinstance(original, Parameter) else part)
        if not unsafe:
            _check_like(self(), dtype, shape, "a parametrization")

    def right_inverse(self, value: Any) -> None:
        """Make ``value`` what the functions give, as far as they can; called when the parameter is assigned to."""
        with no_grad():
            value = value if isinstance(value, Array) else Variable(value, requires_grad=False)
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"{type(module).__name__} has no right_inverse(), so the parameter that it makes cannot be assigned to"
                    )
                value = module.right_inverse(value)
            if self.is_tensor:
                _set(self.original, value, "right_inverse")
                return
            if not isinstance(value, Sequence) or len(value) != self.ntensors:
                raise ValueError(f"right_inverse gives {self.ntensors} arrays, as it did before")
            for i, part in enumerate(value):
                _set(getattr(self, f"original{i}"), part, f"right_inverse, array {i},")

    def forward(self) -> Any:
        """Compute the parameter."""
        first, *others = self
        x = first(self.original) if self.is_tensor else first(*(getattr(self, f"original{i}") for i in range(self.ntensors)))
        for module in others:
            x = module(x)
        return x


# --- classes with properties --------------------------------------------------------------------------------------------------------------
def _own_class(module: Module) -> None:
    """Give a module a class of its own, to which properties can be added."""
    cls = type(module)

    def refuse(self: Module) -> Any:
        raise RuntimeError(f"a {type(self).__name__} cannot be pickled, as its class is made as it runs. Save its state_dict().")

    def duplicate(self: Module, memo: dict[int, Any]) -> Module:
        made: Module = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    own: dict[str, Any] = {"__reduce_ex__": lambda self, protocol: refuse(self), "__module__": cls.__module__}
    if not hasattr(cls, "__deepcopy__"):
        own["__deepcopy__"] = duplicate
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), own)


def _property(name: str) -> Any:
    def get(self: Module) -> Any:
        found = _CACHE.get()
        if found is None:
            return self.parametrizations[name]()
        key = id(self), name
        if key not in found:
            found[key] = self.parametrizations[name]()
        return found[key]

    def put(self: Module, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def register_parametrization(module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Module:
    """Make a parameter or buffer a function of what it was.

    Parameters
    ----------
    module : Module
        Whose parameter it is.
    tensor_name : str
        The parameter's name. A further parametrization is applied after those that are there.
    parametrization : Module
        The function: ``forward(original)``. Where it has a method ``right_inverse(value)``, that is called now, to find what the function is
        to be applied to, and whenever the parameter is assigned to; it may give several arrays, which ``forward`` then takes.
    unsafe : bool
        Whether it may change shape and dtype.

    Returns
    -------
    Module
        ``module``, changed.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> class Symmetric(nn.Module):
    ...     def forward(self, x):
    ...         return (x + x.mT) / 2
    >>> layer = nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight.data == layer.weight.data.T).all()), list(layer.state_dict())
    (True, ['bias', 'parametrizations.weight.original'])
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            y = getattr(module, tensor_name)
            x = parametrization(y)
            _check_like(x, y.dtype, y.shape, f"the parametrization {type(parametrization).__name__}")
            if hasattr(parametrization, "right_inverse"):
                with contextlib.suppress(NotImplementedError):
                    back = parametrization.right_inverse(x)
                    _check_like(back, y.dtype, y.shape, f"right_inverse of {type(parametrization).__name__}")
        found = module.parametrizations[tensor_name]
        found.append(parametrization)
        found.unsafe = found.unsafe or unsafe
    elif module._parameters.get(tensor_name) is not None or module._buffers.get(tensor_name) is not None:
        made = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            _own_class(module)
            module.parametrizations = ModuleDict()
        setattr(type(module), tensor_name, _property(tensor_name))
        module.parametrizations[tensor_name] = made
    else:
        raise ValueError(f"{type(module).__name__} has no parameter, buffer or parametrized parameter {tensor_name!r}")
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Tell whether a module has a parametrization: on one parameter, or on any."""
    found = module._modules.get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrized parameter an ordinary one.

    Parameters
    ----------
    module : Module
        Whose parameter it is.
    tensor_name : str
        The parameter's name.
    leave_parametrized : bool
        Whether it keeps the value that the parametrization gives, or gets back the original.

    Returns
    -------
    Module
        ``module``, changed. The parameter is the object that was ``original``, where there was one, so that an optimizer keeps it.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__} has no parametrization on {tensor_name!r}")
    found = module.parametrizations[tensor_name]
    if not found.is_tensor and not leave_parametrized:
        raise ValueError(
            f"{tensor_name!r} is made of {found.ntensors} arrays, so there is no single original: leave_parametrized=False cannot be"
        )
    with no_grad():
        value = getattr(module, tensor_name)
    original = found.original if found.is_tensor else found.original0
    if not found.is_tensor:
        made = Variable(value.data, requires_grad=original.requires_grad)
        original = Parameter.mark(made) if isinstance(original, Parameter) else made
    elif leave_parametrized:
        assign(original, value.data)
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    _register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def transfer_parametrizations_and_params(from_module: Module, to_module: Module, tensor_name: str | None = None) -> Module:
    """Give a module the parametrizations of another, and what they make their parameters from.

    Parameters
    ----------
    from_module, to_module : Module
        The parametrizations and originals of the first become shared.
    tensor_name : str, optional
        Of one parameter; by default all that are parametrized.

    Returns
    -------
    Module
        ``to_module``, changed.
    """
    names = [] if not is_parametrized(from_module) else list(from_module.parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        found = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).data))
        for function in found:
            register_parametrization(to_module, name, function)
        for part in ["original"] if found.is_tensor else [f"original{i}" for i in range(found.ntensors)]:
            setattr(to_module.parametrizations[name], part, getattr(found, part))
    return to_module


def type_before_parametrizations(module: Module) -> type:
    """Give the class that a module had before it was parametrized."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)
