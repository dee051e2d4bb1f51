"""Threads and asyncio tasks: tapes, levels and switches of one do not reach the others."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad import namespaces
from agnostic_ad.backends import Backend
from agnostic_ad.errors import EscapedArrayError
from agnostic_ad.reverse import ReverseLevel

X = np.asarray([0.3, -1.2, 0.7])
N = 8


def f(x: Any) -> Any:
    xp = ad.namespace(x)
    return xp.sum(xp.sin(x) * x + x[0] * xp.exp(x))


WANT = ad.grad(f)(X)
HESSIAN = ad.hessian(f)(X)


def in_threads(work: Callable[[int], Any], count: int = N) -> list[Any]:
    """Run ``work`` in threads that start together."""
    barrier = threading.Barrier(count)

    def run(i: int) -> Any:
        barrier.wait(timeout=30)
        return work(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize(
    "work",
    [
        lambda i: ad.grad(f)(X * (i + 1)) - 0,
        lambda i: ad.vmap(ad.grad(f))(np.stack([X, X * (i + 1)]))[1],
        lambda i: ad.jvp(ad.grad(f), (X * (i + 1),), (X,))[0],
        lambda i: ad.grad(lambda x: ad.grad(f)(x).sum())(X) * 0 + ad.grad(f)(X * (i + 1)),
    ],
    ids=["grad", "vmap", "jvp", "nested"],
)
def test_functional_transformations_in_threads(work: Callable[[int], Any]) -> None:
    for i, got in enumerate(in_threads(lambda i: [work(i) for _ in range(20)])):
        for g in got:
            assert_close(g, ad.grad(f)(X * (i + 1)), 1e-13, 1e-13)


def test_define_by_run_tapes_in_threads() -> None:
    def work(i: int) -> Any:
        x = ad.Variable(X * (i + 1))
        for _ in range(20):
            f(x).backward()
        return x.grad

    for i, g in enumerate(in_threads(work)):
        assert_close(g, 20 * ad.grad(f)(X * (i + 1)), 1e-12, 1e-12)


def test_no_grad_in_one_thread_does_not_leak() -> None:
    entered, checked = threading.Event(), threading.Event()
    seen: dict[str, bool] = {}

    def quiet() -> None:
        with ad.no_grad(), ad.escapes("allow"):
            entered.set()
            checked.wait(timeout=30)
            seen["quiet"] = (ad.Variable(X) * 2).requires_grad

    thread = threading.Thread(target=quiet)
    thread.start()
    entered.wait(timeout=30)
    try:
        assert ad.is_grad_enabled() and (ad.Variable(X) * 2).requires_grad
        with pytest.raises(EscapedArrayError):
            ad.grad(lambda x: x * float(x))(2.0)
    finally:
        checked.set()
        thread.join()
    assert seen == {"quiet": False}


def test_a_new_thread_records_whatever_its_maker_does() -> None:
    # contextvars: a thread starts with a fresh context, as torch's grad mode does
    with ad.no_grad():
        assert in_threads(lambda i: (ad.Variable(X) * 2).requires_grad, 1) == [True]
        context = contextvars.copy_context()
        assert context.run(ad.is_grad_enabled) is False


def test_transformations_in_one_thread_are_unseen_by_another() -> None:
    inside, done = threading.Event(), threading.Event()
    results: list[Any] = []

    def slow(x: Any) -> Any:
        inside.set()
        done.wait(timeout=30)
        return f(x)

    thread = threading.Thread(target=lambda: results.append(ad.grad(slow)(X)))
    thread.start()
    inside.wait(timeout=30)
    x = ad.Variable(X)
    f(x).backward()
    g = ad.vmap(ad.grad(f))(X[None])[0]
    assert isinstance(ad.differentiable(np).zeros(2), ad.Variable)
    done.set()
    thread.join()
    for got in (results[0], x.grad, g):
        assert_close(got, WANT, 1e-14, 1e-14)


def test_one_function_transformed_once_and_called_everywhere() -> None:
    g = ad.vmap(ad.grad(f))
    h = ad.hessian(f)
    for a, b in in_threads(lambda i: (g(X[None])[0], h(X))):
        assert_close(a, WANT, 1e-14, 1e-14)
        assert_close(b, HESSIAN, 1e-13, 1e-13)


def test_a_pullback_called_in_several_threads() -> None:
    _, pullback = ad.vjp(lambda x: ad.namespace(x).sin(x) * x, X)
    want = pullback(np.ones(3))[0]
    for i, (g,) in enumerate(in_threads(lambda i: pullback((i + 1) * np.ones(3)))):
        assert_close(g, (i + 1) * want, 1e-14)


def test_a_shared_parameter_is_read_by_many_tapes() -> None:
    w = ad.Variable(X)
    for (g,) in in_threads(lambda i: ad.gradients(f(w * (i + 1)), w)):
        assert g.shape == (3,)
    assert w.grad is None
    assert_close(ad.gradients(f(w), w)[0], WANT, 1e-14)


# --- asyncio ------------------------------------------------------------------------------------------------------------------------------
async def _async_loss(x: Any, pauses: int) -> Any:
    total = x * 0
    for i in range(pauses):
        total = total + x * (i + 1)
        await asyncio.sleep(0)
    return total


def test_tasks_have_switches_of_their_own() -> None:
    async def quiet() -> list[bool]:
        with ad.no_grad():
            seen = []
            for _ in range(5):
                await asyncio.sleep(0)
                seen.append((ad.Variable(X) * 2).requires_grad)
        return seen

    async def loud() -> list[bool]:
        seen = []
        for _ in range(5):
            await asyncio.sleep(0)
            seen.append((ad.Variable(X) * 2).requires_grad)
        return seen

    async def main() -> Any:
        return await asyncio.gather(quiet(), loud(), quiet(), loud())

    assert asyncio.run(main()) == [[False] * 5, [True] * 5] * 2
    assert ad.is_grad_enabled()


def test_tapes_in_tasks() -> None:
    async def work(i: int) -> Any:
        x = ad.Variable(X * (i + 1))
        y = await _async_loss(x, 4)
        (y * y).sum().backward()
        await asyncio.sleep(0)
        return x.grad

    async def main() -> Any:
        return await asyncio.gather(*(work(i) for i in range(N)))

    for i, g in enumerate(asyncio.run(main())):
        assert_exact(g, 2 * 100 * X * (i + 1))


def test_functional_transformations_interleaved_in_tasks() -> None:
    async def work(i: int) -> Any:
        out = []
        for _ in range(5):
            out.append(ad.grad(lambda x: ad.grad(lambda y: y * y * x)(x) * (i + 1))(2.0))  # d/dx 2 x^2 (i + 1)
            await asyncio.sleep(0)
        return out

    async def main() -> Any:
        return await asyncio.gather(*(work(i) for i in range(N)))

    for i, got in enumerate(asyncio.run(main())):
        assert [float(g) for g in got] == [8.0 * (i + 1)] * 5


# --- threads inside a transformation ------------------------------------------------------------------------------------------------------
def there(work: Callable[[], Any]) -> Any:
    """Run in a new thread, whose context is empty."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(timeout=60)


