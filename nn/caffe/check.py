"""Whether a layer's backward is the derivative of its forward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import agnostic_ad as ad
from agnostic_ad.config import dtype_name
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.bridge import prepared
from agnostic_ad.nn.caffe.layer import Layer, layer_class
from agnostic_ad.nn.caffe.layers.base import detached, wants

__all__ = ["check_layer"]

_TOLERANCES = {"float64": (1e-6, 1e-6, 1e-4), "float32": (2e-4, 2e-2, 1e-2)}
"""By dtype: how far off the gradient of the tape and that of differences may be, and the step of the differences."""
_NOTHING = 725.25  # in diff before backward: what is left of it was not written


def check_layer(
    layer: Layer | type[Layer] | str,
    bottoms: Sequence[Any],
    *,
    tops: int | None = None,
    propagate_down: Sequence[bool] | None = None,
    params: Sequence[Any] | None = None,
    rtol: float | None = None,
    seed: int = 0,
    **options: Any,
) -> None:
    """Compare a layer's ``backward`` with the derivative of its ``forward``.

    The derivative is the tape's, which forward is run on. Where forward leaves the tape (it writes into NumPy's arrays, say), or hides
    something from it, so that a difference along a random direction is another, it is that of differences, element by element: small bottoms
    will do. A layer that draws random numbers draws them from ``self.generator``, which gives the same ones each time.

    Parameters
    ----------
    layer : Layer, class of one, or str
        A layer, or what makes one: a class, or the name of a registered type.
    bottoms : sequence of array
        The bottoms' data, raw arrays of one library: away from where forward has no derivative; float64 where the layer is made here.
    tops : int, optional
        How many tops it has, where that is open; by default as few as may be.
    propagate_down : sequence of bool, optional
        The bottoms whose gradient to check; by default those of floating numbers, but for labels and the like.
    params : sequence of array, optional
        Values for the parameters, in place of those that ``setup`` gives them.
    rtol : float, optional
        The tolerance, relative to the largest element of a gradient; by default 1e-6 in float64.
    seed : int
        Of the tops' random gradients.
    **options
        For a class or name: what makes the layer, as for `Layer`.

    Raises
    ------
    AssertionError
        With the bottom or the parameter, the index of the element that is off most, what backward gave, and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import caffe
    >>> class Square(caffe.Layer):
    ...     exact_bottoms = exact_tops = 1
    ...
    ...     def reshape(self, bottom, top):
    ...         top[0].reshape_like(bottom[0])
    ...
    ...     def forward(self, bottom, top):
    ...         top[0].data = bottom[0].data ** 2
    ...
    ...     def backward(self, top, propagate_down, bottom):
    ...         bottom[0].diff = 2 * top[0].diff  # the bottom's data is missing
    >>> caffe.check_layer(Square, [np.asarray([1.0, 2.0])])
    Traceback (most recent call last):
    AssertionError: check_layer: Square: backward is wrong: bottom 0 at index (1,) got -0.264210, expected -0.528419 ...
    """
    made = _made(layer, bottoms, options)
    wanted = propagate_down
    bottom, top = prepared(made, bottoms, tops)
    if params is not None:
        for blob, value in zip(made.blobs, params, strict=True):
            blob.data = value
    if wanted is None:
        wanted = [backend_of(x).kind(x.dtype) == "f" and made.allow_force_backward(i) for i, x in enumerate(bottoms)]
    _Check(made, bottom, len(top), list(wanted), np.random.default_rng(seed), rtol).run()


def _made(layer: Any, bottoms: Sequence[Any], options: dict[str, Any]) -> Layer:
    if isinstance(layer, Layer):
        if options:
            raise TypeError(f"check_layer: {', '.join(options)} are for a class of layer; {layer!r} is made already")
        return layer
    kind = layer_class(layer) if isinstance(layer, str) else layer
    like = next((x for x in bottoms if backend_of(x).kind(x.dtype) == "f"), None)
    if like is not None:
        backend = backend_of(like)
        options = {"xp": backend.xp, "dtype": like.dtype, "device": backend.device(like), **options}
    return kind(**options)


class _Check:
    """One layer with its bottoms; ``slots`` are the places, among bottoms and parameters, whose gradients are checked."""

    def __init__(self, layer: Layer, bottom: list[Blob], tops: int, wanted: list[bool], rng: Any, rtol: float | None) -> None:
        self.layer, self.bottom, self.tops, self.wanted, self.rng = layer, bottom, tops, wanted, rng
        self.backend: Any = layer.place.backend
        self.blobs = [*bottom, *layer.blobs]
        self.values = [self._host(blob.data) for blob in self.blobs]
        marks = [*wanted, *(wants(layer, i) for i in range(len(layer.blobs)))]
        self.slots = [i for i, mark in enumerate(marks) if mark]
        self.state, self.random = dict(layer.__dict__), layer.generator.get_state()
        tape, differences, self.step = _TOLERANCES.get(dtype_name(layer.place.dtype), _TOLERANCES["float32"])
        self.rtols = (tape, differences) if rtol is None else (rtol, max(rtol, differences / 100))
        self.cts: list[Any] = []

    def _host(self, x: Any) -> Any:
        return np.array(self.backend.to_numpy(detached(x)), dtype="float64")

    def _name(self, slot: int) -> str:
        return f"bottom {slot}" if slot < len(self.bottom) else f"parameter {slot - len(self.bottom)}"

    def _forward(self, values: Sequence[Any]) -> list[Blob]:
        """Run forward on values for bottoms and parameters, from the state and the random numbers of before; give the tops."""
        layer = self.layer
        layer.__dict__.update(self.state)
        layer.generator.set_state(self.random)
        for blob, x in zip(self.blobs, values, strict=True):
            blob.data = x
        top = [layer.blob(name=f"top {i}") for i in range(self.tops)]
        layer.reshape(self.bottom, top)
        layer.forward(self.bottom, top)
        return top

    def run(self) -> None:
        """Compare."""
        top = self._forward(self.values)
        self.cts = [self.rng.standard_normal(blob.shape) * float(i == 0 or not self.layer.is_loss) for i, blob in enumerate(top)]
        for blob, ct in zip(top, self.cts, strict=True):
            blob.diff = ct
        for i, blob in enumerate(self.blobs):
            blob.diff = _NOTHING if i < len(self.bottom) else self.rng.standard_normal(blob.shape)
        before = [self._host(blob.diff) for blob in self.blobs]
        self.layer.backward(top, self.wanted, self.bottom)
        found = {slot: self._host(self.blobs[slot].diff) for slot in self.slots}
        expected = self._tape()
        for slot, diff in found.items():
            if expected is None:
                self._compare(slot, diff, before[slot], self._differences(slot), "differences of its forward", self.rtols[1])
            else:
                self._compare(slot, diff, before[slot], np.stack([expected[slot]] * 3, axis=-1), "the tape of its forward", self.rtols[0])
        self._forward(self.values)

    # --- what is expected -------------------------------------------------------------------------------------------
    def _tape(self) -> dict[int, Any] | None:
        """Give the tape's gradients; None where forward leaves the tape, or where differences along a direction are others."""
        values = list(self.values)
        for slot in self.slots:
            blob = self.blobs[slot]
            blob.data = values[slot]
            values[slot] = ad.Variable(self.backend.own(blob.data))
        try:
            with ad.enable_grad():
                found = [blob.data for blob in self._forward(values)]
        except Exception:  # whatever an array of another class did to somebody's forward
            return None
        ys = [y for y in found if isinstance(y, ad.Variable)]
        if len(ys) < len(found) or not any(y.requires_grad for y in ys):
            return None
        cts = [self.backend.astype(self.backend.from_numpy(ct, y.device), y.dtype) for y, ct in zip(ys, self.cts, strict=True)]
        pairs = [(y, ct) for y, ct in zip(ys, cts, strict=True) if y.requires_grad]
        grads = ad.gradients([y for y, _ in pairs], [values[slot] for slot in self.slots], [ct for _, ct in pairs], allow_unused=True)
        held = {slot: np.zeros(self.values[slot].shape) if g is None else self._host(g) for slot, g in zip(self.slots, grads, strict=True)}
        direction = {slot: self.rng.standard_normal(self.values[slot].shape) for slot in self.slots}
        along = sum(float(np.sum(held[slot] * d)) for slot, d in direction.items())
        size = sum(float(np.sum(np.abs(held[slot] * d))) for slot, d in direction.items())
        slope, low, high = self._along(direction)
        return held if low < high or abs(along - slope) <= 10 * self.rtols[1] * (1 + size) else None

    def _along(self, direction: dict[int, Any]) -> tuple[float, float, float]:
        """Give the derivative of the sum of the tops times their gradients, by differences of the fourth order, and twice more.

        Where the differences on both sides say that there is a kink or a jump nearby, the others are the least and the greatest slope.
        """
        h, f = self.step, []
        for steps in range(-2, 3):
            top = self._forward([x + steps * h * direction[i] if i in direction else x for i, x in enumerate(self.values)])
            f.append(sum(float(np.sum(ct * self._host(blob.data))) for ct, blob in zip(self.cts, top, strict=True)))
        slopes = [(b - a) / h for a, b in pairwise(f)]
        middle = (8 * (f[3] - f[1]) - (f[4] - f[0])) / (12 * h)
        sides = (3 * slopes[1] - slopes[0]) / 2, (3 * slopes[2] - slopes[3]) / 2
        smooth = abs(sides[0] - sides[1]) <= 100 * self.rtols[1] * (1 + abs(middle))
        return (middle, middle, middle) if smooth else (middle, min(slopes), max(slopes))

    def _differences(self, slot: int) -> Any:
        """Give the slopes along each element, and their bounds: (..., 3)."""
        found = np.zeros((*self.values[slot].shape, 3))
        for index in np.ndindex(*self.values[slot].shape):
            one = np.zeros(self.values[slot].shape)
            one[index] = 1.0
            found[index] = self._along({slot: one})
        return found

    # --- what came --------------------------------------------------------------------------------------------------
    def _compare(self, slot: int, diff: Any, before: Any, bounds: Any, by: str, rtol: float) -> None:
        learned = slot >= len(self.bottom)
        got, (expected, low, high) = diff - before if learned else diff, np.moveaxis(bounds, -1, 0)
        bound = rtol * (1 + float(np.max(np.abs(expected), initial=0.0)))
        off = np.maximum(low - got, got - high)
        if np.all(off <= bound):
            return
        wrong = ~(off <= bound)
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(off, nan=np.inf), -1.0)), off.shape))
        text = f"got {got[index]:.6f}, expected {expected[index]:.6f} (by {by}); {int(wrong.sum())} of {off.size} elements are off"
        if not learned and diff[index] == before[index]:
            text = f"was not written, expected {expected[index]:.6f} (by {by})"
        elif learned and np.all(np.abs(diff - expected) <= bound):
            text += ". It is what was expected, less what diff was before: backward adds to the diff of parameters"
        elif not learned and np.all(np.abs(diff - before - expected) <= bound + 1e-9 * _NOTHING):
            text += ". It was added to what diff was before: backward writes the diff of bottoms"
        raise AssertionError(
            f"check_layer: {self.layer.name or type(self.layer).__name__}: backward is wrong: {self._name(slot)} at index {index} {text}"
        )
