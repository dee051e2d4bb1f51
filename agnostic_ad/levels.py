"""The stack of active transformations, and the base class of every wrapped array.

A transformation is a `Level`. Its arrays wrap arrays of the levels below it, down to raw arrays of some library. The level of an
operation is the deepest among its operands; what a level does with an operation is its ``apply``, and there it computes on the
payloads, one level down.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ClassVar

from agnostic_ad import namespaces
from agnostic_ad.errors import EscapedArrayError, UnsupportedError
from agnostic_ad.namespaces import backend_of, lookup

if TYPE_CHECKING:
    from agnostic_ad.backends.base import Backend
    from agnostic_ad.op import Op

__all__ = ["CASTS", "DEAD", "FAST", "QUIET", "TAKES", "WATCHING", "Array", "Level", "Size", "Symbolic"]
__all__ += ["OPEN", "active_level", "capturing", "deepest", "is_symbolic", "next_depth", "unify"]

DEAD = -1
ABOVE_ALL = 1 << 62
TRANSFORMATIONS = 100
"""Transformations are deeper than this; up to it lie the tapes that last."""
next_depth = itertools.count(TRANSFORMATIONS + 1).__next__
"""Give a depth below which everything lies that has been entered so far, in any thread: a function may leave a part of its work to threads."""

_STACK: ContextVar[tuple[Level, ...]] = ContextVar("agnostic_ad_levels", default=())
QUIET: ContextVar[int] = ContextVar("agnostic_ad_quiet", default=DEAD)
"""Reverse levels up to this depth record nothing (``no_grad``)."""
FAST: ContextVar[int] = ContextVar("agnostic_ad_fast", default=DEAD)
"""Levels up to this depth take the general path: at least `QUIET`, and `ABOVE_ALL` where every operation is watched or cast."""
WATCHING: ContextVar[bool] = ContextVar("agnostic_ad_watching", default=False)
"""Whether every record is watched for what is not finite; `FAST` is then `ABOVE_ALL`."""
CASTS: ContextVar[Callable[[Op, tuple[Any, ...]], tuple[Any, ...]] | None] = ContextVar("agnostic_ad_casts", default=None)
"""What changes the operands of every operation (autocast), from the operation and its operands; `FAST` is then `ABOVE_ALL`."""
TAKES: ContextVar[Callable[[Any], Any] | None] = ContextVar("agnostic_ad_takes", default=None)
"""What takes every operand into a function that is being captured for a node (of ``graph.cond``, say); `FAST` is then `ABOVE_ALL`."""
OPEN: ContextVar[bool] = ContextVar("agnostic_ad_open", default=False)
"""Whether a function is being captured some of whose sizes are known only when its graph runs."""
ESCAPES: ContextVar[str] = ContextVar("agnostic_ad_escapes", default="raise")
STRONG: ContextVar[bool] = ContextVar("agnostic_ad_strong_zeros", default=False)
"""Whether a derivative of zero stays zero beside an infinite or undefined factor."""


def active_level() -> Level | None:
    """Give the innermost active transformation."""
    stack = _STACK.get()
    return stack[-1] if stack else None


def shapes_are_fixed() -> bool:
    """Tell whether a transformation is active in which no shape may depend on values."""
    return any(level.fixed_shapes for level in _STACK.get())


class Level:
    """One transformation while it runs; a context manager, which may be entered again."""

    __slots__ = ("__weakref__", "_entered", "_namespaces", "_rules", "depth", "label")
    base: ClassVar[Level]  # reverse.BASE, the define-by-run tape
    fixed_shapes: ClassVar[bool] = False  # whether no shape may depend on values
    captures: ClassVar[bool] = False  # whether it makes a graph, in which sizes may be known later
    whole: ClassVar[frozenset[str]] = frozenset()  # the composites that `apply` takes as they are
    namespace_type: ClassVar[Any]  # wrapped.Namespace, set there: arrays and namespaces know each other
    rules_type: ClassVar[Any]  # rules.rule_space, likewise

    def __init__(self, label: str) -> None:
        self.label = label
        self.depth = DEAD
        self._namespaces: dict[int, Any] = {}
        self._rules: dict[int, Any] = {}
        self._entered: list[tuple[int, Token[Any]]] = []

    def __enter__(self) -> Level:
        stack = _STACK.get()
        before = self.depth
        self.depth = next_depth()  # above QUIET: a new level records, whatever no_grad is in force around it
        self._entered.append((before, _STACK.set((*stack, self))))
        return self

    def __exit__(self, *exc: object) -> None:
        self.depth, token = self._entered.pop()
        _STACK.reset(token)
        if self.depth == DEAD and (self._rules or self._namespaces):
            for spaces in (self._rules, self._namespaces):  # they refer to their level, and what they made to them: this breaks the cycles
                for space in spaces.values():
                    space.forget()
                spaces.clear()

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute an operation whose deepest operand is of this level."""
        raise NotImplementedError

    def lift(self, x: Any) -> Any:
        """Wrap an array of a lower level, or a raw one, as a constant of this level."""
        raise NotImplementedError

    def delivers(self, node: Any) -> None:
        """Refuse that a leaf of another tape gets an array of this level as its gradient, where there is a reason to."""

    def bind(self, op: Op) -> Any:
        """Give an operation as a function whose results belong to this level at least."""
        return op.bind(self)

    def namespace(self, backend: Backend) -> Any:
        """Give the namespace of this level's arrays over a library."""
        found = self._namespaces.get(id(backend))
        if found is None:
            found = self._namespaces[id(backend)] = self.namespace_type(self, backend)
        return found

    def rules(self, backend: Backend) -> Any:
        """Give the namespace in which rules compute on this level's arrays."""
        found = self._rules.get(id(backend))
        if found is None:
            found = self._rules[id(backend)] = self.rules_type(self, backend)
        return found


