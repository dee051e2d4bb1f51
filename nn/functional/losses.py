"""Losses between numbers, and between probabilities."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.nn.functional.reductions import check_reduction, checked, old_reduction, pair, reduced, together
from agnostic_ad.rules import QUICK

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
]

_bce = QUICK["nn.binary_cross_entropy"]
_bce_with_logits = QUICK["nn.binary_cross_entropy_with_logits"]
_huber = QUICK["nn.huber"]
_subtract = QUICK["subtract"]


# --- differences --------------------------------------------------------------------------------------------------------------------------
def _weighted(name: str, losses: Any, weight: Any, shape: Any, reduction: str, of_weights: bool) -> Any:
    """Reduce with one factor per element; the mean may be divided by the sum of the factors."""
    if weight is None:
        return reduced(losses, reduction)
    if tuple(weight.shape) != tuple(shape):
        raise ValueError(f"{name}: weight has shape {tuple(weight.shape)}; that of the input, {tuple(shape)}, is wanted")
    _, (losses, weight) = together(losses, weight)
    return reduced(losses * weight, reduction, weight if of_weights else None)


def l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Give the absolute differences.

    Parameters
    ----------
    input, target : array
        Of one shape; others are broadcast, with a warning.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses. With ``weight``, the mean is that of the weights.
    weight : array, optional
        One factor per element, of ``input``'s shape.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> float(F.l1_loss(np.asarray([1.0, 2.0]), np.asarray([0.0, 5.0])))
    2.0
    """
    reduction = old_reduction(size_average, reduce, reduction)
    pair("l1_loss", input, target)
    xp, (x, y) = together(input, target)
    return _weighted("l1_loss", xp.abs(x - y), weight, input.shape, reduction, of_weights=True)


def mse_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Any:
    """Give the squared differences; the arguments are those of `l1_loss`."""
    reduction = old_reduction(size_average, reduce, reduction)
    pair("mse_loss", input, target)
    _, (x, y) = together(input, target)
    d = _subtract(x, y)
    return _weighted("mse_loss", d * d, weight, input.shape, reduction, of_weights=True)


