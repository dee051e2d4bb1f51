"""Mixed precision: what runs in which dtype, gradients that reach the parameters, and the sequence of scales beside torch."""

from __future__ import annotations

import inspect
import pickle
import threading
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import amp
from agnostic_ad.nn import functional as F
from agnostic_ad.op import TABLE

LIBRARIES = support.params(without=("array_api_strict", "dask"))  # whose namespaces have no floating dtype of 16 bits


def name(x: Any) -> str:
    return str(x.dtype).rpartition(".")[2]


def low(backend: support.Backend) -> str:
    return "bfloat16" if backend.name in ("torch", "jax") else "float16"


def leaf(backend: support.Backend, *shape: int, dtype: str = "float32") -> Any:
    return ad.Variable(backend.asarray(np.random.default_rng(0).uniform(0.2, 0.8, size=shape), dtype))


# --- the table ----------------------------------------------------------------------------------------------------------------------------
def test_the_table_names_what_there_is() -> None:
    assert set(TABLE) >= amp.LOW | amp.WIDE and not amp.LOW & amp.WIDE
    assert set(amp.WIDE_FUNCTIONS) <= set(F.__all__)
    assert {n for n in F.__all__ if n.endswith("_loss") or "cross_entropy" in n} - {"linear_cross_entropy"} <= set(amp.WIDE_FUNCTIONS)


PRODUCTS = {
    "@": lambda x, w: x @ w,
    "raw @": lambda x, w: x.data @ w,
    "@ raw": lambda x, w: x @ w.data,
    "matmul": lambda x, w: ad.namespace(x).matmul(x, w),
    "einsum": lambda x, w: ad.einsum("ij,jk->ik", x, w),
    "tensordot": lambda x, w: ad.tensordot(x, w, 1),
    "linear": F.linear,
    "conv1d": lambda x, w: F.conv1d(x[None], w[..., None]),
    "conv_transpose1d": lambda x, w: F.conv_transpose1d(x[None], w[..., None]),
    "attention": lambda x, w: F.scaled_dot_product_attention(x, w, w),
}


@pytest.mark.parametrize("backend", LIBRARIES)
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_run_low(backend: support.Backend, product: str) -> None:
    x, w = leaf(backend, 4, 4), leaf(backend, 4, 4)
    f = PRODUCTS[product]
    want = backend.numpy(f(x, w).data)
    with amp.autocast():
        y = f(x, w)
        assert name(y) == low(backend)
        with amp.autocast(enabled=False):
            assert name(f(x, w)) == "float32"
        assert name(f(leaf(backend, 4, 4, dtype="float64"), leaf(backend, 4, 4, dtype="float64"))) == "float64"  # as in torch
    assert name(f(x, w)) == "float32"
    assert_close(backend.numpy(y.to("float32").data), want, rtol=2e-2)  # bfloat16 has 8 bits of a number
    y.sum().backward()
    for v in (x, w):
        if v.grad is not None:
            assert name(v.grad) == "float32"
    assert x.grad is not None or w.grad is not None


WIDE = {
    "sum": lambda x: x.sum(),
    "mean": lambda x: x.mean(),
    "exp": lambda x: ad.namespace(x).exp(x),
    "log": lambda x: ad.namespace(x).log(x),
    "**": lambda x: x**2.5,
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "rms_norm": lambda x: F.rms_norm(x, (4,)),
    "softplus": F.softplus,
    "norm": lambda x: ad.namespace(x).linalg.vector_norm(x),
    "mse_loss": lambda x: F.mse_loss(x, x * 2),
    "MSELoss": lambda x: nn.MSELoss()(x, x * 2),
    "l1_loss": lambda x: F.l1_loss(input=x, target=x * 2, reduction="none"),
    "cross_entropy": lambda x: F.cross_entropy(x, np.asarray([0, 1, 2, 3])),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x * 2),
}


@pytest.mark.parametrize("what", WIDE)
def test_sums_and_losses_run_wide(what: str) -> None:
    x = leaf(support.Backend("numpy"), 4, 4, dtype="float16")
    with amp.autocast(dtype="float16"):
        y = WIDE[what](x)
        assert name(y) == "float32"
        assert name(F.relu(x)) == name(x + x) == name(x * 2.0) == "float16"  # neither
    want = WIDE[what](ad.Variable(x.data.astype("float32")))
    assert_close(y.data, want.data, rtol=1e-6)
    if y.shape == ():
        y.backward()
        assert name(x.grad) == "float16"


