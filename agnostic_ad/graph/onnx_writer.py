"""ONNX operators, one by one: what a model is written with; see `onnx_export`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import count
from typing import Any

import numpy as np

from agnostic_ad.config import dtype_name
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.ir import Graph, GraphNode
from agnostic_ad.namespaces import lookup

__all__ = ["Operators", "Value"]

_FAR = (1 << 63) - 1
"""What a slice that goes to the end ends with."""


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


class Operators:
    """A model while its operators are written: what converters of `onnx_table` call.

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
        if not sizes.dynamic(tuple(values)):
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
        if self.out.dtype.startswith("float") and not any(n.startswith(("float", "bfloat")) for n in names):  # the quotient of integers
            return [self.cast(a, self.out.dtype) for a in args]
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

    def index(self, x: Any) -> Any:
        """Give indices in a dtype that operators take."""
        return x if x.dtype in ("int32", "int64") else self.cast(x, "int64")

    def scatter_add(self, x: Any, indices: Any, shape: Sequence[Any], size: Any, axis: int) -> Any:
        """Add slices along an axis into ``size`` zero ones; ``shape`` is that of the slices."""
        out = self.out.dtype
        wide = "float32" if out == "float16" else out  # ONNX Runtime adds no float16 here
        indices = self.op(
            "Expand", self.reshape(self.index(indices), [-1 if i == axis else 1 for i in range(len(shape))]), self.sizes(shape)
        )
        full = [size if i == axis else n for i, n in enumerate(shape)]
        given = x if wide == out else self.op("Cast", x, to=self.code(wide))
        y = self.op("ScatterElements", self.zeros(full, wide), indices, given, axis=axis, reduction="add")
        return self.cast(Value.of(y, full, wide), out)
