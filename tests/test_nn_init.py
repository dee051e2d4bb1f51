"""Initial values: distributions beside SciPy's, fans and gains beside torch's, the same numbers on every library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn

stats = pytest.importorskip("scipy.stats")

SHAPE = (120, 25, 3, 3)
FAN_IN, FAN_OUT = 25 * 9, 120 * 9


def draw(init: Any, shape: tuple[int, ...] = SHAPE, seed: int = 1, **options: Any) -> np.ndarray[Any, Any]:
    p = nn.Parameter(np.full(shape, np.nan))
    assert init(p, generator=ad.Generator(seed), **options) is p
    return p.data


def truncated(mean: float, std: float, a: float, b: float) -> Any:
    return stats.truncnorm((a - mean) / std, (b - mean) / std, loc=mean, scale=std)


@pytest.mark.parametrize(
    ("init", "options", "wanted"),
    [
        (nn.init.uniform_, {}, stats.uniform(0, 1)),
        (nn.init.uniform_, {"a": -3, "b": 5}, stats.uniform(-3, 8)),
        (nn.init.normal_, {}, stats.norm()),
        (nn.init.normal_, {"mean": 2, "std": 0.1}, stats.norm(2, 0.1)),
        (nn.init.xavier_uniform_, {}, stats.uniform(-(b := math.sqrt(6 / (FAN_IN + FAN_OUT))), 2 * b)),
        (nn.init.xavier_normal_, {"gain": 3.0}, stats.norm(0, 3 * math.sqrt(2 / (FAN_IN + FAN_OUT)))),
        (nn.init.kaiming_uniform_, {"a": math.sqrt(5)}, stats.uniform(-(b := 1 / math.sqrt(FAN_IN)), 2 * b)),
        (nn.init.kaiming_uniform_, {"mode": "fan_out", "nonlinearity": "relu"}, stats.uniform(-(b := math.sqrt(6 / FAN_OUT)), 2 * b)),
        (nn.init.kaiming_normal_, {"nonlinearity": "tanh"}, stats.norm(0, 5 / 3 / math.sqrt(FAN_IN))),
        (nn.init.trunc_normal_, {}, truncated(0, 1, -2, 2)),
        (nn.init.trunc_normal_, {"std": 0.02}, truncated(0, 0.02, -2, 2)),
        (nn.init.trunc_normal_, {"mean": 5.0, "std": 2.0, "a": -1.0, "b": 4.0}, truncated(5, 2, -1, 4)),
        (nn.init.trunc_normal_, {"a": 0.5, "b": 0.6}, truncated(0, 1, 0.5, 0.6)),
        (nn.init.trunc_normal_, {"a": -1.0, "b": 0.5}, truncated(0, 1, -1, 0.5)),
        (nn.init.trunc_normal_, {"a": 8.0, "b": 9.0}, truncated(0, 1, 8, 9)),
        (nn.init.trunc_normal_, {"a": 30.0, "b": math.inf}, truncated(0, 1, 30, math.inf)),
        (nn.init.trunc_normal_, {"a": 30.0, "b": 30.001}, truncated(0, 1, 30, 30.001)),
        (nn.init.trunc_normal_, {"mean": 1.0, "a": -math.inf, "b": -6.0}, truncated(1, 1, -math.inf, -6)),
    ],
)
def test_distribution(init: Any, options: dict[str, Any], wanted: Any) -> None:
    drawn = draw(init, **options)
    assert stats.kstest(drawn.reshape(-1), wanted.cdf).pvalue > 0.01  # 27,000 numbers: a deviation of 0.01 would show
    if init is nn.init.trunc_normal_:
        assert drawn.min() >= options.get("a", -2) and drawn.max() <= options.get("b", 2)


def test_complex_numbers_have_the_variance_asked_for() -> None:
    p = nn.init.normal_(nn.Parameter(np.zeros(20000, "complex128")), 0.0, 2.0, ad.Generator(0))
    for part in (p.data.real, p.data.imag):
        assert stats.kstest(part, stats.norm(0, math.sqrt(2)).cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (6, 2, 3), (2, 3, 2, 2), (1, 7)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_orthogonal(shape: tuple[int, ...], dtype: str) -> None:
    q = nn.init.orthogonal_(nn.Parameter(np.zeros(shape, dtype)), 2.0, ad.Generator(0)).data.reshape(shape[0], -1) / 2
    product = q @ q.conj().T if q.shape[0] <= q.shape[1] else q.conj().T @ q
    np.testing.assert_allclose(product, np.eye(len(product)), rtol=0, atol=1e-12)


def test_orthogonal_is_uniform_over_all_orthogonal_matrices() -> None:
    """The angle of a random rotation or reflection of the plane is uniform; without the signs of R's diagonal it would not be."""
    source = ad.Generator(0)
    columns = [nn.init.orthogonal_(nn.Parameter(np.zeros((2, 2))), generator=source).data[:, 0] for _ in range(2000)]
    angles = [math.atan2(y, x) for x, y in columns]
    assert stats.kstest(angles, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > 0.01


@pytest.mark.parametrize(("rows", "sparsity", "zeros"), [(10, 0.3, 3), (10, 0.31, 4), (7, 0.0, 0), (7, 1.0, 7)])
def test_sparse(rows: int, sparsity: float, zeros: int) -> None:
    drawn = draw(nn.init.sparse_, (rows, 400), sparsity=sparsity, std=0.5)
    np.testing.assert_array_equal((drawn == 0).sum(axis=0), zeros)
    if 0 < zeros < rows:
        where = (drawn == 0).mean(axis=1)  # no row is preferred
        np.testing.assert_allclose(where, zeros / rows, rtol=0, atol=5 * math.sqrt(0.25 / 400))
    if zeros < rows:
        assert stats.kstest(drawn[drawn != 0], stats.norm(0, 0.5).cdf).pvalue > 0.01


@pytest.mark.parametrize(("shape", "groups"), [((4, 3, 3), 1), ((3, 4, 2, 5), 1), ((6, 2, 3, 3), 3), ((4, 4, 1, 2, 3), 2)])
def test_fixed_values_are_those_of_torch(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    p, t = nn.Parameter(np.full(shape, np.nan)), torch.full(shape, math.nan)
    np.testing.assert_array_equal(nn.init.dirac_(p, groups).data, torch.nn.init.dirac_(t, groups))
    m, u = nn.Parameter(np.full(shape[:2], np.nan)), torch.full(shape[:2], math.nan)
    np.testing.assert_array_equal(nn.init.eye_(m).data, torch.nn.init.eye_(u))


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain(name, 0.3) == torch.nn.init.calculate_gain(name, 0.3)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 3), (6, 2, 3, 4)])
def test_fans_are_those_of_torch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    assert nn.init._calculate_fan_in_and_fan_out(np.zeros(shape)) == torch.nn.init._calculate_fan_in_and_fan_out(torch.zeros(shape))


