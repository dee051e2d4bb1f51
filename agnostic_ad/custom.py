"""Derivative rules that users write: ``custom_vjp``, ``custom_jvp`` and ``Function``; and ``checkpoint``.

Inside, each is a `Rule` on flat lists of arrays. A rule is one node on the tape; under ``vmap`` it becomes a rule for whole batches, so that
it survives batching.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import optree

from agnostic_ad import trees
from agnostic_ad.batching import BatchLevel
from agnostic_ad.errors import CustomRuleError, MissingRuleError
from agnostic_ad.forward import Dual, ForwardLevel
from agnostic_ad.levels import ABOVE_ALL, DEAD, FAST, QUIET, Array, Level, deepest, device_of, inexact, unify
from agnostic_ad.mapping import vmap
from agnostic_ad.modes import enable_grad
from agnostic_ad.namespaces import lookup
from agnostic_ad.reverse import ReverseLevel, Variable
from agnostic_ad.tape import Node, Parts, Structural, backward, make_node, next_number, watch
from agnostic_ad.transforms import vjp

__all__ = ["Function", "checkpoint", "custom_jvp", "custom_vjp"]

Arrays = Sequence[Any]


def _is_array(x: Any) -> bool:
    return isinstance(x, Array) or lookup(x) is not None


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
    if FAST.get() == ABOVE_ALL:
        watch(whole, (), ())
    level.nested = level.nested or any(isinstance(r, Array) for r in results)
    return list(level.wrap(tuple(results), whole))


def _payloads(level: Level, arrays: Arrays) -> list[Any]:
    return [x.payload if isinstance(x, Array) and x.level is level else x for x in arrays]


def _nodes(level: ReverseLevel, arrays: Arrays) -> tuple[Node | None, ...]:
    recording = level.depth > QUIET.get()
    return tuple(x.node if recording and isinstance(x, Variable) and x.level is level else None for x in arrays)


def _creates_graph(level: ReverseLevel, cts: Arrays) -> bool:
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
        if not _is_array(ct) or tuple(ct.shape) != tuple(x.shape):
            what = f"shape {tuple(ct.shape)}" if _is_array(ct) else f"{type(ct).__name__}"
            raise CustomRuleError(f"{name}: the rule gave {what} for array {position} of the arguments, which has shape {tuple(x.shape)}")
        if ct.dtype != x.dtype:
            xp, (ct,) = unify([ct])
            ct = xp.astype(ct, x.dtype)
        out.append(ct)
    return out


# --- rules on flat lists ----------------------------------------------------------------------------------------------------------------
class _Reverse:
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
            if _creates_graph(level, cts):
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

    def batched(self, flags: Sequence[bool]) -> _Reverse:
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

        return _Reverse(
            self.name,
            lambda arrays: vmap(lambda *xs: list(self.f(xs)), axes)(*arrays),
            lambda arrays: vmap(lambda *xs: tuple(map(list, self.fwd(xs))), axes)(*arrays),
            bwd,
        )


class _Forward:
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
            given = [level.variable(a, p) for a, p in zip(payloads, parents, strict=True)] if _creates_graph(level, cts) else payloads

            def tangents_of(*moved: Any) -> Any:
                ts = [_zeros(a) for a in given]
                for i, t in zip(moving, moved, strict=True):
                    ts[i] = t
                return list(self.jvp(given, ts)[1])

            _, transpose = vjp(tangents_of, *(_zeros(given[i]) for i in moving))
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
        results, moved = self.jvp(payloads, [_zeros(a) if t is None else t for a, t in zip(payloads, tangents, strict=True)])
        return [level.dual(r, t) for r, t in zip(results, moved, strict=True)]

    def batched(self, flags: Sequence[bool]) -> _Forward:
        axes = tuple(0 if f else None for f in flags)
        return _Forward(
            self.name,
            lambda arrays: vmap(lambda *xs: list(self.f(xs)), axes)(*arrays),
            lambda arrays, tangents: vmap(lambda xs, ts: tuple(map(list, self.jvp(xs, ts))), (axes, axes))(tuple(arrays), tuple(tangents)),
        )


def _zeros(x: Any) -> Any:
    xp, (x,) = unify([x])
    return xp.zeros_like(x)


def _apply(rule: Any, arrays: Arrays) -> list[Any]:
    """Run a rule at the deepest level among its arrays."""
    level = deepest(arrays)
    if isinstance(level, ReverseLevel):
        return rule.reverse(level, arrays)  # type: ignore[no-any-return]
    if isinstance(level, ForwardLevel):
        return rule.forward(level, arrays)  # type: ignore[no-any-return]
    if isinstance(level, BatchLevel):
        flags = [isinstance(x, Array) and x.level is level and bool(getattr(x, "batched", False)) for x in arrays]
        results = _apply(rule.batched(flags) if any(flags) else rule, _payloads(level, arrays))
        return [level.batched(r, any(flags)) for r in results]
    return list(rule.f(arrays))


class _Call:
    """One call of a user's function: its static arguments, and the structures that come to light while it runs."""

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name = name
        self.leaves, self.spec = trees.flatten(args)
        self.places = [i for i, x in enumerate(self.leaves) if _is_array(x)]
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
        bad = next((r for r in flat if not _is_array(r)), None)
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


