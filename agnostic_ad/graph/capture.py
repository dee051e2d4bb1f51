"""Capture: one more namespace, whose arrays know their shape and dtype, but no data. The table's abstract rules do the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import numpy as np

from agnostic_ad import trees
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.ir import Graph, GraphNode, Output, shape_text
from agnostic_ad.graph.lines import is_ours, line_of, user_line
from agnostic_ad.levels import OPEN, Array, Level, check_alive, device_of
from agnostic_ad.namespaces import ShapeDtype, backend_of_namespace, lookup
from agnostic_ad.op import Op
from agnostic_ad.ops import TABLE
from agnostic_ad.random import default_generator

__all__ = ["Graph", "GraphNode", "Output", "TraceLevel", "Traced", "capture", "here", "place_of"]


WHOLE = frozenset({"sort", "nn.softmax_cross_entropy_grad", "nn.attention_pull", "nn.standardize_pull"})
WHOLE |= {"nn.rnn_pull", "nn.gru_pull", "nn.lstm_pull", "nn.ctc_posterior"}
"""Composites that stay one node of a graph: libraries, or this package's own code for them, are much quicker than their parts."""


class Traced(Array):
    """An array without data, while its graph is being captured."""

    __slots__ = ("_device", "place", "spec")
    _state = ("payload", "place", "spec", "_device")
    place: Output
    spec: ShapeDtype
    _device: Any

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes of the axes."""
        return self.spec.shape

    @property
    def dtype(self) -> Any:
        """The library's dtype."""
        return self.spec.dtype

    @property
    def device(self) -> Any:
        """The library's device."""
        return self._device

    @property
    def backend(self) -> Any:
        """The library's backend."""
        return self.level.backend

    @property
    def name(self) -> str:
        """What texts call it."""
        return self.place.node.name

    @property  # type: ignore[misc]
    def data(self) -> Any:
        """Refuse: there is none."""
        return self._escape("data")

    def _escape(self, how: str) -> Any:
        self._check()
        raise UnsupportedError(
            f"{how} needs a value, but {self.level.label} is being captured: {self!r} has none yet{here()}. Return it from the function and "
            "look at what the graph gives; for a choice by value use graph.cond, or xp.where."
        )

    def __bool__(self) -> bool:
        self._check()
        raise UnsupportedError(
            f"`if`, `while`, `and` and `or` need a value, but {self.level.label} is being captured: {self!r} has none yet{here()}. "
            "Use graph.cond(condition, true_fn, false_fn, *operands) in place of `if`, graph.while_loop in place of `while`, or xp.where."
        )

    def _check(self) -> None:
        check_alive(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Refuse: there are no values."""
        return self._escape("np.asarray()")

    def __dlpack__(self, **options: Any) -> Any:
        """Refuse: there are no values."""
        return self._escape("__dlpack__")

    def numpy(self) -> Any:
        """Refuse: there are no values."""
        return self._escape("numpy()")

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Refuse: what it adds into lies outside of the graph."""
        raise UnsupportedError(
            f"backward() adds into .grad of arrays outside of {self.level.label}, which a graph cannot keep{here()}. Take derivatives by ad.grad "
            "or ad.value_and_grad, with the parameters as arguments (nn.functional_call), and return them; or use ad.compile."
        )

    def __len__(self) -> int:
        if self.shape and isinstance(self.shape[0], sizes.Dim):
            raise UnsupportedError(
                f"len() and iteration need a size, but axis 0 of {self!r} has any size{here()}. Use x.shape[0] for computing, and graph.scan "
                "or ad.vmap for what is done to each element; or capture with a fixed size."
            )
        return super().__len__()

    def __iter__(self) -> Any:
        len(self)
        return super().__iter__()

    def __repr__(self) -> str:
        node = self.place.node
        where = f", {node.where}" if node.where else ""
        return f"Traced({self.place!r}: {self.dtype}{shape_text(self.shape)}{where})"


def here() -> str:
    """Give the user's line in brackets, behind a space, for errors."""
    line = user_line(2)
    return f" ({line})" if line else ""


class TraceLevel(Level):
    """A capture while it runs.

    Parameters
    ----------
    label : str
        What texts call it.
    backend : Backend
        The library that is captured for.

    Attributes
    ----------
    nodes : list of GraphNode
        The operations so far.
    guards : dict
        What comparisons of sizes the graph takes for granted.
    """

    __slots__ = ("_scopes", "backend", "guards", "nodes")
    fixed_shapes = True
    captures = True
    once = False  # whether nothing can be found by a second capture
    whole = WHOLE

    def __init__(self, label: str, backend: Any) -> None:
        super().__init__(label)
        self.backend = backend
        self.nodes: list[GraphNode] = []
        self.guards: dict[Any, sizes.Guard] = {}
        self._scopes: dict[tuple[int, int], str] = {}

    def lift(self, x: Any) -> Traced:
        """Make a constant of the graph."""
        spec = ShapeDtype(tuple(x.shape), x.dtype)
        where, scope = self._from()
        return self._traced(GraphNode(None, (x,), {}, (spec,), f"c{len(self.nodes)}", where, scope), 0, device_of(x))

    def input(self, spec: ShapeDtype, device: Any, position: int, name: str = "") -> Traced:
        """Make an input of the graph."""
        where, _ = self._from()
        return self._traced(GraphNode(None, (), {}, (spec,), name or f"in{position}", where), 0, device)

    def number(self, value: Any, zero: Any) -> Traced:
        """Make a size an array of the graph, of the dtype and on the device of a raw array."""
        found: Traced = self.apply(TABLE["number_like"], (self.lift(zero),), {"value": value})
        return found

    def _traced(self, node: GraphNode, index: int, device: Any) -> Traced:
        x: Traced = object.__new__(Traced)
        x.level, x.payload, x.place, x.spec, x._device = self, None, Output(node, index), node.outputs[index], device
        return x

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Find shape and dtype of the result, and note the operation."""
        specs = tuple(ShapeDtype(tuple(a.shape), a.dtype) if isinstance(a, Array) or lookup(a) is not None else a for a in args)
        if op.abstract is None:
            raise UnsupportedError(f"{op.name} has no rule for shapes; it cannot run inside {self.label}{here()}")
        found = op.abstract(self.backend, specs, params)
        outputs = found if isinstance(found, tuple) else (found,)
        inputs = tuple(place_of(self, a) for a in args)
        node = GraphNode(op, inputs, params, outputs, f"v{len(self.nodes)}", *self._from())
        self.nodes.append(node)
        device = params.get("device")  # where to_device and astype move it
        if device is not None:
            device = self.backend.parse_device(device)
        else:
            device = next((a.device for a in args if isinstance(a, Traced) and a.level is self), None)
        results = tuple(self._traced(node, i, device) for i in range(len(outputs)))
        return results if isinstance(found, tuple) else results[0]

    def _from(self) -> tuple[str | None, str]:
        """Give the user's line that is running, and the path of the module."""
        frame: FrameType | None = sys._getframe(2)
        where, modules = None, []
        while frame is not None:
            code = frame.f_code
            if where is None and not is_ours(frame):
                where = line_of(frame)
            if code.co_name == "forward" and code.co_varnames:
                own = frame.f_locals.get(code.co_varnames[0])
                if hasattr(own, "named_modules"):
                    modules.append(own)
            frame = frame.f_back
        return where, self._scope(modules[::-1])

    def _scope(self, modules: list[Any]) -> str:
        if not modules:
            return ""
        path, parent = type(modules[0]).__name__, modules[0]
        for module in modules[1:]:
            if module is parent:  # forward of a base class
                continue
            key = id(parent), id(module)
            if key not in self._scopes:
                self._scopes[key] = next((name for name, m in parent.named_modules() if m is module), type(module).__name__)
            path, parent = f"{path}.{self._scopes[key]}", module
        return path


def _of_parts(op: Op) -> Callable[..., Any]:
    """Give the rule for shapes of a composite: that of its parts."""

    def abstract(backend: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        assert op.composite is not None
        scratch = TraceLevel(op.name, backend)
        with scratch:
            # what its loops compare is nobody's guard
            inputs = [scratch.input(sizes.of_level(a, None), None, 0) if isinstance(a, ShapeDtype) else a for a in args]
            y = op.invoke(op.composite, (scratch.rules(backend),), inputs, params)
        outer = next((n.level for a in args if isinstance(a, ShapeDtype) for n in a.shape if isinstance(n, sizes.Dim)), None)
        found = tuple(sizes.of_level(x.spec, outer) for x in (y if isinstance(y, tuple) else (y,)))
        return found if isinstance(y, tuple) else found[0]

    return abstract


for _name in WHOLE:
    TABLE[_name].abstract = _of_parts(TABLE[_name])


def place_of(level: TraceLevel, x: Any) -> Any:
    """Give the place of a traced array of a capture; anything else, and constants, as they are."""
    if not (isinstance(x, Traced) and x.level is level):
        return x
    node = x.place.node
    return node.inputs[0] if node.op is None and node.inputs else x.place  # a constant is its own place


def capture(f: Callable[..., Any], *specs: Any, xp: Any = None, device: Any = None, donate_argnums: int | Sequence[int] = ()) -> Graph:
    """Run a function once without data, and give the operations that it called.

    Parameters
    ----------
    f : callable
        Takes trees of arrays; returns a tree of arrays. It may hold any transformation.
    *specs : tree of ShapeDtype or array
        What the arguments will be like. Arrays give their library, device, shape and dtype; a ``ShapeDtype`` with a dtype's name means NumPy,
        where neither ``xp`` nor an array among the specs says otherwise. A size may be None (any size, which the graph finds anew at each call), or a name: axes
        of one name have one size. The function is then run twice, with two assumed sizes.
    xp : namespace, optional
        The library that the graph is for.
    device : device or str, optional
        Where arguments given as ``ShapeDtype`` will be.
    donate_argnums : int or sequence of int
        Arguments whose arrays the caller gives away at each call: the program may write results over them, as over parameters and moments in
        a training step. What is in them afterwards is not defined. Arrays that share memory with others are copied instead.

    Returns
    -------
    Graph

    Raises
    ------
    UnsupportedError
        Where the function needs a value that is not there yet, or loses track of a size: in ``if``, ``float()``, ``range(x.shape[0])``.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> g = graph.capture(ad.grad(lambda x: (x * x).sum()), graph.ShapeDtype((3,), "float64"))
    >>> g(np.asarray([1.0, 2.0, 3.0]))
    array([2., 4., 6.])
    """
    flat, in_spec = trees.flatten(specs, is_leaf=lambda x: isinstance(x, ShapeDtype))
    arrays = [x for x in flat if not isinstance(x, ShapeDtype)]
    bad = next((x for x in arrays if not (isinstance(x, Array) or lookup(x) is not None)), None)
    if bad is not None:
        raise TypeError(f"capture takes arrays and graph.ShapeDtype(shape, dtype) as specs, not {type(bad).__name__}")
    backend = None if not arrays else arrays[0].backend if isinstance(arrays[0], Array) else lookup(arrays[0])
    if backend is None or xp is not None:
        backend = backend_of_namespace(np if xp is None else xp)
    label = f"capture({getattr(f, '__name__', type(f).__name__)})"
    donated = _donated(label, donate_argnums, len(specs), in_spec)
    once = _Capture(f, label, backend, flat, in_spec, backend.parse_device(device))
    if not once.any_size:
        return once.run(sizes.HINTS[0]).rebuild(donated=donated)
    from agnostic_ad.graph.comparing import compare

    state = default_generator.get_state()
    first = once.run(sizes.HINTS[0])
    default_generator.set_state(state)
    second = once.run(sizes.HINTS[1])
    compare(label, first, second)
    return first.rebuild(donated=donated)


def _donated(label: str, argnums: int | Sequence[int], count: int, in_spec: Any) -> frozenset[int]:
    """Give the leaves of the arguments that are given away."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    wrong = next((n for n in numbers if not -count <= n < count), None)
    if wrong is not None:
        raise ValueError(f"{label}: donate_argnums names argument {wrong}; there are {count}")
    chosen = {n % count for n in numbers}
    return frozenset(i for i, path in enumerate(in_spec.paths()) if chosen and path[0] in chosen)


class _Capture:
    """What is to be captured; it may be run several times, with different hints for the axes of any size."""

    def __init__(self, f: Callable[..., Any], label: str, backend: Any, flat: list[Any], in_spec: Any, device: Any) -> None:
        self.device = device
        self.f, self.label, self.backend, self.flat, self.in_spec = f, label, backend, flat, in_spec
        shapes = [sizes.checked(x.shape, label) for x in flat]
        names = iter(f"n{i}" for i in range(sum(map(len, shapes))))
        self.shapes = [tuple(next(names) if n is None else n for n in shape) for shape in shapes]
        self.any_size = any(isinstance(n, str) for shape in self.shapes for n in shape)

    def run(self, hint: int) -> Graph:
        """Run the function on arrays without data."""
        level = TraceLevel(self.label, self.backend)
        with level:
            inputs = []
            for position, (x, shape) in enumerate(zip(self.flat, self.shapes, strict=True)):
                known = tuple(sizes.symbol(n, hint, level) if isinstance(n, str) else n for n in shape)
                device = self.device if isinstance(x, ShapeDtype) else device_of(x)
                inputs.append(level.input(ShapeDtype(known, self.backend.dtype(x.dtype)), device, position))
            nodes = [x.place.node for x in inputs]  # now: f may change its arguments in place
            token = OPEN.set(OPEN.get() or self.any_size)
            try:
                y = self.f(*trees.unflatten(self.in_spec, inputs))
            except (TypeError, ValueError) as error:
                if isinstance(error.__cause__, UnsupportedError):  # NumPy hides what it was told, where a value is written into its array
                    raise error.__cause__ from error
                raise
            finally:
                OPEN.reset(token)
            results, out_spec = trees.flatten(y)
        places, made, guards = [place_of(level, r) for r in results], level.nodes, tuple(level.guards.values())
        level.nodes, level.guards = [], {}  # sizes refer to the level: this breaks the cycle
        return Graph(self.label, made, nodes, places, (self.in_spec, out_spec), self.backend, guards)
