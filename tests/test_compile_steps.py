"""What stands in a compiled training step: transformations, control flow, mixed precision; each as after the plain call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, nn, trees

F = nn.functional
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)).astype("float32"), RNG.normal(size=(8, 2)).astype("float32")
Loss = Callable[[Any, Any, Any], Any]


def plain_loss(model: Any, x: Any, y: Any) -> Any:
    return F.mse_loss(model(x), y)


def autocast(model: Any, x: Any, y: Any) -> Any:
    with nn.amp.autocast(dtype="float16"):
        return plain_loss(model, x, y)


def gradient_penalty(model: Any, x: Any, y: Any) -> Any:
    point = ad.Variable(x, requires_grad=True)
    (slope,) = ad.gradients(model(point).sum(), [point], create_graph=True)
    return plain_loss(model, x, y) + (((slope**2).sum(axis=1) - 1) ** 2).mean()


def gradients_of_parameters(model: Any, x: Any, y: Any) -> Any:
    value = plain_loss(model, x, y)
    return value + 0.1 * sum((g**2).sum() for g in ad.gradients(value, list(model.parameters()), create_graph=True))


def vmapped(model: Any, x: Any, y: Any) -> Any:
    return ad.vmap(lambda a, b: plain_loss(model, a, b))(x, y).mean()


def chosen(model: Any, x: Any, y: Any) -> Any:
    return graph.cond(x.sum() > 1.5, lambda: plain_loss(model, x, y), lambda: F.l1_loss(model(x), y))


def chosen_by_the_loss(model: Any, x: Any, y: Any) -> Any:
    value = plain_loss(model, x, y)
    return graph.cond(value > 0.9, lambda: value * 2, lambda: value)


def scanned(model: Any, x: Any, y: Any) -> Any:
    weight = model[0].weight
    _, states = graph.scan(lambda h, row: (ad.namespace(row).tanh(h @ weight[:4] + row),) * 2, np.zeros(4, "float32"), x)
    return plain_loss(model, states, y)


def looped(model: Any, x: Any, y: Any) -> Any:
    weight = model[0].weight
    return plain_loss(model, graph.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] @ weight[:4]), (0, x))[1], y)


def trained(loss: Loss, compiled: bool, scaled: bool) -> tuple[list[Any], Any]:
    """Give losses, parameters, buffers and gradients after some steps, and the step."""
    ad.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16) if loss is plain_loss else nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 2))
    if loss in (scanned, looped, vmapped, chosen):
        model.eval()
    optimizer = nn.optim.AdamW(model.parameters(), lr=0.01)
    scaler = nn.amp.GradScaler(enabled=scaled)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        value = loss(model, x, y)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return value

    f = ad.compile(step) if compiled else step
    losses = [f(X + np.float32(0.2 * i), Y) for i in range(4)]
    values = [*losses, *model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
    return [np.asarray(getattr(v, "data", v)) for v in trees.leaves(values)], f


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    "loss",
    [plain_loss, autocast, gradient_penalty, gradients_of_parameters, vmapped, chosen, chosen_by_the_loss, scanned, looped],
    ids=lambda f: f.__name__,
)
def test_a_step_ends_as_the_plain_call(loss: Loss, scaled: bool) -> None:
    plain, _ = trained(loss, compiled=False, scaled=scaled)
    found, step = trained(loss, compiled=True, scaled=scaled)
    assert [c.reason for c in step.captures] == ["the first call", "what the function holds has gradients"]
    assert len(found) == len(plain)
    for a, b in zip(found, plain, strict=True):
        if loss in (scanned, looped):
            assert_close(a, b, 1e-5, 1e-6)  # float32: a loop's graph adds up what its rounds give in another order than the tape
        else:
            assert_exact(a, b)
