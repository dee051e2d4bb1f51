"""Normalization: what PyTorch's lists of cases do not have; and NumPy's own forms beside the general ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.backends import numpy_normalization
from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn import functional as F


def pair(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Give our layer and torch's, with the same random parameters."""
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(*args, **kwargs, dtype="float64"), getattr(torch.nn, name)(*args, **kwargs, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for p in theirs.parameters():
        p.data = torch.tensor(rng.normal(size=tuple(p.shape)))
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    return ours, theirs


def states_agree(ours: Any, theirs: Any) -> None:
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    for key, value in ours.state_dict().items():
        assert_exact(value, state[key].numpy())


# --- beside torch -----------------------------------------------------------------------------------------------------------------------
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("BatchNorm1d", (3,), {"momentum": None}, (4, 3)),
    ("BatchNorm2d", (3,), {"momentum": 0.3, "bias": False}, (2, 3, 4, 5)),
    ("BatchNorm3d", (2,), {"affine": False}, (2, 2, 3, 2, 2)),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 4, 5)),
    ("InstanceNorm1d", (3,), {"track_running_stats": True, "momentum": 0.4}, (3, 7)),
]


@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS)
def test_running_statistics_over_batches(rng: np.random.Generator, name: str, args: Any, options: Any, shape: Any) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = pair(name, *args, **options)
    assert repr(ours) == repr(theirs)
    for _ in range(3):
        x = rng.normal(2.0, 3.0, size=shape)
        assert_close(ours(x), theirs(torch.tensor(x)).detach().numpy(), 1e-12, 1e-12)
        states_agree(ours, theirs)
    ours.eval(), theirs.eval()
    assert_close(ours(x), theirs(torch.tensor(x)).detach().numpy(), 1e-12, 1e-12)
    states_agree(ours, theirs)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in ours.state_dict().items()})
    ours.train(), theirs.train()
    ours.reset_running_stats(), theirs.reset_running_stats()
    states_agree(ours, theirs)


@pytest.mark.parametrize(("size", "side"), [(1, 0), (3, 1), (4, 1), (5, 2)])
def test_cross_map_lrn(rng: np.random.Generator, size: int, side: int) -> None:
    # PyTorch's own leaves the first channel in the sums of all later ones, and its gradient is not the derivative of that
    x = rng.normal(size=(2, 6, 3, 2))
    sums = np.stack([(x[:, max(0, c - side) : c + side + 1] ** 2).sum(axis=1) for c in range(6)], axis=1)
    assert_close(nn.CrossMapLRN2d(size, 0.3, 0.6, 2)(x), x / (2 + 0.3 / size * sums) ** 0.6, 1e-12, 1e-12)


@pytest.mark.parametrize("name", ["BatchNorm2d", "GroupNorm", "LayerNorm", "RMSNorm"])
def test_sixteen_bits(rng: np.random.Generator, name: str) -> None:
    torch = pytest.importorskip("torch")
    args = {"BatchNorm2d": (4,), "GroupNorm": (2, 4)}.get(name, (5,))
    x = (rng.normal(size=(3, 4, 6, 5)) * 100).astype("float16")  # squares leave half precision's range
    for dtype in ("float16", "float32"):
        ours = getattr(nn, name)(*args, dtype=dtype)
        y = ours(ad.Variable(x))
        y.sum().backward()
        assert y.dtype == np.float16
        assert {p.grad.dtype for p in ours.parameters()} == {np.dtype(dtype)}
        wanted = getattr(torch.nn, name)(*args)(torch.tensor(x.astype("float32"))).detach().numpy()
        assert_close(y, wanted.astype("float16"), 2e-3, 2e-3)  # a rounding to half precision


def test_float32_stays_and_is_accurate_far_from_zero(rng: np.random.Generator) -> None:
    x = rng.normal(100.0, 1.0, size=(8, 4, 20, 20))
    narrow = x.astype("float32")
    for layer, wide in ((nn.BatchNorm2d(4), nn.BatchNorm2d(4, dtype="float64")), (nn.LayerNorm(20), nn.LayerNorm(20, dtype="float64"))):
        y = layer(narrow)
        assert y.dtype == np.float32
        # of the input's roundings, 100 times those of numbers around one
        assert_close(y, wide(narrow.astype("float64")).data, 1e-4, 1e-4)
    assert nn.BatchNorm2d(4).num_batches_tracked.dtype == np.int64


