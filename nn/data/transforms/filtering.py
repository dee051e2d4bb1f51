"""Blur, noise, erasing, and the losses of JPEG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agnostic_ad.nn.data.transforms import functional as TF
from agnostic_ad.nn.data.transforms.arguments import is_number, span
from agnostic_ad.nn.data.transforms.base import RandomTransform, Transform
from agnostic_ad.nn.data.transforms.functional.filtering import check_kernel
from agnostic_ad.nn.data.transforms.functional.pixels import floating
from agnostic_ad.nn.data.transforms.layouts import layout_of

__all__ = ["JPEG", "GaussianBlur", "GaussianNoise", "RandomErasing"]


class GaussianBlur(Transform):
    """Blur with a Gaussian of a random width.

    Parameters
    ----------
    kernel_size : int or (int, int)
        How many pixels the kernel covers along x, and along y: odd numbers.
    sigma : float or (float, float)
        The standard deviation, or the range that it is drawn from.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(self, kernel_size: int | Sequence[int], sigma: Any = (0.1, 2.0), **options: Any) -> None:
        super().__init__(**options)
        self.kernel_size = check_kernel(self.name, kernel_size)
        self.sigma = span(self.name, "sigma", (sigma, sigma) if is_number(sigma) else sigma, 1e-9)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the width."""
        return {"sigma": float(self.rng.uniform(*self.sigma))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Blur."""
        return TF.gaussian_blur(inpt, self.kernel_size, **params)


class GaussianNoise(Transform):
    """Add normal noise of mean ``mean`` and standard deviation ``sigma``, in parts of white; ``clip`` keeps the result from black to white."""

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True, **options: Any) -> None:
        super().__init__(**options)
        if not is_number(mean) or not is_number(sigma) or sigma < 0:
            raise ValueError(f"GaussianNoise: mean is a number, and sigma one of 0 or more, not {mean!r} and {sigma!r}")
        self.mean, self.sigma, self.clip = mean, sigma, clip

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the noise, other numbers for each image of a batch."""
        lead = {"CHW": -3, "HWC": -3, "HW": -2}[layout_of(flat_inputs[0], self.name)]
        return {"noise": self.rng.standard_normal((*flat_inputs[0].shape[:lead], *self.dimensions(flat_inputs)))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Add it."""
        return TF.gaussian_noise(inpt, self.mean, self.sigma, self.clip, **params)


class JPEG(Transform):
    """Write and read as JPEG, of a ``quality`` between 1 and 100, or drawn from (min, max): uint8 images of 1 or 3 channels, with Pillow."""

    def __init__(self, quality: int | Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        given = tuple(quality) if isinstance(quality, Sequence) else (quality, quality)
        if len(given) != 2 or not all(hasattr(q, "__index__") and not isinstance(q, bool) for q in given):
            raise ValueError(f"JPEG: quality is an integer between 1 and 100, or (min, max), not {quality!r}")
        low, high = span(self.name, "quality", given, 1, 100)
        self.quality = int(low), int(high)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the quality."""
        return {"quality": int(self.rng.integers(self.quality[0], self.quality[1] + 1))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Write and read."""
        return TF.jpeg(inpt, **params)


class RandomErasing(RandomTransform):
    """With probability ``p``, put something else in place of a random rectangle (Zhong et al., "Random Erasing Data Augmentation", 2017).

    Parameters
    ----------
    p : float
        The probability.
    scale : (float, float)
        The range of the rectangle's area, in parts of the image's.
    ratio : (float, float)
        The range of its proportions, height by width, drawn evenly in their logarithm.
    value : number, sequence of number or "random"
        What is put there: one value, one for each channel, or standard normal noise.
    inplace : bool
        Accepted for torchvision's sake; the result is a new array.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: Any = 0.0,
        inplace: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(p, **options)
        self.scale, self.ratio = span(self.name, "scale", scale, 0, 1), span(self.name, "ratio", ratio, 1e-9)
        known = value == "random" if isinstance(value, str) else all(map(is_number, value if isinstance(value, Sequence) else [value]))
        if not known:
            raise ValueError(f"RandomErasing: value is a number, one for each channel, or 'random', not {value!r}")
        self.value, self.inplace = value, inplace

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the rectangle; after ten that do not fit, none."""
        c, height, width = self.dimensions(flat_inputs)
        if self.value == "random" and not floating(flat_inputs[0]):
            raise TypeError(
                f"RandomErasing: value='random' is normal noise, for floating point, not for {flat_inputs[0].dtype}: put ToDtype('float32', scale=True) "
                "before it"
            )
        if isinstance(self.value, Sequence) and self.value != "random" and len(self.value) not in (1, c):
            raise ValueError(f"RandomErasing: value has {len(self.value)} numbers, and the images have {c} channels")
        for _ in range(10):
            area = height * width * self.rng.uniform(*self.scale)
            ratio = math.exp(self.rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                v: Any = self.value
                if v == "random":
                    v = self.rng.standard_normal((c, h, w))
                elif isinstance(v, Sequence):
                    v = [[[float(one)]] for one in v]
                i, j = int(self.rng.integers(height - h + 1)), int(self.rng.integers(width - w + 1))
                return {"i": i, "j": j, "h": h, "w": w, "v": v}
        return {}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Erase."""
        return TF.erase(inpt, **params) if params else inpt
