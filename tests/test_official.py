"""The runner of the official suite: its namespaces and its comparison; and what the suite has found that belongs to no other file."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import official
import pytest
import support
from derivatives import assert_exact

import agnostic_ad as ad


# --- the runner ----------------------------------------------------------------------------------------------------------
def test_what_passes_on_the_parent_alone_is_lost() -> None:
    parent = {"a": ("passed", ""), "b": ("passed", ""), "c": ("passed", ""), "d": ("failed", "x"), "e": ("passed", "")}
    ours = {"a": ("passed", ""), "b": ("failed", "x"), "c": ("skipped", ""), "d": ("failed", "y")}
    assert official.lost(parent, ours) == ["b", "c", "e"]


def test_a_refusal_counts_with_its_own_error_alone() -> None:
    name = "test_dlpack.py::test_dunder_dlpack"
    assert "lose its derivative" in official.refusal("grad", name, "agnostic_ad.errors.EscapedArrayError: ...")
    assert not official.refusal("grad", name, "TypeError: ...")
    assert not official.refusal("plain", name, "agnostic_ad.errors.EscapedArrayError: ...")
    assert not official.refusal("grad", "test_dlpack.py::test_from_dlpack", "agnostic_ad.errors.EscapedArrayError: ...")


def test_the_three_namespaces(backend: support.Backend) -> None:
    assert type(official.namespace(backend.name, "parent").zeros((2,))) is type(backend.asarray(0.0))
    plain, grad = (official.namespace(backend.name, mode) for mode in ("plain", "grad"))
    for name in official.CREATION:
        assert inspect.signature(getattr(grad, name)) == inspect.signature(getattr(plain, name))
    for xp, carries in ((plain, False), (grad, True)):
        for dtype in (xp.float32, xp.complex128):
            made = (xp.zeros((2,), dtype=dtype), xp.asarray([1, 2], dtype=dtype), xp.full((2,), 1, dtype=dtype))
            assert [x.requires_grad for x in (*made, xp.zeros_like(made[0]))] == [carries] * 4
        assert not xp.zeros((2,), dtype=xp.int32).requires_grad and xp.result_type(xp.int32, xp.int64) == xp.int64
        x = xp.ones((2,))
        x[0] = 3.0
        assert backend.numpy(x.data).tolist() == [3.0, 1.0] and x.requires_grad is carries


def test_what_requires_grad_already_is_left_as_it_is() -> None:
    grad = official.namespace("numpy", "grad")
    x = grad.ones((2,))
    assert grad.asarray(x) is x and grad.asarray(x, copy=False) is x


# --- what the suite has found --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["max", "mean", "min", "prod", "std", "sum", "var"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_nan_reaches_every_statistic(shape: tuple[int, ...], name: str, backend: support.Backend) -> None:
    x = np.ones(shape)
    x[(0,) * len(shape)] = np.nan
    found: Any = getattr(ad.differentiable(backend.xp), name)(backend.asarray(x))
    assert_exact(backend.numpy(found.data), np.asarray(np.nan))


def test_the_revision_of_the_standard_is_the_librarys(backend: support.Backend) -> None:
    xp = ad.differentiable(backend.xp)
    assert xp.__array_api_version__ == xp.backend.xp.__array_api_version__ >= "2022.12"
