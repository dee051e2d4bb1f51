"""Axes of any size: one graph for every batch, sizes that stay symbols, and errors where they are lost."""

from __future__ import annotations

import gc
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph import sizes

N, M = sizes.symbol("n", 840), sizes.symbol("m", 1680)
ANY = graph.ShapeDtype((None, 4), "float64")


def rows(n: int) -> Any:
    return np.cos(np.arange(4.0 * n)).reshape(n, 4)


def xp_of(x: Any) -> Any:
    return ad.namespace(x)


def shift(x: Any) -> Any:
    y = x * 2
    y[1:] = x[:-1] ** 2
    return y


# --- numbers ----------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("made", "text", "value"),
    [
        (N, "n", 3),
        (N + 1, "n + 1", 4),
        (2 - N, "-1 * n + 2", -1),
        (N * 2 * N + N * 4, "2 * n * n + 4 * n", 30),
        (N * M - M * N + N, "n", 3),
        (N * 6 // 3, "2 * n", 6),
        ((N * 4 + 8) // 4, "n + 2", 5),
        (N // 2, "(n // 2)", 1),
        (7 // N, "(7 // n)", 2),
        ((N - 1) // 2 * 2, "2 * ((n - 1) // 2)", 2),
        (N % 2, "(n % 2)", 1),
        (N * M // N, "m", 5),
        (N**2, "n * n", 9),
        (-N, "-1 * n", -3),
        (abs(N), "n", 3),
        (math.prod((2, N, M)), "2 * m * n", 30),
        (sum((N, 1, M)), "m + n + 1", 9),
        (N / 2, "(n / 2)", 1.5),
        (1 / (N + 1), "(1 / (n + 1))", 0.25),
        ((N / 2) ** 2 - 0.25, "(((n / 2) ** 2) - 0.25)", 2.0),
        (N**0.5, "(n ** 0.5)", 3**0.5),
    ],
)
def test_arithmetic_remembers(made: Any, text: str, value: float) -> None:
    assert repr(made) == text
    assert sizes.evaluate(made, {"n": 3, "m": 5}) == value
    again = pickle.loads(pickle.dumps(made))
    assert sizes.key(again) == sizes.key(made) and type(again) is type(made) and repr(again) == text


def test_what_is_known_is_a_plain_integer() -> None:
    for made, value in ((N - N, 0), (N - N + 3, 3), (N * 0, 0), (N // N, 1), (N * 2 % 2, 0), ((N + 2) % (N + 2), 0), (N**0, 1)):
        assert type(made) is int and made == value


def test_evaluating_goes_into_everything() -> None:
    tree = {"shape": (N, 4), "key": (slice(1, N - 1), None, ...), "list": [N / 2], "spec": graph.ShapeDtype((N, 2), "int32"), "name": "x"}
    found = sizes.evaluate(tree, {"n": 6})
    assert found == {
        "shape": (6, 4),
        "key": (slice(1, 5), None, ...),
        "list": [3.0],
        "spec": graph.ShapeDtype((6, 2), "int32"),
        "name": "x",
    }
    assert type(found["shape"][0]) is int


# --- graphs -----------------------------------------------------------------------------------------------------------------------------------
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda x: x.sum(axis=0),
    "mean": lambda x: (x.mean(axis=0), x.mean()),
    "grad of mean": ad.grad(lambda x: (x * x).mean()),
    "divided by a size": lambda x: x.sum() / x.shape[0] + x / (x.size - 1) ** 0.5,
    "a size": lambda x: (x * 0 + x.shape[0], x.reshape(x.size()), x / x.size(0), xp_of(x).asarray(np.ones(4)) * x.shape[0]),
    "reshape": lambda x: (x.reshape(-1, 2) + 1, x.reshape(x.shape[0], 2, 2).sum(axis=(1, 2)), x.ravel()),
    "halves": lambda x: x.reshape(2, -1),
    "slices": lambda x: (x[1:], x[:-1] - x[1:], x[::2], x[::-1], x[1::2], x[-1], x[: x.shape[0] // 2], x[x.shape[0] - 1 :]),
    "creation": lambda x: xp_of(x).zeros((x.shape[0], 4)) + xp_of(x).arange(x.shape[0])[:, None] * xp_of(x).ones_like(x),
    "ranges": lambda x: (xp_of(x).arange(1, x.shape[0], 2), xp_of(x).arange(x.shape[0], 0, -1), xp_of(x).linspace(0.0, 1.0, x.shape[0])),
    "full": lambda x: (xp_of(x).full((x.shape[0],), 2.5), xp_of(x).full(3, x.shape[0]), xp_of(x).full_like(x, 1.0)),
    "eye": lambda x: xp_of(x).eye(x.shape[0]) @ x,
    "var": lambda x: (x.var(axis=0), x.std(axis=0, correction=1)),
    "grad of var": ad.grad(lambda x: x.var()),
    "concat": lambda x: xp_of(x).concat([x, x[:1] * 0], axis=0),
    "stack": lambda x: (xp_of(x).stack([x, x]), xp_of(x).tile(x, (2, 1)), xp_of(x).repeat(x, 2, axis=0)),
    "roll": lambda x: xp_of(x).roll(x, 1, axis=0),
    "matrices": lambda x: (x @ x.T, xp_of(x).tril(x @ x.T), xp_of(x).linalg.inv(x @ x.T + 8 * xp_of(x).eye(x.shape[0]))),
    "vmap": ad.vmap(lambda r: (r * r).sum()),
    "vmap of grad": ad.vmap(ad.grad(lambda r: (r * r * r).sum())),
    "sort": lambda x: (xp_of(x).sort(x, axis=0), xp_of(x).argsort(x, axis=0), xp_of(x).cumulative_sum(x, axis=0)),
    "grad of max": ad.grad(lambda x: x.max(axis=0).sum()),
    "take": lambda x: xp_of(x).take(x, np.asarray([0, 1]), axis=0),
    "grad of slices": ad.grad(lambda x: (x[1:] * x[:-1]).sum()),
    "setitem": shift,
    "grad of setitem": ad.grad(lambda x: shift(x).sum()),
    "jvp": lambda x: ad.jvp(lambda x: x.mean(), (x,), (x,)),
    "pad": lambda x: nn.functional.pad(x, (1, 1, 2, 0)),
    "layer norm": lambda x: nn.functional.layer_norm(x, (4,)),
    "cross entropy": ad.grad(lambda x: nn.functional.cross_entropy(x, xp_of(x).zeros((x.shape[0],), dtype=xp_of(x).int64))),
    "hessian": lambda x: ad.hessian(lambda w: ((x @ w) ** 2).sum())(x[0]),
    "choice": lambda x: graph.cond(x.sum() > 0, lambda x: x * x.shape[0], lambda x: -x, x),
    "loop": lambda x: graph.scan(lambda total, row: (total + row.sum(), total), xp_of(x).zeros(()), x),
    "attention": ad.grad(
        lambda x: nn.functional.scaled_dot_product_attention(x[None, None], x[None, None], x[None, None], is_causal=True).sum()
    ),
    "pooling": ad.grad(lambda x: nn.functional.max_pool1d(nn.functional.conv1d(x[None].mT, np.ones((2, 4, 3)), padding=1), 2).sum()),
    "nested capture": lambda x: graph.capture(lambda y: y * y.shape[0] + x.shape[0], x[0])(x[1]),
    "convolution": lambda x: nn.functional.conv1d(x[None, None, :, 0], np.ones((1, 1, 2))),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_one_graph_for_every_size(name: str) -> None:
    f = FUNCTIONS[name]
    xp = ad.differentiable(np)
    g = graph.capture(f, ANY)
    for h in (g, g.optimize()):
        for n in (8, 2, 6):
            want = ad.trees.leaves(f(xp.asarray(rows(n))))
            got = ad.trees.leaves(h(rows(n)))
            assert len(got) == len(want)
            for a, b in zip(got, want, strict=True):
                b = b.detach().numpy() if isinstance(b, ad.Variable) else b
                assert type(a) is np.ndarray and a.dtype == b.dtype
                assert_close(a, b, 1e-13, 1e-13)
    assert not any(lookalike(n) for node in g.nodes for spec in node.outputs for n in spec.shape)


def lookalike(n: Any) -> bool:
    """Tell whether a plain size comes from a hint."""
    return not isinstance(n, sizes.Dim) and any(n >= hint - 8 for hint in sizes.HINTS)


@pytest.mark.parametrize("backend", support.params(without=("dask", "jax")))
def test_on_every_library(backend: support.Backend) -> None:
    x = backend.asarray(rows(3))
    f = ad.value_and_grad(lambda x: ((x - x.mean(axis=0)) ** 2).mean() + (x[1:] * x[:-1]).sum() / x.shape[0])
    g = graph.capture(f, graph.ShapeDtype((None, 4), x.dtype), xp=backend.xp)
    for n in (3, 5):
        value, d = g(backend.asarray(rows(n)))
        want_value, want = f(rows(n))
        assert type(d) is type(x)
        assert_close(backend.numpy(value), want_value, 1e-13, 1e-13)
        assert_close(backend.numpy(d), want, 1e-13, 1e-13)


def test_shapes_are_shown_with_none(capsys: pytest.CaptureFixture[str]) -> None:
    g = graph.capture(lambda x: (print(x[1:]), x[1:] * x.shape[0])[1], ANY)
    assert "v0: float64[None, 4], test_graph_sizes.py:" in capsys.readouterr().out.splitlines()[0]
    assert "in0: float64[None, 4] = input()" in repr(g)
    assert [n.name for n in g.inputs[0].outputs[0].shape[:1]] == ["n0"]
    with pytest.raises(TypeError, match=r"input in0 has shape \(3, 5\) and dtype float64; captured with \(None, 4\), float64"):
        g(np.zeros((3, 5)))


def test_any_size_under_transformations() -> None:
    g = graph.capture(lambda x: ((x - x.mean(axis=0)) ** 2).mean(), ANY)
    f = lambda x: ((x - x.mean(axis=0)) ** 2).mean()
    for n in (3, 5):
        assert_close(ad.grad(g)(rows(n)), ad.grad(f)(rows(n)), 1e-14, 1e-14)
        assert_close(ad.vmap(g)(np.stack([rows(n), rows(n) + 1])), np.asarray([f(rows(n)), f(rows(n) + 1)]), 1e-14, 1e-14)
    again = graph.capture(ad.grad(g), ANY)
    for n in (3, 5):
        assert_close(again(rows(n)), ad.grad(f)(rows(n)), 1e-14, 1e-14)
    fixed = graph.capture(g, rows(3))
    assert_close(fixed(rows(3)), f(rows(3)), 1e-15, 1e-15)


def test_capture_makes_no_reference_cycles() -> None:
    f = ad.grad(lambda x: ((x[1:] - x[:-1]) ** 2).mean())
    graph.capture(f, ANY)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            graph.capture(f, ANY)
        assert gc.collect() == 0
    finally:
        gc.enable()


# --- what has to hold ---------------------------------------------------------------------------------------------------------------------------
def test_sizes_that_meet_have_to_agree() -> None:
    g = graph.capture(lambda x, y: x + y, ANY, ANY)
    assert g(rows(3), rows(3)).shape == (3, 4)
    assert [repr(guard) for guard in g.guards] == ["n0 == n1"]
    with pytest.raises(
        ValueError, match=r"capture\(<lambda>\): the graph holds where n0 == n1 \(test_graph_sizes\.py:\d+\); here the two are 3 and 1"
    ):
        g(rows(3), rows(1))
    free = graph.capture(lambda x, y: x @ y.T, ANY, ANY)
    assert free(rows(3), rows(5)).shape == (3, 5) and not free.guards


def test_named_sizes_are_one_size() -> None:
    spec = graph.ShapeDtype(("batch", 4), "float64")
    g = graph.capture(lambda x, y: (x * y).sum(), spec, spec)
    assert_close(g(rows(3), rows(3)), (rows(3) ** 2).sum(), 1e-15, 1e-15)
    with pytest.raises(ValueError, match=r"an axis of input in1 has size 5; by in0 it is 3 \(batch\)"):
        g(rows(3), rows(5))


def test_what_was_chosen_by_a_size_is_checked() -> None:
    def f(x: Any) -> Any:
        return x * 2 if x.shape[0] > 5 else x

    g = graph.capture(f, ANY)
    assert_close(g(rows(7)), rows(7) * 2, 1e-15, 1e-15)
    line = f.__code__.co_firstlineno + 1
    with pytest.raises(
        ValueError, match=rf"the graph holds where n0 > 5 \(test_graph_sizes\.py:{line}\); here the two are 3 and 5\. Capture again"
    ):
        g(rows(3))


def test_slices_have_to_fit() -> None:
    g = graph.capture(lambda x: x[:3].sum(), ANY)
    assert_close(g(rows(5)), rows(5)[:3].sum(), 1e-15, 1e-15)
    with pytest.raises(ValueError, match=r"the graph holds where n0 >= 3"):
        g(rows(2))
    with pytest.raises(ValueError, match=r"the graph holds where \(n0 % 2\) == 0.*here the two are 1 and 0"):
        graph.capture(lambda x: x[:, 0].reshape(-1, 2), ANY)(rows(3))


# --- sizes that are lost ------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "f"),
    [
        (r"divide \(test_graph_sizes\.py:\d+\) does not hold for axes of any size: operand 1 is .*math\.sqrt\(\)", lambda x: x / math.sqrt(x.shape[0])),
        (r"multiply \(test_graph_sizes\.py:\d+\).*1 / n and not 1\.0 / n", lambda x: x * (1.0 / x.shape[0])),
        (r"getitem \(test_graph_sizes\.py:\d+\).*the number of operations depends on a size: 840 or 1680", lambda x: [x[i] for i in range(x.shape[0])]),
        (r"multiply \(test_graph_sizes\.py:\d+\).*operand 1 is an array of shape \(840, 1\) or \(1680, 1\)", lambda x: x * np.ones((x.shape[0], 1))),
        (r"reshape .*: shape is 3360 or 6720", lambda x: x.reshape(int(x.shape[0]) * 4)),
        (r"len\(\) and iteration need a size, but axis 0 of Traced\(in0: float64\[None, 4\].* has any size \(test_graph_sizes\.py:\d+\)", lambda x: [r for r in x]),
        (r"len\(\) and iteration need a size", lambda x: x / len(x)),
        (r"the structure of the result depends on a size", lambda x: [x] * (x.shape[0] // 100)),
        (r"add \(test_graph_sizes\.py:\d+\).*add runs for one size, and multiply for another", lambda x: x + 1 if int(x.shape[0]) < 1000 else x * 2),
        (r"numpy\.multiply would turn the size n0 into a plain number \(test_graph_sizes\.py:\d+\)", lambda x: x * (np.ones(4) * x.shape[0])),
        (r"numpy\.divide would turn the size \(n0 / 2\) into", lambda x: x * (np.float64(3.0) / (x.shape[0] / 2))),
        (r"a result is 840 or 1680", lambda x: int(x.shape[0])),
    ],
)  # fmt: skip
def test_a_lost_size_is_found(message: str, f: Callable[[Any], Any]) -> None:
    with pytest.raises(UnsupportedError, match=message):
        graph.capture(f, ANY)


def test_a_result_may_be_a_size() -> None:
    g = graph.capture(lambda x: (x.shape[0], x.size / 2), ANY)
    assert g(rows(3)) == (3, 6.0)


def test_sizes_that_do_not_go_together_are_found_while_capturing() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        graph.capture(lambda x: x + np.ones((3, 4)), ANY)
    with pytest.raises(ValueError, match="reshape"):
        graph.capture(lambda x: x.reshape(5, 4), ANY)
