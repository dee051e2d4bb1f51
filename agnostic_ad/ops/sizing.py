"""Numbers and ranges made of sizes, as operations: what creation functions become in a graph whose axes may have any size."""

from __future__ import annotations

from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import ZERO, Op
from agnostic_ad.samples import case


def _count(start: Any, stop: Any, step: Any) -> Any:
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        count = (stop - start + step - (1 if step > 0 else -1)) // step
        return count if count > 0 else 0
    raise TypeError(f"arange: from {start!r} to {stop!r} by {step!r} in a graph takes integers and sizes")


number_like = Op(
    "number_like",
    "like, /, value",
    ["like"],
    vjps=[ZERO],
    jvps=[ZERO],
    batch=lambda xp, size, args, batched, params: xp.number_like(args[0], **params),
    abstract=lambda xp, args, params: args[0],
    cases=[case((), value=3), case((2, 3), kinds="if", value=-2), case((), kinds="f", value=0.5)],
)
arange_like = Op(
    "arange_like",
    "like, /, start, stop, step",
    ["like"],
    vjps=[ZERO],
    jvps=[ZERO],
    batch=lambda xp, size, args, batched, params: xp.broadcast_to(
        xp.arange_like(args[0][0, ...], **params), (size, _count(*(params[p] for p in ("start", "stop", "step"))))
    ),
    abstract=lambda xp, args, params: ShapeDtype((_count(params["start"], params["stop"], params["step"]),), args[0].dtype),
    cases=[
        case((), kinds="if", start=0, stop=4, step=1),
        case((), kinds="if", start=5, stop=0, step=-2),
        case((), kinds="if", start=2, stop=2, step=1),
    ],
)

Backend.fallbacks["number_like"] = lambda xp, like, value: xp.full(tuple(like.shape), value, dtype=like.dtype, device=xp.device(like))
Backend.fallbacks["arange_like"] = lambda xp, like, start, stop, step: xp.arange(
    start, stop, step, dtype=like.dtype, device=xp.device(like)
)
