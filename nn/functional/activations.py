"""Activations.

``inplace=True``, and the names that end in ``_``, change the array object: a Variable takes the result's value and history, as with ``x += y``, and
what was saved of its former value for the backward pass stays. A raw array is overwritten where its library can do that (NumPy, PyTorch, CuPy).
"""

from __future__ import annotations

import warnings
from typing import Any

from agnostic_ad.config import dtype_name
from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of
from agnostic_ad.ops.operators import store
from agnostic_ad.rules import QUICK

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "leaky_relu",
    "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_", "rrelu", "rrelu_", "selu", "selu_", "sigmoid", "silu",
    "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold", "threshold_",
]  # fmt: skip

_elu = QUICK["nn.elu"]
_expit = QUICK["special.expit"]
_gelu = {"none": QUICK["nn.gelu"], "tanh": QUICK["nn.gelu_tanh"]}
_hardshrink = QUICK["nn.hardshrink"]
_hardsigmoid = QUICK["nn.hardsigmoid"]
_hardswish = QUICK["nn.hardswish"]
_hardtanh = QUICK["nn.hardtanh"]
_leaky_relu = QUICK["nn.leaky_relu"]
_log_expit = QUICK["special.log_expit"]
_log_softmax = QUICK["nn.log_softmax"]
_mish = QUICK["nn.mish"]
_multiply = QUICK["multiply"]
_noise = QUICK["nn.noise"]
_prelu = QUICK["nn.prelu"]
_relu = QUICK["nn.relu"]
_reshape = QUICK["reshape"]
_silu = QUICK["nn.silu"]
_softmax = QUICK["nn.softmax"]
_softplus = QUICK["nn.softplus"]
_softshrink = QUICK["nn.softshrink"]
_softsign = QUICK["nn.softsign"]
_stop_gradient = QUICK["stop_gradient"]
_tanh = QUICK["tanh"]
_threshold = QUICK["nn.threshold"]

SELU = (1.6732632423543772, 1.0507009873554805)
"""Alpha and scale of `selu` (Klambauer et al., "Self-Normalizing Neural Networks", 2017)."""


def written(x: Any, y: Any, inplace: bool) -> Any:
    """Give ``y``; with ``inplace``, ``x`` with the values of ``y``."""
    if not inplace or y is x:
        return y
    if isinstance(x, Array):
        return store(x, y, "inplace=True")
    if isinstance(y, Array) or not backend_of(x).mutable or not hasattr(x, "__setitem__"):
        return y
    x[...] = y
    return x


def relu(input: Any, inplace: bool = False) -> Any:
    """Compute max(x, 0); the derivative at 0 is 0.

    Parameters
    ----------
    input : array
        Any shape, of a floating dtype.
    inplace : bool
        Whether ``input`` itself takes the result.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.relu(np.asarray([-1.0, 2.0]))
    array([0., 2.])
    """
    return _relu(input) if not inplace else written(input, _relu(input), True)


def relu6(input: Any, inplace: bool = False) -> Any:
    """Compute min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """Limit values to lie between two bounds; the derivative at the bounds is 0."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
    return written(input, _hardtanh(input, low=float(min_val), high=float(max_val)), inplace)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """Give x where it is above ``threshold``, and ``value`` elsewhere."""
    return written(input, _threshold(input, at=float(threshold), value=float(value)), inplace)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """Give x where it is positive, and ``negative_slope`` times x elsewhere."""
    return written(input, _leaky_relu(input, slope=float(negative_slope)), inplace)


def prelu(input: Any, weight: Any) -> Any:
    """Give x where it is positive, and ``weight`` times x elsewhere.

    Parameters
    ----------
    input : array
        Shape (N, C, ...), or any.
    weight : array
        Shape (C,), a number for each channel; or shape (1,) or (), one for all.
    """
    shape, size = tuple(input.shape), tuple(weight.shape)
    channels = shape[1] if len(shape) > 1 else 1
    if len(size) > 1 or size not in ((), (1,), (channels,)):
        raise ValueError(f"prelu: weight has shape {size}; one number, or one for each of {channels} channels, is wanted")
    return _prelu(input, _reshape(weight, (-1, *(1,) * (len(shape) - 2)) if len(shape) > 1 else ()))


