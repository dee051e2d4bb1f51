"""Threads and asyncio tasks: tapes, levels and switches of one do not reach the others."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.errors import EscapedArrayError

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
