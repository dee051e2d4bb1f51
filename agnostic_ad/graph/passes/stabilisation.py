"""Stabilisation: compositions that overflow, or lose all digits, become the functions that were made for them.

What a graph gives there is not what the same calls give one by one, but nearer to what they mean: log(softmax(x)) is finite where softmax(x) is
0. To have the same of derivatives, optimise first and differentiate the graph then: ``ad.grad(g.optimize())``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.passes.algebra import unaliased
from agnostic_ad.graph.passes.constants import made_by, uniform
from agnostic_ad.graph.rewriting import Rewriter, rewrite
from agnostic_ad.op import TABLE

__all__ = ["stabilisation"]


def stabilisation(graph: Graph) -> Graph:
    """Replace compositions that lose accuracy by the functions that do not."""

    def visit(rewriter: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        for rule in _RULES.get(node.op.name, ()):
            found = rule(rewriter, node, inputs)
            if found is not None and tuple(found.spec.shape) == tuple(node.outputs[0].shape) and found.spec.dtype == node.outputs[0].dtype:
                return (found,)
        return None

    return rewrite(graph, visit)


def _emit(rewriter: Rewriter, node: GraphNode, name: str, *inputs: Any, **params: Any) -> Any:
    return rewriter.emit(TABLE[name], inputs, params, node)


def _real(rewriter: Rewriter, x: Any) -> bool:
    return isinstance(x, Output) and rewriter.graph.backend.kind(x.spec.dtype) == "f"


def _with_one(node: GraphNode | None) -> Any:
    """Give the other operand of a sum with one."""
    if node is None:
        return None
    a, b = node.inputs
    if not isinstance(b, Output) and uniform(b) == 1:
        return a
    return b if not isinstance(a, Output) and uniform(a) == 1 else None


def _exponential(x: Any) -> Any:
    """Give the operand of an exponential."""
    inner = made_by(x, "exp")
    return None if inner is None else inner.inputs[0]


# --- log of ... ---------------------------------------------------------------------------------------------------------------------------
def _log_softmax(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = made_by(inputs[0], "nn.softmax")
    if inner is not None:
        return _emit(r, node, "nn.log_softmax", inner.inputs[0], **inner.params)
    ratio = made_by(inputs[0], "divide")  # exp(x) / sum(exp(x)), written out; with or without x - max(x)
    total = None if ratio is None else made_by(ratio.inputs[1], "sum")
    if (
        ratio is None
        or total is None
        or total.inputs[0] != ratio.inputs[0]
        or not total.params["keepdims"]
        or len(total.params["axis"]) != 1
    ):
        return None
    x = _exponential(ratio.inputs[0])
    return None if not _real(r, x) else _emit(r, node, "nn.log_softmax", x, axis=total.params["axis"][0])


def _log_sum_exp(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    total = made_by(inputs[0], "sum")
    x = None if total is None else _exponential(total.inputs[0])
    if total is None or not _real(r, x) or not total.params["axis"]:
        return None
    return r.inline(lambda xp, x: xp.special.logsumexp(x, axis=total.params["axis"], keepdims=total.params["keepdims"]), (x,), node)


def _log_expit(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = made_by(inputs[0], "special.expit")
    if inner is not None:
        return _emit(r, node, "special.log_expit", inner.inputs[0])
    ratio = made_by(inputs[0], "divide")  # 1 / (1 + exp(-x))
    if ratio is None or isinstance(ratio.inputs[0], Output) or uniform(ratio.inputs[0]) != 1:
        ratio = made_by(inputs[0], "reciprocal")
    x = None if ratio is None else _exponential(_with_one(made_by(ratio.inputs[-1], "add")))
    return r.inline(lambda xp, x: -xp.logaddexp(x, xp.zeros_like(x)), (x,), node) if _real(r, x) else None


def _log_of_sum_with_one(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x = _with_one(made_by(inputs[0], "add"))
    if not _real(r, x):
        return None
    inner = _exponential(x)
    return _softplus(r, node, inner) if inner is not None else _emit(r, node, "log1p", x)


def _log1p_of_exponential(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = _exponential(inputs[0])
    return None if not _real(r, inner) else _softplus(r, node, inner)


def _softplus(r: Rewriter, node: GraphNode, x: Any) -> Any:
    return r.inline(lambda xp, x: xp.logaddexp(x, xp.zeros((), dtype=x.dtype, device=x.device)), (x,), node)


def _log_of_one_minus(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    rest = made_by(inputs[0], "subtract")
    if rest is None or isinstance(rest.inputs[0], Output) or uniform(rest.inputs[0]) != 1 or not _real(r, rest.inputs[1]):
        return None
    inner = made_by(rest.inputs[1], "special.expit")  # log(1 - sigmoid(x)) = log(sigmoid(-x))
    if inner is not None:
        return _emit(r, node, "special.log_expit", _emit(r, node, "negative", inner.inputs[0]))
    return _emit(r, node, "log1p", _emit(r, node, "negative", rest.inputs[1]))


def _log_of_exponential(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    inner = _exponential(inputs[0])
    return inner if _real(r, inner) and unaliased(r, node, inner) else None


# --- others -------------------------------------------------------------------------------------------------------------------------------
def _exp_minus_one(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    x = _exponential(inputs[0])
    one = not isinstance(inputs[1], Output) and uniform(inputs[1]) == 1
    return _emit(r, node, "expm1", x) if one and _real(r, x) else None


def _hypot(r: Rewriter, node: GraphNode, inputs: tuple[Any, ...]) -> Any:
    total = made_by(inputs[0], "add")
    parts = [] if total is None else [_squared(x) for x in total.inputs]
    if len(parts) != 2 or not all(_real(r, x) for x in parts) or parts[0].spec.dtype != parts[1].spec.dtype:
        return None
    return _emit(r, node, "hypot", *parts)


def _squared(x: Any) -> Any:
    inner = made_by(x, "square", "multiply", "pow")
    if inner is None:
        return None
    if inner.op.name == "square":
        return inner.inputs[0]
    a, b = inner.inputs
    if inner.op.name == "multiply":
        return a if isinstance(a, Output) and a == b else None
    return a if not isinstance(b, Output) and uniform(b) == 2 else None


_Rule = Callable[[Rewriter, GraphNode, tuple[Any, ...]], Any]
_RULES: dict[str, tuple[_Rule, ...]] = {
    "log": (_log_softmax, _log_sum_exp, _log_expit, _log_of_sum_with_one, _log_of_one_minus, _log_of_exponential),
    "log1p": (_log1p_of_exponential,),
    "subtract": (_exp_minus_one,),
    "sqrt": (_hypot,),
}
