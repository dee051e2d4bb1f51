"""The capture of functions that a node is to hold: branches, and the bodies of loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Token
from typing import Any, NamedTuple

from agnostic_ad import trees
from agnostic_ad.graph.capture import Traced, TraceLevel, place_of
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.levels import ABOVE_ALL, DEAD, FAST, TAKES, Array
from agnostic_ad.namespaces import ShapeDtype, lookup

__all__ = ["Branch", "Staged", "as_array", "flat_graph", "is_array", "spec_from", "spec_of", "stage"]


class Branch(TraceLevel):
    """The capture of a function that is to be run inside a node: arrays from around it become further inputs.

    Attributes
    ----------
    outer : list of Array
        Those arrays, in the order of their first use.
    """

    __slots__ = ("_around", "_known", "_tokens", "outer")

    def __init__(self, label: str, backend: Any) -> None:
        super().__init__(label, backend)
        self.outer: list[tuple[Any, Traced]] = []
        self._known: dict[int, Traced] = {}
        self._tokens: list[tuple[Token[Any], Token[Any]]] = []

    def __enter__(self) -> Branch:
        super().__enter__()
        self._around = TAKES.get()
        self._tokens.append((TAKES.set(self.take), FAST.set(ABOVE_ALL)))
        return self

    def __exit__(self, *exc: object) -> None:
        takes, fast = self._tokens.pop()
        TAKES.reset(takes)
        FAST.reset(fast)
        super().__exit__(*exc)

    def take(self, x: Any) -> Any:
        """Give an array from around as an input; anything else as it is."""
        if self._around is not None:
            x = self._around(x)  # by way of the function around this one
        return self.lift(x) if isinstance(x, Array) and DEAD != x.level.depth < self.depth else x

    def lift(self, x: Any) -> Traced:
        """Make an input of what belongs to a transformation around, and a constant of a raw array."""
        if isinstance(x, Traced) and x.place.node.op is None and x.place.node.inputs:
            x = x.place.node.inputs[0]  # a constant there is one here
        if not isinstance(x, Array):
            return super().lift(x)
        found = self._known.get(id(x))
        if found is None:
            found = self.input(spec_from(x), x.device, len(self.outer), f"outer{len(self.outer)}")
            self._known[id(x)] = found
            self.outer.append((x, found))
        return found


class Staged(NamedTuple):
    """A captured function.

    Attributes
    ----------
    graph : Graph
        Takes the operands, then what it uses from around; gives the leaves of the result.
    outer : list of Array
        What it uses from around.
    spec : TreeSpec
        The structure of the result.
    numbers : list of bool
        Which leaves of the result are Python numbers.
    """

    graph: Graph
    outer: list[Any]
    spec: Any
    numbers: list[bool]


def stage(f: Callable[..., Any], label: str, backend: Any, specs: Sequence[tuple[ShapeDtype, Any]]) -> Staged:
    """Run a function of flat arrays without data; ``specs`` are what is known of them, each with its device."""
    level = Branch(label, backend)
    with level:
        inputs = [level.input(spec, device, i) for i, (spec, device) in enumerate(specs)]
        nodes = [x.place.node for x in inputs]  # now: f may change its arguments in place
        flat, out_spec = trees.flatten(f(*inputs))
        numbers = [not isinstance(r, Array) and lookup(r) is None for r in flat]
        results = [level.take(as_array(r, label, backend) if n else r) for r, n in zip(flat, numbers, strict=True)]
        nodes += [x.place.node for _, x in level.outer]
        places = [place_of(level, r) for r in results]
    graph = flat_graph(label, level.nodes, nodes, places, backend, tuple(level.guards.values()))
    outer = [x for x, _ in level.outer]
    level.outer, level._known = [], {}  # these refer to the level, and views of parameters would live on with it
    return Staged(graph, outer, out_spec, numbers)


def flat_graph(label: str, nodes: list[GraphNode], inputs: list[GraphNode], outputs: list[Any], backend: Any, guards: Any = ()) -> Graph:
    """Give a graph that takes arrays and gives a tuple of arrays."""
    specs = trees.flatten(tuple(range(len(inputs))))[1], trees.flatten(tuple(range(len(outputs))))[1]
    return Graph(label, nodes, inputs, outputs, specs, backend, guards)


def spec_of(place: Any) -> ShapeDtype:
    """Give what is known of a place, or of a constant."""
    return place.spec if isinstance(place, Output) else spec_from(place)


def spec_from(x: Any) -> ShapeDtype:
    """Give shape and dtype of an array."""
    return ShapeDtype(tuple(x.shape), x.dtype)


def as_array(x: Any, label: str, backend: Any, dtype: Any = None) -> Any:
    """Give a Python number as an array: of a dtype, if that is of its kind."""
    kind = _KINDS.get(type(x))
    if kind is None:
        raise TypeError(f"{label} gives arrays and numbers, not {type(x).__name__}: {x!r:.60}")
    fits = dtype is not None and "bifc".index(kind) <= "bifc".index(backend.kind(dtype))
    return backend.xp.asarray(x, dtype=dtype if fits else None)


_KINDS = {bool: "b", int: "i", float: "f", complex: "c"}


def is_array(x: Any) -> bool:
    """Tell whether this is an array, wrapped or raw."""
    return isinstance(x, Array) or lookup(x) is not None
