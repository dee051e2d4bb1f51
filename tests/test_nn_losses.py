"""Losses beside PyTorch, where its own lists of cases say nothing: dtypes, empty batches, errors, higher derivatives, sequences."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, jacobian

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional

Rng = np.random.Generator


def beside(ours: Callable[..., Any], theirs: Callable[..., Any], floats: list[Any], rest: tuple[Any, ...] = (), backend: Any = None) -> Any:
    """Compare values, and gradients of a random weighting of them; give ours of the values."""
    make = np.asarray if backend is None else backend.asarray
    back = np.asarray if backend is None else backend.numpy
    v = [ad.Variable(make(a)) for a in floats]
    t = [torch.tensor(np.asarray(a), requires_grad=True) for a in floats]
    y = ours(*v, *(make(a) if isinstance(a, np.ndarray) else a for a in rest))
    z = theirs(*t, *(torch.tensor(a) if isinstance(a, np.ndarray) else a for a in rest))
    assert tuple(y.shape) == tuple(z.shape)
    np.testing.assert_allclose(back(y.data), z.detach().numpy(), rtol=1e-9, atol=1e-12)
    ct = np.random.default_rng(3).uniform(0.5, 1.5, z.shape)
    y.backward(make(ct))
    z.backward(torch.tensor(ct))
    for a, b in zip(v, t, strict=True):
        assert type(a.grad) is type(a.data)
        np.testing.assert_allclose(back(a.grad), b.grad.numpy(), rtol=1e-7, atol=1e-10)
    return back(y.data)


# --- on every library -----------------------------------------------------------------------------------------------------------------------
def _normal(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _classes(*shape: int, below: int = 3) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, below, shape)


ON_EVERY_LIBRARY: dict[str, tuple[list[Any], tuple[Any, ...], dict[str, Any]]] = {
    "cross_entropy": ([_normal(4, 3, 2)], (_classes(4, 2),), {"label_smoothing": 0.2, "ignore_index": 1}),
    "nll_loss": ([_normal(4, 3, 2)], (_classes(4, 2), np.asarray([1.0, 0.5, 2.0])), {"ignore_index": 0}),
    "binary_cross_entropy": ([abs(np.tanh(_normal(3, 2))), abs(np.tanh(_normal(3, 2))) / 2], (), {"reduction": "none"}),
    "binary_cross_entropy_with_logits": ([_normal(3, 2), abs(_normal(3, 2))], (), {"pos_weight": np.asarray([0.5, 3.0])}),
    "huber_loss": ([_normal(3, 4) * 3, _normal(3, 4)], (), {"delta": 0.7}),
    "gaussian_nll_loss": ([_normal(3, 2), _normal(3, 2), abs(_normal(3))], (), {"full": True}),
    "poisson_nll_loss": ([_normal(3, 2)], (np.asarray([[0.0, 1.0], [2.0, 5.0], [0.0, 3.0]]),), {"full": True}),
    "kl_div": ([_normal(3, 2), abs(_normal(3, 2))], (), {"reduction": "batchmean"}),
    "multi_margin_loss": ([_normal(4, 3)], (_classes(4),), {"p": 2, "margin": 0.8}),
    "multilabel_margin_loss": ([_normal(2, 4)], (np.asarray([[2, 0, -1, 1], [-1, 3, 3, 3]]),), {"reduction": "none"}),
    "cosine_embedding_loss": ([_normal(4, 3), _normal(4, 3)], (np.asarray([1, -1, 1, -1]),), {"margin": 0.1}),
    "triplet_margin_loss": ([_normal(3, 4), _normal(3, 4), -_normal(3, 4)], (), {"swap": True, "reduction": "none"}),
}


@pytest.mark.parametrize("name", ON_EVERY_LIBRARY)
def test_every_library(backend: support.Backend, name: str) -> None:
    floats, rest, options = ON_EVERY_LIBRARY[name]

    def given(convert: Callable[[Any], Any]) -> dict[str, Any]:
        return {key: convert(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}

    value = beside(
        lambda *a: getattr(F, name)(*a, **given(backend.asarray)),
        lambda *a: getattr(T, name)(*a, **given(torch.tensor)),
        floats,
        rest,
        backend,
    )
    assert np.all(np.isfinite(value))


# --- dtypes and shapes ------------------------------------------------------------------------------------------------------------------------
PAIRS: dict[str, Callable[..., Any]] = {
    "l1_loss": F.l1_loss,
    "mse_loss": F.mse_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "huber_loss": F.huber_loss,
    "poisson_nll_loss": F.poisson_nll_loss,
    "kl_div": F.kl_div,
    "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
    "hinge_embedding_loss": F.hinge_embedding_loss,
    "soft_margin_loss": F.soft_margin_loss,
    "multilabel_soft_margin_loss": F.multilabel_soft_margin_loss,
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", PAIRS)
def test_dtypes_stay(name: str, dtype: str, rng: Rng) -> None:
    x = ad.Variable(rng.uniform(0.1, 0.9, (3, 4)).astype(dtype))
    for target in (np.ones((3, 4), dtype), np.ones((3, 4), "int64")):
        y = PAIRS[name](x, target)
        y.backward()
        assert y.dtype == x.grad.dtype == x.dtype and y.shape == ()
    assert type(PAIRS[name](x.data, np.ones((3, 4), dtype))) is not ad.Variable  # nothing to record


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtypes_of_losses_of_classes_stay(dtype: str, rng: Rng) -> None:
    x = ad.Variable(rng.uniform(0.1, 0.9, (4, 3)).astype(dtype))
    classes, weight = np.asarray([0, 2, 1, 1]), np.ones(3, dtype)
    log_probs = F.log_softmax(F.linear(x, np.ones((3, 3), dtype)), dim=-1)
    losses = [
        F.cross_entropy(x, classes, weight, label_smoothing=0.1),
        F.nll_loss(x, classes, weight),
        F.multi_margin_loss(x, classes, weight=weight),
        F.multilabel_margin_loss(x, np.asarray([[0, 1, -1]] * 4)),
        F.cosine_embedding_loss(x, x * 2, np.asarray([1, 1, -1, -1])),
        F.margin_ranking_loss(x, x * 2, np.ones((4, 3), "int64")),
        F.gaussian_nll_loss(x, np.ones((4, 3), dtype), 0.5),
        F.ctc_loss(log_probs, np.asarray([1]), 4, 1),
        F.linear_cross_entropy(x, np.ones((2, 3), dtype), classes % 2),
    ]
    assert {y.dtype for y in losses} == {x.dtype}
    sum(losses[1:], losses[0]).backward()
    assert x.grad.dtype == x.dtype and np.all(np.isfinite(x.grad))


def test_classes_and_lengths_beyond_a_byte(backend: support.Backend) -> None:
    x, classes = np.log(np.arange(1.0, 601.0)).reshape(2, 300), np.asarray([7, 250], "uint8")
    for name in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        value = beside(getattr(F, name), lambda a, c, name=name: getattr(T, name)(a, c.long()), [x], (classes,), backend)
        assert np.isfinite(value)
    if backend.name == "numpy":  # the others compute the 300 steps one by one
        log_probs = F.log_softmax(np.sin(np.arange(1200.0)).reshape(300, 1, 4), dim=-1)
        ours = F.ctc_loss(log_probs, np.asarray([[1, 2]], "uint8"), (300,), (2,))
        assert_close(ours, T.ctc_loss(torch.tensor(log_probs), torch.tensor([[1, 2]]), (300,), (2,)))


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss:UserWarning")  # torch speaks of its own kl_div
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", PAIRS)
def test_empty_batches(name: str, reduction: str) -> None:
    x = ad.Variable(np.zeros((0, 3)))
    y, z = (
        PAIRS[name](x, np.zeros((0, 3)), reduction=reduction),
        getattr(T, name)(torch.zeros(0, 3), torch.zeros(0, 3), reduction=reduction),
    )
    assert y.shape == tuple(z.shape)
    np.testing.assert_array_equal(y.data, z.numpy())
    (y if y.shape == () else y.sum()).backward()
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_empty_batches_of_classes(name: str) -> None:
    scores, classes = np.zeros((0, 3)), np.zeros(0, "int64")
    for reduction, wanted in (("mean", np.nan), ("sum", 0.0), ("none", np.zeros(0))):
        np.testing.assert_array_equal(getattr(F, name)(scores, classes, reduction=reduction), wanted)
        theirs = getattr(T, name)(torch.tensor(scores), torch.tensor(classes), reduction=reduction)
        np.testing.assert_array_equal(theirs.numpy(), wanted)


@pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered:RuntimeWarning")  # NumPy's word for the mean of nothing
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("weight", [None, np.asarray([1.0, 2.0, 3.0])])
def test_nothing_counts(name: str, weight: Any, rng: Rng) -> None:
    x = ad.Variable(rng.normal(size=(2, 3)))
    y = getattr(F, name)(x, np.asarray([1, 1]), weight, ignore_index=1)
    y.backward()
    assert np.isnan(y.data) and not x.grad.any()  # and training goes on


@pytest.mark.parametrize("name", ["l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss"])
def test_shapes_that_are_broadcast(name: str, rng: Rng) -> None:
    a, b = rng.normal(size=(4, 1)), rng.normal(size=4)
    with pytest.warns(UserWarning, match=re.escape(f"{name}: using a target of shape (4,) with an input of shape (4, 1)")) as caught:
        y = getattr(F, name)(a, b)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="different to the input size"):
        z = getattr(T, name)(torch.tensor(a), torch.tensor(b))
    assert_close(y, z)


def test_former_arguments(rng: Rng) -> None:
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    for size_average, reduce in itertools.product((None, True, False), repeat=2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = T.mse_loss(torch.tensor(x), torch.tensor(y), size_average, reduce)
        assert_close(F.mse_loss(x, y, size_average, reduce), wanted)
        assert_close(nn.MSELoss(size_average, reduce)(x, y), wanted)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["l1_loss", "mse_loss", "huber_loss"])
def test_weights(name: str, reduction: str, rng: Rng) -> None:
    w = rng.uniform(0.5, 2.0, (3, 2))
    value = beside(
        lambda x, y: getattr(F, name)(x, y, reduction=reduction, weight=w),
        lambda x, y: getattr(T, name)(x, y, reduction=reduction, weight=torch.tensor(w)),
        [rng.normal(size=(3, 2)), rng.normal(size=(3, 2))],
    )
    assert value.shape == ((3, 2) if reduction == "none" else ())


@pytest.mark.parametrize("options", [{}, {"swap": True}, {"p": 1.0, "margin": 0.3}, {"p": 3, "eps": 1e-3, "reduction": "sum"}])
@pytest.mark.parametrize("shape", [(5, 4), (4,)])
def test_triplets(shape: tuple[int, ...], options: dict[str, Any], rng: Rng) -> None:
    arrays = [rng.normal(size=shape) for _ in range(3)]
    first = beside(nn.TripletMarginLoss(**options), torch.nn.TripletMarginLoss(**options), arrays)
    own = {key: value for key, value in options.items() if key in ("swap", "margin", "reduction")}
    near = beside(
        nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: abs(a - b).sum(axis=-1), **own),
        torch.nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: abs(a - b).sum(dim=-1), **own),
        arrays,
    )
    assert first.shape == near.shape == ()
    if not options:
        assert_close(nn.TripletMarginWithDistanceLoss()(*arrays), first)


# --- numbers ----------------------------------------------------------------------------------------------------------------------------------
def test_probabilities_of_zero_and_one() -> None:
    value = beside(
        lambda x, y: F.binary_cross_entropy(x, y, reduction="none"),
        lambda x, y: T.binary_cross_entropy(x, y, reduction="none"),
        [np.asarray([0.0, 0.0, 1.0, 1.0, 1e-60, 0.3])],
        (np.asarray([0.0, 1.0, 0.0, 1.0, 1.0, 0.3]),),  # whose own gradient torch does not stop at 100
    )
    assert_close(value[:5], np.asarray([0.0, 100.0, 100.0, 0.0, 100.0]))


@pytest.mark.parametrize("name", ["binary_cross_entropy_with_logits", "soft_margin_loss"])
def test_large_scores(name: str) -> None:
    x = ad.Variable(np.asarray([-800.0, -40.0, 0.0, 40.0, 800.0]))
    y = getattr(F, name)(x, np.ones(5), reduction="none")
    y.sum().backward()
    small = np.exp(-40.0)
    np.testing.assert_allclose(y.data, [800.0, 40.0, np.log(2.0), small, 0.0], rtol=1e-12)
    np.testing.assert_allclose(x.grad, [-1.0, -1.0, -0.5, -small, 0.0], rtol=1e-12, atol=1e-16)


def test_variances_below_the_least() -> None:
    value = beside(
        lambda x, y, v: F.gaussian_nll_loss(x, y, v, eps=0.1, reduction="none"),
        lambda x, y, v: T.gaussian_nll_loss(x, y, v, eps=0.1, reduction="none"),
        [np.asarray([1.0, 2.0]), np.asarray([0.5, 0.0]), np.asarray([1e-3, 2.0])],
    )
    assert value.shape == (2,)


def test_several_losses_go_backward_at_once(rng: Rng) -> None:
    x, classes, real = rng.normal(size=(4, 3)), np.asarray([0, 2, 1, 1]), rng.normal(size=(4, 3))
    ours, theirs = nn.Linear(3, 3, dtype="float64"), torch.nn.Linear(3, 3, dtype=torch.float64)
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})

    def total(f: Any, y: Any, convert: Callable[[Any], Any]) -> Any:
        return f.cross_entropy(y, convert(classes)) + 0.5 * f.mse_loss(y, convert(real)) + f.l1_loss(y, convert(real), reduction="sum")

    total(F, ours(x), np.asarray).backward()
    total(T, theirs(torch.tensor(x)), torch.tensor).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad, other.grad.numpy(), rtol=1e-9)


HIGHER: dict[str, Callable[[Any], Any]] = {
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(1 / (1 + abs(x)), np.full((2, 3), 0.3)),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(
        x, np.full((2, 3), 0.3), pos_weight=np.asarray([1.0, 2.0, 3.0])
    ),
    "cross_entropy": lambda x: F.cross_entropy(x, np.asarray([2, 0]), label_smoothing=0.1),
    "nll_loss": lambda x: F.nll_loss(x * x, np.asarray([2, 0])),
    "huber_loss": lambda x: F.huber_loss(x * x, np.full((2, 3), 0.3), delta=0.4),
    "kl_div": lambda x: F.kl_div(x, x * x, reduction="sum"),
    "cosine_embedding_loss": lambda x: F.cosine_embedding_loss(x, x * x, np.asarray([1, -1]), margin=-2.0),
    "ctc_loss": lambda x: F.ctc_loss(F.log_softmax(F.linear(x, _normal(4, 3)).reshape((4, 1, 2)), dim=-1), np.asarray([[1]]), (4,), (1,)),
}


@pytest.mark.parametrize("name", HIGHER)
def test_second_derivatives(name: str) -> None:
    x = np.asarray([[0.5, -1.2, 0.9], [1.7, -0.4, -2.1]])
    ad.check_grads(HIGHER[name], (x,), order=2)
    assert np.any(ad.hessian(HIGHER[name])(x)) or name == "nll_loss"


def test_batches() -> None:
    x, classes = _normal(5, 4, 3), _classes(5, 4)
    weight = np.asarray([1.0, 0.5, 2.0])
    for name in ("cross_entropy", "nll_loss", "multi_margin_loss"):
        loss = getattr(F, name)
        looped = np.stack([ad.grad(lambda a, c=c, loss=loss: loss(a, c, weight=weight))(a) for a, c in zip(x, classes, strict=True)])
        assert_close(ad.vmap(ad.grad(lambda a, c, loss=loss: loss(a, c, weight=weight)))(x, classes), looped)
    target = _normal(4, 3)
    assert_close(ad.vmap(F.huber_loss, in_axes=(0, None))(x, target), np.stack([F.huber_loss(a, target) for a in x]))


# --- sequences --------------------------------------------------------------------------------------------------------------------------------
def spelled(log_probs: Any, target: tuple[int, ...], blank: int) -> float:
    """Sum over all alignments, one by one."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if tuple(k for k, _ in itertools.groupby(path) if k != blank) == target:
            total += float(np.exp(sum(log_probs[t, k] for t, k in enumerate(path))))
    return -np.log(total) if total else np.inf


