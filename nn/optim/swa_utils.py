"""Averages of models over training."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import agnostic_ad as ad
from agnostic_ad import Variable
from agnostic_ad.config import move, parse
from agnostic_ad.namespaces import backend_of, is_raw
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.optim.lr_scheduler.base import LRScheduler, per_group
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.nn.parameter import adopt, assign
from agnostic_ad.stepping import apart

__all__ = ["SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn", "update_bn"]


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, int], Any]:
    """Give the function of an exponential moving average: ``decay * average + (1 - decay) * current``.

    Parameters
    ----------
    decay : float
        How much of the average is kept, between 0 and 1.

    Returns
    -------
    callable
        ``(average, current, count) -> average`` of arrays.

    Examples
    --------
    >>> from agnostic_ad.nn.optim.swa_utils import get_ema_avg_fn
    >>> get_ema_avg_fn(0.75)(4.0, 8.0, 1)
    5.0
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"the decay of an average lies between 0 and 1, not {decay!r}")
    return lambda average, current, count: decay * average + (1 - decay) * current


def get_swa_avg_fn() -> Callable[[Any, Any, int], Any]:
    """Give the function of an average with equal weights (Izmailov and others, 2018, https://arxiv.org/abs/1803.05407).

    Returns
    -------
    callable
        ``(average, current, count) -> average`` of arrays; ``count`` models are in the average before.

    Examples
    --------
    >>> from agnostic_ad.nn.optim.swa_utils import get_swa_avg_fn
    >>> get_swa_avg_fn()(4.0, 8.0, 3)
    5.0
    """
    return lambda average, current, count: average + (current - average) / (count + 1)


def _of_lists(function: Callable[[Any, Any, int], Any]) -> Callable[[list[Variable], list[Variable], int], None]:
    def update(averages: list[Variable], currents: list[Variable], count: int) -> None:
        for average, current in zip(averages, currents, strict=True):
            _average(function, average, current, count)

    return update


def _average(function: Callable[[Any, Any, int], Any], average: Variable, current: Variable, count: int) -> None:
    """Change an average; whole numbers are averaged as real ones, and cut off."""
    xp, old = backend_of(average.payload), average.payload
    new = adopt(current.payload, old)
    if xp.kind(old.dtype) not in "fc":
        old, new = (xp.astype(x, xp.default("real floating")) for x in (old, new))
    _set(average, function(old, new, count))


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[list[Variable], list[Variable], int], None]:
    """Give `get_ema_avg_fn`'s function for lists of parameters: it changes the first list's."""
    return _of_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Callable[[list[Variable], list[Variable], int], None]:
    """Give `get_swa_avg_fn`'s function for lists of parameters: it changes the first list's."""
    return _of_lists(get_swa_avg_fn())


def _set(v: Variable, value: Any) -> None:
    value = value.payload if isinstance(value, Variable) else value
    dtype = v.payload.dtype
    assign(v, value if value.dtype == dtype else backend_of(value).astype(value, dtype))