class Symbolic:
    """A number that is known only when a graph runs: ``graph.sizes`` makes them."""

    __slots__ = ()
    level: Any  # the capture that it belongs to

    def array(self, backend: Backend, like: Any) -> Any:
        """Give it as a 0-d array of the dtype that promotion with ``like`` gives."""
        raise NotImplementedError

    def require(self, comparison: str, other: Any) -> None:
        """Make a graph refuse sizes for which a comparison (``>=``, ...) does not hold."""
        raise NotImplementedError


def is_symbolic(*values: Any) -> bool:
    """Tell whether a number among some values, or inside them, is known only when a graph runs."""
    for x in values:
        if isinstance(x, Symbolic):
            return True
        if isinstance(x, tuple | list) and is_symbolic(*x):
            return True
        if isinstance(x, slice) and is_symbolic(x.start, x.stop, x.step):
            return True
    return False


def capturing() -> Any:
    """Give the innermost capture that is active; None where there is none."""
    return next((level for level in reversed(_STACK.get()) if level.captures), None)


class Size(int):
    """The number of elements of an array, NumPy's ``x.size``, which can be called as PyTorch's ``x.size()``."""

    shape: tuple[Any, ...]

    def __call__(self, dim: int | None = None) -> Any:
        """Give the shape, or the size of one axis."""
        if dim is None:
            return self.shape
        if not -len(self.shape) <= dim < len(self.shape):
            raise IndexError(f"size({dim}) of an array of {len(self.shape)} dimensions")
        return self.shape[dim]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Stand for a Python number beside NumPy's arrays, whose dtype it leaves alone; NumPy takes no subclass for one."""
        return getattr(ufunc, method)(*(int(a) if type(a) is Size else a for a in inputs), **options)

    def copy(self) -> Size:
        """Give the same number anew."""
        return Size(self)

    def __reduce__(self) -> Any:
        return int, (int(self),)


