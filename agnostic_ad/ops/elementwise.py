"""Elementwise functions of the standard.

Values at points without a derivative: abs, sign, hypot and atan2 give 0 at the origin; operands that tie in maximum and minimum share
equally; clip passes everything at its bounds; sqrt, log and the like give the infinities that their formulas give.

Complex functions follow PyTorch: the partial derivative is the holomorphic one, and the cotangent is multiplied by its conjugate.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import composite, elementwise
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.samples import HUGE, LINE, Domain, Operand, case

_INF = math.inf
_COMPARE: dict[str, Any] = {"result": "bool", "nin": 2}
_NONZERO = (0.2, 3.0, True, (1 / HUGE, HUGE))
_RIGHT = (0.1, 4.0, False, (1 / HUGE, HUGE))


def _safe_ratio(xp: Any, a: Any, b: Any) -> Any:
    """Give a / b, and 0 where b is 0."""
    zero = b == 0
    return xp.where(zero, xp.zeros_like(b), a / xp.where(zero, xp.ones_like(b), b))


def _share(xp: Any, ct: Any, wins: Any, ties: Any) -> Any:
    return xp.where(ties, ct / 2, xp.where(wins, ct, xp.zeros_like(ct)))


def _pow_x1(xp: Any, ct: Any, x1: Any, x2: Any) -> Any:
    if isinstance(x2, int | float):  # v ** 2: no array for the exponent
        if x2 == 0:
            return xp.zeros_like(x1) * ct
        return ct * (x2 * x1) if x2 == 2 else ct * (x2 * x1 ** (x2 - 1))
    zero = x2 == 0
    return ct * xp.where(zero, xp.zeros_like(x2), x2 * x1 ** xp.where(zero, xp.ones_like(x2), x2 - xp.ones_like(x2)))


def _pow_x2(xp: Any, ct: Any, x1: Any, x2: Any, y: Any) -> Any:
    # 0 ** x2 is 0 for every positive x2, and 1 for none: its derivative there is 0, not 0 * -inf
    zero = x1 == 0
    return ct * xp.where(zero, xp.zeros_like(y), y * xp.log(xp.where(zero, xp.ones_like(x1), x1)))


def _sign_map(xp: Any, ct: Any, x: Any, y: Any) -> Any:
    # d(x/|x|) = (t - s Re(conj(s) t)) / |x|: a symmetric real-linear map, so forward and reverse are one rule
    if x.dtype not in COMPLEX:
        return xp.zeros_like(ct)
    radial = xp.astype(xp.real(xp.conj(y) * ct), x.dtype)
    return _safe_ratio(xp, ct - y * radial, xp.astype(xp.abs(x), x.dtype))


def _abs_forward(xp: Any, ct: Any, x: Any) -> Any:
    return xp.real(xp.conj(xp.sign(x)) * ct) if x.dtype in COMPLEX else xp.sign(x) * ct


def _root_of_square(xp: Any, x: Any, sign: int) -> Any:
    """Give sqrt(1 - x^2) (sign -1) or sqrt(x^2 - 1) (sign 1) without cancellation, on the right branch."""
    one = xp.ones_like(x)
    return xp.sqrt(one - x) * xp.sqrt(one + x) if sign < 0 else xp.sqrt(x - one) * xp.sqrt(x + one)


def _asinh(xp: Any, x: Any) -> Any:
    one = xp.ones_like(x)
    if x.dtype in COMPLEX:
        return one / (xp.sqrt(one + 1j * x) * xp.sqrt(one - 1j * x))
    return one / xp.hypot(one, x)


def _atan2(xp: Any, ct: Any, x: Any, other: Any) -> Any:
    radius = xp.hypot(x, other)
    return ct * _safe_ratio(xp, _safe_ratio(xp, x, radius), radius)


# --- arithmetic ---------------------------------------------------------------------------------------------------------------------------
add = elementwise("add", 1, 1, operators=("__add__", "__radd__"), domain=LINE, kinds="ifc")
subtract = elementwise("subtract", 1, -1, operators=("__sub__", "__rsub__"), domain=LINE, kinds="ifc")
multiply = elementwise("multiply", "x2", "x1", operators=("__mul__", "__rmul__"), domain=LINE, kinds="ifc")
divide = elementwise(
    "divide",
    lambda ct, x2: ct / x2,
    lambda ct, x2, y: -ct * y / x2,
    operators=("__truediv__", "__rtruediv__"),
    domain=(LINE, (0.3, 3.0, True, (1 / HUGE, HUGE))),
)
pow = elementwise("pow", _pow_x1, _pow_x2, operators=("__pow__", "__rpow__"), domain=((0.2, 3.0), (-2.0, 2.0)), kinds="ifc")
remainder = elementwise(
    "remainder",
    1,
    lambda xp, x1, x2: -xp.floor(x1 / x2),
    operators=("__mod__", "__rmod__"),
    domain=((6.4, 6.8), (2.0, 2.1)),  # quotients away from integers, and from zero: the derivative with respect to x2 is one
    kinds="if",
)
floor_divide = elementwise(
    "floor_divide", None, None, operators=("__floordiv__", "__rfloordiv__"), domain=((0.2, 0.8), (1.0, 1.7)), kinds="if"
)
negative = elementwise("negative", -1, operators=("__neg__",), domain=LINE, kinds="ifc")
positive = elementwise("positive", 1, operators=("__pos__",), kinds="ifc")
reciprocal = elementwise("reciprocal", lambda y: -y * y, domain=(0.3, 3.0, True, (1 / HUGE, HUGE)))
square = elementwise("square", lambda x: x + x, domain=LINE, kinds="ifc")
sqrt = elementwise("sqrt", lambda ct, y: ct / (y + y), domain=_RIGHT)
abs = elementwise(
    "abs",
    vjps=[lambda xp, ct, x: ct * xp.sign(x)],
    jvps=[_abs_forward],
    result="real",
    operators=("__abs__",),
    domain=_NONZERO,
    kinds="ifc",
)
sign = elementwise("sign", vjps=[_sign_map], jvps=[_sign_map], domain=_NONZERO, kinds="ifc")
hypot = elementwise(
    "hypot",
    lambda xp, ct, x1, y: ct * _safe_ratio(xp, x1, y),
    lambda xp, ct, x2, y: ct * _safe_ratio(xp, x2, y),
    domain=_NONZERO,
    kinds="f",
)
copysign = elementwise(
    "copysign",
    lambda xp, ct, x1, x2: xp.where(xp.signbit(x1) == xp.signbit(x2), ct, -ct),
    None,
    domain=_NONZERO,
    kinds="f",
)
nextafter = elementwise("nextafter", 1, None, kinds="f")

# --- exponentials and logarithms ------------------------------------------------------------------------------------------------------------
exp = elementwise("exp", lambda y: y)
expm1 = elementwise("expm1", lambda xp, x: xp.exp(x))
log = elementwise("log", lambda ct, x: ct / x, domain=_RIGHT)
log1p = elementwise("log1p", lambda ct, x: ct / (x + 1), domain=(-0.8, 4.0))
log2 = elementwise("log2", lambda ct, x: ct / (x * math.log(2)), domain=_RIGHT)
log10 = elementwise("log10", lambda ct, x: ct / (x * math.log(10)), domain=_RIGHT)
logaddexp = elementwise("logaddexp", lambda xp, x1, y: xp.exp(x1 - y), lambda xp, x2, y: xp.exp(x2 - y), kinds="f")

# --- trigonometry -----------------------------------------------------------------------------------------------------------------------------
sin = elementwise("sin", lambda xp, x: xp.cos(x))
cos = elementwise("cos", lambda xp, x: -xp.sin(x))
tan = elementwise("tan", lambda ct, y: ct + ct * y * y, domain=(-1.2, 1.2))
asin = elementwise("asin", lambda xp, ct, x: ct / _root_of_square(xp, x, -1), domain=(-0.9, 0.9))
acos = elementwise("acos", lambda xp, ct, x: -ct / _root_of_square(xp, x, -1), domain=(-0.9, 0.9))
atan = elementwise("atan", lambda ct, x: ct / (x * x + 1), domain=LINE)
atan2 = elementwise(
    "atan2",
    lambda xp, ct, x1, x2: _atan2(xp, ct, x2, x1),
    lambda xp, ct, x1, x2: -_atan2(xp, ct, x1, x2),
    domain=_NONZERO,
    kinds="f",
)
sinh = elementwise("sinh", lambda xp, x: xp.cosh(x))
cosh = elementwise("cosh", lambda xp, x: xp.sinh(x))
tanh = elementwise("tanh", lambda ct, y: ct - ct * y * y)
asinh = elementwise("asinh", _asinh, domain=LINE)
acosh = elementwise("acosh", lambda xp, ct, x: ct / _root_of_square(xp, x, 1), domain=(1.2, 4.0))
atanh = elementwise("atanh", lambda xp, ct, x: ct / ((xp.ones_like(x) - x) * (xp.ones_like(x) + x)), domain=(-0.8, 0.8))

# --- complex numbers ----------------------------------------------------------------------------------------------------------------------------
real = elementwise(
    "real", vjps=[lambda ct: ct], jvps=[lambda xp, ct, x: xp.real(ct) if x.dtype in COMPLEX else ct], result="real", kinds="ifc"
)
imag = elementwise(
    "imag",
    vjps=[lambda xp, ct, x_dtype: xp.astype(ct, x_dtype) * 1j if x_dtype in COMPLEX else xp.zeros_like(ct)],
    jvps=[lambda xp, ct: xp.imag(ct)],
    result="real",
    kinds="c",
)
conj = elementwise("conj", vjps=[lambda xp, ct: xp.conj(ct)], jvps=[lambda xp, ct: xp.conj(ct)], kinds="ifc")

# --- choices ------------------------------------------------------------------------------------------------------------------------------------
maximum = elementwise(
    "maximum",
    lambda xp, ct, x1, x2: _share(xp, ct, x1 > x2, x1 == x2),
    lambda xp, ct, x1, x2: _share(xp, ct, x2 > x1, x1 == x2),
    domain=LINE,
    kinds="if",
)
minimum = elementwise(
    "minimum",
    lambda xp, ct, x1, x2: _share(xp, ct, x1 < x2, x1 == x2),
    lambda xp, ct, x1, x2: _share(xp, ct, x2 < x1, x1 == x2),
    domain=LINE,
    kinds="if",
)


_CLIPS = [
    case((2, 3), -1.0, 1.0, kinds="f"),
    case((2, 3), 2, 5, kinds="i"),
    case((3, 4), Operand((4,), Domain(-3.0, -1.0)), Operand((), Domain(1.0, 3.0)), kinds="f"),
    case((3,), None, Operand((3,)), kinds="f"),
    case((3,), Operand((1,)), None, kinds="f"),
    case((), None, None, kinds="if"),
    case((0,), -1.0, None, kinds="f"),
]


@composite("clip", "x, /, min=None, max=None", ["x", "min", "max"], cases=_CLIPS, scalars=True)
def clip(xp: Any, x: Any, min: Any = None, max: Any = None) -> Any:
    """Limit values; the derivative passes where min <= x <= max, and to the bound elsewhere."""
    if min is not None:
        x = xp.where(x < min, xp.astype(min, x.dtype), x)
    if max is not None:
        x = xp.where(x > max, xp.astype(max, x.dtype), x)
    return x


# --- zero almost everywhere -----------------------------------------------------------------------------------------------------------------------
ceil = elementwise("ceil", None, domain=(0.1, 0.4), kinds="if")
floor = elementwise("floor", None, domain=(0.1, 0.4), kinds="if")
round = elementwise("round", None, domain=(0.1, 0.4), kinds="ifc")
trunc = elementwise("trunc", None, domain=(0.1, 0.4), kinds="if")

# --- integer and boolean results ------------------------------------------------------------------------------------------------------------------
equal = elementwise("equal", operators=("__eq__",), kinds="bifc", **_COMPARE)
not_equal = elementwise("not_equal", operators=("__ne__",), kinds="bifc", **_COMPARE)
less = elementwise("less", operators=("__lt__",), kinds="if", **_COMPARE)
less_equal = elementwise("less_equal", operators=("__le__",), kinds="if", **_COMPARE)
greater = elementwise("greater", operators=("__gt__",), kinds="if", **_COMPARE)
greater_equal = elementwise("greater_equal", operators=("__ge__",), kinds="if", **_COMPARE)
isfinite = elementwise("isfinite", result="bool", kinds="ifc")
isinf = elementwise("isinf", result="bool", kinds="ifc")
isnan = elementwise("isnan", result="bool", kinds="ifc")
signbit = elementwise("signbit", result="bool", kinds="f")
logical_and = elementwise("logical_and", kinds="b", **_COMPARE)
logical_or = elementwise("logical_or", kinds="b", **_COMPARE)
logical_xor = elementwise("logical_xor", kinds="b", **_COMPARE)
logical_not = elementwise("logical_not", result="bool", kinds="b")
bitwise_and = elementwise("bitwise_and", nin=2, operators=("__and__", "__rand__"), kinds="bi")
bitwise_or = elementwise("bitwise_or", nin=2, operators=("__or__", "__ror__"), kinds="bi")
bitwise_xor = elementwise("bitwise_xor", nin=2, operators=("__xor__", "__rxor__"), kinds="bi")
bitwise_invert = elementwise("bitwise_invert", operators=("__invert__",), kinds="bi")
bitwise_left_shift = elementwise("bitwise_left_shift", nin=2, operators=("__lshift__", "__rlshift__"), domain=(0, 7), kinds="i")
bitwise_right_shift = elementwise("bitwise_right_shift", nin=2, operators=("__rshift__", "__rrshift__"), domain=(0, 7), kinds="i")

pow.cases = [*pow.cases, *(case(Operand((3,), Domain(0.2, 3.0)), n, kinds="fc") for n in (2, 3, 0, 0.5))]
for _op in (isfinite, isinf, isnan):
    _op.cases = [*_op.cases, case(Operand((2, 3), structure="beyond"), kinds="f")]

# --- beyond the standard ----------------------------------------------------------------------------------------------------------------------------
stop_gradient = elementwise("stop_gradient", None)
stop_gradient.cases = [case(Operand((2, 3), kind=k), kinds=k) for k in "fc"]  # of a kind of their own: nothing moves
