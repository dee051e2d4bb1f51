"""Activations: elementwise functions whose closed-form derivative takes one record, and saves the operand alone.

Values where there is no derivative are PyTorch's: relu, leaky_relu and the bends of hardtanh, hardsigmoid, threshold, hardshrink and softshrink give
what lies on their flat side (leaky_relu that of negative numbers), elu the slope from the left, hardswish 0 at -3 and 1 at 3.

silu, gelu, gelu_tanh and mish have a second operation each, ``*_pull``: the derivative times a factor, which a library may compute in one pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agnostic_ad.families import elementwise
from agnostic_ad.levels import device_of
from agnostic_ad.op import Op
from agnostic_ad.ops.neural import general
from agnostic_ad.ops.special import normal
from agnostic_ad.random import default_generator
from agnostic_ad.samples import Domain, Operand, case, elementwise_cases

_SMOOTH = (-3.0, 3.0)
_FAR = Operand((2, 3), Domain(3.2, 60.0, True))


def constant(xp: Any, x: Any, value: float) -> Any:
    """Give a number as a 0-d array like ``x``."""
    return xp.full((), value, dtype=x.dtype, device=device_of(x))


def _mask(xp: Any, condition: Any, x: Any) -> Any:
    return xp.astype(condition, x.dtype)


def _either(xp: Any, condition: Any, x: Any, yes: float, no: Any) -> Any:
    """Give ``yes`` where the condition holds and ``no`` elsewhere; products, which take a tenth of a choice's time in NumPy."""
    return _mask(xp, condition, x) * yes + _mask(xp, ~condition, x) * no


def _limit(xp: Any, x: Any, low: float, high: float) -> Any:
    return xp.minimum(xp.maximum(x, constant(xp, x, low)), constant(xp, x, high))


# --- bent lines -------------------------------------------------------------------------------------------------------------------------
leaky_relu = elementwise(
    "nn.leaky_relu",
    lambda xp, x, slope: _either(xp, x > 0, x, 1.0, slope),
    signature="x, /, *, slope=0.01",
    domain=(0.2, 3.0, True),
    kinds="f",
)
leaky_relu.cases = [*leaky_relu.cases, *(case(Operand((2, 3), Domain(0.2, 3.0, True)), kinds="f", slope=s) for s in (1.5, -0.5))]


@general("nn.leaky_relu")
def _leaky_relu(xp: Any, x: Any, *, slope: float = 0.01) -> Any:
    return (xp.maximum if slope <= 1 else xp.minimum)(x, x * slope)


prelu = elementwise(
    "nn.prelu",
    lambda xp, x1, x2: _either(xp, x1 > 0, x1, 1.0, x2),
    lambda xp, x1: xp.minimum(x1, constant(xp, x1, 0.0)),
    domain=(0.2, 3.0, True),
    kinds="f",
)


@general("nn.prelu")
def _prelu(xp: Any, x1: Any, x2: Any) -> Any:
    zero = constant(xp, x1, 0.0)
    return xp.maximum(x1, zero) + x2 * xp.minimum(x1, zero)


hardtanh = elementwise(
    "nn.hardtanh",
    lambda xp, y, low, high: _mask(xp, (y > low) & (y < high), y),
    signature="x, /, *, low=-1.0, high=1.0",
    domain=(0.1, 0.9, True),
    kinds="f",
)
hardtanh.cases = [*hardtanh.cases, case(_FAR, kinds="f"), case((2, 3), kinds="f", low=-4.0, high=3.5)]


@general("nn.hardtanh")
def _hardtanh(xp: Any, x: Any, *, low: float = -1.0, high: float = 1.0) -> Any:
    return _limit(xp, x, low, high)


threshold = elementwise(
    "nn.threshold",
    lambda xp, x, at: _mask(xp, ~(x <= at), x),
    signature="x, /, *, at=0.0, value=0.0",
    domain=(0.2, 3.0, True),
    kinds="f",
)
threshold.cases = [*threshold.cases, case((2, 3), kinds="f", at=-3.5, value=20.0), case((2, 3), kinds="f", at=3.5, value=20.0)]


@general("nn.threshold")
def _threshold(xp: Any, x: Any, *, at: float = 0.0, value: float = 0.0) -> Any:
    return xp.where(x <= at, constant(xp, x, value), x)


def _outside(xp: Any, x: Any, bound: float) -> Any:
    return _mask(xp, ~((x >= -bound) & (x <= bound)), x)


hardshrink = elementwise("nn.hardshrink", _outside, signature="x, /, *, bound=0.5", domain=(0.6, 3.0, True), kinds="f")
softshrink = elementwise("nn.softshrink", _outside, signature="x, /, *, bound=0.5", domain=(0.6, 3.0, True), kinds="f")
for _op in (hardshrink, softshrink):
    _op.cases = [*_op.cases, case((2, 3), kinds="f", bound=3.5), case(Operand((2, 3), Domain(0.2, 3.0, True)), kinds="f", bound=0.0)]


