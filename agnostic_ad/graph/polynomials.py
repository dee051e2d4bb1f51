"""Polynomials with whole coefficients: what a size is computed from, in one form for each size.

A polynomial is a sorted tuple of terms, ``((coefficient, (factor, ...)), ...)``. A factor is the name of a symbol, or ``(operator, left, right)``,
of two polynomials, for a floor division or a remainder that is no polynomial. So all of it is tuples, numbers and texts.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

__all__ = ["OPERATORS", "Poly", "combined", "inner_text", "poly_text", "value_of"]

Poly = tuple[tuple[int, tuple[Any, ...]], ...]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def combined(name: str, a: Poly, b: Poly) -> Poly:
    """Give the sum, difference, product, floor quotient or remainder of two polynomials."""
    terms: dict[tuple[Any, ...], int] = {}
    if name in "+-":
        for sign, poly in ((1, a), (1 if name == "+" else -1, b)):
            for c, factors in poly:
                terms[factors] = terms.get(factors, 0) + sign * c
        return _sorted(terms)
    if name == "*":
        for c1, f1 in a:
            for c2, f2 in b:
                factors = tuple(sorted((*f1, *f2), key=repr))
                terms[factors] = terms.get(factors, 0) + c1 * c2
        return _sorted(terms)
    quotient = _divided(a, b)
    if quotient is None:
        return ((1, ((name, a, b),)),)
    return quotient if name == "//" else ()


def _sorted(terms: dict[tuple[Any, ...], int]) -> Poly:
    return tuple(sorted(((c, f) for f, c in terms.items() if c), key=lambda term: (-len(term[1]), repr(term[1]))))


def _divided(a: Poly, b: Poly) -> Poly | None:
    """Give the quotient by one term, where it is a polynomial."""
    if len(b) != 1:
        return ((1, ()),) if a == b and b else None
    terms: dict[tuple[Any, ...], int] = {}
    by, divisors = b[0]
    for c, factors in a:
        rest = list(factors)
        for d in divisors:
            if d not in rest:
                return None
            rest.remove(d)
        if c % by:
            return None
        terms[tuple(rest)] = c // by
    return _sorted(terms)


def poly_text(poly: Poly) -> str:
    """Give a polynomial as a formula."""
    parts = []
    for c, factors in poly:
        names = [f if isinstance(f, str) else f"({inner_text(f[1])} {f[0]} {inner_text(f[2])})" for f in factors]
        parts.append(" * ".join([*([str(c)] if c != 1 or not names else []), *names]))
    return " + ".join(parts).replace("+ -", "- ") or "0"


def inner_text(poly: Poly) -> str:
    """Give a polynomial as a part of a formula."""
    found = poly_text(poly)
    return f"({found})" if " " in found and not (found.startswith("(") and len(poly) == 1 and poly[0][0] == 1) else found


def value_of(poly: Poly, bindings: dict[str, Any]) -> Any:
    """Put numbers in the place of symbols."""
    total: Any = 0
    for c, factors in poly:
        term: Any = c
        for f in factors:
            term = term * (bindings[f] if isinstance(f, str) else OPERATORS[f[0]](value_of(f[1], bindings), value_of(f[2], bindings)))
        total = total + term
    return total
