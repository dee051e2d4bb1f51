"""What the derivatives of decompositions share: above all, what to do where vectors are not unique.

Two things are not unique, and a derivative through them exists only where they do not matter:

- The phases of complex vectors, and how the columns that complete a basis are turned. A result must not depend on them; the pullback
  refuses a cotangent that does.
- Vectors of equal values. Eigenvalues and singular values alone are differentiated where they are equal, too; for the vectors the
  pullback refuses with `DegenerateError` if anything depends on them. "Equal" is to rounding: a difference of up to 8 machine epsilons times
  the largest value.

Where values cannot be looked at (a traced or lazy library), and in forward mode, the tangents and cotangents concerned are NaN.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.errors import DegenerateError
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import lookup
from agnostic_ad.ops.linalg import adjoint


def columns(xp: Any, x: Any, scale: Any) -> Any:
    """Scale the columns of matrices."""
    return x * xp.expand_dims(scale, axis=-2)


def rows(xp: Any, x: Any, scale: Any) -> Any:
    """Scale the rows of matrices."""
    return x * xp.expand_dims(scale, axis=-1)


def eye_like(xp: Any, like: Any) -> Any:
    """Give the identity of the size, dtype and device of matrices."""
    return xp.eye(like.shape[-1], dtype=like.dtype, device=device_of(like))


def hermitian_part(xp: Any, x: Any) -> Any:
    """Give the nearest Hermitian matrices."""
    return (x + adjoint(xp, x)) / 2


def seen_true(mask: Any) -> bool:
    """Tell whether an element of a boolean array is seen to be true: where there are no values to look at, none is."""
    while isinstance(mask, Array):
        mask = mask.payload
    backend = lookup(mask)
    return backend is not None and backend.concrete(mask) and bool(backend.any(mask))


def tolerance(xp: Any, values: Any) -> Any:
    """Give what counts as zero beside ``values``, which are not negative: one number for each last axis.

    Rounding separates equal values by a few epsilons. A tolerance that grows with the size would meet neighbours of large random
    matrices in single precision.
    """
    return xp.max(values, axis=-1, keepdims=True) * (8 * float(xp.finfo(values.dtype).eps))


def over(xp: Any, x: Any, gap: Any, none: Any, used: Any, refusal: str) -> Any:
    """Give x / gap; where ``none`` says that there is no gap, NaN if something depends on it and 0 if nothing does."""
    lost = none & used
    if refusal and seen_true(lost):
        raise DegenerateError(refusal)
    return xp.where(none, xp.where(lost, xp.full_like(x, math.nan), xp.zeros_like(x)), x / xp.where(none, xp.ones_like(gap), gap))


def pairs_used(xp: Any, *cts: Any) -> Any:
    """Tell for each pair of vectors whether there is a cotangent for one of them."""
    flags = [xp.any(ct != 0, axis=-2) for ct in cts]
    used = flags[0] if len(flags) == 1 else flags[0] | flags[1]
    return xp.expand_dims(used, axis=-1) | xp.expand_dims(used, axis=-2)


def turned(xp: Any, skew: Any, used: Any, values: Any, gap: Any, refusal: str = "") -> Any:
    """Give skew / gap off the diagonal: how vectors turn towards each other."""
    apart = xp.abs(xp.expand_dims(values, axis=-1) - xp.expand_dims(values, axis=-2))
    equal = apart <= xp.expand_dims(tolerance(xp, xp.abs(values)), axis=-1)
    other = eye_like(xp, apart) == 0
    return over(xp, skew, gap, equal, used & other, refusal)


def _free(xp: Any, defect: Any, scale: Any, what: str) -> None:
    """Refuse a cotangent that depends on what a decomposition leaves open: ``defect`` is not small beside ``scale``."""
    if 0 in tuple(defect.shape) or 0 in tuple(scale.shape):
        return
    size = xp.max(xp.abs(scale), axis=(-2, -1)) * float(xp.finfo(scale.dtype).eps) ** 0.5
    if seen_true(xp.max(xp.abs(defect), axis=tuple(range(size.ndim - defect.ndim, 0))) > size):
        raise DegenerateError(what)


def refuse_phases(xp: Any, name: str, phases: Any, ct: Any) -> None:
    """Refuse the cotangent ``ct`` of complex vectors if ``phases``, its part along turns of the phases, is not zero beside it."""
    _free(
        xp,
        phases,
        ct,
        f"{name}: each complex vector is unique up to a factor exp(i phi), and the result depends on that factor, so it has no derivative. "
        "Use what does not depend on it, such as abs(v) or a product of v and its adjoint.",
    )


def equal_values(name: str, what: str, alone: str) -> str:
    """Give the message for vectors of equal values; ``alone`` gives the values."""
    return (
        f"{name}: the derivative of {what}s does not exist where their values are equal (to rounding), and the result depends on them. "
        f"Use {alone} if the values alone are needed (their second derivative needs the vectors, too); or separate them, by adding a small diagonal "
        "matrix of different numbers."
    )


def completed(xp: Any, q: Any, ct: Any, count: int, name: str) -> tuple[Any, Any]:
    """Reduce full vectors to the first ``count``, with what the cotangent of the others means for these.

    The others, N, span what is orthogonal to the first, Q. With the turn among themselves left open, dN = -Q dQ^H N.
    """
    if q.shape[-1] == count:
        return q, ct
    first, rest = q[..., :count], q[..., count:]
    if ct is None:
        return first, None
    g, extra = ct[..., :count], ct[..., count:]
    m = xp.matmul(adjoint(xp, rest), extra)
    _free(
        xp,
        m - adjoint(xp, m),
        ct,
        f"{name}: the columns that complete a basis are unique up to a rotation among themselves, and the result depends on it, so it has no "
        "derivative. Use the reduced form, or what does not depend on it, such as N N^H.",
    )
    return first, g - xp.matmul(rest, xp.matmul(adjoint(xp, extra), first))


def extended(xp: Any, q: Any, dfirst: Any, count: int) -> Any:
    """Extend the tangent of the first ``count`` vectors to that of all."""
    if q.shape[-1] == count:
        return dfirst
    first, rest = q[..., :count], q[..., count:]
    return xp.concat([dfirst, -xp.matmul(first, xp.matmul(adjoint(xp, dfirst), rest))], axis=-1)


def on_diagonal(xp: Any, d: Any) -> Any:
    """Give diagonal matrices."""
    return eye_like(xp, d) * xp.expand_dims(d, axis=-1)