@general("nn.hardshrink")
def _hardshrink(xp: Any, x: Any, *, bound: float = 0.5) -> Any:
    return x * _outside(xp, x, bound)


@general("nn.softshrink")
def _softshrink(xp: Any, x: Any, *, bound: float = 0.5) -> Any:
    return x - _limit(xp, x, -bound, bound)


hardsigmoid = elementwise("nn.hardsigmoid", lambda xp, x: _mask(xp, (x > -3) & (x < 3), x) / 6, domain=(-2.9, 2.9), kinds="f")
hardswish = elementwise(
    "nn.hardswish",
    lambda xp, x: _either(xp, x >= 3, x, 1.0, _mask(xp, x > -3, x) * (_limit(xp, x, -3.0, 3.0) / 3 + 0.5)),
    domain=(-2.9, 2.9),
    kinds="f",
)
for _op in (hardsigmoid, hardswish):
    _op.cases = [*_op.cases, case(_FAR, kinds="f")]


@general("nn.hardsigmoid")
def _hardsigmoid(xp: Any, x: Any) -> Any:
    return _limit(xp, x + 3, 0.0, 6.0) / 6


@general("nn.hardswish")
def _hardswish(xp: Any, x: Any) -> Any:
    return x * xp.nn.hardsigmoid(x)


# --- smooth ones ------------------------------------------------------------------------------------------------------------------------
def _elu_slope(xp: Any, x: Any, alpha: float, scale: float, rate: float) -> Any:
    y, left = xp.exp(xp.minimum(x, constant(xp, x, 0.0)) * rate), alpha * scale * rate
    return y if left == scale == 1.0 else y * left + _mask(xp, x > 0, x) * (scale - left)


elu = elementwise(
    "nn.elu",
    _elu_slope,
    signature="x, /, *, alpha=1.0, scale=1.0, rate=1.0",
    domain=(0.2, 3.0, True),
    kinds="f",
)
elu.cases = [*elu.cases, case(Operand((2, 3), Domain(0.2, 3.0, True)), kinds="f", alpha=1.5, scale=0.7, rate=0.4)]
elu.cases = [*elu.cases, case(Operand((3,), Domain(0.2, 3.0, True)), kinds="f", scale=2.0)]


@general("nn.elu")
def _elu(xp: Any, x: Any, *, alpha: float = 1.0, scale: float = 1.0, rate: float = 1.0) -> Any:
    zero = constant(xp, x, 0.0)
    return xp.maximum(x, zero) * scale + xp.expm1(xp.minimum(x, zero) * rate) * (alpha * scale)


softplus = elementwise(
    "nn.softplus",
    lambda xp, ct, x, beta, threshold: xp.where(x * beta > threshold, ct, ct * xp.special.expit(x * beta)),
    signature="x, /, *, beta=1.0, threshold=20.0",
    domain=_SMOOTH,
    kinds="f",
)
softplus.cases = [*softplus.cases, case(_FAR, kinds="f"), case((2, 3), kinds="f", beta=3.0, threshold=4.0)]


