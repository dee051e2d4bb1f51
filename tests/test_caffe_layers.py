"""The layers of nn.caffe: their values against PyTorch and against loops, their gradients against the tape, what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.nn import caffe
from agnostic_ad.nn.caffe.bridge import prepared
from agnostic_ad.nn.caffe.samples import SAMPLES, Sample, samples

TYPES = sorted({s.type for s in SAMPLES})
CHECKLIST = """Convolution Deconvolution Pooling SPP Crop Im2col RNN LSTM InnerProduct Dropout Embed LRN MVN BatchNorm ReLU PReLU ELU Sigmoid
TanH AbsVal Power Exp Log BNLL Threshold Bias Scale Flatten Reshape BatchReindex Split Concat Slice Eltwise Filter Parameter Reduction
Silence ArgMax Softmax Tile SoftmaxWithLoss MultinomialLogisticLoss InfogainLoss EuclideanLoss HingeLoss SigmoidCrossEntropyLoss
ContrastiveLoss Accuracy"""
eager = pytest.mark.parametrize(
    "backend", support.params(without=("jax", "dask"))
)  # JAX compiles every shape, Dask computes everything anew


class Step:
    """A layer in double precision, with its blobs."""

    def __init__(
        self, type: str, *bottoms: Any, tops: int = 1, params: Any = (), xp: Any = np, dtype: str = "float64", **fields: Any
    ) -> None:
        self.layer = caffe.LAYERS[type](xp=xp, dtype=dtype, generator=ad.Generator(0), **fields)
        self.bottom, self.top = prepared(self.layer, [np.asarray(x) for x in bottoms], tops)
        for blob, value in zip(self.layer.blobs, params):
            blob.data = value

    def forward(self) -> Any:
        self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        return self.top[0].data if self.top else None

    def backward(self, *cts: Any, wanted: Any = None) -> list[Any]:
        for blob, ct in zip(self.top, cts, strict=True):
            blob.diff = ct
        self.layer.backward(self.top, [True] * len(self.bottom) if wanted is None else wanted, self.bottom)
        return [blob.diff for blob in self.bottom]


def run(type: str, *bottoms: Any, tops: int = 1, params: Any = (), **fields: Any) -> Any:
    """Give the tops of a layer: one array, or a list."""
    step = Step(type, *bottoms, tops=tops, params=params, **fields)
    step.forward()
    return step.top[0].data if tops == 1 else [blob.data for blob in step.top]


# --- all layers ---------------------------------------------------------------------------------------------------------------------------
def test_every_layer_of_the_checklist_is_there_and_has_samples() -> None:
    assert set(CHECKLIST.split()) <= set(caffe.LAYERS)
    assert set(CHECKLIST.split()) <= set(TYPES)


def _id(s: Sample) -> str:
    return f"{s.type}-{SAMPLES.index(s)}"


def _check(backend: support.Backend, s: Sample, dtype: str) -> None:
    bottoms = [backend.asarray(x if o.kind else x.astype(dtype)) for x, o in zip(s.draw(), s.operands, strict=True)]
    layer = caffe.LAYERS[s.type](xp=backend.xp, dtype=dtype, generator=ad.Generator(0), **s.fields)
    caffe.check_layer(layer, bottoms, tops=s.tops, propagate_down=[not o.kind for o in s.operands])


@eager
@pytest.mark.parametrize("s", [s for s in SAMPLES if s.differentiable], ids=_id)
def test_backward_is_the_gradient_of_forward(backend: support.Backend, s: Sample) -> None:
    _check(backend, s, "float64")  # raises with the first number that is off


@eager
@pytest.mark.parametrize("s", [samples(t)[0] for t in TYPES if samples(t)[0].differentiable], ids=_id)
def test_float32_stays_float32(backend: support.Backend, s: Sample) -> None:
    _check(backend, s, "float32")
    layer = caffe.LAYERS[s.type](xp=backend.xp, dtype="float32", generator=ad.Generator(0), **s.fields)
    bottom, top = prepared(layer, [backend.asarray(x) for x in s.draw()], s.tops)
    layer.forward(bottom, top)
    assert {str(blob.data.dtype).rpartition(".")[2] for blob in [*top, *layer.blobs]} <= {"float32"}


@pytest.mark.parametrize("backend", support.params("jax", "dask"))
@pytest.mark.parametrize(
    "type", ["Convolution", "Pooling", "InnerProduct", "ReLU", "BatchNorm", "Embed", "SoftmaxWithLoss", "Dropout", "LSTM"]
)
def test_backward_on_libraries_that_are_lazy(backend: support.Backend, type: str) -> None:
    _check(backend, samples(type)[0], "float64")


@pytest.mark.parametrize("backend", support.params("array_api_strict"))
@pytest.mark.parametrize("s", [samples(t)[-1] for t in TYPES], ids=_id)
def test_all_is_done_on_the_device_of_the_blobs(backend: support.Backend, s: Sample) -> None:
    device = backend.xp.Device("device1")
    layer = caffe.LAYERS[s.type](xp=backend.xp, dtype="float64", device=device, generator=ad.Generator(0), **s.fields)
    bottom, top = prepared(layer, [backend.asarray(x) for x in s.draw()], s.tops)
    layer.forward(bottom, top)
    if s.differentiable:
        layer.backward(top, [not o.kind for o in s.operands], bottom)
    assert {a.device for blob in [*bottom, *top, *layer.blobs] for a in (blob.data, blob.diff)} <= {device}


@pytest.mark.parametrize("s", [s for s in SAMPLES if s.differentiable and s.tops], ids=_id)
def test_forward_runs_on_variables(s: Sample) -> None:
    layer = caffe.LAYERS[s.type](dtype="float64", generator=ad.Generator(0), **s.fields)
    bottom, top = prepared(layer, s.draw(), s.tops)
    for blob in [*bottom, *layer.blobs]:
        blob.data = ad.Variable(blob.data)
    layer.forward(bottom, top)
    assert isinstance(top[0].data, ad.Variable) and top[0].data.requires_grad
    assert top[0].data.shape == top[0].shape


@pytest.mark.parametrize("type", [t for t in TYPES if samples(t)[0].tops])
def test_tops_are_reused(type: str) -> None:
    s = samples(type)[0]
    layer = caffe.LAYERS[s.type](dtype="float64", generator=ad.Generator(0), **s.fields)
    bottom, top = prepared(layer, s.draw(), s.tops)
    layer.forward(bottom, top)
    memory = [blob.data for blob in top]
    layer.reshape(bottom, top)
    layer.forward(bottom, top)
    assert all(blob.data is before for blob, before in zip(top, memory, strict=True))


EMPTY = [
    s
    for s in SAMPLES
    if s.operands and s.type not in ("RNN", "LSTM", "Crop", "Bias", "Scale", "Concat", "Slice", "BatchReindex", "InfogainLoss")
]


@pytest.mark.parametrize("s", [*EMPTY, *(samples(t)[0] for t in ("Crop", "Bias", "Scale", "Concat", "Slice"))], ids=_id)
@pytest.mark.parametrize("backend", support.params("numpy", "array_api_strict"))
def test_batches_of_nothing(backend: support.Backend, s: Sample) -> None:
    layer = caffe.LAYERS[s.type](xp=backend.xp, dtype="float64", generator=ad.Generator(0), **s.fields)
    prepared(layer, [backend.asarray(x) for x in s.draw()], s.tops)
    layer.is_set_up = True
    bottom, top = prepared(layer, [backend.asarray(x[:0]) for x in s.draw()], s.tops)
    layer.forward(bottom, top)
    if s.differentiable:
        layer.backward(top, [not o.kind for o in s.operands], bottom)
    assert all(np.isfinite(backend.numpy(a)).all() for blob in [*bottom, *top, *layer.blobs] for a in (blob.data, blob.diff))
    assert all(blob.shape == () or blob.count == 0 or s.type in ("Reduction", "Accuracy") for blob in top)


def _in_a_net(s: Sample) -> str:
    """A definition with an Input for each bottom and a loss for each top."""
    layers: list[dict[str, Any]] = [
        {"name": f"x{i}", "type": "Input", "top": [f"x{i}"], "input_param": {"shape": {"dim": list(o.shape)}}}
        for i, o in enumerate(s.operands)
    ]
    tops, fields = [f"y{i}" for i in range(s.tops)], {k: v for k, v in s.fields.items() if k != "phase"}
    marks = [not o.kind for o in s.operands]
    layers.append(
        {"name": "it", "type": s.type, "bottom": [f"x{i}" for i in range(len(marks))], "top": tops, "propagate_down": marks, **fields}
    )
    if not caffe.LAYERS[s.type].is_loss:
        how = {"type": "Reduction", "loss_weight": [2.0], "reduction_param": {"operation": "SUMSQ"}}
        layers += [{"name": f"{t} squared", "bottom": [t], "top": [f"{t} squared"], **how} for t in tops]
    return "\n".join(f"layer {{\n{caffe.Message('LayerParameter', **each).text()}\n}}" for each in layers)


ALONE = [s for s in SAMPLES if s.differentiable and s.tops and s.operands and s.type != "Dropout" and "STOCHASTIC" not in str(s.fields)]


@pytest.mark.parametrize("s", ALONE, ids=_id)
def test_every_layer_in_a_net_does_what_it_does_alone(s: Sample) -> None:
    net = caffe.Net(_in_a_net(s), s.fields.get("phase", "TRAIN"), dtype="float64", force_backward=True, generator=ad.Generator(0))
    net.forward(**{f"x{i}": x for i, x in enumerate(s.draw())})
    net.backward()
    layer = caffe.LAYERS[s.type](dtype="float64", generator=ad.Generator(0), **s.fields)  # the seed gives the same parameters
    moving = [i for i, o in enumerate(s.operands) if not o.kind]

    def loss(*xs: Any) -> Any:
        inputs = s.draw()
        for i, x in zip(moving, xs, strict=True):
            inputs[i] = x
        tops = layer.apply(*inputs, tops=s.tops)
        tops = tops if isinstance(tops, tuple) else (tops,)
        return tops[0] if layer.is_loss else 2 * sum((y**2).sum() for y in tops)

    if moving:
        for i, want in zip(moving, ad.grad(loss, tuple(range(len(moving))))(*(s.draw()[i] for i in moving)), strict=True):
            assert_close(net.blobs[f"x{i}"].diff, want, rtol=1e-12, atol=1e-12)
    else:
        assert np.isfinite(net.loss)


IN_PLACE = [
    "ReLU",
    "ELU",
    "Sigmoid",
    "TanH",
    "AbsVal",
    "Power",
    "Exp",
    "BNLL",
    "PReLU",
    "Bias",
    "Scale",
    "Dropout",
    "BatchNorm",
    "Softmax",
    "Swish",
]


@pytest.mark.parametrize("type", [*IN_PLACE, "LRN", "MVN"])
def test_in_place_layers_give_the_same(type: str, rng: np.random.Generator) -> None:
    x, ct = np.abs(rng.normal(size=(2, 3, 2, 2))) - 0.5, rng.normal(size=(2, 3, 2, 2))
    fields = {"exp_param": {"scale": 0.7}, "power_param": {"power": 2.0, "shift": 1.0}, "scale_param": {"bias_term": True}}
    apart, together = (Step(type, x, **fields) for _ in range(2))
    together.top = together.bottom
    want = apart.forward()
    assert_exact(together.forward(), want)
    together.layer.blobs[:0] = []
    (grad,) = apart.backward(ct)
    assert_exact(together.backward(ct)[0], grad)
    assert all(np.array_equal(a.diff, b.diff) for a, b in zip(apart.layer.blobs, together.layer.blobs, strict=True))


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("Eltwise", {"eltwise_param": {"coeff": [0.5, 2.0, 1.0]}}),
        ("Eltwise", {"eltwise_param": {"operation": "PROD"}}),
        ("Eltwise", {"eltwise_param": {"operation": "MAX"}}),
        ("Scale", {}),
        ("Bias", {}),
    ],
)
def test_in_place_layers_of_several_bottoms_give_the_same(type: str, fields: dict[str, Any], rng: np.random.Generator) -> None:
    xs, ct = [rng.normal(size=(2, 3)) for _ in range(3 if type == "Eltwise" else 2)], rng.normal(size=(2, 3))
    if type != "Eltwise":
        fields = {**fields, f"{type.lower()}_param": {"axis": 0}}
    apart, together = (Step(type, *xs, **fields) for _ in range(2))
    together.top = together.bottom[:1]
    assert_exact(together.forward(), apart.forward())
    for grad, want in zip(together.backward(ct), apart.backward(ct), strict=True):
        assert_exact(grad, want)


def _chain(in_place: bool) -> caffe.Net:
    """A convolution, all the layers that may work in place, and a loss."""
    layers: list[dict[str, Any]] = [
        {"name": "x", "type": "Input", "top": ["x"], "input_param": {"shape": {"dim": [4, 2, 5, 5]}}},
        {"name": "t", "type": "Input", "top": ["t"], "input_param": {"shape": {"dim": [4]}}},
        {"name": "y0", "type": "Convolution", "bottom": ["x"], "top": ["y0"]},
    ]
    for i, type in enumerate(["BatchNorm", "Scale", *IN_PLACE]):
        bottom, top = ("y0", "y0") if in_place else (f"y{i}", f"y{i + 1}")
        layers.append({"name": f"{type} {i}", "type": type, "bottom": [bottom], "top": [top], "exp_param": {"scale": 0.3}})
    layers.append({"name": "ip", "type": "InnerProduct", "bottom": [top], "top": ["ip"]})
    layers.append({"name": "loss", "type": "SoftmaxWithLoss", "bottom": ["ip", "t"], "top": ["loss"]})
    how = {"num_output": 3, "weight_filler": {"type": "xavier"}}
    fields = {"convolution_param": {**how, "kernel_size": 3}, "inner_product_param": how, "scale_param": {"bias_term": True}}
    text = "\n".join(f"layer {{\n{caffe.Message('LayerParameter', **{**fields, **each}).text()}\n}}" for each in layers)
    return caffe.Net(text, dtype="float64", force_backward=True, generator=ad.Generator(0))


def test_a_chain_of_layers_in_place_gives_the_same(rng: np.random.Generator) -> None:
    x, found = rng.normal(size=(4, 2, 5, 5)), []
    for in_place in (False, True):
        net = _chain(in_place)
        net.forward(x=x, t=[0, 1, 2, 1])
        net.backward()
        found.append([net.loss, net.blobs["x"].diff, *(blob.diff for blobs in net.params.values() for blob in blobs)])
    assert len(net.blobs) == 5  # x, t, y0, ip and loss
    for apart, together in zip(*found, strict=True):
        assert_exact(together, apart)
    assert np.any(found[0][1])


@pytest.mark.parametrize("type", ["Flatten", "Split", "Sigmoid", "Pooling", "TanH", "Softmax", "LRN"])
def test_what_is_done_to_a_top_in_place_does_not_reach_backward(type: str, rng: np.random.Generator) -> None:
    x, ct = rng.normal(size=(1, 2, 4, 4)), None
    step = Step(type, x, pooling_param={"kernel_size": 2})
    y = step.forward()
    ct = rng.normal(size=y.shape)
    want = step.backward(ct)[0].copy()
    step.forward()[...] *= -3.0
    assert_exact(step.bottom[0].data, x)
    assert_exact(step.backward(ct)[0], want)


@pytest.mark.parametrize("type", ["InnerProduct", "Convolution", "Deconvolution", "Scale", "PReLU", "LSTM", "RNN"])
def test_only_what_is_wanted_is_computed(type: str) -> None:
    s = samples(type)[0]
    step = Step(type, *s.draw(), **s.fields)
    step.forward()
    step.layer.param_propagate_down = [i == 0 for i in range(len(step.layer.blobs))]
    for blob in [*step.bottom, *step.layer.blobs]:
        blob.diff = 7.0
    step.backward(np.ones(step.top[0].shape), wanted=[False] * len(step.bottom))
    assert all((blob.diff == 7.0).all() for blob in [*step.bottom, *step.layer.blobs[1:]])
    assert not (step.layer.blobs[0].diff == 7.0).any()


# --- against PyTorch ----------------------------------------------------------------------------------------------------------------------
def _torch(f: Callable[..., Any], *xs: Any) -> Any:
    torch = pytest.importorskip("torch")
    y = f(torch.nn.functional, *(torch.from_numpy(np.array(x)) for x in xs))
    return y.detach().numpy()


W, B = np.random.default_rng(1).normal(size=(4, 2, 3, 2)), np.random.default_rng(2).normal(size=4)
TORCH: list[tuple[str, tuple[int, ...], Any, dict[str, Any], Callable[..., Any]]] = [
    (
        "Convolution",
        (2, 4, 7, 6),
        (W, B),
        {"convolution_param": {"num_output": 4, "kernel_h": 3, "kernel_w": 2, "stride": 2, "pad": [1, 0], "group": 2, "dilation": [1, 2]}},
        lambda F, x, w, b: F.conv2d(x, w, b, 2, (1, 0), (1, 2), 2),
    ),
    (
        "Deconvolution",
        (2, 4, 3, 4),
        (W, B),
        {"convolution_param": {"num_output": 4, "kernel_size": [3, 2], "stride": [2, 1], "pad": [1, 0], "group": 2, "dilation": 2}},
        lambda F, x, w, b: F.conv_transpose2d(x, w, b, (2, 1), (1, 0), 0, 2, 2),
    ),
    (
        "Convolution",
        (2, 2, 5),
        (W[:, :, :, 0], B),
        {"convolution_param": {"num_output": 4, "kernel_size": 3}},
        lambda F, x, w, b: F.conv1d(x, w, b),
    ),
    (
        "Im2col",
        (2, 3, 5, 4),
        (),
        {"convolution_param": {"kernel_size": 2, "stride": 2, "pad": 1}},
        lambda F, x: F.unfold(x, 2, 1, 1, 2).reshape(2, 12, 3, 3),
    ),
    ("Pooling", (2, 3, 7, 6), (), {"pooling_param": {"kernel_size": 3, "stride": 2}}, lambda F, x: F.max_pool2d(x, 3, 2, 0, 1, True)),
    (
        "Pooling",
        (2, 3, 7, 6),
        (),
        {"pooling_param": {"kernel_size": 3, "stride": 2, "pad": 1, "pool": "AVE"}},
        lambda F, x: F.avg_pool2d(x, 3, 2, 1, True),
    ),
    ("Pooling", (2, 3, 7, 6), (), {"pooling_param": {"global_pooling": True, "pool": "AVE"}}, lambda F, x: x.mean((2, 3), keepdim=True)),
    (
        "InnerProduct",
        (2, 4, 3),
        (np.arange(12.0).reshape(1, 12), B[:1]),
        {"inner_product_param": {"num_output": 1}},
        lambda F, x, w, b: F.linear(x.flatten(1), w, b),
    ),
    (
        "LRN",
        (2, 5, 3, 2),
        (),
        {"lrn_param": {"local_size": 3, "alpha": 0.7, "beta": 0.6, "k": 1.5}},
        lambda F, x: F.local_response_norm(x, 3, 0.7, 0.6, 1.5),
    ),
    (
        "LRN",
        (2, 2, 5, 4),
        (),
        {"lrn_param": {"local_size": 3, "alpha": 0.7, "norm_region": "WITHIN_CHANNEL", "k": 9.0}},
        lambda F, x: x / (1 + 0.7 * F.avg_pool2d(x * x, 3, 1, 1)) ** 0.75,
    ),
    ("BatchNorm", (4, 3, 2), (), {"batch_norm_param": {"eps": 0.1}}, lambda F, x: F.batch_norm(x, None, None, training=True, eps=0.1)),
    ("MVN", (2, 3, 2, 4), (), {"mvn_param": {"across_channels": True, "eps": 0.0}}, lambda F, x: F.layer_norm(x, (3, 2, 4), eps=0.0)),
    ("Softmax", (2, 3, 4), (), {}, lambda F, x: F.softmax(x, 1)),
    ("ReLU", (2, 3), (), {"relu_param": {"negative_slope": 0.2}}, lambda F, x: F.leaky_relu(x, 0.2)),
    ("PReLU", (2, 4, 3), (B,), {}, lambda F, x, w: F.prelu(x, w)),
    ("ELU", (2, 3), (), {"elu_param": {"alpha": 0.3}}, lambda F, x: F.elu(x, 0.3)),
    ("Sigmoid", (2, 3), (), {}, lambda F, x: F.sigmoid(x)),
    ("TanH", (2, 3), (), {}, lambda F, x: F.tanh(x)),
    ("Swish", (2, 3), (), {}, lambda F, x: F.silu(x)),
    ("Clip", (2, 3), (), {"clip_param": {"min": -0.5, "max": 0.25}}, lambda F, x: x.clip(-0.5, 0.25)),
    ("BNLL", (2, 3), (), {}, lambda F, x: F.softplus(x)),
    ("AbsVal", (2, 3), (), {}, lambda F, x: x.abs()),
    ("Scale", (2, 4, 3), (B, 2 * B), {"scale_param": {"bias_term": True}}, lambda F, x, a, b: x * a[:, None] + b[:, None]),
    ("Bias", (2, 4, 3), (B,), {}, lambda F, x, b: x + b[:, None]),
]


@pytest.mark.parametrize(("type", "shape", "params", "fields", "f"), TORCH, ids=[row[0] for row in TORCH])
def test_values_are_those_of_torch(type: str, shape: Any, params: Any, fields: Any, f: Any, rng: np.random.Generator) -> None:
    x = rng.normal(size=shape)
    assert_close(run(type, x, params=params, **fields), _torch(f, x, *params), rtol=1e-12, atol=1e-12)


LOSSES: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("SoftmaxWithLoss", {}, lambda F, x, t: F.cross_entropy(x, t)),
    ("SoftmaxWithLoss", {"loss_param": {"ignore_label": 1}}, lambda F, x, t: F.cross_entropy(x, t, ignore_index=1)),
    (
        "SoftmaxWithLoss",
        {"loss_param": {"ignore_label": 1, "normalization": "FULL"}},
        lambda F, x, t: F.cross_entropy(x, t, ignore_index=1, reduction="sum") / 12,
    ),
    ("SoftmaxWithLoss", {"loss_param": {"normalize": False}}, lambda F, x, t: F.cross_entropy(x, t, reduction="sum") / 6),
    ("SoftmaxWithLoss", {"loss_param": {"normalization": "NONE"}}, lambda F, x, t: F.cross_entropy(x, t, reduction="sum")),
    ("MultinomialLogisticLoss", {}, lambda F, x, t: F.nll_loss(x.exp().log(), t) if x.ndim == 2 else None),
]


@pytest.mark.parametrize(("type", "fields", "f"), LOSSES[:-1])
def test_softmax_loss_is_that_of_torch(type: str, fields: Any, f: Any, rng: np.random.Generator) -> None:
    x, labels = rng.normal(size=(6, 4, 2)), rng.integers(0, 4, (6, 2))
    assert_close(run(type, x, labels, **fields), _torch(f, x, labels), rtol=1e-12)


def test_a_softmax_loss_of_nothing_is_nothing() -> None:
    step = Step("SoftmaxWithLoss", np.zeros((2, 3)), np.ones(2), loss_param={"ignore_label": 1})
    assert step.forward() == 0.0
    assert (step.backward(1.0, wanted=[True, False])[0] == 0.0).all()


def test_other_losses_are_those_of_torch(rng: np.random.Generator) -> None:
    a, b, labels, alike = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.integers(0, 3, 5), rng.integers(0, 2, 5)
    p, flags = np.exp(a), rng.uniform(size=(5, 3))
    assert_close(run("EuclideanLoss", a, b), _torch(lambda F, x, y: F.mse_loss(x, y, reduction="sum") / 10, a, b), rtol=1e-13)
    assert_close(run("MultinomialLogisticLoss", p, labels), _torch(lambda F, x, t: F.nll_loss(x, t), a, labels), rtol=1e-13)
    assert_close(
        run("SigmoidCrossEntropyLoss", a, flags),
        _torch(lambda F, x, y: F.binary_cross_entropy_with_logits(x, y, reduction="sum") / 5, a, flags),
        rtol=1e-13,
    )
    signs = np.where(np.arange(3) == labels[:, None], 1.0, -1.0)
    assert_close(run("HingeLoss", a, labels), np.maximum(0, 1 - a * signs).sum() / 5, rtol=1e-13)
    assert_close(run("HingeLoss", a, labels, hinge_loss_param={"norm": "L2"}), (np.maximum(0, 1 - a * signs) ** 2).sum() / 5, rtol=1e-13)
    matrix = rng.uniform(size=(3, 3))
    logs = a - np.log(np.exp(a).sum(axis=1, keepdims=True))
    assert_close(run("InfogainLoss", a, labels, matrix), -(matrix[labels] * logs).sum() / 5, rtol=1e-13)
    square = ((a - b) ** 2).sum(axis=1)
    for legacy, other in ((False, np.maximum(3 - np.sqrt(square), 0) ** 2), (True, np.maximum(3 - square, 0))):
        want = np.where(alike, square, other).sum() / 10
        assert_close(
            run("ContrastiveLoss", a, b, alike, contrastive_loss_param={"margin": 3.0, "legacy_version": legacy}), want, rtol=1e-13
        )


def test_ignored_targets_of_a_sigmoid_loss_do_not_count(rng: np.random.Generator) -> None:
    x, target = rng.normal(size=(2, 3)), np.asarray([[0.0, 255.0, 1.0], [255.0, 0.0, 0.0]])
    step = Step("SigmoidCrossEntropyLoss", x, target, loss_param={"ignore_label": 255, "normalization": "VALID"})
    each = np.log1p(np.exp(x)) - x * target
    assert_close(step.forward(), each[target != 255].sum() / 4, rtol=1e-13)
    (grad, _) = step.backward(2.0, wanted=[True, False])
    assert_close(grad, np.where(target == 255, 0.0, 2 * (1 / (1 + np.exp(-x)) - target) / 4), rtol=1e-13)


# --- against loops ------------------------------------------------------------------------------------------------------------------------
def pooled(x: Any, kernel: int, stride: int, pad: int, average: bool) -> Any:
    """What Caffe's definition says, window by window."""
    height, width = x.shape[2:]
    out = [math.ceil((n + 2 * pad - kernel) / stride) + 1 for n in (height, width)]
    out = [o - 1 if pad and (o - 1) * stride >= n + pad else o for o, n in zip(out, (height, width), strict=True)]
    y = np.zeros((*x.shape[:2], *out))
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * stride - pad, j * stride - pad
            bottom, right = min(top + kernel, height + pad), min(left + kernel, width + pad)
            area = (bottom - top) * (right - left)
            window = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            y[:, :, i, j] = window.sum(axis=(2, 3)) / area if average else window.max(axis=(2, 3))
    return y


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad"),
    [((6, 7), 3, 2, 0), ((6, 7), 3, 2, 1), ((5, 5), 2, 2, 1), ((4, 9), 3, 3, 2), ((28, 24), 2, 2, 0), ((2, 5), 3, 2, 0)],
)
def test_pooling_follows_the_rule(size: Any, kernel: int, stride: int, pad: int, average: bool, rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 2, *size))
    how = {"kernel_size": kernel, "stride": stride, "pad": pad, "pool": "AVE" if average else "MAX"}
    assert_close(run("Pooling", x, pooling_param=how), pooled(x, kernel, stride, pad, average), rtol=1e-13)


