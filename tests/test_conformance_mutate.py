"""The suite's own test: a fault in the table breaks a law. A few dozen faults here; `python -m agnostic_ad.conformance.mutate` plants all."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derivatives import assert_exact

import agnostic_ad as ad
from agnostic_ad.conformance import mutate
from agnostic_ad.conformance.checking import operations
from agnostic_ad.conformance.edits import edits
from agnostic_ad.conformance.faults import Fault, faults, planted
from agnostic_ad.conformance.laws import LAWS, Place
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE

NUMPY = Place(backend_of_namespace(np))
REPORT = Path(__file__).parents[1] / "docs" / "mutation-report.md"
XP: Any = ad.differentiable(np)


def fault(name: str, part: str, what: str) -> Fault:
    return next(f for f in faults(name) if f.part == part and f.what == what)


# --- faults are seen --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sin", "divide", "sum", "matmul", "concat", "getitem"])
def test_every_fourth_fault_is_seen(name: str) -> None:
    checks, missed = mutate.checks(name, NUMPY), []
    chosen = [f for f in faults(name) if not mutate.explained(str(f))][::4]
    with np.errstate(all="ignore"):
        for each in chosen:
            if not mutate.hold(each, checks, NUMPY).law:
                missed.append(str(each))
    assert len(chosen) > 3
    assert missed == []


@pytest.mark.parametrize(
    ("name", "part", "what", "law"),
    [
        ("sin", "forward 0", "sign flipped", "forward_is_the_derivative"),
        ("sin", "reverse 0", "sign flipped", "reverse_is_the_adjoint"),
        ("sin", "reverse 0", "conj dropped", "reverse_is_the_adjoint"),
        ("sin", "reverse 0", "rounded to float32", "reverse_is_the_adjoint"),
        ("multiply", "reverse 0", "missing unbroadcast", "reverse_is_the_adjoint"),
        ("multiply", "reverse 0 and 1", "operands swapped", "reverse_is_the_adjoint"),
        ("sum", "batch", "batch axis forgotten", "batches_are_loops"),
        ("sum", "abstract", "wrong dtype rule", "abstract_is_actual"),
        ("clip", "composite", "no derivative of x", "forward_is_the_derivative"),
        ("getitem", "accumulate", "forgets what is there", "uses_add_up"),
        ("linalg.eig", "pushforward", "sign flipped", "forward_is_the_derivative"),
    ],
)
def test_the_law_that_a_fault_breaks(name: str, part: str, what: str, law: str) -> None:
    outcome = mutate.hold(fault(name, part, what), mutate.checks(name, NUMPY), NUMPY)
    assert (outcome.law, outcome.raised) == (law, False)


# --- planting and taking out ----------------------------------------------------------------------------------------------------------------
PATHS: list[tuple[str, Callable[[Any], Any]]] = [("an operator", lambda x: x * x), ("a function", lambda x: XP.multiply(x, x))]


def slope(f: Callable[[Any], Any], x: float) -> float:
    v = ad.Variable(np.asarray(x))
    f(v).backward()
    return float(v.grad)


@pytest.mark.parametrize(("path", "f"), PATHS, ids=[p for p, _ in PATHS])
def test_every_path_sees_a_fault(path: str, f: Callable[[Any], Any]) -> None:
    before = slope(f, 3.0)
    with planted(fault("multiply", "reverse 0", "sign flipped")):
        wrong = slope(f, 3.0)
        inside = float(ad.grad(f)(np.asarray(3.0)))
        nested = float(ad.grad(ad.grad(f))(np.asarray(3.0)))
    assert (before, wrong, inside) == (6.0, 0.0, 0.0)
    assert nested != 2.0
    assert slope(f, 3.0) == 6.0
    assert float(ad.grad(ad.grad(f))(np.asarray(3.0))) == 2.0


def state(name: str) -> list[Any]:
    op = TABLE[name]
    held = [getattr(op, slot) for slot in ("vjps", "jvps", "pushforward", "batch", "abstract", "composite", "accumulate")]
    return held + [
        getattr(r, slot) for r in op._reverse.values() for slot in ("rules", "conj_rules", "seeded", "elementwise", "accumulate", "saves")
    ]


@pytest.mark.parametrize("name", ["divide", "sum", "getitem", "clip", "linalg.eig"])
def test_nothing_is_left_behind(name: str) -> None:
    every, before = faults(name), state(name)
    for each in every:
        with planted(each):
            changed = any(a is not b for a, b in zip(state(name), before, strict=True))
        assert changed, each
    assert all(a is b for a, b in zip(state(name), before, strict=True))


def test_an_error_inside_takes_the_fault_out() -> None:
    with pytest.raises(ZeroDivisionError), planted(fault("multiply", "reverse 0", "sign flipped")):
        raise ZeroDivisionError
    assert slope(lambda x: x * x, 3.0) == 6.0


def test_values_of_plain_arrays_are_never_changed() -> None:
    x = np.asarray([0.2, -0.7])
    expected = TABLE["clip"](x, -0.5, 0.1)
    for each in faults("clip"):
        with planted(each):
            assert_exact(TABLE["clip"](x, -0.5, 0.1), expected)


# --- edits ------------------------------------------------------------------------------------------------------------------------------------
def _formula(xp: Any, a: Any, b: Any) -> Any:
    return -a * b + xp.conj(b) / 3.0 if a > 0 else b


def test_edits_change_one_place_each() -> None:
    class Space:
        conj = staticmethod(lambda x: x)
        positive = staticmethod(lambda x: 10 * x)

    found = {}
    for what, kind, code in edits(_formula.__code__):
        wrong = type(_formula)(code, globals())
        found[what] = (kind, wrong(Space, 2.0, 6.0))
    assert _formula(Space, 2.0, 6.0) == -10.0
    assert found == {
        "> to < #1": ("wrong comparison", 6.0),
        "minus dropped #1": ("sign flipped", 14.0),
        "* to / #1": ("a factor inverted", -2.0 / 6.0 + 2.0),
        "/ to * #1": ("a factor inverted", 6.0),
        "+ to - #1": ("sign flipped", -14.0),
        "what follows + dropped #1": ("a term dropped", -12.0),
        "conj to positive": ("conj dropped", 8.0),
        "3.0 to 6.0 #1": ("off by a factor", -11.0),
        "0 to 1 #1": ("wrong axis or constant", -10.0),
    }


# --- the table, the list of explained ones, and the page ---------------------------------------------------------------------------------------
def test_at_least_five_hundred_faults_each_with_a_name_of_its_own() -> None:
    names = [str(f) for name in operations() for f in faults(name)]
    assert len(names) > 500
    assert len(names) == len(set(names))


def test_explanations_have_reasons_and_are_not_stale() -> None:
    names = [str(f) for name in operations() for f in faults(name)]
    patterns = {**mutate.explanations(), **mutate.explanations("missed")}
    stale = [p for p in patterns if not any(fnmatchcase(n, p) for n in names)]
    assert stale == []
    assert all(len(reason.split()) > 4 for reason in patterns.values())


def test_the_page_reaches_the_bar_and_names_what_was_missed() -> None:
    text = REPORT.read_text("utf-8")
    found = re.search(r"(\d+) faults in (\d+) operations, (\d+) seen, (\d+) that nobody could see, (\d+) missed: \*\*([\d.]+) %\*\*", text)
    assert found is not None
    planted_, ops, seen, unseen, missed, percent = map(float, found.groups())
    assert planted_ >= 500
    assert seen + unseen + missed == planted_
    assert percent >= 99 and percent == pytest.approx(100 * seen / (planted_ - unseen), abs=0.006)
    listed = itertools.takewhile(lambda line: not line.startswith("## Nobody"), text.partition("## Missed\n")[2].splitlines())
    assert sum(line.startswith("  - `") for line in listed) == missed
    assert "Nobody has looked" not in text
    assert all(f"`{law}`" in text for law in LAWS)


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    assert mutate.main(["floor", "trunc", "--jobs", "0", "--write", str(page)]) == 0
    assert page.read_text("utf-8").startswith("# Faults planted in the table")
    assert "seen (100.00 %)" in capsys.readouterr().err


def test_an_unknown_operation_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutate.main(["sine", "--jobs", "0"]) == 2
    assert "error: unknown operation 'sine'. Do you mean sin" in capsys.readouterr().err
