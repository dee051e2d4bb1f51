"""Reverse mode: Variables, and the level they belong to."""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import RLock
from typing import Any, ClassVar

from agnostic_ad import views
from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import EscapedArrayError
from agnostic_ad.levels import QUIET, TRANSFORMATIONS, WATCHING, Array, Level, check_alive, device_of, inexact
from agnostic_ad.namespaces import COMPLEX, lookup
from agnostic_ad.op import ZERO, Op
from agnostic_ad.tape import LEAF, PICK, MarkedNode, Node, Structural, adaptation, backward, extra, make_node, next_number, watch

__all__ = ["BASE", "ReverseLevel", "Variable"]

_new = object.__new__


class ReverseLevel(Level):
    """A tape: it has no list of its own, only the nodes that its Variables hold.

    Attributes
    ----------
    nested : bool
        Whether any payload is itself a wrapped array; the backward pass of plain payloads is a tighter loop.
    complex : bool
        Whether any payload is complex, so that rules may have to conjugate.
    lock : RLock
        Held while a tape whose function has returned is entered again: a pullback may be called in several threads.
    """

    __slots__ = ("_above", "complex", "lock", "nested")

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.nested = self.complex = False
        self.lock = RLock()
        self._above: ReverseLevel | None = None

    def above(self) -> ReverseLevel:
        """Give the lasting tape whose Variables wrap this one's, which lasts too."""
        if not 0 <= self.depth < TRANSFORMATIONS - 1:
            raise TypeError(f"{self.label} lives no longer than its function; what lasts cannot stand on it")
        with self.lock:  # there is one, for all threads
            if self._above is None:
                above = ReverseLevel(f"{self.label}, over itself")
                above.depth = self.depth + 1
                self._above = above
        return self._above

    def lift(self, x: Any) -> Variable:
        """Wrap as a constant."""
        return self.variable(x, None)

    def leaf(self, x: Any) -> Variable:
        """Wrap as an array to differentiate with respect to."""
        if x.dtype in COMPLEX:
            self.complex = True
        return self.variable(x, make_node(LEAF, (), (), None))

    def variable(self, payload: Any, node: Node | None) -> Variable:
        """Make an array of this level."""
        v: Variable = _new(Variable)
        v.payload, v.level, v.node = payload, self, node
        return v

    def wrap(self, y: Any, node: Node | None) -> Any:
        """Make an array, or a tuple of them, of what one operation gave."""
        if not isinstance(y, tuple):
            return self.variable(y, node)
        if node is None:
            return tuple(self.variable(part, None) for part in y)
        return tuple(
            self.variable(part, make_node(PICK, (node,), (), {"index": i, "count": len(y)}) if inexact(part) else None)
            for i, part in enumerate(y)
        )

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute on the payloads and record."""
        if len(args) == 1 and type(args[0]) is Variable and args[0].level is self and not op.variadic:
            return self._apply_one(op, args[0], params)
        nodes: list[Any] = []
        payloads: list[Any] = []
        tracked = False
        for a in args:
            if isinstance(a, Variable) and a.level is self:
                payloads.append(a.payload)
                nodes.append(a.node)
                tracked = tracked or a.node is not None
            else:
                payloads.append(a)
                nodes.append(None)
        data = tuple(payloads)
        y = op.run(data, params)
        if not (tracked and op.differentiable and self.depth > QUIET.get()):
            return self.wrap(y, None)
        if not (any(map(inexact, y)) if isinstance(y, tuple) else inexact(y)):
            return self.wrap(y, None)
        if op.variadic:
            positions: tuple[int, ...] = (0,)
            parents = tuple(nodes)
        else:
            positions = tuple(i for i, n in enumerate(nodes) if n is not None and (i >= len(op.vjps) or op.vjps[i] is not ZERO))
            parents = tuple(nodes[i] for i in positions)
            for i in positions:
                if i >= len(op.vjps) or op.vjps[i] is None:
                    raise op.missing("derivative", i, self)
        return self._record(op, positions, parents, data, y, params) if positions else self.wrap(y, None)

    def _apply_one(self, op: Op, x: Variable, params: dict[str, Any]) -> Any:
        """Do the same for one operand, of this level: the common case, with less to find out."""
        payload, node = x.payload, x.node
        y = op.run_one(payload, params)
        first = y
        if isinstance(y, tuple):
            if not y:
                return y
            first = y[0]
        tracked = node is not None and op.differentiable and self.depth > QUIET.get()
        if not tracked or not (first.dtype is payload.dtype or inexact(first)):  # a tracked operand is inexact
            return self.wrap(y, None)
        rule = op.vjps[0] if op.vjps else None
        if rule is None:
            raise op.missing("derivative", 0, self)
        return self.wrap(y, None) if rule is ZERO else self._record(op, (0,), node, (payload,), y, params)

    def _record(self, op: Op, positions: tuple[int, ...], parents: Any, data: tuple[Any, ...], y: Any, params: dict[str, Any]) -> Any:
        """Make the node of an operation, and its results."""
        first = y[0] if isinstance(y, tuple) else y
        if any(part.dtype in COMPLEX for part in (y if isinstance(y, tuple) else (y,))):
            self.complex = True
        for a in data:
            if isinstance(a, Array):
                self.nested = True
        rules = op.reverse(positions)
        operands = data if op.variadic else [data[i] for i in positions]
        node = make_node(rules, parents, rules.keep(data, y), params, adaptation(rules, operands, first))
        if WATCHING.get():
            watch(node, data, y)
        return self.wrap(y, node)


BASE = ReverseLevel("the define-by-run tape")
BASE.depth = 0
Level.base = BASE


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
    _state = ("payload", "node")
    node: Node | None
    marks: ClassVar[list[Any]] = []
    """Classes that count some Variables among their instances (``nn.Parameter``), by way of ``mark``: copies and pickles stay theirs."""

    def __init__(self, array: Any, requires_grad: bool | None = None) -> None:
        if isinstance(array, Array) and array.level.depth >= BASE.depth:
            raise TypeError(
                f"this is a {type(array).__name__} already. Use x.detach() for a Variable cut off from the graph, or x itself to stay connected."
            )
        below = isinstance(array, Array)  # a capture below this tape, where the plain call has a raw array
        backend = array.backend if below else lookup(array)
        if backend is None:
            import numpy as np

            array = np.asarray(array)
            backend = lookup(array)
            if array.dtype.kind not in "biufc":
                raise TypeError("Variable takes an array of an Array API library, nested lists of numbers, or a number")
        assert backend is not None
        self.payload, self.level, self.node = array if below else backend.array(array), BASE, None
        self.requires_grad = backend.kind(self.payload.dtype) in "fc" if requires_grad is None else requires_grad

    @property
    def data(self) -> Any:
        """The array underneath: a raw array of the library, or one of the next transformation. On a leaf it may be replaced."""
        return Array.data.fget(self)  # type: ignore[attr-defined]

    @data.setter
    def data(self, value: Any) -> None:
        if isinstance(value, Array) and value.level.depth < self.level.depth and self.is_leaf:  # a capture below this tape
            views.cut(self)
            self.payload = value
            return
        backend = lookup(value)
        if self.level is not BASE or not self.is_leaf or backend is None:
            raise TypeError("data can be set on leaf Variables of the define-by-run tape, to an array of an Array API library")
        if self.requires_grad and not inexact(value):
            raise TypeError(f"a Variable that requires grad holds floating or complex arrays, not {value.dtype}")
        views.cut(self)
        self.payload = backend.array(value)

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
            if not inexact(self.payload):
                raise TypeError(
                    f"only floating and complex arrays have gradients; this Variable has dtype {self.payload.dtype}. Use astype first."
                )
            self.node = make_node(LEAF, (), (), None)
            if self.payload.dtype in COMPLEX:
                self.level.complex = True
        elif not flag:
            self.node = None

    def requires_grad_(self, requires_grad: bool = True) -> Variable:
        """Set ``requires_grad``, and give the Variable."""
        self.requires_grad = requires_grad
        return self

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
        return None if type(node) is not MarkedNode else node.extra.grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if isinstance(value, Array) and value.level.depth > self.level.depth:
            raise EscapedArrayError(
                f"grad: an array of {self.level.label} cannot keep a value of {value.level.label}, which runs inside it. Return the gradient instead."
            )
        if self.node is None:
            if value is not None:
                raise RuntimeError("a Variable that does not require grad has no gradient to set")
            return
        if isinstance(value, Variable) and value.level is self.level and not isinstance(self.payload, Array):
            value = value.payload
        if value is not None:
            check_cotangent(value, self.payload, "grad")
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
            raise RuntimeError(
                "backward() of a Variable that does not require grad: it was made from none that does, or only by way of functions whose "
                "derivative is zero or does not exist (round, comparisons, integers, stop_gradient, no_grad)"
            )
        backward([(self.node, cotangent_for(self.payload, gradient, "backward()"))], level=self.level, retain=retain_graph)

    def detach(self) -> Variable:
        """Give a Variable of the same value that does not require grad, and stands apart: in-place changes of one do not reach the other."""
        v: Variable = self.level.variable(self.payload, None)
        return v

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
        number = next_number()
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
        return self.node is not None or (isinstance(self.payload, Array) and self.payload.carries_gradient())

    def numpy(self) -> Any:
        """Give the values as a NumPy array; of a Variable that requires grad, say ``detach()`` first."""
        return self.__array__()

    def _moved(self, target: Backend, device: Any) -> Variable:
        """Give a Variable over another array library, by way of the host."""
        source = self.backend
        if isinstance(self.payload, Array):
            return super()._moved(target, device)  # type: ignore[no-any-return]
        place = device_of(self.payload)

        def back(node: Node, saved: Any, ct: Any, position: int) -> Any:
            if isinstance(ct, Array):
                return ct._moved(source, place) if isinstance(ct, Variable) else ct
            return source.from_numpy(target.to_numpy(ct), place)

        payload = target.from_numpy(source.to_numpy(self.payload), device)
        recorded = self.node is not None and self.level.depth > QUIET.get()
        node = make_node(Structural(f"to({target.name})", back), (self.node,), (), None) if recorded else None
        return self.level.variable(payload, node)  # type: ignore[no-any-return]

    def _become(self, other: Any) -> None:
        self.payload = other.payload
        if self.node is None or self.level.depth > QUIET.get():
            self.node = other.node  # else an update of a parameter: it stays the same leaf; and a result keeps its history, as in torch

    def _check_change(self) -> None:
        if self.node is not None and self.node.op is LEAF and QUIET.get() < self.level.depth < TRANSFORMATIONS:
            raise RuntimeError(
                "a leaf Variable that requires grad is changed in place. Do it inside `with agnostic_ad.no_grad():` if this is an update "
                "of a parameter, or change a copy: x = x + 0."
            )

    def __repr__(self) -> str:
        how = (
            f", grad_fn=<{self.node.op.name}>"
            if self.grad_fn is not None and self.node
            else ", requires_grad=True"
            if self.requires_grad
            else ""
        )
        return f"Variable({self.data!r}{how})" if self.level is BASE else f"Variable({self.data!r}, in {self.level.label})"

    def __deepcopy__(self, memo: Any) -> Variable:
        if not self.is_leaf:
            raise RuntimeError("only leaf Variables can be copied deeply; use x.detach() first")
        import copy

        data = copy.deepcopy(self.payload, memo)
        made: Variable = self.level.variable(data, None if self.node is None else make_node(LEAF, (), (), None))
        if self.grad is not None:
            assert made.node is not None
            extra(made.node).grad = copy.deepcopy(self.grad, memo)
        memo[id(self)] = _marked(made, self._marks())
        return made

    def __reduce__(self) -> Any:
        if not self.is_leaf or self.level is not BASE:
            raise RuntimeError("only leaf Variables of the define-by-run tape can be pickled; use x.detach() first")
        return _rebuilt, (self.payload, self.requires_grad, self._marks())

    def _marks(self) -> list[Any]:
        return [kind for kind in Variable.marks if isinstance(self, kind)]


def _rebuilt(payload: Any, requires_grad: bool, marks: list[Any]) -> Variable:
    return _marked(Variable(payload, requires_grad), marks)


def _marked(v: Variable, marks: list[Any]) -> Variable:
    for kind in marks:
        kind.mark(v)
    return v


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
        shape, dtype = tuple(y.shape), y.dtype
        if dtype in COMPLEX:
            raise RuntimeError(f"{what}: a complex output (dtype {dtype}) needs a cotangent of its shape {shape}")
        if math.prod(shape) != 1:
            raise RuntimeError(
                f"{what}: an output of shape {shape} needs a cotangent of that shape; only one element can do without. "
                "Sum it, or pass the cotangent."
            )
        one = backend.one(shape, dtype, lambda: device_of(y))
        return y.level.lift(one) if isinstance(y, Array) else one
    if isinstance(ct, Variable) and not isinstance(y, Array) and ct.level is BASE:
        ct = ct.payload
    return check_cotangent(ct, y, what)


def check_cotangent(ct: Any, y: Any, what: str, name: str = "gradient") -> Any:
    """Refuse a cotangent (or tangent) whose library, shape or dtype is not that of ``y``."""
    ours = y.backend if isinstance(y, Array) else lookup(y)
    assert ours is not None
    if isinstance(ct, int | float | complex) and lookup(ct) is None:
        ct = ours.xp.asarray(ct, dtype=y.dtype)
    theirs = ct.backend if isinstance(ct, Array) else lookup(ct)
    if theirs is not ours:
        raise TypeError(f"{what}: the {name} is of {theirs.name if theirs else type(ct).__name__}, the array of {ours.name}")
    sizes = tuple(n if n == n else m for n, m in zip(y.shape, ct.shape, strict=False))  # NaN: a lazy library does not know
    if len(ct.shape) != len(y.shape) or tuple(ct.shape) != sizes:
        raise ValueError(f"{what}: the {name} has shape {tuple(ct.shape)}, the array {tuple(y.shape)}")
    if ct.dtype != y.dtype:
        raise TypeError(f"{what}: the {name} has dtype {ct.dtype}, the array {y.dtype}. Convert it: {name}.astype(x.dtype).")
    return theirs.array(ct) if not isinstance(ct, Array) else ct
