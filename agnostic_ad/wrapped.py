"""The namespaces of wrapped arrays: the standard's names, with this package's operations behind them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.levels import Level
from agnostic_ad.op import TABLE

__all__ = ["CREATION", "Namespace"]

CREATION: dict[str, Any] = {}
"""Functions that make arrays or talk about dtypes, and operations that users have in another form: ``name -> fn(namespace, ...)``, filled
by the op table's chapters."""


class Namespace:
    """An Array API namespace whose arrays belong to one level, over one library.

    Attributes
    ----------
    level : Level
        The transformation.
    backend : Backend
        The library at the bottom.
    """

    newaxis = None

    def __init__(self, level: Level, backend: Backend, path: str = "") -> None:
        self.level, self.backend, self._path = level, backend, path
        kind = type(level).__name__.removesuffix("Level").lower()
        self.__name__ = f"agnostic_ad.{kind}({backend.name})" + (f".{path}" if path else "")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") and name not in _FACTS:
            raise AttributeError(name)
        value = self._find(f"{self._path}.{name}" if self._path else name, name)
        self.__dict__[name] = value
        return value

    def _find(self, path: str, name: str) -> Any:
        maker = CREATION.get(path)
        if maker is not None:
            return maker(self)
        op = TABLE.get(path)
        if op is not None:
            return self.level.bind(op)
        if any(known.startswith(f"{path}.") for known in TABLE):
            return Namespace(self.level, self.backend, path)
        raw: Any = self.backend.xp
        for part in path.split("."):
            raw = getattr(raw, part, None)
        plain = isinstance(raw, type) or _is_dtype(raw) or name in _FACTS
        if raw is None or isinstance(raw, ModuleType) or (callable(raw) and not plain):
            known = (
                "is not differentiated by this package yet" if raw is not None else f"is neither the standard's nor {self.backend.name}'s"
            )
            raise AttributeError(f"{self.__name__} has no {name!r}: it {known}")
        return raw

    def forget(self) -> None:
        """Drop the functions made so far, which refer to this namespace."""
        for name in [name for name, value in self.__dict__.items() if callable(value)]:
            del self.__dict__[name]

    def __dir__(self) -> list[str]:
        prefix = f"{self._path}." if self._path else ""
        names = [n.removeprefix(prefix) for n in (*TABLE, *CREATION) if n.startswith(prefix)]
        return sorted({n.partition(".")[0] for n in names} | set(self.__dict__))

    def __repr__(self) -> str:
        # SciPy and array_api_compat quote this where raw and wrapped operands meet: "Multiple namespaces for array inputs: ..."
        return f"<namespace {self.__name__}; its asarray() takes raw operands in>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Namespace) and (self.level, self.backend, self._path) == (other.level, other.backend, other._path)

    def __hash__(self) -> int:
        return hash((id(self.level), id(self.backend), self._path))

    def __reduce__(self) -> Any:
        if self.level.depth != 0:
            raise TypeError(f"the namespace of {self.level.label} lives no longer than that transformation: it cannot be copied or pickled")
        return _base_namespace, (self.backend, self._path)


_FACTS = ("__array_api_version__", "__array_namespace_info__")


def _is_dtype(x: Any) -> bool:
    return hasattr(x, "itemsize") or type(x).__name__ in ("dtype", "DType")


def _base_namespace(backend: Backend, path: str) -> Namespace:
    found: Namespace = Level.base.namespace(backend)
    return getattr(found, path) if path else found


Level.namespace_type = Namespace
