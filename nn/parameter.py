"""Parameters and buffers: Variables that a module owns.

Both are Variables and nothing else, so that the quick paths of the engine, which ask for that very type, serve them too. What makes one
a parameter is that `Parameter` made it: a register of weak references remembers, and ``isinstance`` asks there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from agnostic_ad import Variable
from agnostic_ad.config import move, parse, place
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array, unify
from agnostic_ad.namespaces import backend_of, is_raw
from agnostic_ad.tape import LEAF, make_node

__all__ = [
    "Buffer",
    "Parameter",
    "UninitializedBuffer",
    "UninitializedError",
    "UninitializedParameter",
    "adopt",
    "assign",
    "clear_grad",
    "convert",
    "is_lazy",
    "new_parameter",
]


class UninitializedError(AgnosticADError, RuntimeError, ValueError):
    """A parameter or buffer was used before its shape was known."""


class _Marked(type):
    """A class whose instances are the Variables in its register."""

    register: WeakValueDictionary[int, Variable]

    def __init__(cls, *args: Any) -> None:
        super().__init__(*args)
        cls.register = WeakValueDictionary()
        Variable.marks.append(cls)

    def __instancecheck__(cls, x: Any) -> bool:
        return x is not None and cls.register.get(id(x)) is x

    def mark(cls, v: Variable) -> Variable:
        """Make a Variable an instance."""
        cls.register[id(v)] = v
        return v


def _payload(data: Any) -> Any:
    """Give the raw array in what users hand over: an array, a Variable, a nested list; an empty one for nothing."""
    if isinstance(data, Array):
        if data.level.depth != 0:
            raise TypeError(f"a parameter or buffer cannot hold an array of {data.level.label}")
        return data.payload
    if is_raw(data):
        return data
    where = place()
    assert where.backend is not None
    raw = where.backend.xp.asarray(() if data is None else data, device=where.device)
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

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Variable:  # type: ignore[misc]
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

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Variable:  # type: ignore[misc]
        """Make a Variable, and mark it."""
        made = cls.mark(Variable(_payload(data), requires_grad=False))
        return made if persistent else PassingBuffer.mark(made)


class PassingBuffer(metaclass=_Marked):
    """A buffer that ``state_dict`` leaves out."""


# --- of unknown shape ---------------------------------------------------------------------------------------------------------------------
_SLOT: Any = Array.__dict__["payload"]


class Uninitialized(Variable):
    """What a parameter and a buffer have in common whose shape is not known yet; `materialize` makes it an ordinary one.

    It knows its library, dtype and device, and can be moved; anything else is refused.
    """

    __slots__ = ()

    def __init__(self, requires_grad: bool, device: Any, dtype: Any, xp: Any) -> None:
        super().__init__(new_array((0,), xp, dtype, device), False)
        self.requires_grad = requires_grad

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary one, of zeros.

        Parameters
        ----------
        shape : tuple of int
            The shape.
        device, dtype
            By default those that it has.
        """
        empty = move(self.placeholder, parse(dtype=dtype, device=device))
        backend = backend_of(empty)
        self.__class__ = Variable  # type: ignore[assignment]  # the same object, so that whoever holds it holds the parameter
        self.data = backend.xp.zeros(tuple(shape), dtype=empty.dtype, device=backend.device(empty))

    @property
    def placeholder(self) -> Any:
        """An array of no elements, where the values will be."""
        return _SLOT.__get__(self)

    @placeholder.setter
    def placeholder(self, raw: Any) -> None:
        _SLOT.__set__(self, raw)

    @property
    def payload(self) -> Any:
        """Refuse: there is none."""
        raise UninitializedError(
            f"an {type(self).__name__} has no shape and no values yet: call the model on a batch first, or load a state that has values"
        )

    @payload.setter
    def payload(self, raw: Any) -> None:
        self.placeholder = raw

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it will be recorded."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        self.node = make_node(LEAF, (), (), None) if flag else None

    @property
    def backend(self) -> Any:
        """The library's backend."""
        return backend_of(self.placeholder)

    @property
    def dtype(self) -> Any:
        """The dtype that it will have."""
        return self.placeholder.dtype

    @property
    def device(self) -> Any:
        """The device where it will be."""
        return self.backend.device(self.placeholder)

    def __deepcopy__(self, memo: Any) -> Any:
        make, given = self.__reduce__()
        memo[id(self)] = made = make(*given)
        return made

    def __reduce__(self) -> Any:
        return _placed, (type(self), self.requires_grad, self.placeholder, self._marks())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(Uninitialized):
    """A parameter whose shape the first call of a lazy module will tell.

    Parameters
    ----------
    requires_grad : bool
        Whether to record what is done with it, once it has values.
    device, dtype, xp
        Where it will live; by default as `agnostic_ad.defaults` says.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> p = nn.UninitializedParameter()
    >>> p
    <UninitializedParameter>
    >>> p.materialize((2, 3))
    >>> p.shape, isinstance(p, nn.Parameter)
    ((2, 3), True)
    """

    __slots__ = ()

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None, *, xp: Any = None) -> None:
        super().__init__(requires_grad, device, dtype, xp)
        Parameter.mark(self)


