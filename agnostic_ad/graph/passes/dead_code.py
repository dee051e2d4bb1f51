"""Dead code: operations whose results nobody asked for."""

from __future__ import annotations

from agnostic_ad.graph.ir import Graph, Output, inside
from agnostic_ad.graph.rewriting import Rewriter

__all__ = ["dead_code"]


def dead_code(graph: Graph) -> Graph:
    """Leave out what no result depends on, inside of loops and branches too. What has effects stays."""
    needed = {id(o.node) for o in graph.outputs if isinstance(o, Output)}
    for node in reversed(graph.nodes):
        if id(node) in needed or node.effects:
            needed.add(id(node))
            needed.update(id(place.node) for place in node.places())
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if id(node) in needed:
            rewriter.become(node, rewriter.keep(inside(node, dead_code)))
    return rewriter.finish()
