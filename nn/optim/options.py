"""Hyperparameters: what they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of

__all__ = ["check", "plain"]


def plain(x: Any) -> Any:
    """Give a hyperparameter as PyTorch's groups hold it: numbers for arrays of one element."""
    if isinstance(x, tuple | list):
        return tuple(plain(each) for each in x)
    if not hasattr(x, "shape"):
        return x
    if any(n != 1 for n in x.shape):
        raise ValueError(f"a hyperparameter is one number, not an array of shape {tuple(x.shape)}")
    raw = x.payload if isinstance(x, Array) else x
    return backend_of(raw).to_numpy(raw).item()


_FROM_ZERO = ("0 or more", lambda x: x >= 0)
_WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "alpha": _FROM_ZERO,
    "beta2_decay": ("0 or less", lambda x: x <= 0),
    "betas": ("0 or more and below 1", lambda x: 0 <= x < 1),
    "d": ("1 or more", lambda x: x >= 1),
    "eps": _FROM_ZERO,
    "initial_accumulator_value": _FROM_ZERO,
    "lambd": _FROM_ZERO,
    "lr": _FROM_ZERO,
    "lr_decay": _FROM_ZERO,
    "momentum": _FROM_ZERO,
    "momentum_decay": _FROM_ZERO,
    "rho": ("between 0 and 1", lambda x: 0 <= x <= 1),
    "trust_coefficient": _FROM_ZERO,
    "weight_decay": _FROM_ZERO,
}


def check(name: str, options: Mapping[str, Any]) -> None:
    """Refuse hyperparameters that no update is defined for; arrays are taken as they are."""
    for key in options.keys() & _WANTED.keys():
        wanted, right = _WANTED[key]
        several = isinstance(options[key], tuple | list)
        for i, x in enumerate(options[key] if several else [options[key]]):
            if x is None or hasattr(x, "shape"):
                continue
            where = f"{key}[{i}]" if several else key
            if not isinstance(x, int | float):
                raise TypeError(f"{name}: {where} is a number, not {type(x).__name__}")
            if not right(x):
                raise ValueError(f"{name}: invalid {where}: {x!r}; {wanted} is wanted")
    if options.get("differentiable"):
        raise ValueError(
            f"{name}: differentiable=True is not supported: a step changes leaves. Differentiate the pure rule: "
            f"rule = {name}.rule(lr=lr), params, state = rule.update(grads, state, params)."
        )
    if options.get("fused") and options.get("foreach"):
        raise ValueError(f"{name}: fused and foreach cannot both be True")
