"""``checkpoint``: memory in reverse mode, for the time of a second forward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from agnostic_ad import trees
from agnostic_ad.arguments import is_array
from agnostic_ad.flatrules import creates_graph, record
from agnostic_ad.levels import DEAD, TRANSFORMATIONS, capturing, deepest
from agnostic_ad.modes import enable_grad
from agnostic_ad.random import default_generator, replay
from agnostic_ad.reverse import ReverseLevel, Variable
from agnostic_ad.tape import Node, backward, next_number

__all__ = ["checkpoint"]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that computes like ``f`` and keeps only its arguments for the backward pass, which runs ``f`` again.

    Parameters
    ----------
    f : callable
        Any function of trees of arrays; it may use Variables from around it.

    Returns
    -------
    callable
        Saves memory in reverse mode, for the time of a second forward pass. In other modes it is ``f``.

    Examples
    --------
    >>> import agnostic_ad as ad
    >>> ad.grad(ad.checkpoint(lambda x: x**3))(2.0)
    array(12.)
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if capturing() is not None:  # a graph computes one value once; and would draw other numbers in a second pass
            return f(*args, **kwargs)
        start = next_number()
        given, named = trees.map_tree(_again, (args, kwargs))  # f may change its arguments in place
        before = default_generator.get_state()
        y = f(*args, **kwargs)
        drawn = None if default_generator.get_state() == before else before  # dropout: the second pass draws the same numbers
        flat, spec = trees.flatten(y)
        level = deepest([r for r in flat if is_array(r)])
        if not isinstance(level, ReverseLevel):
            return y
        moving = [i for i, r in enumerate(flat) if isinstance(r, Variable) and r.level is level and r.node is not None]
        parents = _boundary([flat[i].node for i in moving], start)
        if not any(flat[i].node.number < start for i in moving):
            return y

        def pull(cts: list[Any]) -> list[Any]:
            with enable_grad():
                xs, options = trees.map_tree(_again, (given, named))
                lasting = 0 <= level.depth < TRANSFORMATIONS
                with nullcontext() if lasting else level.lock, level if level.depth == DEAD else nullcontext(), replay(drawn):
                    again = trees.leaves(f(*xs, **options))
            roots = [(again[i].node, ct) for i, ct in zip(moving, cts, strict=True)]
            return backward(roots, level=level, create_graph=creates_graph(level, cts), wanted=parents, boundary=True)

        new = record(level, f"checkpoint({getattr(f, '__name__', 'f')})", tuple(parents), [flat[i].payload for i in moving], pull)
        for i, v in zip(moving, new, strict=True):
            flat[i] = v
        return trees.unflatten(spec, flat)

    return wrapped


def _again(x: Any) -> Any:
    """Give the same Variable as another object, which in-place changes of the first do not reach."""
    return x._alias() if isinstance(x, Variable) else x


def _boundary(roots: list[Node], start: int) -> list[Node]:
    """Give the nodes made before ``start`` that later ones lead to."""
    seen: set[int] = set()
    found: dict[int, Node] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node.number in seen:
            continue
        seen.add(node.number)
        if node.number > start:
            found[node.number] = node
        else:
            stack.extend(p for p in node.ancestors() if p is not None)
    return list(found.values())
