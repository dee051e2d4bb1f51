"""Linear algebra on dask's chunks: NumPy's functions, each matrix in one chunk, and stacks in as many as they come in.

dask's own functions take single matrices only, and several are missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np

from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.numpy import make as numpy_backend


def _blocks(function: Callable[..., Any], signature: str, *arrays: Any, dtypes: Any, **sizes: int) -> Any:
    """Apply a function of blocks; ``signature`` is that of a generalised ufunc, and ``sizes`` holds those that are in no operand."""
    cores = [len(core.split(",")) if core else 0 for core in re.findall(r"\((.*?)\)", signature.partition("->")[0])]
    if len(arrays) > 1:  # dask itself does not broadcast all stacks, and wants them in the same chunks
        stacks = [x.shape[: x.ndim - core] for x, core in zip(arrays, cores, strict=True)]
        stack = np.broadcast_shapes(*stacks)
        arrays = tuple(da.broadcast_to(x, (*stack, *x.shape[len(own) :])) for x, own in zip(arrays, stacks, strict=True))
        arrays = tuple(x.rechunk(dict(enumerate(arrays[0].chunks[: len(stack)]))) for x in arrays)
    whole = [x.rechunk(dict.fromkeys(range(x.ndim - core, x.ndim), -1)) for x, core in zip(arrays, cores, strict=True)]
    metas = tuple(np.empty((0,), dtype) for dtype in dtypes) if isinstance(dtypes, tuple) else np.empty((0,), dtypes)
    return da.apply_gufunc(function, signature, *whole, meta=metas, output_sizes=sizes)


def _unary(name: str, signature: str, dtypes: str) -> Callable[..., Any]:
    """Give the method for a function of one array; ``dtypes`` has a letter a result: same, real, complex or integer."""

    def method(self: Backend, x: Any, /) -> Any:
        known = {"s": x.dtype, "r": self.real_of(x.dtype), "c": self.complex_of(x.dtype), "i": self.default("indexing")}
        found = tuple(known[d] for d in dtypes)
        sizes = {"k": min(x.shape[-2:])} if "k" in signature else {}
        return _blocks(getattr(numpy_backend().linalg, name), signature, x, dtypes=found if len(found) > 1 else found[0], **sizes)

    return method


def _tolerant(name: str, signature: str, dtype: str) -> Callable[..., Any]:
    """Give the method for a function of an array and a tolerance, which may be an array."""
    function = getattr(numpy_backend().linalg, name)

    def method(self: Backend, x: Any, /, *, rtol: Any = None) -> Any:
        found = x.dtype if dtype == "s" else self.default("indexing")
        if not isinstance(rtol, da.Array):
            return _blocks(lambda a: function(a, rtol=rtol), f"(m,n)->{signature}", x, dtypes=found)
        return _blocks(lambda a, r: function(a, rtol=r), f"(m,n),()->{signature}", x, rtol, dtypes=found)

    return method


class DaskLinalg(Backend):
    """The methods ``linalg_*`` of the dask backend."""

    replaced = frozenset({"linalg.matrix_norm"})  # of single matrices only

    linalg_adjugate = _unary("adjugate", "(n,n)->(n,n)", "s")
    linalg_det = _unary("det", "(n,n)->()", "s")
    linalg_eig = _unary("eig", "(n,n)->(n),(n,n)", "cc")
    linalg_eigh = _unary("eigh", "(n,n)->(n),(n,n)", "rs")
    linalg_eigvals = _unary("eigvals", "(n,n)->(n)", "c")
    linalg_eigvalsh = _unary("eigvalsh", "(n,n)->(n)", "r")
    linalg_inv = _unary("inv", "(n,n)->(n,n)", "s")
    linalg_slogdet = _unary("slogdet", "(n,n)->(),()", "sr")
    linalg_svdvals = _unary("svdvals", "(m,n)->(k)", "r")
    linalg_pinv = _tolerant("pinv", "(n,m)", "s")
    linalg_matrix_rank = _tolerant("matrix_rank", "()", "i")

    def linalg_cholesky(self, x: Any, /, *, upper: bool = False) -> Any:
        """Factor."""
        return _blocks(lambda a: numpy_backend().linalg.cholesky(a, upper=upper), "(n,n)->(n,n)", x, dtypes=x.dtype)

    def linalg_qr(self, x: Any, /, *, mode: str = "reduced") -> Any:
        """Factor."""
        k = x.shape[-2] if mode == "complete" else min(x.shape[-2:])
        return _blocks(lambda a: tuple(numpy_backend().linalg.qr(a, mode=mode)), "(m,n)->(m,k),(k,n)", x, dtypes=(x.dtype, x.dtype), k=k)

    def linalg_solve(self, x1: Any, x2: Any, /) -> Any:
        """Solve."""
        columns = x2[:, None] if x2.ndim == 1 else x2
        found = _blocks(numpy_backend().linalg.solve, "(n,n),(n,k)->(n,k)", x1, columns, dtypes=self.xp.result_type(x1, x2))
        return found[..., 0] if x2.ndim == 1 else found

    def linalg_svd(self, x: Any, /, *, full_matrices: bool = True) -> Any:
        """Decompose."""
        signature = "(m,n)->(m,m),(k),(n,n)" if full_matrices else "(m,n)->(m,k),(k),(k,n)"
        dtypes = (x.dtype, self.real_of(x.dtype), x.dtype)
        return _blocks(
            lambda a: tuple(numpy_backend().linalg.svd(a, full_matrices=full_matrices)), signature, x, dtypes=dtypes, k=min(x.shape[-2:])
        )
