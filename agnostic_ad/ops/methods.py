"""The methods that NumPy code and PyTorch code call on arrays, on every wrapped array.

Where the two mean different things by one name it is NumPy's: ``max(dim=0)`` gives the values alone, ``std()`` divides by n,
``transpose`` takes all axes of a matrix (of more dimensions it exchanges two, too), ``repeat`` repeats each element, ``size`` is a number.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

from agnostic_ad import views
from agnostic_ad.families import normalize_axes, normalize_axis
from agnostic_ad.levels import Array
from agnostic_ad.op import TABLE
from agnostic_ad.ops.operators import store


def _xp(x: Array) -> Any:
    return x.__array_namespace__()


def _axes(axis: Any, dim: Any) -> Any:
    found = axis if dim is None else dim
    return tuple(found) if isinstance(found, list) else found


def _keeping(second: Any, keepdims: bool, keepdim: bool) -> tuple[Any, bool]:
    """Give the dtype and whether to keep axes: PyTorch's second argument is the latter, and a boolean."""
    return (None, second) if isinstance(second, bool) else (second, keepdims or keepdim)


def _refuse_out(name: str, out: Any) -> None:
    if out is not None:
        raise TypeError(f"{name}: out= is for numpy.{name}; use the result")


def _reducing(name: str) -> Callable[..., Any]:
    def method(
        self: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, *, dim: Any = None, keepdim: bool = False
    ) -> Any:
        _refuse_out(name, out)
        dtype, keep = _keeping(dtype, keepdims, keepdim)
        if dtype is not None and name not in ("sum", "prod"):
            if name != "mean":
                raise TypeError(f"{name} takes no dtype; its result has that of the array")
            self = self.astype(dtype)
        given = {"dtype": self.backend.dtype(dtype)} if dtype is not None and name != "mean" else {}
        return getattr(_xp(self), name)(self, axis=_axes(axis, dim), keepdims=keep, **given)

    method.__doc__ = f"Apply ``xp.{name}`` over ``axis`` (or ``dim``)."
    return method


def _unary(name: str, function: str = "") -> Callable[..., Any]:
    def method(self: Any) -> Any:
        return getattr(_xp(self), function or name)(self)

    method.__doc__ = f"Apply ``xp.{function or name}``."
    return method


def _spread(name: str) -> Callable[..., Any]:
    def method(
        self: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: float = 0.0,
        keepdims: bool = False,
        *,
        correction: Any = None,
        unbiased: bool | None = None,
        dim: Any = None,
        keepdim: bool = False,
    ) -> Any:
        _refuse_out(name, out)
        if isinstance(dtype, bool):
            raise TypeError(f"{name}: the second argument is NumPy's dtype; write {name}(axis, unbiased={dtype}) for PyTorch's")
        x = self if dtype is None else self.astype(dtype)
        if unbiased is None and ddof == 0.0 and (dim is not None or keepdim):
            unbiased = True  # PyTorch's words, and so its default
        given = correction if correction is not None else ddof if unbiased is None else unbiased
        return getattr(_xp(x), name)(x, axis=_axes(axis, dim), correction=float(given), keepdims=keepdims or keepdim)

    method.__doc__ = (
        f"Apply ``xp.{name}``, with NumPy's ``ddof``, the standard's ``correction`` or PyTorch's ``unbiased``; divide by n, as NumPy, where "
        "none is given, and by n - 1, as PyTorch, where ``dim`` or ``keepdim`` is."
    )
    return method


def sizes_of(args: tuple[Any, ...]) -> Any:
    """Give the sizes, or axes, in arguments that are they, or one tuple or list of them."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], tuple | list) else args


def _reshaped(x: Any, shape: Any) -> Any:
    return views.note_shape(x, TABLE["reshape"](x, shape))


def _permuted(x: Any, axes: Any) -> Any:
    order = normalize_axes(tuple(axes), x.ndim, "permute_dims")
    return views.note(x, TABLE["permute_dims"](x, order), "permute_dims", {"axes": order})


def _part(x: Any, name: str) -> Any:
    return views.note(x, TABLE[name](x), name, {})


def _set_part(part: Any, value: Any) -> None:
    if not views.same(part, value):  # z.real += 1 has written already
        part[...] = value


def _slices(x: Any, axis: Any, ends: list[int]) -> tuple[Any, ...]:
    """Give the parts of ``x`` along an axis that end at ``ends``, as views."""
    before = (slice(None),) * normalize_axis(axis, x.ndim, "split")
    return tuple(x[(*before, slice(start, end))] for start, end in zip((0, *ends[:-1]), ends, strict=True))


def _scanned(name: str, x: Any, axis: Any, dtype: Any) -> Any:
    x, axis = (TABLE["reshape"](x, (-1,)), 0) if axis is None else (x, axis)
    return getattr(_xp(x), name)(x, axis=axis, dtype=None if dtype is None else x.backend.dtype(dtype))


def _fortran(order: str) -> bool:
    """Tell whether an ``order`` of NumPy's counts columns first; "A" and "K", which depend on memory, are taken as "C"."""
    if order not in ("C", "F", "A", "K"):
        raise ValueError(f"order is 'C', 'F', 'A' or 'K', not {order!r}")
    return order == "F"


