"""The map's machinery: from a call of a NumPy function to the function of ``xp`` that is registered under its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agnostic_ad.errors import MixedArraysError, UnmappedFunctionError
from agnostic_ad.levels import Array, deepest, inexact, lift_to
from agnostic_ad.namespaces import lookup
from agnostic_ad.ops.operators import store

__all__ = [
    "INSTEAD",
    "NAMES",
    "PLACE_OF_OUT",
    "array",
    "arrays",
    "arrays_in",
    "call",
    "check_out",
    "floating",
    "missing",
    "named",
    "plain",
    "sequence",
]

NUMBERS = (bool, int, float, complex)
_SEQUENCES = (list, tuple)

NAMES: dict[str, Callable[..., Any]] = {}
"""NumPy's name, dotted in a sub-namespace -> a function of ``xp`` and NumPy's arguments."""

PLACE_OF_OUT: dict[Callable[..., Any], int] = {}
"""Where ``out`` stands among NumPy's arguments, for functions that have one."""

INSTEAD: dict[str, str] = {"random": "raw random numbers, and compute with them: loc + scale * np.random.normal(size=...)"}
"""What to write in place of functions that are left out on purpose."""


def named(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function of ``(xp, *NumPy's arguments)``, which calls no library by its name.

    What it does with arrays it does through ``xp``, the namespace of the deepest transformation among the arguments. A parameter ``out`` is
    never passed on: whoever calls writes the result into it.
    """

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        code = fn.__code__
        positional = code.co_varnames[1 : code.co_argcount]
        if "out" in positional:
            PLACE_OF_OUT[fn] = positional.index("out")
        for name in names:
            NAMES[name] = fn
        return fn

    return register


# --- arguments ------------------------------------------------------------------------------------------------------------------------------
def arrays_in(values: Iterable[Any]) -> list[Array]:
    """Give the arrays of this package among values, and in the lists, tuples and dicts among them."""
    found: list[Array] = []
    for x in values:
        if isinstance(x, Array):
            found.append(x)
        elif isinstance(x, _SEQUENCES):
            found += arrays_in(x)
        elif isinstance(x, dict):
            found += arrays_in(x.values())
    return found


def array(xp: Any, x: Any, like: Any = None) -> Any:
    """Give anything that NumPy takes for an array as an array of ``xp``; Python numbers, in lists too, take the dtype of ``like`` if that can hold them."""
    if isinstance(x, Array):
        return lift_to(xp.level, x)
    backend = lookup(x)
    if backend is not None:
        if backend is not xp.backend:
            raise MixedArraysError(
                f"operands come from two array libraries, {backend.name} and {xp.backend.name}. Convert one of them first, for instance "
                f"with agnostic_ad.Variable(x).to({xp.backend.name})."
            )
        return xp.level.lift(backend.array(x))
    if like is None:
        return xp.asarray(x)
    if isinstance(x, NUMBERS):
        return xp.level.lift(xp.backend.scalar(x, like))
    if arrays_in((x,)):
        return xp.asarray(x, device=like.device)
    import numpy as np

    sample = {"b": True, "i": 1, "u": 1, "f": 1.0, "c": 1j}.get(np.asarray(x).dtype.kind)
    if sample is None:
        raise TypeError(f"{x!r:.60} is no array, number, or nested list of numbers")
    return xp.asarray(x, dtype=xp.backend.scalar(sample, like).dtype, device=like.device)


def arrays(xp: Any, *values: Any) -> list[Any]:
    """Give values as arrays, Python numbers in the dtype of the others; None stays."""
    like = next((x for x in values if isinstance(x, Array)), None)
    if like is None:
        like = next((array(xp, x) for x in values if x is not None and not isinstance(x, NUMBERS)), None)
    return [None if x is None else array(xp, x, like) for x in values]


def floating(xp: Any, x: Any) -> Any:
    """Give real or complex numbers as they are, others as the library's default real ones."""
    return x if x is None or inexact(x) else xp.astype(x, xp.backend.default("real floating"))


def sequence(xp: Any, values: Any) -> list[Any]:
    """Give the members of a sequence, or of an array along its first axis, as arrays."""
    if isinstance(values, Array) or lookup(values) is not None:
        return list(array(xp, values))
    return [a if isinstance(a, Array) else array(xp, a) for a in arrays(xp, *values)]


# --- calls ----------------------------------------------------------------------------------------------------------------------------------
def missing(name: str, label: str) -> UnmappedFunctionError:
    """Give the error for a function that is not in the map."""
    use = INSTEAD.get(name.partition(".")[0], "functions of the Array API standard, with xp = x.__array_namespace__()")
    return UnmappedFunctionError(
        f"numpy.{name} of an array of {label}: it is not differentiated by this package, and would lose the derivative. "
        f"Use {use}; or x.detach().numpy() if the values alone are wanted."
    )


def plain(tree: Any) -> Any:
    """Give arguments with the payloads of arrays in their place."""
    if isinstance(tree, Array):
        return tree.data
    if isinstance(tree, list | tuple):
        return type(tree)(map(plain, tree)) if not hasattr(tree, "_fields") else type(tree)(*map(plain, tree))
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return tree


def call(
    name: str, args: Sequence[Any], kwargs: dict[str, Any], also: Array | None = None, library: Callable[..., Any] | None = None
) -> Any:
    """Apply the function registered under NumPy's name.

    Parameters
    ----------
    name : str
        NumPy's name.
    args, kwargs
        NumPy's arguments; at least one array of this package is among them, unless there is ``also``.
    also : Array, optional
        An array whose transformation and library count too.
    library : callable, optional
        The library's own function: where the map has none, it serves arrays that carry no derivative (an index, a mask), as
        ``np.asarray`` does.

    Raises
    ------
    UnmappedFunctionError
        Where there is no such function in the map, and a derivative would be lost.
    """
    found = arrays_in(args)
    if kwargs:
        found += arrays_in(kwargs.values())
    if also is not None:
        found.append(also)
    level = deepest(found)
    assert level is not None
    fn = NAMES.get(name)
    if fn is None:
        if library is not None and not any(x.carries_gradient() for x in found):
            return library(*plain(tuple(args)), **plain(kwargs))
        raise missing(name, level.label)
    xp = level.rules(found[0].backend)
    out, place = None, PLACE_OF_OUT.get(fn, len(args))
    if len(args) > place:
        args, out = (*args[:place], *((None, *args[place + 1 :]) if len(args) > place + 1 else ())), args[place]
    if "out" in kwargs:
        kwargs = dict(kwargs)
        out = kwargs.pop("out")
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    if out is None:
        return fn(xp, *args, **kwargs)
    for target in out if isinstance(out, tuple) else (out,):
        check_out(name, target)
    if kwargs.get("where", True) is not True and "into" in fn.__code__.co_varnames:
        kwargs["into"] = out  # what the mask leaves alone
    return write(fn(xp, *args, **kwargs), out)


def check_out(name: str, out: Any) -> None:
    """Refuse an ``out`` that cannot hold a derivative."""
    if out is not None and not isinstance(out, Array):
        raise UnmappedFunctionError(
            f"numpy.{name}: out is a plain {type(out).__name__}, which cannot hold a derivative. Use the result (y = x + w in place of "
            "x += w where x is a plain array), or make out a Variable."
        )


def write(y: Any, out: Any) -> Any:
    """Write results into ``out``."""
    if isinstance(out, tuple):
        return tuple(part if o is None else store(o, part, "out=") for part, o in zip(y, out, strict=True))
    return store(out, y, "out=")
