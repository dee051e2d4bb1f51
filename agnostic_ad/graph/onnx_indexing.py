"""ONNX's operators that pick elements, and change the sizes of images; see `onnx_operators`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agnostic_ad.graph.onnx_operators import OPERATORS, operator
from agnostic_ad.graph.sizes import Dim

__all__ = ["OPERATORS", "operator"]


# --- indexing ---------------------------------------------------------------------------------------------------------------------------
@operator("Gather")
def _gather(n: Any, x: Any, indices: Any) -> Any:
    axis = n.get("axis", 0) % x.ndim
    if isinstance(indices, np.ndarray | np.generic):
        if np.ndim(indices) == 0:
            return n.xp.getitem(x, key=(*(slice(None),) * axis, int(indices), ...))
        if hasattr(n.xp, "level"):
            indices = n.reader.lift(indices)
    return n.xp.take(x, indices, axis=axis)


def _strides(shape: Sequence[Any]) -> list[Any]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _counted(xp: Any, indices: Any, size: Any) -> Any:
    return xp.where(indices < 0, indices + size, indices)


@operator("ScatterElements")
def _scatter_elements(n: Any, x: Any, indices: Any, updates: Any) -> Any:
    axis, xp = n.get("axis", 0) % x.ndim, n.xp
    where: Any = 0
    for i, stride in enumerate(_strides(x.shape)):
        if i == axis:
            place = xp.astype(_counted(xp, indices, x.shape[axis]), xp.int64)
        else:
            place = xp.reshape(xp.arange(indices.shape[i], dtype=xp.int64), (-1, *(1,) * (x.ndim - 1 - i)))
        where = place * stride + where
    return _scattered(n, x, xp.reshape(xp.broadcast_to(where, indices.shape), (-1,)), xp.reshape(updates, (-1,)), ())


@operator("ScatterND")
def _scatter_nd(n: Any, x: Any, indices: Any, updates: Any) -> Any:
    depth, xp = indices.shape[-1], n.xp
    rest = tuple(x.shape[depth:])
    return _scattered(n, x, _rows(xp, x, indices), xp.reshape(updates, (-1, *rest)), rest)


def _rows(xp: Any, x: Any, indices: Any) -> Any:
    """Give positions in the first axes, flattened, that vectors of indices stand for."""
    where: Any = 0
    for i, stride in enumerate(_strides(x.shape[: indices.shape[-1]])):
        where = _counted(xp, xp.getitem(indices, key=(..., i)), x.shape[i]) * stride + where
    return xp.reshape(where, (-1,))


def _scattered(n: Any, x: Any, where: Any, updates: Any, rest: tuple[Any, ...]) -> Any:
    xp, how = n.xp, n.get("reduction", "none")
    flat = xp.reshape(x, (-1, *rest))
    if how == "add":
        flat = flat + xp.scatter_add(updates, where, size=flat.shape[0], axis=0)
    elif how == "none":
        flat = xp.put_rows(flat, where, updates)
    else:
        raise n.unsupported(f"with reduction={how} is not read")
    return xp.reshape(flat, x.shape)


@operator("GatherND")
def _gather_nd(n: Any, x: Any, indices: Any) -> Any:
    if n.get("batch_dims", 0):
        raise n.unsupported("with batch_dims is not read")
    rest = tuple(x.shape[indices.shape[-1] :])
    found = n.xp.take(n.xp.reshape(x, (-1, *rest)), _rows(n.xp, x, indices), axis=0)
    return n.xp.reshape(found, (*indices.shape[:-1], *rest))


@operator("OneHot")
def _one_hot(n: Any, indices: Any, depth: Any, values: Any) -> Any:
    xp, count, axis = n.xp, n.ints(depth)[0], n.get("axis", -1)
    axis = axis % (indices.ndim + 1)
    numbers = xp.reshape(xp.arange(count, dtype=indices.dtype), (-1, *(1,) * (indices.ndim - axis)))
    hit = numbers == xp.expand_dims(_counted(xp, indices, count), axis=axis)
    return xp.where(hit, xp.getitem(values, key=(1,)), xp.getitem(values, key=(0,)))


# --- sizes of images --------------------------------------------------------------------------------------------------------------------
def _sources(how: str, out: int, size: int, factor: float) -> Any:
    """Give where in the input each position of the output lies."""
    at = np.arange(out)
    if how == "asymmetric":
        return at / factor
    if how == "align_corners":
        return at * ((size - 1) / (factor * size - 1)) if out > 1 else np.zeros(out)
    if how == "pytorch_half_pixel" and out == 1:
        return np.zeros(out)
    centre = size / 2 * (1 - out / (factor * size)) if how == "half_pixel_symmetric" else 0.0
    return centre + (at + 0.5) / factor - 0.5


_ROUNDED: dict[str, Callable[[Any], Any]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _taps(mode: str, t: Any, a: float) -> dict[int, Any]:
    """Give the weights of neighbours, ``t`` behind the one that is 0: linear, or R. Keys' cubic ones."""
    if mode == "linear":
        return {0: 1 - t, 1: t}
    near = {k: ((a + 2) * d - (a + 3)) * d * d + 1 for k, d in ((0, t), (1, 1 - t))}
    return near | {k: ((d - 5) * d + 8) * a * d - 4 * a for k, d in ((-1, 1 + t), (2, 2 - t))}


