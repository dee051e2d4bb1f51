"""Which values may share memory: a plan for the intermediate values of a graph in one piece of memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad.graph.ir import Graph, GraphNode, Output

__all__ = ["Plan", "Room", "donations", "nbytes", "plan", "planned"]

ALIGNMENT = 64


class Room(NamedTuple):
    """A place in memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: Any


class Plan(NamedTuple):
    """Where values lie.

    Attributes
    ----------
    rooms : dict of Output to Room
        The values that have a place.
    size : int
        How many bytes there are.
    unplanned : int
        How many there would be if no two values shared any.
    """

    rooms: dict[Output, Room]
    size: int
    unplanned: int


def planned(graph: Graph) -> Graph:
    """Let the intermediate values of a graph's program share memory, which the program keeps; where it lies is found when the sizes are known."""
    return graph.rebuild(planned=True)


class _Storage:
    """The memory of one value, and of those that are computed over it."""

    def __init__(self, place: Output, start: int, size: int) -> None:
        self.places, self.start, self.end, self.size, self.offset = [place], start, start, size, 0


def nbytes(place: Output) -> int:
    """Give the size of a value."""
    return int(math.prod(place.spec.shape)) * int(place.spec.dtype.itemsize)


def plan(
    graph: Graph,
    writes: Callable[[GraphNode], bool],
    fresh: Callable[[GraphNode], bool],
    over: Callable[[GraphNode, int], list[Output]],
    least: int,
) -> Plan:
    """Give each intermediate value a place, such that none is written over while it is needed.

    What is returned, or may share memory with what is, has no place: it is the caller's.

    Parameters
    ----------
    graph : Graph
        Its sizes are numbers.
    writes : callable
        Whether a node can write its results where it is told to.
    fresh : callable
        Whether a node's results are memory of their own. Those of others may be views of any operand.
    over : callable
        The operands that a node's result of a number may be written over, if nobody needs them afterwards.
    least : int
        Smaller values, in bytes, are not worth a place.

    Returns
    -------
    Plan
    """
    owners, ends = _lives(graph, fresh, ())
    kept = frozenset[Output]().union(*(owners.get(x, frozenset()) for x in graph.outputs if isinstance(x, Output)))

    storages: dict[Output, _Storage] = {}
    for position, node in enumerate(graph.nodes):
        if not writes(node):
            continue
        for i in range(len(node.outputs)):
            place = Output(node, i)
            if place in kept or nbytes(place) < least:
                continue
            under = next((x for x in over(node, i) if x in storages and ends[x] == storages[x].end == position and _alike(x, place)), None)
            if under is not None and any(under in owners.get(x, ()) for x in node.places() if x != under):
                under = None  # a view of it is read too
            storage = storages[place] = _Storage(place, position, nbytes(place)) if under is None else storages[under]
            storage.end = max(storage.end, ends[place]) if under is None else ends[place]
            storage.end += storage.end == position and under is not None  # taken: no second result may lie there
            if under is not None:
                storage.places.append(place)
    placed = sorted({id(s): s for s in storages.values()}.values(), key=lambda s: (-s.size, s.start))
    _place(placed)
    rooms = {p: Room(s.offset, tuple(p.spec.shape), p.spec.dtype) for s in placed for p in s.places}
    return Plan(rooms, max((_aligned(s.offset + s.size) for s in placed), default=0), sum(_aligned(nbytes(p)) for p in rooms))


def _place(storages: Sequence[_Storage]) -> None:
    """Give each the lowest place that is free for its whole life, in this order."""
    starts, ends, sizes = np.asarray([(s.start, s.end, _aligned(s.size)) for s in storages], np.int64).reshape(-1, 3).T
    offsets = np.zeros(len(storages), np.int64)
    for k, storage in enumerate(storages):
        busy = np.flatnonzero((starts[:k] <= storage.end) & (ends[:k] >= storage.start))
        busy = busy[np.argsort(offsets[busy])]
        tops = np.maximum.accumulate(np.append(0, offsets[busy] + sizes[busy]))  # where gaps begin
        gaps = np.append(offsets[busy], np.iinfo(np.int64).max) - tops
        offsets[k] = tops[np.argmax(gaps >= storage.size)]
        storage.offset = int(offsets[k])


def donations(
    graph: Graph, writes: Callable[[GraphNode], bool], fresh: Callable[[GraphNode], bool], over: Callable[[GraphNode, int], list[Output]]
) -> dict[Output, Output]:
    """Give results that can be written over arguments which the caller gives away, each with its argument.

    Parameters
    ----------
    graph, writes, fresh, over
        As `plan`'s.
    """
    free = {Output(graph.inputs[i], 0) for i in graph.donated}
    owners, ends = _lives(graph, fresh, free)
    results = [x for x in graph.outputs if isinstance(x, Output)]
    free = free.difference(*(owners.get(x, ()) for x in results))
    found: dict[Output, Output] = {}
    for position, node in enumerate(graph.nodes if free else ()):
        for place in (Output(node, i) for i in range(len(node.outputs)) if writes(node)):
            if results.count(place) != 1:
                continue
            under = next((x for x in over(node, place.index) if x in free and ends[x] == position and _alike(x, place)), None)
            if under is not None and not any(under in owners.get(x, ()) for x in node.places() if x != under):
                found[place] = under
                free.discard(under)
    return found


def _lives(
    graph: Graph, fresh: Callable[[GraphNode], bool], inputs: Iterable[Output]
) -> tuple[dict[Output, frozenset[Output]], dict[Output, int]]:
    """Give, for each place, those in whose memory it may lie, and the position of the last node that needs what lies there."""
    owners = {x: frozenset({x}) for x in inputs}
    ends = dict.fromkeys(owners, -1)
    for position, node in enumerate(graph.nodes):
        taken = frozenset[Output]().union(*(owners.get(x, frozenset()) for x in node.places()))
        ends.update(dict.fromkeys(taken, position))
        views = frozenset() if fresh(node) else taken
        for i in range(len(node.outputs)):
            place = Output(node, i)
            owners[place], ends[place] = views | {place}, position
    return owners, ends


def _alike(a: Output, b: Output) -> bool:
    return (a.spec.shape, a.spec.dtype) == (b.spec.shape, b.spec.dtype)


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
