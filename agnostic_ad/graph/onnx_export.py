"""Graphs as ONNX models: the writer, and how an operation without a counterpart becomes operations that have one.

`onnx_table.COUNTERPARTS` gives, for an operation, the name of the ONNX operator that is the same, or a function that writes operators;
`onnx_forms.FORMS` a form in other operations of the table. What is in neither takes the general form that serves libraries which lack the
operation. A form is captured on the spot, and its operations are written in place of the one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.config import dtype_name
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import ir, sizes
from agnostic_ad.graph.capture import TraceLevel, place_of
from agnostic_ad.graph.fusion import FUSED
from agnostic_ad.graph.ir import Graph, GraphNode, Output, settled
from agnostic_ad.graph.onnx_forms import DOUBLES, FORMS
from agnostic_ad.graph.onnx_table import WIDER
from agnostic_ad.graph.onnx_windows import COUNTERPARTS
from agnostic_ad.graph.onnx_writer import Operators, Value
from agnostic_ad.graph.saving import tree_text
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import TABLE
from agnostic_ad.wrapped import CREATION

__all__ = ["OPSET", "to_onnx"]

OPSET = 20
"""The version of ONNX's operators: the first with Gelu, which every runtime of the last years reads."""


class Writer(Operators):
    """A model while it is written, from graphs."""

    # --- graphs -------------------------------------------------------------------------------------------------------
    def inline(self, graph: Graph, values: Sequence[Any]) -> list[Any]:
        """Write the operations of a graph on tensors; give those of its results."""
        now: dict[Output, Any] = {Output(node, 0): x for node, x in zip(graph.inputs, values, strict=True)}
        for node in graph.nodes:
            outer = self._node, self.outs
            # what stands for an operation has its line
            self._node = node if node.where or outer[0] is None else node.replaced(where=outer[0].where, scope=outer[0].scope)
            self.outs = [Value.of("", o.shape, dtype_name(o.dtype)) for o in node.outputs]
            results = self._write(self._node, [self._operand(now[i] if isinstance(i, Output) else i) for i in node.inputs])
            for index, (name, spec) in enumerate(zip(results, self.outs, strict=True)):
                now[Output(node, index)] = self.known[str(name)] = found = Value.of(name, spec.shape, spec.dtype)
                self._note(found)
            self._node, self.outs = outer
        return [now[o] if isinstance(o, Output) else self._operand(o) for o in graph.outputs]

    def nested(self, label: str, inputs: Sequence[Value], write: Callable[[], Sequence[Any]]) -> Any:
        """Give what ``write`` writes as a graph of its own, which may use tensors of the one around."""
        nodes, known, axes = self.nodes, dict(self._sizes), dict(self._axes)
        self.nodes = []
        results = [Value.of(self.op("Identity", x), x.shape, x.dtype) for x in write()]
        graph = self._onnx.helper.make_graph(self.nodes, label, list(map(self.info, inputs)), list(map(self.info, results)))
        self.nodes, self._sizes, self._axes = nodes, known, axes
        return graph

    def fresh(self, like: Any) -> Value:
        """Give a nameless input of a graph inside a name."""
        return Value.of(f"t{next(self._numbers)}", like.shape, dtype_name(like.dtype))

    def _operand(self, x: Any) -> Any:
        if x is None or isinstance(x, Value):
            return x
        x = settled(x)
        if isinstance(x, Array):
            raise UnsupportedError(f"to_onnx: this graph holds arrays of {x.level.label}, which are gone with it; capture outside of it")
        if isinstance(x, sizes.Dim | sizes.Ratio):
            return Value.of(self.number(x), (), "int64" if isinstance(x, sizes.Dim) else "float64")
        return self.constant(x)

    def _write(self, node: GraphNode, args: list[Any]) -> Sequence[Any]:
        op, how = node.op, COUNTERPARTS.get(node.op.name)
        if not any(isinstance(i, Output | sizes.Dim | sizes.Ratio) for i in node.inputs) and not node.dynamic and not node.effects:
            found = op.run(tuple(map(settled, node.inputs)), node.params)
            return [self.constant(x) for x in (found if isinstance(found, tuple | list) else (found,))]
        if op is FUSED:
            return self.inline(node.params["graph"], args)
        if all(any(type(n) is int and n == 0 for n in o.shape) for o in self.outs):  # nothing; ONNX Runtime has trouble with it
            return [self.zeros(o.shape, o.dtype) for o in self.outs]
        wide = WIDER.get(op.name, {})
        if any(x is not None and x.dtype in wide for x in (*args, *self.outs)):
            return self._widened(wide, node, args)
        form = FORMS.get(op.name) or Backend.fallbacks.get(op.name)
        if self.out.dtype == "float64" and op.name in DOUBLES:
            how, form = None, DOUBLES[op.name] or form
        if isinstance(how, str):
            return (self.op(how, *self.common(args)),)
        found = how(self, *args, **node.params) if how is not None else None
        if found is not None:
            return (found,) if isinstance(found, str) else tuple(found)
        if form is None or not any(isinstance(i, Output) for i in node.inputs):
            raise self._missing(node)
        try:
            graph = self._captured(node, form)
        except Exception as error:  # whatever a form raises that looks at values
            raise self._missing(node) from error
        return self.inline(graph, [a for a, i in zip(args, node.inputs, strict=True) if isinstance(i, Output)])

    def _widened(self, wide: dict[str, str], node: GraphNode, args: list[Any]) -> Sequence[Any]:
        """Write an operation in wider numbers than its own."""
        own = self.outs
        self.outs = [Value.of("", o.shape, wide.get(o.dtype, o.dtype)) for o in own]
        found = self._write(node, [None if x is None else self.cast(x, wide.get(x.dtype, x.dtype)) for x in args])
        results = [Value.of(x, o.shape, o.dtype) for x, o in zip(found, self.outs, strict=True)]
        self.outs = own
        return [self.cast(x, o.dtype) for x, o in zip(results, own, strict=True)]

    def _captured(self, node: GraphNode, form: Callable[..., Any]) -> Graph:
        """Give an operation as the graph of its form."""
        level = TraceLevel(f"to_onnx({node.op.name})", self._backend)
        symbols = {name: sizes.symbol(name, hint, level) for name, hint in self._hints.items()}
        with level:
            args: list[Any] = []
            for x in node.inputs:
                if isinstance(x, Output):
                    x = level.input(ShapeDtype(sizes.evaluate(tuple(x.spec.shape), symbols), x.spec.dtype), None, len(args))
                args.append(settled(x))
            inputs = [x.place.node for x, i in zip(args, node.inputs, strict=True) if isinstance(i, Output)]
            params = sizes.evaluate(node.params, symbols)
            y = node.op.invoke(form, (_Space(level.rules(self._backend)),), args, params)
        results = [place_of(level, r) for r in (y if isinstance(y, tuple | list) else (y,))]
        return Graph(level.label, level.nodes, inputs, results, (None, None), self._backend)

    def _missing(self, node: GraphNode) -> UnsupportedError:
        where = f" at {node.where}" if node.where else ""
        return UnsupportedError(
            f"to_onnx: {node.op.name}, called{where}, has no counterpart among ONNX's operators (opset {self.opset}). Export what is before it "
            "and after it as two graphs, or write it in operations that have one."
        )

    # --- the model ----------------------------------------------------------------------------------------------------
    def begin(self, graph: Graph, names: Sequence[str]) -> list[Value]:
        """Give the inputs as tensors, and note which of them a run finds its sizes at."""
        found = []
        for node, name in zip(graph.inputs, names, strict=True):
            found.append(Value.of(name, node.outputs[0].shape, dtype_name(node.outputs[0].dtype)))
            self._note(found[-1])
        return found

    def _note(self, x: Value) -> None:
        """Note where a run finds sizes: of inputs, and of what loops stack."""
        for axis, n in enumerate(x.shape):
            if isinstance(n, sizes.Dim) and n.name is not None:
                self._axes.setdefault(n.name, (str(x), axis))
                self._hints.setdefault(n.name, int(n))

    def info(self, x: Value) -> Any:
        """Give a tensor's entry in the model; a size that only a run tells has its formula for a name."""
        return self._onnx.helper.make_tensor_value_info(
            str(x), self.code(x.dtype), [str(n) if isinstance(n, sizes.Dim) else int(n) for n in x.shape]
        )

    def finish(self, label: str, inputs: list[Value], outputs: list[Value], names: Sequence[str]) -> Any:
        """Give the model, with what no result needs left out."""
        helper, needed, kept = self._onnx.helper, {str(o) for o in outputs}, []
        made = {name for node in self.nodes for name in node.output}
        renamed: dict[str, str] = {}
        results = []
        for x, name in zip(outputs, names, strict=True):
            results.append(Value.of(name, x.shape, x.dtype))
            if str(x) in made and str(x) not in renamed:
                renamed[str(x)] = name
            else:  # an input, a constant, or twice the same
                self.nodes.append(helper.make_node("Identity", [str(x)], [name], name=f"Identity_{name}"))
                needed.add(name)
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                for each in _with_nested(node):
                    needed.update(each.input)
                kept.append(node)
        for node in kept:
            node.output[:] = [renamed.get(n, n) for n in node.output]
            for each in _with_nested(node):
                each.input[:] = [renamed.get(n, n) for n in each.input]
        constants = [tensor for _, tensor in self.constants.values() if tensor.name in needed]
        infos = [self.info(Value.of(n, x.shape, x.dtype)) for n, x in self.known.items() if n in needed and n not in renamed and n in made]
        graph = helper.make_graph(
            kept[::-1], label, [self.info(x) for x in inputs], [self.info(x) for x in results], constants, value_info=infos
        )
        opsets = [helper.make_opsetid("", self.opset)]
        # what the operators need, not the newest that this version of onnx writes
        return helper.make_model(graph, opset_imports=opsets, producer_name="agnostic_ad", ir_version=10)


