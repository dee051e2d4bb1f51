"""The conformance suite's laws of Caffe's layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import support

from agnostic_ad.conformance import caffe as laws
from agnostic_ad.conformance import running
from agnostic_ad.conformance.comparing import Place
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.nn import caffe
from agnostic_ad.nn.caffe.samples import samples

NUMPY = Place(backend_of_namespace(np))
QUICK = ("numpy", "array_api_strict", "torch")


def test_every_layer_is_a_subject() -> None:
    assert {"caffe.Convolution", "caffe.LSTM", "caffe.SoftmaxWithLoss", "caffe.Tile"} <= set(laws.names())
    assert set(laws.names()) <= set(running.subjects("quick"))
    assert not {"caffe.Data", "caffe.Input", "caffe.Python"} & set(laws.names())
    assert all(samples(name.partition(".")[2]) for name in laws.names())


@pytest.mark.parametrize("backend", support.params(*QUICK))
@pytest.mark.parametrize("name", laws.names())
def test_layers_conform(backend: support.Backend, name: str) -> None:
    rows = list(laws.check(name, Place(backend_of_namespace(backend.xp)), "full"))
    assert [f"{row.title}: {row.reason}" for row in rows if row.status != "passed"] == []
    assert {row.law for row in rows} <= set(laws.LAWS)
    assert {row.dtype for row in rows} == {"float64", "float32"}


@pytest.mark.parametrize("backend", support.params(without=QUICK))
@pytest.mark.parametrize("name", ["caffe.Convolution", "caffe.LRN", "caffe.LSTM", "caffe.ReLU", "caffe.Eltwise", "caffe.SoftmaxWithLoss"])
def test_layers_conform_at_least(backend: support.Backend, name: str) -> None:
    rows = list(laws.check(name, Place(backend_of_namespace(backend.xp)), "least"))
    assert [f"{row.title}: {row.reason}" for row in rows if row.status != "passed"] == []
    assert [row.cases for row in rows] == [1, 1]


def test_rows_can_be_repeated() -> None:
    rows = list(laws.check("caffe.Pooling", NUMPY, "quick", seed=3))
    assert [(row.law, row.dtype, row.cases) for row in rows] == [
        ("caffe_tops_agree", "float64", len(samples("Pooling"))),
        ("caffe_backward_agrees", "float64", len(samples("Pooling"))),
        ("caffe_tops_agree", "float32", 1),
        ("caffe_backward_agrees", "float32", 1),
    ]
    assert (
        laws._tops(samples("Dropout")[0], NUMPY, "double", 0)[0].tolist()
        == laws._tops(samples("Dropout")[0], NUMPY, "double", 0)[0].tolist()
    )


def test_a_wrong_backward_fails_with_code_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caffe.LAYERS["TanH"], "pull", lambda self, xp, ct, kept: ct * (1 - kept))
    _, row = laws.check("caffe.TanH", NUMPY, "least")
    assert (row.law, row.status) == ("caffe_backward_agrees", "failed")
    assert "check_layer: TanH: backward is wrong: bottom 0 at index" in row.reason
    with pytest.raises(AssertionError, match="check_layer: TanH: backward is wrong"):
        exec(row.example, {})


def test_wrong_tops_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    value, calls = caffe.LAYERS["TanH"].value, []

    def off(self: Any, xp: Any, x: Any) -> Any:
        calls.append(x)
        return value(self, xp, x) * (1 + 1e-12 * (len(calls) == 1))

    monkeypatch.setattr(caffe.LAYERS["TanH"], "value", off)
    row, _ = laws.check("caffe.TanH", NUMPY, "least")
    assert (row.law, row.status) == ("caffe_tops_agree", "failed")
    assert "of which rounding explains" in row.reason


def test_a_layer_without_samples_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "samples", lambda name: [])
    (row,) = laws.check("caffe.ReLU", NUMPY)
    assert row.status == "error"
    assert row.reason == "caffe.ReLU has no sample: add one to agnostic_ad/nn/caffe/samples.py"


def test_what_raises_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, xp: Any, x: Any) -> Any:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(caffe.LAYERS["TanH"], "value", broken)
    rows = list(laws.check("caffe.TanH", NUMPY, "least"))
    assert {row.status for row in rows} == {"error"}
    assert all("on purpose" in row.reason for row in rows)
