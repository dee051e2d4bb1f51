"""Convolution layers: one base for any number of spatial axes."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.nn import init
from agnostic_ad.nn._windows import conv, padding_pairs, tuple_of
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d"]


class _ConvNd(Module):
    """What the convolutions share; ``axes`` is the number of spatial axes."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        if padding_mode != "zeros":
            raise ValueError(f"padding_mode is 'zeros'; {padding_mode!r} is not supported yet")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size = tuple_of(kernel_size, self.axes, "kernel_size")
        self.stride = tuple_of(stride, self.axes, "stride")
        self.dilation = tuple_of(dilation, self.axes, "dilation")
        self.padding = padding if isinstance(padding, str) else tuple_of(padding, self.axes, "padding", 0)
        padding_pairs(self.padding, self.kernel_size, self.stride, self.dilation)  # refuses what does not fit
        self.weight = new_parameter((out_channels, in_channels // groups, *self.kernel_size), xp, dtype, device)
        self.register_parameter("bias", new_parameter((out_channels,), xp, dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in, _ = init.fans(self.weight)
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def forward(self, input: Any) -> Any:
        """Convolve."""
        return conv(self.axes, input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Give the sizes, and what is not the default."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0,) * self.axes:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.axes:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv1d(_ConvNd):
    """Convolve (N, C, L) or (C, L); the arguments are those of `Conv2d`."""

    axes = 1


class Conv2d(_ConvNd):
    """Convolve images of shape (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    in_channels, out_channels : int
        The sizes of the channel axis before and after.
    kernel_size, stride, dilation : int or (int, int)
        The size of a window, the steps between windows, and those between the elements of one.
    padding : int, (int, int), "valid" or "same"
        Zeros around the image; "same" keeps its size, for a stride of 1.
    groups : int
        Into how many groups the channels are divided.
    bias : bool
        Whether to add a bias.
    padding_mode : str
        "zeros".
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight : Parameter
        Shape (out_channels, in_channels / groups, kernel height, kernel width).
    bias : Parameter or None
        Shape (out_channels,).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Conv2d(1, 4, 3, padding=1)(np.ones((2, 1, 8, 8), dtype="float32")).shape
    (2, 4, 8, 8)
    """

    axes = 2


class Conv3d(_ConvNd):
    """Convolve (N, C, D, H, W) or (C, D, H, W); the arguments are those of `Conv2d`."""

    axes = 3
