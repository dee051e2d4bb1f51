"""Convolutions, transposed ones, windows: what PyTorch's own lists of cases leave out."""

from __future__ import annotations

import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact
from test_nn_torch import assert_agree

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional
# JAX compiles every shape, and Dask computes every number anew: one call of each kind there, in the conformance suite's samples and below
quick = pytest.mark.parametrize("backend", support.params(without=("jax", "dask")))

TRANSPOSED: list[tuple[int, Any, Any, dict[str, Any]]] = [
    # axes, x, weight, options
    (2, (2, 3, 4, 5), (3, 2, 3, 2), {}),
    (2, (2, 4, 3, 4), (4, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    (2, (2, 2, 3, 2), (2, 2, 2, 3), {"stride": (3, 2), "dilation": (1, 4), "output_padding": (2, 3)}),
    (2, (3, 3, 4), (3, 2, 4, 4), {"stride": 2, "padding": (1, 3)}),
    (1, (2, 3, 5), (3, 2, 4), {"stride": 3, "padding": 2}),
    (3, (1, 2, 3, 2, 3), (2, 2, 2, 3, 2), {"stride": (1, 2, 3), "padding": (0, 1, 1)}),
]


@quick
@pytest.mark.parametrize(("axes", "x", "weight", "options"), TRANSPOSED)
def test_conv_transpose(backend: support.Backend, rng: np.random.Generator, axes: int, x: Any, weight: Any, options: Any) -> None:
    ours, theirs = getattr(F, f"conv_transpose{axes}d"), getattr(T, f"conv_transpose{axes}d")
    arrays = (rng.normal(size=x), rng.normal(size=weight), rng.normal(size=weight[1] * options.get("groups", 1)))
    assert_agree(backend, lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *arrays, rng=rng)


@quick
def test_windows(backend: support.Backend, rng: np.random.Generator) -> None:
    x, columns = rng.normal(size=(2, 3, 5, 6)), rng.normal(size=(2, 12, 15))
    options: dict[str, Any] = {"kernel_size": (2, 2), "dilation": (1, 2), "padding": (1, 0), "stride": (2, 1)}
    assert_agree(backend, lambda a: F.unfold(a, **options), lambda a: T.unfold(a, **options), x, rng=rng)
    assert_agree(backend, lambda a: F.fold(a, (5, 7), **options), lambda a: T.fold(a, (5, 7), **options), columns, rng=rng)
    assert_agree(backend, lambda a: F.unfold(a, 3), lambda a: T.unfold(a, 3), x[0], rng=rng)


def test_one_of_each_on_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    weight = rng.normal(size=(2, 3, 2, 2))

    def network(conv: Any, transpose: Any, unfold: Any, fold: Any) -> Any:
        def run(x: Any, w: Any) -> Any:
            y = transpose(conv(x, w, stride=(2, 1), padding=1), w, stride=2, output_padding=1)
            return fold(unfold(y, 2, padding=(0, 1)), tuple(y.shape[2:]), 2, padding=(0, 1))

        return run

    ours, theirs = (network(m.conv2d, m.conv_transpose2d, m.unfold, m.fold) for m in (F, T))
    assert_agree(backend, ours, theirs, rng.normal(size=(2, 3, 4, 3)), weight, rng=rng)


def test_conv_tbc(rng: np.random.Generator) -> None:
    arrays = rng.normal(size=(6, 2, 3)), rng.normal(size=(3, 3, 4)), rng.normal(size=4)
    assert_agree(support.Backend("numpy"), lambda *a: F.conv_tbc(*a, pad=1), lambda *a: torch.conv_tbc(*a, 1), *arrays, rng=rng)
    with pytest.raises(
        ValueError, match=re.escape("conv_tbc takes an input (time, batch, in) and a weight (kernel, in, out), not shapes (6, 2)")
    ):
        F.conv_tbc(arrays[0][:, :, 0], *arrays[1:])


def drawn(rng: np.random.Generator) -> tuple[Any, Any, dict[str, Any]]:
    """Draw the shapes and options of a convolution that fits."""
    while True:
        axes, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
        size, kernel, stride, dilation, padding = (
            tuple(int(n) for n in rng.integers(low, high, axes)) for low, high in ((1, 12), (1, 5), (1, 5), (1, 4), (0, 5))
        )
        if all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)):
            inputs, outputs = (int(n) for n in rng.integers(1, 4, 2))
            x, weight = (int(rng.integers(0, 7)), groups * inputs, *size), (groups * outputs, inputs, *kernel)
            return x, weight, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@pytest.mark.parametrize("seed", range(8))
