"""Creation functions, dtypes, constants, and what else a namespace offers that is no operation on arrays.

Each entry of `CREATION` takes the namespace and gives its function, or its value; results belong to the namespace's level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from agnostic_ad.families import broadcast_shapes, linear
from agnostic_ad.levels import Array, capturing, device_of, inexact, is_symbolic, lift_to, shapes_are_fixed
from agnostic_ad.namespaces import ShapeDtype, lookup
from agnostic_ad.op import Op
from agnostic_ad.samples import case, strided
from agnostic_ad.wrapped import CREATION


def _astype_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x,), device = args, params["device"]
    backend = x.backend if isinstance(x, Array) else lookup(x)
    if backend is None:
        return args, params
    place = None if device is None else backend.parse_device(device)
    return args, {**params, "dtype": backend.dtype(params["dtype"]), "device": place}


astype: Op = linear(
    "astype",
    "x, dtype, /, *, copy=True, device=None",
    # the cast back to the operand's dtype is everybody's
    lambda xp, ct, x_device, device: ct if device is None else xp.to_device(ct, x_device),
    prepare=_astype_prepare,
    batch=lambda xp, size, args, batched, params: xp.astype(args[0], params["dtype"], copy=params["copy"], device=params["device"]),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, params["dtype"]),
    cases=[
        case((2, 3), kinds="bif", dtype="float64"),
        case((2,), kinds="if", dtype="float32"),
        case((2,), kinds="f", dtype="complex128"),
        case((2,), kinds="c", dtype="complex64"),
        case((), kinds="bif", dtype="int64"),
        case((0,), kinds="fc", dtype="complex128", copy=False),
        case(strided((3,)), kinds="f", dtype="float32"),
    ],
)


to_device: Op = linear(
    "to_device",
    "x, /, device",
    lambda xp, ct, x_device: xp.to_device(ct, x_device),
    batch=lambda xp, size, args, batched, params: xp.to_device(args[0], params["device"]),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, args[0].dtype),
    cases=[case((2, 3), device="cpu")],
)


CARRIES: set[str] = set()
"""The creation functions that derivatives flow through: what they make, they make of operations."""


def creation(name: str, carries: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function, which gives the function ``name`` of a namespace.

    Parameters
    ----------
    carries : bool
        Whether derivatives flow from its arguments to its results.
    """

    def wrap(fn: Callable[..., Any]) -> Callable[..., Any]:
        def maker(xp: Any) -> Callable[..., Any]:
            made: Callable[..., Any] = fn(xp)
            made.__name__ = made.__qualname__ = name.rpartition(".")[2]
            return made

        CREATION[name] = maker
        if carries:
            CARRIES.add(name)
        return fn

    return wrap


def _dtype(xp: Any, dtype: Any) -> Any:
    return None if dtype is None else xp.backend.dtype(dtype)


def _lift(xp: Any, raw: Any) -> Any:
    return xp.level.lift(xp.backend.array(raw))


@creation("asarray", carries=True)
def _asarray(xp: Any) -> Any:
    def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        """Convert to an array of this namespace."""
        dtype = _dtype(xp, dtype)
        if isinstance(obj, Array):
            x = obj if obj.level.depth > xp.level.depth else lift_to(xp.level, obj)
            if device is not None and xp.backend.parse_device(device) != x.device:
                x = xp.to_device(x, device)
            if dtype is not None and x.dtype != dtype:
                if copy is False:
                    raise ValueError(f"asarray: changing dtype {x.dtype} to {dtype} needs a copy")
                return xp.astype(x, dtype)
            return xp.positive(x) if copy and inexact(x) else xp.astype(x, x.dtype) if copy else x
        if isinstance(obj, list | tuple) and any(isinstance(leaf, Array) for leaf in _flat(obj)):
            place = next(leaf.device for leaf in _flat(obj) if isinstance(leaf, Array)) if device is None else device
            parts = [asarray(part, dtype=dtype, device=place) for part in obj]
            if dtype is None and len({p.dtype for p in parts}) > 1:
                dtype = xp.result_type(*parts)
                parts = [xp.astype(p, dtype) for p in parts]
            return xp.stack(parts)
        backend = lookup(obj)
        if backend is not None and backend is not xp.backend:
            if backend.name != "numpy":
                raise TypeError(
                    f"asarray: an array of {backend.name} given to {xp.__name__}. Convert it first, for instance by from_dlpack."
                )
            obj = obj.item() if obj.shape == () else obj.tolist()
        return _lift(xp, xp.backend.asarray(obj, dtype=dtype, device=xp.backend.parse_device(device), copy=copy))

    return asarray


