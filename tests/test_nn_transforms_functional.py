"""The transforms' functions against Pillow, SciPy, torch, colorsys and cases by hand."""

from __future__ import annotations

import colorsys
import io
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import support
import torch
from PIL import Image, ImageEnhance, ImageOps

import agnostic_ad as ad
from agnostic_ad.nn.data import transforms as T
from agnostic_ad.nn.data.transforms import functional as TF

RNG = np.random.default_rng(7)
PHOTO = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 11, 3), dtype="uint8")).resize((33, 26), Image.Resampling.BICUBIC))
PIL = Image.fromarray(PHOTO)


def differs(a: Any, b: Any) -> int:
    """How far two uint8 images are apart at most."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# --- sizes --------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(13, 17), (40, 50), (26, 10), (7, 33)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "lanczos"])
def test_resize_beside_pillow(size: tuple[int, int], mode: str) -> None:
    # in float32: of uint8 Pillow rounds and clips after each axis, which bicubic and lanczos overshoot
    planes = [
        Image.fromarray(PHOTO[..., c].astype("float32")).resize(size[::-1], getattr(Image.Resampling, mode.upper())) for c in range(3)
    ]
    want = np.clip(np.round(np.stack([np.asarray(plane) for plane in planes], axis=-1)), 0, 255).astype("uint8")
    assert differs(TF.resize(PHOTO, size, mode), want) <= 1  # halves
    if mode == "bilinear":
        assert differs(TF.resize(PHOTO, size, mode), PIL.resize(size[::-1], Image.Resampling.BILINEAR)) <= 1


def test_resize_nearest_beside_pillow() -> None:
    for size in ((13, 17), (40, 50)):
        want = PIL.resize(size[::-1], Image.Resampling.NEAREST)
        assert differs(TF.resize(PHOTO, size, T.InterpolationMode.NEAREST_EXACT), want) == 0


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
def test_resize_beside_torch(mode: str, antialias: bool) -> None:
    x = RNG.normal(size=(2, 3, 12, 15))
    wide = antialias and mode.startswith("bi")
    want = torch.nn.functional.interpolate(torch.from_numpy(x), (7, 20), mode=mode, antialias=wide).numpy()
    np.testing.assert_allclose(TF.resize(x, (7, 20), mode, antialias=antialias), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("args", "want"),
    [
        (((5, 6),), (5, 6)), ((10,), (10, 15)), (([10],), (10, 15)), ((10, "bilinear", 12), (8, 12)), ((None, "bilinear", 12), (8, 12)),
        ((20,), (20, 30)),
    ],
)  # fmt: skip
def test_sizes(args: Any, want: tuple[int, int]) -> None:
    assert TF.resize(np.zeros((20, 30), "uint8"), *args).shape == want
    assert TF.resize(np.zeros((30, 20), "uint8"), *args).shape == (want if isinstance(args[0], tuple) else want[::-1])


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "constant"])
def test_pad_beside_numpy(mode: str) -> None:
    x = RNG.integers(0, 256, (5, 6, 3), dtype="uint8")
    options: dict[str, Any] = {"constant_values": 9} if mode == "constant" else {}
    want = np.pad(x, ((2, 4), (1, 3), (0, 0)), mode, **options)  # type: ignore[call-overload]
    np.testing.assert_array_equal(TF.pad(x, (1, 2, 3, 4), 9, mode), want)
    np.testing.assert_array_equal(TF.pad(x, (-1, 2, 3, -4), 9, mode), want[:-8][:, 2:] if mode == "constant" else want[:-8, 2:])


def test_fill_of_each_channel() -> None:
    x = np.zeros((2, 2, 3), "uint8")
    np.testing.assert_array_equal(TF.pad(x, 1, (1, 2, 3))[0, 0], [1, 2, 3])
    np.testing.assert_array_equal(TF.pad(np.moveaxis(x, -1, 0), 1, (1, 2, 3))[:, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(TF.rotate(np.zeros((9, 9, 3), "uint8"), 45, fill=(1, 2, 3))[0, 0], [1, 2, 3])


def test_crops() -> None:
    x = np.arange(30, dtype="uint8").reshape(5, 6)
    np.testing.assert_array_equal(TF.crop(x, 1, 2, 3, 4), x[1:4, 2:6])
    np.testing.assert_array_equal(TF.crop(x, -1, 4, 3, 4), [[0, 0, 0, 0], [4, 5, 0, 0], [10, 11, 0, 0]])
    np.testing.assert_array_equal(TF.center_crop(x, 3), x[1:4, 2:5])
    np.testing.assert_array_equal(TF.center_crop(x, (7, 4)), np.pad(x[:, 1:5], ((1, 1), (0, 0))))
    five = TF.five_crop(x, 2)
    for got, want in zip(five, (x[:2, :2], x[:2, -2:], x[-2:, :2], x[-2:, -2:], x[2:4, 2:4]), strict=True):
        np.testing.assert_array_equal(got, want)
    ten = TF.ten_crop(x, 2)
    for got, want in zip(ten, five + TF.five_crop(x[:, ::-1], 2), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(TF.ten_crop(x, 2, vertical_flip=True)[5], x[::-1][:2, :2])
    np.testing.assert_array_equal(TF.resized_crop(x, 1, 2, 2, 3, (4, 6), "nearest"), np.kron(x[1:3, 2:5], np.ones((2, 2), "uint8")))


def test_flips() -> None:
    np.testing.assert_array_equal(TF.hflip(PHOTO), PHOTO[:, ::-1])
    np.testing.assert_array_equal(TF.vflip(PHOTO), PHOTO[::-1])
    batch = np.moveaxis(np.stack([PHOTO, PHOTO]), -1, 1)
    np.testing.assert_array_equal(TF.hflip(batch), batch[..., ::-1])


# --- maps ---------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("angle", [0, 17, 90, 133.5, -60, 180])
@pytest.mark.parametrize("expand", [False, True])
def test_rotate_beside_pillow(angle: float, expand: bool) -> None:
    got, want = TF.rotate(PHOTO, angle, expand=expand), np.asarray(PIL.rotate(angle, Image.Resampling.NEAREST, expand=expand))
    assert all(abs(a - b) <= (2 if expand else 0) for a, b in zip(got.shape, want.shape, strict=True))  # Pillow rounds the size up twice
    if got.shape == want.shape:
        assert (got != want).any(axis=-1).mean() < 0.005  # places on the border of two pixels, in Pillow's fixed point


@pytest.mark.parametrize("angle", [17.0, -130.0])
def test_bilinear_beside_scipy(angle: float) -> None:
    x, fill = RNG.uniform(size=(12, 15)), 0.25
    a = np.deg2rad(angle)
    matrix = np.asarray([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])  # rows and columns of the image, for those of the result
    middle = (np.asarray(x.shape) - 1) / 2
    want = scipy.ndimage.affine_transform(x, matrix, middle - matrix @ middle, order=1, mode="grid-constant", cval=fill)
    np.testing.assert_allclose(TF.rotate(x, angle, "bilinear", fill=fill), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("center", [None, (3.0, 5.0)])
def test_affine_beside_pillow(center: Any) -> None:
    x = RNG.integers(0, 256, (21, 25), dtype="uint8")
    angle, way, scale, shear = np.deg2rad(23.0), (3, -2), 1.3, np.deg2rad([11.0, -7.0])
    turn = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    forwards = scale * turn @ np.asarray([[1, 0], [-np.tan(shear[1]), 1]]) @ np.asarray([[1, -np.tan(shear[0])], [0, 1]])
    middle = np.asarray(center or (12.5, 10.5))
    back = np.linalg.inv(forwards)
    offset = middle - back @ (middle + way)
    data = (*back[0], offset[0], *back[1], offset[1])
    want = np.asarray(Image.fromarray(x).transform((25, 21), Image.Transform.AFFINE, data, Image.Resampling.NEAREST))
    got = TF.affine(x, 23.0, way, scale, [11.0, -7.0], center=center)
    assert (got != want).mean() < 0.005


def test_affine_moves_by_pixels() -> None:
    x = np.arange(12, dtype="uint8").reshape(3, 4) + 1
    np.testing.assert_array_equal(TF.affine(x, 0, (1, -1), 1.0, (0.0, 0.0)), [[0, 5, 6, 7], [0, 9, 10, 11], [0, 0, 0, 0]])


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_perspective_beside_pillow(mode: str) -> None:
    start, end = [[0, 0], [32, 0], [32, 25], [0, 25]], [[3, 2], [30, 4], [28, 24], [1, 20]]
    data = TF.perspective_coefficients(start, end)
    for (x, y), (u, v) in zip(end, start, strict=True):
        below = data[6] * x + data[7] * y + 1
        np.testing.assert_allclose(
            [(data[0] * x + data[1] * y + data[2]) / below, (data[3] * x + data[4] * y + data[5]) / below], [u, v], atol=1e-9
        )
    want = np.asarray(PIL.transform((33, 26), Image.Transform.PERSPECTIVE, data, getattr(Image.Resampling, mode.upper())))
    got = TF.perspective(PHOTO, start, end, mode)
    inside = np.asarray(Image.new("L", (33, 26), 255).transform((33, 26), Image.Transform.PERSPECTIVE, data)) > 0
    inner = scipy.ndimage.binary_erosion(inside, iterations=2)  # at the edge Pillow has no part of the fill in a pixel
    assert inner.sum() > 200 and differs(got[inner], want[inner]) <= (2 if mode == "bilinear" else 0)


def test_elastic_beside_scipy() -> None:
    x, moves = RNG.uniform(size=(10, 12)), RNG.uniform(-0.4, 0.4, (1, 10, 12, 2))
    rows, columns = np.meshgrid(np.arange(10.0), np.arange(12.0), indexing="ij")
    places = [rows + moves[0, ..., 1] * 10 / 2, columns + moves[0, ..., 0] * 12 / 2]
    want = scipy.ndimage.map_coordinates(x, places, order=1, mode="grid-constant", cval=0.0)
    np.testing.assert_allclose(TF.elastic(x, moves), want, rtol=1e-10, atol=1e-12)
    grid = torch.nn.functional.affine_grid(torch.eye(2, 3, dtype=torch.float64)[None], [1, 1, 10, 12], align_corners=False)
    other = torch.nn.functional.grid_sample(torch.from_numpy(x)[None, None], grid + torch.from_numpy(moves), align_corners=False)
    np.testing.assert_allclose(TF.elastic(x, moves), other[0, 0].numpy(), rtol=1e-10, atol=1e-12)


# --- colours ------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
def test_adjustments_beside_pillow(factor: float) -> None:
    assert differs(TF.adjust_brightness(PHOTO, factor), ImageEnhance.Brightness(PIL).enhance(factor)) <= 1
    assert differs(TF.adjust_saturation(PHOTO, factor), ImageEnhance.Color(PIL).enhance(factor)) <= 2  # its grey is rounded, ours down
    assert differs(TF.adjust_contrast(PHOTO, factor), ImageEnhance.Contrast(PIL).enhance(factor)) <= 2
    assert differs(TF.adjust_sharpness(PHOTO, factor), ImageEnhance.Sharpness(PIL).enhance(factor)) <= 2


def test_tones_beside_pillow() -> None:
    assert differs(TF.invert(PHOTO), ImageOps.invert(PIL)) == 0
    assert differs(TF.solarize(PHOTO, 100), ImageOps.solarize(PIL, 100)) == 0
    for bits in (1, 3, 8):
        assert differs(TF.posterize(PHOTO, bits), ImageOps.posterize(PIL, bits)) == 0
    dull = (PHOTO // 3 + 40).astype("uint8")
    assert differs(TF.autocontrast(dull), ImageOps.autocontrast(Image.fromarray(dull))) <= 1  # float32 beside float64, rounded down
    for x in (PHOTO, dull, np.zeros((4, 5, 3), "uint8"), RNG.integers(0, 9, (40, 50, 3), dtype="uint8")):
        assert differs(TF.equalize(x), ImageOps.equalize(Image.fromarray(x))) == 0
    assert differs(TF.rgb_to_grayscale(PHOTO)[..., 0], PIL.convert("L")) <= 1


def test_grey_by_hand() -> None:
    x = np.asarray([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]]], "uint8")
    np.testing.assert_array_equal(TF.rgb_to_grayscale(x)[..., 0], [[76, 149, 29, 18]])
    three = TF.rgb_to_grayscale(x, 3)
    assert three.shape == x.shape and (three == TF.rgb_to_grayscale(x)).all()
    np.testing.assert_allclose(TF.rgb_to_grayscale(np.asarray([[[0.5]], [[0.25]], [[1.0]]]))[0], [[0.5 * 0.2989 + 0.25 * 0.587 + 0.114]])


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_beside_colorsys(turn: float) -> None:
    x = np.concatenate([RNG.uniform(size=(40, 3)), [[0, 0, 0], [1, 1, 1], [0.3, 0.3, 0.3], [1, 1, 0], [0, 1, 1]]])
    want = []
    for pixel in x.tolist():
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        want.append(colorsys.hsv_to_rgb((h + turn) % 1.0, s, v))
    np.testing.assert_allclose(TF.adjust_hue(x.reshape(5, 9, 3), turn), np.reshape(want, (5, 9, 3)), atol=1e-12)
    if turn == 0.0:
        assert differs(TF.adjust_hue(PHOTO, turn), PHOTO) == 0


def test_floats_beside_integers() -> None:
    x = (PHOTO / 255.0).astype("float64")
    for name, args in (("adjust_brightness", (1.4,)), ("adjust_contrast", (0.6,)), ("adjust_saturation", (1.8,)), ("adjust_hue", (0.2,)),
                       ("adjust_sharpness", (1.5,)), ("invert", ()), ("autocontrast", ()), ("adjust_gamma", (1.7,)), ("gaussian_blur", (5, 1.2)),
                       ("solarize", None), ("equalize", ())):  # fmt: skip
        args_of = {"solarize": ((100,), (100 / 255,))}.get(name, (args, args))
        got, want = getattr(TF, name)(x, *args_of[1]), getattr(TF, name)(PHOTO, *args_of[0])
        assert got.dtype == np.float64
        np.testing.assert_allclose(got * 255, want.astype(float), atol=2.6 if name == "adjust_contrast" else 2.1, err_msg=name)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "int64", "float16", "float64"])
def test_dtypes(dtype: str) -> None:
    x = TF.to_dtype(PHOTO, dtype, scale=True)
    for name, call in CALLS.items():
        if name in ("float32", "uint8") or (name in ("hue", "equalize") and dtype == "int64"):
            continue
        y = call(x)
        assert y.dtype == x.dtype, name
    assert TF.to_dtype(PHOTO, np.dtype(dtype), scale=True).dtype == x.dtype
    if dtype != "int8":  # of 7 bits
        assert differs(TF.to_dtype(TF.adjust_brightness(x, 0.5), "uint8", scale=True), TF.adjust_brightness(PHOTO, 0.5)) <= 1


def test_gamma() -> None:
    x = np.asarray([[0.25, 1.0]])
    np.testing.assert_allclose(TF.adjust_gamma(x, 2.0), x**2)
    np.testing.assert_allclose(TF.adjust_gamma(x, 0.5, 3.0), [[1.0, 1.0]])


def test_channels() -> None:
    np.testing.assert_array_equal(TF.permute_channels(PHOTO, [2, 0, 1]), PHOTO[..., [2, 0, 1]])


# --- filters ------------------------------------------------------------------------------------------------------------------------------
def test_blur_beside_scipy() -> None:
    x = RNG.uniform(size=(20, 24))
    want = scipy.ndimage.gaussian_filter1d(
        scipy.ndimage.gaussian_filter1d(x, 0.8, axis=0, radius=2, mode="mirror"), 1.5, 1, radius=3, mode="mirror"
    )
    np.testing.assert_allclose(TF.gaussian_blur(x, (7, 5), (1.5, 0.8)), want, rtol=1e-10)
    kernel = np.exp(-0.5 * (np.arange(-1, 2) / 0.8) ** 2)
    line = np.zeros((1, 5))
    line[0, 2] = 1.0
    np.testing.assert_allclose(TF.gaussian_blur(line, (3, 1))[0, 1:4], kernel / kernel.sum())  # 0.15 * 3 + 0.35


def test_noise() -> None:
    x, noise = np.full((4, 5, 3), 100, "uint8"), RNG.standard_normal((3, 4, 5))
    want = np.clip(np.floor(100 + 255 * (0.05 + 0.2 * np.moveaxis(noise, 0, -1))), 0, 255)
    assert np.abs(TF.gaussian_noise(x, 0.05, 0.2, noise=noise) - want).max() <= 1
    y = np.full((3, 4, 5), 0.5)
    np.testing.assert_allclose(TF.gaussian_noise(y, 0.1, 2.0, clip=False, noise=noise), 0.6 + 2.0 * noise)
    assert TF.gaussian_noise(y, 0.1, 2.0, noise=noise).min() == 0.0


def test_erase() -> None:
    got = TF.erase(np.ones((3, 4, 3), "uint8"), 1, 2, 2, 1, [[[5]], [[6]], [[7]]])
    np.testing.assert_array_equal(got[1:, 2], [[5, 6, 7]] * 2)
    assert got.sum() == 36 - 6 + 36


def test_jpeg_beside_pillow() -> None:
    file = io.BytesIO()
    PIL.save(file, "JPEG", quality=40)
    np.testing.assert_array_equal(TF.jpeg(PHOTO, 40), np.asarray(Image.open(file)))
    batch = np.stack([PHOTO, PHOTO])
    np.testing.assert_array_equal(TF.jpeg(batch, 40)[1], TF.jpeg(PHOTO, 40))
    assert TF.jpeg(PHOTO[..., :1], 50).shape == (26, 33, 1)


# --- dtypes and Pillow --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "old", "new", "want"),
    [
        ([0, 255, 51], "uint8", "float32", [0, 1, 0.2]), ([0.0, 1.0, 0.5], "float32", "uint8", [0, 255, 127]), ([0, 255], "uint8", "int32", [0, 255 << 23]),
        ([0, 2**15 - 1, 300], "int16", "uint8", [0, 255, 2]), ([1.0, 0.5], "float64", "float32", [1, 0.5]), ([3, 255], "uint8", "uint16", [768, 65280]),
    ],
)  # fmt: skip
def test_scaling(values: Any, old: str, new: str, want: Any) -> None:
    got = TF.to_dtype(np.asarray(values, old), new, scale=True)
    assert got.dtype == new
    np.testing.assert_allclose(got, np.asarray(want, new), rtol=1e-6)


def test_there_and_back() -> None:
    x = np.arange(256, dtype="uint8")
    for dtype in ("float32", "float64", "int16", "int32"):
        np.testing.assert_array_equal(TF.to_dtype(TF.to_dtype(x, dtype, scale=True), "uint8", scale=True), x)


def test_pillow_there_and_back() -> None:
    np.testing.assert_array_equal(TF.pil_to_tensor(PIL), np.moveaxis(PHOTO, -1, 0))
    assert np.asarray(TF.to_pil_image(TF.pil_to_tensor(PIL))).tolist() == PHOTO.tolist()
    assert TF.to_pil_image(PHOTO).mode == "RGB" and TF.to_pil_image(PHOTO[..., 0]).mode == "L"
    assert TF.to_pil_image(PHOTO, "HSV").mode == "HSV"
    for mode, channels in (("L", 1), ("1", 1), ("RGBA", 4), ("P", 3), ("CMYK", 3), ("LA", 2)):
        assert TF.pil_to_tensor(PIL.convert(mode)).shape == (channels, 26, 33)
    np.testing.assert_allclose(TF.to_tensor(PIL), np.moveaxis(PHOTO, -1, 0) / np.float32(255), rtol=1e-6)
    assert np.abs(np.asarray(TF.to_pil_image(TF.to_tensor(PIL))).astype(int) - PHOTO).max() == 0
    assert TF.to_pil_image(np.ones((2, 2), "float32"), "F").mode == "F"


def test_normalize() -> None:
    x = RNG.uniform(size=(2, 3, 4, 5))
    mean, std = [0.1, 0.2, 0.3], (0.5, 0.6, 0.7)
    want = (x - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(TF.normalize(x, mean, std), want)
    np.testing.assert_allclose(
        TF.normalize(np.moveaxis(x, 1, -1), np.asarray(mean), torch.tensor(std)), np.moveaxis(want, 1, -1), rtol=1e-6
    )
    assert TF.normalize(x.astype("float32"), 0.5, 0.5).dtype == np.float32


# --- libraries, layouts, gradients --------------------------------------------------------------------------------------------------------
CALLS: dict[str, Any] = {
    "resize": lambda x: TF.resize(x, (5, 7)),
    "pad": lambda x: TF.pad(x, 2, 3 if "int" in str(x.dtype) else 0.5),
    "symmetric": lambda x: TF.pad(x, 2, padding_mode="symmetric"),
    "crop": lambda x: TF.crop(x, -1, 2, 6, 5),
    "flip": lambda x: TF.vertical_flip(TF.horizontal_flip(x)),
    "rotate": lambda x: TF.rotate(x, 30, fill=1),
    "bilinear": lambda x: TF.affine(x, 20, (1, 0), 1.2, (5.0, 0.0), "bilinear", fill=1),
    "perspective": lambda x: TF.perspective(x, [[0, 0], [8, 0], [8, 7], [0, 7]], [[1, 1], [7, 0], [8, 7], [0, 6]]),
    "grey": lambda x: TF.rgb_to_grayscale(x, 3),
    "brightness": lambda x: TF.adjust_brightness(x, 1.5),
    "contrast": lambda x: TF.adjust_contrast(x, 0.5),
    "hue": lambda x: TF.adjust_hue(x, 0.3),
    "sharpness": lambda x: TF.adjust_sharpness(x, 2.0),
    "invert": TF.invert,
    "posterize": lambda x: TF.posterize(x, 3),
    "solarize": lambda x: TF.solarize(x, 0.5),
    "autocontrast": TF.autocontrast,
    "equalize": TF.equalize,
    "permute": lambda x: TF.permute_channels(x, [1, 2, 0]),
    "blur": lambda x: TF.gaussian_blur(x, 3, 1.0),
    "erase": lambda x: TF.erase(x, 1, 1, 3, 2, 1.0),
    "float32": lambda x: TF.to_dtype(x, "float32", scale=True),
    "uint8": lambda x: TF.to_dtype(x, "uint8", scale=True),
    "to_image": TF.to_image,
}
SMALL = RNG.integers(0, 256, (8, 9, 3), dtype="uint8")


@pytest.mark.backend
@pytest.mark.parametrize("name", CALLS)
def test_libraries(name: str, backend: support.Backend) -> None:
    call = CALLS[name]
    for x in (SMALL, np.moveaxis(SMALL, -1, 0)[None].astype("float32") / np.float32(255)):
        want = call(x)
        got = call(backend.asarray(x))
        assert type(got) is type(backend.asarray(0.0)) and backend.numpy(got).dtype == want.dtype
        tolerance = 1 if want.dtype == np.uint8 else 1e-5  # float32 sums in another order, rounded down
        np.testing.assert_allclose(backend.numpy(got).astype("float64"), want.astype("float64"), atol=tolerance)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "to_image"])
def test_layouts_and_batches_agree(name: str) -> None:
    call, want = CALLS[name], CALLS[name](SMALL)
    chw = np.moveaxis(SMALL, -1, 0)
    np.testing.assert_array_equal(call(chw), np.moveaxis(want, -1, 0))
    np.testing.assert_array_equal(call(np.stack([chw, chw]))[1], np.moveaxis(want, -1, 0))
    np.testing.assert_array_equal(call(np.stack([SMALL, SMALL])[:, None])[1, 0], want)


@pytest.mark.parametrize(
    "name", ["resize", "pad", "symmetric", "crop", "flip", "rotate", "bilinear", "contrast", "brightness", "blur", "sharpness", "erase"]
)
def test_gradients(name: str) -> None:
    x = RNG.uniform(0.2, 0.6, (1, 3, 6, 7))
    ad.check_grads(CALLS[name], (x,), order=1)


def test_layout() -> None:
    cases = {
        ("uint8", (28, 28)): "HW", ("uint8", (32, 32, 3)): "HWC", ("uint8", (3, 32, 32)): "CHW", ("uint8", (3, 5, 3)): "HWC", ("float32", (3, 5, 3)): "CHW",
        ("float32", (32, 32, 3)): "HWC", ("float32", (8, 3, 32, 32)): "CHW", ("float32", (64, 9, 9)): "CHW", ("uint8", (4, 4, 3)): "HWC",
        ("uint8", (9, 9, 4)): "HWC", ("float32", (1, 28, 28)): "CHW", ("uint8", (5, 28, 28, 1)): "HWC", ("float32", (2, 9, 9)): "CHW",
    }  # fmt: skip
    assert {key: T.layout_of(np.zeros(key[1], key[0])) for key in cases} == cases
    with T.layout("HWC"):
        assert T.layout_of(np.zeros((3, 32, 32))) == "HWC"
    with T.layout("HW"):
        assert TF.hflip(np.arange(12).reshape(2, 3, 2))[1].tolist() == [[7, 6], [9, 8], [11, 10]]
    grey = TF.rgb_to_grayscale(np.ones((4, 5), "uint8"), 3)
    assert grey.shape == (4, 5, 3)


# --- what is refused ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: TF.hflip(np.zeros((64, 28, 28), "uint8")), ValueError, "which axis of shape (64, 28, 28) and dtype uint8 holds the channels cannot be told"),
        (lambda: TF.hflip(np.zeros(3)), ValueError, "horizontal_flip takes images of shape"),
        (lambda: TF.hflip(PIL), TypeError, "horizontal_flip takes an array, not Image; PILToTensor() or ToImage() before it makes one"),
        (lambda: TF.hflip(np.zeros((4, 4), bool)), TypeError, "integers or real floating-point numbers, not an array of dtype bool"),
        (lambda: TF.hflip(np.zeros((3, 0, 4))), ValueError, "an image has pixels"),
        (lambda: TF.normalize(PHOTO, 0.5, 0.5), TypeError, "put ToDtype('float32', scale=True) before it"),
        (lambda: TF.normalize(np.zeros((3, 4, 4)), [0, 1], 1.0), ValueError, "mean has 2 values, and the images have 3 channels"),
        (lambda: TF.normalize(np.zeros((3, 4, 4)), 0.0, [1, 0, 1]), ValueError, "std is above 0 for every channel, not [1.0, 0.0, 1.0]"),
        (lambda: TF.adjust_hue(np.zeros((2, 9, 9)), 0.1), ValueError, "adjust_hue takes images of 1 or 3 channels, and these have 2"),
        (lambda: TF.rgb_to_grayscale(np.zeros((5, 9, 9))), ValueError, "rgb_to_grayscale takes images of 1 or 3 channels, and these have 5"),
        (lambda: TF.adjust_hue(PHOTO, 0.7), ValueError, "hue_factor lies between -0.5 and 0.5; got 0.7"),
        (lambda: TF.adjust_brightness(PHOTO, -1), ValueError, "brightness_factor is a number of 0 or more, not -1"),
        (lambda: TF.posterize(PHOTO, 9), ValueError, "bits is an integer between 0 and 8, not 9"),
        (lambda: TF.solarize(PHOTO, 256), ValueError, "threshold is at most white, 255 for dtype uint8; got 256"),
        (lambda: TF.pad(PHOTO, (1, 2, 3)), ValueError, "padding is an integer, (left and right, top and bottom)"),
        (lambda: TF.pad(PHOTO, 1, 300), ValueError, "fill=300 is not within what the image's dtype uint8 holds, 0 to 255"),
        (lambda: TF.pad(PHOTO, 1, (1, 2)), ValueError, "fill is a number, or one for each of the 3 channels, not (1, 2)"),
        (lambda: TF.pad(PHOTO, 1, padding_mode="wrap"), ValueError, "padding_mode is one of 'constant', 'edge', 'reflect', 'symmetric', not 'wrap'"),
        (lambda: TF.pad(PHOTO, -20), ValueError, "takes away all of an image of 26 x 33 pixels"),
        (lambda: TF.resize(PHOTO, 0), ValueError, "size is an integer of 1 or more, or (height, width), not 0"),
        (lambda: TF.resize(PHOTO, (4, 5), "box"), ValueError, "interpolation is one of 'nearest', 'nearest-exact'"),
        (lambda: TF.resize(PHOTO, (4, 5), max_size=9), ValueError, "max_size goes with one number"),
        (lambda: TF.rotate(PHOTO, 5, "bicubic"), ValueError, "interpolation is one of 'nearest', 'bilinear', not 'bicubic'"),
        (lambda: TF.affine(PHOTO, 0, (0, 0), 0, 0.0), ValueError, "scale is a number above 0, not 0"),
        (lambda: TF.five_crop(PHOTO, 30), ValueError, "a crop of 30 x 30 pixels is larger than the image, 26 x 33"),
        (lambda: TF.gaussian_blur(PHOTO, 4), ValueError, "kernel_size is an odd integer, or two, not 4"),
        (lambda: TF.erase(PHOTO, 25, 0, 2, 2, 0), ValueError, "2 x 2 pixels from (25, 0) on are not within an image of 26 x 33"),
        (lambda: TF.erase(PHOTO, 0, 0, 2, 2, -1), ValueError, "erase: v is not within what the image's dtype uint8 holds, 0 to 255"),
        (lambda: TF.jpeg(PHOTO, 101), ValueError, "quality is an integer between 1 and 100, not 101"),
        (lambda: TF.jpeg(PHOTO / 255.0, 50), TypeError, "jpeg takes uint8, not float64"),
        (lambda: TF.permute_channels(PHOTO, [0, 1, 1]), ValueError, "[0, 1, 1] is no order of the 3 channels"),
        (lambda: TF.to_dtype(np.ones(2, "float32"), "int32", scale=True), ValueError, "float32 does not hold all values of int32"),
        (lambda: TF.to_pil_image(np.zeros((2, 3, 4, 4))), ValueError, "to_pil_image takes one image"),
        (lambda: TF.elastic(PHOTO, np.zeros((1, 2, 2, 2))), ValueError, "displacement has the shape (1, 26, 33, 2), not (1, 2, 2, 2)"),
        (lambda: T.layout("NCHW").__enter__(), ValueError, "layout is 'CHW', 'HWC' or 'HW'"),
    ],
)  # fmt: skip
def test_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CALLS)
def test_another_device(name: str) -> None:
    xp = pytest.importorskip("array_api_strict")
    there = xp.Device("device1")
    x = xp.asarray(SMALL, device=there)
    got = CALLS[name](x)
    assert got.device == there
    np.testing.assert_array_equal(
        np.asarray(got.to_device(xp.Device("CPU_DEVICE"))._array), np.asarray(CALLS[name](xp.asarray(SMALL))._array)
    )
