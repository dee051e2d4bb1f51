"""A reader of pickles that executes nothing.

Python's own unpickler calls what a file tells it to call. This one knows the instructions that plain data need, and a table of names: each
stands for a function *here*, which checks what it gets and makes plain data. A name that is not in the table is an error, and so is an
instruction that is not among those below: no import ever happens, and no attribute of anything is looked up. `pickletools` cuts the bytes
into instructions, so that lengths that a file claims reserve no memory.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any

import numpy as np

from agnostic_ad.encodings import LAYOUT, FileError
from agnostic_ad.errors import AgnosticADError

__all__ = ["PLAIN", "Maker", "read_pickle", "refuse", "said", "sizes"]


def said(x: Any) -> str:
    """Give a short text of something in a file, without asking an object that may be built to make that take forever."""
    return repr(x)[:80] if type(x) is str else f"something of type {type(x).__name__}"


def refuse(what: str) -> FileError:
    """Give the error for something that is not read."""
    return FileError(
        f"it holds {what}, which is not read here: only plain data and arrays are. "
        "Save the state_dict() of a module or optimizer, and numbers, strings, lists and dicts."
    )


class Maker:
    """What a name in a pickle stands for, where it may be called.

    Parameters
    ----------
    name : str
        The name in full.
    make : callable
        A function of this package that checks its arguments and makes plain data.
    """

    __slots__ = ("_make", "name")

    def __init__(self, name: str, make: Callable[..., Any]) -> None:
        self.name, self._make = name, make

    def __call__(self, args: Any) -> Any:
        if type(args) is not tuple:
            raise FileError(f"it calls {self.name} without a tuple of arguments")
        try:
            return self._make(*args)
        except AgnosticADError:
            raise
        except (TypeError, ValueError, OverflowError, LookupError) as error:
            raise FileError(f"it calls {self.name} with arguments that do not fit ({error})") from None


def _want(x: Any, *kinds: type) -> Any:
    """Give ``x`` where it is exactly of one of the types."""
    if type(x) not in kinds:
        raise FileError(f"{' or '.join(k.__name__ for k in kinds)} is wanted, not {type(x).__name__}")
    return x


def sizes(numbers: Any) -> tuple[int, ...]:
    """Give sizes, strides or offsets of an array, where they are such."""
    if type(numbers) is not tuple or len(numbers) > 64 or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        raise FileError("the sizes of an array are no tuple of numbers")
    return numbers


_SCALARS = (str, int, float, bool, bytes, complex, type(None))


def _keys(found: Iterable[Any]) -> Iterable[Any]:
    """Pass keys on; nested ones could take forever to hash."""
    for x in found:
        if type(x) not in _SCALARS and not (type(x) is tuple and all(type(part) in _SCALARS for part in x)):
            raise refuse(f"{said(x)} as a key, or in a set,")
        yield x


def _mapping(items: list[Any]) -> dict[Any, Any]:
    """Give keys and values, one behind the other, as a dict."""
    return dict(zip(_keys(items[::2]), items[1::2], strict=True))


# --- plain data of the standard library ---------------------------------------------------------------------------------------------------
def _pairs(items: Any = ()) -> dict[Any, Any]:
    pairs = list(_want(items, dict, OrderedDict).items()) if isinstance(items, dict) else _want(items, list, tuple)
    return _mapping([part for key, value in (_want(pair, tuple, list) for pair in pairs) for part in (key, value)])


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if _want(encoding, str) not in ("latin1", "latin-1"):
        raise FileError(f"bytes in the encoding {said(encoding)} are not read")
    return bytes(_want(text, str).encode("latin1"))


def _bytearray(data: Any = b"", *encoding: Any) -> bytearray:
    return bytearray(_encoded(data, *encoding) if encoding else _want(data, bytes))


# --- NumPy --------------------------------------------------------------------------------------------------------------------------------
_DTYPES = {f"{dtype.kind}{dtype.itemsize}": dtype for name, dtype in LAYOUT.items() if name == dtype.name} | {"b1": np.dtype(bool)}


def _dtype(code: Any, align: Any = False, copy: Any = True) -> np.dtype[Any]:
    plain = code.lstrip("<>=|") if type(code) is str else code
    if type(plain) is not str or plain not in _DTYPES:
        raise refuse(f"a NumPy array of dtype {said(code)}")
    return np.dtype(_DTYPES[plain], copy=True)  # a new object: its byte order is set later, and everybody who has it must see that


def _reconstruct(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    if not isinstance(kind, Maker) or kind.name != "numpy.ndarray":
        raise refuse("a NumPy array of another type than ndarray")
    return np.empty(0, "u1")  # to be filled


def _sized(data: Any, dtype: Any, shape: Any) -> bytes:
    """Give the bytes of an array, where they are as many as its shape and dtype say."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise FileError("a NumPy array has no dtype")
    size = dtype.itemsize * math.prod(sizes(shape))
    if len(_want(data, bytes, bytearray)) != size:
        raise FileError(f"a NumPy array of shape {shape} and dtype {dtype} has {len(data)} bytes")
    return bytes(bytearray(data))  # memory of its own: NumPy may write into it


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    return np.frombuffer(_sized(data, dtype, ()), dtype)[0]


