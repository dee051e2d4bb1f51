"""Set functions: unique values are a gather, and carry derivatives; of equal elements the first counts. Their integers carry none."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from agnostic_ad.backends.base import Backend
from agnostic_ad.families import composite
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.searching import counted_by_data
from agnostic_ad.samples import case, integers, strided


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Any
    inverse_indices: Any


# --- where the unique elements are --------------------------------------------------------------------------------------------------------
def _refuse(*operands: Any) -> Any:
    *_, params = operands
    raise counted_by_data(params["wanted"], "xp.sort(x)")


def _order(xp: Any, x: Any) -> Any:
    """Give the indices that sort a vector stably; complex numbers by the real part, then by the imaginary one."""
    if x.dtype in COMPLEX:
        order = _order(xp, xp.imag(x))
        return xp.take(order, _order(xp, xp.take(xp.real(x), order)))
    return xp.argsort(xp.astype(x, xp.dtype("uint8")) if xp.kind(x.dtype) == "b" else x, stable=True)


def _positions(xp: Any, x: Any, *, wanted: str) -> tuple[Any, Any, Any]:
    """Give, of the unique elements in ascending order, the first positions, the inverse, and the counts."""
    flat = xp.reshape(x, (-1,))
    size, place = flat.shape[0], device_of(x)
    order = _order(xp, flat)
    if size == 0:
        return order, xp.reshape(order, x.shape), order
    ascending = xp.take(flat, order)
    first = xp.concat([xp.ones((1,), dtype=xp.dtype("bool"), device=place), ascending[1:] != ascending[:-1]])
    group = xp.cumulative_sum(xp.astype(first, order.dtype), dtype=order.dtype) - 1
    (starts,) = xp.nonzero(first)
    ends = xp.concat([starts[1:], xp.full((1,), size, dtype=starts.dtype, device=place)])
    return xp.take(order, starts), xp.reshape(xp.take(group, xp.argsort(order)), x.shape), ends - starts


Backend.fallbacks["unique_positions"] = _positions
_UNIQUE = [
    case((2, 3), dynamic=True),
    case(integers((2, 4), 0, 2), kinds="f", dynamic=True),
    case((), dynamic=True),
    case((0,), dynamic=True),
    case(strided((3,)), kinds="fc", dynamic=True),
]
unique_positions = Op(
    "unique_positions",
    "x, /, *, wanted",
    ["x"],
    batch=_refuse,
    abstract=_refuse,
    cases=[case((2, 3), dynamic=True, wanted="unique_all"), case((0, 2), dynamic=True, wanted="unique_all")],
)


# --- the standard's functions ---------------------------------------------------------------------------------------------------------------
def _values(xp: Any, x: Any, indices: Any) -> Any:
    return xp.gather(xp.reshape(x, (math.prod(x.shape),)), indices)


@composite("unique_all", "x, /", ["x"], cases=_UNIQUE, outputs=UniqueAll)
def unique_all(xp: Any, x: Any) -> tuple[Any, ...]:
    """Give the unique elements in ascending order, where each is first, where each element of ``x`` is among them, how often each occurs."""
    indices, inverse, counts = xp.unique_positions(x, wanted="unique_all")
    return _values(xp, x, indices), indices, inverse, counts


@composite("unique_counts", "x, /", ["x"], cases=_UNIQUE, outputs=UniqueCounts)
def unique_counts(xp: Any, x: Any) -> tuple[Any, ...]:
    """Give the unique elements in ascending order, and how often each occurs."""
    indices, _, counts = xp.unique_positions(x, wanted="unique_counts")
    return _values(xp, x, indices), counts


@composite("unique_inverse", "x, /", ["x"], cases=_UNIQUE, outputs=UniqueInverse)
def unique_inverse(xp: Any, x: Any) -> tuple[Any, ...]:
    """Give the unique elements in ascending order, and where each element of ``x`` is among them."""
    indices, inverse, _ = xp.unique_positions(x, wanted="unique_inverse")
    return _values(xp, x, indices), inverse


@composite("unique_values", "x, /", ["x"], cases=_UNIQUE)
def unique_values(xp: Any, x: Any) -> Any:
    """Give the unique elements in ascending order."""
    return _values(xp, x, xp.unique_positions(x, wanted="unique_values")[0])


# --- membership -----------------------------------------------------------------------------------------------------------------------------
def _among(xp: Any, x1: Any, elements: Any, invert: bool) -> Any:
    """Compare each element of ``x1`` with each along the last axis of ``elements``."""
    found = xp.any(xp.expand_dims(x1, axis=x1.ndim) == elements, axis=-1)
    return xp.logical_not(found) if invert else found


def _isin(xp: Any, x1: Any, x2: Any, *, invert: bool = False) -> Any:
    return _among(xp, x1, xp.reshape(x2, (-1,)), invert)


def _isin_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x1, x2 = args
    if not batched[1]:
        return xp.isin(x1, x2, **params)
    return _among(xp, x1, xp.reshape(x2, (size, *(1,) * (x1.ndim - batched[0]), math.prod(x2.shape[1:]))), params["invert"])


Backend.fallbacks["isin"] = _isin
isin = Op(
    "isin",
    "x1, x2, /, *, invert=False",
    ["x1", "x2"],
    scalars=True,
    batch=_isin_batch,
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, xp.dtype("bool")),
    cases=[
        case((2, 3), (4,), kinds="i"),
        case((5,), (2, 2), kinds="i", invert=True),
        case((), (3,), kinds="i"),
        case((3,), (), kinds="i"),
        case((3,), 2, kinds="i", invert=True),
        case(2, (3,), kinds="i"),
        case((2, 2), (0,), kinds="i"),
        case((0,), (2,), kinds="i", invert=True),
    ],
)
