"""The transformations in reverse and forward mode."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad import trees
from agnostic_ad.arguments import (
    NUMBERS,
    Arguments,
    as_array,
    as_primals,
    flatten,
    flatten_like,
    is_array,
    lower,
    name_of,
    own,
    replaced,
    select,
    unflatten,
    zeros,
)
from agnostic_ad.errors import MixedArraysError
from agnostic_ad.forward import Dual, ForwardLevel
from agnostic_ad.graph.capture import Traced
from agnostic_ad.graph.definition import replayed
from agnostic_ad.levels import Array, check_alive, deepest, inexact
from agnostic_ad.namespaces import backend_of_namespace, lookup
from agnostic_ad.op import TABLE
from agnostic_ad.reverse import BASE, ReverseLevel, Variable, check_cotangent, cotangent_for
from agnostic_ad.tape import backward
from agnostic_ad.wrapped import Namespace

__all__ = [
    "differentiable",
    "grad",
    "gradients",
    "jvp",
    "linearize",
    "namespace",
    "stop_gradient",
    "value_and_grad",
    "vjp",
]


# --- namespaces ------------------------------------------------------------------------------------------------------------------------
def namespace(*arrays: Any) -> Any:
    """Give the Array API namespace that computes with all ``arrays`` together.

    Parameters
    ----------
    *arrays : array or number
        Raw arrays, Variables, arrays of transformations; Python numbers are ignored.

    Returns
    -------
    namespace
        Differentiable where an array is wrapped; the library's own for raw arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.namespace(np.ones(2)) is np
    True
    >>> ad.namespace(ad.Variable([1.0]))
    <namespace agnostic_ad.reverse(numpy); its asarray() takes raw operands in>
    """
    given = [a for a in arrays if isinstance(a, Array) or lookup(a) is not None]
    if not given:
        raise TypeError("namespace() takes at least one array")
    libraries = {a.backend if isinstance(a, Array) else lookup(a) for a in given}
    if len(libraries) > 1:
        raise MixedArraysError(f"arrays of several libraries have no common namespace: {', '.join(sorted(b.name for b in libraries if b))}")
    (backend,) = libraries
    assert backend is not None
    level = deepest(given)
    return backend.xp if level is None else level.namespace(backend)


def differentiable(xp: Any) -> Any:
    """Give the namespace of Variables over an Array API namespace.

    Parameters
    ----------
    xp : module or namespace
        ``numpy``, ``cupy``, ``torch``, ``jax.numpy``, ``dask.array``, ``array_api_strict``, or any other that follows the standard; also
        what this function gave: Variables over Variables.

    Returns
    -------
    namespace
        The standard's functions; all of them give Variables, creation functions too (which do not require grad).

    Examples
    --------
    >>> import numpy
    >>> import agnostic_ad as ad
    >>> np = ad.differentiable(numpy)
    >>> np.sin(np.zeros(2))
    Variable(array([0., 0.]))
    """
    if isinstance(xp, Namespace):
        if not isinstance(xp.level, ReverseLevel):
            raise TypeError(f"{xp.__name__} lives no longer than its function; what lasts cannot stand on it")
        return xp.level.above().namespace(xp.backend)
    return BASE.namespace(backend_of_namespace(xp))


def split_aux(y: Any, label: str) -> tuple[Any, Any]:
    """Give output and aux of a function with has_aux=True."""
    if not (isinstance(y, tuple) and len(y) == 2):
        raise TypeError(f"{label} with has_aux=True needs a function that returns (output, aux); got {type(y).__name__}")
    return y


# --- reverse -----------------------------------------------------------------------------------------------------------------------------
class Recorded:
    """A function that ran once on a tape of its own."""

    def __init__(self, label: str, f: Callable[..., Any], primals: Sequence[Any], has_aux: bool, everything: Any = ()) -> None:
        self.label = label
        self.arguments = Arguments(primals)
        self.primals = as_primals(self.arguments.leaves, label, everything)
        self.level = level = ReverseLevel(label)
        self.aux = None
        with level:
            leaves = list(map(level.leaf, self.primals))
            self.nodes: list[Any] = [leaf.node for leaf in leaves]  # now: the function may change its arguments in place
            y = f(*self.arguments.tree(leaves))
            if has_aux:
                y, aux = split_aux(y, label)
                self.aux = trees.map_tree(lambda x: as_array(lower(level, x)), aux)
            self.outputs, self.out_spec = flatten(y)
        self.values = [lower(level, v) for v in self.outputs]

    @property
    def value(self) -> Any:
        """The output, without the tape."""
        return unflatten(self.out_spec, [as_array(v) for v in self.values])

    def pull(self, cts: Sequence[Any], retain: bool, one: Any = None) -> list[Any]:
        """Give the cotangents of the primals' leaves from those of the outputs' leaves."""
        roots = [(v.node, ct) for v, ct in zip(self.outputs, cts, strict=True) if self.tracked(v)]
        found = backward(roots, level=self.level, retain=retain, wanted=self.nodes, one=one)
        return [zeros(x) if g is None else own(g) for g, x in zip(found, self.primals, strict=True)]

    def tracked(self, v: Any) -> bool:
        """Tell whether an output depends on the primals."""
        return isinstance(v, Variable) and v.level is self.level and v.node is not None


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Evaluate a function and give its pullback, the vector-Jacobian product.

    Parameters
    ----------
    f : callable
        Takes ``primals``; returns a tree of arrays.
    *primals : tree of arrays
        Floating or complex arrays of any one library; Python numbers count as 0-d float64.
    has_aux : bool
        Whether ``f`` returns ``(output, aux)``; aux is passed on as a third result.

    Returns
    -------
    output : tree of arrays
    pullback : callable
        Takes a cotangent for the output (same structure, shapes, dtypes); returns a tuple of cotangents, one a primal. It may be called
        again, and inside ``vmap``.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> y, pullback = ad.vjp(lambda x, w: x * w, np.asarray([1.0, 2.0]), np.asarray([3.0, 4.0]))
    >>> pullback(np.ones(2))
    (array([3., 4.]), array([1., 2.]))
    """
    run = Recorded(f"vjp({name_of(f)})", f, primals, has_aux)

    def pullback(ct: Any) -> tuple[Any, ...]:
        flat = flatten_like(run.out_spec, ct)
        if flat is None:
            raise TypeError(f"{run.label}: the cotangent has structure {flatten(ct)[1]}, the output {run.out_spec}")
        checked = [
            check_cotangent(c, y, run.label, "cotangent") if run.tracked(v) else c
            for c, y, v in zip(flat, run.values, run.outputs, strict=True)
        ]
        return run.arguments.tree(run.pull(checked, retain=True))

    return (run.value, pullback, run.aux) if has_aux else (run.value, pullback)


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Make a function that gives both the value of ``f`` and its gradient.

    Parameters
    ----------
    f : callable
        Returns a real array of one element, or ``(value, aux)`` with ``has_aux``.
    argnums : int or sequence of int
        The positional arguments to differentiate with respect to; each may be a tree.
    has_aux : bool
        Whether ``f`` returns ``(value, aux)``.

    Returns
    -------
    callable
        Takes the arguments of ``f``; returns ``(value, gradient)``, or ``((value, aux), gradient)``. The gradient has the structure,
        shapes, dtypes and devices of the argument; a sequence of argnums gives a tuple.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.value_and_grad(lambda x: (x * x).sum())(np.asarray([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """
    label = f"value_and_grad({name_of(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        run, gradient = _gradient(f, args, kwargs, argnums, has_aux, label)
        return (run.value, run.aux) if has_aux else run.value, gradient

    return wrapped


def _gradient(
    f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argnums: int | Sequence[int], has_aux: bool, label: str
) -> tuple[Recorded, Any]:
    """Give one run of ``f``, and its gradient."""
    numbers, single = select(args, argnums, label)
    if len(args) == 1 and not kwargs:
        run = Recorded(label, f, args, has_aux)
    else:
        run = Recorded(label, lambda *xs: f(*replaced(args, numbers, xs), **kwargs), [args[n] for n in numbers], has_aux, (args, kwargs))
    value = run.values[0] if len(run.values) == 1 else None
    if is_array(value):
        one = cotangent_for(value, None, label)
        grads = run.pull([one], retain=False, one=None if one.shape else one)
    elif isinstance(value, NUMBERS):  # a constant
        grads = [zeros(x) for x in run.primals]
    else:
        raise TypeError(f"{label} needs a function that returns one real array of one element; it returned {run.out_spec}")
    found = run.arguments.tree(grads)
    return run, (found[0] if single else found)


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Make a function that gives the gradient of ``f``.

    Parameters
    ----------
    f, argnums, has_aux
        As for `value_and_grad`.

    Returns
    -------
    callable
        Takes the arguments of ``f``; returns the gradient, or ``(gradient, aux)`` with ``has_aux``.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> ad.grad(lambda x: x**3)(2.0)
    array(12.)
    >>> ad.grad(ad.grad(lambda x: x**3))(2.0)
    array(12.)
    """
    label = f"grad({name_of(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        run, gradient = _gradient(f, args, kwargs, argnums, has_aux, label)
        return (gradient, run.aux) if has_aux else gradient

    return wrapped


def gradients(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Differentiate Variables with respect to Variables, without touching any ``grad``; or values of a graph that is being defined.

    Parameters
    ----------
    outputs : Variable or sequence of Variable, or values of ``with graph.Graph()``
        What to differentiate; several are summed.
    inputs : Variable or sequence of Variable, or values of the graph
        With respect to what; intermediate results are fine. In a graph, parameters stand for the variables that they became.
    grad_outputs : array or sequence of array, optional
        Cotangents of the outputs; they may be left out for real outputs of one element.
    retain_graph : bool, optional
        Keep what the graph saved; by default, as ``create_graph``.
    create_graph : bool
        Give Variables that can be differentiated again.
    allow_unused : bool
        Give None for an input that no output depends on, in place of an error.

    Returns
    -------
    tuple
        One gradient an input: raw arrays, or Variables under ``create_graph``; values of the graph in a graph.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> x = ad.Variable(3.0)
    >>> (first,) = ad.gradients(x**3, x, create_graph=True)
    >>> ad.gradients(first, x)
    (array(18.),)
    """
    outs, ins = (tuple(v) if isinstance(v, tuple | list) else (v,) for v in (outputs, inputs))
    cts = (
        grad_outputs if isinstance(grad_outputs, tuple | list) else (grad_outputs,) * len(outs) if grad_outputs is None else (grad_outputs,)
    )
    if len(cts) != len(outs):
        raise ValueError(f"gradients: {len(outs)} outputs and {len(cts)} grad_outputs")
    if outs and isinstance(outs[0], Traced):
        return _traced_gradients(outs, ins, cts, allow_unused)
    for v in (*outs, *ins):
        if not isinstance(v, Variable):
            raise TypeError(f"gradients takes Variables, not {type(v).__name__}")
        check_alive(v)
    level = outs[0].level if outs else BASE
    if any(v.level is not level for v in (*outs, *ins)):
        raise TypeError("gradients: outputs and inputs belong to different transformations")
    for v in ins:
        if v.node is None:
            raise RuntimeError("gradients: an input does not require grad")
    roots = []
    for v, ct in zip(outs, cts, strict=True):
        if create_graph:
            seed: Any = cotangent_for(v, ct, "gradients")
            seed = seed if isinstance(seed, Variable) and seed.level is level else level.lift(seed)
        else:
            seed = cotangent_for(v.payload, ct, "gradients")
        if v.node is not None:
            roots.append((v.node, seed))
    retain = create_graph if retain_graph is None else retain_graph
    found = (
        backward(roots, level=level, retain=retain, create_graph=create_graph, wanted=[v.node for v in ins], prune=True)
        if roots
        else [None] * len(ins)
    )
    if not allow_unused and any(g is None for g in found):
        unused = [i for i, g in enumerate(found) if g is None]
        raise RuntimeError(f"gradients: the outputs do not depend on inputs {unused}. Pass allow_unused=True to get None for them.")
    return tuple(None if g is None else own(g) for g in found)


def _traced_gradients(outs: tuple[Any, ...], ins: tuple[Any, ...], cts: Any, allow_unused: bool) -> tuple[Any, ...]:
    """Give gradients of values of a graph that is being defined, as values of it."""
    found: dict[int, Any] = {}
    for positions, xs, f in replayed(outs, ins):
        cotangents = tuple(cotangent_for(y, ct, "gradients") for y, ct in zip(outs, cts, strict=True))
        for places, ct in zip(positions, vjp(f, *xs)[1](cotangents), strict=True):
            found.update(dict.fromkeys(places, ct))
    unused = [i for i in range(len(ins)) if i not in found]
    if unused and not allow_unused:
        raise RuntimeError(f"gradients: the outputs do not depend on inputs {unused}. Pass allow_unused=True to get None for them.")
    return tuple(found.get(i) for i in range(len(ins)))


def stop_gradient(x: Any) -> Any:
    """Give a tree of arrays as constants: no derivative flows through, in any mode.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> ad.grad(lambda x: x * ad.stop_gradient(x))(3.0)
    array(3.)
    """
    return trees.map_tree(lambda leaf: TABLE["stop_gradient"](leaf) if isinstance(leaf, Array) else leaf, x)


# --- forward -------------------------------------------------------------------------------------------------------------------------------
def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """Evaluate a function and its Jacobian-vector product, in forward mode.

    Parameters
    ----------
    f : callable
        Takes the primals; returns a tree of arrays.
    primals, tangents : sequence of tree of arrays
        One each an argument; of the same structure, shapes and dtypes.
    has_aux : bool
        Whether ``f`` returns ``(output, aux)``; aux is passed on as a third result.

    Returns
    -------
    output : tree of arrays
    tangent : tree of arrays
        The directional derivative.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.jvp(lambda x: x * x, (np.asarray([1.0, 2.0]),), (np.asarray([1.0, 10.0]),))
    (array([1., 4.]), array([ 2., 40.]))
    """
    label = f"jvp({name_of(f)})"
    flat, spec = trees.flatten(tuple(primals))
    directions = trees.flatten_like(spec, tuple(tangents))
    if directions is None:
        raise TypeError(f"{label}: the tangents have structure {trees.flatten(tuple(tangents))[1]}, the primals {spec}")
    values = as_primals(flat, label, directions)
    directions = [check_cotangent(t, x, label, "tangent") for t, x in zip(directions, values, strict=True)]
    level = ForwardLevel(label)
    aux = None
    with level:
        y = f(*trees.unflatten(spec, [level.dual(x, t) for x, t in zip(values, directions, strict=True)]))
        if has_aux:
            y, aux = split_aux(y, label)
            aux = trees.map_tree(functools.partial(lower, level), aux)
        outs, out_spec = trees.flatten(y)
    out, tangent = [], []
    for v in outs:
        mine = isinstance(v, Dual) and v.level is level
        out.append(as_array(v.payload if mine else v))
        tangent.append(v.tangent if mine and v.tangent is not None else zeros(out[-1]) if is_array(out[-1]) else 0.0)
    result = (trees.unflatten(out_spec, out), trees.unflatten(out_spec, [as_array(t) if is_array(t) else t for t in tangent]))
    return (*result, aux) if has_aux else result


def linearize(f: Callable[..., Any], *primals: Any) -> Any:
    """Evaluate a function once and give its derivative at that point as a linear function.

    Parameters
    ----------
    f : callable
        Takes the primals; returns a tree of arrays.
    *primals : tree of arrays

    Returns
    -------
    output : tree of arrays
    f_jvp : callable
        Takes one tangent a primal; gives the output's tangent, without evaluating ``f`` again. (It is the transpose of the pullback,
        which is linear.)

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> y, f_jvp = ad.linearize(lambda x: x**2, 3.0)
    >>> f_jvp(1.0), f_jvp(10.0)
    (array(6.), array(60.))
    """
    y, pullback = vjp(f, *primals)
    flat, spec = trees.flatten(y)
    moving = [i for i, v in enumerate(flat) if is_array(v) and inexact(v)]

    def transposable(*cts: Any) -> Any:
        return pullback(trees.unflatten(spec, replaced(tuple(flat), tuple(moving), cts)))

    _, transpose = vjp(transposable, *(zeros(flat[i]) for i in moving))

    def f_jvp(*tangents: Any) -> Any:
        found = transpose(tuple(tangents))
        out = [zeros(v) if is_array(v) else 0.0 for v in flat]
        return trees.unflatten(spec, replaced(tuple(out), tuple(moving), found))

    return y, f_jvp
