"""Functions whose results are views of their operand in NumPy, as users' namespaces have them: a change of one reaches the other.

Rules take the operations themselves, which are quicker; nothing there is changed in place. ``broadcast_to`` is not here: NumPy's result is for
reading alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from agnostic_ad import views
from agnostic_ad.families import normalize_axes
from agnostic_ad.levels import Array
from agnostic_ad.op import TABLE
from agnostic_ad.wrapped import CREATION


def _viewing(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``note(x, y, ...)``, which remembers how ``y`` shows ``x``; further arguments are those of the function."""

    def wrap(note: Callable[..., Any]) -> Callable[..., Any]:
        def maker(xp: Any) -> Callable[..., Any]:
            call = xp.level.bind(TABLE[name])

            @functools.wraps(call)
            def function(x: Any, /, *args: Any, **kwargs: Any) -> Any:
                y = call(x, *args, **kwargs)
                if isinstance(x, Array) and isinstance(y, Array) and x.level is y.level:
                    note(x, y, *args, **kwargs)
                return y

            return function

        CREATION[name] = maker
        return note

    return wrap


@_viewing("squeeze")
@_viewing("expand_dims")
def _reshaped(x: Any, y: Any, axis: Any = 0) -> None:
    views.note_shape(x, y)


@_viewing("reshape")
def _reshape(x: Any, y: Any, shape: Any, *, copy: bool | None = None) -> None:
    if not copy:
        views.note_shape(x, y)


def _permuted(x: Any, y: Any, order: Any) -> None:
    views.note(x, y, "permute_dims", {"axes": tuple(order)})


@_viewing("permute_dims")
def _permute_dims(x: Any, y: Any, axes: Any) -> None:
    _permuted(x, y, normalize_axes(tuple(axes), x.ndim, "permute_dims"))


@_viewing("matrix_transpose")
def _matrix_transpose(x: Any, y: Any) -> None:
    _permuted(x, y, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@_viewing("moveaxis")
def _moveaxis(x: Any, y: Any, source: Any, destination: Any) -> None:
    there = normalize_axes(source, x.ndim, "moveaxis")
    order = [axis for axis in range(x.ndim) if axis not in there]
    for place, axis in sorted(zip(normalize_axes(destination, x.ndim, "moveaxis"), there, strict=True)):
        order.insert(place, axis)
    _permuted(x, y, order)


@_viewing("flip")
def _flip(x: Any, y: Any, *, axis: Any = None) -> None:
    axes = range(x.ndim) if axis is None else normalize_axes(axis, x.ndim, "flip")
    views.note(x, y, "getitem", {"key": tuple(slice(None, None, -1 if i in axes else None) for i in range(x.ndim))})
