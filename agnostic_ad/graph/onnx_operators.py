"""What ONNX's operators are, as functions of a namespace: ``operator(call, *operands)``, where ``call.xp`` computes and ``call.get`` gives attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from agnostic_ad.families import broadcast_shapes
from agnostic_ad.graph.onnx_table import COUNTERPARTS
from agnostic_ad.graph.sizes import Dim
from agnostic_ad.levels import device_of

__all__ = ["OPERATORS", "SHAPES", "operator"]


def _plain(name: str) -> Callable[..., Any]:
    def compute(n: Any, *args: Any) -> Any:
        found = n.xp
        for part in name.split("."):
            found = getattr(found, part)
        return found(*args)

    return compute


def _folded(name: str) -> Callable[..., Any]:
    def compute(n: Any, first: Any, *rest: Any) -> Any:
        for x in rest:
            first = getattr(n.xp, name)(first, x)
        return first

    return compute


# the same operators that exports write
OPERATORS: dict[str, Callable[..., Any]] = {
    kind: _plain(name) for name, kind in reversed(COUNTERPARTS.items()) if isinstance(kind, str) and kind != "Identity"
}
"""By the name of the operator."""
OPERATORS |= {
    **{kind: _plain(kind.lower()) for kind in ("Ceil", "Floor", "Round")},
    **{kind: _folded(name) for kind, name in (("Sum", "add"), ("Max", "maximum"), ("Min", "minimum"))},
    **{f"Bitwise{kind}": _plain(f"bitwise_{name}") for kind, name in (("And", "and"), ("Or", "or"), ("Xor", "xor"), ("Not", "invert"))},
    "IsNaN": _plain("isnan"),
    "Mish": _plain("nn.mish"),
    "PRelu": _plain("nn.prelu"),
    "Identity": lambda n, x: x,
    "Dropout": lambda n, x, *rest: _dropout(n, x, *rest),
    "Mean": lambda n, *xs: OPERATORS["Sum"](n, *xs) / len(xs),
    "Swish": lambda n, x: x * n.xp.special.expit(x * n.get("alpha", 1.0)),
    "Celu": lambda n, x: n.xp.nn.elu(x, alpha=n.get("alpha", 1.0), rate=1 / n.get("alpha", 1.0)),
    "Elu": lambda n, x: n.xp.nn.elu(x, alpha=n.get("alpha", 1.0)),
    "Selu": lambda n, x: n.xp.nn.elu(x, alpha=n.get("alpha", 1.6732632423543772), scale=n.get("gamma", 1.0507009873554805)),
    "LeakyRelu": lambda n, x: n.xp.nn.leaky_relu(x, slope=n.get("alpha", 0.01)),
    "ThresholdedRelu": lambda n, x: n.xp.nn.threshold(x, at=n.get("alpha", 1.0)),
    "Softplus": lambda n, x: n.xp.nn.softplus(x),
    "HardSigmoid": lambda n, x: _limited(n.xp, x * n.get("alpha", 0.2) + n.get("beta", 0.5), 0.0, 1.0),
    "Gelu": lambda n, x: n.xp.nn.gelu_tanh(x) if n.get("approximate") == "tanh" else n.xp.nn.gelu(x),
    "Clip": lambda n, x, low=None, high=None: n.xp.clip(x, n.get("min", low), n.get("max", high)),
    "Mod": lambda n, a, b: _fmod(n.xp, a, b) if n.get("fmod", 0) else n.xp.remainder(a, b),
    "IsInf": lambda n, x: _endless(n.xp, x, bool(n.get("detect_positive", 1)), bool(n.get("detect_negative", 1))),
    "Div": lambda n, a, b: _divide(n.xp, a, b),
    "Pow": lambda n, a, b: _power(n.xp, a, b),
    "Where": lambda n, c, a, b: n.xp.where(c, a, b),
    "Cast": lambda n, x: n.xp.astype(x, n.own(n.dtype(n.get("to")))),
    "CastLike": lambda n, x, like: n.xp.astype(x, like.dtype),
    "BitShift": lambda n, a, b: (n.xp.bitwise_left_shift if n.get("direction") == "LEFT" else n.xp.bitwise_right_shift)(a, b),
    "Transpose": lambda n, x: n.xp.permute_dims(x, tuple(n.get("perm") or range(x.ndim - 1, -1, -1))),
    "Concat": lambda n, *xs: n.xp.concat(list(xs), axis=n.get("axis")),
    "Flatten": lambda n, x: _flatten(n, x),
    "Expand": lambda n, x, shape: n.xp.broadcast_to(x, broadcast_shapes(tuple(x.shape), tuple(n.ints(shape)))),
    "Tile": lambda n, x, times: n.xp.tile(x, tuple(n.ints(times))),
    "Shape": lambda n, x: SHAPES["Shape"](n, x),
    "Size": lambda n, x: SHAPES["Size"](n, x),
    "Trilu": lambda n, x, k=None: (n.xp.triu if n.get("upper", 1) else n.xp.tril)(x, k=0 if k is None else n.ints(k)[0]),
    "Einsum": lambda n, *xs: n.xp.einsum(n.get("equation"), *xs),
    "GatherElements": lambda n, x, i: n.xp.take_along_axis(x, i, axis=n.get("axis", 0)),
    "GlobalAveragePool": lambda n, x: n.xp.mean(x, axis=tuple(range(2, x.ndim)), keepdims=True),
    "GlobalMaxPool": lambda n, x: n.xp.max(x, axis=tuple(range(2, x.ndim)), keepdims=True),
    "LpNormalization": lambda n, x: _unit(n.xp, x, n.xp.linalg.vector_norm(x, axis=n.get("axis", -1), ord=n.get("p", 2), keepdims=True)),
    "RandomUniformLike": lambda n, x: n.xp.nn.noise(x, low=n.get("low", 0.0), high=n.get("high", 1.0)),
}


def operator(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as operators."""

    def wrap(fn: Callable[..., Any]) -> Callable[..., Any]:
        OPERATORS.update(dict.fromkeys(names, fn))
        return fn

    return wrap


