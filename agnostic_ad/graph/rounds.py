"""How many rounds a ``while_loop`` takes, as the size of what it stacks: known only when the loop is through, and never computed with."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from agnostic_ad.graph import sizes

__all__ = ["fresh", "is_rounds", "new_rounds", "without_rounds"]

_PREFIX = "rounds "
_numbers = itertools.count(1)


def new_rounds() -> sizes.Dim:
    """Give a symbol that no other loop has, nor the same one elsewhere."""
    return sizes.symbol(f"{_PREFIX}{next(_numbers)}", sizes.HINTS[0])


def is_rounds(n: Any) -> bool:
    """Tell whether a size is such a number."""
    return isinstance(n, sizes.Dim) and (n.name or "").startswith(_PREFIX)


def fresh(shape: Iterable[Any]) -> tuple[Any, ...]:
    """Give a shape with new symbols for the numbers of rounds in it."""
    return tuple(new_rounds() if is_rounds(n) else n for n in shape)


def without_rounds(shape: Iterable[Any]) -> tuple[Any, ...]:
    """Give a shape for what stands in the place of a loop's rows where the loop is not run: one row, which broadcasts to any number of them."""
    return tuple(1 if is_rounds(n) else n for n in shape)
