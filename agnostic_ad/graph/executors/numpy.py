"""Programs on NumPy: groups of elementwise operations go over memory in blocks that fit into a cache, and values lie in memory that is there already."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agnostic_ad.graph.executors.blocks import Layout, Split, layout, split
from agnostic_ad.graph.executors.source import Program, Rooms, Writer
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.graph.memory import Plan, Room, donations, plan

__all__ = ["BLOCK", "LEAST", "NumpyWriter", "write"]

BLOCK = 1 << 17
"""Bytes of a block of one array."""
LEAST = 1 << 15
"""Bytes from which on a value has a place in the program's memory; smaller ones NumPy allocates as quickly."""
FRESH = {
    *("matmul", "sum", "mean", "prod", "max", "min", "var", "std", "any", "all", "argmax", "argmin", "cumulative_sum", "cumulative_prod"),
    *("concat", "stack", "take", "gather", "take_along_axis", "setitem", "scatter", "scatter_add", "where", "sort", "argsort", "einsum"),
    *("nn.linear", "nn.softmax", "nn.log_softmax", "nn.softmax_cross_entropy", "nn.embedding", "zeros_like", "ones_like", "full_like"),
}
"""Operations beside ufuncs whose results are memory of their own. Results of others may be views of any operand."""


class NumpyWriter(Writer):
    """Writes programs that tell NumPy where results go."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.plan = plan(graph, self.writes, self.fresh_results, self.over, LEAST) if graph.planned else Plan({}, 0, 0)
        self.donations = donations(graph, self.writes, self.fresh_results, self.over) if graph.donated else {}
        self.rooms: dict[str, Any] = {}  # what a call finds in its memory: arrays, and tuples of them
        self._views: dict[Room, str] = {}
        self.work = 0  # bytes of the groups' blocks, behind the planned ones

    # --- what NumPy does with an operation --------------------------------------------------------------------------------
    def ufunc(self, node: GraphNode) -> Any:
        """Give the ufunc that computes a node; None where none does."""
        if not hasattr(node.op, "at") or node.graphs():
            return None
        if node.op.name == "log1p" and node.outputs[0].dtype.kind == "f":
            return np.log1p
        if node.op.name == "nn.relu":
            return np.maximum
        found = node.op.at(self.backend)
        return found if isinstance(found, np.ufunc) and found.nout == 1 and found.nin == len(node.inputs) and not node.params else None

    def writes(self, node: GraphNode) -> bool:
        """Tell whether a node's result can go where it is told to."""
        if node.op.name == "fused":
            return bool(self.layout(node).sizes)
        if node.op.name == "concat":
            return node.params["axis"] is not None
        if node.op.name == "nn.linear":
            return len((node.inputs[1].spec if isinstance(node.inputs[1], Output) else node.inputs[1]).shape) == 2
        return node.op.name in ("where", "astype") or self.ufunc(node) is not None

    def fresh_results(self, node: GraphNode) -> bool:
        """Tell whether a node's results are memory of their own."""
        return node.op.name in FRESH or self.writes(node)

    def over(self, node: GraphNode, index: int) -> list[Output]:
        """Give the operands that a result may be written over."""
        if node.op.name == "fused":
            inner = node.params["graph"]
            place = inner.outputs[index]
            at = {id(n): i for i, n in enumerate(inner.nodes)}
            last = {x: at[id(n)] for n in inner.nodes for x in n.places()}
            late = [x for inside, x in zip(inner.inputs, node.inputs, strict=True) if last[Output(inside, 0)] <= at[id(place.node)]]
            whole = [x for x in late if x.spec.shape == place.spec.shape]
            return whole if self.ufunc(place.node) is not None else []
        return node.places() if self.ufunc(node) not in (None, np.matmul) else []

    def into(self, node: GraphNode, given: Sequence[str], target: str) -> list[str]:
        """Give the lines that write a node's result into an array."""
        if node.op.name == "where":
            copyto = self.bind(np.copyto, "copyto")
            return [f"{copyto}({target}, {given[2]})", f"{copyto}({target}, {given[1]}, where={given[0]})"]
        if node.op.name == "astype":
            return [f"{self.bind(np.copyto, 'copyto')}({target}, {given[0]}, 'unsafe')"]
        if node.op.name == "concat":
            return [f"{self.bind(np.concatenate, 'concatenate')}(({', '.join(given)},), {node.params['axis']}, {target})"]
        if node.op.name == "nn.linear":
            return self._linear(node, given, target)
        ufunc = self.ufunc(node)
        if ufunc is None:
            return [f"{self.bind(np.copyto, 'copyto')}({target}, {self.call(node, given)})"]
        extra = ["0"] if node.op.name == "nn.relu" else []
        out = f"out={target}" if ufunc in (np.maximum, np.minimum) else target  # a third operand is deprecated there
        return [f"{self.bind(ufunc, node.op.name.replace('.', '_'))}({', '.join([*given, *extra, out])})"]

    def _linear(self, node: GraphNode, given: Sequence[str], target: str) -> list[str]:
        x, weight = (p.spec if isinstance(p, Output) else p for p in node.inputs[:2])
        rows, out = given[0], target
        if len(x.shape) > 2:
            count = math.prod(x.shape[:-1])
            rows, out = f"{rows}.reshape({count}, {x.shape[-1]})", f"{out}.reshape({count}, {weight.shape[0]})"
        lines = [f"{self.bind(np.matmul, 'matmul')}({rows}, {given[1]}.T, {out})"]
        if len(given) > 2 and node.inputs[2] is not None:
            lines.append(f"{self.bind(np.add, 'add')}({target}, {given[2]}, {target})")
        return lines

    # --- nodes ------------------------------------------------------------------------------------------------------------
    def node(self, node: GraphNode) -> None:
        """Write the lines of one node."""
        if node.op.name == "fused" and self.writes(node):
            self.group(node)
        elif (place := Output(node, 0)) in self.plan.rooms:
            name = self.name(place)
            self.line(f"{name} = {self.room(place)}", node)
            for text in self.into(node, [self.operand(x) for x in node.inputs], name):
                self.line(text)
        else:
            super().node(node)

    def room(self, place: Output) -> str:
        """Give the name of the array that a planned value lies in."""
        room = self.plan.rooms[place]
        name = self._views.get(room)
        if name is None:
            name = self._views[room] = self.fresh("b")
            self.rooms[name] = room
        return name

    def array(self, place: Output) -> str:
        """Give the text of an array for a result: a planned one, or new memory."""
        if place in self.plan.rooms:
            return self.room(place)
        if place in self.donations:
            return self.name(self.donations[place])
        return f"{self.bind(np.empty, 'empty')}({tuple(place.spec.shape)!r}, {self.value(place.spec.dtype, 'dtype')})"

    # --- groups -----------------------------------------------------------------------------------------------------------
    def layout(self, node: GraphNode) -> Layout:
        """Give the axes of a group."""
        shapes = [tuple(x.spec.shape) for x in node.inputs]
        return layout(node.outputs[0].shape, [*shapes, *_constants(node)])

    def group(self, node: GraphNode) -> None:
        """Write a group of elementwise operations: a function that does a block, and the loop that calls it."""
        axes = self.layout(node)
        at = split(axes.sizes, BLOCK // max(int(n.outputs[0].dtype.itemsize) for n in node.params["graph"].nodes))
        work = _Block(self, node, (at.rows, *axes.sizes[at.axis + 1 :]))
        arrays = []  # the text of each argument, and along which axes it goes on
        for k, x in enumerate([*node.inputs, *work.constants]):
            text, shape = self.operand(x), axes.shape(k)
            same = tuple(x.spec.shape if isinstance(x, Output) else x.shape) == shape
            arrays.append((text if same else f"{text}.reshape({shape!r})", axes.full[k]))
        for i in range(len(node.outputs)):
            place = Output(node, i)
            text = self.name(place)
            self.line(f"{text} = {self.array(place)}", node if i == 0 else None)
            same = tuple(place.spec.shape) == axes.sizes
            arrays.append((text if same else f"{text}.reshape({axes.sizes!r})", (True,) * len(axes.sizes)))
        if at == (0, axes.sizes[0]):
            self.line(f"{work.function}({', '.join([*(text for text, _ in arrays), *self._registers(work, at.rows)])})")
        else:
            self._loops(work, arrays, axes.sizes, at)

    def _loops(self, work: _Block, arrays: Sequence[tuple[str, tuple[bool, ...]]], sizes: tuple[int, ...], at: Split) -> None:
        """Write the loops over a group's blocks; what is left at the end of the axis that is cut is a smaller one."""
        views = {text: self.fresh(f"{text.partition('.')[0]}_") for text, _ in arrays if not text.isidentifier()}
        for text, name in views.items():
            self.line(f"{name} = {text}")
        outer, run = [self.fresh("i") for _ in range(at.axis)], self.fresh("i")
        for depth, (index, size) in enumerate(zip(outer, sizes, strict=False)):
            self.line(f"{'    ' * depth}for {index} in range({size}):")
        indent, size = "    " * at.axis, sizes[at.axis]

        def call(start: str, stop: str, rows: int) -> str:
            found = []
            for text, full in arrays:
                index = [i if f else "0" for i, f in zip(outer, full, strict=False)] + ([f"{start}:{stop}"] if full[at.axis] else [])
                name = views.get(text, text)
                found.append(f"{name}[{', '.join(index)}]" if index and any(full) else name)
            return f"{work.function}({', '.join([*found, *self._registers(work, rows)])})"

        end = size - size % at.rows
        self.line(f"{indent}for {run} in range(0, {end}, {at.rows}):")
        self.line(f"{indent}    {call(run, f'{run} + {at.rows}', at.rows)}")
        if end < size:
            self.line(f"{indent}{call(str(end), '', size - end)}")
        self.forget(list(views.values()))

    def _registers(self, work: _Block, rows: int) -> list[str]:
        """Give the text of a group's memory for blocks of so many rows."""
        if not work.registers:
            return []
        room = tuple(Room(offset, (rows, *work.shape[1:]), dtype) for offset, dtype in work.registers)
        name = next((n for n, r in self.rooms.items() if r == room), None)
        if name is None:
            name = self.fresh("t")
            self.rooms[name] = room
        return [f"*{name}"]

    def result(self, x: Any) -> str:
        """Give a result: an array of the caller's own, where NumPy has given a scalar, and where it is the program's."""
        name = self.operand(x)
        if not isinstance(x, Output):
            return f"{self.bind(np.array, 'array')}({name})" if hasattr(x, "dtype") else name
        if x.node.op is None or (x.spec.shape and not self.borrowed(x)):
            return name
        return f"{self.bind(np.array, 'array')}({name})" if self.borrowed(x) else f"{self.bind(np.asarray, 'asarray')}({name})"

    def borrowed(self, x: Any) -> bool:
        """Tell whether a value may be a view of a constant, which the caller must not write into."""
        if not isinstance(x, Output):
            return hasattr(x, "dtype")
        return x.node.op is not None and not self.fresh_results(x.node) and any(map(self.borrowed, x.node.inputs))

    def sequence(self, graph: Graph, kept: set[str]) -> None:
        """Write the lines; around those of the whole graph, what takes memory and gives it back."""
        super().sequence(graph, kept)
        if graph is not self.graph:
            return
        if self.donations:
            given = list(map(self.name, self.donations.values()))
            others = [name for name in map(self.name, (Output(node, 0) for node in graph.inputs)) if name not in given]
            held = [x for x in _held(graph) if isinstance(x, np.ndarray)]
            own = self.bind(functools.partial(_own, held), "own")
            self.lines.insert(0, f"    {', '.join(given)}, = {own}(({', '.join(given)},), ({' '.join(f'{n},' for n in others)}))")
        if not self.rooms:
            return
        if self.plan.rooms:
            self.notes.append(f"# intermediate values share {self.plan.size:,} bytes; one by one they would take {self.plan.unplanned:,}")
        start = self.plan.size
        specs = [
            (r.offset, r.shape, r.dtype) if isinstance(r, Room) else tuple((start + o, s, d) for o, s, d in r) for r in self.rooms.values()
        ]
        rooms = self.bind(Rooms(lambda: _room(start + self.work, specs)), "rooms")
        memory = self.fresh("memory")
        names = "".join(f"{n}, " for n in self.rooms).strip()
        self.lines.insert(0, f"    {names} = {memory} = {rooms}.take()")
        self.lines.append(f"    {rooms}.leave({memory})")


def _own(held: Sequence[Any], given: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Give arrays that can be written over: those that are given away, or copies of what shares memory with anything else."""
    taken = {id(x) for x in (*others, *held)} | {id(x.base) for x in (*given, *others, *held)}
    found = []
    for x in given:
        if id(x) in taken or not (x.flags.owndata and x.flags.carray):
            x = x.copy()
        taken.add(id(x))
        found.append(x)
    return found


def _held(graph: Graph) -> list[Any]:
    return [x for node in graph.walk() for x in node.inputs if not isinstance(x, Output)]


class _Block:
    """The function that does one block of a group.

    Attributes
    ----------
    function : str
        Its name. It takes operands, array constants, results, registers.
    registers : list of (int, dtype)
        Memory for intermediate values: offset and dtype of each.
    """

    def __init__(self, writer: NumpyWriter, node: GraphNode, shape: tuple[int, ...]) -> None:
        inner: Graph = node.params["graph"]
        self.shape = shape
        self.registers: list[tuple[int, Any]] = []
        self.constants = _constants_of(inner)
        self.function = writer.fresh(f"group_{node.name}")
        text: dict[Any, str] = {Output(n, 0): f"x{i}" for i, n in enumerate(inner.inputs)}
        constants = {id(x): f"k{i}" for i, x in enumerate(self.constants)}
        results = {place: f"y{i}" for i, place in enumerate(inner.outputs)}
        last: dict[Output, int] = {}
        for position, member in enumerate(inner.nodes):
            last.update(dict.fromkeys(member.places(), position))
        free: list[int] = []
        holds: dict[Output, int] = {}
        lines: list[str] = []
        size = 0
        for position, member in enumerate(inner.nodes):
            place = Output(member, 0)
            given = [text[x] if isinstance(x, Output) else constants.get(id(x)) or writer.value(x, "c") for x in member.inputs]
            ufunc = writer.ufunc(member)
            dying = [x for x in dict.fromkeys(member.places()) if x in holds and last[x] == position]
            if ufunc is not None:
                free += [holds[x] for x in dying]
            dtype = place.spec.dtype
            if place in results:
                text[place] = results[place]
            elif ufunc is not None or member.op.name in ("where", "astype"):
                k = next((k for k in reversed(free) if self.registers[k][1] == dtype), None)
                if k is None:
                    k = len(self.registers)
                    self.registers.append((size, dtype))
                    size = _aligned(size + math.prod(shape) * int(dtype.itemsize))
                else:
                    free.remove(k)
                holds[place], text[place] = k, f"t{k}"
            comment = writer.comment(member).replace("  # ", f"  # {member.name}: ", 1)
            if place in text:
                first, *rest = writer.into(member, given, text[place])
            else:  # memory of its own
                text[place] = writer.fresh(member.name)
                first, *rest = [f"{text[place]} = {writer.call(member, given)}"]
            lines += [first + comment, *rest]
            if ufunc is None:
                free += [holds[x] for x in dying]
        writer.work = max(writer.work, size)
        names = [f"x{i}" for i in range(len(inner.inputs))] + [f"k{i}" for i in range(len(self.constants))]
        names += [*results.values(), *(f"t{k}" for k in range(len(self.registers)))]
        head = f"def {self.function}({', '.join(names)}):"
        writer.functions += ["", "", head, *(f"    {line}" for line in lines)]


def _constants_of(inner: Graph) -> list[Any]:
    """Give the constants of a group that have axes."""
    constants = [x for node in inner.nodes for x in node.inputs if not isinstance(x, Output)]
    return list({id(x): x for x in constants if hasattr(x, "dtype") and x.shape}.values())


def _constants(node: GraphNode) -> list[tuple[int, ...]]:
    return [tuple(x.shape) for x in _constants_of(node.params["graph"])]


def _aligned(n: int) -> int:
    return -(-n // 64) * 64


def _room(size: int, specs: Sequence[Any]) -> tuple[Any, ...]:
    """Allocate memory, and give the arrays in it."""
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64

    def view(offset: int, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.ndarray(shape, dtype, memory, start + offset)

    return tuple(view(*s) if isinstance(s[0], int) else tuple(view(*each) for each in s) for s in specs)


def write(graph: Graph) -> Program:
    """Give the program of a graph on NumPy."""
    return NumpyWriter(graph).write()
