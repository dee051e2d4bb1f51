"""What a graph is made of: nodes, places, and the helpers that rewrite them.

A graph is a list of nodes in the order of their calls. It does not change once it is made: a pass gives a new graph, which may share nodes
with the old one.

- ``node.inputs`` holds `Output` places of other nodes and constants (arrays, numbers, None); operands of a variadic operation stand side by
  side. ``node.params`` holds what is static: numbers, tuples, slices, dtypes, and `Graph` objects (the bodies of loops and branches, fused groups).
- A size that is known only when the graph runs (``None`` in a spec) is a `sizes.Dim`, wherever a size stands: in the shapes of ``outputs``,
  in ``params``. ``Graph.bindings(flat)`` finds the sizes of a call, ``sizes.evaluate(params, bindings)`` puts them in. ``node.dynamic`` tells
  whether that is needed.
- An operation named in `EFFECTS` (draws from the random generator, assignments) is neither dropped, merged, folded nor moved over another of them.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from agnostic_ad import trees
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.rounds import is_rounds
from agnostic_ad.levels import TAKES, Array, Level, deepest, is_symbolic, lift_to
from agnostic_ad.namespaces import ShapeDtype, backend_of_namespace, lookup

__all__ = ["EFFECTS", "Graph", "GraphNode", "Output"]

_numbers = itertools.count(1)

EFFECTS: set[str] = {"nn.keep", "nn.noise"}
"""The names of operations that do more than give a result: each runs once a call of the graph, in order."""


class GraphNode:
    """One operation of a graph.

    Attributes
    ----------
    op : Op or None
        The operation; None for an input.
    inputs : tuple
        `Output` places of other nodes, and constants: arrays, numbers, None.
    params : dict
        The static parameters.
    outputs : tuple of ShapeDtype
        What is known of the results.
    name : str
        Its name in texts.
    where : str or None
        The line of the user's code that called it, as ``file.py:12``.
    scope : str
        The path of the module whose ``forward`` called it; empty outside of modules.
    """

    __slots__ = ("inputs", "name", "op", "outputs", "params", "scope", "where")

    def __init__(
        self,
        op: Any,
        inputs: tuple[Any, ...],
        params: dict[str, Any],
        outputs: tuple[ShapeDtype, ...],
        name: str,
        where: str | None = None,
        scope: str = "",
    ) -> None:
        self.op, self.inputs, self.params, self.outputs, self.name = op, inputs, params, outputs, name
        self.where, self.scope = where, scope

    @property
    def effects(self) -> bool:
        """Whether it does more than give a result, itself or in a graph inside it."""
        return self.op is not None and (self.op.name in EFFECTS or any(n.effects for g in self.graphs() for n in g.nodes))

    @property
    def dynamic(self) -> bool:
        """Whether its parameters or operands hold a size that is known only when the graph runs."""
        return sizes.dynamic(self.params) or sizes.dynamic(self.inputs)

    def graphs(self) -> list[Graph]:
        """Give the graphs among its parameters: bodies of loops and branches, fused groups."""
        return [
            g for value in self.params.values() for g in (value if isinstance(value, tuple | list) else (value,)) if isinstance(g, Graph)
        ]

    def places(self) -> list[Output]:
        """Give the inputs that are results of other nodes."""
        return [x for x in self.inputs if isinstance(x, Output)]

    def replaced(self, **changes: Any) -> GraphNode:
        """Give a copy with other attributes."""
        return GraphNode(**{a: changes.get(a, getattr(self, a)) for a in self.__slots__})

    def __repr__(self) -> str:
        operands = ", ".join(repr(i) if isinstance(i, Output) else brief(i) for i in self.inputs)
        results = ", ".join(f"{o.dtype}{shape_text(o.shape)}" for o in self.outputs)
        return f"{self.name}: {results} = {'input' if self.op is None else self.op.name}({operands})"


class Output:
    """A place in a graph: one result of one node."""

    __slots__ = ("index", "node")

    def __init__(self, node: GraphNode, index: int) -> None:
        self.node, self.index = node, index

    @property
    def spec(self) -> ShapeDtype:
        """What is known of it."""
        return self.node.outputs[self.index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Output) and self.node is other.node and self.index == other.index

    def __hash__(self) -> int:
        return hash((id(self.node), self.index))

    def __repr__(self) -> str:
        return self.node.name + (f"[{self.index}]" if len(self.node.outputs) > 1 else "")


def executors() -> Any:
    """Give the module of programs, which is made of graphs."""
    from agnostic_ad.graph import executors

    return executors


def brief(x: Any) -> str:
    """Give a constant in a few letters."""
    shape = getattr(x, "shape", None)
    return f"const{list(shape)}" if shape and not isinstance(x, sizes.Dim) else repr(x)


def shape_text(shape: Sequence[Any]) -> str:
    """Give a shape as text, with None for what is known only when the graph runs."""
    return f"[{', '.join('None' if isinstance(n, sizes.Dim) else str(n) for n in shape)}]"


def settled(x: Any) -> Any:
    """Give the value of a constant: of a Variable, that which it has now."""
    return x.payload if isinstance(x, Array) and x.level is Level.base else x


def check_results(graph: Graph, what: str) -> None:
    """Refuse a graph that was defined first: it has no results until a Session is asked for some."""
    if graph.in_spec is None:
        raise UnsupportedError(
            f"{what}: {graph.label} was defined for a Session, and has no arguments and results of its own. "
            f"Ask for some: session.program(fetches).{what}(...)."
        )


def leaf_names(spec: Any, prefix: str) -> list[str]:
    """Give the leaves of a tree names that tell where they stand: ``in0.weight``."""
    found = []
    for path in spec.paths():
        first, *rest = path or (0,)
        found.append(".".join(map(str, (f"{prefix}{first}" if isinstance(first, int) else first, *rest))))
    return found


def input_names(graph: Graph) -> list[str]:
    """Give the inputs' own names, and where they stand among the arguments to those that have none."""
    if graph.in_spec is None:  # a graph that is defined before anything is asked of it
        return [node.name for node in graph.inputs]
    names = leaf_names(graph.in_spec, "in")
    return [name if node.name == f"in{i}" else node.name for i, (name, node) in enumerate(zip(names, graph.inputs, strict=True))]


