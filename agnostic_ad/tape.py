"""The tape of reverse mode: nodes, and the pass over them.

A node holds a rule, its parents and what the rule named: not the operands. Nodes are numbered downwards as they are made, so the
backward pass takes them from a heap, latest first: no recursion, each once, and a cotangent is dropped as soon as it is used.
"""

from __future__ import annotations

import itertools
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from agnostic_ad.errors import AnomalyError, GraphFreedError
from agnostic_ad.families import strong_product, sum_to_shape
from agnostic_ad.levels import STRONG, WATCHING, Array, lift_to, unify
from agnostic_ad.namespaces import COMPLEX, RAW, lookup

if TYPE_CHECKING:
    from agnostic_ad.reverse import ReverseLevel

__all__ = ["LEAF", "Extra", "Node", "Parts", "Structural", "adaptation", "backward", "extra", "fit", "make_node", "next_number", "watch"]

next_number = itertools.count(-1, -1).__next__


class Node:
    """One recorded operation.

    Attributes
    ----------
    number : int
        Falls with time: a node's parents have larger ones, so the smallest number is the next to visit.
    op : Reverse or Structural
        The rules.
    parents : Node or tuple of Node
        Where the operands came from that want a cotangent. (Those of variadic operations hold None for others.) A single one stands for
        itself: a tuple more for the garbage collector to follow would be felt in a million operations.
    saved : tuple or None
        What the rules named; None once it is freed.
    params : dict
        The static parameters; unset where the operation has none.
    adapt : tuple or None
        For each parent whose shape or dtype is not the result's: (shape or None, dtype or None).
    extra : Extra
        Hooks and the like; on `MarkedNode` only.
    """

    __slots__ = ("adapt", "extra", "number", "op", "params", "parents", "saved")
    number: int
    op: Any
    parents: Any
    saved: Any
    params: Any
    adapt: Any
    extra: Any

    @property
    def name(self) -> str:
        """The operation's name."""
        return str(self.op.name)

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The parents, in PyTorch's form."""
        return tuple((p, 0) for p in self.ancestors())

    def ancestors(self) -> tuple[Node | None, ...]:
        """The parents as a tuple."""
        return self.parents if type(self.parents) is tuple else (self.parents,)

    def __repr__(self) -> str:
        return f"<{self.op.name} node {self.number}>"


class MarkedNode(Node):
    """A node with an `Extra`. A node becomes one by assignment to its class, so the others carry nothing for it."""

    __slots__ = ()


class Extra:
    """What few nodes have: hooks, a gradient, and the place where they were recorded."""

    __slots__ = ("grad", "hooks", "origin", "retains")

    def __init__(self) -> None:
        self.grad: Any = None
        self.hooks: dict[int, Callable[[Any], Any]] = {}
        self.origin: str | None = None
        self.retains = False


def extra(node: Node) -> Extra:
    """Give a node's extra part, made on demand."""
    if type(node) is Node:
        node.__class__ = MarkedNode
        node.extra = Extra()
    found: Extra = node.extra
    return found


class Structural:
    """Stands in a node's ``op`` where no operation of the table was run: ``rule(node, saved, ct, position) -> ct of a parent, or None``."""

    params = True
    accumulate = joint = None
    simple = variadic = False

    def __init__(self, name: str, rule: Callable[[Node, Any, Any, int], Any] | None = None) -> None:
        self.name, self.rule = name, rule
        self.rules = self.conj_rules = (rule,)

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Parts(tuple):  # type: ignore[type-arg]
    """Cotangents of several results together; None for one that got none."""

    __slots__ = ()


LEAF = Structural("leaf")
PICK = Structural(
    "pick", lambda node, saved, ct, position: Parts(ct if i == node.params["index"] else None for i in range(node.params["count"]))
)


def make_node(op: Any, parents: Node | tuple[Node | None, ...], saved: Any, params: Any, adapt: Any = None) -> Node:
    """Make a node, numbered after all before it."""
    node = Node()
    node.number = next_number()
    node.op, node.parents, node.saved, node.params, node.adapt = op, parents, saved, params, adapt
    return node


