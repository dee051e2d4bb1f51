"""Normalization: over batches, instances, groups of channels, layers; and across neighbouring channels.

Running statistics are updated where they lie, outside of any recording. Inside a transformation what enters them is the value underneath, not an
array of the transformation; where there are many values at once (``vmap``) or none yet (capture), they cannot be updated, and an error says so.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.modes import no_grad
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.parameter import assign
from agnostic_ad.rules import QUICK

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]

_astype, _reshape, _standardize, _stop = QUICK["astype"], QUICK["reshape"], QUICK["nn.standardize"], QUICK["stop_gradient"]


# --- what they share --------------------------------------------------------------------------------------------------------------------
def _standardized(x: Any, weight: Any, bias: Any, axis: Any, eps: float, center: bool = True) -> Any:
    """Standardize; arrays of 16 bits in float32, or the parameters' dtype, and back."""
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    if backend.kind(x.dtype) != "f":
        raise TypeError(f"normalization takes real floating arrays, not {x.dtype}")
    dtype = x.dtype
    if backend.xp.finfo(dtype).bits < 32:
        given = [a for a in (weight, bias) if a is not None]
        wide = next((a.dtype for a in given if a.dtype != dtype), backend.dtype("float32"))
        x, weight, bias = (a if a is None or a.dtype == wide else _astype(a, wide) for a in (x, weight, bias))
    y, mean, var = _standardize(x, weight, bias, axis=axis, eps=eps, center=center)
    return (y if y.dtype == dtype else _astype(y, dtype)), mean, var


def _per_channel(a: Any, shape: tuple[int, ...]) -> Any:
    """Give an array of one number a channel in a shape that broadcasts."""
    return a if a is None or tuple(a.shape) == shape else _reshape(a, shape)


def _check_channels(name: str, channels: int, **given: Any) -> None:
    for what, a in given.items():
        if a is not None and tuple(a.shape) != (channels,):
            raise ValueError(f"{name}: {what} has shape {tuple(a.shape)}; one number for each of {channels} channels is wanted")


def _value_for(running: Any, value: Any) -> Any:
    """Give the value underneath ``value`` that a running statistic can hold: an array of no deeper level."""
    depth = running.level.depth if isinstance(running, Array) else 0
    while isinstance(value, Array) and (value.level.depth > depth or not isinstance(running, Array)):
        inner = value.payload
        if inner is None or tuple(inner.shape) != value.shape:
            raise UnsupportedError(
                f"running statistics cannot be updated inside {value.level.label}: there is no one value for them. Call eval() on the layer, "
                "or make it with track_running_stats=False."
            )
        value = inner
    return value


def _follow(running: Any, value: Any, momentum: float) -> None:
    """Move a running statistic towards a value, in place."""
    if running is None:
        return
    value = _value_for(running, value)
    if isinstance(running, Array) and running.level.depth == 0 and not isinstance(running.payload, Array):
        raw = running.payload
        value = value.payload if isinstance(value, Array) else value
        moved = raw * (1 - momentum) + value * momentum
        assign(running, moved if moved.dtype == raw.dtype else _astype(moved, raw.dtype))
        return
    try:
        with no_grad():
            running[...] = running * (1 - momentum) + _astype(value, running.dtype) * momentum
    except TypeError:
        raise UnsupportedError(
            f"running statistics are updated in place, but a {type(running).__name__} cannot be changed: wrap it, nn.Buffer(x)"
        ) from None


def _constant(a: Any) -> Any:
    """Give the raw array in a buffer, with which nothing is recorded."""
    return a.payload if isinstance(a, Array) and a.level.depth == 0 and not a.carries_gradient() else a


