"""In-place changes and views: slices and reshaped forms stay one with the array they came from, as in NumPy.

Arrays here never change: an in-place change gives the array object another value. So the array that a view was taken from, and every view
of it that is still in use, get their new values too, by operations that are recorded like any other.
"""

from __future__ import annotations

import weakref
from typing import Any

from agnostic_ad.levels import Array
from agnostic_ad.op import TABLE

__all__ = ["is_view", "note", "write"]


def note(x: Array, y: Array, op: str, params: dict[str, Any]) -> Array:
    """Remember that ``y`` is a view, ``op(x, **params)``, and give it. A view keeps its base alive, as in NumPy, and not the other way.

    ``op`` is "getitem", "reshape" or "permute_dims".
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


def is_view(y: Any, x: Array, key: tuple[Any, ...]) -> bool:
    """Tell whether ``y`` is ``x[key]`` itself."""
    base = getattr(y, "_base", None) if isinstance(y, Array) else None
    return base is not None and base[0] is x and base[1] == "getitem" and bool(base[2]["key"] == key)


def write(x: Array, new: Array) -> None:
    """Give ``x`` the value of ``new``, and with it the array it is a view of, and all other views."""
    x._become(new)
    found = getattr(x, "_base", None)
    if found is not None:
        base, op, params = found
        write(base, _put_back(base, x, op, params))
    _renew_views(x)


def _put_back(base: Array, view: Array, op: str, params: dict[str, Any]) -> Any:
    """Give ``base`` with the part that ``view`` shows replaced."""
    if op == "getitem":
        return TABLE["setitem"].run((base, view), params)
    if op == "reshape":
        return TABLE["reshape"].run((view,), {"shape": tuple(base.shape), "copy": None})
    axes = params["axes"]
    return TABLE["permute_dims"].run((view,), {"axes": tuple(sorted(range(len(axes)), key=axes.__getitem__))})


def _renew_views(x: Array) -> None:
    for ref in getattr(x, "_views", ()):
        view = ref()
        if view is not None:
            _, op, params = view._base
            view._become(TABLE[op].run((x,), params))
            _renew_views(view)
