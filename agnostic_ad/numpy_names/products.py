"""NumPy's products and sums of products: of vectors, matrices and tensors, convolutions, covariances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnostic_ad.backends.windows import Convolution
from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import inexact
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import array, arrays, named


@named("dot")
def dot(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    a, b = arrays(xp, a, b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.ndim <= 2 and b.ndim <= 2:
        return xp.matmul(a, b)
    return xp.tensordot(a, b, axes=((a.ndim - 1,), (max(b.ndim - 2, 0),)))


@named("vdot")
def vdot(xp: Any, a: Any, b: Any, /) -> Any:
    a, b = (xp.reshape(x, (-1,)) for x in arrays(xp, a, b))
    return xp.matmul(xp.conj(a) if a.dtype in COMPLEX else a, b)


@named("inner")
def inner(xp: Any, a: Any, b: Any, /) -> Any:
    a, b = arrays(xp, a, b)
    return a * b if a.ndim == 0 or b.ndim == 0 else xp.tensordot(a, b, axes=((a.ndim - 1,), (b.ndim - 1,)))


@named("outer")
def outer(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    a, b = arrays(xp, a, b)
    return xp.reshape(a, (-1, 1)) * xp.reshape(b, (1, -1))


@named("tensordot", "linalg.tensordot")
def tensordot(xp: Any, a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = arrays(xp, a, b)
    return xp.tensordot(a, b, axes=axes if isinstance(axes, int) else tuple(tuple(x) if isinstance(x, list) else x for x in axes))


@named("kron")
def kron(xp: Any, a: Any, b: Any) -> Any:
    a, b = arrays(xp, a, b)
    ndim = max(a.ndim, b.ndim)
    first, second = ((1,) * (ndim - x.ndim) + tuple(x.shape) for x in (a, b))
    a = xp.reshape(a, tuple(n for size in first for n in (size, 1)))
    b = xp.reshape(b, tuple(n for size in second for n in (1, size)))
    return xp.reshape(a * b, tuple(n * m for n, m in zip(first, second, strict=True)))


@named("einsum")
def einsum(xp: Any, *operands: Any, out: Any = None, optimize: Any = True, **options: Any) -> Any:
    if isinstance(operands[0], str):
        subscripts, given = operands[0], list(operands[1:])
    else:
        subscripts, given = interleaved(operands)
    y = xp.einsum(subscripts, *arrays(xp, *given))
    dtype = options.get("dtype")
    return y if dtype is None else xp.astype(y, xp.backend.dtype(dtype))


def interleaved(operands: Sequence[Any]) -> tuple[str, list[Any]]:
    """Give subscripts as a string for operands with lists of axes between them."""
    pairs = len(operands) // 2
    lists = [*operands[1 : 2 * pairs : 2], *operands[2 * pairs :]]
    numbers = sorted({n for axes in lists for n in axes if n is not Ellipsis})
    letters = {n: chr(ord("a") + i if i < 26 else ord("A") + i - 26) for i, n in enumerate(numbers)} | {Ellipsis: "..."}
    terms = ["".join(letters[n] for n in axes) for axes in lists]
    return ",".join(terms[:pairs]) + ("->" + terms[-1] if len(operands) % 2 else ""), list(operands[: 2 * pairs : 2])


def _first_axes(x: Any, axis1: int, axis2: int) -> tuple[int, int]:
    return normalize_axis(axis1, x.ndim, "diagonal"), normalize_axis(axis2, x.ndim, "diagonal")


@named("diagonal")
def diagonal(xp: Any, a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Give the diagonal of two axes, as the last axis: one slice of the two, flattened."""
    a = array(xp, a)
    x = xp.moveaxis(a, _first_axes(a, axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    count = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    start = offset if offset >= 0 else -offset * columns
    flat = xp.reshape(x, (*x.shape[:-2], rows * columns))
    return flat[..., start : start + count * (columns + 1) : columns + 1] if count else flat[..., :0]


@named("linalg.diagonal")
def last_diagonal(xp: Any, x: Any, /, *, offset: int = 0) -> Any:
    return diagonal(xp, x, offset, -2, -1)


@named("trace")
def trace(xp: Any, a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return xp.sum(diagonal(xp, a, offset, axis1, axis2), axis=-1, dtype=None if dtype is None else xp.backend.dtype(dtype))


@named("linalg.trace")
def last_trace(xp: Any, x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return trace(xp, x, offset, -2, -1, dtype)


@named("diag")
def diag(xp: Any, v: Any, k: int = 0) -> Any:
    """Give the diagonal of a matrix, or the matrix with a diagonal."""
    v = array(xp, v)
    if v.ndim == 2:
        return diagonal(xp, v, k)
    if v.ndim != 1:
        raise ValueError(f"diag takes 1 or 2 dimensions, not {v.ndim}")
    size = v.shape[0] + abs(k)
    start = k if k >= 0 else -k * size
    flat = (
        xp.scatter(v, key=(slice(start, start + (v.shape[0] - 1) * (size + 1) + 1, size + 1),), shape=(size * size,))
        if v.shape[0]
        else None
    )
    return xp.zeros((size, size), dtype=v.dtype, device=v.device) if flat is None else xp.reshape(flat, (size, size))


@named("diagflat")
def diagflat(xp: Any, v: Any, k: int = 0) -> Any:
    return diag(xp, xp.reshape(array(xp, v), (-1,)), k)


def _triangle(name: str) -> None:
    @named(name)
    def triangle(xp: Any, m: Any, k: int = 0) -> Any:
        m = array(xp, m)
        m = xp.broadcast_to(m, (m.shape[0], m.shape[0])) if m.ndim == 1 else m
        return getattr(xp, name)(m, k=k)


_triangle("tril")
_triangle("triu")


@named("cross")
def cross(xp: Any, a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    """Multiply vectors of three components, or two where the others' third is 0."""
    axisa, axisb, axisc = (axisa, axisb, axisc) if axis is None else (axis, axis, axis)
    a, b = arrays(xp, a, b)
    a, b = xp.moveaxis(a, axisa, -1), xp.moveaxis(b, axisb, -1)
    if {a.shape[-1], b.shape[-1]} - {2, 3}:
        raise ValueError(f"cross takes vectors of 2 or 3 components, not {a.shape[-1]} and {b.shape[-1]}")
    first, second = ([x[..., i] for i in range(x.shape[-1])] for x in (a, b))
    last = first[0] * second[1] - first[1] * second[0]
    if len(first) == len(second) == 2:
        return last
    (x1, y1, z1), (x2, y2, z2) = ((*v, xp.zeros_like(v[0]))[:3] for v in (first, second))
    return xp.moveaxis(xp.stack([y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, last], axis=-1), -1, axisc)


@named("linalg.cross")
def last_cross(xp: Any, x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return cross(xp, x1, x2, axis=axis)


# --- convolution --------------------------------------------------------------------------------------------------------------------------------
def _full(xp: Any, a: Any, v: Any, mode: str) -> Any:
    """Give the sums of products of the longer sequence and all shifts of the shorter, as one convolution."""
    if a.ndim != 1 or v.ndim != 1 or not a.shape[0] or not v.shape[0]:
        raise ValueError(f"convolve and correlate take vectors with elements; got shapes {tuple(a.shape)} and {tuple(v.shape)}")
    dtype = xp.result_type(a, v)
    n, m = a.shape[0], v.shape[0]
    sides = {"full": (m - 1, m - 1), "valid": (0, 0)}
    if mode not in sides:
        raise ValueError(f"convolve: mode is 'full', 'same' or 'valid', not {mode!r}")
    how = Convolution((1,), (sides[mode],), (1,))
    a, v = xp.astype(a, dtype, copy=False), xp.astype(v, dtype, copy=False)
    return xp.reshape(xp.nn.conv(xp.reshape(a, (1, 1, n)), xp.reshape(v, (1, 1, m)), how=how), (-1,))


@named("convolve")
def convolve(xp: Any, a: Any, v: Any, mode: str = "full") -> Any:
    a, v = arrays(xp, a, v)
    a, v = (v, a) if v.shape[0] > a.shape[0] else (a, v)
    return _correlated(xp, a, xp.flip(v), mode)


@named("correlate")
def correlate(xp: Any, a: Any, v: Any, mode: str = "valid") -> Any:
    """Slide the conjugate of the second along the first."""
    a, v = arrays(xp, a, v)
    v = xp.conj(v) if v.dtype in COMPLEX else v
    if v.shape[0] > a.shape[0]:
        return xp.flip(_correlated(xp, v, a, mode))
    return _correlated(xp, a, v, mode)


def _correlated(xp: Any, a: Any, v: Any, mode: str) -> Any:
    """Slide the shorter along the longer; "same" is as long as that, from the middle of "full"."""
    if mode != "same":
        return _full(xp, a, v, mode)
    start = (v.shape[0] - 1) // 2
    return _full(xp, a, v, "full")[start : start + a.shape[0]]


# --- covariance ---------------------------------------------------------------------------------------------------------------------------------
@named("cov")
def cov(
    xp: Any,
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """Give the covariance matrix of variables in rows (columns, without ``rowvar``)."""
    m, y, frequency, importance = arrays(xp, m, y, fweights, aweights)
    x = _variables(xp, m, rowvar)
    if y is not None:
        x = xp.concat([x, _variables(xp, y, rowvar)], axis=0)
    x = (
        x
        if inexact(x) and dtype is None
        else xp.astype(x, xp.backend.default("real floating") if dtype is None else xp.backend.dtype(dtype))
    )
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = [xp.astype(w, xp.backend.real_of(x.dtype)) for w in (frequency, importance) if w is not None]
    if not weights:
        off = x - xp.mean(x, axis=1, keepdims=True)
        norm: Any = x.shape[1] - ddof
        product = xp.matmul(off, _adjoint(xp, off))
    else:
        weight = weights[0] if len(weights) == 1 else weights[0] * weights[1]
        total = xp.sum(weight)
        off = x - xp.expand_dims(xp.sum(x * weight, axis=1) / total, axis=1)
        norm = total - ddof * (1 if importance is None else xp.sum(weight * weights[-1]) / total)
        product = xp.matmul(off * weight, _adjoint(xp, off))
    found = product / norm
    return xp.reshape(found, ()) if found.shape == (1, 1) else found


def _variables(xp: Any, x: Any, rowvar: bool) -> Any:
    if x.ndim < 2:
        return xp.reshape(x, (1, -1))
    return x if rowvar or x.shape[0] == 1 else xp.permute_dims(x, (1, 0))


def _adjoint(xp: Any, x: Any) -> Any:
    return xp.matrix_transpose(xp.conj(x) if x.dtype in COMPLEX else x)


@named("corrcoef")
def corrcoef(xp: Any, x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = cov(xp, x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    d = diagonal(xp, c)
    scale = xp.sqrt(xp.real(d) if d.dtype in COMPLEX else d)
    return c / xp.expand_dims(scale, axis=1) / scale
