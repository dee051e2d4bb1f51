"""PyTorch, through array_api_compat. Its own autograd is left alone: tensors that require grad are refused by torch's operations
on views, not by this package."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp
import torch

from agnostic_ad.backends.base import Backend


class TorchBackend(Backend):
    """Tensors on any device of PyTorch."""

    checks_bounds = True

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is a tensor."""
        return isinstance(x, torch.Tensor)

    def version(self) -> str:
        """Give torch's version."""
        return str(torch.__version__)

    def devices(self) -> list[str]:
        """Give "cpu" and the CUDA devices."""
        return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]

    def own(self, x: Any) -> Any:
        """Copy, contiguously."""
        return x.detach().clone(memory_format=torch.contiguous_format)

    def to_numpy(self, x: Any) -> Any:
        """Copy to the host where needed."""
        return x.detach().resolve_conj().resolve_neg().cpu().numpy()

    def from_numpy(self, x: Any, device: Any = None) -> Any:
        """Give a tensor with its own memory."""
        return torch.as_tensor(x.copy(), device=device)

    def to_device(self, x: Any, device: Any) -> Any:
        """Move."""
        return x.to(device)

    def synchronize(self) -> None:
        """Wait for the CUDA device, where there is one."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def complex_of(self, dtype: Any) -> Any:
        """Give the complex dtype of the same precision."""
        return dtype.to_complex()

    def real_of(self, dtype: Any) -> Any:
        """Give the real dtype of the same precision."""
        return dtype.to_real()

    def scatter_add(self, values: Any, indices: Any, /, *, size: int, axis: int = 0) -> Any:
        """Sum slices by index with ``index_add_``."""
        shape = list(values.shape)
        shape[axis] = size
        return torch.zeros(shape, dtype=values.dtype, device=values.device).index_add_(axis, self.wrap(indices, size), values)


_INSTANCE = TorchBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
