"""Graph.to_onnx and graph.from_onnx: every operation of the table, networks and their training steps, against ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import support
from derivatives import assert_close, assert_exact
from onnx import TensorProto, helper

import agnostic_ad as ad
from agnostic_ad import graph, nn
from agnostic_ad.conformance.catalogue import Call
from agnostic_ad.encodings import FileError
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.graph.onnx_export import OPSET
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.nn import functional as F
from agnostic_ad.op import TABLE

S = graph.ShapeDtype
NUMPY = backend_of_namespace(np)
RNG = np.random.default_rng(0)


def runtime(model: Any, *arrays: Any) -> list[Any]:
    """Run a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    found: list[Any] = session.run(None, dict(zip(names, map(np.asarray, arrays), strict=True)))
    return found


def assert_same(got: Any, want: Any, tolerance: float = 1e-5) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape and got.dtype == want.dtype
    if want.dtype.kind == "f":
        both = (got == want) | (np.isnan(got) & np.isnan(want))
        assert_close(np.where(both, 0, got), np.where(both, 0, want), tolerance, tolerance)
    else:
        assert_exact(got, want)


def assert_round_trip(g: graph.Graph, *args: Any, tolerance: float = 1e-5) -> Any:
    """Give the model of a graph, which ONNX Runtime runs to the same results, and so does the graph read from it."""
    model = g.to_onnx()
    flat = ad.trees.leaves(args)
    again = graph.from_onnx(model)
    for got, want, back in zip(runtime(model, *flat), ad.trees.leaves(g(*args)), ad.trees.leaves(again(*args)), strict=True):
        assert_same(got, want, tolerance)
        assert_same(np.asarray(back), want, tolerance)
    return model


# --- operations -------------------------------------------------------------------------------------------------------------------------
LACKING = {
    *("erfinv", "ndtri", "log_ndtr", "gamma", "gammaln", "loggamma", "rgamma", "digamma", "psi", "beta", "betaln", "poch", "binom", "zeta"),
    *("polygamma", "i0", "i1", "i0e", "i1e", "j0", "j1", "k0", "k1", "ellipk", "ellipe", "gammainc", "gammaincc", "betainc", "hyp1f1"),
    *("chdtr", "chdtrc", "fdtr", "fdtrc", "stdtr", "stdtrit"),
}
WITHOUT = {f"special.{name}" for name in LACKING}
WITHOUT |= {
    f"linalg.{name}" for name in ("cholesky", "svd", "svdvals", "qr", "eigh", "eigvalsh", "eig", "eigvals", "inv", "solve", "slogdet")
}
WITHOUT |= {f"linalg.{name}" for name in ("adjugate", "pinv", "matrix_rank")} | {f"fft.{name}" for name in ("rfft", "ihfft", "rfftn")}
WITHOUT |= {"nextafter"}
"""Operations without a counterpart. (Those that take complex numbers alone are not asked.)"""
DRAWS = {"nn.keep", "nn.noise"}
LOOSE = {"special.erfcx": 1e-4, "special.erfcx'": 1e-4}  # grows as exp(x^2), and so does the rounding of x^2 in float32


def calls(name: str) -> list[Call]:
    found = [Call(TABLE[name], c, kind, "single") for c in TABLE[name].cases or () for kind in c.kinds if kind != "c" and not c.dynamic]
    return [c for i, c in enumerate(found) if i < 3 or c.kind == "f"]


NAMES = [name for name in TABLE if calls(name) and name not in DRAWS]


def of_arrays(call: Call, operands: list[Any]) -> Callable[..., Any]:
    def f(*arrays: Any) -> Any:
        there = list(operands)
        for i, x in zip(call.arrays, arrays, strict=True):
            there[i] = x
        return call(there)

    return f


def loss(call: Call, f: Callable[..., Any], arrays: list[Any]) -> tuple[Callable[..., Any], list[Any]] | None:
    moving = [k for k, i in enumerate(call.arrays) if i in call.moving]
    if not moving or call.kind != "f":
        return None

    def total(*moved: Any) -> Any:
        there = list(arrays)
        for k, x in zip(moving, moved, strict=True):
            there[k] = x
        parts = [y for y in ad.trees.leaves(f(*there)) if ad.namespace(y).isdtype(y.dtype, "real floating")]
        return functools.reduce(lambda a, b: a + b, [(y * y).sum() for y in parts], 0 * sum(x.sum() for x in moved))

    return ad.grad(total, tuple(range(len(moving)))), [arrays[k] for k in moving]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in WITHOUT])
def test_operations(name: str) -> None:
    for call in calls(name):
        operands = call.draw(NUMPY)
        arrays = [operands[i] for i in call.arrays]
        f = of_arrays(call, operands)
        try:
            model = graph.capture(f, *arrays).to_onnx()
        except UnsupportedError as error:  # one configuration of an operation that has a counterpart otherwise
            assert any(part in str(error) for part in (*WITHOUT, "complex")), error
            continue
        for got, want in zip(runtime(model, *arrays), ad.trees.leaves(f(*arrays)), strict=True):
            assert_same(got, want, LOOSE.get(name, 2e-5))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in WITHOUT and TABLE[n].differentiable])