def test_wrapped_functions_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(F.mse_loss)) is F.mse_loss
    assert inspect.signature(F.mse_loss) == inspect.signature(F.mse_loss.__wrapped__)


def test_a_loss_that_would_overflow() -> None:
    x, target = np.full((2, 2), 400, "float16"), np.zeros((2, 2), "float16")
    with amp.autocast(dtype="float16"):
        loss = F.mse_loss(ad.Variable(x), target)
    assert float(loss) == 160000.0  # beyond float16


@pytest.mark.parametrize("backend", LIBRARIES)
def test_a_model_in_mixed_precision(backend: support.Backend) -> None:
    ad.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 3)).to(backend.xp)
    x, labels = leaf(backend, 5, 6).data, backend.asarray(np.asarray([0, 1, 2, 1, 0]))
    loss = F.cross_entropy(model(x), labels)
    loss.backward()
    exact = [backend.numpy(p.grad) for p in model.parameters()]
    model.zero_grad()
    seen: list[str] = []
    for module in model:
        module.register_forward_hook(lambda module, args, y: seen.append(name(y)))
    with amp.autocast(device_type="cpu"):
        mixed = F.cross_entropy(model(x), labels)
    mixed.backward()
    assert seen == [low(backend), low(backend), "float32", low(backend)] and name(mixed) == "float32"
    assert_close(float(mixed), float(loss), rtol=2e-2)
    for p, want in zip(model.parameters(), exact, strict=True):
        assert name(p.grad) == name(p) == "float32"
        assert_close(backend.numpy(p.grad), want, rtol=0.1, atol=0.03)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers(kind: str) -> None:
    layer = getattr(nn, kind)(3, 4)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("float32")
    want, _ = layer(x)
    with amp.autocast(dtype="float16"):
        y, _ = layer(x)
    assert name(y) == "float16"
    assert_close(y.data.astype("float32"), want.data, rtol=1e-2, atol=2e-3)
    y.sum().backward()
    assert name(layer.weight_ih_l0.grad) == "float32"


# --- the switch ---------------------------------------------------------------------------------------------------------------------------
def test_nesting_decorating_and_threads() -> None:
    layer, x = nn.Linear(2, 2), np.ones((1, 2), "float32")
    assert not amp.is_autocast_enabled() and amp.get_autocast_dtype() is None

    @amp.autocast("cuda")
    def forward() -> str:
        assert amp.is_autocast_enabled("cuda") and amp.get_autocast_dtype() == "float16"
        return name(layer(x))

    assert forward() == "float16" and name(layer(x)) == "float32"
    with amp.autocast(dtype=np.float16):
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(name(layer(x))))
        thread.start()
        thread.join()
        with ad.no_grad():
            y = layer(x)
            assert name(y) == "float16" and not y.requires_grad
        with pytest.raises(ValueError, match="stop"), amp.autocast(enabled=False):
            raise ValueError("stop")
        assert name(layer(x)) == "float16"
    assert found == ["float32"] and name(layer(x)) == "float32"


def test_a_parameter_is_converted_once() -> None:
    w, x = ad.Variable(np.ones((2, 2), "float32")), np.ones((1, 2), "float32")
    for cache, conversions in ((True, 1), (False, 3)):
        made: list[Any] = []
        with amp.autocast(dtype="float16", cache_enabled=cache):
            with ad.no_grad():
                w @ x.T  # of which nothing is kept: it has no derivative
            y = sum((F.linear(x, w) for _ in range(3)), start=0.0)
            node = y.node
            while node is not None:  # y = ((0 + y1) + y2) + y3
                parents = node.parents if isinstance(node.parents, tuple) else (node.parents,)
                made += [p.parents for p in parents if p.op.name == "nn.linear"]
                node = next((p for p in parents if p.op.name == "add"), None)
        assert len({id(m[0] if isinstance(m, tuple) else m) for m in made}) == conversions
        w.grad = None
        y.sum().backward()
        assert w.grad.tolist() == [[3, 3], [3, 3]]


