"""PyTorch, through array_api_compat. Its own autograd is left alone."""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp
import torch

from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.keys import has_negative_step
from agnostic_ad.backends.torch_nn import TorchNeural


class TorchBackend(TorchNeural):
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

    def alone(self, x: Any) -> bool:
        """Tell whether no other tensor shares the storage of ``x``."""
        return x._base is None and torch._C._storage_Use_Count(x.untyped_storage()._cdata) <= 2

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

    def getitem(self, x: Any, /, key: Any) -> Any:
        """Give ``x[key]``."""
        return super().getitem(x, key) if has_negative_step(key) else x[key]

    def setitem(self, x: Any, value: Any, /, key: Any) -> Any:
        """Give a copy with the change."""
        if has_negative_step(key):
            return super().setitem(x, value, key)
        out = self.own(x)
        out[key] = value
        return out

    def add_into(self, buffer: Any, value: Any, key: Any) -> Any:
        """Add in place."""
        if has_negative_step(key):
            return super().add_into(buffer, value, key)
        buffer[key] += value
        return buffer

    def take_along_axis(self, x: Any, indices: Any, /, *, axis: int = -1) -> Any:
        """Take; torch's own function knows one dtype of indices."""
        return xp.take_along_axis(x, indices.long(), axis=axis)

    def count_nonzero(self, x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        """Count; torch's own function takes no axes for all."""
        return xp.sum(x != 0, axis=axis, keepdims=keepdims, dtype=torch.int64)

    def searchsorted(self, x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
        """Search; torch warns where it has to make its operands contiguous itself."""
        order = None if sorter is None else sorter.contiguous()
        return xp.searchsorted(x1.contiguous(), x2.contiguous(), side=side, sorter=order)


_INSTANCE = TorchBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