class Methods:
    """What NumPy and PyTorch code calls on arrays. Those that reshape or permute give views, as basic indexing does."""

    def reshape(self: Any, *shape: Any, order: str = "C") -> Any:
        """Give another shape; sizes, or a tuple of them."""
        sizes = sizes_of(shape)
        return _reshaped(self.T, tuple(reversed(sizes))).T if _fortran(order) else _reshaped(self, sizes)

    def view(self: Any, *shape: Any) -> Any:
        """Give another shape; PyTorch's ``view``, and without sizes NumPy's."""
        sizes = sizes_of(shape)
        if not all(hasattr(n, "__index__") for n in sizes):
            raise TypeError(f"view takes sizes; another dtype for the same memory, {shape[0]!r}, has no derivative. Use x.astype(dtype).")
        return _reshaped(self, sizes if shape else self.shape)

    def ravel(self: Any, order: str = "C") -> Any:
        """Give one dimension."""
        x = self.T if _fortran(order) else self
        return _reshaped(x, (x.numel(),)) if views.layout(x).flags.c_contiguous else TABLE["reshape"](x, (-1,))

    @property
    def flat(self: Any) -> Any:
        """One dimension to read and write: ``x.flat[::n + 1] += 1.0`` changes the diagonal."""
        y = TABLE["reshape"](self, (-1,))
        return views.note(self, y, "reshape", {"shape": tuple(y.shape), "copy": None})

    @flat.setter
    def flat(self: Any, value: Any) -> None:
        self.flat[...] = value

    def flatten(self: Any, start_dim: Any = 0, end_dim: int = -1, *, order: str = "C") -> Any:
        """Give a copy with one dimension in place of those from ``start_dim`` to ``end_dim``."""
        start_dim, order = (0, start_dim) if isinstance(start_dim, str) else (start_dim, order)  # NumPy's one argument is the order
        if _fortran(order):
            return Methods.flatten(self.T)
        if not self.shape:
            return TABLE["reshape"](self, (1,))
        a, b = (normalize_axis(d, self.ndim, "flatten") for d in (start_dim, end_dim))
        return TABLE["reshape"](self, (*self.shape[:a], math.prod(self.shape[a : b + 1]), *self.shape[b + 1 :]))

    def squeeze(self: Any, axis: Any = None, *, dim: Any = None) -> Any:
        """Remove axes of size 1."""
        axis = _axes(axis, dim)
        ones = tuple(i for i, n in enumerate(self.shape) if n == 1)
        gone = ones if axis is None else normalize_axes(axis, self.ndim, "squeeze")
        if not set(gone) <= set(ones):
            raise ValueError(f"squeeze: axis {axis} of an array of shape {self.shape} is not of size 1")
        return _reshaped(self, tuple(n for i, n in enumerate(self.shape) if i not in gone))

    def unsqueeze(self: Any, dim: int) -> Any:
        """Insert an axis of size 1."""
        place = normalize_axis(dim, self.ndim + 1, "unsqueeze")
        return _reshaped(self, (*self.shape[:place], 1, *self.shape[place:]))

    def transpose(self: Any, *axes: Any) -> Any:
        """Reverse the axes, or put all of them in the order given: NumPy's meaning. Two of more than two are exchanged: PyTorch's."""
        order = sizes_of(axes)
        if len(axes) == 2 < self.ndim:
            return Methods.swapaxes(self, *axes)
        return _permuted(self, tuple(reversed(range(self.ndim))) if not order or order == (None,) else order)

    def permute(self: Any, *axes: Any) -> Any:
        """Put the axes in the order given."""
        return _permuted(self, sizes_of(axes))

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
        """The real part; of a complex array a view, and it may be set."""
        return _part(self, "real") if self.backend.kind(self.dtype) == "c" else self

    @real.setter
    def real(self: Any, value: Any) -> None:
        _set_part(self.real, value)

    @property
    def imag(self: Any) -> Any:
        """The imaginary part; of a complex array a view, and it may be set."""
        return _part(self, "imag") if self.backend.kind(self.dtype) == "c" else _xp(self).zeros_like(self)

    @imag.setter
    def imag(self: Any, value: Any) -> None:
        if self.backend.kind(self.dtype) != "c":
            raise TypeError(f"an array of dtype {self.dtype} has no imaginary part to set")
        _set_part(self.imag, value)

    def astype(self: Any, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True) -> Any:
        """Convert to a dtype, or its name. Values are the same for every ``order`` and ``subok``; ``casting`` is always "unsafe"."""
        if casting != "unsafe":
            raise ValueError(f"astype: casting={casting!r} is not checked here; leave it out, and compare the dtypes")
        return TABLE["astype"](self, dtype, copy=copy)

    def copy(self: Any, order: str = "C") -> Any:
        """Give an array of the same values that later in-place changes of this one do not reach."""
        y = _xp(self).asarray(self, copy=True)
        if views.layout(y).flags.c_contiguous:
            return y
        return TABLE["reshape"](TABLE["reshape"](y, (-1,)), y.shape)  # NumPy lays copies out row by row

    def contiguous(self: Any) -> Any:
        """Give the array itself, if its elements would lie row by row in memory; a copy otherwise."""
        return self if views.layout(self).flags.c_contiguous else Methods.copy(self)

    def cumsum(self: Any, axis: Any = None, dtype: Any = None, *, dim: Any = None) -> Any:
        """Sum cumulatively; over the flattened array by default."""
        return _scanned("cumulative_sum", self, _axes(axis, dim), dtype)

    def cumprod(self: Any, axis: Any = None, dtype: Any = None, *, dim: Any = None) -> Any:
        """Multiply cumulatively; over the flattened array by default."""
        return _scanned("cumulative_prod", self, _axes(axis, dim), dtype)

    def clip(self: Any, min: Any = None, max: Any = None) -> Any:
        """Limit values."""
        return TABLE["clip"](self, min, max)

    def dot(self: Any, other: Any) -> Any:
        """Multiply as NumPy's ``dot``."""
        if self.ndim == 0 or not getattr(other, "shape", ()):
            return self * other
        return TABLE["tensordot"](self, other, axes=((self.ndim - 1,), (max(len(other.shape) - 2, 0),)))

    def take(self: Any, indices: Any, axis: Any = None) -> Any:
        """Take slices by index, counted from the end where negative."""
        if axis is None:
            return TABLE["reshape"](self, (-1,))[indices]
        return self[(slice(None),) * normalize_axis(axis, self.ndim, "take") + (indices,)]

    def repeat(self: Any, repeats: Any, axis: Any = None, *more: int) -> Any:
        """Repeat each element: NumPy's meaning. Three numbers or more say how often to repeat the whole along each axis: PyTorch's."""
        if more:
            return TABLE["tile"](self, (repeats, axis, *more))
        return _xp(self).repeat(self, repeats, axis=axis)

    def round(self: Any, decimals: int = 0) -> Any:
        """Round to a number of decimals; the derivative is zero."""
        return TABLE["round"](self) if decimals == 0 else TABLE["round"](self * 10.0**decimals) / 10.0**decimals

    def diagonal(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
        """Give the diagonal of two axes, as the last axis of the result."""
        x = _xp(self).moveaxis(self, (axis1, axis2), (-2, -1))
        rows, columns = x.shape[-2:]
        start = offset if offset >= 0 else -offset * columns
        count = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
        flat = TABLE["reshape"](x, (*x.shape[:-2], rows * columns))
        return TABLE["getitem"](flat, (..., slice(start, start + count * (columns + 1), columns + 1) if count else slice(0)))

    def trace(self: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
        """Sum the diagonal of two axes."""
        return Methods.diagonal(self, offset, axis1, axis2).sum(axis=-1, dtype=dtype)

    def nonzero(self: Any) -> Any:
        """Give the places of what is not zero, an array an axis."""
        return _xp(self).nonzero(self)

    def argsort(self: Any, axis: int = -1, *, dim: Any = None, descending: bool = False) -> Any:
        """Give the order in which an axis is sorted."""
        return _xp(self).argsort(self, axis=_axes(axis, dim), descending=descending)

    def searchsorted(self: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
        """Give the places where ``v`` would be inserted to keep the order."""
        xp = _xp(self)
        return xp.searchsorted(self, xp.asarray(v), side=side, sorter=sorter)

    def sort(self: Any, axis: int = -1) -> None:
        """Sort in place: NumPy's meaning (PyTorch's, which returns, is ``xp.sort``)."""
        views.write(self, _xp(self).sort(self, axis=axis))

    def fill(self: Any, value: Any) -> None:
        """Set all elements to one value."""
        self[...] = value

    def matmul(self: Any, other: Any) -> Any:
        """Multiply matrices."""
        return self @ other

    def expand(self: Any, *sizes: Any) -> Any:
        """Repeat axes of size 1, without copying; -1 keeps a size. The result cannot be changed in place."""
        sizes = sizes_of(sizes)
        lead = len(sizes) - self.ndim
        shape = tuple(self.shape[i - lead] if n == -1 and i >= lead else n for i, n in enumerate(sizes))
        return views.note(self, TABLE["broadcast_to"](self, shape), "broadcast_to", {"shape": shape})

    def masked_fill(self: Any, mask: Any, value: Any) -> Any:
        """Give a copy with ``value`` where ``mask`` is true."""
        y = TABLE["where"](mask, value, self)
        return y if y.dtype == self.dtype else TABLE["astype"](y, self.dtype)

    def split(self: Any, split_size: Any, dim: int = 0) -> Any:
        """Give the parts of an axis, as views: each of ``split_size``, or of the sizes in a list."""
        n = self.shape[normalize_axis(dim, self.ndim, "split")]
        sizes = split_size if isinstance(split_size, tuple | list) else [min(split_size, n - i) for i in range(0, n, split_size)] or [0]
        if sum(sizes) != n:
            raise ValueError(f"split: the sizes {tuple(sizes)} do not add up to {n}, the size of axis {dim}")
        return _slices(self, dim, list(itertools.accumulate(sizes)))

    def chunk(self: Any, chunks: int, dim: int = 0) -> Any:
        """Give at most ``chunks`` equal parts of an axis (the last may be smaller), as views."""
        n = self.shape[normalize_axis(dim, self.ndim, "chunk")]
        return Methods.split(self, max(-(-n // chunks), 1), dim)

    def sigmoid(self: Any) -> Any:
        """Give 1 / (1 + exp(-x)), without overflow."""
        return TABLE["special.expit"](self)

    def relu(self: Any) -> Any:
        """Give the positive part."""
        return TABLE["nn.relu"](self)

    def softmax(self: Any, dim: Any = None, *, axis: Any = None, dtype: Any = None) -> Any:
        """Give exponentials that add up to 1 along an axis."""
        axis = _axes(axis, dim)
        if axis is None:
            raise TypeError("softmax needs an axis: softmax(-1)")
        return TABLE["nn.softmax"](self if dtype is None else self.astype(dtype), axis=axis)

    def to_device(self: Any, device: Any, /, *, stream: Any = None) -> Any:
        """Move to another device of the same library."""
        return TABLE["to_device"](self, device)


def _filling(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Give a method NumPy's ``out=``, an array of this package that takes the result in place."""

    @functools.wraps(method)
    def filled(self: Any, *args: Any, out: Any = None, **options: Any) -> Any:
        if out is None:
            return method(self, *args, **options)
        if not isinstance(out, Array):
            raise TypeError(f"{name}: out= is a {type(out).__name__}, which cannot hold a derivative. Use the result, or pass a Variable.")
        return store(out, method(self, *args, **options), f"{name} with out=")

    return filled


_REDUCTIONS = ("sum", "mean", "prod", "max", "min", "argmax", "argmin", "all", "any")
_SPREADS = ("std", "var")
_FILLING = {*_REDUCTIONS, *_SPREADS, "cumsum", "cumprod", "clip", "dot", "take", "round", "trace", "conj"}


def _install_methods() -> None:
    made = {name: value for name, value in vars(Methods).items() if not name.startswith("__")}
    made |= {name: _reducing(name) for name in _REDUCTIONS}
    made |= {name: _unary(name) for name in ("abs", "exp", "log", "sqrt", "tanh", "sin", "cos", "conj", "square", "sign")}
    made |= {name: _spread(name) for name in _SPREADS}
    made["conjugate"] = _unary("conj")
    install(made)


def install(made: dict[str, Any]) -> None:
    """Put methods and properties on arrays."""
    for name, value in made.items():
        if isinstance(value, FunctionType):
            value.__name__, value.__qualname__ = name, f"Array.{name}"
        setattr(Array, name, _filling(value, name) if name in _FILLING else value)


_install_methods()
