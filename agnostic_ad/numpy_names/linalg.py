"""``numpy.linalg``."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.families import normalize_axes, normalize_axis
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import NAMES, array, arrays, floating, named, sequence


def _inexact(xp: Any, *values: Any) -> list[Any]:
    return [floating(xp, x) for x in arrays(xp, *values)]


def _same(name: str) -> None:
    """Register a function of one matrix that is the standard's."""

    @named(f"linalg.{name}")
    def function(xp: Any, a: Any, /) -> Any:
        return getattr(xp.linalg, name)(*_inexact(xp, a))


for _name in ("inv", "det", "slogdet", "svdvals"):
    _same(_name)


def real_where(xp: Any, ask: Callable[[], Any], *found: Any) -> tuple[Any, ...]:
    """Give the real parts where the answer is yes, as NumPy does; in a batch that cannot be asked, and they stay complex."""
    try:
        real = bool(ask())
    except UnsupportedError:
        return found
    return tuple(map(xp.real, found)) if real else found


def real_spectrum(xp: Any, a: Any, *found: Any) -> tuple[Any, ...]:
    """Give real arrays where all eigenvalues of a real matrix, the first array, are real."""
    return found if a.dtype in COMPLEX else real_where(xp, lambda: xp.all(xp.imag(xp.stop_gradient(found[0])) == 0), *found)


ALWAYS_COMPLEX = np.lib.NumpyVersion(np.__version__) >= "2.5.0"
"""Whether NumPy's eigenvalues are complex even where all are real."""


@named("linalg.eigvals")
def eigvals(xp: Any, a: Any) -> Any:
    (a,) = _inexact(xp, a)
    found = xp.linalg.eigvals(a)
    return found if ALWAYS_COMPLEX else real_spectrum(xp, a, found)[0]


@named("linalg.eig")
def eig(xp: Any, a: Any) -> Any:
    (a,) = _inexact(xp, a)
    found = xp.linalg.eig(a)
    return found if ALWAYS_COMPLEX else type(found)(*real_spectrum(xp, a, *found))


def _lower(xp: Any, a: Any, UPLO: str) -> Any:
    """Give a matrix whose lower triangle counts."""
    if UPLO.upper() not in ("L", "U"):
        raise ValueError("UPLO is 'L' or 'U'")
    if UPLO.upper() == "L":
        return a
    return xp.matrix_transpose(xp.conj(a) if a.dtype in COMPLEX else a)


@named("linalg.eigh")
def eigh(xp: Any, a: Any, UPLO: str = "L") -> Any:
    (a,) = _inexact(xp, a)
    return xp.linalg.eigh(_lower(xp, a, UPLO))


@named("linalg.eigvalsh")
def eigvalsh(xp: Any, a: Any, UPLO: str = "L") -> Any:
    (a,) = _inexact(xp, a)
    return xp.linalg.eigvalsh(_lower(xp, a, UPLO))


@named("linalg.cholesky")
def cholesky(xp: Any, a: Any, /, *, upper: bool = False) -> Any:
    return xp.linalg.cholesky(*_inexact(xp, a), upper=upper)


