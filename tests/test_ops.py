"""Every operation of the table on every library: the laws of the conformance suite, to second order in every mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad.conformance.catalogue import Call, calls, status
from agnostic_ad.conformance.deviations import known
from agnostic_ad.conformance.laws import LAWS, LawBroken, Place
from agnostic_ad.errors import MissingRuleError
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE

# What compiles each shape anew (jax), or builds a graph for each number (dask), gets one real call an operation and one complex call. Nobody
# can write into their arrays, and the derivative of a batch is the composition of two laws that are held.
LEAN = {"jax", "dask"}
REAL = [law for law in LAWS if law not in ("operands_stay", "batched_gradients_are_loops")]
COMPLEX = ("reverse_is_the_adjoint",)  # which holds it against differences and against forward mode

# Their operands must fit each other, so they are reached through the second derivatives of the operation named.
INNER = {"nn.pool_take": "nn.max_pool", "nn.pool_put": "nn.max_pool"}
NAMES = [name for name, op in TABLE.items() if op.name == name and name not in INNER]  # each once, under its first name


def place_of(backend: support.Backend, device: str | None = None) -> Place:
    found = backend_of_namespace(backend.xp)
    return Place(found, found.parse_device(device))


def sample(name: str, lean: bool) -> Iterator[tuple[Call, list[str]]]:
    """Yield calls with the laws to hold them to."""
    if not lean:
        for call in calls(TABLE[name]):
            yield call, list(LAWS)
        return
    first = {call.kind: call for call in reversed(list(calls(TABLE[name])))}
    kind = next(k for k in "fcib" if k in first)
    yield first[kind], REAL
    if kind == "f" and "c" in first:
        yield first["c"], list(COMPLEX)


def broken(name: str, place: Place, lean: bool = False) -> list[str]:
    """Say which laws do not hold, and which known deviation is none any more."""
    found: list[str] = []
    excused = {law for op, law in known(place.backend.name) if op == name}
    seen = set()
    for call, laws in sample(name, lean):
        for law in laws:
            try:
                LAWS[law](call, place)
            except Exception as error:
                if law in excused and isinstance(error, LawBroken):
                    seen.add(law)
                else:
                    found.append(f"{call}: {law}: {type(error).__name__}: {error}")
    return found + [f"{name}: {law} holds: its entry among the known deviations is stale" for law in excused - seen]


@pytest.mark.filterwarnings(r"ignore:(var|std)\(\):UserWarning")  # torch, of no elements at all
@pytest.mark.parametrize("backend", support.params())
@pytest.mark.parametrize("name", NAMES)
def test_laws(name: str, backend: support.Backend) -> None:
    found = broken(name, place_of(backend), lean=backend.name in LEAN)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("backend", support.params("array_api_strict"))
@pytest.mark.parametrize("name", [n for n in NAMES if n != "to_device"])
def test_everything_stays_on_the_device(name: str, backend: support.Backend) -> None:
    found = broken(name, place_of(backend, "device1"), lean=True)
    assert not found, "\n".join(found)


def test_every_operation_has_calls_and_is_one_thing() -> None:
    assert [name for name in NAMES if not TABLE[name].cases] == []
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
        ("jvps", "cos", {"forward_is_the_derivative", "reverse_is_the_adjoint", "second_derivatives_agree"}),
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


# --- values at points without a derivative: the policy of the table ---------------------------------------------------

AT_ZERO: dict[str, Any] = {"abs": 0.0, "sign": 0.0, "floor": 0.0, "ceil": 0.0, "round": 0.0, "trunc": 0.0, "stop_gradient": 0.0}


@pytest.mark.parametrize(("name", "slope"), AT_ZERO.items())
def test_unary_policies(name: str, slope: float, backend: support.Backend) -> None:
    x = backend.asarray([0.0, 0.0])
    _, pullback = ad.vjp(TABLE[name], x)
    _, tangent = ad.jvp(TABLE[name], (x,), (backend.asarray([1.0, 1.0]),))
    for found in (pullback(backend.asarray([1.0, 1.0]))[0], tangent):
        assert np.array_equal(backend.numpy(found), [slope, slope])


@pytest.mark.parametrize(
    ("name", "x1", "x2", "slopes"),
    [
        ("maximum", 1.0, 1.0, (0.5, 0.5)),
        ("minimum", 1.0, 1.0, (0.5, 0.5)),
        ("hypot", 0.0, 0.0, (0.0, 0.0)),
        ("atan2", 0.0, 0.0, (0.0, 0.0)),
        ("pow", 0.0, 2.0, (0.0, 0.0)),
        ("pow", 2.0, 0.0, (0.0, np.log(2.0))),
    ],
)
def test_binary_policies(name: str, x1: float, x2: float, slopes: tuple[float, float], backend: support.Backend) -> None:
    a, b = backend.asarray(x1), backend.asarray(x2)
    found = ad.grad(TABLE[name], argnums=(0, 1))(a, b)
    assert np.allclose([backend.numpy(g) for g in found], slopes, rtol=1e-15, atol=0.0)


def test_ties_share_equally_in_reductions(backend: support.Backend) -> None:
    x = backend.asarray([1.0, 3.0, 3.0])
    assert np.array_equal(backend.numpy(ad.grad(lambda v: v.max())(x)), [0.0, 0.5, 0.5])
    assert np.array_equal(backend.numpy(ad.grad(lambda v: (-v).min())(x)), [0.0, -0.5, -0.5])


def test_products_are_exact_where_factors_are_zero(backend: support.Backend) -> None:
    x = backend.asarray([2.0, 0.0, 3.0])
    assert np.array_equal(backend.numpy(ad.grad(lambda v: v.prod())(x)), [0.0, 6.0, 0.0])
    hessian = backend.numpy(ad.hessian(lambda v: v.prod())(x))
    assert np.array_equal(hessian, [[0.0, 3.0, 0.0], [3.0, 0.0, 2.0], [0.0, 2.0, 0.0]])


def test_std_of_equal_numbers_has_slope_zero(backend: support.Backend) -> None:
    assert np.array_equal(backend.numpy(ad.grad(lambda v: v.std())(backend.asarray([2.0, 2.0]))), [0.0, 0.0])


def test_an_operation_without_a_rule_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TABLE["matmul"], "vjps", (None, None))
    with pytest.raises(MissingRuleError, match=r"matmul has no derivative with respect to argument 0 \(x1\); reached inside vjp"):
        ad.vjp(TABLE["matmul"], np.ones((2, 2)), np.ones((2, 2)))
