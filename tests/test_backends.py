"""The fixtures themselves: every array library gives float64, comes back to the host, and is found under its name."""

from __future__ import annotations

import os

import numpy as np
import pytest
import support


def test_numpy_is_always_here() -> None:
    if "AGNOSTIC_AD_TEST_BACKENDS" not in os.environ:
        assert support.backends()[0].name == "numpy"


def test_float64_stays(backend: support.Backend) -> None:
    array = backend.asarray([1.0, 2.0])
    assert str(array.dtype).endswith("float64")
    assert backend.numpy(backend.compat.sum(array)) == 3.0
    assert str(backend.asarray([1, 2], dtype="float32").dtype).endswith("float32")


def test_one_thread() -> None:
    assert os.environ["OPENBLAS_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"


def test_numpy_prints_as_it_does_today() -> None:
    assert np.get_printoptions()["legacy"] is False
    assert repr(np.float64(1.0)) == "np.float64(1.0)"


def test_a_listed_backend_must_be_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNOSTIC_AD_TEST_BACKENDS", "nunpy")
    with pytest.raises(pytest.UsageError, match="'nunpy' is none of numpy"):
        support.backends()
