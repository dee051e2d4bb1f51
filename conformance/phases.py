"""Vectors that a library may turn: what is left of eigenvectors and singular vectors when their phases do not count.

A complex eigenvector times a number of size 1 is another one, and which of them a library gives is its own choice, so they have derivatives only
in what does not see the choice. The laws see them through `settled`: each vector as its outer product with itself, or with the other singular
vector of its pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import agnostic_ad as ad
from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.namespaces import backend_of, lookup

__all__ = ["settled"]


def _outer(a: Any, b: Any) -> Any:
    """Give the outer product of each column of ``a`` with the conjugate of that of ``b``: (..., m, n, k)."""
    xp = ad.namespace(a) if lookup(a) is None else backend_of(a)
    return xp.expand_dims(a, axis=-2) * xp.conj(xp.expand_dims(b, axis=-3))


def _adjoint(x: Any) -> Any:
    xp = ad.namespace(x) if lookup(x) is None else backend_of(x)
    return xp.conj(xp.matrix_transpose(x))


def _eigen(values: Any, vectors: Any) -> tuple[Any, ...]:
    return values, _outer(vectors, vectors)


def _singular(u: Any, s: Any, vh: Any) -> tuple[Any, ...]:
    v, k = _adjoint(vh), s.shape[-1]
    return _outer(u, u), s, _outer(v, v), _outer(u[..., :k], v[..., :k])


_OF: dict[str, Callable[..., tuple[Any, ...]]] = {"linalg.eig": _eigen, "linalg.eigh": _eigen, "linalg.svd": _singular}


def settled(call: Call, results: Sequence[Any]) -> Sequence[Any]:
    """Give the results of a call, or what does not depend on the phases of vectors where they are complex."""
    phased = call.op.name in _OF and (call.kind == "c" or call.op.name == "linalg.eig")
    return _OF[call.op.name](*results) if phased else results
