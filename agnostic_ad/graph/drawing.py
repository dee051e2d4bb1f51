"""Pictures of graphs, and of the tape behind a Variable: DOT for those who have Graphviz, SVG and PNG for everybody."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import reduce
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from agnostic_ad.encodings import replace_file
from agnostic_ad.graph.fusion import FUSED
from agnostic_ad.graph.ir import (
    Graph,
    GraphNode,
    Output,
    brief,
    input_names,
    shape_text,
)
from agnostic_ad.graph.layered import Leaf, Line, Placed, place

__all__ = ["draw"]

_FILL = {"op": "#ffffff", "input": "#dcebfa", "constant": "#eeeeee", "output": "#dff2df", "effect": "#fbe7d3"}
_HALO = 'stroke="#fff" stroke-width="3" stroke-opacity="0.8" paint-order="stroke"'
"""What keeps a label apart from lines that pass under it."""
_BORDER = {"scope": ("#f5f7fa", "#9aa7b5"), "kernel": ("#fdf3dc", "#c9973a"), "body": ("#f2ecfa", "#8d6cb8")}
_LONGEST = 34


class _Picture:
    """What is to be drawn."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.leaves: list[Leaf] = []
        self.lines: list[Line] = []

    def leaf(self, *lines: str, kind: str = "op", scope: Any = (), tip: str = "") -> Leaf:
        """Add a leaf."""
        found = Leaf(tuple(line for line in lines if line), kind, tuple(scope), tip)
        self.leaves.append(found)
        return found


# --- graphs -------------------------------------------------------------------------------------------------------------------------------
def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _constant(x: Any) -> str:
    return repr(x.item()) if getattr(x, "shape", None) == () and hasattr(x, "item") else brief(x)


def _details(node: GraphNode) -> str:
    """Give the constants among the operands and the static parameters in a few letters."""
    constants = [_constant(x) for x in node.inputs if not isinstance(x, Output) and x is not None]
    params = [f"{k}={v!r}" for k, v in node.params.items() if not isinstance(v, Graph) and v is not None and v is not False]
    return _short(", ".join(constants + params))


def _spec_text(spec: Any) -> str:
    return f"{spec.dtype}".rpartition(".")[2] + shape_text(spec.shape)


def _scope(node: GraphNode) -> tuple[tuple[str, str], ...]:
    return tuple((part, "scope") for part in node.scope.split(".") if part)


def _graph(
    picture: _Picture, graph: Graph, inputs: list[tuple[Leaf, str]], around: tuple[tuple[str, str], ...]
) -> list[tuple[Leaf, str] | None]:
    """Add the operations of a graph; give where its results come from."""
    now: dict[Output, tuple[Leaf, str]] = {Output(node, 0): source for node, source in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes:
        scope = around if around and around[-1][1] == "kernel" else (*around, *_scope(node))
        sources = [now[x] for x in node.places()]
        if node.op is FUSED:  # its operations in a box
            found = _graph(picture, node.params["graph"], sources, (*scope, (f"fused {node.name}", "kernel")))
            now |= {Output(node, i): place for i, place in enumerate(found) if place is not None}
            continue
        bodies = [(name, body) for name, body in node.params.items() if isinstance(body, Graph)]
        if bodies:  # around the operation and what it runs
            scope = (*scope, (f"{node.name} {node.op.name}", "body"))
        kind, tip = "effect" if node.effects else "op", f"{node.name} {node.where or ''}".strip()
        leaf = picture.leaf(node.op.name, _details(node), kind=kind, scope=scope, tip=tip)
        for source, label in sources:
            picture.lines.append(Line(source, leaf, label))
        for name, body in bodies:
            box = (*scope, (name, "body"))
            own = [picture.leaf(n.name, _spec_text(n.outputs[0]), kind="input", scope=box) for n in body.inputs]
            given = [(x, shape_text(n.outputs[0].shape)) for x, n in zip(own, body.inputs, strict=True)]
            _ends(picture, body, _graph(picture, body, given, box), box)
        for i, spec in enumerate(node.outputs):
            now[Output(node, i)] = leaf, shape_text(spec.shape)
    return [now[o] if isinstance(o, Output) else None for o in graph.outputs]


def _ends(picture: _Picture, graph: Graph, ends: list[tuple[Leaf, str] | None], scope: Any = ()) -> None:
    for i, (end, x) in enumerate(zip(ends, graph.outputs, strict=True)):
        leaf = picture.leaf(f"out{i}", brief(x) if end is None else "", kind="output", scope=scope)
        if end is not None:
            picture.lines.append(Line(end[0], leaf, end[1]))


def _common(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    return a[: next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))]


