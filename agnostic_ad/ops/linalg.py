"""Linear algebra: products of matrices and tensors, diagonals, norms.

Norms have slope 0 where they are 0 (and so has each element that is 0, for a norm of order below 2 that has none there). Elements that
tie in norms of order inf and -inf share equally, as do rows and columns of matrices.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import broadcast_shapes, composite, normalize_axis, reduction, result_dtype, sum_to_shape
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import TABLE, Op
from agnostic_ad.samples import Domain, Free, Operand, case, spread, strided


def adjoint(xp: Any, x: Any) -> Any:
    """Give the conjugate transpose of matrices."""
    return xp.matrix_transpose(xp.conj(x) if x.dtype in COMPLEX else x)


def _rows_and_columns(xp: Any, ct: Any, ndim1: int, ndim2: int) -> Any:
    """Give the cotangent of a product in which a vector counts as a row on the left, a column on the right."""
    if ndim1 == 1:
        ct = xp.expand_dims(ct, axis=ct.ndim if ndim2 == 1 else ct.ndim - 1)
    return xp.expand_dims(ct, axis=ct.ndim) if ndim2 == 1 else ct


def _matmul_x1(xp: Any, ct: Any, x1_shape: tuple[Any, ...], x2: Any) -> Any:
    if len(x1_shape) == 2 and x2.ndim == 2:
        return xp.matmul(ct, adjoint(xp, x2))
    ct = _rows_and_columns(xp, ct, len(x1_shape), x2.ndim)
    g = xp.matmul(ct, adjoint(xp, x2 if x2.ndim > 1 else xp.expand_dims(x2, axis=1)))
    return xp.reshape(sum_to_shape(xp, g, x1_shape if len(x1_shape) > 1 else (1, *x1_shape)), x1_shape)


def _matmul_x2(xp: Any, ct: Any, x1: Any, x2_shape: tuple[Any, ...]) -> Any:
    if len(x2_shape) == 2 and x1.ndim >= 2:
        if x1.ndim > 2:  # one large product instead of a sum over many small ones
            x1, ct = xp.reshape(x1, (-1, x1.shape[-1])), xp.reshape(ct, (-1, ct.shape[-1]))
        return xp.matmul(adjoint(xp, x1), ct)
    ct = _rows_and_columns(xp, ct, x1.ndim, len(x2_shape))
    g = xp.matmul(adjoint(xp, x1 if x1.ndim > 1 else xp.expand_dims(x1, axis=0)), ct)
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
        case((2, 3), (3, 4), kinds="ifc", free=Free("stack")),
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
    ndim = min(x1.ndim, x2.ndim)
    axis = normalize_axis(axis, ndim, "vecdot") - ndim  # counted from the end, where operands of different dimensions meet
    if x1.shape[axis] != x2.shape[axis]:
        raise ValueError(
            f"vecdot: the axis to sum has sizes {x1.shape[axis]} and {x2.shape[axis]}; it is the one axis that is not broadcast"
        )
    product = (xp.conj(x1) if x1.dtype in COMPLEX else x1) * x2
    return xp.sum(product, axis=axis, dtype=product.dtype)  # narrow integers stay narrow, as in matmul


for _name in ("matmul", "matrix_transpose", "tensordot", "vecdot"):  # the same operations, under the standard's second name
    TABLE[f"linalg.{_name}"] = TABLE[_name]


# --- matrices as operands ---------------------------------------------------------------------------------------------------------
def matrices(name: str, square: bool = True) -> Any:
    """Give what prepares the operands of ``name``: it refuses a first one that is no matrix, or stack of them."""

    def prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        shape = tuple(getattr(args[0], "shape", (1, 1)))  # what is no array is refused later, with its type
        if len(shape) < 2:
            raise ValueError(
                f"{name} takes a matrix or a stack of matrices; got an array of shape {shape}. Add the axis that is missing, as x[:, None]."
            )
        if square and shape[-1] != shape[-2]:
            raise ValueError(f"{name} takes square matrices; got shape {shape}, whose last two sizes differ")
        return args, params

    return prepare


def stacked(name: str) -> Any:
    """Give the batching rule of an operation on stacks of matrices: a batch is one more axis of the stack."""
    return lambda xp, size, args, batched, params: getattr(xp.linalg, name)(args[0], **params)


_DIAGONALS = [
    case((2, 3), kinds="ifc"),
    case((3, 2), kinds="f", offset=-1),
    case((3, 4), kinds="f", offset=-2),
    case((5, 3), kinds="f", offset=1),
    case((2, 3, 4), kinds="fc", offset=2),
    case((2, 2), kinds="f", offset=5),
    case((0, 3), kinds="f"),
    case(strided((3, 3)), kinds="f", offset=1),
]


@composite("linalg.diagonal", "x, /, *, offset=0", ["x"], cases=_DIAGONALS, prepare=matrices("diagonal", square=False))
def diagonal(xp: Any, x: Any, *, offset: int = 0) -> Any:
    """Give a diagonal of each matrix."""
    m, n = x.shape[-2:]
    length = max(0, min(m + min(offset, 0), n - max(offset, 0)))
    start = max(offset, 0) - min(offset, 0) * n
    flat = xp.reshape(x, (*x.shape[:-2], m * n))
    return flat[..., start : start + (length - 1) * (n + 1) + 1 : n + 1] if length else flat[..., :0]


_TRACES = [*_DIAGONALS, case((2, 2), kinds="if", dtype="float64")]


@composite("linalg.trace", "x, /, *, offset=0, dtype=None", ["x"], cases=_TRACES, prepare=matrices("trace", square=False))
def trace(xp: Any, x: Any, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sum a diagonal of each matrix."""
    return xp.sum(xp.linalg.diagonal(x, offset=offset), axis=-1, dtype=dtype)


