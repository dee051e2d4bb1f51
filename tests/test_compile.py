"""ad.compile: captured once for each kind of arguments, with the reason; bounded; safe in threads; and the plain function where that is meant."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import pytest
import support
from derivatives import assert_close, assert_exact

import agnostic_ad as ad
from agnostic_ad.errors import UnsupportedError

X = np.asarray([0.3, -1.2, 0.7])


class Counted:
    """A function that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, x: Any, scale: Any = 2.0) -> Any:
        self.runs += 1
        return ad.namespace(x).sin(x) * scale


def counted(**options: Any) -> tuple[Counted, Any]:
    f = Counted()
    return f, ad.compile(lambda x, scale=2.0: f(x, scale), **options)


def reasons(g: Any) -> list[str]:
    return [c.reason for c in g.captures]


def test_it_is_captured_once_a_signature() -> None:
    f, g = counted()
    for _ in range(3):
        assert_exact(g(X), np.sin(X) * 2)
    assert f.runs == 1
    assert_exact(g(X[:2]), np.sin(X[:2]) * 2)
    assert g(X.astype("float32")).dtype == np.float32
    assert_exact(g(X, 3.0), np.sin(X) * 3)
    assert f.runs == 4
    assert_exact(g(X + 1), np.sin(X + 1) * 2)
    assert f.runs == 4


def test_it_says_why() -> None:
    _, g = counted()
    g(X)
    g(X[:2])
    g(X.astype("float32"))
    g(X, 3.0)
    g(X, scale=3.0)
    g(X, 3)
    assert reasons(g) == [
        "the first call",
        "argument 0 is an array of numpy, shape (2,), dtype float64, on cpu, not an array of numpy, shape (3,), dtype float64, on cpu",
        "argument 0 is an array of numpy, shape (3,), dtype float32, on cpu, not an array of numpy, shape (3,), dtype float64, on cpu",
        "another structure of the arguments",
        "another structure of the arguments",
        "argument 1 is a number, 3, not 3.0",
    ]
    assert all(c.seconds > 0 for c in g.captures)


def test_the_log_says_it_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "agnostic_ad.compile"):
        _, g = counted()
        g(X)
    assert "compile(<lambda>): the first call" in caplog.text


def test_paths_of_arguments_in_trees() -> None:
    g = ad.compile(lambda p, flags: p["w"] * 2 if flags[1] else p["w"])
    assert_exact(g({"w": X}, [0, True]), X * 2)
    assert_exact(g({"w": X}, [0, False]), X)
    g({"w": X[:1]}, [0, False])
    assert reasons(g)[1] == "argument 1[1] is a number, False, not True"
    assert reasons(g)[2].startswith("argument 0['w'] is an array of numpy, shape (1,)")


def test_settings_belong_to_the_signature() -> None:
    f, g = counted()
    g(X)
    with ad.no_grad():
        g(X)
    with ad.defaults(dtype="float64"):
        g(X)
    assert f.runs == 3
    assert reasons(g)[1] == "the setting grad_enabled is False, not True"
    assert reasons(g)[2].startswith("the setting defaults is ")


def test_few_graphs_are_kept() -> None:
    f, g = counted(maxsize=2)
    for n in (1, 2, 3):
        g(np.ones(n))
    g(np.ones(3))
    assert f.runs == 3
    g(np.ones(1))
    assert f.runs == 4 and repr(g) == "<compiled <lambda>, 2 graphs>"


def test_the_graph_that_was_used_last_is_kept() -> None:
    f, g = counted(maxsize=2)
    for n in (1, 2, 1, 3, 1):
        g(np.ones(n))
    assert f.runs == 3


def test_a_number_that_changes_at_each_call_is_told() -> None:
    _, g = counted()
    with pytest.warns(RuntimeWarning, match=r"compile\(<lambda>\) was captured 8 times for other static values.*np\.asarray"):
        for i in range(10):
            g(X, float(i))


def test_numbers_of_other_types_are_other_numbers() -> None:
    g = ad.compile(lambda x, n: x * n)
    assert g(np.asarray([1, 2]), 2).dtype == np.asarray([1, 2]).dtype
    assert g(np.asarray([1, 2]), 2.0).dtype == np.float64
    assert_exact(g(np.asarray([1.0]), True), np.asarray([1.0]))


def test_transformations_inside_and_outside() -> None:
    def f(x: Any) -> Any:
        return (x**3).sum()

    assert_exact(ad.compile(ad.grad(f))(X), 3 * X**2)
    assert_close(ad.compile(ad.hessian(f))(X), np.diag(6 * X), 1e-15, 1e-15)
    g = ad.compile(f)
    assert_exact(ad.grad(g)(X), ad.grad(f)(X))
    assert_exact(ad.vmap(g)(np.stack([X, X + 1])), np.stack([f(X), f(X + 1)]))
    assert_exact(ad.graph.capture(ad.grad(g), X)(X), ad.grad(f)(X))
    v = ad.Variable(X)
    g(v).backward()
    assert_exact(v.grad, 3 * X**2)


