"""Special functions, with SciPy's names and signatures: ``xp.special``.

The partial derivatives are written with functions of the table, so that they can be differentiated again; where the textbook's formula loses
digits (tails, removable poles), with one that does not. A library's own function computes; what it lacks comes from a formula below,
or from SciPy on the host. `incomplete` has the functions of several parameters, and those along axes.

Values where there is no derivative: xlogy and xlog1py give 0 where the first operand is 0 and the logarithm is that of 0 or less; huber has its
slope from both sides. Where a function is infinite or undefined (poles of gamma, entr of negative numbers), the formulas give infinity or NaN.
The complex functions (erf, gamma, digamma and the like, where the library has them) have holomorphic derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad.families import MISSING, composite, elementwise
from agnostic_ad.ops.neural import general
from agnostic_ad.samples import Domain, Operand, case

_SQRT_PI = math.sqrt(math.pi)
_SQRT_2PI = math.sqrt(2 * math.pi)


# --- tools --------------------------------------------------------------------------------------------------------------------------------
def where_safe(xp: Any, condition: Any, x: Any, other: float) -> Any:
    """Give ``x`` where ``condition`` holds and a harmless number elsewhere, with no derivative."""
    return xp.where(condition, x, other * xp.ones_like(x))


def horner(x: Any, coefficients: Sequence[float]) -> Any:
    """Give the polynomial with these coefficients, that of the constant first."""
    y = x * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:
        y = y * x + c
    return y


def series(xp: Any, x: Any, coefficients: Sequence[float], far: Callable[..., Any], radius: float = 1.0, square: bool = False) -> Any:
    """Give a power series in ``x`` (or its square) within ``radius`` of 0, and ``far(x)`` elsewhere."""
    near = xp.abs(x) < radius
    t = where_safe(xp, near, x, 0.0)
    return xp.where(near, horner(t * t if square else t, coefficients), far(where_safe(xp, ~near, x, radius)))


def ratio(xp: Any, a: Any, b: Any) -> Any:
    """Give ``a / b``, and 0 where ``a`` is 0."""
    zero = a == 0
    return xp.where(zero, xp.zeros_like(a) * xp.zeros_like(b), a / xp.where(zero, xp.ones_like(b), b))


def normal(xp: Any, x: Any) -> Any:
    """Give the density of the normal distribution."""
    return xp.exp(x * x * -0.5) / _SQRT_2PI


# --- error functions and the normal distribution ------------------------------------------------------------------------------------------
def _laplace(xp: Any, x: Any) -> Any:
    """Give h in Laplace's continued fraction 1 / (sqrt(pi) erfcx(x)) = x + h, for x from 4 on (DLMF 7.9.1)."""
    h = x
    for k in range(24, 1, -1):
        h = x + (0.5 * k) / h
    return 0.5 / h


def _erfcx(xp: Any, x: Any, y: Any) -> Any:
    far = x > 4  # where 2 x y - 2/sqrt(pi) would cancel
    return xp.where(far, -2 * _laplace(xp, where_safe(xp, far, x, 4.0)) * y, 2 * (where_safe(xp, ~far, x, 0.0) * y) - 2 / _SQRT_PI)


def _hazard(xp: Any, x: Any) -> Any:
    """Give the derivative of log_ndtr: the normal density by the distribution function, whose quotient is 0 / 0 in the tail."""
    left = x < -1
    below = math.sqrt(2 / math.pi) / xp.special.erfcx(where_safe(xp, left, x, -1.0) * -math.sqrt(0.5))
    x = where_safe(xp, ~left, x, 0.0)
    return xp.where(left, below, normal(xp, x) / xp.special.ndtr(x))


erf = elementwise("special.erf", lambda xp, x: xp.exp(-(x * x)) * (2 / _SQRT_PI), kinds="f")
erfc = elementwise("special.erfc", lambda xp, x: xp.exp(-(x * x)) * (-2 / _SQRT_PI), kinds="f")
erfcx = elementwise("special.erfcx", _erfcx, domain=(-2.0, 9.0), kinds="f")
erfinv = elementwise("special.erfinv", lambda xp, y: xp.exp(y * y) * (_SQRT_PI / 2), domain=(-0.9, 0.9), kinds="f")
ndtr = elementwise("special.ndtr", normal, kinds="f")
ndtri = elementwise("special.ndtri", lambda xp, y: xp.exp(y * y * 0.5) * _SQRT_2PI, domain=(0.1, 0.9), kinds="f")
log_ndtr = elementwise("special.log_ndtr", _hazard, domain=(-6.0, 3.0), kinds="f")


