"""A library with three faults: it sums over the wrong axis, its where takes the wrong one, its exp loses digits."""

import sys

import numpy as np

from toys.tiny import fill

wrapped = fill(sys.modules[__name__])


@wrapped
def sum(x, /, *, axis=None, dtype=None, keepdims=False):
    axis = axis if axis is None else tuple(-1 - i for i in (axis if isinstance(axis, tuple) else (axis,)))
    return np.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


@wrapped
def where(condition, x1, x2, /):
    return np.where(condition, x2, x1)


@wrapped
def exp(x, /):
    return np.exp(x).astype(np.float32 if x.dtype.kind == "f" else np.complex64).astype(x.dtype)
