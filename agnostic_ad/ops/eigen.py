"""Eigenvalues and eigenvectors; `degenerate` says where they have no derivative.

References
----------
Giles (2008), "An extended collection of matrix derivative results for forward and reverse mode automatic differentiation"; Boeddeker,
Hanebrink, Drude, Heymann and Haeb-Umbach (2017), arXiv:1701.00392.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agnostic_ad.families import composite
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.degenerate import (
    columns,
    equal_values,
    hermitian_part,
    pairs_used,
    refuse_phases,
    rows,
    turned,
)
from agnostic_ad.ops.linalg import adjoint, matrices, stacked
from agnostic_ad.samples import Free, case, hermitian, spread


class EigResult(NamedTuple):
    """What `linalg.eig` gives."""

    eigenvalues: Any
    eigenvectors: Any


class EighResult(NamedTuple):
    """What `linalg.eigh` gives."""

    eigenvalues: Any
    eigenvectors: Any


# --- eigh -----------------------------------------------------------------------------------------------------------------------------
_EIGH = equal_values("eigh", "eigenvector", "eigvalsh")


def _gaps(xp: Any, w: Any) -> Any:
    return xp.expand_dims(w, axis=-2) - xp.expand_dims(w, axis=-1)


def _eigh_vjp(xp: Any, ct: Any, y: Any) -> Any:
    (w, u), (gw, gu) = y, ct
    if u.shape[-1] == 0:
        return xp.zeros_like(u)
    uh, left = adjoint(xp, u), None if gw is None else columns(xp, u, gw)
    if gu is not None:
        m = xp.matmul(uh, gu)
        if m.dtype in COMPLEX:
            refuse_phases(xp, "eigh", xp.imag(xp.linalg.diagonal(m)), gu)
        turn = xp.matmul(u, turned(xp, (m - adjoint(xp, m)) / 2, pairs_used(xp, gu), w, _gaps(xp, w), _EIGH))
        left = turn if left is None else left + turn
    return hermitian_part(xp, xp.matmul(left, uh))


def _eigh_jvp(xp: Any, args: Any, y: Any, tangents: Any, params: Any) -> Any:
    w, u = y
    if u.shape[-1] == 0:
        return xp.zeros_like(w), xp.zeros_like(u)
    t = xp.matmul(adjoint(xp, u), xp.matmul(hermitian_part(xp, tangents[0]), u))
    return xp.real(xp.linalg.diagonal(t)), xp.matmul(u, turned(xp, t, t != 0, w, _gaps(xp, w)))


eigh = Op(
    "linalg.eigh",
    "x, /",
    ["x"],
    vjps=[_eigh_vjp],
    pushforward=_eigh_jvp,
    prepare=matrices("eigh"),
    batch=stacked("eigh"),
    abstract=lambda xp, args, params: (
        ShapeDtype(args[0].shape[:-1], xp.real_of(args[0].dtype)),
        ShapeDtype(args[0].shape, args[0].dtype),
    ),
    outputs=EighResult,
    cases=[
        case(hermitian((3, 3)), kinds="f", free=Free("stack")),
        case(hermitian((2, 2)), kinds="c"),
        case(hermitian((2, 2, 2)), kinds="f"),
        case(hermitian((2, 2), strided=True), kinds="f"),
        case((0, 0), kinds="f"),
        case((0, 2, 2), kinds="f"),
    ],
)

_HERMITIANS = [
    *(case(hermitian(shape), kinds="fc") for shape in ((3, 3), (2, 2, 2))),
    case(hermitian((3, 3), strided=True), kinds="f"),
    case((0, 0), kinds="f"),
]


@composite("linalg.eigvalsh", "x, /", ["x"], cases=_HERMITIANS, prepare=matrices("eigvalsh"))
def eigvalsh(xp: Any, x: Any) -> Any:
    """Give the eigenvalues of Hermitian matrices, in ascending order, from their lower triangles."""
    return xp.linalg.eigh(x)[0]


# --- eig ------------------------------------------------------------------------------------------------------------------------------
_EIG = equal_values("eig", "eigenvector", "eigvals")


def _eig_vjp(xp: Any, ct: Any, y: Any) -> Any:
    # Boeddeker et al. (2017), equations 4.77 and 4.63 for vectors of norm 1
    (w, v), (gw, gv) = y, ct
    if v.shape[-1] == 0:
        return xp.zeros_like(v)
    vh = adjoint(xp, v)
    middle = None if gw is None else rows(xp, vh, gw)
    if gv is not None:
        m = xp.matmul(vh, gv)
        d = xp.linalg.diagonal(m)
        refuse_phases(xp, "eig", xp.imag(d), gv)
        m = m - columns(xp, xp.matmul(vh, v), xp.real(d))
        turn = xp.matmul(turned(xp, m, pairs_used(xp, gv), w, xp.conj(_gaps(xp, w)), _EIG), vh)
        middle = turn if middle is None else middle + turn
    return xp.linalg.solve(vh, middle)


def _eig_jvp(xp: Any, args: Any, y: Any, tangents: Any, params: Any) -> Any:
    w, v = y
    if v.shape[-1] == 0:
        return xp.zeros_like(w), xp.zeros_like(v)
    t = xp.linalg.solve(v, xp.matmul(xp.astype(tangents[0], v.dtype, copy=False), v))
    dv = xp.matmul(v, turned(xp, t, t != 0, w, _gaps(xp, w)))
    along = xp.real(xp.sum(xp.conj(v) * dv, axis=-2))  # the norms stay 1
    return xp.linalg.diagonal(t), dv - columns(xp, v, along)


def _complex(xp: Any, dtype: Any) -> Any:
    return dtype if dtype in COMPLEX else xp.complex_of(dtype)


eig = Op(
    "linalg.eig",
    "x, /",
    ["x"],
    vjps=[_eig_vjp],
    pushforward=_eig_jvp,
    prepare=matrices("eig"),
    batch=stacked("eig"),
    abstract=lambda xp, args, params: (
        ShapeDtype(args[0].shape[:-1], _complex(xp, args[0].dtype)),
        ShapeDtype(args[0].shape, _complex(xp, args[0].dtype)),
    ),
    outputs=EigResult,
    cases=[
        case(spread((3, 3)), kinds="fc", free=Free("stack")),
        case(spread((2, 2), strided=True), kinds="f"),
        case((0, 0), kinds="f"),
        case((0, 2, 2), kinds="f"),
    ],
)

_SQUARES = [
    *(case(spread(shape), kinds="fc") for shape in ((3, 3), (2, 2, 2))),
    case(spread((3, 3), strided=True), kinds="f"),
    case((0, 0), kinds="f"),
]


@composite("linalg.eigvals", "x, /", ["x"], cases=_SQUARES, prepare=matrices("eigvals"))
def eigvals(xp: Any, x: Any) -> Any:
    """Give the complex eigenvalues of matrices."""
    return xp.linalg.eig(x)[0]
