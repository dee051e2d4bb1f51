"""Pooling: the maximum, the average or the norm of each window; and the way back from maxima."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.backends.windows import Pooling
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import lookup
from agnostic_ad.nn._windows import checked, stride_of, tuple_of
from agnostic_ad.rules import QUICK

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d",
    "max_pool2d_with_indices",
    "max_pool3d",
    "max_pool3d_with_indices",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]

_max_pool = QUICK["nn.max_pool"]
_max_pool_index = QUICK["nn.max_pool_index"]
_sum_pool = QUICK["nn.sum_pool"]


def _pooling(what: str, count: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Pooling:
    kernel = tuple_of(kernel_size, count, "kernel_size")
    pads, gaps = tuple_of(padding, count, "padding", 0), tuple_of(dilation, count, "dilation")
    if any(p > (d * (k - 1) + 1) // 2 for p, k, d in zip(pads, kernel, gaps)):
        raise ValueError(f"{what}: padding {pads} is more than half of the window {kernel} with dilation {gaps}")
    return Pooling(kernel, stride_of(stride, kernel), tuple((p, p) for p in pads), gaps, bool(ceil_mode))


# --- maxima -----------------------------------------------------------------------------------------------------------------------------
def _max(count: int, x: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, return_indices: bool) -> Any:
    what = f"max_pool{count}d"
    how = _pooling(what, count, kernel_size, stride, padding, dilation, ceil_mode)
    checked(x, count, what)
    y = _max_pool(x, how=how)
    return (y, _max_pool_index(x, how=how)) if return_indices else y


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
    return _max(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


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
    return_indices : bool
        Whether to give where the maxima were, too: integers that count the elements of an image (what `max_unpool2d` takes).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.max_pool2d(np.arange(16.0).reshape(1, 4, 4), 2, return_indices=True)[1]
    array([[[ 5,  7],
            [13, 15]]])
    """
    return _max(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


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
    return _max(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Give `max_pool1d` and where the maxima were."""
    return _max(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Give `max_pool2d` and where the maxima were."""
    return _max(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Give `max_pool3d` and where the maxima were."""
    return _max(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


# --- back from maxima -------------------------------------------------------------------------------------------------------------------
def _unpool(count: int, x: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Any:
    what = f"max_unpool{count}d"
    kernel, pads = tuple_of(kernel_size, count, "kernel_size"), tuple_of(padding, count, "padding", 0)
    steps = stride_of(stride, kernel)
    shape = checked(x, count, what)
    if tuple(indices.shape) != shape:
        raise ValueError(f"{what}: indices of shape {tuple(indices.shape)} are not one for each element of an input of shape {shape}")
    usual = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(shape[-count:], steps, pads, kernel, strict=True))
    size = usual if output_size is None else tuple(output_size)[-count:]
    if output_size is not None and (
        len(output_size) not in (count, len(shape)) or any(not u - s < n < u + s for n, u, s in zip(size, usual, steps, strict=True))
    ):
        low, high = (tuple(u + sign * (s - 1) for u, s in zip(usual, steps)) for sign in (-1, 1))
        raise ValueError(f"{what}: output_size {tuple(output_size)} does not lie between {low} and {high}, for an input of shape {shape}")
    xp, (x, indices) = unify([x, indices])
    lead, room = shape[:-count], math.prod(size)
    if not xp.isdtype(indices.dtype, "integral"):
        raise TypeError(f"{what}: indices are integers, not {indices.dtype}")
    _check_indices(what, indices, size)
    rows = math.prod(lead)
    starts = xp.reshape(xp.arange(rows, dtype=indices.dtype, device=device_of(indices)) * room, (*lead, *(1,) * count))
    blank = xp.zeros((rows * room,), dtype=x.dtype, device=device_of(x))
    y = xp.put_rows(blank, xp.reshape(indices + starts, (-1,)), xp.reshape(x, (-1,)))
    return xp.reshape(y, (*lead, *size))


def _check_indices(what: str, indices: Any, size: tuple[int, ...]) -> None:
    """Refuse indices out of range, where looking at them is cheap."""
    raw = indices.payload if isinstance(indices, Array) else indices
    backend = lookup(raw)
    if backend is None or not backend.checks_bounds or 0 in raw.shape:
        return
    low, high = int(backend.xp.min(raw)), int(backend.xp.max(raw))
    if low < 0 or high >= math.prod(size):
        raise IndexError(f"{what}: index {low if low < 0 else high} is out of bounds for an output of size {size}")


def max_unpool1d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """Put maxima back; see `max_unpool2d`."""
    return _unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """Put maxima back where `max_pool2d` found them, among zeros.

    Parameters
    ----------
    input, indices : array
        What ``max_pool2d(..., return_indices=True)`` gave. Of several elements for one place, the last stays.
    kernel_size, stride, padding : int or (int, int)
        The windows, as for `max_pool2d`.
    output_size : tuple of int, optional
        The images' size (or the whole shape), where several have the same windows.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.max_unpool2d(np.asarray([[[5.0]]]), np.asarray([[[2]]]), 2)
    array([[[0., 0.],
            [5., 0.]]])
    """
    return _unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """Put maxima back; see `max_unpool2d`."""
    return _unpool(3, input, indices, kernel_size, stride, padding, output_size)


# --- averages and norms -----------------------------------------------------------------------------------------------------------------
def _average(
    count: int, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, divisor: int | None
) -> Any:
    what = f"avg_pool{count}d"
    how = _pooling(what, count, kernel_size, stride, padding, 1, ceil_mode)
    shape = checked(x, count, what)
    xp = unify([x])[0]
    if not xp.isdtype(x.dtype, ("real floating", "complex floating")):
        raise TypeError(f"{what} takes floating arrays, not {x.dtype}: an average of integers is no integer. Convert with astype first.")
    if divisor == 0:
        raise ValueError(f"{what}: divisor_override is 0")
    sums = _sum_pool(x, how=how)
    if divisor is not None:
        return sums / divisor
    counts = [_counts(*axis, include_pad) for axis in zip(shape[-count:], sums.shape[-count:], how.kernel, how.stride, how.padding)]
    if all(len(set(each)) <= 1 for each in counts):
        return sums / math.prod(each[0] for each in counts)
    for i, each in enumerate(counts):
        along = xp.asarray([float(n) for n in each], dtype=x.dtype, device=device_of(x))
        sums = sums / xp.reshape(along, (-1, *(1,) * (count - 1 - i)))
    return sums


def _counts(size: int, out: int, kernel: int, stride: int, padding: tuple[int, int], include_pad: bool) -> list[int]:
    """Give how many elements each window along one axis has: of the padded input, or of the input itself."""
    starts = [o * stride - padding[0] for o in range(out)]
    if include_pad:
        return [min(start + kernel, size + padding[1]) - start for start in starts]
    return [min(start + kernel, size) - max(start, 0) for start in starts]


def avg_pool1d(
    input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
) -> Any:
    """Give the average of each window of (N, C, L) or (C, L); see `avg_pool2d`."""
    return _average(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Give the average of each window.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    padding : int or (int, int)
        Zeros around the image, at most half a window.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.
    count_include_pad : bool
        Whether the zeros around count for the average.
    divisor_override : int, optional
        What to divide the sums by, rather than the number of elements.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.avg_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """
    return _average(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Give the average of each window of (N, C, D, H, W) or (C, D, H, W); see `avg_pool2d`."""
    return _average(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _norm(count: int, x: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    kernel = tuple_of(kernel_size, count, "kernel_size")
    checked(x, count, f"lp_pool{count}d")
    power = float(norm_type)
    means = _average(count, x**power, kernel, stride, 0, ceil_mode, True, None)
    return (means * math.prod(kernel)) ** (1.0 / power)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """Give the norm of each window of (N, C, L) or (C, L); see `lp_pool2d`."""
    return _norm(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """Give the norm of each window: the sum of its elements to the power of ``norm_type``, to the power of its inverse.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    norm_type : float
        The power. There is no absolute value in it, as in PyTorch.
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    ceil_mode : bool
        Whether a last window that is only partly inside counts; its sum is scaled up to a whole window.
    """
    return _norm(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """Give the norm of each window of (N, C, D, H, W) or (C, D, H, W); see `lp_pool2d`."""
    return _norm(3, input, norm_type, kernel_size, stride, ceil_mode)
