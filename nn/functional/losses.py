"""Losses."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import Array, unify
from agnostic_ad.namespaces import lookup
from agnostic_ad.rules import QUICK

__all__ = ["cross_entropy"]

_cross_entropy = QUICK["nn.softmax_cross_entropy"]
_divide = QUICK["divide"]
_log_softmax = QUICK["nn.log_softmax"]
_sum = QUICK["sum"]


def check_reduction(reduction: str) -> None:
    """Refuse what is no reduction."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction!r} is not a valid value for reduction: 'none', 'mean' or 'sum' is wanted")


def old_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """Give the reduction that PyTorch's former arguments ask for, where they are given."""
    if size_average is None and reduce is None:
        return reduction
    return "none" if reduce is False else "sum" if size_average is False else "mean"


def _xp(*arrays: Any) -> Any:
    """Give the namespace that computes with the arrays together: a library's backend, or a level's."""
    return unify([a for a in arrays if a is not None])[0]


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Give the cross entropy between scores and classes.

    Parameters
    ----------
    input : array
        Scores (logits) of shape (C,), (N, C) or (N, C, d1, d2, ...).
    target : array
        Class indices of shape (), (N,) or (N, d1, d2, ...); or class probabilities of ``input``'s shape and a floating dtype.
    weight : array, optional
        One factor per class, shape (C,).
    ignore_index : int
        The class index that does not count, neither in the sum nor in the mean.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses. With ``weight``, the mean of class indices is the weighted one.
    label_smoothing : float
        How much of the target is spread over all classes, between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> float(F.cross_entropy(np.asarray([[0.0, 100.0]]), np.asarray([0])))
    100.0
    """
    reduction = old_reduction(size_average, reduce, reduction)
    check_reduction(reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing lies between 0 and 1, not {label_smoothing}")
    axis = 0 if len(input.shape) == 1 else 1
    classes = input.shape[axis]
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ValueError(f"cross_entropy: weight has shape {tuple(weight.shape)}; one number for each of {classes} classes is wanted")
    xp = _xp(input, target, weight)
    per_class = None if weight is None else xp.reshape(weight, (-1, *(1,) * (len(input.shape) - 1 - axis)))
    if tuple(target.shape) == tuple(input.shape) and xp.isdtype(target.dtype, ("real floating", "complex floating")):
        return _soft_cross_entropy(xp, input, target, per_class, axis, reduction, label_smoothing)
    if not xp.isdtype(target.dtype, "integral"):
        raise TypeError(f"cross_entropy: class indices are integers, not {target.dtype}; class probabilities have the shape of the scores")
    _check_classes(target, classes, ignore_index)
    kept = target != ignore_index
    counted = xp.astype(kept, input.dtype)
    if weight is not None:
        factors = xp.take(weight, xp.reshape(xp.where(kept, target, xp.zeros_like(target)), (-1,)))
        counted = xp.multiply(counted, xp.reshape(factors, target.shape))
    losses = _cross_entropy(input, target, axis=axis, ignore_index=ignore_index)
    losses = losses if weight is None else xp.multiply(losses, counted)
    if label_smoothing:
        spread = -_log_softmax(input, axis=axis)
        spread = xp.sum(spread if per_class is None else xp.multiply(spread, per_class), axis=axis) / classes
        losses = (1 - label_smoothing) * losses + label_smoothing * spread * xp.astype(kept, input.dtype)
    return losses if reduction == "none" else _sum(losses) if reduction == "sum" else _divide(_sum(losses), _sum(counted))


def _soft_cross_entropy(xp: Any, input: Any, target: Any, per_class: Any, axis: int, reduction: str, label_smoothing: float) -> Any:
    """Give the cross entropy of class probabilities."""
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    losses = xp.multiply(-_log_softmax(input, axis=axis), target)
    losses = xp.sum(losses if per_class is None else xp.multiply(losses, per_class), axis=axis)
    return losses if reduction == "none" else _sum(losses) if reduction == "sum" else _divide(_sum(losses), math.prod(losses.shape))


def _check_classes(target: Any, classes: int, ignore_index: int) -> None:
    """Refuse class indices out of range, where looking at them is cheap."""
    raw = target.payload if isinstance(target, Array) else target
    backend = lookup(raw)
    if backend is None or not backend.checks_bounds or 0 in raw.shape:
        return
    low, high = int(backend.xp.min(raw)), int(backend.xp.max(raw))
    if low < 0 or high >= classes:
        xp = backend.xp
        wrong = raw[((raw < 0) | (raw >= classes)) & (raw != ignore_index)]
        if wrong.shape[0]:
            raise IndexError(f"cross_entropy: target {int(xp.reshape(wrong, (-1,))[0])} is out of bounds for {classes} classes")
