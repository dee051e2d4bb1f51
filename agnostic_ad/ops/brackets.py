"""Everything that NumPy allows between brackets, read and written.

Integers, slices, None and Ellipsis are one operation. With arrays, masks become integers, and several arrays become one array of positions
in the flattened axes: a ``gather`` of rows to read, ``put_rows`` to write.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from agnostic_ad import views
from agnostic_ad.errors import EscapedArrayError
from agnostic_ad.families import broadcast_shapes
from agnostic_ad.levels import Array, Level, Symbolic, check_alive, deepest, inexact, lift_to
from agnostic_ad.namespaces import COMPLEX, lookup
from agnostic_ad.ops.indexing import basic_shape, counting, getitem


def normalize_key(key: Any) -> tuple[tuple[Any, ...], bool]:
    """Give a key as a tuple, with integers as ints, and whether it is basic."""
    key = key if isinstance(key, tuple) else (key,)
    out: list[Any] = []
    basic = True
    for k in key:
        if k is None or k is Ellipsis or isinstance(k, slice):
            out.append(
                slice(*(e if e is None or isinstance(e, Symbolic) else operator.index(e) for e in (k.start, k.stop, k.step)))
                if isinstance(k, slice)
                else k
            )
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


def of_library(x: Any, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give an advanced key with lists, and NumPy's arrays of integers over any library, as arrays of the library of ``x``.

    Masks stay on the host, where their true places are known at once (while JAX traces, say).
    """
    out: list[Any] = []
    for k in key:
        if isinstance(k, list):
            k = np.asarray(k, dtype=None if k else np.int64)
        if isinstance(k, np.ndarray) and not _is_mask(k):
            k = x.backend.from_numpy(k, x.device)
        out.append(k)
    return tuple(out)


