"""Small configurations of every layer, loss and optimizer, as code and the shapes of what they take; the conformance suite runs them.

A new layer or loss brings a line here, the smallest configuration first. An optimizer that ``Name(params)`` makes needs none.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from agnostic_ad import nn
from agnostic_ad.samples import Domain, Operand, integers, strided

__all__ = ["LAYERS", "OPTIMIZERS", "Sample", "sample", "samples", "subjects"]


@dataclass(frozen=True)
class Sample:
    """One configuration of a class of `agnostic_ad.nn`.

    Attributes
    ----------
    code : str
        What makes it, with ``nn`` in scope, and ``params`` for an optimizer.
    operands : tuple of Operand
        What a layer is called with; or the parameters of an optimizer.
    """

    code: str
    operands: tuple[Operand, ...]

    @property
    def name(self) -> str:
        """The name of the class, as the suite says it: "nn.Linear", "optim.Adam"."""
        return self.code.partition("(")[0].replace("nn.optim.", "optim.")


def sample(code: str, *operands: Any) -> Sample:
    """Write a `Sample`; a tuple stands for an operand of that shape."""
    return Sample(code, tuple(o if isinstance(o, Operand) else Operand(o) for o in operands))


LAYERS = (
    sample("nn.ReLU()", (2, 3)),
    sample("nn.ReLU()", strided((3, 4))),
    sample("nn.Flatten()", (2, 3, 2)),
    sample("nn.Flatten(0, -2)", strided((2, 3, 2))),
    sample("nn.Linear(3, 4)", (5, 3)),
    sample("nn.Linear(3, 4, bias=False)", (2, 5, 3)),
    sample("nn.Linear(3, 4)", strided((3,))),
    sample("nn.Conv1d(3, 4, 2)", (2, 3, 5)),
    sample("nn.Conv1d(3, 2, 4, stride=3, padding=2, bias=False)", (3, 9)),
    sample("nn.Conv2d(2, 3, 2)", (1, 2, 4, 3)),
    sample("nn.Conv2d(4, 6, 3, stride=(1, 2), padding=(2, 1), groups=2)", strided((2, 4, 5, 6))),
    sample("nn.Conv2d(2, 2, 3, padding='same', dilation=(2, 1), bias=False)", (2, 6, 5)),
    sample("nn.Conv3d(1, 2, 2)", (1, 1, 3, 3, 3)),
    sample("nn.Conv3d(2, 2, (1, 2, 3), stride=(1, 2, 1), padding=1, groups=2)", (2, 3, 4, 3)),
    sample("nn.MaxPool1d(2)", (2, 3, 4)),
    sample("nn.MaxPool1d(3, stride=1, padding=1)", (3, 5)),
    sample("nn.MaxPool2d(2)", (1, 2, 4, 4)),
    sample("nn.MaxPool2d((2, 3), stride=(1, 2), padding=1, ceil_mode=True)", strided((2, 2, 5, 6))),
    sample("nn.MaxPool2d(2, dilation=(2, 1))", (2, 5, 4)),
    sample("nn.MaxPool3d(2)", (1, 1, 4, 4, 4)),
    sample("nn.MaxPool3d(2, stride=1, padding=1)", (2, 3, 2, 3)),
    sample("nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))", (5, 3)),
    sample("nn.CrossEntropyLoss()", (6, 4), integers((6,), 0, 3)),
    sample("nn.CrossEntropyLoss(nn.Buffer([1.0, 0.5, 2.0]), ignore_index=1, reduction='sum')", (2, 3, 4), integers((2, 4), 0, 2)),
    sample("nn.CrossEntropyLoss(label_smoothing=0.1, reduction='none')", (5, 4), integers((5,), 0, 3)),
    sample("nn.CrossEntropyLoss()", (5, 4), Operand((5, 4), Domain(0.0, 1.0))),
)

SHAPES = ((3, 4), (5,), ())
"""Of the parameters that optimizers change."""
SETTINGS = {"lr": 0.1, "maximize": True, "weight_decay": 0.1}
"""What every optimizer with a formula is made with, besides its defaults, as far as it takes it."""
OPTIMIZERS = (
    sample("nn.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True)", *SHAPES),
    sample("nn.optim.SGD(params, lr=0.05, momentum=0.9, dampening=0.3)", *SHAPES),
    sample("nn.optim.Adam(params, lr=0.05, amsgrad=True)", *SHAPES),
    sample("nn.optim.AdamW(params, lr=0.05, amsgrad=True)", *SHAPES),
    sample("nn.optim.RMSprop(params, lr=0.05, momentum=0.9, centered=True)", *SHAPES),
    sample("nn.optim.Muon(params, lr=0.05)", (3, 4), (5, 2)),
    sample("nn.optim.LBFGS(params, lr=0.02, max_iter=2)", *SHAPES),
    sample("nn.optim.LBFGS(params, max_iter=2, line_search_fn='strong_wolfe')", *SHAPES),
    sample("nn.optim.MultiSteps(nn.optim.SGD(params, lr=0.05), every=2)", *SHAPES),
    sample("nn.optim.ApplyIfFinite(nn.optim.Adam(params), max_consecutive_errors=2)", *SHAPES),
    sample("nn.optim.Lookahead(nn.optim.SGD(params, lr=0.05), k=2)", *SHAPES),
)


def subjects() -> dict[str, type]:
    """Give the public layers, losses and optimizers, by the names that samples have."""
    found = {f"nn.{name}": getattr(nn, name) for name in nn.__all__} | {
        f"optim.{name}": getattr(nn.optim, name) for name in nn.optim.__all__
    }
    bases = (nn.Module, nn.optim.Optimizer)
    return {name: cls for name, cls in found.items() if isinstance(cls, type) and cls not in bases and issubclass(cls, bases)}


def samples(name: str) -> list[Sample]:
    """Give the samples of a class: those that are stated, and those that every optimizer with a formula has; none where there are none.

    Examples
    --------
    >>> from agnostic_ad.nn.samples import samples
    >>> [each.code for each in samples("optim.Lion")]
    ['nn.optim.Lion(params)', 'nn.optim.Lion(params, lr=0.1, maximize=True, weight_decay=0.1)']
    """
    stated, cls = [each for each in (*LAYERS, *OPTIMIZERS) if each.name == name], subjects()[name]
    if not issubclass(cls, nn.optim.Optimizer) or cls.formula is None:
        return stated
    shapes, taken = stated[0].operands if stated else SHAPES, inspect.signature(cls).parameters
    further = "".join(f", {key}={value!r}" for key, value in SETTINGS.items() if key in taken)
    return [*(sample(f"nn.{name}(params{each})", *shapes) for each in dict.fromkeys(("", further))), *stated]
