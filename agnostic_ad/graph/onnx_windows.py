"""What convolutions, pooling and products are in ONNX; see `onnx_table`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agnostic_ad.graph.onnx_table import COUNTERPARTS, converter

__all__ = ["COUNTERPARTS"]


# --- products ---------------------------------------------------------------------------------------------------------------------------
@converter("nn.linear")
def _linear(w: Any, x: Any, weight: Any, bias: Any) -> Any:
    if x.ndim == 2:
        return w.op("Gemm", x, weight, bias, transB=1)
    y = w.op("MatMul", x, w.op("Transpose", weight, perm=[1, 0]))
    return y if bias is None else w.op("Add", y, bias)


def _pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    return [before for before, _ in padding] + [after for _, after in padding]


def _window(how: Any, pads: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"strides": list(how.stride), "dilations": list(how.dilation)}
    if pads:
        found["pads"] = _pads(how.padding)
    return found


@converter("nn.conv")
def _conv(w: Any, x: Any, weight: Any, bias: Any, *, how: Any) -> Any:
    if min(map(min, how.padding)) < 0:
        return None
    return w.op("Conv", x, weight, bias, group=how.groups, kernel_shape=list(weight.shape[2:]), **_window(how))


@converter("nn.conv_input")
def _conv_input(w: Any, y: Any, weight: Any, *, size: Any, how: Any) -> Any:
    if min(map(min, how.padding)) < 0:
        return None
    kernel = weight.shape[2:]
    covered = [(o - 1) * s + d * (k - 1) + 1 for o, k, s, d in zip(y.shape[2:], kernel, how.stride, how.dilation, strict=True)]
    more = [n + a + b - c for n, (a, b), c in zip(size, how.padding, covered, strict=True)]
    return w.op(
        "ConvTranspose", y, weight, group=how.groups, kernel_shape=list(kernel), output_padding=list(map(int, more)), **_window(how)
    )


@converter("nn.conv_weight")
def _conv_weight(w: Any, x: Any, y: Any, *, kernel: Any, how: Any) -> Any:
    # the correlation of the input with the cotangent: images take the place of channels, strides that of dilations
    if min(map(min, how.padding)) < 0:
        return None
    groups, axes = how.groups, list(range(2, x.ndim))
    if groups == 1:
        images = w.op("Transpose", x, perm=[1, 0, *axes])
    else:
        apart = w.op("Reshape", x, w.constant([0, groups, x.shape[1] // groups, *x.shape[2:]], "int64"))
        images = w.op("Transpose", apart, perm=[2, 1, 0, *(a + 1 for a in axes)])
        images = w.op("Reshape", images, w.constant([x.shape[1] // groups, -1, *x.shape[2:]], "int64"))
    windows = w.op("Transpose", y, perm=[1, 0, *axes])
    found = w.op("Conv", images, windows, group=groups, strides=list(how.dilation), dilations=list(how.stride), pads=_pads(how.padding))
    found = w.slice(found, {a: slice(0, k) for a, k in zip(axes, kernel, strict=True)})  # more positions may fit than the kernel had
    return w.op("Transpose", found, perm=[1, 0, *axes])


# --- pooling ----------------------------------------------------------------------------------------------------------------------------
def _as_images(w: Any, x: Any, axes: int) -> Any:
    """Give (images, 1, sizes) for pooling over the last ``axes``."""
    return w.known_as(w.reshape(x, (-1, 1, *x.shape[x.ndim - axes :])), (-1, 1, *x.shape[x.ndim - axes :]), x.dtype)


def _pool(w: Any, x: Any, how: Any) -> tuple[Any, Any]:
    return w.op(  # type: ignore[no-any-return]
        "MaxPool", _as_images(w, x, len(how.kernel)), kernel_shape=list(how.kernel), ceil_mode=int(how.ceil), count=2, **_window(how)
    )


def _plain(x: Any, how: Any) -> bool:
    return (
        x.dtype.startswith("float")
        and all(max(pair) < k for pair, k in zip(how.padding, how.kernel, strict=True))
        and min(map(min, how.padding)) >= 0
    )


@converter("nn.max_pool")
def _max_pool(w: Any, x: Any, *, how: Any) -> Any:
    if not _plain(x, how):
        return None
    if x.ndim == len(how.kernel) + 2:
        return w.op("MaxPool", x, kernel_shape=list(how.kernel), ceil_mode=int(how.ceil), **_window(how))
    return w.reshape(_pool(w, x, how)[0], w.out.shape)


@converter("nn.pool_take")
def _pool_take(w: Any, t: Any, x: Any, y: Any, *, how: Any) -> Any:
    if not _plain(x, how):
        return None
    where = w.op("Reshape", _pool(w, x, how)[1], w.constant([-1], "int64"))
    return w.reshape(w.op("Gather", w.op("Reshape", t, w.constant([-1], "int64")), where, axis=0), y.shape)


@converter("nn.pool_put")
def _pool_put(w: Any, ct: Any, x: Any, y: Any, *, how: Any) -> Any:
    if not _plain(x, how):
        return None
    flat = w.constant([-1], "int64")
    where = w.op("Reshape", _pool(w, x, how)[1], flat)
    nothing = w.filled(w.reshape(w.op("Size", x), (1,)), 0, ct.dtype)
    put = w.op("ScatterElements", nothing, where, w.op("Reshape", ct, flat), axis=0, reduction="add")
    return w.reshape(put, x.shape)


@converter("nn.sum_pool")
def _sum_pool(w: Any, x: Any, *, how: Any) -> Any:
    # a convolution with ones
    axes = len(how.kernel)
    covered = [(o - 1) * s + d * (k - 1) + 1 for o, k, s, d in zip(w.out.shape[-axes:], how.kernel, how.stride, how.dilation, strict=True)]
    sizes = x.shape[x.ndim - axes :]
    padding = [(a, max(0, int(c - n - a))) for n, (a, _), c in zip(sizes, how.padding, covered, strict=True)]
    ones = w.constant(np.ones((1, 1, *how.kernel)), x.dtype)
    y = w.op("Conv", _as_images(w, x, axes), ones, kernel_shape=list(how.kernel), **_window(how, False), pads=_pads(padding))
    return w.reshape(w.slice(y, {2 + i: slice(0, n) for i, n in enumerate(w.out.shape[-axes:])}), w.out.shape)


@converter("nn.spread_pool")
def _spread_pool(w: Any, ct: Any, *, size: Any, how: Any) -> Any:
    axes = len(how.kernel)
    out = ct.shape[ct.ndim - axes :]
    ones = w.constant(np.ones((1, 1, *how.kernel)), ct.dtype)
    y = w.op("ConvTranspose", _as_images(w, ct, axes), ones, kernel_shape=list(how.kernel), **_window(how, False))
    covered = [(o - 1) * s + d * (k - 1) + 1 for o, k, s, d in zip(out, how.kernel, how.stride, how.dilation, strict=True)]
    after = [max(0, a + n - c) for n, (a, _), c in zip(size, how.padding, covered, strict=True)]
    y = w.op("Pad", y, w.sizes([0] * (axes + 4) + after), w.constant(0, ct.dtype))
    cuts = {2 + i: slice(a, a + n) for i, (n, (a, _)) in enumerate(zip(size, how.padding, strict=True))}
    return w.reshape(w.slice(y, cuts), w.out.shape)
