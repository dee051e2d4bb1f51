"""NumPy's own forms of activations: in place, and a block at a time, so that every pass but the first finds its numbers in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from agnostic_ad.backends.base import Backend

_BLOCK = 1 << 15
_RATE = 2 * math.sqrt(2 / math.pi)
SILU, GELU_TANH = (1.0,), (_RATE, _RATE * 0.044715)
# log(Phi(x) / Phi(-x)) / x as a polynomial in the square of x, least squares with weights that level the errors of x Phi(x) for |x| < 5: 7e-8 at most,
# for all x, and 4e-7 in its derivative
GELU = (
    1.595769394874834, 7.266700567029624e-02, -6.535737034608447e-05, -1.107209851745828e-04, 7.969789478665204e-06, -2.688464092365e-07,
    3.6562583668257146e-09,
)  # fmt: skip


class NumpyActivations(Backend):
    """The methods of the NumPy backend for activations. Those that end in ``_pull`` give the derivative times a factor."""

    def special_expit(self, x: Any) -> Any:
        """Give 1 / (1 + exp(-x))."""
        return _sweep(_gate, SILU, _inexact(x))

    def special_log_expit(self, x: Any) -> Any:
        """Give the logarithm of it."""
        return _sweep(_log_gate, (), _inexact(x))

    def nn_softplus(self, x: Any, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
        """Give log(1 + exp(beta x)) / beta."""
        return _sweep(_softplus, (-beta, threshold), x)

    def nn_mish(self, x: Any) -> Any:
        """Give x tanh(softplus(x))."""
        return _sweep(_mish, (2.0, 20.0), x)

    def nn_mish_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Pull back through it."""
        return _sweep(_mish_pull, (2.0, 4.0, 20.0), x, ct)

    def nn_silu(self, x: Any) -> Any:
        """Give x / (1 + exp(-x))."""
        return _sweep(_gated, SILU, x)

    def nn_silu_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Pull back through it."""
        return _sweep(_pull_silu, (), x, ct, self.nn_silu(x) if y is None else y)

    def nn_gelu_tanh(self, x: Any) -> Any:
        """Give x / (1 + exp(-p(x))) with a cubic p."""
        return _sweep(_gated, GELU_TANH, x)

    def nn_gelu_tanh_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Pull back through it."""
        return _sweep(_pull_tanh, (*GELU_TANH, 3.0, 10.0), x, ct)

    def nn_gelu(self, x: Any) -> Any:
        """Give the same with a longer polynomial; in double precision, with SciPy's function."""
        return _sweep(_gated, GELU, x) if x.dtype.itemsize <= 4 else self.fallbacks["nn.gelu"](self, x)

    def nn_gelu_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Pull back through it."""
        return _sweep(_pull_normal, (-0.5, -0.5 * math.log(2 * math.pi)), x, ct, self.nn_gelu(x) if y is None else y)

    def nn_masked(self, x: Any, mask: Any, *, scale: float = 1.0) -> Any:
        """Multiply in place."""
        y = np.multiply(x, mask)
        return np.multiply(y, x.dtype.type(scale), out=y) if y.ndim else y * x.dtype.type(scale)


# --- block by block -----------------------------------------------------------------------------------------------------------------------
@cache
def _numbers(values: tuple[float, ...], dtype: Any) -> tuple[Any, ...]:
    """Give numbers as 0-d arrays, with which NumPy computes in half the time of Python's."""
    return tuple(np.asarray(v, dtype) for v in values)


def _sweep(kernel: Callable[..., None], values: tuple[float, ...], *arrays: Any) -> Any:
    """Compute ``kernel(out, numbers, arrays, t, s)`` block by block: the numbers are 1 and ``values``, and ``t`` and ``s`` memory for a block."""
    x, *others = arrays
    shape, dtype = x.shape, x.dtype
    if any(a.shape != shape or a.dtype != dtype for a in others):
        arrays, dtype = np.broadcast_arrays(*arrays), np.result_type(*arrays)
        shape = arrays[0].shape
    work = np.dtype(np.float32) if dtype == np.float16 else dtype
    numbers, y = _numbers((1.0, *values), work), np.empty(shape, dtype)
    with np.errstate(all="ignore"):  # infinities are what quotients want
        if shape and y.size <= _BLOCK:
            kernel(y, numbers, arrays, np.empty(shape, work), np.empty(shape, work))
            return y
        flat, into = [np.ascontiguousarray(a).reshape(-1) for a in arrays], y.reshape(-1)
        t, s = np.empty((2, min(_BLOCK, into.size)), work)
        for start in range(0, into.size, _BLOCK):
            out, *parts = (a[start : start + _BLOCK] for a in (into, *flat))
            kernel(out, numbers, parts, t[: out.size], s[: out.size])
    return y


