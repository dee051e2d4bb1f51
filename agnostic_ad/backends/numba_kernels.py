"""Loops for Numba to compile: what NumPy does in several passes over memory, done in one.

They compute what the methods of `agnostic_ad.backends.numpy_normalization` and its neighbours compute; the formulas are told there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload

__all__ = ["add_up", "channels", "channels_pull", "compiled", "compiled_here", "exp", "log", "rows", "rows_pull", "tanh"]


def _compiler(cache: bool, *liberties: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    options = {"cache": cache, "error_model": "numpy", "fastmath": {"contract", *liberties}, "nogil": True}
    return numba.njit(**options)  # type: ignore[no-any-return]


compiled = _compiler(True)
"""Compile a function for the types that it meets, and keep that for later processes."""
compiled_here = _compiler(False)
"""Compile for this process alone."""
summing = _compiler(True, "nsz", "reassoc")
"""Compile a function that sums. Sums may be taken in any order, for only then can they be taken several numbers at a time; but not Numba's
``fastmath=True``, which also supposes that there are no infinities and no NaN."""


def exp(x: Any) -> Any:
    """Exponentiate, in a form that the compiler makes vectors of, to 1.6 units in the last place."""
    raise NotImplementedError("inside compiled functions only")


def log(x: Any) -> Any:
    """Give the natural logarithm: in single precision likewise, to one unit."""
    raise NotImplementedError("inside compiled functions only")


def tanh(x: Any) -> Any:
    """Give the hyperbolic tangent, likewise: in single precision to 4 units, else to 2.5."""
    raise NotImplementedError("inside compiled functions only")


_STRICT: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}


# The polynomials have the least error of their degrees (Cephes library, S. L. Moshier); log(2) comes in two parts.
@overload(exp, jit_options=_STRICT)  # type: ignore[untyped-decorator]
def _exp(x: Any) -> Any:
    # 2^n e^r with |r| <= log(2) / 2; the power in two steps: 2^128 is no number, and 2^-140 a small one
    def long(x: Any) -> Any:
        x = -746.0 if x < -746.0 else x
        x = 709.8 if x > 709.8 else x
        n = np.floor(x * 1.4426950408889634 + 0.5)
        r = x - n * 6.93145751953125e-1 - n * 1.42860682030941723212e-6
        z = r * r
        p = ((1.26177193074810590878e-4 * z + 3.02994407707441961300e-2) * z + 1.0) * r
        q = ((3.00198505138664455042e-6 * z + 2.52448340349684104192e-3) * z + 2.27265548208155028766e-1) * z + 2.0
        n = n if n == n else 0.0  # no integer stands for NaN
        half = np.int64(np.int32(n) >> 1)
        low = np.int64((half + 1023) << 52).view(np.float64)
        high = np.int64((np.int64(np.int32(n)) - half + 1023) << 52).view(np.float64)
        return (1.0 + 2.0 * p / (q - p)) * low * high

    def short(x: Any) -> Any:
        x = np.float32(-104.0) if x < np.float32(-104.0) else x
        x = np.float32(88.73) if x > np.float32(88.73) else x
        n = np.floor(x * np.float32(1.44269504088896341) + np.float32(0.5))
        r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        half = np.int32(np.int32(n) >> 1)
        low = np.int32((half + 127) << 23).view(np.float32)
        high = np.int32((np.int32(n) - half + 127) << 23).view(np.float32)
        return (p * r * r + r + np.float32(1.0)) * low * high

    return short if x == numba.types.float32 else long


@overload(log, jit_options=_STRICT)  # type: ignore[untyped-decorator]
def _log(x: Any) -> Any:
    def long(x: Any) -> Any:
        return math.log(x)

    # the logarithm of a fraction between sqrt(1/2) and sqrt(2), and of the power of two that it is scaled by
    def short(x: Any) -> Any:
        small = x < np.float32(1.17549435e-38)
        bits = np.float32(x * np.float32(8388608.0) if small else x).view(np.int32)
        bits = np.int32(bits - 0x3F3504F3)
        e = np.float32(bits >> 23) - (np.float32(23.0) if small else np.float32(0.0))
        m = np.int32((bits & 0x007FFFFF) + 0x3F3504F3).view(np.float32) - np.float32(1.0)
        p = np.float32(7.0376836292e-2)
        p = p * m + np.float32(-1.1514610310e-1)
        p = p * m + np.float32(1.1676998740e-1)
        p = p * m + np.float32(-1.2420140846e-1)
        p = p * m + np.float32(1.4249322787e-1)
        p = p * m + np.float32(-1.6668057665e-1)
        p = p * m + np.float32(2.0000714765e-1)
        p = p * m + np.float32(-2.4999993993e-1)
        p = p * m + np.float32(3.3333331174e-1)
        z = m * m
        y = m + (p * m * z - e * np.float32(2.12194440e-4) - np.float32(0.5) * z) + e * np.float32(0.693359375)
        y = y if x < np.float32(np.inf) else x  # infinity, and NaN
        y = np.float32(np.nan) if x < np.float32(0.0) else y
        return np.float32(-np.inf) if x == np.float32(0.0) else y

    return short if x == numba.types.float32 else long


@overload(tanh, jit_options=_STRICT)  # type: ignore[untyped-decorator]
def _tanh(x: Any) -> Any:
    # in double precision 1 - 2 / (1 + exp(2 |x|)), and near zero, where that cancels, a quotient of polynomials
    def long(x: Any) -> Any:
        z = x * x
        p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3
        q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3
        far = np.copysign(1.0 - 2.0 / (1.0 + exp(2.0 * abs(x))), x)
        return x * (1.0 + z * (p / q)) if abs(x) < 0.625 else far

    # in single precision one quotient of polynomials, of least relative error up to where the tangent is one
    def short(x: Any) -> Any:
        x = np.float32(-8.8) if x < np.float32(-8.8) else x
        x = np.float32(8.8) if x > np.float32(8.8) else x
        z = x * x
        p = np.float32(1.841439e-08)
        p = p * z + np.float32(2.80171353e-05)
        p = p * z + np.float32(4.71456582e-03)
        p = p * z + np.float32(1.79852173e-01)
        p = p * z + np.float32(1.3427794)
        q = np.float32(1.06381412e-06)
        q = q * z + np.float32(4.44591336e-04)
        q = q * z + np.float32(3.48259732e-02)
        q = q * z + np.float32(6.27445102e-01)
        q = q * z + np.float32(1.3427794)
        y = x * p / q
        y = np.float32(-1.0) if y < np.float32(-1.0) else y
        return np.float32(1.0) if y > np.float32(1.0) else y

    return short if x == numba.types.float32 else long


@summing
def add_up(x, n):  # type: ignore[no-untyped-def]
    """Sum the first ``n`` elements."""
    s = x.dtype.type(0.0)
    for i in range(n):
        s += x[i]
    return s


# --- standardization over the last axes: rows of a matrix -------------------------------------------------------------------------------
@summing
def rows(x, weight, bias, eps, center, y, mean, var):  # type: ignore[no-untyped-def]
    """Standardize each row of ``x``; ``weight`` and ``bias`` are a row each, or empty."""
    width = x.shape[1]
    share = x.dtype.type(1.0 / width)
    for i in range(x.shape[0]):
        m = x.dtype.type(0.0)
        if center:
            for j in range(width):
                m += x[i, j]
            m *= share
        v = x.dtype.type(0.0)
        for j in range(width):
            d = x[i, j] - m
            v += d * d
        v *= share
        mean[i], var[i] = m, v
        r = x.dtype.type(1.0) / np.sqrt(v + eps)
        for j in range(width):
            y[i, j] = (x[i, j] - m) * r
        if weight.size:
            for j in range(width):
                y[i, j] *= weight[j]
        if bias.size:
            for j in range(width):
                y[i, j] += bias[j]


@summing
def rows_pull(ct, x, mean, scale, weight, center, dx, dweight, dbias):  # type: ignore[no-untyped-def]
    """Put the cotangents of x into ``dx``, and add those of weight and bias to ``dweight`` and ``dbias``, which may be empty."""
    width = x.shape[1]
    share = x.dtype.type(1.0 / width)
    normal = np.empty(width, x.dtype)
    given = np.empty(width, x.dtype)
    for i in range(x.shape[0]):
        m, r = mean[i], scale[i]
        for j in range(width):
            normal[j] = (x[i, j] - m) * r
        if weight.size:
            for j in range(width):
                given[j] = ct[i, j] * weight[j]
        else:
            for j in range(width):
                given[j] = ct[i, j]
        if dweight.size:
            for j in range(width):
                dweight[j] += ct[i, j] * normal[j]
        if dbias.size:
            for j in range(width):
                dbias[j] += ct[i, j]
        along = x.dtype.type(0.0)
        level = x.dtype.type(0.0)
        for j in range(width):
            along += given[j] * normal[j]
            level += given[j]
        along *= share
        level = level * share if center else x.dtype.type(0.0)
        for j in range(width):
            dx[i, j] = (given[j] - level - normal[j] * along) * r


# --- standardization of channels: (N, C, width) -----------------------------------------------------------------------------------------
@summing
def channels(x, weight, bias, eps, y, mean, var):  # type: ignore[no-untyped-def]
    """Standardize each channel; ``weight`` and ``bias`` have a number for each, or none."""
    count, width = x.shape[0], x.shape[2]
    share = x.dtype.type(1.0 / (count * width))
    for c in range(x.shape[1]):
        m = x.dtype.type(0.0)
        for i in range(count):
            part = x.dtype.type(0.0)
            for j in range(width):
                part += x[i, c, j]
            m += part
        m *= share
        v = x.dtype.type(0.0)
        for i in range(count):
            part = x.dtype.type(0.0)
            for j in range(width):
                d = x[i, c, j] - m
                part += d * d
            v += part
        v *= share
        mean[c], var[c] = m, v
        r = x.dtype.type(1.0) / np.sqrt(v + eps)
        r = r * weight[c] if weight.size else r
        b = bias[c] if bias.size else x.dtype.type(0.0)
        for i in range(count):
            for j in range(width):
                y[i, c, j] = (x[i, c, j] - m) * r + b


@summing
def channels_pull(ct, x, mean, scale, weight, dx, dweight, dbias):  # type: ignore[no-untyped-def]
    """Put the cotangents of x, weight and bias where they are wanted."""
    count, width = x.shape[0], x.shape[2]
    share = x.dtype.type(1.0 / (count * width))
    for c in range(x.shape[1]):
        m, r = mean[c], scale[c]
        total = x.dtype.type(0.0)
        through = x.dtype.type(0.0)
        for i in range(count):
            level = x.dtype.type(0.0)
            along = x.dtype.type(0.0)
            for j in range(width):
                level += ct[i, c, j]
                along += ct[i, c, j] * (x[i, c, j] - m)
            total += level
            through += along
        through *= r
        dweight[c], dbias[c] = through, total
        factor = r * weight[c] if weight.size else r
        along, level = through * share * r, total * share
        for i in range(count):
            for j in range(width):
                dx[i, c, j] = (ct[i, c, j] - level - (x[i, c, j] - m) * along) * factor
