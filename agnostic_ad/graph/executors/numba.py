"""Programs on NumPy with Numba: groups of elementwise operations are compiled loops, which go over memory once; a sum of a group's result too.

A group of one floating dtype (and booleans) of operations that there is code for becomes a loop; others go in blocks, as without Numba. Results
differ from NumPy's by roundings: a unit or two in the last place for each exponential, one rounding less for a product that is added to, and sums
in another order.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agnostic_ad.backends.expressions import Code, NoCodeError
from agnostic_ad.backends.numba import ACTIVATIONS, loop_of
from agnostic_ad.graph.executors.blocks import Layout, layout
from agnostic_ad.graph.executors.kernels import code_of, floating, spec_of, summed
from agnostic_ad.graph.executors.numpy import NumpyWriter
from agnostic_ad.graph.executors.source import Program
from agnostic_ad.graph.ir import Graph, GraphNode, Output

__all__ = ["NumbaWriter", "write"]

_SINGLE = {name.replace("nn_", "nn.", 1): formula for name, formula in ACTIVATIONS.items()}
_PART = 1024
"""Elements that are computed before they are summed, in an order that the compiler makes vectors of."""


class NumbaWriter(NumpyWriter):
    """Writes programs whose groups are compiled."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._sums = summed(graph)

    def group(self, node: GraphNode) -> None:
        """Write the call of a compiled loop."""
        inner, total = node.params["graph"], self._sums.get(id(node))
        try:
            dtype = floating(inner)
            code, slots = code_of(inner, Code(), _SINGLE if dtype.char == "f" else {}, () if dtype.char == "f" else ("log",))
        except NoCodeError:
            super().group(node)
            return
        operands = [*node.inputs, *slots]
        shapes, whole = [tuple(spec_of(x).shape) for x in operands], tuple(node.outputs[0].shape)
        if total is not None:  # the sum's shape, with its axes kept, is one more to go along
            axis = total.params["axis"]
            shapes.append(tuple(1 if i in axis else n for i, n in enumerate(whole)))
        axes = layout(whole, shapes)
        name = self.fresh(f"group_{node.name}")
        over = {} if total is not None else {i: k for i in range(len(node.outputs)) for k in self._under(Output(node, i), operands)}
        source = _loop(code, len(operands), len(inner.outputs), axes, over) if total is None else _sum(code, len(operands), axes)
        numbers = [dtype.type(n) for n in (0, 1, *code.numbers)]
        self.scope[name] = functools.partial(loop_of(source), *numbers, *axes.sizes)
        given = [f"zero = 0, one = 1, {', '.join(f'n{k} = {n}' for k, n in enumerate(axes.sizes))}"]
        given += [f"k{i} = {n!s}" for i, n in enumerate(numbers[2:])]
        self.notes += [f"# {name}, compiled, with {', '.join(given)}:", *(f"#     {line}" for line in source.splitlines())]
        arrays = [self._seen(x, axes.shape(k) or (1,) * len(axes.sizes)) for k, x in enumerate(operands)]
        if total is None:
            for i in range(len(node.outputs)):
                place = Output(node, i)
                self.line(f"{self.name(place)} = {self.array(place)}", node if i == 0 else None)
                if i not in over:
                    arrays.append(self.name(place) if whole == axes.sizes else f"{self.name(place)}.reshape({axes.sizes!r})")
        else:
            self.absorb(node, total)
            place = Output(total, 0)
            zeros, like = self.bind(np.zeros, "zeros"), self.value(total.outputs[0].dtype, "dtype")
            self.line(f"{self.name(place)} = {zeros}({tuple(total.outputs[0].shape)!r}, {like})", total)
            arrays.append(f"{self.name(place)}.reshape({axes.shape(len(operands)) or (1,) * len(axes.sizes)!r})")
        self.line(f"{name}({', '.join(arrays)})")

    def _under(self, place: Output, operands: list[Any]) -> list[int]:
        """Give the number of the operand that a result is written over; the compiler makes no vectors where two names stand for one array."""
        room = self.plan.rooms.get(place)
        return [
            k
            for k, x in enumerate(operands)
            if isinstance(x, Output) and (self.donations.get(place) == x or (room is not None and self.plan.rooms.get(x) == room))
        ][:1]

    def _seen(self, x: Any, shape: tuple[int, ...]) -> str:
        """Give the text of an operand in another shape, and in one piece."""
        text = self.operand(x)
        if tuple(spec_of(x).shape) != shape:
            text = f"{text}.reshape({shape!r})"
        elif isinstance(x, Output) and x.node.op is not None and x.node.op.name in ("fused", "matmul", "nn.linear"):
            return text  # written in one piece
        return f"{self.bind(np.ascontiguousarray, 'contiguous')}({text})"


