"""Parametrizations beside torch: the same states, values and gradients; and the older hooks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.utils import parametrizations, parametrize
from agnostic_ad.nn.utils.orthogonal import matrix_exp

torch = pytest.importorskip("torch")
T = pytest.importorskip("torch.nn.utils.parametrizations")
OLDER = pytest.importorskip("torch.nn.utils")

LAYERS = {
    "Linear": ("Linear", (4, 3), (5, 4)),
    "wide": ("Linear", (3, 5), (2, 3)),
    "square": ("Linear", (4, 4), (2, 4)),
    "Conv1d": ("Conv1d", (3, 4, 2), (2, 3, 5)),
    "ConvTranspose2d": ("ConvTranspose2d", (3, 4, 2), (2, 3, 4, 4)),
}


def both(name: str, ours_do: Any, theirs_do: Any, backend: support.Backend | None = None) -> Any:
    """The same layer here and in torch, with a parametrization and the state of torch's."""
    kind, sizes, shape = LAYERS[name]
    theirs = theirs_do(getattr(torch.nn, kind)(*sizes).double())
    ours = ours_do(getattr(nn, kind)(*sizes, dtype="float64", xp=None if backend is None else backend.xp))
    assert ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()}) == ([], [])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs, np.random.default_rng(0).normal(size=shape)


def assert_agree(ours: Any, theirs: Any, x: Any, backend: support.Backend | None = None, steps: int = 2) -> None:
    """Compare outputs and the gradients of all parameters, in training and then in evaluation."""
    backend = backend or support.Backend("numpy")
    for step in range(steps):
        if step == steps - 1:
            ours.eval()
            theirs.eval()
        y, z = ours(backend.asarray(x)), theirs(torch.tensor(x))
        assert_close(backend.numpy(y.data), z.detach(), rtol=1e-9, atol=1e-11)
        weights = np.random.default_rng(step).normal(size=y.shape)
        ours.zero_grad()
        theirs.zero_grad()
        y.backward(backend.asarray(weights))
        z.backward(torch.tensor(weights))
        gradients = {name: p.grad for name, p in theirs.named_parameters()}
        assert list(gradients) == [name for name, _ in ours.named_parameters()]
        for name, p in ours.named_parameters():
            assert_close(backend.numpy(p.grad), gradients[name], rtol=1e-8, atol=1e-10)
        for name, v in ours.state_dict().items():
            assert_close(backend.numpy(v), theirs.state_dict()[name], rtol=1e-9, atol=1e-11)


WEIGHT_NORMS = [{}, {"dim": None}, {"dim": 1}, {"dim": 0}]


@pytest.mark.parametrize("options", WEIGHT_NORMS)
@pytest.mark.parametrize("name", ["Linear", "Conv1d"])
def test_weight_norm(name: str, options: Any) -> None:
    ours, theirs, x = both(name, lambda m: parametrizations.weight_norm(m, **options), lambda m: T.weight_norm(m, **options))
    assert_agree(ours, theirs, x)
    fresh = parametrizations.weight_norm(getattr(nn, LAYERS[name][0])(*LAYERS[name][1], dtype="float64"), **options)
    before = nn.Linear(4, 3, dtype="float64")
    weight = before.weight.data.copy()
    assert_exact(parametrizations.weight_norm(before).weight.data, weight)  # the weight is what it was
    old = {
        k.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): v
        for k, v in ours.state_dict().items()
    }
    assert "weight_g" in old and fresh.load_state_dict(old) == ([], [])
    assert_exact(fresh.weight.data, ours.weight.data)


SPECTRAL_NORMS = [{}, {"n_power_iterations": 3, "eps": 1e-6}, {"dim": 1}]


@pytest.mark.parametrize("options", SPECTRAL_NORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norm(name: str, options: Any) -> None:
    assert_agree(*both(name, lambda m: parametrizations.spectral_norm(m, **options), lambda m: T.spectral_norm(m, **options)), steps=4)
    bias = both(
        name, lambda m: parametrizations.spectral_norm(m, "bias", dim=0), lambda m: T.spectral_norm(m, "bias", dim=0)
    )  # one axis: its length
    assert_agree(*bias)


ORTHOGONALS = [{"orthogonal_map": m, "use_trivialization": t} for m in (None, "matrix_exp", "cayley", "householder") for t in (True, False)]


@pytest.mark.parametrize("options", ORTHOGONALS, ids=str)
@pytest.mark.parametrize("name", ["Linear", "wide", "square", "Conv1d"])
def test_orthogonal(name: str, options: Any) -> None:
    ours, theirs, x = both(name, lambda m: parametrizations.orthogonal(m, **options), lambda m: T.orthogonal(m, **options))
    assert_agree(ours, theirs, x)
    rng = np.random.default_rng(1)
    for model in (ours, theirs):  # away from where the map starts
        rng = np.random.default_rng(1)
        for p in model.parameters():
            small = 0.3 * rng.normal(size=tuple(p.shape))
            p.data = p.data + (small if model is ours else torch.tensor(small))
    if "householder" in str(options) or options["orthogonal_map"] is None:
        return  # whose diagonal is of signs: no longer
    assert_agree(ours, theirs, x)
    w = ours.weight.data
    w = np.swapaxes(w, -1, -2) if w.shape[-2] < w.shape[-1] else w
    assert_close(np.swapaxes(w, -1, -2) @ w, np.broadcast_to(np.eye(w.shape[-1]), (*w.shape[:-2], *(w.shape[-1],) * 2)), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (4, 4), (2, 5, 3)])
