"""Distances beside torch: orders of norms, equal vectors, vectors of length zero."""

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


def assert_agree(name: str, *arrays: Any, **options: Any) -> None:
    """Compare values and gradients in float64."""
    v, t = [ad.Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = getattr(F, name)(*v, **options), getattr(T, name)(*t, **options)
    assert_close(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-14)
    ct = np.linspace(0.5, 2.0, y.size).reshape(y.shape)
    y.backward(ct)
    z.backward(torch.tensor(ct))
    for mine, his in zip(v, t, strict=True):
        assert np.isfinite(mine.grad).all()
        assert_close(mine.grad, his.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2.0, 3, 0.5, np.inf])
def test_pairwise_distance(rng: np.random.Generator, p: float) -> None:
    x1, x2 = rng.normal(size=(2, 4, 3))
    for a, b in ((x1, x2), (x1[0], x2[0]), (x1, x2[0]), (x1[:, None], x2)):
        for keepdim in (False, True):
            assert_agree("pairwise_distance", a, b, p=p, eps=1e-3, keepdim=keepdim)
    if p in (1, 2.0):
        assert_agree("pairwise_distance", x1, x1.copy(), p=p)  # equal vectors: eps is what is left


def test_cosine_similarity(rng: np.random.Generator) -> None:
    x1, x2 = rng.normal(size=(2, 4, 3, 2))
    for dim in (0, 1, -1):
        assert_agree("cosine_similarity", x1, x2, dim=dim)
    assert_agree("cosine_similarity", x1, x2[:1], dim=1)
    assert_agree("cosine_similarity", x1[0, 0], x2[0, 0], dim=0)
    assert_agree("cosine_similarity", x1, x2[0], dim=-1)
    zero = x1.copy()
    zero[0], zero[1] = 0.0, 1e-9 * zero[1]
    assert_agree("cosine_similarity", zero, x2, dim=1)  # of length zero, and shorter than eps
    assert_agree("cosine_similarity", x1, x2, dim=1, eps=1.5)


@pytest.mark.parametrize("p", [1, 2.0, 3.0, np.inf])
def test_normalize(rng: np.random.Generator, p: float) -> None:
    x = rng.normal(size=(3, 4, 2))
    for dim in (0, 1, -1):
        assert_agree("normalize", x, p=p, dim=dim)
    if p == 2.0:
        assert_agree("normalize", x, dim=(0, 2))
    x[0] = 0.0
    assert_agree("normalize", x, p=p, dim=1)
    out = np.empty((3, 4, 2))
    assert F.normalize(x, out=out) is out
    assert_exact(out, F.normalize(x))


@pytest.mark.parametrize("p", [0.0, 0.7, 1.0, 1.5, 2.0, 4.0, np.inf])
def test_pdist(rng: np.random.Generator, p: float) -> None:
    assert_agree("pdist", rng.normal(size=(5, 3)), p=p)
    x = rng.normal(size=(4, 3))
    x[2] = x[0]  # a distance of 0
    if p >= 1:
        assert_agree("pdist", x, p=p)
    assert F.pdist(np.ones((1, 3)), p).shape == (0,)
    assert F.pdist(np.ones((0, 3)), p).shape == (0,)


def test_elsewhere(rng: np.random.Generator) -> None:
    x1, x2 = rng.normal(size=(2, 4, 3))
    for call in (F.pairwise_distance, F.cosine_similarity):
        ad.check_grads(call, (x1, x2), order=2)
        assert_close(ad.vmap(lambda a, b, call=call: call(a, b, -1) if call is F.cosine_similarity else call(a, b))(x1, x2),
                     call(x1, x2), rtol=1e-13)  # fmt: skip
        assert call(x1.astype("float32"), x2.astype("float32")).dtype == np.float32
    ad.check_grads(F.pdist, (x1,), order=2)
    ad.check_grads(F.normalize, (x1,), order=2)


def test_modules_are_torchs() -> None:
    for name in nn.distance.__all__:
        mine, his = (list(inspect.signature(getattr(lib, name).__init__).parameters.values()) for lib in (nn, torch.nn))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in his]
        assert repr(getattr(nn, name)()) == repr(getattr(torch.nn, name)())


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"pdist takes rows, an input of 2 dimensions, not of shape \(3,\)"):
        F.pdist(np.ones(3))
    with pytest.raises(ValueError, match="pdist: p is 0 or more, not -1"):
        F.pdist(np.ones((3, 2)), -1)
    with pytest.raises(ValueError, match="broadcast"):
        F.pairwise_distance(np.ones((2, 3)), np.ones((2, 4)))


def test_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    x1, x2 = rng.normal(size=(2, 4, 3))
    x1[0] = 0.0
    for name in ("pairwise_distance", "cosine_similarity", "normalize", "pdist"):
        arrays = (x1, x2) if "_" in name else (x1,)
        v, t = [ad.Variable(backend.asarray(a)) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
        y, z = getattr(F, name)(*v), getattr(T, name)(*t)
        assert_close(backend.numpy(y.data), z.detach().numpy(), rtol=1e-12, atol=1e-14)
        y.sum().backward()
        z.sum().backward()
        for mine, his in zip(v, t, strict=True):
            assert_close(backend.numpy(mine.grad), his.grad.numpy(), rtol=1e-10, atol=1e-12)
