"""Where random transforms draw from: the stream of the sample that is being fetched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from agnostic_ad.random import Generator, default_generator

__all__ = ["current_generator", "drawing_from"]

_CURRENT: ContextVar[np.random.Generator | None] = ContextVar("agnostic_ad_data_generator", default=None)


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
    return default_generator._numpy if found is None else found


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
