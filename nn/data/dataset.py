"""Collections of samples, and what puts collections together."""

from __future__ import annotations

import itertools
import math
import mmap
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import is_raw, lookup
from agnostic_ad.random import Generator, default_generator

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "DamagedSample",
    "Dataset",
    "DatasetError",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]


class DatasetError(AgnosticADError, RuntimeError):
    """A dataset is absent, damaged, or cannot be fetched."""


class DamagedSample(DatasetError):
    """One sample cannot be read.

    A dataset raises it from ``__getitem__``; the loader passes it on, or leaves the sample out with a warning if ``skip`` is set, which
    datasets do that were made with ``on_error="skip"``.

    Parameters
    ----------
    index : int
        The number of the sample.
    place : path or str
        The file, or whatever else names where it lies.
    reason : object
        What is wrong.
    skip : bool
        Whether the loader may go on without it.
    """

    def __init__(self, index: int, place: Path | str, reason: object, skip: bool = False) -> None:
        super().__init__(index, place, reason, skip)  # so that it crosses from a worker whole
        self.index, self.place, self.reason, self.skip = index, str(place), str(reason), skip

    def __str__(self) -> str:
        return f"sample {self.index}, {self.place}, cannot be read: {self.reason}"


class Dataset:
    """Samples by number. A subclass defines ``__getitem__`` and ``__len__``.

    It may define ``take(indices)`` besides, which gives a whole batch at once for a NumPy array of indices, put together; or, as for
    PyTorch, ``__getitems__(indices)``, which gives a list of samples. ``a + b`` is one after the other.
    """

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(): define what a sample is")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} has no __len__()")

    def __add__(self, other: Dataset) -> Dataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Samples one after the other, as from a stream. A subclass defines ``__iter__``, and ``__len__`` if the number is known.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> class Squares(nn.data.IterableDataset):
    ...     def __iter__(self):
    ...         return (n * n for n in range(4))
    >>> list(Squares() + Squares())
    [0, 1, 4, 9, 0, 1, 4, 9]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} has no __iter__(): define what its samples are")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError(f"{type(self).__name__} gives its samples one after the other; it has none by number")

    def __add__(self, other: Dataset) -> Dataset:
        return ChainDataset([self, other])


def whole_batch(dataset: Any, name: str = "take") -> Callable[[Any], Any] | None:
    """Give the function that fetches a whole batch from a dataset, its ``take`` or ``__getitems__``; None if it has none.

    There is none either where a subclass defines samples anew, with a ``__getitem__`` that the inherited ``take`` does not know. The
    samples of an array are its rows.
    """
    if lookup(dataset) is not None:
        return (lambda indices: take_rows(dataset, indices)) if name == "take" else None
    if not callable(getattr(dataset, name, None)):
        return None
    for owner in type(dataset).__mro__:
        if name in vars(owner):
            break
        if "__getitem__" in vars(owner):
            return None
    take: Callable[[Any], Any] = getattr(dataset, name)
    return take


def _take_of(dataset: Any) -> Callable[[np.ndarray[Any, Any]], Any]:
    """Give a part's ``take``. An AttributeError, so that a collection of parts has a ``take`` only where each of them does."""
    take = whole_batch(dataset)
    if take is None:
        raise AttributeError(f"{type(dataset).__name__} has no take()")
    return take