def adaptation(op: Any, operands: Sequence[Any], y: Any) -> Any:
    """Note, for the operands that want a cotangent, where it will have to be summed to a shape or cast to a dtype."""
    notes: list[Any] = []
    shape_y, dtype_y = tuple(y.shape) if op.elementwise else None, y.dtype
    for a in operands:
        shape = tuple(a.shape) if op.elementwise and tuple(a.shape) != shape_y else None
        dtype = a.dtype if a.dtype != dtype_y else None
        notes.append((shape, dtype) if shape is not None or dtype is not None else None)
    return tuple(notes) if any(n is not None for n in notes) else None


def fit(xp: Any, ct: Any, note: tuple[Any, Any]) -> Any:
    """Sum a cotangent to the shape, and cast it to the dtype, of the operand that it belongs to."""
    shape, dtype = note
    if shape is not None:
        ct = sum_to_shape(xp, ct, shape)
    if dtype is not None and ct.dtype != dtype:
        if ct.dtype in COMPLEX and dtype not in COMPLEX:
            ct = xp.real(ct)
        if ct.dtype != dtype:
            ct = xp.astype(ct, dtype)
    return ct


_HERE = os.path.dirname(__file__) + os.sep


# --- anomaly detection -----------------------------------------------------------------------------------------------------------------
def _finite(x: Any) -> bool:
    if isinstance(x, tuple):
        return all(_finite(part) for part in x if part is not None)
    while isinstance(x, Array):
        x = x.payload
    backend = lookup(x)
    return backend is None or backend.kind(x.dtype) not in "fc" or bool(backend.xp.all(backend.xp.isfinite(x)))


def watch(node: Node, data: Iterable[Any], y: Any) -> None:
    """Note where a node was recorded, and refuse what is not finite though its operands are."""
    stack = traceback.extract_stack()
    while len(stack) > 1 and stack[-1].filename.startswith((_HERE, "<op ", "<fast path")):  # the user's line is what helps
        stack.pop()
    extra(node).origin = "".join(traceback.format_list(stack))
    if not _finite(y) and all(_finite(a) for a in data):
        raise AnomalyError(f"{node.name} made a NaN or an infinity from finite operands; recorded at\n{extra(node).origin}")


