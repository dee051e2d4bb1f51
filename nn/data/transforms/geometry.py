"""Sizes, crops, edges and flips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agnostic_ad.nn.data.transforms import functional as TF
from agnostic_ad.nn.data.transforms.arguments import RESIZING, InterpolationMode, interpolation, sides, sizes, span
from agnostic_ad.nn.data.transforms.base import RandomTransform, Transform
from agnostic_ad.nn.data.transforms.functional.geometry import PADDING_MODES, resized

__all__ = [
    "CenterCrop",
    "FiveCrop",
    "Pad",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomResize",
    "RandomResizedCrop",
    "RandomShortestSize",
    "RandomVerticalFlip",
    "RandomZoomOut",
    "Resize",
    "ScaleJitter",
    "TenCrop",
]

BILINEAR = InterpolationMode.BILINEAR


class _Resizing(Transform):
    def __init__(self, interpolation_mode: Any, antialias: bool | None, **options: Any) -> None:
        super().__init__(**options)
        self.interpolation, self.antialias = interpolation(self.name, interpolation_mode, RESIZING), antialias

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize."""
        return TF.resize(inpt, params["size"], self.interpolation, antialias=self.antialias)


class Resize(_Resizing):
    """Resize images.

    Parameters
    ----------
    size : int or sequence of int, optional
        (height, width); or the length of the shorter edge; or None, with ``max_size``, for the longer edge.
    interpolation : InterpolationMode
        NEAREST, NEAREST_EXACT, BILINEAR, BICUBIC, or LANCZOS.
    max_size : int, optional
        What the longer edge may be at most.
    antialias : bool
        Whether pixels that become smaller are means of all that they cover.
    **options
        ``generator`` and ``layout``, as for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.Resize((4, 6))(np.zeros((2, 3, 8, 8), "float32")).shape
    (2, 3, 4, 6)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None,
        interpolation: Any = BILINEAR,
        max_size: int | None = None,
        antialias: bool | None = True,
        **options: Any,
    ) -> None:
        super().__init__(interpolation, antialias, **options)
        resized(1, 1, size, max_size)  # what it refuses is refused here
        self.size, self.max_size = size, max_size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Give the new size."""
        return {"size": resized(*self.dimensions(flat_inputs)[1:], self.size, self.max_size)}


class RandomResize(_Resizing):
    """Resize the shorter edge to a number drawn from ``min_size`` to ``max_size`` - 1."""

    def __init__(self, min_size: int, max_size: int, interpolation: Any = BILINEAR, antialias: bool | None = True, **options: Any) -> None:
        super().__init__(interpolation, antialias, **options)
        self.min_size, self.max_size = sizes(self.name, "min_size", min_size)[0], sizes(self.name, "max_size", max_size)[0]
        if self.min_size >= self.max_size:
            raise ValueError(f"RandomResize: min_size={min_size} is less than max_size={max_size}")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the shorter edge."""
        return {"size": int(self.rng.integers(self.min_size, self.max_size))}


class RandomShortestSize(_Resizing):
    """Resize the shorter edge to one of some numbers, or to less where the longer edge would pass ``max_size``."""

    def __init__(
        self,
        min_size: int | Sequence[int],
        max_size: int | None = None,
        interpolation: Any = BILINEAR,
        antialias: bool | None = True,
        **options: Any,
    ) -> None:
        super().__init__(interpolation, antialias, **options)
        given = list(min_size) if isinstance(min_size, Sequence) else [min_size]
        self.min_size = [sizes(self.name, "min_size", n)[0] for n in given]
        self.max_size = None if max_size is None else sizes(self.name, "max_size", max_size)[0]

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size."""
        _, h, w = self.dimensions(flat_inputs)
        ratio = self.min_size[int(self.rng.integers(len(self.min_size)))] / min(h, w)
        ratio = ratio if self.max_size is None else min(ratio, self.max_size / max(h, w))
        return {"size": (max(int(h * ratio), 1), max(int(w * ratio), 1))}


