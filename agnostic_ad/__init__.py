"""Automatic differentiation over the Python Array API standard.

``Variable`` wraps an array of any compliant library and records what is done with it; ``grad``, ``vjp``, ``jvp``, ``vmap`` and the others
transform functions. Everything nests.
"""

from agnostic_ad import backends, fast, graph, ops, trees
from agnostic_ad.checking import check_grads
from agnostic_ad.custom import Function, checkpoint, custom_jvp, custom_vjp
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
