"""Layers that combine blobs element by element, reduce them, and pick from them."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import unify
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import Neuron, in_rows

__all__ = ["ArgMax", "Eltwise", "Reduction", "Softmax"]


@register("Eltwise")
class Eltwise(Layer):
    """The SUM, with a coefficient for each blob, the PROD or the MAX of blobs of one shape, element by element.

    Of equal maxima of the first two blobs that of the second counts, as in Caffe, and of further ones the first.
    """

    min_bottoms, exact_tops = 2, 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("eltwise_param")
        if p.coeff and (p.operation != "SUM" or len(p.coeff) != len(bottom)):
            raise self.fail(f"coeff is for SUM, one number for each of {len(bottom)} bottoms; there are {len(p.coeff)} for {p.operation}")
        self.coeff = list(p.coeff) or [1.0] * len(bottom)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for i, blob in enumerate(bottom):
            if blob.shape != bottom[0].shape:
                raise self.fail(f"its bottoms have one shape; that of number {i} is {blob.shape}, not {bottom[0].shape}")
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, xs = unify([blob.data for blob in bottom])
        op = self.param_of("eltwise_param").operation
        if op == "SUM":
            terms = [x if c == 1 else x * c for x, c in zip(xs, self.coeff, strict=True)]
            y = sum(terms[1:], terms[0])
        elif op == "PROD":
            y = math.prod(xs[1:], start=xs[0])
            self.kept = [self.xp.own(x) if blob is top[0] and self.xp.mutable else x for x, blob in zip(xs, bottom, strict=True)]
        else:
            later = xs[0] <= xs[1]
            self.places = xp.astype(later, xs[0].dtype)
            y = xp.where(later, xs[1], xs[0])
            for i, x in enumerate(xs[2:], start=2):
                more = x > y
                self.places = xp.where(more, xp.full_like(self.places, float(i)), self.places)
                y = xp.where(more, x, y)
        top[0].data = y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        op = self.param_of("eltwise_param").operation
        for i, blob in reversed(list(enumerate(bottom))):  # the first one, which may be the top, is written last
            if not propagate_down[i]:
                continue
            if op == "SUM":
                blob.diff = top[0].diff * self.coeff[i] if self.coeff[i] != 1 else top[0].diff
            elif op == "PROD":
                _, (ct, *others) = unify([top[0].diff, *(x for j, x in enumerate(self.kept) if j != i)])
                blob.diff = math.prod(others, start=ct)
            else:
                xp, (ct, places) = unify([top[0].diff, self.places])
                blob.diff = xp.where(places == i, ct, xp.zeros_like(ct))


@register("Reduction")
class Reduction(Layer):
    """The SUM, ASUM (of absolute values), SUMSQ (of squares) or MEAN of all from ``axis`` on, times ``coeff``."""

    exact_bottoms = exact_tops = 1
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param_of("reduction_param"), bottom[0].shape
        start = bottom[0].axis(p.axis) if shape else 0
        self.axes, self.factor = tuple(range(start, len(shape))), p.coeff
        if p.operation == "MEAN":
            self.factor = p.coeff / max(1, bottom[0].count_from(start))
        top[0].reshape(*shape[:start])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        op = self.param_of("reduction_param").operation
        x = xp.abs(x) if op == "ASUM" else x * x if op == "SUMSQ" else x
        top[0].data = xp.sum(x, axis=self.axes) * self.factor

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if not propagate_down[0]:
            return
        xp, (ct, x) = unify([top[0].diff, bottom[0].data])
        op = self.param_of("reduction_param").operation
        ct = xp.reshape(ct * self.factor, (*ct.shape, *(1,) * len(self.axes)))
        bottom[0].diff = ct * xp.sign(x) if op == "ASUM" else ct * x * 2 if op == "SUMSQ" else xp.broadcast_to(ct, x.shape)


@register("ArgMax")
class ArgMax(Layer):
    """The places, from the largest on, of the ``top_k`` largest numbers along ``axis``, or of each row, (N, 1, top_k).

    With ``out_max_val`` the numbers themselves along ``axis``; or both, (N, 2, top_k). Of equal numbers the later comes first. There is no gradient.
    """

    exact_bottoms = exact_tops = 1
    in_place = False

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("argmax_param")
        self.axis = bottom[0].axis(p.axis) if p.has("axis") else None
        size = bottom[0].count_from(1) if self.axis is None else bottom[0].shape[self.axis]
        if not 1 <= p.top_k <= size:
            raise self.fail(f"top_k is from 1 to {size}, as many as there are, not {p.top_k}")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, shape = self.param_of("argmax_param"), bottom[0].shape
        if self.axis is None:
            top[0].reshape(shape[0], 1 + p.out_max_val, p.top_k, *(1,) * (len(shape) - 3))
        else:
            top[0].reshape(*shape[: self.axis], p.top_k, *shape[self.axis + 1 :])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("argmax_param")
        xp, (x,) = unify([bottom[0].data])
        axis = 1 if self.axis is None else self.axis
        x = in_rows(xp, x) if self.axis is None else x
        turned = xp.flip(x, axis=axis)  # a stable order puts the later of equal numbers first
        order = x.shape[axis] - 1 - xp.argsort(turned, axis=axis, descending=True, stable=True)
        order = order[(*(slice(None),) * axis, slice(p.top_k), ...)]
        values, places = xp.take_along_axis(x, order, axis=axis), xp.astype(order, x.dtype)
        if self.axis is None:
            y = xp.stack([places, values], axis=1) if p.out_max_val else places
        else:
            y = values if p.out_max_val else places
        top[0].data = xp.reshape(y, top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            raise self.fail("places have no gradient")


@register("Softmax")
class Softmax(Neuron):
    """Exponentials along an axis, divided by their sum."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self.axis = bottom[0].axis(self.param_of("softmax_param").axis)
        if not bottom[0].shape[self.axis]:
            raise self.fail(f"axis {self.axis} of a bottom of shape {bottom[0].shape} has no numbers")

    def value(self, xp: Any, x: Any) -> Any:
        return xp.nn.softmax(x, axis=self.axis)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return kept * (ct - xp.sum(ct * kept, axis=self.axis, keepdims=True))
