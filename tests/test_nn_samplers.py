"""Collections of datasets, and samplers: what PyTorch gives where no random number decides."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad.nn import data
from agnostic_ad.nn.data import DataLoader, TensorDataset


def numbers(batch: Any) -> Any:
    return np.asarray(batch).tolist()


class Letters(data.Dataset):
    """Samples one by one only."""

    def __init__(self, letters: str) -> None:
        self.letters = letters

    def __getitem__(self, index: int) -> str:
        return self.letters[index]

    def __len__(self) -> int:
        return len(self.letters)


class Count(data.IterableDataset):
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))

    def __len__(self) -> int:
        return self.n


# --- collections ---
def test_concatenation(backend: support.Backend) -> None:
    parts = [TensorDataset(backend.asarray(np.arange(n) + 10 * n)) for n in (3, 0, 2)]
    both = data.ConcatDataset(parts)
    everything = [30, 31, 32, 20, 21]
    assert len(both) == 5 and [int(x) for (x,) in (both[i] for i in range(5))] == everything and int(both[-5][0]) == 30
    for order in ([4, 0, 3, 2, 2], [1], [0, 1, 2], [4, 3]):
        (batch,) = both.take(np.asarray(order))
        assert type(batch) is type(backend.asarray(0.0)) and backend.numpy(batch).tolist() == [everything[i] for i in order]
    with pytest.raises(IndexError, match="sample 5 of 5"):
        both[5]
    assert len(parts[0] + parts[2]) == 5 and both.take(np.zeros(0, int))[0].shape == (0,)


def test_a_loader_takes_whole_batches_through_collections() -> None:
    calls = []

    class Counted(TensorDataset):
        def take(self, indices: Any) -> Any:
            calls.append(len(indices))
            return super().take(indices)

    base = Counted(np.arange(20), np.arange(20) * 10)
    mixed = data.ConcatDataset([base, data.Subset(base, [7, 5])])
    (batch, *_) = DataLoader(data.StackDataset(a=mixed, b=mixed), 22)
    assert calls == [20, 2, 20, 2] and numbers(batch["a"][0])[-3:] == [19, 7, 5] and numbers(batch["b"][1])[-2:] == [70, 50]
    calls.clear()
    assert numbers(next(iter(DataLoader(Letters("abc") + Letters("de"), 5)))) == list("abcde") and calls == []


def test_take_is_not_used_where_it_does_not_know_the_samples() -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return super().__getitem__(index)[0] * 2

    assert numbers(next(iter(DataLoader(Doubled(np.arange(3)), 3)))) == [0, 2, 4]
    assert numbers(next(iter(DataLoader(data.Subset(Doubled(np.arange(3)), [2, 1]), 3)))) == [4, 2]
    assert numbers(next(iter(DataLoader(np.arange(6).reshape(3, 2), 2)))) == [[0, 1], [2, 3]]
    assert not hasattr(data.Subset(Letters("ab"), [0]), "take") and not hasattr(data.StackDataset(Letters("ab")), "take")
    for part in (data.Subset(TensorDataset(np.arange(3)), np.asarray([2, 0])), data.Subset(TensorDataset(np.arange(3)), range(2, 0, -1))):
        assert numbers(part.take(np.asarray([0]))[0]) == [2]
    assert numbers(pickle.loads(pickle.dumps(part)).take(np.asarray([1]))[0]) == [1]


def test_streams_are_chained() -> None:
    chain = data.ChainDataset([Count(2), Count(3)])
    assert list(chain) == [0, 1, 0, 1, 2] == list(Count(2) + Count(3)) == list(chain) and len(chain) == 5
    for call, text in [
        (lambda: list(data.ChainDataset([Letters("a")])), "ChainDataset takes IterableDatasets, not a Letters"),
        (lambda: data.ConcatDataset([Count(2)]), "put an IterableDataset in a ChainDataset"),
        (lambda: Count(2)[0], "it has none by number"),
    ]:
        with pytest.raises(TypeError, match=text):
            call()


def test_random_split() -> None:
    torch = pytest.importorskip("torch")
    for n, lengths in [(10, [3, 7]), (30, [0.3, 0.3, 0.4]), (11, [0.5, 0.25, 0.25]), (5, [5])]:
        parts = data.random_split(range(n), lengths, seed=1)
        assert [len(part) for part in parts] == [len(part) for part in torch.utils.data.random_split(range(n), lengths)]
        assert sorted(x for part in parts for x in part) == list(range(n))
        assert [list(part) for part in parts] == [list(part) for part in data.random_split(range(n), lengths, ad.Generator(1))]
    assert [list(part) for part in data.random_split(range(30), [15, 15], seed=1)] != [list(range(15)), list(range(15, 30))]
    with pytest.warns(UserWarning, match=r"part 1 of \[0.9, 0.1\] has no samples"):
        data.random_split(range(1), [0.9, 0.1], seed=0)


# --- samplers, and torch's in the same place ---
def test_what_no_random_number_decides_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.utils.data
    for n in (0, 1, 7, 10):
        assert list(data.SequentialSampler(range(n))) == list(theirs.SequentialSampler(range(n)))
        for size in (1, 3, 10):
            for drop in (False, True):
                ours, others = (each.BatchSampler(range(n), size, drop) for each in (data, theirs))
                assert list(ours) == list(others) and len(ours) == len(others)
        if n:
            for replicas in (1, 2, 3, 12):
                for rank in range(replicas):
                    for drop in (False, True):
                        ours, others = (each(range(n), replicas, rank, shuffle=False, drop_last=drop) for each in (
                            data.DistributedSampler, theirs.distributed.DistributedSampler))  # fmt: skip
                        assert list(ours) == list(others) and len(ours) == len(others) and ours.total_size == others.total_size
    assert list(data.BatchSampler(iter("abc"), 2, False)) == [["a", "b"], ["c"]]


def test_random_orders() -> None:
    sampler = data.RandomSampler(range(20), seed=3)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second and type(first[0]) is int
    again = data.RandomSampler(range(20), generator=ad.Generator(3))
    assert [list(again), list(again)] == [first, second]
    ad.manual_seed(3)
    assert list(data.RandomSampler(range(20))) == first
    loader = DataLoader(TensorDataset(np.arange(20)), 6, sampler=data.RandomSampler(range(20), seed=3))
    assert [x for (batch,) in loader for x in batch] == first
    more = list(data.RandomSampler(range(20), num_samples=50, seed=3))
    assert len(more) == 50 and sorted(more[:20]) == sorted(more[20:40]) == list(range(20)) and len(set(more[40:])) == 10
    many = np.asarray(list(data.RandomSampler(range(10), True, 10_000, seed=0)))
    # 1000 of each are expected, with a deviation of 30
    assert abs(np.bincount(many, minlength=10) - 1000).max() < 150 and len(data.RandomSampler(range(10), True, 10_000, seed=0)) == 10_000
    subset = data.SubsetRandomSampler([3, 5, 8], seed=0)
    assert sorted(subset) == [3, 5, 8] and len(subset) == 3 and {tuple(subset) for _ in range(50)} > {(3, 5, 8), (8, 5, 3)}
    assert list(data.RandomSampler([])) == []


def test_weights() -> None:
    weights = [0.0, 1.0, 3.0, 0.0, 4.0, 0.0]
    many = np.bincount(list(data.WeightedRandomSampler(weights, 8000, seed=0)), minlength=6)
    # 1000, 3000 and 4000 are expected, with deviations of about 30, 43 and 45
    assert many[[0, 3, 5]].tolist() == [0, 0, 0] and abs(many[[1, 2, 4]] - [1000, 3000, 4000]).max() < 200
    sampler = data.WeightedRandomSampler(weights, 3, replacement=False, seed=0)
    draws = [tuple(sampler) for _ in range(8000)]
    assert all(sorted(draw) == [1, 2, 4] for draw in draws)
    firsts = np.bincount([draw[0] for draw in draws], minlength=6)
    assert abs(firsts[[1, 2, 4]] - [1000, 3000, 4000]).max() < 200
    # after 4 comes 2 in three of four cases
    assert abs(np.mean([draw[1] == 2 for draw in draws if draw[0] == 4]) - 0.75) < 0.04
    assert list(data.WeightedRandomSampler(np.asarray(weights), 5, seed=2)) == list(data.WeightedRandomSampler(weights, 5, seed=2))


def test_shares_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [data.DistributedSampler(range(10), 3, rank, seed=5) for rank in range(3)]
    first = [list(share) for share in shares]
    assert sorted({x for share in first for x in share}) == list(range(10)) and [len(share) for share in first] == [4, 4, 4]
    assert [list(share) for share in shares] == first
    for share in shares:
        share.set_epoch(1)
    second = [list(share) for share in shares]
    assert second != first and {x for share in second for x in share} == set(range(10))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert list(data.DistributedSampler(range(4), shuffle=False)) == [1, 3]
    monkeypatch.delenv("RANK")
    with pytest.raises(ValueError, match="pass rank=, or set RANK in the environment"):
        data.DistributedSampler(range(4))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: data.StackDataset(range(2), range(3)), "StackDataset takes datasets of one length, not of 2, 3"),
        (lambda: data.StackDataset(), "not of none"),
        (lambda: data.StackDataset(range(2), b=range(2)), "datasets, or datasets by name, not both"),
        (lambda: data.ConcatDataset([]), "one dataset or more, not none"),
        (lambda: data.random_split(range(5), [2, 2]), r"the lengths \[2, 2\] do not add up to the 5 samples"),
        (lambda: data.random_split(range(5), [-1, 6]), "do not add up"),
        (lambda: data.random_split(range(5), [1.5, -0.5]), "fractions lie between 0 and 1"),
        (lambda: data.random_split(range(5), [5], ad.Generator(0), seed=0), "random_split takes a generator or a seed, not both"),
        (lambda: data.RandomSampler(range(3), generator=np.random.default_rng(0)), "is an agnostic_ad.Generator, not a Generator; or pass seed="),
        (lambda: data.RandomSampler(range(3), num_samples=0), "num_samples is an integer of 1 or more, not 0"),
        (lambda: data.RandomSampler(range(3), 1), "replacement is True or False, not 1"),
        (lambda: list(data.RandomSampler([], num_samples=2)), "2 samples cannot be drawn from none"),
        (lambda: data.WeightedRandomSampler([[1.0]], 1), r"weights have one axis, not the shape \(1, 1\)"),
        (lambda: data.WeightedRandomSampler([1.0, -1.0], 1), "finite numbers of 0 or more"),
        (lambda: data.WeightedRandomSampler([0.0, 0.0], 1), "one of them is more"),
        (lambda: data.WeightedRandomSampler([1.0, float("nan")], 1), "finite numbers"),
        (lambda: data.WeightedRandomSampler([1.0, 0.0], 2, False), "2 samples without replacement, but 1 weights that are not 0"),
        (lambda: data.BatchSampler(range(3), 0, False), "batch_size is an integer of 1 or more, not 0"),
        (lambda: data.BatchSampler(range(3), True, False), "batch_size is an integer of 1 or more, not True"),
        (lambda: data.BatchSampler(range(3), 1, 0), "drop_last is True or False, not 0"),
        (lambda: data.DistributedSampler(range(3), 2, 2), "rank lies between 0 and 1, and is not 2"),
        (lambda: iter(data.Sampler()), "Sampler has no __iter__"),
        (lambda: iter(data.IterableDataset()), r"IterableDataset has no __iter__\(\)"),
    ],
)  # fmt: skip
def test_what_is_refused(call: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError, NotImplementedError), match=text):
        call()