@named("linalg.qr")
def qr(xp: Any, a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        raise NotImplementedError(f"qr: mode {mode!r} is not supported; use 'reduced'")
    found = xp.linalg.qr(*_inexact(xp, a), mode="reduced" if mode == "r" else mode)
    return found[1] if mode == "r" else found


@named("linalg.svd")
def svd(xp: Any, a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    (a,) = _inexact(xp, a)
    return xp.linalg.svd(a, full_matrices=full_matrices) if compute_uv else xp.linalg.svdvals(a)


@named("linalg.pinv")
def pinv(xp: Any, a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    (a,) = _inexact(xp, a)
    rtol = rcond if rtol is None else rtol
    if rtol is None:
        rtol = 1e-15  # NumPy's; the standard's is larger
    return xp.linalg.pinv(a, rtol=rtol)


@named("linalg.solve")
def solve(xp: Any, a: Any, b: Any) -> Any:
    return xp.linalg.solve(*_inexact(xp, a, b))


@named("linalg.lstsq")
def lstsq(xp: Any, a: Any, b: Any, rcond: Any = None) -> Any:
    """Solve in the sense of least squares, by the pseudo-inverse."""
    a, b = _inexact(xp, a, b)
    eps = float(xp.finfo(a.dtype).eps)
    rtol = eps * max(a.shape) if rcond is None or rcond == -1 else rcond
    values = xp.linalg.svdvals(a)
    rank = xp.astype(xp.count_nonzero(values > rtol * (values[0] if values.shape[0] else 0)), xp.backend.dtype("int32"))
    x = xp.matmul(xp.linalg.pinv(a, rtol=rtol), b)
    off = b - xp.matmul(a, x)
    full = int(rank) == a.shape[1] and a.shape[0] > a.shape[1]
    squares = xp.real(off * xp.conj(off)) if off.dtype in COMPLEX else off * off
    residuals = xp.reshape(xp.sum(squares, axis=0), (-1,)) if full else xp.zeros((0,), dtype=values.dtype, device=a.device)
    return x, residuals, rank, values


@named("linalg.matrix_power")
def matrix_power(xp: Any, a: Any, n: Any) -> Any:
    return xp.linalg.matrix_power(array(xp, a), operator.index(n))


@named("linalg.matrix_rank")
def matrix_rank(xp: Any, A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    (a,) = _inexact(xp, A)
    if a.ndim < 2:
        return xp.astype(xp.any(a != 0), xp.int64)
    if tol is None:
        return xp.linalg.matrix_rank(a, rtol=rtol)
    return xp.count_nonzero(xp.linalg.svdvals(a) > tol, axis=-1)


@named("linalg.multi_dot")
def multi_dot(xp: Any, arrays: Any, *, out: Any = None) -> Any:
    """Multiply matrices in the cheapest order; the first and the last may be vectors."""
    parts = sequence(xp, arrays)
    letters = [chr(ord("a") + i) for i in range(len(parts) + 1)]
    if parts[0].ndim == 1:
        letters[0] = ""
    if parts[-1].ndim == 1:
        letters[-1] = ""
    terms = [a + b for a, b in itertools.pairwise(letters)]
    return xp.einsum(",".join(terms) + "->" + letters[0] + letters[-1], *parts)


@named("linalg.outer")
def outer(xp: Any, x1: Any, x2: Any, /) -> Any:
    return NAMES["outer"](xp, x1, x2)


@named("linalg.matmul")
def matmul(xp: Any, x1: Any, x2: Any, /) -> Any:
    return xp.matmul(*arrays(xp, x1, x2))


@named("linalg.vecdot")
def vecdot(xp: Any, x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return xp.vecdot(*arrays(xp, x1, x2), axis=axis)


# --- norms --------------------------------------------------------------------------------------------------------------------------------------
@named("linalg.norm")
def norm(xp: Any, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    (x,) = _inexact(xp, x)
    if axis is None and ord is not None and x.ndim not in (1, 2):
        raise ValueError("norm: an order without an axis takes vectors and matrices")
    if axis is None and ord is None:
        y = xp.linalg.vector_norm(xp.reshape(x, (-1,)))
        return xp.reshape(y, (1,) * x.ndim) if keepdims else y
    axes = normalize_axes(axis, x.ndim, "norm")
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ValueError(f"norm: {ord!r} is the norm of a matrix; the axis is that of vectors")
        return xp.linalg.vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ValueError("norm takes one axis or two")
    y = xp.linalg.matrix_norm(xp.moveaxis(x, axes, (-2, -1)), ord="fro" if ord is None else ord)
    return xp.reshape(y, tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else y


@named("linalg.vector_norm")
def vector_norm(xp: Any, x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    return xp.linalg.vector_norm(*_inexact(xp, x), axis=axis, keepdims=keepdims, ord=ord)


@named("linalg.matrix_norm")
def matrix_norm(xp: Any, x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return xp.linalg.matrix_norm(*_inexact(xp, x), keepdims=keepdims, ord=ord)


@named("linalg.cond")
def cond(xp: Any, x: Any, p: Any = None) -> Any:
    (x,) = _inexact(xp, x)
    if p in (None, 2, -2):
        values = xp.linalg.svdvals(x)
        return values[..., -1] / values[..., 0] if p == -2 else values[..., 0] / values[..., -1]
    return xp.linalg.matrix_norm(x, ord=p) * xp.linalg.matrix_norm(xp.linalg.inv(x), ord=p)


# --- tensors ------------------------------------------------------------------------------------------------------------------------------------
@named("linalg.tensorinv")
def tensorinv(xp: Any, a: Any, ind: int = 2) -> Any:
    (a,) = _inexact(xp, a)
    size = math.prod(a.shape[ind:])
    return xp.reshape(xp.linalg.inv(xp.reshape(a, (size, -1))), (*a.shape[ind:], *a.shape[:ind]))


@named("linalg.tensorsolve")
def tensorsolve(xp: Any, a: Any, b: Any, axes: Any = None) -> Any:
    a, b = _inexact(xp, a, b)
    if axes is not None:
        last = [normalize_axis(i, a.ndim, "tensorsolve") for i in axes]
        a = xp.permute_dims(a, (*(i for i in range(a.ndim) if i not in last), *last))
    shape = tuple(a.shape[b.ndim :])
    size = math.prod(shape)
    return xp.reshape(xp.linalg.solve(xp.reshape(a, (size, size)), xp.reshape(b, (-1,))), shape)
