"""The quick path leaves the records of the general one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import agnostic_ad as ad
from agnostic_ad.fast import fast
from agnostic_ad.op import TABLE
from agnostic_ad.rules import QUICK

QUICKENED = [name for name, op in TABLE.items() if QUICK[name] is not op]
A, B = np.asarray([0.3, 0.5, 0.7]), np.asarray([0.6, 0.4, 0.2])
SQUARE = np.asarray([[0.3, 0.1], [0.2, 0.6]])


def var(x: Any, requires_grad: bool = True) -> ad.Variable:
    return ad.Variable(x, requires_grad=requires_grad)


def operands(name: str) -> list[tuple[Any, ...]]:
    if TABLE[name].name == "matmul":
        s = SQUARE
        return [(var(s), var(s)), (var(s), s), (s, var(s)), (var(s), var(s.astype("float32"))), (var(s[0]), var(s))]
    shift = 1.0 if name == "acosh" else 0.0
    a, b = A + shift, B + shift
    if len(TABLE[name].arrays) == 1:
        return [(var(a),), (var(a, False),), (var(a[0]),), (var(a.astype("float32")),)]
    return [
        (var(a), var(b)),
        (var(a), b),
        (b, var(a)),
        (var(a), 0.5),
        (0.5, var(a)),
        (var(a), 2),
        (var(a, False), var(b)),
        (var(a), var(b, False)),
        (var(a, False), b),
        (var(a), var(b[:1])),
        (var(a[0]), var(b)),
        (var(a[:, None]), b[None, :]),
        (var(a.astype("float32")), var(b)),
        (var(a), b.astype("float32")),
        (var(a[0]), var(b[0])),
    ]


def described(v: ad.Variable, given: tuple[Any, ...]) -> Any:
    """Give a record in a form that can be compared."""
    node = v.node
    if node is None:
        return repr(v.data.tolist()), v.dtype, None  # as text NaN is NaN
    leaves = {id(x.node): i for i, x in enumerate(given) if isinstance(x, ad.Variable)}
    saved = [repr(np.asarray(s, dtype=complex).tolist()) for s in node.saved]
    return repr(v.data.tolist()), v.dtype, (node.op, [leaves[id(p)] for p in node.ancestors()], saved, node.adapt)


def test_there_are_quick_forms() -> None:
    assert {"sin", "add", "multiply", "divide", "pow", "matmul", "maximum"} <= set(QUICKENED)
    assert "sum" not in QUICKENED and "floor" not in QUICKENED


@pytest.mark.parametrize("name", QUICKENED)
def test_both_paths_leave_the_same_record(name: str) -> None:
    op = TABLE[name]
    slow_calls = []

    def slow(*args: Any) -> Any:
        slow_calls.append(args)
        return op(*args)

    quick = fast(op, slow)
    quick(*operands(name)[0])  # the first call of a kind teaches the quick form what to call
    slow_calls.clear()
    taken = 0
    for given in operands(name):
        before = len(slow_calls)
        assert described(quick(*given), given) == described(op(*given), given)
        taken += len(slow_calls) == before
    assert taken >= len(operands(name)) // 2


def test_what_is_watched_takes_the_general_path() -> None:
    x = var(A)
    with ad.detect_anomaly():
        assert ad.namespace(x).sin(x).node.extra.origin is not None
