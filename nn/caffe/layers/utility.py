"""Layers that move numbers: shapes, copies, parts, rows."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import device_of, unify
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import constant_filler, detached, indices, learn, pull_to, wants

__all__ = [
    "BatchReindex",
    "Concat",
    "Filter",
    "Flatten",
    "Parameter",
    "Reshape",
    "Silence",
    "Slice",
    "Split",
    "Tile",
]


# --- shapes -------------------------------------------------------------------------------------------------------------------------------
class _Reshaped(Layer):
    """What has the same numbers in another shape. They are copied: what a layer does to its top in place does not reach the bottom."""

    exact_bottoms = exact_tops = 1
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape(*self._shape(bottom[0]))

    def _shape(self, bottom: Blob) -> tuple[int, ...]:
        raise NotImplementedError

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        top[0].data = xp.reshape(x, top[0].shape)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct,) = unify([top[0].diff])
            bottom[0].diff = xp.reshape(ct, bottom[0].shape)


@register("Flatten")
class Flatten(_Reshaped):
    """Puts the axes from ``axis`` to ``end_axis`` together."""

    def _shape(self, bottom: Blob) -> tuple[int, ...]:
        p = self.param_of("flatten_param")
        start, end = bottom.axis(p.axis), bottom.axis(p.end_axis)
        if start > end:
            raise self.fail(f"axis {p.axis} of a bottom of shape {bottom.shape} is behind end_axis {p.end_axis}")
        return (*bottom.shape[:start], math.prod(bottom.shape[start : end + 1]), *bottom.shape[end + 1 :])


@register("Reshape")
class Reshape(_Reshaped):
    """Gives ``num_axes`` axes from ``axis`` on new sizes, ``shape``: 0 takes the bottom's, and -1, once, what is left."""

    def _shape(self, bottom: Blob) -> tuple[int, ...]:
        p = self.param_of("reshape_param")
        old, new, count = bottom.shape, list(p.shape.dim), bottom.ndim
        start = p.axis if p.axis >= 0 else count + p.axis + 1
        end = count if p.num_axes == -1 else start + p.num_axes
        if not 0 <= start <= end <= count or p.num_axes < -1:
            raise self.fail(f"axis {p.axis} and num_axes {p.num_axes} do not fit a bottom of shape {old}")
        if new.count(-1) > 1 or any(n < -1 for n in new):
            raise self.fail(f"the new sizes {new} are 0 or more, and -1 once at most")
        for i, n in enumerate(new):
            if n == 0:
                if start + i >= count:
                    raise self.fail(f"size {i} of {new} is 0, and a bottom of shape {old} has no axis {start + i} to take it from")
                new[i] = old[start + i]
        shape = [*old[:start], *new, *old[end:]]
        if -1 in new:
            there, known = math.prod(n for n in old if n), math.prod(n for n in shape if n > 0)  # of a batch of nothing: what one image has
            if there % known:
                raise self.fail(f"the {there} elements of a bottom of shape {old} cannot be divided by {known} for the -1 in {new}")
            shape[start + new.index(-1)] = there // known
        if math.prod(shape) != bottom.count:
            raise self.fail(f"the {bottom.count} elements of a bottom of shape {old} do not fit shape {tuple(shape)}")
        return tuple(shape)


