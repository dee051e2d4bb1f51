"""Where the parts of a picture go: layers from top to bottom, boxes inside boxes (Sugiyama, Tagawa and Toda, 1981, level by level of the boxes).

A box is laid out first, by itself; what comes in or goes out passes ports on its border, so no line crosses what is not its own. Around it,
the box is one item among others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["Box", "Leaf", "Line", "Placed", "place"]

GAP, RISE, MARGIN, TITLE = 14.0, 34.0, 10.0, 16.0
"""Between neighbours, between layers, inside a box's border, and for its title."""
_SWEEPS = 8
Point = tuple[float, float]


@dataclass(eq=False)
class Leaf:
    """Something to be drawn: its text, how large that is, what kind of thing it is, and the boxes that it lies in."""

    lines: tuple[str, ...]
    kind: str = "op"
    scope: tuple[tuple[str, str], ...] = ()
    tip: str = ""
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.width = max((len(line) for line in self.lines), default=0) * 6.7 + 14
        self.height = len(self.lines) * 13.0 + 8


@dataclass(eq=False)
class Box:
    """A group, with its title; ``kind`` as of its border."""

    title: str
    kind: str
    children: list[Any]
    width: float = 0.0
    height: float = 0.0


@dataclass(eq=False)
class Line:
    """From one leaf to another, with a text."""

    source: Leaf
    target: Leaf
    label: str = ""


@dataclass
class Placed:
    """A picture with places: the left upper corners of leaves and boxes, and the points of lines."""

    width: float
    height: float
    leaves: list[tuple[Leaf, float, float]]
    boxes: list[tuple[Box, float, float]]
    lines: list[tuple[Line, list[Point]]]


@dataclass(eq=False)
class _Port:
    """Where lines pass the border of a box, or a layer on their way."""

    width: float = 2.0
    height: float = 0.0


# --- what lies in which box -----------------------------------------------------------------------------------------------------------------
def _in_order(leaves: Sequence[Leaf], lines: Sequence[Line]) -> list[Leaf]:
    """Give leaves so that lines go forward, those of one box next to each other where that can be; what comes from nowhere, when it is needed."""
    before: dict[Leaf, dict[Leaf, None]] = {leaf: {} for leaf in leaves}
    after: dict[Leaf, dict[Leaf, None]] = {leaf: {} for leaf in leaves}
    for line in lines:
        before[line.target][line.source] = None
        after[line.source][line.target] = None
    number = {leaf: i for i, leaf in enumerate(leaves)}
    waiting = {leaf: sum(bool(before[a]) for a in before[leaf]) for leaf in leaves}
    ready = [leaf for leaf in leaves if not waiting[leaf] and (before[leaf] or not after[leaf])]
    found: dict[Leaf, None] = {}
    scope: tuple[Any, ...] = ()
    while ready:
        best = max(ready, key=lambda leaf: (_shared(leaf.scope, scope), -number[leaf]))
        ready.remove(best)
        found |= dict.fromkeys(
            sorted((a for a in before[best] if not before[a] and a not in found), key=lambda a: _shared(a.scope, best.scope))
        )
        found[best] = None
        scope = best.scope
        for leaf in after[best]:
            waiting[leaf] -= 1
            if not waiting[leaf]:
                ready.append(leaf)
    return list(found)


