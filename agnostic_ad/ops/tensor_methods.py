"""The methods that only PyTorch code calls on arrays, on every wrapped array. What NumPy has too is in `methods`, with NumPy's meaning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import Array, deepest, device_of, lift_to
from agnostic_ad.namespaces import backend_of_namespace, lookup
from agnostic_ad.op import TABLE
from agnostic_ad.ops.brackets import of_library, plan
from agnostic_ad.ops.methods import Methods, install, sizes_of
from agnostic_ad.ops.operators import store
from agnostic_ad.random import Generator, default_generator, placed
from agnostic_ad.rules import QUICK


class TopK(NamedTuple):
    """What ``topk`` gives."""

    values: Any
    indices: Any


def _before(x: Any, dim: int, name: str) -> tuple[slice, ...]:
    """Give full slices for the axes in front of one, to be followed by what to take along it."""
    return (slice(None),) * normalize_axis(dim, x.ndim, name)


def _elements(x: Any, dim: int, index: Any, name: str) -> tuple[Any, ...]:
    """Give the key of the elements that ``gather`` takes: ``index`` along one axis, its own places along the others."""
    place = normalize_axis(dim, max(x.ndim, 1), name)
    shape = tuple(index.shape)
    if len(shape) != x.ndim:
        raise ValueError(f"{name}: the array has {x.ndim} dimensions, the index {len(shape)}")
    if any(n > m for i, (n, m) in enumerate(zip(shape, x.shape, strict=True)) if i != place):
        raise ValueError(f"{name}: an index of shape {shape} is larger than the array, {tuple(x.shape)}, along an axis other than {dim}")
    return tuple(
        index if i == place else np.arange(n).reshape(tuple(n if j == i else 1 for j in range(len(shape)))) for i, n in enumerate(shape)
    )


def _source(src: Any, index: Any, name: str) -> Any:
    """Give the part of what is scattered that the index is for; a number is left alone."""
    if not getattr(src, "shape", ()):
        return src
    if len(src.shape) != len(index.shape) or any(n > m for n, m in zip(index.shape, src.shape, strict=True)):
        raise ValueError(
            f"{name}: an index of shape {tuple(index.shape)} needs a source at least as large, not of shape {tuple(src.shape)}"
        )
    return src[tuple(slice(n) for n in index.shape)]


def _copy_beside(x: Any, *others: Any) -> Any:
    """Give a copy that can hold values that depend on ``others``, which may be of a transformation that ``x`` is not of."""
    level = deepest((x, *others))
    assert level is not None
    return Methods.copy(lift_to(level, x))


class TensorMethods:
    """What PyTorch code calls on tensors."""

    # --- facts, dtypes, places -----------------------------------------------------------------------------------------------------
    def dim(self: Any) -> Any:
        """Give the number of axes."""
        return len(self.shape)

    @property
    def is_cuda(self: Any) -> Any:
        """Whether the array is in the memory of a CUDA device."""
        return "cuda" in str(self.device).lower()

    def is_floating_point(self: Any) -> Any:
        """Tell whether the dtype is a real floating one."""
        return self.backend.kind(self.dtype) == "f"

    def is_complex(self: Any) -> Any:
        """Tell whether the dtype is complex."""
        return self.backend.kind(self.dtype) == "c"

    def to(self: Any, *targets: Any, xp: Any = None, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Any:
        """Convert to another dtype, device or array library; the derivative comes back the same way.

        Parameters
        ----------
        *targets : namespace, dtype, device or array
            An Array API namespace (``cupy``), a dtype or its name ("float32"), a device or its name ("cpu", "cuda:1"), an array whose
            library, dtype and device to take; told apart by what they are. The keywords ``xp``, ``dtype`` and ``device`` say it outright.
        non_blocking : bool
            For PyTorch's signature; when a copy is complete is the library's affair.

        Examples
        --------
        >>> import agnostic_ad as ad
        >>> ad.Variable([1.0, 2.0]).to("float32").dtype
        dtype('float32')
        """
        backend = self.backend if xp is None else backend_of_namespace(xp)
        for target in targets:
            like = target.backend if isinstance(target, Array) else lookup(target)
            if like is not None:
                backend, dtype, device = like, target.dtype, device_of(target)
            elif hasattr(target, "asarray") or hasattr(target, "__array_namespace_info__"):
                backend = backend_of_namespace(target)
            elif _names_dtype(backend, target):
                dtype = target
            else:
                device = target
        v = self
        if backend is not v.backend:
            v = v._moved(backend, device)
        elif device is not None and (place := backend.parse_device(device)) != v.device:
            v = TABLE["to_device"](v, place)
        return v if dtype is None else _cast(v, dtype)

    def cpu(self: Any) -> Any:
        """Move to the host's memory, where the library has arrays there."""
        return TensorMethods.to(self, device="cpu")

    def type(self: Any, dtype: Any) -> Any:
        """Convert to a dtype, or its name."""
        return _cast(self, dtype)

    def type_as(self: Any, other: Any) -> Any:
        """Convert to the dtype, device and library of another array."""
        return TensorMethods.to(self, other)

    # --- copies, new arrays ----------------------------------------------------------------------------------------------------------
    def clone(self: Any, *, memory_format: Any = None) -> Any:
        """Give a copy, which carries the derivative; ``memory_format`` changes nothing."""
        return Methods.copy(self)

    def detach(self: Any) -> Any:
        """Give an array of the same value, and no derivative."""
        return TABLE["stop_gradient"](self)

    def new_zeros(self: Any, *size: Any, dtype: Any = None, device: Any = None) -> Any:
        """Give zeros of another shape, with this array's dtype and device."""
        return TensorMethods.new_full(self, sizes_of(size), 0, dtype=dtype, device=device)

    def new_ones(self: Any, *size: Any, dtype: Any = None, device: Any = None) -> Any:
        """Give ones of another shape, with this array's dtype and device."""
        return TensorMethods.new_full(self, sizes_of(size), 1, dtype=dtype, device=device)

    def new_empty(self: Any, *size: Any, dtype: Any = None, device: Any = None) -> Any:
        """Give an array of another shape, to be filled, with this array's dtype and device."""
        return TensorMethods.new_zeros(self, *size, dtype=dtype, device=device)

    def new_full(self: Any, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Give an array of one value, with this array's dtype and device."""
        backend = self.backend
        place = self.device if device is None else backend.parse_device(device)
        kind = self.dtype if dtype is None else backend.dtype(dtype)
        if isinstance(fill_value, int) and backend.kind(kind) == "b":
            fill_value = bool(fill_value)
        return self.__array_namespace__().full(tuple(size), fill_value, dtype=kind, device=place)

    def new_tensor(self: Any, data: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Give numbers, nested lists or an array with this array's dtype and device."""
        y = self.__array_namespace__().asarray(data, device=self.device if device is None else self.backend.parse_device(device), copy=True)
        return _cast(y, self.dtype if dtype is None else dtype)

    # --- shapes ----------------------------------------------------------------------------------------------------------------------
    def t(self: Any) -> Any:
        """Give the transpose of a matrix; an array of fewer axes as it is."""
        if self.ndim > 2:
            raise ValueError(f"t() is for arrays of at most 2 dimensions, not {self.ndim}. Use mT or transpose.")
        return self.T if self.ndim == 2 else self

    def view_as(self: Any, other: Any) -> Any:
        """Give the shape of another array."""
        return Methods.view(self, tuple(other.shape))

    def reshape_as(self: Any, other: Any) -> Any:
        """Give the shape of another array."""
        return Methods.reshape(self, tuple(other.shape))

    def expand_as(self: Any, other: Any) -> Any:
        """Repeat axes of size 1 up to the shape of another array."""
        return Methods.expand(self, tuple(other.shape))

    def unflatten(self: Any, dim: int, sizes: Any) -> Any:
        """Give several axes in place of one; -1 is what is left."""
        place = normalize_axis(dim, self.ndim, "unflatten")
        n, known = self.shape[place], math.prod(k for k in sizes if k != -1)
        sizes = tuple(n // known if k == -1 and known else k for k in sizes)
        if math.prod(sizes) != n:
            raise ValueError(f"unflatten: axis {dim} of size {n} does not divide into {sizes}")
        return Methods.reshape(self, (*self.shape[:place], *sizes, *self.shape[place + 1 :]))

    def unbind(self: Any, dim: int = 0) -> Any:
        """Give the slices along an axis, as views."""
        before = _before(self, dim, "unbind")
        return tuple(self[(*before, i)] for i in range(self.shape[len(before)]))

    def select(self: Any, dim: int, index: int) -> Any:
        """Give one slice along an axis, as a view."""
        return self[(*_before(self, dim, "select"), index)]

    def narrow(self: Any, dim: int, start: int, length: int) -> Any:
        """Give ``length`` slices along an axis, as a view."""
        before = _before(self, dim, "narrow")
        n = self.shape[len(before)]
        start = start + n if start < 0 else start
        if not 0 <= start <= start + length <= n:
            raise IndexError(f"narrow: {length} from {start} on go beyond axis {dim} of size {n}")
        return self[(*before, slice(start, start + length))]

    def tile(self: Any, *dims: Any) -> Any:
        """Repeat the whole array along each axis."""
        return TABLE["tile"](self, sizes_of(dims))

    def repeat_interleave(self: Any, repeats: Any, dim: Any = None) -> Any:
        """Repeat each element along an axis; of the flattened array by default."""
        return Methods.repeat(self, repeats, axis=dim)

    def flip(self: Any, *dims: Any) -> Any:
        """Reverse the order along axes."""
        return TABLE["flip"](self, axis=sizes_of(dims))

    def roll(self: Any, shifts: Any, dims: Any = None) -> Any:
        """Shift along axes, and put what falls off at one end in at the other."""
        shifts, dims = (tuple(v) if isinstance(v, list) else v for v in (shifts, dims))
        return TABLE["roll"](self, shifts, axis=dims)

    def tril(self: Any, diagonal: int = 0) -> Any:
        """Give zeros above a diagonal."""
        return TABLE["tril"](self, k=diagonal)

    def triu(self: Any, diagonal: int = 0) -> Any:
        """Give zeros below a diagonal."""
        return TABLE["triu"](self, k=diagonal)

    # --- arithmetic ------------------------------------------------------------------------------------------------------------------
    def add(self: Any, other: Any, *, alpha: Any = 1) -> Any:
        """Add ``alpha * other``."""
        return self + (other if alpha == 1 else other * alpha)

    def sub(self: Any, other: Any, *, alpha: Any = 1) -> Any:
        """Subtract ``alpha * other``."""
        return self - (other if alpha == 1 else other * alpha)

    def div(self: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
        """Divide, and round: not, towards zero ("trunc") or down ("floor")."""
        if rounding_mode not in (None, "trunc", "floor"):
            raise ValueError(f"div: rounding_mode is None, 'trunc' or 'floor', not {rounding_mode!r}")
        if rounding_mode == "floor":
            return self // other
        return self / other if rounding_mode is None else TABLE["trunc"](self / other)

    def clamp(self: Any, min: Any = None, max: Any = None) -> Any:
        """Limit values."""
        return TABLE["clip"](self, min, max)

    def clamp_min(self: Any, min: Any) -> Any:
        """Limit values from below."""
        return TABLE["clip"](self, min, None)

    def clamp_max(self: Any, max: Any) -> Any:
        """Limit values from above."""
        return TABLE["clip"](self, None, max)

    def rsqrt(self: Any) -> Any:
        """Give 1 / sqrt(x)."""
        return 1.0 / TABLE["sqrt"](self)

    def where(self: Any, condition: Any, other: Any) -> Any:
        """Give this array's elements where ``condition`` is true, and those of ``other`` elsewhere."""
        return TABLE["where"](condition, self, other)

    def logsumexp(self: Any, dim: Any, keepdim: bool = False) -> Any:
        """Give log(sum(exp(x))) over axes, without overflow."""
        return TABLE["nn.logsumexp"](self, axis=tuple(dim) if isinstance(dim, list) else dim, keepdims=keepdim)

    def log_softmax(self: Any, dim: int, dtype: Any = None) -> Any:
        """Give the logarithm of ``softmax``, without overflow."""
        return TABLE["nn.log_softmax"](self if dtype is None else _cast(self, dtype), axis=dim)

    def norm(self: Any, p: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        """Give (sum of abs(x)**p)**(1/p) over axes, all of them by default."""
        if p not in ("fro", None) and not isinstance(p, int | float):
            raise ValueError(f"norm: p is a number or 'fro', not {p!r}. Other norms of matrices are those of xp.linalg.matrix_norm.")
        axis = tuple(dim) if isinstance(dim, list) else dim
        x = self if dtype is None else _cast(self, dtype)
        return TABLE["linalg.vector_norm"](x, axis=axis, keepdims=keepdim, ord=2 if p in ("fro", None) else p)

    # --- picking and placing -----------------------------------------------------------------------------------------------------------
    def index_select(self: Any, dim: int, index: Any) -> Any:
        """Give the slices along an axis at the places in an array of integers."""
        return self[(*_before(self, dim, "index_select"), index)]

    def masked_select(self: Any, mask: Any) -> Any:
        """Give the elements where a mask is true, in one dimension."""
        shape = np.broadcast_shapes(tuple(self.shape), tuple(mask.shape))
        return TABLE["broadcast_to"](self, shape)[TABLE["broadcast_to"](mask, shape)]

    def gather(self: Any, dim: int, index: Any) -> Any:
        """Give ``x[i][index[i][j]]`` (for ``dim=1``): an element along an axis for each index."""
        return self[_elements(self, dim, index, "gather")]

    def scatter(self: Any, dim: int, index: Any, src: Any) -> Any:
        """Give a copy with ``src``, an array or a number, at the elements that `gather` takes; of several for one place the last stays."""
        y = _copy_beside(self, index, src)
        y[_elements(self, dim, index, "scatter")] = _source(src, index, "scatter")
        return y

    def scatter_add(self: Any, dim: int, index: Any, src: Any) -> Any:
        """Give a copy with ``src`` added to the elements that `gather` takes, as often as they are named."""
        key = _elements(self, dim, index, "scatter_add")
        src = _source(src, index, "scatter_add")
        level = deepest((self, index, src))
        assert level is not None
        xp, x, src = level.rules(self.backend), lift_to(level, self), lift_to(level, src)
        where = plan(xp, x, of_library(x, key))[2]
        added = xp.scatter_add(xp.reshape(src, (-1,)), where, size=x.numel(), axis=0)
        return x + xp.reshape(added, x.shape)

    def index_add(self: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
        """Give a copy with slices of ``source`` added at places along an axis."""
        axis = normalize_axis(dim, self.ndim, "index_add")
        added = TABLE["scatter_add"](source, index, size=self.shape[axis], axis=axis)
        return TensorMethods.add(self, added, alpha=alpha)

    def index_fill(self: Any, dim: int, index: Any, value: Any) -> Any:
        """Give a copy with a value in the slices at places along an axis."""
        y = _copy_beside(self, index, value)
        y[(*_before(self, dim, "index_fill"), index)] = value
        return y

    def topk(self: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
        """Give the ``k`` largest (or smallest) elements along an axis, and their places: a named tuple of values and indices, sorted."""
        before = _before(self, dim, "topk")
        if not 0 <= k <= self.shape[len(before)]:
            raise ValueError(f"topk: k is between 0 and {self.shape[len(before)]}, the size of axis {dim}; not {k}")
        order = TABLE["argsort"](self, axis=dim, descending=largest)[(*before, slice(k))]
        return TopK(TABLE["take_along_axis"](self, order, axis=dim), order)

    # --- in place ----------------------------------------------------------------------------------------------------------------------
    def fill_(self: Any, value: Any) -> Any:
        """Set all elements to one value, and give the array."""
        self[...] = value
        return self

    def zero_(self: Any) -> Any:
        """Set all elements to zero, and give the array."""
        self[...] = 0
        return self

    def copy_(self: Any, src: Any, non_blocking: bool = False) -> Any:
        """Take the values of another array, and give the array."""
        self[...] = src
        return self


def _names_dtype(backend: Any, target: Any) -> bool:
    try:
        backend.kind(backend.dtype(target))
    except Exception:  # whatever a library says of something that is no dtype
        return False
    return True


def _cast(x: Any, dtype: Any) -> Any:
    wanted = x.backend.dtype(dtype)
    return x if x.dtype == wanted else TABLE["astype"](x, wanted)


def _casting(name: str) -> Callable[..., Any]:
    def method(self: Any) -> Any:
        return _cast(self, name)

    method.__doc__ = f"Convert to {name}."
    return method


def _quick(name: str) -> Callable[..., Any]:
    """Give a method for an operation of one or two operands, by its quick form."""
    if len(TABLE[name].arrays) == 1:

        def unary(self: Any) -> Any:
            return QUICK.get(name, TABLE[name])(self)

        unary.__doc__ = f"Apply ``xp.{name}``."
        return unary

    def binary(self: Any, other: Any) -> Any:
        return QUICK.get(name, TABLE[name])(self, other)

    binary.__doc__ = f"Apply ``xp.{name}``."
    return binary


def _changing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def changed(self: Any, *args: Any, **options: Any) -> Any:
        return store(self, method(self, *args, **options), name)

    changed.__doc__ = f"Do ``{name[:-1]}`` in place, and give the array."
    return changed


def _drawing(name: str, draw: Callable[..., Any]) -> Callable[..., Any]:
    def drawn(self: Any, *args: Any, generator: Generator | None = None, **options: Any) -> Any:
        raw = self
        while isinstance(raw, Array):
            raw = raw.payload
        values = placed(draw(generator or default_generator, self.shape, *args, **options), raw, self.shape)
        return store(self, values, name)

    drawn.__doc__ = f"Set all elements to random numbers of the host's generator (`agnostic_ad.Generator.{name[:-1]}`), and give the array."
    return drawn


_CASTS = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "bfloat16": "bfloat16",
    "byte": "uint8",
    "char": "int8",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "bool": "bool",
}
_OPERATIONS = {
    "mul": "multiply",
    "pow": "pow",
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "neg": "negative",
    "erf": "special.erf",
    "arctan2": "atan2",
} | {
    name: name
    for name in (
        *("maximum", "minimum", "remainder", "floor_divide", "hypot", "atan2", "copysign", "logaddexp"),
        *("logical_and", "logical_or", "logical_xor", "logical_not", "isfinite", "isinf", "isnan", "signbit"),
        *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "sinh", "tan"),
        *("ceil", "floor", "trunc", "expm1", "log10", "log1p", "log2", "reciprocal"),
    )
}  # fmt: skip
_DRAWS = {"normal_": Generator.normal, "uniform_": Generator.uniform, "bernoulli_": Generator.bernoulli}
_IN_PLACE = (
    *("add", "sub", "mul", "div", "pow", "remainder", "clamp", "clamp_min", "clamp_max", "masked_fill", "scatter", "scatter_add"),
    *("index_add", "index_fill", "tril", "triu", "neg", "abs", "exp", "log", "sqrt", "square", "sigmoid", "tanh", "relu"),
    *("ceil", "floor", "round", "reciprocal"),
)


def _install() -> None:
    made = {name: value for name, value in vars(TensorMethods).items() if not name.startswith("__")}
    made |= {name: _quick(op) for name, op in _OPERATIONS.items()}
    made |= {name: _casting(dtype) for name, dtype in _CASTS.items()}
    made |= {name: _drawing(name, draw) for name, draw in _DRAWS.items()}
    made |= {f"{name}_": _changing(f"{name}_", made.get(name) or getattr(Array, name)) for name in _IN_PLACE}
    install(made)


_install()
