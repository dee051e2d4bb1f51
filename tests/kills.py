"""A small run that is killed at random moments, and goes on each time. ``python kills.py FOLDER KILLS SEED [clock]``; prints what came of it.

One process imports, and forks a child for each attempt, so that an attempt costs little. A child counts the calls that Python makes, and kills itself
at a number drawn before (with ``clock``, its parent kills it after a time): in the middle of a step, of validation, of writing a checkpoint.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad import nn


class Noisy(nn.data.Dataset):
    """Draws from all that code of users draws from."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x, self.y = rng.normal(size=(44, 6)).astype("float32"), rng.integers(0, 3, 44)
        self.own = np.random.default_rng(7)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: Any) -> Any:
        noise = self.own.normal() + np.random.random() + random.random()
        return self.x[i] + np.float32(0.1 * noise), self.y[i]


def train(out: Path, **options: Any) -> None:
    ad.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    optimizer = nn.optim.AdamW(model.parameters(), lr=0.01)
    trainer = nn.Trainer(
        model,
        nn.CrossEntropyLoss(),
        optimizer,
        scheduler=nn.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=24),
        scheduler_every="step",
        metrics=[nn.trainer.Accuracy()],
        callbacks=[nn.trainer.TensorBoard(), nn.trainer.EarlyStopping(patience=50)],
        clip_norm=1.0,
        accumulate=2,
        ema=0.9,
        out=out,
        checkpoint_every=2,
        keep=2,
        monitor="val_loss",
    )
    data = Noisy()
    trainer.fit(nn.data.DataLoader(data, 4, shuffle=True), 4, nn.data.DataLoader(data, 11), **options)


def attempt(out: Path, calls: int | None = None, seconds: float | None = None) -> bool:
    """Train, or go on, in a process of its own; tell whether it came to the end. After so many calls or seconds it is killed."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if calls is not None:
                left = calls

                def count(*_: Any) -> None:
                    nonlocal left
                    left -= 1
                    if not left:
                        os.kill(os.getpid(), signal.SIGKILL)

                sys.setprofile(count)
            train(out, resume="auto")
            sys.setprofile(None)
            if calls is not None and out.name == "whole":
                (out.parent / "calls").write_text(str(calls - left))
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("training failed")
    return os.WIFEXITED(status)


def left_behind(out: Path) -> dict[str, Any]:
    """Give what a run has made, without times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        "weights": (out / "model.safetensors").read_bytes().hex(),
        "log": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        "rows": len((out / "log.csv").read_text().splitlines()),
        "events": (out / "events.out.tfevents").stat().st_size,
        "checkpoints": sorted(p.name for p in (out / "checkpoints").iterdir()),
    }


def main(folder: Path, kills: int, seed: int, clock: bool) -> None:
    rng = random.Random(seed)
    start = time.perf_counter()
    attempt(folder / "whole", 10**9)
    took = time.perf_counter() - start
    calls = int((folder / "calls").read_text())
    done = 0
    while done < kills:
        if clock:
            finished = attempt(folder / "killed", seconds=rng.uniform(0, 0.5 * took))
        else:
            finished = attempt(folder / "killed", calls=rng.randrange(1, calls))
        done += not finished
        if finished:  # killed too late: begin anew, so that every kill falls into a run
            compare(folder)
            for path in (folder / "killed").glob("*"):
                path.rename(folder / f"{path.name}.{done}.{rng.random()}")
    while not attempt(folder / "killed", calls=10**9):
        pass
    compare(folder)
    print(f"{done} kills, the same")


def compare(folder: Path) -> None:
    whole, killed = left_behind(folder / "whole"), left_behind(folder / "killed")
    for name in whole:
        if whole[name] != killed[name]:
            raise SystemExit(f"{name} differ: {str(whole[name])[:2000]} and {str(killed[name])[:2000]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), "clock" in sys.argv[4:])
