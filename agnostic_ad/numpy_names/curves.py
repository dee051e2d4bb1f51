"""NumPy's polynomials, differences, integrals and interpolation."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import inexact
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import array, arrays, floating, named
from agnostic_ad.numpy_names.linalg import real_spectrum, real_where
from agnostic_ad.numpy_names.products import convolve


# --- polynomials --------------------------------------------------------------------------------------------------------------------------------
@named("polyval")
def polyval(xp: Any, p: Any, x: Any) -> Any:
    p, x = arrays(xp, p, x)
    y = xp.zeros_like(x)
    for i in range(p.shape[0]):
        y = y * x + p[i]
    return y


def _coefficients(xp: Any, *ps: Any) -> list[Any]:
    return [xp.reshape(p, (-1,)) for p in arrays(xp, *ps)]


def _aligned(xp: Any, a1: Any, a2: Any) -> list[Any]:
    found = _coefficients(xp, a1, a2)
    size = max(p.shape[0] for p in found)
    return [xp.concat([xp.zeros((size - p.shape[0],), dtype=p.dtype, device=p.device), p]) if p.shape[0] < size else p for p in found]


@named("polyadd")
def polyadd(xp: Any, a1: Any, a2: Any) -> Any:
    a, b = _aligned(xp, a1, a2)
    return a + b


@named("polysub")
def polysub(xp: Any, a1: Any, a2: Any) -> Any:
    a, b = _aligned(xp, a1, a2)
    return a - b


@named("polymul")
def polymul(xp: Any, a1: Any, a2: Any) -> Any:
    return convolve(xp, *_coefficients(xp, a1, a2))


@named("polyder")
def polyder(xp: Any, p: Any, m: int = 1) -> Any:
    (p,) = _coefficients(xp, p)
    for _ in range(m):
        n = p.shape[0] - 1
        p = p[:-1] * xp.flip(xp.arange(1, n + 1, dtype=p.dtype, device=p.device)) if n > 0 else p[:0]
    return p


@named("polyint")
def polyint(xp: Any, p: Any, m: int = 1, k: Any = None) -> Any:
    (p,) = _coefficients(xp, p)
    constants = [0.0] * m if k is None else list(k) if hasattr(k, "__len__") else [k] * m
    constants = constants * m if len(constants) == 1 else constants
    for constant in constants:
        n = p.shape[0]
        last = xp.reshape(xp.astype(array(xp, constant, p), p.dtype), (1,))
        p = xp.concat([p / xp.flip(xp.arange(1, n + 1, dtype=p.dtype, device=p.device)), last])
    return p


@named("poly")
def poly(xp: Any, seq_of_zeros: Any) -> Any:
    """Give the coefficients of the polynomial with these roots, or of a matrix's characteristic polynomial."""
    roots = array(xp, seq_of_zeros)
    roots = floating(xp, roots)
    roots = xp.linalg.eigvals(roots) if roots.ndim == 2 else xp.reshape(roots, (-1,))
    p = xp.ones((1,), dtype=roots.dtype, device=roots.device)
    zero = xp.zeros_like(p)
    for i in range(roots.shape[0]):
        p = xp.concat([p, zero]) - xp.concat([zero, p]) * roots[i]
    if p.dtype not in COMPLEX:
        return p
    r = xp.stop_gradient(roots)
    alike = [xp.count_nonzero(xp.expand_dims(r, axis=1) == other, axis=1) for other in (r, xp.conj(r))]
    return real_where(xp, lambda: xp.all(alike[0] == alike[1]), p)[0]


@named("vander")
def vander(xp: Any, x: Any, N: Any = None, increasing: bool = False) -> Any:
    x = array(xp, x)
    count = x.shape[0] if N is None else N
    powers = [xp.ones_like(x)]
    while len(powers) < count:
        powers.append(powers[-1] * x)
    powers = powers[:count]
    return xp.stack(powers if increasing else powers[::-1], axis=1) if powers else xp.zeros((x.shape[0], 0), dtype=x.dtype, device=x.device)


