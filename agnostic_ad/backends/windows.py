"""Arithmetic of sliding windows: sizes, and the slices that pick one position of every window."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

__all__ = ["Convolution", "Pooling", "offsets", "out_size", "reach"]

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Convolution(NamedTuple):
    """How a window moves over an input: one number, or one pair of numbers before and after, for each axis."""

    stride: Sizes
    padding: Pairs
    dilation: Sizes
    groups: int = 1


class Pooling(NamedTuple):
    """The size of a window, and how it moves."""

    kernel: Sizes
    stride: Sizes
    padding: Pairs
    dilation: Sizes
    ceil: bool = False


def reach(out: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Sizes:
    """Give how many elements ``out`` windows cover along each axis, from the first one's start to the last one's end."""
    return tuple((o - 1) * s + d * (k - 1) + 1 for o, k, s, d in zip(out, kernel, stride, dilation, strict=True))


def out_size(size: Any, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, ceil: bool = False) -> Sizes:
    """Give how many windows fit along each axis; with ``ceil``, one that begins inside and ends beyond counts too."""
    out = []
    for n, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True):
        room = n + before + after - d * (k - 1) - 1
        count = (room + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= n + before:
            count -= 1  # it would begin in the padding
        out.append(max(count, 0))  # with ``ceil``, a window a little larger than the input counts as well
    return tuple(out)


def offsets(kernel: Sizes, out: Sizes, stride: Sizes, dilation: Sizes) -> Iterator[tuple[slice, ...]]:
    """Give, for each position inside a window, the slices of the last axes that pick it from all windows."""
    spans = [[slice(i * d, i * d + (o - 1) * s + 1, s) for i in range(k)] for k, o, s, d in zip(kernel, out, stride, dilation, strict=True)]
    return product(*spans)
