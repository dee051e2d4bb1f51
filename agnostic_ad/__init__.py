"""Automatic differentiation over the Python Array API standard.

``Variable`` wraps an array of any compliant library and records what is done with it; ``grad``, ``vjp``, ``jvp``, ``vmap`` and the others
transform functions. Everything nests.
"""

from agnostic_ad import backends, controlrules, fast, graph, ops, protocols, trees
from agnostic_ad.checking import check_grads
from agnostic_ad.checkpointing import checkpoint
from agnostic_ad.compiling import compile
from agnostic_ad.config import defaults, use_numba
from agnostic_ad.custom import Function, custom_jvp, custom_vjp
from agnostic_ad.functions import einsum, elementwise_grad, tensordot, transpose
from agnostic_ad.jacobians import hessian, hvp, jacfwd, jacobian, jacrev
from agnostic_ad.mapping import vmap
from agnostic_ad.modes import detect_anomaly, enable_grad, escapes, is_grad_enabled, no_grad, set_grad_enabled, strong_zeros
from agnostic_ad.random import Generator, manual_seed
from agnostic_ad.reverse import Variable
from agnostic_ad.transforms import differentiable, grad, gradients, jvp, linearize, namespace, stop_gradient, value_and_grad, vjp

__version__ = "0.1.0.dev0"
__all__ = [
    "Function",
    "Generator",
    "Variable",
    "backends",
    "check_grads",
    "checkpoint",
    "compile",
    "controlrules",
    "custom_jvp",
    "custom_vjp",
    "defaults",
    "detect_anomaly",
    "differentiable",
    "einsum",
    "elementwise_grad",
    "enable_grad",
    "escapes",
    "fast",
    "grad",
    "gradients",
    "graph",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "manual_seed",
    "namespace",
    "no_grad",
    "ops",
    "protocols",
    "set_grad_enabled",
    "stop_gradient",
    "strong_zeros",
    "tensordot",
    "transpose",
    "trees",
    "use_numba",
    "value_and_grad",
    "vjp",
    "vmap",
]
