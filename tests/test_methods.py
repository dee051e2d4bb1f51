"""The methods that NumPy code and PyTorch code call on arrays, on every library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad

RNG = np.random.default_rng(0)
X = np.asarray([0.3, -1.2, 0.7, 1.9])
M = np.arange(12.0).reshape(3, 4) / 7 - 0.6
S = np.asarray([[1.0, 0.5, -0.3], [0.2, 2.0, 0.7], [-0.1, 0.4, 1.5]])


def host(v: Any) -> Any:
    """The values of a Variable over any library, in NumPy."""
    return v.detach().numpy()


def beside(x: Any, value: Any) -> Any:
    """An array of the library of ``x``."""
    return value if isinstance(x, np.ndarray) else x.backend.from_numpy(value, x.device)


# --- NumPy's ---------------------------------------------------------------------------------------------------------------------------------
# name: an argument, and a function that runs on it and on a Variable of it
METHODS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "reshape": (M, lambda x: x.reshape(4, 3)),
    "reshape tuple": (M, lambda x: x.reshape((2, -1))),
    "reshape list": (M, lambda x: x.reshape([2, 6])),
    "reshape number": (M, lambda x: x.reshape(-1)),
    "ravel": (M, lambda x: x.ravel()),
    "flatten": (M, lambda x: x.flatten()),
    "squeeze": (M[:, None], lambda x: x.squeeze()),
    "squeeze axis": (M[:, None, :, None], lambda x: x.squeeze(1)),
    "squeeze axes": (M[:, None, :, None], lambda x: x.squeeze((1, 3))),
    "transpose": (M, lambda x: x.transpose()),
    "transpose axes": (M[None], lambda x: x.transpose(1, 0, 2)),
    "transpose tuple": (M[None], lambda x: x.transpose((2, 0, 1))),
    "T": (M, lambda x: x.T),
    "T of 3": (M[None], lambda x: x.T),
    "mT": (M[None], lambda x: x.mT),
    "swapaxes": (M[None], lambda x: x.swapaxes(0, -1)),
    "sum": (M, lambda x: x.sum()),
    "sum axis": (M, lambda x: x.sum(0)),
    "sum axes keepdims": (M, lambda x: x.sum(axis=(0, -1), keepdims=True)),
    "mean": (M, lambda x: x.mean(axis=-1)),
    "mean all": (M, lambda x: x.mean()),
    "std": (M, lambda x: x.std()),
    "std ddof": (M, lambda x: x.std(axis=0, ddof=1)),
    "var": (M, lambda x: x.var(axis=1, keepdims=True)),
    "var ddof": (M, lambda x: x.var(ddof=1)),
    "prod": (M, lambda x: x.prod(axis=1)),
    "prod all": (M, lambda x: x.prod()),
    "max": (M, lambda x: x.max()),
    "max axis": (M, lambda x: x.max(axis=0)),
    "min": (M, lambda x: x.min(axis=-1, keepdims=True)),
    "cumsum": (M, lambda x: x.cumsum()),
    "cumsum axis": (M, lambda x: x.cumsum(axis=1)),
    "clip": (M, lambda x: x.clip(-0.5, 0.5)),
    "clip min": (M, lambda x: x.clip(min=0.1)),
    "clip max": (M, lambda x: x.clip(max=0.1)),
    "astype": (M, lambda x: x.astype("float64")),
    "copy": (M, lambda x: x.copy()),
    "conj": (M, lambda x: x.conj()),
    "dot vector": (X, lambda x: x.dot(beside(x, np.arange(4.0)))),
    "dot matrix": (S, lambda x: x.dot(beside(x, S))),
    "dot number": (S, lambda x: x.dot(2.0)),
    "dot itself": (S, lambda x: x.dot(x)),
    "dot 3d": (M, lambda x: x.dot(beside(x, np.ones((2, 4, 3))))),
    "trace": (S, lambda x: x.trace()),
    "trace offset": (M, lambda x: x.trace(1)),
    "diagonal": (M, lambda x: x.diagonal()),
    "diagonal offset": (M, lambda x: x.diagonal(-1)),
    "take": (M, lambda x: x.take([3, 0, 3])),
    "take axis": (M, lambda x: x.take(np.asarray([2, 0]), axis=0)),
    "take number": (M, lambda x: x.take(5)),
    "repeat": (M, lambda x: x.repeat(2)),
    "repeat axis": (M, lambda x: x.repeat(3, axis=1)),
    "round": (M, lambda x: x.round()),
    "round decimals": (X + 0.02, lambda x: x.round(1)),
    "real": (M, lambda x: x.real),
    "reshape order": (M, lambda x: x.reshape(2, 6, order="F")),
    "reshape size 1": (np.asarray([2.5]), lambda x: x.reshape(())),
    "ravel order": (M, lambda x: x.ravel("F")),
    "flatten order": (M, lambda x: x.flatten("F")),
    "flatten of none": (np.asarray(2.5), lambda x: x.flatten()),
    "copy order": (M.T, lambda x: x.copy(order="C")),
    "squeeze negative": (M[..., None], lambda x: x.squeeze(-1)),
    "sum dtype": (np.float32(M), lambda x: x.sum(dtype="float64")),
    "sum dtype second": (np.float32(M), lambda x: x.sum(0, "float64")),
    "mean dtype": (M, lambda x: x.mean(1, dtype="float64")),
    "var dtype": (M, lambda x: x.var(1, "float64", ddof=1)),
    "prod dtype": (M, lambda x: x.prod(dtype="float64")),
    "cumsum of 2": (M, lambda x: x.cumsum(-1, dtype="float64")),
    "cumprod": (M, lambda x: x.cumprod()),
    "cumprod axis": (M, lambda x: x.cumprod(axis=0)),
    "trace axes": (M[None] * 2, lambda x: x.trace(axis1=1, axis2=2)),
    "trace far off": (M, lambda x: x.trace(9)),
    "diagonal up": (M, lambda x: x.diagonal(2)),
    "diagonal far down": (M, lambda x: x.diagonal(-7)),
    "diagonal of tall": (M.T, lambda x: x.diagonal(-1)),
    "diagonal axes": (M[None] * 2, lambda x: x.diagonal(1, -1, 1)),
    "diagonal of nothing": (M[:0], lambda x: x.diagonal()),
    "take negative": (M, lambda x: x.take([-1, 0], axis=1)),
    "take many": (M, lambda x: x.take([[0, 1], [2, 2]], axis=0)),
    "divmod": (M, lambda x: divmod(x, 0.25)[1]),
    "divmod reflected": (M + 5, lambda x: divmod(20.0, x)[1]),
    "view": (M, lambda x: x.view()),
    "imag": (M, lambda x: x.imag + x),
    "sum of none": (M[:0], lambda x: x.sum(axis=0)),
    "iteration": (M, lambda x: [row * row for row in x][1]),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_those_of_numpy(name: str, backend: support.Backend) -> None:
    value, f = METHODS[name]
    x = ad.Variable(backend.asarray(value))
    y = f(x)
    want = f(np.array(value))
    assert isinstance(y, ad.Variable)
    assert y.shape == np.shape(want) and y.dtype == backend.asarray(want).dtype
    assert_close(host(y), want, 1e-13, 1e-13)
    weights = np.cos(np.arange(np.size(want))).reshape(np.shape(want)) + 1.5
    (x.sum() * 0 + (y * backend.asarray(weights)).sum()).backward()
    assert backend.numpy(x.grad).dtype == value.dtype
    if value.dtype == np.float64:  # differences need the digits
        assert_close(backend.numpy(x.grad), jacobian(lambda v: np.sum(f(v) * weights), value))


@pytest.mark.parametrize("name", ["argmax", "argmin", "all", "any"])
def test_methods_without_a_derivative(name: str, backend: support.Backend) -> None:
    for options in ({}, {"axis": 0}, {"axis": -1}):
        y = getattr(ad.Variable(backend.asarray(M)), name)(**options)
        assert isinstance(y, ad.Variable) and not y.requires_grad
        np.testing.assert_array_equal(host(y), getattr(M, name)(**options))


def test_places_and_orders(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(M))
    np.testing.assert_array_equal(host(x.argsort(axis=0)), M.argsort(axis=0))
    if backend.name != "dask":  # which knows no shape that depends on values
        for got, want in zip(ad.Variable(backend.asarray(M > 0)).nonzero(), (M > 0).nonzero(), strict=True):
            np.testing.assert_array_equal(host(got), want)


def test_sort_and_fill_change_in_place(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(M))
    y = (x * x) * 1
    y.sort(axis=0)
    assert_close(host(y), np.sort(M * M, axis=0), 1e-14)
    (y * beside(y, M)).sum().backward()
    assert_close(backend.numpy(x.grad), jacobian(lambda m: np.sum(np.sort(m * m, axis=0) * M), M))
    y.fill(2.0)
    assert_close(host(y), np.full((3, 4), 2.0), 0, 0)


def test_properties() -> None:
    v = ad.Variable(M)
    assert_exact(host(v.transpose(None)), M.T)
    assert v.size == 12 and v.ndim == 2 and str(v.device) == "cpu" and len(v) == 3
    assert f"{v.sum():.3f}" == f"{M.sum():.3f}" and f"{v}" == str(v)


ERRORS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "transpose of some axes": (lambda x: x[None].transpose((1, 2)), IndexError, "permute_dims: 2 axes for an array of 3 dimensions"),
    "view of a dtype": (lambda x: x.view("int64"), TypeError, r"view takes sizes; another dtype.*'int64'.*Use x\.astype"),
    "order": (lambda x: x.ravel("Q"), ValueError, "order is 'C', 'F', 'A' or 'K', not 'Q'"),
    "squeeze": (lambda x: x.squeeze(1), ValueError, r"axis 1 of an array of shape \(3, 4\) is not of size 1"),
    "max with dtype": (lambda x: x.max(0, "float32"), TypeError, "max takes no dtype"),
    "std of torch": (lambda x: x.std(0, True), TypeError, r"NumPy's dtype; write std\(axis, unbiased=True\)"),
    "casting": (lambda x: x.astype("float32", casting="safe"), ValueError, "casting='safe' is not checked here"),
    "softmax": (lambda x: x.softmax(), TypeError, r"softmax needs an axis: softmax\(-1\)"),
    "split": (lambda x: x.split([1, 1]), ValueError, r"sizes \(1, 1\) do not add up to 3, the size of axis 0"),
    "split nowhere": (lambda x: x.split(1, 2), IndexError, "axis 2 is out of bounds"),
    "reshape": (lambda x: x.reshape(5, 5), ValueError, "reshape"),
    "mT": (lambda x: x[0].mT, ValueError, "mT needs an array of 2 dimensions or more, not 1"),
    "swapaxes": (lambda x: x.swapaxes(0, 2), IndexError, "swapaxes: axis 2 is out of bounds"),
    "permute": (lambda x: x.permute(0, 0), IndexError, "names an axis twice"),
    "expand": (lambda x: x.expand(5, 4), ValueError, "broadcast"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_refused(name: str) -> None:
    f, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        f(ad.Variable(M))


# --- PyTorch's ---------------------------------------------------------------------------------------------------------------------------------
TORCH: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "permute": (M[None], lambda x: x.permute(2, 0, 1)),
    "permute tuple": (M[None], lambda x: x.permute((1, -1, 0))),
    "unsqueeze": (M, lambda x: x.unsqueeze(1)),
    "unsqueeze last": (M, lambda x: x.unsqueeze(-1)),
    "expand": (M[:, None], lambda x: x.expand(2, -1, 5, 4)),
    "expand tuple": (M[:1], lambda x: x.expand((3, 4))),
    "expand 0-d": (X[0] * np.ones(()), lambda x: x.expand(2, 3)),
    "view": (M, lambda x: x.view(2, -1)),
    "view of a permuted copy": (M, lambda x: x.permute(1, 0).contiguous().view(-1)),
    "contiguous": (M, lambda x: x.contiguous()),
    "transpose of two": (M[None], lambda x: x.transpose(0, -1)),
    "masked_fill": (M, lambda x: x.masked_fill(x > 0, -5.0)),
    "chunk": (M, lambda x: x.chunk(2, dim=1)[1]),
    "chunk uneven": (M, lambda x: x.chunk(2)[1]),
    "chunk many": (M, lambda x: x.chunk(7, -1)[3]),
    "split": (M, lambda x: x.split(2)[1]),
    "split sizes": (M, lambda x: x.split([1, 3], dim=-1)[1]),
    "split of nothing": (M[:0], lambda x: x.split(2)[0]),
    "matmul": (S, lambda x: x.matmul(x)),
    "abs": (M, lambda x: x.abs()),
    "exp": (M, lambda x: x.exp()),
    "log": (M * M + 0.1, lambda x: x.log()),
    "sqrt": (M * M + 0.1, lambda x: x.sqrt()),
    "tanh": (M, lambda x: x.tanh()),
    "sigmoid": (M, lambda x: x.sigmoid()),
    "sigmoid far out": (np.asarray([-800.0, -40.0, 0.0, 40.0, 800.0]), lambda x: x.sigmoid()),
    "relu": (M + 0.01, lambda x: x.relu()),
    "softmax": (M, lambda x: x.softmax(-1)),
    "softmax dim": (M, lambda x: x.softmax(dim=0)),
    "sum": (M, lambda x: x.sum(dim=0, keepdim=True)),
    "sum positions": (M, lambda x: x.sum(0, True)),
    "sum dims": (M, lambda x: x.sum(dim=(0, 1))),
    "mean": (M, lambda x: x.mean(dim=-1)),
    "mean dims": (M[None], lambda x: x.mean([0, 2], keepdim=True)),
    "prod": (M, lambda x: x.prod(dim=1)),
    "std": (M, lambda x: x.std(dim=1, correction=1)),
    "var": (M, lambda x: x.var(dim=1, unbiased=False, keepdim=True)),
    "cumsum": (M, lambda x: x.cumsum(dim=1)),
    "cumprod": (M, lambda x: x.cumprod(dim=0)),
    "squeeze": (M[:, None], lambda x: x.squeeze(dim=1)),
    "flatten": (M[None], lambda x: x.flatten(1)),
    "flatten dims": (M[None], lambda x: x.flatten(start_dim=0, end_dim=1)),
    "flatten 0-d": (X[0] * np.ones(()), lambda x: x.flatten()),
    "T": (M, lambda x: x.T),
    "mT": (M[None], lambda x: x.mT),
    "clip": (M, lambda x: x.clip(-0.2, 0.4)),
    "round": (M, lambda x: x.round(decimals=1)),
    "swapaxes": (M[None], lambda x: x.swapaxes(1, 2)),
    "argmax": (M, lambda x: x.argmax(dim=1)),
    "argmin": (M, lambda x: x.argmin(dim=0, keepdim=True)),
    "all": (M, lambda x: (x > -1).all(dim=0)),
    "diagonal": (M, lambda x: x.diagonal(1)),
    "in place": (M, lambda x: (x * 1).contiguous().__iadd__(2.0)),
}


@pytest.mark.parametrize("name", TORCH)
def test_methods_are_those_of_torch(name: str, backend: support.Backend) -> None:
    torch = pytest.importorskip("torch")
    value, f = TORCH[name]
    t = torch.tensor(value, requires_grad=True)
    want = f(t)
    x = ad.Variable(backend.asarray(value))
    y = f(x)
    assert isinstance(y, ad.Variable) and y.shape == tuple(want.shape)
    assert_close(host(y), want.detach().numpy(), 1e-13, 1e-300 if name == "sigmoid far out" else 1e-15)
    if not want.requires_grad:
        assert not y.requires_grad
        return
    weights = np.cos(np.arange(y.size)).reshape(y.shape) + 1.5
    (want * torch.tensor(weights)).sum().backward()
    (x.sum() * 0 + (y * beside(y, weights)).sum()).backward()
    assert_close(backend.numpy(x.grad), t.grad.numpy(), 1e-12, 1e-13)


def test_max_and_min_along_a_dimension_give_the_values_as_in_numpy(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(M))
    for y, want in (
        (x.max(dim=1), M.max(axis=1)),
        (x.min(dim=0, keepdim=True), M.min(axis=0, keepdims=True)),
        (x.max(0, True), M.max(0)[None]),
    ):
        assert isinstance(y, ad.Variable)
        assert_close(host(y), want, 0, 0)
    assert_close(host(x.std()), M.std(), 1e-14)  # divided by n, where torch has n - 1


def test_parts_are_views(backend: support.Backend) -> None:
    y = ad.Variable(backend.asarray(M)) * 1
    first, second = y.chunk(2, dim=1)
    first += 1.0
    y.split([1, 2])[1][0, 3] = 9.0
    second.unsqueeze(0)[0, 0, 0] = 7.0
    want = M.copy()
    want[:, :2] += 1
    want[1, 3] = 9.0
    want[0, 2] = 7.0
    assert_close(host(y), want, 1e-15)
    assert_close(host(second), want[:, 2:], 1e-15)
    y.permute(1, 0).contiguous()[0, 0] = 100.0
    assert y.contiguous() is y and y[1:].contiguous().shape == (2, 4)
    assert_close(host(y), want, 1e-15)


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "diagonal", "masked_fill", "cumprod"])
def test_methods_inside_transformations(name: str) -> None:
    f = {**TORCH, **METHODS}[name][1]
    value = {**TORCH, **METHODS}[name][0]

    def loss(x: Any) -> Any:
        return (f(x) * f(x)).sum()

    want = jacobian(lambda m: host(loss(ad.Variable(m))), value)
    assert_close(ad.grad(loss)(value), want)
    assert_close(ad.jacfwd(loss)(value), want)
    assert_close(ad.vmap(ad.grad(loss))(value[None])[0], want)
    assert_close(ad.hessian(loss)(value), jacobian(ad.grad(loss), value), 1e-7, 1e-7)  # differences of gradients