# --- the backward pass ---------------------------------------------------------------------------------------------------------------
def backward(
    roots: Iterable[tuple[Node, Any]],
    *,
    level: ReverseLevel,
    retain: bool = False,
    create_graph: bool = False,
    wanted: Sequence[Node] | None = None,
    prune: bool = False,
    boundary: bool = False,
    one: Any = None,
) -> list[Any]:
    """Run the reverse rules from the roots down.

    Parameters
    ----------
    roots : iterable of (Node, array)
        Where to start, with cotangents.
    level : ReverseLevel
        The level of the nodes.
    retain : bool
        Keep what the nodes saved, for another pass.
    create_graph : bool
        Compute with Variables of ``level``, so that the result can be differentiated again.
    wanted : sequence of Node, optional
        Give these nodes' cotangents (None where nothing arrives). By default cotangents are added to the gradients of leaves.
    prune : bool
        Visit only the paths to the wanted nodes.
    boundary : bool
        Go no further than the wanted nodes.
    one : Array, optional
        A root's cotangent that is the number one.

    Returns
    -------
    list
        One cotangent per wanted node.
    """
    roots = list(roots)
    allowed = _between([node for node, _ in roots], wanted) if prune and wanted is not None else None
    targets: dict[int, Any] = {}
    inner = False
    for node in wanted or ():
        targets[node.number] = None
        inner = inner or node.op is not LEAF
    cts: dict[int, Any] = {}
    heap: list[tuple[int, Node]] = []
    owned: set[int] = set()
    watched, strong = WATCHING.get(), STRONG.get()
    careful = watched or strong
    plain = not (level.nested or create_graph or watched)
    xp: Any = None
    for node, ct in roots:
        xp = RAW.get(type(ct))
        plain = plain and xp is not None
        number = node.number
        if number in cts:
            cts[number] = add(cts[number], ct)
        else:
            cts[number] = ct
            heappush(heap, (number, node))
    mutable = plain and xp is not None and xp.mutable
    fresh = mutable and xp.tells_views
    complexes = level.complex
    spaces: dict[Any, Any] = {}
    while heap:
        number, node = heappop(heap)
        ct = cts.pop(number)
        op = node.op
        if type(node) is MarkedNode and (node.extra.hooks or node.extra.retains) and not (boundary and number in targets):
            ct = _run_hooks(node, ct)
        if op is LEAF:
            if wanted is None:
                deliver(node, ct, number in owned)
            else:
                targets[number] = ct
            continue
        if inner and number in targets:
            targets[number] = ct
            if boundary or (allowed is not None and not any(p is not None and p.number in allowed for p in node.ancestors())):
                continue
        saved = node.saved
        if saved is None:
            raise GraphFreedError(
                f"a backward pass reached {op.name} a second time, but its saved arrays were freed by the first. "
                "Pass retain_graph=True to the first pass if a second is intended."
            )
        if not retain:
            node.saved = None
        rules = op.rules
        if complexes and op.conj_rules is not rules and ct.dtype in COMPLEX:
            rules = op.conj_rules
        structural = type(op) is Structural
        if not plain and not structural:
            if create_graph:
                saved = _reconnect(node, saved, level)
            if ct is one and node.adapt is None:
                rules = op.seeded
            xp, ct, saved = _together(op, ct, saved, spaces)
        adapt = node.adapt
        simple = op.simple
        params = node.params if op.params else None
        if not simple and op.joint is not None:
            saved = op.joint(xp, ct, saved, params)
        position = -1
        parents = node.parents
        for parent in parents if type(parents) is tuple else (parents,):
            position += 1
            if parent is None or (allowed is not None and parent.number not in allowed):
                continue
            above = parent.number
            if simple:
                g = rules[position](xp, ct, saved, params)
            elif structural:
                g = op.rule(node, saved, ct, position)
                if g is None:
                    continue
                if plain and type(g) is not Parts and RAW.get(type(g)) is not xp:  # a user's rule gave wrapped arrays, or another library's
                    plain = mutable = fresh = False
                    owned.clear()
            elif mutable and op.accumulate is not None and (above not in cts or above in owned):
                start = cts.get(above)
                cts[above] = op.accumulate(xp, start, ct, saved, params)
                owned.add(above)
                if start is None:
                    heappush(heap, (above, parent))
                continue
            else:
                g = rules[0](xp, ct, saved, params, position) if op.variadic else rules[position](xp, ct, saved, params)
            if careful:
                if strong and not structural and op.elementwise:
                    g = strong_product(xp, ct, g)
                if watched and not _finite(g) and _finite(ct):
                    raise AnomalyError(
                        f"the derivative of {op.name} made a NaN or an infinity from a finite cotangent; the operation was recorded at\n"
                        f"{node.extra.origin if type(node) is MarkedNode else '  (outside detect_anomaly)'}"
                    )
            if adapt is not None and adapt[position] is not None:
                g = fit(xp if plain else unify([g])[0], g, adapt[position])
            if above not in cts:
                cts[above] = g
                heappush(heap, (above, parent))
                if fresh and simple and g is not ct and g.base is None:
                    owned.add(above)  # a rule made it, so nobody else holds it
            elif above in owned:
                cts[above] += g
            elif plain and type(g) is not Parts:
                total = cts[above] = cts[above] + g
                if mutable and total.shape:
                    owned.add(above)
            else:
                cts[above] = add(cts[above], g)
    return [targets[node.number] for node in wanted or ()]


