"""Functions that change what they close over, as graphs: a training step, captured below the define-by-run tape.

While such a function is captured, its Variables hold traced arrays in the place of their values, so ``backward()``, ``zero_grad()`` and
modules run as they are. What the Variables hold at the end is what the graph gives beside the function's result.

Some functions are no part of a graph, because they change memory in place, or need values: an optimizer's step, the clipping of gradients,
a scheduler. They are marked `apart`. They cut the graph into pieces; between two pieces the function itself is called, with everything as it
would find it in the plain call.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from agnostic_ad import trees, views
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph.capture import Traced, TraceLevel, here, place_of
from agnostic_ad.graph.ir import Graph, GraphNode, Output, executors
from agnostic_ad.graph.session import source_of
from agnostic_ad.holdings import described
from agnostic_ad.levels import _STACK, Array, device_of
from agnostic_ad.namespaces import ShapeDtype, backend_of, lookup
from agnostic_ad.reverse import BASE, Variable
from agnostic_ad.tape import extra, next_number

__all__ = ["Step", "apart", "captured", "hooks", "signature"]

BELOW = -2
"""The depth of a capture below the define-by-run tape, whose depth is 0. (-1 is that of what has returned.)"""

F = TypeVar("F", bound=Callable[..., Any])


def apart(result: Callable[..., Any] | None = None) -> Callable[[F], F]:
    """Mark a function that `compile` calls between graphs, and does not capture.

    Parameters
    ----------
    result : callable, optional
        Takes the function's arguments, and gives the `ShapeDtype` of the array that it returns; None where it returns None. Without it the
        function returns None.
    """

    def decorator(f: F) -> F:
        @functools.wraps(f)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            level = next((level for level in _STACK.get() if isinstance(level, _StepLevel)), None)
            return f(*args, **kwargs) if level is None else level.cut(f, args, kwargs, result)

        return wrapper  # type: ignore[return-value]

    return decorator


class Write(NamedTuple):
    """What a Variable holds from some point on: its payload or its gradient, a place of the graph, or an array or None."""

    variable: int
    what: str
    value: Any


class Cut(NamedTuple):
    """The end of a piece: how many nodes lie before it, what is written there, and what is called with which arguments."""

    position: int
    writes: list[Write]
    call: Callable[..., Any]
    leaves: list[Any]
    structure: Any


class _Wrapped(NamedTuple):
    """A place whose array is given as a Variable."""

    place: Any


class _StepLevel(TraceLevel):
    """A capture below the define-by-run tape.

    Attributes
    ----------
    cuts : list of Cut
        The pieces so far.
    sources : dict
        For the inputs, by the identity of their nodes: in which piece they are there, and from where.
    """

    __slots__ = ("cuts", "held", "known", "sources", "start", "variables")

    def __init__(self, label: str, backend: Any, variables: list[Variable]) -> None:
        super().__init__(label, backend)
        self.variables = variables
        self.cuts: list[Cut] = []
        self.sources: dict[int, tuple[int, str, int]] = {}
        self.known = {id(v.node) for v in variables}
        self.start = next_number()  # nodes that are made while capturing have smaller numbers
        self.held: list[dict[str, Any]] = [{} for _ in variables]

    def __enter__(self) -> _StepLevel:
        self._entered.append((self.depth, _STACK.set((*_STACK.get(), self))))
        self.depth = BELOW
        return self

    def new(self, spec: ShapeDtype, device: Any, kind: str, index: int, name: str) -> Traced:
        """Make an input."""
        x = self.input(spec, device, index, name)
        self.sources[id(x.place.node)] = len(self.cuts), kind, index
        return x

    def delivers(self, node: Any) -> None:
        """Refuse a gradient for a Variable that is not known here."""
        if node.number > self.start and id(node) not in self.known:
            raise UnsupportedError(
                f"{self.label}: backward() reached a Variable that was not found in the function's closure, globals, or modules, so its gradient "
                f"would be lost{here()}. Let the function name it, or an object that has it as an attribute."
            )

    def take(self) -> None:
        """Give the Variables traced arrays for what they hold."""
        for i, v in enumerate(self.variables):
            for what, x in (("payload", v.payload), ("grad", v.grad)):
                held = None
                if x is not None:
                    held = self.new(ShapeDtype(tuple(x.shape), x.dtype), device_of(x), what, i, f"{what}{i}_{len(self.cuts)}")
                    _put(v, what, held)
                self.held[i][what] = None if held is None else held.place

    def changes(self) -> list[Write]:
        """Give what the Variables hold otherwise than when they were taken."""
        found = []
        for i, v in enumerate(self.variables):
            for what, x in (("payload", v.payload), ("grad", v.grad)):
                if isinstance(x, Array) and not (isinstance(x, Traced) and x.level is self):
                    raise UnsupportedError(
                        f"{self.label}: the {what} of a Variable is {x!r:.80} at the end of the call; a graph keeps arrays without history. "
                        "Take derivatives of derivatives by ad.grad."
                    )
                place = x if x is None else place_of(self, x)
                if place is not self.held[i][what] and place != self.held[i][what]:
                    if next(views._live(v), None) is not None or getattr(v, "_base", None) is not None:
                        raise UnsupportedError(
                            f"{self.label}: {v!r:.80} is changed, and a view of it, or the array it is a view of, is in use."
                        )
                    found.append(Write(i, what, place))
        return found

    def cut(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Callable[..., Any] | None) -> Any:
        """End a piece with the call of a function."""
        args = tuple(list(x) if isinstance(x, Iterator) else x for x in args)
        flat, structure = trees.flatten((args, kwargs))
        functions = [x for x in flat if _is_function(x)]
        if functions:
            raise UnsupportedError(
                f"{f.__qualname__} with a function ({getattr(functions[0], '__name__', functions[0])!s:.60}) as an argument cannot be kept in "
                f"{self.label}{here()}. Compute loss and gradients first, and call {f.__qualname__} without it; or leave this call uncompiled."
            )
        spec = None if result is None else result(*args, **kwargs)
        self.cuts.append(Cut(len(self.nodes), self.changes(), f, [self.leaf(x) for x in flat], structure))
        self.take()
        return None if spec is None else self.new(spec, None, "result", len(self.cuts) - 1, f"result{len(self.cuts) - 1}")

    def leaf(self, x: Any) -> Any:
        """Give what stands for a value in results, and in arguments of what is called between graphs."""
        if isinstance(x, Traced) and x.level is self:
            return place_of(self, x)
        if (
            isinstance(x, Variable)
            and isinstance(x.payload, Traced)
            and x.payload.level is self
            and not any(x is v for v in self.variables)
        ):
            if x.node is not None and not x.is_leaf and x.node.saved is not None:
                raise UnsupportedError(
                    f"{self.label} gives {x.node.name}'s result, which could still be differentiated after the plain call, but not after a graph's. "
                    "Call backward() inside; or return x.detach(), or compute it in `with ad.no_grad():`."
                )
            return _Wrapped(place_of(self, x.payload))
        return x


def _is_function(x: Any) -> bool:
    """Tell whether an argument may compute; a module is looked into, and no more."""
    kind: Any = type(x)
    return callable(x) and not isinstance(x, Array) and described(kind) is None


def _put(v: Variable, what: str, value: Any) -> None:
    if what == "payload":
        v.payload = value
    elif v.node is not None:
        extra(v.node).grad = value


class Piece(NamedTuple):
    """A part of a step: a graph, and what is done with what it gives.

    Attributes
    ----------
    takes : list of (str, int)
        Where the graph's arguments come from: "arg", "payload", "grad", "result", or "kept" from an earlier piece.
    keeps : list of (int, int)
        Which results are kept for later pieces, under which number.
    writes : list of (int, str, object, bool)
        What is written into which Variable: a number of a result (as `_At`), or an array; and whether as a copy.
    leaves : list
        The arguments of the call, likewise.
    drops : list of int
        What is needed no more.
    """

    graph: Graph
    takes: list[tuple[str, int]]
    keeps: list[tuple[int, int]]
    writes: list[tuple[int, str, Any, bool]]
    call: Callable[..., Any]
    leaves: list[Any]
    structure: Any
    drops: list[int]


class _At(NamedTuple):
    """The number of a result of a piece."""

    number: int


class Step:
    """A captured function that changes Variables; called with the raw arrays among its arguments."""

    def __init__(self, pieces: list[Piece], variables: list[Variable]) -> None:
        self.pieces, self.variables = pieces, variables

    @property
    def graphs(self) -> list[Graph]:
        """The graphs, in order."""
        return [piece.graph for piece in self.pieces]

    def __call__(self, *args: Any) -> Any:
        kept: dict[int, Any] = {}
        results: dict[int, Any] = {}
        y = None
        for number, piece in enumerate(self.pieces):
            y = results[number] = self._run(piece, args, kept, results)
        return y

    def _run(self, piece: Piece, args: tuple[Any, ...], kept: dict[int, Any], results: dict[int, Any]) -> Any:
        found = self._computed(piece, args, kept, results)
        for i, what, value, own in piece.writes:
            x = found[value.number] if type(value) is _At else value
            if x is not None:
                backend = backend_of(x)
                x = backend.own(x) if own else backend.array(x)
            _put(self.variables[i], what, x)
            del x  # an optimizer looks whether anybody else holds the array
        for at, slot in piece.keeps:
            kept[slot] = found[at]
        for slot in piece.drops:
            kept.pop(slot, None)
        leaves = [_given(x, found) for x in piece.leaves]
        del found
        args, kwargs = trees.unflatten(piece.structure, leaves)
        del leaves
        return piece.call(*args, **kwargs)

    def _computed(self, piece: Piece, args: tuple[Any, ...], kept: dict[int, Any], results: dict[int, Any]) -> Sequence[Any]:
        if not piece.graph.outputs:
            return ()
        flat = []
        for kind, i in piece.takes:
            if kind == "arg":
                flat.append(args[i])
            elif kind == "kept":
                flat.append(kept[i])
            elif kind == "result":
                flat.append(results[i])
            else:
                x = self.variables[i].payload if kind == "payload" else self.variables[i].grad
                if x is None:
                    raise UnsupportedError(f"{piece.graph.label}: a gradient that was there when the function was captured is missing.")
                flat.append(x)
        return executors().execute(piece.graph, flat)  # type: ignore[no-any-return]


def _given(x: Any, found: Sequence[Any]) -> Any:
    if type(x) is _Wrapped:
        raw = found[x.place.number] if type(x.place) is _At else x.place
        return BASE.variable(backend_of(raw).array(raw), None)
    if type(x) is _At:
        raw = found[x.number]
        return backend_of(raw).array(raw)
    return x


def _result(*flat: Any, structure: Any) -> Any:
    return trees.unflatten(structure, flat)


def captured(
    f: Callable[..., Any], label: str, backend: Any, variables: list[Variable], arrays: Sequence[Any], passes: Iterable[str] | None
) -> Step:
    """Capture a function that changes Variables.

    Parameters
    ----------
    f : callable
        Takes the arrays.
    label : str
        What texts call it.
    backend : Backend
        The library.
    variables : list of Variable
        Leaves of the define-by-run tape: all that it may change.
    arrays : sequence of array
        Arguments like those of later calls.
    passes : iterable of str, optional
        What optimises the graphs.

    Returns
    -------
    Step
        Nothing has changed when it is given; calling it does what the function does.
    """
    level = _StepLevel(label, backend, variables)
    before = [(v.payload, v.node, v.grad) for v in variables]
    nested = BASE.nested
    with level:
        try:
            inputs = [level.new(ShapeDtype(tuple(x.shape), x.dtype), device_of(x), "arg", i, f"in{i}") for i, x in enumerate(arrays)]
            level.take()
            results, structure = trees.flatten(f(*inputs))
            for v, (_, node, _) in zip(variables, before, strict=True):
                if v.node is not node:
                    raise UnsupportedError(
                        f"{label} changes requires_grad, or the history, of {_spec_text(v)}. Do it outside of the compiled function."
                    )
            leaves = [level.leaf(x) for x in results]
            shape = trees.flatten((tuple(range(len(leaves))), {}))[1]
            level.cuts.append(Cut(len(level.nodes), level.changes(), functools.partial(_result, structure=structure), leaves, shape))
        finally:
            for v, (payload, node, grad) in zip(variables, before, strict=True):
                v.payload, v.node = payload, node
                _put(v, "grad", grad)
            BASE.nested = nested
    pieces = _Builder(level, label, passes).pieces()
    level.nodes, level.guards = [], {}
    return Step(pieces, variables)


def _spec_text(v: Variable) -> str:
    return f"a Variable of shape {v.shape} and dtype {v.dtype}"


class _Builder:
    """Makes pieces of what a level has noted."""

    def __init__(self, level: _StepLevel, label: str, passes: Iterable[str] | None) -> None:
        self.level, self.label, self.passes = level, label, passes
        self.home = {key: piece for key, (piece, _, _) in level.sources.items()}
        start = 0
        for k, cut in enumerate(level.cuts):
            self.home |= {id(node): k for node in level.nodes[start : cut.position]}
            start = cut.position
        self.nodes = level.nodes
        self.slots: dict[Output, int] = {}

    def _wanted(self, k: int) -> list[Output]:
        """Give the places that are written, or given to what is called, at the end of a piece."""
        cut = self.level.cuts[k]
        values = [w.value for w in cut.writes] + [x.place if type(x) is _Wrapped else x for x in cut.leaves]
        return list(dict.fromkeys(x for x in values if isinstance(x, Output)))

    def pieces(self) -> list[Piece]:
        """Give them in order."""
        cuts, starts = self.level.cuts, [0, *(cut.position for cut in self.level.cuts)]
        own = [self.nodes[a:b] for a, b in itertools.pairwise(starts)]
        uses = [list(dict.fromkeys([*(p for node in own[k] for p in node.places()), *self._wanted(k)])) for k in range(len(cuts))]
        last = {p: k for k, places in enumerate(uses) for p in places}
        later = [[p for p, k in last.items() if self.home[id(p.node)] == now and k > now] for now in range(len(cuts))]
        self.slots = {p: i for i, p in enumerate(p for places in later for p in places)}
        return [self._piece(k, own[k], uses[k], later[k], [i for p, i in self.slots.items() if last[p] == k]) for k in range(len(cuts))]

    def _piece(self, k: int, nodes: list[GraphNode], uses: list[Output], later: list[Output], drops: list[int]) -> Piece:
        cut, made = self.level.cuts[k], {id(node) for node in nodes}
        inputs: list[GraphNode] = []
        takes: list[tuple[str, int]] = []
        now: dict[Output, Output] = {}
        for place in dict.fromkeys([*uses, *later]):
            if id(place.node) in made:
                continue
            kept, source = self.slots.get(place), self.level.sources.get(id(place.node))
            if source is not None and source[0] == k:
                takes.append(source[1:])
                inputs.append(place.node)
            else:
                assert kept is not None
                takes.append(("kept", kept))
                node = GraphNode(None, (), {}, (place.spec,), f"kept{kept}", place.node.where)
                now[place] = Output(node, 0)
                inputs.append(node)
        moved = []
        for node in nodes:
            if any(p in now for p in node.places()):
                new = node.replaced(inputs=tuple(now.get(x, x) if isinstance(x, Output) else x for x in node.inputs))
                now |= {Output(node, i): Output(new, i) for i in range(len(node.outputs))}
                node = new
            moved.append(node)
        wanted = list(dict.fromkeys([*self._wanted(k), *later]))
        index = {p: _At(i) for i, p in enumerate(wanted)}
        outputs = [now.get(p, p) for p in wanted]
        in_spec, out_spec = (trees.flatten(tuple(range(len(x))))[1] for x in (inputs, outputs))
        graph = Graph(self.label, moved, inputs, outputs, (in_spec, out_spec), self.level.backend).optimize(self.passes)
        writes, seen = [], set[Output]()
        for w in cut.writes:
            shared = False
            if isinstance(w.value, Output):
                root = source_of(w.value)
                shared = w.what == "grad" and (w.value in seen or root is not w.value.node or root.op is None or bool(root.graphs()))
                seen.add(w.value)
            writes.append((w.variable, w.what, index[w.value] if isinstance(w.value, Output) else w.value, shared))
        leaves = [
            index[x]
            if isinstance(x, Output)
            else _Wrapped(index.get(x.place, x.place))
            if type(x) is _Wrapped and isinstance(x.place, Output)
            else x
            for x in cut.leaves
        ]
        return Piece(graph, takes, [(index[p].number, self.slots[p]) for p in later], writes, cut.call, leaves, cut.structure, drops)


def signature(v: Variable) -> tuple[Any, ...]:
    """Give what a capture depends on of a Variable beside its array: whether it has a gradient, and hooks."""
    node, grad = v.node, v.grad
    if node is None:
        return (False,)
    if isinstance(grad, Array) or (grad is not None and lookup(grad) is None):
        return (True, "a gradient with history", id(grad))
    return (True, None if grad is None else (tuple(grad.shape), grad.dtype), tuple(map(id, hooks(v))))


def hooks(v: Variable) -> list[Any]:
    """Give the functions that `Variable.register_hook` has registered."""
    node = v.node
    return [] if node is None or not hasattr(node, "extra") else list(node.extra.hooks.values())
