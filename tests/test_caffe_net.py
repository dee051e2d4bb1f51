"""Nets of nn.caffe: built from definitions as Caffe builds them, run forward and backward, on every array library."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.nn import caffe

SHARED = support.ROOT.parent / "shared" / "caffe"
needs_files = pytest.mark.skipif(not SHARED.is_dir(), reason="the definitions of BVLC/caffe are not beside the repository")


def data(name: str = "x", shape: tuple[int, ...] = (2, 3)) -> str:
    dims = " ".join(f"dim: {n}" for n in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def linear(name: str, bottom: str, top: str, more: str = "", outputs: int = 3, bias: str = "true") -> str:
    return f"""layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" {more}
        inner_product_param {{ num_output: {outputs} bias_term: {bias} weight_filler {{ type: "xavier" }} }} }}\n"""


def build(text: str, **options: Any) -> caffe.Net:
    return caffe.Net(text, dtype="float64", generator=ad.Generator(0), **options)


SMALL = (
    data("x", (2, 2, 6, 6))
    + data("t", (2,))
    + """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "pool" top: "pool" }
"""
    + linear("ip", "pool", "y", outputs=4)
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "t" top: "loss" }\n'
)


class Small(nn.Module):
    """The same as modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.ip = nn.Conv2d(2, 3, 3), nn.Linear(12, 4)

    def forward(self, x: Any) -> Any:
        pooled = nn.functional.max_pool2d(self.conv(x), 2)
        return self.ip(nn.functional.relu(pooled).flatten(1))


# --- what a net computes ------------------------------------------------------------------------------------------------------------------
def test_loss_and_gradients_are_those_of_modules(backend: support.Backend, rng: np.random.Generator) -> None:
    net = build(SMALL, xp=backend.xp, force_backward=True)
    x, t = rng.normal(size=(2, 2, 6, 6)), np.asarray([1, 3])
    loss = net.forward(x=backend.asarray(x), t=backend.asarray(t))["loss"]
    given = net.backward()
    with ad.defaults(dtype="float64"):
        model = Small()
    caffe.load_into(model, net)
    inputs = ad.Variable(x)
    want = nn.CrossEntropyLoss()(model(inputs), t)
    want.backward()
    assert_exact(backend.numpy(loss), want.data)
    assert_close(backend.numpy(given["x"]), inputs.grad)
    for name, module in (("conv", model.conv), ("ip", model.ip)):
        weight, bias = net.params[name]
        assert_close(backend.numpy(weight.diff), module.weight.grad)
        assert_close(backend.numpy(bias.diff), module.bias.grad)
    assert float(net.loss) == pytest.approx(float(want.data), rel=1e-12)


def test_a_copy_is_a_net_of_its_own(rng: np.random.Generator) -> None:
    net = build(SMALL)
    feed = {"x": rng.normal(size=(2, 2, 6, 6)), "t": np.asarray([1, 3])}
    other = deepcopy(net)
    want = net.forward(**feed)["loss"].copy()
    net.params["ip"][0].data = 0.0
    assert_exact(other.forward(**feed)["loss"], want)
    assert other.learnable_params[2] is other.params["ip"][0]


def test_gradients_by_differences(rng: np.random.Generator) -> None:
    net = build(SMALL)
    net.forward(x=rng.normal(size=(2, 2, 6, 6)), t=np.asarray([0, 2]))
    net.backward()
    weight = net.params["ip"][0]
    before = weight.data.copy()

    def loss(w: Any) -> Any:
        weight.data = w
        net.forward()
        return float(net.loss)

    want = jacobian(loss, before)
    assert_close(weight.diff, want)


def test_a_net_is_a_function_on_the_tape(backend: support.Backend, rng: np.random.Generator) -> None:
    net, t = build(SMALL, xp=backend.xp, force_backward=True), np.asarray([1, 3])
    x = backend.asarray(rng.normal(size=(2, 2, 6, 6)))
    net.forward(x=x, t=t)
    want = backend.numpy(net.backward()["x"]).copy()

    def loss(x: Any) -> Any:
        return net.forward(x=x, t=t)["loss"]

    v = ad.Variable(x)
    loss(v).backward()
    assert_close(backend.numpy(v.grad), want)
    assert_close(backend.numpy(ad.grad(loss)(x)), want)
    again = net.forward(x=x, t=t)["loss"]  # the blobs hold arrays of the library again
    assert not isinstance(again, ad.Variable)
    weight = net.params["ip"][0]
    w = weight.data

    def of_weight(w: Any) -> Any:
        weight.data = w
        return loss(x)

    net.clear_param_diffs()
    net.backward()
    assert_close(backend.numpy(ad.grad(of_weight)(w)), backend.numpy(weight.diff))


