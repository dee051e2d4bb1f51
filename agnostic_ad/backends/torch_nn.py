"""PyTorch's own forms of the operations of neural networks."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.nn import grad

from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.windows import Convolution


class TorchNeural(Backend):
    """The methods ``nn_*`` of the PyTorch backend.

    What PyTorch does not offer (padding before and after by different numbers, complex numbers) goes to the general forms.
    """

    def nn_conv(self, x: Any, weight: Any, bias: Any = None, *, how: Convolution) -> Any:
        """Convolve."""
        options = _options(how, x, weight)
        if options is None:
            return self.fallbacks["nn.conv"](self, x, weight, bias, how=how)
        return (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3](x, weight, bias, **options)

    def nn_conv_input(self, y: Any, weight: Any, *, size: Any, how: Convolution) -> Any:
        """Give the derivative with respect to the input."""
        options = _options(how, y, weight)
        if options is None:
            return self.fallbacks["nn.conv_input"](self, y, weight, size=size, how=how)
        shape = (y.shape[0], weight.shape[1] * how.groups, *size)
        return (grad.conv1d_input, grad.conv2d_input, grad.conv3d_input)[y.ndim - 3](shape, weight, y, **options)

    def nn_conv_weight(self, x: Any, y: Any, *, kernel: Any, how: Convolution) -> Any:
        """Give the derivative with respect to the weight."""
        options = _options(how, x, y)
        if options is None:
            return self.fallbacks["nn.conv_weight"](self, x, y, kernel=kernel, how=how)
        shape = (y.shape[1], x.shape[1] // how.groups, *kernel)
        return (grad.conv1d_weight, grad.conv2d_weight, grad.conv3d_weight)[x.ndim - 3](x, shape, y, **options)

    def nn_relu(self, x: Any) -> Any:
        """Give max(x, 0)."""
        return torch.relu(x)

    def nn_silu(self, x: Any) -> Any:
        """Give x sigmoid(x)."""
        return F.silu(x)

    def nn_silu_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Give its derivative, times a factor."""
        return torch.ops.aten.silu_backward(ct, x)

    def nn_gelu(self, x: Any) -> Any:
        """Give x times the normal distribution function."""
        return F.gelu(x)

    def nn_gelu_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Give its derivative, times a factor."""
        return torch.ops.aten.gelu_backward(*_alike(ct, x))

    def nn_gelu_tanh(self, x: Any) -> Any:
        """Give the quicker function that is near it."""
        return F.gelu(x, approximate="tanh")

    def nn_gelu_tanh_pull(self, ct: Any, x: Any, y: Any = None) -> Any:
        """Give its derivative, times a factor."""
        return torch.ops.aten.gelu_backward(*_alike(ct, x), approximate="tanh")


def _alike(ct: Any, x: Any) -> tuple[Any, Any]:
    """Give operands of one shape: oneDNN broadcasts nothing."""
    return (ct, x) if ct.shape == x.shape else tuple(each.contiguous() for each in torch.broadcast_tensors(ct, x))


def _options(how: Convolution, *operands: Any) -> dict[str, Any] | None:
    """Give PyTorch's arguments, or None where it cannot do it."""
    if len(how.stride) > 3 or any(a != b for a, b in how.padding) or not all(x.is_floating_point() for x in operands):
        return None
    return {"stride": how.stride, "padding": tuple(a for a, _ in how.padding), "dilation": how.dilation, "groups": how.groups}
