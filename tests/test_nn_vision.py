"""Pixels and channels, resizing, and images looked up at any place, beside torch."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional


def assert_agree(ours: Any, theirs: Any, *arrays: Any, rng: np.random.Generator, rtol: float = 1e-11) -> None:
    """Compare values, and gradients of a random weighting, in float64."""
    v = [ad.Variable(a) for a in arrays]
    t = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*v), theirs(*t)
    assert_close(y.data, z.detach().numpy(), rtol=rtol, atol=1e-12)
    ct = rng.normal(size=y.shape)
    y.backward(ct)
    z.backward(torch.tensor(ct))
    for mine, his in zip(v, t, strict=True):
        wanted = np.zeros(mine.shape) if his.grad is None else his.grad.numpy()
        assert_close(np.zeros(mine.shape) if mine.grad is None else mine.grad, wanted, rtol=rtol, atol=1e-11)


# --- resizing -----------------------------------------------------------------------------------------------------------------------------
SIZES = [1, 2, 3, 5, 7, 10, 14]


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area"])
def test_every_size(rng: np.random.Generator, mode: str) -> None:
    for before, after in itertools.product(SIZES, SIZES):
        x = rng.normal(size=(1, 2, before))
        for aligned in (None,) if mode in ("nearest", "nearest-exact", "area") else (False, True):
            assert_agree(
                lambda x, n=after, a=aligned: F.interpolate(x, n, mode=mode, align_corners=a),
                lambda x, n=after, a=aligned: T.interpolate(x, n, mode=mode, align_corners=a),
                x,
                rng=rng,
            )


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize("recompute", [None, False, True])
def test_factors(rng: np.random.Generator, mode: str, recompute: bool | None) -> None:
    x = rng.normal(size=(2, 2, 5, 6))
    for factor in (2, 3.0, 0.5, 1.7, (0.34, 2.6), (1.1, 1.0), (2.2, 0.9)):
        for aligned in (None,) if mode in ("nearest", "nearest-exact", "area") else (False, True):
            if mode == "bicubic" and factor == (1.1, 1.0) and not (recompute or aligned):
                continue  # torch's gradient is that of a copy, though the values are not
            options = {"scale_factor": factor, "mode": mode, "align_corners": aligned, "recompute_scale_factor": recompute}
            assert_agree(lambda x, o=options: F.interpolate(x, **o), lambda x, o=options: T.interpolate(x, **o), x, rng=rng)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
def test_antialias(rng: np.random.Generator, mode: str) -> None:
    x = rng.normal(size=(1, 2, 9, 8))
    for size in ((3, 5), (12, 2), (1, 1), (9, 8), (20, 17)):
        for aligned in (False,) if mode == "lanczos" else (False, True):
            options = {"size": size, "mode": mode, "align_corners": aligned, "antialias": True}
            assert_agree(lambda x, o=options: F.interpolate(x, **o), lambda x, o=options: T.interpolate(x, **o), x, rng=rng)
    assert_agree(
        lambda x: F.interpolate(x, scale_factor=0.45, mode=mode, antialias=True),
        lambda x: T.interpolate(x, scale_factor=0.45, mode=mode, antialias=True),
        x,
        rng=rng,
    )


def test_volumes_and_other_dtypes(rng: np.random.Generator) -> None:
    x = rng.normal(size=(1, 2, 3, 4, 2))
    for mode in ("nearest", "nearest-exact", "trilinear", "area"):
        assert_agree(
            lambda x, m=mode: F.interpolate(x, (5, 2, 4), mode=m), lambda x, m=mode: T.interpolate(x, (5, 2, 4), mode=m), x, rng=rng
        )
    image = rng.normal(size=(1, 2, 7, 5)).astype("float32")
    for mode in ("nearest", "bilinear", "bicubic", "area"):
        got = F.interpolate(image, (10, 3), mode=mode)
        assert got.dtype == np.float32
        assert_close(got, T.interpolate(torch.tensor(image), (10, 3), mode=mode).numpy(), rtol=1e-5, atol=1e-6)  # single precision
    small = F.interpolate(image.astype("float16"), scale_factor=2, mode="bilinear")
    assert small.dtype == np.float16 and small.shape == (1, 2, 14, 10)
    integers = np.arange(6, dtype="uint8").reshape(1, 1, 2, 3)
    assert_exact(F.interpolate(integers, scale_factor=2), T.interpolate(torch.tensor(integers), scale_factor=2).numpy())
    assert F.interpolate(np.ones((0, 2, 3)), 6, mode="linear").shape == (0, 2, 6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_positions(mode: str, dtype: str) -> None:
    """Where a position is nearly a whole number, torch's own roundings decide which element it is: of lines, of small images, of large ones."""
    for before, after in itertools.product(range(1, 40), range(1, 40)):
        x = np.arange(before).astype(dtype).reshape(1, 1, -1)
        assert_exact(F.interpolate(x, after, mode=mode), T.interpolate(torch.tensor(x), after, mode=mode).numpy())
        x = np.broadcast_to(x[..., None], (1, 2, before, 1)).copy()
        for size in ((after, 1), (after, 129)) if before % 3 == 0 else ():
            assert_exact(F.interpolate(x, size, mode=mode), T.interpolate(torch.tensor(x), size, mode=mode).numpy())


