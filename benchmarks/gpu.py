"""The chain of ``overhead`` and a step of the network of ``train`` on CuPy, beside torch.cuda. **Not yet run on a GPU.**

A GPU works while the program goes on, so time is the time on the wall from an idle device to an idle device: each candidate
ends by waiting for the device. That protects from nothing else on the machine; use one that does nothing else. The chain on four
numbers measures what launching costs, on four million the kernels.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

from benchmarks.harness import BenchmarkError, Candidate, Row, compare, installed, interleave, torch_or_none

BATCH, SIZES = 4_096, (784, 1_024, 10)


def why_not() -> str:
    """Say why there is nothing to measure here; empty where there is."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no GPU on this machine: the CUDA driver (libcuda.so.1) is not installed"
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0 or not count.value:
        return "no GPU on this machine: the CUDA driver finds no device"
    return "" if installed("cupy") else "CuPy is not installed"


def chains(cupy: Any, torch: Any, size: int) -> dict[str, Candidate]:
    """Give forward with backward of the chain on both."""
    import numpy as np

    import agnostic_ad as ad
    from benchmarks.overhead import chain, data

    x0, ws0, bs0 = data("float32", size=size)
    xp, x, ct = ad.differentiable(cupy), ad.Variable(cupy.asarray(x0)), cupy.ones(size, dtype="float32")
    ws, bs = [cupy.asarray(w) for w in ws0], [cupy.asarray(b) for b in bs0]

    def ours() -> Any:
        x.grad = None
        chain(xp, x, ws, bs).backward(ct)
        cupy.cuda.get_current_stream().synchronize()
        return x.grad

    made: dict[str, Candidate] = {"ours": ours}
    if torch is not None and torch.cuda.is_available():
        t, tct = torch.tensor(x0, device="cuda", requires_grad=True), torch.ones(size, device="cuda")
        tws, tbs = [torch.tensor(w, device="cuda") for w in ws0], [torch.tensor(b, device="cuda") for b in bs0]

        def theirs() -> Any:
            t.grad = None
            chain(torch, t, tws, tbs).backward(tct)
            torch.cuda.synchronize()
            return t.grad

        made["torch"] = theirs
        np.testing.assert_allclose(cupy.asnumpy(ours()), theirs().cpu().numpy(), rtol=1e-3, atol=1e-6)
    return made


def steps(cupy: Any, torch: Any, batch: int) -> dict[str, Candidate]:
    """Give a step of training on both."""
    import numpy as np

    from benchmarks.mlp import OnVariables, WithTorch, weights

    rng = np.random.default_rng(0)
    x, y = rng.random((batch, SIZES[0]), dtype="float32"), rng.integers(0, SIZES[-1], batch)
    network, xg, yg = OnVariables(cupy, [cupy.asarray(w) for w in weights(SIZES)]), cupy.asarray(x), cupy.asarray(y)

    def ours() -> None:
        network.step(xg, yg)
        cupy.cuda.get_current_stream().synchronize()

    made: dict[str, Candidate] = {"ours": ours}
    if torch is not None and torch.cuda.is_available():
        peer, xt, yt = WithTorch(torch, weights(SIZES), "cuda"), torch.tensor(x, device="cuda"), torch.tensor(y, device="cuda")

        def theirs() -> None:
            peer.step(xt, yt)
            torch.cuda.synchronize()

        made["torch"] = theirs
    return made


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure, where there is a GPU."""
    if reason := why_not():
        raise BenchmarkError(reason)
    import cupy

    from benchmarks.overhead import OPERATIONS

    torch = torch_or_none()
    rounds = rounds or (2 if smoke else 30)
    stretch = 0 if smoke else 0.1
    rows = []
    for size in (4, 1_000 if smoke else 4_000_000):
        times = interleave(chains(cupy, torch, size), rounds, stretch=stretch, clock=time.perf_counter)
        name = f"chain on {size:,} numbers, float32: forward+backward per op"
        rows.append(compare(name, times, "ours", "torch", name="torch.cuda", scale=1e6 / OPERATIONS))
    for batch in (32, 64 if smoke else BATCH):
        times = interleave(steps(cupy, torch, batch), rounds, stretch=stretch, clock=time.perf_counter)
        name = f"MLP {'-'.join(map(str, SIZES))}, batch {batch:,}, Variables alone: a step"
        rows.append(compare(name, times, "ours", "torch", name="torch.cuda", unit="ms", scale=1e3))
    return rows
