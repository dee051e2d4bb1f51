"""The base of the schedulers of learning rates, and those that are made of functions or of others."""

from __future__ import annotations

import types
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.stepping import apart

__all__ = ["ChainedScheduler", "LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "per_group"]


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """Give one value a group, from one for all or a list."""
    groups = optimizer.param_groups
    if not isinstance(value, list | tuple):
        return [value] * len(groups)
    if len(value) != len(groups):
        raise ValueError(f"{name} has {len(value)} values for the optimizer's {len(groups)} parameter groups")
    return list(value)


class LRScheduler:
    """Set the learning rates of an optimizer, step by step.

    A subclass defines ``get_lr()``, which gives the rates at ``last_epoch``, one a group; it may start from the rates of now, so that
    several schedulers can work on one optimizer. Call ``step()`` after the optimizer's.

    Parameters
    ----------
    optimizer : Optimizer
        Its groups get their "lr", and remember the first one as "initial_lr".
    last_epoch : int
        The step to go on from; -1 begins.

    Attributes
    ----------
    last_epoch : int
        Steps done.
    base_lrs : list of float
        The rates at the beginning.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> class Halves(nn.optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [rate / 2**self.last_epoch for rate in self.base_lrs]
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = Halves(optimizer)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    wants_metric = False
    """Whether ``step`` takes one."""
    _unsaved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"'initial_lr' is not in parameter group {i}, and last_epoch={last_epoch} goes on with a schedule. "
                    "Load the optimizer's state first, or begin with last_epoch=-1."
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _attach(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__} schedules the rates of an Optimizer, not of {type(optimizer).__name__}")
        self.optimizer = optimizer

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    # --- rates ------------------------------------------------------------------------------------------------------------------------
    def get_last_lr(self) -> list[float]:
        """Give the rates that were set last, one a group."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr(): define the rates at last_epoch")

    @apart()
    def step(self, epoch: int | None = None) -> None:
        """Set the next rates; or those of a certain step, with a warning, for that breaks the chain of several schedulers."""
        if self._step_count == 1 and not self.optimizer._steps:
            warnings.warn(
                "a scheduler's step() before the first of its optimizer skips the first rate: call optimizer.step() before it",
                UserWarning,
                stacklevel=3,
            )
        self._step_count += 1
        if epoch is not None:
            warnings.warn("scheduler.step(epoch) jumps to a rate: prefer step() without epoch", UserWarning, stacklevel=3)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        """Set the rates of the next step, or of any: in closed form, where there is one."""
        if epoch is None:
            self.last_epoch += 1
            self._set(self.get_lr())
        else:
            self.last_epoch = epoch
            closed = getattr(self, "_closed_form", self.get_lr)
            self._set(closed())

    def _set(self, rates: Iterable[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = self._now()

    def _now(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _times(self, factor: float) -> list[float]:
        return [rate * factor for rate in self._now()]

    # --- state ------------------------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Give everything but the optimizer, under PyTorch's names; functions are left out, callable objects leave their attributes."""
        return {name: value for name, value in self.__dict__.items() if name not in self._unsaved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave, here or in PyTorch. Load the optimizer's own state after making the scheduler, which sets rates."""
        self.__dict__.update({name: value for name, value in state_dict.items() if name not in self._unsaved})


class _OfFunctions(LRScheduler):
    """A schedule by functions of the step."""

    _unsaved = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        self.lr_lambdas = per_group("lr_lambda", optimizer, lr_lambda)
        for each in self.lr_lambdas:
            if not callable(each):
                raise TypeError(f"lr_lambda is a function of the step, not {type(each).__name__}")
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "lr_lambdas": [attributes(each) for each in self.lr_lambdas]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for each, kept in zip(self.lr_lambdas, state_dict["lr_lambdas"], strict=True):
            if kept is not None:
                each.__dict__.update(kept)


def attributes(function: Any) -> dict[str, Any] | None:
    """Give what a callable object remembers; None for a function."""
    return None if isinstance(function, types.FunctionType) or not hasattr(function, "__dict__") else dict(function.__dict__)


class LambdaLR(_OfFunctions):
    """The first rate times a function of the step.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    lr_lambda : callable or list of callable
        ``step -> factor``; one for all groups, or one for each.
    last_epoch : int
        The step to go on from; -1 begins.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=0.1)
    >>> scheduler = nn.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.05]
    """

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        return [base * f(self.last_epoch) for f, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]


class MultiplicativeLR(_OfFunctions):
    """The last rate times a function of the step.

    Parameters
    ----------
    optimizer, lr_lambda, last_epoch
        As `LambdaLR`'s.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda step: 0.5)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.5]
    """

    def get_lr(self) -> list[float]:
        """Give the rates at ``last_epoch``."""
        if self._is_initial:
            return self._now()
        return [rate * f(self.last_epoch) for f, rate in zip(self.lr_lambdas, self._now(), strict=True)]


# --- schedulers of schedulers -----------------------------------------------------------------------------------------------------------------
class _OfSchedulers(LRScheduler):
    _unsaved = ("optimizer", "_schedulers")

    def _take(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        if len(schedulers) < 1:
            raise ValueError(f"{name} needs one scheduler at least")
        self._schedulers = list(schedulers)
        for i, each in enumerate(self._schedulers):
            if not isinstance(each, LRScheduler):
                raise TypeError(f"{name}: number {i} of the schedulers is a {type(each).__name__}")
            if each.wants_metric:
                raise ValueError(f"{name}: number {i}, {type(each).__name__}, wants a metric at every step, and cannot be one of several")
            if optimizer is not None and each.optimizer is not optimizer:
                raise ValueError(f"{name}: number {i}, {type(each).__name__}, belongs to another optimizer")
            optimizer = each.optimizer
        assert optimizer is not None
        self._attach(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Give everything but the optimizer, and the schedulers' states."""
        return {**super().state_dict(), "_schedulers": [each.state_dict() for each in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""
        super().load_state_dict(state_dict)
        for each, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            each.load_state_dict(state)


class ChainedScheduler(_OfSchedulers):
    """Several schedulers, one after the other at every step.

    Parameters
    ----------
    schedulers : sequence of LRScheduler
        Of one optimizer.
    optimizer : Optimizer, optional
        That optimizer.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> from agnostic_ad.nn.optim import lr_scheduler
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> parts = [lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2), lr_scheduler.ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = lr_scheduler.ChainedScheduler(parts)
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.25]
    [0.25]
    [0.125]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(schedulers, optimizer)
        self._last_lr = self._now()

    @apart()
    def step(self, epoch: int | None = None) -> None:
        """Step all."""
        for each in self._schedulers:
            each.step()
        self._last_lr = self._now()


class SequentialLR(_OfSchedulers):
    """Several schedulers, each for a stretch of steps.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    schedulers : list of LRScheduler
        Of this optimizer.
    milestones : list of int
        The steps at which the second, the third, ... takes over.
    last_epoch : int
        The step to go on from; -1 begins.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> from agnostic_ad.nn.optim import lr_scheduler
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> parts = [lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2), lr_scheduler.ExponentialLR(optimizer, gamma=0.5)]
    >>> scheduler = lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.75]
    [1.0]
    [0.5]
    """

    def __init__(self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1) -> None:
        self._take(schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers take turns at {len(schedulers) - 1} milestones, not {len(milestones)}"
            )
        self._milestones = milestones
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo(self._schedulers)  # each has set its first rates when it was made: now only the first does
        self._current(0)._initial_step()
        self._last_lr = self._current(0).get_last_lr()

    def _current(self, epoch: int) -> LRScheduler:
        return self._schedulers[bisect_right(self._milestones, epoch)]

    @apart()
    def step(self, epoch: int | None = None) -> None:
        """Step the scheduler whose turn it is."""
        self.last_epoch += 1
        now = self._current(self.last_epoch)
        if self.last_epoch in self._milestones:
            now._update_lr(0)
        else:
            now.step()
        self._last_lr = now.get_last_lr()


def _undo(schedulers: Iterable[LRScheduler]) -> None:
    for each in schedulers:
        if isinstance(each, _OfSchedulers):
            _undo(each._schedulers)
        else:
            each.last_epoch -= 1
