"""Adam and its relatives."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn.optim.optimizer import Optimizer, at_least

__all__ = ["Adam"]


class Adam(Optimizer):
    """Divide the mean of past gradients by the root of the mean of their squares (Kingma and Ba, 2015).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr : float
        The step.
    betas : (float, float)
        How much of the two means is kept at each step.
    eps : float
        Added to the root.
    weight_decay : float
        The pull to zero, added to the gradient.
    amsgrad : bool
        Whether the mean of squares never falls.
    maximize : bool
        Whether to go with the gradient.
    foreach, capturable, differentiable, fused
        Accepted for PyTorch's sake; ``differentiable=True`` is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Adam([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.9, 1.9])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        at_least(0.0, lr=lr, eps=eps, weight_decay=weight_decay)
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"invalid beta parameter at index {i}: {beta!r}; it lies between 0 and 1, without 1")
        if differentiable:
            raise ValueError("Adam: differentiable=True is not supported")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def prepare(self, xp: Any, p: Any, state: dict[str, Any], group: dict[str, Any]) -> Any:
        """Count the step, start the means with zeros; give the step's size and the root of what the mean of squares lacks."""
        state["step"] = step = state.get("step", 0) + 1
        for name in ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])):
            if name not in state:
                state[name] = xp.xp.zeros_like(p)
        beta1, beta2 = group["betas"]
        return group["lr"] / (1 - beta1**step), (1 - beta2**step) ** 0.5

    def update(self, xp: Any, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], now: Any) -> Any:
        """Give the new parameter."""
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        size, correction = now
        if group["maximize"]:
            g = -g
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        change = g - mean
        change *= 1 - beta1
        mean += change
        square *= beta2
        change = g * g
        change *= 1 - beta2
        square += change
        state["exp_avg"], state["exp_avg_sq"] = mean, square
        if group["amsgrad"]:
            square = state["max_exp_avg_sq"] = xp.xp.maximum(state["max_exp_avg_sq"], square)
        root = xp.xp.sqrt(square)
        root /= correction
        root += group["eps"]
        change = mean / root
        change *= size
        p -= change
        return p
