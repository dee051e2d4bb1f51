"""Statistical and utility functions.

max and min share the cotangent equally among ties; std gives 0 where it is 0. prod and cumulative_prod are exact where factors are 0,
to every order, because nothing is divided.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import accumulator, composite, linear, normalize_axes, normalize_axis, reduction
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.samples import LINE, Free, case, reduction_cases, strided

_SUM = "x, /, *, axis=None, dtype=None, keepdims=False"
_VAR = "x, /, *, axis=None, correction=0.0, keepdims=False"
_WIDER = [case((2, 3), kinds="if", axis=1, dtype="float64"), case((2,), kinds="c", dtype="complex128")]
_CORRECTED = [case((3, 4), kinds="f", axis=1, correction=1.0), case((4,), kinds="f", correction=1)]


def _count(shape: tuple[Any, ...], axis: tuple[int, ...]) -> Any:
    return math.prod(shape[a] for a in axis)


def _ties(xp: Any, x: Any, y: Any, axis: tuple[int, ...]) -> Any:
    hit = xp.astype(x == y, x.dtype)
    return hit / xp.sum(hit, axis=axis, keepdims=True)


def _var_partial(xp: Any, x: Any, axis: tuple[int, ...], correction: Any, x_shape: tuple[Any, ...]) -> Any:
    return (x - xp.mean(x, axis=axis, keepdims=True)) / ((_count(x_shape, axis) - correction) / 2)


def _std_partial(xp: Any, x: Any, y: Any, axis: tuple[int, ...], correction: Any, x_shape: tuple[Any, ...]) -> Any:
    zero = y == 0
    centred = (x - xp.mean(x, axis=axis, keepdims=True)) / (_count(x_shape, axis) - correction)
    return xp.where(zero, xp.zeros_like(centred), centred / xp.where(zero, xp.ones_like(y), y))


sum = reduction(
    "sum",
    1,
    signature=_SUM,
    result="sum",
    domain=LINE,
    kinds="ifc",
    empty=True,
    cases=_WIDER,
    down="xp.sum(ct, axis=axis, dtype=dtype, keepdims=keepdims)",
)
mean = reduction("mean", lambda ct, x_shape, axis: ct / max_1(_count(x_shape, axis)), down="xp.mean(ct, axis=axis, keepdims=keepdims)")
max = reduction("max", _ties, kinds="if")
min = reduction("min", _ties, kinds="if")
var = reduction("var", _var_partial, signature=_VAR, kinds="f", cases=_CORRECTED)
std = reduction("std", _std_partial, signature=_VAR, kinds="f", cases=_CORRECTED)
all = reduction("all", result="bool", kinds="bif", empty=True)
any = reduction("any", result="bool", kinds="bif", empty=True)
count_nonzero = reduction("count_nonzero", result="index", kinds="bif", empty=True)


def max_1(n: Any) -> Any:
    """Give ``n``, or 1 for 0: the mean of nothing has no elements to spread a cotangent over."""
    return n or 1


@composite("prod", _SUM, ["x"], cases=[*reduction_cases((0.3, 2.0), "ifc", params={"dtype": "dtype"}), *_WIDER])
def prod(xp: Any, x: Any, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """Multiply along axes, as a balanced tree."""
    x = xp.astype(x, accumulator(xp.backend, x.dtype, dtype), copy=False)
    axes = normalize_axes(axis, x.ndim, "prod")
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    rest = [i for i in range(x.ndim) if i not in axes]
    x = xp.reshape(xp.permute_dims(x, (*axes, *rest)), (_count(x.shape, axes), *(x.shape[i] for i in rest)))
    if x.shape[0] == 0:
        x = xp.ones((1, *x.shape[1:]), dtype=x.dtype, device=x.device)
    while x.shape[0] > 1:
        half, odd = divmod(x.shape[0], 2)
        product = x[:half, ...] * x[half : 2 * half, ...]
        x = xp.concat([product, x[2 * half :, ...]]) if odd else product
    return xp.reshape(x, kept if keepdims else x.shape[1:])


def _scan_axis(name: str, axis: Any, ndim: int) -> int:
    if axis is None and ndim != 1:
        raise ValueError(f"{name} of an array of {ndim} dimensions needs an axis")
    return normalize_axis(0 if axis is None else axis, ndim, name)


def _scan_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    (x,) = args
    axis = _scan_axis("cumulative_sum", params["axis"], x.ndim)
    shape = tuple(n + (i == axis and params["include_initial"]) for i, n in enumerate(x.shape))
    return ShapeDtype(shape, accumulator(xp, x.dtype, params["dtype"]))


def _scan_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    (x,) = args
    return xp.cumulative_sum(x, **{**params, "axis": _scan_axis("cumulative_sum", params["axis"], x.ndim - 1) + 1})


def _scan_transpose(xp: Any, ct: Any, axis: Any, include_initial: bool) -> Any:
    axis = _scan_axis("cumulative_sum", axis, ct.ndim)
    if include_initial:
        ct = ct[(slice(None),) * axis + (slice(1, None), ...)]
    return xp.flip(xp.cumulative_sum(xp.flip(ct, axis=axis), axis=axis), axis=axis)


def _scan_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    return args, {**params, "axis": _scan_axis("cumulative_sum", params["axis"], len(args[0].shape))}


_SCAN = "x, /, *, axis=None, dtype=None, include_initial=False"
_SCANS = [
    case((4,), kinds="ifc"),
    case(
        (2, 3),
        kinds="ifc",
        axis=-1,
        include_initial=True,
        free=Free("same", {"axis": "axis", "include_initial": (False, True), "dtype": "dtype"}, least=1),
    ),
    case((3, 2), kinds="f", axis=0),
    case((0,), kinds="f", include_initial=True),
    case((2, 0), kinds="f", axis=1),
    case((2, 3), kinds="f", axis=1, dtype="float64"),
    case(strided((3,)), kinds="fc"),
]
cumulative_sum: Op = linear(
    "cumulative_sum", _SCAN, _scan_transpose, prepare=_scan_prepare, batch=_scan_batch, abstract=_scan_abstract, cases=_SCANS
)


@composite("cumulative_prod", _SCAN, ["x"], cases=_SCANS)
def cumulative_prod(xp: Any, x: Any, *, axis: Any = None, dtype: Any = None, include_initial: bool = False) -> Any:
    """Multiply cumulatively, in log2(n) steps."""
    axis = _scan_axis("cumulative_prod", axis, x.ndim)
    x = xp.astype(x, accumulator(xp.backend, x.dtype, dtype), copy=False)
    before = (slice(None),) * axis
    step, count = 1, x.shape[axis]
    while step < count:
        shifted = x[(*before, slice(step, None), ...)] * x[(*before, slice(None, -step), ...)]
        x = xp.concat([x[(*before, slice(None, step), ...)], shifted], axis=axis)
        step *= 2
    if include_initial:
        one = xp.ones((*x.shape[:axis], 1, *x.shape[axis + 1 :]), dtype=x.dtype, device=x.device)
        x = xp.concat([one, x], axis=axis)
    return x


_DIFFS = [
    case((2, 4), None, None, kinds="ifc", free=Free("same", {"axis": "axis", "n": (1, 2)}, least=1)),
    case((4, 2), None, None, kinds="f", axis=0, n=2),
    case((2, 3), (2, 1), (2, 2), kinds="fc"),
    case((3,), None, (1,), kinds="f", n=2),
    case((1,), None, None, kinds="f"),
]


@composite("diff", "x, /, *, axis=-1, n=1, prepend=None, append=None", ["x", "prepend", "append"], cases=_DIFFS)
def diff(xp: Any, x: Any, prepend: Any = None, append: Any = None, *, axis: int = -1, n: int = 1) -> Any:
    """Take differences of neighbours, ``n`` times."""
    axis = normalize_axis(axis, x.ndim, "diff")
    parts = [p for p in (prepend, x, append) if p is not None]
    x = xp.concat(parts, axis=axis) if len(parts) > 1 else x
    before = (slice(None),) * axis
    for _ in range(n):
        x = x[(*before, slice(1, None), ...)] - x[(*before, slice(None, -1), ...)]
    return x
