"""Graphs from graphs: what passes are written with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from agnostic_ad.graph.capture import TraceLevel
from agnostic_ad.graph.ir import Graph, GraphNode, Output, inside
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, lookup

__all__ = ["Rewriter", "rewrite"]


class Rewriter:
    """A graph that is being made from another, node by node: what most passes are written with.

    Attributes
    ----------
    graph : Graph
        The one before.
    nodes : list of GraphNode
        Those made so far.
    added : set of int
        The ids of those that were not in the graph before.
    results : set of int
        The ids of the old graph's nodes that results are taken from.
    given : set of int
        The ids of the new graph's nodes that stand for those.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[GraphNode] = []
        self._now: dict[int, tuple[Any, ...]] = {id(node): (Output(node, 0),) for node in graph.inputs}
        self._count = 0
        self._uses: Counter[Output] | None = None
        self.added: set[int] = set()
        self.given: set[int] = set()
        self.results = {id(o.node) for o in graph.outputs if isinstance(o, Output)}

    def now(self, x: Any) -> Any:
        """Give what a place of the old graph has become; constants are themselves."""
        return self._now[id(x.node)][x.index] if isinstance(x, Output) else x

    def emit(self, op: Any, inputs: tuple[Any, ...], params: dict[str, Any], origin: GraphNode) -> Any:
        """Add a node for what ``origin`` did; give its place, or its places where it has several results."""
        specs = tuple(x.spec if isinstance(x, Output) else _spec(x) for x in inputs)
        found = op.abstract(self.graph.backend, specs, params)
        outputs = found if isinstance(found, tuple) else (found,)
        node = self._add(GraphNode(op, inputs, params, outputs, "", origin.where, origin.scope), origin)
        places = tuple(Output(node, i) for i in range(len(outputs)))
        return places if isinstance(found, tuple) else places[0]

    def inline(self, f: Callable[..., Any], inputs: tuple[Any, ...], origin: GraphNode) -> Any:
        """Add what a function of ``(xp, *arrays)`` calls on places; give the place of its result, or a tuple of them."""
        level = TraceLevel(self.graph.label, self.graph.backend)
        with level:
            traced = [level.input(x.spec, None, i) if isinstance(x, Output) else x for i, x in enumerate(inputs)]
            now = {id(t.place.node): x for t, x in zip(traced, inputs, strict=True) if isinstance(x, Output)}
            y = f(level.rules(self.graph.backend), *traced)
        places: dict[int, tuple[Any, ...]] = {i: (x,) for i, x in now.items()}
        for node in level.nodes:
            operands = tuple(places[id(i.node)][i.index] if isinstance(i, Output) else i for i in node.inputs)
            made = self._add(node.replaced(inputs=operands, where=origin.where, scope=origin.scope), origin)
            places[id(node)] = tuple(Output(made, i) for i in range(len(made.outputs)))
        found = tuple(places[id(t.place.node)][t.place.index] for t in (y if isinstance(y, tuple) else (y,)))
        return found if isinstance(y, tuple) else found[0]

    def _add(self, node: GraphNode, origin: GraphNode) -> GraphNode:
        node.name = f"{origin.name}_{self._count}"
        self._count += 1
        self.nodes.append(node)
        self.added.add(id(node))
        return node

    def uses(self, place: Output) -> int:
        """Count how often a place of the old graph is taken, as an operand or as a result."""
        if self._uses is None:
            everything = [*(x for node in self.graph.nodes for x in node.inputs), *self.graph.outputs]
            self._uses = Counter(x for x in everything if isinstance(x, Output))
        return self._uses[place]

    def keep(self, node: GraphNode) -> tuple[Output, ...]:
        """Take a node over as it is, with its operands as they are now."""
        inputs = tuple(self.now(x) for x in node.inputs)
        if any(not isinstance(a, Output) or a != b for a, b in zip(inputs, node.inputs, strict=True) if isinstance(b, Output)):
            node = node.replaced(inputs=inputs)
        self.nodes.append(node)
        return tuple(Output(node, i) for i in range(len(node.outputs)))

    def become(self, node: GraphNode, values: tuple[Any, ...]) -> None:
        """Say what the results of an old node are now: places, or constants."""
        self._now[id(node)] = values
        if id(node) in self.results:
            self.given.update(id(x.node) for x in values if isinstance(x, Output))

    def finish(self) -> Graph:
        """Give the new graph."""
        return self.graph.rebuild(self.nodes, [self.now(o) for o in self.graph.outputs])


def rewrite(graph: Graph, visit: Callable[[Rewriter, GraphNode, tuple[Any, ...]], tuple[Any, ...] | None]) -> Graph:
    """Give a graph in which nodes are replaced.

    Parameters
    ----------
    graph : Graph
        The graph; graphs inside its nodes are rewritten too.
    visit : callable
        ``(rewriter, node, inputs)``, with the operands as they are now; gives what the node's results are instead, or None to keep it.
    """
    rewriter = Rewriter(graph)
    for old in graph.nodes:
        node = inside(old, lambda inner: rewrite(inner, visit))
        values = visit(rewriter, node, tuple(rewriter.now(x) for x in node.inputs))
        rewriter.become(old, rewriter.keep(node) if values is None else values)
    return rewriter.finish()


def _spec(x: Any) -> Any:
    return ShapeDtype(tuple(x.shape), x.dtype) if isinstance(x, Array) or lookup(x) is not None else x