@operator("Resize", "Upsample")
def _resize(n: Any, x: Any, *rest: Any) -> Any:
    old = n.node.op_type == "Upsample" or n.opset < 11
    scales, sizes = (rest[0] if rest else np.asarray(n.get("scales")), None) if old else (*rest, None, None, None)[1:3]
    along = [a % x.ndim for a in n.get("axes", range(x.ndim))]
    how, mode = n.get("coordinate_transformation_mode", "asymmetric" if old else "half_pixel"), n.get("mode", "nearest")
    nearest = n.get("nearest_mode", "floor" if old else "round_prefer_floor")
    factors, wanted = n.ints(scales) or None, n.ints(sizes)
    odd = n.get("antialias", 0) or n.get("exclude_outside", 0) or n.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    if odd or how == "tf_crop_and_resize" or mode not in ("nearest", "linear", "cubic"):
        raise n.unsupported(
            "is read with mode nearest, linear or cubic, without antialias, exclude_outside, aspect ratios and tf_crop_and_resize"
        )
    for i, axis in enumerate(along):
        size = x.shape[axis]
        factor = factors[i] if factors is not None else 1 if size is wanted[i] else wanted[i] / size
        if factor == 1:
            continue
        if (
            mode == "nearest"
            and factor == int(factor)
            and (how, nearest) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
        ):
            x = n.xp.repeat(x, int(factor), axis=axis)
            continue
        if isinstance(size, Dim):
            raise n.unsupported("of an axis of any size is read for mode=nearest and whole factors alone")
        at = _sources(how, wanted[i] if wanted is not None else math.floor(size * factor), size, factor)
        first = (_ROUNDED[nearest] if mode == "nearest" else np.floor)(at).astype("int64")
        taps = {0: 1} if mode == "nearest" else _taps(mode, at - first, n.get("cubic_coeff_a", -0.75))
        parts = [_neighbours(n, x, np.clip(first + k, 0, size - 1), weight, axis) for k, weight in taps.items()]
        x = sum(parts[1:], start=parts[0])
    return x


def _neighbours(n: Any, x: Any, where: Any, weight: Any, axis: int) -> Any:
    lift = (lambda a: a) if n.xp is n.reader.numpy else n.reader.lift
    y = n.xp.take(x, lift(where), axis=axis)
    if isinstance(weight, int):
        return y
    return y * n.xp.astype(lift(weight.reshape((-1, *(1,) * (x.ndim - 1 - axis)))), x.dtype)