def test_a_net_in_other_transformations(rng: np.random.Generator) -> None:
    net, t = build(SMALL), np.asarray([1, 3])
    xs = rng.normal(size=(3, 2, 2, 6, 6))

    def loss(x: Any) -> Any:
        return net.forward(x=x, t=t)["loss"]

    want = np.asarray([loss(x).copy() for x in xs])
    assert_close(ad.vmap(loss)(xs), want)
    captured = graph.capture(loss, xs[0])
    assert_close(captured(xs[1]), want[1])
    assert_close(ad.jvp(loss, (xs[2],), (xs[0],))[1], (ad.grad(captured)(xs[2]) * xs[0]).sum())


def test_float32_stays_and_float64_too(backend: support.Backend) -> None:
    for dtype in ("float32", "float64"):
        net = caffe.Net(SMALL, xp=backend.xp, dtype=dtype)
        net.forward(x=np.ones((2, 2, 6, 6)), t=np.asarray([0, 1]))
        net.backward()
        found = {str(a.dtype).rpartition(".")[2] for blob in (*net.blob_list, *net.learnable_params) for a in (blob.data, blob.diff)}
        assert found == {dtype}


def test_memory_is_reused() -> None:
    net = build(SMALL)
    first = {name: (blob.data, blob.diff) for name, blob in net.blobs.items()}
    net.forward(x=np.ones((2, 2, 6, 6)), t=np.zeros(2))
    net.backward()
    for name, blob in net.blobs.items():
        assert blob.data is first[name][0], name
        assert blob.diff is first[name][1], name
    assert first["y"][0].any()


def test_one_seed_gives_the_same_weights(backend: support.Backend) -> None:
    theirs = caffe.Net(SMALL, xp=backend.xp, generator=ad.Generator(5)).params
    ours = caffe.Net(SMALL, generator=ad.Generator(5)).params
    for name, blobs in ours.items():
        for one, other in zip(blobs, theirs[name], strict=True):
            assert_exact(backend.numpy(other.data), one.data)


def test_inputs_of_another_size() -> None:
    net = build(SMALL)
    assert net.forward(x=np.ones((5, 2, 6, 6)), t=np.zeros(5))["loss"].shape == ()
    assert net.blobs["conv"].shape == (5, 3, 4, 4)
    net.blobs["x"].reshape(1, 2, 6, 6)
    net.blobs["t"].reshape(1)
    net.reshape()
    assert net.blobs["y"].shape == (1, 4)


def test_part_of_a_net(rng: np.random.Generator) -> None:
    net = build(data() + linear("a", "x", "u") + linear("b", "u", "v") + linear("c", "v", "w"), force_backward=True)
    x = rng.normal(size=(2, 3))
    whole = net.forward(x=x)["w"].copy()
    got = net.forward(x=x, end="b")
    assert list(got) == ["v"]
    assert_exact(net.forward(start="c")["w"], whole)
    back = net.backward(w=np.ones((2, 3)), end="c")
    assert list(back) == ["v"]
    a, b, c = (net.params[n][0].data for n in "abc")
    assert_close(net.backward(start="b")["x"], np.ones((2, 3)) @ c @ b @ a)


# --- the order of layers, and which there are -----------------------------------------------------------------------------------------------
def names(net: caffe.Net) -> list[str]:
    return [layer.name for layer in net.layers]


def test_phases() -> None:
    text = data() + linear("a", "x", "y", "include { phase: TRAIN }") + linear("b", "x", "y", "exclude { phase: TRAIN }")
    assert names(build(text)) == ["x", "a"]
    assert names(build(text, phase="TEST")) == ["x", "b"]
    assert build(text, phase="TEST").layers[1].phase == "TEST"


@pytest.mark.parametrize(
    ("rule", "options", "there"),
    [
        ("include { min_level: 2 }", {"level": 1}, False),
        ("include { min_level: 2 }", {"level": 2}, True),
        ("include { max_level: 2 }", {"level": 3}, False),
        ("exclude { min_level: 1 max_level: 3 }", {"level": 3}, False),
        ("exclude { min_level: 1 max_level: 3 }", {"level": 4}, True),
        ('include { stage: "a" stage: "b" }', {"stages": ["a"]}, False),
        ('include { stage: "a" stage: "b" }', {"stages": ["b", "a"]}, True),
        ('include { not_stage: "a" }', {"stages": ["a"]}, False),
        ('include { stage: "a" } include { stage: "b" }', {"stages": ["b"]}, True),
        ('exclude { stage: "a" } exclude { stage: "b" }', {"stages": ["b"]}, False),
        ('include { phase: TEST stage: "a" }', {"stages": ["a"]}, False),
    ],
)
def test_rules(rule: str, options: dict[str, Any], there: bool) -> None:
    assert ("a" in names(build(data() + linear("a", "x", "y", rule), **options))) is there


