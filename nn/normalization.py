"""Normalization layers."""

from __future__ import annotations

import warnings
from typing import Any

from agnostic_ad.config import place
from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn.functional.normalization import across_channels
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Buffer, assign, new_parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CrossMapLRN2d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class _Affine(Module):
    """A weight of ones and a bias of zeros, or the places for them."""

    weight: Any
    bias: Any

    def _make_affine(self, shape: tuple[int, ...], weight: bool, bias: bool, xp: Any, dtype: Any, device: Any) -> None:
        self.register_parameter("weight", new_parameter(shape, xp, dtype, device) if weight else None)
        self.register_parameter("bias", new_parameter(shape, xp, dtype, device) if weight and bias else None)

    def reset_parameters(self) -> None:
        """Make weights one and biases zero."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class _NormBase(_Affine):
    """What batch and instance normalization share."""

    _version = 2
    axes: int
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        xp: Any = None,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._make_affine((num_features,), affine, bias, xp, dtype, device)
        where = place(xp, dtype, device)
        assert where.backend is not None
        make = where.backend.xp
        for name, shape, kind in (
            ("running_mean", (num_features,), where.dtype),
            ("running_var", (num_features,), where.dtype),
            ("num_batches_tracked", (), where.backend.default("integral")),
        ):
            self.register_buffer(name, Buffer(make.zeros(shape, dtype=kind, device=where.device)) if track_running_stats else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Make weights one and biases zero, and forget all batches."""
        self.reset_running_stats()
        super().reset_parameters()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *rest: Any) -> None:
        if local_metadata.get("version", 0) < 2 and self.track_running_stats:  # states had no counter yet
            state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def extra_repr(self) -> str:
        """Give the sizes and settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )

    def _check_input_dim(self, input: Any, wanted: tuple[int, ...]) -> None:
        if len(input.shape) not in wanted:
            raise ValueError(
                f"{type(self).__name__}: expected {' or '.join(f'{n}D' for n in wanted)} input (got {len(input.shape)}D input of shape "
                f"{tuple(input.shape)})"
            )


class _BatchNorm(_NormBase):
    def forward(self, input: Any) -> Any:
        """Standardize; in training, let the running statistics follow."""
        self._check_input_dim(input, (2, 3) if self.axes == 1 else (self.axes + 2,))
        momentum = 0.0 if self.momentum is None else self.momentum
        tracks = self.training and self.track_running_stats
        if tracks and self.num_batches_tracked is not None:
            if self.num_batches_tracked.payload is None:  # a graph is being captured
                self.num_batches_tracked += 1
            else:
                assign(self.num_batches_tracked, self.num_batches_tracked.payload + 1)
            if self.momentum is None:
                momentum = 1.0 / int(self.num_batches_tracked)
        mean, var = (self.running_mean, self.running_var) if tracks or not self.training else (None, None)
        training = self.training or (self.running_mean is None and self.running_var is None)
        return F.batch_norm(input, mean, var, self.weight, self.bias, training, momentum, self.eps)


class BatchNorm1d(_BatchNorm):
    """Standardize each channel of (N, C) or (N, C, L) over the batch; the arguments are those of `BatchNorm2d`."""

    axes = 1


class BatchNorm2d(_BatchNorm):
    """Standardize each channel of images of shape (N, C, H, W) over the batch.

    Inside ``ad.grad`` and other transformations of functions the running statistics follow, too, with the values underneath. They cannot
    inside ``ad.vmap``, where one layer sees many batches at once: an error says so.

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        What is added to the variance.
    momentum : float or None
        The share of a batch in the running statistics; None for the plain mean over all batches.
    affine : bool
        Whether to have a weight and a bias.
    track_running_stats : bool
        Whether to keep running statistics, which take the batch's place in evaluation mode.
    bias : bool
        Whether ``affine`` means a bias, too.
    device, dtype, xp
        Where parameters and buffers live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight, bias : Parameter or None
        Shape (C,), of ones and zeros.
    running_mean, running_var : Buffer or None
        Shape (C,), of zeros and ones.
    num_batches_tracked : Buffer or None
        An integer, shape ().

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.BatchNorm2d(1)
    >>> y = layer(np.asarray([0.0, 1.0, 2.0, 3.0], dtype="float32").reshape(1, 1, 2, 2))
    >>> layer.running_mean.data, layer.num_batches_tracked.data
    (array([0.15], dtype=float32), array(1))
    """

    axes = 2


class BatchNorm3d(_BatchNorm):
    """Standardize each channel of (N, C, D, H, W) over the batch; the arguments are those of `BatchNorm2d`."""

    axes = 3


class _InstanceNorm(_NormBase):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        xp: Any = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias, xp=xp)

    def forward(self, input: Any) -> Any:
        """Standardize; in training, let the running statistics follow, if they are kept."""
        plain = self.axes + 1
        self._check_input_dim(input, (plain, plain + 1))
        shape = tuple(input.shape)
        channels = shape[-plain]
        if channels != self.num_features:
            said = f"{type(self).__name__}: an input of shape {shape} has {channels} channels, not num_features={self.num_features}"
            if self.affine or self.track_running_stats:
                raise ValueError(said)
            warnings.warn(f"{said}; which is not used, for affine=False", stacklevel=2)
        single = len(shape) == plain
        x = input[None, ...] if single else input
        uses_own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        y = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, uses_own, momentum, self.eps)
        return y[0, ...] if single else y


class InstanceNorm1d(_InstanceNorm):
    """Standardize each channel of each instance of (N, C, L) or (C, L); the arguments are those of `InstanceNorm2d`."""

    axes = 1


class InstanceNorm2d(_InstanceNorm):
    """Standardize each channel of each image of shape (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    num_features : int
        C.
    eps : float
        What is added to the variance.
    momentum : float or None
        The share of a batch in the running statistics, if they are kept.
    affine : bool
        Whether to have a weight and a bias.
    track_running_stats : bool
        Whether to keep running statistics, which take the images' place in evaluation mode.
    bias : bool
        Whether ``affine`` means a bias, too.
    device, dtype, xp
        Where parameters and buffers live; by default as `agnostic_ad.defaults` says.
    """

    axes = 2


class InstanceNorm3d(_InstanceNorm):
    """Standardize each channel of each instance of (N, C, D, H, W) or (C, D, H, W); the arguments are those of `InstanceNorm2d`."""

    axes = 3


class GroupNorm(_Affine):
    """Standardize groups of channels of each instance of (N, C) or (N, C, ...).

    Parameters
    ----------
    num_groups, num_channels : int
        The first divides the second.
    eps : float
        What is added to the variance.
    affine, bias : bool
        Whether to have a weight, and a bias with it, of shape (C,).
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        xp: Any = None,
    ) -> None:
        super().__init__()
        if num_groups <= 0 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._make_affine((num_channels,), affine, bias, xp, dtype, device)
        self.reset_parameters()

    def forward(self, input: Any) -> Any:
        """Standardize."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Give the sizes and settings."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


def _sizes(normalized_shape: Any) -> tuple[int, ...]:
    return tuple(normalized_shape) if hasattr(normalized_shape, "__iter__") else (int(normalized_shape),)


class LayerNorm(_Affine):
    """Standardize over the last axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last axes.
    eps : float
        What is added to the variance.
    elementwise_affine, bias : bool
        Whether to have a weight, and a bias with it, of that shape.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.LayerNorm(3)(np.ones((2, 3), dtype="float32")).shape
    (2, 3)
    """

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps, self.elementwise_affine = _sizes(normalized_shape), eps, elementwise_affine
        self._make_affine(self.normalized_shape, elementwise_affine, bias, xp, dtype, device)
        self.reset_parameters()

    def forward(self, input: Any) -> Any:
        """Standardize."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Give the sizes and settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"


