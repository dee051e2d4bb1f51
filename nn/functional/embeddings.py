"""Rows of tables by number, and sums, means and maxima of bags of them."""

from __future__ import annotations

import math
import operator
from typing import Any

from agnostic_ad import Variable
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.functional.reductions import checked, known
from agnostic_ad.rules import QUICK

__all__ = ["embedding", "embedding_bag"]

_embedding = QUICK["nn.embedding"]


# --- checks -------------------------------------------------------------------------------------------------------------------------------
def padding(name: str, padding_idx: int | None, rows: int) -> int | None:
    """Give the number of the row that fills up, counted from the front."""
    if padding_idx is None:
        return None
    index = operator.index(padding_idx)
    if not -rows <= index < rows:
        raise ValueError(f"{name}: padding_idx {padding_idx} is out of bounds for {rows} rows")
    return index % rows


def _check(name: str, input: Any, weight: Any, xp: Any) -> None:
    """Refuse what are no numbers of rows."""
    if len(weight.shape) != 2:
        raise ValueError(f"{name}: weight has shape (rows, columns), not {tuple(weight.shape)}")
    if not xp.isdtype(input.dtype, "integral"):
        raise TypeError(f"{name}: numbers of rows are integers, not {input.dtype}")
    found = checked(input)
    if found is not None:
        low, high = int(found[0].xp.min(found[1])), int(found[0].xp.max(found[1]))
        if low < 0 or high >= weight.shape[0]:
            more = "; they are not counted from the end" if low < 0 else ""
            raise IndexError(f"{name}: index {low if low < 0 else high} is out of bounds for {weight.shape[0]} rows{more}")


# --- rows ---------------------------------------------------------------------------------------------------------------------------------
def _renormalize(name: str, weight: Any, input: Any, max_norm: float, norm_type: float) -> None:
    """Shorten the rows that are looked up and longer than ``max_norm``, in place and without recording, as PyTorch does."""
    variable = isinstance(weight, Array)
    if any(isinstance(x, Array) and not (isinstance(x, Variable) and x.level.depth == 0) for x in (weight, input)):
        raise NotImplementedError(f"{name}: max_norm changes the weight in place, which no transformation can; normalize the rows yourself")
    if variable and not weight.is_leaf:
        raise ValueError(f"{name}: max_norm changes the weight in place; this one was computed from others. Give a parameter.")
    raw, indices = (x.payload if isinstance(x, Array) else x for x in (weight, input))
    backend = backend_of(raw)
    indices = backend.reshape(indices, (-1,))
    rows = backend.take(raw, indices, axis=0)
    norms = backend.linalg.vector_norm(rows, axis=1, keepdims=True, ord=norm_type)
    long = norms > max_norm
    if not bool(backend.any(long)):
        return
    rows = backend.where(long, rows * (max_norm / (norms + 1e-7)), rows)
    new = backend.put_rows(raw, indices, rows)
    if variable:
        weight.data = new  # what was saved for a backward pass keeps the old rows
        return
    try:
        raw[...] = new
    except TypeError:
        raise TypeError(
            f"{name}: max_norm changes the weight in place, and arrays of {backend.name} do not change. Give a Variable."
        ) from None


