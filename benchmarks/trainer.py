"""What `nn.Trainer` costs, beside the same loop written by hand: loader, model, loss, backward, optimizer, losses kept.

One set of weights and data for both, on NumPy. A turn is an epoch of 48 batches of 128 images. The second row of a network has all logs of
``agnostic-ad train`` (JSON, CSV, TensorBoard's events) beside; checkpoints are left out of it, since how often they are written is a choice.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Candidate, Row, compare, interleave

BATCH, BATCHES, BAR = 128, 48, 1.03


def candidates(kind: str, smoke: bool, folder: Path) -> dict[str, Candidate]:
    """Give the loops to compare."""
    import numpy as np

    import agnostic_ad as ad
    from agnostic_ad import nn
    from agnostic_ad.nn.trainer.models import cnn, mlp

    count = BATCH * (2 if smoke else BATCHES if kind == "mlp" else 6)
    rng = np.random.default_rng(0)
    data = nn.data.TensorDataset(rng.random((count, 1, 28, 28), dtype="float32"), rng.integers(0, 10, count))

    def parts() -> tuple[Any, Any, Any]:
        ad.manual_seed(0)
        model = (mlp if kind == "mlp" else cnn)((1, 28, 28), 10)
        return model, nn.CrossEntropyLoss(), nn.optim.Adam(model.parameters())

    loader = lambda: nn.data.DataLoader(data, BATCH, shuffle=True, seed=0)
    by_hand, batches = parts(), loader()

    def loop() -> list[float]:
        model, loss_fn, optimizer = by_hand
        losses = []
        model.train()
        for x, y in batches:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.data)
        return [float(loss) for loss in losses]

    plain, plain_batches = nn.Trainer(*parts()), loader()
    logged = nn.Trainer(*parts(), out=folder, callbacks=[nn.trainer.TensorBoard()])
    logged.checkpoints = None  # which fit() would write after every turn
    logged_batches = loader()
    made: dict[str, Candidate] = {
        "by hand": loop,
        "trainer": lambda: plain.fit(plain_batches, plain.epoch + 1),
        "with logs": lambda: logged.fit(logged_batches, logged.epoch + 1),
    }
    return made


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rows = []
    for kind, label in (("mlp", "784-128-10"), ("cnn", "two convolutions")):
        with tempfile.TemporaryDirectory() as folder:
            times = interleave(candidates(kind, smoke, Path(folder)), rounds or (2 if smoke else 40), stretch=0.0 if smoke else 0.1)
        rows.append(compare(f"{label}: nn.Trainer", times, "trainer", "by hand", unit="ms", scale=1e3, bar=BAR))
        rows.append(compare(f"{label}: with logs", times, "with logs", "by hand", unit="ms", scale=1e3))
    return rows
