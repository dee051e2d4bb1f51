"""True derivatives, and how far from them a result may lie. No tolerance is set by hand: how much is to be granted is measured.

*Fifty digits.* A call is computed with numbers of fifty digits (mparray, on mpmath) at both ends of a step of 1e-20: the difference has about
twenty right digits, so what separates it from a library's derivative is that library's own rounding. Operands and tangents are then moved by
one rounding each, and the derivative with them: that is the error which correct rounding may leave.

*Extrapolation.* Where mparray is not installed or has no such function (``linalg.eig``), central differences in double precision with three
steps, extrapolated twice (Richardson). The last correction is the estimate of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.conformance.comparing import ROUNDINGS, Function, host, parts
from agnostic_ad.conformance.phases import settled
from agnostic_ad.errors import MissingFunctionError
from agnostic_ad.namespaces import backend_of
from agnostic_ad.samples import TINY

__all__ = ["AVAILABLE", "NUDGES", "WITHOUT", "Truth", "extrapolated", "fifty_digits", "nudged", "truth"]

AVAILABLE = find_spec("mparray") is not None
"""Whether there are fifty digits."""
WITHOUT = (
    "mparray is not installed: derivatives were compared with differences in double precision alone, not with fifty digits, and the values of "
    "NumPy with nothing."
)
"""What a report says where there are none."""
DIGITS, MORE = 80, 240
"""How many are computed with, so that the difference leaves fifty: it loses twenty, and as many again where numbers are small. More, where very
small or large ones are among them: 120 are lost where the squares of 1e-30 and 1e30 are added."""
STEP = 2.0**-66
"""Of the differences: 1e-20, and a power of two, by which numbers are multiplied and divided without rounding."""
STEPS = (4e-3, 2e-3, 1e-3)
"""Of the extrapolation. Their errors go down with the sixth power, to that of rounding at the last; where a kink lies between, they do not
agree, and the estimate is large."""
KINK = 1e-6
"""What slopes on either side differ by, relative to them, where there is a kink."""
NUDGES = 4
"""How often operands and tangents are moved at most: each time every element up or down by one rounding."""
NOISE = 2.0**10
"""How many roundings the values may be off that are extrapolated from: second derivatives and decompositions are long computations."""


class Truth(NamedTuple):
    """A derivative along tangents of each operand alone, and the error to be granted; lists hold one array a result.

    Attributes
    ----------
    results, result_errors : list of ndarray
        The results themselves.
    values, errors : list of list of ndarray
        For each operand that moves, the derivatives, and the absolute errors that rounding may leave, element by element.
    """

    results: list[Any]
    result_errors: list[Any]
    values: list[list[Any]]
    errors: list[list[Any]]


_KNOWN: dict[str, Truth | None] = {}


def fifty_digits(f: Function) -> Truth | None:
    """Give results and derivatives to fifty digits, along the tangents of draw 0.

    Returns
    -------
    Truth or None
        None where mparray is missing, or lacks a function; for arrays without elements; and where the library gives another of several right
        results (eigenvectors, which may be turned).
    """
    key = f"{f.call.key} {f.unit}"
    if key not in _KNOWN:
        _KNOWN[key] = _computed(f) if AVAILABLE else None
    found = _KNOWN[key]
    return found if found is not None and all(_alike(host(y), r) for y, r in zip(f.value, found.results, strict=True)) else None


def truth(f: Function) -> Truth:
    """Give the derivatives of a function along its tangents of draw 0: to fifty digits, or by extrapolation."""
    found = fifty_digits(f)
    if found is not None:
        return found
    pairs = [extrapolated(f, f.point, t, f.unit) for t in f.alone(f.tangents(0))]
    results = [host(y) for y in f.value]
    return Truth(results, [np.zeros(y.shape) for y in results], [v for v, _ in pairs], [e for _, e in pairs])


def _alike(a: Any, b: Any) -> bool:
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= 1e-3 * np.max(np.abs(b), initial=0.0)))


# --- fifty digits ---------------------------------------------------------------------------------------------------------------------------
def _computed(f: Function) -> Truth | None:
    if any(0 in x.shape for x in f.point):
        return None
    import mpmath

    moving = f.call.moving
    operands = [_double(x) if i in f.call.arrays else x for i, x in enumerate(f.operands)]
    tangents = [_double(t) for t in f.tangents(0)]
    far = any(not TINY <= f.call.case.operands[i].scale <= 1.0 for i in moving)
    with mpmath.workdps(MORE if far else DIGITS):
        try:
            results, values = _derivatives(f.call, operands, tangents)
            moved = [_derivatives(f.call, *there) for there in _around(f, operands, tangents)]
        except MissingFunctionError:
            return None
    with np.errstate(invalid="ignore"):  # the difference of infinities
        result_errors = [f.grant(y, [m[k] - y for m, _ in moved]) for k, y in enumerate(results)]
        errors = [
            [f.grant(y, [m[i][k] - y for _, m in moved]) + f.floor(results[k]) for k, y in enumerate(ys)] for i, ys in enumerate(values)
        ]
    return Truth(results, result_errors, values, errors)


def _around(f: Function, operands: Sequence[Any], tangents: Sequence[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Yield operands and tangents, each number moved by one rounding.

    A number that an elementwise operation gives depends on one of each operand, so a few patterns of signs find the largest effect but for a factor
    of two: orthogonal ones (Hadamard's), as many as there are real and imaginary parts. Of a rounding in the tangent, `Function.grant` knows.
    Other operations add up many numbers, which are moved by lot, and Python's own with them.
    """
    moving, rng = f.call.moving, np.random.default_rng(0)
    components = [(i, part) for i in moving for part in ((1.0, 1j) if np.iscomplexobj(operands[i]) else (1.0,))]
    if not f.call.op.elementwise or len(components) > NUDGES:
        for _ in range(NUDGES):
            there = [nudged(rng, x, f.unit) if i in moving or isinstance(x, float) else x for i, x in enumerate(operands)]
            yield there, [nudged(rng, t, f.unit) for t in tangents]
        return
    for row in range(1 << (len(components) - 1).bit_length()):
        there = list(operands)
        for column, (i, unit) in enumerate(components):
            part = np.real(operands[i]) if unit == 1.0 else np.imag(operands[i])
            there[i] = there[i] + part * unit * (f.unit if (row & column).bit_count() % 2 == 0 else -f.unit)
        yield there, list(tangents)


