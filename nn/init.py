"""Initial values of parameters: drawn on the host, so that one seed gives the same on every library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from agnostic_ad import Variable
from agnostic_ad import random as ad_random
from agnostic_ad.config import dtype_name
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.parameter import assign

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _fill(tensor: Variable, values: Any) -> Variable:
    if not isinstance(tensor, Variable) or not tensor.is_leaf:
        raise TypeError(f"init works in place on parameters and other leaf Variables, not on {type(tensor).__name__}")
    raw = tensor.payload
    backend = backend_of(raw)
    host = np.broadcast_to(np.asarray(values, dtype="float64"), tensor.shape)
    try:
        assign(tensor, backend.from_numpy(host.astype(dtype_name(raw.dtype)), backend.device(raw)))
    except TypeError:  # a dtype that NumPy lacks, or that it has from JAX and this library does not take
        assign(tensor, backend.astype(backend.from_numpy(host, backend.device(raw)), raw.dtype))
    return tensor


def _source(generator: ad_random.Generator | None) -> ad_random.Generator:
    return ad_random.default_generator if generator is None else generator


def constant_(tensor: Variable, val: float) -> Variable:
    """Fill with one value; give the parameter."""
    return _fill(tensor, val)


def zeros_(tensor: Variable) -> Variable:
    """Fill with zeros; give the parameter."""
    return _fill(tensor, 0.0)


def ones_(tensor: Variable) -> Variable:
    """Fill with ones; give the parameter."""
    return _fill(tensor, 1.0)


def uniform_(tensor: Variable, a: float = 0.0, b: float = 1.0, generator: ad_random.Generator | None = None) -> Variable:
    """Draw from a uniform distribution between ``a`` and ``b``; give the parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.init.uniform_(nn.Parameter(np.zeros(100)), -1, 1)
    >>> bool(abs(p.data).max() <= 1)
    True
    """
    return _fill(tensor, _source(generator).uniform(tensor.shape, a, b))


def normal_(tensor: Variable, mean: float = 0.0, std: float = 1.0, generator: ad_random.Generator | None = None) -> Variable:
    """Draw from a normal distribution; give the parameter."""
    return _fill(tensor, _source(generator).normal(tensor.shape, mean, std))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Give the factor by which a layer before this nonlinearity should be larger.

    Parameters
    ----------
    nonlinearity : str
        "linear", "conv1d" and so on, "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
    param : float, optional
        The slope of leaky_relu, by default 0.01.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    gains = {
        "tanh": 5.0 / 3,
        "relu": math.sqrt(2.0),
        "selu": 3.0 / 4,
        "leaky_relu": math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2)),
    }
    if nonlinearity not in gains:
        raise ValueError(f"calculate_gain knows linear, sigmoid, conv1d, {', '.join(gains)}; not {nonlinearity!r}")
    return gains[nonlinearity]


def fans(tensor: Any) -> tuple[int, int]:
    """Give how many inputs and outputs each unit of a weight is connected to."""
    if len(tensor.shape) < 2:
        raise ValueError(f"fans are those of a weight of 2 dimensions or more, not of shape {tuple(tensor.shape)}")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


def _kaiming(tensor: Variable, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is 'fan_in' or 'fan_out', not {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fans(tensor)[mode == "fan_out"]))


def kaiming_uniform_(
    tensor: Variable,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: ad_random.Generator | None = None,
) -> Variable:
    """Draw from the uniform distribution that keeps the variance through layers with rectifiers (He et al., 2015); give the parameter."""
    bound = math.sqrt(3.0) * _kaiming(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Variable,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: ad_random.Generator | None = None,
) -> Variable:
    """Draw from the normal distribution that keeps the variance through layers with rectifiers (He et al., 2015); give the parameter."""
    return normal_(tensor, 0.0, _kaiming(tensor, a, mode, nonlinearity), generator)


def xavier_uniform_(tensor: Variable, gain: float = 1.0, generator: ad_random.Generator | None = None) -> Variable:
    """Draw from the uniform distribution of Glorot and Bengio (2010); give the parameter."""
    bound = gain * math.sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Variable, gain: float = 1.0, generator: ad_random.Generator | None = None) -> Variable:
    """Draw from the normal distribution of Glorot and Bengio (2010); give the parameter."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)
