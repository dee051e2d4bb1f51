"""Batches a second beside torch's DataLoader, and the memory of workers and of mapped files.

In memory: 60,000 images of 28 by 28 bytes with labels, batches of 128, shuffled; each batch is turned into normalised float32 when it has come,
on both sides. With two workers, the dataset normalises each image by itself, in the same lines of NumPy on both sides. Epochs take turns, and a
ratio is formed for each pair. Workers are processes that stay; time is that on the wall there, and every core may be used.

Memory is counted in shares: what several processes use counts for each of them in part, so that it is counted once.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import BenchmarkError, Row, Spread, in_process, interleave, ratio, rss, torch_or_none

BATCH = 128
MEAN, DEVIATION = 0.2860 * 255, 0.3530 * 255


class Images:
    """Images and labels, of which each image is normalised by itself."""

    def __init__(self, images: Any, labels: Any) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index].astype("float32")
        image -= MEAN
        image /= DEVIATION
        return image, self.labels[index]


def arrays(count: int) -> tuple[Any, Any]:
    """Give random images and labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), rng.integers(0, 10, count)


def normalised(loader: Any, to_float: Callable[[Any], Any]) -> Callable[[], None]:
    """Give what goes through an epoch and normalises each batch."""

    def epoch() -> None:
        for images, _ in loader:
            batch = to_float(images)
            batch -= MEAN
            batch /= DEVIATION

    return epoch


def through(loader: Any) -> Callable[[], None]:
    """Give what goes through an epoch."""

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def rates(workload: str, times: dict[str, list[float]], batches: int, bar: float) -> Row:
    """Make the row of batches a second from the seconds of epochs."""
    ours = [batches / seconds for seconds in times["ours"]]
    if not times.get("torch"):
        return Row(workload, "batches/s", median(ours), "torch", bar=bar, at_least=True, note="not installed")
    theirs = [batches / seconds for seconds in times["torch"]]
    return Row(workload, "batches/s", median(ours), "torch", median(theirs), ratio(ours, theirs), bar, at_least=True)


def in_memory(rounds: int, smoke: bool) -> list[Row]:
    """Time epochs without workers, and with two."""
    from agnostic_ad.nn.data import DataLoader, TensorDataset

    torch = torch_or_none()
    images, labels = arrays(640 if smoke else 60_000)
    batches = -(-len(images) // BATCH)
    made: dict[str, Any] = {
        "ours": normalised(DataLoader(TensorDataset(images, labels), BATCH, True, seed=0), lambda x: x.astype("float32"))
    }
    if torch is not None:
        their_data = torch.utils.data.TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
        made["torch"] = normalised(torch.utils.data.DataLoader(their_data, BATCH, True), lambda x: x.to(torch.float32))
    rows = [rates("in memory, no workers", interleave(made, rounds, stretch=0), batches, 3)]

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    data = Images(images, labels)
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "num_workers": 2, "persistent_workers": True}
    loaders = {"ours": DataLoader(data, seed=0, **options)}
    if torch is not None:
        loaders["torch"] = torch.utils.data.DataLoader(data, **options)
    made = {name: through(loader) for name, loader in loaders.items()}
    for epoch in made.values():
        epoch()  # workers start
    times = interleave(made, rounds, stretch=0, clock=time.perf_counter)
    rows.append(rates("2 processes, each image by itself", times, batches, 1.2))
    return rows


# --- memory -----------------------------------------------------------------------------------------------------------------------------
def shares() -> float:
    """Give the memory of this process and of all below it, in MB of 10^6 bytes; what they have in common counts once."""
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            waiting += [int(child) for task in Path(f"/proc/{process}/task").iterdir() for child in (task / "children").read_text().split()]
        except OSError:
            continue  # it has ended
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total * 1024 / 1e6


def beside_an_array(workers: int, size: int) -> float:
    """Give the memory in the middle of an epoch over an array of a size in bytes."""
    import numpy as np

    from agnostic_ad.nn.data import DataLoader, TensorDataset

    array = np.random.default_rng(0).integers(0, 256, (size // 784, 784), dtype=np.uint8)
    batches = iter(DataLoader(TensorDataset(array), BATCH, shuffle=True, seed=0, num_workers=workers))
    for _ in range(min(2000, len(array) // BATCH // 2)):
        next(batches)
    return shares()


def over_a_mapped_file(size: int) -> dict[str, float]:
    """Give by how much an epoch over a file of a size in bytes made the process grow at most, for each way to read it."""
    import numpy as np

    from agnostic_ad.nn.data import DataLoader, TensorDataset, datasets

    most = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.npy")
        file = np.lib.format.open_memmap(path, "w+", np.uint8, (size >> 14, 1 << 14))
        file[-1] = 1
        file.flush()
        del file
        for name, data in (("NumpyFile", datasets.NumpyFile(path)), ("numpy.memmap", TensorDataset(np.load(path, mmap_mode="r")))):
            before, most[name] = rss(), 0.0
            for _ in DataLoader(data, BATCH, shuffle=True, seed=0):
                most[name] = max(most[name], rss() - before)
    return most


def memory(smoke: bool) -> list[Row]:
    """Measure memory, each figure in processes of its own."""
    if not Path("/proc/self/smaps_rollup").exists():
        raise BenchmarkError("shares of memory are read from /proc/self/smaps_rollup, which this system does not have")
    size = 50_000_000 if smoke else 1_000_000_000
    alone, with_two = (in_process("data.beside_an_array", workers=workers, size=size) for workers in (0, 2))
    more = Spread.single(with_two - alone)
    rows = [Row(f"2 processes beside an array of {size / 1e9:g} GB", "MB", with_two, "none", alone, more, 50, relative=False)]
    size = 1 << 27 if smoke else 1 << 32
    for name, most in in_process("data.over_a_mapped_file", size=size).items():
        rows.append(
            Row(f"an epoch over a file of {size / 1e9:.1f} GB, {name}", "MB", most, value=Spread.single(most), bar=300, relative=False)
        )
    return rows


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure; ``rounds`` is the number of epochs of each."""
    return [*in_memory(rounds or 9, smoke), *memory(smoke)]
