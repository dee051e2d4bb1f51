"""Schedules that lower the rate: in steps, along lines, powers and cosines.

Each follows from the rate before, so that schedules can be chained, and has a closed form for jumping to a step. The arithmetic is
PyTorch's, to the last bit.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable

from agnostic_ad.nn.optim.lr_scheduler.base import LRScheduler
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.stepping import apart

__all__ = [
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LinearLR",
    "MultiStepLR",
    "PolynomialLR",
    "StepLR",
]


class StepLR(LRScheduler):
    """Multiply by ``gamma`` every ``step_size`` steps.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    step_size : int
        How many steps a rate lasts.
    gamma : float
        The factor.
    last_epoch : int
        The step to go on from; -1 begins.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        return self._now() if self.last_epoch == 0 or self.last_epoch % self.step_size else self._times(self.gamma)

    def _closed_form(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """Multiply by ``gamma`` at certain steps.

    Parameters
    ----------
    optimizer, gamma, last_epoch
        As `StepLR`'s.
    milestones : iterable of int
        The steps; one given twice counts twice.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        count = self.milestones.get(self.last_epoch)
        return self._times(self.gamma**count) if count else self._now()

    def _closed_form(self) -> list[float]:
        passed = bisect_right(sorted(self.milestones.elements()), self.last_epoch)
        return [base * self.gamma**passed for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """A part of the rate for some steps, then all of it.

    Parameters
    ----------
    optimizer, last_epoch
        As `StepLR`'s.
    factor : float
        The part, between 0 and 1.
    total_iters : int
        For how many steps.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5)
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"ConstantLR: factor lies between 0 and 1, not {factor!r}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        if self.last_epoch == 0:
            return self._times(self.factor)
        return self._times(1.0 / self.factor) if self.last_epoch == self.total_iters else self._now()

    def _closed_form(self) -> list[float]:
        return [base * (self.factor + (self.last_epoch >= self.total_iters) * (1 - self.factor)) for base in self.base_lrs]


class LinearLR(LRScheduler):
    """From one part of the rate to another, along a line.

    Parameters
    ----------
    optimizer, last_epoch
        As `StepLR`'s.
    start_factor, end_factor : float
        The parts, between 0 and 1.
    total_iters : int
        How many steps the line has.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.75]
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(f"LinearLR: start_factor is above 0 and 1 at most, not {start_factor!r}")
        if not 0 <= end_factor <= 1:
            raise ValueError(f"LinearLR: end_factor lies between 0 and 1, not {end_factor!r}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        if self.last_epoch == 0:
            return self._times(self.start_factor)
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._now()
        rise = self.end_factor - self.start_factor
        return self._times(1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))

    def _closed_form(self) -> list[float]:
        rise = self.end_factor - self.start_factor
        return [base * (self.start_factor + rise * min(self.total_iters, self.last_epoch) / self.total_iters) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Multiply by ``gamma`` at every step.

    Parameters
    ----------
    optimizer, last_epoch
        As `StepLR`'s.
    gamma : float
        The factor.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        return self._now() if self._is_initial else self._times(self.gamma)

    def _closed_form(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """To zero, along a power of what is left of the steps.

    Parameters
    ----------
    optimizer, last_epoch
        As `StepLR`'s.
    total_iters : int
        How many steps it takes.
    power : float
        The power.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=2, power=2.0)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        if self._is_initial or self.last_epoch > self.total_iters:
            return self._now()
        left, before = (1.0 - step / self.total_iters for step in (self.last_epoch, self.last_epoch - 1))
        return self._times((left / before) ** self.power)

    def _closed_form(self) -> list[float]:
        left = 1.0 - min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * left**self.power for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """From the rate to ``eta_min`` along half a cosine, and back (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983).

    Parameters
    ----------
    optimizer, last_epoch
        As `StepLR`'s.
    T_max : int
        How many steps the way down has.
    eta_min : float
        The lowest rate.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        now, low, span = self.last_epoch, self.eta_min, self.T_max
        if self._is_initial:
            return self._now()
        if self._step_count == 1 and now > 0:
            return [low + (base - low) * (1 + math.cos(now * math.pi / span)) / 2 for base in self.base_lrs]
        if (now - 1 - span) % (2 * span) == 0:  # the lowest rate: nothing to multiply
            return [rate + (base - low) * (1 - math.cos(math.pi / span)) / 2 for rate, base in zip(self._now(), self.base_lrs, strict=True)]
        factor = (1 + math.cos(math.pi * now / span)) / (1 + math.cos(math.pi * (now - 1) / span))
        return [factor * (rate - low) + low for rate in self._now()]

    def _closed_form(self) -> list[float]:
        return [self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2 for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the rate to ``eta_min`` along half a cosine, again and again (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983).

    Parameters
    ----------
    optimizer, last_epoch
        As `StepLR`'s.
    T_0 : int
        How many steps the first way down has.
    T_mult : int
        How much longer each is than the last.
    eta_min : float
        The lowest rate.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.5]
    [1.0]
    """

    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"CosineAnnealingWarmRestarts: {name} is a whole number, 1 or more, not {value!r}")
        if not isinstance(eta_min, int | float):
            raise ValueError(f"CosineAnnealingWarmRestarts: eta_min is a number, not {eta_min!r}")
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Give the rates at ``T_cur``."""
        return [self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2 for base in self.base_lrs]

    @apart()
    def step(self, epoch: float | None = None) -> None:
        """Set the next rates, or those of any step; ``epoch`` may be a fraction, to step after every batch."""
        self._update_lr(epoch)

    def _update_lr(self, epoch: float | None = None) -> None:
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            self._jump(epoch)
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _jump(self, epoch: float) -> None:
        if epoch < 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: an epoch is 0 or more, not {epoch!r}")
        self.T_i, self.T_cur = self.T_0, epoch  # type: ignore[assignment]
        if epoch >= self.T_0:
            if self.T_mult == 1:
                self.T_cur = epoch % self.T_0  # type: ignore[assignment]
            else:
                n = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
                self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
                self.T_i = self.T_0 * self.T_mult**n
