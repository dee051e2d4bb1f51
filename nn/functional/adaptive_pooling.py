"""Pooling to a given size: adaptive, where windows may differ by one, and fractional, where they begin at random."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.backends.windows import Pooling
from agnostic_ad.levels import device_of, unify
from agnostic_ad.nn._windows import checked, tuple_of
from agnostic_ad.rules import QUICK

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_with_indices",
    "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices",
    "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices",
]

_max_pool = QUICK["nn.max_pool"]
_max_pool_index = QUICK["nn.max_pool_index"]


# --- windows end to end -----------------------------------------------------------------------------------------------------------------
def _side_by_side(widths: tuple[int, ...]) -> Pooling:
    """Give the pooling of windows that lie side by side."""
    return Pooling(widths, widths, ((0, 0),) * len(widths), (1,) * len(widths))


def _sizes(what: str, x: Any, output_size: Any, count: int) -> tuple[int, ...]:
    """Give the output's size, in which None stands for the input's."""
    shape = checked(x, count, what)[-count:]
    wanted = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * count
    if len(wanted) != count:
        raise ValueError(f"{what}: output_size has {count} numbers, or is one; got {output_size!r}")
    return tuple_of(tuple(n if w is None else w for n, w in zip(shape, wanted, strict=True)), count, "output_size", 0)


def _bounds(size: int, out: int) -> list[tuple[int, int]]:
    """Give where each of ``out`` windows begins and ends: together they cover ``size`` elements, and may overlap by one."""
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _adaptive_average(count: int, x: Any, output_size: Any) -> Any:
    what = f"adaptive_avg_pool{count}d"
    out = _sizes(what, x, output_size, count)
    xp, (x,) = unify([x])
    if not xp.isdtype(x.dtype, ("real floating", "complex floating")):
        raise TypeError(f"{what} takes floating arrays, not {x.dtype}: an average of integers is no integer. Convert with astype first.")
    lead, widths, lengths = tuple(x.shape[:-count]), [], []
    for i, (size, n) in enumerate(zip(x.shape[-count:], out, strict=True)):
        bounds = _bounds(size, n)
        width = max((high - low for low, high in bounds), default=1)
        widths.append(width)
        lengths.append([high - low for low, high in bounds])
        if n and size == n * width:
            continue
        behind = (1,) * (count - 1 - i)
        places = [min(low + j, high - 1) for low, high in bounds for j in range(width)]
        x = xp.take(x, xp.asarray(places or [0], device=device_of(x))[: len(places)], axis=len(lead) + i)
        if len(set(lengths[-1])) > 1:
            inside = xp.asarray([low + j < high for low, high in bounds for j in range(width)], device=device_of(x))
            x = xp.where(xp.reshape(inside, (-1, *behind)), x, xp.zeros((), dtype=x.dtype, device=device_of(x)))
    split = tuple(k for pair in zip(out, widths, strict=True) for k in pair)
    y = xp.sum(xp.reshape(x, (*lead, *split)), axis=tuple(range(len(lead) + 1, len(lead) + 2 * count, 2)))
    if all(len(set(each)) <= 1 for each in lengths):
        return y / math.prod(widths)
    for i, each in enumerate(lengths):
        along = xp.asarray([float(n) for n in each], dtype=y.dtype, device=device_of(y))
        y = y / xp.reshape(along, (-1, *(1,) * (count - 1 - i)))
    return y


def _adaptive_maximum(count: int, x: Any, output_size: Any, return_indices: bool) -> Any:
    out = _sizes(f"adaptive_max_pool{count}d", x, output_size, count)
    xp, (x,) = unify([x])
    lead, sizes, tables = tuple(x.shape[:-count]), tuple(x.shape[-count:]), []
    if 0 in out:
        y = xp.reshape(xp.reshape(x, (math.prod(x.shape),))[:0], (*lead, *out))
        return (y, xp.astype(y, xp.arange(1).dtype)) if return_indices else y
    widths = []
    for i, (size, n) in enumerate(zip(sizes, out, strict=True)):
        bounds = _bounds(size, n)
        widths.append(max(high - low for low, high in bounds))
        tables.append([min(low + j, high - 1) for low, high in bounds for j in range(widths[-1])])
        if tables[-1] != list(range(size)):
            x = xp.take(x, xp.asarray(tables[-1], device=device_of(x)), axis=len(lead) + i)
    how = _side_by_side(tuple(widths))
    y = _max_pool(x, how=how)
    if not return_indices:
        return y
    at = _max_pool_index(x, how=how)
    if all(table == list(range(size)) for table, size in zip(tables, sizes, strict=True)):
        return y, at
    places: Any = 0
    for i, table in enumerate(tables):
        along = xp.asarray(table, dtype=at.dtype, device=device_of(at)) * math.prod(sizes[i + 1 :])
        places = places + xp.reshape(along, (-1, *(1,) * (count - 1 - i)))
    return y, xp.reshape(xp.take(xp.reshape(places, (-1,)), xp.reshape(at, (-1,))), at.shape)


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """Give averages of (N, C, L) or (C, L), ``output_size`` of them; see `adaptive_avg_pool2d`."""
    return _adaptive_average(1, input, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Give the averages of as many windows as are asked for.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    output_size : int, None or a pair of them
        How many windows there are along each axis; None for as many as elements. Window i covers the elements from floor(i * H / n) up to
        ceil((i + 1) * H / n).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.adaptive_avg_pool2d(np.arange(9.0).reshape(1, 3, 3), 2)
    array([[[2., 3.],
            [5., 6.]]])
    """
    return _adaptive_average(2, input, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """Give averages of (N, C, D, H, W) or (C, D, H, W); see `adaptive_avg_pool2d`."""
    return _adaptive_average(3, input, output_size)


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Give maxima of (N, C, L) or (C, L), ``output_size`` of them; see `adaptive_max_pool2d`."""
    return _adaptive_maximum(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Give the maxima of as many windows as are asked for.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    output_size : int, None or a pair of them
        As for `adaptive_avg_pool2d`.
    return_indices : bool
        Whether to give where the maxima were, too, as `max_pool2d` does.
    """
    return _adaptive_maximum(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Give maxima of (N, C, D, H, W) or (C, D, H, W); see `adaptive_max_pool2d`."""
    return _adaptive_maximum(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Give `adaptive_max_pool1d` and where the maxima were."""
    return _adaptive_maximum(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Give `adaptive_max_pool2d` and where the maxima were."""
    return _adaptive_maximum(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Give `adaptive_max_pool3d` and where the maxima were."""
    return _adaptive_maximum(3, input, output_size, True)


# --- fractional -------------------------------------------------------------------------------------------------------------------------
def _fractional(count: int, x: Any, kernel_size: Any, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any) -> Any:
    what = f"fractional_max_pool{count}d"
    kernel = tuple_of(kernel_size, count, "kernel_size")
    shape = checked(x, count, what)
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{what} takes one of output_size and output_ratio")
    sizes = shape[-count:]
    if output_size is None:
        ratios = tuple(output_ratio) if isinstance(output_ratio, tuple | list) else (output_ratio,) * count
        output_size = tuple(int(n * r) for n, r in zip(sizes, ratios, strict=True))
    out = tuple_of(output_size, count, "output_size")
    if any(n < o + k - 1 for n, o, k in zip(sizes, out, kernel)):
        raise ValueError(f"{what}: {out} windows of size {kernel} do not fit an input of size {sizes}")
    lead = shape[:-count]
    xp, (x, samples) = unify([x, _draw(x, (*lead, count)) if samples is None else samples])
    if len(lead) == 1 and len(samples.shape) == 3:
        samples = samples[0, ...]  # of the one image
    if tuple(samples.shape) != (*lead, count):
        raise ValueError(f"{what}: _random_samples of shape {tuple(samples.shape)}; {(*lead, count)} is wanted")
    places: Any = 0
    for i, (size, o, k) in enumerate(zip(sizes, out, kernel, strict=True)):
        # PyTorch's samples are for the last axis first in two dimensions, and in the axes' order in three
        sample = samples[..., (count - 1 - i if count == 2 else i) : (count - i if count == 2 else i + 1)]
        starts = _starts(xp, sample, size, o, k)
        along = xp.reshape(xp.expand_dims(starts, axis=-1) + xp.arange(k, dtype=starts.dtype, device=device_of(x)), (*lead, o * k))
        along = xp.reshape(along, (*lead, *(1,) * i, o * k, *(1,) * (count - 1 - i)))
        x = xp.take_along_axis(x, along, axis=len(lead) + i)
        places = places + along * math.prod(sizes[i + 1 :])
    how = _side_by_side(kernel)
    y = _max_pool(x, how=how)
    if not return_indices:
        return y
    at = _max_pool_index(x, how=how)
    found = xp.take_along_axis(xp.reshape(places, (*lead, -1)), xp.reshape(at, (*lead, math.prod(out))), axis=-1)
    return y, xp.reshape(found, (*lead, *out))


def _starts(xp: Any, sample: Any, size: int, out: int, kernel: int) -> Any:
    """Give where windows begin (Graham, "Fractional max-pooling", 2014): steps of one or two sizes, from a random start."""
    step = (size - kernel) / (out - 1) if out > 1 else 0.0
    numbers = xp.arange(out - 1, dtype=sample.dtype, device=device_of(sample))
    starts = xp.floor((numbers + sample) * step) - xp.floor(sample * step)
    last = xp.zeros_like(sample) + (size - kernel)
    return xp.astype(xp.concat([starts, last], axis=-1), xp.arange(1).dtype)


def _draw(x: Any, shape: tuple[int, ...]) -> Any:
    """Draw numbers on the host, and give them where ``x`` lies."""
    xp, _ = unify([x])
    return xp.nn.noise(xp.zeros(shape, dtype=x.dtype, device=device_of(x)), kind="uniform", low=0.0, high=1.0)


def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Give the maxima of windows that begin at random places, as many as are asked for.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (C, H, W).
    kernel_size : int or (int, int)
        The size of a window.
    output_size : int or (int, int), optional
        How many windows there are along each axis.
    output_ratio : float or (float, float), optional
        The same as a part of the input's size.
    return_indices : bool
        Whether to give where the maxima were, too, as `max_pool2d` does.
    _random_samples : array, optional
        Numbers between 0 and 1 of shape (N, C, 2); drawn by `agnostic_ad.random.default_generator` if there are none.
    """
    return _fractional(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Give the maxima of windows of (N, C, D, H, W) or (C, D, H, W) that begin at random places; see `fractional_max_pool2d`."""
    return _fractional(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Give `fractional_max_pool2d` and where the maxima were."""
    return _fractional(2, input, kernel_size, output_size, output_ratio, True, _random_samples)


def fractional_max_pool3d_with_indices(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Give `fractional_max_pool3d` and where the maxima were."""
    return _fractional(3, input, kernel_size, output_size, output_ratio, True, _random_samples)