def _limited(xp: Any, x: Any, low: float, high: float) -> Any:
    return xp.minimum(xp.maximum(x, xp.full((), low, dtype=x.dtype)), xp.full((), high, dtype=x.dtype))


def _fmod(xp: Any, a: Any, b: Any) -> Any:
    return a - b * xp.trunc(a / b) if "float" in str(a.dtype) else xp.sign(a) * xp.remainder(xp.abs(a), xp.abs(b))


def _divide(xp: Any, a: Any, b: Any) -> Any:
    if "int" not in str(a.dtype):
        return a / b
    if "uint" in str(a.dtype):
        return xp.floor_divide(a, b)
    return xp.sign(a) * xp.sign(b) * xp.floor_divide(xp.abs(a), xp.abs(b))  # towards zero


def _power(xp: Any, a: Any, b: Any) -> Any:
    if a.dtype == b.dtype:
        return a**b
    wide = b.dtype if "int" in str(a.dtype) and "float" in str(b.dtype) else a.dtype
    return xp.astype(xp.astype(a, wide) ** xp.astype(b, wide), a.dtype)


def _endless(xp: Any, x: Any, above: bool, below: bool) -> Any:
    found = xp.isinf(x)
    return found if above and below else found & (x > 0) if above else found & (x < 0) if below else found & (x == 0)


def _unit(xp: Any, x: Any, norm: Any) -> Any:
    return x / xp.where(norm == 0, xp.ones_like(norm), norm)


