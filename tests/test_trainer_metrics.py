"""Metrics, beside scikit-learn's and by hand, on every library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.trainer import F1, Accuracy, ConfusionMatrix, Perplexity, TopK
from agnostic_ad.nn.trainer.metrics import by_name

CLASSES = 5


def samples(rng: np.random.Generator, shape: tuple[int, ...] = (40, CLASSES)) -> tuple[Any, Any]:
    scores = rng.normal(size=shape).astype("float32")
    return scores, rng.integers(0, CLASSES - 1, (shape[0], *shape[2:]))  # the last class is never there


def in_batches(metric: Any, backend: support.Backend, scores: Any, target: Any) -> Any:
    metric.reset()
    for part in (slice(0, 7), slice(7, 7), slice(7, None)):  # an empty batch changes nothing
        if len(scores[part]) or backend.name != "dask":
            metric.update(backend.asarray(scores[part]), backend.asarray(target[part]))
    return metric.compute()


def references(scores: Any, target: Any) -> dict[str, tuple[Any, Any]]:
    from sklearn import metrics

    found, labels = scores.argmax(1), np.arange(CLASSES)
    f1 = lambda average: metrics.f1_score(target, found, average=average, labels=labels, zero_division=0)
    logs = scores - np.log(np.exp(scores.astype("float64")).sum(1, keepdims=True))
    return {
        "accuracy": (Accuracy(), metrics.accuracy_score(target, found)),
        "top 1": (TopK(1), metrics.accuracy_score(target, found)),
        "top 3": (TopK(3), metrics.top_k_accuracy_score(target, scores, k=3, labels=labels)),
        "top 9": (TopK(9), 1.0),
        "confusion": (ConfusionMatrix(CLASSES), metrics.confusion_matrix(target, found, labels=labels)),
        "macro": (F1(CLASSES), f1("macro")),
        "weighted": (F1(CLASSES, "weighted"), f1("weighted")),
        "micro": (F1(CLASSES, "micro"), f1("micro")),
        "each": (F1(CLASSES, None), f1(None)),
        "perplexity": (Perplexity(), math.exp(-np.mean(logs[np.arange(len(target)), target]))),
    }


@pytest.mark.parametrize("name", references(np.eye(CLASSES), np.arange(CLASSES)))
def test_what_scikit_learn_gives(name: str, backend: support.Backend) -> None:
    scores, target = samples(np.random.default_rng(1))
    metric, want = references(scores, target)[name]
    found = in_batches(metric, backend, scores, target)
    assert isinstance(found, float | np.ndarray)
    assert_close(found, want, rtol=1e-5 if name == "perplexity" else 1e-12)  # the scores are float32


@pytest.mark.parametrize("metric", [Accuracy, lambda **k: TopK(2, **k), lambda **k: F1(CLASSES, "weighted", **k), Perplexity])
def test_sequences_with_what_does_not_count(metric: Any, backend: support.Backend, rng: np.random.Generator) -> None:
    scores, target = samples(rng, (6, CLASSES, 8))
    target[rng.random(target.shape) < 0.3] = -100
    rows, right = np.moveaxis(scores, 1, 2).reshape(-1, CLASSES), target.reshape(-1)
    want = metric()(rows[right != -100], right[right != -100])
    assert_close(metric(ignore_index=-100)(backend.asarray(scores), backend.asarray(target)), want, rtol=1e-6)  # sums of float32


def test_equal_scores_and_no_numbers(xp: Any, backend: support.Backend) -> None:
    scores, target = backend.asarray([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, math.nan, 1.0]]), backend.asarray([0, 2, 1])
    assert [TopK(k)(scores, target) for k in (1, 2, 3)] == [1 / 3, 1 / 3, 2 / 3]


def test_one_sample_and_variables() -> None:
    scores = ad.Variable(np.asarray([0.5, 2.0]))
    assert Accuracy()(scores, np.asarray(1)) == 1.0
    assert Accuracy()(scores * 1.0, ad.Variable(np.asarray(0))) == 0.0


def test_nothing_to_count() -> None:
    for metric in (Accuracy(), TopK(), Perplexity()):
        assert math.isnan(metric.compute())
    assert F1(3).compute() == 0.0
    assert_exact(ConfusionMatrix(2).compute(), np.zeros((2, 2), "int64"))


def test_targets_outside_of_the_matrix_are_left_out() -> None:
    assert_exact(ConfusionMatrix(2)(np.eye(2)[[0, 1, 1]], np.asarray([0, -1, 7])), np.asarray([[1, 0], [0, 0]]))


def test_a_perplexity_beyond_all_numbers() -> None:
    assert Perplexity()(np.asarray([[0.0, 2000.0]]), np.asarray([0])) == math.inf


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Accuracy()(np.zeros((3, 2)), np.zeros(4, int)),
            r"Accuracy: scores of shape \(3, 2\) go with targets of shape \(3,\), .*these have \(4,\)",
        ),
        (lambda: TopK(2)(np.zeros((3, 2)), np.zeros((3, 2), int)), r"TopK: scores of shape \(3, 2\)"),
        (lambda: ConfusionMatrix(3)(np.zeros((3, 2)), np.zeros(3, int)), r"ConfusionMatrix\(3\): the output has scores of 2 classes"),
        (lambda: TopK(0), "TopK: k is an integer of 1 or more, not 0"),
        (lambda: F1(True), "F1: classes is an integer of 1 or more, not True"),
        (lambda: F1(2, "mean"), "F1: average is 'macro', 'weighted', 'micro' or None, not 'mean'"),
        (lambda: by_name([TopK(2), TopK(2)]), "two results are called 'top2'"),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_metric_of_ones_own() -> None:
    with pytest.raises(NotImplementedError, match=r"Metric has no update\(output, target\): define how to take in a batch"):
        nn.trainer.Metric().update(1, 2)
