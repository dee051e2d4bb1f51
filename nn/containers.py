"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import Any

from agnostic_ad.nn.module import Module

__all__ = ["Sequential"]


class Sequential(Module):
    """Run modules one after the other.

    Parameters
    ----------
    *args : Module
        The modules; or one dict of names and modules.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU())
    Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
      (1): Linear(in_features=4, out_features=2, bias=True)
      (2): ReLU()
    )
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        parts = args[0].items() if len(args) == 1 and isinstance(args[0], dict) else ((str(i), m) for i, m in enumerate(args))
        for name, module in parts:
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """Run the modules in order."""
        for module in self._modules.values():
            input = module(input)  # type: ignore[misc]
        return input

    def _name(self, i: Any) -> str:
        names = list(self._modules)
        if not -len(names) <= index(i) < len(names):
            raise IndexError(f"index {i} is out of range for {len(names)} modules")
        return names[index(i)]

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return type(self)(dict(list(self._modules.items())[i]))
        return self._modules[self._name(i)]

    def __setitem__(self, i: int, module: Module) -> None:
        setattr(self, self._name(i), module)

    def __delitem__(self, i: Any) -> None:
        for name in list(self._modules)[i] if isinstance(i, slice) else [self._name(i)]:
            delattr(self, name)
        self._renumber(list(self._modules.values()))

    def _renumber(self, modules: list[Any]) -> None:
        if all(name.isdecimal() for name in self._modules):
            self._modules.clear()
            for i, module in enumerate(modules):
                self._modules[str(i)] = module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def append(self, module: Module) -> Sequential:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Sequential:
        """Add several modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Sequential:
        """Add a module before another."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self.append(module)
        self._renumber(modules)
        return self
