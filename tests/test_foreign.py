"""Libraries under the tape that nobody here wrote a backend for, or that are themselves transformations: many digits, masks, Variables, XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.errors import EscapedArrayError, UnsupportedError
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE

X = np.asarray([0.3, -1.2, 0.7])
RNG = np.random.default_rng(0)
A = np.asarray([[1.0, 0.5, -0.3], [0.2, 2.0, 0.7], [-0.1, 0.4, 1.5]])


def broken_laws(name: str, backend: Any) -> list[str]:
    """Say which laws the first samples of an operation break on a library."""
    from agnostic_ad.conformance import catalogue, laws

    found = []
    for call in catalogue.calls(TABLE[name], quick=True):
        for law in ("values_stay", "forward_is_the_derivative", "reverse_is_the_adjoint", "batches_are_loops"):
            try:
                laws.LAWS[law](call, laws.Place(backend))
            except laws.LawBroken as error:
                found.append(f"{call}: {law}: {error}")
    return found


# --- mparray: as many digits as one likes -----------------------------------------------------------------------------------------------
@pytest.fixture
def fifty() -> Any:
    """mparray, with fifty digits."""
    mparray, mpmath = pytest.importorskip("mparray"), pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        yield mparray


def numbers(x: Any) -> Any:
    """The elements of an mparray."""
    return np.ravel(x._data)


def assert_digits(got: Any, want: Any, digits: int = 46) -> None:
    """Assert that mparrays agree in so many decimal digits (relative to the largest element)."""
    assert got.shape == want.shape
    largest = max(map(abs, numbers(want)))
    assert max(abs(g - w) for g, w in zip(numbers(got), numbers(want), strict=True)) <= largest * 10.0**-digits


def differences(f: Callable[[Any], Any], x: Any, direction: Any) -> Any:
    """The derivative of f at x along a direction: central differences with 120 digits, which leave 60."""
    import mpmath

    with mpmath.workdps(120):
        h = mpmath.mpf(10) ** -30
        return (f(x + h * direction) - f(x - h * direction)) / (2 * h)


DIGITS: dict[str, Callable[[Any, Any], Any]] = {
    "functions": lambda xp, x: xp.sum(xp.exp(xp.sin(x) * x) / (1 + x * x)),
    "logarithms": lambda xp, x: xp.sum(xp.log(x * x + 3) * xp.log1p(x * x)),
    "roots": lambda xp, x: xp.sum(xp.sqrt(x * x + 2) + xp.hypot(x, x * x + 1)),
    "powers": lambda xp, x: xp.sum((x * x + 1) ** x + x**3),
    "hyperbolic": lambda xp, x: xp.sum(xp.tanh(x) * xp.cosh(x) + xp.asinh(x) + xp.expm1(x)),
    "angles": lambda xp, x: xp.sum(xp.atan2(x, x * x + 2) + xp.tan(x) - xp.acos(x / 9)),
    "matrices": lambda xp, x: xp.sum((xp.asarray(A) @ x) ** 2) * x[0],
    "statistics": lambda xp, x: xp.mean(x * x) + xp.var(x, correction=1) * xp.std(x * x),
    "products": lambda xp, x: xp.prod(x) + xp.sum(xp.cumulative_sum(x * x) * x),
    "indexing": lambda xp, x: xp.sum(x[::-1] * x[[0, 0, 2]]) + xp.max(x) * xp.min(x),
}


@pytest.mark.parametrize("name", DIGITS)
def test_fifty_digits(name: str, fifty: Any) -> None:
    def f(x: Any) -> Any:
        return DIGITS[name](ad.namespace(x), x)

    x = fifty.asarray(X)
    eye = [fifty.asarray(row) for row in np.eye(3)]
    want = fifty.stack([differences(f, x, e) for e in eye])
    assert_digits(ad.grad(f)(x), want)
    assert_digits(ad.jacfwd(f)(x), want)
    v = ad.Variable(x)
    f(v).backward()
    assert type(v.grad) is type(x)
    assert_digits(v.grad, want)
    assert_digits(ad.vmap(ad.grad(f))(fifty.stack([x, 2 * x]))[0, :], want)
    assert_digits(ad.hessian(f)(x), fifty.stack([differences(ad.grad(f), x, e) for e in eye]), 44)


def test_fifty_digits_in_place(fifty: Any) -> None:
    def f(x: Any) -> Any:
        y = x * 1
        y[1:] *= x[:2]
        y.T[0] = ad.namespace(x).exp(x[2])
        return (y * y).sum()

    x = fifty.asarray(X)
    assert_digits(ad.grad(f)(x), fifty.stack([differences(lambda v: f(ad.Variable(v)).data, x, fifty.asarray(e)) for e in np.eye(3)]))


@pytest.mark.parametrize(
    "name", ["multiply", "divide", "pow", "tanh", "matmul", "sum", "mean", "std", "cumulative_sum", "take", "setitem", "where"]
)
def test_the_laws_hold_over_mparray(name: str, fifty: Any) -> None:
    assert broken_laws(name, backend_of_namespace(fifty)) == []


# --- marray: masks ----------------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def masked() -> Any:
    """marray over NumPy."""
    pytest.importorskip("marray")
    from marray import numpy as masked_numpy

    return masked_numpy


MASK = np.asarray([False, True, False])


def test_gradients_of_masked_arrays_are_those_of_what_is_not_masked(masked: Any) -> None:
    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        return xp.sum(xp.exp(x) * x) + xp.max(x) * xp.sum(x[::-1] * x)

    x = masked.asarray(X, mask=MASK)
    g = ad.grad(f)(x)
    assert type(g) is type(x)
    np.testing.assert_array_equal(g.mask, MASK)
    kept = X[~MASK]
    assert_close(g.data[~MASK], ad.grad(lambda v: f(v))(kept), 1e-14)
    v = ad.Variable(x)
    f(v).backward()
    assert_exact(v.grad.data[~MASK], g.data[~MASK])
    assert_close(ad.jvp(f, (x,), (masked.asarray(np.ones(3)),))[1].data, np.sum(g.data[~MASK]), 1e-14)
    batch = ad.vmap(ad.grad(f))(masked.asarray(np.stack([X, X]), mask=np.stack([MASK, ~MASK])))
    assert_exact(batch.data[0, ~MASK], g.data[~MASK])
    np.testing.assert_array_equal(batch.mask, np.stack([MASK, ~MASK]))


def test_a_mask_from_data_lets_a_model_train_on_what_is_known(masked: Any) -> None:
    known = RNG.random((40, 3)) < 0.7
    rows = RNG.standard_normal((40, 3))
    targets = masked.asarray(rows @ A, mask=~known)
    w = ad.Variable(masked.asarray(np.zeros((3, 3))))
    for _ in range(200):
        error = ad.namespace(w).matmul(masked.asarray(rows), w) - targets  # marray's own @ does not give way
        w.grad = None
        (error * error).sum().backward()
        with ad.no_grad():
            w -= 0.01 * w.grad
    assert not w.data.mask.any()
    assert_close(w.data.data, A, 1e-3, 1e-3)  # 200 steps of gradient descent


def test_functions_from_scipy_keep_the_mask(masked: Any) -> None:
    x = masked.asarray(X, mask=MASK)
    g = ad.grad(lambda v: ad.namespace(v).special.gammaln(v + 3).sum())(x)
    digamma = pytest.importorskip("scipy.special").digamma
    np.testing.assert_array_equal(g.mask, MASK)
    assert_close(g.data[~MASK], digamma(X + 3)[~MASK], 1e-14)


@pytest.mark.parametrize("name", ["mean", "var", "std"])
def test_what_counts_elements_is_refused_over_masks(name: str, masked: Any) -> None:
    x = masked.asarray(X, mask=MASK)
    with pytest.raises(UnsupportedError, match=rf"{name} of masked arrays divides by how many elements are not masked.*xp\.sum"):
        ad.grad(lambda v: getattr(ad.namespace(v), name)(v))(x)


@pytest.mark.parametrize(
    "name", ["multiply", "tanh", "sum", "take", "concat", "where", "permute_dims", "setitem", "broadcast_to", "to_device"]
)
def test_the_laws_hold_over_marray(name: str, masked: Any) -> None:
    assert broken_laws(name, backend_of_namespace(masked)) == []


# --- Variables over Variables ---------------------------------------------------------------------------------------------------------------------
def f(x: Any) -> Any:
    xp = ad.namespace(x)
    y = xp.sin(x) * x
    y[1:] += xp.exp(x[0]) * x[:2]
    return xp.sum(y * y) + xp.max(x) * xp.sum(x)


GRADIENT, HESSIAN = ad.grad(f)(X), ad.hessian(f)(X)


def test_variables_over_variables() -> None:
    inner = ad.differentiable(np)
    outer = ad.differentiable(inner)
    assert outer != inner and ad.differentiable(inner) == outer
    x = ad.Variable(X)
    y = outer.asarray(x)
    y.requires_grad = True
    assert isinstance(y.data, ad.Variable) and ad.namespace(y) == outer
    f(y).backward()
    assert isinstance(y.grad, ad.Variable)  # of the tape below, and with a history there
    assert_close(y.grad.detach().numpy(), GRADIENT, 1e-13)
    (y.grad * y.grad).sum().backward()
    assert_close(x.grad, 2 * HESSIAN @ GRADIENT, 1e-12)


def test_three_tapes() -> None:
    xp = ad.differentiable(ad.differentiable(ad.differentiable(np)))
    a = ad.Variable(np.asarray(0.7))
    b = ad.differentiable(ad.differentiable(np)).asarray(a)
    b.requires_grad = True
    c = xp.asarray(b)
    c.requires_grad = True
    (xp.sin(c) * c**3).backward()
    c.grad.backward()
    b.grad.backward()
    # the third derivative of x^3 sin(x)
    x, s, k = 0.7, np.sin(0.7), np.cos(0.7)
    assert_close(a.grad, 6 * s + 18 * x * k - 9 * x * x * s - x**3 * k, 1e-13)


def test_transformations_of_variables_over_variables() -> None:
    x = ad.differentiable(ad.differentiable(np)).asarray(X)
    for g in (ad.grad(f)(x), ad.vmap(ad.grad(f))(x[None])[0], ad.jacfwd(f)(x)):
        assert isinstance(g, ad.Variable) and ad.namespace(g) == ad.differentiable(ad.differentiable(np))
        assert_close(g.detach().numpy(), GRADIENT, 1e-13)


# --- inside XLA: our tape, traced by jax ------------------------------------------------------------------------------------------------------
@pytest.fixture
def jax() -> Any:
    """JAX."""
    return pytest.importorskip("jax")


def define_by_run(x: Any) -> Any:
    v = ad.Variable(x)
    f(v).backward()
    return v.grad


INSIDE: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {
    "jit": (lambda jax, x: jax.jit(lambda v: ad.grad(f)(v))(x), GRADIENT),
    "jit of a tape": (lambda jax, x: jax.jit(define_by_run)(x), GRADIENT),
    "jit of a hessian": (lambda jax, x: jax.jit(lambda v: ad.hessian(f)(v))(x), HESSIAN),
    "jit of our vmap": (lambda jax, x: jax.jit(lambda v: ad.vmap(ad.grad(f))(v))(jax.numpy.stack([x, x]))[1], GRADIENT),
    "vmap": (lambda jax, x: jax.vmap(lambda v: ad.grad(f)(v))(jax.numpy.stack([x, x]))[0], GRADIENT),
    "jvp": (lambda jax, x: jax.jvp(lambda v: ad.grad(f)(v), (x,), (x,))[1], HESSIAN @ X),
    "grad": (lambda jax, x: jax.grad(lambda v: ad.grad(f)(v).sum())(x), HESSIAN.sum(axis=0)),
    "jacfwd": (lambda jax, x: jax.jacfwd(lambda v: ad.grad(f)(v))(x), HESSIAN),
    "under our own": (lambda jax, x: ad.jacobian(lambda v: ad.grad(f)(v))(x), HESSIAN),
    "scan": (
        lambda jax, x: jax.jit(lambda v: jax.lax.scan(lambda c, _: (c - 0.01 * ad.grad(f)(c), None), v, None, length=3)[0])(x),
        (lambda step: step(step(step(X))))(lambda x: x - 0.01 * ad.grad(f)(x)),
    ),
    "masks known beforehand": (
        lambda jax, x: jax.jit(lambda v: ad.grad(lambda u: (u[[0, 2]] * u[np.asarray([True, False, True])]).sum())(v))(x),
        2 * X * [1, 0, 1],
    ),
    "indices that are traced": (
        lambda jax, x: jax.jit(lambda v, i: ad.grad(lambda u: (u[i] ** 2).sum())(v))(x, jax.numpy.asarray([0, 0, -1])),
        2 * X * [2, 0, 1],
    ),
}


@pytest.mark.parametrize("name", INSIDE)
def test_inside_the_transformations_of_jax(name: str, jax: Any) -> None:
    g, want = INSIDE[name]
    got = g(jax, jax.numpy.asarray(X))
    assert isinstance(got, jax.Array)
    assert_close(got, want, 1e-12, 1e-12)


def test_what_depends_on_values_is_refused_while_jax_traces(jax: Any) -> None:
    with pytest.raises(EscapedArrayError, match=r"float\(\) takes a value out of grad"):
        jax.jit(lambda x: ad.grad(lambda v: float(v[0]) * v.sum())(x))(jax.numpy.asarray(X))
    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.jit(lambda x: ad.grad(lambda v: v.sum() if v[0] > 0 else -v.sum())(x))(jax.numpy.asarray(X))
