"""How a trainer writes down all that it is in the middle of, and goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnostic_ad.nn.amp import GradScaler
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.nn.optim.swa_utils import AveragedModel
from agnostic_ad.nn.trainer.callbacks import Callback
from agnostic_ad.nn.trainer.checkpoints import Checkpoints
from agnostic_ad.nn.trainer.states import CheckpointError, load_state, random_state, set_random_state

__all__ = ["Resumable"]

_BOOKS = ("epoch", "step", "batch", "history", "stop", "_best", "_sum", "_count")


class Resumable:
    """The part of `Trainer` that checkpoints are about."""

    model: Module
    optimizer: Optimizer
    scheduler: Any
    scaler: GradScaler
    averaged: AveragedModel | None
    loader: Any
    validation: dict[str, Any]
    callbacks: list[Callback]
    checkpoints: Checkpoints | None
    resumed_from: Path | None
    step: int
    _pending: list[dict[str, Any]]

    def flush(self) -> None:
        """Turn the losses of the last steps into numbers."""
        raise NotImplementedError

    def save(self, best: bool = False) -> None:
        """Write a checkpoint into ``out``, if there is one."""
        if self.checkpoints is not None:
            self.flush()
            self.checkpoints.save(self.state_dict(), self.step, best)

    def state_dict(self) -> dict[str, Any]:
        """Give all that training must have to go on as if nothing had happened."""
        state: dict[str, Any] = {name: part.state_dict() for name, part in self._parts().items()}
        state["loaders"] = {name: each.state_dict() for name, each in self._loaders().items()}
        state["callbacks"] = [callback.state_dict() for callback in self.callbacks]
        state["made_of"] = self._made_of()
        state["books"] = {name: getattr(self, name) for name in _BOOKS}
        state["random"] = random_state()  # last: a loader may have drawn its seed just now
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave, for a model, optimizer and so on of the same kinds."""
        theirs, ours = state["made_of"], self._made_of()
        if theirs != ours:
            differing = [
                f"{k}: {theirs.get(k)} there, {ours.get(k)} here" for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k)
            ]
            raise CheckpointError(f"the checkpoint is of another run: {'; '.join(differing)}")
        try:
            self.model.load_state_dict(state["model"])
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is of another model: {error}") from None
        try:
            for name, part in reversed(self._parts().items()):  # a scheduler before its optimizer, which knows the rates
                part.load_state_dict(state[name])
            for name, loader in self._loaders().items():
                loader.load_state_dict(state["loaders"][name])
        except ValueError as error:
            raise CheckpointError(f"the checkpoint is of another run: {error}") from None
        for callback, kept in zip(self.callbacks, state["callbacks"], strict=True):
            callback.load_state_dict(kept)
        for name in _BOOKS:
            setattr(self, name, state["books"][name])
        self._pending = []
        set_random_state(state["random"])

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler, "scaler": self.scaler, "ema": self.averaged}
        return {name: part for name, part in parts.items() if part is not None}

    def _made_of(self) -> dict[str, Any]:
        made: dict[str, Any] = {name: type(part).__name__ for name, part in self._parts().items() if name != "model"}
        made["scaler"] = self.scaler.is_enabled()
        made["callbacks"] = [type(callback).__name__ for callback in self.callbacks]
        made["loaders"] = sorted(self._loaders())
        return made

    def _loaders(self) -> dict[str, Any]:
        """Give the loaders that know where they are."""
        loaders = {"": self.loader, **self.validation}
        return {name: loader for name, loader in loaders.items() if hasattr(loader, "state_dict")}

    def _resume(self, resume: Any) -> None:
        if resume is None:
            if self.checkpoints is not None and not self.step:
                self.checkpoints.begin()
            return
        if resume != "auto":
            found: tuple[Any, Any] | None = Path(resume), load_state(resume)
        elif self.checkpoints is None:
            raise ValueError('Trainer.fit: resume="auto" needs out, the folder where checkpoints lie')
        else:
            self.checkpoints.tidy()
            found = self.checkpoints.newest()
        if found is not None:
            try:
                self.load_state_dict(found[1])
            except CheckpointError as error:
                raise CheckpointError(f"{found[0]}: {error}") from None
        self.resumed_from = found and found[0]