def test_the_first_of_equal_maxima_has_the_gradient(backend: support.Backend) -> None:
    layer = caffe.LAYERS["Pooling"](xp=backend.xp, dtype="float64", pooling_param={"kernel_size": 2})
    grad = ad.grad(lambda x: layer.apply(x).sum())(backend.asarray(np.ones((1, 1, 2, 2))))
    assert_exact(backend.numpy(grad), np.asarray([[[[1.0, 0.0], [0.0, 0.0]]]]))


def test_padding_of_one_side_alone(rng: np.random.Generator) -> None:
    x, how = rng.normal(size=(1, 2, 4, 5)), {"num_output": 2, "kernel_size": 3, "weight_filler": {"type": "xavier"}}
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    assert_close(run("Convolution", x, convolution_param={**how, "pad_h": 1}), run("Convolution", padded, convolution_param=how))
    assert_close(
        run("Convolution", x.swapaxes(2, 3), convolution_param={**how, "pad_w": 1}),
        run("Convolution", padded.swapaxes(2, 3), convolution_param=how),
    )


def test_pooling_tells_the_places_of_maxima(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 5, 6))
    y, places = run("Pooling", x, tops=2, pooling_param={"kernel_size": 2, "stride": 2})
    assert_exact(np.take_along_axis(x.reshape(2, 3, 30), places.reshape(2, 3, -1).astype(int), axis=2).reshape(y.shape), y)


