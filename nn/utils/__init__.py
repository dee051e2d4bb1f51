"""What is done to parameters and sequences besides training, under the names of ``torch.nn.utils``."""

from agnostic_ad.nn.utils import clipping, fusing, hooked, parametrizations, parametrize, prune, rnn
from agnostic_ad.nn.utils.clipping import *
from agnostic_ad.nn.utils.fusing import *
from agnostic_ad.nn.utils.hooked import *

__all__ = ["parametrizations", "parametrize", "prune", "rnn"]
__all__ += clipping.__all__
__all__ += fusing.__all__
__all__ += hooked.__all__
