"""The base of all optimizers: PyTorch's class around a pure update rule.

A subclass names a `Formula` of the table, and its constructor's arguments are its hyperparameters. Everything else is here: groups, hooks,
states that move to PyTorch and back. `agnostic_ad.nn.optim.flat` does the steps.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar, cast

import agnostic_ad as ad
from agnostic_ad import Variable
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.holdings import IfNamed, describe
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, is_raw
from agnostic_ad.nn.module import RemovableHandle
from agnostic_ad.nn.optim.flat import Memory
from agnostic_ad.nn.optim.options import check, plain
from agnostic_ad.nn.optim.rule import Formula, Rule
from agnostic_ad.nn.parameter import adopt, clear_grad
from agnostic_ad.stepping import apart

__all__ = ["Optimizer", "OptimizerStateError", "hyperparameters", "raw"]

Init = TypeVar("Init", bound=Callable[..., None])


class OptimizerStateError(AgnosticADError, ValueError):
    """A state does not fit the optimizer that it is loaded into."""


def hyperparameters(init: Init) -> Init:
    """Make a constructor of a signature: its arguments after ``params`` are the hyperparameters, checked and with their defaults."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def constructor(self: Optimizer, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        _, params, *_ = bound.arguments.values()
        options = {name: plain(value) for name, value in list(bound.arguments.items())[2:]} | self.fixed
        self.check(options)
        Optimizer.__init__(self, params, options)

    return cast(Init, constructor)