def test_stochastic_pooling_draws_numbers_of_their_windows() -> None:
    x = np.asarray([1.0, 3.0, 0.0, 0.0]).reshape(1, 1, 2, 2) * np.ones((4000, 1, 1, 1))
    drawn = run("Pooling", x, pooling_param={"pool": "STOCHASTIC", "kernel_size": 2})
    assert set(np.unique(drawn)) == {1.0, 3.0}
    assert abs((drawn == 3.0).mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / 4000)  # four standard deviations
    assert_exact(run("Pooling", x[:1], phase="TEST", pooling_param={"pool": "STOCHASTIC", "kernel_size": 2}), np.full((1, 1, 1, 1), 2.5))


def test_stochastic_gradients_go_where_the_number_was(rng: np.random.Generator) -> None:
    x = rng.uniform(0.5, 1.0, (2, 2, 5, 5))
    step = Step("Pooling", x, pooling_param={"pool": "STOCHASTIC", "kernel_size": 2, "stride": 2})
    y = step.forward()
    (grad,) = step.backward(np.ones(y.shape))
    assert grad.sum() == y.size
    assert_exact(np.sort(x[grad > 0]), np.sort(y.ravel()))


def test_a_pyramid_is_poolings_in_a_row(rng: np.random.Generator) -> None:
    x = rng.normal(size=(2, 3, 4, 8))
    want = [x.reshape(2, 3, n, 4 // n, n, 8 // n).max(axis=(3, 5)).reshape(2, -1) for n in (1, 2, 4)]
    assert_exact(run("SPP", x, spp_param={"pyramid_height": 3}), np.concatenate(want, axis=1))


def test_layers_that_move_numbers(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3, 2))
    assert_exact(run("Crop", x, np.zeros((2, 2, 2)), crop_param={"axis": 0, "offset": [1, 1, 0]}), x[1:3, 1:3])
    assert_exact(run("Flatten", x), x.reshape(4, 6))
    assert_exact(run("Flatten", x, flatten_param={"axis": 0, "end_axis": 1}), x.reshape(12, 2))
    assert_exact(run("Reshape", x, reshape_param={"shape": {"dim": [0, -1]}}), x.reshape(4, 6))
    assert_exact(run("Reshape", x, reshape_param={"shape": {"dim": [1]}, "axis": -1, "num_axes": 0}), x.reshape(4, 3, 2, 1))
    assert_exact(run("BatchReindex", x, [3, 0, 3]), x[[3, 0, 3]])
    assert_exact(run("Concat", x, y, concat_param={"axis": -1}), np.concatenate([x, y], axis=2))
    assert_exact(run("Concat", x, y, concat_param={"concat_dim": 0}), np.concatenate([x, y]))
    assert_exact(run("Tile", x, tile_param={"tiles": 3, "axis": 0}), np.tile(x, (3, 1, 1)))
    for made, want in zip(run("Slice", x, tops=3), np.split(x, 3, axis=1), strict=True):
        assert_exact(made, want)
    for made, want in zip(run("Slice", x, tops=2, slice_param={"slice_dim": 0, "slice_point": 1}), (x[:1], x[1:]), strict=True):
        assert_exact(made, want)
    for made in run("Split", x, tops=2):
        assert_exact(made, x)
    for made, want in zip(run("Filter", x, y, [0, 1, 0, 2], tops=2), (x[[1, 3]], y[[1, 3]]), strict=True):
        assert_exact(made, want)
    assert run("Filter", x, np.zeros(4)).shape == caffe.LAYERS["Filter"](dtype="float64").apply(x, np.zeros(4)).shape == (0, 3, 2)


def test_layers_that_combine_and_reduce(rng: np.random.Generator) -> None:
    x, y, z = rng.normal(size=(3, 4, 3))
    assert_exact(run("Eltwise", x, y, z), x + y + z)
    assert_exact(run("Eltwise", x, y, eltwise_param={"coeff": [1.0, -1.0]}), x - y)
    assert_exact(run("Eltwise", x, y, z, eltwise_param={"operation": "PROD"}), x * y * z)
    assert_exact(run("Eltwise", x, y, z, eltwise_param={"operation": "MAX"}), np.maximum(np.maximum(x, y), z))
    for op, want in {"SUM": x.sum(1), "ASUM": abs(x).sum(1), "SUMSQ": (x * x).sum(1), "MEAN": x.mean(1)}.items():
        assert_exact(run("Reduction", x, reduction_param={"operation": op, "axis": 1, "coeff": 2.0}), 2 * want)
    assert run("Reduction", x).shape == ()
    assert_exact(run("Power", abs(x), power_param={"power": 0.5, "scale": 2.0, "shift": 1.0}), np.sqrt(1 + 2 * abs(x)))
    assert_exact(run("Exp", x, exp_param={"base": 2.0, "scale": 3.0, "shift": 1.0}), 2 ** (1 + 3 * x))
    assert_exact(run("Log", abs(x), log_param={"base": 10.0, "shift": 1.0}), np.log10(1 + abs(x)))
    assert_exact(run("Threshold", x, threshold_param={"threshold": 0.5}), (x > 0.5) * 1.0)
    assert_exact(run("Embed", [[2, 0]], params=(x[:3], y[0]), embed_param={"input_dim": 3, "num_output": 3}), x[[[2, 0]]] + y[0])
    assert run("Parameter", params=(x,), parameter_param={"shape": {"dim": [4, 3]}}).tolist() == x.tolist()
    assert run("Silence", x, tops=0) == []


def test_of_two_equal_maxima_the_second_has_the_gradient() -> None:
    step = Step("Eltwise", [1.0, 5.0], [1.0, 2.0], [1.0, 7.0], eltwise_param={"operation": "MAX"})
    step.forward()
    assert [g.tolist() for g in step.backward([1.0, 2.0])] == [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]


def test_places_of_the_largest() -> None:
    x = np.asarray([[1.0, 4.0, 4.0, 2.0], [9.0, 0.0, 8.0, 7.0]])
    assert run("ArgMax", x, argmax_param={"top_k": 2}).tolist() == [[[2.0, 1.0]], [[0.0, 2.0]]]
    both = run("ArgMax", x, argmax_param={"out_max_val": True})
    assert both.tolist() == [[[2.0], [4.0]], [[0.0], [9.0]]]
    assert run("ArgMax", x, argmax_param={"axis": 0, "out_max_val": True}).tolist() == [[9.0, 4.0, 8.0, 7.0]]
    assert run("ArgMax", x, argmax_param={"axis": 0}).tolist() == [[1.0, 0.0, 1.0, 1.0]]


def test_accuracy() -> None:
    scores = np.asarray([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1], [0.3, 0.3, 0.4], [0.3, 0.3, 0.1]])
    assert run("Accuracy", scores, [1, 1, 0, 2]) == 0.25
    assert run("Accuracy", scores, [1, 1, 2, 2], accuracy_param={"top_k": 2}) == 0.75
    assert run("Accuracy", scores, [1, 0, 0, 1], accuracy_param={"top_k": 1}) == 0.5  # a tie counts against the label
    assert run("Accuracy", scores, [1, 1, 0, 2], accuracy_param={"ignore_label": 2}) == pytest.approx(1 / 3)
    assert run("Accuracy", scores, [2, 2, 2, 2], accuracy_param={"ignore_label": 2}) == 0.0
    whole, each = run("Accuracy", scores, [1, 1, 0, 2], tops=2)
    assert whole == 0.25 and each.tolist() == [0.0, 0.5, 0.0]


