"""The laws of `vmap` and of graphs: that a batch is a loop, that shapes are known before values are, and that a graph gives what it was made of."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import agnostic_ad as ad
from agnostic_ad import graph
from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.conformance.comparing import LawBroken, Place, close, function, kept, parts
from agnostic_ad.errors import AgnosticADError, EscapedArrayError, UnsupportedError
from agnostic_ad.namespaces import ShapeDtype, lookup

__all__ = ["abstract_is_actual", "any_size_is_found", "batched_gradients_are_loops", "batches_are_loops", "captured_is_eager"]


# --- batches --------------------------------------------------------------------------------------------------------------------------------
def _subsets(positions: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Give all non-empty subsets of up to two positions; of more, each alone and all together."""
    counts = range(1, len(positions) + 1) if len(positions) <= 2 else (1, len(positions))
    return [subset for n in counts for subset in itertools.combinations(positions, n)]


def _of_arrays(call: Call, operands: Sequence[Any]) -> Callable[..., Any]:
    """Give the call as a function of all its arrays."""

    def f(*arrays: Any) -> Any:
        there = list(operands)
        for i, x in zip(call.arrays, arrays, strict=True):
            there[i] = x
        return call(there)

    return f


def batches_are_loops(call: Call, place: Place) -> bool:
    """``vmap`` gives what a loop over the members gives, whichever operands have a batch axis, in front or at the end."""
    draws = [call.draw(place.backend, n, place.device) for n in range(2)]
    f, first = _of_arrays(call, draws[0]), function(call, place)
    rounding = 1e-10 if first is None else first.rounding
    for number, subset in enumerate(_subsets(call.arrays)):
        axis = -1 if number % 2 else 0
        members = [[d[i] if i in subset else draws[0][i] for i in call.arrays] for d in draws]
        stacked = [
            place.backend.stack([m[k] for m in members], axis=axis) if i in subset else members[0][k] for k, i in enumerate(call.arrays)
        ]
        mapped = ad.vmap(f, in_axes=tuple(axis if i in subset else None for i in call.arrays))
        if call.case.dynamic:
            if set(subset) == set(call.arrays):
                _refused(functools.partial(mapped, *stacked), "vmap")
            continue
        rows = [parts(f(*m)) for m in members]
        expected = [place.backend.stack([row[k] for row in rows]) for k in range(len(rows[0]))]
        found, what = parts(mapped(*stacked)), f"vmap over operands {subset} at axis {axis}"
        kept(what, found, expected, place)
        close(what, found, expected, rounding)
    return True


def _refused(run: Callable[[], Any], what: str) -> None:
    try:
        run()
    except (UnsupportedError, EscapedArrayError):
        return
    raise LawBroken(f"the shape of the result depends on values, and {what} did not refuse it")


def batched_gradients_are_loops(call: Call, place: Place) -> bool:
    """``vmap`` of the gradient gives what a loop over gradients gives, and the gradient of ``vmap`` their sum."""
    f = function(call, place)
    if f is None or call.case.dynamic:
        return False
    gradient, other = ad.grad(f.loss(), f.numbers), call.draw(place.backend, 1, place.device)
    points = [f.point, tuple(other[i] for i in call.moving)]
    stacked = [place.backend.stack(list(xs)) for xs in zip(*points, strict=True)]
    expected = [place.backend.stack(list(gs)) for gs in zip(*(gradient(*p) for p in points), strict=True)]
    found = ad.vmap(gradient)(*stacked)
    kept("vmap of grad", found, expected, place)
    close("vmap of grad", found, expected, f.rounding, floors=f.floors(loss=True))

    def total(*xs: Any) -> Any:
        losses = ad.vmap(f.loss())(*xs)
        return ad.namespace(losses).sum(losses)

    close("grad of vmap", ad.grad(total, f.numbers)(*stacked), expected, f.rounding, floors=f.floors(loss=True))
    return True