@general("nn.softplus")
def _softplus(xp: Any, x: Any, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    z = x * beta
    return xp.where(z > threshold, x, (xp.maximum(z, constant(xp, x, 0.0)) + xp.log1p(xp.exp(-xp.abs(z)))) / beta)


def _softsign_slope(xp: Any, x: Any) -> Any:
    y = 1 / (xp.abs(x) + 1)
    return y * y


softsign = elementwise("nn.softsign", _softsign_slope, domain=(0.2, 3.0, True), kinds="f")


@general("nn.softsign")
def _softsign(xp: Any, x: Any) -> Any:
    return x / (xp.abs(x) + 1)


# --- gates with a pass of their own for the way back --------------------------------------------------------------------------------------
def _gate(name: str, slope: Callable[..., Any], curvature: Callable[..., Any]) -> tuple[Op, Op]:
    """Make an operation, and that of its derivative times a factor, which may be told the operation's result to save work."""
    pull = elementwise(
        f"nn.{name}_pull",
        lambda xp, ct, x2, x3: getattr(xp.nn, f"{name}_pull")(ct, x2, x3),
        lambda xp, ct, x1, x2: ct * x1 * curvature(xp, x2),
        None,
        signature="x1, x2, x3=None, /",
        kinds="f",
    )
    pull.cases = [replace(each, operands=(*each.operands, None), free=None) for each in elementwise_cases(2, _SMOOTH, "f")]
    general(f"nn.{name}_pull")(lambda xp, x1, x2, x3=None: x1 * slope(xp, x2))
    op = elementwise(f"nn.{name}", lambda xp, ct, x, y: getattr(xp.nn, f"{name}_pull")(ct, x, y), domain=_SMOOTH, kinds="f")
    return op, pull


def _silu_slope(xp: Any, x: Any) -> Any:
    s = xp.special.expit(x)
    return s * (1 + x * (1 - s))


def _silu_curvature(xp: Any, x: Any) -> Any:
    s = xp.special.expit(x)
    return s * (1 - s) * (2 + x * (1 - 2 * s))


silu, silu_pull = _gate("silu", _silu_slope, _silu_curvature)
gelu, gelu_pull = _gate(
    "gelu",
    lambda xp, x: xp.special.ndtr(x) + x * normal(xp, x),
    lambda xp, x: normal(xp, x) * (2 - x * x),
)


def _mish_gate(xp: Any, x: Any) -> tuple[Any, Any]:
    """Give tanh(softplus(x)), and what is missing to one, from exp(-|x|), which never overflows."""
    e = xp.exp(-xp.abs(x))
    right = x > 0
    n = xp.where(right, 1 + 2 * e, e * (e + 2))
    rest = 2 * xp.where(right, e * e, xp.ones_like(e))
    return n / (n + rest), rest / (n + rest)


def _mish_slope(xp: Any, x: Any) -> Any:
    gate, rest = _mish_gate(xp, x)
    return gate + x * xp.special.expit(x) * rest * (1 + gate)


def _mish_curvature(xp: Any, x: Any) -> Any:
    gate, rest = _mish_gate(xp, x)
    s = xp.special.expit(x)
    return s * rest * (1 + gate) * (2 + x * (1 - s - 2 * gate * s))


mish, mish_pull = _gate("mish", _mish_slope, _mish_curvature)

_RATE, _CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _tanh_gate(xp: Any, x: Any) -> tuple[Any, Any]:
    """Give the gate's argument, and its derivative; the bounds are where the gate is 0 or 1 in any dtype."""
    x = _limit(xp, x, -14.0, 14.0)
    return _RATE * (x + _CUBE * x * x * x), _RATE * (1 + 3 * _CUBE * x * x)


def _gelu_tanh_slope(xp: Any, x: Any) -> Any:
    z, rate = _tanh_gate(xp, x)
    s = xp.special.expit(z)
    return s + x * s * (1 - s) * rate


def _gelu_tanh_curvature(xp: Any, x: Any) -> Any:
    z, rate = _tanh_gate(xp, x)
    s, rest = xp.special.expit(z), xp.special.expit(-z)  # 1 - s has few digits where s is nearly one
    return s * rest * (2 * rate + x * ((rest - s) * rate * rate + 6 * _CUBE * _RATE * _limit(xp, x, -14.0, 14.0)))


gelu_tanh, gelu_tanh_pull = _gate("gelu_tanh", _gelu_tanh_slope, _gelu_tanh_curvature)


@general("nn.mish")
def _mish(xp: Any, x: Any) -> Any:
    return x * _mish_gate(xp, x)[0]


@general("nn.silu")
def _silu(xp: Any, x: Any) -> Any:
    return x * xp.special.expit(x)


@general("nn.gelu")
def _gelu(xp: Any, x: Any) -> Any:
    return x * xp.special.ndtr(x)


@general("nn.gelu_tanh")
def _gelu_tanh(xp: Any, x: Any) -> Any:
    return x * xp.special.expit(_tanh_gate(xp, x)[0])


# --- chance -----------------------------------------------------------------------------------------------------------------------------
# Drawn on the host, from the default generator, for the whole of what is there: a batch of `vmap` gets what it would get without it.
keep = elementwise("nn.keep", signature="x, /, *, p=1.0", result="bool", kinds="f")
keep.cases = [*keep.cases, case((2, 3), kinds="f", p=0.0)]  # nothing else of it is the same on every call
noise = elementwise("nn.noise", None, signature="x, /, *, kind='uniform', low=0.5, high=0.5", result="first", kinds="f")

masked = elementwise(
    "nn.masked",
    lambda xp, ct, mask, scale: xp.nn.masked(ct, mask, scale=scale),
    None,
    signature="x, mask, /, *, scale=1.0",
    result="first",
    kinds="f",
)
masked.cases = [
    case((2, 3), Operand((2, 3), kind="b"), kinds="f", scale=2.0),
    case((2, 3), Operand((2, 1), kind="b"), kinds="f"),
    case((), Operand((), kind="b"), kinds="f", scale=0.0),
    case((0, 2), Operand((0, 2), kind="b"), kinds="f"),
]


@general("nn.keep")
def _keep(xp: Any, x: Any, *, p: float = 1.0) -> Any:
    return xp.from_numpy(default_generator.bernoulli(tuple(x.shape), p), device_of(x))


@general("nn.noise")
def _noise(xp: Any, x: Any, *, kind: str = "uniform", low: float = 0.5, high: float = 0.5) -> Any:
    shape = tuple(x.shape)
    drawn = default_generator.gumbel(shape) if kind == "gumbel" else getattr(default_generator, kind)(shape, low, high)
    return xp.astype(xp.from_numpy(drawn, device_of(x)), x.dtype)


@general("nn.masked")
def _masked(xp: Any, x: Any, mask: Any, *, scale: float = 1.0) -> Any:
    return x * xp.astype(mask, x.dtype) * scale