class Optimizer:
    """Change parameters by their gradients.

    Parameters
    ----------
    params : iterable of Parameter, of (name, Parameter) pairs, or of dicts
        What to change. A dict is a group with hyperparameters of its own beside "params".
    defaults : dict
        The hyperparameters of groups that do not give them.

    Attributes
    ----------
    param_groups : list of dict
        Hyperparameters and "params"; they may be changed at any time.
    state : dict
        What is remembered of each parameter, under PyTorch's names. Its arrays change in place, as there; `state_dict` gives copies.

    Notes
    -----
    An optimizer of one's own overrides ``step``, as in PyTorch, or names a `Formula` (``formula``).

    ``foreach``, ``fused`` and ``capturable``, where PyTorch has them, are accepted and change nothing: a step is always a few passes over
    parameters that lie together where the library's arrays can be views, and its numbers never wait on a device.
    ``differentiable=True`` is refused: differentiate the pure `rule`.
    """

    formula: ClassVar[Formula | None] = None
    fixed: ClassVar[dict[str, Any]] = {}
    """Hyperparameters that the constructor does not take."""

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: dict[Variable, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._prepare()
        if isinstance(params, Array):
            raise TypeError("an optimizer takes a list of parameters, not one: write [p], or module.parameters()")
        given = list(params)
        if not given:
            raise ValueError("optimizer got an empty parameter list")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def _prepare(self) -> None:
        self._memory: dict[int, Memory] = {}
        self._hooks: defaultdict[str, dict[int, Any]] = defaultdict(dict)
        self._steps = 0  # ever taken: a scheduler asks
        self._inside = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that make no sense."""
        check(cls.__name__, options)

    @classmethod
    def rule(cls, *args: Any, **options: Any) -> Rule:
        """Give the pure update rule, for trees of arrays.

        Parameters
        ----------
        *args, **options
            The hyperparameters, as the constructor takes them after ``params``; arrays of no dimensions too, of any transformation.

        Returns
        -------
        Rule
            With ``init(params)`` and ``update(grads, state, params)``.
        """
        if cls.formula is None:
            raise TypeError(f"{cls.__name__} has no pure rule: its step is not a function of one gradient")
        bound = inspect.signature(cls.__init__).bind(None, None, *args, **options)
        bound.apply_defaults()
        given = dict(list(bound.arguments.items())[2:]) | cls.fixed
        cls.check(given)
        return Rule(cls.formula, given)

    # --- parameters -----------------------------------------------------------------------------------------------------------------
    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group: a dict of "params" and hyperparameters."""
        if not isinstance(param_group, Mapping):
            raise TypeError(f"a parameter group is a dict, not {type(param_group).__name__}")
        if "params" not in param_group:
            raise KeyError(f"a parameter group has its parameters under 'params'; this one has {sorted(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, set | frozenset):
            raise TypeError("the parameters of a group are given in a list: the order of a set differs from run to run")
        params = [params] if isinstance(params, Array) else list(params)
        named = [isinstance(p, tuple) for p in params]
        if any(named):
            if not all(named):
                raise ValueError("either all parameters of an optimizer come with names, or none")
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
        if any(("param_names" in group) != ("param_names" in other) for other in self.param_groups):
            raise ValueError("either all groups of an optimizer come with names, or none")
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Variable):
                raise TypeError(f"an optimizer changes parameters, not {type(p).__name__}")
            if not p.is_leaf:
                raise ValueError("an optimizer changes leaf Variables only; this one is the result of an operation")
            if id(p) in seen:
                raise ValueError("a parameter appears twice in the optimizer's groups")
            seen.add(id(p))
        group["params"] = params
        own = {name: plain(group.get(name, value)) for name, value in self.defaults.items()}
        self.check(own)
        self.param_groups.append({**group, **own})

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or make them zero."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

    # --- steps ----------------------------------------------------------------------------------------------------------------------
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients again.

        Returns
        -------
        array or None
            What ``closure`` returned.
        """
        if self.formula is None:
            raise NotImplementedError(f"{type(self).__name__} has neither a formula nor a step(): define how it changes parameters")
        loss = None
        if closure is not None:
            with ad.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            used = [(p, raw(p.grad)) for p in group["params"] if p.grad is not None]
            if used:
                self._step(number, group, used)
        return loss

    def _step(self, number: int, group: dict[str, Any], used: list[tuple[Variable, Any]]) -> None:
        h = SimpleNamespace(**{name: plain(value) for name, value in group.items() if name not in _NOT_NUMBERS})
        memory = self._memory.get(number)
        if memory is None or not memory.serves(self.state, used, h):
            assert self.formula is not None
            having = {id(p) for p, _ in used}
            members = [p for p in group["params"] if id(p) in having or self.state.get(p)]
            memory = self._memory[number] = Memory(self.formula, self.state, members, h)
        memory.step(used, h)

    # --- hooks ----------------------------------------------------------------------------------------------------------------------
    def _hook(self, kind: str, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        hooks = self._hooks[kind]
        before = dict(hooks)
        handle = RemovableHandle(hooks, hook)
        if prepend:
            for key in before:
                hooks[key] = hooks.pop(key)
        return handle

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before every step; it may return other (args, kwargs)."""
        return self._hook("step_pre", hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after every step."""
        return self._hook("step_post", hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before `state_dict`."""
        return self._hook("state_dict_pre", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after `state_dict`; what it returns replaces that."""
        return self._hook("state_dict_post", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before `load_state_dict`, with a shallow copy; what it returns replaces that."""
        return self._hook("load_state_dict_pre", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after `load_state_dict`."""
        return self._hook("load_state_dict_post", hook, prepend)

    def _call_hooks(self, kind: str, *args: Any) -> None:
        for hook in tuple(self._hooks[kind].values()):
            hook(self, *args)

    def _pass_hooks(self, kind: str, value: Any) -> Any:
        for hook in tuple(self._hooks[kind].values()):
            changed = hook(self, value)
            value = value if changed is None else changed
        return value

    # --- state ----------------------------------------------------------------------------------------------------------------------
    def _numbered(self) -> Iterator[tuple[int, Variable]]:
        return enumerate(p for group in self.param_groups for p in group["params"])

    def state_dict(self) -> dict[str, Any]:
        """Give hyperparameters and a copy of the state, with parameters as numbers, as PyTorch does."""
        self._call_hooks("state_dict_pre")
        number = {id(p): i for i, p in self._numbered()}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        state = {number[id(p)]: {k: _copied(x) for k, x in s.items()} for p, s in self.state.items() if s and id(p) in number}
        return self._pass_hooks("state_dict_post", {"state": state, "param_groups": groups})  # type: ignore[no-any-return]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take hyperparameters and state, of this library or another, from what `state_dict` gave."""
        state_dict = self._pass_hooks("load_state_dict_pre", dict(state_dict))
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise OptimizerStateError(f"this state has parameter groups of sizes {sizes}, the optimizer of sizes {own}")
        params = dict(zip((n for g in groups for n in g["params"]), (p for _, p in self._numbered()), strict=True))
        for group, theirs in zip(self.param_groups, groups, strict=True):
            group.update({k: plain(v) for k, v in theirs.items() if k != "params"})
        self._memory.clear()
        self.state = defaultdict(dict)
        for n, entries in state_dict["state"].items():
            if n in params:
                self.state[params[n]] = {
                    name: self._taken(name, value, params[n].payload) for name, value in entries.items() if value is not None
                }
        self._call_hooks("load_state_dict_post")

    def _taken(self, name: str, value: Any, like: Any) -> Any:
        """Give one entry of a state: an array for the parameter's place, or a number."""
        if isinstance(value, list | tuple):
            return [self._taken(name, each, like) for each in value]
        if not hasattr(value, "shape"):
            return value
        is_array = name in self.formula.arrays if self.formula is not None else bool(tuple(value.shape))
        return adopt(value, like) if is_array else plain(value)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_memory", "_hooks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._prepare()
        self.__dict__.update(state)

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in ("params", "param_names")]
        return "\n".join([*lines, ")"])


_NOT_NUMBERS = frozenset({"params", "param_names", "foreach", "fused", "capturable", "differentiable"})


def raw(grad: Any) -> Any:
    """Give the raw array of a gradient."""
    while isinstance(grad, Array):
        grad = grad.payload
    return grad


def _copied(x: Any) -> Any:
    """Give an entry of a state that later steps do not change."""
    if isinstance(x, list):
        return [_copied(each) for each in x]
    return backend_of(x).own(x) if is_raw(x) else x


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Make a step call the hooks around itself, once however many classes' steps it goes through."""

    @apart()
    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return step(self, *args, **kwargs)
        given: tuple[Any, ...] = (self, *args)  # hooks see them so in PyTorch
        for hook in tuple(self._hooks["step_pre"].values()):
            changed = hook(self, given, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise TypeError(f"a hook before a step returns None or (args, kwargs), not {changed!r}")
                given, kwargs = changed
        self._inside = True
        try:
            result = step(*given, **kwargs)
        finally:
            self._inside = False
        self._steps += 1
        for hook in tuple(self._hooks["step_post"].values()):
            hook(self, given, kwargs)
        return result

    return wrapper


def _held(optimizer: Optimizer) -> list[tuple[str, Any]]:
    """Give what a function holds that has an optimizer: parameters, and the numbers where it may read them."""
    groups = optimizer.param_groups
    numbers = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    return [("param_groups", [group["params"] for group in groups]), ("param_groups", IfNamed(_READ, numbers))]


_READ = frozenset({"param_groups", "get_last_lr", "state_dict"})
describe(Optimizer, _held)
Optimizer.step = _with_hooks(Optimizer.step)  # type: ignore[method-assign]
