"""Blobs: the arrays that layers read and write, with the gradients beside them."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.config import Place, place
from agnostic_ad.levels import Array, unify
from agnostic_ad.namespaces import is_raw
from agnostic_ad.nn.parameter import adopt

__all__ = ["Blob", "keywords"]


def keywords(where: Place) -> dict[str, Any]:
    """Give a place as blobs, layers and nets take it."""
    return {"xp": where.backend, "dtype": where.dtype, "device": where.device}


class _Memory:
    """One array, or none yet; several blobs may hold the same."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: Any = None


class Blob:
    """An array of values, ``data``, and an array of gradients of the same shape, ``diff``.

    Both are made when they are first asked for, and then reused: assigning to ``data`` or ``diff`` writes into the array that is there where
    the library lets one (NumPy, CuPy, PyTorch), and puts another array in its place where it does not (JAX, Dask, array-api-strict, and arrays of a
    transformation).

    Parameters
    ----------
    shape : tuple of int
        The shape.
    xp, dtype, device
        The array library, the dtype and the device; by default as `agnostic_ad.defaults` says.
    name : str
        A name, for errors.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> blob = caffe.Blob((2, 3))
    >>> blob.data = 1.5
    >>> blob.diff += 2 * blob.data
    >>> blob.diff
    array([[3., 3., 3.],
           [3., 3., 3.]], dtype=float32)
    """

    def __init__(self, shape: Any = (0,), *, xp: Any = None, dtype: Any = None, device: Any = None, name: str = "") -> None:
        self.place: Place = place(xp, dtype, device)
        if self.xp.kind(self.place.dtype) != "f":
            raise TypeError(f"blob {name!r} holds real numbers, float32 or float64 for one, not {self.place.dtype}")
        self.name = name
        self.lr_mult = 1.0
        self.decay_mult = 1.0
        self.shape: tuple[int, ...] = ()
        self._data, self._diff = _Memory(), _Memory()
        self.reshape(*shape)

    # --- shape ------------------------------------------------------------------------------------------------------
    @property
    def xp(self) -> Any:
        """The array library, as layers compute with it."""
        return self.place.backend

    @property
    def dtype(self) -> Any:
        """The dtype of data and diff."""
        return self.place.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def reshape(self, *shape: Any) -> None:
        """Change the shape. The arrays stay where the number of elements does; otherwise new ones, of zeros, are made when they are needed."""
        if len(shape) == 1 and isinstance(shape[0], tuple | list):
            shape = tuple(shape[0])
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in shape):
            raise ValueError(f"blob {self.name!r}: a shape is of integers of 0 or more, not {shape}")
        if shape == self.shape:
            return
        if math.prod(shape) != self.count:
            self._data, self._diff = _Memory(), _Memory()
        self.shape = shape

    def reshape_like(self, other: Blob) -> None:
        """Take another blob's shape."""
        self.reshape(*other.shape)

    def axis(self, index: int) -> int:
        """Count an axis from the front; it may be given from the back."""
        if not -self.ndim <= index < self.ndim:
            raise ValueError(f"blob {self.name!r} of shape {self.shape} has no axis {index}")
        return index % self.ndim

    def count_from(self, start: int, stop: int | None = None) -> int:
        """Give the number of elements of the axes from ``start`` to before ``stop``."""
        return math.prod(self.shape[start:stop])

    def _old_axis(self, index: int) -> int:
        if self.ndim > 4:
            raise ValueError(f"blob {self.name!r} of shape {self.shape}: num, channels, height and width are of blobs of at most 4 axes")
        return self.shape[index] if index < self.ndim else 1

    @property
    def num(self) -> int:
        """The size of axis 0."""
        return self._old_axis(0)

    @property
    def channels(self) -> int:
        """The size of axis 1; 1 where there is none."""
        return self._old_axis(1)

    @property
    def height(self) -> int:
        """The size of axis 2; 1 where there is none."""
        return self._old_axis(2)

    @property
    def width(self) -> int:
        """The size of axis 3; 1 where there is none."""
        return self._old_axis(3)

    # --- arrays -----------------------------------------------------------------------------------------------------
    @property
    def data(self) -> Any:
        """The values."""
        return self._read(self._data)

    @data.setter
    def data(self, value: Any) -> None:
        self._write(self._data, value, "data")

    @property
    def diff(self) -> Any:
        """The gradient of the loss with respect to the values."""
        return self._read(self._diff)

    @diff.setter
    def diff(self, value: Any) -> None:
        self._write(self._diff, value, "diff")

    def share_data(self, other: Blob) -> None:
        """Hold the same values as another blob of as many elements: a change of one is a change of both."""
        self._data = self._shared(other, other._data)

    def share_diff(self, other: Blob) -> None:
        """Hold the same gradient as another blob of as many elements."""
        self._diff = self._shared(other, other._diff)

    def _shared(self, other: Blob, memory: _Memory) -> _Memory:
        if self.count != other.count:
            raise ValueError(f"blob {self.name!r} of shape {self.shape} cannot share memory with one of shape {other.shape}")
        return memory

    def _read(self, memory: _Memory) -> Any:
        backend: Any = self.place.backend
        if memory.array is None:
            memory.array = backend.xp.zeros(self.shape, dtype=self.place.dtype, device=self.place.device)
        found = memory.array
        return found if tuple(found.shape) == self.shape else unify([found])[0].reshape(found, self.shape)

    def _write(self, memory: _Memory, value: Any, what: str) -> None:
        backend: Any = self.place.backend
        if isinstance(value, Array):
            self._check(value, what)
            memory.array = value
            return
        if isinstance(memory.array, Array):
            memory.array = None  # of a transformation that is over, or not meant any more
        old = memory.array
        if value is old and old is not None:
            return
        if isinstance(value, int | float):
            value = backend.xp.full(self.shape, float(value), dtype=self.place.dtype, device=self.place.device)
        elif not is_raw(value):
            value = backend.xp.asarray(value, dtype=self.place.dtype, device=self.place.device)
        self._check(value, what)
        held = self._read(memory)
        if not backend.owns(value) or backend.device(value) != backend.device(held):
            value = adopt(value, held)
        value = backend.array(value)
        if value.dtype != held.dtype:
            value = backend.astype(value, held.dtype)
        if value is held:
            return
        if backend.mutable:
            held[...] = value
        elif backend.lazy:  # a blob holds values, not what is to be computed from all that went before
            memory.array = backend.from_numpy(backend.to_numpy(value), self.place.device)
        else:
            memory.array = value

    def _check(self, value: Any, what: str) -> None:
        if tuple(value.shape) != self.shape:
            raise ValueError(
                f"blob {self.name!r} has shape {self.shape}: {what} of shape {tuple(value.shape)} does not fit; reshape it first"
            )

    def __repr__(self) -> str:
        return f"Blob({self.name!r}, shape={self.shape}, dtype={self.place.dtype}, {self.xp.name})"