def _dropout(n: Any, x: Any, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and n.ints(training)[0] and (ratio is None or n.ints(ratio)[0]):
        raise n.unsupported("in training mode is not read; export the model in evaluation mode")
    return x, n.xp.ones_like(x) == 1


@operator("Constant")
def _constant(n: Any) -> Any:
    from onnx import numpy_helper

    for name in ("value_float", "value_int", "value_floats", "value_ints"):
        if n.get(name) is not None:
            return np.asarray(n.get(name), dtype="float32" if "float" in name else "int64")
    return numpy_helper.to_array(n.get("value"))


@operator("ConstantOfShape")
def _filled(n: Any, shape: Any) -> Any:
    from onnx import numpy_helper

    value = np.float32(0) if n.get("value") is None else numpy_helper.to_array(n.get("value")).reshape(())[()]
    sizes = tuple(n.ints(shape))
    if any(isinstance(k, Dim) for k in sizes):
        return n.reader.rules.broadcast_to(n.reader.lift(np.asarray(value)), sizes)
    return np.full(sizes, value)


@operator("Range")
def _range(n: Any, start: Any, stop: Any, step: Any) -> Any:
    dtype, numbers = getattr(start, "dtype", "int64"), [n.ints(x)[0] for x in (start, stop, step)]
    if any(isinstance(x, Dim) for x in numbers):
        rules = n.reader.rules
        return rules.arange(*numbers, dtype=n.reader.backend.dtype("int64" if dtype == np.dtype(object) else str(dtype)))
    return np.arange(*numbers, dtype="int64" if dtype == np.dtype(object) else dtype)


# --- reductions -------------------------------------------------------------------------------------------------------------------------
_REDUCED: dict[str, Callable[..., Any]] = {
    "Sum": lambda xp, x, **k: xp.sum(x, dtype=x.dtype, **k),
    "Mean": lambda xp, x, **k: xp.mean(x, **k),
    "Max": lambda xp, x, **k: xp.max(x, **k),
    "Min": lambda xp, x, **k: xp.min(x, **k),
    "Prod": lambda xp, x, **k: xp.prod(x, dtype=x.dtype, **k),
    "L1": lambda xp, x, **k: xp.sum(xp.abs(x), dtype=x.dtype, **k),
    "L2": lambda xp, x, **k: xp.sqrt(xp.sum(x * x, dtype=x.dtype, **k)),
    "LogSum": lambda xp, x, **k: xp.log(xp.sum(x, dtype=x.dtype, **k)),
    "LogSumExp": lambda xp, x, **k: xp.nn.logsumexp(x, **k),
    "SumSquare": lambda xp, x, **k: xp.sum(x * x, dtype=x.dtype, **k),
}


def _reducer(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def compute(n: Any, x: Any, axes: Any = None) -> Any:
        found = n.axes(axes)
        if not found and n.get("noop_with_empty_axes", 0):
            return x
        return reduce(n.xp, x, axis=tuple(found) if found else None, keepdims=bool(n.get("keepdims", 1)))

    return compute


for _name, _reduce in _REDUCED.items():
    OPERATORS[f"Reduce{_name}"] = _reducer(_reduce)


@operator("ArgMax", "ArgMin")
def _index_of(n: Any, x: Any) -> Any:
    if n.get("select_last_index", 0):
        raise n.unsupported("with select_last_index is not read")
    find = n.xp.argmax if n.node.op_type == "ArgMax" else n.xp.argmin
    return n.xp.astype(find(x, axis=n.get("axis", 0), keepdims=bool(n.get("keepdims", 1))), n.own("int64"))


@operator("CumSum")
def _cumulative(n: Any, x: Any, axis: Any) -> Any:
    axis = n.ints(axis)[0] % x.ndim
    x = n.xp.flip(x, axis=axis) if n.get("reverse", 0) else x
    y = n.xp.cumulative_sum(x, axis=axis, dtype=x.dtype)
    y = y - x if n.get("exclusive", 0) else y
    return n.xp.flip(y, axis=axis) if n.get("reverse", 0) else y


@operator("TopK")
def _top(n: Any, x: Any, k: Any) -> Any:
    axis, count = n.get("axis", -1) % x.ndim, n.ints(k)[0]
    order = n.xp.argsort(x, axis=axis, descending=bool(n.get("largest", 1)))
    order = order[(*(slice(None),) * axis, slice(0, count))] if not _same(count, x.shape[axis]) else order
    return n.xp.take_along_axis(x, order, axis=axis), order


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, Dim) == isinstance(b, Dim) and bool(a == b))