class AveragedModel(Module):
    """A copy of a model whose parameters are averages of the model's.

    Parameters
    ----------
    model : Module
        What to copy.
    device : device, optional
        Where the copy lies.
    avg_fn : callable, optional
        ``(average, current, count) -> average``, for each parameter's raw array; by default all models weigh the same.
    multi_avg_fn : callable, optional
        ``(averages, currents, count)``, for lists of parameters; it changes the first list's.
    use_buffers : bool
        Whether buffers are averaged too; else they are copied.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> model = nn.Linear(1, 1, bias=False)
    >>> average = nn.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = nn.init.constant_(model.weight, value)
    ...     average.update_parameters(model)
    >>> average(np.ones((1, 1), dtype="float32")).data
    array([[3.]], dtype=float32)
    """

    n_averaged: Variable

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable[[Any, Any, int], Any] | None = None,
        multi_avg_fn: Callable[[list[Variable], list[Variable], int], None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise ValueError("AveragedModel: give avg_fn or multi_avg_fn, not both")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module.to(device=device)
        first = next(itertools.chain(self.module.parameters(), self.module.buffers()), None)
        backend = backend_of(first.payload) if first is not None else None
        self.register_buffer("n_averaged", 0 if backend is None else backend.xp.asarray(0, device=first.device))  # type: ignore[union-attr]
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the averaged model."""
        return self.module(*args, **kwargs)

    @apart()
    def update_parameters(self, model: Module) -> None:
        """Take a model into the averages; the first is copied."""
        count = int(self.n_averaged)
        pairs = list(zip(self.module.parameters(), model.parameters(), strict=True))
        buffers = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if self.use_buffers:
            pairs, buffers = pairs + buffers, []
        if count == 0:
            pairs, buffers = [], pairs + buffers
        for mine, theirs in buffers:
            assign(mine, adopt(theirs.payload, mine.payload))
        with ad.no_grad():
            if self.multi_avg_fn is not None and pairs:
                self.multi_avg_fn([mine for mine, _ in pairs], [theirs for _, theirs in pairs], count)
            else:
                function = self.avg_fn or get_swa_avg_fn()
                for mine, theirs in pairs:
                    _average(function, mine, theirs, count)
        _set(self.n_averaged, self.n_averaged.payload + 1)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of a model's batch norms anew, as means over the batches.

    Parameters
    ----------
    loader : iterable
        Of inputs, or of tuples that begin with an input.
    model : Module
        Its modules with ``running_mean``, ``momentum`` and ``reset_running_stats()`` are meant; a model without any is left alone.
    device : device, optional
        Where to move the inputs.
    """
    norms = [m for m in model.modules() if hasattr(m, "reset_running_stats") and getattr(m, "running_mean", None) is not None]
    if not norms:
        return
    before = [(m, m.momentum) for m in norms]
    training = model.training
    model.train()
    try:
        for m in norms:
            m.reset_running_stats()
            m.momentum = None  # the mean of all batches
        with ad.no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, list | tuple) else batch
                model(move(x, parse(device=device)) if device is not None and is_raw(x) else x)
    finally:
        for m, momentum in before:
            m.momentum = momentum
        model.train(training)


class SWALR(LRScheduler):
    """From the rate of now to one for averaging, and stay there.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates to set.
    swa_lr : float or list of float
        The rate to reach, for all groups or for each.
    anneal_epochs : int
        In how many steps.
    anneal_strategy : {"cos", "linear"}
        Along half a cosine or a line.
    last_epoch : int
        The step to go on from; -1 begins.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> optimizer = nn.optim.SGD([nn.Parameter([1.0])], lr=1.0)
    >>> scheduler = nn.optim.swa_utils.SWALR(optimizer, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.75]
    [0.5]
    """

    def __init__(
        self, optimizer: Optimizer, swa_lr: float | list[float], anneal_epochs: int = 10, anneal_strategy: str = "cos", last_epoch: int = -1
    ) -> None:
        self._attach(optimizer)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: anneal_strategy is 'cos' or 'linear', not {anneal_strategy!r}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"SWALR: anneal_epochs is a whole number, 0 or more, not {anneal_epochs!r}")
        for group, rate in zip(optimizer.param_groups, per_group("swa_lr", optimizer, swa_lr), strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _part(self, step: int) -> float:
        t = max(0, min(1, step / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[float]:
        """Give the rates of the next step, from those of now."""
        step = max(1, self._step_count - 1) if self.anneal_epochs == 0 else self._step_count - 1
        before, now, rates = self._part(step - 1), self._part(step), []
        for group in self.optimizer.param_groups:
            end, rate = group["swa_lr"], group["lr"]
            first = end if before == 1 else (rate - before * end) / (1 - before)
            rates.append(end * now + first * (1 - now))
        return rates
