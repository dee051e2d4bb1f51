"""Random brightness, colours and tones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agnostic_ad.nn.data.transforms import functional as TF
from agnostic_ad.nn.data.transforms.arguments import fraction, is_number, span
from agnostic_ad.nn.data.transforms.base import RandomTransform, Transform

__all__ = [
    "ColorJitter",
    "Grayscale",
    "RandomAdjustSharpness",
    "RandomAutocontrast",
    "RandomChannelPermutation",
    "RandomEqualize",
    "RandomGrayscale",
    "RandomInvert",
    "RandomPhotometricDistort",
    "RandomPosterize",
    "RandomSolarize",
]


class Grayscale(Transform):
    """Make images of 3 channels grey, of ``num_output_channels`` 1 or 3."""

    def __init__(self, num_output_channels: int = 1, **options: Any) -> None:
        super().__init__(**options)
        if num_output_channels not in (1, 3):
            raise ValueError(f"Grayscale: num_output_channels is 1 or 3, not {num_output_channels!r}")
        self.num_output_channels = num_output_channels

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Make it grey."""
        return TF.rgb_to_grayscale(inpt, self.num_output_channels)


class RandomGrayscale(RandomTransform):
    """Make images grey with probability ``p``; the number of channels stays."""

    def __init__(self, p: float = 0.1, **options: Any) -> None:
        super().__init__(p, **options)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Give the number of channels."""
        return {"num_output_channels": self.dimensions(flat_inputs)[0]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Make it grey."""
        return TF.rgb_to_grayscale(inpt, **params)


def _around(what: str, name: str, value: Any, center: float, low: float, high: float) -> tuple[float, float] | None:
    if value is None:
        return None
    if is_number(value):
        if value < 0:
            raise ValueError(f"{what}: {name} is a number of 0 or more, or a pair (min, max), not {value!r}")
        value = (max(center - value, low) if center else -value, center + value)
    found = span(what, name, tuple(value) if isinstance(value, Sequence) else value, low, high)
    return None if found == (center, center) else found


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue at random, in random order.

    Parameters
    ----------
    brightness, contrast, saturation : float or (float, float), optional
        The range of the factor; d stands for (max(0, 1 - d), 1 + d).
    hue : float or (float, float), optional
        The range of the turn, between -0.5 and 0.5; d stands for (-d, d).
    **options
        ``generator`` and ``layout``, as for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.ColorJitter(brightness=(2, 2))(np.full((1, 1, 3), 50, "uint8"))
    array([[[100, 100, 100]]], dtype=uint8)
    """

    def __init__(self, brightness: Any = None, contrast: Any = None, saturation: Any = None, hue: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.brightness = _around(self.name, "brightness", brightness, 1.0, 0.0, math.inf)
        self.contrast = _around(self.name, "contrast", contrast, 1.0, 0.0, math.inf)
        self.saturation = _around(self.name, "saturation", saturation, 1.0, 0.0, math.inf)
        self.hue = _around(self.name, "hue", hue, 0.0, -0.5, 0.5)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the order and the factors."""
        order = [_STEPS[i] for i in self.rng.permutation(4)]
        factors = {name: getattr(self, name) for name in _STEPS}
        drawn = {name: None if range_ is None else float(self.rng.uniform(*range_)) for name, range_ in factors.items()}
        return {"steps": [(name, drawn[name]) for name in order if drawn[name] is not None]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change them."""
        for name, factor in params["steps"]:
            inpt = _adjust(name, inpt, factor)
        return inpt


_STEPS = ("brightness", "contrast", "saturation", "hue")


def _adjust(name: str, image: Any, factor: float) -> Any:
    return getattr(TF, f"adjust_{name}")(image, factor)


class RandomPhotometricDistort(Transform):
    """Brightness, contrast, saturation, hue and the order of the channels, each with probability ``p`` (Liu et al., "SSD", 2016).

    Parameters
    ----------
    brightness, contrast, saturation, hue : (float, float)
        The ranges of the factors, as for `ColorJitter`.
    p : float
        The probability of each.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(
        self,
        brightness: Sequence[float] = (0.875, 1.125),
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: Sequence[float] = (-0.05, 0.05),
        p: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.brightness, self.contrast = span(self.name, "brightness", brightness, 0), span(self.name, "contrast", contrast, 0)
        self.saturation, self.hue = span(self.name, "saturation", saturation, 0), span(self.name, "hue", hue, -0.5, 0.5)
        self.p = fraction(self.name, "p", p)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw what is done: contrast comes before saturation and hue, or after."""
        drawn = {name: float(self.rng.uniform(*getattr(self, name))) for name in _STEPS if self.rng.random() < self.p}
        order = _STEPS if self.rng.random() < 0.5 else ("brightness", "saturation", "hue", "contrast")
        channels = self.dimensions(flat_inputs)[0]
        permutation = self.rng.permutation(channels).tolist() if self.rng.random() < self.p else None
        return {"steps": [(name, drawn[name]) for name in order if name in drawn], "permutation": permutation}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Distort."""
        for name, factor in params["steps"]:
            inpt = _adjust(name, inpt, factor)
        return inpt if params["permutation"] is None else TF.permute_channels(inpt, params["permutation"])


class RandomChannelPermutation(Transform):
    """Put the channels in random order."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the order."""
        return {"permutation": self.rng.permutation(self.dimensions(flat_inputs)[0]).tolist()}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Permute."""
        return TF.permute_channels(inpt, params["permutation"])


class RandomInvert(RandomTransform):
    """The negative, with probability ``p``."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Invert."""
        return TF.invert(inpt)


class RandomPosterize(RandomTransform):
    """Keep ``bits`` bits of each value, with probability ``p``."""

    def __init__(self, bits: int, p: float = 0.5, **options: Any) -> None:
        super().__init__(p, **options)
        if isinstance(bits, bool) or not hasattr(bits, "__index__") or not 0 <= bits <= 8:
            raise ValueError(f"RandomPosterize: bits is an integer between 0 and 8, not {bits!r}")
        self.bits = int(bits)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Posterize."""
        return TF.posterize(inpt, self.bits)


class RandomSolarize(RandomTransform):
    """The negative of values from ``threshold`` on, with probability ``p``."""

    def __init__(self, threshold: float, p: float = 0.5, **options: Any) -> None:
        super().__init__(p, **options)
        if not is_number(threshold):
            raise ValueError(f"RandomSolarize: threshold is a number, not {threshold!r}")
        self.threshold = threshold

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Solarize."""
        return TF.solarize(inpt, self.threshold)


class RandomAdjustSharpness(RandomTransform):
    """Sharpen (a factor above 1) or smooth (below 1), with probability ``p``."""

    def __init__(self, sharpness_factor: float, p: float = 0.5, **options: Any) -> None:
        super().__init__(p, **options)
        if not is_number(sharpness_factor) or sharpness_factor < 0:
            raise ValueError(f"RandomAdjustSharpness: sharpness_factor is a number of 0 or more, not {sharpness_factor!r}")
        self.sharpness_factor = sharpness_factor

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Sharpen."""
        return TF.adjust_sharpness(inpt, self.sharpness_factor)


class RandomAutocontrast(RandomTransform):
    """Stretch each channel from black to white, with probability ``p``."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Stretch."""
        return TF.autocontrast(inpt)


class RandomEqualize(RandomTransform):
    """Make all values of each channel about as frequent, with probability ``p``."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Equalize."""
        return TF.equalize(inpt)
