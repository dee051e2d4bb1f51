"""Automatic differentiation over the Python Array API standard.

``Variable`` wraps an array of any compliant library and records what is done with it; ``grad``, ``vjp``, ``jvp``, ``vmap`` and the others
transform functions. Everything nests.
"""

from agnostic_ad import backends, fast, ops, trees, wrapped
from agnostic_ad.modes import detect_anomaly, enable_grad, escapes, is_grad_enabled, no_grad, set_grad_enabled
from agnostic_ad.reverse import Variable
from agnostic_ad.transforms import (
    differentiable,
    grad,
    gradients,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    linearize,
    namespace,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)

__version__ = "0.1.0.dev0"