def test_the_state_in_the_definition_counts() -> None:
    text = 'state { stage: "deploy" }\n' + data() + linear("a", "x", "y", 'include { stage: "deploy" }')
    assert names(build(text)) == ["x", "a"]


def test_a_blob_that_two_layers_read_is_split(rng: np.random.Generator) -> None:
    text = data() + linear("a", "x", "u") + linear("b", "u", "v") + linear("c", "u", "w")
    text += 'layer { name: "sum" type: "Eltwise" bottom: "v" bottom: "w" top: "s" }'
    net = build(text, force_backward=True)
    assert names(net) == ["x", "a", "u_a_0_split", "b", "c", "sum"]
    assert list(net.blobs) == ["x", "u", "u_a_0_split_0", "u_a_0_split_1", "v", "w", "s"]
    net.forward(x=rng.normal(size=(2, 3)))
    net.backward(s=np.ones((2, 3)))
    a, b, c = (net.params[n][0].data for n in "abc")
    assert_close(net.blobs["x"].diff, np.ones((2, 3)) @ (b + c) @ a)


def test_a_blob_that_counts_in_the_loss_and_is_read() -> None:
    text = data() + linear("a", "x", "u", "loss_weight: 2") + linear("b", "u", "v", "loss_weight: 3")
    net = build(text, force_backward=True)
    assert names(net) == ["x", "a", "u_a_0_split", "b"]
    net.forward(x=np.ones((2, 3)))
    split = net.blobs["u_a_0_split_0"]
    assert_exact(net.loss, 2 * split.data.sum() + 3 * net.blobs["v"].data.sum())
    net.backward()
    assert_close(net.blobs["x"].diff, (2 + 3 * np.ones((2, 3)) @ net.params["b"][0].data) @ net.params["a"][0].data)


def test_a_loss_that_is_read_counts_once(rng: np.random.Generator) -> None:
    text = data("v") + data("t") + LOSS % "loss_weight: 2" + 'layer { name: "p" type: "Power" bottom: "loss" top: "p" loss_weight: 3 }'
    net = build(text, force_backward=True)
    x, t = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    net.forward(v=x, t=t)
    assert_close(net.loss, 5 * ((x - t) ** 2).sum() / 4)
    assert_close(net.backward()["v"], 5 * (x - t) / 2)
    cut = 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" loss_weight: 2 loss_weight: 5 slice_param { slice_point: 1 } }'
    net = build(data() + cut + 'layer { name: "p" type: "Silence" bottom: "a" }')
    net.forward(x=x)
    assert_close(net.loss, 2 * x[:, 0].sum() + 5 * x[:, 1:].sum())


def test_in_place(rng: np.random.Generator) -> None:
    text = data() + linear("a", "x", "u") + '\nlayer { name: "r" type: "ReLU" bottom: "u" top: "u" }\n' + linear("b", "u", "v")
    net = build(text, force_backward=True)
    assert list(net.blobs) == ["x", "u", "v"]
    assert net.tops[1][0] is net.bottoms[2][0] is net.tops[2][0]
    x = rng.normal(size=(2, 3))
    net.forward(x=x)
    net.backward(v=np.ones((2, 3)))
    a, b = net.params["a"][0].data, net.params["b"][0].data
    assert_close(net.blobs["x"].diff, ((np.ones((2, 3)) @ b) * (x @ a.T > 0)) @ a)


def test_outputs_are_what_nothing_reads() -> None:
    net = build(data() + linear("a", "x", "v") + linear("b", "x", "u"))
    assert net.inputs == ["x"]
    assert net.outputs == ["u", "v"]  # by name
    assert repr(net) == "Net('', TRAIN, 4 layers, 4 parameters)"


def test_old_inputs() -> None:
    net = build('input: "x" input_dim: 2 input_dim: 3 input_dim: 1 input_dim: 1\n' + linear("a", "x", "y"))
    assert net.blobs["x"].shape == (2, 3, 1, 1)
    assert net.blobs["y"].shape == (2, 3)
    assert build('input: "x" input_shape { dim: 4 dim: 2 }\n' + linear("a", "x", "y")).blobs["y"].shape == (4, 3)


