"""What pixels of a dtype are: their range, the numbers to compute with, and the way back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.data.transforms.layouts import is_array

__all__ = ["bound", "channels", "check_channels", "filled", "flat", "floating", "narrow", "there", "wide"]


def floating(x: Any) -> bool:
    """Tell whether ``x`` holds floating-point numbers."""
    return bool(ad.namespace(x).isdtype(x.dtype, "real floating"))


def bound(x: Any) -> float:
    """Give the value of white: 1 for floating-point numbers, the largest integer for integers."""
    return 1.0 if floating(x) else int(ad.namespace(x).iinfo(x.dtype).max)


def wide(x: Any) -> Any:
    """Give integers as floating-point numbers that hold them: float32 for up to 16 bits, else float64."""
    if floating(x):
        return x
    xp = ad.namespace(x)
    return xp.astype(x, xp.float32 if xp.iinfo(x.dtype).bits <= 16 else xp.float64)


def narrow(y: Any, like: Any, rounded: bool = False) -> Any:
    """Give results in the dtype of ``like``: integers are clipped to 0 and white, and rounded down, or to the nearest."""
    if floating(like):
        return y
    xp = ad.namespace(y)
    white = float(bound(like))
    white = white if int(white) <= bound(like) else math.nextafter(white, 0.0)  # 2^63 - 1 is no float64
    y = xp.clip(xp.round(y) if rounded else y, 0.0, white)
    return xp.astype(y, like.dtype)


def clipped(y: Any, like: Any) -> Any:
    """Give results between black and white, in the dtype of ``like``."""
    return narrow(ad.namespace(y).clip(y, 0.0, 1.0) if floating(like) else y, like)


def there(x: Any, numbers: Any, dtype: Any = None) -> Any:
    """Give an array of the host in the library of ``x``, on its device."""
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    made = backend.from_numpy(np.ascontiguousarray(numbers), device_of(x))
    return made if dtype is None else backend.astype(made, dtype)


def flat(x: Any) -> tuple[Any, tuple[int, ...]]:
    """Give (..., C, H, W) as (N, C, H, W), and what stood before."""
    lead = tuple(x.shape[:-3])
    count = 1
    for n in lead:
        count *= n
    return ad.namespace(x).reshape(x, (count, *x.shape[-3:])), lead


def channels(x: Any) -> int:
    """Give the number of channels of (..., C, H, W)."""
    return int(x.shape[-3])


def check_channels(what: str, x: Any, known: tuple[int, ...] = (1, 3)) -> None:
    """Refuse images with other numbers of channels."""
    if channels(x) not in known:
        raise ValueError(f"{what} takes images of {' or '.join(map(str, known))} channels, and these have {channels(x)}")


def filled(what: str, x: Any, fill: Any) -> np.ndarray[Any, Any]:
    """Give the fill's value for each channel, of shape (C or 1, 1, 1), or refuse it; None is black."""
    values = np.asarray(0.0 if fill is None else fill, dtype="float64")
    if values.ndim > 1 or values.size not in (1, channels(x)):
        raise ValueError(f"{what}: fill is a number, or one for each of the {channels(x)} channels, not {fill!r}")
    check_held(what, x, values, f"fill={fill!r}")
    return values.reshape(-1, 1, 1)


def check_held(what: str, x: Any, values: np.ndarray[Any, Any], name: str) -> None:
    """Refuse numbers that are not within the range of an integer dtype."""
    limits = None if floating(x) else ad.namespace(x).iinfo(x.dtype)
    if limits is not None and not ((values >= limits.min) & (values <= limits.max)).all():
        raise ValueError(f"{what}: {name} is not within what the image's dtype {x.dtype} holds, {limits.min} to {limits.max}")


def raw(x: Any) -> Any:
    """Give a Variable's array."""
    return x.detach().payload if isinstance(x, ad.Variable) else x


def on_host(x: Any) -> np.ndarray[Any, Any]:
    """Give an array of any library, or a list, as one of NumPy."""
    x = raw(x)
    return np.asarray(backend_of(x).to_numpy(x) if is_array(x) else x)


def numbers(what: str, name: str, values: Any) -> np.ndarray[Any, Any]:
    """Give a number or a list of numbers as a NumPy vector."""
    found = on_host(values)
    if found.ndim > 1 or found.size == 0 or found.dtype.kind not in "iuf":
        raise ValueError(f"{what}: {name} is a number, or one for each channel, not {values!r:.60}")
    return found.astype("float64").reshape(-1)