NESTED: dict[str, tuple[Callable[[Callable[..., Any]], Any], float]] = {
    "confusion": (lambda at: ad.grad(lambda x: x * at(lambda: ad.grad(lambda y: x + y)(1.0)))(1.0), 1.0),
    "grad in grad": (lambda at: ad.grad(lambda x: x * at(lambda: ad.grad(lambda y: x * y * y)(3.0)))(1.0), 12.0),
    "grad of the argument": (lambda at: ad.grad(lambda x: x * at(lambda: ad.grad(lambda y: y * y * x)(x)))(2.0), 24.0),
    "grad in jvp": (lambda at: ad.jvp(lambda x: x * at(lambda: ad.grad(lambda y: x * y * y)(3.0)), (1.0,), (1.0,))[1], 12.0),
    "jvp in grad": (lambda at: ad.grad(lambda x: x * at(lambda: ad.jvp(lambda y: x * y * y, (3.0,), (1.0,))[1]))(1.0), 12.0),
    "grad in vmap": (lambda at: ad.vmap(lambda x: at(lambda: ad.grad(lambda y: x * y * y)(3.0)))(np.ones(2))[1], 6.0),
    "vmap in grad": (lambda at: ad.grad(lambda x: at(lambda: ad.vmap(lambda y: x * x * y)(np.arange(4.0))).sum())(1.0), 12.0),
    "a new array": (lambda at: ad.grad(lambda x: at(lambda: ad.namespace(x).ones(3) * x * x).sum())(2.0), 12.0),
    "no_grad": (lambda at: ad.grad(lambda x: x * at(lambda: ad.no_grad()(lambda: x * x)()))(2.0), 4.0),
}


