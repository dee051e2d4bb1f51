"""Reverse mode: Variables, and the level they belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.levels import ABOVE_ALL, FAST, QUIET, Array, Level, check_alive, device_of, inexact
from agnostic_ad.namespaces import COMPLEX, lookup
from agnostic_ad.op import ZERO, Op
from agnostic_ad.tape import LEAF, PICK, MarkedNode, Node, adaptation, backward, extra, make_node, next_number, watch

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
    """

    __slots__ = ("complex", "nested")

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.nested = self.complex = False

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
        first = y[0] if isinstance(y, tuple) else y
        if not inexact(first):
            return self.wrap(y, None)
        if first.dtype in COMPLEX:
            self.complex = True
        rules = op.vjps
        for position, node in enumerate(nodes):
            if node is not None:
                rule = rules[0] if op.variadic else rules[position] if position < len(rules) else None
                if rule is None:
                    raise op.missing("derivative", position, self)
                if rule is ZERO:
                    nodes[position] = None
        if not any(nodes):
            return self.wrap(y, None)
        for a in data:
            if isinstance(a, Array):
                self.nested = True
        parents = tuple(nodes)
        node = make_node(op, parents, op.save(op.saves, data, y), params, adaptation(op, data, parents, first))
        if FAST.get() == ABOVE_ALL:
            watch(node, data, y)
        return self.wrap(y, node)


BASE = ReverseLevel("the define-by-run tape")
BASE.depth = 0


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
        self.payload, self.level, self.node = backend.array(array), BASE, None
        self.requires_grad = backend.kind(self.payload.dtype) in "fc" if requires_grad is None else requires_grad

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
                raise TypeError(f"only floating and complex arrays have gradients; this Variable has dtype {self.payload.dtype}. Use astype first.")
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
        return None if type(node) is not MarkedNode else node.extra.grad

    @grad.setter
    def grad(self, value: Any) -> None:
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
            raise RuntimeError("backward() of a Variable that does not require grad and was made from none that does")
        backward([(self.node, cotangent_for(self.payload, gradient, "backward()"))], level=self.level, retain=retain_graph)

    def detach(self) -> Variable:
        """Give a Variable with the same memory that does not require grad."""
        return self.level.variable(self.payload, None)

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

    def _become(self, other: Any) -> None:
        if self.node is not None and self.node.op is LEAF and self.level.depth <= QUIET.get():
            self.payload = other.payload  # an update of a parameter: it stays the same leaf
            return
        if self.node is not None and self.node.op is LEAF and self.level is BASE:
            raise RuntimeError(
                "a leaf Variable that requires grad is changed in place. Do it inside `with agnostic_ad.no_grad():` if this is an update "
                "of a parameter, or change a copy: x = x + 0."
            )
        self.payload, self.node = other.payload, other.node

    def __repr__(self) -> str:
        how = f", grad_fn=<{self.node.op.name}>" if self.grad_fn is not None and self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Variable({self.payload!r}{how})" if self.level is BASE else f"Variable({self.payload!r}, in {self.level.label})"

    def __deepcopy__(self, memo: Any) -> Variable:
        if not self.is_leaf:
            raise RuntimeError("only leaf Variables can be copied deeply; use x.detach() first")
        import copy

        data = copy.deepcopy(self.payload, memo)
        made = self.level.variable(data, None if self.node is None else make_node(LEAF, (), (), None))
        memo[id(self)] = made
        return made

    def __reduce__(self) -> Any:
        if not self.is_leaf or self.level is not BASE:
            raise RuntimeError("only leaf Variables of the define-by-run tape can be pickled; use x.detach() first")
        return Variable, (self.payload, self.requires_grad)


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
        one = backend.one(tuple(y.shape), y.dtype, device_of(y))
        return y.level.lift(one) if isinstance(y, Array) else one
    if isinstance(ct, Variable) and not isinstance(y, Array) and ct.level is BASE:
        ct = ct.payload
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
