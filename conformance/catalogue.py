"""The catalogue: concrete calls of every operation of the op table, from the samples that the table states.

A `Call` is an operation, a sample of it and a kind of dtype. It draws its operands with a seeded NumPy generator, so that every library
gets the same numbers, and gives them as arrays of any of them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agnostic_ad.backends import Backend
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.op import TABLE, Op
from agnostic_ad.ops.creation import CARRIES
from agnostic_ad.samples import Case, Operand
from agnostic_ad.wrapped import CREATION

__all__ = ["Call", "calls", "status"]

DTYPES = {
    "double": {"b": "bool", "i": "int64", "f": "float64", "c": "complex128"},
    "single": {"b": "bool", "i": "int32", "f": "float32", "c": "complex64"},
    "half": {"b": "bool", "i": "int32", "f": "float16"},
    "brain": {"b": "bool", "i": "int32", "f": "bfloat16"},
}
"""The dtype of each kind, in four precisions."""
EPS = {"double": 2.0**-52, "single": 2.0**-23, "half": 2.0**-10, "brain": 2.0**-7}
"""The distance from one to the next number."""


def status(name: str) -> str:
    """Say what a name of the differentiable namespace is.

    Returns
    -------
    str
        "op": it has rules of its own. "composite": it is made of others. "nondifferentiable": its results carry no derivative;
        constants and dtypes too. No name of the standard is refused.
    """
    op = TABLE.get(name)
    found = []
    if (op is not None and op.composite is not None) or name in CARRIES:
        found.append("composite")
    if op is not None and op.composite is None and op.differentiable:
        found.append("op")
    if (op is not None and op.composite is None and not op.differentiable) or name in CREATION.keys() - CARRIES - TABLE.keys():
        found.append("nondifferentiable")
    if len(found) != 1:
        raise LookupError(f"{name} is {' and '.join(found) if found else 'nothing'} in the op table; a name is exactly one thing")
    return found[0]


@dataclass(frozen=True)
class Call:
    """One call of an operation with one kind of dtype.

    Attributes
    ----------
    op : Op
        The operation.
    case : Case
        The sample that the table states.
    kind : str
        The kind of dtype of operands without a kind of their own: one of "bifc".
    precision : {"double", "single", "half", "brain"}
        How wide its numbers are.
    """

    op: Op
    case: Case
    kind: str
    precision: str = "double"

    @property
    def dtype(self) -> str:
        """The dtype of the operands without a kind of their own."""
        return DTYPES[self.precision][self.kind]

    @property
    def key(self) -> str:
        """All that the call depends on, as text."""
        return f"{self.op.name} {self.case!r} {self.kind} {self.precision}"

    @property
    def size(self) -> tuple[int, ...]:
        """How large it is, to begin with the smallest: elements, axes, what is peculiar."""
        given = [o for o in self.case.operands if isinstance(o, Operand)]
        elements = sum(math.prod(o.shape) for o in given)
        return (elements == 0, elements, sum(len(o.shape) for o in given), sum(bool(o.layout) + (o.scale != 1.0) for o in given))

    def __str__(self) -> str:
        operands = [
            f"{DTYPES[self.precision][o.kind or self.kind]}{list(o.shape)}" if isinstance(o, Operand) else repr(o)
            for o in self.case.operands
        ]
        return f"{self.op.name}({', '.join([*operands, *(f'{k}={v!r}' for k, v in self.case.params.items())])})"

    @property
    def moving(self) -> tuple[int, ...]:
        """The positions of the operands that a derivative is taken with respect to."""
        if self.kind not in "fc" or not (self.op.differentiable or self.op.composite):
            return ()
        return tuple(i for i, o in enumerate(self.case.operands) if isinstance(o, Operand) and not o.kind)

    @property
    def arrays(self) -> tuple[int, ...]:
        """The positions of the operands that are arrays."""
        return tuple(i for i, o in enumerate(self.case.operands) if isinstance(o, Operand))

    def draw(self, backend: Backend, draw: int = 0, device: Any = None) -> list[Any]:
        """Give operands as raw arrays of a library: the same for the same ``draw``, on every library."""
        return [
            self._operand(x, o, backend, device) if isinstance(o, Operand) else x
            for x, o in zip(self._numbers(draw), self.case.operands, strict=True)
        ]

    def _numbers(self, draw: int) -> list[Any]:
        """Give operands on the host, in double precision and without layout."""
        rng = np.random.default_rng([zlib.crc32(str(self.case).encode()), draw])
        found = []
        for o in self.case.operands:
            if isinstance(o, Operand):
                kind = o.kind or self.kind
                numbers = _structured(_numbers(rng, o, kind), o)
                found.append(np.asarray(numbers if kind in "bi" else numbers * self.scale(o), dtype=DTYPES["double"][kind]))
            else:
                found.append(o)
        return found

    def scale(self, operand: Operand) -> float:
        """Give the magnitude of an operand's numbers; those of narrower dtypes have fewer."""
        return operand.scale if self.precision == "double" or operand.scale == 1.0 else operand.scale**0.25

    def _operand(self, host: Any, operand: Operand, backend: Backend, device: Any) -> Any:
        x = backend.from_numpy(_stored(host, operand), device)
        if self.precision != "double":
            x = backend.astype(x, backend.dtype(DTYPES[self.precision][operand.kind or self.kind]))
        return _viewed(backend, x, operand)

    def like(self, backend: Backend, x: Any, draw: int = 0, operand: Operand | None = None) -> Any:
        """Give random numbers of the shape, dtype and device of an inexact raw array: a cotangent, or the tangent of an operand."""
        rng = np.random.default_rng([zlib.crc32(str(self.case).encode()), 1000 + draw])
        host = rng.uniform(-1.0, 1.0, tuple(x.shape))
        if backend.kind(x.dtype) == "c":
            host = host + 1j * rng.uniform(-1.0, 1.0, tuple(x.shape))
        if operand is not None:
            host = (_hermitian(host) if operand.structure == "hermitian" else host) * self.scale(operand)
        found = backend.from_numpy(np.asarray(host), backend.device(x))
        return backend.astype(found, x.dtype)

    def code(self, library: str) -> str:
        """Give the call as code to paste, with its operands' numbers."""
        lines, names = [], []
        for i, (o, x) in enumerate(zip(self.case.operands, self._numbers(0), strict=True)):
            if isinstance(o, Operand):
                names.append(f"x{i}")
                view, dtype = _VIEWS.get(o.layout, "{x}"), DTYPES[self.precision][o.kind or self.kind]
                stored = f"xp.asarray({_stored(x, o).tolist()!r}, dtype=xp.{dtype})"
                lines.append(f"x{i} = " + view.format(x=stored, shape=o.shape, axes=tuple(reversed(range(len(o.shape))))))
            else:
                names.append(repr(x))
        params = [f"{k}={v!r}" for k, v in self.case.params.items()]
        given = [f"[{', '.join(names)}]"] if self.op.packed else names
        head = f"import agnostic_ad as ad\nimport {library} as xp\n"
        return head + "\n".join([*lines, f"ad.differentiable(xp).{self.op.name}({', '.join([*given, *params])})"])

    def params(self, backend: Backend) -> dict[str, Any]:
        """Give the static parameters, with the library's own dtypes and devices."""
        given = dict(self.case.params)
        if "dtype" in given:
            given["dtype"] = backend.dtype(given["dtype"])
        if "device" in given:
            given["device"] = backend.parse_device(given["device"])
        return given

    def __call__(self, operands: Sequence[Any]) -> Any:
        """Compute with raw arrays, or those of any transformation."""
        first = next(x for x in operands if isinstance(x, Array) or lookup(x) is not None)
        return self.op.invoke(self.op, (), operands, self.params(first.backend if isinstance(first, Array) else backend_of(first)))