EVERY = {
    "uniform_": {},
    "normal_": {},
    "trunc_normal_": {"a": 1.0},
    "constant_": {"val": 3.5},
    "ones_": {},
    "zeros_": {},
    "eye_": {},
    "dirac_": {},
    "xavier_uniform_": {},
    "xavier_normal_": {},
    "kaiming_uniform_": {},
    "kaiming_normal_": {},
    "orthogonal_": {},
    "sparse_": {"sparsity": 0.2},
}


def test_every_function_is_here() -> None:
    assert {*EVERY, "calculate_gain"} == set(nn.init.__all__)


@pytest.mark.parametrize("name", EVERY)
def test_one_seed_gives_the_same_everywhere(backend: support.Backend, name: str) -> None:
    shape = (4, 3, 2) if name == "dirac_" else (4, 3)
    ad.manual_seed(7)
    wanted = getattr(nn.init, name)(nn.Parameter(np.zeros(shape, "float32")), **EVERY[name]).data
    ad.manual_seed(7)
    p = nn.Parameter(backend.asarray(np.zeros(shape), "float32"))
    found = getattr(nn.init, name)(p, **EVERY[name])
    assert found is p and p.is_leaf and p.requires_grad and type(p.data) is type(backend.asarray(0.0))
    np.testing.assert_array_equal(backend.numpy(p.data), wanted)
    assert wanted.dtype == np.float32 and backend.numpy(p.data).dtype == np.float32


