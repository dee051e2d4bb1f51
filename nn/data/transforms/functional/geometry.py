"""Sizes, crops, edges and flips: which pixels are taken follows from the sizes alone, and is worked out on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.data.transforms.arguments import RESIZING, InterpolationMode, interpolation, sides, sizes
from agnostic_ad.nn.data.transforms.functional.pixels import filled, flat, floating, narrow, there, wide
from agnostic_ad.nn.data.transforms.layouts import on_images

__all__ = [
    "center_crop",
    "crop",
    "five_crop",
    "hflip",
    "horizontal_flip",
    "pad",
    "resize",
    "resized_crop",
    "ten_crop",
    "vertical_flip",
    "vflip",
]

PADDING_MODES = ("constant", "edge", "reflect", "symmetric")


@on_images
def horizontal_flip(image: Any) -> Any:
    """Give the mirror image, left for right."""
    return ad.namespace(image).flip(image, axis=-1)


@on_images
def vertical_flip(image: Any) -> Any:
    """Give the image upside down."""
    return ad.namespace(image).flip(image, axis=-2)


hflip, vflip = horizontal_flip, vertical_flip


@on_images
def resize(
    image: Any,
    size: int | Sequence[int] | None,
    interpolation: Any = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: bool | None = True,
) -> Any:
    """Resize an image.

    Parameters
    ----------
    image : array
        (..., C, H, W), (..., H, W, C) or (H, W). Integers are computed with in floating point, rounded and clipped.
    size : int or sequence of int, optional
        (height, width); or the length of the shorter edge, with the other in proportion; or None, with ``max_size``, for the longer edge.
    interpolation : InterpolationMode
        NEAREST, NEAREST_EXACT, BILINEAR, BICUBIC, or LANCZOS (with ``antialias``).
    max_size : int, optional
        What the longer edge may be at most, where ``size`` is one number.
    antialias : bool
        Whether pixels that become smaller are means of all that they cover, as in Pillow; not for the nearest.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data.transforms import functional as TF
    >>> TF.resize(np.zeros((30, 40, 3), "uint8"), 15).shape
    (15, 20, 3)
    """
    mode = _mode(interpolation)
    h, w = image.shape[-2:]
    new = resized(int(h), int(w), size, max_size)
    if new == (h, w):
        return image
    if mode == "lanczos" and not antialias:
        raise ValueError("resize: interpolation='lanczos' needs antialias=True")
    x, lead = flat(image)
    if mode.startswith("nearest"):
        y = F.interpolate(x, new, mode=mode)
    else:
        y = narrow(F.interpolate(wide(x), new, mode=mode, antialias=bool(antialias)), image, rounded=True)
    return ad.namespace(y).reshape(y, (*lead, *y.shape[1:]))


def _mode(mode: Any) -> str:
    return interpolation("resize", mode, RESIZING)


def resized(height: int, width: int, size: Any, max_size: int | None = None) -> tuple[int, int]:
    """Give the size that `resize` gives an image."""
    if isinstance(size, Sequence) and len(size) == 2:
        if max_size is not None:
            raise ValueError(f"resize: max_size goes with one number for the shorter edge, not with size={size!r}")
        return sizes("resize", "size", size)
    short, long = sorted((height, width))
    if size is None:
        if max_size is None:
            raise ValueError("resize: size is None, and so is max_size; give one of them")
        new_short, new_long = int(max_size * short / long), sizes("resize", "max_size", max_size)[0]
    else:
        new_short = sizes("resize", "size", size)[0]
        new_long = int(new_short * long / short)
        if max_size is not None and max_size < new_short:
            raise ValueError(f"resize: max_size={max_size} is less than size={size!r}, the shorter edge")
        if max_size is not None and new_long > max_size:
            new_short, new_long = int(max_size * new_short / new_long), max_size
    new_short = max(new_short, 1)
    return (new_short, new_long) if height <= width else (new_long, new_short)


@on_images
def pad(image: Any, padding: Any, fill: Any = None, padding_mode: str = "constant") -> Any:
    """Put pixels around an image, or, where a number is negative, take some away.

    Parameters
    ----------
    image : array
        (..., C, H, W), (..., H, W, C) or (H, W).
    padding : int or sequence of int
        For all sides; (left and right, top and bottom); or (left, top, right, bottom).
    fill : number or sequence of number, optional
        For "constant": the value, or that of each channel; black by default.
    padding_mode : {"constant", "edge", "reflect", "symmetric"}
        ``fill``; the pixel at the edge; the image mirrored without the pixel at the edge; or with it.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data.transforms import functional as TF
    >>> TF.pad(np.asarray([[1, 2, 3]], "uint8"), (2, 0), padding_mode="symmetric")
    array([[2, 1, 1, 2, 3, 3, 2]], dtype=uint8)
    """
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"pad: padding_mode is one of {', '.join(map(repr, PADDING_MODES))}, not {padding_mode!r}")
    left, top, right, bottom = sides("pad", padding)
    h, w = map(int, image.shape[-2:])
    if h + top + bottom < 1 or w + left + right < 1:
        raise ValueError(f"pad: {padding!r} takes away all of an image of {h} x {w} pixels")
    if padding_mode == "constant":
        number = float if floating(image) else int
        parts = [(image, value) for value in filled("pad", image, fill).reshape(-1).tolist()]
        if len(parts) > 1:
            parts = [(image[..., c : c + 1, :, :], value) for c, (_, value) in enumerate(parts)]
        padded = [F.pad(part, (left, right, top, bottom), value=number(value)) for part, value in parts]
        return padded[0] if len(padded) == 1 else ad.namespace(image).concat(padded, axis=-3)
    rows, columns = (_places(n, a, b, padding_mode) for n, a, b in ((h, top, bottom), (w, left, right)))
    return _taken(_taken(image, -2, rows), -1, columns)


def _places(n: int, before: int, after: int, mode: str) -> np.ndarray[Any, Any]:
    """Give which elements of ``n`` stand along an axis afterwards."""
    index = np.pad(np.arange(n), (max(before, 0), max(after, 0)), mode)  # type: ignore[call-overload]
    return np.asarray(index[max(-before, 0) : len(index) - max(-after, 0)])


def _taken(x: Any, axis: int, index: np.ndarray[Any, Any]) -> Any:
    first, count = int(index[0]), len(index)
    if (index == np.arange(first, first + count)).all():
        return x if count == x.shape[axis] else x[(..., slice(first, first + count), *(slice(None),) * (-axis - 1))]
    return ad.namespace(x).take(x, there(x, index), axis=len(x.shape) + axis)


@on_images
def crop(image: Any, top: int, left: int, height: int, width: int) -> Any:
    """Cut out a rectangle; what of it lies outside the image is black."""
    h, w = image.shape[-2:]
    return pad.chw(image, (-left, -top, left + width - int(w), top + height - int(h)))


@on_images
def center_crop(image: Any, output_size: int | Sequence[int]) -> Any:
    """Cut out the middle; a smaller image gets black edges."""
    height, width = sizes("center_crop", "output_size", output_size)
    h, w = map(int, image.shape[-2:])
    missing_h, missing_w = max(height - h, 0), max(width - w, 0)
    image = pad.chw(image, (missing_w // 2, missing_h // 2, (missing_w + 1) // 2, (missing_h + 1) // 2))
    h, w = map(int, image.shape[-2:])
    return crop.chw(image, round((h - height) / 2), round((w - width) / 2), height, width)


@on_images
def resized_crop(
    image: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: int | Sequence[int],
    interpolation: Any = InterpolationMode.BILINEAR,
    antialias: bool | None = True,
) -> Any:
    """Cut out a rectangle and resize it."""
    return resize.chw(crop.chw(image, top, left, height, width), size, interpolation, antialias=antialias)


def _five(image: Any, size: int | Sequence[int], what: str) -> tuple[Any, ...]:
    height, width = sizes(what, "size", size)
    h, w = map(int, image.shape[-2:])
    if height > h or width > w:
        raise ValueError(f"{what}: a crop of {height} x {width} pixels is larger than the image, {h} x {w}")
    corners = [(0, 0), (0, w - width), (h - height, 0), (h - height, w - width)]
    return *(crop.chw(image, top, left, height, width) for top, left in corners), center_crop.chw(image, (height, width))


@on_images
def five_crop(image: Any, size: int | Sequence[int]) -> Any:
    """Give a tuple of the corners (top left, top right, bottom left, bottom right) and the middle."""
    return _five(image, size, "five_crop")


@on_images
def ten_crop(image: Any, size: int | Sequence[int], vertical_flip: bool = False) -> Any:
    """Give a tuple of what `five_crop` gives, of the image and of its mirror image (or upside down)."""
    mirrored = ad.namespace(image).flip(image, axis=-2 if vertical_flip else -1)
    return _five(image, size, "ten_crop") + _five(mirrored, size, "ten_crop")