class TensorDataset(Dataset):
    """Arrays of any library whose first axis counts the samples.

    Parameters
    ----------
    *tensors : array
        Raw arrays of equal length.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.data.TensorDataset(np.eye(3), np.arange(3))[1]
    (array([0., 1., 0.]), np.int64(1))
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(_raw(x) for x in tensors)
        if not tensors or len({x.shape[0] for x in self.tensors}) > 1:
            raise ValueError(
                f"TensorDataset takes arrays of one length, not of {', '.join(str(x.shape[0]) for x in self.tensors) or 'none'}"
            )

    def __getitem__(self, index: Any) -> Any:
        return tuple(x[index] for x in self.tensors)

    def __len__(self) -> int:
        return int(self.tensors[0].shape[0])

    def take(self, indices: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        """Give the samples of these numbers as one batch."""
        return tuple(take_rows(x, indices) for x in self.tensors)


class StackDataset(Dataset):
    """Several datasets side by side: a sample is the tuple, or the dict, of their samples of one number.

    Parameters
    ----------
    *args : Dataset
        Datasets of equal length; samples are tuples.
    **kwargs : Dataset
        The same by name; samples are dicts.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> nn.data.StackDataset(image=["a", "b"], label=[0, 1])[1]
    {'image': 'b', 'label': 1}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError("StackDataset takes datasets, or datasets by name, not both")
        self.datasets: tuple[Any, ...] | dict[str, Any] = kwargs or args
        lengths = [len(part) for part in kwargs.values() or args]
        if len(set(lengths)) != 1:
            raise ValueError(f"StackDataset takes datasets of one length, not of {', '.join(map(str, lengths)) or 'none'}")

    def _each(self, of: Callable[[Any], Any]) -> Any:
        if isinstance(self.datasets, dict):
            return {name: of(part) for name, part in self.datasets.items()}
        return tuple(of(part) for part in self.datasets)

    def __getitem__(self, index: Any) -> Any:
        return self._each(lambda part: part[index])

    def __len__(self) -> int:
        return len(next(iter(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)))

    @property
    def take(self) -> Callable[[np.ndarray[Any, Any]], Any]:
        """Give the samples of these numbers as one batch; there where each part can."""
        self._each(_take_of)
        return lambda indices: self._each(lambda part: _take_of(part)(indices))


class ConcatDataset(Dataset):
    """Datasets one after the other.

    Parameters
    ----------
    datasets : iterable of Dataset
        What to put together; none may be iterable only (`ChainDataset` takes those).

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> both = nn.data.ConcatDataset(["ab", "cde"])
    >>> len(both), both[2], both[-1]
    (5, 'c', 'e')
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset takes one dataset or more, not none")
        if any(isinstance(part, IterableDataset) for part in self.datasets):
            raise TypeError("ConcatDataset takes samples by number: put an IterableDataset in a ChainDataset")
        self.cumulative_sizes = list(itertools.accumulate(len(part) for part in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: Any) -> Any:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"sample {index} of {n}")
        index = index % n
        part = bisect_right(self.cumulative_sizes, index)
        return self.datasets[part][index - (self.cumulative_sizes[part - 1] if part else 0)]

    @property
    def take(self) -> Callable[[np.ndarray[Any, Any]], Any]:
        """Give the samples of these numbers as one batch; there where each part can."""
        takes = [_take_of(part) for part in self.datasets]

        def take(indices: np.ndarray[Any, Any]) -> Any:
            indices = np.asarray(indices)
            if not len(indices):
                return takes[0](indices)
            owners = np.searchsorted(self.cumulative_sizes, indices, side="right")
            starts = np.asarray([0, *self.cumulative_sizes])
            used = np.unique(owners)
            parts = [takes[owner](indices[owners == owner] - starts[owner]) for owner in used]
            order = np.argsort(np.argsort(owners, kind="stable"))  # where each sample stands among the parts
            return parts[0] if len(parts) == 1 else _merged(parts, order)

        return take


class ChainDataset(IterableDataset):
    """Iterable datasets one after the other.

    Parameters
    ----------
    datasets : iterable of IterableDataset
        What to chain; itself only iterated over when samples are asked for.
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def _parts(self) -> Iterator[Any]:
        for part in self.datasets:
            if not isinstance(part, IterableDataset):
                raise TypeError(f"ChainDataset takes IterableDatasets, not a {type(part).__name__}: ConcatDataset takes those")
            yield part

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self._parts())

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts())


