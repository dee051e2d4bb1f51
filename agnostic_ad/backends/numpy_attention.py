"""NumPy's own form of attention: the weights of a few heads at a time, in memory that stays in the cache.

They are held with a row for each key and a column for each query: NumPy takes maxima, and subtracts them, along whole rows several times as
fast as across them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from agnostic_ad.backends.base import Backend

CACHE = 1 << 19
"""How many bytes of weights to hold at a time."""
STEP = 64
"""How many queries to take at a time where later ones see more keys: so many that products of matrices are not slower."""


class NumpyAttention:
    """The methods ``nn_attention*`` of the NumPy backend."""

    def nn_attention(self, q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, scale: float, causal: bool = False) -> Any:
        """Attend; the result lies in memory as ``q`` does, so that heads join without a copy."""
        if keep is not None or not _alike(q, k, v):
            return Backend.fallbacks["nn.attention"](self, q, k, v, mask, keep, scale=scale, causal=causal)
        plain = mask is None or mask.dtype.kind == "b"
        (q, k, v), mask, batch = _together(mask, q, k, v)
        factor = q.dtype.type(scale)
        y = np.empty_like(q, shape=(*batch, q.shape[-2], v.shape[-1]))
        for key, rows, ends in _blocks(q, k, causal):
            weights, total = _weights(q[key][..., rows, :] * factor, k[key][..., ends, :], mask, plain, causal, key, rows)
            part = y[key][..., rows, :]
            np.matmul(weights.swapaxes(-1, -2), v[key][..., ends, :], out=part)
            part /= total.swapaxes(-1, -2)
        return y

    def nn_attention_pull(
        self,
        ct: Any,
        q: Any,
        k: Any,
        v: Any,
        mask: Any = None,
        keep: Any = None,
        *,
        scale: float,
        causal: bool = False,
        wanted: tuple[str, ...],
    ) -> Any:
        """Give the cotangents of queries, keys and values, which lie in memory as these do."""
        if keep is not None or not _alike(ct, q, k, v) or not {"q", "k", "v"}.issuperset(wanted):
            options = {"scale": scale, "causal": causal, "wanted": wanted}
            return Backend.fallbacks["nn.attention_pull"](self, ct, q, k, v, mask, keep, **options)
        shapes = {"q": q.shape, "k": k.shape, "v": v.shape}
        plain = mask is None or mask.dtype.kind == "b"
        (q, k, v, ct), mask, _ = _together(mask, q, k, v, ct)
        factor = q.dtype.type(scale)
        found = {name: np.empty_like(x) for name, x in (("q", q), ("k", k), ("v", v)) if name in wanted}
        for key, rows, ends in _blocks(q, k, causal):
            queries, keys = q[key][..., rows, :], k[key][..., ends, :]
            weights, total = _weights(queries * factor, keys, mask, plain, causal, key, rows)
            part = ct[key][..., rows, :] / total.swapaxes(-1, -2)
            if "v" in found:
                _put(found["v"][key], weights, part, rows, ends)
            if wanted == ("v",):
                continue
            part *= factor
            through = np.matmul(v[key][..., ends, :], part.swapaxes(-1, -2))
            through *= weights
            weights *= _sums(through) / total
            through -= weights
            if "q" in found:
                np.matmul(through.swapaxes(-1, -2), keys, out=found["q"][key][..., rows, :])
            if "k" in found:
                _put(found["k"][key], through, queries, rows, ends)
        return tuple(_summed(found[name], shapes[name]) for name in wanted)


def _alike(*arrays: Any) -> bool:
    """Tell whether arrays are of one real dtype, and none is empty."""
    return arrays[0].dtype.kind == "f" and all(x.size and x.dtype == arrays[0].dtype for x in arrays)


def _together(mask: Any, *arrays: Any) -> tuple[list[Any], Any, Any]:
    """Broadcast the axes before the last two of all operands; give their sizes, too. A mask becomes what is added to the weights' rows."""
    q, k = arrays[:2]
    batch = np.broadcast_shapes(*(x.shape[:-2] for x in arrays), () if mask is None else mask.shape[:-2])
    if mask is not None:
        if mask.dtype.kind == "b":
            mask = np.where(mask, q.dtype.type(0), q.dtype.type(-math.inf))
        mask = np.broadcast_to(mask, (*batch, q.shape[-2], k.shape[-2])).swapaxes(-1, -2)
    return [x if x.shape[:-2] == batch else np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in arrays], mask, batch


def _blocks(q: Any, k: Any, causal: bool) -> Iterator[tuple[tuple[Any, ...], slice, slice]]:
    """Give what to compute at a time: a key of the batch, the queries, and the keys that they see."""
    *batch, length, _ = q.shape
    size = k.shape[-2]
    room = max(1, CACHE // (size * q.itemsize))  # queries
    step = min(length, room, STEP if causal else length)
    axis, inner = len(batch), step
    while axis and inner * batch[axis - 1] <= room:
        axis -= 1
        inner *= batch[axis]
    count = max(1, room // inner)
    for lead in np.ndindex(*batch[: max(axis - 1, 0)]):
        for first in range(0, batch[axis - 1], count) if axis else (None,):
            key = lead if first is None else (*lead, slice(first, first + count))
            for start in range(0, length, step):
                end = min(start + step, length)
                yield key, slice(start, end), slice(0, min(end, size) if causal else size)


@lru_cache
def _large(dtype: Any) -> float:
    """Give a number whose exponential is far from the largest of a dtype."""
    return math.log(np.finfo(dtype).max) / 2


@lru_cache(8)
def _later(keys: int, queries: int, dtype: Any) -> Any:
    """Give what hides later keys from queries."""
    return np.tril(np.full((keys, queries), -math.inf, dtype), -1)


def _weights(q: Any, k: Any, mask: Any, plain: bool, causal: bool, key: Any, rows: slice) -> tuple[Any, Any]:
    """Give weights that do not add up to one yet, and what they add up to.

    The maximum is subtracted where exponentials might overflow or vanish; looking for that takes a fraction of the time. A mask that is not
    ``plain`` adds more than minus infinity.
    """
    weights = np.matmul(k, q.swapaxes(-1, -2))
    plain = plain and bool(weights.max() < _large(weights.dtype) and weights.min() > -_large(weights.dtype))
    if mask is not None:
        weights += mask[key][..., : weights.shape[-2], rows]
    if causal and rows.start < weights.shape[-2]:
        part = weights[..., rows.start :, :]
        part += _later(*part.shape[-2:], part.dtype)
    if not plain:
        top = np.maximum.reduce(weights, axis=-2, keepdims=True)
        if mask is not None:
            top[top == -math.inf] = 0  # all keys are masked
        weights -= top
    np.exp(weights, out=weights)
    total = _sums(weights)
    if mask is not None:
        total[total == 0] = 1
    return weights, total


def _sums(x: Any) -> Any:
    """Sum over the keys: as a product with ones, which is several times as fast."""
    return np.matmul(np.ones((1, x.shape[-2]), x.dtype), x)


def _put(into: Any, left: Any, right: Any, rows: slice, ends: slice) -> None:
    """Write the product of the first queries, and add those of others."""
    if rows.start:
        into[..., ends, :] += np.matmul(left, right)
    else:
        into[..., ends.stop :, :] = 0
        np.matmul(left, right, out=into[..., ends, :])


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which an array of ``shape`` was broadcast."""
    lead = x.ndim - len(shape)
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n != x.shape[lead + i]))
    return np.add.reduce(x, axis=axes, keepdims=True).reshape(shape) if axes else x
