"""Between layers and the tape: a layer as an operation of one's program, and a module as a layer of a net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import agnostic_ad as ad
from agnostic_ad.batching import BatchLevel
from agnostic_ad.forward import ForwardLevel
from agnostic_ad.levels import DEAD, Array, deepest
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer
from agnostic_ad.nn.caffe.layers.base import detached, pull_to, wants
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import assign
from agnostic_ad.nn.stateless import functional_call

__all__ = ["ModuleLayer", "as_function", "prepared"]


def _tops(layer: Layer, tops: int | None) -> list[Blob]:
    """Give blobs for tops: as few as there may be, if nothing is said."""
    count = tops if tops is not None else layer.exact_tops if layer.exact_tops is not None else max(1, layer.min_tops)
    return [layer.blob(name=f"top {i}") for i in range(count)]


def set_up(layer: Layer, arrays: Sequence[Any], tops: int | None = None) -> None:
    """Set a layer up for arrays, if nobody has. Its parameters are made outside of any transformation."""
    if layer.blobs or getattr(layer, "is_set_up", False):
        return
    top = _tops(layer, tops)
    layer.check_counts(len(arrays), len(top))
    bottom = [layer.blob(*x.shape, name=f"bottom {i}") for i, x in enumerate(arrays)]
    for blob, x in zip(bottom, arrays, strict=True):
        raw = detached(x)
        if tuple(raw.shape) == blob.shape:  # it has one axis more under vmap
            blob.data = raw
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    layer.is_set_up = True  # type: ignore[attr-defined]


def prepared(layer: Layer, arrays: Sequence[Any], tops: int | None = None) -> tuple[list[Blob], list[Blob]]:
    """Give blobs that hold arrays, and blobs for the tops, in which a layer may run; set it up if nobody has."""
    set_up(layer, arrays, tops)
    bottom = [layer.blob(*x.shape, name=f"bottom {i}") for i, x in enumerate(arrays)]
    for blob, x in zip(bottom, arrays, strict=True):
        blob.data = x
    top = _tops(layer, tops)
    layer.reshape(bottom, top)
    return bottom, top


def _wrappers(x: Any) -> Iterator[Array]:
    """Yield an array of a transformation, and those inside it, down to the raw one."""
    while isinstance(x, Array):
        yield x
        x = x.payload


def _carries(x: Any) -> bool:
    """Tell whether any transformation differentiates with respect to an array."""
    return any(getattr(w, "node", None) is not None for w in _wrappers(x))


def _goes_forward(arrays: Sequence[Any]) -> bool:
    """Tell whether what differentiates first works in forward mode."""
    levels = {w.level for x in arrays for w in _wrappers(x) if not isinstance(w.level, BatchLevel)}
    return bool(levels) and isinstance(max(levels, key=lambda level: level.depth), ForwardLevel)


class _Run:
    """One call of a layer: what it was before, and what is to be done."""

    def __init__(self, layer: Layer, wanted: list[bool], tops: int | None, params: list[bool] | None) -> None:
        self.layer, self.wanted, self.tops, self.params = layer, wanted, tops, params
        self.before: tuple[dict[str, Any], Any] | None = None

    @contextmanager
    def holding(self, params: Sequence[Any]) -> Iterator[None]:
        """Let the layer hold other parameters for a while."""
        layer, own, marks = self.layer, self.layer.blobs, self.layer.param_propagate_down
        if self.params is not None:
            given, wanted = [tuple(p.shape) for p in params], [blob.shape for blob in own]
            if given != wanted:
                raise layer.fail(f"its parameters have shapes {wanted}; params of shapes {given} are given")
            layer.blobs, layer.param_propagate_down = [layer.blob(*p.shape) for p in params], self.params
            for blob, p in zip(layer.blobs, params, strict=True):
                blob.data = p
        try:
            yield
        finally:
            layer.blobs, layer.param_propagate_down = own, marks

    def forward(self, arrays: Sequence[Any], params: Sequence[Any]) -> tuple[list[Blob], list[Blob], list[Blob], dict[str, Any]]:
        """Run forward; give bottoms and tops, the parameters that the layer had, and the state that it is left in."""
        bottom, top = prepared(self.layer, arrays, self.tops)
        with self.holding(params):
            self.layer.forward(bottom, top)
            return bottom, top, self.layer.blobs, dict(self.layer.__dict__)


class _Step(ad.Function):
    """A layer's forward and backward."""

    @staticmethod
    def forward(ctx: Any, run: _Run, arrays: Sequence[Any], params: Sequence[Any]) -> Any:
        """Run forward; the outputs are saved so that what is differentiated again runs again, on Variables."""
        layer, now = run.layer, None
        if run.before is None:
            run.before = dict(layer.__dict__), layer.generator.get_state()
        else:  # the same again: with the same random numbers, and leaving no trace
            now = dict(layer.__dict__), layer.generator.get_state()
            layer.__dict__.update(run.before[0])
            layer.generator.set_state(run.before[1])
        try:
            ctx.bottom, ctx.top, ctx.blobs, ctx.state = run.forward(arrays, params)
        finally:
            if now is not None:
                layer.__dict__.update(now[0])
                layer.generator.set_state(now[1])
        ctx.run = run
        found = tuple(blob.xp.own(blob.data) if blob.xp.mutable and not isinstance(blob.data, Array) else blob.data for blob in ctx.top)
        ctx.save_for_backward(*arrays, *params, *found)
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """Run backward, as the layer was after forward: which runs again where it ran inside a ``vmap`` that is over."""
        run, layer, count = ctx.run, ctx.run.layer, len(ctx.bottom)
        if any(isinstance(blob.data, Array) and blob.data.level.depth == DEAD for blob in (*ctx.bottom, *ctx.top)):
            given, ctx = ctx.saved_tensors[: -len(ctx.top)], type(ctx)(ctx.needs_input_grad)
            _Step.forward(ctx, run, given[:count], given[count:])
        for blob, ct in zip(ctx.top, cotangents, strict=True):
            blob.diff = ct
        now, level = dict(layer.__dict__), deepest(cotangents)
        layer.__dict__.update(ctx.state)
        try:
            for blob in ctx.blobs:
                if run.params is not None:
                    blob.diff = 0.0
                if level is not None:  # what a layer adds cannot go into a raw array
                    blob.diff = level.lift(blob.xp.own(detached(blob.diff)))
            layer.backward(ctx.top, run.wanted, ctx.bottom)
            if run.params is None:
                for blob in ctx.blobs:  # a sum of numbers, which nothing is differentiated with respect to again
                    blob.diff = detached(blob.diff)
        finally:
            layer.__dict__.update(now)
        below = [blob.diff if wanted else None for blob, wanted in zip(ctx.bottom, run.wanted, strict=True)]
        return None, below, [blob.diff for blob in ctx.blobs] if run.params is not None else None


