"""The laws that every operation obeys on every library, whatever the transformation.

A law is a function of a `Call` and a `Place`; it raises `LawBroken`, with the numbers, where the law does not hold, and does nothing where
the law says nothing about the call. `LAWS` lists them.

Derivatives are held against central differences in double precision. Complex numbers follow one convention: the Jacobian is the
real-linear map of tangents, and the pullback its adjoint for the inner product Re(conj(a) b).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.backends import Backend
from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.errors import EscapedArrayError, UnsupportedError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, lookup

__all__ = ["LAWS", "LawBroken", "Place"]

STEP = 1e-5
"""Of the central differences: truncation and rounding errors are both near 1e-10."""
RTOL, ATOL = 1e-6, 1e-8
"""Of comparisons with differences; the absolute one is for numbers that are zero, or cancel."""
EXACT = 1e-10
"""Relative tolerance between two ways to compute one thing in double precision: a few hundred roundings."""
SINGLE = 1e-3
"""Relative tolerance of results in single precision: 1e-7 a rounding, times the condition of derivatives near a domain's bounds."""


class LawBroken(AssertionError):
    """A law does not hold for a call."""


@dataclass(frozen=True)
class Place:
    """Where to compute: a library, and one of its devices (None: its default)."""

    backend: Backend
    device: Any = None

    def __str__(self) -> str:
        return self.backend.name if self.device is None else f"{self.backend.name} on {self.device}"


Law = Callable[[Call, Place], None]


# --- tools ----------------------------------------------------------------------------------------------------------------
def _parts(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple | list) else [y]


def _host(x: Any) -> Any:
    while isinstance(x, Array):
        x = x.payload
    backend = lookup(x)
    return np.asarray(x if backend is None else backend.to_numpy(x))


