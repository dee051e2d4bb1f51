"""Graphs in files: JSON for the operations, safetensors for the constants, both in one safetensors file.

The file holds no code: operations are named, and what an operation is, the table says where the file is read. Structures, sizes and other
static parameters are JSON, with a small object for what JSON lacks: ``{"slice": [0, null, 2]}``. Numbers, texts and None are themselves; an
array of JSON is a tuple.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from agnostic_ad import tensorfiles, trees
from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.windows import Convolution, Pooling
from agnostic_ad.config import Place, dtype_name
from agnostic_ad.encodings import FileError, encode
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes
from agnostic_ad.graph.fusion import FUSED
from agnostic_ad.graph.ir import Graph, GraphNode, Output, check_results, settled
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import MODULES, ShapeDtype, backend_of_namespace, lookup
from agnostic_ad.op import TABLE

__all__ = ["VERSION", "load", "save"]

VERSION = 1
"""Of the format. A file of a newer one is refused, one of an older one read."""

_KEY = "agnostic_ad.graph"
_TUPLES: dict[str, Any] = {kind.__name__: kind for kind in (Convolution, Pooling, sizes.Guard)}
"""The named tuples among static parameters."""


def _operation(name: str) -> Any:
    return FUSED if name == FUSED.name else TABLE.get(name)


# --- structures --------------------------------------------------------------------------------------------------------------------------
def tree_text(spec: trees.TreeSpec) -> Any:
    """Give a structure as JSON, with the numbers of its leaves."""

    def walk(x: Any) -> Any:
        kind = type(x)
        if kind is int:
            return {"leaf": x}
        if x is None:
            return None
        if kind is tuple:
            return [walk(v) for v in x]
        if kind is list:
            return {"list": [walk(v) for v in x]}
        if kind in (dict, OrderedDict) and all(isinstance(k, str | int) for k in x):
            return {"dict" if kind is dict else "ordered": [[k, walk(v)] for k, v in x.items()]}
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return {"named": [kind.__name__, [[name, walk(v)] for name, v in zip(x._fields, x, strict=True)]]}
        raise UnsupportedError(
            f"save: an argument or result is a {kind.__name__}; files keep tuples, lists, dicts by text or number, and named tuples. "
            "Capture a function of those."
        )

    return walk(trees.unflatten(spec, range(spec.num_leaves)))


def tree_of(x: Any) -> Any:
    """Give a structure, with numbers for leaves."""
    if x is None:
        return None
    if isinstance(x, list):
        return tuple(map(tree_of, x))
    ((kind, inner),) = x.items()
    if kind == "named":
        name, fields = inner
        return namedtuple(name, [f for f, _ in fields])(*(tree_of(v) for _, v in fields))
    if kind in ("dict", "ordered"):
        return (dict if kind == "dict" else OrderedDict)((k, tree_of(v)) for k, v in inner)
    return inner if kind == "leaf" else [tree_of(v) for v in inner]


# --- writing ------------------------------------------------------------------------------------------------------------------------------
class _Writer:
    """What a file will hold."""

    def __init__(self) -> None:
        self.arrays: list[tuple[str, str, np.ndarray[Any, Any]]] = []
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no other array takes the id of one

    def graph(self, graph: Graph) -> dict[str, Any]:
        """Give a graph as JSON; nodes are numbers, inputs first."""
        numbers = {id(node): i for i, node in enumerate((*graph.inputs, *graph.nodes))}

        def place(x: Any, what: str) -> Any:
            return {"node": [numbers[id(x.node)], x.index]} if isinstance(x, Output) else self.value(x, what)

        def node(n: GraphNode) -> dict[str, Any]:
            what = f"{n.op.name} ({n.where})" if n.op is not None and n.where else getattr(n.op, "name", "an input")
            found: dict[str, Any] = {
                "name": n.name,
                "outputs": [[self.value(tuple(o.shape), what), dtype_name(o.dtype)] for o in n.outputs],
            }
            if n.op is not None:
                if _operation(n.op.name) is not n.op:
                    raise UnsupportedError(f"save: {what} is no operation of the table; a file could only name it")
                found["op"] = n.op.name
                found["inputs"] = [place(x, f"an operand of {what}") for x in n.inputs]
                found["params"] = {k: self.value(v, f"the parameter {k!r} of {what}") for k, v in n.params.items()}
            found |= {k: v for k, v in (("where", n.where), ("scope", n.scope)) if v}
            return found

        return {
            "label": graph.label,
            "inputs": [node(n) for n in graph.inputs],
            "nodes": [node(n) for n in graph.nodes],
            "outputs": [place(o, "a result") for o in graph.outputs],
            "arguments": None if graph.in_spec is None else tree_text(graph.in_spec),
            "results": None if graph.out_spec is None else tree_text(graph.out_spec),
            "guards": [self.value(g, "a guard") for g in graph.guards],
            "known": self.value(graph.known, "a size"),
        }

    def value(self, x: Any, what: str) -> Any:
        """Give an operand or a parameter as JSON."""
        x = settled(x)
        if isinstance(x, sizes.Dim):
            return {"size": [self.value(x.poly, what), int(x)]}
        if isinstance(x, sizes.Ratio):
            return {"ratio": [self.value(x.tree, what), float(x)]}
        if isinstance(x, float) and not math.isfinite(x):
            return {"float": repr(float(x))}
        if x is None or isinstance(x, bool | str) or type(x) in (int, float):
            return x
        for kinds, name, parts in _PARTS:
            if isinstance(x, kinds):
                return {name: [self.value(v, what) for v in parts(x)]}
        if type(x).__name__ in _TUPLES and isinstance(x, tuple):
            return {"tuple": [type(x).__name__, [self.value(v, what) for v in x]]}
        if type(x) is tuple:
            return [self.value(v, what) for v in x]
        if isinstance(x, dict) and all(isinstance(k, str) for k in x):
            return {"dict": [[k, self.value(v, what)] for k, v in x.items()]}
        if isinstance(x, Graph):
            return {"graph": self.graph(x)}
        if x is Ellipsis:
            return {"ellipsis": None}
        return self.other(x, what)

    def other(self, x: Any, what: str) -> Any:
        """Give an array, a dtype or a device as JSON, or refuse."""
        if isinstance(x, Array):
            raise UnsupportedError(f"save: {what} is an array of {x.level.label}, which is gone with it; capture outside of it")
        if lookup(x) is not None and hasattr(x, "shape"):
            return {"array": self.array(x, what)}
        try:
            return {"dtype": dtype_name(x)}
        except TypeError:
            pass
        if type(x).__name__.lower() == "device":
            return {"device": str(x)}
        raise UnsupportedError(
            f"save: {what} is a {type(x).__name__}, which a file without code cannot hold. Give it to the function as an argument, or compute "
            "it from numbers and arrays."
        )

    def array(self, x: Any, what: str) -> str:
        """Note a constant; give its name in the file."""
        if id(x) not in self._names:
            name = f"c{len(self.arrays)}"
            dtype, host = encode(x, f"save: {what}")
            if dtype == "complex128":  # which the format lacks
                name, dtype, host = (
                    f"{name}.complex128",
                    "float64",
                    host.view("<f8").reshape(*host.shape, 2) if host.ndim else host.reshape(1).view("<f8"),
                )
            self._names[id(x)] = name
            self._kept.append(x)
            self.arrays.append((name, dtype, host))
        return self._names[id(x)]


_PARTS: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
    (complex, "complex", lambda x: (x.real, x.imag)),
    (slice, "slice", lambda x: (x.start, x.stop, x.step)),
    (list, "list", list),
)


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph to one file, which another process runs without the function it was captured from.

    Parameters
    ----------
    graph : Graph
        The graph, optimised or not.
    path : str or path
        The file, in the safetensors format: the constants, and the operations as JSON in its header. It is there whole, or as it was before.

    Raises
    ------
    UnsupportedError
        Where a static parameter, or the structure of the arguments, is nothing that JSON can say: it is named, with the line of its operation.
    """
    check_results(graph, "save")
    writer, version = _Writer(), sys.modules["agnostic_ad"].__version__
    backend = graph.backend.name
    text = {"version": VERSION, "writer": version, "library": backend, "graph": writer.graph(graph)}
    tensorfiles.write(path, writer.arrays, {_KEY: json.dumps(text, separators=(",", ":"), allow_nan=False)})