def test_gradients(name: str) -> None:
    for call in [c for c in calls(name) if c.kind == "f"][:3]:
        operands = call.draw(NUMPY)
        arrays = [operands[i] for i in call.arrays]
        found = loss(call, of_arrays(call, operands), arrays)
        if found is None:
            continue
        gradient, point = found
        try:
            model = graph.capture(gradient, *point).to_onnx()
        except UnsupportedError as error:
            assert any(part in str(error) for part in (*WITHOUT, "complex")), error
            continue
        for got, want in zip(runtime(model, *point), gradient(*point), strict=True):
            assert_same(got, want, LOOSE.get(f"{name}'", 3e-5))


@pytest.mark.parametrize("name", sorted(WITHOUT & set(NAMES)))
def test_without_counterpart(name: str) -> None:
    call = next(c for c in calls(name) if c.kind == "f")
    operands = call.draw(NUMPY)
    g = graph.capture(of_arrays(call, operands), *(operands[i] for i in call.arrays))
    with pytest.raises(
        UnsupportedError, match=r"to_onnx: [a-z0-9_.]+, called at \w+\.py:\d+, has no counterpart among ONNX's operators \(opset 20\)"
    ):
        g.to_onnx()


def test_complex_numbers_are_refused() -> None:
    g = graph.capture(lambda x: ad.namespace(x).exp(x * 1j), S((3,), "float64"))
    with pytest.raises(UnsupportedError, match=r"to_onnx: \w+ at test_onnx.py:\d+: ONNX's operators take no complex128"):
        g.to_onnx()


def test_draws_are_the_runtimes_own() -> None:
    g = graph.capture(lambda x: F.dropout(x, 0.25), S((100, 100), "float32"))
    (y,) = runtime(g.to_onnx(), np.ones((100, 100), "float32"))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)} and 0.22 < (y == 0).mean() < 0.28


# --- networks ---------------------------------------------------------------------------------------------------------------------------
class Residual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.n = nn.BatchNorm2d(out, track_running_stats=False)
        self.b = nn.Conv2d(out, out, 3, padding=1, groups=2)
        self.s = nn.Conv2d(channels, out, 1, stride=stride)

    def forward(self, x: Any) -> Any:
        return F.relu(self.b(F.relu(self.n(self.a(x)))) + self.s(x))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        batch, time, width = x.shape
        q = self.qkv(self.n1(x)).reshape(batch, time, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q[0], q[1], q[2], is_causal=True)
        x = x + self.out(y.permute(0, 2, 1, 3).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.n2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, words: int = 11, time: int = 5, width: int = 8) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(time, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.words(tokens) + self.places(np.arange(5))
        return self.head(self.norm(self.blocks(x))).reshape(-1, 11)


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.out(self.cell(x)[0][:, -1])


def images(batch: int, size: int = 12, channels: int = 3) -> Any:
    return RNG.standard_normal((batch, channels, size, size)).astype("float32")


def mlp() -> Any:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))


def lenet() -> Any:
    convolutions = nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, 4))


def resnet() -> Any:
    stem = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
    return nn.Sequential(*stem, Residual(4, 4, 1), Residual(4, 8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


NETS: dict[str, tuple[Callable[[], Any], Callable[[int], tuple[Any, Any]]]] = {
    "mlp": (mlp, lambda n: (RNG.standard_normal((n, 6)).astype("float32"), RNG.integers(0, 4, n))),
    "lenet": (lenet, lambda n: (images(n, 12, 1), RNG.integers(0, 4, n))),
    "resnet": (resnet, lambda n: (images(n), RNG.integers(0, 4, n))),
    "gpt": (GPT, lambda n: (RNG.integers(0, 11, (n, 5)), RNG.integers(0, 11, (n, 5)))),
    "lstm": (Last, lambda n: (RNG.standard_normal((n, 3, 4)).astype("float32"), RNG.integers(0, 3, n))),
}


def training_step(name: str, rule: Any) -> tuple[Callable[..., Any], Any, Any]:
    ad.manual_seed(0)
    model = NETS[name][0]()
    parameters = {k: p.data for k, p in model.named_parameters()}
    state = rule.init(parameters)

    def step(parameters: Any, state: Any, x: Any, y: Any) -> Any:
        loss, gradient = ad.value_and_grad(lambda p: F.cross_entropy(nn.functional_call(model, p, (x,)), y.reshape(-1)))(parameters)
        parameters, state = rule.update(gradient, state, parameters)
        return loss, parameters, state

    # squares of earlier gradients: at the first step a component that is a rounding would move as far as any other
    state = ad.trees.map_tree(lambda s: np.asarray(s) + np.asarray(0.1 if np.ndim(s) else 0, getattr(s, "dtype", None)), state)
    return step, parameters, state


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_training_steps(name: str, rule: str) -> None:
    step, parameters, state = training_step(name, getattr(nn.optim, rule).rule(lr=0.01))
    x, y = NETS[name][1](3)
    g = graph.capture(step, parameters, state, x, y)
    model = assert_round_trip(g, parameters, state, x, y)
    assert model.opset_import[0].version == OPSET == 20 and len(model.opset_import) == 1
    assert {i.name for i in model.graph.input} >= {f"in0.{k}" for k in parameters}


@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet", "gpt"])
def test_a_batch_of_any_size(name: str) -> None:
    step, parameters, state = training_step(name, nn.optim.SGD.rule(lr=0.1, momentum=0.9))
    x, y = NETS[name][1](2)
    known = ad.trees.map_tree(lambda a: S(np.shape(a), str(np.asarray(a).dtype)), (parameters, state))
    g = graph.capture(step, *known, S(("batch", *x.shape[1:]), str(x.dtype)), S(("batch", *y.shape[1:]), "int64"))
    model = g.to_onnx()
    assert model.graph.input[-2].type.tensor_type.shape.dim[0].dim_param == "batch"
    again = graph.from_onnx(model)
    for n in (1, 4):
        args = (parameters, state, *NETS[name][1](n))
        for got, want, back in zip(
            runtime(model, *ad.trees.leaves(args)), ad.trees.leaves(g(*args)), ad.trees.leaves(again(*args)), strict=True
        ):
            assert_same(got, want)
            assert_same(np.asarray(back), want)


def test_fused_kernels_are_their_operations() -> None:
    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        return xp.sum(xp.exp(-x * x) * xp.sin(x) + 1)

    x = RNG.standard_normal((100, 100)).astype("float32")
    g = graph.capture(ad.grad(f), x).optimize()
    assert any(n.graphs() for n in g.nodes)
    assert_round_trip(g, x)


def test_evaluation_with_running_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)).eval()
    model[1].running_mean.data[...] = 0.3
    x = images(2)
    onnx_model = graph.capture(lambda x: model(x), x).to_onnx()  # of the parameters' values now
    (got,) = runtime(onnx_model, x)
    assert_same(got, model(x).data)
    assert_same(graph.from_onnx(onnx_model)(x), model(x).data)


