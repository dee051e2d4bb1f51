"""Images of files as arrays, and the windows of images that a file lists."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.nn.caffe.message import DefinitionError

__all__ = ["Window", "cut", "decoded", "inside", "read_windows"]


def inside(folder: str, path: str) -> str:
    """Give the path of a file in a folder, in the one that runs where none is said; a slash in front is the folder's."""
    return os.path.join(folder, path.lstrip("/")) if folder else path


def decoded(source: Any, color: bool | None, size: tuple[int, int] | None = None) -> Any:
    """Give an encoded image as uint8 numbers (channels, height, width), blue first, resized bilinearly where a size is given.

    Without a word about ``color``, a gray image has one channel, and one with transparency four.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("reading images needs Pillow, which is not installed: pip install 'agnostic_ad[caffe]'") from error
    with Image.open(source) as opened:
        own = opened.mode if opened.mode in ("L", "RGBA") else "RGB"
        pixels = np.asarray(opened.convert({True: "RGB", False: "L", None: own}[color]))
    pixels = np.moveaxis(pixels[..., [2, 1, 0, 3][: pixels.shape[-1]]], -1, 0) if pixels.ndim == 3 else pixels[None]
    return pixels if size is None else _resized(pixels, size)


def _resized(pixels: Any, size: tuple[int, int]) -> Any:
    if size == pixels.shape[1:]:
        return pixels
    from agnostic_ad.nn.functional import interpolate

    grown = interpolate(pixels[None].astype("float32"), size=size, mode="bilinear", align_corners=False)
    return np.clip(np.rint(grown[0]), 0, 255).astype("uint8")


# --- windows ----------------------------------------------------------------------------------------------------------------------------
class Window(NamedTuple):
    """A part of an image, and how much of it is an object.

    Attributes
    ----------
    path : str
        The image's file.
    label : int
        The object's class, 1 or more.
    overlap : float
        The share of the object.
    box : tuple of int
        The first and last column and row: x1, y1, x2, y2.
    where : str
        The file and line that say so.
    """

    path: str
    label: int
    overlap: float
    box: tuple[int, ...]
    where: str


def read_windows(source: str) -> list[Window]:
    """Read a file of windows: ``# number``, path, channels, height, width, how many windows; then of each label, overlap, x1, y1, x2, y2."""
    words = _words(source)
    found: list[Window] = []
    for where, mark in words:
        if mark != "#":
            raise DefinitionError(f"{where}: an image begins with '# number', and here is {mark!r}")
        _number(words, source)
        path = next(words, (source, ""))[1]
        count = [_number(words, source)[1] for _ in ("channels", "height", "width", "windows")][-1]
        for _ in range(count):
            where, label = _number(words, source)
            overlap = _number(words, source, float)[1]
            found.append(Window(path, label, overlap, tuple(_number(words, source)[1] for _ in range(4)), where))
    return found


def _words(source: str) -> Iterator[tuple[str, str]]:
    with Path(source).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            for word in line.split():
                yield f"{source}:{number}", word


def _number(words: Iterator[tuple[str, str]], source: str, kind: Any = int) -> tuple[str, Any]:
    """Read a number; give it with its place."""
    where, word = next(words, (source, ""))
    try:
        return where, kind(word)
    except ValueError:
        here = f"here is {word!r}" if word else "the file ends"
        raise DefinitionError(f"{where}: a number was expected, and {here}") from None


def _rounded(x: float) -> int:
    """Round halves away from zero, as C does."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def _grown(low: int, high: int, half: float, size: int, crop: int, grow: float) -> tuple[int, int, int, int, int]:
    """Grow a window along an axis: give its bounds inside the image, their size in the crop, and what is left free before and behind."""
    centre = low + (high - low + 1) / 2
    low, high = _rounded(centre - half * grow), _rounded(centre + half * grow)
    before, after = max(0, -low), max(0, high - size + 1)
    scale = crop / (high - low + 1)
    low, high = low + before, high - after
    return low, high, _rounded((high - low + 1) * scale), _rounded(before * scale), _rounded(after * scale)


def cut(pixels: Any, window: Window, crop: int, pad: int, square: bool, mirror: bool) -> tuple[Any, slice, slice]:
    """Give a window of an image, and the rows and columns of a crop where it lies.

    Parameters
    ----------
    pixels : array
        The image, (channels, height, width).
    window : Window
        The window.
    crop : int
        The size of the crop.
    pad : int
        How much of the crop on each side is around the window; beyond the image it is left free.
    square : bool
        Whether to grow the window to a square.
    mirror : bool
        Whether left and right change places.
    """
    x1, y1, x2, y2 = window.box
    height, width = pixels.shape[1:]
    wide = high = crop
    left = right = top = 0
    if pad or square:
        halves = (x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2
        half_x, half_y = (max(halves),) * 2 if square else halves
        grow = crop / (crop - 2 * pad)
        x1, x2, wide, left, right = _grown(x1, x2, half_x, width, crop, grow)
        y1, y2, high, top, _ = _grown(y1, y2, half_y, height, crop, grow)
    if not (0 <= x1 <= x2 < width and 0 <= y1 <= y2 < height):
        raise DefinitionError(f"{window.where}: window {window.box} is not inside the image {window.path}, {width} wide and {height} high")
    left = min(right if mirror else left, crop - 1)
    top = min(top, crop - 1)
    wide, high = min(max(wide, 1), crop - left), min(max(high, 1), crop - top)
    patch = _resized(pixels[:, y1 : y2 + 1, x1 : x2 + 1], (high, wide))
    return patch[..., ::-1] if mirror else patch, slice(top, top + high), slice(left, left + wide)