def _numpy_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    found = np.frombuffer(bytearray(_sized(data, dtype, shape)), dtype).reshape(shape, order=_want(order, str))
    return found.astype(dtype.newbyteorder("="), copy=False)


def _not_called(*args: Any) -> Any:
    raise refuse("a call of numpy.ndarray")


def _both(modules: tuple[str, ...], names: Mapping[str, Callable[..., Any]]) -> dict[tuple[str, str], Maker]:
    return {(module, name): Maker(f"{modules[0]}.{name}", make) for module in modules for name, make in names.items()}


PLAIN: dict[tuple[str, str], Any] = {
    **_both(("collections",), {"OrderedDict": lambda items=(): OrderedDict(_pairs(items)), "Counter": _pairs}),
    **_both(
        ("builtins", "__builtin__"),
        {
            "set": lambda items=(): set(_keys(_want(items, list, tuple))),
            "frozenset": lambda items=(): frozenset(_keys(_want(items, list, tuple))),
            "complex": lambda real, imag: complex(_want(real, float, int), _want(imag, float, int)),
            "bytes": lambda data=b"": bytes(_want(data, bytes, bytearray)),
            "bytearray": _bytearray,
        },
    ),
    **_both(("_codecs",), {"encode": _encoded}),
    **_both(("numpy",), {"dtype": _dtype, "ndarray": _not_called}),
    **_both(("numpy.core.multiarray", "numpy._core.multiarray"), {"_reconstruct": _reconstruct, "scalar": _numpy_scalar}),
    **_both(("numpy.core.numeric", "numpy._core.numeric"), {"_frombuffer": _numpy_buffer}),
}
"""What names in a pickle may stand for: data, or a `Maker`."""


# --- what is told to objects after they are made ------------------------------------------------------------------------------------------
def _build(x: Any, state: Any) -> None:
    """Set the state of an object; of a dict, only the versions that PyTorch keeps beside a ``state_dict``."""
    if type(x) is OrderedDict:
        versions = state.get("_metadata") if type(state) is dict else None
        if type(versions) in (dict, OrderedDict):
            x._metadata = versions  # type: ignore[attr-defined]
    elif isinstance(x, np.dtype):
        order = _want(_want(state, tuple)[1], str)
        if (
            type(state[0]) is not int
            or state[0] != 3
            or order not in ("<", ">", "|", "=")
            or state[2:] not in [(None, None, None, -1, -1, 0)]
        ):
            raise refuse("a structured NumPy dtype")
        x.__setstate__(state)  # type: ignore[attr-defined]
    elif type(x) is np.ndarray and x.base is None and x.size == 0:
        _, shape, dtype, fortran, data = _want(state, tuple)
        x.__setstate__((1, shape, dtype, _want(fortran, bool, int), _sized(data, dtype, shape)))
    else:
        raise refuse(f"a state for an object of type {x.name if isinstance(x, Maker) else type(x).__name__}")


# --- the machine --------------------------------------------------------------------------------------------------------------------------
_MARK = object()
_SIZED = (str, bytes, bytearray, list, tuple, dict, OrderedDict)
_VALUES = frozenset(f"{width}{kind}" for kind in ("STRING", "UNICODE", "BYTES") for width in ("", "SHORT_BIN", "BIN")) | frozenset(
    ["BINBYTES8", "BINFLOAT", "BININT", "BININT1", "BININT2", "BINUNICODE8", "BYTEARRAY8", "FLOAT", "INT", "LONG", "LONG1", "LONG4"]
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
_JOINED: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "FROZENSET": lambda items: frozenset(_keys(items)),
    "DICT": _mapping,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})


