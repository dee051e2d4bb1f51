"""Layers of all kinds of nets: inner products, dropout, embeddings, and normalization."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.backends.windows import Pooling as Pools
from agnostic_ad.levels import device_of, unify
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import Neuron, along, constant_filler, detached, in_rows, indices, learn, pull_to, remember, wants

__all__ = ["LRN", "MVN", "BatchNorm", "Dropout", "Embed", "InnerProduct"]


@register("InnerProduct")
class InnerProduct(Layer):
    """Multiplies what lies behind ``axis``, in one row, with a weight (out, in), or (in, out) with ``transpose``, and adds a bias (out,)."""

    exact_bottoms = exact_tops = 1
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("inner_product_param")
        if not p.num_output:
            raise self.fail("num_output is 1 or more")
        self.axis = bottom[0].axis(p.axis)
        self.inputs = bottom[0].count_from(self.axis)
        shape = (self.inputs, p.num_output) if p.transpose else (p.num_output, self.inputs)
        learn(self, *[(shape, p.weight_filler), ((p.num_output,), p.bias_filler)][: 1 + p.bias_term])

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].count_from(self.axis) != self.inputs:
            raise self.fail(f"it was made for {self.inputs} numbers from axis {self.axis} on, not for a bottom of shape {bottom[0].shape}")
        top[0].reshape(*bottom[0].shape[: self.axis], self.param_of("inner_product_param").num_output)

    def _rows(self, xp: Any, x: Any) -> Any:
        return xp.reshape(x, (math.prod(x.shape[: self.axis]), math.prod(x.shape[self.axis :])))

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x, weight, *bias) = unify([bottom[0].data, *(blob.data for blob in self.blobs)])
        weight = xp.matrix_transpose(weight) if self.param_of("inner_product_param").transpose else weight
        top[0].data = xp.reshape(xp.nn.linear(self._rows(xp, x), weight, *bias), top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, x, weight) = unify([top[0].diff, bottom[0].data, self.blobs[0].data])
        x, ct, transpose = self._rows(xp, x), self._rows(xp, ct), self.param_of("inner_product_param").transpose
        if wants(self, 0):
            left, right = (x, ct) if transpose else (ct, x)
            pull_to(self.blobs[0], xp.matmul(xp.matrix_transpose(left), right))
        if len(self.blobs) > 1 and wants(self, 1):
            pull_to(self.blobs[1], xp.sum(ct, axis=0))
        if propagate_down[0]:
            bottom[0].diff = xp.reshape(xp.matmul(ct, xp.matrix_transpose(weight) if transpose else weight), bottom[0].shape)


@register("Dropout")
class Dropout(Neuron):
    """In training, makes numbers 0 with probability dropout_ratio and divides the others by 1 - dropout_ratio."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        ratio = self.param_of("dropout_param").dropout_ratio
        if not 0 <= ratio < 1:
            raise self.fail(f"dropout_ratio is at least 0 and less than 1, not {ratio}")
        self.scale = 1 / (1 - ratio)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        if self.phase == "TRAIN":
            drawn = self.generator.bernoulli(tuple(x.shape), 1 / self.scale)
            self.kept = self.xp.from_numpy(drawn, device_of(x))
            x = xp.nn.masked(x, self.kept, scale=self.scale)
        top[0].data = x

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct,) = unify([top[0].diff])
            bottom[0].diff = xp.nn.masked(ct, self.kept, scale=self.scale) if self.phase == "TRAIN" else ct


@register("Embed")
class Embed(Layer):
    """Rows of a learned table, (input_dim, num_output), by number; plus a bias."""

    exact_bottoms = exact_tops = 1
    in_place = False

    def allow_force_backward(self, index: int) -> bool:
        return False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("embed_param")
        if not p.num_output or not p.input_dim:
            raise self.fail("num_output and input_dim are 1 or more")
        learn(self, *[((p.input_dim, p.num_output), p.weight_filler), ((p.num_output,), p.bias_filler)][: 1 + p.bias_term])

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*bottom[0].shape, self.param_of("embed_param").num_output)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.kept = indices(self, bottom[0], self.param_of("embed_param").input_dim, "row")
        xp, (rows, weight, *bias) = unify([self.kept, *(blob.data for blob in self.blobs)])
        y = xp.nn.embedding(weight, rows)
        top[0].data = y + bias[0] if bias else y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            raise self.fail("the numbers of rows have no gradient")
        xp, (ct, rows) = unify([top[0].diff, self.kept])
        ct = xp.reshape(ct, (-1, ct.shape[-1]))
        if wants(self, 0):
            size = self.param_of("embed_param").input_dim
            pull_to(self.blobs[0], xp.scatter_add(ct, xp.reshape(rows, (-1,)), size=size, axis=0))
        if len(self.blobs) > 1 and wants(self, 1):
            pull_to(self.blobs[1], xp.sum(ct, axis=0))


