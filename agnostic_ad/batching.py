"""Batching: arrays with one axis more than the function sees, always kept in front."""

from __future__ import annotations

from typing import Any

from agnostic_ad.errors import MissingRuleError, UnsupportedError
from agnostic_ad.levels import Array, Level, check_alive, unify
from agnostic_ad.op import Op

__all__ = ["BatchLevel", "Batched"]


class Batched(Array):
    """An array with a hidden batch axis in front of ``payload``; without one where ``batched`` is False."""

    __slots__ = ("batched",)
    _state = ("payload", "batched")
    batched: bool

    @property
    def shape(self) -> tuple[Any, ...]:
        """The sizes of the axes that the function sees."""
        return tuple(self.payload.shape[1:] if self.batched else self.payload.shape)

    def carries_gradient(self) -> bool:
        """Tell whether dropping the wrapper would lose something: a batch, or a derivative underneath."""
        return self.batched or (isinstance(self.payload, Array) and self.payload.carries_gradient())

    def __bool__(self) -> bool:
        check_alive(self)
        if self.batched:
            raise UnsupportedError(
                f"bool() of an array batched by {self.level.label}: the members of the batch may differ. "
                "Write xp.where(condition, a, b) in place of `if`."
            )
        return super().__bool__()


class BatchLevel(Level):
    """One ``vmap`` while it runs.

    Attributes
    ----------
    size : int
        The length of the batch axis.
    """

    __slots__ = ("size",)
    fixed_shapes = True

    def __init__(self, label: str, size: int) -> None:
        super().__init__(label)
        self.size = size

    def batched(self, x: Any, batched: bool = True) -> Batched:
        """Make an array of this level."""
        b: Batched = object.__new__(Batched)
        b.payload, b.batched, b.level = x, batched, self
        return b

    def lift(self, x: Any) -> Batched:
        """Wrap an array that is the same for the whole batch."""
        return self.batched(x, False)

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute on whole batches."""
        mine = [isinstance(a, Batched) and a.level is self for a in args]
        flags = tuple(m and a.batched for a, m in zip(args, mine, strict=True))
        data = tuple(a.payload if m else a for a, m in zip(args, mine, strict=True))
        if not any(flags):
            y = op.run(data, params)
            return tuple(self.batched(part, False) for part in y) if isinstance(y, tuple) else self.batched(y, False)
        xp, lifted = unify(list(data))
        y = op.batch(xp, self.size, tuple(lifted), flags, params) if op.batch is not None else self._loop(op, xp, lifted, flags, params)
        return tuple(map(self.batched, y)) if isinstance(y, tuple) else self.batched(y)

    def _loop(self, op: Op, xp: Any, args: list[Any], flags: tuple[bool, ...], params: dict[str, Any]) -> Any:
        """Compute member by member: right for any op whose result has the same shape for each."""
        if self.size == 0:
            raise MissingRuleError(f"{op.name} has no batching rule, and a batch of size 0 has no member to compute with ({self.label})")
        rows = [op.run(tuple(a[i, ...] if f else a for a, f in zip(args, flags, strict=True)), params) for i in range(self.size)]
        parts = rows if isinstance(rows[0], tuple) else [(r,) for r in rows]
        if any(len({tuple(p[k].shape) for p in parts}) > 1 for k in range(len(parts[0]))):
            raise UnsupportedError(
                f"{op.name} gives results of different shapes for the members of a batch; it cannot run inside {self.label}"
            )
        stacked = tuple(xp.stack([p[k] for p in parts]) for k in range(len(parts[0])))
        return stacked if isinstance(rows[0], tuple) else stacked[0]