def test_every_way_to_move_a_window(seed: int) -> None:
    """NumPy's own form divides images, strides and groups in many ways; empty batches are among these."""
    rng = np.random.default_rng(seed)
    for _ in range(15):
        x, weight, options = drawn(rng)
        ours, theirs = getattr(F, f"conv{len(x) - 2}d"), getattr(T, f"conv{len(x) - 2}d")
        arrays = rng.normal(size=x), rng.normal(size=weight)
        assert_agree(support.Backend("numpy"), lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), *arrays, rng=rng)  # noqa: B023


def test_many_images_at_a_time_and_channels_that_are_not_contiguous(rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(11, 9, 7, 4)).transpose(0, 3, 1, 2)[:, ::2], rng.normal(size=(3, 2, 3, 3))
    assert_agree(support.Backend("numpy"), F.conv2d, T.conv2d, x, weight, rng=rng)
    y = F.conv2d(x, weight)
    assert_close(y[4:5], F.conv2d(x[4:5], weight), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": (3, 2), "padding": (4, 1), "dilation": (2, 1)}, {"groups": 4}])
def test_a_part_of_an_image_at_a_time(rng: np.random.Generator, options: Any) -> None:
    x, weight = rng.normal(size=(2, 16, 61, 150)), rng.normal(size=(4, 16 // options.get("groups", 1), 3, 3))
    assert_agree(support.Backend("numpy"), lambda *a: F.conv2d(*a, **options), lambda *a: T.conv2d(*a, **options), x, weight, rng=rng)
    x, weight = rng.normal(size=(1, 2, 40, 40, 40)), rng.normal(size=(2, 2, 3, 3, 3))
    assert_close(F.conv3d(x, weight), T.conv3d(torch.tensor(x), torch.tensor(weight)).numpy(), rtol=1e-11, atol=1e-11)


@quick
@pytest.mark.parametrize("name", ["conv1d", "conv_transpose1d"])
def test_complex_numbers(backend: support.Backend, rng: np.random.Generator, name: str) -> None:
    x, weight = (rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((2, 3, 6), (3, 3, 2)))
    v, t = [ad.Variable(backend.asarray(a)) for a in (x, weight)], [torch.tensor(a, requires_grad=True) for a in (x, weight)]
    y, z = getattr(F, name)(*v, stride=2), getattr(T, name)(*t, stride=2)
    assert_close(backend.numpy(y.data), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    ct = rng.normal(size=y.shape) + 1j * rng.normal(size=y.shape)
    y.backward(backend.asarray(ct))
    z.backward(torch.tensor(ct))
    for a, b in zip(v, t, strict=True):
        assert_close(backend.numpy(a.grad), b.grad.numpy(), rtol=1e-12, atol=1e-12)


# --- layers -----------------------------------------------------------------------------------------------------------------------------
LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("Conv1d", (4, 6, 3), {"padding": 2, "padding_mode": "reflect", "groups": 2}, (2, 4, 7)),
    ("Conv2d", (3, 2, (2, 3)), {"padding": "same", "padding_mode": "circular", "dilation": (2, 1)}, (2, 3, 5, 4)),
    ("Conv2d", (3, 2, 3), {"padding": (1, 2), "padding_mode": "replicate", "stride": 2}, (3, 5, 4)),
    ("Conv3d", (2, 2, 2), {"padding": 1, "padding_mode": "reflect", "bias": False}, (1, 2, 3, 4, 3)),
    ("ConvTranspose1d", (3, 4, 3), {"stride": 2, "padding": 1, "output_padding": 1}, (2, 3, 5)),
    ("ConvTranspose2d", (4, 2, 3), {"stride": 2, "groups": 2, "dilation": 2}, (2, 4, 3, 4)),
    ("ConvTranspose3d", (2, 1, 2), {"stride": 2, "bias": False}, (2, 2, 3, 2)),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")  # torch speaks of its own copy
@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS)
def test_layers_take_torchs_state_and_give_it_back(rng: np.random.Generator, name: str, args: Any, options: Any, shape: Any) -> None:
    ours, theirs = getattr(nn, name)(*args, **options, dtype="float64"), getattr(torch.nn, name)(*args, **options, dtype=torch.float64)
    assert repr(ours) == repr(theirs)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    x = rng.normal(size=shape)
    v, t = ad.Variable(x), torch.tensor(x, requires_grad=True)
    y, z = ours(v), theirs(t)
    assert_close(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-12)
    ct = rng.normal(size=y.shape)
    y.backward(ct)
    z.backward(torch.tensor(ct))
    assert_close(v.grad, t.grad.numpy(), rtol=1e-11, atol=1e-11)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(p.grad, q.grad.numpy(), rtol=1e-11, atol=1e-11)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
    assert_close(theirs(t).detach().numpy(), y.data, rtol=1e-12, atol=1e-12)


def test_the_size_of_a_transposed_convolution() -> None:
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = np.ones((1, 2, 4, 5), "float32")
    assert layer(x).shape == (1, 3, 7, 9)
    assert layer(x, output_size=(8, 10)).shape == layer(x, output_size=(1, 3, 8, 10)).shape == (1, 3, 8, 10)
    assert layer(x[0], output_size=[7, 10]).shape == (3, 7, 10)
    down = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    assert layer(down(np.ones((1, 2, 6, 8), "float32"))[:, :2], output_size=(6, 8)).shape == (1, 3, 6, 8)
    text = "ConvTranspose2d: output_size (9, 10) does not lie between (7, 9) and (8, 10), for an input of shape (1, 2, 4, 5)"
    with pytest.raises(ValueError, match=re.escape(text)):
        layer(x, output_size=(9, 10))


@quick
def test_float32_stays(backend: support.Backend) -> None:
    x = ad.Variable(backend.asarray(np.ones((1, 2, 4, 4)), "float32"))
    weight, bias = (ad.Variable(backend.asarray(np.ones(s), "float32")) for s in ((2, 2, 3, 3), (2,)))
    for y in (F.conv2d(x, weight, bias, padding=1), F.conv_transpose2d(x, weight, bias), F.unfold(x, 2), F.fold(F.unfold(x, 2), 4, 2)):
        assert y.dtype == x.dtype and type(y.data) is type(x.data)
    (F.conv2d(x, weight, bias).sum() + F.conv_transpose2d(x, weight, bias).sum()).backward()
    assert x.grad.dtype == weight.grad.dtype == bias.grad.dtype == x.dtype


def test_empty_batches_and_channels() -> None:
    layer = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ConvTranspose2d(3, 2, 2, stride=2))
    x = ad.Variable(np.ones((0, 2, 4, 4), "float32"))
    y = layer(x)
    assert y.shape == (0, 2, 8, 8)
    y.sum().backward()
    assert x.grad.shape == x.shape and all(not np.any(p.grad) for p in layer.parameters())
    assert_exact(F.conv2d(np.ones((1, 0, 4, 4)), np.ones((2, 0, 2, 2)), np.ones(2)), np.ones((1, 2, 3, 3)))
    assert F.unfold(np.ones((0, 2, 3, 3)), 2).shape == (0, 8, 4) and F.fold(np.ones((0, 4, 4)), 3, 2).shape == (0, 1, 3, 3)


def test_what_records_nothing_is_raw(rng: np.random.Generator) -> None:
    x, weight = rng.normal(size=(1, 2, 4, 4)), rng.normal(size=(2, 2, 2, 2))
    for y in (F.conv2d(x, weight), F.conv_transpose2d(x, weight), F.unfold(x, 2), F.fold(F.unfold(x, 2), 4, 2)):
        assert type(y) is np.ndarray


def test_there_are_no_columns_of_the_whole_batch(rng: np.random.Generator) -> None:
    x = rng.normal(size=(64, 16, 24, 24)).astype("float32")
    weight = ad.Variable(rng.normal(size=(16, 16, 3, 3)).astype("float32"))
    v = ad.Variable(x)
    tracemalloc.start()
    try:
        F.conv2d(v, weight, padding=1).sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 9 * x.nbytes > 3 * peak  # three arrays of the input's size, and the columns of a few images; not nine


# --- transformations --------------------------------------------------------------------------------------------------------------------
def test_second_derivatives(rng: np.random.Generator) -> None:
    x, weight, bias = rng.normal(size=(2, 4, 5)), rng.normal(size=(4, 1, 3, 2)), rng.normal(size=2)
    options: dict[str, Any] = {"stride": (2, 1), "padding": 1, "groups": 2}

    def loss(x: Any, weight: Any, bias: Any) -> Any:
        return (F.conv_transpose2d(F.conv2d(x, weight[:2], padding=1, groups=2) ** 2, weight[2:], bias, **options) ** 3).sum()

    ad.check_grads(loss, (x, weight, bias), order=2, rtol=1e-6)
    ad.check_grads(lambda x: F.fold(F.unfold(x, 2) ** 3, (4, 5), 2), (x,), order=2, rtol=1e-6)


def test_batches(rng: np.random.Generator) -> None:
    xs, weights = rng.normal(size=(3, 2, 2, 5, 4)), rng.normal(size=(3, 4, 1, 2, 2))
    options: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2}
    gradient = ad.grad(lambda w, x: (F.conv2d(x, w, **options) ** 2).sum())
    assert_close(ad.vmap(gradient)(weights, xs), np.stack([gradient(w, x) for w, x in zip(weights, xs, strict=True)]), rtol=1e-12)
    mapped = ad.vmap(lambda x: F.conv_transpose2d(x, weights[0][:2], padding=1, output_padding=0))(xs)
    assert_close(mapped, np.stack([F.conv_transpose2d(x, weights[0][:2], padding=1) for x in xs]), rtol=1e-12)
    assert_close(ad.vmap(lambda x: F.unfold(x, 2))(xs), np.stack([F.unfold(x, 2) for x in xs]))


# --- errors -----------------------------------------------------------------------------------------------------------------------------
X, W = np.ones((1, 4, 5, 5)), np.ones((2, 4, 3, 3))
REFUSED: list[tuple[Any, str]] = [
    (lambda: F.conv2d(X[0, 0], W), "conv2d takes an input of shape (N, C, H, W) or (C, H, W), not of shape (5, 5)"),
    (lambda: F.conv2d(X, W[0]), "conv2d: weight of shape (4, 3, 3) should have 4 dimensions: out, in / groups, kernel"),
    (
        lambda: F.conv2d(X, W[:, :3]),
        "conv: an input of shape (1, 4, 5, 5) with 4 channels does not fit a weight of shape (2, 3, 3, 3) (out, in / groups, kernel) in 1 group",
    ),
    (lambda: F.conv2d(X, np.ones((2, 4, 6, 3))), "conv: a window of size (6, 3) with dilation (1, 1) does not fit an input of size (5, 5)"),
    (lambda: F.conv2d(X, W, np.ones(3)), "conv2d: bias has shape (3,); one number for each of 2 output channels is wanted"),
    (lambda: F.conv2d(X, W, groups=0), "conv2d: groups is an integer of 1 or more, not 0"),
    (lambda: F.conv2d(X, W, stride=0), "stride is an integer of 1 or more, or 2 of them; got 0"),
    (lambda: F.conv2d(X, W, padding=(1, 2, 3)), "padding is an integer of 0 or more, or 2 of them; got (1, 2, 3)"),
    (lambda: F.conv2d(X, W, padding="same", stride=2), "padding='same' needs a stride of 1, not (2, 2)"),
    (lambda: F.conv2d(X, W, padding="full"), "padding is 'valid', 'same' or numbers; got 'full'"),
    (
        lambda: F.conv_transpose2d(X, W),
        "conv_transpose2d: an input of shape (1, 4, 5, 5) with 4 channels does not fit a weight of shape (2, 4, 3, 3) (in, out / groups, kernel)",
    ),
    (
        lambda: F.conv_transpose2d(X, W, output_padding=(0, 1)),
        "conv_transpose2d: output_padding (0, 1) must be less than the stride (1, 1) or the dilation (1, 1)",
    ),
    (
        lambda: F.conv_transpose2d(X[:, :2], W, padding=4),
        "conv_transpose2d: an input of size (5, 5) with padding (4, 4) gives an output of size (-1, -1), which is nothing",
    ),
    (lambda: F.unfold(X, 6), "unfold: a window of size (6, 6) with dilation (1, 1) does not fit an input of size (5, 5)"),
    (lambda: F.fold(np.ones((1, 6, 4)), 3, 2), "fold: 6 rows are not a multiple of 4, the size of a window (2, 2)"),
    (lambda: F.fold(np.ones((1, 8, 5)), (3, 4), 2), "fold: an output of size (3, 4) has 2 x 3 windows; the input has 5 columns"),
    (lambda: nn.Conv2d(4, 3, 2, groups=2), "groups=2 must divide in_channels=4 and out_channels=3"),
    (lambda: nn.Conv2d(4, 3, 2, groups=True), "groups is an integer of 1 or more, not True"),
    (
        lambda: nn.Conv2d(4, 3, 2, padding_mode="mirror"),
        "Conv2d: padding_mode is 'zeros', 'reflect', 'replicate', 'circular'; got 'mirror'",
    ),
    (lambda: nn.ConvTranspose2d(4, 3, 2, padding_mode="reflect"), "ConvTranspose2d: padding_mode is 'zeros'; got 'reflect'"),
    (lambda: nn.ConvTranspose2d(4, 3, 2, padding="same"), "ConvTranspose2d: padding is made of numbers; got 'same'"),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_what_is_refused(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        call()
