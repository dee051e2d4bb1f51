"""Older forms of definitions, made today's: what Caffe's tool upgrade_net_proto_text does to them.

Layers were ``layers { layer { ... } }`` (V0, to 2013), ``layers { type: RELU ... }`` (V1, to 2014), and are ``layer { type: "ReLU" ... }``.
"""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn.caffe.message import DefinitionError, Message, nearest
from agnostic_ad.nn.caffe.schema import MESSAGES

__all__ = ["upgrade"]

_SOLVERS = {"SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp", "ADADELTA": "AdaDelta", "ADAM": "Adam"}


def upgrade(message: Message) -> Message:
    """Change a message in place, and give it."""
    if message.kind == "NetParameter":
        _layers(message)
        _inputs(message)
        for layer in message.layer:
            _transforms(layer)
            if layer.type == "BatchNorm" and len(layer.param) == 3:  # once its three statistics were declared as parameters
                for spec in layer.param:
                    spec.lr_mult = spec.decay_mult = 0.0
    elif message.kind == "SolverParameter":
        if message.has("solver_type"):
            if message.has("type"):
                raise DefinitionError(f"{message.at()}type and solver_type (the older form) are both given; leave solver_type out")
            message.type = _SOLVERS[message.solver_type]
            del message.solver_type
        for name in ("net_param", "train_net_param"):
            if message.has(name):
                upgrade(getattr(message, name))
        for net in message.test_net_param:
            upgrade(net)
    return message


# --- from V1 ----------------------------------------------------------------------------------------------------------------------------
_IRREGULAR = {
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
"""Types whose name of today is not that of V1 in capitals and small letters: INNER_PRODUCT, InnerProduct."""
_SPECS = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
"""Lists of V1 with an element for each parameter, and what each element is in a ParamSpec of today."""


def _layers(net: Message) -> None:
    """Make layers of today of those of V0 and V1."""
    if not net.layers:
        return
    if net.layer:
        raise DefinitionError(f"{net.layers[0].at()}'layers', the form of 2014 and before, and 'layer' are both there; write one of them")
    old = net.layers
    if any(layer.has("layer") for layer in old):
        old = [_from_v0(layer) for layer in _padded(old)]
    net.layer = [_from_v1(layer) for layer in old]
    del net.layers


def _from_v1(old: Message) -> Message:
    made = Message("LayerParameter", old.where)
    for field, value in old.set_fields():
        if field.name in _SPECS:
            while len(made.param) < len(value):
                made.param.append(Message("ParamSpec", old.where))
            for spec, one in zip(made.param, value):
                setattr(spec, _SPECS[field.name], one)
        elif field.name == "type":
            made.type = _IRREGULAR.get(value, "".join(word.capitalize() for word in value.split("_")))
        else:
            setattr(made, field.name, value)
    return made


# --- from V0 ----------------------------------------------------------------------------------------------------------------------------
_V0_TYPES = {
    "accuracy": "",
    "bnll": "",
    "concat": "concat_param",
    "conv": "convolution_param",
    "data": "data_param",
    "dropout": "dropout_param",
    "euclidean_loss": "",
    "flatten": "",
    "hdf5_data": "hdf5_data_param",
    "hdf5_output": "",
    "im2col": "convolution_param",
    "images": "image_data_param",
    "infogain_loss": "infogain_loss_param",
    "innerproduct": "inner_product_param",
    "lrn": "lrn_param",
    "multinomial_logistic_loss": "",
    "pool": "pooling_param",
    "relu": "",
    "sigmoid": "",
    "softmax": "",
    "softmax_loss": "",
    "split": "",
    "tanh": "",
    "window_data": "window_data_param",
}
"""The types of V0, and what V1 keeps their fields in."""
_V0_IN_V1 = {"conv": "CONVOLUTION", "images": "IMAGE_DATA", "innerproduct": "INNER_PRODUCT", "pool": "POOLING"}
_V0_FIELDS = {"biasterm": "bias_term", "kernelsize": "kernel_size", "batchsize": "batch_size", "shuffle_images": "shuffle"}
"""Fields whose name changed; those of windows lost the ``det_`` that they began with."""
_V0_TRANSFORMS = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}


