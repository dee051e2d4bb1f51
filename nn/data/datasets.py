"""Datasets that come with other packages, or from their publishers."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad.errors import AgnosticADError
from agnostic_ad.nn.data.dataset import TensorDataset

__all__ = ["DatasetError", "Digits", "FashionMNIST"]


class DatasetError(AgnosticADError, RuntimeError):
    """A dataset is absent, damaged, or cannot be fetched."""


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


class FashionMNIST(TensorDataset):
    """Zalando's images of clothes: 60,000 for training and 10,000 for testing, 28 by 28, as float32 from 0 to 1 of shape (1, 28, 28).

    They are looked for in ``root``, where Debian's package dataset-fashion-mnist puts them, and in the user's cache, and else are
    downloaded into that cache. The SHA-256 of what the files hold is checked.

    Parameters
    ----------
    root : path, optional
        A folder with the four ``.gz`` files; no other place is searched then.
    train : bool
        The training images, or those for testing.
    download : bool
        Whether they may be fetched from their publisher.
    """

    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    digests = {  # of the contents: repacked files (Debian's) are as good as the publisher's
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }

    def __init__(self, root: str | os.PathLike[str] | None = None, train: bool = True, download: bool = True) -> None:
        part = "train" if train else "t10k"
        images, labels = (self._content(f"{part}-{kind}-ubyte", root, download) for kind in ("images-idx3", "labels-idx1"))
        pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)
        super().__init__(pixels.astype(np.float32) / np.float32(255), np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))

    def _content(self, name: str, root: Any, download: bool) -> bytes:
        cache = _cache() / "fashion-mnist"
        places = [Path(root)] if root is not None else [*(folder / "fashion-mnist" for folder in _shared()), cache]
        for place in places:
            path = place / f"{name}.gz"
            if path.is_file():
                return _checked(path.read_bytes(), self.digests[name], str(path))
        if not download or root is not None:
            raise DatasetError(
                f"Fashion-MNIST: there is no {name}.gz in {', '.join(map(str, places))}. Install Debian's package dataset-fashion-mnist, "
                f"or get it from {self.url}"
            )
        packed = _fetch(self.url + f"{name}.gz", name)
        content = _checked(packed, self.digests[name], self.url + f"{name}.gz")
        _store(packed, cache / f"{name}.gz")
        return content


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agnostic_ad"


def _shared() -> list[Path]:
    return [Path(folder) / "datasets" for folder in (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")]


def _checked(packed: bytes, digest: str, where: str) -> bytes:
    """Unpack, and compare with the digest."""
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{where} is damaged: {error}. Delete it to have it fetched again.") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise DatasetError(f"{where} is damaged: what it holds has another SHA-256 than expected. Delete it to have it fetched again.")
    return content


def _fetch(url: str, name: str) -> bytes:
    """Download, with the progress on a terminal's standard error."""
    parts: list[bytes] = []
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while part := answer.read(1 << 18):
                parts.append(part)
                done += len(part)
                if sys.stderr.isatty():
                    share = f"{100 * done // total:3d} %" if total else f"{done >> 10} KiB"
                    print(f"\rdownloading {name}: {share}", end="" if done < total else "\n", file=sys.stderr, flush=True)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"Fashion-MNIST: {url} cannot be fetched ({error}). Install Debian's package dataset-fashion-mnist, or try --dataset digits"
        ) from None
    return b"".join(parts)


def _store(packed: bytes, path: Path) -> None:
    """Write a file that is there whole or not at all; without it, the next run downloads again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(packed)
        Path(temporary).replace(path)
    except OSError as error:
        print(f"agnostic_ad: {path} cannot be written ({error.strerror}); the data will be downloaded again next time", file=sys.stderr)
