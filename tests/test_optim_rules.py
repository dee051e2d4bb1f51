"""The pure rules: what the classes do, in any transformation."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, derivative
from optimizers import FAMILIES, RULES, gradients, one_by_one, starts

import agnostic_ad as ad
from agnostic_ad import graph, nn


# --- pure rules -----------------------------------------------------------------------------------------------------------------------------
def train(name: str, options: Any, w: Any, steps: int = 6) -> Any:
    rule = RULES[name].rule(**options)
    params, state = {"w": w}, rule.init({"w": w})
    for _ in range(steps):
        params, state = rule.update({"w": 2 * params["w"] + 0.1}, state, params)
    return ad.namespace(params["w"]).sum(params["w"] ** 2)


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_rule_does_what_the_class_does(name: str) -> None:
    rng = np.random.default_rng(9)
    start = starts(name, rng)
    params = [nn.Parameter(x) for x in start]
    optimizer, rule = RULES[name](params, lr=0.03), RULES[name].rule(lr=0.03)
    pure = [x.copy() for x in start]
    state = rule.init(pure)
    for _ in range(5):
        grads = [gradients(rng, x) for x in pure]
        one_by_one(optimizer, params, grads)
        before, held, kept = pure, [x.copy() for x in pure], copy.deepcopy(state)
        old = state
        pure, state = rule.update(grads, state, pure)
        for x, y in zip(ad.trees.leaves([before, old]), ad.trees.leaves([held, kept]), strict=True):
            np.testing.assert_array_equal(x, y)  # nothing was changed in place
    for p, x in zip(params, pure, strict=True):
        assert_close(p.data, x, rtol=1e-12)
    for p, s in zip(params, state, strict=True):
        assert {k for k in optimizer.state[p]} == set(s)


@pytest.mark.parametrize("name", sorted(RULES))
def test_populations_and_hyper_gradients(name: str) -> None:
    w = np.random.default_rng(10).normal(size=(3, 2))
    rates = np.asarray([0.01, 0.03])
    single = [float(train(name, {"lr": r}, w)) for r in rates]
    assert_close(ad.vmap(lambda r: train(name, {"lr": r}, w))(rates), single, rtol=1e-10)
    want = [derivative(lambda r: train(name, {"lr": 0.01 + 0.01 * r}, w), x) / 0.01 for x in (0.0, 2.0)]
    found = ad.vmap(ad.grad(lambda r: train(name, {"lr": r}, w)))(rates)
    assert_close(found, want, rtol=1e-6)
    assert_close(ad.jvp(lambda r: train(name, {"lr": r}, w), (0.03,), (1.0,))[1], found[1], rtol=1e-10)
    assert np.isfinite(ad.grad(lambda x: train(name, {"lr": 0.01}, x))(w)).all()


@pytest.mark.parametrize("name", sorted(RULES))
def test_derivatives_where_no_gradient_comes(name: str) -> None:
    """An element, or a whole parameter, whose gradient is zero: no NaN."""
    w = np.random.default_rng(17).normal(size=(3, 2))

    def f(lr: Any, x: Any, mask: Any) -> Any:
        rule = RULES[name].rule(lr=lr)
        state = rule.init(x)
        for _ in range(3):
            x, state = rule.update(2 * mask * x, state, x)
        return (x**2).sum()

    for mask in (np.asarray([[0.0], [1.0], [1.0]]), np.zeros((3, 2))):
        slope, at = ad.grad(f, argnums=(0, 1))(0.1, w, mask)
        assert np.isfinite(slope) and np.isfinite(at).all()
        assert_close(slope, derivative(lambda x, mask=mask: f(0.1 + 0.01 * x, w, mask), 0.0) / 0.01, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("SGD", "momentum", 0.5),
        ("SGD", "weight_decay", 0.1),
        ("Adam", "eps", 0.1),
        ("AdamW", "weight_decay", 0.1),
        ("RMSprop", "alpha", 0.9),
        ("LARS", "trust_coefficient", 0.1),
    ],
)
def test_hyper_gradients_of_others(name: str, option: str, value: float) -> None:
    w = np.random.default_rng(11).normal(size=3)

    def f(x: Any) -> Any:
        return train(name, {"lr": 0.05, option: x}, w)

    assert_close(ad.grad(f)(value), derivative(f, value), rtol=1e-7)


def test_betas_as_arrays() -> None:
    w = np.random.default_rng(12).normal(size=3)
    betas = (np.asarray([0.5, 0.9]), np.asarray([0.9, 0.99]))
    found = ad.vmap(lambda a, b: train("Adam", {"betas": (a, b)}, w))(*betas)
    assert_close(found, [train("Adam", {"betas": pair}, w) for pair in zip(*betas, strict=True)], rtol=1e-10)


@pytest.mark.parametrize("name", FAMILIES)
def test_rules_on_every_library(name: str, backend: support.Backend) -> None:
    w = np.random.default_rng(13).normal(size=(3, 2))
    options = {"SGD": {"momentum": 0.9, "dampening": 0.1}}.get(name, {})
    want = train(name, options, w, 3)
    x = backend.asarray(w)
    assert_close(backend.numpy(train(name, options, x, 3)), want, rtol=1e-9)
    np.testing.assert_array_equal(backend.numpy(x), w)
    v = ad.Variable(x)
    loss = train(name, options, v, 3)  # Variables, and their history
    loss.backward()
    assert_close(backend.numpy(loss.data), want, rtol=1e-9)
    assert_close(backend.numpy(v.grad), ad.grad(lambda y: train(name, options, y, 3))(w), rtol=1e-8)


def test_rules_inside_graphs_and_jit() -> None:
    w = np.random.default_rng(14).normal(size=(3, 2))
    for name in FAMILIES:
        rule = RULES[name].rule(lr=0.1)

        def step(x: Any, state: Any, rule: Any = rule) -> Any:
            return rule.update(2 * x, state, x)

        state = rule.init(w)
        for _ in range(2):
            want = step(w, state)
        found = graph.capture(step, w, state)(w, state)
        for x, y in zip(ad.trees.leaves(found), ad.trees.leaves(want), strict=True):
            assert_close(x, y, rtol=1e-12)
    jax = pytest.importorskip("jax")
    rule = nn.optim.RAdam.rule(lr=0.1)
    x, state = w, rule.init(w)
    y = jax.numpy.asarray(w)
    kept, run = rule.init(y), jax.jit(lambda y, s: rule.update(2 * y, s, y))
    for _ in range(8):  # its rule changes at the sixth step
        x, state = rule.update(2 * x, state, x)
        y, kept = run(y, kept)
    assert_close(np.asarray(y), x, rtol=1e-9)


def test_what_rules_refuse() -> None:
    for call, text in [
        (lambda: nn.optim.Adam.rule(lr=-1.0), "Adam: invalid lr: -1.0; 0 or more is wanted"),
        (lambda: nn.optim.LBFGS.rule(), "LBFGS has no pure rule"),
        (lambda: nn.optim.SGD.rule().init([1.0]), "trees of arrays, not of float"),
        (lambda: nn.optim.SGD.rule().init(np.arange(3)), "sgd: parameters are floating or complex, not int64"),
        (lambda: nn.optim.Muon.rule().init(np.ones((2, 2), "complex64")), "muon is defined for real parameters; this one is complex"),
        (lambda: nn.optim.SGD.rule().update([np.ones(1)], [{}], {"a": np.ones(1)}), "a"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()
    assert repr(nn.optim.SGD.rule(lr=0.5)).startswith("<rule sgd(lr=0.5, momentum=0")
