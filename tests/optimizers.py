"""What the tests of optimizers share: the classes, torch's list of options, and random gradients."""

from __future__ import annotations

import inspect
import sys
import types
import unittest
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest

from agnostic_ad import nn

CLASSES = {
    name: cls
    for name in nn.optim.__all__
    if inspect.isclass(cls := getattr(nn.optim, name)) and issubclass(cls, nn.optim.Optimizer) and cls is not nn.optim.Optimizer
}
RULES = {name: cls for name, cls in CLASSES.items() if cls.formula is not None}
BEYOND = {"LAMB", "LARS", "AdaBelief", "Adan", "Lion", "NovoGrad", "Yogi"}
FAMILIES = ["SGD", "Adam", "RMSprop", "Rprop", "NAdam", "RAdam", "Adafactor", "Muon", "LAMB", "SparseAdam", "NovoGrad", "Lion"]


def gradients(rng: np.random.Generator, like: Any) -> Any:
    """Random numbers of the shape and dtype of an array."""
    g = rng.normal(size=like.shape)
    return np.asarray(g + 1j * rng.normal(size=like.shape) if like.dtype.kind == "c" else g, like.dtype)


def shapes_for(name: str) -> list[tuple[int, ...]]:
    """Shapes of parameters that an optimizer takes."""
    return [(3, 4), (5, 2)] if name == "Muon" else [(3, 4), (7,), (), (2, 3, 2), (1, 1)]


def starts(name: str, rng: np.random.Generator) -> list[Any]:
    """Values of parameters that an optimizer takes, complex ones too if it does."""
    kinds = ["float64"] if RULES[name].formula.real else ["float64", "complex128"]
    return [gradients(rng, np.zeros(shape, kind)) for kind in kinds for shape in shapes_for(name)]


def one_by_one(optimizer: Any, params: list[Any], grads: list[Any]) -> None:
    """A step with these gradients."""
    for p, g in zip(params, grads, strict=True):
        p.grad = g
    optimizer.step()


@cache
def configurations() -> dict[str, list[dict[str, Any]]]:
    """Torch's own list of optimizers and options."""
    torch = pytest.importorskip("torch")
    if "expecttest" not in sys.modules:  # which torch's test helpers import, and this list does not need
        stub = types.ModuleType("expecttest")
        stub.TestCase = unittest.TestCase  # type: ignore[attr-defined]
        sys.modules["expecttest"] = stub
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_optimizers import optim_db

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the rates that are tensors
    try:
        return {info.optim_cls.__name__: [dict(each.kwargs) for each in info.optim_inputs_func(device="cpu")] for info in optim_db}
    finally:
        torch.set_default_dtype(before)