@general("special.erfcx")
def _erfcx_value(xp: Any, x: Any) -> Any:
    far = x > 4
    large, small = where_safe(xp, far, x, 4.0), where_safe(xp, ~far, x, 0.0)
    return xp.where(far, 1 / (_SQRT_PI * (large + _laplace(xp, large))), xp.exp(small * small) * xp.special.erfc(small))


# --- the logistic function ----------------------------------------------------------------------------------------------------------------
expit = elementwise("special.expit", lambda xp, x, y: y * xp.special.expit(-x), kinds="f")
logit = elementwise("special.logit", lambda ct, x: ct / (x * (1 - x)), domain=(0.1, 0.9), kinds="f")
log_expit = elementwise("special.log_expit", lambda xp, x: xp.special.expit(-x), kinds="f")


@general("special.expit")
def _expit(xp: Any, x: Any) -> Any:
    e = xp.exp(-xp.abs(x))  # which never overflows
    return xp.where(x < 0, e, xp.ones_like(e)) / (1 + e)


@general("special.logit")
def _logit(xp: Any, x: Any) -> Any:
    return xp.log(x) - xp.log1p(-x)


@general("special.log_expit")
def _log_expit(xp: Any, x: Any) -> Any:
    return xp.where(x < 0, x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))


# --- powers -------------------------------------------------------------------------------------------------------------------------------
# the derivative of (e^x - 1) / x is the sum of n x^(n - 1) / (n + 1)!; a quotient of differences that cancel, near 0
_EXPREL = [n / math.factorial(n + 1) for n in range(1, 19)]

exp2 = elementwise("special.exp2", lambda y: y * math.log(2), kinds="f")
exp10 = elementwise("special.exp10", lambda y: y * math.log(10), kinds="f")
cbrt = elementwise("special.cbrt", lambda ct, y: ct / (3 * y * y), domain=(0.3, 3.0, True), kinds="f")
exprel = elementwise(
    "special.exprel", lambda xp, x: series(xp, x, _EXPREL, lambda z: (xp.exp(z) - xp.special.exprel(z)) / z), domain=(-3.0, 3.0), kinds="f"
)


@general("special.exp2")
def _exp2(xp: Any, x: Any) -> Any:
    return xp.pow(2 * xp.ones_like(x), x)  # exact where x is an integer


@general("special.exp10")
def _exp10(xp: Any, x: Any) -> Any:
    return xp.pow(10 * xp.ones_like(x), x)


@general("special.cbrt")
def _cbrt(xp: Any, x: Any) -> Any:
    y = xp.pow(xp.abs(x), xp.ones_like(x) / 3)
    done = (y == 0) | ~xp.isfinite(y)
    safe = xp.where(done, xp.ones_like(y), y)
    y = xp.where(done, y, safe - (safe - xp.abs(x) / (safe * safe)) / 3)  # a step of Newton's: 1/3 was rounded
    return xp.where(x < 0, -y, y)


@general("special.exprel")
def _exprel(xp: Any, x: Any) -> Any:
    zero = x == 0
    y = xp.expm1(x) / xp.where(zero | (x == math.inf), xp.ones_like(x), x)
    return xp.where(zero, xp.ones_like(x), y)


# --- entropy ------------------------------------------------------------------------------------------------------------------------------
def _log_ratio(xp: Any, x1: Any, x2: Any) -> Any:
    near = xp.abs(x1 - x2) * 2 < x2  # where the rounding of x1 / x2 would be all there is
    base = where_safe(xp, near, x2, 1.0)
    return xp.where(near, xp.log1p(xp.where(near, x1 - x2, xp.zeros_like(base)) / base), xp.log(x1) - xp.log(x2))


def _kl_div_x2(xp: Any, x1: Any, x2: Any) -> Any:
    zero = x1 == 0
    return xp.where(zero, xp.ones_like(x2), (x2 - x1) / xp.where(zero, xp.ones_like(x2), x2))


