"""NumPy's own forms of standardization: a few members of the batch at a time, in memory that stays in the cache.

What the general forms compute is written in `agnostic_ad.ops.normalization`. Sums along the last axis are products with ones, and of
products dot products: BLAS does them in a third of the time of NumPy's own sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np

from agnostic_ad.backends.base import Backend

BLOCK = 1 << 16
"""How many elements to take at a time."""
_WIDE = (np.dtype(np.float32), np.dtype(np.float64))


class NumpyNormalization:
    """The methods ``nn_standardize*``: over the last axes, and over all but the second. The rest goes to the general forms."""

    standardizers: ClassVar[dict[str, Callable[..., Any]]]

    def nn_standardize(
        self, x: Any, weight: Any = None, bias: Any = None, *, axis: Any, eps: float = 1e-5, center: bool = True
    ) -> tuple[Any, Any, Any]:
        """Give the result, the mean and the variance."""
        kind = _kind(axis, center, x, weight, bias)
        if kind is None:
            given = (x, weight, bias)
            return Backend.fallbacks["nn.standardize"](self, *given, axis=axis, eps=eps, center=center)  # type: ignore[no-any-return]
        return self.standardizers[kind](np.ascontiguousarray(x), weight, bias, axis, eps, center)  # type: ignore[no-any-return]

    def nn_standardize_pull(
        self,
        ct: Any,
        x: Any,
        mean: Any,
        var: Any,
        weight: Any = None,
        bias: Any = None,
        *,
        axis: Any,
        eps: float = 1e-5,
        center: bool = True,
        wanted: tuple[str, ...],
    ) -> tuple[Any, ...]:
        """Give the cotangents of all ``wanted`` operands in one go over the members."""
        kind = _kind(axis, center, x, weight, bias, ct)
        if kind is None:
            given = (ct, x, mean, var, weight, bias)
            return Backend.fallbacks["nn.standardize_pull"](  # type: ignore[no-any-return]
                self, *given, axis=axis, eps=eps, center=center, wanted=wanted
            )
        ct, x = np.ascontiguousarray(ct), np.ascontiguousarray(x)
        scale = 1 / np.sqrt(var + x.dtype.type(eps))
        found = self.standardizers[f"{kind}_pull"](ct, x, mean, scale, weight, bias, axis, center)
        return tuple(found[name] for name in wanted)


def _kind(axis: Any, center: bool, x: Any, weight: Any, bias: Any, *others: Any) -> str | None:
    """Tell whether the axes are the last ones, behind one at least; or all but the second, with one number for each channel; or neither."""
    given = [a for a in (weight, bias) if a is not None]
    if x.dtype not in _WIDE or any(a.dtype != x.dtype for a in (*given, *others)) or not x.size:
        return None
    ndim, width = x.ndim, math.prod(x.shape[a] for a in axis)
    if 0 < len(axis) < ndim and axis[0] == ndim - len(axis) and all(a.ndim < ndim for a in given) and width >= 16:
        return "rows"
    each = (x.shape[1], *(1,) * (ndim - 2)) if ndim > 2 else ()
    if center and axis == (0, *range(2, ndim)) and all(a.shape == each for a in given) and width >= 16 * x.shape[0]:
        return "channels"
    return None


def _blocks(x: Any) -> Iterator[slice]:
    """Give slices of the first axis."""
    step = max(1, BLOCK * len(x) // x.size)
    return (slice(start, start + step) for start in range(0, len(x), step))


# --- over the last axes -----------------------------------------------------------------------------------------------------------------
def _rows(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    lead, width = x.shape[: axis[0]], math.prod(x.shape[axis[0] :])
    y, mean, var = np.empty_like(x), np.zeros(lead, x.dtype), np.empty(lead, x.dtype)
    share = np.full(width, 1 / width, x.dtype)
    for block in _blocks(x):
        part, out = x[block], y[block]
        rows, into = part.reshape(-1, width), out.reshape(-1, width)
        if center:
            mean[block] = (rows @ share).reshape(mean[block].shape)
            rows = np.subtract(rows, mean[block].reshape(-1, 1), out=into)
        squares = np.vecdot(rows, rows) / width
        var[block] = squares.reshape(var[block].shape)
        np.multiply(rows, (1 / np.sqrt(squares + x.dtype.type(eps)))[:, None], out=into)
        if weight is not None:
            out *= weight
        if bias is not None:
            out += bias
    kept = (*lead, *(1,) * len(axis))
    return y, mean.reshape(kept), var.reshape(kept)


def _rows_pull(ct: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, axis: Any, center: bool) -> dict[str, Any]:
    lead, width = x.shape[: axis[0]], math.prod(x.shape[axis[0] :])
    dx = np.empty_like(x)
    mean, scale = mean.reshape(lead), scale.reshape(lead)
    ones = np.ones(width, x.dtype)
    by_weight, by_bias = (None if a is None else np.zeros(a.shape, x.dtype) for a in (weight, bias))
    for block in _blocks(x):
        g, out, r = ct[block], dx[block], scale[block].reshape(-1)
        rows, into = x[block].reshape(-1, width), out.reshape(-1, width)
        rows = np.subtract(rows, mean[block].reshape(-1, 1)) if center else np.array(rows)
        if by_weight is not None:
            np.multiply(g.reshape(-1, width), rows, out=into)
            if by_weight.size == width:
                by_weight += (r @ into).reshape(by_weight.shape)
            else:
                into *= r[:, None]
                by_weight += _summed(out, by_weight.shape)
        if by_bias is not None:
            by_bias += _summed(g, by_bias.shape)
        if weight is None:
            out[...] = g
        else:
            np.multiply(g, weight, out=out)
        through = np.vecdot(into, rows) * (r * r * r / width)
        rows *= through[:, None]
        if center:
            rows += ((into @ ones) * (r / width))[:, None]
        into *= r[:, None]
        into -= rows
    return {"x": dx, "weight": by_weight, "bias": by_bias}


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum to a shape that broadcasts to that of ``x``."""
    if x.shape[x.ndim - len(shape) :] == shape:
        rows = x.reshape(-1, math.prod(shape))
        return (np.ones(len(rows), x.dtype) @ rows).reshape(shape)
    lead = x.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1))
    return np.add.reduce(x, axis=axes, keepdims=True).reshape(shape)


