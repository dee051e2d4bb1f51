"""Activations: what torch's lists of cases leave open."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn import functional as F

torch = pytest.importorskip("torch")
T = torch.nn.functional

# Functions of one array, with arguments that are not the defaults.
CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("relu", ()), ("relu6", ()), ("hardtanh", (-0.5, 2.0)), ("threshold", (0.5, 3.0)), ("leaky_relu", (0.2,)), ("elu", (1.5,)), ("selu", ()),
    ("celu", (0.7,)), ("gelu", ()), ("silu", ()), ("mish", ()), ("hardsigmoid", ()), ("hardswish", ()), ("sigmoid", ()), ("logsigmoid", ()),
    ("tanh", ()), ("tanhshrink", ()), ("softplus", (2.0, 3.0)), ("softsign", ()), ("hardshrink", (0.7,)), ("softshrink", (0.7,)), ("glu", (0,)),
    ("softmax", (0,)), ("softmin", (0,)), ("log_softmax", (0,)), ("rrelu", (0.1, 0.3)),
]  # fmt: skip
IDS = [name for name, _ in CALLS]


def gelu_tanh(lib: Any) -> Any:
    return lambda x: lib.gelu(x, approximate="tanh")


@pytest.mark.parametrize(("name", "args"), CALLS, ids=IDS)
def test_values_and_gradients_at_kinks_and_far_out(name: str, args: Any) -> None:
    """Where the pieces meet, and where exponentials overflow; a warning would be an error."""
    bends = [0.0, -0.0, 0.5, -0.5, 0.7, -0.7, 1.0, -1.0, 1.5, 2.0, 3.0, -3.0, 6.0]
    x = np.asarray([*bends, 1e-9, -1e-9, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4, 800.0, -800.0, 1e30])
    v, t = ad.Variable(x), torch.tensor(x, requires_grad=True)
    y, z = getattr(F, name)(v, *args), getattr(T, name)(t, *args)
    assert_close(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-15)
    ct = np.linspace(-1.0, 2.0, y.size)
    y.backward(ct)
    z.backward(torch.tensor(ct))
    single = name in ("celu", "hardsigmoid", "hardswish")  # where torch keeps 1 / 6, and alpha, in single precision
    assert_close(v.grad, t.grad.numpy(), rtol=1e-7 if single else 1e-10, atol=1e-14)


@pytest.mark.parametrize(
    "name", ["gelu", "gelu_tanh", "silu", "mish", "sigmoid", "logsigmoid", "softplus", "elu", "hardtanh", "hardswish", "prelu"]
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_lower_precisions_stay(name: str, dtype: str) -> None:
    x = np.asarray([[-600.0, -9.0, -2.5, -0.6], [0.25, 1.0, 4.0, 600.0]])

    def ours(lib: Any, x: Any) -> Any:
        if name == "prelu":
            return lib.prelu(x, lib.weight)
        return lib.gelu(x, approximate="tanh") if name == "gelu_tanh" else getattr(lib, name)(x)

    class Ours:
        weight = np.asarray([0.5], dtype)

        def __getattr__(self, key: str) -> Any:
            return getattr(F, key)

    class Theirs:
        weight = torch.tensor([0.5], dtype=torch.float64)

        def __getattr__(self, key: str) -> Any:
            return getattr(T, key)

    v, t = ad.Variable(x.astype(dtype)), torch.tensor(x.astype(dtype).astype("float64"), requires_grad=True)
    y, z = ours(Ours(), v), ours(Theirs(), t)
    assert y.dtype == dtype
    tolerance = {"float16": 2e-3, "float32": 3e-7}[dtype]  # two roundings or three of half precision; of single, those of a polynomial too
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=tolerance, atol=tolerance)
    y.backward(np.ones(y.shape, dtype))
    z.backward(torch.ones_like(z))
    assert v.grad.dtype == dtype
    np.testing.assert_allclose(v.grad, t.grad.numpy(), rtol=2 * tolerance, atol=2 * tolerance)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_large_arrays_in_blocks(rng: np.random.Generator, name: str, approximate: str) -> None:
    """More than a block, not contiguous, and with infinities, in single precision: as near to the truth as torch is, or nearer than 3e-7."""
    x = (rng.normal(size=(311, 613)) * 3).astype("float32").T
    args = {"approximate": approximate} if name == "gelu" else {}
    v, t = ad.Variable(x), torch.tensor(x.astype("float64"), requires_grad=True)
    y, z = getattr(F, name)(v, **args), getattr(T, name)(t, **args)
    ct = rng.normal(size=x.shape).astype("float32")
    y.backward(ct)
    z.backward(torch.tensor(ct.astype("float64")))
    assert y.dtype == v.grad.dtype == np.float32
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=3e-7, atol=3e-7)  # some roundings of single precision
    np.testing.assert_allclose(v.grad / ct, t.grad.numpy() / ct, rtol=1e-6, atol=1e-6)  # the polynomial's derivative is 4e-7 off
    ends = getattr(F, name)(np.asarray([np.inf, -50.0, np.nan], dtype="float32"), **args)
    np.testing.assert_array_equal(ends[[0, 2]], [np.inf, np.nan])
    assert abs(ends[1]) < 1e-18


@pytest.mark.parametrize(
    "name", ["gelu", "gelu_tanh", "silu", "mish", "softplus", "elu", "sigmoid", "logsigmoid", "softsign", "tanhshrink", "hardswish"]
)
def test_second_derivatives(rng: np.random.Generator, name: str) -> None:
    x = rng.uniform(0.3, 2.5, size=(2, 3)) * np.asarray([1.0, -1.0, 1.0])
    ad.check_grads(gelu_tanh(F) if name == "gelu_tanh" else getattr(F, name), (x,), order=2)


def test_second_derivatives_beside_torch(rng: np.random.Generator) -> None:
    x = rng.normal(size=50) * 2
    for name in ("gelu", "gelu_tanh", "silu", "mish", "softplus", "sigmoid"):
        ours, theirs = (gelu_tanh(lib) if name == "gelu_tanh" else getattr(lib, name) for lib in (F, T))
        t = torch.tensor(x, requires_grad=True)
        (first,) = torch.autograd.grad(theirs(t).sum(), t, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), t)
        got = ad.elementwise_grad(ad.elementwise_grad(ours))(x)
        np.testing.assert_allclose(got, second.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_vmap_and_0d_and_empty(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 6))
    for name, args in CALLS:
        call = getattr(F, name)
        assert_exact(ad.vmap(lambda a, call=call, args=args: call(a, *args))(x), np.stack([call(row, *args) for row in x]))
        if name == "glu":
            continue
        one = np.asarray(0.3)
        wanted = getattr(T, name)(torch.tensor(0.3, dtype=torch.float64), *args)
        assert_close(call(one, *args), wanted.numpy(), rtol=1e-12)
        assert call(np.ones((2, 0)), *args).shape == (2, 0)
        assert call(np.ones((0, 2)), *args).shape == (0, 2)
    assert_exact(ad.vmap(F.prelu, (0, None))(x, np.asarray([0.2])), F.prelu(x, np.asarray([0.2])))


def test_axes() -> None:
    x = np.arange(24.0).reshape(2, 3, 4) / 7
    for dim in (-3, 0, 1, 2):
        for name in ("softmax", "log_softmax", "softmin"):
            assert_close(getattr(F, name)(x, dim), getattr(T, name)(torch.tensor(x), dim).numpy(), rtol=1e-13)
    assert F.softmax(x.astype("float32"), 1, dtype="float64").dtype == np.float64
    assert_close(nn.Softmax2d()(x), T.softmax(torch.tensor(x), 0).numpy(), rtol=1e-13)
    for shape in ((4,), (3, 4), (2, 3, 4), (2, 2, 3, 2)):  # torch's old choice of an axis
        x = np.linspace(0.0, 1.0, int(np.prod(shape))).reshape(shape)
        with pytest.warns(UserWarning, match="softmax: dim is not given"):
            got = nn.Softmax()(x)
        with pytest.warns(UserWarning, match="Implicit dimension choice"):
            wanted = torch.nn.Softmax()(torch.tensor(x))
        assert_close(got, wanted.numpy(), rtol=1e-13)


def test_in_place() -> None:
    """As torch: the array object has the result, the derivative is that of the former value, and what others saved stays."""
    x = np.asarray([-1.0, 2.0])
    v = ad.Variable(x)
    h = v * 1.0
    square = h * h
    assert F.relu(h, inplace=True) is h
    (h * 3.0 + square).sum().backward()
    assert_exact(h.data, [0.0, 2.0])
    assert_exact(v.grad, [-2.0, 3.0 + 4.0])
    assert_exact(x, [-1.0, 2.0])  # no memory was overwritten
    raw = x.copy()
    assert F.elu_(raw) is raw
    assert_exact(raw, [np.expm1(-1.0), 2.0])
    for name, args in (
        ("celu_", ()),
        ("hardtanh_", ()),
        ("leaky_relu_", ()),
        ("relu_", ()),
        ("rrelu_", ()),
        ("selu_", ()),
        ("threshold_", (0.5, 7.0)),
    ):
        raw = x.copy()
        assert getattr(F, name)(raw, *args) is raw
        assert_close(raw, getattr(T, name)(torch.tensor(x), *args).numpy(), rtol=1e-12)
    model = nn.Sequential(nn.Linear(2, 3, dtype="float64"), nn.ReLU(inplace=True), nn.Hardswish(True), nn.SiLU(True))
    assert model(x).shape == (3,)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad is changed in place"):
        F.relu_(v)


def test_chance(rng: np.random.Generator) -> None:
    x = -np.ones((200, 300))
    ad.manual_seed(3)
    y = F.rrelu(x, 0.1, 0.5, training=True)
    assert -0.5 <= y.min() < -0.499 and -0.101 < y.max() <= -0.1
    assert abs(y.mean() + 0.3) < 0.002  # 4 deviations of the mean of 60,000: 0.4 / sqrt(12 * 60000) = 0.00047
    ad.manual_seed(3)
    assert_exact(nn.RReLU(0.1, 0.5)(x), y)
    assert_exact(F.rrelu(-x, training=True), -x)
    v = ad.Variable(x)
    ad.manual_seed(3)
    F.rrelu(v, 0.1, 0.5, training=True).sum().backward()
    assert_exact(v.grad, -y)
    logits = np.log(np.asarray([0.1, 0.2, 0.7]))
    soft = F.gumbel_softmax(np.broadcast_to(logits, (20000, 3)), tau=0.5)
    assert_close(soft.sum(axis=-1), np.ones(20000), rtol=1e-12)
    hard = F.gumbel_softmax(np.broadcast_to(logits, (20000, 3)), hard=True)
    assert set(np.unique(hard.round(12))) == {0.0, 1.0}
    assert np.abs(hard.mean(axis=0) - [0.1, 0.2, 0.7]).max() < 0.015  # 4 deviations: sqrt(0.21 / 20000) = 0.0032
    v = ad.Variable(rng.normal(size=(4, 5)))
    ad.manual_seed(5)
    weights = rng.normal(size=(4, 5))
    (F.gumbel_softmax(v, tau=0.7, hard=True) * weights).sum().backward()
    through = v.grad
    v.grad = None
    ad.manual_seed(5)
    (F.gumbel_softmax(v, tau=0.7) * weights).sum().backward()
    assert_close(through, v.grad, rtol=1e-12)


def test_modules_are_torchs() -> None:
    """The arguments, the text that print shows, and the state, both ways."""
    for name in nn.activation.__all__:
        ours, theirs = getattr(nn, name), getattr(torch.nn, name)
        mine = [p for p in inspect.signature(ours.__init__).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        his = list(inspect.signature(theirs.__init__).parameters.values())
        if his[1:] and his[1].name == "args":  # torch's base class takes anything
            continue
        assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in his], name
        given = (0.1, 20.0) if name == "Threshold" else ()
        assert repr(ours(*given)) == repr(theirs(*given))
        if "inplace" in inspect.signature(ours.__init__).parameters:
            assert repr(ours(*given, inplace=True)) == repr(theirs(*given, inplace=True))
    ours, theirs = nn.PReLU(4, init=0.1), torch.nn.PReLU(4)
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    assert_exact(ours.weight.data, np.full(4, 0.25, "float32"))
    theirs.load_state_dict({name: torch.from_numpy(x) for name, x in nn.PReLU(4, init=0.1).state_dict().items()})
    assert_exact(theirs.weight.detach().numpy(), np.full(4, 0.1, "float32"))


def test_functions_have_torchs_arguments() -> None:
    for name in F.activations.__all__:  # type: ignore[attr-defined]
        try:
            his = inspect.signature(getattr(T, name)).parameters
        except ValueError:  # built in
            continue
        mine = inspect.signature(getattr(F, name)).parameters
        assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in his.values()], name


def test_refusals() -> None:
    x = np.ones((2, 3))
    for error, text, call in (
        (ValueError, "hardtanh: min_val 2.0 is greater than max_val 1.0", lambda: F.hardtanh(x, 2.0, 1.0)),
        (ValueError, "Hardtanh: max_val 1.0 must be greater than min_val 1.0", lambda: nn.Hardtanh(1.0, 1.0)),
        (ValueError, r"prelu: weight has shape \(2,\); one number, or one for each of 3 channels", lambda: F.prelu(x, np.ones(2))),
        (ValueError, "rrelu: lower 0.5 is greater than upper 0.1", lambda: F.rrelu(x, 0.5, 0.1)),
        (ZeroDivisionError, "celu: alpha is a number other than 0", lambda: F.celu(x, 0.0)),
        (ValueError, "gelu: approximate is 'none' or 'tanh', not 'sigmoid'", lambda: F.gelu(x, "sigmoid")),
        (ValueError, "softshrink: lambd is 0 or more, not -1", lambda: F.softshrink(x, -1)),
        (ValueError, r"glu: the axis to halve has an even size; got an input of shape \(2, 3\) and dim=1", lambda: F.glu(x, 1)),
        (IndexError, "softmax: axis 2 is out of bounds for an array of 2 dimensions", lambda: F.softmax(x, 2)),
        (ValueError, r"Softmax2d takes an input of 3 or 4 dimensions, not of shape \(2, 3\)", lambda: nn.Softmax2d()(x)),
    ):
        with pytest.raises(error, match=text):
            call()


def test_every_library(backend: support.Backend, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 4)) * 2
    for name, args in CALLS:
        if name == "glu":
            args = (1,)
        t = torch.tensor(x, requires_grad=True)
        v = ad.Variable(backend.asarray(x))
        y, z = getattr(F, name)(v, *args), getattr(T, name)(t, *args)
        np.testing.assert_allclose(backend.numpy(y.data), z.detach().numpy(), rtol=1e-10, atol=1e-12, err_msg=name)
        ct = rng.normal(size=y.shape)
        y.backward(backend.asarray(ct))
        z.backward(torch.tensor(ct))
        assert type(v.grad) is type(v.data)
        single = name in ("celu", "hardsigmoid", "hardswish")  # as above
        np.testing.assert_allclose(backend.numpy(v.grad), t.grad.numpy(), rtol=1e-7 if single else 1e-9, atol=1e-12, err_msg=name)
    ad.manual_seed(1)
    noise = F.rrelu(backend.asarray(-np.ones((5, 4))), training=True)
    ad.manual_seed(1)
    assert_exact(backend.numpy(noise), F.rrelu(-np.ones((5, 4)), training=True))
