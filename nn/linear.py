"""Linear layers."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter

__all__ = ["Flatten", "Linear"]


class Linear(Module):
    """Compute ``input @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features : int
        The sizes of the last axis before and after.
    bias : bool
        Whether to add a bias.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight : Parameter
        Shape (out_features, in_features), drawn uniformly within 1 / sqrt(in_features), as the bias.
    bias : Parameter or None
        Shape (out_features,).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Linear(3, 2)(np.ones((5, 3), dtype="float32")).shape
    (5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None, *, xp: Any = None
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = new_parameter((out_features, in_features), xp, dtype, device)
        self.register_parameter("bias", new_parameter((out_features,), xp, dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Any) -> Any:
        """Compute ``input @ weight.T + bias``."""
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Give the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """Make one axis of several, by default of all but the first.

    Parameters
    ----------
    start_dim, end_dim : int
        The first and the last of the axes.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Any) -> Any:
        """Reshape."""
        return F.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Give the axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
