"""The loop that people would write by hand: loader, model, loss, backward, optimizer. And what a long run needs around it."""

from __future__ import annotations

import difflib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import agnostic_ad as ad
from agnostic_ad.config import Place, move
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.nn.amp import GradScaler, autocast
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.nn.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from agnostic_ad.nn.parameter import is_lazy
from agnostic_ad.nn.serialization import save_file
from agnostic_ad.nn.trainer.callbacks import MOMENTS, Callback, improves
from agnostic_ad.nn.trainer.checkpoints import Checkpoints
from agnostic_ad.nn.trainer.logs import CSVLog, JSONLog, numbers
from agnostic_ad.nn.trainer.metrics import Metric, by_name
from agnostic_ad.nn.trainer.resuming import Resumable
from agnostic_ad.nn.utils.clipping import clip_grad_norm_, clip_grad_value_

__all__ = ["Trainer"]


class Trainer(Resumable):
    """Train a model: batches from a loader, the model's output, its loss, the gradients, a step of the optimizer.

    `fit`, `train_epoch`, `train_step` and `forward` are the loop, and are there to be read and overridden.

    Parameters
    ----------
    model : Module
        What to train.
    loss : callable
        ``loss(output, target)`` gives one number.
    optimizer : Optimizer
        Of the model's parameters.
    scheduler : LRScheduler, optional
        Of the optimizer's rates. One that wants a metric gets the monitored result after every epoch.
    scheduler_every : {"epoch", "step"}
        When to step it.
    metrics : list of Metric, or mapping of str to Metric
        What else to compute of validation data.
    callbacks : list of Callback
        What to call at certain moments; see `Callback`.
    clip_norm, clip_value : float, optional
        How long the gradients may be, as one vector; and how large each element.
    accumulate : int
        How many batches make a step.
    ema : float, optional
        The decay of an exponential moving average of the weights, such as 0.999. It is what is validated, and what ``model.safetensors`` holds.
    amp : {"float16", "bfloat16"}, optional
        Compute products in 16 bits; with a scaled loss for float16.
    out : path, optional
        The folder that holds all of the run: ``checkpoints/``, ``log.jsonl``, ``log.csv``, and at the end ``model.safetensors``.
    checkpoint_every : int, optional
        After how many steps to write a checkpoint; one is also written after every epoch.
    keep : int
        How many of the last checkpoints to keep, beside the best.
    monitor : str, optional
        Which result says how good the model is; by default the loss of the first validation data, or that of training.
    mode : {"min", "max"}
        Whether small values of it are good or large ones.
    log_every : int
        After how many steps to turn losses into numbers, for which a device must be waited for. The logs hold every step all the same.

    Attributes
    ----------
    epoch, step : int
        Epochs finished, and steps taken.
    history : list of dict
        The results of each epoch that are numbers.
    results : dict
        All results of the last epoch, confusion matrices too.
    averaged : AveragedModel or None
        The moving average.
    stop : bool
        Set it to end training after this epoch.
    resumed_from : Path or None
        The checkpoint that `fit` went on from.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> _ = ad.manual_seed(0)
    >>> x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    >>> loader = nn.data.DataLoader(nn.data.TensorDataset(x, (x[:, 0] > 0).astype("int64")), 32, shuffle=True, seed=0)
    >>> model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> optimizer = nn.optim.Adam(model.parameters(), lr=0.01)
    >>> trainer = nn.Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=[nn.trainer.Accuracy()])
    >>> history = trainer.fit(loader, epochs=5, validation=loader)
    >>> history[-1]["val_accuracy"] > 0.95
    True
    """

    def __init__(
        self,
        model: Module,
        loss: Any,
        optimizer: Optimizer,
        *,
        scheduler: Any = None,
        scheduler_every: str = "epoch",
        metrics: Sequence[Metric] | Mapping[str, Metric] = (),
        callbacks: Sequence[Callback] = (),
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        amp: str | None = None,
        out: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        keep: int = 3,
        monitor: str | None = None,
        mode: str = "min",
        log_every: int = 50,
    ) -> None:
        for name, value, allowed in (("scheduler_every", scheduler_every, ("epoch", "step")), ("mode", mode, ("min", "max"))):
            if value not in allowed:
                raise ValueError(f"Trainer: {name} is {allowed[0]!r} or {allowed[1]!r}, not {value!r}")
        for name, number in (("accumulate", accumulate), ("checkpoint_every", checkpoint_every), ("log_every", log_every)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ValueError(f"Trainer: {name} is an integer of 1 or more, not {number!r}")
        if amp not in (None, "float16", "bfloat16"):
            raise ValueError(f"Trainer: amp is 'float16' or 'bfloat16', not {amp!r}")
        if checkpoint_every is not None and out is None:
            raise ValueError("Trainer: checkpoint_every needs out, the folder where checkpoints go")
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.scheduler, self.scheduler_every, self.metrics = scheduler, scheduler_every, by_name(metrics)
        self.clip_norm, self.clip_value, self.accumulate, self.amp = clip_norm, clip_value, accumulate, amp
        self.averaged = None if ema is None else AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
        self.scaler = GradScaler(enabled=amp == "float16")
        self.out = None if out is None else Path(out)
        self.checkpoints = None if self.out is None else Checkpoints(self.out / "checkpoints", keep)
        self.checkpoint_every, self.monitor, self.mode, self.log_every = checkpoint_every, monitor, mode, log_every
        self.callbacks = [*([JSONLog(), CSVLog()] if out is not None else []), *callbacks]
        self.loader: Any = ()
        self.validation: dict[str, Any] = {}
        self.epoch = self.step = self.batch = 0
        self.history: list[dict[str, Any]] = []
        self.results: dict[str, Any] = {}
        self.stop = False
        self.resumed_from: Path | None = None
        self._best: float | None = None
        self._sum, self._count = 0.0, 0  # of the losses of this epoch
        self._pending: list[dict[str, Any]] = []  # steps whose losses are not numbers yet
        self._hooks: dict[str, list[Any]] = {}
        self._home: Place | None = None

    # --- the loop -----------------------------------------------------------------------------------------------------------------------
    def fit(self, loader: Iterable[Any], epochs: int = 1, validation: Any = None, *, resume: Any = None) -> list[dict[str, Any]]:
        """Train until so many epochs have been done, those before a checkpoint included.

        Parameters
        ----------
        loader : iterable
            Gives the batches of an epoch each time it is iterated over: a `DataLoader`, or a list.
        epochs : int
            How many epochs make the whole run.
        validation : iterable, or mapping of str to iterable, optional
            Batches to look at after each epoch. Names of results begin with "val", or with the keys of the mapping.
        resume : "auto" or path, optional
            Go on from the newest good checkpoint in ``out``, or begin if there is none; or go on from this checkpoint. By default a new run begins,
            and checkpoints of an earlier one in ``out`` go to the folder ``checkpoints.old``.

        Returns
        -------
        list of dict
            ``history``: the results of each epoch.
        """
        self.loader, self.epochs, self._home = loader, epochs, None
        self.validation = dict(validation) if isinstance(validation, Mapping) else {} if validation is None else {"val": validation}
        self._hooks = {name: [getattr(c, name) for c in self.callbacks if _defines(c, name)] for name in MOMENTS}
        self._resume(resume)
        try:
            self.call("on_start")
            while self.epoch < epochs and not self.stop:
                self._started = time.perf_counter()
                self.call("on_epoch_start")
                self.train_epoch()
                self.end_epoch()
            if self.out is not None:
                save_file(self.evaluated, self.out / "model.safetensors")
            self.call("on_end")
        finally:
            self.call("on_close")
        return self.history

    def train_epoch(self) -> None:
        """Learn from every batch once; of an epoch that a checkpoint lies in, from the rest."""
        self.model.train()
        batches = self._batches()
        while window := list(itertools.islice(batches, self.accumulate)):
            rate = self.optimizer.param_groups[0]["lr"]
            loss = self.train_step(window)
            self.batch += len(window)
            self.end_step(loss, rate)

    def train_step(self, batches: Sequence[Any]) -> Any:
        """Take one step of the optimizer from one batch, or several; give their mean loss, as a raw array."""
        self.optimizer.zero_grad()
        total = None
        for batch in batches:
            with self.precision():
                loss, _, _ = self.forward(self.model, batch)
            if len(batches) > 1:
                loss = loss / len(batches)
            self.scaler.scale(_recorded(loss)).backward()
            total = loss.payload if total is None else total + loss.payload
        self.update()
        return total

    def forward(self, model: Module, batch: Any) -> tuple[Any, Any, Any]:
        """Give loss, output and target of a batch, here of inputs and, last, the target. To be overridden for batches of other kinds."""
        *inputs, target = self.to_model(batch)
        output = model(*inputs)
        return self.loss(output, target), output, target

    def update(self) -> None:
        """Change the parameters by their gradients."""
        scaler, before = self.scaler, self.scaler.get_scale()
        if self.clip_norm is not None or self.clip_value is not None:
            scaler.unscale_(self.optimizer)
            if self.clip_norm is not None:
                clip_grad_norm_(self.model.parameters(), self.clip_norm)
            if self.clip_value is not None:
                clip_grad_value_(self.model.parameters(), self.clip_value)
        scaler.step(self.optimizer)
        scaler.update()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        if self.scheduler is not None and self.scheduler_every == "step" and scaler.get_scale() >= before:  # else the step was left out
            self.scheduler.step()

    def end_step(self, loss: Any, rate: float) -> None:
        """Keep the books of a step; write a checkpoint if it is time."""
        self.step += 1
        self._pending.append({"step": self.step, "epoch": self.epoch + 1, "loss": loss, "lr": rate})
        if len(self._pending) >= self.log_every:
            self.flush()
        self.call("on_step_end")
        if self.checkpoint_every is not None and self.step % self.checkpoint_every == 0 and self.batch != _length(self.loader):
            self.save()

    def end_epoch(self) -> None:
        """Validate, step the scheduler, tell the callbacks, write a checkpoint."""
        self.flush()
        results: dict[str, Any] = {"epoch": self.epoch + 1, "train_loss": self._sum / self._count if self._count else float("nan")}
        for name, batches in self.validation.items():
            results |= {f"{name}_{key}": value for key, value in self.evaluate(batches).items()}
        results["lr"] = self.optimizer.param_groups[0]["lr"]
        results["seconds"] = time.perf_counter() - self._started
        self.results = results
        self.history.append(numbers(results))
        if self.scheduler is not None and self.scheduler_every == "epoch":
            self.scheduler.step(*[self.result()] if self.scheduler.wants_metric else [])
        self.epoch, self.batch, self._sum, self._count = self.epoch + 1, 0, 0.0, 0
        value = self.result()
        better = improves(value, self._best, self.mode)
        if better:
            self._best = value
        self.call("on_epoch_end", results)
        self.save(best=better)

    def evaluate(self, loader: Iterable[Any]) -> dict[str, Any]:
        """Give the mean loss over batches, each weighed by its length, and the metrics; of the averaged weights where there are such.

        Parameters
        ----------
        loader : iterable
            Gives batches.

        Returns
        -------
        dict
            "loss", and the metrics by name: numbers, or arrays of NumPy.
        """
        model = self.evaluated
        training = model.training
        model.eval()
        total, count = None, 0
        for metric in self.metrics.values():
            metric.reset()
        try:
            with ad.no_grad():
                for batch in loader:
                    with self.precision():
                        loss, output, target = self.forward(model, batch)
                    number = _samples(target)
                    loss = raw(loss) * number
                    total, count = loss if total is None else total + loss, count + number
                    for metric in self.metrics.values():
                        metric.update(raw(output), raw(target))
        finally:
            model.train(training)
        mean = float("nan") if total is None else float(total) / count
        return {"loss": mean} | {name: metric.compute() for name, metric in self.metrics.items()}

    # --- what it is made of ---------------------------------------------------------------------------------------------------------------
    @property
    def evaluated(self) -> Module:
        """The model whose quality counts: the averaged one, where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def precision(self) -> AbstractContextManager[Any]:
        """Give the context in which model and loss are computed."""
        return nullcontext() if self.amp is None else autocast(dtype=self.amp)

    def to_model(self, batch: Any) -> Any:
        """Give a batch in the library and on the device of the model's parameters."""
        home = self._home or self._find_home()
        if isinstance(batch, Mapping):
            return {name: self.to_model(part) for name, part in batch.items()}
        if isinstance(batch, list | tuple):
            return [self.to_model(part) for part in batch]
        return batch if isinstance(batch, Array) or lookup(batch) is None else move(batch, home)

    def _find_home(self) -> Place:
        first = next((p.payload for p in self.model.parameters() if not is_lazy(p)), None)
        if first is None:
            return Place()
        backend = backend_of(first)
        self._home = Place(backend, None, None if backend.name == "numpy" else backend.device(first))
        return self._home

    def _batches(self) -> Iterator[Any]:
        """Iterate over what is left of the epoch; a loader without a state is gone through from its start."""
        batches = iter(self.loader)
        return batches if hasattr(self.loader, "state_dict") else itertools.islice(batches, self.batch, None)

    def call(self, moment: str, *args: Any) -> None:
        """Tell all callbacks."""
        for hook in self._hooks[moment]:
            hook(self, *args)

    def flush(self) -> None:
        """Turn the losses of the last steps into numbers, and tell the callbacks."""
        if self._pending:
            records, self._pending = self._pending, []
            for record in records:
                record["loss"] = float(record["loss"])
                self._sum, self._count = self._sum + record["loss"], self._count + 1
            self.call("on_log", records)

    def result(self, name: str | None = None) -> float:
        """Give a result of the last epoch: by default what ``monitor`` names."""
        results = self.history[-1]
        name = name or self.monitor or next((f"{key}_loss" for key in self.validation), "train_loss")
        if name not in results or not isinstance(results[name], int | float):
            numbers = [key for key, value in results.items() if isinstance(value, int | float)]
            near = difflib.get_close_matches(name, numbers, 1)
            raise KeyError(f"there is no result {name!r}{f'; {near[0]!r} is near' if near else ''}. There are {', '.join(numbers)}")
        return float(results[name])


def raw(x: Any) -> Any:
    """Give what an array holds; in lists, tuples and dicts too."""
    if isinstance(x, list | tuple):
        return [raw(part) for part in x]
    if isinstance(x, Mapping):
        return {name: raw(part) for name, part in x.items()}
    return x.payload if isinstance(x, Array) else x


def _defines(callback: Callback, name: str) -> bool:
    return getattr(type(callback), name, None) is not getattr(Callback, name) or name in vars(callback)


def _recorded(loss: Any) -> Any:
    if not isinstance(loss, Array):
        raise TypeError(
            f"Trainer: the loss is a {type(loss).__name__} without gradient: compute it from the model's output, with its functions"
        )
    return loss


def _samples(target: Any) -> int:
    """Give how many samples a batch has, by its target, or by the first part of that."""
    while isinstance(target, list | tuple | Mapping):
        target = next(iter(target.values() if isinstance(target, Mapping) else target))
    return int(target.shape[0]) if getattr(target, "shape", ()) else 1


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None
