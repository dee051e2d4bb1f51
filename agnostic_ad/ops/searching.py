"""Searching functions."""

from __future__ import annotations

from typing import Any

from agnostic_ad.errors import UnsupportedError
from agnostic_ad.families import broadcast_shapes, elementwise, reduction, result_dtype
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.samples import Operand, case, integers

where = elementwise(
    "where",
    None,
    lambda xp, ct, condition: xp.where(condition, ct, xp.zeros_like(ct)),
    lambda xp, ct, condition: xp.where(condition, xp.zeros_like(ct), ct),
    signature="condition, x1, x2, /",
    kinds="bifc",
)
where.abstract = lambda xp, args, params: ShapeDtype(broadcast_shapes(*(a.shape for a in args)), result_dtype(xp, args[1:]))

_ARG = "x, /, *, axis=None, keepdims=False"
argmax = reduction("argmax", signature=_ARG, result="index", single=True, kinds="if")
argmin = reduction("argmin", signature=_ARG, result="index", single=True, kinds="if")


def counted_by_data(what: str, instead: str) -> UnsupportedError:
    """Give the error for a function whose result has a shape that depends on values."""
    return UnsupportedError(
        f"{what} gives an array whose shape depends on the data; inside vmap and graph capture shapes are fixed. "
        f"Use {instead}, which keeps the shape."
    )


def _refuse_nonzero(*_: Any) -> Any:
    raise counted_by_data("nonzero", "xp.where(condition, x, y)")


nonzero = Op(
    "nonzero",
    "x, /",
    ["x"],
    batch=_refuse_nonzero,
    abstract=_refuse_nonzero,
    cases=[case((2, 3), dynamic=True), case((3,), dynamic=True), case((0,), dynamic=True)],
)
searchsorted = Op(
    "searchsorted",
    "x1, x2, /, *, side='left', sorter=None",
    ["x1", "x2", "sorter"],
    scalars=True,
    abstract=lambda xp, args, params: ShapeDtype(args[1].shape, xp.default("indexing")),
    cases=[
        case(Operand((1,)), (2, 3), None, kinds="if"),
        case(Operand((0,)), (2,), None, kinds="f", side="right"),
        case((4,), (3,), integers((4,), 0, 0), kinds="f"),
    ],
)
