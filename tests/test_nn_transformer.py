"""Transformers beside torch: every option, masks, weights there and back."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn

torch = pytest.importorskip("torch")

WIDTH, HEADS, INNER = 6, 2, 5
LATER = np.triu(np.ones((4, 4), bool), 1)


def pair(make: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Make torch's module of drawn weights, and ours with the same; ``make(nn, dtype)`` does either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about nested tensors
        theirs = make(torch.nn, torch.float64)
    for p in theirs.parameters():
        p.data = torch.tensor(rng.normal(size=tuple(p.shape)))
    mine = make(nn, "float64")
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return mine, theirs


def assert_alike(mine: Any, theirs: Any, arrays: list[Any], rng: np.random.Generator, **masks: Any) -> None:
    """Compare results, and gradients of inputs and parameters."""
    ours, others = [ad.Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y = mine(*ours, **masks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about masks of two kinds
        z = theirs(*others, **{k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in masks.items()})
    assert_close(y.data, z.detach(), 1e-9, 1e-10)
    ct = rng.normal(size=y.shape)
    y.backward(ct)
    z.backward(torch.tensor(ct))
    for a, b in [*zip(ours, others, strict=True), *zip(mine.parameters(), theirs.parameters(), strict=True)]:
        assert_close(a.grad, b.grad, 1e-7, 1e-9)


ACTIVATIONS: dict[str, Any] = {
    "relu": lambda nn: "relu",
    "gelu": lambda nn: "gelu",
    "function": lambda nn: nn.functional.silu,
    "module": lambda nn: nn.Tanh(),
}


@pytest.mark.parametrize("layer", ["TransformerEncoderLayer", "TransformerDecoderLayer"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm_first", [False, True])
def test_layers(rng: np.random.Generator, layer: str, activation: str, norm_first: bool) -> None:
    for batch_first, bias, batched in itertools.product((False, True), repeat=3):

        def make(nn: Any, dtype: Any, batch_first: bool = batch_first, bias: bool = bias) -> Any:
            given = ACTIVATIONS[activation](nn)
            return getattr(nn, layer)(WIDTH, HEADS, INNER, 0.0, given, 1e-3, batch_first, norm_first, bias, dtype=dtype)

        mine, theirs = pair(make, rng)
        shapes = [(n, WIDTH) if not batched else (2, n, WIDTH) if batch_first else (n, 2, WIDTH) for n in (4, 3)]
        arrays = [rng.normal(size=shape) for shape in shapes[: 1 + (layer == "TransformerDecoderLayer")]]
        assert_alike(mine, theirs, arrays, rng)


@pytest.mark.parametrize("masks", ["none", "causal", "said", "padding", "both"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformer(rng: np.random.Generator, masks: str, batch_first: bool) -> None:
    mine, theirs = pair(lambda nn, dtype: nn.Transformer(WIDTH, HEADS, 2, 2, INNER, 0.0, batch_first=batch_first, dtype=dtype), rng)
    shapes = [(2, n, WIDTH) if batch_first else (n, 2, WIDTH) for n in (5, 4)]
    causal = nn.Transformer.generate_square_subsequent_mask(4, dtype="float64")
    assert_close(causal, torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64), 0, 0)
    pads = {"src_key_padding_mask": np.arange(5) > np.asarray([[3], [4]]), "tgt_key_padding_mask": np.arange(4) > np.asarray([[3], [2]])}
    given: dict[str, Any] = {
        "none": {},
        "causal": {"tgt_mask": causal},
        "said": {"tgt_mask": LATER, "tgt_is_causal": True},
        "padding": {**pads, "memory_key_padding_mask": pads["src_key_padding_mask"]},
        "both": {**pads, "tgt_mask": LATER, "memory_mask": rng.normal(size=(4, 5)), "src_mask": np.eye(5, k=1, dtype=bool)},
    }[masks]
    assert_alike(mine, theirs, [rng.normal(size=shape) for shape in shapes], rng, **given)


@pytest.mark.parametrize("norm", [False, True])
def test_stacks(rng: np.random.Generator, norm: bool) -> None:
    def encoder(nn: Any, dtype: Any) -> Any:
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, 0.0, dtype=dtype)
        return nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH, dtype=dtype) if norm else None, enable_nested_tensor=False)

    def decoder(nn: Any, dtype: Any) -> Any:
        layer = nn.TransformerDecoderLayer(WIDTH, HEADS, INNER, 0.0, dtype=dtype)
        return nn.TransformerDecoder(layer, 2, nn.LayerNorm(WIDTH, dtype=dtype) if norm else None)

    x, memory = rng.normal(size=(4, 2, WIDTH)), rng.normal(size=(3, 2, WIDTH))
    for mask in (LATER, np.where(LATER, -np.inf, 0.0), rng.normal(size=(4, 4))):
        assert_alike(*pair(encoder, rng), [x], rng, mask=mask)
        assert_alike(*pair(decoder, rng), [x, memory], rng, tgt_mask=mask)


def test_evaluation_is_that_of_torch(rng: np.random.Generator) -> None:
    mine, theirs = pair(lambda nn, dtype: nn.Transformer(WIDTH, HEADS, 1, 1, INNER, 0.5, batch_first=True, dtype=dtype), rng)
    src, tgt = rng.normal(size=(2, 5, WIDTH)), rng.normal(size=(2, 4, WIDTH))
    with torch.no_grad(), ad.no_grad():
        y, z = mine.eval()(src, tgt), theirs.eval()(torch.tensor(src), torch.tensor(tgt))
    assert_close(y.data, z, 1e-9, 1e-10)


def test_dropout_in_training(rng: np.random.Generator) -> None:
    layer, x = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.5), rng.normal(size=(3, 2, 4)).astype("float32")
    ad.manual_seed(0)
    first = layer(x)
    assert np.abs(first.data - layer(x).data).max() > 0
    ad.manual_seed(0)
    assert_close(layer(x).data, first.data, 0, 0)
    assert first.dtype == np.float32


def test_blocks_may_be_overridden(rng: np.random.Generator) -> None:
    class Silent(nn.TransformerEncoderLayer):
        def _sa_block(self, x: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False) -> Any:
            return 0.0 * x

        def _ff_block(self, x: Any) -> Any:
            return 0.0 * x

    x = rng.normal(size=(3, 2, 4)).astype("float32")
    assert_close(Silent(4, 2, 6, norm_first=True)(x), x, 0, 0)


def test_layers_of_a_stack_are_copies() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6)
    stack = nn.TransformerEncoder(layer, 2)
    first, second = (each.linear1.weight for each in stack.layers)
    assert_close(first.data, layer.linear1.weight.data, 0, 0)
    assert first is not second and isinstance(first, nn.Parameter)
    first.data = first.data + 1
    assert_close(second.data, layer.linear1.weight.data, 0, 0)


def test_other_libraries(backend: support.Backend, rng: np.random.Generator) -> None:
    theirs = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, 0.0, "gelu", batch_first=True, dtype=torch.float64)
    with ad.defaults(xp=backend.xp, dtype="float64"):
        mine = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, 0.0, "gelu", batch_first=True)
    mine.load_state_dict({name: backend.asarray(value.numpy()) for name, value in theirs.state_dict().items()})
    x, pad = rng.normal(size=(2, 3, WIDTH)), np.asarray([[False, False, True], [False] * 3])
    v, t = ad.Variable(backend.asarray(x)), torch.tensor(x, requires_grad=True)
    y, z = mine(v, src_key_padding_mask=backend.asarray(pad)), theirs(t, src_key_padding_mask=torch.tensor(pad))
    y.sum().backward()
    z.sum().backward()
    assert_close(backend.numpy(y.data), z.detach(), 1e-9, 1e-10)
    assert_close(backend.numpy(v.grad), t.grad, 1e-7, 1e-9)


def test_second_derivatives_and_batches(rng: np.random.Generator) -> None:
    mine, theirs = pair(lambda nn, dtype: nn.TransformerEncoderLayer(4, 2, 3, 0.0, "gelu", dtype=dtype), rng)
    x = rng.normal(size=(3, 4))
    v, t = ad.Variable(x), torch.tensor(x, requires_grad=True)
    slope = ad.grad(lambda x: (mine(x) ** 3).sum())(v)
    (slope**2).sum().backward()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # torch's other ones have no second derivative
        (torch.autograd.grad((theirs(t) ** 3).sum(), t, create_graph=True)[0] ** 2).sum().backward()
    for a, b in [*zip(mine.parameters(), theirs.parameters(), strict=True), (v, t)]:
        if b.grad is not None:  # a bias behind which nothing is curved has none
            assert_close(a.grad, b.grad, 1e-7, 1e-8)
    many = rng.normal(size=(2, 3, 4))
    with ad.no_grad():
        batch = ad.vmap(mine)(many)
    assert_close(batch.data, np.stack([mine(x).data for x in many]), 1e-12, 1e-12)


X = np.ones((3, 2, 4), dtype="float32")
ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "activation": (lambda: nn.TransformerEncoderLayer(4, 2, activation="tanh"), ValueError, "'relu', 'gelu' or a function, not 'tanh'"),
    "batch": (
        lambda: nn.Transformer(4, 2, 1, 1, 4)(X, X[:, :1]),
        ValueError,
        r"src of shape \(3, 2, 4\) and tgt of shape .* not of one batch",
    ),
    "features": (lambda: nn.Transformer(2, 2, 1, 1, 4)(X, X), ValueError, r"src and tgt have 2 features; got shapes \(3, 2, 4\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
