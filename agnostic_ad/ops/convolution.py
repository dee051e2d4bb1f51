"""Convolution over any number of axes.

It is three bilinear operations, each of whose derivatives are the other two: ``nn.conv`` of an input and a weight, ``nn.conv_input`` of a
cotangent and a weight (which is also the transposed convolution), ``nn.conv_weight`` of an input and a cotangent. ``nn.unfold`` gives the
windows themselves, and ``nn.fold``, its transpose, adds them up where they came from.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from agnostic_ad.backends.windows import Convolution, offsets, out_size, reach
from agnostic_ad.families import linear, result_dtype
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.neural import front, general
from agnostic_ad.samples import case

_ALL = (slice(None), slice(None))


def _conj(xp: Any, x: Any) -> Any:
    return xp.conj(x) if x.dtype in COMPLEX else x


def padded(xp: Any, x: Any, padding: Any, value: float = 0.0) -> Any:
    """Give ``x`` with values around its last axes; a negative number takes elements away."""
    for axis, pair in enumerate(padding, start=x.ndim - len(padding)):
        if min(pair) < 0:
            before, after = (max(0, -n) for n in pair)
            x = x[(*(slice(None),) * axis, slice(before, x.shape[axis] - after), ...)]
        if max(pair) > 0:
            shapes = [(*x.shape[:axis], max(0, n), *x.shape[axis + 1 :]) for n in pair]
            sides = [xp.full(shape, value, dtype=x.dtype, device=device_of(x)) for shape in shapes]
            x = xp.concat([sides[0], x, sides[1]], axis=axis)
    return x


def _columns(xp: Any, x: Any, kernel: Any, out: Any, how: Convolution) -> Any:
    """Give the windows as columns: (N, groups, C / groups * kernel, windows)."""
    x = padded(xp, x, how.padding)
    windows = xp.stack([x[(*_ALL, *key)] for key in offsets(kernel, out, how.stride, how.dilation)], axis=2)
    return xp.reshape(windows, (x.shape[0], how.groups, x.shape[1] // how.groups * math.prod(kernel), math.prod(out)))


def _grouped(xp: Any, weight: Any, groups: int) -> Any:
    """Give the weight as matrices: (groups, out / groups, C / groups * kernel)."""
    return xp.reshape(weight, (groups, weight.shape[0] // groups, math.prod(weight.shape[1:])))


def _flat(xp: Any, y: Any, groups: int) -> Any:
    """Give outputs as matrices: (N, groups, out / groups, windows)."""
    return xp.reshape(y, (y.shape[0], groups, y.shape[1] // groups, math.prod(y.shape[2:])))


def _spread(xp: Any, bias: Any, ndim: int) -> Any:
    return xp.reshape(bias, (-1, *(1,) * (ndim - 2)))


# --- convolution ------------------------------------------------------------------------------------------------------------------------
@general("nn.conv")
def _conv(xp: Any, x: Any, weight: Any, bias: Any = None, *, how: Convolution) -> Any:
    kernel = tuple(weight.shape[2:])
    out = out_size(x.shape[2:], kernel, how.stride, how.padding, how.dilation)
    y = xp.matmul(_grouped(xp, weight, how.groups), _columns(xp, x, kernel, out, how))
    y = xp.reshape(y, (x.shape[0], weight.shape[0], *out))
    return y if bias is None else y + _spread(xp, bias, y.ndim)


@general("nn.conv_input")
def _conv_input(xp: Any, y: Any, weight: Any, *, size: Any, how: Convolution) -> Any:
    columns = xp.matmul(xp.matrix_transpose(_grouped(xp, weight, how.groups)), _flat(xp, y, how.groups))
    return _add_columns(xp, columns, weight.shape[1] * how.groups, tuple(weight.shape[2:]), tuple(y.shape[2:]), size, how)


def _add_columns(xp: Any, columns: Any, channels: Any, kernel: Any, out: Any, size: Any, how: Convolution) -> Any:
    """Add columns up where they came from in an input of ``size``."""
    columns = xp.reshape(columns, (columns.shape[0], channels, math.prod(kernel), *out))
    covered = reach(out, kernel, how.stride, how.dilation)
    around = tuple(max(before + n, r) for n, (before, _), r in zip(size, how.padding, covered, strict=True))
    x = xp.zeros((columns.shape[0], channels, *around), dtype=columns.dtype, device=device_of(columns))
    for i, key in enumerate(offsets(kernel, out, how.stride, how.dilation)):
        x = xp.add_into(x, columns[:, :, i, ...], (*_ALL, *key))
    return x[(*_ALL, *(slice(before, before + n) for n, (before, _) in zip(size, how.padding, strict=True)))]


@general("nn.conv_weight")
def _conv_weight(xp: Any, x: Any, y: Any, *, kernel: Any, how: Convolution) -> Any:
    columns = _columns(xp, x, kernel, tuple(y.shape[2:]), how)
    weight = xp.sum(xp.matmul(_flat(xp, y, how.groups), xp.matrix_transpose(columns)), axis=0)
    return xp.reshape(weight, (y.shape[1], x.shape[1] // how.groups, *kernel))


def _conv_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    x, weight, how = tuple(args[0].shape), tuple(args[1].shape), params["how"]
    if x[1] != weight[1] * how.groups or weight[0] % how.groups:
        raise ValueError(
            f"conv: an input of shape {x} with {x[1]} channels does not fit a weight of shape {weight} (out, in / groups, kernel) "
            f"in {how.groups} group{'s' * (how.groups != 1)}"
        )
    if 0 in out_size(x[2:], weight[2:], how.stride, how.padding, how.dilation):
        raise ValueError(f"conv: a window of size {weight[2:]} with dilation {how.dilation} does not fit an input of size {x[2:]}")
    return args, params


def _conv_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    x, weight, how = args[0].shape, args[1].shape, params["how"]
    return ShapeDtype((x[0], weight[0], *out_size(x[2:], weight[2:], how.stride, how.padding, how.dilation)), result_dtype(xp, args))


def _conv_pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x, weight, _), (tx, tw, tb) = args, tangents
    t = None if tx is None else xp.nn.conv(tx, weight, tb, **params)
    if tw is not None:
        through = xp.nn.conv(x, tw, tb if t is None else None, **params)
        t = through if t is None else t + through
    return xp.broadcast_to(_spread(xp, tb, y.ndim), y.shape) if t is None else t


# A batch of weights is a convolution in groups: (B, N, C, ...) becomes (N, B * C, ...).
def _into_groups(xp: Any, x: Any) -> Any:
    x = xp.moveaxis(x, 0, 1)
    return xp.reshape(x, (x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]))


def _out_of_groups(xp: Any, size: Any, y: Any) -> Any:
    return xp.moveaxis(xp.reshape(y, (y.shape[0], size, y.shape[1] // size, *y.shape[2:])), 1, 0)


def _end_to_end(xp: Any, x: Any) -> Any:
    return xp.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def _apart(xp: Any, size: Any, y: Any) -> Any:
    return xp.reshape(y, (size, y.shape[0] // size, *y.shape[1:]))


def _times(params: dict[str, Any], size: Any) -> dict[str, Any]:
    return {**params, "how": params["how"]._replace(groups=params["how"].groups * size)}


def _conv_batch(op: Op, xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, weight, *bias = args
    if batched[0] and not any(batched[1:]):
        return _apart(xp, size, op.at(xp)(_end_to_end(xp, x), weight, *bias, **params))
    x, weight = front(xp, size, x, batched[0]), front(xp, size, weight, batched[1])
    y = _out_of_groups(xp, size, op.at(xp)(_into_groups(xp, x), _end_to_end(xp, weight), **_times(params, size)))
    if not bias or bias[0] is None:
        return y
    return y + xp.reshape(front(xp, size, bias[0], batched[2]), (size, 1, -1, *(1,) * (y.ndim - 3)))


def _conv_weight_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, y = (_into_groups(xp, front(xp, size, a, b)) for a, b in zip(args, batched, strict=True))
    return _apart(xp, size, xp.nn.conv_weight(x, y, **_times(params, size)))


_ONE = Convolution((1,), ((0, 0),), (1,))
_TWO = Convolution((2, 1), ((1, 0), (1, 2)), (1, 2), 2)

conv = Op(
    "nn.conv",
    "x, weight, bias=None, /, *, how",
    ["x", "weight", "bias"],
    vjps=[
        lambda xp, ct, weight, x_shape, how: xp.nn.conv_input(ct, _conj(xp, weight), size=x_shape[2:], how=how),
        lambda xp, ct, x, weight_shape, how: xp.nn.conv_weight(_conj(xp, x), ct, kernel=weight_shape[2:], how=how),
        lambda xp, ct: xp.sum(ct, axis=(0, *range(2, ct.ndim))),
    ],
    pushforward=_conv_pushforward,
    prepare=_conv_prepare,
    abstract=_conv_abstract,
    cases=[case((2, 2, 4), (3, 2, 2), (3,), kinds="fc", how=_ONE), case((1, 4, 4, 3), (2, 2, 2, 2), None, kinds="f", how=_TWO)],
)
conv.batch = partial(_conv_batch, conv)
conv_input = Op(
    "nn.conv_input",
    "x1, x2, /, *, size, how",
    ["x1", "x2"],
    vjps=[
        lambda xp, ct, x2, how: xp.nn.conv(ct, _conj(xp, x2), how=how),
        lambda xp, ct, x1, x2_shape, how: xp.nn.conv_weight(ct, _conj(xp, x1), kernel=x2_shape[2:], how=how),
    ],
    jvps=[
        lambda xp, ct, x2, size, how: xp.nn.conv_input(ct, x2, size=size, how=how),
        lambda xp, ct, x1, size, how: xp.nn.conv_input(x1, ct, size=size, how=how),
    ],
    abstract=lambda xp, args, params: ShapeDtype(
        (args[0].shape[0], args[1].shape[1] * params["how"].groups, *params["size"]), result_dtype(xp, args)
    ),
    cases=[case((2, 3, 3), (3, 2, 2), kinds="fc", size=(4,), how=_ONE), case((1, 2, 2, 4), (2, 2, 2, 2), kinds="f", size=(4, 3), how=_TWO)],
)
conv_input.batch = partial(_conv_batch, conv_input)
conv_weight = Op(
    "nn.conv_weight",
    "x1, x2, /, *, kernel, how",
    ["x1", "x2"],
    vjps=[
        lambda xp, ct, x2, x1_shape, how: xp.nn.conv_input(_conj(xp, x2), ct, size=x1_shape[2:], how=how),
        lambda xp, ct, x1, how: xp.nn.conv(_conj(xp, x1), ct, how=how),
    ],
    jvps=[
        lambda xp, ct, x2, kernel, how: xp.nn.conv_weight(ct, x2, kernel=kernel, how=how),
        lambda xp, ct, x1, kernel, how: xp.nn.conv_weight(x1, ct, kernel=kernel, how=how),
    ],
    batch=_conv_weight_batch,
    abstract=lambda xp, args, params: ShapeDtype(
        (args[1].shape[1], args[0].shape[1] // params["how"].groups, *params["kernel"]), result_dtype(xp, args)
    ),
    cases=[
        case((2, 2, 4), (2, 3, 3), kinds="fc", kernel=(2,), how=_ONE),
        case((1, 4, 4, 3), (1, 2, 2, 4), kinds="f", kernel=(2, 2), how=_TWO),
    ],
)


# --- the windows themselves -------------------------------------------------------------------------------------------------------------
@general("nn.unfold")
def _unfold(xp: Any, x: Any, *, kernel: Any, how: Convolution) -> Any:
    columns = _columns(xp, x, kernel, out_size(x.shape[2:], kernel, how.stride, how.padding, how.dilation), how)
    return xp.reshape(columns, (x.shape[0], columns.shape[1] * columns.shape[2], columns.shape[3]))


@general("nn.fold")
def _fold(xp: Any, columns: Any, *, size: Any, kernel: Any, how: Convolution) -> Any:
    out = out_size(size, kernel, how.stride, how.padding, how.dilation)
    return _add_columns(xp, columns, columns.shape[1] // math.prod(kernel), kernel, out, size, how)


def _unfold_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    (x,), how, kernel = args, params["how"], params["kernel"]
    windows = math.prod(out_size(x.shape[2:], kernel, how.stride, how.padding, how.dilation))
    return ShapeDtype((x.shape[0], x.shape[1] * math.prod(kernel), windows), x.dtype)


def _fold_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    (x,) = args
    return ShapeDtype((x.shape[0], x.shape[1] // math.prod(params["kernel"]), *params["size"]), x.dtype)


_WINDOWS = Convolution((2, 1), ((1, 0), (1, 2)), (1, 2))

unfold = linear(
    "nn.unfold",
    "x, /, *, kernel, how",
    lambda xp, ct, kernel, how, x_shape: xp.nn.fold(ct, size=x_shape[2:], kernel=kernel, how=how),
    batch=lambda xp, size, args, batched, params: _apart(xp, size, xp.nn.unfold(_end_to_end(xp, args[0]), **params)),
    abstract=_unfold_abstract,
    cases=[case((2, 2, 4), kinds="fc", kernel=(2,), how=_ONE), case((1, 2, 4, 3), kinds="f", kernel=(2, 2), how=_WINDOWS)],
)
fold = linear(
    "nn.fold",
    "x, /, *, size, kernel, how",
    lambda xp, ct, kernel, how: xp.nn.unfold(ct, kernel=kernel, how=how),
    batch=lambda xp, size, args, batched, params: _apart(xp, size, xp.nn.fold(_end_to_end(xp, args[0]), **params)),
    abstract=_fold_abstract,
    cases=[
        case((2, 4, 3), kinds="fc", size=(4,), kernel=(2,), how=_ONE),
        case((1, 4, 8), kinds="f", size=(4, 3), kernel=(2, 2), how=_WINDOWS),
    ],
)
