"""The methods that PyTorch code calls on tensors, beside PyTorch: values and gradients."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad
from agnostic_ad.levels import Array

torch = pytest.importorskip("torch")

X = np.asarray([0.3, -1.2, 0.7, 1.9])
M = np.arange(12.0).reshape(3, 4) / 7 - 0.6
P = np.abs(M) + 0.2
U = M / 2  # between -1 and 1
S = np.asarray([[1.0, 0.5, -0.3], [0.2, 2.0, 0.7], [-0.1, 0.4, 1.5]])
B = np.stack([S, S.T + 1])
I = np.asarray([[0, 2, 1, 0], [2, 2, 0, 1]])  # noqa: E741
J = np.asarray([[3, 0], [1, 1], [2, 3]])
ROWS = np.asarray([2, 0, 2])


def beside(x: Any, value: Any) -> Any:
    """An array of the library of ``x``: of PyTorch, or of the Variable's."""
    return torch.tensor(value) if isinstance(x, torch.Tensor) else ad.Variable(x.backend.from_numpy(np.asarray(value), x.device), False)


def fresh(x: Any) -> Any:
    """A result, which may be changed in place."""
    return x * 1.0


# name, or name and what is special: an argument, and a function that runs on it as a tensor and as a Variable
CASES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    # facts, dtypes, places
    "to dtype": (M, lambda x: x.to(x.dtype)),
    "to like": (M, lambda x: x.to(beside(x, np.float32(M)))),
    "to device": (M, lambda x: x.to("cpu", non_blocking=True)),
    "cpu": (M, lambda x: x.cpu()),
    "type": (M, lambda x: x.type(beside(x, np.float32(1)).dtype)),
    "type_as": (M, lambda x: x.type_as(beside(x, np.float32(M)))),
    "float": (M, lambda x: x.float()),
    "double": (np.float32(M), lambda x: x.double()),
    "half": (M, lambda x: x.half().double()),
    "long": (M * 9, lambda x: x.long()),
    "int": (M * 9, lambda x: x.int()),
    "short": (M * 9, lambda x: x.short()),
    "char": (M * 9, lambda x: x.char()),
    "byte": (P * 9, lambda x: x.byte()),
    "bool": (M.round(), lambda x: x.bool()),
    # copies, new arrays
    "clone": (M, lambda x: x.clone()),
    "detach": (M, lambda x: x.detach()),
    "new_zeros": (M, lambda x: x.new_zeros(2, 3)),
    "new_zeros tuple": (np.float32(M), lambda x: x.new_zeros((2, 3))),
    "new_ones": (M, lambda x: x.new_ones(x.shape)),
    "new_empty": (M, lambda x: x.new_empty(4).fill_(2.0)),
    "new_full": (M, lambda x: x.new_full((2,), 3.5)),
    "new_full truths": (M > 0, lambda x: x.new_full((2,), 1)),
    "new_tensor": (np.float32(M), lambda x: x.new_tensor([1.0, 2.0])),
    # shapes
    "t": (M, lambda x: x.t()),
    "t of 1": (X, lambda x: x.t()),
    "view_as": (M, lambda x: x.view_as(beside(x, M.reshape(2, 6)))),
    "reshape_as": (M, lambda x: x.t().reshape_as(x)),
    "expand_as": (M[:1], lambda x: x.expand_as(beside(x, M))),
    "unflatten": (M, lambda x: x.unflatten(-1, (2, -1))),
    "unflatten 0": (M, lambda x: x.unflatten(0, (3, 1))),
    "unbind": (M, lambda x: x.unbind(1)[2]),
    "unbind 0": (M, lambda x: x.unbind()[-1]),
    "select": (M, lambda x: x.select(-1, 1)),
    "narrow": (M, lambda x: x.narrow(1, 1, 2)),
    "narrow end": (M, lambda x: x.narrow(0, -2, 2)),
    "tile": (M, lambda x: x.tile(2, 1, 3)),
    "tile tuple": (M, lambda x: x.tile((2,))),
    "repeat of 3": (M, lambda x: x.repeat(2, 1, 3)),
    "repeat_interleave": (M, lambda x: x.repeat_interleave(2, dim=1)),
    "repeat_interleave flat": (M, lambda x: x.repeat_interleave(3)),
    "flip": (M, lambda x: x.flip(0, 1)),
    "flip list": (M, lambda x: x.flip([-1])),
    "roll": (M, lambda x: x.roll(1, 0)),
    "roll tuples": (M, lambda x: x.roll(shifts=(1, -2), dims=(0, 1))),
    "roll flat": (M, lambda x: x.roll(5)),
    "tril": (B, lambda x: x.tril()),
    "tril diagonal": (M, lambda x: x.tril(diagonal=1)),
    "triu": (M, lambda x: x.triu(-1)),
    # arithmetic
    "add": (M, lambda x: x.add(beside(x, M[0]), alpha=2)),
    "add number": (M, lambda x: x.add(2.0)),
    "sub": (M, lambda x: x.sub(x * x, alpha=0.5)),
    "mul": (M, lambda x: x.mul(x)),
    "mul number": (M, lambda x: x.mul(3)),
    "div": (M, lambda x: x.div(beside(x, P))),
    "div floor": (M, lambda x: x.div(0.3, rounding_mode="floor")),
    "div trunc": (M, lambda x: x.div(0.3, rounding_mode="trunc")),
    "pow": (P, lambda x: x.pow(2.5)),
    "pow of arrays": (P, lambda x: x.pow(x)),
    "floor_divide": (M, lambda x: x.detach().floor_divide(0.3)),
    "mm": (S, lambda x: x.mm(x)),
    "bmm": (B, lambda x: x.bmm(x)),
    "mv": (S, lambda x: x.mv(x[0])),
    "neg": (M, lambda x: x.neg()),
    "rsqrt": (P, lambda x: x.rsqrt()),
    "clamp": (M, lambda x: x.clamp(-0.3, 0.5)),
    "clamp min": (M, lambda x: x.clamp(min=0.1)),
    "clamp_min": (M, lambda x: x.clamp_min(0.1)),
    "clamp_max": (M, lambda x: x.clamp_max(0.1)),
    "where": (M, lambda x: x.where(x > 0, x * 3)),
    "where number": (M, lambda x: x.where(x > 0, -1.0)),
    "logsumexp": (M * 500, lambda x: x.logsumexp(-1)),
    "logsumexp dims": (M, lambda x: x.logsumexp((0, 1), keepdim=True)),
    "log_softmax": (M * 500, lambda x: x.log_softmax(dim=0)),
    "log_softmax dtype": (np.float32(M), lambda x: x.log_softmax(-1, dtype=beside(x, M).dtype)),
    "norm": (M, lambda x: x.norm()),
    "norm p": (M, lambda x: x.norm(1, dim=1)),
    "norm dims": (M, lambda x: x.norm(p="fro", dim=(0, 1), keepdim=True)),
    "norm inf": (M, lambda x: x.norm(float("inf"), -1)),
    "std of torch": (M, lambda x: x.std(-1, keepdim=True)),
    "var of torch": (M, lambda x: x.var(dim=0)),
    # picking and placing
    "index_select": (M, lambda x: x.index_select(0, beside(x, ROWS))),
    "index_select last": (M, lambda x: x.index_select(-1, beside(x, [3, 3]))),
    "masked_select": (M, lambda x: x.masked_select(x > 0)),
    "masked_select broadcast": (M, lambda x: x.masked_select(beside(x, [True, False, True, True]))),
    "gather": (M, lambda x: x.gather(1, beside(x, J))),
    "gather 0": (M, lambda x: x.gather(0, beside(x, I[:, :3]))),
    "gather line": (X, lambda x: x.gather(-1, beside(x, ROWS))),
    "scatter": (M, lambda x: x.scatter(1, beside(x, J[:, :1]), x[:, :1] * 2)),
    "scatter part of a source": (M, lambda x: x.scatter(1, beside(x, J[:, :1]), beside(x, P))),
    "scatter number": (M, lambda x: x.scatter(1, beside(x, J), 9.0)),
    "scatter_add": (M, lambda x: x.scatter_add(0, beside(x, I), x[:2] * x[:2])),
    "scatter_add constant": (M, lambda x: x.scatter_add(1, beside(x, J), beside(x, np.ones((3, 2))))),
    "index_add": (M, lambda x: x.index_add(0, beside(x, ROWS), x * x, alpha=2)),
    "index_fill": (M, lambda x: x.index_fill(1, beside(x, [0, 2]), -1.0)),
    "topk": (M, lambda x: (x * x).topk(2)[0]),
    "topk smallest": (M, lambda x: (x * x).topk(2, dim=0, largest=False).values),
    "topk places": (M, lambda x: (x * x).topk(3, 1).indices),
    # in place
    "fill_": (M, lambda x: fresh(x).fill_(2.0)),
    "zero_": (M, lambda x: fresh(x).zero_()),
    "copy_": (M, lambda x: fresh(x).copy_(x[0] * 2)),
    "add_": (M, lambda x: fresh(x).add_(x * x, alpha=2)),
    "sub_": (M, lambda x: fresh(x).sub_(1)),
    "mul_": (M, lambda x: fresh(x).mul_(x).mul_(2.0)),
    "div_": (M, lambda x: fresh(x).div_(beside(x, P))),
    "pow_": (P, lambda x: fresh(x).pow_(2)),
    "remainder_": (M, lambda x: fresh(x).remainder_(0.25)),
    "clamp_": (M, lambda x: fresh(x).clamp_(-0.3, 0.5)),
    "clamp_min_": (M, lambda x: fresh(x).clamp_min_(0.1)),
    "clamp_max_": (M, lambda x: fresh(x).clamp_max_(0.1)),
    "masked_fill_": (M, lambda x: fresh(x).masked_fill_(x > 0, -5.0)),
    "scatter_": (M, lambda x: fresh(x).scatter_(1, beside(x, J), 1.0)),
    "scatter_add_": (M, lambda x: fresh(x).scatter_add_(0, beside(x, I), x[1:])),
    "index_add_": (M, lambda x: fresh(x).index_add_(0, beside(x, ROWS), x)),
    "index_fill_": (M, lambda x: fresh(x).index_fill_(0, beside(x, [1]), 0.0)),
    "tril_": (M, lambda x: fresh(x).tril_()),
    "triu_": (M, lambda x: fresh(x).triu_(1)),
    "part in place": (M, lambda x: whole(fresh(x), lambda y: y[1:].mul_(3.0))),
}
for _values, _names in (
    (M, ["abs", "exp", "sigmoid", "tanh", "square", "relu", "ceil", "floor", "round", "neg"]),
    (P, ["log", "sqrt", "reciprocal"]),
    (U, ["acos", "asin", "atan", "atanh", "asinh", "cosh", "sinh", "tan", "erf", "expm1", "trunc", "signbit"]),
    (P + 1, ["acosh", "log10", "log1p", "log2"]),
    (np.asarray([1.0, np.nan, np.inf, -np.inf]), ["isfinite", "isinf", "isnan"]),
    (M > 0, ["logical_not"]),
):
    for _name in _names:
        CASES[_name] = (_values, methodcaller(_name))
        if hasattr(Array, f"{_name}_"):
            CASES[f"{_name}_"] = (_values, lambda x, _name=_name: getattr(fresh(x), f"{_name}_")())
