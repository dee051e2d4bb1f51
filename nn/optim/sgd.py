"""Descent by gradients and their means: SGD and what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agnostic_ad.nn.optim import formulas
from agnostic_ad.nn.optim.optimizer import Optimizer, hyperparameters
from agnostic_ad.nn.optim.passes import on

__all__ = ["ASGD", "LARS", "SGD", "Lion", "Muon", "Rprop"]


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
        See `Optimizer`.

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

    formula = formulas.sgd

    @hyperparameters
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
    ) -> None: ...

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that make no sense."""
        super().check(options)
        if options["nesterov"] and (not on(options["momentum"]) or on(options["dampening"])):
            raise ValueError("SGD: nesterov needs a momentum above 0 and a dampening of 0")


class ASGD(Optimizer):
    """Descend with a falling rate, and average the parameters (Polyak and Juditsky, 1992).

    The averages are ``optimizer.state[p]["ax"]``.

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, lambd, alpha : float
        At step t the rate is ``lr / (1 + lambd * lr * t) ** alpha``; ``lambd`` also pulls to zero.
    t0 : float
        The step at which the averaging begins.
    weight_decay : float
        The pull to zero, added to the gradient.
    maximize : bool
        Whether to go with the gradient.
    foreach, differentiable, capturable
        See `Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.ASGD([p], lr=0.1).step()
    >>> p.data.round(4)
    array([0.8, 1.6])
    """

    formula = formulas.asgd

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None: ...


class Rprop(Optimizer):
    """Go by the signs of the gradient, with steps that grow while a sign stays (Riedmiller and Braun, 1993).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr : float
        The first step of every element.
    etas : (float, float)
        What a step is multiplied with when the sign changes, and when it stays.
    step_sizes : (float, float)
        The smallest and the largest step.
    capturable, foreach, differentiable
        See `Optimizer`.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, -2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Rprop([p], lr=0.1).step()
    >>> p.data
    array([ 0.9, -1.9])
    """

    formula = formulas.rprop

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None: ...

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that make no sense."""
        super().check(options)
        low, high = options["etas"]
        if not 0 < low < 1 < high:
            raise ValueError(f"Rprop: invalid etas: {(low, high)!r}; one between 0 and 1, and one above 1 are wanted")


class Muon(Optimizer):
    """Make the singular values of the momentum of a matrix nearly one (Jordan and others, 2024, https://kellerjordan.github.io/posts/muon).

    For the matrices of hidden layers; biases and embeddings belong to another optimizer. The iteration (Newton-Schulz) runs in the
    parameter's dtype, where PyTorch's runs in bfloat16: results agree with PyTorch's to that precision only.

    Parameters
    ----------
    params : iterable
        See `Optimizer`; matrices.
    lr, weight_decay, momentum : float
        The step, the decoupled pull to zero, and the part of the mean of gradients that is kept.
    nesterov : bool
        Whether to look ahead.
    ns_coefficients : (float, float, float)
        Of the iteration's polynomial.
    eps : float
        The smallest norm that is divided by.
    ns_steps : int
        The number of iterations.
    adjust_lr_fn : {"original", "match_rms_adamw"}, optional
        How the step depends on the shape: ``sqrt(max(1, rows / columns))``, or ``0.2 * sqrt(max(rows, columns))`` (Liu and others, 2025).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.diag([3.0, 1.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Muon([p], lr=0.1, weight_decay=0.0).step()
    >>> np.linalg.svd(3 * np.eye(2) - p.data)[1].shape
    (2,)
    """

    formula = formulas.muon

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None: ...

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that make no sense."""
        super().check(options)
        if options["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Muon: adjust_lr_fn is 'original', 'match_rms_adamw' or None, not {options['adjust_lr_fn']!r}")
        if len(options["ns_coefficients"]) != 3:
            raise ValueError(f"Muon: ns_coefficients are three numbers, not {len(options['ns_coefficients'])}")
        if not 0 <= options["ns_steps"] < 100:
            raise ValueError(f"Muon: ns_steps is a number from 0 to 99, not {options['ns_steps']}")

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group of matrices."""
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.ndim != 2:
                self.param_groups.pop()
                raise ValueError(f"Muon changes matrices only; a parameter has shape {p.shape}. Give it to another optimizer.")


class Lion(Optimizer):
    """Go by the sign of a mean of gradients (Chen and others, 2023, https://arxiv.org/abs/2302.06675).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr : float
        The step, of every element alike; a third to a tenth of Adam's.
    betas : (float, float)
        How much of the mean goes into the direction, and how much of it is kept.
    weight_decay : float
        The decoupled pull to zero.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, -2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Lion([p], lr=0.1).step()
    >>> p.data
    array([ 0.9, -1.9])
    """

    formula = formulas.lion

    @hyperparameters
    def __init__(
        self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0, *, maximize: bool = False
    ) -> None: ...


class LARS(Optimizer):
    """Scale the step of every parameter by its norm over its gradient's (You, Gitman and Ginsburg, 2017, https://arxiv.org/abs/1708.03888).

    The rate of a parameter w with gradient g is ``lr * trust_coefficient * |w| / (|g| + weight_decay * |w| + eps)``; ``lr`` where
    either norm is zero. As in the paper, the momentum holds steps, not gradients.

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, momentum, weight_decay : float
        The step, the part of the last step that is kept, and the pull to zero.
    trust_coefficient, eps : float
        As above.
    nesterov : bool
        Whether to look ahead.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([3.0, 4.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.LARS([p], lr=1.0, trust_coefficient=0.1).step()
    >>> p.data
    array([2.7, 3.6])
    """

    formula = formulas.lars

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        trust_coefficient: float = 1e-3,
        eps: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None: ...
