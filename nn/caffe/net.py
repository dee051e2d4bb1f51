"""Nets: layers in order, the blobs between them, and their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agnostic_ad.config import Place, place
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.caffe import files
from agnostic_ad.nn.caffe.blob import Blob, keywords
from agnostic_ad.nn.caffe.feeding import with_inputs
from agnostic_ad.nn.caffe.layer import Layer, create, noted
from agnostic_ad.nn.caffe.message import Message, nearest
from agnostic_ad.nn.caffe.parse import read_definition
from agnostic_ad.nn.caffe.reports import backward_lines, forward_lines, total_line
from agnostic_ad.nn.caffe.sharing import Parameters
from agnostic_ad.nn.caffe.structure import State, chosen, with_splits
from agnostic_ad.random import Generator

__all__ = ["Net"]


class Net:
    """The net that a definition describes.

    Parameters
    ----------
    definition : path, str or Message
        A prototxt file, its text, or a NetParameter.
    phase : {"TRAIN", "TEST"}
        Which layers to take, where they have rules, and how they work.
    level : int
        The level, for layers with rules about it.
    stages : sequence of str
        The stages, for layers with rules about them.
    weights : path, optional
        A file of weights, as for `copy_from`.
    inputs : dict, optional
        What to read in place of the data layers, by the names of their tops: shapes (tuples), which make an Input layer that ``forward`` is
        given arrays for; or arrays of all examples, which are read in batches of the size that the data layer says, over and over, and
        transformed as it says.
    xp, dtype, device
        The array library, the dtype and the device; by default as `agnostic_ad.defaults` says.
    generator : Generator, optional
        What initial weights, dropout and random crops come from; by default the default generator.

    Attributes
    ----------
    blobs : dict of str to Blob
        The arrays between the layers, in the order in which they are made.
    params : dict of str to list of Blob
        The parameters of each layer that has some.
    layers : list of Layer
        The layers, in order, with the Split layers that were put in.
    layer_dict : dict of str to Layer
        The same by name.
    inputs, outputs : list of str
        The blobs that Input layers make, and those that no layer reads.
    learnable_params : list of Blob
        All parameters, each shared one once.
    debug_info : bool
        Whether to hand lines about each layer's results and gradients to ``log``, which is `print` at first.

    Raises
    ------
    DefinitionError
        Where the definition is wrong, with its file and line.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import caffe
    >>> net = caffe.Net('''
    ... layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
    ... layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
    ...         inner_product_param { num_output: 1 weight_filler { value: 2 } } }
    ... ''', force_backward=True)
    >>> net.forward(x=np.ones((2, 3)))["y"]
    array([[6.],
           [6.]], dtype=float32)
    >>> net.backward(y=np.ones((2, 1)))["x"]
    array([[2., 2., 2.],
           [2., 2., 2.]], dtype=float32)
    """

    def __init__(
        self,
        definition: Any,
        phase: str = "TRAIN",
        level: int = 0,
        stages: Iterable[str] = (),
        weights: Any = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        force_backward: bool | None = None,
        xp: Any = None,
        dtype: Any = None,
        device: Any = None,
        generator: Generator | None = None,
    ) -> None:
        if phase not in ("TRAIN", "TEST"):
            raise ValueError(f"phase is 'TRAIN' or 'TEST', not {phase!r}")
        param = read_definition(definition, "NetParameter")
        self.name: str = param.name or ""
        self.phase = phase
        self.place: Place = place(xp, dtype, device)
        self.generator = generator
        self.layers: list[Layer] = []
        self.blob_list: list[Blob] = []
        self.blobs: dict[str, Blob] = {}
        self.params: dict[str, list[Blob]] = {}
        self._parameters = Parameters()
        self.learnable_params: list[Blob] = self._parameters.learnable
        self.inputs: list[str] = []
        self.bottoms: list[list[Blob]] = []
        self.tops: list[list[Blob]] = []
        self.propagate_down: list[list[bool]] = []
        self.layer_need_backward: list[bool] = []
        self.debug_info: bool = param.debug_info
        self.log: Callable[[str], Any] = print
        self._available: dict[str, None] = {}
        self._wanted: set[int] = set()  # the ids of blobs whose gradient something before them needs
        state = State(phase, level, (*param.state.stage, *stages))
        layers = chosen(param.layer, state)
        layers, self._fed = with_inputs(layers, {} if inputs is None else inputs, param.at())
        for layer in with_splits(layers):
            self._append(layer)
        self._skip_what_no_loss_needs()
        if param.force_backward if force_backward is None else force_backward:
            self._force_backward()
        self.outputs = sorted(self._available)
        self.layer_dict = {layer.name: layer for layer in self.layers}
        if weights is not None:
            self.copy_from(weights)

    # --- building ---------------------------------------------------------------------------------------------------
    def _append(self, param: Message) -> None:
        """Make a layer and its tops, and set it up."""
        if not param.has("phase"):
            param.phase = self.phase
        layer = create(param, **keywords(self.place), generator=self.generator)
        if param.propagate_down and len(param.propagate_down) != len(param.bottom):
            raise layer.fail(
                f"propagate_down is said for each of its {len(param.bottom)} bottoms or for none, not {len(param.propagate_down)} times"
            )
        bottom = [self._take(layer, name) for name in param.bottom]
        wants = list(param.propagate_down) or [id(b) in self._wanted for b in bottom]
        needed = any(id(b) in self._wanted for b in bottom)
        top = [self._top(layer, name, param.bottom[i : i + 1]) for i, name in enumerate(param.top)]
        if layer.auto_top_blobs:
            while len(top) < max(layer.min_tops, layer.exact_tops or 0):
                top.append(self._new_blob("(automatic)"))
        if param.type == "Input":
            self.inputs += param.top
        layer.check_counts(len(bottom), len(top))
        if not layer.in_place and any(t is b for t in top for b in bottom):
            raise layer.fail("it cannot work in place: give its top a name of its own")
        with noted(layer, definition=True):
            if layer.name in self._fed:
                layer.feed(*self._fed[layer.name])
            layer.setup(bottom, top)
            layer.reshape(bottom, top)
        self._set_loss_weight(layer, len(top))
        self.layers.append(layer)
        self.bottoms.append(bottom)
        self.tops.append(top)
        self.propagate_down.append(wants)
        if len(param.param) > len(layer.blobs):
            raise layer.fail(f"it has {len(layer.blobs)} parameters, and 'param' is given {len(param.param)} times")
        for i, blob in enumerate(layer.blobs):
            spec = layer.param.param[i] if i < len(layer.param.param) else Message("ParamSpec")
            layer.param_propagate_down[i : i + 1] = [spec.lr_mult != 0]
            needed |= spec.lr_mult != 0
            blob.name = blob.name or f"{layer.name}[{i}]"
            self._parameters.add(layer, blob, spec)
        if layer.blobs:
            self.params[layer.name] = layer.blobs
        self.layer_need_backward.append(needed)
        if needed:
            self._wanted.update(map(id, top))

    def _take(self, layer: Layer, name: str) -> Blob:
        """Give a bottom, which is then no output of the net."""
        if name not in self._available:
            raise layer.fail(f"it reads blob {name!r}, which was read already by a layer that writes it in place")
        del self._available[name]
        return self.blobs[name]

    def _top(self, layer: Layer, name: str, same: list[str]) -> Blob:
        """Give a top: a new blob, or the bottom of the same number for a layer that works in place."""
        if same != [name]:
            if name in self.blobs:
                raise layer.fail(f"its top {name!r} is made by another layer already; only a bottom of the same place may be written again")
            self.blobs[name] = self._new_blob(name)
        self._available[name] = None
        return self.blobs[name]

    def _new_blob(self, name: str) -> Blob:
        made = Blob(**keywords(self.place), name=name)
        self.blob_list.append(made)
        return made

    def _set_loss_weight(self, layer: Layer, tops: int) -> None:
        """Say how much each top counts in the loss: what the definition says, else 1 for a loss's first top."""
        said = list(layer.param.loss_weight)
        if said and len(said) != tops:
            raise layer.fail(f"loss_weight is said for each of its {tops} tops or for none, not {len(said)} times")
        layer.loss_weight = said or [float(layer.is_loss and i == 0) for i in range(tops)]

    def _skip_what_no_loss_needs(self) -> None:
        """Go through the layers backwards and find which contribute to a loss, and where nothing before needs a gradient."""
        under: set[int] = set()
        skipped: set[int] = set()
        for i in reversed(range(len(self.layers))):
            top, bottom = self.tops[i], self.bottoms[i]
            contributes = any(w or id(t) in under for w, t in zip(self.layers[i].loss_weight, top))
            if self.layer_need_backward[i] and all(id(t) in skipped for t in top):
                self.layer_need_backward[i] = False
                self.propagate_down[i] = [False] * len(bottom)
            if contributes:
                under.update(map(id, bottom))
            else:
                self.layer_need_backward[i] = False
                self.propagate_down[i] = [False] * len(bottom)
            skipped.update(id(b) for b, wants in zip(bottom, self.propagate_down[i]) if not wants)

    def _force_backward(self) -> None:
        for i, layer in enumerate(self.layers):
            self.layer_need_backward[i] = True
            self.propagate_down[i] = [wants or layer.allow_force_backward(j) for j, wants in enumerate(self.propagate_down[i])]
            layer.param_propagate_down = [True] * len(layer.blobs)

    # --- running ----------------------------------------------------------------------------------------------------
    def _range(self, start: str | None, end: str | None) -> tuple[int, int]:
        names = [layer.name for layer in self.layers]
        for name in (start, end):
            if name is not None and name not in names:
                raise KeyError(f"net {self.name!r} has no layer {name!r}{nearest(name, names)}")
        return (0 if start is None else names.index(start)), (len(names) - 1 if end is None else names.index(end))

    def forward(self, *, start: str | None = None, end: str | None = None, **inputs: Any) -> dict[str, Any]:
        """Run the layers.

        Parameters
        ----------
        start, end : str, optional
            The first and the last layer to run; by default all.
        **inputs
            Arrays for the net's inputs, which take the arrays' shapes.

        Returns
        -------
        dict
            The arrays of the net's outputs, by name; with ``end``, those of that layer.
        """
        first, last = self._range(start, end)
        for name, value in inputs.items():
            if name not in self.inputs:
                known = ", ".join(self.inputs) or "none; the argument inputs= of caffe.Net makes some of its data layers"
                raise KeyError(f"net {self.name!r} has no input {name!r}{nearest(name, self.inputs)}; its inputs are {known}")
            shape = getattr(value, "shape", None)
            if shape is not None:
                self.blobs[name].reshape(*map(int, shape))
            self.blobs[name].data = value
        for i in range(first, last + 1):
            layer, bottom, top = self.layers[i], self.bottoms[i], self.tops[i]
            with noted(layer):
                layer.reshape(bottom, top)
                layer.forward(bottom, top)
            for weight, blob in zip(layer.loss_weight, top):
                if weight:
                    blob.diff = weight
            if self.debug_info:
                self._say(forward_lines(self, i))
        if end is not None:
            return {blob.name: blob.data for blob in self.tops[last]}
        return {name: self.blobs[name].data for name in self.outputs}

    def backward(self, *, start: str | None = None, end: str | None = None, **diffs: Any) -> dict[str, Any]:
        """Run the layers backwards: the gradients of parameters are added to their ``diff``.

        Parameters
        ----------
        start, end : str, optional
            The first and the last layer to run, counted from the end of the net; by default all.
        **diffs
            Gradients of blobs to begin with. Those of losses are there already, from `forward`.

        Returns
        -------
        dict
            The gradients of the net's inputs, by name (zeros where none was wanted); with ``end``, those of that layer's bottoms.
        """
        last, first = self._range(end, start)
        for name, value in diffs.items():
            if name not in self.blobs:
                raise KeyError(f"net {self.name!r} has no blob {name!r}{nearest(name, self.blobs)}")
            self.blobs[name].diff = value
        for i in range(first, last - 1, -1):
            if self.layer_need_backward[i]:
                with noted(self.layers[i]):
                    self.layers[i].backward(self.tops[i], self.propagate_down[i], self.bottoms[i])
                if self.debug_info:
                    self._say(backward_lines(self, i))
        if self.debug_info:
            self._say([total_line(self)])
        if end is not None:
            return {blob.name: blob.diff for blob in self.bottoms[last]}
        return {name: self.blobs[name].diff for name in self.inputs}

    def _say(self, lines: list[str]) -> None:
        for line in lines:
            self.log(line)

    def forward_backward(self, **inputs: Any) -> float:
        """Run the layers and run them backwards; give the loss."""
        self.forward(**inputs)
        loss = float(self.loss)
        self.backward()
        return loss

    @property
    def loss(self) -> Any:
        """The sum of the tops that count in the loss, with their weights, as the last forward left them."""
        total: Any = 0.0
        for layer, top in zip(self.layers, self.tops):
            for weight, blob in zip(layer.loss_weight, top):
                if weight:
                    total = total + weight * layer.space(blob.data).sum(blob.data)
        return total

    def reshape(self) -> None:
        """Give all blobs the shapes that follow from those of the inputs."""
        for layer, bottom, top in zip(self.layers, self.bottoms, self.tops):
            with noted(layer):
                layer.reshape(bottom, top)

    def clear_param_diffs(self) -> None:
        """Make the gradients of all parameters zero."""
        for blob in self.learnable_params:
            blob.diff = 0.0

    # --- weights ----------------------------------------------------------------------------------------------------
    def share_trained_layers(self, other: Net) -> None:
        """Hold the same parameters as another net's layers of the same names: what trains them there changes them here."""
        for name, blobs in other.params.items():
            for mine, theirs in self._pairs(name, blobs):
                mine.share_data(theirs)

    def copy_from(self, source: Any) -> None:
        """Copy parameters to the layers of the same names; other layers keep theirs.

        Parameters
        ----------
        source : path, Net, Message or dict
            A ``.caffemodel`` or ``.h5`` file, another net, a NetParameter, or lists of arrays by the layers' names.

        Raises
        ------
        DefinitionError
            Where a layer of the same name has other shapes, or another number of parameters.
        """
        for name, arrays in files.weights(source).items():
            for blob, array in self._pairs(name, arrays):
                blob.data = array if tuple(array.shape) == blob.shape else backend_of(array).xp.reshape(array, blob.shape)

    def _pairs(self, name: str, arrays: list[Any]) -> Iterator[tuple[Blob, Any]]:
        """Give the parameters of a layer with those of another; nothing where there is no such layer, and refuse what does not fit."""
        layer = self.layer_dict.get(name)
        if layer is None:
            return
        given = [*arrays, *[None] * (len(layer.blobs) - len(arrays))]  # of shared ones a file has the first alone, perhaps
        if len(given) != len(layer.blobs) or any(
            array is None and blob in self.learnable_params for blob, array in zip(layer.blobs, given)
        ):
            raise layer.fail(f"it has {len(layer.blobs)} parameters, and {sum(a is not None for a in arrays)} are given")
        for i, (blob, array) in enumerate(zip(layer.blobs, given)):
            if array is None:
                continue
            shape = tuple(array.shape)
            if shape != blob.shape and not files.same_up_to_ones(shape, blob.shape):
                raise layer.fail(
                    f"parameter {i} has shape {blob.shape}, and one of shape {shape} is given; a layer of another name keeps its own"
                )
            yield blob, array

    def save(self, path: Any, diffs: bool = False) -> None:
        """Write the definition and the parameters, in the binary form of ``.caffemodel``; parameters alone, in HDF5, to a path that ends in ``.h5``.

        Parameters
        ----------
        path : path
            The file.
        diffs : bool
            Whether to write the gradients of parameters as well.
        """
        files.save_net(self, path, diffs)

    def __repr__(self) -> str:
        return f"Net({self.name!r}, {self.phase}, {len(self.layers)} layers, {len(self.learnable_params)} parameters)"