# --- normalization ------------------------------------------------------------------------------------------------------------------------
@register("LRN")
class LRN(Layer):
    """Divides by (k + alpha * mean of squares nearby) ** beta: near in channels, or inside one channel, where k is 1."""

    exact_bottoms = exact_tops = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("lrn_param")
        if p.local_size % 2 == 0:
            raise self.fail(f"local_size is odd, not {p.local_size}")
        across = p.norm_region == "ACROSS_CHANNELS"
        window = (p.local_size, 1) if across else (p.local_size, p.local_size)
        self.how = Pools(window, (1, 1), tuple((n // 2, n // 2) for n in window), (1, 1))
        self.k, self.rate = p.k if across else 1.0, p.alpha / math.prod(window)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].ndim != 4:
            raise self.fail(f"the bottom has shape (num, channels, height, width), not {bottom[0].shape}")
        top[0].reshape_like(bottom[0])

    def _nearby(self, xp: Any, x: Any) -> Any:
        """Give the sum over each neighbourhood, which is symmetric."""
        shape = x.shape
        if self.how.kernel[1] == 1:
            x = in_rows(xp, x, 2)
        return xp.reshape(xp.nn.sum_pool(x, how=self.how), shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        scale = self._nearby(xp, x * x) * self.rate + self.k
        self.kept = remember(x, bottom[0], top[0]), scale
        top[0].data = x * scale ** -self.param_of("lrn_param").beta

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct, x, scale) = unify([top[0].diff, *self.kept])
            beta = self.param_of("lrn_param").beta
            ct = ct * scale**-beta
            bottom[0].diff = ct - x * self._nearby(xp, ct * x / scale) * (2 * self.rate * beta)


@register("MVN")
class MVN(Layer):
    """Takes the mean of each channel of an image away (``across_channels``: of each image) and divides by the standard deviation plus eps."""

    exact_bottoms = exact_tops = 1

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        found = bottom[0]
        if found.ndim > 4:
            raise self.fail(f"the bottom has at most 4 axes, not shape {found.shape}")
        shape = (found.num, found.channels, found.height, found.width)
        self.axes = (1, 2, 3) if self.param_of("mvn_param").across_channels else (2, 3)
        self.count = max(1, math.prod(shape[a] for a in self.axes))
        top[0].reshape(*shape)

    def _mean(self, xp: Any, x: Any) -> Any:
        return xp.sum(x, axis=self.axes, keepdims=True) / self.count

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("mvn_param")
        xp, (x,) = unify([bottom[0].data])
        x = xp.reshape(x, top[0].shape)
        y = x - self._mean(xp, x)
        if p.normalize_variance:
            deviation = xp.sqrt(self._mean(xp, y * y))
            y = y / (deviation + p.eps)
            self.kept = y, deviation
        top[0].data = y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        p = self.param_of("mvn_param")
        xp, (ct,) = unify([top[0].diff])
        g = ct - self._mean(xp, ct)
        if p.normalize_variance:
            xp, (g, ct, y, deviation) = unify([g, ct, *self.kept])
            divisor = xp.where(deviation == 0, xp.ones_like(deviation), deviation)  # where nothing varies, y is 0 too
            g = g / (deviation + p.eps) - y * self._mean(xp, ct * y) / divisor
        bottom[0].diff = xp.reshape(g, bottom[0].shape)


@register("BatchNorm")
class BatchNorm(Layer):
    """Takes the mean of each channel away and divides by the root of its variance plus eps.

    In training mean and variance are the batch's, and are added to sums that forget, the parameters: the mean, the variance, and how many
    batches they count for. Otherwise, or with ``use_global_stats``, they are those of the sums. No solver changes them.
    """

    exact_bottoms = exact_tops = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, channels = self.param_of("batch_norm_param"), bottom[0].shape[1] if bottom[0].ndim > 1 else 1
        self.channels = channels
        self.stored = p.use_global_stats if p.has("use_global_stats") else self.phase == "TEST"
        learn(self, *[((n,), constant_filler(0.0)) for n in (channels, channels, 1)])
        for spec in self.param.param:
            if spec.has("lr_mult") and spec.lr_mult != 0:
                raise self.fail(f"its statistics are not learned: lr_mult is 0, not {spec.lr_mult}")
        while len(self.param.param) < 3:
            self.param.param.append(type(self.param)("ParamSpec"))
        for spec, blob in zip(self.param.param, self.blobs, strict=True):
            spec.lr_mult = blob.lr_mult = 0.0
        self.param_propagate_down = [False] * 3

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        shape = bottom[0].shape
        if (shape[1] if len(shape) > 1 else 1) != self.channels:
            raise self.fail(f"it was made for {self.channels} channels, not for a bottom of shape {shape}")
        self.axes = tuple(i for i in range(len(shape)) if i != 1)
        self.count = max(1, bottom[0].count // self.channels)
        top[0].reshape(*shape)

    def _spread(self, xp: Any, x: Any, ndim: int) -> Any:
        return along(xp, x, ndim, 1) if ndim > 1 else x

    def _mean(self, xp: Any, x: Any) -> Any:
        return xp.sum(x, axis=self.axes, keepdims=True) / self.count

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("batch_norm_param")
        xp, (x, *sums) = unify([bottom[0].data, *(blob.data for blob in self.blobs)])
        if self.stored:
            none = sums[2] == 0
            factor = xp.where(none, sums[2], 1 / xp.where(none, xp.ones_like(sums[2]), sums[2]))
            mean, var = (self._spread(xp, s * factor, x.ndim) for s in sums[:2])
            y = x - mean
        else:
            mean = self._mean(xp, x)
            y = x - mean
            var = self._mean(xp, y * y)
            self._remember(mean, var, p.moving_average_fraction)
        deviation = xp.sqrt(var + p.eps)
        y = y / deviation
        self.kept = y, deviation
        top[0].data = y

    def _remember(self, mean: Any, var: Any, fraction: float) -> None:
        xp = self.xp
        more = xp.reshape(detached(mean), (-1,)), xp.reshape(detached(var), (-1,)) * (self.count / max(1, self.count - 1)), 1.0
        for blob, x in zip(self.blobs, more, strict=True):
            blob.data = detached(blob.data) * fraction + x

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct, y, deviation) = unify([top[0].diff, *self.kept])
            g = ct if self.stored else ct - self._mean(xp, ct) - y * self._mean(xp, ct * y)
            bottom[0].diff = g / deviation
