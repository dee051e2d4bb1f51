"""Padding beside torch: every mode, sizes that torch's list leaves out, refusals."""

from __future__ import annotations

import inspect
import itertools
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


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pairs(rng: np.random.Generator, mode: str) -> None:
    """Every pair from -2 to 3, in values and gradients."""
    x = rng.normal(size=(2, 3, 5))
    for pair in itertools.product(range(-2, 4), repeat=2):
        v, t = ad.Variable(x), torch.tensor(x, requires_grad=True)
        y, z = F.pad(v, pair, mode), T.pad(t, pair, mode)
        assert_exact(y.data, z.detach().numpy())
        ct = rng.normal(size=y.shape)
        (y * ct).sum().backward()
        (z * torch.tensor(ct)).sum().backward()
        assert_close(v.grad, t.grad.numpy(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 4, 5), (2, 3, 4, 5, 3), (3, 4, 5, 3)])
def test_several_axes(rng: np.random.Generator, mode: str, shape: Any) -> None:
    x = rng.normal(size=shape)
    count = 2 if shape[-1] == 5 else 3
    for pad in ((1, 2, 0, 3), (2, 0, -1, 1), (0, 0, 1, 1)) if count == 2 else ((1, 2, 0, 3, 2, 1), (2, -1, 1, 0, -1, 3)):
        assert_exact(F.pad(x, pad, mode), T.pad(torch.tensor(x), pad, mode).numpy())


def test_constants(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 2))
    for pad, value in (((1, 2), 3.5), ((0, 0, 0, 0, 1, 0, 2, 1), -1.0), ((-1, -1, 2, -3), 0.25), ((), 1.0), ((0, 0), 2.0)):
        assert_exact(F.pad(x, pad, value=value), T.pad(torch.tensor(x), pad, value=value).numpy())
    assert_exact(F.pad(np.asarray([True, False]), (1, 0)), [False, True, False])
    assert_exact(F.pad(np.asarray([1, 2]), (1, 1), value=7), [7, 1, 2, 7])
    assert F.pad(np.ones(3, "float32"), (1, 1), value=2.0).dtype == np.float32
    assert F.pad(np.ones((0, 3)), (1, 1, 1, 0)).shape == (1, 5)
    z = np.asarray([1 + 2j, 3j])
    assert_exact(F.pad(z, (1, 0), value=0.5), [0.5, 1 + 2j, 3j])
    ad.check_grads(lambda x: F.pad(x, (1, -1), value=2.0) ** 3, (rng.normal(size=(2, 3)),), order=2)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_second_derivatives_and_vmap(rng: np.random.Generator, mode: str) -> None:
    x = rng.normal(size=(2, 4))
    ad.check_grads(lambda x: F.pad(x, (2, 1), mode) ** 3, (x,), order=2)
    assert_exact(ad.vmap(lambda row: F.pad(row, (2, -1), mode))(x), F.pad(x, (2, -1), mode))
    assert F.pad(x.astype("float32"), (1, 1), mode).dtype == np.float32
    assert_exact(F.pad(x[0], (1, 1), mode), F.pad(x, (1, 1), mode)[0])  # torch wants two dimensions


def test_modules_are_torchs(rng: np.random.Generator) -> None:
    for name in nn.padding.__all__:
        ours, theirs = getattr(nn, name), getattr(torch.nn, name)
        mine, his = (list(inspect.signature(c.__init__).parameters) for c in (ours, theirs))
        assert mine == his
        more = (0.5,) if "Constant" in name else ()
        count = int(name[-2])
        pad = tuple(range(2 * count))[::-1]
        x = rng.normal(size=(2, 2, 8, 8, 8)[: 2 + count])
        for padding in (2, pad):
            a, b = ours(padding, *more), theirs(padding, *more)
            assert repr(a) == repr(b)
            for each in (x, x[0]):
                assert_exact(a(each), b(torch.tensor(each)).numpy())


def test_refusals() -> None:
    x = np.ones((2, 3, 4))
    for error, text, call in (
        (
            ValueError,
            r"pad: \(1,\) is no pair of numbers for each of the last axes of an input of shape \(2, 3, 4\)",
            lambda: F.pad(x, (1,)),
        ),
        (ValueError, "pad: .* is no pair", lambda: F.pad(x, (1,) * 8)),
        (TypeError, r"pad: the numbers are integers, not \(1.5, 2\)", lambda: F.pad(x, (1.5, 2))),
        (ValueError, "mode is 'constant', 'reflect', 'replicate' or 'circular', not 'edge'", lambda: F.pad(x, (1, 1), "edge")),
        (ValueError, r"a value \(2.0\) goes with mode='constant', not with 'reflect'", lambda: F.pad(x, (1, 1), "reflect", 2.0)),
        (
            ValueError,
            "4 and 0 elements along axis 2 of an input of shape .* are more than 'reflect' can give: 3",
            lambda: F.pad(x, (4, 0), "reflect"),
        ),
        (ValueError, "0 and 5 elements along axis 2 .* are more than 'circular' can give: 4 at most", lambda: F.pad(x, (0, 5), "circular")),
        (ValueError, r"\(-3, -2\) takes away more than the 4 elements along axis 2", lambda: F.pad(x, (-3, -2))),
        (ValueError, "1 and 0 elements along axis 1 .* 'replicate' can give: 0", lambda: F.pad(np.ones((2, 0)), (1, 0), "replicate")),
        (ValueError, r"ReflectionPad2d: padding is an integer, or 4 of them; got \(1, 2\)", lambda: nn.ReflectionPad2d((1, 2))),
        (ValueError, r"CircularPad1d takes an input of 2 or 3 dimensions, not of shape \(4,\)", lambda: nn.CircularPad1d(1)(x[0, 0])),
    ):
        with pytest.raises(error, match=text):
            call()


def test_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    x, ct = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 6))
    for mode in ("constant", "reflect", "replicate", "circular"):
        v, t = ad.Variable(backend.asarray(x)), torch.tensor(x, requires_grad=True)
        pad = (3, -1, 0, 1)
        y, z = F.pad(v, pad, mode), T.pad(t, pad, mode)
        assert_exact(backend.numpy(y.data), z.detach().numpy())
        y.backward(backend.asarray(ct))
        z.backward(torch.tensor(ct))
        assert type(v.grad) is type(v.data)
        assert_close(backend.numpy(v.grad), t.grad.numpy(), rtol=1e-13, atol=1e-14)
