"""Basic keys (integers, slices, None, Ellipsis) as the standard specifies them, for libraries that take no others."""

from __future__ import annotations

from typing import Any

__all__ = ["has_negative_step", "specified"]


def has_negative_step(key: tuple[Any, ...]) -> bool:
    """Tell whether a slice runs backwards."""
    return any(isinstance(k, slice) and k.step is not None and k.step < 0 for k in key)


def specified(key: tuple[Any, ...], shape: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Give a key with an Ellipsis where it is short, nothing beyond the ends, and no negative steps.

    Returns
    -------
    key : tuple
        The key.
    flips : tuple of int
        The axes of the result to flip, in place of the negative steps.

    Examples
    --------
    >>> specified((slice(None, None, -2), None), (4, 3))
    ((slice(1, 4, 2), None, Ellipsis), (0,))
    """
    used = sum(k is not None and k is not Ellipsis for k in key)
    if used > len(shape):
        raise IndexError(f"too many indices: {used} for an array of {len(shape)} dimension{'s' * (len(shape) != 1)}")
    out: list[Any] = []
    flips: list[int] = []
    axis = place = 0
    for k in key if any(k is Ellipsis for k in key) else (*key, ...):
        if k is Ellipsis:
            axis, place = axis + len(shape) - used, place + len(shape) - used
        elif k is None:
            place += 1
        elif isinstance(k, slice):
            if k.step is not None and k.step < 0:
                flips.append(place)
            out.append(_forward(k, shape[axis]))
            axis, place = axis + 1, place + 1
            continue
        else:
            if not -shape[axis] <= k < shape[axis]:
                raise IndexError(f"index {k} is out of bounds for axis {axis} of size {shape[axis]}")
            axis += 1
        out.append(k)
    return tuple(out), tuple(flips)


def _forward(k: slice, size: Any) -> slice:
    if not isinstance(size, int) or k == slice(None):
        return k  # a size that a lazy library does not know yet
    steps = range(*k.indices(size))
    if not steps:
        return slice(0, 0)
    return slice(steps[0], steps[-1] + 1, steps.step) if steps.step > 0 else slice(steps[-1], steps[0] + 1, -steps.step)