def test_interpolate_elsewhere(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 1, 2, 2, 3))
    ad.check_grads(lambda x: F.interpolate(x, (3, 5), mode="bicubic") ** 3, (x[0],), order=2)
    for mode in ("nearest", "bilinear", "area"):
        assert_close(
            ad.vmap(lambda x, m=mode: F.interpolate(x, 4, mode=m))(x), np.stack([F.interpolate(a, 4, mode=mode) for a in x]), rtol=1e-14
        )
    with pytest.warns(UserWarning, match="upsample is deprecated"):
        assert_exact(F.upsample(x[0], scale_factor=2), F.interpolate(x[0], scale_factor=2))
    with pytest.warns(UserWarning, match="upsample_nearest is deprecated"):
        assert_exact(F.upsample_nearest(x[0], 5), F.interpolate(x[0], 5))
    with pytest.warns(UserWarning, match="upsample_bilinear is deprecated"):
        assert_exact(F.upsample_bilinear(x[0], 5), F.interpolate(x[0], 5, mode="bilinear", align_corners=True))


# --- pixels and channels ------------------------------------------------------------------------------------------------------------------
def test_shuffles(rng: np.random.Generator) -> None:
    assert F.pixel_unshuffle(F.pixel_shuffle(np.ones((0, 4, 2, 2)), 2), 2).shape == (0, 4, 2, 2)
    for shape in ((8, 3, 2), (2, 8, 3, 2), (2, 1, 8, 3, 2)):
        x = rng.normal(size=shape)
        there = F.pixel_shuffle(x, 2)
        assert_exact(there, T.pixel_shuffle(torch.tensor(x), 2).numpy())
        assert_exact(F.pixel_unshuffle(there, 2), x)
        assert_exact(F.pixel_unshuffle(there, 2), T.pixel_unshuffle(torch.tensor(there), 2).numpy())
    for shape in ((2, 6, 4), (1, 6, 2, 3)):
        x = rng.normal(size=shape)
        for groups in (1, 2, 3):
            wanted = T.channel_shuffle(torch.tensor(x), groups).numpy()
            assert_exact(F.channel_shuffle(x, groups), wanted)
            assert_exact(F.native_channel_shuffle(x, groups), wanted)
    assert_agree(lambda x: nn.PixelShuffle(2)(x), lambda x: torch.nn.PixelShuffle(2)(x), rng.normal(size=(1, 4, 2, 3)), rng=rng)
    assert_exact(ad.vmap(lambda x: F.pixel_shuffle(x, 2))(x.reshape(3, 4, 1, 3)), F.pixel_shuffle(x.reshape(3, 4, 1, 3), 2))


def test_one_hot() -> None:
    for classes in (np.asarray([[0, 2], [1, 1]]), np.asarray(3), np.zeros((0,), dtype="int64")):
        for count in (-1, 5) if classes.size else (4,):
            assert_exact(F.one_hot(classes, count), T.one_hot(torch.tensor(classes), count).numpy())
    assert F.one_hot(np.asarray([1])).dtype == np.int64
    assert_exact(ad.vmap(lambda i: F.one_hot(i, 3))(np.asarray([2, 0])), [[0, 0, 1], [1, 0, 0]])


# --- images at any place ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample(rng: np.random.Generator, mode: str, padding: str, aligned: bool) -> None:
    options = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    for image, places in (((2, 3, 4, 5), (2, 3, 2, 2)), ((1, 1, 1, 1), (1, 2, 2, 2)), ((2, 2, 2, 3, 4), (2, 1, 2, 3, 3))):
        if mode == "bicubic" and len(image) == 5:
            continue
        x, grid = rng.normal(size=image), rng.uniform(-2.5, 2.5, size=places)
        assert_agree(lambda x, g: F.grid_sample(x, g, **options), lambda x, g: T.grid_sample(x, g, **options), x, grid, rng=rng)
    grid = np.asarray([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [7.0, -9.0], [-0.5, 0.5], [1e9, -1e9]]).reshape(1, 2, 3, 2)
    x = rng.normal(size=(1, 2, 4, 4))
    got = F.grid_sample(x, grid, **options)
    assert_close(
        got[:, :, :, :2], T.grid_sample(torch.tensor(x), torch.tensor(grid), **options).numpy()[:, :, :, :2], rtol=1e-12, atol=1e-13
    )
    assert np.isfinite(got).all()


