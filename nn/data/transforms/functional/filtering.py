"""Blur, noise, erasing, and the losses of JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.data.seeding import current_generator
from agnostic_ad.nn.data.transforms.arguments import is_number
from agnostic_ad.nn.data.transforms.functional.geometry import pad
from agnostic_ad.nn.data.transforms.functional.pixels import (
    bound,
    check_channels,
    check_held,
    clipped,
    flat,
    floating,
    narrow,
    on_host,
    raw,
    there,
    wide,
)
from agnostic_ad.nn.data.transforms.layouts import on_images

__all__ = ["erase", "gaussian_blur", "gaussian_noise", "jpeg"]


def _two(what: str, name: str, value: Any) -> tuple[Any, Any]:
    given = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(given) not in (1, 2) or not all(is_number(n) and n > 0 for n in given):
        raise ValueError(f"{what}: {name} is a number above 0, or (along x, along y), not {value!r}")
    return given[0], given[-1]


def gaussian_kernel(size: int, sigma: float) -> np.ndarray[Any, Any]:
    """Give ``size`` values of exp(-x^2 / (2 sigma^2)) around the middle, which add up to 1."""
    x = np.arange(size) - (size - 1) / 2
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return np.asarray(weights / weights.sum())


@on_images
def gaussian_blur(image: Any, kernel_size: int | Sequence[int], sigma: Any = None) -> Any:
    """Blur an image with a Gaussian; it goes on beyond its edge as its mirror image.

    Parameters
    ----------
    image : array
        (..., C, H, W), (..., H, W, C) or (H, W).
    kernel_size : int or (int, int)
        How many pixels the kernel covers along x, and along y: odd numbers.
    sigma : float or (float, float), optional
        The standard deviations along x and y; by default 0.15 ``kernel_size`` + 0.35.
    """
    kx, ky = check_kernel("gaussian_blur", kernel_size)
    sx, sy = (0.15 * kx + 0.35, 0.15 * ky + 0.35) if sigma is None else _two("gaussian_blur", "sigma", sigma)
    xp = ad.namespace(image)
    x, lead = flat(wide(image))
    x = pad.chw(xp.reshape(x, (-1, 1, *x.shape[-2:])), (kx // 2, ky // 2), padding_mode="reflect")
    for shape, weights in (((1, 1, 1, kx), gaussian_kernel(kx, sx)), ((1, 1, ky, 1), gaussian_kernel(ky, sy))):
        x = F.conv2d(x, there(x, weights.reshape(shape), x.dtype))
    return narrow(xp.reshape(x, (*lead, *image.shape[-3:])), image, rounded=True)


def check_kernel(what: str, kernel_size: Any) -> tuple[int, int]:
    """Give the sizes along x and y, or refuse them."""
    kx, ky = _two(what, "kernel_size", kernel_size)
    if any(not hasattr(k, "__index__") or k % 2 == 0 for k in (kx, ky)):
        raise ValueError(f"{what}: kernel_size is an odd integer, or two, not {kernel_size!r}")
    return int(kx), int(ky)


@on_images
def gaussian_noise(image: Any, mean: float = 0.0, sigma: float = 0.1, clip: bool = True, *, noise: Any = None) -> Any:
    """Add normal noise, in parts of white; ``noise`` is standard normal noise of the shape (..., C, H, W), and drawn where it is not given."""
    if not is_number(sigma) or sigma < 0:
        raise ValueError(f"gaussian_noise: sigma is a number of 0 or more, not {sigma!r}")
    if noise is None:
        noise = current_generator().standard_normal(tuple(image.shape))
    x = wide(image)
    added = x + there(x, (mean + sigma * np.asarray(noise)) * bound(image), x.dtype)
    return clipped(added, image) if clip else narrow(added, image)


@on_images
def erase(image: Any, i: int, j: int, h: int, w: int, v: Any, inplace: bool = False) -> Any:
    """Put ``v``, of shape (C or 1, h or 1, w or 1), in place of the pixels from row ``i`` and column ``j`` on."""
    c, height, width = map(int, image.shape[-3:])
    if not (0 <= i <= i + h <= height and 0 <= j <= j + w <= width):
        raise ValueError(f"erase: {h} x {w} pixels from ({i}, {j}) on are not within an image of {height} x {width}")
    inside, values = np.zeros((height, width), dtype=bool), np.zeros((c, height, width))
    inside[i : i + h, j : j + w] = True
    values[:, i : i + h, j : j + w] = v
    check_held("erase", image, values, "v")
    return ad.namespace(image).where(there(image, inside), there(image, values, image.dtype), image)


@on_images
def jpeg(image: Any, quality: int) -> Any:
    """Give the image as it comes back from a JPEG file of a quality between 1 and 100: uint8, of 1 or 3 channels; Pillow does it, on the host."""
    from PIL import Image

    if isinstance(quality, bool) or not hasattr(quality, "__index__") or not 1 <= quality <= 100:
        raise ValueError(f"jpeg: quality is an integer between 1 and 100, not {quality!r}")
    check_channels("jpeg", image)
    if floating(image) or bound(image) != 255:
        raise TypeError(f"jpeg takes uint8, not {image.dtype}: put ToDtype('uint8', scale=True) before it")
    pixels, lead = flat(raw(image))
    host = np.moveaxis(on_host(pixels), 1, -1)
    out = np.empty_like(host)
    for k, one in enumerate(host):
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(one[..., 0] if one.shape[-1] == 1 else one)).save(file, "JPEG", quality=int(quality))
        out[k] = np.asarray(Image.open(file)).reshape(one.shape)
    return there(pixels, np.moveaxis(out, -1, 1).reshape(*lead, *image.shape[-3:]))
