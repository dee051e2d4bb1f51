"""What an entry of the list of calls is, and how its arrays are drawn.

A call is a function of the client's module and of arrays, of NumPy or wrapped ones alike. How its arrays are drawn says what is
differentiated: floating and complex arrays are, integers and booleans are not.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], Any]
CALLS: list[Call] = []
REFUSED: list[Call] = []
"""Calls that must raise: what they call takes NumPy's memory."""
NUMBERS: list[Call] = []
"""Calls that end in ``float(...)``, or begin with it: on Variables they give a number, inside a transformation they raise."""


@dataclass(frozen=True)
class Call:
    """One call of a client.

    Attributes
    ----------
    client : str
        The module to import.
    name : str
        What the page says.
    run : callable
        ``(module, *arrays) -> array``, or a tree of arrays and numbers.
    draws : tuple of callable
        From random numbers to NumPy arrays.
    rtol : float
        How closely the gradient must agree with differences; looser than 1e-6 is for what ``why`` says.
    why : str
        The reason of ``rtol``.
    strong : str
        Why it needs ``ad.strong_zeros()``, where it does.
    until : str
        The version of SciPy from which a call that is listed as refused goes through.
    """

    client: str
    name: str
    run: Callable[..., Any]
    draws: tuple[Draw, ...]
    rtol: float = 1e-6
    why: str = ""
    strong: str = ""
    until: str = ""

    @property
    def module(self) -> Any:
        return importlib.import_module(self.client)

    @property
    def label(self) -> str:
        return f"{self.client}.{self.name}"


class Client:
    """Adds the calls of one module to the list."""

    def __init__(self, module: str, calls: list[Call] = CALLS) -> None:
        self.module, self.calls = module, calls

    def __call__(
        self, name: str, run: Callable[..., Any], *draws: Draw, rtol: float = 1e-6, why: str = "", strong: str = "", until: str = ""
    ) -> None:
        self.calls.append(Call(self.module, name, run, draws, rtol, why, strong, until))

    def plain(self, names: str, *draws: Draw, until: str = "") -> None:
        """Add functions that are called with the arrays and nothing else."""
        for name in names.split():
            self(name, lambda m, *x, name=name: getattr(m, name)(*x), *draws, until=until)


# --- how arrays are drawn ---------------------------------------------------------------------------------------------------------------
def normal(*shape: int) -> Draw:
    return lambda rng: np.asarray(rng.standard_normal(shape))


def between(low: float, high: float, *shape: int) -> Draw:
    return lambda rng: np.asarray(rng.uniform(low, high, shape))


def positive(*shape: int) -> Draw:
    return between(0.5, 3.0, *shape)


def unit(*shape: int) -> Draw:
    return between(0.1, 0.9, *shape)


def complex_normal(*shape: int) -> Draw:
    return lambda rng: rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def apart(n: int) -> Draw:
    """Draw numbers of which no two come close, in random order."""
    return lambda rng: rng.permutation(np.linspace(-1.0, 1.5, n) + rng.uniform(-0.2, 0.2, n) / n)


def whole(high: int, *shape: int) -> Draw:
    return lambda rng: rng.integers(0, high, shape)


def given(values: Any) -> Draw:
    return lambda rng: np.asarray(values)


def near_rotation(n: int) -> Draw:
    """Draw matrices near rotations, as measurements are."""

    def draw(rng: np.random.Generator) -> Any:
        q = np.linalg.qr(rng.standard_normal((n, 3, 3)))[0]
        return q * np.linalg.det(q)[:, None, None] + 0.1 * rng.standard_normal((n, 3, 3))

    return draw


def spd(n: int) -> Draw:
    """Draw a symmetric positive definite matrix."""

    def draw(rng: np.random.Generator) -> Any:
        a = rng.standard_normal((n, n))
        return a @ a.T + n * np.eye(n)

    return draw


def namespace(x: Any) -> Any:
    """Give the namespace of an array, as clients ask for it."""
    return x.__array_namespace__()


def quietly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call what warns of something else than its arrays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)
