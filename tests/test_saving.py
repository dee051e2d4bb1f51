"""Graph.save and graph.load: what is written runs elsewhere, and nothing else than a graph is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, nn, tensorfiles
from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.encodings import FileError
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph.saving import VERSION
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.nn import functional as F
from agnostic_ad.op import TABLE

S = graph.ShapeDtype
NUMPY = backend_of_namespace(np)
X = np.linspace(-1.0, 2.0, 6).reshape(2, 3)
Pair = namedtuple("Pair", ["a", "b"])


def saved(g: graph.Graph, path: Path, **options: Any) -> graph.Graph:
    g.save(path)
    return graph.load(path, **options)


def assert_equal(a: Any, b: Any) -> None:
    assert ad.trees.flatten(a)[1] == ad.trees.flatten(b)[1]
    for x, y in zip(ad.trees.leaves(a), ad.trees.leaves(b), strict=True):
        assert_exact(np.asarray(x), np.asarray(y))


def whole(x: Any) -> Any:
    """Slices, dtypes, infinities, complex numbers, windows: static parameters of every kind."""
    xp = ad.namespace(x)
    y = xp.where(x > 0, x, -xp.inf)[..., ::-1, None]
    z = xp.astype(x, xp.complex64) * (1 - 2j)
    w = F.max_pool2d(F.conv2d(x[None, None], np.ones((1, 1, 2, 2)), padding=1), 2)
    return {"y": y, "z": [xp.sum(z), xp.astype(x, xp.int8)], "w": (w, xp.argmax(x, axis=0)), "c": np.complex128(3j) * X, "n": None}


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "whole": (whole, (X,)),
    "gradient": (ad.value_and_grad(lambda x: (ad.namespace(x).tanh(x) ** 3).sum()), (X,)),
    "hessian": (ad.hessian(lambda x: ad.namespace(x).exp(x).sum()), (X,)),
    "trees": (lambda p: {"s": p["a"] + p["b"][0], 3: [p["b"][1]]}, ({"a": X, "b": (X, X)},)),
    "ordered": (lambda p: OrderedDict(b=p["y"], a=p["x"]), (OrderedDict(y=X, x=X + 1),)),
    "cond": (lambda x: graph.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, x), (X,)),
    "scan": (ad.grad(lambda x: graph.scan(lambda c, a: (c * a, c.sum()), x[0], x)[1].sum()), (X,)),
    "constants": (lambda x: (X, 5.0, x), (X,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    f, args = FUNCTIONS[name]
    g = graph.capture(f, *args)
    again = saved(g, tmp_path / "g")
    assert_equal(again(*args), g(*args))
    for a, b in zip((*again.inputs, *again.walk()), (*g.inputs, *g.walk()), strict=True):
        assert (a.op, a.name, a.where, a.scope, a.outputs) == (b.op, b.name, b.where, b.scope, b.outputs)


@pytest.mark.parametrize("name", [name for name, op in TABLE.items() if op.cases])
def test_every_operation(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)  # thousands of files, which need not outlast anything
    for case in TABLE[name].cases:
        for kind in case.kinds:
            call = Call(TABLE[name], case, kind)
            if case.dynamic or (TABLE[name].abstract is None and TABLE[name].composite is None):
                continue
            operands = call.draw(NUMPY)

            def f(*arrays: Any, call: Call = call, operands: list[Any] = operands) -> Any:
                there = list(operands)
                for i, x in zip(call.arrays, arrays, strict=True):
                    there[i] = x
                return call(there)

            arrays = [operands[i] for i in call.arrays]
            g = graph.capture(f, *arrays)
            again = saved(g, tmp_path / "g")
            assert [(n.op, repr(n.params)) for n in again.nodes] == [(n.op, repr(n.params)) for n in g.nodes]
            if name not in ("nn.keep", "nn.noise"):
                assert_equal(tuple(ad.trees.leaves(again(*arrays))), tuple(ad.trees.leaves(g(*arrays))))


def test_an_optimised_graph(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 10_000)
    g = graph.capture(ad.grad(lambda x: (ad.namespace(x).exp(-x * x) * x).sum()), x).optimize()
    assert any(n.graphs() for n in g.nodes)
    assert_equal(saved(g, tmp_path / "g")(x), g(x))


def test_axes_of_any_size(tmp_path: Path) -> None:
    def f(x: Any, y: Any) -> Any:
        return (x.reshape(-1) / x.shape[0]).sum() + y.mean(), x.reshape(x.shape[1], x.shape[0])

    again = saved(graph.capture(f, S(("n", 3), "float64"), S(("n",), "float64")), tmp_path / "g")
    for n in (1, 4):
        x, y = np.ones((n, 3)), np.arange(float(n))
        assert_equal(again(x, y), f(x, y))
    with pytest.raises(ValueError, match="an axis of input in1 has size 2"):
        again(np.ones((3, 3)), np.ones(2))


def test_a_graph_that_was_read_is_a_graph(tmp_path: Path) -> None:
    again = saved(graph.capture(lambda x: ad.namespace(x).sin(x) * x, S((3,), "float64")), tmp_path / "g")
    x = np.asarray([0.1, 0.2, 0.3])
    assert_close(ad.grad(lambda x: again(x).sum())(x), np.cos(x) * x + np.sin(x), 1e-12, 1e-12)
    assert_close(ad.vmap(again)(np.stack([x, x])), np.stack([np.sin(x) * x] * 2), 1e-12, 1e-12)
    assert_exact(saved(graph.capture(again, x), tmp_path / "h")(x), again(x))


@pytest.mark.parametrize("backend", support.params("array_api_strict", "torch", "jax"))
def test_on_another_library(backend: support.Backend, tmp_path: Path) -> None:
    w = np.asarray([[1.0, 2.0], [3.0, 4.0]], "float32")
    g = graph.capture(ad.grad(lambda x: (ad.namespace(x).tanh(x @ w)).sum()), S((None, 2), "float32"))
    x = np.asarray([[0.5, -0.3]], "float32")
    again = saved(g, tmp_path / "g", xp=backend.xp)
    assert_close(backend.numpy(again(backend.asarray(x))), g(x), 1e-6, 1e-6)


@pytest.mark.parametrize("backend", support.params("array_api_strict", "torch", "jax"))
def test_from_another_library(backend: support.Backend, tmp_path: Path) -> None:
    x = backend.asarray(X)
    g = graph.capture(lambda x: ad.namespace(x).astype(x, ad.namespace(x).float32) * 2, x)
    again = saved(g, tmp_path / "g")
    assert type(again(x)) is type(g(x)) and again(x).dtype == g(x).dtype
    assert_exact(backend.numpy(again(x)), backend.numpy(g(x)))


def test_draws_are_new_at_each_run(tmp_path: Path) -> None:
    again = saved(graph.capture(lambda x: F.dropout(x, 0.5), S((40,), "float64")), tmp_path / "g")
    ad.manual_seed(3)
    a, b = again(np.ones(40)), again(np.ones(40))
    ad.manual_seed(3)
    assert_exact(a, F.dropout(np.ones(40), 0.5))
    assert (a != b).any()


STRANGER = """
import json, sys
import numpy as np
from agnostic_ad import graph, trees
assert not any(name.startswith("agnostic_ad.nn") for name in sys.modules)
data = np.load("data.npz")
g = graph.load("step.graph")
result = g({k: data[k] for k in ("0.weight", "0.bias", "2.weight", "2.bias")}, data["x"], data["y"])
np.savez("result.npz", *trees.leaves(result))
assert not any(name.startswith("agnostic_ad.nn") for name in sys.modules), "nn was needed"
"""


def test_a_training_step_in_another_process(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
    parameters = {k: p.data for k, p in model.named_parameters()}
    x, y = np.random.default_rng(0).standard_normal((5, 4)).astype("float32"), np.asarray([0, 1, 2, 1, 0])

    def step(p: Any, x: Any, y: Any) -> Any:
        loss, gradient = ad.value_and_grad(lambda p: F.cross_entropy(nn.functional_call(model, p, (x,)), y))(p)
        return loss, {k: p[k] - 0.1 * gradient[k] for k in p}

    g = graph.capture(step, parameters, S((None, 4), "float32"), S((None,), "int64"))
    g.save(tmp_path / "step.graph")
    np.savez(tmp_path / "data.npz", x=x, y=y, **parameters)
    subprocess.run([sys.executable, "-P", "-c", STRANGER], cwd=tmp_path, check=True, timeout=120)
    with np.load(tmp_path / "result.npz") as found:
        for got, want in zip(found.values(), ad.trees.leaves(g(parameters, x, y)), strict=True):
            assert_exact(got, np.asarray(want))


def test_parameters_of_a_module_are_saved_with_their_values(tmp_path: Path) -> None:
    layer = nn.Linear(3, 2)
    again = saved(graph.capture(lambda x: layer(x), S((1, 3), "float32")), tmp_path / "g")
    x = np.ones((1, 3), "float32")
    before = layer(x).data.copy()
    layer.weight.data[...] = 0.0
    assert_close(again(x), before, 1e-6, 1e-6)


def test_what_a_session_runs(tmp_path: Path) -> None:
    with graph.Graph() as g:
        x = graph.placeholder((None,), "float64", name="x")
        w = graph.variable(np.asarray(2.0), name="w")
        y = (x * w).sum()
    with pytest.raises(UnsupportedError, match=r"save: .* Ask for some: session\.program\(fetches\)\.save"):
        g.save(tmp_path / "g")
    again = saved(graph.Session(g).program([y]), tmp_path / "g")
    assert again(np.ones(3), np.asarray(2.0))[0] == 6


def test_the_file_is_safetensors_without_code(tmp_path: Path) -> None:
    w = np.arange(6.0).reshape(3, 2)
    graph.capture(lambda x: x @ w, S((2, 3), "float64")).save(tmp_path / "g.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "g.safetensors")
    assert_exact(next(iter(arrays.values())), w)
    text = json.loads(tensorfiles.read_metadata(tmp_path / "g.safetensors")["agnostic_ad.graph"])
    assert text["version"] == VERSION == 1 and text["graph"]["nodes"][0]["op"] == "matmul"
    assert text["graph"]["nodes"][0]["where"].startswith("test_saving.py:")


def test_a_dtype_that_a_library_lacks(tmp_path: Path) -> None:
    import array_api_strict
    import torch

    x = torch.ones(3, dtype=torch.bfloat16)
    g = graph.capture(lambda x: x * x + torch.full((3,), 0.5, dtype=torch.bfloat16), x)
    assert torch.equal(saved(g, tmp_path / "g")(x), x * 1.5)
    with pytest.raises(FileError, match="it computes in bfloat16, which array_api_strict does not have; read it for another library"):
        graph.load(tmp_path / "g", xp=array_api_strict)


# --- what is refused ----------------------------------------------------------------------------------------------------------------------
def test_named_tuples_come_back_by_their_names(tmp_path: Path) -> None:
    again = saved(graph.capture(lambda x: Pair(x, x * 2), X), tmp_path / "g")
    found = again(X)
    assert type(found).__name__ == "Pair" and found._fields == ("a", "b")
    assert_exact(found.b, X * 2)


def test_structures_that_json_cannot_say(tmp_path: Path) -> None:
    class Box:
        def __init__(self, x: Any) -> None:
            self.x = x

    ad.trees.register(Box, lambda b: ((b.x,), None), lambda _, children: Box(*children))
    g = graph.capture(lambda x: Box(x), X)
    with pytest.raises(UnsupportedError, match="save: an argument or result is a Box; files keep tuples, lists, dicts"):
        g.save(tmp_path / "g")


def test_parameters_that_json_cannot_say(tmp_path: Path) -> None:
    g = graph.capture(lambda x: x.reshape(6), X)
    node = g.nodes[0]
    strange = g.rebuild([node.replaced(params={**node.params, "shape": {1, 2}})])
    with pytest.raises(
        UnsupportedError, match=r"save: the parameter 'shape' of reshape \(test_saving.py:\d+\) is a set, which a file without code"
    ):
        strange.save(tmp_path / "g")
    assert not (tmp_path / "g").exists()


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    graph.capture(lambda x: x * 2 + X, X).save(path)
    text = json.loads(tensorfiles.read_metadata(path)["agnostic_ad.graph"])
    change(text)
    tensorfiles.write(
        path, [("c1", "float64", X.astype("<f8")), ("c0", "float64", X[0, 0].reshape(()))], {"agnostic_ad.graph": json.dumps(text)}
    )
    return path


def newer(text: dict[str, Any]) -> None:
    text["version"] = 2


def unknown(text: dict[str, Any]) -> None:
    text["graph"]["nodes"][0]["op"] = "nn.teleport"


def elsewhere(text: dict[str, Any]) -> None:
    text["library"] = "os"


def broken(text: dict[str, Any]) -> None:
    text["graph"]["nodes"][0]["inputs"] = [{"node": [99, 0]}]


def code(text: dict[str, Any]) -> None:
    text["graph"]["nodes"][0]["params"] = {"x": {"__import__": "os"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            newer,
            r"g cannot be read as a graph: it has version 2, written by agnostic_ad .*; here versions up to 1 are read. Update agnostic_ad.",
        ),
        (unknown, r"g cannot be read as a graph: it calls 'nn.teleport', an operation that is unknown here."),
        (elsewhere, r"g cannot be read as a graph: it was captured for os, which is not here. Say what it should run on, with xp=numpy"),
        (broken, r"g cannot be read as a graph: something takes what nothing before it gives"),
        (code, r"g is damaged: its description of a graph makes no sense \(KeyError"),
    ],
)
def test_files_that_are_refused(change: Callable[..., None], words: str, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "g", change)
    with pytest.raises(FileError, match=words):
        graph.load(path)


@pytest.mark.parametrize("kept", [0, 4, 40, -8])
def test_truncated(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "g"
    graph.capture(lambda x: x * 2 + X, X).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FileError, match="g is no safetensors file, or is damaged: "):
        graph.load(path)


def test_arrays_are_no_graph(tmp_path: Path) -> None:
    nn.save_file({"w": X}, tmp_path / "w")
    with pytest.raises(FileError, match=r"w is a safetensors file, but holds no graph\. nn\.load_file reads arrays\."):
        graph.load(tmp_path / "w")


def edited(path: Any, edit: Any) -> None:
    """Write a file of a graph again, with another description of it."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    text = json.loads(header["__metadata__"]["agnostic_ad.graph"])
    edit(text["graph"])
    header["__metadata__"]["agnostic_ad.graph"] = json.dumps(text)
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + raw[end:])


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda g: g["nodes"][0].pop("op"), "a node has no operation"),
        (lambda g: g["nodes"][0].update(outputs=[]), "has no results"),
        (lambda g: g["nodes"][0].update(inputs=["x"]), "takes what is no array and no number"),
        (lambda g: g["nodes"][0]["inputs"][0].update(node=[5, 0]), "takes what nothing before it gives"),
        (lambda g: g["nodes"][0]["inputs"][0].update(node=[-1, 0]), "takes what nothing before it gives"),
        (lambda g: g["nodes"][0]["inputs"][0].update(node=[0, 1]), "takes what nothing before it gives"),
        (lambda g: g["outputs"][0].update(node=[0, -1]), "takes what nothing before it gives"),
        (lambda g: g.pop("nodes"), "is damaged: its description of a graph makes no sense"),
    ],
)
def test_descriptions_that_make_no_sense(edit: Any, text: str, tmp_path: Any) -> None:
    path = tmp_path / "g.graph"
    graph.capture(lambda x: (x * x).sum(), graph.ShapeDtype((3,), "float64")).save(path)
    edited(path, edit)
    with pytest.raises(FileError, match=text) as error:
        graph.load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
