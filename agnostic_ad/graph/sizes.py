"""Sizes that are known only when a graph runs.

An axis of any size (``None`` in a spec) has a `Dim` for its size while its function is captured: an integer of a large, unusual value, the
hint, which remembers how it was computed. Arithmetic keeps that; comparisons go by the hint, and are noted as a `Guard` where the graph
depends on them. A division that gives no integer is a `Ratio`, likewise.

What a size is computed from is kept as one of the `polynomials`, so that two ways to compute one size are one expression.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph.lines import is_ours, user_line
from agnostic_ad.graph.lost import lost
from agnostic_ad.graph.polynomials import (
    OPERATORS,
    Poly,
    combined,
    inner_text,
    poly_text,
    value_of,
)
from agnostic_ad.levels import Size, Symbolic, capturing
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import NUMBERS

__all__ = ["HINTS", "Dim", "Guard", "Ratio", "bind", "checked", "dim_of", "dynamic", "evaluate", "ratio_of", "symbol", "text"]

HINTS = (840, 1680)
"""The hints of the two captures that are compared: sizes that much divides (halves of an axis are taken often), and that nobody uses."""

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Guard(NamedTuple):
    """A comparison of sizes that a graph takes for granted.

    Attributes
    ----------
    comparison : str
        ``==``, ``<``, ...
    left, right : Dim, Ratio or number
        What was compared.
    outcome : bool
        How it came out.
    where : str or None
        The line of the user's code that it comes from.
    """

    comparison: str
    left: Any
    right: Any
    outcome: bool
    where: str | None

    def holds(self, bindings: dict[str, Any]) -> bool:
        """Tell whether it comes out the same for the sizes of a call; a `KeyError` where one of them is not known."""
        return self._same(_exactly(self.left, bindings), _exactly(self.right, bindings))

    def _same(self, left: Any, right: Any) -> bool:
        return bool(_COMPARISONS[self.comparison](left, right)) == self.outcome

    def __repr__(self) -> str:
        return f"{'' if self.outcome else 'not '}{self.left!r} {self.comparison} {self.right!r}"


class _Symbolic(Symbolic):
    """What sizes and ratios share."""

    __slots__ = ()

    def _same(self, other: Any) -> bool:
        """Tell whether two numbers are one expression."""
        return type(other) is type(self) and key(other) == key(self)

    def __bool__(self) -> bool:
        return bool(self._compare("!=", 0))

    def __neg__(self) -> Any:
        return self._with("*", self, -1)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if _plain(self) >= 0 else -self

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Refuse: NumPy's own arrays hold numbers."""
        line = user_line(2)
        raise UnsupportedError(
            f"numpy.{ufunc.__name__} would turn the size {self!r} into a plain number{f' ({line})' if line else ''}, and an axis has any size "
            "here. Compute with x.shape[i] in Python, or with arrays of x's own namespace: xp.asarray(a) * x.shape[0]."
        )

    def _with(self, name: str, left: Any, right: Any) -> Any:
        """Compute with itself and another number."""
        return ratio(name, left, right)

    def require(self, comparison: str, other: Any) -> None:
        """Make a graph refuse sizes for which a comparison does not hold."""
        rest = self._with("-", self, other)
        if not isinstance(rest, Symbolic) and _COMPARISONS[comparison](rest, 0):
            return
        self._note(Guard(comparison, self, other, True, user_line(2)))

    def _note(self, guard: Guard) -> None:
        guards = getattr(self.level, "guards", None)
        if guards is not None:
            if self.level.once and guard.comparison == "==" and guard.outcome and not isinstance(guard.right, Symbolic):
                raise lost(self.level.label, f"an axis of size {guard.left!r} meets one of {guard.right}", guard.where)
            sides = (key(guard.left), key(guard.right))
            guards.setdefault((guard.comparison, frozenset(sides) if guard.comparison == "==" else sides), guard)

    def _compare(self, comparison: str, other: Any) -> Any:
        """Compare by hints; note it where the graph depends on it."""
        if self._same(other):
            return comparison in ("==", "<=", ">=")
        if not isinstance(other, int | float):
            return NotImplemented
        outcome = _COMPARISONS[comparison](_plain(self), _plain(other))
        equal = comparison in ("==", "!=") and outcome == (comparison == "==")
        ordered = comparison not in ("==", "!=") and not (type(other) is int and other == 0)  # no size is below 0
        if equal or ordered or not is_ours(sys._getframe(2)):
            self._note(Guard("==", self, other, True, user_line(3)) if equal else Guard(comparison, self, other, outcome, user_line(3)))
        return outcome


