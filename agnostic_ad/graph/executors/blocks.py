"""How a group of elementwise operations goes over memory: axes that can be taken together, and blocks that fit into a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Layout", "Split", "layout", "split"]


class Layout(NamedTuple):
    """The axes of a group, as few as there can be.

    Attributes
    ----------
    sizes : tuple of int
        Their sizes.
    full : list of tuple of bool
        For each operand, along which it has this size; along the others it has one element.
    """

    sizes: tuple[int, ...]
    full: list[tuple[bool, ...]]

    def shape(self, k: int) -> tuple[int, ...]:
        """Give the shape to see operand number ``k`` in; none where it has one element."""
        return tuple(n if f else 1 for n, f in zip(self.sizes, self.full[k], strict=True)) if any(self.full[k]) else ()


class Split(NamedTuple):
    """A layout in blocks: each index of the axes in front of ``axis``, and runs of ``rows`` along that."""

    axis: int
    rows: int


def layout(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> Layout:
    """Take axes together along which each operand goes on or stays where it is.

    Examples
    --------
    >>> from agnostic_ad.graph.executors.blocks import layout
    >>> layout((8, 16, 32), [(8, 16, 32), (32,)])
    Layout(sizes=(128, 32), full=[(True, True), (False, True)])
    """
    sizes: list[int] = []
    patterns: list[tuple[bool, ...]] = []
    for k, n in enumerate(shape):
        if n == 1:
            continue
        at = [len(o) - len(shape) + k for o in operands]
        pattern = tuple(i >= 0 and o[i] != 1 for i, o in zip(at, operands, strict=True))
        if patterns and patterns[-1] == pattern:
            sizes[-1] *= n
        else:
            sizes.append(n)
            patterns.append(pattern)
    return Layout(tuple(sizes), [tuple(p[k] for p in patterns) for k in range(len(operands))])


def split(sizes: Sequence[int], block: int) -> Split:
    """Choose the axis to go along in runs, such that a run has about ``block`` elements.

    Examples
    --------
    >>> from agnostic_ad.graph.executors.blocks import split
    >>> split((128, 32), 1024)
    Split(axis=0, rows=32)
    """
    axis = next(k for k in range(len(sizes)) if math.prod(sizes[k + 1 :]) <= block)
    return Split(axis, max(1, min(sizes[axis], block // math.prod(sizes[axis + 1 :]))))