@operator("Softmax", "LogSoftmax")
def _softmax(n: Any, x: Any) -> Any:
    compute = n.xp.nn.softmax if n.node.op_type == "Softmax" else n.xp.nn.log_softmax
    if n.opset >= 13:
        return compute(x, axis=n.get("axis", -1))
    axis = n.get("axis", 1) % x.ndim  # of all that follows, before
    return n.xp.reshape(compute(n.xp.reshape(x, (*x.shape[:axis], -1)), axis=-1), x.shape)


# --- shapes -----------------------------------------------------------------------------------------------------------------------------
@operator("Reshape")
def _reshape(n: Any, x: Any, shape: Any = None) -> Any:
    wanted = n.ints(shape) if shape is not None else list(n.get("shape"))
    if not n.get("allowzero", 0):
        wanted = [x.shape[i] if not isinstance(k, Dim) and k == 0 else k for i, k in enumerate(wanted)]
    return n.xp.reshape(x, tuple(wanted))


def _flatten(n: Any, x: Any) -> Any:
    axis = n.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return n.xp.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Squeeze")
def _squeeze(n: Any, x: Any, axes: Any = None) -> Any:
    found = n.axes(axes)
    return n.xp.squeeze(x, tuple(i for i, k in enumerate(x.shape) if not isinstance(k, Dim) and k == 1) if found is None else tuple(found))


@operator("Unsqueeze")
def _unsqueeze(n: Any, x: Any, axes: Any = None) -> Any:
    return n.xp.expand_dims(x, axis=tuple(n.axes(axes)))


