"""Logistic regression with `ad.grad`, on whichever array library is named.

    python examples/logistic_regression.py                  # numpy
    python examples/logistic_regression.py torch            # or jax.numpy, array_api_strict, dask.array, cupy

The model and the loop name no library: `ad.namespace` gives the functions that fit the arrays.
"""

import importlib
import sys
from typing import Any

import numpy as np

import agnostic_ad as ad


def loss(parameters: dict[str, Any], x: Any, y: Any) -> Any:
    """Give the mean negative log likelihood of labels 0 and 1, and a small penalty on the weights."""
    xp = ad.namespace(x, parameters["w"])
    score = xp.matmul(x, parameters["w"]) + parameters["b"]
    likelihood = xp.mean(xp.logaddexp(xp.zeros_like(score), score) - score * y)
    return likelihood + 1e-3 * xp.sum(parameters["w"] ** 2)


def main(library: str = "numpy") -> None:
    """Draw two clouds of points, fit, and say how many points lie on their side."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    points = rng.standard_normal((400, 2)) + np.where(labels[:, None] == 1, [1.5, 1.0], [-1.5, -1.0])

    xp = importlib.import_module(library)
    x, y = xp.asarray(points), xp.asarray(labels.astype("float64"))
    parameters = {"w": xp.asarray(np.zeros(2)), "b": xp.asarray(np.zeros(()))}
    step = ad.value_and_grad(loss)
    for _ in range(30):
        value, gradient = step(parameters, x, y)
        parameters = {name: p - 1.0 * gradient[name] for name, p in parameters.items()}

    xp = ad.namespace(x)
    right = xp.mean(xp.astype((x @ parameters["w"] + parameters["b"] > 0) == (y > 0), y.dtype))
    w = [round(float(w), 2) for w in parameters["w"]]
    print(f"{library}: loss {float(value):.4f}, w {w}, b {float(parameters['b']):.2f}, accuracy {float(right):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
