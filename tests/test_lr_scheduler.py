"""Schedules of learning rates, and averages of models: beside torch's, to the last bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.optim import lr_scheduler, swa_utils

STEPS = 30


class Falling:
    """A callable object: its attributes are part of a scheduler's state."""

    def __init__(self) -> None:
        self.base = 0.9

    def __call__(self, step: float) -> float:
        return self.base**step


# name -> (scheduler of (module, optimizer)); the module is ours or torch's
SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "LambdaLR": lambda m, o: m.LambdaLR(o, lambda step: 1 / (1 + step)),
    "LambdaLR of objects": lambda m, o: m.LambdaLR(o, [Falling(), lambda step: 0.5**step]),
    "MultiplicativeLR": lambda m, o: m.MultiplicativeLR(o, lambda step: 0.95 + step / 1000),
    "StepLR": lambda m, o: m.StepLR(o, 4, 0.3),
    "MultiStepLR": lambda m, o: m.MultiStepLR(o, [3, 7, 7, 20], gamma=0.7),
    "ConstantLR": lambda m, o: m.ConstantLR(o, factor=0.3, total_iters=6),
    "LinearLR": lambda m, o: m.LinearLR(o, start_factor=0.1, end_factor=0.7, total_iters=9),
    "LinearLR down": lambda m, o: m.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=9),
    "ExponentialLR": lambda m, o: m.ExponentialLR(o, 0.93),
    "PolynomialLR": lambda m, o: m.PolynomialLR(o, total_iters=12, power=1.7),
    "CosineAnnealingLR": lambda m, o: m.CosineAnnealingLR(o, 7, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, eta_min=0.01),
    "CosineAnnealingWarmRestarts longer": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda m, o: m.CyclicLR(o, 0.01, 0.5, step_size_up=4, step_size_down=7),
    "CyclicLR triangular2": lambda m, o: m.CyclicLR(
        o, [0.01, 0.02], [0.5, 0.4], 3, mode="triangular2", base_momentum=0.7, max_momentum=0.95
    ),
    "CyclicLR exp_range": lambda m, o: m.CyclicLR(o, 0.01, 0.5, 5, mode="exp_range", gamma=0.97, cycle_momentum=False),
    "CyclicLR of a function": lambda m, o: m.CyclicLR(o, 0.01, 0.5, 5, scale_fn=Falling(), scale_mode="iterations"),
    "OneCycleLR": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=STEPS + 1),
    "OneCycleLR linear": lambda m, o: m.OneCycleLR(o, [0.5, 0.3], epochs=8, steps_per_epoch=4, anneal_strategy="linear", pct_start=0.1),
    "OneCycleLR three phases": lambda m, o: m.OneCycleLR(o, 0.5, STEPS + 1, three_phase=True, base_momentum=[0.7, 0.8], div_factor=5.0),
    "ChainedScheduler": lambda m, o: m.ChainedScheduler(
        [m.ConstantLR(o, 0.1, 4), m.ExponentialLR(o, 0.9), m.CosineAnnealingLR(o, 9), m.StepLR(o, 5)]
    ),
    "SequentialLR": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, total_iters=5), m.CosineAnnealingLR(o, 8), m.ExponentialLR(o, 0.9), m.PolynomialLR(o, 6)], [5, 12, 20]
    ),
    "SequentialLR of restarts and functions": lambda m, o: m.SequentialLR(
        o, [m.StepLR(o, 2), m.CosineAnnealingWarmRestarts(o, 4, 2), m.MultiplicativeLR(o, lambda step: 0.9), m.ConstantLR(o)], [4, 9, 20]
    ),
    "SequentialLR of chained": lambda m, o: m.SequentialLR(
        o, [m.ChainedScheduler([m.ExponentialLR(o, 0.9), m.StepLR(o, 3)]), m.LinearLR(o)], [6]
    ),
}
# a chain within a sequence steps when it is made, here as in torch
QUIET = pytest.mark.filterwarnings("ignore:.*before.*optimizer:UserWarning")
METRICS = [3.0, 2.0, 2.0, 2.0, 1.9999, 2.5, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0, math.nan, 0.1] + [0.5] * 8
PLATEAUS: list[dict[str, Any]] = [
    {"patience": 2},
    {"patience": 1, "cooldown": 3, "factor": 0.5, "min_lr": 0.01},
    {"mode": "max", "patience": 3, "threshold": 0.1, "min_lr": [0.01, 0.02]},
    {"mode": "max", "patience": 0, "threshold": 0.1, "threshold_mode": "abs"},
    {"threshold_mode": "abs", "patience": 1, "threshold": 0.5, "eps": 1e-3, "factor": 0.9},
]


