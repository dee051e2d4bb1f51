"""Losses that ask for a margin: between scores, or between distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.levels import device_of, unify
from agnostic_ad.nn.functional.distances import pairwise_distance
from agnostic_ad.nn.functional.reductions import check_classes, check_reduction, old_reduction, reduced, together

__all__ = [
    "cosine_embedding_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]


def margin_ranking_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give max(0, margin - target (input1 - input2)): where ``target`` is 1 the first is to be larger, where it is -1 the second.

    Parameters
    ----------
    input1, input2, target : array
        Of as many axes; they are broadcast.
    margin : float
        By how much.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    shapes = [tuple(x.shape) for x in (input1, input2, target)]
    if len({len(s) for s in shapes}) > 1:
        raise ValueError(
            f"margin_ranking_loss: the inputs and the target have as many axes; got the shapes {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    xp, (a, b, y) = together(input1, input2, target)
    return reduced(xp.clip(margin - y * (a - b), min=0), reduction)


def hinge_embedding_loss(
    input: Any,
    target: Any,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give the distance where ``target`` is 1, and max(0, margin - distance) where it is -1.

    Parameters
    ----------
    input : array
        Distances.
    target : array
        1 for pairs that belong together, -1 for others; it is broadcast.
    margin, size_average, reduce, reduction
        As for `margin_ranking_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    xp, (x, y) = together(input, target)
    none = xp.zeros_like(x)
    return reduced(xp.where(y != 1, xp.clip(margin - x, min=0), none) + xp.where(y != -1, x, none), reduction)


def soft_margin_loss(input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> Any:
    """Give log(1 + exp(-target input)), for targets 1 and -1, without overflow; the other arguments are those of `margin_ranking_loss`."""
    reduction = old_reduction(size_average, reduce, reduction)
    xp, (x, y) = together(input, target)
    return reduced(-xp.special.log_expit(y * x), reduction)


# --- several classes ----------------------------------------------------------------------------------------------------------------------
def _rows(name: str, x: Any) -> tuple[int, ...]:
    """Give the shape of scores of one sample, or of a batch of them."""
    shape = tuple(x.shape)
    if len(shape) > 2 or (shape and shape[-1] == 0):
        raise ValueError(f"{name}: scores have the shape (C,) or (N, C), with a class at least; got {shape}")
    return shape or (1,)


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give the mean over the classes of max(0, margin - score of the right one + score of another) to the power of ``p``.

    Parameters
    ----------
    input : array
        Scores of shape (C,) or (N, C).
    target : array
        Class indices of shape () or (N,).
    p : {1, 2}
        The power.
    weight : array, optional
        One factor per class, by the right one.
    margin, size_average, reduce, reduction
        As for `margin_ranking_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError(f"multi_margin_loss: p is 1 or 2, not {p}")
    shape = _rows("multi_margin_loss", input)
    if tuple(target.shape) not in ((shape[:-1],) if len(shape) == 2 else ((), (1,))):
        raise ValueError(f"multi_margin_loss: class indices for scores of shape {shape} have shape {shape[:-1]}, not {tuple(target.shape)}")
    if weight is not None and tuple(weight.shape) != shape[-1:]:
        raise ValueError(f"multi_margin_loss: weight has shape {tuple(weight.shape)}; one number for each of {shape[-1]} classes is wanted")
    xp, (x, y, weight) = unify([input, target, weight])
    check_classes("multi_margin_loss", target, shape[-1], None)
    classes = xp.arange(shape[-1], device=device_of(y))
    x, y = xp.reshape(x, (-1, shape[-1])), xp.reshape(xp.astype(y, classes.dtype), (-1,))
    off = xp.clip(x - xp.expand_dims(xp.nn.pick(x, y, axis=1) - margin, axis=1), min=0)
    off = xp.where(classes == xp.expand_dims(y, axis=1), xp.zeros_like(off), off if p == 1 else off * off)
    losses = xp.sum(off, axis=1) / shape[-1]
    if weight is not None:
        losses = losses * xp.take(weight, y, axis=0)
    return reduced(xp.reshape(losses, shape[:-1] if reduction == "none" else (-1,)), reduction)


def multilabel_margin_loss(
    input: Any, target: Any, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
) -> Any:
    """Give the sum over right and wrong classes of max(0, 1 - score of the right one + score of the wrong one), divided by C.

    Parameters
    ----------
    input : array
        Scores of shape (C,) or (N, C).
    target : array
        The right classes, of ``input``'s shape; what follows a -1 does not count.
    size_average, reduce, reduction
        As for `margin_ranking_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    shape = _rows("multilabel_margin_loss", input)
    if tuple(target.shape) != tuple(input.shape):
        raise ValueError(
            f"multilabel_margin_loss: target has shape {tuple(target.shape)}; that of the scores, {tuple(input.shape)}, is wanted"
        )
    check_classes("multilabel_margin_loss", target, shape[-1], -1)
    xp, (x, y) = unify([input, target])
    classes = xp.arange(shape[-1], device=device_of(y))
    x, y = xp.reshape(x, (-1, shape[-1])), xp.reshape(xp.astype(y, classes.dtype), (-1, shape[-1]))
    counts = xp.cumulative_sum(xp.astype(y < 0, y.dtype), axis=1) == 0
    y = xp.where(counts, y, xp.zeros_like(y))
    right = xp.any((xp.expand_dims(y, axis=2) == classes) & xp.expand_dims(counts, axis=2), axis=1)
    off = xp.clip(1 - xp.expand_dims(xp.take_along_axis(x, y, axis=1), axis=2) + xp.expand_dims(x, axis=1), min=0)
    off = xp.where(xp.expand_dims(counts, axis=2) & ~xp.expand_dims(right, axis=1), off, xp.zeros_like(off))
    losses = xp.sum(off, axis=(1, 2)) / shape[-1]
    return reduced(xp.reshape(losses, shape[:-1] if reduction == "none" else (-1,)), reduction)


def multilabel_soft_margin_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give the mean over the classes of the cross entropy between yes and no and a score.

    Parameters
    ----------
    input : array
        Scores of shape (..., C).
    target : array
        1 for the right classes, 0 for others.
    weight : array, optional
        Factors that broadcast with ``input``.
    size_average, reduce, reduction
        As for `margin_ranking_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    xp, (x, y, weight) = together(input, target, weight)
    losses = -(y * xp.special.log_expit(x) + (1 - y) * xp.special.log_expit(-x))
    return reduced(xp.mean(losses if weight is None else losses * weight, axis=-1), reduction)