# --- copies and parts ---------------------------------------------------------------------------------------------------------------------
@register("Split")
class Split(Layer):
    """Copies a blob, for each that uses it; the gradient is the sum of the copies'."""

    exact_bottoms, min_tops = 1, 1
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.reshape_like(bottom[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for blob in top:
            blob.data = bottom[0].data

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            _, cts = unify([blob.diff for blob in top])
            bottom[0].diff = sum(cts[1:], cts[0])


@register("Silence")
class Silence(Layer):
    """Takes blobs that nobody else does; their gradient is zero."""

    min_bottoms, exact_tops = 1, 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing comes out."""

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Nothing comes out."""

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff = 0.0


def _axis(layer: Layer, p: Any, old: str, bottom: Blob) -> int:
    """Give the axis, under its name of now or of old."""
    if p.has("axis") and p.has(old):
        raise layer.fail(f"give axis, or {old} in its place")
    return bottom.axis(getattr(p, old) if p.has(old) else p.axis)


@register("Concat")
class Concat(Layer):
    """Puts blobs end to end along an axis."""

    min_bottoms, exact_tops = 1, 1
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.axis = _axis(self, self.param_of("concat_param"), "concat_dim", bottom[0])
        shape = list(bottom[0].shape)
        for i, blob in enumerate(bottom[1:], start=1):
            if blob.ndim != len(shape) or any(a != b for j, (a, b) in enumerate(zip(blob.shape, shape, strict=True)) if j != self.axis):
                raise self.fail(
                    f"bottom {i} of shape {blob.shape} fits bottom 0 of shape {bottom[0].shape} nowhere but along axis {self.axis}"
                )
        shape[self.axis] = sum(blob.shape[self.axis] for blob in bottom)
        top[0].reshape(*shape)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, parts = unify([blob.data for blob in bottom])
        top[0].data = xp.concat(parts, axis=self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        ct = top[0].diff
        start, before = 0, (slice(None),) * self.axis
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            stop = start + blob.shape[self.axis]
            if wanted:
                blob.diff = ct[(*before, slice(start, stop), ...)]
            start = stop


@register("Slice")
class Slice(Layer):
    """Cuts a blob along an axis: at each ``slice_point``, or into equal parts."""

    exact_bottoms, min_tops = 1, 1
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p, count = self.param_of("slice_param"), len(top)
        self.axis = _axis(self, p, "slice_dim", bottom[0])
        size = bottom[0].shape[self.axis]
        points = list(p.slice_point)
        if not points and size % count:
            raise self.fail(f"axis {self.axis} of size {size} cannot be cut into {count} equal parts")
        self.bounds = [0, *points, size] if points else [i * (size // count) for i in range(count + 1)]
        if len(self.bounds) != count + 1 or any(a >= b for a, b in zip(self.bounds, self.bounds[1:], strict=False)):
            raise self.fail(f"{count} tops need {count - 1} slice_points that grow, from 1 to {size - 1}, not {points}")
        for blob, start, stop in zip(top, self.bounds, self.bounds[1:], strict=False):
            blob.reshape(*bottom[0].shape[: self.axis], stop - start, *bottom[0].shape[self.axis + 1 :])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        x, before = bottom[0].data, (slice(None),) * self.axis
        for blob, start, stop in zip(top, self.bounds, self.bounds[1:], strict=False):
            blob.data = x[(*before, slice(start, stop), ...)]

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, cts = unify([blob.diff for blob in top])
            bottom[0].diff = xp.concat(cts, axis=self.axis)


@register("Tile")
class Tile(Layer):
    """Repeats a blob along an axis."""

    exact_bottoms = exact_tops = 1
    in_place = False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("tile_param")
        if not p.has("tiles") or p.tiles < 1:
            raise self.fail("tiles is given, and 1 or more")
        self.axis, self.shape = bottom[0].axis(p.axis), bottom[0].shape
        top[0].reshape(*self.shape[: self.axis], self.shape[self.axis] * p.tiles, *self.shape[self.axis + 1 :])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x,) = unify([bottom[0].data])
        top[0].data = xp.concat([x] * self.param_of("tile_param").tiles, axis=self.axis)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[0]:
            xp, (ct,) = unify([top[0].diff])
            bottom[0].diff = xp.sum(
                xp.reshape(ct, (*self.shape[: self.axis], self.param_of("tile_param").tiles, *self.shape[self.axis :])), axis=self.axis
            )


# --- rows ---------------------------------------------------------------------------------------------------------------------------------
class _Rows(Layer):
    """What picks rows of a blob by number."""

    in_place = False

    def _pick(self, x: Any, rows: Any) -> Any:
        xp, (x, rows) = unify([x, rows])
        return xp.take(x, rows, axis=0)

    def _put(self, ct: Any, rows: Any, bottom: Blob) -> None:
        xp, (ct, rows) = unify([ct, rows])
        bottom.diff = xp.scatter_add(ct, rows, size=bottom.shape[0], axis=0)


@register("BatchReindex")
class BatchReindex(_Rows):
    """Picks the rows of the first bottom that the second one names, as often as it does."""

    exact_bottoms, exact_tops = 2, 1

    def allow_force_backward(self, index: int) -> bool:
        return index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[1].ndim != 1:
            raise self.fail(f"the numbers of rows have one axis, not shape {bottom[1].shape}")
        top[0].reshape(bottom[1].shape[0], *bottom[0].shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.kept = indices(self, bottom[1], bottom[0].shape[0], "row")
        top[0].data = self._pick(bottom[0].data, self.kept)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[1]:
            raise self.fail("the numbers of rows have no gradient")
        if propagate_down[0]:
            self._put(top[0].diff, self.kept, bottom[0])


@register("Filter")
class Filter(_Rows):
    """Passes the rows on for which the last bottom, the selector, is not 0. The tops' size hangs on it, once the net runs."""

    min_bottoms, min_tops = 2, 1

    def allow_force_backward(self, index: int) -> bool:
        return index + 1 < self.count

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        self.count, self.fresh = len(bottom), True
        if len(top) != self.count - 1:
            raise self.fail(f"it has a top for each bottom but the selector: {self.count - 1}, not {len(top)}")

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        *values, selector = bottom
        if not selector.ndim or selector.count != selector.shape[0]:
            raise self.fail(f"the selector has one number a row, not shape {selector.shape}")
        for i, blob in enumerate(values):
            if blob.shape[:1] != selector.shape[:1]:
                raise self.fail(f"bottom {i} of shape {blob.shape} has not as many rows as the selector, {selector.shape[0]}")
        host = self.xp.to_numpy(detached(selector.data)).reshape(-1)
        rows = [i for i, flag in enumerate(host.tolist()) if flag or self.fresh]  # when a net is built there is no data yet
        self.fresh = False
        self.kept = self.xp.xp.asarray(rows, dtype=self.xp.default("indexing"), device=device_of(detached(selector.data)))
        for blob, above in zip(values, top, strict=True):
            above.reshape(len(rows), *blob.shape[1:])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        for below, above in zip(bottom, top, strict=False):
            above.data = self._pick(below.data, self.kept)

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if propagate_down[-1]:
            raise self.fail("the selector has no gradient")
        for below, above, wanted in zip(bottom, top, propagate_down, strict=False):
            if wanted:
                self._put(above.diff, self.kept, below)


@register("Parameter")
class Parameter(Layer):
    """A learned blob as a top."""

    exact_bottoms, exact_tops = 0, 1

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        learn(self, (tuple(self.param_of("parameter_param").shape.dim), constant_filler(0.0)))

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape_like(self.blobs[0])

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].data = self.blobs[0].data

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        if wants(self, 0):
            pull_to(self.blobs[0], top[0].diff)