# --- parameters -----------------------------------------------------------------------------------------------------------------------------
def test_parameters_shared_by_name(backend: support.Backend, rng: np.random.Generator) -> None:
    shared = 'param { name: "w" lr_mult: 3 }'
    text = data() + linear("a", "x", "u", shared, bias="false") + linear("b", "u", "v", 'param { name: "w" }', bias="false")
    net = build(text, xp=backend.xp)
    assert len(net.learnable_params) == 1
    first, second = net.params["a"][0], net.params["b"][0]
    assert (first.lr_mult, second.lr_mult) == (3.0, 3.0)
    second.data = np.arange(9.0).reshape(3, 3)
    assert_exact(backend.numpy(first.data), np.arange(9.0).reshape(3, 3))
    x = rng.normal(size=(2, 3))
    net.layers[-1].loss_weight = [1.0]
    net.layer_need_backward = [False, True, True]
    net.propagate_down = [[], [False], [True]]
    net.forward(x=backend.asarray(x))
    net.backward()
    w, one = np.arange(9.0).reshape(3, 3), np.ones((2, 3))
    assert_close(backend.numpy(first.diff), one.T @ (x @ w.T) + (one @ w).T @ x)


def test_permissive_sharing() -> None:
    text = data("x", (2, 6)) + linear("a", "x", "u", 'param { name: "w" }', 4, "false")
    text += linear("b", "u", "v", 'param { name: "w" share_mode: PERMISSIVE }', 6, "false")
    net = build(text)
    net.params["a"][0].data = np.arange(24.0).reshape(4, 6)
    assert_exact(net.params["b"][0].data, np.arange(24.0).reshape(6, 4))


@pytest.mark.parametrize(
    ("first", "second", "outputs", "message"),
    [
        (
            "",
            "",
            4,
            "<text>:4: layer 'b' (InnerProduct): parameter 'w' of shape (4, 3) cannot be shared with that of layer 'a', of shape (3, 3)",
        ),
        ("lr_mult: 1", "lr_mult: 2", 3, "parameter 'w' has lr_mult 2.0 here and 1.0 in layer 'a', which shares it"),
        ("decay_mult: 1", "decay_mult: 0", 3, "parameter 'w' has decay_mult 0.0 here and 1.0 in layer 'a', which shares it"),
    ],
)
def test_what_cannot_be_shared(first: str, second: str, outputs: int, message: str) -> None:
    text = data() + linear("a", "x", "u", f'param {{ name: "w" {first} }}', bias="false")
    text += linear("b", "u", "v", f'param {{ name: "w" {second} }}', outputs, "false")
    with pytest.raises(caffe.DefinitionError) as error:
        build(text)
    assert message in str(error.value)


def test_multipliers() -> None:
    net = build(data() + linear("a", "x", "y", "param { lr_mult: 0 } param { lr_mult: 2 decay_mult: 0 }"))
    weight, bias = net.params["a"]
    assert (weight.lr_mult, weight.decay_mult, bias.lr_mult, bias.decay_mult) == (0.0, 1.0, 2.0, 0.0)
    assert net.layers[1].param_propagate_down == [False, True]


def test_another_nets_parameters() -> None:
    text = data() + linear("a", "x", "u") + linear("b", "u", "v")
    net, other = build(text), caffe.Net(text, dtype="float64", generator=ad.Generator(1))
    other.share_trained_layers(net)
    net.params["a"][0].data += 1.0
    assert_exact(other.params["a"][0].data, net.params["a"][0].data)
    third = caffe.Net(data() + linear("b", "x", "v"), dtype="float64", generator=ad.Generator(2))
    third.copy_from(net)
    assert_exact(third.params["b"][0].data, net.params["b"][0].data)
    net.params["b"][0].data *= 0.0
    assert third.params["b"][0].data.all()


def test_shapes_that_differ_by_leading_ones_are_shared() -> None:
    row = 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { %s } } }'
    first, second = build(row % "dim: 3"), build(row % "dim: 1 dim: 3")
    second.share_trained_layers(first)
    first.params["p"][0].data = np.arange(3.0)
    assert_exact(second.forward()["p"], np.arange(3.0)[None])


def test_copies_that_do_not_fit() -> None:
    net = build(data() + linear("a", "x", "u"))
    with pytest.raises(caffe.DefinitionError, match=r"layer 'a' \(InnerProduct\): it has 2 parameters, and 1 are given"):
        net.copy_from({"a": [np.ones((3, 3))]})
    with pytest.raises(
        caffe.DefinitionError, match=r"parameter 0 has shape \(3, 3\), and one of shape \(3, 4\) is given; a layer of another name"
    ):
        net.copy_from({"a": [np.ones((3, 4)), np.ones(3)]})
    net.copy_from({"a": [np.ones((1, 1, 3, 3)), np.ones((1, 3))], "unknown": [np.ones(2)]})
    assert_exact(net.params["a"][0].data, np.ones((3, 3)))


