"""What NumPy's users and other people's code expect of an array: views by functions, ``flat``, truth values as indices, plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad

xp = ad.differentiable(np)
START = np.arange(24.0).reshape(2, 3, 4)

# --- functions whose results are views ----------------------------------------------------------------------------------------------------
VIEWS: dict[str, Callable[[Any, Any], Any]] = {
    "permute_dims": lambda xp, x: xp.permute_dims(x, (2, 0, 1)),
    "permute_dims, negative": lambda xp, x: xp.permute_dims(x, (-1, -3, -2)),
    "matrix_transpose": lambda xp, x: xp.matrix_transpose(x),
    "moveaxis": lambda xp, x: xp.moveaxis(x, 0, -1),
    "moveaxis, several": lambda xp, x: xp.moveaxis(x, (0, -1), (1, 0)),
    "reshape": lambda xp, x: xp.reshape(x, (6, 4)),
    "reshape, -1": lambda xp, x: xp.reshape(x, (-1,)),
    "expand_dims": lambda xp, x: xp.expand_dims(x, axis=1),
    "squeeze": lambda xp, x: xp.squeeze(x[:1], axis=0),
    "flip": lambda xp, x: xp.flip(x),
    "flip, one axis": lambda xp, x: xp.flip(x, axis=-2),
    "of a view": lambda xp, x: xp.reshape(xp.permute_dims(x[:, 1:], (0, 2, 1))[..., 0], (2, 4)),
}
COPIES: dict[str, Callable[[Any, Any], Any]] = {
    "reshape, copy": lambda xp, x: xp.reshape(x, (6, 4), copy=True),
    "reshape that NumPy copies": lambda xp, x: xp.reshape(xp.moveaxis(x, 0, 1), (6, 4)),
}


def changed(namespace: Any, x: Any, view: Callable[[Any, Any], Any]) -> Any:
    """Change an array and something made of it in turn."""
    y = view(namespace, x)
    y[0] = 7.0 * y[-1]
    x[1] += 1.0
    y *= 2.0
    x[0] = 3.0
    return y


@pytest.mark.parametrize("name", [*VIEWS, *COPIES])
def test_functions_give_views_where_numpys_do(name: str) -> None:
    view = (VIEWS | COPIES)[name]
    x, v = START.copy(), ad.Variable(START, requires_grad=False)
    y, w = changed(np, x, view), changed(xp, v, view)
    assert_exact(v.data, x)
    assert_exact(w.data, y)


@pytest.mark.parametrize("name", VIEWS)
def test_the_gradient_goes_through_what_is_written(name: str) -> None:
    def f(x: Any) -> Any:
        y = x + 0.0
        view = VIEWS[name](ad.namespace(x), y)
        view *= 3.0
        return y

    _, pullback = ad.vjp(f, START)
    ones = np.ones_like(START)
    base = ones.copy()
    part = VIEWS[name](np, base)
    part *= 3.0
    assert_exact(pullback(ones)[0], base)


def test_rules_take_the_operations_themselves() -> None:
    x = ad.Variable(START)
    rules = x.level.rules(x.backend)
    y = rules.permute_dims(x, (2, 0, 1))
    assert getattr(y, "_base", None) is None
    assert xp.permute_dims(x, (2, 0, 1))._base[0] is x


# --- flat ----------------------------------------------------------------------------------------------------------------------------------
def test_flat_is_written_through() -> None:
    x, v = START.copy()[0].T, ad.Variable(START)[0].T + 0.0
    for a in (x, v):
        a.flat[::5] += 10.0
        assert float(a.flat[5]) == float(a[1, 2])
    assert_exact(v.detach().data, x)
    v.flat = 2.0
    assert_exact(v.detach().data, np.full((4, 3), 2.0))


# --- truth values as indices -----------------------------------------------------------------------------------------------------------------
TRUTHS: list[Any] = [
    True,
    False,
    np.asarray(True),
    np.asarray(False),
    (np.asarray(True), 0),
    (slice(None), True),
    (..., np.asarray(False), 1),
]
TRUTHS += [(None, True), (np.asarray([0, 1]), np.asarray(True)), (True, np.asarray([[True, False, True], [False] * 3]))]


@pytest.mark.parametrize("key", TRUTHS, ids=str)
def test_truth_values_are_read_as_numpy_reads_them(key: Any, backend: support.Backend) -> None:
    if backend.name == "dask":
        pytest.skip("Dask does not know how many elements a mask leaves")
    x = backend.asarray(START[..., 0])
    raw = tuple(backend.asarray(k) if isinstance(k, np.ndarray) else k for k in (key if isinstance(key, tuple) else (key,)))
    y, pullback = ad.vjp(lambda x: x[raw], x)
    want = START[..., 0][key]
    assert_exact(backend.numpy(y), want)
    gradient = np.zeros((2, 3))
    np.add.at(gradient, key, np.ones_like(want))
    assert_exact(backend.numpy(pullback(backend.asarray(np.ones_like(want)))[0]), gradient)


@pytest.mark.parametrize("value", [7.0, [7.0], [1.0, 2.0, 3.0]], ids=str)
@pytest.mark.parametrize("key", TRUTHS[:4], ids=str)
def test_truth_values_are_assigned_as_numpy_assigns_them(key: Any, value: Any) -> None:
    x, v = START[..., 0].copy(), ad.Variable(START[..., 0]) + 0.0
    x[key] = value
    v[ad.Variable(key) if isinstance(key, np.ndarray) else key] = np.asarray(value)
    assert_exact(v.detach().data, x)


def test_a_truth_value_chooses_a_number_or_nothing() -> None:
    for truth in (True, False):
        v = ad.Variable(2.0) * 1.0
        v[ad.Variable(np.asarray(truth))] = 5.0
        assert v.item() == (5.0 if truth else 2.0)
        v[ad.Variable(np.asarray(truth))] *= 3.0
        assert v.item() == (15.0 if truth else 2.0)


def test_a_truth_value_beside_other_indices_is_not_assigned() -> None:
    v = ad.Variable(START) + 0.0
    with pytest.raises(IndexError, match="a truth value beside other indices is for reading; to assign, test it with `if`"):
        v[True, 0] = 1.0


def test_integers_are_no_mask() -> None:
    x, v = np.asarray([1.0, 2.0, 3.0]), ad.Variable([1.0, 2.0, 3.0]) + 0.0
    places = np.asarray([2, 0, 2])
    x[places] = v[places] = 5.0
    assert_exact(v.detach().data, x)


# --- the rest ------------------------------------------------------------------------------------------------------------------------------
def test_in() -> None:
    v = ad.Variable([0.5, 1.0])
    assert 0.5 in v and 0.7 not in v


def test_conjugate() -> None:
    z = np.asarray([1.0 + 2.0j])
    assert_exact(ad.Variable(z).conjugate().data, z.conjugate())


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side: str) -> None:
    x = np.asarray([0.0, 1.0, 1.0, 2.0])
    assert_exact(ad.Variable(x).searchsorted([1.0, 0.5], side=side).data, x.searchsorted([1.0, 0.5], side=side))


def test_limits_are_python_numbers(backend: support.Backend) -> None:
    limits = ad.differentiable(backend.xp).finfo(backend.asarray(0.0, dtype="float32").dtype)
    assert [type(n) for n in (limits.eps, limits.max, limits.min, limits.smallest_normal)] == [float] * 4
    assert (limits.bits, limits.eps) == (32, 2.0**-23)
    assert "float32" in repr(limits)
    v = ad.Variable(backend.asarray([1.0]))
    assert_close(backend.numpy((v * limits.eps).detach().data), [2.0**-23])
    assert type(ad.differentiable(backend.xp).iinfo(backend.asarray(0, dtype="int8").dtype).max) is int