def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False) -> Any:
    """Give x where it is positive, and x times a random number elsewhere.

    Parameters
    ----------
    input : array
        Any shape.
    lower, upper : float
        Between which the numbers are drawn, one for each element, from the default generator; the mean of the two serves all if not ``training``.
    """
    if lower > upper:
        raise ValueError(f"rrelu: lower {lower} is greater than upper {upper}")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    return written(input, _prelu(input, _noise(input, low=float(lower), high=float(upper))), inplace)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Give x where it is positive, and alpha (exp(x) - 1) elsewhere."""
    return written(input, _elu(input, alpha=float(alpha)), inplace)


def selu(input: Any, inplace: bool = False) -> Any:
    """Give `elu` with the alpha, and times the scale, that keep mean 0 and variance 1."""
    return written(input, _elu(input, alpha=SELU[0], scale=SELU[1]), inplace)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Give x where it is positive, and alpha (exp(x / alpha) - 1) elsewhere."""
    if alpha == 0:
        raise ZeroDivisionError("celu: alpha is a number other than 0")
    return written(input, _elu(input, alpha=float(alpha), rate=1.0 / alpha), inplace)


def gelu(input: Any, approximate: str = "none") -> Any:
    """Give x times the normal distribution function of x.

    Parameters
    ----------
    input : array
        Any shape.
    approximate : {"none", "tanh"}
        Whether to put 0.5 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) in place of the function (Hendrycks and Gimpel, 2016).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.gelu(np.asarray([-1.0, 0.0, 1.0], dtype="float32")).round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    if approximate not in _gelu:
        raise ValueError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")
    return _gelu[approximate](input)


def silu(input: Any, inplace: bool = False) -> Any:
    """Give x times `sigmoid` of x."""
    return _silu(input) if not inplace else written(input, _silu(input), True)


def mish(input: Any, inplace: bool = False) -> Any:
    """Give x tanh(softplus(x))."""
    return written(input, _mish(input), inplace)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """Give x / 6 + 1 / 2, limited to lie between 0 and 1."""
    return written(input, _hardsigmoid(input), inplace)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """Give x times `hardsigmoid` of x."""
    return written(input, _hardswish(input), inplace)


def sigmoid(input: Any) -> Any:
    """Give 1 / (1 + exp(-x))."""
    return _expit(input)


def logsigmoid(input: Any) -> Any:
    """Give the logarithm of `sigmoid`, without overflow."""
    return _log_expit(input)


def tanh(input: Any) -> Any:
    """Give the hyperbolic tangent."""
    return _tanh(input)


def tanhshrink(input: Any) -> Any:
    """Give x - tanh(x)."""
    return input - _tanh(input)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Give log(1 + exp(beta x)) / beta, without overflow; x itself where beta x is above ``threshold``."""
    return _softplus(input, beta=float(beta), threshold=float(threshold))


def softsign(input: Any) -> Any:
    """Give x / (1 + abs(x))."""
    return _softsign(input)


def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """Give x, and 0 where its absolute value is at most ``lambd``."""
    return _hardshrink(input, bound=float(lambd))


def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """Give x moved towards 0 by ``lambd``, and 0 where it would get past it."""
    if lambd < 0:
        raise ValueError(f"softshrink: lambd is 0 or more, not {lambd}")
    return _softshrink(input, bound=float(lambd))


def glu(input: Any, dim: int = -1) -> Any:
    """Give the first half along ``dim`` times `sigmoid` of the second."""
    axis = normalize_axis(dim, len(input.shape), "glu") if input.shape else -1
    if axis < 0 or input.shape[axis] % 2:
        raise ValueError(f"glu: the axis to halve has an even size; got an input of shape {tuple(input.shape)} and dim={dim}")
    half, before = input.shape[axis] // 2, (slice(None),) * axis
    return _multiply(input[(*before, slice(None, half), ...)], _expit(input[(*before, slice(half, None), ...)]))


