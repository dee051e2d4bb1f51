"""What fetches batches: in the loader's own process and thread, and in its workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.errors import AgnosticADError
from agnostic_ad.nn.data.collate import default_collate, default_convert
from agnostic_ad.nn.data.dataset import DamagedSample, DatasetError, IterableDataset, whole_batch
from agnostic_ad.nn.data.seeding import Streams, key_of

__all__ = ["WorkerError", "WorkerInfo", "get_worker_info"]


class WorkerError(AgnosticADError, RuntimeError):
    """A worker of a DataLoader ended, or took longer than ``timeout``."""


class WorkerInfo:
    """What `get_worker_info` gives in a worker.

    Attributes
    ----------
    id : int
        The worker's number, from 0 on.
    num_workers : int
        How many there are.
    seed : int
        A number that differs between workers, and follows from the loader's seed.
    dataset : Dataset
        The worker's dataset.
    """

    def __init__(self, id: int, num_workers: int, seed: int, dataset: Any) -> None:
        self._id, self._num_workers, self.seed, self.dataset = id, num_workers, seed, dataset
        self._asked = False

    @property
    def id(self) -> int:
        """The worker's number. A stream that asks for it shares its samples out itself."""
        self._asked = True
        return self._id

    @property
    def num_workers(self) -> int:
        """How many workers there are."""
        self._asked = True
        return self._num_workers

    def __repr__(self) -> str:
        return f"WorkerInfo(id={self._id}, num_workers={self._num_workers}, seed={self.seed})"


INFO: ContextVar[WorkerInfo | None] = ContextVar("agnostic_ad_worker", default=None)


def get_worker_info() -> WorkerInfo | None:
    """Tell a dataset which worker it is asked in; None outside of workers.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> nn.data.get_worker_info() is None
    True
    """
    return INFO.get()


def _asked() -> bool:
    """Tell whether the worker's number has been asked for."""
    info = INFO.get()
    return info is not None and info._asked


class Task(NamedTuple):
    """A batch to fetch.

    Parameters
    ----------
    epoch, number : int
        Which batch of which epoch.
    indices : sequence, or one index where samples are not put together
        Its samples.
    repeats : list of int, optional
        How often each of them has come before in the epoch.
    """

    epoch: int
    number: int
    indices: Any
    repeats: list[int] | None = None


class Batch(NamedTuple):
    """A batch, and what is to be warned of; without a value, if each of its samples is damaged."""

    number: int
    value: Any
    empty: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recipe:
    """How batches are made of a dataset: what workers are given.

    Attributes
    ----------
    dataset : Dataset
        The dataset.
    collate_fn : callable, optional
        What puts samples together.
    batch_size : int, optional
        How many samples of a stream make a batch; None: samples stay single.
    drop_last : bool
        Whether a stream's last batch is left out if it is smaller.
    seed : int
        The loader's.
    """

    dataset: Any
    collate_fn: Callable[[Any], Any] | None
    batch_size: int | None
    drop_last: bool
    seed: int

    def same(self, other: Recipe) -> bool:
        """Tell whether batches are made in the same way."""
        ours, theirs = vars(self), vars(other)
        return all(ours[name] is theirs[name] for name in ("dataset", "collate_fn")) and (self.batch_size, self.seed) == (
            other.batch_size,
            other.seed,
        )

    @property
    def is_stream(self) -> bool:
        """Whether samples come one after the other, and not by number."""
        return isinstance(self.dataset, IterableDataset)

    @property
    def collate(self) -> Callable[[Any], Any]:
        """What makes a batch of samples."""
        return self.collate_fn or (default_convert if self.batch_size is None else default_collate)

    def epoch_key(self, epoch: int) -> bytes:
        """Give the key that all random numbers of an epoch follow from."""
        return key_of(self.seed, epoch)


