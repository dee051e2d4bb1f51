"""Graphs made from graphs, for the rules of control flow: for batches, with tangents, and parted for reverse mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from agnostic_ad.arguments import zeros
from agnostic_ad.graph.branches import flat_graph, spec_of, stage
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.mapping import vmap
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.transforms import jvp, vjp

__all__ = [
    "Flags",
    "Halves",
    "alive",
    "depends",
    "halves",
    "kept",
    "mapped",
    "merged",
    "moving_results",
    "negated",
    "pick",
    "pushed",
    "specs_of",
    "staged",
    "steady",
]

Flags = tuple[bool, ...]
kept = lru_cache(maxsize=256)
"""For functions of graphs, which do not change."""


def moving_results(graph: Graph) -> Flags:
    """Tell which results are floating or complex numbers."""
    return tuple(graph.backend.kind(spec_of(o).dtype) in "fc" for o in graph.outputs)


def depends(graph: Graph, flags: Sequence[bool], moving: bool) -> Flags:
    """Tell which results depend on the inputs marked; with ``moving``, through floating and complex numbers alone."""
    marked = {id(node) for node, flag in zip(graph.inputs, flags, strict=True) if flag}
    for node in graph.nodes:
        if any(id(p.node) in marked for p in node.places()) and (
            not moving or any(graph.backend.kind(o.dtype) in "fc" for o in node.outputs)
        ):
            marked.add(id(node))
    return tuple(
        isinstance(o, Output) and id(o.node) in marked and (not moving or inexact)
        for o, inexact in zip(graph.outputs, moving_results(graph), strict=True)
    )


def steady(body: Graph, before: Flags, carried: Flags, behind: Flags, moving: bool) -> Flags:
    """Tell which carries depend on what is marked, after any number of rounds."""
    while True:
        found = depends(body, (*before, *carried, *behind), moving)[: len(carried)]
        grown = tuple(a or b for a, b in zip(carried, found, strict=True))
        if grown == carried:
            return carried
        carried = grown


def pick(values: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    """Give the values that are marked."""
    return [v for v, flag in zip(values, flags, strict=True) if flag]


def merged(flags: Sequence[bool], marked: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Put values together again that `pick` took apart."""
    a, b = iter(marked), iter(others)
    return [next(a) if flag else next(b) for flag in flags]


def negated(flags: Sequence[bool]) -> list[bool]:
    """Mark the others."""
    return [not flag for flag in flags]


def specs_of(graph: Graph) -> list[ShapeDtype]:
    """Give what is known of the inputs."""
    return [node.outputs[0] for node in graph.inputs]


def staged(f: Callable[..., Any], graph: Graph, specs: Sequence[ShapeDtype], device: Any, label: str = "") -> Graph:
    """Capture a function of flat arrays, of which ``specs`` say what is known, as a variant of a graph."""
    made = stage(f, f"{graph.label}{label}", graph.backend, [(s, device) for s in specs])
    assert not made.outer  # what was around the function is among the inputs of its graph
    return made.graph


def through(graph: Graph, flags: Flags, outs: Flags, xs: Sequence[Any]) -> Callable[..., Any]:
    """Give a graph as a function of the inputs marked, with the results marked, and the others as aux."""

    def f(*moved: Any) -> Any:
        y = graph(*merged(flags, moved, pick(xs, negated(flags))))
        return tuple(pick(y, outs)), tuple(pick(y, negated(outs)))

    return f


@kept
def mapped(graph: Graph, flags: Flags, outs: Flags, size: int, device: Any) -> Graph:
    """Give a graph for batches: of the inputs marked, to the results marked."""
    if not any(flags):
        flags = (True,) * len(flags) if any(outs) and flags else flags
        if not any(outs):
            return graph
    specs = [ShapeDtype((size, *s.shape), s.dtype) if b else s for s, b in zip(specs_of(graph), flags, strict=True)]
    axes = tuple(0 if b else None for b in flags)
    return staged(vmap(lambda *xs: graph(*xs), axes, tuple(0 if b else None for b in outs)), graph, specs, device)


