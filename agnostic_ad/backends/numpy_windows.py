"""NumPy's own convolution and pooling.

A convolution multiplies matrices: windows are stacked for a few images at a time, in a buffer that stays in the cache, and are made anew for
each derivative. Only the axes behind the first spatial one are stacked; along the first one, each position of a window is a run of the
buffer's columns, which BLAS takes as it lies there. So a 3x3 window copies the image three times, not nine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import numpy as np

from agnostic_ad.backends.windows import Convolution, Pooling, Sizes, offsets, out_size, reach

_CACHE = 300_000  # bytes of windows and results to work on at a time
_COLUMNS = 256  # of windows, at least, to multiply at a time


class NumpyWindows:
    """The methods ``nn_*`` of the NumPy backend that move windows."""

    # --- convolution ------------------------------------------------------------------------------------------------------------------
    def nn_conv(self, x: Any, weight: Any, bias: Any = None, *, how: Convolution) -> Any:
        """Multiply with the rows of the windows, and add up, straight into the result where one image is done at a time."""
        kernel, groups = weight.shape[2:], how.groups
        out = out_size(x.shape[2:], kernel, how.stride, how.padding, how.dilation)
        matrices = _matrices(weight, groups)
        dtypes = (x, weight) if bias is None else (x, weight, bias)
        y = np.empty((len(x), len(weight), *out), np.result_type(*dtypes))
        results = y.reshape(len(x), groups, len(weight) // groups, *_first_and_rest(out))
        bias = bias if bias is None else bias.reshape(groups, -1, 1)
        scratch: Any = None
        for images, lines, rows in _rows(x, kernel, out, how, len(weight)):
            place = results[images, :, :, lines].transpose(1, 2, 3, 0, 4)
            if scratch is None:  # the first part is the largest
                scratch = np.empty((2, *place.shape[:2], rows[0].shape[-1]), y.dtype)
            total, term = scratch[..., : rows[0].shape[-1]]
            if place.shape[3] == 1:
                total = place.reshape(total.shape)
            np.matmul(matrices[0], rows[0], out=total)
            for matrix, row in zip(matrices[1:], rows[1:], strict=True):
                total += np.matmul(matrix, row, out=term)
            if bias is not None:
                total += bias
            if place.shape[3] > 1:
                place[...] = total.reshape(place.shape)
        return y

    def nn_conv_weight(self, x: Any, y: Any, *, kernel: Any, how: Convolution) -> Any:
        """Multiply the rows of the windows, made once more, with the cotangent, and add up."""
        groups, (first, rest) = how.groups, _first_and_rest(kernel)
        inputs, outputs = x.shape[1] // groups, y.shape[1] // groups
        flat = y.reshape(len(y), groups, outputs, *_first_and_rest(y.shape[2:])).transpose(1, 2, 3, 0, 4)
        weight = np.zeros((first, groups, rest * inputs, outputs), np.result_type(x, y))
        term = np.empty_like(weight[0])
        for images, lines, rows in _rows(x, kernel, y.shape[2:], how, y.shape[1]):
            part = flat[:, :, lines, images].reshape(groups, outputs, -1).swapaxes(1, 2)
            for total, row in zip(weight, rows, strict=True):
                total += np.matmul(row, part, out=term)
        found = np.empty((y.shape[1], inputs, *kernel), weight.dtype)
        split = weight.reshape(first, groups, rest, inputs, outputs).transpose(1, 4, 3, 0, 2)
        found.reshape(split.shape)[...] = split
        return found

    def nn_conv_input(self, y: Any, weight: Any, *, size: Any, how: Convolution) -> Any:
        """Convolve with the flipped weight, where that multiplies no more; else multiply, and add the columns where they came from."""
        kernel, out, groups = weight.shape[2:], y.shape[2:], how.groups
        outputs, inputs = len(weight) // groups, weight.shape[1]
        split = weight.reshape(groups, outputs, inputs, *kernel).swapaxes(1, 2)
        if all(s == 1 for s in how.stride) and math.prod(size) <= 1.5 * math.prod(out) and (inputs >= 8 or groups > 1):
            flipped = split[_last((slice(None, None, -1),) * len(kernel))].reshape(groups * inputs, outputs, *kernel)
            spans = [d * (k - 1) for d, k in zip(how.dilation, kernel, strict=True)]
            pads = tuple((r - a, n - o + a) for r, (a, _), n, o in zip(spans, how.padding, size, out, strict=True))
            return self.nn_conv(y, flipped, how=how._replace(padding=pads))
        positions, windows = math.prod(kernel), math.prod(out)
        matrix = split.reshape(groups, inputs, outputs, positions).transpose(0, 3, 1, 2).reshape(groups, positions * inputs, outputs)
        flat = y.reshape(len(y), groups, outputs, windows).transpose(1, 2, 0, 3)
        ends = reach(out, kernel, how.stride, how.dilation)
        around = tuple(max(a + n, end) for n, (a, _), end in zip(size, how.padding, ends, strict=True))
        inside = _last(slice(a, a + n) for n, (a, _) in zip(size, how.padding, strict=True))
        keys = [_last(key) for key in offsets(kernel, out, how.stride, how.dilation)]
        x = np.empty((len(y), groups * inputs, *size), np.result_type(y, weight))
        into = x.reshape(len(y), groups, inputs, *size)
        step = max(1, 4 * _CACHE // max(1, positions * inputs * groups * windows * x.itemsize))
        for start in range(0, len(y), step):
            part = flat[:, :, start : start + step]
            count = part.shape[2]
            columns = np.matmul(matrix, part.reshape(groups, outputs, count * windows)).reshape(groups, positions, inputs, count, *out)
            total = np.zeros((groups, inputs, count, *around), x.dtype)
            for q, key in enumerate(keys):
                total[key] += columns[:, q]
            into[start : start + step] = np.moveaxis(total[inside], 2, 0)
        return x

    # --- pooling: strided views of a few images at a time --------------------------------------------------------------------------------
    def nn_max_pool(self, x: Any, *, how: Pooling) -> Any:
        """Take maxima in place, along one axis after the other."""
        return _reduced(x, how, np.maximum, _lowest(x.dtype))

    def nn_sum_pool(self, x: Any, *, how: Pooling) -> Any:
        """Add in place, along one axis after the other."""
        return _reduced(x, how, np.add, 0)

    def nn_pool_put(self, ct: Any, x: Any, y: Any, *, how: Pooling) -> Any:
        """Multiply with the masks of the places where the maximum was."""
        axes = len(how.kernel)
        sizes, out = x.shape[-axes:], y.shape[-axes:]
        keys = [_last(key) for key in offsets(how.kernel, out, how.stride, how.dilation)]
        apart = all(s >= d * (k - 1) + 1 for s, d, k in zip(how.stride, how.dilation, how.kernel, strict=True))
        put = np.empty(x.shape, ct.dtype)
        images, cts, maxima, puts = _flat(x, sizes), _flat(ct, out), _flat(y, out), _flat(put, sizes)
        for piece in _pieces(images):
            part, to, best = _around(images[piece], out, how, _lowest(x.dtype)), cts[piece], maxima[piece]
            into = np.zeros(part.shape, ct.dtype)
            free, hit, term = np.ones(best.shape, bool), np.empty(best.shape, bool), np.empty(best.shape, ct.dtype)
            finite = np.isfinite(to).all()
            for key in keys:
                np.equal(part[key], best, out=hit)
                hit &= free
                free ^= hit
                if apart:  # every element is in one window at most
                    term = into[key]
                if finite:
                    np.multiply(to, hit, out=term)
                else:
                    np.copyto(term, np.where(hit, to, 0))
                if not apart:
                    into[key] += term
            if free.any():  # the maximum is no number: the last of those
                for key in reversed(keys):
                    hit = np.isnan(part[key]) & free
                    free ^= hit
                    into[key] += np.where(hit, to, 0)
            puts[piece] = into[_inside(sizes, how)]
        return put

    def nn_spread_pool(self, ct: Any, *, size: Any, how: Pooling) -> Any:
        """Add the cotangent to each place of its window, along one axis after the other."""
        out = ct.shape[-len(size) :]
        ends = reach(out, how.kernel, how.stride, how.dilation)
        around = [max(end, before + n) for end, n, (before, _) in zip(ends, size, how.padding, strict=True)]
        x = np.empty((*ct.shape[: -len(size)], *size), ct.dtype)
        cts, images = _flat(ct, out), _flat(x, size)
        for piece in _pieces(images):
            part = cts[piece]
            for axis, keys in _along(out, how):
                wide = np.zeros((*part.shape[:axis], around[axis - 1], *part.shape[axis + 1 :]), ct.dtype)
                for key in keys:
                    wide[key] += part
                part = wide
            images[piece] = part[_inside(size, how)]
        return x


def _flat(x: Any, sizes: Any) -> Any:
    """Give the images one behind the other, whatever axes there are before the last."""
    return x.reshape(math.prod(x.shape[: x.ndim - len(sizes)]), *sizes)


def _pieces(images: Any) -> Iterator[slice]:
    """Divide images into parts that stay in the cache."""
    step = max(1, _CACHE * len(images) // max(1, images.nbytes))
    return (slice(start, start + step) for start in range(0, len(images), step))


def _along(out: Sizes, how: Pooling) -> Iterator[tuple[int, list[Any]]]:
    """Give for each spatial axis, the last one first, the keys of the positions in a window along it; one axis is in front of all."""
    for axis in range(len(out), 0, -1):
        a = axis - 1
        spans = offsets(how.kernel[a:axis], out[a:axis], how.stride[a:axis], how.dilation[a:axis])
        yield axis, [(*(slice(None),) * axis, *span) for span in spans]


def _reduced(x: Any, how: Pooling, function: Any, value: Any) -> Any:
    """Reduce windows of what is surrounded by ``value``."""
    sizes = x.shape[-len(how.kernel) :]
    out = out_size(sizes, how.kernel, how.stride, how.padding, how.dilation, how.ceil)
    y = np.empty((*x.shape[: -len(out)], *out), x.dtype)
    images, results, axes = _flat(x, sizes), _flat(y, out), list(_along(out, how))
    for piece in _pieces(images):
        part = _around(images[piece], out, how, value)
        for axis, (first, *rest) in axes:
            total = results[piece] if axis == 1 else np.empty(part[first].shape, x.dtype)
            np.copyto(total, part[first])
            for key in rest:
                function(total, part[key], out=total)
            part = total
    return y


def _last(slices: Iterable[slice]) -> Any:
    """Give the key that takes slices of the last axes."""
    return (..., *slices)


def _lowest(dtype: Any) -> Any:
    return -math.inf if dtype.kind not in "iu" else np.iinfo(dtype).min


def _inside(sizes: Any, how: Pooling) -> Any:
    """Give the key that takes away what is around the last axes."""
    return _last(slice(a, a + n) for n, (a, _) in zip(sizes, how.padding, strict=True))


def _around(x: Any, out: Any, how: Pooling, value: Any) -> Any:
    """Give ``x`` with enough around it for all windows."""
    axes = len(how.kernel)
    sizes, ends = x.shape[-axes:], reach(out, how.kernel, how.stride, how.dilation)
    pads = [(a, max(0, end - n - a)) for n, (a, _), end in zip(sizes, how.padding, ends, strict=True)]
    if not any(map(any, pads)):
        return x
    wide = np.full((*x.shape[:-axes], *(a + n + b for n, (a, b) in zip(sizes, pads, strict=True))), value, x.dtype)
    wide[_last(slice(a, a + n) for n, (a, _) in zip(sizes, pads, strict=True))] = x
    return wide


# --- windows as rows of matrices --------------------------------------------------------------------------------------------------------
def _first_and_rest(sizes: Sizes) -> tuple[int, int]:
    """Give the size of the first axis, and that of all others together; a sole axis is one of the others."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], math.prod(sizes[1:]))


