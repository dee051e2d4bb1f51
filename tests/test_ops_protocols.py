"""Raw arrays on the left of an operator, and NumPy's universal functions, record too."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad.errors import MixedArraysError
from agnostic_ad.op import TABLE
from agnostic_ad.protocols import UFUNCS

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.mod, operator.matmul]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("backend", support.params(without=("array_api_strict",)))
def test_a_raw_array_on_the_left_is_a_constant(op: Callable[..., Any], backend: support.Backend) -> None:
    raw, v = backend.asarray([2.0, 3.0]), ad.Variable(backend.asarray([1.5, 0.5]))
    y = op(raw, v)
    assert isinstance(y, ad.Variable) and y.requires_grad
    assert np.allclose(backend.numpy(y.data), op(np.asarray([2.0, 3.0]), np.asarray([1.5, 0.5])))


@pytest.mark.parametrize("op", [operator.lt, operator.ge, operator.eq, operator.ne])
@pytest.mark.parametrize("backend", support.params(without=("array_api_strict",)))
def test_a_raw_array_on_the_left_compares(op: Callable[..., Any], backend: support.Backend) -> None:
    y = op(backend.asarray([2.0, 3.0]), ad.Variable(backend.asarray([2.0, 5.0])))
    assert isinstance(y, ad.Variable) and not y.requires_grad
    assert np.array_equal(backend.numpy(y.data), op(np.asarray([2.0, 3.0]), np.asarray([2.0, 5.0])))


@pytest.mark.parametrize("backend", support.params("array_api_strict"))
def test_array_api_strict_refuses_what_it_does_not_know(backend: support.Backend) -> None:
    raw, v = backend.asarray([2.0, 3.0]), ad.Variable(backend.asarray([1.0, 1.0]))
    with pytest.raises(TypeError, match="Expected Array or Python scalar"):
        raw * v  # it raises before Python asks the right operand
    assert isinstance(v * raw, ad.Variable)


@pytest.mark.parametrize("left", [np.float64(2.0), np.asarray(2.0), np.ones(2)], ids=["scalar", "0-d", "1-d"])
@pytest.mark.parametrize("op", [operator.mul, operator.add, operator.lt, np.multiply])
@pytest.mark.parametrize("backend", support.params(without=("numpy",)))
def test_numpy_over_another_library_is_refused(op: Callable[..., Any], left: Any, backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray([1.0, 1.0]))
    with pytest.raises(MixedArraysError, match="two array libraries, numpy and"):
        op(left, v)


@pytest.mark.parametrize("left", [np.float64(2.0), np.float32(2.0), np.asarray(2.0), np.asarray([2.0, 2.0])])
def test_numpy_scalars_and_arrays_on_the_left(left: Any) -> None:
    v = ad.Variable([1.0, 3.0])
    (left * v).sum().backward()
    assert np.array_equal(v.grad, [2.0, 2.0])


def test_float32_stays() -> None:
    v = ad.Variable(np.ones(2, np.float32))
    assert (np.float32(2.0) * v).dtype == np.float32
    assert (2.0 * v).dtype == np.float32
    assert (np.ones(2, np.float32) * v).dtype == np.float32


@pytest.mark.parametrize("name", UFUNCS)
def test_universal_functions_are_operations(name: str) -> None:
    ufunc, op = getattr(np, name), TABLE[UFUNCS[name]]
    kind = next(k for k in "fibc" if any(k in c.kinds for c in op.cases))
    x: Any = {"f": np.asarray([0.25, 0.75]), "i": np.asarray([1, 3]), "b": np.asarray([True, False]), "c": np.asarray([1j, 2.0])}[kind]
    x = np.asarray([1.5, 2.5]) if name in ("arccosh", "acosh") else np.ones((2, 2)) if name == "matmul" else x
    v = ad.Variable(x)
    y = ufunc(*(v for _ in range(ufunc.nin)))
    assert isinstance(y, ad.Variable)
    records = (op.differentiable or op.composite is not None) and kind in "fc" and y.dtype != bool and name not in DECLARED_ZERO
    assert y.requires_grad == records
    assert np.allclose(y.data, ufunc(*(x for _ in range(ufunc.nin))))


DECLARED_ZERO = {"ceil", "floor", "trunc", "rint", "floor_divide"}


def test_a_universal_function_of_a_raw_array_and_ours() -> None:
    v = ad.Variable([1.0, 2.0])
    np.power(np.asarray([2.0, 3.0]), v).sum().backward()
    assert np.allclose(v.grad, [2 * np.log(2), 9 * np.log(3)])


def test_universal_functions_inside_transformations() -> None:
    assert np.allclose(ad.grad(lambda x: np.sin(x) * np.exp(x))(1.0), np.exp(1) * (np.sin(1) + np.cos(1)))
    assert np.allclose(ad.jvp(np.arctan, (2.0,), (1.0,))[1], 0.2)
    assert np.allclose(ad.vmap(np.square)(np.asarray([1.0, 2.0])), [1.0, 4.0])