def test_positions_of_any_size() -> None:
    table = RNG.standard_normal((9, 4)).astype("float32")
    g = graph.capture(
        lambda i: ad.namespace(i).take(table, ad.namespace(i).arange(i.shape[1]), axis=0) * i[0, 0], S((None, None), "float32")
    )
    model = g.to_onnx()
    for shape in ((1, 3), (2, 9)):
        x = np.full(shape, 2, "float32")
        assert_same(runtime(model, x)[0], g(x))


# --- control flow -----------------------------------------------------------------------------------------------------------------------
def choice(x: Any) -> Any:
    return graph.cond(x.sum() > 0.5, lambda x: x * 2, lambda x: ad.namespace(x).sin(x), x)


def loop(x: Any) -> Any:
    return graph.while_loop(lambda s: s[0] < 4, lambda s: (s[0] + 1, s[1] * 1.5 + x), (np.asarray(0), x))[1]


def scanned(x: Any) -> Any:
    last, rows = graph.scan(lambda c, a: (c * a + 1, c * c), x[0], x)
    return last.sum() + rows.sum()


@pytest.mark.parametrize(
    "f", [choice, ad.grad(lambda x: choice(x).sum()), loop, ad.grad(lambda x: loop(x).sum()), scanned, ad.grad(scanned)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_control_flow(f: Callable[..., Any], sign: int) -> None:
    x = (sign * np.linspace(0.2, 1.4, 12).reshape(4, 3)).astype("float32")
    model = graph.capture(f, x).to_onnx()
    for got, want in zip(runtime(model, x), ad.trees.leaves(f(x)), strict=True):
        assert_same(got, want)
    assert_same(graph.from_onnx(model)(x), ad.trees.leaves(f(x))[0])


def test_what_a_session_runs() -> None:
    with graph.Graph() as g:
        x = graph.placeholder((None, 3), "float32", name="x")
        w = graph.variable(np.ones(3, "float32"), name="w")
        y = (x * w).sum()
        (gradient,) = ad.gradients(y, [w])
        train = graph.assign(w, w - 0.1 * gradient)
    with pytest.raises(UnsupportedError, match=r"to_onnx: .* Ask for some: session\.program\(fetches\)\.to_onnx"):
        g.to_onnx()
    model = graph.Session(g).program([y, train]).to_onnx(output_names=["y", "train", "w after"])
    assert [i.name for i in model.graph.input] == ["x", "w"]
    total, *after = runtime(model, np.ones((2, 3), "float32"), np.ones(3, "float32"))
    assert total == 6
    for value in after:
        assert_close(value, np.full(3, 0.8), 1e-6, 1e-6)


@pytest.mark.parametrize("backend", support.params("array_api_strict", "torch", "jax"))
def test_graphs_of_any_library(backend: support.Backend) -> None:
    w, x = (backend.asarray(RNG.standard_normal(shape), "float32") for shape in ((3, 2), (4, 3)))
    g = graph.capture(ad.grad(lambda x: (ad.namespace(x).tanh(x @ w) * 2.0 + w[0, :]).sum()), x)
    assert_same(runtime(g.to_onnx(), backend.numpy(x))[0], backend.numpy(g(x)))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "int64", "bool"])
def test_dtypes(dtype: str) -> None:
    x = np.asarray([[0, 1, 2], [3, 1, 0]], dtype)

    def f(x: Any) -> Any:
        xp = ad.namespace(x)
        y = xp.flip(xp.concat([x, x], axis=1)[:, 1:], axis=1)
        return y, y.T, xp.astype(xp.astype(y, xp.float32) / 2, x.dtype), y == y[:, :1], xp.any(y, axis=0)

    model = graph.capture(f, x).to_onnx()
    for got, want in zip(runtime(model, x), f(x), strict=True):
        assert_same(got, want, 1e-3)  # float16 has three digits


