"""Datasets: of publishers, in files of one's own, larger than memory, or streams."""

from agnostic_ad.nn.data.dataset import DamagedSample, DatasetError
from agnostic_ad.nn.data.datasets.downloads import cache_folder, extract, fetch
from agnostic_ad.nn.data.datasets.images import CIFAR10, CIFAR100, KMNIST, MNIST, Digits, FashionMNIST, ImageArrays, read_idx
from agnostic_ad.nn.data.datasets.registry import Source, download, register, sources

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "KMNIST",
    "MNIST",
    "DamagedSample",
    "DatasetError",
    "Digits",
    "FashionMNIST",
    "ImageArrays",
    "Source",
    "cache_folder",
    "download",
    "extract",
    "fetch",
    "read_idx",
    "register",
    "sources",
]
