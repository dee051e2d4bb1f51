"""Weights in files: ``.caffemodel`` (binary messages) and HDF5, and the snapshots of solvers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from agnostic_ad.config import dtype_name
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.message import DefinitionError, Message
from agnostic_ad.nn.caffe.wire import decode, encode

if TYPE_CHECKING:
    from agnostic_ad.nn.caffe.net import Net

__all__ = ["from_proto", "hdf5", "lmdb_at", "load_caffemodel", "read_mean", "save_net", "to_proto", "weights"]


def hdf5(path: Any, mode: str, what: str) -> Any:
    """Open a file in HDF5."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{what} needs h5py, which is not installed: pip install 'agnostic_ad[caffe]'") from error
    try:
        return h5py.File(path, mode)
    except OSError as error:
        if mode == "r" and isinstance(error, FileNotFoundError):
            raise
        raise DefinitionError(f"{path}: it cannot be {'read' if mode == 'r' else 'written'} as HDF5: {error}") from error


_OPEN: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""The databases that are open, by path: LMDB opens each once in a process, and several nets may read one."""


def lmdb_at(path: Path) -> Any:
    """Give the LMDB database at a path, for reading."""
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a layer of the type Data needs lmdb, which is not installed: pip install 'agnostic_ad[caffe]'"
        ) from error
    key = str(path.resolve())
    found = _OPEN.get(key)
    if found is None:
        found = _OPEN[key] = lmdb.open(key, readonly=True, lock=False, readahead=False, subdir=path.is_dir())
    return found


def is_hdf5(path: Any) -> bool:
    """Tell whether a path is of a file in HDF5."""
    return str(os.fspath(path)).endswith(".h5")


# --- one blob ---------------------------------------------------------------------------------------------------------------------------
def from_proto(proto: Message, source: str = "") -> Any:
    """Give the values of a BlobProto as a NumPy array, float64 where it holds doubles."""
    kind = "double_data" if len(proto.double_data) else "data"
    values = np.asarray(getattr(proto, kind), dtype="float64" if kind == "double_data" else "float32")
    old = [getattr(proto, name) for name in ("num", "channels", "height", "width")]
    shape = tuple(proto.shape.dim) if proto.has("shape") else tuple(old) if any(old) else values.shape
    if int(np.prod(shape)) != values.size:
        raise DefinitionError(f"{source or proto.where}: a blob of shape {shape} has {values.size} values")
    return values.reshape(shape)


def to_proto(blob: Blob, diffs: bool = False) -> Message:
    """Give a blob as a BlobProto."""
    made = Message("BlobProto", shape={"dim": list(blob.shape)})
    prefix = "double_" if dtype_name(blob.dtype) == "float64" else ""
    for what in ("data", "diff") if diffs else ("data",):
        setattr(made, prefix + what, host(getattr(blob, what)).ravel())
    return made


def host(array: Any) -> Any:
    """Give an array on the host."""
    from agnostic_ad.namespaces import backend_of

    return np.asarray(backend_of(array).to_numpy(array))


def same_up_to_ones(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Tell whether shapes differ by leading ones alone: older files pad every shape to four axes."""

    def core(s: tuple[int, ...]) -> tuple[int, ...]:
        return core(s[1:]) if s and s[0] == 1 else s

    return core(shape) == core(other)


# --- nets -------------------------------------------------------------------------------------------------------------------------------
def load_caffemodel(path: Any, kind: str = "NetParameter") -> Message:
    """Read a binary file, such as a ``.caffemodel``, as a message.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        What it holds: "NetParameter", "SolverState", "BlobProto".

    Raises
    ------
    DefinitionError
        Where the file is cut off or is none of these.
    """
    return decode(Path(path).read_bytes(), kind, os.fspath(path))


def weights(source: Any) -> dict[str, list[Any]]:
    """Give the parameters of each layer that has some, by name.

    Parameters
    ----------
    source : path, Net, Message or dict
        A ``.caffemodel`` or ``.h5`` file, a net, a NetParameter, or such a dict. Files of Caffe's older forms are read too.

    Returns
    -------
    dict of str to list of array
        NumPy's arrays from files and messages, a net's own arrays from a net; None for shared parameters that Caffe leaves out of ``.h5`` files.
    """
    if isinstance(source, Mapping):
        return {name: list(arrays) for name, arrays in source.items()}
    if hasattr(source, "params"):
        return {name: [blob.data for blob in blobs] for name, blobs in source.params.items()}
    if not isinstance(source, Message):
        if is_hdf5(source):
            return _from_hdf5(source)
        source = load_caffemodel(source)
    layers = [*source.layer, *(old.layer if old.has("layer") else old for old in source.layers)]
    return {layer.name: [from_proto(b) for b in layer.blobs] for layer in layers if layer.blobs}


def _from_hdf5(path: Any) -> dict[str, list[Any]]:
    with hdf5(path, "r", "reading HDF5") as file:
        if "data" not in file:
            raise DefinitionError(f"{path}: no group 'data', so these are no weights of Caffe's")
        layers = {name: group for name, group in file["data"].items() if len(group)}
        counts = {name: 1 + max(map(int, group)) for name, group in layers.items()}
        return {name: [group[str(i)][()] if str(i) in group else None for i in range(counts[name])] for name, group in layers.items()}


def save_net(net: Net, path: Any, diffs: bool) -> None:
    """Write a net's parameters to a file."""
    if is_hdf5(path):
        with hdf5(path, "w", "writing HDF5") as file:
            for layer in net.layers:
                for group, what in (("data", "data"), ("diff", "diff")) if diffs else (("data", "data"),):
                    into = file.require_group(f"{group}/{layer.name}")
                    for i, blob in enumerate(layer.blobs):
                        into[str(i)] = host(getattr(blob, what))
        return
    made = Message("NetParameter", name=net.name)
    for layer in net.layers:
        param = layer.param.copy()
        param.blobs = [to_proto(blob, diffs) for blob in layer.blobs]
        made.layer.append(param)
    Path(path).write_bytes(encode(made))


def read_mean(path: Any) -> Any:
    """Give the mean image in a ``.binaryproto`` file, channels first."""
    mean = from_proto(load_caffemodel(path, "BlobProto"), os.fspath(path))
    return mean.reshape(mean.shape[-3:])
