"""Convolutions, transposed ones, and the windows themselves."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.backends.windows import Convolution, out_size
from agnostic_ad.nn._windows import batched, padding_pairs, tuple_of, unbatched
from agnostic_ad.rules import QUICK

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_tbc",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "unfold",
]

_add = QUICK["add"]
_conv = QUICK["nn.conv"]
_conv_input = QUICK["nn.conv_input"]
_fold = QUICK["nn.fold"]
_permute = QUICK["permute_dims"]
_reshape = QUICK["reshape"]
_unfold = QUICK["nn.unfold"]


def _check_weight(what: str, count: int, weight: Any, bias: Any, outputs: Any, groups: Any, layout: str) -> None:
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f"{what}: groups is an integer of 1 or more, not {groups!r}")
    if len(weight.shape) != count + 2:
        raise ValueError(f"{what}: weight of shape {tuple(weight.shape)} should have {count + 2} dimensions: {layout}")
    if bias is not None and tuple(bias.shape) != (outputs(),):
        raise ValueError(f"{what}: bias has shape {tuple(bias.shape)}; one number for each of {outputs()} output channels is wanted")


def _convolve(count: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """Convolve over ``count`` axes."""
    what = f"conv{count}d"
    _check_weight(what, count, weight, bias, lambda: weight.shape[0], groups, "out, in / groups, kernel")
    kernel = tuple(weight.shape[2:])
    steps, gaps = tuple_of(stride, count, "stride"), tuple_of(dilation, count, "dilation")
    pads = padding_pairs(padding, kernel, steps, gaps)
    x, alone = batched(x, count, what)
    return unbatched(_conv(x, weight, bias, how=Convolution(steps, pads, gaps, groups)), alone)


def _convolve_transposed(
    count: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> Any:
    """Give the transpose of a convolution over ``count`` axes."""
    what = f"conv_transpose{count}d"
    _check_weight(what, count, weight, bias, lambda: weight.shape[1] * groups, groups, "in, out / groups, kernel")
    kernel = tuple(weight.shape[2:])
    steps, gaps = tuple_of(stride, count, "stride"), tuple_of(dilation, count, "dilation")
    pads, more = tuple_of(padding, count, "padding", 0), tuple_of(output_padding, count, "output_padding", 0)
    if any(m >= max(s, d) for m, s, d in zip(more, steps, gaps)):
        raise ValueError(f"{what}: output_padding {more} must be less than the stride {steps} or the dilation {gaps}")
    x, alone = batched(x, count, what)
    shape = tuple(x.shape)
    if shape[1] != weight.shape[0] or shape[1] % groups:
        raise ValueError(
            f"{what}: an input of shape {shape} with {shape[1]} channels does not fit a weight of shape {tuple(weight.shape)} "
            f"(in, out / groups, kernel) in {groups} group{'s' * (groups != 1)}"
        )
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + m + 1 for n, s, p, d, k, m in zip(shape[2:], steps, pads, gaps, kernel, more, strict=True)
    )
    if min(size) < 1:
        raise ValueError(f"{what}: an input of size {shape[2:]} with padding {pads} gives an output of size {size}, which is nothing")
    # where a longer output would have more windows, the last ones are not the transpose's concern
    pairs = tuple((p, p - m // s * s) for p, m, s in zip(pads, more, steps, strict=True))
    y = _conv_input(x, weight, size=size, how=Convolution(steps, pairs, gaps, groups))
    if bias is not None:
        y = _add(y, _reshape(bias, (-1, *(1,) * count)))
    return unbatched(y, alone)


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolve (N, C, L) or (C, L); see `conv2d`."""
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


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

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.conv2d(np.arange(9.0).reshape(1, 3, 3), np.ones((1, 1, 2, 2)))
    array([[[ 8., 12.],
            [20., 24.]]])
    """
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """Convolve (N, C, D, H, W) or (C, D, H, W); see `conv2d`."""
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Give the transpose of a convolution of (N, C, L) or (C, L); see `conv_transpose2d`."""
    return _convolve_transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Give what `conv2d` does to a gradient: each element of the input puts a multiple of the window into the output.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    weight : array
        Shape (C, out_channels / groups, kernel height, kernel width).
    bias : array, optional
        Shape (out_channels,).
    stride, dilation : int or (int, int)
        Steps between windows, and between the elements of one.
    padding : int or (int, int)
        How much is cut off around the output.
    output_padding : int or (int, int)
        Rows and columns more at the end of the output, fewer than the stride or the dilation: which of the sizes that `conv2d` makes
        one of.
    groups : int
        Into how many groups the channels are divided.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.conv_transpose2d(np.ones((1, 2, 2)), np.ones((1, 1, 2, 2)))
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    return _convolve_transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """Give the transpose of a convolution of (N, C, D, H, W) or (C, D, H, W); see `conv_transpose2d`."""
    return _convolve_transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_tbc(input: Any, weight: Any, bias: Any, pad: int = 0) -> Any:
    """Convolve along time, where time comes first.

    Parameters
    ----------
    input : array
        Shape (time, batch, in_channels).
    weight : array
        Shape (kernel, in_channels, out_channels).
    bias : array
        Shape (out_channels,).
    pad : int
        Zeros before and after.
    """
    if len(input.shape) != 3 or len(weight.shape) != 3:
        raise ValueError(
            f"conv_tbc takes an input (time, batch, in) and a weight (kernel, in, out), not shapes {tuple(input.shape)} and {tuple(weight.shape)}"
        )
    y = _convolve(1, _permute(input, (1, 2, 0)), _permute(weight, (2, 1, 0)), bias, 1, pad, 1, 1)
    return _permute(y, (2, 0, 1))


