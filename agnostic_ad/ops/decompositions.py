"""Factors of matrices: Cholesky, singular value decomposition, QR; `degenerate` says where they have no derivative.

References
----------
Murray (2016), arXiv:1602.07527 (Cholesky); Wan and Zhang (2019), arXiv:1909.02659, and Townsend (2016), "Differentiating the singular
value decomposition"; Roberts and Roberts (2020), arXiv:2009.10071, Walter and Lehmann (2012), arXiv:1001.1654, and Seeger, Hetzel, Dai,
Meissner and Lawrence (2017), arXiv:1710.08717 (QR).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agnostic_ad.errors import DegenerateError
from agnostic_ad.families import composite
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.degenerate import (
    columns,
    completed,
    equal_values,
    extended,
    eye_like,
    hermitian_part,
    on_diagonal,
    over,
    pairs_used,
    refuse_phases,
    rows,
    seen_true,
    tolerance,
    turned,
)
from agnostic_ad.ops.linalg import adjoint, matrices, stacked
from agnostic_ad.samples import Free, case, hermitian, spread


class QRResult(NamedTuple):
    """What `linalg.qr` gives."""

    Q: Any
    R: Any


class SVDResult(NamedTuple):
    """What `linalg.svd` gives."""

    U: Any
    S: Any
    Vh: Any


# --- cholesky -------------------------------------------------------------------------------------------------------------------------
def _half_lower(xp: Any, x: Any) -> Any:
    return xp.tril(x) * (1 - eye_like(xp, x) / 2)


def _cholesky_vjp(xp: Any, ct: Any, y: Any, upper: bool) -> Any:
    # L^-H phi(L^H ct) L^-1, its Hermitian part
    if upper:
        y, ct = adjoint(xp, y), adjoint(xp, ct)
    lh = adjoint(xp, y)
    middle = hermitian_part(xp, _half_lower(xp, xp.matmul(lh, ct)))
    return xp.linalg.solve(lh, adjoint(xp, xp.linalg.solve(lh, middle)))


def _cholesky_jvp(xp: Any, ct: Any, y: Any, upper: bool) -> Any:
    lower = adjoint(xp, y) if upper else y
    middle = xp.linalg.solve(lower, adjoint(xp, xp.linalg.solve(lower, hermitian_part(xp, ct))))
    t = xp.matmul(lower, _half_lower(xp, middle))
    return adjoint(xp, t) if upper else t


cholesky = Op(
    "linalg.cholesky",
    "x, /, *, upper=False",
    ["x"],
    vjps=[_cholesky_vjp],
    jvps=[_cholesky_jvp],
    prepare=matrices("cholesky"),
    batch=stacked("cholesky"),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, args[0].dtype),
    cases=[
        case(hermitian((3, 3)), kinds="fc"),
        case(hermitian((2, 2)), kinds="fc", upper=True, free=Free("stack")),
        case(hermitian((2, 3, 3)), kinds="f"),
        case(hermitian((2, 2), strided=True), kinds="f"),
        case((0, 0), kinds="f"),
        case((0, 2, 2), kinds="f"),
    ],
)


# --- svd ------------------------------------------------------------------------------------------------------------------------------
_SVD = equal_values("svd", "singular vector", "svdvals")
_SVD_ZERO = (
    "svd: the derivative of the singular vectors of a matrix that is complex or not square does not exist where a value is zero, and the "
    "result depends on them. Use svdvals if the values alone are needed."
)


def _svd_gaps(xp: Any, s: Any) -> Any:
    a, b = xp.expand_dims(s, axis=-2), xp.expand_dims(s, axis=-1)
    return (a - b) * (a + b)


def _over_s(xp: Any, x: Any, s: Any, refusal: str = "") -> Any:
    """Divide columns by the singular values."""
    scale, zero = xp.expand_dims(s, axis=-2), xp.expand_dims(s <= tolerance(xp, s), axis=-2)
    return over(xp, x, scale, zero, x != 0, refusal)


def _svd_vjp(xp: Any, ct: Any, y: Any) -> Any:
    (u, s, vh), (gu, gs, gvh) = y, ct
    k, m, n = s.shape[-1], u.shape[-2], vh.shape[-1]
    u, gu = completed(xp, u, gu, k, "svd")
    v, gv = completed(xp, adjoint(xp, vh), None if gvh is None else adjoint(xp, gvh), k, "svd")
    uh, vh = adjoint(xp, u), adjoint(xp, v)
    if k == 0:
        return xp.matmul(u, vh)
    left = None if gs is None else columns(xp, u, gs)
    if gu is None and gv is None:
        return xp.matmul(left, vh)
    ct_u, ct_v = (xp.zeros_like(q) if g is None else g for q, g in ((u, gu), (v, gv)))
    a, b = xp.matmul(uh, ct_u), xp.matmul(vh, ct_v)
    ah, bh = adjoint(xp, a), adjoint(xp, b)
    used, gaps = pairs_used(xp, ct_u, ct_v), _svd_gaps(xp, s)
    middle = columns(xp, turned(xp, a - ah, used, s, gaps, _SVD), s) + rows(xp, turned(xp, b - bh, used, s, gaps, _SVD), s)
    if a.dtype in COMPLEX:
        turns = [xp.imag(xp.linalg.diagonal(part)) for part in (a, b)]
        refuse_phases(xp, "svd", turns[0] + turns[1], xp.concat([ct_u, ct_v], axis=-2))
        middle = middle + 1j * on_diagonal(xp, _over_s(xp, xp.expand_dims(turns[0] - turns[1], axis=-2) / 2, s, _SVD_ZERO)[..., 0, :])
    left = xp.matmul(u, middle) if left is None else left + xp.matmul(u, middle)
    if m > k and gu is not None:
        left = left + _over_s(xp, gu - xp.matmul(u, a), s, _SVD_ZERO)
    g = xp.matmul(left, vh)
    if n > k and gv is not None:
        g = g + xp.matmul(u, adjoint(xp, _over_s(xp, gv - xp.matmul(v, b), s, _SVD_ZERO)))
    return g


def _svd_jvp(xp: Any, args: Any, y: Any, tangents: Any, params: Any) -> Any:
    (full_u, s, full_vh), t = y, tangents[0]
    k, m, n = s.shape[-1], full_u.shape[-2], full_vh.shape[-1]
    full_v = adjoint(xp, full_vh)
    u, v = full_u[..., :k], full_v[..., :k]
    if k == 0:
        return xp.zeros_like(full_u), xp.zeros_like(s), xp.zeros_like(full_vh)
    tv, tu = xp.matmul(t, v), xp.matmul(adjoint(xp, t), u)
    p = xp.matmul(adjoint(xp, u), tv)
    ps, sp = columns(xp, p, s), rows(xp, p, s)
    used, gaps = (p != 0) | (adjoint(xp, p) != 0), _svd_gaps(xp, s)
    a, b = (turned(xp, x + adjoint(xp, x), used, s, gaps) for x in (ps, sp))
    if p.dtype in COMPLEX:
        turn = 1j * on_diagonal(xp, _over_s(xp, xp.expand_dims(xp.imag(xp.linalg.diagonal(p)), axis=-2) / 2, s)[..., 0, :])
        a, b = a + turn, b - turn
    du, dv = xp.matmul(u, a), xp.matmul(v, b)
    if m > k:
        du = du + _over_s(xp, tv - xp.matmul(u, p), s)
    if n > k:
        dv = dv + _over_s(xp, tu - xp.matmul(v, adjoint(xp, p)), s)
    return extended(xp, full_u, du, k), xp.real(xp.linalg.diagonal(p)), adjoint(xp, extended(xp, full_v, dv, k))


def _svd_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (*stack, m, n), dtype = args[0].shape, args[0].dtype
    k = min(m, n)
    full = params["full_matrices"]
    return (
        ShapeDtype((*stack, m, m if full else k), dtype),
        ShapeDtype((*stack, k), xp.real_of(dtype)),
        ShapeDtype((*stack, n if full else k, n), dtype),
    )


svd = Op(
    "linalg.svd",
    "x, /, *, full_matrices=True",
    ["x"],
    vjps=[_svd_vjp],
    pushforward=_svd_jvp,
    prepare=matrices("svd", square=False),
    batch=stacked("svd"),
    abstract=_svd_abstract,
    outputs=SVDResult,
    cases=[  # no more than one column to complete a basis, which has a phase alone
        case(spread((3, 3)), kinds="f"),
        case(spread((2, 2)), kinds="c", full_matrices=False),
        case(spread((3, 2)), kinds="c"),
        case(spread((2, 3)), kinds="c", full_matrices=False),
        case(spread((4, 2)), kinds="f", full_matrices=False, free=Free("stack")),
        case(spread((2, 2, 4)), kinds="f", full_matrices=False),
        case(spread((3, 2)), kinds="f"),
        case(spread((2, 3), strided=True), kinds="f"),
        case((0, 3), kinds="f", full_matrices=False),
        case((0, 1), kinds="f"),
        case((0, 2, 2), kinds="f"),
    ],
)

_RECTANGLES = [
    *(case(spread(shape), kinds="fc") for shape in ((3, 2), (2, 2, 3))),
    case(spread((3, 3), strided=True), kinds="f"),
    case((0, 2), kinds="f"),
]


@composite("linalg.svdvals", "x, /", ["x"], cases=_RECTANGLES, prepare=matrices("svdvals", square=False))
def svdvals(xp: Any, x: Any) -> Any:
    """Give the singular values of matrices, in descending order."""
    return xp.linalg.svd(x, full_matrices=False)[1]


# --- qr -------------------------------------------------------------------------------------------------------------------------------
_DEPENDENT = (
    "qr: the derivative does not exist where columns depend on each other (to rounding): the diagonal of R has a zero. Of a wide "
    "matrix, the first columns count; take the QR factors of a matrix of full rank."
)


def _dependent(xp: Any, r: Any) -> Any:
    """Tell which columns depend on those before them; None where none is seen to."""
    sizes = xp.abs(xp.linalg.diagonal(r))
    if not sizes.shape[-1]:
        return None
    found = sizes <= tolerance(xp, sizes)
    return found if seen_true(found) else None


def _over_r(xp: Any, x: Any, r: Any) -> Any:
    """Give x r^-H, for a triangular r."""
    return adjoint(xp, xp.linalg.solve(r, adjoint(xp, x)))


def _qr_vjp(xp: Any, ct: Any, y: Any) -> Any:
    # with R of full rank and a real diagonal, as libraries give it; the columns of a wide matrix after the square part are Q^H times theirs
    (q, r), (gq, gr) = y, ct
    k, n = min(q.shape[-2], r.shape[-1]), r.shape[-1]
    gq = xp.zeros_like(q) if gq is None else gq
    gr = (xp.zeros_like(r) if gr is None else gr)[..., :k, :]
    (q, gq), r, grest = completed(xp, q, gq, k, "qr"), r[..., :k, :], gr[..., k:]
    if n > k:
        gq = gq + xp.matmul(xp.matmul(q, r[..., k:]), adjoint(xp, grest))
        r, gr = r[..., :k], gr[..., :k]
    m = xp.triu(xp.matmul(gr, adjoint(xp, r)) - xp.matmul(adjoint(xp, q), gq))
    m = (m + adjoint(xp, m)) * (1 - eye_like(xp, m) / 2)
    g = gq + xp.matmul(q, m)
    dependent = _dependent(xp, r)
    if dependent is not None:  # nothing may depend on such columns of Q, which are arbitrary, nor on those of R, whose limit is 0 / 0
        flags = xp.astype(dependent, xp.real(g).dtype)
        lost = xp.abs(columns(xp, g, flags))
        if seen_true(lost > xp.max(xp.abs(gq)) * float(xp.finfo(g.dtype).eps) ** 0.5) or seen_true(columns(xp, gr, flags) != 0):
            raise DegenerateError(_DEPENDENT)
        g, r = columns(xp, g, 1 - flags), r + on_diagonal(xp, xp.astype(flags, r.dtype))
    g = _over_r(xp, g, r)
    return xp.concat([g, xp.matmul(q, grest)], axis=-1) if n > k else g


def _qr_jvp(xp: Any, args: Any, y: Any, tangents: Any, params: Any) -> Any:
    (full_q, full_r), t = y, tangents[0]
    k, n = min(full_q.shape[-2], full_r.shape[-1]), full_r.shape[-1]
    q, r, square = full_q[..., :k], full_r[..., :k, :k], t[..., :k]
    if _dependent(xp, r) is not None:
        raise DegenerateError(_DEPENDENT)
    tr = _over_r(xp, square, adjoint(xp, r))
    c = xp.matmul(adjoint(xp, q), tr)
    low = xp.tril(c, k=-1)
    upper = c - low + adjoint(xp, low)
    if c.dtype in COMPLEX:
        upper = upper - 1j * on_diagonal(xp, xp.imag(xp.linalg.diagonal(c)))
    dq = tr - xp.matmul(q, upper)
    dr = xp.matmul(upper, r)
    if n > k:
        rest = full_r[..., :k, k:]
        dr = xp.concat([dr, xp.matmul(adjoint(xp, dq), xp.matmul(q, rest)) + xp.matmul(adjoint(xp, q), t[..., k:])], axis=-1)
    if full_r.shape[-2] > k:
        dr = xp.concat([dr, xp.zeros_like(full_r[..., k:, :])], axis=-2)
    return extended(xp, full_q, dq, k), dr


def _qr_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    if params["mode"] not in ("reduced", "complete"):
        raise ValueError(f"qr knows the modes 'reduced' and 'complete', not {params['mode']!r}")
    return matrices("qr", square=False)(args, params)


def _qr_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (*stack, m, n), dtype = args[0].shape, args[0].dtype
    k = m if params["mode"] == "complete" else min(m, n)
    return ShapeDtype((*stack, m, k), dtype), ShapeDtype((*stack, k, n), dtype)


qr = Op(
    "linalg.qr",
    "x, /, *, mode='reduced'",
    ["x"],
    vjps=[_qr_vjp],
    pushforward=_qr_jvp,
    prepare=_qr_prepare,
    batch=stacked("qr"),
    abstract=_qr_abstract,
    outputs=QRResult,
    cases=[
        case(spread((3, 3)), kinds="fc"),
        case(spread((4, 2)), kinds="fc", free=Free("stack")),
        case(spread((2, 2, 4)), kinds="fc"),
        case(spread((3, 2)), kinds="f", mode="complete"),
        case(spread((2, 3), strided=True), kinds="f", mode="complete"),
        case((0, 3), kinds="f"),
        case((0, 2, 2), kinds="f"),
    ],
)
