"""Losses whose closed form is more accurate than what the standard's parts give: binary cross entropy, and connectionist temporal classification."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import composite, elementwise
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import ZERO, Op
from agnostic_ad.ops.neural import front, general
from agnostic_ad.samples import Domain, Operand, case, integers

# --- binary cross entropy -----------------------------------------------------------------------------------------------------------------
LEAST = -100.0
"""What a logarithm of a probability counts at least."""
_EPS = 1e-12  # PyTorch's, of p (1 - p) in the derivative


def _log(xp: Any, p: Any) -> Any:
    zero = p == 0
    return xp.where(zero, LEAST * xp.ones_like(p), xp.clip(xp.log(xp.where(zero, xp.ones_like(p), p)), min=LEAST))


@general("nn.binary_cross_entropy")
def _bce(xp: Any, x1: Any, x2: Any) -> Any:
    return (x2 - 1) * _log(xp, 1 - x1) - x2 * _log(xp, x1)


binary_cross_entropy = elementwise(
    "nn.binary_cross_entropy",
    lambda xp, ct, x1, x2: ct * (x1 - x2) / xp.clip((1 - x1) * x1, min=_EPS),
    lambda xp, x1: _log(xp, 1 - x1) - _log(xp, x1),
    domain=((0.1, 0.9), (0.1, 0.9)),
    kinds="f",
)


@general("nn.binary_cross_entropy_with_logits")
def _bce_with_logits(xp: Any, x1: Any, x2: Any) -> Any:
    # relu(x) - x y is exactly 0 where the score is far on the target's side, and the logarithm is what is left
    size = xp.abs(x1)
    return 0.5 * (size + x1) - x1 * x2 + xp.log1p(xp.exp(-size))


binary_cross_entropy_with_logits = elementwise(
    "nn.binary_cross_entropy_with_logits", lambda xp, x1, x2: xp.special.expit(x1) - x2, lambda x1: -x1, kinds="f"
)


# --- Huber's loss, of a difference --------------------------------------------------------------------------------------------------------
@general("nn.huber")
def _huber(xp: Any, x: Any, *, delta: float = 1.0) -> Any:
    near = xp.clip(x, min=-delta, max=delta)
    return near * (x - 0.5 * near)


huber = elementwise(
    "nn.huber",
    lambda xp, x, delta: xp.clip(x, min=-delta, max=delta),
    signature="x, /, *, delta=1.0",
    nin=1,
    domain=(0.1, 0.9, True),
    kinds="f",
)
huber.cases = [*huber.cases, case(Operand((2, 3), Domain(0.1, 0.9, True)), kinds="f", delta=0.05)]


# --- connectionist temporal classification ------------------------------------------------------------------------------------------------
# Graves, Fernandez, Gomez, Schmidhuber: Connectionist temporal classification (ICML 2006), in logarithms. The states are the labels with
# blanks around and between them, 2 S + 1 of them; a path stays, goes on by one, or by two where that skips a blank between different labels.
def _log_sum(xp: Any, *terms: Any) -> Any:
    """Give the logarithm of the sum of exponentials; of impossible ones alone (-inf), with derivatives that are zero."""
    top = terms[0]
    for x in terms[1:]:
        top = xp.maximum(top, x)
    top = xp.stop_gradient(xp.where(top == -math.inf, xp.zeros_like(top), top))
    total = sum((xp.exp(x - top) for x in terms[1:]), xp.exp(terms[0] - top))
    none = total == 0
    return xp.where(none, -math.inf * xp.ones_like(total), xp.log(xp.where(none, xp.ones_like(total), total)) + top)


def _states(xp: Any, targets: Any, lengths: Any, blank: int) -> tuple[Any, Any, Any]:
    """Give the class of each state (N, 2 S + 1), the penalty (0 or -inf) of coming from two states before, and the states' numbers."""
    count, size = targets.shape
    places = xp.arange(size, dtype=targets.dtype, device=device_of(targets))
    blanks = xp.full((count, size), blank, dtype=targets.dtype, device=device_of(targets))
    labels = xp.where(places < xp.expand_dims(lengths, axis=1), targets, blanks)
    states = xp.reshape(xp.stack([blanks, labels], axis=2), (count, 2 * size))
    states = xp.concat([states, xp.full((count, 1), blank, dtype=targets.dtype, device=device_of(targets))], axis=1)
    differ = xp.zeros_like(states) == 1
    if size:
        differ = xp.concat([differ[:, :2], states[:, 2:] != states[:, :-2]], axis=1)
    return states, differ, xp.arange(2 * size + 1, dtype=targets.dtype, device=device_of(targets))


