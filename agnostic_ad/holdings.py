"""What a function holds beside its arguments: the Variables that a call may change, and the values that decide what it does.

`holdings` walks what the function's code can reach: closures, defaults, the globals it names, ``self``, containers. Classes whose objects
hold more than their attributes tell (modules, optimizers) say so with `describe`.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache, partial
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from agnostic_ad.levels import Array, Level
from agnostic_ad.namespaces import lookup
from agnostic_ad.reverse import Variable

__all__ = ["Holdings", "IfNamed", "describe", "described", "holdings", "leaves_only"]


class IfNamed(NamedTuple):
    """A part of an object that matters where code names one of these."""

    names: frozenset[str]
    value: Any


_KINDS: dict[type, Callable[[Any], Iterable[tuple[str, Any]]]] = {}
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_LIBRARIES = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def describe(kind: type, parts: Callable[[Any], Iterable[tuple[str, Any]]]) -> None:
    """Say what objects of a class hold that matters to a function that uses them.

    Parameters
    ----------
    kind : type
        The class; subclasses included.
    parts : callable
        Takes an object; gives names and values: Variables, numbers, containers, other objects.
    """
    _KINDS[kind] = parts
    described.cache_clear()


@cache
def described(kind: type) -> Callable[[Any], Iterable[tuple[str, Any]]] | None:
    """Give what `describe` was told of a class or the nearest one above it."""
    return next((_KINDS[base] for base in kind.__mro__ if base in _KINDS), None)


@cache
def _is_users(module: str, package: str) -> bool:
    """Tell whether a module is the user's, neither this package's nor a library's: what its functions name is walked."""
    top = module.partition(".")[0]
    if top == "agnostic_ad" or top in sys.builtin_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return top == package or file is None or not file.startswith(_LIBRARIES)


class Holdings:
    """What was found.

    Attributes
    ----------
    variables : list of Variable
        Leaves of the define-by-run tape, each once, and what else is an Array.
    values : list of (path, type, value)
        Plain values; of functions and raw arrays, which they are.
    kept : list
        What ``values`` tells by identity.
    reached : list of int
        The identities of all Arrays.
    """

    def __init__(self, names: set[str], package: str) -> None:
        self.variables: list[Any] = []
        self.values: list[tuple[str, type, Any]] = []
        self.kept: list[Any] = []
        self.reached: list[int] = []
        self.names, self.package = names, package
        self._seen: dict[int, Any] = {}  # with the objects, so that nothing else takes their ids
        self.bare = False  # whether there is nothing but code and libraries
        self.states = False  # whether there is an object of a described class

    def matters(self, x: Any, f: Any) -> bool:
        """Tell whether something found decides what the function ``f`` does: anything but itself, and modules of libraries."""
        return x is not f and not (isinstance(x, ModuleType) and not _is_users(x.__name__, self.package))

    def visit(self, path: str, x: Any, decides: bool = True) -> None:
        """Walk an object; ``decides``: whether plain values under it decide what the function does."""
        kind: Any = type(x)
        if kind is IfNamed:
            if self.names.isdisjoint(x.names):
                return
            x, kind = x.value, type(x.value)
        if kind in _PLAIN:
            if decides:
                self.values.append((path, kind, x))
            return
        if id(x) in self._seen or isinstance(x, type):
            return
        self._seen[id(x)] = x
        parts = described(kind)
        if isinstance(x, Array):
            self.variables.append(x)
        elif parts is not None:
            self.states = True
            self._identity(path, x)
            for name, method in _methods(kind, self.package):
                self._code(f"{path}.{name}", method)
            for name, value in parts(x):
                self.visit(f"{path}.{name}", value)
        elif isinstance(x, dict):
            for key, value in x.items():
                self.visit(f"{path}[{key!r}]", value, decides)
        elif isinstance(x, list | tuple | set | frozenset | deque):
            for i, value in enumerate(x):
                self.visit(f"{path}[{i}]", value, decides)
        elif isinstance(x, FunctionType):
            self._function(path, x)
        elif isinstance(x, MethodType):
            self.visit(path, x.__self__)
            self.visit(path, x.__func__)
        elif isinstance(x, partial):
            for part in (x.func, x.args, x.keywords):
                self.visit(path, part)
        elif isinstance(x, ModuleType):
            if _is_users(x.__name__, self.package):
                for name in sorted(self.names & vars(x).keys()):
                    self.visit(f"{path}.{name}", vars(x)[name])
        elif lookup(x) is not None:
            if decides:
                self._identity(path, x)
        elif hasattr(x, "__wrapped__"):
            self.visit(path, x.__wrapped__)
        elif hasattr(x, "__dict__") and (kind is SimpleNamespace or _is_users(kind.__module__, self.package)):
            self._object(path, x)

    def _identity(self, path: str, x: Any) -> None:
        self.values.append((path, object, id(x)))
        self.kept.append(x)

    def _function(self, path: str, f: FunctionType) -> None:
        code, users = f.__code__, _is_users(f.__module__ or "", self.package)
        self.values.append((path, CodeType, id(code)))
        self.kept.append(code)
        for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
            try:
                x = cell.cell_contents
            except ValueError:  # not yet assigned
                continue
            if (
                users
                or isinstance(x, MethodType | partial | Array)
                or _is_users(getattr(x, "__module__", None) or "builtins", self.package)
            ):
                self.visit(name, x)
        if not users:
            return
        for value in (f.__defaults__, f.__kwdefaults__, vars(f).get("__wrapped__")):
            if value:
                self.visit(f"{f.__name__}'s default", value)
        for name in _names(code):
            self.names.add(name)
            if name in f.__globals__:
                self.visit(name, f.__globals__[name])

    def _code(self, path: str, f: FunctionType) -> None:
        if id(f) not in self._seen:
            self._seen[id(f)] = f
            self._function(path, f)

    def _object(self, path: str, x: Any) -> None:
        kind: Any = type(x)
        for name, method in _methods(kind, self.package):
            if name in self.names or name == "__call__":
                self._code(f"{path}.{name}", method)
        for name, value in vars(x).items():
            self.visit(f"{path}.{name}", value, name in self.names)


