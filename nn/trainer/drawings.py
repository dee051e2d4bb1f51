"""Pictures of a run: its losses and results, and which classes are taken for which. They need matplotlib (the extra ``train``)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agnostic_ad.nn.trainer.callbacks import Callback
from agnostic_ad.nn.trainer.logs import JSONLog

if TYPE_CHECKING:
    from agnostic_ad.nn.trainer.trainer import Trainer

__all__ = ["ConfusionPlot", "Curves", "Drawing", "draw_confusion", "draw_curves"]


def _figure(width: float, height: float) -> Any:
    """Make a figure that belongs to no window and no global state."""
    import matplotlib.figure
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class Drawing(Callback):
    """A picture in the trainer's ``out``, drawn anew at the end, and after an epoch if the last one is older than ten seconds.

    Attributes
    ----------
    filename : str
        Its name, in ``out``.
    """

    filename = "drawing.png"

    def on_start(self, trainer: Trainer) -> None:
        if trainer.out is None:
            raise ValueError(f"{type(self).__name__} draws into the trainer's folder: give Trainer(out=...)")
        self._drawn = time.perf_counter()
        self._waiting = False

    def on_epoch_end(self, trainer: Trainer, results: dict[str, Any]) -> None:
        self._waiting = True
        if time.perf_counter() - self._drawn > 10:
            self._draw(trainer)

    def on_close(self, trainer: Trainer) -> None:
        if getattr(self, "_waiting", False):
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        assert trainer.out is not None
        self.draw(trainer, trainer.out / self.filename)
        self._drawn, self._waiting = time.perf_counter(), False

    def draw(self, trainer: Trainer, path: Path) -> None:
        """Draw; a subclass says what."""
        raise NotImplementedError(f"{type(self).__name__} has no draw(trainer, path): define the picture")


class Curves(Drawing):
    """``loss.png``: the loss of every step and every epoch, and below it each other result that validation gave."""

    filename = "loss.png"

    def draw(self, trainer: Trainer, path: Path) -> None:
        draw_curves(path.with_name(JSONLog.filename), path)


def draw_curves(log: str | Path, path: str | Path) -> None:
    """Draw what a log says of a run.

    Parameters
    ----------
    log : path
        ``log.jsonl`` of a trainer's folder.
    path : path
        The picture.
    """
    steps, epochs = [], []
    for line in Path(log).read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "step" in record:
            steps.append((record["step"], np.nan if record["loss"] is None else record["loss"]))
        else:
            epochs.append({name: np.nan if value is None else value for name, value in record.items()} | {"step": len(steps)})
    names = [name for name in epochs[0] if name not in ("epoch", "step", "lr", "seconds")] if epochs else []
    losses = [name for name in names if name.endswith("loss")]
    kinds: dict[str, list[str]] = {}
    for name in names:
        if name not in losses:
            kinds.setdefault(name.partition("_")[2] or name, []).append(name)
    figure = _figure(7, 3 + 2 * len(kinds))
    first, *others = figure.subplots(1 + len(kinds), 1, sharex=True, squeeze=False, height_ratios=[3] + [2] * len(kinds))[:, 0]
    ends = [record["step"] for record in epochs]
    if steps:
        first.plot(*zip(*steps), linewidth=0.6, alpha=0.4, color="gray", label="each step")
    for name in losses:
        first.plot(ends, [record[name] for record in epochs], "o-", markersize=3, label=name.replace("_", " "))
    values = [record[name] for record in epochs for name in losses] + [loss for _, loss in steps[len(steps) // 20 :]]
    finite = [value for value in values if np.isfinite(value)]
    first.set(ylabel="loss", ylim=(min(0, *finite) if finite else None, 1.05 * max(finite) if finite and max(finite) > 0 else None))
    first.legend()
    for axes, (kind, members) in zip(others, kinds.items()):
        for name in members:
            axes.plot(ends, [record[name] for record in epochs], "o-", markersize=3, label=name.replace("_", " "))
        axes.set_ylabel(kind.replace("_", " "))
        axes.legend()
    (others or [first])[-1].set_xlabel("step")
    for axes in (first, *others):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


class ConfusionPlot(Drawing):
    """``confusion.png``: the last epoch's `ConfusionMatrix`.

    Parameters
    ----------
    classes : list of str, optional
        The names of the classes.
    result : str, optional
        The result to draw; by default the first that is a square array.
    """

    filename = "confusion.png"

    def __init__(self, classes: Sequence[str] | None = None, result: str | None = None) -> None:
        self.classes, self.result = classes, result

    def draw(self, trainer: Trainer, path: Path) -> None:
        matrices = {name: value for name, value in trainer.results.items() if np.ndim(value) == 2}
        name = self.result or next(iter(matrices), None)
        if name not in matrices:
            raise ValueError(
                "ConfusionPlot: there is no confusion matrix among the results: give Trainer(metrics=[..., ConfusionMatrix(n)])"
            )
        draw_confusion(matrices[name], path, self.classes)


def draw_confusion(matrix: Any, path: str | Path, classes: Sequence[str] | None = None) -> None:
    """Draw how often each class (row) was taken for each (column).

    Parameters
    ----------
    matrix : array of int
        Shape (classes, classes).
    path : path
        The picture.
    classes : sequence of str, optional
        Their names.
    """
    counts = np.asarray(matrix)
    n = len(counts)
    names = [str(name) for name in classes] if classes is not None else [str(i) for i in range(n)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(3 + 0.45 * n, 14)
    figure = _figure(size + 1, size)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="part of the class", shrink=0.8)
    if n <= 40:
        axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n), names)
    if n <= 20:
        for i in range(n):
            for j in range(n):
                if counts[i, j]:
                    axes.text(
                        j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=7, color="white" if share[i, j] > 0.5 else "black"
                    )
    right = np.trace(counts) / max(counts.sum(), 1)
    axes.set(xlabel="taken for", ylabel="class", title=f"{right:.2%} of {counts.sum():,} right")
    figure.savefig(path, dpi=120)