@pytest.mark.parametrize("name", NESTED)
def test_a_function_may_leave_work_to_threads(name: str) -> None:
    work, want = NESTED[name]
    assert float(work(lambda f: f())) == want
    assert float(work(there)) == want
    assert [float(g) for g in in_threads(lambda i: work(there))] == [want] * N


def test_hooks_run_where_the_backward_pass_runs() -> None:
    w = ad.Variable(X)
    seen: list[tuple[int, int]] = []

    def work(i: int) -> Any:
        y = w * (i + 1)
        y.register_hook(lambda g: seen.append((i, threading.get_ident())) or g * 2)
        return threading.get_ident(), ad.gradients(y.sum(), w)[0]

    found = in_threads(work)
    assert sorted(seen) == [(i, ident) for i, (ident, _) in enumerate(found)]
    for i, (_, g) in enumerate(found):
        assert_exact(g, np.full(3, 2.0 * (i + 1)))


def test_a_decorated_function_runs_in_many_threads() -> None:
    w = ad.Variable(X)
    meet = threading.Barrier(N)

    @ad.no_grad()
    def quiet() -> Any:
        meet.wait(timeout=30)
        y = w * 2
        meet.wait(timeout=30)
        return y.requires_grad

    @ad.set_grad_enabled(False)
    def quiet_too() -> Any:
        meet.wait(timeout=30)
        return (w * 2).requires_grad

    assert ad.is_grad_enabled()  # decorating switches nothing
    assert in_threads(lambda i: (quiet(), quiet_too(), (w * 2).requires_grad)) == [(False, False, True)] * N


def test_a_pullback_with_a_checkpoint_called_in_several_threads() -> None:
    def block(x: Any) -> Any:
        time.sleep(0.002)
        y = ad.namespace(x).sin(x)
        time.sleep(0.002)
        return y * x

    _, pullback = ad.vjp(lambda x: ad.checkpoint(block)(ad.checkpoint(block)(x)), X)
    want = ad.vjp(lambda x: block(block(x)), X)[1](np.ones(3))[0]
    for i, (g,) in enumerate(in_threads(lambda i: pullback((i + 1) * np.ones(3)))):
        assert_close(g, (i + 1) * want, 1e-14)


def test_a_shared_model_is_read_by_threads_with_losses_of_their_own() -> None:
    from agnostic_ad import nn

    with ad.defaults(dtype="float64"):
        model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    parameters = list(model.parameters())
    rows = np.random.default_rng(0).standard_normal((N, 4, 3))

    def work(i: int) -> Any:
        loss = (model(rows[i]) ** 2).sum() * (i + 1)
        return ad.gradients(loss, parameters)

    want = [work(i) for i in range(N)]
    for got, wanted in zip(in_threads(lambda i: [work(i) for _ in range(10)]), want, strict=True):
        for repeat in got:
            for g, w in zip(repeat, wanted, strict=True):
                assert_close(g, w, 1e-12, 1e-12)
    assert all(p.grad is None for p in parameters)


def test_mutation_in_threads_stays_there() -> None:
    x = ad.Variable(X)

    def work(i: int) -> Any:
        y = x * (i + 1)
        row = y[1:]
        for _ in range(20):
            row += 1.0
            y[0] = y[0] * 2.0
        return ad.gradients((y * y).sum(), x)[0]

    for i, g in enumerate(in_threads(work)):
        k = i + 1
        assert_close(g, 2 * k * np.concatenate([k * X[:1] * 2.0**40, k * X[1:] + 20.0]), 1e-13)


