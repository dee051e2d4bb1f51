"""graph.cond, while_loop and scan: the same in eager mode and in graphs, in every transformation, on every library."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.errors import EscapedArrayError, MissingRuleError, UnsupportedError
from agnostic_ad.graph.branches import Branch

X = np.asarray([0.3, -1.0, 1.2])
T = np.cos(np.arange(3.0))
ROWS = np.stack([X, -X, X * 0.3, X + 1])


def chosen(x: Any) -> Any:
    xp = ad.namespace(x)
    return graph.cond(x.sum() > 0, lambda x: xp.sin(x) * x, lambda x: xp.exp(x), x)


def closed(x: Any) -> Any:
    xp = ad.namespace(x)
    y = xp.exp(x)
    return graph.cond(x.sum() > 0.2, lambda: y * x, lambda: xp.sin(y))


def grown(x: Any) -> Any:
    """As many rounds as the values ask for."""
    xp = ad.namespace(x)
    return graph.while_loop(lambda c: xp.sum(c[1] * c[1]) < 40.0, lambda c: (c[0] + 1, c[1] * 1.5 + xp.sin(x)), (0, x))[1]


def counted(x: Any) -> Any:
    xp = ad.namespace(x)
    return graph.while_loop(lambda c: c["i"] < 4, lambda c: {"i": c["i"] + 1, "v": xp.sin(c["v"]) * x}, {"i": 0, "v": x})["v"]


def scanned(x: Any) -> Any:
    xp = ad.namespace(x)
    last, ys = graph.scan(lambda c, r: (xp.sin(c + r) * r, c * r), x[0] * 2, x)
    return ys + last


def backwards(x: Any) -> Any:
    xp = ad.namespace(x)
    w = x * 2
    last, ys = graph.scan(lambda c, r: (c * xp.sum(w) + r * r, xp.cos(c)), xp.sum(x), x, reverse=True)
    return ys * last


def nested(x: Any) -> Any:
    xp = ad.namespace(x)

    def body(c: Any) -> Any:
        i, v = c
        v = graph.cond(v.sum() > 0, lambda v: v * x, lambda v: v + x * x, v)
        v, _ = graph.scan(lambda a, b: (a * 0.5 + b, None), v, xp.stack([x, v]))
        return i + 1, v

    return graph.while_loop(lambda c: c[0] < 3, body, (0, x))[1]


def ragged(x: Any) -> Any:
    """Loops that take another number of rounds each time that they are met, two of them in one branch, and none in the other."""
    xp = ad.namespace(x)

    def up(y: Any, to: Any) -> Any:
        return graph.while_loop(lambda d: xp.sum(d * d) < to, lambda d: d * 1.3 + xp.sin(d) * x, y)

    def body(c: Any, i: Any) -> Any:
        c = graph.cond(i > 1, lambda: up(x, 2.0 + i) * up(x * 0.5, 3.0 * i), lambda: xp.cos(c) * x)
        return c, up(c, 5.0 + i)

    last, ys = graph.scan(body, x, np.arange(4.0))
    return last + ys.sum(axis=0)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {f.__name__: f for f in (chosen, closed, grown, counted, scanned, backwards, nested)}


def total(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: ad.namespace(x).sum(f(x))


@pytest.fixture(params=FUNCTIONS)
def f(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return FUNCTIONS[request.param]


# --- values and derivatives ---------------------------------------------------------------------------------------------------------------
def test_a_graph_gives_what_the_function_gives(f: Callable[[Any], Any]) -> None:
    g = graph.capture(f, X)
    for x in ROWS:
        assert_exact(g(x), f(x))


def test_first_derivatives(f: Callable[[Any], Any]) -> None:
    expected = jacobian(f, X)
    g = graph.capture(f, X)
    assert_close(ad.jacrev(f)(X), expected)
    assert_close(ad.jacrev(g)(X), expected)
    assert_close(graph.capture(ad.jacrev(f), X)(X), expected)
    assert_close(ad.jacfwd(g)(X), expected)
    assert_close(ad.jvp(g, (X,), (T,))[1], expected @ T)
    assert_close(graph.capture(lambda x, t: ad.jvp(f, (x,), (t,))[1], X, T)(X, T), expected @ T)
    assert_close(ad.linearize(g, X)[1](T), expected @ T)


def test_second_derivatives(f: Callable[[Any], Any]) -> None:
    expected = ad.hessian(total(f))(X)  # of the operations that ran, without any loop
    assert_close(
        expected, jacobian(ad.grad(total(f)), X), 1e-7, 1e-7
    )  # loops have large fifth derivatives: the differences are off by 5e-8
    g = total(graph.capture(f, X))
    for hessian in (ad.hessian(g), ad.jacrev(ad.grad(g)), ad.jacfwd(ad.jacfwd(g)), graph.capture(ad.hessian(total(f)), X)):
        assert_close(hessian(X), expected, 1e-12, 1e-12)


def test_second_derivatives_of_variables(f: Callable[[Any], Any]) -> None:
    g, v = total(graph.capture(f, X)), ad.Variable(X)
    (first,) = ad.gradients(g(v), v, create_graph=True)
    assert_close(ad.gradients(first.sum(), v)[0], ad.hessian(total(f))(X).sum(axis=0), 1e-12, 1e-12)


def test_third_derivatives() -> None:
    def power(x: Any) -> Any:
        return graph.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * x), (0, x))[1]

    g = graph.capture(power, graph.ShapeDtype((), "float64"))
    assert_exact(ad.grad(ad.grad(ad.grad(g)))(2.0), 60 * 2.0**2)


def test_batches_are_loops(f: Callable[[Any], Any]) -> None:
    g = graph.capture(f, X)
    rows = np.stack([f(x) for x in ROWS])
    assert_exact(ad.vmap(f)(ROWS), rows)
    assert_exact(ad.vmap(g)(ROWS), rows)
    assert_exact(graph.capture(ad.vmap(f), ROWS)(ROWS), rows)
    assert_exact(ad.vmap(f, in_axes=1, out_axes=1)(ROWS.T), rows.T)


def test_batches_of_derivatives(f: Callable[[Any], Any]) -> None:
    g = graph.capture(f, X)
    rows = np.stack([ad.grad(total(f))(x) for x in ROWS])
    tangents = np.stack([ad.jvp(f, (x,), (T,))[1] for x in ROWS])
    for gradient in (ad.grad(total(f)), ad.grad(total(g)), graph.capture(ad.grad(total(f)), X)):
        assert_close(ad.vmap(gradient)(ROWS), rows, 1e-12, 1e-12)
    assert_close(ad.grad(lambda xs: ad.vmap(total(g))(xs).sum())(ROWS), rows, 1e-12, 1e-12)
    assert_close(graph.capture(ad.vmap(ad.grad(total(f))), ROWS)(ROWS), rows, 1e-12, 1e-12)
    assert_close(ad.vmap(lambda x: ad.jvp(g, (x,), (T,))[1])(ROWS), tangents, 1e-12, 1e-12)
    hessians = np.stack([ad.hessian(total(f))(x) for x in ROWS])
    assert_close(ad.vmap(ad.hessian(total(g)))(ROWS), hessians, 1e-11, 1e-11)


def test_graphs_are_captured_again_and_optimised(f: Callable[[Any], Any]) -> None:
    g = graph.capture(f, X)
    assert_exact(graph.capture(g, X)(X), f(X))
    assert_close(g.optimize()(X), f(X), 1e-14, 1e-14)
    assert_close(ad.grad(total(g.optimize()))(X), ad.grad(total(f))(X), 1e-12, 1e-12)
    assert_close(graph.capture(ad.grad(total(f)), X).optimize()(X), ad.grad(total(f))(X), 1e-12, 1e-12)


def test_complex_numbers() -> None:
    z = np.asarray([0.5 + 1j, -0.3 + 0.2j])

    def f(z: Any) -> Any:
        xp = ad.namespace(z)
        w = graph.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * z), (0, z))[1]
        w = graph.scan(lambda a, b: (a * b, a), w[0], w)[1]
        return xp.sum(xp.real(w * xp.conj(w)))

    g = graph.capture(f, z)
    expected = ad.grad(lambda z: ad.namespace(z).sum(_straight(z)))(z)
    assert_close(ad.grad(g)(z), expected, 1e-12, 1e-12)
    assert_close(graph.capture(ad.grad(f), z)(z), expected, 1e-12, 1e-12)
    assert_close(ad.vmap(ad.grad(g))(np.stack([z, z])), np.stack([expected, expected]), 1e-12, 1e-12)


def _straight(z: Any) -> Any:
    xp = ad.namespace(z)
    w = z * z * z * z
    a = [w[0], w[0] * w[0]]
    return xp.stack([xp.real(x * xp.conj(x)) for x in a])


# --- on every library ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", support.params())
@pytest.mark.parametrize("name", FUNCTIONS)
def test_on_every_library(backend: support.Backend, name: str) -> None:
    f = FUNCTIONS[name]
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):  # float32 rounds at 6e-8, and loops amplify it
        x = backend.asarray(X, dtype)
        g = graph.capture(ad.value_and_grad(total(f)), x)
        for value, d in (g(x), ad.value_and_grad(total(f))(x)):
            assert type(d) is type(x) and d.dtype == x.dtype and value.dtype == x.dtype
            assert_close(backend.numpy(d), ad.grad(total(f))(X), tolerance, tolerance)
            assert_close(backend.numpy(value), total(f)(X), tolerance, tolerance)
    rows = backend.asarray(ROWS)
    batched = ad.vmap(graph.capture(f, backend.asarray(X)))(rows)
    assert type(batched) is type(rows)
    assert_close(backend.numpy(batched), np.stack([f(x) for x in ROWS]), 1e-12, 1e-12)


def test_on_the_second_device_of_array_api_strict() -> None:
    xp = pytest.importorskip("array_api_strict")
    device = xp.Device("device1")
    x = xp.asarray([0.3, -1.0, 1.2], dtype=xp.float64, device=device)
    for f in FUNCTIONS.values():
        d = graph.capture(ad.grad(total(f)), x)(x)
        assert d.device == device
        assert_close(np.asarray(d.to_device(xp.Device("CPU_DEVICE"))._array), ad.grad(total(f))(X), 1e-12, 1e-12)


def test_inside_jax_jit() -> None:
    jax = pytest.importorskip("jax")
    xs = [jax.numpy.asarray(x) for x in ROWS]
    for name, f in FUNCTIONS.items():
        g = graph.capture(f, xs[0])
        for x, row in zip(xs, ROWS, strict=True):
            assert_close(np.asarray(jax.jit(g)(x)), f(row), 1e-12, 1e-12)
        if name in ("chosen", "scanned"):
            assert_close(np.asarray(jax.jit(ad.grad(total(f)))(xs[0])), ad.grad(total(f))(X), 1e-12, 1e-12)
        d = graph.capture(ad.grad(total(f)), xs[0])
        if "graph.while_loop" in d.counts():
            with pytest.raises(UnsupportedError, match=r"keeps its rounds for reverse mode, and jax\.jit cannot know how many there are"):
                jax.jit(d)(xs[0])
        else:
            assert_close(np.asarray(jax.jit(d)(xs[0])), ad.grad(total(f))(X), 1e-12, 1e-12)
        for x, row in zip(xs, ROWS, strict=True):  # from the second call on, by a program that is compiled where it can be
            assert_close(np.asarray(d(x)), ad.grad(total(f))(row), 1e-12, 1e-12)


# --- what is special to each --------------------------------------------------------------------------------------------------------------------
def test_only_one_branch_is_computed() -> None:
    def f(x: Any, y: Any) -> Any:
        return graph.cond(y > 0, lambda: x / y, lambda: x * 0)

    g, d = graph.capture(f, np.asarray(1.0), np.asarray(1.0)), ad.grad(f, (0, 1))
    assert g(np.asarray(3.0), np.asarray(0.0)) == 0.0  # a division by zero would warn, and fail this test
    assert g(np.asarray(3.0), np.asarray(2.0)) == 1.5
    captured = graph.capture(d, np.asarray(1.0), np.asarray(1.0))
    assert captured(np.asarray(3.0), np.asarray(0.0)) == (0.0, 0.0)
    assert captured(np.asarray(3.0), np.asarray(2.0)) == (0.5, -0.75)


def test_the_untaken_branch_brings_no_nan_into_gradients() -> None:
    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        return graph.cond(x > 0, lambda x: xp.sqrt(x), lambda x: -x, x)

    g = graph.capture(f, graph.ShapeDtype((), "float64"))
    assert ad.grad(g)(0.0) == -1.0
    assert ad.grad(g)(4.0) == 0.25


def test_loops_inside_loops_and_branches_take_different_numbers_of_rounds() -> None:
    f = ad.value_and_grad(total(ragged))
    g = graph.capture(f, X)
    for x in ROWS:
        for got, want in zip(g(x), f(x), strict=True):
            assert_close(got, want, 1e-12, 1e-12)
    found, wanted = ad.vmap(g)(ROWS)[1], np.stack([f(x)[1] for x in ROWS])
    assert_close(found, wanted, 1e-12, 1e-12)
    assert_close(ad.vmap(ad.grad(graph.capture(total(ragged), X)))(ROWS), wanted, 1e-12, 1e-12)
    t = np.cos(np.arange(3.0))
    assert_close(graph.capture(lambda x: ad.jvp(total(ragged), (x,), (t,))[1], X)(X), f(X)[1] @ t, 1e-12, 1e-12)
    gradient, hessian = ad.grad(total(ragged)), ad.jacfwd(ad.grad(total(ragged)))
    inside, around = graph.capture(gradient, X), graph.capture(ad.jacrev(gradient), X)
    for x in ROWS[:2]:
        assert_close(ad.jacrev(inside)(x), hessian(x), 1e-12, 1e-12)
        assert_close(around(x), hessian(x), 1e-12, 1e-12)


def test_second_derivatives_of_what_uses_an_array_from_around() -> None:
    def f(x: Any) -> Any:
        return graph.cond(x > 0, lambda y: y * x * x, lambda y: y, x * 1.0)

    assert graph.capture(ad.grad(ad.grad(f)), np.asarray(2.0))(np.asarray(2.0)) == 12.0


def test_a_branch_leaves_no_cycles() -> None:
    """What it uses from around (a view of a parameter, say) goes with it."""
    gc.collect()
    gc.disable()
    try:
        graph.capture(ad.grad(lambda x: graph.cond(x.sum() > 0, lambda: x[0] * 2, lambda: x[1])), X)
        assert not [x for x in gc.get_objects() if type(x) is Branch]
    finally:
        gc.enable()


def test_what_stands_in_a_branch_is_computed_in_it() -> None:
    """A loop that starts with an array from around, and a graph that is called with one."""
    root = graph.capture(lambda x: ad.namespace(x).sqrt(x), graph.ShapeDtype((), "float64"))

    def f(x: Any) -> Any:
        return graph.cond(x > 0, lambda: graph.while_loop(lambda c: c < 10, lambda c: c * 2, x) + root(x), lambda: x * 0.5)

    g = graph.capture(ad.value_and_grad(f), graph.ShapeDtype((), "float64"))
    assert {node.op.name for node in g.nodes} == {"greater", "graph.cond"}
    assert [float(v) for v in g(-1.0)] == [-0.5, 0.5]  # nobody takes the root of -1, and no warning says so
    assert [float(v) for v in g(4.0)] == [18.0, 4.25]


def test_a_condition_known_while_capturing_takes_its_branch() -> None:
    g = graph.capture(lambda x: graph.cond(True, lambda x: x * 2, lambda x: 1 / 0, x), X)
    assert [n.op.name for n in g.nodes] == ["multiply"]
    assert graph.cond(np.asarray(False), lambda: 1, lambda: "else") == "else"


def test_nodes_hold_graphs() -> None:
    g = graph.capture(nested, X)
    (node,) = g.nodes
    assert node.op.name == "graph.while_loop" and len(node.graphs()) == 2
    names = [n.op.name for n in g.walk()]
    assert "graph.cond" in names and "graph.scan" in names and "less" in names


def test_eager_loops_record_what_ran() -> None:
    v = ad.Variable(2.0)
    y = graph.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] * v), (0, v))[1]
    assert y.grad_fn.name == "multiply"
    y.backward()
    assert v.grad == 12.0


def test_variables_from_around_stay_connected() -> None:
    w = ad.Variable(3.0)
    g = graph.capture(lambda x: graph.scan(lambda c, r: (c * w + r, None), 0.0, x)[0], X)
    y = g(X)
    y.backward()
    assert_exact(w.grad, 2 * 3.0 * X[0] + X[1])


@ad.custom_vjp
def clipped(x: Any) -> Any:
    return x * 1


clipped.defvjp(lambda x: (x, None), lambda _, ct: (ad.namespace(ct).clip(ct, -0.5, 0.5),))


class Doubled(ad.Function):
    """The derivative is wrong, so that one sees whether it is used."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx: Any, ct: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ct * x * 7


