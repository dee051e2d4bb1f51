"""Graphs as ONNX models: the writer, and how an operation without a counterpart becomes operations that have one.

`onnx_table.COUNTERPARTS` gives, for an operation, the name of the ONNX operator that is the same, or a function that writes operators;
`onnx_table.FORMS` a form in other operations of the table. What is in neither takes the general form that serves libraries which lack the
operation. A form is captured on the spot, and its operations are written in place of the one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import count
from typing import Any

import numpy as np

from agnostic_ad.backends.base import Backend
from agnostic_ad.config import dtype_name
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import ir, sizes
from agnostic_ad.graph.capture import TraceLevel
from agnostic_ad.graph.capture import _place as place_of
from agnostic_ad.graph.fusion import FUSED
from agnostic_ad.graph.ir import Graph, GraphNode, Output, settled
from agnostic_ad.graph.onnx_windows import COUNTERPARTS, FORMS
from agnostic_ad.graph.saving import tree_text
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, lookup
from agnostic_ad.op import TABLE
from agnostic_ad.wrapped import CREATION

__all__ = ["OPSET", "to_onnx"]

OPSET = 20
"""The version of ONNX's operators: the first with Gelu, which every runtime of the last years reads."""


class Value(str):
    """The name of a tensor, with what is known of it."""

    shape: tuple[Any, ...]
    dtype: str

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @classmethod
    def of(cls, name: str, shape: Sequence[Any], dtype: str) -> Value:
        """Give a name with what is known."""
        found = cls(name)
        found.shape, found.dtype = tuple(shape), dtype
        return found


def dynamic(shape: Sequence[Any]) -> bool:
    """Tell whether a shape has a size that only a run tells."""
    return any(isinstance(n, sizes.Dim) for n in shape)


