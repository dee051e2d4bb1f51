"""L-BFGS: Newton's directions from the last gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import agnostic_ad as ad
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.optim.optimizer import Optimizer, hyperparameters, raw
from agnostic_ad.nn.parameter import assign

__all__ = ["LBFGS"]

CHANGE = 1e-9
"""What a line search counts as no change."""


class Point(NamedTuple):
    """What is known on the line: the step, and there the loss, its gradient and its slope along the line."""

    t: float
    loss: float
    grad: Any
    slope: float


def minimum_of_cubic(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Give the minimum of the cubic through two points with their slopes (Nocedal and Wright, Numerical Optimization, equation 3.59)."""
    if a.t > b.t:
        a, b = b, a
    low, high = bounds or (a.t, b.t)
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)), low), high)


def strong_wolfe(at: Callable[[float], Point], t: float, start: Point, longest: float, tries: int) -> Point:
    """Search for a step that lowers the loss and the slope enough (the same, algorithms 3.5 and 3.6).

    Parameters
    ----------
    at : callable
        Evaluates the line.
    t : float
        The first step to try.
    start : Point
        The line at 0.
    longest : float
        The largest component of the direction.
    tries : int
        How often to look further.

    Returns
    -------
    Point
        The best.
    """

    def falls(p: Point) -> bool:
        return p.loss <= start.loss + 1e-4 * p.t * start.slope

    def flat(p: Point) -> bool:
        return abs(p.slope) <= -0.9 * start.slope

    bracket: list[Point] = []
    before, new, count = start, at(t), 0
    while count < tries and not bracket:
        if not falls(new) or (count > 1 and new.loss >= before.loss):
            bracket = [before, new]
        elif flat(new):
            return new
        elif new.slope >= 0:
            bracket = [before, new]
        else:
            t = minimum_of_cubic(before, new, (new.t + 0.01 * (new.t - before.t), new.t * 10))
            before, new, count = new, at(t), count + 1
    bracket = bracket or [start, new]
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    stalled = False
    while count < tries and abs(bracket[1].t - bracket[0].t) * longest >= CHANGE:
        t = minimum_of_cubic(bracket[0], bracket[1])
        least, most = sorted(p.t for p in bracket)
        margin = 0.1 * (most - least)
        near = min(most - t, t - least) < margin
        if near and (stalled or not least < t < most):  # twice at the same end: look further inside
            t = most - margin if abs(t - most) < abs(t - least) else least + margin
            near = False
        stalled = near
        new, count = at(t), count + 1
        if not falls(new) or new.loss >= bracket[low].loss:
            bracket[high] = new
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
        else:
            if not flat(new) and new.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = new
            if flat(new):
                break
    return bracket[low]


