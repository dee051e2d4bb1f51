"""Dask arrays, through array_api_compat: lazy, chunked, on the CPU."""

from __future__ import annotations

import warnings
from typing import Any

import array_api_compat.dask.array as xp
import dask
import dask.array as da
import numpy as np

from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.numpy import make as numpy_backend


class DaskBackend(Backend):
    """Lazy arrays. Nothing here computes, except where the user asks for values."""

    lazy = True
    mutable = False
    replaced = frozenset({"repeat", "take", "tril", "triu"})  # no axis=None, nor complex numbers

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is a dask array."""
        return isinstance(x, da.Array)

    def version(self) -> str:
        """Give dask's version."""
        return str(dask.__version__)

    def devices(self) -> list[str]:
        """Give "cpu"."""
        return ["cpu"]

    def device(self, x: Any) -> Any:
        """Give "cpu"."""
        return "cpu"

    def to_device(self, x: Any, device: Any) -> Any:
        """Give ``x``; these arrays live on the CPU only."""
        if device not in ("cpu", None):
            raise ValueError(f"dask has no device {device!r}, only 'cpu'")
        return x

    def complex_dtypes(self) -> Any:
        """Give NumPy's."""
        return numpy_backend().complex_dtypes()

    def dtype(self, name: Any) -> Any:
        """Give a ``np.dtype``."""
        return np.dtype(name)

    def complex_of(self, dtype: Any) -> Any:
        """Give the complex dtype of the same precision."""
        return numpy_backend().complex_of(dtype)

    def real_of(self, dtype: Any) -> Any:
        """Give the real dtype of the same precision."""
        return numpy_backend().real_of(dtype)

    def scalar(self, value: Any, like: Any) -> Any:
        """Give a 0-d array."""
        return da.asarray(numpy_backend().scalar(value, like))

    def to_numpy(self, x: Any) -> Any:
        """Compute."""
        return np.asarray(x.compute())

    def from_numpy(self, x: Any, device: Any = None) -> Any:
        """Wrap; the memory is shared."""
        return da.asarray(x)

    def reshape(self, x: Any, /, shape: Any, *, copy: bool | None = None) -> Any:
        """Reshape; dask itself refuses some shapes of arrays in several chunks."""
        try:
            return xp.reshape(x, shape, copy=copy)
        except NotImplementedError:
            return xp.reshape(x.rechunk(-1), shape, copy=copy)

    def own(self, x: Any) -> Any:
        """Copy the graph, not the data."""
        return x.copy()

    def eye(self, n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Any:
        """Give ones on a diagonal; dask's own function has chunks of one shape only."""
        return da.asarray(np.eye(n_rows, n_cols, k=k, dtype=dtype))

    def gather(self, x: Any, indices: Any, /, *, axis: int = 0) -> Any:
        """Take lazily."""
        with warnings.catch_warnings():
            # of the type that dask tries out on no elements, which is always float64
            warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
            return da.take(x, self.wrap(indices, x.shape[axis]), axis=axis)

    def scatter_add(self, values: Any, indices: Any, /, *, size: int, axis: int = 0) -> Any:
        """Sum slices by index, lazily, as one task."""
        shape = list(values.shape)
        shape[axis % len(shape)] = size
        task = dask.delayed(numpy_backend().scatter_add)(values, indices, size=size, axis=axis)
        return da.from_delayed(task, tuple(shape), dtype=values.dtype)


_INSTANCE = DaskBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
