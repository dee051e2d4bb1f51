"""From matrices to orthogonal ones, differentiably: the maps of `parametrizations.orthogonal`.

All take a stack of matrices of shape (..., n, k), n at least k, and give matrices with orthonormal columns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import COMPLEX, backend_of

__all__ = ["MAPS", "complete", "reflectors"]


def adjoint(x: Any) -> Any:
    """Give the conjugate transpose."""
    xp = unify([x])[0]
    return xp.conj(xp.matrix_transpose(x)) if x.dtype in COMPLEX else xp.matrix_transpose(x)


def _eye(like: Any, n: int, k: int) -> Any:
    return unify([like])[0].eye(n, k, dtype=like.dtype, device=device_of(like))


def _skew(x: Any) -> Any:
    """Give the skew-Hermitian matrix whose lower triangle, beyond the diagonal, is that of ``x``."""
    xp = unify([x])[0]
    n, k = x.shape[-2:]
    x = xp.tril(x)
    if n != k:
        x = xp.concat([x, xp.zeros((*x.shape[:-1], n - k), dtype=x.dtype, device=device_of(x))], axis=-1)
    return x - adjoint(x)


_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0, 10559470521600.0, 670442572800.0,
    33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_REACH = 5.371920351148152
"""Up to this norm the approximant is right to rounding."""


def _halvings(x: Any) -> int:
    """Give how often a matrix is halved before its norm is in reach."""
    while isinstance(x, Array):
        x = x.payload
    backend = backend_of(x)
    if not backend.concrete(x):
        return 8
    norm = float(np.max(np.sum(abs(backend.to_numpy(x)), axis=-2), initial=0.0))
    return max(0, math.ceil(math.log2(norm / _REACH))) if 0 < norm < math.inf else 0


def matrix_exp(a: Any) -> Any:
    """Give the exponential of matrices, by scaling and squaring.

    N. J. Higham, "The scaling and squaring method for the matrix exponential revisited", SIAM J. Matrix Anal. Appl. 26 (2005), algorithm 2.3
    with the approximant of degree 13.
    """
    xp = unify([a])[0]
    times = _halvings(a)
    a = a * 0.5**times
    b = [c / _PADE[0] for c in _PADE]
    one = _eye(a, a.shape[-1], a.shape[-1])
    a2 = xp.matmul(a, a)
    a4 = xp.matmul(a2, a2)
    a6 = xp.matmul(a2, a4)
    high = xp.matmul(a6, b[13] * a6 + b[11] * a4 + b[9] * a2)
    odd = xp.matmul(a, high + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * one)
    even = xp.matmul(a6, b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * one
    y = xp.linalg.solve(even - odd, even + odd)
    for _ in range(times):
        y = xp.matmul(y, y)
    return y


def _by_exponential(x: Any) -> Any:
    return matrix_exp(_skew(x))[..., : x.shape[-1]]


def _by_cayley(x: Any) -> Any:
    a = _skew(x)
    one = _eye(a, a.shape[-1], a.shape[-1])
    return unify([a])[0].linalg.solve(one - a / 2, one + a / 2)[..., : x.shape[-1]]


def _by_reflections(x: Any) -> Any:
    """Multiply the Householder reflections whose vectors are the columns below the diagonal; the diagonal gives signs.

    The product of the reflections along v1, v2, ... is I - V T V', with T upper triangular and T^-1 the upper triangle of V'V with half its
    diagonal (C. Puglisi, "Modification of the Householder method based on the compact WY representation", SIAM J. Sci. Stat. Comput. 13, 1992).
    """
    xp = unify([x])[0]
    n, k = x.shape[-2:]
    one = _eye(x, n, k)
    v = xp.tril(x, k=-1) + one
    inner = xp.matmul(xp.matrix_transpose(v), v)
    t = xp.triu(inner, k=1) + xp.triu(xp.tril(inner)) / 2
    q = one - xp.matmul(v, xp.linalg.solve(t, xp.matrix_transpose(v[..., :k, :])))
    signs = xp.trunc(xp.linalg.diagonal(x))
    return q * xp.expand_dims(xp.stop_gradient(signs), axis=-2)


MAPS = {"matrix_exp": _by_exponential, "cayley": _by_cayley, "householder": _by_reflections}
"""By PyTorch's names."""


# --- the other way, with NumPy on the host --------------------------------------------------------------------------------------------------
Host = np.ndarray[Any, Any]


def complete(q: Host, further: Host) -> Host:
    """Give square orthogonal matrices whose first columns are those of ``q``, made orthonormal; the others come from ``further``."""
    n, k = q.shape[-2:]
    if n == k:
        away = abs(np.conj(np.swapaxes(q, -1, -2)) @ q - np.eye(k)).max(initial=0.0)
        if away <= 10 * n * np.finfo(q.dtype).eps:
            return q
    made, r = np.linalg.qr(np.concatenate([q, further], axis=-1))
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    return np.asarray(made * (diagonal / np.where(diagonal == 0, 1, abs(diagonal)))[..., None, :])


def reflectors(q: Host) -> Host:
    """Give what `MAPS` "householder" makes the nearest factor Q of a QR decomposition from: vectors below the diagonal, signs on it."""
    h, tau = np.linalg.qr(q, mode="raw")
    a = np.array(np.swapaxes(h, -1, -2), order="C")
    rows = np.arange(tau.shape[-1])
    signs = np.sign(a[..., rows, rows])
    a[..., rows, rows] = np.where(tau == 0, -signs, signs)  # where LAPACK reflects nothing, the map above reflects the axis itself
    return a
