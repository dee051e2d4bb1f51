"""Losses, one number each, and the accuracy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

from agnostic_ad.levels import device_of, unify
from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.files import from_proto, load_caffemodel
from agnostic_ad.nn.caffe.layer import Layer, register
from agnostic_ad.nn.caffe.layers.base import in_rows, indices

__all__ = [
    "Accuracy",
    "ContrastiveLoss",
    "EuclideanLoss",
    "HingeLoss",
    "InfogainLoss",
    "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxWithLoss",
]

_LEAST = 1e-20  # of probabilities in logarithms


class _Loss(Layer):
    """What losses have in common: numbers and what they should be, of as many rows, and one number for a top."""

    exact_bottoms: ClassVar[int | None] = 2
    exact_tops: ClassVar[int | None] = 1
    in_place = False
    auto_top_blobs = is_loss = True

    def allow_force_backward(self, index: int) -> bool:
        return index == 0

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        if bottom[0].shape[:1] != bottom[1].shape[:1] or not bottom[0].ndim:
            raise self.fail(f"its bottoms have as many rows, not shapes {bottom[0].shape} and {bottom[1].shape}")
        top[0].reshape()
        self.count = max(1, bottom[0].shape[0])  # of nothing, the loss is nothing

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
        for i, wanted in enumerate(propagate_down):
            if wanted and not self.allow_force_backward(i):
                raise self.fail(f"bottom {i}, {bottom[i].name!r}, has no gradient")
        if any(propagate_down):
            xp, (ct,) = unify([top[0].diff])
            self.pull(xp, ct, propagate_down, bottom)

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        """Write the gradients of the bottoms."""
        raise NotImplementedError

    # --- labels -----------------------------------------------------------------------------------------------------
    def _classes(self, bottom: list[Blob], axis: int) -> None:
        """Take note of the axis of the classes."""
        self.axis = bottom[0].axis(axis)
        self.rows = bottom[0].shape[: self.axis] + bottom[0].shape[self.axis + 1 :]
        if math.prod(self.rows) != bottom[1].count:
            raise self.fail(
                f"there are {bottom[1].count} labels, of shape {bottom[1].shape}, for scores of shape {bottom[0].shape}: "
                f"with classes along axis {self.axis}, {math.prod(self.rows)} are wanted"
            )

    def _labels(self, bottom: list[Blob]) -> Any:
        """Give the labels as integers, of the shape of the scores without the classes."""
        found = indices(self, bottom[1], bottom[0].shape[self.axis], "label", self._ignored())
        return self.space(found).reshape(found, self.rows)

    def _ignored(self) -> int | None:
        p = self.param_of("accuracy_param" if self.type == "Accuracy" else "loss_param")
        return p.ignore_label if p.has("ignore_label") else None

    # --- normalization ----------------------------------------------------------------------------------------------
    def _divisor(self, xp: Any, rows: int, valid: Any, default: str) -> Any:
        """Give what the loss is divided by; ``valid`` are ones where labels count."""
        p = self.param_of("loss_param")
        mode = p.normalization if p.has("normalization") else default
        if not p.has("normalization") and p.has("normalize"):
            mode = "VALID" if p.normalize else "BATCH_SIZE"
        if mode == "VALID" and self._ignored() is not None:
            return xp.clip(xp.sum(valid), min=1.0)
        return float(max(1, {"FULL": math.prod(valid.shape), "VALID": math.prod(valid.shape), "BATCH_SIZE": rows, "NONE": 1}[mode]))

    def _valid(self, xp: Any, labels: Any, like: Any) -> Any:
        """Give ones where labels count, zeros where they are to be ignored."""
        ignored = self._ignored()
        return (
            xp.ones(labels.shape, dtype=like.dtype, device=device_of(like)) if ignored is None else xp.astype(labels != ignored, like.dtype)
        )


class _ClassLoss(_Loss):
    """A loss of labels; a second top has the probabilities."""

    exact_tops, min_tops, max_tops = None, 1, 2

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        labels = self._labels(bottom)
        xp, (x, labels) = unify([bottom[0].data, labels])
        valid = self._valid(xp, labels, x)
        self.kept = labels, valid
        self.divisor = self._divisor(xp, math.prod(x.shape[: self.axis]), valid, "VALID")
        top[0].data = xp.sum(self._each(xp, x, labels, valid, bottom)) / self.divisor
        if len(top) > 1:
            top[1].data = xp.nn.softmax(x, axis=self.axis)

    def _each(self, xp: Any, x: Any, labels: Any, valid: Any, bottom: list[Blob]) -> Any:
        raise NotImplementedError


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(_ClassLoss):
    """Minus the logarithm of the probability that softmax gives the label."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self._classes(bottom, self.param_of("softmax_param").axis)
        for blob in top[1:]:
            blob.reshape_like(bottom[0])

    def _ignore_index(self) -> int:
        ignored = self._ignored()
        return -1 if ignored is None else ignored

    def _each(self, xp: Any, x: Any, labels: Any, valid: Any, bottom: list[Blob]) -> Any:
        return xp.nn.softmax_cross_entropy(x, labels, axis=self.axis, ignore_index=self._ignore_index())

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, x, labels, valid) = unify([ct / self.divisor, bottom[0].data, *self.kept])
        each = ct * valid
        bottom[0].diff = xp.nn.softmax_cross_entropy_grad(x, labels, each, axis=self.axis, ignore_index=self._ignore_index())


