"""Resizing: nearest neighbours and weighted means of a few, one axis after the other.

Which elements, and with what weights, follows from the sizes alone and is worked out on the host; gathers and products do the rest.
"""

from __future__ import annotations

import functools
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from agnostic_ad.config import dtype_name
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.functional import adaptive_pooling
from agnostic_ad.nn.functional.padding import pad
from agnostic_ad.rules import QUICK

__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]

_gather = QUICK["gather"]
_reshape = QUICK["reshape"]
_stack = QUICK["stack"]

_AXES = {"linear": (1,), "bilinear": (2,), "trilinear": (3,), "bicubic": (2,), "lanczos": (2,)}
_KERNELS = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos"}


def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Resize the axes behind the first two.

    Parameters
    ----------
    input : array
        Shape (N, C, L), (N, C, H, W) or (N, C, D, H, W).
    size : int or sequence of int, optional
        The new sizes.
    scale_factor : float or sequence of float, optional
        In place of ``size``: what to multiply the sizes by; the results are rounded down.
    mode : str
        "nearest", which rounds positions down, or "nearest-exact", which rounds them; "linear" for one axis, "bilinear" or "bicubic" for two, and
        "trilinear" for three; "area", means over the elements that an element of the result covers; or "lanczos", with ``antialias``.
    align_corners : bool, optional
        Whether the centres of the corner elements stay, rather than the corners of them; not for "nearest", "nearest-exact" and "area".
    recompute_scale_factor : bool, optional
        Whether to compute positions from the sizes, rather than from ``scale_factor``.
    antialias : bool
        Whether to widen the kernel by the factor by which an axis shrinks; for "bilinear", "bicubic" and "lanczos".

    Returns
    -------
    array
        Of the input's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> x = np.asarray([[[0.0, 4.0]]])
    >>> F.interpolate(x, 4), F.interpolate(x, scale_factor=2, mode="linear")
    (array([[[0., 0., 4., 4.]]]), array([[[0., 1., 3., 4.]]]))
    """
    shape = tuple(input.shape)
    count = len(shape) - 2
    if count not in (1, 2, 3):
        raise ValueError(f"interpolate takes an input of 3, 4 or 5 dimensions, (N, C, ...), not of shape {shape}")
    plain = mode in ("nearest", "nearest-exact", "area")
    if plain and align_corners is not None:
        raise ValueError(f"interpolate: align_corners goes with 'linear', 'bilinear', 'bicubic' and 'trilinear', not with mode={mode!r}")
    if not plain and mode not in _AXES:
        raise ValueError(f"interpolate: {mode!r} is no mode: 'nearest', 'nearest-exact', 'area', {', '.join(map(repr, _AXES))}")
    if not plain and count not in _AXES[mode]:
        raise ValueError(f"interpolate: mode={mode!r} resizes {_AXES[mode][0]} axes, and an input of shape {shape} has {count}")
    if antialias and (mode not in _KERNELS or count != 2):
        raise ValueError(
            f"interpolate: antialias goes with 'bilinear', 'bicubic' and 'lanczos' and an input of 4 dimensions, not with {mode!r}"
        )
    if mode == "lanczos" and (align_corners or not antialias):
        raise ValueError("interpolate: mode='lanczos' needs antialias=True, and no align_corners")
    if recompute_scale_factor and size is not None:
        raise ValueError("interpolate: recompute_scale_factor goes with scale_factor, not with size")
    sizes, scales = _sizes(shape[2:], size, scale_factor, bool(recompute_scale_factor) or mode == "area")
    if min(sizes) < 1 or 0 in shape[1:]:
        raise ValueError(f"interpolate: sizes of 1 or more, before and after, are wanted; got an input of shape {shape} and {sizes}")
    if mode == "area":
        return getattr(adaptive_pooling, f"adaptive_avg_pool{count}d")(input, sizes)
    for axis in sorted(range(count), key=lambda i: sizes[i] / shape[2 + i]):  # first what makes it smaller
        before, after, scale = shape[2 + axis], sizes[axis], scales[axis]
        if plain:
            input = _nearest(input, 2 + axis, before, after, scale, mode == "nearest-exact", count > 1 and sum(sizes) <= 128)
        elif antialias or before != after or (mode == "bicubic" and scale not in (None, 1.0)):
            even = after % before == 0 and not (align_corners or antialias) and (scale is None or scale == after // before)
            input = (
                _phases(input, 2 + axis, before, after // before, _KERNELS[mode])
                if even
                else _mixed(input, 2 + axis, *_taps(_KERNELS[mode], before, after, scale, bool(align_corners), antialias))
            )
    return input


def upsample(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None) -> Any:
    """Give `interpolate` under its former name, with a warning."""
    warnings.warn("upsample is deprecated: interpolate is its name", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """Give `interpolate` with ``mode="nearest"`` under its former name, with a warning."""
    warnings.warn("upsample_nearest is deprecated: interpolate is its name", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """Give `interpolate` with ``mode="bilinear"`` and ``align_corners=True`` under its former name, with a warning."""
    warnings.warn("upsample_bilinear is deprecated: interpolate is its name", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def _sizes(shape: tuple[int, ...], size: Any, scale_factor: Any, recompute: bool) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Give the new sizes, and the factors that positions are computed with, where these are not the sizes' own."""
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate takes one of size and scale_factor; got size={size} and scale_factor={scale_factor}")
    given: Any = scale_factor if size is None else size
    numbers = tuple(given) if isinstance(given, Sequence) else (given,) * len(shape)
    if len(numbers) != len(shape):
        raise ValueError(f"interpolate: {given} does not fit the {len(shape)} axes behind the first two, of sizes {shape}")
    if scale_factor is not None:
        factors = tuple(map(float, numbers))
        return tuple(math.floor(n * f) for n, f in zip(shape, factors, strict=True)), (None,) * len(shape) if recompute else factors
    if not all(hasattr(n, "__index__") for n in numbers):
        raise TypeError(f"interpolate: sizes are integers, not {given}")
    return tuple(map(int, numbers)), (None,) * len(shape)


