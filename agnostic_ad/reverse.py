"""Reverse mode: Variables, the nodes they leave behind, and the pass over those nodes.

A node holds a rule, its parents and what the rule named: not the operands. Nodes are numbered as they are made, so the backward
pass takes them from a heap, latest first: no recursion, each once, and a cotangent is dropped as soon as it is used.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import AnomalyError, GraphFreedError
from agnostic_ad.families import sum_to_shape
from agnostic_ad.levels import ABOVE_ALL, DEAD, FAST, QUIET, Array, Level, check_alive, inexact, lift_to, unify
from agnostic_ad.namespaces import COMPLEX, RAW, lookup
from agnostic_ad.op import ZERO, Op

__all__ = ["BASE", "Node", "ReverseLevel", "Variable", "backward"]

_new = object.__new__
_number = itertools.count().__next__


class Node:
    """One recorded operation.

    Attributes
    ----------
    number : int
        Grows with time: a node's parents have smaller ones.
    op : Op or object with ``vjps``
        Whose reverse rules to run.
    parents : tuple of Node or None
        Where the operands came from; None for constants.
    saved : tuple or None
        What the rules named; None once it is freed.
    params : dict or None
        The static parameters.
    adapt : tuple or None
        For each parent whose shape or dtype is not the result's: (shape or None, dtype or None).
    extra : Extra or None
        Hooks and the like.
    """

    __slots__ = ("adapt", "extra", "number", "op", "params", "parents", "saved")

    @property
    def name(self) -> str:
        """The operation's name."""
        return str(self.op.name)

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The parents, in PyTorch's form."""
        return tuple((p, 0) for p in self.parents)

    def __repr__(self) -> str:
        return f"<{self.op.name} node {self.number}>"


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
    if node.extra is None:
        node.extra = Extra()
    found: Extra = node.extra
    return found


class _Structural:
    """Stands in a node's ``op`` where no operation of the table was run."""

    def __init__(self, name: str, vjps: tuple[Any, ...] = (), repeat: bool = False) -> None:
        self.name, self.vjps, self.accumulate, self.saves, self.arrays = name, vjps, None, (), ()
        self.elementwise = False
        self.repeat = repeat

    def __repr__(self) -> str:
        return f"<{self.name}>"


LEAF = _Structural("leaf")


class Parts(tuple):  # type: ignore[type-arg]
    """The cotangents of an operation with several results; None where one got none."""

    __slots__ = ()


def _pick_vjp(xp: Any, ct: Any, saved: tuple[Any, ...], params: dict[str, Any]) -> Parts:
    return Parts(ct if i == params["index"] else None for i in range(params["count"]))


PICK = _Structural("pick", (_pick_vjp,))


def make_node(op: Any, parents: tuple[Node | None, ...], saved: Any, params: Any, adapt: Any = None) -> Node:
    """Make a node, numbered after all before it."""
    node: Node = _new(Node)
    node.number = _number()
    node.op, node.parents, node.saved, node.params, node.adapt, node.extra = op, parents, saved, params, adapt, None
    return node


def make_variable(data: Any, level: ReverseLevel, node: Node | None) -> Variable:
    """Wrap a payload."""
    v: Variable = _new(Variable)
    v.data, v.level, v.node = data, level, node
    return v


