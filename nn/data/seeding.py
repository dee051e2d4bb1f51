"""Which random numbers a fetch sees: they follow from the seed, the epoch and the sample, wherever it is fetched."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import pickle
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from agnostic_ad.nn.data.walking import find
from agnostic_ad.random import Generator, default_generator

__all__ = ["current_generator", "drawing_from"]

_CURRENT: ContextVar[Any] = ContextVar("agnostic_ad_data_generator", default=None)


def current_generator() -> np.random.Generator:
    """Give what to draw from: the stream of the sample that is being fetched, or that of `agnostic_ad.manual_seed` outside a loader.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> from agnostic_ad.nn.data.seeding import current_generator, drawing_from
    >>> with drawing_from(ad.Generator(0)):
    ...     a = current_generator().random()
    >>> with drawing_from(ad.Generator(0)):
    ...     b = current_generator().random()
    >>> a == b
    True
    """
    found = _CURRENT.get()
    if found is None:
        return default_generator._numpy
    return found.generator() if isinstance(found, _Stream) else found


@contextmanager
def drawing_from(generator: Generator | np.random.Generator | None) -> Iterator[None]:
    """Let `current_generator` give this one, until the end of the ``with``; None: leave it as it is."""
    if generator is None:
        yield
        return
    token = _CURRENT.set(generator._numpy if isinstance(generator, Generator) else generator)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def key_of(*parts: int | str, within: bytes = b"") -> bytes:
    """Give 32 bytes that follow from these parts: a hash, so that no two keys share anything."""
    return hashlib.blake2b(repr(parts).encode(), key=within, digest_size=32).digest()


def seeded(key: bytes) -> np.random.Generator:
    """Give a generator that starts from a key."""
    generator = np.random.Generator(np.random.PCG64(0))
    _Own(generator).seed(key)
    return generator


class _Stream:
    """The stream of the present sample for `current_generator`, started when it is asked for."""

    def __init__(self) -> None:
        self._own = _Own(np.random.Generator(np.random.PCG64(0)))
        self.pending: tuple[Any, ...] | None = None

    def generator(self) -> np.random.Generator:
        """Give the generator."""
        if self.pending is not None:
            within, *parts = self.pending
            self._own.seed(key_of(*parts, within=within))
            self.pending = None
        return self._own.generator


# --- what is drawn from: each can be started from a key, kept, and put back ----------------------------------------------------------
class _Own:
    """A `numpy.random.Generator`, or an `agnostic_ad.Generator`, which may change its own."""

    def __init__(self, generator: Any) -> None:
        self._holder = generator

    @property
    def generator(self) -> np.random.Generator:
        return self._holder._numpy if isinstance(self._holder, Generator) else self._holder

    def seed(self, key: bytes) -> None:
        bits: Any = self.generator.bit_generator
        if type(bits) is np.random.PCG64:  # eight times quicker than by a SeedSequence, and the key is a hash already
            state: Any = {"state": int.from_bytes(key[:16], "little"), "inc": int.from_bytes(key[16:], "little") | 1}
            bits.state = {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}
        else:
            bits.state = type(bits)(int.from_bytes(key, "little")).state

    def save(self) -> Any:
        return self.generator.bit_generator.state

    def load(self, state: Any) -> None:
        self.generator.bit_generator.state = state


class _Legacy:
    """A `numpy.random.RandomState`."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def seed(self, key: bytes) -> None:
        self._generator.seed(np.frombuffer(key, np.uint32))

    def save(self) -> Any:
        return self._generator.get_state(legacy=False)

    def load(self, state: Any) -> None:
        self._generator.set_state(state)


class _Python:
    """A `random.Random`."""

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator

    def seed(self, key: bytes) -> None:
        self._generator.seed(int.from_bytes(key, "little"))

    def save(self) -> Any:
        return self._generator.getstate()

    def load(self, state: Any) -> None:
        version, numbers, rest = state  # as lists, where it comes out of a file
        self._generator.setstate((version, tuple(numbers), rest))


def source_of(x: Any) -> Any:
    """Give the source that an object is."""
    if isinstance(x, np.random.RandomState):
        return _Legacy(x)
    return _Python(x) if isinstance(x, random.Random) else _Own(x)


# What the whole process shares. Most datasets draw nothing from it: it is watched, and seeded for each sample only if need be.
_TWISTER = 624 * 4 + 4  # bytes of a Mersenne twister's state


class _SharedNumpy(_Legacy):
    name = "numpy.random"

    def mark(self) -> bytes:
        """Give what changes when something is drawn."""
        bits = self._generator._bit_generator
        if type(bits) is np.random.MT19937:
            return ctypes.string_at(bits.ctypes.state_address, _TWISTER)  # a hundredth of the time that get_state takes
        return pickle.dumps(bits.state)

    def undo(self, mark: bytes) -> None:
        """Go back to where a mark was taken."""
        bits = self._generator._bit_generator
        if type(bits) is np.random.MT19937:
            ctypes.memmove(bits.ctypes.state_address, mark, _TWISTER)
        else:
            bits.state = pickle.loads(mark)


class _SharedPython(_Python):
    name = "random"

    mark, undo = _Python.save, _Python.load


class _SharedDefault(_Own):
    name = "agnostic_ad"

    mark, undo = _Own.save, _Own.load


