"""How numbers lie in files: dtypes by name, as bytes and as arrays of any library."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from agnostic_ad.config import Place, dtype_name, move
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of

__all__ = ["LAYOUT", "DtypeError", "FileError", "decode", "encode", "place_in", "read_exactly", "replace_file"]

Host = np.ndarray[Any, Any]


class FileError(AgnosticADError, ValueError):
    """A file does not hold what it should."""


class DtypeError(AgnosticADError, TypeError):
    """A library cannot hold what a file holds."""


LAYOUT: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("float16", "float32", "float64", "complex64", "complex128")}
LAYOUT |= {f"{u}int{n}": np.dtype(f"{u}int{n}") for u in ("", "u") for n in (8, 16, 32, 64)}
LAYOUT |= {"bool": np.dtype("u1"), "bfloat16": np.dtype("u2"), "float8_e4m3fn": np.dtype("u1"), "float8_e5m2": np.dtype("u1")}
"""The NumPy dtype of the same bytes, for every dtype that is read."""


def _e4m3fn(bits: Host) -> Host:
    """Decode 8-bit numbers of 4 bits for the exponent and none for infinity (Micikevicius et al., "FP8 formats for deep learning", 2022)."""
    exponent, fraction = (bits >> 3) & 15, (bits & 7).astype("float32")
    size = np.where(exponent == 0, np.ldexp(fraction, -9), np.ldexp(fraction + 8, exponent.astype("int32") - 10))
    size = np.where(bits & 127 == 127, np.float32(np.nan), size)
    return np.where(bits >> 7, -size, size).astype("float32")


_DECODED: dict[str, Callable[[Host], Host]] = {
    "bool": lambda bits: bits != 0,
    "bfloat16": lambda bits: (bits.astype("u4") << 16).view("float32"),
    "float8_e4m3fn": _e4m3fn,
    "float8_e5m2": lambda bits: (bits.astype("u2") << 8).view("float16").astype("float32"),
}


def read_exactly(file: Any, count: int, what: str) -> Host:
    """Give the next bytes of a file, as an array of memory of its own; too few are an error."""
    data = np.empty(count, "u1")
    if file.readinto(data.data) != count:
        raise FileError(f"it ends within {what}")
    return data


def decode(data: Host, name: str, order: Literal["<", ">"] = "<") -> Host:
    """Give the numbers in bytes, as a NumPy array of one dimension; those of dtypes that NumPy lacks in float32, which holds them all.

    Parameters
    ----------
    data : ndarray of uint8
        The bytes; where no conversion is needed, the result shares their memory.
    name : str
        The dtype.
    order : {"<", ">"}
        The order of the bytes of a number.
    """
    stored = data.view(LAYOUT[name].newbyteorder(order))
    native = stored.astype(LAYOUT[name], copy=False)
    return _DECODED[name](native) if name in _DECODED else native


def place_in(host: Host, name: str, to: Place, what: str) -> Any:
    """Give decoded numbers as an array of a library; bfloat16 in float32 where the library has none."""
    try:
        if not name.startswith(("bfloat", "float8")):
            return move(host, to)
        dtype = None if to.backend is None else getattr(to.backend.xp, name, None)
        if dtype is None and name == "bfloat16":
            return move(host, to)
        if dtype is not None and to.backend is not None:
            return to.backend.astype(to.backend.from_numpy(host, to.device), dtype)
    except TypeError:
        pass  # from_numpy's words name a NumPy array, and not the file's
    library = "numpy" if to.backend is None else to.backend.name
    raise DtypeError(f"{what} has dtype {name}, which {library} cannot hold. Load it into another library with xp=, such as torch.")


def encode(x: Any, what: str) -> tuple[str, Host]:
    """Give the name of an array's dtype, and its bytes as a contiguous array of `LAYOUT`, in the order that least comes first."""
    raw = x.payload if isinstance(x, Array) else x
    if isinstance(raw, Array):
        raise TypeError(f"{what} belongs to {raw.level.label}: only values can be saved")
    backend = backend_of(raw)
    name = dtype_name(raw.dtype)
    if name == "bfloat16":
        wide = np.ascontiguousarray(backend.to_numpy(backend.astype(raw, backend.dtype("float32"))))
        host = (wide.view("u4") >> 16).astype("<u2")
    else:
        host = np.ascontiguousarray(backend.to_numpy(raw))
        host = host.view("u1") if name == "bool" else host.astype(LAYOUT[name].newbyteorder("<"), copy=False)
    return name, host.reshape(tuple(raw.shape))


def replace_file(path: str | os.PathLike[str], write: Callable[[IO[bytes]], None]) -> None:
    """Write a file, which is there whole, or as it was before, even if the machine goes down."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name != "nt":  # where folders cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