def _of_graph(graph: Graph) -> _Picture:
    picture = _Picture(graph.label)
    users = graph.users()
    inputs = []
    for name, n in zip(input_names(graph), graph.inputs, strict=True):
        scopes = [_scope(user) for user, _ in users.get(Output(n, 0), ()) if user.scope]  # next to the module that takes it
        leaf = picture.leaf(
            name, _spec_text(n.outputs[0]), kind="input", scope=reduce(_common, scopes) if scopes else (), tip=n.where or ""
        )
        inputs.append((leaf, shape_text(n.outputs[0].shape)))
    _ends(picture, graph, _graph(picture, graph, inputs, ()))
    return picture


# --- the tape -----------------------------------------------------------------------------------------------------------------------------
def _of_variable(x: Any, names: Mapping[str, Any]) -> _Picture:
    """Follow a Variable to where it came from."""
    picture = _Picture("tape")
    known = {v.node: name for name, v in names.items()}
    shapes: dict[Any, Any] = {x.node: tuple(x.shape), **{v.node: tuple(v.shape) for v in names.values()}}
    order, links, stack = [x.node], [], [x.node]
    while stack:
        node = stack.pop()
        for parent, shape in zip(node.ancestors(), _operands(node, shapes.get(node)), strict=False):
            if parent is None:
                continue
            if shape is not None:
                shapes.setdefault(parent, shape)
            links.append((parent, node))
            if parent not in order:
                order.append(parent)
                stack.append(parent)
    leaves = {}
    for node in order:
        shape, origin = shapes.get(node), getattr(getattr(node, "extra", None), "origin", None)
        first = not any(child is node for _, child in links)
        text = shape_text(shape) if first and shape is not None else ""
        leaves[node] = picture.leaf(known.get(node, node.name), text, kind="input" if first else "op", tip=origin or "")
    end = picture.leaf("result", shape_text(x.shape), kind="output")
    leaves[None] = end
    for parent, child in [*links, (x.node, None)]:
        shape = shapes.get(parent)
        picture.lines.append(Line(leaves[parent], leaves[child], "" if shape is None else shape_text(shape)))
    return picture


def _operands(node: Any, shape: Any) -> list[Any]:
    """Give the shapes of a record's operands as far as it tells: by what its rules keep, or because they are the result's."""
    saves, saved, found = getattr(node.op, "saves", ()), getattr(node, "saved", None), []
    kept = dict(zip(saves, saved)) if saved is not None and isinstance(saves, tuple) else {}
    arrays = getattr(node.op, "arrays", ())
    for position in range(len(node.ancestors())):
        name = arrays[position] if position < len(arrays) else ""
        adapted = node.adapt[position] if getattr(node, "adapt", None) else None
        own = kept.get(f"{name}_shape", getattr(kept.get(name), "shape", None))
        if own is None and getattr(node.op, "elementwise", False):
            own = adapted[0] if adapted is not None and adapted[0] is not None else shape
        found.append(None if own is None else tuple(own))
    return found


# --- DOT ----------------------------------------------------------------------------------------------------------------------------------
def _quoted(*lines: str) -> str:
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def _dot(picture: _Picture) -> str:
    names = {leaf: f"n{i}" for i, leaf in enumerate(picture.leaves)}
    out = [
        "digraph {",
        f"  label={_quoted(picture.title)}; labelloc=t; fontname=Helvetica;",
        "  node [shape=box, style=filled, fontname=Helvetica, fontsize=11];",
    ]
    groups: dict[Any, Any] = {}
    for leaf in picture.leaves:
        inner = groups
        for key in leaf.scope:
            inner = inner.setdefault(key, {})
        inner[leaf] = None

    def write(group: dict[Any, Any], indent: str) -> None:
        for key, inner in group.items():
            if inner is None:
                style = "rounded,filled" if key.kind in ("input", "output") else "filled"
                tip = f", tooltip={_quoted(key.tip)}" if key.tip else ""
                out.append(f'{indent}{names[key]} [label={_quoted(*key.lines)}, style="{style}", fillcolor="{_FILL[key.kind]}"{tip}];')
                continue
            fill, line = _BORDER[key[1]]
            out.append(f"{indent}subgraph cluster_{len(out)} {{")
            out.append(f'{indent}  label={_quoted(key[0])}; style="rounded,filled"; fillcolor="{fill}"; color="{line}";')
            write(inner, indent + "  ")
            out.append(f"{indent}}}")

    write(groups, "  ")
    out += [f"  {names[line.source]} -> {names[line.target]} [label={_quoted(line.label)}, fontsize=9];" for line in picture.lines]
    return "\n".join([*out, "}", ""])


