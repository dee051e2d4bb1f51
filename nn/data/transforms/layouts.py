"""Which axes of an array are rows, columns and channels. It is told here, and nowhere else.

Every function of `functional` works on (..., C, H, W); `on_images` brings what it gets into that form, and the result back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import agnostic_ad as ad
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import is_raw

__all__ = ["check_layout", "dimensions", "is_array", "layout", "layout_of", "on_images"]

LAYOUTS = ("CHW", "HWC", "HW")
_DECLARED: ContextVar[str | None] = ContextVar("agnostic_ad_image_layout", default=None)


def is_array(x: Any) -> bool:
    """Tell whether ``x`` is an array, raw or a Variable."""
    return isinstance(x, Array) or is_raw(x)


def check_layout(name: str | None) -> str | None:
    """Give the name of a layout, or refuse it."""
    if name is not None and name not in LAYOUTS:
        raise ValueError(f"layout is 'CHW', 'HWC' or 'HW' (what the last axes are), not {name!r}")
    return name


@contextmanager
def layout(name: str | None) -> Iterator[None]:
    """Say what the last axes of images are, where their shapes and dtypes leave it open; None: leave it to these.

    Parameters
    ----------
    name : {"CHW", "HWC", "HW"}, optional
        The last axes; those before them count images.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> grey = np.zeros((64, 28, 28), dtype="uint8")  # 64 images
    >>> with T.layout("HW"):
    ...     T.functional.resize(grey, [14, 14]).shape
    (64, 14, 14)
    """
    token = _DECLARED.set(check_layout(name) or _DECLARED.get())
    try:
        yield
    finally:
        _DECLARED.reset(token)


def layout_of(x: Any, what: str = "layout_of") -> str:
    """Tell "CHW", "HWC" or "HW" of an array.

    What is declared with `layout` holds. Two axes are rows and columns. Of more, the channels are the last axis or the third from the end:
    the one that has 1 or 3 elements (or, where neither has, 2 or 4). Where both have, the dtype decides: integers are (..., H, W, C), as
    files and cameras give them, and floating-point numbers (..., C, H, W), as models take them. Where neither has, floating-point numbers
    are (..., C, H, W), and integers are refused.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data.transforms import layout_of
    >>> layout_of(np.zeros((32, 32, 3), "uint8")), layout_of(np.zeros((8, 3, 32, 32), "float32")), layout_of(np.zeros((28, 28)))
    ('HWC', 'CHW', 'HW')
    """
    shape, declared = tuple(x.shape), _DECLARED.get()
    if len(shape) < 2 or (declared in ("CHW", "HWC") and len(shape) < 3):
        raise ValueError(f"{what} takes images of shape (..., C, H, W), (..., H, W, C) or (H, W), not an array of shape {shape}")
    if declared is not None:
        return declared
    if len(shape) == 2:
        return "HW"
    floating = ad.namespace(x).isdtype(x.dtype, "real floating")
    for channels in ((1, 3), (2, 4)):
        first, last = shape[-3] in channels, shape[-1] in channels
        if first or last:
            return "CHW" if first and (floating or not last) else "HWC"
    if not floating:
        raise ValueError(
            f"{what}: which axis of shape {shape} and dtype {x.dtype} holds the channels cannot be told: give layout='CHW', 'HWC', or 'HW' if there is none"
        )
    return "CHW"


def dimensions(x: Any, what: str = "dimensions") -> tuple[int, int, int]:
    """Give the numbers of channels, rows and columns of an image."""
    shape = tuple(x.shape)
    c, h, w = {"CHW": shape[-3:], "HWC": (shape[-1], *shape[-3:-1]), "HW": (1, *shape[-2:])}[layout_of(x, what)]
    return c, h, w


def on_images(kernel: Callable[..., Any]) -> Any:
    """Make a function of (..., C, H, W) one of images of any layout; the kernel itself stays at hand as ``chw``."""

    @functools.wraps(kernel)
    def function(image: Any, *args: Any, **kwargs: Any) -> Any:
        check_image(image, kernel.__name__)
        how = layout_of(image, kernel.__name__)
        result = kernel(_to_chw(image, how), *args, **kwargs)
        return tuple(_from_chw(y, how) for y in result) if isinstance(result, tuple) else _from_chw(result, how)

    function.chw = kernel  # type: ignore[attr-defined]
    return function


def check_image(x: Any, what: str) -> None:
    """Refuse what is no array of real numbers with pixels in it."""
    if not is_array(x):
        hint = "; PILToTensor() or ToImage() before it makes one" if type(x).__module__.startswith("PIL.") else ""
        raise TypeError(f"{what} takes an array, not {type(x).__name__}{hint}")
    if not ad.namespace(x).isdtype(x.dtype, ("integral", "real floating")):
        raise TypeError(f"{what} takes integers or real floating-point numbers, not an array of dtype {x.dtype}")
    if 0 in tuple(x.shape)[-3:]:
        raise ValueError(f"{what}: an image has pixels and channels; got an array of shape {tuple(x.shape)}")


def _to_chw(x: Any, how: str) -> Any:
    if how == "CHW":
        return x
    xp = ad.namespace(x)
    return xp.moveaxis(x, -1, -3) if how == "HWC" else xp.expand_dims(x, axis=-3)


def _from_chw(x: Any, how: str) -> Any:
    if how == "CHW":
        return x
    if how == "HW" and x.shape[-3] == 1:
        return x[..., 0, :, :]
    return ad.namespace(x).moveaxis(x, -3, -1)