def _matrices(weight: Any, groups: int) -> Any:
    """Give the weight as a matrix for each position along the first axis: (first, groups, out / groups, rest * C / groups)."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    first, rest = _first_and_rest(weight.shape[2:])
    split = weight.reshape(groups, outputs, inputs, first, rest)
    # reshape alone may give a view that BLAS does not take
    return np.ascontiguousarray(split.transpose(3, 0, 1, 4, 2).reshape(first, groups, outputs, rest * inputs))


def _span(start: int, step: int, size: int, count: int) -> tuple[slice, slice]:
    """Give which of ``count`` places ``start``, ``start + step``, ... lie inside an axis of ``size``, and those places."""
    low = max(0, -(start // step))
    high = max(low, min(count, (size - 1 - start) // step + 1))
    first = start + low * step
    return slice(low, high), slice(first, first + (high - low - 1) * step + 1, step) if high > low else slice(0, 0)


def _rows(x: Any, kernel: Sizes, out: Sizes, how: Convolution, outputs: int) -> Iterator[tuple[slice, slice, list[Any]]]:
    """Give, for a few images at a time, or for a part of one, one matrix for each position of the windows along the first axis.

    Its shape is (groups, rest * C / groups, columns), where ``rest`` counts the positions along the other axes, and a column is a window:
    by first axis, image, other axes. The matrices are views of one buffer, (groups, rest, C / groups, first axis, images, other axes), in
    which the first axis is sorted by its remainder divided by the stride. In front of them are the images, and the windows along the first
    axis, that they are for.
    """
    stride, padding, dilation, sizes = how.stride, how.padding, how.dilation, x.shape[2:]
    if len(kernel) == 1:
        kernel, out, sizes = (1, *kernel), (1, *out), (1, *sizes)
        stride, padding, dilation = (1, *stride), ((0, 0), *padding), (1, *dilation)
    images, groups, inputs, rest = len(x), how.groups, x.shape[1] // how.groups, math.prod(kernel[1:])
    more, windows = dilation[0] * (kernel[0] - 1) // stride[0], math.prod(out[1:])
    phases = sorted({i * dilation[0] % stride[0] for i in range(kernel[0])})
    places = [(phases.index(i * dilation[0] % stride[0]), i * dilation[0] // stride[0]) for i in range(kernel[0])]

    needed = (rest * x.shape[1] * len(phases) * (out[0] + more) + outputs * out[0]) * windows * x.itemsize
    step = max(1, _CACHE // max(1, needed), _COLUMNS // max(1, out[0] * windows))
    parts = min(-(-needed // (4 * _CACHE)), -(-out[0] // (2 * kernel[0]))) if step == 1 else 1
    height = -(-out[0] // max(1, parts))

    x = x.reshape(images, groups, inputs, *sizes).transpose(1, 2, 3, 0, *range(4, 3 + len(sizes)))
    axes = zip(kernel[1:], dilation[1:], padding[1:], stride[1:], sizes[1:], out[1:], strict=True)
    spans = product(*([_span(i * d - before, s, n, o) for i in range(k)] for k, d, (before, _), s, n, o in axes))
    copies = [(q, *zip(*each, strict=True)) for q, each in enumerate(spans)]
    plain = math.prod(kernel) == 1 == step and all(s == 1 for s in stride) and not any(map(any, padding))
    buffers: dict[tuple[int, ...], Any] = {}
    for start, top in product(range(0, images, step), range(0, out[0], height)):
        part, lines = x[:, :, :, start : start + step], slice(top, min(top + height, out[0]))
        count, high = part.shape[3], lines.stop - top + more
        chosen = slice(start, start + count)
        if plain:
            yield chosen, lines, [part[:, :, lines].reshape(groups, inputs, high * windows)]
            continue
        shape = (groups, rest, inputs, len(phases), high, count, *out[1:])
        buffer = buffers.get(shape)
        if buffer is None:
            buffer = buffers[shape] = np.zeros(shape, x.dtype)
        for p, phase in enumerate(phases):
            to, taken = _span(top * stride[0] + phase - padding[0][0], stride[0], sizes[0], high)
            buffer[:, :, :, p, : to.start] = buffer[:, :, :, p, to.stop :] = 0
            for q, others, wanted in copies:
                buffer[(slice(None), q, slice(None), p, to, slice(None), *others)] = part[(..., taken, slice(None), *wanted)]
        flat, run = buffer.reshape(groups, rest * inputs, len(phases) * high * count * windows), count * windows
        firsts = [(p * high + behind) * run for p, behind in places]
        yield chosen, lines, [flat[:, :, first : first + (high - more) * run] for first in firsts]
