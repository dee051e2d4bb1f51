"""PyTorch's files, read without PyTorch and without executing what they say.

The formats: since version 1.6 a zip archive (``data.pkl``, and a member for each storage); before that pickles one behind the other, and
then the storages; before 0.2 a tar archive of storages, tensors and a pickle. What the pickles may name is the table `_NAMES`, and nothing else.
"""

from __future__ import annotations

import io
import math
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from agnostic_ad.config import Place, parse
from agnostic_ad.encodings import LAYOUT, FileError, decode, place_in, read_exactly
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.nn.pickles import PLAIN, Maker, read_pickle, refuse, said, sizes

__all__ = ["load_torch"]

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_ROOM = 1 << 26


class _Type(NamedTuple):
    """What a storage says that it holds; None for bytes, whose dtype an array tells."""

    dtype: str | None


class _Storage(NamedTuple):
    """A storage, or a part of one; sizes are in numbers, or in bytes."""

    key: str
    dtype: str | None
    size: int
    part: tuple[int, int] | None = None  # where it begins, and its size


_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32", "Short": "int16",
    "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
_TYPES: dict[tuple[str, str], Any] = {
    (module, f"{name}Storage"): _Type(dtype) for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()
}
_TYPES |= {(module, "UntypedStorage"): _Type(None) for module in ("torch", "torch.storage", "torch.cuda")}
_TYPES |= {("torch", name): name for name in LAYOUT}


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or not (index is None or type(index) is int):
        raise FileError("a device is no name and number")
    return kind if index is None else f"{kind}:{index}"


class _Reader:
    """Makes arrays from what a pickle says of them.

    Parameters
    ----------
    read : callable
        Gives the bytes of a storage, a NumPy array of uint8; None before they are known.
    order : {"<", ">"}
        The order of the bytes of a number.
    to : Place
        Where the arrays go.
    size : int
        The size of the file: arrays may be larger together, as they may overlap, but not without bound.
    """

    def __init__(self, read: Callable[[str, int], Any] | None, order: Literal["<", ">"], to: Place, size: int) -> None:
        self.read, self.order, self.to = read, order, to
        self.size, self.room = size, 16 * size + _ROOM
        self.seen: dict[str, _Storage] = {}
        self.decoded: dict[tuple[str, str], np.ndarray[Any, Any]] = {}
        made: dict[str, Callable[..., Any]] = {
            "_rebuild_tensor": self.tensor,
            "_rebuild_tensor_v2": self.tensor_v2,
            "_rebuild_tensor_v3": self.tensor_v3,
            "_rebuild_parameter": self.parameter,
        }
        self.names = PLAIN | _TYPES | {("torch._utils", name): Maker(f"torch._utils.{name}", make) for name, make in made.items()}
        self.names["torch", "Size"] = Maker("torch.Size", lambda found=(): sizes(tuple(found) if type(found) is list else found))
        self.names["torch", "device"] = Maker("torch.device", _device)

    def pickle(self, file: IO[bytes]) -> Any:
        return read_pickle(file, self.size, self.names, self.persistent)

    def persistent(self, id: Any) -> _Storage:
        """Note a storage: ("storage", type, key, device, size), and in the older format a part of another storage."""
        if type(id) is not tuple or len(id) not in (5, 6) or id[0] != "storage" or not isinstance(id[1], _Type):
            raise FileError("its pickle speaks of something outside that is no storage")
        _, kind, key, _, size, *part = id
        if type(key) is not str or type(size) is not int or size < 0:
            raise FileError("its pickle speaks of a storage without key and size")
        found = _Storage(key, kind.dtype, size)
        if self.seen.setdefault(key, found) != found:
            raise FileError(f"storage {key} is said to be two different things")
        if not part or part[0] is None:
            return found
        if type(part[0]) is not tuple or len(part[0]) != 3:
            raise FileError(f"a part of storage {key} has no name, beginning and size")
        return self.part(found, *part[0][1:])

    @staticmethod
    def part(whole: _Storage, *part: Any) -> _Storage:
        """Give a part of a storage: where it begins, and its size."""
        begin, count = sizes(part)
        if whole.part is not None or begin + count > whole.size:
            raise FileError(f"a part leaves storage {whole.key}")
        return whole._replace(part=(begin, count))

    # --- arrays -----------------------------------------------------------------------------------------------------------------------
    def numbers(self, storage: _Storage, dtype: str) -> np.ndarray[Any, Any]:
        """Give the numbers of a storage, decoded once, so that arrays that shared it still do."""
        found = self.decoded.get((storage.key, dtype))
        if found is None:
            assert self.read is not None
            wanted = storage.size * LAYOUT[storage.dtype or "uint8"].itemsize
            data = self.read(storage.key, wanted)
            if data.size % LAYOUT[dtype].itemsize:
                raise FileError(f"storage {storage.key} of {data.size} bytes holds no whole numbers of dtype {dtype}")
            found = self.decoded[storage.key, dtype] = decode(data, dtype, self.order)
        return found if storage.part is None else found[storage.part[0] : sum(storage.part)]

    def array(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: str | None) -> Any:
        """Give an array of a storage, checked to lie inside it."""
        if not isinstance(storage, _Storage) or dtype is None:
            raise FileError("an array has no storage of a dtype")
        size, stride, (offset,) = sizes(size), sizes(stride), sizes((offset,))
        if len(size) != len(stride):
            raise FileError(f"an array has {len(size)} sizes and {len(stride)} strides")
        if self.read is None:
            return None
        numbers = self.numbers(storage, dtype)
        count = math.prod(size)
        if count and offset + sum((n - 1) * s for n, s in zip(size, stride)) >= len(numbers):
            raise FileError(f"an array of shape {size}, strides {stride} and offset {offset} leaves its storage of {len(numbers)} numbers")
        self.room -= count * numbers.itemsize
        if self.room < 0:
            raise FileError(f"its arrays are larger than it by far: the one of shape {size} is no longer read")
        steps = tuple(s * numbers.itemsize for s in stride)
        host = np.lib.stride_tricks.as_strided(numbers[offset:], size, steps) if count else np.empty(size, numbers.dtype)
        return place_in(host, dtype, self.to, f"load_torch: an array of shape {size}")

    def tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Any:
        return self.array(storage, offset, size, stride, getattr(storage, "dtype", None))

    def tensor_v2(self, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, metadata: Any = None) -> Any:
        """Also what is marked as conjugate or negative, which PyTorch computes when it must."""
        made = self.tensor(storage, offset, size, stride)
        marks = {} if metadata is None else metadata
        if type(marks) is not dict or not set(marks) <= {"conj", "neg"}:
            raise refuse("an array with marks that are not known here")
        if made is None or not any(marks.values()):
            return made
        made = made.conj() if marks.get("conj") else made
        return -made if marks.get("neg") else made

    def tensor_v3(
        self, storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, metadata: Any = None
    ) -> Any:
        """The form of dtypes whose storages have no type of their own."""
        if type(dtype) is not str or dtype not in LAYOUT or metadata:
            raise refuse(f"an array of dtype {said(dtype)}, or with marks,")
        return self.array(storage, offset, size, stride, dtype)

    def parameter(self, data: Any, requires_grad: Any, hooks: Any) -> Any:
        """Give the array: what is read has no gradients."""
        return data


