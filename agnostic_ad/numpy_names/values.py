"""NumPy's functions that make arrays from others, convert them, or change their values one by one; and functions of functions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from agnostic_ad.errors import UnmappedFunctionError
from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import Array, inexact
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import array as lifted
from agnostic_ad.numpy_names.base import arrays, arrays_in, floating, named, sequence


# --- making -------------------------------------------------------------------------------------------------------------------------------------
@named("array")
def array(
    xp: Any, object: Any, dtype: Any = None, *, copy: Any = True, order: str = "K", subok: bool = False, ndmin: int = 0, ndmax: int = 0
) -> Any:
    """Make an array from nested lists with arrays among them; of an array, a copy."""
    x = xp.asarray(object, dtype=dtype, copy=True if copy else None)
    return xp.reshape(x, (*(1,) * (ndmin - x.ndim), *x.shape)) if x.ndim < ndmin else x


@named("asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "asarray_chkfinite", "require")
def asarray(
    xp: Any, a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: Any = None, requirements: Any = None
) -> Any:
    return xp.asarray(a, dtype=dtype, device=device, copy=copy)


@named("copy")
def copy(xp: Any, a: Any, order: str = "K", subok: bool = False) -> Any:
    return xp.asarray(a, copy=True)


@named("astype")
def astype(xp: Any, x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return xp.astype(lifted(xp, x), xp.backend.dtype(dtype), copy=copy)


def _like(name: str) -> None:
    @named(f"{name}_like")
    def make_like(
        xp: Any, a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
    ) -> Any:
        a = lifted(xp, a)
        size = tuple(a.shape) if shape is None else shape
        return getattr(xp, name)(size, dtype=a.dtype if dtype is None else dtype, device=a.device if device is None else device)

    @named(name)
    def make(xp: Any, shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None) -> Any:
        return getattr(xp, name)(shape, dtype=dtype, device=device)


for _name in ("zeros", "ones", "empty"):
    _like(_name)


@named("full")
def full(xp: Any, shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: Any = None) -> Any:
    return xp.full(tuple(shape) if isinstance(shape, list) else shape, fill_value, dtype=dtype, device=device)


@named("full_like")
def full_like(
    xp: Any, a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Any:
    a = lifted(xp, a)
    dtype = a.dtype if dtype is None else xp.backend.dtype(dtype)
    size = tuple(a.shape) if shape is None else shape
    place = a.device if device is None else device
    if isinstance(fill_value, Array):
        return xp.broadcast_to(xp.astype(lifted(xp, fill_value), dtype, copy=False), size)
    return xp.full(size, fill_value, dtype=dtype, device=place)


@named("eye")
def eye(xp: Any, N: int, M: Any = None, k: int = 0, dtype: Any = None, order: str = "C", *, device: Any = None) -> Any:
    return xp.eye(N, M, k=k, dtype=dtype, device=device)


@named("identity")
def identity(xp: Any, n: int, dtype: Any = None) -> Any:
    return xp.eye(n, dtype=dtype)


@named("arange")
def arange(xp: Any, *args: Any, dtype: Any = None, device: Any = None) -> Any:
    if any(inexact(x) for x in arrays_in(args)):
        raise UnmappedFunctionError(
            "numpy.arange of an array that carries a derivative: the number of elements depends on it. Use np.linspace, or float(x)."
        )
    return xp.arange(*map(operator.index, args), dtype=dtype, device=device)


def _spaced(xp: Any, start: Any, stop: Any, num: int, endpoint: bool, dtype: Any, axis: int) -> tuple[Any, Any]:
    """Give evenly spaced values between arrays along a new axis, and the step."""
    start, stop = (floating(xp, x) for x in arrays(xp, start, stop))
    gap = stop - start
    parts = num - 1 if endpoint else num
    weight = xp.arange(num, dtype=xp.backend.real_of(gap.dtype), device=gap.device)
    step = gap / max(parts, 1)
    y = xp.expand_dims(start, axis=0) + xp.reshape(weight, (-1, *(1,) * gap.ndim)) * step
    if endpoint and num > 1:  # exactly
        y = xp.concat([y[:-1, ...], xp.expand_dims(xp.broadcast_to(stop, gap.shape), axis=0)])
    y = y if axis == 0 else xp.moveaxis(y, 0, axis)
    return (y if dtype is None else xp.astype(y, xp.backend.dtype(dtype))), step if parts > 0 else step * math.nan


@named("linspace")
def linspace(
    xp: Any,
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    y, step = _spaced(xp, start, stop, num, endpoint, dtype, axis)
    return (y, step) if retstep else y


@named("logspace")
def logspace(
    xp: Any, start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None, axis: int = 0
) -> Any:
    start, stop, base = arrays(xp, start, stop, base)
    y, _ = _spaced(xp, start, stop, num, endpoint, None, 0)
    y = xp.pow(base, y)
    y = y if axis == 0 else xp.moveaxis(y, 0, axis)
    return y if dtype is None else xp.astype(y, xp.backend.dtype(dtype))


@named("geomspace")
def geomspace(xp: Any, start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    start, stop = (floating(xp, x) for x in arrays(xp, start, stop))
    powers, _ = _spaced(xp, xp.zeros_like(start), xp.log(stop / start), num, endpoint, None, 0)
    y = start * xp.exp(powers)
    y = y if axis == 0 else xp.moveaxis(y, 0, axis)
    return y if dtype is None else xp.astype(y, xp.backend.dtype(dtype))


# --- values one by one ----------------------------------------------------------------------------------------------------------------------------
@named("real")
def real(xp: Any, val: Any) -> Any:
    return xp.real(lifted(xp, val))


@named("imag")
def imag(xp: Any, val: Any) -> Any:
    x = lifted(xp, val)
    return xp.imag(x) if x.dtype in COMPLEX else xp.zeros_like(x)


@named("angle")
def angle(xp: Any, z: Any, deg: bool = False) -> Any:
    z = lifted(xp, z)
    z = floating(xp, z)
    y = xp.atan2(xp.imag(z), xp.real(z)) if z.dtype in COMPLEX else xp.where(z < 0, xp.full_like(z, math.pi), xp.zeros_like(z))
    return y * (180 / math.pi) if deg else y


@named("real_if_close")
def real_if_close(xp: Any, a: Any, tol: float = 100) -> Any:
    a = lifted(xp, a)
    if a.dtype not in COMPLEX:
        return a
    tol = tol * float(xp.finfo(a.dtype).eps) if tol > 1 else tol
    return xp.real(a) if bool(xp.all(xp.abs(xp.imag(xp.stop_gradient(a))) < tol)) else a


@named("nan_to_num")
def nan_to_num(xp: Any, x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = lifted(xp, x)
    if not inexact(x):
        return x
    if x.dtype in COMPLEX:
        parts = [nan_to_num(xp, part, True, nan, posinf, neginf) for part in (xp.real(x), xp.imag(x))]
        y = parts[0] + 1j * parts[1]
    else:
        largest = xp.finfo(x.dtype).max
        y = xp.where(x != x, lifted(xp, nan, x), x)
        y = xp.where(x == math.inf, lifted(xp, float(largest) if posinf is None else posinf, x), y)
        y = xp.where(x == -math.inf, lifted(xp, -float(largest) if neginf is None else neginf, x), y)
    if not copy:
        x[...] = y
        return x
    return y


@named("clip")
def clip(
    xp: Any, a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None, **options: Any
) -> Any:
    a, low, high = arrays(xp, a, a_min if min is None else min, a_max if max is None else max)
    dtype = xp.result_type(*(x for x in (a, low, high) if x is not None))
    return xp.clip(xp.astype(a, dtype, copy=False), low, high)


@named("round", "around")
def round_(xp: Any, a: Any, decimals: int = 0, out: Any = None) -> Any:
    a = lifted(xp, a)
    if decimals == 0 or (decimals > 0 and not inexact(a)):
        return xp.round(a)
    if not inexact(a):
        return xp.astype(round_(xp, xp.astype(a, xp.backend.default("real floating")), decimals), a.dtype)
    return xp.round(a * 10.0**decimals) / 10.0**decimals if decimals > 0 else xp.round(a / 10.0**-decimals) * 10.0**-decimals


@named("fix")
def fix(xp: Any, x: Any, out: Any = None) -> Any:
    return xp.trunc(lifted(xp, x))


# sin(u) / u = sum of (-1)^k u^2k / (2k + 1)!; for |u| < 1/2 ten terms are exact to rounding, to the tenth derivative and beyond
_SINC = [(-1) ** k / math.factorial(2 * k + 1) for k in range(10)]


@named("sinc")
def sinc(xp: Any, x: Any) -> Any:
    x = lifted(xp, x)
    u = (floating(xp, x)) * math.pi
    near = xp.abs(u) < 0.5
    square = xp.where(near, u * u, xp.zeros_like(u))
    series = xp.full_like(u, _SINC[-1])
    for c in reversed(_SINC[:-1]):
        series = series * square + c
    safe = xp.where(near, xp.ones_like(u), u)
    return xp.where(near, series, xp.sin(safe) / safe)


@named("i0")
def i0(xp: Any, x: Any) -> Any:
    return xp.special.i0(lifted(xp, x))


# --- distinct values --------------------------------------------------------------------------------------------------------------------------------
@named("unique")
def unique(
    xp: Any,
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """Give the distinct values: a gather of the first of each."""
    x = lifted(xp, ar)
    if axis is not None and x.ndim != 1:
        raise NotImplementedError("unique: axis is not supported; the rows found by NumPy on x.detach() index x")
    flat = xp.reshape(x, (-1,))
    order = xp.argsort(flat, stable=True)
    ordered = xp.take(flat, order)
    new = ordered[1:] != ordered[:-1]
    if equal_nan and inexact(x):
        new = new & ~((ordered[1:] != ordered[1:]) & (ordered[:-1] != ordered[:-1]))
    first = xp.concat([xp.ones_like(order[:1]) == 1, new])
    places = xp.nonzero(first)[0]
    found = [xp.take(ordered, places)]
    if return_index:
        found.append(xp.take(order, places))
    if return_inverse:
        number = xp.cumulative_sum(xp.astype(first, order.dtype)) - 1
        found.append(xp.reshape(xp.take(number, xp.argsort(order)), x.shape))
    if return_counts:
        ends = xp.concat([places[1:], xp.asarray([flat.shape[0]], dtype=places.dtype, device=x.device)])
        found.append(ends - places)
    return found[0] if len(found) == 1 else tuple(found)


def _standard_unique(name: str) -> None:
    @named(name)
    def standard(xp: Any, x: Any) -> Any:
        return getattr(xp, name)(lifted(xp, x))


for _name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
    _standard_unique(_name)


@named("union1d")
def union1d(xp: Any, ar1: Any, ar2: Any) -> Any:
    return unique(xp, xp.concat(arrays(xp, ar1, ar2), axis=None))


# --- functions of functions -------------------------------------------------------------------------------------------------------------------------
@named("apply_along_axis")
def apply_along_axis(xp: Any, func1d: Callable[..., Any], axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply a function to each slice along an axis."""
    a = lifted(xp, arr)
    axis = normalize_axis(axis, a.ndim, "apply_along_axis")
    rows = xp.moveaxis(a, axis, -1)
    outer = tuple(rows.shape[:-1])
    rows = xp.reshape(rows, (-1, a.shape[axis]))
    found = xp.stack(sequence(xp, [func1d(rows[i], *args, **kwargs) for i in range(rows.shape[0])]))
    inner = tuple(found.shape[1:])
    found = xp.reshape(found, (*outer, *inner))
    places = tuple(range(len(outer), found.ndim))
    return xp.moveaxis(found, places, tuple(range(axis, axis + len(inner)))) if inner else found


@named("apply_over_axes")
def apply_over_axes(xp: Any, func: Callable[..., Any], a: Any, axes: Any) -> Any:
    """Apply a reduction along one axis after another, each kept."""
    y = lifted(xp, a)
    for axis in axes if hasattr(axes, "__len__") else (axes,):
        found = lifted(xp, func(y, axis))
        y = found if found.ndim == y.ndim else xp.expand_dims(found, axis=normalize_axis(axis, y.ndim, "apply_over_axes"))
    return y


# --- about arrays -----------------------------------------------------------------------------------------------------------------------------------
@named("result_type")
def result_type(xp: Any, *arrays_and_dtypes: Any) -> Any:
    return xp.result_type(*arrays_and_dtypes)


@named("isscalar")
def isscalar(xp: Any, element: Any) -> bool:
    return False


@named("iterable")
def iterable(xp: Any, y: Any) -> bool:
    return bool(lifted(xp, y).ndim)


@named("array_repr", "array_str", "array2string")
def text(xp: Any, a: Any, *args: Any, **options: Any) -> str:
    return repr(a)
