"""Losses of matrices that do not depend on what decompositions leave open, points to take them at, and their derivatives by torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import agnostic_ad as ad


def weigh(xp: Any, y: Any) -> Any:
    """A real number that depends on every part of ``y``."""
    if 0 in y.shape:
        return xp.sum(xp.abs(y))
    ramp = xp.reshape(xp.arange(1, math.prod(y.shape) + 1, dtype=xp.float64) / 5, y.shape)
    if "complex" not in str(y.dtype):
        return xp.sum(ramp * y + y * y / 3)
    re, im = xp.real(y), xp.imag(y)
    return xp.sum(ramp * re + xp.cos(ramp) * im + re * im / 3 + im * im / 5)


def adjoint(xp: Any, x: Any) -> Any:
    return xp.conj(xp.matrix_transpose(x)) if "complex" in str(x.dtype) else xp.matrix_transpose(x)


def together(xp: Any, left: Any, values: Any, right: Any) -> Any:
    """left diag(values) right, for vectors on both sides: no phase is left."""
    return xp.matmul(left * xp.astype(xp.expand_dims(values, axis=-2), left.dtype), right)


def from_eigh(xp: Any, x: Any) -> Any:
    w, u = xp.linalg.eigh(x)
    return weigh(xp, together(xp, u, xp.sin(w), adjoint(xp, u))) + weigh(xp, xp.abs(u) ** 2) + weigh(xp, w)


def from_eig(xp: Any, x: Any) -> Any:
    w, v = xp.linalg.eig(x)
    return weigh(xp, together(xp, v, xp.exp(w / 9), xp.linalg.inv(v))) + weigh(xp, xp.abs(v) ** 2) + weigh(xp, w)


def from_svd(full: bool) -> Callable[..., Any]:
    def loss(xp: Any, x: Any) -> Any:
        u, s, vh = xp.linalg.svd(x, full_matrices=full)
        k = s.shape[-1]
        y = together(xp, u[..., :k], xp.sin(s), vh[..., :k, :])
        return weigh(xp, y) + weigh(xp, s) + weigh(xp, xp.abs(u[..., :k]) ** 2) + weigh(xp, xp.abs(vh[..., :k, :]) ** 2)

    return loss


def parts(name: str, **how: Any) -> Callable[..., Any]:
    """The loss that weighs each result of one function."""

    def loss(xp: Any, x: Any) -> Any:
        y = getattr(xp.linalg, name)(x, **how)
        return sum((weigh(xp, part) for part in y), 0.0) if isinstance(y, tuple) else weigh(xp, y)

    return loss


def solved(*shape: int) -> Callable[..., Any]:
    def loss(xp: Any, x: Any) -> Any:
        b = xp.reshape(xp.arange(math.prod(shape), dtype=xp.float64) / 3 - 1, shape)
        return weigh(xp, xp.linalg.solve(x, xp.astype(b, x.dtype)))

    return loss


LOSSES: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "cholesky": (lambda xp, x: weigh(xp, xp.linalg.cholesky(xp.matmul(x, adjoint(xp, x)))), (3, 3)),
    "cholesky, upper": (lambda xp, x: weigh(xp, xp.linalg.cholesky(xp.matmul(x, adjoint(xp, x)), upper=True)), (2, 3, 3)),
    "eigh": (lambda xp, x: from_eigh(xp, x + adjoint(xp, x)), (3, 3)),
    "eigh of a stack": (lambda xp, x: from_eigh(xp, x + adjoint(xp, x)), (2, 3, 3)),
    "eigvalsh": (lambda xp, x: weigh(xp, xp.linalg.eigvalsh(x + adjoint(xp, x))), (3, 3)),
    "eig": (from_eig, (3, 3)),
    "eig of a stack": (from_eig, (2, 3, 3)),
    "eigvals": (parts("eigvals"), (3, 3)),
    "svd": (from_svd(True), (3, 3)),
    "svd, tall": (from_svd(False), (4, 2)),
    "svd, wide": (from_svd(False), (2, 2, 4)),
    "svd, tall and full": (from_svd(True), (4, 2)),
    "svd, wide and full": (from_svd(True), (2, 4)),
    "svdvals": (parts("svdvals"), (3, 4)),
    "qr": (parts("qr"), (3, 3)),
    "qr, tall": (parts("qr"), (2, 4, 2)),
    "qr, wide": (parts("qr"), (2, 4)),
    "qr, wide and complete": (parts("qr", mode="complete"), (2, 4)),
    "inv": (parts("inv"), (2, 3, 3)),
    "det": (parts("det"), (2, 3, 3)),
    "slogdet": (parts("slogdet"), (2, 3, 3)),
    "solve": (solved(3, 2), (3, 3)),
    "solve for a vector": (solved(3), (2, 3, 3)),
    "solve for a stack": (solved(2, 3, 2), (3, 3)),
    "pinv, tall": (parts("pinv"), (4, 2)),
    "pinv, wide": (parts("pinv"), (2, 2, 3)),
    "matrix_power": (lambda xp, x: weigh(xp, xp.linalg.matrix_power(x / 8, 5)) + weigh(xp, xp.linalg.matrix_power(x / 8, -2)), (3, 3)),
    "matrix_norm": (parts("matrix_norm"), (2, 3, 2)),
    "matrix_norm, nuc": (parts("matrix_norm", ord="nuc"), (2, 3)),
    "matrix_norm, 2": (parts("matrix_norm", ord=2, keepdims=True), (3, 2)),
    "matrix_norm, -1": (parts("matrix_norm", ord=-1), (3, 2)),
    "vector_norm": (parts("vector_norm", axis=-1, ord=3), (3, 2)),
    "trace": (parts("trace", offset=1), (2, 3, 4)),
    "diagonal": (parts("diagonal", offset=-1), (3, 4)),
    "cross": (lambda xp, x: weigh(xp, xp.linalg.cross(x, xp.flip(x, axis=0))), (2, 3)),
    "outer": (lambda xp, x: weigh(xp, xp.linalg.outer(x[0, :], x[1, :])), (2, 3)),
}
DTYPES = {"f": "float64", "c": "complex128"}


def point(shape: tuple[int, ...], kind: str, seed: int = 0) -> Any:
    """Random matrices whose values are far from zero and from each other."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.normal(size=shape) + np.eye(*shape[-2:]) * 3 * np.arange(1, shape[-1] + 1)
    return x + 1j * rng.normal(size=shape) if kind == "c" else x


def gradient(name: str) -> Callable[[Any], Any]:
    return ad.grad(lambda x: LOSSES[name][0](ad.namespace(x), x))


@cache
def torchs(name: str, kind: str) -> tuple[Any, Any]:
    """The gradient that torch gives, and that of half the square of its gradient's norm."""
    import array_api_compat.torch as xp

    loss, shape = LOSSES[name]
    x = xp.asarray(point(shape, kind)).requires_grad_()
    (g,) = xp.autograd.grad(loss(xp, x), x, create_graph=True)
    (h,) = xp.autograd.grad(xp.sum(xp.abs(g) ** 2) / 2, x)
    return g.detach().resolve_conj().numpy(), h.resolve_conj().numpy()
