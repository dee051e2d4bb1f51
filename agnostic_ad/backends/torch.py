"""PyTorch, through array_api_compat. Its own autograd is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.torch as xp
import torch

from agnostic_ad.backends import scipy
from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.keys import has_negative_step
from agnostic_ad.backends.torch_nn import TorchNeural


def _transform(name: str) -> Callable[..., Any]:
    """Give a Fourier transform that takes tensors without elements too, which PyTorch's own refuses."""
    function = getattr(xp.fft, name)

    def transform(self: TorchBackend, x: Any, /, **how: Any) -> Any:
        if x.numel():
            return function(x, **how)
        y = function(x.new_zeros([n or 1 for n in x.shape]), **how)
        return y[tuple(slice(None if n else 0) for n in x.shape)]

    return transform


# Not bessel_j0 and bessel_j1, which are off by up to 5e-7 beyond 5 in double precision; SciPy's, on the host, are right.
_BESSEL = {"k0": "modified_bessel_k0", "k1": "modified_bessel_k1"}
_SPECIAL = scipy.Special(torch.special, _BESSEL)


class TorchBackend(TorchNeural):
    """Tensors on any device of PyTorch."""

    fft_fft, fft_ifft, fft_rfft, fft_irfft, fft_hfft, fft_ihfft = map(_transform, ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft"))
    fft_fftn, fft_ifftn, fft_rfftn, fft_irfftn = map(_transform, ("fftn", "ifftn", "rfftn", "irfftn"))

    checks_bounds = True
    replaced = frozenset({"unique_all", "unique_counts", "unique_inverse", "unique_values"})  # no indices, nor complex numbers

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is a tensor."""
        return isinstance(x, torch.Tensor)

    def version(self) -> str:
        """Give torch's version."""
        return str(torch.__version__)

    def devices(self) -> list[str]:
        """Give "cpu" and the CUDA devices."""
        return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]

    def sharers(self, x: Any) -> int:
        """Count what refers to the storage."""
        return int(torch._C._storage_Use_Count(x.untyped_storage()._cdata))

    def own(self, x: Any) -> Any:
        """Copy, contiguously."""
        return x.detach().clone(memory_format=torch.contiguous_format)

    def to_numpy(self, x: Any) -> Any:
        """Copy to the host where needed."""
        return x.detach().resolve_conj().resolve_neg().cpu().numpy()

    def from_numpy(self, x: Any, device: Any = None) -> Any:
        """Give a tensor with its own memory."""
        return torch.as_tensor(x.copy(), device=device)

    def from_scipy(self, name: str, *args: Any) -> Any:
        """Compute on the host; NumPy has no bfloat16."""
        short = [isinstance(a, torch.Tensor) and a.dtype == torch.bfloat16 for a in args]
        y = super().from_scipy(name, *(a.float() if is_short else a for a, is_short in zip(args, short, strict=True)))
        floats = (a.is_floating_point() for a in args if isinstance(a, torch.Tensor))
        return y.bfloat16() if any(short) and sum(floats) == sum(short) else y

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

    def std(self, x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
        """Standard deviation; array_api_compat says 0 over no axes, of NaN too, and refuses fractions to correct by."""
        if axis == ():
            return torch.std(x[..., None], dim=-1, correction=correction)
        return torch.std(x, dim=axis, correction=correction, keepdim=keepdims)

    def var(self, x: Any, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
        """Variance, likewise."""
        return (
            xp.var(x[..., None], axis=-1, correction=correction)
            if axis == ()
            else xp.var(x, axis=axis, correction=correction, keepdims=keepdims)
        )

    def count_nonzero(self, x: Any, /, *, axis: Any = None, keepdims: bool = False) -> Any:
        """Count; torch's own function takes no axes for all."""
        return xp.sum(x != 0, axis=axis, keepdims=keepdims, dtype=torch.int64)

    def searchsorted(self, x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
        """Search; torch warns where it has to make its operands contiguous itself."""
        order = None if sorter is None else sorter.contiguous()
        return xp.searchsorted(x1.contiguous(), x2.contiguous(), side=side, sorter=order)

    def extension(self, name: str) -> Any:
        """Give ``torch.special`` under SciPy's names, and the standard's extensions."""
        return _SPECIAL if name == "special" else super().extension(name)

    def linalg_vector_norm(self, x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
        """Give the norm; array_api_compat cannot take it over no axes where there are none."""
        if axis == ():
            return xp.linalg.vector_norm(x[..., None], axis=-1, ord=ord)
        return xp.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)


_INSTANCE = TorchBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
