"""Pure update rules: from gradients, a state and parameters to new parameters and a new state.

A `Formula` is written once for one parameter (the table is `agnostic_ad.nn.optim.formulas`); a `Rule` is a formula with its
hyperparameters, for trees of parameters of any kind: raw arrays, Variables, arrays inside ``grad``, ``vmap`` or a graph. The classes of
`agnostic_ad.nn.optim` run the same formulas in place, over flat memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from agnostic_ad import trees
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import backend_of, is_raw

__all__ = ["Formula", "Rule", "apply", "formula", "start"]

Start = Callable[[Any, Any, Any], Any]
"""``(xp, p, h) -> array``, or None where these hyperparameters do not need it."""


@dataclass(frozen=True)
class Formula:
    """One line of the table: how one parameter is updated.

    Attributes
    ----------
    update : callable
        ``(xp, p, g, s, h) -> (p, changes)``: the parameter, its gradient, its state and the hyperparameters (namespaces both), to the new
        parameter and what is new in the state. Written with augmented assignments: ``p`` and the arrays of ``s`` are the caller's own
        copies, which may be written into; ``g`` is not.
    arrays : dict of str to callable
        The arrays of the state, under PyTorch's names, and how each starts.
    numbers : dict of str to number or callable
        The numbers of the state, likewise; "step" is counted by the caller.
    elementwise : bool
        Whether each element's update depends on that element alone, so that parameters may be taken together, or piece by piece.
    real : bool
        Whether complex parameters are refused; else they are pairs of real numbers, as in PyTorch.
    """

    update: Callable[..., Any]
    arrays: Mapping[str, Start] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    elementwise: bool = True
    real: bool = False

    @property
    def name(self) -> str:
        """The formula's name in the table."""
        return self.update.__name__


def formula(
    elementwise: bool = True, real: bool = False, numbers: Mapping[str, Any] | None = None, **arrays: Start
) -> Callable[[Callable[..., Any]], Formula]:
    """Make a `Formula` of a function."""
    return lambda update: Formula(update, arrays, numbers or {}, elementwise, real)


def start(xp: Any, rule: Formula, p: Any, h: Any) -> dict[str, Any]:
    """Give the state of a parameter that no step has changed yet; its numbers are Python's."""
    state = {name: value(h) if callable(value) else value for name, value in rule.numbers.items()}
    like = _split(xp, p, rule) if _is_complex(p) else p
    for name, make in rule.arrays.items():
        made = make(xp, like, h)
        if made is not None:
            state[name] = _join(xp, made, p.dtype) if _is_complex(p) else made
    return {name: value for name, value in state.items() if value is not None}


def apply(xp: Any, rule: Formula, p: Any, g: Any, state: Mapping[str, Any], h: Any) -> tuple[Any, dict[str, Any]]:
    """Update one parameter, or a piece of one; give it and what is new in its state."""
    if not _is_complex(p):
        return apply_real(xp, rule, p, g, state, h)
    pairs = {name: _split(xp, x, rule) if name in rule.arrays else x for name, x in state.items()}
    new, changes = apply_real(xp, rule, _split(xp, p, rule), _split(xp, g, rule), pairs, h)
    return _join(xp, new, p.dtype), {name: _join(xp, x, p.dtype) if name in rule.arrays else x for name, x in changes.items()}


def apply_real(xp: Any, rule: Formula, p: Any, g: Any, state: Mapping[str, Any], h: Any) -> tuple[Any, dict[str, Any]]:
    """Update a parameter of real numbers."""
    values = dict(state)
    if "step" in values:
        values["step"] = values["step"] + 1
    if getattr(h, "maximize", False):
        g = -g
    p, changes = rule.update(xp, p, g, SimpleNamespace(**values), h)
    if "step" in values:
        changes["step"] = values["step"]
    return p, changes


def _is_complex(x: Any) -> bool:
    return bool((x.backend if isinstance(x, Array) else backend_of(x)).kind(x.dtype) == "c")


def _split(xp: Any, z: Any, rule: Formula) -> Any:
    if rule.real:
        raise TypeError(f"{rule.name} is defined for real parameters; this one is complex ({z.dtype})")
    return xp.stack([xp.real(z), xp.imag(z)], axis=-1)


def _join(xp: Any, x: Any, dtype: Any) -> Any:
    return xp.astype(x[..., 0], dtype) + 1j * xp.astype(x[..., 1], dtype)


