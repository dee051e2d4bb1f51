"""The functional transformations, one by one, against differences, closed forms, torch and jax."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian, kind

import agnostic_ad as ad
from agnostic_ad import trees

Point = namedtuple("Point", ["x", "y"])


class Box:
    """A registered class."""

    def __init__(self, value: Any, label: str) -> None:
        self.value, self.label = value, label


trees.register(Box, lambda b: ((b.value,), b.label), lambda label, children: Box(children[0], label))


def wave(x: Any) -> Any:
    """An array of x's shape."""
    xp = ad.namespace(x)
    return xp.sin(x) * x + xp.exp(-x * x)


def energy(x: Any) -> Any:
    """A number from a vector, with a full Hessian."""
    xp = ad.namespace(x)
    return xp.sum(xp.sin(x)) * xp.sum(x * x) + xp.sum(x[1:] * x[:-1] ** 2)


def tangle(x: Any) -> Any:
    """A vector of another length from a vector."""
    xp = ad.namespace(x)
    return xp.concat([x[:2] * xp.sum(x), xp.exp(x[-1:]) * x[0], xp.reshape(xp.sum(xp.sin(x) * x), (1,)), x[::-1] ** 2])


X = np.asarray([0.3, -1.2, 0.7, 2.0])
RNG = np.random.default_rng(3)


# --- grad ------------------------------------------------------------------------------------------------------------------------------
def test_grad_against_differences() -> None:
    assert_close(ad.grad(energy)(X), jacobian(energy, X))


def test_grad_of_a_python_number_is_a_0d_float64() -> None:
    g = ad.grad(lambda x: x**3)(2)
    assert isinstance(g, np.ndarray) and g.shape == () and g.dtype == np.float64
    assert g == 12.0


def test_grad_of_a_complex_number_is_a_0d_complex128() -> None:
    g = ad.grad(lambda z: ad.namespace(z).real(z * ad.namespace(z).conj(z)))(1 + 2j)
    assert g.dtype == np.complex128 and g.shape == ()
    assert_exact(g, 2 + 4j)


@pytest.mark.parametrize("scalar", [np.float64(2.0), np.float32(2.0), np.asarray(2.0)])
def test_grad_of_a_numpy_scalar(scalar: Any) -> None:
    g = ad.grad(lambda x: x**3)(scalar)
    assert isinstance(g, np.ndarray) and g.shape == () and g.dtype == scalar.dtype
    assert g == 12.0


@pytest.mark.parametrize("number", [2, True])
def test_integers_and_booleans_count_as_float64(number: Any) -> None:
    assert ad.grad(lambda x: x * x)(number).dtype == np.float64


def test_grad_of_arrays_with_one_element_of_any_shape() -> None:
    g = ad.grad(lambda x: x * x)(np.asarray([[3.0]]))
    assert_exact(g, [[6.0]])


def test_grad_of_an_empty_array() -> None:
    g = ad.grad(lambda x: ad.namespace(x).sum(x * x))(np.zeros((0, 3)))
    assert g.shape == (0, 3) and g.dtype == np.float64


def test_grad_of_an_output_that_does_not_depend_on_the_input() -> None:
    assert_exact(ad.grad(lambda x: np.asarray(3.0))(X), np.zeros(4))
    assert_exact(ad.grad(lambda x: 3.0)(X), np.zeros(4))
    assert_exact(ad.grad(lambda x: ad.namespace(x).zeros(()))(X), np.zeros(4))
    value, g = ad.value_and_grad(lambda x, y: ad.namespace(y).sum(y), argnums=(0, 1))(X, X + 1)
    assert_exact(g[0], np.zeros(4))
    assert_exact(g[1], np.ones(4))


def test_grad_of_the_identity_and_of_one_argument_returned() -> None:
    assert_exact(ad.grad(lambda x: x)(2.0), 1.0)
    assert [float(g) for g in ad.grad(lambda x, y: y, argnums=(0, 1))(2.0, 3.0)] == [0.0, 1.0]


def test_a_gradient_is_memory_of_its_own() -> None:
    x, y = np.ones(3), np.ones(3)
    gx, gy = ad.grad(lambda x, y: ad.namespace(x).sum(x + y), argnums=(0, 1))(x, y)
    assert not np.shares_memory(gx, gy) and not np.shares_memory(gx, x)
    gx += 1.0
    assert_exact(gy, np.ones(3))


@pytest.mark.parametrize("argnums", [1, -1, -2, (0, 2), (2, 0), [1], (-1, 0), (1,)])
def test_argnums(argnums: Any) -> None:
    def f(a: Any, b: Any, c: Any) -> Any:
        return a * a * b + b * c**3

    args = (2.0, 3.0, 5.0)
    partials = [2 * 2 * 3.0, 4.0 + 125.0, 3.0 * 3 * 25]
    got = ad.grad(f, argnums=argnums)(*args)
    if isinstance(argnums, int):
        assert_exact(got, partials[argnums])
    else:
        assert isinstance(got, tuple) and len(got) == len(argnums)
        for g, n in zip(got, argnums):
            assert_exact(g, partials[n])


def test_arguments_outside_argnums_may_be_anything() -> None:
    def f(x: Any, how: str, times: int, flag: bool, nothing: None, mask: Any, options: Any) -> Any:
        assert how == "twice" and times == 3 and flag is True and nothing is None and options == {"a": object}
        xp = ad.namespace(x)
        return xp.sum(xp.where(mask, x * times, x))

    mask = np.asarray([True, False])
    assert_exact(ad.grad(f)(np.ones(2), "twice", 3, True, None, mask, {"a": object}), [3.0, 1.0])


def test_keywords_are_passed_on_and_not_differentiated() -> None:
    def f(x: Any, *, scale: Any, mode: str = "no") -> Any:
        assert mode == "yes"
        return ad.namespace(x).sum(x * scale)

    assert_exact(ad.grad(f)(np.ones(2), scale=np.asarray([2.0, 3.0]), mode="yes"), [2.0, 3.0])


