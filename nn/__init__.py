"""Neural networks on agnostic_ad, under the names of ``torch.nn``."""

from agnostic_ad.nn import data, functional, init, optim
from agnostic_ad.nn.activation import ReLU
from agnostic_ad.nn.containers import Sequential
from agnostic_ad.nn.conv import Conv1d, Conv2d, Conv3d
from agnostic_ad.nn.linear import Flatten, Linear
from agnostic_ad.nn.loss import CrossEntropyLoss
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Buffer, Parameter
from agnostic_ad.nn.pooling import MaxPool1d, MaxPool2d, MaxPool3d
from agnostic_ad.nn.serialization import load_file, save_file

__all__ = [
    "Buffer",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "CrossEntropyLoss",
    "Flatten",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "Parameter",
    "ReLU",
    "Sequential",
    "data",
    "functional",
    "init",
    "load_file",
    "optim",
    "save_file",
]