@cache
def _methods(kind: type, package: str) -> list[tuple[str, FunctionType]]:
    """Give the methods of a class that users wrote."""
    found: dict[str, FunctionType] = {}
    for base in reversed(kind.__mro__):
        for name, x in vars(base).items():
            x = x.fget if isinstance(x, property) else getattr(x, "__func__", x)
            if isinstance(x, FunctionType) and _is_users(x.__module__ or "", package):
                found[name] = x
            else:
                found.pop(name, None)
    return list(found.items())


@cache
def _names(code: CodeType) -> tuple[str, ...]:
    """Give the globals and attributes that code, and the functions within it, name."""
    inner = [name for c in code.co_consts if isinstance(c, CodeType) for name in _names(c)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def holdings(f: Any, others: Iterable[tuple[str, Any]], names: set[str]) -> Holdings:
    """Find what a function holds.

    Parameters
    ----------
    f : callable
        The function.
    others : iterable of (str, object)
        Further objects that it is given.
    names : set of str
        What code is known to name, from earlier walks; it grows.
    """
    package = (getattr(f, "__module__", None) or "").partition(".")[0]
    while True:
        before = len(names)
        found = Holdings(names, package)
        found.visit(getattr(f, "__name__", "the function"), f)
        for path, x in others:
            found.visit(path, x)
        if len(names) == before:
            found.bare = not any(found.matters(x, f) for x in found._seen.values()) and all(kind is CodeType for _, kind, _ in found.values)
            found._seen.clear()
            return found


def leaves_only(found: Holdings) -> list[Variable] | None:
    """Give the Variables as the leaves that they are; None where the function has to run as it is (in a transformation, or before shapes are known)."""
    variables = []
    for v in found.variables:
        if type(v) is not Variable or v.level is not Level.base or isinstance(v.payload, Array):
            return None
        if v.is_leaf:
            variables.append(v)
    return variables
