"""Modules called with other parameters: in every transformation, beside torch.func."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, jacobian

import agnostic_ad as ad
from agnostic_ad import nn

torch = pytest.importorskip("torch")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False, dtype="float64")
        self.b = nn.Linear(2, 2, bias=False, dtype="float64")
        self.b.weight = self.a.weight
        self.register_buffer("mean", np.zeros(2))

    def forward(self, x: Any, scale: float = 1.0) -> Any:
        return (self.b(self.a(x)) - self.mean) * scale


class Running(nn.Module):
    """A module that changes its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", np.zeros(2))

    def forward(self, x: Any) -> Any:
        self.total = self.total + x
        return x * self.total


def model(backend: support.Backend) -> tuple[nn.Module, dict[str, Any]]:
    """Give a model in float64, and its parameters as raw arrays."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double().to(backend.xp)
    return net, dict(net.state_dict())


def test_values_and_names(backend: support.Backend, rng: np.random.Generator) -> None:
    net, parameters = model(backend)
    x = backend.asarray(rng.normal(size=(5, 3)))
    weight = net[0].weight
    new = {name: p * 2 for name, p in parameters.items()}
    got = nn.functional_call(net, new, x)
    assert type(got) is type(x) and net[0].weight is weight  # nothing was recorded
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double().to(backend.xp)
    other.load_state_dict(new)
    np.testing.assert_array_equal(backend.numpy(got), backend.numpy(other(x).data))
    some = nn.functional_call(net, ({"0.bias": new["0.bias"]}, {}), (), {"input": x})
    assert some.requires_grad  # the others are the module's own


def test_gradients_of_parameters(backend: support.Backend, rng: np.random.Generator) -> None:
    net, parameters = model(backend)
    x = backend.asarray(rng.normal(size=(5, 3)))

    def loss(parameters: Any) -> Any:
        return (nn.functional_call(net, parameters, x) ** 2).sum()

    grads = ad.grad(loss)(parameters)
    (net(x) ** 2).sum().backward()
    for name, p in net.named_parameters():
        assert_close(backend.numpy(grads[name]), backend.numpy(p.grad), rtol=1e-12)
    tangents = {name: backend.asarray(rng.normal(size=p.shape)) for name, p in parameters.items()}
    along = ad.jvp(loss, (parameters,), (tangents,))[1]
    want = sum(float((backend.numpy(grads[name]) * backend.numpy(t)).sum()) for name, t in tangents.items())
    assert_close(backend.numpy(along), want, rtol=1e-10)
    connected = ad.grad(loss)(dict(net.named_parameters()))["0.bias"]
    assert isinstance(connected, ad.Variable)


def test_a_hessian(rng: np.random.Generator) -> None:
    net, parameters = model(support.Backend("numpy"))
    x = rng.normal(size=(2, 3))

    def loss(bias: Any) -> Any:
        return (nn.functional_call(net, {**parameters, "0.bias": bias}, x) ** 2).sum()

    assert_close(ad.hessian(loss)(parameters["0.bias"]), jacobian(ad.grad(loss), parameters["0.bias"]), atol=1e-7)


def test_an_ensemble(backend: support.Backend, rng: np.random.Generator) -> None:
    """What vmap gives for several models is what each gives, and the gradients too."""
    models = [model(backend)[0] for _ in range(3)]
    parameters, buffers = nn.stack_module_state(models)
    assert list(parameters) == ["0.weight", "0.bias", "2.weight", "2.bias"] and buffers == {}
    assert all(p.requires_grad and p.is_leaf and p.shape[0] == 3 for p in parameters.values())
    x = backend.asarray(rng.normal(size=(5, 3)))

    def one(parameters: Any, buffers: Any, x: Any) -> Any:
        return nn.functional_call(models[0], (parameters, buffers), x)

    together = ad.vmap(one, in_axes=(0, 0, None))(parameters, buffers, x)
    for y, each in zip(backend.numpy(together.detach().data), models, strict=True):
        np.testing.assert_allclose(y, backend.numpy(each(x).data), rtol=1e-12)
    (together**2).sum().backward()
    for i, each in enumerate(models):
        (each(x) ** 2).sum().backward()
        for name, p in each.named_parameters():
            np.testing.assert_allclose(backend.numpy(parameters[name].grad)[i], backend.numpy(p.grad), rtol=1e-10)


def test_gradients_for_each_sample(rng: np.random.Generator) -> None:
    net, parameters = model(support.Backend("numpy"))
    xs = rng.normal(size=(4, 3))

    def loss(parameters: Any, x: Any) -> Any:
        return (nn.functional_call(net, parameters, x) ** 2).sum()

    each = ad.vmap(ad.grad(loss), in_axes=(None, 0))(parameters, xs)
    for i, x in enumerate(xs):
        for name, g in ad.grad(loss)(parameters, x).items():
            np.testing.assert_allclose(each[name][i], g, rtol=1e-10)


def test_shared_parameters() -> None:
    net, x = Tied(), np.ones((1, 2))
    weight, other = np.eye(2) * 2, np.eye(2) * 3
    assert nn.functional_call(net, {"a.weight": weight}, x).tolist() == [[4.0, 4.0]]
    assert nn.functional_call(net, {"b.weight": weight}, x).tolist() == [[4.0, 4.0]]
    assert nn.functional_call(net, {"a.weight": weight, "b.weight": other}, x, {"scale": 10.0}, tie_weights=False).tolist() == [
        [60.0, 60.0]
    ]
    with pytest.raises(ValueError, match=r"a.weight, b.weight are one parameter, and were given different arrays. Pass tie_weights=False"):
        nn.functional_call(net, {"a.weight": weight, "b.weight": other}, x)


def test_buffers_that_the_module_changes() -> None:
    net = Running()
    own, state = net.total, {"total": np.ones(2)}
    assert nn.functional_call(net, state, np.full(2, 3.0)).tolist() == [12.0, 12.0]
    assert state["total"].tolist() == [4.0, 4.0] and net.total is own and own.data.tolist() == [0.0, 0.0]

    def step(state: Any, x: Any) -> Any:
        state = dict(state)
        return nn.functional_call(net, state, x), state

    y, states = ad.vmap(step, in_axes=(None, 0))({"total": np.ones(2)}, np.asarray([[1.0, 2.0], [3.0, 4.0]]))
    assert states["total"].tolist() == [[2.0, 3.0], [4.0, 5.0]] and y.tolist() == [[2.0, 6.0], [12.0, 20.0]]
    assert net.total is own


def test_running_statistics(rng: np.random.Generator) -> None:
    net, x = nn.Sequential(nn.BatchNorm1d(2)).double(), rng.normal(size=(5, 2))
    state = dict(net.state_dict())
    nn.functional_call(net, state, x)
    net(x)
    for name, value in net.state_dict().items():
        assert type(state[name]) is np.ndarray
        np.testing.assert_array_equal(state[name], value)


@pytest.mark.parametrize("training", [True, False])
def test_an_ensemble_with_running_statistics(rng: np.random.Generator, training: bool) -> None:
    """Each model has its own, which the function may return."""
    models = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double().train(training) for _ in range(3)]
    parameters, buffers = nn.stack_module_state(models)
    x = rng.normal(size=(5, 3))

    def step(parameters: Any, buffers: Any) -> Any:
        return nn.functional_call(models[0], (parameters, buffers), x), buffers

    before = models[0][1].running_mean.data
    y, after = ad.vmap(step)(parameters, buffers)
    assert models[0][1].running_mean.data is before
    for i, each in enumerate(models):
        assert_close(y.detach().data[i], each(x).data, rtol=1e-12, atol=1e-14)
        for name, b in each.named_buffers():
            assert_close(after[name].data[i], b.data, rtol=1e-12)


def test_the_module_is_as_before_after_an_error() -> None:
    net = Tied()
    weight = net.a.weight
    with pytest.raises(ValueError, match=r"a \(Linear\): linear: an input of shape \(1, 2\) does not fit a weight of shape \(2, 5\)"):
        nn.functional_call(net, {"a.weight": np.ones((2, 5))}, np.ones((1, 2)))
    assert net.a.weight is weight and net.b.weight is weight


def test_what_is_refused() -> None:
    net, x = nn.Linear(2, 1), np.ones((1, 2))
    state = net.state_dict()
    assert nn.functional_call(net, {**state, "more": 1}, x).shape == (1, 1)  # as torch
    for call, error, text in [
        (
            lambda: nn.functional_call(net, {"weight": x, "more": 1}, x, strict=True),
            RuntimeError,
            "of Linear: missing: bias; unexpected: more",
        ),
        (lambda: nn.functional_call(net, (state, state), x), ValueError, "bias, weight stand in two of the dicts"),
        (lambda: nn.functional_call(net, x, x), TypeError, "takes a dict of arrays, or several of them, not ndarray"),
        (lambda: nn.stack_module_state([]), ValueError, "takes one model or more"),
        (lambda: nn.stack_module_state([net, nn.Linear(2, 1).eval()]), ValueError, "all models are of one class, and in one mode"),
        (lambda: nn.stack_module_state([net, Tied()]), ValueError, "all models are of one class"),
        (
            lambda: nn.stack_module_state([net, nn.Linear(2, 1).requires_grad_(False)]),
            ValueError,
            "weight requires grad in some of the models and not in others",
        ),
    ]:
        with pytest.raises(error, match=text):
            call()


def test_as_torch(rng: np.random.Generator) -> None:
    """The per-sample gradients that torch.func gives."""
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).double()
    ours = nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double()
    ours.load_state_dict(theirs.state_dict())
    xs = rng.normal(size=(4, 3))
    want = torch.func.vmap(torch.func.grad(lambda p, x: torch.func.functional_call(theirs, p, x).sum()), in_dims=(None, 0))(
        {name: p.detach() for name, p in theirs.named_parameters()}, torch.tensor(xs)
    )
    got = ad.vmap(ad.grad(lambda p, x: nn.functional_call(ours, p, x).sum()), in_axes=(None, 0))(ours.state_dict(), xs)
    for name, g in want.items():
        np.testing.assert_allclose(got[name], g.numpy(), rtol=1e-12)
