"""Special functions: first and second derivatives against mpmath at 60 digits and more, values against SciPy on every library.

The law tests of tests/test_ops.py hold every function against differences, in all modes, in the middle of its domain; here are the tails,
the points where a formula would be 0 / 0, and what the chapter promises at points without a derivative.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import scipy.special
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.backends import scipy as through_scipy
from agnostic_ad.errors import AxisError, MissingFunctionError, MissingRuleError

SPECIAL = ad.differentiable(np).special
BOTH = {"torch", "jax"} & {b.name for b in support.backends()}


def mpf_normal(x: Any) -> Any:
    return mp.erfc(-x / mp.sqrt(2)) / 2


# Functions of one operand: the same with mpmath, and where it is compared.
UNARY: dict[str, tuple[Callable[..., Any], list[float]]] = {
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), [-8, 1e-9, 0.3, 7, 1e20]),
    "digamma": (mp.digamma, [-3.3, -0.5, 1e-3, 0.5, 1.5, 5, 1e5]),
    "ellipe": (mp.ellipe, [-100, -5, -0.21, -0.19, 1e-9, 0.1, 0.19, 0.21, 0.5, 0.99]),
    "ellipk": (mp.ellipk, [-100, -5, -0.21, -0.19, 1e-9, 0.1, 0.19, 0.21, 0.5, 0.99]),
    "entr": (lambda x: -x * mp.log(x), [1e-9, 1e-5, 0.3, 1, 20]),
    "erf": (mp.erf, [-6, -1, 0, 1e-8, 0.5, 3, 5.5]),
    "erfc": (mp.erfc, [-5, 0.1, 1, 10, 25]),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), [-4, -1, 0, 1, 5.9, 6.1, 8, 30, 1e5]),
    "erfinv": (mp.erfinv, [-0.999, -0.5, 0.1, 0.9, 0.99999]),
    "exp2": (lambda x: mp.mpf(2) ** x, [-1000, -3, 0, 0.5, 1000]),
    "exp10": (lambda x: mp.mpf(10) ** x, [-300, -3, 0, 0.5, 300]),
    "expit": (lambda x: 1 / (1 + mp.exp(-x)), [-200, -40, -1, 0.5, 30, 40]),
    "exprel": (lambda x: mp.expm1(x) / x, [-700, -40, -1.1, -0.9, -1e-9, 1e-5, 0.5, 0.99, 1.01, 5, 600]),
    "gamma": (mp.gamma, [-3.3, -0.5, 1e-5, 0.5, 1.4, 5, 30, 170]),
    "gammaln": (lambda x: mp.log(abs(mp.gamma(x))), [-3.3, -0.5, 1e-5, 0.5, 1.4, 1.5, 5, 30, 1e5]),
    "i0": (lambda x: mp.besseli(0, x), [-5, 1e-8, 1e-3, 0.5, 0.99, 1.01, 10, 300]),
    "i0e": (lambda x: mp.exp(-abs(x)) * mp.besseli(0, x), [-5, 1e-8, 0.5, 0.99, 1.01, 10, 49, 51, 1e4, 1e8]),
    "i1": (lambda x: mp.besseli(1, x), [-5, 1e-8, 1e-3, 0.5, 0.99, 1.01, 10, 300]),
    "i1e": (lambda x: mp.exp(-abs(x)) * mp.besseli(1, x), [-5, 1e-8, 0.5, 0.99, 1.01, 10, 49, 51, 1e4, 1e8]),
    "j0": (lambda x: mp.besselj(0, x), [-5, 1e-8, 0.5, 0.99, 1.01, 10, 100]),
    "j1": (lambda x: mp.besselj(1, x), [-5, 1e-8, 1e-3, 0.5, 0.99, 1.01, 10, 100]),
    "log_expit": (lambda x: -mp.log(1 + mp.exp(-x)), [-200, -40, -1, 0, 0.5, 30, 40]),
    "log_ndtr": (lambda x: mp.log(mpf_normal(x)), [-1e4, -40, -10, -5, -1.1, -1, -0.9, 0, 2, 8, 30]),
    "loggamma": (mp.loggamma, [1e-5, 0.5, 1.4, 1.5, 5, 30, 1e5]),
    "logit": (lambda x: mp.log(x / (1 - x)), [1e-10, 0.2, 0.9, 1 - 1e-10]),
    "ndtr": (mpf_normal, [-37, -10, -1, 0.1, 1, 5]),
    "ndtri": (lambda p: -mp.sqrt(2) * mp.erfinv(1 - 2 * p), [1e-6, 0.01, 0.3, 0.9]),
    "psi": (mp.digamma, [-3.3, 0.5, 5]),
    "rgamma": (mp.rgamma, [-5.0, -3.3, -1, 0, 0.3, 0.5, 0.6, 4, 50]),
}
# Functions of two operands, with respect to each. A large result is the exponential of a large logarithm in SciPy: 1e-9 there.
BINARY: dict[str, tuple[Callable[..., Any], list[tuple[float, float]]]] = {
    "beta": (mp.beta, [(0.3, 0.4), (5, 7)]),
    "betaln": (
        lambda a, b: mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b),
        [(0.3, 0.4), (5, 7), (1e10, 0.5), (15.9, 17), (16.1, 0.01)],
    ),
    "binom": (mp.binomial, [(5, 2), (5.5, 2.2), (60, 29)]),
    "huber": (lambda d, r: r * r / 2 if abs(r) <= d else d * (abs(r) - d / 2), [(1, 2), (1, -2), (1, 0.5)]),
    "kl_div": (lambda x, y: x * mp.log(x / y) - x + y, [(0.3, 0.4), (1e-100, 1), (1, 1 + 1e-8)]),
    "poch": (lambda z, m: mp.gamma(z + m) / mp.gamma(z), [(0.3, 2.5), (5, 7), (1e8, 0.5), (3, -1.5), (-2.5, 1.2)]),
    "pseudo_huber": (lambda d, r: d * d * (mp.sqrt(1 + (r / d) ** 2) - 1), [(1, 2), (1, 1e-5), (1e-5, 3), (3, 1)]),
    "rel_entr": (lambda x, y: x * mp.log(x / y), [(0.3, 0.4), (1e-100, 1), (1, 1 + 1e-8)]),
    "xlog1py": (lambda x, y: x * mp.log1p(y), [(0.3, 0.4), (3, 1e-20)]),
    "xlogy": (lambda x, y: x * mp.log(y), [(0.3, 0.4), (3, 1e-100)]),
}
RTOL = 2e-13  # a few hundred roundings, most of them SciPy's


def derivative(f: Callable[[Any], Any], x: Any, n: int = 1) -> float:
    """Give the n-th derivative by differences at 150 digits, with a step of 1e-40 of what is near."""
    with mp.workdps(150):
        x = mp.mpf(x)
        return float(mp.diff(f, x, n, h=mp.mpf(10) ** -40 * (abs(x) or 1)))


@pytest.mark.parametrize("name", UNARY)
def test_first_and_second_derivatives(name: str) -> None:
    f, points = UNARY[name]
    slope = ad.grad(getattr(SPECIAL, name))
    x = np.asarray(points, dtype=np.float64)
    assert_close(ad.vmap(slope)(x), [derivative(f, p) for p in points], rtol=RTOL, atol=0.0)
    assert_close(ad.vmap(ad.grad(slope))(x), [derivative(f, p, 2) for p in points], rtol=RTOL, atol=1e-300)


def test_modified_bessel_functions_of_the_second_kind() -> None:
    # by recurrence (DLMF 10.29): mpmath takes minutes for differences of these at many digits
    def k(order: int) -> Any:
        return np.asarray([float(mp.besselk(order, p)) for p in points])

    points = [1e-5, 0.5, 1.9, 2.1, 10.0, 100.0]
    x = np.asarray(points)
    for f, first, second in ((SPECIAL.k0, -k(1), (k(0) + k(2)) / 2), (SPECIAL.k1, -(k(0) + k(2)) / 2, (3 * k(1) + k(3)) / 4)):
        assert_close(ad.vmap(ad.grad(f))(x), first, rtol=RTOL, atol=0.0)
        assert_close(ad.vmap(ad.grad(ad.grad(f)))(x), second, rtol=RTOL, atol=0.0)


@pytest.mark.parametrize("name", BINARY)
def test_both_partial_derivatives(name: str) -> None:
    f, points = BINARY[name]
    for a, b in points:
        found = ad.grad(getattr(SPECIAL, name), argnums=(0, 1))(a, b)
        wanted = derivative(lambda t, b=b: f(t, mp.mpf(b)), a), derivative(lambda t, a=a: f(mp.mpf(a), t), b)
        assert_close(np.asarray(found), wanted, rtol=RTOL, atol=0.0)


# --- with respect to parameters -----------------------------------------------------------------------------------------------------------
def gammainc(a: Any, x: Any) -> Any:
    return mp.gammainc(a, 0, x, regularized=True)


def betainc(a: Any, b: Any, x: Any) -> Any:
    return mp.betainc(a, b, 0, x, regularized=True)


def stdtr(df: Any, t: Any) -> Any:
    tail = betainc(df / 2, mp.mpf(1) / 2, df / (df + t * t)) / 2
    return tail if t < 0 else 1 - tail


def partial(f: Callable[..., Any], point: tuple[float, ...], k: int, n: int = 1) -> float:
    """Give a partial derivative by central differences at 60 digits: mpmath's own would take long for these functions."""
    with mp.workdps(60):
        x = [mp.mpf(p) for p in point]
        step = x[k] * mp.mpf(10) ** -18
        ahead, behind = (f(*(v + s * step if i == k else v for i, v in enumerate(x))) for s in (1, -1))
        return float((ahead - behind) / (2 * step) if n == 1 else (ahead - 2 * f(*x) + behind) / step**2)