def test_a_training_step_of_parameters_and_moments() -> None:
    def loss(p: Any, x: Any, y: Any) -> Any:
        return ((ad.namespace(x).tanh(x @ p["w"]) @ p["v"] - y) ** 2).mean()

    def step(p: Any, m: Any, x: Any, y: Any) -> Any:
        value, g = ad.value_and_grad(loss)(p, x, y)
        m = {k: 0.9 * m[k] + g[k] for k in p}
        return value, {k: p[k] - 0.1 * m[k] for k in p}, m

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 2))
    p = {"w": rng.normal(size=(5, 7)), "v": rng.normal(size=(7, 2))}
    m = {k: np.zeros_like(a) for k, a in p.items()}
    plain = compiled = (None, p, m)
    fast = ad.compile(step)
    for _ in range(20):
        plain, compiled = step(*plain[1:], x, y), fast(*compiled[1:], x, y)
    assert_close(compiled[0], plain[0], 1e-12, 1e-12)
    assert_close(compiled[1]["w"], plain[1]["w"], 1e-12, 1e-12)
    assert len(fast.captures) == 1


def test_results_stay_when_it_is_called_again() -> None:
    x = np.random.default_rng(0).normal(size=(100, 100))
    g = ad.compile(lambda x: ad.namespace(x).tanh(x @ x) * 2 + 1)
    first = g(x)
    kept = first.copy()
    g(x + 1)
    assert_exact(first, kept)


def test_methods_and_decorators() -> None:
    class Model:
        @ad.compile
        def double(self, x: Any) -> Any:
            """Double."""
            return x * 2

    @ad.compile(passes=["dead_code"], maxsize=3)
    def halve(x: Any) -> Any:
        return x / 2

    model = Model()
    assert_exact(model.double(X), X * 2)
    assert_exact(halve(X), X / 2)
    assert Model.double.__doc__ == "Double." and halve.__name__ == "halve"
    assert [node.op.name for node in halve.graph(X).nodes] == ["divide"]


def test_threads_capture_once() -> None:
    f, g = counted()
    barrier = threading.Barrier(4)
    found: list[Any] = []

    def work() -> None:
        barrier.wait()
        found.append(g(X))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert f.runs == 1 and len(found) == 4
    for y in found:
        assert_exact(y, np.sin(X) * 2)


def test_threads_that_capture_different_things() -> None:
    _, g = counted(maxsize=2)
    faults: list[int] = []

    def work(n: int) -> None:
        faults.extend(n for _ in range(50) if not np.array_equal(g(np.full(n, 0.5)), np.full(n, np.sin(0.5) * 2)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert faults == []


@pytest.mark.parametrize("backend", support.params(without=("dask",)))
def test_on_every_library(backend: support.Backend) -> None:
    x = backend.asarray(X)
    g = ad.compile(ad.value_and_grad(lambda x: (ad.namespace(x).exp(x) * x).sum()))
    for _ in range(2):
        value, slope = g(x)
        assert type(slope) is type(x)
        assert_close(backend.numpy(value), np.sum(np.exp(X) * X), 1e-13, 1e-13)
        assert_close(backend.numpy(slope), np.exp(X) * (X + 1), 1e-13, 1e-13)
    assert len(g.captures) == 1


@pytest.mark.parametrize(
    ("message", "run"),
    [
        (r"compile takes a function, not int", lambda: ad.compile(3)),
        (r"compile: maxsize is 1 or more, not 0", lambda: ad.compile(lambda x: x, maxsize=0)),
        (
            r"compile\(<lambda>\): an argument is .*Unhashable.*no array and cannot be looked up",
            lambda: ad.compile(lambda x, u: x)(X, Unhashable()),
        ),
        (r"compile: there is no pass 'nothing'", lambda: ad.compile(lambda x: x, passes=["nothing"])(X)),
        (r"`if`, `while`, `and` and `or` need a value", lambda: ad.compile(lambda x: x if x.sum() > 0 else -x)(X)),
    ],
)
def test_errors(message: str, run: Any) -> None:
    with pytest.raises((TypeError, ValueError, ad.errors.UnsupportedError), match=message):
        run()


class Unhashable:
    __hash__ = None  # type: ignore[assignment]


def test_values_that_the_function_reads_belong_to_the_signature() -> None:
    k, weight, settings = 2, np.ones(2), {"scale": 1.0}

    @ad.compile
    def f(x: Any) -> Any:
        return x * k * weight * settings["scale"]

    x = np.ones(2)
    found = [f(x)]
    k = 3
    found.append(f(x))
    weight = np.full(2, 5.0)
    found.append(f(x))
    settings["scale"] = 10.0
    found.append(f(x))
    k, settings["scale"] = 3, 1.0
    found.append(f(x))
    assert [y.tolist() for y in found] == [[2.0] * 2, [3.0] * 2, [15.0] * 2, [150.0] * 2, [15.0] * 2]
    assert [c.reason for c in f.captures] == ["the first call", "k is 3, not 2", "weight is another", "settings['scale'] is 10.0, not 1.0"]


def test_a_function_that_holds_nothing_is_captured_once() -> None:
    f = ad.compile(lambda x: x * 2)
    assert [f(np.ones(2)).tolist() for _ in range(2)] == [[2.0, 2.0]] * 2 and len(f.captures) == 1
    assert f.graph(np.ones(2)) is f.captures[0].graph and len(f.captures) == 1


def test_an_argument_that_is_changed_in_place_is_refused() -> None:
    @ad.compile
    def f(n: int, x: Any) -> Any:
        x[0] = 5.0
        return x * n

    x = np.ones(3)
    with pytest.raises(
        UnsupportedError, match=r"compile\(f\): argument 1 is changed in place, which a graph cannot do to the caller's array"
    ):
        f(2, x)
    assert x.tolist() == [1.0, 1.0, 1.0]