@kept
def pushed(graph: Graph, flags: Flags, outs: Flags, device: Any) -> Graph:
    """Give a graph that takes tangents behind its inputs, and gives those of the results marked behind its results."""
    specs = specs_of(graph)

    def f(*flat: Any) -> Any:
        xs, ts = flat[: len(specs)], flat[len(specs) :]
        if not ts:
            y = graph(*xs)
            return (*y, *map(zeros, pick(y, outs)))
        y, t, aux = jvp(through(graph, flags, outs, xs), pick(xs, flags), ts, has_aux=True)
        return (*merged(outs, y, aux), *t)

    return staged(f, graph, [*specs, *pick(specs, flags)], device, ", forward")


class Halves(NamedTuple):
    """A graph and its derivative, parted where cotangents come in.

    Attributes
    ----------
    forward : Graph
        As the graph, with what the other half needs behind its results.
    backward : Graph
        From the inputs that are at hand, the further results of the first half, and the cotangents of some results, to those of some inputs.
    saved : list of ShapeDtype
        The further results.
    """

    forward: Graph
    backward: Graph
    saved: tuple[ShapeDtype, ...]


@kept
def halves(graph: Graph, wanted: Flags, outs: Flags, at_hand: Flags, device: Any) -> Halves:
    """Part a graph, for cotangents from the results marked to the inputs wanted; the backward half finds some inputs ``at_hand``."""
    specs = specs_of(graph)
    n, m = len(specs), len(outs)

    def both(*flat: Any) -> Any:
        xs, cts = flat[:n], flat[n:]
        y, pull, aux = vjp(through(graph, wanted, outs, xs), *pick(xs, wanted), has_aux=True)
        return (*merged(outs, y, aux), *pull(tuple(cts)))

    whole = staged(both, graph, [*specs, *pick([spec_of(o) for o in graph.outputs], outs)], device)
    late = {id(node) for node in whole.inputs[n:]}
    for node in whole.nodes:
        if any(id(p.node) in late for p in node.places()):
            late.add(id(node))
    free: set[int] = set()  # made of constants: both halves make them
    for node in whole.nodes:
        if not node.effects and all(id(p.node) in free for p in node.places()):
            free.add(id(node))
    second = [node for node in whole.nodes if id(node) in late | free]
    crossing = [p for node in second for p in node.places()] + [o for o in whole.outputs[m:] if isinstance(o, Output)]
    here = [Output(node, 0) for node, flag in zip(whole.inputs[:n], at_hand, strict=True) if flag]
    saved = [p for p in dict.fromkeys(crossing) if id(p.node) not in late | free and p not in here]
    forward = alive([node for node in whole.nodes if id(node) not in late], whole.inputs[:n], [*whole.outputs[:m], *saved], graph)
    fed = [GraphNode(None, (), {}, (p.spec,), f"saved{i}") for i, p in enumerate([*here, *saved])]
    now: dict[Output, Output] = {p: Output(node, 0) for p, node in zip([*here, *saved], fed, strict=True)}
    nodes = []
    for node in second:
        new = node.replaced(inputs=tuple(now.get(x, x) if isinstance(x, Output) else x for x in node.inputs))
        now |= {Output(node, i): Output(new, i) for i in range(len(node.outputs))}
        nodes.append(new)
    results = [now.get(o, o) if isinstance(o, Output) else o for o in whole.outputs[m:]]
    backward = flat_graph(f"{graph.label}, backward", nodes, [*fed, *whole.inputs[n:]], results, graph.backend)
    return Halves(forward, alive(backward.nodes, backward.inputs, backward.outputs, backward), tuple(p.spec for p in saved))


def alive(nodes: list[GraphNode], inputs: list[GraphNode], outputs: list[Any], like: Graph) -> Graph:
    """Give a graph without the nodes that nothing needs."""
    needed = {id(o.node) for o in outputs if isinstance(o, Output)}
    found = []
    for node in reversed(nodes):
        if id(node) in needed or node.effects:
            found.append(node)
            needed |= {id(p.node) for p in node.places()}
    return flat_graph(like.label, found[::-1], inputs, outputs, like.backend, like.guards)