# --- SVG ----------------------------------------------------------------------------------------------------------------------------------
def _curve(points: list[tuple[float, float]]) -> list[tuple[float, ...]]:
    """Give a line through points as curves that leave and arrive upright."""
    return [(x0, (y0 + y1) / 2, x1, (y0 + y1) / 2, x1, y1) for (x0, y0), (x1, y1) in pairwise(points)]


def _labels(placed: Placed) -> list[tuple[str, float, float]]:
    """Give the texts of lines, one for all that start at one place with one text; the picture is wide enough for them."""
    found: dict[Any, dict[str, tuple[str, float, float]]] = {}
    for line, points in placed.lines:
        own, (x, y) = found.setdefault(line.source, {}), points[0]
        if line.label:
            own.setdefault(line.label, (line.label, x + 3, y + 11 + 10 * len(own)))
    labels = [label for own in found.values() for label in own.values()]
    placed.width = max([placed.width, *(x + 6 * len(text) for text, x, _ in labels)])
    return labels


def _svg(picture: _Picture) -> str:
    placed = place(picture.leaves, picture.lines)
    labels = _labels(placed)
    width, height = placed.width, placed.height + 20
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 -20 {width:.0f} {height:.0f}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#666"/></marker></defs>',
        f'<rect y="-20" width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        f'<text x="{width / 2:.1f}" y="-6" text-anchor="middle" font-weight="bold">{escape(picture.title)}</text>',
    ]
    for box, x, y in placed.boxes:
        fill, line = _BORDER[box.kind]
        out.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6" fill="{fill}" stroke="{line}"/>'
        )
        out.append(f'<text x="{x + 6:.1f}" y="{y + 12:.1f}" fill="{line}">{escape(box.title)}</text>')
    for _, points in placed.lines:
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}" + "".join("C" + " ".join(f"{v:.1f}" for v in part) for part in _curve(points))
        out.append(f'<path d="{path}" fill="none" stroke="#666" marker-end="url(#head)"/>')
    for leaf, x, y in placed.leaves:
        round_ = 8 if leaf.kind in ("input", "output") else 2
        out.append(
            f'<g><title>{escape(leaf.tip)}</title><rect x="{x:.1f}" y="{y:.1f}" width="{leaf.width:.1f}" height="{leaf.height:.1f}" rx="{round_}" fill="{_FILL[leaf.kind]}" stroke="#555"/>'
        )
        for i, line in enumerate(leaf.lines):
            out.append(
                f'<text x="{x + leaf.width / 2:.1f}" y="{y + 15 + 13 * i:.1f}" text-anchor="middle"{"" if i == 0 else chr(32) + "fill=" + chr(34) + "#666" + chr(34)}>{escape(line)}</text>'
            )
        out.append("</g>")
    for text, x, y in labels:
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="9" fill="#777" {_HALO}>{escape(text)}</text>')
    return "\n".join([*out, "</svg>", ""])


# --- PNG ----------------------------------------------------------------------------------------------------------------------------------
_MOST_PIXELS = 40_000_000
"""Larger pictures get fewer pixels an inch."""