@pytest.mark.parametrize("target", [(), (1,), (1, 2), (2, 2), (0, 2, 0), (2, 2, 2, 2)])
@pytest.mark.parametrize("blank", [0, 1, 3])
def test_ctc_is_the_sum_over_alignments(target: tuple[int, ...], blank: int, rng: Rng) -> None:
    target = tuple(k + 1 if k >= blank else k for k in target)
    x = rng.normal(size=(5, 4))  # the logarithms of numbers that are no distribution, too
    y = F.ctc_loss(x, np.asarray(target, "int64"), 5, len(target), blank=blank, reduction="none")
    assert_close(y, np.asarray(spelled(x, target, blank)), rtol=1e-12)
    if np.isfinite(y):
        gradient = ad.grad(lambda a: F.ctc_loss(a, np.asarray(target, "int64"), 5, len(target), blank=blank, reduction="none"))(x)
        assert_close(gradient, jacobian(lambda a: spelled(a, target, blank), x))


def _beside_ctc(x: Any, targets: Any, inputs: Any, lengths: Any, backend: Any = None, **options: Any) -> Any:
    return beside(
        lambda a, t: F.ctc_loss(F.log_softmax(a, dim=-1), t, *_lengths(inputs, lengths, backend), **options),
        lambda a, t: T.ctc_loss(
            a.log_softmax(-1), t, *(torch.tensor(n) if isinstance(n, np.ndarray) else n for n in (inputs, lengths)), **options
        ),
        [x],
        (targets,),
        backend,
    )


