"""The conformance suite's inputs, oracle and laws: that they are drawn as stated, agree with mathematics, and notice what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

from agnostic_ad.conformance import checking, oracle, strategies
from agnostic_ad.conformance.catalogue import Call, calls
from agnostic_ad.conformance.comparing import function
from agnostic_ad.conformance.kinks import KINKS
from agnostic_ad.conformance.laws import LAWS, NARROW, LawBroken, Place
from agnostic_ad.conformance.phases import settled
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE
from agnostic_ad.samples import HUGE, Domain, Operand, case

NUMPY = Place(backend_of_namespace(np))


def call_of(name: str, *operands: Any, kind: str = "f", **params: Any) -> Call:
    return Call(TABLE[name], case(*operands, **params), kind)


# --- inputs -------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("layout", "strides"),
    [("", (24, 8)), ("strided", (48, 16)), ("reversed", (24, -8)), ("transposed", (8, 16)), ("repeated", (0, 8))],
)
def test_layouts_lie_in_memory_as_they_say(layout: str, strides: tuple[int, ...]) -> None:
    (x,) = call_of("sin", Operand((2, 3), layout=layout)).draw(NUMPY.backend)
    assert x.shape == (2, 3) and x.strides == strides


def test_magnitudes_scale_operands_and_directions() -> None:
    call = call_of("multiply", Operand((3,), scale=1e30), Operand((3,), scale=1e-30))
    f = function(call, NUMPY)
    assert f is not None
    sizes = [float(np.max(np.abs(x))) for x in (*f.point, *f.tangents(0))]
    assert all(1e29 < n < 1e31 for n in sizes[::2]) and all(1e-31 < n < 1e-29 for n in sizes[1::2])


def test_domains_say_how_numbers_may_be_scaled() -> None:
    assert Domain(-3.0, 3.0).magnitudes == (1.0, 1e-8)
    assert Domain(0.2, 3.0, True).magnitudes == (1.0,)
    assert Domain(0.1, 4.0, False, (1e-30, 1e30)).magnitudes == (1.0, 1e-30, 1e30)
    assert Domain(0, 7).magnitudes == (1.0,)


def test_the_same_seed_draws_the_same_calls() -> None:
    first, again, other = ([c.key for c in strategies.drawn(TABLE["add"], "f", 20, seed)] for seed in (1, 1, 2))
    assert first == again and first != other and len(set(first)) == 20


def shapes(found: list[Call]) -> list[tuple[tuple[int, ...], ...]]:
    return [tuple(o.shape for o in c.case.operands if isinstance(o, Operand)) for c in found]


def test_elementwise_operations_are_drawn_with_everything() -> None:
    found = strategies.drawn(TABLE["multiply"], "f", 150, 0)
    operands = [o for c in found for o in c.case.operands if isinstance(o, Operand)]
    pairs = [s for s in shapes(found) if len(s) == 2]
    assert {o.layout for o in operands} == {"", "strided", "reversed", "transposed", "repeated"}
    assert {o.scale for o in operands} == {1.0, 1 / HUGE, HUGE}
    assert any(a == () for a, _ in pairs) and any(0 in a for a, _ in pairs) and any(a != b and 0 not in (*a, *b) for a, b in pairs)
    assert all(np.broadcast_shapes(a, b) is not None for a, b in pairs)


def test_reductions_are_drawn_with_every_keyword() -> None:
    found = strategies.drawn(TABLE["var"], "f", 200, 0)
    axes = [c.case.params.get("axis") for c in found]
    assert {type(a) for a in axes} == {type(None), int, tuple} and any(isinstance(a, int) and a < 0 for a in axes)
    assert {c.case.params.get("keepdims") for c in found} >= {True, False}
    assert {c.case.params.get("correction") for c in found} >= {0.0, 0.5}
    assert {c.case.params.get("dtype") for c in strategies.drawn(TABLE["sum"], "f", 100, 0)} == {None, "float64"}


def test_zero_strides_make_no_ties_in_a_reduction() -> None:
    for call in strategies.drawn(TABLE["max"], "f", 200, 3):
        operand, axis = call.case.operands[0], call.case.params.get("axis")
        reduced = range(len(operand.shape)) if axis is None else [a % len(operand.shape) for a in np.atleast_1d(axis).astype(int)]
        assert operand.layout != "repeated" or 0 not in reduced


@pytest.mark.parametrize("name", checking.operations())
def test_every_operation_can_be_drawn(name: str) -> None:
    kinds = {kind for each in TABLE[name].cases or () for kind in each.kinds}
    assert all(len(strategies.drawn(TABLE[name], kind, 3, 5)) >= 1 for kind in kinds)


def test_examples_shrink_to_the_smallest() -> None:
    three: Callable[[Call], bool] = lambda c: sum(math.prod(s) for s in shapes([c])[0]) >= 3
    call = next(c for c in reversed(strategies.drawn(TABLE["add"], "f", 40, 0)) if three(c))
    least = strategies.smallest(call, three, 0)
    assert three(call) and least.size[:2] == (False, 3) and least.size <= call.size


def test_without_hypothesis_the_table_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "AVAILABLE", False)
    found = checking.sample("sin", NUMPY, checking.EXTENTS["full"], 0)["float64"]
    assert sorted(c.key for c in found) == sorted(c.key for c in calls(TABLE["sin"]) if c.kind == "f")


ELEMENTWISE = [n for n in checking.operations() if TABLE[n].elementwise and any(c.moving for c in calls(TABLE[n]))]


# --- the oracle ---------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_tolerance_of_elementwise_operations(name: str) -> None:
    call = next(c for c in calls(TABLE[name]) if c.moving)
    f = function(call, NUMPY)
    assert f is not None
    known = oracle.fifty_digits(f)
    if known is None:
        pytest.skip("nextafter is defined by the precision")
    for value, error in zip(known.values, known.errors, strict=True):
        # 64 roundings, times the condition of the derivative: at a random point it is mostly near 1
        assert np.all(error[0] <= 1e-13 * np.maximum(np.abs(value[0]), 1.0) * 20)


@pytest.mark.parametrize(
    ("name", "derivative"),
    [("sin", np.cos), ("exp", np.exp), ("log", lambda x: 1 / x), ("special.erf", lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x))],
)
def test_the_oracle_is_right(name: str, derivative: Callable[[Any], Any]) -> None:
    f = function(call_of(name, Operand((3,), Domain(0.5, 2.0))), NUMPY)
    assert f is not None
    known, (x,), (t,) = oracle.truth(f), f.point, f.tangents(0)
    assert np.allclose(known.values[0][0], derivative(x) * t, rtol=1e-15, atol=0.0)


def test_extrapolation_tells_its_own_error() -> None:
    for f, slope in ((np.exp, np.exp(0.3)), (lambda x: np.abs(x - 0.3005), -1.0), (lambda x: 1 / (x - 0.29), -1e4)):
        x = np.asarray(0.3)
        (value,), (error,) = oracle.extrapolated(lambda v, f=f: (f(v),), (x,), (np.asarray(1.0),), 2.0**-52)
        assert abs(value - slope) <= error
    (value,), (error,) = oracle.extrapolated(lambda v: (np.exp(v),), (x,), (np.asarray(1.0),), 2.0**-52)
    assert error <= 1e-9


def test_without_mparray_differences_are_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "AVAILABLE", False)
    monkeypatch.setattr(oracle, "_KNOWN", {})
    f = function(call_of("tan", (3,)), NUMPY)
    assert f is not None and oracle.fifty_digits(f) is None
    known, (x,), (t,) = oracle.truth(f), f.point, f.tangents(0)
    assert np.all(np.abs(known.values[0][0] - t / np.cos(x) ** 2) <= known.errors[0][0])


# --- laws ---------------------------------------------------------------------------------------------------------------------------------
def test_every_law_says_what_it_states() -> None:
    assert all(re.match(r"[A-Z`].*[.:]$", (law.__doc__ or "").splitlines()[0]) for law in LAWS.values())
    assert all(not (law.__doc__ or "").splitlines()[0].endswith(":") for law in LAWS.values())


@pytest.mark.parametrize(
    ("law", "call"),
    [
        ("forward_is_the_derivative", call_of("equal", (3,), (3,))),
        ("reverse_is_the_adjoint", call_of("argmax", (3,))),
        ("stated_at_kinks", call_of("sin", (3,))),
        ("empty_arrays_have_gradients", call_of("sin", (3,))),
        ("lower_precision_agrees", call_of("sin", (3,))),
        ("batched_gradients_are_loops", call_of("unique_values", (3,), kind="i")),
    ],
)
def test_a_law_says_when_it_says_nothing(law: str, call: Call) -> None:
    assert LAWS[law](call, NUMPY) is False


def broken_by(name: str, level: str = "stated") -> set[str]:
    return {row.law for row in checking.check(name, NUMPY, level) if row.status == "failed"}


def planted(monkeypatch: pytest.MonkeyPatch, name: str, rule: Callable[..., Any]) -> None:
    """Put a reverse rule in the place of the one of an operation's only operand."""
    compiled = TABLE[name].reverse((0,))
    given: Callable[..., Any] = lambda xp, ct, s, p: rule(ct, s[0])
    monkeypatch.setattr(compiled, "rules", (given,))
    monkeypatch.setattr(compiled, "conj_rules", (given,))


