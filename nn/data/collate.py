"""From samples to a batch, and from a batch to the library and device asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from agnostic_ad.config import Place, move
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import lookup

__all__ = ["default_collate", "default_convert"]


def default_collate(batch: list[Any]) -> Any:
    """Put samples together: arrays and numbers are stacked, tuples and dicts entry by entry, texts become a list.

    Parameters
    ----------
    batch : list
        Samples of one structure.

    Returns
    -------
    array, or tuple, list or dict of them
        Arrays have one more axis, the first.

    Raises
    ------
    ValueError
        If the arrays differ in shape, or tuples in length.
    TypeError
        If samples are something else.

    Examples
    --------
    >>> from agnostic_ad.nn.data import default_collate
    >>> default_collate([(1, 2.0), (3, 4.0)])
    (array([1, 3]), array([2., 4.]))
    """
    first = batch[0]
    kind = type(first)
    if kind is np.ndarray:
        return _stacked(_numpy_stack, batch)
    if kind in (int, float, bool, complex) or isinstance(first, np.generic):
        return np.asarray(batch)
    if isinstance(first, str | bytes):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, tuple | list):
        if len(sizes := sorted({len(sample) for sample in batch})) > 1:
            raise ValueError(
                f"samples are put together entry by entry; they have {' and '.join(map(str, sizes))} entries: pass collate_fn="
            )
        return _like(first, [default_collate(list(column)) for column in zip(*batch)])
    if isinstance(first, Array):
        return default_collate([_raw(sample) for sample in batch])
    backend = lookup(first)
    if backend is None:
        raise TypeError(f"samples are arrays, numbers, texts, and tuples, lists and dicts of them, not {kind.__name__}: pass collate_fn=")
    return _stacked(_numpy_stack if backend.name == "numpy" else backend.xp.stack, batch)


def default_convert(data: Any) -> Any:
    """Give a sample as it is delivered with ``batch_size=None``: NumPy's numbers as arrays, Variables as raw arrays, the rest as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import default_convert
    >>> default_convert({"x": np.float32(1), "name": "a"})
    {'x': array(1., dtype=float32), 'name': 'a'}
    """

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, Array):
            return _raw(leaf)
        return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf

    return mapped(convert, data)


def _raw(variable: Any) -> Any:
    return variable.detach().payload


def arriving(batches: Iterator[Any], to: Place) -> Iterator[Any]:
    """Give batches with their arrays in another library or on another device.

    Where the library can copy ahead of time, a batch is on its way while the one before it is in use.
    """
    if to.backend is None and to.device is None:
        yield from batches
        return
    if not hasattr(to.backend, "stager"):
        for batch in batches:
            yield batch._replace(value=mapped(lambda leaf: leaf if lookup(leaf) is None else move(leaf, to), batch.value))
        return
    assert to.backend is not None
    stager = to.backend.stager(to.device)
    before = None
    for batch in batches:
        staged = batch._replace(value=mapped(lambda leaf: _Staged(stager.stage(leaf)) if _is_numpy(leaf) else leaf, batch.value))
        if before is not None:
            yield _delivered(before, stager)
        before = staged
    if before is not None:
        yield _delivered(before, stager)


class _Staged:
    """An array on its way."""

    def __init__(self, what: Any) -> None:
        self.what = what


def _is_numpy(leaf: Any) -> bool:
    backend = lookup(leaf)
    return backend is not None and backend.name == "numpy"


def _delivered(batch: Any, stager: Any) -> Any:
    return batch._replace(value=mapped(lambda leaf: stager.deliver(leaf.what) if isinstance(leaf, _Staged) else leaf, batch.value))


def mapped(fn: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to what tuples, lists and dicts hold."""
    if isinstance(tree, Mapping):
        return {key: mapped(fn, value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return _like(tree, [mapped(fn, part) for part in tree])
    return fn(tree)


def _like(tree: Any, parts: list[Any]) -> Any:
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)


def _stacked(stack: Callable[[list[Any]], Any], batch: list[Any]) -> Any:
    shape = batch[0].shape
    for i, sample in enumerate(batch):
        if not hasattr(sample, "shape") or sample.shape != shape:
            came = f"shape {tuple(sample.shape)}" if hasattr(sample, "shape") else f"is a {type(sample).__name__}"
            raise ValueError(
                f"samples of one shape make a batch: the batch's sample 0 has shape {tuple(shape)}, sample {i} {came}. "
                "Bring them to one size in the dataset, or pass collate_fn="
            )
    return stack(batch)


def _numpy_stack(batch: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Stack arrays of one shape; `numpy.stack` takes twice the time, for it makes a view of each."""
    first = batch[0]
    return np.concatenate(batch).reshape(len(batch), *first.shape) if first.ndim else np.asarray(batch)