@pytest.mark.parametrize(
    ("a", "x"),
    [(0.5, 0.3), (0.5, 3.0), (1.0, 1.0), (1e-3, 1e-4), (1e-8, 0.5), (1e-8, 1e-9), (5.0, 1e-10), (10.0, 30.0), (100.0, 90.0), (100.0, 101.0)]
    + [(50.0, 100.0), (3.0, 40.0), (1e4, 1e4), (1e4, 9.8e3)],
)
def test_gammainc_with_respect_to_its_parameter(a: float, x: float) -> None:
    # x^a e^-x / gamma(a) comes from its logarithm, whose terms are as large as a log(a)
    rtol = 1e-13 + 3e-15 * max(a, x)
    found = ad.grad(SPECIAL.gammainc, argnums=(0, 1))(a, x)
    assert_close(np.asarray(found), [partial(gammainc, (a, x), k) for k in (0, 1)], rtol=rtol, atol=0.0)
    assert_exact(np.asarray(ad.grad(SPECIAL.gammaincc, argnums=(0, 1))(a, x)), -np.asarray(found))


def test_gammainc_twice_with_respect_to_its_parameter() -> None:
    for a, x in [(0.5, 0.3), (0.5, 3.0), (2.0, 5.0), (1e-3, 0.5), (100.0, 90.0)]:
        twice = ad.grad(ad.grad(lambda a, x=x: SPECIAL.gammainc(a, x)))(a)
        assert_close(twice, partial(gammainc, (a, x), 0, 2), rtol=2e-12, atol=0.0)


