"""Datasets: of publishers, in files of one's own, larger than memory, or streams."""

from agnostic_ad.nn.data.dataset import DamagedSample, DatasetError
from agnostic_ad.nn.data.datasets.downloads import cache_folder, extract, fetch
from agnostic_ad.nn.data.datasets.folders import DatasetFolder, ImageFolder, load_image
from agnostic_ad.nn.data.datasets.images import CIFAR10, CIFAR100, KMNIST, MNIST, Digits, FashionMNIST, ImageArrays, read_idx
from agnostic_ad.nn.data.datasets.mapped import NumpyFile
from agnostic_ad.nn.data.datasets.registry import Source, download, register, sources
from agnostic_ad.nn.data.datasets.tables import CSV, Parquet
from agnostic_ad.nn.data.datasets.text import JSONLines, Lines, TextWindows

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CSV",
    "KMNIST",
    "MNIST",
    "DamagedSample",
    "DatasetError",
    "DatasetFolder",
    "Digits",
    "FashionMNIST",
    "ImageArrays",
    "ImageFolder",
    "JSONLines",
    "Lines",
    "NumpyFile",
    "Parquet",
    "Source",
    "TextWindows",
    "cache_folder",
    "download",
    "extract",
    "fetch",
    "load_image",
    "read_idx",
    "register",
    "sources",
]
