"""Indexing: ``take`` and friends, and everything that NumPy allows between brackets.

Two pairs of operations, each other's transpose, carry all of it: ``getitem`` and ``scatter`` for basic keys (integers, slices, None,
Ellipsis), ``gather`` and ``scatter_add`` for integer arrays. Masks become integers, and keys with several arrays become one array of
positions in the flattened axes.
"""

from __future__ import annotations

import math
import operator
from typing import Any

from agnostic_ad import views
from agnostic_ad.errors import EscapedArrayError
from agnostic_ad.families import broadcast_shapes, composite, linear, normalize_axis, sum_to_shape
from agnostic_ad.levels import Array, check_alive, deepest, device_of, inexact, lift_to
from agnostic_ad.namespaces import COMPLEX, ShapeDtype, lookup
from agnostic_ad.op import Op
from agnostic_ad.samples import case, integers


# --- basic keys -----------------------------------------------------------------------------------------------------------------------
def _basic_shape(shape: tuple[Any, ...], key: tuple[Any, ...]) -> tuple[Any, ...]:
    out: list[Any] = []
    axis = 0
    for k in expand_ellipsis(key, len(shape)):
        if k is None:
            out.append(1)
            continue
        if isinstance(k, slice):
            out.append(len(range(*k.indices(shape[axis]))))
        elif not -shape[axis] <= k < shape[axis]:
            raise IndexError(f"index {k} is out of bounds for axis {axis} of size {shape[axis]}")
        axis += 1
    return tuple(out)


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
    abstract=lambda xp, args, params: ShapeDtype(_basic_shape(args[0].shape, params["key"]), args[0].dtype),
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
        ndim = len(_basic_shape(tuple(x.shape[1:]), key))
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
def _batch_rows(xp: Any, size: Any, x: Any, indices: Any, batched: tuple[bool, ...], axis: int, count: Any) -> tuple[Any, Any]:
    """Give operands of one gather or scatter over all members of a batch: rows of the members end to end, and positions in them."""
    x = x if batched[0] else xp.broadcast_to(x, (size, *x.shape))
    x = xp.moveaxis(x, axis + 1, 1)
    flat = xp.reshape(x, (size * x.shape[1], *x.shape[2:]))
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
]


@composite("take_along_axis", "x, indices, /, *, axis=-1", ["x", "indices"], cases=_ALONG)
def take_along_axis(xp: Any, x: Any, indices: Any, *, axis: int = -1) -> Any:
    """Take one element along an axis for each index."""
    axis = normalize_axis(axis, x.ndim, "take_along_axis")
    if x.ndim != indices.ndim:
        raise ValueError(f"take_along_axis: x has {x.ndim} dimensions, indices {indices.ndim}")
    size = x.shape[axis]
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
    indices = xp.where(indices < 0, indices + size, indices)
    # each row's writer, counted from 1, as the sum over all who wrote there of the one who did it last
    numbers = xp.arange(1, count + 1, dtype=indices.dtype, device=device_of(indices))
    writer = xp.scatter_add(xp.where(_last_writers(xp, indices), numbers, xp.zeros_like(numbers)), indices, size=size)
    written = xp.gather(xp.broadcast_to(value, (count, *x.shape[1:])), xp.where(writer > 0, writer - 1, writer), axis=0)
    return xp.where(xp.reshape(writer > 0, (size, *rest)), written, x)


# --- between brackets ----------------------------------------------------------------------------------------------------------------------
def normalize_key(key: Any) -> tuple[tuple[Any, ...], bool]:
    """Give a key as a tuple, with integers as ints, and whether it is basic."""
    key = key if isinstance(key, tuple) else (key,)
    out: list[Any] = []
    basic = True
    for k in key:
        if k is None or k is Ellipsis or isinstance(k, slice):
            out.append(slice(*(None if e is None else operator.index(e) for e in (k.start, k.stop, k.step))) if isinstance(k, slice) else k)
        elif isinstance(k, int) and not isinstance(k, bool):
            out.append(k)
        elif isinstance(k, Array) or lookup(k) is not None:
            if getattr(type(k), "__name__", "").startswith(("int", "uint")):  # a NumPy scalar
                out.append(operator.index(k))
            else:
                out.append(k)
                basic = False
        elif isinstance(k, list | bool):
            out.append(k)
            basic = False
        else:
            try:
                out.append(operator.index(k))
            except TypeError:
                raise IndexError(
                    f"only integers, slices, None, Ellipsis, and integer or boolean arrays index an array; got {type(k).__name__}"
                ) from None
    if sum(k is Ellipsis for k in out) > 1:
        raise IndexError("an index holds one Ellipsis at most")
    return tuple(out), basic


