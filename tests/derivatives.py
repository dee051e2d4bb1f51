"""Derivatives by differences, and what the tests of the transformations compare with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

STEP = 1e-3
# Fourth-order central differences in float64 with this step are off by about 1e-12 times the fifth derivative, and by 1e-13 for
# rounding: the comparisons below ask for 1e-8.
_WEIGHTS = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))
RTOL = ATOL = 1e-8


def jacobian(f: Callable[[Any], Any], x: Any) -> Any:
    """The real Jacobian of ``f`` at ``x`` by differences, of shape ``f(x).shape + x.shape``."""
    x = np.asarray(x, dtype=np.float64)
    columns = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = STEP
        step = step.reshape(x.shape)
        columns.append(sum(w * np.asarray(f(x + k * step)) for k, w in _WEIGHTS) / (12 * STEP))
    shape = np.asarray(f(x)).shape
    return np.stack(columns, axis=-1).reshape((*shape, *x.shape)) if columns else np.zeros((*shape, *x.shape))


def derivative(f: Callable[[float], Any], x: float) -> Any:
    """The derivative of ``f`` at a number."""
    return sum(w * np.asarray(f(x + k * STEP)) for k, w in _WEIGHTS) / (12 * STEP)


def assert_close(got: Any, want: Any, rtol: float = RTOL, atol: float = ATOL) -> None:
    """Assert that an array (raw, of any library that NumPy can read) has the shape of ``want`` and is close to it."""
    if hasattr(got, "detach"):
        got = got.detach().numpy()
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def assert_exact(got: Any, want: Any) -> None:
    """Assert that an array agrees to rounding."""
    assert_close(got, want, rtol=1e-14, atol=1e-14)


def kind(x: Any) -> str:
    """``library.dtype`` of a raw array, such as ``numpy.float32``."""
    return f"{type(x).__module__.partition('.')[0]}.{str(x.dtype).rpartition('.')[2]}"
