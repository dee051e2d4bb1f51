"""Fillers: the initial values of parameters, drawn on the host, so that one seed gives the same weights in every library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.message import DefinitionError, Message, nearest
from agnostic_ad.random import Generator, default_generator

__all__ = ["FILLERS", "fill"]

_Shape = tuple[int, ...]


def _fan(how: Message, shape: _Shape) -> float:
    """Give the number of inputs of one output, of outputs of one input, or their mean, as the first two axes tell it."""
    count = math.prod(shape)
    fan_in = count / shape[0]
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[how.variance_norm]


def _gaussian(how: Message, shape: _Shape, random: Generator) -> Any:
    values = random.normal(shape, how.mean, how.std)
    if how.sparse >= 0:  # as many weights of each output as asked for, on average, are not zero
        values *= random.bernoulli(shape, min(1.0, how.sparse / shape[0]))
    return values


def _positive_unitball(how: Message, shape: _Shape, random: Generator) -> Any:
    values = random.uniform((shape[0], math.prod(shape[1:])))
    return (values / values.sum(axis=1, keepdims=True)).reshape(shape)


def _xavier(how: Message, shape: _Shape, random: Generator) -> Any:
    bound = math.sqrt(3 / _fan(how, shape))
    return random.uniform(shape, -bound, bound)


def _bilinear(how: Message, shape: _Shape, random: Generator) -> Any:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise DefinitionError(f"{how.at()}filler 'bilinear' is for square kernels of 4 axes, not for shape {shape}")
    half = math.ceil(shape[3] / 2)
    ramp = 1 - np.abs(np.arange(shape[3]) / half - (shape[3] - 1) / (2 * half))
    return np.broadcast_to(ramp[:, None] * ramp, shape)


FILLERS: dict[str, Callable[[Message, _Shape, Generator], Any]] = {
    "constant": lambda how, shape, random: np.full(shape, how.value),
    "uniform": lambda how, shape, random: random.uniform(shape, how.min, how.max),
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": lambda how, shape, random: random.normal(shape, 0.0, math.sqrt(2 / _fan(how, shape))),
    "bilinear": _bilinear,
}
"""By Caffe's names: functions of a FillerParameter, a shape and a generator that give NumPy's arrays."""


def fill(blob: Blob, how: Message | None = None, generator: Generator | None = None, **fields: Any) -> None:
    """Give a blob's ``data`` initial values.

    Parameters
    ----------
    blob : Blob
        What to fill.
    how : Message, optional
        A FillerParameter; or its fields as keywords.
    generator : Generator, optional
        What random numbers come from; by default the default generator.
    **fields
        Fields of a FillerParameter, in place of those of ``how``.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> blob = caffe.Blob((1, 1, 4, 4))
    >>> caffe.fill(blob, type="bilinear")
    >>> blob.data[0, 0, 1]
    array([0.1875, 0.5625, 0.5625, 0.1875], dtype=float32)
    """
    how = (how or Message("FillerParameter")).but(**fields)
    if how.type not in FILLERS:
        raise DefinitionError(f"{how.at()}there is no filler {how.type!r}{nearest(how.type, FILLERS)}; there are {', '.join(FILLERS)}")
    if not blob.count:
        raise DefinitionError(f"{how.at()}filler {how.type!r}: a blob of shape {blob.shape} has nothing to fill")
    if how.type == "gaussian" and blob.ndim == 0 and how.sparse >= 0:
        raise DefinitionError(f"{how.at()}filler 'gaussian': sparse is for blobs of one axis or more")
    if how.sparse != -1 and (how.type != "gaussian" or how.sparse < -1):
        raise DefinitionError(f"{how.at()}filler {how.type!r}: sparse is for gaussian alone, and 0 or more")
    # fans are of blobs of one axis or more; a 0-d blob has one input and one output
    values = FILLERS[how.type](how, blob.shape or (1,), generator or default_generator)
    blob.data = np.ascontiguousarray(values, dtype="float64").reshape(blob.shape)
