"""NumPy's protocol for functions of its own: ``np.sin(v)`` and ``ndarray * v`` are operations of the table, by an explicit map."""

from __future__ import annotations

from typing import Any

from agnostic_ad.levels import Array
from agnostic_ad.rules import QUICK

__all__ = ["UFUNCS"]

_SAME = """add ceil copysign cos cosh divide equal exp expm1 floor floor_divide greater greater_equal hypot isfinite isinf isnan less
    less_equal log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor matmul maximum minimum multiply negative
    nextafter not_equal positive reciprocal remainder sign signbit sin sinh sqrt square subtract tan tanh trunc vecdot bitwise_and
    bitwise_or bitwise_xor"""

UFUNCS: dict[str, str] = {name: name for name in _SAME.split()} | {
    "absolute": "abs",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctan2": "atan2",
    "arctanh": "atanh",
    "conjugate": "conj",
    "invert": "bitwise_invert",
    "left_shift": "bitwise_left_shift",
    "power": "pow",
    "right_shift": "bitwise_right_shift",
    "rint": "round",
}
"""The operation behind each universal function of NumPy that differentiates."""

_METHODS = {
    "add.reduce": "sum",
    "multiply.reduce": "prod",
    "maximum.reduce": "max",
    "minimum.reduce": "min",
    "logical_and.reduce": "all",
    "logical_or.reduce": "any",
    "add.accumulate": "cumulative_sum",
    "multiply.accumulate": "cumulative_prod",
}


def _array_ufunc(self: Array, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """Apply the operation of the same meaning; NumPy calls this for its universal functions, and for ``ndarray * x``."""
    name = UFUNCS.get(ufunc.__name__)
    if method == "__call__" and name is not None and not kwargs:
        return QUICK[name](*inputs)
    said = f"numpy.{ufunc.__name__}" + (f".{method}" if method != "__call__" else "")
    instead = _METHODS.get(f"{ufunc.__name__}.{method}", name if method == "__call__" else None)
    if instead is not None and kwargs and method == "__call__":
        why = f"the arguments {', '.join(kwargs)} are NumPy's own" + (": an ndarray cannot hold a derivative" if "out" in kwargs else "")
        use = f"xp.{instead}(...), which returns its result,"
    else:
        why = "it is not differentiated by this package"
        use = f"xp.{instead}" if instead is not None else "a function of the Array API standard"
    raise TypeError(
        f"{said} of an array of {self.level.label}: {why}. Use {use} with xp = x.__array_namespace__(); "
        "or x.detach().numpy() if the values alone are wanted."
    )


Array.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
