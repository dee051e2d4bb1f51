"""Sample calls of operations, as the op table states them: shapes and domains; whoever checks the table draws the arrays.

An entry's ``cases`` is a sequence of `Case`. `case` writes one by hand; the families make those of their operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = [
    "Case",
    "Domain",
    "Free",
    "Operand",
    "case",
    "elementwise_cases",
    "hermitian",
    "integers",
    "mask",
    "reduction_cases",
    "spread",
    "strided",
]


class Domain(NamedTuple):
    """Where real numbers, and the real parts of complex ones, are drawn from.

    Attributes
    ----------
    low, high : float
        The bounds; two ints are bounds for integer dtypes too, which otherwise draw from 1 to 7.
    signed : bool
        Whether either sign is given to what is drawn.
    factors : tuple of float
        What all numbers of an array may be multiplied by, besides 1, and still lie in the domain: very small ones and very large ones. By
        default one small factor for an interval around zero, and none for others.
    """

    low: float
    high: float
    signed: bool = False
    factors: tuple[float, ...] = ()

    @property
    def magnitudes(self) -> tuple[float, ...]:
        """The factors, 1 first."""
        return (1.0, *(self.factors or ((TINY,) if self.low < 0 < self.high and isinstance(self.low, float) else ())))


TINY = 1e-8
"""Of numbers around zero: small enough that a difference of nearly equal numbers has lost half of its digits."""
HUGE = 1e30
"""Of numbers without bounds: the fifth power of it and of its reciprocal are numbers in double precision."""
ANYWHERE = Domain(-3.0, 3.0)
LINE = (-3.0, 3.0, False, (1 / HUGE, HUGE))
"""The domain of a function that loses nothing anywhere on the real line."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An array to be drawn.

    Attributes
    ----------
    shape : tuple of int
        Its shape.
    domain : Domain
        Where its elements come from.
    kind : str
        A kind of dtype of its own ("i" or "b"); by default it has that of the whole call, and may carry a derivative.
    layout : {"", "strided", "reversed", "transposed", "repeated"}
        How it lies in memory: without gaps; as every second element of a longer array; with its last axis backwards; with its axes in reverse;
        with all slices along the first axis one and the same (and so of equal numbers).
    scale : float
        One of the domain's magnitudes.
    structure : {"", "spread", "hermitian", "beyond"}
        Of matrices: with 4, 8, 12, ... added to the diagonal, so that eigenvalues and singular values are far from zero and from each other;
        and Hermitian besides, and so positive definite. Directions to differentiate along are Hermitian, too. "beyond": numbers above 1
        are infinite, and those below -1 no numbers.
    """

    shape: tuple[int, ...]
    domain: Domain = ANYWHERE
    kind: str = ""
    layout: str = ""
    scale: float = 1.0
    structure: str = field(default="", repr=False)  # the numbers before it do not depend on it


@dataclass(frozen=True, slots=True)
class Free:
    """What of a case may vary, so that more like it can be drawn.

    Attributes
    ----------
    shapes : {"broadcast", "same", "stack"}
        The shapes of its operands: any that broadcast together; any, but one for all; those it has, behind further axes, which are the same
        for all.
    params : dict
        What may stand for static parameters: a tuple of values; "axis", "axes" for one axis, or several; "axis?", "axes?" for None besides.
        "dtype": none, or the operands' own.
    least : int
        How many axes there are at least.
    empty : bool
        Whether nothing may lie along the axes of the parameters.
    """

    shapes: str = "broadcast"
    params: dict[str, Any] = field(default_factory=dict)
    least: int = 0
    empty: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """One call of an operation.

    Attributes
    ----------
    operands : tuple of Operand, number or None
        The operands in order; numbers and None are passed as they are.
    params : dict
        The static parameters. A string under "dtype" is the name of a dtype.
    kinds : str
        The kinds of dtype to call it with: letters of "bifc".
    dynamic : bool
        Whether the shape of the result depends on values, so that ``vmap`` refuses it.
    free : Free, optional
        What else of it may vary than numbers, magnitudes and layouts, which always may.
    seed : int
        Of the numbers.
    """

    operands: tuple[Any, ...]
    params: dict[str, Any]
    kinds: str = "bifc"
    dynamic: bool = False
    free: Free | None = field(default=None, repr=False)
    seed: int = 0


def case(
    *operands: Any, kinds: str = "bifc", dynamic: bool = False, free: Free | None = None, domain: Domain = ANYWHERE, **params: Any
) -> Case:
    """Write a `Case`; a tuple stands for an operand of that shape, drawn from ``domain``."""
    return Case(tuple(Operand(o, domain) if isinstance(o, tuple) else o for o in operands), params, kinds, dynamic, free)


def integers(shape: tuple[int, ...], low: int, high: int) -> Operand:
    """Give an operand of integers from ``low`` to ``high``, both included."""
    return Operand(shape, Domain(low, high), "i")


def mask(shape: tuple[int, ...]) -> Operand:
    """Give an operand of booleans."""
    return Operand(shape, kind="b")


def strided(shape: tuple[int, ...]) -> Operand:
    """Give an operand that is not contiguous in memory."""
    return Operand(shape, layout="strided")


def spread(shape: tuple[int, ...], strided: bool = False) -> Operand:
    """Give an operand of matrices whose eigenvalues and singular values are far from zero and from each other."""
    return Operand(shape, Domain(-1.0, 1.0), layout="strided" if strided else "", structure="spread")


def hermitian(shape: tuple[int, ...], strided: bool = False) -> Operand:
    """Give an operand of Hermitian positive definite matrices whose eigenvalues are far from each other."""
    return Operand(shape, Domain(-1.0, 1.0), layout="strided" if strided else "", structure="hermitian")


_SHAPES: dict[int, list[tuple[tuple[int, ...], ...]]] = {
    1: [((2, 3),), ((),), ((1,),), ((0, 2),), ((3,),)],
    2: [((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2,)), ((), ()), ((0,), (1,)), ((3,), (3,))],
    3: [((2, 3), (3,), (2, 1)), ((), (2,), ()), ((0,), (0,), (1,)), ((3,), (3,), (3,))],
}


def elementwise_cases(count: int, domain: Any, kinds: str, first: str = "") -> list[Case]:
    """Give the cases of an elementwise operation: broadcasting, 0-d, of size 1, empty, not contiguous, and with Python numbers.

    Parameters
    ----------
    count : int
        The number of operands.
    domain : tuple, or one tuple per operand
        As for `Domain`.
    kinds : str
        The kinds of dtype.
    first : str
        The kind of the first operand, where it has its own.
    """
    pairs = domain if isinstance(domain[0], tuple) else (domain,) * count
    domains = [Domain(*d) for d in pairs]
    own = [first] + [""] * (count - 1)
    cases = []
    for number, shapes in enumerate(_SHAPES[count]):
        last = number == len(_SHAPES[count]) - 1
        operands = (Operand(s, d, k, layout="strided" if last else "") for s, d, k in zip(shapes, domains, own, strict=True))
        cases.append(Case(tuple(operands), {}, kinds, free=Free()))
    if count == 2:
        arithmetic = "".join(k for k in kinds if k != "b")
        numbers = [d.high / 2 if isinstance(d.high, float) else int(d.high) // 2 for d in domains]
        for kind in arithmetic:
            a, b = [max(1, int(n)) for n in numbers] if kind == "i" else numbers
            cases += [
                Case(operands, {}, kind, free=Free()) for operands in ((Operand((3,), domains[0]), b), (a, Operand((3,), domains[1])))
            ]
    return cases


def reduction_cases(domain: Any, kinds: str, single: bool = False, empty: bool = True, params: dict[str, Any] | None = None) -> list[Case]:
    """Give the cases of a reduction: every form of ``axis``, ``keepdims``, 0-d, empty, not contiguous.

    Parameters
    ----------
    domain, kinds
        As for `elementwise_cases`.
    single : bool
        Whether ``axis`` is one axis or None.
    empty : bool
        Whether nothing at all can be reduced.
    params : dict, optional
        What may stand for further parameters, as in `Free`.
    """
    place = Domain(*domain)
    free = Free("same", {"axis": "axis?" if single else "axes?", "keepdims": (False, True), **(params or {})}, empty=empty)
    forms: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((2, 3), {}),
        ((2, 3), {"axis": 0, "keepdims": True}),
        ((3, 2), {"axis": -1}),
        ((), {}),
    ]
    forms += [((1, 3), {"axis": 0}), ((2, 3), {"keepdims": True}), ((0, 2), {"axis": 1})]
    forms += [] if single else [((2, 3, 2), {"axis": (0, -1)}), ((2, 3), {"axis": ()})]
    forms += [((2, 0), {"axis": 1}), ((0,), {})] if empty else []
    made = [Case((Operand(shape, place),), params, kinds, free=free) for shape, params in forms]
    return [*made, Case((Operand((3, 2), place, layout="strided"),), {"axis": 0}, kinds, free=free)]
