"""PyTorch, through array_api_compat. Its own autograd is left alone: tensors that require grad are refused by torch's operations
on views, not by this package.
"""

from __future__ import annotations

from typing import Any

import array_api_compat.torch as xp
import torch

from agnostic_ad.backends.base import Backend
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
        """Give ``x[key]``; where a step is negative, flipped."""
        forward, flipped = _forward(key, x.shape)
        return torch.flip(x[forward], flipped) if flipped else x[key]

    def setitem(self, x: Any, value: Any, /, key: Any) -> Any:
        """Give a copy with the change."""
        forward, flipped = _forward(key, x.shape)
        if flipped:
            value = torch.flip(value.expand(x[forward].shape), flipped)
        out = self.own(x)
        out[forward] = value
        return out

    def add_into(self, buffer: Any, value: Any, key: Any) -> Any:
        """Add in place."""
        forward, flipped = _forward(key, buffer.shape)
        buffer[forward] += torch.flip(value, flipped) if flipped else value
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


def _forward(key: Any, shape: Any) -> tuple[tuple[Any, ...], list[int]]:
    """Give a basic key without negative steps, and the axes of the result to flip for them."""
    if not any(isinstance(k, slice) and k.step is not None and k.step < 0 for k in key):
        return key, []
    used = sum(k is not None and k is not Ellipsis for k in key)
    sizes = iter(shape)
    out: list[Any] = []
    flipped: list[int] = []
    place = 0
    for k in key:
        if k is Ellipsis:
            skipped = [next(sizes) for _ in range(len(shape) - used)]
            place += len(skipped)
            out.append(k)
            continue
        size = None if k is None else next(sizes)
        if isinstance(k, slice) and k.step is not None and k.step < 0:
            steps = range(*k.indices(size))  # type: ignore[arg-type]
            k = slice(steps[-1], steps[0] + 1, -k.step) if steps else slice(0, 0)
            flipped.append(place)
        out.append(k)
        place += k is None or isinstance(k, slice)
    return tuple(out), flipped


_INSTANCE = TorchBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