class Writer:
    """A model while it is written: what converters of `onnx_table` call.

    Attributes
    ----------
    out : Value
        A nameless one: shape and dtype of the (first) result of the operation that is being written.
    outs : list of Value
        Likewise, of all its results.
    """

    def __init__(self, graph: Graph, opset: int) -> None:
        import onnx

        self._onnx, self.opset, self._backend = onnx, opset, graph.backend
        self.nodes: list[Any] = []
        self._numbers = count()
        self.constants: dict[Any, tuple[Value, Any]] = {}  # by their bytes: each is written once
        self.known: dict[str, Value] = {}
        self.outs: list[Value] = []
        self._node: GraphNode | None = None
        self._axes: dict[str, tuple[str, int]] = {}  # where a run finds a size
        self._hints: dict[str, int] = {}
        self._sizes: dict[Any, Value] = {}

    @property
    def out(self) -> Value:
        """What is known of the first result."""
        return self.outs[0]

    @property
    def name(self) -> str:
        """The name of the operation that is being written."""
        assert self._node is not None
        return str(self._node.op.name)

    # --- tensors ------------------------------------------------------------------------------------------------------
    def code(self, dtype: str) -> int:
        """Give ONNX's number of a dtype."""
        if dtype.startswith("complex"):
            place = "" if self._node is None else f": {self.name}" + (f" at {self._node.where}" if self._node.where else "")
            raise UnsupportedError(f"to_onnx{place}: ONNX's operators take no {dtype}. Export the real and the imaginary part.")
        if dtype == "bfloat16":
            return int(self._onnx.TensorProto.BFLOAT16)
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def constant(self, x: Any, dtype: str | None = None) -> Value:
        """Give an array, or numbers, as a constant of the model."""
        backend = lookup(x)
        if backend is not None and not isinstance(x, np.ndarray | np.generic):
            if dtype_name(x.dtype) == "bfloat16":
                wide: Value = self.cast(self.constant(backend.astype(x, backend.dtype("float32"))), "bfloat16")
                return wide
            x = backend.to_numpy(x)
        host = np.asarray(x, dtype=dtype)
        self.code(str(host.dtype))
        key = str(host.dtype), host.shape, host.tobytes()
        found = self.constants.get(key)
        if found is None:
            tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(host).reshape(host.shape), f"c{len(self.constants)}")
            found = self.constants[key] = (Value.of(tensor.name, host.shape, str(host.dtype)), tensor)
        return found[0]

    def sizes(self, values: Sequence[Any]) -> Value:
        """Give sizes as a tensor of int64, in one dimension."""
        if not dynamic(values):
            return self.constant(np.asarray(values, dtype="int64").reshape(-1))
        parts = [self.size(n) if isinstance(n, sizes.Dim) else self.constant([int(n)], "int64") for n in values]
        return self.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def size(self, n: Any) -> Value:
        """Give a size that only a run tells, as a tensor of one int64."""
        return self._polynomial(n.poly)

    def _polynomial(self, poly: Any) -> Value:
        found = self._sizes.get(poly)
        if found is None:
            terms = []
            for coefficient, factors in poly:
                parts = [self._factor(f) for f in factors]
                if coefficient != 1 or not parts:
                    parts.append(self.constant([coefficient], "int64"))
                terms.append(reduce(lambda a, b: self.op("Mul", a, b), parts))
            total = reduce(lambda a, b: self.op("Add", a, b), terms) if terms else self.constant([0], "int64")
            found = self._sizes[poly] = Value.of(total, (1,), "int64")
        return found

    def _factor(self, factor: Any) -> Any:
        if isinstance(factor, str):
            name, axis = self._axes[factor]
            return self.op("Shape", name, start=axis, end=axis + 1)
        kind, left, right = factor
        a, b = self._polynomial(left), self._polynomial(right)
        return self.op("Mod", a, b) if kind == "%" else self.op("Div", self.op("Sub", a, self.op("Mod", a, b)), b)

    def number(self, x: Any) -> Any:
        """Give a number that is computed from sizes, as a 0-d tensor: of int64, or of float64 for a ratio."""
        if isinstance(x, sizes.Dim):
            return self.axes("Squeeze", self.size(x), [0])
        if not isinstance(x, sizes.Ratio):
            return self.constant(x, "float64")
        name, left, right = x.tree
        parts = [self.cast(self.number(part), "float64") for part in (left, right)]
        if name in ("//", "%"):
            floor = self.op("Floor", self.op("Div", *parts))
            return floor if name == "//" else self.op("Sub", parts[0], self.op("Mul", floor, parts[1]))
        return self.op({"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "**": "Pow"}[name], *parts)

    # --- operators ----------------------------------------------------------------------------------------------------
    def op(self, kind: str, *inputs: str | None, count: int = 1, **attributes: Any) -> Any:
        """Write an operator; give the name of its result, or of its ``count`` results."""
        names = [f"t{next(self._numbers)}" for _ in range(count)]
        given = {k: v for k, v in attributes.items() if v is not None}
        scope = self._node.scope.replace(".", "/") + "/" if self._node is not None and self._node.scope else ""
        node = self._onnx.helper.make_node(
            kind, ["" if x is None else str(x) for x in inputs], names, name=f"{scope}{kind}_{names[0]}", **given
        )
        if self._node is not None:
            for key, text in (("agnostic_ad.op", self.name), ("agnostic_ad.where", self._node.where)):
                if text:
                    node.metadata_props.add(key=key, value=text)
        self.nodes.append(node)
        return names[0] if count == 1 else tuple(names)

    def cast(self, x: Any, dtype: str) -> Any:
        """Give a tensor in another dtype; itself where it has it."""
        if getattr(x, "dtype", None) == dtype:
            return x
        return Value.of(self.op("Cast", x, to=self.code(dtype)), getattr(x, "shape", ()), dtype)

    def common(self, args: Sequence[Any]) -> list[Any]:
        """Give operands in the dtype that they promote to."""
        names = {a.dtype for a in args}
        if len(names) == 1:
            return list(args)
        dtype = self.out.dtype if self.out.dtype in names else str(np.result_type(*(np.dtype(n) for n in names)))
        return [self.cast(a, dtype) for a in args]

    def reshape(self, x: Any, shape: Sequence[Any]) -> Any:
        """Give a tensor in another shape; one size may be known only when the model runs, or several."""
        several, empty = sum(isinstance(n, sizes.Dim) for n in shape), any(type(n) is int and n == 0 for n in shape)
        if several == 1 and not empty:
            shape = [-1 if isinstance(n, sizes.Dim) else n for n in shape]
        return self.op("Reshape", x, self.sizes(shape), allowzero=1 if empty else None)

    def known_as(self, name: str, shape: Sequence[Any], dtype: str) -> Value:
        """Give a tensor's name with what is known of it."""
        return Value.of(name, shape, dtype)

    @staticmethod
    def several(found: Any) -> tuple[Any, ...]:
        """Give one name, or several, as a tuple."""
        return (found,) if isinstance(found, str) else found

    def axes(self, kind: str, x: Any, axes: Sequence[int]) -> Any:
        """Write Squeeze or Unsqueeze; nothing for no axes."""
        return self.op(kind, x, self.constant(list(axes), "int64")) if axes else x

    def zeros(self, shape: Sequence[Any], dtype: str) -> Any:
        """Give zeros."""
        return self.filled(self.sizes(shape), 0, dtype)

    def filled(self, shape: Any, value: Any, dtype: str) -> Any:
        """Give a tensor full of a number, of a shape that is a tensor itself."""
        return self.op("ConstantOfShape", shape, value=self._onnx.helper.make_tensor("value", self.code(dtype), [1], [value]))

    def slice(self, x: Any, cuts: dict[int, slice]) -> Any:
        """Cut axes as Python's slices do."""
        if not cuts:
            return x
        ends, steps = [], [1 if k.step is None else k.step for k in cuts.values()]
        for k, step in zip(cuts.values(), steps, strict=True):
            forward = int(step) > 0
            ends.append(
                (k.start if k.start is not None else 0 if forward else _FAR, k.stop if k.stop is not None else _FAR if forward else -_FAR)
            )
        starts, stops = ([pair[i] for pair in ends] for i in (0, 1))
        return self.op("Slice", x, self.sizes(starts), self.sizes(stops), self.sizes(list(cuts)), self.sizes(steps))

    def scatter_add(self, x: Any, indices: Any, shape: Sequence[Any], size: Any, axis: int) -> Any:
        """Add slices along an axis into ``size`` zero ones; ``shape`` is that of the slices."""
        indices = self.op("Expand", self.reshape(indices, [-1 if i == axis else 1 for i in range(len(shape))]), self.sizes(shape))
        into = self.zeros([size if i == axis else n for i, n in enumerate(shape)], self.out.dtype)
        return self.op("ScatterElements", into, indices, x, axis=axis, reduction="add")

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
        if isinstance(how, str):
            return (self.op(how, *self.common(args)),)
        found = how(self, *args, **node.params) if how is not None else None
        if found is not None:
            return (found,) if isinstance(found, str) else tuple(found)
        form = FORMS.get(op.name) or Backend.fallbacks.get(op.name)
        if form is None or not any(isinstance(i, Output) for i in node.inputs):
            raise self._missing(node)
        try:
            graph = self._captured(node, form)
        except Exception as error:  # whatever a form raises that looks at values
            raise self._missing(node) from error
        return self.inline(graph, [a for a, i in zip(args, node.inputs, strict=True) if isinstance(i, Output)])

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


_FAR = (1 << 63) - 1


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
    writer = Writer(graph, OPSET)
    inputs = writer.begin(graph, _names(input_names, ir.input_names(graph), "input_names"))

    results = writer.inline(graph, inputs)
    own = ir.leaf_names(graph.out_spec, "out")
    model = writer.finish(graph.label, inputs, results, _names(output_names, own, "output_names"))
    for key, spec in (("arguments", graph.in_spec), ("results", graph.out_spec)):  # for `from_onnx`
        model.metadata_props.add(key=f"agnostic_ad.{key}", value=json.dumps(tree_text(spec)))
    if model.ByteSize() < _LARGEST:
        onnx.checker.check_model(model, full_check=True)
    if path is not None:
        onnx.save_model(model, os.fspath(path), save_as_external_data=model.ByteSize() >= _LARGEST)
    return model


_LARGEST = 1 << 31
"""Of more bytes a protobuf message cannot be; the constants then go to a file beside it."""
