"""Indexing functions: ``take`` and friends, and what everything between brackets is made of.

Two pairs of operations, each other's transpose: ``getitem`` and ``scatter`` for basic keys (integers, slices, None, Ellipsis), ``gather``
and ``scatter_add`` for integer arrays.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import broadcast_shapes, composite, linear, normalize_axis, sum_to_shape
from agnostic_ad.levels import device_of, is_symbolic
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.samples import case, integers


# --- basic keys -----------------------------------------------------------------------------------------------------------------------
def basic_shape(shape: tuple[Any, ...], key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the shape of what a basic key picks from an array of ``shape``."""
    out: list[Any] = []
    axis = 0
    for k in expand_ellipsis(key, len(shape)):
        if k is None:
            out.append(1)
            continue
        if isinstance(k, slice):
            out.append(_length(k, shape[axis]))
        elif not -shape[axis] <= k < shape[axis]:
            raise IndexError(f"index {k} is out of bounds for axis {axis} of size {shape[axis]}")
        axis += 1
    return tuple(out)


def _length(k: slice, size: Any) -> Any:
    """Give how many elements a slice picks from an axis."""
    if not is_symbolic(size, k.start, k.stop, k.step):
        return len(range(*k.indices(size)))
    step = 1 if k.step is None else k.step
    start, stop = _bound(k.start, 0 if step > 0 else size - 1, size), _bound(k.stop, size if step > 0 else -1, size)
    return (stop - start + step - (1 if step > 0 else -1)) // step


def _bound(given: Any, default: Any, size: Any) -> Any:
    """Give where a slice begins or ends on an axis of any size, which is taken to be large enough."""
    if given is None:
        return default
    if is_symbolic(size) and given:
        size.require(">=", -given if given < 0 else given)
    return size + given if given < 0 else given


def expand_ellipsis(key: tuple[Any, ...], ndim: int) -> tuple[Any, ...]:
    """Write out an Ellipsis, and the full slices that a short key leaves out."""
    used = sum(1 for k in key if k is not None and k is not Ellipsis)
    if used > ndim:
        raise IndexError(f"too many indices: {used} for an array of {ndim} dimension{'s' * (ndim != 1)}")
    place = next((i for i, k in enumerate(key) if k is Ellipsis), len(key))
    return (*key[:place], *(slice(None),) * (ndim - used), *key[place + 1 :])


def _getitem_accumulate(xp: Any, start: Any, ct: Any, saved: tuple[Any, ...], params: dict[str, Any]) -> Any:
    if start is None:
        start = xp.zeros(saved[0], dtype=ct.dtype, device=xp.device(ct))
    return xp.add_into(start, ct, params["key"])


getitem = linear(
    "getitem",
    "x, /, key",
    lambda xp, ct, key, x_shape: xp.scatter(ct, key=key, shape=x_shape),
    batch=lambda xp, size, args, batched, params: xp.getitem(args[0], key=(slice(None), *params["key"])),
    abstract=lambda xp, args, params: ShapeDtype(basic_shape(args[0].shape, params["key"]), args[0].dtype),
    accumulate=_getitem_accumulate,
    cases=[
        case((3, 4), key=(1, ...)),
        case((3, 4), key=(slice(None, None, -2), None, 1)),
        case((4,), key=(..., None)),
        case((4,), key=(slice(3, 3),)),
        case((), key=()),
        case((2, 3, 2), key=(..., slice(-1, None), -1)),
    ],
)
scatter = linear(
    "scatter",
    "x, /, key, shape",
    lambda xp, ct, key: xp.getitem(ct, key=key),
    batch=lambda xp, size, args, batched, params: xp.scatter(args[0], key=(slice(None), *params["key"]), shape=(size, *params["shape"])),
    abstract=lambda xp, args, params: ShapeDtype(tuple(params["shape"]), args[0].dtype),
    cases=[
        case((4,), key=(1, ...), shape=(3, 4)),
        case((2,), key=(slice(None, None, -2),), shape=(4,)),
        case((0,), key=(slice(0),), shape=(2,)),
    ],
)


def _setitem_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, value = args
    key = params["key"]
    if not batched[0]:
        x = xp.broadcast_to(x, (size, *x.shape))
    if batched[1]:
        ndim = len(basic_shape(tuple(x.shape[1:]), key))
        value = xp.reshape(value, (size, *(1,) * (ndim - value.ndim + 1), *value.shape[1:]))
    return xp.setitem(x, value, key=(slice(None), *key))