def _shifted(xp: Any, x: Any, by: int) -> Any:
    """Move the states up (down where ``by`` is negative); what comes in is impossible."""
    if x.shape[1] <= abs(by):
        return xp.full_like(x, -math.inf)
    gap = xp.full_like(x[:, : abs(by)], -math.inf)
    return xp.concat([gap, x[:, :-by]] if by > 0 else [x[:, -by:], gap], axis=1)


def _emissions(xp: Any, log_probs: Any, states: Any) -> Any:
    return xp.take_along_axis(log_probs, xp.expand_dims(states, axis=0), axis=2)


def _forward(xp: Any, emissions: Any, differ: Any, numbers: Any, input_lengths: Any) -> list[Any]:
    """Give the logarithms of the probabilities of all beginnings of paths after 0, 1, ... steps; they stay after the last step."""
    never = xp.full_like(emissions[0, :, :], -math.inf)
    alpha = xp.where(numbers == 0, xp.zeros_like(never), never)  # before the first step, as if after a blank
    found = [alpha]
    for t in range(emissions.shape[0]):
        two = xp.where(differ, _shifted(xp, alpha, 2), never)
        moved = _log_sum(xp, alpha, _shifted(xp, alpha, 1), two) + emissions[t, :, :]
        alpha = xp.where(xp.expand_dims(input_lengths, axis=1) > t, moved, alpha)
        found.append(alpha)
    return found


def _ends(xp: Any, numbers: Any, target_lengths: Any) -> Any:
    """Tell in which states paths may end: the last label, and the blank behind it."""
    last = 2 * xp.expand_dims(target_lengths, axis=1)
    return (numbers == last) | (numbers == last - 1)


def _total(xp: Any, alpha: Any, ends: Any) -> Any:
    """Give the logarithm of the probability of all paths."""
    alpha = xp.where(ends, alpha, xp.full_like(alpha, -math.inf))
    top = xp.max(alpha, axis=1, keepdims=True)
    top = xp.stop_gradient(xp.where(top == -math.inf, xp.zeros_like(top), top))
    total = xp.sum(xp.exp(alpha - top), axis=1)
    none = total == 0
    return xp.where(none, -math.inf * xp.ones_like(total), xp.log(xp.where(none, xp.ones_like(total), total)) + xp.squeeze(top, axis=1))


@general("nn.ctc_loss")
def _ctc_loss(
    xp: Any,
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
) -> Any:
    states, differ, numbers = _states(xp, targets, target_lengths, blank)
    alpha = _forward(xp, _emissions(xp, log_probs, states), differ, numbers, input_lengths)[-1]
    y = -_total(xp, alpha, _ends(xp, numbers, target_lengths))
    return xp.where(y == math.inf, xp.zeros_like(y), y) if zero_infinity else y


_OPERANDS = ["log_probs", "targets", "input_lengths", "target_lengths"]
_SIGNATURE = "log_probs, targets, input_lengths, target_lengths, /, *, blank=0"
_SMALL = case((2, 2, 3), integers((2, 1), 0, 1), integers((2,), 1, 2), integers((2,), 0, 1), kinds="f", blank=2)


