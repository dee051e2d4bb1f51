"""The table of a model's layers: shapes as a run gives them, multiply-adds counted by hand, no data."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn, trees
from agnostic_ad.conformance.networks import NUMPY, Setting
from agnostic_ad.nn.samples import samples, subjects
from agnostic_ad.nn.summaries import MULTIPLY_ADDS
from agnostic_ad.op import TABLE


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.shared = nn.Linear(8, 8, bias=False)
        self.twice = nn.Sequential(self.shared, nn.ReLU())
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter(np.ones(8, "float32"))
        self.mask = nn.Buffer(np.ones(8, "float32"))

    def forward(self, x: Any, y: Any) -> Any:
        h = self.twice(self.twice(self.embed(x)))
        return h * self.scale * self.mask, {"scores": h @ y, "x": x}


def rows(found: Any) -> dict[str, Any]:
    return {row.path: (row.type, row.output, row.parameters, row.trainable, row.multiply_adds) for row in found.rows}


def test_rows() -> None:
    model = Branches()
    model.embed.requires_grad_(False)
    found = nn.summary(model, [(5, 4), (8, 3)])
    assert rows(found) == {
        "": ("Branches", [(5, 8), (5, 3), (5, 4)], 8, 8, 5 * 8 * 3),
        "embed": ("Linear", (5, 8), 40, 0, 5 * 4 * 8),
        "shared": ("Linear", (5, 8), 64, 64, 2 * 5 * 8 * 8),
        "twice": ("Sequential", (5, 8), 0, 0, 0),
        "twice.1": ("ReLU", (5, 8), 0, 0, 0),
        "unused": ("Linear", None, 6, 6, 0),
    }
    assert (found.parameters, found.trainable, found.multiply_adds) == (118, 78, 120 + 160 + 640)
    assert found.parameters == sum(p.size for p in model.parameters())
    assert str(found).splitlines() == [
        "layer     type        output shape              parameters  multiply-adds",
        "-------------------------------------------------------------------------",
        "          Branches    [(5, 8), (5, 3), (5, 4)]           8            120",
        "  embed   Linear      (5, 8)                            40            160",
        "  shared  Linear      (5, 8)                            64            640",
        "  twice   Sequential  (5, 8)                             -              -",
        "    1     ReLU        (5, 8)                             -              -",
        "  unused  Linear      -                                  6              -",
        "-------------------------------------------------------------------------",
        "parameters: 118, of which 78 are trained",
        "multiply-adds: 920",
    ]
    assert repr(found) == str(found)


def test_the_model_is_as_before() -> None:
    model = nn.Sequential(nn.Linear(2, 2), Branches().embed.eval())
    state = {name: x.copy() for name, x in model.state_dict().items()}
    parameters, modes = list(model.parameters()), [m.training for m in model.modules()]
    seen: list[bool] = []
    model.register_forward_pre_hook(lambda m, args: seen.append(m.training))
    with pytest.raises(ValueError, match=r"1 \(Linear\): linear: an input of shape \(3, 2\) does not fit"):
        nn.summary(model, (3, 2))
    assert seen == [False] and [m.training for m in model.modules()] == modes == [True, True, False]
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert not model[0]._forward_hooks and not model[0]._forward_pre_hooks
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(x, state[name])


def test_no_data_is_touched() -> None:
    """A batch of 400 GB, and products of 40 TB, in no memory."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(2), nn.Linear(512 * 512, 10))
    nn.summary(model, (1, 3, 1024, 1024))
    tracemalloc.start()
    found = nn.summary(model, (100_000, 3, 1024, 1024))
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 1_000_000
    assert rows(found)["0"] == ("Conv2d", (100_000, 64, 1024, 1024), 1792, 1792, 100_000 * 64 * 1024**2 * 27)
    assert rows(found)["4"] == ("Linear", (100_000, 64, 10), 2621450, 2621450, 100_000 * 64 * 512**2 * 10)


