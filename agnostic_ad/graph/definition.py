"""Graphs that are defined first: placeholders, variables and assignments, and the derivatives of what was defined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from agnostic_ad import trees
from agnostic_ad.backends.base import Backend
from agnostic_ad.config import dtype_name
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.capture import Traced, TraceLevel
from agnostic_ad.graph.ir import EFFECTS, Graph, GraphNode, Output
from agnostic_ad.graph.lines import user_line
from agnostic_ad.graph.lost import HINT_ONCE, betrays, lost
from agnostic_ad.levels import _STACK, Array, Level, next_depth
from agnostic_ad.namespaces import ShapeDtype, lookup
from agnostic_ad.op import Op

__all__ = ["ASSIGN", "Definition", "GraphVariable", "Group", "assign", "group", "placeholder", "replayed", "variable"]

ASSIGN = Op(
    "graph.assign",
    "value, /, *, name=''",
    ["value"],
    vjps=[lambda ct: ct],
    jvps=[lambda ct: ct],
    batch=lambda xp, size, args, batched, params: args[0],
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, args[0].dtype),
)
"""Gives its operand. In a Session it is also the new value of a variable."""
Backend.fallbacks[ASSIGN.name] = lambda xp, value, /, *, name: value
EFFECTS.add(ASSIGN.name)


class GraphVariable(Traced):
    """A variable of a graph: an array that a Session keeps from run to run. Used in operations, it stands for its value at that point.

    Attributes
    ----------
    initial : array
        What a Session starts with.
    reads : list of GraphNode
        A node for its value at the start, and one more for its value after each assignment.
    """

    __slots__ = ("initial", "reads")
    initial: Any
    reads: list[GraphNode]

    def _check_change(self) -> None:
        raise UnsupportedError(
            f"variable {self.name} is changed in place. Write graph.assign(variable, value), and fetch that in a Session."
        )

    def __repr__(self) -> str:
        return f"GraphVariable({super().__repr__().removeprefix('Traced(')}"


class Group:
    """Several values to be computed together; a Session gives None for it."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)

    def __repr__(self) -> str:
        return f"Group({', '.join(map(repr, self.values))})"


