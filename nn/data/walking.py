"""What a dataset holds: the generators that it draws from, and whether anything in it can draw at all."""

from __future__ import annotations

import copy
import functools
import itertools
import random
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from agnostic_ad.namespaces import lookup
from agnostic_ad.random import Generator, default_generator

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, Generator)
_ATOMS: set[type] = {int, float, complex, bool, str, bytes, bytearray, type(None), np.ndarray, np.memmap, np.dtype, slice, range}
_ATOMS |= {types.ModuleType, types.BuiltinFunctionType, type, type(Ellipsis), type(NotImplemented)}
_QUIET = ("agnostic_ad.nn.data.dataset", "agnostic_ad.nn.data.datasets.")
"""Modules whose classes draw nothing."""


@dataclass
class Found:
    """What there is in an object.

    Attributes
    ----------
    generators : list
        The generators, each once, in an order that follows from how the object is built.
    shared : bool
        Whether one of them is reached in a way that a copy would share: a function's globals or closure, a class.
    quiet : bool
        Whether all is known to draw nothing.
    """

    generators: list[Any] = field(default_factory=list)
    shared: bool = False
    quiet: bool = True
    _parents: dict[int, list[Any]] = field(default_factory=dict)
    _seen: dict[int, Any] = field(default_factory=dict)

    def copy_of(self, root: Any) -> Any:
        """Copy an object with generators of its own; what leads to none, arrays above all, stays one."""
        way = {id(x) for x in self.generators}
        waiting = list(self.generators)
        while waiting:
            for parent in self._parents.get(id(waiting.pop()), ()):
                if id(parent) not in way:
                    way.add(id(parent))
                    waiting.append(parent)
        if id(root) not in way:
            return root
        memo = {number: x for number, x in self._seen.items() if number not in way}
        memo |= {id(x): x for at in way if at in self._seen for x in _held(self._seen[at]) if id(x) not in way}
        return copy.deepcopy(root, memo)


def _atomic(x: Any) -> bool:
    return type(x) in _ATOMS or isinstance(x, np.generic | PurePath | type)


def _held(x: Any) -> Iterable[Any]:
    """Give what an object holds and a copy would copy."""
    if isinstance(x, dict):
        return itertools.chain(x.keys(), x.values())
    if isinstance(x, list | tuple):
        return x
    if isinstance(x, types.MethodType):
        return (x.__self__,)
    parts: list[Any] = [x.func, x.args, x.keywords] if isinstance(x, functools.partial) else []
    parts += getattr(x, "__dict__", {}).values()
    for owner in type(x).__mro__:
        slots = vars(owner).get("__slots__", ())
        parts += [getattr(x, name) for name in ((slots,) if isinstance(slots, str) else slots) if hasattr(x, name)]
    return parts


def _beside(x: Any) -> Iterator[Any]:
    """Give what an object's code refers to and copies would share: what its class holds, and its functions' closures, defaults and globals."""
    functions = [x.__func__] if isinstance(x, types.MethodType) else [x] if isinstance(x, types.FunctionType) else []
    if not functions and not isinstance(x, dict | list | tuple) and not _ours(type(x)):
        for owner in type(x).__mro__:
            if owner.__module__ not in ("builtins", "functools") and not _ours(owner):
                for name, value in vars(owner).items():
                    if isinstance(value, types.FunctionType):
                        functions.append(value)
                    elif not name.startswith("__") and not hasattr(type(value), "__get__"):
                        yield value
    for function in functions:
        if not _ours(function):
            yield from (cell.cell_contents for cell in function.__closure__ or () if _filled(cell))
            yield from function.__defaults__ or ()
            named = (function.__globals__.get(name) for name in _names(function.__code__))
            yield from (each for each in named if isinstance(each, GENERATORS) or _neighbours(each, function))


def _names(code: types.CodeType) -> Iterator[str]:
    """Give the names of globals that code asks for, and the functions and comprehensions in it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _names(part)


def _neighbours(x: Any, function: Any) -> bool:
    return isinstance(x, types.FunctionType) and x.__module__ == function.__module__


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _ours(x: Any) -> bool:
    return (x.__module__ or "").startswith("agnostic_ad.")


def _leaves(many: Any) -> bool:
    """Tell whether a long collection holds nothing to look into, without looking at each part in Python."""
    many, again = itertools.tee(many) if isinstance(many, Iterator) else (many, many)
    kinds = set(map(type, many))
    if kinds == {tuple}:
        kinds = set(map(type, itertools.chain.from_iterable(again)))
    return all(kind in _ATOMS or issubclass(kind, np.generic | PurePath) for kind in kinds)


def find(roots: Iterable[Any]) -> Found:
    """Look through objects.

    Parameters
    ----------
    roots : iterable
        The dataset, and functions that are called with it.

    Returns
    -------
    Found
        What is there.
    """
    found = Found()
    waiting: list[tuple[Any, bool]] = [(root, False) for root in roots]
    while waiting:
        x, shared = waiting.pop()
        if id(x) in found._seen or x is default_generator or _atomic(x):
            continue
        found._seen[id(x)] = x
        if isinstance(x, GENERATORS):
            found.generators.append(x)
            found.shared |= shared
            continue
        if lookup(x) is not None or (isinstance(x, dict | list | tuple) and len(x) > 64 and _leaves(_held(x))):
            continue
        home = x.__module__ if isinstance(x, types.FunctionType) else type(x).__module__
        found.quiet &= isinstance(x, dict | list | tuple) or (home or "").startswith(_QUIET)
        for part in _held(x):
            found._parents.setdefault(id(part), []).append(x)
            waiting.append((part, shared))
        waiting += [(part, True) for part in _beside(x)]
    return found