def test_the_vectors_of_reflections(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    value = 0.4 * rng.normal(size=shape)
    rows = np.arange(min(shape[-2:]))
    value[..., rows, rows] = np.where(rng.random((*shape[:-2], len(rows))) < 0.5, -1.0, 1.0)
    ours, theirs = nn.Module(), torch.nn.Module()
    ours.w, theirs.w = nn.Parameter(value), torch.nn.Parameter(torch.tensor(value))
    for module, library in ((ours, parametrizations), (theirs, T)):
        library.orthogonal(module, "w", "householder", use_trivialization=False)
        module.parametrizations.w.original.data = value if module is ours else torch.tensor(value)
    assert_close(ours.w.data, theirs.w.detach(), rtol=1e-12, atol=1e-13)
    weights = rng.normal(size=shape)
    ours.w.backward(weights)
    theirs.w.backward(torch.tensor(weights))
    assert_close(ours.parametrizations.w.original.grad, theirs.parametrizations.w.original.grad, rtol=1e-9, atol=1e-12)
    q = np.linalg.qr(np.swapaxes(value, -1, -2) if shape[-2] < shape[-1] else value)[0]
    q = np.swapaxes(q, -1, -2) if shape[-2] < shape[-1] else q
    ours.w, theirs.w = q, torch.tensor(q)  # and back
    assert_close(ours.w.data, q, rtol=1e-12, atol=1e-12)
    assert_close(ours.parametrizations.w.original.data, theirs.parametrizations.w.original.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["matrix_exp", "cayley"])
def test_unitary(name: str, rng: np.random.Generator) -> None:
    value = rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))
    ours, theirs = nn.Module(), torch.nn.Module()
    ours.w, theirs.w = nn.Parameter(value), torch.nn.Parameter(torch.tensor(value))
    parametrizations.orthogonal(ours, "w", name, use_trivialization=False)
    T.orthogonal(theirs, "w", name, use_trivialization=False)
    assert_close(ours.w.data, theirs.w.detach(), rtol=1e-12, atol=1e-12)
    assert_close(ours.w.data.conj().T @ ours.w.data, np.eye(2), atol=1e-12)
    weights = rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))
    ours.w.backward(weights)
    theirs.w.backward(torch.tensor(weights))
    assert_close(ours.parametrizations.w.original.grad, theirs.parametrizations.w.original.grad, rtol=1e-9, atol=1e-11)
    with pytest.raises(ValueError, match="'householder' is of real matrices"):
        parametrizations.orthogonal(ours, "w", "householder")


def test_matrix_exponential(rng: np.random.Generator) -> None:
    linalg = pytest.importorskip("scipy.linalg")
    for scale in (1e-3, 1.0, 40.0):
        a = scale * rng.normal(size=(2, 5, 5))
        assert_close(matrix_exp(a), linalg.expm(a), rtol=1e-9, atol=1e-9 * abs(linalg.expm(a)).max())
    ad.check_grads(matrix_exp, (rng.normal(size=(3, 3)),), order=2)


def test_assigning_to_an_orthogonal_weight(rng: np.random.Generator) -> None:
    q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for name, exact in [("square", q), ("Linear", q[:3]), ("wide", np.linalg.qr(rng.normal(size=(5, 3)))[0])]:
        ours = parametrizations.orthogonal(getattr(nn, LAYERS[name][0])(*LAYERS[name][1], dtype="float64"))
        ours.weight = exact
        assert_close(ours.weight.data, exact, atol=1e-12)
        assert_close(abs(ours.parametrizations.weight.original.data).sum(), min(exact.shape))
    with pytest.raises(ValueError, match=r"of shape \(5, 3\) is wanted, not \(2, 2\)"):
        ours.weight = np.eye(2)
    stuck = parametrizations.orthogonal(nn.Linear(3, 3), use_trivialization=False)
    with pytest.raises(NotImplementedError, match="made by 'matrix_exp' cannot be assigned to"):
        stuck.weight = np.eye(3, dtype="float32")


