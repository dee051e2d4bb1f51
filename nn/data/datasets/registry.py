"""Which datasets can be had, from where, and what their files must hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agnostic_ad.nn.data.dataset import DatasetError
from agnostic_ad.nn.data.datasets.downloads import cache_folder, check, fetch

__all__ = ["Source", "download", "register", "sources"]


@dataclass(frozen=True)
class Source:
    """A dataset that can be downloaded.

    Parameters
    ----------
    name : str
        What `download` knows it by; also the folder that it lies in, in the cache and among Debian's datasets.
    title : str
        What errors call it.
    urls : tuple of str
        The address of the folder with its files, ending in a slash, and of others with the same files.
    digests : mapping of str to str
        The SHA-256 of each file. Under the name of a file without its ``.gz`` it is that of what the packed file holds: files that were
        packed again are as good as the publisher's.
    package : str, optional
        Debian's package, if there is one.
    """

    name: str
    title: str
    urls: tuple[str, ...]
    digests: Mapping[str, str]
    package: str | None = None

    def find(self, file: str, root: str | os.PathLike[str] | None = None, download: bool = True) -> Path:
        """Give the path of one file, checked; it is looked for in the system's folders and in the cache, or in ``root`` alone.

        Parameters
        ----------
        file : str
            One of the keys of ``digests``.
        root : path, optional
            The only folder to look in.
        download : bool
            Whether it may be fetched into the cache.

        Raises
        ------
        DatasetError
            If it is not there and not to be had, or damaged.
        """
        unpacked = not file.endswith((".gz", ".zip", ".tar"))
        name = f"{file}.gz" if unpacked else file
        cache = cache_folder() / self.name
        places = [Path(root)] if root is not None else [*(folder / self.name for folder in _shared()), cache]
        for path in (place / each for place in places for each in dict.fromkeys((name, file))):
            if path.is_file():
                try:
                    check(path, self.digests[file], unpacked and path.name != file)
                except DatasetError as error:
                    raise DatasetError(f"{error}. Delete it to have it fetched again.") from None
                return path
        package = f"Install Debian's package {self.package}, or" if self.package else "To have it,"
        if not download or root is not None:
            raise DatasetError(f"{self.title}: there is no {name} in {', '.join(map(str, places))}. {package} get it from {self.urls[0]}")
        try:
            return fetch([url + name for url in self.urls], cache / name, self.digests[file], unpacked=unpacked)
        except DatasetError as error:
            raise DatasetError(f"{self.title}: {error}. {package} put it into {cache}") from None


def _shared() -> list[Path]:
    return [Path(folder) / "datasets" for folder in (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")]


_SOURCES: dict[str, Source] = {}


def register(source: Source) -> Source:
    """Make a dataset known to `download`, in place of any of that name."""
    _SOURCES[source.name] = source
    return source


def sources() -> dict[str, Source]:
    """Give all datasets that can be downloaded, by name."""
    return dict(_SOURCES)


def download(name: str) -> dict[str, Path]:
    """Find all files of a dataset, or fetch them into the cache.

    Parameters
    ----------
    name : str
        One of `sources`, such as "mnist".

    Returns
    -------
    dict of str to Path
        The path of each file.

    Raises
    ------
    DatasetError
        If there is no such dataset, or a file is damaged or not to be had.

    Examples
    --------
    >>> from agnostic_ad.nn.data import datasets
    >>> datasets.download("mnits")
    Traceback (most recent call last):
        ...
    agnostic_ad.nn.data.dataset.DatasetError: there is no dataset 'mnits'; there are cifar10, cifar100, fashion-mnist, kmnist, mnist
    """
    if name not in _SOURCES:
        raise DatasetError(f"there is no dataset {name!r}; there are {', '.join(sorted(_SOURCES))}")
    return {file: _SOURCES[name].find(file) for file in _SOURCES[name].digests}


def _family(*digests: str, packed: bool = False) -> dict[str, str]:
    """Name the four files of the MNIST family."""
    names = (f"{part}-{kind}-ubyte{'.gz' if packed else ''}" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
    return dict(zip(names, digests, strict=True))


MNIST = register(
    Source(
        "mnist",
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        _family(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    )
)
FASHION_MNIST = register(
    Source(
        "fashion-mnist",
        "Fashion-MNIST",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _family(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        "dataset-fashion-mnist",
    )
)
KMNIST = register(
    Source(
        "kmnist",
        "KMNIST",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        _family(
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            packed=True,
        ),
    )
)
_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR10 = register(
    Source(
        "cifar10",
        "CIFAR-10",
        _TORONTO,
        {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
    )
)
CIFAR100 = register(
    Source(
        "cifar100",
        "CIFAR-100",
        _TORONTO,
        {"cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"},
    )
)
