"""What passes ask about constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from agnostic_ad.graph import sizes
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import lookup

__all__ = ["host", "identity", "made_by", "static", "uniform"]

_SMALL = 64


def static(x: Any) -> bool:
    """Tell whether an operand is a constant whose value will never change: no place, no Variable, no size known later."""
    return not isinstance(x, Output | Array) and not sizes.dynamic(x)


def host(x: Any) -> Any:
    """Give a constant as a NumPy array or a number; None where its values are not there to be looked at."""
    backend = lookup(x)
    if backend is None:
        return x if isinstance(x, bool | int | float | complex) and static(x) else None
    return None if backend.lazy or not backend.concrete(x) else backend.to_numpy(x)


def uniform(x: Any) -> Any:
    """Give the one number that all elements of a constant are; None where there is none."""
    if isinstance(x, Output | Array | sizes.Dim | sizes.Ratio):
        return None
    values = host(x)
    if values is None or not isinstance(values, np.ndarray):
        return values
    if values.dtype.kind not in "biufc" or not values.size:
        return None
    first = values.reshape(-1)[0].item() if values.flags.c_contiguous else values[(0,) * values.ndim].item()
    same = values.size == 1 or bool((values == first).all() and (np.signbit(values.real) == np.signbit(np.real(first))).all())
    return first if same else None


def identity(x: Any) -> Any:
    """Give what two operands or parameters have to have in common to be one: places and large arrays are themselves, small ones their bytes."""
    if isinstance(x, Output):
        return x
    if isinstance(x, sizes.Dim | sizes.Ratio):
        return type(x), sizes.key(x)
    if isinstance(x, tuple | list):
        return type(x), tuple(map(identity, x))
    if isinstance(x, dict):
        return dict, tuple((k, identity(v)) for k, v in x.items())
    if isinstance(x, slice):
        return slice, identity((x.start, x.stop, x.step))
    if isinstance(x, Graph | Array):
        return id(x)
    backend = lookup(x)
    if backend is not None:
        if x.shape == () or (all(isinstance(n, int) for n in x.shape) and np.prod(x.shape, dtype="int64") <= _SMALL):
            values = host(x)
            if values is not None:
                return backend.name, str(x.dtype), str(backend.device(x)), tuple(x.shape), values.tobytes()
        return id(x)
    return type(x), repr(x) if isinstance(x, float | complex) else x  # -0.0 is not 0.0, and nan is nan


def made_by(x: Any, *names: str) -> GraphNode | None:
    """Give the node that a place is the (only) result of, where it is one of these operations."""
    if isinstance(x, Output) and x.node.op is not None and x.node.op.name in names and len(x.node.outputs) == 1:
        return x.node
    return None
