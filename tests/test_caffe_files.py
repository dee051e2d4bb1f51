"""Definitions in text, weights in files: prototxt's errors, binary messages beside protobuf, HDF5, and modules that take weights over."""

from __future__ import annotations

import pickle
import struct
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import caffe
from agnostic_ad.nn.caffe.schema import ENUMS, MESSAGES

SHARED = support.ROOT.parent / "shared" / "caffe"

# --- text -----------------------------------------------------------------------------------------------------------------------------------
EVERYTHING = r"""
# a comment
base_lr: 1e-3f; momentum: .5, weight_decay: 5.
test_iter: [1, 2] test_iter: 0x10 test_iter: 010 test_interval: -0
net_param: { name: "a" 'b\n\x41\102\t\"' layer < name: "l" param { name: "p" } param {} > state { phase: TRAIN level: 2 } }
solver_mode: 0   # by number
debug_info: true test_initialization: f clip_gradients: -inf delta: nan
"""


def test_all_of_the_text_form() -> None:
    made = caffe.parse(EVERYTHING, "SolverParameter")
    assert (made.base_lr, made.momentum, made.weight_decay) == (1e-3, 0.5, 5.0)
    assert made.test_iter == [1, 2, 16, 8]
    assert made.net_param.name == 'ab\nAB\t"'
    assert [p.name for p in made.net_param.layer[0].param] == ["p", None]
    assert (made.net_param.state.phase, made.net_param.state.level) == ("TRAIN", 2)
    assert (made.solver_mode, made.debug_info, made.test_initialization) == ("CPU", True, False)
    assert made.clip_gradients == float("-inf")
    assert np.isnan(made.delta)
    assert made.has("test_interval")
    assert not made.has("max_iter")
    assert (made.max_iter, made.iter_size, made.type) == (None, 1, "SGD")


@pytest.mark.parametrize("path", sorted(SHARED.glob("*.prototxt")), ids=lambda p: p.stem)
def test_caffes_files_written_and_read_again(path: Path) -> None:
    kind = "SolverParameter" if "solver" in path.name else "NetParameter"
    made = caffe.parse(path.read_text(), kind, str(path))
    assert caffe.parse(made.text(), kind) == made
    assert made.where == f"{path}:1"


