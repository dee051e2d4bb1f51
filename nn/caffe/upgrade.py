"""Older forms of definitions, made today's where they have one meaning."""

from __future__ import annotations

from agnostic_ad.nn.caffe.message import DefinitionError, Message

__all__ = ["upgrade"]

_TYPES = {"SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp", "ADADELTA": "AdaDelta", "ADAM": "Adam"}
_MOVED = ("scale", "mean_file", "crop_size", "mirror")  # from the parameters of data layers to transform_param


def upgrade(message: Message) -> Message:
    """Change a message in place, and give it."""
    if message.kind == "NetParameter":
        _inputs(message)
        for layer in message.layer:
            _transforms(layer)
    elif message.kind == "SolverParameter":
        if message.has("solver_type"):
            if message.has("type"):
                raise DefinitionError(f"{message.at()}type and solver_type (the older form) are both given; leave solver_type out")
            message.type = _TYPES[message.solver_type]
            del message.solver_type
        for name in ("net_param", "train_net_param"):
            if message.has(name):
                upgrade(getattr(message, name))
        for net in message.test_net_param:
            upgrade(net)
    return message


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
    for name in ("data_param", "image_data_param"):
        if layer.has(name):
            given = getattr(layer, name)
            moved = {field: getattr(given, field) for field in _MOVED if given.has(field)}
            if moved:
                into = layer.transform_param
                for field, value in moved.items():
                    if not into.has(field):
                        setattr(into, field, value)
                    delattr(given, field)
                layer.transform_param = into