def _from_v0(old: Message) -> Message:
    """Make a layer of V1, whose fields lie in a message for its type, of one of V0, which has all fields itself."""
    given = old.layer
    what = f"{given.at()}layer {given.name!r}: "
    if given.type not in _V0_TYPES:
        raise DefinitionError(f"{what}there is no layer of type {given.type!r}{nearest(given.type or '', _V0_TYPES)} in the form of 2013")
    made = Message("V1LayerParameter", old.where, bottom=list(old.bottom), top=list(old.top))
    made.type = _V0_IN_V1.get(given.type, given.type.upper())
    holder = _V0_TYPES[given.type]
    own = getattr(made, holder) if holder else None
    for field, value in given.set_fields():
        name = _V0_FIELDS.get(field.name, field.name.removeprefix("det_"))
        if field.name in _V0_TRANSFORMS:
            made.transform_param = made.transform_param.but(**{_V0_TRANSFORMS[field.name]: value})
        elif field.name in ("name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param"):
            setattr(made, field.name, value)
        elif own is not None and name in MESSAGES[own.kind]:
            setattr(own, name, value)
        elif field.name != "type":
            raise DefinitionError(f"{what}a layer of type {given.type!r} has no {field.name!r}")
    if own is not None and own.values:
        setattr(made, holder, own)
    return made


def _padded(layers: list[Message]) -> list[Message]:
    """Leave the padding layers of V0 out: the convolution or pooling behind one pads itself."""
    made, source = [], dict[str, Message]()
    for layer in layers:
        kept = layer.copy()
        for j, name in enumerate(layer.bottom):
            before = source.get(name)
            if before is not None and before.layer.type == "padding":
                if layer.layer.type not in ("conv", "pool") or len(layer.bottom) != 1 or len(before.bottom) != 1:
                    raise DefinitionError(
                        f"{layer.at()}layer {layer.layer.name!r}: only a conv or a pool of one bottom may follow a padding"
                    )
                kept.layer.pad = before.layer.pad
                kept.bottom[j] = before.bottom[0]
        if layer.layer.type != "padding":
            made.append(kept)
        source.update(dict.fromkeys(layer.top, layer))
    return made


# --- inputs and transformations -----------------------------------------------------------------------------------------------------------
def _inputs(net: Message) -> None:
    """Make an Input layer of the inputs that are fields of the net itself."""
    names, shapes, sizes = net.input, net.input_shape, net.input_dim
    if not names:
        if shapes or sizes:
            raise DefinitionError(f"{net.at()}there are shapes of inputs (input_shape, input_dim), and no input is named")
        return
    if shapes and sizes:
        raise DefinitionError(f"{net.at()}the shapes of inputs are given twice, as input_shape and as input_dim")
    if sizes:
        if len(sizes) != 4 * len(names):
            raise DefinitionError(f"{net.at()}input_dim has 4 numbers for each input: {4 * len(names)} are wanted, not {len(sizes)}")
        shapes = [Message("BlobShape", net.where, dim=sizes[i : i + 4]) for i in range(0, len(sizes), 4)]
    if len(shapes) != len(names):
        raise DefinitionError(f"{net.at()}{len(names)} inputs are named, and {len(shapes)} shapes given")
    layer = Message("LayerParameter", net.where, name="input", type="Input", top=list(names), input_param={"shape": list(shapes)})
    net.layer = [layer, *net.layer]
    for name in ("input", "input_shape", "input_dim"):
        delattr(net, name)


def _transforms(layer: Message) -> None:
    """Move what data layers once held themselves to transform_param."""
    for name in ("data_param", "image_data_param", "window_data_param"):
        if layer.has(name):
            given = getattr(layer, name)
            moved: dict[str, Any] = {field: getattr(given, field) for field in _V0_TRANSFORMS.values() if given.has(field)}
            if moved:
                said = {field.name: value for field, value in layer.transform_param.set_fields()}
                layer.transform_param = layer.transform_param.but(**{**moved, **said})
                for field in moved:
                    delattr(given, field)