def test_integer_arrays_outside_argnums_index() -> None:
    rows = np.asarray([2, 0, 2])
    assert_exact(ad.grad(lambda x, i: ad.namespace(x).sum(x[i]))(np.ones(3), rows), [1.0, 0.0, 2.0])


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: (a, b),
        lambda a, b: [a, b],
        lambda a, b: {"one": a, "two": b},
        lambda a, b: OrderedDict(one=a, two=b),
        lambda a, b: Point(a, b),
        lambda a, b: {"deep": [(a, None), Point({"x": b}, None)]},
        lambda a, b: Box((a, b), "label"),
        lambda a, b: Point(Box(a, "p"), Box(b, "q")),
    ],
)
def test_gradients_have_the_structure_of_the_argument(make: Callable[[Any, Any], Any]) -> None:
    def f(tree: Any) -> Any:
        a, b = trees.leaves(tree)
        return ad.namespace(a).sum(a * a) * b

    tree = make(np.asarray([1.0, 2.0]), np.asarray(3.0))
    g = ad.grad(f)(tree)
    assert type(g) is type(tree)
    assert trees.flatten(g)[1] == trees.flatten(tree)[1]
    ga, gb = trees.leaves(g)
    assert_exact(ga, [6.0, 12.0])
    assert_exact(gb, 5.0)


def test_an_empty_tree_as_an_argument() -> None:
    assert ad.grad(lambda p, x: x * x, argnums=(0, 1))({}, 3.0)[0] == {}
    assert ad.grad(lambda p, x: x * x, argnums=(0, 1))(None, 3.0)[0] is None


def test_numbers_in_a_tree() -> None:
    g = ad.grad(lambda p: p["w"] * p["b"])({"w": 2.0, "b": 3})
    assert float(g["w"]) == 3.0 and float(g["b"]) == 2.0


def test_has_aux() -> None:
    def f(x: Any) -> Any:
        y = x * x
        return ad.namespace(x).sum(y), {"squares": y, "note": "as it is", "none": None, "n": 3}

    g, aux = ad.grad(f, has_aux=True)(X)
    assert_exact(g, 2 * X)
    assert type(aux["squares"]) is np.ndarray and aux["note"] == "as it is" and aux["none"] is None and aux["n"] == 3
    assert_exact(aux["squares"], X * X)
    (value, aux), g = ad.value_and_grad(f, has_aux=True)(X)
    assert_exact(value, np.sum(X * X))
    assert_exact(aux["squares"], X * X)


def test_value_and_grad_gives_raw_arrays() -> None:
    value, g = ad.value_and_grad(energy)(X)
    assert type(value) is np.ndarray and type(g) is np.ndarray
    assert_exact(value, energy(X))


def test_functions_keep_their_name_and_text() -> None:
    for transformed in (
        ad.grad(energy),
        ad.value_and_grad(energy),
        ad.vmap(energy),
        ad.jacrev(energy),
        ad.jacfwd(energy),
        ad.checkpoint(energy),
    ):
        assert transformed.__name__ == "energy" and transformed.__doc__ == energy.__doc__


def test_methods_and_callables_as_functions() -> None:
    class Model:
        scale = 3.0

        def loss(self, x: Any) -> Any:
            return self.scale * x * x

        def __call__(self, x: Any) -> Any:
            return self.loss(x)

    assert_exact(ad.grad(Model().loss)(2.0), 12.0)
    assert_exact(ad.grad(Model())(2.0), 12.0)
    assert_exact(ad.value_and_grad(Model())(2.0)[1], 12.0)


# --- library, dtype, device --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_library_and_dtype_stay(backend: support.Backend, dtype: str) -> None:
    if dtype == "float32" and backend.name in ("jax", "dask"):
        pytest.skip("seconds of compilation, or of graph building; the next test has float32 everywhere")
    x = backend.asarray([0.3, -1.2, 0.7], dtype)
    want = kind(x)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    value, g = ad.value_and_grad(energy)(x)
    reference = backend.numpy(x).astype("float64")
    assert kind(value) == kind(g) == want
    assert type(g) is type(x)
    assert_close(backend.numpy(g), ad.grad(energy)(reference), rtol=tolerance, atol=tolerance)
    y, pullback = ad.vjp(wave, x)
    assert kind(y) == kind(pullback(y)[0]) == want
    y, t = ad.jvp(wave, (x,), (x,))
    assert kind(y) == kind(t) == want
    y, f_jvp = ad.linearize(wave, x)
    assert kind(f_jvp(x)) == want
    for jac in (ad.jacfwd, ad.jacrev, ad.jacobian):
        j = jac(tangle)(x)
        assert kind(j) == want
        assert_close(backend.numpy(j), jacobian(tangle, reference), rtol=max(tolerance, 1e-8), atol=max(tolerance, 1e-8))
    h = ad.hessian(energy)(x)
    assert kind(h) == want
    assert_close(backend.numpy(h), ad.hessian(energy)(reference), rtol=tolerance * 10, atol=tolerance * 10)
    (p,) = ad.hvp(energy, (x,), (x,))
    assert kind(p) == want
    assert_close(backend.numpy(p), backend.numpy(h) @ backend.numpy(x), rtol=tolerance * 100, atol=tolerance * 100)
    rows = backend.compat.stack([x, x * 2])
    assert kind(ad.vmap(energy)(rows)) == kind(ad.vmap(ad.grad(energy))(rows)) == want
    assert kind(ad.grad(ad.checkpoint(energy))(x)) == want


def test_python_numbers_do_not_promote_float32(backend: support.Backend) -> None:
    x = backend.asarray([0.5, 1.5], "float32")

    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        return xp.sum(2.0 * xp.sin(3 * x) / 7 - 1.5 + x**2 + 2**x + xp.maximum(x, xp.zeros_like(x)) * math.pi)

    value, g = ad.value_and_grad(f)(x)
    assert kind(value) == kind(g) == kind(x)
    assert kind(ad.hessian(f)(x)) == kind(x)


def test_each_gradient_has_the_dtype_of_its_argument() -> None:
    a, b = np.ones(2, "float32"), np.full(2, 3.0)
    ga, gb = ad.grad(lambda a, b: ad.namespace(a, b).sum(a * b), argnums=(0, 1))(a, b)
    assert ga.dtype == np.float32 and gb.dtype == np.float64
    assert_exact(ga, [3.0, 3.0])
    (ha, _), (_, hb) = ad.hessian(lambda a, b: ad.namespace(a, b).sum(a * a * b), argnums=(0, 1))(a, b)
    assert ha.dtype == np.float32
    _, t = ad.jvp(lambda a, b: a * b, (a, b), (a, b))
    assert t.dtype == np.float64