@ad.custom_jvp
def cubed(x: Any) -> Any:
    return x * x * x


cubed.defjvp(lambda primals, tangents: (cubed(*primals), 5 * primals[0] * tangents[0]))


@pytest.mark.parametrize("rule", [clipped, Doubled.apply, cubed])
def test_rules_of_the_users_hold_in_loops(rule: Callable[[Any], Any]) -> None:
    def f(x: Any) -> Any:
        y = graph.scan(lambda c, v: (rule(c * v) + v, None), 1.0, x)[0]
        return graph.cond(y > 100.0, lambda: y, lambda: rule(y) * 3)

    g, gradient = graph.capture(f, X), np.stack([ad.grad(f)(x) for x in ROWS])
    for x, d in zip(ROWS, gradient, strict=True):
        assert_exact(g(x), f(x))
        assert_exact(ad.grad(g)(x), d)
        assert_exact(graph.capture(ad.grad(f), X)(x), d)
    assert_exact(ad.vmap(ad.grad(g))(ROWS), gradient)
    assert_exact(graph.capture(ad.vmap(ad.grad(f)), ROWS)(ROWS), gradient)
    if rule is cubed:
        assert_exact(ad.jvp(g, (X,), (T,))[1], ad.jvp(f, (X,), (T,))[1])


