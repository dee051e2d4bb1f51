"""Programs: they give, bit for bit, what the operations give one by one; they read like Python; they share memory and never the caller's."""

from __future__ import annotations

import ctypes
import importlib.util
import linecache
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, trees
from agnostic_ad.graph import fusion, memory
from agnostic_ad.graph.executors import numpy as executor
from agnostic_ad.graph.executors.blocks import layout, split
from agnostic_ad.graph.executors.numpy import NumpyWriter
from agnostic_ad.graph.fusion import fuse
from agnostic_ad.graph.ir import Graph

RNG = np.random.default_rng(0)


def gelu(x: Any) -> Any:
    return 0.5 * x * (1 + ad.namespace(x).tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def normalized(x: Any, w: Any, b: Any) -> Any:
    xp = ad.namespace(x)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    return centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * w + b


def channels(x: Any, m: Any, s: Any) -> Any:
    return (x - m) * s + ad.namespace(x).exp(-x * x)


def choices(x: Any, y: Any) -> Any:
    xp = ad.namespace(x)
    return xp.where((x > y) & ~xp.isnan(x), xp.astype(x > 0, x.dtype) * y, xp.maximum(x, y)), xp.clip(x * 2, -1.0, 1.0) - xp.round(y)


def network(p: Any, x: Any) -> Any:
    from agnostic_ad.nn import functional as F

    h = F.gelu(F.linear(x, p["w1"], p["b1"])) + F.silu(x @ p["w1"].T) * F.relu(x @ p["w1"].T)
    return (F.linear(h, p["w2"]) ** 2).mean()


def array(*shape: int, dtype: str = "float64") -> Any:
    return RNG.normal(size=shape).astype(dtype)


PARAMETERS = {"w1": array(96, 80), "b1": array(96), "w2": array(5, 96)}
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "chain": (gelu, (array(70_001),)),
    "chain in float32": (gelu, (array(70_001, dtype="float32"),)),
    "chain in complex128": (lambda z: ad.namespace(z).exp(z * 2 + 1) + z, (array(5_000) + 1j * array(5_000),)),
    "integers": (lambda n: (n * 3 + 1) // 2 - n, (np.arange(9_000, dtype="int32"),)),
    "rows": (normalized, (array(301, 257), array(257), array(257))),
    "channels": (channels, (array(6, 7, 5_001), array(7, 1), array(1, 7, 1))),
    "one long row": (lambda x, s: x * s + s, (array(2, 40_000), array(2, 1))),
    "not contiguous": (gelu, (array(150, 80).T,)),
    "reversed": (gelu, (array(9_000)[::-1],)),
    "choices": (choices, (array(6_000), array(6_000))),
    "constants with axes": (lambda x: (x * np.arange(7.0) + 1) / np.ones((700, 1)) - x, (array(700, 7),)),
    "mixed dtypes": (lambda x, y: x * y + x, (array(5_000, dtype="float32"), array(5_000))),
    "gradient of a chain": (ad.grad(lambda x: gelu(x).sum()), (array(9_000),)),
    "gradient of rows": (ad.grad(lambda x, w, b: (normalized(x, w, b) ** 2).sum(), (0, 1, 2)), (array(90, 65), array(65), array(65))),
    "training": (ad.value_and_grad(network), (PARAMETERS, array(300, 80))),
    "of no size that matters": (gelu, (array(3),)),
    "0-d": (lambda x: (x * x + 1, ad.namespace(x).exp(x) / 3), (np.asarray(2.0),)),
    "empty": (gelu, (array(0, 3),)),
    "slices and joins": (
        lambda x: ad.namespace(x).concat([x[:, :40] * 2, ad.namespace(x).exp(x[:, 40:]) + 1], axis=1) * x,
        (array(100, 80),),
    ),
}


def one_by_one(g: Graph, args: Any) -> list[Any]:
    return g.run(trees.leaves(args))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_programs_give_what_the_operations_give(name: str) -> None:
    fn, args = FUNCTIONS[name]
    g = graph.capture(fn, *args)
    for made in (g, fuse(g), g.optimize()):
        for _ in range(2):  # memory of the first call is there for the second
            for found, expected in zip(trees.leaves(made(*args)), one_by_one(made, args), strict=True):
                assert type(found) is np.ndarray
                if found.dtype.kind == "c":  # NumPy rounds products at the ends of arrays otherwise than within
                    assert_close(found, expected, 1e-15, 1e-15)
                else:
                    assert_exact(found, expected)


@pytest.mark.parametrize("name", ["chain", "rows", "channels", "one long row", "choices", "training"])
def test_blocks_of_every_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fn, args = FUNCTIONS[name]
    for size in (1 << 12, 1000, 1 << 20):
        monkeypatch.setattr(executor, "BLOCK", size)
        g = graph.capture(fn, *args).optimize()
        for found, expected in zip(trees.leaves(g(*args)), one_by_one(g, args), strict=True):
            assert_exact(found, expected)


def test_layouts() -> None:
    assert layout((4, 5, 6), [(4, 5, 6), (4, 5, 6)]) == ((120,), [(True,), (True,)])
    assert layout((4, 5, 6), [(4, 5, 6), (5, 1)]) == ((4, 5, 6), [(True, True, True), (False, True, False)])
    assert layout((4, 1, 6), [(4, 1, 6), ()]) == ((24,), [(True,), (False,)])
    assert layout((4, 5), [(4, 1), (5,)]) == ((4, 5), [(True, False), (False, True)])
    assert split((7, 100, 10), 50) == (1, 5)
    assert split((7, 100), 1000) == (0, 7)
    assert split((3,), 1) == (0, 1)


# --- fusion -------------------------------------------------------------------------------------------------------------------------
def kinds(g: Graph) -> list[str]:
    return [node.op.name for node in g.nodes]


def test_a_chain_is_one_group() -> None:
    g = fuse(graph.capture(gelu, array(5_000)))
    assert kinds(g) == ["fused"]
    assert [n.op.name for n in g.nodes[0].graphs()[0].nodes].count("multiply") == 6
    assert g.nodes[0].where is not None and g.nodes[0].where.startswith("test_executors.py:")


def test_small_arrays_are_left_alone() -> None:
    assert "fused" not in kinds(fuse(graph.capture(gelu, array(100))))


def test_graphs_with_groups_are_optimised_again() -> None:
    x = array(5_000)
    g = graph.capture(ad.grad(lambda x: gelu(x).sum()), x).optimize()
    again = g.optimize()
    assert kinds(again).count("fused") == kinds(g).count("fused")
    assert_exact(again(x), g(x))


def test_what_lies_between_keeps_groups_apart() -> None:
    def f(x: Any) -> Any:
        y = x * 2 + 1
        return y / ad.namespace(y).sum(y) * y

    g = fuse(graph.capture(f, array(5_000)))
    assert kinds(g) == ["fused", "sum", "fused"]
    assert_exact(g(array(5_000) * 0 + 1), np.full(5_000, 3 / 15_000 * 3))


def test_groups_do_not_wait_for_each_other() -> None:
    def f(x: Any, y: Any) -> Any:  # two shapes, each of which needs something of the other
        a, b = x * 2 + 1, y * 3 + 1
        c, d = a * b.sum(), b * a.sum()
        return (a + c) * c, (b + d) * d

    args = array(5_000), array(5_001)
    g = fuse(graph.capture(f, *args))
    for found, expected in zip(g(*args), graph.capture(f, *args).run(list(args)), strict=True):
        assert_exact(found, expected)


@pytest.mark.parametrize("seed", range(20))
def test_graphs_of_every_form(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "SMALLEST", 1)
    draw = random.Random(seed)

    def f(x: Any, y: Any) -> Any:
        values, xp = [x, y], ad.namespace(x)
        for _ in range(draw.randrange(5, 40)):
            kind, a, b = draw.random(), draw.choice(values[-8:]), draw.choice(values)
            if kind < 0.35 and a.shape == b.shape:
                values.append(a * b + 1)
            elif kind < 0.7:
                values.append(xp.sin(a) * 0.5)
            else:
                values.append(a * xp.sum(b) if kind < 0.9 else xp.flip(a, axis=0))
        return values[-1], values[-2], draw.choice(values) * 1

    args = array(3), array(4)
    g = graph.capture(f, *args)
    for made in (fuse(g), g.optimize()):
        for found, expected in zip(made(*args), g.run(list(args)), strict=True):
            assert_exact(found, expected)


def test_fused_graphs_are_differentiated_batched_and_captured_again() -> None:
    x = array(5_000)
    g = graph.capture(gelu, x).optimize()
    plain = ad.grad(lambda x: gelu(x).sum())(x)
    assert_close(ad.grad(lambda x: g(x).sum())(x), plain, 1e-14, 1e-14)
    assert_close(ad.vmap(g)(np.stack([x, x + 1]))[1], gelu(x + 1), 1e-14, 1e-14)
    again = graph.capture(ad.grad(lambda x: g(x).sum()), x)
    assert "fused" not in kinds(again)
    assert_close(again(x), plain, 1e-14, 1e-14)


def chunks(x: Any) -> Any:
    xp = ad.namespace(x)
    return (xp.exp(x[:, 30:]) * 2).sum() + (x[:, :10] ** 2).sum() - (x[:, 10:30] ** 3).sum()


def test_slices_are_joined() -> None:
    x = array(20, 40)
    x[0, 11] = np.nan
    g = graph.capture(ad.grad(chunks), x)
    made = g.optimize()
    assert kinds(g).count("scatter") == 3 and "scatter" not in kinds(made) and "concat" in kinds(made)
    assert_exact(made(x), g.run([x])[0])
    zeros = np.full_like(x, -0.0)
    assert_exact(np.signbit(made(zeros)), np.signbit(g.run([zeros])[0]))


@pytest.mark.parametrize("cut", [np.s_[:, 30:], np.s_[5:, :], np.s_[:, 29:], np.s_[:, 30::2], np.s_[:, 31:]])
def test_slices_that_are_no_whole_are_added(cut: Any) -> None:
    x = array(20, 40)
    g = graph.capture(ad.grad(lambda x: (x[cut] ** 2).sum() + (x[:, :30] ** 3).sum()), x)
    made = g.optimize()
    assert ("concat" in kinds(made)) == (cut == np.s_[:, 30:])
    assert_exact(made(x), g.run([x])[0])


def test_draws_are_not_in_groups() -> None:
    from agnostic_ad.nn import functional as F

    x = array(5_000)
    g = graph.capture(lambda x: F.dropout(x * 2, 0.5) + 1, x).optimize()
    assert all(node.op.name not in ("nn.keep", "nn.noise") for n in g.nodes for inner in n.graphs() for node in inner.nodes)
    ad.manual_seed(0)
    first, second = g(x), g(x)
    ad.manual_seed(0)
    assert_exact(first, F.dropout(x * 2, 0.5) + 1)
    assert not np.array_equal(first, second)


# --- memory -------------------------------------------------------------------------------------------------------------------------
def layers(x: Any) -> Any:
    xp = ad.namespace(x)
    for _ in range(6):
        x = xp.tanh(x @ x.T) @ x / 100
    return x


def test_values_share_memory() -> None:
    x = array(128, 128)
    g = graph.capture(layers, x).optimize()
    plan = NumpyWriter(g).plan
    assert len(plan.rooms) > 10 and plan.size <= 0.4 * plan.unplanned
    assert_exact(g(x), one_by_one(g, (x,))[0])
    assert "share" in g.source()


def test_planning_is_a_pass() -> None:
    x = array(128, 128)
    g = graph.capture(layers, x)
    passes = [name for name in graph.PASSES if name != "memory"]
    assert "share" not in g.source() and "share" not in g.optimize(passes).source() and "share" in g.optimize(["memory"]).source()
    assert_exact(g(x), g.optimize(["memory"])(x))


def test_no_two_values_that_are_needed_lie_in_one_place() -> None:
    x = array(128, 128)
    g = graph.capture(ad.grad(lambda x: layers(x).sum()), x).optimize()
    rooms = NumpyWriter(g).plan.rooms
    last = {place: max([i for i, n in enumerate(g.nodes) if place in n.places()], default=-1) for place in rooms}
    made = {place: g.nodes.index(place.node) for place in rooms}
    for a in rooms:
        for b in rooms:
            overlap = rooms[a].offset < rooms[b].offset + memory.nbytes(b) and rooms[b].offset < rooms[a].offset + memory.nbytes(a)
            if a != b and overlap:
                assert last[a] <= made[b] or last[b] <= made[a], (a, b)


def test_results_are_the_callers_own() -> None:
    x = array(128, 128)
    g = graph.capture(lambda x: (layers(x), layers(x).T, (x * 2 + 1)[3:], x @ x), x).optimize()
    first = g(x)
    kept = [np.array(y) for y in first]
    second = g(x + 1)
    for a, b, c in zip(first, kept, second, strict=True):
        assert_exact(a, b)
        assert not np.shares_memory(a, c) and not np.shares_memory(a, x)
    first[0][...] = 0
    assert_exact(g(x)[0], kept[0])


def test_constants_that_are_given_are_copies() -> None:
    constant = np.arange(3.0)
    g = graph.capture(
        lambda x: (constant, x, ad.namespace(x).reshape(x * 0 + 1, (2, 1)), ad.Variable(constant).reshape(3, 1).data), array(2)
    )
    for _ in range(2):
        given = g(array(2))
        assert_exact(given[0], np.arange(3.0))
        assert_exact(given[3][:, 0], np.arange(3.0))
        given[0][...] = given[3][...] = 7


def test_a_view_of_what_is_written_over() -> None:
    def f(x: Any) -> Any:
        y = x @ x
        t = y.T
        z = y + t  # y ends here, and so does its transpose: the sum cannot lie on it in blocks
        return (z * 2 + t.sum()) @ x

    x = array(96, 96)
    g = graph.capture(f, x).optimize()
    assert_exact(g(x), one_by_one(g, (x,))[0])


@pytest.mark.parametrize("fn", [layers, lambda x: gelu(x) + x.T], ids=["layers", "chain"])
def test_threads_have_memory_of_their_own(fn: Callable[[Any], Any]) -> None:
    inputs = [array(128, 128) for _ in range(4)]
    g = graph.capture(fn, inputs[0]).optimize()
    expected = [one_by_one(g, (x,))[0] for x in inputs]
    faults: list[int] = []

    def work(k: int) -> None:
        faults.extend(k for _ in range(30) if not np.array_equal(g(inputs[k]), expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert faults == []


def test_an_error_leaves_the_program_usable() -> None:
    x = array(100, 100)
    g = graph.capture(lambda x: ad.namespace(x).linalg.cholesky(x @ x.T * 2 + 1) * 2 + x, x).optimize()
    with pytest.raises(np.linalg.LinAlgError):
        g(x * 0)
    assert_exact(g(x), one_by_one(g, (x,))[0])


# --- text ---------------------------------------------------------------------------------------------------------------------------
def test_source_reads_like_python() -> None:
    g = graph.capture(lambda x: ad.namespace(x).sin(x) * 2 + x[1], array(3))
    text = g.source()
    for part in ("# capture(<lambda>) on numpy", "def program(in0):", " = sin(in0)  # float64[3]", " = in0[1]  #", " * c", "del "):
        assert part in text, text
    assert "test_executors.py" in text
    compile(text, "program", "exec")
    text = graph.capture(lambda x: x + 1, graph.ShapeDtype((None, 3), "float32")).source()
    assert ", for n0 = " in text.splitlines()[0] and "other sizes have programs of their own" in text.splitlines()[0]


def test_a_traceback_shows_the_programs_line() -> None:
    g = graph.capture(lambda x: ad.namespace(x).linalg.cholesky(x) + 1, array(2, 2))
    with pytest.raises(np.linalg.LinAlgError) as caught:
        g(-np.eye(2))
    frames = [entry for entry in caught.traceback if entry.frame.code.raw.co_name == "program"]
    (frame,) = frames
    assert "linalg_cholesky(in0" in linecache.getline(frame.frame.code.raw.co_filename, frame.lineno + 1)


def test_names_that_python_has() -> None:
    g = graph.capture(lambda x: x + 1, array(2))
    for name in ("class", "range", "x:0", "2nd", "program", "add"):
        inputs = [node.replaced(name=name) for node in g.inputs]
        (add,) = g.nodes
        nodes = [add.replaced(inputs=(graph.ir.Output(inputs[0], 0), add.inputs[1]))]
        named = g.rebuild(nodes, [graph.ir.Output(nodes[0], 0)], inputs=inputs)
        assert_exact(named(np.zeros(2)), np.ones(2))


def test_sizes_of_any_value() -> None:
    g = graph.capture(normalized, graph.ShapeDtype((None, 65), "float64"), *(graph.ShapeDtype((65,), "float64"),) * 2).optimize()
    for n in (1, 70, 300):
        args = array(n, 65), array(65), array(65)
        assert_exact(g(*args), one_by_one(g, args)[0])
    assert "def program" in g.source()


def test_a_graph_keeps_some_programs() -> None:
    g = graph.capture(lambda x: x * 2, graph.ShapeDtype((None,), "float64"))
    for n in range(1, 40):
        assert_exact(g(np.ones(n)), np.full(n, 2.0))
    assert len(g.programs) <= 17


def test_variables_among_the_constants() -> None:
    w = ad.Variable(np.ones(3))
    g = graph.capture(lambda x: (w * x).sum(), array(3))
    g(np.ones(3)).backward()
    assert_exact(w.grad, np.ones(3))
    with pytest.raises(
        ad.errors.UnsupportedError,
        match=r"capture\(<lambda>\) has no program of its own: it holds arrays of a transformation, or Variables",
    ):
        g.source()


# --- other libraries ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", support.params(without=("numpy", "dask")))
def test_programs_on_every_library(backend: support.Backend) -> None:
    x, m = backend.asarray(array(70, 70)), backend.asarray(array(70, 1))
    for fn, args in ((gelu, (x,)), (channels, (x, m, m)), (ad.grad(lambda x: layers(x).sum()), (x,)), (ad.vmap(gelu), (x,))):
        g = graph.capture(fn, *args).optimize()
        got, want = g(*args), fn(*args)
        assert type(got) is type(want) and "def program" in g.source()
        assert_close(backend.numpy(got), backend.numpy(want), 1e-12, 1e-12)


# --- compiled groups --------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def numba() -> Iterator[None]:
    if importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    ad.use_numba()
    yield
    ad.use_numba(False)


# Exponentials of the compiled code are good to 1.6 units in the last place, and products that are added to are rounded once less; sums of such
# numbers are taken in the same order.
ROUNDINGS = {"float32": 4e-6, "float64": 1e-14}


@pytest.mark.parametrize(
    "name",
    [
        "chain",
        "chain in float32",
        "rows",
        "channels",
        "not contiguous",
        "reversed",
        "choices",
        "constants with axes",
        "gradient of a chain",
        "training",
    ],
)
def test_compiled_groups(name: str, numba: None) -> None:
    fn, args = FUNCTIONS[name]
    g = graph.capture(fn, *args).optimize()
    assert "compiled" in g.source()
    for found, expected in zip(trees.leaves(g(*args)), one_by_one(g, args), strict=True):
        tolerance = ROUNDINGS[str(found.dtype)]
        assert_close(found, expected, tolerance, tolerance)


def test_compiled_groups_keep_what_is_not_finite(numba: None) -> None:
    special = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 88.8, -104.0, 1e38], "float32")
    x = np.resize(special, 5_000)

    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        return [
            xp.exp(x) * 1,
            xp.log(x) * 1,
            xp.tanh(x) * 1,
            xp.sqrt(x) * 1,
            xp.maximum(x, -x) * 1,
            1 / x * 1,
            xp.sign(x) * 1,
            xp.abs(x) * 1,
        ]

    g = graph.capture(f, x).optimize()
    assert "compiled" in g.source()
    with np.errstate(all="ignore"):
        for found, expected in zip(g(x), one_by_one(g, (x,)), strict=True):
            assert_exact(np.isnan(found), np.isnan(expected))
            assert_exact(np.isinf(found), np.isinf(expected))
            assert_exact(np.signbit(found[found == 0]), np.signbit(expected[found == 0]))
            assert_close(found[np.isfinite(found)], expected[np.isfinite(found)], 1e-6, 1e-45)


@pytest.mark.parametrize(("dtype", "keepdims"), [("float32", False), ("float64", True)])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 1), (1, 2), (0, 2)])
def test_sums_are_taken_with_the_group(axis: Any, keepdims: bool, dtype: str, numba: None) -> None:
    x, w = array(6, 50, 40, dtype=dtype), array(50, 1, dtype=dtype)
    g = graph.capture(lambda x, w: (x * w + 1).sum(axis=axis, keepdims=keepdims) * 2, x, w).optimize()
    assert "+= " in g.source() and "sum(" not in g.source()
    found, expected = g(x, w), one_by_one(g, (x, w))[0]
    assert found.dtype == dtype
    assert_close(found, expected, 30 * np.finfo(dtype).eps, 300 * np.finfo(dtype).eps)  # another order


