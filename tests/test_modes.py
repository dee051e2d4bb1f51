"""The switches: no_grad and its kin, detect_anomaly, escapes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.errors import AnomalyError, EscapedArrayError

X = np.asarray([0.3, -1.2, 0.7])


def var(value: Any = X, **options: Any) -> ad.Variable:
    return ad.Variable(np.array(value), **options)


# --- no_grad, enable_grad, set_grad_enabled ---------------------------------------------------------------------------------------------
def test_no_grad_and_enable_grad() -> None:
    x = var()
    assert ad.is_grad_enabled()
    with ad.no_grad():
        assert not ad.is_grad_enabled()
        assert (
            not (x * 2).requires_grad and not ad.namespace(x).sin(x).requires_grad and not x[0].requires_grad and not (x @ x).requires_grad
        )
        with ad.enable_grad():
            assert ad.is_grad_enabled()
            y = x * 2
            with ad.no_grad():
                assert not (x * 2).requires_grad
            assert (x * 2).requires_grad
        assert not ad.is_grad_enabled()
    assert ad.is_grad_enabled() and y.requires_grad
    y.sum().backward()
    assert_exact(x.grad, 2 * np.ones(3))


def test_leaves_made_inside_no_grad_require_grad() -> None:
    with ad.no_grad():
        x = var()
        assert x.requires_grad
    assert (x * 2).requires_grad


def test_backward_inside_no_grad() -> None:
    x = var()
    y = (x * x).sum()
    with ad.no_grad():
        y.backward()
    assert_exact(x.grad, 2 * X)


def test_the_switch_comes_back_after_an_exception() -> None:
    for switch in (ad.no_grad(), ad.enable_grad(), ad.detect_anomaly()):
        with pytest.raises(ZeroDivisionError), switch:
            raise ZeroDivisionError
        assert ad.is_grad_enabled()
        assert (var() * 2).requires_grad


@pytest.mark.parametrize("decorator", [ad.no_grad(), ad.set_grad_enabled(True)], ids=["no_grad", "set_grad_enabled"])
def test_decorators(decorator: Any) -> None:
    ad.set_grad_enabled(True)

    @decorator
    def f(x: Any, k: int = 2) -> Any:
        """The text."""
        if k > 2:
            return f(x, k - 1)
        return x * k

    want = isinstance(decorator, ad.set_grad_enabled)
    assert f(var()).requires_grad is want and f(var(), k=5).requires_grad is want
    assert f.__name__ == "f" and f.__doc__ == "The text."
    assert ad.is_grad_enabled()


def test_no_grad_without_brackets_as_in_torch() -> None:
    @ad.no_grad
    def f(x: Any) -> Any:
        return x * 2

    assert not f(var()).requires_grad
    assert ad.is_grad_enabled()


def test_one_switch_object_nested_and_again() -> None:
    switch = ad.no_grad()
    with switch:
        with switch:
            assert not ad.is_grad_enabled()
        assert not ad.is_grad_enabled()
    assert ad.is_grad_enabled()
    with switch:
        assert not ad.is_grad_enabled()
    assert ad.is_grad_enabled()


def test_set_grad_enabled_acts_at_once_and_as_a_context() -> None:
    ad.set_grad_enabled(False)
    try:
        assert not ad.is_grad_enabled() and not (var() * 2).requires_grad
    finally:
        ad.set_grad_enabled(True)
    assert ad.is_grad_enabled()
    with ad.set_grad_enabled(False):
        assert not ad.is_grad_enabled()
        with ad.set_grad_enabled(True):
            assert ad.is_grad_enabled()
        assert not ad.is_grad_enabled()
    assert ad.is_grad_enabled()


def test_a_generator_keeps_the_switch_of_its_caller() -> None:
    def values() -> Any:
        x = var()
        while True:
            yield (x * 2).requires_grad

    it = values()
    assert next(it)
    with ad.no_grad():
        assert not next(it)
    assert next(it)


# --- detect_anomaly ------------------------------------------------------------------------------------------------------------------------
def test_anomaly_in_the_forward_pass_names_the_operation_and_the_line() -> None:
    x = var([1.0, 0.0])
    with ad.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(AnomalyError) as caught:
        _divide(x)
    text = str(caught.value)
    assert "divide made a NaN or an infinity from finite operands; recorded at" in text
    assert "test_modes.py" in text and "_divide" in text and "return 1.0 / x  # the fault" in text
    assert text.rstrip().endswith("# the fault")  # no line of the package's own behind it


def _divide(x: Any) -> Any:
    return 1.0 / x  # the fault


def test_anomaly_in_the_backward_pass_says_where_the_operation_was_recorded() -> None:
    x = var([0.0, 1.0])
    with ad.detect_anomaly(), np.errstate(all="ignore"):
        y = _root(x).sum()
        with pytest.raises(AnomalyError) as caught:
            y.backward()
    text = str(caught.value)
    assert "the derivative of sqrt made a NaN or an infinity from a finite cotangent; the operation was recorded at" in text
    assert "return ad.namespace(x).sqrt(x)  # the other fault" in text


def _root(x: Any) -> Any:
    return ad.namespace(x).sqrt(x)  # the other fault


def test_anomaly_of_an_operation_recorded_outside() -> None:
    x = var([0.0, 1.0])
    y = _root(x).sum()
    with (
        ad.detect_anomaly(),
        np.errstate(all="ignore"),
        pytest.raises(AnomalyError, match=r"derivative of sqrt .*\n.*outside detect_anomaly"),
    ):
        y.backward()


@pytest.mark.parametrize(
    "run",
    [
        lambda x: ad.grad(lambda x: _root(x).sum())(x),
        lambda x: ad.value_and_grad(lambda x: _root(x).sum())(x),
        lambda x: ad.jacrev(_root)(x),
        lambda x: ad.vmap(ad.grad(_root))(x),
        lambda x: ad.hessian(lambda x: (_root(x) ** 3).sum())(x),
    ],
    ids=["grad", "value_and_grad", "jacrev", "vmap", "hessian"],
)
def test_anomaly_inside_transformations(run: Callable[[Any], Any]) -> None:
    with ad.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(AnomalyError, match=r"(sqrt|divide|multiply|power|pow)"):
        run(np.asarray([0.0, 1.0]))


def test_anomaly_in_a_rule_of_the_users() -> None:
    @ad.custom_vjp
    def f(x: Any) -> Any:
        return x * 1.0

    f.defvjp(lambda x: (x * 1.0, None), lambda _, ct: (ct / 0.0,))
    for run in (lambda: ad.grad(lambda x: f(x).sum())(X), lambda: f(var()).sum().backward()):
        with ad.detect_anomaly(), np.errstate(all="ignore"), pytest.raises(AnomalyError, match="derivative of custom_vjp f") as caught:
            run()
        assert "test_modes.py" in str(caught.value)


def test_what_was_not_finite_before_is_no_anomaly() -> None:
    with ad.detect_anomaly(), np.errstate(all="ignore"):
        x = var([np.nan, np.inf])
        y = x * 2 + 1
        y.sum().backward()
        assert_exact(ad.grad(lambda x: (x * x).sum())(X), 2 * X)
    assert_exact(x.grad, [2.0, 2.0])


def test_anomaly_detection_changes_no_result() -> None:
    f = lambda x: (ad.namespace(x).sin(x) * x[0] + ad.namespace(x).concat([x[1:], x[:1]]) ** 2).sum()
    with ad.detect_anomaly():
        x = var()
        f(x).backward()
        h = ad.hessian(f)(X)
        (g,) = ad.gradients(f(x), x, create_graph=True)
        (gg,) = ad.gradients(g.sum(), x)
        with ad.no_grad():
            assert not (x * 2).requires_grad
    assert_exact(x.grad, ad.grad(f)(X))
    assert_exact(h, ad.hessian(f)(X))
    assert_exact(gg, h.sum(axis=0))


def test_without_detection_nothing_is_checked() -> None:
    with np.errstate(all="ignore"):
        x = var([0.0])
        _root(x).sum().backward()
    assert np.isinf(x.grad[0])


# --- escapes ------------------------------------------------------------------------------------------------------------------------------------
CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "float()": float,
    "int()": int,
    "complex()": complex,
    "item()": lambda x: x.item(),
    "tolist()": lambda x: x.tolist(),
}
RUNS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda f: ad.grad(f)(2.0),
    "vjp": lambda f: ad.vjp(f, 2.0),
    "jvp": lambda f: ad.jvp(f, (2.0,), (1.0,)),
    "value_and_grad": lambda f: ad.value_and_grad(f)(2.0),
}


@pytest.mark.parametrize("how", CONVERSIONS)
@pytest.mark.parametrize("run", RUNS)
def test_escapes_raise_by_default(how: str, run: str) -> None:
    def loss(x: Any) -> Any:
        CONVERSIONS[how](x)
        return x * x

    with pytest.raises(EscapedArrayError) as caught:
        RUNS[run](loss)
    text = str(caught.value)
    assert text.startswith(f"{how} takes a value out of {run}(loss), and its derivative would be lost.")
    assert "stop_gradient" in text and "escapes('allow')" in text


@pytest.mark.parametrize("how", CONVERSIONS)
def test_escapes_allow_and_warn(how: str) -> None:
    seen = []

    def loss(x: Any) -> Any:
        seen.append(CONVERSIONS[how](x))
        return x * x

    with ad.escapes("allow"):
        assert_exact(ad.grad(loss)(2.0), 4.0)
    assert seen == [2.0] and not isinstance(seen[0], ad.Variable)
    with ad.escapes("warn"), pytest.warns(RuntimeWarning, match=r"takes a value out of grad\(loss\)") as caught:
        ad.grad(loss)(2.0)
    assert caught[0].filename == __file__
    with pytest.raises(EscapedArrayError):
        ad.grad(loss)(2.0)


def test_escapes_is_a_setter_too() -> None:
    ad.escapes("allow")
    try:
        ad.grad(lambda x: x * float(x))(2.0)
    finally:
        ad.escapes("raise")
    with pytest.raises(EscapedArrayError):
        ad.grad(lambda x: x * float(x))(2.0)
    with pytest.raises(ValueError, match=r"escapes takes 'raise', 'warn' or 'allow', not 'never'"):
        ad.escapes("never")


def test_what_carries_no_gradient_may_leave() -> None:
    def loss(x: Any) -> Any:
        assert float(ad.stop_gradient(x)) == 2.0
        assert float(ad.namespace(x).zeros(())) == 0.0
        assert int(ad.namespace(x).argmax(ad.namespace(x).stack([x, x]))) == 0
        assert bool(x > 1) and (x if x > 0 else -x) is x
        with ad.no_grad():
            assert float(x * 3) == 6.0
        return x * x

    assert_exact(ad.grad(loss)(2.0), 4.0)
    assert_exact(ad.jvp(lambda x: x * int(ad.namespace(x).argmax(ad.namespace(x).stack([x, 2 * x]))), (2.0,), (1.0,))[1], 1.0)


def test_base_level_variables_convert_freely() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = var(2.0)
        assert float(x * x) == 4.0 and (x * x).item() == 4.0 and int(x) == 2


def test_escapes_through_several_levels() -> None:
    # the inner value carries the outer gradient
    def outer(x: Any) -> Any:
        return ad.grad(lambda y: y * float(ad.stop_gradient(y)))(x) + x

    assert_exact(ad.grad(outer)(2.0), 1.0)

    def wrong(x: Any) -> Any:
        return ad.grad(lambda y: y * float(x))(1.0)

    with pytest.raises(EscapedArrayError, match=r"out of grad\(wrong\)"):
        ad.grad(wrong)(2.0)


# --- strong_zeros -------------------------------------------------------------------------------------------------------------------------
EDGE = np.asarray([0.0, 4.0, -1.0])
MASKED: list[tuple[str, Callable[..., Any], list[float], list[float]]] = [
    ("sqrt", lambda xp, x: xp.where(x > 0, xp.sqrt(x), 0.0), [0.0, 0.25, 0.0], [0.0, -1 / 32, 0.0]),
    ("log", lambda xp, x: xp.where(x > 0, x * xp.log(x), x), [1.0, 1 + np.log(4.0), 1.0], [0.0, 0.25, 0.0]),
    ("divide", lambda xp, x: xp.where(x > 0, 1 / x, -x), [-1.0, -1 / 16, -1.0], [0.0, 1 / 32, 0.0]),
    ("pow", lambda xp, x: xp.where(x > 0, x**0.5 * xp.exp(-x), 0.0), [0.0, -1.75 * np.exp(-4.0), 0.0], [0.0, 1.46875 * np.exp(-4.0), 0.0]),
    ("chain", lambda xp, x: xp.where(x <= 0, 0.0, xp.sin(xp.log(x))), [0.0, np.cos(np.log(4)) / 4, 0.0], []),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "f", "first", "second"), MASKED, ids=[m[0] for m in MASKED])
def test_strong_zeros(backend: support.Backend, name: str, f: Callable[..., Any], first: list[float], second: list[float]) -> None:
    """What `where` does not choose adds nothing, in every mode, though its own derivative is infinite or NaN there."""
    xp = ad.differentiable(backend.xp)
    x = backend.asarray(EDGE)
    one = backend.asarray(np.ones(3))
    loss = lambda x: xp.sum(f(xp, x))
    v = ad.Variable(x)
    with ad.strong_zeros():
        found = [
            ad.grad(loss)(x),
            ad.vjp(lambda x: f(xp, x), x)[1](one)[0],
            ad.jvp(lambda x: f(xp, x), (x,), (one,))[1],
            ad.vmap(ad.grad(lambda x: f(xp, x)))(x),
        ]
        loss(v).backward()
        if second:
            seconds = [
                ad.grad(lambda x: xp.sum(ad.grad(loss)(x)))(x),
                ad.jvp(ad.grad(loss), (x,), (one,))[1],
                ad.grad(lambda x: xp.sum(ad.jvp(lambda x: f(xp, x), (x,), (one,))[1]))(x),
            ]
            for result in seconds:
                assert_close(backend.numpy(result), np.asarray(second))
    for result in (*found, v.grad):
        assert_close(backend.numpy(result), np.asarray(first))


def test_without_strong_zeros_the_derivative_is_nan() -> None:
    xp = ad.differentiable(np)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert np.isnan(ad.grad(lambda x: xp.where(x > 0, xp.sqrt(x), 0.0))(0.0))
        assert ad.strong_zeros(lambda: ad.grad(lambda x: xp.where(x > 0, xp.sqrt(x), 0.0))(0.0))() == 0.0
