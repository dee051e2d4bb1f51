"""Neural networks on agnostic_ad, under the names of ``torch.nn``."""

from agnostic_ad.nn import activation, containers, conv, data, functional, init, linear, loss, optim, pooling
from agnostic_ad.nn.activation import *
from agnostic_ad.nn.containers import *
from agnostic_ad.nn.conv import *
from agnostic_ad.nn.linear import *
from agnostic_ad.nn.loss import *
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Buffer, Parameter
from agnostic_ad.nn.pooling import *
from agnostic_ad.nn.serialization import load_file, save_file

__all__ = ["Buffer", "Module", "Parameter", "data", "functional", "init", "load_file", "optim", "save_file"]
__all__ += activation.__all__
__all__ += containers.__all__
__all__ += conv.__all__
__all__ += linear.__all__
__all__ += loss.__all__
__all__ += pooling.__all__
