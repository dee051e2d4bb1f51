"""Protocol buffers' binary form, for the messages of the schema: arrays of numbers come as NumPy arrays, without copying them one by one."""

from __future__ import annotations

import struct
from typing import Any, NoReturn

import numpy as np

from agnostic_ad.nn.caffe.message import DefinitionError, Message
from agnostic_ad.nn.caffe.schema import ENUMS, MESSAGES, Field

__all__ = ["decode", "encode"]

_FIXED = {"float": (5, "<f", "<f4"), "double": (1, "<d", "<f8")}
_SIZES = {1: 8, 5: 4}
_BY_NUMBER = {kind: {field.number: field for field in fields.values()} for kind, fields in MESSAGES.items()}
_NAMES = {kind: {number: name for name, number in names.items()} for kind, names in ENUMS.items()}


def _wire_type(kind: str) -> int:
    if kind in _FIXED:
        return _FIXED[kind][0]
    return 2 if kind in MESSAGES or kind in ("string", "bytes") else 0


# --- reading ----------------------------------------------------------------------------------------------------------------------------
class _Bytes:
    """A place in a buffer, and how far its message goes."""

    def __init__(self, data: memoryview, source: str, at: int, end: int) -> None:
        self.data, self.source, self.at, self.end = data, source, at, end

    def fail(self, problem: str) -> NoReturn:
        raise DefinitionError(f"{self.source}: byte {self.at}: {problem}")

    def varint(self) -> int:
        value = shift = 0
        while True:
            if self.at >= self.end or shift > 63:
                self.fail("the file ends within a number, or is no binary form of protocol buffers")
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & ((1 << 64) - 1)
            shift += 7

    def take(self, size: int) -> memoryview:
        if size > self.end - self.at:
            self.fail(f"the file ends early: {size} bytes more were expected, and {self.end - self.at} are there")
        self.at += size
        return self.data[self.at - size : self.at]


def _integer(kind: str, value: int) -> Any:
    if kind == "bool":
        return bool(value)
    if kind in ENUMS:
        return _NAMES[kind].get(value, value)
    if kind == "uint32":
        return value & 0xFFFFFFFF
    return value - (1 << 64) if value >> 63 else value


def _values(field: Field, wire: int, source: _Bytes) -> Any:
    """Give the values that follow a field's key: a list, or an array."""
    kind = field.type
    if wire == 2:
        size = source.varint()
        start = source.at
        raw = source.take(size)
        if kind in MESSAGES:
            return [_message(kind, _Bytes(source.data, source.source, start, start + size))]
        if kind == "string":
            return [bytes(raw).decode("utf-8", "replace")]
        if kind == "bytes":
            return [bytes(raw)]
        if kind in _FIXED and field.repeated and not size % _SIZES[_FIXED[kind][0]]:
            return np.frombuffer(raw, dtype=_FIXED[kind][2])
        if not field.repeated or kind in _FIXED:
            source.fail(f"field {field.name!r} has wire type 2, which is none of {kind}")
        inner, numbers = _Bytes(source.data, source.source, start, start + size), []
        while inner.at < inner.end:
            numbers.append(_integer(kind, inner.varint()))
        return numbers
    if wire != _wire_type(kind):
        source.fail(f"field {field.name!r} has wire type {wire}, which is none of {kind}")
    if wire == 0:
        return [_integer(kind, source.varint())]
    return [struct.unpack(_FIXED[kind][1], source.take(_SIZES[wire]))[0]]


def _message(kind: str, source: _Bytes) -> Message:
    made = Message(kind, source.source)
    fields = _BY_NUMBER[kind]
    while source.at < source.end:
        number, wire = divmod(source.varint(), 8)
        field = fields.get(number)
        if field is None:
            if wire not in (0, 1, 2, 5):
                source.fail(f"wire type {wire} of field {number} of {kind} is not known: this is no {kind}")
            source.varint() if wire == 0 else source.take(source.varint() if wire == 2 else _SIZES[wire])
            continue
        values = _values(field, wire, source)
        if not field.repeated:
            made.values[field.name] = values[-1]
        elif isinstance(values, np.ndarray) and field.name not in made.values:
            made.values[field.name] = values
        else:
            made.values[field.name] = [*made.values.get(field.name, []), *values]
    return made


def decode(data: bytes, kind: str, source: str = "<bytes>") -> Message:
    """Read a message from its binary form; fields that the schema does not know are left out.

    Parameters
    ----------
    data : bytes
        The binary form.
    kind : str
        The message's name.
    source : str
        What errors call the data.

    Raises
    ------
    DefinitionError
        Where the data is cut off or has another form.
    """
    return _message(kind, _Bytes(memoryview(data), source, 0, len(data)))


# --- writing ----------------------------------------------------------------------------------------------------------------------------
def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _scalar(kind: str, value: Any) -> bytes:
    if kind in _FIXED:
        return struct.pack(_FIXED[kind][1], value)
    return _varint(ENUMS[kind][value] if kind in ENUMS else int(value))


def encode(message: Message) -> bytes:
    r"""Give a message's binary form.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> caffe.encode(caffe.Message("BlobShape", dim=[2, 300]))
    b'\n\x03\x02\xac\x02'
    """
    out = []
    for field, value in message.set_fields():
        kind, key = field.type, field.number * 8
        if field.packed:
            packed = isinstance(value, np.ndarray) or kind in _FIXED
            body = np.asarray(value, dtype=_FIXED[kind][2]).tobytes() if packed else b"".join(_scalar(kind, v) for v in value)
            out += [_varint(key + 2), _varint(len(body)), body]
            continue
        for item in value if field.repeated else [value]:
            wire = _wire_type(kind)
            if wire == 2:
                body = encode(item) if kind in MESSAGES else item.encode() if kind == "string" else item
                out += [_varint(key + 2), _varint(len(body)), body]
            else:
                out += [_varint(key + wire), _scalar(kind, item)]
    return b"".join(out)
