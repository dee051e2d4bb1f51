"""Convolutions."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn._windows import conv

__all__ = ["conv1d", "conv2d", "conv3d"]


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolve (N, C, L) or (C, L); see `conv2d`."""
    return conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolve images (strictly: correlate) with windows.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    weight : array
        Shape (out_channels, C / groups, kernel height, kernel width).
    bias : array, optional
        Shape (out_channels,).
    stride, dilation : int or (int, int)
        Steps between windows, and between the elements of one.
    padding : int, (int, int), "valid" or "same"
        Zeros around the image; "same" keeps its size, for a stride of 1.
    groups : int
        Into how many groups the channels are divided.
    """
    return conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolve (N, C, D, H, W) or (C, D, H, W); see `conv2d`."""
    return conv(3, input, weight, bias, stride, padding, dilation, groups)