@composite("nn.ctc_posterior", _SIGNATURE, _OPERANDS, cases=[_SMALL])
def ctc_posterior(xp: Any, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, *, blank: int = 0) -> Any:
    """Give the probability of each class at each step among the paths that spell the targets, of ``log_probs``' shape; 0 where none does."""
    states, differ, numbers = _states(xp, targets, target_lengths, blank)
    emissions = _emissions(xp, log_probs, states)
    alphas = _forward(xp, emissions, differ, numbers, input_lengths)
    ends = _ends(xp, numbers, target_lengths)
    total = xp.expand_dims(_total(xp, alphas[-1], ends), axis=1)
    total = xp.where(total == -math.inf, xp.zeros_like(total), total)
    never = xp.full_like(alphas[0], -math.inf)
    beta = xp.where(ends, xp.zeros_like(never), never)  # of all ends of paths, without the step itself
    found = []
    for t in range(log_probs.shape[0] - 1, -1, -1):
        runs = xp.expand_dims(input_lengths, axis=1) > t
        found.append(xp.where(runs, xp.exp(alphas[t + 1] + beta - total), xp.zeros_like(never)))
        onward = beta + emissions[t, :, :]
        two = _shifted(xp, xp.where(differ, onward, never), -2)
        beta = xp.where(runs, _log_sum(xp, onward, _shifted(xp, onward, -1), two), beta)
    shares = xp.stack(found[::-1], axis=2)  # (N, states, steps)
    (count, size), classes = states.shape, log_probs.shape[2]
    rows = xp.expand_dims(xp.arange(count, dtype=states.dtype, device=device_of(states)), axis=1) * classes + states
    sums = xp.scatter_add(xp.reshape(shares, (count * size, -1)), xp.reshape(rows, (-1,)), size=count * classes, axis=0)
    return xp.permute_dims(xp.reshape(sums, (count, classes, -1)), (2, 0, 1))


def _posterior(xp: Any, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, y: Any, blank: int, zero: bool) -> Any:
    share = xp.nn.ctc_posterior(log_probs, targets, input_lengths, target_lengths, blank=blank)
    return share if zero else xp.where(xp.expand_dims(y == math.inf, axis=1), math.nan * xp.ones_like(share), share)


def _ctc_vjp(
    xp: Any, ct: Any, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, y: Any, blank: int, zero_infinity: bool
) -> Any:
    return -xp.expand_dims(ct, axis=1) * _posterior(xp, log_probs, targets, input_lengths, target_lengths, y, blank, zero_infinity)


def _ctc_jvp(
    xp: Any, ct: Any, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, y: Any, blank: int, zero_infinity: bool
) -> Any:
    return -xp.sum(ct * _posterior(xp, log_probs, targets, input_lengths, target_lengths, y, blank, zero_infinity), axis=(0, 2))


def _ctc_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    log_probs, *rest = (front(xp, size, a, b) for a, b in zip(args, batched, strict=True))
    steps, count, classes = log_probs.shape[1:]
    log_probs = xp.reshape(xp.moveaxis(log_probs, 0, 1), (steps, size * count, classes))
    return xp.reshape(xp.nn.ctc_loss(log_probs, *(xp.reshape(a, (size * count, *a.shape[2:])) for a in rest), **params), (size, count))


ctc_loss = Op(
    "nn.ctc_loss",
    f"{_SIGNATURE}, zero_infinity=False",
    _OPERANDS,
    vjps=[_ctc_vjp, ZERO, ZERO, ZERO],
    jvps=[_ctc_jvp, ZERO, ZERO, ZERO],
    batch=_ctc_batch,
    abstract=lambda xp, args, params: ShapeDtype((args[0].shape[1],), args[0].dtype),
    cases=[
        _SMALL,
        case((4, 2, 3), integers((2, 2), 1, 2), integers((2,), 4, 4), integers((2,), 0, 2), kinds="f"),
        case((3, 1, 2), integers((1, 0), 0, 1), integers((1,), 3, 3), integers((1,), 0, 0), kinds="f"),
        case(
            Operand((2, 2, 3), Domain(-4.0, -0.1)),
            integers((2, 3), 1, 2),
            integers((2,), 0, 2),
            integers((2,), 3, 3),
            kinds="f",
            zero_infinity=True,
        ),
    ],
)
