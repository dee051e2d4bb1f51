"""Small configurations of every layer, loss and optimizer, as code and the shapes of what they take; the conformance suite runs them.

A new layer or loss brings a line here, the smallest configuration first. An optimizer that ``Name(params)`` makes needs none.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from agnostic_ad import nn
from agnostic_ad.samples import Domain, Operand, integers, strided

__all__ = ["LAYERS", "OPTIMIZERS", "Sample", "sample", "samples", "subjects"]


@dataclass(frozen=True)
class Sample:
    """One configuration of a class of `agnostic_ad.nn`.

    Attributes
    ----------
    code : str
        What makes it, with ``nn`` in scope, and ``params`` for an optimizer.
    operands : tuple of Operand
        What a layer is called with; or the parameters of an optimizer.
    """

    code: str
    operands: tuple[Operand, ...]

    @property
    def name(self) -> str:
        """The name of the class, as the suite says it: "nn.Linear", "optim.Adam"."""
        return self.code.partition("(")[0].replace("nn.optim.", "optim.")


def sample(code: str, *operands: Any) -> Sample:
    """Write a `Sample`; a tuple stands for an operand of that shape."""
    return Sample(code, tuple(o if isinstance(o, Operand) else Operand(o) for o in operands))


LAYERS = (
    sample("nn.ReLU()", (2, 3)),
    sample("nn.ReLU()", strided((3, 4))),
    *(
        sample(f"nn.{each}", (2, 3))
        for each in (
            "CELU(1.5)",
            "ELU()",
            "GELU()",
            "GELU('tanh')",
            "Hardshrink()",
            "Hardsigmoid()",
            "Hardswish()",
            "Hardtanh(-0.5, 2.0)",
            "LeakyReLU(0.2)",
            "LogSigmoid()",
            "LogSoftmax(1)",
            "Mish()",
            "PReLU(3)",
            "RReLU()",
            "ReLU6()",
            "SELU()",
            "SiLU()",
            "Sigmoid()",
            "Softmax(0)",
            "Softmin(-1)",
            "Softplus(2.0, 3.0)",
            "Softshrink(0.3)",
            "Softsign()",
            "Tanh()",
            "Tanhshrink()",
            "Threshold(0.2, 1.5)",
        )
    ),
    sample("nn.GLU(0)", strided((4, 3))),
    sample("nn.PReLU()", (2, 3, 2)),
    sample("nn.Softmax2d()", (3, 2, 2)),
    sample("nn.Dropout()", (3, 4)),
    sample("nn.Dropout(0.25)", strided((3, 4))),
    sample("nn.Dropout1d()", (2, 3, 4)),
    sample("nn.Dropout2d(0.3)", (2, 3, 2, 2)),
    sample("nn.Dropout3d()", (4, 2, 2, 2)),
    sample("nn.AlphaDropout(0.3)", (3, 4)),
    sample("nn.FeatureAlphaDropout(0.3)", (2, 3, 2)),
    *(
        sample(f"nn.{kind}Pad{n}d({1 if kind != 'Constant' else '1, 0.5'})", (2, 3, *(3, 2, 4)[:n]))
        for kind in ("Circular", "Constant", "Reflection", "Replication", "Zero")
        for n in (1, 2, 3)
    ),
    sample("nn.ReflectionPad2d((2, -1, 0, 3))", strided((2, 4, 5))),
    sample("nn.PixelShuffle(2)", (4, 2, 3)),
    sample("nn.PixelUnshuffle(2)", strided((2, 1, 4, 2))),
    sample("nn.ChannelShuffle(2)", (2, 6, 3)),
    sample("nn.Upsample(scale_factor=2)", (1, 2, 3)),
    sample("nn.Upsample((5, 3), mode='bicubic')", strided((1, 2, 3, 4))),
    sample("nn.Upsample(scale_factor=(1.5, 2.0, 0.5), mode='trilinear', align_corners=True)", (1, 1, 2, 2, 4)),
    sample("nn.UpsamplingNearest2d(size=(5, 4))", (1, 2, 3, 2)),
    sample("nn.UpsamplingBilinear2d(scale_factor=2)", (1, 2, 3, 2)),
    sample("nn.CosineSimilarity()", (4, 3), (4, 3)),
    sample("nn.PairwiseDistance()", (4, 3), (4, 3)),
    sample("nn.PairwiseDistance(1, keepdim=True)", (3,), (4, 3)),
    sample("nn.MultiheadAttention(4, 2)", (3, 2, 4), (5, 2, 4), (5, 2, 4)),
    sample("nn.MultiheadAttention(4, 1, 0.2, False, True, True, 3, 2, batch_first=True)", strided((2, 3, 4)), (2, 5, 3), (2, 5, 2)),
    sample("nn.TransformerEncoderLayer(4, 2, 6)", (3, 2, 4)),
    sample("nn.TransformerEncoderLayer(4, 1, 6, 0.0, 'gelu', batch_first=True, norm_first=True, bias=False)", strided((3, 4))),
    sample("nn.TransformerDecoderLayer(4, 2, 6)", (3, 2, 4), (5, 2, 4)),
    sample("nn.TransformerDecoderLayer(4, 2, 6, norm_first=True, batch_first=True)", (2, 3, 4), strided((2, 5, 4))),
    sample("nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2)", (3, 2, 4)),
    sample("nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 6), 1, nn.LayerNorm(4))", (3, 2, 4), (5, 2, 4)),
    sample("nn.Transformer(4, 2, 1, 1, 6)", (5, 2, 4), (3, 2, 4)),
    sample("nn.Flatten()", (2, 3, 2)),
    sample("nn.Flatten(0, -2)", strided((2, 3, 2))),
    sample("nn.Identity()", (2, 3)),
    sample("nn.Unflatten(1, (2, -1))", strided((2, 4))),
    sample("nn.Bilinear(2, 3, 4)", (5, 2), (5, 3)),
    sample("nn.Bilinear(2, 3, 1, bias=False)", (2,), strided((3,))),
    sample("nn.LazyLinear(4)", (5, 3)),
    sample("nn.LazyConv1d(4, 2)", (2, 3, 5)),
    sample("nn.LazyConv2d(4, 2, bias=False)", (1, 2, 4, 3)),
    sample("nn.LazyConv3d(2, 2)", (1, 3, 3, 3)),
    sample("nn.LazyConvTranspose1d(4, 2)", (2, 3, 5)),
    sample("nn.LazyConvTranspose2d(4, 2, stride=2)", (1, 2, 4, 3)),
    sample("nn.LazyConvTranspose3d(2, 2)", (1, 2, 2, 2)),
    sample("nn.LazyBatchNorm1d()", (4, 2)),
    sample("nn.LazyBatchNorm2d(affine=False)", (3, 2, 2, 2)),
    sample("nn.LazyBatchNorm3d()", (3, 2, 1, 2, 2)),
    sample("nn.LazyInstanceNorm1d(affine=True)", (2, 5)),
    sample("nn.LazyInstanceNorm2d(track_running_stats=True)", (2, 2, 3, 2)),
    sample("nn.LazyInstanceNorm3d()", (1, 2, 2, 2, 2)),
    sample("nn.Linear(3, 4)", (5, 3)),
    sample("nn.Linear(3, 4, bias=False)", (2, 5, 3)),
    sample("nn.Linear(3, 4)", strided((3,))),
    sample("nn.Conv1d(3, 4, 2)", (2, 3, 5)),
    sample("nn.Conv1d(3, 2, 4, stride=3, padding=2, bias=False)", (3, 9)),
    sample("nn.Conv2d(2, 3, 2)", (1, 2, 4, 3)),
    sample("nn.Conv2d(4, 6, 3, stride=(1, 2), padding=(2, 1), groups=2)", strided((2, 4, 5, 6))),
    sample("nn.Conv2d(2, 2, 3, padding='same', dilation=(2, 1), bias=False)", (2, 6, 5)),
    sample("nn.Conv3d(1, 2, 2)", (1, 1, 3, 3, 3)),
    sample("nn.Conv3d(2, 2, (1, 2, 3), stride=(1, 2, 1), padding=1, groups=2)", (2, 3, 4, 3)),
    sample("nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode='circular')", (1, 2, 4, 3)),
    sample("nn.ConvTranspose1d(3, 4, 2)", (2, 3, 5)),
    sample("nn.ConvTranspose1d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2)", strided((2, 4))),
    sample("nn.ConvTranspose2d(2, 3, 2)", (1, 2, 4, 3)),
    sample("nn.ConvTranspose2d(2, 2, 3, stride=(2, 3), padding=(1, 0), dilation=(1, 2), bias=False)", (1, 2, 3, 2)),
    sample("nn.ConvTranspose3d(1, 2, 2)", (1, 1, 3, 2, 3)),
    sample("nn.Fold((3, 4), 2)", (2, 8, 6)),
    sample("nn.Unfold((2, 3), padding=1, stride=(1, 2))", strided((1, 2, 3, 4))),
    sample("nn.MaxPool1d(2)", (2, 3, 4)),
    sample("nn.MaxPool1d(3, stride=1, padding=1)", (3, 5)),
    sample("nn.MaxPool2d(2)", (1, 2, 4, 4)),
    sample("nn.MaxPool2d((2, 3), stride=(1, 2), padding=1, ceil_mode=True)", strided((2, 2, 5, 6))),
    sample("nn.MaxPool2d(2, dilation=(2, 1))", (2, 5, 4)),
    sample("nn.MaxPool3d(2)", (1, 1, 4, 4, 4)),
    sample("nn.MaxPool3d(2, stride=1, padding=1)", (2, 3, 2, 3)),
    sample("nn.MaxUnpool1d(2)", (1, 2, 2), integers((1, 2, 2), 0, 3)),
    sample("nn.MaxUnpool2d(2, stride=1)", (1, 2, 2), integers((1, 2, 2), 0, 8)),
    sample("nn.MaxUnpool3d((1, 2, 2))", (1, 1, 2, 1, 2), integers((1, 1, 2, 1, 2), 0, 15)),
    sample("nn.AvgPool1d(2)", (2, 3, 4)),
    sample("nn.AvgPool1d(3, stride=2, padding=1, ceil_mode=True)", strided((3, 6))),
    sample("nn.AvgPool2d(2)", (1, 2, 4, 4)),
    sample("nn.AvgPool2d((3, 2), stride=2, padding=1, ceil_mode=True, count_include_pad=False)", strided((2, 2, 5, 4))),
    sample("nn.AvgPool2d(2, divisor_override=3)", (2, 4, 4)),
    sample("nn.AvgPool3d(2, padding=1)", (1, 1, 3, 2, 4)),
    sample("nn.LPPool1d(2, 2)", (2, 3, 4)),
    sample("nn.LPPool2d(2, (2, 3), stride=2, ceil_mode=True)", strided((1, 2, 5, 4))),
    sample("nn.LPPool3d(4, 2)", (1, 1, 2, 4, 2)),
    sample("nn.AdaptiveAvgPool1d(2)", (2, 3, 5)),
    sample("nn.AdaptiveAvgPool2d((None, 2))", strided((1, 2, 3, 4))),
    sample("nn.AdaptiveAvgPool3d((1, 3, 2))", (1, 1, 2, 5, 4)),
    sample("nn.AdaptiveMaxPool1d(2)", (2, 3, 5)),
    sample("nn.AdaptiveMaxPool2d((None, 2))", strided((1, 2, 3, 4))),
    sample("nn.AdaptiveMaxPool3d((1, 3, 2))", (1, 1, 2, 5, 4)),
    sample("nn.FractionalMaxPool2d(2, output_size=(2, 3))", (1, 2, 5, 4)),
    sample("nn.FractionalMaxPool3d((1, 2, 2), output_ratio=0.5)", strided((2, 4, 4, 5))),
    sample("nn.BatchNorm1d(3)", (4, 3)),
    sample("nn.BatchNorm1d(3, momentum=None)", strided((2, 3, 4))),
    sample("nn.BatchNorm2d(2, eps=0.1)", (3, 2, 2, 2)),
    sample("nn.BatchNorm2d(2, affine=False, track_running_stats=False)", (2, 2, 4, 4)),
    sample("nn.BatchNorm3d(2, bias=False)", (2, 2, 2, 1, 3)),
    sample("nn.InstanceNorm1d(3)", (2, 3, 5)),
    sample("nn.InstanceNorm2d(2, affine=True, track_running_stats=True)", strided((3, 2, 4, 4))),
    sample("nn.InstanceNorm3d(2, affine=True)", (2, 2, 3, 2)),
    sample("nn.GroupNorm(2, 4)", (2, 4, 3)),
    sample("nn.GroupNorm(2, 4, affine=False)", strided((3, 4, 3, 3))),
    sample("nn.LayerNorm(4)", (3, 4)),
    sample("nn.LayerNorm((3, 6), eps=0.1, bias=False)", strided((2, 2, 3, 6))),
    sample("nn.RMSNorm(4)", (3, 4)),
    sample("nn.RMSNorm((2, 8), eps=0.1, elementwise_affine=False)", (3, 2, 8)),
    sample("nn.LocalResponseNorm(2, alpha=0.5)", (2, 4, 3)),
    sample("nn.CrossMapLRN2d(4, alpha=0.5, k=2)", (1, 5, 2, 3)),
    sample("nn.RNNCell(3, 2)", (4, 3)),
    sample("nn.RNNCell(3, 2, bias=False, nonlinearity='relu')", (3,), (2,)),
    sample("nn.LSTMCell(3, 2)", (4, 3)),
    sample("nn.LSTMCell(3, 2, bias=False)", strided((3,))),
    sample("nn.GRUCell(3, 2)", (4, 3), (4, 2)),
    sample("nn.RNNBase('GRU', 3, 2)", (4, 1, 3)),
    sample("nn.RNN(3, 2)", (4, 2, 3)),
    sample("nn.RNN(3, 2, 2, 'relu', bidirectional=True)", (4, 3)),
    sample("nn.LSTM(3, 2)", (4, 2, 3)),
    sample("nn.LSTM(3, 4, 2, batch_first=True, dropout=0.3, bidirectional=True, proj_size=2)", strided((2, 3, 3))),
    sample("nn.GRU(3, 2)", (4, 2, 3), (1, 2, 2)),
    sample("nn.GRU(3, 2, 2, bias=False, bidirectional=True)", strided((3, 1, 3))),
    sample("nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))", (5, 3)),
    sample("nn.CrossEntropyLoss()", (6, 4), integers((6,), 0, 3)),
    sample("nn.CrossEntropyLoss(nn.Buffer([1.0, 0.5, 2.0]), ignore_index=1, reduction='sum')", (2, 3, 4), integers((2, 4), 0, 2)),
    sample("nn.CrossEntropyLoss(label_smoothing=0.1, reduction='none')", (5, 4), integers((5,), 0, 3)),
    sample("nn.CrossEntropyLoss()", (5, 4), Operand((5, 4), Domain(0.0, 1.0))),
    sample("nn.NLLLoss()", (6, 4), integers((6,), 0, 3)),
    sample("nn.NLLLoss(nn.Buffer([1.0, 0.5, 2.0]), ignore_index=1, reduction='sum')", (2, 3, 4), integers((2, 4), 0, 2)),
    sample("nn.LinearCrossEntropyLoss(3, 4)", (5, 3), integers((5,), 0, 3)),
    sample("nn.LinearCrossEntropyLoss(3, 4, out_features=(2,), bias=True, label_smoothing=0.1)", strided((5, 3)), integers((5, 2), 0, 3)),
    sample("nn.L1Loss()", (2, 3), Operand((2, 3), Domain(4.0, 5.0))),
    sample("nn.MSELoss(reduction='sum')", (2, 3), strided((2, 3))),
    sample("nn.SmoothL1Loss(beta=2.0)", (6, 3), Operand((6, 3), Domain(4.0, 5.0))),
    sample("nn.HuberLoss(delta=2.0)", (6, 3), Operand((6, 3), Domain(4.0, 5.0))),
    sample("nn.PoissonNLLLoss(full=True)", (2, 3), integers((2, 3), 0, 5)),
    sample("nn.PoissonNLLLoss(log_input=False)", Operand((2, 3), Domain(0.5, 3.0)), integers((2, 3), 0, 5)),
    sample("nn.GaussianNLLLoss(full=True)", (2, 3), (2, 3), Operand((2, 3), Domain(0.5, 3.0))),
    sample("nn.KLDivLoss(reduction='batchmean')", (2, 3), Operand((2, 3), Domain(0.1, 0.9))),
    sample("nn.KLDivLoss(log_target=True, reduction='none')", (2, 3), (2, 3)),
    sample("nn.BCELoss()", Operand((2, 3), Domain(0.1, 0.9)), Operand((2, 3), Domain(0.1, 0.9))),
    sample("nn.BCELoss(nn.Buffer([1.0, 0.5, 2.0]), reduction='sum')", Operand((2, 3), Domain(0.1, 0.9)), integers((2, 3), 0, 1)),
    sample("nn.BCEWithLogitsLoss()", (2, 3), integers((2, 3), 0, 1)),
    sample("nn.BCEWithLogitsLoss(pos_weight=nn.Buffer([1.0, 0.5, 2.0]))", strided((2, 3)), Operand((2, 3), Domain(0.0, 1.0))),
    sample("nn.CTCLoss()", (5, 2, 4), integers((2, 2), 1, 3), integers((2,), 4, 5), integers((2,), 0, 2)),
    sample(
        "nn.CTCLoss(blank=3, reduction='none', zero_infinity=True)",
        (3, 2, 4),
        integers((2, 3), 0, 2),
        integers((2,), 2, 3),
        integers((2,), 2, 3),
    ),
    sample("nn.MarginRankingLoss(margin=0.5)", (6,), (6,), integers((6,), 1, 1)),
    sample("nn.HingeEmbeddingLoss(margin=2.0)", Operand((6,), Domain(0.1, 1.9)), integers((6,), -1, 1)),
    sample("nn.SoftMarginLoss()", (2, 3), integers((2, 3), -1, 1)),
    sample("nn.MultiMarginLoss(p=2, weight=nn.Buffer([1.0, 0.5, 2.0]))", (4, 3), integers((4,), 0, 2)),
    sample("nn.MultiLabelMarginLoss(reduction='none')", (2, 4), integers((2, 4), -1, 3)),
    sample("nn.MultiLabelSoftMarginLoss()", (2, 3), integers((2, 3), 0, 1)),
    sample("nn.CosineEmbeddingLoss(margin=-1.5)", (4, 3), (4, 3), integers((4,), -1, 1)),
    sample("nn.TripletMarginLoss(margin=9.0, swap=True)", (4, 3), (4, 3), (4, 3)),
    sample("nn.TripletMarginWithDistanceLoss(margin=9.0, reduction='none')", (4, 3), (4, 3), strided((4, 3))),
    sample("nn.Embedding(4, 3)", integers((2, 3), 0, 3)),
    sample("nn.Embedding(4, 3, max_norm=100.0)", integers((), 0, 3)),
    sample("nn.EmbeddingBag(4, 3)", integers((2, 3), 0, 3)),
    sample("nn.EmbeddingBag(4, 3, mode='max', padding_idx=0)", integers((2, 3), 0, 3)),
    sample("nn.AdaptiveLogSoftmaxWithLoss(4, 6, [2, 4], div_value=2.0, head_bias=True)", (24, 4), integers((24,), 0, 5)),
)

SHAPES = ((3, 4), (5,), ())
"""Of the parameters that optimizers change."""
SETTINGS = {"lr": 0.1, "maximize": True, "weight_decay": 0.1}
"""What every optimizer with a formula is made with, besides its defaults, as far as it takes it."""
OPTIMIZERS = (
    sample("nn.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True)", *SHAPES),
    sample("nn.optim.SGD(params, lr=0.05, momentum=0.9, dampening=0.3)", *SHAPES),
    sample("nn.optim.Adam(params, lr=0.05, amsgrad=True)", *SHAPES),
    sample("nn.optim.AdamW(params, lr=0.05, amsgrad=True)", *SHAPES),
    sample("nn.optim.RMSprop(params, lr=0.05, momentum=0.9, centered=True)", *SHAPES),
    sample("nn.optim.Muon(params, lr=0.05)", (3, 4), (5, 2)),
    sample("nn.optim.LBFGS(params, lr=0.02, max_iter=2)", *SHAPES),
    sample("nn.optim.LBFGS(params, max_iter=2, line_search_fn='strong_wolfe')", *SHAPES),
    sample("nn.optim.MultiSteps(nn.optim.SGD(params, lr=0.05), every=2)", *SHAPES),
    sample("nn.optim.ApplyIfFinite(nn.optim.Adam(params), max_consecutive_errors=2)", *SHAPES),
    sample("nn.optim.Lookahead(nn.optim.SGD(params, lr=0.05), k=2)", *SHAPES),
)


def subjects() -> dict[str, type]:
    """Give the public layers, losses and optimizers, by the names that samples have; not the containers that nobody calls."""
    found = {f"nn.{name}": getattr(nn, name) for name in nn.__all__} | {
        f"optim.{name}": getattr(nn.optim, name) for name in nn.optim.__all__
    }
    bases = (nn.Module, nn.optim.Optimizer)
    classes = {name: cls for name, cls in found.items() if isinstance(cls, type) and cls not in bases and issubclass(cls, bases)}
    return {name: cls for name, cls in classes.items() if getattr(cls, "forward", None) is not nn.Module.forward}


def samples(name: str) -> list[Sample]:
    """Give the samples of a class: those that are stated, and those that every optimizer with a formula has; none where there are none.

    Examples
    --------
    >>> from agnostic_ad.nn.samples import samples
    >>> [each.code for each in samples("optim.Lion")]
    ['nn.optim.Lion(params)', 'nn.optim.Lion(params, lr=0.1, maximize=True, weight_decay=0.1)']
    """
    stated, cls = [each for each in (*LAYERS, *OPTIMIZERS) if each.name == name], subjects()[name]
    if not issubclass(cls, nn.optim.Optimizer) or cls.formula is None:
        return stated
    shapes, taken = stated[0].operands if stated else SHAPES, inspect.signature(cls).parameters
    further = "".join(f", {key}={value!r}" for key, value in SETTINGS.items() if key in taken)
    return [*(sample(f"nn.{name}(params{each})", *shapes) for each in dict.fromkeys(("", further))), *stated]