def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Any:
    """Give `l1_loss`, rounded off where the difference is below ``beta``: d² / (2 beta) there, and d - beta / 2 elsewhere."""
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is no negative number; got {beta}")
    reduction = old_reduction(size_average, reduce, reduction)
    pair("smooth_l1_loss", input, target)
    xp, (x, y) = together(input, target)
    d = _subtract(x, y)
    return reduced(_huber(d, delta=beta) / beta if beta else xp.abs(d), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """Give half the squared difference, and its tangent where the difference d is above ``delta``: delta (d - delta / 2).

    Parameters
    ----------
    input, target, reduction
        As for `l1_loss`.
    delta : float
        Where the line begins; positive.
    weight : array, optional
        One factor per element, of ``input``'s shape; the mean is that of the elements.
    """
    if not isinstance(delta, int | float):
        raise TypeError(f"huber_loss: delta is a float or an int, not {type(delta).__name__}")
    if delta <= 0:
        raise ValueError(f"huber_loss: delta is positive; got {delta}")
    check_reduction(reduction)
    pair("huber_loss", input, target)
    _, (x, y) = together(input, target)
    return _weighted("huber_loss", _huber(_subtract(x, y), delta=delta), weight, input.shape, reduction, of_weights=False)


# --- distributions ------------------------------------------------------------------------------------------------------------------------
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give the negative logarithm of the Poisson probability of counts.

    Parameters
    ----------
    input : array
        The logarithm of the rate; with ``log_input=False`` the rate.
    target : array
        The counts.
    full : bool
        Whether to add Stirling's approximation of log(target!), where the count is above 1.
    eps : float
        What is added to a rate before its logarithm is taken.
    size_average, reduce, reduction
        As for `l1_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    xp, (x, y) = together(input, target)
    losses = xp.exp(x) - y * x if log_input else x - y * xp.log(x + eps)
    if full:
        many = y > 1
        n = xp.where(many, y, xp.ones_like(y))
        losses = losses + xp.where(many, n * xp.log(n) - n + 0.5 * xp.log(2 * math.pi * n), xp.zeros_like(n))
    return reduced(losses, reduction)


def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Any:
    """Give the negative logarithm of the normal density of ``target`` around ``input``.

    Parameters
    ----------
    input, target : array
        Expectations and samples, of one shape.
    var : array or float
        Variances: of ``input``'s shape; without its last axis, or with one axis of size 1; or a number for all.
    full : bool
        Whether to add the constant log(2 pi) / 2.
    eps : float
        The least variance; below it, the gradient of the loss with respect to ``var`` is that at ``eps``.
    reduction : {"mean", "sum", "none"}
        As for `l1_loss`.
    """
    check_reduction(reduction)
    number = isinstance(var, int | float)
    xp, (x, y, v) = together(input, target, None if number else var)
    if number:
        v = xp.ones_like(x) * var
    found = None if number else checked(v)
    if (var < 0) if number else (found is not None and bool(found[0].xp.any(found[1] < 0))):
        raise ValueError("gaussian_nll_loss: var has a negative entry; variances are 0 or more")
    shape, given = tuple(x.shape), tuple(v.shape)
    if given != shape:
        off = [b for a, b in zip(shape, given, strict=False) if a != b]
        if given == shape[:-1]:
            v = xp.expand_dims(v, axis=-1)
        elif len(given) != len(shape) or off != [1]:
            raise ValueError(f"gaussian_nll_loss: var of shape {given} does not fit an input of shape {shape}")
    # the value of the larger, and the derivative of v: a variance below eps is still pulled upwards
    low = xp.stop_gradient(v)
    v = v + (xp.clip(low, min=eps) - low)
    losses = 0.5 * (xp.log(v) + (x - y) * (x - y) / v)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def kl_div(
    input: Any,
    target: Any,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    """Give target (log(target) - input), element by element: summed, the Kullback-Leibler divergence of a distribution from another.

    Parameters
    ----------
    input : array
        Logarithms of probabilities.
    target : array
        Probabilities; with ``log_target`` their logarithms.
    reduction : {"mean", "batchmean", "sum", "none"}
        "batchmean" is the sum divided by the size of the first axis, which the definition asks for; "mean" divides by the number of
        elements.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> p = np.asarray([[0.5, 0.5]])
    >>> float(F.kl_div(np.log(p), p, reduction="batchmean"))
    0.0
    """
    batch = reduction == "batchmean" and size_average is None and reduce is None
    reduction = old_reduction(size_average, reduce, "sum" if batch else reduction)
    xp, (x, y) = together(input, target)
    logarithms = y if log_target else xp.log(xp.where(y == 0, xp.ones_like(y), y))  # 0 log(0) is 0
    total = reduced((xp.exp(y) if log_target else y) * (logarithms - x), reduction)
    return total / x.shape[0] if batch and x.shape else total


# --- two classes --------------------------------------------------------------------------------------------------------------------------
def _same_shape(name: str, input: Any, target: Any) -> None:
    if tuple(target.shape) != tuple(input.shape):
        raise ValueError(
            f"{name}: a target of shape {tuple(target.shape)} does not fit an input of shape {tuple(input.shape)}; one is wanted"
        )


def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    """Give the cross entropy between probabilities of yes and no.

    Parameters
    ----------
    input : array
        Probabilities, from 0 to 1. Logarithms below -100 count as -100. `binary_cross_entropy_with_logits` is more accurate than
        this after a sigmoid.
    target : array
        Of ``input``'s shape, from 0 to 1.
    weight : array, optional
        Factors that broadcast with ``target``.
    size_average, reduce, reduction
        As for `l1_loss`.
    """
    reduction = old_reduction(size_average, reduce, reduction)
    _same_shape("binary_cross_entropy", input, target)
    _, (x, y, weight) = together(input, target, weight)
    found = checked(x)
    if found is not None:
        low, high = float(found[0].xp.min(found[1])), float(found[0].xp.max(found[1]))
        if not (low >= 0 and high <= 1):
            wrong = high if low >= 0 else low
            raise ValueError(f"binary_cross_entropy: {wrong:g} is no probability; scores go to binary_cross_entropy_with_logits")
    losses = _bce(x, y)
    return reduced(losses if weight is None else losses * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """Give the cross entropy between yes and no and scores, without ever computing the probabilities.

    Parameters
    ----------
    input : array
        Scores (logits).
    target : array
        Of ``input``'s shape, from 0 to 1.
    weight : array, optional
        Factors that broadcast with the losses.
    pos_weight : array, optional
        Factors for yes, which broadcast with ``target``: above 1 they favour recall, below 1 precision.
    size_average, reduce, reduction
        As for `l1_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> float(F.binary_cross_entropy_with_logits(np.asarray([0.0, 100.0]), np.asarray([0.0, 0.0]), reduction="sum"))
    100.69314718055995
    """
    reduction = old_reduction(size_average, reduce, reduction)
    _same_shape("binary_cross_entropy_with_logits", input, target)
    xp, (x, y, weight, pos_weight) = together(input, target, weight, pos_weight)
    losses = _bce_with_logits(x, y) if pos_weight is None else (1 - y) * x - (1 + (pos_weight - 1) * y) * xp.special.log_expit(x)
    return reduced(losses if weight is None else losses * weight, reduction)
