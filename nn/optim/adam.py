"""Adam and its relatives: the mean of gradients over the root of the mean of their squares."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn.optim import formulas
from agnostic_ad.nn.optim.optimizer import Optimizer, hyperparameters

__all__ = ["AdaBelief", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam"]


class Adam(Optimizer):
    """Divide the mean of past gradients by the root of the mean of their squares (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980).

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
        Whether the mean of squares never falls (Reddi, Kale and Kumar, 2018).
    maximize : bool
        Whether to go with the gradient.
    decoupled_weight_decay : bool
        Whether the pull acts on the parameter directly, as in `AdamW`.
    foreach, capturable, differentiable, fused
        See `Optimizer`.

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

    formula = formulas.adam

    @hyperparameters
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
        decoupled_weight_decay: bool = False,
    ) -> None: ...


class AdamW(Adam):
    """Adam, with a pull to zero that acts on the parameter directly (Loshchilov and Hutter, 2019, https://arxiv.org/abs/1711.05101).

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, maximize, foreach, capturable, differentiable, fused
        As `Adam`'s.
    weight_decay : float
        The pull: every step multiplies the parameter by ``1 - lr * weight_decay``.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    >>> p.data.round(3)
    array([0.85, 1.8 ])
    """

    fixed = {"decoupled_weight_decay": True}

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None: ...


class Adamax(Optimizer):
    """Adam with the largest of past gradients in place of the root (Kingma and Ba, 2015, section 7.1).

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize, foreach, differentiable, capturable
        As `Adam`'s; ``eps`` is added to the gradient's magnitude.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.Adamax([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.9, 1.9])
    """

    formula = formulas.adamax

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None: ...


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat, 2016).

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, decoupled_weight_decay, foreach, maximize, capturable, differentiable
        As `Adam`'s.
    momentum_decay : float
        How quickly the momentum rises to ``betas[0]``: ``betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))``.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.NAdam([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.894, 1.894])
    """

    formula = formulas.nadam

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...


class RAdam(Optimizer):
    """Adam that waits with dividing until the mean of squares is reliable (Liu and others, 2020, https://arxiv.org/abs/1908.03265).

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, decoupled_weight_decay, foreach, maximize, capturable, differentiable
        As `Adam`'s.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.RAdam([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.8, 1.6])
    """

    formula = formulas.radam

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None: ...


class SparseAdam(Optimizer):
    """Adam that leaves rows alone whose gradient is zero throughout: parameters and means alike.

    PyTorch's takes sparse gradients and updates the rows that are in them. Gradients here are dense, and a row of zeros is what such a
    gradient lacks: an embedding's rows that the batch did not look up. In one dimension, a row is an element.

    Parameters
    ----------
    params, lr, betas, eps, maximize
        As `Adam`'s.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> table = nn.Parameter(np.ones((3, 2)))
    >>> optimizer = nn.optim.SparseAdam([table], lr=0.1)
    >>> for rows in ([0, 1], [1]):
    ...     optimizer.zero_grad()
    ...     table[rows].sum().backward()
    ...     optimizer.step()
    >>> table.data.round(3)
    array([[0.9, 0.9],
           [0.8, 0.8],
           [1. , 1. ]])
    """

    formula = formulas.sparse_adam

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None: ...


class AdaBelief(Optimizer):
    """Adam that divides by how far gradients are from their mean (Zhuang and others, 2020, https://arxiv.org/abs/2010.07468).

    Parameters
    ----------
    params, lr, betas, weight_decay, decoupled_weight_decay, maximize
        As `Adam`'s.
    eps : float
        Added to the root, and at every step to the mean of squared distances.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.asarray([1.0, 2.0]))
    >>> (p * p).sum().backward()
    >>> nn.optim.AdaBelief([p], lr=0.1).step()
    >>> p.data.round(3)
    array([0.889, 1.889])
    """

    formula = formulas.adabelief

    @hyperparameters
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None: ...
