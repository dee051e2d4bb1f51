"""Calling modules with other parameters than their own: what transformations need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agnostic_ad import Variable
from agnostic_ad.levels import Array, unify
from agnostic_ad.namespaces import is_raw
from agnostic_ad.nn.module import Module, StateError
from agnostic_ad.nn.parameter import Buffer, Parameter

__all__ = ["functional_call", "stack_module_state"]


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with the given arrays in the place of its parameters and buffers.

    Parameters
    ----------
    module : Module
        What to call. It is as before afterwards; meanwhile no other thread may call it.
    parameter_and_buffer_dicts : dict of str to array, or sequence of them
        Names, as `Module.named_parameters` and `Module.named_buffers` give them, and arrays of any kind: raw ones, Variables, those of a
        transformation. What the module assigns to its buffers meanwhile (running statistics) is found in the dict afterwards.
    args : tuple, or anything else
        The positional arguments, or the only one.
    kwargs : dict, optional
        The arguments by name.
    tie_weights : bool
        Whether what is given under one name of a shared parameter goes for its other names too.
    strict : bool
        Whether every name must be given, and no other.

    Returns
    -------
    Any
        What the module returns.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> model, x = nn.Linear(3, 1), np.ones((5, 3), dtype="float32")
    >>> def loss(parameters):
    ...     return nn.functional_call(model, parameters, x).sum()
    >>> ad.grad(loss)(model.state_dict())["bias"]
    array([5.], dtype=float32)
    """
    dicts = [parameter_and_buffer_dicts] if isinstance(parameter_and_buffer_dicts, Mapping) else parameter_and_buffer_dicts
    if not isinstance(dicts, Sequence) or not all(isinstance(d, Mapping) for d in dicts):
        raise TypeError(f"functional_call takes a dict of arrays, or several of them, not {type(parameter_and_buffer_dicts).__name__}")
    twice = sorted({name for i, d in enumerate(dicts) for name in d if any(name in other for other in dicts[:i])})
    if twice:
        raise ValueError(f"functional_call: {', '.join(twice)} stand in two of the dicts")
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with _replaced(module, dicts, tie_weights, strict):
        return module(*args, **(kwargs or {}))


@contextmanager
def _replaced(module: Module, dicts: Sequence[Any], tie_weights: bool, strict: bool) -> Iterator[None]:
    """Put arrays in the place of parameters and buffers."""
    places = _places(module)
    given = {name: x for d in dicts for name, x in d.items()}
    if strict:
        faults = [f"{what}: {', '.join(names)}" for what, names in (
            ("missing", [name for name in places if name not in given]),
            ("unexpected", [name for name in given if name not in places]),
        ) if names]  # fmt: skip
        if faults:
            raise StateError(f"functional_call of {type(module).__name__}: {'; '.join(faults)}")
    if tie_weights:
        given = _tied(places, given)
    before = {name: (*places[name], places[name][0][places[name][1]]) for name in given if name in places}
    try:
        for name, (table, key, own) in before.items():
            raw_buffer = is_raw(given[name]) and not isinstance(own, Parameter)
            table[key] = Buffer(given[name]) if raw_buffer else given[name]  # layers change their buffers
        yield
    finally:
        for d in dicts:
            for name in d:
                if name in before:
                    table, key, _ = before[name]
                    now = table.get(key)
                    now = now.payload if is_raw(d[name]) and isinstance(now, Array) else now
                    if now is not d[name]:
                        d[name] = now
        for table, key, own in before.values():
            table[key] = own


def _places(module: Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Give the table and the key of every parameter and buffer, by name."""
    return {
        f"{path}.{key}" if path else key: (table, key)
        for path, m in module.named_modules(remove_duplicate=False)
        for table in (m._parameters, m._buffers)
        for key, v in table.items()
        if v is not None
    }


def _tied(places: dict[str, tuple[dict[str, Any], str]], given: dict[str, Any]) -> dict[str, Any]:
    """Give what is given under one name of a shared parameter under all its names."""
    names: dict[int, list[str]] = {}
    for name, (table, key) in places.items():
        names.setdefault(id(table[key]), []).append(name)
    full = dict(given)
    for alike in names.values():
        having = [name for name in alike if name in given]
        if any(given[name] is not given[having[0]] for name in having[1:]):
            raise ValueError(
                f"functional_call: {', '.join(having)} are one parameter, and were given different arrays. Pass tie_weights=False."
            )
        if having:
            full.update(dict.fromkeys(alike, given[having[0]]))
    return full


def stack_module_state(models: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put the parameters and the buffers of several models of one class together, for `vmap` over them.

    Parameters
    ----------
    models : sequence of Module
        All of one class, and in one mode.

    Returns
    -------
    tuple of (dict, dict)
        Parameters and buffers by name: Variables with the models' axis in front, new leaves that may go to an optimizer.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import nn
    >>> models = [nn.Linear(3, 2) for _ in range(4)]
    >>> parameters, buffers = nn.stack_module_state(models)
    >>> one = lambda p, b, x: nn.functional_call(models[0], (p, b), x)
    >>> ad.vmap(one, in_axes=(0, 0, None))(parameters, buffers, np.ones((5, 3), dtype="float32")).shape
    (4, 5, 2)
    """
    models = list(models)
    if not models:
        raise ValueError("stack_module_state takes one model or more")
    if len({type(m) for m in models}) > 1 or len({m.training for m in models}) > 1:
        raise ValueError("stack_module_state: all models are of one class, and in one mode (train or eval)")
    return tuple(  # type: ignore[return-value]
        {name: _stacked(name, [parts[name] for parts in each]) for name in each[0]}
        for each in ([dict(m.named_parameters()) for m in models], [dict(m.named_buffers()) for m in models])
    )


def _stacked(name: str, parts: list[Variable]) -> Variable:
    if len({p.requires_grad for p in parts}) > 1:
        raise ValueError(f"stack_module_state: {name} requires grad in some of the models and not in others")
    xp, raws = unify([p.payload for p in parts])
    return Variable(xp.stack(raws), requires_grad=parts[0].requires_grad)
