"""Python's operators on every wrapped array, by way of the op table; and what changes one in place."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from agnostic_ad import views
from agnostic_ad.errors import EscapedArrayError
from agnostic_ad.levels import Array, Level, deepest, lift_to
from agnostic_ad.namespaces import lookup
from agnostic_ad.op import TABLE, Op

_NUMBERS = (bool, int, float, complex)


def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a binary operator give way to operands that are no arrays or numbers."""

    def method(self: Any, other: Any, /) -> Any:
        if isinstance(other, Array | bool | int | float | complex) or lookup(other) is not None:
            return call(self, other)
        return NotImplemented

    return method


def reflected(call: Callable[..., Any]) -> Callable[..., Any]:
    """Give a binary operator with its operands exchanged."""
    return lambda self, other: call(other, self)


def _method(call: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function for what may be a callable object: only functions become methods."""
    return call if isinstance(call, FunctionType) else lambda self: call(self)


def store(x: Array, new: Any, what: str) -> Array:
    """Give ``x`` the values of an array of the same shape, as an in-place operation does; ``what`` it is, for errors."""
    if tuple(new.shape) != tuple(x.shape):
        raise ValueError(f"{what} cannot change shape {tuple(x.shape)} to {tuple(new.shape)}")
    level: Level = x.level
    if deepest((x, new)) is not level:
        raise EscapedArrayError(
            f"an array of {level.label} cannot take a value of {new.level.label} in place. Write x = x + y, not x += y."
        )
    new = lift_to(level, new)
    if new.dtype != x.dtype:
        kinds = ["bifc".index(x.backend.kind(d)) for d in (x.dtype, new.dtype)]
        if kinds[1] > kinds[0]:
            raise TypeError(f"{what} cannot put dtype {new.dtype} into an array of dtype {x.dtype}")
        new = TABLE["astype"](new, x.dtype)
    views.write(x, new)
    return x


def _in_place(call: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, other: Any, /) -> Any:
        result = call(self, other)
        return result if result is NotImplemented else store(self, result, "an in-place operation")

    return method


def install_operators(cls: type[Array], form: Callable[[Op, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put the table's operators on a class of arrays.

    Parameters
    ----------
    cls : type
        `Array`, or a subclass with a quicker form.
    form : callable
        ``(op, general function) -> function``.
    """
    for op in TABLE.values():
        for name in op.operators:
            if len(op.arrays) == 1:
                setattr(cls, name, _method(form(op, op)))
            elif name.startswith("__r") and name != "__rshift__":
                setattr(cls, name, guarded(reflected(form(op, op))))
            else:
                call = form(op, guarded(op))
                setattr(cls, name, call)
                if op.differentiable or op.name.startswith("bitwise"):
                    setattr(cls, f"__i{name[2:]}", _in_place(call))


install_operators(Array, lambda op, call: call)


def _divmod(a: Any, b: Any) -> Any:
    return a // b, a % b


for _name, _call in (("__divmod__", _divmod), ("__rdivmod__", reflected(_divmod))):
    setattr(Array, _name, guarded(_call))