setitem = Op(
    "setitem",
    "x, value, /, key",
    ["x", "value"],
    vjps=[
        lambda xp, ct, key: xp.setitem(ct, xp.zeros((), dtype=ct.dtype, device=device_of(ct)), key=key),
        lambda xp, ct, key, value_shape: sum_to_shape(xp, xp.getitem(ct, key=key), value_shape),
    ],
    pushforward=lambda xp, args, y, tangents, params: xp.setitem(
        *(xp.zeros_like(a) if t is None else t for a, t in zip(args, tangents, strict=True)), key=params["key"]
    ),
    batch=_setitem_batch,
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, args[0].dtype),
    cases=[
        case((3, 4), (4,), key=(1, ...)),
        case((3, 4), (), key=(slice(None, None, 2), -1)),
        case((4,), (2,), key=(slice(2, 0, -1),)),
        case((), (), key=()),
    ],
)


# --- integer arrays ---------------------------------------------------------------------------------------------------------------------
def counting(xp: Any, indices: Any) -> Any:
    """Give indices in a dtype that positions among all elements fit into."""
    return indices if indices.dtype in (xp.int32, xp.int64) else xp.astype(indices, xp.arange(0).dtype)


def _batch_rows(xp: Any, size: Any, x: Any, indices: Any, batched: tuple[bool, ...], axis: int, count: Any) -> tuple[Any, Any]:
    """Give operands of one gather or scatter over all members of a batch: rows of the members end to end, and positions in them."""
    x = x if batched[0] else xp.broadcast_to(x, (size, *x.shape))
    x = xp.moveaxis(x, axis + 1, 1)
    flat = xp.reshape(x, (size * x.shape[1], *x.shape[2:]))
    indices = counting(xp, indices)
    indices = xp.where(indices < 0, indices + count, indices)
    starts = xp.arange(size, dtype=indices.dtype, device=device_of(indices)) * count
    return flat, xp.reshape(xp.expand_dims(starts, axis=1) + indices, (-1,))


def _gather_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, indices = args
    axis = params["axis"] % (x.ndim - batched[0])
    if not batched[1]:
        return xp.gather(x, indices, axis=axis + 1)
    if not batched[0]:
        y = xp.gather(x, xp.reshape(indices, (-1,)), axis=axis)
        y = xp.reshape(y, (*x.shape[:axis], size, indices.shape[1], *x.shape[axis + 1 :]))
        return xp.moveaxis(y, axis, 0)
    flat, where = _batch_rows(xp, size, x, indices, batched, axis, x.shape[axis + 1])
    y = xp.gather(flat, where, axis=0)
    return xp.moveaxis(xp.reshape(y, (size, indices.shape[1], *flat.shape[1:])), 1, axis + 1)


def _scatter_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, indices = args
    axis, count = params["axis"] % (x.ndim - batched[0]), params["size"]
    if not batched[1]:
        return xp.scatter_add(x, indices, size=count, axis=axis + 1)
    flat, where = _batch_rows(xp, size, x, indices, batched, axis, count)
    y = xp.scatter_add(flat, where, size=size * count, axis=0)
    return xp.moveaxis(xp.reshape(y, (size, count, *flat.shape[1:])), 1, axis + 1)


def _along(shape: tuple[Any, ...], axis: int, size: Any) -> tuple[Any, ...]:
    axis %= len(shape)
    return (*shape[:axis], size, *shape[axis + 1 :])


gather = linear(
    "gather",
    "x, indices, /, *, axis=0",
    arrays=["x", "indices"],
    transpose=lambda xp, ct, indices, axis, x_shape: xp.scatter_add(ct, indices, size=x_shape[axis], axis=axis),
    batch=_gather_batch,
    abstract=lambda xp, args, params: ShapeDtype(_along(args[0].shape, params["axis"], args[1].shape[0]), args[0].dtype),
    cases=[
        case((4, 3), integers((5,), -4, 3), axis=0),
        case((2, 4), integers((3,), 0, 3), axis=1),
        case((4,), integers((0,), 0, 3)),
        case((4,), integers((1,), 0, 3), axis=-1),
    ],
)
scatter_add = linear(
    "scatter_add",
    "x, indices, /, *, size, axis=0",
    arrays=["x", "indices"],
    transpose=lambda xp, ct, indices, axis: xp.gather(ct, indices, axis=axis),
    batch=_scatter_batch,
    abstract=lambda xp, args, params: ShapeDtype(_along(args[0].shape, params["axis"], params["size"]), args[0].dtype),
    cases=[
        case((5, 3), integers((5,), -4, 3), size=4, kinds="ifc"),
        case((2, 3), integers((3,), 0, 3), size=4, axis=1, kinds="fc"),
        case((3,), integers((3,), 0, 1), size=2, axis=-1, kinds="f"),
        case((0,), integers((0,), 0, 1), size=2, kinds="f"),
    ],
)