@composite("linalg.outer", "x1, x2, /", ["x1", "x2"], cases=[case((2,), (3,), kinds="ifc"), case((0,), (2,), kinds="f")])
def outer(xp: Any, x1: Any, x2: Any) -> Any:
    """Multiply each element of one vector with each of another."""
    if x1.ndim != 1 or x2.ndim != 1:
        raise ValueError(f"outer takes two vectors; got shapes {tuple(x1.shape)} and {tuple(x2.shape)}. Use reshape(x, (-1,)) on them.")
    return xp.expand_dims(x1, axis=1) * xp.expand_dims(x2, axis=0)


def _cross_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    shapes, axis = [tuple(getattr(x, "shape", (3,))) for x in args], params["axis"]
    if any(shape[normalize_axis(axis, len(shape), "cross")] != 3 for shape in shapes):
        raise ValueError(f"cross: vectors have 3 elements along axis {axis}; got shapes {shapes[0]} and {shapes[1]}")
    if axis >= 0 and len(shapes[0]) != len(shapes[1]):
        raise ValueError(f"cross: axis {axis} is another one in shape {shapes[0]} than in {shapes[1]}; count it from the end")
    return args, {"axis": axis - len(shapes[0]) if axis >= 0 else axis}


_CROSSES = [
    case((2, 3), (2, 3), kinds="ifc"),
    case((3, 2), (3, 1), kinds="f", axis=-2),
    case((3,), (2, 3), kinds="f"),
    case((3, 2), (3, 2), kinds="f", axis=0),
    case((0, 3), (1, 3), kinds="f"),
]


@composite("linalg.cross", "x1, x2, /, *, axis=-1", ["x1", "x2"], cases=_CROSSES, prepare=_cross_prepare)
def cross(xp: Any, x1: Any, x2: Any, *, axis: int = -1) -> Any:
    """Give the cross products of vectors of 3 elements."""
    a, b = ([xp.roll(x, -n, axis=axis) for n in (1, 2)] for x in (x1, x2))
    return a[0] * b[1] - a[1] * b[0]


_POWERS = [
    *(case(spread((2, 2)), n=n, kinds="fc") for n in (3, -2)),
    *(case(spread((2, 3, 3)), n=n, kinds="f") for n in (0, 1, 6, -1)),
    case((0, 0), n=2, kinds="f"),
    case((0, 2, 2), n=-1, kinds="f"),
]


