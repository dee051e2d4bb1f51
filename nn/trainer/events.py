"""Scalars in TensorBoard's own file format, written without TensorBoard.

A file of events is a sequence of records: the length (8 bytes), its checksum, the event, its checksum. An event is a protocol buffer with
the time (field 1), the step (2) and a summary (5), whose values (1) have a tag (1) and a number (2). Both have been the same since 2015:
``tensorboard/compat/proto/{event,summary}.proto`` and ``record_writer.h`` of TensorFlow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping

__all__ = ["HEADER", "record", "scalars"]


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Give the checksum of Castagnoli's polynomial (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def record(event: bytes) -> bytes:
    """Frame an event for the file."""
    return b"".join(part + struct.pack("<I", _masked(part)) for part in (struct.pack("<Q", len(event)), event))


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _field(number: int, content: bytes) -> bytes:
    """Give a field of bytes, with its length."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def scalars(values: Mapping[str, float], step: int, seconds: float) -> bytes:
    """Give the event of numbers by their tags, at a step and a time; those beyond float32 are infinite.

    Examples
    --------
    >>> from agnostic_ad.nn.trainer.events import scalars
    >>> scalars({"a": 1.0}, 3, 0.0).hex()
    '09000000000000000010032a0a0a080a0161150000803f'
    """
    summary = b"".join(_field(1, _field(1, tag.encode()) + b"\x15" + _float(value)) for tag, value in values.items())
    return b"\x09" + struct.pack("<d", seconds) + b"\x10" + _varint(step) + _field(5, summary)


def _float(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


HEADER = record(b"\x09" + struct.pack("<d", 0.0) + _field(3, b"brain.Event:2"))
"""What a file begins with."""