# --- distances ----------------------------------------------------------------------------------------------------------------------------
def cosine_embedding_loss(
    input1: Any,
    input2: Any,
    target: Any,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give 1 - cos where ``target`` is 1, and max(0, cos - margin) where it is -1, of the cosine between two vectors.

    Parameters
    ----------
    input1, input2 : array
        Shape (N, D), with a target of shape (N,); or (D,), with a target of shape ().
    target : array
        1 for pairs that belong together, -1 for others.
    margin, size_average, reduce, reduction
        As for `margin_ranking_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    shapes = [tuple(x.shape) for x in (input1, input2, target)]
    axes = len(shapes[2])
    if axes > 1 or len(shapes[0]) != axes + 1 or len(shapes[1]) != axes + 1:
        raise ValueError(
            f"cosine_embedding_loss: inputs have shape (N, D) and the target (N,), or (D,) and (); got {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    xp, (a, b, y) = together(input1, input2, target)
    eps = 1e-12
    norms = xp.sqrt((xp.sum(a * a, axis=axes) + eps) * (xp.sum(b * b, axis=axes) + eps))
    cos = xp.sum(a * b, axis=axes) / norms
    none = xp.zeros_like(cos)
    return reduced(xp.where(y == 1, 1 - cos, none) + xp.where(y == -1, xp.clip(cos - margin, min=0), none), reduction)


def _distance(p: float, eps: float) -> Callable[[Any, Any], Any]:
    return lambda a, b: pairwise_distance(a, b, p, eps)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give max(0, distance to the positive - distance to the negative + margin).

    Parameters
    ----------
    anchor, positive, negative : array
        Shape (N, D) or (D,).
    p, eps : float
        The norm of the distance, and what is added to differences, as in ``pairwise_distance``.
    swap : bool
        Whether the distance to the negative is the less of those from the anchor and from the positive.
    margin, size_average, reduce, reduction
        As for `margin_ranking_loss`; the margin is positive.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    distance = _distance(p, eps)
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap, reduction=reduction
    )


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """Give `triplet_margin_loss` for a distance of one's own.

    Parameters
    ----------
    distance_function : callable, optional
        Gives the distances of two arrays; by default ``pairwise_distance``.
    anchor, positive, negative, margin, swap, reduction
        As for `triplet_margin_loss`.
    """
    check_reduction(reduction)
    if margin <= 0:
        raise ValueError(f"triplet_margin_loss: margin is positive; got {margin}")
    shapes = [tuple(x.shape) for x in (anchor, positive, negative)]
    if len({len(s) for s in shapes}) > 1:
        raise ValueError(
            f"triplet_margin_loss: anchor, positive and negative have as many axes; got the shapes {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    distance = _distance(2.0, 1e-6) if distance_function is None else distance_function
    xp, (anchor, positive, negative) = unify([anchor, positive, negative])
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = xp.minimum(far, distance(positive, negative))
    return reduced(xp.clip(margin + near - far, min=0), reduction)
