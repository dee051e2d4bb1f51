"""NumPy's functions that rearrange, join, split and pad."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from agnostic_ad.families import normalize_axes, normalize_axis
from agnostic_ad.levels import Array, inexact
from agnostic_ad.numpy_names.base import NAMES, array, arrays, named, sequence


def _reversed(xp: Any, x: Any) -> Any:
    return xp.permute_dims(x, tuple(reversed(range(x.ndim))))


@named("reshape")
def reshape(xp: Any, a: Any, /, shape: Any, order: str = "C", *, copy: Any = None) -> Any:
    a = array(xp, a)
    shape = tuple(shape) if isinstance(shape, tuple | list) else (operator.index(shape),)
    if order == "F":
        return _reversed(xp, xp.reshape(_reversed(xp, a), shape[::-1]))
    return xp.reshape(a, shape)


@named("ravel")
def ravel(xp: Any, a: Any, order: str = "C") -> Any:
    return reshape(xp, a, (-1,), order)


@named("transpose", "permute_dims")
def transpose(xp: Any, a: Any, axes: Any = None) -> Any:
    a = array(xp, a)
    return _reversed(xp, a) if axes is None else xp.permute_dims(a, tuple(axes))


@named("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(xp: Any, x: Any, /) -> Any:
    return xp.matrix_transpose(array(xp, x))


@named("swapaxes")
def swapaxes(xp: Any, a: Any, axis1: int, axis2: int) -> Any:
    a = array(xp, a)
    first, second = (normalize_axis(i, a.ndim, "swapaxes") for i in (axis1, axis2))
    order = list(range(a.ndim))
    order[first], order[second] = second, first
    return xp.permute_dims(a, tuple(order))


@named("moveaxis")
def moveaxis(xp: Any, a: Any, source: Any, destination: Any) -> Any:
    return xp.moveaxis(array(xp, a), source, destination)


@named("rollaxis")
def rollaxis(xp: Any, a: Any, axis: int, start: int = 0) -> Any:
    a = array(xp, a)
    axis = normalize_axis(axis, a.ndim, "rollaxis")
    start = start + a.ndim if start < 0 else start
    return xp.moveaxis(a, axis, start - 1 if axis < start else start)


@named("expand_dims")
def expand_dims(xp: Any, a: Any, axis: Any) -> Any:
    return xp.expand_dims(array(xp, a), axis=tuple(axis) if isinstance(axis, list) else axis)


@named("squeeze")
def squeeze(xp: Any, a: Any, axis: Any = None) -> Any:
    a = array(xp, a)
    return xp.squeeze(a, tuple(i for i, n in enumerate(a.shape) if n == 1) if axis is None else axis)


def _at_least(name: str, shape: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> None:
    @named(name)
    def at_least(xp: Any, *arys: Any) -> Any:
        found = tuple(x if (want := shape(tuple(x.shape))) == tuple(x.shape) else xp.reshape(x, want) for x in arrays(xp, *arys))
        return found[0] if len(found) == 1 else found


_at_least("atleast_1d", lambda s: s or (1,))
_at_least("atleast_2d", lambda s: s if len(s) > 1 else (1, *(s or (1,))))
_at_least("atleast_3d", lambda s: s if len(s) > 2 else (*s, 1) if len(s) == 2 else (1, *(s or (1,)), 1))


def _grown(xp: Any, values: Any, ndim: int) -> list[Any]:
    """Give members with size-1 axes put in front until they have ``ndim``."""
    return [xp.reshape(x, (*(1,) * (ndim - x.ndim), *x.shape)) if x.ndim < ndim else x for x in sequence(xp, values)]


# --- joining ------------------------------------------------------------------------------------------------------------------------------------
@named("concatenate", "concat")
def concatenate(xp: Any, arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = sequence(xp, arrays)
    return _typed(xp, xp.concat(parts, axis=axis), dtype)


def _typed(xp: Any, y: Any, dtype: Any) -> Any:
    return y if dtype is None else xp.astype(y, xp.backend.dtype(dtype), copy=False)


@named("stack")
def stack(xp: Any, arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return _typed(xp, xp.stack(sequence(xp, arrays), axis=axis), dtype)


@named("vstack", "row_stack")
def vstack(xp: Any, tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    return _typed(xp, xp.concat(_grown(xp, tup, 2), axis=0), dtype)


@named("hstack")
def hstack(xp: Any, tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    parts = _grown(xp, tup, 1)
    return _typed(xp, xp.concat(parts, axis=0 if parts[0].ndim == 1 else 1), dtype)


@named("dstack")
def dstack(xp: Any, tup: Any) -> Any:
    return xp.concat([xp.expand_dims(x, axis=2) if x.ndim == 2 else x for x in _grown(xp, tup, 2)], axis=2)


@named("column_stack")
def column_stack(xp: Any, tup: Any) -> Any:
    return xp.concat([xp.reshape(x, (-1, 1)) if x.ndim < 2 else x for x in sequence(xp, tup)], axis=1)


@named("append")
def append(xp: Any, arr: Any, values: Any, axis: Any = None) -> Any:
    return xp.concat(arrays(xp, arr, values), axis=axis)


@named("block")
def block(xp: Any, arrays: Any) -> Any:
    """Join nested lists: the innermost along the last axis, those around them along the axes before."""

    def depth(x: Any) -> int:
        return 1 + max(map(depth, x)) if isinstance(x, list) else 0

    levels = depth(arrays)
    leaves: list[Any] = []

    def gather(x: Any) -> None:
        for part in x if isinstance(x, list) else ():
            gather(part)
        if not isinstance(x, list):
            leaves.append(x)

    gather(arrays)
    found = sequence(xp, leaves)
    ndim = max(levels, max(x.ndim for x in found))
    ready = iter(_grown(xp, found, ndim))

    def join(x: Any, level: int) -> Any:
        return xp.concat([join(part, level - 1) for part in x], axis=ndim - level) if isinstance(x, list) else next(ready)

    return join(arrays, levels)


# --- splitting ----------------------------------------------------------------------------------------------------------------------------------
def _split(xp: Any, x: Any, indices_or_sections: Any, axis: int, even: bool) -> list[Any]:
    axis = normalize_axis(axis, x.ndim, "split")
    size = x.shape[axis]
    if hasattr(indices_or_sections, "__len__"):
        cuts = [operator.index(i) for i in indices_or_sections]
    else:
        count = operator.index(indices_or_sections)
        if count < 1 or (even and size % count):
            raise ValueError(f"split: an axis of size {size} does not split into {count} equal parts")
        cuts = [i * (size // count) + min(i, size % count) for i in range(1, count)]
    before = (slice(None),) * axis
    return [x[(*before, slice(a, b), ...)] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]


@named("split")
def split(xp: Any, ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    return _split(xp, array(xp, ary), indices_or_sections, axis, even=True)


@named("array_split")
def array_split(xp: Any, ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    return _split(xp, array(xp, ary), indices_or_sections, axis, even=False)


def _split_along(name: str, axis: int) -> None:
    @named(name)
    def split_along(xp: Any, ary: Any, indices_or_sections: Any) -> Any:
        x = array(xp, ary)
        return _split(xp, x, indices_or_sections, min(axis, x.ndim - 1) if name == "hsplit" else axis, even=True)


_split_along("vsplit", 0)
_split_along("hsplit", 1)
_split_along("dsplit", 2)


@named("unstack")
def unstack(xp: Any, x: Any, /, *, axis: int = 0) -> Any:
    return xp.unstack(array(xp, x), axis=axis)


# --- repeating, turning -------------------------------------------------------------------------------------------------------------------------
@named("tile")
def tile(xp: Any, A: Any, reps: Any) -> Any:
    return xp.tile(array(xp, A), tuple(reps) if hasattr(reps, "__len__") else (operator.index(reps),))


@named("repeat")
def repeat(xp: Any, a: Any, repeats: Any, axis: Any = None) -> Any:
    return xp.repeat(array(xp, a), repeats if isinstance(repeats, int) else array(xp, repeats), axis=axis)


@named("roll")
def roll(xp: Any, a: Any, shift: Any, axis: Any = None) -> Any:
    a = array(xp, a)
    if isinstance(shift, tuple | list) and axis is not None and not isinstance(axis, tuple | list):
        shift = sum(shift)
    return xp.roll(a, tuple(shift) if isinstance(shift, list) else shift, axis=tuple(axis) if isinstance(axis, list) else axis)


@named("flip")
def flip(xp: Any, m: Any, axis: Any = None) -> Any:
    return xp.flip(array(xp, m), axis=axis)


@named("flipud")
def flipud(xp: Any, m: Any) -> Any:
    return xp.flip(array(xp, m), axis=0)


@named("fliplr")
def fliplr(xp: Any, m: Any) -> Any:
    return xp.flip(array(xp, m), axis=1)


@named("rot90")
def rot90(xp: Any, m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    m = array(xp, m)
    first, second = normalize_axes(tuple(axes), m.ndim, "rot90")
    k %= 4
    if k % 2 == 0:
        return xp.flip(m, axis=(first, second)) if k else m
    if k == 1:
        return swapaxes(xp, xp.flip(m, axis=second), first, second)
    return xp.flip(swapaxes(xp, m, first, second), axis=second)


@named("broadcast_to")
def broadcast_to(xp: Any, array: Any, shape: Any, subok: bool = False) -> Any:
    return xp.broadcast_to(lifted(xp, array), tuple(shape) if isinstance(shape, tuple | list) else (shape,))


lifted = array


@named("broadcast_arrays")
def broadcast_arrays(xp: Any, *args: Any, subok: bool = False) -> Any:
    return xp.broadcast_arrays(*arrays(xp, *args))


@named("meshgrid")
def meshgrid(xp: Any, *xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    found = arrays(xp, *xi)
    if not sparse:
        return xp.meshgrid(*found, indexing=indexing)
    order = list(range(len(found)))
    if indexing == "xy" and len(found) > 1:
        order[:2] = [1, 0]
    return tuple(xp.reshape(x, tuple(-1 if i == place else 1 for i in range(len(found)))) for x, place in zip(found, order, strict=True))


@named("resize")
def resize(xp: Any, a: Any, new_shape: Any) -> Any:
    a = xp.reshape(array(xp, a), (-1,))
    shape = tuple(new_shape) if isinstance(new_shape, tuple | list) else (new_shape,)
    size = math.prod(shape)
    if not a.size:
        return xp.zeros(shape, dtype=a.dtype, device=a.device)
    return xp.reshape(xp.tile(a, (-(-size // a.size),))[:size], shape)


# --- padding ------------------------------------------------------------------------------------------------------------------------------------
def _pairs(value: Any, ndim: int) -> list[tuple[Any, Any]]:
    """Give a pair for each axis of what NumPy takes: a value, a pair, or a pair an axis; values may carry derivatives."""
    if not isinstance(value, tuple | list):
        value = value.tolist() if hasattr(value, "tolist") and not isinstance(value, Array) else value
    if not isinstance(value, tuple | list):
        return [(value, value)] * ndim
    if not any(isinstance(v, tuple | list) for v in value):
        return [(value[0], value[-1])] * ndim
    pairs = [(v[0], v[-1]) for v in value]
    return pairs * ndim if len(pairs) == 1 else pairs


_STATISTICS = {"maximum": "max", "minimum": "min", "mean": "mean", "median": "median"}


@named("pad")
def pad(xp: Any, array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Any:
    """Put values around an array, in each of NumPy's modes."""
    x = lifted(xp, array)
    if isinstance(pad_width, dict):
        widths: list[tuple[int, int]] = [(0, 0)] * x.ndim
        for axis, width in pad_width.items():
            widths[axis] = (width, width) if isinstance(width, int) else tuple(width)
    else:
        widths = [(operator.index(a), operator.index(b)) for a, b in _pairs(pad_width, x.ndim)]
    if callable(mode):
        raise NotImplementedError("pad: a function as mode writes in place; join the parts with np.concatenate")
    given = [_pairs(next(iter(options.values()), 0), x.ndim)] if mode in ("constant", "linear_ramp") else []
    for axis, (before, after) in enumerate(widths):
        if before or after:
            x = _padded(xp, x, axis, before, after, mode, given[0][axis] if given else None, options)
    return x


