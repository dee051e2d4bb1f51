"""Linear layers."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter

__all__ = ["Bilinear", "Flatten", "Identity", "Linear", "Unflatten"]


class Identity(Module):
    """Give the input as it is; the arguments, any at all, are not looked at.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> nn.Identity(54, unused=True)(3)
    3
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        """Give the input."""
        return input


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


class Bilinear(Module):
    """Compute ``input1 @ weight[k] @ input2 + bias[k]`` for each output feature ``k``.

    Parameters
    ----------
    in1_features, in2_features, out_features : int
        The sizes of the last axis of both inputs and of the result.
    bias : bool
        Whether to add a bias.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight : Parameter
        Shape (out_features, in1_features, in2_features), drawn uniformly within 1 / sqrt(in1_features), as the bias.
    bias : Parameter or None
        Shape (out_features,).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Bilinear(3, 4, 2)(np.ones((5, 3), dtype="float32"), np.ones((5, 4), dtype="float32")).shape
    (5, 2)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        if in1_features <= 0:
            raise ValueError(f"in1_features is 1 or more, not {in1_features}")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = new_parameter((out_features, in1_features, in2_features), xp, dtype, device)
        self.register_parameter("bias", new_parameter((out_features,), xp, dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Any, input2: Any) -> Any:
        """Combine the last axes of two inputs."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Give the sizes."""
        sizes = f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"


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


class Unflatten(Module):
    """Make several axes of one.

    Parameters
    ----------
    dim : int
        The axis.
    unflattened_size : tuple of int
        The sizes of the axes in its place; -1 for one that is to be found out.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Unflatten(1, (2, -1))(np.ones((5, 6))).shape
    (5, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise TypeError(f"Unflatten: dim is an integer, not {type(dim).__name__}; arrays have no named axes")
        if not isinstance(unflattened_size, tuple | list) or not all(isinstance(n, int) for n in unflattened_size):
            raise TypeError(f"Unflatten: unflattened_size is a tuple of integers, not {unflattened_size!r}")
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Any) -> Any:
        """Reshape."""
        return F.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Give the axis and the sizes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
