"""Linear maps, and the shapes around them."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import normalize_axis
from agnostic_ad.rules import QUICK

__all__ = ["bilinear", "flatten", "linear", "unflatten"]

_linear = QUICK["nn.linear"]
_matmul = QUICK["matmul"]
_permute = QUICK["permute_dims"]
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


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """Compute ``input1 @ weight[k] @ input2 + bias[k]`` for each ``k``.

    Parameters
    ----------
    input1, input2 : array
        Shapes (..., in1_features) and (..., in2_features), alike but for the last axis.
    weight : array
        Shape (out_features, in1_features, in2_features).
    bias : array, optional
        Shape (out_features,).
    """
    one, two, sizes = tuple(input1.shape), tuple(input2.shape), tuple(weight.shape)
    if len(sizes) != 3 or one[:-1] != two[:-1] or one[-1:] != sizes[1:2] or two[-1:] != sizes[2:]:
        raise ValueError(f"bilinear: inputs of shape {one} and {two} do not fit a weight of shape {sizes} (outputs, inputs 1, inputs 2)")
    out, m, n = sizes
    rows = math.prod(one[:-1])
    # (rows, m) with (out n, m), then for each row (out, n) with (n, 1)
    through = _linear(_reshape(input1, (rows, m)), _reshape(_permute(weight, (0, 2, 1)), (out * n, m)))
    y = _reshape(_matmul(_reshape(through, (rows, out, n)), _reshape(input2, (rows, n, 1))), (*one[:-1], out))
    return y if bias is None else y + bias


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Make one axis of those from ``start_dim`` to ``end_dim``."""
    shape = tuple(input.shape)
    if not shape:
        return _reshape(input, (1,))
    a, b = (normalize_axis(d, len(shape), "flatten") for d in (start_dim, end_dim))
    if a > b:
        raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    return _reshape(input, (*shape[:a], math.prod(shape[a : b + 1]), *shape[b + 1 :]))


def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    """Make axes of ``sizes`` of one; a size may be -1, to be found out."""
    shape, sizes = tuple(input.shape), tuple(sizes)
    a = normalize_axis(dim, len(shape), "unflatten")
    known = math.prod(n for n in sizes if n != -1)
    free = sizes.count(-1)
    if not sizes or free > 1 or any(n < -1 for n in sizes) or (shape[a] % known if free and known else known != shape[a]):
        raise ValueError(f"unflatten: axis {dim} of an input of shape {shape} cannot have the sizes {sizes}")
    return _reshape(input, (*shape[:a], *(shape[a] // known if n == -1 else n for n in sizes), *shape[a + 1 :]))
