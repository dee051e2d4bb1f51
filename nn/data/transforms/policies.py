"""Learned and random sequences of transforms: AutoAugment and what followed it."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Any

import agnostic_ad as ad
from agnostic_ad.nn.data.transforms import functional as TF
from agnostic_ad.nn.data.transforms.arguments import MOVING, InterpolationMode, interpolation, is_number
from agnostic_ad.nn.data.transforms.base import Transform
from agnostic_ad.nn.data.transforms.functional.pixels import bound, narrow, there, wide
from agnostic_ad.nn.data.transforms.layouts import layout_of

__all__ = ["AugMix", "AutoAugment", "AutoAugmentPolicy", "RandAugment", "TrivialAugmentWide"]

NEAREST = InterpolationMode.NEAREST

Step = tuple[str, float]
"""An operation, and its strength."""

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Identity": lambda image, m, **move: image,
    "ShearX": lambda image, m, **move: TF.affine(image, 0.0, (0, 0), 1.0, (math.degrees(math.atan(m)), 0.0), center=(0, 0), **move),
    "ShearY": lambda image, m, **move: TF.affine(image, 0.0, (0, 0), 1.0, (0.0, math.degrees(math.atan(m))), center=(0, 0), **move),
    "TranslateX": lambda image, m, **move: TF.affine(image, 0.0, (int(m), 0), 1.0, (0.0, 0.0), **move),
    "TranslateY": lambda image, m, **move: TF.affine(image, 0.0, (0, int(m)), 1.0, (0.0, 0.0), **move),
    "Rotate": lambda image, m, **move: TF.rotate(image, m, **move),
    "Brightness": lambda image, m, **move: TF.adjust_brightness(image, 1.0 + m),
    "Color": lambda image, m, **move: TF.adjust_saturation(image, 1.0 + m),
    "Contrast": lambda image, m, **move: TF.adjust_contrast(image, 1.0 + m),
    "Sharpness": lambda image, m, **move: TF.adjust_sharpness(image, 1.0 + m),
    "Posterize": lambda image, m, **move: TF.posterize(image, int(m)),
    "Solarize": lambda image, m, **move: TF.solarize(image, m * bound(image)),
    "AutoContrast": lambda image, m, **move: TF.autocontrast(image),
    "Equalize": lambda image, m, **move: TF.equalize(image),
    "Invert": lambda image, m, **move: TF.invert(image),
}
_SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness"}
_WITHOUT = {"Identity", "AutoContrast", "Equalize", "Invert"}
_MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_TONES = ("Brightness", "Color", "Contrast", "Sharpness")
_VALUES = ("Posterize", "Solarize", "AutoContrast", "Equalize")

Strengths = Callable[[float, int, int], dict[str, float]]
"""From a part between 0 and 1, the height and the width: how strong each operation is."""


def _paper(part: float, h: int, w: int) -> dict[str, float]:
    tones = dict.fromkeys(_TONES, 0.9 * part)
    moves = {"ShearX": 0.3 * part, "ShearY": 0.3 * part, "TranslateX": 150 / 331 * w * part, "TranslateY": 150 / 331 * h * part}
    return {**moves, "Rotate": 30 * part, **tones, "Posterize": round(8 - 4 * part), "Solarize": 1 - part}


def _wide(part: float, h: int, w: int) -> dict[str, float]:
    tones = dict.fromkeys((*_TONES, "ShearX", "ShearY"), 0.99 * part)
    moves = {"TranslateX": 32 * part, "TranslateY": 32 * part, "Rotate": 135 * part}
    return {**moves, **tones, "Posterize": round(8 - 6 * part), "Solarize": 1 - part}


def _mixing(part: float, h: int, w: int) -> dict[str, float]:
    return {**_paper(part, h, w), "TranslateX": w / 3 * part, "TranslateY": h / 3 * part, "Posterize": round(4 - 4 * part)}


class _Policy(Transform):
    strengths: Strengths = staticmethod(_paper)

    def __init__(self, interpolation_mode: Any, fill: Any, **options: Any) -> None:
        super().__init__(**options)
        self.interpolation, self.fill = interpolation(self.name, interpolation_mode, MOVING), fill

    def step(self, operation: str, part: float, h: int, w: int) -> Step:
        """Give an operation and its strength, with a random sign where it has one."""
        if operation in _WITHOUT:
            return operation, 0.0
        strength = self.strengths(part, h, w)[operation]
        return operation, -strength if operation in _SIGNED and self.rng.random() < 0.5 else strength

    def pick(self, operations: tuple[str, ...]) -> str:
        """Draw one of them."""
        return operations[int(self.rng.integers(len(operations)))]

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply the operations."""
        return self.applied(inpt, params["steps"])

    def applied(self, image: Any, steps: list[Step]) -> Any:
        """Apply some operations."""
        for operation, strength in steps:
            image = _OPERATIONS[operation](image, strength, interpolation=self.interpolation, fill=self.fill)
        return image


