"""One operation on one library: all its calls, held to all laws."""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agnostic_ad.conformance.catalogue import DTYPES, Call, calls
from agnostic_ad.conformance.laws import LAWS, NARROW, LawBroken, Place
from agnostic_ad.conformance.report import Row
from agnostic_ad.conformance.strategies import drawn, smallest
from agnostic_ad.errors import MissingFunctionError
from agnostic_ad.op import TABLE

__all__ = ["EXTENTS", "Extent", "check", "has", "hold", "operations", "resolve", "sample"]

INNER = {"nn.pool_take": "nn.max_pool", "nn.pool_put": "nn.max_pool"}
"""Operations whose operands must fit each other: they are reached through the second derivatives of the one named."""


@dataclass(frozen=True)
class Extent:
    """How many calls of an operation are checked with each kind of dtype.

    Attributes
    ----------
    stated : int or None
        Of those that the table states; None for all.
    drawn : int
        Of those that `strategies` draws.
    narrow : int
        In each dtype of less than double precision.
    """

    stated: int | None
    drawn: int
    narrow: int


EXTENTS = {"least": Extent(1, 0, 1), "stated": Extent(None, 1, 3), "quick": Extent(None, 4, 3), "full": Extent(None, 60, 20)}
"""The levels of a run, and two for this package's own tests."""


def operations() -> list[str]:
    """Give the names of all operations of the table, each once; but for those whose operands are graphs, which no sample can state."""
    return [name for name, op in TABLE.items() if op.name == name and name not in INNER and not name.startswith("graph.")]


def resolve(namespace: str) -> Any:
    """Import a namespace: "numpy", "jax.numpy", or "package.module:attribute"."""
    import importlib

    module, _, attribute = namespace.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found


def sample(name: str, place: Place, extent: Extent, seed: int) -> dict[str, list[Call]]:
    """Give the calls of an operation to check on a library, by dtype, the smallest first."""
    op = TABLE[name]
    by_kind: dict[str, list[Call]] = {}
    for call in calls(op, seed=seed):
        by_kind.setdefault(call.kind, []).append(call)
    found: dict[str, list[Call]] = {}
    for kind, stated in by_kind.items():
        chosen = stated[: extent.stated] + drawn(op, kind, extent.drawn, seed)
        found[chosen[0].dtype] = sorted(chosen, key=lambda call: call.size)
        for precision in ("single", "half", "brain"):
            if kind in DTYPES[precision] and kind in "fc" and chosen[0].moving and has(place, DTYPES[precision][kind]):
                spread = chosen[:: max(1, len(chosen) // extent.narrow)][: extent.narrow]
                narrow = [Call(op, call.case, kind, precision) for call in spread]
                found[narrow[0].dtype] = sorted(narrow, key=lambda call: call.size)
    return found


def has(place: Place, dtype: str) -> bool:
    """Tell whether a library has a dtype, by name."""
    try:
        return place.backend.dtype(dtype) is not None
    except (AttributeError, TypeError, LookupError, ValueError):
        return False


def check(name: str, place: Place, level: str = "quick", seed: int = 0) -> Iterator[Row]:
    """Hold one operation to all laws, and give a row for each law and dtype.

    Parameters
    ----------
    name : str
        The operation.
    place : Place
        The library and the device.
    level : str
        One of `EXTENTS`.
    seed : int
        Of all numbers and of what is drawn.

    Yields
    ------
    Row
        Its ``cases`` are the calls that the law had something to say about. There is none for a law that says nothing about any call.
    """
    device = str(place.device if place.device is not None else "")
    for dtype, chosen in sample(name, place, EXTENTS[level], seed).items():
        for law in LAWS:
            if (law in NARROW) != (chosen[0].precision != "double"):
                continue
            start = time.perf_counter()
            status, cases, reason, example = hold(law, chosen, place, seed)
            if cases:
                yield Row(name, law, dtype, device, status, cases, reason, example, time.perf_counter() - start)


def hold(law: str, chosen: list[Call], place: Place, seed: int = 0) -> tuple[str, int, str, str]:
    """Hold calls to one law.

    Returns
    -------
    tuple
        The status of a `Row`, the number of calls that the law had something to say about, the reason, and an example.
    """
    cases = 0
    for call in chosen:
        status, reason = _verdict(law, call, place)
        cases += bool(status)
        if status in ("failed", "error"):
            least = smallest(call, functools.partial(_gives, status, law, place), seed)
            return status, cases, _verdict(law, least, place)[1], least.code(place.backend.name)
        if status == "missing":
            return status, cases, reason, call.code(place.backend.name)
    return "passed", cases, "", ""


def _gives(status: str, law: str, place: Place, call: Call) -> bool:
    return _verdict(law, call, place)[0] == status


def _verdict(law: str, call: Call, place: Place) -> tuple[str, str]:
    """Give a status, "" where the law says nothing, and the reason."""
    try:
        return "passed" if LAWS[law](call, place) else "", ""
    except LawBroken as error:
        return "failed", str(error)
    except MissingFunctionError as error:
        return "missing", str(error)
    except Exception:
        return "error", traceback.format_exc(limit=-3)
