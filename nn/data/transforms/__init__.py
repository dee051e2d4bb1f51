"""Transforms of images, tables and text, under the names and with the arguments of ``torchvision.transforms.v2``.

They work on arrays of every library, (H, W, C), (C, H, W) or (H, W), one image or a batch; `layout_of` says how the axes are told.
What is random is drawn on the host, so that one seed gives the same pixels everywhere.
"""

from agnostic_ad.nn.data.transforms import (
    base,
    colour,
    containers,
    conversion,
    filtering,
    functional,
    geometry,
    mixes,
    policies,
    tabular,
    text,
    warping,
)
from agnostic_ad.nn.data.transforms.arguments import InterpolationMode
from agnostic_ad.nn.data.transforms.base import *
from agnostic_ad.nn.data.transforms.colour import *
from agnostic_ad.nn.data.transforms.containers import *
from agnostic_ad.nn.data.transforms.conversion import *
from agnostic_ad.nn.data.transforms.filtering import *
from agnostic_ad.nn.data.transforms.geometry import *
from agnostic_ad.nn.data.transforms.layouts import layout, layout_of
from agnostic_ad.nn.data.transforms.mixes import *
from agnostic_ad.nn.data.transforms.policies import *
from agnostic_ad.nn.data.transforms.tabular import *
from agnostic_ad.nn.data.transforms.text import *
from agnostic_ad.nn.data.transforms.warping import *

__all__ = ["InterpolationMode", "functional", "layout", "layout_of"]
__all__ += base.__all__
__all__ += colour.__all__
__all__ += containers.__all__
__all__ += conversion.__all__
__all__ += filtering.__all__
__all__ += geometry.__all__
__all__ += mixes.__all__
__all__ += policies.__all__
__all__ += tabular.__all__
__all__ += text.__all__
__all__ += warping.__all__
