"""Memory that processes share: objects are pickled, and their arrays lie where both sides see them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import itertools
import mmap
import os
import pickle
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.config import dtype_name
from agnostic_ad.namespaces import backend_of_namespace, lookup

_PAGE = mmap.PAGESIZE
_ALIGN = 64
_INLINE = 1 << 12  # an array of fewer bytes goes with the rest
_SMALL, _LARGE = 1 << 20, 1 << 25  # arrays that may have, and must have, a mapping of their own: glibc's threshold is never higher
_STEP = 1 << 26
_FIXED = 0x10  # Linux's MAP_FIXED, which the module mmap lacks


class Block:
    """Shared memory without a name that could be left behind.

    On Linux it is an anonymous file, which other processes open through ``/proc`` and which ends with the last process that holds it.
    Elsewhere it is a temporary file, which the process that opens it removes.

    Parameters
    ----------
    size : int
        How many bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        if hasattr(os, "memfd_create"):
            self._file = os.memfd_create("agnostic_ad", os.MFD_CLOEXEC)
            self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        else:
            self._file, self.path = tempfile.mkstemp(prefix="agnostic_ad")
            weakref.finalize(self, _remove, self.path)
        os.ftruncate(self._file, self.size)
        self.memory = mmap.mmap(self._file, self.size)
        weakref.finalize(self, os.close, self._file)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # gone, or (on Windows) still open: the system cleans its temporary folder
        os.unlink(path)


