"""Common subexpressions: one operation on the same operands is done once."""

from __future__ import annotations

from typing import Any

from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.passes.constants import identity
from agnostic_ad.graph.rewriting import Rewriter, rewrite

__all__ = ["common_subexpressions"]

_COMMUTE = frozenset({"add", "multiply"})


def common_subexpressions(graph: Graph) -> Graph:
    """Merge operations that are done twice. What has effects (draws from the random generator) is not."""
    seen: dict[Any, GraphNode] = {}

    def visit(rewriter: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if node.effects:
            return None
        operands = tuple(map(identity, inputs))
        if node.op.name in _COMMUTE:
            operands = (frozenset(operands),) if len(set(operands)) == 2 else operands
        try:
            key = rewriter, node.op, operands, identity(node.params)
            before = seen.get(key)
        except TypeError:  # a parameter that cannot be hashed
            return None
        if before is not None and not (id(node) in rewriter.results and id(before) in rewriter.given):  # two results are two arrays
            return tuple(Output(before, i) for i in range(len(node.outputs)))
        places = rewriter.keep(node)
        seen.setdefault(key, places[0].node)
        return places

    return rewrite(graph, visit)
