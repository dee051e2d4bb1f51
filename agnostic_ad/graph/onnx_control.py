"""ONNX's operators that hold graphs, as loops and branches of this package; see `onnx_operators`."""

from __future__ import annotations

from typing import Any

from agnostic_ad.graph import control
from agnostic_ad.graph.onnx_operators import operator
from agnostic_ad.levels import Array

__all__ = ["INSIDE"]

INSIDE = ("If", "Loop", "Scan")
"""Their names."""


def _unpacked(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


@operator("If")
def _if(n: Any, condition: Any) -> Any:
    if not isinstance(condition, Array):  # known now, from shapes: one branch is there, and the other need not fit
        return _unpacked(n.inside("then_branch" if condition.reshape(()) else "else_branch"))
    condition = n.xp.reshape(condition, ())
    return _unpacked(control.cond(condition, lambda: n.inside("then_branch"), lambda: n.inside("else_branch")))


@operator("Loop")
def _loop(n: Any, trips: Any, condition: Any, *carry: Any) -> Any:
    start = n.reader.lift(0), n.xp.reshape(condition, ()) if condition is not None else n.reader.lift(True)

    def more(state: Any) -> Any:
        return state[1] if trips is None else n.xp.logical_and(state[1], state[0] < n.xp.reshape(trips, ()))

    def body(state: Any) -> Any:
        go, *rest = n.inside("body", state)
        return (state[0] + 1, n.xp.reshape(go, ()), *rest)

    found = control.written_loop(lambda *xs: more(xs), lambda *xs: body(xs), (*start, *carry), start[0].backend)
    return _unpacked(list(found)[2:])


@operator("Scan")
def _scan(n: Any, *args: Any) -> Any:
    if n.opset < 9:
        raise n.unsupported("of an opset before 9 is not read")
    count = n.get("num_scan_inputs")
    carries = len(args) - count
    ways = {*n.get("scan_input_directions", [0] * count), *n.get("scan_output_directions", [0] * (n.outputs - carries))}
    if len(ways) > 1 or any(n.get("scan_input_axes", [])) or any(n.get("scan_output_axes", [])):
        raise n.unsupported("is read along axis 0, with one direction for all")

    def step(state: Any, rows: Any) -> Any:
        found = n.inside("body", (*state, *rows))
        return tuple(found[:carries]), tuple(found[carries:])

    state, stacked = control.scan(step, tuple(args[:carries]), tuple(args[carries:]), reverse=ways == {1})
    return _unpacked([*state, *stacked])
