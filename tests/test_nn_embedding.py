"""Embeddings, bags of them, and the adaptive softmax, beside PyTorch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.backends import numpy_rows as sums
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional

Rng = np.random.Generator


def beside(
    ours: Callable[..., Any], theirs: Callable[..., Any], weight: Any, *rest: Any, backend: Any = None, **options: Any
) -> tuple[Any, Any]:
    """Compare values, and the gradients of the table and of what is floating; give ours of the values and of the table."""
    make, back = (np.asarray, np.asarray) if backend is None else (backend.asarray, backend.numpy)
    given = (weight, *rest)
    v = [None if a is None else ad.Variable(make(a)) if a.dtype.kind == "f" else make(a) for a in given]
    t = [None if a is None else torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in given]
    y, z = ours(*v, **options), theirs(*t, **options)
    assert tuple(y.shape) == tuple(z.shape)
    assert_exact(back(y.data), z.detach())
    ct = np.random.default_rng(1).uniform(0.5, 1.5, z.shape)
    y.backward(make(ct))
    z.backward(torch.tensor(ct))
    for a, b in zip(v, t, strict=True):
        if isinstance(a, ad.Variable):
            assert_close(back(a.grad), b.grad, rtol=1e-13, atol=1e-13)
    return back(y.data), back(v[0].grad)


# --- embedding --------------------------------------------------------------------------------------------------------------------------------
LOOKUPS = [
    ((), {}),
    ((5,), {"padding_idx": 2}),
    ((2, 3), {"padding_idx": -1}),
    ((4, 6), {"scale_grad_by_freq": True}),
    ((4, 6), {"scale_grad_by_freq": True, "padding_idx": 0}),
    ((0, 3), {"padding_idx": 0}),
]


@pytest.mark.parametrize(("shape", "options"), LOOKUPS)
def test_embedding(backend: support.Backend, rng: Rng, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    weight, indices = rng.normal(size=(5, 3)), np.asarray(rng.integers(0, 5, shape))
    value, grad = beside(
        lambda w, i, **k: F.embedding(i, w, **k), lambda w, i, **k: T.embedding(i, w, **k), weight, indices, backend=backend, **options
    )
    assert value.shape == (*shape, 3)
    if "padding_idx" in options:
        assert not np.any(grad[options["padding_idx"]])


@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"max_norm": 0.5, "norm_type": 1.0}, {"max_norm": 100.0}])
def test_rows_are_shortened_in_place(rng: Rng, options: dict[str, Any]) -> None:
    weight, indices = rng.normal(size=(6, 3)), np.asarray([[4, 1], [1, 0]])
    ours, theirs = nn.Embedding(6, 3, _weight=weight.copy(), **options), torch.nn.Embedding(6, 3, _weight=torch.tensor(weight), **options)
    before, table = ours.weight.data, ours.weight
    y, z = ours(indices), theirs(torch.tensor(indices))
    assert_close(y.data, z.detach(), rtol=1e-13)
    assert_close(ours.weight.data, theirs.weight.detach(), rtol=1e-13)
    assert ours.weight is table and np.array_equal(before, weight)  # what was saved for a backward pass is not touched
    assert np.array_equal(ours.weight.data[[2, 3, 5]], weight[[2, 3, 5]])
    y.sum().backward()
    z.sum().backward()
    assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-13)
    raw = weight.copy()
    assert_close(F.embedding(indices, raw, **options), z.detach(), rtol=1e-13)
    assert_close(raw, theirs.weight.detach(), rtol=1e-13)


def test_rows_are_shortened_on_every_library(backend: support.Backend) -> None:
    weight = ad.Variable(backend.asarray([[3.0, 4.0], [0.3, 0.4]]))
    y = F.embedding(backend.asarray([0, 1]), weight, max_norm=1.0)
    assert_close(backend.numpy(y.data), np.asarray([[0.6, 0.8], [0.3, 0.4]]), rtol=1e-6)
    assert_close(backend.numpy(weight.data), np.asarray([[0.6, 0.8], [0.3, 0.4]]), rtol=1e-6)


def test_derivatives_of_tables() -> None:
    weight, indices = np.random.default_rng(0).normal(size=(4, 2)), np.asarray([[0, 3, 3], [1, 0, 3]])
    ad.check_grads(lambda w: (F.embedding(indices, w) ** 3).sum(), (weight,), order=2)
    tables = np.stack([weight, weight + 1, weight * 2])

    def loss(w: Any, i: Any) -> Any:
        return (F.embedding(i, w, padding_idx=3) ** 2).sum()

    many = np.stack([indices, indices[::-1], indices * 0])
    for axes, args in (((0, 0), (tables, many)), ((None, 0), (weight, many)), ((0, None), (tables, indices))):
        pick = [lambda k, a=a, axis=axis: a if axis is None else a[k] for a, axis in zip(args, axes, strict=True)]
        looped = np.stack([ad.grad(loss)(pick[0](k), pick[1](k)) for k in range(3)])
        assert_close(ad.vmap(ad.grad(loss), in_axes=axes)(*args), looped)
        assert not looped[:, 3].any()
    assert_close(ad.grad(lambda w: ad.vmap(loss, in_axes=(None, 0))(w, many).sum())(weight), sum(ad.grad(loss)(weight, i) for i in many))


@pytest.mark.parametrize("dtype", ["float16", "float32", "complex64"])
def test_dtypes_stay(dtype: str) -> None:
    weight = ad.Variable(np.arange(6.0).reshape(3, 2).astype(dtype))
    y = F.embedding(np.asarray([0, 2, 2], "int32"), weight, padding_idx=0, scale_grad_by_freq=True)
    y.backward(np.ones((3, 2), dtype))
    assert y.dtype == weight.grad.dtype == weight.dtype
    assert_exact(weight.grad, np.asarray([[0, 0], [0, 0], [1, 1]], dtype))
    bags = F.embedding_bag(np.asarray([0, 2, 2]), weight, np.asarray([0, 1]), mode="sum")
    assert bags.dtype == weight.dtype


def test_modules(rng: Rng) -> None:
    for options in ({}, {"padding_idx": -2, "max_norm": 2.0, "norm_type": 1.0, "scale_grad_by_freq": True, "sparse": True}):
        ours, theirs = nn.Embedding(5, 5, **options), torch.nn.Embedding(5, 5, **options)
        assert repr(ours) == repr(theirs)
        assert ours.weight.dtype == np.float32
        assert (ours.padding_idx is None) or not ours.weight.data[ours.padding_idx].any()
        ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
        theirs.load_state_dict({key: torch.tensor(value) for key, value in ours.state_dict().items()})
    for options in ({}, {"mode": "sum", "max_norm": 2.0, "padding_idx": 1}):
        assert repr(nn.EmbeddingBag(5, 3, **options)) == repr(torch.nn.EmbeddingBag(5, 3, **options))
    table = rng.normal(size=(4, 3))
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad and nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    assert not nn.EmbeddingBag.from_pretrained(table).weight.requires_grad
    assert_exact(frozen(np.asarray([1, 1])).data, table[[1, 1]])
    assert isinstance(F.embedding(np.asarray([1]), table), np.ndarray)  # nothing to record


# --- bags -------------------------------------------------------------------------------------------------------------------------------------
BAGS = [
    (options, mode)
    for mode in ("sum", "mean", "max")
    for options in ({}, {"padding_idx": 1}, {"include_last_offset": True}, {"weighted": True, "padding_idx": -1})
    if mode == "sum" or "weighted" not in options
]


@pytest.mark.parametrize(("options", "mode"), BAGS)
@pytest.mark.parametrize("flat", [True, False])
def test_bags(flat: bool, options: dict[str, Any], mode: str, rng: Rng) -> None:
    options = {**options, "mode": mode}
    shape = (9,) if flat else (3, 4)
    weights = rng.normal(size=shape) if options.pop("weighted", False) else None
    offsets = np.asarray([0, 2, 2, 3, 9][: None if options.get("include_last_offset") else -1]) if flat else None
    indices = rng.integers(0, 4, shape)
    indices.reshape(-1)[2] = 1  # a bag of what fills up alone
    value, _ = beside(
        lambda w, i, o, s, **k: F.embedding_bag(i, w, o, per_sample_weights=s, **k),
        lambda w, i, o, s, **k: T.embedding_bag(i, w, o, per_sample_weights=s, **k),
        rng.normal(size=(4, 3)),
        indices,
        offsets,
        weights,
        **options,
    )
    assert value.shape == (4 if flat else 3, 3)
    if flat:
        assert not value[1].any()  # an empty bag


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_on_every_library(backend: support.Backend, mode: str, rng: Rng) -> None:
    value, _ = beside(
        lambda w, i, o: F.embedding_bag(i, w, o, mode=mode, padding_idx=0),
        lambda w, i, o: T.embedding_bag(i, w, o, mode=mode, padding_idx=0),
        rng.normal(size=(4, 3)),
        rng.integers(0, 4, 7),
        np.asarray([0, 3, 3]),
        backend=backend,
    )
    assert value.shape == (3, 3)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_gradients_of_bags_by_frequency(mode: str, rng: Rng) -> None:
    # torch's own bags on the CPU divide by how often another row is looked up
    value, _ = beside(
        lambda w, i: F.embedding_bag(i, w, mode=mode, scale_grad_by_freq=True),
        lambda w, i: getattr(T.embedding(i, w, scale_grad_by_freq=True), mode)(1),
        rng.normal(size=(4, 3)),
        rng.integers(0, 4, (3, 5)),
    )
    assert value.shape == (3, 3)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_no_bags(mode: str) -> None:
    nothing = np.zeros(0, "int64")
    for indices, offsets in ((nothing, nothing), (nothing, np.zeros(2, "int64"))):
        y = F.embedding_bag(indices, ad.Variable(np.ones((3, 2))), offsets, mode=mode)
        z = T.embedding_bag(torch.tensor(indices), torch.ones(3, 2), torch.tensor(offsets), mode=mode)
        assert_exact(y.data, z)


def test_bags_are_shortened_and_differentiated(rng: Rng) -> None:
    weight, indices = rng.normal(size=(5, 3)), np.asarray([[0, 1, 1], [3, 1, 0]])
    ours, theirs = (
        nn.EmbeddingBag(5, 3, max_norm=0.7, _weight=weight),
        torch.nn.EmbeddingBag(5, 3, max_norm=0.7, _weight=torch.tensor(weight)),
    )
    assert_close(ours(indices).data, theirs(torch.tensor(indices)).detach(), rtol=1e-13)
    for mode in ("sum", "mean", "max"):
        ad.check_grads(lambda w, mode=mode: (F.embedding_bag(indices, w, mode=mode) ** 2).sum(), (weight,), order=2)


# --- what sums rows ---------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [8, 9])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128", "int32"])
def test_sums_of_rows(width: int, sparse: bool, dtype: str, rng: Rng, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sparse:
        monkeypatch.setattr(sums, "_sparse", lambda: None)
    rows, indices = (rng.normal(size=(200, width)) * 4).astype(dtype), rng.integers(0, 7, 200)
    if dtype == "complex64":
        rows[0, 0] = complex(np.inf, np.nan)
    wanted = np.zeros((7, width), dtype)
    for row, i in zip(rows, indices, strict=True):
        wanted[i] += row
    got = sums.sum_rows(rows, indices, 7)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(
        got, wanted, rtol={"float16": 1e-2, "float32": 1e-5, "complex64": 1e-5}.get(dtype, 1e-13), atol=1e-3 * (dtype == "float16")
    )
    for wrong in (7, -1):
        with pytest.raises(IndexError, match=f"indices from {wrong} to {wrong} are out of bounds for 7 slices"):
            sums.sum_rows(rows, np.full(200, wrong), 7)


# --- the adaptive softmax ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("head_bias", [True, False])
def test_adaptive_softmax(head_bias: bool, rng: Rng) -> None:
    given = {"cutoffs": [4, 6, 9], "div_value": 2.0, "head_bias": head_bias}
    ours = nn.AdaptiveLogSoftmaxWithLoss(8, 12, **given, dtype="float64")
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 12, **given, dtype=torch.float64)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    x = rng.normal(size=(6, 8))
    for target in (np.asarray([0, 11, 3, 5, 6, 4]), np.asarray([0, 1, 2, 0, 1, 3])):
        v, t = ad.Variable(x), torch.tensor(x, requires_grad=True)
        y, z = ours(v, target), theirs(t, torch.tensor(target))
        assert_close(y.output.data, z.output.detach(), rtol=1e-12)
        assert_close(y.loss.data, z.loss.detach(), rtol=1e-12)
        ours.zero_grad()
        theirs.zero_grad()
        y.loss.backward()
        z.loss.backward()
        assert_close(v.grad, t.grad)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert_close(
                np.zeros(mine.shape) if mine.grad is None else mine.grad, torch.zeros_like(other) if other.grad is None else other.grad
            )
    assert_close(ours.log_prob(x).data, theirs.log_prob(torch.tensor(x)).detach(), rtol=1e-12)
    assert_exact(ours.predict(x).data, theirs.predict(torch.tensor(x)))
    assert repr(ours) == repr(theirs)
    single, alone = ours(x[1], np.asarray(11)), theirs(torch.tensor(x[1]), torch.tensor(11))
    assert_close(single.output.data, alone.output.detach(), rtol=1e-12)
    assert_close(single.loss.data, alone.loss.detach(), rtol=1e-12)


def test_adaptive_softmax_in_batches(rng: Rng) -> None:
    layer = nn.AdaptiveLogSoftmaxWithLoss(4, 8, [2, 5], div_value=2.0, dtype="float64")
    x, target = rng.normal(size=(3, 5, 4)), rng.integers(0, 8, (3, 5))
    looped = np.stack([layer(a, t).output.data for a, t in zip(x, target, strict=True)])
    batched = ad.vmap(lambda a, t: layer(a, t).output)(x, target)
    assert_close(batched.data if isinstance(batched, ad.Variable) else batched, looped)


# --- errors -----------------------------------------------------------------------------------------------------------------------------------
W, N = np.ones((4, 2)), np.asarray([0, 1])
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: F.embedding(np.asarray([0, 4]), W), IndexError, "embedding: index 4 is out of bounds for 4 rows"),
    (lambda: F.embedding(np.asarray([0, -1]), W), IndexError, "embedding: index -1 is out of bounds for 4 rows; they are not counted from the end"),
    (lambda: F.embedding(np.asarray([0.0]), W), TypeError, "embedding: numbers of rows are integers, not float64"),
    (lambda: F.embedding(N, W[0]), ValueError, "embedding: weight has shape (rows, columns), not (2,)"),
    (lambda: F.embedding(N, W, padding_idx=4), ValueError, "embedding: padding_idx 4 is out of bounds for 4 rows"),
    (lambda: nn.Embedding(4, 2, padding_idx=-5), ValueError, "Embedding: padding_idx -5 is out of bounds for 4 rows"),
    (lambda: nn.Embedding(4, 2, _weight=W.T), ValueError, "Embedding: _weight has shape (2, 4); (4, 2) is wanted"),
    (lambda: nn.Embedding(-4, 2), ValueError, "Embedding: the sizes of a table are 0 or more; got -4 rows of 2"),
    (lambda: nn.Embedding.from_pretrained(W[0]), ValueError, "Embedding.from_pretrained: a table has shape (rows, columns), not (2,)"),
    (lambda: F.embedding(N, ad.Variable(W) * 2, max_norm=1.0), ValueError, "this one was computed from others. Give a parameter."),
    (lambda: ad.grad(lambda w: F.embedding(N, w, max_norm=1.0).sum())(W), NotImplementedError, "which no transformation can"),
    (lambda: F.embedding_bag(np.asarray([[0, 4]]), W), IndexError, "embedding_bag: index 4 is out of bounds for 4 rows"),
    (lambda: F.embedding_bag(N, W), ValueError, "an input of shape (B, N) goes without offsets, one of shape (N,) with them; got (2,) and no offsets"),
    (lambda: F.embedding_bag(N[None], W, N), ValueError, "got (1, 2) and offsets"),
    (lambda: F.embedding_bag(N, W, np.asarray([1])), ValueError, "the first offset is 0, and the last at most 2 here; got 1 and 1"),
    (lambda: F.embedding_bag(N, W, np.asarray([0, 3])), ValueError, "the first offset is 0, and the last at most 2 here; got 0 and 3"),
    (lambda: F.embedding_bag(N[None], W, mode="min"), ValueError, "embedding_bag: mode is 'mean', 'sum' or 'max', not 'min'"),
    (lambda: F.embedding_bag(N[None], W, mode="max", sparse=True), ValueError, "mode='max' goes with neither scale_grad_by_freq nor sparse"),
    (lambda: F.embedding_bag(N[None], W, per_sample_weights=W[:1]), NotImplementedError, "per_sample_weights go with mode='sum', not 'mean'"),
    (lambda: F.embedding_bag(N[None], W, mode="sum", per_sample_weights=W), ValueError, "per_sample_weights has shape (4, 2); the input's, (1, 2)"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 8, [5, 2]), ValueError, "cutoffs are different integers between 1 and n_classes - 1 = 7, increasing"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 8, [2])(W, N), ValueError, "features have shape (N, in_features) and class indices (N,)"),
    (lambda: nn.AdaptiveLogSoftmaxWithLoss(2, 8, [2], 1.0)(W[:2], N + 7), IndexError, "AdaptiveLogSoftmaxWithLoss: target 8 is out of bounds for 8 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[text[:45] for _, _, text in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        call()
