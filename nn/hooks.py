"""Hooks of modules: what users want called before and after ``forward``, in the backward pass, and around the state."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

from agnostic_ad import trees
from agnostic_ad.arguments import zeros
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.levels import QUIET, Array, deepest, inexact
from agnostic_ad.namespaces import RAW
from agnostic_ad.reverse import ReverseLevel
from agnostic_ad.tape import Parts, Structural, make_node

__all__ = ["Hooked", "Hooks", "RemovableHandle", "call_hooked"]

_numbers = itertools.count()


class RemovableHandle:
    """Takes a hook away again."""

    def __init__(self, hooks: dict[int, Any], hook: Any, prepend: bool = False) -> None:
        self._hooks, self.id = hooks, next(_numbers)
        others = dict(hooks) if prepend else {}
        for number in others:
            del hooks[number]
        hooks[self.id] = hook
        hooks.update(others)

    def remove(self) -> None:
        """Take the hook away; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class Hooks:
    """The hooks of one module, by kind and number, and what was said when they were registered."""

    def __init__(self) -> None:
        self.forward_pre: dict[int, Any] = {}
        self.forward: dict[int, Any] = {}
        self.backward_pre: dict[int, Any] = {}
        self.backward: dict[int, Any] = {}
        self.state_dict_pre: dict[int, Any] = {}
        self.state_dict: dict[int, Any] = {}
        self.load_state_dict_pre: dict[int, Any] = {}
        self.load_state_dict_post: dict[int, Any] = {}
        self.with_kwargs: set[int] = set()
        self.always_call: set[int] = set()
        self.bare: set[int] = set()
        """Those that PyTorch's private methods register: without the module as an argument, or free to return another state."""


def _table(kind: str) -> Any:
    """Give a property that is the dict of hooks of one kind, under the name that PyTorch has for it."""

    def replace(self: Hooked, hooks: Any) -> None:
        setattr(self._own_hooks(), kind, hooks)

    return property(lambda self: getattr(self._own_hooks(), kind), replace)


