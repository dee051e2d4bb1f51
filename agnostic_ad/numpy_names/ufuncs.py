"""NumPy's universal functions, with their keywords (``where``, ``out``, ``dtype``) and methods (``reduce``, ``outer``, ...)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.errors import UnmappedFunctionError
from agnostic_ad.families import broadcast_shapes, normalize_axes, normalize_axis
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import NAMES, PLACE_OF_OUT, array, arrays, check_out, floating, named
from agnostic_ad.op import TABLE

__all__ = ["OPERATIONS"]

_SAME = """acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_or bitwise_xor ceil conj copysign cos cosh divide equal exp expm1 floor
    floor_divide greater greater_equal hypot isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp maximum
    minimum multiply negative nextafter not_equal positive pow reciprocal remainder sign signbit sin sinh sqrt square subtract tan tanh trunc
    bitwise_invert bitwise_left_shift bitwise_right_shift abs"""

OPERATIONS: dict[str, str] = {name: name for name in _SAME.split()} | {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "bitwise_not": "bitwise_invert",
    "conjugate": "conj",
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "mod": "remainder",
    "power": "pow",
    "right_shift": "bitwise_right_shift",
    "true_divide": "divide",
}
"""The universal functions that are one operation of the table."""

_BINARY = {name for name in OPERATIONS if len(TABLE[OPERATIONS[name]].arrays) == 2}


# --- calls with keywords ----------------------------------------------------------------------------------------------------------------------
def _universal(name: str, nin: int, core: Callable[..., Any]) -> None:
    """Register ``core(xp, *operands)`` with the keywords of a universal function."""

    def ufunc(xp: Any, *inputs: Any, into: Any = None, where: Any = True, dtype: Any = None, **unused: Any) -> Any:
        if len(inputs) != nin:
            raise TypeError(f"{name} takes {nin} operand{'s' * (nin > 1)}; got {len(inputs)}")
        if unused.keys() - {"casting", "order", "subok"}:
            raise TypeError(f"{name} has no arguments {', '.join(unused)}")
        if where is True and dtype is None and not any(isinstance(x, list | tuple) for x in inputs):
            return core(xp, *inputs)
        operands = tuple(arrays(xp, *inputs))
        if dtype is not None:
            wanted = xp.backend.dtype(dtype)
            if xp.backend.kind(wanted) != "b":
                operands = tuple(xp.astype(x, wanted, copy=False) for x in operands)
        return core(xp, *operands) if where is True else _masked(xp, core, operands, where, into)

    ufunc.__name__ = name
    PLACE_OF_OUT[ufunc] = nin
    NAMES[name] = ufunc
    CORES[name] = core
    if nin == 2:
        _methods(name)


CORES: dict[str, Callable[..., Any]] = {}
"""The universal functions as functions of ``(xp, *operands)`` alone."""


def _masked(xp: Any, core: Callable[..., Any], operands: tuple[Any, ...], where: Any, out: Any) -> Any:
    """Compute where the mask is true only: elsewhere neither a value nor a derivative may be computed, which might not be finite."""
    mask = array(xp, where)
    shape = broadcast_shapes(tuple(mask.shape), *(tuple(x.shape) for x in operands), *(() if out is None else (tuple(out.shape),)))
    places = xp.nonzero(xp.reshape(xp.broadcast_to(mask, shape), (-1,)))[0]
    y = core(xp, *(xp.gather(xp.reshape(xp.broadcast_to(x, shape), (-1,)), places) for x in operands))
    if out is None:
        rest = xp.zeros((math.prod(shape),), dtype=y.dtype, device=y.device)
    else:
        rest = xp.reshape(array(xp, out), (-1,))
        y = xp.astype(y, rest.dtype, copy=False)
    return xp.reshape(xp.put_rows(rest, places, y), shape)


# --- methods ------------------------------------------------------------------------------------------------------------------------------------
_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
_TREES = {"logaddexp", "logaddexp2", "hypot", "fmax", "fmin", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_xor"}


def _methods(name: str) -> None:
    """Register the methods of a universal function of two operands."""

    @named(f"{name}.reduce")
    def reduce(
        xp: Any,
        array: Any,
        /,
        axis: Any = 0,
        dtype: Any = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = True,
    ) -> Any:
        return _reduce(xp, name, array, axis, dtype, keepdims, initial, where)

    @named(f"{name}.accumulate")
    def accumulate(xp: Any, array: Any, /, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        return _accumulate(xp, name, array, axis, dtype)

    @named(f"{name}.outer")
    def outer(xp: Any, A: Any, B: Any, /, **options: Any) -> Any:
        """Combine every element of one array with every one of another."""
        a, b = arrays(xp, A, B)
        return NAMES[name](xp, xp.reshape(a, (*a.shape, *(1,) * b.ndim)), b, **options)

    if name in ("add", "subtract"):

        @named(f"{name}.at")
        def at(xp: Any, a: Any, indices: Any, b: Any, /) -> None:
            _at(xp, name, a, indices, b)


def _reduce(xp: Any, name: str, x: Any, axis: Any, dtype: Any, keepdims: bool, initial: Any, where: Any) -> Any:
    """Combine the elements along axes; one after the other, or as a balanced tree where the order does not matter."""
    if name in _REDUCTIONS:
        options = {k: v for k, v in {"dtype": dtype, "initial": initial}.items() if v is not None}
        return NAMES[_REDUCTIONS[name]](xp, x, axis=axis, keepdims=keepdims, **options, **({} if where is True else {"where": where}))
    if where is not True:
        raise UnmappedFunctionError(f"numpy.{name}.reduce: where= is not supported. Put the neutral element there with xp.where.")
    x = array(xp, x)
    x = x if dtype is None else xp.astype(x, xp.backend.dtype(dtype))
    axes = normalize_axes(axis, x.ndim, f"{name}.reduce")
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    rows = xp.moveaxis(x, axes, tuple(range(len(axes))))
    rows = xp.reshape(rows, (math.prod(rows.shape[: len(axes)]), *rows.shape[len(axes) :]))
    core = CORES[name]
    if rows.shape[0] == 0 and initial is None:
        raise ValueError(f"{name}.reduce of no elements needs initial")
    if name in _TREES:
        while rows.shape[0] > 1:
            half, odd = divmod(rows.shape[0], 2)
            y = core(xp, rows[:half, ...], rows[half : 2 * half, ...])
            rows = xp.concat([y, rows[2 * half :, ...]]) if odd else y
        parts = [rows[0, ...]] if rows.shape[0] else []
    else:
        parts = [rows[i, ...] for i in range(rows.shape[0])]
    if initial is not None:
        parts.insert(0, xp.broadcast_to(array(xp, initial, x), rows.shape[1:]))
    y = functools.reduce(lambda a, b: core(xp, a, b), parts)
    return xp.reshape(y, kept) if keepdims else y


def _accumulate(xp: Any, name: str, x: Any, axis: int, dtype: Any) -> Any:
    """Combine the elements up to each one along an axis."""
    x = array(xp, x)
    if name in ("add", "multiply"):
        return NAMES["cumsum" if name == "add" else "cumprod"](xp, x, axis=axis, dtype=dtype)
    x = x if dtype is None else xp.astype(x, xp.backend.dtype(dtype))
    axis = normalize_axis(axis, x.ndim, f"{name}.accumulate")
    core = CORES[name]
    rows = xp.moveaxis(x, axis, 0)
    parts = [rows[i, ...] for i in range(rows.shape[0])]
    for i in range(1, len(parts)):
        parts[i] = core(xp, parts[i - 1], parts[i])
    return xp.moveaxis(xp.stack(parts), 0, axis) if parts else x


def _at(xp: Any, name: str, a: Any, indices: Any, b: Any) -> None:
    """Add or subtract at indices in place, again for an index that comes again."""
    check_out(f"{name}.at", a)
    places = xp.reshape(xp.arange(a.size, device=a.device), a.shape)[indices]
    value = xp.astype(xp.broadcast_to(array(xp, b, a), places.shape), a.dtype)
    change = xp.reshape(xp.scatter_add(xp.reshape(value, (-1,)), xp.reshape(places, (-1,)), size=a.size), a.shape)
    a[...] = a + change if name == "add" else a - change


# --- one operation each -------------------------------------------------------------------------------------------------------------------------
def _operation(op: str) -> Callable[..., Any]:
    return lambda xp, *operands: getattr(xp, op)(*operands)


for _name, _op in OPERATIONS.items():
    _universal(_name, 2 if _name in _BINARY else 1, _operation(_op))


# --- made of operations -------------------------------------------------------------------------------------------------------------------------
def _ufunc(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(core: Callable[..., Any]) -> Callable[..., Any]:
        nin = core.__code__.co_argcount - 1
        for name in names:
            _universal(name, nin, lambda xp, *operands: core(xp, *arrays(xp, *operands)))
        return core

    return register


def _scaled(factor: float, *names: str) -> None:
    _ufunc(*names)(lambda xp, x: floating(xp, x) * factor)


_scaled(math.pi / 180, "deg2rad", "radians")
_scaled(180 / math.pi, "rad2deg", "degrees")


@_ufunc("fabs")
def fabs(xp: Any, x: Any) -> Any:
    return xp.abs(floating(xp, x))


@_ufunc("rint")
def rint(xp: Any, x: Any) -> Any:
    return xp.round(floating(xp, x))


@_ufunc("exp2")
def exp2(xp: Any, x: Any) -> Any:
    return xp.special.exp2(floating(xp, x))


@_ufunc("cbrt")
def cbrt(xp: Any, x: Any) -> Any:
    return xp.special.cbrt(floating(xp, x))


@_ufunc("logaddexp2")
def logaddexp2(xp: Any, x1: Any, x2: Any) -> Any:
    return xp.logaddexp(x1 * math.log(2), x2 * math.log(2)) / math.log(2)


@_ufunc("fmax")
def fmax(xp: Any, x1: Any, x2: Any) -> Any:
    return xp.where(_nan(xp, x1), x2, xp.where(_nan(xp, x2), x1, xp.maximum(x1, x2)))


@_ufunc("fmin")
def fmin(xp: Any, x1: Any, x2: Any) -> Any:
    return xp.where(_nan(xp, x1), x2, xp.where(_nan(xp, x2), x1, xp.minimum(x1, x2)))


def _nan(xp: Any, x: Any) -> Any:
    return x != x


@_ufunc("fmod")
def fmod(xp: Any, x1: Any, x2: Any) -> Any:
    """Divide, and give the remainder with the sign of the dividend, exactly."""
    negative = x1 < 0
    r = xp.remainder(xp.where(negative, -x1, x1), xp.abs(x2))
    return xp.where(negative, -r, r)


@_ufunc("float_power")
def float_power(xp: Any, x1: Any, x2: Any) -> Any:
    wide = xp.backend.dtype("complex128" if x1.dtype in COMPLEX or x2.dtype in COMPLEX else "float64")
    return xp.pow(xp.astype(x1, wide), xp.astype(x2, wide))


@_ufunc("heaviside")
def heaviside(xp: Any, x1: Any, x2: Any) -> Any:
    """Give 0, x2 or 1 for negative, zero and positive x1."""
    dtype = xp.result_type(floating(xp, x1), floating(xp, x2))
    x1, x2 = xp.astype(x1, dtype, copy=False), xp.astype(x2, dtype, copy=False)
    step = xp.where(x1 > 0, xp.ones_like(x1), xp.zeros_like(x1))
    return xp.where(_nan(xp, x1), x1, xp.where(x1 == 0, x2, step))


@_ufunc("ldexp")
def ldexp(xp: Any, x1: Any, x2: Any) -> Any:
    return x1 * xp.pow(2.0, xp.astype(x2, x1.dtype))


@_ufunc("frexp")
def frexp(xp: Any, x: Any) -> Any:
    """Give the mantissa, from 0.5 to 1, and the exponent."""
    plain = xp.isfinite(x) & (x != 0)
    safe = xp.stop_gradient(xp.where(plain, xp.abs(x), xp.ones_like(x)))
    exponent = xp.floor(xp.log2(safe)) + 1
    mantissa = safe * xp.pow(2.0, -exponent)
    exponent = exponent + xp.astype(mantissa >= 1, x.dtype) - xp.astype(mantissa < 0.5, x.dtype)  # log2 rounds
    exponent = xp.where(plain, exponent, xp.zeros_like(x))
    return x * xp.pow(2.0, -exponent), xp.astype(exponent, xp.backend.dtype("int32"))


@_ufunc("modf")
def modf(xp: Any, x: Any) -> Any:
    x = floating(xp, x)
    whole = xp.trunc(x)
    return x - whole, whole


@_ufunc("divmod")
def divmod_(xp: Any, x1: Any, x2: Any) -> Any:
    return xp.floor_divide(x1, x2), xp.remainder(x1, x2)


def _truth(xp: Any, x: Any) -> Any:
    return x if xp.backend.kind(x.dtype) == "b" else x != 0


for _name in ("logical_and", "logical_or", "logical_xor"):
    _universal(_name, 2, lambda xp, a, b, _name=_name: getattr(xp, _name)(*(_truth(xp, x) for x in arrays(xp, a, b))))
_universal("logical_not", 1, lambda xp, x: xp.logical_not(_truth(xp, array(xp, x))))


# --- generalised: over the last axes --------------------------------------------------------------------------------------------------------------
def _refuse_axes(name: str, options: dict[str, Any]) -> None:
    given = [k for k, v in options.items() if k not in ("casting", "order", "subok", "dtype")]
    if given:
        raise UnmappedFunctionError(
            f"numpy.{name}: the arguments {', '.join(given)} are not supported. Move the axes with np.moveaxis first."
        )


@named("matmul")
def matmul(xp: Any, x1: Any, x2: Any, out: Any = None, **options: Any) -> Any:
    _refuse_axes("matmul", options)
    return xp.matmul(*arrays(xp, x1, x2))


@named("vecdot")
def vecdot(xp: Any, x1: Any, x2: Any, out: Any = None, *, axis: int = -1, **options: Any) -> Any:
    _refuse_axes("vecdot", options)
    return xp.vecdot(*arrays(xp, x1, x2), axis=axis)


@named("matvec")
def matvec(xp: Any, x1: Any, x2: Any, out: Any = None, **options: Any) -> Any:
    _refuse_axes("matvec", options)
    x1, x2 = arrays(xp, x1, x2)
    return xp.matmul(x1, x2[..., None])[..., 0]


@named("vecmat")
def vecmat(xp: Any, x1: Any, x2: Any, out: Any = None, **options: Any) -> Any:
    _refuse_axes("vecmat", options)
    x1, x2 = arrays(xp, x1, x2)
    return xp.matmul(xp.conj(x1)[..., None, :] if x1.dtype in COMPLEX else x1[..., None, :], x2)[..., 0, :]
