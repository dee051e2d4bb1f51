"""What optimizers compute: beside torch, for its own list of options; beside the papers; on every library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import support
from optimizers import BEYOND, CLASSES, FAMILIES, RULES, configurations, gradients, one_by_one, shapes_for, starts

import agnostic_ad as ad
from agnostic_ad import nn


# --- numbers, beside torch's --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Torch with float64 as default: it keeps eta, mu and mu_product in the default dtype. Muon's iteration runs in the parameter's."""
    library = pytest.importorskip("torch")
    before = library.get_default_dtype()
    library.set_default_dtype(library.float64)
    monkeypatch.setattr(library.Tensor, "bfloat16", lambda self: self.clone())
    yield library
    library.set_default_dtype(before)


def test_the_list_is_torchs_whole() -> None:
    names = configurations()
    assert set(names) == set(CLASSES) - BEYOND - {"ApplyIfFinite", "Lookahead", "MultiSteps"}
    assert sum(map(len, names.values())) == 91  # none is left out: SparseAdam's and LBFGS's are in tests of their own


@pytest.mark.parametrize("name", sorted(set(RULES) - BEYOND - {"SparseAdam"}))
def test_twenty_steps_beside_torch(name: str, torch: Any) -> None:
    for options in configurations()[name]:
        rng = np.random.default_rng(1)
        start = starts(name, rng)
        ours, theirs = [nn.Parameter(x) for x in start], [torch.nn.Parameter(torch.tensor(x)) for x in start]
        a, b = CLASSES[name](ours, **options), getattr(torch.optim, name)(theirs, **options)
        for _ in range(20):
            for p, q in zip(ours, theirs, strict=True):
                g = gradients(rng, p)
                p.grad, q.grad = g, torch.tensor(g)
            a.step()
            b.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9, err_msg=f"{name} {options}")


MORE = [
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"betas": (0.0, 0.5), "eps": 0.0, "decoupled_weight_decay": True, "weight_decay": 0.2}),
    ("NAdam", {"momentum_decay": 0.1, "decoupled_weight_decay": True, "weight_decay": 0.2}),
    ("RAdam", {"betas": (0.5, 0.6), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("ASGD", {"t0": 3, "lambd": 0.1, "alpha": 0.5, "lr": 0.1}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "alpha": 0.3, "maximize": True}),
    ("Rprop", {"etas": (0.3, 1.5), "step_sizes": (0.005, 0.02)}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.5, "maximize": True}),
    ("Adafactor", {"eps": (1e-2, 0.5), "d": 3.0, "lr": 0.5}),
    ("Muon", {"adjust_lr_fn": "match_rms_adamw", "nesterov": False, "ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5)}),
]


@pytest.mark.parametrize(("name", "options"), MORE, ids=[name for name, _ in MORE])
def test_further_options_beside_torch(name: str, options: Any, torch: Any) -> None:
    rng = np.random.default_rng(2)
    start = starts(name, rng)
    ours, theirs = [nn.Parameter(x) for x in start], [torch.nn.Parameter(torch.tensor(x)) for x in start]
    a, b = CLASSES[name](ours, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(20):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = None if (step + i) % 5 == 0 else gradients(rng, p)  # not every parameter has one at every step
            p.grad, q.grad = g, None if g is None else torch.tensor(g)
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9)


def to_numpy(x: Any) -> Any:
    return ad.trees.map_tree(lambda v: v.numpy().copy() if hasattr(v, "numpy") else v, x)


@pytest.mark.parametrize("name", sorted(set(RULES) - BEYOND - {"SparseAdam"}))
def test_states_move_both_ways(name: str, torch: Any) -> None:
    """Each goes on from the other's state as the other does itself."""
    options = {"SGD": {"momentum": 0.9, "dampening": 0.1}, "RMSprop": {"momentum": 0.9, "centered": True}, "Adam": {"amsgrad": True}}.get(
        name, {}
    )
    rng = np.random.default_rng(3)
    start = starts(name, rng)

    def steps(params: list[Any], optimizer: Any, convert: Any, seed: int) -> None:
        draw = np.random.default_rng(seed)
        for _ in range(4):
            for p, x in zip(params, start, strict=True):
                p.grad = convert(gradients(draw, x))
            optimizer.step()

    p, q = [nn.Parameter(x) for x in start], [torch.nn.Parameter(torch.tensor(x)) for x in start]
    a, b = CLASSES[name](p, **options), getattr(torch.optim, name)(q, **options)
    steps(p, a, np.asarray, 0)
    steps(q, b, torch.tensor, 0)
    p2 = [nn.Parameter(x.detach().numpy().copy()) for x in q]
    q2 = [torch.nn.Parameter(torch.tensor(x.data)) for x in p]
    a2, b2 = CLASSES[name](p2), getattr(torch.optim, name)(q2)
    a2.load_state_dict(to_numpy(b.state_dict()))
    b2.load_state_dict(ad.trees.map_tree(lambda v: torch.tensor(v) if isinstance(v, np.ndarray) else v, a.state_dict()))
    for params, optimizer, convert in ((p, a, np.asarray), (q, b, torch.tensor), (p2, a2, np.asarray), (q2, b2, torch.tensor)):
        steps(params, optimizer, convert, 1)
    for w, x, y, z in zip(p, q, p2, q2, strict=True):
        for other in (x.detach().numpy(), y.data, z.detach().numpy()):
            np.testing.assert_allclose(w.data, other, rtol=1e-9)
    ours, theirs = a2.state_dict(), b.state_dict()
    assert {k: set(v) - {"step"} for k, v in ours["state"].items()} == {k: set(v) - {"step"} for k, v in theirs["state"].items()}
    assert set(ours["param_groups"][0]) == set(theirs["param_groups"][0])


def test_muon_is_torchs_to_the_precision_of_bfloat16() -> None:
    torch = pytest.importorskip("torch")
    x, g = np.random.default_rng(0).normal(size=(2, 6, 4))
    p, q = nn.Parameter(x), torch.nn.Parameter(torch.tensor(x))
    p.grad, q.grad = g, torch.tensor(g)
    nn.optim.Muon([p], lr=1.0).step()
    torch.optim.Muon([q], lr=1.0).step()
    np.testing.assert_allclose(p.data, q.detach().numpy(), atol=0.03)  # eight bits, five times


def test_sparse_adam_leaves_rows_alone(torch: Any) -> None:
    for options in ({}, *configurations()["SparseAdam"]):
        rng = np.random.default_rng(4)
        x = rng.normal(size=(6, 3))
        p, q = nn.Parameter(x), torch.nn.Parameter(torch.tensor(x))
        a, b = nn.optim.SparseAdam([p], **options), torch.optim.SparseAdam([q], **options)
        for step in range(20):
            g = rng.normal(size=x.shape) * (rng.uniform(size=(6, 1)) < 0.4)
            g[0] = 0
            g[1] = step + 1.0  # a gradient without any row is one that torch skips
            p.grad, q.grad = g, torch.tensor(g).to_sparse(1)
            a.step()
            b.step()
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-9)
        np.testing.assert_array_equal(p.data[0], x[0])
    with pytest.raises(TypeError, match="sparse_adam is defined for real parameters; this one is complex"):
        nn.optim.SparseAdam([nn.Parameter(np.ones(2, "complex128"))]).rule().init(np.ones(2, "complex128"))


