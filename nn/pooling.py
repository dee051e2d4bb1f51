"""Pooling layers: one base for any number of spatial axes."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn._windows import max_pool
from agnostic_ad.nn.module import Module

__all__ = ["MaxPool1d", "MaxPool2d", "MaxPool3d"]


class _MaxPoolNd(Module):
    """What the maximum poolings share; ``axes`` is the number of spatial axes."""

    axes: int

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        """Give the maximum of each window."""
        return max_pool(self.axes, input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        """Give the windows."""
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class MaxPool1d(_MaxPoolNd):
    """Give the maximum of each window of (N, C, L) or (C, L); the arguments are those of `MaxPool2d`."""

    axes = 1


class MaxPool2d(_MaxPoolNd):
    """Give the maximum of each window of images (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    padding : int or (int, int)
        Minus infinities around the image, at most half a window.
    dilation : int or (int, int)
        Steps between the elements of a window.
    return_indices : bool
        Not supported yet.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    axes = 2


class MaxPool3d(_MaxPoolNd):
    """Give the maximum of each window of (N, C, D, H, W) or (C, D, H, W); the arguments are those of `MaxPool2d`."""

    axes = 3
