"""From an array to the namespace that computes with it, and the facts about dtypes that rules need."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import MixedArraysError, UnsupportedError

__all__ = [
    "COMPLEX",
    "RAW",
    "Array",
    "ShapeDtype",
    "backend_of",
    "backend_of_namespace",
    "common_backend",
    "is_raw",
    "lookup",
]

Array: TypeAlias = Any
"""An array of any library, wrapped or raw."""

RAW: dict[type, Backend] = {}
"""Array type -> backend, filled as types are met: the only look-up on the hot path."""


class _Dtypes:
    """A set of dtypes that never compares those of different libraries (array-api-strict warns of it)."""

    def __init__(self) -> None:
        self._of_type: dict[type, set[Any]] = {}

    def update(self, dtypes: Iterable[Any]) -> None:
        """Add dtypes."""
        for dtype in dtypes:
            self._of_type.setdefault(type(dtype), set()).add(dtype)

    def __contains__(self, dtype: Any) -> bool:
        known = self._of_type.get(type(dtype))
        return known is not None and dtype in known


COMPLEX = _Dtypes()
"""The complex dtypes of every library in use."""

_BACKENDS: dict[Any, Backend] = {}
MODULES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "jaxlib": "jax", "dask": "dask", "cupy": "cupy"}
MODULES |= {"array_api_strict": "strict", "mparray": "mparray"}
_NOT_ARRAYS: set[type] = set()


@dataclass(frozen=True, slots=True)
class ShapeDtype:
    """What is known of an array before there is data: its shape and dtype.

    Parameters
    ----------
    shape : tuple of int
        The sizes of the axes. For ``graph.capture`` one may be None, any size, or a name: axes of one name have one size.
    dtype : dtype or str
        The library's own dtype, or its name.

    Examples
    --------
    >>> from agnostic_ad import graph
    >>> graph.ShapeDtype((2, 3), "float32").ndim
    2
    """

    shape: tuple[Any, ...]
    dtype: Any

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)


def _install(name: Any, backend: Backend) -> Backend:
    COMPLEX.update(backend.complex_dtypes())
    return _BACKENDS.setdefault(name, backend)  # one of them, where several threads meet a library first


def _named(name: str) -> Backend:
    found = _BACKENDS.get(name)
    if found is None:
        found = _install(name, importlib.import_module(f"agnostic_ad.backends.{name}").make())
    return found


def _third_parties() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="agnostic_ad.backends")}


def backend_of_namespace(xp: Any) -> Backend:
    """Give the backend of an importable Array API namespace (or of the library's main module)."""
    if isinstance(xp, Backend):
        return xp
    name = getattr(xp, "__name__", repr(xp))
    parts = name.split(".")
    if parts[0] == "array_api_compat":
        parts = parts[1:]
    if parts and parts[0] in MODULES:
        return _named(MODULES[parts[0]])
    key = name, id(xp)  # two namespaces may have one name: marray makes a new one for each import
    if key in _BACKENDS:
        return _BACKENDS[key]
    point = _third_parties().get(parts[0]) if parts else None
    if point is not None:
        return _install(key, point.load()())
    if not all(hasattr(xp, needed) for needed in ("asarray", "sin", "float64")):
        raise UnsupportedError(f"{xp!r} is no Array API namespace: it lacks asarray, sin or float64. Pass a module such as numpy.")
    return _install(key, _general(parts[0])(xp))


def _general(library: str) -> type[Backend]:
    if library == "marray":
        from agnostic_ad.backends.marray import MaskedBackend

        return MaskedBackend
    return Backend


def backend_named(module: str) -> Backend:
    """Give the backend of a namespace by the name of its module."""
    return backend_of_namespace(importlib.import_module(module))


def _discover(kind: type, x: Any) -> Backend | None:
    for klass in kind.__mro__:
        library = MODULES.get(klass.__module__.partition(".")[0])
        if library is not None and (library != "jax" or "jax" in sys.modules):
            backend = _named(library)
            if backend.owns(x):
                return backend
    if hasattr(kind, "__array_namespace__") and not hasattr(kind, "__agnostic_ad_level__"):
        return backend_of_namespace(x.__array_namespace__())
    return None


def lookup(x: Any) -> Backend | None:
    """Give the backend of a raw array, or None where ``x`` is no raw array."""
    kind = type(x)
    found = RAW.get(kind)
    if found is None and kind not in _NOT_ARRAYS:
        found = _discover(kind, x)
        if found is None:
            _NOT_ARRAYS.add(kind)
        else:
            RAW[kind] = found
    return found


def is_raw(x: Any) -> bool:
    """Tell whether ``x`` is an array of some library, not wrapped by this package."""
    return lookup(x) is not None


def backend_of(x: Any) -> Backend:
    """Give the backend of a raw array."""
    found = lookup(x)
    if found is None:
        raise TypeError(f"{type(x).__name__} is no array of a library that this package can compute with: {x!r:.80}")
    return found


def common_backend(arrays: Any, what: str) -> Backend | None:
    """Give the one backend of all raw arrays among ``arrays``; two of them are an error."""
    found: Backend | None = None
    for x in arrays:
        backend = lookup(x)
        if backend is None or backend is found:
            continue
        if found is not None:
            raise MixedArraysError(
                f"{what}: operands come from two array libraries, {found.name} and {backend.name}. "
                f"Convert one of them first, for instance with agnostic_ad.Variable(x).to({found.name})."
            )
        found = backend
    return found
