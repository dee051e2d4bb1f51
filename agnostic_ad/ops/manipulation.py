"""Functions that rearrange elements. Those up to unstack have rules; the rest is made of them."""

from __future__ import annotations

import math
import operator
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import AxisError
from agnostic_ad.families import broadcast_shapes, composite, linear, normalize_axes, normalize_axis, result_dtype, sum_to_shape
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import ShapeDtype, lookup
from agnostic_ad.op import Op
from agnostic_ad.samples import Free, case, integers, strided


def _sizes(shape: Any) -> tuple[Any, ...]:
    return tuple(shape) if isinstance(shape, tuple | list) else (shape,)


# --- reshape --------------------------------------------------------------------------------------------------------------------------
def _reshape_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    shape = _sizes(params["shape"])
    if -1 in shape:
        size, known = math.prod(args[0].shape), math.prod(n for n in shape if n != -1)
        if shape.count(-1) > 1 or (known == 0 and size != 0) or (known and size % known):
            raise ValueError(f"reshape: an array of shape {tuple(args[0].shape)} cannot take shape {shape}")
        shape = tuple((size // known if known else 0) if n == -1 else n for n in shape)
    if math.prod(shape) != math.prod(args[0].shape):
        raise ValueError(f"reshape: an array of shape {tuple(args[0].shape)} cannot take shape {shape}")
    return args, {**params, "shape": shape}


reshape = linear(
    "reshape",
    "x, /, shape, *, copy=None",
    lambda xp, ct, x_shape: xp.reshape(ct, x_shape),
    prepare=_reshape_prepare,
    batch=lambda xp, size, args, batched, params: xp.reshape(args[0], (size, *params["shape"])),
    abstract=lambda xp, args, params: ShapeDtype(params["shape"], args[0].dtype),
    cases=[
        case((3, 4), shape=(2, 6)),
        case((2, 3), shape=(-1,)),
        case((), shape=(1, 1)),
        case((0, 3), shape=(3, 0)),
        case(strided((2, 2)), shape=(4,)),
    ],
)


# --- permute_dims ----------------------------------------------------------------------------------------------------------------------
def _permute_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    ndim = len(args[0].shape)
    axes = normalize_axes(_sizes(params["axes"]), ndim, "permute_dims")
    if len(axes) != ndim:
        raise AxisError(f"permute_dims: {len(axes)} axes for an array of {ndim} dimensions")
    return args, {"axes": axes}


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


permute_dims = linear(
    "permute_dims",
    "x, /, axes",
    lambda xp, ct, axes: xp.permute_dims(ct, _inverse(axes)),
    prepare=_permute_prepare,
    batch=lambda xp, size, args, batched, params: xp.permute_dims(args[0], (0, *(a + 1 for a in params["axes"]))),
    abstract=lambda xp, args, params: ShapeDtype(tuple(args[0].shape[a] for a in params["axes"]), args[0].dtype),
    cases=[case((2, 3, 4), axes=(2, 0, 1)), case((2, 3), axes=(-1, 0)), case((), axes=()), case((0, 2), axes=(1, 0))],
)


# --- broadcast_to -----------------------------------------------------------------------------------------------------------------------
def _broadcast_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    (x,), shape = args, params["shape"]
    x = xp.reshape(x, (size, *(1,) * (len(shape) - x.ndim + 1), *x.shape[1:]))
    return xp.broadcast_to(x, (size, *shape))


broadcast_to = linear(
    "broadcast_to",
    "x, /, shape",
    lambda xp, ct, x_shape: sum_to_shape(xp, ct, x_shape),
    prepare=lambda args, params: (args, {"shape": _sizes(params["shape"])}),
    batch=_broadcast_batch,
    abstract=lambda xp, args, params: ShapeDtype(broadcast_shapes(args[0].shape, params["shape"]), args[0].dtype),
    cases=[case((3, 1), shape=(2, 3, 4)), case((), shape=(2, 2)), case((1,), shape=(0,)), case((2,), shape=(2,))],
)


# --- flip ---------------------------------------------------------------------------------------------------------------------------------
flip = linear(
    "flip",
    "x, /, *, axis=None",
    lambda xp, ct, axis: xp.flip(ct, axis=axis),
    prepare=lambda args, params: (args, {"axis": normalize_axes(params["axis"], len(args[0].shape), "flip")}),
    batch=lambda xp, size, args, batched, params: xp.flip(args[0], axis=tuple(a + 1 for a in params["axis"])),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, args[0].dtype),
    cases=[
        case((2, 3)),
        case((2, 3), axis=-1),
        case((2, 3, 2), axis=(0, 2), free=Free("same", {"axis": "axes?"})),
        case(()),
        case((2,), axis=()),
        case((0, 2), axis=0),
    ],
)


# --- concat -------------------------------------------------------------------------------------------------------------------------------
def _concat_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    if not args:
        raise ValueError("concat needs at least one array")
    axis = params["axis"]
    return args, {"axis": None if axis is None else normalize_axis(axis, len(args[0].shape), "concat")}


def _concat_vjp(xp: Any, ct: Any, arrays_shape: tuple[Any, ...], axis: Any, position: int) -> Any:
    shape = arrays_shape[position]
    along = [math.prod(s) if axis is None else s[axis] for s in arrays_shape]
    start = sum(along[:position])
    piece = ct[(slice(None),) * (axis or 0) + (slice(start, start + along[position]), ...)]
    return xp.reshape(piece, shape) if axis is None else piece


def _concat_pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    return xp.concat([xp.zeros_like(a) if t is None else t for a, t in zip(args, tangents, strict=True)], **params)


def _concat_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    full = [a if b else xp.broadcast_to(a, (size, *a.shape)) for a, b in zip(args, batched, strict=True)]
    if params["axis"] is None:
        return xp.concat([xp.reshape(a, (size, math.prod(a.shape[1:]))) for a in full], axis=1)
    return xp.concat(full, axis=params["axis"] + 1)


def _concat_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    axis, dtype = params["axis"], result_dtype(xp, args)
    if axis is None:
        return ShapeDtype((sum(math.prod(a.shape) for a in args),), dtype)
    first = args[0].shape
    return ShapeDtype((*first[:axis], sum(a.shape[axis] for a in args), *first[axis + 1 :]), dtype)


concat = Op(
    "concat",
    "arrays, /, *, axis=0",
    ["*arrays"],
    vjps=[_concat_vjp],
    pushforward=_concat_pushforward,
    prepare=_concat_prepare,
    batch=_concat_batch,
    abstract=_concat_abstract,
    cases=[
        case((2, 3), (1, 3), free=Free("same", {"axis": "axis"}, least=1)),
        case((2, 3), (2, 1), axis=-1),
        case((2, 3), (2,), axis=None),
        case((3,)),
        case((0, 2), (1, 2), (0, 2)),
    ],
)


# --- stack and unstack --------------------------------------------------------------------------------------------------------------------
def _stack_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    shapes = {tuple(a.shape) for a in args}
    if len(shapes) != 1:
        raise ValueError(f"stack needs arrays of one shape, at least one; got {sorted(shapes)}")
    return args, {"axis": normalize_axis(params["axis"], len(args[0].shape) + 1, "stack")}


def _slice(axis: int, i: int) -> tuple[Any, ...]:
    return (*(slice(None),) * axis, i, ...)


def _stacked(xp: Any, parts: Any, axis: int) -> Any:
    """Stack cotangents or tangents; None is zero."""
    like = next(p for p in parts if p is not None)
    return xp.stack([xp.zeros_like(like) if p is None else p for p in parts], axis=axis)


def _stack_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    full = [a if b else xp.broadcast_to(a, (size, *a.shape)) for a, b in zip(args, batched, strict=True)]
    return xp.stack(full, axis=params["axis"] + 1)


def _stack_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
    shape, axis = args[0].shape, params["axis"]
    return ShapeDtype((*shape[:axis], len(args), *shape[axis:]), result_dtype(xp, args))


stack = Op(
    "stack",
    "arrays, /, *, axis=0",
    ["*arrays"],
    vjps=[lambda xp, ct, axis, position: xp.getitem(ct, key=_slice(axis, position))],
    pushforward=lambda xp, args, y, tangents, params: _stacked(xp, tangents, **params),
    prepare=_stack_prepare,
    batch=_stack_batch,
    abstract=_stack_abstract,
    cases=[case((2, 3), (2, 3), axis=1, free=Free("same", {"axis": "axis"}, least=1)), case((3,), (3,), axis=-1), case(())],
)


def _unstack_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    return args, {"axis": normalize_axis(params["axis"], len(args[0].shape), "unstack")}


def _unstack_abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[ShapeDtype, ...]:
    (x,), axis = args, params["axis"]
    part = ShapeDtype((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)
    return tuple(part for _ in range(x.shape[axis]))


unstack = linear(
    "unstack",
    "x, /, *, axis=0",
    lambda xp, ct, axis: _stacked(xp, ct, axis),
    prepare=_unstack_prepare,
    batch=lambda xp, size, args, batched, params: xp.unstack(args[0], axis=params["axis"] + 1),
    abstract=_unstack_abstract,
    cases=[case((2, 3)), case((2, 3), axis=-1, free=Free("same", {"axis": "axis"}, 1, False)), case((1,)), case((2, 0), axis=0)],
)


def _unstacked(xp: Any, x: Any, *, axis: int = 0) -> tuple[Any, ...]:
    return tuple(x[_slice(axis, i)] for i in range(x.shape[axis]))


Backend.fallbacks["unstack"] = _unstacked


# --- made of the above --------------------------------------------------------------------------------------------------------------------
@composite("expand_dims", "x, /, axis=0", ["x"], cases=[case((2, 3), axis=1), case((2,), axis=(0, -1)), case((), axis=0)])
def expand_dims(xp: Any, x: Any, axis: Any = 0) -> Any:
    """Insert axes of size 1."""
    axes = normalize_axes(_sizes(axis), x.ndim + len(_sizes(axis)), "expand_dims")
    sizes = iter(x.shape)
    return xp.reshape(x, tuple(1 if i in axes else next(sizes) for i in range(x.ndim + len(axes))))


@composite("squeeze", "x, /, axis", ["x"], cases=[case((2, 1, 3), axis=1), case((1, 2, 1), axis=(0, -1)), case((2,), axis=())])
def squeeze(xp: Any, x: Any, axis: Any) -> Any:
    """Remove axes of size 1."""
    axes = normalize_axes(axis, x.ndim, "squeeze")
    if any(x.shape[a] != 1 for a in axes):
        raise ValueError(f"squeeze: the axes {axes} of an array of shape {tuple(x.shape)} are not all of size 1")
    return xp.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


@composite(
    "moveaxis",
    "x, source, destination, /",
    ["x"],
    cases=[case((2, 3, 4), source=0, destination=-1), case((2, 3, 2), source=(0, -1), destination=(1, 0))],
)
def moveaxis(xp: Any, x: Any, source: Any, destination: Any) -> Any:
    """Move axes to new places."""
    sources, places = (normalize_axes(_sizes(a), x.ndim, "moveaxis") for a in (source, destination))
    if len(sources) != len(places):
        raise AxisError(f"moveaxis: {len(sources)} axes cannot move to {len(places)} places")
    order = [a for a in range(x.ndim) if a not in sources]
    for place, a in sorted(zip(places, sources, strict=True)):
        order.insert(place, a)
    return xp.permute_dims(x, tuple(order))


_ROLLS = [
    case((4,), shift=1),
    case((2, 3), shift=-4),
    case((2, 3), shift=1, axis=-1),
    case((2, 3), shift=(1, 2), axis=(0, 1)),
    case((0, 2), shift=1, axis=0),
]


@composite("roll", "x, /, shift, *, axis=None", ["x"], cases=_ROLLS)
def roll(xp: Any, x: Any, shift: Any, *, axis: Any = None) -> Any:
    """Shift elements along axes, round the end."""
    if axis is None:
        return xp.reshape(roll(xp.reshape(x, (math.prod(x.shape),)), operator.index(_sizes(shift)[0]), axis=0), x.shape)
    axes = [normalize_axis(a, x.ndim, "roll") for a in _sizes(axis)]
    shifts = _sizes(shift) if isinstance(shift, tuple | list) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ValueError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    for s, a in zip(shifts, axes, strict=True):
        n = x.shape[a]
        cut = (n - s) % n if n else 0
        if cut:
            before = (slice(None),) * a
            x = xp.concat([x[(*before, slice(cut, None), ...)], x[(*before, slice(None, cut), ...)]], axis=a)
    return x


@composite(
    "tile",
    "x, repetitions, /",
    ["x"],
    cases=[
        case((2, 3), repetitions=(2, 1)),
        case((3,), repetitions=(2, 2)),
        case((2, 3), repetitions=(2,)),
        case((2,), repetitions=(0,)),
    ],
)
def tile(xp: Any, x: Any, repetitions: Any) -> Any:
    """Repeat the whole array along axes."""
    times = _sizes(repetitions)
    times = (1,) * (x.ndim - len(times)) + times
    shape = (1,) * (len(times) - x.ndim) + tuple(x.shape)
    x = xp.reshape(x, tuple(n for size in shape for n in (1, size)))
    x = xp.broadcast_to(x, tuple(n for t, size in zip(times, shape, strict=True) for n in (t, size)))
    return xp.reshape(x, tuple(t * size for t, size in zip(times, shape, strict=True)))


def _numbers(repeats: Any) -> list[int]:
    """Give the elements of an array, or of a sequence, as Python numbers."""
    backend = lookup(repeats)
    found = backend.to_numpy(repeats).tolist() if backend is not None else repeats.tolist() if isinstance(repeats, Array) else list(repeats)
    return found if isinstance(found, list) else [found]


@composite(
    "repeat",
    "x, repeats, /, *, axis=None",
    ["x", "repeats"],
    cases=[
        case((2, 3), 2),
        case((2, 3), 3, axis=1),
        case((), 2),
        case((2, 3), integers((3,), 0, 3), axis=-1, dynamic=True),
        case((2, 3), 0, axis=0),
    ],
)
def repeat(xp: Any, x: Any, repeats: Any, *, axis: Any = None) -> Any:
    """Repeat each element, the same number of times or each its own."""
    if axis is None:
        x, axis = xp.reshape(x, (math.prod(x.shape),)), 0
    axis = normalize_axis(axis, x.ndim, "repeat")
    size = x.shape[axis]
    if isinstance(repeats, int):
        x = xp.broadcast_to(xp.expand_dims(x, axis=axis + 1), (*x.shape[: axis + 1], repeats, *x.shape[axis + 1 :]))
        return xp.reshape(x, (*x.shape[:axis], size * repeats, *x.shape[axis + 2 :]))
    counts = _numbers(repeats)
    where = [i for i, n in enumerate(counts * size if len(counts) == 1 else counts) for _ in range(n)]
    return xp.take(x, xp.asarray(where, dtype=xp.int64, device=device_of(x)), axis=axis)


@composite(
    "broadcast_arrays", "*arrays", ["*arrays"], cases=[case((2, 1), (3,), free=Free()), case((), (2,)), case((0,), (1,)), case((2,))]
)
def broadcast_arrays(xp: Any, *arrays: Any) -> tuple[Any, ...]:
    """Broadcast arrays against each other."""
    shape = broadcast_shapes(*(tuple(a.shape) for a in arrays))
    return tuple(xp.broadcast_to(a, shape) for a in arrays)


@composite(
    "meshgrid",
    "*arrays, indexing='xy'",
    ["*arrays"],
    cases=[case((2,), (3,)), case((2,), (3,), indexing="ij"), case((2,), (1,), (3,)), case((2,))],
)
def meshgrid(xp: Any, *arrays: Any, indexing: str = "xy") -> tuple[Any, ...]:
    """Give coordinate arrays from coordinate vectors."""
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid: indexing is 'xy' or 'ij', not {indexing!r}")
    count = len(arrays)
    order = list(range(count))
    if indexing == "xy" and count > 1:
        order[:2] = [1, 0]
    shape = [0] * count
    for a, place in zip(arrays, order, strict=True):
        shape[place] = math.prod(a.shape)
    return tuple(
        xp.broadcast_to(xp.reshape(a, tuple(-1 if i == place else 1 for i in range(count))), tuple(shape))
        for a, place in zip(arrays, order, strict=True)
    )


def _triangle(xp: Any, x: Any, k: int, lower: bool) -> Any:
    if x.ndim < 2:
        raise ValueError(f"{'tril' if lower else 'triu'} needs an array of 2 dimensions or more, not {x.ndim}")
    rows, columns = (xp.arange(n, device=device_of(x)) for n in x.shape[-2:])
    rows = xp.reshape(rows, (-1, 1))
    keep = columns <= rows + k if lower else columns >= rows + k
    return xp.where(keep, x, xp.zeros_like(x))


@composite(
    "tril", "x, /, *, k=0", ["x"], cases=[case((3, 3), free=Free("same", {"k": (0, 1, -1)}, least=2)), case((2, 3, 4), k=1), case((0, 2))]
)
def tril(xp: Any, x: Any, *, k: int = 0) -> Any:
    """Keep the lower triangle."""
    return _triangle(xp, x, k, lower=True)


@composite(
    "triu", "x, /, *, k=0", ["x"], cases=[case((3, 3), free=Free("same", {"k": (0, 1, -1)}, least=2)), case((2, 3, 4), k=-1), case((0, 2))]
)
def triu(xp: Any, x: Any, *, k: int = 0) -> Any:
    """Keep the upper triangle."""
    return _triangle(xp, x, k, lower=False)
