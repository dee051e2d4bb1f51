"""Settings and fixtures of all tests. The environment is set before anything imports an array library."""

from __future__ import annotations

import os

for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"
os.environ["JAX_ENABLE_X64"] = "1"  # float64 in is float64 out, on jax too
# What one test compiles, another process or run finds. Entries are named by program, version and machine; `make clean` removes them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(os.path.dirname(os.path.dirname(__file__)), ".pytest_cache", "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["SCIPY_ARRAY_API"] = "1"  # SciPy and scikit-learn take arrays of the standard; SciPy asks once, when it is imported
os.environ.setdefault("MPLBACKEND", "Agg")

import importlib.util
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import support

if importlib.util.find_spec("agnostic_ad") is None or importlib.util.find_spec("agnostic_ad.nn") is None:
    raise pytest.UsageError("agnostic_ad is not installed: run `make tests`; or `pip install -e .`, then `python -P -m pytest`")

if importlib.util.find_spec("hypothesis") is not None:
    import hypothesis

    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
    hypothesis.settings.load_profile("repeatable")


@pytest.fixture(params=support.params())
def backend(request: pytest.FixtureRequest) -> support.Backend:
    """Give each array library in turn."""
    chosen: support.Backend = request.param
    return chosen


@pytest.fixture
def xp(backend: support.Backend) -> Any:
    """Give the module of each array library in turn, as its users import it: numpy, array_api_strict, torch, jax.numpy, ..."""
    return backend.xp


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Give random numbers that depend on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(autouse=True)
def _print_options() -> Iterator[None]:
    with np.printoptions():  # what a test changes ends with it
        yield


@pytest.fixture(autouse=True, scope="module")
def _what_jax_compiled() -> Iterator[None]:
    yield
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()  # gigabytes, by the end; what is needed again is on disk