def _integer(what: str, name: str, value: Any, low: int, high: float = math.inf) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or not low <= value <= high:
        within = f"of {low} or more" if math.isinf(high) else f"between {low} and {high}"
        raise ValueError(f"{what}: {name} is an integer {within}, not {value!r}")
    return int(value)


class AutoAugmentPolicy(Enum):
    """The data set that a policy was learned on."""

    IMAGENET = "imagenet"
    CIFAR10 = "cifar10"
    SVHN = "svhn"


class AutoAugment(_Policy):
    """One of 25 learned pairs of operations, each with a probability of its own.

    Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", 2019, whose tables A.1 to A.3 are the policies.

    Parameters
    ----------
    policy : AutoAugmentPolicy
        IMAGENET, CIFAR10 or SVHN; or its name.
    interpolation : InterpolationMode
        NEAREST or BILINEAR.
    fill : number or sequence of number, optional
        What lies beyond the edge; black by default.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(self, policy: Any = AutoAugmentPolicy.IMAGENET, interpolation: Any = NEAREST, fill: Any = None, **options: Any) -> None:
        super().__init__(interpolation, fill, **options)
        name = policy.value if isinstance(policy, AutoAugmentPolicy) else str(policy).lower()
        if name not in _POLICIES:
            raise ValueError(f"AutoAugment: policy is one of {', '.join(map(repr, _POLICIES))}, not {policy!r}")
        self.policy = AutoAugmentPolicy(name)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the pair, and what is done of it."""
        _, h, w = self.dimensions(flat_inputs)
        table = _POLICIES[self.policy.value]
        chosen = table[int(self.rng.integers(len(table)))]
        return {"steps": [self.step(op, (level or 0) / 9, h, w) for op, p, level in chosen if self.rng.random() < p]}


class RandAugment(_Policy):
    """Random operations, all of one strength.

    Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2020.

    Parameters
    ----------
    num_ops : int
        How many, one after the other.
    magnitude : int
        The strength, from 0 to ``num_magnitude_bins`` - 1.
    num_magnitude_bins : int
        The number of strengths.
    interpolation, fill
        As for `AutoAugment`.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: Any = NEAREST,
        fill: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(interpolation, fill, **options)
        self.num_ops = _integer(self.name, "num_ops", num_ops, 0)
        self.num_magnitude_bins = _integer(self.name, "num_magnitude_bins", num_magnitude_bins, 2)
        self.magnitude = _integer(self.name, "magnitude", magnitude, 0, self.num_magnitude_bins - 1)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the operations."""
        _, h, w = self.dimensions(flat_inputs)
        part = self.magnitude / (self.num_magnitude_bins - 1)
        return {"steps": [self.step(self.pick(("Identity", *_MOVES, *_TONES, *_VALUES)), part, h, w) for _ in range(self.num_ops)]}


