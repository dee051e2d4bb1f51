"""Modules that hold parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agnostic_ad.arguments import is_array
from agnostic_ad.nn.containers import item_at, named_items
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Parameter, is_lazy

__all__ = ["ParameterDict", "ParameterList"]


class _Parameters(Module):
    """What `ParameterList` and `ParameterDict` share: arrays become parameters, anything else is kept as it is."""

    def _keep(self, name: str, value: Any) -> None:
        setattr(self, name, Parameter(value) if is_array(value) and not isinstance(value, Parameter) else value)

    def _lines(self, items: Iterable[tuple[Any, Any]]) -> str:
        return "\n".join(f"  ({name}): {_told(value)}" for name, value in items)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse."""
        raise TypeError(f"a {type(self).__name__} holds parameters and is not called")


def _told(value: Any) -> str:
    a_parameter = isinstance(value, Parameter)
    if not a_parameter:
        return f"Object of type: {type(value).__name__}"
    size = "unknown size" if is_lazy(value) else f"size {'x'.join(map(str, value.shape))}"
    return f"Parameter containing: [{value.dtype} of {size}]"


class ParameterList(_Parameters):
    """Hold parameters in a list.

    Parameters
    ----------
    values : iterable, optional
        What it holds: arrays become parameters, other things stay as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> weights = nn.ParameterList([np.zeros(2), np.zeros((2, 3))])
    >>> weights
    ParameterList(
        (0): Parameter containing: [float64 of size 2]
        (1): Parameter containing: [float64 of size 2x3]
    )
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __getitem__(self, i: Any) -> Any:
        return type(self)(list(self)[i]) if isinstance(i, slice) else getattr(self, str(item_at(range(self._size), i)))

    def __setitem__(self, i: int, value: Any) -> None:
        self._keep(str(item_at(range(self._size), i)), value)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, str(i)) for i in range(self._size))

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end; give the list."""
        self._keep(str(self._size), value)
        self._size += 1
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add several parameters at the end; give the list."""
        if not isinstance(values, Iterable) or is_array(values):
            raise TypeError(f"ParameterList.extend takes several parameters, not {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self) -> str:
        """Give a line for each."""
        return self._lines(enumerate(self))


class ParameterDict(_Parameters):
    """Hold parameters by name, in the order in which they came.

    Parameters
    ----------
    parameters : mapping, or iterable of pairs, optional
        What it holds: arrays become parameters, other things stay as they are.
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a ParameterDict has strings as keys, not {type(key).__name__}")
        self._keep(key, value)
        self._keys[key] = None

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def copy(self) -> ParameterDict:
        """Give another dict of the same parameters."""
        return ParameterDict(self)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Give a parameter; add it first, where there is none of that name."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        """Take all parameters away."""
        for key in tuple(self._keys):
            del self[key]

    def pop(self, key: str) -> Any:
        """Take a parameter away, and give it."""
        found = self[key]
        del self[key]
        return found

    def popitem(self) -> tuple[str, Any]:
        """Take the last parameter away, and give its name and it."""
        if not self._keys:
            raise KeyError("popitem: this ParameterDict is empty")
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Give a parameter, or the default where there is none of that name."""
        return getattr(self, key) if key in self._keys else default

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """Give a new dict with one parameter under all names."""
        return ParameterDict((key, default) for key in keys)

    def keys(self) -> Any:
        """Give the names."""
        return self._keys.keys()

    def items(self) -> Iterator[tuple[str, Any]]:
        """Give names and parameters."""
        return ((key, self[key]) for key in self._keys)

    def values(self) -> Iterator[Any]:
        """Give the parameters."""
        return (self[key] for key in self._keys)

    def update(self, parameters: Any) -> None:
        """Add, or replace, the parameters of a mapping or of an iterable of pairs."""
        for name, value in named_items("ParameterDict.update", parameters):
            self[name] = value

    def extra_repr(self) -> str:
        """Give a line for each."""
        return self._lines(self.items())

    def __or__(self, other: Any) -> ParameterDict:
        both = self.copy()
        both.update(other)
        return both

    def __ror__(self, other: Any) -> ParameterDict:
        both = ParameterDict(other)
        both.update(self)
        return both

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self
