"""What the laws are written with: where to compute, a call as a function of its operands, and comparisons that say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.backends import Backend
from agnostic_ad.conformance.catalogue import EPS, Call
from agnostic_ad.conformance.phases import settled
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import lookup

__all__ = ["GRAINS", "ROUNDINGS", "Function", "LawBroken", "Place", "close", "function", "host", "inner", "kept", "near", "parts", "sizes"]

ROUNDINGS = 64.0
"""How many times the largest effect of a rounding in the operands a result may be off: a rule is a handful of operations, each with its own."""
SPECIAL = 256.0
"""The same for special functions, which are sums of many terms, some of them differences: 6e-14 in double precision."""
GRAINS = {"half": 2.0**-24}
"""The distance between numbers near zero, where that is no matter of course: half precision has no small numbers."""
TINIEST = 1e-100
LONG = 2.0**19
"""How many roundings lie between two ways to compute one thing: 1e-10 in double precision. It is for long computations (second derivatives of
decompositions), where nothing measures their condition; what is wrong is off by more."""


class LawBroken(AssertionError):
    """A law does not hold for a call."""


@dataclass(frozen=True)
class Place:
    """Where to compute: a library, and one of its devices (None: its default)."""

    backend: Backend
    device: Any = None

    def __str__(self) -> str:
        return self.backend.name if self.device is None else f"{self.backend.name} on {self.device}"


# --- arrays -------------------------------------------------------------------------------------------------------------------------------
def parts(y: Any) -> list[Any]:
    """Give one result or several as a list."""
    return list(y) if isinstance(y, tuple | list) else [y]


def host(x: Any) -> Any:
    """Give an array of any library, level and dtype as a NumPy array; floating numbers narrower than single precision as that."""
    while isinstance(x, Array):
        x = x.payload
    backend = lookup(x)
    if backend is None:
        return np.asarray(x)
    if backend.kind(x.dtype) == "f" and str(x.dtype).endswith("float16"):  # bfloat16, which NumPy has not, too
        x = backend.astype(x, backend.dtype("float32"))
    return np.asarray(backend.to_numpy(x))


def sizes(x: Any) -> tuple[Any, ...]:
    """Give a shape; None for a size that a lazy library does not know (dask says NaN)."""
    return tuple(n if n == n else None for n in x.shape)


def inner(a: Any, b: Any) -> float:
    """Give Re(conj(a) b), summed over two sequences of arrays."""
    return float(sum(np.sum(np.real(np.conj(host(x)) * host(y))) for x, y in zip(a, b, strict=True)))


def width(dtype: Any) -> float:
    """Give the distance from one to the next number of a library's dtype; that of double precision for integers."""
    name = str(dtype).rpartition(".")[2]
    return EPS[{"float32": "single", "complex64": "single", "float16": "half", "bfloat16": "brain"}.get(name, "double")]


# --- comparisons --------------------------------------------------------------------------------------------------------------------------
def near(what: str, found: Sequence[Any], expected: Sequence[Any], errors: Sequence[Any]) -> None:
    """Compare arrays, number by number, within an absolute error for each."""
    pairs = list(zip(found, expected, errors, strict=True))
    for number, (a, b, error) in enumerate(pairs):
        a, name = host(a), f"{what}, part {number}" if len(pairs) > 1 else what
        if a.shape != np.shape(b):
            raise LawBroken(f"{name}: shape {a.shape}, expected {np.shape(b)}")
        with np.errstate(all="ignore"):
            off = np.abs(a * 1 - b)  # of booleans, too
        if not np.all((off <= error) | (a == b) | (np.isnan(a) & np.isnan(b))):
            raise LawBroken(f"{name}:\n{a}\nexpected\n{b}\noff by\n{off}\nof which rounding explains\n{error}")


def close(what: str, found: Any, expected: Any, rtol: float, scale: Sequence[float] = (), floors: Sequence[float] = ()) -> None:
    """Compare arrays: shapes, and values relative to the largest number, or to ``scale`` if that is larger, with ``floors`` for what is zero."""
    pairs = list(zip(parts(found), parts(expected), strict=True))
    for number, (a, b) in enumerate(pairs):
        a, b = host(a), host(b)
        name = f"{what}, part {number}" if len(pairs) > 1 else what
        if a.shape != b.shape:
            raise LawBroken(f"{name}: shape {a.shape}, expected {b.shape}")
        if a.dtype.kind in "bui" and b.dtype.kind in "bui":
            same = bool(np.all(a == b))
        else:
            a, b = a.astype(complex), b.astype(complex)
            largest = max(float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0)), scale[number] if scale else 0.0)
            same = bool(np.all(np.isclose(a, b, rtol=0.0, atol=rtol * largest + (floors[number] if floors else 0.0), equal_nan=True)))
        if not same:
            raise LawBroken(f"{name}:\n{a}\nexpected\n{b}")


