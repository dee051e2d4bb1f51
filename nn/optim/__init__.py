"""Optimizers, under PyTorch's names, arguments and names of state."""

from agnostic_ad.nn.optim.adam import Adam
from agnostic_ad.nn.optim.optimizer import Optimizer
from agnostic_ad.nn.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer"]
