"""The catalogue: concrete calls of every operation of the op table, from the samples that the table states.

A `Call` is an operation, a sample of it and a kind of dtype. It draws its operands with a seeded NumPy generator, so that every library
gets the same numbers, and gives them as arrays of any of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agnostic_ad.backends import Backend
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.op import TABLE, Op
from agnostic_ad.samples import Case, Operand
from agnostic_ad.wrapped import CREATION

__all__ = ["Call", "calls", "status"]

DTYPES = {
    "double": {"b": "bool", "i": "int64", "f": "float64", "c": "complex128"},
    "single": {"b": "bool", "i": "int32", "f": "float32", "c": "complex64"},
}
"""The dtype of each kind, in two precisions."""

_NONDIFFERENTIABLE = {"arange", "empty", "empty_like", "eye", "from_dlpack", "ones", "ones_like", "zeros", "zeros_like"}
_NONDIFFERENTIABLE |= {"can_cast", "finfo", "iinfo", "isdtype", "result_type", "broadcast_shapes"}
_COMPOSITE = {"asarray", "full", "full_like", "linspace"}


def status(name: str) -> str:
    """Say what a name of the differentiable namespace is.

    Returns
    -------
    str
        "op": it has rules of its own. "composite": it is made of others. "nondifferentiable": its results carry no derivative.
    """
    op = TABLE.get(name)
    found = []
    if (op is not None and op.composite is not None) or name in _COMPOSITE:
        found.append("composite")
    if op is not None and op.composite is None and op.differentiable:
        found.append("op")
    if (op is not None and op.composite is None and not op.differentiable) or (name in CREATION and name in _NONDIFFERENTIABLE):
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
    precision : {"double", "single"}
        How wide its numbers are.
    """

    op: Op
    case: Case
    kind: str
    precision: str = "double"

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
        rng = np.random.default_rng([zlib.crc32(str(self.case).encode()), draw])
        return [self._operand(rng, o, backend, device) if isinstance(o, Operand) else o for o in self.case.operands]

    def _operand(self, rng: np.random.Generator, operand: Operand, backend: Backend, device: Any) -> Any:
        kind = operand.kind or self.kind
        host = np.asarray(_numbers(rng, operand, kind), dtype=DTYPES[self.precision][kind])
        if not operand.strided:
            return backend.from_numpy(host, device)
        return backend.from_numpy(np.repeat(host, 2, axis=-1), device)[..., ::2]

    def like(self, backend: Backend, x: Any, draw: int = 0) -> Any:
        """Give random numbers of the shape, dtype and device of an inexact raw array: a tangent, or a cotangent."""
        rng = np.random.default_rng([zlib.crc32(str(self.case).encode()), 1000 + draw])
        host = rng.uniform(-1.0, 1.0, tuple(x.shape))
        if backend.kind(x.dtype) == "c":
            host = host + 1j * rng.uniform(-1.0, 1.0, tuple(x.shape))
        found = backend.from_numpy(np.asarray(host), backend.device(x))
        return backend.astype(found, x.dtype)

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
    low, high, signed = operand.domain
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


def calls(op: Op, precision: str = "double", quick: bool = False) -> Iterator[Call]:
    """Give the calls of an operation that the table states.

    Parameters
    ----------
    op : Op
        The operation.
    precision : {"double", "single"}
        How wide the numbers are.
    quick : bool
        Only the first two calls of each kind of dtype.
    """
    seen = {kind: 0 for kind in "bifc"}
    for case in op.cases or ():
        for kind in case.kinds:
            seen[kind] += 1
            if not quick or seen[kind] <= 2:
                yield Call(op, case, kind, precision)