@pytest.mark.parametrize("aligned", [False, True])
def test_affine_grid(rng: np.random.Generator, aligned: bool) -> None:
    for shape, size in (((2, 2, 3), (2, 1, 4, 5)), ((1, 3, 4), (1, 2, 2, 3, 4))):
        assert_agree(
            lambda t, s=size: F.affine_grid(t, s, align_corners=aligned),
            lambda t, s=size: T.affine_grid(t, list(s), align_corners=aligned),
            rng.normal(size=shape),
            rng=rng,
        )


def test_spatial_transformers(rng: np.random.Generator) -> None:
    """A map of an image that learns: second derivatives, batches, and single precision."""
    x, theta = rng.normal(size=(2, 1, 3, 4)), np.asarray([[[0.9, 0.1, 0.05], [-0.2, 0.8, 0.1]]] * 2)

    def look(x: Any, theta: Any) -> Any:
        return F.grid_sample(x, F.affine_grid(theta, (2, 1, 3, 3), align_corners=True), align_corners=True)

    ad.check_grads(lambda x, t: look(x, t) ** 2, (x, theta), order=2)
    many = np.stack([x, 2 * x])
    assert_close(ad.vmap(look, (0, None))(many, theta), np.stack([look(a, theta) for a in many]), rtol=1e-13)
    assert look(x.astype("float32"), theta.astype("float32")).dtype == np.float32
    with pytest.warns(UserWarning, match="grid_sample: align_corners is not given; False is taken"):
        F.grid_sample(x, np.zeros((2, 1, 1, 2)))


def test_modules_are_torchs() -> None:
    made = {
        "PixelShuffle": (2,), "PixelUnshuffle": (3,), "ChannelShuffle": (2,), "Upsample": (None, 2, "bilinear"), "UpsamplingNearest2d": ((3, 4),),
        "UpsamplingBilinear2d": (None, (2, 1.5)),
    }  # fmt: skip
    assert sorted(made) == nn.vision.__all__
    for name, args in made.items():
        ours, theirs = getattr(nn, name), getattr(torch.nn, name)
        mine, his = (list(inspect.signature(c.__init__).parameters.values()) for c in (ours, theirs))
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in his]
        assert repr(ours(*args)) == repr(theirs(*args))
    for module in (F.vision, F.resizing):  # type: ignore[attr-defined]
        for name in module.__all__:
            try:
                his = list(inspect.signature(getattr(T, name)).parameters.values())
            except ValueError:  # built in
                continue
            mine = list(inspect.signature(getattr(F, name)).parameters.values())
            assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in his]