# --- the level -----------------------------------------------------------------------------------------------------------------------
class ReverseLevel(Level):
    """A tape: it has no list of its own, only the nodes that its Variables hold.

    Attributes
    ----------
    nested : bool
        Whether any payload is itself a wrapped array; the backward pass of plain payloads is a tighter loop.
    """

    __slots__ = ("nested",)

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.nested = False

    def lift(self, x: Any) -> Variable:
        """Wrap as a constant."""
        return make_variable(x, self, None)

    def leaf(self, x: Any) -> Variable:
        """Wrap as an array to differentiate with respect to."""
        return make_variable(x, self, make_node(LEAF, (), (), None))

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute on the payloads and record."""
        mine = [isinstance(a, Variable) and a.level is self for a in args]
        data = tuple(a.data if m else a for a, m in zip(args, mine, strict=True))
        y = op.run(data, params)
        recording = op.differentiable and self.depth > QUIET.get() and any(m and a.node is not None for a, m in zip(args, mine, strict=True))
        if not recording:
            return self._wrap(y, None)
        nodes = tuple(a.node if m else None for a, m in zip(args, mine, strict=True))
        rules = op.vjps if not op.variadic else tuple(op.vjps[0] for _ in nodes)
        parents = []
        for position, (node, rule) in enumerate(zip(nodes, rules, strict=True)):
            if node is not None and rule is None:
                raise op.missing("derivative", position, self)
            parents.append(None if rule is ZERO else node)
        first = y[0] if isinstance(y, tuple) else y
        if all(p is None for p in parents) or not isinstance(y, tuple) and not inexact(y):
            return self._wrap(y, None)
        if any(isinstance(a, Array) for a in data):
            self.nested = True
        node = make_node(op, tuple(parents), op.save(op.saves, data, y), params, _adaptation(op, data, parents, first))
        if FAST.get() == ABOVE_ALL:
            _watch(node, data, y)
        return self._wrap(y, node)

    def _wrap(self, y: Any, node: Node | None) -> Any:
        if not isinstance(y, tuple):
            return make_variable(y, self, node)
        if node is None:
            return tuple(make_variable(part, self, None) for part in y)
        return tuple(
            make_variable(part, self, make_node(PICK, (node,), (), {"index": i, "count": len(y)}) if inexact(part) else None)
            for i, part in enumerate(y)
        )


BASE = ReverseLevel("the define-by-run tape")
BASE.depth = 0


def _adaptation(op: Op, data: Sequence[Any], parents: Sequence[Node | None], y: Any) -> Any:
    """Note where a cotangent will have to be summed to a shape or cast to a dtype."""
    notes = []
    for a, parent in zip(data, parents, strict=True):
        if parent is None:
            notes.append(None)
            continue
        shape = tuple(a.shape) if op.elementwise and tuple(a.shape) != tuple(y.shape) else None
        dtype = a.dtype if a.dtype != y.dtype else None
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


# --- anomaly detection -----------------------------------------------------------------------------------------------------------------
def _finite(x: Any) -> bool:
    if isinstance(x, tuple):
        return all(_finite(part) for part in x if part is not None)
    while isinstance(x, Array):
        x = x.data
    backend = lookup(x)
    return backend is None or backend.kind(x.dtype) not in "fc" or bool(backend.xp.all(backend.xp.isfinite(x)))


def _watch(node: Node, data: Iterable[Any], y: Any) -> None:
    extra(node).origin = "".join(traceback.format_list(traceback.extract_stack()[:-4]))
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
        Give these nodes' cotangents (None where nothing arrives), and go nowhere else. By default everything is visited, and
        cotangents are added to the gradients of leaves.

    Returns
    -------
    list
        One cotangent per wanted node.
    """
    roots = list(roots)
    allowed = None if wanted is None else _between([node for node, _ in roots], wanted)
    targets = {node.number: None for node in wanted or ()}
    cts: dict[int, Any] = {}
    nodes: dict[int, Node] = {}
    heap: list[int] = []
    owned: set[int] = set()
    for node, ct in roots:
        number = node.number
        if number in cts:
            cts[number] = _sum(cts[number], ct)
        else:
            cts[number], nodes[number] = ct, node
            heappush(heap, -number)
    watched = FAST.get() == ABOVE_ALL
    plain = not (level.nested or create_graph or watched) and all(type(ct) in RAW for ct in cts.values())
    xp: Any = RAW[type(next(iter(cts.values())))] if plain and cts else None
    mutable = plain and bool(cts) and xp.mutable
    while heap:
        number = -heappop(heap)
        node, ct = nodes.pop(number), cts.pop(number)
        if node.extra is not None:
            ct = _run_hooks(node, ct, level)
        if number in targets:
            targets[number] = ct
        op = node.op
        if op is LEAF:
            if wanted is None:
                deliver(node, ct, number in owned)
            continue
        saved = node.saved
        if saved is None:
            raise GraphFreedError(
                f"a backward pass reached {op.name} a second time, but its saved arrays were freed by the first. "
                "Pass retain_graph=True to the first pass if a second is intended."
            )
        if not retain:
            node.saved = None
        if create_graph:
            saved = _reconnect(node, saved, level)
        params, adapt = node.params, node.adapt
        rules = op.vjps if len(op.vjps) == len(node.parents) else itertools.repeat(op.vjps[0])
        position = -1
        for parent, rule in zip(node.parents, rules, strict=False):
            position += 1
            if parent is None or (allowed is not None and parent.number not in allowed):
                continue
            above = parent.number
            if mutable and op.accumulate is not None and (above not in cts or above in owned):
                start = cts.get(above)
                g = op.accumulate(xp, start, ct, saved, params)
                if g is not None:
                    owned.add(above)
                    cts[above] = g
                    if start is None:
                        nodes[above] = parent
                        heappush(heap, -above)
                    continue
            if plain:
                g = rule(xp, ct, saved, params) if not node_is_positional(op) else rule(xp, ct, saved, params, position)
                if adapt is not None and adapt[position] is not None:
                    g = fit(xp, g, adapt[position])
            else:
                g = _general(op, rule, node, ct, saved, position)
                if watched and not _finite(g) and _finite(ct):
                    raise AnomalyError(
                        f"the derivative of {op.name} made a NaN or an infinity from a finite cotangent; the operation was recorded at\n"
                        f"{node.extra.origin if node.extra is not None else '  (outside detect_anomaly)'}"
                    )
            if above not in cts:
                cts[above], nodes[above] = g, parent
                heappush(heap, -above)
            elif above in owned:
                cts[above] += g
            else:
                cts[above] = _sum(cts[above], g)
                if mutable and type(cts[above]) is not Parts and cts[above].shape:
                    owned.add(above)
    return [targets[node.number] for node in wanted or ()]