# --- custom_vjp, custom_jvp -------------------------------------------------------------------------------------------------------------
class custom_vjp:
    """Give a function a reverse rule of its own.

    Parameters
    ----------
    f : callable
        Takes trees of arrays, and whatever else, as positional arguments; returns a tree of arrays. ``defvjp`` sets its rule.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> @ad.custom_vjp
    ... def clip_gradient(x):
    ...     return x
    >>> clip_gradient.defvjp(lambda x: (x, None), lambda residuals, ct: (ad.namespace(ct).clip(ct, -1.0, 1.0),))
    >>> ad.grad(lambda x: 5 * clip_gradient(x))(2.0)
    array(1.)
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        functools.update_wrapper(self, f)
        self.f = f
        self.fwd: Callable[..., Any] | None = None
        self.bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule.

        Parameters
        ----------
        fwd : callable
            Takes the arguments; returns ``(output, residuals)``, residuals a tree of anything.
        bwd : callable
            ``(residuals, cotangent of the output) -> tuple`` of one cotangent an argument, in its structure; None for zero.
        """
        self.fwd, self.bwd = fwd, bwd

    def __call__(self, *args: Any) -> Any:
        call = _Call(f"custom_vjp {getattr(self.f, '__name__', 'function')}", args)
        fwd, bwd = self.fwd, self.bwd
        if fwd is None or bwd is None:
            if deepest(call.arrays) is None:
                return self.f(*args)
            raise MissingRuleError(f"{call.name} has no rule yet: call its defvjp(fwd, bwd) first")
        spec: list[Any] = [None]
        static: list[Any] = []

        def flat_fwd(arrays: Arrays) -> Any:
            pair = fwd(*call.args(arrays))
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise CustomRuleError(f"{call.name}: fwd returns (output, residuals), not {type(pair).__name__}")
            kept, spec[0] = trees.flatten(pair[1])
            static[:] = [None if _is_array(r) else r for r in kept]
            return call.results(pair[0]), [r for r in kept if _is_array(r)]

        def flat_bwd(residuals: Arrays, cts: Arrays) -> Any:
            left = iter(residuals)
            kept = trees.unflatten(spec[0], [next(left) if s is None else s for s in static])
            return call.cotangents(bwd(kept, call.output(cts)))

        rule = _Reverse(call.name, lambda arrays: call.results(self.f(*call.args(arrays))), flat_fwd, flat_bwd)
        return call.output(_apply(rule, call.arrays))


class custom_jvp:
    """Give a function a forward rule of its own; reverse mode transposes it.

    Parameters
    ----------
    f : callable
        Takes trees of arrays, and whatever else, as positional arguments; returns a tree of arrays. ``defjvp`` sets its rule.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> @ad.custom_jvp
    ... def square(x):
    ...     return x * x
    >>> @square.defjvp
    ... def rule(primals, tangents):
    ...     return square(*primals), 2 * primals[0] * tangents[0]
    >>> ad.grad(square)(3.0), ad.jvp(square, (3.0,), (1.0,))[1]
    (array(6.), array(6.))
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        functools.update_wrapper(self, f)
        self.f = f
        self.rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule; also a decorator.

        Parameters
        ----------
        rule : callable
            ``(primals, tangents) -> (output, tangent of the output)``, both arguments tuples in the structure of the arguments. It must be
            linear in the tangents.
        """
        self.rule = rule
        return rule

    def __call__(self, *args: Any) -> Any:
        call = _Call(f"custom_jvp {getattr(self.f, '__name__', 'function')}", args)
        rule = self.rule
        if rule is None:
            if deepest(call.arrays) is None:
                return self.f(*args)
            raise MissingRuleError(f"{call.name} has no rule yet: call its defjvp(rule) first")

        def flat_jvp(arrays: Arrays, tangents: Arrays) -> Any:
            pair = rule(call.args(arrays), call.args(tangents))
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise CustomRuleError(f"{call.name}: the rule returns (output, tangent), not {type(pair).__name__}")
            results = call.results(pair[0])
            moved, spec = trees.flatten(pair[1])
            if spec != call.out_spec:
                raise CustomRuleError(f"{call.name}: the rule's tangent has structure {spec}, its output {call.out_spec}")
            for r, t in zip(results, moved, strict=True):
                if not _is_array(t) or tuple(t.shape) != tuple(r.shape):
                    what = f"shape {tuple(t.shape)}" if _is_array(t) else type(t).__name__
                    raise CustomRuleError(f"{call.name}: the rule's tangent has {what}, its output shape {tuple(r.shape)}")
            return results, moved

        flat = _Forward(call.name, lambda arrays: call.results(self.f(*call.args(arrays))), flat_jvp)
        return call.output(_apply(flat, call.arrays))


