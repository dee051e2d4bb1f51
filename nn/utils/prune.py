"""Pruning: weights that a mask holds at zero.

A pruned parameter ``weight`` becomes the parameter ``weight_orig``, the buffer ``weight_mask``, and the attribute ``weight``, their product,
which a hook computes before each call. Pruning again narrows the mask.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from agnostic_ad.nn.module import Module
from agnostic_ad.nn.utils import pruning
from agnostic_ad.nn.utils.pruning import (
    BasePruningMethod,
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    PruningContainer,
    RandomStructured,
    RandomUnstructured,
    hook_of,
    on_host,
)

__all__ = [
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]
__all__ += pruning.__all__


def identity(module: Module, name: str) -> Module:
    """Make mask and hook, but prune nothing; give the module."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: float) -> Module:
    """Prune elements of a parameter by chance; give the module.

    Parameters
    ----------
    module : Module
        Whose parameter it is.
    name : str
        The parameter's name.
    amount : int or float
        How many, or which fraction.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> layer = nn.utils.prune.random_unstructured(nn.Linear(4, 5), "weight", amount=0.3)
    >>> int((layer.weight.data == 0).sum()), sorted(layer.state_dict())
    (6, ['bias', 'weight_mask', 'weight_orig'])
    """
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: float, importance_scores: Any = None) -> Module:
    """Prune the elements of the smallest absolute value; give the module."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: float, dim: int) -> Module:
    """Prune channels along an axis by chance; give the module."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Module, name: str, amount: float, n: Any, dim: int, importance_scores: Any = None) -> Module:
    """Prune the channels along an axis whose norm of order ``n`` is smallest; give the module."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Any) -> Module:
    """Prune where a mask is 0; give the module."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]], pruning_method: type[BasePruningMethod], importance_scores: Any = None, **kwargs: Any
) -> None:
    """Prune elements of several parameters, as if they were one.

    Parameters
    ----------
    parameters : iterable of (Module, str)
        Modules and the names of their parameters.
    pruning_method : type
        An unstructured one, such as `L1Unstructured`.
    importance_scores : dict, optional
        From (module, name) to an array that decides in place of the parameter's values.
    **kwargs
        What the method is made with.
    """
    pairs = list(parameters)
    scores = {} if importance_scores is None else importance_scores
    if not isinstance(scores, dict):
        raise TypeError(f"importance_scores is a dict from (module, name) to arrays, not {type(scores).__name__}")
    method: Any = pruning_method(**kwargs)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(f"global_unstructured takes methods of PRUNING_TYPE 'unstructured'; that of {pruning_method.__name__} is not")
    values = [getattr(module, name) for module, name in pairs]
    masks = [getattr(module, f"{name}_mask", None) for module, name in pairs]
    flat = np.concatenate([on_host(scores.get(pair, v)).reshape(-1) for pair, v in zip(pairs, values)])
    before = np.concatenate([np.ones(v.size) if m is None else on_host(m).reshape(-1).astype("float64") for v, m in zip(values, masks)])
    after = PruningContainer(method).compute_mask(flat, before)
    begin = 0
    for (module, name), v in zip(pairs, values):
        custom_from_mask(module, name, after[begin : begin + v.size].reshape(v.shape))
        begin += v.size


def remove(module: Module, name: str) -> Module:
    """Make a pruned parameter an ordinary one, with its present value; give the module."""
    found = hook_of(module, name)
    if found is None:
        raise ValueError(f"the parameter {name!r} of {type(module).__name__} is not pruned")
    number, hook = found
    hook.remove(module)
    del module._forward_pre_hooks[number]
    return module


def is_pruned(module: Module) -> bool:
    """Tell whether a module, or one below it, has a pruned parameter."""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules() for hook in m._forward_pre_hooks.values())
