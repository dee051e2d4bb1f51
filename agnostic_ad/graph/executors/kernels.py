"""A group of elementwise operations as code for one element, for those that compile it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agnostic_ad.backends.expressions import Expression, NoCodeError
from agnostic_ad.graph.ir import Graph, GraphNode, Output

__all__ = ["code_of", "floating", "spec_of", "summed"]

_POWERS: dict[float, Callable[[Any, Any], Any]] = {
    2.0: lambda xp, x: x * x,
    3.0: lambda xp, x: x * x * x,
    0.5: lambda xp, x: xp.sqrt(x),
    -1.0: lambda xp, x: xp.reciprocal(x),
}
_NAMES = {"nn.relu": "relu", "special.expit": "expit"}


def spec_of(x: Any) -> Any:
    """Give what is known of an operand."""
    return x.spec if isinstance(x, Output) else x


def floating(inner: Graph) -> Any:
    """Give the one floating dtype of a group, which has no other but booleans."""
    found = {x.outputs[0].dtype for x in (*inner.inputs, *inner.nodes) if x.outputs[0].dtype.kind != "b"}
    if len(found) != 1 or next(iter(found)).char not in "fd":
        raise NoCodeError("a loop has one floating dtype")
    return found.pop()


def code_of(inner: Graph, code: Any, formulas: Mapping[str, Callable[..., Any]], never: Sequence[str] = ()) -> tuple[Any, list[Any]]:
    """Give the code of one element of a group, and its constants that have axes: ``x0``, ..., behind the operands.

    Parameters
    ----------
    inner : Graph
        The group.
    code : Code
        Where to write it.
    formulas : mapping
        Operations by name, as functions of ``(xp, *operands)``.
    never : sequence of str
        Operations that are better left to the library.

    Raises
    ------
    NoCodeError
        Where there is no code for an operation or a dtype.
    """
    dtype, slots = floating(inner), list[Any]()
    values: dict[Any, Expression] = {Output(node, 0): Expression(code, f"x{i}") for i, node in enumerate(inner.inputs)}

    def operand(x: Any) -> Any:
        if isinstance(x, Output):
            return values[x]
        if not hasattr(x, "dtype") or x.dtype.kind == "b":
            return x
        if x.dtype != dtype:
            raise NoCodeError("a constant of another dtype")
        if not x.shape:
            return float(x)
        if not any(x is s for s in slots):
            slots.append(x)
        return Expression(code, f"x{len(inner.inputs) + next(i for i, s in enumerate(slots) if s is x)}")

    for member in inner.nodes:
        values[Output(member, 0)] = _expression(code, member, [operand(x) for x in member.inputs], formulas, never)
    code.results = [values[place].name for place in inner.outputs]
    return code, slots


def _expression(code: Any, node: GraphNode, given: list[Any], formulas: Any, never: Any) -> Expression:
    name = node.op.name
    if name in never:
        raise NoCodeError("the library's own is quicker")
    if name == "astype":
        source = node.inputs[0]
        kinds = spec_of(source).dtype.kind + node.outputs[0].dtype.kind
        found = code.astype(given[0]) if kinds == "bf" else code.positive(given[0]) if kinds == "ff" else code.not_equal(given[0], 0.0)
    elif name == "pow":
        power = given[1] if isinstance(given[1], int | float) else None
        if power not in _POWERS:
            raise NoCodeError("a power that is no product")
        found = _POWERS[power](code, given[0])
    elif name in formulas:
        found = formulas[name](code, *(x for x in given[:2] if x is not None))
    else:
        found = getattr(code, _NAMES.get(name, name))(*given)
    if node.params and name not in ("astype", "pow"):
        raise NoCodeError(f"{name} has parameters")
    return found  # type: ignore[no-any-return]


def summed(graph: Graph) -> dict[int, GraphNode]:
    """Give the sums of groups of which nothing else is wanted, by the groups' identities."""
    users, found = graph.users(), {}
    for node in graph.nodes:
        if node.op.name == "fused" and len(node.outputs) == 1 and Output(node, 0) not in graph.outputs:
            takers = [user for user, _ in users.get(Output(node, 0), [])]
            if len(takers) == 1 and takers[0].op.name == "sum" and takers[0].outputs[0].dtype == node.outputs[0].dtype:
                found[id(node)] = takers[0]
    return found