def open_block(path: str, size: int, write: bool = True) -> mmap.mmap:
    """Open the block of another process."""
    file = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(file, size, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
    finally:
        os.close(file)
        if not path.startswith("/proc/"):
            _remove(path)


# --- large arrays, whose pages become shared where they lie ---------------------------------------------------------------------------
class Span(NamedTuple):
    """Where bytes lie in a file."""

    path: str
    offset: int
    size: int


_SHARED: dict[int, int] = {}
"""Inode -> file descriptor, of the files that pages of arrays have been moved to."""


def _maps() -> list[tuple[int, int, str, int, int, str]]:
    """Give this process's mappings: begin, end, rights, offset, inode and path."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            addresses, rights, offset, _, inode, *path = line.split(maxsplit=5)
            begin, _, end = addresses.partition("-")
            found.append((int(begin, 16), int(end, 16), rights, int(offset, 16), int(inode), path[0].rstrip("\n") if path else ""))
    return found


def _own_mapping(address: int, size: int) -> bool:
    """Tell whether memory was mapped for this array alone: glibc writes so before it, and does so always from a certain size on."""
    if size >= _LARGE:
        return True
    if address % _PAGE != 16 or size < _SMALL:
        return False
    header = ctypes.c_size_t.from_address(address - 8).value
    return header & 7 == 2 and header & ~7 == -(-(size + 16) // _PAGE) * _PAGE


def share_in_place(x: np.ndarray[Any, Any]) -> Span | None:
    """Let the pages of a large array be a file's, with what they hold, at the address where they are; None where that cannot be done.

    The array and all views of it stay as they are, and the memory is not taken twice. Linux alone can do so, and only memory is touched
    that the allocator asked of the system for this array: private, without a name.
    """
    address, size = x.ctypes.data, x.nbytes
    if not sys.platform.startswith("linux") or not _own_mapping(address, size):
        return None
    low, high = address // _PAGE * _PAGE, -(-(address + size) // _PAGE) * _PAGE
    inner, outer = low + (_PAGE if low < address else 0), high - (_PAGE if high > address + size else 0)
    maps = _maps()
    inodes = {entry[4] for entry in maps}
    for inode in [inode for inode in _SHARED if inode not in inodes]:  # arrays that are gone
        os.close(_SHARED.pop(inode))
    around = [entry for entry in maps if entry[0] < outer and entry[1] > inner]
    if not around or around[0][0] > inner or around[-1][1] < outer or any(a[1] != b[0] for a, b in itertools.pairwise(around)):
        return None
    first = around[0]
    if first[4] in _SHARED and len(around) == 1:
        return Span(f"/proc/{os.getpid()}/fd/{_SHARED[first[4]]}", first[3] + address - first[0], size)
    if any(entry[2] != "rw-p" or entry[5] for entry in around):
        return None
    flat: Any = x.reshape(-1, order="A")
    data = memoryview(flat).cast("B")
    file = os.memfd_create("agnostic_ad", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, high - low)
        system = ctypes.CDLL(None, use_errno=True)
        system.mmap.restype = ctypes.c_void_p
        system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
        os.pwrite(file, data[: inner - address], address - low)
        os.pwrite(file, data[outer - address :], outer - low)
        for begin in range(inner, outer, _STEP):
            done, end = begin, min(begin + _STEP, outer)
            while done < end:
                done += os.pwrite(file, data[done - address : end - address], done - low)
            where = system.mmap(begin, end - begin, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _FIXED, file, begin - low)
            if where != begin:
                raise OSError(ctypes.get_errno(), "mmap")
        _SHARED[os.fstat(file).st_ino] = file
    except OSError:  # what has been moved holds the same, and its mapping keeps the file
        os.close(file)
        return None
    return Span(f"/proc/{os.getpid()}/fd/{file}", address - low, size)


# --- objects ----------------------------------------------------------------------------------------------------------------------
class _Pickler(pickle.Pickler):
    """Pickles with arrays apart; mapped files go as the way to open them, arrays of other libraries by way of NumPy.

    Attributes
    ----------
    owners : dict
        Address of an array -> the array whose memory it is.
    """

    owners: dict[int, np.ndarray[Any, Any]]

    def reducer_override(self, x: Any) -> Any:
        """Say how arrays are taken apart."""
        if isinstance(x, np.memmap) and (found := _mapped_file(x)) is not None:
            return found
        if isinstance(x, np.ndarray):
            if type(x) is np.ndarray and not x.dtype.hasobject and x.nbytes >= _INLINE and not x.flags.forc:
                return np.ascontiguousarray(x).__reduce_ex__(5)
            owner = x
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            self.owners[x.ctypes.data] = owner
            return NotImplemented
        if isinstance(x, type) or (backend := lookup(x)) is None or backend.name == "numpy":
            return NotImplemented
        return _placed, (backend.xp.__name__, np.asarray(backend.to_numpy(x)), _device(backend, x))


def _placed(library: str, x: np.ndarray[Any, Any], device: str | None) -> Any:
    """Give an array of another library, on the device of this name."""
    backend = backend_of_namespace(importlib.import_module(library))
    places = () if device is None else backend.xp.__array_namespace_info__().devices()
    host = np.asarray(_Writeable(x))
    if device is None and x.dtype.kind in "biufc" and hasattr(backend.xp, "from_dlpack"):
        made = backend.xp.from_dlpack(host)  # which copies nothing
    else:
        made = backend.from_numpy(host, next((place for place in places if str(place) == device), None))
    if dtype_name(made.dtype) != dtype_name(x.dtype):
        raise TypeError(
            f"{library} made {dtype_name(made.dtype)} of {dtype_name(x.dtype)} in a worker, where it does not have the settings of this process: "
            "make them by environment variables, such as JAX_ENABLE_X64=1; or keep NumPy's arrays in the dataset, and pass xp="
        )
    return made


class _Writeable:
    """An array without its mark of being read-only, for libraries that know none; what is written stays in this process (`receive`)."""

    def __init__(self, x: np.ndarray[Any, Any]) -> None:
        self._keep = x
        self.__array_interface__ = x.__array_interface__ | {"data": (x.ctypes.data, False)}


def _device(backend: Any, x: Any) -> str | None:
    """Give the name of an array's device; None for the one that the library takes by itself."""
    device = str(backend.device(x))
    return None if device == str(backend.device(backend.from_numpy(np.zeros(1)))) else device


def _mapped_file(x: np.memmap[Any, Any]) -> Any:
    """Say how to map an array again, whole or in part; None if it is no plain part of its file."""
    whole: Any = x
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    if whole.filename is None or whole.mode == "c" or not isinstance(whole.base, mmap.mmap):
        return None
    begin = np.lib.array_utils.byte_bounds(x)[0] if x.size else x.ctypes.data
    start = begin - np.lib.array_utils.byte_bounds(whole)[0] + whole.offset
    return _map_again, (str(whole.filename), x.dtype, start, x.shape, x.strides, x.ctypes.data - begin)


def _map_again(path: str, dtype: Any, start: int, shape: tuple[int, ...], strides: tuple[int, ...], first: int) -> Any:
    whole: Any = np.memmap(path, np.uint8, "r")
    x: Any = np.ndarray.__new__(np.memmap, shape, dtype, whole, start + first, strides)
    x._mmap, x.filename, x.offset, x.mode = whole._mmap, whole.filename, start, "r"
    return x


def pack(x: Any, owners: dict[int, Any] | None = None) -> tuple[bytes, list[memoryview]]:
    """Pickle an object; its larger arrays stay apart. ``owners`` gets the arrays whose memory they are, by the address of theirs."""
    apart: list[memoryview] = []

    def callback(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _INLINE:
            return True
        apart.append(raw)
        return False

    stream = io.BytesIO()
    pickler = _Pickler(stream, 5, buffer_callback=callback)
    pickler.owners = {} if owners is None else owners
    pickler.dump(x)
    return stream.getvalue(), apart


def room(sizes: list[int]) -> int:
    """Tell how many bytes arrays of these sizes take, one after the other."""
    return sum(-(-size // _ALIGN) * _ALIGN for size in sizes)


def write(apart: list[memoryview], memory: mmap.mmap) -> None:
    """Write arrays one after the other."""
    place = 0
    for data in apart:
        memory[place : place + data.nbytes] = data
        place += room([data.nbytes])


def unpack(data: bytes | None, sizes: list[int], memory: mmap.mmap, done: Callable[[], object]) -> Any:
    """Give the object again, whose arrays are views of the memory; ``done`` is called when none of them is left.

    Where there is no pickle, it lies behind the arrays.
    """
    whole = np.frombuffer(memory, np.uint8)
    weakref.finalize(whole, done).atexit = False
    buffers: list[Any] = []
    place = 0
    for size in sizes:
        buffers.append(whole[place : place + size])
        place += room([size])
    return pickle.loads(buffers.pop() if data is None else data, buffers=buffers)


def _span(data: memoryview, owners: dict[int, Any]) -> Span | None:
    address = np.frombuffer(data, np.uint8).ctypes.data
    owner = owners.get(address)
    if owner is None or not owner.flags.forc or not (owner.flags.owndata or owner.nbytes >= _LARGE):
        return None
    span = share_in_place(owner)
    return None if span is None else Span(span.path, span.offset + address - owner.ctypes.data, data.nbytes)


class Parcel:
    """An object for many processes, with the blocks that hold its arrays; the blocks end with it."""

    def __init__(self, x: Any) -> None:
        owners: dict[int, Any] = {}
        self.data, apart = pack(x, owners)
        self.places: list[Span] = []
        spans = [_span(data, owners) for data in apart]
        small = [data for data, span in zip(apart, spans) if span is None]
        self._block = Block(room([data.nbytes for data in small])) if small else None
        place = 0
        if self._block is not None:
            write(small, self._block.memory)
        for data, span in zip(apart, spans):
            if span is None:
                assert self._block is not None
                self.places.append(Span(self._block.path, place, data.nbytes))
                place += room([data.nbytes])
            else:
                self.places.append(span)


def receive(data: bytes, places: list[Span]) -> Any:
    """Give the object of a parcel in another process; its arrays are read-only, since others see them too."""
    opened: dict[str, memoryview] = {}
    for path in dict.fromkeys(span.path for span in places):
        file = os.open(path, os.O_RDONLY)
        opened[path] = memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_COPY)).toreadonly()
        os.close(file)
    return pickle.loads(data, buffers=[opened[span.path][span.offset : span.offset + span.size] for span in places])