# --- the way back -----------------------------------------------------------------------------------------------------------------------------
LOSS = 'layer { name: "loss" type: "EuclideanLoss" bottom: "v" bottom: "t" top: "loss" %s }\n'


def test_only_what_a_loss_needs() -> None:
    text = (
        data()
        + data("t")
        + linear("a", "x", "u", "param { lr_mult: 0 } param { lr_mult: 0 }")
        + linear("b", "u", "v")
        + linear("c", "u", "w")
    )
    net = build(text + LOSS % "")
    assert dict(zip(names(net), net.layer_need_backward, strict=True)) == {
        "x": False,
        "t": False,
        "a": False,
        "u_a_0_split": False,
        "b": True,
        "c": False,
        "loss": True,
    }
    assert dict(zip(names(net), net.propagate_down, strict=True))["b"] == [False]
    forced = build(text + LOSS % "", force_backward=True)
    assert all(forced.layer_need_backward)
    assert forced.propagate_down[-1] == [True, True]
    labels = build(SMALL, force_backward=True)
    assert labels.propagate_down[-1] == [True, False]  # there is none of labels


def test_propagate_down_is_obeyed() -> None:
    text = data() + data("t") + linear("a", "x", "u") + linear("b", "u", "v", "propagate_down: false") + LOSS % ""
    net = build(text)
    net.forward(x=np.ones((2, 3)), t=np.zeros((2, 3)))
    net.backward()
    assert net.params["b"][0].diff.any()
    assert not net.params["a"][0].diff.any()
    with pytest.raises(caffe.DefinitionError, match="propagate_down is said for each of its 1 bottoms or for none, not 2 times"):
        build(text.replace("propagate_down: false", "propagate_down: false propagate_down: true"))


def test_loss_weights(rng: np.random.Generator) -> None:
    text = data("v") + data("t")
    x, t = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    plain = build(text + LOSS % "", force_backward=True)
    double = build(text + LOSS % "loss_weight: 2", force_backward=True)
    none = build(text + LOSS % "loss_weight: 0", force_backward=True)
    want = ((x - t) ** 2).sum() / 4
    for net, weight in ((plain, 1), (double, 2), (none, 0)):
        net.forward(v=x, t=t)
        assert_close(net.loss, weight * want)
        assert_close(net.backward()["v"], weight * (x - t) / 2)
    with pytest.raises(caffe.DefinitionError, match="loss_weight is said for each of its 1 tops or for none, not 2 times"):
        build(text + LOSS % "loss_weight: 1 loss_weight: 1")


def test_a_loss_without_a_top() -> None:
    net = build(data("v") + data("t") + 'layer { name: "loss" type: "EuclideanLoss" bottom: "v" bottom: "t" }', force_backward=True)
    net.forward(v=np.ones((2, 3)), t=np.zeros((2, 3)))
    assert_exact(net.loss, 1.5)
    assert net.outputs == []


def test_gradients_add_up_until_cleared() -> None:
    net = build(SMALL)
    feed = {"x": np.ones((2, 2, 6, 6)), "t": np.asarray([0.0, 1.0])}
    net.forward_backward(**feed)
    once = net.params["ip"][0].diff.copy()
    net.forward_backward(**feed)
    assert_close(net.params["ip"][0].diff, 2 * once)
    net.clear_param_diffs()
    assert not net.params["ip"][0].diff.any()