def test_a_number_beside_arrays_belongs_to_their_library(backend: support.Backend) -> None:
    x = backend.asarray([1.0, 2.0])
    gx, gs = ad.grad(lambda x, s: ad.namespace(x).sum(x * s), argnums=(0, 1))(x, 3.0)
    assert type(gs) is type(x) and kind(gs) == kind(x)
    assert_exact(backend.numpy(gs), 3.0)
    assert_exact(backend.numpy(ad.grad(lambda s, x: ad.namespace(s, x).sum(s * x))(3.0, x)), 3.0)


# --- Variables as arguments, and around ----------------------------------------------------------------------------------------------
def test_variables_give_connected_variables() -> None:
    x = ad.Variable(X)
    g = ad.grad(energy)(x)
    assert isinstance(g, ad.Variable) and g.requires_grad
    ad.namespace(g).sum(g * g).backward()
    h = ad.hessian(energy)(X)
    assert_close(x.grad, 2 * h @ ad.grad(energy)(X))


def test_variables_that_do_not_require_grad_give_variables() -> None:
    g = ad.grad(energy)(ad.Variable(X, requires_grad=False))
    assert isinstance(g, ad.Variable) and not g.requires_grad


def test_value_and_grad_of_a_variable_connects_both() -> None:
    x = ad.Variable(X)
    value, g = ad.value_and_grad(energy)(x)
    (value + ad.namespace(g).sum(g)).backward()
    assert_close(x.grad, ad.grad(energy)(X) + ad.hessian(energy)(X).sum(axis=0))


@pytest.mark.parametrize("transform", ["vjp", "jvp", "linearize", "jacfwd", "jacrev", "hvp", "vmap", "checkpoint"])
def test_every_transformation_of_a_variable_is_connected(transform: str) -> None:
    def run(x: Any) -> Any:
        ones = x * 0 + 1
        if transform == "vjp":
            return ad.vjp(wave, x)[1](ones)[0]
        if transform == "jvp":
            return ad.jvp(wave, (x,), (ones,))[1]
        if transform == "linearize":
            return ad.linearize(wave, x)[1](ones)
        if transform == "hvp":
            return ad.hvp(energy, (x,), (ones,))[0]
        if transform == "vmap":
            return ad.vmap(wave)(x)
        if transform == "checkpoint":
            return ad.checkpoint(wave)(x)
        return getattr(ad, transform)(tangle)(x)

    x = ad.Variable(X)
    y = run(x)
    assert isinstance(y, ad.Variable) and y.requires_grad
    ad.namespace(y).sum(y).backward()
    assert_close(x.grad, jacobian(lambda v: np.sum(run(v)), X))


def test_closures_over_variables_stay_connected() -> None:
    w = ad.Variable(np.asarray([2.0, 3.0]))
    x = np.asarray([5.0, 7.0])
    g = ad.grad(lambda x: ad.namespace(x).sum(w * x * x))(x)
    assert isinstance(g, ad.Variable)
    assert_exact(g.detach().numpy(), 2 * np.asarray([2.0, 3.0]) * x)
    g.sum().backward()
    assert_exact(w.grad, 2 * x)


def test_closures_over_variables_in_forward_mode_and_vmap() -> None:
    w = ad.Variable(np.asarray([2.0, 3.0]))
    x = np.asarray([5.0, 7.0])
    _, t = ad.jvp(lambda x: w * x * x, (x,), (np.ones(2),))
    t.sum().backward()
    assert_exact(w.grad, 2 * x)
    w.grad = None
    ad.vmap(lambda row: w * row)(np.ones((3, 2))).sum().backward()
    assert_exact(w.grad, [3.0, 3.0])


# --- vjp -------------------------------------------------------------------------------------------------------------------------------
def test_vjp_of_trees() -> None:
    def f(p: Any, x: Any) -> Any:
        return {"a": p["w"] * x, "b": (p["b"] + x, None)}

    y, pullback = ad.vjp(f, {"w": np.asarray([1.0, 2.0]), "b": np.asarray([3.0, 4.0])}, np.asarray([5.0, 6.0]))
    assert set(y) == {"a", "b"} and y["b"][1] is None
    ct = {"a": np.asarray([1.0, 0.0]), "b": (np.asarray([0.0, 1.0]), None)}
    found = pullback(ct)
    assert isinstance(found, tuple) and len(found) == 2
    assert_exact(found[0]["w"], [5.0, 0.0])
    assert_exact(found[0]["b"], [0.0, 1.0])
    assert_exact(found[1], [1.0, 1.0])


def test_a_pullback_can_be_called_again() -> None:
    _, pullback = ad.vjp(wave, X)
    first, second = pullback(np.ones(4)), pullback(np.ones(4))
    np.testing.assert_array_equal(first[0], second[0])
    assert_exact(pullback(2 * np.ones(4))[0], 2 * first[0])


def test_a_pullback_does_not_change_or_return_its_cotangent() -> None:
    ct = np.ones(3)
    _, pullback = ad.vjp(lambda x, y: x + y, np.ones(3), np.ones(3))
    gx, gy = pullback(ct)
    gx += 1
    assert not np.shares_memory(gx, gy)
    assert_exact(ct, np.ones(3))
    assert_exact(gy, np.ones(3))


def test_vjp_has_aux() -> None:
    y, pullback, aux = ad.vjp(lambda x: (x * x, {"x": x}), X, has_aux=True)
    assert_exact(aux["x"], X)
    assert_exact(pullback(np.ones(4))[0], 2 * X)


def test_vjp_without_dependence_gives_zeros() -> None:
    y, pullback = ad.vjp(lambda x, z: (np.ones(2), z * 1.0), X, np.ones(3))
    gx, gz = pullback((np.ones(2), np.ones(3)))
    assert_exact(gx, np.zeros(4))
    assert_exact(gz, np.ones(3))


def test_vjp_with_integer_output() -> None:
    y, pullback = ad.vjp(lambda x: (ad.namespace(x).argmax(x), x * 2), X)
    assert y[0] == 3
    assert_exact(pullback((np.zeros((), np.int64), np.ones(4)))[0], 2 * np.ones(4))


def test_vjp_of_no_arguments() -> None:
    y, pullback = ad.vjp(lambda: np.asarray(3.0))
    assert float(y) == 3.0 and pullback(np.asarray(1.0)) == ()


# --- jvp, linearize ------------------------------------------------------------------------------------------------------------------------
def test_jvp_against_differences() -> None:
    t = RNG.standard_normal(4)
    y, dy = ad.jvp(tangle, (X,), (t,))
    assert_exact(y, tangle(X))
    assert_close(dy, jacobian(tangle, X) @ t)


