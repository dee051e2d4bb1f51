"""Fusion: chains of elementwise operations become one node, which goes over memory once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnostic_ad import trees
from agnostic_ad.graph.ir import Graph, GraphNode, Output, elements
from agnostic_ad.namespaces import ShapeDtype

__all__ = ["FUSED", "SMALLEST", "fuse", "fuses"]

SMALLEST = 1 << 12
"""Smaller arrays stay in the cache from one operation to the next."""
APART = {"nextafter", "stop_gradient", "special.zeta", "special.polygamma"}
"""Elementwise operations that gain nothing."""


class _Fused:
    """The operation of a node that holds a group of others: its parameter ``graph``."""

    name = "fused"
    elementwise = variadic = scalars = False

    def run(self, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[Any, ...]:
        """Run the group, on whatever the operands are."""
        return tuple(params["graph"].run(args))

    def abstract(self, xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[ShapeDtype, ...]:
        """Tell the shapes and dtypes of the results."""
        return tuple(x.spec for x in params["graph"].outputs)

    def __repr__(self) -> str:
        return "<op fused>"

    def __reduce__(self) -> str:
        return "FUSED"


FUSED = _Fused()


def fuses(node: GraphNode) -> bool:
    """Tell whether a node may be part of a group."""
    if node.effects or len(node.outputs) != 1 or node.dynamic or getattr(node.op, "name", "") in APART:
        return False
    return (getattr(node.op, "elementwise", False) or node.op.name == "astype") and elements(node.outputs[0]) >= SMALLEST


def fuse(graph: Graph) -> Graph:
    """Make groups of elementwise operations of one shape that follow each other.

    A node joins the group of one of its operands where nothing outside of the group lies between them.
    """
    groups = _Groups()
    for node in graph.nodes:
        own = groups.add(node)
        if not fuses(node):
            continue
        for other in sorted(groups.parents(own), reverse=True):
            first = groups.members[other][0]
            if fuses(first) and _shape(first) == _shape(node) and not groups.apart(own, other):
                own = groups.merge(own, other)
    if all(len(m) == 1 for m in groups.members.values()):
        return graph
    return _assembled(graph, groups.members, _sorted({key: groups.parents(key) for key in groups.members}))


def _shape(node: GraphNode) -> tuple[str, ...]:
    return tuple(map(repr, node.outputs[0].shape))  # sizes that are not known would compare by their hints


class _Groups:
    """Nodes in groups; each group has the number of one of its nodes, and each node is in one.

    Attributes
    ----------
    members : dict of int to list of GraphNode
        Those of each group, in the graph's order.
    """

    def __init__(self) -> None:
        self.members: dict[int, list[GraphNode]] = {}
        self._of: dict[int, int] = {}  # the number of a node
        self._into: list[int] = []  # of each number, that of the group which its own became part of
        self._parents: dict[int, set[int]] = {}
        self._users: dict[int, set[int]] = {}
        self._last: dict[int, int] = {}  # of each group, the number of its last node; its own is that of its first
        self._grown: set[int] = set()  # groups that went on after others had taken something from them

    def add(self, node: GraphNode) -> int:
        """Make a group of one node."""
        key = self._of[id(node)] = len(self._into)
        self._into.append(key)
        self.members[key] = [node]
        self._parents[key] = {self._of[id(x.node)] for x in node.places() if x.node.op is not None}
        self._users[key], self._last[key] = set(), key
        for parent in self.parents(key):
            self._users[parent].add(key)
        return key

    def _find(self, key: int) -> int:
        while self._into[key] != key:
            self._into[key] = key = self._into[self._into[key]]
        return key

    def parents(self, key: int) -> set[int]:
        """Give the groups that one takes operands from."""
        found = self._parents[key] = {self._find(k) for k in self._parents[key]} - {key}
        return found

    def apart(self, a: int, b: int) -> bool:
        """Tell whether a third group needs one of two, and the other needs that."""
        return self._between(a, b) or self._between(b, a)

    def _between(self, below: int, above: int) -> bool:
        # what ends before a group begins needs nothing of it, unless by way of a group that was there before and went on behind
        around = any(key < above < self._last[key] for key in self._grown)
        stack = list(self.parents(below) - {above})
        seen = set(stack)
        while stack:
            now = stack.pop()
            if now == above:
                return True
            if self._last[now] < above and not around:
                continue
            new = self.parents(now) - seen
            seen |= new
            stack += new
        return False

    def merge(self, a: int, b: int) -> int:
        """Make one of two groups; give its number."""
        a, b = min(a, b), max(a, b)
        self._into[b] = a
        self._parents[a] |= self._parents.pop(b)
        self._users[a] = {self._find(key) for key in self._users[a] | self._users.pop(b)} - {a}
        self._last[a] = max(self._last[a], self._last.pop(b))
        if self._users[a] or b in self._grown:
            self._grown.add(a)
        self._grown.discard(b)
        self.members[a] = sorted(self.members[a] + self.members.pop(b), key=lambda node: self._of[id(node)])
        return a


def _sorted(parents: dict[int, set[int]]) -> list[int]:
    """Give the groups, each after those that it needs, otherwise in the order in which they began."""
    done: set[int] = set()
    order: list[int] = []
    for start in sorted(parents):
        stack = [start]
        while stack:
            now = stack[-1]
            missing = sorted(parents[now] - done, reverse=True)
            if now in done or not missing:
                stack.pop()
                if now not in done:
                    done.add(now)
                    order.append(now)
            else:
                stack += missing
    return order


def _assembled(graph: Graph, members: dict[int, list[GraphNode]], order: list[int]) -> Graph:
    now: dict[Output, Output] = {}
    nodes = []
    needed = {x for x in graph.outputs if isinstance(x, Output)}
    users = graph.users()

    def wanted(group: Sequence[GraphNode]) -> list[Output]:
        inside = {id(node) for node in group}
        places = [Output(node, 0) for node in group]
        return [p for p in places if p in needed or any(id(user) not in inside for user, _ in users.get(p, ()))]

    for key in order:
        group = members[key]
        if len(group) == 1:
            node = group[0]
            if any(x in now for x in node.places()):
                node = node.replaced(inputs=tuple(_now(now, x) for x in node.inputs))
                now.update({Output(group[0], i): Output(node, i) for i in range(len(node.outputs))})
            nodes.append(node)
        elif results := wanted(group):  # none of what is dead
            nodes.append(_fused(graph, group, results, now))
    return graph.rebuild(nodes, [_now(now, x) for x in graph.outputs])


def _now(now: dict[Output, Output], x: Any) -> Any:
    return now.get(x, x) if isinstance(x, Output) else x


def _fused(graph: Graph, group: Sequence[GraphNode], results: Sequence[Output], now: dict[Output, Output]) -> GraphNode:
    """Give the node of a group, and say in ``now`` what its members' results have become."""
    inside = {id(node) for node in group}
    places = dict.fromkeys(x for node in group for x in node.places() if id(x.node) not in inside)
    inputs = {x: GraphNode(None, (), {}, (x.spec,), x.node.name if x.index == 0 else f"{x.node.name}_{x.index}") for x in places}
    own: dict[Any, Output] = {x: Output(node, 0) for x, node in inputs.items()}
    body = []
    for node in group:
        made = node.replaced(inputs=tuple(own.get(x, x) if isinstance(x, Output) else x for x in node.inputs))
        own[Output(node, 0)] = Output(made, 0)
        body.append(made)
    specs = _flat(len(inputs)), _flat(len(results))
    label = " ".join(dict.fromkeys(node.op.name for node in group))
    inner = Graph(label, body, list(inputs.values()), [own[p] for p in results], specs, graph.backend)
    last = group[-1]
    fused = GraphNode(
        FUSED, tuple(_now(now, x) for x in places), {"graph": inner}, tuple(p.spec for p in results), last.name, last.where, last.scope
    )
    now.update({p: Output(fused, i) for i, p in enumerate(results)})
    return fused


def _flat(count: int) -> trees.TreeSpec:
    return trees.flatten(tuple(range(count)))[1]
