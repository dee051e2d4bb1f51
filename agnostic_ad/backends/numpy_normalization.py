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
    """Tell whether the axes are the last ones, behind one at least; or all but the second, with one number for each channel; None for neither."""
    given = [a for a in (weight, bias) if a is not None]
    if x.dtype not in _WIDE or any(a.dtype != x.dtype for a in (*given, *others)) or not x.size:
        return None
    ndim, width = x.ndim, math.prod(x.shape[a] for a in axis)
    if 0 < len(axis) < ndim and axis[0] == ndim - len(axis) and all(a.ndim < ndim for a in given) and width >= 16:
        return "rows"
    if center and ndim > 1 and axis == (0, *range(2, ndim)) and all(a.shape == (x.shape[1], *(1,) * (ndim - 2)) for a in given):
        return "columns" if ndim == 2 else "channels" if width >= 16 * x.shape[0] else None
    return None


def _blocks(x: Any) -> Iterator[slice]:
    """Give slices of the first axis."""
    step = max(1, BLOCK * len(x) // x.size)
    return (slice(start, start + step) for start in range(0, len(x), step))


# --- over the last axes -----------------------------------------------------------------------------------------------------------------
def _rows(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    lead, width = x.shape[: axis[0]], math.prod(x.shape[axis[0] :])
    y, mean, var = np.empty_like(x), np.zeros(lead, x.dtype), np.empty(lead, x.dtype)
    share, ends = np.full(width, 1 / width, x.dtype), (1,) * len(axis)
    for block in _blocks(x):
        part, out = x[block], y[block]
        rows, into = part.reshape(-1, width), out.reshape(-1, width)
        if center:
            mean[block] = (rows @ share).reshape(mean[block].shape)
            rows = np.subtract(rows, mean[block].reshape(-1, 1), out=into)
        squares = np.vecdot(rows, rows) / width
        var[block] = squares.reshape(var[block].shape)
        _times(rows.reshape(out.shape), (1 / np.sqrt(squares + x.dtype.type(eps))).reshape(-1, *lead[1:], *ends), weight, out)
        if bias is not None:
            out += bias
    return y, mean.reshape(*lead, *ends), var.reshape(*lead, *ends)


def _times(x: Any, factor: Any, weight: Any, out: Any) -> None:
    """Multiply by a factor for each row, and by a weight; together where their product is small."""
    if weight is not None and weight.shape == x.shape[x.ndim - weight.ndim :] and weight.size > 1:
        np.multiply(x, weight, out=out)
        out *= factor
    else:
        np.multiply(x, factor if weight is None else factor * weight, out=out)


def _rows_pull(ct: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, axis: Any, center: bool) -> dict[str, Any]:
    lead, width = x.shape[: axis[0]], math.prod(x.shape[axis[0] :])
    dx = np.empty_like(x)
    mean, ones = mean.reshape(lead), np.ones(width, x.dtype)
    by_weight, by_bias = (None if a is None else np.zeros(a.shape, x.dtype) for a in (weight, bias))
    for block in _blocks(x):
        g, out, factor = ct[block], dx[block], scale[block]
        rows, into, r = x[block].reshape(-1, width), out.reshape(-1, width), factor.reshape(-1)
        if center:
            rows = np.subtract(rows, mean[block].reshape(-1, 1))
        if by_weight is not None:
            np.multiply(g, rows.reshape(g.shape), out=out)
            if weight.shape == x.shape[axis[0] :]:
                by_weight += (r @ into).reshape(weight.shape)
            else:
                by_weight += _summed(_inner(out, weight.shape) * factor, weight.shape)
        if by_bias is not None:
            by_bias += _summed(_inner(g, by_bias.shape), by_bias.shape)
        _times(g, factor, weight, out)
        through = (np.vecdot(into, rows) * (r * r / width))[:, None]
        rows = np.multiply(rows, through, out=rows if center else None)
        if center:
            rows += (into @ ones / width)[:, None]
        into -= rows
    return {"x": dx, "weight": by_weight, "bias": by_bias}


def _inner(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the last axes as far as ``shape`` ends in ones, and keep them with size 1."""
    count = next((i for i, n in enumerate(reversed(shape)) if n != 1), len(shape))
    if not count:
        return x
    kept = x.shape[: x.ndim - count]
    rows = x.reshape(-1, math.prod(x.shape[x.ndim - count :]))
    return (rows @ np.ones(rows.shape[1], x.dtype)).reshape(*kept, *(1,) * count)


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum to a shape that broadcasts to that of ``x``."""
    if x.shape[x.ndim - len(shape) :] == shape:
        rows = x.reshape(-1, math.prod(shape))
        return (np.ones(len(rows), x.dtype) @ rows).reshape(shape)
    lead = x.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1))
    return np.add.reduce(x, axis=axes, keepdims=True).reshape(shape)


# --- over all axes but the second -------------------------------------------------------------------------------------------------------
def _sums(x: Any, other: Any) -> tuple[Any, Any]:
    """Sum each channel of ``x``, and its products with ``other``; arrays are (N, C, elements) or (N, C)."""
    total, products = np.zeros((2, x.shape[1]), x.dtype)
    for block in _blocks(x):
        part, factor = x[block], other[block]
        if x.ndim == 2:
            ones = np.ones(len(part), x.dtype)
            total += ones @ part
            products += ones @ (part * factor)
        else:
            ones = np.ones(x.shape[2], x.dtype)
            total += np.add.reduce((part.reshape(-1, len(ones)) @ ones).reshape(-1, x.shape[1]), axis=0)
            products += np.add.reduce(np.vecdot(part, factor), axis=0)
    return total, products


def _members(x: Any) -> tuple[Any, Any]:
    """Give (N, C, ...) as (N, C, elements), or as it is without elements; and the function that gives numbers per channel in a shape that fits."""
    return (x, lambda a: a) if x.ndim == 2 else (x.reshape(*x.shape[:2], -1), lambda a: a[:, None])


def _near_zero(mean: Any, var: Any) -> bool:
    """Tell whether the means are so small that sums over numbers as they are lose no more digits than those over differences from them."""
    return bool(np.all(mean * mean <= 4 * var))


def _channels(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    members, spread = _members(x)
    count = x.size // x.shape[1]
    total, squares = _sums(members, members)
    mean = total / count
    var = squares / count - mean * mean
    if not _near_zero(mean, var):
        off = members - spread(mean)
        rest, squares = _sums(off, off)
        rest /= count
        mean, var = mean + rest, squares / count - rest * rest
    scale = 1 / np.sqrt(var + x.dtype.type(eps))
    scale = scale if weight is None else scale * weight.reshape(-1)
    shift = -mean * scale
    shift = shift if bias is None else shift + bias.reshape(-1)
    scale, shift = spread(scale), spread(shift)
    y = np.empty_like(members)
    for block in _blocks(members):
        out = np.multiply(members[block], scale, out=y[block])
        out += shift
    kept = (1, -1, *(1,) * (x.ndim - 2))
    return y.reshape(x.shape), mean.reshape(kept), var.reshape(kept)


def _channels_pull(ct: Any, x: Any, mean: Any, scale: Any, weight: Any, bias: Any, axis: Any, center: bool) -> dict[str, Any]:
    (g, spread), (members, _), count = _members(ct), _members(x), x.size // x.shape[1]
    mean, r = mean.reshape(-1), scale.reshape(-1)
    if not _near_zero(mean, 1 / (r * r)):
        members, mean = members - spread(mean), np.zeros_like(mean)
    total, through = _sums(g, members)
    through -= mean * total
    # c = g * factor, and n is linear in x: dx = g * factor + x * along + level
    factor = r if weight is None else r * weight.reshape(-1)
    along = -factor * r * r * through / count
    level = spread(-factor * total / count - along * mean)
    factor, along = spread(factor), spread(along)
    dx, scratch = np.empty_like(members), np.empty(members[next(_blocks(members))].shape, x.dtype)
    for block in _blocks(members):
        out = np.multiply(g[block], factor, out=dx[block])
        out += np.multiply(members[block], along, out=scratch[: len(out)])
        out += level
    found = {"x": dx.reshape(x.shape)}
    if weight is not None:
        found["weight"] = (through * r).reshape(weight.shape)
    if bias is not None:
        found["bias"] = total.reshape(bias.shape)
    return found


NumpyNormalization.standardizers = {"rows": _rows, "rows_pull": _rows_pull, "channels": _channels, "channels_pull": _channels_pull}
NumpyNormalization.standardizers |= {"columns": _channels, "columns_pull": _channels_pull}
