"""Layout: axes that are moved, and moved again; shapes that are changed, and changed again; copies along axes that broadcasting makes anyway."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import broadcast_shapes
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.passes.algebra import Rule, unaliased
from agnostic_ad.graph.passes.constants import made_by
from agnostic_ad.graph.rewriting import Rewriter, rewrite
from agnostic_ad.graph.sizes import dynamic, key
from agnostic_ad.op import TABLE

__all__ = ["layout"]


def layout(graph: Graph) -> Graph:
    """Merge what moves axes and changes shapes, let matrix products take their operands as they lie, and leave copies to broadcasting."""

    def visit(rewriter: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        rules = _RULES.get(node.op.name, ()) or ((_unbroadcast, _broadcast_late) if node.op.elementwise else ())
        for rule in rules:
            found = rule(rewriter, node, inputs)
            if found is not None and (unaliased(rewriter, node, found) or id(found.node) in rewriter.added):
                return (found,)
        return None

    return rewrite(graph, visit)


def _same(a: Any, b: Any) -> bool:
    """Tell whether two shapes are one, whatever the sizes will be."""
    return len(a) == len(b) and all(key(m) == key(n) for m, n in zip(a, b, strict=True))


def _emit(rewriter: Rewriter, node: GraphNode, name: str, *inputs: Any, **params: Any) -> Any:
    return rewriter.emit(TABLE[name], inputs, params, node)


# --- one rule each ------------------------------------------------------------------------------------------------------------------------
def _permuted(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, axes = inputs[0], node.params["axes"]
    if tuple(axes) == tuple(range(len(axes))):
        return x if isinstance(x, Output) else None
    inner = made_by(x, "permute_dims")
    if inner is not None:
        merged = tuple(inner.params["axes"][a] for a in axes)
        return inner.inputs[0] if merged == tuple(range(len(axes))) else _emit(r, node, "permute_dims", inner.inputs[0], axes=merged)
    product = made_by(x, "matmul")
    if product is not None and _swaps(axes) and r.uses(node.inputs[0]) == 1:  # (A B)^T = B^T A^T, where that leaves fewer transposes
        parts = [made_by(p, "permute_dims") for p in product.inputs]
        if all(p is not None and _swaps(p.params["axes"]) for p in parts):
            return _emit(r, node, "matmul", parts[1].inputs[0], parts[0].inputs[0])  # type: ignore[union-attr]
    return None


def _swaps(axes: Any) -> bool:
    """Tell whether a permutation exchanges the last two axes alone."""
    n = len(axes)
    return n >= 2 and tuple(axes) == (*range(n - 2), n - 1, n - 2)


def _reshaped(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, shape = inputs[0], node.params["shape"]
    if not isinstance(x, Output) or node.params.get("copy"):
        return None
    if _same(x.spec.shape, shape):
        return x
    inner = made_by(x, "reshape")
    if inner is None:
        return None
    first = inner.inputs[0]
    back = isinstance(first, Output) and _same(first.spec.shape, shape)
    return first if back else _emit(r, node, "reshape", first, shape=shape, copy=None)


def _broadcast(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, shape = inputs[0], node.params["shape"]
    if isinstance(x, Output) and _same(x.spec.shape, shape):
        return x
    inner = made_by(x, "broadcast_to")
    return None if inner is None else _emit(r, node, "broadcast_to", inner.inputs[0], shape=shape)


def _flipped(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    if not node.params["axis"]:
        return inputs[0] if isinstance(inputs[0], Output) else None
    inner = made_by(inputs[0], "flip")
    if inner is None:
        return None
    axes = tuple(sorted(set(inner.params["axis"]) ^ set(node.params["axis"])))
    return _emit(r, node, "flip", inner.inputs[0], axis=axes) if axes else inner.inputs[0]


def _picked(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    everything = all(k is Ellipsis or k == slice(None) for k in node.params["key"] if not isinstance(k, int)) and not any(
        isinstance(k, int) or k is None for k in node.params["key"]
    )
    return inputs[0] if everything and isinstance(inputs[0], Output) else None


def _summed(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, axes = inputs[0], node.params["axis"]
    if not isinstance(x, Output):
        return None
    if axes == () and x.spec.dtype == node.outputs[0].dtype and node.op.name in ("sum", "max", "min", "mean"):
        return x
    inner = made_by(x, "permute_dims")
    if inner is None or not isinstance(axes, tuple) or node.params.get("keepdims"):
        return None
    order = inner.params["axes"]
    left = [a for i, a in enumerate(order) if i not in axes]
    if left != sorted(left):
        return None
    return _emit(r, node, node.op.name, inner.inputs[0], **{**node.params, "axis": tuple(sorted(order[a] for a in axes))})


def _unbroadcast(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    """Give elementwise operations what was broadcast, as it was before: the other operands make it as large."""
    found = list(inputs)
    for i, x in enumerate(inputs):
        inner = made_by(x, "broadcast_to")
        if inner is None or not isinstance(inner.inputs[0], Output):
            continue
        found[i] = inner.inputs[0]
        shapes = [tuple(y.spec.shape) if isinstance(y, Output) else tuple(getattr(y, "shape", ())) for y in found if y is not None]
        if not _same(broadcast_shapes(*shapes), node.outputs[0].shape):
            found[i] = x
    if all(a is b for a, b in zip(found, inputs, strict=True)) or node.op.name in ("nn.keep", "nn.noise"):
        return None
    return r.emit(node.op, tuple(found), node.params, node)


def _broadcast_late(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    """Compute with what was broadcast, and broadcast what comes of it, where no operand is as large."""
    if node.op.name in ("nn.keep", "nn.noise") or id(node) in r.results or node.dynamic or len(node.outputs) != 1:
        return None
    made = [made_by(x, "broadcast_to") for x in inputs]
    found = tuple(x if inner is None else inner.inputs[0] for x, inner in zip(inputs, made, strict=True))
    specs = [x.spec if isinstance(x, Output) else x for x in found]
    shape = broadcast_shapes(*(tuple(x.shape) for x in specs if hasattr(x, "shape")))
    want = node.outputs[0].shape
    if all(inner is None for inner in made) or dynamic((shape, want)) or math.prod(shape) >= math.prod(want):
        return None
    return _emit(r, node, "broadcast_to", r.emit(node.op, found, node.params, node), shape=tuple(want))


_RULES: dict[str, tuple[Rule, ...]] = {
    "permute_dims": (_permuted,),
    "reshape": (_reshaped,),
    "broadcast_to": (_broadcast,),
    "flip": (_flipped,),
    "getitem": (_picked,),
    **dict.fromkeys(("sum", "mean", "max", "min", "all", "any", "var", "std"), (_summed,)),
}