def _shared(a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def _boxes(leaves: Sequence[Leaf]) -> Box:
    """Make boxes of what follows each other in one scope."""
    root = Box("", "root", [])
    open_boxes: list[Box] = [root]
    scope: tuple[tuple[str, str], ...] = ()
    for leaf in leaves:
        keep = _shared(leaf.scope, scope)
        del open_boxes[keep + 1 :]
        for title, kind in leaf.scope[keep:]:
            box = Box(title, kind, [])
            open_boxes[-1].children.append(box)
            open_boxes.append(box)
        open_boxes[-1].children.append(leaf)
        scope = leaf.scope
    return root


# --- one level ------------------------------------------------------------------------------------------------------------------------------
class _Level:
    """One box: its items, with those of lines that pass its border."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.links: dict[tuple[Any, Any, Leaf], None] = {}  # from item to item, on behalf of a leaf
        self.entries: dict[Leaf, _Port] = {}
        self.exits: dict[Leaf, _Port] = {}
        self.at: dict[Any, Point] = {}  # left upper corners
        self.floor: dict[Any, float] = {}  # where their layers end: lines bend only between layers
        self.ways: dict[tuple[Any, Any, Leaf], list[Any]] = {}

    def entry(self, source: Leaf) -> _Port:
        return self.entries.setdefault(source, _Port())

    def exit(self, source: Leaf) -> _Port:
        return self.exits.setdefault(source, _Port())

    def layers(self) -> list[list[Any]]:
        """Give the items in layers, with ports where lines pass one."""
        items = [*self.entries.values(), *self.box.children, *self.exits.values()]
        before, after = defaultdict(list), defaultdict(list)
        for a, b, _ in self.links:
            before[b].append(a)
            after[a].append(b)
        depth: dict[Any, int] = {}
        for item in self._sorted(items, before):
            depth[item] = max((depth[a] + 1 for a in before[item]), default=0 if isinstance(item, _Port) or not self.entries else 1)
        for item in items:  # what comes from nowhere stands where it is needed
            if not before[item] and after[item] and not isinstance(item, _Port):
                depth[item] = min(depth[b] for b in after[item]) - 1
        last = max((d for item, d in depth.items() if item not in self.exits.values()), default=0)
        depth |= {port: last + 1 for port in self.exits.values()}
        found: list[list[Any]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
        for item in items:
            found[depth[item]].append(item)
        chains: dict[tuple[Any, Leaf, int], _Port] = {}
        for a, b, leaf in self.links:
            way = [a]
            for d in range(depth[a] + 1, depth[b]):
                port = chains.get((a, leaf, d))
                if port is None:
                    port = chains[a, leaf, d] = _Port()
                    found[d].append(port)
                way.append(port)
            self.ways[a, b, leaf] = [*way, b]
        return found

    @staticmethod
    def _sorted(items: list[Any], before: dict[Any, list[Any]]) -> list[Any]:
        found: dict[Any, None] = {}
        for item in items:
            stack = [item]
            while stack:
                missing = [a for a in before[stack[-1]] if a not in found]
                if missing:
                    stack.append(missing[0])
                else:
                    found[stack.pop()] = None
        return list(found)


class _Layout:
    """All levels of a picture."""

    def __init__(self, leaves: Sequence[Leaf], lines: Sequence[Line]) -> None:
        self.root = _boxes(_in_order(leaves, lines))
        self.path: dict[Any, list[Any]] = {}  # the boxes around a leaf, outermost first, and itself
        self.levels: dict[Box, _Level] = {}
        self._find(self.root, [self.root])
        self.routes = [(line, self._route(line)) for line in lines]

    def _find(self, box: Box, path: list[Any]) -> None:
        self.levels[box] = _Level(box)
        for child in box.children:
            self.path[child] = [*path, child]
            if isinstance(child, Box):
                self._find(child, self.path[child])

    def _route(self, line: Line) -> list[tuple[Box, Any, Any]]:
        """Give a line as links of levels, from the source's box up and down to the target's."""
        up, down, leaf = self.path[line.source], self.path[line.target], line.source
        top = _shared(tuple(map(id, up)), tuple(map(id, down))) - 1
        found: list[tuple[Box, Any, Any]] = []
        for i in range(len(up) - 2, top, -1):
            found.append((up[i], up[i + 1], self.levels[up[i]].exit(leaf)))
        found.append((up[top], up[top + 1], down[top + 1]))
        for i in range(top + 1, len(down) - 1):
            found.append((down[i], self.levels[down[i]].entry(leaf), down[i + 1]))
        for box, a, b in found:
            self.levels[box].links[a, b, leaf] = None
        return found

    # --- places -------------------------------------------------------------------------------------------------------
    def arrange(self, box: Box) -> None:
        """Place what is in a box, and say how large that makes it."""
        for child in box.children:
            if isinstance(child, Box):
                self.arrange(child)
        level = self.levels[box]
        layers = level.layers()
        up, down = defaultdict(list), defaultdict(list)
        for (_, _, leaf), way in level.ways.items():
            for a, b in pairwise(way):
                up[b].append((a, leaf))
                down[a].append((b, leaf))
        self._order(layers, up, down)
        x = self._across(level, layers, up, down)
        left = min((x[i] - i.width / 2 for layer in layers for i in layer), default=0.0)
        right = max((x[i] + i.width / 2 for layer in layers for i in layer), default=0.0)
        inner = box.kind != "root"
        title = len(box.title) * 6.7 + 2 * MARGIN if inner else 0.0
        box.width = max(right - left + 2 * MARGIN, title)
        shift = (box.width - (right - left)) / 2 - left
        y = TITLE + MARGIN if inner else MARGIN
        for number, layer in enumerate(layers):
            entering, leaving = (bool(ports) and layer[0] in ports.values() for ports in (level.entries, level.exits))
            if leaving:
                y -= RISE / 2
            height = max((i.height for i in layer), default=0.0)
            for item in layer:
                level.at[item] = (x[item] + shift - item.width / 2, 0.0 if entering and inner else y)
                level.floor[item] = y + height
            y += height + (RISE if number + 1 < len(layers) else MARGIN)
            if entering:
                y -= RISE / 2
        box.height = y
        for port in level.exits.values():
            level.at[port] = (level.at[port][0], box.height)
            level.floor[port] = box.height

    @staticmethod
    def _order(layers: list[list[Any]], up: Any, down: Any) -> None:
        for sweep in range(_SWEEPS):
            near, run = (up, layers) if sweep % 2 == 0 else (down, layers[::-1])
            place = {item: i for layer in layers for i, item in enumerate(layer)}
            for layer in run:
                key = {item: sum(place[n] for n, _ in near[item]) / len(near[item]) if near[item] else place[item] for item in layer}
                layer.sort(key=key.__getitem__)
                place |= {item: i for i, item in enumerate(layer)}

    def _across(self, level: _Level, layers: list[list[Any]], up: Any, down: Any) -> dict[Any, float]:
        """Give the middles of the items: near what they are linked with, in order, and apart."""
        x: dict[Any, float] = {}
        for layer in layers:
            at = 0.0
            for item in layer:
                x[item] = at + item.width / 2
                at += item.width + GAP
        for sweep in range(2 * _SWEEPS):
            near, run, above = (up, layers, True) if sweep % 2 == 0 else (down, layers[::-1], False)
            for layer in run:
                wanted = [
                    sum(x[n] + self._offset(n, leaf, above) - self._offset(i, leaf, not above) for n, leaf in near[i]) / len(near[i])
                    if near[i]
                    else x[i]
                    for i in layer
                ]
                for item, middle in zip(layer, _apart(wanted, [i.width for i in layer]), strict=True):
                    x[item] = middle
        for layer in layers:  # what is linked with nothing stands next to its neighbour
            for left, item in pairwise(layer):
                if not up[item] and not down[item]:
                    x[item] = x[left] + (left.width + item.width) / 2 + GAP
        return x

    def _offset(self, item: Any, leaf: Leaf, below: bool) -> float:
        """Give how far from an item's middle a line leaves it (below) or arrives."""
        if not isinstance(item, Box):
            return 0.0
        level = self.levels[item]
        port = (level.exits if below else level.entries).get(leaf)
        return 0.0 if port is None else level.at[port][0] - item.width / 2

    def gather(self) -> Placed:
        """Give the whole picture."""
        self.arrange(self.root)
        origin: dict[Any, Point] = {self.root: (0.0, 0.0)}
        found = Placed(self.root.width, self.root.height, [], [], [])
        for item, path in self.path.items():
            box = path[-2]
            (ox, oy), (dx, dy) = origin[box], self.levels[box].at[item]
            origin[item] = (ox + dx, oy + dy)
            (found.boxes if isinstance(item, Box) else found.leaves).append((item, *origin[item]))
        arrivals: dict[Leaf, list[tuple[float, int]]] = defaultdict(list)
        for number, (line, route) in enumerate(self.routes):
            points: list[Point] = []
            for box, a, b in route:
                (ox, oy), level = origin[box], self.levels[box]
                for item in level.ways[a, b, line.source]:
                    x, y = level.at[item]
                    if not isinstance(item, Box):
                        x = ox + x + item.width / 2
                        points.append((x, oy + y + (item.height if item is line.source else 0.0)))
                    else:
                        x = points[-1][0]
                    if item is not b:
                        points.append((x, oy + level.floor[item]))
            thin = [p for p, q in zip(points, [*points[1:], None]) if p != q]
            found.lines.append((line, thin))
            arrivals[line.target].append((thin[-2][0], number))
        for leaf, lines in arrivals.items():  # next to each other, not all at one point
            for place, (_, number) in enumerate(sorted(lines)):
                points = found.lines[number][1]
                points[-1] = (origin[leaf][0] + leaf.width * (place + 1) / (len(lines) + 1), points[-1][1])
        return found


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Give middles as near to the wanted ones as keeping order and distance allows: least squares, by pooling adjacent violators."""
    offsets, at = [], 0.0
    for i, width in enumerate(widths):
        at += width / 2 + (widths[i - 1] / 2 + GAP if i else 0.0)
        offsets.append(at)
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, n = pools.pop()
            mean, count = (mean * count + other * n) / (count + n), count + n
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def place(leaves: Sequence[Leaf], lines: Sequence[Line]) -> Placed:
    """Find places for everything.

    Parameters
    ----------
    leaves : sequence of Leaf
        In any order; lines form no cycle.
    lines : sequence of Line
        Between them.

    Returns
    -------
    Placed
        In points, y downwards.
    """
    return _Layout(leaves, lines).gather()
