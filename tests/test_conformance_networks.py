"""Layers, losses, optimizers and trainings in the conformance suite: all are there, all conform, and what does not is found."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import support
from toys import tiny

from agnostic_ad import nn
from agnostic_ad.conformance import networks
from agnostic_ad.conformance.comparing import Place
from agnostic_ad.conformance.networks import Setting
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.nn.samples import samples, subjects

NUMPY = Place(backend_of_namespace(np))


def place(backend: support.Backend) -> Place:
    return Place(backend_of_namespace(backend.xp))


def statuses(names: list[str], where: Place, level: str = "least") -> dict[str, set[str]]:
    return {name: {row.status for row in networks.check(name, where, level)} for name in names}


@pytest.mark.parametrize("name", subjects())
def test_every_public_class_brings_samples(name: str) -> None:
    """A new layer: one line in nn/samples.py."""
    assert samples(name), f"add a configuration of {name} to nn/samples.py"
    for sample in samples(name):
        s = Setting(sample, NUMPY, "double", 0)
        made = s.optimizer([nn.Parameter(x) for x in s.draw()]) if name.startswith("optim.") else s.layer()
        cls = subjects()[name]
        assert type(made) is (getattr(cls, "cls_to_become", None) or cls)


def test_what_is_stated_is_public() -> None:
    """A misspelt name in nn/samples.py would be a configuration that nobody runs."""
    stated = {each.name for each in (*nn.samples.LAYERS, *nn.samples.OPTIMIZERS)}  # type: ignore[attr-defined]
    assert stated <= set(subjects())
    assert {"nn.Linear", "nn.CrossEntropyLoss", "optim.SGD", "optim.Lookahead"} <= set(networks.names())
    assert not {"nn.Module", "optim.Optimizer"} & set(networks.names())
    assert set(networks.names("full")) - set(networks.names()) == set(networks.TRAININGS)


@pytest.mark.parametrize("name", networks.names())
def test_networks_conform(backend: support.Backend, name: str) -> None:
    if backend.name in ("jax", "dask") and name.startswith("optim.") and name not in ("optim.SGD", "optim.Adam"):
        pytest.skip("slow: JAX compiles every shape, Dask computes all steps again for every number; the command checks the others")
    rows = list(networks.check(name, place(backend), "least" if backend.name in ("jax", "dask") else "quick"))
    assert [f"{row.title}: {row.reason}" for row in rows if row.status != "passed"] == []
    assert {row.law for row in rows} == set(networks._OF[name.partition(".")[0]])
    if backend.name not in ("jax", "dask"):
        assert {row.dtype for row in rows} == {"float64", "float32"}
        assert sum(row.cases for row in rows if row.dtype == "float64") == len(samples(name)) * len({row.law for row in rows})


@pytest.mark.parametrize("name", networks.TRAININGS)
def test_trainings_conform(backend: support.Backend, name: str) -> None:
    if backend.name == "dask":
        pytest.skip("Dask computes all steps again for every number: a quarter of an hour; the command checks it")
    rows = list(networks.check(name, place(backend), "least" if backend.name in ("jax", "dask") else "full"))
    assert [f"{row.title}: {row.reason}" for row in rows if row.status != "passed"] == []
    assert {row.law for row in rows} == {"training_agrees"}


def test_sixteen_bits() -> None:
    torch = Place(backend_of_namespace(pytest.importorskip("torch")))
    for name in ("nn.Conv2d", "nn.CrossEntropyLoss", "optim.Adam"):
        rows = list(networks.check(name, torch, "full"))
        assert {row.dtype for row in rows} == {"float64", "float32", "bfloat16"} | ({"float16"} if name.startswith("nn.") else set())
        assert [f"{row.title}: {row.reason}" for row in rows if row.status != "passed"] == []


def test_all_are_checked() -> None:
    rows = list(networks.check_networks(NUMPY, "least"))
    assert {row.op for row in rows} == set(subjects())
    assert {row.status for row in rows} == {"passed"}


@pytest.mark.parametrize("name", ["nn.Conv2d", "nn.CrossEntropyLoss", "optim.Adam"])
def test_the_same_seed_gives_the_same_verdict_and_seeds_differ(name: str) -> None:
    runs = [[replace(row, seconds=0.0) for row in networks.check(name, NUMPY, "quick", 5)] for _ in range(2)]
    assert runs[0] == runs[1]
    a, b = (Setting(samples(name)[0], NUMPY, "double", seed) for seed in (1, 2))
    assert np.all(a.draw()[0] != b.draw()[0])


@pytest.mark.parametrize(
    ("name", "bound"),
    [("nn.Conv2d", 1e-13), ("nn.CrossEntropyLoss", 1e-13), ("optim.Adam", 1e-12), *((name, 1e-13) for name in networks.TRAININGS)],
)
def test_little_is_granted(monkeypatch: pytest.MonkeyPatch, name: str, bound: float) -> None:
    """The tolerance is measured; this is how large it may become in double precision, beside the largest number."""
    granted: list[float] = []

    def noting(what: str, found: Any, expected: Any, errors: Any) -> None:
        if what.endswith("direction"):  # differences, which are not as good
            return
        granted.append(float(np.max(errors[0])) / max(float(np.max(np.abs(expected[0]))), 1e-6))

    monkeypatch.setattr(networks, "near", noting)
    for law in networks._OF[name.partition(".")[0]]:
        for sample in [networks.TRAININGS[name][0]] if name in networks.TRAININGS else samples(name):
            networks.hold(networks.LAWS[law], Setting(sample, NUMPY, "double", 0))
    assert 0 < max(granted) <= bound


# --- what does not conform is found -----------------------------------------------------------------------------------------------------
def library(name: str, **faults: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Place:
    """A small library with faults: functions made of its own."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    wrapped = tiny.fill(module)
    for function, fault in faults.items():
        setattr(module, function, wrapped(fault(getattr(np, function))))
    return Place(backend_of_namespace(module))