def _with_statistics(x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    """Normalize with statistics that are given: one factor and one summand a channel."""
    shape, dtype = (-1, *(1,) * (len(x.shape) - 2)), x.dtype
    given = [x, _constant(mean), _constant(var), *(a for a in (weight, bias) if a is not None)]
    xp, (x, mean, var, *affine) = unify(given)
    factor = 1 / xp.sqrt(var + eps)
    if weight is not None:
        factor = xp.multiply(factor, affine.pop(0))
    shift = xp.multiply(-mean, factor)
    if affine:
        shift = xp.add(shift, affine[0])
    y = xp.add(xp.multiply(x, xp.reshape(factor, shape)), xp.reshape(shift, shape))
    return y if y.dtype == dtype else xp.astype(y, dtype)


def _check_count(name: str, count: int, shape: Any) -> None:
    if count == 1:
        raise ValueError(f"{name}: Expected more than 1 value per channel when training, got input size {tuple(shape)}")


# --- the functions ----------------------------------------------------------------------------------------------------------------------
def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Standardize each channel over the batch (Ioffe and Szegedy, 2015).

    Parameters
    ----------
    input : array
        Shape (N, C) or (N, C, ...).
    running_mean, running_var : array or Buffer, optional
        Shape (C,). In training they follow the batch's mean and unbiased variance, in place; otherwise they take their place.
    weight, bias : array, optional
        Shape (C,).
    training : bool
        Whether to use the batch's own statistics.
    momentum : float
        The share of a batch in the running statistics.
    eps : float
        What is added to the variance.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.batch_norm(np.asarray([[1.0], [3.0]]), None, None, training=True, eps=1e-12)
    array([[-1.],
           [ 1.]])
    """
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise ValueError(f"batch_norm: an input of shape (N, C) or (N, C, ...) is wanted, not {shape}")
    _check_channels("batch_norm", shape[1], running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if eps < 0 or (training and eps == 0):
        raise ValueError(f"batch_norm: eps must be {'positive in training' if training else 'non-negative'}, but got {eps}")
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: Expected running_mean and running_var to be defined when training=False")
        return _with_statistics(input, running_mean, running_var, weight, bias, eps)
    axis, each = (0, *range(2, len(shape))), (shape[1], *(1,) * (len(shape) - 2))
    count = math.prod(shape[a] for a in axis)
    _check_count("batch_norm", count, shape)
    y, mean, var = _standardized(input, _per_channel(weight, each), _per_channel(bias, each), axis, eps)
    if count and (running_mean is not None or running_var is not None):
        _follow(running_mean, _reshape(_stop(mean), (-1,)), momentum)
        _follow(running_var, _reshape(_stop(var), (-1,)) * (count / (count - 1)), momentum)
    return y


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Standardize each channel of each instance (Ulyanov et al., 2016).

    Parameters
    ----------
    input : array
        Shape (N, C, ...), with one axis more at least.
    running_mean, running_var : array or Buffer, optional
        Shape (C,). They follow the means over the batch of the instances' statistics; without ``use_input_stats`` they take their place.
    weight, bias : array, optional
        Shape (C,).
    use_input_stats : bool
        Whether to use the instances' own statistics.
    momentum, eps : float
        As for `batch_norm`.
    """
    shape = tuple(input.shape)
    if len(shape) < 3:
        raise ValueError(f"instance_norm: an input of shape (N, C, ...) with one axis more at least is wanted, not {shape}")
    _check_channels("instance_norm", shape[1], running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("instance_norm: Expected running_mean and running_var to be defined when use_input_stats=False")
        return _with_statistics(input, running_mean, running_var, weight, bias, eps)
    axis, each = tuple(range(2, len(shape))), (shape[1], *(1,) * (len(shape) - 2))
    count = math.prod(shape[2:])
    if count == 1:
        raise ValueError(f"instance_norm: Expected more than 1 spatial element when training, got input size {shape}")
    y, mean, var = _standardized(input, _per_channel(weight, each), _per_channel(bias, each), axis, eps)
    if count and shape[0] and (running_mean is not None or running_var is not None):
        for running, value, factor in ((running_mean, mean, 1.0), (running_var, var, count / (count - 1))):
            value = _reshape(_stop(value), shape[:2])
            _follow(running, unify([value])[0].mean(value, axis=0) * factor, momentum)
    return y


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Standardize groups of channels of each instance (Wu and He, 2018).

    Parameters
    ----------
    input : array
        Shape (N, C) or (N, C, ...).
    num_groups : int
        A divisor of C.
    weight, bias : array, optional
        Shape (C,).
    eps : float
        What is added to the variance.
    """
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise ValueError(f"group_norm: an input of 2 dimensions or more is wanted, not of shape {shape}")
    batch, channels, *spatial = shape
    if num_groups <= 0 or channels % num_groups:
        raise ValueError(
            f"group_norm: Expected number of channels in input to be divisible by num_groups, but got {shape} and {num_groups}"
        )
    _check_channels("group_norm", channels, weight=weight, bias=bias)
    _check_count("group_norm", batch * channels // num_groups * math.prod(spatial), shape)
    size = channels // num_groups
    each = (num_groups, size, *(1,) * len(spatial))
    x = _reshape(input, (batch, num_groups, size, *spatial))
    y, _, _ = _standardized(x, _per_channel(weight, each), _per_channel(bias, each), tuple(range(2, len(spatial) + 3)), eps)
    return _reshape(y, shape)


def _layer_axes(name: str, input: Any, normalized_shape: Any, **given: Any) -> tuple[int, ...]:
    """Give the axes that a layer is normalized over; refuse what does not fit."""
    wanted, shape = tuple(normalized_shape), tuple(input.shape)
    if not wanted:
        raise ValueError(
            f"{name}: Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got ()"
        )
    if shape[len(shape) - len(wanted) :] != wanted or len(shape) < len(wanted):
        raise ValueError(
            f"{name}: Given normalized_shape={list(wanted)}, expected input with shape [*, {', '.join(map(str, wanted))}], but got input of "
            f"size {list(shape)}"
        )
    for what, a in given.items():
        if a is not None and tuple(a.shape) != wanted:
            raise ValueError(f"{name}: {what} has shape {tuple(a.shape)}; normalized_shape {wanted} is wanted")
    return tuple(range(len(shape) - len(wanted), len(shape)))


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Standardize over the last axes (Ba, Kiros and Hinton, 2016).

    Parameters
    ----------
    input : array
        Its last axes have the sizes ``normalized_shape``.
    normalized_shape : sequence of int
        The sizes of the last axes.
    weight, bias : array, optional
        Of that shape.
    eps : float
        What is added to the variance.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.layer_norm(np.asarray([1.0, 3.0]), (2,), eps=1e-12)
    array([-1.,  1.])
    """
    return _standardized(input, weight, bias, _layer_axes("layer_norm", input, normalized_shape, weight=weight, bias=bias), eps)[0]


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Divide by the root of the mean square over the last axes (Zhang and Sennrich, 2019).

    Parameters
    ----------
    input : array
        Its last axes have the sizes ``normalized_shape``.
    normalized_shape : sequence of int
        The sizes of the last axes.
    weight : array, optional
        Of that shape.
    eps : float, optional
        What is added to the mean square; by default the distance from 1 to the next number of the dtype that is computed in.
    """
    axis = _layer_axes("rms_norm", input, normalized_shape, weight=weight)
    if eps is None:
        backend = input.backend if isinstance(input, Array) else backend_of(input)
        eps = float(backend.xp.finfo(input.dtype).eps)
    return _standardized(input, weight, None, axis, eps, center=False)[0]


def _across(x: Any, before: int, after: int) -> Any:
    """Sum each channel's neighbours, so many before and after it."""
    xp, (x,) = unify([x])
    channels = x.shape[1]
    around = [xp.zeros((x.shape[0], n, *x.shape[2:]), dtype=x.dtype, device=device_of(x)) for n in (before, after)]
    wide = xp.concat([around[0], x, around[1]], axis=1)
    parts = [wide[:, i : i + channels, ...] for i in range(before + after + 1)]
    return sum(parts[1:], parts[0])


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """Divide by a power of the neighbouring channels' mean square (Krizhevsky, Sutskever and Hinton, 2012).

    Parameters
    ----------
    input : array
        Shape (N, C, ...), with one axis more at least.
    size : int
        How many channels count as neighbours, the channel itself included.
    alpha, beta, k : float
        The result is ``input / (k + alpha * mean) ** beta``.
    """
    return across_channels("local_response_norm", input, size, size // 2, (size - 1) // 2, alpha, beta, k)


def across_channels(name: str, input: Any, size: int, before: int, after: int, alpha: float, beta: float, k: float) -> Any:
    """Compute `local_response_norm` with so many neighbours on either side."""
    if len(input.shape) < 3:
        raise ValueError(f"{name}: Expected 3D or higher dimensionality input (got {len(input.shape)} dimensions)")
    return input / (_across(input * input, before, after) * (alpha / size) + k) ** beta
