"""NumPy's own forms of the losses of classes and of sequences: in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.backends.numpy_rows import places, sum_rows

_LEAST = -1e30  # of a maximum of logarithms: what is impossible is still infinitely less


class NumpyLosses:
    """The methods of the NumPy backend."""

    nn_softmax: Callable[..., Any]

    def nn_softmax_cross_entropy(self, x: Any, target: Any, *, axis: int = -1, ignore_index: int = -100) -> Any:
        """Pick, and exponentiate in place."""
        kept = target != ignore_index
        whole = kept.all()
        y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
        picked = y[places(target if whole else np.where(kept, target, 0), axis)]
        np.exp(y, out=y)
        losses = np.log(np.add.reduce(y, axis=axis)) - picked
        return losses if whole else np.where(kept, losses, losses.dtype.type(0))

    def nn_softmax_cross_entropy_grad(self, x: Any, target: Any, ct: Any, *, axis: int = -1, ignore_index: int = -100) -> Any:
        """Multiply in place, and subtract where the targets are."""
        kept = target != ignore_index
        if not kept.all():
            target, ct = np.where(kept, target, 0), np.where(kept, ct, ct.dtype.type(0))
        y = self.nn_softmax(x, axis=axis)
        y *= np.expand_dims(ct, axis)
        y[places(target, axis)] -= ct
        return y

    def nn_ctc_loss(
        self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int = 0, zero_infinity: bool = False
    ) -> Any:
        """Go forward once."""
        with np.errstate(divide="ignore"):
            *_, total = _forward(*_states(log_probs, targets, target_lengths, blank), input_lengths, target_lengths)
        return np.where(total == -np.inf, 0.0 if zero_infinity else np.inf, -total).astype(log_probs.dtype, copy=False)

    def nn_ctc_posterior(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int = 0) -> Any:
        """Go forward, keeping all steps, and backward; then add up the states of each class."""
        steps, count, classes = log_probs.shape
        states, skips, emissions = _states(log_probs, targets, target_lengths, blank)
        with np.errstate(divide="ignore"):
            alphas, ends, total = _forward(states, skips, emissions, input_lengths, target_lengths)
            shares = alphas[1:]
            shares -= np.where(total == -np.inf, 0.0, total)[:, None]
            beta = _Sum(skips.shape)
            beta.value[...] = ends
            first = int(input_lengths.min())
            for t in range(steps - 1, -1, -1):
                if t + 1 >= first:
                    beta.value[input_lengths <= t + 1] = ends[input_lengths <= t + 1]
                shares[t] += beta.value
                onward = beta.value
                onward += emissions[t]
                beta.terms[0] = onward
                beta.terms[1, :, :-1] = onward[:, 1:]
                np.add(onward[:, 2:], skips[:, 2:], out=beta.terms[2, :, :-2])
                beta.add_up()
        np.exp(shares, out=shares)
        shares[np.arange(steps)[:, None] >= input_lengths] = 0
        rows = (np.arange(count)[:, None] * classes + states).reshape(-1)
        sums = sum_rows(np.moveaxis(shares, 0, -1).reshape(rows.size, steps), rows, count * classes)
        return np.moveaxis(sums.reshape(count, classes, steps), -1, 0).astype(log_probs.dtype, copy=False)


class _Sum:
    """Logarithms of sums of exponentials of three terms each, in one piece of memory."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.terms = np.full((3, *shape), -np.inf)
        self.top, self.value = np.empty(shape), np.full(shape, -np.inf)

    def add_up(self) -> None:
        """Compute the value; the terms are used up."""
        top, value = np.maximum.reduce(self.terms, axis=0, out=self.top), self.value
        np.maximum(top, _LEAST, out=top)
        np.subtract(self.terms, top, out=self.terms)
        np.exp(self.terms, out=self.terms)
        np.add.reduce(self.terms, axis=0, out=value)
        np.log(value, out=value)
        value += top
        # what comes in from the sides is impossible
        self.terms[1, :, :1] = self.terms[2, :, :2] = -np.inf
        self.terms[1, :, -1:] = self.terms[2, :, -2:] = -np.inf


def _states(log_probs: Any, targets: Any, target_lengths: Any, blank: int) -> tuple[Any, Any, Any]:
    """Give the class of each state, the penalty (0 or -inf) of skipping the one before, and the emissions in double precision."""
    count, size = targets.shape
    states = np.full((count, 2 * size + 1), blank, np.intp)
    states[:, 1::2] = np.where(np.arange(size) < target_lengths[:, None], targets, blank)
    skips = np.full(states.shape, -np.inf)
    skips[:, 2:][states[:, 2:] != states[:, :-2]] = 0
    emissions = np.take_along_axis(log_probs, states[None], axis=2)
    return states, skips, emissions.astype(np.float64, copy=False)


def _forward(states: Any, skips: Any, emissions: Any, input_lengths: Any, target_lengths: Any) -> tuple[Any, Any, Any]:
    """Give the logarithms of the probabilities of the beginnings of all paths, where paths end (0, elsewhere -inf), and of all paths."""
    steps, count, size = emissions.shape
    alphas = np.empty((steps + 1, count, size))
    alphas[0] = -np.inf
    alphas[0, :, 0] = 0
    alpha = _Sum(skips.shape)
    for t in range(steps):
        before = alphas[t]
        alpha.terms[0] = before
        alpha.terms[1, :, 1:] = before[:, :-1]
        np.add(before[:, :-2], skips[:, 2:], out=alpha.terms[2, :, 2:])
        alpha.add_up()
        np.add(alpha.value, emissions[t], out=alphas[t + 1])
    ends = np.full(skips.shape, -np.inf)
    last = 2 * target_lengths.astype(np.intp)
    ends[np.arange(count), last] = 0
    ends[np.arange(count), np.maximum(last - 1, 0)] = 0
    return alphas, ends, np.logaddexp.reduce(alphas[input_lengths, np.arange(count)] + ends, axis=1)
