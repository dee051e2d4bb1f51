"""From the state of a run to a safetensors file and back: arrays as they are, everything else as JSON in the file's header. Never pickle."""

from __future__ import annotations

import json
import math
import os
import random
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from agnostic_ad.config import dtype_name
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, is_raw
from agnostic_ad.nn.serialization import FileError, load_file, load_metadata, save_file
from agnostic_ad.random import default_generator

__all__ = ["CheckpointError", "load_state", "random_state", "save_state", "set_random_state"]

Host = np.ndarray[Any, Any]
_FORMAT = "agnostic_ad checkpoint 1"
_MARK = "$"
"""What a JSON object that stands for something else than a dict of texts has as its first key."""


class CheckpointError(AgnosticADError, RuntimeError, ValueError):
    """A checkpoint cannot be written or read, or belongs to another run."""


def save_state(state: Any, path: str | os.PathLike[str]) -> None:
    """Write a tree of arrays of any library, numbers, texts, lists, tuples and dicts to a file, which is there whole or as it was before.

    Parameters
    ----------
    state : tree
        What to write.
    path : path
        The file: safetensors, whose arrays other programs can read too. The rest is JSON in its header.

    Raises
    ------
    CheckpointError
        If something in the tree is neither; the text says where.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.trainer.states import load_state, save_state
    >>> save_state({"step": 3, "weights": [np.ones(2), (1.5, float("inf"))]}, "state.safetensors")
    >>> load_state("state.safetensors")
    {'step': 3, 'weights': [array([1., 1.]), (1.5, inf)]}
    """
    arrays: dict[str, Host] = {}
    text = json.dumps(_packed(state, "", arrays), allow_nan=False)
    save_file(arrays, path, {"format": _FORMAT, "state": text, "crc": str(zlib.crc32(text.encode()))})


def load_state(path: str | os.PathLike[str]) -> Any:
    """Read what `save_state` wrote, with NumPy arrays. A file that is damaged anywhere is refused.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    FileError
        If it is damaged, or no such file.
    """
    about, arrays = load_metadata(path), load_file(path)
    if about.get("format") != _FORMAT:
        raise FileError(f"{path} is no checkpoint: its header does not say {_FORMAT!r}")
    text = about.get("state", "")
    if str(zlib.crc32(text.encode())) != about.get("crc"):
        raise FileError(f"{path} is damaged: its header has another checksum than it says")
    return _unpacked(json.loads(text), arrays, path)


def _packed(x: Any, path: str, arrays: dict[str, Host]) -> Any:
    if x is None or isinstance(x, bool | str) or (isinstance(x, int) and not isinstance(x, np.generic)):
        return x
    if isinstance(x, np.generic | Array) or is_raw(x):
        return _packed_array(x, path or "state", arrays)
    if isinstance(x, float):
        return x if math.isfinite(x) else {_MARK: "float", "value": str(x)}

    def inner(name: Any, value: Any) -> Any:
        return _packed(value, f"{path}.{name}" if path else str(name), arrays)

    if isinstance(x, list | tuple):
        items = [inner(i, value) for i, value in enumerate(x)]
        return items if isinstance(x, list) else {_MARK: "tuple", "value": items}
    if isinstance(x, Mapping):
        if not isinstance(x, Counter) and all(isinstance(key, str) and key != _MARK for key in x):
            return {key: inner(key, value) for key, value in x.items()}
        pairs = [[_packed(key, path, arrays), inner(key, value)] for key, value in x.items()]
        return {_MARK: "counter" if isinstance(x, Counter) else "dict", "value": pairs}
    raise CheckpointError(
        f"a checkpoint cannot hold {path or 'this'}, of type {type(x).__name__}: it holds arrays, numbers, texts, None, and lists, tuples "
        "and dicts of them. Leave it out of the state_dict, or give it there as one of these."
    )


def _packed_array(x: Any, path: str, arrays: dict[str, Host]) -> Any:
    raw = x.payload if isinstance(x, Array) else np.asarray(x) if isinstance(x, np.generic) else x
    backend = backend_of(raw)
    name = dtype_name(raw.dtype)
    if name == "bfloat16":  # which float32 holds exactly, and NumPy does not have
        raw = backend.astype(raw, backend.dtype("float32"))
    host = np.ascontiguousarray(backend.to_numpy(raw)).reshape(tuple(raw.shape))
    if name == "complex128":  # which safetensors does not have
        host = host.reshape(-1).view("float64").reshape(*host.shape, 2)
    key = path
    while key in arrays:
        key += "'"
    arrays[key] = host
    kind = name if name == "complex128" else "scalar" if isinstance(x, np.generic) else "array"
    return {_MARK: kind, "value": key, "crc": _checksum(host)}


def _checksum(host: Host) -> int:
    return zlib.crc32(host.reshape(-1).view("u1").data)


def _unpacked(x: Any, arrays: dict[str, Host], path: Any) -> Any:
    if isinstance(x, list):
        return [_unpacked(value, arrays, path) for value in x]
    if not isinstance(x, dict):
        return x
    if _MARK not in x:
        return {key: _unpacked(value, arrays, path) for key, value in x.items()}
    kind, value = x[_MARK], x["value"]
    if kind in ("array", "complex128", "scalar"):
        host = arrays.get(value)
        if host is None or _checksum(host) != x["crc"]:
            raise FileError(f"{path} is damaged: {value!r} has another checksum than its header says")
        if kind == "complex128":
            host = host.reshape(-1).view(kind).reshape(host.shape[:-1])
        return host[()] if kind == "scalar" else host
    if kind == "float":
        return float(value)
    if kind == "tuple":
        return tuple(_unpacked(value, arrays, path))
    pairs = {_unpacked(key, arrays, path): _unpacked(each, arrays, path) for key, each in value}
    return Counter(pairs) if kind == "counter" else pairs


# --- random numbers -----------------------------------------------------------------------------------------------------------------------
def random_state() -> dict[str, Any]:
    """Give the states of the generators that training may draw from: `agnostic_ad.manual_seed`'s, ``np.random``'s and ``random``'s."""
    version, words, gauss = random.getstate()
    return {
        "agnostic_ad": default_generator.get_state(),
        "numpy": np.random.get_state(legacy=False),
        "python": {"version": version, "words": np.asarray(words, "uint32"), "gauss": gauss},
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Let the three generators go on from where `random_state` was called."""
    default_generator.set_state(state["agnostic_ad"])
    np.random.set_state(state["numpy"])
    python = state["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
