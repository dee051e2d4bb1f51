"""ONNX models as graphs: each operator is a function of the namespace that is captured, so the result is a graph like any other.

What a model computes from shapes is computed here and now, with NumPy: where an axis has any size, on arrays of objects that hold it as
`sizes.Dim`. `onnx_operators.OPERATORS` says what the operators are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from agnostic_ad import trees
from agnostic_ad.config import DTYPES
from agnostic_ad.encodings import FileError
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.capture import capture
from agnostic_ad.graph.onnx_control import INSIDE
from agnostic_ad.graph.onnx_layers import OPERATORS
from agnostic_ad.graph.onnx_operators import SHAPES
from agnostic_ad.graph.saving import tree_of
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, backend_of_namespace

__all__ = ["from_onnx"]


class Call:
    """One operator, while it is read: its attributes, and what computes.

    Attributes
    ----------
    xp : RuleSpace or Backend
        The namespace of its operands: NumPy's where all of them are known.
    opset : int
        The version that the model is written in.
    outputs : int
        How many results are wanted.
    """

    def __init__(self, reader: _Reader, node: Any, now: dict[str, Any] | None = None) -> None:
        from onnx import helper

        self.now, self.reader, self.node, self.opset, self.outputs = now or {}, reader, node, reader.opset, len(node.output)
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self.xp: Any = reader.numpy

    def get(self, name: str, default: Any = None) -> Any:
        """Give an attribute; texts as text."""
        found = self.attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def inside(self, name: str, args: Sequence[Any] = ()) -> list[Any]:
        """Run the graph that is an attribute; it sees the tensors around."""
        graph = self.get(name)
        constants = {t.name: numpy_array(t) for t in graph.initializer}
        return self.reader.results(graph, {**self.now, **constants, **dict(zip([i.name for i in graph.input], args, strict=True))})

    def ints(self, x: Any) -> list[Any] | None:
        """Give an operand as numbers that are known now, or sizes; None for none."""
        if x is None:
            return None
        if not isinstance(x, np.ndarray | np.generic):
            raise self.unsupported("needs values that only a run tells, for a shape or an axis")
        return [n if isinstance(n, sizes.Dim) else n.item() if hasattr(n, "item") else n for n in np.asarray(x).reshape(-1)]

    def axes(self, x: Any = None) -> list[Any] | None:
        """Give the axes, which are an operand or, in older models, an attribute."""
        found = self.ints(x)
        return list(self.get("axes")) if found is None and self.get("axes") is not None else found

    def dtype(self, code: int) -> str:
        """Give the name of a dtype that a model has a number for."""
        return _dtype(code)

    def own(self, dtype: str) -> Any:
        """Give the dtype of the library that computes, by name."""
        return (self.reader.numpy if self.xp is self.reader.numpy else self.reader.backend).dtype(dtype)

    def unsupported(self, why: str) -> UnsupportedError:
        """Give the error for what is not read."""
        name = f" ({self.node.name})" if self.node.name else ""
        return UnsupportedError(f"from_onnx: {self.reader.what}: {self.node.op_type}{name} {why}.")


def _dtype(code: int) -> str:
    from onnx import TensorProto, helper

    name = "bfloat16" if code == TensorProto.BFLOAT16 else str(helper.tensor_dtype_to_np_dtype(code))
    if name not in DTYPES:
        raise UnsupportedError(f"from_onnx: {TensorProto.DataType.Name(code)} is no dtype that arrays have here.")
    return name


def numpy_array(tensor: Any) -> Any:
    """Give a constant of a model."""
    from onnx import numpy_helper

    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # onnx's own, and NumPy's
        raise FileError(f"from_onnx: the constant {tensor.name} is damaged, or in a file that is not there ({error})") from None


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


class _Reader:
    """A model while it is read."""

    def __init__(self, model: Any, what: str, backend: Any) -> None:
        self.model, self.graph, self.what, self.backend = model, model.graph, what, backend
        self.numpy = backend_of_namespace(np)
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.constants = {t.name: numpy_array(t) for t in self.graph.initializer}
        self.inputs = [x for x in self.graph.input if x.name not in self.constants]
        self.rules: Any = None
        other = next((n for n in _nodes(self.graph) if n.domain not in ("", "ai.onnx") or n.op_type not in OPERATORS), None)
        if other is not None:
            raise Call(self, other).unsupported("is no operator that is read here; write it with others before the export")

    def spec(self, x: Any) -> ShapeDtype:
        """Give the shape and dtype of an input; axes of one name have one size."""
        kind = x.type.tensor_type
        if not x.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise UnsupportedError(f"from_onnx: {self.what}: the input {x.name} is no tensor with a known number of axes.")
        shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
        return ShapeDtype(shape, self.backend.dtype(_dtype(kind.elem_type)))

    def lift(self, x: Any) -> Any:
        """Give what is known now as an array of the capture."""
        if isinstance(x, np.ndarray) and x.dtype == object:  # it holds a size at least
            parts = [self.rules.asarray(np.asarray(0)) + n for n in x.reshape(-1)]
            return self.rules.reshape(self.rules.stack(parts), x.shape)
        return self.rules.asarray(self.backend.from_numpy(np.asarray(x)))

    def results(self, graph: Any, values: dict[str, Any]) -> list[Any]:
        """Run the operators of a graph, or of one inside it; ``values`` are those that it may use, by name."""
        now = dict(values)
        for node in graph.node:
            call = Call(self, node, now)
            lost = next((name for name in node.input if name and name not in now), None)
            if lost is not None:
                raise call.unsupported(f"takes {lost}, which nothing before it gives")
            args = [now[name] if name else None for name in node.input]
            try:
                found = self._apply(call, args)
            except (UnsupportedError, FileError):
                raise
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                raise call.unsupported(f"does not fit its operands: {' '.join(str(error).split())}") from error
            now |= zip(node.output, found, strict=False)
        lost = next((o.name for o in graph.output if o.name not in now), None)
        if lost is not None:
            raise FileError(f"from_onnx: {self.what}: no operator gives the result {lost}")
        return [now[o.name] if isinstance(now[o.name], Array) else self.lift(now[o.name]) for o in graph.output]

    def _apply(self, call: Call, args: list[Any]) -> Sequence[Any]:
        kind = call.node.op_type
        known = all(x is None or isinstance(x, np.ndarray | np.generic) for x in args)
        if kind in SHAPES and (kind in ("Shape", "Size") or (known and any(x is not None and x.dtype == object for x in args))):
            found = SHAPES[kind](call, *args)
            if found is not None:
                return found if isinstance(found, tuple | list) else (found,)
        if not known or kind in INSIDE or any(x is not None and x.dtype == object for x in args if isinstance(x, np.ndarray)):
            call.xp = self.rules
        keep = _KNOWN.get(kind, ())
        if call.xp is self.rules:
            args = [self.lift(x) if isinstance(x, np.ndarray | np.generic) and i not in keep else x for i, x in enumerate(args)]
        found = OPERATORS[kind](call, *args)
        return found if isinstance(found, tuple | list) else (found,)


_KNOWN = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Unsqueeze", "Squeeze", "Split", "TopK", "CumSum", "Trilu", "OneHot"), (1,)),
    **{f"Reduce{kind}": (1,) for kind in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")},
    "If": (0,),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 2, 3),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Gather": (1,),
    "Resize": (1, 2, 3),
    "Dropout": (1, 2),
}
"""Operands that are numbers rather than arrays: they must be known now. (Gather takes both.)"""


def from_onnx(path: Any, *, xp: Any = None, parameters: bool = False) -> Any:
    """Read an ONNX model as a graph.

    Parameters
    ----------
    path : str, path or onnx.ModelProto
        The model.
    xp : namespace, optional
        The library that the graph will run on; by default NumPy.
    parameters : bool
        Whether the floating constants that have two axes or more, or are used by such operators, are arguments, so that they can be trained.

    Returns
    -------
    Graph or (Graph, dict)
        The graph takes the model's inputs in their order, and gives its result, or a tuple of several; models written by ``Graph.to_onnx`` have
        the structure of the captured function. With ``parameters``, its first argument is a dict of the model's floating constants, and the
        dict itself comes along.

    Raises
    ------
    UnsupportedError
        Where an operator is not read here: it is named, with its node.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> g = graph.capture(lambda x: ad.namespace(x).tanh(x) * 2, graph.ShapeDtype((None,), "float32"))
    >>> _ = g.to_onnx("tanh.onnx")
    >>> graph.from_onnx("tanh.onnx").counts()
    {'tanh': 1, 'multiply': 1}
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ModuleNotFoundError("from_onnx needs onnx, which is not installed: pip install 'agnostic_ad[onnx]'") from None
    what = "the model" if isinstance(path, onnx.ModelProto) else os.fspath(path)
    try:
        model = path if isinstance(path, onnx.ModelProto) else onnx.load_model(what)
    except OSError:
        raise
    except Exception as error:  # protobuf's own errors
        raise FileError(f"{what} is no ONNX model, or is damaged ({type(error).__name__})") from None
    backend = backend_of_namespace(np if xp is None else xp)
    reader = _Reader(model, str(what), backend)
    if reader.opset > onnx.defs.onnx_opset_version():
        raise FileError(
            f"{what} is of opset {reader.opset}, and onnx {onnx.__version__} knows those up to {onnx.defs.onnx_opset_version()}"
        )
    if model.ByteSize() < 1 << 31 and all(
        o.type.tensor_type.HasField("shape") for o in model.graph.output
    ):  # without, the checker says no more
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise FileError(f"{what} is no valid ONNX model: {' '.join(str(error).split())}") from None
    names = [x.name for x in reader.inputs]
    weights = {k: backend.from_numpy(v) for k, v in reader.constants.items() if v.dtype.kind == "f" and v.size > 1} if parameters else {}
    layout = {p.key: json.loads(p.value) for p in model.metadata_props if p.key in ("agnostic_ad.arguments", "agnostic_ad.results")}

    def run(*args: Any) -> Any:
        flat = trees.leaves(args[1:] if parameters else args)
        given = {**dict(zip(names, flat, strict=True)), **(args[0] if parameters else {})}
        some = next(iter(given.values()))
        reader.rules = some.level.rules(some.backend)
        found = reader.results(model.graph, {**reader.constants, **given})
        if "agnostic_ad.results" in layout:
            return trees.unflatten(trees.flatten(tree_of(layout["agnostic_ad.results"]))[1], found)
        return found[0] if len(found) == 1 else tuple(found)

    run.__name__ = model.graph.name or "onnx"
    specs: Any = tuple(map(reader.spec, reader.inputs))
    if "agnostic_ad.arguments" in layout:
        specs = trees.unflatten(trees.flatten(tree_of(layout["agnostic_ad.arguments"]))[1], specs)
    if not specs and not weights:
        raise UnsupportedError(f"from_onnx: {what} has no inputs: there is nothing to capture.")
    graph = capture(run, *([weights] if parameters else []), *specs, xp=backend)
    return (graph, weights) if parameters else graph
