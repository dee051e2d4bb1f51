"""Transformations inside transformations, in any order, over Variables or not; perturbations are never confused."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, derivative, jacobian

import agnostic_ad as ad
from agnostic_ad import graph

X = np.asarray([0.3, -1.2, 0.7])
RNG = np.random.default_rng(5)


def f(x: Any) -> Any:
    """A number from a vector of 3, with every kind of node."""
    xp = ad.namespace(x)
    head = x[0] * x[1:]
    return xp.sum(xp.sin(x) * x) + xp.sum(head) * xp.exp(x[2] / 2) + xp.sum(xp.concat([x, head]) ** 3) / 3


# --- all pairs and triples --------------------------------------------------------------------------------------------------------------
# Each wrapper makes a function of a vector that gives a number out of another such function, and is a transformation of it; `reference`
# says the same with differences.
V = np.asarray([0.5, -0.2, 1.1])


@ad.custom_vjp
def _doubled(y: Any) -> Any:
    return 2 * y


_doubled.defvjp(lambda y: (2 * y, ()), lambda residuals, ct: (2 * ct,))


@ad.custom_jvp
def _squared(y: Any) -> Any:
    return y * y


_squared.defjvp(lambda primals, tangents: (_squared(*primals), 2 * primals[0] * tangents[0]))


class _Halved(ad.Function):
    @staticmethod
    def forward(ctx: Any, y: Any) -> Any:
        return y / 2

    @staticmethod
    def backward(ctx: Any, ct: Any) -> Any:
        return ct / 2


Scalar = Callable[[Any], Any]


def _grad(g: Scalar) -> Scalar:
    def inner(x: Any) -> Any:
        d = ad.grad(g)(x)
        return ad.namespace(d).sum(d * V)

    return inner


def _jvp(g: Scalar) -> Scalar:
    return lambda x: ad.jvp(g, (x,), (x * 0 + V,))[1]


def _vjp(g: Scalar) -> Scalar:
    def inner(x: Any) -> Any:
        y, pullback = ad.vjp(g, x)
        (d,) = pullback(y * 0 + 1)
        return (d * V).sum() if not isinstance(d, np.ndarray) else np.sum(d * V)

    return inner


def _linearize(g: Scalar) -> Scalar:
    return lambda x: ad.linearize(g, x)[1](x * 0 + V)


def _vmap(g: Scalar) -> Scalar:
    def inner(x: Any) -> Any:
        xp = ad.namespace(x)
        return xp.sum(ad.vmap(g)(xp.stack([x, x + 0.1])))

    return inner


def _checkpoint(g: Scalar) -> Scalar:
    return lambda x: ad.checkpoint(g)(x) * 1.5


def _capture(g: Scalar) -> Scalar:
    captured: list[Any] = []

    def inner(x: Any) -> Any:
        if not captured:
            captured.append(graph.capture(g, graph.ShapeDtype((3,), "float64")))
        return captured[0](x)

    return inner


def _custom_vjp(g: Scalar) -> Scalar:
    return lambda x: _doubled(g(x))


def _custom_jvp(g: Scalar) -> Scalar:
    return lambda x: _squared(g(x))


def _function(g: Scalar) -> Scalar:
    return lambda x: _Halved.apply(g(x))


def _directional(g: Scalar) -> Scalar:
    # eighth-order differences: they are nested three deep in the references below
    h, weights = 0.02, (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    return lambda x: sum(w * (g(x + k * h * V) - g(x - k * h * V)) for k, w in enumerate(weights, 1)) / h


REFERENCE: dict[str, tuple[Callable[[Scalar], Scalar], Callable[[Scalar], Scalar]]] = {
    "grad": (_grad, _directional),
    "jvp": (_jvp, _directional),
    "vjp": (_vjp, _directional),
    "linearize": (_linearize, _directional),
    "vmap": (_vmap, lambda g: lambda x: g(x) + g(x + 0.1)),
    "checkpoint": (_checkpoint, lambda g: lambda x: 1.5 * g(x)),
    "capture": (_capture, lambda g: g),
    "custom_vjp": (_custom_vjp, lambda g: lambda x: 2 * g(x)),
    "custom_jvp": (_custom_jvp, lambda g: lambda x: g(x) ** 2),
    "Function": (_function, lambda g: lambda x: g(x) / 2),
}
FORWARD = {"jvp"}
REVERSE_ONLY = {"custom_vjp", "Function"}


def build(names: tuple[str, ...]) -> tuple[Scalar, Scalar]:
    """The outermost name first."""
    ours, reference = f, f
    for name in reversed(names):
        transform, differences = REFERENCE[name]
        ours, reference = transform(ours), differences(reference)
    return ours, reference


def refused(names: tuple[str, ...]) -> bool:
    """Whether forward mode meets a rule for reverse mode only."""
    return any(n in FORWARD and set(names[i + 1 :]) & REVERSE_ONLY for i, n in enumerate(names))


PAIRS = [p for p in itertools.product(REFERENCE, repeat=2) if not refused(p)]
_CORE = ("grad", "jvp", "vmap", "checkpoint", "capture", "custom_jvp")
TRIPLES = [p for p in itertools.product(_CORE, repeat=3) if len(set(p)) > 1]


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_pairs(names: tuple[str, ...]) -> None:
    ours, reference = build(names)
    assert_close(ours(X), reference(X), 1e-8, 1e-8)


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_pairs_over_variables(names: tuple[str, ...]) -> None:
    ours, reference = build(names)
    x = ad.Variable(X)
    y = ours(x)
    assert isinstance(y, ad.Variable) and y.requires_grad
    assert_close(y.detach().numpy(), reference(X), 1e-8, 1e-8)
    y.backward()
    want = np.asarray([_directional_along(reference, X, e) for e in np.eye(3)])
    assert_close(x.grad, want, 1e-6, 1e-6)  # differences three deep lose that much


def _directional_along(g: Scalar, x: Any, v: Any) -> Any:
    h, weights = 0.02, (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    return sum(w * (g(x + k * h * v) - g(x - k * h * v)) for k, w in enumerate(weights, 1)) / h


@pytest.mark.parametrize("names", TRIPLES, ids="-".join)
def test_triples(names: tuple[str, ...]) -> None:
    ours, reference = build(names)
    assert_close(ours(X), reference(X), 1e-6, 1e-6)


@pytest.mark.parametrize("names", [("grad", "vmap", "grad"), ("vmap", "grad", "vmap"), ("jvp", "vmap", "grad")], ids="-".join)
def test_triples_on_every_library(backend: support.Backend, names: tuple[str, ...]) -> None:
    if backend.name == "dask":
        pytest.skip("seconds of graph building; dask runs the pairs of test_transforms")
    global V
    ours, _ = build(names)
    before, V = V, backend.asarray(V)
    try:
        got = ours(backend.asarray(X))
    finally:
        V = before
    want = build(names)[0](X)
    assert_close(backend.numpy(got), want, 1e-11, 1e-11)


# --- perturbation confusion ---------------------------------------------------------------------------------------------------------------
DERIVATIVES = {
    "grad": lambda g, x: ad.grad(g)(x),
    "jvp": lambda g, x: ad.jvp(g, (x,), (x * 0 + 1.0,))[1],
    "vjp": lambda g, x: ad.vjp(g, x)[1](x * 0 + 1.0)[0],
    "linearize": lambda g, x: ad.linearize(g, x)[1](x * 0 + 1.0),
    "jacfwd": lambda g, x: ad.jacfwd(g)(x),
    "jacrev": lambda g, x: ad.jacrev(g)(x),
}
MODES = list(itertools.product(DERIVATIVES, repeat=2))


@pytest.mark.parametrize("modes", MODES, ids="-".join)
def test_the_classic_case(modes: tuple[str, str]) -> None:
    outer, inner = (DERIVATIVES[m] for m in modes)
    one = np.asarray(1.0)
    assert_exact(outer(lambda x: x * inner(lambda y: x + y, one), one), 1.0)
    assert_exact(outer(lambda x: x * inner(lambda y: x * y, one), one), 2.0)
    assert_exact(outer(lambda x: inner(lambda y: x * x * y * y, one * 3), one * 2), 2 * 2 * 2 * 3.0)


@pytest.mark.parametrize("modes", MODES, ids="-".join)
def test_the_inner_function_closes_over_the_outer_argument(modes: tuple[str, str]) -> None:
    outer, inner = (DERIVATIVES[m] for m in modes)

    def g(x: Any) -> Any:
        return inner(lambda y: ad.namespace(x).sin(x * y) * y, x * 2)

    # d/dy sin(xy) y at y = 2x: x cos(2x^2) 2x + sin(2x^2)
    want = derivative(lambda t: 2 * t * t * math.cos(2 * t * t) + math.sin(2 * t * t), 0.7)
    assert_close(outer(g, np.asarray(0.7)), want, 1e-10, 1e-10)


@pytest.mark.parametrize("modes", MODES, ids="-".join)
def test_the_inner_result_does_not_depend_on_the_inner_argument(modes: tuple[str, str]) -> None:
    outer, inner = (DERIVATIVES[m] for m in modes)
    one = np.asarray(2.0)
    assert_exact(outer(lambda x: inner(lambda y: x * x, one) + x, one), 1.0)
    assert_exact(outer(lambda x: inner(lambda y: y * y, one) + 0 * x, one), 0.0)
    assert_exact(outer(lambda x: inner(lambda y: y * x, x), one), 1.0)


def test_amazing_bug() -> None:
    # Manzyuk et al., "Confusion of tagged perturbations in forward automatic differentiation of higher-order functions"
    def shifted(u: Any) -> Callable[[Any], Callable[[Any], Any]]:
        return lambda g: lambda x: g(x + u)

    assert_exact(ad.jvp(lambda u: shifted(u)(lambda x: x**3)(2.0), (0.0,), (1.0,))[1], 12.0)
    assert_exact(ad.grad(lambda u: ad.grad(shifted(u)(lambda x: x**3))(2.0))(0.0), 12.0)


def test_an_outer_array_inside_an_inner_vmap() -> None:
    g = ad.grad(lambda w: ad.namespace(w).sum(ad.vmap(lambda x: w * x * x)(X)))(2.0)
    assert_exact(g, np.sum(X * X))
    h = ad.vmap(lambda w: ad.grad(lambda x: ad.namespace(x).sum(w * x * x))(1.0))(X)
    assert_exact(h, 2 * X)


def test_an_inner_result_used_twice_in_the_outer_function() -> None:
    def g(x: Any) -> Any:
        d = ad.grad(lambda y: y**3 * x)(x)  # 3 x^3
        return d * d + d  # 9 x^6 + 3 x^3

    assert_close(ad.grad(g)(1.1), 54 * 1.1**5 + 9 * 1.1**2, 1e-13)
    assert_close(ad.grad(ad.grad(g))(1.1), 270 * 1.1**4 + 18 * 1.1, 1e-13)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_high_order_with_every_mix_of_modes(order: int) -> None:
    want = [math.sin, math.cos, lambda t: -math.sin(t), lambda t: -math.cos(t)][order % 4](0.7)
    for modes in itertools.product(("grad", "jvp"), repeat=order):
        g: Callable[[Any], Any] = lambda x: ad.namespace(x).sin(x)
        for mode in modes:
            g = functools.partial(DERIVATIVES[mode], g)
        assert_close(g(np.asarray(0.7)), want, 1e-13, 1e-13)


# --- vmap of vmap ----------------------------------------------------------------------------------------------------------------------------
def test_vmap_of_vmap_with_axes() -> None:
    a, b = RNG.standard_normal((2, 3, 4)), RNG.standard_normal((3, 5))
    outer = ad.vmap(lambda a, b: ad.vmap(lambda r, s: r * s, in_axes=(None, 0), out_axes=-1)(a[0], b), in_axes=(-1, None), out_axes=1)
    want = np.stack([np.stack([a[:, :, k][0] * 1.0 * s for s in b.T], axis=-1) for k in range(4)], axis=1)
    assert_exact(outer(a, b.T), want)


def test_vmap_of_vmap_of_trees() -> None:
    p = {"w": RNG.standard_normal((5, 2)), "b": RNG.standard_normal(3)}
    inner = ad.vmap(lambda q, k: {"y": q["w"] * q["b"] + k, "n": None}, in_axes=({"w": 0, "b": None}, None), out_axes={"y": 0, "n": 0})
    outer = ad.vmap(inner, in_axes=({"w": 1, "b": 0}, None), out_axes={"y": 1, "n": None})
    with pytest.raises((ValueError, TypeError)):
        outer(p, 1.0)  # sizes 2 and 3 differ
    p["b"] = p["b"][:2]
    assert_exact(outer(p, 1.0)["y"], p["w"] * p["b"] + 1.0)


def test_pairwise_distances() -> None:
    a, b = RNG.standard_normal((3, 2)), RNG.standard_normal((4, 2))
    d = lambda x, y: ad.namespace(x, y).sqrt(ad.namespace(x, y).sum((x - y) ** 2))
    all_pairs = ad.vmap(ad.vmap(d, in_axes=(None, 0)), in_axes=(0, None))
    assert_close(all_pairs(a, b), np.sqrt(np.sum((a[:, None] - b[None]) ** 2, axis=-1)), 1e-14)
    g = ad.grad(lambda a: ad.namespace(a).sum(all_pairs(a, b)))(a)
    assert_close(g, jacobian(lambda a: np.sum(np.sqrt(np.sum((a[:, None] - b[None]) ** 2, axis=-1))), a))


def test_per_example_gradients_are_a_loop() -> None:
    w, x = RNG.standard_normal((2, 3)), RNG.standard_normal((5, 2))
    loss = lambda w, x: ad.namespace(w).sum(ad.namespace(w).tanh(w.T @ x) ** 2)
    got = ad.vmap(ad.grad(loss), in_axes=(None, 0))(w, x)
    assert_exact(got, np.stack([ad.grad(loss)(w, r) for r in x]))
    hess = ad.vmap(ad.hessian(loss), in_axes=(None, 0))(w, x)
    assert_close(hess, np.stack([ad.hessian(loss)(w, r) for r in x]), 1e-13, 1e-13)


def test_hessian_of_vmap_and_vmap_of_hessian() -> None:
    a = RNG.standard_normal((2, 3))
    total = lambda a: ad.namespace(a).sum(ad.vmap(f)(a))
    h = ad.hessian(total)(a)
    each = ad.vmap(ad.hessian(f))(a)
    for i, j in itertools.product(range(2), repeat=2):
        assert_close(h[i, :, j], each[i] if i == j else np.zeros((3, 3)), 1e-13, 1e-13)
    assert_close(each[0], jacobian(ad.grad(f), a[0]), 1e-8)


def test_jacobians_under_vmap_and_of_vmap() -> None:
    g = lambda x: ad.namespace(x).sin(x) * x[0]
    a = RNG.standard_normal((4, 3))
    for jac in (ad.jacfwd, ad.jacrev):
        assert_close(ad.vmap(jac(g))(a), np.stack([jacobian(g, r) for r in a]))
        assert_close(jac(ad.vmap(g))(a), jacobian(ad.vmap(g), a))


# --- pullbacks and linear maps, by hand --------------------------------------------------------------------------------------------------------
def test_a_pullback_under_vmap_is_jacrev() -> None:
    y, pullback = ad.vjp(lambda x: ad.namespace(x).sin(x) * x[::-1] * x[0], X)
    (rows,) = ad.vmap(pullback)(np.eye(3))
    assert_close(rows, jacobian(lambda x: np.sin(x) * x[::-1] * x[0], X))
    (again,) = ad.vmap(pullback)(np.eye(3))
    assert_exact(again, rows)
    (one,) = pullback(np.ones(3))
    assert_close(one, rows.sum(axis=0), 1e-13)


def test_linearize_under_vmap_is_jacfwd() -> None:
    y, f_jvp = ad.linearize(lambda x: ad.namespace(x).sin(x) * x[::-1] * x[0], X)
    columns = ad.vmap(f_jvp, out_axes=-1)(np.eye(3))
    assert_close(columns, jacobian(lambda x: np.sin(x) * x[::-1] * x[0], X))


def test_a_pullback_made_inside_vmap_is_called_there() -> None:
    def g(x: Any) -> Any:
        y, pullback = ad.vjp(lambda x: x**3, x)
        return pullback(y * 0 + 1.0)[0] + pullback(y)[0]

    assert_exact(ad.vmap(g)(X), 3 * X**2 + 3 * X**5)


def test_linearize_made_inside_vmap_and_grad() -> None:
    g = lambda x: ad.linearize(lambda x: x**3, x)[1](x * 0 + 1.0)
    assert_exact(ad.vmap(g)(X), 3 * X**2)
    assert_exact(ad.grad(g)(2.0), 12.0)
    assert_exact(ad.vmap(ad.grad(g))(X), 6 * X)


def test_a_pullback_is_differentiable_in_its_cotangent_and_its_point() -> None:
    def g(ct: Any, x: Any) -> Any:
        _, pullback = ad.vjp(lambda x: x**3, x)
        return ad.namespace(ct, x).sum(pullback(ct)[0] ** 2)

    ct = np.asarray([1.0, 2.0, 3.0])
    gct, gx = ad.grad(g, argnums=(0, 1))(ct, X)
    assert_close(gct, 2 * ct * 9 * X**4, 1e-13, 1e-13)
    assert_close(gx, ct**2 * 36 * X**3, 1e-13, 1e-13)


def test_a_pullback_called_after_vjp_returned_under_an_outer_grad() -> None:
    def g(x: Any) -> Any:
        y, pullback = ad.vjp(lambda z: z * z * x, x)
        (first,) = pullback(y * 0 + 1.0)  # 2 x^2
        (second,) = pullback(y)  # x^3 2 x^2
        return first + second

    assert_close(ad.grad(g)(1.3), 4 * 1.3 + 10 * 1.3**4, 1e-13)


def test_a_pullback_of_a_raw_array_with_a_variable_cotangent() -> None:
    _, pullback = ad.vjp(lambda x: x * x, X)
    ct = ad.Variable(np.ones(3))
    (g,) = pullback(ct)
    assert isinstance(g, ad.Variable) and g.requires_grad
    g.sum().backward()
    assert_exact(ct.grad, 2 * X)


# --- switches inside transformations --------------------------------------------------------------------------------------------------------------
def test_grad_inside_no_grad() -> None:
    with ad.no_grad():
        assert_exact(ad.grad(lambda x: x**3)(2.0), 12.0)
        assert_exact(ad.grad(ad.grad(lambda x: x**3))(2.0), 12.0)
        assert_exact(ad.jvp(lambda x: x**3, (2.0,), (1.0,))[1], 12.0)
        assert_exact(ad.hessian(lambda x: ad.namespace(x).sum(x**3))(X), np.diag(6 * X))
        x = ad.Variable(2.0)
        assert not ad.grad(lambda x: x**3)(x).requires_grad
    assert ad.grad(lambda x: x**3)(ad.Variable(2.0)).requires_grad


def test_no_grad_inside_grad() -> None:
    def g(x: Any) -> Any:
        with ad.no_grad():
            y = x * x
        return y * x

    assert_exact(ad.grad(g)(3.0), 9.0)
    assert_exact(ad.vmap(ad.grad(g))(X), X * X)

    def h(x: Any) -> Any:
        with ad.no_grad():
            d = ad.grad(lambda y: y**3)(x)  # a transformation entered inside records as ever
        return d * x

    assert_exact(ad.grad(h)(2.0), 12.0)


def test_no_grad_between_levels() -> None:
    def g(x: Any) -> Any:
        def inner(y: Any) -> Any:
            with ad.no_grad():
                return x * x  # records at no level

        return ad.grad(lambda y: inner(y) * y)(1.0) * x

    assert_exact(ad.grad(g)(3.0), 9.0)


def test_enable_grad_inside_no_grad_inside_grad() -> None:
    def g(x: Any) -> Any:
        with ad.no_grad(), ad.enable_grad():
            y = x * x
        return y * x

    assert_exact(ad.grad(g)(3.0), 27.0)


# --- functional transformations and the define-by-run tape together --------------------------------------------------------------------------------
def test_backward_inside_a_transformation() -> None:
    # a tape of its own inside a function that is transformed
    def g(x: Any) -> Any:
        v = ad.Variable(np.asarray([1.0, 2.0, 3.0]))
        (v * v).sum().backward()
        return ad.namespace(x).sum(x * v.grad)

    assert_exact(ad.grad(g)(X), [2.0, 4.0, 6.0])


def test_create_graph_inside_a_transformation_of_variables() -> None:
    x = ad.Variable(np.asarray(1.3))
    y = ad.grad(lambda t: t**4)(x)  # 4 x^3, connected
    (g,) = ad.gradients(y, x, create_graph=True)
    (h,) = ad.gradients(g, x, create_graph=True)
    (k,) = ad.gradients(h, x)
    assert_close(k, 24.0, 1e-13)


def test_a_functional_gradient_inside_a_define_by_run_loss() -> None:
    # a gradient penalty
    w = ad.Variable(np.asarray([0.5, -0.3, 0.8]))
    model = lambda x: ad.namespace(x).tanh(ad.namespace(x).sum(w * x))
    penalty = (ad.grad(model)(X) ** 2).sum()
    penalty.backward()
    assert_close(w.grad, jacobian(lambda w: np.sum((w / np.cosh(np.sum(w * X)) ** 2) ** 2), np.asarray([0.5, -0.3, 0.8])))


# --- double backward through every kind of node ----------------------------------------------------------------------------------------------------
A = RNG.standard_normal((3, 3))
NODES: dict[str, Callable[[Any, Any], Any]] = {
    "unbroadcast": lambda xp, x: x * xp.reshape(x, (3, 1)) * 2 + x,
    "getitem": lambda xp, x: x[1:] * x[:-1] ** 2,
    "integer getitem": lambda xp, x: x[0] * x[2] ** 2,
    "gather": lambda xp, x: x[[0, 2, 0]] ** 3,
    "mask": lambda xp, x: x[x > 0] ** 3,
    "take": lambda xp, x: xp.take(x, xp.asarray([1, 1, 2]), axis=0) ** 3,
    "concat": lambda xp, x: xp.concat([x, x * x, x[:1]]) ** 2,
    "stack": lambda xp, x: xp.stack([x, x**2]) ** 2,
    "matmul": lambda xp, x: (A * x) @ xp.reshape(x * x, (3, 1)),
    "matmul vector": lambda xp, x: x @ (A * x) @ x,
    "several uses": lambda xp, x: x * x * x + x * (x + x),
    "sum axis": lambda xp, x: xp.sum(xp.reshape(x, (3, 1)) * x, axis=0) ** 2,
    "mean": lambda xp, x: xp.mean(x * x) * x,
    "max": lambda xp, x: xp.max(x) ** 3 * x,
    "prod": lambda xp, x: xp.prod(x + 2) * x,
    "cumulative_sum": lambda xp, x: xp.cumulative_sum(x, axis=0) ** 3,
    "sort": lambda xp, x: xp.sort(x) ** 3 * xp.asarray([1.0, 2.0, 3.0]),
    "where": lambda xp, x: xp.where(x > 0, x**3, xp.sin(x)),
    "reshape and permute": lambda xp, x: xp.permute_dims(xp.reshape(x, (1, 3)), (1, 0)) * x**2,
    "broadcast_to": lambda xp, x: xp.broadcast_to(x, (2, 3)) ** 3,
    "flip and roll": lambda xp, x: xp.flip(x) * xp.roll(x, 1) * x,
    "pow": lambda xp, x: (x * x + 1) ** x,
    "divide": lambda xp, x: x / (x * x + 1),
    "exp and log": lambda xp, x: xp.log(xp.exp(x) + 1) * x,
    "sqrt": lambda xp, x: xp.sqrt(x * x + 1) * x,
    "abs": lambda xp, x: xp.abs(x) * x * x,
    "maximum": lambda xp, x: xp.maximum(x, xp.sin(x * 2)) ** 3,
    "clip": lambda xp, x: xp.clip(x, -1.0, 0.5) ** 3 * x,
    "tanh": lambda xp, x: xp.tanh(x) * x,
    "astype": lambda xp, x: xp.astype(x, xp.float64) ** 3,
    "tensordot": lambda xp, x: xp.tensordot(x * x, A * x, axes=((0,), (1,))),
    "std": lambda xp, x: xp.std(x) * x,
    "squeeze": lambda xp, x: xp.squeeze(xp.expand_dims(x, axis=0), axis=0) ** 3,
    "constant power": lambda xp, x: x**2 * x ** (-1.0) * x,
}


def _setitem(xp: Any, x: Any) -> Any:
    y = x * x
    y[1:] = x[:-1] ** 3
    y[0] = x[2] * x[1]
    return y * y


NODES["setitem"] = _setitem


@pytest.mark.parametrize("name", NODES)
def test_double_backward(name: str) -> None:
    g = NODES[name]

    def loss(x: Any) -> Any:
        xp = ad.namespace(x)
        y = g(xp, x)
        return xp.sum(y * y) if y.ndim else y * y

    x = ad.Variable(X)
    (first,) = ad.gradients(loss(x), x, create_graph=True)
    assert_close(first.detach().numpy(), jacobian(loss, X), 1e-7, 1e-7)
    (second,) = ad.gradients((first * V).sum(), x, create_graph=True)
    want = jacobian(lambda t: np.sum(ad.grad(loss)(t) * V), X)
    assert_close(second.detach().numpy(), want, 1e-7, 1e-7)
    # the same by every pair of modes
    for other in (
        ad.hessian(loss)(X) @ V,
        ad.hvp(loss, (X,), (V,))[0],
        ad.grad(lambda t: (ad.grad(loss)(t) * V).sum())(X),
        ad.grad(lambda t: ad.jvp(loss, (t,), (V,))[1])(X),
        ad.jacfwd(ad.jacfwd(loss))(X) @ V,
        ad.vmap(lambda v: ad.hvp(loss, (X,), (v,))[0])(V[None])[0],
        second.detach().numpy() if name == "mask" else ad.vmap(lambda t: ad.hvp(loss, (t,), (V,))[0])(X[None])[0],  # no masks in vmap
    ):
        assert_close(other, second.detach().numpy(), 1e-11, 1e-11)
    (third,) = ad.gradients((second * V).sum(), x)
    assert_close(third, jacobian(lambda t: V @ ad.hessian(loss)(t) @ V, X), 1e-6, 1e-6)


def test_variables_over_variables() -> None:
    once = ad.differentiable(np)
    twice = ad.differentiable(once)
    assert twice != once and ad.differentiable(once) == twice and ad.differentiable(twice) != twice
    v = ad.Variable(2.0)
    x = twice.asarray(v)
    x.requires_grad = True
    (x**3).backward()
    assert isinstance(x.grad, ad.Variable)
    assert float(x.grad) == 12.0
    x.grad.backward()
    assert v.grad == 12.0
    with pytest.raises(TypeError, match="lives no longer than its function"):
        ad.vmap(lambda x: ad.differentiable(ad.namespace(x)).asarray(x))(np.ones(2))
    with pytest.raises(TypeError, match="lives no longer than its function"):
        ad.grad(lambda x: ad.differentiable(ad.namespace(x)).asarray(x))(1.0)


# --- the cotangent of one with which grad begins ---------------------------------------------------------------------------------------------
def test_a_gradient_is_no_alias_of_an_argument(backend: support.Backend) -> None:
    """The derivative of x * y in x is y: another array, which may be changed in place."""
    y = ad.Variable(backend.asarray([2.0]))[0]

    def outer(y: Any) -> Any:
        g = ad.grad(lambda x: x * y)(backend.asarray(3.0))
        g += 1
        return y * g

    assert_close(backend.numpy(ad.grad(outer)(backend.asarray(2.0))), 5.0)
    outer(y).backward()
    assert_close(backend.numpy(y.data), 2.0)
    same = ad.vjp(lambda x: x, y)[1](y)[0]
    assert same is not y


@pytest.mark.parametrize("narrow", [0, 1])
def test_a_product_of_two_precisions_under_two_gradients(backend: support.Backend, narrow: int) -> None:
    """Each gradient has the dtype of its operand, though the cotangent is one and nothing is multiplied."""
    wide, small = backend.asarray(2.0, "float64"), backend.asarray(3.0, "float32")
    operands = (small, wide) if narrow == 0 else (wide, small)
    seen: list[Any] = []

    def outer(a: Any, b: Any) -> Any:
        found = ad.grad(lambda a, b: a * b, argnums=(0, 1))(a, b)
        seen.extend(g.dtype for g in found)
        return found[0] * a + found[1] * b

    got = ad.grad(outer, argnums=(0, 1))(*operands)
    assert seen == [x.dtype for x in operands] == [g.dtype for g in got]
    assert_close(backend.numpy(got[0]), 2 * backend.numpy(operands[1]), rtol=1e-6)
    assert_close(backend.numpy(got[1]), 2 * backend.numpy(operands[0]), rtol=1e-6)


def test_numbers_and_constants_beside_a_cotangent_of_one(backend: support.Backend) -> None:
    constant = backend.asarray(5.0)
    for f, second in ((lambda x: 2.0 * x, 0.0), (lambda x: x * constant, 0.0), (lambda x: -x * x, -2.0), (lambda x: 5.0 / x, 10 / 27)):
        assert_close(backend.numpy(ad.grad(ad.grad(f))(backend.asarray(3.0))), second)
