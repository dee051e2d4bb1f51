"""Sizes that became plain numbers: how a graph that is defined once finds them, and what the error says."""

from __future__ import annotations

from typing import Any

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.levels import Symbolic
from agnostic_ad.namespaces import lookup

__all__ = ["ADVICE", "HINT_ONCE", "betrays", "lost"]

HINT_ONCE = 840 * 13
"""The hint of a graph that is defined once, so that nothing can be compared: a number that has it as a divisor was made of a size."""

ADVICE = (
    "A size was turned into a plain number: by int(), range(), math.sqrt() or NumPy, or by a float before it, say. Compute with x.shape[i] "
    "itself (n / 2, n ** 0.5, 1 / n and not 1.0 / n), loop with graph.scan or ad.vmap, or capture with fixed sizes."
)


def lost(label: str, what: str, where: str | None) -> UnsupportedError:
    """Give the error for a size that became a plain number."""
    return UnsupportedError(f"{label}: {what}{f' ({where})' if where else ''}, which does not hold for axes of any size. {ADVICE}")


def betrays(x: Any) -> bool:
    """Tell whether a number, or a constant of shape (), was made of the size of an axis, in a graph that is defined once."""
    backend = None if isinstance(x, Symbolic) or getattr(x, "shape", None) != () else lookup(x)
    if backend is not None and not backend.lazy:
        x = backend.to_numpy(x).item()
    if type(x) not in (int, float) or not x or not 1e-12 < abs(x) < 1e12:
        return False
    for n in (abs(x), 1 / abs(x), x * x, 1 / x / x):  # n itself, 1 / n, and their roots; of float32 too
        whole = round(n) if n < 64 * HINT_ONCE else 0
        if abs(n - whole) < 3e-7 * n and (whole % HINT_ONCE == 0 or whole == HINT_ONCE - 1):
            return True
    return False
