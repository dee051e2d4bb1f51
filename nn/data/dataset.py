"""Collections of samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from agnostic_ad.levels import Array
from agnostic_ad.namespaces import is_raw, lookup

__all__ = ["Dataset", "TensorDataset"]


class Dataset:
    """Samples by number. A subclass defines ``__getitem__`` and ``__len__``.

    It may define ``take(indices)`` besides, which gives a whole batch at once for a NumPy array of indices.
    """

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__(): define what a sample is")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} has no __len__()")


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
        return tuple(_take(x, indices) for x in self.tensors)


def _raw(x: Any) -> Any:
    if isinstance(x, Array):
        if x.carries_gradient():
            raise TypeError("a dataset holds arrays without gradient: pass x.detach(), or the raw array")
        x = x.payload
    return x if is_raw(x) else np.asarray(x)


def _take(x: Any, indices: np.ndarray[Any, Any]) -> Any:
    if isinstance(x, np.ndarray):
        return x.take(indices, axis=0)
    backend = lookup(x)
    assert backend is not None
    return backend.xp.take(x, backend.from_numpy(indices, backend.device(x)), axis=0)