for _name in (
    *("eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum", "remainder", "hypot", "atan2", "arctan2", "copysign", "logaddexp"),
    *("logical_and", "logical_or", "logical_xor"),
):
    _value = M > 0 if _name.startswith("logical") else M
    CASES[_name] = (_value, lambda x, _name=_name, _value=_value: getattr(x, _name)(beside(x, _value.T.reshape(3, 4))))

REPRESENTATIVES = [
    "to like", "float", "clone", "new_full", "new_tensor", "t", "unflatten", "unbind", "narrow", "repeat of 3", "flip", "roll", "tril",
    "add", "div", "pow", "bmm", "clamp", "where", "logsumexp", "norm", "std of torch", "index_select", "masked_select", "gather", "scatter",
    "scatter_add", "index_add", "index_fill", "topk", "fill_", "copy_", "add_", "masked_fill_", "scatter_", "part in place", "eq", "isnan",
]  # fmt: skip
LAZY = {"masked_select"}  # a size that depends on values


def whole(x: Any, change: Callable[[Any], Any]) -> Any:
    """The array after a change of a part."""
    change(x)
    return x


def assert_same(name: str, backend: support.Backend) -> None:
    value, f = CASES[name]
    t = torch.tensor(value)
    t.requires_grad_(t.is_floating_point())
    want = f(t)
    x = ad.Variable(backend.asarray(value))
    y = f(x)
    assert isinstance(y, ad.Variable) and y.shape == tuple(want.shape)
    assert str(y.dtype).rpartition(".")[2] == str(want.dtype).rpartition(".")[2]
    tolerance = 1e-6 if "float32" in str(want.dtype) else 1e-13  # the precision of the dtype
    assert_close(backend.numpy(y.detach().data), want.detach().numpy(), tolerance, tolerance)
    if not want.requires_grad:
        assert not y.requires_grad
        return
    weights = np.cos(np.arange(y.numel())).reshape(y.shape) + 1.5
    (want.double() * torch.tensor(weights)).sum().backward()
    (x.sum() * 0 + (y.double() * beside(y, weights)).sum()).backward()
    assert_close(backend.numpy(x.grad), t.grad.numpy(), max(tolerance, 1e-12), max(tolerance, 1e-13))