def _together(op: Any, ct: Any, saved: tuple[Any, ...], spaces: dict[Any, Any]) -> tuple[Any, Any, tuple[Any, ...]]:
    """Give the namespace for a rule whose operands may be of several levels, and the operands lifted to one."""
    kind = type(ct)
    if kind is not Parts and isinstance(ct, Array) and op.array_saves is not None:
        level = ct.level
        for i in op.array_saves:
            s = saved[i]
            if type(s) is float or type(s) is int:
                continue
            if type(s) is not kind or s.level is not level:
                break
        else:
            space = spaces.get(level)
            if space is None:
                space = spaces[level] = level.rules(ct.backend)
            return space, ct, saved
    cts = [c for c in ct if c is not None] if kind is Parts else [ct]
    flat = [x for s in saved for x in (s if type(s) is tuple else (s,))]
    xp, everything = unify([*cts, *flat])
    level = getattr(xp, "level", None)
    if level is None:
        return xp, ct, saved
    lifted = iter(everything)
    ct = Parts(None if c is None else next(lifted) for c in ct) if kind is Parts else next(lifted)
    return xp, ct, tuple(tuple(lift_to(level, x) for x in s) if type(s) is tuple else lift_to(level, s) for s in saved)


def add(a: Any, b: Any) -> Any:
    """Add two cotangents of any levels."""
    if type(a) is Parts:
        return Parts(x if y is None else y if x is None else add(x, y) for x, y in zip(a, b, strict=True))
    if type(a) is not type(b) or (isinstance(a, Array) and a.level is not b.level):
        _, (a, b) = unify([a, b])
    return a + b


def _reconnect(node: Node, saved: tuple[Any, ...], level: ReverseLevel) -> tuple[Any, ...]:
    """Give saved payloads back as Variables with their history, so that the rules are recorded in turn. Constants stay as they are."""
    op = node.op

    def connected(value: Any, parent: Node | None) -> Any:
        return level.wrap(value, parent) if isinstance(value, Array) or lookup(value) is not None else value

    out: list[Any] = []
    for name, value in zip(op.saves, saved, strict=True):
        if name == "y":
            out.append(level.wrap(value, node))
        elif name not in op.arrays:
            out.append(value)
        elif op.variadic:
            out.append(tuple(connected(v, p) for v, p in zip(value, node.ancestors(), strict=True)))
        else:
            out.append(connected(value, node.ancestors()[op.arrays.index(name)]))
    return tuple(out)


def _between(roots: Iterable[Node], wanted: Sequence[Node]) -> set[int]:
    """Give the numbers of the nodes on paths from the roots to the wanted nodes."""
    seen: dict[int, Node] = {}
    stack = list(roots)
    newest = max((n.number for n in wanted), default=0)
    while stack:
        node = stack.pop()
        if node.number in seen or node.number > newest:
            continue
        seen[node.number] = node
        stack.extend(p for p in node.ancestors() if p is not None)
    on_path = {n.number for n in wanted}
    for number in sorted(seen, reverse=True):  # parents first
        if any(p is not None and p.number in on_path for p in seen[number].ancestors()):
            on_path.add(number)
    return on_path


def _run_hooks(node: Node, ct: Any) -> Any:
    found: Extra = node.extra
    for hook in list(found.hooks.values()):
        replaced = hook(ct if isinstance(ct, Array) else RAW[type(ct)].array(ct))
        if replaced is not None:
            if isinstance(replaced, Array) and not isinstance(ct, Array):
                replaced = replaced.payload
            if tuple(replaced.shape) != tuple(ct.shape):
                raise ValueError(f"a gradient hook returned shape {tuple(replaced.shape)} for a gradient of shape {tuple(ct.shape)}")
            ct = replaced
    if found.retains:
        kept = ct if found.grad is None else add(found.grad, ct)
        found.grad = kept if kept is not ct or isinstance(ct, Array) else RAW[type(ct)].own(ct)
    return ct


def deliver(node: Node, ct: Any, owned: bool) -> None:
    """Add a cotangent to a leaf's gradient, in memory that the leaf alone holds."""
    found = extra(node)
    if isinstance(ct, Array):
        ct.level.delivers(node)
    if found.grad is not None:
        found.grad = add(found.grad, ct)
    elif isinstance(ct, Array):
        found.grad = ct
    else:
        backend = RAW[type(ct)]
        found.grad = backend.array(ct) if owned else backend.own(backend.array(ct))
