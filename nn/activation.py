"""Activations: modules without parameters."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.module import Module

__all__ = ["ReLU"]


class ReLU(Module):
    """Compute max(x, 0).

    Parameters
    ----------
    inplace : bool
        Accepted for PyTorch's sake; nothing is overwritten.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Any) -> Any:
        """Compute max(input, 0)."""
        return F.relu(input)

    def extra_repr(self) -> str:
        """Give ``inplace`` where it was asked for."""
        return "inplace=True" if self.inplace else ""
