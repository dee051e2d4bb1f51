"""Arrays in files: the safetensors format, never pickle."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad.config import dtype_name, move, parse
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.module import Module

__all__ = ["FileError", "load_file", "save_file"]

_KEPT = {"bool", "float16", "float32", "float64", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))}


class FileError(AgnosticADError, ValueError):
    """A file does not hold what it should."""


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("saving and loading needs safetensors: pip install 'agnostic_ad[train]'") from None
    return safetensors


def save_file(state: Mapping[str, Any] | Module, path: str | os.PathLike[str]) -> None:
    """Write arrays of any library, or a module's state, to a safetensors file.

    Parameters
    ----------
    state : mapping of str to array, or Module
        What to write. Dtypes that NumPy lacks (bfloat16), and complex ones, are refused.
    path : str or path
        The file; it is there whole, or as it was before.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.save_file(nn.Linear(3, 2), "linear.safetensors")
    >>> sorted(nn.load_file("linear.safetensors"))
    ['bias', 'weight']
    """
    safetensors = _safetensors()
    host = {}
    for name, x in (state.state_dict() if isinstance(state, Module) else state).items():
        raw = x.payload if isinstance(x, Array) else x
        dtype = dtype_name(raw.dtype)
        if dtype not in _KEPT:
            raise TypeError(
                f"save_file: {name!r} has dtype {dtype}, which is not kept in these files. Convert it first, to float32 for instance."
            )
        host[name] = np.ascontiguousarray(backend_of(raw).to_numpy(raw)).reshape(tuple(raw.shape))
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(safetensors.numpy.save(host))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_file(path: str | os.PathLike[str], *, xp: Any = None, device: Any = None) -> dict[str, Any]:
    """Read the arrays of a safetensors file.

    Parameters
    ----------
    path : str or path
        The file.
    xp, device
        The library and the device of the arrays; by default NumPy.

    Returns
    -------
    dict of str to array
    """
    safetensors = _safetensors()
    try:
        found: dict[str, Any] = safetensors.numpy.load(Path(path).read_bytes())
    except (safetensors.SafetensorError, KeyError) as error:
        raise FileError(f"{path} is no safetensors file, or is damaged, or holds a dtype that NumPy lacks: {error}") from None
    to = parse(xp=xp, device=device)
    return {name: move(x, to) for name, x in found.items()}