def test_long_sums_are_accurate(numba: None) -> None:
    x = RNG.random(3_000_001).astype("float32")
    g = graph.capture(lambda x: (x * 2 + 1).sum(), x).optimize()
    assert "add_up" in g.source()
    assert_close(g(x), (x.astype("float64") * 2 + 1).sum(), 2e-7, 0)


def test_what_has_no_code_goes_in_blocks(numba: None) -> None:
    x = array(5_000)
    g = graph.capture(lambda x: ad.namespace(x).sin(x) * 2 + 1, x).optimize()
    assert "compiled" not in g.source() and "def group" in g.source()
    assert_exact(g(x), one_by_one(g, (x,))[0])


def test_turning_numba_off_makes_another_program(numba: None) -> None:
    x = array(5_000)
    g = graph.capture(gelu, x).optimize()
    g(x)
    assert "compiled" in g.source()
    ad.use_numba(False)
    assert_exact(g(x), one_by_one(g, (x,))[0])
    assert "compiled" not in g.source()


# --- arrays that are given away ---------------------------------------------------------------------------------------------------------------
def update(p: Any, m: Any, g: Any) -> Any:
    m = 0.9 * m + 0.1 * g
    return p - 0.01 * m / (ad.namespace(m).sqrt(m * m) + 1), m


