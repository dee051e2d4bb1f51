"""Arrays and shapes in the place of data layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agnostic_ad.nn.caffe.layer import layer_class
from agnostic_ad.nn.caffe.message import DefinitionError, Message, nearest

__all__ = ["check_inputs", "with_inputs"]

_SIZED = ("data_param", "image_data_param", "hdf5_data_param", "memory_data_param", "window_data_param")


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def _batch_size(layer: Message) -> int:
    """Give the number of examples in a batch of a data layer."""
    for name in _SIZED:
        if layer.has(name) and getattr(layer, name).batch_size:
            return int(getattr(layer, name).batch_size)
    for name in ("input_param", "dummy_data_param"):
        shapes = getattr(layer, name).shape
        if shapes and shapes[0].dim:
            return int(shapes[0].dim[0])
    raise DefinitionError(f"{layer.at()}layer {layer.name!r} ({layer.type}) says no batch_size: give shapes as inputs, not arrays")


def check_inputs(inputs: Any) -> None:
    """Refuse inputs that are no dict."""
    if not isinstance(inputs, Mapping):
        raise TypeError(
            f"inputs is a dict of shapes or arrays, by the names of the tops that they stand for, not a {type(inputs).__name__}"
        )


def with_inputs(layers: Sequence[Message], inputs: Mapping[str, Any], at: str) -> tuple[list[Message], dict[str, list[Any]]]:
    """Put layers that the user feeds in the place of data layers.

    Parameters
    ----------
    layers : sequence of Message
        LayerParameters.
    inputs : dict
        Shapes or arrays, by the names of tops.
    at : str
        What errors begin with.

    Returns
    -------
    list of Message, dict
        The layers: an Input layer for shapes, a MemoryData layer for arrays; and the arrays of each MemoryData layer, by its name.
    """
    check_inputs(inputs)
    out, fed, makers = [], {}, []
    unused = set(inputs)
    for layer in layers:
        if not layer_class(layer.type, f"{layer.at()}layer {layer.name!r}: ").makes_data or layer.bottom:
            out.append(layer)
            continue
        makers += layer.top
        given = [inputs.get(name) for name in layer.top]
        if all(value is None for value in given):
            out.append(layer)
            continue
        what = f"{layer.at()}inputs of layer {layer.name!r} ({layer.type}): "
        missing = [name for name, value in zip(layer.top, given) if value is None]
        if missing:
            raise DefinitionError(f"{what}{', '.join(map(repr, missing))} is missing: a value is wanted for each of its tops")
        unused -= set(layer.top)
        shapes = [_is_shape(value) for value in given]
        if any(shapes) != all(shapes):
            raise DefinitionError(f"{what}shapes for all of its tops are wanted, or arrays for all, not some of each")
        kept = {"name": layer.name, "top": list(layer.top)}
        if all(shapes):
            new = Message(
                "LayerParameter", layer.where, type="Input", input_param={"shape": [{"dim": list(s or ())} for s in given]}, **kept
            )
        else:
            new = Message("LayerParameter", layer.where, type="MemoryData", memory_data_param={"batch_size": _batch_size(layer)}, **kept)
            if layer.has("transform_param"):
                new.transform_param = layer.transform_param
            fed[layer.name] = given
        out.append(new)
    for name in unused:
        known = ", ".join(makers) or "there is no data layer"
        raise DefinitionError(f"{at}inputs: no data layer of this phase makes {name!r}{nearest(name, makers)}; they make: {known}")
    return out, fed
