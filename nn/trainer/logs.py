"""What a run leaves on the way: lines of JSON, a table, TensorBoard's events, a bar that moves.

The logs are files in the trainer's ``out``. A checkpoint holds how long they were; a run that goes on from it cuts off what came after, so that
no step stands there twice.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from agnostic_ad.nn.trainer import events
from agnostic_ad.nn.trainer.callbacks import Callback

if TYPE_CHECKING:
    from agnostic_ad.nn.trainer.trainer import Trainer

__all__ = ["CSVLog", "FileLog", "JSONLog", "ProgressBar", "TensorBoard", "numbers"]


def numbers(results: dict[str, Any]) -> dict[str, Any]:
    """Give those results that are single numbers."""
    return {name: value for name, value in results.items() if isinstance(value, int | float)}


class FileLog(Callback):
    """A log in a file of the trainer's ``out``, which grows, and is cut back to where a checkpoint left it.

    Attributes
    ----------
    filename : str
        Its name, in ``out``.
    file : file
        Open for bytes, from ``on_start`` to ``on_close``.
    """

    filename = "log"

    def __init__(self) -> None:
        self.file: IO[bytes] | None = None
        self._size = 0

    def on_start(self, trainer: Trainer) -> None:
        if trainer.out is None:
            raise ValueError(f"{type(self).__name__} writes into the trainer's folder: give Trainer(out=...)")
        trainer.out.mkdir(parents=True, exist_ok=True)
        self.file = (trainer.out / self.filename).open("ab")
        self.file.truncate(min(self._size, self.file.tell()))
        self.file.seek(0, 2)

    def on_close(self, trainer: Trainer) -> None:
        if self.file is not None:
            self._size = self.file.tell()
            self.file.close()
            self.file = None

    def state_dict(self) -> dict[str, Any]:
        if self.file is not None:
            self.file.flush()
            self._size = self.file.tell()
        return {"size": self._size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._size = state["size"]

    def write(self, data: bytes) -> None:
        """Append bytes."""
        assert self.file is not None
        self.file.write(data)


class JSONLog(FileLog):
    """``log.jsonl``: a line for the loss and rate of each step, and one for the results of each epoch. NaN and infinities are null."""

    filename = "log.jsonl"

    def on_log(self, trainer: Trainer, records: Sequence[dict[str, Any]]) -> None:
        self.write("".join(f"{json.dumps(_finite(each))}\n" for each in records).encode())

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        self.write(f"{json.dumps(_finite(numbers(results)))}\n".encode())
        assert self.file is not None
        self.file.flush()


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}


class CSVLog(FileLog):
    """``log.csv``: a row for the results of each epoch, below their names."""

    filename = "log.csv"

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        found = numbers(results)
        assert self.file is not None
        if not self.file.tell():
            self.write(f"{','.join(found)}\n".encode())
        self.write(f"{','.join(map(repr, found.values()))}\n".encode())
        self.file.flush()


class TensorBoard(FileLog):
    """``events.out.tfevents``: what TensorBoard shows of a folder of runs. Nothing needs to be installed to write it.

    Losses and rates of steps have the tags ``step/loss`` and ``step/lr``; results of epochs ``epoch/train_loss`` and so on.
    """

    filename = "events.out.tfevents"

    def on_start(self, trainer: Trainer) -> None:
        super().on_start(trainer)
        assert self.file is not None
        if not self.file.tell():
            self.write(events.HEADER)

    def on_log(self, trainer: Trainer, records: Sequence[dict[str, Any]]) -> None:
        now = time.time()
        for each in records:
            self.scalars({"step/loss": each["loss"], "step/lr": each["lr"]}, each["step"], now)

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        found = {f"epoch/{name}": value for name, value in numbers(results).items() if name != "epoch"}
        self.scalars(found, trainer.epoch, time.time())
        assert self.file is not None
        self.file.flush()

    def scalars(self, values: dict[str, float], step: int, now: float) -> None:
        """Write numbers of a step, or of an epoch, at a time."""
        self.write(events.record(events.scalars(values, step, now)))


class ProgressBar(Callback):
    """A bar on the terminal, with the rate and the time left; after each epoch a line of its results. Needs rich (the extra ``train``).

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to draw; by default the standard output. The bar itself is drawn only on terminals.
    """

    def __init__(self, console: Any = None) -> None:
        self._console = console
        self._bar: Any = None

    def on_start(self, trainer: Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

        class Rate(ProgressColumn):  # type: ignore[misc]
            def render(self, task: Any) -> str:
                return f"{task.speed:,.0f} batches/s" if task.speed else ""

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        console = self._console or Console(soft_wrap=True)
        self._bar = Progress(*columns, console=console, transient=True, refresh_per_second=4, disable=not console.is_terminal)
        self._bar.start()

    def on_epoch_start(self, trainer: Trainer) -> None:
        try:
            total: int | None = len(trainer.loader)
        except TypeError:
            total = None
        self._task = self._bar.add_task(f"epoch {trainer.epoch + 1}/{trainer.epochs}", total=total, completed=trainer.batch, loss="")

    def on_step_end(self, trainer: Trainer) -> None:
        if not self._bar.disable:
            self._bar.update(self._task, completed=trainer.batch)

    def on_log(self, trainer: Trainer, records: Sequence[dict[str, Any]]) -> None:
        self._bar.update(self._task, loss=f"loss {records[-1]['loss']:.4f}")

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        self._bar.refresh()
        self._bar.remove_task(self._task)
        self._bar.console.print(f"epoch {trainer.epoch}/{trainer.epochs}: {self.line(results)}", highlight=False)

    def line(self, results: dict[str, Any]) -> str:
        """Give the line of an epoch's results."""
        texts = []
        for name, value in numbers(results).items():
            if name.endswith("accuracy"):
                texts.append(f"{name.replace('_', ' ')} {value:.2%}")
            elif name not in ("epoch", "lr", "seconds"):
                texts.append(f"{name.replace('_', ' ')} {value:.4f}")
        return ", ".join([*texts, f"{results['seconds']:.1f} s"])

    def on_close(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.stop()
