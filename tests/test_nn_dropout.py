"""Dropout: masks by chance, the same on every library from one seed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional

# The function, an input, and which axes a mask is along.
KINDS: list[tuple[str, tuple[int, ...], int]] = [
    ("dropout", (40, 50), 2), ("dropout1d", (40, 50, 2), 2), ("dropout1d", (2000, 3), 1), ("dropout2d", (40, 50, 2, 3), 2),
    ("dropout3d", (40, 50, 2, 1, 2), 2), ("dropout3d", (2000, 2, 1, 2), 1), ("alpha_dropout", (40, 50), 2), ("feature_alpha_dropout", (40, 50, 3), 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "axes"), KINDS, ids=[f"{n}{s}" for n, s, _ in KINDS])
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_masks(name: str, shape: Any, axes: int, p: float) -> None:
    """What is kept is scaled as torch scales it, whole channels go together, and about the right number goes."""
    x = np.random.default_rng(0).uniform(1.0, 2.0, size=shape)
    ad.manual_seed(11)
    y = getattr(F, name)(x, p, training=True)
    torch.manual_seed(1)
    z = getattr(T, name)(torch.tensor(x), p, training=True).numpy()
    gone = np.isclose(y, 0.0 if "alpha" not in name else y.min(), rtol=1e-12)
    lost = np.isclose(z, 0.0 if "alpha" not in name else z.min(), rtol=1e-12)
    assert abs(gone.reshape(2000, -1)[:, 0].mean() - p) < 4 * np.sqrt(p * (1 - p) / 2000) + 1e-12  # four deviations
    assert (gone.reshape(*shape[:axes], -1).all(axis=-1) == gone.reshape(*shape[:axes], -1).any(axis=-1)).all()
    if p < 1.0:
        both = ~gone & ~lost
        assert both.any()
        assert_close(y[both], z[both], rtol=1e-13)
    if gone.any() and lost.any():
        assert_close(y[gone][0], z[lost][0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("name", "shape", "axes"), KINDS[:1] + KINDS[3:4] + KINDS[6:])
def test_nothing_happens(name: str, shape: Any, axes: int) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    state = ad.random.default_generator.get_state()
    assert getattr(F, name)(x, 0.5, training=False) is x
    assert getattr(F, name)(x, 0.0, training=True) is x
    assert ad.random.default_generator.get_state() == state
    module = {
        "dropout": nn.Dropout,
        "dropout2d": nn.Dropout2d,
        "alpha_dropout": nn.AlphaDropout,
        "feature_alpha_dropout": nn.FeatureAlphaDropout,
    }[name]
    assert module(0.7).eval()(x) is x
    assert module(0.7)(x) is not x


def test_derivatives(rng: np.random.Generator) -> None:
    """The mask of the way forward is that of the way back; it is saved as booleans."""
    x = rng.normal(size=(30, 40))
    v = ad.Variable(x)
    y = F.dropout(v, 0.3)
    assert [each.dtype for each in y.node.saved if hasattr(each, "dtype")] == [np.bool_]
    y.sum().backward()
    assert_close(y.data, v.grad * x, rtol=1e-14)
    assert set(np.unique(v.grad)) == {0.0, 1.0 / 0.7}

    def f(x: Any) -> Any:
        ad.manual_seed(4)
        return F.dropout(x, 0.4) ** 3 + F.alpha_dropout(x, 0.4, training=True) ** 3

    ad.check_grads(f, (x[:2, :3],), order=2)


def test_seeds_and_dtypes() -> None:
    ad.manual_seed(7)
    wanted = F.dropout(np.ones((5, 7)), 0.4)
    for dtype in ("float16", "float32", "float64"):
        ad.manual_seed(7)
        got = F.dropout(np.ones((5, 7), dtype), 0.4)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got != 0, wanted != 0)
    assert F.dropout(np.ones(()), 1.0) == 0.0
    assert F.dropout(np.ones((0, 3)), 0.5).shape == (0, 3)
    assert F.dropout2d(np.ones((2, 3, 0, 4)), 0.5).shape == (2, 3, 0, 4)
    assert F.alpha_dropout(np.ones(4, "float32"), 0.5, training=True).dtype == np.float32


def test_probabilities_are_exact() -> None:
    """16 bits decide, but for ties: a probability below their grain is met too."""
    g = ad.Generator(5)
    assert g.bernoulli((1000, 1000), 0.0).sum() == 0
    assert g.bernoulli((1000, 1000), 1.0).all()
    p, count = 2.0**-18, 1 << 24
    hits = int(g.bernoulli((count,), p).sum())
    assert abs(hits - p * count) < 4 * np.sqrt(p * count)  # 64 are expected; with 16 bits alone there would be none, or 256
    for p in (0.1, 0.3, 0.9):
        assert abs(g.bernoulli((1 << 22,), p).mean() - p) < 4 * np.sqrt(p * (1 - p) / (1 << 22))
    bits = g.bernoulli((1 << 20,), 0.5)
    assert abs(np.corrcoef(bits[:-1], bits[1:])[0, 1]) < 4 / np.sqrt(1 << 20)


def test_vmap() -> None:
    """Members of a batch have masks of their own, those that the whole batch gets without vmap."""
    x = np.ones((6, 50))
    ad.manual_seed(2)
    wanted = F.dropout(x, 0.5)
    ad.manual_seed(2)
    got = ad.vmap(lambda row: F.dropout(row, 0.5))(x)
    assert_exact(got, wanted)
    ad.manual_seed(2)
    per_sample = ad.vmap(ad.grad(lambda row: F.dropout(row, 0.5).sum()))(x)
    assert_exact(per_sample, wanted)
    ad.manual_seed(2)
    same = ad.vmap(lambda scale: F.dropout(np.ones(50), 0.5) * scale)(np.ones(3))
    assert_exact(same[0], same[2])


def test_checkpoints_draw_again() -> None:
    """The second forward pass has the masks of the first, and later ones are not disturbed."""
    x = np.linspace(0.1, 2.0, 200)

    def block(x: Any) -> Any:
        return F.dropout(F.dropout(x * x, 0.5) * x, 0.3)

    found = []
    for f in (block, ad.checkpoint(block)):
        ad.manual_seed(8)
        v = ad.Variable(x)
        f(v).sum().backward()
        found.append((v.grad, F.dropout(x, 0.5)))
    assert_exact(found[0][0], found[1][0])
    assert_exact(found[0][1], found[1][1])


def test_in_place() -> None:
    x = np.ones(100)
    y = F.dropout(x, 0.5, inplace=True)
    assert y is x and set(np.unique(x)) == {0.0, 2.0}
    v = ad.Variable(np.ones(100)) * 1.0
    assert nn.Dropout(0.5, inplace=True)(v) is v


def test_modules_are_torchs() -> None:
    for name in nn.dropout.__all__:
        ours, theirs = getattr(nn, name), getattr(torch.nn, name)
        mine, his = (list(inspect.signature(c.__init__).parameters.values()) for c in (ours, theirs))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in his]
        assert repr(ours(0.25, True)) == repr(theirs(0.25, True))
        for p in (-0.1, 1.5):
            with pytest.raises(ValueError, match=f"dropout probability has to be between 0 and 1, but got {p}"):
                ours(p)
    for name in F.dropouts.__all__:  # type: ignore[attr-defined]
        mine, his = (list(inspect.signature(getattr(lib, name)).parameters.values()) for lib in (F, T))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in his]
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 2"):
            getattr(F, name)(np.ones((2, 3, 4, 5)), 2)


def test_dimensions() -> None:
    x = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match=r"dropout1d takes an input of 2 or 3 dimensions, .* not of shape \(4,\)"):
        F.dropout1d(np.ones(4))
    with pytest.warns(UserWarning, match=r"dropout2d: an input of 3 dimensions is taken for \(N, C, L\)"):
        y = F.dropout2d(x)
    assert set(y.std(axis=-1).ravel()) == {0.0}
    with pytest.warns(UserWarning, match=r"dropout3d: an input of 3 dimensions; 4 or 5"):
        F.dropout3d(x)
    with pytest.raises(ValueError, match=r"feature_alpha_dropout needs an input of at least 2 dimensions, not of shape \(4,\)"):
        F.feature_alpha_dropout(np.ones(4), training=True)


def test_every_library(backend: support.Backend) -> None:
    """One seed, one mask."""
    x = np.random.default_rng(0).normal(size=(4, 3, 2))
    for name in ("dropout", "dropout1d", "alpha_dropout", "feature_alpha_dropout"):
        ad.manual_seed(9)
        wanted = getattr(F, name)(x, 0.4, training=True)
        ad.manual_seed(9)
        v = ad.Variable(backend.asarray(x))
        got = getattr(F, name)(v, 0.4, training=True)
        assert_close(backend.numpy(got.data), wanted, rtol=1e-13)
        got.sum().backward()
        assert type(v.grad) is type(v.data)
        assert (backend.numpy(v.grad) >= 0).all()
