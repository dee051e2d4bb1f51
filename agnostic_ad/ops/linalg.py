"""Products of matrices and tensors."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import broadcast_shapes, composite, normalize_axis, result_dtype, sum_to_shape
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.samples import case, strided


def _adjoint(xp: Any, x: Any) -> Any:
    return xp.matrix_transpose(xp.conj(x) if x.dtype in COMPLEX else x)


def _rows_and_columns(xp: Any, ct: Any, ndim1: int, ndim2: int) -> Any:
    """Give the cotangent of a product in which a vector counts as a row on the left, a column on the right."""
    if ndim1 == 1:
        ct = xp.expand_dims(ct, axis=ct.ndim if ndim2 == 1 else ct.ndim - 1)
    return xp.expand_dims(ct, axis=ct.ndim) if ndim2 == 1 else ct


def _matmul_x1(xp: Any, ct: Any, x1_shape: tuple[Any, ...], x2: Any) -> Any:
    if len(x1_shape) == 2 and x2.ndim == 2:
        return xp.matmul(ct, _adjoint(xp, x2))
    ct = _rows_and_columns(xp, ct, len(x1_shape), x2.ndim)
    g = xp.matmul(ct, _adjoint(xp, x2 if x2.ndim > 1 else xp.expand_dims(x2, axis=1)))
    return xp.reshape(sum_to_shape(xp, g, x1_shape if len(x1_shape) > 1 else (1, *x1_shape)), x1_shape)


def _matmul_x2(xp: Any, ct: Any, x1: Any, x2_shape: tuple[Any, ...]) -> Any:
    if len(x2_shape) == 2 and x1.ndim >= 2:
        if x1.ndim > 2:  # one large product instead of a sum over many small ones
            x1, ct = xp.reshape(x1, (-1, x1.shape[-1])), xp.reshape(ct, (-1, ct.shape[-1]))
        return xp.matmul(_adjoint(xp, x1), ct)
    ct = _rows_and_columns(xp, ct, x1.ndim, len(x2_shape))
    g = xp.matmul(_adjoint(xp, x1 if x1.ndim > 1 else xp.expand_dims(x1, axis=0)), ct)
    return xp.reshape(sum_to_shape(xp, g, x2_shape if len(x2_shape) > 1 else (*x2_shape, 1)), x2_shape)


def _matmul_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    vectors = [a.ndim - b == 1 for a, b in zip(args, batched, strict=True)]
    a, b = args
    if vectors[0]:
        a = xp.expand_dims(a, axis=a.ndim - 1)
    if vectors[1]:
        b = xp.expand_dims(b, axis=b.ndim)
    ndim = max(a.ndim - batched[0], b.ndim - batched[1])
    a, b = (
        xp.reshape(x, (size, *(1,) * (ndim + 1 - x.ndim), *x.shape[1:])) if f and x.ndim <= ndim else x
        for x, f in ((a, batched[0]), (b, batched[1]))
    )
    y = xp.matmul(a, b)
    if vectors[1]:
        y = xp.reshape(y, y.shape[:-1])
    if vectors[0]:
        y = xp.reshape(y, (*y.shape[: -2 + vectors[1]], *y.shape[y.ndim - 1 + vectors[1] :]))
    return y


def _matmul_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    a, b = (x.shape for x in args)
    left, right = (a if len(a) > 1 else (1, *a)), (b if len(b) > 1 else (*b, 1))
    if left[-1] != right[-2]:
        raise ValueError(f"matmul: shapes {a} and {b} do not fit")
    shape = (*broadcast_shapes(left[:-2], right[:-2]), *(left[-2:-1] if len(a) > 1 else ()), *(right[-1:] if len(b) > 1 else ()))
    return ShapeDtype(shape, result_dtype(xp, args))


matmul = Op(
    "matmul",
    "x1, x2, /",
    ["x1", "x2"],
    vjps=[_matmul_x1, _matmul_x2],
    jvps=[lambda xp, ct, x2: xp.matmul(ct, x2), lambda xp, ct, x1: xp.matmul(x1, ct)],
    batch=_matmul_batch,
    abstract=_matmul_abstract,
    operators=("__matmul__", "__rmatmul__"),
    cases=[
        case((2, 3), (3, 4), kinds="ifc"),
        case((3,), (3,), kinds="fc"),
        case((3,), (3, 2), kinds="fc"),
        case((2, 3), (3,), kinds="fc"),
        case((4, 2, 3), (3, 2), kinds="fc"),
        case((2, 1, 2, 3), (4, 3, 2), kinds="f"),
        case((3,), (2, 3, 2), kinds="f"),
        case((2, 3, 2), (2,), kinds="f"),
        case((2, 0), (0, 3), kinds="f"),
        case(strided((2, 2)), (2, 2), kinds="f"),
    ],
)


@composite("matrix_transpose", "x, /", ["x"], cases=[case((2, 3)), case((2, 3, 4)), case((0, 2))])
def matrix_transpose(xp: Any, x: Any) -> Any:
    """Swap the last two axes."""
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose needs an array of 2 dimensions or more, not {x.ndim}")
    return xp.permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


_TENSORDOTS = [
    case((2, 3), (3, 4), kinds="ifc", axes=1),
    case((2, 3), (2, 3), kinds="fc"),
    case((2, 3), (4,), kinds="f", axes=0),
    case((2, 3, 4), (4, 2), kinds="f", axes=((0, -1), (1, 0))),
    case((), (2,), kinds="f", axes=0),
]


@composite("tensordot", "x1, x2, /, *, axes=2", ["x1", "x2"], cases=_TENSORDOTS)
def tensordot(xp: Any, x1: Any, x2: Any, *, axes: Any = 2) -> Any:
    """Sum the products over pairs of axes."""
    if isinstance(axes, int):
        first, second = tuple(range(x1.ndim - axes, x1.ndim)), tuple(range(axes))
    else:
        first, second = (
            tuple(normalize_axis(a, x.ndim, "tensordot") for a in (axis if isinstance(axis, tuple | list) else (axis,)))
            for axis, x in zip(axes, (x1, x2), strict=True)
        )
    if tuple(x1.shape[a] for a in first) != tuple(x2.shape[a] for a in second):
        raise ValueError(f"tensordot: axes {first} of shape {tuple(x1.shape)} and {second} of shape {tuple(x2.shape)} do not fit")
    left, right = ([a for a in range(x.ndim) if a not in used] for x, used in ((x1, first), (x2, second)))
    inner = math.prod(x1.shape[a] for a in first)
    shape = (*(x1.shape[a] for a in left), *(x2.shape[a] for a in right))
    a = xp.reshape(xp.permute_dims(x1, (*left, *first)), (math.prod(x1.shape[i] for i in left), inner))
    b = xp.reshape(xp.permute_dims(x2, (*second, *right)), (inner, math.prod(x2.shape[i] for i in right)))
    return xp.reshape(xp.matmul(a, b), shape)


_VECDOTS = [
    case((2, 3), (2, 3), kinds="ifc"),
    case((2, 3), (2, 1), kinds="f", axis=-2),
    case((3,), (2, 3), kinds="fc"),
    case((0,), (0,), kinds="f"),
]


@composite("vecdot", "x1, x2, /, *, axis=-1", ["x1", "x2"], cases=_VECDOTS)
def vecdot(xp: Any, x1: Any, x2: Any, *, axis: int = -1) -> Any:
    """Sum the products along an axis; the first operand is conjugated."""
    return xp.sum((xp.conj(x1) if x1.dtype in COMPLEX else x1) * x2, axis=axis)
