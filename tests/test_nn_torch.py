"""Layers and losses beside torch: values and gradients, on every backend."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional


def assert_agree(backend: support.Backend, ours: Any, theirs: Any, *arrays: np.ndarray[Any, Any], rng: np.random.Generator) -> None:
    """Compare results, and gradients of a random weighting of the results, in float64."""
    v = [ad.Variable(backend.asarray(a)) for a in arrays]
    t = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*v), theirs(*t)
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(backend.numpy(y.data), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    ct = rng.normal(size=y.shape)
    y.backward(backend.asarray(ct))
    z.backward(torch.tensor(ct))
    for ours_, theirs_ in zip(v, t, strict=True):
        assert type(ours_.grad) is type(ours_.data)
        np.testing.assert_allclose(backend.numpy(ours_.grad), theirs_.grad.numpy(), rtol=1e-11, atol=1e-11)


CONVOLUTIONS = [
    # axes, x, weight, options
    (2, (2, 3, 6, 5), (4, 3, 3, 2), {}),
    (2, (2, 3, 7, 8), (4, 3, 3, 3), {"stride": 2, "padding": 1}),
    (2, (2, 4, 7, 6), (6, 2, 3, 3), {"stride": (1, 2), "padding": (2, 1), "groups": 2}),
    (2, (2, 4, 9, 8), (4, 1, 3, 2), {"dilation": (2, 3), "groups": 4}),
    (2, (1, 2, 6, 6), (2, 2, 4, 3), {"padding": "same"}),
    (2, (1, 2, 6, 6), (2, 2, 4, 3), {"padding": "valid"}),
    (2, (3, 5, 6), (2, 3, 3, 3), {"padding": 1}),
    (1, (2, 3, 9), (4, 3, 4), {"stride": 3, "padding": 2}),
    (3, (1, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1)}),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # torch speaks of its own copy
@pytest.mark.parametrize(("axes", "x", "weight", "options"), CONVOLUTIONS)
def test_conv(backend: support.Backend, rng: np.random.Generator, axes: int, x: Any, weight: Any, options: Any) -> None:
    ours, theirs = getattr(F, f"conv{axes}d"), getattr(T, f"conv{axes}d")
    arrays = (rng.normal(size=x), rng.normal(size=weight), rng.normal(size=weight[0]))
    assert_agree(backend, lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *arrays, rng=rng)
    assert_agree(backend, lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *arrays[:2], rng=rng)


POOLS = [
    (2, (2, 3, 6, 6), (2,), {}),
    (2, (2, 3, 7, 6), (3,), {"stride": 2, "padding": 1}),
    (2, (2, 3, 7, 8), ((2, 3),), {"stride": (1, 2), "ceil_mode": True}),
    (2, (3, 8, 9), (2,), {"dilation": (2, 3)}),
    (2, (1, 1, 5, 5), (2,), {"stride": 3, "padding": 1, "ceil_mode": True}),
    (1, (2, 3, 9), (3,), {"stride": 1}),
    (3, (1, 2, 4, 5, 4), (2,), {"padding": 1}),
]


@pytest.mark.parametrize(("axes", "x", "args", "options"), POOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool(backend: support.Backend, rng: np.random.Generator, axes: int, x: Any, args: Any, options: Any, ties: bool) -> None:
    ours, theirs = getattr(F, f"max_pool{axes}d"), getattr(T, f"max_pool{axes}d")
    array = rng.integers(0, 2, size=x).astype(float) if ties else rng.normal(size=x)
    assert_agree(backend, lambda a: ours(a, *args, **options), lambda a: theirs(a, *args, **options), array, rng=rng)


def test_linear_and_activations(backend: support.Backend, rng: np.random.Generator) -> None:
    for shape in ((5, 3), (2, 5, 3), (3,)):
        x, weight, bias = rng.normal(size=shape), rng.normal(size=(4, 3)), rng.normal(size=4)
        assert_agree(backend, F.linear, T.linear, x, weight, bias, rng=rng)
        assert_agree(backend, F.linear, T.linear, x, weight, rng=rng)
    x = rng.normal(size=(2, 3, 4))
    assert_agree(backend, F.relu, T.relu, x, rng=rng)
    for dim in (0, 1, -1):
        assert_agree(backend, lambda a, dim=dim: F.softmax(a, dim), lambda a, dim=dim: T.softmax(a, dim), x, rng=rng)
        assert_agree(backend, lambda a, dim=dim: F.log_softmax(a, dim), lambda a, dim=dim: T.log_softmax(a, dim), x, rng=rng)
    assert_agree(backend, lambda a: F.flatten(a, 1), lambda a: torch.flatten(a, 1), x, rng=rng)
    assert_agree(backend, lambda a: F.flatten(a, 0, 1), lambda a: torch.flatten(a, 0, 1), x, rng=rng)


OPTIONS = [
    dict(zip(("reduction", "label_smoothing", "ignore_index", "weighted"), each, strict=True))
    for each in itertools.product(["mean", "sum", "none"], [0.0, 0.2], [-100, 1], [False, True])
]


@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3), (2, 4, 2, 3), (4,)], ids=str)
def test_cross_entropy(backend: support.Backend, rng: np.random.Generator, shape: Any) -> None:
    classes = shape[0] if len(shape) == 1 else shape[1]
    x, target = rng.normal(size=shape) * 3, rng.integers(0, classes, size=shape[2:] if len(shape) == 1 else (shape[0], *shape[2:]))
    if len(shape) == 1:
        target = np.asarray(2)
    probabilities = rng.uniform(size=shape)
    weight = rng.uniform(size=classes)
    for options in OPTIONS:
        o = dict(options)
        weighted = o.pop("weighted")
        for t in (target, probabilities):
            if t is probabilities and o["ignore_index"] != -100:
                continue  # torch does not allow it
            given = {"weight": backend.asarray(weight) if weighted else None}
            theirs = {"weight": torch.tensor(weight) if weighted else None}
            assert_agree(
                backend,
                lambda a, t=t, o=o, given=given: F.cross_entropy(a, backend.asarray(t), **given, **o),
                lambda a, t=t, o=o, theirs=theirs: T.cross_entropy(a, torch.tensor(t), **theirs, **o),
                x,
                rng=rng,
            )


def test_cross_entropy_of_large_scores_and_of_nothing() -> None:
    x = np.asarray([[1000.0, -1000.0], [0.0, 0.0]])
    assert float(F.cross_entropy(x, np.asarray([1, 0]), reduction="sum")) == pytest.approx(2000 + np.log(2))
    with np.errstate(invalid="ignore"):
        assert np.isnan(F.cross_entropy(x, np.asarray([-100, -100])))  # as torch: a mean of nothing


def test_derivatives_of_probabilities(rng: np.random.Generator) -> None:
    x, t = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
    assert_agree(support.Backend("numpy"), F.cross_entropy, T.cross_entropy, x, t, rng=rng)


def test_default_initial_values_are_of_torchs_distributions() -> None:
    ad.manual_seed(0)
    torch.manual_seed(0)
    for ours, theirs, bound in (
        (nn.Linear(300, 200), torch.nn.Linear(300, 200), 300**-0.5),
        (nn.Conv2d(30, 40, 3, groups=2), torch.nn.Conv2d(30, 40, 3, groups=2), (15 * 9) ** -0.5),
    ):
        for name, p in ours.named_parameters():
            q = theirs.get_parameter(name).detach().numpy()
            assert p.shape == q.shape and p.dtype == q.dtype
            for draw in (p.data, q):  # uniform up to the bound; the smallest sample has 40 numbers
                assert 0.85 * bound < np.abs(draw).max() <= bound
                np.testing.assert_allclose(draw.std(), bound / 3**0.5, rtol=0.2)


def models() -> tuple[Any, Any]:
    def make(n: Any) -> Any:
        return n.Sequential(
            n.Conv2d(1, 4, 3, padding=1), n.ReLU(), n.MaxPool2d(2), n.Conv2d(4, 6, 3, stride=2, padding="valid", bias=False), n.ReLU(),
            n.Flatten(), n.Linear(6 * 1 * 1, 5),
        )  # fmt: skip

    return make(nn), make(torch.nn)


def test_state_dicts_move_both_ways(rng: np.random.Generator) -> None:
    ours, theirs = models()
    x = rng.normal(size=(3, 1, 8, 8)).astype("float32")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
    ours, _ = models()
    theirs.load_state_dict({name: torch.from_numpy(x) for name, x in ours.state_dict().items()})
    np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


STEPS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "maximize": True, "lr": 0.02}),
]


@pytest.mark.parametrize(("name", "options"), STEPS)
def test_optimizers(backend: support.Backend, rng: np.random.Generator, name: str, options: Any) -> None:
    shapes = [(200, 150), (3,), ()]
    start = [rng.normal(size=s) for s in shapes]
    ours = [nn.Parameter(backend.asarray(a)) for a in start]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in start]
    a, b = getattr(nn.optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            grad = rng.normal(size=p.shape)
            p.grad, q.grad = backend.asarray(grad), torch.tensor(grad)
        assert a.step() is None
        b.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(backend.numpy(p.data), q.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True})])
def test_optimizer_states_move_both_ways(rng: np.random.Generator, name: str, options: Any) -> None:
    start = [rng.normal(size=(3, 2)), rng.normal(size=2)]

    def make() -> tuple[Any, Any, Any, Any]:
        p, q = [nn.Parameter(x.copy()) for x in start], [torch.nn.Parameter(torch.tensor(x)) for x in start]
        return p, q, getattr(nn.optim, name)(p, **options), getattr(torch.optim, name)(q, **options)

    def step(p: Any, optimizer: Any, convert: Any, seed: int) -> None:
        r = np.random.default_rng(seed)
        for each in p:
            each.grad = convert(r.normal(size=tuple(each.shape)))
        optimizer.step()

    p, q, a, b = make()
    for seed in range(3):
        step(p, a, np.asarray, seed)
        step(q, b, torch.tensor, seed)
    # what each goes on with is the other's state
    p2, q2, a2, b2 = make()
    for to, source in ((p2, q), (q2, p)):
        for x, y in zip(to, source, strict=True):
            x.data = y.detach().numpy().copy() if isinstance(y, torch.Tensor) else torch.tensor(y.data)
    theirs = b.state_dict()
    a2.load_state_dict(theirs)
    mine = a.state_dict()
    mine["state"] = {
        n: {k: torch.as_tensor(v, dtype=torch.float32) if k == "step" else torch.tensor(v) for k, v in s.items()}
        for n, s in mine["state"].items()
    }
    b2.load_state_dict(mine)
    step(p2, a2, np.asarray, 9)
    step(q2, b2, torch.tensor, 9)
    step(p, a, np.asarray, 9)
    for x, y, z in zip(p, p2, q2, strict=True):
        np.testing.assert_allclose(x.data, y.data, rtol=1e-12)
        np.testing.assert_allclose(x.data, z.detach().numpy(), rtol=1e-6)
