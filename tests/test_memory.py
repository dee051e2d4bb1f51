"""Memory: no reference cycles, nothing kept that no rule needs, long graphs without recursion."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close, assert_exact

import agnostic_ad as ad

X = np.asarray([0.3, -1.2, 0.7])


class Tracked(np.ndarray):
    """An array that can be referred to weakly; results of operations on it are Tracked too."""


def tracked(*shape: int) -> Any:
    return np.ones(shape or (1000,)).view(Tracked)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _define_by_run() -> None:
    w = ad.Variable(np.ones((3, 3)))
    x = ad.Variable(X)
    y = ad.namespace(w).tanh(w @ x) * x[::-1] + x.sum()
    y[0] = x[1] * 2
    y += 1
    ad.namespace(y).concat([y, y[:1]]).sum().backward()
    w.grad = None


def _with_hooks() -> None:
    x = ad.Variable(X)
    y = x * 2
    y.retain_grad()
    handle = y.register_hook(lambda g: g * 2)
    (y * y).sum().backward()
    handle.remove()


def _create_graph() -> None:
    x = ad.Variable(X)
    (g,) = ad.gradients((x**3).sum(), x, create_graph=True)
    (h,) = ad.gradients((g * g).sum(), x, create_graph=True)
    h.sum().backward()


def _never_run() -> None:
    x = ad.Variable(X)
    (ad.namespace(x).sin(x) * x).sum()


def _f(x: Any) -> Any:
    xp = ad.namespace(x)
    return xp.sum(xp.sin(x) * x + x[0] * xp.exp(x))


@ad.custom_vjp
def _custom(x: Any) -> Any:
    return x * x


_custom.defvjp(lambda x: (x * x, x), lambda x, ct: (2 * x * ct,))


class _Square(ad.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, ct: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * ct


def _failing() -> None:
    with contextlib.suppress(AttributeError):
        ad.grad(lambda x: x.nonsense)(X)


STEPS: dict[str, Callable[[], Any]] = {
    "define-by-run": _define_by_run,
    "hooks": _with_hooks,
    "create_graph": _create_graph,
    "forward only": _never_run,
    "grad": lambda: ad.grad(_f)(X),
    "value_and_grad": lambda: ad.value_and_grad(_f)(X),
    "grad of grad": lambda: ad.grad(lambda x: ad.grad(_f)(x).sum())(X),
    "hessian": lambda: ad.hessian(_f)(X),
    "jacrev": lambda: ad.jacrev(lambda x: x * x.sum())(X),
    "jacfwd": lambda: ad.jacfwd(lambda x: x * x.sum())(X),
    "hvp": lambda: ad.hvp(_f, (X,), (X,)),
    "jvp": lambda: ad.jvp(_f, (X,), (X,)),
    "vjp": lambda: ad.vjp(lambda x: x * x, X)[1](X),
    "linearize": lambda: ad.linearize(lambda x: x * x, X)[1](X),
    "vmap": lambda: ad.vmap(_f)(np.stack([X, X])),
    "vmap of grad": lambda: ad.vmap(ad.grad(_f))(np.stack([X, X])),
    "grad of vmap": lambda: ad.grad(lambda a: ad.vmap(_f)(a).sum())(np.stack([X, X])),
    "checkpoint": lambda: ad.grad(lambda x: ad.checkpoint(_f)(x))(X),
    "custom_vjp": lambda: ad.grad(lambda x: _custom(x).sum())(X),
    "Function": lambda: _Square.apply(ad.Variable(X)).sum().backward(),
    "no_grad": lambda: ad.no_grad()(lambda: ad.Variable(X) * 2)(),
    "capture": lambda: ad.graph.capture(_f, X)(X),
    "namespace": lambda: ad.grad(lambda x: x.__array_namespace__().sum(x.__array_namespace__().zeros_like(x) + x))(X),
}


@pytest.mark.parametrize("name", STEPS)
def test_no_reference_cycles(name: str, no_collector: None) -> None:
    step = STEPS[name]
    step()
    gc.collect()
    for _ in range(100):
        step()
    assert gc.collect() == 0


def test_no_reference_cycles_of_a_failing_function(no_collector: None) -> None:
    # an exception's traceback refers to frames; once it is gone, so is all else
    _failing()
    gc.collect()
    levels = [o for o in gc.get_objects() if type(o).__name__ == "ReverseLevel"]
    for _ in range(20):
        _failing()
    assert len([o for o in gc.get_objects() if type(o).__name__ == "ReverseLevel"]) == len(levels)


@pytest.mark.parametrize("name", ["define-by-run", "grad", "hessian", "vmap of grad"])
def test_memory_is_flat_without_the_collector(name: str, no_collector: None) -> None:
    step = STEPS[name]
    grown = []
    for _ in range(20):  # the interpreter's own free lists fill up first
        before = sys.getallocatedblocks()
        for _ in range(100):
            step()
        grown.append(sys.getallocatedblocks() - before)
        if grown[-1] < 20:
            return
    raise AssertionError(f"100 steps leave {grown} blocks behind")


# --- what is kept ----------------------------------------------------------------------------------------------------------------------------
def _kept(f: Callable[[Any], Any], **options: Any) -> tuple[bool, Any]:
    """Whether the operand's memory outlives the operand, while the result lives."""
    v = ad.Variable(np.ones(5)) * 1
    payload = tracked(5)
    alive = weakref.ref(payload)
    v.payload = payload
    del payload
    y = f(v)
    del v
    return alive() is not None, y


