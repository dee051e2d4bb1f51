"""Linear maps, and the shapes around them."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import normalize_axis
from agnostic_ad.rules import QUICK

__all__ = ["flatten", "linear"]

_linear = QUICK["nn.linear"]
_reshape = QUICK["reshape"]


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """Compute ``input @ weight.T + bias``.

    Parameters
    ----------
    input : array
        Shape (..., in_features).
    weight : array
        Shape (out_features, in_features).
    bias : array, optional
        Shape (out_features,).
    """
    return _linear(input, weight, bias)


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make one axis of those from ``start_dim`` to ``end_dim``."""
    shape = tuple(input.shape)
    if not shape:
        return _reshape(input, (1,))
    a, b = (normalize_axis(d, len(shape), "flatten") for d in (start_dim, end_dim))
    if a > b:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _reshape(input, (*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :]))
