"""Programs on CuPy.

A group of elementwise operations is one ``ElementwiseKernel``, one that is summed as a whole a ``ReductionKernel``, and the whole program, from its
third call on, a CUDA graph.

Not yet run on a GPU: what stands here is written to be right, but nobody has seen it work.
"""

from __future__ import annotations

from typing import Any

from agnostic_ad.backends.expressions import FUNCTIONS, Code, NoCodeError
from agnostic_ad.graph.executors.kernels import code_of, floating, spec_of, summed
from agnostic_ad.graph.executors.source import Program, Writer
from agnostic_ad.graph.ir import Graph, GraphNode, Output

__all__ = ["CCode", "CupyWriter", "elementwise_text", "write"]

WARM_UP = 2
"""Calls before a program is recorded: kernels are compiled, and libraries make their handles, in the first."""
UNRECORDABLE = ("linalg.", "unique", "nonzero", "sort", "argsort", "searchsorted", "scatter_add")
"""Beginnings of the names of operations that may wait for the device, which a CUDA graph cannot hold."""


class CCode(Code):
    """The code of one element in C."""

    functions = FUNCTIONS | {
        "expit": "one / (one + exp(-({0})))",
        "maximum": "({0} > {1} || {0} != {0} ? {0} : {1})",
        "minimum": "({0} < {1} || {0} != {0} ? {0} : {1})",
        "relu": "({0} > zero || {0} != {0} ? {0} : zero)",
        "sign": "({0} != {0} || {0} == zero ? {0} : ({0} > zero ? one : -one))",
        "where": "({0} ? {1} : {2})",
        "astype": "({0} ? one : zero)",
        "bitwise_invert": "!{0}",
        "logical_not": "!{0}",
        "abs": "fabs({0})",
        "pow": "pow({0}, {1})",
        **{name: f"{name}({{0}})" for name in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")},
        **{name: f"{name}({{0}})" for name in ("expm1", "log1p", "log2", "log10", "erf", "erfc", "cbrt")},
        "special.erf": "erf({0})",
        "special.erfc": "erfc({0})",
    }


def elementwise_text(inner: Graph) -> tuple[str, str, str, list[Any]]:
    """Give the parameters in and out of a kernel, its text, and the constants with axes that follow the operands."""
    dtype = floating(inner)
    code, slots = code_of(inner, CCode(), {})
    known = [*(node.outputs[0] for node in inner.inputs), *slots]
    given = ", ".join(f"{spec_of(x).dtype.name} x{i}" for i, x in enumerate(known))
    results = ", ".join(f"{p.spec.dtype.name} y{j}" for j, p in enumerate(inner.outputs))
    real = "float" if dtype.char == "f" else "double"
    numbers = [("zero", 0.0), ("one", 1.0), *((f"k{i}", n) for i, n in enumerate(code.numbers))]
    lines = [f"const {real} {name} = {_literal(value)};" for name, value in numbers]
    lines += [f"const auto {line};" for line in code.lines]
    lines += [f"y{j} = {text};" for j, text in enumerate(code.results)]
    return given, results, "\n".join(lines), slots


def _literal(value: float) -> str:
    return {"inf": "1.0 / 0.0", "-inf": "-1.0 / 0.0", "nan": "0.0 / 0.0"}.get(repr(value), value.hex())


class CupyWriter(Writer):
    """Writes programs with a kernel for each group."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._sums = summed(graph)

    def node(self, node: GraphNode) -> None:
        """Write the lines of one node."""
        if node.op.name == "fused":
            self.group(node)
        else:
            super().node(node)

    def group(self, node: GraphNode) -> None:
        """Write the call of a kernel."""
        import cupy

        try:
            given, results, text, slots = elementwise_text(node.params["graph"])
        except NoCodeError:
            self.inline(node)
            return
        name, total = self.fresh(f"group_{node.name}"), self._sums.get(id(node))
        operands = ", ".join([*(self.operand(x) for x in node.inputs), *(self.value(x, "c") for x in slots)])
        if total is None or total.outputs[0].shape:
            self.scope[name] = cupy.ElementwiseKernel(given, results, text, name)
            names = ", ".join(self.name(Output(node, i)) for i in range(len(node.outputs)))
        else:
            kind = node.outputs[0].dtype.name
            c = {"float32": "float", "float64": "double", "bool": "bool"}
            declared = ", ".join(f"{c[p.split()[0]]} {p.split()[1]}" for p in given.split(", "))
            one = f"__device__ {c[kind]} one_of_{name}({declared}) {{\n{c[kind]} y0;\n{text}\nreturn y0;\n}}"
            call = f"one_of_{name}({', '.join(p.split()[1] for p in given.split(', '))})"
            self.scope[name] = cupy.ReductionKernel(given, f"{kind} y", call, "a + b", "y = a", "0", name, preamble=one)
            names = self.name(Output(total, 0))
            self.absorb(node, total)
            node = total
        self.notes += [f"# {name}({given}) -> {results}:", *(f"#     {line}" for line in text.splitlines())]
        self.line(f"{names} = {name}({operands})", node)

    def program(self, source: str) -> Program:
        """Give the program of a text."""
        fit = all(
            not n.effects and not n.op.name.startswith(UNRECORDABLE) and (n.op.name == "fused" or not n.graphs()) for n in self.graph.nodes
        )
        return (RecordedProgram if fit else Program)(self.graph.label, source, self.scope)


class RecordedProgram(Program):
    """A program that becomes a CUDA graph: one launch for all its kernels.

    The graph reads and writes memory of its own, so arguments are copied in and results out. Sizes are fixed, as those of a program are.
    """

    def __init__(self, label: str, source: str, scope: dict[str, Any]) -> None:
        import threading

        super().__init__(label, source, scope)
        self._straight, self._calls, self._lock = self.run, 0, threading.Lock()
        self._recorded: Any = None
        self.run = self._run

    def _run(self, *flat: Any) -> tuple[Any, ...]:
        import cupy

        with self._lock:
            self._calls += 1
            if self._calls <= WARM_UP:
                return self._straight(*flat)
            if self._recorded is None:
                try:
                    self._recorded = self._record(cupy, flat)
                except cupy.cuda.runtime.CUDARuntimeError:  # something waits for the device
                    self._calls = -(1 << 62)
                    return self._straight(*flat)
            graph, stream, inputs, outputs = self._recorded
            now = cupy.cuda.get_current_stream()
            for place, x in zip(inputs, flat, strict=True):
                place[...] = x
            stream.wait_event(now.record())
            graph.launch(stream)
            now.wait_event(stream.record())
            return tuple(y.copy() if isinstance(y, cupy.ndarray) else y for y in outputs)

    def _record(self, cupy: Any, flat: tuple[Any, ...]) -> tuple[Any, Any, list[Any], tuple[Any, ...]]:
        stream, inputs = cupy.cuda.Stream(non_blocking=True), [cupy.array(x) for x in flat]
        pool = cupy.cuda.MemoryPool()  # what the recorded kernels write must stay theirs
        cupy.cuda.get_current_stream().synchronize()
        with stream, cupy.cuda.using_allocator(pool.malloc):
            self._straight(*inputs)  # this stream's handles and memory
            stream.synchronize()
            stream.begin_capture()
            try:
                outputs = self._straight(*inputs)
            finally:
                graph = stream.end_capture()
        self._pool = pool
        return graph, stream, inputs, outputs


def write(graph: Graph) -> Program:
    """Give the program of a graph on CuPy."""
    return CupyWriter(graph).write()