class RMSNorm(Module):
    """Divide by the root of the mean square over the last axes.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the last axes.
    eps : float, optional
        What is added to the mean square; by default the distance from 1 to the input dtype's next number.
    elementwise_affine : bool
        Whether to have a weight of that shape.
    device, dtype, xp
        Where the parameter lives; by default as `agnostic_ad.defaults` says.
    """

    weight: Any

    def __init__(
        self,
        normalized_shape: Any,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps, self.elementwise_affine = _sizes(normalized_shape), eps, elementwise_affine
        self.register_parameter("weight", new_parameter(self.normalized_shape, xp, dtype, device) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make the weight one."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Any) -> Any:
        """Divide."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Give the sizes and settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """Divide by a power of the mean square of neighbouring channels of (N, C, ...): ``x / (k + alpha * mean) ** beta``.

    Parameters
    ----------
    size : int
        How many channels count as neighbours, the channel itself included.
    alpha, beta, k : float
        The constants of the formula.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Any) -> Any:
        """Divide."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """Give the constants."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """Compute `LocalResponseNorm` of images of shape (N, C, H, W), as Torch 7 did: for even sizes, with as many neighbours on either side.

    PyTorch's own differs from this: there the first channel stays in the sums of all later ones.

    Parameters
    ----------
    size : int
        How many channels count as neighbours, the channel itself included.
    alpha, beta, k : float
        The constants of the formula.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, input: Any) -> Any:
        """Divide."""
        if len(input.shape) != 4:
            raise ValueError(f"CrossMapLRN2d: expected 4D input (got {len(input.shape)}D input of shape {tuple(input.shape)})")
        side = (self.size + 1) // 2 - 1
        return across_channels("CrossMapLRN2d", input, self.size, side, side, self.alpha, self.beta, self.k)