def _lengths(inputs: Any, lengths: Any, backend: Any) -> tuple[Any, ...]:
    return tuple(backend.asarray(n) if backend is not None and isinstance(n, np.ndarray) else n for n in (inputs, lengths))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("blank", [0, 3, 5])
@pytest.mark.parametrize("arrays", [True, False])
def test_ctc(reduction: str, blank: int, arrays: bool, rng: Rng) -> None:
    x, lengths, inputs = rng.normal(size=(12, 4, 6)) * 3, (5, 0, 3, 4), (12, 9, 10, 12)
    targets = rng.integers(0, 5, (4, 5))
    targets[targets >= blank] += 1
    targets[0, 1] = targets[0, 0]  # twice the same
    given = (np.asarray(inputs), np.asarray(lengths)) if arrays else (inputs, lengths)
    padded = _beside_ctc(x, targets, *given, blank=blank, reduction=reduction)
    ends = np.concatenate([row[:n] for row, n in zip(targets, lengths, strict=True)])
    assert_close(_beside_ctc(x, ends, *given, blank=blank, reduction=reduction), padded)
    targets[2, 3:] = -7  # what does not count is not looked at
    assert_close(_beside_ctc(x, targets, *given, blank=blank, reduction=reduction), padded)


def test_ctc_without_a_batch(rng: Rng) -> None:
    x, target = rng.normal(size=(7, 5)), np.asarray([2, 2, 4])
    alone = _beside_ctc(x, target, np.asarray(7), np.asarray(3), reduction="none")
    assert alone.shape == ()
    one = np.asarray([3])
    assert_close(F.ctc_loss(F.log_softmax(x[:, None], dim=-1), target[None], np.asarray([7]), one, reduction="none"), alone[None])


