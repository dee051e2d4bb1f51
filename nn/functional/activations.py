"""Activations."""

from __future__ import annotations

from typing import Any

from agnostic_ad.rules import QUICK

__all__ = ["log_softmax", "relu", "softmax"]

_log_softmax = QUICK["nn.log_softmax"]
_relu = QUICK["nn.relu"]
_softmax = QUICK["nn.softmax"]


def relu(input: Any, inplace: bool = False) -> Any:
    """Compute max(x, 0); the derivative at 0 is 0. ``inplace`` is accepted for PyTorch's sake; nothing is overwritten.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.relu(np.asarray([-1.0, 2.0]))
    array([0., 2.])
    """
    return _relu(input)


def softmax(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give exp(x) over its sum along ``dim``, computed in ``dtype``."""
    return _softmax(_cast(input, dtype), axis=dim)


def log_softmax(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give the logarithm of `softmax`, without overflow."""
    return _log_softmax(_cast(input, dtype), axis=dim)


def _cast(x: Any, dtype: Any) -> Any:
    return x if dtype is None else QUICK["astype"](x, dtype)