@pytest.mark.parametrize("name", CASES)
def test_methods(name: str) -> None:
    assert_same(name, support.Backend("numpy"))


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_methods_on_every_library(name: str, backend: support.Backend) -> None:
    if backend.name == "dask" and name.partition(" ")[0] in LAZY:
        pytest.skip("dask knows no shape that depends on values")
    assert_same(name, backend)


HOMES = {"agnostic_ad.ops.tensor_methods", "agnostic_ad.ops.picking_methods"}


def test_every_method_is_compared() -> None:
    ours = {name for name, value in vars(Array).items() if getattr(value, "__module__", "") in HOMES}
    elsewhere = {"dim", "is_complex", "is_floating_point", "normal_", "uniform_", "bernoulli_", "bfloat16"}
    assert ours - {name.partition(" ")[0] for name in CASES} == elsewhere


# --- size --------------------------------------------------------------------------------------------------------------------------------
def test_size_is_a_number_that_can_be_called(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(M))
    assert x.size == 12 and isinstance(x.size, int) and x.size // 5 == 2 and f"{x.size}" == "12" and x.numel() == 12
    assert x.size() == (3, 4) and x.size(0) == 3 and x.size(-1) == 4 and x.size(dim=1) == 4 and x.dim() == 2
    assert ad.Variable(backend.asarray(1.5)).size() == ()
    narrow = ad.Variable(backend.asarray(np.float32(M)))
    for y in (narrow * narrow.size, narrow.size + narrow, narrow.sum() / narrow.size, narrow.detach().data / narrow.numel()):
        assert y.dtype == narrow.dtype
    assert type(pickle.loads(pickle.dumps(x.size))) is int
    with pytest.raises(IndexError, match=r"size\(2\) of an array of 2 dimensions"):
        x.size(2)
    batch = x.unsqueeze(0) if backend.name == "dask" else ad.vmap(lambda row: row * row.size(0) * row.size)(x)  # dask: nothing to map over
    assert batch.shape[-1] == 4


