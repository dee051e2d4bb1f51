"""``agnostic_ad.numpy``: NumPy's values, and derivatives to second order, of every function of the map."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from derivatives import assert_close, jacobian
from numpy_calls import CALLS, DISCRETE, Call, words

import agnostic_ad as ad
import agnostic_ad.numpy as np
from agnostic_ad.errors import EscapedArrayError, MissingRuleError
from agnostic_ad.levels import Array
from agnostic_ad.numpy_names import NAMES

ALL = [(name, c) for name, calls in CALLS.items() for c in calls]
IDS = [f"{name}({c!r})" for name, c in ALL]


def found(name: str, module: Any = None) -> Any:
    module = np if module is None else module
    for part in name.split("."):
        module = getattr(module, part)
    return module


def leaves(tree: Any) -> list[Any]:
    """The floating arrays of a call."""
    if isinstance(tree, list | tuple):
        return [x for part in tree for x in leaves(part)]
    if isinstance(tree, dict):
        return leaves(list(tree.values()))
    return [tree] if isinstance(tree, numpy.ndarray) and tree.dtype.kind in "fc" else []


def refill(tree: Any, values: Any) -> Any:
    """The call with the floating arrays replaced, in order."""
    if isinstance(tree, list | tuple):
        return type(tree)(refill(part, values) for part in tree)
    if isinstance(tree, dict):
        return {k: refill(v, values) for k, v in tree.items()}
    return next(values) if isinstance(tree, numpy.ndarray) and tree.dtype.kind in "fc" else tree


def flat(tree: Any) -> Any:
    """All floating results, and their imaginary parts, in one vector."""
    parts = [tree] if hasattr(tree, "ndim") or isinstance(tree, bool | int | float) else list(tree)
    out = []
    for x in parts:
        kind = getattr(getattr(x, "dtype", None), "kind", "f" if isinstance(x, float) else "i")
        if kind == "c":
            out += [np.ravel(np.real(x)), np.ravel(np.imag(x))]
        elif kind == "f":
            out.append(np.ravel(x))
    return np.concatenate(out) if out else np.zeros(0)


def vector(c: Call) -> Any:
    """The operands of a call as one real vector."""
    return numpy.concatenate(
        [numpy.ravel(p) for x in leaves([c.args, c.kwargs]) for p in ((x.real, x.imag) if x.dtype.kind == "c" else (x,))]
    )


def function(name: str, c: Call) -> Callable[[Any], Any]:
    """The call as a function from a real vector to a real vector."""

    def f(x: Any) -> Any:
        start, values = 0, []
        for leaf in leaves([c.args, c.kwargs]):
            parts = []
            for _ in range(2 if leaf.dtype.kind == "c" else 1):
                parts.append(np.reshape(x[start : start + leaf.size], leaf.shape))
                start += leaf.size
            value = parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1]
            values.append((value + np.conj(np.swapaxes(value, -1, -2))) / 2 if c.symmetric else value)
        args, kwargs = refill([c.args, c.kwargs], iter(values))
        return flat(found(name)(*args, **kwargs))

    return f


def raw(tree: Any) -> Any:
    """Results with the arrays underneath."""
    if isinstance(tree, list | tuple):
        return [raw(x) for x in tree]
    return tree.data if isinstance(tree, Array) else tree


def assert_same(got: Any, want: Any) -> None:
    """Assert NumPy's structure, shapes, dtypes and values."""
    if isinstance(want, list | tuple):
        assert isinstance(got, list | tuple) and len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert_same(g, w)
        return
    w = numpy.asarray(want)
    g = numpy.asarray(raw(got))
    assert g.dtype == w.dtype and g.shape == w.shape
    numpy.testing.assert_allclose(g, w, rtol=1e-11, atol=1e-12)


# --- every function of the map ------------------------------------------------------------------------------------------------------------------
def test_every_name_has_calls() -> None:
    plain = {n for n in NAMES if "." not in n or n.split(".")[0] in ("linalg", "fft")}
    assert plain - CALLS.keys() - DISCRETE.keys() == ELSEWHERE
    assert (CALLS.keys() | DISCRETE.keys()) - plain == set()


ELSEWHERE = {
    *words("zeros ones empty zeros_like ones_like empty_like eye identity arange asfortranarray require"),
    *words("copyto put put_along_axis putmask place fill_diagonal array_repr array_str array2string"),
    *words(
        "bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_invert invert left_shift right_shift bitwise_left_shift bitwise_right_shift"
    ),
    *words("unique_all unique_counts unique_inverse unique_values"),
    "row_stack",
    "linalg.eig",
}
"""What other tests are about."""