@pytest.mark.parametrize(
    ("name", "rule", "law"),
    [
        ("sin", lambda ct, x: -ct * np.cos(x), "reverse_is_the_adjoint"),
        ("sin", lambda ct, x: ct * (np.cos(x) + 1e-11), "reverse_is_the_adjoint"),
        ("sin", lambda ct, x: ct * np.cos(x) * (1 + 1e-9 * (np.abs(x) < 1e-6)), "reverse_is_the_adjoint"),
        ("sin", lambda ct, x: ct * np.cos(x.astype(np.float32)).astype(ct.dtype), "reverse_is_the_adjoint"),
        ("sin", lambda ct, x: ct * np.cos(x) * np.float64(1), "lower_precision_agrees"),
        ("sin", lambda ct, x: (ct + 1e-3) * np.cos(x), "derivatives_are_linear"),
        ("sqrt", lambda ct, y: ct / (y + y + 1e-12), "reverse_is_the_adjoint"),
    ],
)
def test_subtle_faults_are_noticed(name: str, rule: Callable[..., Any], law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken_by(name, "quick") == set()
    planted(monkeypatch, name, rule)
    assert law in broken_by(name, "quick")


def test_a_wrong_entry_does_not_hide_among_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of("exp", Operand((3,), Domain(-3.0, 3.0)))
    small: Callable[..., Any] = lambda ct, y: ct * y * np.where(np.abs(ct * y) == np.min(np.abs(ct * y)), 1 + 1e-12, 1.0)
    assert LAWS["reverse_is_the_adjoint"](call, NUMPY)
    planted(monkeypatch, "exp", small)
    with pytest.raises(LawBroken, match="the cotangent of operand 0"):
        LAWS["reverse_is_the_adjoint"](call, NUMPY)


@pytest.mark.parametrize("name", ["linalg.eig", "linalg.eigh", "linalg.svd"])
def test_vectors_are_seen_without_their_phases(name: str) -> None:
    call = next(c for c in calls(TABLE[name]) if c.kind == "c")
    results = call(call.draw(NUMPY.backend))
    turned = [x * np.exp(0.7j) if x.ndim == 2 else x for x in results]
    if name == "linalg.svd":  # one vector of a pair turns the other
        turned[2] = results[2] * np.exp(-0.7j)
    assert not all(np.allclose(a, b) for a, b in zip(results, turned, strict=True))
    for a, b in zip(settled(call, results), settled(call, turned), strict=True):
        assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_roundings_that_move_operands_are_orthogonal() -> None:
    f = function(call_of("multiply", (2,), (2,), kind="c"), NUMPY)
    assert f is not None
    parts = [(i, part) for i in range(2) for part in (np.real, np.imag)]
    moved = [operands for operands, _ in oracle._around(f, f.operands, f.tangents(0))]
    signs = np.asarray([[np.sign(part(there[i]) / part(f.operands[i]) - 1)[0] for i, part in parts] for there in moved])
    assert_exact(signs @ signs.T, 4.0 * np.eye(4))


def test_a_wrong_value_at_a_kink_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, "abs", lambda ct, x: ct * np.where(x >= 0, 1.0, -1.0))
    first = next(c for c in calls(TABLE["abs"]) if c.kind == "f")
    with pytest.raises(LawBroken, match=r"the cotangent at \(\[0.0, -0.0\],\) \(`abs`, `sign`\)"):
        LAWS["stated_at_kinks"](first, NUMPY)


