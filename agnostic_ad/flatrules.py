"""What user-written derivative rules have in common: rules on flat lists of arrays.

A rule is one node on the tape; under ``vmap`` it becomes a rule for whole batches, so that it survives batching.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import optree

from agnostic_ad import trees
from agnostic_ad.arguments import is_array, zeros
from agnostic_ad.batching import BatchLevel
from agnostic_ad.errors import CustomRuleError, MissingRuleError
from agnostic_ad.forward import Dual, ForwardLevel
from agnostic_ad.graph.branches import spec_from, stage
from agnostic_ad.graph.capture import TraceLevel
from agnostic_ad.graph.controlops import CALL
from agnostic_ad.levels import QUIET, TAKES, WATCHING, Array, Level, deepest, device_of, inexact, unify
from agnostic_ad.mapping import vmap
from agnostic_ad.reverse import ReverseLevel, Variable
from agnostic_ad.tape import Node, Parts, Structural, make_node, watch
from agnostic_ad.transforms import vjp

__all__ = ["Call", "ForwardRule", "ReverseRule", "apply_rule", "creates_graph", "record"]

Arrays = Sequence[Any]


# --- on the tape -----------------------------------------------------------------------------------------------------------------------
_SPREAD = Structural("arguments", lambda node, saved, ct, position: ct[position])


def _run_pull(node: Node, saved: Any, ct: Any, position: int) -> Parts:
    (pull,) = saved
    return Parts(pull(ct))


def record(level: ReverseLevel, name: str, parents: tuple[Node | None, ...], results: Arrays, pull: Callable[..., Any]) -> list[Any]:
    """Put one node on the tape for a function with several arguments and results; give the results (payloads) as Variables.

    ``pull`` takes the cotangents of the results, filled up with zeros, and gives those of the arguments, None for zero.
    """
    shapes = [(tuple(r.shape), r.dtype, device_of(r)) for r in results]

    def filled(cts: Any) -> Any:
        xp, given = unify([c for c in cts if c is not None])
        left = iter(given)
        return pull([xp.zeros(s, dtype=d, device=v) if c is None else next(left) for c, (s, d, v) in zip(cts, shapes, strict=True)])

    whole = make_node(Structural(name, _run_pull), (make_node(_SPREAD, parents, (), None),), (filled,), None)
    if WATCHING.get():
        watch(whole, (), ())
    level.nested = level.nested or any(isinstance(r, Array) for r in results)
    return list(level.wrap(tuple(results), whole))


def _payloads(level: Level, arrays: Arrays) -> list[Any]:
    return [x.payload if isinstance(x, Array) and x.level is level else x for x in arrays]


def _nodes(level: ReverseLevel, arrays: Arrays) -> tuple[Node | None, ...]:
    recording = level.depth > QUIET.get()
    return tuple(x.node if recording and isinstance(x, Variable) and x.level is level else None for x in arrays)


def creates_graph(level: ReverseLevel, cts: Arrays) -> bool:
    """Tell whether a backward pass computes with Variables of ``level``, to be differentiated again."""
    return any(isinstance(c, Variable) and c.level is level for c in cts)


def _no_foreigners(level: ReverseLevel, name: str, results: Arrays) -> None:
    for r in results:
        if isinstance(r, Variable) and r.level is level:
            raise CustomRuleError(
                f"{name} uses an array of {level.label} that is none of its arguments, so its rule cannot give a derivative for it. "
                "Pass the array as an argument."
            )


def _fitted(name: str, found: Arrays, arrays: Arrays) -> list[Any]:
    """Refuse cotangents of the wrong kind or shape; cast those of the wrong dtype."""
    out: list[Any] = []
    for position, (ct, x) in enumerate(zip(found, arrays, strict=True)):
        if ct is None or not inexact(x):
            out.append(None)
            continue
        if not is_array(ct) or tuple(ct.shape) != tuple(x.shape):
            what = f"shape {tuple(ct.shape)}" if is_array(ct) else f"{type(ct).__name__}"
            raise CustomRuleError(f"{name}: the rule gave {what} for array {position} of the arguments, which has shape {tuple(x.shape)}")
        if ct.dtype != x.dtype:
            xp, (ct,) = unify([ct])
            ct = xp.astype(ct, x.dtype)
        out.append(ct)
    return out


# --- rules on flat lists ----------------------------------------------------------------------------------------------------------------
class ReverseRule:
    """A function with a reverse rule.

    ``f(arrays) -> results``; ``fwd(arrays) -> (results, residual arrays)``; ``bwd(residuals, cts) -> cotangents``, None for zero.
    """

    def __init__(self, name: str, f: Callable[..., Any], fwd: Callable[..., Any], bwd: Callable[..., Any], reconnect: Any = None) -> None:
        self.name, self.f, self.fwd, self.bwd, self.reconnect = name, f, fwd, bwd, reconnect

    def reverse(self, level: ReverseLevel, arrays: Arrays) -> list[Any]:
        payloads, parents = _payloads(level, arrays), _nodes(level, arrays)
        results, residuals = self.fwd(payloads)
        _no_foreigners(level, self.name, results)
        if not any(parents):
            return [level.variable(r, None) for r in results]

        def pull(cts: list[Any]) -> list[Any]:
            kept, given = residuals, payloads
            if creates_graph(level, cts):
                given = [level.variable(a, p) for a, p in zip(payloads, parents, strict=True)]
                kept = self.reconnect(residuals, payloads, given) if self.reconnect else self.fwd(given)[1]
            return _fitted(self.name, self.bwd(kept, cts), given)

        return record(level, self.name, parents, results, pull)

    def forward(self, level: ForwardLevel, arrays: Arrays) -> list[Any]:
        if any(x.tangent is not None for x in arrays if isinstance(x, Dual) and x.level is level):
            raise MissingRuleError(
                f"{self.name} has no forward derivative; reached inside {level.label}. Its rule is for reverse mode: use grad, vjp or "
                "jacrev, or define the function with custom_jvp, whose rule serves both."
            )
        return [level.lift(r) for r in self.f(_payloads(level, arrays))]

    def batched(self, flags: Sequence[bool]) -> ReverseRule:
        axes = tuple(0 if f else None for f in flags)

        def bwd(residuals: Arrays, cts: Arrays) -> list[Any]:
            none: list[bool] = []

            def one(residuals: Arrays, cts: Arrays) -> list[Any]:
                found = self.bwd(residuals, cts)
                none[:] = [ct is None for ct in found]
                return [ct for ct in found if ct is not None]

            given = iter(vmap(one)(list(residuals), list(cts)))
            out = [None if n else next(given) for n in none]
            return [ct if ct is None or f else unify([ct])[0].sum(ct, axis=0) for ct, f in zip(out, flags, strict=True)]

        return ReverseRule(
            self.name,
            lambda arrays: vmap(lambda *xs: list(self.f(xs)), axes)(*arrays),
            lambda arrays: vmap(lambda *xs: tuple(map(list, self.fwd(xs))), axes)(*arrays),
            bwd,
        )


class ForwardRule:
    """A function with a forward rule: ``f(arrays) -> results``; ``jvp(arrays, tangents) -> (results, tangents)``."""

    def __init__(self, name: str, f: Callable[..., Any], jvp: Callable[..., Any]) -> None:
        self.name, self.f, self.jvp = name, f, jvp

    def reverse(self, level: ReverseLevel, arrays: Arrays) -> list[Any]:
        payloads, parents = _payloads(level, arrays), _nodes(level, arrays)
        results = self.f(payloads)
        _no_foreigners(level, self.name, results)
        if not any(parents):
            return [level.variable(r, None) for r in results]
        moving = [i for i, p in enumerate(parents) if p is not None]

        def pull(cts: list[Any]) -> list[Any]:
            given = [level.variable(a, p) for a, p in zip(payloads, parents, strict=True)] if creates_graph(level, cts) else payloads

            def tangents_of(*moved: Any) -> Any:
                ts = [zeros(a) for a in given]
                for i, t in zip(moving, moved, strict=True):
                    ts[i] = t
                return list(self.jvp(given, ts)[1])

            _, transpose = vjp(tangents_of, *(zeros(given[i]) for i in moving))
            out: list[Any] = [None] * len(payloads)
            for i, ct in zip(moving, transpose(list(cts)), strict=True):
                out[i] = ct
            return out

        return record(level, self.name, parents, results, pull)

    def forward(self, level: ForwardLevel, arrays: Arrays) -> list[Any]:
        payloads = _payloads(level, arrays)
        tangents = [x.tangent if isinstance(x, Dual) and x.level is level else None for x in arrays]
        if all(t is None for t in tangents):
            return [level.lift(r) for r in self.f(payloads)]
        results, moved = self.jvp(payloads, [zeros(a) if t is None else t for a, t in zip(payloads, tangents, strict=True)])
        return [level.dual(r, t) for r, t in zip(results, moved, strict=True)]

    def batched(self, flags: Sequence[bool]) -> ForwardRule:
        axes = tuple(0 if f else None for f in flags)
        return ForwardRule(
            self.name,
            lambda arrays: vmap(lambda *xs: list(self.f(xs)), axes)(*arrays),
            lambda arrays, tangents: vmap(lambda xs, ts: tuple(map(list, self.jvp(xs, ts))), (axes, axes))(tuple(arrays), tuple(tangents)),
        )


def apply_rule(rule: Any, arrays: Arrays) -> list[Any]:
    """Run a rule at the deepest level among its arrays."""
    take = TAKES.get()
    if take is not None:
        arrays = list(map(take, arrays))
    level = deepest(arrays)
    if isinstance(level, ReverseLevel):
        return rule.reverse(level, arrays)  # type: ignore[no-any-return]
    if isinstance(level, ForwardLevel):
        return rule.forward(level, arrays)  # type: ignore[no-any-return]
    if isinstance(level, BatchLevel):
        flags = [isinstance(x, Array) and x.level is level and bool(getattr(x, "batched", False)) for x in arrays]
        results = apply_rule(rule.batched(flags) if any(flags) else rule, _payloads(level, arrays))
        return [level.batched(r, any(flags)) for r in results]
    return _noted(rule, level, arrays) if isinstance(level, TraceLevel) else list(rule.f(arrays))


def _noted(rule: Any, level: TraceLevel, arrays: Arrays) -> list[Any]:
    """Note a function in a graph, with its rule: a derivative of the graph may be asked for later."""
    made = stage(lambda *xs: tuple(rule.f(xs)), rule.name, level.backend, [(spec_from(x), device_of(x)) for x in arrays])
    made.graph.rule = None if made.outer else rule
    return list(CALL.run((*arrays, *made.outer), {"graph": made.graph, "pull": None}))


class Call:
    """One call of a user's function: its static arguments, and the structures that come to light while it runs."""

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name = name
        self.leaves, self.spec = trees.flatten(args)
        self.places = [i for i, x in enumerate(self.leaves) if is_array(x)]
        self.out_spec: Any = None

    @property
    def arrays(self) -> list[Any]:
        return [self.leaves[i] for i in self.places]

    def args(self, arrays: Arrays) -> Any:
        """Put arrays back among the arguments."""
        full = list(self.leaves)
        for i, x in zip(self.places, arrays, strict=True):
            full[i] = x
        return trees.unflatten(self.spec, full)

    def results(self, y: Any) -> list[Any]:
        """Give the output's leaves as arrays."""
        flat, self.out_spec = trees.flatten(y)
        bad = next((r for r in flat if not is_array(r)), None)
        if bad is not None:
            raise CustomRuleError(f"{self.name} returns arrays; got {type(bad).__name__}")
        return flat

    def output(self, results: Arrays) -> Any:
        """Give the output's structure back."""
        return trees.unflatten(self.out_spec, results)

    def cotangents(self, found: Any) -> list[Any]:
        """Give what a reverse rule returned, one entry an array of the arguments."""
        arguments = optree.treespec_children(self.spec)
        found = found if isinstance(found, tuple | list) else (found,)
        if len(found) != len(arguments):
            raise CustomRuleError(f"{self.name}: the rule returned {len(found)} cotangents for {len(arguments)} arguments")
        flat: list[Any] = []
        for position, (ct, argument) in enumerate(zip(found, arguments, strict=True)):
            leaves = [None] * argument.num_leaves if ct is None else trees.leaves(ct)
            if len(leaves) < argument.num_leaves:  # None in place of some arrays?
                with contextlib.suppress(ValueError, TypeError):
                    leaves = argument.flatten_up_to(ct)
            if len(leaves) != argument.num_leaves:
                raise CustomRuleError(
                    f"{self.name}: the rule returned {len(leaves)} cotangents for argument {position}, which holds {argument.num_leaves} arrays"
                )
            flat += leaves
        return [flat[i] for i in self.places]
