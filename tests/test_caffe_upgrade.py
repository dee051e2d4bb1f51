"""Definitions of Caffe's older forms, brought up to date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from derivatives import assert_exact

import agnostic_ad as ad
from agnostic_ad.nn import caffe
from agnostic_ad.nn.caffe.schema import ENUMS

TODAY = """
name: "small"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 2 dim: 6 dim: 5 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 2 dim: 1 dim: 1 dim: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 4 pad: 2 kernel_size: 3 group: 2 stride: 1 weight_filler { type: "xavier" } bias_filler { value: 0.5 } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 beta: 0.5 } }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip" param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 3 bias_term: true weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "drop" type: "Dropout" bottom: "ip" top: "ip" dropout_param { dropout_ratio: 0.25 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""
INPUTS = """
name: "small"
input: "x" input_dim: 2 input_dim: 2 input_dim: 6 input_dim: 5
input: "t" input_dim: 2 input_dim: 1 input_dim: 1 input_dim: 1
"""
V1 = (
    INPUTS
    + """
layers { name: "conv" type: CONVOLUTION bottom: "x" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  convolution_param { num_output: 4 pad: 2 kernel_size: 3 group: 2 stride: 1 weight_filler { type: "xavier" } bias_filler { value: 0.5 } } }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layers { name: "relu" type: RELU bottom: "pool" top: "pool" }
layers { name: "norm" type: LRN bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 beta: 0.5 } }
layers { name: "ip" type: INNER_PRODUCT bottom: "norm" top: "ip" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0
  inner_product_param { num_output: 3 bias_term: true weight_filler { type: "gaussian" std: 0.1 } } }
layers { name: "drop" type: DROPOUT bottom: "ip" top: "ip" dropout_param { dropout_ratio: 0.25 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "ip" bottom: "t" top: "loss" }
"""
)
V0 = (
    INPUTS
    + """
layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "x" top: "padded" }
layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 group: 2 stride: 1 weight_filler { type: "xavier" } bias_filler { value: 0.5 }
  blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0. } bottom: "padded" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "conv" top: "pool" }
layers { layer { name: "relu" type: "relu" } bottom: "pool" top: "pool" }
layers { layer { name: "norm" type: "lrn" local_size: 3 alpha: 0.5 beta: 0.5 } bottom: "pool" top: "norm" }
layers { layer { name: "ip" type: "innerproduct" num_output: 3 biasterm: true weight_filler { type: "gaussian" std: 0.1 }
  blobs_lr: 1. blobs_lr: 2. weight_decay: 1. weight_decay: 0. } bottom: "norm" top: "ip" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.25 } bottom: "ip" top: "ip" }
layers { layer { name: "loss" type: "softmax_loss" } bottom: "ip" bottom: "t" top: "loss" }
"""
)


def same(found: caffe.Message, wanted: str) -> None:
    assert found.text() == caffe.parse(wanted).text()


@pytest.mark.parametrize("old", [V1, V0], ids=["V1", "V0"])
def test_old_layers_become_todays(old: str) -> None:
    text = TODAY.replace('layer { name: "x" type: "Input" top: "x"', 'layer { name: "input" type: "Input" top: ["x", "t"]')
    text = text.replace("dim: 5 } } }", "dim: 5 } shape { dim: 2 dim: 1 dim: 1 dim: 1 } } }")
    same(caffe.parse(old), "\n".join(line for line in text.splitlines() if 'name: "t"' not in line))
    feed = {"x": np.random.default_rng(0).normal(size=(2, 2, 6, 5)), "t": np.asarray([1.0, 2.0]).reshape(2, 1, 1, 1)}
    made, now = (caffe.Net(text, dtype="float64", generator=ad.Generator(0)) for text in (old, TODAY))
    assert made.forward_backward(**feed) == now.forward_backward(**feed)
    for mine, theirs in zip(made.learnable_params, now.learnable_params, strict=True):
        assert (mine.lr_mult, mine.decay_mult) == (theirs.lr_mult, theirs.decay_mult)
        assert_exact(mine.diff, theirs.diff)


def test_the_place_stays() -> None:
    with pytest.raises(caffe.DefinitionError, match=r"<text>:6: layer 'conv' \(Convolution\): a window of size \(33, 33\)"):
        caffe.Net(V1.replace("kernel_size: 3", "kernel_size: 33"))
    with pytest.raises(caffe.DefinitionError, match=r"<text>:7: layer 'conv' \(Convolution\): a window of size \(33, 33\)"):
        caffe.Net(V0.replace("kernelsize: 3", "kernelsize: 33"))


def test_every_type_of_v1_is_one_of_today() -> None:
    names = [name for name in ENUMS["V1LayerType"] if name != "NONE"]
    found = caffe.parse("".join(f"layers {{ type: {name} }}" for name in names))
    assert [layer.type for layer in found.layer if layer.type not in caffe.LAYERS] == []
    assert len({layer.type for layer in found.layer}) == len(names) == 39


def test_shared_parameters_rules_and_weights_of_v1() -> None:
    found = caffe.parse(
        "layers { type: INNER_PRODUCT param: 'w' blob_share_mode: PERMISSIVE blobs_lr: 1 blobs_lr: 3 loss_weight: 2"
        " include { phase: TEST } exclude { stage: 's' } inner_product_param { num_output: 3 } }"
    )
    same(
        found,
        "layer { type: 'InnerProduct' loss_weight: 2 param { name: 'w' share_mode: PERMISSIVE lr_mult: 1 } param { lr_mult: 3 }"
        " include { phase: TEST } exclude { stage: 's' } inner_product_param { num_output: 3 } }",
    )