class Rule:
    """A pure update rule with its hyperparameters, made by ``nn.optim.Adam.rule(lr=0.1)`` and the like.

    Nothing is changed in place, and nothing is remembered: what `update` gives goes into the next call. It runs eagerly, inside ``vmap``,
    ``grad`` and a graph, and is differentiated with respect to everything, hyperparameters included.

    Parameters
    ----------
    formula : Formula
        The line of the table.
    options : dict
        Hyperparameters: numbers, or arrays of no dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> def after_two_steps(lr):
    ...     rule, w = nn.optim.SGD.rule(lr=lr, momentum=0.9), np.asarray([1.0, 2.0])
    ...     state = rule.init(w)
    ...     for _ in range(2):
    ...         w, state = rule.update(2 * w, state, w)
    ...     return (w * w).sum()
    >>> ad.vmap(after_two_steps)(np.asarray([0.1, 0.4])).round(3)  # a population of rates
    array([1.058, 2.312])
    >>> ad.grad(after_two_steps)(0.1)
    array(-23.)
    """

    def __init__(self, formula: Formula, options: Mapping[str, Any]) -> None:
        self.formula, self.options = formula, dict(options)

    def init(self, params: Any) -> Any:
        """Give the state before the first step.

        Parameters
        ----------
        params : tree of arrays
            Floating or complex.

        Returns
        -------
        tree
            In the place of each parameter a dict of arrays, under PyTorch's names.
        """
        return trees.map_tree(self._init, params)

    def update(self, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """Do one step.

        Parameters
        ----------
        grads : tree of arrays
            Of the structure of ``params``.
        state : tree
            What `init` or the last `update` gave.
        params : tree of arrays
            The parameters; they are not changed.

        Returns
        -------
        params, state : tree, tree
            The new ones.
        """
        flat, spec = trees.flatten(params)
        each: Any = zip(flat, spec.flatten_up_to(grads), spec.flatten_up_to(state), strict=True)
        done = [self._update(p, g, s) for p, g, s in each]
        return trees.unflatten(spec, [p for p, _ in done]), trees.unflatten(spec, [s for _, s in done])

    def _init(self, p: Any) -> dict[str, Any]:
        xp, (p, *_), options = self._unified([p])
        state = start(xp, self.formula, p, SimpleNamespace(**options))
        real = options["_real"]
        return {name: x if hasattr(x, "shape") else xp.asarray(x, dtype=real, device=device_of(p)) for name, x in state.items()}

    def _update(self, p: Any, g: Any, s: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        xp, (p, g, *values), options = self._unified([p, g, *s.values()])
        state = {name: self._fresh(xp, value) for name, value in zip(s, values, strict=True)}
        p, changes = apply(xp, self.formula, self._fresh(xp, p), g, state, SimpleNamespace(**options))
        whole = (lambda x: x) if isinstance(p, Array) else xp.array  # NumPy computes scalars from arrays of no dimensions
        return whole(p), {name: whole(x) for name, x in {**state, **changes}.items()}

    def _unified(self, arrays: list[Any]) -> tuple[Any, list[Any], dict[str, Any]]:
        """Give the namespace that computes with these arrays and the hyperparameters together, and both as arrays of it."""
        for x in arrays:
            if not (isinstance(x, Array) or is_raw(x)):
                raise TypeError(f"{self.formula.name}: parameters, gradients and states are trees of arrays, not of {type(x).__name__}")
        leaves, spec = trees.flatten(self.options)
        given = [x for x in leaves if isinstance(x, Array) or is_raw(x)]
        backend = arrays[0].backend if isinstance(arrays[0], Array) else backend_of(arrays[0])
        if backend.kind(arrays[0].dtype) not in "fc":
            raise TypeError(f"{self.formula.name}: parameters are floating or complex, not {arrays[0].dtype}")
        real = backend.real_of(arrays[0].dtype)
        xp, lifted = unify([*arrays, *given])
        arrays, rest = lifted[: len(arrays)], iter(lifted[len(arrays) :])
        cast = [x if x.dtype == real else xp.astype(x, real) for x in rest]  # a rate in float64 leaves float32 parameters what they are
        found = iter(cast)
        options = trees.unflatten(spec, [next(found) if isinstance(x, Array) or is_raw(x) else x for x in leaves])
        return xp, arrays, {**options, "_real": real}

    @staticmethod
    def _fresh(xp: Any, x: Any) -> Any:
        """Give an array that may be written into."""
        return xp.positive(x) if isinstance(x, Array) else xp.own(x)

    def __repr__(self) -> str:
        return f"<rule {self.formula.name}({', '.join(f'{k}={v!r}' for k, v in self.options.items())})>"