def test_a_slice_and_raw_data() -> None:
    p = nn.Parameter(np.zeros(5))
    nn.init.ones_(p[1:3])
    assert p.data.tolist() == [0, 1, 1, 0, 0] and p.is_leaf
    nn.init.constant_(p.data, 2.0)
    assert p.data.tolist() == [2] * 5


@pytest.mark.parametrize("backend", support.params("jax"))
def test_data_that_cannot_be_written_is_refused(backend: support.Backend) -> None:
    with pytest.raises(TypeError, match=r"cannot be written to .* Pass the parameter itself, not its data"):
        nn.init.ones_(nn.Parameter(backend.asarray([0.0])).data)


def test_nothing_to_draw() -> None:
    p = nn.Parameter(np.zeros((0, 3)))
    for init in (nn.init.kaiming_uniform_, nn.init.kaiming_normal_):
        with pytest.warns(UserWarning, match="zero-element tensors is a no-op"):
            assert init(p) is p
    for name in ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "orthogonal_", "sparse_", "eye_"):
        assert getattr(nn.init, name)(p, **EVERY[name]) is p
    assert nn.init.normal_(nn.Parameter(np.zeros(()))).shape == ()


def test_what_is_refused() -> None:
    w, line, cube = (nn.Parameter(np.zeros((2,) * n)) for n in (2, 1, 3))
    for call, text in [
        (lambda: nn.init.zeros_(w * 2), "init works in place on parameters and other leaf Variables, not on the result of an operation"),
        (lambda: nn.init.zeros_([1.0]), "not on list"),
        (lambda: ad.grad(lambda x: nn.init.ones_(x).sum())(np.ones(2)), "not on"),
        (lambda: nn.init.eye_(line), r"eye_ fills arrays of 2 dimensions, not of shape \(2,\)"),
        (lambda: nn.init.dirac_(w), r"dirac_ fills arrays of 3 or 4 or 5 dimensions, not of shape \(2, 2\)"),
        (lambda: nn.init.dirac_(cube, 3), "2 output channels cannot be divided into 3 groups"),
        (lambda: nn.init.sparse_(cube, 0.1), "sparse_ fills arrays of 2 dimensions"),
        (lambda: nn.init.sparse_(w, 1.5), "sparsity is a fraction between 0 and 1, not 1.5"),
        (lambda: nn.init.orthogonal_(line), "orthogonal_ fills arrays of 2 dimensions or more"),
        (lambda: nn.init.kaiming_normal_(line), "fans are those of a weight of 2 dimensions or more"),
        (lambda: nn.init.kaiming_normal_(w, mode="in"), "mode is 'fan_in' or 'fan_out', not 'in'"),
        (lambda: nn.init.uniform_(w, 2, 1), "a is at most b; not between 2 and 1"),
        (lambda: nn.init.normal_(w, std=-1), "std is 0 or more, not -1"),
        (lambda: nn.init.trunc_normal_(w, std=0), "wants std > 0 and a < b, not std=0"),
        (lambda: nn.init.trunc_normal_(w, a=3), "not std=1.0, a=3, b=2.0"),
        (lambda: nn.init.uniform_(nn.Parameter(np.zeros(2, "complex64"))), "draws real numbers; this parameter has dtype complex64"),
        (lambda: nn.init.normal_(w, generator=np.random.default_rng(0)), "generator is an agnostic_ad.Generator, not numpy"),
        (lambda: nn.init.calculate_gain("conv4d"), "not 'conv4d'"),
        (lambda: nn.init.calculate_gain("leaky_relu", True), "the slope of leaky_relu is a number, not True"),
    ]:
        with pytest.raises((ValueError, TypeError), match=text):
            call()
