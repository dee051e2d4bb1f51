"""ONNX's operators that hold graphs, as loops and branches of this package; see `onnx_operators`."""

from __future__ import annotations

from typing import Any

from agnostic_ad.graph import control
from agnostic_ad.graph.onnx_operators import operator

__all__ = ["INSIDE"]

INSIDE = ("If", "Loop", "Scan")
"""Their names."""


def _unpacked(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else tuple(found)


@operator("If")
def _if(n: Any, condition: Any) -> Any:
    condition = n.xp.reshape(condition, ())
    return _unpacked(control.cond(condition, lambda: n.inside("then_branch"), lambda: n.inside("else_branch")))


@operator("Loop")
def _loop(n: Any, trips: Any, condition: Any, *carry: Any) -> Any:
    if len(n.get("body").output) > len(carry) + 1:
        raise n.unsupported("with stacked results is not read; Scan is")
    start = n.reader.lift(0), n.xp.reshape(condition, ()) if condition is not None else n.reader.lift(True)

    def more(state: Any) -> Any:
        return state[1] if trips is None else n.xp.logical_and(state[1], state[0] < n.xp.reshape(trips, ()))

    def body(state: Any) -> Any:
        go, *rest = n.inside("body", state)
        return (state[0] + 1, n.xp.reshape(go, ()), *rest)

    return _unpacked(list(control.while_loop(more, body, (*start, *carry))[2:]))


@operator("Scan")
def _scan(n: Any, *args: Any) -> Any:
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
