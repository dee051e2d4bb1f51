"""Two captures of one function, with different hints for its axes of any size: what differs has lost track of a size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.lost import ADVICE
from agnostic_ad.graph.rounds import is_rounds
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, backend_of, lookup

__all__ = ["compare"]


def compare(label: str, a: Graph, b: Graph) -> None:
    """Refuse a pair of graphs that differ in more than the hints.

    Raises
    ------
    UnsupportedError
        With the operation, the user's line, and what differs.
    """
    places = {id(n): i for i, n in enumerate((*a.inputs, *a.nodes))} | {id(n): i for i, n in enumerate((*b.inputs, *b.nodes))}
    for x, y in zip(a.nodes, b.nodes, strict=False):
        if x.op is not y.op:
            raise _lost(label, x, f"{x.op.name} runs for one size, and {y.op.name} for another ({y.where})")
        for what, p, q in _parts(x, y):
            fault = _fault(p, q, places)
            if fault:
                raise _lost(label, x, f"{what} {fault}")
    if len(a.nodes) != len(b.nodes):
        longer = max(a.nodes, b.nodes, key=len)
        node = longer[min(len(a.nodes), len(b.nodes))]
        raise _lost(label, node, f"the number of operations depends on a size: {len(a.nodes)} or {len(b.nodes)}")
    if a.out_spec != b.out_spec:
        raise UnsupportedError(f"{label}: the structure of the result depends on a size: {a.out_spec} or {b.out_spec}")
    for p, q in zip(a.outputs, b.outputs, strict=True):
        fault = _fault(p, q, places)
        if fault:
            raise UnsupportedError(f"{label}: a result {fault}. {ADVICE}")


def _lost(label: str, node: GraphNode, what: str) -> UnsupportedError:
    line = f" ({node.where})" if node.where else ""
    return UnsupportedError(f"{label}: {node.op.name}{line} does not hold for axes of any size: {what}. {ADVICE}")


def _parts(x: GraphNode, y: GraphNode) -> Iterator[tuple[str, Any, Any]]:
    yield "the number of operands", len(x.inputs), len(y.inputs)
    for i, (p, q) in enumerate(zip(x.inputs, y.inputs, strict=True)):
        yield f"operand {i}", p, q
    for name in x.params:
        yield f"{name}", x.params[name], y.params.get(name)
    for p, q in zip(x.outputs, y.outputs, strict=True):
        yield "the shape of the result", p.shape, q.shape


def _fault(p: Any, q: Any, places: dict[int, int]) -> str:
    """Say how two parts of nodes differ; nothing where they do not."""
    if isinstance(p, Output) and isinstance(q, Output):
        return "" if (places.get(id(p.node)), p.index) == (places.get(id(q.node)), q.index) else "is another value"
    if isinstance(p, sizes.Dim | sizes.Ratio) or isinstance(q, sizes.Dim | sizes.Ratio):
        return "" if (is_rounds(p) and is_rounds(q)) or (sizes.key(p) == sizes.key(q) and type(p) is type(q)) else f"is {p!r} or {q!r}"
    if isinstance(p, Graph) and isinstance(q, Graph):
        try:
            compare(p.label, p, q)
        except UnsupportedError as error:
            return f"differs: {error}"
        return ""
    if isinstance(p, Array) or isinstance(q, Array):
        return "" if p is q or (type(p) is type(q) and sizes.key(tuple(p.shape)) == sizes.key(tuple(q.shape))) else "is another array"
    if isinstance(p, ShapeDtype) and isinstance(q, ShapeDtype):
        return _fault((p.shape, p.dtype), (q.shape, q.dtype), places)
    if type(p) is not type(q):
        return f"is {p!r} or {q!r}"
    if isinstance(p, slice):
        return _fault((p.start, p.stop, p.step), (q.start, q.stop, q.step), places)
    if isinstance(p, tuple | list | dict):
        left, right = (list(p.items()), list(q.items())) if isinstance(p, dict) else (p, q)
        if len(left) != len(right):
            return f"is {p!r} or {q!r}"
        return next((f for f in (_fault(i, j, places) for i, j in zip(left, right, strict=True)) if f), "")
    if lookup(p) is not None:
        return _array_fault(p, q)
    return "" if p is q or p == q or (p != p and q != q) else f"is {p!r} or {q!r}"


def _array_fault(p: Any, q: Any) -> str:
    if p is q:
        return ""
    if tuple(p.shape) != tuple(q.shape):
        return f"is an array of shape {tuple(p.shape)} or {tuple(q.shape)}"
    backend = backend_of(p)
    if getattr(backend, "lazy", False):
        return ""
    one, other = backend.to_numpy(p), backend.to_numpy(q)
    same = bool(((one == other) | ((one != one) & (other != other))).all())
    return "" if same else f"is {one.ravel()[:1]!r} or {other.ravel()[:1]!r}" if one.size == 1 else "is an array of other values"
