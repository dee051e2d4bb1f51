"""A graph of 1,000,000 operations: forward, backward and release, each library in processes of its own, in turns.

The chain is 250,000 times ``h = exp(b - log(h)) * w``, on four numbers, ``b`` and ``w`` constants: two unary and two binary
operations, of which only the start is differentiated. Such a step undoes the one before it (``h`` becomes ``c / h``), so that a
million of them neither overflow nor fade, forward or backward: a chain of contractions would end in denormal numbers, which are
slow on their own account. Peak memory is that of the whole process: interpreter and libraries too. The collector is on;
``gc off`` is ours without it, beside torch with it.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from benchmarks.harness import Row, Spread, compare, in_process, installed, peak_rss, torch_or_none, turns

BLOCK = 4
OPERATIONS = 1_000_000


def chain(xp: Any, h: Any, w: Any, b: Any, blocks: int) -> Any:
    """Four operations a block."""
    for _ in range(blocks):
        h = xp.exp(b - xp.log(h)) * w
    return h


def measure(library: str, operations: int, collect: bool = True) -> dict[str, float]:
    """Build one graph, differentiate it and let it go."""
    import numpy as np

    start, w, b = np.asarray([0.7, 0.9, 1.1, 1.3]), np.asarray([1.1, 0.9, 1.05, 0.95]), np.asarray([0.2, -0.1, 0.1, -0.2])
    one = np.ones_like(start)
    xp: Any
    x: Any
    if library == "torch":
        xp = torch_or_none()
        x, (w, b, ct) = xp.tensor(start, requires_grad=True), (xp.tensor(a) for a in (w, b, one))
    else:
        import agnostic_ad as ad

        xp, x, ct = ad.differentiable(np), ad.Variable(start), one
    blocks = operations // BLOCK
    chain(xp, x, w, b, 10).backward(ct)  # warm
    x.grad = None
    before = peak_rss()
    gc.collect()
    if not collect:
        gc.disable()
    began = time.process_time()
    y = chain(xp, x, w, b, blocks)
    forward = time.process_time()
    y.backward(ct)
    backward = time.process_time()
    result = np.asarray(y.detach())
    del y
    end = time.process_time()
    c = np.exp(np.asarray(b)) * np.asarray(w)
    final, gradient = (c / start, -c / start**2) if blocks % 2 else (start, one)
    np.testing.assert_allclose(result, final, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(x.grad), gradient, rtol=1e-6)
    return {"forward": forward - began, "backward": backward - forward, "all": end - began, "peak": peak_rss(), "before": before}


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rounds = rounds or (1 if smoke else 7)
    operations = 2_000 if smoke else OPERATIONS
    kinds = {"ours": ("ours", True), "ours gc off": ("ours", False)}
    if installed("torch"):
        kinds |= {"torch": ("torch", True)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for round_ in range(rounds):
        for name in turns(list(kinds), round_):
            library, collect = kinds[name]
            found[name].append(in_process("scale.measure", library=library, operations=operations, collect=collect))

    def of(part: str) -> dict[str, list[float]]:
        return {name: [each[part] for each in each_round] for name, each_round in found.items()}

    peak = of("peak")
    ours = Spread.of(peak["ours"])
    theirs = Spread.of(peak["torch"]).middle if "torch" in peak else None
    what = f"{operations:,} operations"
    note = f"of ours {Spread.of(of('before')['ours']).middle:.0f} MB before the graph"
    return [
        compare(f"{what}: forward+backward", of("all"), "ours", "torch", unit="s", scale=1, bar=0.45),
        compare(f"{what}: forward", of("forward"), "ours", "torch", unit="s", scale=1),
        compare(f"{what}: backward", of("backward"), "ours", "torch", unit="s", scale=1),
        compare(f"{what}: forward+backward, gc off", of("all"), "ours gc off", "torch", unit="s", scale=1),
        Row(
            f"{what}: peak memory",
            "MB",
            ours.middle,
            "torch",
            theirs,
            ours,
            750,
            relative=False,
            note=note if theirs else "not installed",
        ),
    ]
