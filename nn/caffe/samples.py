"""Small configurations of every type of layer, as fields of its definition and the shapes of its bottoms; the conformance suite runs them.

A new type of layer brings a line here, the smallest configuration first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agnostic_ad.random import Generator
from agnostic_ad.samples import Domain, Operand, integers

__all__ = ["SAMPLES", "Sample", "samples"]


@dataclass(frozen=True)
class Sample:
    """One configuration of a type of layer.

    Attributes
    ----------
    type : str
        Caffe's name.
    operands : tuple of Operand
        The bottoms. Those of integers have no gradient.
    fields : dict
        What defines the layer, beside its type.
    tops : int
        How many tops there are.
    differentiable : bool
        Whether it has a backward.
    """

    type: str
    operands: tuple[Operand, ...]
    fields: dict[str, Any]
    tops: int = 1
    differentiable: bool = True

    @property
    def name(self) -> str:
        """What the suite calls the type: "caffe.ReLU"."""
        return f"caffe.{self.type}"

    def draw(self, seed: int = 0) -> list[Any]:
        """Give bottoms as NumPy's arrays, in double precision or of integers."""
        random = Generator(seed)
        return [_drawn(random, o) for o in self.operands]


def _drawn(random: Generator, o: Operand) -> Any:
    low, high, signed, _ = o.domain
    if o.kind == "i":
        return random.integers(int(low), int(high) + 1, o.shape)
    x = random.uniform(o.shape, low, high)
    return x * (random.integers(0, 2, o.shape) * 2 - 1) if signed else x


def _sample(type: str, *operands: Any, tops: int = 1, differentiable: bool = True, **fields: Any) -> Sample:
    """Write a sample: a tuple stands for an operand of that shape."""
    return Sample(type, tuple(o if isinstance(o, Operand) else Operand(o) for o in operands), fields, tops, differentiable)


def _away(*shape: int) -> Operand:
    """Numbers of both signs, away from 0."""
    return Operand(shape, Domain(0.2, 3.0, True))


def _positive(*shape: int) -> Operand:
    return Operand(shape, Domain(0.2, 3.0))


def _labels(shape: tuple[int, ...], most: int) -> Operand:
    return integers(shape, 0, most)


_RANDOM = {"type": "uniform", "min": -1.0, "max": 1.0}
"""A filler."""
_LEARNED = {"weight_filler": _RANDOM, "bias_filler": _RANDOM}