def _numbers(rng: np.random.Generator, operand: Operand, kind: str) -> Any:
    low, high, signed, _ = operand.domain
    if kind == "b":
        return rng.random(operand.shape) < 0.5
    if kind == "i":
        bounds = (low, high) if isinstance(low, int) and isinstance(high, int) else (1, 7)
        return rng.integers(bounds[0], bounds[1], operand.shape, endpoint=True)
    x = rng.uniform(low, high, operand.shape)
    if signed:
        x = x * rng.choice([-1.0, 1.0], operand.shape)
    # the branch cuts of all functions here lie outside this strip, to the left or the right of the domain
    return x + 1j * rng.uniform(-0.8, 0.8, operand.shape) if kind == "c" else x


_VIEWS = {
    "strided": "{x}[..., ::2]",
    "reversed": "xp.flip({x}, axis=-1)",
    "transposed": "xp.permute_dims({x}, {axes})",
    "repeated": "xp.broadcast_to({x}, {shape})",
}
"""How each layout is got, as code."""


def _stored(host: Any, operand: Operand) -> Any:
    """Give the array in memory of which an operand is a view."""
    if operand.layout == "repeated":
        return host[:1]
    if operand.layout == "strided":
        return np.repeat(host, 2, axis=-1)
    if operand.layout == "reversed":
        return np.ascontiguousarray(host[..., ::-1])
    return np.ascontiguousarray(host.T) if operand.layout == "transposed" else host


def _viewed(backend: Backend, x: Any, operand: Operand) -> Any:
    if operand.layout == "repeated":
        return backend.xp.broadcast_to(x, operand.shape)  # not the backend's own, which may copy
    if operand.layout == "strided":
        return x[..., ::2]
    if operand.layout == "reversed":
        return backend.flip(x, axis=-1)
    return backend.permute_dims(x, tuple(reversed(range(len(operand.shape))))) if operand.layout == "transposed" else x


def _structured(x: Any, operand: Operand) -> Any:
    if not operand.structure:
        return x
    if operand.structure == "beyond":
        return np.where(np.real(x) > 1, np.inf, np.where(np.real(x) < -1, np.nan, x))
    rows, columns = operand.shape[-2:]
    x = x + np.eye(rows, columns) * (4.0 * np.arange(1, columns + 1))
    return _hermitian(x) if operand.structure == "hermitian" else x


def _hermitian(x: Any) -> Any:
    return (x + np.conj(np.swapaxes(x, -1, -2))) / 2


def calls(op: Op, precision: str = "double", quick: bool = False, seed: int = 0) -> Iterator[Call]:
    """Give the calls of an operation that the table states.

    Parameters
    ----------
    op : Op
        The operation.
    precision : {"double", "single"}
        How wide the numbers are.
    quick : bool
        Only the first two calls of each kind of dtype.
    seed : int
        Of all numbers.
    """
    seen = {kind: 0 for kind in "bifc"}
    for case in op.cases or ():
        for kind in case.kinds:
            seen[kind] += 1
            if not quick or seen[kind] <= 2:
                yield Call(op, replace(case, seed=seed), kind, precision)
