"""Which samples make which batch of an epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from agnostic_ad.nn.data.samplers import BatchSampler, RandomSampler, Sampler, SequentialSampler
from agnostic_ad.nn.data.seeding import Guarded, key_of, seeded, shared_sources, source_of
from agnostic_ad.nn.data.walking import find
from agnostic_ad.nn.data.workers import Task
from agnostic_ad.random import default_generator


class Order:
    """The tasks of each epoch, for a dataset that has samples by number.

    Without a sampler the order follows from the seed and the epoch. A sampler draws from streams that do so too, where it would draw from
    what the process shares; a generator of its own keeps its state, which is part of `state`.
    """

    def __init__(self, dataset: Any, batch_size: int | None, shuffle: bool, sampler: Any, batch_sampler: Any, drop_last: bool) -> None:
        self._dataset, self._size, self._shuffle, self._drop_last = dataset, batch_size, shuffle, drop_last
        self._sampler, self._batch_sampler = sampler, batch_sampler
        self._given = batch_sampler if batch_sampler is not None else sampler
        self._at_start: Any = None  # the sampler's state where the present epoch began, once it has

    def __len__(self) -> int:
        if self._batch_sampler is not None:
            return len(self._batch_sampler)
        n = len(self._dataset if self._sampler is None else self._sampler)
        whole, rest = divmod(n, self._size or 1)
        return whole + (rest > 0 and not self._drop_last)

    # --- what a sampler adds to the loader's state ---------------------------------------------------------------------------------
    def state(self) -> Any:
        """Give what a sampler needs for the present epoch to be repeated; None where it needs nothing."""
        return self._at_start if self._at_start is not None else self._state()

    def _state(self) -> Any:
        if self._given is None:
            return None
        if callable(getattr(self._given, "state_dict", None)):
            return {"own": self._given.state_dict()}
        generators = find([self._given]).generators
        return {"generators": [_plain(source_of(x).save()) for x in generators]} if generators else None

    def load_state(self, state: Any) -> None:
        """Let the sampler go back to the beginning of an epoch."""
        self._at_start = None
        if state is None or self._given is None:
            return
        if "own" in state:
            self._given.load_state_dict(state["own"])
            return
        for x, kept in zip(find([self._given]).generators, state["generators"], strict=True):
            source_of(x).load(kept)

    def finish(self) -> None:
        """Say that the epoch that was begun is over."""
        self._at_start = None

    # --- tasks ---------------------------------------------------------------------------------------------------------------------
    def tasks(self, key: bytes, epoch: int, given: int, ahead: frozenset[int]) -> Iterator[Task]:
        """Give the tasks of an epoch, without those that are done: the first ones, and some ahead of these.

        Parameters
        ----------
        key : bytes
            What the epoch's random numbers follow from.
        epoch, given : int
            Which epoch; how many batches are done.
        ahead : frozenset of int
            Which others are.
        """
        tasks = self._by_itself(key, epoch, given) if self._given is None else self._by_sampler(key, epoch, given)
        return (task for task in tasks if task.number not in ahead)

    def _by_itself(self, key: bytes, epoch: int, given: int) -> Iterator[Task]:
        n, size = len(self._dataset), self._size or 1
        order = seeded(key_of("order", within=key)).permutation(n) if self._shuffle else None
        for number in range(given, len(self)):
            start, stop = number * size, min(n, (number + 1) * size)
            indices = np.arange(start, stop) if order is None else order[start:stop]
            yield Task(epoch, number, int(indices[0]) if self._size is None else indices)

    def _by_sampler(self, key: bytes, epoch: int, given: int) -> Iterator[Task]:
        for sampler in (self._given, getattr(self._given, "sampler", self._given)):
            if callable(getattr(sampler, "set_epoch", None)):
                sampler.set_epoch(epoch)
        self._at_start = self._state()
        numbers = Guarded(self._given, _sources(self._given), key_of("order", within=key))
        seen: dict[int, int] | None = None if _each_once(self._given) else {}
        single = self._batch_sampler is None and self._size is None
        for number in itertools.count():
            batch = numbers.take(1 if self._batch_sampler is not None else self._size or 1)
            if not batch or (self._drop_last and len(batch) < (self._size or 1)):
                return
            if self._batch_sampler is not None:
                batch = list(batch[0])
            repeats = None if seen is None else [_count(seen, index) for index in batch]
            if number >= given:
                yield Task(epoch, number, batch[0] if single else batch, repeats)


def _count(seen: dict[int, int], index: Any) -> int:
    """Tell how often an index has come before, and count it."""
    if not isinstance(index, int | np.integer):
        return 0
    before = seen.get(int(index), 0)
    seen[int(index)] = before + 1
    return before


def _sources(sampler: Any) -> list[Any]:
    """Give what a sampler may draw from beside its own generator; of ours it is known."""
    if type(sampler) is BatchSampler:
        return _sources(sampler.sampler)
    if isinstance(sampler, list | tuple | range) or type(sampler) is SequentialSampler:
        return []
    shared = shared_sources()
    if isinstance(sampler, Sampler) and type(sampler).__module__ == Sampler.__module__:
        return [source for source in shared if source.name == "agnostic_ad"] if vars(sampler).get("generator") is default_generator else []
    return shared


def _each_once(sampler: Any) -> bool:
    """Tell whether it is known that no number comes twice."""
    if type(sampler) is BatchSampler:
        return _each_once(sampler.sampler)
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples <= len(sampler.data_source)
    return type(sampler) is SequentialSampler


def _plain(state: Any) -> Any:
    """Give a generator's state in lists and numbers, as JSON has them."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [_plain(value) for value in state]
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state