# --- what bad input gets --------------------------------------------------------------------------------------------------------------------
WRONG = [
    (data() + linear("a", "z", "y"), "<text>:2: layer 'a' reads blob 'z', which no layer before it makes; there are so far: x"),
    (
        data() + 'layer { name: "a" type: "Relu" bottom: "x" top: "y" }',
        "<text>:2: layer 'a': there is no layer of type 'Relu' (did you mean 'ReLU'?)",
    ),
    (data() + linear("a", "x", "y") + linear("b", "x", "y"), "layer 'b' (InnerProduct): its top 'y' is made by another layer already"),
    (data() + 'layer { name: "a" type: "ReLU" top: "y" }', "<text>:2: layer 'a' (ReLU): it takes 1 bottom blob, and 0 are named"),
    (data() + 'layer { name: "a" type: "ReLU" bottom: "x" top: "y" top: "z" }', "it takes 1 top blob, and 2 are named"),
    (data() + linear("a", "x", "y", "include { phase: TRAIN } exclude { phase: TEST }"), "has rules to include and rules to exclude it"),
    (data() + linear("a", "x", "y", "param {} param {} param {}"), "it has 2 parameters, and 'param' is given 3 times"),
    (data() + 'layer { name: "a" bottom: "x" top: "y" }', "<text>:2: layer 'a': its type is missing"),
    (
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: -2 } } }',
        "<text>:1: layer 'x' (Input): blob 'x': a shape is of",
    ),
    (
        data() + linear("a", "x", "y").replace("num_output", "axis: 7 num_output"),
        "layer 'a' (InnerProduct): blob 'x' of shape (2, 3) has no axis 7",
    ),
    (
        data() + 'layer { name: "a" type: "Softmax" bottom: "x" top: "y" softmax_param { axis: 2 } }',
        "layer 'a' (Softmax): blob 'x' of shape",
    ),
    (data() + linear("a", "x", "x"), "<text>:2: layer 'a' (InnerProduct): it cannot work in place: give its top a name of its own"),
    (
        SMALL.replace("kernel_size: 3", "kernel_size: 3 group: 0"),
        "layer 'conv' (Convolution): num_output 3 and 2 channels are positive mult",
    ),
    (SMALL.replace("num_output: 3", ""), "layer 'conv' (Convolution): num_output 0 and 2 channels are positive multiples of group 1"),
    (SMALL.replace("stride: 2", "stride: 0"), "layer 'pool' (Pooling): stride is 1 or more, not (0, 0)"),
    (
        data("v", (2, 3, 5, 4)) + 'layer { name: "a" type: "SPP" bottom: "v" top: "y" spp_param { pyramid_height: 5 } }',
        "<text>:2: layer 'a, level 2' (Pooling): pad (2, 0) is less than the window, (2, 1)",
    ),
    (
        data("v")
        + data("t", (2,))
        + 'layer { name: "a" type: "InfogainLoss" bottom: "v" bottom: "t" infogain_loss_param { source: "?" } }',
        "<text>:3: layer 'a' (InfogainLoss): give the matrix as a third bottom, or a file with it as source; there is no file '?'",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_wrong_definitions(text: str, message: str) -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        build(text)
    assert message in str(error.value)


def test_shapes_that_do_not_fit_name_the_layer() -> None:
    text = data("v", (2, 3)) + data("t", (2, 4)) + LOSS % ""
    with pytest.raises(ValueError) as error:
        build(text)
    assert "loss" in str(error.value) + "".join(getattr(error.value, "__notes__", []))
    assert "<text>:3" in str(error.value) + "".join(getattr(error.value, "__notes__", []))


def test_an_error_inside_a_layer_says_where() -> None:
    net = build(data() + linear("a", "x", "y"))
    net.layers[1].forward = lambda bottom, top: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError) as error:
        net.forward()
    assert error.value.__notes__ == ["in <text>:2: layer 'a' (InnerProduct)"]


def test_wrong_calls() -> None:
    net = build(data("x") + linear("a", "x", "y"))
    with pytest.raises(KeyError, match=r"net '' has no input 'X' \(did you mean 'x'\?\); its inputs are x"):
        net.forward(X=np.ones((2, 3)))
    with pytest.raises(KeyError, match=r"has no blob 'z'"):
        net.backward(z=np.ones((2, 3)))
    with pytest.raises(KeyError, match=r"has no layer 'b'"):
        net.forward(end="b")
    with pytest.raises(ValueError, match=r"blob 'y' has shape \(2, 3\): diff of shape \(2,\) does not fit"):
        net.backward(y=np.ones(2))
    with pytest.raises(ValueError, match="phase is 'TRAIN' or 'TEST', not 'train'"):
        build(data(), phase="train")
    with pytest.raises(FileNotFoundError, match=r"there is no file 'nowhere.prototxt' with a NetParameter"):
        caffe.Net("nowhere.prototxt")
    with pytest.raises(TypeError, match="a NetParameter is wanted, as a path, a text or a Message, not a int"):
        caffe.Net(3)
    with pytest.raises(TypeError, match="inputs is a dict of shapes or arrays, by the names of the tops that they stand for, not a tuple"):
        caffe.Net(data(), inputs=(2, 3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="blob 'x' holds real numbers, float32 or float64 for one, not int32"):
        caffe.Net(data(), dtype="int32")
    labels = caffe.Net(data("v") + data("t", (2,)) + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "v" bottom: "t" }')
    with pytest.raises(caffe.DefinitionError, match="label nan in 't' is not one of 0 to 2"):
        labels.forward(t=np.asarray([1.0, np.nan]))


# --- blobs ----------------------------------------------------------------------------------------------------------------------------------
def test_blob(backend: support.Backend) -> None:
    blob = caffe.Blob((2, 3, 4), xp=backend.xp, dtype="float64", name="b")
    assert (blob.count, blob.ndim, blob.num, blob.channels, blob.height, blob.width) == (24, 3, 2, 3, 4, 1)
    assert (blob.axis(-1), blob.count_from(1), blob.count_from(0, 2)) == (2, 12, 6)
    blob.data = np.arange(24).reshape(2, 3, 4)
    blob.diff = 2.0
    blob.diff += blob.data
    assert_exact(backend.numpy(blob.diff), np.arange(24.0).reshape(2, 3, 4) + 2)
    blob.reshape(6, 4)
    assert_exact(backend.numpy(blob.data), np.arange(24.0).reshape(6, 4))
    other = caffe.Blob((4, 6), xp=backend.xp, dtype="float64")
    other.share_data(blob)
    other.data = 7.0
    assert_exact(backend.numpy(blob.data), np.full((6, 4), 7.0))
    blob.reshape(3)
    assert_exact(backend.numpy(blob.data), np.zeros(3))
    assert_exact(backend.numpy(caffe.Blob((), xp=backend.xp, dtype="float64").data), np.asarray(0.0))


def test_blobs_keep_what_is_given_apart() -> None:
    """Assigning copies, so that two blobs never share memory by accident."""
    one, other = caffe.Blob((2,)), caffe.Blob((2,))
    other.data = one.data
    one.data = 3.0
    assert_exact(other.data, np.zeros(2))


def test_wrong_blobs() -> None:
    blob = caffe.Blob((2, 3), name="b")
    with pytest.raises(ValueError, match=r"blob 'b' has shape \(2, 3\): data of shape \(3, 2\) does not fit; reshape it first"):
        blob.data = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"a shape is of integers of 0 or more, not \(-1, 2\)"):
        blob.reshape(-1, 2)
    with pytest.raises(ValueError, match=r"of shape \(2, 3\) has no axis 2"):
        blob.axis(2)
    with pytest.raises(ValueError, match=r"cannot share memory with one of shape \(4,\)"):
        blob.share_data(caffe.Blob((4,)))
    with pytest.raises(ValueError, match="num, channels, height and width are of blobs of at most 4 axes"):
        _ = caffe.Blob((1, 1, 1, 1, 1)).width