@register("InfogainLoss")
class InfogainLoss(_ClassLoss):
    """Minus the logarithms of softmax's probabilities, weighted by the label's row of a matrix: the third bottom, or the blob in ``source``."""

    exact_bottoms, min_bottoms, max_bottoms = None, 2, 3

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("infogain_loss_param")
        if len(bottom) < 3:
            if not p.source or not Path(p.source).is_file():
                raise self.fail(f"give the matrix as a third bottom, or a file with it as source; there is no file {p.source!r}")
            found, size = from_proto(load_caffemodel(p.source, "BlobProto"), p.source), bottom[0].shape[bottom[0].axis(p.axis)]
            self.matrix = self.blob(size, size)
            if found.size != self.matrix.count:
                raise self.fail(f"the matrix in {p.source} has {found.size} numbers, not {self.matrix.shape}")
            self.matrix.data = found.reshape(self.matrix.shape)

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        self._classes(bottom, self.param_of("infogain_loss_param").axis)
        if self.param_of("loss_param").has("normalize"):
            raise self.fail("normalize is of old: write normalization")
        size = bottom[0].shape[self.axis]
        if len(bottom) > 2 and bottom[2].count != size * size:
            raise self.fail(f"the matrix is of {size} by {size} numbers, not of shape {bottom[2].shape}")
        for blob in top[1:]:
            blob.reshape_like(bottom[0])

    def _weights(self, xp: Any, labels: Any, valid: Any, bottom: list[Blob]) -> Any:
        """Give the label's row of the matrix for each score."""
        size = bottom[0].shape[self.axis]
        _, (matrix, labels, valid) = unify([bottom[2].data if len(bottom) > 2 else self.matrix.data, labels, valid])
        rows = xp.reshape(labels * xp.astype(valid, labels.dtype), (-1,))  # of what is ignored: any row
        found = xp.take(xp.reshape(matrix, (size, size)), rows, axis=0)
        return xp.moveaxis(xp.reshape(found, (*self.rows, size)), -1, self.axis) * xp.expand_dims(valid, axis=self.axis)

    def _each(self, xp: Any, x: Any, labels: Any, valid: Any, bottom: list[Blob]) -> Any:
        return -(xp.nn.log_softmax(x, axis=self.axis) * self._weights(xp, labels, valid, bottom))

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, x, labels, valid) = unify([ct / self.divisor, bottom[0].data, *self.kept])
        weights = self._weights(xp, labels, valid, bottom)
        total = xp.sum(weights, axis=self.axis, keepdims=True)
        bottom[0].diff = (xp.nn.softmax(x, axis=self.axis) * total - weights) * ct


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(_Loss):
    """Minus the logarithm of the label's probability, (N, classes); probabilities count as 1e-20 at least."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[1].count != bottom[0].shape[0]:
            raise self.fail(f"there is one label a row, not shape {bottom[1].shape} for a bottom of shape {bottom[0].shape}")

    def _picked(self, bottom: list[Blob]) -> tuple[Any, Any, Any]:
        rows, size = bottom[0].shape[0], bottom[0].count_from(1)
        xp, (x, labels) = unify([bottom[0].data, indices(self, bottom[1], size, "label")])
        labels = xp.reshape(labels, (rows,))
        return xp, labels, xp.nn.pick(xp.reshape(x, (rows, size)), labels, axis=1)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, _, p = self._picked(bottom)
        top[0].data = -xp.sum(xp.log(xp.clip(p, min=_LEAST))) / self.count

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, labels, p = self._picked(bottom)
        g = -ct / self.count / xp.clip(p, min=_LEAST)
        bottom[0].diff = xp.reshape(xp.nn.put(g, labels, size=bottom[0].count_from(1), axis=1), bottom[0].shape)


@register("HingeLoss")
class HingeLoss(_Loss):
    """max(0, 1 - score) of the label and max(0, 1 + score) of the other classes, or their squares (norm L2), a row."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[1].count != bottom[0].shape[0]:
            raise self.fail(f"there is one label a row, not shape {bottom[1].shape} for a bottom of shape {bottom[0].shape}")

    def _margins(self, xp: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        """Give how far scores are on the wrong side of their margins, and the sign that they count with."""
        x = in_rows(xp, x)
        ones = xp.ones_like(x[:, 0])
        sign = 1 - 2 * xp.nn.put(ones, xp.reshape(labels, (-1,)), size=x.shape[1], axis=1)
        return xp.clip(x * sign + 1, min=0.0), sign

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x, labels) = unify([bottom[0].data, indices(self, bottom[1], bottom[0].count_from(1), "label")])
        self.kept = margins, _ = self._margins(xp, x, labels)
        each = margins if self.param_of("hinge_loss_param").norm == "L1" else margins * margins
        top[0].data = xp.sum(each) / self.count

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, margins, sign) = unify([ct / self.count, *self.kept])
        slope = xp.astype(margins > 0, sign.dtype) if self.param_of("hinge_loss_param").norm == "L1" else margins * 2
        bottom[0].diff = xp.reshape(slope * sign * ct, bottom[0].shape)


