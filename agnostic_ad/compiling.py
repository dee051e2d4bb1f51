"""``compile``: a function that is captured once for each kind of arguments, and then run as a program."""

from __future__ import annotations

import functools
import logging
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from agnostic_ad import graph, trees
from agnostic_ad.config import place
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph.capture import Traced
from agnostic_ad.graph.ir import Graph
from agnostic_ad.graph.passes import chosen
from agnostic_ad.holdings import described, holdings, leaves_only
from agnostic_ad.levels import CASTS, STRONG, Array
from agnostic_ad.modes import is_grad_enabled
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.stepping import Step, captured, hooks
from agnostic_ad.stepping import signature as signature_of

__all__ = ["Capture", "Compiled", "compile"]

_LOG = logging.getLogger("agnostic_ad.compile")
_MANY = 8
"""So many captures for one reason are told in a warning."""


class Capture(NamedTuple):
    """One capture of a compiled function.

    Attributes
    ----------
    reason : str
        Why it was made.
    seconds : float
        What it took, passes included.
    graph : Graph
        What came out; of a function that changes what it closes over, the largest part.
    graphs : tuple of Graph
        All parts: such a function is cut where it calls an optimizer, say.
    """

    reason: str
    seconds: float
    graph: Graph
    graphs: tuple[Graph, ...] = ()


class _Signature(NamedTuple):
    """What a capture is good for: structure of the arguments, what is known of each leaf, and settings."""

    structure: Any
    leaves: tuple[Any, ...]
    settings: tuple[Any, ...]
    held: tuple[Any, ...] = ()


class _Held(NamedTuple):
    """What is known of a Variable that the function may change: which it is, its array, its gradient and its hooks."""

    identity: int
    array: _Array
    rest: tuple[Any, ...]

    def __str__(self) -> str:
        grad = "" if len(self.rest) < 2 else " without a gradient" if self.rest[1] is None else " with a gradient"
        return f"{self.array}{grad if self.rest[0] else ' that does not require grad'}"


class _Array(NamedTuple):
    """What is known of an array."""

    shape: tuple[int, ...]
    dtype: Any
    library: Any
    device: Any

    def __str__(self) -> str:
        return f"an array of {self.library.name}, shape {self.shape}, dtype {self.dtype}, on {self.device}"


class _Static(NamedTuple):
    """What is no array, by its value: ``1``, ``1.0`` and ``True`` are different ones."""

    value: Any
    kind: type

    def __str__(self) -> str:
        return f"{self.value!r:.60}"