def test_jvp_of_trees_and_aux() -> None:
    f = lambda p, x: ({"y": p["w"] * x, "c": np.ones(1)}, x)
    y, t, aux = ad.jvp(f, ({"w": 2.0}, 3.0), ({"w": 1.0}, 10.0), has_aux=True)
    assert_exact(y["y"], 6.0)
    assert_exact(t["y"], 23.0)
    assert_exact(t["c"], [0.0])
    assert_exact(aux, 3.0)
    assert isinstance(t["y"], np.ndarray)


def test_jvp_of_a_constant_is_zero() -> None:
    y, t = ad.jvp(lambda x: np.asarray([1.0, 2.0]), (X,), (X,))
    assert_exact(t, [0.0, 0.0])
    _, t = ad.jvp(lambda x: ad.namespace(x).sum(x > 0), (X,), (X,))
    assert float(t) == 0.0


def test_jvp_accepts_lists() -> None:
    assert float(ad.jvp(lambda x: x * x, [3.0], [1.0])[1]) == 6.0


def test_linearize_evaluates_once() -> None:
    calls = []

    def f(p: Any, x: Any) -> Any:
        calls.append(1)
        return {"y": wave(x) * p, "n": p * 2}

    y, f_jvp = ad.linearize(f, np.asarray(2.0), X)
    for t in (np.ones(4), RNG.standard_normal(4)):
        got = f_jvp(np.asarray(0.5), t)
        want = ad.jvp(lambda p, x: {"y": wave(x) * p, "n": p * 2}, (np.asarray(2.0), X), (np.asarray(0.5), t))[1]
        assert_close(got["y"], want["y"], 1e-13, 1e-13)
        assert_close(got["n"], want["n"], 1e-13, 1e-13)
    assert len(calls) == 1


def test_linearize_with_integer_and_constant_outputs() -> None:
    y, f_jvp = ad.linearize(lambda x: (ad.namespace(x).argmax(x), x * x, np.ones(2)), X)
    n, t, c = f_jvp(np.ones(4))
    assert_exact(t, 2 * X)
    assert_exact(c, np.zeros(2))
    assert float(n) == 0.0


# --- Jacobians ---------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["jacfwd", "jacrev", "jacobian"])
class TestJacobians:
    def test_vector(self, name: str) -> None:
        assert_close(getattr(ad, name)(tangle)(X), jacobian(tangle, X))

    def test_matrix_to_matrix(self, name: str) -> None:
        a = RNG.standard_normal((2, 3))
        f = lambda x: ad.namespace(x).sin(x) @ x.T * x[0, 1]
        got = getattr(ad, name)(f)(a)
        assert got.shape == (2, 2, 2, 3)
        assert_close(got, jacobian(f, a))

    def test_0d_in_and_out(self, name: str) -> None:
        got = getattr(ad, name)(lambda x: x**3)(2.0)
        assert got.shape == ()
        assert_exact(got, 12.0)

    def test_argnums(self, name: str) -> None:
        f = lambda a, b: a * b * b
        a, b = np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0])
        assert_exact(getattr(ad, name)(f, argnums=1)(a, b), np.diag(2 * a * b))
        assert_exact(getattr(ad, name)(f, argnums=-1)(a, b), np.diag(2 * a * b))
        ja, jb = getattr(ad, name)(f, argnums=(0, 1))(a, b)
        assert_exact(ja, np.diag(b * b))
        assert_exact(jb, np.diag(2 * a * b))
        (only,) = getattr(ad, name)(f, argnums=(0,))(a, b)
        assert_exact(only, np.diag(b * b))

    def test_trees(self, name: str) -> None:
        f = lambda p, k: {"u": p["a"] * p["b"], "v": [ad.namespace(p["a"]).sum(p["a"]) * k]}
        p = {"a": np.asarray([1.0, 2.0]), "b": np.asarray(3.0)}
        j = getattr(ad, name)(f)(p, 2)
        assert_exact(j["u"]["a"], 3 * np.eye(2))
        assert_exact(j["u"]["b"], [1.0, 2.0])
        assert_exact(j["v"][0]["a"], [2.0, 2.0])
        assert_exact(j["v"][0]["b"], 0.0)

    def test_has_aux(self, name: str) -> None:
        j, aux = getattr(ad, name)(lambda x: (x * x, {"cube": x**3, "s": "text"}), has_aux=True)(X)
        assert_exact(j, np.diag(2 * X))
        assert_exact(aux["cube"], X**3)
        assert aux["s"] == "text" and type(aux["cube"]) is np.ndarray

    def test_keywords_and_numbers(self, name: str) -> None:
        assert_exact(getattr(ad, name)(lambda x, *, k: x * k)(X, k=3), 3 * np.eye(4))

    def test_empty(self, name: str) -> None:
        assert getattr(ad, name)(lambda x: x * 2)(np.zeros(0)).shape == (0, 0)
        assert getattr(ad, name)(lambda x: x[:0])(X).shape == (0, 4)
        assert getattr(ad, name)(lambda x: ad.namespace(x).sum(x))(np.zeros((0, 2))).shape == (0, 2)

    def test_independent_outputs_are_zeros(self, name: str) -> None:
        assert_exact(getattr(ad, name)(lambda x: np.ones(2))(X), np.zeros((2, 4)))
        j = getattr(ad, name)(lambda a, b: (a * 2, b * 3), argnums=(0, 1))(X, X)
        assert_exact(j[0][1], np.zeros((4, 4)))
        assert_exact(j[1][1], 3 * np.eye(4))

    def test_float32(self, name: str) -> None:
        assert getattr(ad, name)(tangle)(X.astype("float32")).dtype == np.float32

    def test_mixed_dtypes(self, name: str) -> None:
        a, b = np.ones(2, "float32"), np.ones(3)
        ja, jb = getattr(ad, name)(lambda a, b: ad.namespace(a, b).sum(a) * b, argnums=(0, 1))(a, b)
        assert ja.shape == (3, 2) and jb.shape == (3, 3) and jb.dtype == np.float64

    def test_complex_is_refused_unless_holomorphic(self, name: str) -> None:
        z = np.asarray([1 + 2j, -0.5j])
        with pytest.raises(TypeError, match=rf"{'jacrev' if name == 'jacobian' else name}.*complex128.*holomorphic=True"):
            getattr(ad, name)(lambda z: z * z)(z)
        assert_exact(getattr(ad, name)(lambda z: z * z * z, holomorphic=True)(z), np.diag(3 * z * z))
        with pytest.raises(TypeError, match="holomorphic=True is for functions of complex arrays"):
            getattr(ad, name)(lambda x: x * x, holomorphic=True)(X)

    def test_a_real_function_of_complex_arrays_is_refused(self, name: str) -> None:
        with pytest.raises(TypeError, match="holomorphic=True"):
            getattr(ad, name)(lambda z: ad.namespace(z).abs(z))(np.asarray([1 + 2j]))


