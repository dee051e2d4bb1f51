"""Einstein's summation: products of arrays over named axes.

The general form takes diagonals, sums what one operand has alone, and multiplies pairs of operands as batches of matrices, the pair first
that leaves the fewest elements behind. Everything is made of operations with rules, so derivatives contract pairwise too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from agnostic_ad.families import composite
from agnostic_ad.samples import case, strided

Labels = tuple[Any, ...]
"""One hashable label an axis: a character, or a number for an axis that an ellipsis stands for."""


class Equation(NamedTuple):
    """What a string of subscripts says of operands of known shapes."""

    inputs: list[Labels]
    output: Labels
    sizes: dict[Any, Any]


def parse(subscripts: str, shapes: Sequence[tuple[Any, ...]]) -> Equation:
    """Read subscripts in NumPy's grammar.

    Parameters
    ----------
    subscripts : str
        ``"ij,jk->ik"``; without an arrow, the labels that occur once in alphabetical order. ``...`` stands for axes that broadcast.
    shapes : sequence of tuple
        The shapes of the operands.

    Raises
    ------
    ValueError
        Where the subscripts say nothing, or do not fit the shapes.
    """
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, {len(shapes)} were given")
    dots = max((len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
    inputs = [_labels(t, len(s), subscripts) for t, s in zip(terms, shapes, strict=True)]
    sizes: dict[Any, Any] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        for label, size in zip(labels, shape, strict=True):
            known = sizes.setdefault(label, size)
            if known != size and 1 not in (known, size):
                where = f"axis {label!r}" if isinstance(label, str) else "an axis of the ellipsis"
                raise ValueError(f"einsum: {where} has sizes {known} and {size} in {subscripts!r}; shapes {', '.join(map(str, shapes))}")
            if known == 1:
                sizes[label] = size
    broadcast = tuple(range(-dots, 0))
    if not arrow:
        letters = [label for labels in inputs for label in labels if isinstance(label, str)]
        return Equation(inputs, (*broadcast, *sorted(x for x in letters if letters.count(x) == 1)), sizes)
    output = _labels(right, len(right.replace("...", "")) + dots if "..." in right else len(right), subscripts)
    unknown = [str(x) for x in output if x not in sizes]
    if unknown or len(set(output)) != len(output):
        raise ValueError(f"einsum: the output of {subscripts!r} must name axes of the operands, each once")
    if dots and "..." not in right:
        raise ValueError(f"einsum: the output of {subscripts!r} must hold the ellipsis, which stands for {dots} axes")
    return Equation(inputs, output, sizes)


def _labels(term: str, ndim: int, subscripts: str) -> Labels:
    """Give a label for each axis; those of an ellipsis are counted from the last, -1."""
    before, dots, after = term.partition("...")
    if any(c in ".->" for c in before + after) or (not dots and ndim != len(term)) or ndim < len(before) + len(after):
        raise ValueError(f"einsum: {term!r} in {subscripts!r} does not name the axes of an operand of {ndim} dimensions")
    return (*before, *range(len(before) + len(after) - ndim, 0), *after)


def _diagonal(xp: Any, x: Any, labels: Labels) -> tuple[Any, Labels]:
    """Merge axes of the same label into their diagonal."""
    for label in set(labels):
        while labels.count(label) > 1:
            a = labels.index(label)
            b = labels.index(label, a + 1)
            n = x.shape[a]
            if n != x.shape[b]:  # one of them has size 1, and broadcasts
                gone = a if n == 1 else b
                x, labels = xp.squeeze(x, gone), labels[:gone] + labels[gone + 1 :]
                continue
            rest = [i for i in range(x.ndim) if i not in (a, b)]
            x = xp.permute_dims(x, (*rest, a, b))
            x = xp.reshape(x, (*x.shape[:-2], n * n))[..., :: n + 1]
            labels = (*(labels[i] for i in rest), label)
    return x, labels


def _reduced(xp: Any, x: Any, labels: Labels, keep: set[Any], sizes: dict[Any, Any]) -> tuple[Any, Labels]:
    """Sum over axes that nobody else needs, and drop those of size 1 that broadcast."""
    single = tuple(i for i, label in enumerate(labels) if x.shape[i] == 1 and sizes[label] != 1)
    if single:
        x, labels = xp.squeeze(x, single), tuple(label for i, label in enumerate(labels) if i not in single)
    gone = tuple(i for i, label in enumerate(labels) if label not in keep)
    if gone:
        x = xp.sum(x, axis=gone, dtype=x.dtype)
    return x, tuple(label for i, label in enumerate(labels) if i not in gone)


def _pair(xp: Any, a: Any, la: Labels, b: Any, lb: Labels, keep: set[Any], sizes: dict[Any, Any]) -> tuple[Any, Labels]:
    """Multiply two operands, and sum over the axes that both have and nobody else needs."""
    both = [x for x in la if x in lb]
    batch, inner = [x for x in both if x in keep], [x for x in both if x not in keep]
    left, right = [x for x in la if x not in lb], [x for x in lb if x not in la]
    shape = [tuple(sizes[x] for x in group) for group in (batch, left, right)]
    a, b = _ordered(xp, a, la, (*batch, *left, *inner)), _ordered(xp, b, lb, (*batch, *inner, *right))
    if inner:
        n, m, k = (math.prod(s) for s in shape)
        size = math.prod(sizes[x] for x in inner)
        lead = (n,) if batch else ()
        y = xp.matmul(xp.reshape(a, (*lead, m, size)), xp.reshape(b, (*lead, size, k)))
        y = xp.reshape(y, (*shape[0], *shape[1], *shape[2]))
    else:
        y = xp.reshape(a, (*shape[0], *shape[1], *(1,) * len(right))) * xp.reshape(b, (*shape[0], *(1,) * len(left), *shape[2]))
    return y, (*batch, *left, *right)


def _ordered(xp: Any, x: Any, labels: Labels, wanted: Labels) -> Any:
    return x if labels == wanted else xp.permute_dims(x, tuple(labels.index(label) for label in wanted))


def _cheapest(terms: list[tuple[Any, Labels]], output: set[Any], sizes: dict[Any, Any]) -> tuple[int, int]:
    """Give the pair whose product has the fewest elements more than its factors: the greedy order."""

    def cost(pair: tuple[int, int]) -> Any:
        i, j = pair
        kept = output.union(*(terms[k][1] for k in range(len(terms)) if k not in pair))
        first, second = set(terms[i][1]), set(terms[j][1])
        return (
            math.prod(sizes[x] for x in (first | second) & kept) - math.prod(sizes[x] for x in first) - math.prod(sizes[x] for x in second),
            math.prod(sizes[x] for x in first | second),
        )

    return min(((i, j) for i in range(len(terms)) for j in range(i + 1, len(terms))), key=cost)


_CASES = [
    case((2, 3), (3, 4), kinds="ifc", subscripts="ij,jk->ik"),
    case((2, 3), (2, 3), kinds="fc", subscripts="ij,ij"),
    case((3, 3), kinds="fc", subscripts="ii"),
    case((3, 3), kinds="f", subscripts="ii->i"),
    case((2, 3), kinds="f", subscripts="ij->ji"),
    case((2, 3), kinds="f", subscripts="ij->"),
    case((4, 2, 3), (4, 3, 2), kinds="fc", subscripts="bij,bjk->bik"),
    case((2, 1, 3), (4, 3), kinds="f", subscripts="...i,...i->..."),
    case((2, 3), (3,), kinds="f", subscripts="...j,j"),
    case((2, 3), (3, 4), (4, 2), kinds="fc", subscripts="ij,jk,ki->"),
    case((2,), (3,), kinds="f", subscripts="i,j->ji"),
    case((3, 1), (3, 4), kinds="f", subscripts="ij,ij->i"),
    case((), (2,), kinds="f", subscripts=",i->i"),
    case((2, 0), (0, 3), kinds="f", subscripts="ij,jk->ik"),
    case((2, 3, 2, 3), kinds="f", subscripts="ijij->j"),
    case(strided((2, 2)), (2,), kinds="f", subscripts="ij,j"),
]


@composite("einsum", "subscripts, /, *operands", ["*operands"], cases=_CASES)
def einsum(xp: Any, subscripts: str, *operands: Any) -> Any:
    """Sum products of arrays over named axes.

    Parameters
    ----------
    subscripts : str
        The axes of each operand, and behind ``->`` those of the result, in NumPy's grammar: repeated labels are diagonals, ``...`` broadcasts.
    *operands : array
        As many as the subscripts name.

    Returns
    -------
    array
        Of the operands' common dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> a, b = np.asarray([[1.0, 2.0], [3.0, 4.0]]), np.asarray([1.0, 10.0])
    >>> ad.grad(lambda a: ad.einsum("ij,i,j->", a, b, b))(a)
    array([[  1.,  10.],
           [ 10., 100.]])
    """
    inputs, output, sizes = parse(subscripts, [tuple(x.shape) for x in operands])
    dtype = xp.result_type(*(x.dtype for x in operands))  # first, lest a sum of booleans be true
    terms = [_diagonal(xp, xp.astype(x, dtype, copy=False), labels) for x, labels in zip(operands, inputs, strict=True)]
    kept = set(output)
    for i, (x, labels) in enumerate(terms):
        others = kept.union(*(names for j, (_, names) in enumerate(terms) if j != i))
        terms[i] = _reduced(xp, x, labels, others, sizes)
    while len(terms) > 1:
        i, j = _cheapest(terms, kept, sizes) if len(terms) > 2 else (0, 1)
        (b, lb), (a, la) = terms.pop(j), terms.pop(i)
        terms.append(_pair(xp, a, la, b, lb, kept.union(*(names for _, names in terms)), sizes))
    x, labels = terms[0]
    return _ordered(xp, x, labels, output)
