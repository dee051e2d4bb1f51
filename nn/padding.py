"""Padding layers: one base for each kind, for any number of spatial axes."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.module import Module

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d",
    "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _PadNd(Module):
    """What the padding layers share; ``axes`` is the number of spatial axes."""

    axes: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        numbers = tuple(padding) if isinstance(padding, tuple | list) else (padding,) * (2 * self.axes)
        if len(numbers) != 2 * self.axes or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
            raise ValueError(f"{type(self).__name__}: padding is an integer, or {2 * self.axes} of them; got {padding!r}")
        self.padding = numbers

    def forward(self, input: Any) -> Any:
        """Pad the last axes."""
        if len(input.shape) not in (self.axes + 1, self.axes + 2):
            raise ValueError(
                f"{type(self).__name__} takes an input of {self.axes + 1} or {self.axes + 2} dimensions, not of shape {tuple(input.shape)}"
            )
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        """Give the numbers of elements."""
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    """Those that pad with a number, inputs of any number of dimensions."""

    value: float

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        """Pad the last axes."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        """Give the numbers of elements, and the value."""
        return f"padding={self.padding}, value={self.value}"


class _ZeroPadNd(_ConstantPadNd):
    """Those that pad with zeros."""

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """Give the numbers of elements."""
        return f"{self.padding}"


class _CircularPadNd(_PadNd):
    """Those that pad with the other end."""

    mode = "circular"


class _ReflectionPadNd(_PadNd):
    """Those that pad with reflections."""

    mode = "reflect"


class _ReplicationPadNd(_PadNd):
    """Those that pad with copies of the edges."""

    mode = "replicate"


class CircularPad1d(_CircularPadNd):
    """Pad (N, C, L) or (C, L) with the elements from the other end; see `CircularPad2d`."""

    axes = 1


class CircularPad2d(_CircularPadNd):
    """Pad (N, C, H, W) or (C, H, W) with the elements from the other end.

    Parameters
    ----------
    padding : int or (int, int, int, int)
        How many elements to put on the left, on the right, at the top and at the bottom: at most as many as there are. Negative ones are
        taken away.
    """

    axes = 2


class CircularPad3d(_CircularPadNd):
    """Pad (N, C, D, H, W) or (C, D, H, W) with the elements from the other end; see `CircularPad2d`."""

    axes = 3


class ConstantPad1d(_ConstantPadNd):
    """Pad the last axis with a number; see `ConstantPad2d`."""

    axes = 1


class ConstantPad2d(_ConstantPadNd):
    """Pad the last two axes with a number.

    Parameters
    ----------
    padding : int or (int, int, int, int)
        How many elements to put on the left, on the right, at the top and at the bottom. Negative ones are taken away.
    value : float
        The number.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.ConstantPad2d((1, 0, 0, 0), 7.0)(np.zeros((1, 2, 2)))
    array([[[7., 0., 0.],
            [7., 0., 0.]]])
    """

    axes = 2


class ConstantPad3d(_ConstantPadNd):
    """Pad the last three axes with a number; see `ConstantPad2d`."""

    axes = 3


class ReflectionPad1d(_ReflectionPadNd):
    """Pad (N, C, L) or (C, L) with reflections; see `ReflectionPad2d`."""

    axes = 1


class ReflectionPad2d(_ReflectionPadNd):
    """Pad (N, C, H, W) or (C, H, W) with the elements next to the edges in reverse, without those at the edges.

    Parameters
    ----------
    padding : int or (int, int, int, int)
        How many elements to put on the left, on the right, at the top and at the bottom: fewer than there are. Negative ones are taken away.
    """

    axes = 2


class ReflectionPad3d(_ReflectionPadNd):
    """Pad (N, C, D, H, W) or (C, D, H, W) with reflections; see `ReflectionPad2d`."""

    axes = 3


class ReplicationPad1d(_ReplicationPadNd):
    """Pad (N, C, L) or (C, L) with copies of the edges; see `ReplicationPad2d`."""

    axes = 1


class ReplicationPad2d(_ReplicationPadNd):
    """Pad (N, C, H, W) or (C, H, W) with copies of the elements at the edges.

    Parameters
    ----------
    padding : int or (int, int, int, int)
        How many elements to put on the left, on the right, at the top and at the bottom. Negative ones are taken away.
    """

    axes = 2


class ReplicationPad3d(_ReplicationPadNd):
    """Pad (N, C, D, H, W) or (C, D, H, W) with copies of the edges; see `ReplicationPad2d`."""

    axes = 3


class ZeroPad1d(_ZeroPadNd):
    """Pad the last axis with zeros; see `ConstantPad2d`."""

    axes = 1


class ZeroPad2d(_ZeroPadNd):
    """Pad the last two axes with zeros; see `ConstantPad2d`."""

    axes = 2


class ZeroPad3d(_ZeroPadNd):
    """Pad the last three axes with zeros; see `ConstantPad2d`."""

    axes = 3
