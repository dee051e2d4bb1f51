"""Arguments of transformed functions: trees of arrays in, leaves out, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agnostic_ad import trees
from agnostic_ad.levels import Array, check_alive, inexact, unify
from agnostic_ad.namespaces import RAW, backend_of, backend_of_namespace, lookup

NUMBERS = (bool, int, float, complex)
NUMPY = backend_of_namespace(np)


def name_of(f: Any) -> str:
    """Give the name of a function, for labels and messages."""
    return getattr(f, "__name__", type(f).__name__)


def is_array(x: Any) -> bool:
    """Tell whether ``x`` is an array, wrapped or raw."""
    return isinstance(x, Array) or lookup(x) is not None


def as_primals(values: Sequence[Any], what: str, everything: Any = ()) -> list[Any]:
    """Give leaves as arrays that can be differentiated: numbers become 0-d arrays, other things are refused.

    ``everything`` is a tree of further arguments, which may tell the library that numbers belong to.
    """
    out = []
    for x in values:
        if type(x) in NUMBERS:
            backend = NUMPY
            if everything or len(values) > 1:
                arrays = [a for a in (*values, *trees.leaves(everything)) if is_array(a)]
                if arrays:
                    backend = arrays[0].backend if isinstance(arrays[0], Array) else backend_of(arrays[0])
            out.append(backend.number(x))
            continue
        if isinstance(x, Array):
            check_alive(x)
        elif lookup(x) is None:
            raise TypeError(f"{what} differentiates with respect to arrays and numbers, not {type(x).__name__}: {x!r:.60}")
        if not inexact(x):
            raise TypeError(f"{what} differentiates with respect to floating and complex arrays; got dtype {x.dtype}. Use astype first.")
        out.append(x)
    return out


def select(args: tuple[Any, ...], argnums: int | Sequence[int], what: str) -> tuple[tuple[int, ...], bool]:
    """Give argnums counted from the front, and whether it was a single one."""
    if argnums == 0 and args:
        return (0,), True
    single = isinstance(argnums, int)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise ValueError(
                f"{what}: argnums {argnums} names argument {n}, but the function was called with {len(args)} positional arguments"
            )
    return tuple(n % len(args) for n in numbers), single


def replaced(args: tuple[Any, ...], numbers: tuple[int, ...], values: Sequence[Any]) -> list[Any]:
    """Give the arguments with those of the given numbers replaced."""
    out = list(args)
    for n, v in zip(numbers, values, strict=True):
        out[n] = v
    return out


ONE_LEAF: Any = trees.flatten(0)[1]


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Split a tree, most often a single array, into leaves and structure."""
    if isinstance(tree, Array) or type(tree) in RAW or type(tree) in NUMBERS:
        return [tree], ONE_LEAF
    return trees.flatten(tree)


def flatten_like(spec: Any, tree: Any) -> list[Any] | None:
    """Give the leaves of a tree of the structure ``spec``; None where it has another."""
    flat, own = flatten(tree)
    return flat if own is spec else trees.flatten_like(spec, tree)


def unflatten(spec: Any, values: Sequence[Any]) -> Any:
    """Put leaves back into the structure that `flatten` gave."""
    return values[0] if spec is ONE_LEAF else trees.unflatten(spec, values)


class Arguments:
    """The primals of a function: their leaves, and the way back to the arguments."""

    __slots__ = ("_counts", "_specs", "leaves")

    def __init__(self, primals: Sequence[Any]) -> None:
        self.leaves: list[Any] = []
        self._specs: list[Any] = []
        self._counts: list[int] = []
        for p in primals:
            flat, spec = flatten(p)
            self.leaves += flat
            self._specs.append(spec)
            self._counts.append(-1 if spec is ONE_LEAF else len(flat))

    def tree(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Put values in place of the leaves."""
        if sum(self._counts) == -len(self._counts):  # arrays, no trees
            return tuple(values)
        out, start = [], 0
        for spec, count in zip(self._specs, map(abs, self._counts), strict=True):
            out.append(unflatten(spec, values[start : start + count]))
            start += count
        return tuple(out)


def lower(level: Any, x: Any) -> Any:
    """Give the payload of what belongs to ``level``; everything else as it is."""
    return x.payload if isinstance(x, Array) and x.level is level else x


def zeros(x: Any) -> Any:
    """Give zeros of the shape, dtype, device and level of ``x``."""
    xp, (x,) = unify([x])
    return as_array(xp.zeros_like(x))


def as_array(x: Any) -> Any:
    """Give an array where a library computed one of its scalars."""
    if isinstance(x, Array):
        return x
    backend = lookup(x)
    return x if backend is None else backend.array(x)


def own(x: Any) -> Any:
    """Give a cotangent as an array on memory that no other gradient, and no cotangent of the user's, lies on."""
    if isinstance(x, Array):
        return x._alias()
    backend = RAW.get(type(x)) or lookup(x)
    assert backend is not None
    return backend.own(x) if backend.mutable else backend.array(x)
