"""What data layers do to images: crops, mirrors, the mean and the scale, on the host."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from agnostic_ad.nn.caffe.files import read_mean
from agnostic_ad.nn.caffe.layer import Layer

__all__ = ["Transformer"]


class Transformer:
    """A layer's ``transform_param``, as a function of batches.

    Parameters
    ----------
    layer : Layer
        The data layer. Crops are random in the phase TRAIN, and from the middle in TEST; mirrors are random in both.
    """

    def __init__(self, layer: Layer) -> None:
        param = layer.param.transform_param
        self.layer = layer
        self.scale, self.mirror, self.crop = param.scale, param.mirror, param.crop_size
        self.values = np.asarray(param.mean_value)[:, None, None] if param.mean_value else None
        if param.has("mean_file") and param.mean_value:
            raise layer.fail("mean_file and mean_value are both given; one is possible")
        if param.has("mean_file") and not os.path.isfile(param.mean_file):
            raise layer.fail(
                f"there is no file {param.mean_file!r}, its mean_file; change transform_param in what caffe.parse gives, or say shapes"
            )
        self.mean = read_mean(param.mean_file) if param.has("mean_file") else self.values

    def shape(self, example: tuple[int, ...]) -> tuple[int, ...]:
        """Give the shape of an example after the transformation."""
        if not self.crop and self.mean is None and not self.mirror:
            return example
        if len(example) != 3:
            raise self.layer.fail(f"crops, mirrors and means are for images (channels, height, width), not for examples of shape {example}")
        channels, height, width = example
        if self.crop > min(height, width):
            raise self.layer.fail(f"crop_size is {self.crop}, and images are {height} by {width}")
        if self.values is not None and len(self.values) not in (1, channels):
            raise self.layer.fail(f"mean_value is given once or for each of {channels} channels, not {len(self.values)} times")
        if self.values is None and self.mean is not None and self.mean.shape != example:
            raise self.layer.fail(f"the mean in mean_file has shape {self.mean.shape}, and images {example}")
        return (channels, self.crop, self.crop) if self.crop else example

    def __call__(self, batch: Any) -> Any:
        """Give a batch of examples transformed, as floating numbers."""
        shape = self.shape(batch.shape[1:])
        out = np.empty((len(batch), *shape), dtype="float64" if batch.dtype == np.float64 else "float32")
        if shape == batch.shape[1:] and not self.mirror:
            np.subtract(batch, 0 if self.mean is None else self.mean, out=out, casting="unsafe")
            return out if self.scale == 1 else np.multiply(out, self.scale, out=out)
        random = self.layer.generator
        for i, image in enumerate(batch):
            where = self._window(image.shape, random)
            mean: Any = 0 if self.mean is None else self.mean[where] if self.values is None else self.values
            one = np.subtract(image[where], mean, dtype=out.dtype, casting="unsafe") * self.scale
            out[i] = one[..., ::-1] if self.mirror and random.integers(0, 2) else one
        return out

    def _window(self, shape: tuple[int, ...], random: Any) -> tuple[slice, ...]:
        """Give where an image is cut."""
        if not self.crop:
            return (slice(None),) * 3
        room = [n - self.crop for n in shape[1:]]
        starts = [int(random.integers(0, n + 1)) if self.layer.phase == "TRAIN" else n // 2 for n in room]
        return slice(None), *(slice(s, s + self.crop) for s in starts)