@pytest.mark.parametrize(
    ("a", "b", "x"),
    [(0.5, 0.5, 0.3), (2.0, 3.0, 0.9), (0.01, 0.01, 0.5), (0.1, 1e-3, 0.98), (0.1, 1e-3, 0.999), (1e-4, 5.0, 0.1), (5.0, 1e-4, 0.9999)]
    + [(100.0, 200.0, 0.3), (3.0, 0.5, 1 - 1e-9), (0.3, 40.0, 1e-8)],
)
def test_betainc_with_respect_to_its_parameters(a: float, b: float, x: float) -> None:
    found = ad.grad(SPECIAL.betainc, argnums=(0, 1, 2))(a, b, x)
    assert_close(np.asarray(found), [partial(betainc, (a, b, x), k) for k in (0, 1, 2)], rtol=3e-13, atol=0.0)


@pytest.mark.parametrize(("df", "t"), [(1.0, 0.5), (3.0, -2.0), (10.0, 1.0), (0.5, 4.0), (200.0, -1.0), (2.5, -30.0)])
def test_students_distribution_and_its_inverse(df: float, t: float) -> None:
    # with respect to df, two terms that are df times larger cancel
    by_df, by_t = (partial(stdtr, (df, t), k) for k in (0, 1))
    assert_close(np.asarray(ad.grad(SPECIAL.stdtr, argnums=(0, 1))(df, t)), [by_df, by_t], rtol=5e-12, atol=0.0)
    p = float(scipy.special.stdtr(df, t))
    # stdtrit is an iteration that stops at about 1e-10
    assert_close(np.asarray(ad.grad(SPECIAL.stdtrit, argnums=(0, 1))(df, p)), [-by_df / by_t, 1 / by_t], rtol=1e-7, atol=0.0)


