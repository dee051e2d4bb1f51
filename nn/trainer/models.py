"""Two networks for images of a class each."""

from __future__ import annotations

from agnostic_ad.nn.activation import ReLU
from agnostic_ad.nn.containers import Sequential
from agnostic_ad.nn.conv import Conv2d
from agnostic_ad.nn.linear import Flatten, Linear
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.pooling import MaxPool2d

__all__ = ["cnn", "mlp"]


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