class Compiled:
    """A function that is captured when it first meets a kind of arguments, and from then on run by its graph.

    Attributes
    ----------
    captures : list of Capture
        Those made so far, each with its reason; the last ones, if there are many.
    """

    def __init__(self, f: Callable[..., Any], passes: Iterable[str] | None, size: int, donated: frozenset[int] = frozenset()) -> None:
        functools.update_wrapper(self, f)
        self.__name__ = getattr(f, "__name__", type(f).__name__)
        self._f, self._passes, self._size = f, None if passes is None else chosen(passes, "compile"), size
        self._donated = donated
        self._graphs: OrderedDict[_Signature, Any] = OrderedDict()
        self._names: set[str] = set()
        self._plain: bool | None = None  # whether it holds nothing that it could change; found out at the first call
        self._bare = False  # whether it holds nothing at all
        self._own: set[str] = set()  # what it changes itself, and is not captured again for
        self._kept: dict[int, Any] = {}
        self._lock = threading.RLock()
        self._numbers = 0  # captures for nothing but another static value
        self.captures: list[Capture] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        flat, structure = trees.flatten((args, kwargs))
        if any(isinstance(x, Array) for x in flat):
            return self._f(*args, **kwargs)  # it records, or belongs to a transformation that has its own use of the function
        signature = _Signature(structure, tuple(map(_leaf, flat)), _settings())
        if not (self._plain and all(map(_is_plain, signature.leaves))):
            with _STEPPING:
                held = self._holdings(signature)
                if held is not None and held.variables:
                    step, arrays = self._found(signature, flat, held)
                    return step(*arrays)
            if held is None:
                return self._f(*args, **kwargs)
        signature = self._with_values(signature)
        try:
            found = self._graphs.get(signature)
        except TypeError:
            static = next(s.value for s in signature.leaves if isinstance(s, _Static) and not _hashable(s.value))
            raise TypeError(
                f"compile({self.__name__}): an argument is {static!r:.60}, which is no array and cannot be looked up (it has no hash). "
                "Pass arrays, numbers, text, and tuples, lists and dicts of them."
            ) from None
        if found is None or len(self._graphs) > 1:
            with self._lock:
                found = self._graphs.get(signature)
                if found is None:
                    found = self._capture(signature, flat)
                else:
                    self._graphs.move_to_end(signature)
        return found(*(x for x, s in zip(flat, signature.leaves, strict=True) if isinstance(s, _Array)))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Be a method: the instance is a static argument."""
        return self if instance is None else functools.partial(self, instance)

    def graph(self, *args: Any, **kwargs: Any) -> Graph:
        """Give the graph that a call with these arguments runs; captured, if there is none yet. See `Capture.graph` for functions that change things."""
        flat, structure = trees.flatten((args, kwargs))
        signature = _Signature(structure, tuple(map(_leaf, flat)), _settings())
        with _STEPPING:
            held = self._holdings(signature)
            if held is not None and held.variables:
                return _largest(self._found(signature, flat, held)[0].graphs)
        signature = self._with_values(signature)
        with self._lock:
            return self._graphs.get(signature) or self._capture(signature, flat)  # type: ignore[no-any-return]

    # --- functions that change what they close over ---------------------------------------------------------------------
    def _holdings(self, signature: _Signature) -> Any:
        """Give what the function holds, its Variables among it; None where it has to run as it is."""
        others = [(f"argument {i}", s.value) for i, s in enumerate(signature.leaves) if not _is_plain(s)]
        found = holdings(self._f, others, self._names)
        if self._plain is None:
            self._plain, self._bare = not found.variables and not found.states, found.bare
        variables = leaves_only(found)
        if variables is None:
            return None
        found.reached = list(map(id, found.variables))
        found.variables = variables
        return found

    def _with_values(self, signature: _Signature) -> _Signature:
        """Add the values that the function reads beside its arguments: numbers of closures and globals, and which arrays and functions."""
        if self._bare:
            return signature
        with self._lock:
            values = holdings(self._f, (), self._names).values
            return signature._replace(held=((), tuple(v for v in values if v[0] not in self._own) if self._own else tuple(values)))

    def _without_own(self, signature: _Signature) -> _Signature:
        """Leave out what the function has changed itself while it was captured: it does so at captures only."""
        if not signature.held:
            return signature
        after = holdings(self._f, (), self._names)
        self._kept |= {id(x): x for x in after.kept}  # what values tell by identity
        self._own.update(_changes(signature.held[1], [v for v in after.values if v[0] not in self._own]))
        return signature._replace(held=((), tuple(v for v in signature.held[1] if v[0] not in self._own)))

    def _found(self, signature: _Signature, flat: list[Any], held: Any) -> tuple[Step, list[Any]]:
        """Give the step for a call, captured if there is none, and the arrays to call it with."""
        states = tuple(_Held(id(v), _array(v.payload), signature_of(v)) for v in held.variables)
        full = signature._replace(held=(states, tuple(held.values)))
        arrays = [x for x, s in zip(flat, signature.leaves, strict=True) if isinstance(s, _Array)]
        found = self._graphs.get(full)
        if found is None:
            found = self._capture(full, flat, held)
        self._graphs.move_to_end(full)
        return found[0], arrays

    def _capture(self, signature: _Signature, flat: list[Any], held: Any = None) -> Any:
        reason, start = self._reason(signature), time.perf_counter()
        arrays = [x for x, s in zip(flat, signature.leaves, strict=True) if isinstance(s, _Array)]

        def pure(*given: Any) -> Any:
            rest = iter(given)
            args, kwargs = trees.unflatten(
                signature.structure, [next(rest) if isinstance(s, _Array) else s.value for s in signature.leaves]
            )
            y = self._f(*args, **kwargs)
            changed = next((i for i, x in enumerate(given) if isinstance(x, Traced) and x.place.node.op is not None), None)
            if changed is not None:
                name = _path(
                    [p for p, s in zip(signature.structure.paths(), signature.leaves, strict=True) if isinstance(s, _Array)][changed]
                )
                raise UnsupportedError(
                    f"compile({self.__name__}): {name} is changed in place, which a graph cannot do to the caller's array. Copy it first, and "
                    "return what is new."
                )
            return y

        pure.__name__ = self.__name__
        made: Any
        graphs: tuple[Graph, ...]
        if held is None:
            paths = [p for p, s in zip(signature.structure.paths(), signature.leaves, strict=True) if isinstance(s, _Array)]
            count = len(trees.unflatten(signature.structure, flat)[0])
            if any(n >= count for n in self._donated):
                raise ValueError(f"compile({self.__name__}): donate_argnums names argument {max(self._donated)}; the call has {count}")
            donated = [i for i, (kind, first, *_) in enumerate(paths) if kind == 0 and first in self._donated]
            made = graph.capture(pure, *arrays, donate_argnums=donated).optimize(self._passes)
            signature = self._without_own(signature)
            graphs = (made,)
        else:
            first: Any = arrays[0] if arrays else held.variables[0].payload
            step = captured(pure, f"compile({self.__name__})", backend_of(first), held.variables, arrays, self._passes)
            self._check_same(signature, held)
            held.kept += [hook for v in held.variables for hook in hooks(v)]
            made, graphs = (step, held.kept), tuple(step.graphs)  # what the signature tells by identity is kept with it
        while len(self._graphs) >= self._size:
            self._graphs.popitem(last=False)
        self._graphs[signature] = made
        self.captures = [*self.captures[1 - 2 * self._size :], Capture(reason, time.perf_counter() - start, _largest(graphs), graphs)]
        _LOG.info("compile(%s): %s (%.3f s)", self.__name__, reason, self.captures[-1].seconds)
        return made

    def _check_same(self, signature: _Signature, held: Any) -> None:
        """Refuse what the function has changed while it was captured, beside its Variables."""
        others = [(f"argument {i}", s.value) for i, s in enumerate(signature.leaves) if not _is_plain(s)]
        after = holdings(self._f, others, self._names)
        changed = next(iter(_changes(held.values, after.values)), None)
        if changed is None and list(map(id, after.variables)) != held.reached:
            changed = "which Variables it holds"
        if changed is not None:
            raise UnsupportedError(
                f"compile({self.__name__}): the function changes {changed}, which a graph cannot keep: it would happen at captures only. Return what "
                "is new, and store it outside of the function."
            )

    def _reason(self, new: _Signature) -> str:
        """Say what no earlier signature has: the differences from the nearest one."""
        if not self._graphs:
            return "the first call"
        reasons = min((self._differences(old, new) for old in self._graphs), key=len)
        if all("a number" in r or "a static value" in r for r in reasons):
            self._numbers += 1
            if self._numbers == _MANY:
                warnings.warn(
                    f"compile({self.__name__}) was captured {_MANY} times for other static values, the last time for {reasons[0]}. "
                    "A capture takes much longer than a call: pass what changes as an array, np.asarray(value).",
                    RuntimeWarning,
                    stacklevel=5,
                )
        return "; ".join(dict.fromkeys(reasons))

    def _differences(self, old: _Signature, new: _Signature) -> list[str]:
        if old.structure != new.structure:
            return ["another structure of the arguments"] * (len(new.leaves) + 2)
        names = [_path(p) for p in new.structure.paths()]
        found = [
            f"the setting {_SETTINGS[i]} is {b}, not {a}" for i, (a, b) in enumerate(zip(old.settings, new.settings, strict=True)) if a != b
        ]
        if old.held != new.held:
            found += _held_differences(old.held, new.held)
        for name, a, b in zip(names, old.leaves, new.leaves, strict=True):
            if a != b:
                kind = "" if isinstance(b, _Array) else "a number, " if isinstance(b.value, int | float | complex) else "a static value, "
                found.append(f"{name} is {kind}{b}, not {a}")
        return found or ["an older graph was dropped"]

    def __repr__(self) -> str:
        return f"<compiled {self.__name__}, {len(self._graphs)} graphs>"


def _leaf(x: Any) -> _Array | _Static:
    return _Static(x, type(x)) if lookup(x) is None else _array(x)


def _array(x: Any) -> _Array:
    backend = backend_of(x)
    return _Array(tuple(x.shape), x.dtype, backend, str(backend.device(x)))


def _is_plain(s: _Array | _Static) -> bool:
    """Tell whether an argument can hold nothing that the function could change."""
    return isinstance(s, _Array) or described(s.kind) is None


def _largest(graphs: Iterable[Graph]) -> Graph:
    return max(graphs, key=lambda g: len(g.nodes))


def _held_differences(old: tuple[Any, ...], new: tuple[Any, ...]) -> list[str]:
    if not (old and new and len(old[0]) == len(new[0])):
        return ["the function holds other parameters and buffers"] * 2
    found = []
    for a, b in zip(old[0], new[0], strict=True):
        if a.identity != b.identity:
            return ["the function holds other parameters and buffers"] * 2
        if a != b:
            grads = [len(x.rest) > 1 and x.rest[1] is not None for x in (a, b)]
            if a.array == b.array and grads[0] != grads[1]:
                found.append("what the function holds has gradients" if grads[1] else "what the function holds has no gradients")
            else:
                found.append(f"what the function holds: {b}, not {a}" if str(a) != str(b) else f"other hooks on {b}")
    before, after = ({path: (kind, value) for path, kind, value in x[1]} for x in (old, new))
    for path in _changes(old[1], new[1]):
        a, b = before.get(path), after.get(path)
        told = a is not None and b is not None and a[0] in _TOLD and b[0] in _TOLD
        found.append(f"{path} is {b[1]!r:.60}, not {a[1]!r:.60}" if told else f"{path} is another")  # type: ignore[index]
    return found


def _changes(old: Iterable[Any], new: Iterable[Any]) -> list[str]:
    """Give the paths at which two lists of values differ."""
    before, after = ({path: (kind, value) for path, kind, value in x} for x in (old, new))
    return [path for path in dict.fromkeys([*before, *after]) if before.get(path) != after.get(path)]


def _hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


_TOLD = (type(None), bool, int, float, complex, str, bytes)
_STEPPING = threading.RLock()
"""Held while a function that changes Variables is captured or runs: meanwhile they are nobody else's."""
_SETTINGS = ("grad_enabled", "autocast", "strong_zeros", "defaults")


