"""Recurrent layers, with the unrolled computation and its gradient written out."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import unify
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import detached, in_rows, learn, pull_to, wants

__all__ = ["LSTM", "RNN"]


class _Recurrent(Layer):
    """What both have in common.

    The bottoms are x (time, streams, ...), cont (time, streams), which is 0 where a sequence begins, 1 where it goes on; x_static (streams,
    ...), if any; and with ``expose_hidden`` the state before the first step. The tops are the outputs (time, streams, num_output) and, with
    ``expose_hidden``, the state after the last step. Without it a batch goes on from the state that the last one left, as far as ``cont``
    lets it, and no gradient goes back to that batch.
    """

    min_bottoms, min_tops = 2, 1
    in_place = False
    states = 1
    gates = 1
    own_weights = 1

    def allow_force_backward(self, index: int) -> bool:
        return index != 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("recurrent_param")
        exposed = self.states * p.expose_hidden
        if not p.num_output:
            raise self.fail("num_output is 1 or more")
        if len(bottom) not in (2 + exposed, 3 + exposed) or len(top) != 1 + exposed:
            raise self.fail(f"it takes x, cont, x_static if any and {exposed} states, and has 1 output and {exposed} states")
        self.static = len(bottom) > 2 + exposed
        if bottom[0].ndim < 2:
            raise self.fail(f"x has at least 2 axes, (time, streams, ...); its shape is {bottom[0].shape}")
        learn(self, *self._parameters(bottom, p.num_output, p.weight_filler, p.bias_filler))
        self.time = bottom[0].shape[0]
        self.state: list[Any] | None = None

    def _parameters(self, bottom: list[Blob], n: int, weight: Any, bias: Any) -> list[tuple[tuple[int, ...], Any]]:
        found = [((self.gates * n, bottom[0].count_from(2)), weight), ((self.gates * n,), bias)]
        if self.static:
            found.append(((self.gates * n, bottom[2].count_from(1)), weight))
        return [*found, ((self.gates * n, n), weight)]

    def reset(self) -> None:
        """Forget the state: the next batch begins at zero."""
        self.state = None

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        n, (x, cont) = self.param_of("recurrent_param").num_output, bottom[:2]
        if x.ndim < 2 or cont.shape != x.shape[:2]:
            raise self.fail(f"cont has the shape (time, streams) of x, {x.shape[:2]}, not {cont.shape}")
        if x.shape[0] != self.time:
            raise self.fail(f"it was made for {self.time} steps of time, not for x of shape {x.shape}")
        if self.static and bottom[2].shape[:1] != x.shape[1:2]:
            raise self.fail(f"x_static has one row for each of {x.shape[1]} streams; its shape is {bottom[2].shape}")
        shape = (1, x.shape[1], n)
        for blob in bottom[2 + self.static :]:
            if blob.shape != shape:
                raise self.fail(f"a state has shape {shape}, not {blob.shape}")
        top[0].reshape(self.time, *shape[1:])
        for blob in top[1:]:
            blob.reshape(*shape)

    def _start(self, bottom: list[Blob], shape: tuple[int, ...]) -> list[Any]:
        """Give the state before the first step."""
        if self.param_of("recurrent_param").expose_hidden:
            return [blob.data for blob in bottom[2 + self.static :]]
        if self.state is None or tuple(self.state[0].shape) != shape:
            return [self.blob(*shape).data for _ in range(self.states)]
        return self.state

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        n = self.param_of("recurrent_param").num_output
        start = self._start(bottom, (1, bottom[0].shape[1], n))
        xp, values = unify([bottom[0].data, bottom[1].data, *(b.data for b in self.blobs), *start, bottom[2].data if self.static else None])
        x, cont, static = values[0], xp.expand_dims(values[1], axis=-1), values[-1]
        weights, start = values[2 : 2 + len(self.blobs)], values[2 + len(self.blobs) : -1]
        inputs = xp.nn.linear(in_rows(xp, x, 2), weights[0], weights[1])
        if static is not None:
            inputs = inputs + xp.nn.linear(in_rows(xp, static), weights[2])
        state, outputs, self.steps = [xp.reshape(s, tuple(s.shape[1:])) for s in start], [], []
        for t in range(self.time):
            state, output, kept = self._step(xp, inputs[t, ...], cont[t, ...], state, weights[-self.own_weights :])
            self.steps.append(kept)
            outputs.append(output)
        last = [xp.expand_dims(s, axis=0) for s in state]
        top[0].data = xp.stack(outputs)
        for blob, s in zip(top[1:], last, strict=False):
            blob.data = s
        if not self.param_of("recurrent_param").expose_hidden:
            self.state = [detached(s) for s in last]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise self.fail("the marks of where sequences go on have no gradient")
        values = [top[0].diff, bottom[0].data, bottom[1].data, *(b.data for b in self.blobs)]
        kept = [a for step in self.steps for a in step]
        xp, found = unify([*values, *kept, *(b.diff for b in top[1:]), bottom[2].data if self.static else None])
        (ct, x, cont), weights, static = found[:3], found[3 : len(values)], found[-1]
        steps, ends = found[len(values) : len(values) + len(kept)], found[len(values) + len(kept) : -1]
        width, cont = len(self.steps[0]), xp.expand_dims(cont, axis=-1)
        states = [xp.reshape(e, tuple(e.shape[1:])) for e in ends] or [xp.zeros_like(ct[0, ...])] * self.states
        sums: list[Any] = [None] * (len(weights) - 2 - self.static)
        pulls = []
        for t in reversed(range(self.time)):
            step = steps[t * width : (t + 1) * width]
            states, pulled, parts = self._pull_step(xp, ct[t, ...], states, cont[t, ...], step, weights[-self.own_weights :])
            pulls.append(pulled)
            sums = [b if a is None else a + b for a, b in zip(sums, parts, strict=True)]
        pulled = xp.stack(pulls[::-1])
        rows = xp.reshape(pulled, (x.shape[0] * x.shape[1], pulled.shape[-1]))
        flat = xp.reshape(x, (x.shape[0] * x.shape[1], math.prod(x.shape[2:])))
        grads = [xp.matmul(xp.matrix_transpose(rows), flat), xp.sum(rows, axis=0)]
        if static is not None:
            each, held = xp.sum(pulled, axis=0), in_rows(xp, static)
            grads.append(xp.matmul(xp.matrix_transpose(each), held))
            if propagate_down[2]:
                bottom[2].diff = xp.reshape(xp.matmul(each, weights[2]), bottom[2].shape)
        for i, g in enumerate([*grads, *sums]):
            if wants(self, i):
                pull_to(self.blobs[i], g)
        if propagate_down[0]:
            bottom[0].diff = xp.reshape(xp.matmul(rows, weights[0]), bottom[0].shape)
        for i, s in enumerate(states[: len(bottom) - 2 - self.static], start=2 + self.static):
            if propagate_down[i]:
                bottom[i].diff = xp.expand_dims(s, axis=0)

    def _step(self, xp: Any, x: Any, cont: Any, state: list[Any], weights: list[Any]) -> tuple[list[Any], Any, list[Any]]:
        """Give the state after a step, its output, and what its gradient needs."""
        raise NotImplementedError

    def _pull_step(self, xp: Any, ct: Any, after: list[Any], cont: Any, kept: list[Any], weights: list[Any]) -> tuple[Any, Any, Any]:
        """Give the gradients of the state before a step, of the input and of the weights, from those of the output and the state after it."""
        raise NotImplementedError


@register("RNN")
class RNN(_Recurrent):
    """h = tanh(W_hh (cont * h) + W_xh x + b_h), output tanh(W_ho h + b_o).

    The parameters are W_xh, b_h, W_xh_static if there is an x_static, W_hh, W_ho, b_o.
    """

    own_weights = 3

    def _parameters(self, bottom: list[Blob], n: int, weight: Any, bias: Any) -> list[tuple[tuple[int, ...], Any]]:
        return [*super()._parameters(bottom, n, weight, bias), ((n, n), weight), ((n,), bias)]

    def _step(self, xp: Any, x: Any, cont: Any, state: list[Any], weights: list[Any]) -> tuple[list[Any], Any, list[Any]]:
        before = state[0] * cont
        h = xp.tanh(xp.nn.linear(before, weights[0]) + x)
        output = xp.tanh(xp.nn.linear(h, weights[1], weights[2]))
        return [h], output, [before, h, output]

    def _pull_step(self, xp: Any, ct: Any, after: list[Any], cont: Any, kept: list[Any], weights: list[Any]) -> tuple[Any, Any, Any]:
        before, h, output = kept
        out = ct * (1 - output * output)
        into = (after[0] + xp.matmul(out, weights[1])) * (1 - h * h)
        parts = [xp.matmul(xp.matrix_transpose(into), before), xp.matmul(xp.matrix_transpose(out), h), xp.sum(out, axis=0)]
        return [xp.matmul(into, weights[0]) * cont], into, parts


@register("LSTM")
class LSTM(_Recurrent):
    """i, f, o = sigmoids and g = tanh of the parts of W_hc (cont * h) + W_xc x + b_c; c = cont * f * c + i * g, output h = o * tanh(c).

    The parameters are W_xc, b_c, W_xc_static if there is an x_static, W_hc; the states h and c.
    """

    states = 2
    gates = 4

    def _step(self, xp: Any, x: Any, cont: Any, state: list[Any], weights: list[Any]) -> tuple[list[Any], Any, list[Any]]:
        n = state[0].shape[-1]
        h, c = state[0] * cont, state[1] * cont
        gates = xp.nn.linear(h, weights[0]) + x
        ifo, g = xp.special.expit(gates[..., : 3 * n]), xp.tanh(gates[..., 3 * n :])
        i, f, o = ifo[..., :n], ifo[..., n : 2 * n], ifo[..., 2 * n :]
        new = f * c + i * g
        curved = xp.tanh(new)
        y = o * curved
        return [y, new], y, [h, c, i, f, o, g, curved]

    def _pull_step(self, xp: Any, ct: Any, after: list[Any], cont: Any, kept: list[Any], weights: list[Any]) -> tuple[Any, Any, Any]:
        h, c, i, f, o, g, curved = kept
        ct = ct + after[0]
        cell = after[1] + ct * o * (1 - curved * curved)
        parts = [cell * g * i * (1 - i), cell * c * f * (1 - f), ct * curved * o * (1 - o), cell * i * (1 - g * g)]
        gates = xp.concat(parts, axis=-1)
        return [xp.matmul(gates, weights[0]) * cont, cell * f * cont], gates, [xp.matmul(xp.matrix_transpose(gates), h)]
