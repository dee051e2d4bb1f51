"""Dropout layers: one base, which keeps the probability; each calls its function, in training mode alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.functional.dropouts import check_probability
from agnostic_ad.nn.module import Module

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class _DropoutNd(Module):
    """What the dropout layers share."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        check_probability(p)
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        """Make elements zero, in training mode."""
        return type(self).function(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """Give the probability."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_DropoutNd):
    """Make elements zero with probability ``p`` in training mode, and divide the others by 1 - p.

    Parameters
    ----------
    p : float
        The probability, between 0 and 1.
    inplace : bool
        Whether the input itself takes the result.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.Dropout(0.5)
    >>> sorted(set(layer(np.ones(100)).tolist()))
    [0.0, 2.0]
    >>> layer.eval()(np.ones(3))
    array([1., 1., 1.])
    """

    function = F.dropout


class Dropout1d(_DropoutNd):
    """Make channels of (N, C, L) or (C, L) zero; the arguments are those of `Dropout`."""

    function = F.dropout1d


class Dropout2d(_DropoutNd):
    """Make channels of (N, C, H, W) zero; the arguments are those of `Dropout`."""

    function = F.dropout2d


class Dropout3d(_DropoutNd):
    """Make channels of (N, C, D, H, W) or (C, D, H, W) zero; the arguments are those of `Dropout`."""

    function = F.dropout3d


class AlphaDropout(_DropoutNd):
    """Drop elements of what `SELU` gives, so that mean 0 and variance 1 stay; the arguments are those of `Dropout`."""

    function = F.alpha_dropout


class FeatureAlphaDropout(_DropoutNd):
    """Drop channels of what `SELU` gives, so that mean 0 and variance 1 stay; the arguments are those of `Dropout`."""

    function = F.feature_alpha_dropout
