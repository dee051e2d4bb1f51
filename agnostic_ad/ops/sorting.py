"""Sorting functions: a sort is a gather by the sorting indices."""

from __future__ import annotations

from typing import Any

from agnostic_ad.families import composite, normalize_axis
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op

_SORT = "x, /, *, axis=-1, descending=False, stable=True"


def _prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    return args, {**params, "axis": normalize_axis(params["axis"], len(args[0].shape), "argsort")}


argsort = Op(
    "argsort",
    _SORT,
    ["x"],
    prepare=_prepare,
    batch=lambda xp, size, args, batched, params: xp.argsort(args[0], **{**params, "axis": params["axis"] + 1}),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, xp.default("indexing")),
    cases=("calls", [((2, 5), {}), ((4, 2), {"axis": 0, "descending": True})]),
)


@composite("sort", _SORT, ["x"], cases=("calls", [((2, 5), {}), ((4, 2), {"axis": 0, "descending": True})]))
def sort(xp: Any, x: Any, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """Sort along an axis."""
    order = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    return xp.take_along_axis(x, order, axis=axis)
