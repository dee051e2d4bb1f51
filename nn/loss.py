"""Losses."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.functional.losses import check_reduction, old_reduction
from agnostic_ad.nn.module import Module

__all__ = ["CrossEntropyLoss"]


class _Loss(Module):
    """A module that compares a prediction with a target.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """Give the cross entropy between scores and classes; see `agnostic_ad.nn.functional.cross_entropy`.

    Parameters
    ----------
    weight : array, optional
        One factor per class; a buffer.
    ignore_index : int
        The target that does not count.
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

    def __init__(
        self,
        weight: Any = None,
        size_average: None = None,
        ignore_index: int = -100,
        reduce: None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(old_reduction(size_average, reduce, reduction))
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        """Give the loss of scores ``input`` for classes ``target``."""
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )
