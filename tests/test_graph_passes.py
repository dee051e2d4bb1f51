"""Passes: what each does to graphs, and that the numbers stay what they were, NaN and the sign of zero included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.graph.passes import PASSES, SIMPLIFY, report
from agnostic_ad.op import Op

X = np.asarray([0.3, -1.2, 0.7])
M = np.cos(np.arange(6.0)).reshape(2, 3)
SPECIAL = np.asarray([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 3.7, -2.5, 1e-320, 1e308])


def xp_of(x: Any) -> Any:
    return ad.namespace(x)


def names(g: graph.Graph) -> list[str]:
    return [node.op.name for node in g.nodes]


def assert_same_bits(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b)
    real = ~np.isnan(a)
    np.testing.assert_array_equal(np.signbit(a)[real], np.signbit(b)[real])
    assert a.dtype == b.dtype and a.shape == b.shape


# --- dead code ----------------------------------------------------------------------------------------------------------------------------------
def classic(x: Any) -> Any:
    v2 = xp_of(x).exp(x)
    v3 = v2 + 1
    _v4 = v2 * v3  # never asked for
    return v3


def test_what_nobody_asked_for_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    evaluate = Op.evaluate

    def counting(self: Op, args: Any, params: Any) -> Any:
        counted[self.name] += 1
        return evaluate(self, args, params)

    monkeypatch.setattr(Op, "evaluate", counting)
    g = graph.capture(classic, X)
    small = g.optimize(["dead_code"])
    counted.clear()
    assert_exact(g.run([X])[0], np.exp(X) + 1)
    assert counted == {"exp": 1, "add": 1, "multiply": 1}
    counted.clear()
    assert_exact(small.run([X])[0], np.exp(X) + 1)
    assert counted == {"exp": 1, "add": 1}


def test_draws_are_never_dead() -> None:
    def f(x: Any) -> Any:
        nn.functional.dropout(x, 0.5)  # a draw all the same
        return nn.functional.dropout(x, 0.5) + nn.functional.dropout(x, 0.5)

    g = graph.capture(f, X).optimize()
    assert names(g).count("nn.keep") == 3
    ad.manual_seed(1)
    want = f(ad.Variable(X)).data
    ad.manual_seed(1)
    assert_exact(g(X), want)


# --- common subexpressions ------------------------------------------------------------------------------------------------------------------------
def test_what_is_done_twice_is_done_once() -> None:
    def f(x: Any) -> Any:
        xp = xp_of(x)
        return xp.exp(x) * 2.0 + xp.exp(x) * 2.0 + (x * xp.exp(x)) - (xp.exp(x) * x)

    g = graph.capture(f, X).optimize(["common_subexpressions", "dead_code"])
    assert Counter(names(g)) == {"exp": 1, "multiply": 2, "add": 2, "subtract": 1}
    assert_exact(g(X), f(ad.Variable(X)).data)


def test_what_differs_is_not_merged() -> None:
    def f(x: Any) -> Any:
        xp = xp_of(x)
        return (
            *(x * 0.0, x * -0.0, x * np.nan, xp.sum(x, axis=0), xp.sum(x, axis=0, keepdims=True)),
            *(xp.astype(x, xp.float32), xp.astype(x, xp.int32), x / 2.0, 2.0 / x),
        )

    g = graph.capture(f, X)
    assert names(g.optimize(["common_subexpressions", "dead_code"])) == names(g)


def test_two_results_are_two_arrays() -> None:
    g = graph.capture(lambda x: (x + 1, x + 1, x * 1.0, x), X).optimize()
    a, b, c, d = g(X)
    assert not any(np.shares_memory(p, q) for p, q in ((a, b), (c, X), (c, d)))
    assert_exact(a, b)


# --- constant folding -------------------------------------------------------------------------------------------------------------------------------
def test_constants_are_computed_once() -> None:
    constant = np.asarray([1.0, 2.0, 3.0])

    def f(x: Any) -> Any:
        xp = xp_of(x)
        return x * (xp.exp(xp.asarray(constant) * 2) + xp.arange(3.0))

    g = graph.capture(f, X)
    small = g.optimize(["constant_folding", "dead_code"])
    assert names(small) == ["multiply"]
    assert_exact(small(X), g(X))


def test_what_is_not_folded() -> None:
    w = ad.Variable(X)

    def f(x: Any) -> Any:
        xp = xp_of(x)
        return x.sum() + xp.zeros(()) * xp.broadcast_to(xp.ones(()), (100, 100)), xp.asarray(X) * 2, (w * w).sum() + x

    g = graph.capture(f, X).optimize()
    assert {"broadcast_to", "multiply"} <= set(g.counts())
    again = g(X)[1]
    again[:] = 0  # a result is the caller's own
    assert_exact(g(X)[1], X * 2)
    (g(X)[2]).sum().backward()
    assert_exact(w.grad, 6 * X)  # a closed-over Variable stays connected


def test_folding_is_silent() -> None:
    g = graph.capture(lambda x: x * xp_of(x).log(xp_of(x).asarray([0.0, 1.0, 2.0])), X)
    assert names(g.optimize()) == ["multiply"]


# --- algebra ------------------------------------------------------------------------------------------------------------------------------------------
SAME: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "x * 1": (lambda x: xp_of(x).exp(x * 1.0), ["exp"]),
    "1 * x": (lambda x: xp_of(x).exp(1 * x), ["exp"]),
    "x * ones": (lambda x: xp_of(x).exp(x * np.ones(11)), ["exp"]),
    "x / 1": (lambda x: xp_of(x).exp(x / 1), ["exp"]),
    "x + -0.0": (lambda x: xp_of(x).exp(x + -0.0), ["exp"]),
    "x - 0.0": (lambda x: xp_of(x).sign(x - 0.0), ["sign"]),
    "x ** 1": (lambda x: xp_of(x).exp(x**1), ["exp"]),
    "x ** 2": (lambda x: x**2, ["square"]),
    "x ** -1": (lambda x: x**-1.0, ["reciprocal"]),
    "x * -1": (lambda x: x * -1.0, ["negative"]),
    "- -x": (lambda x: xp_of(x).exp(xp_of(x).negative(-x)), ["exp"]),
    "x + (-y)": (lambda x: x + (-x[::-1]), ["getitem", "subtract"]),
    "(-x) + y": (lambda x: -x + x[::-1], ["getitem", "subtract"]),
    "x - (-y)": (lambda x: x - (-x[::-1]), ["getitem", "add"]),
    "(-x) * (-y)": (lambda x: -x * (-x[::-1]), ["getitem", "multiply"]),
    "(-x) / (-y)": (lambda x: -x / (-x[::-1]), ["getitem", "divide"]),
    "x / 4": (lambda x: x / 4.0, ["multiply"]),
    "abs(-x)": (lambda x: abs(-x), ["abs"]),
    "abs(abs(x))": (lambda x: abs(abs(x)), ["abs"]),
    "cosh(-x)": (lambda x: xp_of(x).cosh(-x), ["cosh"]),
    "square(abs(x))": (lambda x: xp_of(x).square(abs(x)), ["square"]),
    "where(c, x, x)": (lambda x: xp_of(x).exp(xp_of(x).where(x > 0, x, x)), ["exp"]),
    "maximum(x, x)": (lambda x: xp_of(x).exp(xp_of(x).maximum(x, x)), ["exp"]),
    "floor(floor(x))": (lambda x: xp_of(x).floor(xp_of(x).floor(x)), ["floor"]),
    "relu(relu(x))": (lambda x: nn.functional.relu(nn.functional.relu(x)), ["nn.relu"]),
    "not not": (lambda x: xp_of(x).logical_not(xp_of(x).logical_not(xp_of(x).logical_not(x > 0))), ["greater", "logical_not"]),
    "not equal": (lambda x: xp_of(x).logical_not(x == 0), ["not_equal"]),
    "conj": (lambda x: xp_of(x).exp(xp_of(x).conj(x)), ["exp"]),
    "astype": (lambda x: xp_of(x).exp(xp_of(x).astype(x, xp_of(x).float64)), ["exp"]),
}
KEPT: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "x + 0.0": (lambda x: x + 0.0, ["add"]),  # -0.0 + 0.0 is 0.0
    "x - -0.0": (lambda x: x - -0.0, ["subtract"]),
    "x * 0": (lambda x: x * 0.0, ["multiply"]),  # NaN, infinities, signs
    "x - x": (lambda x: x - x, ["subtract"]),
    "x / x": (lambda x: x / x, ["divide"]),
    "x ** 0.5": (lambda x: x**0.5, ["pow"]),  # sqrt(-0.0) is -0.0, sqrt(-inf) is NaN
    "x / 3": (lambda x: x / 3.0, ["divide"]),
    "not less": (lambda x: xp_of(x).logical_not(x < 0), ["less", "logical_not"]),  # NaN
    "0 - x": (lambda x: 0.0 - x, ["subtract"]),  # 0.0 - 0.0 is 0.0, -(0.0) is -0.0
}


@pytest.mark.parametrize("name", [*SAME, *KEPT])
def test_algebra_keeps_every_number(name: str) -> None:
    f, wanted = (SAME | KEPT)[name]
    g = graph.capture(f, SPECIAL)
    small = g.optimize(["algebra", "dead_code"])
    assert names(small) == wanted
    assert (names(g) == wanted) == (name in KEPT)
    with np.errstate(all="ignore"):
        assert_same_bits(small(SPECIAL), g(SPECIAL))


def test_what_changes_shape_or_dtype_is_kept() -> None:
    f = lambda x, n: (x * np.ones((2, 3)), n * 1.0, n / 1, x * (1 + 0j), n**1.0)
    g = graph.capture(f, X, np.asarray([1, 2]))
    small = g.optimize(["algebra", "dead_code"])
    assert len(small.nodes) == len(g.nodes)
    for a, b in zip(small(X, np.asarray([1, 2])), g(X, np.asarray([1, 2])), strict=True):
        assert_same_bits(a.real, b.real)
        assert a.dtype == b.dtype


# --- stabilisation ------------------------------------------------------------------------------------------------------------------------------------
FAR = np.asarray([1000.0, -1000.0, 2.0, 0.5])
STABLE: dict[str, tuple[Callable[[Any], Any], list[str], Any]] = {
    "log(softmax(x))": (lambda x: xp_of(x).log(nn.functional.softmax(x, 0)), ["nn.log_softmax"], FAR - 1000.0),
    "log(exp(x) / sum(exp(x)))": (
        lambda x: (lambda e: xp_of(x).log(e / xp_of(x).sum(e, axis=0, keepdims=True)))(xp_of(x).exp(x)), ["nn.log_softmax"], FAR - 1000.0,
    ),
    "log(1 + exp(x))": (lambda x: xp_of(x).log(1 + xp_of(x).exp(x)), ["logaddexp"], np.logaddexp(FAR, 0.0)),
    "log1p(exp(x))": (lambda x: xp_of(x).log1p(xp_of(x).exp(x)), ["logaddexp"], np.logaddexp(FAR, 0.0)),
    "log(sum(exp(x)))": (lambda x: xp_of(x).log(xp_of(x).sum(xp_of(x).exp(x))), ["nn.logsumexp"], np.asarray(1000.0)),
    "log(1 + x)": (lambda x: xp_of(x).log(1 + x * 1e-18), ["multiply", "log1p"], np.log1p(FAR * 1e-18)),
    "log(1 - x)": (lambda x: xp_of(x).log(1 - x * 1e-18), ["multiply", "negative", "log1p"], np.log1p(-FAR * 1e-18)),
    "log(exp(x))": (lambda x: xp_of(x).log(xp_of(x).exp(x)) * 2, ["multiply"], FAR * 2),
    "log(sigmoid(x))": (lambda x: xp_of(x).log(nn.functional.sigmoid(x)), ["special.log_expit"], -np.logaddexp(-FAR, 0.0)),
    "log(1 - sigmoid(x))": (
        lambda x: xp_of(x).log(1 - nn.functional.sigmoid(x)), ["negative", "special.log_expit"], -np.logaddexp(FAR, 0.0),
    ),
    "exp(x) - 1": (lambda x: xp_of(x).exp(x * 1e-18) - 1, ["multiply", "expm1"], np.expm1(FAR * 1e-18)),
    "sqrt(x * x + y ** 2)": (lambda x: (lambda y: xp_of(x).sqrt(x * x + y**2))(x[::-1]), ["getitem", "hypot"], np.hypot(FAR, FAR[::-1])),
}  # fmt: skip


@pytest.mark.parametrize("name", STABLE)
def test_what_loses_digits_is_replaced(name: str) -> None:
    f, wanted, value = STABLE[name]
    g = graph.capture(f, FAR)
    small = g.optimize(["stabilisation", "dead_code"])
    assert names(small) == wanted
    assert_close(small(FAR), value, 1e-14, 1e-14)
    near = np.asarray([0.5, -0.25, 0.125, 0.75])
    assert_close(small(near), g(near), 1e-13, 1e-13)


def test_derivatives_of_what_was_stabilised() -> None:
    g = graph.capture(lambda x: xp_of(x).log(nn.functional.softmax(x, 0))[1], FAR).optimize(["stabilisation", "dead_code"])
    assert_close(ad.grad(g)(FAR), np.asarray([-1.0, 1.0, 0.0, 0.0]), 1e-14, 1e-14)


# --- layout -------------------------------------------------------------------------------------------------------------------------------------------
MOVES: dict[str, tuple[Callable[[Any], Any], list[str] | None]] = {
    "transposed twice": (lambda m: xp_of(m).exp(m.T.T), ["exp"]),
    "permuted twice": (lambda m: xp_of(m).permute_dims(xp_of(m).permute_dims(m[None], (2, 0, 1)), (1, 0, 2)), ["getitem", "permute_dims"]),
    "reshaped twice": (lambda m: m.reshape(3, 2).reshape(6), ["reshape"]),
    "reshaped back": (lambda m: xp_of(m).exp(m.reshape(6).reshape(2, 3)), ["exp"]),
    "broadcast twice": (lambda m: xp_of(m).broadcast_to(xp_of(m).broadcast_to(m, (4, 2, 3)), (5, 4, 2, 3)), ["broadcast_to"]),
    "broadcast for nothing": (lambda m: xp_of(m).broadcast_to(m[0], (2, 3)) * m, ["getitem", "multiply"]),
    "broadcast for a need": (lambda m: xp_of(m).broadcast_to(m[0], (5, 3)) * m[1], ["getitem", "broadcast_to", "getitem", "multiply"]),
    "flipped twice": (lambda m: xp_of(m).exp(xp_of(m).flip(xp_of(m).flip(m, axis=0), axis=0)), ["exp"]),
    "flipped along both": (lambda m: xp_of(m).flip(xp_of(m).flip(m, axis=0)), ["flip"]),
    "all of it": (lambda m: xp_of(m).exp(m[:, :]), ["exp"]),
    "transpose of a product with one transpose": (lambda m: (m[:, :2] @ m.T[:2]).T, None),
    "sum of a transpose": (lambda m: m.T.sum(axis=0), ["sum"]),
    "mean over no axis": (lambda m: xp_of(m).exp(xp_of(m).mean(m, axis=())), ["exp"]),
}


@pytest.mark.parametrize("name", MOVES)
def test_moves_meet(name: str) -> None:
    f, wanted = MOVES[name]
    g = graph.capture(f, M)
    small = g.optimize(["layout", "dead_code"])
    assert names(small) == (names(g) if wanted is None else wanted)
    assert_close(small(M), g(M), 1e-15, 1e-15)


def test_a_product_takes_its_operands_as_they_lie() -> None:
    def f(a: Any, b: Any) -> Any:
        return (a.T @ b.T).T * 2.0

    a, b = M, np.sin(np.arange(8.0)).reshape(4, 2)
    g = graph.capture(f, a, b)
    small = g.optimize(["layout", "dead_code"])
    assert names(small) == ["matmul", "multiply"]
    assert_close(small(a, b), g(a, b), 1e-15, 1e-15)


# --- choosing and looking ----------------------------------------------------------------------------------------------------------------------------
def busy(x: Any) -> Any:
    xp = xp_of(x)
    xp.sin(x)
    return xp.log(xp.exp(x) + 1) * 1.0 + xp.log(1 + xp.exp(x))


@pytest.mark.parametrize("name", PASSES)
def test_each_pass_alone_keeps_the_numbers(name: str) -> None:
    for f in (busy, ad.grad(lambda x: busy(x).sum()), ad.vmap(lambda x: busy(x) * 2.0)):
        g = graph.capture(f, X)
        assert_close(g.optimize([name])(X), g(X), 1e-14, 1e-14)
        assert_close(ad.grad(lambda x, g=g: g.optimize([name])(x).sum())(X), ad.grad(lambda x, g=g: g(x).sum())(X), 1e-13, 1e-13)


def test_before_and_after_are_there_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    g = graph.capture(busy, X)
    before = repr(g)
    small = g.optimize(SIMPLIFY, show=True)
    printed = capsys.readouterr().out
    assert repr(g) == before and g.history == ()
    assert [name for name, _, _ in small.history] == list(SIMPLIFY)
    assert small.history[0][1] is g and all(seconds >= 0 for _, _, seconds in small.history)
    assert printed.splitlines()[0].split() == ["pass", "before", "after", "ms", "changes"]
    assert printed.strip() == report(small)
    (line,) = [row for row in printed.splitlines() if row.startswith("dead_code")]
    assert "-1 sin" in line and "-2 exp" not in printed.splitlines()[0]
    assert g.counts() == {"sin": 1, "exp": 2, "add": 3, "log": 2, "multiply": 1}


def test_an_unknown_pass() -> None:
    with pytest.raises(ValueError, match=r"optimize: there is no pass 'magic'; there are stabilisation, constant_folding, algebra, layout"):
        graph.capture(busy, X).optimize(["magic"])


def test_nodes_keep_their_lines() -> None:
    g = graph.capture(ad.grad(lambda x: busy(x).sum()), X)
    lines = {node.where for node in g.nodes}
    assert all(where is not None and where.startswith("test_graph_passes.py:") for where in lines)
    assert {node.where for node in g.optimize(SIMPLIFY).nodes} <= lines


# --- what is decided, and what is broadcast ---------------------------------------------------------------------------------------------
def test_a_choice_that_is_known_is_made() -> None:
    for condition, left in ((False, "x"), (True, "zero")):
        g = graph.capture(lambda x, c=condition: xp_of(x).where(np.asarray(c), 0.0, x) * 2, X).optimize(["algebra", "dead_code"])
        assert names(g) == (["multiply"] if left == "x" else ["where", "multiply"])  # 0.0 is not as large as x
        assert_same_bits(g(SPECIAL[:3]), np.where(condition, 0.0, SPECIAL[:3]) * 2)


def test_what_is_broadcast_is_computed_before() -> None:
    large = (100, 100)

    def f(x: Any, row: Any) -> Any:
        xp = xp_of(x)
        three, wide = xp.broadcast_to(xp.asarray(3.0), large), xp.broadcast_to(row, large)
        return three * 5.0 * x, xp.exp(wide) + x, wide * 2.0

    x, row = np.cos(np.arange(1e4)).reshape(large), np.sin(np.arange(100.0))
    g = graph.capture(f, x, row)
    small = g.optimize(SIMPLIFY).optimize(SIMPLIFY)
    exp, last = (next(n for n in small.nodes if n.op.name == name) for name in ("exp", "add"))
    assert exp.outputs[0].shape == (100,) and last.outputs[0].shape == large
    assert sum(n.op.name == "multiply" for n in small.nodes) == 2  # 3 * 5 is a constant; what is returned is an array of its own
    for got, want in zip(small(x, row), g(x, row), strict=True):
        assert_exact(got, want)
        assert got.flags.writeable


UNARY = ("negative", "abs", "square", "sign", "floor", "ceil", "trunc", "round", "positive", "real", "conj", "cos", "cosh")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "pow", "where")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # special values
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(40))
def test_random_programs_keep_every_number(seed: int, dtype: str) -> None:
    """NaN, infinities and the signs of zeros, in programs of operations that algebra and layout have rules for."""
    rng = np.random.default_rng(seed)
    steps = [(rng.integers(0, 3), rng.integers(0, 1000, 3)) for _ in range(10)]
    numbers = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -4.0, np.asarray(0.0, dtype), np.asarray(-0.0, dtype), np.asarray(1.0, dtype))

    def f(x: Any, y: Any) -> Any:
        xp, values = xp_of(x), [x, y]
        for kind, (which, first, second) in steps:
            a, b = values[first % len(values)], values[second % len(values)]
            n = numbers[second % len(numbers)]
            if kind == 0:
                values.append(getattr(xp, UNARY[which % len(UNARY)])(a))
            elif BINARY[which % len(BINARY)] == "where":
                values.append(xp.where(a == b, a, b))
            else:
                left, right = ((a, b), (a, n), (n, a))[kind if kind == 1 else which % 3]
                values.append(getattr(xp, BINARY[which % len(BINARY)])(left, right))
        return values[2:]

    x, y = (v.reshape(-1).astype(dtype) for v in np.meshgrid(SPECIAL, SPECIAL))
    g = graph.capture(f, x, y)
    done = g.optimize([name for name in SIMPLIFY if name != "stabilisation"] * 2)
    for got, want in zip(done.run([x, y]), g.run([x, y]), strict=True):
        assert_same_bits(got, want)
