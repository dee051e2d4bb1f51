"""The layers' computations as functions, under PyTorch's names and arguments.

Every function takes raw arrays and Variables alike. What has nothing to record gives what it got.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import Array, unify
from agnostic_ad.namespaces import lookup
from agnostic_ad.nn._windows import conv, max_pool
from agnostic_ad.rules import QUICK

__all__ = [
    "check_reduction",
    "conv1d",
    "conv2d",
    "conv3d",
    "cross_entropy",
    "flatten",
    "linear",
    "log_softmax",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "old_reduction",
    "relu",
    "softmax",
]

_cross_entropy = QUICK["nn.softmax_cross_entropy"]
_divide = QUICK["divide"]
_linear = QUICK["nn.linear"]
_log_softmax = QUICK["nn.log_softmax"]
_relu = QUICK["nn.relu"]
_reshape = QUICK["reshape"]
_softmax = QUICK["nn.softmax"]
_sum = QUICK["sum"]


def relu(input: Any, inplace: bool = False) -> Any:
    """Compute max(x, 0); the derivative at 0 is 0. ``inplace`` is accepted for PyTorch's sake; nothing is overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.relu(np.asarray([-1.0, 2.0]))
    array([0., 2.])
    """
    return _relu(input)


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """Compute ``input @ weight.T + bias``.

    Parameters
    ----------
    input : array
        Shape (..., in_features).
    weight : array
        Shape (out_features, in_features).
    bias : array, optional
        Shape (out_features,).
    """
    return _linear(input, weight, bias)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make one axis of those from ``start_dim`` to ``end_dim``."""
    shape = tuple(input.shape)
    if not shape:
        return _reshape(input, (1,))
    a, b = (normalize_axis(d, len(shape), "flatten") for d in (start_dim, end_dim))
    if a > b:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _reshape(input, (*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :]))


def softmax(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give exp(x) over its sum along ``dim``, computed in ``dtype``."""
    return _softmax(_cast(input, dtype), axis=dim)


def log_softmax(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give the logarithm of `softmax`, without overflow."""
    return _log_softmax(_cast(input, dtype), axis=dim)


def _cast(x: Any, dtype: Any) -> Any:
    return x if dtype is None else QUICK["astype"](x, dtype)


# --- losses -----------------------------------------------------------------------------------------------------------------------------
def check_reduction(reduction: str) -> None:
    """Refuse what is no reduction."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction!r} is not a valid value for reduction: 'none', 'mean' or 'sum' is wanted")


def old_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """Give the reduction that PyTorch's former arguments ask for, where they are given."""
    if size_average is None and reduce is None:
        return reduction
    return "none" if reduce is False else "sum" if size_average is False else "mean"


def _xp(*arrays: Any) -> Any:
    """Give the namespace that computes with the arrays together: a library's backend, or a level's."""
    return unify([a for a in arrays if a is not None])[0]


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Give the cross entropy between scores and classes.

    Parameters
    ----------
    input : array
        Scores (logits) of shape (C,), (N, C) or (N, C, d1, d2, ...).
    target : array
        Class indices of shape (), (N,) or (N, d1, d2, ...); or class probabilities of ``input``'s shape and a floating dtype.
    weight : array, optional
        One factor per class, shape (C,).
    ignore_index : int
        The class index that does not count, neither in the sum nor in the mean.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses. With ``weight``, the mean of class indices is the weighted one.
    label_smoothing : float
        How much of the target is spread over all classes, between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> float(F.cross_entropy(np.asarray([[0.0, 100.0]]), np.asarray([0])))
    100.0
    """
    reduction = old_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing lies between 0 and 1, not {label_smoothing}")
    axis = 0 if len(input.shape) == 1 else 1
    classes = input.shape[axis]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ValueError(f"cross_entropy: weight has shape {tuple(weight.shape)}; one number for each of {classes} classes is wanted")
    xp = _xp(input, target, weight)
    per_class = None if weight is None else xp.reshape(weight, (-1, *(1,) * (len(input.shape) - 1 - axis)))
    if tuple(target.shape) == tuple(input.shape) and xp.isdtype(target.dtype, ("real floating", "complex floating")):
        return _soft_cross_entropy(xp, input, target, per_class, axis, reduction, label_smoothing)
    if not xp.isdtype(target.dtype, "integral"):
        raise TypeError(f"cross_entropy: class indices are integers, not {target.dtype}; class probabilities have the shape of the scores")
    _check_classes(target, classes, ignore_index)
    kept = target != ignore_index
    counted = xp.astype(kept, input.dtype)
    if weight is not None:
        factors = xp.take(weight, xp.reshape(xp.where(kept, target, xp.zeros_like(target)), (-1,)))
        counted = xp.multiply(counted, xp.reshape(factors, target.shape))
    losses = _cross_entropy(input, target, axis=axis, ignore_index=ignore_index)
    losses = losses if weight is None else xp.multiply(losses, counted)
    if label_smoothing:
        spread = -_log_softmax(input, axis=axis)
        spread = xp.sum(spread if per_class is None else xp.multiply(spread, per_class), axis=axis) / classes
        losses = (1 - label_smoothing) * losses + label_smoothing * spread * xp.astype(kept, input.dtype)
    return losses if reduction == "none" else _sum(losses) if reduction == "sum" else _divide(_sum(losses), _sum(counted))


def _soft_cross_entropy(xp: Any, input: Any, target: Any, per_class: Any, axis: int, reduction: str, label_smoothing: float) -> Any:
    """Give the cross entropy of class probabilities."""
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    losses = xp.multiply(-_log_softmax(input, axis=axis), target)
    losses = xp.sum(losses if per_class is None else xp.multiply(losses, per_class), axis=axis)
    return losses if reduction == "none" else _sum(losses) if reduction == "sum" else _divide(_sum(losses), math.prod(losses.shape))


def _check_classes(target: Any, classes: int, ignore_index: int) -> None:
    """Refuse class indices out of range, where looking at them is cheap."""
    raw = target.payload if isinstance(target, Array) else target
    backend = lookup(raw)
    if backend is None or not backend.checks_bounds or 0 in raw.shape:
        return
    low, high = int(backend.xp.min(raw)), int(backend.xp.max(raw))
    if low < 0 or high >= classes:
        xp = backend.xp
        wrong = raw[((raw < 0) | (raw >= classes)) & (raw != ignore_index)]
        if wrong.shape[0]:
            raise IndexError(f"cross_entropy: target {int(xp.reshape(wrong, (-1,))[0])} is out of bounds for {classes} classes")


# --- convolution and pooling --------------------------------------------------------------------------------------------------------------
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
