"""Every operation of the table on every library: the laws of the conformance suite, to second order in every mode."""

from __future__ import annotations

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad.conformance.catalogue import calls, status
from agnostic_ad.conformance.checking import EXTENTS, INNER, check, hold, operations, sample
from agnostic_ad.conformance.deviations import excuse, known
from agnostic_ad.conformance.laws import LAWS, NARROW, Place
from agnostic_ad.conformance.report import BAD, Row
from agnostic_ad.errors import MissingRuleError
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE

# What compiles each shape anew (jax), or builds a graph for each number (dask), gets one real call an operation and one complex call. Nobody
# can write into their arrays; the derivative of a batch, or of a rule, which calls operations of the table, is the composition of laws that are
# held. Sums, graphs and the quick forms do not depend on the library. `make certificates` holds both to everything.
LEAN = {"jax", "dask"}
SPARED = (
    *(
        "operands_stay",
        "batched_gradients_are_loops",
        "derivatives_are_linear",
        "uses_add_up",
        "captured_is_eager",
        "any_size_is_found",
        "quick_forms_agree",
    ),
    "second_derivatives_agree",
)
REAL = [law for law in LAWS if law not in (*SPARED, *NARROW)]
COMPLEX = ["reverse_is_the_adjoint"]
SINGLE = list(NARROW)


def place_of(backend: support.Backend, device: str | None = None) -> Place:
    found = backend_of_namespace(backend.xp)
    return Place(found, found.parse_device(device))


def lean_rows(name: str, place: Place) -> list[Row]:
    """Hold one call of each kind that matters to the laws that matter."""
    found = sample(name, place, EXTENTS["least"], 0)
    first = next(dtype for dtype in ("float64", "complex128", "int64", "bool") if dtype in found)
    single = SINGLE if place.backend.name != "dask" else []  # Dask computes with NumPy
    chosen = {first: REAL, **({"float32": single, "complex128": COMPLEX} if first == "float64" else {})}
    rows = []
    for dtype, laws in chosen.items():
        for law in laws if dtype in found else ():
            verdict, cases, reason, example = hold(law, found[dtype], place)
            rows.append(Row(name, law, dtype, str(place.device), verdict, cases, reason, example))
    return rows


def broken(name: str, place: Place, lean: bool = False) -> list[str]:
    """Say which laws do not hold, and which known deviation is none any more."""
    rows = lean_rows(name, place) if lean else list(check(name, place, "stated"))
    return [
        f"{r.op}: {r.law}: {r.dtype}: {r.reason}\n{r.example}" for r in excuse(rows, known(place.backend.name), "quick") if r.status in BAD
    ]


@pytest.mark.filterwarnings(r"ignore:(var|std)\(\):UserWarning")  # torch, of no elements at all
@pytest.mark.parametrize("backend", support.params())
@pytest.mark.parametrize("name", operations())
def test_laws(name: str, backend: support.Backend) -> None:
    found = broken(name, place_of(backend), lean=backend.name in LEAN)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("backend", support.params("array_api_strict"))
@pytest.mark.parametrize("name", [n for n in operations() if n != "to_device"])
def test_everything_stays_on_the_device(name: str, backend: support.Backend) -> None:
    found = broken(name, place_of(backend, "device1"), lean=True)
    assert not found, "\n".join(found)


def test_every_operation_has_calls_and_is_one_thing() -> None:
    assert [name for name in operations() if not TABLE[name].cases] == []
    assert all(TABLE[name].cases for name in INNER.values())
    assert {status(name) for name in TABLE} == {"op", "composite", "nondifferentiable"}


def test_draws_repeat_and_differ() -> None:
    call = next(calls(TABLE["sin"]))
    backend = backend_of_namespace(np)
    first, again, other = (call.draw(backend, n)[0] for n in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


# --- the laws notice what is wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "wrong", "laws"),
    [
        ("vjps", "cos", {"reverse_is_the_adjoint", "second_derivatives_agree"}),
        ("jvps", "cos", {"forward_is_the_derivative", "second_derivatives_agree"}),
        ("batch", "sum", {"batches_are_loops", "batched_gradients_are_loops"}),
        ("abstract", "isnan", {"abstract_is_actual"}),
    ],
)
def test_a_wrong_rule_breaks_its_laws(slot: str, wrong: str, laws: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    op = TABLE["sin"]
    assert broken("sin", place_of(support.Backend("numpy"))) == []
    if slot == "vjps":  # compiled once, and shared by the quick and the general path
        monkeypatch.setattr(op.reverse((0,)), "rules", TABLE[wrong].reverse((0,)).rules)
    else:
        monkeypatch.setattr(op, slot, getattr(TABLE[wrong], slot))
    found = {line.split(": ")[1] for line in broken("sin", place_of(support.Backend("numpy")))}
    assert laws <= found


def test_products_are_exact_where_factors_are_zero(backend: support.Backend) -> None:
    x = backend.asarray([2.0, 0.0, 3.0])
    assert np.array_equal(backend.numpy(ad.grad(lambda v: v.prod())(x)), [0.0, 6.0, 0.0])
    hessian = backend.numpy(ad.hessian(lambda v: v.prod())(x))
    assert np.array_equal(hessian, [[0.0, 3.0, 0.0], [3.0, 0.0, 2.0], [0.0, 2.0, 0.0]])


def test_an_operation_without_a_rule_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TABLE["matmul"], "vjps", (None, None))
    with pytest.raises(MissingRuleError, match=r"matmul has no derivative with respect to argument 0 \(x1\); reached inside vjp"):
        ad.vjp(TABLE["matmul"], np.ones((2, 2)), np.ones((2, 2)))