# --- what is made when it is first used ------------------------------------------------------------------------------------------------------
def test_the_tape_over_a_tape_is_one_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    below = ReverseLevel("a tape")
    below.depth = 0
    plain = ReverseLevel.__init__

    def slow(self: ReverseLevel, label: str) -> None:
        plain(self, label)
        time.sleep(0.01)

    monkeypatch.setattr(ReverseLevel, "__init__", slow)
    found = in_threads(lambda i: below.above())
    assert all(level is found[0] and level.depth == 1 for level in found)


def test_a_library_met_by_many_threads_at_once_has_one_backend() -> None:
    library = types.ModuleType("a_library_of_this_test")
    vars(library).update({k: v for k, v in vars(np).items() if not k.startswith("__")})

    class Slow(Backend):
        def complex_dtypes(self) -> Any:
            time.sleep(0.01)
            return super().complex_dtypes()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(namespaces, "Backend", Slow)
        found = in_threads(lambda i: namespaces.backend_of_namespace(library))
    assert all(backend is found[0] for backend in found) and type(found[0]) is Slow


RACE = """
import importlib, sys, threading, traceback
sys.setswitchinterval(1e-6)
import numpy as np
import agnostic_ad as ad
from agnostic_ad import nn

N, X, W = 12, np.linspace(0.1, 0.9, 6), np.linspace(-1.0, 1.0, 6)

def f(x):
    xp = ad.namespace(x)
    y = xp.sin(x) * x + xp.exp(x[0]) / (1 + xp.tanh(x) ** 2)
    y[1:] += xp.sqrt(x[:-1])
    z = xp.sum(xp.reshape(y, (2, 3)) @ x.reshape(3, 2)) + xp.max(y) - xp.std(x) + xp.prod(x) + (x[::2] * y.clip(0.2, 0.8)[[0, 0, 1]]).sum()
    return z + xp.linalg.vector_norm(x) + nn.functional.relu(y - 0.5).sum()

def tape(x):
    v = ad.Variable(x)
    f(v).backward()
    return v.grad

def above(x):
    y = ad.differentiable(ad.differentiable(np)).asarray(x)
    y.requires_grad = True
    f(y).backward()
    return y.grad.detach().numpy() if isinstance(y.grad, ad.Variable) else y.grad

def strict(x):
    xp = importlib.import_module("array_api_strict")
    return np.asarray(ad.grad(f)(xp.asarray(x))._array)

WAYS = [
    ad.grad(f), tape, above, strict, ad.jacfwd(f),
    lambda x: ad.vmap(ad.grad(f))(np.stack([x, x]))[1],
    lambda x: ad.jvp(ad.grad(f), (x,), (W,))[0],
    lambda x: ad.grad(lambda z: ad.jvp(f, (z,), (W,))[1] * 0 + f(z))(x),
]
start, results, errors = threading.Barrier(N), {}, []

def work(i):
    start.wait()
    for k in range(len(WAYS)):
        way = (i + k) % len(WAYS)
        try:
            results[i, way] = WAYS[way](X)
        except BaseException:
            errors.append((i, way, traceback.format_exc()))

threads = [threading.Thread(target=work, args=(i,)) for i in range(N)]
[t.start() for t in threads]
[t.join() for t in threads]
want = ad.grad(f)(X)
wrong = [where for where, g in results.items() if not np.allclose(g, want, rtol=1e-12, atol=1e-13)]
assert not errors, errors[0][2]
assert not wrong and len(results) == N * len(WAYS), wrong
"""


@pytest.mark.parametrize("number", range(4))
def test_everything_is_first_used_by_many_threads_at_once(number: int) -> None:
    # a new interpreter: nothing is compiled or looked up yet, and threads change places as often as they can
    done = subprocess.run([sys.executable, "-P", "-W", "error", "-c", RACE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