@pytest.mark.parametrize("rule", [clipped, Doubled.apply, cubed])
def test_rules_of_the_users_hold_in_graphs(rule: Callable[[Any], Any]) -> None:
    g = graph.capture(rule, X)
    assert [n.op.name for n in g.nodes] == ["graph.call"]
    assert_exact(g(X), rule(X))
    assert_exact(ad.grad(lambda x: g(x).sum())(X), ad.grad(lambda x: rule(x).sum())(X))
    assert_exact(ad.grad(lambda x: g.optimize()(x).sum())(X), ad.grad(lambda x: rule(x).sum())(X))
    with graph.Graph() as defined:
        x = graph.placeholder((3,), "float64", name="x")
        y = rule(x)
        (d,) = ad.gradients(y.sum(), x)
    with graph.Session(defined) as s:
        value, slope = s.run([y, d], {x: X})
    assert_exact(value, rule(X))
    assert_exact(slope, ad.grad(lambda x: rule(x).sum())(X))


def test_no_rounds() -> None:
    empty = np.zeros((0, 2))

    def f(x: Any) -> Any:
        return graph.scan(lambda c, r: (c + r, (c * 2, r.sum())), x, empty)

    x = np.asarray([1.0, 2.0])
    for last, (rows, sums) in (f(x), graph.capture(f, x)(x)):
        assert_exact(last, x)
        assert rows.shape == (0, 2) and sums.shape == (0,) and rows.dtype == np.float64
    assert_exact(ad.grad(lambda x: f(x)[0].sum())(x), np.ones(2))
    assert_exact(graph.capture(ad.grad(lambda x: f(x)[0].sum()), x)(x), np.ones(2))
    never = graph.capture(ad.grad(lambda x: graph.while_loop(lambda c: c.sum() < 0, lambda c: c * x, x).sum()), x)
    assert_exact(never(x), np.ones(2))


