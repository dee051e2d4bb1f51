"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn.optim.optimizer import Optimizer, at_least

__all__ = ["SGD"]


class SGD(Optimizer):
    """Go against the gradient, with or without momentum.

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, momentum, dampening, weight_decay : float
        The step, the part of the last step that is kept, the part of the gradient that is left out of the momentum, and the pull to zero.
    nesterov : bool
        Whether to look ahead; needs a momentum and no dampening.
    maximize : bool
        Whether to go with the gradient.
    foreach, differentiable, fused
        Accepted for PyTorch's sake; ``differentiable=True`` is refused.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.SGD([p], lr=0.1).step()
    >>> p.data
    array([0.8, 1.6])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        at_least(0.0, lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov needs a momentum above 0 and a dampening of 0")
        if differentiable:
            raise ValueError("SGD: differentiable=True is not supported")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def prepare(self, xp: Any, p: Any, state: dict[str, Any], group: dict[str, Any]) -> Any:
        """Start the momentum; say how much of the gradient goes into it: all of the first one."""
        if not group["momentum"]:
            return None
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = xp.xp.zeros_like(p)
            return 1.0
        return 1 - group["dampening"]

    def update(self, xp: Any, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], now: Any) -> Any:
        """Give the new parameter."""
        if group["maximize"]:
            g = -g
        if group["weight_decay"]:
            g = g + group["weight_decay"] * p
        momentum = group["momentum"]
        if momentum:
            buffer = state["momentum_buffer"]
            buffer *= momentum
            buffer += g if now == 1 else now * g
            state["momentum_buffer"] = buffer
            g = g + momentum * buffer if group["nesterov"] else buffer
        p -= group["lr"] * g
        return p
