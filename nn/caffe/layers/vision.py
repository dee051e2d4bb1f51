"""Layers of images: convolution and its transpose, the windows themselves, pooling, pyramids of poolings, cutting out."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.backends.windows import Convolution as Windows
from agnostic_ad.backends.windows import Pooling as Pools
from agnostic_ad.backends.windows import out_size
from agnostic_ad.levels import device_of, unify
from agnostic_ad.nn.caffe.blob import Blob, keywords
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import in_rows, learn, pull_to, wants
from agnostic_ad.nn.caffe.message import Message

__all__ = ["SPP", "Convolution", "Crop", "Deconvolution", "Im2col", "Pooling"]


# --- convolution --------------------------------------------------------------------------------------------------------------------------
def _sizes(layer: Layer, p: Message, name: str, count: int, default: int | None) -> tuple[int, ...]:
    """Give one number for each spatial axis: said once, once an axis, or as ``_h`` and ``_w``."""
    repeated, short = getattr(p, name), name.removesuffix("_size")
    sides = [f"{short}_{side}" for side in "hw"] if name != "dilation" else []
    said = [side for side in sides if p.has(side)]
    if said:
        if count != 2 or (len(said) != 2 and name != "pad") or repeated:
            raise layer.fail(
                f"{short}_h and {short}_w go together, are for 2 spatial axes (there are {count}), and stand in place of {name}"
            )
        repeated = [getattr(p, side) for side in sides]  # of padding, one alone may be said: the other is 0
    if not repeated and default is not None:
        repeated = [default]
    if len(repeated) not in (1, count):
        raise layer.fail(f"{name} is said once, or once for each of {count} spatial axes, not {len(repeated)} times")
    found = tuple(repeated) * (count if len(repeated) == 1 else 1)
    if name != "pad" and 0 in found:
        raise layer.fail(f"{name} is 1 or more, not {found}")
    return found


class _Windowed(Layer):
    """What convolutions have in common: windows that move over the axes behind ``axis``."""

    in_place = False

    def _windows(self, bottom: list[Blob]) -> None:
        p = self.param_of("convolution_param")
        self.axis = bottom[0].axis(p.axis)
        self.channels, count = bottom[0].shape[self.axis], bottom[0].ndim - self.axis - 1
        if not count:
            raise self.fail(f"it has windows on the axes behind axis {self.axis}, and a bottom of shape {bottom[0].shape} has none there")
        self.kernel = _sizes(self, p, "kernel_size", count, None)
        pads = tuple((n, n) for n in _sizes(self, p, "pad", count, 0))
        self.how = Windows(_sizes(self, p, "stride", count, 1), pads, _sizes(self, p, "dilation", count, 1), p.group)

    def _checked(self, bottom: list[Blob]) -> tuple[int, ...]:
        """Give the sizes of the spatial axes."""
        shape = bottom[0].shape
        if len(shape) != self.axis + 1 + len(self.kernel) or shape[self.axis] != self.channels:
            raise self.fail(
                f"it was made for {self.channels} channels at axis {self.axis} and {len(self.kernel)} axes behind, not for {shape}"
            )
        for i, other in enumerate(bottom):
            if other.shape != shape:
                raise self.fail(f"its bottoms have one shape; that of number {i} is {other.shape}, not {shape}")
        return shape[self.axis + 1 :]

    def _fitting(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Give how many windows there are along each axis of an image."""
        found = out_size(size, self.kernel, self.how.stride, self.how.padding, self.how.dilation)
        if 0 in found:
            raise self.fail(f"a window of size {self.kernel} with dilation {self.how.dilation} does not fit an image of size {size}")
        return found

    def _images(self, xp: Any, x: Any) -> Any:
        """Put all axes in front of the channels together."""
        return xp.reshape(x, (math.prod(x.shape[: self.axis]), *x.shape[self.axis :]))


