"""Jacobians, Hessians, and the product of a Hessian with tangents."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad import trees
from agnostic_ad.arguments import Arguments, as_primals, name_of, replaced, select, unflatten, zeros
from agnostic_ad.levels import device_of, unify
from agnostic_ad.mapping import vmap
from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.transforms import Recorded, grad, jvp, split_aux

__all__ = ["hessian", "hvp", "jacfwd", "jacobian", "jacrev"]


def _basis(x: Any) -> Any:
    """Give the standard basis of the space of ``x``: an array of shape (size, *shape)."""
    xp, (x,) = unify([x])
    size = math.prod(x.shape)
    eye = xp.eye(size, dtype=x.dtype, device=device_of(x))
    return xp.reshape(eye, (size, *x.shape))


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


def _split_argument(
    f: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, argnums: Any, label: str
) -> tuple[Any, tuple[Any, ...], bool]:
    numbers, single = select(args, argnums, label)
    return lambda *xs: f(*replaced(args, numbers, xs), **kwargs), tuple(args[n] for n in numbers), single


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
    label = f"jacrev({name_of(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        inner, primals, single = _split_argument(f, args, kwargs, argnums, label)
        run = Recorded(label, inner, primals, has_aux, args)
        _refuse_complex([*run.primals, *run.values], holomorphic, label)
        jacobians = []
        for k, y in enumerate(run.values):

            def row(ct: Any, k: int = k) -> Any:
                return run.pull([ct if i == k else zeros(v) for i, v in enumerate(run.values)], retain=True)

            if math.prod(y.shape):
                rows = vmap(row)(_basis(y))
            else:
                rows = [_empty(x, (0,)) for x in run.primals]
            blocks = [_reshape(_conj(r) if holomorphic else r, (*y.shape, *x.shape)) for r, x in zip(rows, run.primals, strict=True)]
            tree = run.arguments.tree(blocks)
            jacobians.append(tree[0] if single else tree)
        out = unflatten(run.out_spec, jacobians)
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
    return xp.zeros((*lead, *x.shape), dtype=x.dtype, device=device_of(x))


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
    label = f"jacfwd({name_of(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        inner, primals, single = _split_argument(f, args, kwargs, argnums, label)
        arguments = Arguments(primals)
        values = as_primals(arguments.leaves, label, args)
        if not values:  # no columns, from which to learn the output's structure
            return jacrev(f, argnums, has_aux, holomorphic)(*args, **kwargs)
        kept: dict[str, Any] = {}
        columns = []
        for k, x in enumerate(values):

            def column(t: Any, k: int = k) -> Any:
                def of_leaf(leaf: Any) -> Any:
                    y = inner(*arguments.tree(replaced(tuple(values), (k,), [leaf])))
                    y, aux = split_aux(y, label) if has_aux else (y, None)
                    outs, kept["spec"] = trees.flatten(y)
                    return outs, aux

                _, tangents, kept["aux"] = jvp(of_leaf, (values[k],), (t,), has_aux=True)
                return tangents

            basis = _basis(x) if math.prod(x.shape) else _empty(x, (1,))
            found = vmap(column, out_axes=-1)(basis)
            shapes = [tuple(c.shape[:-1]) for c in found]
            if not math.prod(x.shape):
                found = [_empty(c, ())[..., :0] for c in found]
            columns.append([_reshape(c, (*s, *x.shape)) for c, s in zip(found, shapes, strict=True)])
            _refuse_complex([x, *found], holomorphic, label)
        jacobians = []
        for blocks in zip(*columns, strict=True):
            tree = arguments.tree(blocks)
            jacobians.append(tree[0] if single else tree)
        out = trees.unflatten(kept["spec"], jacobians)
        return (out, kept.get("aux")) if has_aux else out

    return wrapped


def jacobian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
    """Make a function that gives the Jacobian of ``f``; `jacrev` by another name.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> ad.jacobian(lambda x: (x * x).sum())(np.asarray([1.0, 2.0]))
    array([2., 4.])
    """
    return jacrev(f, argnums, has_aux, holomorphic)


def hessian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, holomorphic: bool = False
) -> Callable[..., Any]:
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