def test_a_library_that_nobody_knows_conforms() -> None:
    found = statuses([*subjects(), "training.mlp"], library("whole_toy"))
    assert found == {name: {"passed"} for name in (*subjects(), "training.mlp")}


FAULTS: list[tuple[str, Any, set[str], set[str]]] = [
    # which function, what becomes of it, what fails, what has nothing to do with it
    ("sqrt", lambda f: lambda x: f(x) * (1 + 1e-10), {"optim.Adam", "optim.AdamW"}, {"optim.SGD", "nn.Linear"}),
    ("exp", lambda f: lambda x: f(x.astype("float32")).astype(x.dtype), {"nn.CrossEntropyLoss"}, {"nn.Linear", "nn.ReLU", "optim.Adam"}),
    ("sign", lambda f: lambda x: -f(x), {"optim.Lion"}, {"nn.Linear"}),
    ("maximum", lambda f: lambda a, b: f(a, b).astype("float32"), {"nn.ReLU"}, {"nn.Flatten"}),
]


@pytest.mark.parametrize(("function", "fault", "wrong", "right"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_faults_are_found(function: str, fault: Any, wrong: set[str], right: set[str]) -> None:
    found = statuses(sorted(wrong | right), library(f"toy_with_another_{function}", **{function: fault}))
    assert {name for name in wrong if found[name] & {"failed"}} == wrong
    assert {name for name in right if found[name] == {"passed"}} == right


def test_numpys_own_gradients_are_held_against_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    real = networks.ad.gradients

    def off(*args: Any, **kwargs: Any) -> Any:
        return tuple(g * (1 + 1e-5) for g in real(*args, **kwargs))

    monkeypatch.setattr(networks.ad, "gradients", off)
    rows = {row.law: row for row in networks.check("nn.Linear", NUMPY, "least")}
    assert rows["layers_agree"].status == "passed"
    assert rows["gradients_agree"].status == "failed"
    assert "the gradient of x0, along a direction" in rows["gradients_agree"].reason


def test_a_class_without_samples_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "samples", lambda name: [])
    (row,) = networks.check("nn.ReLU", NUMPY)
    assert (row.op, row.status) == ("nn.ReLU", "error")
    assert row.reason == "nn.ReLU has no sample: add one to agnostic_ad/nn/samples.py"


# --- examples to paste ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "number", "law"),
    [("nn.Linear", 2, "layers_agree"), ("nn.CrossEntropyLoss", 1, "gradients_agree"), ("optim.Adam", 0, "optimizers_agree")],
)
def test_examples_run_and_say_what_was_computed(capsys: pytest.CaptureFixture[str], name: str, number: int, law: str) -> None:
    s = Setting(samples(name)[number], NUMPY, "double", 3)
    found, scope = networks.LAWS[law].found(s, networks.LAWS[law].given(s)), dict[str, Any]()
    exec(networks._code(law, s), scope)
    assert capsys.readouterr().out
    if law == "layers_agree":
        np.testing.assert_array_equal(scope["y"].data, found["result 0 in training"])
    elif law == "optimizers_agree":
        finals = [found[f"the parameter {x}{i}"] for x in "xz" for i in range(3)]
        for p, y in zip(scope["params"], finals, strict=True):
            np.testing.assert_allclose(p.data, y, rtol=1e-14)
    else:
        assert scope["x0"].grad.shape == found["the gradient of x0"].shape


def test_the_example_of_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    s = Setting(networks.TRAININGS["training.mlp"][0], NUMPY, "double", 0)
    law = networks.LAWS["training_agrees"]
    exec(networks._code("training_agrees", s), {})
    printed = [float(x) for x in capsys.readouterr().out.strip().strip("[]").split(",")]
    np.testing.assert_allclose(printed, law.found(s, law.given(s))["the losses"], rtol=1e-14)
    assert printed[-1] < printed[0] / 2