@register("EuclideanLoss")
class EuclideanLoss(_Loss):
    """Half the sum of squares of differences, a row."""

    def allow_force_backward(self, index: int) -> bool:
        return True

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise self.fail(f"its bottoms have as many numbers, not shapes {bottom[0].shape} and {bottom[1].shape}")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (a, b) = unify([blob.data for blob in bottom])
        self.kept = a - xp.reshape(b, a.shape)
        top[0].data = xp.sum(self.kept * self.kept) / (2 * self.count)

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, kept) = unify([ct / self.count, self.kept])
        if wanted[0]:
            bottom[0].diff = kept * ct
        if wanted[1]:
            bottom[1].diff = xp.reshape(-kept * ct, bottom[1].shape)


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(_Loss):
    """The cross entropy of targets, from 0 to 1, and the sigmoids of scores; by default the sum over a row."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        if bottom[0].count != bottom[1].count:
            raise self.fail(f"its bottoms have as many numbers, not shapes {bottom[0].shape} and {bottom[1].shape}")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        xp, (x, target) = unify([blob.data for blob in bottom])
        target = xp.reshape(target, x.shape)
        valid = self._valid(xp, xp.astype(target, self.xp.default("indexing")), x)
        self.kept = target, valid
        self.divisor = self._divisor(xp, x.shape[0], valid, "BATCH_SIZE")
        top[0].data = xp.sum(xp.nn.binary_cross_entropy_with_logits(x, target) * valid) / self.divisor

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, x, target, valid) = unify([ct / self.divisor, bottom[0].data, *self.kept])
        bottom[0].diff = (xp.special.expit(x) - target) * valid * ct


@register("ContrastiveLoss")
class ContrastiveLoss(_Loss):
    """Half the mean of d ** 2 for pairs of rows that are alike (the third bottom is not 0), and of max(margin - d, 0) ** 2 for others.

    d is the distance of the pair. With ``legacy_version`` others count max(margin - d ** 2, 0).
    """

    exact_bottoms = 3

    def allow_force_backward(self, index: int) -> bool:
        return index < 2

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        super().reshape(bottom, top)
        rows = bottom[0].shape[0]
        if bottom[1].shape != bottom[0].shape or bottom[2].count != rows or bottom[0].count_from(2) != 1:
            raise self.fail(f"it takes (N, C), (N, C) and N marks of alike pairs, not shapes {', '.join(str(b.shape) for b in bottom)}")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        p = self.param_of("contrastive_loss_param")
        xp, (a, b, alike) = unify([blob.data for blob in bottom])
        rows = a.shape[0]
        difference = in_rows(xp, a - b)
        alike = xp.reshape(xp.astype(alike, self.xp.default("indexing")), (rows,)) != 0
        square = xp.sum(difference * difference, axis=1)
        if p.legacy_version:
            other = xp.clip(p.margin - square, min=0.0)
            factor = -xp.astype(other > 0, square.dtype)
        else:
            apart = square > 0
            distance = xp.where(apart, xp.sqrt(xp.where(apart, square, xp.ones_like(square))), xp.zeros_like(square))
            short = xp.clip(p.margin - distance, min=0.0)
            other = short * short
            factor = xp.where(apart, -short / xp.where(apart, distance, xp.ones_like(distance)), xp.zeros_like(distance))
        top[0].data = xp.sum(xp.where(alike, square, other)) / (2 * self.count)
        self.kept = difference * xp.expand_dims(xp.where(alike, xp.ones_like(factor), factor), axis=1)

    def pull(self, xp: Any, ct: Any, wanted: list[bool], bottom: list[Blob]) -> None:
        xp, (ct, kept) = unify([ct / self.count, self.kept])
        for blob, sign, each in zip(bottom, (1, -1), wanted, strict=False):
            if each:
                blob.diff = xp.reshape(kept * ct * sign, blob.shape)


@register("Accuracy")
class Accuracy(_Loss):
    """The share of labels that are among the ``top_k`` best scores; with a second top, of each class. There is no gradient.

    A score that equals the label's counts as better.
    """

    exact_tops, min_tops, max_tops = None, 1, 2
    auto_top_blobs = is_loss = False

    def allow_force_backward(self, index: int) -> bool:
        return False

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        top[0].reshape()
        p = self.param_of("accuracy_param")
        self._classes(bottom, p.axis)
        size = bottom[0].shape[self.axis]
        if not 1 <= p.top_k <= size:
            raise self.fail(f"top_k is from 1 to {size}, the number of classes, not {p.top_k}")
        for blob in top[1:]:
            blob.reshape(size)

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        labels = self._labels(bottom)
        xp, (x, labels) = unify([bottom[0].data, labels])
        valid = self._valid(xp, labels, x)
        rows = labels * xp.astype(valid, labels.dtype)  # of what is ignored: any class
        own = xp.expand_dims(xp.nn.pick(x, rows, axis=self.axis), axis=self.axis)
        better = xp.sum(xp.astype(x >= own, x.dtype), axis=self.axis) - 1
        right = xp.astype(better < self.param_of("accuracy_param").top_k, x.dtype) * valid
        top[0].data = xp.sum(right) / xp.clip(xp.sum(valid), min=1.0)
        if len(top) > 1:
            others = tuple(i for i in range(x.ndim) if i != self.axis)
            hits, all_of = (xp.sum(xp.nn.put(n, rows, size=x.shape[self.axis], axis=self.axis), axis=others) for n in (right, valid))
            top[1].data = hits / xp.clip(all_of, min=1.0)