# --- on every library ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", support.params())
def test_every_library(backend: support.Backend) -> None:
    assert_agree(*both("Linear", parametrizations.weight_norm, T.weight_norm, backend), backend)
    assert_agree(*both("Linear", parametrizations.spectral_norm, T.spectral_norm, backend), backend)
    assert_agree(*both("Linear", parametrizations.orthogonal, T.orthogonal, backend), backend)
    assert_agree(*both("square", parametrizations.orthogonal, T.orthogonal, backend), backend)


def test_float32_stays() -> None:
    for make in (parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal):
        layer = make(nn.Linear(3, 3))
        assert layer.weight.dtype == np.float32 and layer(np.ones((2, 3), "float32")).dtype == np.float32


# --- the machinery ------------------------------------------------------------------------------------------------------------------------
class Symmetric(nn.Module):
    def forward(self, x: Any) -> Any:
        return (x + x.mT) / 2

    def right_inverse(self, x: Any) -> Any:
        return x


class Doubled(nn.Module):
    def forward(self, x: Any) -> Any:
        return 2 * x


class Sum(nn.Module):
    def forward(self, a: Any, b: Any) -> Any:
        return a + b

    def right_inverse(self, x: Any) -> Any:
        return x / 2, x / 2


def test_one_after_the_other() -> None:
    layer = nn.Linear(3, 3, dtype="float64")
    before, cls = layer.weight, type(layer)
    value = before.data.copy()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert layer.parametrizations.weight.original is before and list(dict(layer.named_parameters())) == [
        "bias",
        "parametrizations.weight.original",
    ]
    assert_exact(layer.weight.data, value + value.T)
    assert type(layer).__name__ == "ParametrizedLinear" and isinstance(layer, nn.Linear)
    assert parametrize.type_before_parametrizations(layer) is cls is parametrize.type_before_parametrizations(nn.Linear(1, 1))
    assert (
        parametrize.is_parametrized(layer)
        and parametrize.is_parametrized(layer, "weight")
        and not parametrize.is_parametrized(layer, "bias")
    )
    with pytest.raises(RuntimeError, match=r"Doubled has no right_inverse\(\)"):
        layer.weight = np.eye(3)
    twin = copy.deepcopy(layer)
    twin.parametrizations.weight.original.data = np.eye(3)
    assert_exact(twin.weight.data, 2 * np.eye(3))
    assert_exact(layer.weight.data, value + value.T)
    with pytest.raises(RuntimeError, match="a ParametrizedLinear cannot be pickled"):
        pickle.dumps(layer)
    assert parametrize.remove_parametrizations(layer, "weight") is layer
    assert layer.weight is before and type(layer) is cls and list(layer.state_dict()) == ["bias", "weight"]
    assert_exact(layer.weight.data, value + value.T)
    pickle.loads(pickle.dumps(layer))


def test_removal_without_the_value() -> None:
    layer = nn.Linear(3, 3)
    value = layer.weight.data.copy()
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.register_parametrization(layer, "bias", Doubled())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    np.testing.assert_array_equal(layer.weight.data, value)
    assert parametrize.is_parametrized(layer, "bias") and not parametrize.is_parametrized(layer, "weight")


def test_several_originals() -> None:
    layer = nn.Linear(3, 2, dtype="float64")
    value = layer.weight.data.copy()
    parametrize.register_parametrization(layer, "weight", Sum())
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"]
    assert layer.parametrizations.weight.ntensors == 2 and all(isinstance(p, nn.Parameter) for p in layer.parameters())
    assert_exact(layer.weight.data, value)
    layer.weight = 3 * value
    assert_exact(layer.parametrizations.weight.original1.data, 1.5 * value)
    with pytest.raises(ValueError, match="made of 2 arrays"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parametrize.remove_parametrizations(layer, "weight")
    assert_exact(layer.weight.data, 3 * value)
    assert isinstance(layer.weight, nn.Parameter) and layer.weight.requires_grad


def test_transfer() -> None:
    one, other, bare = nn.Linear(3, 3), nn.Linear(3, 3), nn.Module()
    parametrize.register_parametrization(one, "weight", Symmetric())
    parametrize.register_parametrization(one, "bias", Sum())
    assert parametrize.transfer_parametrizations_and_params(one, other) is other
    assert other.parametrizations.weight.original is one.parametrizations.weight.original
    assert list(other.state_dict()) == list(one.state_dict())
    np.testing.assert_array_equal(other.weight.data, one.weight.data)
    np.testing.assert_array_equal(other.bias.data, one.bias.data)
    parametrize.transfer_parametrizations_and_params(one, bare, "weight")
    assert list(bare.state_dict()) == ["parametrizations.weight.original"]
    assert parametrize.transfer_parametrizations_and_params(nn.Linear(2, 2), bare) is bare


def test_buffers_and_training() -> None:
    module = nn.Module()
    module.table = nn.Buffer(np.ones(3))
    module.eval()
    doubled = Doubled()
    parametrize.register_parametrization(module, "table", doubled)
    assert not doubled.training and list(module.state_dict()) == ["parametrizations.table.original"]
    assert module.table.data.tolist() == [2, 2, 2] and not module.table.requires_grad
    parametrize.remove_parametrizations(module, "table")
    assert module.table.data.tolist() == [2, 2, 2] and dict(module.named_buffers())


def test_cached() -> None:
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Doubled())
    with parametrize.cached():
        first = layer.weight
        with parametrize.cached():
            assert layer.weight is first
        assert layer.weight is first
        layer(np.ones((1, 2), "float32")).sum().backward()
    assert layer.weight is not first and layer.parametrizations.weight.original.grad is not None


