"""The layers' computations as functions, under PyTorch's names and arguments.

Every function takes raw arrays and Variables alike. What has nothing to record gives what it got.
"""

from agnostic_ad.nn.amp import WIDE_FUNCTIONS, widened
from agnostic_ad.nn.functional import (
    activations,
    adaptive_pooling,
    affine,
    attention,
    classes,
    convolution,
    distances,
    dropouts,
    embeddings,
    losses,
    margins,
    normalization,
    padding,
    pooling,
    resizing,
    sequences,
    vision,
)
from agnostic_ad.nn.functional.activations import *
from agnostic_ad.nn.functional.adaptive_pooling import *
from agnostic_ad.nn.functional.affine import *
from agnostic_ad.nn.functional.attention import *
from agnostic_ad.nn.functional.classes import *
from agnostic_ad.nn.functional.convolution import *
from agnostic_ad.nn.functional.distances import *
from agnostic_ad.nn.functional.dropouts import *
from agnostic_ad.nn.functional.embeddings import *
from agnostic_ad.nn.functional.losses import *
from agnostic_ad.nn.functional.margins import *
from agnostic_ad.nn.functional.normalization import *
from agnostic_ad.nn.functional.padding import *
from agnostic_ad.nn.functional.pooling import *
from agnostic_ad.nn.functional.resizing import *
from agnostic_ad.nn.functional.sequences import *
from agnostic_ad.nn.functional.vision import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += adaptive_pooling.__all__
__all__ += affine.__all__
__all__ += attention.__all__
__all__ += classes.__all__
__all__ += convolution.__all__
__all__ += distances.__all__
__all__ += dropouts.__all__
__all__ += embeddings.__all__
__all__ += losses.__all__
__all__ += margins.__all__
__all__ += normalization.__all__
__all__ += padding.__all__
__all__ += pooling.__all__
__all__ += resizing.__all__
__all__ += sequences.__all__
__all__ += vision.__all__

globals().update({name: widened(globals()[name]) for name in WIDE_FUNCTIONS})
