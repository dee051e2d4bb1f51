"""The base of all optimizers.

A subclass writes its update once, in terms of ``xp`` and augmented assignments (``m *= beta``): in place where the library's arrays are
mutable, new arrays where they are not. The base class sees to it that what is written into is the parameter's own memory: an array that
somebody else still holds (a graph, a ``state_dict``, a user) is copied first and never changes under them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import agnostic_ad as ad
from agnostic_ad import Variable
from agnostic_ad.errors import AgnosticADError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.parameter import adopt, assign, clear_grad

__all__ = ["Optimizer", "OptimizerStateError", "at_least"]


def _references(x: Any) -> int:
    return sys.getrefcount(x)


class _Slot:
    __slots__ = ("payload",)

    def __init__(self) -> None:
        self.payload = object()


# what an array counts that only a Variable, or only a state, holds: measured, because interpreters differ in how they pass arguments
_SLOT, _DICT = _Slot(), {"array": object()}
_IN_SLOT, _IN_DICT = _references(_SLOT.payload), _references(_DICT["array"])


class OptimizerStateError(AgnosticADError, ValueError):
    """A state does not fit the optimizer that it is loaded into."""


def at_least(least: float, **values: Any) -> None:
    """Refuse hyperparameters below a bound."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"invalid {name}: {value!r}; {least} or more is wanted")


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
        What is remembered of each parameter, under PyTorch's names.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.state: dict[Variable, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        if isinstance(params, Array):
            raise TypeError("an optimizer takes a list of parameters, not one: write [p], or module.parameters()")
        given = list(params)
        if not given:
            raise ValueError("optimizer got an empty parameter list")
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group: a dict of "params" and hyperparameters."""
        if not isinstance(param_group, Mapping):
            raise TypeError(f"a parameter group is a dict, not {type(param_group).__name__}")
        group = dict(param_group)
        params = group["params"]
        params = [params] if isinstance(params, Array) else list(params)
        if params and all(isinstance(p, tuple) for p in params):
            group["param_names"] = [name for name, _ in params]
            params = [p for _, p in params]
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
        for name, value in self.defaults.items():
            group.setdefault(name, value)
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or make them zero."""
        for group in self.param_groups:
            for p in group["params"]:
                clear_grad(p, set_to_none)

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
        loss = None
        if closure is not None:
            with ad.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                grad = p.grad
                if grad is not None:
                    self._change(p, grad.payload if isinstance(grad, Array) else grad, group)
        return loss

    # --- one parameter --------------------------------------------------------------------------------------------------------------
    def prepare(self, xp: Any, p: Any, state: dict[str, Any], group: dict[str, Any]) -> Any:
        """Put arrays like ``p`` into ``state`` where they are missing; give what `update` needs to know of this step."""
        raise NotImplementedError

    def update(self, xp: Any, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], now: Any) -> Any:
        """Give the new parameter, and change ``state``'s arrays; elementwise, by augmented assignments. ``g`` is not written into."""
        raise NotImplementedError

    def _change(self, v: Variable, g: Any, group: dict[str, Any]) -> None:
        xp = backend_of(v.payload)
        state = self.state.setdefault(v, {})
        now = self.prepare(xp, v.payload, state, group)
        for name in state:
            if getattr(state[name], "shape", None) is not None and (_references(state[name]) > _IN_DICT or not xp.alone(state[name])):
                state[name] = xp.own(state[name])
        if _references(v.payload) > _IN_SLOT or not xp.alone(v.payload):
            assign(v, xp.own(v.payload))
        update = self._update_in_blocks if xp.blocks and v.size > xp.blocks else self.update
        assign(v, update(xp, v.payload, g, state, group, now))

    def _update_in_blocks(self, xp: Any, p: Any, g: Any, state: dict[str, Any], group: dict[str, Any], now: Any) -> Any:
        """Update a large array piece by piece, so that the temporaries stay in the cache; every piece is a view that is written into."""
        moments = {name: value for name, value in state.items() if getattr(value, "shape", None) == p.shape}
        flat = [xp.flat(x) for x in (p, *moments.values())]
        if any(f is None for f in flat):
            return self.update(xp, p, g, state, group, now)
        flat.append(xp.reshape(g, (-1,)))
        for start in range(0, len(flat[0]), xp.blocks):
            piece, *old, gradient = (f[start : start + xp.blocks] for f in flat)
            pieces = {**state, **dict(zip(moments, old))}
            self.update(xp, piece, gradient, pieces, group, now)
            for name, view in zip(moments, old):
                if pieces[name] is not view:
                    view[...] = pieces[name]
        return p

    # --- state ----------------------------------------------------------------------------------------------------------------------
    def _numbered(self) -> Iterator[tuple[int, Variable]]:
        return enumerate(p for group in self.param_groups for p in group["params"])

    def state_dict(self) -> dict[str, Any]:
        """Give hyperparameters and state, with parameters as numbers, as PyTorch does."""
        number = {id(p): i for i, p in self._numbered()}
        groups = [{**group, "params": [number[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": {number[id(p)]: dict(s) for p, s in self.state.items()}, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take hyperparameters and state, of this library or another, from what `state_dict` gave."""
        groups = state_dict["param_groups"]
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise OptimizerStateError(f"this state has parameter groups of sizes {sizes}, the optimizer of sizes {own}")
        numbers: Iterable[Any] = [n for g in groups for n in g["params"]]
        params = dict(zip(numbers, (p for _, p in self._numbered())))
        for group, theirs in zip(self.param_groups, groups):
            group.update({k: v for k, v in theirs.items() if k not in ("params", "param_names")})
        self.state = {
            params[n]: {name: self._taken(value, params[n].payload) for name, value in entries.items()}
            for n, entries in state_dict["state"].items()
            if n in params
        }

    def _taken(self, value: Any, like: Any) -> Any:
        """Give one entry of a state: an array for the parameter's place, or a number."""
        shape = getattr(value, "shape", None)
        if shape is None:
            return value
        return adopt(value, like) if tuple(shape) == tuple(like.shape) and shape else value.item()

    def __repr__(self) -> str:
        lines = [type(self).__name__ + " ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name not in ("params", "param_names")]
        return "\n".join([*lines, ")"])