def _index_arrays(xp: Any, x: Any, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give an advanced key with lists as arrays, and masks as the integer arrays of their true places."""
    out: list[Any] = []
    axis = 0
    used = sum(0 if k is None or k is Ellipsis or isinstance(k, bool) else _mask_ndim(k) for k in key)
    for k in key:
        if k is Ellipsis:
            out.extend([slice(None)] * (x.ndim - used))
            axis += x.ndim - used
            continue
        if isinstance(k, list):
            import numpy as np

            found = np.asarray(k)
            k = x.backend.from_numpy(found.astype(np.int64) if found.size == 0 else found, x.device)
        if isinstance(k, bool):
            raise IndexError("True and False as an index are not supported; use x[None] or x[:0][None]")
        if isinstance(k, Array) or lookup(k) is not None:
            kind = x.backend.kind(k.dtype)
            if kind in "fc":
                raise IndexError(f"an array index holds integers or booleans, not {k.dtype}")
            if kind == "b":
                shape = tuple(k.shape)
                if shape != tuple(x.shape[axis : axis + len(shape)]):
                    raise IndexError(
                        f"a mask of shape {shape} does not fit the axes {tuple(x.shape[axis : axis + len(shape)])} that it indexes"
                    )
                out.extend(xp.nonzero(k))
                axis += len(shape)
                continue
        out.append(k)
        axis += k is not None
    return (*out, *(slice(None),) * (x.ndim - axis))


def _mask_ndim(k: Any) -> int:
    if isinstance(k, list):
        import numpy as np

        k = np.asarray(k)
    if isinstance(k, Array) or lookup(k) is not None:
        backend = k.backend if isinstance(k, Array) else lookup(k)
        assert backend is not None
        if backend.kind(k.dtype) == "b":
            return len(k.shape)
    return 1


def _plan(xp: Any, x: Any, key: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int], Any, tuple[Any, ...], int]:
    """Split an advanced key.

    Returns
    -------
    basic : tuple
        A basic key for everything but the arrays.
    axes : list of int
        The axes, behind ``basic``, that the arrays index.
    where : array
        Positions in those axes flattened, in one dimension.
    shape : tuple
        The shape of the arrays broadcast together.
    place : int
        Which axis of the result that shape starts at.
    """
    full = _index_arrays(xp, x, key)
    advanced = [i for i, k in enumerate(full) if not (k is None or isinstance(k, slice))]
    contiguous = advanced == list(range(advanced[0], advanced[-1] + 1))
    basic = tuple(k if k is None or isinstance(k, slice) else slice(None) for k in full)
    inner = _basic_shape(tuple(x.shape), basic)
    arrays = [full[i] for i in advanced]
    shape = broadcast_shapes(*(() if isinstance(k, int) else tuple(k.shape) for k in arrays))
    where: Any = 0
    for i, k in zip(advanced, arrays, strict=True):
        n = inner[i]
        if isinstance(k, int):
            if not -n <= k < n:
                raise IndexError(f"index {k} is out of bounds for axis {i} of size {n}")
            k = k % n
        else:
            k = _checked(xp, k, n, i)
        where = where * n + k
    if isinstance(where, int):
        where = xp.asarray(where, dtype=xp.int64, device=x.device)
    where = xp.reshape(xp.broadcast_to(where, shape), (-1,))
    return basic, advanced, where, shape, advanced[0] if contiguous else 0


def _checked(xp: Any, k: Any, size: Any, axis: int) -> Any:
    raw = k
    while isinstance(raw, Array) and hasattr(raw, "data"):
        raw = raw.payload
    backend = lookup(raw)
    if backend is not None and backend.checks_bounds:
        low, high = raw < -size, raw >= size
        if bool(backend.xp.any(low | high)):
            raise IndexError(f"an index array goes out of bounds for axis {axis} of size {size}")
    return xp.where(k < 0, k + size, k)


def _front(axes: list[int], ndim: int) -> tuple[int, ...]:
    return (*axes, *(a for a in range(ndim) if a not in axes))


def index(x: Any, key: Any) -> Any:
    """Give ``x[key]``."""
    check_alive(x)
    key, basic = normalize_key(key)
    if basic:
        y = getitem.run((x,), {"key": key})
        return views.note(x, y, "getitem", {"key": key}) if y.shape else y
    level = deepest((x, *(k for k in key if isinstance(k, Array))))
    assert level is not None
    xp = level.namespace(x.backend)
    x = lift_to(level, x)
    basic_key, axes, where, shape, place = _plan(xp, x, key)
    if not all(k == slice(None) for k in basic_key):
        x = xp.getitem(x, key=basic_key)
    x = xp.permute_dims(x, _front(axes, x.ndim))
    rest = x.shape[len(axes) :]
    if len(axes) > 1:
        x = xp.reshape(x, (math.prod(x.shape[: len(axes)]), *rest))
    y = xp.gather(x, where, axis=0)
    if len(shape) != 1:
        y = xp.reshape(y, (*shape, *rest))
    return xp.moveaxis(y, tuple(range(len(shape))), tuple(range(place, place + len(shape)))) if place else y


def assign(x: Any, key: Any, value: Any) -> None:
    """Do ``x[key] = value``: ``x`` becomes a new array, so nothing that was saved is overwritten."""
    check_alive(x)
    key, basic = normalize_key(key)
    if views.is_view(value, x, key):
        return  # x[key] += 1 has written already
    level = x.level
    deeper = deepest((x, value, *(k for k in key if isinstance(k, Array))))
    if deeper is not level:
        raise EscapedArrayError(
            f"an array of {level.label} cannot hold a value of {deeper.label if deeper else '?'}, which runs inside it. "
            "Make the array inside that transformation, with xp.zeros or xp.asarray of its namespace."
        )
    xp = level.namespace(x.backend)
    value = xp.asarray(value, device=x.device) if not isinstance(value, Array) else lift_to(level, value)
    if value.dtype != x.dtype:
        if (value.dtype in COMPLEX and x.dtype not in COMPLEX) or (inexact(value) and not inexact(x)):
            raise TypeError(f"an array of dtype {x.dtype} cannot hold values of dtype {value.dtype}")
        value = xp.astype(value, x.dtype)
    views.write(x, _assigned(xp, x, key, value, basic))


def _assigned(xp: Any, x: Any, key: tuple[Any, ...], value: Any, basic: bool) -> Any:
    if basic:
        room = len(_basic_shape(tuple(x.shape), key))
        while value.ndim > room and value.shape[0] == 1:
            value = xp.reshape(value, value.shape[1:])
        return xp.setitem(x, value, key=key)
    if len(key) == 1 and value.ndim == 0 and _mask_ndim(key[0]) == x.ndim and not isinstance(key[0], list):
        if tuple(key[0].shape) != tuple(x.shape):
            raise IndexError(f"a mask of shape {tuple(key[0].shape)} does not fit an array of shape {tuple(x.shape)}")
        return xp.where(key[0], value, x)
    basic_key, axes, where, shape, place = _plan(xp, x, key)
    if all(k == slice(None) for k in basic_key):
        inner = x
    else:
        inner = xp.getitem(x, key=basic_key)
    order = _front(axes, inner.ndim)
    front = xp.permute_dims(inner, order)
    rest = tuple(front.shape[len(axes) :])
    value = xp.broadcast_to(value, (*rest[:place], *shape, *rest[place:]))
    value = xp.moveaxis(value, tuple(range(place, place + len(shape))), tuple(range(len(shape))))
    rows = xp.put_rows(xp.reshape(front, (math.prod(front.shape[: len(axes)]), *rest)), where, xp.reshape(value, (math.prod(shape), *rest)))
    changed = xp.permute_dims(xp.reshape(rows, front.shape), tuple(sorted(range(len(order)), key=order.__getitem__)))
    return changed if inner is x else xp.setitem(x, changed, key=basic_key)


Array.__getitem__ = index  # type: ignore[method-assign]
Array.__setitem__ = assign  # type: ignore[attr-defined]
