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

__all__ = ["channels", "channels_pull", "compiled", "compiled_here", "exp", "rows", "rows_pull"]


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
    """Exponentiate: in single precision in a form that the compiler makes vectors of, to 1.5 units in the last place."""
    raise NotImplementedError("inside compiled functions only")


@overload(exp, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})  # type: ignore[untyped-decorator]
def _exp(x: Any) -> Any:
    def long(x: Any) -> Any:
        return math.exp(x)

    # 2^n e^r with |r| <= log(2) / 2; log(2) in two parts. The polynomial has the least error of its degree (Cephes library, S. L. Moshier).
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
        half = np.int32(np.int32(n) >> 1)  # in two steps: 2^128 is no number, and 2^-140 a small one
        low = np.int32((half + 127) << 23).view(np.float32)
        high = np.int32((np.int32(n) - half + 127) << 23).view(np.float32)
        return (p * r * r + r + np.float32(1.0)) * low * high

    return short if x == numba.types.float32 else long


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
