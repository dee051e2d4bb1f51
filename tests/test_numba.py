"""Compiled passes beside NumPy's own: the same numbers, to rounding."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optimizers
import pytest

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.backends.expressions import NoCodeError, write
from agnostic_ad.nn import functional as F

numba = pytest.importorskip("numba")

from agnostic_ad.backends import numba as compiling  # noqa: E402
from agnostic_ad.backends import numba_kernels  # noqa: E402


@pytest.fixture
def compiled() -> Iterator[None]:
    ad.use_numba()
    yield
    ad.use_numba(False)


def both(run: Any) -> tuple[Any, Any]:
    """What a function gives without and with compiled passes."""
    plain = run()
    ad.use_numba()
    try:
        return plain, run()
    finally:
        ad.use_numba(False)


# --- expressions ------------------------------------------------------------------------------------------------------------------------
def test_numbers_are_arguments_of_the_code() -> None:
    def update(rate: float) -> Any:
        return write(lambda xp, a: {"p": a["p"] - rate * a["g"], "step": 3}, ("p", "g"))

    code, results, others = update(0.1)
    assert code.lines == ["t0 = k0 * x1", "t1 = x0 - t0"] and code.numbers == [0.1]
    assert results == {"p": "t1"} and others == {"step": 3}
    assert update(0.2)[0].lines == code.lines


@pytest.mark.parametrize(
    "function",
    [lambda xp, a: {"p": xp.sum(a["p"])}, lambda xp, a: {"p": a["p"] + "1"}, lambda xp, a: {"p": 1.0 if a["p"] > 0 else 2.0}],
    ids=["a function without code", "no number", "a decision"],
)
def test_what_has_no_code_is_refused(function: Any) -> None:
    with pytest.raises(NoCodeError, match=r"there is no code for 'sum'|arrays and numbers are wanted|asks for the value"):
        write(function, ("p",))


CASES = [
    (lambda xp, a, b: xp.maximum(a, b) + xp.minimum(a, 0.25), 2),
    (lambda xp, a: xp.sign(a) * xp.sqrt(xp.abs(a)) + xp.square(a) ** 0.5, 1),
    (lambda xp, a, b: xp.where(a > b, a, -b) + (a**2 - b**3) / (1 + b * b), 2),
    (lambda xp, a: xp.exp(a) - xp.log(xp.abs(a) + 1) + xp.zeros_like(a) + 2 * xp.ones_like(a), 1),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("function", "count"), CASES)
def test_code_computes_what_numpy_computes(function: Any, count: int, dtype: str, rng: np.random.Generator) -> None:
    arrays = {f"x{i}": rng.normal(size=1000).astype(dtype) for i in range(count)}
    y = np.empty(1000, dtype)
    compiling.elementwise(lambda xp, given: {"y": function(xp, *given.values())}, arrays, {"y": y})
    np.testing.assert_allclose(
        y, function(np, *arrays.values()), rtol=1e-14 if dtype == "float64" else 1e-6, atol=1e-6 if dtype == "float32" else 1e-14
    )


def test_an_array_may_be_given_twice() -> None:
    x, y = np.arange(3.0), np.empty(3)
    compiling.elementwise(lambda xp, a: {"y": a["x"] * a["z"] + 1}, {"x": x, "z": x}, {"y": y})
    np.testing.assert_array_equal(y, [1.0, 2.0, 5.0])
    compiling.elementwise(lambda xp, a: {"x": a["x"] - a["z"]}, {"x": x, "z": x}, {"x": x})
    np.testing.assert_array_equal(x, np.zeros(3))


def test_nan_passes_through_comparisons() -> None:
    x, zero, y = np.asarray([math.nan, 1.0, -1.0]), np.zeros(3), np.empty(3)
    for name, wanted in (("maximum", [math.nan, 1.0, 0.0]), ("minimum", [math.nan, 0.0, -1.0])):
        for order in (("a", "b"), ("b", "a")):
            compiling.elementwise(lambda xp, g, n=name, o=order: {"y": getattr(xp, n)(g[o[0]], g[o[1]])}, {"a": x, "b": zero}, {"y": y})
            np.testing.assert_array_equal(y, wanted)


def test_exp_in_single_precision() -> None:
    x = np.linspace(-87.0, 88.7, 200_001).astype("float32")
    y = np.empty_like(x)
    compiling.elementwise(lambda xp, a: {"y": xp.exp(a["x"])}, {"x": x}, {"y": y})
    assert np.max(np.abs(y / np.exp(x.astype("float64")) - 1)) < 1.6 * 2.0**-24
    ends = np.asarray([-math.inf, -200.0, 0.0, 89.0, math.inf, math.nan], "float32")
    y = np.empty_like(ends)
    compiling.elementwise(lambda xp, a: {"y": xp.exp(a["x"])}, {"x": ends}, {"y": y})
    np.testing.assert_array_equal(y, np.asarray([0, 0, 1, math.inf, math.inf, math.nan], "float32"))


# --- what is compiled -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(name for name, rule in optimizers.RULES.items() if rule.formula.elementwise))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_optimizers(name: str, dtype: str) -> None:
    def run() -> list[Any]:
        rng = np.random.default_rng(0)
        shapes = [(40, 30), (), (0, 3), (7,)]
        params = [nn.Parameter(rng.normal(size=shape).astype(dtype)) for shape in shapes]
        optimizer = getattr(nn.optim, name)(params, lr=0.01)
        for _ in range(5):
            for p in params:
                p.grad = np.asarray(rng.normal(size=p.shape).astype(dtype)).T.copy().T
            optimizer.step()
        return [p.data for p in params] + [x for p in params for x in optimizer.state[p].values() if hasattr(x, "shape")]

    plain, fused = both(run)
    assert len(plain) == len(fused)
    for a, b in zip(plain, fused, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(b, a, rtol=1e-12 if dtype == "float64" else 2e-5, atol=1e-14 if dtype == "float64" else 1e-6)


LAYERS = {
    "gelu": (F.gelu, (80, 70)),
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), (80, 70)),
    "silu": (F.silu, (80, 70)),
    "silu, not in one piece": (lambda x: F.silu(x.T), (80, 70)),
    "layer norm": (lambda x: nn.LayerNorm(70)(x), (80, 70)),
    "layer norm, two axes": (lambda x: nn.LayerNorm((8, 70), elementwise_affine=False)(x), (10, 8, 70)),
    "rms norm": (lambda x: nn.RMSNorm(70)(x), (80, 70)),
    "group norm": (lambda x: nn.GroupNorm(2, 8)(x), (10, 8, 70)),
    "batch norm": (lambda x: nn.BatchNorm2d(4)(x), (3, 4, 20, 30)),
    "batch norm without weights": (lambda x: nn.BatchNorm1d(4, affine=False)(x), (3, 4, 200)),
    "lstm": (lambda x: nn.LSTM(6, 5)(x)[0], (7, 3, 6)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str, dtype: str) -> None:
    function, shape = LAYERS[name]

    def run() -> list[Any]:
        rng = np.random.default_rng(0)
        ad.manual_seed(0)
        with ad.defaults(dtype=dtype):
            x = ad.Variable((3 * rng.normal(size=shape)).astype(dtype))
            y = function(x)
            y.backward(rng.normal(size=y.shape).astype(dtype))
        return [y.data, x.grad]

    for plain, fused in zip(*both(run), strict=True):
        assert plain.dtype == fused.dtype == dtype
        np.testing.assert_allclose(fused, plain, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.usefixtures("compiled")
def test_derivatives_of_derivatives() -> None:
    x = np.linspace(-3.0, 3.0, 5000).astype("float32")
    second = ad.grad(lambda x: ad.grad(lambda x: F.gelu(x).sum())(x).sum())(x).astype("float64")
    density = np.exp(-(x.astype("float64") ** 2) / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(second, density * (2 - x.astype("float64") ** 2), atol=1e-6)


# --- the switch -------------------------------------------------------------------------------------------------------------------------
def test_the_switch_changes_the_class_of_the_backend() -> None:
    backend = ad.Variable(np.ones(2)).backend
    assert type(backend).__name__ == "NumpyBackend"
    ad.use_numba()
    assert type(backend).__name__ == "NumbaBackend"
    ad.use_numba(False)
    assert type(backend).__name__ == "NumpyBackend"


def test_numba_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'agnostic_ad\[jit\]'"):
        ad.use_numba()
    ad.use_numba(False)


def test_the_environment_asks_for_it() -> None:
    kind = "print(type(ad.Variable(np.ones(2)).backend).__name__)"
    code = f"import numpy as np, agnostic_ad as ad; {kind}; ad.use_numba(False); ad.backends.available(); {kind}"
    for value, name in (("1", "NumbaBackend\nNumpyBackend"), ("0", "NumpyBackend\nNumpyBackend")):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], env={"AGNOSTIC_AD_NUMBA": value}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == name


def test_code_is_kept_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = "def loop(zero, one, a0):\n    for i in range(a0.size):\n        a0[i] = one\n"
    x = np.zeros(3)
    stored = compiling._stored(source)
    assert stored is not None
    stored(0.0, 1.0, x)
    np.testing.assert_array_equal(x, np.ones(3))
    (path,) = (tmp_path / "agnostic_ad" / "loops").glob("*.py")
    path.write_text("raise SystemExit('somebody else wrote this')")
    assert compiling._stored(source) is not None  # written anew
    assert "a0[i] = one" in path.read_text()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agnostic_ad").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = "def loop(zero, one, a0):\n    for i in range(a0.size):\n        a0[i] = one + one\n"
    assert compiling._stored(source) is None
    x = np.zeros(3)
    compiling.loop_of(source)(0.0, 1.0, x)
    np.testing.assert_array_equal(x, np.full(3, 2.0))


def test_kernels_have_no_python_form() -> None:
    with pytest.raises(NotImplementedError, match="inside compiled functions only"):
        numba_kernels.exp(1.0)
