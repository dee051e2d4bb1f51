"""Parameters and buffers: Variables that a module owns.

Both are Variables and nothing else, so that the quick paths of the engine, which ask for that very type, serve them too. What makes one
a parameter is that `Parameter` made it: a register of weak references remembers, and ``isinstance`` asks there.
"""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import WeakValueDictionary

from agnostic_ad import Variable
from agnostic_ad.config import place
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, is_raw

__all__ = ["Buffer", "Parameter", "adopt", "assign", "clear_grad", "new_parameter"]


class _Marked(type):
    """A class whose instances are the Variables in its register."""

    register: WeakValueDictionary[int, Variable]

    def __instancecheck__(cls, x: Any) -> bool:
        return x is not None and cls.register.get(id(x)) is x

    def mark(cls, v: Variable) -> Variable:
        """Make a Variable an instance."""
        cls.register[id(v)] = v
        return v


def _payload(data: Any) -> Any:
    """Give the raw array in what users hand over: an array, a Variable, a nested list."""
    if isinstance(data, Array):
        if data.level.depth != 0:
            raise TypeError(f"a parameter or buffer cannot hold an array of {data.level.label}")
        return data.payload
    if is_raw(data):
        return data
    where = place()
    assert where.backend is not None
    raw = where.backend.xp.asarray(data, device=where.device)
    return where.backend.astype(raw, where.dtype) if where.backend.kind(raw.dtype) in "fc" else raw


class Parameter(metaclass=_Marked):
    """A Variable that a `Module` counts among its parameters when it is assigned as an attribute.

    Parameters
    ----------
    data : array, Variable or nested list
        The values. The memory is shared, until an optimizer or ``init`` changes the parameter.
    requires_grad : bool
        Whether to record what is done with it.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> p = nn.Parameter(np.ones(2))
    >>> isinstance(p, nn.Parameter), isinstance(p, ad.Variable), isinstance(ad.Variable(np.ones(2)), nn.Parameter)
    (True, True, False)
    """

    register: ClassVar[WeakValueDictionary[int, Variable]] = WeakValueDictionary()

    def __new__(cls, data: Any, requires_grad: bool = True) -> Variable:  # type: ignore[misc]
        """Make a Variable, and mark it."""
        return cls.mark(Variable(_payload(data), requires_grad=requires_grad))


class Buffer(metaclass=_Marked):
    """A Variable without gradient that belongs to a module's state when it is assigned as an attribute.

    Parameters
    ----------
    data : array, Variable or nested list
        The values.
    persistent : bool
        Whether ``state_dict`` includes it.
    """

    register: ClassVar[WeakValueDictionary[int, Variable]] = WeakValueDictionary()
    passing: ClassVar[WeakValueDictionary[int, Variable]] = WeakValueDictionary()
    """Those that ``state_dict`` leaves out, until a module has them."""

    def __new__(cls, data: Any, persistent: bool = True) -> Variable:  # type: ignore[misc]
        """Make a Variable, and mark it."""
        made = cls.mark(Variable(_payload(data), requires_grad=False))
        if not persistent:
            cls.passing[id(made)] = made
        return made


# --- what is done to parameters outside of any recording ----------------------------------------------------------------------------------
def assign(v: Variable, raw: Any) -> None:
    """Give a leaf another value; it stays the same leaf."""
    v.data = raw


def clear_grad(p: Variable, set_to_none: bool = True) -> None:
    """Forget a gradient, or make it zero."""
    grad = p.grad
    if grad is not None:
        p.grad = None if set_to_none else backend_of(p.payload).xp.zeros_like(p.payload)


def adopt(value: Any, like: Any) -> Any:
    """Give a copy of an array of any library, in the library and dtype and on the device of another."""
    backend, source = backend_of(like), backend_of(value)
    place = backend.device(like)
    if source is not backend:
        value = backend.from_numpy(source.to_numpy(value), place)
    elif backend.device(value) != place:
        value = backend.to_device(value, place)
    return backend.own(value) if value.dtype == like.dtype else backend.astype(value, like.dtype)


def new_parameter(shape: tuple[int, ...], xp: Any, dtype: Any, device: Any) -> Variable:
    """Give a parameter of zeros where the arguments, or `agnostic_ad.defaults`, say."""
    where = place(xp, dtype, device)
    assert where.backend is not None
    return Parameter(where.backend.xp.zeros(shape, dtype=where.dtype, device=where.device))
