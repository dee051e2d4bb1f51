"""``Session``: running what a graph defines, on an array library, with variables that last from run to run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import optree

from agnostic_ad import trees
from agnostic_ad.config import dtype_name
from agnostic_ad.graph import sizes
from agnostic_ad.graph.capture import Traced
from agnostic_ad.graph.definition import ASSIGN, Definition, GraphVariable, Group
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.moving import moved
from agnostic_ad.levels import Array, Level, is_symbolic
from agnostic_ad.namespaces import ShapeDtype, backend_of_namespace, lookup

__all__ = ["Session"]


class _Plan(NamedTuple):
    """What one set of fetches needs.

    Attributes
    ----------
    graph : Graph
        From placeholders and variables to what is fetched, and behind it the new values of variables.
    placeholders : list of GraphNode
        In the order of the graph's inputs; the variables follow.
    variables, assigned : list of GraphVariable
        Those that are read, and those that change.
    owned : list of bool
        Which of what is fetched is the value of a variable itself.
    """

    graph: Graph
    placeholders: list[GraphNode]
    variables: list[GraphVariable]
    assigned: list[GraphVariable]
    owned: list[bool]


class Session:
    """Runs a graph that was defined with ``with graph.Graph() as g:``.

    Each Session has variables of its own. Runs in several threads are safe; those that assign wait for each other.

    Parameters
    ----------
    g : Graph
        The graph. It may grow while the Session lasts.
    xp : namespace
        The array library to run on.
    device : device or str, optional
        By default the library's own choice.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> with graph.Graph() as g:
    ...     x = graph.placeholder((), "float64", name="x")
    ...     w = graph.variable(3.0, name="w")
    ...     loss = (w - x) ** 2
    ...     (dw,) = ad.gradients(loss, [w])
    ...     train = graph.assign(w, w - 0.25 * dw)
    >>> with graph.Session(g) as s:
    ...     s.run([loss, train], feed_dict={x: 1.0})
    ...     s.run({"loss": loss}, feed_dict={"x": 1.0})
    [array(4.), array(2.)]
    {'loss': array(1.)}
    """

    def __init__(self, g: Graph, xp: Any = np, device: Any = None) -> None:
        if not isinstance(g, Graph) or not isinstance(g.definition, Definition):
            what = f"{g.label}, which is called: g(x)" if isinstance(g, Graph) and g.in_spec is not None else f"{g!r:.60}"
            raise TypeError(f"Session runs a graph that was defined in `with graph.Graph() as g:`, not {what}.")
        self.graph, self.backend = g, backend_of_namespace(xp)
        self.device = self.backend.parse_device(device)
        self._level: Definition = g.definition
        self._state: dict[int, Any] = {}
        self._plans: dict[Any, _Plan] = {}
        self._lock = threading.RLock()
        self._closed = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the variables; the Session runs nothing more."""
        self._closed = True
        self._state.clear()
        self._plans.clear()

    # --- running ------------------------------------------------------------------------------------------------------
    def run(self, fetches: Any, feed_dict: Mapping[Any, Any] | None = None) -> Any:
        """Compute values of the graph, and what they need of it, nothing else.

        Parameters
        ----------
        fetches : tree of Traced, GraphVariable, Group, or parameters that the graph uses
            What to compute; anything of `assign` among it, or needed for it, is done.
        feed_dict : dict
            Arrays by placeholder, or by its name. Lists and numbers take the placeholder's dtype, NumPy arrays move to the library.

        Returns
        -------
        tree of arrays
            Raw arrays of the library in the structure of ``fetches``; None for a Group.

        Raises
        ------
        ValueError, TypeError
            Where a placeholder is not fed, fed twice, or fed with another shape or dtype; and for what is no value of this graph.
        """
        if self._closed:
            raise RuntimeError("this Session is closed")
        flat, spec = trees.flatten(fetches)
        places = self._places(flat, spec)
        feeds = self._feeds(feed_dict or {})
        plan = self._plan(tuple(p for group in places for p in group))
        given = []
        for node in plan.placeholders:
            if id(node) not in feeds:
                raise ValueError(
                    f"placeholder {node.name} ({node.where}) is not fed: give feed_dict={{{node.name}: array}}, of {_text(node.outputs[0])}."
                )
            given.append(feeds[id(node)])
        if plan.assigned:
            with self._lock:
                found = plan.graph(*given, *map(self._value, plan.variables))
                for v, new in zip(plan.assigned, found[len(plan.owned) :], strict=True):
                    self._state[id(v)] = self.backend.own(new)
        else:
            with self._lock:
                values = list(map(self._value, plan.variables))
            found = plan.graph(*given, *values)
        results = iter(self.backend.own(y) if own else self.backend.array(y) for y, own in zip(found, plan.owned, strict=False))
        parts = [[next(results) for _ in group] for group in places]
        return trees.unflatten(spec, [None if isinstance(x, Group) else part[0] for x, part in zip(flat, parts, strict=True)])

    def program(self, fetches: Any) -> Graph:
        """Give the graph that `run` runs for some fetches: pruned, optimised, and for the Session's library. ``print(s.program(y).source())``.

        Its inputs are the placeholders that are needed, then the variables; behind what is fetched it gives new values of variables.
        """
        flat, spec = trees.flatten(fetches)
        return self._plan(tuple(p for group in self._places(flat, spec) for p in group)).graph

    def _places(self, flat: list[Any], spec: Any) -> list[list[Output]]:
        names = [a.codify("fetches") for a in optree.treespec_accessors(spec)]
        return [[self._place(v, name) for v in (x.values if isinstance(x, Group) else [x])] for name, x in zip(names, flat, strict=True)]

    def state(self) -> dict[str, Any]:
        """Give copies of the variables' values by name."""
        with self._lock:
            return {v.reads[0].name: self.backend.own(self._value(v)) for v in self._level.variables}

    def load(self, values: Mapping[Any, Any]) -> None:
        """Set variables, by name or by variable, to arrays of their shape and dtype; what `state` gives goes back in."""
        known = {v.reads[0].name: v for v in self._level.variables}
        with self._lock:
            for key, x in values.items():
                v = known.get(key) if isinstance(key, str) else key
                if not isinstance(v, GraphVariable) or v.level is not self._level:
                    raise KeyError(f"{self.graph.label} has no variable {key!r:.80}")
                node = v.reads[0]
                self._state[id(v)] = self.backend.own(self._array(x, node.outputs[0], f"variable {node.name} ({node.where})"))

    def _value(self, v: GraphVariable) -> Any:
        if id(v) not in self._state:
            self._state[id(v)] = self._moved(v.initial)
        return self._state[id(v)]

    def _moved(self, x: Any) -> Any:
        source = lookup(x)
        assert source is not None
        return self.backend.from_numpy(np.array(source.to_numpy(x)), self.device)

    # --- what is given --------------------------------------------------------------------------------------------------
    def _place(self, x: Any, name: str) -> Output:
        level = self._level
        if isinstance(x, Array) and id(x) in level.parameters:
            x = level.parameters[id(x)][1]
        if not isinstance(x, Traced):
            hint = " It requires grad, but nothing in the graph uses it." if isinstance(x, Array) and x.level is Level.base else ""
            raise TypeError(f"{name} is no value of a graph: {x!r:.80} ({type(x).__name__}).{hint}")
        level.check_own(x)
        if x.level is not level:
            raise ValueError(f"{name} is a value of {x.level.label}, not of {level.label}: {x!r}")
        return x.place

    def _feeds(self, feed_dict: Mapping[Any, Any]) -> dict[int, Any]:
        level, found = self._level, dict[int, Any]()
        for key, x in feed_dict.items():
            node = (
                level.named.get(key) if isinstance(key, str) else key.place.node if isinstance(key, Traced) and key.level is level else None
            )
            if isinstance(key, Traced):
                level.check_own(key)
            if node is None or id(node) not in level.placeholders:
                known = ", ".join(p.name for p in level.placeholders.values()) or "none"
                raise ValueError(f"feed_dict: {key!r:.80} is no placeholder of {self.graph.label}. Its placeholders: {known}.")
            if id(node) in found:
                raise ValueError(f"placeholder {node.name} ({node.where}) is fed twice, by name and by value.")
            found[id(node)] = self._array(x, node.outputs[0], f"placeholder {node.name} ({node.where})")
        return found

    def _array(self, x: Any, spec: ShapeDtype, what: str) -> Any:
        """Give an array of the library, of what it is for; refuse another shape or dtype."""
        if isinstance(x, Array):
            if x.level is not Level.base or isinstance(x.payload, Array):
                raise TypeError(f"{what} is fed {x!r:.80}, which has no value. Give an array.")
            x = x.payload
        source, name = lookup(x), dtype_name(spec.dtype)
        if source is None:
            x = np.asarray(x)
            if "biufc".find(x.dtype.kind) < 0 or (
                "?biufc".find(x.dtype.kind) > "?biufc".find(np.dtype(name).kind) if name != "bfloat16" else False
            ):
                raise TypeError(f"{what} is fed {x.dtype} numbers, expected {_text(spec)}.")
            x, source = x.astype(name), lookup(np.zeros(()))
        assert source is not None
        shape = tuple(x.shape)
        fits = len(shape) == len(spec.shape) and all(isinstance(w, sizes.Dim) or n == w for n, w in zip(shape, spec.shape, strict=True))
        if not fits or dtype_name(x.dtype) != name:
            raise (TypeError if fits else ValueError)(
                f"{what} is fed an array of shape {shape} and dtype {dtype_name(x.dtype)}, expected {_text(spec)}."
            )
        if source is self.backend:
            return x if self.device is None else self.backend.to_device(x, self.device)
        if source.name != "numpy":
            raise TypeError(
                f"{what} is fed an array of {source.name}; this Session runs on {self.backend.name}, and takes NumPy's besides."
            )
        return self.backend.from_numpy(x, self.device)

    # --- plans ----------------------------------------------------------------------------------------------------------
    def _plan(self, places: tuple[Output, ...]) -> _Plan:
        """Give what is needed for some values, found once."""
        with self._lock:
            if places not in self._plans:
                self._plans[places] = self._made(places)
            return self._plans[places]

    def _made(self, places: tuple[Output, ...]) -> _Plan:
        level = self._level
        needed: set[int] = set()
        stack = [p.node for p in places]
        while stack:
            node = stack.pop()
            if id(node) not in needed:
                needed.add(id(node))
                stack += [p.node for p in node.places()]
        nodes = [node for node in self.graph.nodes if id(node) in needed]
        first = {id(read): v.reads[0] for v in level.variables for read in v.reads}
        now: dict[Output, Any] = {}
        read: dict[int, GraphVariable] = {}
        last: dict[int, tuple[GraphVariable, Any]] = {}

        def resolved(x: Any) -> Any:
            if not isinstance(x, Output) or x in now:
                return now.get(x, x) if isinstance(x, Output) else x
            start = x
            while id(x.node) in level.after:  # a read after an assignment: of the last one that is run
                v, made = level.after[id(x.node)]
                if id(made) in needed:
                    return now[Output(made, 0)]
                x = Output(v.reads[v.reads.index(x.node) - 1], 0)
            if id(x.node) in first:
                v = next(v for v in level.variables if v.reads[0] is x.node)
                read[id(v)] = v
            elif id(start.node) in level.placeholders and start.node not in fed:
                fed.append(start.node)
            return x

        fed: list[GraphNode] = []
        kept = []
        for node in nodes:
            inputs = tuple(map(resolved, node.inputs))
            if node.op is ASSIGN:
                v = next(v for v in level.variables if v.reads[0].name == node.params["name"])
                now[Output(node, 0)] = inputs[0]
                last[id(v)] = v, inputs[0]
                continue
            new = node.replaced(inputs=inputs)
            now |= {Output(node, i): Output(new, i) for i in range(len(node.outputs))}
            kept.append(new)
        fetched = list(map(resolved, places))
        assigned = [v for v, _ in last.values()]
        outputs = [*fetched, *(place for _, place in last.values())]
        given = [*fed, *(v.reads[0] for v in read.values())]
        symbols = {d.name for node in fed for d in node.outputs[0].shape if isinstance(d, sizes.Dim)}
        guards = tuple(g for g in list(level.guards.values()) if _holds_of(g, symbols))
        specs = tuple(trees.flatten(tuple(range(len(x))))[1] for x in (given, outputs))
        made = Graph(f"{self.graph.label}, run", kept, given, outputs, specs, level.backend, guards)  # type: ignore[arg-type]
        made = made.optimize()
        if self.backend is not level.backend or self.device is not None:
            made = moved(made, self.backend, self.device)
        states = {v.reads[0] for v in level.variables}
        owned = [not isinstance(o, Output) or (n := _source(o)) in states or bool(n.graphs()) for o in fetched]
        return _Plan(made, fed, list(read.values()), assigned, owned)

    def __repr__(self) -> str:
        return f"Session({self.graph.label}, on {self.backend.name}{', closed' if self._closed else ''})"


_VIEWS = {
    "broadcast_to",
    "expand_dims",
    "flip",
    "getitem",
    "matrix_transpose",
    "moveaxis",
    "permute_dims",
    "positive",
    "real",
    "reshape",
    "squeeze",
}
_VIEWS |= {"astype", "imag", "stop_gradient"}


def _source(place: Output) -> GraphNode:
    """Give the node on whose memory a value may lie."""
    node = place.node
    while node.op is not None and node.op.name in _VIEWS and isinstance(node.inputs[0], Output):
        node = node.inputs[0].node
    return node


def _holds_of(guard: Any, symbols: set[Any]) -> bool:
    """Tell whether what a guard compares is known from the placeholders that are fed."""
    bound = dict.fromkeys(symbols, sizes.HINTS[0])
    return not is_symbolic(*(sizes.evaluate(side, bound) for side in (guard.left, guard.right)))


def _text(spec: ShapeDtype) -> str:
    return f"shape {sizes.text(spec.shape)} and dtype {dtype_name(spec.dtype)}"
