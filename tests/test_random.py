"""Generators and defaults."""

from __future__ import annotations

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import config, nn


def test_generators_repeat() -> None:
    a, b = ad.Generator(5), ad.Generator(5)
    for draw in (
        lambda g: g.uniform((3,), -1, 1),
        lambda g: g.normal((2, 2), 1, 2),
        lambda g: g.integers(0, 9, (4,)),
        lambda g: g.permutation(7),
    ):
        np.testing.assert_array_equal(draw(a), draw(b))
    state = a.get_state()
    x = a.normal((3,))
    a.set_state(state)
    np.testing.assert_array_equal(a.normal((3,)), x)
    assert a.initial_seed() == 5 and repr(a) == "Generator(seed=5)"
    assert ad.Generator().initial_seed() != ad.Generator().initial_seed()
    assert a.manual_seed(5).normal() == ad.Generator(5).normal()


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True])
def test_seeds_that_are_none(seed: object) -> None:
    with pytest.raises(ValueError, match="a seed is an integer of 0 or more"):
        ad.manual_seed(seed)  # type: ignore[arg-type]


def test_defaults(backend: support.Backend) -> None:
    kind = type(backend.asarray(1.0))
    with ad.defaults(xp=backend.xp, dtype="float64"):
        layer = nn.Linear(2, 2)
        assert type(layer.weight.data) is kind and "float64" in str(layer.weight.dtype)
        with ad.defaults(dtype="float32"):
            assert type(nn.Parameter([1.0]).data) is kind and "float32" in str(nn.Parameter([1.0]).dtype)
        assert type(nn.Linear(2, 2, xp=np).weight.data) is np.ndarray
    assert type(nn.Linear(2, 2).weight.data) is np.ndarray and nn.Linear(2, 2).weight.dtype == np.float32


def test_defaults_act_at_once() -> None:
    setting = ad.defaults(dtype="float64")
    try:
        assert nn.Linear(1, 1).weight.dtype == np.float64
    finally:
        with setting:
            pass
    assert nn.Linear(1, 1).weight.dtype == np.float32


def test_defaults_refuse() -> None:
    with pytest.raises(TypeError, match="parameters have floating or complex dtypes, not int32"):
        ad.defaults(dtype="int32")
    with pytest.raises(TypeError, match="'float33' is no dtype"):
        ad.defaults(dtype="float33")
    assert config.place().dtype == np.float32


def test_moving(backend: support.Backend) -> None:
    x = np.arange(6.0).reshape(2, 3)
    y = config.move(x, config.parse(backend.xp, "float32"))
    assert "float32" in str(y.dtype) and type(y) is type(backend.asarray(1.0))
    z = config.move(y, config.parse(np, np.float64))
    assert z.dtype == np.float64
    np.testing.assert_array_equal(z, x)
    assert config.dtype_name(y.dtype) == "float32" and config.dtype_name(backend.compat.int64) == "int64"
    assert config.move(np.arange(3), config.parse("float32")).dtype == np.int64