def test_size_is_a_python_number_beside_arrays_of_numpy() -> None:
    n = ad.Variable(X).size
    for y in (np.float32(M) / n, n * np.float32(M), np.multiply(np.float32(M), n), np.float32(2.0) * n):
        assert y.dtype == np.float32
    assert_exact(np.add.outer(np.arange(2), n), np.asarray([4, 5]))


def test_facts(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(M))
    assert x.is_floating_point() and not x.is_complex() and not x.is_cuda
    assert not x.long().is_floating_point()
    assert ad.Variable(backend.asarray(M + 0j)).is_complex()


# --- in place ----------------------------------------------------------------------------------------------------------------------------
def test_leaves_are_changed_under_no_grad_alone(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(M))
    for change in (lambda: x.add_(1.0), lambda: x.zero_(), lambda: x.normal_()):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is changed in place"):
            change()
    assert_exact(backend.numpy(x.data), M)
    with ad.no_grad():
        assert x.mul_(2.0).add_(1.0) is x
    assert_close(backend.numpy(x.data), 2 * M + 1, 1e-15)
    assert x.is_leaf and x.requires_grad


@pytest.mark.parametrize("name", ["normal_", "uniform_", "bernoulli_"])
def test_draws_are_those_of_the_hosts_generator(name: str, backend: support.Backend) -> None:
    options = {"normal_": (2.0, 0.5), "uniform_": (-1.0, 3.0), "bernoulli_": (0.3,)}[name]
    x = ad.Variable(backend.asarray(np.zeros((50, 40), "float32")))
    with ad.no_grad():
        assert getattr(x, name)(*options, generator=ad.Generator(3)) is x
    plain = {"normal_": ad.Generator(3).normal, "uniform_": ad.Generator(3).uniform, "bernoulli_": ad.Generator(3).bernoulli}[name]
    assert_close(backend.numpy(x.data), np.float32(plain((50, 40), *options)), 0, 0)
    y = x * 1.0
    ad.manual_seed(3)
    getattr(y, name)(*options)  # of a result, and by the default generator
    assert_close(backend.numpy(y.detach().data), backend.numpy(x.data), 0, 0)


def test_parts_stay_views() -> None:
    y = ad.Variable(M) * 1
    y.unbind()[1].zero_()
    y.narrow(1, 0, 1).fill_(7.0)
    y.select(0, 2).add_(1.0)
    y.t()[3, 0] = -1.0
    want = torch.tensor(M)
    want[1] = 0
    want[:, 0] = 7
    want[2] += 1
    want[0, 3] = -1
    assert_close(y.detach().numpy(), want.numpy(), 1e-15)
    clone = y.clone()
    clone.zero_()
    assert_close(y.detach().numpy(), want.numpy(), 1e-15)


