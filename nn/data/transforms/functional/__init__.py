"""The transforms' computations as functions of an image and its parameters, under the names of ``torchvision.transforms.v2.functional``.

Each takes one image or a batch of any library and layout (see `layout_of`), raw or a Variable, and draws nothing that is given.
"""

from agnostic_ad.nn.data.transforms.functional import colour, conversion, filtering, geometry, warping
from agnostic_ad.nn.data.transforms.functional.colour import *
from agnostic_ad.nn.data.transforms.functional.conversion import *
from agnostic_ad.nn.data.transforms.functional.filtering import *
from agnostic_ad.nn.data.transforms.functional.geometry import *
from agnostic_ad.nn.data.transforms.functional.warping import *

__all__: list[str] = []
__all__ += colour.__all__
__all__ += conversion.__all__
__all__ += filtering.__all__
__all__ += geometry.__all__
__all__ += warping.__all__
