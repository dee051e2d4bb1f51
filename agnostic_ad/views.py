"""In-place changes and views: what basic indexing gives stays one with the array it came from, as in NumPy.

Arrays here never change: an in-place change gives the array object another value. So the array that a slice was taken from, and every slice
of it that is still in use, get their new values by ``setitem`` and ``getitem``, recorded like any other operation.
"""

from __future__ import annotations

import weakref
from typing import Any

from agnostic_ad.levels import Array
from agnostic_ad.op import Op

__all__ = ["is_view", "note", "write"]


def note(x: Array, y: Array, key: tuple[Any, ...]) -> None:
    """Remember that ``y`` is ``x[key]``; neither keeps the other alive."""
    y._base = (weakref.ref(x), key)
    found = getattr(x, "_views", None)
    if found is None:
        found = x._views = []
    found.append(weakref.ref(y))
    count = len(found)
    if count >= 16 and count & (count - 1) == 0:  # at powers of two, so that a million slices leave no million dead references
        found[:] = [ref for ref in found if ref() is not None]


def _base(y: Any) -> tuple[Any, Any]:
    ref, key = getattr(y, "_base", (None, None))
    return (None if ref is None else ref()), key


def is_view(y: Any, x: Array, key: tuple[Any, ...]) -> bool:
    """Tell whether ``y`` is ``x[key]`` itself."""
    base, known = _base(y) if isinstance(y, Array) else (None, None)
    return base is x and bool(known == key)


def write(x: Array, new: Array, setitem: Op, getitem: Op) -> None:
    """Give ``x`` the value of ``new``, and with it the array it is a view of, and all other views."""
    x._become(new)
    base, key = _base(x)
    if base is not None:
        write(base, setitem.run((base, x), {"key": key}), setitem, getitem)
    for ref in getattr(x, "_views", ()):
        view = ref()
        if view is not None:
            _renew(view, x, getitem)


def _renew(view: Array, x: Array, getitem: Op) -> None:
    view._become(getitem.run((x,), {"key": _base(view)[1]}))
    for ref in getattr(view, "_views", ()):
        below = ref()
        if below is not None:
            _renew(below, view, getitem)
