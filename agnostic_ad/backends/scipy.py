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
        name = self._names.get(name, name)
        return function(name) if self._module.__name__ == "scipy.special" else getattr(self._module, name)


def function(name: str) -> Callable[..., Any]:
    """Give a function of scipy.special, or a better one."""
    try:
        import scipy.special
    except ImportError:
        raise MissingFunctionError(
            f"special.{name}: this library has no such function, and SciPy, whose function would serve, is not installed: "
            "pip install agnostic_ad[special]"
        ) from None
    return _BETTER.get(name) or getattr(scipy.special, name)


def _poch(z: Any, m: Any) -> Any:
    """Give scipy.special.poch, which subtracts logarithms and loses a digit or two; as a quotient where gamma does not overflow."""
    from scipy import special

    rough = special.poch(z, m)
    with np.errstate(all="ignore"):
        z, m = np.asarray(z, dtype=np.float64), np.asarray(m, dtype=np.float64)
        s = z + m
        lost = (z - (s - (s - z))) + (m - (s - z))  # by the rounding of z + m, which matters here
        y = special.gamma(s) / special.gamma(z) * (1 + lost * special.digamma(s))
    return np.where((z > 1) & (z < 170) & (s > 1) & (s < 170), y, rough).astype(rough.dtype)


def _stdtrit(df: Any, p: Any) -> Any:
    """Give scipy.special.stdtrit, which is some thousand roundings off in places (df = 2.9, p = 0.8), after one step of Newton's."""
    from scipy import special

    rough = special.stdtrit(df, p)
    with np.errstate(all="ignore"):
        wide, t = np.asarray(df, dtype=np.float64), np.asarray(rough, dtype=np.float64)
        density = np.exp(-(wide + 1) / 2 * np.log1p(t * t / wide) - special.betaln(wide / 2, 0.5)) / np.sqrt(wide)
        step = (special.stdtr(wide, t) - p) / density
        step = np.where(np.abs(step) < 1e-9 * np.abs(t), step, 0.0)  # a larger one is no rounding: at the ends of the line
    return (t - step).astype(rough.dtype)


_BETTER: dict[str, Callable[..., Any]] = {"poch": _poch, "stdtrit": _stdtrit}
"""In place of functions of SciPy that are far less exact than the others."""


def compute(name: str, *args: Any) -> Any:
    """Call a function of scipy.special on NumPy arrays and numbers; give a NumPy array, of 16 bits where the operands are: SciPy knows none."""
    dtypes = {a.dtype for a in args if hasattr(a, "dtype") and a.dtype.kind not in "biu"}
    short = {dtype for dtype in dtypes if dtype.itemsize == 2}
    y = np.asarray(function(name)(*(a.astype(np.float32) if getattr(a, "dtype", None) in short else a for a in args)))
    return y.astype(*dtypes) if len(dtypes) == len(short) == 1 else y


def result_like(name: str, args: tuple[Any, ...]) -> tuple[tuple[int, ...], Any]:
    """Give the shape and the dtype of a result."""
    ones = [np.ones((), a.dtype) if hasattr(a, "dtype") else a for a in args]
    return np.broadcast_shapes(*(getattr(a, "shape", ()) for a in args)), compute(name, *ones).dtype