def node_is_positional(op: Any) -> bool:
    """Tell whether one rule serves all operands and is told which."""
    return bool(getattr(op, "variadic", False))


def _sum(a: Any, b: Any) -> Any:
    if type(a) is Parts or type(b) is Parts:
        return Parts(x if y is None else y if x is None else _sum(x, y) for x, y in zip(a, b, strict=True))
    _, (a, b) = unify([a, b])
    return a + b


def _general(op: Any, rule: Any, node: Node, ct: Any, saved: tuple[Any, ...], position: int) -> Any:
    """Run a rule on whatever levels its operands are of."""
    if op is PICK:
        return _pick_vjp(None, ct, saved, node.params)
    if isinstance(op, _Structural):
        g = rule(None, ct, saved, node.params, position)
    else:
        cts = list(ct) if type(ct) is Parts else [ct]
        flat = [x for s in saved for x in (s if type(s) is tuple else (s,))]
        xp, everything = unify([*cts, *flat])
        level = getattr(xp, "level", None)
        ct = Parts(everything[: len(cts)]) if type(ct) is Parts else everything[0]
        if level is not None:
            saved = tuple(tuple(lift_to(level, x) for x in s) if type(s) is tuple else lift_to(level, s) for s in saved)
        g = rule(xp, ct, saved, node.params, position) if op.variadic else rule(xp, ct, saved, node.params)
    if node.adapt is not None and node.adapt[position] is not None:
        g = fit(unify([g])[0], g, node.adapt[position])
    return g


def _reconnect(node: Node, saved: tuple[Any, ...], level: ReverseLevel) -> tuple[Any, ...]:
    """Give saved payloads back as Variables with their history, so that the rules are recorded in turn."""
    op = node.op
    if isinstance(op, _Structural):
        return saved
    out: list[Any] = []
    for name, value in zip(op.saves, saved, strict=True):
        if name == "y":
            if isinstance(value, tuple):
                out.append(level._wrap(value, node))
            else:
                out.append(make_variable(value, level, node))
        elif name in op.arrays:
            if op.variadic:
                out.append(tuple(_constant_or(v, level, p) for v, p in zip(value, node.parents, strict=True)))
            else:
                out.append(_constant_or(value, level, node.parents[op.arrays.index(name)]))
        else:
            out.append(value)
    return tuple(out)


def _constant_or(value: Any, level: ReverseLevel, parent: Node | None) -> Any:
    if isinstance(value, Array) or lookup(value) is not None:
        return make_variable(value, level, parent)
    return value


def _between(roots: Iterable[Node], wanted: Sequence[Node]) -> set[int]:
    """Give the numbers of the nodes on paths from the roots to the wanted nodes."""
    seen: dict[int, Node] = {}
    stack = list(roots)
    floor = min((n.number for n in wanted), default=0)
    while stack:
        node = stack.pop()
        if node.number in seen or node.number < floor:
            continue
        seen[node.number] = node
        stack.extend(p for p in node.parents if p is not None)
    on_path = {n.number for n in wanted}
    for number in sorted(seen):
        if any(p is not None and p.number in on_path for p in seen[number].parents):
            on_path.add(number)
    return on_path


def _run_hooks(node: Node, ct: Any, level: ReverseLevel) -> Any:
    found: Extra = node.extra
    for hook in list(found.hooks.values()):
        replaced = hook(ct)
        if replaced is not None:
            if isinstance(replaced, Variable) and not isinstance(ct, Variable):
                replaced = replaced.data
            if tuple(replaced.shape) != tuple(ct.shape):
                raise ValueError(f"a gradient hook returned shape {tuple(replaced.shape)} for a gradient of shape {tuple(ct.shape)}")
            ct = replaced
    if found.retains:
        found.grad = ct if found.grad is None else _sum(found.grad, ct)
    return ct


