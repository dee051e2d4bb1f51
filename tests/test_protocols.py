"""NumPy's and CuPy's protocols: functions of plain ``numpy`` record on arrays of every transformation, or are refused; nothing detaches."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, jacobian
from numpy_calls import CALLS, DISCRETE, words
from test_numpy_namespace import ALL, IDS, assert_same, found, leaves, refill

import agnostic_ad as ad
from agnostic_ad.errors import EscapedArrayError, MissingRuleError, MixedArraysError
from agnostic_ad.levels import Array

# NumPy hands these no operand to ask
NOT_ASKED = {"array", "asarray", "asanyarray", "ascontiguousarray", "asarray_chkfinite", "full", "apply_along_axis", "apply_over_axes"}
# vectors in nested lists are seen by the drop-in namespace only
NESTED = {"sum", "prod", "mean"}


# --- plain numpy, on Variables ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "c"), ALL, ids=IDS)
def test_plain_numpy_records(name: str, c: Any) -> None:
    if name in NOT_ASKED or (name in NESTED and isinstance(c.args[0], list)):
        pytest.skip("NumPy has no operand to ask, or does not look into lists")
    variables = [ad.Variable(x) for x in leaves([c.args, c.kwargs])]
    args, kwargs = refill([c.args, c.kwargs], iter(variables))
    got = found(name, np)(*args, **kwargs)
    assert_same(got, found(name, np)(*c.args, **c.kwargs))
    parts = got if isinstance(got, tuple | list) else [got]
    assert all(isinstance(x, ad.Variable) for x in parts)


def test_inside_transformations() -> None:
    x = np.asarray([1.0, 2.0])
    assert_close(
        ad.grad(lambda x: np.linalg.norm(np.concatenate([x, np.sin(x)])))(x),
        ad.grad(lambda x: np.sqrt(np.sum(x * x) + np.sum(np.sin(x) ** 2)))(x),
    )
    assert_close(ad.jvp(np.cumsum, (x,), (x,))[1], np.cumsum(x))
    assert_close(ad.vmap(np.diag)(np.stack([x, x])), np.stack([np.diag(x), np.diag(x)]))
    assert_close(ad.grad(lambda x: ad.grad(lambda y: np.dot(y, y) * np.sum(x))(x).sum())(x), jacobian(lambda x: 2 * np.sum(x) ** 2, x))


COUNTED_BY_DATA = {"piecewise", "unique"}  # dask does not know how many; and its shapes are facts here
MIXED = {"array"}  # array-api-strict promotes no integers with floating numbers
SIGNS = {"linalg.svd", "linalg.qr", "linalg.eigh"}  # of vectors, which are the library's choice


def on(backend: support.Backend, tree: Any) -> Any:
    """The arguments of a call over another library."""
    if isinstance(tree, list | tuple):
        return type(tree)(on(backend, part) for part in tree)
    if isinstance(tree, dict):
        return {k: on(backend, v) for k, v in tree.items()}
    if isinstance(tree, np.ndarray):
        return ad.Variable(backend.asarray(tree))
    return np.dtype(tree).name if isinstance(tree, type) else tree


@pytest.mark.parametrize("backend", support.params("array_api_strict", "torch", "dask", "cupy"))
def test_the_functions_are_written_for_every_library(backend: support.Backend) -> None:
    wrong = []
    left_out = SIGNS | {"dask": COUNTED_BY_DATA, "array_api_strict": MIXED}.get(backend.name, set())
    for name, c in ALL:
        if name in left_out:
            continue
        y = found(name)(*on(backend, c.args), **on(backend, c.kwargs))
        want = found(name, np)(*c.args, **c.kwargs)
        for got, expected in zip(
            y if isinstance(y, tuple | list) else [y], want if isinstance(want, tuple | list) else [want], strict=True
        ):
            if not (isinstance(got, ad.Variable) and np.allclose(backend.numpy(got.data), expected, rtol=1e-10, atol=1e-10)):
                wrong.append(f"{name}({c!r}): {got!r}, not {expected!r}")
    assert wrong == []


@pytest.mark.parametrize("backend", support.params("jax"))
def test_some_functions_on_jax(backend: support.Backend) -> None:
    """A few: each one compiles anew."""
    x = np.asarray([[1.5, -0.5, 0.25], [0.75, 2.0, -1.0]])
    v = ad.Variable(backend.asarray(x))
    for f in (
        np.cumsum,
        np.std,
        np.sinc,
        np.cov,
        lambda v: np.pad(v, 1, mode="reflect"),
        lambda v: np.kron(v, v),
        lambda v: np.median(v, axis=1),
    ):
        y = f(v)
        assert isinstance(y, ad.Variable) and y.requires_grad
        assert np.allclose(backend.numpy(y.data), f(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", support.params(without=("numpy",)))
def test_numpy_arrays_over_another_library_are_refused(backend: support.Backend) -> None:
    v = ad.Variable(backend.asarray([1.0, 2.0]))
    with pytest.raises(MixedArraysError, match=r"two array libraries, numpy and"):
        np.dot(np.ones(2), v)


# --- universal functions: keywords and methods ----------------------------------------------------------------------------------------------------
def test_out_is_a_variable() -> None:
    v, w = ad.Variable([1.0, 2.0]), ad.Variable([3.0, 4.0])
    out = v * 1.0
    before = out * 2.0
    assert np.multiply(v, w, out=out) is out
    (out.sum() + before.sum()).backward()
    assert_close(v.grad, [5.0, 6.0])
    assert_close(w.grad, [1.0, 2.0])
    total = ad.Variable([0.0], requires_grad=False)
    np.add.reduce(v[None], axis=1, out=total)
    assert_close(total.data, [3.0])
    assert total.requires_grad


def test_out_cannot_be_a_plain_array() -> None:
    v = ad.Variable([1.0, 2.0])
    a = np.ones(2)
    with pytest.raises(TypeError, match=r"numpy.sin: out is a plain ndarray, which cannot hold a derivative. Use the result"):
        np.sin(v, out=np.zeros(2))
    with pytest.raises(MissingRuleError, match=r"numpy.multiply: out is a plain ndarray"):
        a *= v
    with pytest.raises(MissingRuleError, match=r"numpy.sum: out is a plain ndarray"):
        np.sum(v, out=np.zeros(()))
    with pytest.raises(MissingRuleError, match=r"numpy.copyto: out is a plain ndarray"):
        np.copyto(a, v)
    assert np.array_equal(a, [1.0, 1.0])


def test_out_of_another_shape_or_dtype_is_refused() -> None:
    v = ad.Variable([1.0, 2.0])
    with pytest.raises(ValueError, match=r"out= cannot change shape \(3,\) to \(2,\)"):
        np.sin(v, out=ad.Variable(np.zeros(3), requires_grad=False))
    with pytest.raises(TypeError, match=r"out= cannot put dtype float64 into an array of dtype int64"):
        np.sin(v, out=ad.Variable(np.zeros(2, np.int64)))


def test_where_computes_nothing_elsewhere() -> None:
    a, b = ad.Variable([1.0, 2.0, 3.0]), ad.Variable([2.0, 0.0, 4.0])
    out = ad.Variable([7.0, 8.0, 9.0], requires_grad=False)
    np.divide(a, b, out=out, where=b.data != 0)
    assert_close(out.data, [0.5, 8.0, 0.75])
    out.sum().backward()
    assert_close(a.grad, [0.5, 0.0, 0.25])
    assert_close(b.grad, [-0.25, 0.0, -0.1875])
    assert_close(np.sqrt(ad.Variable([4.0, -1.0]), where=np.asarray([True, False])).data, [2.0, 0.0])


def test_dtype() -> None:
    v = ad.Variable(np.ones(2, np.float32))
    assert np.add(v, v, dtype=np.float64).dtype == np.float64
    assert np.add(v, v).dtype == np.float32
    assert np.sum(v, dtype=np.float64).dtype == np.float64
    with pytest.raises(TypeError, match=r"sin has no arguments nonsense"):
        ad.numpy_names.call("sin", (v,), {"nonsense": 1})


REDUCED = words("add multiply maximum minimum logaddexp logaddexp2 hypot fmax fmin subtract divide")


@pytest.mark.parametrize("axis", [0, 1, None, (0, 1)], ids=str)
@pytest.mark.parametrize("name", REDUCED)
def test_reduce(name: str, axis: Any) -> None:
    x = np.asarray([[1.5, 0.5, 2.5], [0.25, 1.25, 2.0]])
    if name in ("subtract", "divide") and not isinstance(axis, int):
        pytest.skip("NumPy reduces these over one axis only")
    ufunc = getattr(np, name)
    for options in ({}, {"keepdims": True}, {"initial": 0.75}):
        assert_close(ufunc.reduce(ad.Variable(x), axis=axis, **options), ufunc.reduce(x, axis=axis, **options), rtol=1e-14)

    def f(x: Any) -> Any:
        return ufunc.reduce(x, axis=axis)

    assert_close(ad.jacobian(f)(x), jacobian(f, x))


@pytest.mark.parametrize("name", REDUCED)
def test_accumulate_and_outer(name: str) -> None:
    x = np.asarray([[1.5, 0.5, 2.5], [0.25, 1.25, 2.0]])
    ufunc = getattr(np, name)
    assert_close(ufunc.accumulate(ad.Variable(x), axis=1), ufunc.accumulate(x, axis=1), rtol=1e-14)
    assert_close(ad.jacobian(lambda x: ufunc.accumulate(x))(x), jacobian(lambda x: ufunc.accumulate(x), x))
    assert_close(ufunc.outer(ad.Variable(x), x[0]), ufunc.outer(x, x[0]), rtol=1e-14)
    assert_close(ad.jacobian(lambda x: ufunc.outer(x[0], x[1]))(x), jacobian(lambda x: ufunc.outer(x[0], x[1]), x))


def test_logical_reductions_and_sums_with_a_mask() -> None:
    v = ad.Variable([1.0, 0.0, 3.0])
    assert bool(np.logical_or.reduce(v)) and not bool(np.logical_and.reduce(v))
    np.add.reduce(v, where=np.asarray([True, False, True])).backward()
    assert_close(v.grad, [1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match=r"hypot.reduce of no elements needs initial"):
        np.hypot.reduce(v[:0])
    with pytest.raises(MissingRuleError, match=r"numpy.hypot.reduce: where= is not supported. Put the neutral element there"):
        np.hypot.reduce(v, where=np.asarray([True, False, True]))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_at_counts_an_index_that_comes_again(sign: float) -> None:
    w = ad.Variable([1.0, 2.0, 3.0])
    v = ad.Variable(np.zeros(3)) * 1.0
    (np.add if sign > 0 else np.subtract).at(v, [0, 0, 2], w)
    assert_close(v.data, sign * np.asarray([3.0, 0.0, 3.0]))
    (v * v).sum().backward()
    assert_close(w.grad, [6.0, 6.0, 6.0])
    with pytest.raises(MissingRuleError, match=r"numpy.multiply.at of an array"):
        np.multiply.at(v, [0], w[:1])
    with pytest.raises(MissingRuleError, match=r"numpy.add.at: out is a plain ndarray"):
        np.add.at(np.zeros(3), [0, 0, 2], w)


def test_generalised_functions_refuse_axes() -> None:
    v = ad.Variable(np.ones((2, 2)))
    with pytest.raises(MissingRuleError, match=r"numpy.matmul: the arguments axes are not supported. Move the axes"):
        np.matmul(v, v, axes=[(0, 1), (0, 1), (0, 1)])


def test_scipys_special_functions_record() -> None:
    special = pytest.importorskip("scipy.special")
    v = ad.Variable([0.5, 1.0])
    special.erf(v).sum().backward()
    assert_close(v.grad, 2 / np.sqrt(np.pi) * np.exp(-np.asarray([0.25, 1.0])))
    with pytest.raises(MissingRuleError, match=r"numpy.ufunc airy of an array"):
        special.airy(v)
    with pytest.raises(MissingRuleError, match=r"ufunc sin \(vectorized\)"):
        np.frompyfunc(np.sin, 1, 1)(v)


# --- in place -----------------------------------------------------------------------------------------------------------------------------------
def changed(change: Callable[[Any], None]) -> Any:
    """What a change makes of a 3 x 3 matrix, as a function."""

    def f(x: Any) -> Any:
        y = x * 1.0
        change(y)
        return y * y

    return f


@pytest.mark.parametrize(
    "change",
    [
        lambda y: np.copyto(y, y[0] * 2),
        lambda y: np.copyto(y, y * 3, where=np.eye(3) > 0),
        lambda y: np.putmask(y, np.eye(3) > 0, y.ravel()[:2] * 2),
        lambda y: np.place(y, np.eye(3) > 0, [5.0, 6.0]),
        lambda y: np.put(y, [0, 4, -1], y.ravel()[:3] * 2),
        lambda y: np.put(y, [0, 40], 1.0, mode="clip"),
        lambda y: np.put_along_axis(y, np.asarray([[0], [1], [1]]), 7.0, axis=1),
        lambda y: np.fill_diagonal(y, 2.0),
        lambda y: np.fill_diagonal(y, [1.0, 2.0]),
        lambda y: np.nan_to_num(y, copy=False),
    ],
)
def test_functions_that_change_an_array(change: Callable[[Any], None]) -> None:
    x = np.arange(1.0, 10.0).reshape(3, 3) / 4
    f = changed(change)
    assert_close(f(ad.Variable(x)), f(x), rtol=1e-15)
    assert_close(ad.jacobian(f)(x), jacobian(f, x))


# --- like= ----------------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "make",
    [
        lambda v: np.zeros(3, like=v), lambda v: np.ones((2, 2), np.float32, like=v), lambda v: np.full(2, 7.0, like=v), lambda v: np.arange(4, like=v),
        lambda v: np.eye(2, like=v), lambda v: np.identity(2, like=v), lambda v: np.asarray([1.0, 2.0], like=v), lambda v: np.array([1, 2], ndmin=2, like=v),
    ],
)  # fmt: skip
def test_like(make: Callable[[Any], Any]) -> None:
    y = make(ad.Variable([1.0]))
    want = make(np.ones(1))
    assert isinstance(y, ad.Variable) and not y.requires_grad
    assert y.dtype == want.dtype and np.array_equal(y.data, want)


# --- nothing detaches -----------------------------------------------------------------------------------------------------------------------------
def plain_numbers(x: Any) -> list[Any]:
    """The floating numbers in a result that are no array of this package, which would say itself whether it requires grad."""
    if isinstance(x, list | tuple):
        return [n for part in x for n in plain_numbers(part)]
    if isinstance(x, Array) or not (isinstance(x, float | complex | np.inexact) or (isinstance(x, np.ndarray) and x.dtype.kind in "fcO")):
        return []
    return np.ravel(x).tolist()


def everything() -> list[tuple[str, Any]]:
    """Every public function of NumPy that may take arrays."""
    found = []
    for prefix, module in (("", np), ("linalg.", np.linalg), ("fft.", np.fft)):
        for name in sorted(dir(module)):
            value = getattr(module, name)
            if callable(value) and not isinstance(value, type) and not name.startswith("_"):
                found.append((prefix + name, value))
    return found


UNHEARD = {
    "info", "test", "show_config", "show_runtime", "get_include", "set_printoptions", "seterr", "setbufsize", "seterrcall", "save", "savez", "savez_compressed", "savetxt",
    "load", "loadtxt", "genfromtxt", "fromfile", "fromregex", "frombuffer", "printoptions", "get_printoptions", "geterr", "getbufsize", "geterrcall", "frompyfunc",
    "empty", "empty_like", "fromiter",
}  # fmt: skip
"""What talks about NumPy itself, or to files; what gives whatever is in memory; and what calls ``float`` of each element, which is allowed."""

ARGUMENTS: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "one": lambda v: (v,),
    "two": lambda v: (v, v),
    "three": lambda v: (v, v, v),
    "a list": lambda v: ([v, v],),
    "an element": lambda v: (v[0],),
    "elements": lambda v: ([v[0], 1.0],),
    "a matrix": lambda v: (v[:, None] * v,),
    "with a number": lambda v: (v, 1),
    "second": lambda v: (np.asarray([1.0, 2.0]), v),
    "third": lambda v: (np.asarray([0, 1]), np.asarray([1.0, 2.0]), v),
    "with a shape": lambda v: ((2,), v),
    "elements twice": lambda v: (v[0], v[1]),
}


@pytest.mark.filterwarnings("ignore")  # of NumPy's, about arguments that make no sense
@pytest.mark.parametrize("module", ["numpy", "agnostic_ad.numpy"])
@pytest.mark.parametrize("form", ARGUMENTS)
def test_nothing_detaches(form: str, module: str) -> None:
    import agnostic_ad.numpy as drop_in

    lost = []
    for name, plain in everything():
        if name.rpartition(".")[2] in UNHEARD:
            continue
        function = plain if module == "numpy" else found(name, drop_in)
        try:
            y, z = (plain_numbers(function(*ARGUMENTS[form](ad.Variable(x)))) for x in ([1.5, 2.5], [1.5001, 2.5002]))
        except Exception:  # refused, by us or by NumPy
            continue
        if y != z:  # numbers that depend on the Variable
            lost.append(f"{name}: {y!r}")
    assert lost == []


def test_what_is_refused_says_what_to_do() -> None:
    v = ad.Variable([1.0, 2.0])
    with pytest.raises(
        MissingRuleError, match=r"numpy.spacing of an array of the define-by-run tape: it is not differentiated .* x.detach\(\).numpy\(\)"
    ):
        np.spacing(v)
    with pytest.raises(TypeError, match=r"numpy.histogram of an array of the define-by-run tape"):
        np.histogram(v)
    with pytest.raises(MissingRuleError, match=r"numpy.histogram of an array of grad\(<lambda>\)"):
        ad.grad(lambda x: np.histogram(x)[1].sum())(np.ones(3))
    with pytest.raises(EscapedArrayError, match=r"np.asarray of a Variable"):
        np.asarray(v)


def test_what_carries_no_derivative_goes_to_numpy() -> None:
    v = ad.Variable([[1.0, 5.0], [2.0, 3.0]])
    assert np.unravel_index(np.argmax(v), v.shape) == (0, 1)
    assert np.gcd(ad.Variable([4, 6]), 2).tolist() == [2, 2]
    assert np.histogram(v.detach(), bins=[0.0, 2.5, 6.0])[0].tolist() == [2, 2]


def test_other_classes_are_left_to_decide() -> None:
    class Other:
        def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> str:
            return "other"

    assert np.concatenate([ad.Variable([1.0]), Other()]) == "other"


def test_xarray_computes_with_variables() -> None:
    xr = pytest.importorskip("xarray")
    x = np.asarray([[1.0, 2.0, 4.0], [3.0, 5.0, 9.0]])
    v = ad.Variable(x)
    d, plain = (xr.DataArray(a, dims=("row", "column")) for a in (v, x))
    groups = xr.DataArray([0, 1, 0], dims="column")
    for f in (
        lambda d: d.mean("row"),
        lambda d: d.std("column"),
        lambda d: d.dot(d),
        lambda d: d.groupby(groups).sum(),
        lambda d: d.median("column"),
        lambda d: d.cumsum("column"),
        lambda d: d.weighted(xr.DataArray([1.0, 2.0], dims="row")).mean(),
    ):
        y = f(d).data
        assert isinstance(y, ad.Variable) and y.requires_grad
        assert_close(y.data, f(plain).data, rtol=1e-14)
    d.groupby(groups).sum().isel(group=0).sum().data.backward()
    assert_close(v.grad, [[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])


# --- CuPy: its hooks, called as it calls them -------------------------------------------------------------------------------------------------------
def kernel(name: str) -> Any:
    return types.SimpleNamespace(name=name)


def test_cupys_elementwise_hook() -> None:
    v, raw = ad.Variable([0.5, 1.0]), np.asarray([2.0, 3.0])
    assert_close(v.__cupy_override_elementwise_kernel__(kernel("cupy_sin"), v), np.sin(v.data))
    y = v.__cupy_override_elementwise_kernel__(kernel("cupy_multiply"), raw, v)
    y.sum().backward()
    assert_close(v.grad, raw)
    assert_close(v.__cupy_override_elementwise_kernel__(kernel("cupy_true_divide"), raw, v, dtype=None), raw / v.data)
    assert v.__cupy_override_elementwise_kernel__(kernel("cupy_is_close"), v, v, 1e-5, 1e-8, False).tolist() == [True, True]
    assert_close(v.__cupy_override_elementwise_kernel__(kernel("cupy_clip"), v, 0.6, 0.9), [0.6, 0.9])
    assert_close(v.__cupy_override_elementwise_kernel__(kernel("cupy_where"), raw > 2, v, raw), [2.0, 1.0])
    with pytest.raises(MissingRuleError, match=r"numpy.add: out is a plain ndarray"):
        v.__cupy_override_elementwise_kernel__(kernel("cupy_add"), raw, v, out=raw)
    with pytest.raises(MissingRuleError, match=r"numpy.kernel my_kernel of an array"):
        v.__cupy_override_elementwise_kernel__(kernel("my_kernel"), v)
    with pytest.raises(MissingRuleError, match=r"numpy.kernel sin of an array"):  # somebody's own, of that name
        v.__cupy_override_elementwise_kernel__(kernel("sin"), v)


def test_cupys_reduction_hook() -> None:
    v = ad.Variable([[0.5, 1.0], [2.0, 3.0]])
    for name in words("sum prod max min argmax argmin all any mean nansum nanprod nanmax count_nonzero"):
        got = v.__cupy_override_reduction_kernel__(kernel(f"cupy_{name}"), 1, None, None, False)
        assert_same(got, getattr(np, name)(v.data, axis=1))
    got = v.__cupy_override_reduction_kernel__(kernel("cupy_sum_with_dtype"), None, np.float32, None, True)
    assert got.dtype == np.float32 and got.shape == (1, 1)
    with pytest.raises(MissingRuleError, match=r"numpy.kernel my_reduction of an array"):
        v.__cupy_override_reduction_kernel__(kernel("my_reduction"), None, None, None, False)


def test_the_drop_in_for_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy's functions ask their operands by the hooks alone: the drop-in sees to the others. Here a stand-in without any protocol."""
    import array_api_strict

    class StandIn(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(array_api_strict, name)

    cupy = StandIn("cupy", "Stands in for CuPy.")
    for part in ("linalg", "fft", "random"):
        setattr(cupy, part, types.ModuleType(f"cupy.{part}"))
    cupy.linalg.norm = lambda x: "the library's own"
    cupy.kron = lambda a, b: "the library's own"
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name in ("agnostic_ad.cupy", *(f"agnostic_ad.cupy.{part}" for part in ("linalg", "fft", "random"))):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))  # what the import makes goes away with the test
    monkeypatch.delitem(sys.modules, "agnostic_ad.cupy")
    monkeypatch.setattr(ad, "cupy", None, raising=False)
    cp = importlib.import_module("agnostic_ad.cupy")
    x = array_api_strict.asarray([3.0, 4.0])
    v = ad.Variable(x)
    assert cp.kron(x, x) == cp.linalg.norm(x) == "the library's own"
    assert isinstance(cp.sin(x), type(x)) and cp.float64 is array_api_strict.float64
    (cp.linalg.norm(v) + cp.kron(v, v)[0]).backward()
    assert [float(v.grad[i]) for i in range(2)] == pytest.approx([6.6, 0.8], rel=1e-14)
    assert importlib.import_module("agnostic_ad.cupy.linalg") is cp.linalg


def test_the_table_is_not_empty() -> None:
    assert len(CALLS) > 250 and len(DISCRETE) > 35