@operator("Split")
def _split(n: Any, x: Any, parts: Any = None) -> Any:
    axis = n.get("axis", 0) % x.ndim
    lengths = n.ints(parts) if parts is not None else n.get("split")
    if lengths is None:
        most = -(-x.shape[axis] // n.outputs)
        lengths = [most] * (n.outputs - 1) + [x.shape[axis] - most * (n.outputs - 1)]
    ends = np.cumsum([0, *lengths]).tolist() if not any(isinstance(k, Dim) for k in lengths) else None
    if ends is None:
        raise n.unsupported("into parts of any size is not read")
    return [n.xp.getitem(x, key=(*(slice(None),) * axis, slice(a, b))) for a, b in pairwise(ends)]


def _bound(k: Any, step: int, end: bool) -> Any:
    """Give a bound as Python's slices say it: None for what lies beyond all sizes, and for the beginning."""
    if isinstance(k, Dim):
        return k
    far = abs(k) >= (1 << 31) - 1
    return None if far or (k == 0 and not end and step > 0) else k


def _key(n: Any, ndim: int, starts: Any, ends: Any, axes: Any, steps: Any) -> tuple[Any, ...]:
    first, last = n.ints(starts), n.ints(ends)
    along, by = n.ints(axes) or list(range(len(first))), n.ints(steps) or [1] * len(first)
    key: list[Any] = [slice(None)] * ndim
    for a, start, end, step in zip(along, first, last, by, strict=True):
        key[a] = slice(_bound(start, step, False), _bound(end, step, True), None if step == 1 else step)
    return tuple(key)


@operator("Slice")
def _slice(n: Any, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    if starts is None:
        starts, ends, axes = (None if n.get(k) is None else np.asarray(n.get(k)) for k in ("starts", "ends", "axes"))
    return n.xp.getitem(x, key=_key(n, x.ndim, starts, ends, axes, steps))


@operator("Pad")
def _pad(n: Any, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    widths = n.ints(pads) if pads is not None else list(n.get("pads"))
    along = [a % x.ndim for a in (n.ints(axes) or range(x.ndim))]
    fill, mode = (n.ints(value)[0] if value is not None else n.get("value", 0)), n.get("mode", "constant")
    for i, a in enumerate(along):
        for k, end in ((widths[i], False), (widths[i + len(along)], True)):
            x = _padded(n, x, a, k, end, fill, mode)
    return x


def _padded(n: Any, x: Any, axis: int, k: Any, end: bool, fill: Any, mode: str) -> Any:
    """Add ``k`` elements before an axis, or behind it; a negative number takes them away."""
    before = (slice(None),) * axis
    if not isinstance(k, Dim) and k == 0:
        return x
    if int(k) < 0:
        return n.xp.getitem(x, key=(*before, slice(None, k) if end else slice(-k, None)))
    if mode == "constant":
        more = n.xp.broadcast_to(n.xp.full((), fill, dtype=x.dtype, device=device_of(x)), (*x.shape[:axis], k, *x.shape[axis + 1 :]))
    elif mode == "edge":
        last = n.xp.getitem(x, key=(*before, slice(-1, None) if end else slice(0, 1)))
        more = n.xp.broadcast_to(last, (*x.shape[:axis], k, *x.shape[axis + 1 :]))
    elif mode == "reflect":
        part = n.xp.getitem(x, key=(*before, slice(-1 - k, -1) if end else slice(1, 1 + k)))
        more = n.xp.flip(part, axis=axis)
    else:
        raise n.unsupported(f"with mode={mode} is not read")
    return n.xp.concat([x, more] if end else [more, x], axis=axis)


# --- shapes as values ---------------------------------------------------------------------------------------------------------------------
def _array(values: Sequence[Any]) -> Any:
    """Give sizes as an array: of integers, or of objects where one is known only when a graph runs."""
    if not any(isinstance(v, Dim) for v in values):
        return np.asarray(values, dtype="int64")
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _tidy(x: Any) -> Any:
    """Give an array of objects without sizes that are known only when a graph runs as one of integers."""
    if isinstance(x, Dim):  # what NumPy makes of an array without axes
        return _array([x]).reshape(())
    x = np.asarray(x)
    return x.astype("int64") if x.dtype == np.dtype(object) and not any(isinstance(v, Dim) for v in x.reshape(-1)) else x


def _quotient(a: Any, b: Any) -> Any:
    return np.floor_divide(a, b)  # of sizes, which are not negative


SHAPES: dict[str, Callable[..., Any]] = {
    "Shape": lambda n, x: _array(tuple(x.shape)[n.get("start", 0) : n.get("end")]),
    "Size": lambda n, x: _array([math.prod(x.shape)]).reshape(()),
    "Gather": lambda n, x, i: _tidy(np.take(x, i.astype("int64"), axis=n.get("axis", 0))),
    "Slice": lambda n, x, *r: (
        _tidy(x[_key(n, x.ndim, r[0], r[1], r[2] if len(r) > 2 else None, r[3] if len(r) > 3 else None)]) if r else None
    ),
    "Concat": lambda n, *xs: _tidy(np.concatenate([np.asarray(x, dtype=object) for x in xs], axis=n.get("axis", 0))),
    "Unsqueeze": lambda n, x, a=None: np.expand_dims(x, tuple(n.axes(a))),
    "Squeeze": lambda n, x, a=None: np.squeeze(x, None if n.axes(a) is None else tuple(n.axes(a))),
    "Cast": lambda n, x: x if n.dtype(n.get("to")) in ("int64", "int32") else None,
    "Add": lambda n, a, b: _tidy(a + b),
    "Sub": lambda n, a, b: _tidy(a - b),
    "Mul": lambda n, a, b: _tidy(a * b),
    "Div": lambda n, a, b: _tidy(_quotient(a, b)),
    "Mod": lambda n, a, b: _tidy(np.remainder(a, b)),
    "Reshape": lambda n, x, s: x.reshape(n.ints(s)),
    "ReduceProd": lambda n, x, a=None: _tidy(np.prod(x, keepdims=bool(n.get("keepdims", 1)))),
    "Equal": lambda n, a, b: np.asarray([bool(p == q) for p, q in zip(*map(np.ravel, np.broadcast_arrays(a, b)), strict=True)]).reshape(
        np.broadcast(a, b).shape
    ),
    "Where": lambda n, c, a, b: _tidy(np.where(c, a, b)) if c.dtype == bool else None,
    "Identity": lambda n, x: x,
    "Range": lambda n, *a: _range(n, *a),
    "ConstantOfShape": lambda n, s: _filled(n, s),
}
"""Operators that compute with sizes, by NumPy: on arrays of objects where an axis has any size. (None: not this time.)"""
