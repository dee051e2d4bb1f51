"""Attention beside torch: masks, heads, what is kept in memory, other libraries and transformations."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.backends import numpy_attention
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional

LATER = np.triu(np.ones((4, 4), bool), 1)
MASKS: dict[str, Any] = {
    "none": {},
    "causal": {"is_causal": True},
    "boolean": {"attn_mask": np.asarray([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)},
    "added": {"attn_mask": np.linspace(-2, 2, 15).reshape(3, 5)},
    "a head's own": {"attn_mask": np.arange(60).reshape(2, 2, 3, 5) % 3 > 0},
    "infinite": {"attn_mask": np.where(np.eye(3, 5, dtype=bool), 0.0, -np.inf)},
    "scale": {"scale": 0.3},
}


def tensors(x: Any) -> Any:
    return torch.tensor(x) if isinstance(x, np.ndarray) else x


def draw(rng: np.random.Generator, *shapes: tuple[int, ...]) -> list[Any]:
    return [rng.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("name", MASKS)
def test_values_and_gradients_are_those_of_torch(backend: support.Backend, rng: np.random.Generator, name: str) -> None:
    arrays = draw(rng, (2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 6))
    mine, theirs = [ad.Variable(backend.asarray(a)) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    given = {k: backend.asarray(v) if isinstance(v, np.ndarray) else v for k, v in MASKS[name].items()}
    y = F.scaled_dot_product_attention(*mine, **given)
    z = T.scaled_dot_product_attention(*theirs, **{k: tensors(v) for k, v in MASKS[name].items()})
    ct = rng.normal(size=y.shape)
    y.backward(backend.asarray(ct))
    z.backward(torch.tensor(ct))
    assert_close(backend.numpy(y.data), z.detach(), 1e-9, 1e-12)
    for a, b in zip(mine, theirs, strict=True):
        assert_close(backend.numpy(a.grad), b.grad, 1e-7, 1e-12)


def test_mask_has_a_gradient(rng: np.random.Generator) -> None:
    arrays = draw(rng, (2, 3, 4), (2, 5, 4), (2, 5, 4), (1, 3, 5))
    mine, theirs = [ad.Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    F.scaled_dot_product_attention(*mine).sum().backward()
    T.scaled_dot_product_attention(*theirs).sum().backward()
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a.grad, b.grad, 1e-7, 1e-12)


@pytest.mark.parametrize("heads", [(6, 2, 2), (6, 3, 1), (2, 2, 2)])
def test_heads_may_share_keys(rng: np.random.Generator, heads: tuple[int, int, int]) -> None:
    arrays = draw(rng, (2, heads[0], 3, 4), (2, heads[1], 5, 4), (2, heads[2], 5, 3))
    mine, theirs = [ad.Variable(a) for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]
    y = F.scaled_dot_product_attention(*mine, enable_gqa=True)
    z = T.scaled_dot_product_attention(*theirs, enable_gqa=True)
    assert_close(y.data, z.detach(), 1e-9, 1e-12)
    y.sum().backward()
    z.sum().backward()
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a.grad, b.grad, 1e-7, 1e-12)


@pytest.mark.parametrize(("cache", "step"), [(1, 2), (200, 3), (1 << 12, 64)])
@pytest.mark.parametrize("shapes", [((2, 3, 7, 4), (2, 3, 9, 4)), ((2, 3, 7, 4), (1, 3, 9, 4)), ((3, 7, 4), (7, 4)), ((9, 4), (5, 4))])
@pytest.mark.parametrize("kind", ["plain", "causal", "mask", "large"])
def test_blocks_do_not_matter(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, cache: int, step: int, shapes: Any, kind: str
) -> None:
    monkeypatch.setattr(numpy_attention, "CACHE", cache)
    monkeypatch.setattr(numpy_attention, "STEP", step)
    q, k, v = draw(rng, shapes[0], shapes[1], shapes[1])
    q = q * 1e3 if kind == "large" else q  # the exponential of a score overflows
    mask = rng.normal(size=(q.shape[-2], k.shape[-2])) > 0 if kind == "mask" else None
    given = {"attn_mask": mask, "is_causal": kind == "causal"}
    theirs = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    batch = q.shape[:-2]
    z = T.scaled_dot_product_attention(
        *(t.expand(*batch, *t.shape[-2:]) for t in theirs), **{name: tensors(value) for name, value in given.items()}
    )
    mine = [ad.Variable(a) for a in (q, k, v)]
    y = F.scaled_dot_product_attention(*mine, **given)
    assert_close(y.data, z.detach(), 1e-9, 1e-12)
    y.sum().backward()
    z.sum().backward()
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a.grad, b.grad, 1e-7, 1e-9)


def test_result_lies_as_the_query() -> None:
    packed = np.ones((2, 5, 3, 4, 6), dtype="float32")
    q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    y = F.scaled_dot_product_attention(q, k, v)
    assert y.dtype == np.float32 and y.transpose(0, 2, 1, 3).flags.c_contiguous


def test_the_weights_are_not_kept() -> None:
    q, k, v = (ad.Variable(np.ones((64, 256, 8), dtype="float32")) for _ in range(3))
    weights = 64 * 256 * 256 * 4
    tracemalloc.start()
    try:
        y = F.scaled_dot_product_attention(q, k, v)
        held, peak = tracemalloc.get_traced_memory()
        assert held < weights / 8 and peak < weights / 4
        y.backward(y.data)
        assert tracemalloc.get_traced_memory()[1] < weights / 2
    finally:
        tracemalloc.stop()


def test_second_derivatives_and_batches(rng: np.random.Generator) -> None:
    q, k, v, mask = draw(rng, (3, 4), (5, 4), (5, 2), (3, 5))
    ad.check_grads(F.scaled_dot_product_attention, (q, k, v, mask), order=2)
    many = rng.normal(size=(4, 3, 4))
    loop = np.stack([F.scaled_dot_product_attention(each, k, v, mask) for each in many])
    assert_close(ad.vmap(lambda q: F.scaled_dot_product_attention(q, k, v, mask))(many), loop, 1e-12, 1e-12)


def test_dropout_of_weights(rng: np.random.Generator) -> None:
    q, k = draw(rng, (2, 3, 4), (2, 5, 4))
    v = np.broadcast_to(np.eye(5), (2, 5, 5))  # the result is the weights
    whole = F.scaled_dot_product_attention(q, k, v)
    ad.manual_seed(0)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.5)
    dropped = y == 0
    assert dropped.any() and not dropped.all()
    assert_close(y[~dropped], 2 * whole[~dropped], 1e-12, 1e-12)
    ad.manual_seed(0)
    again = F.scaled_dot_product_attention(*(ad.Variable(x) for x in (q, k, v)), dropout_p=0.5)
    assert_close(again.data, y, 1e-12, 1e-12)
    assert not F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).any()


# --- several heads -----------------------------------------------------------------------------------------------------------------------
def pair(rng: np.random.Generator, *args: Any, **options: Any) -> tuple[Any, Any]:
    """Make torch's module with drawn weights, and ours with the same."""
    theirs = torch.nn.MultiheadAttention(*args, dtype=torch.float64, **options)
    for p in theirs.parameters():
        p.data = torch.tensor(rng.normal(size=tuple(p.shape)))
    mine = nn.MultiheadAttention(*args, dtype="float64", **options)
    mine.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return mine, theirs