@pytest.mark.parametrize(("name", "c"), ALL, ids=IDS)
def test_values_are_numpys(name: str, c: Call) -> None:
    variables = [ad.Variable(x) for x in leaves([c.args, c.kwargs])]
    args, kwargs = refill([c.args, c.kwargs], iter(variables))
    want = found(name, numpy)(*c.args, **c.kwargs)
    assert_same(found(name)(*c.args, **c.kwargs), want)
    assert_same(found(name)(*args, **kwargs), want)


@pytest.mark.parametrize(("name", "c"), ALL, ids=IDS)
def test_first_derivatives(name: str, c: Call) -> None:
    f, x = function(name, c), vector(c)
    want = jacobian(f, x)
    assert_close(ad.jacrev(f)(x), want, rtol=1e-7, atol=1e-8)
    assert_close(ad.jacfwd(f)(x), want, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "c"), ALL, ids=IDS)
def test_second_derivatives(name: str, c: Call) -> None:
    f, x = function(name, c), vector(c)
    weights = numpy.cos(numpy.arange(f(x).size))
    g = ad.grad(lambda x: np.dot(f(x), weights))
    assert_close(ad.jacfwd(g)(x), jacobian(g, x), rtol=1e-7, atol=1e-7)
    assert_close(ad.jacrev(g)(x), ad.jacfwd(g)(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "c"), [(n, c) for n, c in ALL if c.batch], ids=[i for i, (_, c) in zip(IDS, ALL, strict=True) if c.batch])
def test_batches_are_loops(name: str, c: Call) -> None:
    f, x = function(name, c), vector(c)
    rows = numpy.stack([x, x * 1.01])
    assert_close(ad.vmap(f)(rows), numpy.stack([f(row) for row in rows]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "c"), [(n, c) for n, calls in DISCRETE.items() for c in calls], ids=str)
def test_what_has_no_derivative_is_computed(name: str, c: Call) -> None:
    args, kwargs = refill([c.args, c.kwargs], iter([ad.Variable(x) for x in leaves([c.args, c.kwargs])]))
    got = found(name)(*args, **kwargs)
    want = found(name, numpy)(*c.args, **c.kwargs)
    if isinstance(want, numpy.dtype):
        assert got == want
    else:
        assert_same(got, want)
        assert not any(x.requires_grad for x in (got if isinstance(got, tuple) else (got,)) if isinstance(x, Array))


@pytest.mark.parametrize("name", words("unique_all unique_counts unique_inverse unique_values"))
def test_distinct_values(name: str) -> None:
    v = ad.Variable([[2.0, 1.0], [3.0, 1.0]])
    found_ = found(name)(v)
    values = found_ if name == "unique_values" else found_.values
    assert sorted(values.tolist()) == [1.0, 2.0, 3.0]
    (values * values).sum().backward()
    assert_close(np.sum(v.grad), 12.0)
    if name in ("unique_all", "unique_inverse"):
        assert values[found_.inverse_indices].tolist() == v.tolist()


def test_eigenvectors() -> None:
    a = numpy.asarray([[2.0, 1.0], [0.5, 3.0]])

    def f(x: Any) -> Any:
        values, vectors = np.linalg.eig(x)
        return np.real(np.dot(vectors * values**3, np.linalg.inv(vectors)))  # the cube of the matrix

    assert_close(f(ad.Variable(a)), numpy.linalg.matrix_power(a, 3), rtol=1e-12)
    assert_close(ad.jacobian(f)(a), jacobian(lambda x: numpy.linalg.matrix_power(x, 3), a))


# --- HIPS autograd: all that it differentiates --------------------------------------------------------------------------------------------------
def differentiated_by_autograd() -> set[str]:
    """NumPy's public functions that autograd has a derivative of."""
    import autograd.numpy as anp
    from autograd.core import primitive_vjps

    names = set()
    for prefix, theirs, module in (("", anp, numpy), ("linalg.", anp.linalg, numpy.linalg), ("fft.", anp.fft, numpy.fft)):
        for name in dir(module):
            if not name.startswith("_") and callable(getattr(module, name)) and getattr(theirs, name, None) in primitive_vjps:
                names.add(prefix + name)
    return names


def test_all_that_autograd_differentiates_is_in_the_table() -> None:
    autograd = differentiated_by_autograd()
    assert len(autograd) > 120
    assert autograd - CALLS.keys() == {"linalg.eig"}  # whose vectors are compared above


COMPOSED = set(words("append array column_stack concatenate hstack linalg.norm mean select stack std var vstack"))
"""What autograd makes of others, under another name or without one."""
CANNOT = {"broadcast_to", "diagonal", "pad"}
"""What autograd 1.9.1 differentiates in other forms than those of the table only."""
WRONG = {"sum", "prod", "mean", "std", "var", "min", "amin"}  # it ignores where= and correction=


