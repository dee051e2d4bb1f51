"""Random rotation, affine and perspective maps, and elastic distortion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agnostic_ad.nn.data.transforms import functional as TF
from agnostic_ad.nn.data.transforms.arguments import MOVING, InterpolationMode, fraction, interpolation, is_number, pair, span
from agnostic_ad.nn.data.transforms.base import RandomTransform, Transform
from agnostic_ad.nn.data.transforms.functional.filtering import gaussian_blur
from agnostic_ad.nn.data.transforms.functional.warping import perspective_coefficients

__all__ = ["ElasticTransform", "RandomAffine", "RandomPerspective", "RandomRotation"]

NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR


def _angles(what: str, name: str, value: Any) -> tuple[float, float]:
    """Give (min, max) of a pair, or (-value, value) of a number."""
    if is_number(value):
        if value < 0:
            raise ValueError(f"{what}: {name} is a number of 0 or more, or a pair (min, max), not {value!r}")
        return -float(value), float(value)
    return span(what, name, value)


def _point(what: str, center: Any) -> tuple[float, float] | None:
    if center is not None and (not isinstance(center, Sequence) or len(center) != 2):
        raise ValueError(f"{what}: center is (x, y) in pixels, not {center!r}")
    return None if center is None else pair(what, "center", center)


class RandomRotation(Transform):
    """Turn by random degrees, anticlockwise.

    Parameters
    ----------
    degrees : float or (float, float)
        The range of the angles; d stands for (-d, d).
    interpolation : InterpolationMode
        NEAREST or BILINEAR.
    expand : bool
        Whether the result is as large as all of the turned image.
    center : (float, float), optional
        What it turns around, (x, y) in pixels from the top left corner; by default the middle.
    fill : number or sequence of number
        What lies beyond the edge.
    **options
        ``generator`` and ``layout``, as for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.RandomRotation((90, 90))(np.asarray([[1, 2], [3, 4]], "uint8"))
    array([[2, 4],
           [1, 3]], dtype=uint8)
    """

    def __init__(
        self,
        degrees: Any,
        interpolation: Any = NEAREST,
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: Any = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.degrees, self.interpolation = _angles(self.name, "degrees", degrees), _mode(self.name, interpolation)
        self.expand, self.center, self.fill = expand, _point(self.name, center), fill

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the angle."""
        return {"angle": float(self.rng.uniform(*self.degrees))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn."""
        return TF.rotate(inpt, params["angle"], self.interpolation, self.expand, self.center, self.fill)


class RandomAffine(Transform):
    """Turn, move, scale and shear at random, around the middle.

    Parameters
    ----------
    degrees : float or (float, float)
        The range of the angles, clockwise; d stands for (-d, d), 0 for none.
    translate : (float, float), optional
        How far to move at most, in parts of the width and of the height.
    scale : (float, float), optional
        The range of the factors.
    shear : float or sequence of float, optional
        The range of the angles along x: d for (-d, d), or (min, max); or four numbers, for x and y.
    interpolation, fill, center
        As for `RandomRotation`.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(
        self,
        degrees: Any,
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: Any = None,
        interpolation: Any = NEAREST,
        fill: Any = 0,
        center: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.degrees, self.interpolation = _angles(self.name, "degrees", degrees), _mode(self.name, interpolation)
        if translate is not None and (not isinstance(translate, Sequence) or len(translate) != 2):
            raise ValueError(f"RandomAffine: translate is two numbers between 0 and 1, not {translate!r}")
        self.translate = None if translate is None else tuple(fraction(self.name, "translate", t) for t in translate)
        self.scale = None if scale is None else span(self.name, "scale", scale, 1e-9)
        self.shear: tuple[float, ...] | None = None
        if isinstance(shear, Sequence) and len(shear) == 4:
            self.shear = (*span(self.name, "shear", shear[:2]), *span(self.name, "shear", shear[2:]))
        elif shear is not None:
            self.shear = _angles(self.name, "shear", shear)
        self.fill, self.center = fill, _point(self.name, center)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the angle, the way, the factor and the shear."""
        _, h, w = self.dimensions(flat_inputs)
        angle, scale, shear = float(self.rng.uniform(*self.degrees)), 1.0, [0.0, 0.0]
        far = self.translate or (0.0, 0.0)
        way = [round(self.rng.uniform(-most, most)) for most in (far[0] * w, far[1] * h)]
        if self.scale is not None:
            scale = float(self.rng.uniform(*self.scale))
        bounds = self.shear or ()
        for i, (low, high) in enumerate(zip(bounds[::2], bounds[1::2], strict=True)):
            shear[i] = float(self.rng.uniform(low, high))
        return {"angle": angle, "translate": way, "scale": scale, "shear": shear}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Map."""
        return TF.affine(inpt, **params, interpolation=self.interpolation, fill=self.fill, center=self.center)


class RandomPerspective(RandomTransform):
    """With probability ``p``, move each corner inwards by up to ``distortion_scale`` of half the image."""

    def __init__(self, distortion_scale: float = 0.5, p: float = 0.5, interpolation: Any = BILINEAR, fill: Any = 0, **options: Any) -> None:
        super().__init__(p, **options)
        self.distortion_scale = fraction(self.name, "distortion_scale", distortion_scale)
        self.interpolation, self.fill = _mode(self.name, interpolation), fill

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw where the corners come to."""
        _, h, w = self.dimensions(flat_inputs)
        most = np.asarray([int(self.distortion_scale * (w // 2)), int(self.distortion_scale * (h // 2))])
        start = np.asarray([[0, 0], [w - 1, 0], [w - 1, h - 1], [0, h - 1]])
        inwards = np.asarray([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        end = start + inwards * self.rng.integers(0, most + 1, size=(4, 2))
        return {"coefficients": perspective_coefficients(start.tolist(), end.tolist())}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Map."""
        return TF.perspective(inpt, None, None, self.interpolation, self.fill, **params)


class ElasticTransform(Transform):
    """Displace each pixel a little, and its neighbours alike (Simard et al., "Best Practices for Convolutional Neural Networks", 2003).

    Parameters
    ----------
    alpha : float or (float, float)
        How far, along x and y: uniform noise times alpha / height along x, alpha / width along y, in halves of the image's width and height.
    sigma : float or (float, float)
        The Gaussian that smooths the noise, in pixels.
    interpolation, fill
        As for `RandomRotation`.
    **options
        ``generator`` and ``layout``, as for `Transform`.
    """

    def __init__(self, alpha: Any = 50.0, sigma: Any = 5.0, interpolation: Any = BILINEAR, fill: Any = 0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha, self.sigma = pair(self.name, "alpha", alpha), pair(self.name, "sigma", sigma)
        if min(self.sigma) < 0:
            raise ValueError(f"ElasticTransform: sigma is a number of 0 or more, not {sigma!r}")
        self.interpolation, self.fill = _mode(self.name, interpolation), fill

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the displacement of each pixel."""
        shape, moves = self.dimensions(flat_inputs)[1:], []
        for alpha, sigma, n in zip(self.alpha, self.sigma, shape, strict=True):
            noise = self.rng.uniform(-1.0, 1.0, shape)
            if sigma > 0:
                size = int(8 * sigma + 1) | 1
                noise = gaussian_blur.chw(noise[None], (size, size), tuple(s or sigma for s in self.sigma))[0]
            moves.append(noise * alpha / n)
        return {"displacement": np.stack(moves, axis=-1)[None]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Displace."""
        return TF.elastic(inpt, params["displacement"], self.interpolation, self.fill)


def _mode(what: str, mode: Any) -> str:
    return interpolation(what, mode, MOVING)