LBFGS = [
    {},
    {"lr": 0.01},
    {"lr": 0.1, "max_eval": 5, "history_size": 1, "max_iter": 10},
    {"tolerance_grad": 10.0},
    {"tolerance_change": 1.0},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 7},
    {"line_search_fn": "strong_wolfe", "max_iter": 3, "max_eval": 4, "lr": 20.0},
    {"line_search_fn": "strong_wolfe", "lr": 1e-3, "max_eval": 3},
]


@pytest.mark.parametrize("kind", ["float64", "complex128"])
def test_lbfgs_beside_torch(kind: str, torch: Any) -> None:
    for options in (*LBFGS, *configurations()["LBFGS"]):
        rng = np.random.default_rng(5)
        start = [gradients(rng, np.zeros(s, kind)) for s in ((2, 2), (3,))]

        def loss_of(a: Any, b: Any) -> Any:
            first, second = (abs(x) ** 2 for x in (a, b))
            return ((first - 1) ** 2).sum() * 3 + (second * abs(b - 2) ** 2).sum() + first.sum() * second.sum() * 0.1

        def closure(params: Any, optimizer: Any, count: list[int]) -> Any:
            def run() -> Any:
                count.append(1)
                optimizer.zero_grad()
                loss = loss_of(*params)
                loss.backward()
                return loss

            return run

        ours, theirs = [nn.Parameter(x) for x in start], [torch.nn.Parameter(torch.tensor(x)) for x in start]
        a, b = nn.optim.LBFGS(ours, **options), torch.optim.LBFGS(theirs, **options)
        n: list[int] = []
        m: list[int] = []
        for step in range(3):
            if step == 2:
                a.load_state_dict(to_numpy(b.state_dict()))
            la, lb = a.step(closure(ours, a, n)), b.step(closure(theirs, b, m))
            np.testing.assert_allclose(float(la), lb.item(), rtol=1e-9, atol=1e-14)
        assert len(n) == len(m)
        for p, q in zip(ours, theirs, strict=True):
            # 1e-8: dozens of iterations near the minimum, each a quotient of small differences
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-8, atol=1e-8)


