"""Derivative rules that users write: ``custom_vjp``, ``custom_jvp`` and ``Function``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from agnostic_ad import trees
from agnostic_ad.arguments import is_array
from agnostic_ad.errors import CustomRuleError, MissingRuleError
from agnostic_ad.flatrules import Arrays, Call, ForwardRule, ReverseRule, apply_rule
from agnostic_ad.levels import deepest

__all__ = ["Function", "custom_jvp", "custom_vjp"]


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
        call = Call(f"custom_vjp {getattr(self.f, '__name__', 'function')}", args)
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
            static[:] = [None if is_array(r) else r for r in kept]
            return call.results(pair[0]), [r for r in kept if is_array(r)]

        def flat_bwd(residuals: Arrays, cts: Arrays) -> Any:
            left = iter(residuals)
            kept = trees.unflatten(spec[0], [next(left) if s is None else s for s in static])
            return call.cotangents(bwd(kept, call.output(cts)))

        rule = ReverseRule(call.name, lambda arrays: call.results(self.f(*call.args(arrays))), flat_fwd, flat_bwd)
        return call.output(apply_rule(rule, call.arrays))


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
        call = Call(f"custom_jvp {getattr(self.f, '__name__', 'function')}", args)
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
            moved = trees.flatten_like(call.out_spec, pair[1])
            if moved is None:
                raise CustomRuleError(
                    f"{call.name}: the rule's tangent has structure {trees.flatten(pair[1])[1]}, its output {call.out_spec}"
                )
            for r, t in zip(results, moved, strict=True):
                if not is_array(t) or tuple(t.shape) != tuple(r.shape):
                    what = f"shape {tuple(t.shape)}" if is_array(t) else type(t).__name__
                    raise CustomRuleError(f"{call.name}: the rule's tangent has {what}, its output shape {tuple(r.shape)}")
            return results, moved

        flat = ForwardRule(call.name, lambda arrays: call.results(self.f(*call.args(arrays))), flat_jvp)
        return call.output(apply_rule(flat, call.arrays))


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
        call = Call(cls.__name__, args)
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

        rule = ReverseRule(cls.__name__, lambda arrays: fwd(arrays)[0], fwd, bwd, reconnect)
        return call.output(apply_rule(rule, call.arrays))