def test_ctc_on_every_library(backend: support.Backend, rng: Rng) -> None:
    x, targets = rng.normal(size=(6, 3, 4)), rng.integers(1, 4, (3, 3))
    value = _beside_ctc(x, targets, np.asarray([6, 5, 6]), np.asarray([2, 1, 3]), backend, reduction="none")
    assert value.shape == (3,)


def test_ctc_of_impossible_targets(rng: Rng) -> None:
    x = rng.normal(size=(3, 2, 4))
    targets, inputs, lengths = np.asarray([[1, 1, 2], [1, 2, 3]]), (3, 3), (3, 3)  # the first needs four steps
    value = _beside_ctc(x, targets, inputs, lengths, reduction="none")
    assert np.isinf(value[0]) and np.isfinite(value[1])
    zeroed = _beside_ctc(x, targets, inputs, lengths, reduction="none", zero_infinity=True)
    assert_close(zeroed, np.asarray([0.0, value[1]]))


def test_ctc_of_probabilities_of_zero() -> None:
    with np.errstate(divide="ignore"):
        x = ad.Variable(np.log(np.asarray([[[0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0]]])))
    y = F.ctc_loss(x, np.asarray([[1]]), (2,), (1,))
    y.backward()
    assert_close(y.data, np.asarray(0.0), atol=1e-15)
    assert_close(x.grad[:, 0], np.asarray([[-0.5, -0.5, 0.0], [0.0, -1.0, 0.0]]))