def deliver(node: Node, ct: Any, owned: bool) -> None:
    """Add a cotangent to a leaf's gradient, in memory that the leaf alone holds."""
    found = extra(node)
    if isinstance(ct, Array):
        found.grad = ct if found.grad is None else _sum(found.grad, ct)
        return
    backend: Backend = RAW[type(ct)]
    ct = backend.array(ct)
    if found.grad is None:
        found.grad = ct if owned else backend.own(ct)
    else:
        found.grad = _sum(found.grad, ct)


# --- Variable --------------------------------------------------------------------------------------------------------------------------
class Variable(Array):
    """An array of any Array API library that can be differentiated.

    Parameters
    ----------
    array : array, nested list or number
        Lists and numbers become NumPy arrays.
    requires_grad : bool, optional
        Whether to record what is done with it. By default, floating and complex arrays do; others cannot.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> x = ad.Variable(np.asarray([1.0, 2.0, 3.0]))
    >>> y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    array([2., 4., 6.])
    """

    __slots__ = ("node",)
    _state = ("data", "node")
    node: Node | None

    def __init__(self, array: Any, requires_grad: bool | None = None) -> None:
        if isinstance(array, Array):
            raise TypeError(
                f"this is a {type(array).__name__} already. Use x.detach() for a Variable cut off from the graph, or x itself to stay connected."
            )
        backend = lookup(array)
        if backend is None:
            import numpy as np

            array = np.asarray(array)
            backend = lookup(array)
            if array.dtype == object:
                raise TypeError("Variable takes an array of an Array API library, nested lists of numbers, or a number")
        assert backend is not None
        self.data, self.level, self.node = backend.array(array), BASE, None
        self.requires_grad = backend.kind(self.data.dtype) in "fc" if requires_grad is None else requires_grad

    # --- differentiation ----------------------------------------------------------------------------------------------------------
    @property
    def requires_grad(self) -> bool:
        """Whether operations on this array are recorded; may be set on a leaf."""
        return self.node is not None

    @requires_grad.setter
    def requires_grad(self, flag: bool) -> None:
        if not self.is_leaf:
            raise RuntimeError("requires_grad can be set on leaf Variables only. Use x.detach() for one that is cut off from the graph.")
        if flag and self.node is None:
            if not inexact(self.data):
                raise TypeError(f"only floating and complex arrays have gradients; this Variable has dtype {self.data.dtype}. Use astype first.")
            self.node = make_node(LEAF, (), (), None)
        elif not flag:
            self.node = None

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made this array."""
        return self.node is None or self.node.op is LEAF

    @property
    def grad_fn(self) -> Node | None:
        """The node of the operation that made this array; None for a leaf."""
        return None if self.is_leaf else self.node

    @property
    def grad(self) -> Any:
        """The gradient that backward passes have added up: a raw array, or None."""
        node = self.node
        return None if node is None or node.extra is None else node.extra.grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if self.node is None:
            if value is not None:
                raise RuntimeError("a Variable that does not require grad has no gradient to set")
            return
        if isinstance(value, Variable) and value.level is self.level and not isinstance(self.data, Array):
            value = value.data
        if value is not None:
            check_cotangent(value, self.data, "grad")
        extra(self.node).grad = value

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Differentiate this array and add the results into the ``grad`` of the leaves it was made from.

        Parameters
        ----------
        gradient : array, optional
            The cotangent, of this array's shape, dtype and library. It may be left out for a real array of one element.
        retain_graph : bool
            Keep what the graph saved, so that it can be differentiated again.
        """
        check_alive(self)
        if self.node is None:
            raise RuntimeError("backward() of a Variable that does not require grad and was made from none that does")
        backward([(self.node, cotangent_for(self.data, gradient, "backward()"))], level=self.level, retain=retain_graph)

    def detach(self) -> Variable:
        """Give a Variable with the same memory that does not require grad."""
        return make_variable(self.data, self.level, None)

    def register_hook(self, hook: Callable[[Any], Any]) -> Handle:
        """Call ``hook(gradient)`` whenever this array's gradient is computed; what it returns replaces the gradient.

        Returns
        -------
        Handle
            Its ``remove()`` takes the hook away.
        """
        if self.node is None:
            raise RuntimeError("a Variable that does not require grad has no gradient to hook")
        hooks = extra(self.node).hooks
        number = _number()
        hooks[number] = hook
        return Handle(hooks, number)

    def retain_grad(self) -> None:
        """Keep the gradient of a Variable that is no leaf, in ``grad``."""
        if self.node is None:
            raise RuntimeError("a Variable that does not require grad has no gradient to retain")
        if self.node.op is not LEAF:
            extra(self.node).retains = True

    def carries_gradient(self) -> bool:
        """Tell whether dropping the wrapper would lose a derivative."""
        return self.node is not None or (isinstance(self.data, Array) and self.data.carries_gradient())

    def numpy(self) -> Any:
        """Give the values as a NumPy array; of a Variable that requires grad, say ``detach()`` first."""
        return self.__array__()

    def _become(self, other: Any) -> None:
        if self.node is not None and self.node.op is LEAF and self.level.depth <= QUIET.get():
            self.data = other.data  # an update of a parameter: it stays the same leaf
            return
        if self.node is not None and self.node.op is LEAF and self.level is BASE:
            raise RuntimeError(
                "a leaf Variable that requires grad is changed in place. Do it inside `with agnostic_ad.no_grad():` if this is an update "
                "of a parameter, or change a copy: x = x + 0."
            )
        self.data, self.node = other.data, other.node

    def __repr__(self) -> str:
        how = f", grad_fn=<{self.node.op.name}>" if self.grad_fn is not None and self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Variable({self.data!r}{how})" if self.level is BASE else f"Variable({self.data!r}, in {self.level.label})"

    def __deepcopy__(self, memo: Any) -> Variable:
        if not self.is_leaf:
            raise RuntimeError("only leaf Variables can be copied deeply; use x.detach() first")
        import copy

        data = copy.deepcopy(self.data, memo)
        made = make_variable(data, self.level, None if self.node is None else make_node(LEAF, (), (), None))
        memo[id(self)] = made
        return made

    def __reduce__(self) -> Any:
        if not self.is_leaf or self.level is not BASE:
            raise RuntimeError("only leaf Variables of the define-by-run tape can be pickled; use x.detach() first")
        return Variable, (self.data, self.requires_grad)


