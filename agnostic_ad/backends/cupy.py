"""CuPy, through array_api_compat."""

from __future__ import annotations

import operator
from typing import Any

import array_api_compat.cupy as xp
import cupy as cp
import numpy as np

from agnostic_ad.backends import scipy
from agnostic_ad.backends.base import Backend, NumpyLike
from agnostic_ad.backends.numpy import make as numpy_backend


class Stager:
    """Copies NumPy arrays to a device through pinned memory and on a stream of its own, while what was asked for before goes on.

    Memory of the device belongs to the stream that is current, since there it will be freed: the copy waits until that stream has done what it was
    asked for so far, which may still use the memory; and that stream waits for the copy when the array is delivered.
    """

    def __init__(self, device: Any) -> None:
        self._device = cp.cuda.Device() if device is None else device
        with self._device:
            self._stream = cp.cuda.Stream(non_blocking=True)
        self._hosts: list[tuple[Any, Any]] = []  # pinned memory, until its copy is done

    def stage(self, x: Any) -> tuple[Any, Any]:
        """Begin to copy; give what `deliver` takes."""
        self._hosts = [(host, copied) for host, copied in self._hosts if not copied.done]
        with self._device:
            out = cp.empty(x.shape, x.dtype)
            if x.nbytes:
                host = np.frombuffer(cp.cuda.alloc_pinned_memory(x.nbytes), x.dtype, x.size).reshape(x.shape)
                host[...] = x
                self._stream.wait_event(cp.cuda.get_current_stream().record())
                out.set(host, stream=self._stream)
                copied = self._stream.record()
                self._hosts.append((host, copied))
            else:
                copied = self._stream.record()
        return out, copied

    def deliver(self, staged: tuple[Any, Any]) -> Any:
        """Give the array, for use on the current stream."""
        out, copied = staged
        with self._device:
            cp.cuda.get_current_stream().wait_event(copied)
        return out


class CupyBackend(NumpyLike):
    """Arrays on an NVIDIA (or ROCm) GPU."""

    tells_views = True
    executor = "cupy"
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

    def stager(self, device: Any = None) -> Stager:
        """Give what copies batches to the device ahead of time."""
        return Stager(self.parse_device(device))

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