# --- shapes, dtypes, graphs -----------------------------------------------------------------------------------------------------------------
def abstract_is_actual(call: Call, place: Place) -> bool:
    """The rule for shapes and dtypes, which graphs are built by, says what the call does."""
    op = call.op
    if op.abstract is None or call.case.dynamic:
        return False
    operands, params = tuple(call.draw(place.backend, device=place.device)), call.params(place.backend)
    if op.scalars:
        operands = op.promote(operands)
    expected = parts(op.invoke(op, (), operands, params))
    if op.prepare is not None:
        operands, params = op.prepare(operands, {**dict.fromkeys(op.params), **_defaults(call), **params})
    else:
        params = {**_defaults(call), **params}
    shapes = tuple(ShapeDtype(tuple(x.shape), x.dtype) if lookup(x) is not None else x for x in operands)
    for a, b in zip(parts(op.abstract(place.backend, shapes, params)), expected, strict=True):
        if (tuple(a.shape), a.dtype) != (tuple(b.shape), b.dtype):
            raise LawBroken(
                f"the abstract result: shape {tuple(a.shape)} and dtype {a.dtype}; the actual one: {tuple(b.shape)} and {b.dtype}"
            )
    return True


def _defaults(call: Call) -> dict[str, Any]:
    parameters = inspect.signature(call.op.bind(None)).parameters.values()
    return {p.name: p.default for p in parameters if p.name in call.op.params and p.default is not p.empty}


def captured_is_eager(call: Call, place: Place) -> bool:
    """A graph of the call, one of its gradient, and what every pass makes of them give what running them at once gives."""
    operands = call.draw(place.backend, device=place.device)
    arrays = [operands[i] for i in call.arrays]
    f, first = _of_arrays(call, operands), function(call, place)
    if call.case.dynamic:
        _refused(lambda: graph.capture(f, *arrays), "capture")
        return True
    if call.op.abstract is None and call.op.composite is None:
        return False
    expected, captured = f(*arrays), graph.capture(f, *arrays)
    rounding = 1e-10 if first is None else first.rounding
    for what, g in (("the graph", captured), ("the optimised graph", captured.optimize())):
        found = g(*arrays)
        kept(what, found, expected, place)
        close(what, found, expected, rounding)
    if first is not None:
        gradient = ad.grad(first.loss(), first.numbers)
        expected, captured = gradient(*first.point), graph.capture(gradient, *first.point)
        for what, g in (("the graph of the gradient", captured), ("the optimised graph of the gradient", captured.optimize())):
            found = g(*first.point)
            kept(what, found, first.point, place)
            close(what, found, expected, first.rounding)
    return True


_UNROLLED = ("nn.ctc_posterior", "nn.rnn_pull", "nn.gru_pull", "nn.lstm_pull")
"""What loops over an axis step by step: capture refuses such an axis of any size, after so many steps as the assumed sizes have."""


def any_size_is_found(call: Call, place: Place) -> bool:
    """A graph captured with axes of any size gives what the call gives; or capture refuses them."""
    operands = call.draw(place.backend, device=place.device)
    arrays = [operands[i] for i in call.arrays]
    size = next((x.shape[0] for x in arrays if x.shape), 0)
    if size < 2 or call.case.dynamic or call.op.name in _UNROLLED or (call.op.abstract is None and call.op.composite is None):
        return False
    f, first = _of_arrays(call, operands), function(call, place)
    specs = [ShapeDtype(tuple("n" if n == size else n for n in x.shape), x.dtype) for x in arrays]
    try:
        g = graph.capture(f, *specs, xp=place.backend, device=place.device)
    except (AgnosticADError, ValueError, TypeError, IndexError):
        return False  # parameters go with the size, or the operation needs it as a number
    expected = f(*arrays)
    for what, one in (("the graph for any size", g), ("the optimised graph for any size", g.optimize())):
        try:
            found = one(*arrays)
        except ValueError as error:
            if "the graph holds where" not in str(error):
                raise
            return False  # a slice of a fixed length, say, of a shorter axis
        kept(what, found, expected, place)
        close(what, found, expected, 1e-10 if first is None else first.rounding)
    return True
