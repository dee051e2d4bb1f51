"""Pooling over the last axes, any number of them.

What a pooling does to tangents is linear, so its derivatives are pairs of linear operations, each other's transpose: ``nn.pool_take`` and
``nn.pool_put`` pick from the windows, or put back, where the maximum was; ``nn.sum_pool`` and ``nn.spread_pool`` add the windows up, or
spread a number over its window. Of several equal maxima the first counts; a window with a number that is none (NaN) has it for its maximum,
and of several of those the last counts, as in PyTorch.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from agnostic_ad.backends.windows import Pooling, offsets, out_size, reach
from agnostic_ad.families import linear
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import ZERO, Op
from agnostic_ad.ops.convolution import padded
from agnostic_ad.ops.neural import front, general
from agnostic_ad.samples import case


def _out(x: Any, how: Pooling) -> tuple[int, ...]:
    return out_size(x.shape[-len(how.kernel) :], how.kernel, how.stride, how.padding, how.dilation, how.ceil)


def _around(xp: Any, x: Any, out: Any, how: Pooling, value: float) -> Any:
    """Give ``x`` with enough around it for all windows."""
    sizes = x.shape[-len(how.kernel) :]
    ends = reach(out, how.kernel, how.stride, how.dilation)
    return padded(xp, x, [(before, max(0, end - n - before)) for n, (before, _), end in zip(sizes, how.padding, ends, strict=True)], value)


def _inside(x: Any, sizes: Any, how: Pooling) -> Any:
    """Take away what was around."""
    return x[(..., *(slice(before, before + n) for n, (before, _) in zip(sizes, how.padding, strict=True)))]


def _keys(out: Any, how: Pooling) -> list[Any]:
    return [(..., *key) for key in offsets(how.kernel, out, how.stride, how.dilation)]


def _lowest(xp: Any, x: Any) -> Any:
    return xp.iinfo(x.dtype).min if xp.kind(x.dtype) == "i" else -math.inf


# --- maxima -----------------------------------------------------------------------------------------------------------------------------
@general("nn.max_pool")
def _max_pool(xp: Any, x: Any, *, how: Pooling) -> Any:
    out = _out(x, how)
    x = _around(xp, x, out, how, _lowest(xp, x))
    first, *rest = _keys(out, how)
    y = x[first]
    for key in rest:
        y = xp.maximum(y, x[key])
    return y


def _chosen(xp: Any, x: Any, y: Any, how: Pooling) -> Any:
    """Give which position of its window each maximum is at; ``x`` is padded."""
    nowhere = xp.full(y.shape, -1, dtype=xp.default("indexing"), device=xp.device(y))
    at = nowhere
    for i, key in enumerate(_keys(tuple(y.shape[-len(how.kernel) :]), how)):
        found = (x[key] == y) & (at == nowhere)
        at = xp.where(found | xp.isnan(x[key]) if xp.kind(x.dtype) == "f" else found, xp.full_like(at, i), at)
    return at


@general("nn.pool_take")
def _pool_take(xp: Any, t: Any, x: Any, y: Any, *, how: Pooling) -> Any:
    out = tuple(y.shape[-len(how.kernel) :])
    at, t = _chosen(xp, _around(xp, x, out, how, _lowest(xp, x)), y, how), _around(xp, t, out, how, 0.0)
    taken = xp.zeros_like(y, dtype=t.dtype)
    for i, key in enumerate(_keys(out, how)):
        taken = xp.where(at == i, t[key], taken)
    return taken


@general("nn.pool_put")
def _pool_put(xp: Any, ct: Any, x: Any, y: Any, *, how: Pooling) -> Any:
    sizes, out = tuple(x.shape[-len(how.kernel) :]), tuple(y.shape[-len(how.kernel) :])
    x = _around(xp, x, out, how, _lowest(xp, x))
    at, nothing, put = _chosen(xp, x, y, how), xp.zeros_like(ct), xp.zeros_like(x, dtype=ct.dtype)
    for i, key in enumerate(_keys(out, how)):
        put = xp.add_into(put, xp.where(at == i, ct, nothing), key)
    return _inside(put, sizes, how)


@general("nn.max_pool_index")
def _max_pool_index(xp: Any, x: Any, *, how: Pooling) -> Any:
    axes, out = len(how.kernel), _out(x, how)
    sizes, dtype, device = tuple(x.shape[-axes:]), xp.default("indexing"), xp.device(x)
    starts = [[o * s - a for o in range(n)] for n, s, (a, _) in zip(out, how.stride, how.padding, strict=True)]
    strides = [math.prod(sizes[i + 1 :]) for i in range(axes)]

    def flat(places: list[list[int]]) -> Any:
        """Give where places along each axis lie in the flattened axes."""
        parts = [
            xp.reshape(xp.asarray([p * s for p in each], dtype=dtype, device=device), (-1, *(1,) * (axes - 1 - i)))
            for i, (each, s) in enumerate(zip(places, strides, strict=True))
        ]
        return sum(parts[1:], parts[0])

    # a window of nothing but minus infinities has its maximum at its first place that is inside
    at = flat([[p if p >= 0 else p % d for p in each] for each, d in zip(starts, how.dilation, strict=True)])
    base, best = flat(starts), None
    x = _around(xp, x, out, how, _lowest(xp, x))
    for key, position in zip(_keys(out, how), offsets(how.kernel, (1,) * axes, how.stride, how.dilation), strict=True):
        here = x[key]
        if best is None:
            best = xp.full_like(here, _lowest(xp, here))
            at = xp.broadcast_to(at, best.shape)
        more = (here > best) | xp.isnan(here) if xp.kind(x.dtype) == "f" else here > best
        at = xp.where(more, base + sum(p.start * s for p, s in zip(position, strides, strict=True)), at)
        best = xp.where(more, here, best)
    return at


def _prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    x, how = args[0], params["how"]
    if len(x.shape) < len(how.kernel) or 0 in _out(x, how):
        raise ValueError(
            f"pooling: a window of size {how.kernel} with dilation {how.dilation} does not fit an input of shape {tuple(x.shape)}"
        )
    return args, params


def _batch(op: Op, xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    return op.at(xp)(*(front(xp, size, a, b) for a, b in zip(args, batched, strict=True)), **params)


def _abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    return ShapeDtype((*args[0].shape[: -len(params["how"].kernel)], *_out(args[0], params["how"])), args[0].dtype)


_ONE = Pooling((2,), (2,), ((0, 0),), (1,))
_TWO = Pooling((2, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), True)
_CASES = [case((2, 4), kinds="f", how=_ONE), case((1, 3, 4), kinds="f", how=_TWO)]

max_pool = Op(
    "nn.max_pool",
    "x, /, *, how",
    ["x"],
    vjps=[lambda xp, ct, x, y, how: xp.nn.pool_put(ct, x, y, how=how)],
    jvps=[lambda xp, ct, x, y, how: xp.nn.pool_take(ct, x, y, how=how)],
    prepare=_prepare,
    abstract=_abstract,
    cases=[*_CASES, case((3, 4), kinds="i", how=_ONE)],
)
pool_take = Op(
    "nn.pool_take",
    "t, x, y1, /, *, how",
    ["t", "x", "y1"],
    vjps=[lambda xp, ct, x, y1, how: xp.nn.pool_put(ct, x, y1, how=how), ZERO, ZERO],
    jvps=[lambda xp, ct, x, y1, how: xp.nn.pool_take(ct, x, y1, how=how), ZERO, ZERO],
    abstract=lambda xp, args, params: ShapeDtype(args[2].shape, args[0].dtype),
)
pool_put = Op(
    "nn.pool_put",
    "t, x, y1, /, *, how",
    ["t", "x", "y1"],
    vjps=[lambda xp, ct, x, y1, how: xp.nn.pool_take(ct, x, y1, how=how), ZERO, ZERO],
    jvps=[lambda xp, ct, x, y1, how: xp.nn.pool_put(ct, x, y1, how=how), ZERO, ZERO],
    abstract=lambda xp, args, params: ShapeDtype(args[1].shape, args[0].dtype),
)
max_pool_index = Op(
    "nn.max_pool_index",
    "x, /, *, how",
    ["x"],
    prepare=_prepare,
    abstract=lambda xp, args, params: ShapeDtype(_abstract(xp, args, params).shape, xp.default("indexing")),
    cases=_CASES,
)
for _op in (max_pool, pool_take, pool_put, max_pool_index):
    _op.batch = partial(_batch, _op)


# --- sums -------------------------------------------------------------------------------------------------------------------------------
@general("nn.sum_pool")
def _sum_pool(xp: Any, x: Any, *, how: Pooling) -> Any:
    out = _out(x, how)
    x = _around(xp, x, out, how, 0)
    first, *rest = _keys(out, how)
    y = x[first]
    for key in rest:
        y = y + x[key]
    return y


@general("nn.spread_pool")
def _spread_pool(xp: Any, ct: Any, *, size: Any, how: Pooling) -> Any:
    out = tuple(ct.shape[-len(size) :])
    ends = reach(out, how.kernel, how.stride, how.dilation)
    around = tuple(max(before + n, end) for n, (before, _), end in zip(size, how.padding, ends, strict=True))
    x = xp.zeros((*ct.shape[: -len(size)], *around), dtype=ct.dtype, device=xp.device(ct))
    for key in _keys(out, how):
        x = xp.add_into(x, ct, key)
    return _inside(x, size, how)


sum_pool = linear(
    "nn.sum_pool",
    "x, /, *, how",
    lambda xp, ct, how, x_shape: xp.nn.spread_pool(ct, size=x_shape[-len(how.kernel) :], how=how),
    prepare=_prepare,
    batch=lambda xp, size, args, batched, params: xp.nn.sum_pool(args[0], **params),
    abstract=_abstract,
    cases=[case((2, 4), kinds="fc", how=_ONE), case((1, 3, 4), kinds="f", how=_TWO)],
)
spread_pool = linear(
    "nn.spread_pool",
    "x, /, *, size, how",
    lambda xp, ct, how: xp.nn.sum_pool(ct, how=how),
    batch=lambda xp, size, args, batched, params: xp.nn.spread_pool(args[0], **params),
    abstract=lambda xp, args, params: ShapeDtype((*args[0].shape[: -len(params["size"])], *params["size"]), args[0].dtype),
    cases=[case((2, 2), kinds="fc", size=(4,), how=_ONE), case((1, 4, 3), kinds="f", size=(3, 4), how=_TWO)],
)