# --- reading ------------------------------------------------------------------------------------------------------------------------------
class _Reader:
    """What a file holds, for one library."""

    def __init__(self, arrays: dict[str, Any], backend: Backend, device: Any) -> None:
        self.backend, self.device = backend, device
        self.arrays = {
            name.removesuffix(".complex128"): self._complex(x) if name.endswith(".complex128") else x for name, x in arrays.items()
        }

    def _complex(self, x: Any) -> Any:
        return self.backend.from_numpy(np.ascontiguousarray(self.backend.to_numpy(x)).view("complex128")[..., 0], self.device)

    def graph(self, text: dict[str, Any]) -> Graph:
        """Give a graph."""
        nodes: list[GraphNode] = []

        def place(x: Any) -> Any:
            if not isinstance(x, dict) or "node" not in x:
                return self.value(x)
            i, k = x["node"]
            if not (0 <= i < len(nodes) and isinstance(k, int) and 0 <= k < len(nodes[i].outputs)):
                raise FileError("something takes what nothing before it gives")
            return Output(nodes[i], k)

        def node(n: dict[str, Any]) -> GraphNode:
            op = None
            if "op" in n:
                op = _operation(n["op"])
                if op is None:
                    raise FileError(f"it calls {n['op']!r}, an operation that is unknown here")
            outputs = tuple(ShapeDtype(self.value(shape), self.dtype(dtype)) for shape, dtype in n["outputs"])
            inputs = tuple(place(x) for x in n.get("inputs", ()))
            if not outputs or any(isinstance(x, str | tuple | list | dict) for x in inputs):
                raise FileError(f"{n['name']} has no results, or takes what is no array and no number")
            params = {k: self.value(v) for k, v in n.get("params", {}).items()}
            return GraphNode(op, inputs, params, outputs, n["name"], n.get("where"), n.get("scope", ""))

        for n in (*text["inputs"], *text["nodes"]):
            nodes.append(node(n))
        count = len(text["inputs"])
        if any((n.op is None) != (i < count) for i, n in enumerate(nodes)):
            raise FileError("a node has no operation, or an input has one")
        arguments, results = (None if text[k] is None else trees.flatten(tree_of(text[k]))[1] for k in ("arguments", "results"))
        guards = tuple(self.value(g) for g in text["guards"])
        return Graph(
            text["label"],
            nodes[count:],
            nodes[:count],
            [place(o) for o in text["outputs"]],
            (arguments, results),
            self.backend,
            guards,
            known=self.value(text["known"]),
        )

    def dtype(self, name: str) -> Any:
        """Give the library's dtype."""
        try:
            return self.backend.dtype(name)
        except TypeError:
            raise FileError(
                f"it computes in {name}, which {self.backend.name} does not have; read it for another library, with xp="
            ) from None

    def value(self, x: Any) -> Any:
        """Give an operand or a parameter."""
        if isinstance(x, list):
            return tuple(map(self.value, x))
        if not isinstance(x, dict):
            return x
        ((kind, inner),) = x.items()
        return _VALUES[kind](self, inner)