class UninitializedBuffer(Uninitialized):
    """A buffer whose shape the first call of a lazy module will tell; the arguments are those of `UninitializedParameter`."""

    __slots__ = ()

    def __init__(
        self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True, *, xp: Any = None
    ) -> None:
        super().__init__(requires_grad, device, dtype, xp)
        Buffer.mark(self)
        if not persistent:
            PassingBuffer.mark(self)


def _placed(kind: Any, requires_grad: bool, empty: Any, marks: list[Any]) -> Any:
    made = kind(requires_grad)
    made.placeholder = empty
    for mark in marks:
        mark.mark(made)
    return made


def is_lazy(v: Any) -> bool:
    """Tell whether something is a parameter or buffer of unknown shape."""
    return isinstance(v, Uninitialized)


# --- what is done to parameters outside of any recording ----------------------------------------------------------------------------------
def assign(v: Any, raw: Any) -> None:
    """Give a leaf another value; it stays the same leaf. A buffer that is an array of a transformation gets another payload."""
    if isinstance(v, Variable):
        v.data = raw
    else:
        v.payload = raw


def clear_grad(p: Variable, set_to_none: bool = True) -> None:
    """Forget a gradient, or make it zero."""
    grad = p.grad
    if grad is not None:
        p.grad = None if set_to_none else unify([p.payload])[0].zeros_like(p.payload)


def adopt(value: Any, like: Any) -> Any:
    """Give a copy of an array of any library, in the library and dtype and on the device of another."""
    backend, source = backend_of(like), backend_of(value)
    place = backend.device(like)
    if source is not backend:
        value = backend.from_numpy(source.to_numpy(value), place)
    elif backend.device(value) != place:
        value = backend.to_device(value, place)
    return backend.own(value) if value.dtype == like.dtype else backend.astype(value, like.dtype)


def convert(v: Variable, fn: Callable[[Any], Any]) -> None:
    """Give a leaf, and its gradient, the array that ``fn`` makes of the one it has."""
    if isinstance(v, Uninitialized):
        v.placeholder = fn(v.placeholder)
        return
    new, grad = fn(v.payload), v.grad
    if new is not v.payload:
        assign(v, new)
    if grad is not None:
        v.grad = fn(grad)


def new_array(shape: tuple[int, ...], xp: Any, dtype: Any, device: Any) -> Any:
    """Give an array of zeros where the arguments, or `agnostic_ad.defaults`, say."""
    where = place(xp, dtype, device)
    assert where.backend is not None
    return where.backend.xp.zeros(shape, dtype=where.dtype, device=where.device)


def new_parameter(shape: tuple[int, ...], xp: Any, dtype: Any, device: Any) -> Variable:
    """Give a parameter of zeros where the arguments, or `agnostic_ad.defaults`, say."""
    return Parameter(new_array(shape, xp, dtype, device))
