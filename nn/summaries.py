"""Tables of a model's layers: shapes, parameters, multiply-adds. Nothing is computed: the model runs on arrays that have shapes only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agnostic_ad import trees
from agnostic_ad.config import place
from agnostic_ad.graph import GraphNode, ShapeDtype
from agnostic_ad.graph.capture import Output, TraceLevel
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import is_lazy
from agnostic_ad.nn.stateless import functional_call

__all__ = ["Summary", "summary"]

Shape = tuple[int, ...]


def _rows_times_weights(x: Shape, *weights: Shape) -> int:
    """Count what each position of a sequence costs that meets every weight once."""
    return math.prod(x[:-1]) * sum(math.prod(w) for w in weights if len(w) == 2)


MULTIPLY_ADDS: dict[str, Callable[..., int]] = {
    "matmul": lambda y, a, b: math.prod(y) * a[-1],
    "linalg.matmul": lambda y, a, b: math.prod(y) * a[-1],
    "nn.linear": lambda y, x, weight, *bias: math.prod(y) * weight[1],
    "nn.conv": lambda y, x, weight, *bias: math.prod(y) * math.prod(weight[1:]),
    "nn.conv_input": lambda y, x, weight: math.prod(x) * math.prod(weight[1:]),
    "nn.conv_weight": lambda y, x, ct: math.prod(ct) * math.prod(y[1:]),
    "nn.attention": lambda y, q, k, v, *masks: math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1]),
    "nn.rnn": lambda y, x, h, *weights: _rows_times_weights(x, *weights),
    "nn.gru": lambda y, x, h, *weights: _rows_times_weights(x, *weights),
    "nn.lstm": lambda y, x, h, c, *weights: _rows_times_weights(x, *weights),
}
"""For each operation that multiplies and adds: how often, from the shapes of its first result and its operands."""


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes
    ----------
    path : str
        Its name in the model; empty for the model itself.
    type : str
        Its class.
    output : tuple of int, list of them, or None
        The shape of what it gave, the last time; a list where that was several arrays; None where it was not called.
    parameters, trainable : int
        The elements of its own parameters, and of those that require grad; shared ones count for the first layer that has them.
    multiply_adds : int
        What it did itself, in all its calls; what the layers below it did counts for those.
    """

    path: str
    type: str
    output: Any
    parameters: int
    trainable: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """What `summary` gives; it prints as a table.

    Attributes
    ----------
    rows : tuple of Row
        The model first, then every layer, in the order of `Module.named_modules`.
    """

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """The number of parameters' elements."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """How many of them require grad."""
        return sum(row.trainable for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of one call."""
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        lines = [("layer", "type", "output shape", "parameters", "multiply-adds")]
        for row in self.rows:
            depth = row.path.count(".") + bool(row.path)
            shape = "-" if row.output is None else str(row.output)
            counts = (f"{n:,}" if n else "-" for n in (row.parameters, row.multiply_adds))
            lines.append((f"{'  ' * depth}{row.path.rpartition('.')[2]}", row.type, shape, *counts))  # type: ignore[arg-type]
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        text = ["  ".join(cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))) for line in lines]
        rule = "-" * (sum(widths) + 8)
        totals = [
            f"parameters: {self.parameters:,}, of which {self.trainable:,} are trained",
            f"multiply-adds: {self.multiply_adds:,}",
        ]
        return "\n".join([text[0].rstrip(), rule, *(line.rstrip() for line in text[1:]), rule, *totals])

    __repr__ = __str__