class _Space:
    """What general forms compute in: a namespace of rules, with what else a `Backend` has."""

    def __init__(self, rules: Any) -> None:
        self._rules = rules

    def __getattr__(self, name: str) -> Any:
        known = name in TABLE or name in CREATION or name in ("nn", "linalg", "special", "fft")
        return getattr(self._rules if known else self._rules.backend, name)

    def add_into(self, buffer: Any, value: Any, key: Any) -> Any:
        """Add to a part of an array; nothing is written into."""
        return buffer + self._rules.scatter(value, key=key, shape=tuple(buffer.shape))


def _with_nested(node: Any) -> Iterator[Any]:
    """Give a node of a model, and those of graphs inside it."""
    yield node
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _with_nested(inner)


def _names(given: Sequence[str] | None, own: list[str], what: str) -> list[str]:
    found = own if given is None else list(given)
    if len(found) != len(own) or len(set(found)) != len(found):
        raise ValueError(f"to_onnx: {what} are {len(own)} different names, one for each of {', '.join(own)}; not {found}")
    return found


def _rejected(model: Any, text: str) -> UnsupportedError:
    """Give the error for a model that onnx's checker does not accept: with the operation that the operator was written for."""
    found = re.search(r"node name: ([^\s,)]+)", text, re.IGNORECASE)
    node = next((n for n in _all_nodes(model.graph) if found is not None and n.name == found[1]), None)
    props = {} if node is None else {p.key.removeprefix("agnostic_ad."): p.value for p in node.metadata_props}
    where = f", called at {props['where']}," if "where" in props else ""
    reason = " ".join(text.split()).rpartition("[TypeInferenceError]")[2][:200].strip()
    return UnsupportedError(
        f"to_onnx: {props.get('op', 'the graph')}{where} is no valid model (opset {OPSET}): {reason}. Cast the operands before it."
    )


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield from _with_nested(node)


