"""More calls of each operation than the table states: drawn by Hypothesis, and made as small as they can be where a law is broken.

What may vary is read off the table: numbers, magnitudes (`Domain.magnitudes`) and layouts of every case, and shapes and parameters of those
that say how (`Case.free`). A seed gives the same calls, always. Without Hypothesis there are none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from agnostic_ad.conformance.catalogue import DTYPES, Call
from agnostic_ad.op import Op
from agnostic_ad.samples import Case, Free, Operand

__all__ = ["AVAILABLE", "WITHOUT", "drawn", "smallest", "strategy"]

AVAILABLE = find_spec("hypothesis") is not None
"""Whether there is anything to draw with."""
WITHOUT = "hypothesis is not installed: only the calls that the table states were checked, none that were drawn, and examples are not the smallest."
"""What a report says where there is nothing."""
ELEMENTS = 12
"""Of one operand, at most: fifty-digit numbers take their time, and a fault needs no more."""
TRIES = 200
"""How many calls are tried to make an example smaller."""


def strategy(op: Op, kind: str) -> Any:
    """Give the Hypothesis strategy of an operation's calls with one kind of dtype.

    Parameters
    ----------
    op : Op
        The operation.
    kind : str
        One of "bifc".

    Returns
    -------
    hypothesis.strategies.SearchStrategy
        Of `Call`; it shrinks towards few elements, no peculiar layout or magnitude, and the parameters that the table states first.

    Examples
    --------
    >>> from agnostic_ad.conformance.strategies import strategy
    >>> from agnostic_ad.op import TABLE
    >>> strategy(TABLE["sin"], "f").validate()
    """
    from hypothesis import strategies as st

    stated = [case for case in op.cases or () if kind in case.kinds]

    @st.composite
    def call(draw: Callable[[Any], Any]) -> Call:
        case = draw(st.sampled_from(stated))
        params, still = dict(case.params), tuple[int, ...]()
        operands = [o for o in case.operands if isinstance(o, Operand)]
        if case.free is not None:
            shapes, params, still = _formed(draw, case, case.free, kind)
            operands = [replace(o, shape=shape) for o, shape in zip(operands, shapes, strict=True)]
        operands = [_peculiar(draw, o, op.elementwise or 0 in still) for o in operands]
        rest = iter(operands)
        placed = tuple(next(rest) if isinstance(o, Operand) else o for o in case.operands)
        return Call(op, replace(case, operands=placed, params=params, seed=draw(st.integers(0, 2**16))), kind)

    return call()


def _formed(draw: Callable[[Any], Any], case: Case, free: Free, kind: str) -> tuple[list[Any], dict[str, Any], tuple[int, ...]]:
    """Draw shapes and parameters; give the axes besides, along which slices are independent."""
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as arrays

    stated = [o.shape for o in case.operands if isinstance(o, Operand)]
    if free.shapes == "stack":
        lead = draw(st.sampled_from([(), (1,), (2,), (0,), (1, 2)]))
        return [(*lead, *shape) for shape in stated], dict(case.params), ()
    if free.shapes == "broadcast":
        found = arrays.mutually_broadcastable_shapes(num_shapes=len(stated), min_side=0, max_side=3, max_dims=3)
        shapes = [s for s in draw(found.filter(lambda b: _few(b.result_shape))).input_shapes]
        return shapes, dict(case.params), ()
    shape = draw(arrays.array_shapes(min_dims=free.least, max_dims=max(3, free.least), min_side=0, max_side=4).filter(_few))
    params, axes = dict(case.params), tuple(range(len(shape)))
    for name, values in free.params.items():
        if isinstance(values, str) and values.startswith("ax"):
            chosen = _axes(draw, shape, values, free.empty)
            axes = tuple(range(len(shape))) if chosen is None else chosen
            if chosen is None:
                params.pop(name, None)
            else:
                signed = tuple(a - len(shape) if draw(st.booleans()) else a for a in axes)
                params[name] = signed if values.startswith("axes") and (len(axes) != 1 or draw(st.booleans())) else signed[0]
        elif values == "dtype":
            params.pop(name, None)
            if draw(st.booleans()):
                params[name] = DTYPES["double"][kind]
        else:
            params[name] = draw(st.sampled_from(values))
    if not free.empty:
        shape = tuple(max(n, 1) if a in axes else n for a, n in enumerate(shape))
    return [shape] * len(stated), params, tuple(a for a in range(len(shape)) if a not in axes)


def _axes(draw: Callable[[Any], Any], shape: tuple[int, ...], values: str, empty: bool) -> tuple[int, ...] | None:
    """Draw one axis or several, or None for all that there are."""
    from hypothesis import strategies as st

    if not shape or (values.endswith("?") and draw(st.integers(0, 3)) == 0):
        return None
    if values.startswith("axes"):
        return tuple(draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=0, max_size=len(shape))))
    return (draw(st.integers(0, len(shape) - 1)),)


def _peculiar(draw: Callable[[Any], Any], operand: Operand, repeatable: bool) -> Operand:
    """Draw layout and magnitude. Slices that repeat make ties and singular matrices, so they are for independent ones alone."""
    from hypothesis import strategies as st

    layouts = ["", "strided", "reversed", "transposed"] if operand.shape else [""]
    if operand.structure:
        return replace(operand, layout=draw(st.sampled_from(layouts)))
    layouts += ["repeated"] if operand.shape and repeatable else []
    return replace(operand, layout=draw(st.sampled_from(layouts)), scale=draw(st.sampled_from(operand.domain.magnitudes)))


def _few(shape: tuple[int, ...]) -> bool:
    count = 1
    for n in shape:
        count *= max(n, 1)
    return count <= ELEMENTS


def drawn(op: Op, kind: str, count: int, seed: int) -> list[Call]:
    """Give ``count`` calls, or fewer if there are not so many, of as many shapes as possible; the same for the same seed."""
    found: dict[str, Call] = {}

    def note(call: Call) -> bool:
        found.setdefault(call.key, call)
        return False

    if AVAILABLE and count:
        _search(op, kind, note, 3 * count, seed)
    before: Counter[str] = Counter()
    ranked = []
    for number, call in enumerate(found.values()):
        ranked.append((before[str(call)], number, call))
        before[str(call)] += 1
    return [call for *_, call in sorted(ranked, key=lambda entry: entry[:2])[:count]]


def smallest(call: Call, broken: Callable[[Call], bool], seed: int) -> Call:
    """Give the smallest call, of the operation and kind of dtype of ``call``, that is broken as ``call`` is."""
    verdicts: dict[str, bool] = {}
    best = call

    def worse(other: Call) -> bool:
        nonlocal best
        other = replace(other, precision=call.precision)
        if other.key not in verdicts:
            verdicts[other.key] = len(verdicts) < TRIES and other.size <= best.size and broken(other)
            if verdicts[other.key] and other.size < best.size:
                best = other
        return verdicts[other.key]

    if AVAILABLE:
        _search(call.op, call.kind, worse, TRIES, seed)
    return best


def _search(op: Op, kind: str, wanted: Callable[[Call], bool], count: int, seed: int) -> None:
    """Let Hypothesis look for a wanted call and make it smaller."""
    from hypothesis import HealthCheck, Phase, find, settings
    from hypothesis.errors import HypothesisException

    quiet = settings(
        database=None,
        derandomize=False,  # the seed decides
        deadline=None,
        max_examples=count,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    try:
        find(strategy(op, kind), wanted, settings=quiet, random=random.Random(seed))
    except HypothesisException:
        return  # nothing was wanted