# --- Function ----------------------------------------------------------------------------------------------------------------------------
class Context:
    """What ``Function.forward`` leaves for ``Function.backward``.

    Attributes
    ----------
    saved_tensors : tuple
        What ``save_for_backward`` was given.
    needs_input_grad : tuple of bool
        Which arguments need a cotangent.
    """

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.saved_tensors: tuple[Any, ...] = ()
        self.needs_input_grad = needs_input_grad

    def save_for_backward(self, *arrays: Any) -> None:
        """Keep arrays (or None). Inputs and outputs kept this way can be differentiated a second time."""
        self.saved_tensors = arrays


class Function:
    """An operation with hand-written forward and backward, in PyTorch's form.

    Subclasses define ``forward(ctx, *args)`` and ``backward(ctx, *cotangents)`` as static methods; ``apply`` runs them. ``forward`` sees the
    arrays one level down (raw ones, outside any transformation).

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> class Exp(ad.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         y = ad.namespace(x).exp(x)
    ...         ctx.save_for_backward(y)
    ...         return y
    ...
    ...     @staticmethod
    ...     def backward(ctx, ct):
    ...         (y,) = ctx.saved_tensors
    ...         return ct * y
    >>> x = ad.Variable(np.zeros(2))
    >>> Exp.apply(x).sum().backward()
    >>> x.grad
    array([1., 1.])
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Compute; to be overridden."""
        raise NotImplementedError("a Function defines forward(ctx, *args) as a static method")

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        """Give one cotangent an argument, None for zero; to be overridden."""
        raise NotImplementedError("a Function defines backward(ctx, *cotangents) as a static method")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run the operation."""
        call = _Call(cls.__name__, args)
        needs = tuple(any(getattr(x, "node", None) is not None for x in trees.leaves(a)) for a in args)
        made: list[Any] = []

        def fwd(arrays: Arrays) -> Any:
            ctx = Context(needs)
            results = call.results(cls.forward(ctx, *call.args(arrays)))
            made[:] = [ctx, [s is None for s in ctx.saved_tensors], results]
            return results, [s for s in ctx.saved_tensors if s is not None]

        def bwd(saved: Arrays, cts: Arrays) -> Any:
            ctx, none, _ = made
            left = iter(saved)
            given = Context(ctx.needs_input_grad)
            given.__dict__.update(ctx.__dict__)
            given.saved_tensors = tuple(None if n else next(left) for n in none)
            return call.cotangents(cls.backward(given, *cts))

        def reconnect(saved: Arrays, payloads: Arrays, variables: Arrays) -> list[Any]:
            # inputs by identity; anything else is a function of them, computed again
            known = {id(p): v for p, v in zip(payloads, variables, strict=True)}
            return [known[id(s)] for s in saved] if all(id(s) in known for s in saved) else fwd(variables)[1]

        rule = _Reverse(cls.__name__, lambda arrays: fwd(arrays)[0], fwd, bwd, reconnect)
        return call.output(_apply(rule, call.arrays))


# --- checkpoint --------------------------------------------------------------------------------------------------------------------------
def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that computes like ``f`` and keeps only its arguments for the backward pass, which runs ``f`` again.

    Parameters
    ----------
    f : callable
        Any function of trees of arrays; it may use Variables from around it.

    Returns
    -------
    callable
        Saves memory in reverse mode, for the time of a second forward pass. In other modes it is ``f``.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> ad.grad(ad.checkpoint(lambda x: x**3))(2.0)
    array(12.)
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        start = next_number()
        given, named = trees.map_tree(_again, (args, kwargs))  # f may change its arguments in place
        y = f(*args, **kwargs)
        flat, spec = trees.flatten(y)
        level = deepest([r for r in flat if _is_array(r)])
        if not isinstance(level, ReverseLevel):
            return y
        moving = [i for i, r in enumerate(flat) if isinstance(r, Variable) and r.level is level and r.node is not None]
        parents = _boundary([flat[i].node for i in moving], start)
        if not any(flat[i].node.number < start for i in moving):
            return y

        def pull(cts: list[Any]) -> list[Any]:
            with enable_grad():
                xs, options = trees.map_tree(_again, (given, named))
                if level.depth == DEAD:
                    with level:
                        again = trees.leaves(f(*xs, **options))
                else:
                    again = trees.leaves(f(*xs, **options))
            roots = [(again[i].node, ct) for i, ct in zip(moving, cts, strict=True)]
            return backward(roots, level=level, create_graph=_creates_graph(level, cts), wanted=parents, boundary=True)

        new = record(level, f"checkpoint({getattr(f, '__name__', 'f')})", tuple(parents), [flat[i].payload for i in moving], pull)
        for i, v in zip(moving, new, strict=True):
            flat[i] = v
        return trees.unflatten(spec, flat)

    return wrapped


def _again(x: Any) -> Any:
    """Give the same Variable as another object, which in-place changes of the first do not reach."""
    return x.level.variable(x.payload, x.node) if isinstance(x, Variable) else x


def _boundary(roots: list[Node], start: int) -> list[Node]:
    """Give the nodes made before ``start`` that later ones lead to."""
    seen: set[int] = set()
    found: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.number in seen:
            continue
        seen.add(node.number)
        if node.number > start:
            found[node.number] = node
        else:
            stack.extend(p for p in node.ancestors() if p is not None)
    return list(found.values())
