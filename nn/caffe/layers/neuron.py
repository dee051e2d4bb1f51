"""Layers of neurons: each number of the top is made of one number of the bottom; and Bias and Scale, which add and multiply along axes."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import sum_to_shape
from agnostic_ad.levels import unify
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import Neuron, along, constant_filler, learn, pull_to, remember, wants

__all__ = [
    "BNLL",
    "ELU",
    "AbsVal",
    "Bias",
    "Clip",
    "Exp",
    "Log",
    "PReLU",
    "Power",
    "ReLU",
    "Scale",
    "Sigmoid",
    "Swish",
    "TanH",
    "Threshold",
]


@register("ReLU")
class ReLU(Neuron):
    """max(x, 0) + negative_slope * min(x, 0). Where x is 0, the derivative is negative_slope."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        slope = self.param_of("relu_param").negative_slope
        self.kept = x > 0
        top[0].data = xp.where(self.kept, x, x * slope) if slope else xp.nn.relu(x)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        slope = self.param_of("relu_param").negative_slope
        return xp.where(kept, ct, ct * slope) if slope else xp.nn.masked(ct, kept)


@register("ELU")
class ELU(Neuron):
    """x above 0, and alpha * (exp(x) - 1) from there down."""

    keeps = "x"

    def value(self, xp: Any, x: Any) -> Any:
        return xp.nn.elu(x, alpha=self.param_of("elu_param").alpha)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return xp.where(kept > 0, ct, ct * xp.exp(xp.clip(kept, max=0.0)) * self.param_of("elu_param").alpha)


@register("Sigmoid")
class Sigmoid(Neuron):
    """1 / (1 + exp(-x))."""

    def value(self, xp: Any, x: Any) -> Any:
        return xp.special.expit(x)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return ct * kept * (1 - kept)


@register("TanH")
class TanH(Neuron):
    """The hyperbolic tangent."""

    def value(self, xp: Any, x: Any) -> Any:
        return xp.tanh(x)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return ct * (1 - kept * kept)


@register("AbsVal")
class AbsVal(Neuron):
    """The absolute value; where x is 0, its derivative is 0."""

    keeps = "x"

    def value(self, xp: Any, x: Any) -> Any:
        return xp.abs(x)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return ct * xp.sign(kept)


@register("Power")
class Power(Neuron):
    """(shift + scale * x) ** power."""

    keeps = "x"

    def value(self, xp: Any, x: Any) -> Any:
        p = self.param_of("power_param")
        inner = x * p.scale + p.shift
        return inner if p.power == 1 else inner**p.power

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        p = self.param_of("power_param")
        factor = p.power * p.scale
        if p.power == 1 or factor == 0:
            return ct * factor
        inner = kept * p.scale + p.shift
        return ct * (inner if p.power == 2 else inner ** (p.power - 1)) * factor


def _log_of_base(layer: Layer, base: float) -> float:
    """Give the logarithm of a base; -1 stands for e."""
    if base == -1:
        return 1.0
    if base <= 0 or math.isinf(base):
        raise layer.fail(f"base is a positive number, or -1 for e, not {base}")
    return math.log(base)