def _factor(xp: Any, weight: Any, input: Any, padding_idx: int | None, scale_grad_by_freq: bool) -> Any:
    """Give what the gradients of rows are multiplied by: 0 for what fills up, one over how often a row is looked up; None for 1."""
    factor = None
    if scale_grad_by_freq:
        flat = xp.reshape(input, (-1,))
        ones = xp.ones(flat.shape, dtype=weight.dtype, device=device_of(input))
        counts = xp.scatter_add(ones, flat, size=weight.shape[0])
        factor = 1 / xp.reshape(xp.gather(counts, flat), input.shape)
    if padding_idx is not None:
        kept = xp.astype(input != padding_idx, weight.dtype)
        factor = kept if factor is None else factor * kept
    return factor


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Look up rows of a table.

    Parameters
    ----------
    input : array of integers
        Numbers of rows, of any shape.
    weight : array
        The table, of shape (V, D).
    padding_idx : int, optional
        The row that fills up sequences: it gets no gradient. Negative numbers count from the end.
    max_norm : float, optional
        The largest norm of a row. Longer rows among those looked up are shortened, in ``weight`` itself.
    norm_type : float
        The order of that norm.
    scale_grad_by_freq : bool
        Whether to divide the gradient of each row by how often it is looked up.
    sparse : bool
        Accepted for PyTorch's sake: the gradient has the same numbers, in an array like any other.

    Returns
    -------
    array
        The indices' shape, then D.

    Raises
    ------
    IndexError
        If a number is negative, or not below V. (On a GPU and under a compiler, nothing looks at the numbers.)

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.embedding(np.asarray([2, 0]), np.asarray([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    array([[4., 5.],
           [0., 1.]])
    """
    xp, (weight, input) = unify([weight, input])
    _check("embedding", input, weight, xp)
    padding_idx = padding("embedding", padding_idx, weight.shape[0])
    if max_norm is not None and 0 not in input.shape:
        _renormalize("embedding", weight, input, max_norm, norm_type)
    return _embedding(weight, input, _factor(xp, weight, input, padding_idx, scale_grad_by_freq))


# --- bags ---------------------------------------------------------------------------------------------------------------------------------
def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Look up rows of a table, and reduce each bag of them to one.

    Parameters
    ----------
    input : array of integers
        Numbers of rows, of shape (B, N), a bag in each row; or of shape (N,), bags end to end.
    weight : array
        The table, of shape (V, D).
    offsets : array of integers, optional
        Where each bag begins in an input of shape (N,); the first is 0.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As for `embedding`.
    mode : {"mean", "sum", "max"}
        How to reduce. The first of equal maxima gets the gradient.
    per_sample_weights : array, optional
        One factor for each row, of ``input``'s shape; for sums only.
    include_last_offset : bool
        Whether ``offsets`` says last where the last bag ends.
    padding_idx : int, optional
        The row that fills up bags: it does not count.

    Returns
    -------
    array
        Shape (B, D); zeros for a bag in which nothing counts.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> table = np.asarray([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    >>> F.embedding_bag(np.asarray([0, 1, 2]), table, np.asarray([0, 1]))
    array([[0., 1.],
           [3., 4.]])
    """
    xp, (weight, input, offsets, per_sample_weights) = unify([weight, input, offsets, per_sample_weights])
    _check("embedding_bag", input, weight, xp)
    if mode not in ("mean", "sum", "max"):
        raise ValueError(f"embedding_bag: mode is 'mean', 'sum' or 'max', not {mode!r}")
    if mode == "max" and (scale_grad_by_freq or sparse):
        raise ValueError("embedding_bag: mode='max' goes with neither scale_grad_by_freq nor sparse")
    shape = tuple(input.shape)
    if len(shape) not in (1, 2) or (len(shape) == 2) != (offsets is None):
        given = "no offsets" if offsets is None else "offsets"
        raise ValueError(
            f"embedding_bag: an input of shape (B, N) goes without offsets, one of shape (N,) with them; got {shape} and {given}"
        )
    if per_sample_weights is not None:
        if mode != "sum":
            raise NotImplementedError(f"embedding_bag: per_sample_weights go with mode='sum', not {mode!r}")
        if tuple(per_sample_weights.shape) != shape:
            raise ValueError(
                f"embedding_bag: per_sample_weights has shape {tuple(per_sample_weights.shape)}; the input's, {shape}, is wanted"
            )
    padding_idx = padding("embedding_bag", padding_idx, weight.shape[0])
    if max_norm is not None and 0 not in shape:
        _renormalize("embedding_bag", weight, input, max_norm, norm_type)
    counts = None if padding_idx is None else input != padding_idx
    factor = _factor(xp, weight, input, None, scale_grad_by_freq)
    if offsets is not None:
        _check_offsets(offsets, shape[0], include_last_offset, xp)
    if mode == "max":
        return _maxima(xp, weight, input, offsets, include_last_offset, counts)
    rows = _embedding(weight, input, factor)
    factors = per_sample_weights
    if counts is not None:
        kept = xp.astype(counts, weight.dtype)
        factors = kept if factors is None else xp.multiply(factors, kept)
    if factors is not None:
        rows = xp.multiply(rows, xp.expand_dims(factors, axis=-1))
    if offsets is None:
        sums = xp.sum(rows, axis=1)
        number = None if mode == "sum" else shape[1] if counts is None else xp.sum(kept, axis=1)
    else:
        bags = offsets.shape[0]  # with a last offset, what follows it is one more
        numbers = xp.searchsorted(offsets, xp.arange(shape[0], dtype=offsets.dtype, device=device_of(offsets)), side="right") - 1
        sums = xp.scatter_add(rows, numbers, size=bags, axis=0)
        ones = xp.ones(shape, dtype=weight.dtype, device=device_of(input)) if counts is None else kept
        number = None if mode == "sum" else xp.scatter_add(ones, numbers, size=bags)
        sums, number = (x[:-1, ...] if include_last_offset and x is not None else x for x in (sums, number))
    if number is None:
        return sums
    if isinstance(number, int):
        return sums / max(number, 1)
    return xp.divide(sums, xp.expand_dims(xp.clip(number, min=1), axis=1))


def _check_offsets(offsets: Any, count: int, include_last_offset: bool, xp: Any) -> None:
    if len(offsets.shape) != 1 or not xp.isdtype(offsets.dtype, "integral"):
        raise ValueError(f"embedding_bag: offsets are integers of shape (B,); got {offsets.dtype} of shape {tuple(offsets.shape)}")
    if include_last_offset and offsets.shape[0] == 0:
        raise ValueError("embedding_bag: with include_last_offset there is one offset at least")
    found = checked(offsets)
    if found is not None:
        first, last = int(found[1][0]), int(found[1][-1])
        if first != 0 or last > count:
            raise ValueError(f"embedding_bag: the first offset is 0, and the last at most {count} here; got {first} and {last}")


def _maxima(xp: Any, weight: Any, input: Any, offsets: Any, include_last_offset: bool, counts: Any) -> Any:
    """Give the maxima of bags, each filled up to the length of the longest."""
    if offsets is None:
        inside = xp.ones_like(input) == 1 if counts is None else counts
    else:
        total, starts = input.shape[0], offsets[:-1] if include_last_offset else offsets
        ends = xp.concat([offsets, xp.full((1,), total, dtype=offsets.dtype, device=device_of(offsets))])[1 : starts.shape[0] + 1]
        lengths = known(ends - starts)
        length = total if lengths is None else int(lengths[0].xp.max(lengths[1]))
        places = xp.expand_dims(starts, axis=1) + xp.arange(max(length, 0), dtype=offsets.dtype, device=device_of(offsets))
        inside = places < xp.expand_dims(ends, axis=1)
        if total == 0:
            return xp.zeros((starts.shape[0], weight.shape[1]), dtype=weight.dtype, device=device_of(weight))
        flat = xp.reshape(xp.clip(places, max=total - 1), (-1,))
        input = xp.reshape(xp.take(input, flat, axis=0), places.shape)
        if counts is not None:
            inside = inside & xp.reshape(xp.take(counts, flat, axis=0), places.shape)
    if 0 in input.shape:
        return xp.zeros((input.shape[0], weight.shape[1]), dtype=weight.dtype, device=device_of(weight))
    rows = _embedding(weight, input)
    inside = xp.expand_dims(inside, axis=2)
    first = xp.argmax(xp.where(inside, xp.stop_gradient(rows), -math.inf * xp.ones_like(rows)), axis=1, keepdims=True)
    best = xp.squeeze(xp.take_along_axis(rows, first, axis=1), axis=1)
    return xp.where(xp.any(inside, axis=1), best, xp.zeros_like(best))
