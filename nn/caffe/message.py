"""Messages: what a prototxt or a binary file says, with Caffe's defaults for what it does not say."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from agnostic_ad.errors import AgnosticADError
from agnostic_ad.nn.caffe.schema import ENUMS, MESSAGES, Field

__all__ = ["DefinitionError", "Message", "checked", "nearest"]

_INTEGERS = {"int32": (-(1 << 31), 1 << 31), "uint32": (0, 1 << 32), "int64": (-(1 << 63), 1 << 63)}


class DefinitionError(AgnosticADError, ValueError):
    """A definition of a net, of one of its layers or of a solver is wrong."""


def nearest(name: str, known: Any) -> str:
    """Say which known name may have been meant: `` (did you mean 'x'?)``, or nothing."""
    found = difflib.get_close_matches(name, list(known), 1) or [k for k in known if k.lower() == name.lower()]
    return f" (did you mean {found[0]!r}?)" if found else ""


def checked(field: Field, value: Any) -> Any:
    """Give a value as a field's type has it; refuse what has another type."""
    kind = field.type
    if kind in ENUMS:
        names = ENUMS[kind]
        if isinstance(value, int) and not isinstance(value, bool) and value in names.values():
            return next(name for name, number in names.items() if number == value)
        if value in names:
            return value
        raise DefinitionError(f"{field.name!r} is one of {', '.join(names)}, not {value!r}{nearest(str(value), names)}")
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value < high
    elif kind in ("float", "double"):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif kind in MESSAGES:
        fits = isinstance(value, Message) and value.kind == kind
    else:
        fits = isinstance(value, {"bool": bool, "string": str, "bytes": bytes}[kind])
    if not fits:
        raise DefinitionError(f"{field.name!r} is of type {kind}, not {value!r:.80}")
    return value


class Message:
    """One message: fields are attributes, and have Caffe's defaults where nothing was set.

    Enumerations are strings, repeated fields lists. A field that holds a message gives one of defaults where none was set.

    Parameters
    ----------
    kind : str
        The message's name, such as "ConvolutionParameter".
    where : str
        The file and line that it comes from, for errors.
    **fields
        Values; a message may be given as a dict, a list of one as the one.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> param = caffe.Message("PoolingParameter", kernel_size=3)
    >>> param.kernel_size, param.stride, param.pool, param.has("stride")
    (3, 1, 'MAX', False)
    """

    __slots__ = ("kind", "values", "where")
    kind: str
    values: dict[str, Any]
    where: str

    def __init__(self, kind: str, /, where: str = "", **fields: Any) -> None:
        if kind not in MESSAGES:
            raise DefinitionError(f"there is no message {kind!r}{nearest(kind, MESSAGES)}")
        for name, value in (("kind", kind), ("values", {}), ("where", where)):
            object.__setattr__(self, name, value)
        for name, value in fields.items():
            setattr(self, name, value)

    def field(self, name: str) -> Field:
        """Give what is known of a field."""
        found = MESSAGES[self.kind].get(name)
        if found is None:
            raise DefinitionError(f"{self.at()}{self.kind} has no field {name!r}{nearest(name, MESSAGES[self.kind])}")
        return found

    def at(self) -> str:
        """Give the place that this comes from as the beginning of an error's text."""
        return f"{self.where}: " if self.where else ""

    def file(self) -> str:
        """Give the path of the file that this comes from; nothing where it comes from elsewhere."""
        path = self.where.rpartition(":")[0]
        return path if os.path.isfile(path) else ""

    def has(self, name: str) -> bool:
        """Tell whether a field was set; a list without elements is as good as none."""
        field = self.field(name)
        return name in self.values and (not field.repeated or len(self.values[name]) > 0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.values:
            return self.values[name]
        field = MESSAGES[self.kind].get(name)
        if field is None:
            raise AttributeError(f"{self.kind} has no field {name!r}{nearest(name, MESSAGES[self.kind])}")
        if field.repeated:
            self.values[name] = []
            return self.values[name]
        return Message(field.type, self.where) if field.type in MESSAGES else field.default

    def __setattr__(self, name: str, value: Any) -> None:
        field = self.field(name)
        if field.packed and isinstance(value, np.ndarray):
            self.values[name] = value  # numbers of a file of weights: too many for a list
        elif field.repeated:
            items = value if isinstance(value, list | tuple) else [value]
            self.values[name] = [self._checked(field, item) for item in items]
        else:
            self.values[name] = self._checked(field, value)

    def __delattr__(self, name: str) -> None:
        self.values.pop(self.field(name).name, None)

    def _checked(self, field: Field, value: Any) -> Any:
        """Give a value as a field's type has it; refuse what has another type."""
        if field.type in MESSAGES and isinstance(value, dict):
            return Message(field.type, self.where, **value)
        try:
            return checked(field, value)
        except DefinitionError as error:
            raise DefinitionError(f"{self.at()}{self.kind}: {error}") from None

    def set_fields(self) -> Iterator[tuple[Field, Any]]:
        """Give the fields that were set, with their values, in the order of their numbers; empty lists count as not set."""
        for field in sorted(MESSAGES[self.kind].values(), key=lambda f: f.number):
            value = self.values.get(field.name)
            if value is not None and not (field.repeated and not len(value)):
                yield field, value

    def but(self, **fields: Any) -> Message:
        """Give a copy with other values for some fields; without any, the message itself."""
        made = self.copy() if fields else self
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def copy(self) -> Message:
        """Give a copy, messages inside included."""
        made = Message(self.kind, self.where)
        for name, value in self.values.items():
            made.values[name] = [_copied(v) for v in value] if isinstance(value, list) else _copied(value)
        return made

    def text(self, indent: str = "") -> str:
        """Give the message in prototxt's form.

        Examples
        --------
        >>> from agnostic_ad.nn import caffe
        >>> print(caffe.Message("NetState", phase="TEST", stage=["deploy"]).text())
        phase: TEST
        stage: "deploy"
        """
        lines = []
        for field, value in self.set_fields():
            for item in value if field.repeated else [value]:
                if isinstance(item, Message):
                    lines += [f"{indent}{field.name} {{", item.text(indent + "  "), f"{indent}}}"]
                else:
                    lines.append(f"{indent}{field.name}: {_written(field, item)}")
        return "\n".join(line for line in lines if line)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or self.kind != other.kind:
            return False
        mine, theirs = list(self.set_fields()), list(other.set_fields())
        return len(mine) == len(theirs) and all(f == g and _same(v, w) for (f, v), (g, w) in zip(mine, theirs))

    def __reduce__(self) -> Any:
        return _restored, (self.kind, self.where, self.values)

    __hash__ = None  # type: ignore[assignment]  # it can be changed

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{f.name}={v!r}' for f, v in self.set_fields())})"


def _same(value: Any, other: Any) -> bool:
    arrays = isinstance(value, np.ndarray) or isinstance(other, np.ndarray)
    return bool(np.array_equal(value, other) if arrays else value == other)


def _restored(kind: str, where: str, values: dict[str, Any]) -> Message:
    made = Message(kind, where)
    made.values.update(values)
    return made


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, Message) else value


def _written(field: Field, value: Any) -> str:
    if field.type in ("string", "bytes"):
        raw = value.encode() if field.type == "string" else value
        return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in raw) + '"'
    return str(value).lower() if field.type == "bool" else str(value)
