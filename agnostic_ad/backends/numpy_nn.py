"""NumPy's own forms of the operations of neural networks: in place where the general forms make temporaries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from agnostic_ad.backends.windows import Convolution, Pooling, offsets, out_size, reach


class NumpyNeural:
    """The methods ``nn_*`` of the NumPy backend, and what optimizers ask for."""

    blocks = 1 << 15

    def sharers(self, x: Any) -> int:
        """Count none: a view refers to the array that owns its memory."""
        return 0

    def nn_relu(self, x: Any) -> Any:
        """Give max(x, 0)."""
        return np.maximum(x, 0)

    def nn_softmax(self, x: Any, *, axis: int = -1) -> Any:
        """Exponentiate and divide in one piece of memory."""
        y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
        np.exp(y, out=y)
        y /= np.add.reduce(y, axis=axis, keepdims=True)
        return y

    def nn_log_softmax(self, x: Any, *, axis: int = -1) -> Any:
        """Subtract the logarithm of the sum in place."""
        y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
        y -= np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
        return y

    def nn_linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """Multiply once, however many axes ``x`` has, and add in place."""
        rows = x if x.ndim <= 2 else x.reshape(-1, x.shape[-1])
        y = rows @ weight.T
        if bias is not None:
            y = np.add(y, bias, out=y) if y.ndim and bias.dtype == y.dtype else y + bias
        return y if x.ndim <= 2 else y.reshape(*x.shape[:-1], -1)

    # --- convolution: windows as columns, a few images at a time, in a buffer that stays in the cache ----------------------------------
    def nn_conv(self, x: Any, weight: Any, bias: Any = None, *, how: Convolution) -> Any:
        """Multiply the weight with the columns, straight into the result."""
        kernel, groups = weight.shape[2:], how.groups
        out = out_size(x.shape[2:], kernel, how.stride, how.padding, how.dilation)
        matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
        y = np.empty((len(x), groups, matrix.shape[1], math.prod(out)), np.result_type(x, weight))
        for images, columns in _columns(x, kernel, out, how):
            # columns: (groups, C / groups * kernel, images, windows)
            for group in range(groups):
                product = matrix[group] @ columns[group].reshape(matrix.shape[2], -1)
                y[images, group] = product.reshape(matrix.shape[1], -1, y.shape[3]).transpose(1, 0, 2)
        y = y.reshape(len(x), weight.shape[0], *out)
        if bias is None:
            return y
        bias = bias.reshape(-1, *(1,) * len(out))
        return np.add(y, bias, out=y) if bias.dtype == y.dtype else y + bias

    def nn_conv_weight(self, x: Any, y: Any, *, kernel: Any, how: Convolution) -> Any:
        """Multiply the cotangent with the columns, made once more, and add up."""
        groups = how.groups
        flat = y.reshape(len(y), groups, y.shape[1] // groups, -1)
        weight = np.zeros((groups, flat.shape[2], x.shape[1] // groups * math.prod(kernel)), np.result_type(x, y))
        for images, columns in _columns(x, kernel, y.shape[2:], how):
            for group in range(groups):
                left = flat[images, group].transpose(1, 0, 2).reshape(flat.shape[2], -1)
                weight[group] += left @ columns[group].reshape(weight.shape[2], -1).T
        return weight.reshape(y.shape[1], x.shape[1] // groups, *kernel)

    def nn_conv_input(self, y: Any, weight: Any, *, size: Any, how: Convolution) -> Any:
        """Multiply with the transposed weight, a few images at a time, and add the columns where they came from.

        With stride 1 it is a convolution with the flipped weight, which is quicker from many channels to fewer.
        """
        kernel, out, groups = weight.shape[2:], y.shape[2:], how.groups
        pads = tuple((d * (k - 1) - a, d * (k - 1) - b) for d, k, (a, b) in zip(how.dilation, kernel, how.padding, strict=True))
        if weight.shape[0] <= weight.shape[1] * groups and all(s == 1 for s in how.stride) and min(min(pads)) >= 0:
            flipped = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)[_last((slice(None, None, -1),) * len(kernel))]
            flipped = np.ascontiguousarray(flipped).reshape(groups * weight.shape[1], -1, *kernel)
            return self.nn_conv(y, flipped, how=how._replace(padding=pads))
        matrix = weight.reshape(groups, weight.shape[0] // groups, -1)
        flat = y.reshape(len(y), groups, matrix.shape[1], -1)
        covered = reach(out, kernel, how.stride, how.dilation)
        around = tuple(max(n + a + b, r) for n, (a, b), r in zip(size, how.padding, covered, strict=True))
        x = np.zeros((len(y), groups * weight.shape[1], *around), np.result_type(y, weight))
        keys = list(offsets(kernel, out, how.stride, how.dilation))
        step = _step(matrix.shape[2] * groups * flat.shape[3], x.itemsize)
        for start in range(0, len(y), step):
            part = flat[start : start + step]
            columns = np.matmul(matrix.transpose(0, 2, 1), part).reshape(len(part), x.shape[1], len(keys), *out)
            into = x[start : start + step]
            for i, key in enumerate(keys):
                into[_last(key)] += columns[:, :, i]
        return x[_last(slice(a, a + n) for n, (a, _) in zip(size, how.padding, strict=True))]

    # --- maximum pooling: equality masks on strided views ------------------------------------------------------------------------------
    def nn_max_pool(self, x: Any, *, how: Pooling) -> Any:
        """Take maxima in place."""
        out = out_size(x.shape[-len(how.kernel) :], how.kernel, how.stride, how.padding, how.dilation, how.ceil)
        x = _around(x, out, how, -math.inf)
        first, *rest = offsets(how.kernel, out, how.stride, how.dilation)
        y = np.array(x[_last(first)])
        for key in rest:
            np.maximum(y, x[_last(key)], out=y)
        return y

    def nn_pool_put(self, ct: Any, x: Any, y: Any, *, how: Pooling) -> Any:
        """Multiply with the masks of the places where the maximum was."""
        axes = len(how.kernel)
        sizes, out = x.shape[-axes:], y.shape[-axes:]
        padded = _around(x, out, how, -math.inf)
        apart = all(s >= d * (k - 1) + 1 for s, d, k in zip(how.stride, how.dilation, how.kernel, strict=True))
        put = np.zeros(padded.shape, ct.dtype)
        free = np.ones(y.shape, bool)
        hit = np.empty(y.shape, bool)
        for key in offsets(how.kernel, out, how.stride, how.dilation):
            np.equal(padded[_last(key)], y, out=hit)
            hit &= free
            free ^= hit
            if apart:  # every element is in one window at most
                np.multiply(ct, hit, out=put[_last(key)])
            else:
                put[_last(key)] += ct * hit
        return put[_last(slice(a, a + n) for n, (a, _) in zip(sizes, how.padding, strict=True))]


def _last(slices: Iterable[slice]) -> Any:
    """Give the key that takes slices of the last axes."""
    return (..., *slices)


def _step(elements: int, itemsize: int) -> int:
    """Give how many images' columns to make at a time: as many as fit into a part of the cache, at least one."""
    return max(1, (1 << 20) // max(1, elements * itemsize))


def _padded(x: Any, pads: Any, value: float) -> Any:
    """Give ``x`` with ``value`` around its last axes."""
    if not any(map(any, pads)):
        return x
    lead = x.shape[: x.ndim - len(pads)]
    sizes = x.shape[x.ndim - len(pads) :]
    wide = np.full((*lead, *(a + n + b for n, (a, b) in zip(sizes, pads, strict=True))), value, x.dtype)
    wide[_last(slice(a, a + n) for n, (a, _) in zip(sizes, pads, strict=True))] = x
    return wide


def _around(x: Any, out: Any, how: Pooling, value: float) -> Any:
    """Give ``x`` with enough around it for all windows."""
    sizes, ends = x.shape[-len(how.kernel) :], reach(out, how.kernel, how.stride, how.dilation)
    return _padded(x, [(a, max(0, end - n - a)) for n, (a, _), end in zip(sizes, how.padding, ends, strict=True)], value)


def _columns(x: Any, kernel: Any, out: Any, how: Convolution) -> Iterator[tuple[slice, Any]]:
    """Give the windows of a few images at a time, channels first: (groups, C / groups, kernel, images, windows); one buffer for all."""
    keys = list(offsets(kernel, out, how.stride, how.dilation))
    x = _padded(x, how.padding, 0.0).swapaxes(0, 1)
    channels, count = x.shape[:2]
    step = min(count, _step(channels * len(keys) * math.prod(out), x.itemsize))
    buffer = np.empty((channels, len(keys), step, *out), x.dtype)
    for start in range(0, count, step):
        part = x[:, start : start + step]
        columns = buffer if part.shape[1] == step else np.empty((channels, len(keys), part.shape[1], *out), x.dtype)
        for i, key in enumerate(keys):
            columns[:, i] = part[_last(key)]
        yield slice(start, start + step), columns.reshape(how.groups, channels // how.groups, len(keys), part.shape[1], -1)
