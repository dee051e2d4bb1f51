"""Sequences of different lengths in one array: padded, or packed step by step.

Whatever the order and the lengths, an array is made from another by one ``take`` whose indices are computed on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.config import move, parse
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.rules import QUICK

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]

_concat, _reshape, _take = QUICK["concat"], QUICK["reshape"], QUICK["take"]


def _host(x: Any, what: str) -> np.ndarray[Any, Any]:
    """Give integers, from a list or an array of any library, as a NumPy array."""
    raw = x.data if isinstance(x, Array) else x
    backend = lookup(raw)
    found = np.asarray(raw if backend is None else backend.to_numpy(raw))
    if found.size and found.dtype.kind not in "iu":
        raise TypeError(f"{what} are integers, not {found.dtype}")
    if found.ndim != 1:
        raise ValueError(f"{what} are a list or an array of one dimension, not of shape {found.shape}")
    return found.astype("int64")


def _indices_like(indices: np.ndarray[Any, Any], x: Any) -> Any:
    """Give indices as a raw array of the library of ``x``, on its device."""
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    return backend.from_numpy(indices, device_of(x))


def _gathered(rows: Any, indices: np.ndarray[Any, Any], rest: tuple[int, ...]) -> Any:
    """Give the rows that ``indices``, of any shape, point at."""
    return _reshape(_take(rows, _indices_like(indices.reshape(-1), rows), axis=0), (*indices.shape, *rest))


def _with_padding(parts: Sequence[Any], value: float) -> Any:
    """Join rows, and add one row of padding behind."""
    first = parts[0]
    xp, _ = unify(list(parts))
    return _concat([*parts, xp.full((1, *first.shape[1:]), value, dtype=first.dtype, device=device_of(first))], axis=0)


class _Fields(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


class PackedSequence(_Fields):
    """Sequences without padding: all first elements, then all second elements, and so on, the longest sequence first.

    Made by `pack_padded_sequence` and `pack_sequence`; recurrent layers take it and give it.

    Parameters
    ----------
    data : array
        Shape (sum of lengths, ...).
    batch_sizes : array of int
        How many sequences reach each step; on the host (a NumPy array).
    sorted_indices, unsorted_indices : array of int, optional
        From the order of the batch to that of the lengths, and back; None where the batch was in order.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.utils import rnn
    >>> packed = rnn.pack_sequence([np.asarray([1.0, 2.0, 3.0]), np.asarray([4.0])])
    >>> packed.data, packed.batch_sizes
    (array([1., 4., 2., 3.]), array([2, 1, 1]))
    """

    __slots__ = ()

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None) -> PackedSequence:
        """Take the fields; of the two orders, one gives the other."""
        if batch_sizes is None:  # the old form: PackedSequence((data, batch_sizes))
            if not isinstance(data, list | tuple) or len(data) != 2:
                raise ValueError("PackedSequence takes data and batch_sizes")
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, xp: Any = None, dtype: Any = None, device: Any = None) -> PackedSequence:
        """Give the same in another library or dtype, or on another device; the indices go along, but for their dtype."""
        to = parse(*args, xp=xp, dtype=dtype, device=device)
        x: Any = self.data
        data = x.to(xp=to.backend, dtype=to.dtype, device=to.device) if isinstance(self.data, Array) else move(x, to)
        order = (None if i is None else move(i, to._replace(dtype=None)) for i in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, *order)

    def cpu(self) -> PackedSequence:
        """Give the same on the CPU."""
        return self.to(device="cpu")

    def double(self) -> PackedSequence:
        """Give the same in float64."""
        return self.to(dtype="float64")

    def float(self) -> PackedSequence:
        """Give the same in float32."""
        return self.to(dtype="float32")

    def half(self) -> PackedSequence:
        """Give the same in float16."""
        return self.to(dtype="float16")


def invert_permutation(permutation: Any) -> Any:
    """Give the permutation that undoes another; None for None.

    Parameters
    ----------
    permutation : array of int, or None
        Shape (n,), each number from 0 to n - 1 once.
    """
    if permutation is None:
        return None
    return _indices_like(np.argsort(_host(permutation, "invert_permutation: the indices")), permutation)


def _lengths(lengths: Any, batch: int, steps: int, what: str) -> np.ndarray[Any, Any]:
    found = _host(lengths, f"{what}: lengths")
    if len(found) != batch:
        raise ValueError(f"{what}: {len(found)} lengths came for a batch of {batch} sequences")
    if found.size == 0:
        raise ValueError(f"{what}: an empty batch cannot be packed")
    if found.min() <= 0:
        raise ValueError(f"{what}: every length is more than 0, not {found.min()}. Leave empty sequences out.")
    if found.max() > steps:
        raise ValueError(f"{what}: a length of {found.max()} is more than the {steps} steps of the padded input")
    return found


def _grid(sizes: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give the step and the sequence, in the sorted batch, of each row of packed data."""
    steps = np.repeat(np.arange(len(sizes)), sizes)
    return steps, np.arange(len(steps)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Pack padded sequences.

    Parameters
    ----------
    input : array
        Shape (T, B, ...); (B, T, ...) with ``batch_first``.
    lengths : list or array of int
        Shape (B,), each from 1 to T.
    batch_first : bool
        Which of the two shapes it is.
    enforce_sorted : bool
        Whether to refuse lengths that are not in decreasing order. With False they are sorted.

    Returns
    -------
    PackedSequence
    """
    if len(input.shape) < 2:
        raise ValueError(f"pack_padded_sequence: an input of 2 dimensions or more is wanted, not of shape {tuple(input.shape)}")
    steps, batch = input.shape[:2] if not batch_first else (input.shape[1], input.shape[0])
    found = _lengths(lengths, batch, steps, "pack_padded_sequence")
    order = None
    if not enforce_sorted:
        order = np.argsort(-found, kind="stable")
    elif (np.diff(found) > 0).any():
        raise ValueError(
            "pack_padded_sequence: lengths are not in decreasing order. Sort the batch, or pass enforce_sorted=False to have it sorted."
        )
    ranked = found if order is None else found[order]
    sizes = (ranked[:, None] > np.arange(ranked[0])).sum(axis=0)
    step, which = _grid(sizes)
    which = which if order is None else order[which]
    rest = tuple(input.shape[2:])
    data = _gathered(_reshape(input, (-1, *rest)), which * steps + step if batch_first else step * batch + which, rest)
    if order is None:
        return PackedSequence(data, sizes)
    return PackedSequence(data, sizes, _indices_like(order, input), _indices_like(np.argsort(order), input))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Any, np.ndarray[Any, Any]]:
    """Give packed sequences padded: the inverse of `pack_padded_sequence`.

    Parameters
    ----------
    sequence : PackedSequence
        What a recurrent layer gave, for instance.
    batch_first : bool
        Whether the result has the shape (B, T, ...) rather than (T, B, ...).
    padding_value : float
        What stands behind the ends.
    total_length : int, optional
        T; by default the longest length.

    Returns
    -------
    padded : array
        In the order of the batch as it was packed.
    lengths : array of int
        A NumPy array of shape (B,).
    """
    sizes = _host(sequence.batch_sizes, "pad_packed_sequence: batch_sizes")
    longest = len(sizes)
    steps = longest if total_length is None else total_length
    if steps < longest:
        raise ValueError(f"pad_packed_sequence: total_length {total_length} is less than {longest}, the length of the longest sequence")
    ranked = (sizes > np.arange(sizes[0])[:, None]).sum(axis=1)
    step, which = _grid(sizes)
    indices = np.full((steps, sizes[0]), len(step))  # the row of padding
    indices[step, which] = np.arange(len(step))
    if sequence.unsorted_indices is not None:
        back = _host(sequence.unsorted_indices, "pad_packed_sequence: unsorted_indices")
        indices, ranked = indices[:, back], ranked[back]
    data = sequence.data
    return _gathered(_with_padding([data], padding_value), indices.T if batch_first else indices, tuple(data.shape[1:])), ranked


def pad_sequence(sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right") -> Any:
    """Give sequences of different lengths as one padded array.

    Parameters
    ----------
    sequences : list of array
        Of shapes (L, ...), with the same sizes behind the first axis; or one array, whose first axis is the batch.
    batch_first : bool
        Whether the result has the shape (B, T, ...) rather than (T, B, ...).
    padding_value : float
        What fills up.
    padding_side : {"right", "left"}
        Where.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.utils.rnn import pad_sequence
    >>> pad_sequence([np.ones(3), np.ones(1)], batch_first=True)
    array([[1., 1., 1.],
           [1., 0., 0.]])
    """
    if padding_side not in ("right", "left"):
        raise ValueError(f"pad_sequence: padding_side is 'right' or 'left', not {padding_side!r}")
    parts = [sequences[i] for i in range(sequences.shape[0])] if hasattr(sequences, "shape") else list(sequences)
    if not parts:
        raise ValueError("pad_sequence: an empty list of sequences cannot be padded")
    rest = tuple(parts[0].shape[1:])
    for i, part in enumerate(parts):
        if not part.shape or tuple(part.shape[1:]) != rest:
            raise ValueError(f"pad_sequence: sequence {i} has shape {tuple(part.shape)}; (any length, *{rest}) is wanted, as of the first")
    lengths = np.asarray([part.shape[0] for part in parts])
    steps = lengths.max()
    indices = np.full((len(parts), steps), lengths.sum())
    for row, length, end in zip(indices, lengths, np.cumsum(lengths)):
        row[slice(0, length) if padding_side == "right" else slice(steps - length, steps)] = np.arange(end - length, end)
    return _gathered(_with_padding(parts, padding_value), indices if batch_first else indices.T, rest)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """Give the sequences in a padded array: the inverse of `pad_sequence`."""
    found = _host(lengths, "unpad_sequence: lengths")
    batch = padded_sequences.shape[0 if batch_first else 1]
    if len(found) != batch:
        raise ValueError(f"unpad_sequence: {len(found)} lengths came for a batch of {batch} sequences")
    return [padded_sequences[i, :n, ...] if batch_first else padded_sequences[:n, i, ...] for i, n in enumerate(map(int, found))]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of different lengths.

    Parameters
    ----------
    sequences : list of array
        Of shapes (L, ...), L at least 1.
    enforce_sorted : bool
        Whether to refuse sequences that are not in decreasing order of length.
    """
    return pack_padded_sequence(pad_sequence(sequences), [x.shape[0] for x in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """Give the sequences that were packed, in their order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
