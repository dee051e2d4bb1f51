"""Optimizers: groups, closures, states, and whose memory they write into. (Their numbers: test_nn_torch.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn


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
    assert repr(optimizer).startswith("SGD (\nParameter Group 0\n    dampening: 0\n    lr: 1.0")


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


@pytest.mark.parametrize("make", [lambda p: nn.optim.SGD(p, lr=0.1, momentum=0.9), nn.optim.Adam], ids=["SGD", "Adam"])
@pytest.mark.parametrize("size", [3, 20_000])
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


def test_steps_are_in_place_where_nobody_looks() -> None:
    p = nn.Parameter(np.ones((300, 200)))
    optimizer = nn.optim.Adam([p])
    places = set()
    for _ in range(3):
        (p * p).sum().backward()
        optimizer.step()
        places.add(p.data.ctypes.data)
        optimizer.zero_grad()
    assert len(places) == 1


def test_a_view_is_somebody_elses_memory() -> None:
    whole = np.ones(6)
    p = nn.Parameter(whole[::2])
    p.grad = np.ones(3)
    nn.optim.SGD([p], lr=1.0).step()
    assert p.data.tolist() == [0] * 3 and whole.tolist() == [1] * 6


def test_what_optimizers_refuse() -> None:
    p = nn.Parameter([1.0])
    for call, text in [
        (lambda: nn.optim.SGD([]), "empty parameter list"),
        (lambda: nn.optim.SGD(p), "takes a list of parameters"),
        (lambda: nn.optim.SGD([1.0]), "changes parameters, not float"),
        (lambda: nn.optim.SGD([p * 2]), "leaf Variables only"),
        (lambda: nn.optim.SGD([p, p]), "appears twice"),
        (lambda: nn.optim.SGD([p], lr=-1), "invalid lr: -1; 0.0 or more is wanted"),
        (lambda: nn.optim.SGD([p], nesterov=True), "nesterov needs a momentum above 0"),
        (lambda: nn.optim.Adam([p], betas=(0.9, 1.0)), "invalid beta parameter at index 1: 1.0"),
        (lambda: nn.optim.Adam([p], eps=float("nan")), "invalid eps"),
        (lambda: nn.optim.Adam([p], differentiable=True), "differentiable=True is not supported"),
        (
            lambda: nn.optim.SGD([p]).load_state_dict(nn.optim.SGD([p, nn.Parameter([1.0])]).state_dict()),
            r"groups of sizes \[2\], the optimizer of sizes \[1\]",
        ),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()
