"""Training steps of the two networks of `agnostic-ad train`: the same everywhere, and repeatable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.trainer.models import cnn, mlp


def losses(backend: support.Backend, make: Any, optimizer: Any, dtype: str, steps: int = 4) -> list[float]:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 1, 8, 8)).astype(dtype), rng.integers(0, 10, size=8)
    ad.manual_seed(1)
    with ad.defaults(xp=backend.xp, dtype=dtype):
        model = make((1, 8, 8), 10)
    trainer = nn.Trainer(model, nn.CrossEntropyLoss(), optimizer(model.parameters()))
    return [float(trainer.train_step([(backend.asarray(x, dtype), backend.asarray(y))])) for _ in range(steps)]


@pytest.mark.parametrize("make", [mlp, cnn])
@pytest.mark.parametrize(
    "optimizer", [lambda p: nn.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: nn.optim.Adam(p, lr=0.01)], ids=["SGD", "Adam"]
)
def test_steps_are_the_same_on_every_library(backend: support.Backend, make: Any, optimizer: Any) -> None:
    expected = losses(support.Backend("numpy"), make, optimizer, "float64")
    steps = 2 if backend.name == "dask" else 4  # lazy parameters remember every step
    np.testing.assert_allclose(losses(backend, make, optimizer, "float64", steps), expected[:steps], rtol=1e-9)
    assert expected[-1] < expected[0]
    single = losses(backend, make, optimizer, "float32", steps=1)
    np.testing.assert_allclose(single, losses(support.Backend("numpy"), make, optimizer, "float32", steps=1), atol=1e-5)


def test_parameters_and_gradients_keep_dtype(backend: support.Backend) -> None:
    with ad.defaults(xp=backend.xp):
        model = cnn((1, 8, 8), 10)
    optimizer = nn.optim.Adam(model.parameters())
    x = backend.asarray(np.ones((2, 1, 8, 8)), "float32")
    loss = nn.CrossEntropyLoss()(model(x), backend.asarray(np.asarray([1, 2])))
    loss.backward()
    grads = [p.grad for p in model.parameters()]
    optimizer.step()
    moments = [v for s in optimizer.state.values() for v in s.values() if hasattr(v, "shape")]
    for each in (loss.data, *grads, *moments, *(p.data for p in model.parameters())):
        assert "float32" in str(each.dtype) and type(each) is type(x)


def test_an_epoch_and_the_accuracy(rng: np.random.Generator) -> None:
    x = rng.normal(size=(64, 2)).astype("float32")
    y = (x[:, 0] > 0).astype("int64")
    loader = nn.data.DataLoader(nn.data.TensorDataset(x, y), 16, shuffle=True, seed=0)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
    trainer = nn.Trainer(model, nn.CrossEntropyLoss(), nn.optim.Adam(model.parameters(), lr=0.05), metrics=[nn.trainer.Accuracy()])
    history = trainer.fit(loader, epochs=5, validation=loader)
    assert trainer.step == 20 and len(history) == 5
    assert history[-1]["val_accuracy"] > 0.95 and history[-1]["val_accuracy"] == np.mean(model(x).data.argmax(1) == y)


def test_training_repeats() -> None:
    backend = support.Backend("numpy")
    assert losses(backend, mlp, nn.optim.Adam, "float32") == losses(backend, mlp, nn.optim.Adam, "float32")


def test_a_model_of_ones_own(backend: support.Backend) -> None:
    """What the documents show: any computation on parameters, and the gradient of it with respect to the input."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(backend.asarray([1.0, 2.0]))

        def forward(self, x: Any) -> Any:
            xp = ad.namespace(x, self.a)
            return xp.sum(xp.sin(self.a * x))

    model = Own()
    x = np.asarray([0.5, 1.5])
    g = ad.grad(model)(backend.asarray(x))
    np.testing.assert_allclose(backend.numpy(g.data if isinstance(g, ad.Variable) else g), np.cos(x * [1, 2]) * [1, 2])
    model(backend.asarray(x)).backward()
    np.testing.assert_allclose(backend.numpy(model.a.grad), np.cos(x * [1, 2]) * x)
