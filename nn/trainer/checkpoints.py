"""Checkpoints in a folder: the last few and the best, each there whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from agnostic_ad.nn.serialization import FileError
from agnostic_ad.nn.trainer.states import CheckpointError, load_state, save_state

__all__ = ["CheckpointWarning", "Checkpoints"]

_NAME = re.compile(r"step-(\d+)\.safetensors")
_TEMPORARY = re.compile(r"\.(step-\d+|best)\.safetensors\..*")  # what a process that was killed while it wrote left behind


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and another one is used."""


class Checkpoints:
    """The checkpoints of a run in a folder: ``step-00000120.safetensors``, and so on, and ``best.safetensors``.

    Each is written to a temporary file, synced to the disk, and renamed; then the folder is synced. So whatever happens, a file with such a name
    is whole, and what was there before goes only after that.

    Parameters
    ----------
    folder : path
        Where they lie; made when the first is written.
    keep : int
        How many of the last to keep.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> checkpoints = nn.trainer.Checkpoints("run/checkpoints", keep=2)
    >>> for step in (10, 20, 30):
    ...     checkpoints.save({"step": step}, step)
    >>> [path.name for path in checkpoints.paths()]
    ['step-00000020.safetensors', 'step-00000030.safetensors']
    >>> path, state = checkpoints.newest()
    >>> state
    {'step': 30}
    """

    def __init__(self, folder: str | os.PathLike[str], keep: int = 3) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValueError(f"Checkpoints: keep is an integer of 1 or more, not {keep!r}")
        self.folder, self.keep = Path(folder), keep

    @property
    def best(self) -> Path:
        """Where the best one lies, if there is one."""
        return self.folder / "best.safetensors"

    def paths(self) -> list[Path]:
        """Give the files of the last ones, the newest last."""
        found = [(int(match[1]), path) for path in self.folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def save(self, state: Any, step: int, best: bool = False) -> None:
        """Write a checkpoint, and let the oldest go.

        Parameters
        ----------
        state : tree
            As `save_state` takes it.
        step : int
            How many steps have been taken.
        best : bool
            Whether it is the best so far.

        Raises
        ------
        CheckpointError
            If it cannot be written, for the disk is full for instance. The others are whole then.
        """
        path = self.folder / f"step-{step:08d}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if best:  # first: a run that goes on from the other would not write this one again
                save_state(state, self.best)
            save_state(state, path)
        except OSError as error:
            there = self.paths()
            kept = f"; {there[-1].name} is whole" if there else ""
            raise CheckpointError(f"checkpoint {path} cannot be written: {error.strerror or error}{kept}") from error
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[Path, Any] | None:
        """Give the newest good checkpoint and its state; None where there is none. One that is damaged is passed over, with a warning."""
        for path in reversed(self.paths()):
            try:
                return path, load_state(path)
            except (FileError, OSError) as error:
                warnings.warn(f"checkpoint left out, and the one before it used: {error}", CheckpointWarning, stacklevel=2)
        return None

    def begin(self) -> None:
        """Make the folder ready for a new run: checkpoints of an earlier one go to the folder ``….old``, in place of what is there."""
        self.tidy()
        if self.paths() or self.best.exists():
            old = self.folder.with_name(f"{self.folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            self.folder.rename(old)

    def tidy(self) -> None:
        """Remove what processes that were killed left half written."""
        for path in self.folder.glob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