@pytest.mark.parametrize(
    ("model", "shape", "output", "count"),
    [
        (lambda: nn.Conv1d(4, 6, 3, groups=2, stride=2), (2, 4, 9), (2, 6, 4), 2 * 6 * 4 * 2 * 3),
        (lambda: nn.Bilinear(3, 4, 5), [(7, 3), (7, 4)], (7, 5), 7 * 5 * 3 * 4 + 7 * 5 * 4),
        (lambda: nn.RNN(3, 4, 2), (5, 2, 3), [(5, 2, 4), (2, 2, 4)], 10 * (4 * 3 + 4 * 4 + 2 * 4 * 4)),
        (lambda: nn.GRU(3, 4, bidirectional=True, batch_first=True), (2, 5, 3), [(2, 5, 8), (2, 2, 4)], 2 * 10 * 3 * (4 * 3 + 4 * 4)),
        (lambda: nn.LSTM(3, 4, proj_size=2), (5, 2, 3), [(5, 2, 2), (1, 2, 2), (1, 2, 4)], 10 * (16 * 3 + 16 * 2 + 2 * 4)),
        (lambda: nn.LazyLinear(5), (2, 3), (2, 5), 30),
        (lambda: nn.Unflatten(1, (2, 3)), (4, 6), (4, 2, 3), 0),
        (lambda: nn.ConvTranspose2d(4, 6, (2, 3), groups=2), (5, 4, 3, 3), (5, 6, 4, 5), 5 * 4 * 3 * 3 * 3 * 2 * 3),
        (lambda: nn.MultiheadAttention(8, 2), [(5, 3, 8)] * 3, [(5, 3, 8), (3, 5, 5)], 4 * 15 * 8 * 8 + 3 * 2 * 5 * 5 * (4 + 4)),
        (lambda: nn.Linear(3, 2), (3,), (2,), 6),
        (lambda: nn.Linear(3, 2), [0, 3], (0, 2), 0),
    ],
)
def test_counts(model: Any, shape: Any, output: Any, count: int) -> None:
    found = nn.summary(model(), shape)
    assert (found.rows[0].output, found.multiply_adds) == (output, count)


def test_what_is_counted_is_there() -> None:
    assert set(MULTIPLY_ADDS) <= set(TABLE)


@pytest.mark.parametrize("name", [name for name in subjects() if name.startswith("nn.")])
def test_every_layer(name: str) -> None:
    """What the table says of each layer's samples is what a run gives."""
    for each in samples(name):
        setting = Setting(each, NUMPY, "double", 0)
        layer, arrays = setting.layer().eval(), setting.draw()
        shapes = [tuple(y.shape) for y in trees.leaves(layer(*arrays)) if hasattr(y, "shape")]
        if "max_norm" in each.code:
            with pytest.raises(NotImplementedError, match="max_norm changes the weight in place"):
                nn.summary(layer, [x.shape for x in arrays], [x.dtype for x in arrays])
            continue
        found = nn.summary(layer, [x.shape for x in arrays], [x.dtype for x in arrays])
        assert found.rows[0].output == (shapes[0] if len(shapes) == 1 else shapes), each.code
        assert found.parameters == sum(p.size for p in layer.parameters()), each.code


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(np.ones((10, 4)))

    def forward(self, index: Any, x: Any) -> Any:
        xp = ad.namespace(index)
        return xp.take(self.weight, index, axis=0) + x


def test_dtypes(backend: support.Backend) -> None:
    seen: list[str] = []
    model = Takes().to(backend.xp)
    model.register_forward_pre_hook(lambda m, args: seen.extend(str(x.dtype).rpartition(".")[2] for x in args))
    assert nn.summary(model, [(2, 3), (4,)], dtypes=["int64", None]).rows[0].output == (2, 3, 4)
    assert seen == ["int64", "float64"]
    with ad.defaults(xp=backend.xp):
        assert nn.summary(nn.ReLU(), (2,)).rows[0].output == (2,)


def test_what_is_refused() -> None:
    class Chooses(nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    for call, error, text in [
        (
            lambda: nn.summary(nn.Sequential(Chooses()), (2,)),
            NotImplementedError,
            r"0 \(Chooses\): `if`, `while`, .* need a value, but summary\(Seq",
        ),
        (lambda: nn.summary(nn.ReLU(), [(2,)], dtypes=["float32"] * 2), ValueError, "summary: 2 dtypes for 1 inputs"),
        (lambda: nn.summary(nn.ReLU(), [(2.5,)]), ValueError, r"summary: a shape is a tuple of sizes, not \(2.5,\)"),
    ]:
        with pytest.raises(error, match=text):
            call()
