"""Schedules that go up and down, and drive the momentum the other way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.nn.optim.lr_scheduler.base import LRScheduler, attributes, per_group
from agnostic_ad.nn.optim.optimizer import Optimizer

__all__ = ["CyclicLR", "OneCycleLR", "annealed"]


def annealed(strategy: str, start: float, end: float, part: float) -> float:
    """Give the value a part of the way from ``start`` to ``end``, along half a cosine ("cos") or a line ("linear")."""
    if strategy == "cos":
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)
    return (end - start) * part + start


class _WithMomentum(LRScheduler):
    """A schedule of rates and momenta; the momentum is "momentum", or the first of "betas"."""

    def _take_momenta(self, base: Any, most: Any, last_epoch: int) -> None:
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError(
                f"{type(self).__name__}: {type(self.optimizer).__name__} has neither momentum nor betas to cycle; write cycle_momentum=False"
            )
        self.use_beta1 = "betas" in defaults
        self.base_momentums = per_group("base_momentum", self.optimizer, base)
        self.max_momentums = per_group("max_momentum", self.optimizer, most)
        if last_epoch == -1:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_WithMomentum):
    """Up and down between two rates (Smith, 2017, https://arxiv.org/abs/1506.01186).

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    base_lr, max_lr : float or list of float
        The lowest and the highest rate, for all groups or for each.
    step_size_up, step_size_down : int
        How many steps each way has; down as many as up by default.
    mode : {"triangular", "triangular2", "exp_range"}
        Cycles of one height, of heights that halve, or heights ``gamma ** step``.
    gamma : float
        As above.
    scale_fn, scale_mode : callable, {"cycle", "iterations"}
        A function in place of ``mode``: of the number of the cycle, from 1, or of the step, to the height.
    cycle_momentum : bool
        Whether the momentum goes down where the rate goes up.
    base_momentum, max_momentum : float or list of float
        Between which.
    last_epoch : int
        The step to go on from; -1 begins.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0, momentum=0.9)
    >>> scheduler = nn.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.0, max_lr=1.0, step_size_up=2)
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr(), round(optimizer.param_groups[0]["momentum"], 3))
    [0.5] 0.85
    [1.0] 0.8
    [0.5] 0.85
    """

    _unsaved = ("optimizer", "_scale_fn_custom")
    _shapes: dict[str, tuple[str, Callable[[float, float], float]]] = {
        "triangular": ("cycle", lambda gamma, x: 1.0),
        "triangular2": ("cycle", lambda gamma, x: 1 / 2.0 ** (x - 1)),
        "exp_range": ("iterations", lambda gamma, x: gamma**x),
    }

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        base_lrs = per_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for group, rate in zip(optimizer.param_groups, base_lrs, strict=True):
                group["lr"] = rate
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        if scale_fn is None and mode not in self._shapes:
            raise ValueError(f"CyclicLR: mode is one of {', '.join(map(repr, self._shapes))}, or scale_fn is given; not {mode!r}")
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else self._shapes[mode][0]
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._take_momenta(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """Give the height of a cycle, or at a step."""
        return self._shapes[self.mode][1](self.gamma, x) if self._scale_fn_custom is None else self._scale_fn_custom(x)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``; set the momenta."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        part = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True):
                self._set_momentum(group, high - (high - low) * part * scale)
        return [low + (high - low) * part * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Give everything but the optimizer and functions."""
        custom = self._scale_fn_custom
        return {**super().state_dict(), "_scale_fn_custom": None if custom is None else attributes(custom)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        super().load_state_dict(state_dict)
        kept = state_dict["_scale_fn_custom"]
        if kept is not None and self._scale_fn_custom is not None:
            self._scale_fn_custom.__dict__.update(kept)


class OneCycleLR(_WithMomentum):
    """Up to a rate, and down to nearly nothing, once (Smith and Topin, 2018, https://arxiv.org/abs/1708.07120).

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    max_lr : float or list of float
        The highest rate, for all groups or for each.
    total_steps, epochs, steps_per_epoch : int
        How many steps there are: the first, or the product of the others.
    pct_start : float
        The part of the steps on which the rate rises.
    anneal_strategy : {"cos", "linear"}
        Along half a cosine or a line.
    cycle_momentum : bool
        Whether the momentum goes down where the rate goes up.
    base_momentum, max_momentum : float or list of float
        Between which.
    div_factor, final_div_factor : float
        The first rate is ``max_lr / div_factor``, and the last that divided by ``final_div_factor``.
    three_phase : bool
        Whether to go down as quickly as up, and then to nearly nothing.
    last_epoch : int
        The step to go on from; -1 begins.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0, momentum=0.9)
    >>> scheduler = nn.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    >>> rates = []
    >>> for _ in range(9):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     rates.append(round(scheduler.get_last_lr()[0], 2))
    >>> rates
    [0.52, 1.0, 0.95, 0.81, 0.61, 0.39, 0.19, 0.05, 0.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise ValueError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
        counts = {"total_steps": total_steps} if total_steps is not None else {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
        for name, count in counts.items():
            if not isinstance(count, int) or count <= 0:
                raise ValueError(f"OneCycleLR: {name} is a whole number above 0, not {count!r}")
        self.total_steps = math.prod(counts.values())  # type: ignore[arg-type]
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start is a float between 0 and 1, not {pct_start!r}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: anneal_strategy is 'cos' or 'linear', not {anneal_strategy!r}")
        self._anneal_func_type = anneal_strategy
        rise = float(pct_start * self.total_steps)
        up = _phase(rise - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        down = _phase(self.total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")
        back = _phase(float(2 * pct_start * self.total_steps) - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum")
        out = _phase(self.total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")
        self._schedule_phases = [up, back, out] if three_phase else [up, down]
        if last_epoch == -1:
            for group, most in zip(optimizer.param_groups, per_group("max_lr", optimizer, max_lr), strict=True):
                group["initial_lr"], group["max_lr"] = most / div_factor, most
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._take_momenta(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``; set the momenta."""
        now = self.last_epoch
        if now > self.total_steps:
            raise ValueError(f"OneCycleLR: this is step {now} of a cycle of {self.total_steps}")
        begin = 0.0
        for phase in self._schedule_phases[:-1]:
            if now <= phase["end_step"]:
                break
            begin = phase["end_step"]
        else:
            phase = self._schedule_phases[-1]
        part, rates = (now - begin) / (phase["end_step"] - begin), []
        for group in self.optimizer.param_groups:
            rates.append(annealed(self._anneal_func_type, group[phase["start_lr"]], group[phase["end_lr"]], part))
            if self.cycle_momentum:
                first, last = group[phase["start_momentum"]], group[phase["end_momentum"]]
                self._set_momentum(group, annealed(self._anneal_func_type, first, last, part))
        return rates


def _phase(end: float, start_lr: str, end_lr: str, start_momentum: str, end_momentum: str) -> dict[str, Any]:
    return {"end_step": end, "start_lr": start_lr, "end_lr": end_lr, "start_momentum": start_momentum, "end_momentum": end_momentum}
