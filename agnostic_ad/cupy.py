"""CuPy, with functions that record: ``import agnostic_ad.cupy as cp`` is the one import to change.

The same as `agnostic_ad.numpy`, with CuPy underneath.
"""

from typing import Any

import cupy as _library

from agnostic_ad.dropin import DropIn

_names = DropIn(__name__, _library)


def __getattr__(name: str) -> Any:
    return getattr(_names, name)


def __dir__() -> list[str]:
    return dir(_names)
