"""The op table: one file per chapter of the Array API standard. Data, no machinery."""

from agnostic_ad.op import TABLE
from agnostic_ad.ops import (
    brackets,
    convolution,
    creation,
    elementwise,
    indexing,
    linalg,
    manipulation,
    neural,
    operators,
    searching,
    sorting,
    statistical,
)

__all__ = [
    "TABLE",
    "brackets",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "linalg",
    "manipulation",
    "neural",
    "operators",
    "searching",
    "sorting",
    "statistical",
]