def _flat(obj: Any) -> Any:
    for part in obj:
        if isinstance(part, list | tuple):
            yield from _flat(part)
        else:
            yield part


@creation("from_dlpack", carries=True)
def _from_dlpack(xp: Any) -> Any:
    def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Any:
        """Import an array of any library through DLPack; a wrapped one of this library stays connected."""
        if isinstance(x, Array) and x.backend is xp.backend:
            return xp.asarray(x, device=device, copy=copy)
        options = {k: v for k, v in (("device", xp.backend.parse_device(device)), ("copy", copy)) if v is not None}
        return _lift(xp, xp.backend.from_dlpack(x, **options))

    return from_dlpack


def _sizes(shape: Any) -> tuple[Any, ...]:
    return tuple(shape) if isinstance(shape, tuple | list) else (shape,)


def _filled(xp: Any, shape: Any, make: Callable[[Any], Any]) -> Any:
    """Give an array of one value, which ``make`` makes of a shape; where sizes are not known yet, one element is broadcast by an operation."""
    if not is_symbolic(*_sizes(shape)):
        return _lift(xp, make(shape))
    return lift_to(xp.level, xp.broadcast_to(capturing().lift(xp.backend.array(make(()))), shape))


def _shaped(name: str) -> None:
    @creation(name)
    def make(xp: Any) -> Any:
        def create(shape: Any, *, dtype: Any = None, device: Any = None) -> Any:
            return _filled(
                xp, shape, lambda n: getattr(xp.backend, name)(n, dtype=_dtype(xp, dtype), device=xp.backend.parse_device(device))
            )

        return create

    @creation(f"{name}_like")
    def make_like(xp: Any) -> Any:
        def create_like(x: Any, /, *, dtype: Any = None, device: Any = None) -> Any:
            place = device_of(x) if device is None else xp.backend.parse_device(device)
            kind = x.dtype if dtype is None else _dtype(xp, dtype)
            return _filled(xp, tuple(x.shape), lambda n: getattr(xp.backend, name)(n, dtype=kind, device=place))

        return create_like


for _name in ("empty", "ones", "zeros"):
    _shaped(_name)


@creation("full", carries=True)
def _full(xp: Any) -> Any:
    def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Give an array filled with one value, through which derivatives flow."""
        if is_symbolic(fill_value):
            fill_value = fill_value.array(xp.backend, xp.zeros((), dtype=dtype or xp.backend.default("integral"), device=device))
        if _is_array(fill_value):
            return xp.broadcast_to(asarray(fill_value, dtype=dtype, device=device), shape)
        make = xp.backend.full
        return _filled(xp, shape, lambda n: make(n, fill_value, dtype=_dtype(xp, dtype), device=xp.backend.parse_device(device)))

    asarray = xp.asarray
    return full


@creation("full_like", carries=True)
def _full_like(xp: Any) -> Any:
    def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Any:
        """Give an array of another's shape filled with one value."""
        place = device_of(x) if device is None else device
        return xp.full(tuple(x.shape), fill_value, dtype=x.dtype if dtype is None else dtype, device=place)

    return full_like


@creation("arange")
def _arange(xp: Any) -> Any:
    def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Any:
        """Give evenly spaced values; the arguments carry no derivative."""
        numbers = [n.item() if isinstance(n, Array) else n for n in (start, stop, step)]
        if is_symbolic(*numbers):
            kind = xp.backend.default("integral" if all(isinstance(n, int | None) for n in numbers) else "real floating")
            like = xp.backend.zeros((), dtype=kind if dtype is None else _dtype(xp, dtype), device=xp.backend.parse_device(device))
            first, last = (0, numbers[0]) if stop is None else numbers[:2]
            return lift_to(xp.level, xp.arange_like(capturing().lift(like), first, last, numbers[2]))
        return _lift(xp, xp.backend.arange(*numbers, dtype=_dtype(xp, dtype), device=xp.backend.parse_device(device)))

    return arange


