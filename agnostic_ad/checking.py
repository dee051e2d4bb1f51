"""Derivatives checked against numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agnostic_ad import trees
from agnostic_ad.levels import Array, inexact
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.transforms import jvp, vjp

__all__ = ["check_grads"]

# Central differences with a step of eps ** (1/3) are good to eps ** (2/3), about 4e-11 in float64 and 2e-5 in float32, times the size of the
# third derivative: the tolerances leave a factor of some thousand for that.
_TOLERANCE = {"float64": 1e-6, "complex128": 1e-6, "float32": 2e-2, "complex64": 2e-2}
_STEP = {"float64": 6e-6, "complex128": 6e-6, "float32": 5e-3, "complex64": 5e-3}


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Compare the derivatives of a function with finite differences, along random directions.

    Forward mode is compared with central differences, reverse mode with forward differences through the inner product
    ``<ct, J t> = <J^T ct, t>``; derivatives of the derivatives likewise, up to ``order``.

    Parameters
    ----------
    f : callable
        Takes trees of arrays, differentiable near ``args``; returns a tree of arrays.
    args : sequence of tree of arrays
        Raw arrays of one library.
    order : int
        How many times to differentiate.
    modes : sequence of {"fwd", "rev"}
        Which modes to check.
    atol, rtol : float, optional
        Tolerances; by default 1e-6 in float64, 2e-2 in float32.
    eps : float, optional
        The step of the differences; by default 6e-6 in float64, 5e-3 in float32.

    Raises
    ------
    AssertionError
        With the mode, the order, and both numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.check_grads(lambda x: ad.namespace(x).sin(x) * x, [np.asarray([0.5, 1.0])])
    """
    unknown = set(modes) - {"fwd", "rev"}
    if unknown:
        raise ValueError(f"check_grads: modes are 'fwd' and 'rev', not {sorted(unknown)}")
    args = [trees.map_tree(_array, a) for a in args]
    leaves = [x for x in trees.leaves(list(args)) if inexact(x)]
    if not leaves:
        raise TypeError("check_grads needs at least one floating or complex array")
    coarse = min((str(x.dtype).split(".")[-1] for x in leaves), key=lambda name: -_STEP.get(name, 5e-3))
    tolerance = _TOLERANCE.get(coarse, 2e-2)
    settings = (atol if atol is not None else tolerance, rtol if rtol is not None else tolerance, eps or _STEP.get(coarse, 5e-3))
    _check(f, list(args), order, tuple(modes), settings, np.random.default_rng(0), "f")


def _array(x: Any) -> Any:
    return np.asarray(x) if lookup(x) is None and isinstance(x, int | float | complex) else x


def _plain(x: Any) -> Any:
    """Give the raw array of a Variable, which functions of ``ad.differentiable(xp)`` make of raw arrays too."""
    return x.data if isinstance(x, Array) else x


def _direction(tree: Any, rng: np.random.Generator) -> Any:
    """Give a random tree of the same shapes, of length 1."""

    def one(x: Any) -> Any:
        if not inexact(x):
            return x
        backend = backend_of(x)
        host = backend.to_numpy(x)
        draw = rng.standard_normal(host.shape)
        if backend.kind(x.dtype) == "c":
            draw = draw + 1j * rng.standard_normal(host.shape)
        return backend.from_numpy(np.asarray(draw, dtype=host.dtype), backend.device(x))

    found = trees.map_tree(one, tree)
    size = math.sqrt(sum(_inner(t, t) for t in trees.leaves(found))) or 1.0
    return trees.map_tree(lambda t: t / size if inexact(t) else t, found)


def _inner(a: Any, b: Any) -> float:
    if not inexact(a):
        return 0.0
    x, y = (backend_of(v).to_numpy(v).astype("complex128") for v in (a, b))
    return float(np.real(np.vdot(x, y)))


def _moved(args: list[Any], t: list[Any], step: float) -> list[Any]:
    return [trees.map_tree(lambda x, d: x + step * d if inexact(x) else x, a, b) for a, b in zip(args, t, strict=True)]


def _compare(got: float, want: float, settings: tuple[float, float, float], what: str) -> None:
    atol, rtol, _ = settings
    if not abs(got - want) <= atol + rtol * max(abs(got), abs(want)):
        raise AssertionError(
            f"{what}: the derivative is {got:.12g}, differences give {want:.12g} (off by {abs(got - want):.3g}; atol {atol:g}, rtol {rtol:g})"
        )


def _check(f: Any, args: list[Any], order: int, modes: tuple[str, ...], settings: tuple[float, float, float], rng: Any, name: str) -> None:
    step = settings[2]
    t = [_direction(a, rng) for a in args]
    ahead, behind = (trees.map_tree(_plain, f(*_moved(args, t, s))) for s in (step, -step))
    ct = _direction(ahead, rng)
    pairs = list(zip(trees.leaves(ct), trees.leaves(ahead), trees.leaves(behind), strict=True))
    want = sum((_inner(c, a) - _inner(c, b)) / (2 * step) for c, a, b in pairs)
    if "fwd" in modes:
        _, moved = jvp(f, args, t)
        got = sum(_inner(c, m) for c, m in zip(trees.leaves(ct), trees.leaves(moved), strict=True))
        _compare(got, want, settings, f"forward derivative of {name}")
    if "rev" in modes:
        _, pullback = vjp(f, *args)
        got = sum(_inner(g, d) for g, d in zip(trees.leaves(list(pullback(ct))), trees.leaves(t), strict=True))
        _compare(got, want, settings, f"reverse derivative of {name}")
    if order > 1:
        if "fwd" in modes:
            _check(lambda *xs: jvp(f, xs, t)[1], args, order - 1, modes, settings, rng, f"jvp({name})")
        if "rev" in modes:
            _check(lambda *xs: vjp(f, *xs)[1](ct), args, order - 1, modes, settings, rng, f"vjp({name})")
