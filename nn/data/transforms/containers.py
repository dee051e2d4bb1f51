"""Transforms of transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad.nn.data.transforms.arguments import fraction, is_number
from agnostic_ad.nn.data.transforms.base import Transform, mapped

__all__ = ["Compose", "Identity", "Lambda", "RandomApply", "RandomChoice", "RandomOrder"]


class _Container(Transform):
    """Parts that are called one after the other, as `order` says; a ``generator`` and a ``layout`` hold for those without one."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], **options: Any) -> None:
        super().__init__(**options)
        parts = list(transforms) if isinstance(transforms, Sequence) else [transforms]
        for part in parts:
            if not callable(part):
                raise TypeError(f"{self.name} takes a list of transforms, and {part!r:.60} is none")
        self.transforms = parts

    def order(self) -> Sequence[int]:
        """Draw which parts are called."""
        return range(len(self.transforms))

    def forward(self, *inputs: Any) -> Any:
        """Call them."""
        for i in self.order():
            out = self.transforms[i](*inputs)
            inputs = out if len(inputs) > 1 else (out,)
        return inputs if len(inputs) > 1 else inputs[0]

    def extra_repr(self) -> str:
        """Give the parts, a line each."""
        return "".join("\n  " + repr(part).replace("\n", "\n  ") for part in self.transforms) + "\n"


class Compose(_Container):
    """Several transforms in a row.

    Parameters
    ----------
    transforms : sequence of callable
        What to do, in order.
    generator : Generator or numpy.random.Generator, optional
        What those draw from that have none of their own.
    layout : {"CHW", "HWC", "HW"}, optional
        What the last axes are, for those that do not say; leave it out where the layout changes on the way.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> pipeline = T.Compose([T.Resize(8), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize([0.5], [0.5])])
    >>> x, label = pipeline((np.zeros((10, 12, 3), "uint8"), 7))
    >>> x.shape, x.dtype, label
    ((3, 8, 9), dtype('float32'), 7)
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], **options: Any) -> None:
        super().__init__(transforms, **options)
        if not self.transforms:
            raise ValueError("Compose takes a list of one transform or more; Identity() does nothing")


class RandomApply(_Container):
    """All of some transforms, with probability ``p``; else none."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: float = 0.5, **options: Any) -> None:
        super().__init__(transforms, **options)
        self.p = fraction(self.name, "p", p)

    def order(self) -> Sequence[int]:
        """Draw whether to call them."""
        return range(len(self.transforms)) if self.rng.random() < self.p else ()


class RandomChoice(_Container):
    """One of some transforms, drawn evenly or with the weights ``p``."""

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: Sequence[float] | None = None, **options: Any) -> None:
        super().__init__(transforms, **options)
        weights = [1.0] * len(self.transforms) if p is None else list(p)
        if len(weights) != len(self.transforms) or not all(is_number(w) and w >= 0 for w in weights) or sum(weights) <= 0:
            raise ValueError(f"RandomChoice: p is a weight of 0 or more for each of the {len(self.transforms)} transforms, not {p!r}")
        self.p = [w / sum(weights) for w in weights]

    def order(self) -> Sequence[int]:
        """Draw which one."""
        return (int(self.rng.choice(len(self.p), p=self.p)),)


class RandomOrder(_Container):
    """All of some transforms, in random order."""

    def order(self) -> Sequence[int]:
        """Draw the order."""
        return [int(i) for i in self.rng.permutation(len(self.transforms))]


class Identity(Transform):
    """Nothing: the sample as it is."""

    def forward(self, *inputs: Any) -> Any:
        """Give the sample."""
        return inputs if len(inputs) > 1 else inputs[0]


class Lambda(Transform):
    """A function, applied to every part of a sample, or to those of some types.

    Parameters
    ----------
    lambd : callable
        What to do with each part. A function at the top of a module can be sent to other processes, a ``lambda`` cannot.
    *types : type
        The types of the parts that it is for; by default all.

    Examples
    --------
    >>> from agnostic_ad.nn.data import transforms as T
    >>> T.Lambda(str.upper, str)(("a", 1))
    ('A', 1)
    """

    def __init__(self, lambd: Callable[[Any], Any], *types: type, **options: Any) -> None:
        super().__init__(**options)
        if not callable(lambd):
            raise TypeError(f"Lambda takes a function, not {type(lambd).__name__}")
        self.lambd, self.types = lambd, types or (object,)

    def forward(self, *inputs: Any) -> Any:
        """Apply the function."""
        return mapped(lambda leaf: self.lambd(leaf) if isinstance(leaf, self.types) else leaf, inputs if len(inputs) > 1 else inputs[0])
