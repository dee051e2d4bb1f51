"""How good a model is, batch by batch, on any array library: counts stay on the device until they are asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.functional import cross_entropy

__all__ = ["F1", "Accuracy", "ConfusionMatrix", "Metric", "Perplexity", "TopK", "by_name"]

Host = np.ndarray[Any, Any]


class Metric:
    """A number, or an array of NumPy, from the outputs and targets of several batches.

    A subclass has a ``name``, and defines ``reset``, ``update`` and ``compute``.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> class LargestError(nn.trainer.Metric):
    ...     name = "largest_error"
    ...
    ...     def reset(self):
    ...         self.largest = 0.0
    ...
    ...     def update(self, output, target):
    ...         self.largest = max(self.largest, float(abs(output - target).max()))
    ...
    ...     def compute(self):
    ...         return self.largest
    >>> LargestError()(np.asarray([1.0, 2.0]), np.asarray([1.5, 2.0]))
    0.5
    """

    name = "metric"

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} has no reset(): define how to begin")

    def update(self, output: Any, target: Any) -> None:
        """Take in a batch: raw arrays of one library."""
        raise NotImplementedError(f"{type(self).__name__} has no update(output, target): define how to take in a batch")

    def compute(self) -> Any:
        """Give the value for all batches since `reset`."""
        raise NotImplementedError(f"{type(self).__name__} has no compute(): define the value")

    def __call__(self, output: Any, target: Any) -> Any:
        """Give the value for one batch alone."""
        self.reset()
        self.update(output, target)
        return self.compute()


def by_name(metrics: Sequence[Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    """Give metrics under names that differ."""
    if isinstance(metrics, Mapping):
        return dict(metrics)
    found: dict[str, Metric] = {}
    for metric in metrics:
        if metric.name in found or metric.name == "loss":
            raise ValueError(f"two results are called {metric.name!r}: give the metrics in a dict, under names of your own")
        found[metric.name] = metric
    return found


def _rows(output: Any, target: Any, ignore_index: int | None, what: str) -> tuple[Any, Any, Any]:
    """Give scores of shape (rows, classes), the classes that are right, and which rows count (None: all)."""
    output, target = (x.payload if isinstance(x, Array) else x for x in (output, target))
    xp = backend_of(output).xp
    shape, wanted = tuple(output.shape), tuple(target.shape)
    if len(shape) == 1 and wanted == ():
        output = xp.expand_dims(output, axis=0)
    elif len(shape) < 2 or wanted != (shape[0], *shape[2:]):
        raise ValueError(
            f"{what}: scores of shape {shape} go with targets of shape {(*shape[:1], *shape[2:])}, the number of the right class for each; "
            f"these have {wanted}"
        )
    elif len(shape) > 2:
        output = xp.moveaxis(output, 1, -1)
    output = xp.reshape(output, (-1, output.shape[-1]))
    target = xp.reshape(target, (-1,))
    return output, target, None if ignore_index is None else target != ignore_index


def _count(hits: Any) -> Any:
    """Count what is true, on the device."""
    return backend_of(hits).xp.count_nonzero(hits)


class _Share(Metric):
    """The part of the samples that are right."""

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        self._right: Any = 0
        self._total: Any = 0

    def update(self, output: Any, target: Any) -> None:
        scores, target, counts = _rows(output, target, self.ignore_index, type(self).__name__)
        hits = self._hits(scores, target)
        self._right = self._right + _count(hits if counts is None else hits & counts)
        self._total = self._total + (target.shape[0] if counts is None else _count(counts))

    def _hits(self, scores: Any, target: Any) -> Any:
        raise NotImplementedError

    def compute(self) -> float:
        total = int(self._total)
        return int(self._right) / total if total else math.nan


class Accuracy(_Share):
    """The part of the samples whose largest score is that of the right class; the first of several that are equal counts.

    Parameters
    ----------
    ignore_index : int, optional
        A target that marks what does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.trainer.Accuracy()(np.asarray([[2.0, 1.0], [0.0, 3.0]]), np.asarray([0, 0]))
    0.5
    """

    name = "accuracy"

    def _hits(self, scores: Any, target: Any) -> Any:
        return backend_of(scores).xp.argmax(scores, axis=1) == target


class TopK(_Share):
    """The part of the samples whose right class is among the ``k`` largest scores; of equal ones, those of lower classes come first.

    Parameters
    ----------
    k : int
        How many.
    ignore_index : int, optional
        A target that marks what does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.trainer.TopK(2)(np.asarray([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), np.asarray([1, 0]))
    0.5
    """

    def __init__(self, k: int = 5, ignore_index: int | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"TopK: k is an integer of 1 or more, not {k!r}")
        self.k, self.name = k, f"top{k}"
        super().__init__(ignore_index)

    def _hits(self, scores: Any, target: Any) -> Any:
        backend = backend_of(scores)
        xp = backend.xp
        classes = xp.arange(scores.shape[1], dtype=target.dtype, device=backend.device(scores))
        column = xp.expand_dims(target, axis=1)
        own = xp.max(xp.where(classes == column, scores, backend.scalar(-math.inf, scores)), axis=1, keepdims=True)
        before = (scores > own) | ((scores == own) & (classes < column))
        return (xp.count_nonzero(before, axis=1) < self.k) & (own[:, 0] == own[:, 0])  # a score that is NaN is no hit


class ConfusionMatrix(Metric):
    """How often samples of each class (row) were taken for each class (column).

    Parameters
    ----------
    classes : int
        How many there are.
    ignore_index : int, optional
        A target that marks what does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.trainer.ConfusionMatrix(2)(np.asarray([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]]), np.asarray([0, 0, 1]))
    array([[1, 1],
           [0, 1]])
    """

    name = "confusion"

    def __init__(self, classes: int, ignore_index: int | None = None) -> None:
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
            raise ValueError(f"{type(self).__name__}: classes is an integer of 1 or more, not {classes!r}")
        self.classes, self.ignore_index = classes, ignore_index
        self.reset()

    def reset(self) -> None:
        self._counts: Any = None

    def update(self, output: Any, target: Any) -> None:
        scores, target, counts = _rows(output, target, self.ignore_index, type(self).__name__)
        backend, n = backend_of(scores), self.classes
        if scores.shape[1] != n:
            raise ValueError(f"{type(self).__name__}({n}): the output has scores of {scores.shape[1]} classes")
        xp = backend.xp
        cell = target * n + xp.astype(xp.argmax(scores, axis=1), target.dtype)
        inside = (target >= 0) & (target < n)
        inside = inside if counts is None else inside & counts
        cell = xp.where(inside, cell, n * n)  # a bin for what does not count
        found = backend.scatter_add(xp.ones_like(cell), cell, size=n * n + 1)
        self._counts = found if self._counts is None else self._counts + found

    def matrix(self) -> Host:
        """Give the counts, of shape (classes, classes)."""
        n = self.classes
        if self._counts is None:
            return np.zeros((n, n), "int64")
        return np.asarray(backend_of(self._counts).to_numpy(self._counts)[: n * n]).reshape(n, n).astype("int64")

    def compute(self) -> Any:
        return self.matrix()


class F1(ConfusionMatrix):
    """The harmonic mean of precision and recall; 0 for a class that is neither there nor found.

    Parameters
    ----------
    classes : int
        How many there are.
    average : {"macro", "weighted", "micro"} or None
        The mean over classes; that weighed by how often each occurs; that of all counts together; or each class's own, as an array.
    ignore_index : int, optional
        A target that marks what does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> scores, target = np.asarray([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0]]), np.asarray([0, 0, 1])
    >>> round(nn.trainer.F1(2)(scores, target), 4)
    0.6667
    """

    name = "f1"

    def __init__(self, classes: int, average: str | None = "macro", ignore_index: int | None = None) -> None:
        if average not in ("macro", "weighted", "micro", None):
            raise ValueError(f"F1: average is 'macro', 'weighted', 'micro' or None, not {average!r}")
        self.average = average
        super().__init__(classes, ignore_index)

    def compute(self) -> Any:
        matrix = self.matrix()
        right, there, found = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        if self.average == "micro":
            right, there, found = right.sum(), there.sum(), found.sum()
        each = 2 * right / np.maximum(there + found, 1)  # 2 tp / (2 tp + fp + fn)
        if self.average is None:
            return each
        if self.average == "weighted":
            return float((each * there).sum() / max(there.sum(), 1))
        return float(np.mean(each))


class Perplexity(Metric):
    """The exponential of the mean cross entropy of all targets: how many equally likely classes would be as hard to guess.

    Parameters
    ----------
    ignore_index : int
        A target that marks what does not count.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.trainer.Perplexity()(np.zeros((3, 4)), np.asarray([0, 1, 2]))
    4.0
    """

    name = "perplexity"

    def __init__(self, ignore_index: int = -100) -> None:
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        self._sum: Any = 0.0
        self._total: Any = 0

    def update(self, output: Any, target: Any) -> None:
        scores, target, counts = _rows(output, target, self.ignore_index, "Perplexity")
        loss = cross_entropy(scores, target, ignore_index=self.ignore_index, reduction="sum")
        self._sum = self._sum + (loss.payload if isinstance(loss, Array) else loss)
        self._total = self._total + _count(counts)

    def compute(self) -> float:
        total = int(self._total)
        try:
            return math.exp(float(self._sum) / total) if total else math.nan
        except OverflowError:
            return math.inf
