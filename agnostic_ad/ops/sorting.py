"""Sorting functions: a sort is a gather by the sorting indices."""

from __future__ import annotations

from typing import Any

from agnostic_ad.families import composite, normalize_axis
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.samples import Free, case, strided

_SORT = "x, /, *, axis=-1, descending=False, stable=True"
_CASES = [
    case((2, 5), kinds="if", free=Free("same", {"axis": "axis", "descending": (False, True), "stable": (True,)}, least=1)),
    case((4, 2), kinds="if", axis=0, descending=True),
    case((3,), kinds="f", stable=False),
    case((2, 0), kinds="f"),
    case((1,), kinds="f", descending=True),
    case(strided((4,)), kinds="f", axis=-1),
]


def _prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    return args, {**params, "axis": normalize_axis(params["axis"], len(args[0].shape), "argsort")}


argsort = Op(
    "argsort",
    _SORT,
    ["x"],
    prepare=_prepare,
    batch=lambda xp, size, args, batched, params: xp.argsort(args[0], **{**params, "axis": params["axis"] + 1}),
    abstract=lambda xp, args, params: ShapeDtype(args[0].shape, xp.default("indexing")),
    cases=_CASES,
)


@composite("sort", _SORT, ["x"], cases=_CASES)
def sort(xp: Any, x: Any, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """Sort along an axis."""
    order = xp.argsort(x, axis=axis, descending=descending, stable=stable)
    return xp.take_along_axis(x, order, axis=axis)
