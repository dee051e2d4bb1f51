"""Optimizers around optimizers: several gradients a step, steps left out, and a slower copy of the parameters.

Each wraps an optimizer, and has a pure form that wraps a `Rule`: ``nn.optim.MultiSteps.rule(nn.optim.Adam.rule(), 4)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import agnostic_ad as ad
from agnostic_ad import Variable, trees
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.optim.optimizer import Optimizer, raw
from agnostic_ad.nn.parameter import adopt, assign

__all__ = ["ApplyIfFinite", "Lookahead", "MultiSteps", "WrappedRule", "adaptive_clip_grad_"]


class WrappedRule:
    """A pure rule made of another one; see `Rule` for ``init`` and ``update``."""

    def __init__(self, rule: Any, start: Callable[[Any], dict[str, Any]], step: Callable[..., tuple[Any, dict[str, Any]]]) -> None:
        self.inner, self._start, self._step = rule, start, step

    def init(self, params: Any) -> dict[str, Any]:
        """Give the state before the first step."""
        return {"inner": self.inner.init(params), **self._start(params)}

    def update(self, grads: Any, state: Mapping[str, Any], params: Any) -> tuple[Any, dict[str, Any]]:
        """Do one step: give the new parameters and the new state."""
        return self._step(self.inner, grads, state, params)


def each(function: Callable[..., Any], *given: Any) -> Any:
    """Apply ``function(xp, *arrays)`` to the leaves of trees."""

    def apply(*arrays: Any) -> Any:
        xp, lifted = unify(list(arrays))
        return function(xp, *lifted)

    return trees.map_tree(apply, *given)


def select(when: Any, a: Any, b: Any) -> Any:
    """Give one of two trees, by a boolean array."""
    return each(lambda xp, x, y, c: xp.where(c, x, y), a, b, trees.map_tree(lambda _: when, a))


def counter(params: Any) -> Any:
    """Give a zero to count with."""
    first = trees.leaves(params)[0]
    backend = first.backend if isinstance(first, Array) else backend_of(first)
    return backend.xp.zeros((), dtype=backend.real_of(first.dtype), device=device_of(first))


class Wrapper(Optimizer):
    """An optimizer that decides when and how another one steps; their groups and states are the same."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__} wraps an optimizer, not a {type(optimizer).__name__}")
        self.optimizer = optimizer
        self.defaults, self.state, self.param_groups = optimizer.defaults, optimizer.state, optimizer.param_groups
        self._prepare()

    def _used(self) -> list[Variable]:
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    def _loss(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with ad.enable_grad():
            return closure()

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group to the optimizer."""
        self.optimizer.add_param_group(param_group)

    def _own(self) -> dict[str, Any]:
        """Give what this one remembers: numbers, and arrays of parameters by number."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Give the optimizer's state, and under "wrapper" what this one remembers."""
        self._call_hooks("state_dict_pre")
        state = {**self.optimizer.state_dict(), "wrapper": self._own()}
        return self._pass_hooks("state_dict_post", state)  # type: ignore[no-any-return]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        state_dict = self._pass_hooks("load_state_dict_pre", dict(state_dict))
        self.optimizer.load_state_dict(state_dict)
        self.state = self.optimizer.state
        params = [p for group in self.param_groups for p in group["params"]]
        for name, value in state_dict["wrapper"].items():
            if isinstance(value, Mapping):
                value = {params[n]: self._taken(name, x, params[n].payload) for n, x in value.items()}
            setattr(self, name, value)
        self._call_hooks("load_state_dict_post")

    def _taken(self, name: str, value: Any, like: Any) -> Any:
        return adopt(value, like)

    def _by_number(self, arrays: Mapping[Variable, Any]) -> dict[int, Any]:
        return {n: backend_of(arrays[p]).own(arrays[p]) for n, p in self._numbered() if p in arrays}


class MultiSteps(Wrapper):
    """Step once for several gradients, with their mean: a large batch in small parts.

    Parameters
    ----------
    optimizer : Optimizer
        What steps.
    every : int
        After how many calls.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0]))
    >>> optimizer = nn.optim.MultiSteps(nn.optim.SGD([p], lr=0.5), every=2)
    >>> for gradient in (1.0, 3.0):
    ...     p.grad = np.asarray([gradient])
    ...     optimizer.step()
    ...     print(p.data)
    [1.]
    [0.]
    """

    def __init__(self, optimizer: Optimizer, every: int) -> None:
        super().__init__(optimizer)
        self.every, self.count, self.mean = _whole("MultiSteps: every", every), 0, dict[Variable, Any]()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take the gradients in; step when it is time."""
        loss = self._loss(closure)
        self.count += 1
        for p in self._used():
            grad = raw(p.grad)
            self.mean[p] = self.mean.get(p, 0.0) + grad / self.every
        if self.count == self.every:
            for p, mean in self.mean.items():
                p.grad = mean
            self.optimizer.step()
            self.count, self.mean = 0, {}
        return loss

    def _own(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self._by_number(self.mean)}

    @classmethod
    def rule(cls, rule: Any, every: int) -> WrappedRule:  # type: ignore[override]
        """Give the pure form."""
        every = _whole("MultiSteps: every", every)

        def step(inner: Any, grads: Any, state: Mapping[str, Any], params: Any) -> tuple[Any, dict[str, Any]]:
            count = state["count"] + 1
            mean = each(lambda xp, m, g: m + g / every, state["mean"], grads)
            due = count == every
            stepped, after = inner.update(mean, state["inner"], params)
            return select(due, stepped, params), {
                "inner": select(due, after, state["inner"]),
                "count": count % every,
                "mean": select(due, each(lambda xp, m: xp.zeros_like(m), mean), mean),
            }

        return WrappedRule(rule, lambda p: {"count": counter(p), "mean": each(lambda xp, x: xp.zeros_like(x), p)}, step)


class ApplyIfFinite(Wrapper):
    """Leave a step out if a gradient has a NaN or an infinity, unless that happens too often in a row.

    Parameters
    ----------
    optimizer : Optimizer
        What steps.
    max_consecutive_errors : int
        How many steps in a row are left out; the next is done whatever the gradients.

    Attributes
    ----------
    notfinite_count, total_notfinite : int
        How many were left out in a row, and altogether.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0]))
    >>> optimizer = nn.optim.ApplyIfFinite(nn.optim.SGD([p], lr=0.5), max_consecutive_errors=3)
    >>> p.grad = np.asarray([np.nan])
    >>> optimizer.step()
    >>> p.data, optimizer.total_notfinite
    (array([1.]), 1)
    """

    def __init__(self, optimizer: Optimizer, max_consecutive_errors: int) -> None:
        super().__init__(optimizer)
        self.max_consecutive_errors = _whole("ApplyIfFinite: max_consecutive_errors", max_consecutive_errors)
        self.notfinite_count = self.total_notfinite = 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step, if all gradients are finite."""
        loss = self._loss(closure)
        finite = all(bool(xp.all(xp.isfinite(g))) for xp, g in ((backend_of(p.payload), raw(p.grad)) for p in self._used()))
        self.notfinite_count = 0 if finite else self.notfinite_count + 1
        self.total_notfinite += not finite
        if finite or self.notfinite_count > self.max_consecutive_errors:
            self.optimizer.step()
        return loss

    def _own(self) -> dict[str, Any]:
        return {"notfinite_count": self.notfinite_count, "total_notfinite": self.total_notfinite}

    @classmethod
    def rule(cls, rule: Any, max_consecutive_errors: int) -> WrappedRule:  # type: ignore[override]
        """Give the pure form."""
        most = _whole("ApplyIfFinite: max_consecutive_errors", max_consecutive_errors)

        def step(inner: Any, grads: Any, state: Mapping[str, Any], params: Any) -> tuple[Any, dict[str, Any]]:
            finite = None
            for flag in trees.leaves(each(lambda xp, g: xp.all(xp.isfinite(g)), grads)):
                finite = flag if finite is None else finite & flag
            bad = each(lambda xp, ok, count: xp.where(ok, xp.zeros_like(count), count + 1), finite, state["notfinite_count"])
            total = each(lambda xp, ok, count: xp.where(ok, count, count + 1), finite, state["total_notfinite"])
            do = finite | (bad > most)
            stepped, after = inner.update(grads, state["inner"], params)
            kept = {"inner": select(do, after, state["inner"]), "notfinite_count": bad, "total_notfinite": total}
            return select(do, stepped, params), kept

        return WrappedRule(rule, lambda p: {"notfinite_count": counter(p), "total_notfinite": counter(p)}, step)