class Handle:
    """Removes what was registered."""

    def __init__(self, entries: dict[int, Any], key: int) -> None:
        self._entries, self._key = entries, key

    def remove(self) -> None:
        """Take the registered function away; a second call does nothing."""
        self._entries.pop(self._key, None)


# --- cotangents from users ---------------------------------------------------------------------------------------------------------------
def cotangent_for(y: Any, ct: Any, what: str) -> Any:
    """Give a checked cotangent for ``y``; ones where none was given and ``y`` is a real array of one element."""
    if ct is None:
        backend = y.backend if isinstance(y, Array) else lookup(y)
        assert backend is not None
        if y.dtype in COMPLEX:
            raise RuntimeError(f"{what}: a complex output (dtype {y.dtype}) needs a cotangent of its shape {tuple(y.shape)}")
        if _size(y) != 1:
            raise RuntimeError(
                f"{what}: an output of shape {tuple(y.shape)} needs a cotangent of that shape; only one element can do without. "
                "Sum it, or pass the cotangent."
            )
        xp, (y,) = unify([y])
        return xp.ones_like(y)
    if isinstance(ct, Variable) and not isinstance(y, Array) and ct.level is BASE:
        ct = ct.data
    return check_cotangent(ct, y, what)


def _size(x: Any) -> int:
    size = 1
    for n in x.shape:
        size *= int(n)
    return size


def check_cotangent(ct: Any, y: Any, what: str) -> Any:
    """Refuse a cotangent whose library, shape or dtype is not that of ``y``."""
    ours = y.backend if isinstance(y, Array) else lookup(y)
    assert ours is not None
    if isinstance(ct, int | float | complex) and lookup(ct) is None:
        ct = ours.xp.asarray(ct, dtype=y.dtype)
    theirs = ct.backend if isinstance(ct, Array) else lookup(ct)
    if theirs is not ours:
        raise TypeError(f"{what}: the gradient is of {theirs.name if theirs else type(ct).__name__}, the array of {ours.name}")
    if tuple(ct.shape) != tuple(y.shape):
        raise ValueError(f"{what}: the gradient has shape {tuple(ct.shape)}, the array {tuple(y.shape)}")
    if ct.dtype != y.dtype:
        raise TypeError(f"{what}: the gradient has dtype {ct.dtype}, the array {y.dtype}. Convert it: gradient.astype(x.dtype).")
    return theirs.array(ct) if not isinstance(ct, Array) else ct