DATA = [
    (
        "data",
        "source: 's' batchsize: 3 rand_skip: 4 scale: 0.5 meanfile: 'm' cropsize: 7 mirror: true",
        "Data",
        "data_param { source: 's' batch_size: 3 rand_skip: 4 }",
    ),
    (
        "images",
        "source: 's' batchsize: 3 shuffle_images: true new_height: 8 new_width: 9 scale: 0.5 meanfile: 'm' cropsize: 7 mirror: true",
        "ImageData",
        "image_data_param { source: 's' batch_size: 3 shuffle: true new_height: 8 new_width: 9 }",
    ),
    (
        "window_data",
        "source: 's' batchsize: 3 det_fg_threshold: 0.7 det_bg_threshold: 0.1 det_fg_fraction: 0.3 det_context_pad: 2 det_crop_mode: 'square'"
        " scale: 0.5 meanfile: 'm' cropsize: 7 mirror: true",
        "WindowData",
        "window_data_param { source: 's' batch_size: 3 fg_threshold: 0.7 bg_threshold: 0.1 fg_fraction: 0.3 context_pad: 2 crop_mode: 'square' }",
    ),
]


@pytest.mark.parametrize(("type", "fields", "now", "param"), DATA, ids=[d[0] for d in DATA])
def test_data_layers_of_v0(type: str, fields: str, now: str, param: str) -> None:
    transform = "transform_param { scale: 0.5 mean_file: 'm' crop_size: 7 mirror: true }"
    found = caffe.parse(f"layers {{ layer {{ name: 'd' type: '{type}' {fields} }} top: 'x' top: 't' }}")
    same(found, f"layer {{ name: 'd' type: '{now}' top: 'x' top: 't' {transform} {param} }}")


def test_data_layers_of_v1() -> None:
    found = caffe.parse(
        "layers { type: WINDOW_DATA window_data_param { source: 's' scale: 0.5 mirror: true crop_size: 7 mean_file: 'm' } }"
    )
    transform = "transform_param { scale: 0.5 mean_file: 'm' crop_size: 7 mirror: true }"
    same(found, f"layer {{ type: 'WindowData' {transform} window_data_param {{ source: 's' }} }}")


def test_other_layers_of_v0() -> None:
    found = caffe.parse(
        "layers { layer { type: 'concat' concat_dim: 2 } } layers { layer { type: 'hdf5_output' hdf5_output_param { file_name: 'f' } } }"
        " layers { layer { type: 'infogain_loss' source: 's' } } layers { layer { type: 'hdf5_data' source: 's' batchsize: 2 } }"
        " layers { layer { type: 'euclidean_loss' } }"
    )
    same(
        found,
        "layer { type: 'Concat' concat_param { concat_dim: 2 } } layer { type: 'HDF5Output' hdf5_output_param { file_name: 'f' } }"
        " layer { type: 'InfogainLoss' infogain_loss_param { source: 's' } }"
        " layer { type: 'HDF5Data' hdf5_data_param { source: 's' batch_size: 2 } } layer { type: 'EuclideanLoss' }",
    )


def test_statistics_that_were_declared_as_parameters() -> None:
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 } } }
        layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" param { lr_mult: 1 } param { decay_mult: 2 } param { name: "n" lr_mult: 3 } }"""
    net = caffe.Net(text)
    assert [(p.lr_mult, p.decay_mult) for p in net.params["bn"]] == [(0.0, 0.0)] * 3
    with pytest.raises(caffe.DefinitionError, match="its statistics are not learned: lr_mult is 0, not 1"):
        caffe.Net(text.replace("param { decay_mult: 2 }", ""))


def test_weights_of_v0_and_v1() -> None:
    blob = {"num": 1, "channels": 1, "height": 2, "width": 3, "data": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    for layers in ({"name": "ip", "type": 14, "blobs": [blob]}, {"layer": {"name": "ip", "type": "innerproduct", "blobs": [blob]}}):
        read = caffe.decode(caffe.encode(caffe.Message("NetParameter", input="x", layers=layers)), "NetParameter")
        assert_exact(caffe.weights(read)["ip"][0], np.arange(1.0, 7.0, dtype="float32").reshape(1, 1, 2, 3))


WRONG: list[tuple[str, str]] = [
    ("layer { } \nlayers { }", "<text>:2: 'layers', the form of 2014 and before, and 'layer' are both there; write one of them"),
    ("layers {\n type: CONVOLUTIONS }", "<text>:2: 'type' is one of NONE, ABSVAL"),
    ("layers {\n type: CONVOLUTIONS }", "not 'CONVOLUTIONS' (did you mean 'CONVOLUTION'?)"),
    ("layers {\n type: 'ReLU' }", "without quotes, not 'ReLU'; a type in quotes is of 'layer', not of 'layers'"),
    ("layers { layer {\n name: 'a' type: 'convolution' } }", "<text>:1: layer 'a': there is no layer of type 'convolution'"),
    ("layers { layer { name: 'a' } }", "<text>:1: layer 'a': there is no layer of type None in the form of 2013"),
    ("layers { layer { name: 'a' type: 'relu' num_output: 3 } }", "<text>:1: layer 'a': a layer of type 'relu' has no 'num_output'"),
    ("layers { layer { name: 'a' type: 'pool' group: 3 } }", "<text>:1: layer 'a': a layer of type 'pool' has no 'group'"),
    (
        "layers { layer { type: 'padding' pad: 1 } bottom: 'x' top: 'p' }\nlayers { layer { name: 'a' type: 'relu' } bottom: 'p' }",
        "<text>:2: layer 'a': only a conv or a pool of one bottom may follow a padding",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_old_definitions(text: str, message: Any) -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        caffe.parse(text)
    assert message in str(error.value)
