"""Trees of arrays: tuples, lists, dicts, named tuples and registered classes, by way of ``optree``.

``None`` is a leafless node, as in PyTorch and JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree

__all__ = ["NAMESPACE", "TreeSpec", "flatten", "flatten_like", "leaves", "map_tree", "register", "unflatten"]

TreeSpec = optree.PyTreeSpec
NAMESPACE = "agnostic_ad"


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """Split ``tree`` into its leaves and its structure."""
    return optree.tree_flatten(tree, is_leaf, namespace=NAMESPACE)


def flatten_like(spec: TreeSpec, tree: Any) -> list[Any] | None:
    """Give the leaves of a tree of the structure ``spec``; None where it has another.

    Dicts of every class are alike here, in every order of their keys: a module's state is an ``OrderedDict``, what goes with it need not be.
    """
    values, own = flatten(tree)
    if own == spec:
        return values
    try:
        parts = spec.flatten_up_to(tree)
    except (TypeError, ValueError):
        return None
    return parts if all(optree.treespec_is_leaf(flatten(part)[1]) for part in parts) else None


def unflatten(spec: TreeSpec, values: Any) -> Any:
    """Put leaves back into the structure that `flatten` gave."""
    return optree.tree_unflatten(spec, values)


def leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """Give the leaves of ``tree`` from left to right."""
    return optree.tree_leaves(tree, is_leaf, namespace=NAMESPACE)


def map_tree(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """Apply ``fn`` leaf by leaf; further trees need the structure of the first, or a longer one."""
    return optree.tree_map(fn, tree, *rest, namespace=NAMESPACE)


def register(cls: type, flatten_fn: Callable[[Any], Any], unflatten_fn: Callable[[Any, Any], Any]) -> None:
    """Make ``cls`` a node of trees.

    Parameters
    ----------
    cls : type
        The class; its instances are nodes from now on.
    flatten_fn : callable
        ``instance -> (children, static)``; ``static`` is compared and hashed with the structure.
    unflatten_fn : callable
        ``(static, children) -> instance``.

    Examples
    --------
    >>> from agnostic_ad import trees
    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> trees.register(Pair, lambda p: ((p.a, p.b), None), lambda _, ab: Pair(*ab))
    >>> trees.leaves([Pair(1, 2), {"k": 3}])
    [1, 2, 3]
    """
    optree.register_pytree_node(cls, flatten_fn, unflatten_fn, namespace=NAMESPACE)
