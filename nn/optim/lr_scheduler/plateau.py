"""The schedule that follows a metric."""

from __future__ import annotations

import math
import warnings
from typing import Any

from agnostic_ad.nn.optim.lr_scheduler.base import LRScheduler, per_group
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.stepping import apart

__all__ = ["ReduceLROnPlateau"]


class ReduceLROnPlateau(LRScheduler):
    """Lower the rate when a metric has not improved for a while: ``step(metric)``.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    mode : {"min", "max"}
        Whether small metrics are good, or large ones.
    factor : float
        What a rate is multiplied with; below 1.
    patience : int
        How many steps without improvement are let pass.
    threshold, threshold_mode : float, {"rel", "abs"}
        What counts as an improvement, relative to the best or not.
    cooldown : int
        How many steps to wait after a change.
    min_lr : float or list of float
        The lowest rate, for all groups or for each.
    eps : float
        The smallest change of a rate.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    >>> for loss in (3.0, 3.0, 3.0):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.5]
    """

    wants_metric = True

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ValueError(f"ReduceLROnPlateau: factor is below 1, not {factor!r}")
        for name, value, allowed in (("mode", mode, ("min", "max")), ("threshold_mode", threshold_mode, ("rel", "abs"))):
            if value not in allowed:
                raise ValueError(f"ReduceLROnPlateau: {name} is {allowed[0]!r} or {allowed[1]!r}, not {value!r}")
        self._attach(optimizer)
        self.factor, self.patience, self.cooldown, self.eps = factor, patience, cooldown, eps
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs = per_group("min_lr", optimizer, min_lr)
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best, self.cooldown_counter, self.num_bad_epochs, self.last_epoch = self.mode_worse, 0, 0, 0
        self._last_lr = self._now()

    @apart()
    def step(self, metrics: Any, epoch: int | None = None) -> None:  # type: ignore[override]
        """Look at a metric, and lower the rates if it is time.

        Parameters
        ----------
        metrics : float or array
            One number.
        epoch : int, optional
            The number of this step, in place of one more than the last.
        """
        current = float(metrics)
        if epoch is not None:
            warnings.warn("scheduler.step(metric, epoch) jumps: prefer step(metric)", UserWarning, stacklevel=3)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = self._now()

    @property
    def in_cooldown(self) -> bool:
        """Whether it waits after a change."""
        return self.cooldown_counter > 0

    def _is_better(self, current: float) -> bool:
        if self.threshold_mode == "rel":
            bound = self.best * (1.0 - self.threshold if self.mode == "min" else 1.0 + self.threshold)
        else:
            bound = self.best - self.threshold if self.mode == "min" else self.best + self.threshold
        return current < bound if self.mode == "min" else current > bound

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):  # a group was added
            if self.default_min_lr is None:
                raise ValueError(f"ReduceLROnPlateau: the optimizer has {len(groups)} groups now, min_lr {len(self.min_lrs)} values")
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            new = max(group["lr"] * self.factor, least)
            if group["lr"] - new > self.eps:
                group["lr"] = new
