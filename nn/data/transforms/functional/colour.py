"""Brightness, colours and tones. Integers are rounded down after each step, as torchvision's are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.data.transforms.arguments import is_number
from agnostic_ad.nn.data.transforms.functional.conversion import to_dtype, value_bits
from agnostic_ad.nn.data.transforms.functional.pixels import bound, channels, check_channels, clipped, flat, floating, there, wide
from agnostic_ad.nn.data.transforms.layouts import on_images
from agnostic_ad.rules import QUICK

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_gamma",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "autocontrast",
    "equalize",
    "invert",
    "permute_channels",
    "posterize",
    "rgb_to_grayscale",
    "solarize",
    "to_grayscale",
]


def _factor(what: str, name: str, value: float) -> float:
    if not is_number(value) or value < 0:
        raise ValueError(f"{what}: {name} is a number of 0 or more, not {value!r}")
    return float(value)


def _grey(x: Any) -> Any:
    """Give the brightness of red, green and blue, by the weights of ITU-R 601 in torchvision's digits, in floating point."""
    x = wide(x)
    return 0.2989 * x[..., 0:1, :, :] + 0.587 * x[..., 1:2, :, :] + 0.114 * x[..., 2:3, :, :]


def _mixed(x: Any, other: Any, ratio: float) -> Any:
    return clipped(wide(x) * ratio + other * (1.0 - ratio), x)


@on_images
def rgb_to_grayscale(image: Any, num_output_channels: int = 1) -> Any:
    """Give 0.2989 R + 0.587 G + 0.114 B, once or three times; grey images are repeated."""
    if num_output_channels not in (1, 3):
        raise ValueError(f"rgb_to_grayscale: num_output_channels is 1 or 3, not {num_output_channels!r}")
    check_channels("rgb_to_grayscale", image)
    xp = ad.namespace(image)
    grey = image
    if channels(image) == 3:
        grey = _grey(image)
        grey = grey if floating(image) else xp.astype(grey, image.dtype)
    return xp.concat([grey] * 3, axis=-3) if num_output_channels == 3 else grey


to_grayscale = rgb_to_grayscale


@on_images
def adjust_brightness(image: Any, brightness_factor: float) -> Any:
    """Multiply by a factor: 0 is black, 1 changes nothing."""
    return clipped(wide(image) * _factor("adjust_brightness", "brightness_factor", brightness_factor), image)


def _floored(grey: Any, like: Any) -> Any:
    return grey if floating(like) else ad.namespace(grey).floor(grey)


@on_images
def adjust_saturation(image: Any, saturation_factor: float) -> Any:
    """Mix with the grey image: 0 is grey, 1 changes nothing."""
    check_channels("adjust_saturation", image)
    ratio = _factor("adjust_saturation", "saturation_factor", saturation_factor)
    return image if channels(image) == 1 else _mixed(image, _floored(_grey(image), image), ratio)


@on_images
def adjust_contrast(image: Any, contrast_factor: float) -> Any:
    """Mix with the mean of the grey image: 0 is all of one grey, 1 changes nothing."""
    check_channels("adjust_contrast", image)
    ratio = _factor("adjust_contrast", "contrast_factor", contrast_factor)
    grey = wide(image) if channels(image) == 1 else _floored(_grey(image), image)
    return _mixed(image, ad.namespace(grey).mean(grey, axis=(-3, -2, -1), keepdims=True), ratio)


@on_images
def adjust_hue(image: Any, hue_factor: float) -> Any:
    """Turn the hue by a part of the circle, between -0.5 and 0.5."""
    if not is_number(hue_factor) or not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"adjust_hue: hue_factor lies between -0.5 and 0.5; got {hue_factor!r}")
    check_channels("adjust_hue", image)
    if channels(image) == 1:
        return image
    xp = ad.namespace(image)
    x = wide(image) / bound(image)
    r, g, b = (x[..., i, :, :] for i in range(3))
    high, low = xp.max(x, axis=-3), xp.min(x, axis=-3)
    one, grey = xp.ones_like(high), high == low
    range_ = xp.where(grey, one, high - low)
    sector = xp.where(high == r, (g - b) / range_, xp.where(high == g, 2.0 + (b - r) / range_, 4.0 + (r - g) / range_))
    sector = xp.where(grey, xp.zeros_like(high), sector) + 6.0 * hue_factor
    chroma = xp.where(grey, xp.zeros_like(high), high - low)
    parts = []
    for start in (5.0, 3.0, 1.0):  # the closed form of HSV to RGB: each channel falls from V by C over sectors of its own
        k = (start + sector) - 6.0 * xp.floor((start + sector) / 6.0)
        parts.append(high - chroma * xp.clip(xp.minimum(k, 4.0 - k), 0.0, 1.0))
    return to_dtype(xp.stack(parts, axis=-3), image.dtype, scale=True)


@on_images
def adjust_gamma(image: Any, gamma: float, gain: float = 1.0) -> Any:
    """Raise to the power ``gamma``, between black and white, and multiply by ``gain``."""
    power = _factor("adjust_gamma", "gamma", gamma)
    xp = ad.namespace(image)
    y = xp.pow(wide(image) / bound(image), power)
    return to_dtype(y if gain == 1.0 else xp.clip(y * gain, 0.0, 1.0), image.dtype, scale=True)


