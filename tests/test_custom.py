"""Rules that users write: custom_vjp, custom_jvp, Function; under every transformation and on every library."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact, jacobian

import agnostic_ad as ad
from agnostic_ad.errors import CustomRuleError, MissingRuleError

X = np.asarray([0.3, -1.2, 0.7])
Pair = namedtuple("Pair", ["a", "b"])


# Each rule below is off by a factor on purpose: 10 for reverse rules, 100 for forward rules. So a test sees whether the rule was used.
@ad.custom_vjp
def vjp_sin(x: Any) -> Any:
    return ad.namespace(x).sin(x)


vjp_sin.defvjp(
    lambda x: (ad.namespace(x).sin(x), ad.namespace(x).cos(x)),
    lambda cos, ct: (10 * ct * cos,),
)


@ad.custom_jvp
def jvp_sin(x: Any) -> Any:
    return ad.namespace(x).sin(x)


@jvp_sin.defjvp
def _rule(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return jvp_sin(x), 100 * ad.namespace(x, t).cos(x) * t


class SinFunction(ad.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return ad.namespace(x).sin(x)

    @staticmethod
    def backward(ctx: Any, ct: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 10 * ct * ad.namespace(x, ct).cos(x)


RULES = {"custom_vjp": (vjp_sin, 10), "custom_jvp": (jvp_sin, 100), "Function": (SinFunction.apply, 10)}


@pytest.fixture(params=RULES)
def rule(request: pytest.FixtureRequest) -> Any:
    return RULES[request.param]


# --- under every transformation ------------------------------------------------------------------------------------------------------------
def test_on_every_library(rule: Any, backend: support.Backend) -> None:
    f, factor = rule
    x = backend.asarray(X)
    y = f(x)
    assert type(y) is type(x)
    assert_exact(backend.numpy(y), np.sin(X))
    g = ad.grad(lambda x: ad.namespace(x).sum(f(x)))(x)
    assert type(g) is type(x)
    assert_exact(backend.numpy(g), factor * np.cos(X))
    v = ad.Variable(x)
    f(v).sum().backward()
    assert type(v.grad) is type(x)
    assert_exact(backend.numpy(v.grad), factor * np.cos(X))


def test_float32_stays(rule: Any) -> None:
    f, _ = rule
    assert ad.grad(lambda x: ad.namespace(x).sum(f(x)))(X.astype("float32")).dtype == np.float32


def test_under_vmap(rule: Any) -> None:
    f, factor = rule
    a = np.stack([X, 2 * X])
    assert_exact(ad.vmap(f)(a), np.sin(a))
    assert_exact(ad.vmap(f, in_axes=1, out_axes=1)(a), np.sin(a))
    g = ad.grad(lambda x: ad.namespace(x).sum(f(x)))
    assert_exact(ad.vmap(g)(a), factor * np.cos(a))
    assert_exact(ad.grad(lambda a: ad.namespace(a).sum(ad.vmap(f)(a)))(a), factor * np.cos(a))
    assert_exact(ad.vmap(ad.vmap(g))(np.stack([a, a * 3])), factor * np.cos(np.stack([a, a * 3])))
    assert_exact(ad.vmap(lambda x, k: g(x) * k, in_axes=(None, 0))(X, np.ones(2)), np.stack([factor * np.cos(X)] * 2))


def test_second_derivatives(rule: Any) -> None:
    # the rule is differentiated: its factor stays, and the derivative of cos is the library's own
    f, factor = rule
    loss = lambda x: ad.namespace(x).sum(f(x))
    assert_exact(ad.grad(lambda x: ad.namespace(x).sum(ad.grad(loss)(x)))(X), -factor * np.sin(X))
    assert_close(ad.hessian(loss)(X), -factor * np.diag(np.sin(X)), 1e-13, 1e-13)
    assert_close(ad.jacrev(ad.jacrev(loss))(X), -factor * np.diag(np.sin(X)), 1e-13, 1e-13)
    x = ad.Variable(X)
    (g,) = ad.gradients(loss(x), x, create_graph=True)
    (h,) = ad.gradients(g.sum(), x, create_graph=True)
    assert_exact(h.detach().numpy(), -factor * np.sin(X))
    (k,) = ad.gradients(h.sum(), x)
    assert_exact(k, -factor * np.cos(X))


def test_jacobians(rule: Any) -> None:
    f, factor = rule
    assert_exact(ad.jacrev(f)(X), factor * np.diag(np.cos(X)))
    y, pullback = ad.vjp(f, X)
    assert_exact(pullback(np.ones(3))[0], factor * np.cos(X))
    assert_exact(ad.vmap(pullback)(np.eye(3))[0], factor * np.diag(np.cos(X)))
    if f is jvp_sin:
        assert_exact(ad.jacfwd(f)(X), factor * np.diag(np.cos(X)))
        assert_exact(ad.jvp(f, (X,), (np.ones(3),))[1], factor * np.cos(X))
        assert_exact(ad.hvp(lambda x: ad.namespace(x).sum(f(x)), (X,), (np.ones(3),))[0], -factor * np.sin(X))


def test_inside_a_longer_function(rule: Any) -> None:
    f, factor = rule
    g = ad.grad(lambda x: ad.namespace(x).sum(f(x * 2) * x))(X)
    assert_exact(g, 2 * factor * np.cos(2 * X) * X + np.sin(2 * X))


def test_constants_do_not_record(rule: Any) -> None:
    f, _ = rule
    assert not f(ad.Variable(X, requires_grad=False)).requires_grad
    with ad.no_grad():
        assert not f(ad.Variable(X)).requires_grad
    assert f(ad.Variable(X)).requires_grad


def test_in_a_captured_graph_the_function_is_recorded(rule: Any) -> None:
    from agnostic_ad import graph

    f, factor = rule
    g = graph.capture(f, graph.ShapeDtype((3,), "float64"))
    assert_exact(g(X), np.sin(X))
    g = graph.capture(ad.grad(lambda x: ad.namespace(x).sum(f(x))), graph.ShapeDtype((3,), "float64"))
    assert_exact(g(X), factor * np.cos(X))


# --- forward mode --------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["custom_vjp", "Function"])
def test_forward_mode_is_refused_and_says_what_to_do(name: str) -> None:
    f, _ = RULES[name]
    what = "custom_vjp vjp_sin" if name == "custom_vjp" else "SinFunction"
    for run in (lambda: ad.jvp(f, (X,), (X,)), lambda: ad.jacfwd(f)(X)):
        with pytest.raises(MissingRuleError, match=rf"{what} has no forward derivative; reached inside jvp\(.*grad, vjp or.*custom_jvp"):
            run()
    # a constant in forward mode needs no rule
    assert_exact(ad.jvp(lambda x: x * f(X), (X,), (np.ones(3),))[1], np.sin(X))


# --- trees, static arguments, None ------------------------------------------------------------------------------------------------------------
def test_custom_vjp_of_trees() -> None:
    @ad.custom_vjp
    def f(p: Any, q: Any) -> Any:
        return {"sum": p["x"] + q[0], "pair": Pair(p["y"] * q[1], p["x"])}

    seen = []

    def fwd(p: Any, q: Any) -> Any:
        return f(p, q), (p, "text", {"n": 3, "none": None})

    def bwd(residuals: Any, ct: Any) -> Any:
        p, text, rest = residuals
        seen.append((text, rest))
        assert set(ct) == {"sum", "pair"} and isinstance(ct["pair"], Pair)
        return {"x": ct["sum"] + ct["pair"].b, "y": 2 * p["y"]}, None

    f.defvjp(fwd, bwd)
    p, q = {"x": np.asarray([1.0]), "y": np.asarray([2.0])}, (np.asarray([3.0]), np.asarray([4.0]))

    def loss(p: Any, q: Any) -> Any:
        out = f(p, q)
        return ad.namespace(out["sum"]).sum(out["sum"] * 5 + out["pair"].b * 7)

    gp, gq = ad.grad(loss, argnums=(0, 1))(p, q)
    assert_exact(gp["x"], [12.0])
    assert_exact(gp["y"], [4.0])
    assert_exact(gq[0], [0.0])
    assert_exact(gq[1], [0.0])
    assert seen == [("text", {"n": 3, "none": None})]
    # the cotangent of an unused output arrives as zeros
    g = ad.grad(lambda p: ad.namespace(p["x"]).sum(f(p, q)["sum"]))(p)
    assert_exact(g["x"], [1.0])
    # and under vmap
    batched = ad.vmap(lambda x: ad.grad(loss)({"x": x, "y": p["y"]}, q)["x"])(np.ones((3, 1)))
    assert_exact(batched, np.full((3, 1), 12.0))


def test_none_for_one_leaf_of_a_tree() -> None:
    @ad.custom_vjp
    def f(p: Any) -> Any:
        return p["x"] * p["y"]

    f.defvjp(lambda p: (f(p), p), lambda p, ct: ({"x": ct * p["y"], "y": None},))
    g = ad.grad(lambda p: f(p).sum() if hasattr(f(p), "sum") else f(p))({"x": np.asarray([2.0]), "y": np.asarray([3.0])})
    assert_exact(g["x"], [3.0])
    assert_exact(g["y"], [0.0])


def test_custom_vjp_with_static_arguments() -> None:
    @ad.custom_vjp
    def scale(x: Any, how: str, k: int, mask: Any) -> Any:
        return x * k if how == "times" else x / k

    scale.defvjp(
        lambda x, how, k, mask: (scale(x, how, k, mask), (how, k)),
        lambda residuals, ct: (ct * residuals[1] * 10 if residuals[0] == "times" else ct / residuals[1] * 10, None, None, None),
    )
    mask = np.asarray([True, False, True])
    assert_exact(ad.grad(lambda x: scale(x, "times", 3, mask).sum())(X), 30 * np.ones(3))
    assert_exact(ad.grad(lambda x: scale(x, "over", 2, mask).sum())(X), 5 * np.ones(3))
    assert_exact(ad.vmap(ad.grad(lambda x: scale(x, "times", 3, None)))(X), 30 * np.ones(3))
    x = ad.Variable(X)
    scale(x, "times", 3, mask).sum().backward()
    assert_exact(x.grad, 30 * np.ones(3))


def test_custom_jvp_of_trees_and_statics() -> None:
    @ad.custom_jvp
    def f(p: Any, k: Any) -> Any:
        return {"y": p["a"] * p["b"] * k}

    @f.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (p, k), (t, _) = primals, tangents
        return f(p, k), {"y": 100 * k * (t["a"] * p["b"] + p["a"] * t["b"])}

    p = {"a": np.asarray(2.0), "b": np.asarray(3.0)}
    g = ad.grad(lambda p: f(p, 2)["y"])(p)
    assert_exact(g["a"], 600.0)
    assert_exact(g["b"], 400.0)
    assert_exact(ad.jvp(lambda p: f(p, 2)["y"], (p,), ({"a": 1.0, "b": 0.0},))[1], 600.0)
    assert_exact(ad.grad(lambda a: f({"a": a, "b": p["b"]}, 1)["y"])(2.0), 300.0)


def test_several_results() -> None:
    @ad.custom_vjp
    def both(x: Any) -> Any:
        return x * 2, x * 3

    both.defvjp(lambda x: (both(x), None), lambda _, ct: (ct[0] * 2 + ct[1] * 3,))
    assert_exact(ad.grad(lambda x: (both(x)[0] + both(x)[1] * 2).sum())(X), 8 * np.ones(3))
    assert_exact(ad.jacrev(both)(X)[1], 3 * np.eye(3))


def test_integer_arguments_and_results() -> None:
    @ad.custom_vjp
    def pick(x: Any, i: Any) -> Any:
        return x[i], i

    def bwd(residuals: Any, ct: Any) -> Any:
        x, i = residuals
        out = ad.namespace(ct[0]).zeros_like(x)
        out[i] = 10 * ct[0]
        return out, None

    pick.defvjp(lambda x, i: ((x[i], i), (x, i)), bwd)
    assert_exact(ad.grad(lambda x: pick(x, np.asarray([2]))[0].sum())(X), [0.0, 0.0, 10.0])


# --- Function ------------------------------------------------------------------------------------------------------------------------------------
def test_function_with_attributes_several_inputs_and_none() -> None:
    class Mul(ad.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any, k: int) -> Any:
            ctx.save_for_backward(x, None, w)
            ctx.k = k
            return x * w * k

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            x, nothing, w = ctx.saved_tensors
            assert nothing is None and ctx.needs_input_grad == (True, False, False)
            return ct * w * ctx.k, None, None

    x = ad.Variable(X)
    Mul.apply(x, X + 1, 3).sum().backward()
    assert_exact(x.grad, 3 * (X + 1))


def test_function_with_several_outputs() -> None:
    class Split(ad.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2, x * 3

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any) -> Any:
            return a * 2 + b * 3

    x = ad.Variable(X)
    a, b = Split.apply(x)
    (a * 1 + b * 10).sum().backward()
    assert_exact(x.grad, 32 * np.ones(3))
    x.grad = None
    a, b = Split.apply(x)
    b.sum().backward()  # a got none: zeros
    assert_exact(x.grad, 3 * np.ones(3))


def test_function_saving_its_output_is_differentiated_twice() -> None:
    class Exp(ad.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = ad.namespace(x).exp(x)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            (y,) = ctx.saved_tensors
            return ct * y

    for order in range(1, 4):
        f = lambda x: Exp.apply(x)
        for _ in range(order):
            f = ad.grad(f)
        assert_close(f(0.7), np.exp(0.7), 1e-14)
    x = ad.Variable(X)
    (g,) = ad.gradients(Exp.apply(x).sum(), x, create_graph=True)
    (h,) = ad.gradients(g.sum(), x)
    assert_exact(h, np.exp(X))


def test_function_against_torch() -> None:
    torch = pytest.importorskip("torch")

    def make(base: Any, where: Any) -> Any:
        class Relu(base):  # type: ignore[misc]
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return where(x)

            @staticmethod
            def backward(ctx: Any, ct: Any) -> Any:
                (x,) = ctx.saved_tensors
                return ct * (x > 0) * x

        return Relu

    t = torch.tensor(X, requires_grad=True)
    (make(torch.autograd.Function, lambda x: x.clamp(min=0)).apply(t) ** 2).sum().backward()
    x = ad.Variable(X)
    (make(ad.Function, lambda x: x.clip(0.0)).apply(x) ** 2).sum().backward()
    assert_close(x.grad, t.grad.numpy(), 1e-14)


def test_backward_inside_backward() -> None:
    # a rule that uses this package's own transformations
    @ad.custom_vjp
    def f(x: Any) -> Any:
        return x**3

    f.defvjp(lambda x: (x**3, x), lambda x, ct: (ct * ad.grad(lambda x: ad.namespace(x).sum(x**3))(x) * 10,))
    assert_exact(ad.grad(lambda x: f(x).sum())(X), 30 * X**2)
    assert_exact(ad.grad(lambda x: ad.grad(lambda x: f(x).sum())(x).sum())(X), 60 * X)
    v = ad.Variable(X)
    f(v).sum().backward()
    assert_exact(v.grad, 30 * X**2)


def test_a_straight_through_estimator() -> None:
    @ad.custom_vjp
    def rounded(x: Any) -> Any:
        return ad.namespace(x).round(x)

    rounded.defvjp(lambda x: (ad.namespace(x).round(x), None), lambda _, ct: (ct,))
    assert_exact(ad.grad(lambda x: (rounded(x) * 2).sum())(X), 2 * np.ones(3))


def test_attributes_of_the_function_stay() -> None:
    assert vjp_sin.__name__ == "vjp_sin" and jvp_sin.__name__ == "jvp_sin"


def test_a_closed_over_variable_is_refused() -> None:
    w = ad.Variable(X)

    @ad.custom_vjp
    def f(x: Any) -> Any:
        return x * w

    f.defvjp(lambda x: (x * w, None), lambda _, ct: (ct,))
    with pytest.raises(CustomRuleError, match=r"custom_vjp f uses an array.*none of its arguments.*Pass the array as an argument"):
        f(ad.Variable(X))


# --- wrong rules --------------------------------------------------------------------------------------------------------------------------------
def _vjp_with(bwd: Any, fwd: Any = None) -> Any:
    @ad.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return x * y

    f.defvjp(fwd or (lambda x, y: (x * y, (x, y))), bwd)
    return f


WRONG = {
    "too few": (lambda r, ct: (ct,), r"custom_vjp f: the rule returned 1 cotangents for 2 arguments"),
    "too many": (lambda r, ct: (ct, ct, ct), r"custom_vjp f: the rule returned 3 cotangents for 2 arguments"),
    "no tuple": (lambda r, ct: ct, r"custom_vjp f: the rule returned 1 cotangents for 2 arguments"),
    "shape": (lambda r, ct: (ct[:2], ct), r"custom_vjp f: the rule gave shape \(2,\) for array 0 .*shape \(3,\)"),
    "second shape": (lambda r, ct: (ct, ct.sum()), r"custom_vjp f: the rule gave shape \(\) for array 1 .*shape \(3,\)"),
    "number": (lambda r, ct: (1.0, ct), r"custom_vjp f: the rule gave float for array 0"),
    "structure": (lambda r, ct: ((ct, ct), ct), r"custom_vjp f: the rule returned 2 cotangents for argument 0, which holds 1 arrays"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_reverse_rules(name: str) -> None:
    bwd, message = WRONG[name]
    f = _vjp_with(bwd)
    with pytest.raises(CustomRuleError, match=message):
        ad.grad(lambda x: f(x, X).sum())(X)
    with pytest.raises(CustomRuleError, match=message):
        f(ad.Variable(X), ad.Variable(X)).sum().backward()


def test_wrong_fwd() -> None:
    f = _vjp_with(lambda r, ct: (ct, ct), fwd=lambda x, y: x * y)
    with pytest.raises(CustomRuleError, match=r"custom_vjp f: fwd returns \(output, residuals\), not (ndarray|Variable)"):
        ad.grad(lambda x: f(x, X).sum())(X)
    f = _vjp_with(lambda r, ct: (ct, ct), fwd=lambda x, y: ("text", None))
    with pytest.raises(CustomRuleError, match=r"custom_vjp f returns arrays; got str"):
        ad.grad(lambda x: f(x, X).sum())(X)


def test_a_cotangent_of_another_dtype_is_cast() -> None:
    f = _vjp_with(lambda r, ct: (ct.astype("float32"), ct))
    assert ad.grad(lambda x: f(x, X).sum())(X).dtype == np.float64


def test_missing_rules() -> None:
    f = ad.custom_vjp(lambda x: x * 2)
    assert_exact(f(X), 2 * X)
    with pytest.raises(MissingRuleError, match=r"custom_vjp <lambda> has no rule yet: call its defvjp\(fwd, bwd\)"):
        ad.grad(lambda x: f(x).sum())(X)
    g = ad.custom_jvp(lambda x: x * 2)
    assert_exact(g(X), 2 * X)
    with pytest.raises(MissingRuleError, match=r"custom_jvp <lambda> has no rule yet: call its defjvp\(rule\)"):
        ad.grad(lambda x: g(x).sum())(X)


def test_wrong_forward_rules() -> None:
    def with_rule(rule: Any) -> Any:
        @ad.custom_jvp
        def f(x: Any) -> Any:
            return x * 2

        f.defjvp(rule)
        return f

    cases = [
        (lambda p, t: p[0], r"custom_jvp f: the rule returns \(output, tangent\), not"),
        (lambda p, t: (p[0] * 2, t[0][:2]), r"custom_jvp f: the rule's tangent has shape \(2,\), its output shape \(3,\)"),
        (lambda p, t: (p[0] * 2, (t[0], t[0])), r"custom_jvp f: the rule's tangent has structure"),
        (lambda p, t: (p[0] * 2, 1.0), r"custom_jvp f: the rule's tangent has float"),
    ]
    for rule, message in cases:
        with pytest.raises(CustomRuleError, match=message):
            ad.jvp(with_rule(rule), (X,), (X,))
        with pytest.raises(CustomRuleError, match=message):
            ad.grad(lambda x, rule=rule: with_rule(rule)(x).sum())(X)


def test_wrong_functions() -> None:
    class TooMany(ad.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct, ct

    with pytest.raises(CustomRuleError, match=r"TooMany: the rule returned 2 cotangents for 1 arguments"):
        TooMany.apply(ad.Variable(X)).sum().backward()

    class WrongShape(TooMany):
        @staticmethod
        def backward(ctx: Any, ct: Any) -> Any:
            return ct[:1]

    with pytest.raises(CustomRuleError, match=r"WrongShape: the rule gave shape \(1,\) for array 0 .*\(3,\)"):
        WrongShape.apply(ad.Variable(X)).sum().backward()

    class Empty(ad.Function):
        pass

    with pytest.raises(NotImplementedError, match=r"forward\(ctx, \*args\) as a static method"):
        Empty.apply(ad.Variable(X))


def test_a_second_backward_through_a_custom_rule() -> None:
    x = ad.Variable(X)
    y = vjp_sin(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    y = vjp_sin(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert_exact(x.grad, 3 * 10 * np.cos(X))


def test_differences_find_a_wrong_rule() -> None:
    assert_close(jacobian(np.sin, X), np.diag(np.cos(X)))
    with pytest.raises(AssertionError):
        ad.check_grads(vjp_sin, [X], order=1, modes=("rev",))
