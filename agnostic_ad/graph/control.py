"""Choices and loops whose course is decided by values: ``cond``, ``while_loop`` and ``scan``.

Outside of a capture they are Python's own ``if``, ``while`` and ``for``: a tape records what ran. Where the value that decides is not there
(inside a capture, or where the members of a batch differ) the functions are captured in turn, and one operation of the table holds their
graphs. What a function uses from around it becomes an operand of that operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from agnostic_ad import trees
from agnostic_ad.graph import sizes
from agnostic_ad.graph.branches import (
    Staged,
    as_array,
    flat_graph,
    is_array,
    spec_from,
    spec_of,
    stage,
)
from agnostic_ad.graph.capture import TraceLevel
from agnostic_ad.graph.controlops import COND, SCAN, WHILE
from agnostic_ad.graph.ir import Graph, GraphNode
from agnostic_ad.levels import _STACK, Array, device_of, unify
from agnostic_ad.namespaces import ShapeDtype, backend_of, backend_of_namespace, lookup

__all__ = ["cond", "scan", "while_loop"]


def _whole(x: Any) -> Any:
    """Give an array where a library computed one of its scalars."""
    return x if isinstance(x, Array) else backend_of(x).array(x)


def _backend(leaves: Sequence[Any]) -> Any:
    """Give the backend of the first array; NumPy's where there is none."""
    for x in leaves:
        found = x.backend if isinstance(x, Array) else lookup(x)
        if found is not None:
            return found
    return backend_of_namespace(np)


def _names(what: str, spec: Any) -> list[str]:
    return [accessor.codify(what) for accessor in optree.treespec_accessors(spec)]


def _text(spec: Any) -> str:
    return f"shape {sizes.text(spec.shape)} and dtype {spec.dtype}"


def _refuse_change(label: str, name: str, got: Any, expected: Any, why: str) -> None:
    """Refuse a leaf of another shape or dtype than it has to have; sizes that a lazy library does not know fit all."""
    same = len(got.shape) == len(expected.shape) and all(a == b or a != a or b != b for a, b in zip(got.shape, expected.shape, strict=True))
    if not same or got.dtype != expected.dtype:
        raise TypeError(f"{label}: {name} has {_text(got)}, expected {_text(expected)}: {why}.")


def tracing() -> bool:
    """Tell whether a graph is being made."""
    return any(isinstance(level, TraceLevel) for level in _STACK.get())


def _known(x: Any) -> bool:
    """Tell whether the one value of ``x`` is there: not while its graph is made, and not where the members of a batch differ."""
    if not isinstance(x, Array):
        return True
    while isinstance(x, Array):
        if x.level.fixed_shapes and getattr(x, "batched", True):
            return False
        x = x.payload
    backend = backend_of(x)
    return backend.lazy or backend.concrete(x)


def _boolean(x: Any, label: str) -> Any:
    """Give what a condition gave, if it can decide."""
    if is_array(x) and (tuple(x.shape) != () or _backend([x]).kind(x.dtype) != "b"):
        raise TypeError(f"{label}: the condition has {_text(x)}; one boolean is wanted, of shape (). Use x.any(), x.all() or xp.where.")
    return x