class Lookahead(Wrapper):
    """Draw the parameters back, every few steps, to a copy that follows slowly (Zhang and others, 2019, https://arxiv.org/abs/1907.08610).

    Parameters
    ----------
    optimizer : Optimizer
        What steps.
    k : int
        After how many steps.
    alpha : float
        How far the copy goes towards the parameters, between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0]))
    >>> optimizer = nn.optim.Lookahead(nn.optim.SGD([p], lr=1.0), k=2, alpha=0.25)
    >>> for _ in range(2):
    ...     p.grad = np.asarray([2.0])
    ...     optimizer.step()
    ...     print(p.data)
    [-1.]
    [0.]
    """

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        self.k, self.alpha = _whole("Lookahead: k", k), _part("Lookahead: alpha", alpha)
        self.count, self.slow = 0, {p: backend_of(p.payload).own(p.payload) for _, p in self._numbered()}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step; draw back when it is time."""
        loss = self.optimizer.step(closure)
        self.count += 1
        if self.count == self.k:
            self.count = 0
            for _, p in self._numbered():
                slow = self.slow.get(p)  # a group may have been added
                self.slow[p] = backend_of(p.payload).own(p.payload) if slow is None else slow + self.alpha * (p.payload - slow)
                assign(p, backend_of(p.payload).own(self.slow[p]))
        return loss

    def _own(self) -> dict[str, Any]:
        return {"count": self.count, "slow": self._by_number(self.slow)}

    @classmethod
    def rule(cls, rule: Any, k: int = 5, alpha: float = 0.5) -> WrappedRule:  # type: ignore[override]
        """Give the pure form."""
        k, alpha = _whole("Lookahead: k", k), _part("Lookahead: alpha", alpha)

        def step(inner: Any, grads: Any, state: Mapping[str, Any], params: Any) -> tuple[Any, dict[str, Any]]:
            fast, after = inner.update(grads, state["inner"], params)
            count = state["count"] + 1
            due = count == k
            slow = select(due, each(lambda xp, s, f: s + alpha * (f - s), state["slow"], fast), state["slow"])
            return select(due, slow, fast), {"inner": after, "count": count % k, "slow": slow}

        return WrappedRule(rule, lambda p: {"count": counter(p), "slow": each(lambda xp, x: xp.positive(x), p)}, step)


def _whole(what: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} is a whole number, 1 or more, not {value!r}")
    return value


def _part(what: str, value: Any) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{what} lies between 0 and 1, not {value!r}")
    return float(value)


def adaptive_clip_grad_(parameters: Variable | Iterable[Variable], clip_factor: float = 0.01, eps: float = 1e-3) -> None:
    """Scale down gradients that are large beside their parameters, unit by unit (Brock and others, 2021, https://arxiv.org/abs/2102.06171).

    A unit is a row of a weight (out, in, ...), that is, the weights into one output; in one dimension, the whole. Its gradient's norm
    becomes ``clip_factor * max(norm of its parameters, eps)`` at most. Call it between ``backward`` and ``step``, or in a hook.

    Parameters
    ----------
    parameters : Variable or iterable of Variable
        Those without a gradient are left out.
    clip_factor : float
        As above.
    eps : float
        As above: what parameters that are zero count as.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([[3.0, 4.0], [3.0, 4.0]]))
    >>> p.grad = np.asarray([[1.0, 0.0], [0.0, 0.01]])
    >>> nn.optim.adaptive_clip_grad_([p], clip_factor=0.1)
    >>> p.grad
    array([[0.5 , 0.  ],
           [0.  , 0.01]])
    """
    for p in [parameters] if isinstance(parameters, Variable) else parameters:
        if p.grad is None:
            continue
        x, grad = p.payload, raw(p.grad)
        xp = backend_of(x)
        axes = tuple(range(1, x.ndim)) if x.ndim > 1 else None
        ours, theirs = (xp.sqrt(xp.sum(xp.abs(a) ** 2, axis=axes, keepdims=True)) for a in (x, grad))
        most = clip_factor * xp.clip(ours, min=eps)
        factor = most / xp.where(theirs > most, theirs, xp.ones_like(theirs))
        p.grad = xp.where(theirs > most, grad * factor, grad)
