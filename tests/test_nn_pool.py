"""Pooling: what PyTorch's own lists of cases leave out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact
from test_nn_torch import assert_agree

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional
# JAX compiles every shape, and Dask computes every number anew: one call of each kind there, in the conformance suite's samples and below
quick = pytest.mark.parametrize("backend", support.params(without=("jax", "dask")))

AVERAGES: list[tuple[int, Any, dict[str, Any]]] = [
    (2, (2, 3, 6, 6), {"kernel_size": 2}),
    (2, (2, 3, 7, 5), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 1)}),
    (2, (3, 7, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    (2, (3, 7, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    (2, (2, 5, 5), {"kernel_size": 3, "stride": 3, "ceil_mode": True, "divisor_override": -7}),
    (1, (2, 3, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    (3, (1, 2, 4, 5, 4), {"kernel_size": 2, "padding": 1, "count_include_pad": False}),
]


@quick
@pytest.mark.parametrize(("axes", "x", "options"), AVERAGES)
def test_avg_pool(backend: support.Backend, rng: np.random.Generator, axes: int, x: Any, options: Any) -> None:
    ours, theirs = getattr(F, f"avg_pool{axes}d"), getattr(T, f"avg_pool{axes}d")
    assert_agree(backend, lambda a: ours(a, **options), lambda a: theirs(a, **options), rng.normal(size=x), rng=rng)


ADAPTIVE = [(1, (2, 3, 7), 3), (2, (2, 3, 8, 6), (4, 2)), (2, (2, 7, 5), (None, 3)), (2, (2, 3, 4, 5), 1), (3, (1, 2, 5, 4, 7), (2, 7, 3))]


@quick
@pytest.mark.parametrize(("axes", "x", "size"), ADAPTIVE)
def test_adaptive_pools(backend: support.Backend, rng: np.random.Generator, axes: int, x: Any, size: Any) -> None:
    for kind in ("avg", "max"):
        ours, theirs = getattr(F, f"adaptive_{kind}_pool{axes}d"), getattr(T, f"adaptive_{kind}_pool{axes}d")
        wanted = size if isinstance(size, int) else tuple(n or x[i - axes] for i, n in enumerate(size))
        assert_agree(backend, lambda a: ours(a, size), lambda a: theirs(a, wanted), rng.normal(size=x), rng=rng)  # noqa: B023


def indices(backend: support.Backend, ours: Any, theirs: Any, x: Any) -> tuple[Any, Any]:
    """Give where the maxima are, ours and theirs, having compared the maxima."""
    y, at = ours(backend.asarray(x))
    z, there = theirs(torch.tensor(x))
    assert_exact(backend.numpy(y), z.numpy())
    return backend.numpy(at), there.numpy()


PLACES: list[tuple[int, Any, dict[str, Any]]] = [
    (1, (2, 3, 9), {"kernel_size": 3, "stride": 2, "padding": 1}),
    (2, (2, 3, 7, 6), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}),
    (2, (3, 7, 8), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    (3, (1, 2, 4, 5, 4), {"kernel_size": 2, "padding": 1}),
]


@quick
@pytest.mark.parametrize(("axes", "shape", "options"), PLACES)
def test_where_maxima_are(backend: support.Backend, rng: np.random.Generator, axes: int, shape: Any, options: Any) -> None:
    ours, theirs = getattr(F, f"max_pool{axes}d"), getattr(T, f"max_pool{axes}d")
    for x in (rng.normal(size=shape), rng.integers(0, 2, size=shape).astype(float)):
        got, wanted = indices(
            backend, lambda a: ours(a, **options, return_indices=True), lambda a: theirs(a, **options, return_indices=True), x
        )
        assert np.array_equal(got, wanted)
        assert np.array_equal(backend.numpy(getattr(F, f"max_pool{axes}d_with_indices")(backend.asarray(x), **options)[1]), wanted)


@quick
@pytest.mark.parametrize(("axes", "shape", "size"), [case for case in ADAPTIVE if not isinstance(case[2], tuple) or None not in case[2]])
def test_where_adaptive_maxima_are(backend: support.Backend, rng: np.random.Generator, axes: int, shape: Any, size: Any) -> None:
    ours, theirs = getattr(F, f"adaptive_max_pool{axes}d_with_indices"), getattr(T, f"adaptive_max_pool{axes}d_with_indices")
    for x in (rng.normal(size=shape), rng.integers(0, 2, size=shape).astype(float)):
        got, wanted = indices(backend, lambda a: ours(a, size), lambda a: theirs(a, size), x)
        assert np.array_equal(got, wanted)


@quick
def test_infinities_and_what_is_no_number(backend: support.Backend) -> None:
    x = np.asarray([[[[1.0, np.nan, 3.0, np.nan, 2.0, 2.0], [5.0, 6.0, 7.0, 8.0, np.nan, np.nan]]]])
    for options in ({"kernel_size": 2}, {"kernel_size": (2, 3), "stride": 1, "padding": (1, 1)}):
        got, wanted = indices(
            backend,
            lambda a, o=options: F.max_pool2d(a, **o, return_indices=True),
            lambda a, o=options: T.max_pool2d(a, **o, return_indices=True),
            x,
        )
        assert np.array_equal(got, wanted)
        v, t = ad.Variable(backend.asarray(x)), torch.tensor(x, requires_grad=True)
        F.max_pool2d(v, **options).sum().backward()
        T.max_pool2d(t, **options).sum().backward()
        assert_exact(backend.numpy(v.grad), t.grad.numpy())
    nothing = np.full((1, 1, 3, 3), -np.inf)
    got, wanted = indices(
        backend,
        lambda a: F.max_pool2d(a, 2, padding=1, return_indices=True),
        lambda a: T.max_pool2d(a, 2, padding=1, return_indices=True),
        nothing,
    )
    assert np.array_equal(got, wanted)
    got, wanted = indices(backend, lambda a: F.adaptive_max_pool2d(a, (1, 4), True), lambda a: T.adaptive_max_pool2d(a, (1, 4), True), x)
    assert np.array_equal(got, wanted)


def test_integers() -> None:
    x = np.arange(16).reshape(1, 4, 4) - 20
    y, at = F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    z, there = T.max_pool2d(torch.tensor(x), 3, stride=2, padding=1, return_indices=True)
    assert y.dtype == x.dtype and np.array_equal(y, z.numpy()) and np.array_equal(at, there.numpy())
    for pool in (lambda: F.avg_pool2d(x, 2), lambda: F.adaptive_avg_pool2d(x, 2)):
        with pytest.raises(TypeError, match=r"avg_pool2d takes floating arrays, not int64: an average of integers is no integer\."):
            pool()


@pytest.mark.parametrize("backend", support.params(without=("jax",)))  # where the samples are enough to wait for
def test_one_of_each_on_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    x, samples = rng.normal(size=(2, 6, 7)), rng.uniform(size=(1, 2, 2))

    def network(m: Any, draw: Any) -> Any:
        def run(x: Any) -> Any:
            y, at = m.max_pool2d(x, 2, stride=2, ceil_mode=True, return_indices=True)
            y = m.lp_pool2d(m.avg_pool2d(m.max_unpool2d(y, at, 2, output_size=(6, 7)), 3, 1, 1, count_include_pad=False), 2, 2, 1)
            return m.adaptive_avg_pool2d(m.fractional_max_pool2d(y, 2, (4, 5), _random_samples=draw), (3, 4)) + m.adaptive_max_pool2d(
                y, (3, 4)
            )

        return run

    assert_agree(backend, network(F, backend.asarray(samples)), network(T, torch.tensor(samples)), x, rng=rng)


# --- back from maxima -------------------------------------------------------------------------------------------------------------------
@quick
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_unpool(backend: support.Backend, rng: np.random.Generator, axes: int) -> None:
    pool, ours, theirs = (getattr(m, n) for m, n in ((T, f"max_pool{axes}d"), (F, f"max_unpool{axes}d"), (T, f"max_unpool{axes}d")))
    for size, options in (((6, 4, 8), {}), ((6, 7, 5), {"output_size": (6, 7, 5)[:axes]})):
        x = rng.normal(size=(2, 3, *size[:axes]))
        y, at = pool(torch.tensor(x), 2, return_indices=True)
        places = backend.asarray(at.numpy())
        assert_agree(
            backend,
            lambda a, p=places, o=options: ours(a, p, 2, **o),
            lambda a, p=at, o=options: theirs(a, p, 2, **o),
            y.numpy(),
            rng=rng,
        )
    layer = getattr(nn, f"MaxUnpool{axes}d")(2)
    assert repr(layer) == repr(getattr(torch.nn, f"MaxUnpool{axes}d")(2))
    assert_exact(backend.numpy(layer(backend.asarray(y.numpy()), places, x.shape)), theirs(y, at, 2, output_size=x.shape[2:]).numpy())


def test_of_several_maxima_for_one_place_the_last_stays() -> None:
    v = ad.Variable([[[1.0, 2.0, 3.0]]])
    y = F.max_unpool1d(v, np.asarray([[[4, 1, 4]]]), 2)
    assert_exact(y.data, [[[0.0, 2.0, 0.0, 0.0, 3.0, 0.0]]])
    y.sum().backward()
    assert_exact(v.grad, [[[0.0, 1.0, 1.0]]])


# --- fractional -------------------------------------------------------------------------------------------------------------------------
FRACTIONS: list[tuple[int, Any, Any, dict[str, Any]]] = [
    (2, (2, 3, 7, 9), 2, {"output_size": (4, 5)}),
    (2, (3, 8, 7), (3, 2), {"output_ratio": (0.5, 0.7)}),
    (2, (1, 2, 5, 6), 2, {"output_size": 1}),
    (3, (2, 3, 5, 6, 7), 2, {"output_size": (2, 4, 3)}),
    (3, (2, 6, 6, 6), (1, 2, 3), {"output_ratio": 0.5}),
]


@quick
@pytest.mark.parametrize(("axes", "shape", "kernel", "options"), FRACTIONS)
def test_fractional_max_pool(backend: support.Backend, rng: np.random.Generator, axes: int, shape: Any, kernel: Any, options: Any) -> None:
    x, samples = rng.normal(size=shape), rng.uniform(size=((1,) * (axes + 2 - len(shape)) + shape[:-axes] + (axes,)))
    ours, theirs = getattr(F, f"fractional_max_pool{axes}d"), getattr(T, f"fractional_max_pool{axes}d")
    mine, others = {"_random_samples": backend.asarray(samples)}, {"_random_samples": torch.tensor(samples)}
    if isinstance(options.get("output_ratio"), float):
        others["output_ratio"] = (options["output_ratio"],) * axes
    assert_agree(backend, lambda a: ours(a, kernel, **options, **mine), lambda a: theirs(a, kernel, **{**options, **others}), x, rng=rng)
    got, wanted = indices(
        backend,
        lambda a: ours(a, kernel, **options, return_indices=True, **mine),
        lambda a: theirs(a, kernel, **{**options, **others}, return_indices=True),
        x,
    )
    assert np.array_equal(got, wanted)


@quick
def test_one_seed_the_same_windows(backend: support.Backend, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 9, 8))
    layer = nn.FractionalMaxPool2d(2, output_ratio=0.6)
    ad.manual_seed(1)
    wanted = [layer(x), layer(x)]
    ad.manual_seed(1)
    assert_exact(backend.numpy(layer(backend.asarray(x))), wanted[0])
    assert_exact(backend.numpy(layer(backend.asarray(x))), wanted[1])
    assert not np.array_equal(*wanted)


# --- all ----------------------------------------------------------------------------------------------------------------------------------
POOLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("MaxPool2d", (2,), {"padding": 1, "dilation": 2, "ceil_mode": True}),
    ("AvgPool1d", (2,), {"padding": 1}),
    ("AvgPool2d", ((2, 3),), {"divisor_override": 5}),
    ("AvgPool3d", (2,), {"stride": 1}),
    ("LPPool1d", (2, 3), {}),
    ("LPPool2d", (3, 2), {"stride": 1, "ceil_mode": True}),
    ("LPPool3d", (1.5, 2), {}),
    ("AdaptiveAvgPool2d", ((3, None),), {}),
    ("AdaptiveMaxPool3d", (2,), {}),
    ("FractionalMaxPool2d", (2,), {"output_size": 3}),
    ("FractionalMaxPool3d", (2,), {"output_ratio": 0.5}),
]


@pytest.mark.parametrize(("name", "args", "options"), POOLS)
def test_layers_print_as_torchs_and_keep_float32(name: str, args: Any, options: Any, rng: np.random.Generator) -> None:
    ours, theirs = getattr(nn, name)(*args, **options), getattr(torch.nn, name)(*args, **options)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict()) == []
    x = np.abs(rng.normal(size=(2, *(6, 7, 8)[: int(name[-2])]))).astype("float32")
    v = ad.Variable(x)
    y = ours(v)
    assert y.dtype == x.dtype and type(ours(x)) is np.ndarray
    y.sum().backward()
    assert v.grad.dtype == x.dtype
    if not name.startswith("Fractional"):
        assert_close(y.data, theirs(torch.tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


def test_empty_batches_and_outputs() -> None:
    x = np.ones((0, 2, 4, 4))
    results = [F.max_pool2d(x, 2), F.avg_pool2d(x, 2), F.lp_pool2d(x, 2, 2), F.adaptive_avg_pool2d(x, 2), F.adaptive_max_pool2d(x, 2)]
    results += [F.fractional_max_pool2d(x, 2, 2), F.max_unpool2d(x[..., :1, :1], np.ones((0, 2, 1, 1), "int64"), 2)]
    assert {y.shape for y in results} == {(0, 2, 2, 2)}
    for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
        v = ad.Variable(np.ones((1, 2, 4, 4)))
        y = pool(v, (0, 3))
        assert y.shape == T.adaptive_avg_pool2d(torch.ones(1, 2, 4, 4), (0, 3)).shape == (1, 2, 0, 3)
        y.sum().backward()
        assert_exact(v.grad, np.zeros(v.shape))


def test_infinities_stay_in_their_windows() -> None:
    v = ad.Variable([[1.0, 2.0, 0.0, 1.0]])
    F.max_pool1d(v, 2).backward(np.asarray([[np.inf, 1.0]]))
    assert_exact(v.grad, [[0.0, np.inf, 0.0, 1.0]])
    x = np.asarray([[np.inf, 1.0, 2.0, 3.0, 4.0]])
    assert_exact(F.adaptive_avg_pool1d(x, 2), [[np.inf, 3.0]])
    assert_exact(F.avg_pool1d(x, 2), [[np.inf, 2.5]])


def test_second_derivatives(rng: np.random.Generator) -> None:
    x = rng.permutation(2 * 5 * 6).reshape(2, 5, 6) / 10 + 0.5
    samples = rng.uniform(size=(2, 2))
    for pool in (
        lambda v: F.max_pool2d(v, 3, 2, 1),
        lambda v: F.avg_pool2d(v, 3, 2, 1, count_include_pad=False),
        lambda v: F.lp_pool2d(v, 3, 2),
        lambda v: F.adaptive_avg_pool2d(v, (3, 4)),
        lambda v: F.adaptive_max_pool2d(v, (3, 4)),
        lambda v: F.fractional_max_pool2d(v, 2, 3, _random_samples=samples),
    ):
        ad.check_grads(lambda v, pool=pool: (pool(v) ** 3).sum(), (x,), order=2, rtol=1e-6)


def test_batches(rng: np.random.Generator) -> None:
    xs, samples = rng.normal(size=(3, 2, 5, 6)), rng.uniform(size=(2, 2))
    for pool in (
        lambda v: F.max_pool2d(v, 3, 2, 1, return_indices=True),
        lambda v: F.avg_pool2d(v, 3, 2, 1, count_include_pad=False),
        lambda v: F.lp_pool2d(v, 2, 2),
        lambda v: F.adaptive_avg_pool2d(v, (3, 4)),
        lambda v: F.adaptive_max_pool2d(v, (3, 4), return_indices=True),
        lambda v: F.fractional_max_pool2d(v, 2, 3, return_indices=True, _random_samples=samples),
        lambda v: F.max_unpool2d(*F.max_pool2d(v, 2, return_indices=True), 2, output_size=(5, 6)),
    ):
        results = [pool(x) for x in xs]
        if isinstance(results[0], tuple):
            for got, wanted in zip(ad.vmap(pool)(xs), zip(*results, strict=True), strict=True):
                assert_close(got, np.stack(wanted), rtol=1e-13)
        else:
            assert_close(ad.vmap(pool)(xs), np.stack(results), rtol=1e-13)


X = np.ones((1, 2, 4, 4))
AT = np.zeros((1, 2, 4, 4), "int64")
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: F.max_pool2d(X[0, 0], 2), ValueError, "max_pool2d takes an input of shape (N, C, H, W) or (C, H, W), not of shape (4, 4)"),
    (
        lambda: F.max_pool2d(X, 5),
        ValueError,
        "pooling: a window of size (5, 5) with dilation (1, 1) does not fit an input of shape (1, 2, 4, 4)",
    ),
    (lambda: F.max_pool2d(X, 2, padding=2), ValueError, "max_pool2d: padding (2, 2) is more than half of the window (2, 2)"),
    (lambda: F.max_pool2d(X, 2, 0), ValueError, "stride is an integer of 1 or more, or 2 of them; got 0"),
    (lambda: F.max_pool2d(X, (2, 2, 2)), ValueError, "kernel_size is an integer of 1 or more, or 2 of them; got (2, 2, 2)"),
    (lambda: F.avg_pool1d(X[0], 2, padding=2), ValueError, "avg_pool1d: padding (2,) is more than half of the window (2,)"),
    (lambda: F.avg_pool2d(X, 2, divisor_override=0), ValueError, "avg_pool2d: divisor_override is 0"),
    (
        lambda: F.lp_pool3d(X[0, 0], 2, 2),
        ValueError,
        "lp_pool3d takes an input of shape (N, C, D, H, W) or (C, D, H, W), not of shape (4, 4)",
    ),
    (lambda: F.adaptive_avg_pool2d(X, (1, 2, 3)), ValueError, "adaptive_avg_pool2d: output_size has 2 numbers, or is one; got (1, 2, 3)"),
    (lambda: F.adaptive_max_pool2d(X, -1), ValueError, "output_size is an integer of 0 or more, or 2 of them; got (-1, -1)"),
    (lambda: F.fractional_max_pool2d(X, 2), ValueError, "fractional_max_pool2d takes one of output_size and output_ratio"),
    (
        lambda: F.fractional_max_pool2d(X, 2, 4),
        ValueError,
        "fractional_max_pool2d: (4, 4) windows of size (2, 2) do not fit an input of size (4, 4)",
    ),
    (
        lambda: F.fractional_max_pool2d(X, 2, 2, _random_samples=np.ones((1, 2, 3))),
        ValueError,
        "fractional_max_pool2d: _random_samples of shape (1, 2, 3); (1, 2, 2) is wanted",
    ),
    (lambda: nn.FractionalMaxPool2d(2, 3, 0.5), ValueError, "FractionalMaxPool2d takes one of output_size and output_ratio"),
    (lambda: nn.FractionalMaxPool2d(2, output_ratio=2), ValueError, "FractionalMaxPool2d: output_ratio lies between 0 and 1, not (2, 2)"),
    (
        lambda: F.max_unpool2d(X, AT[..., :1], 2),
        ValueError,
        "max_unpool2d: indices of shape (1, 2, 4, 1) are not one for each element of an input of shape (1, 2, 4, 4)",
    ),
    (lambda: F.max_unpool2d(X, AT * 1.0, 2), TypeError, "max_unpool2d: indices are integers, not float64"),
    (lambda: F.max_unpool2d(X, AT + 64, 2), IndexError, "max_unpool2d: index 64 is out of bounds for an output of size (8, 8)"),
    (
        lambda: F.max_unpool2d(X, AT, 2, output_size=(9, 10)),
        ValueError,
        "max_unpool2d: output_size (9, 10) does not lie between (7, 7) and (9, 9), for an input of shape (1, 2, 4, 4)",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_what_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()
