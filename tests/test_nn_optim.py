"""Optimizers: groups, closures and hooks; whose memory they write into; wrappers; what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, derivative

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.optim.optimizer import OptimizerStateError


# --- groups, closures, hooks ----------------------------------------------------------------------------------------------------------
def test_groups_and_names() -> None:
    a, b, c = (nn.Parameter([1.0]) for _ in range(3))
    optimizer = nn.optim.SGD([{"params": [a, b], "lr": 1.0}, {"params": c}], lr=0.1)
    optimizer.add_param_group({"params": [nn.Parameter([2.0])], "momentum": 0.5})
    assert [g["lr"] for g in optimizer.param_groups] == [1.0, 0.1, 0.1] and optimizer.param_groups[2]["momentum"] == 0.5
    for p in (a, c):
        p.grad = np.ones(1, "float32")
    optimizer.param_groups[1]["lr"] = 0.5
    optimizer.step()
    assert a.data.tolist() == [0.0] and b.data.tolist() == [1.0] and c.data.tolist() == [0.5]
    named = nn.optim.Adam(nn.Linear(2, 2).named_parameters())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    assert repr(optimizer).startswith("SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n")


def test_closure_and_zero_grad() -> None:
    p = nn.Parameter([3.0])
    optimizer = nn.optim.SGD([p], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with ad.no_grad():
        assert float(optimizer.step(closure)) == 9.0
    assert p.data.tolist() == [1.5] and p.grad.tolist() == [6.0]
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0]
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    assert p.data.tolist() == [1.5]


def test_hooks() -> None:
    p = nn.Parameter([1.0])
    p.grad = np.ones(1, "float32")
    optimizer = nn.optim.SGD([p], lr=0.5)
    seen: list[Any] = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(("before", o is optimizer, p.data.tolist())))
    handle = optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(("after", args == (optimizer,), p.data.tolist())))
    optimizer.step()
    assert seen == [("before", True, [1.0]), ("after", True, [0.5])]
    handle.remove()
    optimizer.step()
    assert len(seen) == 3
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((*args, lambda: 7), kwargs))
    assert optimizer.step() == 7
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("one"))
    optimizer.register_state_dict_pre_hook(lambda o: seen.append("two"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "more": 1})
    state = optimizer.state_dict()
    assert seen[-2:] == ["two", "one"] and state["more"] == 1
    state["param_groups"][0]["lr"] = 0.125
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(state.pop("more")))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o.param_groups[0]["lr"]))
    optimizer.load_state_dict(state)
    assert seen[-2:] == [1, 0.125] and state["more"] == 1
    with pytest.raises(TypeError, match=r"a hook before a step returns None or \(args, kwargs\), not 3"):
        optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
        optimizer.step()


def test_an_optimizer_of_ones_own() -> None:
    class Half(nn.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.5) -> None:
            super().__init__(params, {"lr": lr})

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    p.data = p.data - group["lr"] * p.grad
                    self.state[p]["steps"] = self.state[p].get("steps", 0) + 1

    p = nn.Parameter([1.0])
    p.grad = np.ones(1, "float32")
    optimizer, seen = Half([p]), list[int]()
    optimizer.register_step_post_hook(lambda *args: seen.append(1))
    optimizer.step()
    assert p.data.tolist() == [0.5] and seen == [1]
    optimizer.load_state_dict(optimizer.state_dict())
    assert optimizer.state[p] == {"steps": 1}
    with pytest.raises(TypeError, match="Half has no pure rule"):
        Half.rule()
    with pytest.raises(NotImplementedError, match="Optimizer has neither a formula nor a step"):
        nn.optim.Optimizer([p], {}).step()


# --- whose memory is written into -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "make", [lambda p: nn.optim.SGD(p, lr=0.1, momentum=0.9), nn.optim.Adam, nn.optim.LAMB], ids=["SGD", "Adam", "LAMB"]
)
@pytest.mark.parametrize("size", [3, 70_000])
def test_what_others_hold_is_never_overwritten(backend: support.Backend, make: Any, size: int) -> None:
    start = backend.asarray(np.ones(size))
    p = nn.Parameter(start)
    optimizer = make([p])

    def step() -> None:
        p.grad = backend.asarray(np.linspace(1.0, 2.0, size))
        optimizer.step()

    step()
    assert (backend.numpy(start) == 1).all()  # the array that the user gave
    loss = (p * p).sum()  # a graph that has saved the parameter
    held, state = p.data, optimizer.state_dict()
    kept = {k: backend.numpy(v).copy() for k, v in state["state"][0].items() if k != "step"}
    values = backend.numpy(held).copy()
    step()
    np.testing.assert_array_equal(backend.numpy(held), values)
    assert not np.allclose(backend.numpy(p.data), values)
    for k, v in kept.items():
        np.testing.assert_array_equal(backend.numpy(state["state"][0][k]), v)
    p.grad = None
    loss.backward()
    np.testing.assert_allclose(backend.numpy(p.grad), 2 * values)


LOOKS = {
    "slice": lambda p: p.data[1:2],
    "transposed": lambda p: p.data.T,
    "Variable": lambda p: p[1:2].data,
    "detached": lambda p: p.detach().data,
}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("look", LOOKS)
def test_looks_into_a_parameter_do_not_change(library: str, look: str) -> None:
    backend = support.Backend(library)
    a, b = (nn.Parameter(backend.asarray(np.ones((3, 3)))) for _ in range(2))
    optimizer = nn.optim.Adam([a, b])
    for p in (a, b):
        p.grad = backend.asarray(np.ones((3, 3)))
    optimizer.step()
    seen = LOOKS[look](a)
    before = backend.numpy(seen).copy()
    optimizer.step()
    np.testing.assert_array_equal(backend.numpy(seen), before)
    assert (backend.numpy(a.data) < before.min()).all() and (backend.numpy(b.data) == backend.numpy(a.data)).all()


def test_steps_are_in_place_where_nobody_looks() -> None:
    p, q = nn.Parameter(np.ones((300, 200))), nn.Parameter(np.ones(7))
    optimizer = nn.optim.Adam([p, q])
    places = set()
    for _ in range(3):
        loss = (p * p).sum() + q.sum()
        loss.backward()
        optimizer.step()
        places.add((p.data.ctypes.data, q.data.ctypes.data, optimizer.state[q]["exp_avg"].ctypes.data))
        optimizer.zero_grad()
    assert len(places) == 1
    assert p.data.base is q.data.base  # one piece of memory


def test_a_view_is_somebody_elses_memory() -> None:
    whole = np.ones(6)
    p = nn.Parameter(whole[::2])
    p.grad = np.ones(3)
    nn.optim.SGD([p], lr=1.0).step()
    assert p.data.tolist() == [0] * 3 and whole.tolist() == [1] * 6


@pytest.mark.parametrize("event", ["none", "new value", "new dtype", "new state", "late gradient", "amsgrad", "group", "copy", "pickle"])
def test_what_may_happen_between_steps(event: str) -> None:
    """A parameter alone in an optimizer, and among others: the same, whatever happens."""
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = [(3, 2), (), (4,), (0,), (2, 2)]
    start, grads = ([rng.normal(size=s) for s in shapes] for _ in range(2))
    together = [nn.Parameter(x.copy()) for x in start]
    alone = [nn.Parameter(x.copy()) for x in start]
    optimizers = [nn.optim.Adam(together, lr=0.1), *(nn.optim.Adam([p], lr=0.1) for p in alone)]

    def step() -> None:
        for p, q, g in zip(together, alone, grads, strict=True):
            p.grad, q.grad = (None if g is None else np.asarray(g, p.dtype) for _ in range(2))
        for optimizer in optimizers:
            optimizer.step()

    late = grads[1]
    if event == "late gradient":
        grads[1] = None
    step()
    step()
    if event == "new value":
        together[2].data, alone[2].data = np.full(4, 5.0), np.full(4, 5.0)
    elif event == "new dtype":
        together[0].data, alone[0].data = (p.data.astype("float32") for p in (together[0], alone[0]))
    elif event == "new state":
        for o, p in zip((optimizers[0], optimizers[5]), (together[4], alone[4]), strict=True):
            o.state[p]["exp_avg"] = np.ones((2, 2))
    elif event == "late gradient":
        grads[1] = late
    elif event == "amsgrad":
        for o in optimizers:
            o.param_groups[0]["amsgrad"] = True
    elif event == "group":
        p, q = (nn.Parameter(np.ones(3)) for _ in range(2))
        optimizers[0].add_param_group({"params": p})
        optimizers.append(nn.optim.Adam([q], lr=0.1))
        alone.append(q)
        together.append(p)
        grads.append(np.ones(3))
    elif event in ("copy", "pickle"):
        group = (optimizers[0], together)
        optimizers[0], together = copy.deepcopy(group) if event == "copy" else pickle.loads(pickle.dumps(group))
    step()
    step()
    for p, q in zip(together, alone, strict=True):
        assert p.dtype == q.dtype
        np.testing.assert_allclose(p.data, q.data, rtol=1e-6 if p.dtype == "float32" else 1e-14)
    if event == "new state":
        np.testing.assert_allclose(optimizers[0].state[together[4]]["exp_avg"], 0.81 + 0.19 * grads[4], rtol=1e-14)
    if event == "new dtype":
        assert together[0].dtype == "float32" and optimizers[0].state[together[0]]["exp_avg"].dtype == "float32"


# --- wrappers ---------------------------------------------------------------------------------------------------------------------------------
def quadratic(optimizer: Any, p: Any, rng: np.random.Generator, steps: int = 7) -> Any:
    values = []
    for _ in range(steps):
        p.grad = rng.normal(size=p.shape) + p.data
        optimizer.step()
        values.append(p.data.copy())
    return np.stack(values)


def pure_quadratic(rule: Any, w: Any, rng: np.random.Generator, steps: int = 7) -> Any:
    state, values = rule.init(w), []
    for _ in range(steps):
        w, state = rule.update(rng.normal(size=w.shape) + w, state, w)
        values.append(w)
    return np.stack(values)


WRAPPERS = {"MultiSteps": (3,), "ApplyIfFinite": (2,), "Lookahead": (3, 0.25)}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_and_their_pure_forms(name: str) -> None:
    w, cls, args = np.asarray([1.0, 2.0, 3.0]), getattr(nn.optim, name), WRAPPERS[name]
    p = nn.Parameter(w)
    optimizer = cls(nn.optim.Adam([p], lr=0.1), *args)
    values = quadratic(optimizer, p, np.random.default_rng(0))
    pure = cls.rule(nn.optim.Adam.rule(lr=0.1), *args)
    np.testing.assert_allclose(pure_quadratic(pure, w, np.random.default_rng(0)), values, rtol=1e-12)
    changes = (np.diff(np.concatenate([w[None], values]), axis=0) != 0).any(axis=1)
    assert changes.tolist() == ([False, False, True, False, False, True, False] if name == "MultiSteps" else [True] * 7)

    def last(lr: Any) -> Any:
        rule, x = cls.rule(nn.optim.Adam.rule(lr=lr), *args), w
        state = rule.init(x)
        for _ in range(4):
            x, state = rule.update(2 * x, state, x)
        return x.sum()

    assert_close(ad.vmap(last)(np.asarray([0.1, 0.2])), [last(0.1), last(0.2)], rtol=1e-12)
    assert_close(ad.grad(last)(0.1), derivative(last, 0.1), rtol=1e-7)
    # the state goes into a second one, in the middle
    q = nn.Parameter(p.data.copy())
    other = cls(nn.optim.Adam([q], lr=0.5), *args)
    other.load_state_dict(optimizer.state_dict())
    np.testing.assert_array_equal(quadratic(optimizer, p, np.random.default_rng(1), 5), quadratic(other, q, np.random.default_rng(1), 5))
    assert other.param_groups[0]["lr"] == 0.1
    nn.optim.lr_scheduler.ExponentialLR(other, 0.5).step()
    assert other.optimizer.param_groups[0]["lr"] == 0.05
    other.add_param_group({"params": nn.Parameter(np.ones(2))})
    other.step()
    seen: list[Any] = []
    other.register_state_dict_post_hook(lambda o, state: seen.append(sorted(state)))
    other.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    other.load_state_dict(other.state_dict())
    assert seen == [["param_groups", "state", "wrapper"], "loaded"]
    twin, r = copy.deepcopy((optimizer, p))
    np.testing.assert_array_equal(quadratic(optimizer, p, np.random.default_rng(2), 4), quadratic(twin, r, np.random.default_rng(2), 4))
    with pytest.raises(TypeError, match=f"{name} wraps an optimizer, not a list"):
        cls([p], *args)
    with pytest.raises(ValueError, match="is a whole number, 1 or more, not 0"):
        cls(optimizer, 0)


def test_several_gradients_are_one_batch() -> None:
    grads = np.random.default_rng(0).normal(size=(4, 3))
    p, q = (nn.Parameter(np.ones(3)) for _ in range(2))
    several, once = nn.optim.MultiSteps(nn.optim.Adam([p]), 4), nn.optim.Adam([q])
    for g in grads:
        p.grad = g
        several.step()
    q.grad = grads.mean(axis=0)
    once.step()
    np.testing.assert_allclose(p.data, q.data, rtol=1e-14)


def test_steps_left_out_for_infinities() -> None:
    p = nn.Parameter(np.zeros(1))
    optimizer = nn.optim.ApplyIfFinite(nn.optim.SGD([p], lr=1.0), 2)
    rule, w = nn.optim.ApplyIfFinite.rule(nn.optim.SGD.rule(lr=1.0), 2), np.zeros(1)
    state, seen = rule.init(w), []
    for g in (1.0, np.inf, np.nan, 1.0, np.inf, np.inf, np.inf, np.inf):
        p.grad = np.asarray([g])
        assert optimizer.step(lambda: 5) == 5
        w, state = rule.update(p.grad, state, w)
        assert p.data == w and optimizer.notfinite_count == state["notfinite_count"]
        seen.append(p.data.item())
    assert seen == [-1, -1, -1, -2, -2, -2, -np.inf, -np.inf]
    assert optimizer.total_notfinite == state["total_notfinite"] == 6


def test_adaptive_clipping(backend: support.Backend) -> None:
    w, g = np.asarray([[3.0, 4.0], [0.0, 0.0], [30.0, 40.0]]), np.asarray([[6.0, 8.0], [3.0, 4.0], [0.3, 0.4]])
    p, q, r = nn.Parameter(backend.asarray(w)), nn.Parameter(backend.asarray(w[0])), nn.Parameter(backend.asarray(w))
    p.grad, q.grad = backend.asarray(g), backend.asarray(g[0])
    nn.optim.adaptive_clip_grad_([p, q, r], clip_factor=0.1, eps=0.5)
    np.testing.assert_allclose(backend.numpy(p.grad), [[0.3, 0.4], [0.03, 0.04], [0.3, 0.4]], rtol=1e-14)
    np.testing.assert_allclose(backend.numpy(q.grad), [0.3, 0.4], rtol=1e-14)
    assert r.grad is None


# --- what is refused --------------------------------------------------------------------------------------------------------------------------
def test_what_optimizers_refuse() -> None:
    p, q = nn.Parameter([1.0]), nn.Parameter([1.0])
    for call, text in [
        (lambda: nn.optim.SGD([]), "empty parameter list"),
        (lambda: nn.optim.SGD(p), "takes a list of parameters"),
        (lambda: nn.optim.SGD([{p}]), "changes parameters, not set"),
        (lambda: nn.optim.SGD([{"params": {p}}]), "given in a list: the order of a set differs"),
        (lambda: nn.optim.SGD([{"params": [p]}, 3]), "a parameter group is a dict, not int"),
        (lambda: nn.optim.SGD([{"lr": 3}]), r"under 'params'; this one has \['lr'\]"),
        (lambda: nn.optim.SGD([1.0]), "changes parameters, not float"),
        (lambda: nn.optim.SGD([p * 2]), "leaf Variables only"),
        (lambda: nn.optim.SGD([p, p]), "appears twice"),
        (lambda: nn.optim.SGD([{"params": p}, {"params": [p]}]), "appears twice"),
        (lambda: nn.optim.SGD([("a", p), q]), "either all parameters of an optimizer come with names, or none"),
        (lambda: nn.optim.SGD([{"params": [("a", p)]}, {"params": [q]}]), "either all groups of an optimizer come with names, or none"),
        (lambda: nn.optim.SGD([p], lr=-1), "SGD: invalid lr: -1; 0 or more is wanted"),
        (lambda: nn.optim.SGD([{"params": p, "lr": -1}]), "SGD: invalid lr: -1"),
        (lambda: nn.optim.SGD([p], lr="fast"), "SGD: lr is a number, not str"),
        (lambda: nn.optim.SGD([p], lr=np.ones(2)), r"one number, not an array of shape \(2,\)"),
        (lambda: nn.optim.SGD([p], nesterov=True), "nesterov needs a momentum above 0"),
        (lambda: nn.optim.Adam([p], betas=(0.9, 1.0)), r"Adam: invalid betas\[1\]: 1.0; 0 or more and below 1 is wanted"),
        (lambda: nn.optim.Adam([p], eps=float("nan")), "invalid eps"),
        (lambda: nn.optim.Adam([p], weight_decay=-1), "invalid weight_decay: -1"),
        (lambda: nn.optim.Adam([p], fused=True, foreach=True), "fused and foreach cannot both be True"),
        (lambda: nn.optim.Adam([p], differentiable=True), r"differentiable=True is not supported.*Adam.rule\(lr=lr\)"),
        (lambda: nn.optim.Adadelta([p], rho=1.1), "invalid rho: 1.1; between 0 and 1 is wanted"),
        (lambda: nn.optim.Adagrad([p], lr_decay=-0.5), "invalid lr_decay: -0.5"),
        (lambda: nn.optim.Adafactor([p], eps=(-1e-30, 1e-3)), r"invalid eps\[0\]: -1e-30"),
        (lambda: nn.optim.Adafactor([p], eps=1e-3), "eps is a pair"),
        (lambda: nn.optim.Adafactor([p], d=0.0), "invalid d: 0.0; 1 or more"),
        (lambda: nn.optim.Adafactor([p], beta2_decay=0.8), "invalid beta2_decay: 0.8; 0 or less"),
        (lambda: nn.optim.NAdam([p], momentum_decay=-0.2), "invalid momentum_decay: -0.2"),
        (lambda: nn.optim.Rprop([p], etas=(1.0, 0.5)), r"invalid etas: \(1.0, 0.5\); one between 0 and 1, and one above 1"),
        (lambda: nn.optim.RMSprop([p], momentum=-1.0), "invalid momentum: -1.0"),
        (lambda: nn.optim.Muon([p]), r"matrices only; a parameter has shape \(1,\)"),
        (lambda: nn.optim.Muon([p], adjust_lr_fn="arbitrary"), "'original', 'match_rms_adamw' or None, not 'arbitrary'"),
        (lambda: nn.optim.LBFGS([{"params": p}, {"params": q}]), "LBFGS has one group"),
        (lambda: nn.optim.LBFGS([p], line_search_fn="weak"), "'strong_wolfe' or None, not 'weak'"),
        (lambda: nn.optim.LBFGS([p]).step(), r"write optimizer.step\(closure\)"),
        (
            lambda: nn.optim.SGD([p]).load_state_dict(nn.optim.SGD([p, q]).state_dict()),
            r"groups of sizes \[2\], the optimizer of sizes \[1\]",
        ),
    ]:
        with pytest.raises((ValueError, TypeError, KeyError), match=text):
            call()
    with pytest.raises(OptimizerStateError):
        nn.optim.SGD([p]).load_state_dict({"state": {}, "param_groups": []})
    z = nn.Parameter(np.ones(1, "complex64"))
    z.grad = z.data
    with pytest.raises(TypeError, match="adafactor is defined for real parameters; this one is complex"):
        nn.optim.Adafactor([z]).step()
