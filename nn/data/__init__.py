"""Data in batches, under the names of ``torch.utils.data``."""

from agnostic_ad.nn.data import datasets, transforms
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
from agnostic_ad.nn.data.loader import DataLoader, default_collate
from agnostic_ad.nn.data.samplers import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

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
    "datasets",
    "default_collate",
    "random_split",
    "transforms",
]