def test_refusals() -> None:
    x, grid = np.ones((1, 4, 3, 3)), np.zeros((1, 2, 2, 2))
    for error, text, call in (
        (ValueError, r"takes an input of 3, 4 or 5 dimensions, \(N, C, ...\), not of shape \(3, 3\)", lambda: F.interpolate(x[0, 0], 2)),
        (ValueError, "takes one of size and scale_factor; got size=None and scale_factor=None", lambda: F.interpolate(x)),
        (ValueError, "takes one of size and scale_factor; got size=2 and scale_factor=3", lambda: F.interpolate(x, 2, 3)),
        (ValueError, "'cubic' is no mode: 'nearest', 'nearest-exact', 'area', 'linear'", lambda: F.interpolate(x, 2, mode="cubic")),
        (
            ValueError,
            r"mode='linear' resizes 1 axes, and an input of shape \(1, 4, 3, 3\) has 2",
            lambda: F.interpolate(x, 2, mode="linear"),
        ),
        (ValueError, "align_corners goes with .* not with mode='nearest'", lambda: F.interpolate(x, 2, align_corners=True)),
        (ValueError, r"\(2, 2, 2\) does not fit the 2 axes behind the first two, of sizes \(3, 3\)", lambda: F.interpolate(x, (2, 2, 2))),
        (TypeError, "sizes are integers, not 2.5", lambda: F.interpolate(x, 2.5)),
        (ValueError, "sizes of 1 or more", lambda: F.interpolate(x, 0)),
        (ValueError, "antialias goes with 'bilinear', 'bicubic' and 'lanczos'", lambda: F.interpolate(x, 2, antialias=True)),
        (ValueError, "mode='lanczos' needs antialias=True", lambda: F.interpolate(x, 2, mode="lanczos")),
        (
            ValueError,
            "recompute_scale_factor goes with scale_factor, not with size",
            lambda: F.interpolate(x, 2, recompute_scale_factor=True),
        ),
        (ValueError, r"pixel_shuffle: 4 channels \(shape .*\) are no multiple of upscale_factor squared, 9", lambda: F.pixel_shuffle(x, 3)),
        (
            ValueError,
            "pixel_unshuffle: the height and width of shape .* are no multiples of downscale_factor 2",
            lambda: F.pixel_unshuffle(x, 2),
        ),
        (ValueError, "pixel_shuffle takes an input of 3 dimensions or more", lambda: F.pixel_shuffle(x[0, 0], 1)),
        (ValueError, "pixel_shuffle: upscale_factor is an integer of 1 or more, not 0", lambda: F.pixel_shuffle(x, 0)),
        (ValueError, "number of groups that divides the channels; got shape .* and groups=3", lambda: F.channel_shuffle(x, 3)),
        (TypeError, "one_hot: class indices are integers, not float64", lambda: F.one_hot(x)),
        (ValueError, "one_hot: class indices lie between 0 and 2; got 3", lambda: F.one_hot(np.asarray([3]), 3)),
        (ValueError, "one_hot: of no indices, the number of classes cannot be told", lambda: F.one_hot(np.zeros((0,), dtype="int64"))),
        (ValueError, "grid_sample: mode is 'bilinear', 'nearest' or 'bicubic', not 'cubic'", lambda: F.grid_sample(x, grid, "cubic")),
        (ValueError, "padding_mode is 'zeros', 'border' or 'reflection', not 'wrap'", lambda: F.grid_sample(x, grid, padding_mode="wrap")),
        (ValueError, r"a grid of shape \(1, 2, 2\) do not fit", lambda: F.grid_sample(x, grid[0][None, ..., 0], align_corners=True)),
        (ValueError, r"theta of shape \(1, 2, 2\) does not fit", lambda: F.affine_grid(grid[0, None, 0], (1, 1, 2, 2), align_corners=True)),
        (
            ValueError,
            "affine_grid: theta has a real floating dtype, not int64",
            lambda: F.affine_grid(np.ones((1, 2, 3), dtype="int64"), (1, 1, 2, 2), align_corners=True),
        ),
    ):
        with pytest.raises(error, match=text):
            call()


def test_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    x, grid = rng.normal(size=(1, 4, 3, 4)), rng.uniform(-1.2, 1.2, size=(1, 2, 3, 2))
    for name, ours, theirs in (
        ("nearest", lambda x: F.interpolate(x, scale_factor=2), lambda x: T.interpolate(x, scale_factor=2)),
        ("odd", lambda x: F.interpolate(x, (5, 3)), lambda x: T.interpolate(x, (5, 3))),
        ("bicubic", lambda x: F.interpolate(x, (5, 3), mode="bicubic"), lambda x: T.interpolate(x, (5, 3), mode="bicubic")),
        ("shuffle", lambda x: F.pixel_shuffle(x, 2), lambda x: T.pixel_shuffle(x, 2)),
    ):
        v, t = ad.Variable(backend.asarray(x)), torch.tensor(x, requires_grad=True)
        y, z = ours(v), theirs(t)
        assert_close(backend.numpy(y.data), z.detach().numpy(), rtol=1e-12, atol=1e-13)
        (y * y).sum().backward()
        (z * z).sum().backward()
        assert type(v.grad) is type(v.data)
        np.testing.assert_allclose(backend.numpy(v.grad), t.grad.numpy(), rtol=1e-11, atol=1e-12, err_msg=name)
    a, b = [ad.Variable(backend.asarray(each)) for each in (x, grid)], [torch.tensor(each, requires_grad=True) for each in (x, grid)]
    y, z = (lib.grid_sample(*pair, padding_mode="reflection", align_corners=False) for lib, pair in ((F, a), (T, b)))
    assert_close(backend.numpy(y.data), z.detach().numpy(), rtol=1e-12, atol=1e-13)
    y.sum().backward()
    z.sum().backward()
    for mine, his in zip(a, b, strict=True):
        assert_close(backend.numpy(mine.grad), his.grad.numpy(), rtol=1e-11, atol=1e-11)
    assert_exact(backend.numpy(F.one_hot(backend.asarray(np.asarray([1, 0])), 3)), [[0, 1, 0], [1, 0, 0]])
