"""Dask arrays, through array_api_compat: lazy, chunked, on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import array_api_compat.dask.array as xp
import dask
import dask.array as da
import numpy as np
from dask.array.core import elemwise

from agnostic_ad.backends import scipy
from agnostic_ad.backends.base import Backend, exact_log1p
from agnostic_ad.backends.dask_linalg import DaskLinalg
from agnostic_ad.backends.numpy import make as numpy_backend


def _transform(name: str) -> Callable[..., Any]:
    """Give a Fourier transform that takes arrays in any chunks; dask's own wants each axis that it transforms in one."""
    function = getattr(xp.fft, name)

    def transform(self: DaskBackend, x: Any, /, **how: Any) -> Any:
        return function(x.rechunk(dict.fromkeys(how.get("axes") or (how["axis"],), -1)), **how)

    return transform


def _extreme(name: str) -> Callable[..., Any]:
    """Give max or min; dask's own fail where there are no elements, and so no results."""
    function, of_none = getattr(xp, name), getattr(np, name)

    def extreme(self: DaskBackend, x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        if 0 in x.shape:
            return da.asarray(of_none(np.empty(x.shape, x.dtype), axis=axis, keepdims=keepdims))
        return function(x, axis=axis, keepdims=keepdims)

    return extreme


class DaskBackend(DaskLinalg):
    """Lazy arrays. Nothing here computes, except where the user asks for values."""

    lazy = True
    mutable = False
    fft_fft, fft_ifft, fft_rfft, fft_irfft, fft_hfft, fft_ihfft = map(_transform, ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"))
    fft_fftn, fft_ifftn, fft_rfftn, fft_irfftn = map(_transform, ("fftn", "ifftn", "rfftn", "irfftn"))
    replaced = DaskLinalg.replaced | {"repeat", "take", "tril", "triu"}  # no axis=None, nor complex numbers
    replaced |= {"unique_all", "unique_counts", "unique_inverse", "unique_values"}  # NaNs are confused

    max, min = _extreme("max"), _extreme("min")
    log1p = exact_log1p

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
        """Reshape; dask itself refuses some shapes of arrays in several chunks, and fails for some without elements."""
        if 0 in x.shape:
            return da.asarray(np.empty(x.shape, x.dtype).reshape(shape))
        try:
            return xp.reshape(x, shape, copy=copy)
        except NotImplementedError:
            return xp.reshape(x.rechunk(-1), shape, copy=copy)

    def tensordot(self, x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
        """Contract; dask itself takes negative axes for others, where there are several."""
        if not isinstance(axes, int):
            axes = tuple(tuple(axis % x.ndim for axis in of_x) for x, of_x in zip((x1, x2), axes, strict=True))
        return xp.tensordot(x1, x2, axes=axes)

    def searchsorted(self, x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
        """Search; dask itself knows no ``sorter``."""
        return xp.searchsorted(x1 if sorter is None else da.take(x1, sorter), x2, side=side)

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

    def from_scipy(self, name: str, *args: Any) -> Any:
        """Compute lazily, block by block."""
        return elemwise(scipy.function(name), *args, dtype=scipy.result_like(name, args)[1])

    def unique_positions(self, x: Any, /, *, wanted: str) -> Any:
        """Find unique elements lazily, as one task."""
        _, *found = dask.delayed(np.unique_all, nout=4)(x)
        shapes = ((np.nan,), x.shape, (np.nan,))
        return tuple(da.from_delayed(part, shape, dtype=np.intp) for part, shape in zip(found, shapes, strict=True))


_INSTANCE = DaskBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
