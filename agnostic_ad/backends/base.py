"""The general backend: everything beyond the standard, written in the standard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any, ClassVar

from agnostic_ad.backends import scipy
from agnostic_ad.backends.keys import specified
from agnostic_ad.errors import MissingFunctionError

__all__ = ["Backend", "NumpyLike"]


class Chapter:
    """The operations of one dotted chapter of the table on one library.

    For ``linalg.inv``: the backend's own ``linalg_inv``, the library's ``linalg.inv``, or the general form.

    Parameters
    ----------
    backend : Backend
        The library.
    name : str
        The chapter's name.
    """

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        backend, path = self._backend, f"{self._name}.{name}"
        own = getattr(type(backend), path.replace(".", "_"), None)
        value = getattr(backend.extension(self._name), name, None) if own is None and path not in backend.replaced else None
        if value is None:
            found = own or backend.fallbacks.get(path)
            if found is None:
                raise MissingFunctionError(f"{backend.name} has no function {path!r}, and there is no fallback for it")
            value = partial(found, backend)
        setattr(self, name, value)
        return value


class Backend:
    """An Array API namespace, plus what the standard lacks.

    Attribute access falls through to the library's namespace, so that a derivative rule sees one object ``xp`` for both.

    Parameters
    ----------
    xp : module or object
        A namespace that follows the Array API standard.
    """

    name: str
    mutable = True
    """Whether ``x += y`` and ``x[key] = y`` write into the memory of ``x``."""
    lazy = False
    """Whether values are computed only when asked for, so that no shape may depend on them."""
    tells_views = False
    """Whether an array's ``base`` is None exactly where it owns its memory."""
    checks_bounds = False
    """Whether comparing indices with sizes is cheap, and worth it: not where it waits for a device or a trace."""
    blocks = 0
    """How many elements of large arrays to update at a time, in views of the whole; 0 for all at once."""
    executor = ""
    """The module of `agnostic_ad.graph.executors` that writes its programs; straight calls where there is none."""
    fallbacks: ClassVar[dict[str, Callable[..., Any]]] = {}
    """Composites of the op table, for functions that a library lacks."""
    replaced: ClassVar[frozenset[str]] = frozenset()
    """Functions that the library has, but not as the standard says: the fallbacks serve in their place."""
    operators: ClassVar[dict[str, Callable[..., Any]]] = {}
    """Ops for which the library's Python operator is the quickest equivalent call."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.name = getattr(xp, "__name__", type(xp).__name__).removeprefix("array_api_compat.")
        self._kinds: dict[Any, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "xp":
            raise AttributeError(name)
        value = getattr(self.xp, name, None) if name not in self.replaced else None
        if value is None:
            if name not in self.fallbacks:
                raise MissingFunctionError(f"{self.name} has no function {name!r}, and there is no fallback for it")
            value = partial(self.fallbacks[name], self)
        setattr(self, name, value)
        return value

    @cached_property
    def nn(self) -> Chapter:
        """The operations of neural networks."""
        return Chapter(self, "nn")

    @cached_property
    def graph(self) -> Chapter:
        """Choices and loops."""
        return Chapter(self, "graph")

    @cached_property
    def linalg(self) -> Chapter:
        """Linear algebra."""
        return Chapter(self, "linalg")

    @cached_property
    def fft(self) -> Chapter:
        """Fourier transforms."""
        return Chapter(self, "fft")

    @cached_property
    def special(self) -> Chapter:
        """Special functions."""
        return Chapter(self, "special")

    def extension(self, name: str) -> Any:
        """Give the library's own module of a chapter's functions; None where it has none."""
        return None if name in ("nn", "graph") else getattr(self.xp, name, None)

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    def __reduce__(self) -> Any:
        from agnostic_ad.namespaces import backend_named

        return backend_named, (self.xp.__name__,)

    # --- what an array is -------------------------------------------------------------------------------------------
    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is an array of this library."""
        return hasattr(x, "__array_namespace__")

    def device(self, x: Any) -> Any:
        """Give the device that ``x`` lies on."""
        return x.device

    def devices(self) -> list[str]:
        """Give the names of the devices that the library can use here."""
        return [str(d) for d in self.xp.__array_namespace_info__().devices() if d is not None]

    def version(self) -> str:
        """Give the library's version."""
        return str(getattr(self.xp, "__version__", "?"))

    def kind(self, dtype: Any) -> str:
        """Give "b", "i", "f" or "c": boolean, integer, real floating, complex floating."""
        found = self._kinds.get(dtype)
        if found is None:
            isdtype = self.xp.isdtype
            pairs = (("f", "real floating"), ("c", "complex floating"), ("b", "bool"))
            found = self._kinds[dtype] = next((letter for letter, kind in pairs if isdtype(dtype, kind)), "i")
        return found

    def complex_dtypes(self) -> Iterable[Any]:
        """Give the library's complex dtypes."""
        return [getattr(self.xp, name) for name in ("complex64", "complex128") if hasattr(self.xp, name)]

    def dtype(self, name: Any) -> Any:
        """Give the library's dtype for a name such as "float32"; a dtype is returned as it is."""
        if not isinstance(name, str):
            return name
        if not hasattr(self.xp, name):
            raise TypeError(f"{self.name} has no dtype {name!r}")
        return getattr(self.xp, name)

    # --- in and out -------------------------------------------------------------------------------------------------
    def array(self, x: Any) -> Any:
        """Give ``x`` as an array; some libraries return scalars from computations."""
        return x

    def scalar(self, value: Any, like: Any) -> Any:
        """Give a Python number as a 0-d array of the dtype that the standard's promotion with ``like`` gives."""
        kind, want = (
            self.kind(like.dtype),
            "bifc".index("b" if value is True or value is False else {int: "i", float: "f"}.get(type(value), "c")),
        )
        dtype = like.dtype
        if "bifc".index(kind) < want:
            if want == 3 and kind == "f":
                dtype = self.complex_of(dtype)
            else:
                dtype = [None, self.default("integral"), self.default("real floating"), self.default("complex floating")][want]
        return self.xp.asarray(value, dtype=dtype, device=self.device(like))

    def default(self, kind: str) -> Any:
        """Give the default dtype of a kind."""
        return self.xp.__array_namespace_info__().default_dtypes()[kind]

    def complex_of(self, dtype: Any) -> Any:
        """Give the complex dtype of the same precision as a real one."""
        return self.xp.complex64 if dtype == self.xp.float32 else self.xp.complex128

    def real_of(self, dtype: Any) -> Any:
        """Give the real dtype of the same precision as a complex one."""
        if self.kind(dtype) != "c":
            return dtype
        return self.xp.float32 if dtype == self.xp.complex64 else self.xp.float64

    def concrete(self, x: Any) -> bool:
        """Tell whether the values of ``x`` are there to be looked at."""
        return not self.lazy

    def number(self, x: complex) -> Any:
        """Give a Python number as a 0-d float64 or complex128 array."""
        return self.xp.asarray(x, dtype=self.dtype("complex128" if isinstance(x, complex) else "float64"))

    def one(self, shape: tuple[int, ...], dtype: Any, device: Callable[[], Any]) -> Any:
        """Give an array of ones."""
        return self.xp.ones(shape, dtype=dtype, device=device())

    def own(self, x: Any) -> Any:
        """Give an array with the values of ``x`` whose memory nobody else holds."""
        return self.xp.asarray(x, copy=True)

    def sharers(self, x: Any) -> int | None:
        """Count the arrays on the memory of ``x`` that Python's count of references to ``x`` does not tell of; None where nothing tells."""
        return None

    def in_one_pass(self, function: Callable[..., Mapping[str, Any]], arrays: dict[str, Any]) -> Mapping[str, Any] | None:
        """Run ``function(xp, arrays)``, elementwise, and write its results over the arrays of their names; give its other results.

        None where nothing was done, because this library does not compile.
        """
        return None

    def to_numpy(self, x: Any) -> Any:
        """Give ``x`` as a NumPy array on the host."""
        import numpy as np

        try:
            return np.from_dlpack(x)
        except BufferError:  # not every library exports what is read-only, such as the result of broadcast_to
            return np.from_dlpack(self.xp.asarray(x, copy=True))

    def from_numpy(self, x: Any, device: Any = None) -> Any:
        """Give a NumPy array as one of this library."""
        return self.xp.asarray(x, device=self.parse_device(device))

    def parse_device(self, device: Any) -> Any:
        """Give the library's own device for what users write; "cpu" is understood everywhere."""
        return device

    def to_device(self, x: Any, device: Any) -> Any:
        """Give ``x`` on another device of the same library."""
        return x.to_device(self.parse_device(device))

    def synchronize(self) -> None:
        """Wait until everything asked of the device is done."""

    # --- computation ------------------------------------------------------------------------------------------------
    def from_scipy(self, name: str, *args: Any) -> Any:
        """Compute a function of scipy.special on the host; the result lies where the operands do."""
        device = next((self.device(a) for a in args if self.owns(a)), None)
        return self.from_numpy(scipy.compute(name, *(self.to_numpy(a) if self.owns(a) else a for a in args)), device)

    def special_zeta(self, x: Any, q: Any = None, /) -> Any:
        """Give Hurwitz' zeta function, or Riemann's, which only SciPy has."""
        return self.from_scipy("zeta", x) if q is None else self.special.hurwitz(x, q)

    def scatter_add(self, values: Any, indices: Any, /, *, size: int, axis: int = 0) -> Any:
        """Sum ``values`` into ``size`` zero slices along ``axis``: ``out[..., indices[k], ...] += values[..., k, ...]``.

        The transpose of ``take``. One axis. This general form sorts the indices and runs a
        segmented scan in log2(k) rounds: unlike a cumulative sum and differences, or one-hot products, it is exact beside
        infinities, NaN and values of very different magnitude.
        """
        xp = self.xp
        values, indices = xp.moveaxis(values, axis, 0), self.wrap(indices, size)
        count, rest = values.shape[0], values.shape[1:]
        if count == 0 or size == 0:
            out = xp.zeros((size, *rest), dtype=values.dtype, device=self.device(values))
            return xp.moveaxis(out, 0, axis)
        order = xp.argsort(indices, stable=True)
        keys, sums = xp.take(indices, order), xp.take(values, order, axis=0)
        none = xp.zeros((), dtype=values.dtype, device=self.device(values))
        step = 1
        while step < count:
            same = xp.reshape(keys[step:] == keys[:-step], (count - step, *(1 for _ in rest)))
            tail = sums[step:, ...] + xp.where(same, sums[:-step, ...], none)
            sums = xp.concat([sums[:step, ...], tail], axis=0)
            step *= 2
        rows = xp.arange(size, dtype=keys.dtype, device=self.device(values))
        last = xp.searchsorted(keys, rows, side="right") - 1
        hit = (last >= 0) & (xp.take(keys, xp.where(last >= 0, last, xp.zeros_like(last))) == rows)
        picked = xp.take(sums, xp.where(hit, last, xp.zeros_like(last)), axis=0)
        out = xp.where(xp.reshape(hit, (size, *(1 for _ in rest))), picked, none)
        return xp.moveaxis(out, 0, axis)

    def wrap(self, indices: Any, size: Any) -> Any:
        """Count negative indices from the front."""
        return self.xp.where(indices < 0, indices + size, indices)

    def gather(self, x: Any, indices: Any, /, *, axis: int = 0) -> Any:
        """Give ``x[..., indices, ...]`` for one axis and a 1-D array of indices, negative ones included."""
        return self.xp.take(x, self.wrap(indices, x.shape[axis]), axis=axis)

    def getitem(self, x: Any, /, key: Any) -> Any:
        """Give ``x[key]`` for a basic key."""
        key, flips = specified(key, x.shape)
        return self.xp.flip(x[key], axis=flips) if flips else x[key]

    def setitem(self, x: Any, value: Any, /, key: Any) -> Any:
        """Give a copy of ``x`` with ``x[key] = value`` done, for a basic key."""
        out = self.own(x)
        key, flips = specified(key, x.shape)
        room = tuple(x[key].shape)
        if 0 in room:
            return out
        value = self.xp.broadcast_to(value, room)
        value = self.xp.flip(value, axis=flips) if flips else value
        key = tuple(k for k in key if k is not None)  # which not every library takes on the left
        out[key] = self.xp.reshape(value, x[key].shape)
        return out

    def scatter(self, x: Any, /, key: Any, shape: tuple[int, ...]) -> Any:
        """Give zeros of ``shape`` with ``x`` at a basic key: the transpose of ``getitem``."""
        return self.setitem(self.xp.zeros(shape, dtype=x.dtype, device=self.device(x)), x, key)

    def add_into(self, buffer: Any, value: Any, key: Any) -> Any:
        """Add ``value`` to ``buffer[key]``, where ``key`` is basic, in place; give the buffer."""
        key, flips = specified(key, buffer.shape)
        buffer[key] += self.xp.flip(value, axis=flips) if flips else value
        return buffer

    def linalg_cholesky(self, x: Any, /, *, upper: bool = False) -> Any:
        """Factor, from the lower triangle also where the upper factor is wanted: some libraries then read the other one."""
        factor = getattr(self.extension("linalg"), "cholesky", None)
        if factor is None:
            raise MissingFunctionError(f"{self.name} has no function 'linalg.cholesky', and there is no fallback for it")
        y = factor(x)
        return self.xp.matrix_transpose(self.xp.conj(y)) if upper else y

    def stop_gradient(self, x: Any, /) -> Any:
        """Give ``x``; the derivative of this is zero."""
        return x


def exact_log1p(self: Backend, x: Any, /) -> Any:
    """Give log(1 + x). NumPy's, of small complex numbers, rounds 1 + x, and the real part has lost its digits (numpy/numpy#22609)."""
    xp, y = self, self.xp.log1p(x)
    if self.kind(x.dtype) != "c":
        return y
    a, b = xp.real(x), xp.imag(x)
    small = (xp.abs(a) < 0.5) & (xp.abs(b) < 0.5)
    inside = xp.where(small, a * (2 + a) + b * b, xp.zeros_like(a))
    return xp.where(small, xp.astype(xp.log1p(inside) / 2, x.dtype) + xp.astype(xp.atan2(b, 1 + a), x.dtype) * 1j, y)


class NumpyLike(Backend):
    """A library that indexes as NumPy does: a basic key is used as it is."""

    def getitem(self, x: Any, /, key: Any) -> Any:
        """Give ``x[key]``."""
        return x[key]

    def setitem(self, x: Any, value: Any, /, key: Any) -> Any:
        """Give a copy with the change."""
        out = self.own(x)
        out[key] = value
        return out

    def add_into(self, buffer: Any, value: Any, key: Any) -> Any:
        """Add in place."""
        buffer[key] += value
        return buffer
