"""Forward mode: dual numbers, a primal with its tangent."""

from __future__ import annotations

from typing import Any

from agnostic_ad.families import strong_product
from agnostic_ad.levels import STRONG, Array, Level, inexact, lift_to, unify
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.op import ZERO, Op

__all__ = ["Dual", "ForwardLevel"]


class Dual(Array):
    """A primal (``payload``) with its tangent, or None for a tangent of zero."""

    __slots__ = ("tangent",)
    _state = ("payload", "tangent")
    tangent: Any

    def carries_gradient(self) -> bool:
        """Tell whether dropping the wrapper would lose a derivative."""
        return self.tangent is not None or (isinstance(self.payload, Array) and self.payload.carries_gradient())


class ForwardLevel(Level):
    """A forward-mode transformation while it runs."""

    __slots__ = ()

    def dual(self, primal: Any, tangent: Any) -> Dual:
        """Make an array of this level."""
        x: Dual = object.__new__(Dual)
        x.payload, x.tangent, x.level = primal, tangent, self
        return x

    def lift(self, x: Any) -> Dual:
        """Wrap as a constant."""
        return self.dual(x, None)

    def apply(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Compute the primals, and push the tangents forward."""
        mine = [isinstance(a, Dual) and a.level is self for a in args]
        data = tuple(a.payload if m else a for a, m in zip(args, mine, strict=True))
        y = op.run(data, params)
        tangents: Any = tuple(a.tangent if m else None for a, m in zip(args, mine, strict=True))
        if not op.differentiable or all(t is None for t in tangents) or (not isinstance(y, tuple) and not inexact(y)):
            t: Any = None
        elif op.pushforward is not None:
            t = _joint(op, data, y, tangents, params)
        else:
            t = self._sum_of_rules(op, data, y, tangents, params)
        if isinstance(y, tuple):
            parts = (None,) * len(y) if t is None else t
            return tuple(self.dual(a, _cast(b, a)) for a, b in zip(y, parts, strict=True))
        return self.dual(y, _cast(t, y))

    def _sum_of_rules(self, op: Op, data: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
        saved = op.jvp_keep(data, y)
        total: Any = None
        for position, tangent in enumerate(tangents):
            if tangent is None:
                continue
            rule = op.jvps[position] if position < len(op.jvps) else None
            if rule is None:
                raise op.missing("forward derivative", position, self)
            if rule is ZERO:
                continue
            xp, (t, *rest) = unify([tangent, *saved])
            term: Any = rule(xp, t, tuple(rest), params)
            if op.elementwise and STRONG.get():
                xp, (t, term) = unify([t, term])
                term = strong_product(xp, t, term)
            if op.elementwise and tuple(term.shape) != tuple(y.shape):
                xp, (term,) = unify([term])
                term = xp.broadcast_to(term, y.shape)
            if total is not None:
                _, (total, term) = unify([total, term])
                term = total + term
            total = term
        return total


def _joint(op: Op, data: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    present = [t for t in tangents if t is not None]
    xp, lifted = unify([*present, *data])
    level = getattr(xp, "level", None)
    given = iter(lifted[: len(present)])
    filled = tuple(None if t is None else next(given) for t in tangents)
    if level is not None:
        y = tuple(lift_to(level, part) for part in y) if isinstance(y, tuple) else lift_to(level, y)
    assert op.pushforward is not None
    return op.pushforward(xp, tuple(lifted[len(present) :]), y, filled, params)


def _cast(t: Any, y: Any) -> Any:
    """Give a tangent in the dtype of its primal."""
    if t is None or t.dtype == y.dtype:
        return t
    xp, (t,) = unify([t])
    if t.dtype in COMPLEX and y.dtype not in COMPLEX:
        t = xp.real(t)
    return xp.astype(t, y.dtype)
