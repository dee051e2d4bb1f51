"""The operations that run graphs: ``graph.cond``, ``graph.while_loop`` and ``graph.scan``.

Their operands and results are flat; the graphs are among their parameters. Derivatives and batches are in ``agnostic_ad/controlrules.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from agnostic_ad.backends.base import Backend
from agnostic_ad.graph import sizes
from agnostic_ad.graph.branches import spec_of
from agnostic_ad.graph.capture import TraceLevel
from agnostic_ad.graph.ir import Graph, executors
from agnostic_ad.graph.rounds import fresh, is_rounds, new_rounds
from agnostic_ad.levels import TAKES, Level, device_of
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op

__all__ = ["CALL", "COND", "SCAN", "WHILE", "ControlOp"]


class ControlOp(Op):
    """An operation that runs the graphs among its parameters. Its operands and results are flat; what they are for, its parameters say."""

    __slots__ = ()
    rules: ClassVar[dict[type[Level], Callable[..., Any]]] = {}
    """``(op, level, args, params) -> results`` by the kind of the level."""

    def run(self, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute at the deepest level among the operands; inside a branch that is being captured, they belong to it."""
        take = TAKES.get()
        return super().run(args if take is None else tuple(map(take, args)), params)

    def run_at(self, level: Level | None, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute at ``level``; None for raw arrays."""
        rule = self.rules.get(type(level)) if level is not None else None
        if rule is not None:
            return rule(self, level, args, params)
        if isinstance(level, TraceLevel):
            params = {**params, "pull": None}  # is of the tape that is around
        return super().run_at(level, args, params)


def _run_cond(xp: Any, pred: Any, *operands: Any, true: Graph, false: Graph, pull: Any = None) -> Any:
    return tuple(executors().execute(true if bool(pred) else false, operands))


def _run_call(xp: Any, *arrays: Any, graph: Graph, pull: Any = None) -> Any:
    return tuple(executors().execute(graph, arrays))


def _run_while(xp: Any, *arrays: Any, cond: Graph, body: Graph, carries: int, pull: Any = None) -> Any:
    consts, carry = arrays[: len(arrays) - carries], arrays[len(arrays) - carries :]
    rows: list[Any] = []
    test, step = (executors().runner(g, arrays) for g in (cond, body))
    while bool(test(*consts, *carry)[0]):
        y = step(*consts, *carry)
        carry = y[:carries]
        rows.append(y[carries:])
    return (*carry, *_stacked(xp, rows, body, carries, arrays))


def _run_scan(xp: Any, *arrays: Any, body: Graph, consts: int, carries: int, length: Any, reverse: bool, pull: Any = None) -> Any:
    given, carry, xs = arrays[:consts], arrays[consts : consts + carries], arrays[consts + carries :]
    count = int(xs[0].shape[0] if xs else length)
    rows: list[Any] = [()] * count
    step = executors().runner(body, (*given, *carry, *(x[0, ...] for x in xs))) if count else body
    for i in range(count)[::-1] if reverse else range(count):
        y = step(*given, *carry, *(x[i, ...] for x in xs))
        carry = y[:carries]
        rows[i] = y[carries:]
    return (*carry, *_stacked(xp, rows, body, carries, arrays))


def _stacked(xp: Any, rows: Sequence[Any], body: Graph, carries: int, arrays: Sequence[Any]) -> list[Any]:
    """Stack what the rounds gave; with no round, there is the shape of one."""
    specs = [spec_of(o) for o in body.outputs[carries:]]
    if rows:
        return [xp.stack(_of_one_shape(xp, [row[i] for row in rows])) for i in range(len(specs))]
    bound = body.bindings([*arrays][: len(body.inputs)]) if body.dynamic and len(arrays) == len(body.inputs) else {}
    return [xp.zeros((0, *sizes.evaluate(s.shape, bound)), dtype=s.dtype, device=device_of(arrays[0])) for s in specs]


def _of_one_shape(xp: Any, rows: list[Any]) -> list[Any]:
    """Fill up rows of loops inside a loop, which took different numbers of rounds: with zeros, which say that a round was not done."""
    if len({tuple(row.shape) for row in rows}) == 1:
        return rows
    for axis, n in enumerate(max(found) for found in zip(*(row.shape for row in rows), strict=True)):
        for i, row in enumerate(rows):
            if row.shape[axis] < n:
                rest = (*row.shape[:axis], n - row.shape[axis], *row.shape[axis + 1 :])
                rows[i] = xp.concat([row, xp.zeros(rest, dtype=row.dtype, device=device_of(row))], axis=axis)
    return rows


def _abstract_cond(xp: Any, args: Any, params: dict[str, Any]) -> Any:
    pairs = zip(*(map(spec_of, params[branch].outputs) for branch in ("true", "false")), strict=True)
    shapes = [[n if is_rounds(n) else m for m, n in zip(a.shape, b.shape, strict=True)] for a, b in pairs]
    return tuple(ShapeDtype(fresh(shape), spec_of(o).dtype) for shape, o in zip(shapes, params["true"].outputs, strict=True))


def _abstract_call(xp: Any, args: Any, params: dict[str, Any]) -> Any:
    return tuple(ShapeDtype(fresh(s.shape), s.dtype) for s in map(spec_of, params["graph"].outputs))


def _abstract_while(xp: Any, args: Any, params: dict[str, Any]) -> Any:
    specs, carries = [spec_of(o) for o in params["body"].outputs], params["carries"]
    return (*specs[:carries], *(ShapeDtype((new_rounds(), *fresh(s.shape)), s.dtype) for s in specs[carries:]))


def _abstract_scan(xp: Any, args: Any, params: dict[str, Any]) -> Any:
    specs, first = [spec_of(o) for o in params["body"].outputs], params["consts"] + params["carries"]
    count = args[first].shape[0] if len(args) > first else params["length"]
    return (*specs[: params["carries"]], *(ShapeDtype((count, *fresh(s.shape)), s.dtype) for s in specs[params["carries"] :]))


def _control(name: str, params: str, run: Callable[..., Any], abstract: Callable[..., Any]) -> ControlOp:
    Backend.fallbacks[name] = run
    return ControlOp(name, f"*arrays, {params}, pull=None", ["*arrays"], abstract=abstract)


COND = _control("graph.cond", "true, false", _run_cond, _abstract_cond)
"""Operands: the condition, and what both graphs take."""
WHILE = _control("graph.while_loop", "cond, body, carries", _run_while, _abstract_while)
"""Operands: what stays, and what is carried (the last ``carries``). Further results of the body are stacked."""
SCAN = _control("graph.scan", "body, consts, carries, length=None, reverse=False", _run_scan, _abstract_scan)
"""Operands: what stays (``consts`` of them), what is carried (``carries``), and what is taken apart. Further results of the body are stacked."""
CALL = _control("graph.call", "graph", _run_call, _abstract_call)
"""A function with a derivative rule of a user's: the rule is an attribute of the graph, and is lost in a file."""