KEEPS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "add": (lambda x: x + 1.0, False),
    "add arrays": (lambda x: x + np.ones(5), False),
    "subtract": (lambda x: 2.0 - x, False),
    "negative": (lambda x: -x, False),
    "multiply by a number": (lambda x: x * 2.0, False),
    "multiply by a constant": (lambda x: x * np.ones(5), False),
    "divide by a number": (lambda x: x / 2.0, False),
    "sum": (lambda x: x.sum(), False),
    "mean": (lambda x: x.mean(), False),
    "exp": (lambda x: ad.namespace(x).exp(x), False),
    "tanh": (lambda x: ad.namespace(x).tanh(x), False),
    "sqrt": (lambda x: ad.namespace(x).sqrt(x), False),
    "concat": (lambda x: ad.namespace(x).concat([x, x]), False),
    "stack": (lambda x: ad.namespace(x).stack([x]), False),
    "astype": (lambda x: x.astype("float32"), False),
    "cumsum": (lambda x: x.cumsum(), False),
    "where": (lambda x: ad.namespace(x).where(np.ones(5) > 0, x, 0.0), False),
    "constant @ x": (lambda x: np.ones((2, 5)) @ x, False),
    "comparison": (lambda x: x > 0, False),
    "gather": (lambda x: x[[0, 1]], False),
    "sin": (lambda x: ad.namespace(x).sin(x), True),
    "square": (lambda x: x * x, True),
    "log": (lambda x: ad.namespace(x).log(x), True),
}


@pytest.mark.parametrize("name", KEEPS)
def test_what_no_rule_needs_is_freed_at_once(name: str) -> None:
    f, wanted = KEEPS[name]
    kept, y = _kept(f)
    assert kept is wanted
    del y


def test_backward_frees_what_was_saved() -> None:
    x = ad.Variable(np.ones(5))
    h = x * 2
    payload = tracked(5)
    alive = weakref.ref(payload)
    h.payload = payload
    del payload
    y = ad.namespace(h).sin(h)
    z = y.sum()
    del h
    assert alive() is not None
    z.backward(retain_graph=True)
    assert alive() is not None
    z.backward()
    assert alive() is None
    assert_exact(x.grad, 4 * np.cos(1.0) * np.ones(5))


