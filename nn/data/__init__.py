"""Data in batches, under the names of ``torch.utils.data``."""

from agnostic_ad.nn.data import datasets, transforms
from agnostic_ad.nn.data.collate import default_collate, default_convert
from agnostic_ad.nn.data.dataset import (
    ChainDataset,
    ConcatDataset,
    DamagedSample,
    Dataset,
    DatasetError,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from agnostic_ad.nn.data.loader import DataLoader
from agnostic_ad.nn.data.samplers import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from agnostic_ad.nn.data.workers import WorkerError, WorkerInfo, get_worker_info

__all__ = [
    "BatchSampler",
    "ChainDataset",
    "ConcatDataset",
    "DamagedSample",
    "DataLoader",
    "Dataset",
    "DatasetError",
    "DistributedSampler",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "WeightedRandomSampler",
    "WorkerError",
    "WorkerInfo",
    "datasets",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "random_split",
    "transforms",
]