def _inexact(x: Any) -> Any:
    """Give an array of floating numbers, as SciPy makes it of integers."""
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def _divisor(numbers: tuple[Any, ...], x: Any, t: Any, s: Any) -> None:
    """Put 1 + exp(-x P(x^2)) into ``t``, where P's coefficients follow a one; and, if there are several, the square into ``s``."""
    one, *rest, last = numbers
    if rest:
        np.multiply(x, x, out=s, dtype=t.dtype)
        np.multiply(s, -last, out=t)
        for c in rest[:0:-1]:
            t -= c
            t *= s
        t -= rest[0]
        t *= x
    else:
        np.multiply(x, -last, out=t, dtype=t.dtype)
    np.exp(t, out=t)
    t += one


def _gate(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    _divisor(numbers, arrays[0], t, s)
    np.divide(numbers[0], t, out=out, casting="same_kind")


def _gated(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    _divisor(numbers, arrays[0], t, s)
    np.divide(arrays[0], t, out=out, casting="same_kind")


def _quotient(x: Any, y: Any, t: Any) -> None:
    """Put the gate, y / x, into ``t``; where x is 0, it is a half."""
    np.divide(y, x, out=t, dtype=t.dtype)
    if np.isnan(np.vdot(t, t)):
        t[x == 0] = 0.5


def _pull_silu(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    # the gate g, and g + y (1 - g)
    x, ct, y = arrays
    _quotient(x, y, t)
    np.subtract(numbers[0], t, out=s)
    s *= y
    s += t
    np.multiply(s, ct, out=out, casting="same_kind")


def _pull_tanh(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    # with p(x) = a x + b x^3 and e = exp(-p), the gate g = 1 / (1 + e), and g (1 + e g x p'); beyond the bounds, that is 0 or 1
    (one, a, b, three, far), (x, ct) = numbers, arrays
    near = np.maximum(np.minimum(x, far, dtype=t.dtype), -far)
    np.multiply(near, near, out=s)
    s *= b
    np.add(s, a, out=t)
    t *= near
    np.negative(t, out=t)
    np.exp(t, out=t)
    s *= three
    s += a
    s *= near
    gate = np.divide(one, np.add(t, one, out=near), out=near)
    t *= gate
    s *= t
    s += one
    s *= gate
    np.multiply(s, ct, out=out, casting="same_kind")


def _pull_normal(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    # the gate, and x times the density of the normal distribution: exp(-x^2/2 + log(1/sqrt(2 pi)))
    (_, half, shift), (x, ct, y) = numbers, arrays
    _quotient(x, y, t)
    np.multiply(x, x, out=s, dtype=t.dtype)
    s *= half
    s += shift
    np.exp(s, out=s)
    s *= x
    s += t
    np.multiply(s, ct, out=out, casting="same_kind")


def _log1p_exp(one: Any, t: Any, s: Any) -> None:
    """Put log(1 + exp(-|t|)) into ``s``, from exp(-|t|) + 1 and what this rounding lost: NumPy's log1p takes several times as long."""
    np.abs(t, out=t)
    np.negative(t, out=t)
    np.exp(t, out=t)
    np.add(t, one, out=s)
    lost = s - one
    lost -= t
    lost /= s
    np.log(s, out=s)
    s -= lost


def _log_gate(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    t[...] = arrays[0]
    _log1p_exp(numbers[0], t, s)
    np.minimum(arrays[0], 0, out=t)
    np.subtract(t, s, out=out, casting="same_kind")


def _softplus(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    (one, minus, threshold), (x,) = numbers, arrays
    np.multiply(x, minus, out=t)
    linear = t < -threshold
    _log1p_exp(one, t, s)
    s /= -minus
    np.maximum(np.multiply(x, -minus, out=t), 0, out=t)
    t /= -minus
    s += t
    np.copyto(s, x, where=linear)
    np.copyto(out, s, casting="same_kind")


def _mish(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    # with e = exp(x) and n = e (e + 2), tanh(softplus(x)) is n / (n + 2): 1 in every precision from x = 20 on
    (_, two, far), (x,) = numbers, arrays
    np.exp(np.minimum(x, far, out=t), out=t)
    np.add(t, two, out=s)
    t *= s
    np.add(t, two, out=s)
    t /= s
    np.multiply(t, x, out=out, casting="same_kind")


def _mish_pull(out: Any, numbers: Any, arrays: Any, t: Any, s: Any) -> None:
    # and its derivative (n + 4 x e (e + 1) / (n + 2)) / (n + 2)
    (one, two, four, far), (x, ct) = numbers, arrays
    np.minimum(x, far, out=t)
    e = np.exp(t)
    n = e * (e + two)
    np.add(n, two, out=s)
    e *= e + one
    e /= s
    t *= four
    t *= e
    t += n
    t /= s
    np.multiply(t, ct, out=out, casting="same_kind")
