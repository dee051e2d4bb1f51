"""What operations are in ONNX: the name of the operator that is the same, or a function that writes operators; and dtypes that it takes.

A converter takes the writer, the operands (names of tensors that know their shape and dtype; None where an optional one is not there) and the
static parameters by name. It gives the name of the result, or None where this call has no operator: then the form serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agnostic_ad.graph.sizes import Dim, dynamic
from agnostic_ad.ops.indexing import basic_shape, expand_ellipsis

__all__ = ["COUNTERPARTS", "WIDER"]

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

_SMALL = dict.fromkeys(("bool", "int8", "uint8", "int16", "uint16"), "int32")
_ODD = {"bool": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64"}
_UNSIGNED = {"uint8": "int32", "uint16": "int32", "uint32": "int64", "uint64": "int64"}  # to as many bits: sums and products wrap the same
_WIDER = {
    "add subtract multiply abs square less less_equal greater greater_equal": {"bool": "int32"},
    "maximum minimum max min argmax argmin argsort": _ODD,
    "matmul linalg.matmul": _SMALL,
    "negative": _UNSIGNED,
    "pow sum cumulative_sum": _SMALL | _UNSIGNED,
    "arange_like": _SMALL | _UNSIGNED | {"float16": "float32"},
}
WIDER: dict[str, dict[str, str]] = {name: wide for names, wide in _WIDER.items() for name in names.split()}
"""By the name of the operation: dtypes that its operator does not take, in ONNX or in ONNX Runtime, and the one that serves."""


def converter(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as what writes operations."""

    def wrap(fn: Callable[..., Any]) -> Callable[..., Any]:
        COUNTERPARTS.update(dict.fromkeys(names, fn))
        return fn

    return wrap


# --- elementwise ------------------------------------------------------------------------------------------------------------------------
@converter("ceil", "floor", "trunc", "round")
def _rounded(w: Any, x: Any) -> Any:
    if x.dtype.startswith(("int", "uint")):
        return w.op("Identity", x)
    return w.op("Mul", w.op("Sign", x), w.op("Floor", w.op("Abs", x))) if w.name == "trunc" else w.op(w.name.capitalize(), x)


@converter("remainder", "floor_divide")
def _remainder(w: Any, x1: Any, x2: Any) -> Any:
    x1, x2 = w.common((x1, x2))
    zero, one = w.constant(0, w.out.dtype), w.constant(1, w.out.dtype)
    rest = w.op("Mod", x1, x2, fmod=1)  # exact, with the sign of x1
    signs = w.op("Xor", w.op("Less", rest, zero), w.op("Less", x2, zero))
    crossed = w.op("And", w.op("Not", w.op("Equal", rest, zero)), signs)
    if w.name == "remainder":
        return choose(w, crossed, w.op("Add", rest, x2), rest)
    whole = w.op("Div", w.op("Sub", x1, rest), x2)
    if w.out.dtype.startswith("float"):
        whole = w.op("Where", w.op("Equal", x2, zero), w.op("Div", x1, x2), w.op("Round", whole))
    return choose(w, crossed, w.op("Sub", whole, one), whole)


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
    """Write a choice; ONNX Runtime has none between booleans, and some integers."""
    out = w.out.dtype
    if out == "bool":
        return w.op("Or", w.op("And", condition, yes), w.op("And", w.op("Not", condition), no))
    wide = {"int16": "int32", "uint16": "int32", "uint64": "int64"}.get(out, out)
    found = w.op("Where", condition, *(x if wide == out else w.cast(x, wide) for x in (yes, no)))
    return w.cast(w.known_as(found, w.out.shape, wide), out)


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
    elif name in ("sum", "mean"):
        x = w.cast(x, out)
    if name == "mean" and any(type(x.shape[a]) is int and x.shape[a] == 0 for a in axes):
        return w.filled(w.sizes(w.out.shape), np.nan, out)
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
    return w.op("Gather", x, w.index(indices), axis=axis)


@converter("scatter_add")
def _scatter_add(w: Any, x: Any, indices: Any, *, size: Any, axis: int) -> Any:
    return w.scatter_add(x, indices, x.shape, size, axis % x.ndim)


@converter("nn.embedding")
def _embedding(w: Any, weight: Any, indices: Any, factor: Any) -> Any:
    return w.op("Gather", weight, w.index(indices), axis=0)


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