def test_training_inside_one_autocast() -> None:
    def train(inside: bool) -> list[float]:
        ad.manual_seed(0)
        model, losses = nn.Linear(3, 2), []
        optimizer = nn.optim.SGD(model.parameters(), lr=0.1)
        with amp.autocast(dtype="float16", enabled=inside):
            for _ in range(4):
                optimizer.zero_grad()
                with amp.autocast(dtype="float16", enabled=True) if not inside else ad.enable_grad():
                    loss = F.mse_loss(model(np.ones((2, 3), "float32")), np.zeros((2, 2), "float32"))
                loss.backward()
                optimizer.step()
                losses.append(float(loss))
        return losses

    losses = train(True)
    assert losses == train(False) and losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("backend", support.params("numpy", "torch"))
def test_inside_transformations(backend: support.Backend) -> None:
    w, x = leaf(backend, 3, 3).data, leaf(backend, 2, 3).data

    def loss(w: Any, x: Any) -> Any:
        y = F.linear(x, w)
        assert name(y) == low(backend)
        return F.mse_loss(y, x)

    want = ad.grad(lambda w: F.mse_loss(F.linear(x, w), x))(w)
    with amp.autocast():
        for found in (ad.grad(loss)(w, x), ad.jacfwd(loss)(w, x), ad.vmap(ad.grad(loss), in_axes=(0, None))(w[None], x)[0]):
            assert name(found) == "float32"
            assert_close(backend.numpy(found), backend.numpy(want), rtol=0.05, atol=2e-3)


def test_anomalies_are_still_found_and_not_looked_for_otherwise() -> None:
    x = ad.Variable(np.zeros(2, "float32"))
    with np.errstate(divide="ignore"), amp.autocast(dtype="float16"):
        ad.namespace(x).sqrt(x).sum().backward()  # an infinity, and no error
        with ad.detect_anomaly(), pytest.raises(ad.errors.AnomalyError, match="sqrt"):
            ad.namespace(x).sqrt(x).sum().backward()


def test_what_autocast_refuses() -> None:
    with pytest.raises(ValueError, match="dtype is float16 or bfloat16, not float32"):
        amp.autocast(dtype="float32")
    with pytest.raises(TypeError, match="give the dtype by keyword"):
        amp.autocast(np.float16)
    with pytest.raises(TypeError, match="autocast: numpy has no dtype bfloat16; it has float16"), amp.autocast(dtype="bfloat16"):
        F.linear(np.ones((1, 2), "float32"), np.ones((2, 2), "float32"))


@pytest.mark.parametrize("backend", support.params("array_api_strict", "dask"))
def test_a_library_without_16_bits(backend: support.Backend) -> None:
    with pytest.raises(TypeError, match=r"autocast: (array_api_strict|dask.array) has no dtype float16 or bfloat16$"), amp.autocast():
        leaf(backend, 2, 2) @ leaf(backend, 2, 2)


# --- the scaler ---------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options", [{}, {"init_scale": 3.0, "growth_factor": 1.7, "backoff_factor": 0.3, "growth_interval": 2}, {"growth_interval": 1}]
)
def test_the_sequence_of_scales_and_parameters_is_torchs(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    p, t = nn.Parameter(np.ones(3, "float32")), torch.nn.Parameter(torch.ones(3))
    ours, theirs = nn.optim.SGD([p], lr=0.01, momentum=0.9), torch.optim.SGD([t], lr=0.01, momentum=0.9)
    scaler, want = amp.GradScaler(**options), torch.amp.GradScaler("cpu", **options)
    steps = 0
    for i in range(150):
        factor = rng.normal(size=3).astype("float32")
        if rng.random() < 0.15:
            factor[1] = (np.inf, np.nan)[i % 2]
        ours.zero_grad()
        theirs.zero_grad()
        scaler.scale((p * factor).sum()).backward()
        want.scale((t * torch.tensor(factor)).sum()).backward()
        if i % 3 == 0:
            scaler.unscale_(ours)
            want.unscale_(theirs)
            np.testing.assert_array_equal(p.grad, t.grad)
        before = p.data.copy()
        scaler.step(ours)
        want.step(theirs)
        steps += not (before == p.data).all()
        assert_close(p.data, t.detach(), rtol=1e-5)  # float32: torch's SGD rounds once where two operations round twice
        scaler.update()
        want.update()
        assert scaler.get_scale() == want.get_scale()
    assert 100 < steps < 150 and np.isfinite(p.data).all()
    state = scaler.state_dict()
    assert state == want.state_dict()
    again = amp.GradScaler()
    again.load_state_dict(want.state_dict())
    assert again.state_dict() == state


def test_the_scale_does_not_grow_beyond_float32() -> None:
    p = nn.Parameter(np.ones(1))
    optimizer, scaler = nn.optim.SGD([p], lr=0.1), amp.GradScaler(init_scale=2.0**127, growth_interval=1)
    p.grad = np.ones(1)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**127


@pytest.mark.parametrize("backend", support.params())
def test_the_scaler_on_every_library(backend: support.Backend) -> None:
    p = nn.Parameter(backend.asarray([1.0, 2.0], "float32"))
    optimizer, scaler = nn.optim.SGD([p], lr=0.5), amp.GradScaler(init_scale=8.0)
    scaler.scale((p * p).sum()).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_value_([p], 2.0)
    scaler.step(optimizer)
    scaler.update()
    assert backend.numpy(p.data).tolist() == [0.0, 1.0] and name(p) == "float32"
    p.grad = backend.asarray([np.inf, 0.0], "float32")
    assert scaler.step(optimizer) is None
    scaler.update()
    assert backend.numpy(p.data).tolist() == [0.0, 1.0] and scaler.get_scale() == 4.0


def test_two_optimizers_of_which_one_is_bad() -> None:
    p, q = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1))
    first, second, scaler = nn.optim.SGD([p], lr=1.0), nn.optim.SGD([q], lr=1.0), amp.GradScaler(init_scale=2.0)
    p.grad, q.grad = np.asarray([np.nan]), np.asarray([1.0])
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (p.data[0], q.data[0], scaler.get_scale()) == (1.0, 0.5, 1.0)


