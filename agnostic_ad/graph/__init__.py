"""Define, then run: functions captured as graphs of operations."""

from agnostic_ad.graph.capture import Graph, GraphNode, capture
from agnostic_ad.graph.control import cond, scan, while_loop
from agnostic_ad.graph.definition import (
    GraphVariable,
    Group,
    assign,
    group,
    placeholder,
    variable,
)
from agnostic_ad.graph.drawing import draw
from agnostic_ad.graph.onnx_import import from_onnx
from agnostic_ad.graph.passes import PASSES
from agnostic_ad.graph.saving import load
from agnostic_ad.graph.session import Session
from agnostic_ad.namespaces import ShapeDtype

__all__ = [
    "PASSES",
    "Graph",
    "GraphNode",
    "GraphVariable",
    "Group",
    "Session",
    "ShapeDtype",
    "assign",
    "capture",
    "cond",
    "draw",
    "from_onnx",
    "group",
    "load",
    "placeholder",
    "scan",
    "variable",
    "while_loop",
]
