"""Rearranging channels and pixels, and looking images up at any place."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.rules import QUICK

__all__ = ["affine_grid", "channel_shuffle", "grid_sample", "native_channel_shuffle", "one_hot", "pixel_shuffle", "pixel_unshuffle"]

_astype = QUICK["astype"]
_gather = QUICK["gather"]
_hardtanh = QUICK["nn.hardtanh"]
_matmul = QUICK["matmul"]
_matrix_transpose = QUICK["matrix_transpose"]
_permute = QUICK["permute_dims"]
_reshape = QUICK["reshape"]


# --- pixels and channels ------------------------------------------------------------------------------------------------------------------
def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Make pixels of channels: (..., C r^2, H, W) becomes (..., C, H r, W r).

    Parameters
    ----------
    input : array
        Shape (..., C r^2, H, W).
    upscale_factor : int
        r.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.pixel_shuffle(np.arange(4.0).reshape(4, 1, 1), 2)
    array([[[0., 1.],
            [2., 3.]]])
    """
    *lead, c, h, w = _image("pixel_shuffle", input, upscale_factor, "upscale_factor")
    r = upscale_factor
    if c % (r * r):
        raise ValueError(f"pixel_shuffle: {c} channels (shape {tuple(input.shape)}) are no multiple of upscale_factor squared, {r * r}")
    n = len(lead)
    x = _permute(_reshape(input, (*lead, c // (r * r), r, r, h, w)), (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return _reshape(x, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """Make channels of pixels: (..., C, H r, W r) becomes (..., C r^2, H, W), the inverse of `pixel_shuffle`."""
    *lead, c, h, w = _image("pixel_unshuffle", input, downscale_factor, "downscale_factor")
    r = downscale_factor
    if h % r or w % r:
        raise ValueError(f"pixel_unshuffle: the height and width of shape {tuple(input.shape)} are no multiples of downscale_factor {r}")
    n = len(lead)
    x = _permute(_reshape(input, (*lead, c, h // r, r, w // r, r)), (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return _reshape(x, (*lead, c * r * r, h // r, w // r))


def _image(what: str, x: Any, factor: int, name: str) -> tuple[int, ...]:
    shape = tuple(x.shape)
    if len(shape) < 3:
        raise ValueError(f"{what} takes an input of 3 dimensions or more, (..., C, H, W), not of shape {shape}")
    if isinstance(factor, bool) or not isinstance(factor, int) or factor < 1:
        raise ValueError(f"{what}: {name} is an integer of 1 or more, not {factor!r}")
    return shape


def channel_shuffle(input: Any, groups: int) -> Any:
    """Divide the channels, the second axis, into groups, and take one of each group in turn (Zhang et al., "ShuffleNet", 2018)."""
    shape = tuple(input.shape)
    if len(shape) < 3 or isinstance(groups, bool) or not isinstance(groups, int) or groups < 1 or shape[1] % groups:
        raise ValueError(
            f"channel_shuffle takes an input of 3 dimensions or more, and a number of groups that divides the channels; got shape {shape} and "
            f"groups={groups}"
        )
    n, c, *rest = shape
    x = _permute(_reshape(input, (n, groups, c // groups, *rest)), (0, 2, 1, *range(3, len(shape) + 1)))
    return _reshape(x, shape)


native_channel_shuffle = channel_shuffle


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Give a 1 at the place that each class index names, and 0 at others.

    Parameters
    ----------
    tensor : array
        Integers of 0 or more, of any shape.
    num_classes : int
        The size of the new, last axis; by default one more than the largest index.

    Returns
    -------
    array
        Of the indices' dtype.
    """
    backend = tensor.backend if isinstance(tensor, Array) else backend_of(tensor)
    if backend.kind(tensor.dtype) != "i":
        raise TypeError(f"one_hot: class indices are integers, not {tensor.dtype}")
    if num_classes == -1:
        if 0 in tensor.shape:
            raise ValueError("one_hot: of no indices, the number of classes cannot be told; give num_classes")
        num_classes = int(unify([tensor])[0].max(tensor)) + 1
    raw = tensor.payload if isinstance(tensor, Array) else tensor
    library = lookup(raw)
    if library is not None and library.checks_bounds and 0 not in raw.shape:
        low, high = int(library.xp.min(raw)), int(library.xp.max(raw))
        if low < 0 or high >= num_classes:
            raise ValueError(f"one_hot: class indices lie between 0 and {num_classes - 1}; got {low if low < 0 else high}")
    xp = unify([tensor])[0]
    classes = xp.arange(num_classes, dtype=tensor.dtype, device=device_of(tensor))
    return _astype(_reshape(tensor, (*tensor.shape, 1)) == classes, tensor.dtype)


# --- images at any place ------------------------------------------------------------------------------------------------------------------
def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Any:
    """Give where affine maps take the places of an image: what `grid_sample` takes.

    Parameters
    ----------
    theta : array
        Shape (N, 2, 3) for images, or (N, 3, 4) for volumes.
    size : sequence of int
        The shape of the result of `grid_sample`: (N, C, H, W) or (N, C, D, H, W).
    align_corners : bool, optional
        Whether -1 and 1 are the centres of the corner elements, rather than the corners of them; False by default, with a warning.

    Returns
    -------
    array
        Shape (N, H, W, 2) or (N, D, H, W, 3).
    """
    align_corners = _aligned("affine_grid", align_corners)
    axes = len(size) - 2
    if axes not in (2, 3) or tuple(theta.shape[1:]) != (axes, axes + 1) or len(theta.shape) != 3 or theta.shape[0] != size[0]:
        raise ValueError(
            f"affine_grid: theta of shape {tuple(theta.shape)} does not fit {tuple(size)}: (N, 2, 3) for (N, C, H, W), or (N, 3, 4)"
        )
    if not unify([theta])[0].isdtype(theta.dtype, "real floating"):
        raise ValueError(f"affine_grid: theta has a real floating dtype, not {theta.dtype}")
    if min(size) <= 0:
        raise ValueError(f"affine_grid: sizes are 1 or more, not {tuple(size)}")
    lines = [np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(1) for n in size[2:]]
    lines = lines if align_corners else [line * ((n - 1) / n) for line, n in zip(lines, size[2:], strict=True)]
    grid = np.meshgrid(*lines, indexing="ij")
    points = np.stack([*grid[::-1], np.ones_like(grid[0])], axis=-1).reshape(-1, axes + 1)
    backend = theta.backend if isinstance(theta, Array) else backend_of(theta)
    there = backend.astype(backend.from_numpy(points, device_of(theta)), theta.dtype)
    return _reshape(_matmul(there, _matrix_transpose(theta)), (size[0], *size[2:], axes))


def grid_sample(input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None) -> Any:
    """Look images up at places.

    Parameters
    ----------
    input : array
        Shape (N, C, H, W) or (N, C, D, H, W).
    grid : array
        Places (x, y) or (x, y, z), between -1 and 1 inside the image: shape (N, H', W', 2) or (N, D', H', W', 3).
    mode : {"bilinear", "nearest", "bicubic"}
        How to mix the elements around a place; "bicubic" for images only.
    padding_mode : {"zeros", "border", "reflection"}
        What lies outside: zeros, the nearest element of the border, or the image's reflection.
    align_corners : bool, optional
        Whether -1 and 1 are the centres of the corner elements, rather than the corners of them; False by default, with a warning.

    Returns
    -------
    array
        Shape (N, C, H', W') or (N, C, D', H', W').

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> image = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> F.grid_sample(image, np.zeros((1, 1, 1, 2)), align_corners=False)
    array([[[[1.5]]]])
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"grid_sample: mode is 'bilinear', 'nearest' or 'bicubic', not {mode!r}")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"grid_sample: padding_mode is 'zeros', 'border' or 'reflection', not {padding_mode!r}")
    align_corners = _aligned("grid_sample", align_corners)
    shape, places = tuple(input.shape), tuple(grid.shape)
    axes = len(shape) - 2
    if axes not in (2, 3) or len(places) != axes + 2 or places[0] != shape[0] or places[-1] != axes:
        raise ValueError(
            f"grid_sample: an input of shape {shape} and a grid of shape {places} do not fit: (N, C, H, W) and (N, H', W', 2) are wanted, or "
            "(N, C, D, H, W) and (N, D', H', W', 3)"
        )
    if mode == "bicubic" and axes != 2:
        raise ValueError(f"grid_sample: mode='bicubic' takes images (N, C, H, W), not an input of shape {shape}")
    if 0 in shape[2:]:
        raise ValueError(f"grid_sample: an image has elements; got an input of shape {shape}")
    return _looked_up(input, grid, mode, padding_mode, align_corners)


def _aligned(what: str, align_corners: bool | None) -> bool:
    if align_corners is None:
        warnings.warn(f"{what}: align_corners is not given; False is taken", stacklevel=3)
    return bool(align_corners)


def _looked_up(x: Any, grid: Any, mode: str, padding: str, aligned: bool) -> Any:
    shape, places, sizes = tuple(x.shape), tuple(grid.shape[1:-1]), tuple(x.shape[2:])
    count, axes = math.prod(places), len(sizes)
    xp, (x, grid) = unify([x, grid])
    # pixels as rows of channels, those of all images end to end; the grid's coordinates are in the reverse order of the axes
    rows = _reshape(_permute(x, (0, *range(2, axes + 2), 1)), (-1, shape[1]))
    starts = xp.arange(shape[0], dtype=xp.int64, device=device_of(x)) * math.prod(sizes)
    starts = xp.reshape(starts, (-1, 1))
    grid = _reshape(grid, (shape[0], count, axes))
    sides = []
    for axis, n in enumerate(sizes):
        at = grid[..., axes - 1 - axis]
        at = (at + 1) * ((n - 1) / 2) if aligned else ((at + 1) * n - 1) / 2
        at = at if mode == "bicubic" else _inside(xp, at, n, padding, aligned)
        sides.append(_neighbours(xp, at, n, mode, padding, aligned))
    y = None
    for corner in itertools.product(*sides):
        index, weight = starts, None
        for axis, (place, factor) in enumerate(corner):
            index = index + place * math.prod(sizes[axis + 1 :])
            weight = factor if weight is None or factor is None else weight * factor
        values = _gather(rows, _reshape(index, (-1,)), axis=0)
        term = values if weight is None else values * _reshape(weight, (-1, 1))
        y = term if y is None else y + term
    y = _permute(_reshape(y, (shape[0], count, shape[1])), (0, 2, 1))
    return _reshape(y, (shape[0], shape[1], *places))


def _inside(xp: Any, at: Any, n: int, padding: str, aligned: bool) -> Any:
    """Bring places outside back, as ``padding`` says; those of zeros stay where they are."""
    if padding == "zeros":
        return at
    if padding == "reflection":
        low, span = (0.0, n - 1.0) if aligned else (-0.5, float(n))
        if span == 0:
            return at * 0
        d = xp.abs(at - low)
        d = xp.remainder(d, xp.full((), 2 * span, dtype=at.dtype, device=device_of(at)))
        at = xp.where(d > span, 2 * span - d, d) + low
    return _hardtanh(at, low=0.0, high=n - 1.0)


def _neighbours(xp: Any, at: Any, n: int, mode: str, padding: str, aligned: bool) -> list[tuple[Any, Any]]:
    """Give the elements next to the places along one axis of ``n``: their numbers, and their weights, with zeros for what lies outside."""
    low = QUICK["stop_gradient"](xp.round(at) if mode == "nearest" else xp.floor(at))
    part = at - low
    weights = [None] if mode == "nearest" else [1 - part, part] if mode == "bilinear" else _cubic_weights(part)
    found = []
    for k, weight in enumerate(weights):
        place = low + (k - 1 if mode == "bicubic" else k)
        if mode == "bicubic":
            place = _inside(xp, place, n, padding, aligned)
        there = (place >= 0) & (place <= n - 1)
        number = _astype(xp.where(there, place, xp.zeros_like(place)), xp.int64)
        if padding == "zeros":
            kept = _astype(there, at.dtype)
            weight = kept if weight is None else weight * kept
        found.append((number, weight))
    return found


def _cubic_weights(part: Any) -> list[Any]:
    """Give the weights of four neighbours, the second of which lies ``part`` below the place (Keys, 1981, with PyTorch's -0.75)."""
    a = -0.75

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]
