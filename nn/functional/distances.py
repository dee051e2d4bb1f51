"""Distances, similarities, and vectors of length one."""

from __future__ import annotations

from typing import Any

import numpy as np

from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.functional.activations import written
from agnostic_ad.rules import QUICK

__all__ = ["cosine_similarity", "normalize", "pairwise_distance", "pdist"]

_gather = QUICK["gather"]
_multiply = QUICK["multiply"]
_norm = QUICK["linalg.vector_norm"]
_reshape = QUICK["reshape"]
_stop_gradient = QUICK["stop_gradient"]
_sum = QUICK["sum"]


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """Give the norm of ``x1 - x2 + eps`` along the last axis.

    Parameters
    ----------
    x1, x2 : array
        Shapes (N, D) or (D,), or any that broadcast.
    p : float
        The norm's order.
    eps : float
        What keeps the derivative finite where the two are equal.
    keepdim : bool
        Whether to keep the last axis, with size 1.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.pairwise_distance(np.asarray([[3.0, 0.0]]), np.asarray([[0.0, 4.0]])).round(4)
    array([5.])
    """
    return _norm(x1 - x2 + eps, axis=-1, ord=p, keepdims=keepdim)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """Give the scalar product of two vectors along ``dim`` by their lengths, which count as ``eps`` at least.

    Parameters
    ----------
    x1, x2 : array
        Shapes that broadcast.
    dim : int
        The axis of the vectors, of what they broadcast to.
    eps : float
        The least length.
    """
    if tuple(x1.shape) != tuple(x2.shape):
        xp, (x1, x2) = unify([x1, x2])
        x1, x2 = xp.broadcast_arrays(x1, x2)
    if not x1.shape:  # a number is its own axis, as in PyTorch
        return _reshape(cosine_similarity(_reshape(x1, (1,)), _reshape(x2, (1,)), dim, eps), ())
    return _sum(_multiply(_direction(x1, dim, eps), _direction(x2, dim, eps)), axis=dim)


def _direction(x: Any, dim: int, eps: float) -> Any:
    """Divide by the length; that ``eps`` takes its place counts for nothing in the derivative, as in PyTorch."""
    length = _norm(x, axis=dim, keepdims=True)
    now = _stop_gradient(length)
    return x / (length + _at_least(now, eps) - now)


def _at_least(x: Any, least: float) -> Any:
    xp = unify([x])[0]
    return xp.where(x < least, xp.full((), least, dtype=x.dtype, device=device_of(x)), x)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """Divide by the norm along ``dim``, which counts as ``eps`` at least.

    Parameters
    ----------
    input : array
        Any shape.
    p : float
        The norm's order.
    dim : int or tuple of int
        The axes.
    eps : float
        The least norm.
    out : array, optional
        What takes the result.
    """
    if not input.shape:
        return _reshape(normalize(_reshape(input, (1,)), p, dim, eps), ())
    y = input / _at_least(_norm(input, axis=dim, ord=p, keepdims=True), eps)
    return y if out is None else written(out, y, True)


def pdist(input: Any, p: float = 2.0) -> Any:
    """Give the distances of all pairs of rows, those of the first with others first.

    Parameters
    ----------
    input : array
        Shape (N, D).
    p : float
        The norm's order, 0 or more. The derivative is 0 where a distance is 0.

    Returns
    -------
    array
        Shape (N (N - 1) / 2,).
    """
    shape = tuple(input.shape)
    if len(shape) != 2:
        raise ValueError(f"pdist takes rows, an input of 2 dimensions, not of shape {shape}")
    if p < 0:
        raise ValueError(f"pdist: p is 0 or more, not {p}")
    backend = input.backend if isinstance(input, Array) else backend_of(input)
    first, second = (_gather(input, backend.from_numpy(i, device_of(input)), axis=0) for i in np.triu_indices(shape[0], 1))
    return _norm(first - second, axis=-1, ord=p)