def test_decay_in_the_loss_and_in_the_optimizer() -> None:
    x = np.random.default_rng(15).normal(size=(4, 3))
    for cls in (nn.optim.SGD, nn.optim.Adam):
        p, q = (nn.Parameter(x) for _ in range(2))
        a, b = cls([p], lr=0.1), cls([q], lr=0.1, weight_decay=0.3)
        for _ in range(3):
            for v, o, decay in ((p, a, 0.3), (q, b, 0.0)):
                o.zero_grad()
                ((v**3).sum() + 0.5 * decay * (v * v).sum()).backward()
                o.step()
        np.testing.assert_allclose(p.data, q.data, rtol=1e-12)
    w = nn.Parameter(x)
    w.grad = 0 * x
    nn.optim.AdamW([w], lr=0.1, weight_decay=0.3).step()
    np.testing.assert_allclose(w.data, x * (1 - 0.1 * 0.3), rtol=1e-14)


@pytest.mark.parametrize("name", sorted(RULES))
def test_devices_stay(name: str) -> None:
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    rng = np.random.default_rng(16)
    params = [nn.Parameter(strict.asarray(rng.normal(size=s), device=device)) for s in shapes_for(name)]
    optimizer, rule = RULES[name](params), RULES[name].rule()
    pure = [p.data for p in params]
    state = rule.init(pure)
    for _ in range(3):
        grads = [strict.asarray(rng.normal(size=p.shape), device=device) for p in params]
        one_by_one(optimizer, params, grads)
        pure, state = rule.update(grads, state, pure)
    arrays = [x for s in optimizer.state.values() for x in s.values() if hasattr(x, "device")]
    assert {x.device for x in (*arrays, *pure, *ad.trees.leaves(state), *(p.data for p in params))} == {device}
    again = RULES[name](params)
    again.load_state_dict(optimizer.state_dict())
    assert {x.device for s in again.state.values() for x in s.values() if hasattr(x, "device")} <= {device}


def test_states_may_be_forgotten() -> None:
    p = nn.Parameter(np.ones(2))
    optimizer = nn.optim.Adam([p], lr=0.1)
    for forget in (optimizer.state.clear, lambda: setattr(optimizer, "state", {})):
        one_by_one(optimizer, [p], [np.ones(2)])
        one_by_one(optimizer, [p], [np.ones(2)])
        assert optimizer.state[p]["step"] == 2
        forget()
    one_by_one(optimizer, [p], [np.ones(2)])
    assert optimizer.state[p]["step"] == 1 and p.data == pytest.approx(np.full(2, 0.5))


# --- beyond torch: the papers' formulas -----------------------------------------------------------------------------------------------------
def lion(w: Any, g: Any, t: int, s: Any) -> Any:
    u = np.sign(0.9 * s["m"] + 0.1 * g)
    s["m"] = 0.99 * s["m"] + 0.01 * g
    return w - 0.1 * (u + 0.3 * w)


def lamb(w: Any, g: Any, t: int, s: Any) -> Any:
    s["m"], s["v"] = 0.9 * s["m"] + 0.1 * g, 0.999 * s["v"] + 0.001 * g**2
    u = s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-6) + 0.3 * w
    return w - 0.1 * np.linalg.norm(w) / np.linalg.norm(u) * u


def lars(w: Any, g: Any, t: int, s: Any) -> Any:
    local = 1e-3 * np.linalg.norm(w) / (np.linalg.norm(g) + 0.3 * np.linalg.norm(w))
    s["m"] = 0.9 * s["m"] + 0.1 * local * (g + 0.3 * w)
    return w - s["m"]


def adabelief(w: Any, g: Any, t: int, s: Any) -> Any:
    s["m"] = 0.9 * s["m"] + 0.1 * g
    s["v"] = 0.999 * s["v"] + 0.001 * (g - s["m"]) ** 2 + 1e-16
    return w - 0.1 * s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-16)


def yogi(w: Any, g: Any, t: int, s: Any) -> Any:
    if t == 1:
        s["m"], s["v"] = s["m"] + 1e-6, s["v"] + 1e-6
    s["m"] = 0.9 * s["m"] + 0.1 * g
    s["v"] = s["v"] - 0.001 * np.sign(s["v"] - g**2) * g**2
    return w - 0.1 * s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-3)


