"""Padding: constants, reflections, copies of the edges, or the other end, around an array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnostic_ad.levels import device_of, unify
from agnostic_ad.rules import QUICK

__all__ = ["pad"]

_concat = QUICK["concat"]
_scatter = QUICK["scatter"]
_setitem = QUICK["setitem"]


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """Put elements before and after those along the last axes, or take some away.

    Parameters
    ----------
    input : array
        Any shape.
    pad : sequence of int
        How many to put before and after along the last axis, then along the last but one, and so on. Negative ones are taken away.
    mode : {"constant", "reflect", "replicate", "circular"}
        What is put there: ``value``; the elements next to the edge in reverse, without that at the edge; the element at the edge; or the
        elements from the other end.
    value : float, optional
        For "constant"; 0 by default.

    Returns
    -------
    array
        Each axis is longer by the sum of its pair.

    Raises
    ------
    ValueError
        Where the numbers are not pairs, are more than there are axes, leave less than nothing of an axis, or, for "reflect" and "circular", ask for
        more elements than there are.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.pad(np.asarray([1.0, 2.0, 3.0]), (1, 2))
    array([0., 1., 2., 3., 0., 0.])
    >>> F.pad(np.asarray([1.0, 2.0, 3.0]), (2, -1), mode="reflect")
    array([3., 2., 1., 2.])
    """
    shape = tuple(input.shape)
    pairs = _pairs(pad, shape)
    if mode == "constant":
        return _constant(input, shape, pairs, 0.0 if value is None else value)
    if mode not in _MODES:
        raise ValueError(f"pad: mode is 'constant', 'reflect', 'replicate' or 'circular', not {mode!r}")
    if value not in (None, 0):
        raise ValueError(f"pad: a value ({value}) goes with mode='constant', not with {mode!r}")
    for axis, (before, after) in pairs.items():
        if before or after:
            _check(mode, shape, axis, before, after)
            input = _MODES[mode](input, axis, before, after)
    return input


def _pairs(pad: Sequence[int], shape: tuple[int, ...]) -> dict[int, tuple[int, int]]:
    """Give what is put before and after each axis, the last first."""
    numbers = tuple(pad)
    if any(isinstance(n, bool) or not hasattr(n, "__index__") for n in numbers):
        raise TypeError(f"pad: the numbers are integers, not {numbers}")
    if len(numbers) % 2 or len(numbers) > 2 * len(shape):
        raise ValueError(f"pad: {numbers} is no pair of numbers for each of the last axes of an input of shape {shape}")
    numbers = tuple(map(int, numbers))
    pairs = {len(shape) - 1 - i: numbers[2 * i : 2 * i + 2] for i in range(len(numbers) // 2)}
    for axis, (before, after) in pairs.items():
        if shape[axis] + before + after < 0 or min(before, 0) + min(after, 0) + shape[axis] < 0:
            raise ValueError(
                f"pad: {numbers} takes away more than the {shape[axis]} elements along axis {axis} of an input of shape {shape}"
            )
    return pairs  # type: ignore[return-value]


def _check(mode: str, shape: tuple[int, ...], axis: int, before: int, after: int) -> None:
    """Refuse to put more elements than there are."""
    size, most = shape[axis], max(before, after)
    there = {"reflect": size - 1, "replicate": most if size else 0, "circular": size + min(before, 0) + min(after, 0)}[mode]
    if most > there:
        raise ValueError(
            f"pad: {before} and {after} elements along axis {axis} of an input of shape {shape} are more than {mode!r} can give: {max(there, 0)} at most"
        )


def _part(x: Any, axis: int, start: int | None, stop: int | None, step: int = 1) -> Any:
    return x[(*(slice(None),) * axis, slice(start, stop, step), ...)]


def _constant(x: Any, shape: tuple[int, ...], pairs: dict[int, tuple[int, int]], value: float) -> Any:
    if any(n < 0 for pair in pairs.values() for n in pair):
        x = x[
            tuple(
                slice(max(-a, 0), n + min(b, 0)) for n, (a, b) in zip(shape, (pairs.get(i, (0, 0)) for i in range(len(shape))), strict=True)
            )
        ]
        shape, pairs = tuple(x.shape), {axis: (max(a, 0), max(b, 0)) for axis, (a, b) in pairs.items()}
    if not any(map(any, pairs.values())):
        return x
    sides = [pairs.get(i, (0, 0)) for i in range(len(shape))]
    key = tuple(slice(a, a + n) for n, (a, _) in zip(shape, sides, strict=True))
    size = tuple(a + n + b for n, (a, b) in zip(shape, sides, strict=True))
    if value == 0:
        return _scatter(x, key=key, shape=size)
    xp = unify([x])[0]
    return _setitem(xp.full(size, value, dtype=x.dtype, device=device_of(x)), x, key=key)


def _cropped(x: Any, axis: int, before: int, after: int) -> Any:
    return x if before >= 0 and after >= 0 else _part(x, axis, max(-before, 0), x.shape[axis] + min(after, 0))


def _reflect(x: Any, axis: int, before: int, after: int) -> Any:
    n, parts = x.shape[axis], [x]
    if before > 0:
        parts.insert(0, _part(x, axis, before, 0, -1))
    if after > 0:
        parts.append(_part(x, axis, n - 2, n - 2 - after if n - 2 - after >= 0 else None, -1))
    return _cropped(_concat(parts, axis=axis), axis, before, after)


def _replicate(x: Any, axis: int, before: int, after: int) -> Any:
    xp, n, parts = unify([x])[0], x.shape[axis], [x]
    for count, at in ((before, 0), (after, n - 1)):
        if count > 0:
            edge = _part(x, axis, at, at + 1)
            parts.insert(len(parts) if at else 0, xp.broadcast_to(edge, (*x.shape[:axis], count, *x.shape[axis + 1 :])))
    return _cropped(_concat(parts, axis=axis), axis, before, after)


def _circular(x: Any, axis: int, before: int, after: int) -> Any:
    x = _cropped(x, axis, before, after)
    n, parts = x.shape[axis], [x]
    if before > 0:
        parts.insert(0, _part(x, axis, n - before, None))
    if after > 0:
        parts.append(_part(x, axis, None, after))
    return _concat(parts, axis=axis)


_MODES = {"reflect": _reflect, "replicate": _replicate, "circular": _circular}