# --- transformations --------------------------------------------------------------------------------------------------------------------
def test_transformations_leave_plain_values_in_buffers(rng: np.random.Generator) -> None:
    x, wanted = rng.normal(size=(5, 3)), nn.BatchNorm1d(3, dtype="float64")
    wanted(x)
    for run in (
        lambda layer: ad.grad(lambda a: layer(a).sum())(x),
        lambda layer: ad.jvp(layer, (x,), (x,)),
        lambda layer: ad.jvp(ad.grad(lambda a: (layer(a) ** 3).sum()), (x,), (x,)),
    ):
        layer = nn.BatchNorm1d(3, dtype="float64")
        run(layer)
        for key, value in layer.state_dict().items():
            assert type(value) is np.ndarray
            assert_exact(value, wanted.state_dict()[key])


def test_batches_of_batches(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 5, 3))
    layer = nn.BatchNorm1d(3, dtype="float64")
    with pytest.raises(UnsupportedError, match=r"running statistics cannot be updated inside vmap\(.*Call eval\(\) on the layer"):
        ad.vmap(layer)(x)
    free = nn.BatchNorm1d(3, track_running_stats=False, dtype="float64")
    assert_close(ad.vmap(free)(x), np.stack([free(a).data for a in x]), 1e-12, 1e-12)
    layer.eval()
    assert_close(ad.vmap(layer)(x), np.stack([layer(a).data for a in x]), 1e-12, 1e-12)
    with pytest.raises(UnsupportedError, match="running statistics cannot be updated inside capture"):
        graph.capture(layer.train(), graph.ShapeDtype((5, 3), "float64"))


def test_many_running_statistics_follow_many_batches(rng: np.random.Generator) -> None:
    x, mean, var = rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 3)), rng.uniform(size=(2, 3))

    def f(x: Any, mean: Any, var: Any) -> Any:
        return F.batch_norm(x, mean, var, training=True, momentum=0.3), mean, var

    y, mean_after, var_after = ad.vmap(f)(x, mean, var)
    for i in range(2):
        m, v = mean[i].copy(), var[i].copy()
        assert_close(y[i], F.batch_norm(x[i], m, v, training=True, momentum=0.3), 1e-12, 1e-12)
        assert_exact(mean_after[i], m)
        assert_exact(var_after[i], v)


@pytest.mark.parametrize("kind", ["layer", "batch", "group", "rms"])
def test_second_derivatives(rng: np.random.Generator, kind: str) -> None:
    x, w, b = rng.normal(size=(3, 4, 5)), rng.normal(size=4), rng.normal(size=4)
    f = {
        "layer": lambda x, w, b: F.layer_norm(x.mT, (4,), w, b, 0.1),
        "batch": lambda x, w, b: F.batch_norm(x, None, None, w, b, True, eps=0.1),
        "group": lambda x, w, b: F.group_norm(x, 2, w, b, 0.1),
        "rms": lambda x, w, b: F.rms_norm(x.mT, (4,), w, 0.1) + b,
    }[kind]
    ad.check_grads(f, (x, w, b), order=2)


def test_what_nobody_differentiates_stays_raw(rng: np.random.Generator) -> None:
    x, s = rng.normal(size=(3, 4, 5)), rng.uniform(size=4)
    for y in (
        F.layer_norm(x, (5,)), F.batch_norm(x, None, None, training=True), F.batch_norm(x, s, s, s, s), F.group_norm(x, 2, s, s), F.rms_norm(x, (4, 5)),
        F.instance_norm(x), F.local_response_norm(x, 2), F.batch_norm(x, nn.Buffer(s), nn.Buffer(s)),
    ):  # fmt: skip
        assert type(y) is np.ndarray