def nudged(rng: np.random.Generator, x: Any, unit: float) -> Any:
    """Move a number, or each of an inexact NumPy array, up or down by one rounding, by lot; real and imaginary parts each their own way."""
    if np.iscomplexobj(x):
        return nudged(rng, np.real(x), unit) + 1j * nudged(rng, np.imag(x), unit)
    if isinstance(x, float):
        return x * (1 + unit * float(rng.choice([-1.0, 1.0])))
    return x * (1 + unit * rng.choice([-1.0, 1.0], x.shape))


def _derivatives(call: Call, operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[list[Any]]]:
    """Give the inexact results, and for each operand that moves their differences, computed with many digits."""
    import mparray

    many = [mparray.asarray(x) if i in call.arrays else x for i, x in enumerate(operands)]

    def results(there: list[Any]) -> list[Any]:
        return [part for part in settled(call, parts(call(there))) if mparray.isdtype(part.dtype, ("real floating", "complex floating"))]

    here, found = results(many), []
    for i, t in zip(call.moving, tangents, strict=True):
        there = list(many)
        there[i] = many[i] + mparray.asarray(t * STEP)
        found.append([_rounded(a - b) / STEP for a, b in zip(results(there), here, strict=True)])
    return [_rounded(y) for y in here], found


def _rounded(x: Any) -> Any:
    return backend_of(x).to_numpy(x).astype(np.complex128 if np.dtype(x.dtype).kind == "c" else np.float64)


def _double(x: Any) -> Any:
    x = host(x)
    return x.astype({"f": np.float64, "c": np.complex128}.get(x.dtype.kind, x.dtype))


# --- extrapolation --------------------------------------------------------------------------------------------------------------------------
def extrapolated(f: Callable[..., Any], point: Sequence[Any], tangents: Sequence[Any], unit: float) -> tuple[list[Any], list[Any]]:
    """Give the derivative of ``f`` along tangents, and the absolute error to be granted, on the host.

    Ridders' scheme (Advances in Engineering Software 4, 1982), with two corrections.
    """
    slopes, sides = [], []
    here = [host(y) for y in f(*point)]
    for h in STEPS:
        ahead, behind = ([host(y) for y in f(*(x + t * s for x, t in zip(point, tangents, strict=True)))] for s in (h, -h))
        slopes.append([(a - b) / (2 * h) for a, b in zip(ahead, behind, strict=True)])
        sides.append([(a + b - 2 * y) / h for a, b, y in zip(ahead, behind, here, strict=True)])
    values, errors = [], []
    for coarse, middle, fine, (_, wide, narrow), y in zip(*slopes, zip(*sides, strict=True), here, strict=True):
        first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
        value = (16 * second - first) / 15
        noise = NOISE * unit * (np.max(np.abs(y), initial=0.0) / STEPS[-1] + np.abs(value))
        jump = np.abs(2 * narrow - wide)  # between the slopes on either side, which differences in the middle do not see
        values.append(value)
        errors.append(ROUNDINGS * np.abs(value - second) + noise + np.where(jump > KINK * np.abs(value) + noise, jump, 0.0))
    return values, errors
