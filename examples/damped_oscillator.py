"""A damped oscillator, fitted to noisy measurements: gradients through an integrator, error bars from the Hessian.

    python examples/damped_oscillator.py

The motion x'' = -w^2 x - 2 g x' is integrated step by step with the classical Runge-Kutta method. `ad.grad` goes back through all steps to
the frequency w, the damping g and the amplitude a; Newton's method needs a handful of them. At the minimum the inverse of the Hessian of
the negative log likelihood is the covariance of the parameters. Only NumPy is needed.
"""

import numpy as np

import agnostic_ad as ad

TRUTH = np.asarray([2.0, 0.3, 1.0])  # frequency, damping, amplitude
NAMES = ("frequency", "damping", "amplitude")
TIMES = np.linspace(0.0, 8.0, 81)
NOISE = 0.05


def motion(parameters):
    """Give the positions at all times: x(0) is the amplitude, x'(0) is 0."""
    xp = ad.namespace(parameters)
    frequency, damping, amplitude = parameters

    def slope(state):
        x, v = state
        return xp.stack([v, -(frequency**2) * x - 2 * damping * v])

    h = float(TIMES[1] - TIMES[0])
    state = xp.stack([amplitude, 0.0 * amplitude])
    positions = [state[0]]
    for _ in TIMES[1:]:
        k1 = slope(state)
        k2 = slope(state + h / 2 * k1)
        k3 = slope(state + h / 2 * k2)
        k4 = slope(state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        positions.append(state[0])
    return xp.stack(positions)


def main():
    """Measure, fit, and print each parameter with its standard error."""
    measured = motion(TRUTH) + NOISE * np.random.default_rng(1).standard_normal(TIMES.size)

    def loss(parameters):
        return ((motion(parameters) - measured) ** 2).sum() / (2 * NOISE**2)

    parameters = np.asarray([1.9, 0.2, 0.9])
    for iteration in range(6):
        value, gradient = ad.value_and_grad(loss)(parameters)
        print(f"iteration {iteration}: loss {float(value):8.3f}, |gradient| {np.abs(gradient).max():.1e}")
        hessian = ad.hessian(loss)(parameters)
        parameters = parameters - np.linalg.solve(hessian, gradient)

    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    for name, value, error, truth in zip(NAMES, parameters, errors, TRUTH, strict=True):
        print(f"{name:9}  {value:.3f} ± {error:.3f}  (truth: {truth})")


if __name__ == "__main__":
    main()