def to_onnx(
    graph: Graph,
    path: str | os.PathLike[str] | None = None,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Any:
    """Write a graph as an ONNX model.

    Parameters
    ----------
    graph : Graph
        What to write: a forward graph, one with gradients, or a whole training step.
    path : str or path, optional
        Where to write it; None to have it only as an object.
    input_names, output_names : sequence of str, optional
        Names for the leaves of arguments and result; by default they tell where a leaf stands, such as ``in0.weight``.

    Returns
    -------
    onnx.ModelProto
        The model, checked by onnx. Each operator knows the operation and the line that it comes from (``metadata_props``).

    Raises
    ------
    UnsupportedError
        Where an operation has no counterpart: it is named, with the line that called it.

    Notes
    -----
    Opset 20. An axis of any size stays one. Draws (dropout) become ONNX's own, whose numbers are others. ONNX Runtime computes float32
    everywhere; for float64 it lacks convolutions.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ModuleNotFoundError("to_onnx needs onnx, which is not installed: pip install 'agnostic_ad[onnx]'") from None
    ir.check_results(graph, "to_onnx")
    writer = Writer(graph, OPSET)
    inputs = writer.begin(graph, _names(input_names, ir.input_names(graph), "input_names"))

    results = writer.inline(graph, inputs)
    own = ir.leaf_names(graph.out_spec, "out")
    model = writer.finish(graph.label, inputs, results, _names(output_names, own, "output_names"))
    for key, spec in (("arguments", graph.in_spec), ("results", graph.out_spec)):  # for `from_onnx`
        model.metadata_props.add(key=f"agnostic_ad.{key}", value=json.dumps(tree_text(spec)))
    if model.ByteSize() < _LARGEST:
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise _rejected(model, str(error)) from error
    if path is not None:
        onnx.save_model(model, os.fspath(path), save_as_external_data=model.ByteSize() >= _LARGEST)
    return model


_LARGEST = 1 << 31
"""Of more bytes a protobuf message cannot be; the constants then go to a file beside it."""
