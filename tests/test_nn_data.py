"""Datasets and loaders."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import struct
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.data import DataLoader, Dataset, TensorDataset, datasets
from agnostic_ad.random import default_generator


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
    again = DataLoader(data, 6, shuffle=True, seed=3)
    assert [numbers(again), numbers(again)] == [first, second]
    drawn = DataLoader(data, 6, shuffle=True, generator=ad.Generator(3))
    ad.manual_seed(3)  # where no seed is passed, it is drawn from a generator: this one, or the default one
    assert drawn.seed == DataLoader(data, 6, shuffle=True).seed
    assert numbers(drawn) == numbers(DataLoader(data, 6, shuffle=True, seed=drawn.seed)) != first


def test_batches_are_copies() -> None:
    x = np.arange(4.0)
    for (batch,) in DataLoader(TensorDataset(x), 2):
        batch += 1
    assert x.tolist() == [0, 1, 2, 3]


def test_mapped_files(tmp_path: Path) -> None:
    array = np.arange(60.0).reshape(20, 3)
    np.save(tmp_path / "x.npy", array)
    for mode in ("r", "c"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        if mode == "c":
            mapped[3] = array[3] = -1  # in memory, not in the file
        for x, y in ((mapped, array), (mapped[::-1, 1:], array[::-1, 1:])):
            (batch,) = next(iter(DataLoader(TensorDataset(x), 20, shuffle=True, seed=0)))
            assert type(batch) is np.ndarray and np.array_equal(np.sort(batch, axis=0), np.sort(y, axis=0))
            assert np.array_equal(TensorDataset(x).take(np.asarray([3, -1]))[0], y[[3, -1]])
    with pytest.raises(IndexError):
        TensorDataset(mapped).take(np.asarray([20]))


def test_other_libraries(backend: support.Backend) -> None:
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3)
    kind = type(backend.asarray(1.0))
    for data, options in ((TensorDataset(x, y), {"xp": backend.xp}), (TensorDataset(backend.asarray(x), backend.asarray(y)), {})):
        batches = list(DataLoader(data, 2, shuffle=True, seed=0, **options))
        assert all(type(part) is kind for batch in batches for part in batch)
        assert sorted(n for _, b in batches for n in backend.numpy(b).tolist()) == [0, 1, 2]
        for a, b in batches:
            np.testing.assert_array_equal(backend.numpy(a)[:, 0], 2 * backend.numpy(b))


def test_batches_are_on_their_way_ahead_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stager:
        def stage(self, x: Any) -> Any:
            events.append(("stage", x.tolist()))
            return x

        def deliver(self, x: Any) -> Any:
            events.append(("deliver", x.tolist()))
            return x

    events: list[Any] = []
    monkeypatch.setattr(type(backend_of(np.ones(1))), "stager", lambda self, device: Stager(), raising=False)
    loader = DataLoader([(np.asarray(i), "a") for i in range(3)], 1, xp=np)
    got = []
    for x, text in loader:
        events.append(("use", x.tolist()))
        got.append((x.tolist(), text, loader.state_dict()["batches"]))
    assert got == [([0], ["a"], 1), ([1], ["a"], 2), ([2], ["a"], 3)]
    names = ["stage", "stage", "deliver", "use", "stage", "deliver", "use", "deliver", "use"]
    assert events == list(zip(names, [[0], [1], [0], [0], [2], [1], [1], [2], [2]]))


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
        (lambda: DataLoader(data, 0), "batch_size is an integer of 1 or more, or None, not 0"),
        (lambda: DataLoader(data, 1, seed=1, generator=ad.Generator(1)), "a generator or a seed, not both"),
        (lambda: len(DataLoader(Dataset())), "no __len__"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()


# --- the arguments of PyTorch's DataLoader ------------------------------------------------------------------------------------------
class Stream(nn.data.IterableDataset):
    def __iter__(self) -> Any:
        return iter(range(7))


class Many(Dataset):
    """Fetches samples together."""

    asked: list[Any]

    def __init__(self) -> None:
        self.asked = []

    def __len__(self) -> int:
        return 5

    def __getitems__(self, indices: list[int]) -> list[Any]:
        self.asked.append(indices)
        return [(i, np.random.random()) for i in indices]


def test_single_samples_and_batches_of_others() -> None:
    assert [x for (x,) in DataLoader(TensorDataset(np.arange(3.0)), None)] == [0, 1, 2]
    assert [type(x) for x in DataLoader([np.float32(1), "a"], batch_size=None)] == [np.ndarray, str]
    assert nn.data.default_convert({"v": ad.Variable([1.0], requires_grad=False), "t": (np.int64(1), 2)})["t"] == (np.asarray(1), 2)
    assert [b.tolist() for b in DataLoader(Stream(), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [b.tolist() for b in DataLoader(Stream(), 3, drop_last=True)] == [[0, 1, 2], [3, 4, 5]]
    assert list(DataLoader(Stream(), None)) == list(range(7))
    batches = DataLoader(TensorDataset(np.arange(9)), batch_sampler=[[1, 2], [5], [8, 0, 3]])
    assert [b.tolist() for (b,) in batches] == [[1, 2], [5], [8, 0, 3]] and len(batches) == 3 and batches.batch_size is None
    assert numbers(DataLoader(TensorDataset(np.arange(9)), 2, sampler=[5, 5, 1])) == [5, 5, 1]
    assert len(DataLoader(TensorDataset(np.arange(9)), 2, sampler=[5, 5, 1])) == 2
    many = Many()
    (first, second), (again, _) = list(DataLoader(many, 3, seed=0)), list(DataLoader(many, 3, seed=0))
    assert many.asked[-1] == [3, 4] and first[0].tolist() == [0, 1, 2] and (first[1] == again[1]).all() and second[1].shape == (2,)
    loader = DataLoader(TensorDataset(np.arange(4)), 2, True)
    assert isinstance(loader.sampler, nn.data.RandomSampler) and isinstance(loader.batch_sampler, nn.data.BatchSampler)


def test_what_a_loader_refuses() -> None:
    data, stream = TensorDataset(np.arange(6)), Stream()
    for arguments, text in [
        (dict(dataset=data, num_workers=-1), "num_workers is an integer of 0 or more, not -1"),
        (dict(dataset=data, workers=2), 'workers is "processes" or "threads", not 2; num_workers= says how many'),
        (dict(dataset=data, timeout=-1), "timeout is 0 or more seconds"),
        (dict(dataset=data, prefetch_factor=2), "prefetch_factor is 1 or more, and needs num_workers of 1 or more; they are 2 and 0"),
        (dict(dataset=data, persistent_workers=True), "persistent_workers needs num_workers"),
        (dict(dataset=data, multiprocessing_context="spawn"), "multiprocessing_context needs num_workers"),
        (dict(dataset=stream, shuffle=True), "shuffle orders samples by their numbers, which an IterableDataset does not have"),
        (dict(dataset=stream, sampler=[0]), "sampler orders samples"),
        (dict(dataset=data, batch_sampler=[[0]], shuffle=True), "pass it alone"),
        (dict(dataset=data, batch_sampler=[[0]], batch_size=2), "pass it alone"),
        (dict(dataset=data, sampler=[0], shuffle=True), "shuffle and sampler both order the samples"),
        (dict(dataset=data, batch_size=None, drop_last=True), "drop_last needs batch_size"),
        (dict(dataset=data, generator=np.random.default_rng(0)), "generator is an agnostic_ad.Generator"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            DataLoader(**arguments)
    with pytest.raises(ValueError, match=r"sample 0 has shape \(2,\), sample 1 shape \(3,\).*pass collate_fn"):
        list(DataLoader([np.ones(2), np.ones(3)], 2))
    with pytest.raises(ValueError, match="they have 1 and 2 entries"):
        list(DataLoader([(1,), (1, 2)], 2))
    with pytest.raises(TypeError, match="not NoneType: pass collate_fn="):
        list(DataLoader([None, None], 2))
    loader = DataLoader(data, 3)
    with pytest.raises(ValueError, match="there is no 'epoch' in it"):
        loader.load_state_dict({"seed": 1})
    with pytest.raises(ValueError, match="after 2 batches of 2 samples, and this loader's have 3: make it with batch_size=2"):
        loader.load_state_dict({"seed": 1, "epoch": 0, "batches": 2, "batch_size": 2})


# --- one seed, and where a loader stands --------------------------------------------------------------------------------------------
class Draws(Dataset):
    """Everything that can be drawn from."""

    def __init__(self, n: int = 20) -> None:
        self.n, self.rng, self.ours = n, np.random.default_rng(), ad.Generator()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Any:
        gauss = np.random.randn()  # keeps a second number for later
        return np.asarray([index, self.rng.random(), self.ours.uniform(), gauss, random.random(), default_generator.uniform()])


def equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def rows(batches: list[Any]) -> dict[int, list[list[float]]]:
    """Sort samples by their numbers."""
    found: dict[int, list[list[float]]] = {}
    for row in np.concatenate(batches).tolist():
        found.setdefault(int(row[0]), []).append(row)
    return found


def test_draws_follow_from_seed_epoch_and_sample() -> None:
    first, again = DataLoader(Draws(), 4, True, seed=1), DataLoader(Draws(), 4, True, seed=1)
    epochs = [list(first), list(first)]
    assert equal(epochs[0], list(again)) and equal(epochs[1], list(again))
    other_seed, in_order = list(DataLoader(Draws(), 4, True, seed=2)), list(DataLoader(Draws(), 7, seed=1))
    assert rows(in_order) == rows(epochs[0])  # of order and batch size they do not know
    drawn = [row[1:] for batches in (*epochs, other_seed) for same in rows(batches).values() for row in same]
    assert len({x for row in drawn for x in row}) == 3 * 20 * 5
    repeated = rows(list(DataLoader(Draws(), 4, seed=1, sampler=[3, 3, 3, 4])))
    assert repeated[3][0] == rows(in_order)[3][0] and len({tuple(row) for row in repeated[3]}) == 3  # another draw each time


def test_what_others_draw_is_left_alone() -> None:
    def elsewhere() -> list[float]:
        return [np.random.randn(), random.random(), float(default_generator.uniform()), shared.random()]

    def start() -> None:
        np.random.seed(1), random.seed(1), ad.manual_seed(1)
        data.rng.bit_generator.state = np.random.PCG64(1).state

    data = Draws()
    shared = data.rng
    start()
    expected = [elsewhere() for _ in range(5)]
    start()
    got = [elsewhere() for _ in zip(range(5), DataLoader(data, 4, True, seed=0))]
    assert got == expected


SAMPLERS = {
    "shuffled": lambda: {"shuffle": True},
    "its own seed": lambda: {"sampler": nn.data.RandomSampler(range(20), seed=3)},
    "the default generator": lambda: {"sampler": nn.data.RandomSampler(range(20))},
    "another generator": lambda: {"sampler": nn.data.SubsetRandomSampler(range(20), generator=ad.Generator(3))},
    "weights": lambda: {"batch_sampler": nn.data.BatchSampler(nn.data.WeightedRandomSampler(np.ones(20), 20, seed=1), 4, False)},
    "distributed": lambda: {"sampler": nn.data.DistributedSampler(range(20), 2, 1)},
    "of others": lambda: {"sampler": OfOthers()},
    "with a state": lambda: {"sampler": WithState()},
}


class OfOthers:
    def __init__(self) -> None:
        self.rngs = [np.random.default_rng(0), np.random.RandomState(1), random.Random(2), np.random.Generator(np.random.MT19937(3))]

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Any:
        for i in range(20):
            yield int(self.rngs[i % 4].random() * 10 + np.random.random() * 5 + random.random() * 5)


class WithState:
    start = 0

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Any:
        self.start += 1
        return (i * self.start % 20 for i in range(20))

    def state_dict(self) -> dict[str, int]:
        return {"start": self.start}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["start"]


@pytest.mark.parametrize("how", SAMPLERS)
def test_resume(how: str) -> None:
    def make() -> DataLoader:
        arguments = SAMPLERS[how]()
        return DataLoader(Draws(), **arguments, **({} if "batch_sampler" in arguments else {"batch_size": 4}), seed=7)

    loader = make()
    epochs = [list(loader) for _ in range(3)]
    assert not equal(epochs[0], epochs[1])
    for after in range(len(epochs[1]) + 1):
        loader = make()
        list(loader)
        assert equal(list(itertools.islice(loader, after)), epochs[1][:after])
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = make()
        np.random.random(), random.random(), default_generator.uniform()
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        assert equal(list(resumed), epochs[1][after:])
        assert equal(list(resumed), epochs[2])
    start, end = make(), make()
    list(start)
    end.load_state_dict(start.state_dict())
    assert start.state_dict() == end.state_dict() and start.state_dict()["batches"] == 0
    assert equal(list(end), epochs[1])


def test_epochs() -> None:
    loader = DataLoader(TensorDataset(np.arange(20)), 4, True, seed=0)
    first, second, third = (numbers(loader) for _ in range(3))
    loader.set_epoch(1)
    assert numbers(loader) == second and loader.state_dict()["epoch"] == 2
    loader.set_epoch(0)
    next(iter(loader))  # an epoch that is left is over
    assert numbers(loader) == second and numbers(loader) == third
    loader.set_epoch(0)
    one, other = iter(loader), iter(loader)
    assert numbers(one) == numbers(other) == first  # of two at once the last one counts
    assert loader.state_dict()["epoch"] == 1
    sampler = nn.data.DistributedSampler(range(20), 1, 0, seed=3)
    loader = DataLoader(TensorDataset(np.arange(20)), 4, sampler=sampler)
    list(loader)
    orders = numbers(loader)
    sampler.set_epoch(1)
    assert orders == list(sampler)  # the loader tells it the epoch


def test_a_seed_is_drawn_once() -> None:
    ad.manual_seed(4)
    loader = DataLoader(TensorDataset(np.arange(20)), 4, True)
    state = loader.state_dict()
    first = numbers(loader)
    ad.manual_seed(5)
    second = numbers(loader)
    assert loader.state_dict()["seed"] == state["seed"]
    again = DataLoader(TensorDataset(np.arange(20)), 4, True)
    again.load_state_dict(state)
    assert [numbers(again), numbers(again)] == [first, second]


class Damaged(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        if index in (1, 2, 3, 7):
            raise nn.data.DamagedSample(index, f"{index}.png", "cut off", skip=index < 4)
        return index


def test_damaged_samples() -> None:
    loader = DataLoader(Damaged(), 2)
    got = []
    with (
        warnings.catch_warnings(record=True) as told,
        pytest.raises(nn.data.DamagedSample, match=r"sample 7, 7.png, cannot be read: cut off"),
    ):
        warnings.simplefilter("always")
        for batch in loader:
            got.append((batch.tolist(), loader.state_dict()["batches"]))
    assert str(told[1].message) == "left out: sample 2, 2.png, cannot be read: cut off"
    assert got == [([0], 1), ([4, 5], 3)] and len(told) == 3 and Path(told[0].filename) == Path(__file__)


def test_generators_that_come_later() -> None:
    data = Draws()
    loader = DataLoader(data, 4, seed=0)
    list(loader)
    data.rng = np.random.default_rng()
    resumed = DataLoader(Draws(), 4, seed=0)
    resumed.set_epoch(1)
    assert equal(list(loader), list(resumed))


def test_transforms_draw_from_the_sample_s_stream() -> None:
    class Flipped(Dataset):
        flip = nn.data.transforms.RandomHorizontalFlip()

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> Any:
            return self.flip(np.arange(20).reshape(1, 4, 5))

    first, again = list(DataLoader(Flipped(), 8, seed=0)), list(DataLoader(Flipped(), 5, seed=0))
    assert (np.concatenate(first) == np.concatenate(again)).all()
    assert 5 < sum(int(x[0, 0, 0] == 4) for x in np.concatenate(first)) < 35  # of 40 flips, half are expected


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