class TrivialAugmentWide(_Policy):
    """One random operation of a random strength.

    Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", 2021. The arguments are those of `RandAugment`.
    """

    strengths = staticmethod(_wide)

    def __init__(self, num_magnitude_bins: int = 31, interpolation: Any = NEAREST, fill: Any = None, **options: Any) -> None:
        super().__init__(interpolation, fill, **options)
        self.num_magnitude_bins = _integer(self.name, "num_magnitude_bins", num_magnitude_bins, 2)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the operation and its strength."""
        _, h, w = self.dimensions(flat_inputs)
        operation = self.pick(("Identity", *_MOVES, *_TONES, *_VALUES))
        part = int(self.rng.integers(self.num_magnitude_bins)) / (self.num_magnitude_bins - 1)
        return {"steps": [self.step(operation, part, h, w)]}


class AugMix(_Policy):
    """A random mixture of the image and of a few chains of operations on it.

    Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty", 2020.

    Parameters
    ----------
    severity : int
        The strongest operations, from 1 to 10.
    mixture_width : int
        The number of chains.
    chain_depth : int
        Their length; drawn from 1 to 3 where it is not positive.
    alpha : float
        Of the Dirichlet and beta distributions of the parts.
    all_ops : bool
        Whether brightness, colour, contrast and sharpness are among the operations.
    interpolation, fill
        As for `AutoAugment`.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    strengths = staticmethod(_mixing)

    def __init__(
        self,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: Any = InterpolationMode.BILINEAR,
        fill: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(interpolation, fill, **options)
        self.severity, self.mixture_width = (
            _integer(self.name, "severity", severity, 1, 10),
            _integer(self.name, "mixture_width", mixture_width, 1),
        )
        self.chain_depth, self.all_ops = chain_depth, all_ops
        if not is_number(alpha) or alpha <= 0:
            raise ValueError(f"AugMix: alpha is a number above 0, not {alpha!r}")
        self.alpha = float(alpha)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the chains and their parts; each image of a batch has parts of its own."""
        _, h, w = self.dimensions(flat_inputs)
        axes = {"CHW": 3, "HWC": 3, "HW": 2}[layout_of(flat_inputs[0], self.name)]
        lead = tuple(map(int, flat_inputs[0].shape[:-axes]))
        own = self.rng.beta(self.alpha, self.alpha, lead)
        parts = self.rng.dirichlet([self.alpha] * self.mixture_width, lead) * (1 - own)[..., None]
        operations = (*_MOVES, *_VALUES, *(_TONES if self.all_ops else ()))
        chains = []
        for _ in range(self.mixture_width):
            depth = self.chain_depth if self.chain_depth > 0 else int(self.rng.integers(1, 4))
            chains.append([self.step(self.pick(operations), int(self.rng.integers(self.severity)) / 9, h, w) for _ in range(depth)])
        return {"own": own.reshape(*lead, *(1,) * axes), "parts": parts.reshape(*lead, *(1,) * axes, self.mixture_width), "chains": chains}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mix."""
        like = wide(inpt)
        mix = like * there(inpt, params["own"], like.dtype)
        for i, chain in enumerate(params["chains"]):
            mix = mix + wide(self.applied(inpt, chain)) * there(inpt, params["parts"][..., i], like.dtype)
        return narrow(ad.namespace(mix).reshape(mix, tuple(inpt.shape)), inpt)


def _table(text: str) -> list[list[tuple[str, float, int | None]]]:
    """Read lines of pairs: name, probability and level, which is left out where the operation has none."""
    found = []
    for line in text.strip().splitlines():
        pair = []
        for each in line.split("|"):
            name, p, *level = each.split()
            pair.append((name, float(p), int(level[0]) if level else None))
        found.append(pair)
    return found


_POLICIES = {
    "imagenet": _table("""
        Posterize 0.4 8 | Rotate 0.6 9
        Solarize 0.6 5 | AutoContrast 0.6
        Equalize 0.8 | Equalize 0.6
        Posterize 0.6 7 | Posterize 0.6 6
        Equalize 0.4 | Solarize 0.2 4
        Equalize 0.4 | Rotate 0.8 8
        Solarize 0.6 3 | Equalize 0.6
        Posterize 0.8 5 | Equalize 1.0
        Rotate 0.2 3 | Solarize 0.6 8
        Equalize 0.6 | Posterize 0.4 6
        Rotate 0.8 8 | Color 0.4 0
        Rotate 0.4 9 | Equalize 0.6
        Equalize 0.0 | Equalize 0.8
        Invert 0.6 | Equalize 1.0
        Color 0.6 4 | Contrast 1.0 8
        Rotate 0.8 8 | Color 1.0 2
        Color 0.8 8 | Solarize 0.8 7
        Sharpness 0.4 7 | Invert 0.6
        ShearX 0.6 5 | Equalize 1.0
        Color 0.4 0 | Equalize 0.6
        Equalize 0.4 | Solarize 0.2 4
        Solarize 0.6 5 | AutoContrast 0.6
        Invert 0.6 | Equalize 1.0
        Color 0.6 4 | Contrast 1.0 8
        Equalize 0.8 | Equalize 0.6
    """),
    "cifar10": _table("""
        Invert 0.1 | Contrast 0.2 6
        Rotate 0.7 2 | TranslateX 0.3 9
        Sharpness 0.8 1 | Sharpness 0.9 3
        ShearY 0.5 8 | TranslateY 0.7 9
        AutoContrast 0.5 | Equalize 0.9
        ShearY 0.2 7 | Posterize 0.3 7
        Color 0.4 3 | Brightness 0.6 7
        Sharpness 0.3 9 | Brightness 0.7 9
        Equalize 0.6 | Equalize 0.5
        Contrast 0.6 7 | Sharpness 0.6 5
        Color 0.7 7 | TranslateX 0.5 8
        Equalize 0.3 | AutoContrast 0.4
        TranslateY 0.4 3 | Sharpness 0.2 6
        Brightness 0.9 6 | Color 0.2 8
        Solarize 0.5 2 | Invert 0.0
        Equalize 0.2 | AutoContrast 0.6
        Equalize 0.2 | Equalize 0.6
        Color 0.9 9 | Equalize 0.6
        AutoContrast 0.8 | Solarize 0.2 8
        Brightness 0.1 3 | Color 0.7 0
        Solarize 0.4 5 | AutoContrast 0.9
        TranslateY 0.9 9 | TranslateY 0.7 9
        AutoContrast 0.9 | Solarize 0.8 3
        Equalize 0.8 | Invert 0.1
        TranslateY 0.7 9 | AutoContrast 0.9
    """),
    "svhn": _table("""
        ShearX 0.9 4 | Invert 0.2
        ShearY 0.9 8 | Invert 0.7
        Equalize 0.6 | Solarize 0.6 6
        Invert 0.9 | Equalize 0.6
        Equalize 0.6 | Rotate 0.9 3
        ShearX 0.9 4 | AutoContrast 0.8
        ShearY 0.9 8 | Invert 0.4
        ShearY 0.9 5 | Solarize 0.2 6
        Invert 0.9 | AutoContrast 0.8
        Equalize 0.6 | Rotate 0.9 3
        ShearX 0.9 4 | Solarize 0.3 3
        ShearY 0.8 8 | Invert 0.7
        Equalize 0.9 | TranslateY 0.6 6
        Invert 0.9 | Equalize 0.6
        Contrast 0.3 3 | Rotate 0.8 4
        Invert 0.8 | TranslateY 0.0 2
        ShearY 0.7 6 | Solarize 0.4 8
        Invert 0.6 | Rotate 0.8 4
        ShearY 0.3 7 | TranslateX 0.9 3
        ShearX 0.1 6 | Invert 0.6
        Solarize 0.7 2 | TranslateY 0.6 7
        ShearY 0.8 4 | Invert 0.8
        ShearX 0.7 9 | TranslateY 0.8 3
        ShearY 0.8 5 | AutoContrast 0.7
        ShearX 0.7 2 | Invert 0.1
    """),
}
