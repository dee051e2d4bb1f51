"""The one map from NumPy's names to functions of ``xp``: the drop-in namespaces and NumPy's protocols all look here.

A name that is not in the map is refused with a `MissingRuleError`; nothing is computed on bare values behind a derivative's back.
"""

from agnostic_ad.numpy_names import curves, fft, linalg, picking, products, reductions, shapes, ufuncs, values
from agnostic_ad.numpy_names.base import INSTEAD, NAMES, arrays_in, call, missing
from agnostic_ad.numpy_names.ufuncs import OPERATIONS

__all__ = [
    "INSTEAD",
    "NAMES",
    "OPERATIONS",
    "arrays_in",
    "call",
    "curves",
    "fft",
    "linalg",
    "missing",
    "picking",
    "products",
    "reductions",
    "shapes",
    "ufuncs",
    "values",
]