# --- inside transformations ----------------------------------------------------------------------------------------------------------------
SMOOTH = [
    "gather",
    "scatter",
    "scatter_add",
    "index_add",
    "index_fill",
    "topk",
    "masked_fill_",
    "add_",
    "norm dims",
    "logsumexp",
    "tril",
    "unflatten",
]


@pytest.mark.parametrize("name", [*SMOOTH, "to like", "clone", "std of torch", "clamp", "repeat of 3", "narrow"])
def test_methods_inside_transformations(name: str) -> None:
    value, f = CASES[name]

    def loss(x: Any) -> Any:
        return (f(x).double() ** 2).sum()

    want = ad.grad(loss)(value)
    if "float32" not in str(f(ad.Variable(value)).dtype):
        assert_close(want, jacobian(lambda m: loss(ad.Variable(m)).item(), value))
    assert_close(ad.jacfwd(loss)(value), want, 1e-12, 1e-12)
    assert_close(ad.vmap(ad.grad(loss))(np.stack([value, value]))[1], want, 1e-12, 1e-12)
    assert_close(ad.jacobian(ad.grad(loss))(value), ad.jacfwd(ad.jacfwd(loss))(value), 1e-10, 1e-10)


@pytest.mark.parametrize("name", ["gather", "scatter", "scatter_add", "index_fill"])
def test_places_alone_may_be_of_a_batch(name: str) -> None:
    x = ad.Variable(M)
    places = np.stack([J, J[::-1], (J + 1) % 4])
    source = (P[:, :2],) if name.startswith("scatter") else (7.0,) if name == "index_fill" else ()

    def f(index: Any) -> Any:
        return getattr(x, name)(1, index[0] if name == "index_fill" else index, *source)

    together = ad.vmap(f)(places)
    for i in range(3):
        assert_close(together.detach().numpy()[i], f(places[i]).detach().numpy(), 0, 0)


# --- what is refused -----------------------------------------------------------------------------------------------------------------------
ERRORS: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "t": (lambda x: x[None].t(), ValueError, r"t\(\) is for arrays of at most 2 dimensions, not 3"),
    "unflatten": (lambda x: x.unflatten(1, (3, -1)), ValueError, r"unflatten: axis 1 of size 4 does not divide into \(3, 1\)"),
    "narrow": (lambda x: x.narrow(0, 2, 2), IndexError, "narrow: 2 from 2 on go beyond axis 0 of size 3"),
    "div": (lambda x: x.div(2, rounding_mode="up"), ValueError, "rounding_mode is None, 'trunc' or 'floor', not 'up'"),
    "norm": (lambda x: x.norm("nuc"), ValueError, "norm: p is a number or 'fro', not 'nuc'"),
    "gather": (lambda x: x.gather(1, ROWS), ValueError, "gather: the array has 2 dimensions, the index 1"),
    "gather too much": (
        lambda x: x.gather(0, np.zeros((1, 5), int)),
        ValueError,
        r"gather: an index of shape \(1, 5\) is larger than the array",
    ),
    "gather beyond": (lambda x: x.gather(1, np.asarray([[4]])), IndexError, "out of bounds for axis 1 of size 4"),
    "scatter": (lambda x: x.scatter(1, J, x[:2]), ValueError, r"scatter: an index of shape \(3, 2\) needs a source at least as large"),
    "scatter_add beyond": (lambda x: x.scatter_add(1, J + 2, x), IndexError, "out of bounds for axis 1 of size 4"),
    "topk": (lambda x: x.topk(5), ValueError, "topk: k is between 0 and 4, the size of axis -1; not 5"),
    "shape": (lambda x: (x[0] * 1).add_(x), ValueError, r"add_ cannot change shape \(4,\) to \(3, 4\)"),
    "dtype": (lambda x: x.long().mul_(0.5), TypeError, "mul_ cannot put dtype float64 into an array of dtype int64"),
    "dim": (lambda x: x.unbind(2), IndexError, "unbind: axis 2 is out of bounds"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_refused(name: str) -> None:
    f, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        f(ad.Variable(M))


def test_to_moves_to_the_library_of_another_array() -> None:
    x = ad.Variable(M)
    y = x.to(torch.zeros(1, dtype=torch.float32))
    assert isinstance(y.data, torch.Tensor) and y.dtype == torch.float32
    (y * y).sum().backward()
    assert_close(x.grad, 2 * M, 1e-6)
    with pytest.raises(TypeError, match=r"to: an array of vmap\(.*\) cannot change its library"):
        ad.vmap(lambda v: v.to(torch))(M)
