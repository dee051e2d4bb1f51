"""Functions of arrays of any library, wrapped or raw, at the top of the package: where opt_einsum looks for them, by the array's class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad.numpy_names.products import interleaved
from agnostic_ad.op import TABLE
from agnostic_ad.transforms import grad

__all__ = ["einsum", "elementwise_grad", "tensordot", "transpose"]


def einsum(*operands: Any, optimize: Any = True) -> Any:
    """Sum products of arrays over named axes.

    Parameters
    ----------
    *operands
        Subscripts and arrays, ``"ij,jk->ik", a, b``; or arrays, each with the list of its axes behind it, and the axes of the result:
        ``a, [0, 1], b, [1, 2], [0, 2]``. The whole of NumPy's grammar.
    optimize
        For NumPy's signature: pairs of operands are multiplied in the greedy order, always.

    Returns
    -------
    array
        The sums, of the operands' common dtype.

    Raises
    ------
    ValueError
        Where the subscripts do not fit the shapes.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> x = np.asarray([1.0, 2.0])
    >>> ad.grad(lambda x: ad.einsum("i,j,k->", x, x, x))(x)
    array([27., 27.])
    """
    subscripts, arrays = (operands[0], operands[1:]) if isinstance(operands[0], str) else interleaved(operands)
    return TABLE["einsum"](subscripts, *arrays)


def tensordot(x1: Any, x2: Any, /, axes: Any = 2) -> Any:
    """Sum the products over pairs of axes: the last of one and the first of the other, or those named."""
    return TABLE["tensordot"](x1, x2, axes=axes)


def transpose(x: Any, /, axes: Sequence[int] | None = None) -> Any:
    """Put the axes in the order given, or reverse them."""
    return TABLE["permute_dims"](x, tuple(reversed(range(len(x.shape)))) if axes is None else tuple(axes))


def elementwise_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """Give a function that differentiates ``f`` element by element.

    Parameters
    ----------
    f : callable
        Each element of its result depends on the same element of the argument alone, and on nothing else of it: what is computed is the
        gradient of the sum, in which other dependences would add up.
    argnums : int or sequence of int
        The positional arguments to differentiate with respect to.

    Returns
    -------
    callable
        Takes what ``f`` takes; gives an array of the argument's shape (a tuple of them for a sequence of argnums).

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> square = lambda x: x * x
    >>> ad.elementwise_grad(square)(np.asarray([1.0, 2.0, 3.0]))
    array([2., 4., 6.])
    >>> ad.elementwise_grad(ad.elementwise_grad(square))(np.asarray([1.0, 2.0, 3.0]))
    array([2., 2., 2.])
    """

    @functools.wraps(f)
    def total(*args: Any, **kwargs: Any) -> Any:
        return TABLE["sum"](f(*args, **kwargs))

    return grad(total, argnums)
