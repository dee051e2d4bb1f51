"""What operations are in ONNX: the name of the operator that is the same, or a function that writes operators; and forms in other operations.

A converter takes the writer, the operands (names of tensors that know their shape and dtype; None where an optional one is not there) and the
static parameters by name. It gives the name of the result, or None where this call has no operator: then the form serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agnostic_ad.graph.sizes import Dim, dynamic
from agnostic_ad.ops.indexing import basic_shape, expand_ellipsis
from agnostic_ad.ops.special import horner

__all__ = ["COUNTERPARTS", "FORMS"]

_SAME = """
add Add, subtract Sub, multiply Mul, divide Div, pow Pow, maximum Max, minimum Min, matmul MatMul, linalg.matmul MatMul,
negative Neg, reciprocal Reciprocal, sqrt Sqrt, abs Abs, sign Sign, exp Exp, log Log, sin Sin, cos Cos, tan Tan, asin Asin, acos Acos, atan Atan,
sinh Sinh, cosh Cosh, tanh Tanh, asinh Asinh, acosh Acosh, atanh Atanh, special.erf Erf, special.expit Sigmoid,
equal Equal, less Less, less_equal LessOrEqual, greater Greater, greater_equal GreaterOrEqual,
logical_and And, logical_or Or, logical_xor Xor, logical_not Not,
positive Identity, stop_gradient Identity, to_device Identity, conj Identity, real Identity, graph.assign Identity,
nn.relu Relu, nn.softsign Softsign, nn.hardswish HardSwish, nn.gelu Gelu, linalg.det Det
"""
COUNTERPARTS: dict[str, str | Callable[..., Any]] = {**dict(pair.split() for pair in _SAME.replace("\n", " ").split(","))}
"""By the name of the operation."""

FORMS: dict[str, Callable[..., Any]] = {
    "square": lambda xp, x: x * x,
    "log2": lambda xp, x: xp.log(x) / math.log(2),
    "log10": lambda xp, x: xp.log(x) / math.log(10),
    "not_equal": lambda xp, x1, x2: xp.logical_not(x1 == x2),
    "hypot": lambda xp, x1, x2: _hypot(xp, xp.abs(x1), xp.abs(x2)),
    "logaddexp": lambda xp, x1, x2: xp.where(
        x1 == x2, x1 + math.log(2), xp.maximum(x1, x2) + xp.log1p(xp.exp(-xp.abs(xp.where(x1 == x2, x1 * 0, x1 - x2))))
    ),
    "log1p": lambda xp, x: _kahan(xp, 1 + x, x, lambda u: xp.log(u) * x / (u - 1)),
    "expm1": lambda xp, x: _expm1(xp, x),
    "atan2": lambda xp, x1, x2: _atan2(xp, x1, x2),
    "copysign": lambda xp, x1, x2: xp.where(xp.signbit(x2), -xp.abs(x1), xp.abs(x1)),
    "signbit": lambda xp, x: (x < 0) | ((x == 0) & (1 / x < 0)),
    "floor_divide": lambda xp, x1, x2: (x1 - xp.remainder(x1, x2)) / x2 if xp.kind(x1.dtype) == "i" else xp.floor(x1 / x2),
    "remainder": lambda xp, x1, x2: x1 - xp.floor(x1 / x2) * x2,
    "bitwise_right_shift": lambda xp, x1, x2: xp.floor_divide(x1, xp.bitwise_left_shift(xp.ones_like(x1), x2)),
    "special.erfc": lambda xp, x: _erfc(xp, x),
    "special.ndtr": lambda xp, x: _erfc(xp, x * -math.sqrt(0.5)) / 2,
    "special.log_expit": lambda xp, x: -xp.nn.softplus(-x),
    "special.exp2": lambda xp, x: xp.exp(x * math.log(2)),
    "linalg.vector_norm": lambda xp, x, axis, keepdims, ord: _norm(xp, x, axis, keepdims, ord),
    "var": lambda xp, x, axis, correction, keepdims: _var(xp, x, axis, correction, keepdims),
    "std": lambda xp, x, axis, correction, keepdims: xp.sqrt(_var(xp, x, axis, correction, keepdims)),
    "searchsorted": lambda xp, x1, x2, *, sorter=None, side: _searchsorted(xp, x1 if sorter is None else xp.take(x1, sorter), x2, side),
    "nn.standardize": lambda xp, x, weight=None, bias=None, **how: _standardize(xp, x, weight, bias, **how),
}
"""What is made of other operations here, rather than of an operator, or in another way than where a library lacks it."""


def converter(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as what writes operations."""

    def wrap(fn: Callable[..., Any]) -> Callable[..., Any]:
        COUNTERPARTS.update(dict.fromkeys(names, fn))
        return fn

    return wrap


