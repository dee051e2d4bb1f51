"""The namespace that derivative rules, batching rules and composites compute in, one per level and library.

Its operations go to the deepest level among their operands, with nothing in between; only creation functions know the level.
(What users hold is `wrapped.Namespace`: there every result belongs to the level, whatever the operands.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.levels import Level
from agnostic_ad.op import TABLE
from agnostic_ad.wrapped import CREATION

__all__ = ["QUICK", "RuleSpace", "rule_space"]

QUICK: dict[str, Callable[..., Any]] = {}
"""Quick forms of operations, by name, where there are any."""


class _Extension:
    """A sub-namespace, such as linalg."""


class RuleSpace:
    """Operations as class attributes, made once a library; creation functions on demand."""

    __slots__ = ("__dict__", "level")
    backend: Backend

    def __init__(self, level: Level) -> None:
        self.level = level

    def __getattr__(self, name: str) -> Any:
        if name in CREATION:
            made = CREATION[name](self)
        elif name.startswith("__"):
            raise AttributeError(name)
        else:
            made = getattr(self.backend.xp, name)  # dtypes and constants
        self.__dict__[name] = made
        return made

    def forget(self) -> None:
        """Drop the creation functions made so far, which refer to this namespace."""
        self.__dict__.clear()


_CLASSES: dict[int, tuple[int, type[RuleSpace]]] = {}


def rule_space(level: Level, backend: Backend) -> RuleSpace:
    """Give the namespace of rules for a level over a library."""
    size, found = _CLASSES.get(id(backend), (0, RuleSpace))
    if size != len(TABLE):  # made anew where operations were added since
        members: dict[str, Any] = {"backend": backend, "__slots__": ()}
        for name, op in TABLE.items():
            call = staticmethod(QUICK.get(name, op))
            extension, _, short = name.rpartition(".")
            if extension:
                setattr(members.setdefault(extension, _Extension()), short, call.__func__)
            else:
                members[name] = call
        found = type(f"RuleSpace({backend.name})", (RuleSpace,), members)
        _CLASSES[id(backend)] = (len(TABLE), found)
    return found(level)


Level.rules_type = staticmethod(rule_space)