def _padded(xp: Any, x: Any, axis: int, before: int, after: int, mode: Any, ends: Any, options: dict[str, Any]) -> Any:
    import numpy as np

    size = x.shape[axis]
    if mode in ("edge", "reflect", "symmetric", "wrap") and options.get("reflect_type", "even") == "even":
        places = np.pad(np.arange(size), (before, after), mode=mode)
        return xp.take(x, xp.asarray(places, device=x.device), axis=axis)
    sides = []
    for number, count in enumerate((before, after)):
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        side = _side(xp, x, axis, number, count, mode, ends, options)
        if not inexact(x) and inexact(side):
            side = xp.trunc(side) if mode == "linear_ramp" else xp.round(side)
        sides.append(xp.broadcast_to(xp.astype(side, x.dtype, copy=False), shape))
    return xp.concat([sides[0], x, sides[1]], axis=axis)


def _side(xp: Any, x: Any, axis: int, number: int, count: int, mode: str, ends: Any, options: dict[str, Any]) -> Any:
    """Give what stands on one side of an axis; it may broadcast."""
    ahead = (slice(None),) * axis
    if mode in ("constant", "linear_ramp"):
        end = xp.astype(lifted(xp, ends[number], x), x.dtype, copy=False)
        if mode == "constant":
            return end
        edge = x[(*ahead, slice(0, 1) if number == 0 else slice(-1, None), ...)]
        kind = x.dtype if inexact(x) else xp.backend.default("real floating")
        weight = xp.arange(count, dtype=xp.backend.real_of(kind), device=x.device) / max(count, 1)
        weight = xp.reshape(xp.flip(weight) if number else weight, (-1, *(1,) * (x.ndim - axis - 1)))
        return end + (edge - end) * weight
    if mode in _STATISTICS:
        length = options.get("stat_length")
        length = x.shape[axis] if length is None else min(_pairs(length, x.ndim)[axis][number], x.shape[axis])
        part = x[(*ahead, slice(0, length) if number == 0 else slice(x.shape[axis] - length, None), ...)]
        return NAMES[_STATISTICS[mode]](xp, part, axis=axis, keepdims=True)
    if mode == "empty":
        return xp.zeros((1,) * x.ndim, dtype=x.dtype, device=x.device)
    raise NotImplementedError(f"pad: mode {mode!r} with {options} is not supported")