# --- forms ------------------------------------------------------------------------------------------------------------------------------
def _hypot(xp: Any, a: Any, b: Any) -> Any:
    large, small = xp.maximum(a, b), xp.minimum(a, b)
    t = small / xp.where(large == 0, xp.ones_like(large), large)
    return large * xp.sqrt(1 + t * t)


def _kahan(xp: Any, u: Any, x: Any, far: Callable[[Any], Any]) -> Any:
    # W. Kahan's: log(u) x / (u - 1), where u = 1 + x rounds, has the digits of log1p(x)
    same, endless = u == 1, u == math.inf
    return xp.where(same, x, xp.where(endless, u, far(xp.where(same | endless, 2 * xp.ones_like(u), u))))


def _expm1(xp: Any, x: Any) -> Any:
    # exp(x) - 1 = tanh(x / 2) (exp(x) + 1), without the cancellation
    near = xp.abs(x) < 1
    z = xp.where(near, x, xp.zeros_like(x))
    return xp.where(near, xp.tanh(z / 2) * (xp.exp(z) + 1), xp.exp(x) - 1)


def _atan2(xp: Any, y: Any, x: Any) -> Any:
    turned = xp.abs(y) > xp.abs(x)
    down, up = xp.where(turned, xp.abs(y), xp.abs(x)), xp.where(turned, xp.abs(x), xp.abs(y))
    angle = xp.atan(up / xp.where(down == 0, xp.ones_like(down), down))
    angle = xp.where(turned, math.pi / 2 - angle, angle)
    return xp.copysign(xp.where(xp.signbit(x), math.pi - angle, angle), y)


_TAIL = (-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277)
"""Of log(erfc(x) / t) + x^2 in powers of t = 1 / (1 + x / 2), to 1.2e-7 (Press et al., Numerical Recipes, section 6.2)."""


def _erfc(xp: Any, x: Any) -> Any:
    far = x > 2  # where 1 - erf(x) has lost its digits
    z = xp.where(far, x, 2 * xp.ones_like(x))
    t = 1 / (1 + z / 2)
    return xp.where(far, t * xp.exp(horner(t, _TAIL) - z * z), 1 - xp.special.erf(x))


