"""A step of an optimizer, beside the same written out in NumPy and torch's.

Two sets of parameters in float32: an MLP 784-512-512-10 (six arrays, 669,706 numbers), where passes over memory count, and a
hundred and fifty small arrays, where calls do. Gradients are given; a step changes the parameters and the state.
"""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Candidate, Row, compare, interleave, torch_or_none

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "669k in 6 arrays": [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)],
    "211k in 150 arrays": [(64,)] * 100 + [(64, 64)] * 50,
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "RMSprop": {"lr": 1e-5},
    "Adam": {"lr": 1e-5},
}


def data(shapes: list[tuple[int, ...]]) -> tuple[list[Any], list[Any]]:
    """Give parameters and gradients."""
    import numpy as np

    rng = np.random.default_rng(0)
    parameters, gradients = ([rng.normal(size=shape).astype("float32") for shape in shapes] for _ in range(2))
    return parameters, gradients


def candidates(name: str, options: dict[str, Any], shapes: list[tuple[int, ...]]) -> dict[str, Candidate]:
    """Give the steps to compare."""
    import numpy as np

    from agnostic_ad import nn
    from benchmarks.mlp import Adam

    parameters, gradients = data(shapes)
    mine = [nn.Parameter(p) for p in parameters]
    for p, g in zip(mine, gradients):
        p.grad = g
    made: dict[str, Candidate] = {"ours": getattr(nn.optim, name)(mine, **options).step}
    if name == "Adam":
        by_hand = Adam(np, [p.copy() for p in parameters])
        made["by hand"] = lambda: by_hand.step(gradients)
    if (torch := torch_or_none()) is not None:
        theirs = [torch.nn.Parameter(torch.tensor(p)) for p in parameters]
        for q, g in zip(theirs, gradients):
            q.grad = torch.tensor(g)
        made["torch"] = getattr(torch.optim, name)(theirs, **options).step
    return made


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rows = []
    for name, options in OPTIMIZERS.items():
        for label, shapes in SHAPES.items():
            times = interleave(candidates(name, options, shapes[:2] if smoke else shapes), rounds or (2 if smoke else 25))
            for peer in ("by hand", "torch"):
                if peer in times or peer == "torch":
                    bar = 1 if peer == "by hand" else None
                    rows.append(compare(f"{name}: {label}", times, "ours", peer, unit="ms", scale=1e3, bar=bar))
    return rows
