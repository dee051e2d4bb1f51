"""The protocols by which NumPy and CuPy hand their functions to arrays of other classes.

``np.sin(v)``, ``ndarray * v``, ``np.concatenate([v, w])``, ``np.add.reduce(v)``, ``cp.sin(v)`` and ``cp.sum(v)`` all look into one map, that of
`agnostic_ad.numpy_names`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.levels import Array
from agnostic_ad.numpy_names import NAMES, OPERATIONS, call
from agnostic_ad.op import TABLE
from agnostic_ad.rules import QUICK

__all__ = ["UFUNCS"]

UFUNCS = OPERATIONS
"""The operation behind each universal function of NumPy that is one."""
_OPERATIONS: dict[Any, str] = {getattr(np, name): operation for name, operation in OPERATIONS.items() if hasattr(np, name)}


# --- NumPy ------------------------------------------------------------------------------------------------------------------------------------
def _array_ufunc(self: Array, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Apply the function of the same name; NumPy calls this for its universal functions, and for ``ndarray * x``."""
    operation = _OPERATIONS.get(ufunc)
    if operation is not None and method == "__call__" and not kwargs:
        for x in inputs:
            if type(x) is list or type(x) is tuple:
                break
        else:
            return QUICK[operation](*inputs)
    name = ufunc.__name__
    if getattr(np, name, None) is not ufunc:
        return _foreign(self, ufunc, method, inputs, kwargs)
    if method == "__call__":
        return call(name, inputs, kwargs, self, ufunc)
    return call(f"{name}.{method}", inputs, kwargs, self, getattr(ufunc, method))


def _foreign(self: Array, ufunc: Any, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """Apply SciPy's special functions that are operations of the table; refuse others."""
    name = f"special.{ufunc.__name__}"
    special = sys.modules.get("scipy.special")
    if special is not None and getattr(special, ufunc.__name__, None) is ufunc and name in TABLE and method == "__call__" and not kwargs:
        return TABLE[name](*inputs)
    return call(f"ufunc {ufunc.__name__}", inputs, kwargs, self, getattr(ufunc, method))


@functools.cache
def _names() -> dict[Callable[..., Any], str]:
    """Map NumPy's functions to the names that the map knows them by."""
    found: dict[Any, str] = {}
    for path in NAMES:
        owner, _, name = path.rpartition(".")
        if owner in ("", "linalg", "fft"):
            function = getattr(getattr(np, owner) if owner else np, name, None)
            if function is not None:
                found.setdefault(function, path)
    return found


def _array_function(self: Array, func: Callable[..., Any], types: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Apply the function of the same name; NumPy calls this for its functions that are no universal ones."""
    if not all(issubclass(t, Array | np.ndarray | np.generic) for t in types):
        return NotImplemented
    name = _names().get(func)
    if name is None:
        name = f"{func.__module__}.{func.__name__}".removeprefix("numpy.")
    return call(name, args, kwargs, self, func)


# --- CuPy -------------------------------------------------------------------------------------------------------------------------------------
_NOT_NUMPY = {"cupy_is_close": "isclose", "cupy_is_close_complex": "isclose", "cupy_copy": "positive"}
"""CuPy's kernels that do not bear NumPy's name."""


def _kernel_name(kernel: Any) -> str:
    """Give NumPy's name for a kernel of CuPy, such as ``cupy_sin``."""
    name = str(kernel.name).removesuffix("_with_dtype")
    plain = _NOT_NUMPY.get(name, name.removeprefix("cupy_"))
    return plain if name.startswith("cupy_") and plain in NAMES else f"kernel {name}"


def _cupy_elementwise(self: Array, kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply the function of the same name; CuPy calls this for its universal functions and elementwise kernels."""
    given = dict(kwargs)
    if given.get("_where") is not None:
        given["where"] = given.pop("_where")
    return call(_kernel_name(kernel), args, {k: v for k, v in given.items() if v is not None}, self)


def _cupy_reduction(self: Array, kernel: Any, axis: Any, dtype: Any, out: Any, keepdims: bool) -> Any:
    """Apply the reduction of the same name; CuPy calls this for its simple reductions."""
    options = {"dtype": dtype, "out": out}
    return call(
        _kernel_name(kernel), (self,), {"axis": axis, "keepdims": keepdims, **{k: v for k, v in options.items() if v is not None}}, self
    )


Array.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Array.__array_function__ = _array_function  # type: ignore[attr-defined]
Array.__cupy_override_elementwise_kernel__ = _cupy_elementwise  # type: ignore[attr-defined]
Array.__cupy_override_reduction_kernel__ = _cupy_reduction  # type: ignore[attr-defined]
