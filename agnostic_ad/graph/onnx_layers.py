"""ONNX's operators of networks: products, windows, normalization, recurrence; see `onnx_operators`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agnostic_ad.backends.windows import Convolution, Pooling, out_size
from agnostic_ad.graph.onnx_indexing import OPERATORS, operator
from agnostic_ad.levels import device_of

__all__ = ["OPERATORS"]


# --- products and windows ---------------------------------------------------------------------------------------------------------------
@operator("Gemm")
def _gemm(n: Any, a: Any, b: Any, c: Any = None) -> Any:
    alpha, beta, xp = n.get("alpha", 1.0), n.get("beta", 1.0), n.xp
    a = xp.matrix_transpose(a) if n.get("transA", 0) else a
    if n.get("transB", 0) and alpha == beta == 1.0 and (c is None or c.ndim == 1):
        return xp.nn.linear(a, b, c)
    y = xp.matmul(a, xp.matrix_transpose(b) if n.get("transB", 0) else b)
    y = y if alpha == 1.0 else y * alpha
    return y if c is None else y + (c if beta == 1.0 else c * beta)


def _pairs(n: Any, x: Any, kernel: Sequence[Any], stride: Any, dilation: Any) -> tuple[tuple[Any, Any], ...]:
    auto, axes = n.get("auto_pad", "NOTSET"), len(kernel)
    if auto in ("NOTSET", "VALID", ""):
        pads = n.get("pads", [0] * 2 * axes) if auto != "VALID" else [0] * 2 * axes
        return tuple(zip(pads[:axes], pads[axes:], strict=True))
    found = []
    for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        found.append((total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2))
    return tuple(found)


def _window(n: Any, x: Any, kernel: Sequence[Any]) -> tuple[Any, Any, Any]:
    stride, dilation = (tuple(n.get(k, [1] * len(kernel))) for k in ("strides", "dilations"))
    return stride, _pairs(n, x, kernel, stride, dilation), dilation


@operator("Conv")
def _conv(n: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return n.xp.nn.conv(x, weight, bias, how=Convolution(*_window(n, x, weight.shape[2:]), n.get("group", 1)))


@operator("ConvTranspose")
def _conv_transpose(n: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if n.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or n.get("output_shape") is not None:
        raise n.unsupported("with auto_pad or output_shape is not read; write pads and output_padding")
    kernel = weight.shape[2:]
    stride, padding, dilation = _window(n, x, kernel)
    more = n.get("output_padding", [0] * len(kernel))
    size = tuple(
        (o - 1) * s + d * (k - 1) + 1 - a - b + m
        for o, s, d, k, (a, b), m in zip(x.shape[2:], stride, dilation, kernel, padding, more, strict=True)
    )
    y = n.xp.nn.conv_input(x, weight, size=size, how=Convolution(stride, padding, dilation, n.get("group", 1)))
    return y if bias is None else y + n.xp.reshape(bias, (-1, *(1,) * len(kernel)))


def _pooling(n: Any, x: Any) -> Pooling:
    kernel = tuple(n.get("kernel_shape"))
    stride, padding, dilation = _window(n, x, kernel)
    return Pooling(kernel, stride, padding, dilation, bool(n.get("ceil_mode", 0)))


@operator("MaxPool")
def _max_pool(n: Any, x: Any) -> Any:
    how, xp = _pooling(n, x), n.xp
    y = xp.nn.max_pool(x, how=how)
    if n.outputs == 1:
        return y
    if n.get("storage_order", 0):
        raise n.unsupported("with indices in storage_order 1 is not read")
    planes = xp.arange(x.shape[0] * x.shape[1], dtype=xp.int64) * math.prod(x.shape[2:])
    return y, xp.nn.max_pool_index(x, how=how) + xp.reshape(planes, (x.shape[0], x.shape[1], *(1,) * len(how.kernel)))


@operator("AveragePool")
def _average_pool(n: Any, x: Any) -> Any:
    how, xp = _pooling(n, x), n.xp
    total, sizes = xp.nn.sum_pool(x, how=how), x.shape[2:]
    if n.get("count_include_pad", 0):
        sizes = tuple(k + a + b for k, (a, b) in zip(sizes, how.padding, strict=True))
        how = how._replace(padding=((0, 0),) * len(sizes))
    elif not how.ceil and not any(map(sum, how.padding)):
        return total / math.prod(how.kernel)
    ones = xp.ones((1, 1, *sizes), dtype=x.dtype, device=device_of(x))
    return total / xp.nn.sum_pool(ones, how=how)[:, :, *(slice(0, k) for k in out_size(x.shape[2:], *_pooling(n, x)[:4], how.ceil))]


# --- normalization ----------------------------------------------------------------------------------------------------------------------
@operator("BatchNormalization")
def _batch_norm(n: Any, x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> Any:
    if n.get("training_mode", 0):
        raise n.unsupported("in training mode is not read; export the model in evaluation mode")
    xp = n.xp
    scale, bias, mean, var = (xp.reshape(v, (-1, *(1,) * (x.ndim - 2))) for v in (scale, bias, mean, var))
    return (x - mean) / xp.sqrt(var + n.get("epsilon", 1e-5)) * scale + bias


@operator("LayerNormalization")
def _layer_norm(n: Any, x: Any, scale: Any = None, bias: Any = None) -> Any:
    axes, eps = tuple(range(n.get("axis", -1) % x.ndim, x.ndim)), n.get("epsilon", 1e-5)
    y, mean, var = n.xp.nn.standardize(x, scale, bias, axis=axes, eps=eps)
    return (y, mean, 1 / n.xp.sqrt(var + eps))[: n.outputs]


@operator("RMSNormalization")
def _rms_norm(n: Any, x: Any, scale: Any) -> Any:
    axes = tuple(range(n.get("axis", -1) % x.ndim, x.ndim))
    return n.xp.nn.standardize(x, scale, axis=axes, eps=n.get("epsilon", 1e-5), center=False)[0]


@operator("InstanceNormalization", "GroupNormalization")
def _group_norm(n: Any, x: Any, scale: Any, bias: Any) -> Any:
    xp, groups = n.xp, n.get("num_groups", x.shape[1])
    apart = xp.reshape(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    y = xp.nn.standardize(apart, axis=tuple(range(2, apart.ndim)), eps=n.get("epsilon", 1e-5))[0]
    if scale.shape[0] != x.shape[1]:  # one number a group, before opset 21
        scale, bias = (xp.reshape(xp.broadcast_to(xp.expand_dims(v, axis=1), apart.shape[1:3]), (-1,)) for v in (scale, bias))
    scale, bias = (xp.reshape(v, (-1, *(1,) * (x.ndim - 2))) for v in (scale, bias))
    return xp.reshape(y, x.shape) * scale + bias


@operator("DepthToSpace")
def _depth_to_space(n: Any, x: Any) -> Any:
    b, (images, channels, height, width) = n.get("blocksize"), x.shape
    deep = n.get("mode", "DCR") == "DCR"
    shape = (images, b, b, channels // (b * b), height, width) if deep else (images, channels // (b * b), b, b, height, width)
    order = (0, 3, 4, 1, 5, 2) if deep else (0, 1, 4, 2, 5, 3)
    return n.xp.reshape(n.xp.permute_dims(n.xp.reshape(x, shape), order), (images, channels // (b * b), height * b, width * b))


# --- recurrence -------------------------------------------------------------------------------------------------------------------------
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where PyTorch's gates (which the table has) stand among ONNX's: iofc against ifgo, zrh against rzn."""
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@operator("LSTM", "GRU", "RNN")
def _recurrent(
    n: Any, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None, peepholes: Any = None
) -> Any:
    kind, xp, directions = n.node.op_type, n.xp, w.shape[0]
    activations = [a.decode() for a in n.get("activations", [])] or _ACTIVATIONS[kind] * directions
    relu = kind == "RNN" and activations == ["Relu"] * directions
    if (activations != _ACTIVATIONS[kind] * directions and not relu) or n.get("layout", 0) or n.get("clip") or peepholes is not None:
        raise n.unsupported("is read with its usual activations, layout 0, and without clip and peepholes")
    if lengths is not None or (kind == "GRU" and not n.get("linear_before_reset", 0)):
        raise n.unsupported("with sequence_lens, or a GRU without linear_before_reset, is not read")
    compute = {"LSTM": xp.nn.lstm, "GRU": xp.nn.gru, "RNN": xp.nn.rnn}[kind]
    hidden, last, cells = [], [], []
    for d in range(directions):
        reverse = n.get("direction", "forward") == "reverse" or d == 1
        w_ih, w_hh = (_reordered(xp, v[d, ...], kind) for v in (w, r))
        biases = [None, None] if b is None else [_reordered(xp, part, kind) for part in _halves(b[d, ...])]
        shape = (x.shape[1], r.shape[2])
        first = [
            xp.zeros(shape, dtype=x.dtype, device=device_of(x)) if v is None else v[d, ...] for v in ((h, c) if kind == "LSTM" else (h,))
        ]
        found = compute(x, *first, w_ih, w_hh, *biases, reverse=reverse, **({"relu": relu} if kind == "RNN" else {}))
        found = found if isinstance(found, tuple) else (found,)
        end = 0 if reverse else -1
        hidden.append(found[0])
        last.append(found[0][end, ...])
        cells.append(found[1][end, ...] if kind == "LSTM" else None)
    y = (xp.stack(hidden, axis=1), xp.stack(last), *([xp.stack(cells)] if kind == "LSTM" else []))
    return y[: n.outputs]


def _halves(b: Any) -> tuple[Any, Any]:
    half = b.shape[0] // 2
    return b[:half], b[half:]


def _reordered(xp: Any, w: Any, kind: str) -> Any:
    size = w.shape[0] // len(_GATES[kind])
    parts = [w[k * size : (k + 1) * size, ...] for k in _GATES[kind]]
    return parts[0] if len(parts) == 1 else xp.concat(parts)
