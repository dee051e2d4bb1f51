"""The arguments that several transforms take, and what is refused of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

__all__ = ["InterpolationMode", "fraction", "interpolation", "is_number", "pair", "sides", "sizes", "span"]


class InterpolationMode(Enum):
    """How to find the value between pixels; the string, and Pillow's number, do as well.

    Examples
    --------
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.InterpolationMode("bilinear")
    <InterpolationMode.BILINEAR: 'bilinear'>
    """

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


_OF_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
RESIZING = ("nearest", "nearest-exact", "bilinear", "bicubic", "lanczos")
MOVING = ("nearest", "bilinear")


def interpolation(what: str, mode: Any, known: tuple[str, ...]) -> str:
    """Give the mode as a string, or refuse it."""
    name = mode.value if isinstance(mode, InterpolationMode) else mode
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(_OF_PILLOW):
        name = _OF_PILLOW[name]
    if name not in known:
        raise ValueError(f"{what}: interpolation is one of {', '.join(map(repr, known))}, not {name!r}")
    return str(name)


def is_number(x: Any) -> bool:
    """Tell whether ``x`` is a finite real number (of Python or NumPy), and no boolean."""
    return not isinstance(x, bool) and hasattr(x, "__float__") and getattr(x, "shape", ()) == () and math.isfinite(float(x))


def _integer(x: Any) -> bool:
    return not isinstance(x, bool) and hasattr(x, "__index__")


def sizes(what: str, name: str, value: Any) -> tuple[int, int]:
    """Give (height, width) of one integer or two, of 1 or more."""
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(given) not in (1, 2) or not all(_integer(n) and int(n) >= 1 for n in given):
        raise ValueError(f"{what}: {name} is an integer of 1 or more, or (height, width), not {value!r}")
    return int(given[0]), int(given[-1])


def pair(what: str, name: str, value: Any) -> tuple[float, float]:
    """Give two numbers of one or two."""
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(given) not in (1, 2) or not all(map(is_number, given)):
        raise ValueError(f"{what}: {name} is a number or two, not {value!r}")
    return float(given[0]), float(given[-1])


def span(what: str, name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """Give two numbers in order, between ``low`` and ``high``."""
    if not isinstance(value, Sequence) or len(value) != 2 or not all(map(is_number, value)):
        raise ValueError(f"{what}: {name} is a pair (min, max) of numbers, not {value!r}")
    a, b = map(float, value)
    if not low <= a <= b <= high:
        within = (
            "" if math.isinf(low) and math.isinf(high) else f", {low:g} <= min <= max" + (f" <= {high:g}" if math.isfinite(high) else "")
        )
        raise ValueError(f"{what}: {name} is a pair (min, max){within}, not {value!r}")
    return a, b


def fraction(what: str, name: str, value: Any) -> float:
    """Give a number between 0 and 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{what}: {name} lies between 0 and 1; got {value!r}")
    return float(value)


def sides(what: str, padding: Any) -> tuple[int, int, int, int]:
    """Give (left, top, right, bottom) of one integer, of (left and right, top and bottom), or of all four."""
    given = tuple(padding) if isinstance(padding, Sequence) else (padding,)
    if len(given) not in (1, 2, 4) or not all(map(_integer, given)):
        raise ValueError(f"{what}: padding is an integer, (left and right, top and bottom) or (left, top, right, bottom), not {padding!r}")
    left, top, right, bottom = (map(int, given * (4 // len(given)))) if len(given) < 4 else map(int, given)
    return left, top, right, bottom
