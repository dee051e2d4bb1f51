"""Modules that take the place of NumPy's or CuPy's in an import, and record what is done with arrays of this package."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from agnostic_ad.errors import UnmappedFunctionError
from agnostic_ad.numpy_names import arrays_in, call

__all__ = ["DropIn"]

SUBMODULES = ("linalg", "fft", "random")


class DropIn(ModuleType):
    """A module with everything of a library, whose functions record arrays of this package among their arguments.

    Parameters
    ----------
    name : str
        Its own name, such as "agnostic_ad.numpy".
    library : module
        ``numpy``, ``cupy``, or a sub-module of one.
    prefix : str
        What the map puts in front of its functions' names: "", "linalg.", ...
    """

    def __init__(self, name: str, library: ModuleType, prefix: str = "") -> None:
        super().__init__(name, library.__doc__)
        self.__dict__.update(_library=library, _prefix=prefix)
        if not prefix:
            for part in SUBMODULES:
                module = DropIn(f"{name}.{part}", getattr(library, part), f"{part}.")
                setattr(self, part, module)
                sys.modules[module.__name__] = module  # so that `import agnostic_ad.numpy.random as npr` finds it

    def __getattr__(self, name: str) -> Any:
        library: ModuleType = self.__dict__["_library"]
        try:
            value = getattr(library, name)
        except AttributeError:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}, as {library.__name__!r} has none") from None
        made = self._taken(name, value)
        if not name.startswith("__"):
            setattr(self, name, made)
        return made

    def _taken(self, name: str, value: Any) -> Any:
        if name in ("r_", "c_"):
            return Concatenator(value, columns=name == "c_")
        if isinstance(value, type | ModuleType) or not callable(value) or name.startswith("_"):
            return value
        if hasattr(value, "nin"):
            return value  # a universal function asks its operands itself, by NumPy's protocol or CuPy's
        made = recording(value, self.__dict__["_prefix"] + name)
        made.__module__, made.__qualname__ = self.__name__, name  # where pickle looks for it
        return made

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_library"])


def recording(function: Callable[..., Any], path: str) -> Callable[..., Any]:
    """Give a library's function, recorded where an array of this package is among the arguments."""

    @functools.wraps(function)
    def record(*args: Any, **kwargs: Any) -> Any:
        if arrays_in(args) or (kwargs and arrays_in(kwargs.values())):
            return call(path, args, kwargs, None, function)
        return function(*args, **kwargs)

    return record


class Concatenator:
    """What ``np.r_`` and ``np.c_`` are: arrays joined between brackets.

    Parameters
    ----------
    plain : object
        The library's own, for slices, and where there is no array of this package.
    columns : bool
        Whether vectors are columns, joined along the last axis.
    """

    def __init__(self, plain: Any, columns: bool) -> None:
        self._plain, self._columns = plain, columns

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not arrays_in(parts):
            return self._plain[key]
        if isinstance(parts[0], str):
            raise UnmappedFunctionError(
                "r_ and c_: directives in a string are not supported with Variables. Use np.concatenate or np.stack."
            )
        parts = tuple(self._plain[part] if isinstance(part, slice) else part for part in parts)
        if self._columns:
            return call("column_stack", (parts,), {})
        return call(
            "concatenate", ([part if getattr(part, "ndim", 0) or isinstance(part, list | tuple) else [part] for part in parts],), {}
        )
