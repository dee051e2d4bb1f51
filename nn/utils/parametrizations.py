"""Parametrizations that are often wanted: weights that are orthogonal, of spectral norm one, or of a length and a direction."""

from __future__ import annotations

from typing import Any

import numpy as np

from agnostic_ad import Variable, no_grad
from agnostic_ad import random as ad_random
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.nn import init
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Buffer
from agnostic_ad.nn.utils.orthogonal import MAPS, adjoint, complete, reflectors
from agnostic_ad.nn.utils.parametrize import register_parametrization

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


# --- what the older hooks share with these ------------------------------------------------------------------------------------------------
def lengths(x: Any, dim: int | None) -> Any:
    """Give the norms over all axes but one, with axes of size 1; for None (or -1, as PyTorch says it) one norm of no axes."""
    xp = unify([x])[0]
    if dim is None or dim == -1:
        return xp.linalg.vector_norm(x)
    return xp.linalg.vector_norm(x, axis=tuple(i for i in range(len(x.shape)) if i != dim % len(x.shape)), keepdims=True)


def directed(g: Any, v: Any, dim: int | None) -> Any:
    """Give vectors of length ``g`` in the direction of ``v``."""
    return v * (g / lengths(v, dim))


def unit(x: Any, eps: float) -> Any:
    """Give a vector of length 1."""
    xp = unify([x])[0]
    return x / xp.clip(xp.linalg.vector_norm(x), min=eps)


def as_matrix(weight: Any, dim: int) -> Any:
    """Give a weight as a matrix whose rows belong to one axis."""
    xp = unify([weight])[0]
    return xp.reshape(xp.moveaxis(weight, dim, 0), (weight.shape[dim], -1))


def random_unit(size: int, like: Any, eps: float) -> Any:
    """Give a random raw vector of length 1, in the library and dtype of a parameter."""
    drawn = init.normal_(Variable(like.backend.xp.zeros((size,), dtype=like.dtype, device=device_of(like)), requires_grad=False))
    return unit(drawn.data, eps)


def output_axis(module: Module) -> int:
    """Give the axis of a layer's weight that belongs to its outputs."""
    return 1 if getattr(module, "transposed", False) or type(module).__name__.startswith(("ConvTranspose", "LazyConvTranspose")) else 0