@pytest.mark.filterwarnings("ignore")  # of autograd's own
@pytest.mark.parametrize("name", sorted((differentiated_by_autograd() | COMPOSED) - {"linalg.eig"}))
def test_derivatives_are_autograds_where_it_has_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import autograd
    import autograd.numpy as anp

    compared = 0
    for c in CALLS[name]:
        f, x = function(name, c), vector(c)
        ours = ad.jacrev(f)(x)
        if any(leaf.dtype.kind == "c" for leaf in leaves([c.args, c.kwargs])) or (
            name in WRONG and c.kwargs.keys() & {"where", "correction"}
        ):
            continue
        with monkeypatch.context() as patch:
            patch.setattr(f"{__name__}.np", anp)
            try:
                theirs = autograd.jacobian(f)(x)
            except (AssertionError, NotImplementedError, TypeError, ValueError):
                continue  # an argument that autograd knows nothing of
        if numpy.all(numpy.isfinite(theirs)):
            compared += 1
            assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    assert compared or name in CANNOT or not any(leaf.dtype.kind == "f" for c in CALLS[name] for leaf in leaves([c.args, c.kwargs]))


# --- the module ---------------------------------------------------------------------------------------------------------------------------------
def test_without_variables_it_is_numpy() -> None:
    assert np.float64 is numpy.float64 and np.ndarray is numpy.ndarray and np.newaxis is None and np.pi == numpy.pi
    assert np.polynomial is numpy.polynomial and np.s_ is numpy.s_ and np.sin is numpy.sin
    for y in (
        np.zeros(2),
        np.sum([1.0, 2.0]),
        np.linalg.norm([3.0, 4.0]),
        np.fft.fft([1.0, 2.0]),
        np.r_[1.0, 2:4],
        np.random.default_rng(0).normal(size=2),
    ):
        assert isinstance(y, numpy.ndarray | numpy.generic)
    assert numpy.array_equal(np.r_[1:3, 5.0], numpy.r_[1:3, 5.0]) and numpy.array_equal(np.c_[[1, 2], [3, 4]], numpy.c_[[1, 2], [3, 4]])
    assert set(numpy.__all__) <= set(dir(np)) and np.__all__ == numpy.__all__
    assert np.dot.__name__ == "dot" and "Dot product" in str(np.dot.__doc__)


def test_the_modules_below_can_be_imported() -> None:
    import agnostic_ad.numpy.fft as fft
    import agnostic_ad.numpy.linalg as linalg
    import agnostic_ad.numpy.random as npr
    from agnostic_ad.numpy.linalg import inv

    assert fft is np.fft and linalg is np.linalg and npr is np.random
    assert inv is np.linalg.inv and linalg.LinAlgError is numpy.linalg.LinAlgError and npr.RandomState is numpy.random.RandomState
    npr.seed(0)
    assert npr.randn(2).shape == (2,)


def test_functions_are_pickled_by_name() -> None:
    for f in (np.dot, np.linalg.norm, np.sin):
        assert pickle.loads(pickle.dumps(f)) is f


def test_a_star_import() -> None:
    names: dict[str, Any] = {}
    exec("from agnostic_ad.numpy import *", names)
    assert names["dot"] is np.dot and names["linalg"] is np.linalg and names["pi"] == numpy.pi


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match=r"module 'agnostic_ad.numpy' has no attribute 'nonsense', as 'numpy' has none"):
        _ = np.nonsense


def test_random_numbers_do_not_take_variables() -> None:
    with pytest.raises(
        MissingRuleError, match=r"numpy.random.normal of an array .* Use raw random numbers, and compute with them: loc \+ scale \* "
    ):
        np.random.normal(ad.Variable([1.0]))


@pytest.mark.parametrize(("name", "c"), ALL, ids=IDS)
def test_single_precision_stays(name: str, c: Call) -> None:
    """Also where NumPy widens it (cov, interp, vander, a Python number beside an array, ...)."""
    single = {"f": numpy.float32, "c": numpy.complex64}
    arrays = [ad.Variable(x.astype(single[x.dtype.kind])) for x in leaves([c.args, c.kwargs])]
    args, kwargs = refill([c.args, c.kwargs], iter(arrays))
    if name in ("array", "float_power") or any(isinstance(a, type) for a in args):
        pytest.skip("float64 is asked for")
    y = found(name)(*args, **kwargs)
    wide = [
        x.dtype
        for x in (y if isinstance(y, tuple | list) else (y,))
        if isinstance(x, Array) and x.dtype in (numpy.float64, numpy.complex128)
    ]
    assert wide == []


WHOLE = words(
    "add sum prod mean max min var std ptp cumsum concatenate kron dot cross gradient pad median percentile sort clip diff round nanmax fabs rint modf"
)