def test_length_alone() -> None:
    def f(x: Any) -> Any:
        return graph.scan(lambda c, _: (c * x, c), x, length=3)

    for last, ys in (f(np.asarray(2.0)), graph.capture(f, np.asarray(2.0))(np.asarray(2.0))):
        assert last == 16.0 and ys.tolist() == [2.0, 4.0, 8.0]
    assert graph.capture(ad.grad(lambda x: f(x)[0]), np.asarray(2.0))(np.asarray(2.0)) == 32.0


def test_axes_of_any_size() -> None:
    g = graph.capture(ad.value_and_grad(total(scanned)), graph.ShapeDtype((None,), "float64"))
    h = graph.capture(ad.value_and_grad(total(grown)), graph.ShapeDtype((None,), "float64"))
    c = graph.capture(ad.value_and_grad(total(closed)), graph.ShapeDtype((None,), "float64"))
    for n in (1, 3, 5):
        x = np.sin(np.arange(1.0, n + 1))
        for captured, f in ((g, scanned), (h, grown), (c, closed)):
            value, d = captured(x)
            assert_close(value, total(f)(x), 1e-12, 1e-12)
            assert_close(d, ad.grad(total(f))(x), 1e-12, 1e-12)


def test_members_of_a_batch_stop_at_their_own_round() -> None:
    def steps(x: Any) -> Any:
        return graph.while_loop(lambda c: c[1] < 10.0, lambda c: (c[0] + 1, c[1] * 2), (0, x))

    counts, values = ad.vmap(steps)(np.asarray([1.0, 3.0, 20.0]))
    assert counts.tolist() == [4, 2, 0] and values.tolist() == [16.0, 12.0, 20.0]
    d = ad.vmap(ad.grad(lambda x: graph.capture(steps, x)(x)[1]))(np.asarray([1.0, 3.0, 20.0]))
    assert d.tolist() == [16.0, 4.0, 1.0]