@register("Convolution")
class Convolution(_Windowed):
    """Convolves over any number of axes, each bottom into the top of the same number, with the same weights.

    The parameters are the weight (out, in / group, kernel) and, with ``bias_term``, the bias (out,).
    """

    min_bottoms = min_tops = 1
    equal_bottoms_and_tops = True
    transposed = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("convolution_param")
        self._windows(bottom)
        if not p.num_output or not p.group or self.channels % p.group or p.num_output % p.group:
            raise self.fail(f"num_output {p.num_output or 0} and {self.channels} channels are positive multiples of group {p.group}")
        first, second = (self.channels, p.num_output) if self.transposed else (p.num_output, self.channels)
        wanted = [((first, second // p.group, *self.kernel), p.weight_filler), ((p.num_output,), p.bias_filler)]
        learn(self, *wanted[: 1 + p.bias_term])

    def _out(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return self._fitting(size)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        size = self._out(self._checked(bottom))
        for blob in top:
            blob.reshape(*bottom[0].shape[: self.axis], self.param_of("convolution_param").num_output, *size)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for below, above in zip(bottom, top, strict=True):
            xp, (x, weight, *bias) = unify([below.data, *(blob.data for blob in self.blobs)])
            y = self._value(xp, self._images(xp, x), weight, bias[0] if bias else None, above.shape[self.axis + 1 :])
            above.data = xp.reshape(y, above.shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for below, above, wanted in zip(bottom, top, propagate_down, strict=True):
            xp, (x, weight, ct) = unify([below.data, self.blobs[0].data, above.diff])
            x, ct = self._images(xp, x), self._images(xp, ct)
            if len(self.blobs) > 1 and wants(self, 1):
                pull_to(self.blobs[1], xp.sum(ct, axis=(0, *range(2, ct.ndim))))
            if wants(self, 0):
                pull_to(self.blobs[0], self._pull_weight(xp, x, ct))
            if wanted:
                below.diff = xp.reshape(self._pull(xp, ct, weight, tuple(x.shape[2:])), below.shape)

    def _value(self, xp: Any, x: Any, weight: Any, bias: Any, size: tuple[int, ...]) -> Any:
        return xp.nn.conv(x, weight, bias, how=self.how)

    def _pull(self, xp: Any, ct: Any, weight: Any, size: tuple[int, ...]) -> Any:
        return xp.nn.conv_input(ct, weight, size=size, how=self.how)

    def _pull_weight(self, xp: Any, x: Any, ct: Any) -> Any:
        return xp.nn.conv_weight(x, ct, kernel=self.kernel, how=self.how)


@register("Deconvolution")
class Deconvolution(Convolution):
    """The transpose of a convolution: what `Convolution` does to a gradient. The weight is (in, out / group, kernel)."""

    transposed = True

    def _out(self, size: tuple[int, ...]) -> tuple[int, ...]:
        parts = zip(size, self.kernel, self.how.stride, self.how.padding, self.how.dilation, strict=True)
        found = tuple(s * (n - 1) + d * (k - 1) + 1 - 2 * p for n, k, s, (p, _), d in parts)
        if 0 in size or min(found) < 1:
            raise self.fail(f"an image of size {size} would become one of size {found}")
        return found

    def _value(self, xp: Any, x: Any, weight: Any, bias: Any, size: tuple[int, ...]) -> Any:
        y = xp.nn.conv_input(x, weight, size=size, how=self.how)
        return y if bias is None else y + xp.reshape(bias, (-1, *(1,) * len(size)))

    def _pull(self, xp: Any, ct: Any, weight: Any, size: tuple[int, ...]) -> Any:
        return xp.nn.conv(ct, weight, None, how=self.how)

    def _pull_weight(self, xp: Any, x: Any, ct: Any) -> Any:
        return xp.nn.conv_weight(ct, x, kernel=self.kernel, how=self.how)


@register("Im2col")
class Im2col(_Windowed):
    """The windows of a convolution as channels: (N, C, ...) becomes (N, C * kernel, ...)."""

    exact_bottoms = exact_tops = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self._windows(bottom)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        size = self._fitting(self._checked(bottom))
        top[0].reshape(*bottom[0].shape[: self.axis], self.channels * math.prod(self.kernel), *size)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        top[0].data = xp.reshape(xp.nn.unfold(self._images(xp, x), kernel=self.kernel, how=self.how), top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct,) = unify([top[0].diff])
            columns = in_rows(xp, self._images(xp, ct), 2)
            x = xp.nn.fold(columns, size=bottom[0].shape[self.axis + 1 :], kernel=self.kernel, how=self.how)
            bottom[0].diff = xp.reshape(x, bottom[0].shape)


# --- pooling ------------------------------------------------------------------------------------------------------------------------------
@register("Pooling")
class Pooling(Layer):
    """The maximum (MAX), the average (AVE) or one number, drawn with their sizes for odds (STOCHASTIC), of each window of (N, C, H, W).

    By Caffe's rule a last window that is only partly inside counts, unless it begins beyond the image. An average is over what of a window
    is inside the image and its padding. With a second top, MAX tells where the maxima are, as numbers of an image's elements.
    """

    exact_bottoms, min_tops, max_tops = 1, 1, 2
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("pooling_param")
        sized = p.has("kernel_size") or p.has("kernel_h") or p.has("kernel_w")
        if p.global_pooling == sized:
            raise self.fail("either kernel_size (or kernel_h and kernel_w) is given, or global_pooling")
        self.method = p.pool
        self.pads, self.strides = self._pair("pad"), self._pair("stride")
        kernel = None if p.global_pooling else self._pair("kernel")
        if kernel is None and (self.pads != (0, 0) or self.strides != (1, 1)):
            raise self.fail("with global_pooling, pad is 0 and stride 1")
        if kernel is not None and (0 in kernel or any(a >= k for a, k in zip(self.pads, kernel, strict=True))):
            raise self.fail(f"pad {self.pads} is less than the window, {kernel}")
        if 0 in self.strides:
            raise self.fail(f"stride is 1 or more, not {self.strides}")
        if self.method == "STOCHASTIC" and self.pads != (0, 0):
            raise self.fail("padding is for MAX and AVE")
        if len(top) > 1 and self.method != "MAX":
            raise self.fail(f"only MAX has a second top, of places, not {self.method}")
        self.kernel = kernel

    def _pair(self, name: str) -> tuple[int, int]:
        p, one = self.param_of("pooling_param"), "kernel_size" if name == "kernel" else name
        sides = p.has(f"{name}_h"), p.has(f"{name}_w")
        if sides[0] != sides[1] or (sides[0] and p.has(one)):
            raise self.fail(f"give {one}, or both {name}_h and {name}_w in its place")
        return (getattr(p, f"{name}_h"), getattr(p, f"{name}_w")) if sides[0] else (getattr(p, one),) * 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].ndim != 4:
            raise self.fail(f"the bottom has shape (num, channels, height, width), not {bottom[0].shape}")
        size = bottom[0].shape[2:]
        kernel = self.kernel or size
        ceil = self.param_of("pooling_param").round_mode == "CEIL"
        self.how = Pools(kernel, self.strides, tuple((n, n) for n in self.pads), (1, 1), ceil)
        out = out_size(size, kernel, self.strides, self.how.padding, (1, 1), ceil)
        if 0 in out:
            raise self.fail(f"a window of size {kernel} does not fit an image of size {size}")
        for blob in top:
            blob.reshape(*bottom[0].shape[:2], *out)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        if self.method == "MAX":
            self.kept = xp.nn.max_pool(x, how=self.how)
            top[0].data = self.kept
            if len(top) > 1:
                top[1].data = xp.astype(xp.nn.max_pool_index(x, how=self.how), x.dtype)
        elif self.method == "AVE":
            top[0].data = xp.nn.sum_pool(x, how=self.how) * self._shares(xp, x, bottom[0].shape[2:])
        else:
            top[0].data = xp.reshape(self._draw(xp, self._columns(xp, x, bottom[0].shape), x), top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        size = bottom[0].shape[2:]
        xp, (ct, x, kept) = unify([top[0].diff, bottom[0].data, None if self.method == "AVE" else self.kept])
        if self.method == "MAX":
            bottom[0].diff = xp.nn.pool_put(ct, x, kept, how=self.how)
        elif self.method == "AVE":
            bottom[0].diff = xp.nn.spread_pool(ct * self._shares(xp, ct, size), size=size, how=self.how)
        else:
            g = xp.expand_dims(in_rows(xp, ct, 2), axis=2) * kept
            columns = xp.reshape(g, (g.shape[0], g.shape[1] * g.shape[2], g.shape[3]))
            bottom[0].diff = xp.nn.fold(columns, size=size, kernel=self.how.kernel, how=self._frame(size))

    def _shares(self, xp: Any, like: Any, size: tuple[int, ...]) -> Any:
        """Give one over how many elements of each window are inside the image and its padding."""
        found = []
        for n, k, s, a in zip(size, self.how.kernel, self.strides, self.pads, strict=True):
            out = out_size((n,), (k,), (s,), ((a, a),), (1,), self.how.ceil)[0]
            found.append([min(i * s + k, n + 2 * a) - i * s for i in range(out)])
        shares = [[1.0 / (h * w) for w in found[1]] for h in found[0]]
        return xp.asarray(shares, dtype=like.dtype, device=device_of(like))

    # --- drawing ----------------------------------------------------------------------------------------------------
    def _frame(self, size: tuple[int, ...]) -> Windows:
        """Give the windows with zeros behind the image, where the last ones are only partly inside."""
        out = out_size(size, self.how.kernel, self.strides, self.how.padding, (1, 1), self.how.ceil)
        ends = [(o - 1) * s + k for o, s, k in zip(out, self.strides, self.how.kernel, strict=True)]
        return Windows(self.strides, tuple((0, max(0, end - n)) for end, n in zip(ends, size, strict=True)), (1, 1))

    def _columns(self, xp: Any, x: Any, shape: tuple[int, ...]) -> Any:
        columns = xp.nn.unfold(x, kernel=self.how.kernel, how=self._frame(shape[2:]))
        return xp.reshape(columns, (*shape[:2], math.prod(self.how.kernel), columns.shape[-1]))

    def _draw(self, xp: Any, columns: Any, x: Any) -> Any:
        """Give one number of each window, in training, or else their mean with themselves for weights; keep its derivatives."""
        if self.phase == "TRAIN":
            sums = xp.cumulative_sum(columns, axis=2)
            total = sums[:, :, -1:, :]
            drawn = self.xp.from_numpy(self.generator.uniform(tuple(total.shape)), device_of(x))
            line = total * xp.asarray(drawn, dtype=x.dtype)
            place = xp.sum(xp.astype(sums < line, x.dtype), axis=2, keepdims=True)
            numbers = xp.reshape(xp.arange(columns.shape[2], dtype=x.dtype, device=device_of(x)), (-1, 1))
            self.kept = xp.astype(numbers == place, x.dtype)
            return xp.sum(columns * self.kept, axis=2)
        total = xp.sum(columns, axis=2, keepdims=True)
        some = total > 0
        total = xp.where(some, total, xp.ones_like(total))
        mean = xp.where(some, xp.sum(columns * columns, axis=2, keepdims=True) / total, xp.zeros_like(total))
        self.kept = xp.where(some, (2 * columns - mean) / total, xp.zeros_like(columns))
        return mean


@register("SPP")
class SPP(Layer):
    """A pyramid of poolings: each level has twice as many windows along an axis as the one before; all in one row an image."""

    exact_bottoms = exact_tops = 1
    in_place = False
    levels: list[tuple[Pooling, Blob]]

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].ndim != 4 or 0 in bottom[0].shape[2:]:
            raise self.fail(f"the bottom has shape (num, channels, height, width), not {bottom[0].shape}")
        if not self.param_of("spp_param").pyramid_height:
            raise self.fail("pyramid_height is 1 or more")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if getattr(self, "shape", None) != bottom[0].shape:
            self.shape = bottom[0].shape
            self.levels = [self._level(level, bottom) for level in range(self.param_of("spp_param").pyramid_height)]
        if len(self.levels) == 1:
            top[0].reshape(*self.levels[0][1].shape)
        else:
            top[0].reshape(bottom[0].shape[0], sum(found.count_from(1) for _, found in self.levels))

    def _level(self, level: int, bottom: list[Blob]) -> tuple[Pooling, Blob]:
        """Give the pooling of a level, and a blob for its result."""
        how: dict[str, Any] = {"pool": self.param_of("spp_param").pool}
        for side, n in zip("hw", bottom[0].shape[2:], strict=True):
            size = -(-n // 2**level)
            how |= {f"kernel_{side}": size, f"stride_{side}": size, f"pad_{side}": (size * 2**level - n + 1) // 2}
        pooling = Pooling(
            Message("LayerParameter", self.param.where, name=f"{self.name}, level {level}", pooling_param=how),
            phase=self.phase,
            generator=self.generator,
            **keywords(self.place),
        )
        found = self.blob()
        pooling.setup(bottom, [found])
        pooling.reshape(bottom, [found])
        return pooling, found

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for pooling, found in self.levels:
            pooling.forward(bottom, [found])
        xp, rows = unify([found.data for _, found in self.levels])
        rows = [in_rows(xp, y) for y in rows]
        top[0].data = xp.reshape(xp.concat(rows, axis=1), top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        xp, (ct,) = unify([top[0].diff])
        ct, start, total = in_rows(xp, ct), 0, None
        for pooling, found in self.levels:
            count = found.count_from(1)
            found.diff = xp.reshape(ct[:, start : start + count], found.shape)
            start += count
            part = self.blob(*bottom[0].shape)
            part.share_data(bottom[0])
            pooling.backward([found], [True], [part])
            total = part.diff if total is None else total + part.diff
        bottom[0].diff = total


@register("Crop")
class Crop(Layer):
    """Cuts the first bottom to the second one's sizes along all axes from ``axis`` on, ``offset`` from the beginning."""

    exact_bottoms, exact_tops = 2, 1
    in_place = False

    def allow_force_backward(self, index: int) -> bool:
        return index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param_of("crop_param"), list(bottom[0].shape)
        start = bottom[0].axis(p.axis)
        count = len(shape) - start
        if len(p.offset) not in (0, 1, count):
            raise self.fail(f"offset is given once, or once for each of {count} axes from axis {p.axis} on, not {len(p.offset)} times")
        if bottom[1].ndim != len(shape):
            raise self.fail(f"both bottoms have as many axes, not shapes {bottom[0].shape} and {bottom[1].shape}")
        offsets = [0] * start + (list(p.offset) or [0]) * (count if len(p.offset) < 2 else 1)
        for axis in range(start, len(shape)):
            if shape[axis] - offsets[axis] < bottom[1].shape[axis]:
                raise self.fail(f"axis {axis} of size {shape[axis]} has no {bottom[1].shape[axis]} elements from {offsets[axis]} on")
            shape[axis] = bottom[1].shape[axis]
        self.key = tuple(slice(o, o + n) for o, n in zip(offsets, shape, strict=True))
        top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data = bottom[0].data[self.key]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct,) = unify([top[0].diff])
            bottom[0].diff = xp.scatter(ct, key=self.key, shape=bottom[0].shape)
        if propagate_down[1]:
            bottom[1].diff = 0.0