def test_dropping_the_result_frees_the_graph() -> None:
    x = ad.Variable(np.ones(5))
    h = x * 2
    h.payload = payload = tracked(5)
    alive = weakref.ref(payload)
    del payload
    y = ad.namespace(h).sin(h) * h
    del h
    assert alive() is not None
    del y
    assert alive() is None


def test_cotangents_are_dropped_as_they_are_used() -> None:
    living: list[weakref.ref[Any]] = []
    most = 0

    @ad.custom_vjp
    def probe(x: Any) -> Any:
        return x + 0.0

    def bwd(_: Any, ct: Any) -> Any:
        nonlocal most
        out = np.asarray(ct).copy().view(Tracked)
        living.append(weakref.ref(out))
        most = max(most, sum(r() is not None for r in living))
        return (out,)

    probe.defvjp(lambda x: (x + 0.0, None), bwd)
    x = ad.Variable(X)
    y = x
    for _ in range(50):
        y = probe(y) * 1.5
    y.sum().backward()
    assert most <= 4


def test_a_pullback_keeps_its_tape_and_no_longer() -> None:
    payload = tracked(5)
    alive = weakref.ref(payload)
    y, pullback = ad.vjp(lambda x: ad.namespace(x).sin(x) * 2, payload)
    del payload, y
    assert alive() is not None
    pullback(np.ones(5))
    del pullback
    assert alive() is None


def test_checkpoint_keeps_its_arguments_only() -> None:
    def kept(wrap: Callable[[Any], Any]) -> int:
        refs = []

        def block(x: Any) -> Any:
            xp = ad.namespace(x)
            for _ in range(5):
                x = xp.sin(x * 1.0)
                x.payload = x.payload.view(Tracked)
                refs.append(weakref.ref(x.payload))
                x = xp.sin(x)
            return x

        x = ad.Variable(np.ones(5))
        y = wrap(block)(x)
        return sum(r() is not None for r in refs) + 0 * y.ndim

    assert kept(lambda f: f) == 5
    assert kept(ad.checkpoint) == 0


# --- long graphs -------------------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["chain", "additions", "structural"])
def test_a_long_graph(kind: str) -> None:
    n = 200_000 if kind != "structural" else 12_000
    assert n > 10 * sys.getrecursionlimit()
    x = ad.Variable(np.ones(1))
    y = x
    if kind == "chain":
        for _ in range(n // 2):
            y = y * 0.999999 + x
        want = np.sum(0.999999 ** np.arange(n // 2 + 1))
    elif kind == "additions":
        for _ in range(n):
            y = y + x
        want = n + 1.0
    else:
        for _ in range(n):
            y = _custom(y) * 0.5 + 0.5
        want = 1.0
    y.backward()
    assert_close(x.grad, [want], 1e-9)
    del y


def test_dropping_a_long_graph_that_was_never_differentiated() -> None:
    x = ad.Variable(np.ones(1))
    y = x
    for _ in range(200_000):
        y = y * 0.999999
    node = weakref.ref(y)
    del y
    assert node() is None


def test_a_long_graph_inside_grad_and_jvp() -> None:
    def f(x: Any) -> Any:
        y = x
        for _ in range(20_000):
            y = y * 0.9999 + x
        return y

    want = np.sum(0.9999 ** np.arange(20_001))
    assert_close(ad.grad(f)(1.0), want, 1e-10)
    assert_close(ad.jvp(f, (1.0,), (1.0,))[1], want, 1e-10)
    assert_close(ad.grad(lambda x: ad.grad(f)(x) * x)(1.0), want, 1e-10)


def test_gradients_over_a_long_graph_prunes_without_recursion() -> None:
    x = ad.Variable(np.ones(1))
    y = x * 1
    z = y
    for _ in range(20_000):
        z = z * 1.0 + x
    (g,) = ad.gradients(z, y)
    assert_exact(g, [1.0])
