"""Losses between scores and classes."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import unify
from agnostic_ad.nn.functional.affine import linear
from agnostic_ad.nn.functional.reductions import check_classes, check_reduction, old_reduction, reduced
from agnostic_ad.rules import QUICK

__all__ = ["cross_entropy", "linear_cross_entropy", "nll_loss"]

_cross_entropy = QUICK["nn.softmax_cross_entropy"]
_log_softmax = QUICK["nn.log_softmax"]
_pick = QUICK["nn.pick"]


def _namespace(*arrays: Any) -> Any:
    """Give the namespace that computes with the arrays together: a library's backend, or a level's."""
    return unify([a for a in arrays if a is not None])[0]


def _check(name: str, input: Any, target: Any, weight: Any, xp: Any) -> tuple[int, Any]:
    """Give the axis of the classes and their number; refuse class indices that do not fit."""
    shape, given = tuple(input.shape), tuple(target.shape)
    if not shape:
        raise ValueError(f"{name}: scores have the shape (C,), (N, C) or (N, C, d1, ...); got one number")
    axis = 0 if len(shape) == 1 else 1
    if weight is not None:
        if tuple(weight.shape) != (shape[axis],):
            raise ValueError(f"{name}: weight has shape {tuple(weight.shape)}; one number for each of {shape[axis]} classes is wanted")
        if weight.dtype != input.dtype:
            raise TypeError(f"{name}: weight has dtype {weight.dtype}; the input's, {input.dtype}, is wanted")
    if not xp.isdtype(target.dtype, "integral"):
        more = "; class probabilities have the shape of the scores" if name == "cross_entropy" else ""
        raise TypeError(f"{name}: class indices are integers, not {target.dtype}{more}")
    wanted = (*shape[:axis], *shape[axis + 1 :])
    if given != wanted:
        if given and wanted and given[0] != wanted[0]:
            raise ValueError(f"{name}: a batch of {wanted[0]} scores and one of {given[0]} targets; they have one size")
        more = " and class probabilities are floating" if name == "cross_entropy" and given == shape else ""
        raise ValueError(f"{name}: class indices for scores of shape {shape} have shape {wanted}, not {given}{more}")
    return axis, shape[axis]


def _signed(xp: Any, target: Any) -> Any:
    """Give class indices that can be compared with a negative number."""
    return xp.astype(target, xp.int64) if xp.isdtype(target.dtype, "unsigned integer") else target


def _factors(xp: Any, target: Any, weight: Any) -> Any:
    """Give the weights of the targets' classes."""
    return xp.reshape(xp.take(weight, xp.reshape(target, (-1,)), axis=0), target.shape)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give what the negative logarithm of the probability of a class is: minus the entry that the class names.

    Parameters
    ----------
    input : array
        Logarithms of probabilities, of shape (C,), (N, C) or (N, C, d1, d2, ...).
    target : array
        Class indices of shape (), (N,) or (N, d1, d2, ...).
    weight, ignore_index, size_average, reduce, reduction
        As for `cross_entropy`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> float(F.nll_loss(np.log(np.asarray([[0.25, 0.75]])), np.asarray([0])))
    1.3862943611198906
    """
    reduction = old_reduction(size_average, reduce, reduction)
    xp = _namespace(input, target, weight)
    axis, count = _check("nll_loss", input, target, weight, xp)
    target = _signed(xp, target)
    check_classes("nll_loss", target, count, ignore_index)
    kept = target != ignore_index
    target = xp.where(kept, target, xp.zeros_like(target))
    losses, counted = -_pick(input, target, axis=axis), xp.astype(kept, input.dtype)
    if weight is not None:
        factors = _factors(xp, target, weight)
        losses, counted = xp.multiply(losses, factors), xp.multiply(counted, factors)
    return reduced(xp.where(kept, losses, xp.zeros_like(losses)), reduction, counted)


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
    size_average, reduce : bool, optional
        The former names of ``reduction``.
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
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"cross_entropy: label_smoothing lies between 0 and 1, not {label_smoothing}")
    xp = _namespace(input, target, weight)
    if tuple(target.shape) == tuple(input.shape) and xp.isdtype(target.dtype, ("real floating", "complex floating")):
        if ignore_index >= 0:
            raise ValueError("cross_entropy: ignore_index is for class indices; the target holds class probabilities")
        return _soft_cross_entropy(xp, input, target, weight, reduction, label_smoothing)
    axis, count = _check("cross_entropy", input, target, weight, xp)
    target = _signed(xp, target)
    check_classes("cross_entropy", target, count, ignore_index)
    kept = target != ignore_index
    counted = xp.astype(kept, input.dtype)
    losses = _cross_entropy(input, target, axis=axis, ignore_index=ignore_index)
    if weight is not None:
        counted = xp.multiply(counted, _factors(xp, xp.where(kept, target, xp.zeros_like(target)), weight))
        losses = xp.multiply(losses, counted)
    if label_smoothing:
        spread = -_log_softmax(input, axis=axis)
        spread = xp.sum(spread if weight is None else xp.multiply(spread, _per_class(xp, weight, input, axis)), axis=axis) / count
        losses = (1 - label_smoothing) * losses + label_smoothing * xp.where(kept, spread, xp.zeros_like(spread))
    return reduced(losses, reduction, counted)


def _per_class(xp: Any, weight: Any, input: Any, axis: int) -> Any:
    return xp.reshape(weight, (-1, *(1,) * (len(input.shape) - 1 - axis)))


def _soft_cross_entropy(xp: Any, input: Any, target: Any, weight: Any, reduction: str, label_smoothing: float) -> Any:
    """Give the cross entropy of class probabilities."""
    axis = 0 if len(input.shape) == 1 else 1
    if weight is not None and tuple(weight.shape) != (input.shape[axis],):
        raise ValueError(
            f"cross_entropy: weight has shape {tuple(weight.shape)}; one number for each of {input.shape[axis]} classes is wanted"
        )
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
    losses = xp.multiply(-_log_softmax(input, axis=axis), target)
    return reduced(xp.sum(losses if weight is None else xp.multiply(losses, _per_class(xp, weight, input, axis)), axis=axis), reduction)


def linear_cross_entropy(
    input: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: None = None,
) -> Any:
    """Give the cross entropy of the scores ``input @ linear_weight.T + linear_bias``.

    Parameters
    ----------
    input : array
        Shape (in_features,) or (N, in_features).
    linear_weight : array
        Shape (C, in_features); or (C, d1, d2, ..., in_features), which takes a batch of inputs.
    target : array
        Class indices of shape (), (N,) or (N, d1, d2, ...); or class probabilities of shape (C,), (N, C) or (N, C, d1, d2, ...).
    linear_bias : array, optional
        Shape (C,) or (C, d1, d2, ...).
    ignore_index : int, optional
        As for `cross_entropy`; for class indices only.
    weight, reduction, label_smoothing
        As for `cross_entropy`.
    options : None
        PyTorch's choice of how to compute in pieces; there is none here.
    """
    if options is not None:
        raise NotImplementedError("linear_cross_entropy: there are no options here; the scores are computed at once. Leave options=None.")
    check_reduction(reduction)
    shape = tuple(linear_weight.shape)
    if len(input.shape) not in (1, 2):
        raise ValueError(f"linear_cross_entropy: the input has shape (in_features,) or (N, in_features), not {tuple(input.shape)}")
    if len(shape) < 2:
        raise ValueError(f"linear_cross_entropy: linear_weight has shape (C, ..., in_features), not {shape}")
    if input.shape[-1] != shape[-1]:
        raise ValueError(f"linear_cross_entropy: the input has {input.shape[-1]} features, linear_weight {shape[-1]}; they have as many")
    if linear_bias is not None and tuple(linear_bias.shape) != shape[:-1]:
        raise ValueError(f"linear_cross_entropy: linear_bias has shape {tuple(linear_bias.shape)}; {shape[:-1]} is wanted")
    if len(shape) > 2 and len(input.shape) == 1:
        raise ValueError(
            f"linear_cross_entropy: linear_weight of shape {shape} takes a batch of inputs, not one of shape {tuple(input.shape)}"
        )
    reshape = QUICK["reshape"]
    if len(shape) > 2:
        linear_weight = reshape(linear_weight, (math.prod(shape[:-1]), shape[-1]))
        linear_bias = None if linear_bias is None else reshape(linear_bias, (math.prod(shape[:-1]),))
    scores = linear(input, linear_weight, linear_bias)
    scores = reshape(scores, (*input.shape[:-1], *shape[:-1])) if len(shape) > 2 else scores
    if tuple(target.shape) == tuple(scores.shape) and ignore_index is not None:
        raise ValueError("linear_cross_entropy: ignore_index is for class indices; the target holds class probabilities")
    ignore = -100 if ignore_index is None else ignore_index
    return cross_entropy(scores, target, weight=weight, reduction=reduction, ignore_index=ignore, label_smoothing=label_smoothing)