def test_ctc_in_batches(rng: Rng) -> None:
    x, targets = rng.normal(size=(3, 6, 2, 4)), rng.integers(1, 4, (3, 2, 2))

    def loss(a: Any, t: Any) -> Any:
        return F.ctc_loss(F.log_softmax(a, dim=-1), t, (6, 5), (2, 1))

    looped = np.stack([ad.grad(loss)(a, t) for a, t in zip(x, targets, strict=True)])
    assert_close(ad.vmap(ad.grad(loss))(x, targets), looped)
    assert_close(ad.grad(lambda a: ad.vmap(loss)(a, targets).sum())(x), looped)
    ct = rng.normal(size=x[0].shape)
    _, moved = ad.jvp(lambda a: loss(a, targets[0]), (x[0],), (ct,))
    assert_close(moved, np.sum(looped[0] * ct))


# --- modules ----------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "BCEWithLogitsLoss"])
def test_weights_are_buffers(name: str) -> None:
    given = {"weight": np.asarray([1.0, 2.0, 0.5])}
    if name == "BCEWithLogitsLoss":
        given["pos_weight"] = np.asarray(2.0)
    ours, theirs = getattr(nn, name)(**given), getattr(torch.nn, name)(**{key: torch.tensor(value) for key, value in given.items()})
    assert list(ours.state_dict()) == list(theirs.state_dict()) == list(given)
    assert list(ours.parameters()) == [] and repr(ours) == repr(theirs) == f"{name}()"


