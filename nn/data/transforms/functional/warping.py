"""Rotation, affine and perspective maps, elastic distortion: the image looked up at places that are worked out on the host in float64.

A place is (x, y) in pixels from the top left corner, so that centres of pixels are at halves, as in Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.data.transforms.arguments import MOVING, InterpolationMode, interpolation
from agnostic_ad.nn.data.transforms.functional.pixels import filled, flat, narrow, there, wide
from agnostic_ad.nn.data.transforms.layouts import on_images

__all__ = ["affine", "elastic", "perspective", "perspective_coefficients", "rotate"]


def _centres(height: float, width: float) -> tuple[Any, Any]:
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    return x, y


def _looked_up(image: Any, places: Sequence[Any], mode: str, fill: Any, what: str) -> Any:
    """Give the image at ``places``, x and y of the new shape (H', W'); beyond its edge lies the fill."""
    x, y = places
    values = filled(what, image, fill)
    h, w = map(int, image.shape[-2:])
    pixels, lead = flat(image)
    xp, new, count = ad.namespace(image), tuple(x.shape), int(pixels.shape[0])
    if mode == "nearest":
        column, row = np.floor(x), np.floor(y)
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        index = np.where(inside, row * w + column, 0).astype("int64")
        rows = xp.reshape(pixels, (count, -1, h * w))
        found = xp.reshape(xp.take(rows, there(image, index.reshape(-1)), axis=2), (*lead, image.shape[-3], *new))
        return found if inside.all() else xp.where(there(found, inside), found, there(found, values, found.dtype))
    pixels = wide(pixels)
    grid = there(pixels, np.stack([2 * x / w - 1, 2 * y / h - 1], axis=-1)[None], pixels.dtype)
    found = F.grid_sample(xp.reshape(pixels, (1, -1, h, w)), grid, align_corners=False)
    found = xp.reshape(found, (*lead, image.shape[-3], *new))
    if values.any():  # a pixel at the edge is made of what lies inside and of the fill, by their parts
        part = _part(x, w) * _part(y, h)
        found = found + there(found, values * (1 - part), found.dtype)
    return narrow(found, image, rounded=True)


def _part(at: Any, n: int) -> Any:
    return np.clip(np.minimum(at + 0.5, n + 0.5 - at), 0.0, 1.0)


def _matrix(angle: float, translate: Sequence[float], scale: float, shear: Sequence[float], center: Sequence[float]) -> Any:
    """Give the 3 x 3 matrix from places of the image to places of the result; angles in degrees, clockwise as one sees it."""
    a, sx, sy = (math.radians(v) for v in (angle, shear[0], shear[1]))
    turn = np.asarray([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    turn = turn @ np.asarray([[1, 0], [-math.tan(sy), 1]]) @ np.asarray([[1, -math.tan(sx)], [0, 1]])
    matrix, middle = np.eye(3), np.asarray(center, dtype="float64")
    matrix[:2, :2] = scale * turn
    matrix[:2, 2] = middle + np.asarray(translate, dtype="float64") - matrix[:2, :2] @ middle
    return matrix


def _moved(image: Any, matrix: Any, mode: str, fill: Any, what: str, corner: tuple[float, float] = (0, 0), size: Any = None) -> Any:
    back = np.linalg.inv(matrix)
    x, y = _centres(*(size or image.shape[-2:]))
    x, y = x + corner[0], y + corner[1]
    return _looked_up(image, [back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (0, 1)], mode, fill, what)


def _center(image: Any, center: Sequence[float] | None) -> tuple[float, float]:
    return (int(image.shape[-1]) / 2, int(image.shape[-2]) / 2) if center is None else (float(center[0]), float(center[1]))


@on_images
def affine(
    image: Any,
    angle: float,
    translate: Sequence[float],
    scale: float,
    shear: float | Sequence[float],
    interpolation: Any = InterpolationMode.NEAREST,
    fill: Any = None,
    center: Sequence[float] | None = None,
) -> Any:
    """Turn, scale, shear and move an image.

    Parameters
    ----------
    image : array
        (..., C, H, W), (..., H, W, C) or (H, W).
    angle : float
        Degrees, clockwise.
    translate : (float, float)
        Pixels to the right, and down, after the rest.
    scale : float
        A factor above 0.
    shear : float or (float, float)
        Degrees along x, and along y.
    interpolation : InterpolationMode
        NEAREST or BILINEAR.
    fill : number or sequence of number, optional
        What lies beyond the edge, or that of each channel; black by default.
    center : (float, float), optional
        The place (x, y) that turning, scaling and shearing leave where it is; by default the middle.
    """
    given = (*shear, 0.0)[:2] if isinstance(shear, Sequence) else (shear, 0.0)
    if not scale > 0:
        raise ValueError(f"affine: scale is a number above 0, not {scale!r}")
    matrix = _matrix(angle, translate, scale, given, _center(image, center))
    return _moved(image, matrix, _mode("affine", interpolation), fill, "affine")


@on_images
def rotate(
    image: Any,
    angle: float,
    interpolation: Any = InterpolationMode.NEAREST,
    expand: bool = False,
    center: Sequence[float] | None = None,
    fill: Any = None,
) -> Any:
    """Turn an image by ``angle`` degrees, anticlockwise; with ``expand``, into an image that holds all of it.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data.transforms import functional as TF
    >>> TF.rotate(np.asarray([[1, 2], [3, 4]], "uint8"), 90)
    array([[2, 4],
           [1, 3]], dtype=uint8)
    """
    h, w = map(int, image.shape[-2:])
    matrix = _matrix(-angle, (0, 0), 1.0, (0, 0), _center(image, center))
    corner, size = (0.0, 0.0), None
    if expand:
        corners = matrix[:2] @ np.asarray([[0, w, w, 0], [0, 0, h, h], [1, 1, 1, 1]])
        low, high = np.trunc(corners.min(axis=1) * 1e4) / 1e4, np.trunc(corners.max(axis=1) * 1e4) / 1e4  # not one more for 1e-15
        width, height = (int(n) for n in np.ceil(high) - np.floor(low))
        middle = corners.mean(axis=1)
        corner, size = (middle[0] - width / 2, middle[1] - height / 2), (height, width)
    return _moved(image, matrix, _mode("rotate", interpolation), fill, "rotate", corner, size)


def perspective_coefficients(startpoints: Sequence[Sequence[float]], endpoints: Sequence[Sequence[float]]) -> list[float]:
    """Give Pillow's eight numbers of the map that takes four ``endpoints`` (of the result) to ``startpoints`` (of the image).

    (x, y) of the result is looked up at ((a x + b y + c) / (g x + h y + 1), (d x + e y + f) / (g x + h y + 1)).
    """
    start, end = np.asarray(startpoints, dtype="float64"), np.asarray(endpoints, dtype="float64")
    if start.shape != (4, 2) or end.shape != (4, 2):
        raise ValueError(f"perspective: startpoints and endpoints are four points (x, y) each, not of shapes {start.shape} and {end.shape}")
    rows = []
    for (x, y), (u, v) in zip(end, start, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    found: list[float] = np.linalg.lstsq(np.asarray(rows), start.reshape(-1), rcond=None)[0].tolist()
    return found


@on_images
def perspective(
    image: Any,
    startpoints: Sequence[Sequence[float]] | None,
    endpoints: Sequence[Sequence[float]] | None,
    interpolation: Any = InterpolationMode.BILINEAR,
    fill: Any = None,
    coefficients: Sequence[float] | None = None,
) -> Any:
    """Look at an image from elsewhere, so that ``startpoints`` of it come to ``endpoints``; or with the eight ``coefficients`` of Pillow."""
    if coefficients is None:
        if startpoints is None or endpoints is None:
            raise ValueError("perspective takes startpoints and endpoints, or coefficients")
        coefficients = perspective_coefficients(startpoints, endpoints)
    if len(coefficients) != 8:
        raise ValueError(f"perspective: coefficients are eight numbers, not {len(coefficients)}")
    a, b, c, d, e, f, g, h = coefficients
    x, y = _centres(*image.shape[-2:])
    below = g * x + h * y + 1
    below = np.where(below == 0, np.nan, below)
    at = [np.nan_to_num(top / below, nan=-1e6, posinf=-1e6, neginf=-1e6) for top in (a * x + b * y + c, d * x + e * y + f)]
    return _looked_up(image, at, _mode("perspective", interpolation), fill, "perspective")


@on_images
def elastic(image: Any, displacement: Any, interpolation: Any = InterpolationMode.BILINEAR, fill: Any = None) -> Any:
    """Look an image up at displaced places: ``displacement`` of shape (1, H, W, 2) holds (x, y), in halves of the width and of the height."""
    h, w = map(int, image.shape[-2:])
    moves = np.asarray(displacement, dtype="float64")
    if moves.shape != (1, h, w, 2):
        raise ValueError(f"elastic: displacement has the shape (1, {h}, {w}, 2), not {moves.shape}")
    x, y = _centres(h, w)
    at = x + moves[0, ..., 0] * w / 2, y + moves[0, ..., 1] * h / 2
    return _looked_up(image, at, _mode("elastic", interpolation), fill, "elastic")


def _mode(what: str, mode: Any) -> str:
    return interpolation(what, mode, MOVING)
