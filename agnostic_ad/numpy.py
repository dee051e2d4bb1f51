"""NumPy, with functions that record: ``import agnostic_ad.numpy as np`` is the one import to change.

Without a Variable or an array of a transformation among the arguments, a function gives exactly what NumPy gives, a raw array. With one, it
computes what NumPy would, and records it. What is no function of arrays is NumPy's own. The names that differentiate are those of
`agnostic_ad.numpy_names`; any other function that is given an array with a derivative raises a ``MissingRuleError``.

Examples
--------
>>> import agnostic_ad as ad
>>> import agnostic_ad.numpy as np
>>> np.linspace(0.0, 1.0, 3)
array([0. , 0.5, 1. ])
>>> ad.grad(lambda x: np.dot(x, np.sin(x)))(np.zeros(2))
array([0., 0.])
"""

from typing import Any

import numpy as _library

from agnostic_ad.dropin import DropIn

_names = DropIn(__name__, _library)


def __getattr__(name: str) -> Any:
    return getattr(_names, name)


def __dir__() -> list[str]:
    return dir(_names)