def test_random_draws_in_a_loop() -> None:
    x = np.ones(200)

    def f(x: Any) -> Any:
        return graph.scan(lambda c, _: (c + nn.functional.dropout(x, 0.5), None), x * 0, length=3)[0]

    ad.manual_seed(0)
    expected = f(x)
    g = graph.capture(f, x)
    ad.manual_seed(0)
    assert_exact(g(x), expected)
    assert not np.array_equal(g(x), expected)
    ad.manual_seed(0)
    value, pull = ad.vjp(g, x)
    assert_exact(value, expected)
    assert_exact(pull(np.ones(200))[0], expected)  # linear in x: the backward pass takes the masks of the forward pass
    h, v = (
        graph.capture(lambda x: graph.scan(lambda c, _: (c + nn.functional.dropout(x, 0.5) ** 2, None), x * 0, length=3)[0], x),
        ad.Variable(x),
    )
    (d,) = ad.gradients((h(v) ** 2).sum(), v, create_graph=True)
    with pytest.raises(
        MissingRuleError, match=r"graph\.scan draws random numbers, and a second derivative by create_graph would draw others"
    ):
        ad.gradients(d.sum(), v)


def test_threads() -> None:
    g = graph.capture(nested, X)
    found: dict[int, Any] = {}

    def work(i: int) -> None:
        found[i] = ad.grad(total(g))(X * (i + 1) / 4)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(4):
        assert_close(found[i], ad.grad(total(nested))(X * (i + 1) / 4), 1e-12, 1e-12)


