"""Incomplete gamma and beta functions, distributions made of them, and logarithms of sums of exponentials; the rest of ``xp.special``.

The derivatives of the incomplete gamma and beta functions with respect to their parameters have no closed form. They are integrals over one
tail of the density, which `_integral` computes to about 1e-12. With respect to the parameters of hyp1f1 there is no rule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.backends.base import Backend
from agnostic_ad.families import MISSING, composite, elementwise, normalize_axes, reduction
from agnostic_ad.levels import device_of
from agnostic_ad.op import TABLE
from agnostic_ad.ops.neural import general
from agnostic_ad.ops.special import normal, rise
from agnostic_ad.samples import Domain, Free, Operand, case

_TINY = 40.0  # e^-40 is nothing beside 1


# --- integrals over tails -----------------------------------------------------------------------------------------------------------------
@functools.cache
def _rule() -> tuple[Any, Any]:
    return np.polynomial.legendre.leggauss(32)


def _integral(xp: Any, exponent: Callable[..., Any], slope: Callable[..., Any], weight: Callable[..., Any], start: Any) -> Any:
    """Give the integral of ``exp(-exponent(s)) weight(s)`` over s > 0, for a convex exponent that is 0 and rises at 0.

    By Gauss and Legendre, between 0, 8, 24, 72 and the place where the exponent is 40: what is not exponential in the integrands below is so
    within a few units of 72 at most. Newton's method comes down to that place from ``start``, which is beyond it.
    """
    end = xp.stop_gradient(start)
    for _ in range(16):
        end = xp.stop_gradient(end - (exponent(end) - _TINY) / slope(end))
    nodes, weights = (xp.asarray(part.tolist(), dtype=end.dtype, device=device_of(end)) for part in _rule())
    total: Any = 0.0
    low = xp.zeros_like(end)
    for bound in (8.0, 24.0, 72.0, math.inf):
        high = xp.minimum(end, bound * xp.ones_like(end))
        half = (high - low) * 0.5
        s = low + half * (nodes + 1)
        total = xp.sum(half * weights * xp.exp(-exponent(s)) * weight(s), axis=-1) + total
        low = high
    return total


def _gamma_parameter(xp: Any, a: Any, x: Any) -> Any:
    """Give the derivative of gammainc with respect to ``a``.

    The integral of log(t) - digamma(a) times the density over t < x, or its negative over t > x, with t = x e^-s or x e^s. For t < x,
    digamma(a) = digamma(a + 1) - 1/a, and the part with 1/a is integrated by parts: for small ``a`` it would cancel.
    """
    a, x = a + xp.zeros_like(x), x + xp.zeros_like(a)
    inside = (a > 0) & (x > 0) & (x < math.inf)
    a, x = xp.where(inside, a, xp.ones_like(a)), xp.where(inside, x, xp.ones_like(x))
    front = xp.exp(a * xp.log(x) - x - xp.special.gammaln(a))
    a, x = xp.expand_dims(a, axis=-1), xp.expand_dims(x, axis=-1)
    left = x <= a
    one = xp.ones_like(x)
    side = xp.where(left, one, -one)
    mean = xp.log(x) - xp.special.digamma(xp.where(left, a + 1, a))

    def exponent(s: Any) -> Any:
        return side * a * s + x * xp.expm1(-side * s)

    def slope(s: Any) -> Any:
        return side * (a - x * xp.exp(-side * s))

    def weight(s: Any) -> Any:
        return mean + xp.where(left, -s * x * xp.exp(-side * s) / a, s)

    gap = xp.abs(a - x)
    near = 2 * _TINY / (gap + xp.sqrt(gap * gap + _TINY * x))
    beyond = xp.where(left, (_TINY + x) / a, xp.log1p(2 * _TINY / x) + 2)  # where e^s overflows in no precision
    start = xp.where(left & (near <= 1.5), near, xp.where(left, beyond, xp.minimum(near, beyond)))
    total = front * _integral(xp, exponent, slope, weight, start)
    return xp.where(inside, xp.squeeze(side, axis=-1) * total, xp.zeros_like(total))


def _beta_parameter(xp: Any, a: Any, b: Any, x: Any, rest: Any) -> Any:
    """Give the derivative of betainc with respect to ``a``; ``rest`` is 1 - x.

    As for gamma, over the lower tail of t, or that of 1 - t; of one and of its parameters here ``x``, ``a`` and ``b`` are.
    """
    zero = 0 * (a + b + x)
    a, b, x, rest = a + zero, b + zero, x + zero, rest + zero
    inside = (a > 0) & (b > 0) & (x > 0) & (rest > 0)
    a, b, x, rest = (xp.where(inside, v, one) for v, one in ((a, zero + 1), (b, zero + 1), (x, zero + 0.5), (rest, zero + 0.5)))
    front = xp.exp(a * xp.log(x) + b * xp.log(rest) - xp.special.betaln(a, b))
    mean = rise(xp, a, b)
    left = xp.expand_dims(b * x <= a * rest, axis=-1)
    inner = rise(xp, a + 1, b - 1)
    a, b, x, rest, mean, inner = (xp.expand_dims(v, axis=-1) for v in (a, b, x, rest, mean, inner))
    total, a, x = a + b, xp.where(left, a, b), xp.where(left, x, rest)

    def exponent(s: Any) -> Any:
        return a * s + total * xp.log1p(x * xp.expm1(-s))

    def below(s: Any) -> Any:
        return x * xp.exp(-s) / (1 + x * xp.expm1(-s))

    def slope(s: Any) -> Any:
        return a - total * below(s)

    def weight(s: Any) -> Any:
        t = below(s)
        return xp.where(left, xp.log(x) - xp.log1p(x * xp.expm1(-s)) - s * total * t / a + inner, xp.log1p(-t) + mean)

    start = (_TINY - total * xp.log1p(-x)) / a
    found = front * _integral(xp, exponent, slope, weight, start)
    found = xp.where(xp.squeeze(left, axis=-1), found, -found)
    return xp.where(inside, found, xp.zeros_like(found))


# --- incomplete gamma and beta functions --------------------------------------------------------------------------------------------------
def _gamma_density(xp: Any, a: Any, x: Any) -> Any:
    end = x == math.inf
    x = xp.where(end, xp.ones_like(x), x)
    y = xp.exp(xp.special.xlogy(a - 1, x) - x - xp.special.gammaln(a))
    return xp.where(end, xp.zeros_like(y), y)


def _beta_density(xp: Any, a: Any, b: Any, x: Any) -> Any:
    return xp.exp(xp.special.xlogy(a - 1, x) + xp.special.xlog1py(b - 1, -x) - xp.special.betaln(a, b))


_AX: dict[str, Any] = {"signature": "a, x, /", "domain": ((0.5, 3.0), (0.5, 3.0)), "kinds": "f"}
gammainc = elementwise("special.gammainc", _gamma_parameter, _gamma_density, **_AX)
gammaincc = elementwise(
    "special.gammaincc", lambda xp, a, x: -_gamma_parameter(xp, a, x), lambda xp, a, x: -_gamma_density(xp, a, x), **_AX
)
betainc = elementwise(
    "special.betainc",
    lambda xp, a, b, x: _beta_parameter(xp, a, b, x, 1 - x),
    lambda xp, a, b, x: -_beta_parameter(xp, b, a, 1 - x, x),
    _beta_density,
    signature="a, b, x, /",
    domain=((0.5, 3.0), (0.5, 3.0), (0.1, 0.9)),
    kinds="f",
)
hyp1f1 = elementwise(
    "special.hyp1f1",
    MISSING,
    MISSING,
    lambda xp, a, b, x: a / b * xp.special.hyp1f1(a + 1, b + 1, x),
    signature="a, b, x, /",
)
hyp1f1.cases = [case(0.5, 1.5, (2, 3), kinds="f"), case(2, 2.5, (), kinds="f")]


# --- distributions ------------------------------------------------------------------------------------------------------------------------
_VX: dict[str, Any] = {"cases": gammainc.cases, "scalars": True}


@composite("special.chdtr", "v, x, /", ["v", "x"], **_VX)
def chdtr(xp: Any, v: Any, x: Any) -> Any:
    """Give the distribution function of the chi-square distribution with ``v`` degrees of freedom."""
    return xp.special.gammainc(v / 2, x / 2)


@composite("special.chdtrc", "v, x, /", ["v", "x"], **_VX)
def chdtrc(xp: Any, v: Any, x: Any) -> Any:
    """Give 1 minus the distribution function of the chi-square distribution with ``v`` degrees of freedom."""
    return xp.special.gammaincc(v / 2, x / 2)


_F: dict[str, Any] = {
    "cases": [
        case(2, 3.5, Operand((2, 3), Domain(0.2, 3.0)), kinds="f"),
        case(3, 4, Operand((), Domain(0.2, 3.0)), kinds="f"),
        case(Operand((3,), Domain(1.0, 4.0)), Operand((2, 1), Domain(1.0, 4.0)), Operand((2, 3), Domain(0.2, 3.0)), kinds="f"),
    ],
    "scalars": True,
}


@composite("special.fdtr", "dfn, dfd, x, /", ["dfn", "dfd", "x"], **_F)
def fdtr(xp: Any, dfn: Any, dfd: Any, x: Any) -> Any:
    """Give the distribution function of the F distribution with ``dfn`` and ``dfd`` degrees of freedom."""
    return xp.special.betainc(dfn / 2, dfd / 2, dfn * x / (dfd + dfn * x))


@composite("special.fdtrc", "dfn, dfd, x, /", ["dfn", "dfd", "x"], **_F)
def fdtrc(xp: Any, dfn: Any, dfd: Any, x: Any) -> Any:
    """Give 1 minus the distribution function of the F distribution with ``dfn`` and ``dfd`` degrees of freedom."""
    return xp.special.betainc(dfd / 2, dfn / 2, dfd / (dfd + dfn * x))


def _student_density(xp: Any, df: Any, t: Any) -> Any:
    end = df == math.inf
    df = xp.where(end, xp.ones_like(df), df)
    half = df / 2
    y = xp.exp(-(half + 0.5) * xp.log1p(t * t / df) - xp.special.betaln(half, 0.5 * xp.ones_like(half))) / xp.sqrt(df)
    return xp.where(end, normal(xp, t), y)


def _student_parameter(xp: Any, df: Any, t: Any) -> Any:
    """Give the derivative of stdtr with respect to ``df``: stdtr(df, t) is half of betainc(df/2, 1/2, df / (df + t^2)) for t < 0."""
    end = df == math.inf
    df = xp.where(end, xp.ones_like(df), df)
    half, square = df / 2, t * t
    tail = _beta_parameter(xp, half, 0.5 * xp.ones_like(half), df / (df + square), square / (df + square))
    y = xp.sign(t) * tail * -0.25 - t / (2 * df) * _student_density(xp, df, t)
    return xp.where(end, xp.zeros_like(y), y)


stdtr = elementwise(
    "special.stdtr",
    _student_parameter,
    _student_density,
    signature="df, t, /",
    domain=((1.0, 6.0), (0.2, 3.0, True)),
    kinds="f",
)
stdtrit = elementwise(
    "special.stdtrit",
    lambda xp, ct, df, y: -ct * _student_parameter(xp, df, y) / _student_density(xp, df, y),
    lambda xp, ct, df, y: ct / _student_density(xp, df, y),
    signature="df, p, /",
    domain=((1.0, 6.0), (0.55, 0.9)),
    kinds="f",
)


# --- logarithms of sums of exponentials ---------------------------------------------------------------------------------------------------
def _share(xp: Any, x: Any, y: Any) -> Any:
    nothing = y == -math.inf  # no element has a share in the sum
    return xp.where(nothing, xp.zeros_like(x), xp.exp(x - xp.where(nothing, xp.zeros_like(y), y)))


nn_logsumexp = reduction("nn.logsumexp", _share, kinds="f")


@general("nn.logsumexp")
def _logsumexp(xp: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    axis = normalize_axes(axis, x.ndim, "logsumexp")
    if any(x.shape[a] == 0 for a in axis):
        return xp.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype) - math.inf
    top = xp.max(x, axis=axis, keepdims=True)
    finite = xp.isfinite(top)
    shift = xp.where(finite, top, xp.zeros_like(top))
    first = x == shift
    count = xp.sum(xp.astype(first, x.dtype), axis=axis, keepdims=True)
    count = xp.where(finite, count, xp.ones_like(count))
    others = xp.sum(xp.where(first, xp.zeros_like(x), xp.exp(x - shift)), axis=axis, keepdims=True)
    y = xp.where(finite, top + (xp.log(count) + xp.log1p(others / count)), top)
    return y if keepdims or not axis else xp.squeeze(y, axis=axis)


_A = Operand((2, 3), Domain(-3.0, 3.0))
_B = Operand((3,), Domain(0.2, 3.0))
_LOGSUMEXP = [case(_A, None, kinds="f"), case(_A, None, kinds="f", axis=(0, -1), keepdims=True), case(_A, _B, kinds="f", axis=-1)]
_LOGSUMEXP += [case(_A, 0.5, kinds="f", axis=0), case((), None, kinds="f"), case((0, 2), None, kinds="f", axis=1)]


@composite("special.logsumexp", "a, axis=None, b=None, keepdims=False, return_sign=False", ["a", "b"], cases=_LOGSUMEXP, scalars=True)
def logsumexp(xp: Any, a: Any, b: Any = None, *, axis: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """Give ``log(sum(b * exp(a)))`` over some axes, without overflow.

    Parameters
    ----------
    a : array
        Exponents, real.
    axis : int, tuple of int or None
        The axes to sum over; None for all.
    b : array or number, optional
        Weights that broadcast with ``a``. A weight of 0 hides its exponent, be that infinite or NaN.
    keepdims : bool
        Whether to keep these axes, with size 1.
    return_sign : bool
        Whether to give the logarithm of the absolute value, and the sign, in place of NaN where the sum is negative.

    Returns
    -------
    array, or (array, array)
        The logarithm; -inf, with derivative 0, where the sum is zero or of nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> special = ad.differentiable(np).special
    >>> ad.grad(lambda a: special.logsumexp(a, b=np.asarray([3.0, 1.0])))(np.asarray([800.0, 800.0]))
    array([0.75, 0.25])
    """
    if b is None:
        y = xp.nn.logsumexp(a, axis=axis, keepdims=keepdims)
        return (y, xp.where(y == -math.inf, xp.zeros_like(y), xp.where(y == y, xp.ones_like(y), y))) if return_sign else y
    a = a + xp.zeros_like(b)
    axis = normalize_axes(axis, a.ndim, "logsumexp")
    if any(a.shape[i] == 0 for i in axis):
        total = shift = xp.sum(a, axis=axis, keepdims=True, dtype=a.dtype)
    else:
        top = xp.max(xp.stop_gradient(xp.where(b != 0, a, -math.inf * xp.ones_like(a))), axis=axis, keepdims=True)
        shift = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
        raised = a - shift
        raised = xp.where((b != 0) | (raised < 80), raised, 80 * xp.ones_like(raised))  # where weightless, not to overflow
        total = xp.sum(b * xp.exp(raised), axis=axis, keepdims=True)
    nothing = total == 0
    y = shift + xp.log(xp.abs(xp.where(nothing, xp.ones_like(total), total)))
    y = xp.where(nothing, -math.inf * xp.ones_like(y), y)
    if not return_sign:
        y = xp.where(total < 0, math.nan * xp.ones_like(y), y)
    sign = xp.sign(total)
    if axis and not keepdims:
        y, sign = xp.squeeze(y, axis=axis), xp.squeeze(sign, axis=axis)
    return (y, sign) if return_sign else y


def _along(xp: Any, f: Any, x: Any, axis: Any) -> Any:
    """Call a function along one axis along several, or all for None."""
    axes = normalize_axes(axis, x.ndim, "softmax")
    if any(n == 0 for n in x.shape):
        return x
    if len(axes) == 1:
        return f(x, axis=axes[0])
    order = tuple(i for i in range(x.ndim) if i not in axes) + axes
    moved = xp.permute_dims(x, order)
    rest = moved.shape[: x.ndim - len(axes)]
    y = f(xp.reshape(moved, (*rest, math.prod(x.shape[i] for i in axes))), axis=-1)
    return xp.permute_dims(xp.reshape(y, moved.shape), tuple(order.index(i) for i in range(x.ndim)))


_SOFTMAX: dict[str, Any] = {
    "signature": "x, axis=None",
    "arrays": ["x"],
    "cases": [
        case((2, 3), kinds="f", free=Free("same", {"axis": "axes?"}, empty=False)),
        case((2, 3, 2), kinds="f", axis=(0, -1)),
        case((2, 3), kinds="f", axis=-2),
        case((), kinds="f"),
    ],
}


@composite("special.softmax", **_SOFTMAX)
def softmax(xp: Any, x: Any, *, axis: Any = None) -> Any:
    """Give ``exp(x)`` divided by its sum over some axes, or all; NaN where all of ``x`` there is -inf."""
    return _along(xp, xp.nn.softmax, x, axis)


@composite("special.log_softmax", **_SOFTMAX)
def log_softmax(xp: Any, x: Any, *, axis: Any = None) -> Any:
    """Give the logarithm of `softmax`."""
    return _along(xp, xp.nn.log_softmax, x, axis)


# --- through the host, what a library has not and no formula above gives ------------------------------------------------------------------
def _from_scipy(name: str, xp: Any, *args: Any) -> Any:
    return xp.from_scipy(name, *args)


for _name in [name for name in TABLE if name.startswith("special.")]:
    Backend.fallbacks.setdefault(_name, functools.partial(_from_scipy, _name.partition(".")[2]))
Backend.fallbacks["special.hurwitz"] = Backend.fallbacks.pop("special.zeta")  # zeta itself is a method of every backend