@pytest.fixture(params=["numpy", "numba"])
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "numba":
        request.getfixturevalue("numba")
    yield request.param


def test_results_go_over_what_is_given_away(either: str) -> None:
    arrays = [array(60, 100) for _ in range(3)]
    expected = graph.capture(update, *arrays).optimize()(*arrays)
    g = graph.capture(update, *arrays, donate_argnums=(0, 1)).optimize()
    p, m, gradient = (x.copy() for x in arrays)
    found = g(p, m, gradient)
    assert found[0] is p and found[1] is m
    for x, y in zip((*found, gradient), (*expected, arrays[2]), strict=True):
        assert_exact(x, y)
    again = ad.compile(update, donate_argnums=[0, 1])
    q, n = arrays[0].copy(), arrays[1].copy()
    assert again(q, n, gradient)[0] is q and n is not again(q, n.copy(), gradient)[1]
    assert_exact(n, expected[1])


def test_what_shares_memory_is_not_written_over(either: str) -> None:
    arrays = [array(60, 100) for _ in range(3)]
    g = graph.capture(update, *arrays, donate_argnums=(0, 1)).optimize()
    plain = graph.capture(update, *arrays).optimize()

    def check(kept: list[Any], p: Any, m: Any, gradient: Any) -> None:
        before, expected = [x.copy() for x in kept], plain(p.copy(), m.copy(), gradient.copy())
        for x, y in zip((*g(p, m, gradient), *kept), (*expected, *before), strict=True):
            assert_exact(x, y)

    same, both = arrays[0], np.concatenate(arrays[:2])
    twice = same.copy()
    check([], twice, twice, arrays[2])  # one array for two arguments
    check([same], same, arrays[1], same)  # it is read, too
    check([same], same, arrays[1], same[:])  # by a view
    check([both], both[:60], both[60:], arrays[2])  # parts of one array
    check([], np.asfortranarray(arrays[0]), arrays[1].copy(), arrays[2])  # in another order
    fixed = arrays[0].copy()
    fixed.flags.writeable = False
    check([fixed], fixed, arrays[1].copy(), arrays[2])


