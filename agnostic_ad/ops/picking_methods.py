"""The methods by which PyTorch code picks elements of arrays, and puts others in their place, on every wrapped array."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import deepest, lift_to
from agnostic_ad.op import TABLE
from agnostic_ad.ops.brackets import of_library, plan
from agnostic_ad.ops.methods import Methods


class TopK(NamedTuple):
    """What ``topk`` gives."""

    values: Any
    indices: Any


def in_front(x: Any, dim: int, name: str) -> tuple[slice, ...]:
    """Give full slices for the axes in front of one, to be followed by what to take along it."""
    return (slice(None),) * normalize_axis(dim, x.ndim, name)


def _elements(x: Any, dim: int, index: Any, name: str) -> tuple[Any, ...]:
    """Give the key of the elements that ``gather`` takes: ``index`` along one axis, its own places along the others."""
    place = normalize_axis(dim, max(x.ndim, 1), name)
    shape = tuple(index.shape)
    if len(shape) != x.ndim:
        raise ValueError(f"{name}: the array has {x.ndim} dimensions, the index {len(shape)}")
    if any(n > m for i, (n, m) in enumerate(zip(shape, x.shape, strict=True)) if i != place):
        raise ValueError(f"{name}: an index of shape {shape} is larger than the array, {tuple(x.shape)}, along an axis other than {dim}")
    return tuple(
        index if i == place else np.arange(n).reshape(tuple(n if j == i else 1 for j in range(len(shape)))) for i, n in enumerate(shape)
    )


def _source(src: Any, index: Any, name: str) -> Any:
    """Give the part of what is scattered that the index is for; a number is left alone."""
    if not getattr(src, "shape", ()):
        return src
    if len(src.shape) != len(index.shape) or any(n > m for n, m in zip(index.shape, src.shape, strict=True)):
        raise ValueError(
            f"{name}: an index of shape {tuple(index.shape)} needs a source at least as large, not of shape {tuple(src.shape)}"
        )
    return src[tuple(slice(n) for n in index.shape)]


def _copy_beside(x: Any, *others: Any) -> Any:
    """Give a copy that can hold values that depend on ``others``, which may be of a transformation that ``x`` is not of."""
    level = deepest((x, *others))
    assert level is not None
    return Methods.copy(lift_to(level, x))


class PickingMethods:
    """What picks elements, and puts others in their place."""

    def index_select(self: Any, dim: int, index: Any) -> Any:
        """Give the slices along an axis at the places in an array of integers."""
        return self[(*in_front(self, dim, "index_select"), index)]

    def masked_select(self: Any, mask: Any) -> Any:
        """Give the elements where a mask is true, in one dimension."""
        shape = np.broadcast_shapes(tuple(self.shape), tuple(mask.shape))
        return TABLE["broadcast_to"](self, shape)[TABLE["broadcast_to"](mask, shape)]

    def gather(self: Any, dim: int, index: Any) -> Any:
        """Give ``x[i][index[i][j]]`` (for ``dim=1``): an element along an axis for each index."""
        return self[_elements(self, dim, index, "gather")]

    def scatter(self: Any, dim: int, index: Any, src: Any) -> Any:
        """Give a copy with ``src``, an array or a number, at the elements that `gather` takes; of several for one place the last stays."""
        y = _copy_beside(self, index, src)
        y[_elements(self, dim, index, "scatter")] = _source(src, index, "scatter")
        return y

    def scatter_add(self: Any, dim: int, index: Any, src: Any) -> Any:
        """Give a copy with ``src`` added to the elements that `gather` takes, as often as they are named."""
        key = _elements(self, dim, index, "scatter_add")
        src = _source(src, index, "scatter_add")
        level = deepest((self, index, src))
        assert level is not None
        xp, x, src = level.rules(self.backend), lift_to(level, self), lift_to(level, src)
        where = plan(xp, x, of_library(x, key))[2]
        added = xp.scatter_add(xp.reshape(src, (-1,)), where, size=x.numel(), axis=0)
        return x + xp.reshape(added, x.shape)

    def index_add(self: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
        """Give a copy with slices of ``source`` added at places along an axis."""
        axis = normalize_axis(dim, self.ndim, "index_add")
        added = TABLE["scatter_add"](source, index, size=self.shape[axis], axis=axis)
        return self + (added if alpha == 1 else added * alpha)

    def index_fill(self: Any, dim: int, index: Any, value: Any) -> Any:
        """Give a copy with a value in the slices at places along an axis."""
        y = _copy_beside(self, index, value)
        y[(*in_front(self, dim, "index_fill"), index)] = value
        return y

    def topk(self: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
        """Give the ``k`` largest (or smallest) elements along an axis, and their places: a named tuple of values and indices, sorted."""
        before = in_front(self, dim, "topk")
        if not 0 <= k <= self.shape[len(before)]:
            raise ValueError(f"topk: k is between 0 and {self.shape[len(before)]}, the size of axis {dim}; not {k}")
        order = TABLE["argsort"](self, axis=dim, descending=largest)[(*before, slice(k))]
        return TopK(TABLE["take_along_axis"](self, order, axis=dim), order)
