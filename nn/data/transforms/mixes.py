"""Mixtures of the images of a batch, and of their labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.data.transforms.arguments import is_number
from agnostic_ad.nn.data.transforms.base import Transform, leaves_of, mapped
from agnostic_ad.nn.data.transforms.functional.pixels import there, wide
from agnostic_ad.nn.data.transforms.layouts import is_array, layout_of, on_images

__all__ = ["CutMix", "MixUp"]


class _Mix(Transform):
    def __init__(
        self, *, alpha: float = 1.0, num_classes: int | None = None, labels_getter: Callable[[Any], Any] | str = "default", **options: Any
    ) -> None:
        super().__init__(**options)
        if not is_number(alpha) or alpha <= 0:
            raise ValueError(f"{self.name}: alpha is a number above 0, not {alpha!r}")
        if num_classes is not None and (isinstance(num_classes, bool) or not hasattr(num_classes, "__index__") or num_classes < 1):
            raise ValueError(f"{self.name}: num_classes is an integer of 1 or more, not {num_classes!r}")
        if labels_getter != "default" and not callable(labels_getter):
            raise TypeError(f"{self.name}: labels_getter is 'default' or a function of the sample, not {labels_getter!r}")
        self.alpha, self.num_classes, self.labels_getter = float(alpha), num_classes, labels_getter

    def forward(self, *inputs: Any) -> Any:
        """Mix each image with the one before it, and the labels by the same parts."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        image = self.image_of(sample)
        labels = self._labels(sample, image)
        count, axes = int(image.shape[0]), {"CHW": 4, "HWC": 4, "HW": 3}[layout_of(image, self.name)]
        if len(image.shape) != axes:
            raise ValueError(
                f"{self.name} takes a batch of images, (N, C, H, W) or (N, H, W, C), not an array of shape {tuple(image.shape)}"
            )
        if int(labels.shape[0]) != count:
            raise ValueError(f"{self.name}: there are {count} images and {int(labels.shape[0])} labels")
        params = self.make_params([image])

        def mix(leaf: Any) -> Any:
            if leaf is image:
                return self.transform(leaf, params)
            return self._mixed_labels(leaf, params["lam"]) if leaf is labels else leaf

        return mapped(mix, sample)

    def _labels(self, sample: Any, image: Any) -> Any:
        if callable(self.labels_getter):
            labels = self.labels_getter(sample)
        else:
            named = [d[key] for d in _dicts(sample) for key in d if str(key).lower() in ("label", "labels", "target", "targets")]
            rest = [leaf for leaf in leaves_of(sample) if is_array(leaf) and leaf is not image]
            labels = (named or rest or [None])[0]
        if not is_array(labels) or len(labels.shape) not in (1, 2):
            raise ValueError(f"{self.name} takes labels beside the images: integers (N,), or probabilities (N, classes)")
        return labels

    def _mixed_labels(self, labels: Any, lam: float) -> Any:
        xp = ad.namespace(labels)
        if len(labels.shape) == 1:
            if not xp.isdtype(labels.dtype, "integral"):
                raise TypeError(f"{self.name}: labels (N,) are integers, not {labels.dtype}")
            if self.num_classes is None:
                raise ValueError(f"{self.name}: give num_classes, or labels as probabilities (N, classes)")
            labels = xp.astype(F.one_hot(xp.astype(labels, xp.int64), self.num_classes), xp.float32)
        return _blend(labels, lam)


def _dicts(sample: Any) -> list[dict[Any, Any]]:
    parts = sample if isinstance(sample, tuple | list) else [sample]
    return [part for part in parts if isinstance(part, dict)]


def _blend(x: Any, lam: float) -> Any:
    return x * lam + ad.namespace(x).roll(x, 1, axis=0) * (1.0 - lam)


class MixUp(_Mix):
    """Mix each image with the one before it in the batch: lam of itself, 1 - lam of the other, with lam of Beta(alpha, alpha).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018.

    Parameters
    ----------
    alpha : float
        Of the beta distribution; 1 makes all parts alike.
    num_classes : int, optional
        For integer labels, which become probabilities (N, num_classes).
    labels_getter : callable, optional
        Finds the labels in a sample; by default the entry "labels" (or "label", "target") of a dict, or the first array beside the images.
    **options
        ``generator`` and ``layout``, as for `Transform`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> images, labels = np.ones((2, 3, 4, 4), "float32"), np.asarray([0, 1])
    >>> x, y = T.MixUp(num_classes=2, generator=np.random.default_rng(0))(images, labels)
    >>> y.shape, y.sum(axis=1).tolist()
    ((2, 2), [1.0, 1.0])
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the part."""
        return {"lam": float(self.rng.beta(self.alpha, self.alpha))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mix."""
        return _blend(wide(inpt), params["lam"])


class CutMix(_Mix):
    """Put a random rectangle of the image before it in the batch into each image; labels are mixed by the areas.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019. The arguments are those of `MixUp`.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the rectangle; ``lam`` is what is left of the image."""
        _, h, w = self.dimensions(flat_inputs)
        half = 0.5 * math.sqrt(1.0 - float(self.rng.beta(self.alpha, self.alpha)))
        x, y = int(self.rng.integers(w)), int(self.rng.integers(h))
        left, right = max(x - int(half * w), 0), min(x + int(half * w), w)
        top, bottom = max(y - int(half * h), 0), min(y + int(half * h), h)
        return {"box": (left, top, right, bottom), "lam": 1.0 - (right - left) * (bottom - top) / (w * h)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mix."""
        return _pasted(inpt, params["box"])


@on_images
def _pasted(images: Any, box: tuple[int, int, int, int]) -> Any:
    left, top, right, bottom = box
    inside = np.zeros(tuple(map(int, images.shape[-2:])), dtype=bool)
    inside[top:bottom, left:right] = True
    xp = ad.namespace(images)
    return xp.where(there(images, inside), xp.roll(images, 1, axis=0), images)
