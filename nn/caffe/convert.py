"""Caffe's parameters in modules of `agnostic_ad.nn`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.caffe.files import host, same_up_to_ones, weights
from agnostic_ad.nn.caffe.message import nearest
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import adopt, assign
from agnostic_ad.nn.recurrent import LSTM

__all__ = ["load_into"]

_Values = dict[str, Any]


def _lstm(arrays: list[Any], hidden: int) -> _Values:
    """Bring the gates from Caffe's order (input, forget, output, cell) into PyTorch's (input, forget, cell, output)."""
    order = np.concatenate([np.arange(k * hidden, (k + 1) * hidden) for k in (0, 1, 3, 2)])
    inner, bias, outer = (host(a)[order] for a in arrays)
    return {"weight_ih_l0": inner, "bias_ih_l0": bias, "weight_hh_l0": outer, "bias_hh_l0": np.zeros_like(bias)}


def _statistics(arrays: list[Any]) -> _Values:
    """Divide the sums that BatchNorm keeps by the weight that they have."""
    mean, variance, count = map(host, arrays)
    factor = 1 / count[0] if count[0] else 0.0
    return {"running_mean": mean * factor, "running_var": variance * factor}


def _named(module: Module, arrays: list[Any]) -> _Values:
    """Give the names that a layer's arrays have in a module."""
    if isinstance(module, LSTM) and len(arrays) == 3:
        return _lstm(arrays, module.hidden_size)
    if getattr(module, "running_mean", None) is not None and len(arrays) == 3:
        return _statistics(arrays)
    return {name: array for name, array in zip(("weight", "bias"), arrays) if array is not None} if len(arrays) <= 2 else {}


def load_into(module: Module, source: Any, names: Mapping[str, str | None] | None = None) -> None:
    """Copy the parameters of Caffe's layers to the modules of the same names.

    Convolution, Deconvolution, InnerProduct, PReLU, Embed (without bias), Scale and Bias have their parameters where PyTorch's modules have
    ``weight`` and ``bias``, in the same order. Those of BatchNorm become ``running_mean`` and ``running_var``; the layer Scale behind it goes to the same
    module. The gates of an LSTM are brought into PyTorch's order.

    Parameters
    ----------
    module : nn.Module
        What to copy to; its library, dtype and device stay.
    source : path, Net, Message or dict
        A ``.caffemodel`` or ``.h5`` file, a net, a NetParameter, or lists of arrays by the layers' names.
    names : dict, optional
        From a layer's name to that of the module, such as ``{"conv1": "features.0"}``; to None for a layer that is left out. By default the layer's
        own name.

    Raises
    ------
    KeyError
        Where there is no module of a name.
    ValueError
        Where the module lacks a parameter, has one that the layer lacks, or has one of another shape.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> from agnostic_ad.nn import caffe
    >>> net = caffe.Net('''
    ... layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 } } }
    ... layer { name: "ip" type: "InnerProduct" bottom: "data" top: "y"
    ...         inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
    ... ''')
    >>> model = nn.Sequential(nn.Linear(3, 2))
    >>> caffe.load_into(model, net, {"ip": "0"})
    >>> bool((model[0].weight.data == net.params["ip"][0].data).all())
    True
    """
    found = dict(module.named_modules())
    for layer, arrays in weights(source).items():
        name = (names or {}).get(layer, layer)
        if name is None:
            continue
        if name not in found:
            raise KeyError(
                f"load_into: there is no module {name!r} for layer {layer!r}{nearest(name, found)}; say another, or None, in names={{{layer!r}: ...}}"
            )
        _copy(found[name], layer, name, arrays)


def _copy(module: Module, layer: str, name: str, arrays: list[Any]) -> None:
    kind = type(module).__name__
    values = _named(module, arrays)
    want = set(values) or {"weight", "bias"}
    lacking = next((n for n in want if getattr(module, n, None) is None), None)
    if not values or lacking:
        shapes = ", ".join(str(tuple(a.shape)) for a in arrays)
        raise ValueError(
            f"load_into: layer {layer!r} has {len(arrays)} parameters ({shapes}), which module {name!r} ({kind}) has no place for"
        )
    if "weight" in values and "bias" not in values and getattr(module, "bias", None) is not None:
        raise ValueError(f"load_into: module {name!r} ({kind}) has a bias, and layer {layer!r} none; make it with bias=False")
    for what, value in values.items():
        held: Any = getattr(module, what)
        shape = tuple(held.shape)
        if not same_up_to_ones(tuple(value.shape), shape):
            raise ValueError(
                f"load_into: layer {layer!r} has {what} of shape {tuple(value.shape)}, and module {name!r} ({kind}) of {shape}"
            )
        assign(held, adopt(backend_of(value).xp.reshape(value, shape), held.data))