_POSITIVE: dict[str, Any] = {"domain": (0.2, 3.0), "kinds": "f"}
entr = elementwise("special.entr", lambda xp, x: -1 - xp.log(x), **_POSITIVE)
xlogy = elementwise(
    "special.xlogy",
    lambda xp, x1, x2: xp.log(xp.where((x1 == 0) & (x2 <= 0), xp.ones_like(x2), x2)),
    lambda xp, x1, x2: ratio(xp, x1, x2),
    **_POSITIVE,
)
xlog1py = elementwise(
    "special.xlog1py",
    lambda xp, x1, x2: xp.log1p(xp.where((x1 == 0) & (x2 <= -1), xp.zeros_like(x2), x2)),
    lambda xp, x1, x2: ratio(xp, x1, 1 + x2),
    **_POSITIVE,
)
rel_entr = elementwise(
    "special.rel_entr", lambda xp, x1, x2: _log_ratio(xp, x1, x2) + 1, lambda xp, x1, x2: -ratio(xp, x1, x2), **_POSITIVE
)
kl_div = elementwise("special.kl_div", _log_ratio, _kl_div_x2, **_POSITIVE)


@general("special.xlogy")
def _xlogy(xp: Any, x1: Any, x2: Any) -> Any:
    zero = (x1 == 0) & ~xp.isnan(x2)
    return xp.where(zero, xp.zeros_like(x2), x1 * xp.log(xp.where(zero, xp.ones_like(x2), x2)))


@general("special.xlog1py")
def _xlog1py(xp: Any, x1: Any, x2: Any) -> Any:
    zero = (x1 == 0) & ~xp.isnan(x2)
    return xp.where(zero, xp.zeros_like(x2), x1 * xp.log1p(xp.where(zero, xp.zeros_like(x2), x2)))


@general("special.entr")
def _entr(xp: Any, x: Any) -> Any:
    outside = x < 0
    return xp.where(outside, -math.inf * xp.ones_like(x), -xp.special.xlogy(x, xp.where(outside, xp.ones_like(x), x)))


@general("special.rel_entr")
def _rel_entr(xp: Any, x1: Any, x2: Any) -> Any:
    both = (x1 > 0) & (x2 > 0)
    one = xp.ones_like(x1 + x2)
    y = xp.where((x1 == 0) & (x2 >= 0), 0 * one, math.inf * one)
    y = xp.where(both, x1 * _log_ratio(xp, xp.where(both, x1, one), xp.where(both, x2, one)), y)
    return xp.where(xp.isnan(x1) | xp.isnan(x2), math.nan * one, y)


@general("special.kl_div")
def _kl_div(xp: Any, x1: Any, x2: Any) -> Any:
    inside = (x1 >= 0) & (x2 >= 0) & ((x1 == 0) | (x2 > 0))
    far = xp.special.rel_entr(x1, x2) + xp.where(inside, x2 - x1, xp.zeros_like(x1 - x2))
    # what cancels near x1 = x2: log(x1 / x2) is 2 atanh(s) with s = (x1 - x2) / (x1 + x2), and x1 - x2 is s (x1 + x2)
    near = xp.abs(x1 - x2) * 2 < x2
    a, b = xp.where(near, x1, xp.ones_like(far)), xp.where(near, x2, xp.ones_like(far))
    s = (a - b) / (a + b)
    return xp.where(near, s * (a - b) + 2 * a * s**3 * horner(s * s, [1 / k for k in range(3, 39, 2)]), far)


# --- gamma --------------------------------------------------------------------------------------------------------------------------------
# digamma(x) is log x - 1/(2 x) - the sum of B(2k) / (2k x^(2k)) as x grows
_STIRLING = [1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12]


def rise(xp: Any, a: Any, b: Any) -> Any:
    """Give ``digamma(a + b) - digamma(a)``, which cancels where ``a`` is large."""
    c = a + b
    far = (a > 16) & (c > 16)
    one = xp.ones_like(c)
    a1, c1, b1 = xp.where(far, a, 20 * one), xp.where(far, c, 20 * one), xp.where(far, b, 0 * one)

    def tail(x: Any) -> Any:
        t = 1 / (x * x)
        return t * horner(t, _STIRLING)

    above = xp.log1p(b1 / a1) + b1 / (2 * a1 * c1) + (tail(a1) - tail(c1))
    return xp.where(far, above, xp.special.digamma(xp.where(far, one, c)) - xp.special.digamma(xp.where(far, one, a)))


def _rgamma(xp: Any, x: Any) -> Any:
    # at the poles of gamma, -digamma(x) rgamma(x) is infinity times 0: the reflection formula has no poles on the left
    left = x < 0.5
    z = where_safe(xp, left, x, 0.0)
    turn = (z - 2 * xp.round(z / 2)) * math.pi  # sin and cos are exact where z is an integer
    reflected = xp.special.gamma(1 - z) * (xp.cos(turn) - xp.special.digamma(1 - z) * xp.sin(turn) / math.pi)
    z = where_safe(xp, ~left, x, 1.0)
    return xp.where(left, reflected, -xp.special.digamma(z) * xp.special.rgamma(z))


