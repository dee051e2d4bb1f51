"""Gradients kept small, and parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from agnostic_ad import Variable
from agnostic_ad.config import dtype_name
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, backend_of
from agnostic_ad.nn.parameter import assign
from agnostic_ad.rules import QUICK
from agnostic_ad.stepping import apart

__all__ = [
    "NonFiniteNormError",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]


class NonFiniteNormError(AgnosticADError, RuntimeError, ValueError):
    """A norm of gradients is infinite or not a number."""


def _with_gradient(parameters: Any) -> list[Variable]:
    found: list[Any] = [parameters] if isinstance(parameters, Array) else list(parameters)
    for p in found:
        if not isinstance(p, Variable):
            raise TypeError(f"gradients of parameters are clipped; {type(p).__name__} is no parameter")
    return [p for p in found if p.grad is not None]


def _norm_spec(tensors: Any, *args: Any, **kwargs: Any) -> ShapeDtype:
    """Give shape and dtype of what `get_total_norm` gives."""
    found = [tensors] if hasattr(tensors, "shape") else list(tensors)
    if not found:
        return ShapeDtype((), np.dtype("float32"))
    backend = found[0].backend if isinstance(found[0], Array) else backend_of(found[0])
    names = {dtype_name(x.dtype).replace("complex128", "float64").replace("complex64", "float32") for x in found}
    return ShapeDtype((), backend.dtype("float64" if "float64" in names else "float32"))


@apart(_norm_spec)
def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """Give the norm of several arrays, as if they were one vector.

    Parameters
    ----------
    tensors : array or iterable of array
        Raw arrays or Variables of one library.
    norm_type : float
        The order; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool
        Whether a norm that is infinite or not a number is an error.
    foreach : bool, optional
        Accepted, and of no effect.

    Returns
    -------
    array
        A raw array of no dimensions; float32 where the arrays are narrower.
    """
    found = [tensors] if hasattr(tensors, "shape") else list(tensors)
    raws = [x.payload if isinstance(x, Array) else x for x in found]
    if not raws:
        return np.zeros((), "float32")
    backend, order = backend_of(raws[0]), float(norm_type)
    xp, place = backend.xp, backend.device(raws[0])
    norms = []
    for x in raws:
        wide = backend.astype(x, backend.dtype("float32")) if dtype_name(x.dtype) in ("float16", "bfloat16") else x
        norms.append(backend.to_device(backend.array(backend.linalg.vector_norm(wide, ord=order)), place))
    widest = xp.result_type(*norms)
    total = backend.array(backend.linalg.vector_norm(xp.stack([backend.astype(n, widest) for n in norms]), ord=order))
    if error_if_nonfinite and not math.isfinite(float(total)):
        raise NonFiniteNormError(
            f"the total norm of order {norm_type} of the gradients is {float(total)}, so they cannot be clipped. "
            "To scale them by it all the same, leave out error_if_nonfinite=True."
        )
    return total


@apart()
def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale all gradients by ``max_norm / total_norm``, where that makes them smaller.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
        Those without a gradient are passed over.
    max_norm : float
        What the norm may be.
    total_norm : array or float
        What it is, from `get_total_norm`.
    foreach : bool, optional
        Accepted, and of no effect.
    """
    for p in _with_gradient(parameters):
        backend = backend_of(p.payload)
        if isinstance(total_norm, int | float) or backend.checks_bounds:
            factor = float(max_norm) / (float(total_norm) + 1e-6)
            if factor < 1.0 or factor != factor:
                p.grad = backend.array(p.grad * factor)
        else:  # without waiting for the device
            xp = backend.xp
            wide = xp.clip(float(max_norm) / (total_norm + 1e-6), max=1.0)
            p.grad = backend.array(p.grad * backend.astype(backend.to_device(wide, backend.device(p.payload)), p.payload.dtype))


@apart(lambda parameters, *args, **kwargs: _norm_spec([p.grad for p in _with_gradient(parameters)]))
def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Any:
    """Scale the gradients so that their norm, as of one vector, is at most ``max_norm``; give the norm before.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
        Those without a gradient are passed over.
    max_norm : float
        What the norm may be.
    norm_type : float
        The order; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool
        Whether a norm that is infinite or not a number is an error.
    foreach : bool, optional
        Accepted, and of no effect.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.zeros(2))
    >>> p.grad = np.asarray([3.0, 4.0])
    >>> float(nn.utils.clip_grad_norm_([p], 1.0)), p.grad.round(3)
    (5.0, array([0.6, 0.8]))
    """
    used = _with_gradient(parameters)
    total = get_total_norm([p.grad for p in used], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(used, max_norm, total)
    return total


@apart()
def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of the gradients to between ``-clip_value`` and ``clip_value``.

    Parameters
    ----------
    parameters : Parameter or iterable of Parameter
        Those without a gradient are passed over.
    clip_value : float
        The limit.
    foreach : bool, optional
        Accepted, and of no effect.
    """
    for p in _with_gradient(parameters):
        backend = backend_of(p.payload)
        p.grad = backend.array(backend.xp.clip(p.grad, -float(clip_value), float(clip_value)))


# --- one vector ---------------------------------------------------------------------------------------------------------------------------
def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """Give parameters as one vector, through which derivatives go back to them.

    Parameters
    ----------
    parameters : iterable of array
        Of any shapes, and one dtype.

    Returns
    -------
    array
        Shape (number of all elements,).
    """
    flat = [QUICK["reshape"](p, (-1,)) for p in parameters]
    if not flat:
        raise ValueError("parameters_to_vector: there are no parameters")
    return QUICK["concat"](flat)


def vector_to_parameters(vec: Any, parameters: Iterable[Variable]) -> None:
    """Give parameters the values in a vector: the inverse of `parameters_to_vector`.

    Parameters
    ----------
    vec : array
        Shape (number of all elements,).
    parameters : iterable of Parameter
        What to change.
    """
    if not hasattr(vec, "shape") or len(vec.shape) != 1:
        raise TypeError(
            f"vector_to_parameters takes an array of one dimension, not {type(vec).__name__} of shape {getattr(vec, 'shape', ())}"
        )
    raw = vec.data if isinstance(vec, Array) else vec
    found: Sequence[Variable] = list(parameters)
    count = sum(p.size for p in found)
    if count != raw.shape[0]:
        raise ValueError(f"vector_to_parameters: the parameters have {count} elements, the vector {raw.shape[0]}")
    backend, begin = backend_of(raw), 0
    for p in found:
        part = backend.xp.reshape(raw[begin : begin + p.size], p.shape)
        assign(p, backend.astype(backend.own(part), p.dtype))
        begin += p.size
