"""Dtypes, Pillow's images, and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.config import dtype_name
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.data.transforms.functional.pixels import bound, channels, floating, numbers, on_host, there
from agnostic_ad.nn.data.transforms.layouts import dimensions, is_array, layout_of, on_images

__all__ = [
    "convert_image_dtype",
    "get_dimensions",
    "get_num_channels",
    "get_size",
    "normalize",
    "pil_to_tensor",
    "to_dtype",
    "to_image",
    "to_pil_image",
    "to_tensor",
]


def get_dimensions(image: Any) -> list[int]:
    """Give the numbers of channels, rows and columns."""
    return list(dimensions(image, "get_dimensions"))


def get_num_channels(image: Any) -> int:
    """Give the number of channels."""
    return dimensions(image, "get_num_channels")[0]


def get_size(image: Any) -> list[int]:
    """Give the numbers of rows and columns."""
    return list(dimensions(image, "get_size")[1:])


def value_bits(xp: Any, dtype: Any) -> int:
    """Give how many bits of an integer dtype hold its value."""
    return int(xp.iinfo(dtype).max).bit_length()


def to_dtype(image: Any, dtype: Any = "float32", scale: bool = False) -> Any:
    """Give an array in another dtype; with ``scale``, so that white stays white: 1 in floating point, the largest integer of others.

    Parameters
    ----------
    image : array
        Integers or real floating-point numbers, of any shape.
    dtype : dtype or str
        The library's own, or its name.
    scale : bool
        Whether to scale. From floating point to integers, x becomes the whole part of x (largest + 0.999); between integers, bits are shifted.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data.transforms import functional as TF
    >>> TF.to_dtype(np.asarray([0, 51, 255], "uint8"), "float32", scale=True)
    array([0. , 0.2, 1. ], dtype=float32)
    """
    if not is_array(image):
        raise TypeError(f"to_dtype takes an array, not {type(image).__name__}")
    xp = ad.namespace(image)
    backend = image.backend if isinstance(image, Array) else backend_of(image)
    new = backend.dtype(dtype_name(dtype))
    if new == image.dtype:
        return image
    if not scale:
        return xp.astype(image, new)
    if not all(xp.isdtype(d, ("integral", "real floating")) for d in (new, image.dtype)):
        raise TypeError(f"to_dtype: scale=True goes with integers and real floating-point numbers, not from {image.dtype} to {new}")
    into_floating = xp.isdtype(new, "real floating")
    if floating(image):
        if into_floating:
            return xp.astype(image, new)
        if xp.iinfo(new).bits > (16 if dtype_name(image.dtype) == "float32" else 32):
            raise ValueError(f"to_dtype: {image.dtype} does not hold all values of {new}; scale to fewer bits")
        return xp.astype(image * (xp.iinfo(new).max + 1.0 - 1e-3), new)
    if into_floating:
        return xp.astype(image, new) / bound(image)
    shift = value_bits(xp, new) - value_bits(xp, image.dtype)
    if shift < 0:
        return xp.astype(xp.bitwise_right_shift(image, xp.full_like(image, -shift)), new)
    y = xp.astype(image, new)
    return xp.bitwise_left_shift(y, xp.full_like(y, shift))


def convert_image_dtype(image: Any, dtype: Any = "float32") -> Any:
    """Give `to_dtype` with ``scale=True``, under its former name."""
    return to_dtype(image, dtype, scale=True)


def _from_pillow(image: Any) -> Any:
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    x = np.array(
        image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode in ("P", "YCbCr", "CMYK", "HSV", "LAB") else image
    )
    return x


def _is_pillow(x: Any) -> bool:
    return type(x).__module__.startswith("PIL.") and hasattr(x, "convert")


def pil_to_tensor(image: Any) -> Any:
    """Give an image of Pillow as an array (C, H, W) of NumPy, without scaling. Palettes become red, green and blue."""
    if not _is_pillow(image):
        raise TypeError(f"pil_to_tensor takes an image of Pillow, not {type(image).__name__}; to_image takes both")
    x = _from_pillow(image)
    return np.ascontiguousarray(x[None] if x.ndim == 2 else np.moveaxis(x, -1, -3))


def to_image(inpt: Any) -> Any:
    """Give an image of Pillow, or an array (H, W) or (H, W, C), as an array (C, H, W), without scaling; one that is (C, H, W) stays."""
    if _is_pillow(inpt):
        return pil_to_tensor(inpt)
    if not is_array(inpt):
        raise TypeError(f"to_image takes an array or an image of Pillow, not {type(inpt).__name__}")
    xp, how = ad.namespace(inpt), layout_of(inpt, "to_image")
    return inpt if how == "CHW" else xp.moveaxis(inpt, -1, -3) if how == "HWC" else xp.expand_dims(inpt, axis=-3)


def to_tensor(pic: Any) -> Any:
    """Give what `to_image` gives; uint8 as float32 between 0 and 1."""
    x = to_image(pic)
    return to_dtype(x, "float32", scale=True) if dtype_name(x.dtype) == "uint8" else x


def to_pil_image(image: Any, mode: str | None = None) -> Any:
    """Give one image, an array of any library, as one of Pillow; floating-point numbers between 0 and 1 become uint8.

    Parameters
    ----------
    image : array
        (C, H, W), (H, W, C) or (H, W), with 1 to 4 channels; uint8, int16, int32, or floating-point numbers.
    mode : str, optional
        Pillow's name of what the channels are; by default "L", "LA", "RGB" or "RGBA".
    """
    from PIL import Image

    x = to_image(image)
    if len(x.shape) != 3 or channels(x) > 4:
        raise ValueError(f"to_pil_image takes one image of 1 to 4 channels, not an array of shape {tuple(image.shape)}")
    host = on_host(x)
    if host.dtype.kind == "f" and mode != "F":
        host = to_dtype(np.clip(host, 0.0, 1.0), "uint8", scale=True)
    host = np.ascontiguousarray(host[0] if host.shape[0] == 1 else np.moveaxis(host, 0, -1))
    if host.dtype not in ("uint8", "int16", "int32", "float32") or (host.ndim == 3 and host.dtype != "uint8"):
        raise TypeError(f"to_pil_image: Pillow has no image of {channels(x)} channels of dtype {host.dtype}; convert to uint8")
    made = Image.fromarray(host)
    if mode is None or made.mode == mode:
        return made
    if len(Image.getmodebands(mode) * "x") != channels(x):
        raise ValueError(f"to_pil_image: mode={mode!r} has {Image.getmodebands(mode)} channels, and the image {channels(x)}")
    return Image.frombytes(mode, made.size, made.tobytes())


@on_images
def normalize(image: Any, mean: Any, std: Any, inplace: bool = False) -> Any:
    """Give (image - mean) / std, channel by channel.

    Parameters
    ----------
    image : array
        Floating-point numbers: (..., C, H, W), (..., H, W, C) or (H, W).
    mean, std : number or sequence of number
        One for all, or one for each channel; no std is 0.
    inplace : bool
        Accepted for torchvision's sake; the result is a new array.
    """
    if not floating(image):
        raise TypeError(f"normalize takes floating-point numbers, not dtype {image.dtype}: put ToDtype('float32', scale=True) before it")
    shift, width = normalizers(mean, std)
    for name, values in (("mean", shift), ("std", width)):
        if len(values) not in (1, channels(image)):
            raise ValueError(f"normalize: {name} has {len(values)} values, and the images have {channels(image)} channels")
    a, b = (there(image, v.reshape(-1, 1, 1), image.dtype) for v in (shift, width))
    return (image - a) / b


def normalizers(mean: Any, std: Any, what: str = "normalize") -> tuple[Any, Any]:
    """Give mean and std as vectors of the host, or refuse them."""
    shift, width = numbers(what, "mean", mean), numbers(what, "std", std)
    if not (width > 0).all():
        raise ValueError(f"{what}: std is above 0 for every channel, not {list(map(float, width)) if isinstance(std, Sequence) else std!r}")
    return shift, width