class Dim(_Symbolic, Size):
    """A size that is known only when a graph runs; as an integer, the hint.

    Attributes
    ----------
    poly : tuple
        What it is computed from, as `polynomials` say.
    level : Level or None
        The capture that it belongs to.
    """

    poly: Poly
    level: Any

    @property
    def name(self) -> str | None:
        """The name of the symbol that it is; None where it was computed."""
        if len(self.poly) == 1:
            coefficient, factors = self.poly[0]
            if coefficient == 1 and len(factors) == 1 and isinstance(factors[0], str):
                return factors[0]
        return None

    def copy(self) -> Dim:
        """Give the same size anew."""
        return dim_of(self.poly, int(self), self.level)  # type: ignore[no-any-return]

    def array(self, backend: Any, like: Any) -> Any:
        """Give it as a traced 0-d array of the dtype that promotion with ``like`` gives."""
        return capturing().number(self, backend.scalar(0, like))

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if type(other) is int and 0 <= other <= 8 and modulus is None:
            return math.prod([self] * other)
        return ratio("**", self, other)

    def _with(self, name: str, left: Any, right: Any) -> Any:
        """Compute with itself and another number."""
        other = right if left is self else left
        if isinstance(other, float) or name in ("/", "**"):
            return ratio(name, left, right)
        if not isinstance(other, int):
            return NotImplemented
        hint = OPERATORS[name](int(left), int(right))
        return dim_of(combined(name, _poly(left), _poly(right)), hint, self.level)

    __hash__ = int.__hash__

    def __repr__(self) -> str:
        return poly_text(self.poly)

    def __reduce__(self) -> Any:
        return dim_of, (self.poly, int(self), None)


class Ratio(_Symbolic, float):
    """A number that is computed from sizes and is no integer; as a float, what the hints give.

    Attributes
    ----------
    tree : tuple
        ``(operator, left, right)``, of numbers, sizes and ratios.
    level : Level or None
        The capture that it belongs to.
    """

    tree: tuple[str, Any, Any]
    level: Any

    def array(self, backend: Any, like: Any) -> Any:
        """Give it as a traced 0-d array of the dtype that promotion with ``like`` gives."""
        return capturing().number(self, backend.scalar(0.0, like))

    __hash__ = float.__hash__

    def __repr__(self) -> str:
        name, left, right = self.tree
        return f"({_side(left)} {name} {_side(right)})"

    def __reduce__(self) -> Any:
        return ratio_of, (self.tree, float(self))


def _arithmetic(name: str, symbol: str) -> None:
    """Give both classes the methods of an operator."""
    for kind in (Dim, Ratio):
        if f"__{name}__" not in vars(kind):
            setattr(kind, f"__{name}__", lambda self, other: self._with(symbol, self, other))
        setattr(kind, f"__r{name}__", lambda self, other: self._with(symbol, other, self))


def _comparing(name: str, symbol: str) -> None:
    """Give both classes the method of a comparison."""
    for kind in (Dim, Ratio):
        setattr(kind, f"__{name}__", lambda self, other: self._compare(symbol, other))


for _name, _symbol in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**"}.items():
    _arithmetic(_name, _symbol)
