"""The safetensors format: 8 bytes that say how long the header is, the header in JSON, the bytes of the arrays one behind the other."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from agnostic_ad.config import Place
from agnostic_ad.encodings import LAYOUT, FileError, decode, place_in, read_exactly, replace_file

__all__ = ["CODES", "once", "read_arrays", "read_metadata", "write"]

CODES = {
    **{name: f"{name[0].upper()}{np.dtype(name).itemsize * 8}" for name in LAYOUT if re.fullmatch(r"(int|uint|float)\d+", name)},
    "bool": "BOOL",
    "bfloat16": "BF16",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
"""The format's names of dtypes; it has none for complex128."""
_NAMES = {code: name for name, code in CODES.items()}
_LONGEST_HEADER = 100_000_000
"""What the reference implementation accepts."""


def write(
    path: str | os.PathLike[str], arrays: Iterable[tuple[str, str, np.ndarray[Any, Any]]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write encoded arrays (name, dtype, bytes), and what else the file says of itself; it is there whole, or as it was before."""
    found = sorted(arrays, key=lambda item: (-item[2].itemsize, item[0]))  # each aligned to its own size
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, dtype, host in found:
        header[name] = {"dtype": CODES[dtype], "shape": host.shape, "data_offsets": [end, end + host.nbytes]}
        end += host.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def to(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, _, host in found:
            file.write(host.reshape(-1).view("u1").data)

    replace_file(path, to)


def read_arrays(path: Path, to: Place, what: str) -> dict[str, Any]:
    """Read all arrays into a library."""
    with path.open("rb") as file:
        try:
            return dict(_arrays(file, path.stat().st_size, to, what))
        except FileError as error:
            raise FileError(f"{path} is no safetensors file, or is damaged: {error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """Read what a file says of itself; empty where it says nothing."""
    with path.open("rb") as file:
        try:
            found = _header(file, path.stat().st_size)[0].get("__metadata__", {})
        except FileError as error:
            raise FileError(f"{path} is no safetensors file, or is damaged: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise FileError(f"{path} is no safetensors file, or is damaged: its metadata are no texts")
    return found


def _arrays(file: IO[bytes], size: int, to: Place, what: str) -> Iterator[tuple[str, Any]]:
    for name, dtype, shape, begin, count in _entries(*_header(file, size)):
        file.seek(begin)
        data = read_exactly(file, count, repr(name))
        yield name, place_in(decode(data, dtype).reshape(shape), dtype, to, f"{what}: {name!r}")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Give a JSON object, in which no name may stand twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FileError("a name stands twice in its header")
    return found


def _header(file: IO[bytes], size: int) -> tuple[dict[str, Any], int, int]:
    """Give the header, where the data begin, and how many bytes they are."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise FileError(f"its {size} bytes are too few for a header of {length}")
    try:
        header = json.loads(file.read(length), object_pairs_hook=once)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"its header is no JSON ({error})") from None
    if not isinstance(header, dict):
        raise FileError("its header is no JSON object")
    return header, 8 + length, size - 8 - length


def _entries(header: dict[str, Any], start: int, size: int) -> Iterator[tuple[str, str, tuple[int, ...], int, int]]:
    """Give name, dtype, shape, position and bytes of each array; the data lie one behind the other, without gaps and overlaps."""
    found = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            code, shape, (begin, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise FileError(f"its header does not say dtype, shape and data_offsets of {name!r}") from None
        if len(shape) > 64 or not all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, begin, stop)):
            raise FileError(f"the shape or data_offsets of {name!r} are no sizes")
        if code not in _NAMES:
            raise FileError(f"{name!r} has dtype {code}, which is not read here")
        if math.prod(shape) * LAYOUT[_NAMES[code]].itemsize != stop - begin:
            raise FileError(f"{name!r} has shape {shape} and dtype {code}, but {stop - begin} bytes")
        found.append((begin, stop, name, _NAMES[code], shape))
    end = 0
    for begin, stop, name, *_ in sorted(found):
        if begin != end:
            raise FileError(f"{name!r} does not begin where the data before it end")
        end = stop
    if end != size:
        raise FileError(f"it holds {size} bytes of data, where its header tells of {end}")
    for begin, stop, name, dtype, shape in found:
        yield name, dtype, shape, start + begin, stop - begin
