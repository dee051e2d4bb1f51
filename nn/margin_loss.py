"""Losses that ask for a margin, between scores or distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.distance import PairwiseDistance
from agnostic_ad.nn.loss import Loss, Pair, Weighted

__all__ = [
    "CosineEmbeddingLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss",
    "SoftMarginLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
]  # fmt: skip


class _Compared(Loss):
    """A loss of two inputs, with a margin."""

    arguments = ("margin", "reduction")

    def __init__(self, margin: float = 0.0, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        """Give the loss of two inputs, where ``target`` is 1 or -1."""
        return self.compute(input1, input2, target)


class MarginRankingLoss(_Compared):
    """Ask for one input to be larger than another; see `agnostic_ad.nn.functional.margin_ranking_loss`.

    Parameters
    ----------
    margin : float
        By how much.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> a, b = np.asarray([1.0, 2.0]), np.asarray([3.0, 1.0])
    >>> float(nn.MarginRankingLoss(0.5, reduction="sum")(a, b, np.asarray([1.0, 1.0])))
    2.5
    """

    function = F.margin_ranking_loss


class CosineEmbeddingLoss(_Compared):
    """Ask for vectors to have one direction, or not; see `agnostic_ad.nn.functional.cosine_embedding_loss`.

    Parameters
    ----------
    margin : float
        The cosine between -1 and 1 that is small enough for pairs that do not belong together.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.cosine_embedding_loss


class HingeEmbeddingLoss(Pair):
    """Ask for distances to be small, or large; see `agnostic_ad.nn.functional.hinge_embedding_loss`.

    Parameters
    ----------
    margin : float
        The distance that is large enough.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.hinge_embedding_loss
    arguments = ("margin", "reduction")

    def __init__(self, margin: float = 1.0, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin


class SoftMarginLoss(Pair):
    """Ask for the right sign; see `agnostic_ad.nn.functional.soft_margin_loss`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.soft_margin_loss


class MultiMarginLoss(Weighted):
    """Ask for the right class to have the largest score; see `agnostic_ad.nn.functional.multi_margin_loss`.

    Parameters
    ----------
    p : {1, 2}
        The power of what is missing.
    margin : float
        By how much.
    weight : array, optional
        One factor per class; a buffer.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.multi_margin_loss
    arguments = ("p", "margin", "weight", "reduction")

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss: p is 1 or 2, not {p}")
        if weight is not None and len(weight.shape) != 1:
            raise ValueError(f"MultiMarginLoss: weight has one number per class; got the shape {tuple(weight.shape)}")
        self.p, self.margin = p, margin


class MultiLabelMarginLoss(Pair):
    """Ask for right classes to have larger scores than wrong ones; see `agnostic_ad.nn.functional.multilabel_margin_loss`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.multilabel_margin_loss


class MultiLabelSoftMarginLoss(Weighted):
    """Ask for the right sign of each class' score; see `agnostic_ad.nn.functional.multilabel_soft_margin_loss`.

    Parameters
    ----------
    weight : array, optional
        One factor per class; a buffer.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.multilabel_soft_margin_loss


class _Triplet(Loss):
    """A loss of three inputs."""

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        """Give the loss of an anchor, for one that belongs to it and one that does not."""
        return self.compute(anchor, positive, negative)


def _checked(name: str, margin: float) -> float:
    if margin <= 0:
        raise ValueError(f"{name}: margin is positive; got {margin}")
    return margin


class TripletMarginLoss(_Triplet):
    """Ask for one distance to be smaller than another; see `agnostic_ad.nn.functional.triplet_margin_loss`.

    Parameters
    ----------
    margin : float
        By how much; positive.
    p, eps : float
        The norm of the distance, and what is added to differences.
    swap : bool
        Whether the distance to the negative is the less of those from the anchor and from the positive.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.triplet_margin_loss
    arguments = ("margin", "p", "eps", "swap", "reduction")

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin, self.p, self.eps, self.swap = _checked("TripletMarginLoss", margin), p, eps, swap


class TripletMarginWithDistanceLoss(_Triplet):
    """Ask for one distance to be smaller than another; see `agnostic_ad.nn.functional.triplet_margin_with_distance_loss`.

    Parameters
    ----------
    distance_function : callable, optional
        Gives the distances of two arrays; by default `PairwiseDistance`.
    margin : float
        By how much; positive.
    swap : bool
        Whether the distance to the negative is the less of those from the anchor and from the positive.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.triplet_margin_with_distance_loss
    arguments = ("distance_function", "margin", "swap", "reduction")

    def __init__(
        self,
        *,
        distance_function: Callable[[Any, Any], Any] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = _checked("TripletMarginWithDistanceLoss", margin), swap