_RIGHT: dict[str, Any] = {"domain": (0.3, 4.0), "kinds": "f"}
gamma = elementwise("special.gamma", lambda xp, x, y: y * xp.special.digamma(x), **_RIGHT)
gammaln = elementwise("special.gammaln", lambda xp, x: xp.special.digamma(x), **_RIGHT)
loggamma = elementwise("special.loggamma", lambda xp, x: xp.special.digamma(x), **_RIGHT)
rgamma = elementwise("special.rgamma", _rgamma, domain=(-2.4, 3.0), kinds="f")
digamma = elementwise("special.digamma", lambda xp, x: xp.special.zeta(2, x), **_RIGHT)
beta = elementwise(
    "special.beta",
    lambda xp, x1, x2, y: -y * rise(xp, x1, x2),
    lambda xp, x1, x2, y: -y * rise(xp, x2, x1),
    **_RIGHT,
)
betaln = elementwise("special.betaln", lambda xp, x1, x2: -rise(xp, x1, x2), lambda xp, x1, x2: -rise(xp, x2, x1), **_RIGHT)
poch = elementwise(
    "special.poch",
    lambda xp, z, m, y: y * rise(xp, z, m),
    lambda xp, z, m, y: y * xp.special.digamma(z + m),
    signature="z, m, /",
    **_RIGHT,
)
binom = elementwise(
    "special.binom",
    lambda xp, n, k, y: y * rise(xp, n - k + 1, k),
    lambda xp, n, k, y: y * rise(xp, k + 1, n - 2 * k),
    signature="n, k, /",
    domain=((3.0, 6.0), (0.5, 2.5)),
    kinds="f",
)
zeta = elementwise("special.zeta", MISSING, lambda xp, x, q: -x * xp.special.zeta(x + 1, q), signature="x, q=None, /")
polygamma = elementwise("special.polygamma", MISSING, lambda xp, n, x: xp.special.polygamma(n + 1, x), signature="n, x, /")
_Q = Operand((2, 3), Domain(0.5, 3.0))
zeta.cases = [case(s, _Q, kinds="f") for s in (2, 3.5)]
polygamma.cases = [case(n, _Q, kinds="f") for n in (0, 1, 2)]


@composite("special.psi", "x, /", ["x"], cases=gamma.cases)
def psi(xp: Any, x: Any) -> Any:
    """Give `digamma` under its other name."""
    return xp.special.digamma(x)


@general("special.polygamma")
def _polygamma(xp: Any, n: Any, x: Any) -> Any:
    n = xp.astype(n, x.dtype)
    zero, sign = n == 0, 1 - 2 * xp.remainder(n + 1, 2 * xp.ones_like(n))
    n = xp.where(zero, xp.ones_like(n), n)
    return xp.where(zero, xp.special.digamma(x), sign * xp.special.gamma(n + 1) * xp.special.zeta(n + 1, x))


# --- Bessel functions and elliptic integrals ----------------------------------------------------------------------------------------------
_I1 = [0.5 / (4**k * math.factorial(k) * math.factorial(k + 1)) for k in range(10)]  # i1(x) / x in x^2
_J1 = [c * (-1) ** k for k, c in enumerate(_I1)]


def _hankel(order: int, k: int) -> float:
    """Give the k-th coefficient of the expansion in 1/x of sqrt(2 pi x) e^-x I(x)."""
    product: int = math.prod((2 * j - 1) ** 2 - 4 * order**2 for j in range(1, k + 1))
    return float(product / (math.factorial(k) * 8**k))


_GAP = [(_hankel(0, k) - _hankel(1, k)) / _SQRT_2PI for k in range(1, 12)]


def _gap(xp: Any, x: Any) -> Any:
    """Give ``i0e(x) - i1e(x)`` for the absolute value of ``x``: a difference that cancels as it grows."""
    x = xp.abs(x)
    far = x > 50
    t = 1 / where_safe(xp, far, x, 50.0)
    x = where_safe(xp, ~far, x, 0.0)
    return xp.where(far, t * xp.sqrt(t) * horner(t, _GAP), xp.special.i0e(x) - xp.special.i1e(x))


def _i1_by_x(xp: Any, x: Any) -> Any:
    return series(xp, x, _I1, lambda z: xp.special.i1(z) / z, square=True)


def _i1e_by_x(xp: Any, x: Any) -> Any:
    near = xp.abs(x) < 1
    z = where_safe(xp, near, x, 0.0)
    scaled = xp.exp(-xp.abs(z)) * horner(z * z, _I1)
    z = where_safe(xp, ~near, x, 1.0)
    return xp.where(near, scaled, xp.special.i1e(z) / z)


i0 = elementwise("special.i0", lambda xp, x: xp.special.i1(x), kinds="f")
i1 = elementwise("special.i1", lambda xp, x: xp.special.i0(x) - _i1_by_x(xp, x), kinds="f")
i0e = elementwise("special.i0e", lambda xp, x: -xp.sign(x) * _gap(xp, x), domain=(0.2, 3.0, True), kinds="f")
i1e = elementwise("special.i1e", lambda xp, x: _gap(xp, x) - _i1e_by_x(xp, x), domain=(0.2, 3.0, True), kinds="f")
j0 = elementwise("special.j0", lambda xp, x: -xp.special.j1(x), kinds="f")
j1 = elementwise("special.j1", lambda xp, x: xp.special.j0(x) - series(xp, x, _J1, lambda z: xp.special.j1(z) / z, square=True), kinds="f")
k0 = elementwise("special.k0", lambda xp, x: -xp.special.k1(x), **_POSITIVE)
k1 = elementwise("special.k1", lambda xp, x, y: -xp.special.k0(x) - y / x, **_POSITIVE)

_K = [math.pi / 2 * (math.comb(2 * n, n) / 4**n) ** 2 for n in range(26)]  # ellipk(m) in m
_DK = [n * c for n, c in enumerate(_K)][1:]
_DE = [-n * c / (2 * n - 1) for n, c in enumerate(_K)][1:]


def _ellipk(xp: Any, x: Any) -> Any:
    return series(xp, x, _DK, lambda m: (xp.special.ellipe(m) / (1 - m) - xp.special.ellipk(m)) / (2 * m), radius=0.2)


def _ellipe(xp: Any, x: Any) -> Any:
    return series(xp, x, _DE, lambda m: (xp.special.ellipe(m) - xp.special.ellipk(m)) / (2 * m), radius=0.2)


ellipk = elementwise("special.ellipk", _ellipk, domain=(-0.9, 0.9), kinds="f")
ellipe = elementwise("special.ellipe", _ellipe, domain=(-0.9, 0.9), kinds="f")

# --- Huber's loss -------------------------------------------------------------------------------------------------------------------------
huber = elementwise(
    "special.huber",
    lambda xp, delta, r: xp.where(xp.abs(r) <= delta, xp.zeros_like(r), xp.abs(r) - delta),
    lambda xp, delta, r: xp.where(xp.abs(r) <= delta, r, delta * xp.sign(r)),
    signature="delta, r, /",
    domain=((0.5, 1.0), (1.1, 2.0, True)),
    kinds="f",
)


def _pseudo_huber(xp: Any, delta: Any, r: Any) -> Any:
    # (h - delta)^2 / h with h = hypot(delta, r), without the difference
    h = xp.hypot(delta, r)
    return ratio(xp, r, h) * (r * ratio(xp, r, h + delta)) * ratio(xp, r, h + delta)


pseudo_huber = elementwise(
    "special.pseudo_huber",
    _pseudo_huber,
    lambda xp, delta, r: delta * ratio(xp, r, xp.hypot(delta, r)),
    signature="delta, r, /",
    **_POSITIVE,
)


@general("special.huber")
def _huber_value(xp: Any, delta: Any, r: Any) -> Any:
    size = xp.abs(r)
    y = xp.where(size <= delta, r * r * 0.5, delta * (size - delta * 0.5))
    return xp.where(delta < 0, math.inf * xp.ones_like(y), y)


@general("special.pseudo_huber")
def _pseudo_huber_value(xp: Any, delta: Any, r: Any) -> Any:
    y = delta * (r * ratio(xp, r, xp.hypot(delta, r) + delta))
    return xp.where(delta < 0, math.inf * xp.ones_like(y), y)


# large arguments, for which formulas change
for _op in (beta, betaln, poch):
    _op.cases = [
        *_op.cases,
        *(case(*(Operand((3,), Domain(*d)) for d in ds), kinds="f") for ds in (((25.0, 60.0), (0.3, 2.0)), ((0.3, 2.0), (25.0, 60.0)))),
    ]
for _op in (i0e, i1e):
    _op.cases = [*_op.cases, case(Operand((3,), Domain(55.0, 90.0, True)), kinds="f")]
