"""What makes graphs smaller, safer and faster: each pass is a function from a graph to a graph, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from agnostic_ad.graph.fusion import fuse
from agnostic_ad.graph.ir import Graph
from agnostic_ad.graph.memory import planned
from agnostic_ad.graph.passes.algebra import algebra
from agnostic_ad.graph.passes.common_subexpressions import common_subexpressions
from agnostic_ad.graph.passes.constant_folding import constant_folding
from agnostic_ad.graph.passes.dead_code import dead_code
from agnostic_ad.graph.passes.joining import joining
from agnostic_ad.graph.passes.layout import layout
from agnostic_ad.graph.passes.stabilisation import stabilisation

__all__ = ["PASSES", "SIMPLIFY", "chosen", "optimize", "report"]

PASSES: dict[str, Callable[[Graph], Graph]] = {
    "stabilisation": stabilisation,
    "constant_folding": constant_folding,
    "algebra": algebra,
    "layout": layout,
    "common_subexpressions": common_subexpressions,
    "dead_code": dead_code,
}
"""Every pass by name, in the order in which they run."""

SIMPLIFY = tuple(PASSES)
"""Those that make way for each other: they run in rounds, until nothing changes."""
PASSES |= {"joining": joining, "fusion": fuse, "memory": planned}

_ROUNDS = 4


def optimize(graph: Graph, passes: Iterable[str] | None = None, show: bool = False) -> Graph:
    """Give a graph that computes the same with less.

    Parameters
    ----------
    graph : Graph
        The graph; it stays as it is.
    passes : iterable of str, optional
        The names of passes, in order. By default all of `PASSES`; those of `SIMPLIFY` in rounds, until nothing changes.
    show : bool
        Whether to print what each pass did.
    """
    if passes is None:
        for _ in range(_ROUNDS):
            before = graph
            graph = _run(graph, SIMPLIFY)
            if _shape(graph) == _shape(before):
                break
        graph = _run(graph, [name for name in PASSES if name not in SIMPLIFY])
    else:
        graph = _run(graph, chosen(passes, "optimize"))
    if show:
        print(report(graph))
    return graph


def chosen(passes: str | Iterable[str], what: str) -> tuple[str, ...]:
    """Give the names of passes; refuse one that there is none of."""
    names = (passes,) if isinstance(passes, str) else tuple(passes)
    unknown = next((name for name in names if name not in PASSES), None)
    if unknown is not None:
        raise ValueError(f"{what}: there is no pass {unknown!r}; there are {', '.join(PASSES)}")
    return names


def _run(graph: Graph, names: Iterable[str]) -> Graph:
    for name in names:
        start = time.perf_counter()
        after = PASSES[name](graph)
        graph = after.rebuild(history=(*graph.history, (name, graph, time.perf_counter() - start)))
    return graph


def _shape(graph: Graph) -> list[tuple[str, int]]:
    return [(node.op.name, len(node.inputs)) for node in graph.walk()]


def report(graph: Graph) -> str:
    """Give a table of what each pass did to a graph: operations before and after, milliseconds, and which operations came and went."""
    afters = [g for _, g, _ in graph.history[1:]] + [graph]
    rows = [("pass", "before", "after", "ms", "changes")]
    for (name, before, seconds), after in zip(graph.history, afters, strict=True):
        counts = {n: k - before.counts().get(n, 0) for n, k in {**dict.fromkeys(before.counts(), 0), **after.counts()}.items()}
        changes = " ".join(f"{k:+d} {n}" for n, k in counts.items() if k)
        rows.append((name, str(sum(before.counts().values())), str(sum(after.counts().values())), f"{seconds * 1e3:.1f}", changes))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:4], widths[1:], strict=True)), row[4]]).rstrip()
        for row in rows
    )
