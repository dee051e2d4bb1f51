"""einops for every wrapped array: ``import agnostic_ad.einops`` is all there is to do.

einops knows the arrays of the libraries that it has a backend for, and finds backends among the subclasses of its own class: importing
this module makes one. Without it, ``einops.array_api`` works, and ``einops.rearrange`` says that it does not know the type.

Examples
--------
>>> import einops
>>> import numpy as np
>>> import agnostic_ad as ad
>>> import agnostic_ad.einops
>>> x = ad.Variable(np.arange(6.0))
>>> y = einops.rearrange(x, "(a b) -> b a", a=2)
>>> y.shape
(3, 2)
>>> einops.reduce(y**2, "b a -> ", "sum").backward()
>>> x.grad
array([ 0.,  2.,  4.,  6.,  8., 10.])
"""

from __future__ import annotations

from typing import Any

from einops._backends import AbstractBackend

from agnostic_ad.levels import Array, inexact
from agnostic_ad.op import TABLE

__all__ = ["Backend"]


class Backend(AbstractBackend):  # type: ignore[misc]
    """What einops asks of an array library; methods of arrays do the rest."""

    framework_name = "agnostic_ad"

    def is_appropriate_type(self, tensor: Any) -> bool:
        """Tell whether this is an array of a transformation."""
        return isinstance(tensor, Array)

    def stack_on_zeroth_dimension(self, tensors: list[Any]) -> Any:
        """Stack a list of arrays."""
        return TABLE["stack"](tensors)

    def concat(self, tensors: list[Any], axis: int) -> Any:
        """Join arrays along an axis."""
        return TABLE["concat"](tensors, axis=axis)

    def tile(self, x: Any, repeats: tuple[int, ...]) -> Any:
        """Repeat the whole array along each axis."""
        return TABLE["tile"](x, repeats)

    def add_axis(self, x: Any, new_position: int) -> Any:
        """Insert an axis of size 1."""
        return TABLE["expand_dims"](x, axis=new_position)

    def is_float_type(self, x: Any) -> bool:
        """Tell whether a mean can be taken."""
        return inexact(x)

    def einsum(self, pattern: str, *x: Any) -> Any:
        """Sum products over named axes."""
        return TABLE["einsum"](pattern, *x)
