"""array-api-strict: the standard and nothing else. Everything beyond it runs through the general fallbacks."""

from __future__ import annotations

from typing import Any

import array_api_strict as xp
import numpy as np

from agnostic_ad.backends.base import Backend, exact_log1p


class StrictBackend(Backend):
    """Arrays of array-api-strict, on any of its three pretended devices."""

    checks_bounds = True

    replaced = frozenset({"linalg.matrix_rank"})  # which fails for matrices without elements
    mutable = False  # a rule's result may be a view; strict arrays hide that, so nothing is written into them

    log1p = exact_log1p

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is one of its arrays."""
        return type(x).__name__ == "Array"

    def parse_device(self, device: Any) -> Any:
        """Give a ``Device``; "cpu" is its first."""
        return xp.Device("CPU_DEVICE" if device.lower() == "cpu" else device) if isinstance(device, str) else device

    def to_numpy(self, x: Any) -> Any:
        """Copy from whichever device."""
        return np.asarray(x.to_device(xp.Device("CPU_DEVICE"))._array)

    def astype(self, x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
        """Convert; array-api-strict takes ``device=None`` for its default device, not for that of ``x``."""
        return xp.astype(x, dtype, copy=copy, device=x.device if device is None else device)

    def isin(self, x1: Any, x2: Any, /, *, invert: bool = False) -> Any:
        """Tell membership; array-api-strict forgets to invert."""
        found = xp.isin(x1, x2)
        return xp.logical_not(found) if invert else found


_INSTANCE = StrictBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
