"""Training as one would write it by hand: two models, one step, one epoch, the accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import agnostic_ad as ad
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.activation import ReLU
from agnostic_ad.nn.containers import Sequential
from agnostic_ad.nn.conv import Conv2d
from agnostic_ad.nn.linear import Flatten, Linear
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.nn.pooling import MaxPool2d

__all__ = ["accuracy", "cnn", "mlp", "train_epoch", "train_step"]


def mlp(shape: tuple[int, int, int], classes: int, hidden: int = 128) -> Module:
    """Make a network of two linear layers for images of ``shape`` (channels, height, width)."""
    channels, height, width = shape
    return Sequential(Flatten(), Linear(channels * height * width, hidden), ReLU(), Linear(hidden, classes))


def cnn(shape: tuple[int, int, int], classes: int) -> Module:
    """Make a network of two convolutions and one linear layer for images of ``shape`` (channels, height, width)."""
    channels, height, width = shape
    return Sequential(
        Conv2d(channels, 16, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Conv2d(16, 32, 3, padding=1),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(32 * (height // 4) * (width // 4), classes),
    )


def train_step(model: Module, loss_fn: Callable[[Any, Any], Any], optimizer: Optimizer, x: Any, y: Any) -> Any:
    """Learn from one batch; give its loss, before the step, as a raw array.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> from agnostic_ad.nn.train import train_step
    >>> model = nn.Linear(2, 2)
    >>> optimizer = nn.optim.SGD(model.parameters(), lr=0.1)
    >>> x, y = np.eye(2, dtype="float32"), np.arange(2)
    >>> losses = [float(train_step(model, nn.CrossEntropyLoss(), optimizer, x, y)) for _ in range(9)]
    >>> losses[-1] < losses[0]
    True
    """
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.payload


def train_epoch(
    model: Module, loss_fn: Callable[[Any, Any], Any], optimizer: Optimizer, loader: Any, each: Callable[[], Any] = lambda: None
) -> list[float]:
    """Learn from every batch once; give the losses. ``each`` is called after every step."""
    model.train()
    losses = []
    for x, y in loader:
        losses.append(train_step(model, loss_fn, optimizer, x, y))
        each()
    return [float(loss) for loss in losses]  # only now, so that a device need not wait for each


def accuracy(model: Module, loader: Any) -> float:
    """Give the part of the samples whose class the model's largest score names."""
    model.eval()
    right = total = 0
    with ad.no_grad():
        for x, y in loader:
            scores = model(x)
            scores = scores.payload if isinstance(scores, Array) else scores
            xp = backend_of(scores).xp
            right += int(xp.sum(xp.astype(xp.argmax(scores, axis=1) == y, y.dtype)))
            total += y.shape[0]
    return right / total
