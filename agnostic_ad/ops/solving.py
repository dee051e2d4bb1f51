"""Inverses, linear systems and determinants.

The derivative of det is exact at singular matrices, too: it is made of cofactors, which come from the singular value decomposition where
the inverse does not exist. inv, solve and slogdet have no derivative there, and the library's own error passes through.

References
----------
Giles (2008), "An extended collection of matrix derivative results for forward and reverse mode automatic differentiation"; Golub and
Pereyra (1973), "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from agnostic_ad.backends.base import Backend
from agnostic_ad.families import align, broadcast_shapes, result_dtype, sum_to_shape
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import ZERO, Op
from agnostic_ad.ops.degenerate import columns
from agnostic_ad.ops.linalg import adjoint, matrices, stacked
from agnostic_ad.samples import Free, case, spread


class SlogdetResult(NamedTuple):
    """What `linalg.slogdet` gives."""

    sign: Any
    logabsdet: Any


def _square(kinds: str = "fc") -> list[Any]:
    return [
        case(spread((3, 3)), kinds=kinds, free=Free("stack")),
        case(spread((2, 2, 2)), kinds="f"),
        case(spread((2, 2), strided=True), kinds="f"),
        case((0, 0), kinds="f"),
        case((0, 2, 2), kinds="f"),
    ]


def _same(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    return ShapeDtype(args[0].shape, args[0].dtype)


def _matrix(xp: Any, scalar: Any) -> Any:
    """Give one number for each matrix as a stack of matrices of one element."""
    return xp.reshape(scalar, (*scalar.shape, 1, 1))


# --- inv and solve ----------------------------------------------------------------------------------------------------------------------
def _inv_vjp(xp: Any, ct: Any, y: Any) -> Any:
    yh = adjoint(xp, y)
    return -xp.matmul(yh, xp.matmul(ct, yh))


inv = Op(
    "linalg.inv",
    "x, /",
    ["x"],
    vjps=[_inv_vjp],
    jvps=[lambda xp, ct, y: -xp.matmul(y, xp.matmul(ct, y))],
    prepare=matrices("inv"),
    batch=stacked("inv"),
    abstract=_same,
    cases=_square(),
)


def _column(xp: Any, x: Any, vector: bool) -> Any:
    return xp.expand_dims(x, axis=-1) if vector else x


def _solve_x1(xp: Any, ct: Any, x1: Any, y: Any, x2_shape: tuple[Any, ...]) -> Any:
    ct, y = (_column(xp, a, len(x2_shape) == 1) for a in (ct, y))
    return sum_to_shape(xp, -xp.matmul(xp.linalg.solve(adjoint(xp, x1), ct), adjoint(xp, y)), tuple(x1.shape))


def _solve_x2(xp: Any, ct: Any, x1: Any, x2_shape: tuple[Any, ...]) -> Any:
    vector = len(x2_shape) == 1
    g = xp.linalg.solve(adjoint(xp, x1), _column(xp, ct, vector))
    return sum_to_shape(xp, g[..., 0] if vector else g, x2_shape)


def _solve_jvp_x1(xp: Any, ct: Any, x1: Any, y: Any, x2_shape: tuple[Any, ...]) -> Any:
    vector = len(x2_shape) == 1
    t = -xp.linalg.solve(x1, xp.matmul(ct, _column(xp, y, vector)))
    return t[..., 0] if vector else t


def _solve_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    matrices("solve")(args, params)
    a, b = (tuple(getattr(x, "shape", ())) for x in args)
    if len(b) and a[-1] != b[-1 if len(b) == 1 else -2]:
        raise ValueError(
            f"solve: matrices of shape {a} and right-hand sides of shape {b} do not fit: {a[-1]} numbers are needed for each. A stack of "
            "vectors is written as one of matrices with a column each, b[..., None]."
        )
    return args, params


def _solve_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    a, b = args
    vector = b.ndim - batched[1] == 1
    y = xp.linalg.solve(*align(xp, (a, _column(xp, b, vector)), batched))
    return y[..., 0] if vector else y


def _solve_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    a, b = (tuple(x.shape) for x in args)
    shape = a[:-1] if len(b) == 1 else (*broadcast_shapes(a[:-2], b[:-2]), *b[-2:])
    return ShapeDtype(shape, result_dtype(xp, args))


solve = Op(
    "linalg.solve",
    "x1, x2, /",
    ["x1", "x2"],
    vjps=[_solve_x1, _solve_x2],
    jvps=[_solve_jvp_x1, lambda xp, ct, x1: xp.linalg.solve(x1, ct)],
    prepare=_solve_prepare,
    batch=_solve_batch,
    abstract=_solve_abstract,
    cases=[
        case(spread((3, 3)), (3, 2), kinds="fc", free=Free("stack")),
        case(spread((3, 3)), (3,), kinds="fc"),
        case(spread((2, 3, 3)), (3,), kinds="f"),
        case(spread((2, 1, 2, 2)), (3, 2, 1), kinds="f"),
        case(spread((2, 2)), (2, 2, 3), kinds="f"),
        case(spread((2, 2), strided=True), (2,), kinds="f"),
        case((0, 0), (0, 2), kinds="f"),
        case((0, 2, 2), (2,), kinds="f"),
    ],
)


# --- determinants -----------------------------------------------------------------------------------------------------------------------
def _slogdet_weight(xp: Any, y: Any, ct: Any) -> Any:
    """Give w such that the pullback is conj(w) x^-H: with t = tr(x^-1 dx), dlogabsdet = Re t and dsign = i sign Im t."""
    (sign, _), (gsign, glog) = y, ct
    if sign.dtype not in COMPLEX:
        return xp.zeros_like(sign) if glog is None else glog
    turn = 0 if gsign is None else 1j * xp.imag(sign * xp.conj(gsign))
    return xp.astype(xp.zeros_like(sign) if glog is None else glog, sign.dtype) - turn


def _slogdet_jvp(xp: Any, args: Any, y: Any, tangents: Any, params: Any) -> Any:
    sign = y[0]
    t = xp.linalg.trace(xp.linalg.solve(args[0], tangents[0]))
    return (1j * sign * xp.imag(t), xp.real(t)) if sign.dtype in COMPLEX else (xp.zeros_like(sign), t)


slogdet = Op(
    "linalg.slogdet",
    "x, /",
    ["x"],
    vjps=[lambda xp, ct, x, y: _matrix(xp, _slogdet_weight(xp, y, ct)) * adjoint(xp, xp.linalg.inv(x))],
    pushforward=_slogdet_jvp,
    prepare=matrices("slogdet"),
    batch=stacked("slogdet"),
    abstract=lambda xp, args, params: (
        ShapeDtype(args[0].shape[:-2], args[0].dtype),
        ShapeDtype(args[0].shape[:-2], xp.real_of(args[0].dtype)),
    ),
    outputs=SlogdetResult,
    cases=_square(),
)


def _without_one(xp: Any, s: Any) -> Any:
    """Give the products of all numbers but one."""
    before = xp.cumulative_prod(s, axis=-1, include_initial=True)[..., :-1]
    after = xp.flip(xp.cumulative_prod(xp.flip(s, axis=-1), axis=-1, include_initial=True)[..., :-1], axis=-1)
    return before * after


def _without_two(xp: Any, s: Any) -> Any:
    """Give the matrices of the products of all numbers but two, with zeros on the diagonal."""
    n = s.shape[-1]
    before = xp.cumulative_prod(s, axis=-1, include_initial=True)[..., :-1]
    after = xp.flip(xp.cumulative_prod(xp.flip(s, axis=-1), axis=-1, include_initial=True)[..., :-1], axis=-1)
    one = xp.ones((n, n), dtype=s.dtype, device=device_of(s))
    beyond = xp.where(xp.triu(one, k=1) == 1, xp.expand_dims(s, axis=-2), one)
    between = xp.cumulative_prod(beyond, axis=-1, include_initial=True)[..., :-1]
    upper = xp.triu(xp.expand_dims(before, axis=-1) * between * xp.expand_dims(after, axis=-2), k=1)
    return upper + xp.matrix_transpose(upper)


def _adjugate(xp: Any, x: Any) -> Any:
    """Give det(x) x^-1 where that is accurate, else from the singular value decomposition: adj(U S V^H) = adj(V^H) adj(S) adj(U).

    The inverse comes from QR, whose diagonal tells whether there is one, at a fraction of the price.
    """
    if 0 in tuple(x.shape):
        return x
    small = float(xp.finfo(x.dtype).eps) ** 0.5
    if xp.concrete(x):
        q, r = xp.linalg.qr(x)
        sizes = xp.abs(xp.linalg.diagonal(r))
        if not bool(xp.any(xp.min(sizes, axis=-1) <= xp.max(sizes, axis=-1) * small)):
            y = xp.linalg.solve(r, adjoint(xp, q))
            if not bool(xp.any(xp.linalg.matrix_norm(x) * xp.linalg.matrix_norm(y) * small >= 1)):
                return _matrix(xp, xp.linalg.det(x)) * y
    u, s, vh = xp.linalg.svd(x)
    unit = xp.linalg.det(u) * xp.linalg.det(vh)
    return _matrix(xp, unit) * xp.matmul(columns(xp, adjoint(xp, vh), _without_one(xp, s)), adjoint(xp, u))


Backend.fallbacks["linalg.adjugate"] = _adjugate


def _adjugate_map(xp: Any, x: Any, y: Any, t: Any, transposed: bool) -> Any:
    """Give the derivative of the adjugate along ``t``, or its adjoint.

    With x = U S V^H and F = U^H t V it is det(U V^H) V (diag(G f) - G F) U^H elementwise in F, where f is the diagonal of F, and G_ij the
    product of all singular values but two, i and j. That holds everywhere, but singular vectors have no derivative where values are
    equal; so matrices that are far from singular take (tr(y t) y - y t y) / det(x).
    """
    if 0 in tuple(x.shape):
        return xp.zeros_like(y)
    u, s, vh = xp.linalg.svd(x)
    unit = xp.linalg.det(u) * xp.linalg.det(vh)
    regular = s[..., -1] > s[..., 0] * float(xp.finfo(s.dtype).eps) ** 0.5
    det = xp.linalg.det(x)
    det = xp.where(regular, det, xp.ones_like(det))
    left, right = adjoint(xp, vh), adjoint(xp, u)
    if transposed:
        left, right, y, unit, det = u, vh, adjoint(xp, y), xp.conj(unit), xp.conj(det)
    inverse = (_matrix(xp, xp.linalg.trace(xp.matmul(y, t))) * y - xp.matmul(y, xp.matmul(t, y))) / _matrix(xp, det)
    f, g = xp.matmul(right, xp.matmul(t, left)), _without_two(xp, s)
    along = xp.sum(g * xp.expand_dims(xp.linalg.diagonal(f), axis=-2), axis=-1)
    middle = xp.eye(s.shape[-1], dtype=s.dtype, device=device_of(s)) * xp.expand_dims(along, axis=-1) - g * f
    return xp.where(_matrix(xp, regular), inverse, _matrix(xp, unit) * xp.matmul(left, xp.matmul(middle, right)))


adjugate = Op(
    "linalg.adjugate",
    "x, /",
    ["x"],
    vjps=[lambda xp, ct, x, y: _adjugate_map(xp, x, y, ct, True)],
    jvps=[lambda xp, ct, x, y: _adjugate_map(xp, x, y, ct, False)],
    prepare=matrices("adjugate"),
    batch=stacked("adjugate"),
    abstract=_same,
    cases=[*_square(), case((1, 1), kinds="fc"), case((2, 4, 4), kinds="f")],
)
det = Op(
    "linalg.det",
    "x, /",
    ["x"],
    vjps=[lambda xp, ct, x: _matrix(xp, ct) * adjoint(xp, xp.linalg.adjugate(x))],
    jvps=[lambda xp, ct, x: xp.sum(xp.matrix_transpose(xp.linalg.adjugate(x)) * ct, axis=(-2, -1))],
    prepare=matrices("det"),
    batch=stacked("det"),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape[:-2], args[0].dtype),
    cases=[*_square(), case((1, 1), kinds="fc"), case((2, 1, 4, 4), kinds="f")],
)


# --- the pseudoinverse and the rank -------------------------------------------------------------------------------------------------------
def _pinv_vjp(xp: Any, ct: Any, x: Any, y: Any) -> Any:
    yh, cth = adjoint(xp, y), adjoint(xp, ct)
    a, b = xp.matmul(xp.matmul(cth, y), yh), xp.matmul(yh, xp.matmul(y, cth))
    return (a - xp.matmul(x, xp.matmul(y, a))) + (b - xp.matmul(xp.matmul(b, y), x)) - xp.matmul(yh, xp.matmul(ct, yh))


def _pinv_jvp(xp: Any, ct: Any, x: Any, y: Any) -> Any:
    yh, th = adjoint(xp, y), adjoint(xp, ct)
    a, b = xp.matmul(y, xp.matmul(yh, th)), xp.matmul(xp.matmul(th, yh), y)
    return (a - xp.matmul(xp.matmul(a, x), y)) + (b - xp.matmul(y, xp.matmul(x, b))) - xp.matmul(y, xp.matmul(ct, y))


def _tolerant_batch(name: str) -> Any:
    """Give the batching rule of an operation with ``rtol``, one number or one for each matrix of the stack."""

    def batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
        x, rtol = args
        if not batched[0]:
            x = xp.broadcast_to(x, (size, *x.shape))
        if batched[1]:
            rtol = xp.reshape(rtol, (size, *(1,) * (x.ndim - 2 - rtol.ndim), *rtol.shape[1:]))
        return getattr(xp.linalg, name)(x, rtol=rtol)

    return batch


pinv = Op(
    "linalg.pinv",
    "x, /, *, rtol=None",
    ["x", "rtol"],
    vjps=[_pinv_vjp, ZERO],
    jvps=[_pinv_jvp, ZERO],
    prepare=matrices("pinv", square=False),
    batch=_tolerant_batch("pinv"),
    abstract=lambda xp, args, params: ShapeDtype((*args[0].shape[:-2], args[0].shape[-1], args[0].shape[-2]), args[0].dtype),
    cases=[
        case(spread((3, 2)), None, kinds="fc"),
        case(spread((2, 3)), None, kinds="fc", free=Free("stack")),
        case(spread((2, 2, 2)), 1e-5, kinds="f"),
        case(spread((3, 3), strided=True), None, kinds="f"),
        case((0, 2), None, kinds="f"),
        case((2, 0, 0), None, kinds="f"),
    ],
)


def _rank(xp: Any, x: Any, *, rtol: Any = None) -> Any:
    """Count the singular values above ``rtol`` times the largest."""
    *stack, m, n = x.shape
    if 0 in (m, n):
        return xp.zeros(tuple(stack), dtype=xp.default("indexing"), device=xp.device(x))
    s = xp.linalg.svdvals(x)
    if rtol is None:
        rtol = max(m, n) * float(xp.finfo(s.dtype).eps)
    elif hasattr(rtol, "shape"):
        rtol = xp.astype(xp.expand_dims(rtol, axis=-1), s.dtype)
    return xp.count_nonzero(s > xp.max(s, axis=-1, keepdims=True) * rtol, axis=-1)


Backend.fallbacks["linalg.matrix_rank"] = _rank
matrix_rank = Op(
    "linalg.matrix_rank",
    "x, /, *, rtol=None",
    ["x", "rtol"],
    prepare=matrices("matrix_rank", square=False),
    batch=_tolerant_batch("matrix_rank"),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape[:-2], xp.default("indexing")),
    cases=[
        case(spread((3, 2)), None, kinds="fc"),
        case(spread((2, 3, 3)), 0.5, kinds="f"),
        case((3, 2, 3, 3), 0.3, kinds="f"),
        case((0, 2), None, kinds="f"),
        case((2, 0, 0), None, kinds="f"),
    ],
)