class Array:
    """An array of some transformation. Operators and methods come from the op table."""

    __slots__ = ("__weakref__", "_base", "_views", "level", "payload")  # the two about views are set where there are any
    __agnostic_ad_level__ = True
    __array_priority__ = 1000.0
    __hash__ = object.__hash__
    _state: ClassVar[tuple[str, ...]] = ("payload",)

    payload: Any
    level: Any
    _base: Any
    _views: Any

    # --- what an array is ---------------------------------------------------------------------------------------------
    @property
    def data(self) -> Any:
        """The array underneath: a raw array of the library, or one of the next transformation."""
        payload = self.payload
        return payload if isinstance(payload, Array) else backend_of(payload).array(payload)

    @data.setter
    def data(self, value: Any) -> None:
        raise AttributeError(f"the data of a {type(self).__name__} of {self.level.label} cannot be set")

    @property
    def backend(self) -> Backend:
        """The backend of the raw array at the bottom."""
        data = self.payload
        return data.backend if isinstance(data, Array) else backend_of(data)

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes of the axes."""
        return tuple(self.payload.shape)

    @property
    def dtype(self) -> Any:
        """The library's dtype."""
        return self.payload.dtype

    @property
    def device(self) -> Any:
        """The library's device."""
        data = self.payload
        return data.device if isinstance(data, Array) else backend_of(data).device(data)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Any:
        """The number of elements; called, as in PyTorch, the shape: ``x.size()``, or the size of one axis: ``x.size(-1)``."""
        shape = self.shape
        count = math.prod(shape)
        if count != count:  # NaN: a lazy library does not know
            return count
        size = count.copy() if isinstance(count, Size) else Size(count)
        size.shape = shape
        return size

    def numel(self) -> int:
        """Give the number of elements; PyTorch's name."""
        return math.prod(self.shape)

    def __array_namespace__(self, /, *, api_version: str | None = None) -> Any:
        """Give the namespace that computes with this array; every ``api_version`` is accepted."""
        check_alive(self)
        return self.level.namespace(self.backend)

    def carries_gradient(self) -> bool:
        """Tell whether dropping the wrapper would lose a derivative."""
        return True

    def _check_change(self) -> None:
        """Refuse an in-place change, where there is a reason to."""

    def _become(self, other: Any) -> None:
        """Take another array's value and history: every in-place change ends here."""
        for name in self._state:
            setattr(self, name, getattr(other, name))

    def _moved(self, target: Backend, device: Any) -> Any:
        """Give the array in another library, where that can be done."""
        raise TypeError(f"to: an array of {self.level.label} cannot change its library")

    def _alias(self) -> Any:
        """Give another array of the same value and history; in-place changes of one do not reach the other."""
        made = object.__new__(type(self))
        made.level = self.level
        for name in self._state:
            setattr(made, name, getattr(self, name))
        return made

    # --- out of the transformation --------------------------------------------------------------------------------------
    def _escape(self, how: str) -> Any:
        """Give the payload for a Python number, where the policy of `escapes` lets it out."""
        check_alive(self)
        policy = ESCAPES.get()
        if self.level.depth > TRANSFORMATIONS and policy != "allow" and self.carries_gradient():
            message = (
                f"{how} takes a value out of {self.level.label}, and its derivative would be lost. Compute with the array itself; "
                "or write agnostic_ad.stop_gradient(x) first, or `with agnostic_ad.escapes('allow'):` if that is intended."
            )
            if policy == "raise":
                raise EscapedArrayError(message)
            import warnings

            warnings.warn(message, RuntimeWarning, stacklevel=3)
        return self.data

    def __float__(self) -> float:
        return float(self._escape("float()"))

    def __int__(self) -> int:
        return int(self._escape("int()"))

    def __complex__(self) -> complex:
        return complex(self._escape("complex()"))

    def __bool__(self) -> bool:
        check_alive(self)
        return bool(self.payload)

    def __index__(self) -> int:
        return int(self._escape("operator.index()").__index__())

    def item(self) -> Any:
        """Give the one element as a Python number."""
        data = self._escape("item()")
        return data.item() if isinstance(data, Array) else backend_of(data).to_numpy(data).item()

    def tolist(self) -> Any:
        """Give the elements as nested lists of Python numbers."""
        data = self._escape("tolist()")
        return data.tolist() if isinstance(data, Array) else backend_of(data).to_numpy(data).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Convert to NumPy, unless that would lose a derivative."""
        if self.carries_gradient():
            raise EscapedArrayError(
                f"np.asarray of a {type(self).__name__} of {self.level.label} would silently lose its derivative. Use the functions "
                f"of x.__array_namespace__() on it; or x.detach().numpy() if the values alone are wanted.{_switches()}"
            )
        import numpy as np

        data = self.payload
        plain = data.__array__() if isinstance(data, Array) else backend_of(data).to_numpy(data)
        return np.array(plain, dtype=dtype, copy=copy)

    def __dlpack__(self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
        """Export the memory, unless that would lose a derivative."""
        if self.carries_gradient():
            raise EscapedArrayError(
                f"__dlpack__ of a {type(self).__name__} of {self.level.label} would silently lose its derivative. "
                "Use x.detach() if the values alone are wanted."
            )
        given = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}  # older libraries know the first alone
        return self.payload.__dlpack__(**{k: v for k, v in given.items() if v is not None})

    def __dlpack_device__(self) -> Any:
        """Give the DLPack device of the payload."""
        return self.payload.__dlpack_device__()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return int(self.shape[0])

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(int(self.shape[0])))

    def __contains__(self, x: Any) -> bool:
        return bool(self.__array_namespace__().any(self == x))

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError  # the op table installs it

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        return format(self.item() if not self.shape else self.data, spec)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.data!r}, in {self.level.label})"


def _switches() -> str:
    """Say how to make packages that are in use, and convert every array to NumPy as they are set now, compute with arrays as they are."""
    import os
    import sys

    said = ""
    if "scipy" in sys.modules and os.environ.get("SCIPY_ARRAY_API", "").lower() in ("", "0", "false"):
        said += " SciPy takes arrays as they are where SCIPY_ARRAY_API=1 is set in the environment before it is imported."
    if "sklearn" in sys.modules and not sys.modules["sklearn"].get_config().get("array_api_dispatch"):
        said += " scikit-learn does inside sklearn.config_context(array_api_dispatch=True)."
    return said


def check_alive(x: Any) -> None:
    """Refuse an array whose transformation has returned."""
    if x.level.depth == DEAD:
        raise EscapedArrayError(
            f"an array of {x.level.label} (shape {x.shape}, dtype {x.dtype}) is used after that transformation returned. "
            "Return the value from the function that is transformed (has_aux=True for extra outputs) instead of storing it elsewhere."
        )


def deepest(args: Any) -> Level | None:
    """Give the level that an operation on ``args`` belongs to; None for raw arrays and numbers."""
    found = None
    for x in args:
        if isinstance(x, Array):
            level: Level = x.level
            if level is found:
                continue
            if level.depth == DEAD:
                check_alive(x)
            if found is None or level.depth > found.depth:
                found = level
    return found


def unify(values: list[Any], extra: Any = ()) -> tuple[Any, list[Any]]:
    """Give the namespace that computes with all ``values`` together, and the values lifted to it.

    ``extra`` may hold further arrays that only help to find the library.
    """
    level = deepest(values)
    backend = next(
        (x.backend if isinstance(x, Array) else b for x in (*values, *extra) if isinstance(x, Array) or (b := lookup(x)) is not None), None
    )
    if backend is None:
        raise UnsupportedError("no array among the operands")
    if level is None:
        return backend, values
    return level.rules(backend), [lift_to(level, x) for x in values]


def lift_to(level: Level, x: Any) -> Any:
    """Lift an array to ``level``; what is no array, or already there, is left alone."""
    if isinstance(x, Array):
        return x if x.level is level else level.lift(x)
    backend = namespaces.RAW.get(type(x)) or lookup(x)
    return x if backend is None else level.lift(backend.array(x))


def inexact(x: Any) -> bool:
    """Tell whether an array holds real or complex floating numbers."""
    backend = x.backend if isinstance(x, Array) else lookup(x)
    return backend is not None and backend.kind(x.dtype) in "fc"


def device_of(x: Any) -> Any:
    """Give the library's device of an array, wrapped or raw."""
    return x.device if isinstance(x, Array) else backend_of(x).device(x)