# --- what layers remember -----------------------------------------------------------------------------------------------------------------
def test_batch_statistics_are_summed_and_used(rng: np.random.Generator) -> None:
    x, mean, var, count = rng.normal(size=(5, 3, 2)), np.zeros(3), np.zeros(3), 0.0
    step = Step("BatchNorm", x, batch_norm_param={"moving_average_fraction": 0.5})
    for _ in range(3):
        step.bottom[0].data = x = rng.normal(size=x.shape)
        step.forward()
        mean, var, count = 0.5 * mean + x.mean(axis=(0, 2)), 0.5 * var + x.var(axis=(0, 2), ddof=1), 0.5 * count + 1
    assert [blob.data.tolist() for blob in step.layer.blobs] == [pytest.approx(mean), pytest.approx(var), [count]]
    assert step.layer.param_propagate_down == [False] * 3 and {blob.lr_mult for blob in step.layer.blobs} == {0.0}
    stored = run("BatchNorm", x, phase="TEST", params=(mean, var, [count]), batch_norm_param={"eps": 0.1})
    assert_close(stored, (x - (mean / count)[:, None]) / np.sqrt((var / count)[:, None] + 0.1), rtol=1e-13)
    assert_exact(run("BatchNorm", x, phase="TEST"), x / np.sqrt(1e-5))  # nothing was seen yet