def summary(model: Module, input_shape: Any, dtypes: Any = None) -> Summary:
    """Give a table of a model's layers, without computing anything.

    The model is called once, in evaluation mode, on arrays that have a shape and a dtype and no values; its parameters are replaced by such
    arrays too, so memory stays flat, whatever the sizes. Layers that choose by value cannot be called that way, and say so.

    Multiply-adds are those of matrix products, linear maps, convolutions, attention and recurrent layers: the products in their sums, biases
    not counted. What goes element by element, sums, and normalization count nothing.

    Parameters
    ----------
    model : Module
        The model. It is as before afterwards, except that lazy layers know their sizes.
    input_shape : tuple of int, or list of them
        The shape of the input, the batch axis included; one for each argument.
    dtypes : dtype, or list of them, optional
        Of the inputs; by default that of the first floating parameter.

    Returns
    -------
    Summary

    Examples
    --------
    >>> from agnostic_ad import nn
    >>> nn.summary(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)), (8, 1, 8, 8))
    layer  type        output shape  parameters  multiply-adds
    ----------------------------------------------------------
           Sequential  (8, 10)                -              -
      0    Conv2d      (8, 4, 6, 6)          40         10,368
      1    ReLU        (8, 4, 6, 6)           -              -
      2    Flatten     (8, 144)               -              -
      3    Linear      (8, 10)            1,450         11,520
    ----------------------------------------------------------
    parameters: 1,490, of which 1,490 are trained
    multiply-adds: 21,888
    """
    shapes = _shapes(input_shape)
    own = {name: v for name, v in (*model.named_parameters(), *model.named_buffers()) if not is_lazy(v)}
    like = next((v for v in own.values() if backend_of(v.payload).kind(v.dtype) == "f"), None)
    where = place() if like is None else place(like.backend.xp, like.dtype, like.device)
    backend = where.backend
    assert backend is not None
    kinds = list(dtypes) if isinstance(dtypes, list | tuple) else [dtypes] * len(shapes)
    if len(kinds) != len(shapes):
        raise ValueError(f"summary: {len(kinds)} dtypes for {len(shapes)} inputs")
    level = TraceLevel(f"summary({type(model).__name__})", backend)
    calls = _Calls(level)
    with level, _evaluating(model), calls.of(model):
        inputs = [
            level.input(ShapeDtype(shape, where.dtype if dtype is None else backend.dtype(dtype)), where.device, i)
            for i, (shape, dtype) in enumerate(zip(shapes, kinds, strict=True))
        ]
        values = {name: level.input(ShapeDtype(v.shape, v.dtype), v.device, i) for i, (name, v) in enumerate(own.items(), len(inputs))}
        functional_call(model, values, tuple(inputs))
    seen: set[int] = set()
    return Summary(tuple(calls.row(path, module, seen) for path, module in model.named_modules()))


def _shapes(given: Any) -> list[Shape]:
    """Give the shapes of the inputs; of a single one too."""
    many = [given] if all(isinstance(n, int) for n in given) else list(given)
    for shape in many:
        if not isinstance(shape, tuple | list) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"summary: a shape is a tuple of sizes, not {shape!r}")
    return [tuple(shape) for shape in many]


@contextmanager
def _evaluating(model: Module) -> Iterator[None]:
    """Set evaluation mode for a while."""
    before = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for m, training in before:
            m.training = training


class _Calls:
    """What hooks see of one run of a model."""

    def __init__(self, level: TraceLevel) -> None:
        self.level = level
        self.open: list[Module] = []
        self.outputs: dict[Module, Any] = {}
        self.work: dict[Module, int] = {}
        self.looked = 0

    @contextmanager
    def of(self, model: Module) -> Iterator[None]:
        """Watch a model and its layers for a while."""
        modules = list(model.modules())
        handles = [m.register_forward_pre_hook(self.enter) for m in modules] + [m.register_forward_hook(self.leave) for m in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, module: Module, args: Any) -> None:
        """Begin a call."""
        self.count()
        self.open.append(module)

    def leave(self, module: Module, args: Any, result: Any) -> None:
        """End a call."""
        self.count()
        self.open.pop()
        shapes = [tuple(x.shape) for x in trees.leaves(result) if isinstance(x, Array)]
        self.outputs[module] = shapes[0] if len(shapes) == 1 else shapes

    def count(self) -> None:
        """Ascribe the operations since the last look to the layer that is running."""
        new, self.looked = self.level.nodes[self.looked :], len(self.level.nodes)
        if self.open:
            self.work[self.open[-1]] = self.work.get(self.open[-1], 0) + sum(map(_multiply_adds, new))

    def row(self, path: str, module: Module, seen: set[int]) -> Row:
        """Give the row of a layer."""
        own = [p for p in module._parameters.values() if p is not None and id(p) not in seen and not is_lazy(p)]
        seen.update(map(id, own))
        sizes = [(p.size, p.requires_grad) for p in own]
        return Row(
            path,
            type(module).__name__,
            self.outputs.get(module),
            sum(n for n, _ in sizes),
            sum(n for n, trained in sizes if trained),
            self.work.get(module, 0),
        )


def _multiply_adds(node: GraphNode) -> int:
    count = None if node.op is None else MULTIPLY_ADDS.get(node.op.name)
    return 0 if count is None else count(node.outputs[0].shape, *(_shape(x) for x in node.inputs if x is not None))


def _shape(x: Any) -> Shape:
    return x.node.outputs[x.index].shape if isinstance(x, Output) else tuple(x.shape)
