"""A batch normalization in evaluation mode taken into the layer before it; and layers without initial values."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from agnostic_ad import Variable, no_grad
from agnostic_ad.nn import init
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Parameter

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights", "skip_init"]


def _fused(weight: Any, bias: Any, mean: Any, variance: Any, eps: float, scale: Any, shift: Any, axis: int) -> tuple[Variable, Variable]:
    """Give weight and bias whose outputs lie on an axis of the weight, with the normalization in them."""
    with no_grad():
        xp = mean.__array_namespace__()
        factor = 1.0 / xp.sqrt(variance + eps)
        factor = factor if scale is None else factor * scale
        shape = tuple(-1 if i == axis else 1 for i in range(weight.ndim))
        fused = weight * xp.reshape(factor, shape)
        moved = -mean if bias is None else bias - mean
        moved = moved * factor if shift is None else moved * factor + shift
    kept = weight.requires_grad, weight.requires_grad if bias is None else bias.requires_grad
    made = [Parameter(xp.astype(x, weight.dtype).payload, r) for x, r in zip((fused, moved), kept, strict=True)]
    return made[0], made[1]


def fuse_conv_bn_weights(
    conv_w: Variable,
    conv_b: Variable | None,
    bn_rm: Variable,
    bn_rv: Variable,
    bn_eps: float,
    bn_w: Variable | None,
    bn_b: Variable | None,
    transpose: bool = False,
) -> tuple[Variable, Variable]:
    """Give the weight and bias of a convolution with the batch normalization behind it in them.

    Parameters
    ----------
    conv_w, conv_b : Parameter
        Of the convolution; the bias may be None.
    bn_rm, bn_rv, bn_eps, bn_w, bn_b
        Running mean and variance, eps, weight and bias of the normalization; the last two may be None.
    transpose : bool
        Whether the convolution is a transposed one.

    Returns
    -------
    tuple of two Parameters
    """
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_weights(
    linear_w: Variable,
    linear_b: Variable | None,
    bn_rm: Variable,
    bn_rv: Variable,
    bn_eps: float,
    bn_w: Variable | None,
    bn_b: Variable | None,
) -> tuple[Variable, Variable]:
    """Give the weight and bias of a linear layer with the batch normalization behind it in them; as `fuse_conv_bn_weights`."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _check(layer: Module, bn: Module, what: str) -> None:
    if layer.training or bn.training:
        raise ValueError(f"{what}: both layers must be in evaluation mode; call eval() on them, for in training the statistics change")
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(f"{what}: the batch normalization has no running statistics (track_running_stats=False)")


def _with(layer: Module, fused: tuple[Variable, Variable]) -> Module:
    made = copy.deepcopy(layer)
    made.weight, made.bias = fused
    return made


def fuse_conv_bn_eval(conv: Module, bn: Module, transpose: bool = False) -> Module:
    """Give a convolution that does what ``conv`` and then ``bn`` do in evaluation mode.

    Parameters
    ----------
    conv : Module
        A convolution of any number of axes.
    bn : Module
        A batch normalization.
    transpose : bool
        Whether the convolution is a transposed one.

    Returns
    -------
    Module
        Of the class of ``conv``, with parameters of its own.
    """
    _check(conv, bn, "fuse_conv_bn_eval")
    return _with(conv, fuse_conv_bn_weights(conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose))


def fuse_linear_bn_eval(linear: Module, bn: Module) -> Module:
    """Give a linear layer that does what ``linear`` and then ``bn`` do in evaluation mode."""
    _check(linear, bn, "fuse_linear_bn_eval")
    if bn.num_features not in (1, linear.out_features):
        raise ValueError(f"fuse_linear_bn_eval: {bn.num_features} features do not fit {linear.out_features} outputs")
    return _with(linear, fuse_linear_bn_weights(linear.weight, linear.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias))


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """Make a module without drawing initial values, for weights that are loaded anyway.

    Parameters
    ----------
    module_cls : type
        The class of the module; it takes ``device``.
    *args, **kwargs
        What it is made with.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> nn.utils.skip_init(nn.Linear, 3, 1).weight.data
    array([[0., 0., 0.]], dtype=float32)
    """
    if not (isinstance(module_cls, type) and issubclass(module_cls, Module)):
        raise TypeError(f"skip_init makes an nn.Module; {module_cls!r} is none")
    if "device" not in inspect.signature(module_cls).parameters:
        raise TypeError(f"skip_init: {module_cls.__name__} takes no device, so it is not known to make its parameters as layers here do")
    with init.skipped():
        return module_cls(*args, **kwargs)
