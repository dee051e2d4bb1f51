"""Schedules of learning rates, under PyTorch's names."""

from agnostic_ad.nn.optim.lr_scheduler.base import ChainedScheduler, LambdaLR, LRScheduler, MultiplicativeLR, SequentialLR
from agnostic_ad.nn.optim.lr_scheduler.cycles import CyclicLR, OneCycleLR
from agnostic_ad.nn.optim.lr_scheduler.decays import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from agnostic_ad.nn.optim.lr_scheduler.plateau import ReduceLROnPlateau

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
