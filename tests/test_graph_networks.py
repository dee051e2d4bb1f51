"""Whole training steps captured: networks, their gradients and their optimizers, for a batch of one size and of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import graph, nn

Data = Callable[[np.random.Generator, int], tuple[Any, Any]]


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        batch, length, width = x.shape
        q, k, v = (
            part.reshape(batch, length, self.heads, width // self.heads).permute(0, 2, 1, 3)
            for part in self.qkv(self.norm1(x)).split(width, -1)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.permute(0, 2, 1, 3).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(20, 16), nn.Embedding(8, 16)
        self.blocks = nn.ModuleList([Block(16, 2) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 20)

    def forward(self, i: Any) -> Any:
        x = self.token(i) + self.place(ad.namespace(i).arange(i.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        return self.head(y[:, -1])


def reals(*shape: int) -> Data:
    return lambda rng, n: (rng.normal(size=(n, *shape)).astype("float32"), rng.integers(0, 3, n))


def words(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    return rng.integers(0, 20, (n, 8)), rng.integers(0, 20, (n, 8))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Data]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)), reals(4)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        ),
        reals(1, 8, 8),
    ),
    "gpt": (GPT, words),
    "lstm": (LSTM, reals(6, 4)),
}


def loss_of(y: Any, t: Any) -> Any:
    if len(t.shape) > 1:
        y, t = y.reshape(-1, y.shape[-1]), t.reshape(-1)
    return nn.functional.cross_entropy(y, t)


def training_step(model: nn.Module) -> Callable[..., Any]:
    """Give a pure step: parameters, moments and buffers in, the loss and the new ones out (Adam, written out)."""

    def step(state: dict[str, Any], x: Any, t: Any) -> Any:
        def loss(parameters: Any) -> Any:
            buffers = dict(state["buffers"])
            y = nn.functional_call(model, (parameters, buffers), (x,))
            return loss_of(y, t), buffers

        (value, buffers), g = ad.value_and_grad(loss, has_aux=True)(state["parameters"])
        xp = ad.namespace(value)
        m = {k: 0.9 * state["m"][k] + 0.1 * g[k] for k in g}
        v = {k: 0.99 * state["v"][k] + 0.01 * g[k] ** 2 for k in g}
        parameters = {k: p - 0.01 * m[k] / (xp.sqrt(v[k]) + 1e-3) for k, p in state["parameters"].items()}
        return value, {"parameters": parameters, "m": m, "v": v, "buffers": buffers}

    return step


def state_of(model: nn.Module, convert: Callable[[Any], Any] = lambda x: x) -> dict[str, Any]:
    parameters = {k: convert(p.data) for k, p in model.named_parameters()}
    zeros = {k: p * 0 for k, p in parameters.items()}
    return {"parameters": parameters, "m": zeros, "v": dict(zeros), "buffers": {k: convert(b.data) for k, b in model.named_buffers()}}


def assert_agree(g: Callable[..., Any], f: Callable[..., Any], *args: Any) -> None:
    ad.manual_seed(5)
    got = ad.trees.flatten(g(*args))
    ad.manual_seed(5)
    want = ad.trees.flatten(f(*args))
    assert got[1] == want[1]
    for a, b in zip(got[0], want[0], strict=True):
        a, b = (np.asarray(x.data if isinstance(x, ad.Variable) else x) for x in (a, b))
        assert a.dtype == b.dtype and a.shape == b.shape
        assert_close(a, b, 2e-5, 2e-5)  # float32, sums in another order


@pytest.mark.parametrize("batch", [4, None], ids=["fixed", "any"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_steps(name: str, batch: int | None, rng: np.random.Generator) -> None:
    make, data = NETWORKS[name]
    ad.manual_seed(0)
    model = make()
    step, state = training_step(model), state_of(model)
    specs = [graph.ShapeDtype((batch, *a.shape[1:]), str(a.dtype)) for a in data(rng, 4)]
    g = graph.capture(step, state, *specs)
    optimised = g.optimize()
    assert len(optimised.nodes) <= len(g.nodes)
    for n in (4,) if batch else (4, 2, 7):
        args = state, *data(rng, n)
        assert_agree(g, step, *args)
        assert_agree(optimised, step, *args)
    # what a step gives goes into the next
    for _ in range(3):
        _, state = optimised(state, *data(rng, 4))
    assert all(np.isfinite(p).all() for p in state["parameters"].values())


@pytest.mark.parametrize("backend", support.params(without=("dask", "jax")))
def test_a_training_step_on_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    ad.manual_seed(0)
    with ad.defaults(xp=backend.xp):
        model = NETWORKS["mlp"][0]()
    step, state = training_step(model), state_of(model)
    x, t = (backend.asarray(a) for a in reals(4)(rng, 4))
    g = graph.capture(step, state, x, t).optimize()
    ad.manual_seed(5)
    value, got = g(state, x, t)
    ad.manual_seed(5)
    expected, want = step(state, x, t)
    assert_close(backend.numpy(value), backend.numpy(expected), 1e-6, 1e-6)
    for k, p in want["parameters"].items():
        assert type(got["parameters"][k]) is type(p)
        assert_close(backend.numpy(got["parameters"][k]), backend.numpy(p), 1e-5, 1e-5)  # float32


def test_a_captured_network_is_differentiated_and_batched(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    parameters = {k: p.data for k, p in model.named_parameters()}
    x, t = reals(4)(rng, 4)

    def loss(p: Any, x: Any, t: Any) -> Any:
        return loss_of(nn.functional_call(model, p, (x,)), t)

    g = graph.capture(loss, parameters, graph.ShapeDtype((None, 4), "float32"), graph.ShapeDtype((None,), "int64")).optimize()
    assert_agree(ad.grad(g), ad.grad(loss), parameters, x, t)
    each = lambda f: ad.vmap(ad.grad(f), in_axes=(None, 0, 0))
    assert_agree(each(g), each(loss), parameters, x[:, None], t[:, None])
    assert_agree(graph.capture(ad.grad(g), parameters, x, t), ad.grad(loss), parameters, x, t)


def test_nodes_know_the_module_that_made_them() -> None:
    model = GPT()
    parameters = {k: p.data for k, p in model.named_parameters()}
    g = graph.capture(lambda p, i: nn.functional_call(model, p, (i,)), parameters, np.zeros((2, 8), "int64"))
    scopes = {node.scope for node in g.nodes}
    assert {"GPT.token", "GPT.blocks.0", "GPT.blocks.1.mlp.0", "GPT.head"} <= scopes
    assert [n.scope for n in g.nodes if n.op.name == "nn.attention"] == ["GPT.blocks.0", "GPT.blocks.1"]
    assert {node.scope for node in g.optimize().nodes} <= scopes
    assert all(node.where is not None and node.where.startswith("test_graph_networks.py:") for node in g.optimize().nodes)