def adan(w: Any, g: Any, t: int, s: Any) -> Any:
    d = g - s["g"] if t > 1 else 0 * g
    s["g"] = g
    s["m"], s["v"] = 0.98 * s["m"] + 0.02 * g, 0.92 * s["v"] + 0.08 * d
    s["n"] = 0.99 * s["n"] + 0.01 * (g + 0.92 * d) ** 2
    rate = 0.1 / (np.sqrt(s["n"] / (1 - 0.99**t)) + 1e-8)
    return (w - rate * (s["m"] / (1 - 0.98**t) + 0.92 * s["v"] / (1 - 0.92**t))) / (1 + 0.1 * 0.3)


def novograd(w: Any, g: Any, t: int, s: Any) -> Any:
    n = (g**2).sum()
    s["v"] = n if t == 1 else 0.98 * s["v"] + 0.02 * n
    s["m"] = 0.95 * s["m"] + g / (np.sqrt(s["v"]) + 1e-8) + 0.3 * w
    return w - 0.1 * s["m"]


PAPERS = {
    "Lion": (lion, {"weight_decay": 0.3}),
    "LAMB": (lamb, {"weight_decay": 0.3}),
    "LARS": (lars, {"weight_decay": 0.3}),
    "AdaBelief": (adabelief, {}),
    "Yogi": (yogi, {}),
    "Adan": (adan, {"weight_decay": 0.3}),
    "NovoGrad": (novograd, {"weight_decay": 0.3}),
}


@pytest.mark.parametrize("name", sorted(BEYOND))
def test_twenty_steps_beside_the_papers(name: str, backend: support.Backend) -> None:
    by_hand, options = PAPERS[name]
    rng = np.random.default_rng(6)
    w = rng.normal(size=(4, 3))
    p, state = nn.Parameter(backend.asarray(w)), dict.fromkeys("mvgn", 0 * w)
    optimizer = CLASSES[name]([p], lr=0.1, **options)
    for t in range(1, 21 if backend.name != "dask" else 4):
        g = rng.normal(size=w.shape)
        p.grad = backend.asarray(g)
        optimizer.step()
        w = by_hand(w, g, t, state)
        np.testing.assert_allclose(backend.numpy(p.data), w, rtol=1e-9)


def test_ratios_of_norms_where_one_is_zero() -> None:
    for name in ("LAMB", "LARS"):
        p = nn.Parameter(np.zeros(2))
        optimizer = CLASSES[name]([p], lr=0.5, eps=0.0 if name == "LARS" else 1e-6)
        p.grad = np.zeros(2)
        optimizer.step()
        assert p.data.tolist() == [0, 0]
        p.grad = np.ones(2)
        optimizer.step()
        assert np.isfinite(p.data).all() and (p.data < 0).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_library_gives_the_same(name: str, backend: support.Backend) -> None:
    rng = np.random.default_rng(7)
    options = {"SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, "Adam": {"amsgrad": True}}.get(name, {})
    start = [x for x in starts(name, rng) if backend.name != "dask" or x.ndim == 2]
    ours, host = [nn.Parameter(backend.asarray(x)) for x in start], [nn.Parameter(x) for x in start]
    a, b = CLASSES[name](ours, **options), CLASSES[name](host, **options)
    for _ in range(8 if backend.name in ("numpy", "torch", "array_api_strict") else 2):
        for p, q in zip(ours, host, strict=True):
            g = gradients(rng, q)
            p.grad, q.grad = backend.asarray(g), g
        a.step()
        b.step()
    for p, q, x in zip(ours, host, start, strict=True):
        assert type(p.data) is type(backend.asarray(x))
        np.testing.assert_allclose(backend.numpy(p.data), q.data, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(RULES))
def test_single_precision_stays(name: str) -> None:
    rng = np.random.default_rng(8)
    shapes = shapes_for(name)
    single = [nn.Parameter(rng.normal(size=s).astype("float32")) for s in shapes]
    double = [nn.Parameter(p.data.astype("float64")) for p in single]
    a, b = RULES[name](single), RULES[name](double)
    rule = RULES[name].rule(lr=np.asarray(a.defaults["lr"]))
    pure = [p.data.copy() for p in single]
    state = rule.init(pure)
    for _ in range(5):
        for p, q in zip(single, double, strict=True):
            p.grad = rng.normal(size=p.shape).astype("float32")
            q.grad = p.grad.astype("float64")
        pure, state = rule.update([p.grad for p in single], state, pure)
        a.step()
        b.step()
    arrays = [x for s in a.state.values() for x in s.values() if hasattr(x, "dtype")]
    assert {x.dtype.name for x in (*arrays, *pure, *ad.trees.leaves(state), *(p.data for p in single))} == {"float32"}
    for p, q, r in zip(single, double, pure, strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(r, q.data, rtol=2e-4, atol=2e-6)
