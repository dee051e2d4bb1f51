"""Losses between scores and classes, or sequences of classes."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.linear import Linear
from agnostic_ad.nn.loss import Loss, Weighted

__all__ = ["CTCLoss", "CrossEntropyLoss", "LinearCrossEntropyLoss", "NLLLoss"]


class NLLLoss(Weighted):
    """Give minus the logarithms of the targets' probabilities; see `agnostic_ad.nn.functional.nll_loss`.

    Parameters
    ----------
    weight : array, optional
        One factor per class; a buffer.
    ignore_index : int
        The target that does not count.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.nll_loss
    arguments = ("weight", "ignore_index", "reduction")

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index


class CrossEntropyLoss(Weighted):
    """Give the cross entropy between scores and classes; see `agnostic_ad.nn.functional.cross_entropy`.

    Parameters
    ----------
    weight : array, optional
        One factor per class; a buffer.
    ignore_index : int
        The target that does not count.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    label_smoothing : float
        How much of the target is spread over all classes.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> round(float(nn.CrossEntropyLoss()(np.zeros((2, 10)), np.asarray([3, 5]))), 4)
    2.3026
    """

    function = F.cross_entropy
    arguments = ("weight", "ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing


class LinearCrossEntropyLoss(Weighted):
    """Give the cross entropy of linear functions of the input; see `agnostic_ad.nn.functional.linear_cross_entropy`.

    Parameters
    ----------
    in_features, num_classes : int
        The sizes of the input, and the number of classes, C.
    out_features : tuple of int
        Further axes (d1, d2, ...) of the target, each place with scores of its own.
    bias : bool
        Whether the scores have a bias.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    weight : array, optional
        One factor per class; a buffer.
    ignore_index : int, optional
        The target that does not count, -100 by default; for class indices only.
    label_smoothing : float
        How much of the target is spread over all classes.
    options : None
        PyTorch's choice of how to compute in pieces; there is none here.

    Attributes
    ----------
    linear : Linear
        Its weight has shape (C d1 d2 ..., in_features).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.LinearCrossEntropyLoss(5, 10, out_features=(4,))(np.ones((2, 5), dtype="float32"), np.zeros((2, 4), dtype="int64")).shape
    ()
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: None = None,
        xp: Any = None,
    ) -> None:
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise ValueError(f"LinearCrossEntropyLoss: weight has shape {tuple(weight.shape)}; {(num_classes,)} is wanted")
        if not 0.0 <= label_smoothing <= 1.0:
            raise ValueError(f"LinearCrossEntropyLoss: label_smoothing lies between 0 and 1, not {label_smoothing}")
        super().__init__(weight, reduction=reduction)
        self.num_classes, self.out_features, self.options = num_classes, tuple(out_features), options
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.linear = Linear(in_features, num_classes * math.prod(out_features), bias, device, dtype, xp=xp)

    def forward(self, input: Any, target: Any) -> Any:
        """Give the loss of ``input``, of shape (N, in_features) or (in_features,), for ``target``."""
        shape: tuple[int, ...] = (self.num_classes, *self.out_features)
        weight: Any = self.linear.weight
        bias: Any = self.linear.bias
        return F.linear_cross_entropy(
            input,
            weight.reshape((*shape, weight.shape[-1])) if self.out_features else weight,
            target,
            linear_bias=bias.reshape(shape) if bias is not None and self.out_features else bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )

    def extra_repr(self) -> str:
        """Give the sizes and the arguments."""
        said = {"in_features": self.linear.in_features, "num_classes": self.num_classes, "out_features": self.out_features}
        said |= {"bias": self.linear.bias is not None, "reduction": self.reduction, "ignore_index": self.ignore_index}
        said |= {"label_smoothing": self.label_smoothing, "options": self.options}
        return ", ".join(f"{name}={value}" for name, value in said.items())


class CTCLoss(Loss):
    """Give the loss of sequences that are not aligned; see `agnostic_ad.nn.functional.ctc_loss`.

    Parameters
    ----------
    blank : int
        The class that stands for none.
    reduction : {"mean", "sum", "none"}
        What becomes of the losses of the sequences.
    zero_infinity : bool
        Whether an infinite loss is 0, and so is its gradient.
    """

    function = F.ctc_loss
    arguments = ("blank", "reduction", "zero_infinity")

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        """Give the loss of logarithms of probabilities, for targets, and the lengths of both."""
        return self.compute(log_probs, targets, input_lengths, target_lengths)