def test_what_is_returned_or_needed_later_is_not_written_over(either: str) -> None:
    x, w = array(60, 100), array(100, 60)

    def f(x: Any, w: Any) -> Any:
        y = ad.namespace(x).abs(x) * 2 + 1
        return y, (y @ w) @ x, w.T

    g = graph.capture(f, x, w, donate_argnums=(0, 1)).optimize()
    expected, before = f(x, w), (x.copy(), w.copy())
    for found, want in zip((*g(x, w), x, w), (*expected, *before), strict=True):
        assert_close(found, want, 1e-15, 0)


def test_constants_are_not_given_away(either: str) -> None:
    x = array(60, 100)
    g = graph.capture(lambda y: y * 2 + x, x, donate_argnums=0).optimize()
    before = x.copy()
    assert_exact(g(x), before * 2 + before)
    assert_exact(x, before)


def test_jax_takes_what_is_given_away() -> None:
    jax = pytest.importorskip("jax")
    arrays = [array(60, 100, dtype="float32") for _ in range(3)]
    expected = update(*arrays)
    g = graph.capture(update, *map(jax.numpy.asarray, arrays), donate_argnums=(0, 1, 2)).optimize()  # three of that shape, and two results
    for _ in range(3):
        there = [jax.numpy.array(x) for x in arrays]
        for x, y in zip(g(*there), expected, strict=True):
            assert_close(np.asarray(x), y, 1e-6, 1e-6)
    assert there[0].is_deleted() and there[1].is_deleted() and not there[2].is_deleted()