class Hooked:
    """The part of `Module` that registers hooks."""

    _hooks: Hooks | None
    _forward_pre_hooks = _table("forward_pre")
    _forward_hooks = _table("forward")
    _backward_pre_hooks = _table("backward_pre")
    _backward_hooks = _table("backward")
    _state_dict_pre_hooks = _table("state_dict_pre")
    _state_dict_hooks = _table("state_dict")
    _load_state_dict_pre_hooks = _table("load_state_dict_pre")
    _load_state_dict_post_hooks = _table("load_state_dict_post")

    def _own_hooks(self) -> Hooks:
        """Give this module's hooks. A module has none until they are asked for, which keeps its calls quick."""
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns replaces the arguments.

        Parameters
        ----------
        hook : callable
            Returns None, an argument, or a tuple of them.
        prepend : bool
            Whether it comes before the hooks that are there.
        with_kwargs : bool
            Whether it is called with ``(module, args, kwargs)``, and returns None or ``(args, kwargs)``.
        """
        handle = RemovableHandle(self._forward_pre_hooks, hook, prepend)
        if with_kwargs:
            self._own_hooks().with_kwargs.add(handle.id)
        return handle

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, result)`` after ``forward``; what it returns replaces the result.

        Parameters
        ----------
        hook : callable
            Returns None or a result.
        prepend : bool
            Whether it comes before the hooks that are there.
        with_kwargs : bool
            Whether it is called with ``(module, args, kwargs, result)``.
        always_call : bool
            Whether it is called also where the module fails; the result is then what there was of it, or None.
        """
        handle = RemovableHandle(self._forward_hooks, hook, prepend)
        if with_kwargs:
            self._own_hooks().with_kwargs.add(handle.id)
        if always_call:
            self._own_hooks().always_call.add(handle.id)
        return handle

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the results are known; what it returns replaces them.

        Parameters
        ----------
        hook : callable
            Its second argument is a tuple with one gradient, a raw array, for each result, None where there is none; so is what it returns,
            if not None.
        prepend : bool
            Whether it comes before the hooks that are there.
        """
        return RemovableHandle(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the positional arguments are known.

        What it returns replaces ``grad_input``. Where no argument requires grad, it is called with the gradients of the results.

        Parameters
        ----------
        hook : callable
            Both gradients are tuples: one raw array for each argument or result, None for what is no array, and for results without gradient.
        prepend : bool
            Whether it comes before the hooks that are there.
        """
        return RemovableHandle(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Do as `register_full_backward_hook`, which PyTorch wants in the place of its hook of this name."""
        return self.register_full_backward_hook(hook)


def call_hooked(module: Any, hooks: Hooks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a module's hooks and its ``forward``."""
    if not (hooks.forward_pre or hooks.forward or hooks.backward or hooks.backward_pre):
        return module.forward(*args, **kwargs)
    result, called = None, set()
    try:
        for number, hook in tuple(hooks.forward_pre.items()):
            if number in hooks.with_kwargs:
                changed = hook(module, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise TypeError(f"a forward pre-hook with kwargs returns None or (args, kwargs), not {changed!r:.80}")
                    args, kwargs = changed
            else:
                changed = hook(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        passage = _Passage(module, hooks) if hooks.backward or hooks.backward_pre else None
        result = module.forward(*(args if passage is None else passage.enter(args)), **kwargs)
        for number, hook in tuple(hooks.forward.items()):
            called.add(number)
            changed = hook(module, args, kwargs, result) if number in hooks.with_kwargs else hook(module, args, result)
            result = result if changed is None else changed
        return result if passage is None else passage.leave(result)
    except Exception:
        for number, hook in tuple(hooks.forward.items()):
            if number in hooks.always_call and number not in called:
                try:
                    hook(module, args, kwargs, result) if number in hooks.with_kwargs else hook(module, args, result)
                except Exception as error:
                    warnings.warn(
                        f"a forward hook with always_call=True failed after the module had: {error}", RuntimeWarning, stacklevel=3
                    )
        raise


# --- the backward pass ----------------------------------------------------------------------------------------------------------------------
class _Passage:
    """One call of a module with backward hooks: what enters and what leaves it is led through one node of the tape each."""

    def __init__(self, module: Any, hooks: Hooks) -> None:
        self.module, self.before, self.after = module, tuple(hooks.backward_pre.values()), tuple(hooks.backward.values())
        self.grad_output: tuple[Any, ...] | None = None
        self.arguments: tuple[Any, ...] = ()
        self.inward = False

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Give the arguments, connected to the hooks."""
        self.arguments = args
        led = self._through(args, self._at_arguments)
        self.inward = led is not args
        return led

    def leave(self, result: Any) -> Any:
        """Give the result, connected to the hooks."""
        if not isinstance(result, tuple):
            if not isinstance(result, Array) and any(isinstance(x, Array) and x.carries_gradient() for x in trees.leaves(result)):
                name = type(self.module).__name__
                warnings.warn(
                    f"backward hooks of {name} are not called: it returned {type(result).__name__}, not an array or a tuple", stacklevel=4
                )
            return self._through((result,), self._at_results)[0]
        led = self._through(result, self._at_results)
        return led if type(result) is tuple or led is result else type(result)(*led)

    def _through(self, values: tuple[Any, ...], rule: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> tuple[Any, ...]:
        level = deepest([x for x in values if isinstance(x, Array)])
        if level is not None and not isinstance(level, ReverseLevel):
            if any(isinstance(x.payload, Array) and x.payload.carries_gradient() for x in values if isinstance(x, Array)):
                raise UnsupportedError(
                    f"backward hooks of {type(self.module).__name__} are not called inside {level.label} within a gradient. "
                    "Remove them, or take the gradient inside."
                )
            return values
        if level is None or level.depth <= QUIET.get():
            return values
        places = [i for i, x in enumerate(values) if isinstance(x, Array) and x.level is level and x.node is not None]  # type: ignore[attr-defined]
        if not places:
            return values

        def pull(node: Any, saved: Any, cts: Any, position: int) -> Parts:
            given = iter(ct if ct is None or isinstance(ct, Array) else RAW[type(ct)].array(ct) for ct in cts)
            found = rule(tuple(next(given) if i in places else None for i in range(len(values))))
            return Parts(_checked(found[i], values[i].payload) for i in places)

        parents = make_node(Structural("arguments", lambda node, saved, cts, i: cts[i]), tuple(values[i].node for i in places), (), None)
        name = f"backward hooks of {type(self.module).__name__}"
        led = list(values)
        for i, x in zip(places, level.wrap(tuple(values[i].payload for i in places), make_node(Structural(name, pull), parents, (), None))):
            led[i] = x
        return tuple(led)

    def _at_results(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.before:
            grads = _replaced(hook(self.module, grads), grads, "grad_output")
        if self.inward:
            self.grad_output = grads
            return grads
        none = (None,) * len(self.arguments)
        for hook in self.after:
            if any(g is not None for g in _replaced(hook(self.module, none, grads), none, "grad_input")):
                raise ValueError(f"a backward hook of {type(self.module).__name__} returns gradients of arguments that require none")
        return grads

    def _at_arguments(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        grad_output, self.grad_output = self.grad_output, None
        if grad_output is None:
            return grads  # they come past the results, as in a second derivative
        grads = tuple(
            zeros(x.payload if isinstance(x, Array) else x) if g is None and (isinstance(x, Array) or type(x) in RAW) and inexact(x) else g
            for g, x in zip(grads, self.arguments, strict=True)
        )
        for hook in self.after:
            grads = _replaced(hook(self.module, grads, grad_output), grads, "grad_input")
        return grads


def _replaced(found: Any, grads: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    """Give what a hook returned in place of gradients; they themselves where it returned None."""
    if found is None:
        return grads
    found = found if isinstance(found, tuple | list) else (found,)
    if len(found) != len(grads):
        raise ValueError(f"a backward hook returned {len(found)} gradients for {what}, which has {len(grads)}")
    return tuple(found)


def _checked(grad: Any, x: Any) -> Any:
    """Give a gradient that a hook may have made: a raw one for a raw array, of its shape."""
    if isinstance(grad, Array) and not isinstance(x, Array) and grad.level.depth == 0 and not grad.carries_gradient():
        grad = grad.payload
    if grad is not None and tuple(grad.shape) != tuple(x.shape):
        raise ValueError(f"a backward hook returned shape {tuple(grad.shape)} for a gradient of shape {tuple(x.shape)}")
    return grad
