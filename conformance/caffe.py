"""Caffe's layers: their tops are NumPy's, and their hand-written backward is the tape's gradient of their forward.

What is checked is the register of `agnostic_ad.nn.caffe`, but for the layers that read data, in the configurations of
`agnostic_ad.nn.caffe.samples`.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import agnostic_ad as ad
from agnostic_ad.conformance.catalogue import DTYPES, EPS
from agnostic_ad.conformance.comparing import LawBroken, Place, near
from agnostic_ad.conformance.report import Row
from agnostic_ad.errors import MissingFunctionError
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.nn import caffe
from agnostic_ad.nn.caffe.bridge import prepared
from agnostic_ad.nn.caffe.samples import Sample, samples

__all__ = ["LAWS", "check", "names"]

_ROUNDINGS = 32.0
"""How many roundings of its largest number a top may be off; ten times what was seen."""


class Law(NamedTuple):
    """What a layer is held to, in a configuration, a place and a precision, with a seed."""

    text: str
    hold: Callable[[Sample, Place, str, int], None]


def _made(sample: Sample, place: Place, precision: str, seed: int) -> tuple[Any, list[Any]]:
    """Give the layer, which draws from the seed, and its bottoms' arrays."""
    where = {"xp": place.backend.xp, "dtype": DTYPES[precision]["f"], "device": place.device}
    given = [x if o.kind else x.astype(where["dtype"]) for x, o in zip(sample.draw(seed), sample.operands, strict=True)]
    bottoms = [place.backend.from_numpy(x, place.device) for x in given]
    return caffe.LAYERS[sample.type](generator=ad.Generator(seed), **where, **sample.fields), bottoms


def _tops(sample: Sample, place: Place, precision: str, seed: int) -> list[Any]:
    layer, bottoms = _made(sample, place, precision, seed)
    bottom, top = prepared(layer, bottoms, sample.tops)
    layer.forward(bottom, top)
    return [blob.data for blob in top]


def _tops_agree(sample: Sample, place: Place, precision: str, seed: int) -> None:
    found = _tops(sample, place, precision, seed)
    expected = [np.asarray(y) for y in _tops(sample, Place(backend_of_namespace(np)), "double", seed)]
    near("the tops", found, expected, [_ROUNDINGS * EPS[precision] * max(1.0, float(np.max(np.abs(y), initial=0.0))) for y in expected])


def _backward_is_the_tape(sample: Sample, place: Place, precision: str, seed: int) -> None:
    layer, bottoms = _made(sample, place, precision, seed)
    try:
        caffe.check_layer(layer, bottoms, tops=sample.tops, propagate_down=[not o.kind for o in sample.operands], seed=seed)
    except AssertionError as error:
        raise LawBroken(str(error)) from None


LAWS = {
    "caffe_tops_agree": Law("The tops of a Caffe layer are NumPy's, from one seed.", _tops_agree),
    "caffe_backward_agrees": Law("The backward of a Caffe layer gives the tape's gradient of its forward.", _backward_is_the_tape),
}


def names() -> list[str]:
    """Give what is checked: "caffe.Convolution"."""
    ours, data = f"{caffe.layers.__name__}.", caffe.layers.data.__name__
    return [f"caffe.{name}" for name, kind in sorted(caffe.LAYERS.items()) if kind.__module__.startswith(ours) and kind.__module__ != data]


def check(name: str, place: Place, level: str = "quick", seed: int = 0) -> Iterator[Row]:
    """Hold one type of layer to its laws, and give a row for each law and dtype.

    Parameters
    ----------
    name : str
        One of `names`.
    place : Place
        The library and the device.
    level : str
        At "least" one configuration, in double precision; at "quick" all, and one in single precision; at "full" all in both.
    seed : int
        Of parameters, bottoms and the tops' gradients.

    Yields
    ------
    Row
        Its ``cases`` are the configurations. A type without any is an error.
    """
    device = str(place.device if place.device is not None else "")
    chosen = samples(name.partition(".")[2])
    if not chosen:
        yield Row(name, "", "", device, "error", reason=f"{name} has no sample: add one to agnostic_ad/nn/caffe/samples.py")
    for precision, all_of in (("double", level != "least"), ("single", level == "full")):
        few = chosen if all_of else chosen[:1]
        if level == "least" and precision == "single":
            continue
        for law in LAWS:
            held = [s for s in few if s.differentiable or law != "caffe_backward_agrees"]
            start = time.perf_counter()
            for number, each in enumerate(held, start=1):
                status, reason = _verdict(LAWS[law], each, place, precision, seed)
                if status != "passed" or number == len(held):
                    example = "" if status == "passed" else _code(each, place, precision, seed)
                    yield Row(name, law, DTYPES[precision]["f"], device, status, number, reason, example, time.perf_counter() - start)
                    break


def _verdict(law: Law, sample: Sample, place: Place, precision: str, seed: int) -> tuple[str, str]:
    try:
        law.hold(sample, place, precision, seed)
    except LawBroken as error:
        return "failed", str(error)
    except MissingFunctionError as error:
        return "missing", str(error)
    except Exception:
        return "error", traceback.format_exc(limit=-3)
    return "passed", ""


def _code(sample: Sample, place: Place, precision: str, seed: int) -> str:
    """Give what checks a layer as code to paste."""
    dtype = DTYPES[precision]["f"]
    bottoms = [
        f"xp.asarray({x.tolist()}, dtype=xp.{'int64' if o.kind else dtype})"
        for x, o in zip(sample.draw(seed), sample.operands, strict=True)
    ]
    fields = "".join(f", {name}={value!r}" for name, value in sample.fields.items())
    return "\n".join(
        [
            "import agnostic_ad as ad",
            f"import {place.backend.name} as xp",
            "from agnostic_ad.nn import caffe",
            f'layer = caffe.LAYERS["{sample.type}"](xp=xp, dtype="{dtype}", generator=ad.Generator({seed}){fields})',
            f"bottoms = [{', '.join(bottoms)}]",
            f"caffe.check_layer(layer, bottoms, tops={sample.tops}, propagate_down={[not o.kind for o in sample.operands]}, seed={seed})",
        ]
    )
