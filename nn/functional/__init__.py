"""The layers' computations as functions, under PyTorch's names and arguments.

Every function takes raw arrays and Variables alike. What has nothing to record gives what it got.
"""

from agnostic_ad.nn.functional import activations, affine, convolution, losses, pooling
from agnostic_ad.nn.functional.activations import *
from agnostic_ad.nn.functional.affine import *
from agnostic_ad.nn.functional.convolution import *
from agnostic_ad.nn.functional.losses import *
from agnostic_ad.nn.functional.pooling import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += affine.__all__
__all__ += convolution.__all__
__all__ += losses.__all__
__all__ += pooling.__all__