def _close(what: str, found: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Compare trees of arrays: shapes, and values relative to the largest one."""
    pairs = list(zip(_parts(found), _parts(expected), strict=True))
    for number, (a, b) in enumerate(pairs):
        a, b = _host(a), _host(b)
        name = f"{what}, part {number}" if len(pairs) > 1 else what
        if a.shape != b.shape:
            raise LawBroken(f"{name}: shape {a.shape}, expected {b.shape}")
        if not a.size:
            continue
        if a.dtype.kind in "bui" and b.dtype.kind in "bui":
            same = bool(np.all(a == b))
        else:
            a, b = a.astype(complex), b.astype(complex)
            largest = np.max(np.abs(b), where=np.isfinite(b), initial=0.0)
            same = bool(np.all(np.isclose(a, b, rtol=0.0, atol=rtol * largest + atol, equal_nan=True)))
        if not same:
            raise LawBroken(f"{name}:\n{a}\nexpected\n{b}")


def _kept(what: str, found: Any, like: Any, place: Place) -> None:
    """Require the shape, dtype, library and device of ``like``."""
    for a, b in zip(_parts(found), _parts(like), strict=True):
        if lookup(a) is not place.backend:
            raise LawBroken(f"{what}: a {type(a).__name__}, which is no array of {place.backend.name}")
        if _sizes(a) != _sizes(b) or a.dtype != b.dtype:
            raise LawBroken(f"{what}: shape {tuple(a.shape)} and dtype {a.dtype}, expected {tuple(b.shape)} and {b.dtype}")
        if place.backend.device(a) != place.backend.device(b):
            raise LawBroken(f"{what}: on {place.backend.device(a)}, expected {place.backend.device(b)}")


def _sizes(x: Any) -> tuple[Any, ...]:
    """Give a shape; None for a size that a lazy library does not know (dask says NaN)."""
    return tuple(n if n == n else None for n in x.shape)


def _inner(a: Any, b: Any) -> float:
    """Give Re(conj(a) b), summed over two sequences of arrays."""
    return float(sum(np.sum(np.real(np.conj(_host(x)) * _host(y))) for x, y in zip(a, b, strict=True)))


@dataclass(frozen=True)
class _Function:
    """A call as a function of its moving operands, with a point and directions to go on with."""

    call: Call
    place: Place
    operands: list[Any]

    @property
    def point(self) -> tuple[Any, ...]:
        return tuple(self.operands[i] for i in self.call.moving)

    def __call__(self, *moving: Any) -> tuple[Any, ...]:
        """Give the results that may carry a derivative."""
        operands = list(self.operands)
        for i, x in zip(self.call.moving, moving, strict=True):
            operands[i] = x
        y = _parts(self.call(operands))
        return tuple(part for part in y if self.place.backend.kind(part.dtype) in "fc")

    @property
    def tolerance(self) -> float:
        """Relative, between two ways to compute one thing; wider where the operation itself converts to single precision."""
        return SINGLE if any(_host(x).dtype.name in ("float32", "complex64") for x in self(*self.point)) else EXACT

    def directions(self, like: Sequence[Any], draw: int) -> tuple[Any, ...]:
        """Give random arrays like these."""
        return tuple(self.call.like(self.place.backend, x, 10 * draw + i) for i, x in enumerate(like))

    def difference(self, f: Callable[..., Any], tangents: Sequence[Any]) -> list[Any] | None:
        """Give the central difference of ``f`` along tangents, on the host."""
        if self.tolerance != EXACT:
            return None  # rounding to single precision hides it
        ahead, behind = (
            [_host(y) for y in _parts(f(*(x + t * h for x, t in zip(self.point, tangents, strict=True))))] for h in (STEP, -STEP)
        )
        return [(a - b) / (2 * STEP) for a, b in zip(ahead, behind, strict=True)]

    def loss(self) -> Callable[..., Any]:
        """Give a real function of the point with a Hessian, even where the operation is linear: Re sum(c (y + y^2 / 2))."""
        weights = self.directions(self(*self.point), 7)

        def loss(*moving: Any) -> Any:
            total: Any = 0.0
            for c, y in zip(weights, self(*moving), strict=True):
                xp = self.place.backend if lookup(y) else ad.namespace(y)
                term = (y + y * y * 0.5) * c  # ours first: array-api-strict refuses foreign operands on the right
                total = xp.sum(xp.real(term) if self.place.backend.kind(y.dtype) == "c" else term) + total
            return total

        return loss


def _function(call: Call, place: Place) -> _Function | None:
    """Give the call as a differentiable function, or None where no derivative passes through it."""
    if not call.moving:
        return None
    f = _Function(call, place, call.draw(place.backend, device=place.device))
    return f if f(*f.point) else None


def _all(f: _Function) -> tuple[int, ...]:
    return tuple(range(len(f.point)))


# --- values ---------------------------------------------------------------------------------------------------------------
def values_stay(call: Call, place: Place) -> None:
    """Every transformation gives the value, the shape, the dtype, the library and the device that the plain call gives."""
    operands = call.draw(place.backend, device=place.device)
    expected = call(operands)
    variables = [ad.Variable(x) if i in call.arrays else x for i, x in enumerate(operands)]
    found = call(variables)
    for part in _parts(found):
        if not isinstance(part, ad.Variable):
            raise LawBroken(f"with Variables: a {type(part).__name__}")
    raw = [part.payload for part in _parts(found)]
    _kept("with Variables", raw, expected, place)
    _close("with Variables", raw, expected, EXACT)
    f = _function(call, place)
    if f is None:
        return
    expected = f(*f.point)
    tangents = f.directions(f.point, 0)
    for name, value in (("in vjp", ad.vjp(f, *f.point)[0]), ("in jvp", ad.jvp(f, f.point, tangents)[0])):
        _kept(name, value, expected, place)
        _close(name, value, expected, EXACT)
    nested = ad.jvp(lambda *xs: ad.vjp(f, *xs)[0], f.point, tangents)[0]
    _close("in jvp of vjp", nested, expected, EXACT)


def operands_stay(call: Call, place: Place) -> None:
    """No operation, forward or backward, writes into its operands or its cotangent."""
    operands = call.draw(place.backend, device=place.device)
    before = [np.array(_host(operands[i])) for i in call.arrays]
    call([ad.Variable(x) if i in call.arrays else x for i, x in enumerate(operands)])
    f = _function(call, place)
    if f is not None:
        f = _Function(call, place, operands)
        y, pullback = ad.vjp(f, *f.point)
        cts = f.directions(y, 1)
        kept = [np.array(_host(ct)) for ct in cts]
        pullback(cts)
        ad.jvp(f, f.point, f.directions(f.point, 0))
        _close("the cotangent after the pullback", cts, kept, 0.0)
    _close("the operands after the call", [operands[i] for i in call.arrays], before, 0.0)


# --- derivatives ------------------------------------------------------------------------------------------------------------
def forward_is_the_derivative(call: Call, place: Place) -> None:
    """The tangent of the result is the directional derivative, as central differences give it."""
    f = _function(call, place)
    if f is None:
        return
    tangents = f.directions(f.point, 0)
    y, found = ad.jvp(f, f.point, tangents)
    _kept("the tangent", found, y, place)
    expected = f.difference(f, tangents)
    if expected is not None:
        _close("the tangent", found, expected, RTOL, ATOL)


def reverse_is_the_adjoint(call: Call, place: Place) -> None:
    """The pullback is the adjoint of the derivative: of central differences along each operand, and of forward mode along all."""
    f = _function(call, place)
    if f is None:
        return
    y, pullback = ad.vjp(f, *f.point)
    cts = f.directions(y, 1)
    found = pullback(cts)
    _kept("the cotangent", found, f.point, place)
    tangents = f.directions(f.point, 0)
    zeros = [t * 0.0 for t in tangents]
    for i, t in enumerate(tangents):
        alone = [t if j == i else z for j, z in enumerate(zeros)]
        moved = f.difference(f, alone)
        if moved is not None:
            what = f"<J^T ct, t> for operand {f.call.moving[i]}"
            _close(what, np.asarray(_inner(found, alone)), np.asarray(_inner(cts, moved)), RTOL, ATOL)
    pushed = ad.jvp(f, f.point, tangents)[1]
    _close("<J^T ct, t> against <ct, J t>", np.asarray(_inner(found, tangents)), np.asarray(_inner(cts, pushed)), f.tolerance, f.tolerance)


def second_derivatives_agree(call: Call, place: Place) -> None:
    """The four nestings of reverse and forward mode give one Hessian: that of central differences of the gradient."""
    f = _function(call, place)
    if f is None:
        return
    loss, point, numbers = f.loss(), f.point, _all(f)
    t, s = f.directions(point, 2), f.directions(point, 3)
    gradient = ad.grad(loss, numbers)

    def along(*xs: Any) -> Any:
        total: Any = 0.0
        for g, direction in zip(gradient(*xs), t, strict=True):
            xp = ad.namespace(g)
            total = xp.sum(xp.real(xp.conj(g) * direction) if place.backend.kind(g.dtype) == "c" else g * direction) + total
        return total

    found = {
        "reverse over reverse": ad.grad(along, numbers)(*point),
        "forward over reverse": ad.jvp(gradient, point, t)[1],
        "reverse over forward": ad.grad(lambda *xs: ad.jvp(loss, xs, t)[1], numbers)(*point),
    }
    expected, tolerance = f.difference(gradient, t), f.tolerance
    scale = max([1.0, *(float(np.max(np.abs(_host(h)), initial=0.0)) for h in found["reverse over reverse"])])
    for nesting, hvp in found.items():
        _kept(nesting, hvp, point, place)
        _close(f"{nesting} against reverse over reverse", hvp, found["reverse over reverse"], tolerance, tolerance * scale)
        if expected is not None:
            _close(nesting, hvp, expected, RTOL, RTOL * scale)
    twice = ad.jvp(lambda *xs: ad.jvp(loss, xs, t)[1], point, s)[1]
    both = np.asarray(_inner(s, found["reverse over reverse"]))
    _close("forward over forward", np.asarray(_host(twice)), both, tolerance, tolerance * scale)


# --- batches ----------------------------------------------------------------------------------------------------------------
def _subsets(positions: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Give all non-empty subsets of up to two positions; of more, each alone and all together."""
    sizes = range(1, len(positions) + 1) if len(positions) <= 2 else (1, len(positions))
    return [subset for size in sizes for subset in itertools.combinations(positions, size)]


def batches_are_loops(call: Call, place: Place) -> None:
    """``vmap`` gives what a loop over the members gives, whichever operands have a batch axis, in front or at the end."""
    draws = [call.draw(place.backend, n, place.device) for n in range(2)]
    for number, subset in enumerate(_subsets(call.arrays)):
        axis = -1 if number % 2 else 0
        members = [[d[i] if i in subset else draws[0][i] for i in call.arrays] for d in draws]
        stacked = [
            place.backend.stack([m[k] for m in members], axis=axis) if i in subset else members[0][k] for k, i in enumerate(call.arrays)
        ]

        def f(*arrays: Any) -> Any:
            operands = list(draws[0])
            for i, x in zip(call.arrays, arrays, strict=True):
                operands[i] = x
            return call(operands)

        mapped = ad.vmap(f, in_axes=tuple(axis if i in subset else None for i in call.arrays))
        if call.case.dynamic:
            if set(subset) == set(call.arrays):
                _refused(mapped, stacked)
            continue
        rows = [_parts(f(*m)) for m in members]
        expected = [place.backend.stack([row[k] for row in rows]) for k in range(len(rows[0]))]
        found = _parts(mapped(*stacked))
        what = f"vmap over operands {subset} at axis {axis}"
        _kept(what, found, expected, place)
        _close(what, found, expected, EXACT)


def _refused(f: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        f(*args)
    except (UnsupportedError, EscapedArrayError):
        return
    raise LawBroken("the shape of the result depends on values, and vmap did not refuse it")


def batched_gradients_are_loops(call: Call, place: Place) -> None:
    """``vmap`` of the gradient gives what a loop over gradients gives, and the gradient of ``vmap`` their sum."""
    f = _function(call, place)
    if f is None or call.case.dynamic:
        return
    gradient = ad.grad(f.loss(), _all(f))
    points = [f.point, tuple(call.draw(place.backend, 1, place.device)[i] for i in call.moving)]
    stacked = [place.backend.stack(list(xs)) for xs in zip(*points, strict=True)]
    rows = [gradient(*p) for p in points]
    expected = [place.backend.stack(list(gs)) for gs in zip(*rows, strict=True)]
    found = ad.vmap(gradient)(*stacked)
    _kept("vmap of grad", found, expected, place)
    _close("vmap of grad", found, expected, f.tolerance, 1e-12)

    def total(*xs: Any) -> Any:
        losses = ad.vmap(f.loss())(*xs)
        return ad.namespace(losses).sum(losses)

    _close("grad of vmap", ad.grad(total, _all(f))(*stacked), expected, f.tolerance, 1e-12)


# --- shapes and dtypes --------------------------------------------------------------------------------------------------------
def abstract_is_actual(call: Call, place: Place) -> None:
    """The rule for shapes and dtypes, which graphs are built by, says what the call does."""
    op = call.op
    if op.abstract is None or call.case.dynamic:
        return
    operands, params = tuple(call.draw(place.backend, device=place.device)), call.params(place.backend)
    if op.scalars:
        operands = op.promote(operands)
    expected = _parts(op.invoke(op, (), operands, params))
    if op.prepare is not None:
        operands, params = op.prepare(operands, {**dict.fromkeys(op.params), **_defaults(call), **params})
    else:
        params = {**_defaults(call), **params}
    shapes = tuple(ShapeDtype(tuple(x.shape), x.dtype) if lookup(x) is not None else x for x in operands)
    found = _parts(op.abstract(place.backend, shapes, params))
    for a, b in zip(found, expected, strict=True):
        if (tuple(a.shape), a.dtype) != (tuple(b.shape), b.dtype):
            raise LawBroken(
                f"the abstract result: shape {tuple(a.shape)} and dtype {a.dtype}; the actual one: {tuple(b.shape)} and {b.dtype}"
            )


def _defaults(call: Call) -> dict[str, Any]:
    import inspect

    parameters = inspect.signature(call.op.bind(None)).parameters.values()
    return {p.name: p.default for p in parameters if p.name in call.op.params and p.default is not p.empty}


def single_precision_stays(call: Call, place: Place) -> None:
    """From float32 and complex64 come values, tangents and cotangents of that precision, near those of double precision."""
    single = Call(call.op, call.case, call.kind, "single")
    narrow, wide = _function(single, place), _function(call, place)
    if narrow is None or wide is None or "dtype" in call.case.params:
        return
    results = []
    for f in (narrow, wide):
        y, pullback = ad.vjp(f, *f.point)
        cts, tangents = f.directions(y, 1), f.directions(f.point, 0)
        g, t = pullback(cts), ad.jvp(f, f.point, tangents)[1]
        _kept("the cotangent", g, f.point, place)
        _kept("the tangent", t, y, place)
        results.append([*y, *g, *t])
    widths = {str(x.dtype).rpartition(".")[2] for x in results[0]}
    if not widths <= {"float32", "complex64"}:
        raise LawBroken(f"single precision in, {', '.join(sorted(widths))} out")
    _close("in single precision", results[0], results[1], SINGLE, SINGLE)


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        values_stay,
        operands_stay,
        forward_is_the_derivative,
        reverse_is_the_adjoint,
        second_derivatives_agree,
        batches_are_loops,
        batched_gradients_are_loops,
        abstract_is_actual,
        single_precision_stays,
    )
}
"""Every law by name."""