# --- fillers ----------------------------------------------------------------------------------------------------------------------------------
def filled(shape: tuple[int, ...] = (40, 30, 5, 5), **how: Any) -> Any:
    blob = caffe.Blob(shape, dtype="float64")
    caffe.fill(blob, generator=ad.Generator(0), **how)
    return blob.data


@pytest.mark.parametrize(("how", "fan"), [({}, 750.0), ({"variance_norm": "FAN_OUT"}, 1000.0), ({"variance_norm": "AVERAGE"}, 875.0)])
def test_fans(how: dict[str, Any], fan: float) -> None:
    uniform, normal = filled(type="xavier", **how), filled(type="msra", **how)
    bound = np.sqrt(3 / fan)
    assert 0.999 * bound < np.abs(uniform).max() <= bound
    assert normal.std() == pytest.approx(np.sqrt(2 / fan), rel=0.02)  # 30,000 draws: the error is about 0.4 %
    assert normal.mean() == pytest.approx(0, abs=1e-3)


def test_other_fillers() -> None:
    assert_exact(filled((2, 2), type="constant", value=3), np.full((2, 2), 3.0))
    uniform = filled(type="uniform", min=-2, max=1)
    assert -2 <= uniform.min() < -1.99
    assert 0.99 < uniform.max() <= 1
    normal = filled(type="gaussian", mean=1, std=2)
    assert (normal.mean(), normal.std()) == (pytest.approx(1, abs=0.05), pytest.approx(2, abs=0.05))
    sparse = filled(type="gaussian", sparse=10)
    assert (sparse != 0).mean() == pytest.approx(10 / 40, abs=0.01)
    assert_close(filled((3, 5), type="positive_unitball").sum(axis=1), np.ones(3))
    assert filled(type="positive_unitball").min() >= 0


def test_fields_beside_a_message_count() -> None:
    how = caffe.Message("FillerParameter", type="constant", value=2.0)
    blob = caffe.Blob((2,))
    caffe.fill(blob, how, value=3.0)
    assert_exact(blob.data, np.full(2, 3.0, dtype="float32"))
    param = caffe.Message("LayerParameter", name="p", power_param={"power": 2.0})
    layer = caffe.LAYERS["Power"](param, power_param={"scale": 3.0}, dtype="float64")
    assert (layer.name, float(layer.apply(np.asarray(2.0)))) == ("p", 6.0)
    assert how.value == 2.0
    assert param.power_param.power == 2.0  # what was given is as it was


def test_bilinear_filler_doubles_images() -> None:
    """With stride 2 the transposed convolution interpolates: a linear ramp stays one."""
    weight = filled((1, 1, 4, 4), type="bilinear")
    ramp = np.arange(6.0)[None, None, None, :] * np.ones((1, 1, 6, 1))
    grown = nn.functional.conv_transpose2d(ramp, weight, stride=2, padding=1)
    assert_close(grown[0, 0, 4, 2:-2], np.arange(0.75, 4.5, 0.5))


