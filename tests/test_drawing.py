"""Pictures: everything is there, nothing lies on anything else, and lines go forward."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.graph import layered
from agnostic_ad.graph.drawing import _of_graph, draw
from agnostic_ad.nn import functional as F

S = graph.ShapeDtype
SVG = "{http://www.w3.org/2000/svg}"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return x + F.gelu(self.linear(self.norm(x)))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(x))


def training() -> graph.Graph:
    net = Net()
    p = {k: v.data for k, v in net.named_parameters()}
    f = ad.value_and_grad(lambda p, x: (nn.functional_call(net, p, (x,)) ** 2).sum())
    return graph.capture(f, p, S((None, 4), "float32"))


def kernels() -> graph.Graph:
    x = np.ones((100, 100))
    return graph.capture(lambda x: (ad.namespace(x).exp(x) * 2 + x).sum(), x).optimize()


def choice() -> graph.Graph:
    return graph.capture(lambda x: graph.cond(x.sum() > 0, lambda x: x * 2, lambda x: -x, x), S((3,), "float64"))


GRAPHS = {"training": training, "kernels": kernels, "choice": choice}


@pytest.mark.parametrize("name", GRAPHS)
def test_places(name: str) -> None:
    picture = _of_graph(GRAPHS[name]())
    placed = layered.place(picture.leaves, picture.lines)
    assert len(placed.leaves) == len(picture.leaves) and len(placed.lines) == len(picture.lines)
    areas = {leaf: (x, y, x + leaf.width, y + leaf.height) for leaf, x, y in placed.leaves}
    for a, b in combinations(areas.values(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], "two lie on each other"
    for leaf, (x0, y0, x1, y1) in areas.items():
        around = [b for b, x, y in placed.boxes if x <= x0 and x1 <= x + b.width and y <= y0 and y1 <= y + b.height]
        assert [(b.title, b.kind) for b in around] == list(leaf.scope), "each lies in its boxes, and in no others"
        assert x0 >= 0 and x1 <= placed.width and y0 >= 0 and y1 <= placed.height
    for line, points in placed.lines:
        assert all(a[1] <= b[1] for a, b in pairwise(points)), "a line goes up"
        assert points[0][1] == areas[line.source][3] and points[-1][1] == areas[line.target][1]
        for (xa, ya), (xb, yb) in pairwise(points):
            if xa == xb and ya < yb:  # upright parts pass nothing but their ends
                through = [leaf for leaf, (x0, y0, x1, y1) in areas.items() if x0 < xa < x1 and y0 < yb - 1 and ya + 1 < y1]
                assert set(through) <= {line.source, line.target}


def test_groups_shapes_and_lines_of_code() -> None:
    g = training()
    text = g.draw()
    assert text is not None
    for title in ("Net", "blocks", "0", "1", "norm", "linear", "head"):
        assert f'label="{title}"' in text
    assert text.count("subgraph cluster_") == 2 * 3 + 3  # two blocks with two modules each; the net, its sequence and its head
    assert 'label="in0.head.weight\\nfloat32[3, 4]"' in text and 'label="[None, 3]"' in text
    assert "test_drawing.py:" in text
    assert text.count("{") == text.count("}")


def test_svg(tmp_path: Path) -> None:
    training().draw(tmp_path / "g.svg")
    root = ElementTree.parse(tmp_path / "g.svg").getroot()
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert {"nn.gelu", "nn.gelu_pull", "blocks", "[None, 4]", "out0"} <= set(texts)
    assert any("test_drawing.py:" in (t.text or "") for t in root.iter(f"{SVG}title"))


def test_png(tmp_path: Path) -> None:
    kernels().draw(tmp_path / "g.png")
    pixels = matplotlib.image.imread(tmp_path / "g.png")
    assert pixels.shape[0] > 300 and pixels.shape[1] > 200
    colours = {tuple(c) for c in np.round(pixels[..., :3].reshape(-1, 3) * 255).astype(int)[::7]}
    assert {(255, 255, 255), (0xFD, 0xF3, 0xDC), (0xDC, 0xEB, 0xFA)} <= colours  # paper, a kernel, an input


def test_kernels_and_bodies_lie_in_boxes() -> None:
    kernel, body = kernels().draw(), choice().draw()
    assert kernel is not None and body is not None
    assert re.search(r'label="fused v\d+"', kernel) and 'label="exp"' in kernel
    assert 'label="true"' in body and 'label="false"' in body and 'label="negative"' in body


def test_a_graph_that_is_defined_first() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((None,), "float64", name="x")
        graph.assign(graph.variable(np.zeros(()), name="w"), x.sum())
    text = g.draw()
    assert text is not None and 'label="x\\nfloat64[None]"' in text and 'label="w\\nfloat64[]"' in text and 'label="graph.assign' in text


def test_the_tape() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    loss = net(np.ones((5, 3), "float32")).sum()
    text = draw(loss, names=dict(net.named_parameters()))
    assert text is not None
    assert text.count('label="nn.linear"') == 2 and 'label="tanh"' in text and 'label="sum"' in text
    assert 'label="0.weight\\n[4, 3]"' in text and 'label="[5, 4]"' in text and 'label="result\\n[]"' in text
    assert text.count("->") == 8


def test_a_long_tape_is_drawn() -> None:
    x = ad.Variable(1.0)
    y = x
    for _ in range(2000):
        y = y * 1.001
    text = draw(y)
    assert text is not None and text.count('label="multiply"') == 2000


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: draw(3), TypeError, "draw takes a Graph, or a Variable that records; not int"),
        (lambda: choice().draw("g.pdf"), ValueError, "draw writes .svg, .png and .dot files .*, not 'pdf'"),
        (lambda: choice().draw(format="png"), ValueError, "not 'png'"),
    ],
)
def test_what_is_refused(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
