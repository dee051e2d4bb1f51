"""CuPy, through array_api_compat."""

from __future__ import annotations

import operator
from typing import Any

import array_api_compat.cupy as xp
import cupy as cp

from agnostic_ad.backends import scipy
from agnostic_ad.backends.base import Backend, NumpyLike
from agnostic_ad.backends.numpy import make as numpy_backend


class CupyBackend(NumpyLike):
    """Arrays on an NVIDIA (or ROCm) GPU."""

    tells_views = True
    operators = {
        "add": operator.add,
        "subtract": operator.sub,
        "multiply": operator.mul,
        "divide": operator.truediv,
        "pow": operator.pow,
        "negative": operator.neg,
        "matmul": operator.matmul,
    }

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is a CuPy array."""
        return isinstance(x, cp.ndarray)

    def version(self) -> str:
        """Give cupy's version."""
        return str(cp.__version__)

    def devices(self) -> list[str]:
        """Give the CUDA devices."""
        return [f"cuda:{i}" for i in range(cp.cuda.runtime.getDeviceCount())]

    def complex_dtypes(self) -> Any:
        """Give NumPy's dtype objects, which CuPy arrays carry."""
        return numpy_backend().complex_dtypes()

    def dtype(self, name: Any) -> Any:
        """Give a ``np.dtype``."""
        return cp.dtype(name)

    def complex_of(self, dtype: Any) -> Any:
        """Give the complex dtype of the same precision."""
        return numpy_backend().complex_of(dtype)

    def real_of(self, dtype: Any) -> Any:
        """Give the real dtype of the same precision."""
        return numpy_backend().real_of(dtype)

    def parse_device(self, device: Any) -> Any:
        """Give a ``cupy.cuda.Device`` for names such as "cuda" or "cuda:1"."""
        if not isinstance(device, str):
            return device
        platform, _, index = device.partition(":")
        if platform != "cuda":
            raise ValueError(f"cupy has no device {device!r}, only 'cuda' and 'cuda:N'")
        return cp.cuda.Device(int(index or 0))

    def extension(self, name: str) -> Any:
        """Give ``cupyx.scipy.special``, and the standard's extensions."""
        if name != "special":
            return super().extension(name)
        import cupyx.scipy.special

        return scipy.Special(cupyx.scipy.special)

    def from_numpy(self, x: Any, device: Any = None) -> Any:
        """Copy to the device."""
        place = self.parse_device(device)
        if place is None:
            return cp.asarray(x)
        with place:
            return cp.asarray(x)

    def to_device(self, x: Any, device: Any) -> Any:
        """Move."""
        with self.parse_device(device):
            return cp.asarray(x)

    def to_numpy(self, x: Any) -> Any:
        """Copy to the host."""
        return cp.asnumpy(x)

    def sharers(self, x: Any) -> int:
        """Count none: a view refers to the array that owns its memory."""
        return 0

    def own(self, x: Any) -> Any:
        """Copy."""
        return x.copy()

    def synchronize(self) -> None:
        """Wait for the current device."""
        cp.cuda.Device().synchronize()

    def scatter_add(self, values: Any, indices: Any, /, *, size: int, axis: int = 0) -> Any:
        """Sum slices by index, with atomic additions (float16 and complex go through real parts of a wider type)."""
        import cupyx

        values = cp.moveaxis(values, axis, 0)
        shape = (size, *values.shape[1:])
        if values.dtype.kind == "c":
            parts = [self.scatter_add(part, indices, size=size) for part in (values.real, values.imag)]
            out = parts[0] + 1j * parts[1]
        elif values.dtype.itemsize < 4:
            out = self.scatter_add(values.astype(cp.float32), indices, size=size).astype(values.dtype)
        else:
            out = cp.zeros(shape, values.dtype)
            cupyx.scatter_add(out, indices, values)
        return cp.moveaxis(out, 0, axis)


_INSTANCE = CupyBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
