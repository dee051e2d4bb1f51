"""JAX's own forms of the operations of neural networks."""

from __future__ import annotations

from typing import Any

from jax import lax

from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.windows import Convolution

_EXACT = lax.Precision.HIGHEST  # on some devices, less is the default


class JaxNeural(Backend):
    """The methods ``nn_*`` of the JAX backend."""

    def nn_conv(self, x: Any, weight: Any, bias: Any = None, *, how: Convolution) -> Any:
        """Convolve."""
        y = lax.conv_general_dilated(
            x, weight, how.stride, how.padding, None, how.dilation, feature_group_count=how.groups, precision=_EXACT
        )
        return y if bias is None else y + bias.reshape(-1, *(1,) * (y.ndim - 2))

    def nn_conv_input(self, y: Any, weight: Any, *, size: Any, how: Convolution) -> Any:
        """Convolve the cotangent, with zeros between its elements, with the flipped weight."""
        kernel, axes = weight.shape[2:], range(2, weight.ndim)
        turned = weight.reshape(how.groups, weight.shape[0] // how.groups, *weight.shape[1:]).swapaxes(1, 2)
        turned = lax.rev(turned.reshape(how.groups * weight.shape[1], -1, *kernel), axes)
        pads = []
        for n, o, k, s, d, (before, _) in zip(size, y.shape[2:], kernel, how.stride, how.dilation, how.padding, strict=True):
            reach = d * (k - 1)
            pads.append((reach - before, n - 1 - (o - 1) * s + before))
        one = (1,) * len(pads)
        return lax.conv_general_dilated(y, turned, one, pads, how.stride, how.dilation, feature_group_count=how.groups, precision=_EXACT)

    def nn_conv_weight(self, x: Any, y: Any, *, kernel: Any, how: Convolution) -> Any:
        """Convolve the input with the cotangent: images are channels here, and channels images."""
        pads = []
        for n, o, k, s, d, (before, _) in zip(x.shape[2:], y.shape[2:], kernel, how.stride, how.dilation, how.padding, strict=True):
            pads.append((before, d * (k - 1) + (o - 1) * s + 1 - n - before))
        found = lax.conv_general_dilated(
            x.swapaxes(0, 1), y.swapaxes(0, 1), how.dilation, pads, None, how.stride, batch_group_count=how.groups, precision=_EXACT
        )
        return found.swapaxes(0, 1)
