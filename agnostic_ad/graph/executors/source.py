"""A graph as the text of a Python function: one line an operation, straight calls into the library.

Libraries that can do better (NumPy, JAX, CuPy) have a writer of their own, derived from this one.
"""

from __future__ import annotations

import itertools
import keyword
import linecache
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad.backends.base import NumpyLike
from agnostic_ad.graph.ir import Graph, GraphNode, Output, shape_text

__all__ = ["Program", "Writer", "last_uses"]

_NUMBERS = itertools.count()
_OPERATORS = {"add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "negative": "-{}", "matmul": "{} @ {}"}
_PLAIN = (int, str, type(None), type(Ellipsis))


class Program:
    """A graph that is ready to run.

    Attributes
    ----------
    source : str
        The text, which `pdb` steps through.
    run : callable
        Takes the leaves of the arguments; gives a tuple of those of the result.
    """

    def __init__(self, label: str, source: str, scope: dict[str, Any]) -> None:
        self.source = source
        self._file = filename = f"<program {next(_NUMBERS)} of {label}>"
        self._lines = linecache.cache  # there still when the interpreter ends
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        scope = dict(scope)
        exec(compile(source, filename, "exec"), scope)
        self.run: Callable[..., tuple[Any, ...]] = scope.pop("program")  # its globals: in them it would hold itself

    def __call__(self, *flat: Any) -> list[Any]:
        return list(self.run(*flat))

    def __del__(self) -> None:
        self._lines.pop(self._file, None)


def last_uses(graph: Graph) -> dict[Output, int]:
    """Give, for each place, the position of the last node that takes it; that of its own node for what nobody takes, none for results."""
    found: dict[Output, int] = {}
    for position, node in enumerate(graph.nodes):
        found.update({Output(node, i): position for i in range(len(node.outputs))})
        found.update(dict.fromkeys(node.places(), position))
    for x in graph.outputs:
        if isinstance(x, Output):
            found.pop(x, None)
    return found


class Writer:
    """Writes the program of a graph.

    Parameters
    ----------
    graph : Graph
        Its sizes are numbers.

    Attributes
    ----------
    lines : list of str
        The body of the function so far.
    scope : dict
        What the program's global names stand for.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.backend = graph, graph.backend
        self.lines: list[str] = []
        self.functions: list[str] = []
        self.notes: list[str] = []
        self.scope: dict[str, Any] = {}
        self._bound: dict[int, str] = {}
        self._names: dict[Output, str] = {}
        self.done: set[int] = set()  # nodes that another's line computes
        self.never: set[str] = set()  # names of values that are never made
        self._taken, self._counts = {"program", "range", "slice"}, Counter[str]()

    # --- names ------------------------------------------------------------------------------------------------------------
    def fresh(self, hint: str) -> str:
        """Give a name that nothing has."""
        hint = re.sub(r"\W", "_", hint) or "x"
        hint = f"_{hint}" if hint[0].isdigit() or keyword.iskeyword(hint) else hint
        name = hint
        while name in self._taken:
            self._counts[hint] += 1
            name = f"{hint}_{self._counts[hint]}"
        self._taken.add(name)
        return name

    def bind(self, value: Any, hint: str) -> str:
        """Give the global name of a value."""
        name = self._bound.get(id(value))
        if name is None:
            name = self._bound[id(value)] = self.fresh(hint)
            self.scope[name] = value
        return name

    def name(self, place: Output) -> str:
        """Give the local name of a place."""
        found = self._names.get(place)
        if found is None:
            several = len(place.node.outputs) > 1
            found = self._names[place] = self.fresh(f"{place.node.name}_{place.index}" if several else place.node.name)
        return found

    def rename(self, place: Output, name: str) -> None:
        """Let a place be what has a name already."""
        self._names[place] = name

    def operand(self, x: Any) -> str:
        """Give what stands for an input of a node."""
        return self.name(x) if isinstance(x, Output) else self.value(x, "c")

    def value(self, x: Any, hint: str) -> str:
        """Give a static value as text, or the name that it is bound to."""
        if isinstance(x, _PLAIN) or (type(x) is float and math.isfinite(x)):
            return "..." if x is Ellipsis else repr(x)
        if type(x) in (tuple, list):
            inner = [self.value(v, hint) for v in x]
            return f"[{', '.join(inner)}]" if type(x) is list else f"({', '.join(inner)}{',' * (len(inner) == 1)})"
        if type(x) is slice:
            return f"slice({self.value(x.start, hint)}, {self.value(x.stop, hint)}, {self.value(x.step, hint)})"
        name = getattr(x, "name", None) if type(x).__module__.partition(".")[0] in ("numpy", "torch", "jax") else None
        known = id(x) in self._bound
        found = self.bind(x, name if isinstance(name, str) else hint)
        if not known and hasattr(x, "shape") and hasattr(x, "dtype"):
            shown = f" = {x}" if not x.shape else ""
            self.notes.append(f"# {found}: {x.dtype}{shape_text(tuple(x.shape))}{shown}")
        return found

    # --- lines ------------------------------------------------------------------------------------------------------------
    def line(self, text: str, node: GraphNode | None = None) -> None:
        """Write a line; beside it, what is known of a node's results, and where the user wrote it."""
        self.lines.append(f"    {text}{'' if node is None else self.comment(node)}")

    def comment(self, node: GraphNode) -> str:
        """Give the comment of a node's line."""
        known = ", ".join(f"{o.dtype}{shape_text(o.shape)}" for o in node.outputs)
        return "  # " + "  ".join(part for part in (known, node.scope, node.where) if part)

    def function(self, node: GraphNode) -> str:
        """Give the name of the library's function for a node."""
        return self.bind(node.op.at(self.backend), node.op.name.replace(".", "_"))

    def call(self, node: GraphNode, operands: Sequence[str] | None = None) -> str:
        """Give the text that computes a node."""
        op = node.op
        given = [self.operand(x) for x in node.inputs] if operands is None else list(operands)
        if op.name in _OPERATORS and all(hasattr(x, "dtype") or isinstance(x, Output) for x in node.inputs):
            return _OPERATORS[op.name].format(*given)
        if op.name == "getitem" and type(self.backend).getitem is NumpyLike.getitem:
            return f"{given[0]}[{self.key(node.params['key'])}]"
        arguments = [f"[{', '.join(given)}]"] if op.packed else given
        keywords = {}
        if op.named and not op.packed:
            count = len(given) - len(op.named)
            arguments = given[:count]
            keywords = {n: g for n, g, x in zip(op.named, given[count:], node.inputs[count:], strict=True) if x is not None}
        static = [self.value(node.params[p], p) for p in op.positional]
        arguments = [*static, *arguments] if op.variadic else [*arguments, *static]
        keywords |= {p: self.value(v, p) for p, v in node.params.items() if p not in op.positional}
        return f"{self.function(node)}({', '.join([*arguments, *(f'{k}={v}' for k, v in keywords.items())])})"

    def key(self, key: Any) -> str:
        """Give the text of a key between brackets."""

        def part(k: Any) -> str:
            if type(k) is not slice:
                return self.value(k, "key")
            bounds = ["" if b is None else self.value(b, "key") for b in (k.start, k.stop, k.step)]
            return ":".join(bounds if bounds[2] else bounds[:2])

        return ", ".join(map(part, key)) or "()" if isinstance(key, tuple) else part(key)

    def single(self, node: GraphNode) -> bool:
        """Tell whether the library gives an array rather than a tuple of one."""
        if getattr(node.op, "elementwise", False):
            return True
        specs = tuple(x.spec if isinstance(x, Output) else x for x in node.inputs)
        return not isinstance(node.op.abstract(self.backend, specs, node.params), tuple)

    def node(self, node: GraphNode) -> None:
        """Write the lines of one node."""
        if node.op.name == "fused":
            self.inline(node)
        elif node.graphs() or not hasattr(node.op, "packed"):
            self.interpreted(node)
        else:
            names = ", ".join(self.name(Output(node, i)) for i in range(len(node.outputs)))
            if len(node.outputs) == 1 and not self.single(node):
                names += ","
            self.line(f"{names} = {self.call(node)}" if names else self.call(node), node)

    def interpreted(self, node: GraphNode) -> None:
        """Write the call of an operation that runs by itself: a loop, a branch."""
        run, params, several = (
            self.bind(node.op.run, node.op.name),
            self.bind(node.params, f"{node.name}_params"),
            self.bind(_several, "several"),
        )
        operands = "".join(f"{self.operand(x)}, " for x in node.inputs)
        names = "".join(f"{self.name(Output(node, i))}, " for i in range(len(node.outputs))).strip()
        self.line(f"{f'{names} = ' if names else ''}{several}({run}(({operands}), {params}))", node)

    def inline(self, node: GraphNode) -> None:
        """Write a group of operations one by one."""
        inner = node.params["graph"]
        for place, x in zip(inner.inputs, node.inputs, strict=True):
            self.rename(Output(place, 0), self.operand(x))
        self.sequence(inner, {self.name(x) for x in inner.outputs})
        for i, x in enumerate(inner.outputs):
            self.rename(Output(node, i), self.name(x))

    def forget(self, names: Sequence[str]) -> None:
        """Write that values are not needed any more."""
        there = [n for n in names if n not in self.never]
        if there:
            self.line(f"del {', '.join(there)}")

    def absorb(self, group: GraphNode, taker: GraphNode) -> None:
        """Take note that a group's line computes what ``taker`` makes of its result, and not the result."""
        self.done.add(id(taker))
        self.never.add(self.name(Output(group, 0)))

    def result(self, x: Any) -> str:
        """Give the text of a result of the program."""
        return self.operand(x)

    # --- the whole --------------------------------------------------------------------------------------------------------
    def sequence(self, graph: Graph, kept: set[str]) -> None:
        """Write the lines of a graph's nodes; forget each value after its last use, but for some."""
        ends: dict[int, list[Output]] = {}
        for place, position in last_uses(graph).items():
            if place.node.op is not None:
                ends.setdefault(position, []).append(place)
        for position, node in enumerate(graph.nodes):
            if id(node) not in self.done:
                self.node(node)
            self.forget([n for p in ends.get(position, ()) if (n := self.name(p)) not in kept])

    def write(self) -> Program:
        """Give the program."""
        inputs = [self.name(Output(node, 0)) for node in self.graph.inputs]
        self.sequence(self.graph, {self.name(x) for x in self.graph.outputs if isinstance(x, Output)})
        results = "".join(f"{self.result(x)}, " for x in self.graph.outputs)
        head = [f"# {self.graph.label} on {self.backend.name}", *self.notes, *self.functions]
        text = [*head, "", "", f"def program({', '.join(inputs)}):", *self.lines, f"    return ({results})"]
        return self.program("\n".join(text) + "\n")

    def program(self, source: str) -> Program:
        """Give the program of a text."""
        return Program(self.graph.label, source, self.scope)


def _several(y: Any) -> tuple[Any, ...]:
    return tuple(y) if isinstance(y, tuple | list) else (y,)


class Rooms:
    """Memory for the intermediate values of a program: each call that runs at a time has a room of its own.

    Parameters
    ----------
    make : callable
        Makes one.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._free = make, list[Any]()

    def take(self) -> Any:
        """Give a room that nobody is in."""
        try:
            return self._free.pop()
        except IndexError:
            return self._make()

    def leave(self, room: Any) -> None:
        """Give it back."""
        self._free.append(room)
