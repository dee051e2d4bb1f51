"""What the layers have in common."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from agnostic_ad.levels import unify
from agnostic_ad.namespaces import is_raw
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.fillers import fill
from agnostic_ad.nn.caffe.layer import Layer
from agnostic_ad.nn.caffe.message import Message

__all__ = [
    "Neuron",
    "along",
    "constant_filler",
    "detached",
    "in_rows",
    "indices",
    "learn",
    "lines_of",
    "pull_to",
    "remember",
    "source_of",
    "wants",
]


def constant_filler(value: float) -> Message:
    """Give the definition of a filler of one number."""
    return Message("FillerParameter", value=float(value))


def learn(layer: Layer, *wanted: tuple[tuple[int, ...], Message]) -> None:
    """Make a layer's parameters, each of a shape and from a filler; if it has some already, refuse those that do not fit."""
    if not layer.blobs:
        for shape, filler in wanted:
            if 0 in shape:
                raise layer.fail(f"a parameter of shape {tuple(shape)} has nothing to learn")
            layer.blobs.append(layer.blob(*shape, name=f"{layer.name}[{len(layer.blobs)}]"))
            fill(layer.blobs[-1], filler, layer.generator)
    found, shapes = [blob.shape for blob in layer.blobs], [tuple(shape) for shape, _ in wanted]
    if found != shapes:
        raise layer.fail(f"its parameters have shapes {found}; what it is asked to do needs {shapes}")


def wants(layer: Layer, index: int) -> bool:
    """Tell whether a parameter wants its gradient."""
    return not layer.param_propagate_down or layer.param_propagate_down[index]


def pull_to(blob: Blob, ct: Any) -> None:
    """Add to a parameter's gradient."""
    if blob.xp.mutable and is_raw(ct):
        blob.diff += ct
    else:
        blob.diff = ct + blob.diff


def remember(x: Any, bottom: Blob, top: Blob) -> Any:
    """Give what a layer may keep of its bottom's data: a copy, where the top is the same blob and the data is overwritten."""
    return bottom.xp.own(x) if top is bottom and bottom.xp.mutable and is_raw(x) else x


def detached(x: Any) -> Any:
    """Give the raw array at the bottom of an array: a state, which no derivative flows through."""
    while not is_raw(x):
        x = x.payload
    return x


def along(xp: Any, x: Any, ndim: int, axis: int) -> Any:
    """Give an array whose axes lie along those of one of ``ndim`` axes, from ``axis`` on."""
    return xp.reshape(x, (*(1,) * axis, *x.shape, *(1,) * (ndim - axis - x.ndim)))


def in_rows(xp: Any, x: Any, axes: int = 1) -> Any:
    """Put all that lies behind the first ``axes`` axes in one row."""
    return xp.reshape(x, (*x.shape[:axes], math.prod(x.shape[axes:])))


def indices(layer: Layer, blob: Blob, size: int, what: str, also: int | None = None) -> Any:
    """Give the data of a blob as integers from 0 to ``size - 1``, or ``also``; refuse others, where values can be looked at."""
    backend, found = blob.xp, blob.data
    host = detached(found)
    if backend.concrete(host):
        values = np.trunc(backend.to_numpy(host))
        beyond = values[~((values >= 0) & (values < size) | (values == also))]
        if beyond.size:
            raise layer.fail(f"{what} {beyond[0]:g} in {blob.name!r} is not one of 0 to {size - 1}")
    return layer.space(found).astype(found, backend.default("indexing"))


def source_of(layer: Layer, path: Any) -> str:
    """Give the path of the text file that a layer reads from."""
    if not path or not Path(path).is_file():
        raise layer.fail(f"there is no file {path!r}, its source")
    return str(path)


def lines_of(layer: Layer, path: Any) -> list[str]:
    """Give the lines of a text file that lists files."""
    lines = [line.strip() for line in Path(source_of(layer, path)).read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise layer.fail(f"its source {path} is empty")
    return lines


class Neuron(Layer):
    """A layer of one bottom and one top of the same shape, which may be the same blob.

    A kind of neuron defines ``value(xp, x)``, and ``pull(xp, ct, kept)`` from what it keeps for it: its result, its input, or neither.
    """

    exact_bottoms = exact_tops = 1
    keeps: ClassVar[str] = "y"

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        y = self.value(xp, x)
        self.kept = y if self.keeps == "y" else remember(x, bottom[0], top[0])
        top[0].data = y

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct, kept) = unify([top[0].diff, self.kept])
            bottom[0].diff = self.pull(xp, ct, kept)

    def value(self, xp: Any, x: Any) -> Any:
        """Compute."""
        raise NotImplementedError

    def pull(self, xp: Any, ct: Any, kept: Any) -> Any:
        """Give the gradient of the bottom from that of the top."""
        raise NotImplementedError
