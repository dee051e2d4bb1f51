"""Algebra: operations that change nothing, or that a cheaper one does.

Every rule gives the same number for every number: NaN, infinities and the sign of zero included. (x + 0 is not x where x is -0.0, and x - x is
not 0 where x is NaN.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.passes.constants import made_by, uniform
from agnostic_ad.graph.rewriting import Rewriter, rewrite
from agnostic_ad.op import TABLE

__all__ = ["algebra", "unaliased"]

Rule = Callable[[Rewriter, GraphNode, tuple[Any, ...]], Any]
"""Gives the place, or constant, that the node's result is instead; None where the rule does not apply."""


def algebra(graph: Graph) -> Graph:
    """Replace operations by nothing, or by cheaper ones."""

    def visit(rewriter: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        for rule in _RULES.get(node.op.name, ()):
            found = rule(rewriter, node, inputs)
            if found is not None and unaliased(rewriter, node, found):
                return (found,)
        return None

    return rewrite(graph, visit)


def unaliased(rewriter: Rewriter, node: GraphNode, found: Any) -> bool:
    """Tell whether a place may stand for a node's result: what a graph gives is nobody else's array, as what was captured gave a new one."""
    if id(node) not in rewriter.results:
        return True
    made = isinstance(found, Output) and found.node.op is not None and found.node.op.elementwise  # and so no view of an argument
    return made and id(found.node) not in rewriter.given


def _like(node: GraphNode, x: Any) -> bool:
    """Tell whether an operand has the shape and dtype of the result."""
    want = node.outputs[0]
    return isinstance(x, Output) and x.spec.dtype == want.dtype and tuple(x.spec.shape) == tuple(want.shape)


def _number(x: Any) -> Any:
    return None if isinstance(x, Output) else uniform(x)


def _signed(x: Any, value: float) -> bool:
    n = _number(x)
    return n is not None and not isinstance(n, complex) and n == value and math.copysign(1.0, n) == math.copysign(1.0, value)


def _real(rewriter: Rewriter, x: Any) -> bool:
    return isinstance(x, Output) and rewriter.graph.backend.kind(x.spec.dtype) in "f"


def _emit(rewriter: Rewriter, node: GraphNode, name: str, *inputs: Any, **params: Any) -> Any:
    return rewriter.emit(TABLE[name], inputs, params, node)


# --- one rule each ----------------------------------------------------------------------------------------------------------------------
def _times_one(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    a, b = inputs
    for x, n in ((a, b), (b, a)):
        if _like(node, x) and _number(n) is not None and _number(n) == 1 and (not isinstance(_number(n), complex)):
            return x
    return None


def _times_minus_one(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    a, b = inputs
    for x, n in ((a, b), (b, a)):
        if _like(node, x) and _real(r, x) and _signed(n, -1.0):
            return _emit(r, node, "negative", x)
    return None


def _over_one(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    return inputs[0] if _like(node, inputs[0]) and _signed(inputs[1], 1.0) and _real(r, inputs[0]) else None


def _over_power_of_two(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, divisor = inputs
    n = _number(divisor)
    if (
        not _real(r, x)
        or not isinstance(n, float)
        or not math.isfinite(n)
        or n == 0
        or abs(math.frexp(n)[0]) != 0.5
        or not 2**-60 < abs(n) < 2**60
    ):
        return None
    with_shape = getattr(divisor, "shape", ())
    return _emit(r, node, "multiply", x, 1.0 / divisor) if with_shape == () else None


def _plus_zero(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    a, b = inputs
    for x, n in ((a, b), (b, a)):
        if _like(node, x) and (_signed(n, -0.0) if _real(r, x) else r.graph.backend.kind(x.spec.dtype) == "i" and _number(n) == 0):
            return x
    return None


def _minus_zero(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, n = inputs
    exact = _like(node, x) and (_signed(n, 0.0) if _real(r, x) else r.graph.backend.kind(x.spec.dtype) == "i" and _number(n) == 0)
    return x if exact else None


def _plus_negative(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    a, b = inputs
    negated = made_by(b, "negative")
    if negated is not None:
        return _emit(r, node, "subtract", a, negated.inputs[0])
    negated = made_by(a, "negative")
    return None if negated is None else _emit(r, node, "subtract", b, negated.inputs[0])


def _minus_negative(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    negated = made_by(inputs[1], "negative")
    return None if negated is None else _emit(r, node, "add", inputs[0], negated.inputs[0])


def _both_negative(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    a, b = made_by(inputs[0], "negative"), made_by(inputs[1], "negative")
    return None if a is None or b is None else _emit(r, node, node.op.name, a.inputs[0], b.inputs[0])


def _undone(name: str) -> Rule:
    def rule(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
        inner = made_by(inputs[0], name)
        return None if inner is None else inner.inputs[0]

    return rule


def _again(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    return None if made_by(inputs[0], node.op.name) is None else inputs[0]


def _even(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = made_by(inputs[0], "negative")
    return None if inner is None else _emit(r, node, node.op.name, inner.inputs[0])


def _square_of_abs(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = made_by(inputs[0], "abs")
    return _emit(r, node, "square", inner.inputs[0]) if inner is not None and _real(r, inner.inputs[0]) else None


def _itself(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    return inputs[0] if _like(node, inputs[0]) else None


def _real_itself(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    return inputs[0] if _like(node, inputs[0]) and r.graph.backend.kind(inputs[0].spec.dtype) != "c" else None


def _cast(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    return inputs[0] if _like(node, inputs[0]) and node.params.get("device") is None else None


def _power(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x, n = inputs[0], _number(inputs[1])
    if not _like(node, x) or isinstance(n, complex) or n is None:
        return None
    if n == 1:
        return x
    if n == 2:
        return _emit(r, node, "square", x)
    return _emit(r, node, "reciprocal", x) if n == -1 and _real(r, x) else None


def _same_both(first: int) -> Rule:
    def rule(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
        a, b = inputs[first], inputs[first + 1]
        return a if isinstance(a, Output) and a == b and _like(node, a) else None

    return rule


def _decided(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    condition = _number(inputs[0])
    taken = None if condition is None else inputs[1] if condition else inputs[2]
    return taken if _like(node, taken) else None


def _not_compared(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = made_by(inputs[0], "equal", "not_equal")  # not the others: with NaN, not (a < b) is not a >= b
    return None if inner is None else _emit(r, node, {"equal": "not_equal", "not_equal": "equal"}[inner.op.name], *inner.inputs)


_RULES: dict[str, tuple[Rule, ...]] = {
    "multiply": (_times_one, _times_minus_one, _both_negative),
    "divide": (_over_one, _both_negative, _over_power_of_two),
    "add": (_plus_zero, _plus_negative),
    "subtract": (_minus_zero, _minus_negative),
    "pow": (_power,),
    "negative": (_undone("negative"),),
    "logical_not": (_undone("logical_not"), _not_compared),
    "bitwise_invert": (_undone("bitwise_invert"),),
    "conj": (_real_itself, _undone("conj")),
    "real": (_real_itself,),
    "positive": (_itself,),
    "astype": (_cast,),
    "abs": (_again, _even),
    "cos": (_even,),
    "cosh": (_even,),
    "square": (_square_of_abs, _even),
    "nn.relu": (_again,),
    "floor": (_again,),
    "ceil": (_again,),
    "trunc": (_again,),
    "round": (_again,),
    "sign": (_again,),
    "maximum": (_same_both(0),),
    "minimum": (_same_both(0),),
    "logical_and": (_same_both(0),),
    "logical_or": (_same_both(0),),
    "where": (_same_both(1), _decided),
}