def test_wrong_fillers() -> None:
    for how, shape, message in (
        ({"type": "Xavier"}, (2, 2), "there is no filler 'Xavier' (did you mean 'xavier'?); there are constant, uniform"),
        ({"type": "bilinear"}, (2, 2), "filler 'bilinear' is for square kernels of 4 axes, not for shape (2, 2)"),
        ({"type": "uniform", "sparse": 3}, (2, 2), "filler 'uniform': sparse is for gaussian alone"),
        ({"type": "constant"}, (0, 2), "a blob of shape (0, 2) has nothing to fill"),
    ):
        with pytest.raises(caffe.DefinitionError) as error:
            filled(shape, **how)
        assert message in str(error.value)


# --- Caffe's own definitions ----------------------------------------------------------------------------------------------------------------
def run(file: str, image: tuple[int, ...], classes: int) -> caffe.Net:
    """Build a net with one batch of random images, run it forward and backward; check that every parameter got a gradient."""
    rng = np.random.default_rng(0)
    net = caffe.Net(SHARED / file, inputs={"data": image, "label": image[:1]}, generator=ad.Generator(0))
    loss = net.forward_backward(data=rng.normal(size=image), label=rng.integers(0, classes, image[0]))
    assert np.isfinite(loss)
    assert all(np.isfinite(p.diff).all() for p in net.learnable_params)
    assert net.params["conv1"][0].diff.any()
    return net


def shapes(net: caffe.Net, *blobs: str) -> list[tuple[int, ...]]:
    return [net.blobs[name].shape[1:] for name in blobs]


@needs_files
def test_lenet() -> None:
    net = run("examples_mnist_lenet_train_test.prototxt", (64, 1, 28, 28), 10)
    assert shapes(net, "conv1", "pool1", "conv2", "pool2", "ip1", "ip2") == [
        (20, 24, 24),
        (20, 12, 12),
        (50, 8, 8),
        (50, 4, 4),
        (500,),
        (10,),
    ]
    deployed = caffe.Net(SHARED / "examples_mnist_lenet.prototxt", "TEST")
    deployed.copy_from(net)
    assert deployed.inputs == ["data"]
    assert deployed.blobs["data"].shape == (64, 1, 28, 28)
    assert_close(deployed.forward(data=net.blobs["data"].data)["prob"].sum(axis=1), np.ones(64), rtol=1e-5)  # float32


@needs_files
@pytest.mark.parametrize(
    ("which", "blobs", "want"),
    [
        ("quick", "conv1 pool1 conv2 pool2 conv3 pool3 ip1 ip2", [(32, 32, 32), (32, 16, 16), (32, 16, 16), (32, 8, 8), (64, 8, 8), (64, 4, 4), (64,), (10,)]),
        ("full", "conv1 pool1 norm1 conv2 norm2 conv3 pool3 ip1", [(32, 32, 32), (32, 16, 16), (32, 16, 16), (32, 16, 16), (32, 8, 8), (64, 8, 8), (64, 4, 4), (10,)]),
    ],
)  # fmt: skip
def test_cifar(which: str, blobs: str, want: list[tuple[int, ...]]) -> None:
    net = run(f"examples_cifar10_cifar10_{which}_train_test.prototxt", (10, 3, 32, 32), 10)
    assert shapes(net, *blobs.split()) == want


@needs_files
@pytest.mark.slow
def test_caffenet() -> None:
    net = run("models_bvlc_reference_caffenet_train_val.prototxt", (1, 3, 227, 227), 1000)
    assert [b.shape[1:] for name, b in net.blobs.items() if name not in ("data", "label", "loss")] == [
        (96, 55, 55),
        (96, 27, 27),
        (96, 27, 27),
        (256, 27, 27),
        (256, 13, 13),
        (256, 13, 13),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (256, 6, 6),
        (4096,),
        (4096,),
        (1000,),
    ]
    assert [b.shape for b in net.params["conv2"]] == [(256, 48, 5, 5), (256,)]
    assert sum(p.count for p in net.learnable_params) == 60_965_224


@needs_files
def test_a_database_that_is_not_there() -> None:
    with pytest.raises(caffe.DefinitionError) as error:
        caffe.Net(SHARED / "examples_mnist_lenet_train_test.prototxt")
    assert "lenet_train_test.prototxt:2: layer 'mnist' (Data): there is no database 'examples/mnist/mnist_train_lmdb'" in str(error.value)
    assert "caffe.Net(..., inputs={'data': ..., 'label': ...})" in str(error.value)