@on_images
def adjust_sharpness(image: Any, sharpness_factor: float) -> Any:
    """Mix with a smoothed image (a mean of 3 x 3 pixels, the middle five times): 0 is smooth, 1 changes nothing; the outermost pixels stay."""
    check_channels("adjust_sharpness", image)
    ratio = _factor("adjust_sharpness", "sharpness_factor", sharpness_factor)
    h, w = map(int, image.shape[-2:])
    if h <= 2 or w <= 2:
        return image
    xp = ad.namespace(image)
    x, lead = flat(wide(image))
    weight = np.ones((1, 1, 3, 3))
    weight[..., 1, 1] = 5.0
    planes = xp.reshape(x, (-1, 1, h, w))
    smooth = F.conv2d(planes, there(x, weight / 13.0, x.dtype))
    smooth = smooth if floating(image) else xp.round(smooth)
    inner = planes[..., 1:-1, 1:-1]
    change = F.pad((smooth - inner) * (1.0 - ratio), (1, 1, 1, 1))
    return clipped(xp.reshape(planes + change, (*lead, *image.shape[-3:])), image)


@on_images
def invert(image: Any) -> Any:
    """Give the negative: white less the image."""
    white = bound(image)
    xp = ad.namespace(image)
    return 1.0 - image if floating(image) else xp.astype(xp.bitwise_xor(image, xp.full_like(image, int(white))), image.dtype)


@on_images
def posterize(image: Any, bits: int) -> Any:
    """Keep the first ``bits`` bits of each value."""
    if isinstance(bits, bool) or not hasattr(bits, "__index__") or not 0 <= bits <= 8:
        raise ValueError(f"posterize: bits is an integer between 0 and 8, not {bits!r}")
    xp, bits = ad.namespace(image), int(bits)
    if floating(image):
        levels = 1 << bits
        return xp.clip(xp.floor(image * levels), 0.0, float(levels - 1)) / levels
    drop = value_bits(xp, image.dtype) - bits
    return image if drop <= 0 else xp.bitwise_and(image, xp.full_like(image, ((1 << bits) - 1) << drop))


@on_images
def solarize(image: Any, threshold: float) -> Any:
    """Give the negative of the values from ``threshold`` on."""
    if not is_number(threshold) or threshold > bound(image):
        raise ValueError(f"solarize: threshold is at most white, {bound(image)} for dtype {image.dtype}; got {threshold!r}")
    return ad.namespace(image).where(wide(image) >= threshold, invert.chw(image), image)


@on_images
def autocontrast(image: Any) -> Any:
    """Stretch each channel so that its darkest pixel is black and its brightest white; a channel of one value stays."""
    check_channels("autocontrast", image)
    xp, x = ad.namespace(image), wide(image)
    low, high = (f(x, axis=(-2, -1), keepdims=True) for f in (xp.min, xp.max))
    plain = low == high
    low = xp.where(plain, xp.zeros_like(low), low)
    scale = xp.where(plain, xp.ones_like(low), (high - low) * (1.0 / bound(image)))
    return clipped((x - low) / scale, image)


@on_images
def equalize(image: Any) -> Any:
    """Spread the values of each channel so that all are about as frequent, in 256 steps, as Pillow does."""
    xp = ad.namespace(image)
    x, lead = flat(to_dtype(image, "uint8", scale=True))
    n, c, h, w = x.shape
    planes = n * c
    index = xp.astype(xp.reshape(x, (planes, h * w)), xp.int64)
    index = xp.reshape(index + there(x, 256 * np.arange(planes)[:, None]), (-1,))
    counts = xp.reshape(QUICK["scatter_add"](xp.ones_like(index), index, size=256 * planes, axis=0), (planes, 256))
    # the table of Pillow's ImageOps.equalize: how many pixels are darker, in steps of all but the brightest ones' number / 255
    last = xp.max(xp.where(counts > 0, there(x, np.arange(256)), xp.zeros_like(counts)), axis=1, keepdims=True)
    brightest = xp.sum(xp.where(there(x, np.arange(256)) == last, counts, xp.zeros_like(counts)), axis=1, keepdims=True)
    step = (h * w - brightest) // 255
    darker = xp.cumulative_sum(counts, axis=1) - counts
    table = xp.clip((darker + step // 2) // xp.maximum(step, xp.ones_like(step)), 0, 255)
    table = xp.where(step == 0, there(x, np.arange(256)), table)
    y = xp.astype(xp.take(xp.reshape(table, (-1,)), index, axis=0), x.dtype)
    return to_dtype(xp.reshape(y, (*lead, c, h, w)), image.dtype, scale=True)


@on_images
def permute_channels(image: Any, permutation: Sequence[int]) -> Any:
    """Give the channels in another order: the first is that of the number ``permutation[0]``."""
    order = [int(i) for i in permutation]
    if sorted(order) != list(range(channels(image))):
        raise ValueError(f"permute_channels: {order} is no order of the {channels(image)} channels")
    return ad.namespace(image).take(image, there(image, np.asarray(order)), axis=len(image.shape) - 3)