def test_a_failure_comes_with_the_smallest_example(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, "tan", lambda ct, y: -ct)
    row = next(r for r in checking.check("tan", NUMPY, "quick") if r.law == "reverse_is_the_adjoint" and r.dtype == "float64")
    scope: dict[str, Any] = {}
    exec(row.example, scope)
    assert row.status == "failed" and scope["x0"].size == 1


def test_narrow_laws_alone_see_narrow_calls() -> None:
    rows = list(checking.check("sin", NUMPY, "stated"))
    narrow = {row.law for row in rows if row.dtype in ("float32", "complex64", "float16")}
    assert narrow == set(NARROW) and {row.dtype for row in rows} == {"float64", "complex128", "float32", "complex64", "float16"}
    assert all(row.cases > 0 for row in rows)


# --- what is stated where there is no derivative --------------------------------------------------------------------------------------------
def test_the_documents_state_the_same_kinks() -> None:
    stated = set()
    for page, head in (("transformations", "## Values where there is no derivative"), ("linalg", "## Values at special points")):
        section = (support.ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").partition(head)[2].partition("\n```")[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if (
                line.startswith("|")
                and cells[0] not in ("function", "---")
                and not re.search(r"refused|error|\[Linear|symmetric|constant rank", cells[2])
            ):
                stated.add(cells[0])
    rows = {kink.row for kinks in KINKS.values() for kink in kinks}
    assert rows == stated


@pytest.mark.parametrize("backend", support.params())
@pytest.mark.parametrize("name", KINKS)
def test_kinks(name: str, backend: support.Backend) -> None:
    first = next(c for c in calls(TABLE[name]) if c.kind == "f")
    assert LAWS["stated_at_kinks"](first, Place(backend_of_namespace(backend.xp)))