# --- what users call ------------------------------------------------------------------------------------------------------------------------
def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """Give ``true_fn(*operands)`` if ``pred`` is true, else ``false_fn(*operands)``; only one of the two is computed.

    Where the members of a batch differ (under ``vmap``), both are computed, and each member gets its own.

    Parameters
    ----------
    pred : bool or array
        A boolean array of shape ().
    true_fn, false_fn : callable
        Take the operands, and may use arrays from around them. In a graph both give the same structure, shapes and dtypes.
    *operands : tree of arrays
        Anything else is passed on as it is.

    Returns
    -------
    tree of arrays

    Raises
    ------
    TypeError
        Where the condition is no single boolean, or the two results differ in structure, shape or dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> def f(x):
    ...     return graph.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, x)
    >>> g = graph.capture(ad.grad(lambda x: f(x).sum()), graph.ShapeDtype((2,), "float64"))
    >>> g(np.asarray([1.0, 2.0])), g(np.asarray([-1.0, -2.0]))
    (array([2., 2.]), array([-1., -1.]))
    """
    _boolean(pred, "cond")
    if _known(pred):
        return (true_fn if bool(pred) else false_fn)(*operands)
    leaves, spec = trees.flatten(operands)
    places = [i for i, x in enumerate(leaves) if is_array(x)]
    arrays = [leaves[i] for i in places]

    def flat(f: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *xs: f(*trees.unflatten(spec, _filled(leaves, places, xs)))

    specs = [(spec_from(x), device_of(x)) for x in arrays]
    first, second = (stage(flat(f), f"cond: {n}", pred.backend, specs) for f, n in ((true_fn, "true_fn"), (false_fn, "false_fn")))
    if first.spec != second.spec:
        raise TypeError(f"cond: true_fn gives structure {first.spec}, false_fn {second.spec}; they have to be the same.")
    first, second = _numbers_like(first, second), _numbers_like(second, first)
    for name, a, b in zip(_names("result", first.spec), first.graph.outputs, second.graph.outputs, strict=True):
        _refuse_change("cond", f"{name} of false_fn", spec_of(b), spec_of(a), "as of true_fn; both have to give the same")
    everything = [*first.outer, *(x for x in second.outer if not any(x is y for y in first.outer))]
    true, false = (_widened(s, len(arrays), everything) for s in (first, second))
    y = COND.run((pred, *arrays, *everything), {"true": true, "false": false, "pull": None})
    return trees.unflatten(first.spec, y)


def _filled(leaves: Sequence[Any], places: Sequence[int], values: Sequence[Any]) -> list[Any]:
    out = list(leaves)
    for i, x in zip(places, values, strict=True):
        out[i] = x
    return out


def _numbers_like(one: Staged, other: Staged) -> Staged:
    """Give Python numbers among the results the dtype of what stands in their place in another graph."""
    places, backend = list(one.graph.outputs), one.graph.backend
    for i, (number, o) in enumerate(zip(one.numbers, other.graph.outputs, strict=True)):
        if number and not other.numbers[i]:
            places[i] = as_array(backend.to_numpy(places[i]).item(), "cond", backend, spec_of(o).dtype)
    return one._replace(graph=one.graph.rebuild(outputs=places))


def _widened(staged: Staged, own: int, everything: Sequence[Any]) -> Graph:
    """Give a graph that takes, behind its own operands, all of ``everything`` from around."""
    graph, rest = staged.graph, staged.graph.inputs[own:]
    inputs = [
        next((n for n, y in zip(rest, staged.outer, strict=True) if x is y), None) or GraphNode(None, (), {}, (spec_from(x),), f"unused{i}")
        for i, x in enumerate(everything)
    ]
    return flat_graph(graph.label, graph.nodes, [*graph.inputs[:own], *inputs], graph.outputs, graph.backend, graph.guards)


def _carried(label: str, init: Any, others: Sequence[Any] = ()) -> tuple[list[Any], Any, Any]:
    """Give what a loop starts with: arrays (numbers become 0-d ones), their structure, and the library."""
    leaves, spec = trees.flatten(init)
    backend = _backend([*leaves, *others])
    return [_whole(x) if is_array(x) else as_array(x, f"{label}: init", backend) for x in leaves], spec, backend


def _next(label: str, y: Any, names: list[str], spec: Any, carry: Sequence[Any], backend: Any) -> list[Any]:
    """Give what a round leaves to the next, as leaves like those before."""
    flat, found = trees.flatten(y)
    if found != spec:
        raise TypeError(f"{label}: the body gives structure {found}, expected {spec}: a loop carries the same structure in every round.")
    flat = [_whole(r) if is_array(r) else as_array(r, f"{label}: the body", backend, x.dtype) for r, x in zip(flat, carry, strict=True)]
    for name, r, x in zip(names, flat, carry, strict=True):
        _refuse_change(label, f"{name} after a round", r, x, "a loop keeps the shapes and dtypes of what it carries")
    return flat


def while_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """Give what comes of ``init`` when ``body`` is done to it as long as ``cond`` holds.

    Reverse mode keeps of each round what its derivative needs. Under ``vmap``, rounds are done until all members are through.

    Parameters
    ----------
    cond : callable
        Gives a boolean array of shape () for what is carried. It may use arrays from around it, as ``body`` may.
    body : callable
        Gives what is carried on, of the same structure, shapes and dtypes.
    init : tree of arrays
        What the first round starts with; numbers become 0-d arrays.

    Returns
    -------
    tree of arrays

    Raises
    ------
    TypeError
        Where the body changes structure, shape or dtype of what is carried, or the condition is no single boolean.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> def power(x):
    ...     return graph.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, x))[1]
    >>> g = graph.capture(ad.value_and_grad(power), graph.ShapeDtype((), "float64"))
    >>> g(2.0)
    (array(16.), array(32.))
    """
    carry, spec, backend = _carried("while_loop", init)
    names = _names("carry", spec)
    while not tracing():
        holds = _boolean(cond(trees.unflatten(spec, carry)), "while_loop")
        if not _known(holds):
            break
        if not bool(holds):
            return trees.unflatten(spec, carry)
        carry = _next("while_loop", body(trees.unflatten(spec, carry)), names, spec, carry, backend)
    if not carry:
        raise TypeError("while_loop: init holds no array; in a graph, a loop has to carry what its condition depends on.")
    return trees.unflatten(
        spec,
        written_loop(
            lambda *xs: _boolean(cond(trees.unflatten(spec, xs)), "while_loop"),
            lambda *xs: tuple(_next("while_loop", body(trees.unflatten(spec, xs)), names, spec, xs, backend)),
            carry,
            backend,
        ),
    )


def written_loop(cond: Callable[..., Any], body: Callable[..., Any], carry: Sequence[Any], backend: Any) -> Any:
    """Write a loop into the graph that is being captured; what ``body`` gives beyond what is carried on is stacked."""
    specs, n = [(spec_from(x), device_of(x)) for x in carry], len(carry)
    test = stage(lambda *xs: (cond(*xs),), "while_loop: cond", backend, specs)
    step = stage(body, "while_loop: body", backend, specs)
    everything = [*test.outer, *(x for x in step.outer if not any(x is y for y in test.outer))]
    test_graph, step_graph = (_constants_first(_widened(s, n, everything), n) for s in (test, step))
    return WHILE.run((*everything, *carry), {"cond": test_graph, "body": step_graph, "carries": n, "pull": None})


def _constants_first(graph: Graph, own: int) -> Graph:
    return graph.rebuild(inputs=[*graph.inputs[own:], *graph.inputs[:own]])


def scan(f: Callable[[Any, Any], Any], init: Any, xs: Any = None, length: int | None = None, reverse: bool = False) -> Any:
    """Carry a state along axis 0 of ``xs``: ``state, y = f(state, x)`` for each element, and all ``y`` stacked.

    Parameters
    ----------
    f : callable
        ``(carry, x) -> (carry, y)``; the carry keeps its structure, shapes and dtypes; ``y`` is any tree of arrays, or None.
    init : tree of arrays
        The carry that the first round starts with; numbers become 0-d arrays.
    xs : tree of arrays, optional
        Their axes 0 have one length.
    length : int, optional
        How many rounds, where ``xs`` does not say.
    reverse : bool
        Begin with the last element. Each ``y`` stands where its ``x`` does.

    Returns
    -------
    carry : tree of arrays
    ys : tree of arrays
        Each with an axis more, in front.

    Raises
    ------
    TypeError
        Where the carry changes structure, shape or dtype.
    ValueError
        Where lengths differ, or none is known.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> def f(x):
    ...     return graph.scan(lambda total, x: (total + x, total * x), 0.0, x)
    >>> f(np.asarray([1.0, 2.0, 3.0]))
    (array(6.), array([0., 2., 9.]))
    >>> g = graph.capture(ad.grad(lambda x: f(x)[1].sum()), graph.ShapeDtype((3,), "float64"))
    >>> g(np.asarray([1.0, 2.0, 3.0]))
    array([5., 4., 3.])
    """
    parts, xs_spec = trees.flatten(xs)
    carry, spec, backend = _carried("scan", init, parts)
    for name, x in zip(_names("xs", xs_spec), parts, strict=True):
        if not is_array(x) or not x.shape:
            raise ValueError(f"scan: {name} has no axis to go along: {_text(x) if is_array(x) else repr(x)}. Close over it, or carry it.")
    lengths = [x.shape[0] for x in parts] + ([] if length is None else [length])
    if not lengths:
        raise ValueError("scan: how many rounds? xs holds no array; give length=")
    if any(n != lengths[0] for n in lengths):
        raise ValueError(
            f"scan: the lengths differ: {', '.join(map(str, lengths))} (axes 0 of xs{', length' if length is not None else ''})"
        )
    names = _names("carry", spec)

    def one(state: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], Any]:
        y = f(trees.unflatten(spec, state), trees.unflatten(xs_spec, x))
        if not (isinstance(y, tuple) and len(y) == 2):
            raise TypeError(f"scan: f gives (carry, y), not {type(y).__name__}")
        return _next("scan", y[0], names, spec, state, backend), y[1]

    if lengths[0] == 0 or tracing():
        return _staged_scan(one, carry, spec, parts, backend, lengths[0], reverse)
    order, rows = range(int(lengths[0])), {}
    for i in reversed(order) if reverse else order:
        carry, y = one(carry, [x[i, ...] for x in parts])
        rows[i], y_spec = trees.flatten(y)
    stacked = []
    for column in zip(*(rows[i] for i in order), strict=True):
        xp, arrays = unify([x if is_array(x) else as_array(x, "scan: f", backend) for x in column])
        stacked.append(xp.stack(arrays))
    return trees.unflatten(spec, carry), trees.unflatten(y_spec, stacked)


def _staged_scan(one: Callable[..., Any], carry: list[Any], spec: Any, xs: list[Any], backend: Any, length: Any, reverse: bool) -> Any:
    n = len(carry)
    specs = [(spec_from(x), device_of(x)) for x in carry] + [(ShapeDtype(tuple(x.shape[1:]), x.dtype), device_of(x)) for x in xs]
    step = stage(lambda *args: one(args[:n], args[n:]), "scan: body", backend, specs)
    own = n + len(xs)
    body = _constants_first(step.graph, own)
    params = {"body": body, "consts": len(step.outer), "carries": n, "length": length, "reverse": bool(reverse), "pull": None}
    operands = (*step.outer, *carry, *xs)
    if not operands:
        raise TypeError("scan: init and xs hold no array; in a graph, a loop has to carry something.")
    y = SCAN.run(operands, params)
    state, ys = trees.unflatten(step.spec, y)
    return trees.unflatten(spec, state), ys
