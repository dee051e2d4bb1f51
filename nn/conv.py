"""Convolution layers: one base for any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn._windows import checked, padding_pairs, tuple_of
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What the convolutions share.

    Attributes
    ----------
    axes : int
        The number of spatial axes.
    function : callable
        The function of `functional`.
    """

    axes: int
    function: Callable[..., Any]
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        output_padding: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
        xp: Any,
    ) -> None:
        super().__init__()
        if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
            raise ValueError(f"groups is an integer of 1 or more, not {groups!r}")
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}")
        if padding_mode not in _MODES[: 1 if self.transposed else None]:
            modes = "'zeros'" if self.transposed else ", ".join(map(repr, _MODES))
            raise ValueError(f"{type(self).__name__}: padding_mode is {modes}; got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups, self.padding_mode = in_channels, out_channels, groups, padding_mode
        self.kernel_size = tuple_of(kernel_size, self.axes, "kernel_size")
        self.stride = tuple_of(stride, self.axes, "stride")
        self.dilation = tuple_of(dilation, self.axes, "dilation")
        self._pairs = padding_pairs(padding, self.kernel_size, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else tuple(before for before, _ in self._pairs)
        self.output_padding = tuple_of(output_padding, self.axes, "output_padding", 0)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = new_parameter((first, second // groups, *self.kernel_size), xp, dtype, device)
        self.register_parameter("bias", new_parameter((out_channels,), xp, dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in, _ = init.fans(self.weight)
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        """Give the sizes, and what is not the default."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        none = (0,) * self.axes
        defaults: dict[str, Any] = {"padding": none, "dilation": (1,) * self.axes, "output_padding": none, "groups": 1}
        parts += [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Conv(_ConvNd):
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
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, device, dtype, xp
        )

    def forward(self, input: Any) -> Any:
        """Convolve."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            checked(input, self.axes, type(self).__name__)
            input = F.pad(input, [n for pair in reversed(self._pairs) for n in pair], mode=self.padding_mode)
            padding = 0
        return type(self).function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """Convolve (N, C, L) or (C, L); the arguments are those of `Conv2d`."""

    axes, function = 1, F.conv1d


class Conv2d(_Conv):
    """Convolve images of shape (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    in_channels, out_channels : int
        The sizes of the channel axis before and after.
    kernel_size, stride, dilation : int or (int, int)
        The size of a window, the steps between windows, and those between the elements of one.
    padding : int, (int, int), "valid" or "same"
        How much is put around the image; "same" keeps its size, for a stride of 1.
    groups : int
        Into how many groups the channels are divided.
    bias : bool
        Whether to add a bias.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What is put around the image, as `functional.pad` says.
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

    axes, function = 2, F.conv2d


class Conv3d(_Conv):
    """Convolve (N, C, D, H, W) or (C, D, H, W); the arguments are those of `Conv2d`."""

    axes, function = 3, F.conv3d


class _ConvTranspose(_ConvNd):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        if isinstance(padding, str):
            raise ValueError(f"{type(self).__name__}: padding is made of numbers; got {padding!r}")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias, padding_mode, device, dtype, xp
        )

    def forward(self, input: Any, output_size: Any = None) -> Any:
        """Give the transpose of a convolution; of ``output_size`` (with or without the axes before it), where several sizes would do."""
        more = self.output_padding if output_size is None else self._output_padding(input, output_size)
        return type(self).function(input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation)

    def _output_padding(self, input: Any, output_size: Any) -> tuple[int, ...]:
        """Give the output padding that leads to a size."""
        shape, wanted = checked(input, self.axes, type(self).__name__), tuple(output_size)
        least = [
            (n - 1) * s - sum(pair) + d * (k - 1) + 1
            for n, s, pair, d, k in zip(shape[-self.axes :], self.stride, self._pairs, self.dilation, self.kernel_size, strict=True)
        ]
        more = tuple(w - n for w, n in zip(wanted[-self.axes :], least))
        if len(wanted) not in (self.axes, len(shape)) or any(not 0 <= m < s for m, s in zip(more, self.stride, strict=True)):
            most = tuple(n + s - 1 for n, s in zip(least, self.stride))
            raise ValueError(
                f"{type(self).__name__}: output_size {wanted} does not lie between {tuple(least)} and {most}, for an input of shape {shape}"
            )
        return more


class ConvTranspose1d(_ConvTranspose):
    """Give the transpose of a convolution of (N, C, L) or (C, L); the arguments are those of `ConvTranspose2d`."""

    axes, function = 1, F.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """Give the transpose of a convolution of images (N, C, H, W) or (C, H, W): what `Conv2d` does to gradients.

    Parameters
    ----------
    in_channels, out_channels : int
        The sizes of the channel axis before and after.
    kernel_size, stride, dilation : int or (int, int)
        The size of a window, the steps between windows, and those between the elements of one.
    padding : int or (int, int)
        How much is cut off around the output.
    output_padding : int or (int, int)
        Rows and columns more at the end of the output. (`forward` takes an ``output_size``, too.)
    groups : int
        Into how many groups the channels are divided.
    bias : bool
        Whether to add a bias.
    padding_mode : {"zeros"}
        There is no other.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight : Parameter
        Shape (in_channels, out_channels / groups, kernel height, kernel width).
    bias : Parameter or None
        Shape (out_channels,).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.ConvTranspose2d(4, 1, 2, stride=2)(np.ones((2, 4, 8, 8), dtype="float32")).shape
    (2, 1, 16, 16)
    """

    axes, function = 2, F.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """Give the transpose of a convolution of (N, C, D, H, W) or (C, D, H, W); the arguments are those of `ConvTranspose2d`."""

    axes, function = 3, F.conv_transpose3d
