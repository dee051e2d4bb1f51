"""What a transform is: a draw of its parameters, and a pure function of them and an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from agnostic_ad.nn.data.seeding import current_generator, drawing_from
from agnostic_ad.nn.data.transforms.arguments import fraction
from agnostic_ad.nn.data.transforms.layouts import check_layout, dimensions, is_array, layout
from agnostic_ad.random import Generator

__all__ = ["RandomTransform", "Transform"]


def leaves_of(tree: Any) -> Iterator[Any]:
    """Give what tuples, lists and dicts hold, in the order in which it was put there."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from leaves_of(part)
    else:
        yield tree


def mapped(fn: Callable[[Any], Any], tree: Any) -> Any:
    """Give the same tuples, lists and dicts of other leaves."""
    if isinstance(tree, dict):
        made = type(tree)() if type(tree) in (dict,) or not hasattr(tree, "copy") else tree.copy()
        made.update((key, mapped(fn, value)) for key, value in tree.items())
        return made
    if isinstance(tree, tuple | list):
        parts = [mapped(fn, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return fn(tree)


class Transform:
    """A function of a sample: an image, or tuples, lists and dicts with one in it.

    The first array of two or more axes is the image, or a batch of images, which all get the same parameters; labels and the rest pass through.
    A subclass defines ``transform(inpt, params)``, and ``make_params(flat_inputs)`` if it draws: numbers of the host, from ``self.rng``.

    Parameters
    ----------
    generator : Generator or numpy.random.Generator, optional
        What to draw from; by default the stream of the sample that the loader is fetching, and outside a loader that of
        `agnostic_ad.manual_seed`.
    layout : {"CHW", "HWC", "HW"}, optional
        What the last axes of the images are; by default told as `layout_of` says.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn.data import transforms as T
    >>> class Shift(T.Transform):
    ...     def make_params(self, flat_inputs):
    ...         return {"by": int(self.rng.integers(1, 3))}
    ...
    ...     def transform(self, inpt, params):
    ...         return np.roll(inpt, params["by"], axis=1)
    >>> Shift(generator=np.random.default_rng(0))((np.arange(4)[None], "label"))
    (array([[2, 3, 0, 1]]), 'label')
    """

    def __init__(self, *, generator: Generator | np.random.Generator | None = None, layout: str | None = None) -> None:
        if not isinstance(generator, Generator | np.random.Generator | None):
            raise TypeError(
                f"{self.name}: generator is a numpy.random.Generator or an agnostic_ad.Generator, not {type(generator).__name__}"
            )
        self.generator, self.layout = generator, check_layout(layout)

    @property
    def name(self) -> str:
        """The class's name, for errors."""
        return type(self).__name__

    @property
    def rng(self) -> np.random.Generator:
        """What to draw from."""
        return current_generator()

    def __call__(self, *inputs: Any) -> Any:
        """Apply it to a sample: one thing, or several."""
        if not inputs:
            raise TypeError(f"{self.name} takes a sample; got nothing")
        if self.generator is None and self.layout is None:
            return self.forward(*inputs)
        with drawing_from(self.generator), layout(self.layout):
            return self.forward(*inputs)

    def forward(self, *inputs: Any) -> Any:
        """Draw parameters, and transform the image of the sample."""
        sample = inputs if len(inputs) > 1 else inputs[0]
        image = self.image_of(sample)
        params = self.make_params([image])
        return mapped(lambda leaf: self.transform(leaf, params) if leaf is image else leaf, sample)

    def image_of(self, sample: Any) -> Any:
        """Give the image of a sample."""
        flat = list(leaves_of(sample))
        found = next((leaf for leaf in flat if self.takes(leaf)), None)
        if found is None:
            kinds = ", ".join(f"{type(x).__name__} of shape {tuple(x.shape)}" if is_array(x) else type(x).__name__ for x in flat)
            pillow = any(type(x).__module__.startswith("PIL.") for x in flat)
            hint = "; put ToImage() before it, which makes an array of an image of Pillow" if pillow else ""
            raise TypeError(f"{self.name} takes an array of two axes or more, alone or in a sample; got {kinds or 'nothing'}{hint}")
        return found

    def takes(self, leaf: Any) -> bool:
        """Tell whether a part of a sample can be the image."""
        return is_array(leaf) and len(leaf.shape) >= 2

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the parameters for the images."""
        return {}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply it with the parameters that were drawn."""
        raise NotImplementedError(f"{self.name} has no transform(inpt, params): define what it does")

    def dimensions(self, flat_inputs: list[Any]) -> tuple[int, int, int]:
        """Give the numbers of channels, rows and columns of the image."""
        return dimensions(flat_inputs[0], self.name)

    def extra_repr(self) -> str:
        """Give the arguments."""
        shown = ((key, value) for key, value in vars(self).items() if not key.startswith("_"))
        return ", ".join(f"{key}={value!r}" for key, value in shown if not (key in ("generator", "layout") and value is None))

    def __repr__(self) -> str:
        return f"{self.name}({self.extra_repr()})"


class RandomTransform(Transform):
    """A transform that is applied with probability ``p``."""

    def __init__(self, p: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.p = fraction(self.name, "p", p)

    def forward(self, *inputs: Any) -> Any:
        """Draw whether to do it; then draw parameters, and transform the image of the sample."""
        if self.rng.random() >= self.p:
            return inputs if len(inputs) > 1 else inputs[0]
        return super().forward(*inputs)