SAMPLES: tuple[Sample, ...] = (
    # vision
    _sample("Convolution", (2, 2, 4, 3), convolution_param={"num_output": 3, "kernel_size": 2, **_LEARNED}),
    _sample(
        "Convolution",
        (1, 4, 5, 6),
        convolution_param={"num_output": 2, "kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 1, "pad": 1, "group": 2, **_LEARNED},
    ),
    _sample(
        "Convolution",
        (2, 1, 6, 5),
        (2, 1, 6, 5),
        tops=2,
        convolution_param={"num_output": 2, "kernel_size": 2, "dilation": [2, 1], "bias_term": False, **_LEARNED},
    ),
    _sample("Convolution", (2, 2, 7), convolution_param={"num_output": 2, "kernel_size": 3, "stride": 2, **_LEARNED}),
    _sample("Convolution", (1, 2, 3, 3, 4), convolution_param={"num_output": 2, "kernel_size": [2, 1, 2], "pad": [0, 1, 1], **_LEARNED}),
    _sample("Convolution", (2, 2, 3, 5), convolution_param={"num_output": 2, "kernel_size": 2, "axis": -2, **_LEARNED}),
    _sample("Deconvolution", (2, 3, 2, 3), convolution_param={"num_output": 2, "kernel_size": 2, **_LEARNED}),
    _sample(
        "Deconvolution",
        (1, 4, 3, 2),
        convolution_param={"num_output": 2, "kernel_size": 3, "stride": 2, "pad": 1, "group": 2, "dilation": 2, **_LEARNED},
    ),
    _sample("Pooling", (1, 2, 4, 4), pooling_param={"kernel_size": 2, "stride": 2}),
    _sample("Pooling", (2, 1, 5, 4), tops=2, pooling_param={"kernel_size": 3, "stride": 2, "pad": 1}),
    _sample("Pooling", (1, 2, 5, 6), pooling_param={"pool": "AVE", "kernel_h": 3, "kernel_w": 2, "stride": 2, "pad_h": 1, "pad_w": 1}),
    _sample("Pooling", (1, 2, 5, 6), pooling_param={"pool": "AVE", "kernel_size": 3, "stride": 2, "round_mode": "FLOOR"}),
    _sample("Pooling", (2, 2, 3, 4), pooling_param={"pool": "AVE", "global_pooling": True}),
    _sample("Pooling", _positive(1, 2, 5, 5), pooling_param={"pool": "STOCHASTIC", "kernel_size": 2, "stride": 2}),
    _sample("Pooling", _positive(1, 2, 5, 5), phase="TEST", pooling_param={"pool": "STOCHASTIC", "kernel_size": 3, "stride": 2}),
    _sample("SPP", (2, 2, 6, 8), spp_param={"pyramid_height": 3}),
    _sample("SPP", (1, 2, 4, 3), spp_param={"pyramid_height": 1, "pool": "AVE"}),
    _sample("Crop", (2, 3, 5, 4), _labels((2, 2, 3, 2), 1), crop_param={"axis": 1, "offset": [1, 2, 0]}),
    _sample("Crop", (2, 3, 5, 4), _labels((2, 3, 3, 2), 1), crop_param={"offset": 1}),
    _sample("Im2col", (2, 2, 5, 4), convolution_param={"kernel_size": 2, "stride": 2, "pad": 1}),
    # recurrent
    _sample("RNN", (3, 2, 4), _labels((3, 2), 1), recurrent_param={"num_output": 3, **_LEARNED}),
    _sample(
        "RNN",
        (2, 2, 3),
        _labels((2, 2), 1),
        (2, 2),
        (1, 2, 2),
        tops=2,
        recurrent_param={"num_output": 2, "expose_hidden": True, **_LEARNED},
    ),
    _sample("LSTM", (3, 2, 2, 2), _labels((3, 2), 1), recurrent_param={"num_output": 3, **_LEARNED}),
    _sample("LSTM", (2, 2, 3), _labels((2, 2), 1), (2, 2), recurrent_param={"num_output": 2, **_LEARNED}),
    _sample(
        "LSTM",
        (2, 2, 3),
        _labels((2, 2), 1),
        (1, 2, 2),
        (1, 2, 2),
        tops=3,
        recurrent_param={"num_output": 2, "expose_hidden": True, **_LEARNED},
    ),
    # common
    _sample("InnerProduct", (2, 3, 2), inner_product_param={"num_output": 4, **_LEARNED}),
    _sample(
        "InnerProduct", (2, 3, 2), inner_product_param={"num_output": 4, "axis": -1, "transpose": True, "bias_term": False, **_LEARNED}
    ),
    _sample("Dropout", (3, 4), dropout_param={"dropout_ratio": 0.4}),
    _sample("Dropout", (3, 4), phase="TEST"),
    _sample("Embed", _labels((2, 3), 4), embed_param={"num_output": 3, "input_dim": 5, **_LEARNED}),
    _sample("Embed", _labels((5,), 1), embed_param={"num_output": 3, "input_dim": 2, "bias_term": False, **_LEARNED}),
    _sample("LRN", (2, 5, 2, 2), lrn_param={"local_size": 3, "alpha": 0.8, "k": 2.0}),
    _sample("LRN", (1, 2, 4, 5), lrn_param={"local_size": 3, "alpha": 1.5, "beta": 0.5, "norm_region": "WITHIN_CHANNEL"}),
    _sample("MVN", (2, 3, 2, 3)),
    _sample("MVN", (2, 3, 2, 3), mvn_param={"across_channels": True, "eps": 0.1}),
    _sample("MVN", (3, 1, 4), mvn_param={"normalize_variance": False}),
    _sample("BatchNorm", (4, 3, 2, 2)),
    _sample("BatchNorm", (4, 3), phase="TEST", batch_norm_param={"eps": 0.1}),
    _sample("BatchNorm", (4, 2, 3), batch_norm_param={"use_global_stats": False, "moving_average_fraction": 0.5}, phase="TEST"),
    # neurons
    _sample("ReLU", _away(2, 3)),
    _sample("ReLU", _away(2, 3), relu_param={"negative_slope": 0.1}),
    _sample("PReLU", _away(2, 3, 2)),
    _sample("PReLU", _away(2, 3), prelu_param={"channel_shared": True, "filler": _RANDOM}),
    _sample("ELU", _away(2, 3), elu_param={"alpha": 0.5}),
    _sample("Sigmoid", (2, 3)),
    _sample("TanH", (2, 3)),
    _sample("AbsVal", _away(2, 3)),
    _sample("Power", _positive(2, 3), power_param={"power": 0.37, "scale": 0.83, "shift": 2.4}),
    _sample("Power", (2, 3), power_param={"power": 2.0, "shift": -0.5}),
    _sample("Power", (2, 3), power_param={"scale": 3.0, "shift": 1.0}),
    _sample("Power", (2, 3), power_param={"power": 0.0}),
    _sample("Exp", (2, 3)),
    _sample("Exp", (2, 3), exp_param={"base": 2.0, "scale": 0.5, "shift": 1.0}),
    _sample("Log", _positive(2, 3)),
    _sample("Log", _positive(2, 3), log_param={"base": 10.0, "scale": 2.0, "shift": 1.0}),
    _sample("BNLL", (2, 3)),
    _sample("Swish", (2, 3), swish_param={"beta": 1.5}),
    _sample("Clip", (2, 3), clip_param={"min": -1.0, "max": 2.0}),
    _sample("Threshold", (2, 3), threshold_param={"threshold": 0.5}, differentiable=False),
    _sample("Bias", (2, 3, 4), bias_param={"filler": _RANDOM}),
    _sample("Bias", (2, 3, 4), (2, 3), bias_param={"axis": 0}),
    _sample("Bias", (2, 3, 4), bias_param={"num_axes": 0, "filler": _RANDOM}),
    _sample("Scale", (2, 3, 4)),
    _sample("Scale", (2, 3, 4), scale_param={"axis": 1, "num_axes": -1, "filler": _RANDOM, "bias_term": True, "bias_filler": _RANDOM}),
    _sample("Scale", (2, 3, 4), (3, 4), scale_param={"bias_term": True, "bias_filler": _RANDOM}),
    # utility
    _sample("Flatten", (2, 3, 4)),
    _sample("Flatten", (2, 3, 4, 2), flatten_param={"axis": 1, "end_axis": -2}),
    _sample("Reshape", (2, 6), reshape_param={"shape": {"dim": [0, -1, 2]}}),
    _sample("Reshape", (2, 6, 2), reshape_param={"shape": {"dim": [3, 2]}, "axis": 1, "num_axes": 1}),
    _sample("BatchReindex", (4, 3), _labels((5,), 3)),
    _sample("Split", (2, 3), tops=3),
    _sample("Concat", (2, 3), (2, 1)),
    _sample("Concat", (2, 3), (1, 3), (2, 3), concat_param={"axis": -2}),
    _sample("Slice", (2, 6), tops=2),
    _sample("Slice", (6, 2), tops=3, slice_param={"axis": 0, "slice_point": [1, 3]}),
    _sample("Eltwise", (2, 3), (2, 3)),
    _sample("Eltwise", (2, 3), (2, 3), (2, 3), eltwise_param={"coeff": [1.0, -0.5, 2.0]}),
    _sample("Eltwise", (2, 3), (2, 3), (2, 3), eltwise_param={"operation": "PROD"}),
    _sample("Eltwise", (2, 3), (2, 3), (2, 3), eltwise_param={"operation": "MAX"}),
    _sample("Filter", (4, 3), (4, 2), _labels((4,), 1), tops=2),
    _sample("Parameter", parameter_param={"shape": {"dim": [2, 3]}}),
    _sample("Reduction", (2, 3)),
    _sample("Reduction", (2, 3, 2), reduction_param={"operation": "MEAN", "axis": 1, "coeff": 2.0}),
    _sample("Reduction", _away(2, 3), reduction_param={"operation": "ASUM", "axis": -1}),
    _sample("Reduction", (2, 3), reduction_param={"operation": "SUMSQ", "coeff": 0.5}),
    _sample("Silence", (2, 3), (2,), tops=0),
    _sample("ArgMax", (2, 3, 2), argmax_param={"top_k": 2, "out_max_val": True}, differentiable=False),
    _sample("ArgMax", (2, 5), argmax_param={"axis": 1, "top_k": 3}, differentiable=False),
    _sample("Softmax", (2, 3)),
    _sample("Softmax", (2, 3, 2), softmax_param={"axis": -1}),
    _sample("Tile", (2, 3), tile_param={"tiles": 2}),
    _sample("Tile", (2, 3, 2), tile_param={"tiles": 3, "axis": -1}),
    # losses
    _sample("SoftmaxWithLoss", (4, 3), _labels((4,), 2)),
    _sample("SoftmaxWithLoss", (2, 3, 2, 2), _labels((2, 1, 2, 2), 2), tops=2, loss_param={"ignore_label": 1}),
    _sample("SoftmaxWithLoss", (2, 3, 2, 2), _labels((2, 2, 2), 2), loss_param={"ignore_label": 1, "normalization": "BATCH_SIZE"}),
    _sample("SoftmaxWithLoss", (2, 2, 4), _labels((2, 2), 3), softmax_param={"axis": -1}, loss_param={"normalization": "NONE"}),
    _sample("MultinomialLogisticLoss", _positive(4, 3), _labels((4,), 2)),
    _sample("InfogainLoss", (4, 3), _labels((4,), 2), _labels((3, 3), 3)),
    _sample(
        "InfogainLoss", (2, 3, 2), _labels((2, 2), 2), _labels((3, 3), 3), tops=2, loss_param={"ignore_label": 2, "normalization": "FULL"}
    ),
    _sample("EuclideanLoss", (4, 3), (4, 3)),
    _sample("HingeLoss", (4, 3), _labels((4,), 2)),
    _sample("HingeLoss", (4, 3), _labels((4,), 2), hinge_loss_param={"norm": "L2"}),
    _sample("SigmoidCrossEntropyLoss", (4, 3), _labels((4, 3), 1)),
    _sample("SigmoidCrossEntropyLoss", (4, 3), _labels((4, 3), 2), loss_param={"ignore_label": 2, "normalization": "VALID"}),
    _sample("ContrastiveLoss", (4, 3), (4, 3), _labels((4,), 1), contrastive_loss_param={"margin": 4.0}),
    _sample(
        "ContrastiveLoss",
        (4, 3, 1, 1),
        (4, 3, 1, 1),
        _labels((4, 1, 1, 1), 1),
        contrastive_loss_param={"margin": 9.0, "legacy_version": True},
    ),
    _sample("Accuracy", (4, 5), _labels((4,), 4), accuracy_param={"top_k": 2}, differentiable=False),
    _sample("Accuracy", (2, 3, 2), _labels((2, 2), 2), tops=2, accuracy_param={"ignore_label": 0}, differentiable=False),
)


def samples(type: str) -> list[Sample]:
    """Give the configurations of a type of layer, the smallest first."""
    return [s for s in SAMPLES if s.type == type]