def as_function(layer: Layer, tops: int | None = None) -> Callable[..., Any]:
    """Give a layer as a differentiable function of arrays: its own ``backward`` is the derivative.

    Parameters
    ----------
    layer : Layer
        A layer of a net, or one made alone, which the first call sets up.
    tops : int, optional
        How many results there are, where the layer leaves it open; by default as few as it may have.

    Returns
    -------
    callable
        ``f(*bottoms, params=None)`` gives the top's array, or a tuple of them. With ``params``, arrays for the layer's parameters, their
        gradients come through the tape as those of the bottoms do; without, backward adds to ``diff`` of the layer's own ``blobs``, as in a net.
        Bottoms and parameters are raw arrays, Variables or arrays of transformations. In forward mode (jvp, jacfwd), where a ``backward`` says
        nothing, the derivative is that of the operations in the layer's ``forward``.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad.nn import caffe
    >>> pool = caffe.as_function(caffe.LAYERS["Pooling"](pooling_param={"pool": "AVE", "kernel_size": 2}))
    >>> x = ad.Variable(np.ones((1, 1, 2, 2), dtype="float32"))
    >>> (3 * pool(x)).sum().backward()
    >>> x.grad
    array([[[[0.75, 0.75],
             [0.75, 0.75]]]], dtype=float32)
    """
    step: Any = type(layer.name or type(layer).__name__, (_Step,), {})  # errors call it by the layer's name

    def f(*bottoms: Any, params: Sequence[Any] | None = None) -> Any:
        set_up(layer, bottoms, tops)
        moving = [_carries(x) for x in bottoms]
        if params is None and any(moving) and layer.blobs and any(isinstance(w.level, BatchLevel) for x in bottoms for w in _wrappers(x)):
            raise layer.fail(
                "vmap of a gradient has no diff to add that of the parameters to: give them, params=[blob.data for blob in layer.blobs]"
            )
        marks = None if params is None else [_carries(p) for p in params]
        run, given = _Run(layer, moving, tops, marks), list(params or ())
        if _goes_forward([*bottoms, *given]):
            found = tuple(blob.data for blob in run.forward(bottoms, given)[1])
        else:
            found = step.apply(run, list(bottoms), given)
        return found[0] if len(found) == 1 else found

    return f