@composite("linalg.matrix_power", "x, n, /", ["x"], cases=_POWERS, prepare=matrices("matrix_power"))
def matrix_power(xp: Any, x: Any, n: int) -> Any:
    """Multiply ``n`` factors, by repeated squaring; of the inverse, if ``n`` is negative."""
    if n == 0:
        return xp.zeros_like(x) + xp.eye(x.shape[-1], dtype=x.dtype, device=device_of(x))
    if n < 0:
        x, n = xp.linalg.inv(x), -n
    y = None
    while n:
        if n % 2:
            y = x if y is None else xp.matmul(y, x)
        n //= 2
        x = xp.matmul(x, x) if n else x
    return y


# --- norms ------------------------------------------------------------------------------------------------------------------------
def _norm_gradient(xp: Any, x: Any, y: Any, axis: tuple[int, ...], ord: Any) -> Any:
    if ord == 0:
        return xp.zeros_like(x)
    if ord == 1:
        return xp.sign(x)
    if ord == 2:
        zero = y == 0
        return xp.where(zero, xp.zeros_like(x), x) / xp.where(zero, xp.ones_like(y), y)
    size = xp.abs(x)
    if abs(ord) == math.inf:
        hit = xp.astype(size == y, y.dtype)
        return xp.sign(x) * (hit / xp.sum(hit, axis=axis, keepdims=True))
    zero = (size == 0) | (y == 0)
    ratio = xp.where(zero, xp.ones_like(size), size) / xp.where(zero, xp.ones_like(y), y)
    return xp.sign(x) * xp.where(zero, xp.zeros_like(size), ratio ** (ord - 1))


_APART = Operand((2, 3), Domain(0.2, 3.0, True))
vector_norm = reduction(
    "linalg.vector_norm",
    _norm_gradient,
    signature="x, /, *, axis=None, keepdims=False, ord=2",
    result="real",
    domain=(0.2, 3.0, True),
    cases=[
        *(case(_APART, kinds="fc", axis=1, ord=n) for n in (1, math.inf, 3)),
        *(case(_APART, kinds="f", axis=(0, 1), ord=n, keepdims=True) for n in (0, -math.inf, 0.5, -1.5)),
        case((2, 0), kinds="fc", axis=1),
    ],
)

_NORMS = [
    *(case(spread((3, 2)), kinds="fc", ord=n) for n in ("fro", "nuc", 2, 1, math.inf)),
    *(case(spread((2, 2, 3)), kinds="f", ord=n, keepdims=True) for n in ("fro", "nuc", -2, -1, -math.inf)),
    case((2, 0), kinds="f"),
    case((0, 2, 2), kinds="f", ord=2),
]


@composite("linalg.matrix_norm", "x, /, *, keepdims=False, ord='fro'", ["x"], cases=_NORMS, prepare=matrices("matrix_norm", square=False))
def matrix_norm(xp: Any, x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Give a norm of each matrix."""
    if ord is None or ord == "fro":
        return xp.linalg.vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord == "nuc" or ord in (2, -2):
        sizes = xp.linalg.svdvals(x)
        sizes = xp.where(sizes > 0, sizes, xp.zeros_like(sizes))  # slope 0 where a singular value is 0
    elif ord in (1, -1, math.inf, -math.inf):
        sizes = xp.sum(xp.abs(x), axis=-2 if abs(ord) == 1 else -1)
    else:
        raise ValueError(f"matrix_norm knows the orders 'fro', 'nuc', 1, -1, 2, -2, inf and -inf, not {ord!r}")
    summed = ord == "nuc" or (ord > 0 and sizes.shape[-1] == 0)  # the largest of none is 0
    y = xp.sum(sizes, axis=-1) if summed else xp.max(sizes, axis=-1) if ord > 0 else xp.min(sizes, axis=-1)
    return xp.reshape(y, (*y.shape, 1, 1)) if keepdims else y
