"""Files that lie on disk and are looked into, with memory that does not grow with what has been read."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from agnostic_ad.nn.data.dataset import Dataset, DatasetError
from agnostic_ad.nn.data.datasets.downloads import cache_folder

__all__ = ["NumpyFile"]

T = TypeVar("T")
SMALL = 1 << 26
"""Files that must be converted to be looked into are held in memory below this size, in bytes."""
_ROOM = 1 << 26
_AROUND = 1 << 21  # what Linux may bring into the process around one byte that is read: a huge page


class Reopened(Generic[T]):
    """A mapped file, mapped anew from time to time, since all that has been read of a mapping counts as the process's memory.

    What was got before stays valid: it holds the older mapping. The object goes to other processes as the way to open it.
    """

    def __init__(self, make: Callable[..., T], *arguments: Any) -> None:
        self._make, self._arguments = make, arguments
        self._file = make(*arguments)
        self._read = 0

    def get(self, size: int) -> T:
        """Give the open file, to read about so many bytes from."""
        self._read += size
        if self._read > _ROOM:
            self._read = size
            self._file = self._make(*self._arguments)
        return self._file

    def read(self, indices: np.ndarray[Any, Any], size: int, fetch: Callable[[T, np.ndarray[Any, Any]], Any]) -> np.ndarray[Any, Any]:
        """Give what ``fetch`` reads for these rows of a size in bytes, as one array; in parts, if they lie far apart."""
        order = np.argsort(indices, kind="stable")
        near = np.diff(indices[order] * size // _AROUND, prepend=-1) == 0  # in the same huge page as the row before
        cost = np.cumsum(np.where(near, size, size + _AROUND))
        if not len(cost) or cost[-1] <= _ROOM:
            return np.asarray(fetch(self.get(int(cost[-1]) if len(cost) else 0), indices))
        parts = np.split(order, np.flatnonzero(np.diff(cost // max(_ROOM, 1))) + 1)
        rows = np.concatenate([fetch(self.get(_ROOM), indices[part]) for part in parts])
        return rows[np.argsort(order, kind="stable")]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._make, *self._arguments)


def map_array(path: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Any) -> np.ndarray[Any, Any]:
    """Map an array that lies in a file."""
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    with open(path, "rb") as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.ndarray(shape, dtype, view, offset, order=order)


def derived(path: Path, options: Any, ending: str, write: Callable[[Path], None]) -> Path:
    """Give the path of a file or folder in the cache that is made from another one, and made again when that changes."""
    state = path.stat()
    key = json.dumps([str(path.resolve()), state.st_size, state.st_mtime_ns, options], sort_keys=True, default=str)
    made = cache_folder() / "converted" / f"{path.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}{ending}"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as room:
            new = Path(room) / "new"
            write(new)
            try:
                new.replace(made)
            except OSError:
                if not made.exists():  # else another process was here first
                    raise
    return made


class NumpyFile(Dataset):
    """The rows of an array in a ``.npy`` file, which is mapped and not loaded: a set may be larger than memory.

    Put several side by side with `StackDataset`. Memory in use does not grow with what has been read.

    Parameters
    ----------
    path : path
        The file, as ``numpy.save`` writes it; no pickled objects.

    Raises
    ------
    DatasetError
        If it is no such file, or shorter than it says.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> np.save("images.npy", np.arange(12.0).reshape(4, 3)); np.save("labels.npy", np.arange(4))
    >>> data = nn.data.StackDataset(nn.data.datasets.NumpyFile("images.npy"), nn.data.datasets.NumpyFile("labels.npy"))
    >>> data[2]
    (array([6., 7., 8.]), np.int64(2))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
                offset, there = file.tell(), file.seek(0, os.SEEK_END)
        except FileNotFoundError:
            raise DatasetError(f"there is no {self.path}") from None
        except ValueError as error:
            raise DatasetError(f"{self.path} is no .npy file: {error}") from None
        if dtype.hasobject:
            raise DatasetError(f"{self.path} holds Python objects, which would have to be unpickled: save an array of numbers")
        if not shape:
            raise DatasetError(f"{self.path} holds one number, not rows")
        need = offset + int(np.prod(shape)) * dtype.itemsize
        if there < need:
            raise DatasetError(f"{self.path} is cut off: an array of shape {shape} takes {need} bytes, and there are {there}")
        self.shape, self.dtype = shape, dtype.newbyteorder("=")
        self._rows = Reopened(map_array, str(self.path), dtype, shape, offset, "F" if fortran else "C")
        self._size = int(np.prod(shape[1:])) * dtype.itemsize

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> Any:
        row = self._rows.get(self._size + _AROUND)[index]
        return np.array(row, self.dtype) if isinstance(row, np.ndarray) else self.dtype.type(row)

    def take(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Give the rows of these numbers as one batch."""
        return self._rows.read(np.asarray(indices), self._size, lambda rows, some: rows.take(some, axis=0)).astype(self.dtype, copy=False)
