"""Python's operators and the methods of NumPy code on every wrapped array, by way of the op table."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

from agnostic_ad import views
from agnostic_ad.families import normalize_axes, normalize_axis
from agnostic_ad.levels import Array
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


def _in_place(call: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, other: Any, /) -> Any:
        result = call(self, other)
        if result is NotImplemented:
            return result
        if tuple(result.shape) != tuple(self.shape):
            raise ValueError(f"an in-place operation cannot change shape {tuple(self.shape)} to {tuple(result.shape)}")
        if result.dtype != self.dtype:
            kinds = ["bifc".index(self.backend.kind(d)) for d in (self.dtype, result.dtype)]
            if kinds[1] > kinds[0]:
                raise TypeError(f"an in-place operation cannot put dtype {result.dtype} into an array of dtype {self.dtype}")
            result = TABLE["astype"](result, self.dtype)
        if result.level is not self.level:
            from agnostic_ad.errors import EscapedArrayError

            raise EscapedArrayError(
                f"an array of {self.level.label} cannot take a value of {result.level.label} in place. Write x = x + y, not x += y."
            )
        views.write(self, result)
        return self

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


# --- methods -------------------------------------------------------------------------------------------------------------------------------
def _xp(x: Array) -> Any:
    return x.__array_namespace__()


def _axes(axis: Any, dim: Any) -> Any:
    found = axis if dim is None else dim
    return tuple(found) if isinstance(found, list) else found


def _reducing(name: str) -> Callable[..., Any]:
    def method(self: Any, axis: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False, **options: Any) -> Any:
        given = {k: v for k, v in options.items() if v is not None}  # NumPy's functions pass out=None and dtype=None
        if "out" in given:
            raise TypeError(f"{name}: out= has no place for a derivative; use the result")
        return getattr(_xp(self), name)(self, axis=_axes(axis, dim), keepdims=keepdims or keepdim, **given)

    method.__name__, method.__doc__ = name, f"Apply ``xp.{name}`` over ``axis`` (or ``dim``)."
    return method


def _unary(name: str, function: str = "") -> Callable[..., Any]:
    def method(self: Any) -> Any:
        return getattr(_xp(self), function or name)(self)

    method.__name__, method.__doc__ = name, f"Apply ``xp.{function or name}``."
    return method


def _spread(name: str) -> Callable[..., Any]:
    def method(self: Any, axis: Any = None, ddof: float = 0.0, keepdims: bool = False, *, correction: Any = None, dim: Any = None) -> Any:
        given = ddof if correction is None else correction
        return getattr(_xp(self), name)(self, axis=_axes(axis, dim), correction=float(given), keepdims=keepdims)

    method.__name__, method.__doc__ = name, f"Apply ``xp.{name}``, with NumPy's ``ddof`` or the standard's ``correction``."
    return method


def _sizes(args: tuple[Any, ...]) -> Any:
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], tuple | list) else args


def _reshaped(x: Any, shape: Any) -> Any:
    y = TABLE["reshape"](x, shape)
    return views.note(x, y, "reshape", {"shape": tuple(y.shape), "copy": None})


def _permuted(x: Any, axes: Any) -> Any:
    order = normalize_axes(tuple(axes), x.ndim, "permute_dims")
    return views.note(x, TABLE["permute_dims"](x, order), "permute_dims", {"axes": order})


class Methods:
    """What NumPy and PyTorch code calls on arrays. Those that reshape or permute give views, as basic indexing does."""

    def reshape(self: Any, *shape: Any) -> Any:
        """Give another shape; sizes, or a tuple of them."""
        return _reshaped(self, _sizes(shape))

    view = reshape

    def ravel(self: Any) -> Any:
        """Give one dimension."""
        return _reshaped(self, (-1,))

    def flatten(self: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
        """Give a copy with one dimension in place of those from ``start_dim`` to ``end_dim``."""
        if not self.shape:
            return TABLE["reshape"](self, (1,))
        a, b = (normalize_axis(d, self.ndim, "flatten") for d in (start_dim, end_dim))
        return TABLE["reshape"](self, (*self.shape[:a], math.prod(self.shape[a : b + 1]), *self.shape[b + 1 :]))

    def squeeze(self: Any, axis: Any = None, *, dim: Any = None) -> Any:
        """Remove axes of size 1."""
        axis = _axes(axis, dim)
        gone = tuple(i for i, n in enumerate(self.shape) if n == 1) if axis is None else axis
        return _reshaped(self, TABLE["squeeze"](self, gone).shape)

    def unsqueeze(self: Any, dim: int) -> Any:
        """Insert an axis of size 1."""
        place = normalize_axis(dim, self.ndim + 1, "unsqueeze")
        return _reshaped(self, (*self.shape[:place], 1, *self.shape[place:]))

    def transpose(self: Any, *axes: Any) -> Any:
        """Reverse the axes, or put them in the order given."""
        order = _sizes(axes)
        return _permuted(self, tuple(reversed(range(self.ndim))) if not order or order == (None,) else order)

    def permute(self: Any, *axes: Any) -> Any:
        """Put the axes in the order given."""
        return _permuted(self, _sizes(axes))

    def swapaxes(self: Any, axis1: int, axis2: int) -> Any:
        """Exchange two axes."""
        order = list(range(self.ndim))
        a, b = (normalize_axis(i, self.ndim, "swapaxes") for i in (axis1, axis2))
        order[a], order[b] = b, a
        return _permuted(self, order)

    @property
    def T(self: Any) -> Any:
        """The transpose: NumPy's meaning, all axes reversed."""
        return _permuted(self, reversed(range(self.ndim)))

    @property
    def mT(self: Any) -> Any:
        """The last two axes exchanged."""
        if self.ndim < 2:
            raise ValueError(f"mT needs an array of 2 dimensions or more, not {self.ndim}")
        return _permuted(self, (*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))

    @property
    def real(self: Any) -> Any:
        """The real part."""
        return TABLE["real"](self) if self.backend.kind(self.dtype) == "c" else self

    @property
    def imag(self: Any) -> Any:
        """The imaginary part."""
        return TABLE["imag"](self) if self.backend.kind(self.dtype) == "c" else _xp(self).zeros_like(self)

    def astype(self: Any, dtype: Any, copy: bool = True) -> Any:
        """Convert to a dtype, or its name."""
        return TABLE["astype"](self, dtype, copy=copy)

    def copy(self: Any) -> Any:
        """Give an array of the same values that later in-place changes of this one do not reach."""
        return _xp(self).asarray(self, copy=True)

    def cumsum(self: Any, axis: Any = None, dtype: Any = None, *, dim: Any = None) -> Any:
        """Sum cumulatively; over the flattened array by default."""
        axis = _axes(axis, dim)
        return TABLE["cumulative_sum"](self.ravel() if axis is None else self, axis=0 if axis is None else axis, dtype=dtype)

    def clip(self: Any, min: Any = None, max: Any = None) -> Any:
        """Limit values."""
        return TABLE["clip"](self, min, max)

    def dot(self: Any, other: Any) -> Any:
        """Multiply as NumPy's ``dot``."""
        if self.ndim == 0 or not getattr(other, "shape", ()):
            return self * other
        return TABLE["tensordot"](self, other, axes=((self.ndim - 1,), (max(len(other.shape) - 2, 0),)))

    def take(self: Any, indices: Any, axis: Any = None) -> Any:
        """Take slices by index."""
        xp = _xp(self)
        return xp.take(self, xp.asarray(indices) if not isinstance(indices, Array) else indices, axis=axis)

    def repeat(self: Any, repeats: Any, axis: Any = None) -> Any:
        """Repeat each element."""
        return _xp(self).repeat(self, repeats, axis=axis)

    def round(self: Any, decimals: int = 0) -> Any:
        """Round to a number of decimals; the derivative is zero."""
        return TABLE["round"](self) if decimals == 0 else TABLE["round"](self * 10.0**decimals) / 10.0**decimals

    def diagonal(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        """Give the diagonal of two axes, as the last axis of the result."""
        xp = _xp(self)
        x = xp.moveaxis(self, (axis1, axis2), (-2, -1))
        rows, columns = x.shape[-2:]
        first = range(max(-offset, 0), min(rows, columns - offset))
        places = xp.asarray([i * columns + i + offset for i in first], dtype=xp.int64, device=self.device)
        return xp.take(xp.reshape(x, (*x.shape[:-2], rows * columns)), places, axis=-1)

    def trace(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        """Sum the diagonal of two axes."""
        return _xp(self).sum(Methods.diagonal(self, offset, axis1, axis2), axis=-1)

    def matmul(self: Any, other: Any) -> Any:
        """Multiply matrices."""
        return self @ other

    def to_device(self: Any, device: Any, /, *, stream: Any = None) -> Any:
        """Move to another device of the same library."""
        return TABLE["to_device"](self, device)


def _install_methods() -> None:
    for name, value in vars(Methods).items():
        if not name.startswith("__"):
            setattr(Array, name, value)
    for name in ("sum", "mean", "prod", "max", "min", "argmax", "argmin", "all", "any"):
        setattr(Array, name, _reducing(name))
    for name in ("abs", "exp", "log", "sqrt", "tanh", "sin", "cos", "conj", "square", "sign"):
        setattr(Array, name, _unary(name))
    for name in ("std", "var"):
        setattr(Array, name, _spread(name))


_install_methods()
