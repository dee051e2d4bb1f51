"""Arrays in files: the safetensors format and NumPy's .npz, never pickle."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from agnostic_ad import tensorfiles
from agnostic_ad.config import Place, parse
from agnostic_ad.encodings import LAYOUT, FileError, encode, place_in, replace_file
from agnostic_ad.nn.module import Module

__all__ = ["FileError", "load_file", "load_metadata", "load_npz", "save_file", "save_npz"]

State = Mapping[str, Any] | Module
_Path = str | os.PathLike[str]


def _encoded(state: State, what: str, kept: Mapping[str, Any]) -> Iterator[tuple[str, str, np.ndarray[Any, Any]]]:
    """Give names, dtypes and host arrays; refuse what is not kept in these files."""
    items = state.state_dict() if isinstance(state, Module) else state
    if not isinstance(items, Mapping):
        raise TypeError(f"{what} writes a mapping of names to arrays, or a module; not {type(state).__name__}")
    for name, x in items.items():
        if not isinstance(name, str):
            raise TypeError(f"{what}: names are strings, not {name!r}")
        try:
            dtype, host = encode(x, f"{what}: {name!r}")
        except (TypeError, KeyError) as error:
            if not hasattr(x, "dtype") or not hasattr(x, "shape"):
                raise TypeError(f"{what}: {name!r} is {type(x).__name__}, and no array of a library that is known here") from error
            dtype, host = str(x.dtype), np.empty(0)
        if dtype not in kept:
            raise TypeError(
                f"{what}: {name!r} has dtype {dtype}, which is not kept in these files. Convert it first, to float32 for instance."
            )
        yield name, dtype, host


# --- safetensors ------------------------------------------------------------------------------------------------------------------------
_PLAIN = re.compile(r"[^/\\:]+\.safetensors")


def save_file(state: State, path: _Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays of any library, or a module's state, to a safetensors file.

    Parameters
    ----------
    state : mapping of str to array, or Module
        What to write. complex128 is refused, and so are dtypes that the format lacks. An array under two names is written twice.
    path : str or path
        The file; it is there whole, or as it was before.
    metadata : mapping of str to str, optional
        What else the file says of itself.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.save_file(nn.Linear(3, 2), "linear.safetensors")
    >>> sorted(nn.load_file("linear.safetensors"))
    ['bias', 'weight']
    """
    if metadata is not None and not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError("save_file: metadata is a mapping of str to str")
    found = list(_encoded(state, "save_file", tensorfiles.CODES))
    if any(name == "__metadata__" for name, *_ in found):
        raise ValueError("save_file: '__metadata__' is no name for an array in these files")
    tensorfiles.write(path, found, metadata)


def load_file(path: _Path, *, xp: Any = None, device: Any = None) -> dict[str, Any]:
    """Read the arrays of a safetensors file.

    Parameters
    ----------
    path : str or path
        The file; or the ``.index.json`` of several.
    xp, device
        The library and the device of the arrays; by default NumPy. bfloat16 becomes float32 where the library has none.

    Returns
    -------
    dict of str to array
    """
    to, path = parse(xp=xp, device=device), Path(path)
    if path.suffix == ".json":
        return _load_shards(path, to)
    return tensorfiles.read_arrays(path, to, "load_file")


def load_metadata(path: _Path) -> dict[str, str]:
    """Read what a safetensors file says of itself, without its arrays.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict of str to str
        Empty where it says nothing.
    """
    return tensorfiles.read_metadata(Path(path))


def _load_shards(path: Path, to: Place) -> dict[str, Any]:
    try:
        names = json.loads(path.read_bytes(), object_pairs_hook=tensorfiles.once)["weight_map"]
        files = sorted(set(names.values()))
        strange = [file for file in files if not isinstance(file, str) or not _PLAIN.fullmatch(file)]
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
        raise FileError(f"{path} is no index of safetensors files: {error!r}") from None
    if strange:
        raise FileError(f"{path} names {strange[0]!r}, which is no .safetensors file of its own folder")
    state: dict[str, Any] = {}
    for file in files:
        loaded = load_file(path.with_name(file), xp=to.backend, device=to.device)
        wanted = [name for name, where in names.items() if where == file]
        missing = [name for name in wanted if name not in loaded]
        if missing:
            raise FileError(f"{path}: {file} does not hold {', '.join(missing)}")
        state |= {name: loaded[name] for name in wanted}
    return state


# --- .npz: a zip file of NumPy's .npy files -------------------------------------------------------------------------------------------------
_NPZ = {name: dtype for name, dtype in LAYOUT.items() if not name.startswith(("bfloat", "float8"))}


def save_npz(state: State, path: _Path) -> None:
    """Write arrays of any library, or a module's state, to a file that ``numpy.load`` reads; without pickle.

    Parameters
    ----------
    state : mapping of str to array, or Module
        What to write. Dtypes that NumPy lacks (bfloat16) are refused.
    path : str or path
        The file; it is there whole, or as it was before.
    """
    found = list(_encoded(state, "save_npz", _NPZ))

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, dtype, host in found:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, host.view(bool) if dtype == "bool" else host, allow_pickle=False)

    replace_file(path, write)


def load_npz(path: _Path, *, xp: Any = None, device: Any = None) -> dict[str, Any]:
    """Read the arrays of an .npz file; one that holds pickled objects is refused.

    Parameters
    ----------
    path : str or path
        The file, of ``numpy.savez``, ``numpy.savez_compressed`` or `save_npz`.
    xp, device
        The library and the device of the arrays; by default NumPy.

    Returns
    -------
    dict of str to array

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> np.savez("two.npz", a=np.arange(3), b=1.5)
    >>> nn.load_npz("two.npz")
    {'a': array([0, 1, 2]), 'b': array(1.5)}
    """
    to = parse(xp=xp, device=device)
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                found = {info.filename.removesuffix(".npy"): _npy(archive, info) for info in archive.infolist()}
        except FileError as error:
            raise FileError(f"{path}: {error}") from None
        except Exception as error:  # zipfile and NumPy's reader of headers raise whatever a damaged file leads them to
            raise FileError(f"{path} is no .npz file, or is damaged ({type(error).__name__}: {error})") from None
    return {name: place_in(host, host.dtype.name, to, f"load_npz: {name!r}") for name, host in found.items()}


def _npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray[Any, Any]:
    """Read an array; memory is asked for as data come, not as the header claims."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(member)
        if dtype.name not in _NPZ:
            what = "objects, which only pickle could read" if dtype.hasobject else f"dtype {dtype}, which is not read here"
            raise FileError(f"{info.filename} holds {what}")
        data = np.frombuffer(bytearray(member.read()), "u1")
    if data.size != math.prod(shape) * dtype.itemsize:
        raise FileError(f"{info.filename} has shape {shape} and dtype {dtype}, but {data.size} bytes")
    found = data.view(dtype)
    found = found.reshape(shape, order="F") if fortran else found.reshape(shape)
    return np.asarray(found, dtype.newbyteorder("="))