def test_dropout_scales_and_is_off_in_tests(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 50))
    step = Step("Dropout", x, dropout_param={"dropout_ratio": 0.25})
    y = step.forward()
    dropped = y == 0
    assert abs(dropped.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / x.size)  # four standard deviations
    assert_close(y[~dropped], x[~dropped] / 0.75, rtol=1e-13)
    assert_close(step.backward(np.ones(x.shape))[0], np.where(dropped, 0.0, 1 / 0.75), rtol=1e-13)
    assert_exact(run("Dropout", x, phase="TEST"), x)


def test_an_lstm_is_that_of_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    x, cont = rng.normal(size=(4, 2, 3)), np.ones((4, 2))
    cont[0] = 0
    step = Step("LSTM", x, cont, recurrent_param={"num_output": 5, "weight_filler": {"type": "gaussian"}})
    theirs = torch.nn.LSTM(3, 5, dtype=torch.float64)
    order = np.r_[0:10, 15:20, 10:15]  # i, f, o, g here; i, f, g, o there
    w_x, b, w_h = (blob.data[order] for blob in step.layer.blobs)
    theirs.load_state_dict(
        {k: torch.from_numpy(v) for k, v in (("weight_ih_l0", w_x), ("bias_ih_l0", b), ("weight_hh_l0", w_h), ("bias_hh_l0", 0 * b))}
    )
    assert_close(step.forward(), theirs(torch.from_numpy(x))[0].detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("type", ["RNN", "LSTM"])
def test_a_sequence_goes_on_from_batch_to_batch(type: str, rng: np.random.Generator) -> None:
    x, fields = rng.normal(size=(6, 2, 3)), {"recurrent_param": {"num_output": 4, "weight_filler": {"type": "gaussian"}}}
    cont = np.ones((6, 2))
    cont[0], cont[3, 1] = 0, 0
    whole = Step(type, x, cont, **fields)
    want = whole.forward().copy()
    half = Step(type, x[:3], cont[:3], params=[blob.data for blob in whole.layer.blobs], **fields)
    first = half.forward().copy()
    half.bottom[0].data, half.bottom[1].data = x[3:], cont[3:]
    assert_close(np.concatenate([first, half.forward()]), want, rtol=1e-13)
    half.layer.reset()
    cont[3] = 0
    half.bottom[1].data = cont[3:]
    fresh = Step(type, x[3:], cont[3:], params=[blob.data for blob in whole.layer.blobs], **fields)
    assert_exact(half.forward(), fresh.forward())


def test_exposed_states_are_those_inside(rng: np.random.Generator) -> None:
    x, cont = rng.normal(size=(4, 2, 3)), np.ones((4, 2))
    how = {"num_output": 2, "expose_hidden": True, "weight_filler": {"type": "gaussian"}}
    zero = np.zeros((1, 2, 2))
    step = Step("LSTM", x, cont, zero, zero, tops=3, recurrent_param=how)
    want = step.forward().copy()
    first = Step("LSTM", x[:2], cont[:2], zero, zero, tops=3, params=[b.data for b in step.layer.blobs], recurrent_param=how)
    first.forward()
    states = [blob.data for blob in first.top[1:]]
    rest = Step("LSTM", x[2:], cont[2:], *states, tops=3, params=[b.data for b in step.layer.blobs], recurrent_param=how)
    assert_close(rest.forward(), want[2:], rtol=1e-13)
    assert_exact(states[0][0], first.top[0].data[-1])


# --- what is refused ----------------------------------------------------------------------------------------------------------------------
IMAGE, ROWS = np.zeros((2, 3, 4, 4)), np.zeros((4, 3))
REFUSED: list[tuple[str, tuple[Any, ...], int, dict[str, Any], str]] = [
    (
        "Convolution",
        (IMAGE,),
        1,
        {"convolution_param": {"num_output": 2}},
        "kernel_size is said once, or once for each of 2 spatial axes, not 0 times",
    ),
    (
        "Convolution",
        (IMAGE,),
        1,
        {"convolution_param": {"num_output": 2, "kernel_size": 5}},
        r"a window of size \(5, 5\) .* image of size \(4, 4\)",
    ),
    (
        "Convolution",
        (IMAGE,),
        1,
        {"convolution_param": {"num_output": 2, "kernel_size": 3, "group": 2}},
        "3 channels are positive multiples of group 2",
    ),
    (
        "Convolution",
        (IMAGE,),
        1,
        {"convolution_param": {"num_output": 2, "kernel_size": 3, "kernel_h": 3, "kernel_w": 3}},
        "in place of kernel_size",
    ),
    (
        "Convolution",
        (IMAGE,),
        1,
        {"convolution_param": {"num_output": 2, "kernel_size": 3, "stride": 0}},
        r"stride is 1 or more, not \(0, 0\)",
    ),
    ("Convolution", (IMAGE, IMAGE[:1]), 2, {"convolution_param": {"num_output": 2, "kernel_size": 3}}, r"number 1 is \(1, 3, 4, 4\)"),
    ("Pooling", (IMAGE,), 1, {}, "either kernel_size .* or global_pooling"),
    ("Pooling", (IMAGE,), 1, {"pooling_param": {"kernel_size": 2, "pad": 2}}, r"pad \(2, 2\) is less than the window"),
    ("Pooling", (IMAGE,), 2, {"pooling_param": {"kernel_size": 2, "pool": "AVE"}}, "only MAX has a second top"),
    ("Pooling", (ROWS,), 1, {"pooling_param": {"kernel_size": 2}}, r"\(num, channels, height, width\), not \(4, 3\)"),
    ("InnerProduct", (ROWS,), 1, {}, "num_output is 1 or more"),
    ("LRN", (IMAGE,), 1, {"lrn_param": {"local_size": 4}}, "local_size is odd, not 4"),
    ("Crop", (IMAGE, np.zeros((2, 3, 4, 4))), 1, {"crop_param": {"offset": 1}}, "axis 2 of size 4 has no 4 elements from 1 on"),
    ("Reshape", (ROWS,), 1, {"reshape_param": {"shape": {"dim": [5, -1]}}}, "the 12 elements .* cannot be divided by 5"),
    ("Reshape", (ROWS,), 1, {"reshape_param": {"shape": {"dim": [5, 2]}}}, r"the 12 elements .* do not fit shape \(5, 2\)"),
    ("Concat", (ROWS, np.zeros((3, 3))), 1, {}, r"bottom 1 of shape \(3, 3\) fits bottom 0 of shape \(4, 3\) nowhere but along axis 1"),
    ("Slice", (ROWS,), 2, {}, "axis 1 of size 3 cannot be cut into 2 equal parts"),
    ("Slice", (ROWS,), 2, {"slice_param": {"slice_point": 3}}, "2 tops need 1 slice_points"),
    ("Tile", (ROWS,), 1, {}, "tiles is given, and 1 or more"),
    ("Eltwise", (ROWS, np.zeros((4, 1))), 1, {}, r"number 1 is \(4, 1\), not \(4, 3\)"),
    ("Eltwise", (ROWS, ROWS), 1, {"eltwise_param": {"coeff": [1.0]}}, "one number for each of 2 bottoms; there are 1"),
    ("Scale", (ROWS,), 1, {"scale_param": {"num_axes": 2}}, r"num_axes 2 from axis 1 on does not fit a bottom of shape \(4, 3\)"),
    ("Bias", (ROWS, np.zeros(4)), 1, {}, r"an operand of shape \(4,\) does not fit a bottom of shape \(4, 3\) from axis 1 on"),
    ("Filter", (ROWS, np.zeros(3)), 1, {}, r"bottom 0 of shape \(4, 3\) has not as many rows as the selector, 3"),
    ("Filter", (ROWS, np.zeros(())), 1, {}, r"the selector has one number a row, not shape \(\)"),
    ("Softmax", (np.zeros((2, 0)),), 1, {}, r"axis 1 of a bottom of shape \(2, 0\) has no numbers"),
    ("Scale", (np.zeros((2, 0)),), 1, {}, r"a parameter of shape \(0,\) has nothing to learn"),
    (
        "Convolution",
        (ROWS,),
        1,
        {"convolution_param": {"num_output": 2, "kernel_size": 1}},
        r"windows on the axes behind axis 1, and a bottom of",
    ),
    (
        "Deconvolution",
        (IMAGE[:, :, :0],),
        1,
        {"convolution_param": {"num_output": 2, "kernel_size": 9}},
        r"an image of size \(0, 4\) would become",
    ),
    ("ArgMax", (ROWS,), 1, {"argmax_param": {"top_k": 4}}, "top_k is from 1 to 3"),
    ("Exp", (ROWS,), 1, {"exp_param": {"base": 0.0}}, "base is a positive number, or -1 for e, not 0"),
    ("Clip", (ROWS,), 1, {"clip_param": {"min": 1.0}}, "min and max are given, the first less than the second"),
    ("Dropout", (ROWS,), 1, {"dropout_param": {"dropout_ratio": 1.0}}, "dropout_ratio is at least 0 and less than 1"),
    ("SoftmaxWithLoss", (ROWS, np.zeros(3)), 1, {}, r"as many rows, not shapes \(4, 3\) and \(3,\)"),
    ("SoftmaxWithLoss", (IMAGE, np.zeros((2, 4))), 1, {}, "there are 8 labels, .* with classes along axis 1, 32 are wanted"),
    ("InfogainLoss", (ROWS, np.zeros(4)), 1, {}, "give the matrix as a third bottom, or a file with it as source"),
    ("EuclideanLoss", (ROWS, np.zeros((4, 2))), 1, {}, "as many numbers"),
    ("ContrastiveLoss", (ROWS, ROWS, np.zeros((4, 2))), 1, {}, "N marks of alike pairs"),
    (
        "LSTM",
        (np.zeros((3, 2, 4)), np.zeros((2, 3))),
        1,
        {"recurrent_param": {"num_output": 2}},
        r"cont has the shape \(time, streams\) of x, \(3, 2\)",
    ),
    ("Flatten", (ROWS,), 1, {"flatten_param": {"axis": 2}}, r"shape \(4, 3\) has no axis 2"),
]


@pytest.mark.parametrize(("type", "bottoms", "tops", "fields", "text"), REFUSED)
def test_what_does_not_fit_is_refused(type: str, bottoms: Any, tops: int, fields: Any, text: str) -> None:
    with pytest.raises((caffe.DefinitionError, ValueError), match=text):
        Step(type, *bottoms, tops=tops, name="it", **fields)


@pytest.mark.parametrize(
    ("type", "bottoms", "fields", "text"),
    [
        ("SoftmaxWithLoss", (ROWS, [0, 1, 3, 0]), {}, "label 3 in 'bottom 1' is not one of 0 to 2"),
        ("SoftmaxWithLoss", (ROWS, [0, 1, 255, -1]), {"loss_param": {"ignore_label": 255}}, "label -1 in 'bottom 1'"),
        ("Accuracy", (ROWS, [0, 255, 3, 1]), {"accuracy_param": {"ignore_label": 255}}, "label 3 in 'bottom 1' is not one of 0 to 2"),
        ("Embed", ([0, 7],), {"embed_param": {"num_output": 2, "input_dim": 5}}, "row 7 in 'bottom 0' is not one of 0 to 4"),
        ("BatchReindex", (ROWS, [0, -1]), {}, "row -1 in 'bottom 1' is not one of 0 to 3"),
    ],
)
def test_numbers_beyond_the_end_are_refused(type: str, bottoms: Any, fields: Any, text: str) -> None:
    step = Step(type, *bottoms, **fields)
    with pytest.raises(caffe.DefinitionError, match=text):
        step.forward()


@pytest.mark.parametrize(
    "type", ["SoftmaxWithLoss", "HingeLoss", "Embed", "BatchReindex", "Filter", "LSTM", "Threshold", "ArgMax", "Accuracy"]
)
def test_what_has_no_gradient_says_so(type: str) -> None:
    s = samples(type)[0]
    step = Step(type, *s.draw(), tops=s.tops, **s.fields)
    step.forward()
    with pytest.raises(caffe.DefinitionError, match="no gradient"):
        step.backward(*(np.ones(blob.shape) for blob in step.top))


def test_statistics_are_not_to_be_learned() -> None:
    layer = caffe.LAYERS["BatchNorm"](caffe.Message("LayerParameter", name="it", param=[{"lr_mult": 1.0}]))
    with pytest.raises(caffe.DefinitionError, match=r"layer 'it' \(BatchNorm\): its statistics are not learned: lr_mult is 0, not 1"):
        prepared(layer, [ROWS])


def test_a_layer_of_other_sizes_than_its_parameters_is_refused() -> None:
    step = Step("InnerProduct", ROWS, inner_product_param={"num_output": 2})
    step.bottom[0].reshape(4, 5)
    with pytest.raises(caffe.DefinitionError, match="it was made for 3 numbers from axis 1 on"):
        step.forward()


def test_an_infogain_matrix_is_read_from_a_file(tmp_path: Any, rng: np.random.Generator) -> None:
    x, labels, matrix = rng.normal(size=(4, 3)), [0, 2, 1, 2], rng.uniform(size=(3, 3)).astype("float32")
    path = tmp_path / "matrix.binaryproto"
    path.write_bytes(
        caffe.encode(caffe.Message("BlobProto", data=[float(v) for v in matrix.ravel()], height=3, width=3, num=1, channels=1))
    )
    found = run("InfogainLoss", x, labels, infogain_loss_param={"source": str(path)})
    assert_close(found, run("InfogainLoss", x, labels, matrix), rtol=1e-13)