def _head(code: Code, count: int, results: Iterable[int], axes: Layout) -> str:
    numbers, sizes = [f"k{i}" for i in range(len(code.numbers))], [f"n{k}" for k in range(len(axes.sizes))]
    arrays = [f"a{i}" for i in range(count)] + [f"y{j}" for j in results]
    return f"def loop({', '.join(['zero', 'one', *numbers, *sizes, *arrays])}):"


def _index(full: tuple[bool, ...], indices: list[str]) -> str:
    return ", ".join(i if f else "0" for i, f in zip(indices, full, strict=True))


def _loads(axes: Layout, count: int, axis: int, indices: list[str]) -> list[str]:
    """Give the lines that read the operands that change along an axis, and along none behind it; -1 for those that change along none."""
    last = [max((k for k, f in enumerate(axes.full[i]) if f), default=-1) for i in range(count)]
    return [f"x{i} = a{i}[{_index(axes.full[i], indices)}]" for i in range(count) if last[i] == axis]


def _loop(code: Code, count: int, results: int, axes: Layout, over: Mapping[int, int]) -> str:
    """Give the text of the loops of a group; ``over`` tells which operands results are written over."""
    indices = [f"i{k}" for k in range(len(axes.sizes))]
    fresh = [j for j in range(results) if j not in over]
    lines, indent = [_head(code, count, fresh, axes), *(f"    {text}" for text in _loads(axes, count, -1, indices))], "    "
    for k, index in enumerate(indices):
        lines.append(f"{indent}for {index} in range(n{k}):")
        indent += "    "
        lines += [f"{indent}{text}" for text in _loads(axes, count, k, indices)]
    lines += [f"{indent}{line}" for line in code.lines]
    targets = [f"a{over[j]}" if j in over else f"y{j}" for j in range(results)]
    lines += [f"{indent}{target}[{', '.join(indices)}] = {text}" for target, text in zip(targets, code.results, strict=True)]
    return "\n".join(lines) + "\n"


def _sum(code: Code, count: int, axes: Layout) -> str:
    """Give the text of the loops of a group whose result is summed: along the last axis in parts, along others element by element."""
    *outer, last = [f"i{k}" for k in range(len(axes.sizes))]
    indices, kept, end = [*outer, last], axes.full[count], len(outer)
    lines, indent = [_head(code, count, (0,), axes), *(f"    {text}" for text in _loads(axes, count, -1, indices))], "    "
    if not kept[-1]:
        lines.append(f"    part = empty({_PART}, y0.dtype)")
    for k, index in enumerate(outer):
        lines.append(f"{indent}for {index} in range(n{k}):")
        indent += "    "
        lines += [f"{indent}{text}" for text in _loads(axes, count, k, indices)]
    body = [*_loads(axes, count, end, indices), *code.lines]
    (result,) = code.results
    if kept[-1]:
        lines += [f"{indent}for {last} in range(n{end}):", *(f"{indent}    {text}" for text in body)]
        lines += [f"{indent}    y0[{_index(kept, indices)}] += {result}"]
    else:
        lines += [
            f"{indent}total = 0.0",
            f"{indent}for start in range(0, n{end}, {_PART}):",
            f"{indent}    stop = min(start + {_PART}, n{end})",
        ]
        lines += [f"{indent}    for {last} in range(start, stop):", *(f"{indent}        {text}" for text in body)]
        lines += [f"{indent}        part[{last} - start] = {result}", f"{indent}    total += add_up(part, stop - start)"]
        lines += [f"{indent}y0[{_index(kept, indices)}] += total"]
    return "\n".join(lines) + "\n"


def write(graph: Graph) -> Program:
    """Give the program of a graph on NumPy, with compiled groups."""
    return NumbaWriter(graph).write()