def _png(picture: _Picture, file: Any) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.collections import PatchCollection, PathCollection, PolyCollection
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyBboxPatch
        from matplotlib.path import Path as Curve
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "draw: a .png needs matplotlib, which is not installed: pip install 'agnostic_ad[draw]'; a .svg does not"
        ) from None
    placed = place(picture.leaves, picture.lines)
    labels = _labels(placed)
    width, height = placed.width, placed.height + 20
    figure = Figure(figsize=(width / 72, height / 72), dpi=min(144.0, 72 * math.sqrt(_MOST_PIXELS / (width * height))))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height - 20, -20))
    axes.axis("off")

    def rectangle(x: float, y: float, w: float, h: float, radius: float, fill: str, line: str) -> Any:
        style = f"round,pad=0,rounding_size={radius}"
        return FancyBboxPatch((x, y), w, h, boxstyle=style, facecolor=fill, edgecolor=line, linewidth=0.8)

    def text(x: float, y: float, what: str, size: float = 11, **options: Any) -> None:
        axes.text(x, y, what.replace("$", r"\$"), fontsize=size * 0.8, **{"zorder": 4, "va": "baseline", **options})

    text(width / 2, -6, picture.title, ha="center", weight="bold")
    groups, curves, heads, rectangles = [], [], [], []
    for box, x, y in placed.boxes:
        fill, line = _BORDER[box.kind]
        groups.append(rectangle(x, y, box.width, box.height, 6, fill, line))
        text(x + 6, y + 12, box.title, color=line)
    for _, points in placed.lines:
        parts = [points[0], *((part[i], part[i + 1]) for part in _curve(points) for i in (0, 2, 4))]
        curves.append(Curve(parts, [Curve.MOVETO] + [Curve.CURVE4] * (len(parts) - 1)))
        x, y = points[-1]
        heads.append([(x - 2.5, y - 6), (x, y), (x + 2.5, y - 6)])  # lines arrive upright
    for leaf, x, y in placed.leaves:
        radius = 8 if leaf.kind in ("input", "output") else 2
        rectangles.append(rectangle(x, y, leaf.width, leaf.height, radius, _FILL[leaf.kind], "#555"))
        for i, line in enumerate(leaf.lines):
            text(x + leaf.width / 2, y + 15 + 13 * i, line, ha="center", color="#666" if i else "black")
    axes.add_collection(PatchCollection(groups, match_original=True, zorder=1))
    axes.add_collection(PathCollection(curves, facecolors="none", edgecolors="#666", linewidths=0.8, zorder=2))
    axes.add_collection(PolyCollection(heads, facecolors="#666", zorder=2))
    axes.add_collection(PatchCollection(rectangles, match_original=True, zorder=3))
    for what, x, y in labels:
        text(x, y, what, 9, color="#777", bbox={"facecolor": "white", "alpha": 0.8, "pad": 0.5, "linewidth": 0})
    figure.savefig(file, format="png", dpi=figure.dpi, pil_kwargs={"compress_level": 3})


def draw(
    x: Any, path: str | os.PathLike[str] | None = None, *, format: str | None = None, names: Mapping[str, Any] | None = None
) -> str | None:
    """Draw a graph, or the tape behind a Variable.

    Operations are grouped by the module that called them, with shapes on the lines; the operations of a fused kernel, and those of a loop or a
    branch, lie in a box of their own. SVG shows where an operation was called when the pointer rests on it.

    Parameters
    ----------
    x : Graph or Variable
        What to draw.
    path : str or path, optional
        Where to write it, as ``.svg``, ``.png`` or ``.dot``; None to have the text.
    format : {"svg", "png", "dot"}, optional
        By default what the path ends with; of a text, DOT, for Graphviz and other programs.
    names : mapping of str to Variable, optional
        What to call leaves of the tape, ``dict(model.named_parameters())`` say.

    Returns
    -------
    str or None
        The text, where there is no path.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad import graph
    >>> g = graph.capture(lambda x: ad.namespace(x).exp(x) + 1, graph.ShapeDtype((3,), "float64"))
    >>> print(g.draw().splitlines()[4])
      n1 [label="exp", style="filled", fillcolor="#ffffff", tooltip="v0 ..."];
    """
    kind = format or (Path(path).suffix.removeprefix(".").lower() if path is not None else "dot")
    if kind not in ("svg", "png", "dot") or (kind == "png" and path is None):
        raise ValueError(f"draw writes .svg, .png and .dot files (and gives svg and dot as text), not {kind!r}")
    if isinstance(x, Graph):
        picture = _of_graph(x)
    elif getattr(x, "node", None) is not None:
        picture = _of_variable(x, names or {})
    else:
        raise TypeError(f"draw takes a Graph, or a Variable that records; not {type(x).__name__}")
    if kind == "png":
        replace_file(path, lambda file: _png(picture, file))  # type: ignore[arg-type]
        return None
    text = _svg(picture) if kind == "svg" else _dot(picture)
    if path is None:
        return text
    replace_file(path, lambda file: (file.write(text.encode()), None)[1])
    return None
