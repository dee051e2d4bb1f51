"""Define, then run: graph.Graph, placeholder, variable, assign, ad.gradients in a graph, and Session."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.errors import UnsupportedError

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(20, 4)).astype("float32")
LABELS = (DATA[:, 0] > 0).astype("int64") + (DATA[:, 1] > 0)


class Small(NamedTuple):
    g: Any
    x: Any
    w: Any
    loss: Any
    train: Any


@pytest.fixture
def small() -> Small:
    with graph.Graph() as g:
        x = graph.placeholder((), "float64", name="x")
        w = graph.variable(3.0, name="w")
        loss = (w - x) ** 2
        (dw,) = ad.gradients(loss, [w])
        train = graph.assign(w, w - 0.25 * dw)
    return Small(g, x, w, loss, train)


def names(s: Any, *fetches: Any) -> list[str]:
    """The operations that a Session would run."""
    return [n.op.name for n in s.program(list(fetches)).nodes]


# --- running ------------------------------------------------------------------------------------------------------------------------------
def test_values_have_names_shapes_and_lines(small: Small) -> None:
    assert (small.x.shape, small.x.dtype, small.x.name) == ((), np.float64, "x")
    assert repr(small.x).startswith("Traced(x: float64[], test_session.py:")
    assert repr(small.w).startswith("GraphVariable(w: float64[], test_session.py:")
    assert [n.name for n in small.g.inputs] == ["x", "w"] and small.g.nodes


def test_run_takes_and_gives_trees(small: Small) -> None:
    class Pair(NamedTuple):
        a: Any
        b: Any

    with graph.Session(small.g) as s:
        got = s.run({"l": [small.loss, None], "p": Pair(small.w, (small.x,))}, feed_dict={small.x: 1.0})
        assert got["l"] == [4.0, None] and isinstance(got["p"], Pair) and got["p"] == (3.0, (1.0,))
        assert type(got["l"][0]) is np.ndarray
        assert s.run(small.loss, {"x": 1.0}) == 4.0
        assert s.run([], {}) == []


def test_assignments_last(small: Small) -> None:
    with graph.Session(small.g) as s:
        assert s.run([small.loss, small.train], {small.x: 1.0}) == [4.0, 2.0]
        assert s.run(small.loss, {small.x: 1.0}) == 1.0
        assert s.state() == {"w": 2.0}
        s.load({"w": 5.0})
        assert s.run(small.w) == 5.0
        s.load({small.w: np.asarray(7.0)})
        assert s.run(small.w) == 7.0


def test_sessions_have_variables_of_their_own(small: Small) -> None:
    with graph.Session(small.g) as a, graph.Session(small.g) as b:
        a.run(small.train, {small.x: 1.0})
        assert (a.run(small.w), b.run(small.w)) == (2.0, 3.0)


def test_assignments_stand_in_the_order_of_the_program() -> None:
    with graph.Graph() as g:
        w = graph.variable(1.0, name="w")
        before = w * 10
        first = graph.assign(w, w + 1)
        between = w * 10
        second = graph.assign(w, w + 1)
        after = w * 10
    with graph.Session(g) as s:
        assert s.run([after, second, before, first, between]) == [30.0, 3.0, 10.0, 2.0, 20.0]
        assert s.run([before, between, after]) == [30.0, 30.0, 30.0]  # nothing is assigned
        assert s.run([before, second, between, after]) == [30.0, 4.0, 30.0, 40.0]  # of the two, only the second
        assert s.run(w) == 4.0


def test_what_needs_an_assignment_runs_it() -> None:
    with graph.Graph() as g:
        n = graph.variable(0, name="n")
        tenfold = graph.assign(n, n + 1) * 10
    with graph.Session(g) as s:
        assert [int(s.run(tenfold)) for _ in range(3)] == [10, 20, 30]
        assert s.run(n) == 3 and s.run(n).dtype == np.int64


def test_groups_give_none(small: Small) -> None:
    step = graph.group(small.train, [small.loss])
    with graph.Session(small.g) as s:
        assert s.run([small.loss, step], {small.x: 1.0}) == [4.0, None]
        assert s.run(small.w) == 2.0


def test_only_what_is_fetched_is_computed() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((3,), "float64", name="x")
        y = graph.placeholder((3,), "float64", name="y")
        xp = ad.namespace(x)
        v2, v3 = xp.exp(x), xp.sin(y)
        v4 = v2 * v3
    with graph.Session(g) as s:
        assert names(s, v2) == ["exp"] and names(s, v4) == ["exp", "sin", "multiply"]
        assert_exact(s.run(v2, {x: np.ones(3)}), np.exp(np.ones(3)))  # y is not needed, and not fed


def test_a_set_of_fetches_is_planned_once(small: Small) -> None:
    with graph.Session(small.g) as s:
        first = s.program([small.loss])
        assert s.program([small.loss]) is first
        assert s.program([small.loss, small.w]) is not first
        with small.g:
            more = small.loss + 1
        assert s.program([small.loss]) is first and s.run(more, {small.x: 1.0}) == 5.0


def test_sizes_of_any_value() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((None, 4), "float32", name="x")
        rows = graph.placeholder((None,), "float32", name="rows")
        mean = x.mean(axis=0)
        both = x.sum(axis=1) + rows
    with graph.Session(g) as s:
        for n in (1, 5, 20):
            assert_close(s.run(mean, {x: DATA[:n]}), DATA[:n].mean(axis=0), 1e-6, 1e-6)
            assert_close(s.run(both, {x: DATA[:n], rows: DATA[:n, 0]}), DATA[:n].sum(axis=1) + DATA[:n, 0], 1e-6, 1e-6)
        with pytest.raises(ValueError, match=r"x\.0 == rows\.0 \(test_session\.py:\d+\); here the two are 5 and 4"):
            s.run(both, {x: DATA[:5], rows: DATA[:4, 0]})


def test_a_size_that_became_a_number() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((None, 4), "float32", name="x")
        y = x.reshape(x.shape[0] * 4)
    with graph.Session(g) as s:
        assert s.run(y, {x: DATA}).shape == (80,)
    with graph.Graph():
        z = graph.placeholder((None, 4), "float32", name="z")
        xp = ad.namespace(z)
        for lost in (  # refused where they stand: nothing is run twice here that could be compared
            lambda: z.reshape(int(z.shape[0]) * 4),
            lambda: z + np.ones((z.shape[0], 1), dtype="float32"),
            lambda: z.sum() / float(z.shape[0]),
            lambda: z.sum() * (1.0 / z.shape[0]),
            lambda: z * math.sqrt(z.shape[0]),
            lambda: xp.asarray(z / int(z.shape[0] - 1)),
        ):
            with pytest.raises(
                UnsupportedError, match=r"\(test_session\.py:\d+\), which does not hold for axes of any size\. A size was turned"
            ):
                lost()
        assert [(z * c).dtype.name for c in (2, 0.1, 1e-4, 1 / 3, 1e6, 840, 0.02**0.5)] == ["float32"] * 7


def test_numbers_that_a_dtype_does_not_hold_are_refused() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((2,), "int8", name="x")
        y = x + 1
    with graph.Session(g) as s:
        assert s.run(y, {x: [-128, 126]}).tolist() == [-127, 127]
        with pytest.raises(TypeError, match=r"is fed \[1000, 2\], which int8 does not hold"):
            s.run(y, {x: [1000, 2]})


def test_any_value_may_be_fed() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((2,), "float64", name="x")
        y = ad.namespace(x).exp(x)
        z = y * 3 + x
        last = z - y
        (d,) = ad.gradients(last.sum(), y)
    ones = np.ones(2)
    with graph.Session(g) as s:
        assert s.run([z, y], {x: ones, y: ones * 2}) == [pytest.approx([7.0, 7.0]), pytest.approx([2.0, 2.0])]
        assert s.run([last, d], {z: ones, y: ones * 5})[0].tolist() == [-4.0, -4.0]  # x is not needed
        assert s.run(z, {x: ones}).tolist() == (np.e * 3 * ones + 1).tolist()
        with pytest.raises(ValueError, match=r"value v0 \(test_session\.py:\d+\) is fed an array of shape \(3,\)"):
            s.run(last, {z: ones, y: np.ones(3)})
        with pytest.raises(ValueError, match=r"placeholder x \(test_session\.py:\d+\) is not fed"):
            s.run(z, {y: ones})


def test_a_placeholder_that_is_changed_in_place_is_fed_all_the_same() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((3,), "float64", name="x")
        x[0] = 1.0
        y = x * 2
    with graph.Session(g) as s:
        for key in (x, "x"):
            assert s.run([x, y], {key: [5.0, 6.0, 7.0]})[1].tolist() == [2.0, 12.0, 14.0]


def test_results_stay_when_the_next_run_comes(small: Small) -> None:
    with graph.Graph() as g:
        x = graph.placeholder((3,), "float64", name="x")
        y = (x * 2 + 1) * x
    with graph.Session(g) as s:
        first = s.run(y, {x: np.ones(3)})
        s.run(y, {x: np.zeros(3)})
        assert first.tolist() == [3.0, 3.0, 3.0]


def test_lists_and_numbers_take_the_dtype(small: Small) -> None:
    with graph.Graph() as g:
        x = graph.placeholder((2,), "float32", name="x")
    with graph.Session(g) as s:
        assert s.run(x, {x: [1, 2.5]}).dtype == np.float32
        assert s.run(x, {x: ad.Variable(np.ones(2, "float32"))}).tolist() == [1.0, 1.0]


def test_results_and_initial_values_are_the_users_own() -> None:
    start = np.ones(2)
    with graph.Graph() as g:
        w = graph.variable(start, name="w")
        view = w[::-1].reshape(2, 1).T
        same = graph.cond(w[0] > 0, lambda: w, lambda: w * 2)
        new = graph.assign(w, w * 2)
    start[:] = 9
    with graph.Session(g) as s:
        first = s.run(w)
        first[:] = 5
        given = s.run(new)
        given[:] = 7
        s.state()["w"][:] = 8
        s.run(view)[:] = 4
        s.run(same)[:] = 3
        assert s.run(w).tolist() == [2.0, 2.0]


def test_control_flow_in_a_graph() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((), "float64", name="x")
        w = graph.variable(2.0, name="w")
        y = graph.cond(x > 0, lambda: w * x, lambda: w - x)
        z = graph.while_loop(lambda c: c < 100.0, lambda c: c * w, x + 1)
        total, _ = graph.scan(lambda c, _: (c * w + x, None), 0.0, length=3)
        dy, dz, dt = (ad.gradients(v, [w, x]) for v in (y, z, total))
    with graph.Session(g) as s:
        assert s.run([y, *dy], {x: 3.0}) == [6.0, 3.0, 2.0]
        assert s.run([y, *dy], {x: -3.0}) == [5.0, 1.0, -1.0]
        assert s.run([z, *dz], {x: 1.0}) == [128.0, 2 * 6 * 32.0, 64.0]
        assert s.run([total, *dt], {x: 1.0}) == [7.0, 1 + 2 * 2.0, 7.0]


# --- gradients ----------------------------------------------------------------------------------------------------------------------------
def test_gradients_of_intermediate_values_and_twice() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((3,), "float64", name="x")
        xp = ad.namespace(x)
        v = xp.exp(x)
        y = xp.sum(v * v * x)
        dv, dx = ad.gradients(y, [v, x])
        (ddx,) = ad.gradients(dx, [x], grad_outputs=[np.ones(3)])
        many = ad.gradients([y, xp.sum(v)], [x, x])
        two = ad.gradients(y * 2, [x, graph.placeholder((), name="other")], allow_unused=True)
        with pytest.raises(RuntimeError, match=r"do not depend on inputs \[1\]"):
            ad.gradients(y, [x, graph.placeholder((), name="unused")])
    p = np.asarray([0.3, -0.5, 1.0])
    f = lambda x: ad.namespace(x).sum(ad.namespace(x).exp(2 * x) * x)
    with graph.Session(g) as s:
        got = s.run({"dv": dv, "dx": dx, "ddx": ddx, "many": many, "two": two[0]}, {x: p})
    assert_close(got["dv"], 2 * np.exp(p) * p, 1e-14, 1e-14)  # the other way, by x itself, is not counted
    v = ad.Variable(p)
    e = v.exp()
    for name, d in zip(("dv", "dx"), ad.gradients((e * e * v).sum(), [e, v]), strict=True):  # as for Variables
        assert_close(got[name], d, 1e-13, 1e-13)
    assert_close(got["dx"], ad.grad(f)(p), 1e-13, 1e-13)
    assert_close(got["ddx"], ad.hessian(f)(p).sum(axis=0), 1e-13, 1e-13)
    for d in got["many"]:
        assert_close(d, ad.grad(f)(p) + np.exp(p), 1e-13, 1e-13)
    assert_close(got["two"], 2 * ad.grad(f)(p), 1e-13, 1e-13)
    assert two[1] is None


def test_gradients_compute_nothing_twice() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((3,), "float64", name="x")
        xp = ad.namespace(x)
        y = xp.sum(xp.tanh(xp.exp(x)))
        before = len(g.nodes)
        (dx,) = ad.gradients(y, x)
        made = [n.op.name for n in g.nodes[before:]]
    assert "exp" not in made and "tanh" not in made
    with graph.Session(g) as s:
        assert names(s, y, dx).count("exp") == 1


def test_gradients_of_loops_keep_the_draws_of_the_forward_pass() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((50,), "float64", name="x")
        y, _ = graph.scan(lambda c, _: (c + nn.functional.dropout(x, 0.5), None), x * 0, length=2)
        z = nn.functional.dropout(x, 0.5)
        (dy,), (dz,) = (ad.gradients(v.sum(), x) for v in (y, z))
    with graph.Session(g) as s:
        a, da, b, db = s.run([y, dy, z, dz], {x: np.ones(50)})
        assert_exact(a, da)
        assert_exact(b, db)
        assert not np.array_equal(a, s.run(y, {x: np.ones(50)}))


def test_several_uses_of_a_variable_count_together() -> None:
    with graph.Graph() as g:
        w = graph.variable(3.0, name="w")
        kept = graph.assign(w, w * 2)
        y = w * w
        (dw,) = ad.gradients(y, w)
    with graph.Session(g) as s:
        assert s.run([kept, y, dw]) == [6.0, 36.0, 12.0]


# --- modules, and every library ---------------------------------------------------------------------------------------------------------------
def classifier() -> tuple[Any, ...]:
    ad.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    with graph.Graph() as g:
        x = graph.placeholder((None, 4), "float32", name="x")
        t = graph.placeholder((None,), "int64", name="t")
        loss = nn.functional.cross_entropy(model(x), t)
        parameters = list(model.parameters())
        slopes = ad.gradients(loss, parameters)
        step = graph.group(*(graph.assign(p, p - 0.5 * d) for p, d in zip(parameters, slopes, strict=True)))
    return model, g, x, t, loss, slopes, step, parameters


@pytest.mark.parametrize("backend", support.params())
def test_training_a_module_on_every_library(backend: support.Backend) -> None:
    model, g, x, t, loss, slopes, step, parameters = classifier()
    data, labels = backend.asarray(DATA), backend.asarray(LABELS)
    with graph.Session(g, xp=backend.xp) as s:
        first, *found = s.run([loss, *slopes], {x: data, t: labels})
        assert type(first) is type(data) and str(first.dtype).endswith("float32")
        expected = nn.functional.cross_entropy(model(DATA), LABELS)
        expected.backward()
        assert_close(backend.numpy(first), expected.data, 1e-6, 1e-6)
        for d, p in zip(found, parameters, strict=True):
            assert_close(backend.numpy(d), p.grad, 1e-5, 1e-6)  # float32, summed in another order
        optimizer = nn.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(3):
            s.run(step, {"x": DATA, "t": LABELS})  # NumPy's arrays are moved
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(DATA), LABELS).backward()
            optimizer.step()
        for value, p in zip(s.run(parameters), parameters, strict=True):
            assert_close(backend.numpy(value), p.data, 1e-5, 1e-6)


def test_loops_on_every_library() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((3,), "float64", name="x")
        xp = ad.namespace(x)
        y = graph.while_loop(lambda c: xp.sum(c) < 50.0, lambda c: c * xp.asarray([2.0, 1.5, 1.0]) + x, x).sum()
        (d,) = ad.gradients(y, x)
    with graph.Session(g) as s:
        expected = s.run([y, d], {x: [1.0, 2.0, 3.0]})
    assert expected[0] > 50
    for backend in support.backends():
        with graph.Session(g, xp=backend.xp) as s:
            got = s.run([y, d], {x: [1.0, 2.0, 3.0]})
            assert_close(backend.numpy(got[0]), expected[0], 1e-14, 1e-14)
            assert_close(backend.numpy(got[1]), expected[1], 1e-14, 1e-14)


def test_devices() -> None:
    xp = pytest.importorskip("array_api_strict")
    _, g, x, t, loss, slopes, step, _ = classifier()
    with graph.Session(g, xp=xp, device="device1") as s:
        s.run(step, {x: DATA, t: LABELS})
        for value in s.run([loss, *slopes], {x: DATA, t: LABELS}):
            assert value.device == xp.Device("device1")


def test_training_with_momentum_and_adam() -> None:
    """Optimizers are assignments."""
    with graph.Graph() as g:
        w = graph.variable(np.asarray([3.0, -2.0]), name="w")
        m, v, n = graph.variable(np.zeros(2), name="m"), graph.variable(np.zeros(2), name="v"), graph.variable(0.0, name="n")
        loss = (w * w).sum()
        (d,) = ad.gradients(loss, w)
        count = graph.assign(n, n + 1)
        first = graph.assign(m, 0.9 * m + 0.1 * d)
        second = graph.assign(v, 0.999 * v + 0.001 * d * d)
        xp = ad.namespace(w)
        step = graph.assign(w, w - 0.1 * (first / (1 - 0.9**count)) / (xp.sqrt(second / (1 - 0.999**count)) + 1e-8))
    p = nn.Parameter(np.asarray([3.0, -2.0]))
    adam = nn.optim.Adam([p], lr=0.1)
    with graph.Session(g) as s:
        for _ in range(5):
            s.run(step)
            adam.zero_grad()
            (p * p).sum().backward()
            adam.step()
        assert_close(s.run(w), p.data, 1e-12, 1e-12)


def test_threads(small: Small) -> None:
    with graph.Graph() as g:
        x = graph.placeholder((None,), "float64", name="x")
        n = graph.variable(0, name="n")
        count, y = graph.assign(n, n + 1), (x * x).sum()
    wrong: list[Any] = []
    with graph.Session(g) as s:

        def work(i: int) -> None:
            for k in range(25):
                s.run(count)
                if s.run(y, {x: np.full(k + 1, float(i))}) != (k + 1) * i * i:
                    wrong.append((i, k))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and s.run(n) == 100


def test_graphs_outside_of_their_block() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((), "float64", name="x")
    y = x * 2  # goes where x is
    with g:
        z = graph.variable(1.0, name="z") + y
    with graph.Session(g) as s:
        assert s.run(z, {x: 2.0}) == 5.0


# --- errors -------------------------------------------------------------------------------------------------------------------------------------
def bad_runs() -> Iterator[tuple[str, type[Exception], str, Callable[[Any, Small, Any], Any]]]:
    here = r"\(test_session\.py:\d+\)"
    yield (
        "not fed",
        ValueError,
        rf"placeholder x {here} is not fed: give feed_dict=\{{x: array\}}, of shape \(\) and dtype float64\.",
        lambda s, m, o: s.run(m.loss),
    )
    yield (
        "fed twice",
        ValueError,
        rf"placeholder x {here} is fed twice, by name and by value\.",
        lambda s, m, o: s.run(m.loss, {m.x: 1.0, "x": 2.0}),
    )
    yield (
        "wrong shape",
        ValueError,
        rf"placeholder x {here} is fed an array of shape \(1,\) and dtype float64, expected shape \(\) and dtype float64\.",
        lambda s, m, o: s.run(m.loss, {m.x: np.ones(1)}),
    )
    yield (
        "wrong dtype",
        TypeError,
        rf"placeholder x {here} is fed an array of shape \(\) and dtype float32, expected shape \(\) and dtype float64\.",
        lambda s, m, o: s.run(m.loss, {m.x: np.asarray(1.0, "float32")}),
    )
    yield "wrong numbers", TypeError, rf"placeholder x {here} is fed complex128 numbers, expected", lambda s, m, o: s.run(m.loss, {m.x: 1j})
    yield "no array", TypeError, rf"placeholder x {here} is fed 'a' \(str\), which is no", lambda s, m, o: s.run(m.loss, {m.x: "a"})
    yield "nothing", TypeError, rf"placeholder x {here} is fed None \(NoneType\), which is no", lambda s, m, o: s.run(m.loss, {m.x: None})
    yield (
        "no matrix",
        ValueError,
        r"is fed lists of different lengths, \[\[1\], \[1, 2\]\],",
        lambda s, m, o: s.run(m.loss, {m.x: [[1], [1, 2]]}),
    )
    yield (
        "no dictionary",
        TypeError,
        r"feed_dict gives arrays by placeholder, \{x: array\}; got \[1.0\] \(list\)",
        lambda s, m, o: s.run(m.loss, [1.0]),
    )
    yield (
        "a value without a value",
        TypeError,
        rf"placeholder x {here} is fed .*, which has no value",
        lambda s, m, o: s.run(m.loss, {m.x: m.w}),
    )
    yield (
        "unknown name",
        ValueError,
        r"feed_dict: 'y' is no placeholder of graph \d+\. Its placeholders: x\.",
        lambda s, m, o: s.run(m.loss, {"y": 1.0}),
    )
    yield (
        "a variable fed",
        ValueError,
        r"feed_dict: GraphVariable\(w.* is no placeholder",
        lambda s, m, o: s.run(m.loss, {m.x: 1.0, m.w: 1.0}),
    )
    yield (
        "no value of a graph",
        TypeError,
        r"fetches\[1\]\['a'\] is no value of a graph: 3\.0 \(float\)",
        lambda s, m, o: s.run([m.loss, {"a": 3.0}], {m.x: 1.0}),
    )
    yield (
        "a parameter not used",
        TypeError,
        r"fetches is no value of a graph: .*nothing in the graph uses it",
        lambda s, m, o: s.run(ad.Variable(1.0)),
    )
    yield (
        "fetched of another graph",
        ValueError,
        r"Traced\(y: .* is a value of another graph, graph \d+; this is graph \d+",
        lambda s, m, o: s.run(o),
    )
    yield "fed to another graph", ValueError, r"Traced\(y: .* is a value of another graph", lambda s, m, o: s.run(m.loss, {o: 1.0})
    yield (
        "computed with another graph",
        ValueError,
        r"is a value of another graph, graph \d+; this is graph \d+\. Define both in one graph",
        lambda s, m, o: m.loss * o,
    )
    yield "loaded unknown", KeyError, r"graph \d+ has no variable 'v'", lambda s, m, o: s.load({"v": 1.0})
    yield "loaded wrong", ValueError, rf"variable w {here} is fed an array of shape \(2,\)", lambda s, m, o: s.load({"w": np.ones(2)})


@pytest.mark.parametrize(("kind", "message", "run"), [pytest.param(k, m, r, id=i) for i, k, m, r in bad_runs()])
def test_bad_runs(small: Small, kind: type[Exception], message: str, run: Callable[[Any, Small, Any], Any]) -> None:
    with graph.Graph():
        other = graph.placeholder((), "float64", name="y")
    with graph.Session(small.g) as s, pytest.raises(kind, match=message):
        run(s, small, other)


def test_arrays_of_another_library(small: Small) -> None:
    torch = pytest.importorskip("torch")
    with (
        graph.Session(small.g) as s,
        pytest.raises(TypeError, match=r"placeholder x .* is fed an array of torch; this Session runs on numpy"),
    ):
        s.run(small.loss, {small.x: torch.ones((), dtype=torch.float64)})


def test_a_closed_session(small: Small) -> None:
    with graph.Session(small.g) as s:
        pass
    with pytest.raises(RuntimeError, match="this Session is closed"):
        s.run(small.w)
    assert repr(s).endswith("on numpy, closed)")


def test_bad_definitions(small: Small) -> None:
    for make in (lambda: graph.placeholder(()), lambda: graph.variable(1.0), lambda: graph.assign(ad.Variable(1.0), 2.0)):
        with pytest.raises(RuntimeError, match=r"graph\.\w+ is a part of a graph: call it inside `with graph\.Graph\(\) as g:`"):
            make()
    with pytest.raises(RuntimeError, match=r"graph\.placeholder is a part of a graph, not of capture\(<lambda>\)"):
        graph.capture(lambda x: graph.placeholder(()), np.ones(1))
    with small.g:
        with pytest.raises(ValueError, match=r"graph \d+ has a value named 'x' already \(test_session\.py:\d+\); choose another name"):
            graph.placeholder((), name="x")
        with pytest.raises(TypeError, match=r"placeholder: 1\.5 in the shape \(1\.5,\) is no size"):
            graph.placeholder((1.5,))
        with pytest.raises(
            TypeError, match=r"assign: variable w \(test_session\.py:\d+\) has shape \(\) and dtype float64; the value has shape \(2,\)"
        ):
            graph.assign(small.w, np.ones(2))
        with pytest.raises(TypeError, match=r"assign changes a variable of the graph, not Traced\(x"):
            graph.assign(small.x, 1.0)
        with pytest.raises(UnsupportedError, match=r"assign inside cond: true_fn: a branch or a loop gives values, it changes none"):
            graph.cond(small.x > 0, lambda: graph.assign(small.w, 1.0), lambda: small.w)
        with pytest.raises(UnsupportedError, match=r"variable w is changed in place\. Write graph\.assign"):
            small.w += 1
        with pytest.raises(UnsupportedError, match=r"`if`.*graph\.cond"):
            bool(small.x > 0)


def test_what_a_session_runs(small: Small) -> None:
    with pytest.raises(TypeError, match=r"defined in `with graph\.Graph\(\) as g:`, not capture\(<lambda>\), which is called: g\(x\)\."):
        graph.Session(graph.capture(lambda x: x * 2, np.ones(1)))
    with pytest.raises(TypeError, match=r"graph \d+ is a definition, with values to choose from: run it in a graph\.Session"):
        small.g(1.0)
    with pytest.raises(TypeError, match=r"is captured and complete"), graph.capture(lambda x: x * 2, np.ones(1)):
        pass
    with pytest.raises(TypeError, match=r"gradients takes Variables, or values of `with graph\.Graph\(\)`.*use ad\.grad"):
        graph.capture(lambda x: ad.gradients(x * 2, x)[0], np.asarray(1.0))
    with pytest.raises(TypeError, match=r"gradients: Variable\(.* is no value of graph \d+"):
        ad.gradients(small.loss, ad.Variable(1.0))
