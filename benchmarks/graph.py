"""Graphs: what a captured and optimised program costs beside plain NumPy, ``jax.jit`` and torch, without and with compiled kernels.

- The chains are elementwise functions of 4 million float32 numbers; *plain* is the same expression in NumPy. The results go into new memory, on
  every side.
- The tiny operations are those of `benchmarks.overhead`, five for each of 20 blocks, and their gradient; *by hand* is the derivative written out.
- The training steps are functions of parameters and Adam's moments that give new ones; torch's are eager, in place, and
  so are ours: the arrays are given away (``donate_argnums``). *Modules as they are*: the same with `nn.Module` and `nn.optim.Adam`, as one
  writes it, under `agnostic_ad.compile`.
- Memory is what the process gained at its peak: by the program, whose values share memory, and by the same operations one by one, which keep
  every value, as a graph must without a plan.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from benchmarks.harness import (
    BenchmarkError,
    Candidate,
    Row,
    Spread,
    compare,
    in_process,
    installed,
    interleave,
    peak_rss,
    rss,
    torch_or_none,
)

RATE, B1, B2, EPSILON = 1e-4, 0.9, 0.999, 1e-8
CHAINS = ("gelu chain", "cheap chain of 8")
STEPS = ("MLP step", "GPT step")


# --- functions ------------------------------------------------------------------------------------------------------------------------------
def gelu(xp: Any, x: Any) -> Any:
    """The approximation of GELU by tanh, in ten operations."""
    return 0.5 * x * (1 + xp.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def cheap(xp: Any, x: Any) -> Any:
    """Eight additions and multiplications."""
    return ((((x * 2 + 1) * x - 3) * 0.5 + x) * x - x) * 0.25


def adam(p: Any, m: Any, v: Any, g: Any, t: Any) -> tuple[Any, Any, Any]:
    """One parameter's update."""
    import agnostic_ad as ad

    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * (g * g)
    root = (1 - B2**t) ** 0.5  # the numbers' part on its own, as torch has it
    return p - RATE * root / (1 - B1**t) * (m / (ad.namespace(v).sqrt(v) + EPSILON * root)), m, v


def training(name: str, smoke: bool = False) -> tuple[Any, tuple[Any, ...]]:
    """Give a training step as a pure function, and what it starts with."""
    import numpy as np

    import agnostic_ad as ad
    from agnostic_ad import nn
    from agnostic_ad.nn.stateless import functional_call
    from benchmarks.nn import CHARACTERS, gpt, mlp

    ad.manual_seed(0)
    rng = np.random.default_rng(0)
    if name == "GPT step":
        model, (batch, length) = gpt(nn), (1, 8) if smoke else (8, 128)
        x, y = rng.integers(0, CHARACTERS, (batch, length)), rng.integers(0, CHARACTERS, (batch * length,))
    else:
        model, batch = mlp(nn), 4 if smoke else 128
        x, y = rng.normal(size=(batch, 784)).astype("float32"), rng.integers(0, 10, (batch,))
    criterion = nn.CrossEntropyLoss()

    def step(p: Any, m: Any, v: Any, t: Any, x: Any, y: Any) -> Any:
        loss, g = ad.value_and_grad(lambda p: criterion(functional_call(model, p, (x,)), y))(p)
        new = {k: adam(p[k], m[k], v[k], g[k], t) for k in p}
        return loss, *({k: found[i] for k, found in new.items()} for i in range(3)), t + 1

    p = {k: a.data for k, a in model.named_parameters()}
    zeros = {k: np.zeros_like(a) for k, a in p.items()}
    return step, (p, zeros, {k: a.copy() for k, a in zeros.items()}, np.asarray(1.0, "float32"), x, y)


# --- what is timed --------------------------------------------------------------------------------------------------------------------------
def chain_candidates(name: str, size: int) -> dict[str, Candidate]:
    """Give ours, plain NumPy and ``jax.jit``."""
    import numpy as np

    import agnostic_ad as ad
    from agnostic_ad import graph

    f = gelu if name == CHAINS[0] else cheap
    x = np.random.default_rng(0).normal(size=size).astype("float32")
    g = graph.capture(lambda x: f(ad.namespace(x), x), x).optimize()
    made: dict[str, Candidate] = {"ours": lambda: g(x), "numpy": lambda: f(np, x)}
    np.testing.assert_allclose(g(x), f(np, x), rtol=1e-5, atol=1e-5)
    if installed("jax"):
        import jax

        there, compiled = jax.numpy.asarray(x), jax.jit(lambda x: f(jax.numpy, x))
        made["jax"] = lambda: compiled(there).block_until_ready()
    return made


def tiny_candidates() -> dict[str, Candidate]:
    """Give the replayed gradient, the one by hand, and ``jax.jit``'s."""
    import numpy as np

    import agnostic_ad as ad
    from agnostic_ad import graph
    from benchmarks.overhead import by_hand, chain, data

    x, ws, bs = data("float32")
    g = graph.capture(ad.grad(lambda h: ad.namespace(h).sum(chain(ad.namespace(h), h, ws, bs))), x).optimize()
    made: dict[str, Candidate] = {"ours": lambda: g(x), "by hand": by_hand("float32", False)[1]}
    np.testing.assert_allclose(g(x), made["by hand"]()[0], rtol=1e-3)
    if installed("jax"):
        import jax

        there = jax.numpy.asarray(x)
        compiled = jax.jit(jax.grad(lambda h: jax.numpy.sum(chain(jax.numpy, h, ws, bs))))
        made["jax"] = lambda: compiled(there).block_until_ready()
    return made


