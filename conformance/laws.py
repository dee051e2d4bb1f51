"""The laws that every operation obeys on every library, whatever the transformation.

A law is a function of a `Call` and a `Place`. It raises `LawBroken`, with the numbers, where it does not hold, and says whether it had anything to
say about the call at all: of a call without a derivative, say, most have not. `LAWS` lists them.

Complex numbers follow one convention: the Jacobian is the real-linear map of tangents, and the pullback its adjoint for the inner product
Re(conj(a) b). Tolerances are the `oracle`'s.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.conformance.batched import (
    abstract_is_actual,
    any_size_is_found,
    batched_gradients_are_loops,
    batches_are_loops,
    captured_is_eager,
)
from agnostic_ad.conformance.catalogue import EPS, Call
from agnostic_ad.conformance.comparing import ROUNDINGS, Function, LawBroken, Place, close, function, host, inner, kept, near, parts
from agnostic_ad.conformance.kinks import KINKS, Kink
from agnostic_ad.conformance.oracle import NUDGES, STEPS, extrapolated, fifty_digits, nudged, truth
from agnostic_ad.conformance.precision import lower_precision_agrees
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.rules import QUICK

__all__ = ["LAWS", "NARROW", "Law", "LawBroken", "Place"]

Law = Callable[[Call, Place], bool]
_FEW = EPS["double"] * ROUNDINGS


# --- values -------------------------------------------------------------------------------------------------------------------------------
def values_stay(call: Call, place: Place) -> bool:
    """Every transformation gives the value, the shape, the dtype, the library and the device that the plain call gives."""
    operands = call.draw(place.backend, device=place.device)
    expected = call(operands)
    variables = [ad.Variable(x) if i in call.arrays else x for i, x in enumerate(operands)]
    found = call(variables)
    for part in parts(found):
        if not isinstance(part, ad.Variable):
            raise LawBroken(f"with Variables: a {type(part).__name__}")
    f = function(call, place)
    raw, rounding = [part.payload for part in parts(found)], 1e-10 if f is None else f.rounding
    kept("with Variables", raw, expected, place)
    close("with Variables", raw, expected, rounding)
    if f is None:
        return True
    tangents = f.tangents(0)
    for name, value in (("in vjp", ad.vjp(f, *f.point)[0]), ("in jvp", ad.jvp(f, f.point, tangents)[0])):
        kept(name, value, f.value, place)
        close(name, value, f.value, rounding)
    close("in jvp of vjp", ad.jvp(lambda *xs: ad.vjp(f, *xs)[0], f.point, tangents)[0], f.value, rounding)
    return True


def values_agree(call: Call, place: Place) -> bool:
    """The values are NumPy's in double precision, or nearer to the truth, but for rounding; NumPy's own are those of fifty digits."""
    reference, f = Place(backend_of_namespace(np)), function(call, place)
    known, same = None if f is None else fifty_digits(f), place.backend is reference.backend
    if not same:
        try:
            _agree(call, place, reference)
            return True
        except LawBroken:
            if known is None:
                raise
    if f is None or known is None:
        return False
    near("the value", f.value, known.results, known.result_errors)
    return True


def _agree(call: Call, place: Place, reference: Place) -> None:
    found, operands = parts(call(call.draw(place.backend, device=place.device))), call.draw(reference.backend)
    expected = [host(y) for y in parts(call(operands))]
    rng, inexact = np.random.default_rng(0), [i for i in call.arrays if host(operands[i]).dtype.kind in "fc"]
    moved: list[list[Any]] = []
    for _ in range(NUDGES if any(y.dtype.kind in "fc" for y in expected) else 0):
        there = [nudged(rng, x, EPS["double"]) if i in inexact else x for i, x in enumerate(operands)]
        moved.append([host(y) for y in parts(call(there))])
    f = Function(call, reference, operands)
    errors = [f.grant(y, [m[k] - y for m in moved]) if y.dtype.kind in "fc" else 0.0 for k, y in enumerate(expected)]
    if call.op.outputs is not None and call.op.name.startswith("linalg."):  # vectors, which may be turned
        found, expected = [np.abs(host(y)) for y in found], [np.abs(y) for y in expected]
    near("the value", found, expected, errors)


def operands_stay(call: Call, place: Place) -> bool:
    """No operation, forward or backward, writes into its operands or its cotangent."""
    f = function(call, place)
    operands = f.operands if f is not None else call.draw(place.backend, device=place.device)
    before = [np.array(host(operands[i])) for i in call.arrays]
    call([ad.Variable(x) if i in call.arrays else x for i, x in enumerate(operands)])
    if f is not None:
        cts = f.cotangents(1)
        written = [np.array(host(ct)) for ct in cts]
        ad.vjp(f, *f.point)[1](cts)
        ad.jvp(f, f.point, f.tangents(0))
        close("the cotangent after the pullback", cts, written, 0.0)
    close("the operands after the call", [operands[i] for i in call.arrays], before, 0.0)
    return True


# --- derivatives ----------------------------------------------------------------------------------------------------------------------------
def forward_is_the_derivative(call: Call, place: Place) -> bool:
    """The tangent of the result is the directional derivative with respect to each operand, but for rounding."""
    f = function(call, place)
    if f is None:
        return False
    known = truth(f)
    for i, tangents in enumerate(f.alone(f.tangents(0))):
        y, found = ad.jvp(f, f.point, tangents)
        kept("the tangent", found, y, place)
        near(f"the tangent along operand {call.moving[i]}", found, known.values[i], known.errors[i])
    return True


def reverse_is_the_adjoint(call: Call, place: Place) -> bool:
    """The pullback is the adjoint of the derivative, <J^T ct, t> = <ct, J t>, with respect to each operand."""
    f = function(call, place)
    if f is None:
        return False
    cts, known, every = f.cotangents(1), truth(f), range(len(f.value))
    for used in dict.fromkeys([tuple(every), *((k,) for k in every)]):  # all results, and each alone

        def some(*xs: Any, used: tuple[int, ...] = used) -> tuple[Any, ...]:
            y = f(*xs)
            return tuple(y[k] for k in used)

        found = ad.vjp(some, *f.point)[1](tuple(cts[k] for k in used))
        kept("the cotangent", found, f.point, place)
        for i, g in enumerate(found):
            _adjoint(f, i, g, [(host(cts[k]), known.values[i][k], known.errors[i][k]) for k in used])
    return True


def _adjoint(f: Function, i: int, g: Any, along: list[tuple[Any, Any, Any]]) -> None:
    """Compare the cotangent of an operand with cotangents, true tangents and their errors, one triple for each result."""
    g, t, what = host(g), host(f.tangents(0)[i]), f"operand {f.call.moving[i]}"
    left, right = inner([g], [t]), sum(inner([ct], [v]) for ct, v, _ in along)
    sums = np.sum(np.abs(g * t)) + sum(np.sum(np.abs(ct * v)) for ct, v, _ in along)
    error = sum(float(np.sum(np.abs(ct) * e)) for ct, _, e in along) + f.roundings * f.unit * float(sums)
    if not (abs(left - right) <= error or left == right):
        raise LawBroken(
            f"<J^T ct, t> for {what}: {left!r}, expected {right!r}; off by {abs(left - right):.2g}, "
            f"of which rounding explains {error:.2g}. The cotangent:\n{g}"
        )
    if f.call.op.elementwise and f.call.kind == "f" and len(along) == 1 and np.all(t):
        ((ct, v, e),) = along  # number by number, lest a small one be lost among large ones
        sizes = _summed(np.abs(ct * v / t), t.shape)
        near(
            f"the cotangent of {what}",
            [g],
            [_summed(ct * v / t, t.shape)],
            [_summed(np.abs(ct) * e / np.abs(t), t.shape) + f.unit * f.roundings * sizes],
        )


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """Undo the broadcasting of an operand of some shape."""
    x = np.sum(x, axis=tuple(range(x.ndim - len(shape))))
    return np.sum(x, axis=tuple(a for a, n in enumerate(shape) if n == 1), keepdims=True)


def derivatives_are_linear(call: Call, place: Place) -> bool:
    """Tangent and cotangent of a weighted sum are the weighted sums of tangents and cotangents."""
    f = function(call, place)
    if f is None:
        return False
    pullback = ad.vjp(f, *f.point)[1]
    for what, along, first, second, floors in (
        ("the tangent", lambda ts: ad.jvp(f, f.point, ts)[1], f.tangents(0), f.tangents(4), [f.floor(host(y)) for y in f.value]),
        ("the cotangent", pullback, f.cotangents(1), f.cotangents(5), f.floors()),
    ):
        a, b = along(first), along(second)
        both = along(tuple(x * 0.75 - y * 1.5 for x, y in zip(first, second, strict=True)))
        expected = [host(x) * 0.75 - host(y) * 1.5 for x, y in zip(a, b, strict=True)]
        scale = [float(np.max(np.abs(host(x)) + np.abs(host(y)), initial=0.0)) for x, y in zip(a, b, strict=True)]
        close(f"{what} of a sum", both, expected, f.rounding, scale, floors)
    return True


def uses_add_up(call: Call, place: Place) -> bool:
    """The pullback of two uses of the same operands is the sum of the pullbacks."""
    f = function(call, place)
    if f is None:
        return False
    first, second, pullback = f.cotangents(1), f.cotangents(5), ad.vjp(f, *f.point)[1]
    found = ad.vjp(lambda *xs: (*f(*xs), *f(*xs)), *f.point)[1]((*first, *second))
    pairs = [(host(a), host(b)) for a, b in zip(pullback(first), pullback(second), strict=True)]
    kept("the cotangent of two uses", found, f.point, place)
    scale = [float(np.max(np.abs(a) + np.abs(b), initial=0.0)) for a, b in pairs]
    close("the cotangent of two uses", found, [a + b for a, b in pairs], f.rounding, scale)
    return True


def second_derivatives_agree(call: Call, place: Place) -> bool:
    """The four nestings of reverse and forward mode give one Hessian, that of differences of the gradient."""
    f = function(call, place)
    if f is None:
        return False
    loss, point, numbers = f.loss(), f.point, f.numbers
    t, s = f.tangents(2), f.tangents(3)
    gradient = ad.grad(loss, numbers)

    def along(*xs: Any) -> Any:
        total: Any = 0.0
        for g, direction in zip(gradient(*xs), t, strict=True):
            xp = ad.namespace(g)
            total = xp.sum(xp.real(xp.conj(g) * direction) if place.backend.kind(g.dtype) == "c" else g * direction) + total
        return total

    first = ad.grad(along, numbers)(*point)
    found = {
        "forward over reverse": ad.jvp(gradient, point, t)[1],
        "reverse over forward": ad.grad(lambda *xs: ad.jvp(loss, xs, t)[1], numbers)(*point),
    }
    kept("reverse over reverse", first, point, place)
    floors = f.floors(loss=True)
    for nesting, hvp in found.items():
        kept(nesting, hvp, point, place)
        close(f"{nesting} against reverse over reverse", hvp, first, f.rounding, floors=floors)
    twice = np.asarray(host(ad.jvp(lambda *xs: ad.jvp(loss, xs, t)[1], point, s)[1]))
    scale = sum(float(np.sum(np.abs(host(x) * host(h)))) for x, h in zip(s, first, strict=True))
    floor = sum(float(np.sum(np.abs(host(x)))) * g for x, g in zip(s, floors, strict=True))
    close("forward over forward", twice, np.asarray(inner(s, first)), f.rounding, [scale], [floor])
    if f.unit == EPS["double"]:  # rounding to single precision would hide it
        values, errors = extrapolated(gradient, point, t, f.unit)
        near("reverse over reverse", first, values, [error + floor / STEPS[-1] for error, floor in zip(errors, floors, strict=True)])
    return True


def stated_at_kinks(call: Call, place: Place) -> bool:
    """Where there is no derivative, the gradient is what the documents state, in both modes."""
    if call.op.name not in KINKS or call.kind != "f" or call.case.operands != call.op.cases[0].operands:
        return False
    for kink in KINKS[call.op.name]:
        with np.errstate(all="ignore"):
            _stated(call, kink, place)
    return True


def _stated(call: Call, kink: Kink, place: Place) -> None:
    backend = place.backend

    def array(x: Any) -> Any:
        x = np.asarray(x)
        return backend.from_numpy(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64), place.device)

    given = [i for i, x in enumerate(kink.operands) if x is not None]
    slopes = [kink.slopes[i] for i in given]

    def f(*xs: Any) -> Any:
        there = dict(zip(given, xs, strict=True))
        return parts(call.op.invoke(call.op, (), [there.get(i) for i in range(len(kink.operands))], kink.values))[0]

    point = [array(kink.operands[i]) for i in given]
    y, pullback = ad.vjp(f, *point)
    close(f"the value at {kink.operands} ({kink.row})", y, f(*point), 1e-10)
    ct = np.broadcast_to(np.asarray(kink.ct, dtype=host(y).dtype), host(y).shape)
    found = pullback(array(ct))
    for x, g, slope in zip(point, found, slopes, strict=True):
        kept("the cotangent", g, x, place)
        near(f"the cotangent at {kink.operands} ({kink.row})", [g], [np.asarray(slope)], [_FEW * np.abs(slope)])
    if all(np.all(np.isfinite(s)) for s in slopes):
        tangent = ad.jvp(f, point, [array(np.ones(x.shape, dtype=host(x).dtype)) for x in point])[1]
        total = np.asarray(sum(np.sum(s) for s in slopes))
        near(f"<ct, J 1> at {kink.operands} ({kink.row})", [np.asarray(np.sum(ct * host(tangent)))], [total], [_FEW * np.abs(total)])


def empty_arrays_have_gradients(call: Call, place: Place) -> bool:
    """The gradient with respect to an array without elements is one without elements; that of the others is finite."""
    f = function(call, place)
    if f is None or not any(0 in x.shape for x in f.point):
        return False
    found = ad.grad(f.loss(), f.numbers)(*f.point)
    kept("the gradient", found, f.point, place)
    for g in found:
        if not np.all(np.isfinite(host(g))):
            raise LawBroken(f"the gradient beside an empty array is not finite:\n{host(g)}")
    return True


def quick_forms_agree(call: Call, place: Place) -> bool:
    """Python's operators, and the quick forms that rules compute with, give the operation's own values and cotangents."""
    op, f = call.op, function(call, place)
    forms = [getattr(operator, name) for name in op.operators[:1]] + ([QUICK[op.name]] if QUICK.get(op.name, op) is not op else [])
    if f is None or not forms:
        return False
    cts = f.cotangents(1)
    expected = ad.vjp(f, *f.point)[1](cts)
    for form in forms:

        def g(*moving: Any, form: Any = form) -> Any:
            operands = list(f.operands)
            for i, x in zip(call.moving, moving, strict=True):
                operands[i] = x
            return (form(*operands),)

        y, pullback = ad.vjp(g, *f.point)
        kept("a quick form", y, f.value, place)
        close("a quick form", y, f.value, f.rounding)
        close("the cotangent of a quick form", pullback(cts), expected, f.rounding)
    return True


LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        values_stay,
        values_agree,
        operands_stay,
        forward_is_the_derivative,
        reverse_is_the_adjoint,
        derivatives_are_linear,
        uses_add_up,
        second_derivatives_agree,
        stated_at_kinks,
        empty_arrays_have_gradients,
        quick_forms_agree,
        batches_are_loops,
        batched_gradients_are_loops,
        abstract_is_actual,
        captured_is_eager,
        any_size_is_found,
        lower_precision_agrees,
    )
}
"""Every law by name; the first line of its docstring says what it states."""
NARROW = ("lower_precision_agrees",)
"""The laws that speak of calls in less than double precision, and of no others."""
