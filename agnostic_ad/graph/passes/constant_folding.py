"""Constant folding: what depends on constants alone is computed once, now."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agnostic_ad.graph.ir import Graph, GraphNode, elements
from agnostic_ad.graph.passes.constants import static
from agnostic_ad.graph.rewriting import Rewriter, rewrite
from agnostic_ad.namespaces import lookup

__all__ = ["constant_folding"]

_LARGE = 4096


def constant_folding(graph: Graph) -> Graph:
    """Compute what depends on constants alone; not what would take much more memory than its operands, nor what fails."""

    def visit(rewriter: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        backends = [b for b in map(lookup, inputs) if b is not None]
        if id(node) in rewriter.results:  # a new array at each call
            return None
        if not backends or node.effects or node.graphs() or node.dynamic or not all(map(static, inputs)) or any(b.lazy for b in backends):
            return None
        held = sum(math.prod(x.shape) for x in inputs if lookup(x) is not None)
        if sum(map(elements, node.outputs)) > max(held, _LARGE):
            return None
        try:
            with np.errstate(all="ignore"):
                y = node.op.run(inputs, node.params)
        except Exception:  # it will fail in the same way, and say so, when the graph runs
            return None
        return tuple(y) if isinstance(y, tuple | list) else (y,)

    return rewrite(graph, visit)