@named("roots")
def roots(xp: Any, p: Any) -> Any:
    """Give the roots of a polynomial: the eigenvalues of its companion matrix. The first and the last coefficient may not be zero."""
    (p,) = _coefficients(xp, p)
    p = floating(xp, p)
    n = p.shape[0] - 1
    if n < 1:
        return xp.zeros((0,), dtype=p.dtype, device=p.device)
    if bool(xp.stop_gradient(p[0]) == 0) or bool(xp.stop_gradient(p[-1]) == 0):
        raise NotImplementedError("roots: strip the zeros at both ends of the coefficients first")
    below = xp.eye(n - 1, n, dtype=p.dtype, device=p.device)
    companion = xp.concat([xp.expand_dims(-p[1:] / p[0], axis=0), below])
    return real_spectrum(xp, companion, xp.linalg.eigvals(companion))[0]


@named("polyfit")
def polyfit(xp: Any, x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """Fit a polynomial by least squares, with its columns scaled as NumPy does."""
    if full or cov:
        raise NotImplementedError("polyfit: full and cov are not supported; np.linalg.lstsq gives the residuals")
    x, y, w = (floating(xp, p) for p in arrays(xp, x, y, w))
    left = vander(xp, x, deg + 1)
    if w is not None:
        left = left * xp.expand_dims(w, axis=1)
        y = y * (xp.expand_dims(w, axis=1) if y.ndim == 2 else w)
    scale = xp.sqrt(xp.sum(left * left, axis=0))
    rcond = x.shape[0] * float(xp.finfo(x.dtype).eps) if rcond is None else rcond
    found = xp.matmul(xp.linalg.pinv(left / scale, rtol=rcond), y)
    return found / (xp.expand_dims(scale, axis=1) if y.ndim == 2 else scale)


# --- differences and integrals --------------------------------------------------------------------------------------------------------------------
@named("diff")
def diff(xp: Any, a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    a = array(xp, a)
    axis = normalize_axis(axis, a.ndim, "diff")
    room = (*a.shape[:axis], 1, *a.shape[axis + 1 :])
    sides = [None if s is None else array(xp, s, a) for s in (prepend, append)]
    sides = [s if s is None or s.ndim else xp.broadcast_to(s, room) for s in sides]
    return xp.diff(a, axis=axis, n=n, prepend=sides[0], append=sides[1])


@named("ediff1d")
def ediff1d(xp: Any, ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    ary, end, begin = arrays(xp, ary, to_end, to_begin)
    flat = xp.reshape(ary, (-1,))
    parts = [None if x is None else xp.reshape(x, (-1,)) for x in (begin, flat[1:] - flat[:-1], end)]
    return xp.concat([xp.astype(p, flat.dtype, copy=False) for p in parts if p is not None])


@named("trapezoid")
def trapezoid(xp: Any, y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y, x = arrays(xp, y, x)
    axis = normalize_axis(axis, y.ndim, "trapezoid")
    before = (slice(None),) * axis
    if x is not None:
        x = xp.reshape(x, tuple(-1 if i == axis else 1 for i in range(y.ndim))) if x.ndim == 1 else x
        place = (slice(None),) * (axis - y.ndim + x.ndim)
        dx = x[(*place, slice(1, None), ...)] - x[(*place, slice(None, -1), ...)]
    total = y[(*before, slice(1, None), ...)] + y[(*before, slice(None, -1), ...)]
    return xp.sum(total * dx, axis=axis) / 2.0


@named("gradient")
def gradient(xp: Any, f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Take central differences inside, and one-sided ones of first or second order at the ends."""
    f = array(xp, f)
    f = floating(xp, f)
    axes = (
        tuple(range(f.ndim))
        if axis is None
        else tuple(normalize_axis(a, f.ndim, "gradient") for a in (axis if hasattr(axis, "__len__") else (axis,)))
    )
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError(f"gradient takes no spacing, one, or one an axis; got {len(varargs)} for {len(axes)} axes")
    if edge_order not in (1, 2):
        raise ValueError("gradient: edge_order is 1 or 2")
    spacings = varargs or (1.0,)
    spacings = spacings * len(axes) if len(spacings) == 1 else spacings
    found = [_slopes(xp, f, h, a, edge_order) for h, a in zip(spacings, axes, strict=True)]
    return found[0] if len(axes) == 1 else tuple(found)


def _slopes(xp: Any, f: Any, spacing: Any, axis: int, edge_order: int) -> Any:
    n = f.shape[axis]
    if n < edge_order + 1:
        raise ValueError(f"gradient: an axis of size {n} is too short for edge_order {edge_order}")
    before = (slice(None),) * axis

    def part(x: Any, start: Any, stop: Any) -> Any:
        return x[(*before, slice(start, stop), ...)]

    h = array(xp, spacing, f)
    if h.ndim:
        if h.ndim != 1 or h.shape[0] != n:
            raise ValueError(f"gradient: coordinates of shape {tuple(h.shape)} do not fit an axis of size {n}")
        steps = xp.reshape(h[1:] - h[:-1], (*(1,) * axis, n - 1, *(1,) * (f.ndim - axis - 1)))
    else:
        steps = xp.broadcast_to(h, (*(1,) * axis, n - 1, *(1,) * (f.ndim - axis - 1)))
    rise = (part(f, 1, None) - part(f, None, -1)) / steps
    left, right = part(steps, None, -1), part(steps, 1, None)
    middle = (part(rise, None, -1) * right + part(rise, 1, None) * left) / (left + right)
    ends = [part(rise, 0, 1), part(rise, -1, None)]
    if edge_order == 2:
        curve = (part(rise, 1, None) - part(rise, None, -1)) / (left + right)
        ends = [ends[0] - part(curve, 0, 1) * part(steps, 0, 1), ends[1] + part(curve, -1, None) * part(steps, -1, None)]
    return xp.concat([ends[0], middle, ends[1]], axis=axis)


@named("interp")
def interp(space: Any, x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Interpolate linearly between points; constant beyond them, or periodic."""
    x, knots, values, left, right = arrays(space, x, xp, fp, left, right)
    xp = space
    wide = xp.result_type(x, knots) if inexact(x) or inexact(knots) else xp.backend.default("real floating")
    x, knots = xp.astype(x, wide, copy=False), xp.astype(knots, wide, copy=False)
    values = values if inexact(values) else xp.astype(values, wide)
    if period is not None:
        x, knots = xp.remainder(x, array(xp, period, x)), xp.remainder(knots, array(xp, period, x))
        order = xp.argsort(knots)
        knots, values = xp.take(knots, order), xp.take(values, order)
        knots = xp.concat([knots[-1:] - period, knots, knots[:1] + period])
        values = xp.concat([values[-1:], values, values[:1]])
        left = right = None
    n = knots.shape[0]
    if n == 0:
        raise ValueError("interp: there are no points")
    flat = xp.reshape(x, (-1,))
    if n == 1:
        y = xp.zeros_like(flat) + values[0]
    else:
        place = xp.clip(xp.searchsorted(knots, flat, side="right"), 1, n - 1)
        x0, x1, y0, y1 = (xp.take(source, i) for source in (knots, values) for i in (place - 1, place))
        inside = xp.clip(flat, knots[0], knots[-1])
        y = y0 + (y1 - y0) / (x1 - x0) * (inside - x0)
    y = xp.where(flat < knots[0], values[0] if left is None else left, y)
    y = xp.where(flat > knots[-1], values[-1] if right is None else right, y)
    return xp.reshape(y, x.shape)


@named("unwrap")
def unwrap(xp: Any, p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2 * math.pi) -> Any:
    """Take out jumps of more than half a period; the derivative passes."""
    p = array(xp, p)
    p = floating(xp, p)
    axis = normalize_axis(axis, p.ndim, "unwrap")
    before = (slice(None),) * axis
    plain = xp.stop_gradient(p)
    step = plain[(*before, slice(1, None), ...)] - plain[(*before, slice(None, -1), ...)]
    half = period / 2
    wrapped = xp.remainder(step + half, array(xp, period, p)) - half
    wrapped = xp.where((wrapped == -half) & (step > 0), xp.full_like(wrapped, half), wrapped)
    jump = xp.where(xp.abs(step) < (half if discont is None else discont), xp.zeros_like(step), wrapped - step)
    rest = xp.cumulative_sum(jump, axis=axis)
    return xp.concat([p[(*before, slice(0, 1), ...)], p[(*before, slice(1, None), ...)] + rest], axis=axis)
