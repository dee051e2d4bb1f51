"""``vmap``: a function of one member, mapped over an axis."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import optree

from agnostic_ad import trees
from agnostic_ad.arguments import NUMBERS, NUMPY, as_array, is_array, name_of
from agnostic_ad.batching import Batched, BatchLevel
from agnostic_ad.families import normalize_axis
from agnostic_ad.levels import is_symbolic, unify

__all__ = ["vmap"]


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
    label = f"vmap({name_of(f)})"

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
        if isinstance(axes, tuple) and len(axes) != len(args):
            raise ValueError(f"{label}: in_axes has {len(axes)} entries for {len(args)} arguments")
        given: Any = args
        flat, spec = optree.tree_flatten(given, none_is_leaf=True, namespace=trees.NAMESPACE)
        places = _prefix(axes, args, f"{label}: in_axes")
        sizes: dict[int, int] = {}
        moved: list[tuple[Any, bool]] = []
        for position, (x, axis) in enumerate(zip(flat, places, strict=True)):
            if axis is None or x is None:
                moved.append((x, False))
                continue
            if not is_array(x):
                raise TypeError(
                    f"{label}: leaf {position} of the arguments is a {type(x).__name__}, which has no axis {axis}. Pass None for it."
                )
            if not x.shape:
                raise ValueError(f"{label}: leaf {position} of the arguments is 0-d and has no axis {axis} to map over. Pass None for it.")
            axis = normalize_axis(axis, len(x.shape), label)
            sizes[position] = x.shape[axis] if is_symbolic(x.shape[axis]) else int(x.shape[axis])
            xp, (x,) = unify([as_array(x)])
            moved.append((xp.moveaxis(x, axis, 0) if axis else x, True))
        if not sizes:
            raise ValueError(f"{label}: no argument is mapped over; at least one in_axes must be an integer")
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"leaf {p}: {n}" for p, n in sizes.items())
            raise ValueError(f"{label}: the mapped axes have different sizes ({listed})")
        level = BatchLevel(label, next(iter(sizes.values())))
        with level:
            # an array that is the same for all members is lifted too, so that x[member] works
            lifted = [level.batched(x) if b else level.lift(as_array(x)) if is_array(x) else x for x, b in moved]
            y = f(*optree.tree_unflatten(spec, lifted), **kwargs)
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
    if not is_array(v):
        if isinstance(v, NUMBERS):
            v = NUMPY.xp.asarray(v)
        else:
            raise TypeError(f"{level.label}: an output is a {type(v).__name__}, not an array")
    data = v.payload if mine else v
    xp, (data,) = unify([data])
    if not (mine and v.batched):
        data = xp.broadcast_to(data, (level.size, *data.shape))
    return xp.moveaxis(data, 0, normalize_axis(axis, len(data.shape), f"{level.label}: out_axes")) if axis else data