class ScaleJitter(_Resizing):
    """Resize to a factor, drawn from ``scale_range``, of what just fits into ``target_size``.

    Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", 2021.
    """

    def __init__(
        self,
        target_size: Sequence[int],
        scale_range: Sequence[float] = (0.1, 2.0),
        interpolation: Any = BILINEAR,
        antialias: bool | None = True,
        **options: Any,
    ) -> None:
        super().__init__(interpolation, antialias, **options)
        self.target_size, self.scale_range = sizes(self.name, "target_size", target_size), span(self.name, "scale_range", scale_range, 0)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size."""
        _, h, w = self.dimensions(flat_inputs)
        ratio = min(self.target_size[1] / h, self.target_size[0] / w) * self.rng.uniform(*self.scale_range)
        return {"size": (max(int(h * ratio), 1), max(int(w * ratio), 1))}


class _Cropping(Transform):
    def __init__(self, size: int | Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.size = sizes(self.name, "size", size)


class CenterCrop(_Cropping):
    """Cut out the middle, of ``size`` = (height, width); a smaller image gets black edges."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop."""
        return TF.center_crop(inpt, self.size)


class FiveCrop(_Cropping):
    """Give a tuple of the four corners and the middle in place of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> [crop.tolist() for crop in T.FiveCrop(1)(np.arange(9).reshape(3, 3))]
    [[[0]], [[2]], [[6]], [[8]], [[4]]]
    """

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop."""
        return TF.five_crop(inpt, self.size)


class TenCrop(_Cropping):
    """Give a tuple of what `FiveCrop` gives, of the image and of its mirror image (with ``vertical_flip``, upside down)."""

    def __init__(self, size: int | Sequence[int], vertical_flip: bool = False, **options: Any) -> None:
        super().__init__(size, **options)
        self.vertical_flip = vertical_flip

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop."""
        return TF.ten_crop(inpt, self.size, self.vertical_flip)


def _padding_mode(what: str, mode: str) -> str:
    if mode not in PADDING_MODES:
        raise ValueError(f"{what}: padding_mode is one of {', '.join(map(repr, PADDING_MODES))}, not {mode!r}")
    return mode


