"""Datasets and loaders."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.data import DataLoader, Dataset, TensorDataset, datasets


def numbers(loader: Any) -> list[int]:
    return [int(n) for (x,) in loader for n in x]


def test_batches() -> None:
    data = TensorDataset(np.arange(10))
    assert [x.shape for (x,) in DataLoader(data, 4)] == [(4,), (4,), (2,)]
    assert numbers(DataLoader(data, 4)) == list(range(10))
    assert [x.shape for (x,) in DataLoader(data, 4, drop_last=True)] == [(4,), (4,)]
    assert [len(DataLoader(data, n)) for n in (1, 3, 5, 10, 11)] == [10, 4, 2, 1, 1]
    assert len(DataLoader(data, 4, drop_last=True)) == 2


def test_order() -> None:
    data = TensorDataset(np.arange(20))
    loader = DataLoader(data, 6, shuffle=True, seed=3)
    first, second = numbers(loader), numbers(loader)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    again = DataLoader(data, 6, shuffle=True, generator=ad.Generator(3))
    assert [numbers(again), numbers(again)] == [first, second]
    ad.manual_seed(3)
    assert numbers(DataLoader(data, 6, shuffle=True)) == first


def test_batches_are_copies() -> None:
    x = np.arange(4.0)
    for (batch,) in DataLoader(TensorDataset(x), 2):
        batch += 1
    assert x.tolist() == [0, 1, 2, 3]


def test_other_libraries(backend: support.Backend) -> None:
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3)
    kind = type(backend.asarray(1.0))
    for data, options in ((TensorDataset(x, y), {"xp": backend.xp}), (TensorDataset(backend.asarray(x), backend.asarray(y)), {})):
        batches = list(DataLoader(data, 2, shuffle=True, seed=0, **options))
        assert all(type(part) is kind for batch in batches for part in batch)
        assert sorted(n for _, b in batches for n in backend.numpy(b).tolist()) == [0, 1, 2]
        for a, b in batches:
            np.testing.assert_array_equal(backend.numpy(a)[:, 0], 2 * backend.numpy(b))


class Pair(NamedTuple):
    image: Any
    label: Any


class Own(Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return {"pair": Pair(np.ones(2) * index, index), "name": str(index), "v": ad.Variable([1.0], requires_grad=False)}


def test_samples_are_collated() -> None:
    (batch,) = DataLoader(Own(), 3)
    assert batch["pair"].image.tolist() == [[0, 0], [1, 1], [2, 2]] and batch["pair"].label.tolist() == [0, 1, 2]
    assert batch["name"] == ["0", "1", "2"] and batch["v"].shape == (3, 1)
    assert list(DataLoader(Own(), 2, collate_fn=len)) == [2, 1]
    assert next(iter(DataLoader(TensorDataset(np.arange(3)), 3, collate_fn=lambda b: [int(x) for (x,) in b]))) == [0, 1, 2]


def test_what_data_refuses() -> None:
    data = TensorDataset(np.arange(3))
    for call, text in [
        (lambda: TensorDataset(np.ones(2), np.ones(3)), "arrays of one length, not of 2, 3"),
        (lambda: TensorDataset(), "not of none"),
        (lambda: TensorDataset(ad.Variable([1.0])), r"pass x.detach\(\)"),
        (lambda: DataLoader(data, 0), "batch_size is an integer of 1 or more, not 0"),
        (lambda: DataLoader(data, 1, seed=1, generator=ad.Generator(1)), "a generator or a seed, not both"),
        (lambda: len(DataLoader(Dataset())), "no __len__"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()


def test_digits() -> None:
    pytest.importorskip("sklearn")
    train, test = datasets.Digits(), datasets.Digits(train=False)
    assert len(train) == 1437 and len(test) == 360
    images, targets = train.tensors
    assert images.shape[1:] == (1, 8, 8) and images.dtype == np.float32 and images.min() == 0 and images.max() == 1
    assert set(targets.tolist()) == set(range(10)) and targets.dtype == np.int64


# --- Fashion-MNIST, on four small files of our own ---
def write(folder: Path) -> dict[str, str]:
    import hashlib

    digests = {}
    folder.mkdir(parents=True)
    for part, n in (("train", 3), ("t10k", 2)):
        for kind, content in (
            ("images-idx3", struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + bytes(range(256)) * (n * 784 // 256) + bytes(n * 784 % 256)),
            ("labels-idx1", struct.pack(">4BI", 0, 0, 8, 1, n) + bytes(n)),
        ):
            name = f"{part}-{kind}-ubyte"
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            digests[name] = hashlib.sha256(content).hexdigest()
    return digests


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_fashion_mnist_is_found_where_debian_puts_it(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "digests", write(homes / "share" / "datasets" / "fashion-mnist"))
    train, test = datasets.FashionMNIST(), datasets.FashionMNIST(train=False)
    assert train.tensors[0].shape == (3, 1, 28, 28) and len(test) == 2 and train.tensors[0].max() == 1
    assert len(datasets.FashionMNIST(homes / "share" / "datasets" / "fashion-mnist")) == 3


def test_fashion_mnist_is_fetched_and_kept(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.FashionMNIST, "digests", write(homes / "publisher"))
    monkeypatch.setattr(datasets.FashionMNIST, "url", (homes / "publisher").as_uri() + "/")
    assert len(datasets.FashionMNIST()) == 3
    kept = homes / "cache" / "agnostic_ad" / "fashion-mnist"
    assert sorted(p.name for p in kept.iterdir()) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    monkeypatch.setattr(datasets.FashionMNIST, "url", "file:///nowhere/")
    assert len(datasets.FashionMNIST()) == 3
    with pytest.raises(datasets.DatasetError, match="cannot be fetched"):
        datasets.FashionMNIST(train=False)


def test_fashion_mnist_absent_or_damaged(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = homes / "share" / "datasets" / "fashion-mnist"
    with pytest.raises(datasets.DatasetError, match=r"there is no train-images-idx3-ubyte.gz in .*Debian's package dataset-fashion-mnist"):
        datasets.FashionMNIST(download=False)
    monkeypatch.setattr(datasets.FashionMNIST, "digests", write(folder))
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for damaged in (whole[:-9], b"no gzip", gzip.compress(b"something else"), whole[:40] + b"\0\1" + whole[42:]):
        path.write_bytes(damaged)
        with pytest.raises(datasets.DatasetError, match=r"train-images-idx3-ubyte.gz is damaged: .*Delete it"):
            datasets.FashionMNIST()


def test_modules_of_the_package() -> None:
    assert nn.data.datasets is datasets