# --- the formats ----------------------------------------------------------------------------------------------------------------------
def _read_zip(file: IO[bytes], size: int, to: Place) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(members) != len(archive.infolist()):
            raise FileError("it is a zip archive, but not one of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise refuse("a TorchScript program")

        def bytes_of(name: str) -> np.ndarray[Any, Any]:
            info = members.get(folder + name)
            if info is None:
                raise FileError(f"{name} is missing in it")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > size:
                raise FileError(f"{name} is compressed, or larger than the file, which torch.save never makes")
            with archive.open(info) as member:
                data = read_exactly(member, info.file_size, name)
                member.read(1)  # where the checksum is compared
            return data

        def storage(key: str, wanted: int) -> np.ndarray[Any, Any]:
            data = bytes_of(f"data/{key}")
            if data.size != wanted:
                raise FileError(f"storage {key} has {data.size} bytes, where {wanted} are wanted")
            return data

        order = bytes_of("byteorder").tobytes() if f"{folder}byteorder" in members else b"little"
        if order not in (b"little", b"big"):
            raise FileError(f"its order of bytes is {order[:40]!r}")
        reader = _Reader(storage, ">" if order == b"big" else "<", to, size)
        return reader.pickle(io.BytesIO(bytes_of("data.pkl").tobytes()))


def _read_legacy(file: IO[bytes], size: int, to: Place) -> Any:
    """Read the pickles twice: the first time only to learn of the storages, which stand behind them."""
    first = _Reader(None, "<", to, size)
    if first.pickle(file) != _MAGIC or first.pickle(file) != _PROTOCOL:
        raise FileError("it does not begin as a file of torch.save does")
    first.pickle(file)  # about the machine that wrote it; the numbers are in one order everywhere
    begin = file.tell()
    first.pickle(file)
    keys = first.pickle(file)
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(first.seen):
        raise FileError("its list of storages does not fit its pickle")
    places: dict[str, tuple[int, int]] = {}
    at = file.tell()
    for key in keys:
        file.seek(at)
        count = int.from_bytes(file.read(8), "little", signed=True)
        known = first.seen[key]
        length = known.size * LAYOUT[known.dtype or "uint8"].itemsize
        if count != known.size or at + 8 + length > size:
            raise FileError(f"it ends before storage {key} does, which has {length} bytes")
        places[key] = at + 8, length
        at += 8 + length

    def storage(key: str, wanted: int) -> np.ndarray[Any, Any]:
        place, length = places[key]
        back = file.tell()
        file.seek(place)
        data = read_exactly(file, length, f"storage {key}")
        file.seek(back)
        return data

    file.seek(begin)
    second = _Reader(storage, "<", to, size)
    return second.pickle(file)


def _read_tar(file: IO[bytes], size: int, to: Place) -> Any:
    known: dict[int, Any] = {}  # storages and arrays, by the numbers that stand for them
    data: dict[str, np.ndarray[Any, Any]] = {}
    reader = _Reader(lambda key, wanted: data[key], "<", to, size)
    reader.names |= {(module, f"{name}Tensor"): dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()}

    def entry(from_: IO[bytes], count: int) -> tuple[Any, ...]:
        found = reader.pickle(from_)
        if type(found) is not tuple or len(found) != count or type(found[0]) is not int:
            raise FileError("its lists of storages and tensors are damaged")
        return found

    with tarfile.open(fileobj=file, mode="r:") as archive:

        def member(name: str) -> IO[bytes]:
            info = archive.getmember(name)
            if not info.isreg() or info.issparse() or info.size > size:
                raise FileError(f"{name} is no plain member of the archive")
            return io.BytesIO(archive.extractfile(info).read())  # type: ignore[union-attr]

        storages = member("storages")
        for _ in range(reader.pickle(storages)):
            key, _, kind = entry(storages, 3)
            count = int.from_bytes(storages.read(8), "little")
            if not isinstance(kind, _Type) or kind.dtype is None or count > size:
                raise FileError(f"storage {key} has no dtype and size")
            data[str(key)] = read_exactly(storages, count * LAYOUT[kind.dtype].itemsize, f"storage {key}")
            known[key] = _Storage(str(key), kind.dtype, count)
        for view in reader.pickle(storages):
            target, root, *part = view
            known[target] = reader.part(known[root], *part)
        tensors = member("tensors")
        for _ in range(reader.pickle(tensors)):
            key, storage, _ = entry(tensors, 3)
            (ndim,) = struct.unpack("<i4x", tensors.read(8))
            numbers = struct.unpack(f"<{2 * ndim + 1}q", tensors.read(8 * (2 * ndim + 1)))
            source = known[storage]
            known[key] = reader.array(source, numbers[-1], numbers[:ndim], numbers[ndim:-1], getattr(source, "dtype", None))
        return read_pickle(member("pickle"), size, reader.names, lambda id: known[int(id)])


_FORMATS = ((0, b"PK\x03\x04", _read_zip), (257, b"ustar", _read_tar), (0, b"\x80", _read_legacy))


def load_torch(path: str | os.PathLike[str] | IO[bytes], xp: Any = None, device: Any = None) -> Any:
    """Read a file of ``torch.save``, without PyTorch and without executing anything.

    Parameters
    ----------
    path : str, path or binary file
        A .pt or .pth file, of the zip format or those before it: a ``state_dict``, or a checkpoint of such, numbers, strings, lists, tuples,
        dicts, sets, bytes, NumPy arrays, dtypes and devices (which become their names).
    xp, device
        The library and the device of the arrays; by default NumPy. bfloat16 becomes float32 where the library has none.

    Returns
    -------
    object
        What was saved, with raw arrays for tensors and parameters. Arrays that shared memory share it in NumPy, too.

    Raises
    ------
    FileError
        A ValueError. The file holds anything else, which is named; or it is damaged.

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> model.load_state_dict(nn.load_torch("resnet18.pth"))  # doctest: +SKIP
    """
    to = parse(xp=xp, device=device)
    name = str(path) if isinstance(path, str | os.PathLike) else "the file"
    with open(path, "rb") if isinstance(path, str | os.PathLike) else nullcontext(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        start = file.read(262)
        file.seek(0)
        read = next((read for at, mark, read in _FORMATS if start[at:].startswith(mark)), None)
        try:
            if read is not None:
                return read(file, size, to)
        except FileError as error:
            raise FileError(f"{name} is not read: {error}") from None
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, OverflowError, struct.error) as error:
            raise FileError(f"{name} is damaged: {error}") from None
        except (tarfile.TarError, LookupError, TypeError) as error:  # of the lists in a tar archive
            if isinstance(error, AgnosticADError):
                raise
            raise FileError(f"{name} is damaged: {error}") from None
    raise FileError(f"{name} is no file of torch.save (its first bytes are {start[:4]!r})")