class _Machine:
    def __init__(self, names: Mapping[tuple[str, str], Any], persistent: Callable[[Any], Any], room: int) -> None:
        self.names, self.persistent, self.room = names, persistent, room
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: _Bounded) -> Any:
        for op, arg, _ in pickletools.genops(file):  # type: ignore[arg-type]
            if op.name == "STOP":
                return self.stack.pop()
            self.step(op.name, arg)
        raise FileError("its pickle does not end")

    def items(self) -> list[Any]:
        """Take everything above the topmost mark off the stack."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                taken = self.stack[i + 1 :]
                del self.stack[i:]
                return taken
        raise FileError("its pickle has no mark where one is wanted")

    def find(self, module: Any, name: Any) -> Any:
        if type(module) is not str or type(name) is not str:
            raise refuse(f"a name that is {said(name if type(module) is str else module)}")
        if (module, name) not in self.names:
            raise refuse(said(f"{module}.{name}").strip("'"))
        return self.names[module, name]

    def pay(self, given: Any) -> None:
        """Count what a call may copy: data that are named again and again could otherwise fill the memory."""
        self.room -= sum(len(x) for x in given if type(x) in _SIZED) if type(given) is tuple else 0
        if self.room < 0:
            raise FileError("its pickle copies the same data many times")

    def step(self, op: str, arg: Any) -> None:
        stack = self.stack
        if op in _VALUES:
            stack.append(arg)
        elif op in _CONSTANTS:
            stack.append(_CONSTANTS[op])
        elif op in _EMPTY:
            stack.append(_EMPTY[op]())
        elif op in _PUT:
            self.memo[arg] = stack[-1]
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif op in _GET:
            stack.append(self.memo[arg])
        elif op == "MARK":
            stack.append(_MARK)
        elif op in _JOINED:
            stack.append(_JOINED[op](self.items()))
        elif op in _TUPLES:
            count = _TUPLES[op]
            stack[-count:] = [tuple(stack[-count:])]
        elif op == "APPEND":
            item = stack.pop()
            _want(stack[-1], list).append(item)
        elif op == "APPENDS":
            items = self.items()
            _want(stack[-1], list).extend(items)
        elif op == "ADDITEMS":
            items = self.items()
            _want(stack[-1], set).update(_keys(items))
        elif op in ("SETITEM", "SETITEMS"):
            items = self.items() if op == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _want(stack[-1], dict, OrderedDict).update(_mapping(items))
        elif op == "POP":
            stack.pop()
        elif op == "POP_MARK":
            self.items()
        elif op == "DUP":
            stack.append(stack[-1])
        elif op == "GLOBAL":
            stack.append(self.find(*arg.split(" ", 1)))
        elif op == "STACK_GLOBAL":
            name = stack.pop()
            stack.append(self.find(stack.pop(), name))
        elif op in ("REDUCE", "NEWOBJ"):
            args = stack.pop()
            make = stack.pop()
            if not isinstance(make, Maker):
                raise refuse(f"a call of {said(make)}")
            self.pay(args)
            stack.append(make(args))
        elif op == "BUILD":
            state = stack.pop()
            self.pay(state)
            _build(stack[-1], state)
        elif op == "BINPERSID":
            stack.append(self.persistent(stack.pop()))
        elif op not in ("PROTO", "FRAME"):
            raise refuse(f"the pickle instruction {op}")


class _Bounded:
    """A file that does not reserve memory for more bytes than it has."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, max(self._size - self.tell(), 0)))


def read_pickle(file: IO[bytes], size: int, names: Mapping[tuple[str, str], Any], persistent: Callable[[Any], Any]) -> Any:
    """Read one pickle, up to its end.

    Parameters
    ----------
    file : binary file
        Where it begins; what follows it is left.
    size : int
        How many bytes the file has.
    names : mapping
        What (module, name) may stand for: data, or a `Maker`.
    persistent : callable
        Gives what stands outside the pickle, from what the pickle says of it.
    """
    machine = _Machine(names, persistent, 4 * size)
    try:
        found = machine.run(_Bounded(file, size))
    except AgnosticADError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, AttributeError, struct.error, Warning) as error:
        raise FileError(f"its pickle is damaged ({type(error).__name__}: {error!s:.100})") from None
    if found is _MARK or machine.stack:
        raise FileError("its pickle is damaged (it leaves something on the stack)")
    return found
