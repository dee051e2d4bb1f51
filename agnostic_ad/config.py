"""What is used where the user does not say: the array library, dtype and device of new parameters; and moving arrays to others."""

from __future__ import annotations

import importlib.util
from contextvars import ContextVar, Token
from types import ModuleType
from typing import Any, NamedTuple

from agnostic_ad.backends.base import Backend
from agnostic_ad.namespaces import backend_of, backend_of_namespace
from agnostic_ad.op import TABLE

__all__ = ["DTYPES", "Place", "defaults", "dtype_name", "move", "parse", "place", "use_numba"]

DTYPES = frozenset(
    [
        "bool",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
        "complex128",
        *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
    ]
)
"""The names of all dtypes that arrays may have."""


class Place(NamedTuple):
    """Where an array lives: its library, dtype and device; None for what is left open."""

    backend: Backend | None = None
    dtype: Any = None
    device: Any = None


def _numpy() -> Backend:
    import numpy

    return backend_of_namespace(numpy)


_INITIAL = Place(dtype="float32")
_DEFAULTS: ContextVar[Place] = ContextVar("agnostic_ad_defaults", default=_INITIAL)


class defaults:
    """Say which array library, dtype and device new parameters have: at once, and until the end where used in a ``with``.

    Parameters
    ----------
    xp : namespace, optional
        An array library, such as ``numpy`` (the default) or ``torch``. Another library takes the device back to its own default.
    dtype : dtype or str, optional
        By default float32.
    device : device or str, optional
        By default the library's own choice.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> with ad.defaults(dtype="float64"):
    ...     layer = nn.Linear(3, 2)
    >>> layer.weight.dtype
    dtype('float64')
    """

    def __init__(self, xp: Any = None, dtype: Any = None, device: Any = None) -> None:
        now = _DEFAULTS.get()
        backend = now.backend if xp is None else backend_of_namespace(xp)
        name = now.dtype if dtype is None else dtype_name(dtype)
        found = backend or _numpy()
        if found.kind(found.dtype(name)) not in "fc":
            raise TypeError(f"defaults: parameters have floating or complex dtypes, not {name}")
        kept = now.device if backend is now.backend else None
        self._place = Place(backend, name, kept if device is None else found.parse_device(device))
        self._tokens: list[Token[Place]] = [_DEFAULTS.set(self._place)]
        self._pending = True

    def __enter__(self) -> defaults:
        if not self._pending:
            self._tokens.append(_DEFAULTS.set(self._place))
        self._pending = False  # the constructor has set it already
        return self

    def __exit__(self, *exc: object) -> None:
        _DEFAULTS.reset(self._tokens.pop())


def place(xp: Any = None, dtype: Any = None, device: Any = None) -> Place:
    """Give the library, its dtype and its device, with the defaults for what is None."""
    now = _DEFAULTS.get()
    backend = backend_of_namespace(xp) if xp is not None else now.backend or _numpy()
    if device is None:
        device = now.device if backend is now.backend else None
    return Place(backend, backend.dtype(dtype_name(now.dtype if dtype is None else dtype)), backend.parse_device(device))


def dtype_name(dtype: Any) -> str:
    """Give the name of any library's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> dtype_name(np.float32), dtype_name(np.dtype("int8")), dtype_name("float64")
    ('float32', 'int8', 'float64')
    """
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    name = str(name).rpartition(".")[2].strip(">'")
    if name not in DTYPES:
        raise TypeError(f"{dtype!r} is no dtype: one of {', '.join(sorted(DTYPES))}, or a library's own, is wanted")
    return name


def _is_dtype(x: Any) -> bool:
    try:
        dtype_name(x)
    except TypeError:
        return False
    return True


def parse(*args: Any, xp: Any = None, dtype: Any = None, device: Any = None) -> Place:
    """Tell namespaces, dtypes and devices apart: the arguments of ``to``.

    Examples
    --------
    >>> import numpy
    >>> parse(numpy, "float32", "cpu")
    Place(backend=<backend numpy>, dtype='float32', device='cpu')
    """
    for x in args:
        if isinstance(x, ModuleType) or hasattr(x, "__array_namespace_info__"):
            xp = x
        elif _is_dtype(x):
            dtype = x
        elif x is not None:
            device = x
    return Place(None if xp is None else backend_of_namespace(xp), None if dtype is None else dtype_name(dtype), device)


def move(x: Any, to: Place) -> Any:
    """Give a raw array in another library, dtype or on another device: ``x`` itself where nothing changes.

    A dtype of floating numbers leaves integers and booleans as they are, as PyTorch's ``Module.to`` does.
    """
    source = backend_of(x)
    backend = to.backend or source
    if backend is not source:
        x = backend.from_numpy(source.to_numpy(x), to.device)
    elif to.device is not None:
        x = backend.to_device(x, to.device)
    if to.dtype is not None and backend.kind(x.dtype) in "fc" and dtype_name(x.dtype) != to.dtype:
        x = backend.astype(x, backend.dtype(to.dtype))
    return x


def use_numba(enabled: bool = True) -> None:
    """Compile passes over NumPy arrays with Numba, in this process and from now on; or stop doing so.

    Optimizers and the operations of `agnostic_ad.nn` then go over memory once, not once for each arithmetic operation. What is compiled is kept in
    the user's folder for caches (``XDG_CACHE_HOME``, else ``~/.cache``), so that it takes seconds only once. Results differ by roundings.

    Parameters
    ----------
    enabled : bool
        Whether to compile. The environment variable ``AGNOSTIC_AD_NUMBA=1`` does the same from the start.

    Raises
    ------
    ModuleNotFoundError
        Where Numba is not installed.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> ad.use_numba()  # doctest: +SKIP
    """
    if enabled and importlib.util.find_spec("numba") is None:
        raise ModuleNotFoundError("use_numba needs Numba, which is not installed: pip install 'agnostic_ad[jit]'")
    from agnostic_ad.backends import numpy

    numpy.use_numba(enabled)
    for op in TABLE.values():
        op.forget()