_TAKES = [
    case((4, 3), integers((5,), 0, 3), axis=0),
    case((2, 4), integers((3,), 0, 3), axis=-1),
    case((4,), integers((2,), 0, 3)),
    case((4,), integers((0,), 0, 3)),
]


@composite("take", "x, indices, /, *, axis=None", ["x", "indices"], cases=_TAKES)
def take(xp: Any, x: Any, indices: Any, *, axis: Any = None) -> Any:
    """Take slices by integer index; an array of indices of any shape takes the axis' place."""
    if axis is None:
        x, axis = xp.reshape(x, (-1,)), 0
    axis = normalize_axis(axis, x.ndim, "take")
    y = xp.gather(x, indices if indices.ndim == 1 else xp.reshape(indices, (-1,)), axis=axis)
    return y if indices.ndim == 1 else xp.reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


_ALONG = [
    case((3, 4), integers((3, 2), 0, 3)),
    case((3, 4), integers((5, 4), 0, 2), axis=0),
    case((2, 4), integers((2, 0), 0, 3), axis=-1),
    case((3, 4), integers((3, 2), -4, -1)),
]


@composite("take_along_axis", "x, indices, /, *, axis=-1", ["x", "indices"], cases=_ALONG)
def take_along_axis(xp: Any, x: Any, indices: Any, *, axis: int = -1) -> Any:
    """Take one element along an axis for each index."""
    axis = normalize_axis(axis, x.ndim, "take_along_axis")
    if x.ndim != indices.ndim:
        raise ValueError(f"take_along_axis: x has {x.ndim} dimensions, indices {indices.ndim}")
    size, indices = x.shape[axis], counting(xp, indices)
    others = broadcast_shapes(_along(x.shape, axis, 1), _along(indices.shape, axis, 1))
    x = xp.moveaxis(xp.broadcast_to(x, _along(others, axis, size)), axis, -1)
    indices = xp.moveaxis(xp.broadcast_to(indices, _along(others, axis, indices.shape[axis])), axis, -1)
    indices = xp.where(indices < 0, indices + size, indices)
    rows = math.prod(x.shape[:-1])
    starts = xp.reshape(xp.arange(rows, dtype=indices.dtype, device=device_of(indices)) * size, (rows, 1))
    where = xp.reshape(xp.reshape(indices, (rows, indices.shape[-1])) + starts, (-1,))
    return xp.moveaxis(xp.reshape(xp.gather(xp.reshape(x, (-1,)), where, axis=0), indices.shape), -1, axis)


def _last_writers(xp: Any, indices: Any) -> Any:
    """Tell of each position whether no later one holds the same index."""
    if indices.shape[0] < 2:
        return xp.ones_like(indices) == 1
    order = xp.argsort(indices, stable=True)
    keys = xp.take(indices, order)
    last = xp.concat([keys[1:] != keys[:-1], xp.ones_like(keys[:1]) == 1])
    return xp.take(last, xp.argsort(order, stable=True))


_PUTS = [
    case((4, 3), integers((3,), -4, 3), (3, 3)),
    case((5,), integers((6,), 0, 4), (6,)),
    case((5,), integers((2,), 0, 4), ()),
    case((2, 2), integers((0,), 0, 1), (0, 2)),
]


@composite("put_rows", "x, indices, value, /", ["x", "indices", "value"], cases=_PUTS)
def put_rows(xp: Any, x: Any, indices: Any, value: Any) -> Any:
    """Give ``x`` with rows replaced; of several for one index, the last stays, on every backend."""
    size, rest, count = x.shape[0], (1,) * (x.ndim - 1), indices.shape[0]
    if count == 0 or size == 0:
        return x
    indices = counting(xp, indices)
    indices = xp.where(indices < 0, indices + size, indices)
    # each row's writer, counted from 1, as the sum over all who wrote there of the one who did it last
    numbers = xp.arange(1, count + 1, dtype=indices.dtype, device=device_of(indices))
    writer = xp.scatter_add(xp.where(_last_writers(xp, indices), numbers, xp.zeros_like(numbers)), indices, size=size)
    written = xp.gather(xp.broadcast_to(value, (count, *x.shape[1:])), xp.where(writer > 0, writer - 1, writer), axis=0)
    return xp.where(xp.reshape(writer > 0, (size, *rest)), written, x)
