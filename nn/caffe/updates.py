"""The six rules that solvers update parameters by, and the seven policies of the learning rate, as Caffe 1.0 computes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from agnostic_ad.nn.caffe.message import DefinitionError, Message, nearest

__all__ = ["POLICIES", "RULES", "Rule", "learning_rate"]


# --- policies ---------------------------------------------------------------------------------------------------------------------------
def _step(how: Message, i: int) -> float:
    return float(how.gamma ** (i // how.stepsize))


def steps_done(how: Message, i: int) -> int:
    """Give how many of the steps at ``stepvalue`` are done at an iteration: in their order, and one an iteration at most."""
    done, at = 0, -1
    for value in how.stepvalue:
        at = max(value, at + 1)
        done += i >= at
    return done


def _multistep(how: Message, i: int) -> float:
    return float(how.gamma ** steps_done(how, i))


def _poly(how: Message, i: int) -> float:
    if i > how.max_iter:
        raise DefinitionError(f"{how.at()}lr_policy 'poly' ends at max_iter, {how.max_iter}: there is no learning rate for iteration {i}")
    return float((1 - i / how.max_iter) ** how.power)


def _sigmoid(how: Message, i: int) -> float:
    inner = how.gamma * (i - how.stepsize)
    tail = math.exp(-abs(inner))  # which is never too large
    return (1.0 if inner > 0 else tail) / (1 + tail)


POLICIES: dict[str, tuple[tuple[str, ...], Callable[[Message, int], float]]] = {
    "fixed": ((), lambda how, i: 1.0),
    "step": (("gamma", "stepsize"), _step),
    "exp": (("gamma",), lambda how, i: float(how.gamma**i)),
    "inv": (("gamma", "power"), lambda how, i: float((1 + how.gamma * i) ** -how.power)),
    "multistep": (("gamma", "stepvalue"), _multistep),
    "poly": (("power", "max_iter"), _poly),
    "sigmoid": (("gamma", "stepsize"), _sigmoid),
}
"""By name: the fields that a policy needs, and the factor on ``base_lr`` at an iteration."""


def check_policy(how: Message) -> None:
    """Refuse a solver without a learning rate, or whose policy lacks a field."""
    if not how.has("base_lr"):
        raise DefinitionError(f"{how.at()}the solver needs base_lr, the learning rate to begin with")
    if how.lr_policy not in POLICIES:
        known = ", ".join(POLICIES)
        raise DefinitionError(
            f"{how.at()}there is no lr_policy {how.lr_policy!r}{nearest(how.lr_policy or '', POLICIES)}; there are {known}"
        )
    for name in POLICIES[how.lr_policy][0]:
        if not how.has(name) or (name in ("stepsize", "max_iter") and getattr(how, name) <= 0) or (name == "gamma" and how.gamma < 0):
            sign = ", more than 0" if name in ("stepsize", "max_iter") else ", 0 or more" if name == "gamma" else ""
            raise DefinitionError(f"{how.at()}lr_policy {how.lr_policy!r} needs {name}{sign}")


def learning_rate(how: Message, iteration: int) -> float:
    """Give the learning rate of a solver at an iteration.

    Parameters
    ----------
    how : Message
        A SolverParameter.
    iteration : int
        The number of updates done before.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> solver = caffe.Message("SolverParameter", base_lr=0.1, lr_policy="step", gamma=0.5, stepsize=10)
    >>> [caffe.learning_rate(solver, i) for i in (0, 9, 10, 20)]
    [0.1, 0.1, 0.05, 0.025]
    """
    check_policy(how)
    return float(how.base_lr * POLICIES[how.lr_policy][1](how, iteration))


# --- rules ------------------------------------------------------------------------------------------------------------------------------
def _sgd(xp: Any, how: Message, t: int, rate: float, g: Any, h: list[Any]) -> tuple[Any, list[Any]]:
    h0 = (how.momentum or 0.0) * h[0] + rate * g
    return h0, [h0]


def _nesterov(xp: Any, how: Message, t: int, rate: float, g: Any, h: list[Any]) -> tuple[Any, list[Any]]:
    momentum = how.momentum or 0.0
    h0 = momentum * h[0] + rate * g
    return (1 + momentum) * h0 - momentum * h[0], [h0]


def _adagrad(xp: Any, how: Message, t: int, rate: float, g: Any, h: list[Any]) -> tuple[Any, list[Any]]:
    h0 = h[0] + g * g
    return rate * (g / (xp.sqrt(h0) + how.delta)), [h0]


def _rmsprop(xp: Any, how: Message, t: int, rate: float, g: Any, h: list[Any]) -> tuple[Any, list[Any]]:
    h0 = how.rms_decay * h[0] + (1 - how.rms_decay) * (g * g)
    return rate * (g / (xp.sqrt(h0) + how.delta)), [h0]


def _adadelta(xp: Any, how: Message, t: int, rate: float, g: Any, h: list[Any]) -> tuple[Any, list[Any]]:
    momentum = how.momentum or 0.0
    h0 = momentum * h[0] + (1 - momentum) * (g * g)
    update = g * xp.sqrt((h[1] + how.delta) / (h0 + how.delta))
    return rate * update, [h0, momentum * h[1] + (1 - momentum) * (update * update)]


def _adam(xp: Any, how: Message, t: int, rate: float, g: Any, h: list[Any]) -> tuple[Any, list[Any]]:
    b1, b2 = how.momentum or 0.0, how.momentum2
    m, v = b1 * h[0] + (1 - b1) * g, b2 * h[1] + (1 - b2) * (g * g)
    return rate * math.sqrt(1 - b2**t) / (1 - b1**t) * (m / (xp.sqrt(v) + how.delta)), [m, v]


class Rule(NamedTuple):
    """How a solver makes an update of a gradient.

    Attributes
    ----------
    histories : int
        How many arrays of each parameter's shape it keeps.
    update : callable
        ``(xp, solver's definition, number of this update, learning rate, gradient, histories) -> (what is subtracted, new histories)``.
    momentum : bool
        Whether ``momentum`` means something to it.
    """

    histories: int
    update: Callable[..., tuple[Any, list[Any]]]
    momentum: bool = True


RULES: dict[str, Rule] = {
    "SGD": Rule(1, _sgd),
    "Nesterov": Rule(1, _nesterov),
    "AdaGrad": Rule(1, _adagrad, momentum=False),
    "RMSProp": Rule(1, _rmsprop, momentum=False),
    "AdaDelta": Rule(2, _adadelta),
    "Adam": Rule(2, _adam),
}
"""The solvers, by the names of their ``type``."""
