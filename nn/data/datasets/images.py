"""Images in files of the publishers' own formats, small enough for memory: IDX and CIFAR's."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad.nn.data.dataset import DatasetError, TensorDataset
from agnostic_ad.nn.data.datasets import registry
from agnostic_ad.nn.data.datasets.downloads import cache_folder, extract

__all__ = ["CIFAR10", "CIFAR100", "KMNIST", "MNIST", "Digits", "FashionMNIST", "ImageArrays", "read_idx"]

_IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # the third byte of a file says its dtype


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Read an array from a file of MNIST's format, IDX, packed by gzip or not.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    numpy.ndarray
        The array, in the machine's byte order.

    Raises
    ------
    DatasetError
        If it is no such file, or is shorter or longer than it says.

    Notes
    -----
    The format: two zero bytes, one for the dtype, one for the number of axes, their lengths as big-endian int32, and the numbers.
    """
    content = Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"{path} is damaged: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX or len(content) < 4 + 4 * content[3]:
        raise DatasetError(f"{path} is no IDX file: it begins with {content[:4]!r}")
    shape = struct.unpack(f">{content[3]}I", content[4 : 4 + 4 * content[3]])
    dtype = np.dtype(_IDX[content[2]])
    start, size = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
    if len(content) != start + size:
        raise DatasetError(f"{path} is damaged: an array of shape {shape} takes {start + size} bytes, and there are {len(content)}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


class ImageArrays(TensorDataset):
    """Images and their classes in memory.

    Parameters
    ----------
    images : array of uint8
        Of shape (number, channels, height, width).
    targets : array of integer
        The class of each.
    transform, target_transform : callable, optional
        Applied to each image, and to each class, when it is asked for. Whole batches are then no longer fetched at once.
    dtype : "float32" or "uint8"
        Images as floating-point numbers from 0 to 1 of shape (channels, height, width); or as they are stored, of shape
        (height, width, channels).

    Attributes
    ----------
    tensors : tuple of array
        The images and the classes.
    targets : array of int64
        The classes.

    Raises
    ------
    ValueError
        If there are not as many images as classes.
    """

    def __init__(
        self,
        images: np.ndarray[Any, Any],
        targets: np.ndarray[Any, Any],
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        if dtype not in ("float32", "uint8"):
            raise ValueError(f'{type(self).__name__}: dtype is "float32" or "uint8", not {dtype!r}')
        if len(images) != len(targets):
            raise ValueError(f"{type(self).__name__}: there are {len(images)} images and {len(targets)} labels")
        if dtype == "float32":
            images = images.astype(np.float32)
            images /= np.float32(255)
        else:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        super().__init__(images, targets.astype(np.int64))
        self.transform, self.target_transform = transform, target_transform

    @property
    def targets(self) -> Any:
        return self.tensors[1]

    def __getitem__(self, index: Any) -> Any:
        image, target = super().__getitem__(index)
        return (
            image if self.transform is None else self.transform(image),
            target if self.target_transform is None else self.target_transform(target),
        )

    @property
    def take(self) -> Any:
        """Give the samples of these numbers as one batch; there where no sample is transformed."""
        if self.transform is not None or self.target_transform is not None:
            raise AttributeError(f"{type(self).__name__} with a transform has no take()")
        return super().take


class Digits(TensorDataset):
    """scikit-learn's handwritten digits: 1,797 images of 8 by 8, in a fixed random order; the first 1,437 are for training.

    Parameters
    ----------
    train : bool
        The training images, or the other 360.

    Attributes
    ----------
    classes : list of str
        The names of the classes.
    """

    classes = [str(i) for i in range(10)]

    def __init__(self, train: bool = True) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise DatasetError("the digits come with scikit-learn: pip install 'agnostic_ad[train]'") from None
        images, targets = load_digits(return_X_y=True)
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
        order = order[:1437] if train else order[1437:]
        super().__init__((images[order] / 16).astype(np.float32).reshape(-1, 1, 8, 8), targets[order].astype(np.int64))


class MNIST(ImageArrays):
    """Handwritten digits: 60,000 images for training and 10,000 for testing, 28 by 28, as float32 from 0 to 1 of shape (1, 28, 28).

    They are looked for in ``root``, where Debian's packages put such files, and in the user's cache, and else are downloaded into that
    cache. The SHA-256 of what the files hold is checked.

    Parameters
    ----------
    root : path, optional
        A folder with the four IDX files, packed (``.gz``) or not; no other place is searched then.
    train : bool
        The training images, or those for testing.
    download : bool
        Whether they may be fetched from their publisher.
    transform, target_transform : callable, optional
        Applied to each image, and to each class.
    dtype : "float32" or "uint8"
        As of `ImageArrays`.

    Attributes
    ----------
    classes : list of str
        The names of the classes.

    Raises
    ------
    DatasetError
        If they are not there and cannot be had, or are damaged.
    """

    source = registry.MNIST
    url = source.urls[0]
    digests = source.digests
    classes = [str(i) for i in range(10)]

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        download: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        source = replace(self.source, urls=(self.url, *self.source.urls[1:]), digests=self.digests)
        part = "train" if train else "t10k"
        names = [f"{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
        names = [name if name in self.digests else f"{name}.gz" for name in names]
        images, labels = (read_idx(source.find(name, root, download)) for name in names)
        super().__init__(images[:, None], labels, transform, target_transform, dtype)


class FashionMNIST(MNIST):
    """Zalando's images of clothes: 60,000 for training and 10,000 for testing, 28 by 28, as float32 from 0 to 1 of shape (1, 28, 28).

    They are looked for in ``root``, where Debian's package dataset-fashion-mnist puts them, and in the user's cache, and else are
    downloaded into that cache. The SHA-256 of what the files hold is checked. The parameters are those of `MNIST`.
    """

    source = registry.FASHION_MNIST
    url = source.urls[0]
    digests = source.digests
    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


class KMNIST(MNIST):
    """Kuzushiji-MNIST: cursive hiragana, in the form of `MNIST` and with its parameters. The SHA-256 of the ``.gz`` files is checked."""

    source = registry.KMNIST
    url = source.urls[0]
    digests = source.digests
    classes = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"]


class CIFAR10(ImageArrays):
    """The CIFAR-10 images: 50,000 for training and 10,000 for testing, as float32 from 0 to 1 of shape (3, 32, 32).

    Read are the files of the publisher's binary version, which hold no pickles. The archive is looked for as `MNIST`'s files are, checked,
    and unpacked into the cache.

    Parameters
    ----------
    root : path, optional
        A folder with the ``.bin`` files, the folder around it, or a folder with the archive; no other place is searched then.
    train : bool
        The training images, or those for testing.
    download : bool
        Whether they may be fetched from their publisher.
    transform, target_transform : callable, optional
        Applied to each image, and to each class.
    dtype : "float32" or "uint8"
        As of `ImageArrays`; the training images take 614 MB as float32, 154 MB as uint8.

    Attributes
    ----------
    classes : list of str
        The names of the classes.

    Raises
    ------
    DatasetError
        If they are not there and cannot be had, or are damaged.
    """

    source = registry.CIFAR10
    folder = "cifar-10-batches-bin"
    files = (tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",))
    names = "batches.meta.txt"
    labels, classes_number = 1, 10  # the bytes before an image, of which the last is its class

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        download: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        folder = self._unpacked(root, download)
        rows = np.concatenate([self._rows(folder / name) for name in self.files[not train]])
        listed = folder / self.names
        self.classes = listed.read_text(encoding="utf-8").split() if listed.is_file() else [str(i) for i in range(self.classes_number)]
        images = rows[:, self.labels :].reshape(-1, 3, 32, 32)
        super().__init__(images, rows[:, self.labels - 1], transform, target_transform, dtype)

    def _unpacked(self, root: Any, download: bool) -> Path:
        for place in [] if root is None else [Path(root), Path(root) / self.folder]:
            if (place / self.files[0][0]).is_file():
                return place
        (archive,) = self.source.digests
        packed = self.source.find(archive, root, download)
        return extract(packed, cache_folder() / self.source.name / self.folder) / self.folder

    def _rows(self, path: Path) -> np.ndarray[Any, Any]:
        width = self.labels + 3072
        if not path.is_file():
            raise DatasetError(f"{self.source.title}: there is no {path}")
        content = np.fromfile(path, np.uint8)
        if not content.size or content.size % width:
            raise DatasetError(f"{path} is damaged: {content.size} bytes are not a whole number of images of {width} bytes each")
        rows = content.reshape(-1, width)
        wrong = np.flatnonzero(rows[:, self.labels - 1] >= self.classes_number)
        if wrong.size:
            raise DatasetError(
                f"{path} is damaged: image {wrong[0]} has the class {rows[wrong[0], self.labels - 1]} of {self.classes_number}"
            )
        return rows


class CIFAR100(CIFAR10):
    """The CIFAR-100 images and their fine classes, in the form of `CIFAR10` and with its parameters."""

    source = registry.CIFAR100
    folder = "cifar-100-binary"
    files = (("train.bin",), ("test.bin",))
    names = "fine_label_names.txt"
    labels, classes_number = 2, 100
