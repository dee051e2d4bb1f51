"""Resident memory over 10,000 steps of training a small network on Variables, with the garbage collector off.

A graph that holds a reference cycle is memory that only the collector frees: growth here is such a cycle, or a leak. At the end
the collector runs once, and says how many unreachable objects the steps left behind.
"""

from __future__ import annotations

import gc

from benchmarks.harness import Row, Spread, rss

STEPS, WARM_UP, EVERY = 10_000, 2_000, 250


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure; ``rounds`` has no meaning here."""
    import numpy as np

    from benchmarks.mlp import OnVariables, weights

    steps, warm_up, every = (60, 20, 10) if smoke else (STEPS, WARM_UP, EVERY)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 16)).astype("float32"), rng.integers(0, 4, 32)
    network = OnVariables(np, weights((16, 32, 4)))
    gc.collect()
    gc.disable()
    try:
        for _ in range(warm_up):
            network.step(x, y)
        samples = [rss()]
        for step in range(1, steps + 1):
            network.step(x, y)
            if step % every == 0:
                samples.append(rss())
        unreachable = gc.collect()
    finally:
        gc.enable()
    growth = Spread.single(max(abs(sample - samples[0]) for sample in samples))
    last = f"{samples[0]:.1f} MB after warm-up, {samples[-1]:.1f} MB at the end"
    return [
        Row(f"{steps:,} steps, gc off: change of memory", "MB", samples[-1], value=growth, bar=1, relative=False, note=last),
        Row(
            f"{steps:,} steps, gc off: unreachable objects",
            "objects",
            unreachable,
            value=Spread.single(unreachable),
            bar=0,
            relative=False,
        ),
    ]