RUNTIME_LACKS = {
    "asin",
    "acos",
    "atan",
    "atan2",
    "linalg.det",
    "nn.conv",
    "nn.conv_input",
    "nn.conv_weight",
    "nn.sum_pool",
    "nn.spread_pool",
}
RUNTIME_LACKS |= {"special.erf", "special.erfc", "special.erfcx", "special.ndtr", "nn.gelu", "nn.gelu_pull"}
"""In float64."""


@pytest.mark.parametrize("name", [n for n in NAMES if n not in WITHOUT | RUNTIME_LACKS])
def test_operations_in_float64(name: str) -> None:
    for call in [replace(c, precision="double") for c in calls(name) if c.kind == "f"][:4]:
        operands = call.draw(NUMPY)
        arrays = [operands[i] for i in call.arrays]
        f = of_arrays(call, operands)
        try:
            model = graph.capture(f, *arrays).to_onnx()
        except UnsupportedError as error:
            assert any(part in str(error) for part in (*WITHOUT, "complex")), error
            continue
        for got, want in zip(runtime(model, *arrays), ad.trees.leaves(f(*arrays)), strict=True):
            assert_same(got, want, 2e-6 if name == "nn.gelu_tanh" else 1e-10)


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    most = min(np.iinfo(dtype).max, 1 << 40)  # ONNX Runtime adds int64 in double precision
    signed = [-7, -3, -2, -1, -most] if dtype.startswith("i") else [most]
    a, b = (np.asarray(x, dtype).reshape(-1) for x in np.meshgrid([1, 2, 3, 7, *signed], [1, 2, 3, *signed]))

    def f(a: Any, b: Any) -> Any:
        xp = ad.namespace(a)
        quotients = a // b, a % b, a / b, xp.where(a < b, a, b), -a, xp.maximum(a, b), a * b - b
        powers = (b - b + 3) ** xp.astype(b == 1, a.dtype), xp.flip(a).reshape((-1, 1)) * b
        return (
            *quotients,
            *powers,
            a.sum(),
            xp.mean(a),
            xp.cumulative_sum(a),
            xp.prod(xp.sign(a)),
            xp.astype(a, xp.float64) @ xp.ones((a.shape[0],)),
        )

    with np.errstate(all="ignore"):
        for got, want in zip(runtime(graph.capture(f, a, b).to_onnx(), a, b), f(a, b), strict=True):
            assert_same(got, want)
    if dtype == "uint64":  # no runtime orders these
        return

    def ordered(a: Any) -> Any:
        xp = ad.namespace(a)
        return xp.max(a), xp.min(a), xp.argmax(a), xp.sort(a), xp.argsort(a, stable=True), xp.tril(a[:4].reshape((2, 2))) @ a[:2]

    for got, want in zip(runtime(graph.capture(ordered, a).to_onnx(), a), ordered(a), strict=True):
        assert_same(got, want)


@pytest.mark.parametrize("dtype", INTEGERS[:-1])
def test_indices(dtype: str) -> None:
    x, i = RNG.standard_normal((200, 2)).astype("float32"), np.asarray([1, 3, 120], dtype)

    def f(x: Any, i: Any) -> Any:
        xp = ad.namespace(x)
        return x[i], xp.take(x, i, axis=0), xp.take_along_axis(x, i.reshape((-1, 1)), axis=0), F.embedding(i, x)

    for got, want in zip(runtime(graph.capture(f, x, i).to_onnx(), x, i), f(x, i), strict=True):
        assert_same(got, np.asarray(getattr(want, "data", want)))
    gradient = graph.capture(ad.grad(lambda x, i: (x[i] ** 2).sum()), x, i)
    assert_same(runtime(gradient.to_onnx(), x, i)[0], gradient(x, i))


def test_booleans() -> None:
    a, b = np.asarray([[True, False], [True, True]]), np.asarray([[True, True], [False, True]])

    def f(a: Any, b: Any) -> Any:
        xp = ad.namespace(a)
        counts = xp.sum(a), xp.count_nonzero(a, axis=0), xp.all(a, axis=1), xp.any(a[:0, :], axis=0), xp.all(a[:0, :], axis=0)
        return *counts, a + b, a * b, a < b, xp.maximum(a, b), a @ b, xp.argmax(a, axis=0), xp.sort(a, axis=1), xp.mean(a), a / b

    with np.errstate(divide="ignore", invalid="ignore"):
        for got, want in zip(runtime(graph.capture(f, a, b).to_onnx(), a, b), f(a, b), strict=True):
            assert_same(got, want)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "name", ["remainder", "floor_divide", "hypot", "logaddexp", "copysign", "maximum", "minimum", "add", "multiply", "divide"]
)
def test_what_is_no_finite_number(name: str, dtype: str) -> None:
    # the largest quotient is a number that float16 counts to; 1 // 0.1 is 9
    points = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.1, 2.5, -2.5, 30.0, -97.0]
    a, b = (x.reshape(-1).astype(dtype) for x in np.meshgrid(points, points))
    f = lambda a, b: getattr(ad.namespace(a), name)(a, b)
    with np.errstate(all="ignore"):
        want = f(a, b)
    assert_same(runtime(graph.capture(f, a, b).to_onnx(), a, b)[0], want, 2e-3 if dtype == "float16" else 1e-6)


