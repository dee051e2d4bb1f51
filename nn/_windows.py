"""The arguments of convolution and pooling, for any number of spatial axes."""

from __future__ import annotations

import operator
from typing import Any

from agnostic_ad.rules import QUICK

_reshape = QUICK["reshape"]


def tuple_of(value: Any, count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """Give one number, or several, as a tuple of ``count`` integers."""
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,) * count
    if len(numbers) == 1:
        numbers *= count
    try:
        found = tuple(operator.index(n) for n in numbers)
    except TypeError:
        found = ()
    if len(found) != count or any(isinstance(n, bool) for n in numbers) or min(found) < least:
        raise ValueError(f"{name} is an integer of {least} or more, or {count} of them; got {value!r}")
    return found


def stride_of(stride: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Give the steps of a pooling: by default the size of its window."""
    return kernel if stride is None or stride in ([], ()) else tuple_of(stride, len(kernel), "stride")


def padding_pairs(padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Give what is put before and after each axis."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f"padding='same' needs a stride of 1, not {stride}: what size would be the same is not clear otherwise")
        total = [d * (k - 1) for d, k in zip(dilation, kernel)]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, str):
        raise ValueError(f"padding is 'valid', 'same' or numbers; got {padding!r}")
    return tuple((p, p) for p in tuple_of(padding, len(kernel), "padding", 0))


def batched(x: Any, count: int, what: str) -> tuple[Any, bool]:
    """Give (N, C, ...) for (N, C, ...) or (C, ...), and whether there was no batch."""
    shape = checked(x, count, what)
    alone = len(shape) == count + 1
    return (_reshape(x, (1, *shape)) if alone else x), alone


def checked(x: Any, count: int, what: str) -> tuple[int, ...]:
    """Give the shape of (N, C, ...) or (C, ...); refuse others."""
    shape = tuple(x.shape)
    if len(shape) not in (count + 1, count + 2):
        axes = ("L", "H, W", "D, H, W")[count - 1]
        raise ValueError(f"{what} takes an input of shape (N, C, {axes}) or (C, {axes}), not of shape {shape}")
    return shape


def unbatched(y: Any, alone: bool) -> Any:
    """Take away the batch axis where there was none."""
    return _reshape(y, tuple(y.shape[1:])) if alone else y