def _there(x: Any, numbers: Any, dtype: Any = None) -> Any:
    """Give an array of the host in the library of ``x``, on its device."""
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    made = backend.from_numpy(numbers, device_of(x))
    return made if dtype is None else backend.astype(made, dtype)


# --- nearest neighbours -------------------------------------------------------------------------------------------------------------------
def _nearest(x: Any, axis: int, before: int, after: int, scale: float | None, exact: bool, small: bool) -> Any:
    if before == after and scale in (None, 1.0):
        return x
    index = _neighbours(before, after, scale, exact, "small" if small else "float64" if dtype_name(x.dtype) == "float64" else "float32")
    times, step = after // before, int(index[-1] - index[0]) // max(1, after - 1)
    if times * before == after and (index == np.arange(after) // times).all():
        shape = tuple(
            x.shape
        )  # a stack's derivative adds slices, where that of repeat sums along a short axis, ten times as slowly in NumPy
        return _reshape(_stack([x] * times, axis=axis + 1), (*shape[:axis], after, *shape[axis + 1 :]))
    if step and (index == index[0] + step * np.arange(after)).all():
        return x[(*(slice(None),) * axis, slice(int(index[0]), int(index[-1]) + 1, step), ...)]
    return _gather(x, _there(x, index), axis=axis)


@lru_cache(maxsize=256)
def _neighbours(before: int, after: int, scale: float | None, exact: bool, way: str) -> Any:
    # with PyTorch's roundings, so that positions near whole numbers fall on the same side; it has a way for small results and another for large ones
    if way == "small" and not exact and after in (before, 2 * before):
        return np.arange(after) // (after // before)
    number = np.dtype("float32" if way == "small" else way).type
    step, places = number(1.0 / scale) if scale else number(before) / number(after), np.arange(after).astype(number)
    half = number(0.5 if exact else 0.0)
    places = (places + half) * step
    places = places if way == "small" else np.maximum(places - half, 0) + half
    return np.minimum(np.floor(places.astype(np.float32)), before - 1).astype(np.int64)


# --- weighted means -----------------------------------------------------------------------------------------------------------------------
def _mixed(x: Any, axis: int, indices: Any, weights: Any) -> Any:
    """Give the sum over the rows of ``indices`` and ``weights`` of the elements of ``x`` there times the weight."""
    rest, y = (1,) * (len(x.shape) - 1 - axis), None
    for index, weight in zip(indices, weights, strict=True):
        term = _gather(x, _there(x, index), axis=axis) * _there(x, weight.reshape(-1, *rest), x.dtype)
        y = term if y is None else y + term
    return y


def _phases(x: Any, axis: int, before: int, times: int, kernel: str) -> Any:
    """Give the same where each element becomes ``times`` ones: the weights repeat, and slices serve, whose derivatives are quicker than a gather's."""
    around = 1 if kernel == "linear" else 2
    wide = pad(x, (0, 0) * (len(x.shape) - 1 - axis) + (around, around), "replicate")
    indices, weights = _taps(kernel, 2 * around + 1, (2 * around + 1) * times, None, False, False)
    parts, middle = [], around * times  # those of an element with all neighbours
    for index, weight in zip(indices[:, middle : middle + times].T.tolist(), weights[:, middle : middle + times].T.tolist(), strict=True):
        terms = [wide[(*(slice(None),) * axis, slice(i, i + before), ...)] * w for i, w in zip(index, weight, strict=True)]
        parts.append(functools.reduce(operator.add, terms))
    shape = tuple(x.shape)
    return _reshape(_stack(parts, axis=axis + 1), (*shape[:axis], before * times, *shape[axis + 1 :]))


@lru_cache(maxsize=256)
def _taps(kernel: str, before: int, after: int, scale: float | None, align_corners: bool, antialias: bool) -> tuple[Any, Any]:
    """Give which elements an element of the result is made of, and with what weights: arrays of shape (elements, after)."""
    if align_corners:
        step = (before - 1) / (after - 1) if after > 1 else 0.0
    else:
        step = 1.0 / scale if scale else before / after
    if antialias:
        return _wide_taps(*_FILTERS[kernel], before, after, step)
    places = np.arange(after) * step if align_corners else (np.arange(after) + 0.5) * step - 0.5
    if kernel == "linear":
        places = np.maximum(places, 0.0)
        low = np.minimum(np.floor(places), before - 1)
        part = np.clip(places - low, 0.0, 1.0)
        return np.stack([low, np.minimum(low + 1, before - 1)]).astype(np.int64), np.stack([1 - part, part])
    low = np.floor(places)
    offsets = np.arange(-1, 3)[:, None]
    return np.clip(low + offsets, 0, before - 1).astype(np.int64), cubic(np.abs(places - low - offsets), -0.75)


def _wide_taps(kernel: Callable[[Any], Any], reach: float, before: int, after: int, step: float) -> tuple[Any, Any]:
    """Give the elements under a kernel that is as wide as an element of the result, and their weights, which add up to one."""
    wide = max(step, 1.0)
    centres = step * (np.arange(after) + 0.5)
    first = np.maximum(np.trunc(centres - reach * wide + 0.5), 0)
    count = np.minimum(np.trunc(centres + reach * wide + 0.5), before) - first
    offsets = np.arange(int(count.max()))[:, None]
    weights = np.where(offsets < count, kernel(np.abs((offsets + first - centres + 0.5) / wide)), 0.0)
    return np.minimum(first + offsets, before - 1).astype(np.int64), weights / weights.sum(axis=0)


def cubic(d: Any, a: float) -> Any:
    """Give the weight of the element at the distance ``d`` (Keys, "Cubic convolution interpolation", 1981)."""
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    return np.where(d <= 1, near, np.where(d < 2, a * (((d - 5) * d + 8) * d - 4), 0.0))


_FILTERS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "linear": (lambda d: np.maximum(1 - d, 0.0), 1.0),
    "cubic": (lambda d: cubic(d, -0.5), 2.0),
    "lanczos": (lambda d: np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0.0), 3.0),
}