def test_functions_of_integers() -> None:
    for n in (0, 1, 2, 5):
        found = ad.grad(functools.partial(SPECIAL.polygamma, n))(1.7)
        assert_close(found, float(mp.polygamma(n + 1, mp.mpf(1.7))), rtol=RTOL, atol=0.0)
        assert_close(SPECIAL.polygamma(n, ad.Variable(np.asarray(1.7))).payload, scipy.special.polygamma(n, 1.7), rtol=RTOL, atol=0.0)
    found = ad.grad(lambda q: SPECIAL.zeta(3.5, q))(0.8)
    assert_close(found, float(-3.5 * mp.zeta(4.5, 0.8)), rtol=RTOL, atol=0.0)
    found = ad.grad(lambda x: SPECIAL.hyp1f1(0.5, 1.5, x))(-2.0)
    assert_close(found, derivative(lambda x: mp.hyp1f1(0.5, 1.5, x), -2.0), rtol=RTOL, atol=0.0)


def test_zeta_of_one_operand_is_riemanns(backend: support.Backend) -> None:
    found = special_of(backend).zeta(backend.asarray([-1.0, 2.0])).payload
    assert_close(backend.numpy(found), [-1 / 12, np.pi**2 / 6], rtol=1e-14)


def test_polygamma_takes_an_array_of_integers(backend: support.Backend) -> None:
    n, x = backend.asarray([0, 1, 2]), backend.asarray([1.7, 0.3, 4.0], dtype="float32")
    found = ad.Variable(x).__array_namespace__().special.polygamma(n, ad.Variable(x)).payload
    assert found.dtype == x.dtype
    assert_close(backend.numpy(found), scipy.special.polygamma([0, 1, 2], [1.7, 0.3, 4.0]), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda v: SPECIAL.hyp1f1(v, 1.5, 0.3), r"special.hyp1f1 has no (forward )?derivative with respect to argument 0 \(a\)"),
        (lambda v: SPECIAL.hyp1f1(0.5, v, 0.3), r"special.hyp1f1 has no (forward )?derivative with respect to argument 1 \(b\)"),
        (lambda v: SPECIAL.zeta(v, 2.0), r"special.zeta has no (forward )?derivative with respect to argument 0 \(x\)"),
        (lambda v: SPECIAL.zeta(v), r"special.zeta has no (forward )?derivative with respect to argument 0 \(x\)"),
        (lambda v: SPECIAL.polygamma(v, 2.0), r"special.polygamma has no (forward )?derivative with respect to argument 0 \(n\)"),
    ],
)
def test_a_missing_derivative_is_not_zero(call: Callable[..., Any], argument: str) -> None:
    with pytest.raises(MissingRuleError, match=argument):
        ad.grad(call)(2.0)
    with pytest.raises(MissingRuleError, match=argument):
        ad.jvp(call, (np.asarray(2.0),), (np.asarray(1.0),))


