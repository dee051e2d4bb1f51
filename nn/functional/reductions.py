"""What all losses share: how single losses become one, and the checks of what comes in."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

from agnostic_ad.levels import Array, unify
from agnostic_ad.namespaces import lookup
from agnostic_ad.rules import QUICK

__all__: list[str] = []

_divide = QUICK["divide"]
_mean = QUICK["mean"]
_multiply = QUICK["multiply"]
_sum = QUICK["sum"]


def check_reduction(reduction: str, *more: str) -> None:
    """Refuse what is no reduction."""
    known = ("none", "mean", "sum", *more)
    if reduction not in known:
        raise ValueError(f"{reduction!r} is not a valid value for reduction: {', '.join(map(repr, known[:-1]))} or {known[-1]!r} is wanted")


def old_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """Give the reduction that PyTorch's former arguments ask for, where they are given; refuse what is none."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    check_reduction(reduction)
    return reduction


def reduced(losses: Any, reduction: str, weights: Any = None) -> Any:
    """Make of single losses what ``reduction`` says; the mean of none is NaN, and with ``weights`` it is the sum divided by theirs."""
    if reduction == "none":
        return losses
    if reduction == "sum" or 0 in losses.shape:
        total = _sum(losses)
        return total if reduction == "sum" else _multiply(total, math.nan)
    return _mean(losses) if weights is None else _divide(_sum(losses), _sum(weights))


def together(*arrays: Any) -> tuple[Any, list[Any]]:
    """Give the namespace that computes with the arrays together, and the arrays as operands of its operators; None stays None.

    Integers and booleans become numbers of the first array's dtype, as in PyTorch, so that float32 stays float32.
    """
    xp, found = unify(list(arrays))
    dtype = found[0].dtype
    if not xp.isdtype(dtype, ("real floating", "complex floating")):
        return xp, found
    return xp, [xp.astype(x, dtype) if x is not None and xp.isdtype(x.dtype, ("bool", "integral")) else x for x in found]


def pair(name: str, input: Any, target: Any) -> None:
    """Warn where two shapes are broadcast, which is hardly ever meant."""
    if tuple(input.shape) == tuple(target.shape):
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("agnostic_ad."):  # whoever called us
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{name}: using a target of shape {tuple(target.shape)} with an input of shape {tuple(input.shape)}; they are broadcast, which is "
        "hardly ever what is meant. Give them one shape.",
        stacklevel=level,
    )


def checked(x: Any) -> Any:
    """Give the backend and the raw array of ``x``, which may have further axes of a batch, where looking at values is cheap; otherwise None."""
    raw = x.payload if isinstance(x, Array) else x
    backend = lookup(raw)
    return None if backend is None or not backend.checks_bounds or 0 in raw.shape else (backend, raw)


def known(x: Any) -> Any:
    """Give the same for an array that belongs to no transformation, so that sizes may depend on its values."""
    return None if isinstance(x, Array) and x.level.depth else checked(x)


def check_classes(name: str, target: Any, classes: Any, ignore_index: int | None) -> None:
    """Refuse class indices out of range, where looking at them is cheap."""
    found = checked(target)
    if found is None:
        return
    backend, raw = found
    xp = backend.xp
    if int(xp.min(raw)) >= 0 and int(xp.max(raw)) < classes:
        return
    bad = (raw < 0) | (raw >= classes)
    if ignore_index is not None:
        bad = bad & (raw != ignore_index)
    if bool(xp.any(bad)):
        first = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), raw.dtype)))
        raise IndexError(f"{name}: target {int(xp.reshape(raw, (-1,))[first])} is out of bounds for {classes} classes")
