"""NumPy."""

from __future__ import annotations

import importlib
import importlib.util
import math
import operator
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from agnostic_ad.backends import scipy
from agnostic_ad.backends.base import Backend, NumpyLike, exact_log1p
from agnostic_ad.backends.numpy_activations import NumpyActivations
from agnostic_ad.backends.numpy_attention import NumpyAttention
from agnostic_ad.backends.numpy_losses import NumpyLosses
from agnostic_ad.backends.numpy_nn import NumpyNeural
from agnostic_ad.backends.numpy_normalization import NumpyNormalization
from agnostic_ad.backends.numpy_recurrent import NumpyRecurrent
from agnostic_ad.backends.numpy_rows import NumpyRows
from agnostic_ad.backends.numpy_windows import NumpyWindows


class NumpyBackend(
    NumpyActivations, NumpyAttention, NumpyLosses, NumpyNeural, NumpyNormalization, NumpyRecurrent, NumpyRows, NumpyWindows, NumpyLike
):
    """NumPy itself is a compliant namespace from version 2 on."""

    checks_bounds = True
    tells_views = True
    executor = "numpy"
    replaced = frozenset({"unique_values"})  # complex numbers in no order, where its sisters sort them

    log1p = exact_log1p

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
        """Tell whether ``x`` is a NumPy array or scalar (void and object scalars included: NumPy refuses those itself)."""
        return isinstance(x, np.ndarray | np.generic)

    def complex_dtypes(self) -> Iterable[Any]:
        """Give all complex dtypes, extended precision included."""
        return [np.dtype(np.complex64), np.dtype(np.complex128), np.dtype(np.clongdouble)]

    def dtype(self, name: Any) -> Any:
        """Give a ``np.dtype``."""
        try:
            return np.dtype(name)
        except TypeError:
            raise TypeError(f"numpy has no dtype {name!r}") from None

    def array(self, x: Any) -> Any:
        """Give a 0-d array for a NumPy scalar."""
        return np.asarray(x)

    def complex_of(self, dtype: Any) -> Any:
        """Give the complex dtype of the same precision."""
        return np.result_type(dtype, np.complex64)

    def real_of(self, dtype: Any) -> Any:
        """Give the real dtype of the same precision."""
        return np.empty((), dtype).real.dtype

    def number(self, x: complex) -> Any:
        """Give a NumPy scalar, with which NumPy computes in half the time of a 0-d array."""
        return np.complex128(x) if isinstance(x, complex) else np.float64(x)

    def one(self, shape: tuple[int, ...], dtype: Any, device: Callable[[], Any]) -> Any:
        """Give ones; a NumPy scalar in no dimensions."""
        return np.ones(shape, dtype) if shape else dtype.type(1)

    def extension(self, name: str) -> Any:
        """Give SciPy's special functions, where SciPy is installed, and NumPy's own extensions."""
        if name != "special":
            return super().extension(name)
        return scipy.Special(importlib.import_module("scipy.special")) if importlib.util.find_spec("scipy") else None

    def own(self, x: Any) -> Any:
        """Copy."""
        return np.array(x)

    def to_numpy(self, x: Any) -> Any:
        """Give ``x`` itself."""
        return np.asarray(x)

    def device(self, x: Any) -> Any:
        """Give "cpu"."""
        return "cpu"

    def to_device(self, x: Any, device: Any) -> Any:
        """Give ``x``; NumPy knows the CPU only."""
        if device not in ("cpu", None):
            raise ValueError(f"numpy has no device {device!r}, only 'cpu'")
        return x

    # --- NumPy's wrappers in Python cost more than the work on small arrays ----------------------------------------------
    def sum(self, x: Any, /, *, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Any:
        """Sum."""
        return np.add.reduce(x, axis=axis, dtype=dtype, keepdims=keepdims)  # type: ignore[call-overload]

    def reshape(self, x: Any, /, shape: Any, *, copy: bool | None = None) -> Any:
        """Reshape."""
        return x.reshape(shape) if copy is None else np.reshape(x, shape, copy=copy)

    def permute_dims(self, x: Any, /, axes: Any) -> Any:
        """Transpose."""
        return x.transpose(axes)

    def broadcast_to(self, x: Any, /, shape: Any) -> Any:
        """Broadcast; small results are copies, which take a fifth of the time."""
        if math.prod(shape) > 4096:
            return np.broadcast_to(x, shape)
        out = np.empty(shape, x.dtype)
        out[...] = x
        return out

    def astype(self, x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        """Convert."""
        return x.astype(dtype, copy=copy)

    def gather(self, x: Any, indices: Any, /, *, axis: int = 0) -> Any:
        """Take; negative indices are NumPy's own."""
        return x.take(indices, axis=axis)

    def sort(self, x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
        """Sort; NumPy's own function knows no ``descending``."""
        return (
            np.take_along_axis(x, self.argsort(x, axis=axis, descending=descending, stable=stable), axis)
            if descending
            else np.sort(x, axis=axis, stable=stable)
        )

    def argsort(self, x: Any, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
        """Sort indices; NumPy's own function knows no ``descending``."""
        kind: Any = "stable" if stable else None
        if not descending:
            return np.argsort(x, axis=axis, kind=kind)
        # equal elements keep their order: reverse, sort upwards, reverse
        order = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind=kind), axis)
        return x.shape[axis] - 1 - order

    def linalg_eig(self, x: Any, /) -> Any:
        """Decompose; the results are complex, where NumPy's own are real if there is no imaginary part."""
        return tuple(part.astype(self.complex_of(x.dtype), copy=False) for part in np.linalg.eig(x))

    def linalg_eigvals(self, x: Any, /) -> Any:
        """Give the eigenvalues, likewise."""
        return np.linalg.eigvals(x).astype(self.complex_of(x.dtype), copy=False)

    def linalg_pinv(self, x: Any, /, *, rtol: Any = None) -> Any:
        """Invert; NumPy's own default for ``rtol`` is not the standard's."""
        return np.linalg.pinv(x, rtol=rtol)

    def einsum(self, subscripts: str, /, *operands: Any) -> Any:
        """Contract; three operands and more in pairs."""
        return np.einsum(subscripts, *operands, optimize=len(operands) > 2)

    def put_rows(self, x: Any, indices: Any, value: Any, /) -> Any:
        """Write rows; of several for one index, the last stays."""
        out = np.array(x)
        out[indices] = value
        return out


_INSTANCE = NumpyBackend(np)
# glibc returns freed memory to the system beyond twice the largest block, up to 32 MiB, that it has seen freed. Fetching it again, page by page,
# was a tenth of a training step: so let it see one. Nothing is written there, so that it costs microseconds and no memory.
np.empty((1 << 25) - (1 << 13), np.uint8)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE


def use_numba(enabled: bool) -> None:
    """Compile passes over NumPy arrays, or not: the backend stays the same object."""
    if enabled:
        from agnostic_ad.backends.numba import NumbaBackend

        _INSTANCE.__class__ = NumbaBackend
    else:
        _INSTANCE.__class__ = NumpyBackend
    vars(_INSTANCE).pop("nn", None)  # it has looked functions up


if os.environ.get("AGNOSTIC_AD_NUMBA", "0") not in ("", "0"):
    use_numba(True)
