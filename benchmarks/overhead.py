"""What recording costs: a chain of 100 elementwise operations on four numbers, define-by-run.

The chain is twenty times ``h = tanh(sin(h) * w + h - b)``: of every five operations two are unary and three binary, ``h`` is used
twice (so that cotangents meet), and tanh keeps the numbers where the mathematics costs the same throughout. The same function
runs on every library.

- *one leaf*: only the first ``h`` is differentiated; every ``w`` and ``b`` is a constant array.
- *all leaves*: every ``w`` and ``b`` is a parameter of its own that wants a gradient too: 41 leaves.

Everything starts with leaves that have no gradient and ends with leaves that have one; the cotangent of ``h`` is given, as an
array of ones. HIPS autograd has no leaves: it gets the function and, for *all leaves*, all 41 arguments at once. *by hand* is the
same work in NumPy with the derivative written out: what no tape can go below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Candidate, Row, compare, installed, interleave, over_processes, torch_or_none

BLOCKS = 20
OPERATIONS = 5 * BLOCKS
SIZE = 4


def chain(xp: Any, h: Any, weights: Sequence[Any], biases: Sequence[Any]) -> Any:
    """Five operations for each weight."""
    for w, b in zip(weights, biases):
        h = xp.tanh(xp.sin(h) * w + h - b)
    return h


def data(dtype: str, size: int = SIZE) -> tuple[Any, list[Any], list[Any]]:
    """Give the start, the weights and the biases."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.8, size).astype(dtype)
    weights = [rng.uniform(0.3, 0.9, size).astype(dtype) for _ in range(BLOCKS)]
    biases = [rng.uniform(-0.3, 0.3, size).astype(dtype) for _ in range(BLOCKS)]
    return x, weights, biases


def ours(dtype: str, all_leaves: bool) -> tuple[Candidate, Candidate]:
    """Give forward, and forward with backward, on Variables."""
    import numpy as np

    import agnostic_ad as ad

    x0, ws, bs = data(dtype)
    x, ct, xp = ad.Variable(x0), np.ones_like(x0), ad.differentiable(np)
    if all_leaves:
        ws, bs = [ad.Variable(w) for w in ws], [ad.Variable(b) for b in bs]
    leaves = [x, *ws, *bs] if all_leaves else [x]

    def forward() -> Any:
        return chain(xp, x, ws, bs)

    def both() -> Any:
        for leaf in leaves:
            leaf.grad = None
        chain(xp, x, ws, bs).backward(ct)
        return [leaf.grad for leaf in leaves]

    return forward, both


def torchs(torch: Any, dtype: str, all_leaves: bool) -> tuple[Candidate, Candidate]:
    """Give the same on torch's tensors."""
    x0, ws, bs = data(dtype)
    x, ct = torch.tensor(x0, requires_grad=True), torch.ones(SIZE, dtype=getattr(torch, dtype))
    ws, bs = [torch.tensor(w, requires_grad=all_leaves) for w in ws], [torch.tensor(b, requires_grad=all_leaves) for b in bs]
    leaves = [x, *ws, *bs] if all_leaves else [x]

    def forward() -> Any:
        return chain(torch, x, ws, bs)

    def both() -> Any:
        for leaf in leaves:
            leaf.grad = None
        chain(torch, x, ws, bs).backward(ct)
        return [leaf.grad for leaf in leaves]

    return forward, both


def autograds(dtype: str, all_leaves: bool) -> Candidate:
    """Give forward with backward on HIPS autograd."""
    import autograd
    import autograd.numpy as anp

    x, ws, bs = data(dtype)
    ct = anp.ones_like(x)
    if not all_leaves:
        vjp = autograd.make_vjp(lambda h: chain(anp, h, ws, bs))
        return lambda: [vjp(x)[0](ct)]

    def f(h: Any, *rest: Any) -> Any:
        return chain(anp, h, rest[:BLOCKS], rest[BLOCKS:])

    arguments = [x, *ws, *bs]
    every = autograd.make_vjp(f, tuple(range(len(arguments))))
    return lambda: every(*arguments)[0](ct)


def by_hand(dtype: str, all_leaves: bool) -> tuple[Candidate, Candidate]:
    """Give the same with the derivative written out."""
    import numpy as np

    x, ws, bs = data(dtype)
    one = np.ones_like(x)

    def forward() -> Any:
        return chain(np, x, ws, bs)

    def both() -> Any:
        h, kept = x, []
        for w, b in zip(ws, bs):
            s = np.sin(h)
            y = np.tanh(s * w + h - b)
            kept.append((h, w, s, y))
            h = y
        ct, dws, dbs = one, [], []
        for h, w, s, y in reversed(kept):
            ct = ct * (one - y * y)
            if all_leaves:
                dws.append(ct * s)
                dbs.append(-ct)
            ct = ct + ct * w * np.cos(h)
        return [ct, *reversed(dws), *reversed(dbs)]

    return forward, both


def candidates(dtype: str, all_leaves: bool) -> dict[str, Candidate]:
    """Give everything to time, after a check that all compute the same."""
    import numpy as np

    made: dict[str, Candidate] = {}
    made["ours forward"], made["ours"] = ours(dtype, all_leaves)
    if (torch := torch_or_none()) is not None:
        made["torch forward"], made["torch"] = torchs(torch, dtype, all_leaves)
    if installed("autograd"):
        made["autograd"] = autograds(dtype, all_leaves)
    made["numpy forward"], made["numpy"] = by_hand(dtype, all_leaves)
    expected: Any = made["numpy"]()
    for name in set(made) & {"ours", "torch", "autograd"}:
        for a, b in zip(made[name](), expected, strict=True):
            np.testing.assert_allclose(np.asarray(a), b, rtol=1e-3 if dtype == "float32" else 1e-9, atol=1e-6, err_msg=name)
            assert str(a.dtype).endswith(dtype), name
    return made


def times(rounds: int, dtype: str, all_leaves: bool, smoke: bool) -> dict[str, list[float]]:
    """Measure one chain in this process."""
    return interleave(candidates(dtype, all_leaves), rounds, stretch=0 if smoke else 0.02)


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rounds = rounds or (2 if smoke else 40)
    scale = 1e6 / OPERATIONS
    rows = []
    for dtype, all_leaves in (("float64", False), ("float64", True), ("float32", False), ("float32", True)):
        main = dtype == "float64"  # the bars are for these; float32 is there to show that torch's habitual dtype changes little
        found = over_processes("overhead.times", rounds, dtype=dtype, all_leaves=all_leaves, smoke=smoke)
        leaves = "all leaves" if all_leaves else "one leaf"
        both, forward = f"{leaves}, {dtype}: forward+backward per op", f"{leaves}, {dtype}: forward per op"
        rows.append(compare(both, found, "ours", "torch", bar=0.35 if main else None, scale=scale))
        if main:
            rows.append(compare(both, found, "ours", "autograd", bar=0.30, scale=scale))
            rows.append(compare(both, found, "ours", "numpy", name="by hand", scale=scale))
        rows.append(compare(forward, found, "ours forward", "torch forward", name="torch", bar=0.45 if main else None, scale=scale))
        if main:
            rows.append(compare(forward, found, "ours forward", "numpy forward", name="numpy", scale=scale))
    return rows
