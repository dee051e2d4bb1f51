"""Pooling."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn._windows import max_pool

__all__ = ["max_pool1d", "max_pool2d", "max_pool3d"]


def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Give the maximum of each window of (N, C, L) or (C, L); see `max_pool2d`."""
    return max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Give the maximum of each window; the derivative goes to the first of equal elements.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    padding : int or (int, int)
        Minus infinities around the image, at most half a window.
    dilation : int or (int, int)
        Steps between the elements of a window.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.
    """
    return max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Give the maximum of each window of (N, C, D, H, W) or (C, D, H, W); see `max_pool2d`."""
    return max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