def _norm(xp: Any, x: Any, axis: Any, keepdims: bool, ord: Any) -> Any:
    if ord == 2:
        return xp.sqrt(xp.sum(x * x, axis=axis, keepdims=keepdims))
    if ord == 0:
        return xp.sum(xp.astype(x != 0, x.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return xp.sum(xp.abs(x), axis=axis, keepdims=keepdims)
    if math.isinf(ord):
        return (xp.max if ord > 0 else xp.min)(xp.abs(x), axis=axis, keepdims=keepdims)
    return xp.sum(xp.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _var(xp: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    away = x - xp.mean(x, axis=axis, keepdims=True)
    if not correction:
        return xp.mean(away * away, axis=axis, keepdims=keepdims)
    count = math.prod(x.shape[a] for a in (range(x.ndim) if axis is None else axis))
    return xp.sum(away * away, axis=axis, keepdims=keepdims) / (count - correction)


def _standardize(xp: Any, x: Any, weight: Any, bias: Any, *, axis: Any, eps: float, center: bool) -> tuple[Any, Any, Any]:
    # means as an operator: a size that only a run tells is then in no formula
    mean = xp.mean(x, axis=axis, keepdims=True)
    away = x - mean if center else x
    var = xp.mean(away * away, axis=axis, keepdims=True)
    y = away / xp.sqrt(var + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias, mean if center else xp.zeros_like(var), var


def _searchsorted(xp: Any, x1: Any, x2: Any, side: str) -> Any:
    v = xp.expand_dims(x2, axis=-1)
    return xp.sum(xp.astype(x1 < v if side == "left" else x1 <= v, xp.default("indexing")), axis=-1)


# --- elementwise ------------------------------------------------------------------------------------------------------------------------
@converter("ceil", "floor", "trunc", "round")
def _rounded(w: Any, x: Any) -> Any:
    if x.dtype.startswith(("int", "uint")):
        return w.op("Identity", x)
    return w.op("Mul", w.op("Sign", x), w.op("Floor", w.op("Abs", x))) if w.name == "trunc" else w.op(w.name.capitalize(), x)


@converter("remainder")
def _remainder(w: Any, x1: Any, x2: Any) -> Any:
    return w.op("Mod", *w.common((x1, x2))) if w.out.dtype.startswith(("int", "uint")) else None


@converter("isnan", "isinf", "isfinite")
def _which(w: Any, x: Any) -> Any:
    if x.dtype.startswith(("int", "uint", "bool")):
        same = w.op("Equal", x, x)
        return same if w.name == "isfinite" else w.op("Not", same)
    if w.name != "isfinite":
        return w.op("IsNaN" if w.name == "isnan" else "IsInf", x)
    return w.op("Not", w.op("Or", w.op("IsNaN", x), w.op("IsInf", x)))


@converter("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert")
def _bitwise(w: Any, *args: Any) -> Any:
    kind = {"and": "And", "or": "Or", "xor": "Xor", "invert": "Not"}[w.name.removeprefix("bitwise_")]
    return w.op(kind if w.out.dtype == "bool" else f"Bitwise{kind}", *w.common(args))


@converter("bitwise_left_shift")
def _shift(w: Any, x1: Any, x2: Any) -> Any:
    bits = f"uint{np.dtype(w.out.dtype).itemsize * 8}"
    return w.op("Cast", w.op("BitShift", w.cast(x1, bits), w.cast(x2, bits), direction="LEFT"), to=w.code(w.out.dtype))


@converter("where")
def _where(w: Any, condition: Any, x1: Any, x2: Any) -> Any:
    return choose(w, condition, *w.common((x1, x2)))


def choose(w: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Write a choice; ONNX Runtime has none between booleans."""
    if w.out.dtype != "bool":
        return w.op("Where", condition, yes, no)
    return w.op("Or", w.op("And", condition, yes), w.op("And", w.op("Not", condition), no))


@converter("astype")
def _astype(w: Any, x: Any, **params: Any) -> Any:
    return w.op("Cast", x, to=w.code(w.out.dtype))


@converter("nn.gelu_tanh")
def _gelu_tanh(w: Any, x: Any) -> Any:
    return w.op("Gelu", x, approximate="tanh")


@converter("nn.leaky_relu")
def _leaky_relu(w: Any, x: Any, *, slope: float) -> Any:
    return w.op("LeakyRelu", x, alpha=float(slope)) if slope <= 1 else None


@converter("nn.hardsigmoid")
def _hardsigmoid(w: Any, x: Any) -> Any:
    return w.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@converter("nn.softplus")
def _softplus(w: Any, x: Any, *, beta: float, threshold: float) -> Any:
    return w.op("Softplus", x) if beta == 1 else None  # above the threshold they differ by less than a rounding


@converter("nn.keep")
def _keep(w: Any, x: Any, *, p: float) -> Any:
    return w.op("Less", w.op("RandomUniformLike", x, dtype=w.code("float32")), w.constant(p, "float32"))


@converter("nn.noise")
def _noise(w: Any, x: Any, *, kind: str, low: float, high: float) -> Any:
    if kind == "uniform":
        return w.op("RandomUniformLike", x, low=float(low), high=float(high))
    u = w.op("RandomUniformLike", x, low=1e-38, high=1.0)
    return w.op("Neg", w.op("Log", w.op("Neg", w.op("Log", u))))


# --- reductions -------------------------------------------------------------------------------------------------------------------------
_REDUCTIONS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin"}


@converter(*_REDUCTIONS, "all", "any", "count_nonzero")
def _reduction(w: Any, x: Any, *, axis: Any, keepdims: bool, dtype: Any = None) -> Any:
    name, out, axes = w.name, w.out.dtype, range(x.ndim) if axis is None else axis
    if name in ("all", "any", "count_nonzero"):  # by counting: of nothing, all and none are true
        x = w.op("Cast", x, to=w.code("bool"))
        x = w.op("Cast", w.op("Not", x) if name == "all" else x, to=w.code("int64"))
    elif name == "sum":
        x = w.cast(x, out)
    y = w.op(_REDUCTIONS.get(name, "ReduceSum"), x, w.constant(list(axes), "int64"), keepdims=int(keepdims), noop_with_empty_axes=1)
    if out != "bool":
        return y
    y = w.op("Cast", y, to=w.code("bool"))
    return w.op("Not", y) if name == "all" else y


@converter("argmax", "argmin")
def _index_of(w: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    kind = "ArgMax" if w.name == "argmax" else "ArgMin"
    if axis is not None:
        return w.op(kind, x, axis=axis, keepdims=int(keepdims))
    flat = w.op(kind, w.reshape(x, (-1,)), axis=0, keepdims=0)
    return w.reshape(flat, (1,) * x.ndim) if keepdims else flat


@converter("cumulative_sum")
def _cumulative(w: Any, x: Any, *, axis: Any, dtype: Any, include_initial: bool) -> Any:
    axis = (axis or 0) % x.ndim
    y = w.op("CumSum", w.cast(x, w.out.dtype), w.constant(axis, "int64"))
    if not include_initial:
        return y
    pads = [int(i == axis) for i in range(x.ndim)] + [0] * x.ndim
    return w.op("Pad", y, w.constant(pads, "int64"), w.constant(0, w.out.dtype))


@converter("argsort")
def _argsort(w: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    axis %= x.ndim
    return w.op("TopK", x, w.sizes(x.shape[axis : axis + 1]), axis=axis, largest=int(descending), count=2)[1]


@converter("nn.softmax", "nn.log_softmax")
def _softmax(w: Any, x: Any, *, axis: int) -> Any:
    return w.op("Softmax" if w.name == "nn.softmax" else "LogSoftmax", x, axis=axis)


# --- shapes -----------------------------------------------------------------------------------------------------------------------------
@converter("reshape")
def _reshape(w: Any, x: Any, *, shape: Any, copy: Any = None) -> Any:
    return w.reshape(x, shape)


@converter("permute_dims")
def _permute(w: Any, x: Any, *, axes: Any) -> Any:
    return w.op("Transpose", x, perm=list(axes)) if axes else w.op("Identity", x)


@converter("broadcast_to")
def _broadcast(w: Any, x: Any, *, shape: Any) -> Any:
    return w.op("Expand", x, w.sizes(w.out.shape))


@converter("flip")
def _flip(w: Any, x: Any, *, axis: Any) -> Any:
    return w.slice(x, {a: slice(None, None, -1) for a in axis})


@converter("concat")
def _concat(w: Any, *arrays: Any, axis: Any) -> Any:
    parts = w.common(arrays)
    return w.op("Concat", *(w.reshape(a, (-1,)) for a in parts) if axis is None else parts, axis=axis or 0)


@converter("stack")
def _stack(w: Any, *arrays: Any, axis: int) -> Any:
    return w.op("Concat", *(w.axes("Unsqueeze", a, [axis]) for a in w.common(arrays)), axis=axis)


@converter("unstack")
def _unstack(w: Any, x: Any, *, axis: int) -> Any:
    parts = w.op("Split", x, axis=axis, num_outputs=len(w.outs), count=len(w.outs)) if len(w.outs) > 1 else [x]
    return tuple(w.axes("Squeeze", part, [axis]) for part in parts)


# --- indexing ---------------------------------------------------------------------------------------------------------------------------
def _full(k: Any) -> bool:
    return isinstance(k, slice) and k.start is None and k.stop is None and k.step in (None, 1)


@converter("getitem")
def _getitem(w: Any, x: Any, *, key: Any) -> Any:
    key = expand_ellipsis(key, x.ndim)
    axes = [k for k in key if k is not None]
    cuts = {i: k if isinstance(k, slice) else slice(k, k + 1 if int(k) != -1 else None) for i, k in enumerate(axes) if not _full(k)}
    y = w.axes("Squeeze", w.slice(x, cuts), [i for i, k in enumerate(axes) if not isinstance(k, slice)])
    return w.axes("Unsqueeze", y, [i for i, k in enumerate(k for k in key if k is None or isinstance(k, slice)) if k is None])


@converter("scatter")
def _scatter(w: Any, x: Any, *, key: Any, shape: Any) -> Any:
    return spread(w, x, expand_ellipsis(key, len(shape)), shape)


def spread(w: Any, x: Any, key: Sequence[Any], shape: Sequence[Any]) -> Any:
    """Write zeros with a tensor at a basic key: an axis at a time, so that axes that are taken whole may have any size."""
    kept = [k for k in key if k is None or isinstance(k, slice)]
    y = w.axes("Squeeze", x, [i for i, k in enumerate(kept) if k is None])
    axes = [k for k in key if k is not None]
    y = w.axes("Unsqueeze", y, [i for i, k in enumerate(axes) if not isinstance(k, slice)])
    before, after, now = [0] * len(axes), [0] * len(axes), _room(axes, shape)
    for i, (k, n) in enumerate(zip(axes, shape, strict=True)):
        if not isinstance(k, slice):
            before[i], after[i] = (k, n - 1 - k) if int(k) >= 0 else (n + k, -1 - k)
        elif not _full(k) and (k.step in (None, 1) or isinstance(n, Dim)):
            start = 0 if k.start is None else k.start if int(k.start) >= 0 else n + k.start
            stop = n if k.stop is None or int(k.stop) >= int(n) else k.stop if int(k.stop) >= 0 else n + k.stop
            before[i], after[i] = start, n - stop
        elif not _full(k):
            where = np.arange(n)[k]
            y, now[i] = w.scatter_add(y, w.constant(where, "int64"), now, n, i), n
    if any(not isinstance(n, int) or int(n) for n in (*before, *after)):
        y = w.op("Pad", y, w.sizes([*before, *after]), w.constant(0, x.dtype))
    return y if y is not x else w.op("Identity", x)


def _room(axes: Sequence[Any], shape: Sequence[Any]) -> list[Any]:
    """Give the sizes of what a key picks, with 1 for integers."""
    return [1 if not isinstance(k, slice) else basic_shape((n,), (k,))[0] for k, n in zip(axes, shape, strict=True)]


@converter("setitem")
def _setitem(w: Any, x: Any, value: Any, *, key: Any) -> Any:
    key = expand_ellipsis(key, x.ndim)
    axes = [k for k in key if k is not None]
    if any(isinstance(n, Dim) and not _full(k) for n, k in zip(x.shape, axes, strict=True)):
        return None
    mask = np.zeros([1 if _full(k) else n for n, k in zip(x.shape, axes, strict=True)], dtype=bool)
    mask[tuple(slice(None) if _full(k) else k for k in axes)] = True
    room = basic_shape(x.shape, key)
    value = w.known_as(w.op("Expand", w.cast(value, x.dtype), w.sizes(room)), room, x.dtype)
    return choose(w, w.constant(mask), spread(w, value, key, x.shape), x)


@converter("gather")
def _gather(w: Any, x: Any, indices: Any, *, axis: int) -> Any:
    return w.op("Gather", x, indices, axis=axis)


@converter("scatter_add")
def _scatter_add(w: Any, x: Any, indices: Any, *, size: Any, axis: int) -> Any:
    return w.scatter_add(x, indices, x.shape, size, axis % x.ndim)


@converter("nn.embedding")
def _embedding(w: Any, weight: Any, indices: Any, factor: Any) -> Any:
    return w.op("Gather", weight, indices, axis=0)


@converter("nn.pick")
def _pick(w: Any, x: Any, target: Any, *, axis: int) -> Any:
    where = w.axes("Unsqueeze", w.cast(target, "int64"), [axis % x.ndim])
    return w.axes("Squeeze", w.op("GatherElements", x, where, axis=axis), [axis % x.ndim])


@converter("nn.softmax_cross_entropy")
def _cross_entropy(w: Any, x: Any, target: Any, *, axis: int, ignore_index: int) -> Any:
    axis, target = axis % x.ndim, w.cast(target, "int64")
    ignored = w.op("Equal", target, w.constant(ignore_index, "int64"))
    safe = w.op("Where", ignored, w.constant(0, "int64"), target)
    picked = w.op("GatherElements", w.op("LogSoftmax", x, axis=axis), w.axes("Unsqueeze", safe, [axis]), axis=axis)
    return w.op("Where", ignored, w.constant(0, x.dtype), w.op("Neg", w.axes("Squeeze", picked, [axis])))


# --- sizes ------------------------------------------------------------------------------------------------------------------------------
@converter("number_like")
def _number(w: Any, x: Any, *, value: Any) -> Any:
    y = w.cast(w.number(value), x.dtype)
    return w.op("Expand", y, w.sizes(w.out.shape)) if w.out.ndim else y


@converter("arange_like")
def _arange(w: Any, x: Any, *, start: Any, stop: Any, step: Any) -> Any:
    return w.op("Range", *(w.cast(w.number(n), x.dtype) if dynamic((n,)) else w.constant(n, x.dtype) for n in (start, stop, step)))


# --- control flow -----------------------------------------------------------------------------------------------------------------------
@converter("graph.cond")
def _cond(w: Any, pred: Any, *operands: Any, true: Any, false: Any, pull: Any) -> Any:
    branches = {
        name: w.nested(graph.label, [], lambda graph=graph: w.inline(graph, operands))
        for name, graph in (("then_branch", true), ("else_branch", false))
    }
    return w.several(w.op("If", pred, count=len(w.outs), **branches))


@converter("graph.while_loop")
def _while(w: Any, *arrays: Any, cond: Any, body: Any, carries: int, pull: Any) -> Any:
    consts, carry = arrays[: len(arrays) - carries], arrays[len(arrays) - carries :]
    own = [w.fresh(x) for x in carry]

    def write() -> list[Any]:
        y = w.inline(body, (*consts, *own))
        return [*w.inline(cond, (*consts, *y[:carries])), *y]

    step, more = w.known_as(w.fresh(carry[0]), (), "int64"), w.known_as(w.fresh(carry[0]), (), "bool")
    graph = w.nested(body.label, [step, more, *own], write)
    return w.several(w.op("Loop", None, *w.inline(cond, arrays), *carry, body=graph, count=len(w.outs)))


@converter("graph.scan")
def _scan(w: Any, *arrays: Any, body: Any, consts: int, carries: int, length: Any, reverse: bool, pull: Any) -> Any:
    given, carry, xs = arrays[:consts], arrays[consts : consts + carries], arrays[consts + carries :]
    own = [w.fresh(x) for x in carry]
    rows = [w.known_as(w.fresh(x), x.shape[1:], x.dtype) for x in xs]
    taken = rows
    if not xs:  # ONNX counts along something
        xs = (w.known_as(w.zeros((length,), "float32"), (length,), "float32"),)
        taken = [w.known_as(w.fresh(xs[0]), (), "float32")]
    graph = w.nested(body.label, [*own, *taken], lambda: w.inline(body, (*given, *own, *rows)))
    backwards = [int(reverse)]
    return w.several(
        w.op(
            "Scan",
            *carry,
            *xs,
            body=graph,
            num_scan_inputs=len(xs),
            scan_input_directions=backwards * len(xs),
            scan_output_directions=backwards * (len(w.outs) - carries) or None,
            count=len(w.outs),
        )
    )