@register("Exp")
class Exp(Neuron):
    """base ** (shift + scale * x)."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("exp_param")
        log_base = _log_of_base(self, p.base)
        self.inner, self.outer = log_base * p.scale, math.exp(log_base * p.shift)

    def value(self, xp: Any, x: Any) -> Any:
        y = xp.exp(x * self.inner)
        return y if self.outer == 1 else y * self.outer

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return ct * kept * self.inner


@register("Log")
class Log(Neuron):
    """The logarithm, to the base, of shift + scale * x."""

    keeps = "x"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        log_base = _log_of_base(self, self.param_of("log_param").base)
        if log_base == 0:
            raise self.fail("there is no logarithm to base 1")
        self.outer = 1 / log_base

    def value(self, xp: Any, x: Any) -> Any:
        p = self.param_of("log_param")
        return xp.log(x * p.scale + p.shift) * self.outer

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        p = self.param_of("log_param")
        return ct / (kept * p.scale + p.shift) * (p.scale * self.outer)


@register("BNLL")
class BNLL(Neuron):
    """log(1 + exp(x))."""

    keeps = "x"

    def value(self, xp: Any, x: Any) -> Any:
        return xp.nn.softplus(x, threshold=math.inf)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        return ct * xp.special.expit(kept)


@register("Swish")
class Swish(Neuron):
    """x / (1 + exp(-beta * x))."""

    keeps = "x"

    def value(self, xp: Any, x: Any) -> Any:
        return x * xp.special.expit(x * self.param_of("swish_param").beta)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        beta = self.param_of("swish_param").beta
        s = xp.special.expit(kept * beta)
        return ct * (s + kept * s * (1 - s) * beta)


@register("Clip")
class Clip(Neuron):
    """min where x is less, max where it is more; the derivative is 1 between, and on both bounds."""

    keeps = "x"

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("clip_param")
        if not (p.has("min") and p.has("max") and p.min < p.max):
            raise self.fail("min and max are given, the first less than the second")

    def value(self, xp: Any, x: Any) -> Any:
        p = self.param_of("clip_param")
        return xp.clip(x, min=p.min, max=p.max)

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        p = self.param_of("clip_param")
        return xp.nn.masked(ct, (kept >= p.min) & (kept <= p.max))


@register("Threshold")
class Threshold(Neuron):
    """1 above the threshold, 0 elsewhere; there is no gradient."""

    def value(self, xp: Any, x: Any) -> Any:
        return xp.astype(x > self.param_of("threshold_param").threshold, x.dtype)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            raise self.fail("it has no gradient: where it is not constant, it jumps")


@register("PReLU")
class PReLU(Layer):
    """max(x, 0) + slope * min(x, 0), with a learned slope for each channel, or one for all."""

    exact_bottoms = exact_tops = 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("prelu_param")
        if bottom[0].ndim < 2:
            raise self.fail(f"the bottom has at least 2 axes, the second one of channels; its shape is {bottom[0].shape}")
        learn(self, (() if p.channel_shared else (bottom[0].shape[1],), p.filler if p.has("filler") else constant_filler(0.25)))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if not self.param_of("prelu_param").channel_shared and self.blobs[0].shape != bottom[0].shape[1:2]:
            raise self.fail(f"a slope for each of {self.blobs[0].count} channels does not fit a bottom of shape {bottom[0].shape}")
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x, slope) = unify([bottom[0].data, self.blobs[0].data])
        self.kept = remember(x, bottom[0], top[0])
        top[0].data = xp.nn.prelu(x, along(xp, slope, x.ndim, 1))

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, x, slope) = unify([top[0].diff, self.kept, self.blobs[0].data])
        spread = along(xp, slope, x.ndim, 1)
        if wants(self, 0):
            g = sum_to_shape(xp, ct * xp.clip(x, max=0.0), tuple(spread.shape))
            pull_to(self.blobs[0], xp.reshape(g, slope.shape))
        if propagate_down[0]:
            bottom[0].diff = xp.where(x > 0, ct, ct * spread)


class _Along(Layer):
    """What Bias and Scale have in common: an operand, learned or a second bottom, whose axes lie along some of the first bottom's."""

    min_bottoms, max_bottoms, exact_tops = 1, 2, 1
    start: int

    def _learned_shape(self, bottom: list[Blob], p: Any) -> tuple[int, ...]:
        """Give the shape of a learned operand."""
        if len(bottom) > 1:
            return bottom[1].shape
        start, n = bottom[0].axis(p.axis) if bottom[0].ndim else 0, p.num_axes
        if n < -1 or start + n > bottom[0].ndim:
            raise self.fail(f"num_axes {n} from axis {p.axis} on does not fit a bottom of shape {bottom[0].shape}; -1 takes all")
        return bottom[0].shape[start:] if n == -1 else bottom[0].shape[start : start + n]

    def _start(self, bottom: list[Blob], operand: Blob, axis: int) -> int:
        """Give the axis where the operand begins."""
        start = bottom[0].axis(axis) if operand.ndim else 0
        if bottom[0].shape[start : start + operand.ndim] != operand.shape:
            raise self.fail(f"an operand of shape {operand.shape} does not fit a bottom of shape {bottom[0].shape} from axis {axis} on")
        return start

    def _pull(self, xp: Any, ct: Any, operand: Blob, learned: bool) -> None:
        """Give the operand what of a gradient is its own."""
        g = xp.sum(ct, axis=tuple(i for i in range(ct.ndim) if not self.start <= i < self.start + operand.ndim))
        if learned:
            pull_to(operand, g)
        else:
            operand.diff = g


@register("Bias")
class Bias(_Along):
    """Adds a learned blob, or the second bottom, along axes of the first."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("bias_param")
        if len(bottom) == 1:
            learn(self, (self._learned_shape(bottom, p), p.filler))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.start = self._start(bottom, (*bottom, *self.blobs)[1], self.param_of("bias_param").axis)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x, bias) = unify([bottom[0].data, (*bottom, *self.blobs)[1].data])
        top[0].data = x + along(xp, bias, x.ndim, self.start)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        xp, (ct,) = unify([top[0].diff])
        learned = len(bottom) == 1
        if wants(self, 0) if learned else propagate_down[1]:
            self._pull(xp, ct, (*bottom, *self.blobs)[1], learned)
        if propagate_down[0]:
            bottom[0].diff = ct


@register("Scale")
class Scale(_Along):
    """Multiplies by a learned blob, or the second bottom, along axes of the first; and adds a learned bias, where ``bias_term`` asks for one."""

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, wanted = self.param_of("scale_param"), []
        shape = self._learned_shape(bottom, p)
        if len(bottom) == 1:
            wanted.append((shape, p.filler if p.has("filler") else constant_filler(1.0)))
        if p.bias_term:
            wanted.append((shape, p.bias_filler))
        learn(self, *wanted)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.start = self._start(bottom, (*bottom, *self.blobs)[1], self.param_of("scale_param").axis)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        bias = self.blobs[-1].data if self.param_of("scale_param").bias_term else None
        xp, (x, scale, bias) = unify([bottom[0].data, (*bottom, *self.blobs)[1].data, bias])
        self.kept = remember(x, bottom[0], top[0])
        y = x * along(xp, scale, x.ndim, self.start)
        top[0].data = y if bias is None else y + along(xp, bias, x.ndim, self.start)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        operand, learned = (*bottom, *self.blobs)[1], len(bottom) == 1
        xp, (ct, x, scale) = unify([top[0].diff, self.kept, operand.data])
        if self.param_of("scale_param").bias_term and wants(self, len(self.blobs) - 1):
            self._pull(xp, ct, self.blobs[-1], True)
        if wants(self, 0) if learned else propagate_down[1]:
            self._pull(xp, ct * x, operand, learned)
        if propagate_down[0]:
            bottom[0].diff = ct * along(xp, scale, x.ndim, self.start)