# --- over all axes but the second -------------------------------------------------------------------------------------------------------
def _channels(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    members = x.reshape(*x.shape[:2], -1)
    count, channels, width = members.shape
    y = np.empty_like(members)
    mean = np.add.reduce((members.reshape(-1, width) @ np.ones(width, x.dtype)).reshape(count, channels), axis=0)
    mean /= count * width
    var = np.zeros(channels, x.dtype)
    for block in _blocks(members):
        off = np.subtract(members[block], mean[:, None], out=y[block])
        var += np.add.reduce(np.vecdot(off, off), axis=0)
    var /= count * width
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    scale = (scale if weight is None else scale * weight.reshape(-1))[:, None]
    for block in _blocks(members):
        out = y[block]
        out *= scale
        if bias is not None:
            out += bias.reshape(-1, 1)
    kept = (1, channels, *(1,) * (x.ndim - 2))
    return y.reshape(x.shape), mean.reshape(kept), var.reshape(kept)


def _channels_pull(ct: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, axis: Any, center: bool) -> dict[str, Any]:
    g, members = (a.reshape(*a.shape[:2], -1) for a in (ct, x))
    count, channels, width = members.shape
    mean, r = mean.reshape(-1, 1), scale.reshape(-1)
    dx = np.empty_like(members)
    total = np.add.reduce((g.reshape(-1, width) @ np.ones(width, x.dtype)).reshape(count, channels), axis=0)
    through = np.zeros(channels, x.dtype)
    for block in _blocks(members):
        off = np.subtract(members[block], mean, out=dx[block])
        through += np.add.reduce(np.vecdot(g[block], off), axis=0)
    factor = (r if weight is None else r * weight.reshape(-1))[:, None]
    along = (r * r * through / (count * width))[:, None]
    level = (total / (count * width))[:, None]
    for block in _blocks(members):
        out = dx[block]
        out *= along
        out += level
        np.subtract(g[block], out, out=out)
        out *= factor
    found = {"x": dx.reshape(x.shape)}
    if weight is not None:
        found["weight"] = (through * r).reshape(weight.shape)
    if bias is not None:
        found["bias"] = total.reshape(bias.shape)
    return found


NumpyNormalization.standardizers = {"rows": _rows, "rows_pull": _rows_pull, "channels": _channels, "channels_pull": _channels_pull}