def test_arguments_to_give_away_are_named_by_number() -> None:
    x = array(3)
    with pytest.raises(ValueError, match=r"donate_argnums names argument 2; there are 2"):
        graph.capture(lambda x, y: x + y, x, x, donate_argnums=2)
    with pytest.raises(ValueError, match="donate_argnums counts from 0, not -1"):
        ad.compile(lambda x: x, donate_argnums=-1)
    with pytest.raises(ValueError, match=r"compile\(<lambda>\): donate_argnums names argument 1; the call has 1"):
        ad.compile(lambda x: x * 2, donate_argnums=1)(x)


# --- kernels for a GPU, compiled for the CPU ------------------------------------------------------------------------------------------------
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("name", ["chain", "chain in float32", "channels", "choices"])
def test_the_c_of_kernels(name: str, tmp_path: Path) -> None:
    from agnostic_ad.graph.executors.cupy import elementwise_text

    fn, args = FUNCTIONS[name]
    g = graph.capture(fn, *args).optimize()
    values: dict[Any, Any] = {graph.ir.Output(node, 0): x for node, x in zip(g.inputs, args, strict=True)}
    for number, node in enumerate(g.nodes):
        assert node.op.name == "fused"
        given, results, text, slots = elementwise_text(node.graphs()[0])
        kinds = {"float32": "float", "float64": "double", "bool": "bool"}
        ins, outs = ([p.split() for p in part.split(", ")] for part in (given, results))
        arrays = [np.ascontiguousarray(np.broadcast_to(a, node.outputs[0].shape)) for a in [*(values[x] for x in node.inputs), *slots]]
        parameters = [f"const {kinds[k]}* a{n}" for k, n in ins] + [f"{kinds[k]}* b{n}" for k, n in outs]
        body = (
            "".join(f"const {kinds[k]} {n} = a{n}[i]; " for k, n in ins) + "".join(f"{kinds[k]}& {n} = b{n}[i]; " for k, n in outs) + text
        )
        source = f'#include <cmath>\nusing namespace std;\nextern "C" void f(long n, {", ".join(parameters)}) {{ for (long i = 0; i < n; i++) {{ {body} }} }}'
        (tmp_path / "f.cpp").write_text(source)
        library = tmp_path / f"f{number}.so"
        subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "f.cpp")], check=True)
        found = [np.empty(o.shape, o.dtype) for o in node.outputs]
        ctypes.CDLL(str(library)).f(ctypes.c_long(found[0].size), *(ctypes.c_void_p(a.ctypes.data) for a in [*arrays, *found]))
        for i, (y, want) in enumerate(zip(found, node.op.run(tuple(values[x] for x in node.inputs), node.params), strict=True)):
            tolerance = ROUNDINGS[str(y.dtype)]
            assert_close(y, want, tolerance, tolerance)
            values[graph.ir.Output(node, i)] = y
