"""NumPy's reductions, scans, order statistics, and their forms that leave NaN out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.families import normalize_axes
from agnostic_ad.levels import inexact
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import NAMES, array, arrays, floating, named


def _axis(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _float(xp: Any, x: Any, dtype: Any = None) -> Any:
    """Give ``x`` in ``dtype``; without one, integers as real numbers."""
    if dtype is not None:
        return xp.astype(x, xp.backend.dtype(dtype), copy=False)
    return floating(xp, x)


def _filled(xp: Any, x: Any, where: Any, value: Any) -> Any:
    """Put ``value`` where the mask is false."""
    if where is True:
        return x
    return xp.where(array(xp, where), x, array(xp, value, x))


def _count(xp: Any, x: Any, axis: Any, where: Any) -> Any:
    """Count the elements of each slice, with its axes kept."""
    if where is True:
        return math.prod(x.shape[a] for a in normalize_axes(axis, x.ndim, "count"))
    mask = xp.broadcast_to(array(xp, where), x.shape)
    kind = x.dtype if inexact(x) else xp.backend.default("real floating")
    return xp.sum(xp.astype(mask, xp.backend.real_of(kind)), axis=axis, keepdims=True)


# --- sums, products, extremes -------------------------------------------------------------------------------------------------------------------
@named("sum")
def sum_(
    xp: Any, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Any:
    a = _filled(xp, array(xp, a), where, 0)
    y = xp.sum(a, axis=_axis(axis), dtype=None if dtype is None else xp.backend.dtype(dtype), keepdims=keepdims)
    return y if initial is None else y + xp.astype(array(xp, initial, y), y.dtype)


@named("prod")
def prod(
    xp: Any, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True
) -> Any:
    a = _filled(xp, array(xp, a), where, 1)
    y = xp.prod(a, axis=_axis(axis), dtype=None if dtype is None else xp.backend.dtype(dtype), keepdims=keepdims)
    return y if initial is None else y * xp.astype(array(xp, initial, y), y.dtype)


def _extreme(reduction: str, pair: str, *names: str) -> None:
    @named(*names)
    def extreme(xp: Any, a: Any, axis: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
        a = array(xp, a)
        if where is not True and initial is None:
            raise ValueError(f"{reduction}: where= needs initial=, the value where nothing is chosen")
        initial = None if initial is None else xp.astype(array(xp, initial, a), a.dtype)
        a = _filled(xp, a, where, initial)
        if initial is not None and 0 in a.shape:  # nothing but the initial value, along these axes
            axes = normalize_axes(_axis(axis), a.ndim, reduction)
            one = xp.broadcast_to(initial, tuple(1 if i in axes else n for i, n in enumerate(a.shape)))
            a = xp.concat([a, one], axis=axes[0]) if len(axes) == 1 else one
        y = getattr(xp, reduction)(a, axis=_axis(axis), keepdims=keepdims)
        return y if initial is None else getattr(xp, pair)(y, initial)


_extreme("max", "maximum", "max", "amax")
_extreme("min", "minimum", "min", "amin")


@named("ptp")
def ptp(xp: Any, a: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    a = array(xp, a)
    return xp.max(a, axis=_axis(axis), keepdims=keepdims) - xp.min(a, axis=_axis(axis), keepdims=keepdims)


def _truth(name: str) -> None:
    @named(name)
    def reduce(xp: Any, a: Any, axis: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True) -> Any:
        a = array(xp, a)
        mask = a if xp.backend.kind(a.dtype) == "b" else a != 0
        return getattr(xp, name)(_filled(xp, mask, where, name == "all"), axis=_axis(axis), keepdims=keepdims)


_truth("all")
_truth("any")


@named("count_nonzero")
def count_nonzero(xp: Any, a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    return xp.count_nonzero(array(xp, a), axis=_axis(axis), keepdims=keepdims)


def _place(name: str) -> None:
    @named(name)
    def place(xp: Any, a: Any, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        return getattr(xp, name)(array(xp, a), axis=axis, keepdims=keepdims)

    @named(f"nan{name}")
    def nan_place(xp: Any, a: Any, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        a = array(xp, a)
        return getattr(xp, name)(_filled(xp, a, ~_nan(xp, a), -math.inf if name == "argmax" else math.inf), axis=axis, keepdims=keepdims)


_place("argmax")
_place("argmin")


# --- means and spreads --------------------------------------------------------------------------------------------------------------------------
@named("mean")
def mean(xp: Any, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, *, where: Any = True) -> Any:
    a, axis = _float(xp, array(xp, a), dtype), _axis(axis)
    if where is True:
        return xp.mean(a, axis=axis, keepdims=keepdims)
    y = xp.sum(_filled(xp, a, where, 0), axis=axis, keepdims=True) / _count(xp, a, axis, where)
    return y if keepdims else xp.squeeze(y, normalize_axes(axis, a.ndim, "mean"))


@named("var")
def var(
    xp: Any,
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    a, axis = _float(xp, array(xp, a), dtype), _axis(axis)
    ddof = ddof if correction is None else correction
    if where is True and mean is None and a.dtype not in COMPLEX:
        return xp.var(a, axis=axis, correction=float(ddof), keepdims=keepdims)
    centre = NAMES["mean"](xp, a, axis, None, None, True, where=where) if mean is None else array(xp, mean, a)
    off = a - centre
    square = off * off if a.dtype not in COMPLEX else xp.real(off * xp.conj(off))
    y = xp.sum(_filled(xp, square, where, 0), axis=axis, keepdims=True) / (_count(xp, a, axis, where) - ddof)
    return y if keepdims else xp.squeeze(y, normalize_axes(axis, a.ndim, "var"))


@named("std")
def std(
    xp: Any,
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    a = _float(xp, array(xp, a), dtype)
    if where is True and mean is None and a.dtype not in COMPLEX:
        return xp.std(a, axis=_axis(axis), correction=float(ddof if correction is None else correction), keepdims=keepdims)
    return _root(xp, var(xp, a, axis, None, None, ddof, keepdims, where=where, mean=mean, correction=correction))


def _root(xp: Any, v: Any) -> Any:
    """Give the square root, with slope 0 where it is 0."""
    zero = v == 0
    return xp.where(zero, xp.zeros_like(v), xp.sqrt(xp.where(zero, xp.ones_like(v), v)))


@named("average")
def average(xp: Any, a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    """Give the weighted mean, and with ``returned`` the sum of the weights."""
    a, weights = arrays(xp, a, weights)
    axis = _axis(axis)
    if weights is None:
        y = mean(xp, a, axis, keepdims=keepdims)
        total = xp.full(y.shape, a.size / max(math.prod(y.shape), 1), dtype=y.dtype, device=y.device)
        return (y, total) if returned else y
    a, weights = _float(xp, a), _float(xp, weights)
    if tuple(weights.shape) != tuple(a.shape):
        axes = normalize_axes(axis, a.ndim, "average")
        if axis is None or tuple(weights.shape) != tuple(a.shape[i] for i in axes):
            raise ValueError(
                f"average: weights of shape {tuple(weights.shape)} do not fit an array of shape {tuple(a.shape)} along axis {axis}"
            )
        weights = xp.permute_dims(weights, tuple(sorted(range(len(axes)), key=axes.__getitem__)))
        weights = xp.reshape(weights, tuple(n if i in axes else 1 for i, n in enumerate(a.shape)))
    weights = xp.broadcast_to(weights, a.shape)
    total = xp.sum(weights, axis=axis, keepdims=keepdims)
    y = xp.sum(a * weights, axis=axis, keepdims=keepdims) / total
    return (y, total) if returned else y


# --- scans --------------------------------------------------------------------------------------------------------------------------------------
def _scan(operation: str, *names: str) -> None:
    @named(*names)
    def scan(xp: Any, a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        a = array(xp, a)
        a, axis = (xp.reshape(a, (-1,)), 0) if axis is None else (a, axis)
        return getattr(xp, operation)(a, axis=axis, dtype=None if dtype is None else xp.backend.dtype(dtype))

    @named(operation)
    def standard(xp: Any, x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False) -> Any:
        dtype = None if dtype is None else xp.backend.dtype(dtype)
        return getattr(xp, operation)(array(xp, x), axis=axis, dtype=dtype, include_initial=include_initial)


_scan("cumulative_sum", "cumsum")
_scan("cumulative_prod", "cumprod")


# --- without NaN --------------------------------------------------------------------------------------------------------------------------------
def _nan(xp: Any, x: Any) -> Any:
    return x != x


def _chosen(xp: Any, x: Any, where: Any) -> Any:
    return ~_nan(xp, x) if where is True else ~_nan(xp, x) & array(xp, where)


def _without_nan(name: str) -> None:
    @named(f"nan{name}")
    def reduce(xp: Any, a: Any, *args: Any, where: Any = True, **options: Any) -> Any:
        a = array(xp, a)
        chosen = _chosen(xp, a, where)
        a = xp.where(_nan(xp, a), xp.zeros_like(a), a)  # NaN times zero would come back through the derivative
        return NAMES[name](xp, a, *args, where=chosen, **options)


for _name in ("sum", "prod", "mean", "var", "std"):
    _without_nan(_name)


def _nan_extreme(name: str, neutral: float) -> None:
    @named(f"nan{name}")
    def reduce(xp: Any, a: Any, axis: Any = None, out: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
        a = array(xp, a)
        if not inexact(a):
            return NAMES[name](xp, a, axis, None, keepdims, initial, where)
        chosen = _chosen(xp, a, where)
        y = NAMES[name](xp, a, axis, None, keepdims, neutral if initial is None else initial, chosen)
        if initial is not None:
            return y
        some = xp.any(chosen, axis=_axis(axis), keepdims=keepdims)
        return xp.where(some, y, array(xp, math.nan, a))


_nan_extreme("max", -math.inf)
_nan_extreme("min", math.inf)


def _nan_scan(name: str, neutral: int) -> None:
    @named(f"nan{name}")
    def scan(xp: Any, a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        a = array(xp, a)
        return NAMES[name](xp, _filled(xp, a, ~_nan(xp, a), neutral), axis, dtype)


_nan_scan("cumsum", 0)
_nan_scan("cumprod", 1)


# --- order statistics ---------------------------------------------------------------------------------------------------------------------------
# Hyndman and Fan, Sample quantiles in statistical packages (1996): the continuous methods by their two parameters.
_FAN: dict[str, tuple[float, float]] = {
    "interpolated_inverted_cdf": (0, 1),
    "hazen": (0.5, 0.5),
    "weibull": (0, 0),
    "linear": (1, 1),
    "median_unbiased": (1 / 3, 1 / 3),
    "normal_unbiased": (3 / 8, 3 / 8),
}


def _position(xp: Any, q: Any, n: Any, method: str) -> tuple[Any, Any]:
    """Give the place of a quantile among ``n`` sorted elements: whole, and the fraction towards the next."""
    if method in _FAN:
        alpha, beta = _FAN[method]
        place = n * q + (alpha + q * (1 - alpha - beta)) - 1
        place = xp.clip(place, array(xp, 0, q), array(xp, n, q) - 1)
        low = xp.floor(place)
        return low, place - low
    last = (array(xp, n, q) - 1) * q
    zero = xp.zeros_like(q) * last
    if method in ("lower", "higher", "nearest"):
        return {"lower": xp.floor, "higher": xp.ceil, "nearest": xp.round}[method](last), zero
    if method == "midpoint":
        return xp.floor(last), (xp.ceil(last) - xp.floor(last)) / 2
    exact = n * q
    if method == "inverted_cdf":
        return xp.maximum(xp.ceil(exact) - 1, zero), zero
    if method == "averaged_inverted_cdf":
        place = exact - 1
        low = xp.floor(place)
        part = xp.where(place > low, zero + 1, zero + 0.5)
        return xp.maximum(low, zero), xp.where(low < 0, zero, part)
    if method == "closest_observation":
        place = exact - 1.5
        low = xp.floor(place)
        stay = (place == low) & (xp.remainder(low, array(xp, 2, q)) == 1)
        return xp.maximum(xp.where(stay, low, low + 1), zero), zero
    raise ValueError(f"quantile: method {method!r} is none of NumPy's")


def _quantile(xp: Any, a: Any, q: Any, axis: Any, method: str, keepdims: bool, ignore_nan: bool, weights: Any) -> Any:
    if weights is not None:
        raise NotImplementedError("quantile: weights are not supported; sort the values, and interpolate in the cumulative weights")
    a = _float(xp, a)
    axes = normalize_axes(_axis(axis), a.ndim, "quantile")
    rest = [i for i in range(a.ndim) if i not in axes]
    rows = xp.permute_dims(a, (*rest, *axes))
    rows = xp.reshape(rows, (*(a.shape[i] for i in rest), math.prod(a.shape[i] for i in axes)))
    size = rows.shape[-1]
    broken = _nan(xp, rows)
    ordered = xp.sort(xp.where(broken, xp.full_like(rows, math.inf), rows), axis=-1)
    flat = xp.reshape(q, (-1,))
    n: Any = size
    if ignore_nan:
        n = xp.sum(xp.astype(~broken, q.dtype), axis=-1, keepdims=True)
        flat = xp.broadcast_to(flat, (*rows.shape[:-1], flat.shape[0]))
    low, part = _position(xp, flat, n, method)
    low, last = xp.stop_gradient(low), xp.stop_gradient(array(xp, n, flat)) - 1
    ends = [xp.astype(xp.maximum(xp.minimum(k, last), xp.zeros_like(low)), xp.int64) for k in (low, low + 1)]
    if ignore_nan:
        below, above = (xp.take_along_axis(ordered, k, axis=-1) for k in ends)
    else:
        below, above = (xp.take(ordered, k, axis=-1) for k in ends)
    part = xp.astype(part, a.dtype)
    same = part == 0  # where there may be an infinity beyond
    y = xp.where(same, below, below + (xp.where(same, below, above) - below) * part)
    whole = xp.all(broken, axis=-1, keepdims=True) if ignore_nan else xp.any(broken, axis=-1, keepdims=True)
    y = xp.where(whole, array(xp, math.nan, a), y)
    y = xp.moveaxis(y, -1, 0)
    kept = tuple(1 if i in axes else n for i, n in enumerate(a.shape)) if keepdims else tuple(a.shape[i] for i in rest)
    return xp.reshape(y, (*q.shape, *kept))


def _quantiles(prefix: str) -> None:
    ignore = prefix == "nan"

    def make(scale: float) -> Callable[..., Any]:
        def quantile(
            xp: Any,
            a: Any,
            q: Any,
            axis: Any = None,
            out: Any = None,
            overwrite_input: bool = False,
            method: str = "linear",
            keepdims: bool = False,
            *,
            weights: Any = None,
        ) -> Any:
            a = _float(xp, array(xp, a))
            q = array(xp, q, a)
            q = q if inexact(q) else xp.astype(q, a.dtype)
            return _quantile(xp, a, q / scale, axis, method, keepdims, ignore, weights)

        return quantile

    named(f"{prefix}quantile")(make(1.0))
    named(f"{prefix}percentile")(make(100.0))

    @named(f"{prefix}median")
    def median(xp: Any, a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
        a = _float(xp, array(xp, a))
        half = array(xp, 0.5, a)
        return _quantile(xp, a, half, axis, "linear", keepdims, ignore, None)


_quantiles("")
_quantiles("nan")
