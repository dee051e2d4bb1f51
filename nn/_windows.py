"""The arguments of convolution and pooling, for any number of spatial axes."""

from __future__ import annotations

from typing import Any

from agnostic_ad.backends.windows import Convolution, Pooling
from agnostic_ad.rules import QUICK

_conv = QUICK["nn.conv"]
_max_pool = QUICK["nn.max_pool"]
_reshape = QUICK["reshape"]


def tuple_of(value: Any, count: int, name: str, least: int = 1) -> tuple[int, ...]:
    """Give one number, or several, as a tuple of ``count`` integers."""
    numbers = tuple(value) if isinstance(value, tuple | list) else (value,) * count
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count or any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in numbers):
        raise ValueError(f"{name} is an integer of {least} or more, or {count} of them; got {value!r}")
    return numbers


def padding_pairs(padding: Any, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Give what is put before and after each axis."""
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError("padding='same' needs a stride of 1")
        total = [d * (k - 1) for d, k in zip(dilation, kernel)]
        return tuple((t // 2, t - t // 2) for t in total)
    if isinstance(padding, str):
        raise ValueError(f"padding is 'valid', 'same' or numbers; got {padding!r}")
    return tuple((p, p) for p in tuple_of(padding, len(kernel), "padding", 0))


def _batched(x: Any, count: int, what: str) -> tuple[Any, bool]:
    """Give (N, C, ...) for (N, C, ...) or (C, ...), and whether there was no batch."""
    shape = tuple(x.shape)
    if len(shape) not in (count + 1, count + 2):
        raise ValueError(f"{what} takes an input of {count + 1} or {count + 2} dimensions, not of shape {shape}")
    alone = len(shape) == count + 1
    return (_reshape(x, (1, *shape)) if alone else x), alone


def conv(count: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Convolve over ``count`` axes."""
    what = f"conv{count}d"
    if len(weight.shape) != count + 2:
        raise ValueError(f"{what}: weight of shape {tuple(weight.shape)} should have {count + 2} dimensions: out, in / groups, kernel")
    kernel = tuple(weight.shape[2:])
    steps, gaps = tuple_of(stride, count, "stride"), tuple_of(dilation, count, "dilation")
    pads = padding_pairs(padding, kernel, steps, gaps)
    x, alone = _batched(x, count, what)
    y = _conv(x, weight, bias, how=Convolution(steps, pads, gaps, groups))
    return _reshape(y, tuple(y.shape[1:])) if alone else y


def max_pool(count: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, return_indices: bool) -> Any:
    """Give the maximum of each window over the last ``count`` axes."""
    what = f"max_pool{count}d"
    if return_indices:
        raise NotImplementedError(f"{what}: return_indices is not supported yet")
    kernel = tuple_of(kernel_size, count, "kernel_size")
    steps = kernel if stride is None or stride == [] else tuple_of(stride, count, "stride")
    pads = tuple_of(padding, count, "padding", 0)
    if any(p > k // 2 for p, k in zip(pads, kernel)):
        raise ValueError(f"{what}: padding {pads} is more than half of the window {kernel}")
    if len(x.shape) not in (count + 1, count + 2):
        raise ValueError(f"{what} takes an input of {count + 1} or {count + 2} dimensions, not of shape {tuple(x.shape)}")
    gaps = tuple_of(dilation, count, "dilation")
    return _max_pool(x, how=Pooling(kernel, steps, tuple((p, p) for p in pads), gaps, bool(ceil_mode)))