# --- the windows themselves -------------------------------------------------------------------------------------------------------------
def _windows(kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[tuple[int, ...], Convolution]:
    kernel = tuple_of(kernel_size, 2, "kernel_size")
    pads = tuple((p, p) for p in tuple_of(padding, 2, "padding", 0))
    return kernel, Convolution(tuple_of(stride, 2, "stride"), pads, tuple_of(dilation, 2, "dilation"))


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Give the windows of images as columns.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    kernel_size, dilation, padding, stride : int or (int, int)
        The windows, as for `conv2d`.

    Returns
    -------
    array
        Shape (N, C * kernel height * kernel width, windows), or without N.
    """
    kernel, how = _windows(kernel_size, dilation, padding, stride)
    x, alone = batched(input, 2, "unfold")
    if 0 in out_size(x.shape[2:], kernel, how.stride, how.padding, how.dilation):
        raise ValueError(
            f"unfold: a window of size {kernel} with dilation {how.dilation} does not fit an input of size {tuple(x.shape[2:])}"
        )
    return unbatched(_unfold(x, kernel=kernel, how=how), alone)


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Add windows up where `unfold` took them from.

    Parameters
    ----------
    input : array
        Shape (N, C * kernel height * kernel width, windows), or without N.
    output_size : int or (int, int)
        The images' size.
    kernel_size, dilation, padding, stride : int or (int, int)
        The windows, as for `conv2d`.

    Returns
    -------
    array
        Shape (N, C, H, W) or (C, H, W).
    """
    size = tuple_of(output_size, 2, "output_size")
    kernel, how = _windows(kernel_size, dilation, padding, stride)
    x, alone = batched(input, 1, "fold")
    count = out_size(size, kernel, how.stride, how.padding, how.dilation)
    if x.shape[1] % math.prod(kernel):
        raise ValueError(f"fold: {x.shape[1]} rows are not a multiple of {math.prod(kernel)}, the size of a window {kernel}")
    if x.shape[2] != math.prod(count):
        raise ValueError(f"fold: an output of size {size} has {' x '.join(map(str, count))} windows; the input has {x.shape[2]} columns")
    return unbatched(_fold(x, size=size, kernel=kernel, how=how), alone)
