"""What update formulas are made of: how states start, passes over memory, numbers that may be arrays."""

from __future__ import annotations

from typing import Any

from agnostic_ad.levels import Array

__all__ = [
    "STEP",
    "choose",
    "decayed",
    "filled",
    "larger",
    "lerp",
    "mix",
    "move",
    "move_by_root",
    "norm",
    "on",
    "root_of",
    "sqrt",
    "where",
    "zeros",
]

# --- how states start -----------------------------------------------------------------------------------------------------------------


def zeros(xp: Any, p: Any, h: Any) -> Any:
    """Start with zeros."""
    return xp.zeros_like(p)


def filled(name: str) -> Any:
    """Start with the value of a hyperparameter."""
    return lambda xp, p, h: xp.zeros_like(p) + getattr(h, name)


def where(name: str, make: Any = zeros) -> Any:
    """Start so where a hyperparameter is on, and not at all elsewhere."""
    return lambda xp, p, h: make(xp, p, h) if on(getattr(h, name)) else None


STEP = {"step": 0}

# --- passes over memory: what is assigned to is written into, where arrays can be -------------------------------------------------------


def lerp(x: Any, to: Any, weight: Any) -> Any:
    """Move ``x`` a part of the way."""
    change = to - x
    change *= weight
    x += change
    return x


def mix(x: Any, keep: Any, y: Any, z: Any, weight: Any) -> Any:
    """Give ``keep * x + weight * y * z``, in ``x``."""
    x *= keep
    product = y * z
    product *= weight
    x += product
    return x


def move(p: Any, rate: Any, direction: Any, by: Any = None) -> Any:
    """Give ``p - rate * direction``, or ``p - rate * direction / by``, in ``p``."""
    change = rate * direction if by is None else direction / by
    if by is not None:
        change *= rate
    p -= change
    return p


def sqrt(xp: Any, x: Any) -> Any:
    """Give the root; its derivative at zero is zero here, for an element that no gradient reaches has none."""
    wrapped = isinstance(x, Array)
    if not wrapped:
        return xp.sqrt(x)
    zero = x == 0
    return xp.where(zero, xp.zeros_like(x), xp.sqrt(xp.where(zero, xp.ones_like(x), x)))


def norm(xp: Any, x: Any) -> Any:
    """Give the Euclidean norm of all elements."""
    return sqrt(xp, xp.sum(x * x))


def root_of(xp: Any, square: Any, eps: Any) -> Any:
    """Give ``sqrt(square) + eps``."""
    root = sqrt(xp, square)
    root += eps
    return root


def move_by_root(xp: Any, p: Any, rate: Any, direction: Any, square: Any, left: Any, eps: Any) -> Any:
    """Give ``p - rate * direction / (sqrt(square / left) + eps)``, in ``p``; ``left`` is what a mean of squares lacks at its start."""
    scale = left**0.5  # a number: in its place a pass over memory would do
    return move(p, rate * scale, direction, root_of(xp, square, eps * scale))


# --- numbers that may be arrays -----------------------------------------------------------------------------------------------------------


def on(x: Any) -> bool:
    """Tell whether a hyperparameter has an effect; an array may have."""
    return hasattr(x, "shape") or bool(x)


def choose(xp: Any, when: Any, a: Any, b: Any) -> Any:
    """Give ``a`` or ``b``, by a boolean or an array of booleans; one of them is an array if that is."""
    if not hasattr(when, "shape"):
        return a if when else b
    zero = xp.zeros_like(a if hasattr(a, "shape") else b)
    return xp.where(when, a + zero, b + zero)


def larger(xp: Any, x: Any, y: Any) -> Any:
    """Give the larger."""
    return choose(xp, x > y, x, y)


def decayed(p: Any, g: Any, h: Any) -> tuple[Any, Any]:
    """Pull the parameter to zero: directly where the decay is decoupled, else by way of the gradient."""
    if on(h.weight_decay):
        if getattr(h, "decoupled_weight_decay", False):
            p *= 1 - h.lr * h.weight_decay
        else:
            g = g + h.weight_decay * p
    return p, g
