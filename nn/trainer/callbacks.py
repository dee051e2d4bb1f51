"""What happens at certain moments of training, and can be added without touching the loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agnostic_ad.nn.trainer.trainer import Trainer

__all__ = ["MOMENTS", "Callback", "EarlyStopping", "improves"]

MOMENTS = ("on_start", "on_epoch_start", "on_step_end", "on_log", "on_epoch_end", "on_end", "on_close")
"""The methods of a callback."""


class Callback:
    """What a `Trainer` calls; a subclass defines what it needs.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> class Shout(nn.trainer.Callback):
    ...     def on_epoch_end(self, trainer, results):
    ...         print(f"EPOCH {trainer.epoch}!")
    >>> model = nn.Linear(2, 1)
    >>> trainer = nn.Trainer(model, nn.MSELoss(), nn.optim.SGD(model.parameters(), lr=0.1), callbacks=[Shout()])
    >>> import numpy as np
    >>> batch = np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32")
    >>> _ = trainer.fit([batch], epochs=2)
    EPOCH 1!
    EPOCH 2!
    """

    def on_start(self, trainer: Trainer) -> None:
        """Look at a run that begins, or goes on: a checkpoint is loaded by now."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Look at an epoch that begins, or goes on."""

    def on_step_end(self, trainer: Trainer) -> None:
        """Look at what a step of the optimizer left."""

    def on_log(self, trainer: Trainer, records: Sequence[dict[str, Any]]) -> None:
        """Look at the losses of the last steps, as numbers: dicts of ``step``, ``epoch``, ``loss`` and ``lr``."""

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        """Look at the results of an epoch; ``trainer.stop = True`` makes it the last."""

    def on_end(self, trainer: Trainer) -> None:
        """Look at a run that has come to its end."""

    def on_close(self, trainer: Trainer) -> None:
        """Close what is open: called at the end, and where training breaks off."""

    def state_dict(self) -> dict[str, Any]:
        """Give what a checkpoint must hold of this: nothing, unless a subclass says so."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave."""


def improves(value: float, best: float | None, mode: str, by: float = 0.0) -> bool:
    """Tell whether a result is better than the best so far; NaN never is."""
    if math.isnan(value):
        return False
    return best is None or (value < best - by if mode == "min" else value > best + by)


class EarlyStopping(Callback):
    """End training when a result has not improved for a while.

    Parameters
    ----------
    patience : int
        How many epochs without improvement are let pass.
    min_delta : float
        By how much a result must be better to count.
    monitor : str, optional
        Which result; by default the trainer's.
    mode : {"min", "max"}, optional
        Whether small values are good or large ones; by default the trainer's.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> stopping = nn.trainer.EarlyStopping(patience=3, monitor="val_accuracy", mode="max")
    """

    def __init__(self, patience: int = 3, min_delta: float = 0.0, monitor: str | None = None, mode: str | None = None) -> None:
        if mode not in (None, "min", "max"):
            raise ValueError(f"EarlyStopping: mode is 'min' or 'max', not {mode!r}")
        self.patience, self.min_delta, self.monitor, self.mode = patience, min_delta, monitor, mode
        self.best: float | None = None
        self.bad = 0

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        value = trainer.result(self.monitor)
        if improves(value, self.best, self.mode or trainer.mode, self.min_delta):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
            trainer.stop = trainer.stop or self.bad > self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.bad = state["best"], state["bad"]
