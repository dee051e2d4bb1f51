"""Sample calls of operations, as the op table states them: shapes and domains; whoever checks the table draws the arrays.

An entry's ``cases`` is a sequence of `Case`. `case` writes one by hand; the families make those of their operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["Case", "Domain", "Operand", "case", "elementwise_cases", "integers", "mask", "reduction_cases", "strided"]


class Domain(NamedTuple):
    """Where real numbers, and the real parts of complex ones, are drawn from.

    Attributes
    ----------
    low, high : float
        The bounds; two ints are bounds for integer dtypes too, which otherwise draw from 1 to 7.
    signed : bool
        Whether either sign is given to what is drawn.
    """

    low: float
    high: float
    signed: bool = False


ANYWHERE = Domain(-3.0, 3.0)


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
    strided : bool
        Whether it is a view of every second element of a longer array.
    """

    shape: tuple[int, ...]
    domain: Domain = ANYWHERE
    kind: str = ""
    strided: bool = False


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
    """

    operands: tuple[Any, ...]
    params: dict[str, Any]
    kinds: str = "bifc"
    dynamic: bool = False


def case(*operands: Any, kinds: str = "bifc", dynamic: bool = False, **params: Any) -> Case:
    """Write a `Case`; a tuple stands for an operand of that shape."""
    return Case(tuple(Operand(o) if isinstance(o, tuple) else o for o in operands), params, kinds, dynamic)


def integers(shape: tuple[int, ...], low: int, high: int) -> Operand:
    """Give an operand of integers from ``low`` to ``high``, both included."""
    return Operand(shape, Domain(low, high), "i")


def mask(shape: tuple[int, ...]) -> Operand:
    """Give an operand of booleans."""
    return Operand(shape, kind="b")


def strided(shape: tuple[int, ...]) -> Operand:
    """Give an operand that is not contiguous in memory."""
    return Operand(shape, strided=True)


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
        operands = (Operand(s, d, k, strided=last) for s, d, k in zip(shapes, domains, own, strict=True))
        cases.append(Case(tuple(operands), {}, kinds))
    if count == 2:
        arithmetic = "".join(k for k in kinds if k != "b")
        numbers = [d.high / 2 if isinstance(d.high, float) else int(d.high) // 2 for d in domains]
        for kind in arithmetic:
            a, b = [max(1, int(n)) for n in numbers] if kind == "i" else numbers
            cases += [Case((Operand((3,), domains[0]), b), {}, kind), Case((a, Operand((3,), domains[1])), {}, kind)]
    return cases


def reduction_cases(domain: Any, kinds: str, single: bool = False, empty: bool = True) -> list[Case]:
    """Give the cases of a reduction: every form of ``axis``, ``keepdims``, 0-d, empty, not contiguous.

    Parameters
    ----------
    domain, kinds
        As for `elementwise_cases`.
    single : bool
        Whether ``axis`` is one axis or None.
    empty : bool
        Whether nothing at all can be reduced.
    """
    place = Domain(*domain)
    forms: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((2, 3), {}),
        ((2, 3), {"axis": 0, "keepdims": True}),
        ((3, 2), {"axis": -1}),
        ((), {}),
    ]
    forms += [((1, 3), {"axis": 0}), ((2, 3), {"keepdims": True}), ((0, 2), {"axis": 1})]
    forms += [] if single else [((2, 3, 2), {"axis": (0, -1)}), ((2, 3), {"axis": ()})]
    forms += [((2, 0), {"axis": 1}), ((0,), {})] if empty else []
    made = [Case((Operand(shape, place),), params, kinds) for shape, params in forms]
    return [*made, Case((Operand((3, 2), place, strided=True),), {"axis": 0}, kinds)]