@pytest.mark.parametrize(("name", "c"), [(n, c) for n, c in ALL if n in WHOLE and "C" not in repr(c)], ids=str)
def test_whole_numbers_are_as_in_numpy(name: str, c: Call) -> None:
    arrays = [numpy.round(x * 4).astype(numpy.int64) for x in leaves([c.args, c.kwargs]) if x.dtype.kind == "f"]
    if len(arrays) < len(leaves([c.args, c.kwargs])) or (name == "gradient" and len(arrays) > 1):
        pytest.skip("it holds complex numbers, or points that would coincide")
    args, kwargs = refill([c.args, c.kwargs], iter(arrays))
    want = found(name, numpy)(*args, **kwargs)
    args, kwargs = refill([c.args, c.kwargs], iter([ad.Variable(x) for x in arrays]))
    assert_same(found(name)(*args, **kwargs), want)


def test_brackets() -> None:
    v = ad.Variable([1.0, 2.0])
    for y, want in (
        (np.r_[v, 3.0, v], [1.0, 2.0, 3.0, 1.0, 2.0]),
        (np.r_[0:2, v], [0.0, 1.0, 1.0, 2.0]),
        (np.r_[v[0], [4.0], v[1]], [1.0, 4.0, 2.0]),
        (np.r_[v[None], [[3.0, 4.0]]], [[1.0, 2.0], [3.0, 4.0]]),
        (np.c_[v, [5.0, 6.0]], [[1.0, 5.0], [2.0, 6.0]]),
    ):
        assert isinstance(y, ad.Variable)
        assert_close(y.data, want)
    np.r_[v, v * v].sum().backward()
    assert_close(v.grad, [3.0, 5.0])
    with pytest.raises(MissingRuleError, match=r"directives in a string are not supported with Variables. Use np.concatenate"):
        _ = np.r_["0,2", v]


def test_nested_lists_with_variables() -> None:
    a, b = ad.Variable(2.0), ad.Variable([3.0, 4.0])
    m = np.array([[a, 1.0], b, numpy.ones(2)])
    assert_close(m.data, [[2.0, 1.0], [3.0, 4.0], [1.0, 1.0]])
    (m * m).sum().backward()
    assert_close(a.grad, 4.0)
    assert_close(b.grad, [6.0, 8.0])
    assert_close(np.vstack([[a, 1.0], b]).data, [[2.0, 1.0], [3.0, 4.0]])


@pytest.mark.parametrize("name", words("sum prod mean var std max min median cumsum cumprod"))
def test_nan_is_left_out(name: str) -> None:
    x = numpy.asarray([[1.0, numpy.nan, 3.0], [0.5, 2.0, numpy.nan]])
    f = found(f"nan{name}")
    axis = {"axis": 1}
    assert_close(f(ad.Variable(x), **axis), f(x, **axis), rtol=1e-14)
    known = numpy.isfinite(x)

    def g(values: Any) -> Any:
        filled = np.array([[values[0], numpy.nan, values[1]], [values[2], values[3], numpy.nan]])
        return np.ravel(f(filled, **axis))

    assert_close(ad.jacobian(g)(x[known]), jacobian(g, x[known]))


def test_all_nan_and_some_nan() -> None:
    v = ad.Variable([1.0, numpy.nan])
    assert numpy.isnan(np.median(v).data) and numpy.isnan(np.quantile(v, 0.3).data)
    assert numpy.isnan(np.nanmax(v[1:]).data) and np.nanmax(v).data == 1.0


def test_a_fit_and_an_svd_as_in_numpy() -> None:
    rng = numpy.random.default_rng(0)
    a, b = rng.normal(size=(5, 2)), rng.normal(size=5)
    x, residuals, rank, values = np.linalg.lstsq(ad.Variable(a), ad.Variable(b), rcond=None)
    want = numpy.linalg.lstsq(a, b, rcond=None)
    assert_same([x, residuals, rank, values], list(want))


@pytest.mark.parametrize(
    "f", [lambda v: np.quantile(v, 0.5, weights=v), lambda v: np.pad(v, 1, mode=lambda *a: None), lambda v: np.polyfit(v, v, 1, full=True)]
)
def test_arguments_that_are_not_supported_say_so(f: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"supported|writes in place"):
        f(ad.Variable([1.0, 2.0, 3.0]))


def test_elementwise_grad() -> None:
    x = numpy.asarray([0.5, 1.0, 2.0])
    assert_close(ad.elementwise_grad(np.sin)(x), numpy.cos(x))
    assert_close(ad.elementwise_grad(ad.elementwise_grad(np.sin))(x), -numpy.sin(x))
    assert_close(ad.elementwise_grad(np.multiply, (0, 1))(x, x * 2)[0], x * 2)


def test_escapes_are_refused_inside_transformations() -> None:
    with pytest.raises(EscapedArrayError):
        ad.grad(lambda x: np.float64(x) * x)(1.0)