class Definition(TraceLevel):
    """What operations on the values of a graph are noted in, for as long as there are such values."""

    once = True
    __slots__ = ("_again", "after", "graph", "kept", "named", "parameters", "placeholders", "variables")

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph.label, graph.backend)
        self.graph, self.nodes = graph, graph.nodes
        self.depth = next_depth()
        self.named: dict[str, GraphNode] = {}
        self.kept: list[Traced] = []
        self.placeholders: dict[int, Output] = {}  # by the array that stands for each
        self.variables: list[GraphVariable] = []
        self.parameters: dict[int, tuple[Any, GraphVariable]] = {}
        self.after: dict[int, tuple[GraphVariable, GraphNode]] = {}  # a read: the variable, and the assignment before it
        self._again: GraphNode | None = None

    def __enter__(self) -> Definition:
        self._entered.append((self.depth, _STACK.set((*_STACK.get(), self))))
        return self

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Note an operation; give the noted one again, while a derivative is made."""
        node, self._again = self._again, None
        if node is not None and op is node.op:
            if node.params is not params and node.graphs():  # a loop, which keeps more for its derivative
                node.params, node.outputs = params, op.abstract(self.backend, tuple(_spec(a) for a in args), params)
            found = tuple(self.value(Output(node, i)) for i in range(len(node.outputs)))
            return found if len(found) > 1 or node.graphs() else found[0]
        made_of_size = next((x for x in args if betrays(x)), None)
        if made_of_size is not None and any(isinstance(n, sizes.Dim) for node in self.graph.inputs for n in node.outputs[0].shape):
            raise lost(self.label, f"{op.name} takes the number {made_of_size!r}", user_line(2))
        return super().apply(op, tuple(map(self.taken, args)), params)

    def taken(self, x: Any) -> Any:
        """Give what stands for an operand in this graph: a variable for a parameter; refuse values of other graphs."""
        if not isinstance(x, Array) or x.level is self:
            return x
        self.check_own(x)
        if x.level is Level.base and not isinstance(x.payload, Array):
            return self.variable_for(x) if getattr(x, "requires_grad", False) else x.payload
        return x

    def check_own(self, x: Any) -> None:
        """Refuse a value of another graph."""
        if isinstance(x.level, Definition) and x.level is not self:
            raise ValueError(
                f"{x!r} is a value of another graph, {x.level.label}; this is {self.label}. Define both in one graph, or fetch it and feed the result."
            )

    def variable_for(self, x: Any) -> GraphVariable:
        """Give the variable that a parameter (a Variable that requires grad) has become."""
        if id(x) not in self.parameters:
            made = self.variable(x.payload, self.free(f"parameter{len(self.parameters)}"))
            self.parameters[id(x)] = x, made  # x is kept, so that nothing else takes its id
        return self.parameters[id(x)][1]

    def variable(self, array: Any, name: str) -> GraphVariable:
        """Make a variable."""
        backend = lookup(array)
        assert backend is not None
        spec = ShapeDtype(tuple(array.shape), self.backend.dtype(dtype_name(array.dtype)))
        node = GraphNode(None, (), {}, (spec,), self.claimed(name), self._from()[0])
        self.named[name] = node
        self.graph.inputs.append(node)
        made: GraphVariable = object.__new__(GraphVariable)
        made.level, made.payload, made.place, made.spec, made._device = self, None, Output(node, 0), spec, None
        made.initial, made.reads = backend.own(array), [node]
        self.variables.append(made)
        return made

    def placeholder(self, shape: Sequence[Any], dtype: Any, name: str) -> Traced:
        """Make a placeholder."""
        known = tuple(
            sizes.symbol(f"{name}.{k}" if n is None else n, HINT_ONCE, self) if n is None or isinstance(n, str) else n
            for k, n in enumerate(shape)
        )
        node = GraphNode(None, (), {}, (ShapeDtype(known, self.backend.dtype(dtype_name(dtype))),), self.claimed(name), self._from()[0])
        self.named[name] = node
        self.graph.inputs.append(node)
        made = self._traced(node, 0, None)
        self.placeholders[id(made)] = made.place
        self.kept.append(made)  # so that nothing else takes its id
        return made

    def fed(self, key: Any) -> Output | None:
        """Give the place that a key of a feed_dict means: a placeholder, by value or by name, or what an operation gave; None for others."""
        if isinstance(key, str):
            node = self.named.get(key)
            return next((place for place in self.placeholders.values() if place.node is node), None)
        place = self.placeholders.get(id(key))  # also where it was changed in place since
        if place is None and isinstance(key, Traced) and key.level is self and key.place.node.op not in (None, ASSIGN):
            place = key.place
        return place

    def assign(self, target: GraphVariable, value: Traced) -> Traced:
        """Note an assignment; what reads the variable from here on reads the new value, where the assignment is run."""
        result: Traced = super().apply(ASSIGN, (value,), {"name": target.reads[0].name})
        read = GraphNode(None, (), {}, (target.spec,), target.reads[0].name, result.place.node.where)
        target.reads.append(read)
        target.place = Output(read, 0)
        self.after[id(read)] = target, result.place.node
        return result

    def value(self, place: Output) -> Traced:
        """Give a place of the graph as an array."""
        return self._traced(place.node, place.index, None)

    def free(self, name: str) -> str:
        """Give a name that nothing has."""
        return next(n for n in (name, *(f"{name}_{i}" for i in itertools.count(1))) if n not in self.named) if name in self.named else name

    def claimed(self, name: str) -> str:
        """Give a name, unless something has it."""
        if name in self.named:
            raise ValueError(f"{self.label} has a value named {name!r} already ({self.named[name].where}); choose another name.")
        return name


def _spec(x: Any) -> Any:
    return ShapeDtype(tuple(x.shape), x.dtype) if isinstance(x, Array) or lookup(x) is not None else x


def _current(what: str) -> Definition:
    level = next((level for level in reversed(_STACK.get()) if isinstance(level, TraceLevel)), None)
    if not isinstance(level, Definition):
        where = "" if level is None else f", not of {level.label}"
        raise RuntimeError(f"graph.{what} is a part of a graph{where}: call it inside `with graph.Graph() as g:`.")
    return level


# --- what users call ------------------------------------------------------------------------------------------------------------------------
def placeholder(shape: Sequence[Any], dtype: Any = "float32", name: str = "") -> Traced:
    """Make a value of a graph that is fed when the graph runs.

    Parameters
    ----------
    shape : tuple
        Integers; None for an axis of any size, or a name: axes of one name have one size.
    dtype : dtype or str
        The dtype.
    name : str, optional
        What errors call it.

    Returns
    -------
    Traced

    Raises
    ------
    RuntimeError
        Outside of ``with graph.Graph() as g:``.
    ValueError
        Where something in the graph has that name.

    Examples
    --------
    >>> from agnostic_ad import graph
    >>> with graph.Graph() as g:
    ...     x = graph.placeholder((None, 3), "float64", name="x")
    ...     y = (x * x).sum(axis=1)
    >>> with graph.Session(g) as s:
    ...     s.run(y, feed_dict={x: [[1.0, 2.0, 3.0]]})
    array([14.])
    """
    level = _current("placeholder")
    return level.placeholder(sizes.checked(shape, "placeholder"), dtype, name or level.free(f"placeholder{len(level.placeholders)}"))


def variable(array: Any, name: str = "") -> GraphVariable:
    """Make a value of a graph that a Session keeps from run to run.

    Parameters
    ----------
    array : array, nested list or number
        What it starts with, in each Session. It is copied.
    name : str, optional
        What errors call it, and what `Session.state` does.

    Returns
    -------
    GraphVariable

    Examples
    --------
    >>> from agnostic_ad import graph
    >>> with graph.Graph() as g:
    ...     count = graph.variable(0, name="count")
    ...     more = graph.assign(count, count + 1)
    >>> with graph.Session(g) as s:
    ...     s.run(more), s.run(more), s.run(count)
    (array(1), array(2), array(2))
    """
    level = _current("variable")
    if isinstance(array, Array):
        if array.level is not Level.base or isinstance(array.payload, Array):
            raise TypeError(f"variable: {array!r} has no value to start with; an array or a Variable has.")
        array = array.payload
    if lookup(array) is None or isinstance(array, np.generic):
        array = np.asarray(array)
    return level.variable(array, name or level.free(f"variable{len(level.variables)}"))


def assign(target: Any, value: Any) -> Traced:
    """Make a value of a graph; a Session that computes it also makes it the value of a variable.

    What reads the variable before this line reads the old value; what reads it after this line the new one, in a run that computes the
    assignment.

    Parameters
    ----------
    target : GraphVariable, or Variable that was used in the graph
        What to change.
    value : array
        Of its shape and dtype.

    Returns
    -------
    Traced
        The new value, to be fetched (see `group` for several).

    Raises
    ------
    TypeError
        Where the target is no variable, or shape or dtype differ.
    """
    level = target.level if isinstance(target, GraphVariable) else _current("assign")
    if _STACK.get() and _STACK.get()[-1] is not level and isinstance(_STACK.get()[-1], TraceLevel):
        raise UnsupportedError(
            f"assign inside {_STACK.get()[-1].label}: a branch or a loop gives values, it changes none. Give the value as its result, and assign that."
        )
    if isinstance(target, Array) and id(target) in level.parameters:
        target = level.parameters[id(target)][1]
    if not isinstance(target, GraphVariable):
        raise TypeError(f"assign changes a variable of the graph, not {target!r:.80}; make one with graph.variable(array).")
    if isinstance(value, Array):
        level.check_own(value)
    elif lookup(value) is None:
        value = level.backend.xp.asarray(value, dtype=target.dtype)
    if tuple(value.shape) != tuple(target.shape) or dtype_name(value.dtype) != dtype_name(target.dtype):
        raise TypeError(
            f"assign: variable {target.name} ({target.reads[0].where}) has shape {sizes.text(target.shape)} and dtype {dtype_name(target.dtype)}; "
            f"the value has shape {sizes.text(value.shape)} and dtype {dtype_name(value.dtype)}."
        )
    return level.assign(target, value)


def group(*values: Any) -> Group:
    """Give several values, such as assignments, as one thing to fetch; a Session gives None for it.

    Examples
    --------
    >>> from agnostic_ad import graph
    >>> with graph.Graph() as g:
    ...     a, b = graph.variable(1.0, name="a"), graph.variable(2.0, name="b")
    ...     step = graph.group(graph.assign(a, a + b), graph.assign(b, b * 2))
    >>> with graph.Session(g) as s:
    ...     s.run(step)
    ...     s.state()
    {'a': array(3.), 'b': array(4.)}
    """
    return Group([v for value in values for v in trees.leaves(value)])


# --- derivatives ----------------------------------------------------------------------------------------------------------------------------
class Round(NamedTuple):
    """One pass over a graph, for the derivatives with respect to inputs none of which depends on another.

    Attributes
    ----------
    positions : list of list of int
        Where each input stands among those asked for: at several places, perhaps.
    inputs : list of Traced
        The inputs.
    function : callable
        The outputs as a function of the inputs. It runs the nodes in between; what they gave is in the graph already, and is not computed again.
    """

    positions: list[list[int]]
    inputs: list[Traced]
    function: Callable[..., tuple[Any, ...]]


def replayed(outputs: Sequence[Any], inputs: Sequence[Any]) -> list[Round]:
    """Give values of a graph as functions of other values of it; inputs that no output depends on are in none of the rounds."""
    level = outputs[0].level
    if not isinstance(level, Definition):
        raise TypeError(
            f"gradients takes Variables, or values of `with graph.Graph()`; {outputs[0]!r} is of {level.label}: use ad.grad in there."
        )
    found: dict[Output, tuple[Traced, list[int]]] = {}
    for position, x in enumerate(inputs):
        if isinstance(x, Array) and id(x) in level.parameters:
            x = level.parameters[id(x)][1]
        if not isinstance(x, Traced) or x.level is not level:
            raise TypeError(f"gradients: {x!r:.80} is no value of {level.label}, as the outputs are.")
        found.setdefault(x.place, (x, []))[1].append(position)
    for y in outputs:
        if not isinstance(y, Traced) or y.level is not level:
            raise TypeError(f"gradients: {y!r:.80} is no value of {level.label}, as the first output is.")
    starts = {p: [Output(node, 0) for node in x.reads] if isinstance(x, GraphVariable) else [p] for p, (x, _) in found.items()}
    ways = {p: _reached(level.nodes, starts[p]) for p in found}
    left = [p for p in found if any(y.place in ways[p] for y in outputs)]
    rounds = []
    while left:
        first = [p for p in left if not any(p in ways[other] for other in left if other != p)]
        path = _between(level.nodes, outputs, [ways[p] for p in first])
        function = _function(level, path, [starts[p] for p in first], outputs)
        rounds.append(Round([found[p][1] for p in first], [found[p][0] for p in first], function))
        left = [p for p in left if p not in first]
    return rounds


def _function(
    level: Definition, path: list[GraphNode], starts: list[list[Output]], outputs: Sequence[Any]
) -> Callable[..., tuple[Any, ...]]:
    def function(*xs: Any) -> tuple[Any, ...]:
        values: dict[Output, Any] = {place: x for x, places in zip(xs, starts, strict=True) for place in places}
        for node in path:
            operands = tuple((values[i] if i in values else level.value(i)) if isinstance(i, Output) else i for i in node.inputs)
            level._again = node
            y = node.op.run(operands, node.params)
            for i, part in enumerate(y if isinstance(y, tuple) else (y,)):
                values.setdefault(Output(node, i), part)  # an input stays what it is
        return tuple(values.get(y.place, y) for y in outputs)

    return function


def _reached(nodes: Sequence[GraphNode], places: Sequence[Output]) -> set[Output]:
    found = set(places)
    for node in nodes:
        if any(p in found for p in node.places()):
            found |= {Output(node, i) for i in range(len(node.outputs))}
    return found


def _between(nodes: Sequence[GraphNode], outputs: Sequence[Any], ways: list[set[Output]]) -> list[GraphNode]:
    """Give the nodes on the ways to the outputs."""
    needed = {y.place.node for y in outputs}
    for node in reversed(nodes):
        if node in needed:
            needed |= {p.node for p in node.places()}
    return [node for node in nodes if node in needed and any(Output(node, 0) in reached for reached in ways)]
