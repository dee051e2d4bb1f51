"""graph.from_onnx on the examples by which ONNX defines its operators: each is read and right, or refused in one line."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from derivatives import assert_close, assert_exact
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from agnostic_ad import graph
from agnostic_ad.encodings import FileError
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph.onnx_import import _KNOWN, OPERATORS

KINDS = "biuf"
DRAWN = ("test_bernoulli",)
EMPTY = ("test_reduce_max_empty_set", "test_reduce_min_empty_set")  # of nothing, libraries know no largest number
LOOSE = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}  # its numbers are written with four digits


def array(x: Any) -> Any:
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x


def numbers(xs: list[Any]) -> bool:
    return all(isinstance(x, np.ndarray | np.generic) and np.asarray(x).dtype.kind in KINDS for x in xs)


def with_constants(model: Any, inputs: list[Any]) -> tuple[Any, list[Any]]:
    """Give a model whose shapes and axes are constants, as models of networks have them, and what is left of its inputs."""
    names = [i.name for i in model.graph.input]
    if len(model.graph.node) == 1:
        (node,) = model.graph.node
        places = () if node.op_type == "Gather" else _KNOWN.get(node.op_type, ())
        fixed = {node.input[i] for i in places if i < len(node.input)}
    else:
        fixed = {n for n, x in zip(names, inputs, strict=True) if np.asarray(x).dtype == np.int64 and np.ndim(x) < 2}
    again = onnx.ModelProto()
    again.CopyFrom(model)
    again.graph.initializer.extend(numpy_helper.from_array(np.asarray(x), n) for n, x in zip(names, inputs, strict=True) if n in fixed)
    return again, [x for n, x in zip(names, inputs, strict=True) if n not in fixed]


@functools.cache
def examples() -> dict[str, tuple[Any, list[Any], list[Any]]]:
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as onnx makes its examples
        cases = collect_testcases(None)
    for case in cases:
        nodes = case.model.graph.node
        if not case.data_sets or any(n.domain not in ("", "ai.onnx") or n.op_type not in OPERATORS for n in nodes):
            continue
        if case.name.startswith((*DRAWN, *EMPTY)):
            continue
        inputs, outputs = ([array(x) for x in xs] for xs in case.data_sets[0])
        if numbers(inputs + outputs) and inputs:
            model, rest = with_constants(case.model, inputs)
            if rest:
                found[case.name] = model, rest, outputs
    return found


def test_examples() -> None:
    right, refused = 0, []
    for name, (model, inputs, outputs) in examples().items():
        try:
            g = graph.from_onnx(model)
        except (UnsupportedError, FileError) as error:
            assert "\n" not in str(error), name
            refused.append(name)
            continue
        with np.errstate(all="ignore"):
            found = g(*map(np.asarray, inputs))
        for got, want in zip(found if isinstance(found, tuple) else (found,), outputs, strict=False):
            got, want = np.asarray(got), np.asarray(want)
            assert got.shape == want.shape and got.dtype == want.dtype, name
            if want.dtype.kind == "f":
                same = (got == want) | (np.isnan(got) & np.isnan(want))
                tolerance = LOOSE.get(name, 1e-3 if want.dtype == "float16" else 1e-5)
                assert_close(np.where(same, 0, got), np.where(same, 0, want), tolerance, tolerance)
            else:
                assert_exact(got, want)
        right += 1
    assert right >= 0.9 * (right + len(refused)), refused


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("test_argmax_default_axis_example_select_last_index", "ArgMax with select_last_index is not read"),
        ("test_batchnorm_example_training_mode", "BatchNormalization in training mode is not read"),
        ("test_training_dropout", "Dropout in training mode is not read"),
        ("test_resize_tf_crop_and_resize", "Resize is read with mode nearest, linear or cubic"),
        ("test_gathernd_example_int32_batch_dim1", "GatherND with batch_dims is not read"),
        ("test_scatter_elements_with_reduction_max", "ScatterElements with reduction=max is not read"),
    ],
)
def test_settings_that_are_refused(name: str, why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        graph.from_onnx(examples()[name][0])
