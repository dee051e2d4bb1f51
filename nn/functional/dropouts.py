"""Dropout: elements, or whole channels, that become zero by chance in training.

The masks are drawn on the host from the default generator, so that one seed gives the same ones whatever the library. Inside ``vmap`` each member
of a batch has its own, those that the whole batch would get without ``vmap``; an array that is the same for all members has one for all.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from agnostic_ad.nn.functional.activations import SELU, written
from agnostic_ad.rules import QUICK

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]

_astype = QUICK["astype"]
_keep = QUICK["nn.keep"]
_masked = QUICK["nn.masked"]
_stop_gradient = QUICK["stop_gradient"]


def check_probability(p: float) -> None:
    """Refuse what is no probability."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Make elements zero with probability ``p``, and divide the others by 1 - p; or do nothing, if not ``training``.

    Parameters
    ----------
    input : array
        Any shape, of a floating dtype.
    p : float
        The probability, between 0 and 1.
    training : bool
        Whether to do anything.
    inplace : bool
        Whether ``input`` itself takes the result.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad.nn import functional as F
    >>> _ = ad.manual_seed(0)
    >>> F.dropout(np.ones(8), 0.25).round(2)
    array([1.33, 0.  , 0.  , 1.33, 0.  , 1.33, 1.33, 1.33])
    """
    check_probability(p)
    if not training or p == 0.0:
        return input
    return written(input, _masked(input, _keep(input, p=1.0 - p), scale=_scale(p)), inplace)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Make channels of (N, C, L) or (C, L) zero; see `dropout`."""
    check_probability(p)
    ndim = len(input.shape)
    if ndim not in (2, 3):
        raise ValueError(f"dropout1d takes an input of 2 or 3 dimensions, (C, L) or (N, C, L), not of shape {tuple(input.shape)}")
    return _channels(input, 1 if ndim == 2 else 2, p, training, inplace)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Make channels of (N, C, H, W) zero; see `dropout`. Of 3 dimensions, the first two are the batch and the channels, as in PyTorch."""
    check_probability(p)
    ndim = len(input.shape)
    if ndim == 3:
        warnings.warn("dropout2d: an input of 3 dimensions is taken for (N, C, L); dropout1d is the function for that", stacklevel=2)
    elif ndim != 4:
        _warn_of_dimensions("dropout2d", ndim, "4 (N, C, H, W)")
    return _channels(input, 2, p, training, inplace)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Make channels of (N, C, D, H, W) or (C, D, H, W) zero; see `dropout`."""
    check_probability(p)
    ndim = len(input.shape)
    if ndim not in (4, 5):
        _warn_of_dimensions("dropout3d", ndim, "4 or 5, (C, D, H, W) or (N, C, D, H, W)")
    return _channels(input, 2 if ndim == 5 else 1, p, training, inplace)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Put elements to where `selu` tends for large negative numbers, with probability ``p``, so that mean 0 and variance 1 stay.

    Klambauer et al., "Self-Normalizing Neural Networks", 2017; see `dropout` for the arguments.
    """
    check_probability(p)
    if not training or p == 0.0:
        return input
    return written(input, _alpha(input, _keep(input, p=1.0 - p), p), inplace)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Do `alpha_dropout` with whole channels, the second axis."""
    check_probability(p)
    if not training or p == 0.0:
        return input
    _check_channels("feature_alpha_dropout", input, 2)
    return written(input, _alpha(input, _channel_mask(input, 2, p), p), inplace)


def _scale(p: float) -> float:
    return 0.0 if p == 1.0 else 1.0 / (1.0 - p)


def _channels(input: Any, axes: int, p: float, training: bool, inplace: bool) -> Any:
    """Make slices zero that the first ``axes`` axes count."""
    _check_channels("dropout of channels", input, axes)
    if not training or p == 0.0:
        return input
    return written(input, _masked(input, _channel_mask(input, axes, p), scale=_scale(p)), inplace)


def _channel_mask(input: Any, axes: int, p: float) -> Any:
    first = (slice(None),) * axes + (slice(None, 1),) * (len(input.shape) - axes)
    return _keep(_stop_gradient(input)[first], p=1.0 - p)


def _check_channels(what: str, input: Any, axes: int) -> None:
    if len(input.shape) < axes:
        raise ValueError(f"{what} needs an input of at least {axes} dimensions, not of shape {tuple(input.shape)}")


def _warn_of_dimensions(what: str, ndim: int, wanted: str) -> None:
    warnings.warn(f"{what}: an input of {ndim} dimensions; {wanted} are meant, and PyTorch will refuse others", stacklevel=3)


def _alpha(input: Any, mask: Any, p: float) -> Any:
    """Give ``a (x mask + alpha' (1 - mask)) + b``, with alpha' the limit of selu, and a and b that keep mean and variance."""
    limit = SELU[0] * SELU[1]
    a = _scale(p) if p == 1.0 else 1.0 / math.sqrt((limit * limit * p + 1.0) * (1.0 - p))
    kept = _astype(mask, input.dtype)
    return _masked(input, mask, scale=a) + (kept - (1.0 - p)) * (limit * a)
