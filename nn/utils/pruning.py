"""The methods of pruning: how what is pruned is chosen, and what becomes of the parameter.

A pruned parameter ``weight`` becomes the parameter ``weight_orig``, the buffer ``weight_mask``, and the attribute ``weight``, their product,
which a hook computes before each call. Pruning again narrows the mask.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from agnostic_ad import Variable
from agnostic_ad import random as ad_random
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Buffer, assign

__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
]

Host = np.ndarray[Any, Any]


def on_host(x: Any) -> Host:
    """Give the values of an array as a NumPy array: masks are computed on the host."""
    raw = x.data if isinstance(x, Array) else x
    return np.asarray(backend_of(raw).to_numpy(raw))


def _mask_like(mask: Any, like: Any) -> Any:
    """Give a mask in the library and dtype of a parameter."""
    backend, raw = like.backend, like.data
    return backend.astype(backend.from_numpy(np.ascontiguousarray(mask, "float64"), device_of(raw)), raw.dtype)


class BasePruningMethod(ABC):
    """A way of choosing what to prune.

    A subclass says its ``PRUNING_TYPE`` and defines `compute_mask`.
    """

    PRUNING_TYPE: ClassVar[str] = "unstructured"
    """"unstructured": single elements; "structured": along the axis ``dim``; "global": what is pruned already is looked at, too."""
    _tensor_name: str | None = None

    def __call__(self, module: Module, inputs: Any) -> None:
        """Compute the parameter: the hook before each call."""
        setattr(module, str(self._tensor_name), self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Give the mask.

        Parameters
        ----------
        t : ndarray
            The importance of each element, on the host; the larger, the more.
        default_mask : ndarray
            The mask so far, of the same shape.

        Returns
        -------
        ndarray
            Of 0 and 1.
        """

    def apply_mask(self, module: Module) -> Any:
        """Give the product of mask and parameter."""
        if self._tensor_name is None:
            raise ValueError(f"{type(module).__name__} has to be pruned first")
        orig = getattr(module, f"{self._tensor_name}_orig")
        return orig * getattr(module, f"{self._tensor_name}_mask")

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> Any:
        """Prune a parameter.

        Parameters
        ----------
        module : Module
            Whose parameter it is.
        name : str
            The parameter's name.
        *args, **kwargs
            What the method is made with.
        importance_scores : array, optional
            Decides in place of the parameter's values.

        Returns
        -------
        BasePruningMethod
            The hook; a `PruningContainer` where the parameter was pruned before.
        """
        method: Any = cls(*args, **kwargs)
        method._tensor_name = name
        before = hook_of(module, name)
        value = getattr(module, name, None)
        if not isinstance(value, Array):
            raise ValueError(f"{type(module).__name__} has no parameter {name!r}")
        if importance_scores is not None and tuple(importance_scores.shape) != tuple(value.shape):
            raise ValueError(
                f"importance_scores have the shape of the parameter {name!r}, {tuple(value.shape)}, not {tuple(importance_scores.shape)}"
            )
        if before is None:
            mask = np.ones(value.shape)
        else:
            number, old = before
            mask = on_host(getattr(module, f"{name}_mask")).astype("float64")
            container = old if isinstance(old, PruningContainer) else PruningContainer(old)
            container.add_pruning_method(method)
            method = container
        mask = method.compute_mask(on_host(value if importance_scores is None else importance_scores), mask)
        if before is None:
            orig = module._parameters.get(name)
            if orig is None:
                raise ValueError(f"{type(module).__name__} has no parameter {name!r}")
            del module._parameters[name]
            module.register_parameter(f"{name}_orig", orig)
        else:
            del module._forward_pre_hooks[number]
        module.register_buffer(f"{name}_mask", Buffer(_mask_like(mask, value)))
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """Give an array with the mask applied, without any module."""
        scores = t if importance_scores is None else importance_scores
        if tuple(scores.shape) != tuple(t.shape):
            raise ValueError(f"importance_scores have the shape of the array, {tuple(t.shape)}, not {tuple(scores.shape)}")
        mask = self.compute_mask(on_host(scores), np.ones(t.shape) if default_mask is None else on_host(default_mask).astype("float64"))
        return t * _mask_like(mask, t if isinstance(t, Array) else Variable(t))

    def remove(self, module: Module) -> None:
        """Make the parameter an ordinary one, with its present value; it is the object that it was."""
        name = self._tensor_name
        value = self.apply_mask(module)
        orig = module._parameters[f"{name}_orig"]
        assert orig is not None
        delattr(module, str(name))
        assign(orig, value.data)
        del module._parameters[f"{name}_orig"]
        del module._buffers[f"{name}_mask"]
        setattr(module, str(name), orig)


def hook_of(module: Module, name: str) -> tuple[int, BasePruningMethod] | None:
    """Give the method that prunes a parameter, and its number among the hooks."""
    for number, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return number, hook
    return None