class RandomCrop(_Cropping):
    """Cut out a rectangle at a random place.

    Parameters
    ----------
    size : int or (int, int)
        (height, width).
    padding : int or sequence of int, optional
        Pixels put around the image first: for all sides; (left and right, top and bottom); or (left, top, right, bottom).
    pad_if_needed : bool
        Whether an image that is too small gets as many pixels at both sides as it lacks.
    fill, padding_mode
        As for `Pad`.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: Any = None,
        pad_if_needed: bool = False,
        fill: Any = 0,
        padding_mode: str = "constant",
        **options: Any,
    ) -> None:
        super().__init__(size, **options)
        self.padding = None if padding is None else sides(self.name, padding)
        self.pad_if_needed, self.fill, self.padding_mode = pad_if_needed, fill, _padding_mode(self.name, padding_mode)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the place."""
        _, h, w = self.dimensions(flat_inputs)
        left, top, right, bottom = self.padding or (0, 0, 0, 0)
        height, width = self.size
        more_h, more_w = max(height - h - top - bottom, 0), max(width - w - left - right, 0)
        if self.pad_if_needed:
            left, top, right, bottom = left + more_w, top + more_h, right + more_w, bottom + more_h
        elif more_h or more_w:
            raise ValueError(
                f"RandomCrop: a crop of {height} x {width} pixels is larger than the image, {h + top + bottom} x {w + left + right} with its "
                "padding; give pad_if_needed=True"
            )
        free_h, free_w = h + top + bottom - height, w + left + right - width
        top_left = int(self.rng.integers(free_h + 1)), int(self.rng.integers(free_w + 1))
        return {"padding": (left, top, right, bottom), "top": top_left[0], "left": top_left[1]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad and crop."""
        if not any(params["padding"]) or self.padding_mode != "constant":
            padded = TF.pad(inpt, params["padding"], self.fill, self.padding_mode) if any(params["padding"]) else inpt
            return TF.crop(padded, params["top"], params["left"], *self.size)
        _, h, w = self.dimensions([inpt])  # at once, without the pixels that the crop would take away again
        left, top = params["padding"][0] - params["left"], params["padding"][1] - params["top"]
        return TF.pad(inpt, (left, top, self.size[1] - w - left, self.size[0] - h - top), self.fill)


class RandomResizedCrop(_Resizing):
    """Cut out a rectangle of random area, proportions and place, and resize it ("Inception" crops; Szegedy et al., 2015).

    Parameters
    ----------
    size : int or (int, int)
        (height, width) of the result.
    scale : (float, float)
        The parts of the area that are drawn from.
    ratio : (float, float)
        The proportions, width by height, that are drawn from, evenly in their logarithm.
    interpolation, antialias
        As for `Resize`.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: Any = BILINEAR,
        antialias: bool | None = True,
        **options: Any,
    ) -> None:
        super().__init__(interpolation, antialias, **options)
        self.size = sizes(self.name, "size", size)
        self.scale, self.ratio = span(self.name, "scale", scale, 0), span(self.name, "ratio", ratio, 1e-9)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the rectangle; after ten that do not fit, take the middle."""
        _, h, w = self.dimensions(flat_inputs)
        low, high = self.ratio
        for _ in range(10):
            area = h * w * self.rng.uniform(*self.scale)
            ratio = math.exp(self.rng.uniform(math.log(low), math.log(high)))
            width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < width <= w and 0 < height <= h:
                top, left = int(self.rng.integers(h - height + 1)), int(self.rng.integers(w - width + 1))
                return {"top": top, "left": left, "height": height, "width": width}
        width = min(w, round(h * high)) if w / h > high else w
        height = min(h, round(w / low)) if w / h < low else h
        return {"top": (h - height) // 2, "left": (w - width) // 2, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop and resize."""
        return TF.resized_crop(inpt, **params, size=self.size, interpolation=self.interpolation, antialias=self.antialias)


class Pad(Transform):
    """Put pixels around images.

    Parameters
    ----------
    padding : int or sequence of int
        For all sides; (left and right, top and bottom); or (left, top, right, bottom).
    fill : number or sequence of number
        For "constant": the value, or that of each channel.
    padding_mode : {"constant", "edge", "reflect", "symmetric"}
        What the new pixels are.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(self, padding: Any, fill: Any = 0, padding_mode: str = "constant", **options: Any) -> None:
        super().__init__(**options)
        self.padding, self.fill, self.padding_mode = sides(self.name, padding), fill, _padding_mode(self.name, padding_mode)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad."""
        return TF.pad(inpt, self.padding, self.fill, self.padding_mode)


class RandomZoomOut(RandomTransform):
    """With probability ``p``, lay the image at a random place on a larger ground of the colour ``fill`` (Liu et al., "SSD", 2016).

    The ground's sides are those of the image times a factor drawn from ``side_range``.
    """

    def __init__(self, fill: Any = 0, side_range: Sequence[float] = (1.0, 4.0), p: float = 0.5, **options: Any) -> None:
        super().__init__(p, **options)
        self.fill, self.side_range = fill, span(self.name, "side_range", side_range, 1)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the ground's size and the place."""
        _, h, w = self.dimensions(flat_inputs)
        factor = self.rng.uniform(*self.side_range)
        more_h, more_w = int(h * factor) - h, int(w * factor) - w
        left, top = int(more_w * self.rng.random()), int(more_h * self.rng.random())
        return {"padding": (left, top, more_w - left, more_h - top)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad."""
        return TF.pad(inpt, params["padding"], self.fill)


class RandomHorizontalFlip(RandomTransform):
    """The mirror image, left for right, with probability ``p``."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Flip."""
        return TF.horizontal_flip(inpt)


class RandomVerticalFlip(RandomTransform):
    """The image upside down, with probability ``p``."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Flip."""
        return TF.vertical_flip(inpt)
