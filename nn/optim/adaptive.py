"""A rate for every element: Adagrad, Adadelta, RMSprop, Adafactor; and further relatives of Adam."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agnostic_ad.nn.optim import formulas
from agnostic_ad.nn.optim.optimizer import Optimizer, hyperparameters

__all__ = ["LAMB", "Adadelta", "Adafactor", "Adagrad", "Adan", "NovoGrad", "RMSprop", "Yogi"]


class Adagrad(Optimizer):
    """Divide by the root of the sum of all squared gradients (Duchi, Hazan and Singer, 2011).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, lr_decay : float
        At step t the rate is ``lr / (1 + (t - 1) * lr_decay)``.
    weight_decay : float
        The pull to zero, added to the gradient.
    initial_accumulator_value : float
        What the sum starts with.
    eps : float
        Added to the root.
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
    >>> nn.optim.Adagrad([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.9, 1.9])
    """

    formula = formulas.adagrad

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...


class Adadelta(Optimizer):
    """Scale gradients by the ratio of past steps to past gradients (Zeiler, 2012, https://arxiv.org/abs/1212.5701).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr : float
        The part of the step that is taken.
    rho : float
        How much of the two means of squares is kept at each step.
    eps : float
        Added to both, within the roots.
    weight_decay : float
        The pull to zero, added to the gradient.
    maximize : bool
        Whether to go with the gradient.
    foreach, capturable, differentiable
        See `Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Adadelta([p]).step()
    >>> p.data.round(4)
    array([0.9968, 1.9968])
    """

    formula = formulas.adadelta

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None: ...


class RMSprop(Optimizer):
    """Divide by the root of the mean of squared gradients (Hinton, lecture notes, 2012).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr : float
        The step.
    alpha : float
        How much of the mean is kept at each step.
    eps : float
        Added to the root.
    weight_decay : float
        The pull to zero, added to the gradient.
    momentum : float
        The part of the last step that is kept.
    centered : bool
        Whether to subtract the square of the mean gradient (Graves, 2013, https://arxiv.org/abs/1308.0850).
    maximize : bool
        Whether to go with the gradient.
    capturable, foreach, differentiable
        See `Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.RMSprop([p], lr=0.01).step()
    >>> p.data.round(3)
    array([0.9, 1.9])
    """

    formula = formulas.rmsprop

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None: ...


class Adafactor(Optimizer):
    """Keep squares of gradients by rows and columns only (Shazeer and Stern, 2018, https://arxiv.org/abs/1804.04235).

    Parameters
    ----------
    params : iterable
        See `Optimizer`; real.
    lr : float
        The largest rate relative to a parameter's size; at step t it is ``min(lr, 1 / sqrt(t))``.
    beta2_decay : float
        At step t, ``t ** beta2_decay`` of the means is new.
    eps : (float or None, float)
        What squares and a parameter's size are at least; None is the dtype's precision.
    d : float
        How large an update may be, in root mean square.
    weight_decay : float
        The decoupled pull to zero.
    foreach
        See `Optimizer`.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([[1.0, 2.0]]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Adafactor([p], lr=0.1).step()
    >>> p.data.round(3)
    array([[0.842, 1.842]])
    """

    formula = formulas.adafactor

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None: ...

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that make no sense."""
        super().check(options)
        if not isinstance(options["eps"], tuple | list) or len(options["eps"]) != 2:
            raise ValueError(f"Adafactor: eps is a pair (for squares, or None; for parameters), not {options['eps']!r}")


class LAMB(Optimizer):
    """Adam with the step of every parameter scaled by its norm over the update's (You and others, 2020, https://arxiv.org/abs/1904.00962).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, betas, eps : float, (float, float), float
        As Adam's.
    weight_decay : float
        The pull to zero, added to the update before it is scaled.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([3.0, 4.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.LAMB([p], lr=0.1).step()
    >>> p.data.round(3)
    array([2.646, 3.646])
    """

    formula = formulas.lamb

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None: ...


class Yogi(Optimizer):
    """Adam whose mean of squares moves by steps of the square, whatever its distance (Zaheer and others, 2018).

    With Adam's correction for the start, as in the authors' code.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize
        As Adam's.
    initial_accumulator : float
        What both means start with.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Yogi([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.9, 1.9])
    """

    formula = formulas.yogi

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None: ...


class Adan(Optimizer):
    """Adam with Nesterov's momentum from differences of gradients (Xie and others, 2022, https://arxiv.org/abs/2208.06677).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, eps : float
        As Adam's.
    betas : (float, float, float)
        How much is kept of the means of gradients, of their differences, and of squares (the paper's are one minus these).
    weight_decay : float
        The pull to zero: every step divides the parameter by ``1 + lr * weight_decay``.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Adan([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.9, 1.9])
    """

    formula = formulas.adan

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None: ...


class NovoGrad(Optimizer):
    """Divide the gradient of every parameter by its norm, and keep a momentum (Ginsburg and others, 2019, https://arxiv.org/abs/1905.11286).

    Parameters
    ----------
    params : iterable
        See `Optimizer`.
    lr, eps : float
        As Adam's.
    betas : (float, float)
        How much is kept of the sum of normed gradients, and of the mean of squared norms.
    weight_decay : float
        The pull to zero, added to the normed gradient.
    maximize : bool
        Whether to go with the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([3.0, 4.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.NovoGrad([p], lr=1.0).step()
    >>> p.data.round(3)
    array([2.4, 3.2])
    """

    formula = formulas.novograd

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.95, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        maximize: bool = False,
    ) -> None: ...