def ours(kind: str = "SGD") -> Any:
    options = {"momentum": 0.9} if kind == "SGD" else {}
    groups = [{"params": [nn.Parameter([1.0])]}, {"params": [nn.Parameter([1.0])], "lr": 0.3}]
    return getattr(nn.optim, kind)(groups, lr=0.2, **options)


def theirs(torch: Any, kind: str = "SGD") -> Any:
    options = {"momentum": 0.9} if kind == "SGD" else {}
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))]}, {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.3}]
    return getattr(torch.optim, kind)(groups, lr=0.2, **options)


def rates(optimizer: Any, scheduler: Any, steps: int, metrics: Any = None) -> list[Any]:
    """What the groups hold after every step: rates, and momenta."""
    seen = []
    for i in range(steps):
        optimizer.step()
        scheduler.step(*(() if metrics is None else (metrics[i],)))
        groups = optimizer.param_groups
        seen.append([scheduler.get_last_lr(), *((g["lr"], g.get("momentum"), g.get("betas")) for g in groups)])
    return seen


def test_all_names_are_here() -> None:
    torch = pytest.importorskip("torch")
    assert set(lr_scheduler.__all__) == set(torch.optim.lr_scheduler.__all__)
    assert set(swa_utils.__all__) == set(torch.optim.swa_utils.__all__)
    tested = {name.partition(" ")[0] for name in SCHEDULES} | {"ReduceLROnPlateau", "LRScheduler"}
    assert tested == set(lr_scheduler.__all__)


@QUIET
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_torchs(name: str, kind: str) -> None:
    torch = pytest.importorskip("torch")
    a, b = ours(kind), theirs(torch, kind)
    first, second = SCHEDULES[name](lr_scheduler, a), SCHEDULES[name](torch.optim.lr_scheduler, b)
    assert first.get_last_lr() == second.get_last_lr() == [g["lr"] for g in a.param_groups]
    found = rates(a, first, STEPS)
    assert found == rates(b, second, STEPS)
    assert len({str(each) for each in found}) > 1


@QUIET
@pytest.mark.parametrize("name", SCHEDULES)
def test_states_in_the_middle(name: str) -> None:
    """A second scheduler goes on as the first; and both from torch's state, and torch from ours."""
    torch = pytest.importorskip("torch")
    a, b, c, d = ours(), ours(), theirs(torch), theirs(torch)
    first, second = (SCHEDULES[name](lr_scheduler, o) for o in (a, b))
    third, fourth = (SCHEDULES[name](torch.optim.lr_scheduler, o) for o in (c, d))
    for optimizer, scheduler in ((a, first), (c, third)):
        rates(optimizer, scheduler, 11)
    second.load_state_dict(copy.deepcopy(third.state_dict()))
    fourth.load_state_dict(copy.deepcopy(first.state_dict()))
    for optimizer, source in ((b, c), (d, a)):
        for group, other in zip(optimizer.param_groups, source.param_groups, strict=True):
            group.update({k: v for k, v in other.items() if k != "params"})
    want = rates(a, first, 12)
    assert rates(b, second, 12) == want
    assert rates(d, fourth, 12) == want
    again = SCHEDULES[name](lr_scheduler, ours())
    again.load_state_dict(first.state_dict())
    assert again.get_last_lr() == first.get_last_lr()


