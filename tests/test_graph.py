"""graph.capture: what is abstract agrees with what is computed; graphs run under every transformation."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.errors import EscapedArrayError, UnsupportedError

X = np.asarray([0.3, -1.2, 0.7])
M = np.cos(np.arange(6.0)).reshape(2, 3)
Pair = namedtuple("Pair", ["a", "b"])


def f(x: Any) -> Any:
    xp = ad.namespace(x)
    return xp.sum(xp.sin(x) * x + x[0] * xp.exp(x))


def setter(x: Any) -> Any:
    y = x * 2
    y[1:] = x[:-1] ** 2
    y[0] += 1.0
    return y


@ad.custom_vjp
def clipped(x: Any) -> Any:
    return x


clipped.defvjp(lambda x: (x, None), lambda _, ct: (ad.namespace(ct).clip(ct, -0.5, 0.5),))

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elementwise": (lambda x: ad.namespace(x).exp(-x * 2.0 + 1) / (x**2 + 1), (X,)),
    "float32": (lambda x: 2.0 * x / 3 + ad.namespace(x).sin(x), (X.astype("float32"),)),
    "mixed": (lambda x, y: x * y, (X.astype("float32"), X)),
    "integers": (lambda n: n * 2 + ad.namespace(n).sum(n), (np.asarray([1, 2, 3], "int32"),)),
    "comparison": (lambda x: (x > 0) & (x < 1), (X,)),
    "complex": (lambda z: ad.namespace(z).real(z * ad.namespace(z).conj(z)), (X + 1j,)),
    "reductions": (lambda m: (m.sum(), m.mean(axis=0), m.max(axis=1, keepdims=True), m.argmax(axis=0), m.var(axis=(0, 1))), (M,)),
    "shapes": (lambda m: (m.T, m.reshape(3, 2), m[None], m.ravel(), ad.namespace(m).expand_dims(m, axis=-1)), (M,)),
    "indexing": (lambda m: (m[0], m[:, 1:], m[..., ::-1], m[1, 2], m[None, :, 0]), (M,)),
    "gather": (lambda m: (m[:, [2, 0, 2]], ad.namespace(m).take(m, np.asarray([1, 0]), axis=0)), (M,)),
    "matmul": (lambda m, x: (m @ x, m @ m.T, x @ x), (M, X)),
    "concat": (lambda x: ad.namespace(x).concat([x, ad.namespace(x).stack([x[0], x[1]])]), (X,)),
    "sort": (lambda x: (ad.namespace(x).sort(x), ad.namespace(x).argsort(x)), (X,)),
    "where": (lambda x: ad.namespace(x).where(x > 0, x, -x * 2), (X,)),
    "setitem": (setter, (X,)),
    "creation": (lambda x: ad.namespace(x).ones(3) * x + ad.namespace(x).arange(3) + ad.namespace(x).zeros_like(x), (X,)),
    "constants": (lambda x: x * np.asarray([1.0, 2.0, 3.0]) + X, (X,)),
    "cumulative": (lambda x: ad.namespace(x).cumulative_sum(x, axis=0), (X,)),
    "linspace": (lambda x: ad.namespace(x).linspace(0.0, 1.0, 3) * x, (X,)),
    "astype": (lambda x: x.astype("float32") + 1, (X,)),
    "grad": (ad.grad(f), (X,)),
    "value_and_grad": (ad.value_and_grad(f), (X,)),
    "grad of grad": (ad.grad(lambda x: ad.grad(f)(x).sum()), (X,)),
    "vjp": (lambda x: ad.vjp(lambda x: x * x, x)[1](x)[0], (X,)),
    "jvp": (lambda x, t: ad.jvp(f, (x,), (t,)), (X, X + 1)),
    "linearize": (lambda x, t: ad.linearize(f, x)[1](t), (X, X + 1)),
    "jacfwd": (ad.jacfwd(lambda x: x * x.sum()), (X,)),
    "jacrev": (ad.jacrev(lambda x: x * x.sum()), (X,)),
    "hessian": (ad.hessian(f), (X,)),
    "hvp": (lambda x, t: ad.hvp(f, (x,), (t,))[0], (X, X + 1)),
    "vmap": (ad.vmap(f), (M,)),
    "vmap axes": (ad.vmap(lambda m, x: m * x, in_axes=(1, None), out_axes=1), (M, np.asarray([1.0, 2.0]))),
    "vmap of grad": (ad.vmap(ad.grad(f)), (M,)),
    "grad of vmap": (ad.grad(lambda m: ad.vmap(f)(m).sum()), (M,)),
    "checkpoint": (ad.grad(lambda x: ad.checkpoint(f)(x)), (X,)),
    "custom_vjp": (ad.grad(lambda x: (clipped(x) * 3).sum()), (X,)),
    "stop_gradient": (ad.grad(lambda x: (x * ad.stop_gradient(x)).sum()), (X,)),
    "no_grad": (ad.no_grad()(lambda x: x * 2), (X,)),
}


def specs(args: Any) -> Any:
    return ad.trees.map_tree(lambda a: graph.ShapeDtype(a.shape, str(a.dtype)), args)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_abstract_is_actual(name: str) -> None:
    fn, args = FUNCTIONS[name]
    g = graph.capture(fn, *specs(args))
    # every node's shape and dtype against those of its value
    flat, values = ad.trees.leaves(list(args)), {}
    for node, x in zip(g.inputs, flat, strict=True):
        values[id(node)] = (x,)
    for node in g.nodes:
        assert node.op is not None
        operands = tuple(values[id(i.node)][i.index] if type(i).__name__ == "Output" else i for i in node.inputs)
        y = node.op.run(operands, node.params)
        values[id(node)] = y = y if isinstance(y, tuple) else (y,)
        for known, value in zip(node.outputs, y, strict=True):
            assert tuple(known.shape) == tuple(value.shape) and known.dtype == value.dtype, node
    # and the results against the plain call's
    got, want = g(*args), fn(*args)
    assert ad.trees.flatten(got)[1] == ad.trees.flatten(want)[1]
    for a, b in zip(ad.trees.leaves(got), ad.trees.leaves(want), strict=True):
        assert type(a) is np.ndarray and a.dtype == b.dtype
        assert_close(a, b, 1e-6 if a.dtype == np.float32 else 1e-14, 1e-6 if a.dtype == np.float32 else 1e-14)


def test_a_graph_has_no_values_of_the_call_that_made_it() -> None:
    g = graph.capture(f, X)
    assert_exact(g(X + 1), f(X + 1))
    assert_exact(g(X * 0), f(X * 0))


def test_capture_runs_the_function_once() -> None:
    calls = []
    g = graph.capture(lambda x: (calls.append(1), x * 2)[1], X)
    g(X)
    g(X)
    assert len(calls) == 1


def test_trees_in_and_out() -> None:
    def fn(p: Any, pair: Any) -> Any:
        return {"y": p["w"] * pair.a, "l": [pair.b, None], "p": Pair(p["b"], 3.0)}

    p, pair = {"w": X, "b": X + 1}, Pair(X + 2, X + 3)
    g = graph.capture(fn, specs(p), specs(pair))
    got = g(p, pair)
    assert_exact(got["y"], X * (X + 2))
    assert got["l"][1] is None and isinstance(got["p"], Pair) and got["p"].b == 3.0
    assert_exact(got["l"][0], X + 3)


def test_inputs_and_constants_as_outputs() -> None:
    constant = np.ones(2)
    a, b, c = graph.capture(lambda x: (x, constant, 5.0), X)(X)
    assert_exact(a, X)
    assert_exact(b, constant)
    assert c == 5.0


def test_nodes_inputs_outputs_and_text() -> None:
    g = graph.capture(lambda x: ad.namespace(x).sin(x) * 2, graph.ShapeDtype((3,), "float64"))
    assert [n.op.name for n in g.nodes if n.op] == ["sin", "multiply"]
    assert len(g.inputs) == 1 and g.inputs[0].outputs[0].shape == (3,) and len(g.outputs) == 1
    text = repr(g)
    assert "sin(in0)" in text and "float64[3]" in text and "return" in text


# --- replay under transformations ------------------------------------------------------------------------------------------------------------
def test_graphs_are_differentiated_batched_and_captured_again() -> None:
    g = graph.capture(f, graph.ShapeDtype((3,), "float64"))
    assert_exact(ad.grad(g)(X), ad.grad(f)(X))
    assert_exact(ad.hessian(g)(X), ad.hessian(f)(X))
    assert_exact(ad.vmap(g)(M), ad.vmap(f)(M))
    assert_exact(ad.vmap(ad.grad(g))(M), ad.vmap(ad.grad(f))(M))
    assert_exact(ad.jvp(g, (X,), (X,))[1], ad.jvp(f, (X,), (X,))[1])
    again = graph.capture(ad.grad(g), graph.ShapeDtype((3,), "float64"))
    assert_exact(again(X), ad.grad(f)(X))
    assert_exact(ad.grad(lambda x: again(x).sum())(X), ad.hessian(f)(X).sum(axis=0))
    x = ad.Variable(X)
    y = g(x)
    assert isinstance(y, ad.Variable)
    y.backward()
    assert_exact(x.grad, ad.grad(f)(X))


def test_closures_over_variables_stay_connected() -> None:
    w = ad.Variable(X + 1)
    g = graph.capture(lambda x: (w * x).sum(), X)
    y = g(X)
    assert isinstance(y, ad.Variable) and y.requires_grad
    y.backward()
    assert_exact(w.grad, X)


def test_captures_nest() -> None:
    def outer(x: Any) -> Any:
        inner = graph.capture(lambda y: y * y + 1, graph.ShapeDtype((3,), "float64"))
        return inner(x * 2)

    g = graph.capture(outer, X)
    assert_exact(g(X), (2 * X) ** 2 + 1)


def test_capture_inside_grad() -> None:
    def fn(x: Any) -> Any:
        g = graph.capture(lambda y: y * x, graph.ShapeDtype((), "float64"))
        return g(x * 2)

    assert_exact(ad.grad(fn)(3.0), 12.0)


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_on_every_library(backend: support.Backend) -> None:
    x = backend.asarray(X)
    g = graph.capture(ad.value_and_grad(f), x)
    value, d = g(x)
    assert type(d) is type(x)
    assert_close(backend.numpy(d), ad.grad(f)(X), 1e-13, 1e-13)
    assert_close(backend.numpy(value), f(X), 1e-13, 1e-13)


# --- errors -------------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "fn"),
    [
        (r"`if`, `while`, `and` and `or` need a value, but capture\(fn\) is being captured.*xp\.where", lambda x: x if x.sum() > 0 else -x),
        (r"test_graph\.py:\d+\)\. Use graph\.cond\(condition, true_fn, false_fn", lambda x: x if x.sum() > 0 else -x),
        (r"graph\.while_loop in place of `while`", lambda x: x if (x > 0).all() and x[0] else -x),
        (r"float\(\) needs a value, but capture\(fn\)", lambda x: x * float(x[0])),
        (r"int\(\) needs a value", lambda x: x * int(x[0])),
        (r"item\(\) needs a value", lambda x: x * x[0].item()),
        (r"tolist\(\) needs a value", lambda x: x.tolist()),
    ],
)
def test_what_needs_a_value(message: str, fn: Callable[[Any], Any]) -> None:
    fn.__name__ = "fn"
    with pytest.raises(UnsupportedError, match=message):
        graph.capture(fn, X)


@pytest.mark.parametrize(
    ("message", "convert"),
    [
        (r"np\.asarray\(\) needs a value, but capture\(", np.asarray),
        (r"numpy\(\) needs a value, but capture\(", lambda x: x.numpy()),
        (r"__dlpack__ needs a value, but capture\(", np.from_dlpack),
    ],
)
def test_a_traced_array_is_not_converted(message: str, convert: Callable[[Any], Any]) -> None:
    with pytest.raises(UnsupportedError, match=message):
        graph.capture(convert, X)


def test_masks_have_no_shape() -> None:
    with pytest.raises((UnsupportedError, NotImplementedError)):
        graph.capture(lambda x: x[x > 0], X)


def test_wrong_calls_and_specs() -> None:
    g = graph.capture(lambda x, y: x + y, X, X)
    with pytest.raises(
        TypeError, match=r"capture\(<lambda>\): input in0 has shape \(2,\) and dtype float64; captured with \(3,\), float64"
    ):
        g(X[:2], X)
    with pytest.raises(TypeError, match=r"input in1 has shape \(3,\) and dtype float32"):
        g(X, X.astype("float32"))
    with pytest.raises(TypeError, match=r"called with structure .*, captured with"):
        g(X)
    with pytest.raises(TypeError, match=r"capture takes arrays and graph\.ShapeDtype\(shape, dtype\) as specs, not str"):
        graph.capture(f, "text")
    with pytest.raises(
        TypeError, match=r"capture\(f\): 2\.5 in the shape \(2\.5, 3\) is no size: an integer, None for any size, or a name is"
    ):
        graph.capture(f, graph.ShapeDtype((2.5, 3), "float64"))  # type: ignore[arg-type]


def test_wrong_shapes_are_found_while_capturing() -> None:
    for fn in (lambda x: x + np.ones(2), lambda x: x @ np.ones((2, 2)), lambda x: x.reshape(5), lambda x: x[7]):
        with pytest.raises((ValueError, IndexError)):
            graph.capture(fn, X)
    assert ad.is_grad_enabled() and ad.grad(lambda x: x * x)(2.0) == 4.0


def test_a_traced_array_used_after_its_capture() -> None:
    kept = []
    graph.capture(lambda x: kept.append(x) or x * 2, X)
    with pytest.raises(RuntimeError, match=r"capture\(<lambda>\).*after that transformation returned"):
        kept[0] * 2


def test_a_function_may_change_its_argument() -> None:
    def f(x: Any) -> Any:
        x += 1
        return x * 2

    given = np.ones(3)
    np.testing.assert_array_equal(graph.capture(f, given)(given), np.full(3, 4.0))
    np.testing.assert_array_equal(given, np.ones(3))


def test_a_traced_array_prints_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    def fn(x: Any) -> Any:
        y = x[1:] * 2
        print(y)
        return y

    g = graph.capture(fn, X)
    line = fn.__code__.co_firstlineno
    assert capsys.readouterr().out == f"Traced(v1: float64[2], test_graph.py:{line + 1})\n"
    assert [node.where for node in g.nodes] == [f"test_graph.py:{line + 1}"] * 2


# --- side effects -------------------------------------------------------------------------------------------------------------------------------
def test_what_a_graph_cannot_keep_is_refused() -> None:
    plain, variable, weight = np.zeros(3), ad.Variable(np.zeros(3)), ad.Variable(np.ones(3))

    def into(target: Any) -> Callable[[Any], Any]:
        def fn(x: Any) -> Any:
            target[0] = x[0]
            return x

        return fn

    def add(x: Any) -> Any:
        target = plain
        target += x
        return x

    def set_grad(x: Any) -> Any:
        weight.grad = x
        return x

    cases: list[tuple[type[Exception], str, Callable[[Any], Any]]] = [
        (UnsupportedError, r"float\(\) needs a value, but capture\(fn\) is being captured: .* \(test_graph\.py:\d+\)", into(plain)),
        (EscapedArrayError, r"cannot hold a value of capture\(fn\)", into(variable)),
        (TypeError, r"numpy\.add: out is a plain ndarray", add),
        (EscapedArrayError, r"grad: an array of the define-by-run tape cannot keep a value of capture\(set_grad\)", set_grad),
        (UnsupportedError, r"backward\(\) adds into \.grad of arrays outside of capture\(.*\(test_graph\.py:\d+\).*ad\.value_and_grad", lambda x: (weight * x).sum().backward()),
    ]  # fmt: skip
    for error, message, fn in cases:
        with pytest.raises(error, match=message):
            graph.capture(fn, X)
    assert_exact(plain, np.zeros(3))
    assert_exact(variable.data, np.zeros(3))
    assert weight.grad is None


# --- draws --------------------------------------------------------------------------------------------------------------------------------------
DRAWS: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
    "rrelu": lambda x: nn.functional.rrelu(x, training=True),
    "gumbel": lambda x: nn.functional.gumbel_softmax(x),
    "fractional pooling": lambda x: nn.functional.fractional_max_pool2d(x.reshape(1, 1, 4, 4), 2, output_size=2),
    "uniform_": lambda x: (x * 1.0).uniform_(-1.0, 3.0),
    "normal_": lambda x: (x * 1.0).normal_(1.0, std=2.0),
    "bernoulli_": lambda x: (x * 1.0).bernoulli_(0.3),
}


@pytest.mark.parametrize("optimised", [False, True], ids=["captured", "optimised"])
@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_made_anew_and_are_those_of_the_plain_call(name: str, optimised: bool) -> None:
    fn, x = DRAWS[name], np.linspace(-1.0, 1.0, 16)
    g = graph.capture(fn, x)
    g = g.optimize() if optimised else g
    ad.manual_seed(3)
    want = [fn(ad.Variable(x)) for _ in range(3)]
    ad.manual_seed(3)
    got = [g(x) for _ in range(3)]
    for a, b in zip(got, want, strict=True):
        assert_close(a, b.data, 1e-15, 1e-15)
    if name != "fractional pooling":  # which has few places to choose from
        assert not np.array_equal(got[0], got[1])


def test_a_generator_of_its_own_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="uniform_ of an array without values draws from the default generator"):
        graph.capture(lambda x: (x * 1.0).uniform_(generator=ad.Generator(0)), X)


def test_what_moves_is_elsewhere_from_then_on() -> None:
    xp = pytest.importorskip("array_api_strict")
    there, here = xp.Device("device1"), xp.Device("CPU_DEVICE")

    def f(x: Any) -> Any:
        y = x.to_device(here)
        assert str(y.device) == str(here)
        return y * ad.namespace(y).ones_like(y)

    y = graph.capture(f, xp.zeros(3, device=there))(xp.ones(3, device=there))
    assert str(y.device) == str(here)


@pytest.mark.parametrize("name", ["divide", "mean", "var", "sqrt", "exp", "linalg.vector_norm"])
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint32", "bool"])
def test_functions_of_integers_have_the_librarys_dtype(name: str, dtype: str) -> None:
    x = np.ones((3,), dtype)

    def f(x: Any) -> Any:
        found = ad.namespace(x)
        for part in name.split("."):
            found = getattr(found, part)
        return found(x, x) if name == "divide" else found(x)

    g = graph.capture(f, x)
    assert g.outputs[0].spec.dtype == f(x).dtype == g(x).dtype


@pytest.mark.parametrize(
    ("kind", "message", "run"),
    [
        (ValueError, r"the shape \(-2,\) has a negative size; None is an axis of any size", lambda: graph.ShapeDtype((-2,), "float32")),
        (TypeError, r"True in the shape \(True,\) is no size", lambda: graph.ShapeDtype((True,), "float32")),
    ],
)
def test_shapes_that_are_none(kind: type[Exception], message: str, run: Any) -> None:
    with pytest.raises(kind, match=rf"capture\(<lambda>\): {message}"):
        graph.capture(lambda x: x * 2, run())
    with graph.Graph(), pytest.raises(kind, match=f"placeholder: {message}"):
        graph.placeholder(run().shape)
    with graph.Graph(), pytest.raises(TypeError, match=r"placeholder: 3 is no shape: a tuple of sizes is, such as \(3,\)"):
        graph.placeholder(3)


def test_an_array_of_another_library_is_refused_by_name() -> None:
    strict = pytest.importorskip("array_api_strict")
    g = graph.capture(lambda x: x * 2, np.ones(3))
    with pytest.raises(TypeError, match=r"capture\(<lambda>\): input in0 is an array of .*strict.*; the graph is for numpy"):
        g(strict.ones(3))