# --- errors -------------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize(
    ("message", "f"),
    [
        (
            r"while_loop: carry\['v'\] after a round has shape \(6,\) and dtype float64, expected shape \(3,\) and dtype float64: a loop keeps",
            lambda x: graph.while_loop(
                lambda c: c["v"].sum() < 9, lambda c: {"v": ad.namespace(c["v"]).concat([c["v"], c["v"]])}, {"v": x * 0 + 1}
            ),
        ),
        (
            r"while_loop: carry\[0\] after a round has shape \(\) and dtype float64, expected shape \(\) and dtype int64",
            lambda x: graph.while_loop(lambda c: c[1].sum() < 9, lambda c: (c[0] + c[1].sum(), c[1] + 1), (0, x)),
        ),
        (
            r"while_loop: the body gives structure .*, expected .*: a loop carries the same structure",
            lambda x: graph.while_loop(lambda c: c.sum() < 9, lambda c: (c, c), x),
        ),
        (
            r"while_loop: the condition has shape \(3,\) and dtype bool; one boolean",
            lambda x: graph.while_loop(lambda c: c < 9, lambda c: c, x),
        ),
        (r"scan: carry after a round has shape \(3,\)", lambda x: graph.scan(lambda c, r: (c + x, r), 0.0, x)),
        (r"scan: f gives \(carry, y\), not", lambda x: graph.scan(lambda c, r: c, 0.0, x)),
        (r"scan: the lengths differ: 3, 2", lambda x: graph.scan(lambda c, r: (c, r), 0.0, (x, x[:2]))),
        (r"scan: the lengths differ: 3, 4 \(axes 0 of xs, length\)", lambda x: graph.scan(lambda c, r: (c, r), 0.0, x, length=4)),
        (r"scan: how many rounds\?", lambda x: graph.scan(lambda c, r: (c, r), x)),
        (r"scan: xs\[1\] has no axis to go along: 2\.0", lambda x: graph.scan(lambda c, r: (c, r), 0.0, (x, 2.0))),
        (r"cond: the condition has shape \(3,\)", lambda x: graph.cond(x > 0, lambda: x, lambda: x)),
        (r"cond: the condition has shape \(\) and dtype float64", lambda x: graph.cond(x.sum(), lambda: x, lambda: x)),
        (r"while_loop: init gives arrays and numbers, not str", lambda x: graph.while_loop(lambda c: True, lambda c: c, ("a", x))),
    ],
)
def test_bad_loops(message: str, f: Callable[[Any], Any], captured: bool) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        graph.capture(f, X) if captured else f(X)