@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_plateaus_are_torchs(options: Any) -> None:
    torch = pytest.importorskip("torch")
    a, b = ours(), theirs(torch)
    first = lr_scheduler.ReduceLROnPlateau(a, **options)
    second = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options)
    found = rates(a, first, 12, METRICS)
    assert found == rates(b, second, 12, METRICS)
    again = lr_scheduler.ReduceLROnPlateau(a, **options)
    again.load_state_dict(second.state_dict())
    rest = rates(a, again, len(METRICS) - 12, METRICS[12:])
    assert rest == rates(b, second, len(METRICS) - 12, METRICS[12:])
    assert len({str(each) for each in found + rest}) > 1
    again.step(ad.Variable(1.0))


def test_plateaus_with_a_new_group() -> None:
    for least in (0.01, [0.01, 0.01]):
        optimizer = ours()
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, min_lr=least)
        optimizer.add_param_group({"params": nn.Parameter([1.0])})
        scheduler.step(1.0)
        if isinstance(least, list):
            with pytest.raises(ValueError, match="the optimizer has 3 groups now, min_lr 2 values"):
                scheduler.step(1.0)
        else:
            scheduler.step(1.0)
            assert scheduler.get_last_lr() == [0.1, 0.15, 0.1]


@pytest.mark.parametrize(
    "name",
    ["StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR", "CosineAnnealingLR", "LambdaLR", "OneCycleLR"],
)
def test_jumps_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    a, b = ours(), theirs(torch)
    first, second = SCHEDULES[name](lr_scheduler, a), SCHEDULES[name](torch.optim.lr_scheduler, b)
    a.step()
    b.step()
    for epoch in (3, 12, 0, 7, 29):
        with pytest.warns(UserWarning, match="jumps to a rate"):
            first.step(epoch)
        with pytest.warns(UserWarning, match="epoch"):
            second.step(epoch)
        assert first.get_last_lr() == second.get_last_lr()


def test_restarts_at_fractions() -> None:
    torch = pytest.importorskip("torch")
    for options in ({"T_0": 4}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}):
        a, b = ours(), theirs(torch)
        first = lr_scheduler.CosineAnnealingWarmRestarts(a, **options)
        second = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(b, **options)
        for epoch in (0.5, 2.25, 4, 9.75, 20, 1):
            first.step(epoch)
            second.step(epoch)
            assert first.get_last_lr() == second.get_last_lr()
        assert rates(a, first, 5) == rates(b, second, 5)
        with pytest.raises(ValueError, match="an epoch is 0 or more, not -1"):
            first.step(-1)


def test_going_on_with_a_schedule() -> None:
    torch = pytest.importorskip("torch")
    found = []
    for module, optimizer in ((lr_scheduler, ours()), (torch.optim.lr_scheduler, theirs(torch))):
        rates(optimizer, module.CosineAnnealingLR(optimizer, 9), 4)
        found.append(rates(optimizer, module.CosineAnnealingLR(optimizer, 9, last_epoch=3), 4))
    assert found[0] == found[1]
    with pytest.raises(KeyError, match="'initial_lr' is not in parameter group 0, and last_epoch=3"):
        lr_scheduler.StepLR(ours(), 3, last_epoch=3)


def test_schedules_reach_the_steps() -> None:
    p = nn.Parameter(np.zeros(1))
    optimizer = nn.optim.Adam([p])
    scheduler = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=4, pct_start=0.5, cycle_momentum=False)
    before = []
    for _ in range(3):
        p.grad = np.ones(1)
        before.append(p.data.item())
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        assert before[-1] - p.data.item() == pytest.approx(rate)  # of a gradient that stays the same
        scheduler.step()


