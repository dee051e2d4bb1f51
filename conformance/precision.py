"""The law of lower precisions: float32, complex64, float16, bfloat16 against double precision at the same numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.conformance.comparing import GRAINS, ROUNDINGS, Function, LawBroken, Place, function, host, kept, near
from agnostic_ad.conformance.oracle import NUDGES, nudged
from agnostic_ad.namespaces import lookup

__all__ = ["lower_precision_agrees"]

LARGEST = 65504.0
"""Of float16."""


def lower_precision_agrees(call: Call, place: Place) -> bool:
    """From float32, complex64 and 16 bits come derivatives of that dtype: those of double precision, but for rounding, which is measured."""
    if call.precision == "double" or "dtype" in call.case.params:
        return False
    try:
        return _narrow(call, place)
    except LawBroken:
        raise
    except Exception:
        if call.precision == "single":
            raise
        return False  # the standard knows no numbers of 16 bits, and few libraries compute everything with them


def _narrow(call: Call, place: Place) -> bool:
    f = function(call, place)
    if f is None or not all(np.all(np.isfinite(host(x))) for x in (*f.point, *f.value)):
        return False
    if call.precision != "single" and any(y.dtype != f.point[0].dtype for y in f.value):
        return False  # computed with more
    cts, tangents = f.cotangents(1), f.tangents(0)
    y, pullback = ad.vjp(f, *f.point)
    found = [*y, *ad.jvp(f, f.point, tangents)[1], *pullback(cts)]
    kept("the results", found, [*f.value, *f.value, *f.point], place)
    widths = {str(x.dtype).rpartition(".")[2] for x in found} - {"float32", "complex64"}
    if call.precision == "single" and widths:
        raise LawBroken(f"{call.dtype} in, {', '.join(sorted(widths))} out")
    expected, errors = _measured(call, place, f, tangents, cts)
    if call.precision != "single":  # a series of many terms, as of the incomplete gamma function, leaves one digit of three
        least = ROUNDINGS * GRAINS.get(call.precision, 0.0)
        # Not of what is infinite or NaN: numbers too small for 16 bits are zeros, where a root has no slope.
        largest = [np.max(np.abs(y), where=np.isfinite(y), initial=0.0) for y in expected]
        errors = [e + least + f.rounding * size for e, size in zip(errors, largest, strict=True)]
    if call.precision == "half":  # what is beyond the largest number is infinite there, and right
        found, expected = ([np.clip(host(x), -LARGEST, LARGEST) for x in xs] for xs in (found, expected))
    near(f"in {call.dtype} (results, tangents, cotangents)", found, expected, errors)
    return True


def _measured(call: Call, place: Place, f: Function, tangents: Any, cts: Any) -> tuple[list[Any], list[Any]]:
    """Give results, tangents and cotangents in double precision at the same numbers, and how far roundings of all of them may lie."""
    backend, rng = place.backend, np.random.default_rng(0)

    def wide(x: Any) -> Any:
        return host(x).astype(np.complex128 if backend.kind(x.dtype) == "c" else np.float64)

    def at(move: Callable[[Any], Any]) -> list[Any]:
        def array(x: Any) -> Any:
            return backend.from_numpy(np.asarray(move(wide(x))), place.device)

        operands = [array(x) if lookup(x) is not None and backend.kind(x.dtype) in "fc" else x for x in f.operands]
        there = Function(replace(call, precision="double"), place, operands)
        y, pullback = ad.vjp(there, *there.point)
        return [host(x) for x in (*y, *ad.jvp(there, there.point, tuple(map(array, tangents)))[1], *pullback(tuple(map(array, cts))))]

    expected = at(lambda x: x)
    moved = [at(functools.partial(nudged, rng, unit=f.unit)) for _ in range(NUDGES)]
    count = len(f.value)
    floors = [*(f.floor(y) for y in expected[:count] * 2), *f.floors()]
    return expected, [f.grant(y, [m[k] - y for m in moved]) + floor for k, (y, floor) in enumerate(zip(expected, floors, strict=True))]