class LBFGS(Optimizer):
    """Go in Newton's direction, estimated from the last gradients (Liu and Nocedal, 1989).

    One step of the optimizer is several iterations, and calls the closure each time: ``optimizer.step(closure)``. There is one group of
    parameters, and no pure `rule`.

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr : float
        The length of a step, or the first that a line search tries.
    max_iter : int
        How many iterations a step has at most.
    max_eval : int, optional
        How often a step calls the closure at most; by default ``max_iter * 5 // 4``.
    tolerance_grad, tolerance_change : float
        A step ends where no component of the gradient is larger, and where the parameters or the loss change by less.
    history_size : int
        How many gradients are remembered.
    line_search_fn : {"strong_wolfe"}, optional
        How to choose the length of steps.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([-1.0, 2.0]))
    >>> optimizer = nn.optim.LBFGS([p], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(3):
    ...     loss = optimizer.step(closure)
    >>> p.data.round(4)
    array([1., 1.])
    """

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None: ...

    def add_param_group(self, param_group: Any) -> None:
        """Add the one group."""
        if self.param_groups:
            raise ValueError("LBFGS has one group of parameters: it estimates one curvature for all")
        super().add_param_group(param_group)
        group = self.param_groups[0]
        if group["max_eval"] is None:
            group["max_eval"] = group["max_iter"] * 5 // 4
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(f"LBFGS: line_search_fn is 'strong_wolfe' or None, not {group['line_search_fn']!r}")

    # --- parameters as one vector, of real and imaginary parts ------------------------------------------------------------------------
    def _vector(self, gradients: bool = False) -> Any:
        parts = []
        for p in self.param_groups[0]["params"]:
            xp = backend_of(p.payload)
            x = (xp.zeros_like(p.payload) if p.grad is None else raw(p.grad)) if gradients else p.payload
            if xp.kind(x.dtype) == "c":
                x = xp.stack([xp.real(x), xp.imag(x)], axis=-1)
            parts.append(xp.reshape(x, (-1,)))
        return xp.concat(parts)

    def _place(self, vector: Any) -> None:
        at = 0
        for p in self.param_groups[0]["params"]:
            x = p.payload
            xp = backend_of(x)
            width = 2 if xp.kind(x.dtype) == "c" else 1
            part = xp.reshape(vector[at : at + width * p.size], (*p.shape, width))
            at += width * p.size
            new = xp.astype(part[..., 0], x.dtype)
            assign(p, new if width == 1 else new + 1j * xp.astype(part[..., 1], x.dtype))

    def _taken(self, name: str, value: Any, like: Any) -> Any:
        return super()._taken(name, value, self._vector())

    # --- steps ----------------------------------------------------------------------------------------------------------------------
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do several iterations.

        Parameters
        ----------
        closure : callable
            Forgets the gradients, computes the loss and its gradients, and returns the loss.

        Returns
        -------
        array
            The loss before the step.
        """
        if closure is None:
            raise TypeError("LBFGS computes the loss several times in a step: write optimizer.step(closure)")
        group = self.param_groups[0]
        state = self.state[group["params"][0]]
        lr, most, evaluations, change = (group[k] for k in ("lr", "max_iter", "max_eval", "tolerance_change"))

        def evaluate() -> tuple[Any, Any]:
            state["func_evals"] = state.get("func_evals", 0) + 1
            with ad.enable_grad():
                loss = closure()
            return loss, self._vector(gradients=True)

        first = state.get("func_evals", 0)
        result, grad = evaluate()
        loss, xp = float(result), backend_of(grad)
        state.setdefault("n_iter", 0)

        def largest(x: Any) -> float:
            return float(xp.max(xp.abs(x)))

        if largest(grad) <= group["tolerance_grad"]:
            return result
        for n in range(1, most + 1):
            state["n_iter"] += 1
            direction = self._direction(xp, grad, state, group["history_size"])
            t = min(1.0, 1.0 / float(xp.sum(xp.abs(grad)))) * lr if state["n_iter"] == 1 else lr
            last = loss
            state.update(d=direction, prev_flat_grad=grad, prev_loss=last, t=t)
            slope = float(grad @ direction)
            if slope > -change:
                break
            here = self._vector()
            if group["line_search_fn"] is not None:

                def at(t: float, here: Any = here, direction: Any = direction) -> Point:
                    self._place(here + t * direction)
                    value, gradient = evaluate()
                    return Point(t, float(value), gradient, float(gradient @ direction))

                start, left = Point(0.0, loss, grad, slope), evaluations - (state["func_evals"] - first)
                t, loss, grad, _ = strong_wolfe(at, t, start, largest(direction), left)
                state["t"] = t
                self._place(here + t * direction)
            else:
                self._place(here + t * direction)
                if n < most:  # of the last iteration nobody asks
                    value, grad = evaluate()
                    loss = float(value)
            if (
                state["func_evals"] - first >= evaluations
                or largest(grad) <= group["tolerance_grad"]
                or largest(direction) * abs(t) <= change
                or abs(loss - last) < change
            ):
                break
        return result

    @staticmethod
    def _direction(xp: Any, grad: Any, state: dict[str, Any], size: int) -> Any:
        """Give minus the estimated inverse curvature times the gradient, by the recursion of two loops."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -grad
        y, s = grad - state["prev_flat_grad"], state["d"] * state["t"]
        dirs, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        curvature = float(y @ s)
        if curvature > 1e-10:
            for each, new in ((dirs, y), (steps, s), (ro, 1.0 / curvature)):
                each.append(new)
                del each[:-size]
            state["H_diag"] = curvature / float(y @ y)
        q, weights = -grad, []
        for y, s, r in zip(reversed(dirs), reversed(steps), reversed(ro), strict=True):
            weights.append(float(s @ q) * r)
            q = q - weights[-1] * y
        q = q * state["H_diag"]
        for y, s, r, weight in zip(dirs, steps, ro, reversed(weights), strict=True):
            q = q + (weight - float(y @ q) * r) * s
        return q
