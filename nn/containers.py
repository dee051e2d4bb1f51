"""Modules that hold modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import Any

from agnostic_ad.arguments import is_array
from agnostic_ad.nn.module import Module, in_brackets, indented

__all__ = ["ModuleDict", "ModuleList", "Sequential"]


def item_at(items: Iterable[Any], i: Any) -> Any:
    """Give an item by its number, counted from the end where that is negative."""
    items = list(items)
    if not -len(items) <= index(i) < len(items):
        raise IndexError(f"index {i} is out of range for a length of {len(items)}")
    return items[index(i)]


def named_items(what: str, items: Any) -> Iterator[tuple[str, Any]]:
    """Give names and values of a mapping, or of an iterable of pairs."""
    if callable(getattr(items, "items", None)):
        yield from items.items()
        return
    if not isinstance(items, Iterable) or is_array(items):
        raise TypeError(f"{what} takes a mapping, or pairs of a name and a value, not {type(items).__name__}")
    for i, pair in enumerate(items):
        if not isinstance(pair, Iterable):
            raise TypeError(f"{what}: element {i} is no pair of a name and a value, but {type(pair).__name__}")
        pair = tuple(pair)
        if len(pair) != 2:
            raise ValueError(f"{what}: element {i} has {len(pair)} parts; a name and a value are wanted")
        yield pair


class _Numbered(Module):
    """Modules under the names "0", "1", ...: what `Sequential` and `ModuleList` share."""

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return self._of(list(self._modules.items())[i])
        return item_at(self._modules.values(), i)

    def _of(self, items: list[tuple[str, Any]]) -> Any:
        raise NotImplementedError

    def __setitem__(self, i: int, module: Module) -> None:
        setattr(self, item_at(self._modules, i), module)

    def __delitem__(self, i: Any) -> None:
        for name in list(self._modules)[i] if isinstance(i, slice) else [item_at(self._modules, i)]:
            delattr(self, name)
        self._number(list(self._modules.values()))

    def _number(self, modules: list[Any]) -> None:
        self._modules.clear()
        for i, module in enumerate(modules):
            self._modules[str(i)] = module

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def append(self, module: Module) -> Any:
        """Add a module at the end; give the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add several modules at the end; give the container."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}.extend takes several modules, not {type(modules).__name__}")
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before another; give the container."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}.insert: an nn.Module is wanted, not {type(module).__name__}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"index {index} is out of range for a length of {len(self)}")
        modules = list(self)
        modules.insert(index, module)
        self._number(modules)
        return self

    def pop(self, key: Any) -> Any:
        """Take a module (or, for a slice, several) away, and give it."""
        found = self[key]
        del self[key]
        return found


class Sequential(_Numbered):
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

    def _of(self, items: list[tuple[str, Any]]) -> Any:
        return type(self)(dict(items))

    def _others(self, other: Any) -> list[Any]:
        if not isinstance(other, Sequential):
            raise ValueError(f"a Sequential is added to another, not to {type(other).__name__}")
        return list(other)

    def __add__(self, other: Any) -> Sequential:
        return Sequential(*self, *self._others(other))

    def __iadd__(self, other: Any) -> Sequential:
        return self.extend(self._others(other))  # type: ignore[no-any-return]

    def _times(self, other: Any) -> list[Any]:
        if not isinstance(other, int):
            raise TypeError(f"a Sequential is repeated an integer number of times, not {type(other).__name__}")
        if other <= 0:
            raise ValueError(f"a Sequential is repeated once or more often, not {other} times")
        return list(self) * other

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*self._times(other))

    def __rmul__(self, other: int) -> Sequential:
        return self * other

    def __imul__(self, other: int) -> Sequential:
        return self.extend(self._times(other)[len(self) :])  # type: ignore[no-any-return]


class ModuleList(_Numbered):
    """Hold modules in a list; what runs them is up to the module that has the list.

    Parameters
    ----------
    modules : iterable of Module, optional
        What it holds.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    >>> layers.append(nn.ReLU())
    ModuleList(
      (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)
      (3): ReLU()
    )
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _of(self, items: list[tuple[str, Any]]) -> Any:
        return type(self)(module for _, module in items)

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)  # type: ignore[no-any-return]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        runs: list[list[Any]] = []
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        lines = [
            indented(f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}")
            for first, last, text in runs
        ]
        return in_brackets(self._get_name(), lines)


class ModuleDict(Module):
    """Hold modules by name, in the order in which they came.

    Parameters
    ----------
    modules : mapping of str to Module, or iterable of pairs, optional
        What it holds.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> heads = nn.ModuleDict({"class": nn.Linear(8, 10), "box": nn.Linear(8, 4)})
    >>> list(heads), heads["box"].out_features
    (['class', 'box'], 4)
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Take all modules away."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Take a module away, and give it."""
        return self._modules.pop(key)

    def keys(self) -> Any:
        """Give the names."""
        return self._modules.keys()

    def items(self) -> Any:
        """Give names and modules."""
        return self._modules.items()

    def values(self) -> Any:
        """Give the modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Add, or replace, the modules of a mapping or of an iterable of pairs."""
        for name, module in named_items("ModuleDict.update", modules):
            self[name] = module
