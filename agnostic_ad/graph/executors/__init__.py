"""Programs: what runs a graph. One writer of programs for each library that can do better than straight calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad import trees
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.executors.source import Program, Writer
from agnostic_ad.graph.fusion import FUSED
from agnostic_ad.graph.ir import Graph, GraphNode, Output, inside
from agnostic_ad.levels import Array, is_symbolic
from agnostic_ad.namespaces import ShapeDtype, lookup

__all__ = ["Program", "execute", "program", "runner", "source"]

KEPT = 16
"""Programs that a graph with sizes of any value keeps, each for other sizes."""
_READY = "ready"


def execute(graph: Graph, flat: Sequence[Any]) -> list[Any] | tuple[Any, ...]:
    """Run a graph on the leaves of its arguments: by its program, where they are arrays of its library; else operation by operation."""
    ready = graph.programs.get(_READY)
    if ready is not None:
        wanted, kinds, kind, run = ready
        try:
            fits = [(x.shape, x.dtype) for x in flat] == wanted and kinds.issuperset(map(type, flat)) and type(graph.backend) is kind
        except AttributeError:  # a Python number, say
            fits = False
        if fits:
            return run(*flat)  # type: ignore[no-any-return]
    flat, backend = graph.check(flat), graph.backend
    if all(lookup(x) is backend for x in flat):
        found = program(graph, tuple(sorted(graph.bindings(flat).items())) if graph.dynamic else ())
        if found is not None:
            if not graph.dynamic:
                wanted = [(node.outputs[0].shape, node.outputs[0].dtype) for node in graph.inputs]
                graph.programs[_READY] = (wanted, set(map(type, flat)), type(backend), found.run)
            return found.run(*flat)
    return graph.run(flat)


def runner(graph: Graph, flat: Sequence[Any]) -> Callable[..., Any]:
    """Give what runs a graph on arrays like these, again and again, without looking at them: for the rounds of a loop."""
    flat, backend = graph.check(flat), graph.backend
    if all(lookup(x) is backend for x in flat):
        found = program(graph, tuple(sorted(graph.bindings(flat).items())) if graph.dynamic else ())
        if found is not None:
            return found.run
    return lambda *xs: graph.run(xs)


def program(graph: Graph, bound: tuple[tuple[str, Any], ...] = ()) -> Program | None:
    """Give the program of a graph, made when first asked for; None where constants belong to a transformation, or sizes are found as it runs.

    Parameters
    ----------
    graph : Graph
        The graph.
    bound : tuple of (str, int)
        The sizes that are known only when it runs.
    """
    kept = graph.programs
    key = (type(graph.backend), bound)
    if key not in kept:
        while len(kept) >= KEPT:
            kept.pop(next(iter(kept)), None)
        made = concrete(graph, dict(bound)) if bound else graph
        kept[key] = None if any(isinstance(c, Array) for c in _constants(made)) or any(map(_waits, made.nodes)) else _write(made)
    return kept[key]  # type: ignore[no-any-return]


def source(graph: Graph) -> str:
    """Give the text of a graph's program; that for some sizes, where they are known only when it runs."""
    made = program(graph, graph.hints())
    if made is None:
        raise UnsupportedError(
            f"{graph.label} has no program of its own: it holds arrays of a transformation, or Variables, or needs to know how many rounds a loop takes."
        )
    if not graph.hints():
        return made.source
    head, _, rest = made.source.partition("\n")
    return f"{head}, for {', '.join(f'{name} = {n}' for name, n in graph.hints())}; other sizes have programs of their own\n{rest}"


def concrete(graph: Graph, bound: dict[str, Any]) -> Graph:
    """Give a graph with numbers in the place of sizes that are known only when it runs."""

    def known(node: GraphNode) -> GraphNode:
        specs = tuple(ShapeDtype(tuple(sizes.evaluate(o.shape, bound)), o.dtype) for o in node.outputs)
        inputs = tuple(Output(now[id(x.node)], x.index) if isinstance(x, Output) else sizes.evaluate(x, bound) for x in node.inputs)
        params = sizes.evaluate(node.params, bound)
        made = node.replaced(inputs=inputs, params=params, outputs=specs)
        now[id(node)] = made = inside(made, lambda inner: concrete(inner, bound)) if node.op is FUSED else made
        return made

    now: dict[int, GraphNode] = {}
    inputs, nodes = [known(n) for n in graph.inputs], [known(n) for n in graph.nodes]
    outputs = [Output(now[id(x.node)], x.index) if isinstance(x, Output) else sizes.evaluate(x, bound) for x in graph.outputs]
    return graph.rebuild(nodes, outputs, inputs=inputs, guards=())


def _write(graph: Graph) -> Program:
    name = graph.backend.executor
    if not name:
        return Writer(graph).write()
    return importlib.import_module(f"agnostic_ad.graph.executors.{name}").write(graph)  # type: ignore[no-any-return]


def _waits(node: GraphNode) -> bool:
    """Tell whether a node needs a size that is known only when a loop before it is through."""
    return any(is_symbolic(x) for x in trees.leaves((node.params, [x for x in node.inputs if not isinstance(x, Output)])))


def _constants(graph: Graph) -> list[Any]:
    return [x for node in graph.walk() for x in node.inputs if not isinstance(x, Output)] + [
        x for x in graph.outputs if not isinstance(x, Output)
    ]