@creation("eye")
def _eye(xp: Any) -> Any:
    def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Any:
        """Give ones on a diagonal."""
        if is_symbolic(n_rows, n_cols):
            rows, columns = (xp.arange(n, device=device) for n in (n_rows, n_rows if n_cols is None else n_cols))
            kind = xp.backend.default("real floating") if dtype is None else dtype
            return xp.astype(xp.expand_dims(rows, axis=1) + k == columns, kind)
        return _lift(xp, xp.backend.eye(n_rows, n_cols, k=k, dtype=_dtype(xp, dtype), device=xp.backend.parse_device(device)))

    return eye


@creation("linspace", carries=True)
def _linspace(xp: Any) -> Any:
    def linspace(start: Any, stop: Any, /, num: int, *, dtype: Any = None, device: Any = None, endpoint: bool = True) -> Any:
        """Give evenly spaced values, through whose ends derivatives flow."""
        raw = xp.backend
        if is_symbolic(num):
            along = xp.arange(num, dtype=dtype or raw.default("real floating"), device=device)
            return along * (stop - start) / (num - 1 if endpoint else num) + start
        ends = [xp.asarray(end, device=device) for end in (start, stop) if _is_array(end)]
        if not ends:
            place = xp.backend.parse_device(device)
            return _lift(xp, raw.linspace(start, stop, num, dtype=_dtype(xp, dtype), device=place, endpoint=endpoint))
        kind = next((xp.backend.real_of(end.dtype) for end in ends if inexact(end)), xp.backend.default("real floating"))
        weight = _lift(xp, raw.linspace(0.0, 1.0, num, dtype=kind, device=ends[0].device, endpoint=endpoint))
        found = iter(ends)
        first, last = (next(found) if _is_array(end) else end for end in (start, stop))
        out = (1 - weight) * first + weight * last
        return out if dtype is None else xp.astype(out, dtype)

    return linspace


def _is_array(x: Any) -> bool:
    return isinstance(x, Array) or lookup(x) is not None


def _dtype_of(x: Any) -> Any:
    return x.dtype if _is_array(x) else x


@creation("can_cast")
def _can_cast(xp: Any) -> Any:
    def can_cast(from_: Any, to: Any, /) -> bool:
        """Tell whether the dtype of an array, or a dtype, may be cast to another."""
        return bool(xp.backend.can_cast(_dtype_of(from_), to))

    return can_cast


class Limits:
    """A library's limits of a dtype, as Python numbers: those of several libraries are NumPy scalars, which are arrays beside an array."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._raw, name)
        return value.item() if hasattr(value, "item") else value

    def __repr__(self) -> str:
        return repr(self._raw)


def _limits(name: str) -> None:
    @creation(name)
    def make(xp: Any) -> Any:
        def limits(type: Any, /) -> Any:
            """Give the limits of a dtype, or of an array's."""
            return Limits(getattr(xp.backend, name)(_dtype_of(type)))

        return limits


for _name in ("finfo", "iinfo"):
    _limits(_name)


@creation("result_type")
def _result_type(xp: Any) -> Any:
    def result_type(*arrays_and_dtypes: Any) -> Any:
        """Give the dtype that arrays, dtypes and Python numbers promote to."""
        return xp.backend.result_type(*map(_dtype_of, arrays_and_dtypes))

    return result_type


@creation("isdtype")
def _isdtype(xp: Any) -> Any:
    def isdtype(dtype: Any, kind: Any) -> bool:
        """Tell whether a dtype is of a kind."""
        return bool(xp.backend.isdtype(_dtype_of(dtype), kind))

    return isdtype


@creation("broadcast_shapes")
def _broadcast_shapes(xp: Any) -> Any:
    return broadcast_shapes


class _Info:
    """What a library says of itself, less what the active transformations take away."""

    def __init__(self, info: Any) -> None:
        self._info = info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._info, name)

    def capabilities(self) -> dict[str, Any]:
        """Tell whether masks, and shapes that depend on values, may be used."""
        found: dict[str, Any] = self._info.capabilities()
        return {**found, "boolean indexing": False, "data-dependent shapes": False} if shapes_are_fixed() else found


@creation("__array_namespace_info__")
def _namespace_info(xp: Any) -> Any:
    return lambda: _Info(xp.backend.xp.__array_namespace_info__())


# --- values -------------------------------------------------------------------------------------------------------------------------------
def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda xp: value


def _library_dtype(name: str) -> Callable[[Any], Any]:
    return lambda xp: getattr(xp.backend.xp, name)


for _name, _value in {"e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None, "pi": math.pi}.items():
    CREATION[_name] = _constant(_value)
for _name in (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64", "complex64", "complex128"),
):
    CREATION[_name] = _library_dtype(_name)