class Graph:
    """A function as a list of operations.

    Calling it with arrays runs the operations, on whatever the arrays are: raw arrays of the library, or those of a transformation, so a
    graph can be differentiated, batched and captured again. ``with graph.Graph() as g:`` begins an empty one instead, to which operations on
    its placeholders and variables add; a `Session` runs parts of it.

    Attributes
    ----------
    label : str
        What texts call it.
    nodes : list of GraphNode
        The operations, in the order of their calls.
    inputs : list of GraphNode
        One a leaf of the arguments.
    outputs : list
        Places of the results' leaves, or constants.
    backend : Backend
        The library that it was captured for.
    guards : tuple of sizes.Guard
        What the sizes of a call must fulfil.
    in_spec, out_spec : TreeSpec
        The structures of the arguments and of the result.
    history : tuple of (str, Graph, float)
        The passes that made it, each with the graph before it and the seconds it took.
    known : dict
        Sizes that no axis of an input tells: of a graph inside a node, those of the graph around it.
    planned : bool
        Whether the intermediate values of its program share memory (the pass ``memory``).
    donated : frozenset of int
        The inputs whose arrays the caller gives away: results may be written over them.
    """

    def __init__(
        self,
        label: str = "",
        nodes: list[GraphNode] | None = None,
        inputs: list[GraphNode] | None = None,
        outputs: list[Any] | None = None,
        specs: tuple[Any, Any] = (None, None),
        backend: Any = np,
        guards: tuple[Any, ...] = (),
        history: tuple[tuple[str, Graph, float], ...] = (),
        known: dict[str, Any] | None = None,
        planned: bool = False,
        donated: frozenset[int] = frozenset(),
    ) -> None:
        nodes, inputs, outputs = ([] if part is None else part for part in (nodes, inputs, outputs))
        self.label, self.nodes, self.inputs, self.outputs = label or f"graph {next(_numbers)}", nodes, inputs, outputs
        self.backend = backend_of_namespace(backend)
        self.definition: Any = None  # what is inside `with graph.Graph()`
        self.rule: Any = None  # a derivative rule of a user's, where this is the function that it is for
        self.in_spec, self.out_spec = specs
        self.guards, self.history, self.planned = guards, history, planned
        self.donated = donated
        self._axes = tuple(
            (i, k, n) for i, node in enumerate(inputs) for k, n in enumerate(node.outputs[0].shape) if isinstance(n, sizes.Dim)
        )
        told = {n.name for _, _, n in self._axes}
        self.known = {name: n for name, n in (known or {}).items() if name not in told}
        self.dynamic = bool(self._axes or guards or known)
        self.programs: dict[Any, Any] = {}  # for `executors`

    # --- defining -----------------------------------------------------------------------------------------------------
    def __enter__(self) -> Graph:
        if self.definition is None:
            if self.in_spec is not None:
                raise TypeError(f"{self.label} is captured and complete; `with graph.Graph() as g:` defines a graph.")
            from agnostic_ad.graph.definition import Definition

            self.definition = Definition(self)
        self.definition.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.definition.__exit__(*exc)

    # --- running ------------------------------------------------------------------------------------------------------
    def __call__(self, *args: Any) -> Any:
        flat, spec = trees.flatten(args)
        take = TAKES.get()
        if take is not None:  # inside a branch that is being captured, arrays from around it are its operands
            flat = list(map(take, flat))
        if spec != self.in_spec:
            if self.definition is not None:
                raise TypeError(f"{self.label} is a definition, with values to choose from: run it in a graph.Session.")
            raise TypeError(f"{self.label}: called with structure {spec}, captured with {self.in_spec}")
        return trees.unflatten(self.out_spec, executors().execute(self, flat))

    def check(self, flat: Sequence[Any]) -> list[Any]:
        """Refuse arrays of other shapes and dtypes than those captured with; give numbers as arrays."""
        found = [x if hasattr(x, "shape") else np.asarray(x) for x in flat]
        for node, x in zip(self.inputs, found, strict=True):
            want, shape = node.outputs[0], tuple(x.shape)
            fits = shape == want.shape or (
                len(shape) == len(want.shape) and all(isinstance(w, sizes.Dim) or n == w for n, w in zip(shape, want.shape, strict=True))
            )
            library = lookup(x)
            if library is not None and library is not self.backend and type(library) is not type(self.backend):
                raise TypeError(f"{self.label}: input {node.name} is an array of {library.name}; the graph is for {self.backend.name}")
            if not fits or x.dtype != want.dtype:
                raise TypeError(
                    f"{self.label}: input {node.name} has shape {shape} and dtype {x.dtype}; captured with "
                    f"{sizes.text(want.shape)}, {want.dtype}{f' ({node.where})' if node.where else ''}"
                )
        return found

    def bindings(self, flat: Sequence[Any]) -> dict[str, Any]:
        """Give the sizes of a call by the names of their symbols, checked against what capture took for granted."""
        return sizes.bind(self.label, ((n, flat[i].shape[k], self.inputs[i].name) for i, k, n in self._axes), self.guards, self.known)

    def run(self, flat: Sequence[Any]) -> list[Any]:
        """Run the operations one by one on the leaves of the arguments; give the leaves of the result."""
        bound = self.bindings(flat) if self.dynamic else {}
        outside = deepest(flat) if bound and is_symbolic(*bound.values()) else None  # another capture, with sizes of its own
        values: dict[int, tuple[Any, ...]] = {id(node): (x,) for node, x in zip(self.inputs, flat, strict=True)}
        for node in self.nodes:
            operands = tuple(values[id(i.node)][i.index] if isinstance(i, Output) else i for i in node.inputs)
            params = node.params
            if bound and node.dynamic:
                operands, params = sizes.evaluate(operands, bound), sizes.evaluate(params, bound)
                if outside is not None:
                    operands = tuple(lift_to(outside, x) for x in operands)
            y = node.op.run(operands, params)
            values[id(node)] = found = tuple(y) if isinstance(y, tuple | list) else (y,)
            if self._loops:  # how many rounds they took is known now
                bound |= {
                    n.name: x.shape[k] for o, x in zip(node.outputs, found, strict=True) for k, n in enumerate(o.shape) if is_rounds(n)
                }
        results = [values[id(o.node)][o.index] if isinstance(o, Output) else o for o in self.outputs]
        return sizes.evaluate(results, bound) if bound else results

    @cached_property
    def _loops(self) -> bool:
        return any(is_rounds(n) for node in self.nodes for o in node.outputs for n in o.shape)

    # --- looking at it ------------------------------------------------------------------------------------------------
    def source(self) -> str:
        """Give the text of the program that runs the graph on arrays of its library."""
        return executors().source(self)  # type: ignore[no-any-return]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the graph to one file, which ``graph.load`` reads; see `saving.save`."""
        from agnostic_ad.graph.saving import save

        save(self, path)

    def to_onnx(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """Write the graph as an ONNX model; see `onnx_export.to_onnx`."""
        from agnostic_ad.graph.onnx_export import to_onnx

        return to_onnx(self, path, **options)

    def draw(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """Give a picture of the graph, as text in DOT or SVG, or write one to a file; see `drawing.draw`."""
        from agnostic_ad.graph.drawing import draw

        return draw(self, path, **options)

    def hints(self) -> tuple[tuple[str, int], ...]:
        """Give, for each size that is known only when the graph runs, the one that stands for it."""
        return tuple(sorted({n.name: int(n) for _, _, n in self._axes if n.name is not None}.items()))

    def users(self) -> dict[Output, list[tuple[GraphNode, int]]]:
        """Give, for each place, the nodes that take it, each with the position of the operand; ``outputs`` are not among them."""
        found: dict[Output, list[tuple[GraphNode, int]]] = {}
        for node in self.nodes:
            for position, x in enumerate(node.inputs):
                if isinstance(x, Output):
                    found.setdefault(x, []).append((node, position))
        return found

    def counts(self) -> dict[str, int]:
        """Count the operations by name, those of graphs inside nodes too."""
        return dict(Counter(node.op.name for node in self.walk()))

    def walk(self) -> Iterator[GraphNode]:
        """Give every node, those of graphs inside nodes too."""
        for node in self.nodes:
            yield node
            for inner in node.graphs():
                yield from inner.walk()

    def __repr__(self) -> str:
        lines = [f"Graph of {self.label}:", *(f"  {n!r}" for n in (*self.inputs, *self.nodes))]
        return "\n".join([*lines, f"  return {', '.join(repr(o) if isinstance(o, Output) else brief(o) for o in self.outputs)}"])

    # --- making others of it --------------------------------------------------------------------------------------------
    def rebuild(self, nodes: list[GraphNode] | None = None, outputs: list[Any] | None = None, **changes: Any) -> Graph:
        """Give a graph of the same arguments with other nodes or results.

        Parameters
        ----------
        nodes, outputs : list, optional
            In place of the own ones.
        **changes
            ``label``, ``inputs``, ``specs``, ``backend``, ``guards`` or ``history``, likewise.
        """
        own = {a: getattr(self, a) for a in ("label", "inputs", "backend", "guards", "history", "known", "planned", "donated")}
        own["specs"] = (self.in_spec, self.out_spec)
        made = type(self)(
            nodes=self.nodes if nodes is None else nodes, outputs=self.outputs if outputs is None else outputs, **{**own, **changes}
        )
        made.rule = self.rule
        return made

    def optimize(self, passes: Iterable[str] | None = None, show: bool = False) -> Graph:
        """Give a graph that computes the same with less; this one stays as it is.

        Parameters
        ----------
        passes : iterable of str, optional
            The names of passes (``graph.PASSES``), in order; by default all of them. ``history`` keeps what each started from.
        show : bool
            Whether to print what each pass did.

        Raises
        ------
        ValueError
            Where there is no pass of a name.

        Examples
        --------
        >>> import agnostic_ad as ad
        >>> from agnostic_ad import graph
        >>> def f(x):
        ...     xp = ad.namespace(x)
        ...     return xp.log(xp.exp(x) + 1) * 1.0
        >>> g = graph.capture(f, graph.ShapeDtype((3,), "float64"))
        >>> g.counts(), g.optimize().counts()
        ({'exp': 1, 'add': 1, 'log': 1, 'multiply': 1}, {'logaddexp': 1})
        """
        from agnostic_ad.graph.passes import optimize

        return optimize(self, passes, show)


def inside(node: GraphNode, change: Callable[[Graph], Graph]) -> GraphNode:
    """Give a node with the graphs inside it changed; the node itself where it has none."""
    if not node.graphs():
        return node
    return node.replaced(params={name: _changed(value, change) for name, value in node.params.items()})


def _changed(value: Any, change: Callable[[Graph], Graph]) -> Any:
    if isinstance(value, Graph):
        return change(value)
    return type(value)([_changed(v, change) for v in value]) if type(value) in (tuple, list) else value


def elements(spec: ShapeDtype) -> int:
    """Give how many elements an array has; sizes of any value count by their hint."""
    return int(math.prod(spec.shape))
