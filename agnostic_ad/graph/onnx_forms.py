"""Operations as forms in other operations, for models: where there is no operator of ONNX, or none that is accurate; see `onnx_table`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.ops.special import horner

__all__ = ["DOUBLES", "FORMS"]

FORMS: dict[str, Callable[..., Any]] = {
    "square": lambda xp, x: x * x,
    "log2": lambda xp, x: xp.log(x) / math.log(2),
    "log10": lambda xp, x: xp.log(x) / math.log(10),
    "not_equal": lambda xp, x1, x2: xp.logical_not(x1 == x2),
    "hypot": lambda xp, x1, x2: _hypot(xp, xp.abs(x1), xp.abs(x2)),
    "logaddexp": lambda xp, x1, x2: xp.where(
        x1 == x2, x1 + math.log(2), xp.maximum(x1, x2) + xp.log1p(xp.exp(-xp.abs(xp.where(x1 == x2, x1 * 0, x1 - x2))))
    ),
    "log1p": lambda xp, x: _kahan(xp, 1 + x, x, lambda u: xp.log(u) * x / (u - 1)),
    "expm1": lambda xp, x: _expm1(xp, x),
    "atan2": lambda xp, x1, x2: _atan2(xp, x1, x2),
    "copysign": lambda xp, x1, x2: xp.where(xp.signbit(x2), -xp.abs(x1), xp.abs(x1)),
    "signbit": lambda xp, x: (x < 0) | ((x == 0) & (1 / x < 0)),
    "bitwise_right_shift": lambda xp, x1, x2: xp.floor_divide(x1, xp.bitwise_left_shift(xp.ones_like(x1), x2)),
    "special.erfc": lambda xp, x: _erfc(xp, x),
    "special.ndtr": lambda xp, x: _erfc(xp, x * -math.sqrt(0.5)) / 2,
    "special.log_expit": lambda xp, x: -xp.nn.softplus(-x),
    "special.exp2": lambda xp, x: xp.exp(x * math.log(2)),
    "linalg.vector_norm": lambda xp, x, axis, keepdims, ord: _norm(xp, x, axis, keepdims, ord),
    "var": lambda xp, x, axis, correction, keepdims: _var(xp, x, axis, correction, keepdims),
    "std": lambda xp, x, axis, correction, keepdims: xp.sqrt(_var(xp, x, axis, correction, keepdims)),
    "searchsorted": lambda xp, x1, x2, *, sorter=None, side: _searchsorted(xp, x1 if sorter is None else xp.take(x1, sorter), x2, side),
    "nn.standardize": lambda xp, x, weight=None, bias=None, **how: _standardize(xp, x, weight, bias, **how),
}
"""What is made of other operations here, rather than of an operator, or in another way than where a library lacks it."""

DOUBLES: dict[str, Callable[..., Any] | None] = {
    **dict.fromkeys(("nn.leaky_relu", "nn.hardsigmoid", "nn.hardswish", "nn.softplus", "nn.softsign", "nn.gelu_tanh")),
    "tan": lambda xp, x: xp.sin(x) / xp.cos(x),
    "sinh": lambda xp, x: _sinh(xp, xp.expm1(xp.abs(x))) * xp.sign(x),
    "cosh": lambda xp, x: (xp.exp(x) + xp.exp(-x)) / 2,
    "asinh": lambda xp, x: xp.sign(x) * xp.log1p(xp.abs(x) + x * x / (1 + xp.sqrt(x * x + 1))),
    "acosh": lambda xp, x: xp.log1p(x - 1 + xp.sqrt((x - 1) * (x + 1))),
    "atanh": lambda xp, x: xp.log1p(2 * x / (1 - x)) / 2,
}
"""What ONNX Runtime has an operator for in float32 alone: the form in float64; None for the general one."""


def _hypot(xp: Any, a: Any, b: Any) -> Any:
    large, small = xp.maximum(a, b), xp.minimum(a, b)
    endless = (a == math.inf) | (b == math.inf)  # whatever the other is, NaN included
    t = small / xp.where((large == 0) | endless, xp.ones_like(large), large)
    return xp.where(endless, xp.full_like(large, math.inf), large * xp.sqrt(1 + t * t))


def _kahan(xp: Any, u: Any, x: Any, far: Callable[[Any], Any]) -> Any:
    # W. Kahan's: log(u) x / (u - 1), where u = 1 + x rounds, has the digits of log1p(x)
    same, endless = u == 1, u == math.inf
    return xp.where(same, x, xp.where(endless, u, far(xp.where(same | endless, 2 * xp.ones_like(u), u))))


def _expm1(xp: Any, x: Any) -> Any:
    # exp(x) - 1 = tanh(x / 2) (exp(x) + 1), without the cancellation
    near = xp.abs(x) < 1
    z = xp.where(near, x, xp.zeros_like(x))
    return xp.where(near, xp.tanh(z / 2) * (xp.exp(z) + 1), xp.exp(x) - 1)


def _sinh(xp: Any, e: Any) -> Any:
    return xp.where(e == math.inf, e, (e + e / (e + 1)) / 2)


def _atan2(xp: Any, y: Any, x: Any) -> Any:
    turned = xp.abs(y) > xp.abs(x)
    down, up = xp.where(turned, xp.abs(y), xp.abs(x)), xp.where(turned, xp.abs(x), xp.abs(y))
    one = xp.ones_like(down)
    angle = xp.atan(xp.where((up == math.inf) & (down == math.inf), one, up / xp.where(down == 0, one, down)))
    angle = xp.where(turned, math.pi / 2 - angle, angle)
    return xp.copysign(xp.where(xp.signbit(x), math.pi - angle, angle), y)


_TAIL = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277)
"""Of log(erfc(x) / t) + x^2 in powers of t = 1 / (1 + x / 2), to 1.2e-7 (Press et al., Numerical Recipes, section 6.2)."""


def _erfc(xp: Any, x: Any) -> Any:
    far = x > 2  # where 1 - erf(x) has lost its digits
    z = xp.where(far, x, 2 * xp.ones_like(x))
    t = 1 / (1 + z / 2)
    return xp.where(far, t * xp.exp(horner(t, _TAIL) - z * z), 1 - xp.special.erf(x))


def _norm(xp: Any, x: Any, axis: Any, keepdims: bool, ord: Any) -> Any:
    if ord == 2:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    if ord == 0:
        return xp.sum(xp.astype(x != 0, x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return xp.sum(xp.abs(x), axis=axis, keepdims=keepdims)
    if math.isinf(ord):
        return (xp.max if ord > 0 else xp.min)(xp.abs(x), axis=axis, keepdims=keepdims)
    return xp.sum(xp.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _var(xp: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    away = x - xp.mean(x, axis=axis, keepdims=True)
    if not correction:
        return xp.mean(away * away, axis=axis, keepdims=keepdims)
    count = math.prod(x.shape[a] for a in (range(x.ndim) if axis is None else axis))
    return xp.sum(away * away, axis=axis, keepdims=keepdims) / (count - correction)


def _standardize(xp: Any, x: Any, weight: Any, bias: Any, *, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    # means as an operator: a size that only a run tells is then in no formula
    mean = xp.mean(x, axis=axis, keepdims=True)
    away = x - mean if center else x
    var = xp.mean(away * away, axis=axis, keepdims=True)
    y = away / xp.sqrt(var + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean if center else xp.zeros_like(var), var


def _searchsorted(xp: Any, x1: Any, x2: Any, side: str) -> Any:
    v = xp.expand_dims(x2, axis=-1)
    return xp.sum(xp.astype(x1 < v if side == "left" else x1 <= v, xp.default("indexing")), axis=-1)
