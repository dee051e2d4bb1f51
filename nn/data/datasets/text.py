"""Text: windows of one long text for sequence models, and lines one after the other."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from agnostic_ad.nn.data.dataset import DamagedSample, Dataset, DatasetError, IterableDataset
from agnostic_ad.nn.data.datasets.folders import OnError, skips
from agnostic_ad.nn.data.datasets.mapped import SMALL, Reopened, derived, map_array

__all__ = ["JSONLines", "Lines", "TextWindows"]

_BLOCK = 1 << 20


class TextWindows(Dataset):
    """Pieces of a text as numbers: a sample is (tokens, the same moved on by one), so that a model learns which token comes next.

    Bytes are read from the mapped file. Characters are turned into numbers once, in memory for a file of less than 64 MiB and else in a
    file of the user's cache, which is mapped. Memory in use does not grow with what has been read.

    Parameters
    ----------
    path : path
        A text file, in UTF-8 if ``level`` is "character".
    length : int
        How many tokens a sample has.
    level : "character" or "byte"
        What a token is.
    stride : int, optional
        How far the next sample's beginning is; by default ``length``, so that samples do not overlap.
    vocabulary : str, optional
        All characters, in the order of their numbers: that of another text, such as the one trained on. By default those of the file,
        sorted.

    Attributes
    ----------
    vocabulary : str or None
        The characters in the order of their numbers; None for bytes.
    vocab_size : int
        How many different tokens there are.

    Raises
    ------
    DatasetError
        If the file is absent, is not in UTF-8, or has a character that ``vocabulary`` lacks; it says where.

    Examples
    --------
    >>> import pathlib
    >>> from agnostic_ad import nn
    >>> _ = pathlib.Path("text.txt").write_text("abcabcab")
    >>> data = nn.data.datasets.TextWindows("text.txt", length=3)
    >>> len(data), data[0], data.decode(data[1][1])
    (2, (array([0, 1, 2]), array([1, 2, 0])), 'bca')
    """

    def __init__(
        self, path: str | os.PathLike[str], length: int, level: str = "character", stride: int | None = None, vocabulary: str | None = None
    ) -> None:
        self.path, self.length, self.level, self.stride = Path(path), length, level, length if stride is None else stride
        if level not in ("character", "byte"):
            raise ValueError(f'TextWindows: level is "character" or "byte", not {level!r}')
        if min(self.length, self.stride) < 1:
            raise ValueError(f"TextWindows: length and stride are 1 or more, not {self.length} and {self.stride}")
        if not self.path.is_file():
            raise DatasetError(f"there is no {self.path}")
        self.vocabulary: str | None = None
        self._tokens: Any
        if level == "byte":
            self.vocab_size, self._count, self._width = 256, self.path.stat().st_size, 1
            self._tokens = Reopened(map_array, str(self.path), np.dtype(np.uint8), (self._count,), 0, "C")
        else:
            self._read_characters(vocabulary)

    def _read_characters(self, vocabulary: str | None) -> None:
        if vocabulary is None:
            vocabulary = "".join(sorted(set().union(*(set(block) for block in self._blocks()))))
        self.vocabulary, self.vocab_size = vocabulary, len(vocabulary)
        codes = np.array([ord(character) for character in vocabulary], np.uint32)
        order = np.argsort(codes, kind="stable")
        dtype = np.min_scalar_type(max(len(vocabulary) - 1, 0))
        self._width = dtype.itemsize

        def numbers() -> Iterator[np.ndarray[Any, Any]]:
            seen = 0
            for block in self._blocks():
                found = np.frombuffer(block.encode("utf-32-le"), np.uint32)
                at = np.minimum(np.searchsorted(codes, found, sorter=order), len(codes) - 1) if len(codes) else np.zeros_like(found)
                missing = np.flatnonzero(codes[order[at]] != found) if len(codes) else np.arange(len(found))
                if missing.size:
                    where = seen + int(missing[0])
                    raise DatasetError(f"{self.path}: character {where}, {block[missing[0]]!r}, is not in the vocabulary")
                seen += len(found)
                yield order[at].astype(dtype)

        if self.path.stat().st_size < SMALL:
            tokens = np.concatenate([np.zeros(0, dtype), *numbers()])
            self._tokens, self._count = tokens, len(tokens)
            return

        def write(new: Path) -> None:
            with open(new, "wb") as file:
                for part in numbers():
                    file.write(part.tobytes())

        made = derived(self.path, ["characters", vocabulary], ".tokens", write)
        self._count = made.stat().st_size // dtype.itemsize
        self._tokens = Reopened(map_array, str(made), dtype, (self._count,), 0, "C")

    def _blocks(self) -> Iterator[str]:
        decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
        with open(self.path, "rb") as file:
            while True:
                block = file.read(_BLOCK)
                try:
                    yield decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    place = done - (len(error.object) - len(block)) + error.start  # the decoder keeps the beginning of a character
                    raise DatasetError(f"{self.path} is not in UTF-8: byte {place} ({error.reason})") from None
                if not block:
                    return
                done += len(block)

    def __len__(self) -> int:
        return max(0, (self._count - 1 - self.length) // self.stride + 1)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"sample {index} of {n}")
        inputs, targets = self.take(np.asarray([index % n]))
        return inputs[0], targets[0]

    def take(self, indices: np.ndarray[Any, Any]) -> tuple[Any, Any]:
        """Give the samples of these numbers as one batch."""
        size = self.length + 1

        def fetch(tokens: np.ndarray[Any, Any], some: np.ndarray[Any, Any]) -> Any:
            return tokens[some[:, None] * self.stride + np.arange(size)]

        indices, tokens = np.asarray(indices), self._tokens
        found = fetch(tokens, indices) if isinstance(tokens, np.ndarray) else tokens.read(indices, self.stride * self._width, fetch)
        pieces = found.astype(np.int64)
        return np.ascontiguousarray(pieces[:, :-1]), np.ascontiguousarray(pieces[:, 1:])

    def decode(self, tokens: Any) -> str:
        """Give the text that tokens stand for; bytes that are no UTF-8 become �."""
        numbers = np.asarray(tokens)
        if self.vocabulary is None:
            return numbers.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return "".join(self.vocabulary[number] for number in numbers)


class Lines(IterableDataset):
    r"""The lines of text files, one after the other and without their ends; of any size, packed by gzip or not.

    Parameters
    ----------
    paths : path or sequence of path
        The files.
    encoding : str
        How characters are encoded; one in which a line ends with the byte 10.
    on_error : "raise" or "skip"
        What happens with a line that cannot be decoded: an error, which names the file and the line; or a warning, and the next line.

    Examples
    --------
    >>> import pathlib
    >>> from agnostic_ad import nn
    >>> _ = pathlib.Path("lines.txt").write_text("one\ntwo\n")
    >>> list(nn.data.datasets.Lines("lines.txt"))
    ['one', 'two']
    """

    blank = True  # whether empty lines are samples

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], encoding: str = "utf-8", *, on_error: OnError = "raise"
    ) -> None:
        self.paths = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
        codecs.lookup(encoding)
        self.encoding, self.skip = encoding, skips(type(self).__name__, on_error)

    def _parse(self, line: bytes) -> Any:
        return line.rstrip(b"\r\n").decode(self.encoding)

    def __iter__(self) -> Iterator[Any]:
        for path in self.paths:
            try:
                with open(path, "rb") as plain, _unpacked(plain) as file:
                    for index, line in enumerate(file):
                        if not (self.blank or line.strip()):
                            continue
                        try:
                            sample = self._parse(line)
                        except ValueError as error:
                            damage = DamagedSample(index, path, error, self.skip)
                            if not self.skip:
                                raise damage from None
                            warnings.warn(f"left out: {damage}", stacklevel=2)
                            continue
                        yield sample
            except FileNotFoundError:
                raise DatasetError(f"there is no {path}") from None
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise DatasetError(f"{path} is damaged: {error}") from None


class JSONLines(Lines):
    """The objects of JSON-lines files, one line each; empty lines are passed over. The parameters are those of `Lines`."""

    blank = False

    def _parse(self, line: bytes) -> Any:
        return json.loads(super()._parse(line))


def _unpacked(file: IO[bytes]) -> Any:
    packed = file.peek(2)[:2] == b"\x1f\x8b"  # type: ignore[attr-defined]
    return gzip.GzipFile(fileobj=file) if packed else file
