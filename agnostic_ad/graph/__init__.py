"""Define, then run: functions captured as graphs of operations."""

from agnostic_ad.graph.capture import Graph, GraphNode, capture
from agnostic_ad.namespaces import ShapeDtype

__all__ = ["Graph", "GraphNode", "ShapeDtype", "capture"]
