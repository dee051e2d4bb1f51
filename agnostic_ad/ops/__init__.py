"""The op table: one file per chapter of the Array API standard. Data, no machinery."""

from agnostic_ad.ops import creation, elementwise, indexing, linalg, manipulation, neural, operators, searching, sorting, statistical
from agnostic_ad.op import TABLE

__all__ = [
    "TABLE",
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
