"""Joining: a sum of arrays that are zero but for one slice each, as the gradient of slices is, is written slice by slice."""

from __future__ import annotations

from typing import Any

from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.passes.dead_code import dead_code
from agnostic_ad.graph.rewriting import Rewriter

__all__ = ["joining"]


def joining(graph: Graph) -> Graph:
    """Replace sums of slices that together are a whole axis by one concatenation, plus zero: that makes 0 of -0, as the sum does."""
    users = graph.users()
    results = {x for x in graph.outputs if isinstance(x, Output)}

    whole: dict[int, tuple[list[GraphNode], int]] = {}
    inside: set[int] = set()
    for node in reversed(graph.nodes):
        if node.op.name == "add" and id(node) not in inside:
            found = _leaves(Output(node, 0), users, results, top=True)
            order = _covering(found) if found and len(found) > 1 else None
            if order is not None:
                whole[id(node)] = order
                inside.update(id(x.node) for x in node.places())
    if not whole:
        return graph
    rewriter = Rewriter(graph)
    for node in graph.nodes:
        if id(node) in whole:
            parts, axis = whole[id(node)]
            operands = tuple(rewriter.now(part.inputs[0]) for part in parts)
            rewriter.become(node, (rewriter.inline(lambda xp, *a, axis=axis: xp.concat(a, axis=axis) + 0.0, operands, node),))
        else:
            rewriter.become(node, rewriter.keep(node))
    return dead_code(rewriter.finish())


def _leaves(x: Any, users: Any, results: set[Output], top: bool = False) -> list[GraphNode] | None:
    """Give the scattered slices that a sum adds up, if it adds up nothing else, and nobody else wants any part."""
    if not isinstance(x, Output) or (not top and (x in results or len(users[x]) != 1)):
        return None
    if x.node.op is not None and x.node.op.name == "scatter" and not x.node.dynamic:
        return [x.node]
    if x.node.op is None or x.node.op.name != "add":
        return None
    parts = [_leaves(operand, users, results) for operand in x.node.inputs]
    return None if any(p is None for p in parts) else [leaf for p in parts for leaf in p or ()]


def _covering(parts: list[GraphNode]) -> tuple[list[GraphNode], int] | None:
    """Give scattered slices in order, and their axis, if together they are that axis once; None otherwise."""
    shape, dtype = parts[0].params["shape"], parts[0].outputs[0].dtype
    spans = []
    for part in parts:
        key = part.params["key"]
        if part.params["shape"] != shape or part.outputs[0].dtype != dtype or not isinstance(key, tuple):
            return None
        if len(key) > len(shape) or any(
            type(k) is not slice or k.step not in (None, 1) or type(n) is not int for k, n in zip(key, shape, strict=False)
        ):
            return None
        cut = [(axis, *k.indices(n)[:2]) for axis, (k, n) in enumerate(zip(key, shape, strict=False)) if k.indices(n)[:2] != (0, n)]
        if len(cut) != 1:
            return None
        spans.append((cut[0], part))
    spans.sort(key=lambda span: span[0])
    (axis, start, _), end = spans[0][0], shape[spans[0][0][0]]
    bounds = [start, *(stop for (_, _, stop), _ in spans)]
    starts = [at for (_, at, _), _ in spans]
    fits = start == 0 and bounds[-1] == end and starts == bounds[:-1] and all(a == axis for (a, _, _), _ in spans)
    return ([part for _, part in spans], axis) if fits else None