def test_angles_of_infinite_sides() -> None:
    points = np.asarray([np.nan, np.inf, -np.inf, 1.0, -1.0, 1e30], "float32")
    a, b = (x.reshape(-1) for x in np.meshgrid(points, points))
    f = lambda a, b: ad.namespace(a).atan2(a, b)
    assert_same(runtime(graph.capture(f, a, b).to_onnx(), a, b)[0], f(a, b))


def test_the_mean_of_nothing() -> None:
    x = np.zeros((3, 0), "float32")
    g = graph.capture(lambda x: (ad.namespace(x).mean(x, axis=1), ad.namespace(x).sum(x, axis=1)), x)
    mean, total = runtime(g.to_onnx(), x)
    assert np.isnan(mean).all() and (total == 0).all()


def test_models_that_the_checker_rejects() -> None:
    g = graph.capture(lambda x: TABLE["nn.gelu_pull"](x, 1.5, None), S((3,), "float16"))
    with pytest.raises(
        UnsupportedError, match=r"to_onnx: nn\.gelu_pull|to_onnx: \w+, called at test_onnx\.py:\d+, is no valid model \(opset 20\)"
    ):
        g.to_onnx()


# --- what a model says -------------------------------------------------------------------------------------------------------------------
def test_names_and_lines() -> None:
    class Twice(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    net = Twice()
    g = graph.capture(lambda p, x: {"y": net(x) + p["w"]}, {"w": S((2,), "float32")}, S((None, 2), "float32"))
    model = g.to_onnx()
    assert [i.name for i in model.graph.input] == ["in0.w", "in1"] and model.graph.output[0].name == "y"
    props = {p.key: p.value for p in model.graph.node[0].metadata_props}
    assert props["agnostic_ad.op"] == "multiply" and props["agnostic_ad.where"].startswith("test_onnx.py:")
    assert model.graph.node[0].name.startswith("Twice/")
    model = g.to_onnx(input_names=["w", "x"], output_names=["y"])
    assert [i.name for i in model.graph.input] == ["w", "x"] and model.graph.output[0].name == "y"
    with pytest.raises(ValueError, match=r"input_names are 2 different names, one for each of in0.w, in1"):
        g.to_onnx(input_names=["w"])


def test_results_that_no_operator_makes() -> None:
    constant = np.arange(3, dtype="float32")

    def f(x: Any) -> Any:
        y = x + 1
        return x, constant, y, y

    assert_round_trip(graph.capture(f, S((2,), "float32")), np.ones(2, "float32"))


def test_a_file(tmp_path: Any) -> None:
    path = tmp_path / "m.onnx"
    graph.capture(lambda x: x * 3, S((2,), "float32")).to_onnx(path)
    onnx.checker.check_model(str(path), full_check=True)
    assert_exact(graph.from_onnx(path)(np.ones(2, "float32")), np.full(2, 3, "float32"))


# --- models of others ---------------------------------------------------------------------------------------------------------------------
def model_of(nodes: list[Any], inputs: list[Any], outputs: list[str], constants: dict[str, Any] | None = None, opset: int = 20) -> Any:
    tensors = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs]
    results = [helper.make_empty_tensor_value_info(n) for n in outputs]  # of whatever dtype
    made = helper.make_graph(nodes, "g", given, results, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def one(kind: str, shape: Any, constants: dict[str, Any] | None = None, opset: int = 20, outputs: int = 1, **attributes: Any) -> Any:
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, ["x", *(constants or {})], names, **attributes)
    return model_of([node], [("x", shape)], names, constants, opset)