_VALUES: dict[str, Callable[[_Reader, Any], Any]] = {
    "size": lambda r, x: sizes.dim_of(r.value(x[0]), x[1], None),
    "ratio": lambda r, x: sizes.ratio_of(r.value(x[0]), x[1]),
    "float": lambda r, x: float(x),
    "complex": lambda r, x: complex(*map(r.value, x)),
    "slice": lambda r, x: slice(*map(r.value, x)),
    "list": lambda r, x: [r.value(v) for v in x],
    "tuple": lambda r, x: _TUPLES[x[0]](*map(r.value, x[1])),
    "dict": lambda r, x: {k: r.value(v) for k, v in x},
    "graph": lambda r, x: r.graph(x),
    "ellipsis": lambda r, x: ...,
    "array": lambda r, x: r.arrays[x.removesuffix(".complex128")],
    "dtype": lambda r, x: r.dtype(x),
    "device": lambda r, x: r.backend.parse_device(x) if r.device is None else r.device,
}


def _namespace(library: str) -> Any:
    """Import the library that a file names; of the known ones alone, since what a file names may be anything."""
    top = library.partition(".")[0]
    try:
        if top in MODULES:
            return importlib.import_module(top)
    except ModuleNotFoundError:
        pass
    raise FileError(f"it was captured for {library}, which is not here. Say what it should run on, with xp=numpy for instance")


def load(path: str | os.PathLike[str], *, xp: Any = None, device: Any = None) -> Graph:
    """Read a graph that ``Graph.save`` wrote. It runs, differentiates and exports as the one that was captured.

    Parameters
    ----------
    path : str or path
        The file.
    xp : namespace, optional
        The library that it will run on; by default the one that it was captured for.
    device : device, optional
        Where its constants lie.

    Returns
    -------
    Graph

    Raises
    ------
    FileError
        Where the file is truncated or damaged, is of a newer version, or calls an operation that is unknown here.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> g = graph.capture(ad.grad(lambda x: (x**3).sum()), graph.ShapeDtype((None,), "float64"))
    >>> g.save("slope.graph")
    >>> graph.load("slope.graph")(np.asarray([1.0, 2.0]))
    array([ 3., 12.])
    """
    path = Path(path)
    metadata = tensorfiles.read_metadata(path)
    if _KEY not in metadata:
        raise FileError(f"{path} is a safetensors file, but holds no graph. nn.load_file reads arrays.")
    try:
        text = json.loads(metadata[_KEY])
        version, writer, library = text["version"], text["writer"], text["library"]
        if not isinstance(version, int) or version > VERSION:
            raise FileError(
                f"it has version {version}, written by agnostic_ad {writer}; here versions up to {VERSION} are read. Update agnostic_ad"
            )
        backend = backend_of_namespace(_namespace(library) if xp is None else xp)
        to = Place(backend, None, None if device is None else backend.parse_device(device))
        return _Reader(tensorfiles.read_arrays(path, to, "load"), backend, to.device).graph(text["graph"])
    except FileError as error:
        message = str(error)
        raise FileError(message if message.startswith(str(path)) else f"{path} cannot be read as a graph: {message}.") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is damaged: its description of a graph makes no sense ({type(error).__name__}: {error})") from error