def shared_sources() -> list[Any]:
    """Give what the whole process shares: the functions of ``numpy.random`` and of ``random``, and the default generator."""
    return [_SharedNumpy(np.random.mtrand._rand), _SharedPython(random._inst), _SharedDefault(default_generator)]


class Streams:
    """The random numbers of what fetches: a dataset with its transforms.

    Generators that it holds start anew for each sample, from a key. What the process shares starts anew too if a batch is seen to draw
    from it.

    Parameters
    ----------
    *roots : object
        The dataset, and functions that are called with its samples.
    restore : bool
        Whether others in this process draw from the same sources, so that they are put back after each batch.
    again : bool
        Whether a batch can be fetched again. If not, what the process shares is started anew always.
    """

    def __init__(self, *roots: Any, restore: bool, again: bool = True) -> None:
        self._roots, self._restore = roots, restore
        self._stream = _Stream()
        self.found = find(())
        self.look()
        self._drawn = shared_sources() if again or not self.found.quiet else []  # in the first batch, all of them
        self._watched: list[Any] = []
        self._marks: list[Any] = []
        self._seen: set[str] = set()
        self._first = again

    def look(self) -> bool:
        """Look for generators; tell whether there are others than before."""
        before, self.found = self.found.generators, find(self._roots)
        self._own = [source_of(x) for x in self.found.generators]
        return list(map(id, before)) != list(map(id, self.found.generators))

    @property
    def unknown(self) -> bool:
        """Whether nothing has been fetched so far that would show what is drawn from."""
        return self._first

    @property
    def shared(self) -> bool:
        """Whether the dataset draws from what threads share, as far as is known."""
        return bool(self._drawn) or self.found.shared

    def start(self, within: bytes, *parts: int | str) -> None:
        """Begin a sample (or a batch, where the dataset fetches it whole), whose key is that of these parts."""
        self._stream.pending = (within, *parts)
        if not (self._own or self._drawn):
            return
        if self._first:
            self._note()
        key = key_of(*parts, within=within)
        for number, source in enumerate(self._own):
            source.seed(key_of(number, within=key))
        for source in self._drawn:
            source.seed(key_of(source.name, within=key))
        if self._first:
            self._marks = [source.mark() for source in self._drawn]

    def _note(self) -> None:
        self._seen |= {source.name for source, mark in zip(self._drawn, self._marks) if source.mark() != mark}

    def run(self, fetch: Callable[[], Any]) -> Any:
        """Fetch a batch; ``fetch`` calls `start` for each sample. It is done again if it turns out to draw from more than was known."""
        token = _CURRENT.set(self._stream)
        kept = [(source, source.save()) for source in [*self._own, *self._drawn]] if self._restore else []
        marks = [source.mark() for source in self._watched]
        try:
            result = fetch()
            if self._first:
                if self.look():  # some were made when the dataset was first asked
                    result = fetch()
                self._note()
                self._first = False
                self._watched = [source for source in self._drawn if source.name not in self._seen]
                self._drawn = [source for source in self._drawn if source.name in self._seen]
            elif changed := [(source, mark) for source, mark in zip(self._watched, marks) if source.mark() != mark]:
                kept_marks = changed if self._restore else []
                self._drawn += [source for source, _ in changed]
                self._watched = [source for source in self._watched if source not in self._drawn]
                try:
                    result = fetch()
                finally:
                    for source, mark in kept_marks:
                        source.undo(mark)
            return result
        finally:
            for source, state in kept:
                source.load(state)
            _CURRENT.reset(token)


class DrawsShared(Exception):
    """A thread drew from what the whole process shares, or another thread did so meanwhile."""


class ThreadStreams(Streams):
    """The random numbers of what a thread fetches: what the process shares is left alone, and a draw from it is noticed."""

    def __init__(self, *roots: Any, again: bool) -> None:
        super().__init__(*roots, restore=False, again=False)
        self._drawn, self._watched = [], shared_sources() if again else []

    def run(self, fetch: Callable[[], Any]) -> Any:
        """Fetch a batch."""
        token = _CURRENT.set(self._stream)
        marks = [source.mark() for source in self._watched]
        try:
            result = fetch()
        finally:
            _CURRENT.reset(token)
        if any(source.mark() != mark for source, mark in zip(self._watched, marks)):
            raise DrawsShared
        return result


class Guarded:
    """An iterator whose draws are its own: from a key, and not from where the process's sources happen to be.

    Parameters
    ----------
    iterable : iterable
        What is iterated over.
    sources : list
        What it may draw from.
    key : bytes
        Where these start.
    """

    def __init__(self, iterable: Any, sources: list[Any], key: bytes) -> None:
        self._sources = sources
        self._states: list[Any] | None = None
        self._key = key
        self._iterator = self._inside(lambda: iter(iterable))

    def _inside(self, do: Callable[[], Any]) -> Any:
        outside = [source.save() for source in self._sources]
        for number, source in enumerate(self._sources):
            if self._states is None:
                source.seed(key_of(number, within=self._key))
            else:
                source.load(self._states[number])
        try:
            return do()
        finally:
            self._states = [source.save() for source in self._sources]
            for source, state in zip(self._sources, outside):
                source.load(state)

    def __iter__(self) -> Guarded:
        return self

    def __next__(self) -> Any:
        return self._inside(self._iterator.__next__)

    def take(self, count: int) -> list[Any]:
        """Give the next ones, as many as there are up to a number."""
        taken: list[Any] = self._inside(lambda: list(itertools.islice(self._iterator, count)))
        return taken
