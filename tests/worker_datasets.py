"""Datasets for the tests of workers: in a module that worker processes can import, and that imports nothing heavy."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Any

import numpy as np

from agnostic_ad.nn.data.dataset import DamagedSample, Dataset, IterableDataset
from agnostic_ad.nn.data.seeding import current_generator
from agnostic_ad.nn.data.workers import get_worker_info

MODULE_RNG = np.random.default_rng(0)


class Drawing(Dataset):
    """Samples that hold draws from generators of its own, and with ``shared`` from the functions of numpy.random and random too."""

    def __init__(self, n: int = 30, shared: bool = True) -> None:
        self.n, self.shared = n, shared
        self.parts = {"rngs": [np.random.default_rng(0), np.random.Generator(np.random.Philox(1))], "legacy": np.random.RandomState(2)}
        self.python = random.Random(3)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        rngs = self.parts["rngs"]
        own = [rngs[0].random(), rngs[1].normal(), self.parts["legacy"].rand(), self.python.random(), current_generator().random()]
        shared = [np.random.randn(), random.random()] if self.shared else []
        return {"index": index, "draws": np.asarray(own + shared)}


class Late(Dataset):
    """Makes its generator when it is first asked, from the system's noise."""

    def __init__(self) -> None:
        self.rng: Any = None

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        if self.rng is None:
            self.rng = np.random.default_rng()
        return self.rng.random()


class Rarely(Dataset):
    """Draws from numpy.random in its last samples only."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return np.random.random() if index >= 30 else float(index)


class OfModule(Dataset):
    """Draws from a generator that its module holds."""

    def __len__(self) -> int:
        return 12

    numbers = {"class": [np.random.default_rng(0)]}

    def __getitem__(self, index: int) -> Any:
        return from_module(index) + self.numbers["class"][0].random()


def from_module(index: int) -> float:
    """Draw."""
    return index + sum(MODULE_RNG.random() for _ in range(2))


class Counting(IterableDataset):
    """A stream of (number, draws); with ``share`` each worker gives its part."""

    def __init__(self, n: int = 30, share: bool = False, shared: bool = True) -> None:
        self.n, self.share, self.shared, self.rng = n, share, shared, np.random.default_rng(0)

    def __iter__(self) -> Any:
        info = get_worker_info() if self.share else None
        for number in range(self.n) if info is None else range(info.id, self.n, info.num_workers):
            yield number, self.rng.random(), np.random.random() if self.shared else 0.0


class AsksLate(IterableDataset):
    """Asks which worker it is in when it has given samples."""

    def __iter__(self) -> Any:
        for number in range(20):
            if number == 8:
                info = get_worker_info()
                assert info is None or info.id >= 0
            yield number


class Faulty(Dataset):
    """Does something bad at a sample."""

    def __init__(self, fault: str, at: int = 13) -> None:
        self.fault, self.at = fault, at

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        if index == self.at:
            match self.fault:
                case "raise":
                    raise KeyError("thirteen")
                case "inner":

                    class InnerError(Exception):
                        pass

                    raise InnerError("thirteen")
                case "damage":
                    raise DamagedSample(index, "a.png", "cut off", skip=True)
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "exit":
                    os._exit(7)
                case "hang":
                    time.sleep(1000)
                case "unpicklable":
                    return lambda: 0
        return np.full(3, index)


class About(Dataset):
    """Samples that tell of the worker they are fetched in."""

    def __init__(self, array: Any = None) -> None:
        self.array, self.started = array, -1

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        return {
            "index": index,
            "pid": os.getpid(),
            "worker": (info.id, info.num_workers, info.seed) if info else (-1, 0, 0),
            "started": self.started,
            "writeable": bool(self.array is not None and self.array.flags.writeable),
            "first": 0.0 if self.array is None else float(self.array.ravel()[0]),
            "heavy": int("agnostic_ad.ops" in sys.modules or "agnostic_ad.nn.linear" in sys.modules),
        }


class Rows(Dataset):
    """Texts and arrays of different sizes."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return "x" * (2000 * index), np.full((index % 5 + 1, 1000), index), {"n": index}


def remember(number: int) -> None:
    """Note in the worker's dataset that this ran."""
    info = get_worker_info()
    assert info is not None
    info.dataset.started = number


def as_list(samples: list[Any]) -> list[Any]:
    """Do not put samples together."""
    return samples


def with_noise(samples: list[Any]) -> Any:
    """Put samples together, and add noise to the whole."""
    return np.asarray([sample["index"] for sample in samples]), current_generator().random(), np.random.random()