class ModuleLayer(Layer):
    """A module of `agnostic_ad.nn` as a layer: its backward is the tape's.

    The layer's blobs are the module's parameters; each forward gives them to the module.

    Parameters
    ----------
    module : Module
        Takes as many arrays as there are bottoms, and gives an array, or a tuple of as many as there are tops. In phase "TRAIN" it trains.
    **options
        As for `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> from agnostic_ad.nn import caffe
    >>> layer = caffe.ModuleLayer(nn.Linear(3, 2))
    >>> caffe.check_layer(layer, [np.ones((4, 3), dtype="float32")])
    """

    type = "Module"
    min_bottoms = min_tops = 1

    def __init__(self, module: Module, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(module, Module):
            raise self.fail(f"it takes a Module, not {type(module).__name__}")
        self.module = module
        self.names: tuple[str, ...] = ()
        self.parameters: tuple[Any, ...] = ()

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Take the module's parameters over."""
        found = dict(self.module.named_parameters())
        self.names, self.parameters = tuple(found), tuple(found.values())
        if not self.blobs:
            for p in self.parameters:
                self.blobs.append(self.blob(*p.shape))
                self.blobs[-1].data = p.payload
        self.seen: tuple[Any, list[Any]] = None, []

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Run the module once for new shapes, as in evaluation, to see those of its results."""
        shapes = [blob.shape for blob in bottom]
        if shapes != self.seen[0]:
            training = self.module.training
            self.module.eval()
            try:
                with ad.no_grad():
                    found = self._results([detached(blob.data) for blob in bottom], [detached(blob.data) for blob in self.blobs], top)
            finally:
                self.module.train(training)
            self.seen = shapes, [tuple(int(n) for n in y.shape) for y in found]
        for blob, shape in zip(top, self.seen[1], strict=True):
            blob.reshape(*shape)

    def _results(self, inputs: list[Any], params: list[Any], top: list[Blob]) -> tuple[Any, ...]:
        """Run the module, with these parameters: raw arrays become its own."""
        if any(isinstance(p, Array) for p in params):
            y = functional_call(self.module, dict(zip(self.names, params, strict=True)), tuple(inputs))
        else:
            for p, raw in zip(self.parameters, params, strict=True):
                if p.payload is not raw:
                    assign(p, raw)
            y = self.module(*inputs)
        found = tuple(y) if isinstance(y, tuple | list) else (y,)
        if len(found) != len(top):
            raise self.fail(f"the module gives {len(found)} arrays for {len(top)} tops")
        return found

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Run the module."""
        self.module.train(self.phase == "TRAIN")
        inputs, params = [blob.data for blob in bottom], [blob.data for blob in self.blobs]
        taped = any(isinstance(x, Array) for x in (*inputs, *params))
        with ad.enable_grad():
            self.inputs = inputs if taped else [ad.Variable(self.xp.own(x)) for x in inputs]
            self.results = self._results(self.inputs, params, top)
        for blob, y in zip(top, self.results, strict=True):
            blob.data = y if taped else y.payload

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        """Ask the tape."""
        below = [i for i, wanted in enumerate(propagate_down) if wanted]
        learned = [i for i in range(len(self.blobs)) if wants(self, i)]
        leaves = [self.inputs[i] for i in below] + [self.parameters[i] for i in learned]
        if not leaves:
            return
        pairs = [(y, blob.diff) for y, blob in zip(self.results, top, strict=True) if y.requires_grad]
        found = ad.gradients([y for y, _ in pairs], leaves, [ct for _, ct in pairs], retain_graph=True, allow_unused=True)
        for i, g in zip(below, found, strict=False):
            bottom[i].diff = 0.0 if g is None else g
        for i, g in zip(learned, found[len(below) :], strict=True):
            if g is not None:
                pull_to(self.blobs[i], g)