def test_a_scaler_that_is_disabled() -> None:
    p = nn.Parameter(np.ones(1))
    optimizer, scaler = nn.optim.SGD([p], lr=1.0), amp.GradScaler(enabled=False)
    loss = p.sum()
    assert scaler.scale(loss) is loss and not scaler.is_enabled() and scaler.get_scale() == 1.0 and scaler.state_dict() == {}
    loss.backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    scaler.load_state_dict({})
    assert p.data[0] == 0.0


def test_settings_and_several_losses() -> None:
    scaler = amp.GradScaler("cuda", 4.0)
    for setting, value in (("growth_factor", 3.0), ("backoff_factor", 0.1), ("growth_interval", 7)):
        getattr(scaler, f"set_{setting}")(value)
        assert getattr(scaler, f"get_{setting}")() == value == scaler.state_dict()[setting]
    a, b = ad.Variable([1.0]), np.asarray([2.0])
    one, (two, three) = scaler.scale([a, (b, a)])
    assert one.data[0] == three.data[0] == 4.0 and two[0] == 8.0
    p = nn.Parameter(np.ones(1))
    p.grad = np.ones(1)
    scaler.step(nn.optim.SGD([p]))
    scaler.update(16.0)
    assert scaler.get_scale() == 16.0


def test_what_the_scaler_refuses() -> None:
    p, half = nn.Parameter(np.ones(1)), nn.Parameter(np.ones(1, "float16"))
    optimizer, scaler = nn.optim.SGD([p], lr=1.0), amp.GradScaler()
    with pytest.raises(RuntimeError, match=r"call step\(optimizer\) first"):
        scaler.update()
    with pytest.raises(ValueError, match="takes no closure"):
        scaler.step(optimizer, lambda: None)
    p.grad = np.ones(1)
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) has been called since the last update"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) has been called since the last update"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match=r"step\(\) of this optimizer has been called since"):
        scaler.step(optimizer)
    half.grad = np.ones(1, "float16")
    with pytest.raises(ValueError, match=r"gradients in float16 cannot be unscaled\. Keep the parameters in float32"):
        scaler.unscale_(nn.optim.SGD([half], lr=1.0))
    with pytest.raises(TypeError, match="an array or an iterable of arrays, not int"):
        scaler.scale(3)
    with pytest.raises(ValueError, match="the state is empty"):
        scaler.load_state_dict({})
    with pytest.raises(KeyError, match="lacks growth_factor, backoff_factor, growth_interval, _growth_tracker"):
        scaler.load_state_dict({"scale": 1.0})
    for options, text in (
        ({"growth_factor": 1.0}, "growth_factor is more than 1"),
        ({"backoff_factor": 1.0}, "backoff_factor is less than 1"),
    ):
        with pytest.raises(ValueError, match=text):
            amp.GradScaler(**options)