@pytest.mark.parametrize("backend", support.params("torch", "jax"))
def test_jacobians_against_the_library_itself(backend: support.Backend) -> None:
    a = RNG.standard_normal((2, 3))

    def f(xp: Any, x: Any) -> Any:
        return xp.tanh(x @ x.T) * xp.sum(x * x)

    ours = ad.jacrev(lambda x: f(ad.namespace(x), x))(backend.asarray(a))
    if backend.name == "torch":
        import torch

        theirs = torch.func.jacrev(lambda x: f(torch, x))(torch.from_numpy(a))
    else:
        import jax

        theirs = jax.jacrev(lambda x: f(jax.numpy, x))(a)
    assert_close(backend.numpy(ours), backend.numpy(theirs), 1e-12, 1e-12)


# --- second order ----------------------------------------------------------------------------------------------------------------------------
def test_hessian_against_differences() -> None:
    h = ad.hessian(energy)(X)
    assert_close(h, jacobian(lambda x: ad.grad(energy)(x), X))
    assert_close(h, h.T, 1e-14, 1e-14)


def test_hessian_of_trees() -> None:
    f = lambda p: ad.namespace(p["a"]).sum(p["a"] ** 2) * p["b"] ** 2
    h = ad.hessian(f)({"a": np.asarray([1.0, 2.0]), "b": np.asarray(3.0)})
    assert_exact(h["a"]["a"], 18 * np.eye(2))
    assert_exact(h["a"]["b"], [12.0, 24.0])
    assert_exact(h["b"]["a"], [12.0, 24.0])
    assert_exact(h["b"]["b"], 10.0)


def test_hessian_of_argnums() -> None:
    f = lambda a, b: ad.namespace(a, b).sum(a * a * b)
    a, b = np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0])
    (haa, hab), (hba, hbb) = ad.hessian(f, argnums=(0, 1))(a, b)
    assert_exact(haa, np.diag(2 * b))
    assert_exact(hab, np.diag(2 * a))
    assert_exact(hba, np.diag(2 * a))
    assert_exact(hbb, np.zeros((2, 2)))
    assert_exact(ad.hessian(f, argnums=-2)(a, b), np.diag(2 * b))


def test_hessian_of_a_vector_function() -> None:
    h = ad.hessian(lambda x: x**3)(np.asarray([1.0, 2.0]))
    want = np.zeros((2, 2, 2))
    want[0, 0, 0], want[1, 1, 1] = 6.0, 12.0
    assert_exact(h, want)


def test_hessian_has_aux() -> None:
    h, aux = ad.hessian(lambda x: (ad.namespace(x).sum(x**3), {"x": x}), has_aux=True)(X)
    assert_exact(h, np.diag(6 * X))
    assert_exact(aux["x"], X)
    assert type(aux["x"]) is np.ndarray


def test_hessian_of_linear_and_constant_functions_is_zero() -> None:
    assert_exact(ad.hessian(lambda x: ad.namespace(x).sum(3 * x))(X), np.zeros((4, 4)))
    assert_exact(ad.hessian(lambda x: np.asarray(3.0))(X), np.zeros((4, 4)))


def test_hvp_in_the_structure_of_the_primals() -> None:
    v = RNG.standard_normal(4)
    (got,) = ad.hvp(energy, (X,), (v,))
    assert_close(got, ad.hessian(energy)(X) @ v, 1e-12, 1e-12)
    f = lambda p, y: ad.namespace(y).sum(p["a"] ** 2 * y**2)
    found = ad.hvp(f, ({"a": np.asarray([1.0, 2.0])}, np.asarray([3.0, 4.0])), ({"a": np.ones(2)}, np.zeros(2)))
    assert isinstance(found, tuple) and len(found) == 2
    assert_exact(found[0]["a"], [18.0, 32.0])
    assert_exact(found[1], [12.0, 32.0])


def test_third_derivative() -> None:
    third = ad.grad(ad.grad(ad.grad(lambda x: ad.namespace(x).sin(x) * x + x)))
    x = 0.7
    assert_close(third(x), -3 * math.sin(x) - x * math.cos(x), 1e-13, 1e-13)


# --- vmap ------------------------------------------------------------------------------------------------------------------------------------
def test_vmap_is_a_loop() -> None:
    a = RNG.standard_normal((3, 4))
    assert_exact(ad.vmap(energy)(a), [energy(r) for r in a])
    assert_exact(ad.vmap(tangle)(a), np.stack([tangle(r) for r in a]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("out", [0, 1, -1, -2])
def test_vmap_axes(axis: int, out: int) -> None:
    a = RNG.standard_normal((2, 3, 4))
    f = lambda m: ad.namespace(m).cumulative_sum(m, axis=0) * m[0, 0]
    want = np.stack([f(m) for m in np.moveaxis(a, axis, 0)], axis=out)
    assert_exact(ad.vmap(f, in_axes=axis, out_axes=out)(a), want)


def test_vmap_axes_of_several_arguments() -> None:
    a, b, c = RNG.standard_normal((3, 4)), RNG.standard_normal((4, 3)), RNG.standard_normal(4)
    got = ad.vmap(lambda a, b, c: a * b + c, in_axes=(0, 1, None))(a, b, c)
    assert_exact(got, a * b.T + c)
    assert_exact(ad.vmap(lambda a, b, c: a * b + c, in_axes=[0, -1, None], out_axes=1)(a, b, c), (a * b.T + c).T)


def test_vmap_axes_as_trees() -> None:
    p = {"w": RNG.standard_normal((2, 3)), "b": RNG.standard_normal(3)}
    x = RNG.standard_normal((5, 2))
    got = ad.vmap(lambda p, x: {"y": x @ p["w"] + p["b"], "n": (x * 2, None)}, in_axes=(None, 0), out_axes={"y": 1, "n": 0})(p, x)
    assert_exact(got["y"], (x @ p["w"] + p["b"]).T)
    assert_exact(got["n"][0], 2 * x)
    assert got["n"][1] is None
    q = {"w": np.stack([p["w"]] * 5, axis=2), "b": p["b"]}
    got = ad.vmap(lambda p, x: x @ p["w"] + p["b"], in_axes=({"w": 2, "b": None}, 0))(q, x)
    assert_close(got, x @ p["w"] + p["b"], 1e-14, 1e-14)
    got = ad.vmap(lambda pair: pair[0] * pair[1], in_axes=((0, None),))((x, x[0]))
    assert_exact(got, x * x[0])


def test_vmap_with_none_for_what_is_no_array() -> None:
    def f(x: Any, how: str, nothing: None) -> Any:
        assert how == "so" and nothing is None
        return x * 2

    assert_exact(ad.vmap(f, in_axes=(0, None, None))(X, "so", None), 2 * X)


def test_vmap_of_constant_outputs() -> None:
    a = np.ones((3, 2))
    assert_exact(ad.vmap(lambda r: 5.0)(a), [5.0] * 3)
    assert_exact(ad.vmap(lambda r: np.arange(2.0))(a), np.tile(np.arange(2.0), (3, 1)))
    assert_exact(ad.vmap(lambda r: ad.namespace(r).zeros((2,)), out_axes=1)(a), np.zeros((2, 3)))
    assert_exact(ad.vmap(lambda r: np.arange(2.0), out_axes=None)(a), np.arange(2.0))
    got = ad.vmap(lambda r, w: (r.sum(), w), in_axes=(0, None), out_axes=(0, None))(a, np.arange(4.0))
    assert_exact(got[1], np.arange(4.0))


def test_vmap_of_size_0_and_1() -> None:
    assert ad.vmap(energy)(np.zeros((0, 4))).shape == (0,)
    assert_exact(ad.vmap(energy)(X[None]), [energy(X)])
    assert ad.vmap(lambda r: r @ r)(np.zeros((0, 4))).shape == (0,)


def test_vmap_sees_shapes_without_the_axis() -> None:
    def f(x: Any) -> Any:
        assert x.shape == (4,) and x.ndim == 1 and len(x) == 4 and x.size == 4 and x.dtype == np.float64
        return x[0]

    ad.vmap(f)(np.zeros((3, 4)))


def test_vmap_keywords_are_passed_on_whole() -> None:
    assert_exact(ad.vmap(lambda x, *, w: x * w)(np.ones((3, 2)), w=np.asarray([1.0, 2.0])), np.tile([1.0, 2.0], (3, 1)))


def test_vmap_indexing_by_a_batched_integer() -> None:
    table, rows = RNG.standard_normal((5, 2)), np.asarray([4, 0, 4])
    assert_exact(ad.vmap(lambda i: ad.namespace(i).asarray(table)[i])(rows), table[rows])
    assert_exact(ad.vmap(lambda i: ad.namespace(i).asarray(table)[i, 1])(rows), table[rows, 1])
    assert_exact(ad.vmap(lambda t, i: t[i])(np.stack([table, 2 * table, table]), rows), np.stack([table[4], 2 * table[0], table[4]]))


def test_vmap_of_a_python_function_with_setitem() -> None:
    def f(x: Any) -> Any:
        y = ad.namespace(x).zeros((3,))
        y[1] = x[0]
        y[2:] = x[1:]
        y += 1
        return y

    a = RNG.standard_normal((4, 2))
    assert_exact(ad.vmap(f)(a), np.stack([np.ones(4), a[:, 0] + 1, a[:, 1] + 1], axis=1))


@pytest.mark.parametrize("backend", support.params("jax", "torch"))
def test_vmap_against_the_library_itself(backend: support.Backend) -> None:
    a, w = RNG.standard_normal((4, 3, 2)), RNG.standard_normal((2, 3))

    def f(xp: Any, x: Any, w: Any) -> Any:
        return xp.sum(xp.tanh(x @ w) * xp.exp(x[:, :1]))

    gradient = ad.grad(lambda x, w: f(ad.namespace(x, w), x, w), argnums=1)
    ours = ad.vmap(gradient, in_axes=(0, None), out_axes=-1)(backend.asarray(a), backend.asarray(w))
    if backend.name == "jax":
        import jax

        theirs = jax.vmap(jax.grad(lambda x, w: f(jax.numpy, x, w), argnums=1), in_axes=(0, None), out_axes=-1)(a, w)
    else:
        import torch

        theirs = torch.func.vmap(torch.func.grad(lambda x, w: f(torch, x, w), argnums=1), in_dims=(0, None), out_dims=-1)(
            torch.from_numpy(a), torch.from_numpy(w)
        )
    assert_close(backend.numpy(ours), backend.numpy(theirs), 1e-12, 1e-12)


# --- checkpoint ----------------------------------------------------------------------------------------------------------------------------------
def test_checkpoint_gives_the_same_and_runs_again() -> None:
    calls = []

    def f(x: Any, k: int = 1) -> Any:
        calls.append(1)
        return wave(x) * k

    g = ad.grad(lambda x: ad.namespace(x).sum(ad.checkpoint(f)(x, k=3)))(X)
    assert len(calls) == 2
    assert_exact(g, 3 * ad.grad(lambda x: ad.namespace(x).sum(wave(x)))(X))


def test_checkpoint_of_raw_arrays_is_the_function() -> None:
    assert_exact(ad.checkpoint(wave)(X), wave(X))


def test_checkpoint_of_trees_with_closures_and_define_by_run() -> None:
    w = ad.Variable(np.asarray([2.0, 3.0]))
    x = ad.Variable(np.asarray([5.0, 7.0]))

    @ad.checkpoint
    def f(p: Any) -> Any:
        return {"a": p["x"] * w, "b": p["x"] + 1, "c": "text"}

    y = f({"x": x})
    assert y["c"] == "text"
    (y["a"].sum() + (y["b"] * y["b"]).sum()).backward()
    assert_exact(w.grad, [5.0, 7.0])
    assert_exact(x.grad, [2.0 + 12, 3.0 + 16])


def test_checkpoint_in_a_chain() -> None:
    block = ad.checkpoint(lambda x: ad.namespace(x).sin(x) * 1.1 + x)

    def f(x: Any, step: Any) -> Any:
        for _ in range(5):
            x = step(x)
        return ad.namespace(x).sum(x)

    assert_close(ad.grad(lambda x: f(x, block))(X), ad.grad(lambda x: f(x, lambda x: ad.namespace(x).sin(x) * 1.1 + x))(X), 1e-14, 1e-14)
    plain = ad.hessian(lambda x: f(x, lambda x: ad.namespace(x).sin(x) * 1.1 + x))(X)
    assert_close(ad.hessian(lambda x: f(x, block))(X), plain, 1e-13, 1e-13)


# --- gradients -----------------------------------------------------------------------------------------------------------------------------------
def test_gradients_of_variables() -> None:
    x, y = ad.Variable(X), ad.Variable(X + 1)
    z = x * y
    found = ad.gradients(z.sum(), (x, y))
    assert isinstance(found, tuple) and all(type(g) is np.ndarray for g in found)
    assert_exact(found[0], X + 1)
    assert_exact(found[1], X)
    assert x.grad is None and y.grad is None


def test_gradients_of_several_outputs_are_summed() -> None:
    x = ad.Variable(X)
    (g,) = ad.gradients([x * x, x * 3], [x], grad_outputs=[np.ones(4), np.full(4, 2.0)])
    assert_exact(g, 2 * X + 6)
    (g,) = ad.gradients([(x * x).sum(), x.sum()], x)
    assert_exact(g, 2 * X + 1)


def test_gradients_with_respect_to_intermediates() -> None:
    x = ad.Variable(X)
    h = x * x
    y = (h * h).sum()
    gh, gx = ad.gradients(y, [h, x])
    assert_exact(gh, 2 * X * X)
    assert_exact(gx, 4 * X**3)


def test_gradients_of_an_output_with_respect_to_itself() -> None:
    x = ad.Variable(2.0)
    y = x * x
    assert float(ad.gradients(y, y)[0]) == 1.0
    assert float(ad.gradients(x, x)[0]) == 1.0


def test_gradients_unused() -> None:
    x, y = ad.Variable(X), ad.Variable(X)
    with pytest.raises(RuntimeError, match=r"inputs \[1\].*allow_unused=True"):
        ad.gradients(x.sum(), [x, y])
    g, none = ad.gradients(x.sum(), [x, y], allow_unused=True)
    assert none is None
    assert_exact(g, np.ones(4))


def test_gradients_create_graph_many_times() -> None:
    x = ad.Variable(1.3)
    y = ad.namespace(x).sin(x) * x**4
    wants = []
    for _ in range(3):
        (y,) = ad.gradients(y, x, create_graph=True)
        assert isinstance(y, ad.Variable)
        wants.append(float(y.detach().numpy()))
    t = 1.3
    s, c = math.sin(t), math.cos(t)
    assert_exact(wants[0], c * t**4 + 4 * s * t**3)
    assert_close(wants[1], -s * t**4 + 8 * c * t**3 + 12 * s * t**2, 1e-13)
    assert_close(wants[2], -c * t**4 - 12 * s * t**3 + 36 * c * t**2 + 24 * s * t, 1e-13)


def test_gradients_retain_graph() -> None:
    x = ad.Variable(X)
    y = (x * x).sum()
    ad.gradients(y, x, retain_graph=True)
    ad.gradients(y, x)
    with pytest.raises(RuntimeError, match=r"retain_graph=True"):
        ad.gradients(y, x)


def test_gradients_does_not_free_what_it_does_not_visit() -> None:
    x, w = ad.Variable(X), ad.Variable(X)
    y = (x * x).sum() + (w * w).sum()
    ad.gradients(y, x)
    h = w * w
    ad.gradients(h.sum(), h)  # stops at h, whose own operation is still to be differentiated
    h.sum().backward()
    assert_exact(w.grad, 2 * X)


def test_gradients_grad_outputs_may_be_variables() -> None:
    x = ad.Variable(X)
    v = ad.Variable(np.ones(4))
    (g,) = ad.gradients(x * x, x, grad_outputs=v, create_graph=True)
    (gv,) = ad.gradients(g.sum(), v)
    assert_exact(gv, 2 * X)
    (g,) = ad.gradients(x * x, x, grad_outputs=[v])
    assert type(g) is np.ndarray


def test_gradients_against_torch() -> None:
    torch = pytest.importorskip("torch")
    a = RNG.standard_normal((3, 3))

    def f(xp: Any, w: Any, x: Any) -> Any:
        return xp.sum(xp.tanh(w @ x) ** 2)

    w, x = ad.Variable(a), ad.Variable(X[:3])
    g = ad.gradients(f(ad.namespace(w), w, x), (w, x), create_graph=True)
    gg = ad.gradients((g[0] ** 2).sum() + (g[1] ** 3).sum(), (w, x))
    tw, tx = torch.tensor(a, requires_grad=True), torch.tensor(X[:3], requires_grad=True)
    tg = torch.autograd.grad(f(torch, tw, tx), (tw, tx), create_graph=True)
    tgg = torch.autograd.grad((tg[0] ** 2).sum() + (tg[1] ** 3).sum(), (tw, tx))
    for ours, theirs in zip((*gg,), tgg):
        assert_close(ours, theirs.detach().numpy(), 1e-11, 1e-11)


# --- stop_gradient ---------------------------------------------------------------------------------------------------------------------------------
def test_stop_gradient_in_every_mode() -> None:
    f = lambda x: x * ad.stop_gradient(x)
    assert_exact(ad.grad(f)(3.0), 3.0)
    assert_exact(ad.jvp(f, (3.0,), (1.0,))[1], 3.0)
    assert_exact(ad.vmap(ad.grad(f))(X), X)
    assert_exact(ad.grad(ad.grad(lambda x: f(x) * x))(3.0), 2.0 * 3.0)
    x = ad.Variable(3.0)
    f(x).backward()
    assert_exact(x.grad, 3.0)
    assert not ad.stop_gradient(x).requires_grad


def test_stop_gradient_stops_every_level() -> None:
    def f(x: Any) -> Any:
        return ad.grad(lambda y: y * ad.stop_gradient(x) + 0 * y)(1.0)

    assert_exact(ad.grad(f)(3.0), 0.0)


def test_stop_gradient_of_trees_and_raw_arrays() -> None:
    tree = ad.stop_gradient({"a": X, "b": (1.0, None, "text")})
    assert tree["a"] is X and tree["b"] == (1.0, None, "text")


# --- complex: PyTorch's convention ---------------------------------------------------------------------------------------------------------------------
Z = np.asarray([1 + 2j, -0.5 + 0.3j, 2 - 1j])
LOSSES = {
    "abs": lambda xp, z: xp.sum(xp.abs(z)),
    "abs squared": lambda xp, z: xp.sum(xp.real(z * xp.conj(z))),
    "real of a power": lambda xp, z: xp.sum(xp.real(z**3)),
    "imag of exp": lambda xp, z: xp.sum(xp.imag(xp.exp(z) * z)),
    "matmul": lambda xp, z: xp.real(xp.sum(xp.reshape(z, (3, 1)) @ xp.reshape(xp.conj(z) * z, (1, 3)))),
    "quotient": lambda xp, z: xp.sum(xp.imag(xp.sin(z) / (z + 2))),
    "real times complex": lambda xp, z: xp.sum(xp.abs(xp.real(z) * z)),
    "log and sqrt": lambda xp, z: xp.sum(xp.real(xp.log(z) * xp.sqrt(z))),
    "tanh": lambda xp, z: xp.sum(xp.abs(xp.tanh(z)) ** 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_complex_gradients_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    f = LOSSES[name]
    tz = torch.tensor(Z, requires_grad=True)
    (theirs,) = torch.autograd.grad(f(torch, tz), tz)
    ours = ad.grad(lambda z: f(ad.namespace(z), z))(Z)
    assert_close(ours, theirs.numpy(), 1e-12, 1e-12)
    v = ad.Variable(Z)
    f(ad.namespace(v), v).backward()
    assert_close(v.grad, theirs.numpy(), 1e-12, 1e-12)
    # and dL/dRe z + i dL/dIm z is what it means
    parts = jacobian(lambda p: f(np, p[0] + 1j * p[1]), np.stack([Z.real, Z.imag]))
    assert_close(ours, parts[0] + 1j * parts[1], 1e-7, 1e-7)


def test_complex_second_derivatives_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    tz = torch.tensor(Z, requires_grad=True)
    (g,) = torch.autograd.grad(LOSSES["imag of exp"](torch, tz), tz, create_graph=True)
    (theirs,) = torch.autograd.grad((g.abs() ** 2).sum(), tz)
    v = ad.Variable(Z)
    (g,) = ad.gradients(LOSSES["imag of exp"](ad.namespace(v), v), v, create_graph=True)
    (ours,) = ad.gradients(ad.namespace(g).sum(ad.namespace(g).abs(g) ** 2), v)
    assert_close(ours, theirs.numpy(), 1e-11, 1e-11)


def test_pullback_is_the_adjoint_of_jvp_for_the_real_inner_product() -> None:
    f = lambda z: ad.namespace(z).exp(z) * ad.namespace(z).conj(z) + ad.namespace(z).abs(z) * 2j
    t, ct = Z[::-1] * 1j + 0.2, Z * (2 - 1j)
    _, moved = ad.jvp(f, (Z,), (t,))
    _, pullback = ad.vjp(f, Z)
    (pulled,) = pullback(ct)
    inner = lambda a, b: np.sum(np.real(np.conj(a) * b))
    assert_close(inner(ct, moved), inner(pulled, t), 1e-12)
    h = 1e-6
    assert_close(moved, (f(Z + h * t) - f(Z - h * t)) / (2 * h), 1e-8, 1e-8)  # second-order differences


def test_real_arguments_of_complex_functions_have_real_gradients() -> None:
    g = ad.grad(lambda x: ad.namespace(x).sum(ad.namespace(x).abs(x * (1 + 2j)) ** 2))(X)
    assert g.dtype == np.float64
    assert_exact(g, 10 * X)
    g = ad.grad(lambda x: ad.namespace(x).sum(ad.namespace(x).real(x * Z[0])))(X.astype("float32"))
    assert g.dtype == np.float32


def test_complex64_stays() -> None:
    g = ad.grad(lambda z: ad.namespace(z).sum(ad.namespace(z).abs(z)))(Z.astype("complex64"))
    assert g.dtype == np.complex64


def test_holomorphic_hessian() -> None:
    h = ad.hessian(lambda z: ad.namespace(z).sum(z**3), holomorphic=True)(Z)
    assert_close(h, np.diag(6 * Z), 1e-13, 1e-13)
    with pytest.raises(TypeError, match="holomorphic=True"):
        ad.hessian(lambda z: ad.namespace(z).sum(z**3))(Z)


# --- functions that change their arguments in place ------------------------------------------------------------------------------------------
def _scaled(x: Any) -> Any:
    x *= 3.0
    x[0] = x[1] * x[2]
    return ad.namespace(x).sum(x * x)


def _scaled_reference(x: Any) -> Any:
    y = 3.0 * x
    return y[1] ** 2 * y[2] ** 2 + np.sum(y[1:] ** 2)


@pytest.mark.parametrize("transform", ["grad", "vjp", "jvp", "linearize", "jacfwd", "jacrev", "checkpoint", "vmap", "variable"])
def test_functions_may_change_their_arguments_in_place(transform: str) -> None:
    want = jacobian(_scaled_reference, X)
    x = X.copy()
    if transform == "grad":
        got = ad.grad(_scaled)(x)
    elif transform == "vjp":
        got = ad.vjp(_scaled, x)[1](np.asarray(1.0))[0]
    elif transform == "jvp":
        got = np.stack([ad.jvp(_scaled, (x,), (e,))[1] for e in np.eye(4)])
    elif transform == "linearize":
        got = np.stack([ad.linearize(_scaled, x)[1](e) for e in np.eye(4)])
    elif transform == "checkpoint":
        got = ad.grad(lambda x: ad.checkpoint(_scaled)(x * 1.0))(x)
    elif transform == "vmap":
        got = ad.vmap(ad.grad(_scaled))(np.stack([x, x]))[1]
    elif transform == "variable":
        v = ad.Variable(x)
        got = ad.grad(_scaled)(v).detach().numpy()
        assert_exact(v.data, X)
    else:
        got = getattr(ad, transform)(_scaled)(x)
    assert_close(got, want)
    assert_exact(x, X)
    assert_close(ad.hessian(_scaled)(x), jacobian(ad.grad(_scaled), X), 1e-7, 1e-7)


def test_a_checkpointed_function_runs_again_from_what_its_arguments_were() -> None:
    x = ad.Variable(X)
    h = x * 1.0
    y = ad.checkpoint(_scaled)(h)
    y.backward(retain_graph=True)
    assert_close(x.grad, jacobian(_scaled_reference, X))
    y.backward()
    assert_close(x.grad, 2 * jacobian(_scaled_reference, X))


def test_jacobians_of_an_empty_tree() -> None:
    for jac in (ad.jacfwd, ad.jacrev):
        assert jac(lambda p: np.ones(2))({}) == {}
