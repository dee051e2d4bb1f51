"""The transformations: derivatives in reverse and forward mode, Jacobians, Hessians, batching."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from agnostic_ad import trees
from agnostic_ad.batching import Batched, BatchLevel
from agnostic_ad.families import normalize_axis
from agnostic_ad.forward import Dual, ForwardLevel
from agnostic_ad.levels import Array, check_alive, deepest, inexact, unify
from agnostic_ad.namespaces import COMPLEX, RAW, backend_of, backend_of_namespace, lookup
from agnostic_ad.op import TABLE
from agnostic_ad.reverse import BASE, ReverseLevel, Variable, check_cotangent, cotangent_for
from agnostic_ad.tape import backward

__all__ = [
    "differentiable",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "namespace",
    "stop_gradient",
    "value_and_grad",
    "vjp",
    "vmap",
]

_NUMBERS = (bool, int, float, complex)
_NUMPY = backend_of_namespace(np)


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
    <namespace agnostic_ad.reverse(numpy)>
    """
    given = [a for a in arrays if isinstance(a, Array) or lookup(a) is not None]
    if not given:
        raise TypeError("namespace() takes at least one array")
    libraries = {a.backend if isinstance(a, Array) else lookup(a) for a in given}
    if len(libraries) > 1:
        from agnostic_ad.errors import MixedArraysError

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
        ``numpy``, ``cupy``, ``torch``, ``jax.numpy``, ``dask.array``, ``array_api_strict``, or any other that follows the standard.

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
    return BASE.namespace(backend_of_namespace(xp))