for _name, _symbol in {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    _comparing(_name, _symbol)
NUMBERS |= {Dim, Ratio}


def _side(x: Any) -> str:
    return inner_text(x.poly) if isinstance(x, Dim) else repr(x)


# --- making them --------------------------------------------------------------------------------------------------------------------
def symbol(name: str, hint: int, level: Any = None) -> Dim:
    """Give the size of an axis of any size."""
    return dim_of(((1, (name,)),), hint, level)  # type: ignore[no-any-return]


def checked(shape: Any, label: str) -> tuple[Any, ...]:
    """Give the shape of a spec; refuse what is none."""
    if not isinstance(shape, tuple | list):
        raise TypeError(f"{label}: {shape!r:.60} is no shape: a tuple of sizes is, such as (3,)")
    wrong = next((n for n in shape if n is not None and (isinstance(n, bool) or not isinstance(n, int | str) or n == "")), None)
    if wrong is not None:
        raise TypeError(f"{label}: {wrong!r} in the shape {tuple(shape)} is no size: an integer, None for any size, or a name is")
    if any(type(n) is int and n < 0 for n in shape):
        raise ValueError(f"{label}: the shape {tuple(shape)} has a negative size; None is an axis of any size")
    return tuple(shape)


def _poly(x: Any) -> Poly:
    if isinstance(x, Dim):
        return x.poly
    return ((int(x), ()),) if x else ()


def dim_of(poly: Poly, hint: int, level: Any) -> Any:
    """Give the size that a polynomial is, with its hint; a plain number where it is constant."""
    if not poly or (len(poly) == 1 and not poly[0][1]):
        return poly[0][0] if poly else 0
    made = int.__new__(Dim, hint)
    made.poly, made.level = poly, level
    return made


def ratio(name: str, left: Any, right: Any) -> Any:
    """Compute with numbers of which one is a size or a ratio."""
    for x in (left, right):
        if not isinstance(x, int | float):
            return NotImplemented
    level = next(x.level for x in (left, right) if isinstance(x, _Symbolic))
    return ratio_of((name, left, right), OPERATORS[name](_plain(left), _plain(right)), level)


def ratio_of(tree: tuple[str, Any, Any], hint: float, level: Any = None) -> Ratio:
    """Give the number that a tree of operations is, with its hint."""
    made = float.__new__(Ratio, hint)
    made.tree, made.level = tree, level
    return made


def _plain(x: Any) -> Any:
    return int(x) if isinstance(x, Dim) else float(x) if isinstance(x, Ratio) else x


def text(shape: Iterable[Any]) -> str:
    """Give a shape as specs are written, with None for what is known only when a graph runs."""
    found = ["None" if isinstance(n, Dim) else repr(n) for n in shape]
    return f"({', '.join(found)}{',' * (len(found) == 1)})"


def key(x: Any) -> Any:
    """Give what two numbers computed from sizes are compared by."""
    if isinstance(x, Dim):
        return x.poly
    return (x.tree[0], key(x.tree[1]), key(x.tree[2])) if isinstance(x, Ratio) else x


# --- when a graph runs --------------------------------------------------------------------------------------------------------------------
def dynamic(value: Any) -> bool:
    """Tell whether a value, or something inside it, is known only when a graph runs."""
    if isinstance(value, _Symbolic):
        return True
    if isinstance(value, tuple | list):
        return any(map(dynamic, value))
    if isinstance(value, dict):
        return any(map(dynamic, value.values()))
    if isinstance(value, slice):
        return dynamic((value.start, value.stop, value.step))
    inner = getattr(value, "nodes", None)
    return inner is not None and hasattr(value, "known") and (value.dynamic or any(n.dynamic for n in inner))


def _exactly(x: Any, bindings: dict[str, Any]) -> Any:
    if isinstance(x, Dim):
        return value_of(x.poly, bindings)
    return OPERATORS[x.tree[0]](_exactly(x.tree[1], bindings), _exactly(x.tree[2], bindings)) if isinstance(x, Ratio) else x


def evaluate(value: Any, bindings: dict[str, Any]) -> Any:
    """Put the sizes of a call in the place of their symbols.

    Parameters
    ----------
    value : object
        A size, a ratio, or tuples, lists, dicts, slices, shapes and graphs with some inside; anything else is given back.
    bindings : dict
        Sizes by the names of their symbols.
    """
    if isinstance(value, _Symbolic):
        try:
            return _exactly(value, bindings)
        except KeyError:  # a size of a capture around the one that is run
            return value
    if not dynamic(value) and not isinstance(value, ShapeDtype):
        return value
    if isinstance(value, tuple | list):
        parts = [evaluate(v, bindings) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {k: evaluate(v, bindings) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(evaluate(v, bindings) for v in (value.start, value.stop, value.step)))
    if isinstance(value, ShapeDtype):
        return ShapeDtype(evaluate(value.shape, bindings), value.dtype)
    return value.rebuild(known={**value.known, **bindings})


def bind(label: str, axes: Iterable[tuple[Dim, Any, str]], guards: Iterable[Guard], known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Find the sizes of a call.

    Parameters
    ----------
    label : str
        Of the graph, for errors.
    axes : iterable of (Dim, int, str)
        The sizes that inputs were captured with, those that they have, and the inputs' names.
    guards : iterable of Guard
        What has to hold.
    known : dict, optional
        Sizes known already.

    Raises
    ------
    ValueError
        Where one symbol has two sizes, or a guard does not hold.
    """
    found, computed = dict(known or {}), []
    first: dict[str, str] = {}
    for dim, n, name in axes:
        one = dim.name
        if one is None:
            computed.append((dim, n, name))
        elif found.setdefault(one, n) != n:
            raise ValueError(
                f"{label}: an axis of input {name} has size {n}; by {first.get(one, 'what is known')} it is {found[one]} ({one})"
            )
        else:
            first.setdefault(one, name)
    for dim, n, name in computed:
        _solve(dim, n, found)
        if evaluate(dim, found) != n:
            raise ValueError(f"{label}: an axis of input {name} has size {n}; it was captured as {dim!r}, here {evaluate(dim, found)}")
    for guard in guards:
        left, right = evaluate(guard.left, found), evaluate(guard.right, found)
        if not guard._same(left, right):
            raise ValueError(
                f"{label}: the graph holds where {guard!r}{f' ({guard.where})' if guard.where else ''}; here the two are {left} and {right}. "
                "Capture again for such sizes, or give these axes fixed sizes."
            )
    return found


def of_level(spec: ShapeDtype, level: Any) -> ShapeDtype:
    """Give a shape whose sizes belong to another capture; to none, where comparisons are not to be noted."""
    return ShapeDtype(tuple(dim_of(n.poly, int(n), level) if isinstance(n, Dim) else n for n in spec.shape), spec.dtype)


def _solve(dim: Dim, n: Any, found: dict[str, Any]) -> None:
    """Find the one unknown symbol of a size that is linear in it."""
    unknown = [(c, f[0]) for c, f in dim.poly if len(f) == 1 and isinstance(f[0], str) and f[0] not in found]
    if len(unknown) == 1:
        (c, name), rest = unknown[0], tuple(term for term in dim.poly if term[1] != (unknown[0][1],))
        try:
            found[name] = (n - value_of(rest, found)) // c
        except KeyError as error:
            raise UnsupportedError(f"the size {error} cannot be told from an axis of size {dim!r}") from None