OPTIONS: list[dict[str, Any]] = [{}, {"bias": False}, {"add_bias_kv": True, "add_zero_attn": True}, {"kdim": 5, "vdim": 3}]
HEAD_MASKS = ["none", "boolean", "added", "a head's own", "causal"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("given", ["one", "memory", "apart"])
@pytest.mark.parametrize("mask", HEAD_MASKS)
def test_multihead_attention(rng: np.random.Generator, options: dict[str, Any], given: str, mask: str) -> None:
    if "kdim" in options and given != "apart":
        given = "apart"
    for batch_first, batched, need_weights, padding in itertools.product((False, True), (False, True), (False, True), (None, "b", "f")):
        mine, theirs = pair(rng, 6, 2, batch_first=batch_first, **options)
        size, length, keys = 3 if batched else 1, 4, 4 if given == "one" or mask == "causal" else 5

        def shape(length: int, width: int, size: int = size, batch_first: bool = batch_first, batched: bool = batched) -> Any:
            return (length, width) if not batched else (size, length, width) if batch_first else (length, size, width)

        q = rng.normal(size=shape(length, 6))
        k = q if given == "one" else rng.normal(size=shape(keys, options.get("kdim", 6)))
        v = k if given != "apart" else rng.normal(size=shape(keys, options.get("vdim", 6)))
        hidden = {
            "none": None,
            "boolean": rng.random((length, keys)) < 0.4,
            "added": rng.normal(size=(length, keys)),
            "a head's own": rng.random((size * 2, length, keys)) < 0.4,
            "causal": LATER,
        }[mask]
        pad = None if padding is None else rng.random((size, keys)) < 0.4 if padding == "b" else rng.normal(size=(size, keys))
        for x in (hidden, pad):
            if x is not None and x.dtype == bool:
                x[..., 0] = False  # torch gives NaN for weights of nothing
        pad = pad if batched or pad is None else pad[0]
        how = {"need_weights": need_weights, "average_attn_weights": batched, "is_causal": mask == "causal"}
        ours, others = [ad.Variable(x) for x in (q, k, v)], [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
        for i, same in ((1, k is q), (2, v is k)):
            if same:
                ours[i], others[i] = ours[i - 1], others[i - 1]
        y, weights = mine(*ours, key_padding_mask=pad, attn_mask=hidden, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's about masks of two kinds
            z, wanted = theirs(*others, key_padding_mask=tensors(pad), attn_mask=tensors(hidden), **how)
        assert_close(y.data, z.detach(), 1e-9, 1e-11)
        assert (weights is None) == (wanted is None)
        if weights is not None:
            assert_close(weights.data, wanted.detach(), 1e-9, 1e-11)
        ct = rng.normal(size=y.shape)
        y.backward(ct)
        z.backward(torch.tensor(ct))
        for a, b in [*zip(ours, others, strict=True), *zip(mine.parameters(), theirs.parameters(), strict=True)]:
            assert_close(a.grad, b.grad, 1e-7, 1e-10)


def test_state_goes_there_and_back(rng: np.random.Generator) -> None:
    for options in OPTIONS:
        mine, theirs = pair(rng, 6, 3, **options)
        assert list(mine.state_dict()) == list(theirs.state_dict())
        back = torch.nn.MultiheadAttention(6, 3, dtype=torch.float64, **options)
        back.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in mine.state_dict().items()})
        assert all(torch.equal(a, b) for a, b in zip(back.parameters(), theirs.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # NumPy's word where PyTorch gives NaN
def test_queries_without_keys(rng: np.random.Generator) -> None:
    mine, theirs = pair(rng, 4, 2, batch_first=True)
    x, pad = rng.normal(size=(2, 3, 4)), np.asarray([[True] * 3, [False, True, False]])
    for need_weights in (False, True):  # zeros, and NaN
        y, _ = mine(x, x, x, key_padding_mask=pad, need_weights=need_weights)
        z, _ = theirs(*[torch.tensor(x)] * 3, key_padding_mask=torch.tensor(pad), need_weights=need_weights)
        assert_close(y.data, z.detach(), 1e-9, 1e-12)
        assert bool(np.isnan(y.data[0]).all()) is need_weights


def test_static_keys(rng: np.random.Generator) -> None:
    x, k, v, *weights = draw(rng, (3, 2, 4), (4, 5, 2), (4, 5, 2), (12, 4), (12,), (4, 4), (4,))
    args: Any = (weights[0], weights[1], None, None, False, 0.0, weights[2], weights[3])
    y, w = F.multi_head_attention_forward(x, x, x, 4, 2, *args, static_k=k, static_v=v)
    t = torch.tensor(x)
    z, u = T.multi_head_attention_forward(t, t, t, 4, 2, *map(tensors, args), static_k=tensors(k), static_v=tensors(v))
    assert_close(y, z.detach(), 1e-9, 1e-12)
    assert_close(w, u, 1e-9, 1e-12)


def test_nothing_recorded_is_raw_and_float32_stays() -> None:
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = np.ones((2, 3, 4), dtype="float32")
    y, weights = layer(x, x, x)
    assert y.dtype == weights.dtype == np.float32
    q = np.ones((3, 4), dtype="float32")
    assert type(F.scaled_dot_product_attention(q, q, q)) is np.ndarray


def test_dropout_in_training_alone(rng: np.random.Generator) -> None:
    layer, x = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True), rng.normal(size=(2, 3, 4)).astype("float32")
    for need_weights in (False, True):
        layer.train()
        first, second = (layer(x, x, x, need_weights=need_weights)[0].data for _ in range(2))
        assert np.abs(first - second).max() > 0
        layer.eval()
        first, second = (layer(x, x, x, need_weights=need_weights)[0].data for _ in range(2))
        assert np.abs(first - second).max() == 0


# --- grouped products --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("a", "b", "ends"),
    [
        ((6, 4), (3, 4, 2), [2, 2, 6]),
        ((2, 3, 4), (4, 7), [3, 7]),
        ((3, 6), (6, 2), [1, 6]),
        ((2, 3, 4), (2, 4, 5), None),
    ],
)
def test_grouped_mm(rng: np.random.Generator, a: Any, b: Any, ends: Any) -> None:
    x, y = (array.astype("float32") for array in draw(rng, a, b))
    offs = None if ends is None else np.asarray(ends, dtype="int32")
    got = F.grouped_mm(ad.Variable(x), ad.Variable(y), offs=offs)
    wide = torch.zeros(*b[:-1], -(-b[-1] // 4) * 4)  # torch wants rows of 16 bytes
    wide[..., : b[-1]] = torch.tensor(y)
    pieces = [slice(start, end) for start, end in itertools.pairwise([0, *(ends or [])])]
    if ends is None:
        wanted = x @ y
    elif len(a) == len(b):
        wanted = np.stack([x[:, piece] @ y[piece] for piece in pieces])
    elif len(a) == 2:
        wanted = np.concatenate([x[piece] @ y[i] for i, piece in enumerate(pieces)])
    else:
        wanted = np.concatenate([x[i] @ y[:, piece] for i, piece in enumerate(pieces)], axis=1)
    assert_close(got.data, wanted, 1e-5, 1e-5)  # float32
    ad.check_grads(lambda x, y: F.grouped_mm(x, y, offs=offs), (x.astype("float64"), y.astype("float64")), order=1)


def test_grouped_mm_leaves_a_rest(rng: np.random.Generator) -> None:
    x, y = draw(rng, (5, 2), (2, 2, 3))
    got = F.grouped_mm(x, y, offs=np.asarray([1, 3]))
    assert_close(got, np.concatenate([x[:1] @ y[0], x[1:3] @ y[1], np.zeros((2, 3))]), 1e-12, 1e-12)


# --- errors ------------------------------------------------------------------------------------------------------------------------------
ONE = np.ones((3, 4))
ERRORS: dict[str, tuple[Any, type[Exception], str]] = {
    "causal and mask": (lambda: F.scaled_dot_product_attention(ONE, ONE, ONE, ONE, is_causal=True), ValueError, "exclude each other"),
    "probability": (lambda: F.scaled_dot_product_attention(ONE, ONE, ONE, dropout_p=2.0), ValueError, "between 0 and 1, not 2.0"),
    "dtypes": (
        lambda: F.scaled_dot_product_attention(ONE, ONE.astype("f4"), ONE),
        TypeError,
        "one dtype; got float64, float32 and float64",
    ),
    "shapes": (
        lambda: F.scaled_dot_product_attention(ONE, ONE[:, :2], ONE),
        ValueError,
        r"queries of shape \(3, 4\), keys \(3, 2\) and values \(3, 4\) do not fit: \(\.\.\., L, E\)",
    ),
    "mask": (lambda: F.scaled_dot_product_attention(ONE, ONE, ONE, ONE), ValueError, r"mask of shape \(3, 4\) does not broadcast to"),
    "mask's dtype": (
        lambda: F.scaled_dot_product_attention(ONE, ONE, ONE, np.ones((3, 3), int)),
        TypeError,
        "attn_mask is boolean or has the dtype of query, float64; got int64",
    ),
    "groups": (
        lambda: F.scaled_dot_product_attention(np.ones((3, 2, 4)), np.ones((2, 2, 4)), np.ones((2, 2, 4)), enable_gqa=True),
        ValueError,
        r"number of heads of query is a multiple of that of key and of value; got shapes \(3, 2, 4\) and \(2, 2, 4\)",
    ),
    "heads": (lambda: nn.MultiheadAttention(5, 2), ValueError, "embed_dim is a positive multiple of num_heads; got 5 and 2"),
    "dimensions": (lambda: nn.MultiheadAttention(4, 2)(ONE, ONE[None], ONE), ValueError, r"3 dimensions, or 2 without a batch; got shapes"),
    "features": (lambda: nn.MultiheadAttention(2, 1)(ONE, ONE, ONE), ValueError, "query has 4 features; 2 are wanted"),
    "causal alone": (lambda: nn.MultiheadAttention(4, 2)(ONE, ONE, ONE, is_causal=True), ValueError, "so attn_mask is wanted too"),
    "key and value": (
        lambda: nn.MultiheadAttention(4, 2)(ONE, ONE, ONE[:2]),
        ValueError,
        r"key of shape .* and value of shape .* do not fit",
    ),
    "attention mask": (
        lambda: nn.MultiheadAttention(4, 2, dtype="float64")(ONE, ONE, ONE, attn_mask=ONE),
        ValueError,
        r"attn_mask has the shape \(3, 3\) or \(2, 3, 3\); got \(3, 4\)",
    ),
    "padding's dimensions": (
        lambda: nn.MultiheadAttention(4, 2)(ONE, ONE, ONE, key_padding_mask=ONE),
        ValueError,
        r"key_padding_mask has 1 dimensions beside a query of 2; got \(3, 4\)",
    ),
    "mask of numbers": (
        lambda: nn.MultiheadAttention(4, 2, dtype="float64")(ONE, ONE, ONE, attn_mask=np.ones((3, 3), int)),
        TypeError,
        "attn_mask is boolean or floating, not int64",
    ),
    "offs": (lambda: F.grouped_mm(ONE, np.ones((2, 4, 2)), offs=np.asarray([2, 1])), ValueError, r"in order, up to 3; got \[2, 1\]"),
    "no offs": (lambda: F.grouped_mm(ONE, np.ones((2, 4, 2))), ValueError, "offs is wanted where an operand of 2 dimensions is in groups"),
    "grouped shapes": (lambda: F.grouped_mm(ONE, ONE), ValueError, r"operands of shapes \(3, 4\) and \(3, 4\) do not fit"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call()
