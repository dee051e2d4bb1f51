"""The methods that only PyTorch code calls on arrays, on every wrapped array.

What NumPy has too is in `methods`, with NumPy's meaning.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import backend_of_namespace, lookup
from agnostic_ad.op import TABLE
from agnostic_ad.ops.methods import Methods, install, sizes_of
from agnostic_ad.ops.operators import store
from agnostic_ad.ops.picking_methods import PickingMethods, in_front
from agnostic_ad.random import Generator, default_generator, placed
from agnostic_ad.rules import QUICK


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
        before = in_front(self, dim, "unbind")
        return tuple(self[(*before, i)] for i in range(self.shape[len(before)]))

    def select(self: Any, dim: int, index: int) -> Any:
        """Give one slice along an axis, as a view."""
        return self[(*in_front(self, dim, "select"), index)]

    def narrow(self: Any, dim: int, start: int, length: int) -> Any:
        """Give ``length`` slices along an axis, as a view."""
        before = in_front(self, dim, "narrow")
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
        if raw is None:  # a graph is being captured: it draws when it runs
            return store(self, _noise(self, name, args, options, generator), name)
        values = placed(draw(generator or default_generator, self.shape, *args, **options), raw, self.shape)
        return store(self, values, name)

    drawn.__doc__ = f"Set all elements to random numbers of the host's generator (`agnostic_ad.Generator.{name[:-1]}`), and give the array."
    return drawn


def _noise(x: Any, name: str, args: tuple[Any, ...], options: dict[str, Any], generator: Generator | None) -> Any:
    """Draw by an operation, which is done anew at each run of a graph."""
    if generator is not None and generator is not default_generator:
        raise UnsupportedError(f"{name} of an array without values draws from the default generator, not from a generator of its own")
    if name == "bernoulli_":
        return TABLE["astype"](TABLE["nn.keep"](x, p=(*args, *options.values(), 0.5)[0]), x.dtype)
    first, second = (0.0, 1.0) if not args else (args[0], args[1] if len(args) > 1 else 1.0)
    low, high = options.get("low", options.get("mean", first)), options.get("high", options.get("std", second))
    return TABLE["nn.noise"](x, kind=name[:-1], low=low, high=high)


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
_DRAWS: dict[str, Callable[..., Any]] = {"normal_": Generator.normal, "uniform_": Generator.uniform, "bernoulli_": Generator.bernoulli}
_IN_PLACE = (
    *("add", "sub", "mul", "div", "pow", "remainder", "clamp", "clamp_min", "clamp_max", "masked_fill", "scatter", "scatter_add"),
    *("index_add", "index_fill", "tril", "triu", "neg", "abs", "exp", "log", "sqrt", "square", "sigmoid", "tanh", "relu"),
    *("ceil", "floor", "round", "reciprocal"),
)


def _install() -> None:
    made = {name: value for kind in (PickingMethods, TensorMethods) for name, value in vars(kind).items() if not name.startswith("__")}
    made |= {name: _quick(op) for name, op in _OPERATIONS.items()}
    made |= {name: _casting(dtype) for name, dtype in _CASTS.items()}
    made |= {name: _drawing(name, draw) for name, draw in _DRAWS.items()}
    made |= {f"{name}_": _changing(f"{name}_", made.get(name) or getattr(Array, name)) for name in _IN_PLACE}
    install(made)


_install()
