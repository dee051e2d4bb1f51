"""From a dataset to batches, in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from agnostic_ad.config import move, parse
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import lookup
from agnostic_ad.nn.data.dataset import DamagedSample, whole_batch
from agnostic_ad.random import Generator, default_generator

__all__ = ["DataLoader", "default_collate"]


def default_collate(batch: list[Any]) -> Any:
    """Put samples together: arrays and numbers are stacked, tuples and dicts entry by entry.

    Examples
    --------
    >>> from agnostic_ad.nn.data import default_collate
    >>> default_collate([(1, 2.0), (3, 4.0)])
    (array([1, 3]), array([2., 4.]))
    """
    first = batch[0]
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, tuple | list):
        parts = [default_collate(list(column)) for column in zip(*batch, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Array):
        return default_collate([sample.detach().payload for sample in batch])
    backend = lookup(first)
    return np.asarray(batch) if backend is None or backend.name == "numpy" else backend.xp.stack(batch)


class DataLoader:
    """Give the batches of a dataset, in order or shuffled; each pass over it is one epoch.

    Parameters
    ----------
    dataset : Dataset
        Anything with ``__getitem__`` and ``__len__``; ``take(indices)`` is used where there is one.
    batch_size : int
        How many samples make a batch.
    shuffle : bool
        Whether each epoch has an order of its own.
    drop_last : bool
        Whether to leave out a last batch that is smaller.
    collate_fn : callable, optional
        Makes a batch of a list of samples; by default `default_collate`.
    generator : Generator, optional
        What orders are drawn from; by default that of `agnostic_ad.manual_seed`.
    seed : int, optional
        In place of ``generator``: the seed of one.
    xp, device
        The library and the device of the batches; by default those of the dataset's arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> loader = nn.data.DataLoader(nn.data.TensorDataset(np.arange(5)), batch_size=2)
    >>> [x.tolist() for x, in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        generator: Generator | None = None,
        seed: int | None = None,
        xp: Any = None,
        device: Any = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is an integer of 1 or more, not {batch_size!r}")
        if generator is not None and seed is not None:
            raise ValueError("DataLoader takes a generator or a seed, not both")
        self.dataset, self.batch_size, self.shuffle, self.drop_last = dataset, batch_size, bool(shuffle), drop_last
        self.collate_fn = collate_fn
        self.generator = generator if seed is None else Generator(seed)
        self._to = parse(xp=xp, device=device)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order = (self.generator or default_generator).permutation(n) if self.shuffle else np.arange(n)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            if (batch := self._batch(order[start : start + self.batch_size])) is not None:
                yield self._moved(batch)

    def _batch(self, indices: np.ndarray[Any, Any]) -> Any:
        """Fetch a batch; None if every sample of it is damaged and skipped."""
        take = whole_batch(self.dataset) if self.collate_fn is None else None
        if take is not None:
            return take(indices)
        samples = []
        for i in indices:
            try:
                samples.append(self.dataset[int(i)])
            except DamagedSample as damage:
                if not damage.skip:
                    raise
                warnings.warn(f"left out: {damage}", stacklevel=3)
        return (self.collate_fn or default_collate)(samples) if samples else None

    def _moved(self, batch: Any) -> Any:
        if self._to.backend is None and self._to.device is None:
            return batch
        if isinstance(batch, dict):
            return {key: self._moved(value) for key, value in batch.items()}
        if isinstance(batch, tuple | list):
            parts = [self._moved(part) for part in batch]
            return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
        return batch if lookup(batch) is None else move(batch, self._to)
