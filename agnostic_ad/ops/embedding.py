"""Rows of a table by number, whatever the shape of the numbers; and one element of each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.families import linear, normalize_axis
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import ZERO, Op
from agnostic_ad.ops.neural import front, general
from agnostic_ad.samples import case, integers, strided


@general("nn.embedding")
def _embedding(xp: Any, weight: Any, indices: Any, factor: Any = None) -> Any:
    rows = xp.take(weight, xp.reshape(indices, (-1,)), axis=0)
    return xp.reshape(rows, (*indices.shape, weight.shape[1]))


def _scaled(xp: Any, x: Any, factor: Any) -> Any:
    return x if factor is None else x * xp.expand_dims(factor, axis=-1)


def _vjp(xp: Any, ct: Any, weight_shape: Any, indices: Any, factor: Any) -> Any:
    rows = xp.reshape(_scaled(xp, ct, factor), (-1, weight_shape[1]))
    return xp.scatter_add(rows, xp.reshape(indices, (-1,)), size=weight_shape[0], axis=0)


def _batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    weight, indices, factor = args
    if factor is not None and (batched[1] or batched[2]):
        factor = xp.broadcast_to(factor if batched[2] else xp.expand_dims(factor, axis=0), (size, *indices.shape[batched[1] :]))
    if not (batched[0] or batched[1]):  # then the factor is
        indices = front(xp, size, indices, False)
    if not batched[0]:
        return xp.nn.embedding(weight, indices, factor)
    # the members' tables end to end, and their numbers in it
    indices, count = front(xp, size, indices, batched[1]), weight.shape[1]
    starts = xp.arange(size, dtype=indices.dtype, device=device_of(indices)) * count
    starts = xp.reshape(starts, (size, *(1,) * (indices.ndim - 1)))
    factor = None if factor is None else xp.broadcast_to(factor, indices.shape)
    return xp.nn.embedding(xp.reshape(weight, (size * count, weight.shape[2])), indices + starts, factor)


def _prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    if len(args[0].shape) != 2:
        raise ValueError(f"embedding: the table has shape (rows, columns), not {tuple(args[0].shape)}")
    return args, params


embedding = Op(
    "nn.embedding",
    "weight, indices, factor=None, /",
    ["weight", "indices", "factor"],
    vjps=[_vjp, ZERO, ZERO],
    jvps=[lambda xp, ct, indices, factor: _scaled(xp, xp.nn.embedding(ct, indices), factor), ZERO, ZERO],
    prepare=_prepare,
    batch=_batch,
    abstract=lambda xp, args, params: ShapeDtype((*args[1].shape, args[0].shape[1]), args[0].dtype),
    cases=[
        case((4, 3), integers((5,), 0, 3), None, kinds="fc"),
        case((3, 2), integers((2, 3), 0, 2), None, kinds="f"),
        case(strided((3, 2)), integers((), 0, 2), None, kinds="f"),
        case((3, 2), integers((0, 2), 0, 2), None, kinds="f"),
    ],
)
"""With ``factor``, of the numbers' shape, the rows are the same and their derivatives are multiplied: 0 for what fills up sequences."""


# --- one element of each row, along any axis --------------------------------------------------------------------------------------------
@general("nn.pick")
def _pick(xp: Any, x: Any, target: Any, *, axis: int = -1) -> Any:
    return xp.squeeze(xp.take_along_axis(x, xp.expand_dims(target, axis=axis), axis=axis), axis=axis)


@general("nn.put")
def _put(xp: Any, x: Any, target: Any, *, size: int, axis: int = -1) -> Any:
    axis %= x.ndim + 1
    numbers = xp.reshape(xp.arange(size, device=device_of(target)), (-1, *(1,) * (x.ndim - axis)))
    hit = numbers == xp.expand_dims(xp.astype(target, numbers.dtype), axis=axis)
    return xp.where(hit, xp.expand_dims(x, axis=axis), xp.zeros((), dtype=x.dtype, device=device_of(x)))


def _counted(name: str, more: int) -> Callable[..., Any]:
    def prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return args, {**params, "axis": normalize_axis(params["axis"], len(args[0].shape) + more, name)}

    return prepare


def _batched(name: str) -> Callable[..., Any]:
    def batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
        args = tuple(front(xp, size, a, b) for a, b in zip(args, batched, strict=True))
        return getattr(xp.nn, name)(*args, **{**params, "axis": params["axis"] + 1})

    return batch


pick = linear(
    "nn.pick",
    "x, target, /, *, axis=-1",
    arrays=["x", "target"],
    transpose=lambda xp, ct, target, axis, x_shape: xp.nn.put(ct, target, size=x_shape[axis], axis=axis),
    prepare=_counted("pick", 0),
    batch=_batched("pick"),
    abstract=lambda xp, args, params: ShapeDtype(args[1].shape, args[0].dtype),
    cases=[
        case((2, 3), integers((2,), 0, 2)),
        case((2, 3, 4), integers((2, 4), 0, 2), axis=1),
        case(strided((3,)), integers((), 0, 2), axis=0),
        case((0, 3), integers((0,), 0, 2), axis=1),
    ],
)
put = linear(
    "nn.put",
    "x, target, /, *, size, axis=-1",
    arrays=["x", "target"],
    transpose=lambda xp, ct, target, axis: xp.nn.pick(ct, target, axis=axis),
    prepare=_counted("put", 1),
    batch=_batched("put"),
    abstract=lambda xp, args, params: ShapeDtype(
        (*args[0].shape[: params["axis"]], params["size"], *args[0].shape[params["axis"] :]), args[0].dtype
    ),
    cases=[
        case((2,), integers((2,), 0, 2), size=3),
        case(strided((2, 2)), integers((2, 2), 0, 2), size=3, axis=1),
        case((), integers((), 0, 2), size=3, axis=0),
        case((0,), integers((0,), 0, 2), size=3),
    ],
)
