"""Lazy modules: parameters whose shape the first batch tells."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn


def test_a_lazy_layer_becomes_an_ordinary_one() -> None:
    layer = nn.LazyLinear(4, dtype="float64")
    weight, bias = layer.weight, layer.bias
    assert repr(layer) == "LazyLinear(in_features=0, out_features=4, bias=True)" and repr(weight) == "<UninitializedParameter>"
    assert isinstance(weight, nn.Parameter) and isinstance(weight, nn.UninitializedParameter) and isinstance(weight, ad.Variable)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"] and layer.has_uninitialized_params()
    assert list(layer.state_dict().values()) == [weight, bias]
    y = layer(np.ones((5, 3)))
    assert type(layer) is nn.Linear and repr(layer) == "Linear(in_features=3, out_features=4, bias=True)"
    assert layer.weight is weight and layer.bias is bias and type(weight) is ad.Variable
    assert isinstance(weight, nn.Parameter) and not isinstance(weight, nn.UninitializedParameter)
    assert weight.shape == (4, 3) and weight.dtype == np.float64 and np.abs(weight.data).max() > 0
    np.testing.assert_allclose(y.data, np.ones((5, 3)) @ weight.data.T + bias.data, rtol=1e-12)
    y.sum().backward()
    assert weight.grad.tolist() == np.full((4, 3), 5.0).tolist()
    assert nn.LazyLinear(2, bias=False)(np.ones((1, 3), "float32")).shape == (1, 2)


def test_an_optimizer_may_come_before_the_first_batch() -> None:
    layer = nn.LazyLinear(2, bias=False)
    optimizer = nn.optim.SGD(layer.parameters(), lr=1.0)
    x = np.ones((1, 3), "float32")
    layer(x).sum().backward()
    before = layer.weight.data.copy()
    optimizer.step()
    np.testing.assert_allclose(layer.weight.data, before - 1, rtol=1e-6)


def test_moving_before_the_first_batch(backend: Any) -> None:
    model = nn.Sequential(nn.LazyLinear(2)).to(backend.xp, "float64")
    assert "float64" in str(model[0].weight.dtype)
    model(backend.asarray(np.ones((1, 3))))
    assert type(model[0].weight.data) is type(backend.asarray(1.0)) and "float64" in str(model[0].weight.dtype)
    assert "float32" in str(nn.LazyLinear(2, dtype="float64").float().weight.dtype)


def test_states() -> None:
    full = nn.Linear(3, 2)
    lazy = nn.Sequential(nn.LazyLinear(2))
    assert lazy.load_state_dict({f"0.{k}": v for k, v in full.state_dict().items()}) == ([], [])
    assert type(lazy[0]) is nn.LazyLinear and not lazy[0].has_uninitialized_params()
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(lazy(x).data, full(x).data)  # the values that were loaded, not new ones
    assert type(lazy[0]) is nn.Linear and lazy[0].in_features == 3
    fresh = nn.LazyLinear(2)
    assert fresh.load_state_dict(nn.LazyLinear(2).state_dict()) == ([], []) and fresh.has_uninitialized_params()
    with pytest.raises(RuntimeError, match="weight is uninitialized in the state, of a lazy module that was never called"):
        full.load_state_dict(fresh.state_dict())


def test_copies() -> None:
    layer = nn.LazyLinear(2, dtype="float64")
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert isinstance(other.weight, nn.UninitializedParameter) and other.weight is not layer.weight
        assert isinstance(other.weight, nn.Parameter) and other.weight.dtype == np.float64
        assert other(np.ones((1, 3))).shape == (1, 2) and type(other) is nn.Linear
    assert type(layer) is nn.LazyLinear


def test_what_cannot_be_done_yet() -> None:
    p = nn.UninitializedParameter()
    for use in (lambda: p.shape, lambda: p * 2, lambda: p.data, lambda: np.ones(1) @ p, lambda: nn.functional.linear(np.ones((1, 2)), p)):
        with pytest.raises(RuntimeError, match="an UninitializedParameter has no shape and no values yet: call the model on a batch first"):
            use()
    assert p.requires_grad and p.grad is None and not nn.UninitializedParameter(requires_grad=False).requires_grad
    layer = nn.LazyLinear(2).requires_grad_(False)
    assert not layer.weight.requires_grad and layer.requires_grad_().weight.requires_grad
    layer.zero_grad()
    with pytest.raises(ValueError, match=r"^0 \(LazyLinear\): "):
        nn.Sequential(nn.LazyLinear(2))(np.asarray(3.0))


CONFIGURATIONS = [
    ("LazyLinear", {"out_features": 4}, (5, 3)),
    ("LazyConv1d", {"out_channels": 4, "kernel_size": 2, "groups": 2}, (2, 6, 5)),
    ("LazyConv2d", {"out_channels": 4, "kernel_size": 2, "padding": 1, "padding_mode": "circular"}, (3, 5, 5)),
    ("LazyConv3d", {"out_channels": 4, "kernel_size": 2, "bias": False}, (2, 3, 4, 4, 4)),
    ("LazyConvTranspose1d", {"out_channels": 4, "kernel_size": 2, "stride": 2}, (2, 3, 5)),
    ("LazyConvTranspose2d", {"out_channels": 4, "kernel_size": 2, "groups": 2}, (4, 3, 3)),
    ("LazyConvTranspose3d", {"out_channels": 4, "kernel_size": 2}, (2, 3, 3, 3, 3)),
    ("LazyBatchNorm1d", {}, (5, 3)),
    ("LazyBatchNorm1d", {"momentum": None}, (5, 3, 2)),
    ("LazyBatchNorm2d", {"affine": False}, (5, 3, 2, 2)),
    ("LazyBatchNorm3d", {"track_running_stats": False}, (5, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", {"affine": True}, (5, 3, 4)),
    ("LazyInstanceNorm2d", {"track_running_stats": True}, (5, 3, 2, 2)),
    ("LazyInstanceNorm3d", {}, (5, 3, 2, 2, 2)),
]


@pytest.mark.parametrize(("name", "options", "shape"), CONFIGURATIONS)
def test_lazy_layers_as_torch(rng: np.random.Generator, name: str, options: Any, shape: Any) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(nn, name)(**options, dtype="float64"), getattr(torch.nn, name)(**options, dtype=torch.float64)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    assert [repr(v) for v in ours.parameters()] == [repr(v) for v in theirs.parameters()]
    ours.reset_parameters()  # there is nothing to draw yet
    x = rng.normal(size=shape)
    theirs(torch.tensor(x))
    want = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
    fresh = getattr(nn, name)(**options, dtype="float64")
    fresh(x)
    assert type(fresh) is getattr(nn, name.removeprefix("Lazy")) and repr(fresh) == repr(theirs)
    assert {key: value.shape for key, value in fresh.state_dict().items()} == {key: value.shape for key, value in want.items()}
    ours.load_state_dict(want)
    y, z = ours(x), theirs(torch.tensor(x))
    assert repr(ours) == repr(theirs) and not hasattr(ours, "_given")
    assert_close(getattr(y, "data", y), z.detach().numpy(), rtol=1e-10, atol=1e-10)
    for key, value in theirs.state_dict().items():
        assert_close(ours.state_dict()[key], value.numpy(), rtol=1e-10)


def test_arguments_of_lazy_layers() -> None:
    """They are those of the ordinary class but for the first, by position and by name, and are checked as there."""
    layer = nn.LazyConv2d(4, (2, 1), 2, bias=False)
    layer(np.ones((1, 3, 4, 4), "float32"))
    assert repr(layer) == "Conv2d(3, 4, kernel_size=(2, 1), stride=(2, 2), bias=False)"
    assert next(iter(inspect.signature(nn.LazyConv2d).parameters)) == "out_channels"
    for call, error, text in [
        (lambda: nn.LazyConv2d(), TypeError, "missing a required argument: 'out_channels'"),
        (lambda: nn.LazyConv2d(4, 2, padding_mode="full"), ValueError, "LazyConv2d: padding_mode is"),
        (
            lambda: nn.LazyConv2d(4, 2)(np.ones((3, 4))),
            ValueError,
            r"LazyConv2d takes an input of shape \(N, C, H, W\) or \(C, H, W\), not",
        ),
        (lambda: nn.LazyConv2d(4, 2, groups=2)(np.ones((1, 3, 4, 4))), ValueError, "groups=2 must divide in_channels=3"),
        (
            lambda: nn.LazyBatchNorm1d()(np.ones(3)),
            ValueError,
            r"LazyBatchNorm1d takes an input of shape \(N, C, ...\), not of shape \(3,\)",
        ),
        (lambda: nn.LazyInstanceNorm1d()(np.ones(3)), ValueError, r"LazyInstanceNorm1d takes an input of shape"),
        (lambda: nn.LazyLinear(3)(np.asarray(1.0)), ValueError, r"LazyLinear takes an input of one dimension or more, not of shape \(\)"),
    ]:
        with pytest.raises(error, match=text):
            call()


class Scale(nn.LazyModuleMixin):
    """A lazy module of a user's, which becomes nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.UninitializedParameter(dtype="float64")
        self.mean = nn.UninitializedBuffer(dtype="float64")
        self.count = nn.UninitializedBuffer(persistent=False)
        self.calls = 0

    def initialize_parameters(self, x: Any) -> None:
        self.calls += 1
        for p in (self.weight, self.mean, self.count):
            p.materialize(x.shape[-1:])
        nn.init.ones_(self.weight)

    def forward(self, x: Any) -> Any:
        return x * self.weight - self.mean


def test_a_lazy_module_of_ones_own() -> None:
    module = Scale()
    assert isinstance(module.mean, nn.Buffer) and list(module.state_dict()) == ["weight", "mean"]
    assert module(np.ones((2, 3))).data.tolist() == np.ones((2, 3)).tolist()
    assert module(np.ones((2, 3))).shape == (2, 3) and module.calls == 1 and type(module) is Scale
    assert module.mean.shape == (3,) and not module.mean.requires_grad

    class Forgets(Scale):
        def initialize_parameters(self, x: Any) -> None:
            self.weight.materialize((1,))

    with pytest.raises(RuntimeError, match=r"Forgets.initialize_parameters\(\) left parameters or buffers uninitialized"):
        Forgets()(np.ones(3))
    with pytest.raises(NotImplementedError, match=r"LazyModuleMixin has no initialize_parameters\(\)"):
        nn.LazyModuleMixin()(1)
