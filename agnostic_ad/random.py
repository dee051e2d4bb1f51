"""Random numbers from the host's generator, so that one seed gives the same numbers whatever the array library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from agnostic_ad.config import dtype_name
from agnostic_ad.namespaces import backend_of

__all__ = ["Generator", "default_generator", "manual_seed", "placed", "replay"]


class Generator:
    """A source of random numbers, drawn as NumPy arrays on the host.

    Parameters
    ----------
    seed : int, optional
        Where to start; by default the operating system chooses.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> bool((ad.Generator(0).normal((3,)) == ad.Generator(0).normal((3,))).all())
    True
    """

    def __init__(self, seed: int | None = None) -> None:
        self.manual_seed(int(np.random.SeedSequence().generate_state(1, np.uint32)[0]) if seed is None else seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed``; give the generator itself."""
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"a seed is an integer of 0 or more, not {seed!r}")
        self._seed = int(seed)
        self._numpy = np.random.Generator(np.random.PCG64(self._seed))
        return self

    def initial_seed(self) -> int:
        """Give the seed that the generator started from."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """Give all that is needed to go on from here, as a dict."""
        return {"seed": self._seed, "numpy": self._numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where `get_state` was called."""
        self._seed = state["seed"]
        self._numpy.bit_generator.state = state["numpy"]

    def uniform(self, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> np.ndarray[Any, Any]:
        """Draw float64 numbers between ``low`` and ``high``."""
        return np.asarray(self._numpy.uniform(low, high, shape))

    def normal(self, shape: tuple[int, ...] = (), mean: float = 0.0, std: float = 1.0) -> np.ndarray[Any, Any]:
        """Draw float64 numbers from a normal distribution."""
        return np.asarray(self._numpy.normal(mean, std, shape))

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> np.ndarray[Any, Any]:
        """Draw int64 numbers from ``low`` to ``high - 1``."""
        return np.asarray(self._numpy.integers(low, high, shape))

    def gumbel(self, shape: tuple[int, ...] = ()) -> np.ndarray[Any, Any]:
        """Draw float64 numbers from Gumbel's distribution."""
        return np.asarray(self._numpy.gumbel(size=shape))

    def bernoulli(self, shape: tuple[int, ...] = (), p: float = 0.5) -> np.ndarray[Any, Any]:
        """Draw booleans that are True with probability ``p``.

        16 random bits decide, a quarter of a word of the generator's; where they tie with those of ``p``, a further number does.
        """
        count = math.prod(shape)
        bits = self._numpy.integers(0, 1 << 64, -(-count // 4), dtype=np.uint64).view(np.uint16)[:count]
        whole, rest = divmod(p * 65536, 1)
        hit = bits < int(whole)
        if rest:
            ties = np.flatnonzero(bits == int(whole))
            hit[ties] = self._numpy.random(len(ties)) < rest
        return hit.reshape(shape)

    def permutation(self, n: int) -> np.ndarray[Any, Any]:
        """Give the numbers from 0 to ``n - 1`` in random order."""
        return self._numpy.permutation(n)

    def __repr__(self) -> str:
        return f"Generator(seed={self._seed})"


default_generator = Generator()
"""What initial weights and shuffling draw from where no generator is given."""


def manual_seed(seed: int) -> Generator:
    """Start the default generator again from ``seed``: initial weights and shuffling repeat from here.

    Parameters
    ----------
    seed : int
        An integer of 0 or more.

    Returns
    -------
    Generator
        The default generator.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> _ = ad.manual_seed(0); a = nn.Linear(3, 2)
    >>> _ = ad.manual_seed(0); b = nn.Linear(3, 2)
    >>> bool((a.weight.data == b.weight.data).all())
    True
    """
    return default_generator.manual_seed(seed)


def placed(values: Any, like: Any, shape: tuple[int, ...]) -> Any:
    """Give numbers of the host as a raw array of a shape, in the library and dtype and on the device of another."""
    backend = backend_of(like)
    host = np.broadcast_to(np.asarray(values, dtype="complex128" if np.iscomplexobj(values) else "float64"), shape)
    try:
        return backend.from_numpy(host.astype(dtype_name(like.dtype)), backend.device(like))
    except TypeError:  # a dtype that NumPy lacks, or that it has from JAX and this library does not take
        return backend.astype(backend.from_numpy(host, backend.device(like)), like.dtype)


@contextmanager
def replay(state: dict[str, Any] | None) -> Iterator[None]:
    """Draw from the default generator what was drawn from ``state`` on, and let it go on afterwards as if nothing had been; None: do nothing."""
    if state is None:
        yield
        return
    now = default_generator.get_state()
    default_generator.set_state(state)
    try:
        yield
    finally:
        default_generator.set_state(now)