def kept(what: str, found: Any, like: Any, place: Place) -> None:
    """Require the shape, dtype, library and device of ``like``."""
    for a, b in zip(parts(found), parts(like), strict=True):
        if lookup(a) is not place.backend:
            raise LawBroken(f"{what}: a {type(a).__name__}, which is no array of {place.backend.name}")
        if sizes(a) != sizes(b) or a.dtype != b.dtype:
            raise LawBroken(f"{what}: shape {tuple(a.shape)} and dtype {a.dtype}, expected {tuple(b.shape)} and {b.dtype}")
        if place.backend.device(a) != place.backend.device(b):
            raise LawBroken(f"{what}: on {place.backend.device(a)}, expected {place.backend.device(b)}")


# --- a call as a function -------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Function:
    """A call as a function of its moving operands, with a point and directions to go on with."""

    call: Call
    place: Place
    operands: list[Any]

    @property
    def point(self) -> tuple[Any, ...]:
        """The operands that move."""
        return tuple(self.operands[i] for i in self.call.moving)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The positions of the function's own arguments."""
        return tuple(range(len(self.call.moving)))

    def __call__(self, *moving: Any) -> tuple[Any, ...]:
        """Give the results that may carry a derivative, without the phases of vectors."""
        operands = list(self.operands)
        for i, x in zip(self.call.moving, moving, strict=True):
            operands[i] = x
        return tuple(part for part in settled(self.call, parts(self.call(operands))) if self.place.backend.kind(part.dtype) in "fc")

    @cached_property
    def value(self) -> tuple[Any, ...]:
        """The results at the point."""
        return self(*self.point)

    @cached_property
    def unit(self) -> float:
        """The coarsest rounding: that of the operands, or of the operation itself where it converts."""
        return max(width(x.dtype) for x in (*self.point, *self.value))

    @property
    def rounding(self) -> float:
        """The relative tolerance between two ways to compute one thing."""
        return LONG * self.unit if self.unit == EPS["double"] else min(LONG / 64 * self.unit, 0.1)

    @property
    def roundings(self) -> float:
        """How many roundings a result or a derivative may be off."""
        return SPECIAL if self.call.op.name.startswith("special.") else ROUNDINGS

    def grant(self, y: Any, offs: Sequence[Any]) -> Any:
        """Give the error that roundings may leave in a result or a derivative, from how far it moved when its operands did, by one rounding each.

        Of an elementwise operation, number by number; of others, which add up numbers of several sizes, that of the largest number.
        """
        spread, size = np.max(np.abs(offs), axis=0), np.abs(y)
        if not self.call.op.elementwise:
            spread, size = (np.broadcast_to(np.max(x, initial=0.0), x.shape) for x in (spread, size))
        return self.roundings * (spread + self.unit * size)

    def floor(self, y: Any) -> float:
        """Give the error that roundings may leave in a derivative of the result ``y`` that is zero by cancellation: none in elementwise operations."""
        return 0.0 if self.call.op.elementwise else ROUNDINGS * self.unit * float(np.max(np.abs(y), initial=0.0))

    def floors(self, loss: bool = False) -> tuple[float, ...]:
        """Give the same for the cotangent of each operand.

        Or for Hessian times tangent of the `loss`, where elementwise operations may cancel, too: that of the square root's square is zero.
        """
        largest = max(float(np.max(np.abs(host(y)), initial=0.0)) for y in self.value)
        floor = ROUNDINGS * self.unit * largest * (1 + largest) if loss else self.floor(largest)
        return tuple(floor / max(float(np.max(np.abs(host(x)), initial=0.0)), TINIEST) for x in self.point)

    def cotangents(self, draw: int) -> tuple[Any, ...]:
        """Give random arrays like the results."""
        return tuple(self.call.like(self.place.backend, y, 10 * draw + i) for i, y in enumerate(self.value))

    def tangents(self, draw: int) -> tuple[Any, ...]:
        """Give random directions at the point, of the structure and the magnitude that its operands have."""
        like, moving = self.call.like, self.call.moving
        return tuple(like(self.place.backend, self.operands[i], 10 * draw + n, self.call.case.operands[i]) for n, i in enumerate(moving))

    def alone(self, tangents: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Give tangents of each operand alone, with the others at rest."""
        zeros = [t * 0.0 for t in tangents]
        return [tuple(t if j == i else z for j, z in enumerate(zeros)) for i, t in enumerate(tangents)]

    def loss(self) -> Callable[..., Any]:
        """Give a real function of the point with a Hessian, even where the operation is linear: Re sum(c (y + 0.3 y^2))."""
        weights = self.cotangents(7)

        def loss(*moving: Any) -> Any:
            total: Any = 0.0
            for c, y in zip(weights, self(*moving), strict=True):
                xp = self.place.backend if lookup(y) else ad.namespace(y)
                term = (y + y * y * 0.3) * c  # ours first: array-api-strict refuses foreign operands on the right
                total = xp.sum(xp.real(term) if self.place.backend.kind(y.dtype) == "c" else term) + total
            return total

        return loss


def function(call: Call, place: Place, draw: int = 0) -> Function | None:
    """Give a call as a differentiable function, or None where no derivative passes through it.

    Nor where a lazy library does not know the size of a result: there is nothing to draw a cotangent by.
    """
    if not call.moving:
        return None
    f = Function(call, place, call.draw(place.backend, draw, place.device))
    return f if f.value and not any(None in sizes(part) for part in f.value) else None