# --- points without a derivative, and ends of domains -------------------------------------------------------------------------------------
INF, NAN = np.inf, np.nan
EDGES: dict[str, list[tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "betainc": [((2.0, 3.0, 0.0), (0.0, 0.0, 0.0)), ((2.0, 3.0, 1.0), (0.0, 0.0, 0.0))],
    "cbrt": [((0.0,), (INF,))],
    "ellipk": [((0.0,), (np.pi / 8,))],
    "entr": [((0.0,), (INF,)), ((-1.0,), (NAN,))],
    "erfinv": [((1.0,), (INF,)), ((-1.0,), (INF,))],
    "exprel": [((0.0,), (0.5,))],
    "gammainc": [((2.0, 0.0), (0.0, 0.0)), ((2.0, INF), (0.0, 0.0))],
    "huber": [((1.0, 1.0), (0.0, 1.0)), ((INF, 2.0), (0.0, 2.0)), ((1.0, -1.0), (0.0, -1.0)), ((1.0, 0.0), (0.0, 0.0))],
    "i0e": [((0.0,), (0.0,))],
    "stdtr": [((INF, 1.0), (0.0, np.exp(-0.5) / np.sqrt(2 * np.pi)))],
    "i1": [((0.0,), (0.5,))],
    "i1e": [((0.0,), (0.5,))],
    "j1": [((0.0,), (0.5,))],
    "k0": [((0.0,), (-INF,))],
    "kl_div": [((0.0, 2.0), (-INF, 1.0)), ((2.0, 2.0), (0.0, 0.0))],
    "log_ndtr": [((-INF,), (INF,)), ((INF,), (0.0,))],
    "logit": [((0.0,), (INF,)), ((1.0,), (INF,))],
    "ndtri": [((0.0,), (INF,)), ((1.0,), (INF,))],
    "pseudo_huber": [((0.0, 0.0), (0.0, 0.0)), ((0.0, 2.0), (2.0, 0.0))],
    "rel_entr": [((0.0, 2.0), (-INF, 0.0))],
    "xlog1py": [((0.0, -1.0), (0.0, 0.0)), ((0.0, 1.0), (np.log(2.0), 0.0))],
    "xlogy": [((0.0, 0.0), (0.0, 0.0)), ((0.0, -1.0), (0.0, 0.0)), ((0.0, 2.0), (np.log(2.0), 0.0))],
}


@pytest.mark.parametrize("name", EDGES)
def test_derivatives_at_the_edges(name: str) -> None:
    for point, wanted in EDGES[name]:
        with np.errstate(all="ignore"):
            found = ad.grad(getattr(SPECIAL, name), argnums=tuple(range(len(point))))(*point)
        assert_exact(np.asarray(found), wanted)


def test_second_derivatives_at_removable_singularities() -> None:
    for name, wanted in {
        "i1": 0.0,
        "j1": 0.0,
        "exprel": 1 / 3,
        "i0": 0.5,
        "j0": -0.5,
        "ellipk": 9 * np.pi / 64,
        "rgamma": 2 * np.euler_gamma,
    }.items():
        assert_exact(ad.grad(ad.grad(getattr(SPECIAL, name)))(0.0), wanted)


# --- values on every library --------------------------------------------------------------------------------------------------------------
MIDDLE = np.asarray([0.15, 0.4, 0.6, 0.85])
ENDS = np.asarray([-np.inf, -30.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 30.0, np.inf, np.nan])
FORMULAS_1 = ("cbrt", "entr", "exp10", "exp2", "expit", "exprel", "log_expit", "logit")
FORMULAS_2 = ("huber", "kl_div", "pseudo_huber", "rel_entr", "xlog1py", "xlogy")


def special_of(backend: support.Backend) -> Any:
    return ad.differentiable(backend.xp).special


@pytest.mark.parametrize("name", sorted({*UNARY, *BINARY, "gammainc", "gammaincc", "chdtr", "chdtrc", "k0", "k1", "stdtr", "stdtrit"}))
def test_values_are_scipys(name: str, backend: support.Backend) -> None:
    operands = [MIDDLE] if name in (*UNARY, "k0", "k1") else [MIDDLE[::-1] + 1.2, MIDDLE]
    wanted = getattr(scipy.special, name)(*operands)
    # jax takes gamma from its logarithm, and torch's digamma is right to 1e-12
    rtol = {"torch": 1e-12, "jax": 1e-12}.get(backend.name, 1e-14)
    for dtype, tolerance in (("float64", rtol), ("float32", 5e-6)):
        found = getattr(special_of(backend), name)(*(ad.Variable(backend.asarray(x, dtype=dtype)) for x in operands)).payload
        assert str(found.dtype).endswith(dtype)
        assert_close(backend.numpy(found), wanted, rtol=tolerance, atol=tolerance)


def test_values_are_right_in_the_tails_too(backend: support.Backend) -> None:
    # at each of these, a function of some library is wrong in the third to the ninth digit: it is not called
    special = special_of(backend)
    for name, *point in (("erfcx", 30.0), ("betaln", 18.3, 13.6), ("hyp1f1", 3.0, 1.5, -20.0), ("j0", 40.0), ("j1", 40.0)):
        found = getattr(special, name)(*(backend.asarray(p) for p in point)).payload
        assert_close(backend.numpy(found), getattr(scipy.special, name)(*point), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("name", (*FORMULAS_1, *FORMULAS_2))
def test_formulas_are_scipys_at_the_ends(name: str) -> None:
    # array-api-strict has none of these: it gets our formulas
    backend = support.Backend("array_api_strict")
    grid = [ENDS] if name in FORMULAS_1 else [a.ravel() for a in np.meshgrid(ENDS, ENDS)]
    if name in ("huber", "pseudo_huber"):  # where both are infinite, SciPy's two are not of one mind
        grid = [a[np.isfinite(grid[0])] for a in grid]
        grid = [a[np.isfinite(grid[1])] for a in grid]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        found = backend.numpy(getattr(special_of(backend), name)(*(ad.Variable(backend.asarray(x)) for x in grid)).payload)
        wanted = getattr(scipy.special, name)(*grid)
    np.testing.assert_allclose(found, wanted, rtol=4e-16 if name in ("exp2", "exp10") else 1e-14, atol=0.0)


def test_complex_functions_have_holomorphic_derivatives() -> None:
    z = 0.6 + 0.4j
    for name in ("erf", "erfc", "gamma", "loggamma"):
        f = {"erf": mp.erf, "erfc": mp.erfc, "gamma": mp.gamma, "loggamma": mp.loggamma}[name]
        with mp.workdps(60):
            wanted = complex(mp.diff(f, mp.mpc(z)))
        for dtype, rtol in ((np.complex128, RTOL), (np.complex64, 2e-6)):
            x = np.asarray(z, dtype=dtype)
            y, pullback = ad.vjp(getattr(SPECIAL, name), x)
            found = pullback(np.ones_like(y))[0]
            assert found.dtype == dtype
            assert_close(found, np.conj(wanted), rtol=rtol, atol=0.0)
            assert_close(ad.jvp(getattr(SPECIAL, name), (x,), (np.ones_like(x),))[1], wanted, rtol=rtol, atol=0.0)


@pytest.mark.skipif("torch" not in BOTH, reason="torch is not here")
@pytest.mark.parametrize(
    "name", ["entr", "erf", "erfc", "erfinv", "exp2", "expit", "gammaln", "i0", "i0e", "i1", "i1e", "log_ndtr", "logit", "ndtr", "ndtri"]
)
def test_torch_has_the_same_derivatives(name: str) -> None:  # not digamma: torch's trigamma is off by 5e-10
    import torch

    x = torch.tensor(MIDDLE, requires_grad=True)
    getattr(torch.special, name)(x).sum().backward()
    found = ad.grad(lambda v: ad.namespace(v).sum(getattr(SPECIAL_TORCH(), name)(v)))(torch.tensor(MIDDLE))
    assert_close(found, x.grad.numpy(), rtol=1e-12, atol=0.0)


def SPECIAL_TORCH() -> Any:
    return special_of(support.Backend("torch"))


@pytest.mark.skipif("jax" not in BOTH, reason="jax is not here")
def test_under_jit_what_jax_lacks_comes_by_a_callback() -> None:
    import jax

    special = special_of(support.Backend("jax"))
    f = ad.grad(lambda v: ad.namespace(v).sum(special.k0(v) * special.ellipk(v)))
    x = jax.numpy.asarray(MIDDLE)
    assert_close(jax.jit(f)(x), np.asarray(f(x)), rtol=1e-14, atol=0.0)
    wanted = [float(mp.besselk(0, p) * mp.diff(mp.ellipk, p) - mp.besselk(1, p) * mp.ellipk(p)) for p in MIDDLE]
    assert_close(np.asarray(f(x)), wanted, rtol=RTOL, atol=0.0)


def test_without_scipy_the_formulas_serve_and_the_rest_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingFunctionError, match=r"special.k0: .* SciPy, .* is not installed: pip install agnostic_ad\[special\]"):
        through_scipy.function("k0")
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import numpy as np, agnostic_ad as ad\n"
        "special = ad.differentiable(np).special\n"
        "print(float(ad.grad(special.expit)(0.0)))\n"
        "try: special.erf(ad.Variable(np.ones(3)))\n"
        "except ad.errors.MissingFunctionError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "0.25"
    assert lines[1].startswith("special.erf: this library has no such function, and SciPy")


# --- along axes ---------------------------------------------------------------------------------------------------------------------------
AXES: list[Any] = [None, 0, -1, (0, 2), (1,), (2, 0), (0, 1, 2)]
CUBE = np.random.default_rng(0).normal(size=(2, 3, 4))


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_softmax_and_logsumexp_take_every_axis(axis: Any, backend: support.Backend) -> None:
    special, x = special_of(backend), backend.asarray(CUBE)
    for name in ("softmax", "log_softmax"):
        found = getattr(special, name)(ad.Variable(x), axis=axis).payload
        assert_close(backend.numpy(found), getattr(scipy.special, name)(CUBE, axis=axis), rtol=1e-13, atol=0.0)
    for keepdims in (False, True):
        found = special.logsumexp(ad.Variable(x), axis, keepdims=keepdims).payload
        assert_close(backend.numpy(found), scipy.special.logsumexp(CUBE, axis=axis, keepdims=keepdims), rtol=1e-13, atol=0.0)
    gradient = ad.grad(lambda v: special.logsumexp(v, axis=axis).sum())(x)
    assert_close(backend.numpy(gradient), scipy.special.softmax(CUBE, axis=axis), rtol=1e-13, atol=0.0)


def test_logsumexp_with_weights_and_signs(backend: support.Backend) -> None:
    special = special_of(backend)
    host, weights = np.asarray([[1.0, 2.0, 3.0], [700.0, 701.0, np.inf]]), np.asarray([[1.0, -2.0, 0.5], [1.0, -3.0, 0.0]])
    a, b = ad.Variable(backend.asarray(host)), ad.Variable(backend.asarray(weights))
    y, sign = special.logsumexp(a, axis=1, b=b, return_sign=True)
    wanted, wanted_sign = scipy.special.logsumexp(host, axis=1, b=weights, return_sign=True)
    assert_close(backend.numpy(y.payload), wanted, rtol=1e-14, atol=0.0)
    assert_exact(backend.numpy(sign.payload), wanted_sign)
    assert_exact(backend.numpy(special.logsumexp(a, axis=1, b=b).payload), [NAN, NAN])
    assert_exact(
        [float(part.payload) for part in special.logsumexp(ad.Variable(backend.asarray([1.0, 1.0])), return_sign=True)],
        [1 + np.log(2.0), 1.0],
    )
    # the derivatives, also with respect to a weight that is 0
    x, w = np.asarray([0.3, 1.2, -0.4]), np.asarray([2.0, 0.0, 0.5])
    found = ad.grad(lambda x, w: special.logsumexp(x, b=w), argnums=(0, 1))(backend.asarray(x), backend.asarray(w))
    total = np.sum(w * np.exp(x))
    assert_close(backend.numpy(found[0]), w * np.exp(x) / total, rtol=1e-14, atol=0.0)
    assert_close(backend.numpy(found[1]), np.exp(x) / total, rtol=1e-14, atol=0.0)
    assert_exact(backend.numpy(ad.grad(lambda v: special.logsumexp(v, b=2.0))(backend.asarray([1.0, 1.0]))), [0.5, 0.5])


def test_logsumexp_of_nothing_much(backend: support.Backend) -> None:
    special = special_of(backend)
    x = backend.asarray([[-np.inf, -np.inf], [0.0, -np.inf]])
    assert_exact(backend.numpy(special.logsumexp(ad.Variable(x), axis=1).payload), [-INF, 0.0])
    assert_exact(backend.numpy(ad.grad(lambda v: special.logsumexp(v, axis=1)[1])(x)), [[0.0, 0.0], [1.0, 0.0]])
    _, pullback = ad.vjp(lambda v: special.logsumexp(v, axis=1), x)
    assert_exact(backend.numpy(pullback(backend.asarray([1.0, 1.0]))[0]), [[0.0, 0.0], [1.0, 0.0]])
    assert_exact(backend.numpy(special.logsumexp(ad.Variable(backend.asarray(np.zeros((2, 0)))), axis=1).payload), [-INF, -INF])
    assert_exact(backend.numpy(special.logsumexp(ad.Variable(backend.asarray([INF, 0.0]))).payload), INF)
    y, sign = special.logsumexp(ad.Variable(x), axis=1, return_sign=True)
    assert_exact(backend.numpy(sign.payload), [0.0, 1.0])


def test_logsumexp_keeps_what_is_small_beside_one() -> None:
    assert_close(SPECIAL.logsumexp(ad.Variable(np.asarray([0.0, -60.0]))).payload, np.exp(-60.0), rtol=1e-15, atol=0.0)


def test_an_axis_out_of_bounds_is_refused() -> None:
    with pytest.raises(AxisError, match=r"softmax: axis 2 is out of bounds for an array of 1 dimension"):
        SPECIAL.softmax(ad.Variable(np.ones(3)), axis=2)
    with pytest.raises(AxisError, match=r"logsumexp: axis \(0, 0\) names an axis twice"):
        SPECIAL.logsumexp(ad.Variable(np.ones(3)), axis=(0, 0))


# --- SciPy ----------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["erf", "ndtri", "ellipk", "expit", "gamma", "psi", "exprel", "log_ndtr", "j0"])
def test_scipy_calls_these_for_variables(name: str) -> None:
    f, _ = UNARY[name]
    found = ad.grad(getattr(scipy.special, name))(0.3)
    assert_close(found, derivative(f, 0.3), rtol=RTOL, atol=0.0)


def test_scipy_calls_those_of_several_operands_too() -> None:
    v = ad.Variable(np.asarray([0.3, 0.7]))
    found = [
        scipy.special.polygamma(1, v),
        scipy.special.gammainc(v, v),
        scipy.special.betainc(v, v, v),
        scipy.special.hyp1f1(0.5, 1.5, v),
        scipy.special.chdtrc(v, v),
        scipy.special.logsumexp(v),
        scipy.special.softmax(v),
    ]
    assert all(isinstance(y, ad.Variable) for y in found)
    wanted = scipy.special.polygamma(1, v.payload), scipy.special.betainc(v.payload, v.payload, v.payload)
    assert_close(found[0].payload, wanted[0], rtol=RTOL, atol=0.0)
    assert_close(found[2].payload, wanted[1], rtol=RTOL, atol=0.0)


def test_values_that_scipy_gives_with_fewer_digits() -> None:
    df, p, z, m = 2.9436709585596845, 0.7910989428827503, 47.76281654227007, 0.3439941018555935
    with mp.workdps(40):
        student = lambda t: 1 - mp.betainc(mp.mpf(df) / 2, 0.5, 0, df / (df + t * t), regularized=True) / 2
        quantile, rising = float(mp.findroot(lambda t: student(t) - p, 0.94)), float(mp.gamma(mp.mpf(z) + mp.mpf(m)) / mp.gamma(z))
    assert abs(scipy.special.stdtrit(df, p) - quantile) > 1e-13 and abs(scipy.special.poch(z, m) / rising - 1) > 2e-14
    assert_close(np.asarray(SPECIAL.stdtrit(np.asarray(df), p)), quantile, rtol=4e-15, atol=0.0)
    assert_close(np.asarray(SPECIAL.poch(np.asarray(z), m)), rising, rtol=4e-15, atol=0.0)


@pytest.mark.parametrize("backend", support.params())
def test_log1p_of_small_complex_numbers_keeps_its_digits(backend: support.Backend) -> None:
    z = -5.67e-9 - 5.21e-9j
    with mp.workdps(40):
        expected = complex(mp.log(1 + mp.mpc(z)))
    found = complex(backend.numpy(ad.differentiable(backend.xp).log1p(backend.asarray(np.asarray(z))).data))
    assert abs(found.real / expected.real - 1) < 1e-14 and abs(found.imag / expected.imag - 1) < 1e-14


@pytest.mark.parametrize("backend", support.params())
def test_sinh_of_small_complex_numbers_keeps_its_digits(backend: support.Backend) -> None:
    z = 9.74e-9 - 4.91e-9j
    found = complex(backend.numpy(ad.differentiable(backend.xp).sinh(backend.asarray(np.asarray(z))).data))
    slope = complex(
        backend.numpy(
            ad.jvp(ad.differentiable(backend.xp).cosh, [backend.asarray(np.asarray(z))], [backend.asarray(np.asarray(1 + 0j))])[1]
        )
    )
    assert abs(found / complex(mp.sinh(z)) - 1) < 1e-15
    assert slope == found


@pytest.mark.skipif("torch" not in BOTH, reason="torch is not installed")
@pytest.mark.parametrize("name", ["chdtr", "chdtrc"])
def test_degrees_of_freedom_in_16_bits(name: str) -> None:
    import torch

    f = getattr(ad.differentiable(torch).special, name)
    df, x = (torch.tensor(v, dtype=torch.float16) for v in (2.2322, 2.3828))
    found, wide = ad.grad(f)(df, x), ad.grad(f)(df.double(), x.double())
    assert_close(found.double(), wide, rtol=2e-2, atol=0.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_what_scipy_computes_for_others_keeps_16_bits(library: str, dtype: str) -> None:
    xp: Any = pytest.importorskip(library)
    a, b, x = (xp.asarray(v, dtype=getattr(xp, dtype)) for v in ([], [], [0.25]))
    value, pull = ad.vjp(ad.differentiable(xp).special.betainc, a, b, x)  # betaln is SciPy's there
    assert {y.dtype for y in (value, *pull(value))} == {x.dtype}
    assert ad.differentiable(xp).special.betaln(x, x).dtype == x.dtype