def test_what_schedulers_refuse() -> None:
    def plain() -> Any:
        return nn.optim.Adagrad([nn.Parameter([1.0])])

    o = ours()
    for call, text in [
        (lambda: lr_scheduler.StepLR(3, 1), "StepLR schedules the rates of an Optimizer, not of int"),
        (lambda: lr_scheduler.LambdaLR(o, [abs]), "lr_lambda has 1 values for the optimizer's 2 parameter groups"),
        (lambda: lr_scheduler.MultiplicativeLR(o, 0.5), "lr_lambda is a function of the step, not float"),
        (lambda: lr_scheduler.ConstantLR(o, 1.5), "factor lies between 0 and 1, not 1.5"),
        (lambda: lr_scheduler.LinearLR(o, 0.0), "start_factor is above 0 and 1 at most, not 0.0"),
        (lambda: lr_scheduler.LinearLR(o, 0.5, 2.0), "end_factor lies between 0 and 1, not 2.0"),
        (lambda: lr_scheduler.CosineAnnealingWarmRestarts(o, 0), "T_0 is a whole number, 1 or more, not 0"),
        (lambda: lr_scheduler.CosineAnnealingWarmRestarts(o, 1, 1.5), "T_mult is a whole number, 1 or more, not 1.5"),
        (lambda: lr_scheduler.CosineAnnealingWarmRestarts(o, 1, eta_min="0"), "eta_min is a number, not '0'"),
        (lambda: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "factor is below 1, not 1.0"),
        (lambda: lr_scheduler.ReduceLROnPlateau(o, mode="least"), "mode is 'min' or 'max', not 'least'"),
        (lambda: lr_scheduler.ReduceLROnPlateau(o, threshold_mode="x"), "threshold_mode is 'rel' or 'abs', not 'x'"),
        (lambda: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"), "mode is one of 'triangular', 'triangular2', 'exp_range', or scale_fn"),
        (lambda: lr_scheduler.CyclicLR(plain(), 0.1, 0.2), "Adagrad has neither momentum nor betas to cycle; write cycle_momentum=False"),
        (lambda: lr_scheduler.OneCycleLR(plain(), 0.1, 10), "Adagrad has neither momentum nor betas"),
        (lambda: lr_scheduler.OneCycleLR(o, 0.1), "give total_steps, or both epochs and steps_per_epoch"),
        (lambda: lr_scheduler.OneCycleLR(o, 0.1, 0), "total_steps is a whole number above 0, not 0"),
        (lambda: lr_scheduler.OneCycleLR(o, 0.1, epochs=1.5, steps_per_epoch=2), "epochs is a whole number above 0, not 1.5"),
        (lambda: lr_scheduler.OneCycleLR(o, 0.1, 10, pct_start=2.0), "pct_start is a float between 0 and 1, not 2.0"),
        (lambda: lr_scheduler.OneCycleLR(o, 0.1, 10, anneal_strategy="exp"), "anneal_strategy is 'cos' or 'linear', not 'exp'"),
        (lambda: rates(o, lr_scheduler.OneCycleLR(o, 0.1, 3), 5), "this is step 4 of a cycle of 3"),
        (lambda: lr_scheduler.ChainedScheduler([]), "ChainedScheduler needs one scheduler at least"),
        (lambda: lr_scheduler.ChainedScheduler([3]), "ChainedScheduler: number 0 of the schedulers is a int"),
        (
            lambda: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 1), lr_scheduler.ReduceLROnPlateau(o)]),
            "number 1, ReduceLROnPlateau, wants a metric at every step",
        ),
        (
            lambda: lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 1), lr_scheduler.StepLR(ours(), 1)]),
            "number 1, StepLR, belongs to another optimizer",
        ),
        (lambda: lr_scheduler.SequentialLR(ours(), [lr_scheduler.StepLR(o, 1)], []), "number 0, StepLR, belongs to another optimizer"),
        (lambda: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [3]), "1 schedulers take turns at 0 milestones, not 1"),
        (lambda: swa_utils.SWALR(o, 0.1, anneal_strategy="exp"), "anneal_strategy is 'cos' or 'linear', not 'exp'"),
        (lambda: swa_utils.SWALR(o, 0.1, anneal_epochs=-1), "anneal_epochs is a whole number, 0 or more, not -1"),
        (lambda: swa_utils.get_ema_avg_fn(1.5), "the decay of an average lies between 0 and 1, not 1.5"),
        (lambda: swa_utils.AveragedModel(nn.ReLU(), avg_fn=max, multi_avg_fn=max), "give avg_fn or multi_avg_fn, not both"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()
    with pytest.raises(NotImplementedError, match="LRScheduler has no get_lr"):
        lr_scheduler.LRScheduler(ours())
    scheduler = lr_scheduler.StepLR(ours(), 3)
    with pytest.warns(UserWarning, match="a scheduler's step\\(\\) before the first of its optimizer"):
        scheduler.step()


# --- averages ---------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"anneal_epochs": 4, "anneal_strategy": "linear"}, {"anneal_epochs": 0}], ids=str)
def test_swalr_is_torchs(options: Any) -> None:
    torch = pytest.importorskip("torch")
    a, b = ours(), theirs(torch)
    first, second = swa_utils.SWALR(a, [0.05, 0.5], **options), torch.optim.swa_utils.SWALR(b, [0.05, 0.5], **options)
    assert rates(a, first, 6) == rates(b, second, 6)
    again = swa_utils.SWALR(a, [0.05, 0.5])
    again.load_state_dict(second.state_dict())
    for group, other in zip(a.param_groups, b.param_groups, strict=True):
        group["lr"] = other["lr"]
    assert rates(a, again, 8) == rates(b, second, 8)


class Net(nn.Module):
    def __init__(self, backend: support.Backend) -> None:
        super().__init__()
        self.w = nn.Parameter(backend.asarray(np.zeros(3)))
        self.register_buffer("b", backend.asarray(np.zeros(3)))
        self.register_buffer("n", backend.asarray(np.zeros(1, "int64")))

    def forward(self, x: Any) -> Any:
        return self.w * x


AVERAGES = {
    "swa": ({}, lambda values: np.mean(values, axis=0)),
    "avg_fn": ({"avg_fn": swa_utils.get_swa_avg_fn()}, lambda values: np.mean(values, axis=0)),
    "multi": ({"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()}, lambda values: np.mean(values, axis=0)),
    "ema": ({"avg_fn": swa_utils.get_ema_avg_fn(0.5)}, lambda v: 0.25 * v[0] + 0.25 * v[1] + 0.5 * v[2]),
    "multi ema": ({"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.5)}, lambda v: 0.25 * v[0] + 0.25 * v[1] + 0.5 * v[2]),
}


@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_averaged_models(name: str, use_buffers: bool, backend: support.Backend) -> None:
    options, mean = AVERAGES[name]
    model, values = Net(backend), np.random.default_rng(0).normal(size=(3, 3))
    average = swa_utils.AveragedModel(model, use_buffers=use_buffers, **options)
    for i, value in enumerate(values):
        model.w.data, model.b.data, model.n.data = (backend.asarray(x) for x in (value, value + 1, np.asarray([10 * i])))
        average.update_parameters(model)
    w, b, n = (backend.numpy(x.data) for x in (average.module.w, average.module.b, average.module.n))
    np.testing.assert_allclose(w, mean(values), rtol=1e-14)
    np.testing.assert_allclose(b, mean(values + 1) if use_buffers else values[2] + 1, rtol=1e-14)
    assert n.dtype == "int64" and (use_buffers or n.tolist() == [20])
    assert int(average.n_averaged) == 3 and list(average.state_dict()) == ["n_averaged", "module.w", "module.b", "module.n"]
    x = backend.asarray(np.ones(3))
    np.testing.assert_array_equal(backend.numpy(average(x).data), w)
    np.testing.assert_array_equal(backend.numpy(model.w.data), values[2])
    other = swa_utils.AveragedModel(Net(backend))
    other.load_state_dict(average.state_dict())
    assert int(other.n_averaged) == 3


def test_statistics_of_norms() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.momentum: float | None = 0.1
            self.register_buffer("running_mean", np.ones(2))
            self.count = 0

        def reset_running_stats(self) -> None:
            self.running_mean, self.count = np.zeros(2), 0

        def forward(self, x: Any) -> Any:
            assert self.training and self.momentum is None and not ad.is_grad_enabled()
            self.count += 1
            self.running_mean = self.running_mean.data + (x.mean(axis=0) - self.running_mean.data) / self.count
            return x

    batches = [np.asarray([[1.0, 2.0]]), (np.asarray([[3.0, 6.0]]), "label")]
    model = nn.Sequential(Norm()).eval()
    swa_utils.update_bn(batches, model, device="cpu")
    (norm,) = model.children()
    assert norm.running_mean.data.tolist() == [2.0, 4.0] and norm.momentum == 0.1 and not model.training
    swa_utils.update_bn(iter(()), nn.Sequential(nn.ReLU()))  # nothing to do