class PruningContainer(BasePruningMethod):
    """Several methods one after the other, on one parameter.

    Parameters
    ----------
    *args : BasePruningMethod
        The methods.
    """

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        self._tensor_name = args[0]._tensor_name if args else None
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add one at the end."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"a PruningContainer holds pruning methods; {type(method).__name__} is none")
        if method._tensor_name != self._tensor_name:
            raise ValueError(f"this PruningContainer is of the parameter {self._tensor_name!r}, the method of {method._tensor_name!r}")
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, i: int) -> BasePruningMethod:
        return self._pruning_methods[i]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Let the last method look at what the ones before it have left."""
        method = self._pruning_methods[-1]
        key: Any
        if method.PRUNING_TYPE == "unstructured":
            key = default_mask == 1
        elif method.PRUNING_TYPE == "structured":
            dim = _axis(t, method.dim)  # type: ignore[attr-defined]
            key = [slice(None)] * t.ndim
            key[dim] = default_mask.sum(axis=tuple(i for i in range(t.ndim) if i != dim)) != 0
            key = tuple(key)
        elif method.PRUNING_TYPE == "global":
            key = (slice(None),) * t.ndim
        else:
            raise ValueError(f"PRUNING_TYPE is 'unstructured', 'structured' or 'global', not {method.PRUNING_TYPE!r}")
        mask = default_mask.copy()
        mask[key] = method.compute_mask(t[key], default_mask[key])
        return mask


# --- how much, and along which axis -------------------------------------------------------------------------------------------------------
def _check_amount(amount: Any) -> None:
    if not isinstance(amount, numbers.Real):
        raise TypeError(f"amount is a number, not {amount!r}")
    number, whole = float(amount), isinstance(amount, numbers.Integral)
    if number < 0 or not (whole or number <= 1):
        raise ValueError(f"amount is a fraction between 0 and 1, or a whole number of 0 or more; not {amount}")


def _count(amount: Any, size: int) -> int:
    """Give how many of ``size`` things to prune."""
    count = int(amount) if isinstance(amount, numbers.Integral) else round(float(amount) * size)
    if count > size:
        raise ValueError(f"amount={amount} is more than there is to prune: {size}")
    return count


def _axis(t: Any, dim: int) -> int:
    if not -t.ndim <= dim < t.ndim:
        raise IndexError(f"there is no axis {dim} in a parameter of shape {t.shape}")
    return dim % int(t.ndim)


class _ByAmount(BasePruningMethod):
    def __init__(self, amount: float) -> None:
        _check_amount(amount)
        self.amount = amount

    def scores(self, t: Host) -> Host:
        raise NotImplementedError

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Prune the elements of the lowest scores."""
        mask = default_mask.copy()
        count = _count(self.amount, t.size)
        mask.reshape(-1)[np.argsort(self.scores(t).reshape(-1), kind="stable")[:count]] = 0
        return mask


class _AlongAxis(_ByAmount):
    PRUNING_TYPE = "structured"
    dim: int

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Prune the channels of the lowest scores."""
        if t.ndim <= 1:
            raise ValueError(f"structured pruning takes parameters of 2 dimensions or more, not of shape {t.shape}")
        dim = _axis(t, self.dim)
        channels = np.ones(t.shape[dim])
        channels[np.argsort(self.scores(t), kind="stable")[: _count(self.amount, t.shape[dim])]] = 0
        return default_mask * channels.reshape([-1 if i == dim else 1 for i in range(t.ndim)])


# --- the methods --------------------------------------------------------------------------------------------------------------------------
class Identity(BasePruningMethod):
    """Prune nothing, but make mask and hook."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Give the mask as it is."""
        return default_mask


class RandomUnstructured(_ByAmount):
    """Prune elements by chance.

    Parameters
    ----------
    amount : int or float
        How many, or which fraction.
    """

    def scores(self, t: Host) -> Host:
        """Draw them."""
        return ad_random.default_generator.uniform(t.shape)


class L1Unstructured(_ByAmount):
    """Prune the elements of the smallest absolute value.

    Parameters
    ----------
    amount : int or float
        How many, or which fraction.
    """

    def scores(self, t: Host) -> Host:
        """Give absolute values."""
        return np.asarray(abs(t))


class RandomStructured(_AlongAxis):
    """Prune channels by chance.

    Parameters
    ----------
    amount : int or float
        How many, or which fraction.
    dim : int
        The axis of the channels.
    """

    def __init__(self, amount: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def scores(self, t: Host) -> Host:
        """Draw them."""
        return ad_random.default_generator.uniform((t.shape[self.dim],))


class LnStructured(_AlongAxis):
    """Prune the channels of the smallest norm.

    Parameters
    ----------
    amount : int or float
        How many, or which fraction.
    n : float or "fro"
        The order of the norm.
    dim : int
        The axis of the channels.
    """

    def __init__(self, amount: float, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n, self.dim = n, dim

    def scores(self, t: Host) -> Host:
        """Give the norms."""
        rows = np.moveaxis(t, self.dim, 0).reshape(t.shape[self.dim], -1)
        return np.asarray(np.linalg.norm(rows, ord=2 if self.n == "fro" else self.n, axis=1))


class CustomFromMask(BasePruningMethod):
    """Prune where a mask is 0.

    Parameters
    ----------
    mask : array
        Of the parameter's shape.
    """

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Give the product of the two masks."""
        if tuple(self.mask.shape) != default_mask.shape:
            raise ValueError(f"a mask has the shape of the parameter, {default_mask.shape}, not {tuple(self.mask.shape)}")
        return default_mask * on_host(self.mask)
