"""NumPy's functions that choose, sort, search, compare; and those that change an array in place."""

from __future__ import annotations

import math
import operator
from typing import Any

from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import Array, inexact
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import array, arrays, check_out, floating, named, sequence


# --- choosing -----------------------------------------------------------------------------------------------------------------------------------
def _mask(xp: Any, x: Any) -> Any:
    x = array(xp, x)
    return x if xp.backend.kind(x.dtype) == "b" else x != 0


@named("where")
def where(xp: Any, condition: Any, x: Any = None, y: Any = None, /) -> Any:
    mask = _mask(xp, condition)
    return xp.nonzero(mask) if x is None and y is None else xp.where(mask, *arrays(xp, x, y))


@named("select")
def select(xp: Any, condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """Take from the first choice whose condition holds."""
    *choices, y = sequence(xp, [*choicelist, default])
    for condition, choice in reversed(list(zip(condlist, choices, strict=True))):
        y = xp.where(array(xp, condition), choice, y)
    return y


@named("piecewise")
def piecewise(xp: Any, x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """Apply one function where each condition holds; the last that holds counts, and elsewhere one more function, or 0."""
    x = array(xp, x)
    conditions = [condlist] if isinstance(condlist, Array) or not isinstance(condlist, list | tuple) else list(condlist)
    masks = [xp.broadcast_to(_mask(xp, c), x.shape) for c in conditions]
    functions = list(funclist)
    y = xp.zeros_like(x)
    if len(functions) == len(masks) + 1:
        rest = ~masks[0]
        for mask in masks[1:]:
            rest = rest & ~mask
        masks.append(rest)
    for mask, function in zip(masks, functions, strict=True):
        value = function(x[mask], *args, **kw) if callable(function) else function
        y = y + xp.zeros_like(y)
        y[mask] = value
    return y


@named("choose")
def choose(xp: Any, a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    index, parts = array(xp, a), sequence(xp, choices)
    if mode == "clip":
        index = xp.clip(index, 0, len(parts) - 1)
    elif mode == "wrap":
        index = xp.remainder(index, len(parts))
    y = parts[-1]
    for i in range(len(parts) - 2, -1, -1):
        y = xp.where(index == i, parts[i], y)
    return xp.where(index == 0, parts[0], y)


@named("take")
def take(xp: Any, a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    a, indices = array(xp, a), array(xp, indices)
    size = a.size if axis is None else a.shape[axis]
    if mode == "clip":
        indices = xp.clip(indices, 0, size - 1)
    elif mode == "wrap":
        indices = xp.remainder(indices, size)
    y = xp.take(a, xp.reshape(indices, (-1,)), axis=axis)
    if axis is None:
        return xp.reshape(y, indices.shape)
    axis = normalize_axis(axis, a.ndim, "take")
    return xp.reshape(y, (*a.shape[:axis], *indices.shape, *a.shape[axis + 1 :]))


@named("take_along_axis")
def take_along_axis(xp: Any, arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, indices = array(xp, arr), array(xp, indices)
    return xp.take_along_axis(xp.reshape(arr, (-1,)), indices, axis=0) if axis is None else xp.take_along_axis(arr, indices, axis=axis)


@named("compress")
def compress(xp: Any, condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    a = array(xp, a)
    places = xp.nonzero(_mask(xp, condition))[0]
    return xp.take(xp.reshape(a, (-1,)), places) if axis is None else xp.take(a, places, axis=axis)


@named("extract")
def extract(xp: Any, condition: Any, arr: Any) -> Any:
    return xp.take(xp.reshape(array(xp, arr), (-1,)), xp.nonzero(xp.reshape(_mask(xp, condition), (-1,)))[0])


@named("delete")
def delete(xp: Any, arr: Any, obj: Any, axis: Any = None) -> Any:
    import numpy as np

    a, axis = _line(xp, arr, axis)
    places = np.delete(np.arange(a.shape[axis]), obj)
    return xp.take(a, xp.asarray(places, device=a.device), axis=axis)


@named("insert")
def insert(xp: Any, arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """Put values before indices: NumPy finds the place of each element, old or new."""
    import numpy as np

    a, axis = _line(xp, arr, axis)
    size = a.shape[axis]
    values = xp.astype(array(xp, values, a), a.dtype, copy=False)
    indices: Any = np.arange(size)[obj] if isinstance(obj, slice) else np.asarray(obj)
    indices = np.flatnonzero(indices) if indices.dtype == bool else indices
    if indices.size == 1:
        values = xp.reshape(values, ((1,) * (a.ndim - values.ndim) + tuple(values.shape)))
        values = xp.moveaxis(values, 0, axis) if indices.ndim == 0 else values
        count = values.shape[axis]
        indices = int(indices.reshape(()))
    else:
        count = len(indices)
    order = np.insert(np.arange(size), indices, size + np.arange(count))
    values = xp.broadcast_to(values, (*a.shape[:axis], count, *a.shape[axis + 1 :]))
    return xp.take(xp.concat([a, values], axis=axis), xp.asarray(order, device=a.device), axis=axis)


def _line(xp: Any, x: Any, axis: Any) -> tuple[Any, int]:
    x = array(xp, x)
    return (xp.reshape(x, (-1,)), 0) if axis is None else (x, normalize_axis(axis, x.ndim, "axis"))


@named("trim_zeros")
def trim_zeros(xp: Any, filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    x = array(xp, filt)
    if axis is not None or x.ndim != 1:
        raise NotImplementedError("trim_zeros: one dimension only; slice the array")
    import numpy as np

    places = np.flatnonzero(np.asarray(xp.stop_gradient(x).tolist()))
    if not len(places):
        return x[:0]
    return x[int(places[0]) if "f" in trim.lower() else 0 : int(places[-1]) + 1 if "b" in trim.lower() else None]


# --- sorting and searching ----------------------------------------------------------------------------------------------------------------------
@named("sort")
def sort(xp: Any, a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    a, axis = _line(xp, a, axis)
    return xp.sort(a, axis=axis)


@named("argsort")
def argsort(xp: Any, a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    a, axis = _line(xp, a, axis)
    return xp.argsort(a, axis=axis)


@named("partition")
def partition(xp: Any, a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    """Sort: every order that puts the k-th element in its place will do."""
    return sort(xp, a, axis)


@named("argpartition")
def argpartition(xp: Any, a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    return argsort(xp, a, axis)


@named("sort_complex")
def sort_complex(xp: Any, a: Any) -> Any:
    a = sort(xp, a)
    return a if a.dtype in COMPLEX else xp.astype(a, xp.backend.complex_of(a.dtype))


@named("searchsorted")
def searchsorted(xp: Any, a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    a, v = arrays(xp, a, v)
    flat = xp.searchsorted(a, xp.reshape(v, (-1,)), side=side, sorter=None if sorter is None else array(xp, sorter))
    return xp.reshape(flat, v.shape)


@named("digitize")
def digitize(xp: Any, x: Any, bins: Any, right: bool = False) -> Any:
    x, bins = arrays(xp, x, bins)
    if bins.shape[0] > 1 and bool(bins[0] > bins[-1]):
        return bins.shape[0] - searchsorted(xp, xp.flip(bins), x, "right" if right else "left")
    return searchsorted(xp, bins, x, "left" if right else "right")


@named("lexsort")
def lexsort(xp: Any, keys: Any, axis: int = -1) -> Any:
    """Sort by several keys, the last first: a stable sort by each in turn."""
    order = None
    for key in sequence(xp, keys):
        key = xp.moveaxis(key, axis, -1)
        step = xp.argsort(key if order is None else xp.take_along_axis(key, order, axis=-1), axis=-1, stable=True)
        order = step if order is None else xp.take_along_axis(order, step, axis=-1)
    return xp.moveaxis(order, -1, axis)


@named("nonzero")
def nonzero(xp: Any, a: Any) -> Any:
    return xp.nonzero(array(xp, a))


@named("flatnonzero")
def flatnonzero(xp: Any, a: Any) -> Any:
    return xp.nonzero(xp.reshape(array(xp, a), (-1,)))[0]


@named("argwhere")
def argwhere(xp: Any, a: Any) -> Any:
    return xp.stack(xp.nonzero(array(xp, a)), axis=-1)


def _indices_from(name: str, keep: str) -> None:
    @named(name)
    def indices_from(xp: Any, arr: Any, k: int = 0) -> Any:
        arr = array(xp, arr)
        return xp.nonzero(getattr(xp, keep)(xp.ones(tuple(arr.shape), dtype=xp.int64, device=arr.device), k=k))


_indices_from("tril_indices_from", "tril")
_indices_from("triu_indices_from", "triu")


@named("diag_indices_from")
def diag_indices_from(xp: Any, arr: Any) -> Any:
    arr = array(xp, arr)
    return (xp.arange(arr.shape[0], device=arr.device),) * arr.ndim


@named("bincount")
def bincount(xp: Any, x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """Count integers, or sum their weights."""
    x = array(xp, x)
    size = max(int(xp.max(x)) + 1 if x.size else 0, minlength)
    if weights is None:
        return xp.scatter_add(xp.ones_like(x), x, size=size)
    weights = array(xp, weights)
    return xp.scatter_add(floating(xp, weights), x, size=size)


# --- comparing ----------------------------------------------------------------------------------------------------------------------------------
@named("isclose")
def isclose(xp: Any, a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> Any:
    a, b = arrays(xp, a, b)
    near = (xp.abs(a - b) <= atol + rtol * xp.abs(b)) & (xp.isfinite(b) if inexact(b) else b == b)
    same = (a == b) | near
    return same | ((a != a) & (b != b)) if equal_nan else same


@named("allclose")
def allclose(xp: Any, a: Any, b: Any, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: bool = False) -> bool:
    return bool(xp.all(isclose(xp, a, b, rtol, atol, equal_nan)))


@named("array_equal")
def array_equal(xp: Any, a1: Any, a2: Any, equal_nan: bool = False) -> bool:
    a, b = arrays(xp, a1, a2)
    if tuple(a.shape) != tuple(b.shape):
        return False
    same = a == b
    return bool(xp.all(same | ((a != a) & (b != b)) if equal_nan else same))


@named("array_equiv")
def array_equiv(xp: Any, a1: Any, a2: Any) -> bool:
    try:
        a, b = xp.broadcast_arrays(*arrays(xp, a1, a2))
    except ValueError:
        return False
    return bool(xp.all(a == b))


@named("isneginf")
def isneginf(xp: Any, x: Any, out: Any = None) -> Any:
    return array(xp, x) == -math.inf


@named("isposinf")
def isposinf(xp: Any, x: Any, out: Any = None) -> Any:
    return array(xp, x) == math.inf


@named("iscomplex")
def iscomplex(xp: Any, x: Any) -> Any:
    x = array(xp, x)
    return xp.imag(x) != 0 if x.dtype in COMPLEX else x != x if xp.backend.kind(x.dtype) == "b" else xp.zeros_like(x) != 0


@named("isreal")
def isreal(xp: Any, x: Any) -> Any:
    return ~iscomplex(xp, x)


@named("iscomplexobj")
def iscomplexobj(xp: Any, x: Any) -> bool:
    return array(xp, x).dtype in COMPLEX


@named("isrealobj")
def isrealobj(xp: Any, x: Any) -> bool:
    return array(xp, x).dtype not in COMPLEX


@named("isin")
def isin(xp: Any, element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *, kind: Any = None) -> Any:
    x, tests = arrays(xp, element, test_elements)
    found = xp.any(xp.expand_dims(x, axis=x.ndim) == xp.reshape(tests, (-1,)), axis=-1)
    return ~found if invert else found


@named("shape")
def shape(xp: Any, a: Any) -> tuple[int, ...]:
    return tuple(array(xp, a).shape)


@named("ndim")
def ndim(xp: Any, a: Any) -> int:
    return int(array(xp, a).ndim)


@named("size")
def size(xp: Any, a: Any, axis: Any = None) -> int:
    a = array(xp, a)
    axes = range(a.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    return math.prod(a.shape[i] for i in axes)


# --- in place -----------------------------------------------------------------------------------------------------------------------------------
@named("copyto")
def copyto(xp: Any, dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    check_out("copyto", dst)
    dst[...] = src if where is True else xp.where(_mask(xp, where), array(xp, src, dst), dst)


@named("putmask")
def putmask(xp: Any, a: Any, /, mask: Any, values: Any) -> None:
    check_out("putmask", a)
    a[...] = xp.where(_mask(xp, mask), resized(xp, array(xp, values, a), a.shape), a)


def resized(xp: Any, values: Any, shape: Any) -> Any:
    """Give values repeated to fill a shape."""
    from agnostic_ad.numpy_names.shapes import resize

    return resize(xp, values, shape)


@named("place")
def place(xp: Any, arr: Any, mask: Any, vals: Any) -> None:
    check_out("place", arr)
    mask = _mask(xp, mask)
    arr[mask] = resized(xp, array(xp, vals, arr), (int(xp.count_nonzero(mask)),))


@named("put")
def put(xp: Any, a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    check_out("put", a)
    flat, places = xp.reshape(a, (-1,)), xp.reshape(array(xp, ind), (-1,))
    value = xp.astype(resized(xp, array(xp, v, a), places.shape), a.dtype)
    if mode != "raise":
        places = xp.clip(places, 0, a.size - 1) if mode == "clip" else xp.remainder(places, a.size)
    a[...] = xp.reshape(xp.put_rows(flat, places, value), a.shape)


@named("put_along_axis")
def put_along_axis(xp: Any, arr: Any, indices: Any, values: Any, axis: Any) -> None:
    check_out("put_along_axis", arr)
    indices = array(xp, indices)
    if axis is None:
        put(xp, arr, indices, values)
        return
    axis = normalize_axis(axis, arr.ndim, "put_along_axis")
    key = [
        xp.reshape(xp.arange(n, device=arr.device), tuple(-1 if i == d else 1 for i in range(arr.ndim))) for d, n in enumerate(arr.shape)
    ]
    key[axis] = indices
    arr[tuple(key)] = values


@named("fill_diagonal")
def fill_diagonal(xp: Any, a: Any, val: Any, wrap: bool = False) -> None:
    check_out("fill_diagonal", a)
    if a.ndim < 2 or (a.ndim > 2 and len(set(a.shape)) > 1):
        raise ValueError(f"fill_diagonal needs a matrix, or an array of equal sizes; got shape {tuple(a.shape)}")
    columns = a.shape[1]
    step = columns + 1 if a.ndim == 2 else 1 + sum(math.prod(a.shape[:i]) for i in range(1, a.ndim))
    end = a.size if wrap or a.ndim > 2 else min(a.size, columns * columns)
    places = xp.arange(0, operator.index(end), step, device=a.device)
    value = xp.astype(resized(xp, array(xp, val, a), places.shape), a.dtype)
    a[...] = xp.reshape(xp.put_rows(xp.reshape(a, (-1,)), places, value), a.shape)