# --- along an axis ------------------------------------------------------------------------------------------------------------------------
def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give exp(x) over its sum along ``dim``.

    Parameters
    ----------
    input : array
        Any shape.
    dim : int, optional
        The axis. Where it is not given, it is 0 for 0, 1 or 3 dimensions and 1 for others, as in PyTorch, with a warning.
    dtype : dtype or str, optional
        What to convert the input to, first.
    """
    return _along(_softmax, _cast(input, dtype), _axis(input, dim, "softmax", _stacklevel))


def softmin(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give `softmax` of -x."""
    return _along(_softmax, -_cast(input, dtype), _axis(input, dim, "softmin", _stacklevel))


def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """Give the logarithm of `softmax`, without overflow."""
    return _along(_log_softmax, _cast(input, dtype), _axis(input, dim, "log_softmax", _stacklevel))


def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """Draw from the distributions whose logarithms are given, differentiably (Jang et al., 2017; Maddison et al., 2017).

    Parameters
    ----------
    logits : array
        Logarithms of probabilities along ``dim``, up to constants.
    tau : float
        The temperature: the smaller, the nearer to 0 or 1 lies each number.
    hard : bool
        Whether the result is 0 or 1 itself, with the derivative of the number between.
    eps : float
        Not used, as in PyTorch.
    """
    axis = normalize_axis(dim, len(logits.shape), "gumbel_softmax")
    y = _softmax((logits + _noise(logits, kind="gumbel")) / tau, axis=axis)
    if not hard:
        return y
    xp = unify([y])[0]
    best = xp.argmax(y, axis=axis, keepdims=True)
    places = xp.reshape(xp.arange(y.shape[axis], dtype=best.dtype, device=device_of(best)), (-1, *(1,) * (len(y.shape) - 1 - axis)))
    return xp.astype(best == places, y.dtype) - _stop_gradient(y) + y


def _axis(x: Any, dim: int | None, name: str, level: int) -> int:
    if dim is not None:
        return dim
    warnings.warn(f"{name}: dim is not given; say which axis, dim=... (PyTorch's old choice of one is used)", stacklevel=max(level, 3))
    return 0 if len(x.shape) in (0, 1, 3) else 1


def _along(op: Any, x: Any, axis: int) -> Any:
    """Apply an operation along an axis: a number is its own axis, as in PyTorch, and of nothing there is nothing."""
    shape = x.shape
    if not shape:
        return _reshape(op(_reshape(x, (1,)), axis=axis), ())
    return op(x, axis=axis) if shape[normalize_axis(axis, len(shape), "softmax")] else x * 1.0


def _cast(x: Any, dtype: Any) -> Any:
    if dtype is None:
        return x
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    return QUICK["astype"](x, backend.dtype(dtype_name(dtype)))


# --- in place -----------------------------------------------------------------------------------------------------------------------------
def celu_(input: Any, alpha: float = 1.0) -> Any:
    """Apply `celu` in place."""
    return celu(input, alpha, inplace=True)


def elu_(input: Any, alpha: float = 1.0) -> Any:
    """Apply `elu` in place."""
    return elu(input, alpha, inplace=True)


def hardtanh_(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Apply `hardtanh` in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def leaky_relu_(input: Any, negative_slope: float = 0.01) -> Any:
    """Apply `leaky_relu` in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def relu_(input: Any) -> Any:
    """Apply `relu` in place."""
    return relu(input, inplace=True)


def rrelu_(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Any:
    """Apply `rrelu` in place."""
    return rrelu(input, lower, upper, training, inplace=True)


def selu_(input: Any) -> Any:
    """Apply `selu` in place."""
    return selu(input, inplace=True)


def threshold_(input: Any, threshold: float, value: float) -> Any:
    """Apply `threshold` in place."""
    return written(input, _threshold(input, at=float(threshold), value=float(value)), True)
