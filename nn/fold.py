"""Layers that give the windows of images, and add them up again."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.module import Module

__all__ = ["Fold", "Unfold"]


class Fold(Module):
    """Add windows up where `Unfold` took them from.

    Parameters
    ----------
    output_size : int or (int, int)
        The images' size.
    kernel_size, dilation, padding, stride : int or (int, int)
        The windows, as for `Conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Fold((3, 3), 2)(np.ones((1, 4, 4)))
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """

    def __init__(self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Any) -> Any:
        """Add up."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Give the sizes."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in ("output_size", "kernel_size", "dilation", "padding", "stride"))


class Unfold(Module):
    """Give the windows of images as columns: (N, C * kernel height * kernel width, windows) of (N, C, H, W).

    Parameters
    ----------
    kernel_size, dilation, padding, stride : int or (int, int)
        The windows, as for `Conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Unfold(2)(np.ones((1, 3, 4, 4))).shape
    (1, 12, 9)
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Any) -> Any:
        """Take the windows."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Give the windows."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in ("kernel_size", "dilation", "padding", "stride"))
