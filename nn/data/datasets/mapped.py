"""Files that lie on disk and are looked into, with memory that does not grow with what has been read."""

from __future__ import annotations

import hashlib
import json
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
_AROUND = 1 << 16  # what Linux maps around a page that is asked for


class Reopened(Generic[T]):
    """A mapped file, mapped anew from time to time, since all that has been read of a mapping counts as the process's memory.

    What was got before stays valid: it holds the older mapping. The object goes to other processes as the way to open it.
    """

    def __init__(self, make: Callable[..., T], *arguments: Any) -> None:
        self._make, self._arguments = make, arguments
        self._file = make(*arguments)
        self._read = 0

    def get(self, rows: int, size: int) -> T:
        """Give the open file, to read some rows of a size in bytes from."""
        self._read += rows * (size + _AROUND)
        if self._read > _ROOM:
            self._read = 0
            self._file = self._make(*self._arguments)
        return self._file

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._make, *self._arguments)


def map_array(path: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Any) -> np.ndarray[Any, Any]:
    """Map an array that lies in a file."""
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape, order))


def derived(path: Path, options: Any, ending: str, write: Callable[[Path], None]) -> Path:
    """Give the path of a file in the cache that is made from another one, and made again when that changes."""
    state = path.stat()
    key = json.dumps([str(path.resolve()), state.st_size, state.st_mtime_ns, options], sort_keys=True, default=str)
    made = cache_folder() / "converted" / f"{path.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}{ending}"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as room:
            new = Path(room) / "new"
            write(new)
            new.replace(made)
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
        row = self._rows.get(1, self._size)[index]
        return np.array(row, self.dtype) if isinstance(row, np.ndarray) else self.dtype.type(row)

    def take(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Give the rows of these numbers as one batch."""
        return self._rows.get(len(indices), self._size).take(indices, axis=0).astype(self.dtype, copy=False)