@pytest.mark.parametrize(
    ("message", "f"),
    [
        (
            r"cond: result\[0\] of false_fn has shape \(\) and dtype float64, expected shape \(3,\) and dtype float64: as of true_fn",
            lambda x: graph.cond(x.sum() > 0, lambda: (x,), lambda: (x.sum(),)),
        ),
        (
            r"cond: true_fn gives structure .*, false_fn .*; they have to be the same",
            lambda x: graph.cond(x.sum() > 0, lambda: x, lambda: (x, x)),
        ),
        (
            r"cond: result of false_fn has shape \(\) and dtype int64, expected shape \(\) and dtype float64",
            lambda x: graph.cond(x.sum() > 0, lambda: 0.5, lambda: ad.namespace(x).argmax(x)),
        ),
        (r"cond: true_fn gives arrays and numbers, not str", lambda x: graph.cond(x.sum() > 0, lambda: "a", lambda: x)),
    ],
)
def test_bad_branches(message: str, f: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=message):
        graph.capture(f, X)


def test_numbers_take_the_dtype_of_the_other_branch() -> None:
    x = X.astype("float32")
    g = graph.capture(lambda x: graph.cond(x.sum() > 0, lambda: 1, lambda: x.sum()), x)
    assert g(x).dtype == np.float32 and g(x) == 1.0


