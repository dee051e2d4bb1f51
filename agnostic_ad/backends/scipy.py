"""Special functions of the libraries under SciPy's names, and SciPy's own on the host for the libraries that lack them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from agnostic_ad.errors import MissingFunctionError

__all__ = ["Special", "compute", "function", "result_like"]

_OURS = frozenset({"kl_div", "log_softmax", "logsumexp", "polygamma", "softmax"})
"""Functions whose arguments differ from library to library, that change float32 to float64, or cancel (kl_div): the table's own forms serve everywhere."""


class Special:
    """A library's module of special functions.

    Parameters
    ----------
    module : module
        Such as ``torch.special``.
    names : mapping, optional
        The library's names for functions that it calls otherwise.
    """

    def __init__(self, module: Any, names: Mapping[str, str] | None = None) -> None:
        self._module, self._names = module, {"hurwitz": "zeta", **(names or {})}

    def __getattr__(self, name: str) -> Any:
        if name in _OURS or name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._module, self._names.get(name, name))


def function(name: str) -> Callable[..., Any]:
    """Give a function of scipy.special."""
    try:
        import scipy.special
    except ImportError:
        raise MissingFunctionError(
            f"special.{name}: this library has no such function, and SciPy, whose function would serve, is not installed: "
            "pip install agnostic_ad[special]"
        ) from None
    return getattr(scipy.special, name)  # type: ignore[no-any-return]


def compute(name: str, *args: Any) -> Any:
    """Call a function of scipy.special on NumPy arrays and numbers; give a NumPy array."""
    return np.asarray(function(name)(*args))


def result_like(name: str, args: tuple[Any, ...]) -> tuple[tuple[int, ...], Any]:
    """Give the shape and the dtype of a result."""
    ones = [np.ones((), a.dtype) if hasattr(a, "dtype") else a for a in args]
    return np.broadcast_shapes(*(getattr(a, "shape", ()) for a in args)), compute(name, *ones).dtype
