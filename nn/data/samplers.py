"""In which order samples come, under PyTorch's names."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import numpy as np

from agnostic_ad.nn.data.dataset import generator_of
from agnostic_ad.random import Generator

__all__ = [
    "BatchSampler",
    "DistributedSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

_CHUNK = 4096


class Sampler:
    """Numbers of samples, or lists of them (batches), one after the other. A subclass defines ``__iter__``, and ``__len__`` if it is known.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> class Longest(nn.data.Sampler):
    ...     def __init__(self, texts):
    ...         self.texts = texts
    ...
    ...     def __iter__(self):
    ...         return iter(sorted(range(len(self.texts)), key=lambda i: -len(self.texts[i])))
    >>> list(Longest(["a", "abc", "ab"]))
    [1, 2, 0]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__(): define in which order samples come")


class SequentialSampler(Sampler):
    """The numbers of all samples, in order.

    Parameters
    ----------
    data_source : sized
        The dataset; only its length is asked for.
    """

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """The numbers of all samples in random order, another one in each pass; or numbers drawn with replacement.

    Parameters
    ----------
    data_source : sized
        The dataset; only its length is asked for.
    replacement : bool
        Whether a sample may come again before all have come.
    num_samples : int, optional
        How many numbers to give; by default as many as there are samples.
    generator : Generator, optional
        What is drawn from; by default that of `agnostic_ad.manual_seed`.
    seed : int, optional
        In place of ``generator``: the seed of one.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> sorted(nn.data.RandomSampler(range(5), seed=0))
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.data_source, self.replacement, self._num_samples = data_source, _flag("RandomSampler", "replacement", replacement), num_samples
        if num_samples is not None:
            _count("RandomSampler", "num_samples", num_samples)
        self.generator = generator_of("RandomSampler", generator, seed)

    @property
    def num_samples(self) -> int:
        """How many numbers a pass gives; it follows a dataset that grows."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, left = len(self.data_source), self.num_samples
        if left and not n:
            raise ValueError(f"RandomSampler: {left} samples cannot be drawn from none")
        while left > 0:
            if self.replacement:
                numbers = self.generator.integers(0, n, (min(left, _CHUNK),))
            else:
                numbers = self.generator.permutation(n)[:left]
            yield from _ints(numbers)
            left -= len(numbers)

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """The numbers of a list in random order.

    Parameters
    ----------
    indices : sequence of int
        The numbers.
    generator : Generator, optional
        What is drawn from; by default that of `agnostic_ad.manual_seed`.
    seed : int, optional
        In place of ``generator``: the seed of one.
    """

    def __init__(self, indices: Sequence[int], generator: Generator | None = None, *, seed: int | None = None) -> None:
        self.indices, self.generator = indices, generator_of("SubsetRandomSampler", generator, seed)

    def __iter__(self) -> Iterator[int]:
        return (self.indices[i] for i in _ints(self.generator.permutation(len(self.indices))))

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """Numbers from 0 to ``len(weights) - 1``, drawn with probabilities in proportion to weights.

    Parameters
    ----------
    weights : sequence of float
        Finite, 0 or more; their sum need not be 1.
    num_samples : int
        How many numbers to draw.
    replacement : bool
        Whether a number may come again; if not, each is drawn in proportion to the weights of those that are left.
    generator : Generator, optional
        What is drawn from; by default that of `agnostic_ad.manual_seed`.
    seed : int, optional
        In place of ``generator``: the seed of one.

    Notes
    -----
    Without replacement the numbers come in the order of ``E / w``, where E are exponentially distributed: P. Efraimidis and P. Spirakis,
    "Weighted random sampling with a reservoir", 2006.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> list(nn.data.WeightedRandomSampler([0.0, 1.0], 3))
    [1, 1, 1]
    """

    def __init__(
        self,
        weights: Any,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
        *,
        seed: int | None = None,
    ) -> None:
        self.num_samples = _count("WeightedRandomSampler", "num_samples", num_samples)
        self.replacement = _flag("WeightedRandomSampler", "replacement", replacement)
        self.weights = np.array(weights, dtype=np.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"WeightedRandomSampler: weights have one axis, not the shape {self.weights.shape}")
        if not np.all(np.isfinite(self.weights) & (self.weights >= 0)) or not self.weights.any():
            raise ValueError("WeightedRandomSampler: weights are finite numbers of 0 or more, and one of them is more")
        if not replacement and num_samples > np.count_nonzero(self.weights):
            raise ValueError(
                f"WeightedRandomSampler: {num_samples} samples without replacement, but {np.count_nonzero(self.weights)} weights that are not 0"
            )
        self.generator = generator_of("WeightedRandomSampler", generator, seed)

    def __iter__(self) -> Iterator[int]:
        if self.replacement:
            sums = np.cumsum(self.weights)
            last = np.flatnonzero(self.weights)[-1]  # rounding must not lead beyond it, to a weight of 0
            numbers = np.minimum(np.searchsorted(sums, self.generator.uniform((self.num_samples,)) * sums[-1], side="right"), last)
        else:
            some = np.flatnonzero(self.weights)
            waits = -np.log1p(-self.generator.uniform((len(some),))) / self.weights[some]
            numbers = some[np.argsort(waits, kind="stable")[: self.num_samples]]
        return _ints(numbers)

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of numbers from another sampler.

    Parameters
    ----------
    sampler : Sampler or iterable
        Gives the numbers.
    batch_size : int
        How many make a batch.
    drop_last : bool
        Whether to leave out a last batch that is smaller.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> list(nn.data.BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size, self.drop_last = _count("BatchSampler", "batch_size", batch_size), _flag("BatchSampler", "drop_last", drop_last)

    def __iter__(self) -> Iterator[list[Any]]:
        numbers = iter(self.sampler)
        while batch := list(itertools.islice(numbers, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield batch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return whole + (rest > 0 and not self.drop_last)


class DistributedSampler(Sampler):
    """The share of one process among several that train together; all shares have one length, and are drawn anew in each epoch.

    Parameters
    ----------
    dataset : sized
        The dataset; only its length is asked for.
    num_replicas : int, optional
        How many processes there are; by default what the environment's ``WORLD_SIZE`` says.
    rank : int, optional
        Which of them this is, from 0 on; by default what the environment's ``RANK`` says.
    shuffle : bool
        Whether the order is random.
    seed : int
        The same in all processes; the order follows from it and the epoch.
    drop_last : bool
        Whether to leave out the samples that do not suffice for all; otherwise the first ones come again.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> [list(nn.data.DistributedSampler(range(5), 2, rank, shuffle=False)) for rank in (0, 1)]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.num_replicas = _environment("num_replicas", "WORLD_SIZE") if num_replicas is None else num_replicas
        self.rank = _environment("rank", "RANK") if rank is None else rank
        _count("DistributedSampler", "num_replicas", self.num_replicas)
        if not 0 <= self.rank < self.num_replicas:
            raise ValueError(f"DistributedSampler: rank lies between 0 and {self.num_replicas - 1}, and is not {self.rank}")
        self.dataset, self.shuffle, self.seed, self.drop_last, self.epoch = dataset, shuffle, seed, drop_last, 0

    @property
    def num_samples(self) -> int:
        """How many numbers each process gets."""
        share = len(self.dataset) / self.num_replicas
        return math.floor(share) if self.drop_last else math.ceil(share)

    @property
    def total_size(self) -> int:
        """How many numbers all processes get together."""
        return self.num_samples * self.num_replicas

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        order = Generator(self.seed + self.epoch).permutation(n) if self.shuffle else np.arange(n)
        return _ints(np.resize(order, self.total_size)[self.rank :: self.num_replicas])  # resize: from the start again

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, in every process: the order follows from it."""
        self.epoch = epoch


def _ints(numbers: np.ndarray[Any, Any]) -> Iterator[int]:
    """Give Python's integers, a part at a time: a list of all would take four times the array's memory."""
    return itertools.chain.from_iterable(numbers[start : start + _CHUNK].tolist() for start in range(0, len(numbers), _CHUNK))


def _count(what: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{what}: {name} is an integer of 1 or more, not {value!r}")
    return int(value)


def _flag(what: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{what}: {name} is True or False, not {value!r}")
    return value


def _environment(name: str, variable: str) -> int:
    value = os.environ.get(variable, "")
    if not value.isdigit():
        raise ValueError(f"DistributedSampler: pass {name}=, or set {variable} in the environment")
    return int(value)