class Fetcher:
    """Fetch batches of a dataset that has samples by number; ``streams`` makes the `Streams` of what is fetched from."""

    def __init__(self, recipe: Recipe, streams: Callable[..., Streams]) -> None:
        self.recipe = recipe
        batched = recipe.batch_size is not None
        self._take = whole_batch(recipe.dataset) if batched and recipe.collate_fn is None else None
        self._many = whole_batch(recipe.dataset, "__getitems__") if batched else None
        self.streams = streams(recipe.dataset, recipe.collate_fn, again=True)
        self._epoch, self._key = -1, b""

    @property
    def quiet(self) -> bool:
        """Whether nothing is drawn, for all comes from one of our arrays or files."""
        return self._take is not None and self.streams.found.quiet

    def look(self) -> None:
        """Look for generators that have come since, before an epoch."""
        self.streams.look()

    def __call__(self, task: Task) -> Batch:
        """Fetch a batch."""
        if self.quiet:
            assert self._take is not None
            return Batch(task.number, self._take(task.indices))
        if task.epoch != self._epoch:
            self._epoch, self._key = task.epoch, self.recipe.epoch_key(task.epoch)
        found: Batch = self.streams.run(lambda: self._fetch(task))
        return found

    def _fetch(self, task: Task) -> Batch:
        recipe, start = self.recipe, self.streams.start
        if self._take is not None:
            start(self._key, "batch", task.number)
            return Batch(task.number, self._take(np.asarray(task.indices)))
        notes: list[str] = []
        if recipe.batch_size is None:
            samples = self._samples([task.indices], task, notes)
            samples = samples[0] if samples else samples
        elif self._many is not None:
            start(self._key, "batch", task.number)
            samples = self._many(_plain(task.indices))
        else:
            samples = self._samples(task.indices, task, notes)
        if len(notes) and samples == []:
            return Batch(task.number, None, True, tuple(notes))
        if recipe.collate_fn is not None:
            start(self._key, "collate", task.number)
        return Batch(task.number, recipe.collate(samples), False, tuple(notes))

    def _samples(self, indices: Any, task: Task, notes: list[str]) -> Any:
        dataset, start, key = self.recipe.dataset, self.streams.start, self._key
        samples = []
        for place, index in enumerate(_plain(indices)):
            if isinstance(index, int):
                start(key, index, task.repeats[place] if task.repeats else 0)
            else:
                start(key, "place", task.number, place)
            try:
                samples.append(dataset[index])
            except DamagedSample as damage:
                if not damage.skip:
                    raise
                notes.append(f"left out: {damage}")
        return samples


def _plain(indices: Any) -> list[Any]:
    """Give Python's integers for NumPy's, and others as they are."""
    if isinstance(indices, np.ndarray):
        return indices.tolist()  # type: ignore[no-any-return]
    return [int(index) if isinstance(index, np.integer) else index for index in indices]


class StreamFetcher:
    """Fetch batches of a dataset that gives its samples one after the other.

    Parameters
    ----------
    recipe : Recipe
        The dataset.
    streams : callable
        Makes the `Streams`.
    epoch : int
        Which pass it is.
    share : tuple of int
        Number of a worker and of all workers: it delivers its share of the batches, but must read all of them; unless the dataset asks for the
        worker's number, and so has a share of its own.
    """

    def __init__(self, recipe: Recipe, streams: Callable[..., Streams], epoch: int, share: tuple[int, int] = (0, 1)) -> None:
        self._recipe = recipe
        self._streams = streams(recipe.dataset, recipe.collate_fn, again=False)
        self._worker, self._step = share
        self._key = recipe.epoch_key(epoch)
        self._number = 0
        self._samples: Iterator[Any] | None = None
        self._first: list[Any] | None = None
        self.own_share = False

    def _open(self) -> None:
        """Begin, and see whether the dataset has its own share."""

        def begin() -> list[Any]:
            self._streams.start(self._key, "stream", 0)
            self._samples = iter(self._recipe.dataset)
            return self._pull()

        self._first = self._streams.run(begin)
        if self._streams.look():  # generators that were made when the dataset was first asked
            self._first = self._streams.run(begin)
        self.own_share = _asked()
        if self.own_share and self._worker:  # the first worker goes on with the key of a loader without workers
            self._key = key_of("worker", self._worker, within=self._key)
            self._first = self._streams.run(begin)

    def _pull(self) -> list[Any]:
        assert self._samples is not None
        return list(itertools.islice(self._samples, self._recipe.batch_size or 1))

    def __call__(self, deliver: bool = True) -> Batch | None:
        """Fetch this worker's next batch; None at the end. One that is not to be delivered is not put together."""
        if self._samples is None:
            self._open()
        while True:
            number = self._number
            self._number += 1
            if number == 0:
                samples = self._first or []
                self._first = None
            else:
                samples = self._streams.run(partial(self._begun, number))
                if not self.own_share and _asked():
                    raise DatasetError(
                        "the stream asked for its worker's number when its first batch had been given, as if it had no share of its own: let it ask "
                        "get_worker_info() before the first sample"
                    )
            if len(samples) < ((self._recipe.batch_size or 1) if self._recipe.drop_last else 1):
                return None
            if self.own_share or number % self._step == self._worker:
                return Batch(number, self._streams.run(partial(self._put_together, number, samples)) if deliver else None)

    def _begun(self, number: int) -> list[Any]:
        self._streams.start(self._key, "stream", number)
        return self._pull()

    def _put_together(self, number: int, samples: list[Any]) -> Any:
        if self._recipe.collate_fn is not None:
            self._streams.start(self._key, "collate", number)
        return self._recipe.collate(samples if self._recipe.batch_size is not None else samples[0])