class Subset(Dataset):
    """The samples of a dataset that a sequence of indices names, in its order.

    Parameters
    ----------
    dataset : Dataset
        Where they come from.
    indices : sequence of int
        Their numbers there.
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def take(self) -> Callable[[np.ndarray[Any, Any]], Any]:
        """Give the samples of these numbers as one batch; there where the dataset can."""
        take = _take_of(self.dataset)
        return lambda indices: take(np.fromiter((self.indices[i] for i in indices), np.int64, len(indices)))


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None, *, seed: int | None = None
) -> list[Subset]:
    """Split a dataset at random into parts that share no sample.

    Parameters
    ----------
    dataset : Dataset
        What to split.
    lengths : sequence of int or float
        How many samples each part gets; or fractions with the sum 1, where the samples that rounding down leaves over go one each to the
        first parts.
    generator : Generator, optional
        What is drawn from; by default that of `agnostic_ad.manual_seed`.
    seed : int, optional
        In place of ``generator``: the seed of one.

    Returns
    -------
    list of Subset
        The parts.

    Raises
    ------
    ValueError
        If the lengths do not add up.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> parts = nn.data.random_split(range(10), [0.75, 0.25], seed=0)
    >>> [len(part) for part in parts], sorted(n for part in parts for n in part)
    ([8, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    n, sizes = len(dataset), list(lengths)
    if math.isclose(sum(sizes), 1) and sum(sizes) <= 1:
        if any(not 0 <= part <= 1 for part in sizes):
            raise ValueError(f"random_split: fractions lie between 0 and 1, not {sizes}")
        sizes = [math.floor(n * part) for part in sizes]
        for i in range(n - int(sum(sizes))):
            sizes[i % len(sizes)] += 1
        if empty := [i for i, size in enumerate(sizes) if not size]:
            warnings.warn(f"random_split: part {empty[0]} of {list(lengths)} has no samples", stacklevel=2)
    if sum(sizes) != n or any(size < 0 or size != int(size) for size in sizes):
        raise ValueError(f"random_split: the lengths {list(lengths)} do not add up to the {n} samples of the dataset, nor to 1")
    order = generator_of("random_split", generator, seed).permutation(n).tolist()
    ends = list(itertools.accumulate(int(size) for size in sizes))
    return [Subset(dataset, order[start:end]) for start, end in zip([0, *ends], ends)]


def generator_of(what: str, generator: Generator | None, seed: int | None) -> Generator:
    """Give the generator that arguments ask for: one itself, one from a seed, or the default one."""
    if generator is not None and seed is not None:
        raise ValueError(f"{what} takes a generator or a seed, not both")
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"{what}: generator is an agnostic_ad.Generator, not a {type(generator).__name__}; or pass seed=")
    return Generator(seed) if seed is not None else generator or default_generator


def _raw(x: Any) -> Any:
    if isinstance(x, Array):
        if x.carries_gradient():
            raise TypeError("a dataset holds arrays without gradient: pass x.detach(), or the raw array")
        x = x.payload
    return x if is_raw(x) else np.asarray(x)


_ROOM = 1 << 26  # bytes of a mapped file that may be in memory
_AROUND = 1 << 21  # what Linux may bring in around one byte that is read: a huge page


def take_rows(x: Any, indices: np.ndarray[Any, Any]) -> Any:
    """Give the entries of these numbers along the first axis of an array, or of a list."""
    if isinstance(x, np.memmap) and getattr(x, "_mmap", None) is not None:
        return _take_mapped(x, np.asarray(indices))
    if isinstance(x, np.ndarray):
        return x.take(indices, axis=0)
    if isinstance(x, list):
        return [x[i] for i in indices]
    backend = lookup(x)
    assert backend is not None
    return backend.xp.take(x, backend.from_numpy(indices, backend.device(x)), axis=0)


def _take_mapped(x: np.memmap[Any, Any], indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give rows of a mapped file and forget its pages, all of which would else count as this process's memory once they are read."""
    data: Any = x._mmap  # type: ignore[attr-defined]
    rows = np.empty((len(indices), *x.shape[1:]), x.dtype)
    step = max(1, _ROOM // (_AROUND + rows.nbytes // max(len(indices), 1)))
    for start in range(0, len(indices), step):
        x.take(indices[start : start + step], axis=0, out=rows[start : start + step], mode="raise")
        if x.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):  # written pages that are not the file's would be lost
            data.madvise(mmap.MADV_DONTNEED)
    return rows


def _merged(parts: list[Any], order: np.ndarray[Any, Any]) -> Any:
    """Join batches along the first axis, and put their samples into an order."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _merged([part[key] for part in parts], order) for key in first}
    if isinstance(first, tuple):
        entries = [_merged(list(column), order) for column in zip(*parts, strict=True)]
        return type(first)(*entries) if hasattr(first, "_fields") else type(first)(entries)
    if isinstance(first, list):
        return take_rows([sample for part in parts for sample in part], order)
    backend = lookup(first)
    assert backend is not None
    return take_rows(np.concatenate(parts) if backend.name == "numpy" else backend.xp.concat(parts, axis=0), order)