def test_side_effects_of_a_branch() -> None:
    kept: list[Any] = []

    def changes(x: Any) -> Any:
        y = x * 2

        def inside() -> Any:
            nonlocal y
            y += 1
            return y

        return graph.cond(x.sum() > 0, inside, lambda: x)

    with pytest.raises(EscapedArrayError, match=r"an array of capture\(changes\) cannot take a value of cond: true_fn in place"):
        graph.capture(changes, X)

    def leaks(x: Any) -> Any:
        graph.cond(x.sum() > 0, lambda x: kept.append(x * 2) or x, lambda x: x, x)
        return kept[0] + 1

    with pytest.raises(EscapedArrayError, match=r"cond: true_fn.*after that transformation returned"):
        graph.capture(leaks, X)


def test_autocast_inside_and_around() -> None:
    w = np.ones((3, 3), "float32")

    def f(x: Any) -> Any:
        y = x * 2

        def inside() -> Any:
            with nn.amp.autocast(dtype="float16"):
                low = y @ w
            with nn.amp.autocast(enabled=False):
                return low.astype("float32") + y

        return graph.cond(x.sum() > 0, inside, lambda: x * 0)

    x = np.asarray([0.1, 0.2, 0.3], "float32")
    g = graph.capture(f, x)
    assert "matmul" not in [n.op.name for n in g.nodes] and g(x).dtype == np.float32  # it is in the branch
    assert_exact(g(x), f(ad.Variable(x)).data)
    with nn.amp.autocast(dtype="float16"):
        h = graph.capture(lambda x: graph.cond(x.sum() > 0, lambda: x @ w, lambda: x @ w), x)
    assert h(x).dtype == np.float16


def test_python_control_flow_names_the_functions() -> None:
    with pytest.raises(UnsupportedError, match=r"graph\.cond\(.*graph\.while_loop"):
        graph.capture(lambda x: x if x.sum() > 0 else -x, X)


@pytest.mark.parametrize("nest", ["cond", "scan", "while"])
def test_second_derivatives_of_loops_in_branches_are_captured(nest: str) -> None:
    def powers(x: Any) -> Any:
        xp = ad.namespace(x)
        return graph.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * xp.sin(x)), (xp.asarray(0), x))[1]

    def choice(x: Any) -> Any:
        return graph.cond(ad.namespace(x).sum(x) > 0, powers, lambda x: x * 2, x)

    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        if nest == "cond":
            return choice(x).sum()
        if nest == "scan":
            return graph.scan(lambda c, k: (graph.cond(k > 0, powers, lambda x: x * 2, c), None), x, xp.asarray([1.0, -1.0, 2.0]))[0].sum()
        return graph.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, choice(s[1])), (xp.asarray(0), x))[1].sum()

    x = np.asarray([1.0, 0.5, 2.0])
    g = graph.capture(ad.hessian(f), x).optimize()
    assert_close(g(x), ad.hessian(f)(x), 1e-13, 1e-14)
    assert_close(ad.hessian(f)(x), np.stack([ad.jvp(ad.grad(f), (x,), (e,))[1] for e in np.eye(3)]), 1e-12, 1e-13)
    if nest == "cond":
        branches = [node.params["true"] for node in g.nodes if node.op.name == "graph.cond"]
        with pytest.raises(UnsupportedError, match=r"cond: true_fn, forward has no program of its own: .* how many rounds a loop takes"):
            branches[0].source()