def step_candidates(name: str, smoke: bool) -> dict[str, Candidate]:
    """Give ours; and from benchmarks.nn, which change a model: torch's eager one, ours, and ours compiled as it is."""
    import agnostic_ad as ad
    from agnostic_ad import graph
    from benchmarks.nn import candidates

    step, start = training(name, smoke)
    g = graph.capture(step, *start, donate_argnums=(0, 1, 2)).optimize()
    state = [g(*start)]

    def ours() -> Any:
        state[0] = g(*state[0][1:], *start[4:])
        return state[0][0]

    made: dict[str, Candidate] = {"ours": ours}
    if torch_or_none() is not None:
        found, other = (candidates("GPT step" if name == "GPT step" else "MLP step, Adam", smoke) for _ in range(2))
        made |= {"eager": found["ours"], "torch": found["torch"], "compiled": ad.compile(other["ours"])}
    return made


def timed(name: str, rounds: int, jit: bool, smoke: bool) -> dict[str, list[float]]:
    """Time one workload in this process."""
    import agnostic_ad as ad

    if jit:
        ad.use_numba()
    if name in CHAINS:
        return interleave(chain_candidates(name, 10_000 if smoke else 4_000_000), rounds, stretch=0.0 if smoke else 0.1)
    if name == "gradient of 100 tiny ops":
        return interleave(tiny_candidates(), rounds, stretch=0.0 if smoke else 0.02)
    return interleave(step_candidates(name, smoke), rounds, stretch=0.0 if smoke else 0.1)


def memory(planned: bool, smoke: bool) -> float:
    """Give by how many MB a GPT step raises the peak of a process that holds its arguments and has captured it."""
    import agnostic_ad as ad
    from agnostic_ad import graph

    step, start = training("GPT step", smoke)
    g = graph.capture(step, *start).optimize()
    flat = ad.trees.leaves(start)
    small, tiny = training("MLP step", smoke=True)
    graph.capture(small, *tiny)(*tiny)  # whatever is loaded late is loaded now
    before = rss()
    if peak_rss() > before + 50:
        raise BenchmarkError("the process was larger before the step than during it")
    if planned:
        g(*start)
    else:
        g.run(flat)
    return peak_rss() - before


def capturing(cache: str = "") -> list[float]:
    """Give the seconds of capturing and optimising a GPT step, and of writing its program, with kernels if there is a folder to keep them in."""
    import agnostic_ad as ad
    from agnostic_ad import graph

    if cache:
        os.environ["XDG_CACHE_HOME"] = cache
        ad.use_numba()
    step, start = training("GPT step")
    begin = time.process_time()
    g = graph.capture(step, *start).optimize()
    captured = time.process_time()
    g(*start)
    first = time.process_time()
    g(*start)
    return [captured - begin, first - captured - (time.process_time() - first)]


# --- the table --------------------------------------------------------------------------------------------------------------------------------
def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rows = []
    bars = {
        "gelu chain": (("numpy", 0.6, None), ("jax", None, 1.2)),
        "cheap chain of 8": (("numpy", 0.5, None), ("jax", None, 1.1)),
        "gradient of 100 tiny ops": (("by hand", 1.1, None), ("jax", None, 5)),
        "MLP step": (("torch", 0.95, 0.7), ("eager", None, None)),
        "GPT step": (("torch", 1.1, 0.95), ("eager", None, None)),
    }
    for name, peers in bars.items():
        for jit in (False, True) if installed("numba") and not smoke else (False,):
            count = rounds or (1 if smoke else 11)
            times = timed(name, count, jit, smoke) if smoke else in_process("graph.timed", name=name, rounds=count, jit=jit, smoke=smoke)
            unit, scale = ("us", 1e6) if "tiny" in name else ("ms", 1e3)
            label = f"{name}, {'jit' if jit else 'numpy alone'}"
            rows += [compare(label, times, "ours", peer, bar=bar[jit], unit=unit, scale=scale) for peer, *bar in peers]
            if "compiled" in times:
                rows.append(compare(f"{label}, modules as they are", times, "compiled", "torch", unit=unit, scale=scale))
    if not smoke:
        planned, unplanned = (in_process("graph.memory", planned=p, smoke=False) for p in (True, False))
        rows.append(
            Row("GPT step: peak memory above start", "MB", planned, "unplanned", unplanned, Spread.single(planned / unplanned), 0.6)
        )
        capture, _ = in_process("graph.capturing")
        rows.append(Row("GPT step: capture and optimise", "s", capture, value=Spread.single(capture), bar=2, relative=False))
        if installed("numba"):
            with tempfile.TemporaryDirectory() as folder:
                for what, bar in (("kernels", 20), ("kernels, from the cache", 1)):
                    _, kernels = in_process("graph.capturing", cache=folder)
                    rows.append(Row(f"GPT step: {what}", "s", kernels, value=Spread.single(kernels), bar=bar, relative=False))
    return rows