def _settings() -> tuple[Any, ...]:
    return is_grad_enabled(), CASTS.get(), STRONG.get(), place()


def _path(path: tuple[Any, ...]) -> str:
    """Give the name of a leaf of ``(args, kwargs)``."""
    kind, first, *rest = path
    return (f"argument {first}" if kind == 0 else f"argument {first!r}") + "".join(f"[{p!r}]" for p in rest)


def compile(
    f: Callable[..., Any] | None = None,
    *,
    passes: Iterable[str] | None = None,
    maxsize: int = 16,
    donate_argnums: int | Iterable[int] = (),
) -> Any:
    """Capture a function once for each kind of arguments, optimise the graph, and run that from then on.

    The function may hold any transformation: ``grad``, ``vmap``, whole training steps that take parameters and give new ones. It may close over
    modules, optimizers and leaf Variables, and change them as the plain call does. What else it does beside giving a result is done at captures only.

    Parameters
    ----------
    f : callable, optional
        Takes and gives trees of arrays. Without it, a decorator.
    passes : iterable of str, optional
        The names of `graph` passes; by default all.
    maxsize : int
        How many graphs to keep; the oldest goes first.
    donate_argnums : int or iterable of int
        Positional arguments, counted from the first, whose arrays the caller gives away at each call: results may be written over them, as over
        parameters and moments in a training step. What is in them afterwards is not defined.

    Returns
    -------
    Compiled
        Takes the same arguments. Arrays are told apart by library, shape, dtype and device; whatever else there is among the arguments (numbers,
        texts) by its value. ``captures`` tells when it was captured and why; so does the logger ``agnostic_ad.compile``.
        Given Variables, or arrays of a transformation, it is the function itself.

    Raises
    ------
    UnsupportedError
        Where the function needs values while it is captured, in ``if`` say; or changes what a graph cannot keep. Nothing has changed then.
    TypeError
        Where an argument is neither array nor hashable.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> @ad.compile
    ... def slope(x, power):
    ...     return ad.grad(lambda x: (x**power).sum())(x)
    >>> slope(np.asarray([1.0, 2.0]), 3)
    array([ 3., 12.])
    >>> slope(np.asarray([1.0, 2.0]), 2)
    array([2., 4.])
    >>> [c.reason for c in slope.captures]
    ['the first call', 'argument 1 is a number, 2, not 3']
    """
    if f is None:
        return functools.partial(compile, passes=passes, maxsize=maxsize, donate_argnums=donate_argnums)
    if not callable(f):
        raise TypeError(f"compile takes a function, not {type(f).__name__}")
    if maxsize < 1:
        raise ValueError(f"compile: maxsize is 1 or more, not {maxsize}")
    donated = frozenset((donate_argnums,) if isinstance(donate_argnums, int) else donate_argnums)
    if any(n < 0 for n in donated):
        raise ValueError(f"compile: donate_argnums counts from 0, not {min(donated)}")
    return Compiled(f, passes, maxsize, donated)