WRONG = [
    ("name: 'x\n", "1: a string does not end"),
    ("layer {\n name: 'x'\n typ: 'y'\n}", "3: LayerParameter has no field 'typ' (did you mean 'type'?)"),
    ("layer {\n type: ReLU\n}", "2: 'type' takes a string in quotes, not ReLU"),
    ("layer {\n pooling_param { pool: MEAN }\n}", "2: 'pool' is one of MAX, AVE, STOCHASTIC, not 'MEAN'"),
    ("layer {\n pooling_param { pool: 'MAX' }\n}", "2: 'pool' takes one of MAX, AVE, STOCHASTIC, without quotes, not 'MAX'"),
    ("layer {\n pooling_param { kernel_size: 2.5 }\n}", "2: 'kernel_size' is of type uint32, not 2.5"),
    ("layer {\n pooling_param { kernel_size: -1 }\n}", "2: 'kernel_size' is of type uint32, not -1"),
    ("layer {\n pooling_param { kernel_size: two }\n}", "2: 'kernel_size' is of type uint32, not 'two'"),
    ("layer {\n pooling_param { global_pooling: 2 }\n}", "2: 'global_pooling' is of type bool, not '2'"),
    ("layer {\n pooling_param { stride: 1\n stride: 2 }\n}", "3: 'stride' of PoolingParameter is given twice"),
    ("layer {\n dropout_param { dropout_ratio: half }\n}", "2: 'dropout_ratio' is of type float, not 'half'"),
    ("layer {\n dropout_param { dropout_ratio: [1] }\n}", "2: 'dropout_ratio' of DropoutParameter takes one value, not a list"),
    ("layer {\n top: ['a' 'b', 3]\n}", "2: 'top' takes a string in quotes, not 3"),
    ("layer {\n top: ['a', 'b'\n}", "3: a comma or ']' was expected in the list of 'top', and here is '}'"),
    ("layer {\n name: 'x'\n\n", "4: the text ends inside LayerParameter, which line 1 opens: a '}' is missing"),
    ("layer {\n name: 'x' } }\n", "2: a field of NetParameter was expected, and here is '}'"),
    ("layer {\n name 'x' }\n", "2: a colon and a value were expected after 'name', and here is \"'x'\""),
    ("layer {\n name: }\n", "2: a value of 'name' was expected, and here is '}'"),
    ("layer: 3", "1: 'layer' is a LayerParameter: { was expected, and here is '3'"),
    ("name: 'x'\n@", "2: '@' is not understood"),
    ("state {}\nstate {}", "2: 'state' of NetParameter is given twice"),
    ("input: 'x' input_dim: 3", "1: input_dim has 4 numbers for each input: 4 are wanted, not 1"),
    ("input: 'x'", "1: 1 inputs are named, and 0 shapes given"),
    ("input_dim: 3", "1: there are shapes of inputs (input_shape, input_dim), and no input is named"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_text(text: str, message: str) -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        caffe.parse(text, source="net.prototxt")
    assert str(error.value) == f"net.prototxt:{message}"


def test_any_string_is_written_so_that_it_is_read() -> None:
    name, raw = "\"ü\\\n\x01'\u4e2d", bytes(range(256))
    assert caffe.parse(caffe.Message("NetParameter", name=name).text()).name == name
    assert caffe.parse(caffe.Message("Datum", data=raw).text(), "Datum").data == raw
    with pytest.raises(caffe.DefinitionError, match="<text>:1: a string is no UTF-8"):
        caffe.parse(r"name: '\377'")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(b"\xff\xfe")
    with pytest.raises(caffe.DefinitionError, match=r"w.caffemodel: this is no text; a NetParameter in prototxt's form is wanted"):
        caffe.Net(tmp_path / "w.caffemodel")


def test_wrong_messages() -> None:
    with pytest.raises(caffe.DefinitionError, match=r"there is no message 'PoolParameter' \(did you mean 'PoolingParameter'\?\)"):
        caffe.Message("PoolParameter")
    with pytest.raises(caffe.DefinitionError, match=r"PoolingParameter has no field 'kernel' \(did you mean 'kernel_w'\?\)"):
        caffe.Message("PoolingParameter", kernel=3)
    with pytest.raises(caffe.DefinitionError, match="PoolingParameter: 'kernel_size' is of type uint32, not '3'"):
        caffe.Message("PoolingParameter", kernel_size="3")
    with pytest.raises(AttributeError, match=r"PoolingParameter has no field 'strides' \(did you mean 'stride'\?\)"):
        _ = caffe.Message("PoolingParameter").strides
    with pytest.raises(caffe.DefinitionError, match="a NetParameter is wanted, not a SolverParameter"):
        caffe.Net(caffe.Message("SolverParameter"))


def test_messages_as_values() -> None:
    param = caffe.Message("LayerParameter", name="l", top="a", convolution_param={"kernel_size": 3, "weight_filler": {"type": "xavier"}})
    assert param.top == ["a"]
    assert param.bottom == []
    assert param.has("top")
    assert not param.has("bottom")
    assert param.convolution_param.kernel_size == [3]
    assert param.convolution_param.weight_filler.variance_norm == "FAN_IN"
    assert param.convolution_param.bias_filler.type == "constant"
    copy = param.copy()
    copy.convolution_param.weight_filler.type = "msra"
    assert param.convolution_param.weight_filler.type == "xavier"
    assert copy != param
    for same in (pickle.loads(pickle.dumps(param)), deepcopy(param)):
        assert same == param
        same.convolution_param.weight_filler.type = "msra"
        assert same != param
    assert repr(caffe.Message("NetState", level=1)) == "NetState(level=1)"


def test_old_parameters_of_data_layers() -> None:
    net = caffe.parse(
        "layer { type: 'Data' data_param { scale: 0.5 mirror: true crop_size: 3 batch_size: 2 } transform_param { crop_size: 5 } }"
    )
    assert net.layer[0].transform_param == caffe.Message("TransformationParameter", scale=0.5, mirror=True, crop_size=5)
    assert net.layer[0].data_param == caffe.Message("DataParameter", batch_size=2)


# --- binary form ----------------------------------------------------------------------------------------------------------------------------
def official() -> Any:
    """Make protobuf's own classes for the messages of the schema."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="c", syntax="proto2")
    for title, numbers in ENUMS.items():
        enum = file.enum_type.add(name=title)
        for name, number in numbers.items():
            enum.value.add(name=f"{title}_{name}", number=number)
    for title, fields in MESSAGES.items():
        message = file.message_type.add(name=title)
        for field in fields.values():
            made = message.field.add(name=field.name, number=field.number, label=3 if field.repeated else 1)
            if field.type in MESSAGES or field.type in ENUMS:
                made.type, made.type_name = kinds.TYPE_MESSAGE if field.type in MESSAGES else kinds.TYPE_ENUM, f".c.{field.type}"
            else:
                made.type = getattr(kinds, f"TYPE_{field.type.upper()}")
            if field.packed:
                made.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda kind: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"c.{kind}"))


def test_binary_form_beside_protobuf() -> None:
    theirs = official()
    net = caffe.parse(
        """name: "ü" force_backward: true
        layer { name: "c" type: "Convolution" bottom: "a" top: "b" loss_weight: 0.5 loss_weight: -1 propagate_down: true propagate_down: false
                phase: TEST param { lr_mult: 0.125 share_mode: PERMISSIVE } blobs { shape { dim: 2 dim: 300 } data: 1.5 data: -2 double_data: 1e-300 }
                flatten_param { axis: -1 } pooling_param { kernel_size: 4000000000 pool: AVE } python_param { layer: "" } }"""
    )
    data = caffe.encode(net)
    reference = theirs("NetParameter").FromString(data)
    assert caffe.decode(data, "NetParameter") == net
    layer = reference.layer[0]
    assert reference.name == "ü"
    assert (list(layer.loss_weight), list(layer.propagate_down), layer.phase) == ([0.5, -1.0], [True, False], 1)
    assert (list(layer.blobs[0].shape.dim), list(layer.blobs[0].data), list(layer.blobs[0].double_data)) == (
        [2, 300],
        [1.5, -2.0],
        [1e-300],
    )
    assert (layer.flatten_param.axis, layer.pooling_param.kernel_size, layer.pooling_param.pool) == (-1, 4000000000, 1)
    assert layer.python_param.HasField("layer")
    assert reference.SerializeToString(deterministic=True) == data


def test_what_protobuf_writes_is_read() -> None:
    theirs = official()
    datum = theirs("Datum")(channels=1, height=2, width=3, data=bytes(range(6)), label=-3, encoded=False, float_data=[0.5, 1.5])
    made = caffe.decode(datum.SerializeToString(), "Datum")
    assert (made.channels, made.height, made.width, made.data, made.label) == (1, 2, 3, bytes(range(6)), -3)
    assert (list(made.float_data), made.encoded) == ([0.5, 1.5], False)  # not packed, as Caffe defines it
    packed = caffe.decode(b"\x2a\x08" + struct.pack("<2f", 1.0, 2.0), "BlobProto")
    unpacked = caffe.decode(b"\x2d" + struct.pack("<f", 1.0) + b"\x2d" + struct.pack("<f", 2.0), "BlobProto")
    assert list(packed.data) == list(unpacked.data) == [1.0, 2.0]
    assert caffe.decode(b"\xf8\x3f\x05" + b"\x08\x07", "BlobProto").num == 7  # a field of a newer schema is passed over


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05ab", "w.bin: byte 2: the file ends early: 5 bytes more were expected, and 2 are there"),
        (b"\x0a", "w.bin: byte 1: the file ends within a number"),
        (b"\xff" * 12, "w.bin: byte 10: the file ends within a number, or is no binary form of protocol buffers"),
        (b"\x7f", "w.bin: byte 1: wire type 7 of field 15 of NetParameter is not known"),
        (b"\x08\x01", "w.bin: byte 1: field 'name' has wire type 0, which is none of string"),
        (b"\x2a\x00", "w.bin: byte 2: field 'force_backward' has wire type 2, which is none of bool"),
    ],
)
def test_damaged_files(data: bytes, message: str) -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        caffe.decode(data, "NetParameter", "w.bin")
    assert message in str(error.value)


# --- files of weights -----------------------------------------------------------------------------------------------------------------------
NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 4 group: 2 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "b" batch_norm_param { use_global_stats: true } }
layer { name: "scale" type: "Scale" bottom: "b" top: "s" scale_param { bias_term: true filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
layer { name: "prelu" type: "PReLU" bottom: "s" top: "s" }
layer { name: "up" type: "Deconvolution" bottom: "s" top: "u" convolution_param { num_output: 3 kernel_size: 2 stride: 2 weight_filler { type: "msra" } } }
layer { name: "ip" type: "InnerProduct" bottom: "u" top: "y" inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } } }
"""


def net(seed: int = 0, **options: Any) -> caffe.Net:
    made = caffe.Net(NET, "TEST", generator=ad.Generator(seed), **{"dtype": "float64", **options})
    rng = np.random.default_rng(seed)
    made.copy_from({"bn": [rng.normal(size=4), rng.uniform(1, 2, size=4), np.asarray([0.7])]})
    return made


@pytest.mark.parametrize("ending", ["caffemodel", "caffemodel.h5"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_read_again(backend: support.Backend, ending: str, dtype: str, tmp_path: Path) -> None:
    if ending.endswith("h5"):
        pytest.importorskip("h5py")
    first, other = net(0, dtype=dtype, xp=backend.xp), net(1, dtype=dtype)
    first.save(tmp_path / f"w.{ending}")
    other.copy_from(tmp_path / f"w.{ending}")
    assert list(caffe.weights(tmp_path / f"w.{ending}")) == (sorted if ending.endswith("h5") else list)(first.params)
    for name, blobs in first.params.items():
        for one, copied in zip(blobs, other.params[name], strict=True):
            assert str(copied.data.dtype) == dtype
            assert_exact(copied.data, backend.numpy(one.data))


def test_a_saved_file_holds_the_definition(tmp_path: Path) -> None:
    first = net()
    first.save(tmp_path / "w.caffemodel")
    kept = caffe.load_caffemodel(tmp_path / "w.caffemodel")
    assert [layer.name for layer in kept.layer] == ["x", "conv", "bn", "scale", "prelu", "up", "ip"]
    assert kept.layer[1].convolution_param.group == 2
    assert (
        caffe.Net(NET, "TEST", weights=tmp_path / "w.caffemodel", dtype="float64").params["ip"][0].data[0, 0]
        == first.params["ip"][0].data[0, 0]
    )


def test_older_files_of_weights() -> None:
    """Shapes of four axes, and layers of the older form, whose weights alone are read."""
    blob = caffe.Message("BlobProto", num=1, channels=1, height=2, width=3, data=[1, 2, 3, 4, 5, 6])
    old = caffe.Message("NetParameter", layers={"name": "ip", "type": 14, "blobs": blob})
    found = caffe.weights(caffe.decode(caffe.encode(old), "NetParameter"))
    assert_exact(found["ip"][0], np.arange(1.0, 7.0).reshape(1, 1, 2, 3))
    made = caffe.Net(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 bias_term: false } }'
    )
    made.copy_from(old)
    assert_exact(made.params["ip"][0].data, np.arange(1.0, 7.0).reshape(2, 3))
    blob.data = [1.0]
    with pytest.raises(caffe.DefinitionError, match=r"a blob of shape \(1, 1, 2, 3\) has 1 values"):
        caffe.weights(caffe.Message("NetParameter", layer={"name": "ip", "blobs": blob}))


def test_other_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(caffe.DefinitionError, match=r"other.h5: no group 'data', so these are no weights of Caffe's"):
        caffe.weights(tmp_path / "other.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(caffe.DefinitionError, match=r"text.h5: it cannot be read as HDF5"):
        caffe.weights(tmp_path / "text.h5")
    with pytest.raises(FileNotFoundError, match=r"nowhere.h5"):
        caffe.weights(tmp_path / "nowhere.h5")
    (tmp_path / "short.caffemodel").write_bytes(caffe.encode(caffe.Message("NetParameter", name="abc"))[:-1])
    with pytest.raises(caffe.DefinitionError, match=r"short.caffemodel: byte 2: the file ends early"):
        net().copy_from(tmp_path / "short.caffemodel")


def test_shared_parameters_that_caffe_leaves_out(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    layer = """layer { name: "%s" type: "InnerProduct" bottom: "x" top: "%s" param { name: "w" } param { %s }
        inner_product_param { num_output: 2 } }"""
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }'
    text += layer % ("a", "a", "name: 'b'") + layer % ("b", "b", "") + layer % ("c", "c", "name: 'b'")
    path, w, own = tmp_path / "w.caffemodel.h5", np.arange(6.0).reshape(2, 3), np.asarray([7.0, 8.0])
    with h5py.File(path, "w") as file:  # as Caffe writes it: each parameter with the layer that has it first
        for name, arrays in {"x": {}, "a": {"0": w, "1": -own}, "b": {"1": own}, "c": {}}.items():
            group = file.create_group(f"data/{name}")
            for key, value in arrays.items():
                group[key] = value
    made = caffe.Net(text, dtype="float64", weights=path)
    assert_exact(made.params["b"][0].data, w)
    assert_exact(made.params["b"][1].data, own)
    assert_exact(made.params["c"][1].data, -own)
    model = nn.Linear(3, 2)
    before = model.weight.data.copy()
    caffe.load_into(model, {"b": caffe.weights(path)["b"]}, {"b": ""})
    assert_exact(model.weight.data, before)
    assert_exact(model.bias.data, own.astype("float32"))
    with h5py.File(path, "a") as file:
        del file["data/a/0"]
    with pytest.raises(caffe.DefinitionError, match=r"layer 'a' \(InnerProduct\): it has 2 parameters, and 1 are given"):
        made.copy_from(path)


# --- modules that take weights over ---------------------------------------------------------------------------------------------------------
class Same(nn.Module):
    """The net as modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, groups=2)
        self.bn = nn.BatchNorm2d(4)
        self.prelu = nn.PReLU(4)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(108, 2, bias=False))

    def forward(self, x: Any) -> Any:
        return self.head(self.up(self.prelu(self.bn(self.conv(x)))))


NAMES = {"scale": "bn", "ip": "head.1"}


def test_modules_compute_what_the_net_does(backend: support.Backend, rng: np.random.Generator) -> None:
    made, x = net(), rng.normal(size=(1, 2, 5, 5))
    with ad.defaults(xp=backend.xp, dtype="float64"):
        model = Same().eval()
    caffe.load_into(model, made, NAMES)
    assert_close(backend.numpy(model(backend.asarray(x)).data), made.forward(x=x)["y"])


def test_modules_from_a_file(tmp_path: Path) -> None:
    made = net()
    made.save(tmp_path / "w.caffemodel")
    model = Same()
    caffe.load_into(model, tmp_path / "w.caffemodel", {**NAMES, "prelu": None})
    assert str(model.conv.weight.dtype) == "float32"  # the module's own stays
    assert_exact(model.conv.weight.data, made.params["conv"][0].data.astype("float32"))
    assert_exact(model.prelu.weight.data, np.full(4, 0.25, dtype="float32"))


def test_gates_of_an_lstm(rng: np.random.Generator) -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 3 } } }
    layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 4 dim: 2 } } }
    layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h" recurrent_param { num_output: 5
            weight_filler { type: "uniform" min: -0.5 max: 0.5 } bias_filler { type: "uniform" min: -0.5 max: 0.5 } } }
    """
    made = caffe.Net(text, dtype="float64", generator=ad.Generator(0))
    with ad.defaults(dtype="float64"):
        model = nn.ModuleDict({"lstm": nn.LSTM(3, 5)})
    caffe.load_into(model, made)
    x, cont = rng.normal(size=(4, 2, 3)), np.ones((4, 2))
    cont[0] = 0
    assert_close(model["lstm"](x)[0].data, made.forward(x=x, cont=cont)["h"])


def test_wrong_modules() -> None:
    made = net()
    with pytest.raises(KeyError, match=r"there is no module 'scale' for layer 'scale'; say another, or None, in names="):
        caffe.load_into(Same(), made)
    with pytest.raises(ValueError, match=r"layer 'conv' has weight of shape \(4, 1, 3, 3\), and module 'c' \(Conv2d\) of \(4, 2, 3, 3\)"):
        caffe.load_into(nn.ModuleDict({"c": nn.Conv2d(2, 4, 3)}), {"conv": [b.data for b in made.params["conv"]]}, {"conv": "c"})
    with pytest.raises(ValueError, match=r"module 'ip' \(Linear\) has a bias, and layer 'ip' none; make it with bias=False"):
        caffe.load_into(nn.ModuleDict({"ip": nn.Linear(108, 2)}), {"ip": [made.params["ip"][0].data]})
    with pytest.raises(
        ValueError, match=r"layer 'ip' has 3 parameters \(\(1,\), \(1,\), \(1,\)\), which module 'ip' \(Linear\) has no place for"
    ):
        caffe.load_into(nn.ModuleDict({"ip": nn.Linear(1, 1)}), {"ip": [np.ones(1)] * 3})
    with pytest.raises(ValueError, match=r"layer 'ip' has 2 parameters .* which module 'ip' \(Linear\) has no place for"):
        caffe.load_into(nn.ModuleDict({"ip": nn.Linear(1, 1, bias=False)}), {"ip": [np.ones((1, 1)), np.ones(1)]})
