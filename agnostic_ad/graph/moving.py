"""A graph for another array library or device than the one that it was made for."""

from __future__ import annotations

from typing import Any

from agnostic_ad.config import dtype_name
from agnostic_ad.graph.ir import Graph, GraphNode, Output
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import ShapeDtype, lookup

__all__ = ["moved"]


def moved(graph: Graph, backend: Any, device: Any = None) -> Graph:
    """Give a graph whose constants, dtypes and devices are those of another library.

    Parameters
    ----------
    graph : Graph
        The graph; graphs inside its nodes are moved too.
    backend : Backend
        The library.
    device : device, optional
        By default the library's own choice.
    """

    def value(x: Any) -> Any:
        if isinstance(x, Graph):
            return moved(x, backend, device)
        if type(x) in (tuple, list, dict):
            return {k: value(v) for k, v in x.items()} if type(x) is dict else type(x)(map(value, x))
        if isinstance(x, Array | bool | int | float | complex | str | slice) or x is None or x is Ellipsis:
            return x
        source = lookup(x)
        if source is not None and hasattr(x, "shape"):
            return backend.from_numpy(source.to_numpy(x), device)
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return type(x)(*map(value, x))
        try:
            return backend.dtype(dtype_name(x))
        except TypeError:
            return device if type(x).__name__.lower() == "device" else x

    places: dict[Output, Output] = {}

    def node(old: GraphNode) -> GraphNode:
        inputs = tuple(places[x] if isinstance(x, Output) else value(x) for x in old.inputs)
        outputs = tuple(ShapeDtype(o.shape, backend.dtype(dtype_name(o.dtype))) for o in old.outputs)
        params = {k: device if k == "device" else value(v) for k, v in old.params.items()}
        new = old.replaced(inputs=inputs, params=params, outputs=outputs)
        places.update({Output(old, i): Output(new, i) for i in range(len(outputs))})
        return new

    inputs, nodes = [node(n) for n in graph.inputs], [node(n) for n in graph.nodes]
    results = [places[o] if isinstance(o, Output) else value(o) for o in graph.outputs]
    return graph.rebuild(nodes, results, inputs=inputs, backend=backend, history=())
