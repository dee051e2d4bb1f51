"""The third derivative of ``sin(x) * x + x``, functional: ``grad(grad(grad(f)))``, of a Python number and of a 0-d array."""

from __future__ import annotations

import math

from benchmarks.harness import Candidate, Row, compare, installed, interleave, over_processes

POINT = 0.7


def times(rounds: int, smoke: bool) -> dict[str, list[float]]:
    """Measure in this process."""
    import numpy as np

    import agnostic_ad as ad

    xp = ad.differentiable(np)
    ours = ad.grad(ad.grad(ad.grad(lambda x: xp.sin(x) * x + x)))
    array = np.asarray(POINT)
    made: dict[str, Candidate] = {"ours number": lambda: ours(POINT), "ours array": lambda: ours(array)}
    if installed("autograd"):
        import autograd
        import autograd.numpy as anp

        theirs = autograd.grad(autograd.grad(autograd.grad(lambda x: anp.sin(x) * x + x)))
        made |= {"autograd number": lambda: theirs(POINT), "autograd array": lambda: theirs(array)}
    exact = -3 * math.sin(POINT) - POINT * math.cos(POINT)
    for name, candidate in made.items():
        np.testing.assert_allclose(candidate(), exact, rtol=1e-12, err_msg=name)
    return interleave(made, rounds, stretch=0 if smoke else 0.02)


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    found = over_processes("nested.times", rounds or (2 if smoke else 40), smoke=smoke)
    return [
        compare(f"third derivative, {kind}", found, f"ours {kind}", f"autograd {kind}", name="autograd", bar=0.2)
        for kind in ("number", "array")
    ]