F4 = np.float32
I8 = np.int64
ONES: dict[str, tuple[Any, ...]] = {
    "Clip": ("Clip", (3, 4), {"a": F4(-0.5), "b": F4(0.5)}),
    "Gemm": ("Gemm", (3, 4), {"w": np.ones((2, 4), F4), "b": np.ones((1, 2), F4)}, {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    "AveragePool": ("AveragePool", (1, 2, 7, 7), {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "AveragePool in": ("AveragePool", (1, 2, 6, 6), {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    "AveragePool same": ("AveragePool", (1, 2, 5, 5), {}, {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "MaxPool": ("MaxPool", (2, 2, 7, 7), {}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "outputs": 2}),
    "GlobalAveragePool": ("GlobalAveragePool", (2, 3, 4, 4)),
    "GlobalMaxPool": ("GlobalMaxPool", (2, 3, 4, 4)),
    "BatchNormalization": ("BatchNormalization", (2, 3, 4), {k: np.full(3, v, F4) for k, v in zip("sbmv", (2.0, 1.0, 0.3, 0.7), strict=True)}),
    "LayerNormalization": ("LayerNormalization", (2, 3, 4), {"s": np.full(4, 2, F4), "b": np.ones(4, F4)}, {"outputs": 3}),
    "InstanceNormalization": ("InstanceNormalization", (2, 3, 4, 4), {"s": np.full(3, 2, F4), "b": np.ones(3, F4)}),
    "GroupNormalization": ("GroupNormalization", (2, 4, 5), {"s": np.full(2, 2, F4), "b": np.ones(2, F4)}, {"num_groups": 2}),
    "ConvTranspose": ("ConvTranspose", (1, 2, 4, 4), {"w": np.ones((2, 3, 3, 3), F4)}, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "Conv same": ("Conv", (1, 2, 5, 5), {"w": np.ones((4, 1, 3, 3), F4)}, {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "Softmax old": ("Softmax", (2, 3, 4), {}, {"opset": 11}),
    "Split": ("Split", (2, 5), {}, {"outputs": 3, "axis": 1, "num_outputs": 3}),
    "Split parts": ("Split", (5, 2), {"s": I8([2, 3])}, {"outputs": 2}),
    "TopK": ("TopK", (3, 5), {"k": I8([2])}, {"outputs": 2}),
    "Pad": ("Pad", (2, 3), {"p": I8([1, 0, 2, -1]), "v": F4(7)}),
    "Pad reflect": ("Pad", (4, 3), {"p": I8([2, 1, 1, 1])}, {"mode": "reflect"}),
    "Pad edge": ("Pad", (4, 3), {"p": I8([2, 1, 1, 1])}, {"mode": "edge"}),
    "Slice": ("Slice", (5, 6), {"a": I8([-1, 1]), "b": I8([-(1 << 63), 1 << 62]), "c": I8([0, 1]), "d": I8([-2, 2])}),
    "Slice old": ("Slice", (5, 6), {}, {"starts": [1], "ends": [4], "axes": [1], "opset": 9}),
    "Unsqueeze old": ("Unsqueeze", (5, 6), {}, {"axes": [0, 3], "opset": 11}),
    "Squeeze": ("Squeeze", (1, 6, 1)),
    "Reshape": ("Reshape", (2, 3, 4), {"s": I8([0, -1])}),
    "Expand": ("Expand", (3, 1), {"s": I8([2, 1, 4])}),
    "Tile": ("Tile", (3, 1), {"s": I8([2, 4])}),
    "Flatten": ("Flatten", (2, 3, 4), {}, {"axis": 2}),
    "CumSum": ("CumSum", (2, 3), {"a": I8(1)}, {"reverse": 1, "exclusive": 1}),
    "ReduceMean": ("ReduceMean", (2, 3, 4), {"a": I8([-1, 0])}, {"keepdims": 0}),
    "ReduceL2 old": ("ReduceL2", (2, 3, 4), {}, {"axes": [1], "opset": 13}),
    "ReduceProd": ("ReduceProd", (2, 3)),
    "ReduceLogSumExp": ("ReduceLogSumExp", (2, 3), {"a": I8([1])}),
    "ReduceSumSquare": ("ReduceSumSquare", (2, 3), {"a": I8([1])}),
    "ArgMax": ("ArgMax", (2, 3), {}, {"axis": 1}),
    "Trilu": ("Trilu", (3, 4), {"k": I8(1)}, {"upper": 0}),
    "Einsum": ("Einsum", (3, 4), {"w": np.ones((4, 2), F4)}, {"equation": "ij,jk->ki"}),
    "GatherElements": ("GatherElements", (3, 2), {"i": I8([[0, 1], [2, -1]])}),
    "GatherND": ("GatherND", (3, 2, 4), {"i": I8([[0, 1], [2, -1]])}),
    "Gather": ("Gather", (3, 2), {"i": I8([[0, -1], [1, 1]])}, {"axis": 1}),
    "ScatterElements": ("ScatterElements", (3, 3), {"i": I8([[0, 2, 1], [1, 0, 2]]), "u": np.full((2, 3), 9, F4)}, {"axis": 0}),
    "ScatterND add": ("ScatterND", (4, 2), {"i": I8([[1], [3], [1]]), "u": np.ones((3, 2), F4)}, {"reduction": "add"}),
    "Elu": ("Elu", (2, 3), {}, {"alpha": 0.5}),
    "Selu": ("Selu", (2, 3)),
    "Celu": ("Celu", (2, 3), {}, {"alpha": 2.0}),
    "LeakyRelu": ("LeakyRelu", (2, 3), {}, {"alpha": 0.3}),
    "PRelu": ("PRelu", (2, 3), {"a": np.full(3, 0.3, F4)}),
    "ThresholdedRelu": ("ThresholdedRelu", (2, 3)),
    "HardSigmoid": ("HardSigmoid", (2, 3)),
    "HardSwish": ("HardSwish", (2, 3)),
    "Mish": ("Mish", (2, 3)),
    "Gelu": ("Gelu", (2, 3), {}, {"approximate": "tanh"}),
    "Mod": ("Mod", (2, 3), {"b": np.full(3, 0.3, F4)}, {"fmod": 1}),
    "Mean": ("Mean", (2, 3), {"b": np.full(3, 0.3, F4), "c": np.ones((1, 1), F4)}),
    "Max": ("Max", (2, 3), {"b": np.full(3, 0.3, F4), "c": np.zeros((1, 1), F4)}),
    "Resize": ("Resize", (1, 1, 3, 3), {"r": F4([]), "s": F4([1, 1, 2, 2])}, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "DepthToSpace": ("DepthToSpace", (1, 8, 2, 3), {}, {"blocksize": 2, "mode": "CRD"}),
    "LSTM": ("LSTM", (4, 2, 3), {"w": np.cos(np.arange(120)).reshape(2, 20, 3).astype(F4), "r": np.sin(np.arange(200)).reshape(2, 20, 5).astype(F4), "b": np.cos(np.arange(80)).reshape(2, 40).astype(F4)}, {"outputs": 3, "direction": "bidirectional", "hidden_size": 5}),
    "GRU": ("GRU", (4, 2, 3), {"w": np.cos(np.arange(45)).reshape(1, 15, 3).astype(F4), "r": np.sin(np.arange(75)).reshape(1, 15, 5).astype(F4)}, {"outputs": 2, "hidden_size": 5, "linear_before_reset": 1, "direction": "reverse"}),
    "RNN": ("RNN", (4, 2, 3), {"w": np.cos(np.arange(15)).reshape(1, 5, 3).astype(F4), "r": np.sin(np.arange(25)).reshape(1, 5, 5).astype(F4)}, {"outputs": 2, "hidden_size": 5, "activations": ["Relu"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", ONES)
def test_operators_that_are_read(name: str) -> None:
    kind, shape, constants, attributes = (*ONES[name], {}, {})[:4]
    model = one(kind, shape, {k: np.asarray(v) for k, v in constants.items()}, **attributes)
    x = RNG.standard_normal(shape).astype("float32")
    found = graph.from_onnx(model)(x)
    for got, want in zip(found if isinstance(found, tuple) else (found,), runtime(model, x), strict=True):
        assert_same(np.asarray(got), want)


@pytest.mark.parametrize("backend", support.params("numpy", "array_api_strict", "torch", "jax"))
def test_a_model_on_any_library(backend: support.Backend) -> None:
    w = RNG.standard_normal((4, 3)).astype("float32")
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Sigmoid", ["h"], ["y"])], [("x", ("n", 4))], ["y"], {"w": w}
    )
    g, parameters = graph.from_onnx(model, xp=backend.xp, parameters=True)
    x = RNG.standard_normal((2, 4)).astype("float32")
    raw = backend.asarray(x)
    y = 1 / (1 + np.exp(-(x @ w)))
    assert_close(backend.numpy(g(parameters, raw)), y, 1e-6, 1e-6)
    gradient = ad.grad(lambda p: g(p, raw).sum())(parameters)
    assert_close(backend.numpy(gradient["w"]), x.T @ (y * (1 - y)), 1e-5, 1e-5)


def exported(model: Any, x: Any, **options: Any) -> Any:
    import io
    import warnings

    import torch

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (x,), file, dynamo=False, input_names=["x"], **options)
    return onnx.load_from_string(file.getvalue())


def test_a_network_of_torch() -> None:
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 8, 7, 2, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU6(), torch.nn.MaxPool2d(3, 2, 1), torch.nn.SiLU()
    head = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(8, 5), torch.nn.Softmax(-1)
    net, x = torch.nn.Sequential(*layers, *head), torch.randn(3, 3, 32, 32)
    g = graph.from_onnx(exported(net, x, dynamic_axes={"x": {0: "batch"}}))
    for n in (1, 3):
        assert_close(g(x[:n].numpy()), net(x[:n]).detach().numpy(), 1e-5, 1e-6)
    gradient = ad.grad(lambda x: g(x)[:, 0].sum())(x.numpy())
    x.requires_grad_()
    net(x)[:, 0].sum().backward()
    assert_close(gradient, x.grad.numpy(), 1e-4, 1e-6)  # float32, through a softmax


def test_an_encoder_of_torch() -> None:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
    net, x = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(3, 5, 16)
    g = graph.from_onnx(exported(net, x, dynamic_axes={"x": {0: "batch"}}))
    for n in (1, 3):
        assert_close(g(x[:n].numpy()), net(x[:n]).detach().numpy(), 1e-5, 1e-5)


def torch_nets() -> dict[str, tuple[Any, Any, Any]]:
    from torch import nn as tn
    from torch import randn

    class First(tn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> Any:
            return self.inner(x)[0]

    class Attends(tn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Any) -> Any:
            return self.inner(x, x, x, need_weights=False)[0]

    class Pieces(tn.Module):
        def forward(self, x: Any) -> Any:
            b, c = x.shape
            return x.view(b, c // 2, 2).transpose(1, 2).reshape(b, -1)[:, : c - 1]

    mobile = (
        tn.Conv2d(2, 4, 1),
        tn.BatchNorm2d(4),
        tn.Hardswish(),
        tn.Conv2d(4, 4, 3, padding=1, groups=4, stride=2),
        tn.AdaptiveAvgPool2d(2),
    )
    return {
        "lstm": (First(tn.LSTM(4, 5, batch_first=True)), randn(2, 3, 4), 0),
        "two ways": (First(tn.LSTM(4, 5, num_layers=2, bidirectional=True)), randn(3, 2, 4), None),
        "gru": (First(tn.GRU(4, 5)), randn(3, 2, 4), None),
        "rnn": (First(tn.RNN(4, 5)), randn(3, 2, 4), None),
        "nearest": (tn.Upsample(size=(7, 9)), randn(2, 2, 4, 4), 0),
        "bilinear": (tn.Upsample(scale_factor=2, mode="bilinear"), randn(2, 2, 4, 4), 0),
        "corners": (tn.Upsample(size=(7, 5), mode="bilinear", align_corners=True), randn(2, 2, 4, 4), 0),
        "bicubic": (tn.Upsample(size=(7, 9), mode="bicubic"), randn(2, 2, 4, 4), 0),
        "attention": (Attends(), randn(2, 3, 8), 0),
        "pieces": (Pieces(), randn(2, 6), 0),
        "mobile": (tn.Sequential(*mobile), randn(2, 2, 8, 8), 0),
        "groups": (tn.Sequential(tn.GroupNorm(2, 4), tn.InstanceNorm2d(4), tn.ELU(), tn.PReLU()), randn(2, 4, 3, 3), 0),
        "transposed": (tn.Sequential(tn.ConvTranspose2d(2, 3, 3, 2, 1, 1), tn.ReflectionPad2d(1)), randn(2, 2, 4, 4), 0),
    }


@pytest.mark.parametrize(
    "name",
    [
        "lstm",
        "two ways",
        "gru",
        "rnn",
        "nearest",
        "bilinear",
        "corners",
        "bicubic",
        "attention",
        "pieces",
        "mobile",
        "groups",
        "transposed",
    ],
)
def test_values_and_gradients_of_torch(name: str) -> None:
    import torch

    torch.manual_seed(0)
    net, x, batch = torch_nets()[name]
    g = graph.from_onnx(exported(net, x, **({} if batch is None else {"dynamic_axes": {"x": {batch: "batch"}}})))
    x = x if batch is None else torch.cat([x, 0.5 * x])
    x.requires_grad_()
    y = net(x)
    assert_close(g(x.detach().numpy()), y.detach().numpy(), 1e-5, 1e-5)
    (y**2).sum().backward()
    assert_close(ad.grad(lambda x: (g(x) ** 2).sum())(x.detach().numpy()), x.grad.numpy(), 1e-5, 1e-5)


# --- what is refused ----------------------------------------------------------------------------------------------------------------------
def test_unknown_operator() -> None:
    node = helper.make_node("Whatever", ["x"], ["y"], name="here", domain="com.example")
    with pytest.raises(UnsupportedError, match=r"from_onnx: the model: Whatever \(here\) is no operator that is read here"):
        graph.from_onnx(model_of([node], [("x", (2,))], ["y"]))


def test_shapes_from_values() -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["y"], name="here")
    model = model_of([helper.make_node("Cast", ["x"], ["s"], to=TensorProto.INT64), node], [("x", (2,))], ["y"])
    with pytest.raises(UnsupportedError, match=r"Reshape \(here\) needs values that only a run tells"):
        graph.from_onnx(model)


def test_files_that_are_no_models(tmp_path: Any) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff\xffnothing")
    with pytest.raises(FileError, match=r"m\.onnx is no ONNX model, or is damaged"):
        graph.from_onnx(path)
    with pytest.raises(FileNotFoundError):
        graph.from_onnx(tmp_path / "none.onnx")


def typed(nodes: list[Any], constants: dict[str, Any] | None = None, opset: int = 20) -> Any:
    model = model_of(nodes, [("x", (2, 3))], ["y"], constants, opset)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("a", "b")))
    return model


BROKEN: dict[str, tuple[Any, str]] = {
    "lost": (lambda: typed([helper.make_node("Add", ["x", "q"], ["y"])]), r"no valid ONNX model: .*q"),
    "no result": (lambda: typed([helper.make_node("Neg", ["x"], ["z"])]), r"no operator gives the result y|no valid ONNX model"),
    "circle": (lambda: typed([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]), r"no valid ONNX model"),
    "operands": (lambda: typed([helper.make_node("Neg", ["x", "x"], ["y"])]), r"no valid ONNX model: .*Neg"),
    "attribute": (lambda: typed([helper.make_node("Concat", ["x", "x"], ["y"])]), r"no valid ONNX model: .*axis"),
    "opset": (lambda: typed([helper.make_node("Neg", ["x"], ["y"])], opset=999), r"is of opset 999, and onnx [\d.]+ knows those up to \d+"),
    "shapes": (
        lambda: typed([helper.make_node("MatMul", ["x", "x"], ["y"])]),
        r"MatMul does not fit its operands: matmul: shapes \(2, 3\)",
    ),
    "axis": (lambda: typed([helper.make_node("Transpose", ["x"], ["y"], perm=[0, 5])]), r"Transpose does not fit its operands: .*axis 5"),
    "reshape": (lambda: typed([helper.make_node("Reshape", ["x", "s"], ["y"])], {"s": I8([5])}), r"Reshape does not fit its operands"),
    "dtype": (lambda: typed([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)]), r"STRING is no dtype that arrays have here"),
    "training": (
        lambda: typed([helper.make_node("Dropout", ["x", "r", "t"], ["y"])], {"r": F4(0.5), "t": np.bool_(True)}),
        r"Dropout in training mode is not read",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_models(name: str) -> None:
    make, text = BROKEN[name]
    with pytest.raises((FileError, UnsupportedError), match=text) as error:
        graph.from_onnx(make())
    assert "\n" not in str(error.value)


def test_a_constant_that_is_cut_off() -> None:
    model = typed([helper.make_node("Add", ["x", "w"], ["y"])], {"w": np.ones((2, 3), F4)})
    model.graph.initializer[0].raw_data = b"123"
    with pytest.raises(FileError, match=r"the constant w is damaged, or in a file that is not there"):
        graph.from_onnx(model)
