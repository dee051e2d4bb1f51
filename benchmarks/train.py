"""A network 784-128-10 on Fashion-MNIST: batch 128, Adam with rate 1e-3, three epochs.

Beside each other: ``agnostic_ad.nn``, Variables alone, the same loop by hand in NumPy, and torch. They train by turns on the same
batches, some fifty at a time; a ratio is formed for each such stretch. Cutting a batch out of the images counts, reading the
files does not. Where the data are not on this machine, random images of the same shape take their place, and the accuracy
means nothing.
"""

from __future__ import annotations

import gc
import gzip
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Spread, compare, torch_or_none, turns

FOLDERS = ("/usr/share/datasets/fashion-mnist", "/usr/share/dataset-fashion-mnist", "~/.cache/agnostic_ad/fashion-mnist")
FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
EPOCHS, BATCH, BAR = 3, 128, 0.85


def folder() -> Path | None:
    """Find the folder of Fashion-MNIST's four files; ``FASHION_MNIST`` in the environment names another."""
    places = (os.environ.get("FASHION_MNIST"), *FOLDERS)
    found = (Path(place).expanduser() for place in places if place)
    return next((each for each in found if all((each / name).exists() for name in FILES)), None)


def read(path: Path) -> Any:
    """Read an IDX file of bytes."""
    import numpy as np

    content = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def images(smoke: bool) -> tuple[bool, list[Any]]:
    """Give whether the data are the real ones; training images and labels, test images and labels."""
    import numpy as np

    place = None if smoke else folder()
    if place is not None:
        x, y, xt, yt = (read(place / name) for name in FILES)
        return True, [
            x.reshape(-1, 784) / np.float32(255),
            y.astype("int64"),
            xt.reshape(-1, 784) / np.float32(255),
            yt.astype("int64"),
        ]
    rng = np.random.default_rng(0)
    centres, made = rng.random((10, 784), dtype="float32"), []
    for count in (1_000, 100) if smoke else (60_000, 10_000):
        labels = rng.integers(0, 10, count)
        made += [0.5 * centres[labels] + 0.5 * rng.random((count, 784), dtype="float32"), labels]
    return False, made


def contestants() -> tuple[dict[str, Any], str]:
    """Give who takes part, and why ``agnostic_ad.nn`` does not where it does not."""
    import numpy as np

    from benchmarks.mlp import ByHand, OnVariables, WithModules, WithTorch, weights

    made: dict[str, Any] = {}
    absent = ""
    try:
        made["nn"] = WithModules(weights())
    except (ImportError, AttributeError) as error:
        absent = f"agnostic_ad.nn is not complete: {error}"
    made |= {"variables": OnVariables(np, weights()), "by hand": ByHand(np, weights())}
    if (torch := torch_or_none()) is not None:
        made["torch"] = WithTorch(torch, weights())
    return made, absent


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure; ``rounds`` is the number of turns in an epoch."""
    import numpy as np

    real, (x, y, xt, yt) = images(smoke)
    racing, absent = contestants()
    arrays = dict.fromkeys(racing, (x, y))
    if "torch" in racing:
        torch = torch_or_none()
        arrays["torch"] = (torch.from_numpy(x), torch.from_numpy(y))
    times: dict[str, list[float]] = {name: [] for name in racing}
    totals = dict.fromkeys(racing, 0.0)
    rng, round_ = np.random.default_rng(1), 0
    for contestant in racing.values():
        contestant.predict(x[:BATCH])  # warm
    for _ in range(1 if smoke else EPOCHS):
        batches = np.split(rng.permutation(len(x)), range(BATCH, len(x), BATCH))
        stretches = rounds or (2 if smoke else 10)
        for stretch in np.array_split(np.arange(len(batches)), min(stretches, len(batches))):
            round_ += 1
            for name in turns(list(racing), round_):
                step, (images_, labels) = racing[name].step, arrays[name]
                gc.collect()
                start = time.process_time()
                for number in stretch:
                    batch = batches[number]
                    step(images_[batch], labels[batch])
                elapsed = time.process_time() - start
                totals[name] += elapsed
                times[name].append(elapsed / len(stretch))
    right = {name: float(np.mean(np.asarray(contestant.predict(xt)) == yt)) for name, contestant in racing.items()}
    rows = []
    for name, label in (("nn", "agnostic_ad.nn"), ("variables", "Variables alone")):
        main = name == "nn"
        if name not in racing:
            rows.append(Row(f"{label}: a step", "ms", None, bar=2, note=absent))
            continue
        rows += [
            compare(f"{label}: a step", times, name, "by hand", unit="ms", scale=1e3, bar=2 if main else None),
            compare(f"{label}: a step", times, name, "torch", unit="ms", scale=1e3),
            Row(
                f"{label}: all steps",
                "s",
                totals[name],
                "by hand",
                totals["by hand"],
                Spread.single(totals[name] / totals["by hand"]),
            ),
            Row(
                f"{label}: test accuracy",
                "",
                right[name],
                "by hand",
                right["by hand"],
                Spread.single(right[name]),
                BAR if real else None,
                relative=False,
                at_least=True,
                note="" if real else "synthetic images: the figure means nothing",
            ),
        ]
    return rows
