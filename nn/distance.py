"""Distances as layers."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.module import Module

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class PairwiseDistance(Module):
    """Give the norm of ``x1 - x2 + eps`` along the last axis.

    Parameters
    ----------
    p : float
        The norm's order.
    eps : float
        What keeps the derivative finite where the two are equal.
    keepdim : bool
        Whether to keep the last axis, with size 1.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.PairwiseDistance(p=1)(np.asarray([[3.0, 0.0]]), np.asarray([[0.0, 4.0]])).round(4)
    array([7.])
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Any, x2: Any) -> Any:
        """Compute."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


class CosineSimilarity(Module):
    """Give the scalar product of two vectors along ``dim`` by their lengths, which count as ``eps`` at least.

    Parameters
    ----------
    dim : int
        The axis of the vectors.
    eps : float
        The least length.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Any, x2: Any) -> Any:
        """Compute."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)
