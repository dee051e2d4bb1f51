"""The loss of sequences that are not aligned."""

from __future__ import annotations

from typing import Any

from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import lookup
from agnostic_ad.nn.functional.reductions import check_reduction, checked, known, reduced

__all__ = ["ctc_loss"]


def _lengths(name: str, given: Any, xp: Any, like: Any, dtype: Any, batch: int, limit: int | None) -> Any:
    """Give lengths, an array or a sequence of ints, as an array; refuse those that do not fit."""
    array = isinstance(given, Array) or lookup(given) is not None
    if not array:
        given = [given] if isinstance(given, int) else list(given)
        if any(not isinstance(n, int) for n in given):
            raise TypeError(f"ctc_loss: {name} are integers; got {given}")
    found = xp.astype(given, dtype) if array else xp.asarray(given, dtype=dtype, device=device_of(like))
    found = found if found.shape else xp.reshape(found, (1,))
    if tuple(found.shape) != (batch,):
        raise ValueError(f"ctc_loss: {name} has shape {tuple(found.shape)}; one length for each of {batch} sequences is wanted")
    values = checked(found)
    if values is not None:
        least, most = int(values[0].xp.min(values[1])), int(values[0].xp.max(values[1]))
        if least < 0:
            raise ValueError(f"ctc_loss: {name} are 0 or more; got {least}")
        if limit is not None and most > limit:
            raise ValueError(f"ctc_loss: {name} are at most {limit} here; got {most}")
    return found


def _padded(xp: Any, targets: Any, lengths: Any) -> Any:
    """Give targets that lie end to end as rows of one length."""
    values = known(lengths)
    size = targets.shape[0]
    if values is not None:
        total, longest = int(values[0].xp.sum(values[1])), int(values[0].xp.max(values[1]))
        if total > size:
            raise ValueError(f"ctc_loss: target_lengths sum up to {total}; there are {size} targets")
        size = longest
    if size == 0:
        return xp.zeros((lengths.shape[0], 0), dtype=targets.dtype, device=device_of(targets))
    starts = xp.cumulative_sum(lengths) - lengths
    places = xp.expand_dims(starts, axis=1) + xp.arange(size, dtype=lengths.dtype, device=device_of(lengths))
    places = xp.clip(places, max=targets.shape[0] - 1)
    return xp.reshape(xp.take(targets, xp.reshape(places, (-1,)), axis=0), (lengths.shape[0], size))


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """Give the connectionist temporal classification loss: minus the logarithm of the probability of all alignments that spell the targets.

    The gradient is the derivative with respect to ``log_probs``; PyTorch's adds exp(log_probs), which `log_softmax` before it takes away again.

    Parameters
    ----------
    log_probs : array
        Logarithms of probabilities of C classes, of shape (T, N, C) or (T, C), such as `log_softmax` gives.
    targets : array of integers
        Shape (N, S), or all of them end to end.
    input_lengths, target_lengths : array or tuple of ints
        How many steps and targets of each sequence count, of shape (N,) or ().
    blank : int
        The class that stands for none.
    reduction : {"mean", "sum", "none"}
        What becomes of the losses of the sequences; for the mean, each is divided by its number of targets (by 1 where there are none).
    zero_infinity : bool
        Whether an infinite loss, where the targets need more steps than there are, is 0, and so is its gradient, which otherwise is NaN.

    Notes
    -----
    The algorithm is that of Graves et al., "Connectionist temporal classification" (ICML 2006), in logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> even = np.log(np.full((2, 1, 2), 0.5))
    >>> loss = F.ctc_loss(even, np.asarray([[1]]), (2,), (1,))  # three of four sequences spell it
    >>> round(float(np.exp(-loss)), 12)
    0.75
    """
    check_reduction(reduction)
    shape = tuple(log_probs.shape)
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"ctc_loss: log_probs has shape (T, N, C) or (T, C), with at least one of each; got {shape}")
    arrays = [a if isinstance(a, Array) or lookup(a) is not None else None for a in (input_lengths, target_lengths)]
    xp, (log_probs, targets, *arrays) = unify([log_probs, targets, *arrays])
    if not xp.isdtype(log_probs.dtype, "real floating") or not xp.isdtype(targets.dtype, "integral"):
        raise TypeError(f"ctc_loss: log_probs are floating and targets integers; got {log_probs.dtype} and {targets.dtype}")
    if not 0 <= blank < shape[-1]:
        raise IndexError(f"ctc_loss: blank is {blank}; it is one of {shape[-1]} classes")
    batch = shape[1] if len(shape) == 3 else 1
    wide = xp.arange(1, device=device_of(targets)).dtype  # lengths are more than a byte has numbers
    targets = xp.astype(targets, wide)
    if len(shape) == 2:
        log_probs = xp.expand_dims(log_probs, axis=1)
        targets = xp.reshape(targets, (1, -1)) if len(targets.shape) == 1 else targets
    padded = len(targets.shape) == 2
    if len(targets.shape) > 2 or (padded and targets.shape[0] != batch):
        raise ValueError(f"ctc_loss: targets have shape ({batch}, S), or all lie end to end; got {tuple(targets.shape)}")
    given = [a if a is not None else raw for a, raw in zip(arrays, (input_lengths, target_lengths), strict=True)]
    steps = _lengths("input_lengths", given[0], xp, targets, wide, batch, shape[0])
    lengths = _lengths("target_lengths", given[1], xp, targets, wide, batch, targets.shape[1] if padded else None)
    targets = targets if padded else _padded(xp, targets, lengths)
    losses = xp.nn.ctc_loss(log_probs, targets, steps, lengths, blank=blank, zero_infinity=zero_infinity)
    if reduction == "mean":
        losses = losses / xp.astype(xp.clip(lengths, min=1), losses.dtype)
    return reduced(losses if len(shape) == 3 else xp.reshape(losses, ()), reduction)
