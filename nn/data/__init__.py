"""Data in batches, under the names of ``torch.utils.data``."""

from agnostic_ad.nn.data import datasets
from agnostic_ad.nn.data.dataset import Dataset, TensorDataset
from agnostic_ad.nn.data.loader import DataLoader, default_collate

__all__ = ["DataLoader", "Dataset", "TensorDataset", "datasets", "default_collate"]
