"""Elementwise functions as straight-line code for one element, to be compiled.

A function of arrays that calls only elementwise operations is run once with an `Expression` in the place of each array: what it does is
written down, one line an operation. Python numbers that it meets become arguments of the code, so that a rate that changes from step to
step makes no new code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from agnostic_ad.errors import AgnosticADError

__all__ = ["Code", "Expression", "NoCodeError", "write"]


class NoCodeError(AgnosticADError, TypeError):
    """A function does what there is no code for."""


class Code:
    """The code of one element, while it is being written; as a namespace, the operations that there is code for.

    Attributes
    ----------
    lines : list of str
        Assignments.
    numbers : list of float
        The values of ``k0``, ``k1``, ...
    results : list of str
        The names of results, for who writes code without `write`.
    """

    functions: ClassVar[Mapping[str, str]]

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.numbers: list[float] = []
        self.results: list[str] = []

    def note(self, text: str) -> Expression:
        """Write a line that computes ``text``, and give its result."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        return Expression(self, name)

    def operand(self, x: Any) -> str:
        """Give what stands for ``x`` in the code."""
        if isinstance(x, Expression):
            return x.name
        if isinstance(x, bool) or not isinstance(x, int | float):
            raise NoCodeError(f"an elementwise function met {x!r:.60}: arrays and numbers are wanted")
        self.numbers.append(float(x))
        return f"k{len(self.numbers) - 1}"

    def __getattr__(self, name: str) -> Callable[..., Expression]:
        template = self.functions.get(name)
        if template is None:
            raise NoCodeError(f"there is no code for {name!r}")
        return lambda *operands: self.note(template.format(*map(self.operand, operands)))


FUNCTIONS = {
    "abs": "abs({0})",
    "exp": "exp({0})",
    "expit": "one / (one + exp(-{0}))",
    "log": "log({0})",
    "sqrt": "sqrt({0})",
    "square": "{0} * {0}",
    "positive": "{0}",
    "maximum": "({0} if {0} > {1} or {0} != {0} else {1})",
    "minimum": "({0} if {0} < {1} or {0} != {0} else {1})",
    "sign": "({0} if {0} != {0} or {0} == zero else (one if {0} > zero else -one))",
    "where": "({1} if {0} else {2})",
    "pow": "{0} ** {1}",
    "zeros_like": "zero",
    "ones_like": "one",
    "astype": "(one if {0} else zero)",
    "bitwise_and": "{0} & {1}",
    "bitwise_invert": "not {0}",
    "bitwise_or": "{0} | {1}",
    "ceil": "ceil({0})",
    "floor": "floor({0})",
    "isnan": "{0} != {0}",
    "logical_and": "{0} & {1}",
    "logical_not": "not {0}",
    "logical_or": "{0} | {1}",
    "negative": "-{0}",
    "reciprocal": "one / {0}",
    "relu": "({0} if {0} > zero or {0} != {0} else zero)",
    "round": "rint({0})",
    "tanh": "tanh({0})",
    "trunc": "trunc({0})",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
}

Code.functions = FUNCTIONS


def _binary(template: str) -> Any:
    return lambda self, other: self.code.note(template.format(self.name, self.code.operand(other)))


def _reflected(template: str) -> Any:
    return lambda self, other: self.code.note(template.format(self.code.operand(other), self.name))


class Expression:
    """What stands for an array: a name in the code."""

    __slots__ = ("code", "name")
    shape = None  # to those who ask whether this is an array

    def __init__(self, code: Code, name: str) -> None:
        self.code, self.name = code, name

    __add__, __radd__ = _binary("{} + {}"), _reflected("{} + {}")
    __sub__, __rsub__ = _binary("{} - {}"), _reflected("{} - {}")
    __mul__, __rmul__ = _binary("{} * {}"), _reflected("{} * {}")
    __truediv__, __rtruediv__ = _binary("{} / {}"), _reflected("{} / {}")
    __lt__, __gt__, __le__, __ge__ = _binary("{} < {}"), _binary("{} > {}"), _binary("{} <= {}"), _binary("{} >= {}")
    __eq__, __ne__ = _binary("{} == {}"), _binary("{} != {}")
    __hash__ = object.__hash__

    def __neg__(self) -> Expression:
        return self.code.note(f"-{self.name}")

    def __pow__(self, power: Any) -> Expression:
        if power == 2:
            return self.code.note(f"{self.name} * {self.name}")
        return self.code.sqrt(self) if power == 0.5 else self.code.pow(self, power)

    def __bool__(self) -> bool:
        raise NoCodeError("an elementwise function asks for the value of an array")


def write(
    function: Callable[[Code, dict[str, Expression]], Mapping[str, Any]], names: tuple[str, ...]
) -> tuple[Code, dict[str, str], dict[str, Any]]:
    """Run a function of arrays, and give its code.

    Parameters
    ----------
    function : callable
        ``(xp, arrays) -> results``, both dicts by name.
    names : tuple of str
        The names of the arrays.

    Returns
    -------
    code : Code
        What it does, in terms of ``x0``, ``x1``, ..., one for each of ``names``.
    results : dict of str to str
        What stands in the code for those of its results that are arrays.
    others : dict
        Its other results.

    Examples
    --------
    >>> from agnostic_ad.backends.expressions import write
    >>> code, results, _ = write(lambda xp, a: {"p": a["p"] - 0.1 * xp.sqrt(a["g"])}, ("p", "g"))
    >>> code.lines, code.numbers, results
    (['t0 = sqrt(x1)', 't1 = k0 * t0', 't2 = x0 - t1'], [0.1], {'p': 't2'})
    """
    code = Code()
    found = function(code, {name: Expression(code, f"x{i}") for i, name in enumerate(names)})
    results = {name: x.name for name, x in found.items() if isinstance(x, Expression)}
    return code, results, {name: x for name, x in found.items() if name not in results}
