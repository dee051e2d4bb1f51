"""check_grads: it passes what is right, and says what is wrong with numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad

X = np.asarray([0.3, -1.2, 0.7])
Z = np.asarray([1 + 2j, -0.5 + 0.3j])


def smooth(x: Any) -> Any:
    xp = ad.namespace(x)
    return xp.sin(x) * xp.exp(-x * x) + xp.sum(x)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("fwd", "rev"), ["rev", "fwd"]])
def test_right_derivatives_pass(order: int, modes: Any) -> None:
    assert ad.check_grads(smooth, [X], order=order, modes=modes) is None


def test_on_every_library_and_in_float32(backend: support.Backend) -> None:
    ad.check_grads(smooth, [backend.asarray(X)], order=1)
    if backend.name in ("numpy", "torch", "array_api_strict"):
        ad.check_grads(smooth, [backend.asarray(X)])
        ad.check_grads(smooth, (backend.asarray(X, "float32"),), order=1)


def test_trees_numbers_integers_and_complex() -> None:
    ad.check_grads(lambda p, k: {"y": p["a"] * p["b"][0] ** 2, "n": k * 2}, [{"a": X, "b": (2.0, None)}, 3.0])
    ad.check_grads(lambda z: ad.namespace(z).exp(z) * ad.namespace(z).conj(z), [Z])
    ad.check_grads(lambda z: ad.namespace(z).abs(z), [Z])
    ad.check_grads(lambda x: 2.0 * x, [1.5])


def wrong_vjp(factor: float) -> Any:
    @ad.custom_vjp
    def f(x: Any) -> Any:
        return ad.namespace(x).sin(x)

    f.defvjp(lambda x: (ad.namespace(x).sin(x), x), lambda x, ct: (factor * ct * ad.namespace(x).cos(x),))
    return f


def wrong_jvp(factor: float) -> Any:
    @ad.custom_jvp
    def f(x: Any) -> Any:
        return ad.namespace(x).sin(x)

    f.defjvp(lambda primals, tangents: (f(*primals), factor * tangents[0] * ad.namespace(primals[0]).cos(primals[0])))
    return f


@pytest.mark.parametrize("factor", [1.001, 2.0, 0.0, -1.0])
def test_a_wrong_reverse_rule_fails_with_the_numbers(factor: float) -> None:
    ad.check_grads(wrong_vjp(1.0), [X], modes=("rev",))
    with pytest.raises(AssertionError) as caught:
        ad.check_grads(wrong_vjp(factor), [X], order=1, modes=("rev",))
    _has_numbers(str(caught.value), "reverse derivative of f", factor)


@pytest.mark.parametrize("factor", [1.001, 2.0, 0.0, -1.0])
def test_a_wrong_forward_rule_fails_with_the_numbers(factor: float) -> None:
    ad.check_grads(wrong_jvp(1.0), [X])
    with pytest.raises(AssertionError) as caught:
        ad.check_grads(wrong_jvp(factor), [X], order=1)
    _has_numbers(str(caught.value), "forward derivative of f", factor)


def _has_numbers(text: str, start: str, factor: float) -> None:
    found = re.match(rf"{start}: the derivative is (\S+), differences give (\S+) \(off by (\S+); atol 1e-06, rtol 1e-06\)", text)
    assert found is not None, text
    got, want, off = (float(n) for n in found.groups())
    assert got == pytest.approx(factor * want, rel=1e-6, abs=1e-8) and off == pytest.approx(abs(got - want), rel=1e-2)


def test_a_rule_wrong_in_second_order_only() -> None:
    # the value of the first derivative is right; its own derivative is cut off
    @ad.custom_vjp
    def f(x: Any) -> Any:
        return ad.namespace(x).sin(x)

    f.defvjp(lambda x: (ad.namespace(x).sin(x), x), lambda x, ct: (ct * ad.namespace(x).cos(ad.stop_gradient(x)),))
    ad.check_grads(f, [X], order=1, modes=("rev",))
    with pytest.raises(AssertionError, match=r"reverse derivative of vjp\(f\): the derivative is"):
        ad.check_grads(f, [X], order=2, modes=("rev",))


def test_a_wrong_place_is_found_even_among_many() -> None:
    @ad.custom_vjp
    def f(x: Any) -> Any:
        return x * x

    def bwd(x: Any, ct: Any) -> Any:
        g = 2 * x * ct
        g[500] = g[500] * 1.5
        return (g,)

    f.defvjp(lambda x: (x * x, x), bwd)
    with pytest.raises(AssertionError):
        ad.check_grads(f, [np.linspace(0.5, 1.5, 1000)], order=1, modes=("rev",))


def test_stop_gradient_and_discontinuity_are_found() -> None:
    with pytest.raises(AssertionError):
        ad.check_grads(lambda x: x * ad.stop_gradient(x), [X], order=1)
    with pytest.raises(AssertionError):
        ad.check_grads(lambda x: ad.namespace(x).abs(x), [np.asarray([1e-7])], order=1)


def test_tolerances_and_step() -> None:
    f = wrong_vjp(1.001)
    with pytest.raises(AssertionError, match=r"atol 1e-05, rtol 0"):
        ad.check_grads(f, [X], order=1, modes=("rev",), atol=1e-5, rtol=0.0)
    ad.check_grads(f, [X], order=1, modes=("rev",), atol=1e-2)
    ad.check_grads(f, [X], order=1, modes=("rev",), rtol=1e-2)
    ad.check_grads(smooth, [X], eps=1e-4, rtol=1e-5)


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match=r"modes are 'fwd' and 'rev', not \['forward'\]"):
        ad.check_grads(smooth, [X], modes=("forward",))
    with pytest.raises(TypeError, match="at least one floating or complex array"):
        ad.check_grads(lambda n: n * 2, [np.asarray([1, 2])])


def test_results_are_repeatable_and_nothing_is_changed() -> None:
    x = X.copy()
    messages = []
    for _ in range(2):
        with pytest.raises(AssertionError) as caught:
            ad.check_grads(wrong_vjp(2.0), [x], modes=("rev",))
        messages.append(str(caught.value))
        np.random.standard_normal(3)
    assert messages[0] == messages[1]
    np.testing.assert_array_equal(x, X)


def test_a_function_that_makes_variables() -> None:
    """As those of ``ad.differentiable(xp)`` do, of raw arrays too."""
    xp = ad.differentiable(np)
    ad.check_grads(lambda x: {"s": xp.sin(x), "p": xp.prod(x)}, [np.asarray([0.3, 1.2])])
    with pytest.raises(AssertionError, match="derivative of f"):
        ad.check_grads(lambda x: xp.sin(ad.stop_gradient(x)) * x, [np.asarray([0.3, 1.2])])