def test_linear_cross_entropy_loads_states_both_ways(rng: Rng) -> None:
    ours, theirs = (
        m.LinearCrossEntropyLoss(5, 3, out_features=(2,), bias=True, dtype=d) for m, d in ((nn, "float64"), (torch.nn, torch.float64))
    )
    ours.load_state_dict({key: value.numpy() for key, value in theirs.state_dict().items()})
    theirs.load_state_dict({key: torch.tensor(value) for key, value in ours.state_dict().items()})
    x, y = rng.normal(size=(4, 5)), rng.integers(0, 3, (4, 2))
    assert_close(ours(x, y).data, theirs(torch.tensor(x), torch.tensor(y)).detach())
    assert ours.extra_repr() == theirs.extra_repr()


# --- errors -----------------------------------------------------------------------------------------------------------------------------------
X, Y = np.ones((2, 3)), np.asarray([0, 1])
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: F.cross_entropy(X, np.asarray([0, 3])), IndexError, "cross_entropy: target 3 is out of bounds for 3 classes"),
    (lambda: F.nll_loss(X, np.asarray([0, -1])), IndexError, "nll_loss: target -1 is out of bounds for 3 classes"),
    (lambda: F.multi_margin_loss(X, np.asarray([0, 3])), IndexError, "multi_margin_loss: target 3 is out of bounds for 3 classes"),
    (lambda: F.nll_loss(X, np.asarray([0.0, 1.0])), TypeError, "nll_loss: class indices are integers, not float64"),
    (lambda: F.nll_loss(X, np.asarray([0, 1, 1])), ValueError, "nll_loss: a batch of 2 scores and one of 3 targets; they have one size"),
    (lambda: F.nll_loss(X[:, :, None], Y), ValueError, "nll_loss: class indices for scores of shape (2, 3, 1) have shape (2, 1), not (2,)"),
    (lambda: F.nll_loss(X, Y, np.ones(2)), ValueError, "nll_loss: weight has shape (2,); one number for each of 3 classes is wanted"),
    (lambda: F.nll_loss(X, Y, np.ones(3, "float32")), TypeError, "nll_loss: weight has dtype float32; the input's, float64, is wanted"),
    (lambda: F.cross_entropy(X, X, ignore_index=1), ValueError, "cross_entropy: ignore_index is for class indices; the target holds"),
    (lambda: F.cross_entropy(X, np.zeros((2, 3), int)), ValueError, "have shape (2,), not (2, 3) and class probabilities are floating"),
    (lambda: F.binary_cross_entropy(X * 2, X), ValueError, "binary_cross_entropy: 2 is no probability; scores go to"),
    (lambda: F.binary_cross_entropy(-X, X), ValueError, "binary_cross_entropy: -1 is no probability"),
    (lambda: F.binary_cross_entropy(X, X[0]), ValueError, "binary_cross_entropy: a target of shape (3,) does not fit an input of shape (2, 3)"),
    (lambda: F.binary_cross_entropy_with_logits(X, X[0]), ValueError, "binary_cross_entropy_with_logits: a target of shape (3,)"),
    (lambda: F.gaussian_nll_loss(X, X, -X), ValueError, "gaussian_nll_loss: var has a negative entry; variances are 0 or more"),
    (lambda: F.gaussian_nll_loss(X, X, X[0]), ValueError, "gaussian_nll_loss: var of shape (3,) does not fit an input of shape (2, 3)"),
    (lambda: F.mse_loss(X, X, reduction="avg"), ValueError, "'avg' is not a valid value for reduction: 'none', 'mean' or 'sum' is wanted"),
    (lambda: nn.KLDivLoss(reduction="avg"), ValueError, "'none', 'mean', 'sum' or 'batchmean' is wanted"),
    (lambda: F.mse_loss(X, X, weight=X[0]), ValueError, "mse_loss: weight has shape (3,); that of the input, (2, 3), is wanted"),
    (lambda: F.huber_loss(X, X, delta=0), ValueError, "huber_loss: delta is positive; got 0"),
    (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "smooth_l1_loss: beta is no negative number; got -1"),
    (lambda: F.margin_ranking_loss(X, X, Y), ValueError, "the inputs and the target have as many axes; got the shapes (2, 3), (2, 3) and (2,)"),
    (lambda: F.cosine_embedding_loss(X, X, X), ValueError, "cosine_embedding_loss: inputs have shape (N, D) and the target (N,)"),
    (lambda: F.multi_margin_loss(X, Y, p=3), ValueError, "multi_margin_loss: p is 1 or 2, not 3"),
    (lambda: F.multi_margin_loss(X, Y[:1]), ValueError, "multi_margin_loss: class indices for scores of shape (2, 3) have shape (2,), not (1,)"),
    (lambda: F.multilabel_margin_loss(X, Y), ValueError, "multilabel_margin_loss: target has shape (2,); that of the scores, (2, 3), is wanted"),
    (lambda: F.triplet_margin_loss(X, X, X, margin=0), ValueError, "triplet_margin_loss: margin is positive; got 0"),
    (lambda: F.triplet_margin_loss(X, X, X[0]), ValueError, "triplet_margin_loss: anchor, positive and negative have as many axes"),
    (lambda: F.linear_cross_entropy(X, X, Y, options=object()), NotImplementedError, "linear_cross_entropy: there are no options here"),  # type: ignore[arg-type]
    (lambda: F.linear_cross_entropy(X, X[:, :2], Y), ValueError, "linear_cross_entropy: the input has 3 features, linear_weight 2; they have as many"),
    (lambda: F.linear_cross_entropy(X, X, X[:, :2], ignore_index=1), ValueError, "linear_cross_entropy: ignore_index is for class indices"),
]  # fmt: skip
CTC: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"blank": 4}, IndexError, "ctc_loss: blank is 4; it is one of 4 classes"),
    ({"input_lengths": (6, 5)}, ValueError, "ctc_loss: input_lengths are at most 5 here; got 6"),
    ({"target_lengths": (3, 4)}, ValueError, "ctc_loss: target_lengths are at most 3 here; got 4"),
    ({"target_lengths": (3, -1)}, ValueError, "ctc_loss: target_lengths are 0 or more; got -1"),
    ({"target_lengths": (3,)}, ValueError, "ctc_loss: target_lengths has shape (1,); one length for each of 2 sequences is wanted"),
    ({"target_lengths": (3.0, 1.0)}, TypeError, "ctc_loss: target_lengths are integers; got [3.0, 1.0]"),
    ({"targets": np.ones((3, 3), int)}, ValueError, "ctc_loss: targets have shape (2, S), or all lie end to end; got (3, 3)"),
    ({"targets": np.ones(4, int)}, ValueError, "ctc_loss: target_lengths sum up to 5; there are 4 targets"),
    ({"targets": np.ones((2, 3))}, TypeError, "ctc_loss: log_probs are floating and targets integers; got float64 and float64"),
    (
        {"log_probs": np.zeros((0, 2, 4))},
        ValueError,
        "ctc_loss: log_probs has shape (T, N, C) or (T, C), with at least one of each; got (0, 2, 4)",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[text[:40] for _, _, text in ERRORS])
def test_errors(call: Callable[[], Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        call()


@pytest.mark.parametrize(("changed", "kind", "text"), CTC, ids=[text[:40] for _, _, text in CTC])
def test_errors_of_ctc(changed: dict[str, Any], kind: type[Exception], text: str) -> None:
    given: dict[str, Any] = {
        "log_probs": np.zeros((5, 2, 4)),
        "targets": np.ones((2, 3), int),
        "input_lengths": (5, 5),
        "target_lengths": (3, 2),
    }
    with pytest.raises(kind, match=re.escape(text)):
        F.ctc_loss(**{**given, **changed})
