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

__all__ = ["Session", "source_of"]


class _Plan(NamedTuple):
    """What one set of fetches needs.

    Attributes
    ----------
    graph : Graph
        From placeholders and variables to what is fetched, and behind it the new values of variables.
    fed : list of Output
        What is given at each run, in the order of the graph's inputs; the variables follow.
    variables, assigned : list of GraphVariable
        Those that are read, and those that change.
    owned : list of bool
        Which of what is fetched is the value of a variable itself.
    """

    graph: Graph
    fed: list[Output]
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
            Arrays by placeholder, or by its name. Lists and numbers take the placeholder's dtype, NumPy arrays move to the library. Any other
            value that operations gave may be fed too: it then is what it is fed, and what it was made of is not computed.

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
        plan = self._plan(tuple(p for group in places for p in group), frozenset(p for p in feeds if p.node.op is not None))
        for place in plan.fed:
            if place not in feeds:
                name = place.node.name
                raise ValueError(f"{_title(place)} is not fed: give feed_dict={{{name}: array}}, of {_text(place.spec)}.")
        given = [feeds[place] for place in plan.fed]
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

    def _feeds(self, feed_dict: Mapping[Any, Any]) -> dict[Output, Any]:
        if not isinstance(feed_dict, Mapping):
            raise TypeError(f"feed_dict gives arrays by placeholder, {{x: array}}; got {feed_dict!r:.60} ({type(feed_dict).__name__}).")
        level, found = self._level, dict[Output, Any]()
        for key, x in feed_dict.items():
            if isinstance(key, Traced):
                level.check_own(key)
            place = level.fed(key)
            if place is None:
                known = ", ".join(p.node.name for p in level.placeholders.values()) or "none"
                raise ValueError(f"feed_dict: {key!r:.80} is no placeholder of {self.graph.label}. Its placeholders: {known}.")
            if place in found:
                raise ValueError(f"{_title(place)} is fed twice, by name and by value.")
            found[place] = self._array(x, place.spec, _title(place))
        return found

    def _array(self, x: Any, spec: ShapeDtype, what: str) -> Any:
        """Give an array of the library, of what it is for; refuse another shape or dtype."""
        if isinstance(x, Array):
            if x.level is not Level.base or isinstance(x.payload, Array):
                raise TypeError(f"{what} is fed {x!r:.80}, which has no value. Give an array.")
            x = x.payload
        source, name = lookup(x), dtype_name(spec.dtype)
        if source is None:
            x, source = _numbers(x, name, what, _text(spec)), lookup(np.zeros(()))
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
    def _plan(self, places: tuple[Output, ...], given: frozenset[Output] = frozenset()) -> _Plan:
        """Give what is needed for some values, where others are given in the place of what computes them; found once."""
        with self._lock:
            if (places, given) not in self._plans:
                self._plans[places, given] = self._made(places, given)
            return self._plans[places, given]

    def _made(self, places: tuple[Output, ...], instead: frozenset[Output]) -> _Plan:
        level = self._level
        needed: set[int] = set()
        stack = [p.node for p in places if p not in instead]
        while stack:
            node = stack.pop()
            if id(node) not in needed:
                needed.add(id(node))
                stack += [p.node for p in node.places() if p not in instead]
        nodes = [node for node in self.graph.nodes if id(node) in needed]
        first = {id(read): v.reads[0] for v in level.variables for read in v.reads}
        stand_ins = {p: GraphNode(None, (), {}, (p.spec,), f"{p!r}", p.node.where) for p in instead}
        now: dict[Output, Any] = {p: Output(node, 0) for p, node in stand_ins.items()}
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
            elif start in placeholders and start.node not in fed:
                fed.append(start.node)
            return x

        fed: list[GraphNode] = []
        placeholders = set(level.placeholders.values())
        kept = []
        for node in nodes:
            inputs = tuple(map(resolved, node.inputs))
            if node.op is ASSIGN:
                v = next(v for v in level.variables if v.reads[0].name == node.params["name"])
                now[Output(node, 0)] = inputs[0]
                last[id(v)] = v, inputs[0]
                continue
            new = node.replaced(inputs=inputs)
            now = {Output(node, i): Output(new, i) for i in range(len(node.outputs))} | now  # what is fed stays so
            kept.append(new)
        fetched = list(map(resolved, places))
        assigned = [v for v, _ in last.values()]
        outputs = [*fetched, *(place for _, place in last.values())]
        given = [*fed, *stand_ins.values(), *(v.reads[0] for v in read.values())]
        symbols = {d.name for node in (*fed, *stand_ins.values()) for d in node.outputs[0].shape if isinstance(d, sizes.Dim)}
        guards = tuple(g for g in list(level.guards.values()) if _holds_of(g, symbols))
        specs = tuple(trees.flatten(tuple(range(len(x))))[1] for x in (given, outputs))
        made = Graph(f"{self.graph.label}, run", kept, given, outputs, specs, level.backend, guards)  # type: ignore[arg-type]
        made = made.optimize()
        if self.backend is not level.backend or self.device is not None:
            made = moved(made, self.backend, self.device)
        states = {v.reads[0] for v in level.variables}
        owned = [not isinstance(o, Output) or (n := source_of(o)) in states or bool(n.graphs()) for o in fetched]
        return _Plan(made, [*(Output(node, 0) for node in fed), *stand_ins], list(read.values()), assigned, owned)

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


def source_of(place: Output) -> GraphNode:
    """Give the node on whose memory a value may lie."""
    node = place.node
    while node.op is not None and node.op.name in _VIEWS and isinstance(node.inputs[0], Output):
        node = node.inputs[0].node
    return node


def _holds_of(guard: Any, symbols: set[Any]) -> bool:
    """Tell whether what a guard compares is known from the placeholders that are fed."""
    bound = dict.fromkeys(symbols, sizes.HINTS[0])
    return not is_symbolic(*(sizes.evaluate(side, bound) for side in (guard.left, guard.right)))


def _title(place: Output) -> str:
    """Give what errors call something that is fed."""
    return f"{'placeholder' if place.node.op is None else 'value'} {place!r} ({place.node.where})"


def _numbers(x: Any, dtype: str, what: str, expected: str) -> np.ndarray[Any, Any]:
    """Give a number, or nested lists of numbers, as an array; refuse what the dtype does not hold."""
    try:
        found = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{what} is fed lists of different lengths, {x!r:.60}, expected {expected}.") from error
    kinds = "?biufc"
    wanted = "f" if dtype == "bfloat16" else np.dtype(dtype).kind
    if found.dtype.kind not in "biufc":
        raise TypeError(f"{what} is fed {x!r:.60} ({type(x).__name__}), which is no array of numbers, expected {expected}.")
    if kinds.find(found.dtype.kind) > kinds.find(wanted) and not (wanted == "i" and found.dtype.kind == "u"):
        raise TypeError(f"{what} is fed {found.dtype} numbers, expected {expected}.")
    made = found.astype(dtype)
    if wanted in "iu" and (made != found).any():
        raise TypeError(f"{what} is fed {x!r:.60}, which {dtype} does not hold, expected {expected}.")
    return made


def _text(spec: ShapeDtype) -> str:
    return f"shape {sizes.text(spec.shape)} and dtype {dtype_name(spec.dtype)}"