# --- raw running statistics -------------------------------------------------------------------------------------------------------------
def test_raw_running_statistics(backend: support.Backend, rng: np.random.Generator) -> None:
    x, start = rng.normal(size=(4, 3, 2)), np.ones(3)
    mean, var = backend.asarray(start.copy()), backend.asarray(start.copy())
    if backend.name == "jax":
        with pytest.raises(
            UnsupportedError, match=r"running statistics are updated in place, but a \w+ cannot be changed: wrap it, nn.Buffer"
        ):
            F.batch_norm(backend.asarray(x), mean, var, training=True)
        mean, var = nn.Buffer(mean), nn.Buffer(var)
    y = F.batch_norm(backend.asarray(x), mean, var, training=True, momentum=0.25)
    raw = [backend.numpy(a.data if isinstance(a, ad.Variable) else a) for a in (mean, var)]
    assert_exact(raw[0], 0.75 + 0.25 * x.mean((0, 2)))
    assert_exact(raw[1], 0.75 + 0.25 * x.var((0, 2), ddof=1))
    assert_close(backend.numpy(y).mean((0, 2)), np.zeros(3), 0, 1e-12)


def test_one_vector(rng: np.random.Generator) -> None:
    x, w = rng.normal(size=20), rng.normal(size=20)
    assert_close(F.layer_norm(x, (20,), w, w), F.layer_norm(x[None], (20,), w, w)[0], 1e-12, 1e-12)
    assert_close(F.rms_norm(x, (20,), w), F.rms_norm(x[None], (20,), w)[0], 1e-12, 1e-12)


def test_empty_batches() -> None:
    for layer, shape in (
        (nn.BatchNorm2d(3), (0, 3, 2, 2)),
        (nn.LayerNorm(4), (0, 4)),
        (nn.GroupNorm(1, 3), (0, 3, 2)),
        (nn.RMSNorm(4), (2, 0, 4)),
    ):
        x = ad.Variable(np.empty(shape, "float32"))
        y = layer(x)
        y.sum().backward()
        assert y.shape == shape and x.grad.shape == shape
        assert all(np.all(p.grad == 0) for p in layer.parameters())
        assert all(np.all(np.isfinite(b.data)) for b in layer.buffers())


# --- NumPy's own forms ------------------------------------------------------------------------------------------------------------------
FORMS: list[tuple[tuple[int, ...], tuple[int, ...], Any, dict[str, Any]]] = [
    ((6, 20), (1,), (20,), {}),
    ((5, 3, 4, 5), (2, 3), (4, 5), {}),
    ((5, 3, 4, 5), (2, 3), (3, 1, 1), {}),
    ((5, 2, 3, 7), (2, 3), (2, 3, 1), {"eps": 0.3}),
    ((5, 4, 8, 4), (2, 3), (4, 8, 1), {}),  # as many weights as elements of a group
    ((5, 2, 4, 6), (1, 2, 3), (2, 1, 6), {}),
    ((7, 16), (1,), None, {}),
    ((6, 20), (1,), (20,), {"center": False}),
    ((3, 2, 17), (2,), (1,), {"center": False}),
    ((5, 3, 4, 5), (0, 2, 3), (3, 1, 1), {}),
    ((5, 3, 16), (0, 2), None, {}),
    ((6, 5), (0,), (5,), {}),
]


@pytest.mark.parametrize("block", [1 << 16, 64])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize(("shape", "axis", "affine", "options"), FORMS)
def test_numpy_forms(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, shape: Any, axis: Any, affine: Any, options: Any, strided: bool, block: int
) -> None:
    monkeypatch.setattr(numpy_normalization, "BLOCK", block)
    x, ct = (np.repeat(rng.normal(size=shape), 2, axis=0)[:: 2 if strided else 1] + offset for offset in (10 * strided, 0))
    weight, bias = (None, None) if affine is None else (rng.normal(size=affine), rng.normal(size=affine))
    assert numpy_normalization._kind(axis, options.get("center", True), x, weight, bias) is not None
    backend = backend_of(x)
    found = backend.nn.standardize(x, weight, bias, axis=axis, **options)
    wanted = Backend.fallbacks["nn.standardize"](backend, x, weight, bias, axis=axis, **options)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, 1e-12, 1e-12)
    for names in (("x",), ("x", "weight", "bias"), ("bias",)):
        chosen = tuple(n for n in names if n == "x" or affine is not None)
        given = (ct, x, *wanted[1:], weight, bias)
        pulled = backend.nn.standardize_pull(*given, axis=axis, **options, wanted=chosen)
        general = Backend.fallbacks["nn.standardize_pull"](backend, *given, axis=axis, **options, wanted=chosen)
        assert len(pulled) == len(chosen)
        for a, b in zip(pulled, general, strict=True):
            assert_close(a, b, 1e-12, 1e-12)


