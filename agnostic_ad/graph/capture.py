"""Capture: one more namespace, whose arrays know their shape and dtype, but no data. The table's abstract rules do the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad import trees
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.levels import Array, Level, device_of
from agnostic_ad.namespaces import ShapeDtype, backend_of_namespace, lookup
from agnostic_ad.op import Op

__all__ = ["Graph", "GraphNode", "TraceLevel", "Traced", "capture"]


class GraphNode:
    """One operation of a graph.

    Attributes
    ----------
    op : Op or None
        The operation; None for an input.
    inputs : tuple
        `Output` places of other nodes, and constants: arrays, numbers, None.
    params : dict
        The static parameters.
    outputs : tuple of ShapeDtype
        What is known of the results.
    """

    __slots__ = ("inputs", "name", "op", "outputs", "params")

    def __init__(self, op: Op | None, inputs: tuple[Any, ...], params: dict[str, Any], outputs: tuple[ShapeDtype, ...], name: str) -> None:
        self.op, self.inputs, self.params, self.outputs, self.name = op, inputs, params, outputs, name

    def __repr__(self) -> str:
        operands = ", ".join(repr(i) if isinstance(i, Output) else _brief(i) for i in self.inputs)
        results = ", ".join(f"{o.dtype}{list(o.shape)}" for o in self.outputs)
        return f"{self.name}: {results} = {'input' if self.op is None else self.op.name}({operands})"


class Output:
    """A place in a graph: one result of one node."""

    __slots__ = ("index", "node")

    def __init__(self, node: GraphNode, index: int) -> None:
        self.node, self.index = node, index

    def __repr__(self) -> str:
        return self.node.name + (f"[{self.index}]" if len(self.node.outputs) > 1 else "")


def _brief(x: Any) -> str:
    shape = getattr(x, "shape", None)
    return f"const{list(shape)}" if shape else repr(x)


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

    @property  # type: ignore[misc]
    def data(self) -> Any:
        """Refuse: there is none."""
        return self._escape("data")

    def _escape(self, how: str) -> Any:
        raise UnsupportedError(
            f"{how} needs a value, but {self.level.label} is being captured: {self!r} has none yet. Return it from the function and "
            "look at what the graph gives; for a choice by value use xp.where."
        )

    def __bool__(self) -> bool:
        raise UnsupportedError(
            f"`if`, `while`, `and` and `or` need a value, but {self.level.label} is being captured: {self!r} has none yet. "
            "Use xp.where(condition, a, b) (graph.cond, once there is one) in place of `if`."
        )

    def __repr__(self) -> str:
        return f"Traced({self.place!r}: {self.dtype}{list(self.shape)})"


class TraceLevel(Level):
    """A capture while it runs."""

    __slots__ = ("backend", "nodes")
    fixed_shapes = True

    def __init__(self, label: str, backend: Any) -> None:
        super().__init__(label)
        self.backend = backend
        self.nodes: list[GraphNode] = []

    def lift(self, x: Any) -> Traced:
        """Make a constant of the graph."""
        spec = ShapeDtype(tuple(x.shape), x.dtype)
        return self._traced(GraphNode(None, (x,), {}, (spec,), f"c{len(self.nodes)}"), 0, device_of(x))

    def input(self, spec: ShapeDtype, device: Any, position: int) -> Traced:
        """Make an input of the graph."""
        return self._traced(GraphNode(None, (), {}, (spec,), f"in{position}"), 0, device)

    def _traced(self, node: GraphNode, index: int, device: Any) -> Traced:
        x: Traced = object.__new__(Traced)
        x.level, x.payload, x.place, x.spec, x._device = self, None, Output(node, index), node.outputs[index], device
        return x

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Find shape and dtype of the result, and note the operation."""
        if op.abstract is None:
            raise UnsupportedError(f"{op.name} has no rule for shapes; it cannot run inside {self.label}")
        specs = tuple(ShapeDtype(tuple(a.shape), a.dtype) if isinstance(a, Array) or lookup(a) is not None else a for a in args)
        found = op.abstract(self.backend, specs, params)
        outputs = found if isinstance(found, tuple) else (found,)
        inputs = tuple(_place(self, a) for a in args)
        node = GraphNode(op, inputs, params, outputs, f"v{len(self.nodes)}")
        self.nodes.append(node)
        device = next((a.device for a in args if isinstance(a, Traced) and a.level is self), None)
        results = tuple(self._traced(node, i, device) for i in range(len(outputs)))
        return results if isinstance(found, tuple) else results[0]