def _index_arrays(xp: Any, x: Any, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give an advanced key with masks as the integer arrays of their true places."""
    out: list[Any] = []
    axis = 0
    used = sum(0 if k is None or k is Ellipsis else _mask_ndim(k) for k in key)
    for k in key:
        if k is Ellipsis:
            out.extend([slice(None)] * (x.ndim - used))
            axis += x.ndim - used
            continue
        if isinstance(k, Array) or lookup(k) is not None:
            if inexact(k):
                raise IndexError(f"an array index holds integers or booleans, not {k.dtype}")
            if _is_mask(k):
                shape = tuple(k.shape)
                if not _fits(shape, x.shape[axis:]):
                    raise IndexError(
                        f"a mask of shape {shape} does not fit the axes {tuple(x.shape[axis : axis + len(shape)])} that it indexes"
                    )
                out.extend(
                    (x.backend.from_numpy(place, x.device) for place in np.nonzero(k)) if isinstance(k, np.ndarray) else xp.nonzero(k)
                )
                axis += len(shape)
                continue
        out.append(k)
        axis += k is not None
    return (*out, *(slice(None),) * (x.ndim - axis))


def _fits(mask: tuple[Any, ...], shape: tuple[Any, ...]) -> bool:
    """Tell whether a mask's shape begins ``shape``; a size of 0 fits everywhere, as the standard says."""
    return len(mask) <= len(shape) and all(m in (0, n) for m, n in zip(mask, shape))


def _is_mask(k: Any) -> bool:
    backend = k.backend if isinstance(k, Array) else lookup(k)
    return backend is not None and backend.kind(k.dtype) == "b"


def _is_truth(k: Any) -> bool:
    """Tell whether a part of a key is one truth value."""
    return isinstance(k, bool) or (_is_mask(k) and not k.shape)


def _mask_ndim(k: Any) -> int:
    return len(k.shape) if _is_mask(k) else 1


def _without_truths(xp: Any, x: Any, key: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Give truth values among a key the axis of size 1 that they choose all or nothing of."""
    basic: list[Any] = []
    rest: list[Any] = []
    for k in key:
        if _is_truth(k):
            basic.append(None)
            rest.append(xp.zeros((int(bool(k)),), dtype=xp.int64, device=x.device))
        else:
            basic.extend((k,) if k is Ellipsis else () if k is None else (slice(None),) * _mask_ndim(k))
            rest.append(k)
    return xp.getitem(x, key=tuple(basic)), tuple(rest)


def plan(xp: Any, x: Any, key: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int], Any, tuple[Any, ...], int]:
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
    inner = basic_shape(tuple(x.shape), basic)
    arrays = [full[i] for i in advanced]
    if any(isinstance(k, Array) for k in arrays):  # some libraries' own arrays refuse others as operands
        arrays = [lift_to(x.level, k) for k in arrays]
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
    while isinstance(raw, Array):
        raw = raw.payload
    backend = lookup(raw)
    if backend is not None and backend.checks_bounds:
        low, high = raw < -size, raw >= size
        if bool(backend.xp.any(low | high)):
            raise IndexError(f"an index array goes out of bounds for axis {axis} of size {size}")
    k = counting(xp, k)
    return xp.where(k < 0, k + size, k)


def _front(axes: list[int], ndim: int) -> tuple[int, ...]:
    return (*axes, *(a for a in range(ndim) if a not in axes))


def index(x: Any, key: Any) -> Any:
    """Give ``x[key]``."""
    check_alive(x)
    key, basic = normalize_key(key)
    if basic:
        y = getitem.run((x,), {"key": key})
        return views.note(x, y, "getitem", {"key": key}) if y.shape or Ellipsis in key else y  # NumPy's scalars are no views
    level = deepest((x, *(k for k in key if isinstance(k, Array))))
    assert level is not None
    xp = level.rules(x.backend)
    x, key = lift_to(level, x), of_library(x, key)
    if any(map(_is_truth, key)):
        x, key = _without_truths(xp, x, key)
    basic_key, axes, where, shape, place = plan(xp, x, key)
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
    if basic and views.is_view(value, x, key):
        return  # x[key] += 1 has written already
    level: Level = x.level
    deeper = deepest((x, value, *(k for k in key if isinstance(k, Array))))
    if deeper is not level:
        raise EscapedArrayError(
            f"an array of {level.label} cannot hold a value of {deeper.label if deeper else '?'}, which runs inside it. "
            "Make the array inside that transformation, with xp.zeros or xp.asarray of its namespace."
        )
    xp = level.rules(x.backend)
    value = xp.asarray(value, device=x.device) if not isinstance(value, Array) else lift_to(level, value)
    if value.dtype != x.dtype:
        if (value.dtype in COMPLEX and x.dtype not in COMPLEX) or (inexact(value) and not inexact(x)):
            raise TypeError(f"an array of dtype {x.dtype} cannot hold values of dtype {value.dtype}")
        value = xp.astype(value, x.dtype)
    views.write(x, _assigned(xp, x, key, value, basic))


def _assigned(xp: Any, x: Any, key: tuple[Any, ...], value: Any, basic: bool) -> Any:
    if basic:
        room = len(basic_shape(tuple(x.shape), key))
        while value.ndim > room and value.shape[0] == 1:
            value = xp.reshape(value, value.shape[1:])
        return xp.setitem(x, value, key=key)
    key = of_library(x, key)
    if any(map(_is_truth, key)) and not (len(key) == 1 and value.ndim == x.ndim == 0 and _is_mask(key[0])):
        if len(key) > 1:
            raise IndexError("a truth value beside other indices is for reading; to assign, test it with `if`")
        return _assigned(xp, x, (Ellipsis,), value, True) if key[0] else x
    if len(key) == 1 and value.ndim == 0 and _is_mask(key[0]) and 0 not in key[0].shape:
        shape = tuple(key[0].shape)
        if not _fits(shape, x.shape):
            raise IndexError(f"a mask of shape {shape} does not fit an array of shape {tuple(x.shape)}")
        mask = x.backend.from_numpy(key[0], x.device) if isinstance(key[0], np.ndarray) else key[0]
        return xp.where(xp.reshape(mask, (*shape, *(1 for _ in x.shape[len(shape) :]))), value, x)
    basic_key, axes, where, shape, place = plan(xp, x, key)
    inner = x if all(k == slice(None) for k in basic_key) else xp.getitem(x, key=basic_key)
    order = _front(axes, inner.ndim)
    front = xp.permute_dims(inner, order)
    rest = tuple(front.shape[len(axes) :])
    value = xp.broadcast_to(value, (*rest[:place], *shape, *rest[place:]))
    value = xp.moveaxis(value, tuple(range(place, place + len(shape))), tuple(range(len(shape))))
    rows = xp.put_rows(xp.reshape(front, (math.prod(front.shape[: len(axes)]), *rest)), where, xp.reshape(value, (math.prod(shape), *rest)))
    changed = xp.permute_dims(xp.reshape(rows, front.shape), tuple(sorted(range(len(order)), key=order.__getitem__)))
    return changed if inner is x else xp.setitem(x, changed, key=basic_key)


Array.__getitem__ = index  # type: ignore[method-assign]
Array.__setitem__ = assign  # type: ignore[index]