# --- errors -----------------------------------------------------------------------------------------------------------------------------
X = np.ones((2, 4, 3))
ERRORS: list[tuple[Any, str]] = [
    (lambda: nn.BatchNorm2d(4)(X), "BatchNorm2d: expected 4D input (got 3D input of shape (2, 4, 3))"),
    (lambda: nn.BatchNorm1d(4)(X[0, 0]), "BatchNorm1d: expected 2D or 3D input (got 1D input of shape (3,))"),
    (lambda: nn.BatchNorm1d(4)(X[:1, :, 0]), "Expected more than 1 value per channel when training, got input size (1, 4)"),
    (lambda: nn.BatchNorm1d(5)(X), "batch_norm: running_mean has shape (5,); one number for each of 4 channels is wanted"),
    (lambda: F.batch_norm(X, None, None), "batch_norm: Expected running_mean and running_var to be defined when training=False"),
    (lambda: F.batch_norm(X, None, None, training=True, eps=0.0), "batch_norm: eps must be positive in training, but got 0.0"),
    (lambda: F.batch_norm(X, X[0, :, 0], X[0, :, 0], eps=-1.0), "batch_norm: eps must be non-negative, but got -1.0"),
    (lambda: nn.InstanceNorm1d(4)(X[:, :, :1]), "instance_norm: Expected more than 1 spatial element when training, got input size (2, 4, 1)"),
    (lambda: nn.InstanceNorm1d(5, affine=True)(X), "an input of shape (2, 4, 3) has 4 channels, not num_features=5"),
    (lambda: F.instance_norm(X, use_input_stats=False), "to be defined when use_input_stats=False"),
    (lambda: nn.GroupNorm(3, 4), "GroupNorm: num_channels (4) must be divisible by num_groups (3)"),
    (lambda: F.group_norm(X, 3), "group_norm: Expected number of channels in input to be divisible by num_groups, but got (2, 4, 3) and 3"),
    (lambda: F.group_norm(X[0, 0], 1), "group_norm: an input of 2 dimensions or more is wanted, not of shape (3,)"),
    (lambda: nn.LayerNorm((4, 2))(X), "layer_norm: Given normalized_shape=[4, 2], expected input with shape [*, 4, 2], but got input of size [2, 4, 3]"),
    (lambda: F.layer_norm(X, ()), "layer_norm: Expected normalized_shape to be at least 1-dimensional"),
    (lambda: F.rms_norm(X, (3,), X), "rms_norm: weight has shape (2, 4, 3); normalized_shape (3,) is wanted"),
    (lambda: F.local_response_norm(X[0], 2), "local_response_norm: Expected 3D or higher dimensionality input (got 2 dimensions)"),
    (lambda: nn.CrossMapLRN2d(2)(X), "CrossMapLRN2d: expected 4D input (got 3D input of shape (2, 4, 3))"),
    (lambda: F.layer_norm(np.ones((2, 3), "int64"), (3,)), "normalization takes real floating arrays, not int64"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "text"), ERRORS, ids=[text[:40] for _, text in ERRORS])
def test_errors(call: Any, text: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert text in str(caught.value)


def test_other_channels_are_told_where_it_does_not_matter() -> None:
    with pytest.warns(UserWarning, match="has 4 channels, not num_features=5; which is not used, for affine=False"):
        nn.InstanceNorm1d(5)(X)