def test_what_is_refused() -> None:
    layer = nn.Linear(3, 2)
    narrow, flat = Doubled(), Doubled()
    narrow.forward = lambda x: x.astype("float64")
    flat.forward = lambda x: x.reshape(-1)
    for call, text in [
        (lambda: parametrize.register_parametrization(layer, "weights", Doubled()), "Linear has no parameter, buffer or .* 'weights'"),
        (
            lambda: parametrize.register_parametrization(layer, "weight", narrow),
            r"dtype float64 for one of shape \(2, 3\) and dtype float32",
        ),
        (lambda: parametrize.register_parametrization(layer, "weight", flat), r"an array of shape \(6,\) .* pass unsafe=True"),
        (lambda: parametrize.remove_parametrizations(layer, "weight"), "Linear has no parametrization on 'weight'"),
        (lambda: parametrize.ParametrizationList([], layer.weight), "one module or more"),
        (lambda: parametrizations.orthogonal(layer, "bias"), r"not a parameter of shape \(2,\)"),
        (lambda: parametrizations.orthogonal(layer, "w"), "Linear has no parameter or buffer 'w'"),
        (lambda: parametrizations.orthogonal(layer, orthogonal_map="qr"), "one of matrix_exp, cayley, householder, not 'qr'"),
        (lambda: parametrizations.spectral_norm(layer, "w"), "Linear has no parameter or buffer 'w'"),
        (lambda: parametrizations.spectral_norm(layer, n_power_iterations=0), "n_power_iterations is 1 or more, not 0"),
        (lambda: parametrizations.spectral_norm(layer, dim=2), r"there is no axis 2 in a weight of shape \(2, 3\)"),
    ]:
        with pytest.raises((ValueError, IndexError), match=text):
            call()
        assert type(layer) is nn.Linear and list(layer.state_dict()) == ["weight", "bias"]
    parametrize.register_parametrization(layer, "weight", flat, unsafe=True)
    assert layer.weight.shape == (6,)


# --- the older forms ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("options", WEIGHT_NORMS)
def test_older_weight_norm(options: Any) -> None:
    ours, theirs, x = both("Conv1d", lambda m: nn.utils.weight_norm(m, **options), lambda m: OLDER.weight_norm(m, **options))
    assert_agree(ours, theirs, x)
    with pytest.raises(RuntimeError, match="'weight' of Conv1d has weight_norm already"):
        nn.utils.weight_norm(ours, "weight")
    nn.utils.remove_weight_norm(ours)
    OLDER.remove_weight_norm(theirs)
    assert_agree(ours, theirs, x)
    with pytest.raises(ValueError, match="'weight' of Conv1d has no weight_norm"):
        nn.utils.remove_weight_norm(ours)


@pytest.mark.parametrize("options", SPECTRAL_NORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_older_spectral_norm(name: str, options: Any) -> None:
    ours, theirs, x = both(name, lambda m: nn.utils.spectral_norm(m, **options), lambda m: OLDER.spectral_norm(m, **options))
    assert_agree(ours, theirs, x, steps=4)
    back = torch.nn.utils.spectral_norm(getattr(torch.nn, LAYERS[name][0])(*LAYERS[name][1]).double(), **options)
    state = ours.state_dict()
    back.load_state_dict(type(state)((k, torch.tensor(v)) for k, v in state.items()))
    with pytest.raises(RuntimeError, match="has spectral_norm already"):
        nn.utils.spectral_norm(ours)
    nn.utils.remove_spectral_norm(ours)
    OLDER.remove_spectral_norm(theirs)
    assert_agree(ours, theirs, x)


def test_what_the_older_forms_refuse() -> None:
    layer = nn.Linear(3, 2, bias=False)
    for call in (nn.utils.weight_norm, nn.utils.spectral_norm):
        with pytest.raises(ValueError, match="Linear has no parameter 'bias'"):
            call(layer, "bias")
    with pytest.raises(ValueError, match="n_power_iterations is 1 or more, not 0"):
        nn.utils.spectral_norm(layer, n_power_iterations=0)