# --- arguments ---------------------------------------------------------------------------------------------------------------------------
def _name(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _is_array(x: Any) -> bool:
    return isinstance(x, Array) or lookup(x) is not None


def _primals(values: Sequence[Any], what: str, everything: Any = ()) -> list[Any]:
    """Give leaves as arrays that can be differentiated: numbers become 0-d arrays, other things are refused.

    ``everything`` is a tree of further arguments, which may tell the library that numbers belong to.
    """
    out = []
    for x in values:
        if type(x) in _NUMBERS:
            backend = _NUMPY
            if everything or len(values) > 1:
                arrays = [a for a in (*values, *trees.leaves(everything)) if _is_array(a)]
                if arrays:
                    backend = arrays[0].backend if isinstance(arrays[0], Array) else backend_of(arrays[0])
            x = backend.number(x)
        elif isinstance(x, Array):
            check_alive(x)
        elif lookup(x) is None:
            raise TypeError(f"{what} differentiates with respect to arrays and numbers, not {type(x).__name__}: {x!r:.60}")
        if not inexact(x):
            raise TypeError(f"{what} differentiates with respect to floating and complex arrays; got dtype {x.dtype}. Use astype first.")
        out.append(x)
    return out


def _select(args: tuple[Any, ...], argnums: int | Sequence[int], what: str) -> tuple[tuple[int, ...], bool]:
    if argnums == 0 and args:
        return (0,), True
    single = isinstance(argnums, int)
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise ValueError(f"{what}: argnums {argnums} names argument {n}, but the function was called with {len(args)} positional arguments")
    return tuple(n % len(args) for n in numbers), single


def _with(args: tuple[Any, ...], numbers: tuple[int, ...], values: Sequence[Any]) -> list[Any]:
    out = list(args)
    for n, v in zip(numbers, values, strict=True):
        out[n] = v
    return out


_ONE_LEAF = optree.tree_structure(0, namespace=trees.NAMESPACE)


def _flatten(tree: Any) -> tuple[list[Any], Any]:
    """Split a tree, most often a single array, into leaves and structure."""
    if isinstance(tree, Array) or type(tree) in RAW or type(tree) in _NUMBERS:
        return [tree], _ONE_LEAF
    return trees.flatten(tree)


def _unflatten(spec: Any, values: Sequence[Any]) -> Any:
    return values[0] if spec is _ONE_LEAF else trees.unflatten(spec, values)


class _Arguments:
    """The primals of a function: their leaves, and the way back to the arguments."""

    __slots__ = ("_counts", "_specs", "leaves")

    def __init__(self, primals: Sequence[Any]) -> None:
        self.leaves: list[Any] = []
        self._specs: list[Any] = []
        self._counts: list[int] = []
        for p in primals:
            flat, spec = _flatten(p)
            self.leaves += flat
            self._specs.append(spec)
            self._counts.append(-1 if spec is _ONE_LEAF else len(flat))

    def tree(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Put values in place of the leaves."""
        if sum(self._counts) == -len(self._counts):  # arrays, no trees
            return tuple(values)
        out, start = [], 0
        for spec, count in zip(self._specs, map(abs, self._counts), strict=True):
            out.append(_unflatten(spec, values[start : start + count]))
            start += count
        return tuple(out)


def _lower(level: Any, x: Any) -> Any:
    """Give the payload of what belongs to ``level``; everything else as it is."""
    return x.payload if isinstance(x, Array) and x.level is level else x


def _zeros(x: Any) -> Any:
    xp, (x,) = unify([x])
    return _as_array(xp.zeros_like(x))


# --- reverse -----------------------------------------------------------------------------------------------------------------------------
class _Recorded:
    """A function that ran once on a tape of its own."""

    def __init__(self, label: str, f: Callable[..., Any], primals: Sequence[Any], has_aux: bool, everything: Any = ()) -> None:
        self.label = label
        self.arguments = _Arguments(primals)
        self.primals = _primals(self.arguments.leaves, label, everything)
        self.level = level = ReverseLevel(label)
        self.aux = None
        with level:
            self.leaves = [level.leaf(x) for x in self.primals]
            y = f(*self.arguments.tree(self.leaves))
            if has_aux:
                if not (isinstance(y, tuple) and len(y) == 2):
                    raise TypeError(f"{label} with has_aux=True needs a function that returns (output, aux); got {type(y).__name__}")
                y, aux = y
                self.aux = trees.map_tree(lambda x: _as_array(_lower(level, x)), aux)
            self.outputs, self.out_spec = _flatten(y)
        self.values = [_lower(level, v) for v in self.outputs]

    @property
    def value(self) -> Any:
        """The output, without the tape."""
        return _unflatten(self.out_spec, [_as_array(v) for v in self.values])

    def pull(self, cts: Sequence[Any], retain: bool) -> list[Any]:
        """Give the cotangents of the primals' leaves from those of the outputs' leaves."""
        roots = [(v.node, ct) for v, ct in zip(self.outputs, cts, strict=True) if self.tracked(v)]
        wanted: list[Any] = [leaf.node for leaf in self.leaves]
        found = backward(roots, level=self.level, retain=retain, wanted=wanted)
        return [_zeros(x) if g is None else _as_array(g) for g, x in zip(found, self.primals, strict=True)]

    def tracked(self, v: Any) -> bool:
        """Tell whether an output depends on the primals."""
        return isinstance(v, Variable) and v.level is self.level and v.node is not None


def _as_array(x: Any) -> Any:
    if isinstance(x, Array):
        return x
    backend = lookup(x)
    return x if backend is None else backend.array(x)


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
    run = _Recorded(f"vjp({_name(f)})", f, primals, has_aux)

    def pullback(ct: Any) -> tuple[Any, ...]:
        flat, spec = _flatten(ct)
        if spec != run.out_spec:
            raise TypeError(f"{run.label}: the cotangent has structure {spec}, the output {run.out_spec}")
        checked = [check_cotangent(c, y, run.label) if run.tracked(v) else c for c, y, v in zip(flat, run.values, run.outputs, strict=True)]
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
    return _gradient_of(f, argnums, has_aux, f"value_and_grad({_name(f)})")


def _gradient_of(f: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, label: str) -> Callable[..., Any]:
    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers, single = _select(args, argnums, label)
        everything = (args, kwargs)
        if len(args) == 1 and not kwargs:
            run = _Recorded(label, f, args, has_aux)
        else:
            run = _Recorded(label, lambda *xs: f(*_with(args, numbers, xs), **kwargs), [args[n] for n in numbers], has_aux, everything)
        if len(run.values) != 1 or not (_is_array(run.values[0]) or isinstance(run.values[0], _NUMBERS)):
            raise TypeError(f"{label} needs a function that returns one real array of one element; it returned {run.out_spec}")
        (value,) = run.values
        if not _is_array(value):  # a constant
            grads = [_zeros(x) for x in run.primals]
        else:
            grads = run.pull([cotangent_for(value, None, label)], retain=False)
        found = run.arguments.tree(grads)
        out = (run.value, run.aux) if has_aux else run.value
        return out, (found[0] if single else found)

    return wrapped


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
    both = _gradient_of(f, argnums, has_aux, f"grad({_name(f)})")

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return wrapped


def gradients(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Any, ...]:
    """Differentiate Variables with respect to Variables, without touching any ``grad``.

    Parameters
    ----------
    outputs : Variable or sequence of Variable
        What to differentiate; several are summed.
    inputs : Variable or sequence of Variable
        With respect to what; intermediate results are fine.
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
        One gradient an input: raw arrays, or Variables under ``create_graph``.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> x = ad.Variable(3.0)
    >>> (first,) = ad.gradients(x**3, x, create_graph=True)
    >>> ad.gradients(first, x)
    (array(18.),)
    """
    outs, ins = (tuple(v) if isinstance(v, tuple | list) else (v,) for v in (outputs, inputs))
    cts = grad_outputs if isinstance(grad_outputs, tuple | list) else (grad_outputs,) * len(outs) if grad_outputs is None else (grad_outputs,)
    if len(cts) != len(outs):
        raise ValueError(f"gradients: {len(outs)} outputs and {len(cts)} grad_outputs")
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
    found = backward(roots, level=level, retain=retain, create_graph=create_graph, wanted=[v.node for v in ins], prune=True) if roots else [None] * len(ins)
    if not allow_unused and any(g is None for g in found):
        unused = [i for i, g in enumerate(found) if g is None]
        raise RuntimeError(f"gradients: the outputs do not depend on inputs {unused}. Pass allow_unused=True to get None for them.")
    return tuple(None if g is None else _as_array(g) for g in found)


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
    label = f"jvp({_name(f)})"
    flat, spec = trees.flatten(tuple(primals))
    directions, spec_t = trees.flatten(tuple(tangents))
    if spec != spec_t:
        raise TypeError(f"{label}: the tangents have structure {spec_t}, the primals {spec}")
    values = _primals(flat, label, directions)
    directions = [check_cotangent(t, x, label) for t, x in zip(directions, values, strict=True)]
    level = ForwardLevel(label)
    aux = None
    with level:
        y = f(*trees.unflatten(spec, [level.dual(x, t) for x, t in zip(values, directions, strict=True)]))
        if has_aux:
            y, aux = y
            aux = trees.map_tree(functools.partial(_lower, level), aux)
        outs, out_spec = trees.flatten(y)
    out, tangent = [], []
    for v in outs:
        mine = isinstance(v, Dual) and v.level is level
        out.append(v.payload if mine else v)
        tangent.append(v.tangent if mine and v.tangent is not None else _zeros(out[-1]) if _is_array(out[-1]) else 0.0)
    result = (trees.unflatten(out_spec, out), trees.unflatten(out_spec, [_as_array(t) if _is_array(t) else t for t in tangent]))
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
    moving = [i for i, v in enumerate(flat) if _is_array(v) and inexact(v)]

    def transposable(*cts: Any) -> Any:
        return pullback(trees.unflatten(spec, _with(tuple(flat), tuple(moving), cts)))

    _, transpose = vjp(transposable, *(_zeros(flat[i]) for i in moving))

    def f_jvp(*tangents: Any) -> Any:
        found = transpose(tuple(tangents))
        out = [_zeros(v) if _is_array(v) else 0.0 for v in flat]
        return trees.unflatten(spec, _with(tuple(out), tuple(moving), found))

    return y, f_jvp


# --- Jacobians -------------------------------------------------------------------------------------------------------------------------------
def _basis(x: Any) -> Any:
    """Give the standard basis of the space of ``x``: an array of shape (size, *shape)."""
    xp, (x,) = unify([x])
    size = math.prod(x.shape)
    eye = xp.eye(size, dtype=x.dtype, device=_device(x))
    return xp.reshape(eye, (size, *x.shape))


def _device(x: Any) -> Any:
    backend = lookup(x)
    return x.device if backend is None else backend.device(x)


def _refuse_complex(leaves: Sequence[Any], holomorphic: bool, label: str) -> None:
    for x in leaves:
        if holomorphic != (x.dtype in COMPLEX):
            raise TypeError(
                f"{label} of {'complex' if x.dtype in COMPLEX else 'real'} arrays (dtype {x.dtype}): "
                + (
                    "a complex function has a complex Jacobian only where it is holomorphic. If it is, pass holomorphic=True."
                    if not holomorphic
                    else "holomorphic=True is for functions of complex arrays with complex results."
                )
            )


def _split_argument(f: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, argnums: Any, label: str) -> tuple[Any, tuple[Any, ...], bool]:
    numbers, single = _select(args, argnums, label)
    return lambda *xs: f(*_with(args, numbers, xs), **kwargs), tuple(args[n] for n in numbers), single


def jacrev(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable[..., Any]:
    """Make a function that gives the Jacobian of ``f``, row by row in reverse mode: for few outputs of many inputs.

    Parameters
    ----------
    f : callable
        Returns a tree of arrays, or ``(output, aux)`` with ``has_aux``.
    argnums : int or sequence of int
        The positional arguments to differentiate with respect to; each may be a tree.
    has_aux : bool
        Whether ``f`` returns ``(output, aux)``; the result is then ``(jacobian, aux)``.
    holomorphic : bool
        Whether ``f`` is a holomorphic function of complex arrays.

    Returns
    -------
    callable
        Takes the arguments of ``f``; gives the output's structure, in each place the argument's structure with arrays of shape
        ``output.shape + argument.shape``.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.jacrev(lambda x: x * x)(np.asarray([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    label = f"jacrev({_name(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        inner, primals, single = _split_argument(f, args, kwargs, argnums, label)
        run = _Recorded(label, inner, primals, has_aux, args)
        _refuse_complex([*run.primals, *run.values], holomorphic, label)
        jacobians = []
        for k, y in enumerate(run.values):

            def row(ct: Any, k: int = k) -> Any:
                return run.pull([ct if i == k else _zeros(v) for i, v in enumerate(run.values)], retain=True)

            if math.prod(y.shape):
                rows = vmap(row)(_basis(y))
            else:
                rows = [_empty(x, (0,)) for x in run.primals]
            blocks = [_reshape(_conj(r) if holomorphic else r, (*y.shape, *x.shape)) for r, x in zip(rows, run.primals, strict=True)]
            tree = run.arguments.tree(blocks)
            jacobians.append(tree[0] if single else tree)
        out = _unflatten(run.out_spec, jacobians)
        return (out, run.aux) if has_aux else out

    return wrapped


def _reshape(x: Any, shape: tuple[Any, ...]) -> Any:
    xp, (x,) = unify([x])
    return xp.reshape(x, shape)


def _conj(x: Any) -> Any:
    xp, (x,) = unify([x])
    return xp.conj(x)


def _empty(x: Any, lead: tuple[int, ...]) -> Any:
    xp, (x,) = unify([x])
    return xp.zeros((*lead, *x.shape), dtype=x.dtype, device=_device(x))


def jacfwd(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable[..., Any]:
    """Make a function that gives the Jacobian of ``f``, column by column in forward mode: for many outputs of few inputs.

    Parameters and results are those of `jacrev`.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.jacfwd(lambda x: x * x)(np.asarray([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    label = f"jacfwd({_name(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        inner, primals, single = _split_argument(f, args, kwargs, argnums, label)
        arguments = _Arguments(primals)
        values = _primals(arguments.leaves, label, args)
        kept: dict[str, Any] = {}
        columns = []
        for k, x in enumerate(values):

            def column(t: Any, k: int = k) -> Any:
                def of_leaf(leaf: Any) -> Any:
                    y = inner(*arguments.tree(_with(tuple(values), (k,), [leaf])))
                    if has_aux:
                        y, kept["aux"] = y
                    outs, kept["spec"] = trees.flatten(y)
                    return outs, [stop_gradient(o) for o in outs]

                outs, tangents, extra = jvp(of_leaf, (values[k],), (t,), has_aux=True)
                kept["values"] = extra
                return tangents

            basis = _basis(x) if math.prod(x.shape) else _empty(x, (1,))
            found = vmap(column, out_axes=-1)(basis)
            shapes = [tuple(c.shape[:-1]) for c in found]
            if not math.prod(x.shape):
                found = [_empty(c, ()) [..., :0] for c in found]
            columns.append([_reshape(c, (*s, *x.shape)) for c, s in zip(found, shapes, strict=True)])
            _refuse_complex([x, *found], holomorphic, label)
        jacobians = []
        for blocks in zip(*columns, strict=True):
            tree = arguments.tree(blocks)
            jacobians.append(tree[0] if single else tree)
        out = trees.unflatten(kept["spec"], jacobians)
        return (out, kept.get("aux")) if has_aux else out

    return wrapped


def jacobian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable[..., Any]:
    """Make a function that gives the Jacobian of ``f``; `jacrev` by another name.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.jacobian(lambda x: (x * x).sum())(np.asarray([1.0, 2.0]))
    array([2., 4.])
    """
    return jacrev(f, argnums, has_aux, holomorphic)


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False) -> Callable[..., Any]:
    """Make a function that gives the Hessian of ``f``: the forward Jacobian of its reverse Jacobian.

    Parameters are those of `jacrev`. The result has the argument's structure in the argument's structure, with arrays of shape
    ``output.shape + argument.shape + argument.shape``.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.hessian(lambda x: (x * x * x).sum())(np.asarray([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return jacfwd(jacrev(f, argnums, has_aux, holomorphic), argnums, has_aux, holomorphic)


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """Give the product of the Hessian of ``f`` with tangents, without the Hessian: forward over reverse.

    Parameters
    ----------
    f : callable
        Takes the primals; returns a real array of one element.
    primals, tangents : sequence of tree of arrays

    Returns
    -------
    tuple
        In the structure of the primals.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.hvp(lambda x: (x * x * x).sum(), (np.asarray([1.0, 2.0]),), (np.ones(2),))
    (array([ 6., 12.]),)
    """
    result: tuple[Any, ...] = jvp(grad(f, argnums=tuple(range(len(primals)))), primals, tangents)[1]
    return result


# --- batching --------------------------------------------------------------------------------------------------------------------------------
def _prefix(axes: Any, tree: Any, what: str) -> list[Any]:
    """Give one axis a leaf of ``tree`` (None counted as a leaf), from a tree of axes that may stop early."""
    try:
        found: list[Any] = optree.broadcast_prefix(axes, tree, none_is_leaf=True, namespace=trees.NAMESPACE)
    except ValueError as error:
        raise ValueError(f"{what} does not fit the structure it is for: {error}") from None
    for axis in found:
        if axis is not None and (not isinstance(axis, int) or isinstance(axis, bool)):
            raise TypeError(f"{what} holds integers and None, not {axis!r}")
    return found


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Make a function that maps ``f`` over an axis of its arguments, all members at once.

    Parameters
    ----------
    f : callable
        Written for one member; returns a tree of arrays.
    in_axes : int, None, or tree of them
        The axis of each argument to map over, negative ones counted from the end; None: the same for all members. A tuple has one
        entry an argument; an entry may be a tree that follows the argument's, or stops early. Keyword arguments are passed on whole.
    out_axes : int, None, or tree of them
        Where the mapped axis goes in each output; None only for outputs that are the same for all members.

    Returns
    -------
    callable

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.vmap(lambda x, w: (x * w).sum(), in_axes=(0, None))(np.ones((3, 2)), np.asarray([1.0, 2.0]))
    array([3., 3., 3.])
    """
    label = f"vmap({_name(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        if isinstance(axes, tuple) and len(axes) != len(args):
            raise ValueError(f"{label}: in_axes has {len(axes)} entries for {len(args)} arguments")
        flat, spec = optree.tree_flatten(args, none_is_leaf=True, namespace=trees.NAMESPACE)
        places = _prefix(axes, args, f"{label}: in_axes")
        sizes: dict[int, int] = {}
        moved = []
        for position, (x, axis) in enumerate(zip(flat, places, strict=True)):
            if axis is None or x is None:
                moved.append((x, False))
                continue
            if not _is_array(x):
                raise TypeError(f"{label}: leaf {position} of the arguments is a {type(x).__name__}, which has no axis {axis}. Pass None for it.")
            if not x.shape:
                raise ValueError(f"{label}: leaf {position} of the arguments is 0-d and has no axis {axis} to map over. Pass None for it.")
            axis = normalize_axis(axis, len(x.shape), label)
            sizes[position] = int(x.shape[axis])
            xp, (x,) = unify([_as_array(x)])
            moved.append((xp.moveaxis(x, axis, 0) if axis else x, True))
        if not sizes:
            raise ValueError(f"{label}: no argument is mapped over; at least one in_axes must be an integer")
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"leaf {p}: {n}" for p, n in sizes.items())
            raise ValueError(f"{label}: the mapped axes have different sizes ({listed})")
        level = BatchLevel(label, next(iter(sizes.values())))
        with level:
            y = f(*optree.tree_unflatten(spec, [level.batched(x) if b else x for x, b in moved]), **kwargs)
            outs, out_spec = optree.tree_flatten(y, none_is_leaf=True, namespace=trees.NAMESPACE)
            out_places = _prefix(out_axes, y, f"{label}: out_axes")
        results = [_unbatch(level, v, axis) for v, axis in zip(outs, out_places, strict=True)]
        return optree.tree_unflatten(out_spec, results)

    return wrapped


def _unbatch(level: BatchLevel, v: Any, axis: int | None) -> Any:
    if v is None:
        return None
    mine = isinstance(v, Batched) and v.level is level
    if axis is None:
        if mine and v.batched:
            raise ValueError(f"{level.label}: out_axes is None for an output that differs between members")
        return v.payload if mine else v
    if not _is_array(v):
        if isinstance(v, _NUMBERS):
            v = _NUMPY.xp.asarray(v)
        else:
            raise TypeError(f"{level.label}: an output is a {type(v).__name__}, not an array")
    data = v.payload if mine else v
    xp, (data,) = unify([data])
    if not (mine and v.batched):
        data = xp.broadcast_to(data, (level.size, *data.shape))
    return xp.moveaxis(data, 0, normalize_axis(axis, len(data.shape), f"{level.label}: out_axes")) if axis else data