def _place(level: TraceLevel, x: Any) -> Any:
    if not (isinstance(x, Traced) and x.level is level):
        return x
    node = x.place.node
    return node.inputs[0] if node.op is None and node.inputs else x.place  # a constant is its own place


class Graph:
    """A function as a list of operations.

    Calling it with arrays runs the operations, on whatever the arrays are: raw arrays of the library, or those of a transformation, so a
    graph can be differentiated, batched and captured again.

    Attributes
    ----------
    nodes : list of GraphNode
        The operations, in the order of their calls.
    inputs : list of GraphNode
        One a leaf of the arguments.
    outputs : list
        Places of the results' leaves, or constants.
    """

    def __init__(self, label: str, nodes: list[GraphNode], inputs: list[GraphNode], outputs: list[Any], specs: tuple[Any, Any]) -> None:
        self.label, self.nodes, self.inputs, self.outputs = label, nodes, inputs, outputs
        self._in_spec, self._out_spec = specs

    def __call__(self, *args: Any) -> Any:
        flat, spec = trees.flatten(args)
        if spec != self._in_spec:
            raise TypeError(f"{self.label}: called with structure {spec}, captured with {self._in_spec}")
        values: dict[int, Any] = {}
        for node, x in zip(self.inputs, flat, strict=True):
            want = node.outputs[0]
            if not hasattr(x, "shape"):
                x = np.asarray(x)
            if tuple(x.shape) != want.shape or x.dtype != want.dtype:
                raise TypeError(
                    f"{self.label}: input {node.name} has shape {tuple(x.shape)} and dtype {x.dtype}; captured with {want.shape}, {want.dtype}"
                )
            values[id(node)] = (x,)
        for node in self.nodes:
            assert node.op is not None
            operands = tuple(values[id(i.node)][i.index] if isinstance(i, Output) else i for i in node.inputs)
            y = node.op.run(operands, node.params)
            values[id(node)] = y if isinstance(y, tuple) else (y,)
        return trees.unflatten(self._out_spec, [values[id(o.node)][o.index] if isinstance(o, Output) else o for o in self.outputs])

    def __repr__(self) -> str:
        lines = [f"Graph of {self.label}:", *(f"  {n!r}" for n in (*self.inputs, *self.nodes))]
        return "\n".join([*lines, f"  return {', '.join(repr(o) if isinstance(o, Output) else _brief(o) for o in self.outputs)}"])


def capture(f: Callable[..., Any], *specs: Any) -> Graph:
    """Run a function once without data, and give the operations that it called.

    Parameters
    ----------
    f : callable
        Takes trees of arrays; returns a tree of arrays. It may hold any transformation.
    *specs : tree of ShapeDtype or array
        What the arguments will be like. Arrays give their library, device, shape and dtype; a ``ShapeDtype`` with a dtype's name means NumPy,
        where no array among the specs says otherwise.

    Returns
    -------
    Graph

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
    backend = backend_of_namespace(np) if not arrays else arrays[0].backend if isinstance(arrays[0], Array) else lookup(arrays[0])
    assert backend is not None
    label = f"capture({getattr(f, '__name__', type(f).__name__)})"
    level = TraceLevel(label, backend)
    with level:
        inputs = []
        for position, x in enumerate(flat):
            if any(not isinstance(n, int) for n in x.shape):
                raise UnsupportedError(
                    f"{label}: the shape {tuple(x.shape)} has a size that is no integer; sizes of any value are not supported yet"
                )
            device = None if isinstance(x, ShapeDtype) else device_of(x)
            inputs.append(level.input(ShapeDtype(tuple(x.shape), backend.dtype(x.dtype)), device, position))
        nodes = [x.place.node for x in inputs]  # now: f may change its arguments in place
        y = f(*trees.unflatten(in_spec, inputs))
        results, out_spec = trees.flatten(y)
    return Graph(label, level.nodes, nodes, [_place(level, r) for r in results], (in_spec, out_spec))