# --- length and direction -----------------------------------------------------------------------------------------------------------------
class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        return directed(weight_g, weight_v, self.dim)

    def right_inverse(self, weight: Any) -> Any:
        return lengths(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train the length and the direction of weights apart (Salimans and Kingma, 2016).

    Parameters
    ----------
    module : Module
        The layer.
    name : str
        Of the parameter. In the state it becomes ``parametrizations.weight.original0``, the lengths, and ``original1``, the directions; the
        older names ``weight_g`` and ``weight_v`` are read, too.
    dim : int or None
        The axis whose entries have a length each, or None for one length.

    Returns
    -------
    Module
        ``module``, changed.
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def read_older_names(state_dict: Any, prefix: str, *_: Any) -> None:
        old = [f"{prefix}{name}_{part}" for part in "gv"]
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(read_older_names)
    return module


# --- spectral norm ------------------------------------------------------------------------------------------------------------------------
class _SpectralNorm(Module):
    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(f"spectral_norm: there is no axis {dim} in a weight of shape {weight.shape}")
        if n_power_iterations <= 0:
            raise ValueError(f"spectral_norm: n_power_iterations is 1 or more, not {n_power_iterations}")
        self.dim, self.eps, self.n_power_iterations = dim % weight.ndim, eps, n_power_iterations
        if weight.ndim > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            self._u, self._v = (Buffer(random_unit(n, weight, eps)) for n in matrix.shape)
            self._iterate(matrix, 15)

    def _iterate(self, matrix: Any, times: int) -> None:
        with no_grad():
            for _ in range(times):
                self._u.data = unit(matrix @ self._v, self.eps).data
                self._v.data = unit(adjoint(matrix) @ self._u, self.eps).data

    def forward(self, weight: Any) -> Any:
        if len(weight.shape) == 1:
            return unit(weight, self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        u, v = self._u.detach(), self._v.detach()
        return weight / unify([matrix])[0].vecdot(u, matrix @ v)

    def right_inverse(self, value: Any) -> Any:
        return value  # if it has the norm already, nothing changes


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None) -> Module:
    """Divide a weight by its largest singular value (Miyato et al., 2018), found by power iteration.

    Parameters
    ----------
    module : Module
        The layer. In training, each time that the weight is read the iteration goes on.
    name : str
        Of the parameter.
    n_power_iterations : int
        Steps of the iteration.
    eps : float
        A smallest length, against division by zero.
    dim : int, optional
        The axis of the rows, by default that of the outputs: 0, or 1 for transposed convolutions.

    Returns
    -------
    Module
        ``module``, changed.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.utils.parametrizations.spectral_norm(nn.Linear(20, 40))
    >>> bool(abs(np.linalg.norm(layer.weight.data, 2) - 1) < 0.05)
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Array):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {name!r}")
    axis = output_axis(module) if dim is None else dim
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, axis, eps))


# --- orthogonal weights -------------------------------------------------------------------------------------------------------------------
class _Orthogonal(Module):
    base: Any

    def __init__(self, weight: Any, orthogonal_map: str, *, use_trivialization: bool = True) -> None:
        super().__init__()
        if weight.dtype in COMPLEX and orthogonal_map == "householder":
            raise ValueError("orthogonal: the map 'householder' is of real matrices; for complex ones use 'matrix_exp' or 'cayley'")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Any) -> Any:
        xp = unify([x])[0]
        wide = x.shape[-2] < x.shape[-1]
        q = MAPS[self.orthogonal_map](xp.matrix_transpose(x) if wide else x)
        if "base" in self._buffers:
            q = xp.matmul(self.base, q)
        return xp.matrix_transpose(q) if wide else q

    def right_inverse(self, q: Any) -> Any:
        if q.shape != self.shape:
            raise ValueError(f"orthogonal: a matrix or stack of matrices of shape {self.shape} is wanted, not {q.shape}")
        backend, place = q.backend, device_of(q)
        host = backend.to_numpy(q.data)
        wide = host.shape[-2] < host.shape[-1]
        tall = np.swapaxes(host, -1, -2) if wide else host
        n, k = tall.shape[-2:]
        if "base" in self._buffers:
            drawn = ad_random.default_generator.normal((*tall.shape[:-1], n - k)).astype(tall.dtype)
            self.base = Buffer(backend.from_numpy(np.ascontiguousarray(complete(tall, drawn)), place))
            made = np.zeros_like(host)
            rows = np.arange(k)
            made[..., rows, rows] = -1.0  # where the reflections along the axes, and their signs, cancel
        elif self.orthogonal_map != "householder":
            raise NotImplementedError(
                f"orthogonal: with use_trivialization=False, a weight made by {self.orthogonal_map!r} cannot be assigned to: "
                "that map is not inverted here"
            )
        else:
            made = np.swapaxes(reflectors(tall), -1, -2) if wide else reflectors(tall)
        return Variable(backend.from_numpy(np.ascontiguousarray(made), place), requires_grad=False)


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True) -> Module:
    """Keep the rows or columns of a weight, whichever are shorter, orthonormal.

    Parameters
    ----------
    module : Module
        The layer.
    name : str
        Of the parameter, of shape (..., n, k).
    orthogonal_map : {"matrix_exp", "cayley", "householder"}, optional
        How an orthogonal matrix is made from any: the exponential or the Cayley transform of a skew-symmetric one, or a product of reflections.
        By default the first for square and for complex matrices, else the last.
    use_trivialization : bool
        Whether the map starts from the weight as it is now, made orthogonal (Lezcano-Casado, 2019); this costs a further square matrix.

    Returns
    -------
    Module
        ``module``, changed.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.utils.parametrizations.orthogonal(nn.Linear(4, 3, dtype="float64"))
    >>> bool(np.allclose(layer.weight.data @ layer.weight.data.T, np.eye(3)))
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Array):
        raise ValueError(f"{type(module).__name__} has no parameter or buffer {name!r}")
    if weight.ndim < 2:
        raise ValueError(f"orthogonal: a matrix or a stack of matrices is wanted, not a parameter of shape {weight.shape}")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] or weight.dtype in COMPLEX else "householder"
    if orthogonal_map not in MAPS:
        raise ValueError(f"orthogonal_map is one of {', '.join(MAPS)}, not {orthogonal_map!r}")
    made = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)
