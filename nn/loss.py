"""Losses between numbers, and between probabilities: each keeps its arguments as attributes, and calls its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from agnostic_ad.nn import functional as F
from agnostic_ad.nn.functional.reductions import check_reduction, old_reduction
from agnostic_ad.nn.module import Module

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "GaussianNLLLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "PoissonNLLLoss", "SmoothL1Loss",
]  # fmt: skip


class Loss(Module):
    """A function of arrays, and further arguments, which are attributes.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function: ClassVar[Callable[..., Any]]
    arguments: ClassVar[tuple[str, ...]] = ("reduction",)

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = old_reduction(size_average, reduce, reduction)

    def compute(self, *inputs: Any) -> Any:
        """Call the function."""
        return type(self).function(*inputs, **{name: getattr(self, name) for name in self.arguments})


class Pair(Loss):
    """A loss of a prediction and a target."""

    def forward(self, input: Any, target: Any) -> Any:
        """Give the loss of ``input``, for ``target``."""
        return self.compute(input, target)


class Weighted(Pair):
    """A loss with a factor for each class, or each element.

    Parameters
    ----------
    weight : array, optional
        The factors; a buffer.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    arguments: ClassVar[tuple[str, ...]] = ("weight", "reduction")

    def __init__(self, weight: Any = None, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


# --- differences --------------------------------------------------------------------------------------------------------------------------
class L1Loss(Pair):
    """Give the absolute differences; see `agnostic_ad.nn.functional.l1_loss`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> float(nn.L1Loss(reduction="sum")(np.asarray([1.0, 2.0]), np.asarray([0.0, 4.0])))
    3.0
    """

    function = F.l1_loss


class MSELoss(Pair):
    """Give the squared differences; see `agnostic_ad.nn.functional.mse_loss`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.mse_loss


class SmoothL1Loss(Pair):
    """Give absolute differences, rounded off at 0; see `agnostic_ad.nn.functional.smooth_l1_loss`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    beta : float
        Below which difference the loss is a parabola.
    """

    function = F.smooth_l1_loss
    arguments = ("reduction", "beta")

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta


class HuberLoss(Pair):
    """Give squared differences, and lines where they are large; see `agnostic_ad.nn.functional.huber_loss`.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    delta : float
        Where the lines begin.
    """

    function = F.huber_loss
    arguments = ("reduction", "delta")

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        if not isinstance(delta, int | float):
            raise TypeError(f"HuberLoss: delta is a float or an int, not {type(delta).__name__}")
        self.delta = delta


# --- distributions ------------------------------------------------------------------------------------------------------------------------
class PoissonNLLLoss(Pair):
    """Give the negative logarithm of the Poisson probability of counts; see `agnostic_ad.nn.functional.poisson_nll_loss`.

    Parameters
    ----------
    log_input : bool
        Whether the input is the logarithm of the rate.
    full : bool
        Whether to add Stirling's approximation.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    eps : float
        What is added to a rate before its logarithm is taken.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.poisson_nll_loss
    arguments = ("log_input", "full", "eps", "reduction")

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: bool | None = None,
        eps: float = 1e-8,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps


class GaussianNLLLoss(Loss):
    """Give the negative logarithm of a normal density; see `agnostic_ad.nn.functional.gaussian_nll_loss`.

    Parameters
    ----------
    full : bool
        Whether to add the constant.
    eps : float
        The least variance.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.gaussian_nll_loss
    arguments = ("full", "eps", "reduction")

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction=reduction)
        self.full, self.eps = full, eps

    def forward(self, input: Any, target: Any, var: Any) -> Any:
        """Give the loss of expectations ``input`` and variances ``var``, for samples ``target``."""
        return self.compute(input, target, var)


class KLDivLoss(Pair):
    """Give the terms of the Kullback-Leibler divergence; see `agnostic_ad.nn.functional.kl_div`.

    Parameters
    ----------
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "batchmean", "sum", "none"}
        What becomes of the single terms; "batchmean" is what the definition asks for.
    log_target : bool
        Whether the target holds logarithms.
    """

    function = F.kl_div
    arguments = ("reduction", "log_target")

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean", log_target: bool = False
    ) -> None:
        check_reduction(reduction, "batchmean")
        super().__init__(size_average, reduce, "mean" if reduction == "batchmean" else reduction)
        if size_average is None and reduce is None:
            self.reduction = reduction
        self.log_target = log_target


class BCELoss(Weighted):
    """Give the cross entropy between probabilities of yes and no; see `agnostic_ad.nn.functional.binary_cross_entropy`.

    Parameters
    ----------
    weight : array, optional
        Factors that broadcast with the target; a buffer.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    """

    function = F.binary_cross_entropy


class BCEWithLogitsLoss(Weighted):
    """Give the cross entropy between yes and no and scores; see `agnostic_ad.nn.functional.binary_cross_entropy_with_logits`.

    Parameters
    ----------
    weight : array, optional
        Factors that broadcast with the losses; a buffer.
    size_average, reduce : bool, optional
        The former names of ``reduction``.
    reduction : {"mean", "sum", "none"}
        What becomes of the single losses.
    pos_weight : array, optional
        Factors for yes, which broadcast with the target; a buffer.
    """

    function = F.binary_cross_entropy_with_logits
    arguments = ("weight", "reduction", "pos_weight")

    def __init__(
        self,
        weight: Any = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
        pos_weight: Any = None,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.register_buffer("pos_weight", pos_weight)
