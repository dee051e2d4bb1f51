"""Linear algebra: gradients of torch and jax, Hermitian operands, determinants and norms at special points, errors.

The laws of the operations themselves are in test_ops.py; where vectors have phases, only losses that do not depend on them are differentiated, here.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact
from matrices import LOSSES, from_eigh, gradient, parts, point, solved, torchs, weigh

import agnostic_ad as ad
from agnostic_ad import graph
from agnostic_ad.errors import AxisError
from agnostic_ad.op import TABLE

CASES = [(name, kind) for name in LOSSES for kind in "fc"]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gradients_are_those_of_torch(name: str, kind: str) -> None:
    pytest.importorskip("torch")
    first, second = torchs(name, kind)
    x = point(LOSSES[name][1], kind)

    def half_square(x: Any) -> Any:
        g = gradient(name)(x)
        xp = ad.namespace(g)
        return xp.sum(xp.abs(g) ** 2) / 2

    # rounding: 1e-16 times the condition of a second derivative, which divides by squares of gaps
    assert_close(gradient(name)(x), first, rtol=1e-9, atol=1e-10)
    assert_close(ad.grad(half_square)(x), second, rtol=1e-8, atol=1e-8)
    assert_close(ad.jvp(gradient(name), (x,), (first,))[1], second, rtol=1e-8, atol=1e-8)


# jax refuses these: eigenvectors of general matrices, vectors that complete a basis, wide matrices
NOT_IN_JAX = {"eig", "eig of a stack", "svd, tall and full", "svd, wide and full", "qr, wide", "qr, wide and complete"}


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in NOT_IN_JAX])
def test_gradients_are_those_of_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    loss, shape = LOSSES[name]
    x = point(shape, "c")
    expected = np.conj(np.asarray(jax.grad(lambda x: loss(jax.numpy, x))(jax.numpy.asarray(x))))
    assert_close(gradient(name)(x), expected, rtol=1e-9, atol=1e-10)


# What the laws of test_ops.py cannot draw samples for: complex vectors.
PHASED = ["eigh", "eig", "svd, wide", "svd, tall and full"]


@pytest.mark.parametrize("name", PHASED)
def test_complex_vectors_have_derivatives_where_phases_do_not_matter(name: str, backend: support.Backend) -> None:
    pytest.importorskip("torch")
    first, second = torchs(name, "c")
    x, direction = backend.asarray(point(LOSSES[name][1], "c")), backend.asarray(first)
    assert_close(backend.numpy(gradient(name)(x)), first, rtol=1e-9, atol=1e-10)
    if backend.name != "jax":  # which would compile for half a minute
        assert_close(backend.numpy(ad.jvp(gradient(name), (x,), (direction,))[1]), second, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("backend", support.params(without=("jax",)))  # likewise
@pytest.mark.parametrize("name", PHASED)
def test_complex_vectors_in_batches(name: str, backend: support.Backend) -> None:
    members = [backend.asarray(point(LOSSES[name][1], "c", seed)) for seed in range(2)]
    expected = np.stack([backend.numpy(gradient(name)(x)) for x in members])
    assert_close(backend.numpy(ad.vmap(gradient(name))(backend.compat.stack(members))), expected, rtol=1e-10, atol=1e-10)


# --- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["matmul", "matrix_transpose", "tensordot", "vecdot"])
def test_names_that_the_standard_has_twice_are_one_operation(name: str) -> None:
    assert TABLE[f"linalg.{name}"] is TABLE[name]
    xp, operands = ad.differentiable(np), [point((3, 3), "f")] * (1 if name == "matrix_transpose" else 2)
    assert_exact(getattr(xp.linalg, name)(*operands).data, getattr(np.linalg, name)(*operands))


@pytest.mark.parametrize("name", ["matmul", "tensordot", "vecdot"])
def test_products_of_narrow_integers_stay_narrow(name: str, backend: support.Backend) -> None:
    x = backend.asarray([[200, 3], [4, 5]], dtype="uint8")
    found = getattr(ad.differentiable(backend.xp), name)(ad.Variable(x), x)
    assert found.dtype == x.dtype
    assert_exact(backend.numpy(found.data), getattr(np, name)(*[backend.numpy(x)] * 2))


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("eig", "eigenvalues eigenvectors"),
        ("eigh", "eigenvalues eigenvectors"),
        ("qr", "Q R"),
        ("slogdet", "sign logabsdet"),
        ("svd", "U S Vh"),
    ],
)
def test_several_results_have_names(name: str, fields: str, backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(np.diag([3.0, 2.0])))
    found = getattr(ad.namespace(x).linalg, name)(x)
    assert found._fields == tuple(fields.split())
    assert all(isinstance(part, ad.Variable) for part in found)


def test_capture() -> None:
    def loss(x: Any) -> Any:
        return from_eigh(ad.namespace(x), x + ad.namespace(x).matrix_transpose(x)) + ad.namespace(x).linalg.det(x)

    x, other = point((3, 3), "f"), point((3, 3), "f", 1)
    g = graph.capture(ad.grad(loss), x)
    assert "linalg.eigh" in repr(g) and "linalg.adjugate" in repr(g)
    assert_close(g(other), ad.grad(loss)(other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["eigh", "svd, tall", "qr, tall", "det"])
def test_inside_jit(name: str) -> None:
    jax = pytest.importorskip("jax")
    x = point(LOSSES[name][1], "f")
    assert_close(jax.jit(gradient(name))(jax.numpy.asarray(x)), gradient(name)(x), rtol=1e-10, atol=1e-10)


# --- Hermitian operands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", "fc")
@pytest.mark.parametrize("name", ["cholesky", "eigh", "eigvalsh"])
def test_the_lower_triangle_is_read_and_the_gradient_is_hermitian(name: str, kind: str, backend: support.Backend) -> None:
    x = point((3, 3), kind)
    x = x @ x.conj().T
    spoilt = np.tril(x) + np.triu(np.full((3, 3), 1e3), 1)
    fn = TABLE[f"linalg.{name}"]

    def value(x: Any) -> Any:
        y = fn(x)
        return y[0] if name == "eigh" else y

    assert_close(backend.numpy(value(backend.asarray(spoilt))), backend.numpy(value(backend.asarray(x))), rtol=1e-12, atol=1e-12)
    first, second = (backend.numpy(ad.grad(lambda x: weigh(ad.namespace(x), value(x)))(backend.asarray(given))) for given in (x, spoilt))
    assert_close(second, first, rtol=1e-10, atol=1e-10)
    assert_close(first, first.conj().T, rtol=1e-12, atol=1e-12)


def test_the_upper_factor_is_the_adjoint_of_the_lower(backend: support.Backend) -> None:
    x = point((3, 3), "c")
    spoilt = backend.asarray(np.tril(x @ x.conj().T) + np.triu(np.full((3, 3), 1e3), 1))
    lower, upper = (backend.numpy(TABLE["linalg.cholesky"](spoilt, upper=u)) for u in (False, True))
    assert_close(upper, lower.conj().T, rtol=1e-12, atol=1e-12)


# --- determinants of singular matrices ----------------------------------------------------------------------------------------


def leibniz(xp: Any, x: Any) -> Any:
    """The determinant as the sum over all permutations: a polynomial, which has derivatives everywhere."""
    n = x.shape[-1]
    total: Any = 0.0
    for order in itertools.permutations(range(n)):
        sign = (-1) ** sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        term = sign * x[..., 0, order[0]]
        for i in range(1, n):
            term = term * x[..., i, order[i]]
        total = total + term
    return total


_U, _V = (np.linalg.qr(point((3, 3), "f", seed))[0] for seed in (3, 4))
SINGULAR = {
    "one zero": _U @ np.diag([3.0, 2.0, 0.0]) @ _V,
    "two zeros": _U @ np.diag([3.0, 0.0, 0.0]) @ _V,
    "exactly one zero": np.asarray([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 1.0, 5.0]]),
    "all zero": np.zeros((3, 3)),
    "nearly one zero": _U @ np.diag([3.0, 2.0, 1e-13]) @ _V,
    "equal values, one zero": np.diag([2.0, 2.0, 0.0]),
    "the identity": np.eye(3),
    "complex": (_U + 1j * _V) @ np.diag([3.0, 2.0 + 1j, 0.0]) @ _V,
}


@pytest.mark.parametrize("name", SINGULAR)
def test_determinants_have_exact_derivatives_at_singular_matrices(name: str, backend: support.Backend) -> None:
    x = backend.asarray(SINGULAR[name])
    how = {"holomorphic": True} if name == "complex" else {}
    ours, theirs = (lambda x: ad.namespace(x).linalg.det(x)), (lambda x: leibniz(ad.namespace(x), x))
    first, second = (backend.numpy(ad.jacobian(f, **how)(x)) for f in (ours, theirs))
    assert_close(first, second, rtol=1e-13, atol=1e-13)
    t = backend.asarray(point((3, 3), "c" if name == "complex" else "f", 5))
    for order in (
        lambda f: ad.jvp(ad.jacobian(f, **how), (x,), (t,))[1],
        lambda f: ad.jvp(lambda y: ad.jvp(f, (y,), (t,))[1], (x,), (t,))[1],
        lambda f: ad.jacobian(lambda y: ad.jvp(f, (y,), (t,))[1], **how)(x),
    ):
        assert_close(backend.numpy(order(ours)), backend.numpy(order(theirs)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["the identity", "one zero", "nearly one zero"])
def test_third_derivatives_of_determinants(name: str) -> None:
    """Of matrices that are singular, as long as no two singular values are equal; of others, wherever they are."""
    found, expected = (ad.grad(lambda x, f=f: ad.hvp(f, (x,), (_U,))[0][0, 1])(SINGULAR[name]) for f in (np_det, lambda x: leibniz(np, x)))
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def np_det(x: Any) -> Any:
    return ad.namespace(x).linalg.det(x)


def test_determinants_of_a_stack_of_regular_and_singular_matrices(backend: support.Backend) -> None:
    x = backend.asarray(np.stack([SINGULAR["the identity"], SINGULAR["one zero"], SINGULAR["two zeros"]]))
    found, expected = (
        backend.numpy(ad.grad(lambda x, f=f: weigh(ad.namespace(x), f(ad.namespace(x), x)))(x))
        for f in (lambda xp, x: xp.linalg.det(x), leibniz)
    )
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


# --- norms --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ord", [0, 0.5, 1, 1.5, 2, 3, -1, math.inf, -math.inf])
def test_vector_norms_of_zero_have_slope_zero(ord: float, backend: support.Backend) -> None:
    x, t = backend.asarray([0.0, 0.0]), backend.asarray([1.0, 2.0])

    def norm(x: Any) -> Any:
        return ad.namespace(x).linalg.vector_norm(x, ord=ord)

    with np.errstate(divide="ignore"):  # 0 to a negative power, in the norm itself
        assert_exact(backend.numpy(ad.grad(norm)(x)), [0.0, 0.0])
        assert_exact(backend.numpy(ad.hvp(norm, (x,), (t,))[0]), [0.0, 0.0])
        assert_exact(backend.numpy(ad.jvp(norm, (x,), (t,))[1]), 0.0)


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf])
def test_matrix_norms_of_zero_have_slope_zero(ord: Any, backend: support.Backend) -> None:
    gradient = ad.grad(lambda x: ad.namespace(x).linalg.matrix_norm(x, ord=ord))(backend.asarray(np.zeros((2, 3))))
    assert_exact(backend.numpy(gradient), np.zeros((2, 3)))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (2, 0), (0, 2, 3), (2, 0, 0)], ids=str)
@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, math.inf])
def test_matrix_norms_of_no_numbers_are_zeros(ord: Any, shape: tuple[int, ...], backend: support.Backend) -> None:
    def norm(x: Any) -> Any:
        return ad.namespace(x).linalg.matrix_norm(x, ord=ord)

    value, pull = ad.vjp(norm, backend.asarray(np.zeros(shape)))
    assert_exact(backend.numpy(value), np.zeros(shape[:-2]))
    assert_exact(backend.numpy(*pull(value)), np.zeros(shape))


@pytest.mark.parametrize("name", ["max", "min"])
def test_extremes_along_an_axis_beside_an_empty_one(name: str, backend: support.Backend) -> None:
    value, pull = ad.vjp(lambda x: getattr(ad.namespace(x), name)(x, axis=(1, 2), keepdims=True), backend.asarray(np.zeros((0, 2, 3))))
    assert value.shape == (0, 1, 1)
    assert_exact(backend.numpy(*pull(value)), np.zeros((0, 2, 3)))
    with pytest.raises((ValueError, RuntimeError, IndexError)):
        backend.numpy(getattr(ad.differentiable(backend.xp), name)(backend.asarray(np.zeros((0, 2))), axis=0))


CONTRACTED = ("tensordot", (4, 2, 3), (3, 4, 2), {"axes": ((0, -1), (1, 0))})
SOLVED = [("solve", (3, 2, 2), (2,), {}), ("solve", (1, 2, 2), (3, 2, 4), {}), ("solve", (0, 2, 2), (2,), {})]


@pytest.mark.parametrize(("name", "first", "second", "how"), [CONTRACTED, *SOLVED], ids=str)
def test_two_arrays_of_different_shapes(name: str, first: Any, second: Any, how: Any, backend: support.Backend) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=first), rng.normal(size=second)
    if name == "solve":
        a = a + 4 * np.eye(2)
    expected = getattr(np.linalg, name)(a, b, **how)
    f = functools.partial(getattr(ad.differentiable(backend.xp).linalg, name), **how)
    value, pull = ad.vjp(f, backend.asarray(a), backend.asarray(b))
    assert_close(backend.numpy(value), expected)
    _, reference = ad.vjp(functools.partial(getattr(ad.differentiable(np).linalg, name), **how), a, b)
    for found, wanted in zip(pull(backend.asarray(expected)), reference(expected), strict=True):
        assert_close(backend.numpy(found), wanted)


def test_searchsorted_with_a_sorter(backend: support.Backend) -> None:
    numbers, sorter = np.asarray([2.0, -1.0, 0.5]), np.asarray([1, 2, 0])
    found = ad.differentiable(backend.xp).searchsorted(
        backend.asarray(numbers), backend.asarray(np.asarray([0.0, 0.5, 3.0])), sorter=backend.asarray(sorter)
    )
    assert_exact(backend.numpy(getattr(found, "data", found)), [1, 1, 3])


def test_ties_in_norms_share_equally(backend: support.Backend) -> None:
    def slope(norm: str, x: Any, ord: Any) -> Any:
        return backend.numpy(ad.grad(lambda x: getattr(ad.namespace(x).linalg, norm)(x, ord=ord))(backend.asarray(x)))

    assert_exact(slope("vector_norm", [3.0, -3.0, 1.0], math.inf), [0.5, -0.5, 0.0])
    assert_exact(slope("vector_norm", [3.0, -1.0, 1.0], -math.inf), [0.0, -0.5, 0.5])
    assert_exact(slope("matrix_norm", [[1.0, -2.0], [2.0, 1.0]], math.inf), [[0.5, -0.5], [0.5, 0.5]])
    assert_exact(slope("matrix_norm", np.eye(2), 2), np.eye(2) / 2)
    assert_exact(slope("matrix_norm", np.diag([2.0, 0.0]), "nuc"), np.diag([1.0, 0.0]))


# --- tolerances ---------------------------------------------------------------------------------------------------------------


def test_tolerances_may_be_arrays(backend: support.Backend) -> None:
    x = np.stack([np.diag([1.0, 1e-3]), np.diag([2.0, 1e-3])])
    rtol = np.asarray([1e-2, 1e-4])
    v = ad.Variable(backend.asarray(x))
    xp = ad.namespace(v)
    assert_exact(backend.numpy(xp.linalg.matrix_rank(v, rtol=backend.asarray(rtol)).data), [1, 2])
    assert_exact(backend.numpy(xp.linalg.matrix_rank(v).data), [2, 2])
    found = backend.numpy(xp.linalg.pinv(v, rtol=backend.asarray(rtol)).data)
    assert_close(found, [np.diag([1.0, 0.0]), np.diag([0.5, 1e3])], rtol=1e-12, atol=1e-12)
    mapped = ad.vmap(lambda x, r: ad.namespace(x).linalg.pinv(x, rtol=r))(backend.asarray(x), backend.asarray(rtol))
    assert_close(backend.numpy(mapped), found, rtol=1e-12, atol=1e-12)


# --- errors -------------------------------------------------------------------------------------------------------------------

SQUARE = ["cholesky", "det", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matrix_power", "slogdet", "solve"]
ONE_MATRIX = [*SQUARE, *["diagonal", "matrix_norm", "matrix_rank", "pinv", "qr", "svd", "svdvals", "trace"]]


def call(name: str, x: Any) -> Any:
    more = {"matrix_power": (2,), "solve": (x,)}.get(name, ())
    return getattr(ad.namespace(x).linalg, name)(x, *more)


@pytest.mark.parametrize("name", ONE_MATRIX)
def test_what_is_no_matrix_is_refused(name: str, backend: support.Backend) -> None:
    message = f"^{name} takes a matrix or a stack of matrices; got an array of shape \\(3,\\). Add the axis that is missing, as x\\[:, None\\]\\.$"
    with pytest.raises(ValueError, match=message):
        call(name, ad.Variable(backend.asarray([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("name", SQUARE)
def test_what_is_not_square_is_refused(name: str, backend: support.Backend) -> None:
    with pytest.raises(ValueError, match=f"^{name} takes square matrices; got shape \\(2, 3\\), whose last two sizes differ$"):
        call(name, ad.Variable(backend.asarray(np.ones((2, 3)))))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda xp: xp.linalg.solve(np.eye(2), np.ones(3)),
            ValueError,
            r"solve: matrices of shape \(2, 2\) and right-hand sides of shape \(3,\)",
        ),
        (
            lambda xp: xp.linalg.solve(np.ones((3, 2, 2)), np.ones((3, 2))),
            ValueError,
            r"is written as one of matrices with a column each, b\[\.\.\., None",
        ),
        (lambda xp: xp.linalg.qr(np.eye(2), mode="r"), ValueError, "qr knows the modes 'reduced' and 'complete', not 'r'"),
        (
            lambda xp: xp.linalg.matrix_norm(np.eye(2), ord=3),
            ValueError,
            "matrix_norm knows the orders 'fro', 'nuc', 1, -1, 2, -2, inf and -inf, not 3",
        ),
        (lambda xp: xp.linalg.outer(np.eye(2), np.ones(2)), ValueError, r"outer takes two vectors; got shapes \(2, 2\) and \(2,\)"),
        (
            lambda xp: xp.linalg.cross(np.ones((2, 2)), np.ones((2, 2))),
            ValueError,
            r"cross: vectors have 3 elements along axis -1; got shapes \(2, 2\)",
        ),
        (
            lambda xp: xp.linalg.cross(np.ones((3, 2)), np.ones(3), axis=0),
            ValueError,
            r"cross: axis 0 is another one in shape \(3, 2\) than in \(3,\)",
        ),
        (lambda xp: xp.linalg.cross(np.ones(3), np.ones(3), axis=2), AxisError, "cross: axis 2 is out of bounds"),
        (lambda xp: xp.vecdot(np.ones((2, 3)), np.ones((2, 1))), ValueError, "vecdot: the axis to sum has sizes 3 and 1; .* not broadcast"),
        (lambda xp: xp.vecdot(np.ones(3), np.ones((3, 3)), axis=-2), AxisError, "vecdot: axis -2 is out of bounds"),
        (lambda xp: xp.linalg.vector_norm(np.ones(3), axis=1), AxisError, "linalg.vector_norm: axis 1 is out of bounds"),
        (lambda xp: xp.linalg.inv([[1.0]]), TypeError, "linalg.inv takes arrays; got list"),
    ],
)
def test_operands_that_do_not_fit(call: Callable[[Any], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call(ad.differentiable(np))


def test_the_librarys_own_error_for_a_singular_matrix_passes_through() -> None:
    x = np.ones((2, 2))
    for fn in (parts("inv"), solved(2), lambda xp, x: xp.linalg.slogdet(x).logabsdet):
        with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"), np.errstate(divide="ignore"):
            ad.grad(lambda x, fn=fn: fn(ad.namespace(x), x))(x)
    with pytest.raises(np.linalg.LinAlgError, match="Matrix is not positive definite"):
        ad.grad(lambda x: weigh(ad.namespace(x), ad.namespace(x).linalg.cholesky(x)))(-x)
