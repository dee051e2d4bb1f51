"""In-place changes and views: slices and reshaped forms stay one with the array they came from, as in NumPy.

Arrays here never change: an in-place change gives the array object another value. So the array that a view was taken from, and every view
of it that is still in use, get their new values too, by operations that are recorded like any other.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from agnostic_ad.levels import Array
from agnostic_ad.op import TABLE

__all__ = ["cut", "is_view", "layout", "note", "note_shape", "same", "write"]


def note(x: Array, y: Array, op: str, params: dict[str, Any]) -> Array:
    """Remember that ``y`` is a view, ``op(x, **params)``, and give it. A view keeps its base alive, as in NumPy, and not the other way.

    ``op`` is "getitem", "reshape", "permute_dims", "broadcast_to", "real" or "imag".
    """
    y._base = (x, op, params)
    found = getattr(x, "_views", None)
    if found is None:
        found = x._views = []
    found.append(weakref.ref(y))
    count = len(found)
    if count >= 16 and count & (count - 1) == 0:  # at powers of two, so that a million slices leave no million dead references
        found[:] = [ref for ref in found if ref() is not None]
    return y


def note_shape(x: Array, y: Array) -> Array:
    """Remember that ``y`` is ``x`` in another shape, where NumPy would not make a copy; and give it."""
    there = layout(x)
    if there.flags.c_contiguous or np.may_share_memory(there, there.reshape(y.shape)):
        note(x, y, "reshape", {"shape": tuple(y.shape), "copy": None})
    return y


def _base_of(x: Any) -> Any:
    return getattr(x, "_base", None) if isinstance(x, Array) else None


def is_view(y: Any, x: Array, key: tuple[Any, ...]) -> bool:
    """Tell whether ``y`` is ``x[key]`` itself."""
    base = _base_of(y)
    return base is not None and base[0] is x and base[1] == "getitem" and bool(base[2]["key"] == key)


def same(x: Any, y: Any) -> bool:
    """Tell whether two arrays are one, or the same view of one."""
    ours, theirs = _base_of(x), _base_of(y)
    return x is y or (ours is not None and theirs is not None and ours[0] is theirs[0] and ours[1:] == theirs[1:])


def cut(x: Array) -> None:
    """Part ``x`` from its base and its views, which keep their values: it is to hold other memory."""
    for view in _live(x):
        view._base = None
    x._base, x._views = None, None


def write(x: Array, new: Array) -> None:
    """Give ``x`` the value of ``new``, and with it the array it is a view of, and all other views."""
    while (base := _base_of(x)) is not None:
        new = _put_back(base[0], new, *base[1:])
        x = base[0]
    _lay_alike(x, new)
    todo, changes = [(x, new)], []
    for x, new in todo:
        x._check_change()
        changes.append((x, new))
        for view in _live(x):
            _, op, params = view._base
            todo.append((view, TABLE[op].run((new,), params)))
    for x, new in changes:  # nothing has changed where anything above is refused
        x._become(new)


def _put_back(base: Array, view: Array, op: str, params: dict[str, Any]) -> Any:
    """Give ``base`` with the part that ``view`` shows replaced."""
    if op == "getitem":
        return TABLE["setitem"].run((base, view), params)
    if op == "reshape":
        return TABLE["reshape"].run((view,), {"shape": tuple(base.shape), "copy": None})
    if op == "broadcast_to":
        raise RuntimeError(
            f"an array expanded from shape {tuple(base.shape)} to {tuple(view.shape)} cannot be changed in place: several of its elements are "
            "one. Change a copy, x.copy(), or the array that was expanded."
        )
    if op in ("real", "imag"):
        parts = (view, TABLE["imag"](base)) if op == "real" else (TABLE["real"](base), view)
        real, imag = (TABLE["astype"](part, base.dtype) for part in parts)
        return real + imag * 1j
    axes = params["axes"]
    return TABLE["permute_dims"].run((view,), {"axes": tuple(sorted(range(len(axes)), key=axes.__getitem__))})


def _live(x: Array) -> Iterator[Array]:
    for ref in getattr(x, "_views", None) or ():
        view = ref()
        if view is not None and (base := _base_of(view)) is not None and base[0] is x:
            yield view


def _innermost(x: Any) -> Any:
    """Give the wrapped array that holds the raw one."""
    while isinstance(inner := getattr(x, "payload", None), Array):
        x = inner
    return x


def _lay_alike(x: Array, new: Array) -> None:
    """Over NumPy, put the values of ``new`` in memory as those of ``x`` were: an in-place change leaves that alone."""
    holder = _innermost(new)
    old, made = getattr(_innermost(x), "payload", None), getattr(holder, "payload", None)
    if isinstance(old, np.ndarray) and isinstance(made, np.ndarray) and old.shape == made.shape and old.strides != made.strides:
        holder.payload = np.empty_like(old)
        holder.payload[...] = made


def layout(x: Array) -> np.ndarray[Any, Any]:
    """Give a NumPy array, of no values, that lies in memory as ``x`` would in NumPy.

    An array that is no view lies row by row; over NumPy, as the raw array does.
    """
    steps = []
    while (base := _base_of(x)) is not None:
        steps.append(base[1:])
        x = base[0]
    raw = getattr(_innermost(x), "payload", None)
    alike = isinstance(raw, np.ndarray) and raw.shape == x.shape
    y: np.ndarray[Any, Any] = np.empty_like(raw, np.bool_, subok=False) if alike else np.empty(x.shape, np.bool_)
    for op, params in reversed(steps):
        if op == "getitem":
            y = y[params["key"]]
        elif op == "reshape":
            y = y.reshape(params["shape"])
        elif op == "permute_dims":
            y = y.transpose(params["axes"])
        else:
            y = np.broadcast_to(y, params["shape"]) if op == "broadcast_to" else np.empty_like(y, np.complex64).real
    return y
