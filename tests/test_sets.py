"""Set functions: the same elements in the same order on every library; derivatives go to the first of equals; shapes stay out of batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_exact, kind

import agnostic_ad as ad
from agnostic_ad import graph
from agnostic_ad.backends import Backend
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.namespaces import backend_of_namespace

NAMES = ("unique_all", "unique_counts", "unique_inverse", "unique_values")
FIELDS = {
    "unique_all": ("values", "indices", "inverse_indices", "counts"),
    "unique_counts": ("values", "counts"),
    "unique_inverse": ("values", "inverse_indices"),
}
ARRAYS: dict[str, Any] = {
    "floats": np.asarray([[3.0, 1.0, 2.0], [1.0, 3.0, 3.0]]),
    "float32": np.asarray([0.5, 0.25, 0.5], dtype="float32"),
    "zeros and nans": np.asarray([np.nan, 0.0, -0.0, np.nan, 1.0]),
    "infinities": np.asarray([np.inf, -np.inf, 0.0, np.inf]),
    "complex": np.asarray([1 + 1j, 1 - 1j, 1 + 1j, 0.5 + 2j, complex(0.0, -0.0), 0j]),
    "complex64": np.asarray([[1j, 1.0], [1j, -1j]], dtype="complex64"),
    "integers": np.asarray([[4, -1], [4, 7]]),
    "booleans": np.asarray([True, False, True]),
    "many": (np.arange(60.0) * 7 % 13).reshape(5, 12),
    "one": np.asarray(5.0),
    "equal": np.asarray([2.0, 2.0]),
    "none": np.asarray([], dtype="float64"),
    "no rows": np.zeros((0, 3)),
}


def found(xp: Any, name: str, x: Any) -> tuple[Any, ...]:
    y = getattr(xp, name)(x)
    return y if isinstance(y, tuple) else (y,)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("array", ARRAYS)
def test_elements_in_order(array: str, name: str, backend: support.Backend) -> None:
    x = ARRAYS[array]
    xp = ad.differentiable(backend.xp)
    expected = np.unique_all(x)
    wanted = FIELDS.get(name, ("values",))
    for given in (backend.asarray(x), ad.Variable(backend.asarray(x))):
        parts = found(xp, name, given)
        assert len(parts) == len(wanted)
        for field, part in zip(wanted, parts, strict=True):
            assert isinstance(part, ad.Variable)
            host = backend.numpy(part.data)
            assert np.array_equal(host, getattr(expected, field), equal_nan=x.dtype.kind in "fc"), field
            assert host.dtype == (x.dtype if field == "values" else np.dtype("int64"))


@pytest.mark.parametrize("name", FIELDS)
def test_results_have_names(name: str, backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    y = getattr(xp, name)(backend.asarray([2.0, 1.0]))
    assert y._fields == FIELDS[name]
    assert y.values is y[0] and isinstance(y.values, ad.Variable)


@pytest.mark.parametrize("backend", support.params(without=("dask",)))  # which does not know the sizes
@pytest.mark.parametrize("name", NAMES)
def test_the_first_of_equals_has_the_gradient(name: str, backend: support.Backend) -> None:
    x = backend.asarray([[3.0, 1.0, 3.0], [2.0, 1.0, 1.0]])
    weights = backend.asarray([1.0, 10.0, 100.0])

    def loss(v: Any) -> Any:
        xp = ad.namespace(v)
        (values, *_) = found(xp, name, v)
        return xp.sum(values * values * weights) / 2

    assert_exact(backend.numpy(ad.grad(loss)(x)), [[300.0, 1.0, 0.0], [20.0, 0.0, 0.0]])
    tangent = backend.asarray([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert_exact(backend.numpy(ad.jvp(loss, (x,), (tangent,))[1]), 301.0)
    assert_exact(backend.numpy(ad.hvp(loss, (x,), (tangent,))[0]), [[100.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_integers_carry_nothing(backend: support.Backend) -> None:
    y = ad.differentiable(backend.xp).unique_all(ad.Variable(backend.asarray([2.0, 1.0, 2.0])))
    assert [part.requires_grad for part in y] == [True, False, False, False]


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_complex_values_have_complex_gradients(backend: support.Backend) -> None:
    x = backend.asarray([1 + 1j, -2j, 1 + 1j])
    y, pullback = ad.vjp(lambda v: ad.namespace(v).unique_values(v), x)
    assert_exact(backend.numpy(y), [-2j, 1 + 1j])
    assert_exact(backend.numpy(pullback(backend.asarray([3j, 4 + 5j]))[0]), [4 + 5j, 3j, 0j])


@pytest.mark.parametrize("name", NAMES)
def test_batches_and_captures_are_refused(name: str, backend: support.Backend) -> None:
    x = backend.asarray([[2.0, 1.0], [1.0, 1.0]])

    def f(v: Any) -> Any:
        return found(ad.namespace(v), name, v)[0]

    refusal = rf"{name} gives an array whose shape depends on the data; inside vmap and graph capture shapes are fixed\. Use xp\.sort\(x\)"
    with pytest.raises(UnsupportedError, match=refusal):
        ad.vmap(f)(x)
    with pytest.raises(UnsupportedError, match=refusal):
        graph.capture(f, x)


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_what_is_the_same_for_a_batch_has_its_elements(backend: support.Backend) -> None:
    labels = backend.asarray([2.0, 1.0, 2.0])
    y = ad.vmap(lambda v: v * ad.namespace(v).unique_values(ad.namespace(v).asarray(labels)).sum())(backend.asarray([1.0, 2.0]))
    assert_exact(backend.numpy(y), [3.0, 6.0])


def test_they_stay_on_the_device() -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    x = ad.Variable(strict.asarray([2.0, 1.0], device=device))
    assert {part.device for part in ad.namespace(x).unique_all(x)} == {device}
    assert ad.namespace(x).isin(ad.namespace(x).asarray([1, 2], device=device), 2).device == device


# --- isin -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    ("x1", "x2"),
    [
        ([[1, 2], [3, 1]], [1, 5]),
        ([1, 2, 3], [[3, 9], [1, 1]]),
        (3, [1, 3]),
        ([3, 1], 3),
        ([1, 2], []),
        ([], [1]),
    ],
)
def test_isin(x1: Any, x2: Any, invert: bool, backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    a, b = np.asarray(x1, dtype="int64"), np.asarray(x2, dtype="int64")
    expected = np.isin(a, b, invert=invert)
    pairs = [(backend.asarray(a), backend.asarray(b))]
    pairs += [(x1, backend.asarray(b))] if isinstance(x1, int) else []
    pairs += [(backend.asarray(a), x2)] if isinstance(x2, int) else []
    for first, second in pairs:
        y = xp.isin(first, second, invert=invert)
        assert isinstance(y, ad.Variable) and kind(y.data).endswith("bool")
        assert np.array_equal(backend.numpy(y.data), expected) and y.shape == expected.shape
    general = Backend.fallbacks["isin"](backend_of_namespace(backend.xp), *(backend.asarray(x) for x in (a, b)), invert=invert)
    assert np.array_equal(backend.numpy(general), expected)  # what serves a library without one


@pytest.mark.parametrize("count", [2, 0])
@pytest.mark.parametrize("in_axes", [(0, None), (None, 0), (0, 0)])
def test_isin_in_batches(in_axes: Any, count: int, backend: support.Backend) -> None:
    a, b = np.asarray([[[1, 2], [3, 4]], [[5, 1], [4, 3]]])[:count], np.asarray([[1, 4, 9], [1, 3, 8]])[:count]
    members = [
        x if axis == 0 else np.asarray([[[2, 1], [4, 6]], [1, 2, 6]][i]) for i, (x, axis) in enumerate(zip((a, b), in_axes, strict=True))
    ]
    for invert in (False, True):
        y = ad.vmap(lambda u, v, invert=invert: ad.namespace(u, v).isin(u, v, invert=invert), in_axes=in_axes)(
            *map(backend.asarray, members)
        )
        rows = [[x[i] if axis == 0 else x for x, axis in zip(members, in_axes, strict=True)] for i in range(count)]
        expected = np.asarray([np.isin(*row, invert=invert) for row in rows], dtype=bool).reshape((count, 2, 2))
        assert np.array_equal(backend.numpy(y), expected)


def test_isin_is_captured_and_carries_nothing() -> None:
    x = np.asarray([1, 2, 3])
    g = graph.capture(lambda v: ad.namespace(v).isin(v, np.asarray([2]), invert=True), x)
    assert g(x).tolist() == [True, False, True]
    y = ad.differentiable(np).isin(ad.Variable(np.asarray([1.0, 2.0])), np.asarray([2.0]))
    assert not y.requires_grad and y.tolist() == [False, True]
