"""The older forms of `parametrizations.weight_norm` and `parametrizations.spectral_norm`: a hook computes the weight before each call."""

from __future__ import annotations

from typing import Any

from agnostic_ad import no_grad
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Buffer, Parameter
from agnostic_ad.nn.utils.parametrizations import as_matrix, directed, lengths, output_axis, random_unit, unit

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


class _Hook:
    """Computes a parameter before each call."""

    kind: str
    name: str

    def compute(self, module: Module, training: bool) -> Any:
        raise NotImplementedError

    def __call__(self, module: Module, args: Any) -> None:
        setattr(module, self.name, self.compute(module, module.training))

    @classmethod
    def check_new(cls, module: Module, name: str) -> Any:
        """Give the parameter to be computed, where it is one."""
        if any(isinstance(hook, cls) and hook.name == name for hook in module._forward_pre_hooks.values()):
            raise RuntimeError(f"{name!r} of {type(module).__name__} has {cls.kind} already")
        weight = module._parameters.get(name)
        if weight is None:
            raise ValueError(f"{type(module).__name__} has no parameter {name!r}")
        return weight

    @classmethod
    def undo(cls, module: Module, name: str, parts: tuple[str, ...]) -> Module:
        """Make the parameter an ordinary one, with its present value."""
        for number, hook in module._forward_pre_hooks.items():
            if isinstance(hook, cls) and hook.name == name:
                with no_grad():
                    value = hook.compute(module, False).data
                delattr(module, name)
                for part in parts:
                    delattr(module, f"{name}_{part}")
                module.register_parameter(name, Parameter(value))
                del module._forward_pre_hooks[number]
                return module
        raise ValueError(f"{name!r} of {type(module).__name__} has no {cls.kind}")


class WeightNorm(_Hook):
    """Computes a weight from ``weight_g`` and ``weight_v``."""

    kind = "weight_norm"

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, dim

    def compute(self, module: Module, training: bool) -> Any:
        """Give the weight."""
        return directed(getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v"), self.dim)


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train the length ``weight_g`` and the direction ``weight_v`` of weights apart: the older form of `parametrizations.weight_norm`.

    Parameters
    ----------
    module : Module
        The layer.
    name : str
        Of the parameter.
    dim : int or None
        The axis whose entries have a length each, or None for one length.

    Returns
    -------
    Module
        ``module``, changed.
    """
    weight = WeightNorm.check_new(module, name)
    hook = WeightNorm(name, dim)
    with no_grad():
        length = lengths(weight, dim)
    del module._parameters[name]
    module.register_parameter(f"{name}_g", Parameter(length.data))
    module.register_parameter(f"{name}_v", Parameter(weight.data))
    setattr(module, name, hook.compute(module, True))
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Undo `weight_norm`; the weight keeps its present value."""
    return WeightNorm.undo(module, name, ("g", "v"))


class SpectralNorm(_Hook):
    """Computes a weight from ``weight_orig``, by power iteration with ``weight_u`` and ``weight_v``."""

    kind = "spectral_norm"

    def __init__(self, name: str, n_power_iterations: int, dim: int, eps: float) -> None:
        if n_power_iterations <= 0:
            raise ValueError(f"spectral_norm: n_power_iterations is 1 or more, not {n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def compute(self, module: Module, training: bool) -> Any:
        """Give the weight; in training after further steps of the iteration."""
        weight, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        matrix = as_matrix(weight, self.dim)
        if training:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.data = unit(matrix.mT @ u, self.eps).data
                    u.data = unit(matrix @ v, self.eps).data
        return weight / matrix.__array_namespace__().vecdot(u.detach(), matrix @ v.detach())


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Module:
    """Divide a weight by its largest singular value: the older form of `parametrizations.spectral_norm`.

    Parameters
    ----------
    module : Module
        The layer. It gets the parameter ``weight_orig`` and the buffers ``weight_u`` and ``weight_v``.
    name : str
        Of the parameter.
    n_power_iterations : int
        Steps of the iteration at each call in training.
    eps : float
        A smallest length, against division by zero.
    dim : int, optional
        The axis of the rows, by default that of the outputs.

    Returns
    -------
    Module
        ``module``, changed.
    """
    weight = SpectralNorm.check_new(module, name)
    hook = SpectralNorm(name, n_power_iterations, output_axis(module) if dim is None else dim, eps)
    sizes = as_matrix(weight.detach(), hook.dim).shape
    delattr(module, name)
    module.register_parameter(f"{name}_orig", weight)
    setattr(module, name, weight.detach())
    for part, size in zip("uv", sizes, strict=True):
        module.register_buffer(f"{name}_{part}", Buffer(random_unit(size, weight, eps)))
    module.register_forward_pre_hook(hook)

    def version(module: Module, state_dict: Any, prefix: str, local_metadata: dict[str, Any]) -> None:
        local_metadata.setdefault("spectral_norm", {})[f"{name}.version"] = 1  # PyTorch asks for it

    module._register_state_dict_hook(version)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Undo `spectral_norm`; the weight keeps its present value."""
    return SpectralNorm.undo(module, name, ("orig", "u", "v"))
