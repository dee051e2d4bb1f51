"""Initial values of parameters: drawn on the host, so that one seed gives the same on every library.

Every function works in place on a parameter or another leaf Variable, on a slice of one (``layer.bias[4:8]``), or on a raw array that can be
written to (``layer.bias.data``), and gives what it got.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from agnostic_ad import Variable, no_grad
from agnostic_ad import random as ad_random
from agnostic_ad.config import dtype_name
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of, lookup
from agnostic_ad.nn.parameter import assign

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Host = np.ndarray[Any, Any]


# --- writing ----------------------------------------------------------------------------------------------------------------------------
_SKIPS: ContextVar[bool] = ContextVar("agnostic_ad_init_skips", default=False)


@contextmanager
def skipped() -> Iterator[None]:
    """Leave parameters as they are, and draw nothing."""
    token = _SKIPS.set(True)
    try:
        yield
    finally:
        _SKIPS.reset(token)


def _fill(tensor: Any, draw: Callable[[], Any]) -> Any:
    """Give what can be written to the values that ``draw()`` gives; and give it back."""
    if _SKIPS.get():
        return tensor
    if isinstance(tensor, Variable) and tensor.level.depth == 0 and (tensor.is_leaf or hasattr(tensor, "_base")):
        made = ad_random.placed(draw(), tensor.payload, tensor.shape)
        if hasattr(tensor, "_base"):  # a slice: what it was taken from changes too
            with no_grad():
                tensor[...] = made  # type: ignore[index]
        else:
            assign(tensor, made)
        return tensor
    if lookup(tensor) is not None and not isinstance(tensor, Array):
        values = ad_random.placed(draw(), tensor, tensor.shape)
        try:
            tensor[...] = values
        except (TypeError, ValueError) as error:
            what = f"an array of {backend_of(tensor).name} that cannot be written to ({error}). Pass the parameter itself, not its data"
            raise TypeError(f"init works in place on parameters and other leaf Variables, not on {what}") from None
        return tensor
    what = "the result of an operation" if isinstance(tensor, Variable) else type(tensor).__name__
    raise TypeError(f"init works in place on parameters and other leaf Variables, not on {what}")


def _source(generator: ad_random.Generator | None) -> ad_random.Generator:
    if generator is None:
        return ad_random.default_generator
    if not isinstance(generator, ad_random.Generator):
        raise TypeError(f"generator is an agnostic_ad.Generator, not {type(generator).__module__}.{type(generator).__name__}")
    return generator


def _is_complex(tensor: Any) -> bool:
    return dtype_name(tensor.dtype).startswith("complex")


def _check_ndim(tensor: Any, wanted: tuple[int, ...], what: str) -> None:
    if len(tensor.shape) not in wanted:
        counts = " or ".join(map(str, wanted))
        raise ValueError(f"{what} fills arrays of {counts} dimensions, not of shape {tuple(tensor.shape)}")


def _is_empty(tensor: Any) -> bool:
    """Tell whether there is nothing to draw, and warn of it, as PyTorch does."""
    if 0 not in tensor.shape:
        return False
    warnings.warn("Initializing zero-element tensors is a no-op", UserWarning, stacklevel=3)
    return True


# --- simple values ----------------------------------------------------------------------------------------------------------------------
def constant_(tensor: Any, val: float) -> Any:
    """Fill with one value; give the parameter."""
    return _fill(tensor, lambda: val)


def zeros_(tensor: Any) -> Any:
    """Fill with zeros; give the parameter."""
    return _fill(tensor, lambda: 0.0)


def ones_(tensor: Any) -> Any:
    """Fill with ones; give the parameter."""
    return _fill(tensor, lambda: 1.0)


def eye_(tensor: Any) -> Any:
    """Fill a matrix with ones on the diagonal and zeros elsewhere; give the parameter."""
    _check_ndim(tensor, (2,), "eye_")
    return _fill(tensor, lambda: np.eye(*tensor.shape))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """Fill the weight of a convolution so that it passes its input channels on, as many as there are; give the parameter.

    Parameters
    ----------
    tensor : Parameter
        Of 3, 4 or 5 dimensions: outputs, inputs of a group, and the window.
    groups : int
        The groups of the convolution: each passes its own channels on.
    """
    _check_ndim(tensor, (3, 4, 5), "dirac_")
    outputs, inputs, *window = tensor.shape
    if outputs % groups:
        raise ValueError(f"dirac_: {outputs} output channels cannot be divided into {groups} groups")
    values = np.zeros((groups, outputs // groups, *tensor.shape[1:]))
    for i in range(min(outputs // groups, inputs)):
        values[(slice(None), i, i, *(n // 2 for n in window))] = 1.0
    return _fill(tensor, lambda: values.reshape(tensor.shape))


# --- distributions ----------------------------------------------------------------------------------------------------------------------
def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: ad_random.Generator | None = None) -> Any:
    """Draw from a uniform distribution between ``a`` and ``b``; give the parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.init.uniform_(nn.Parameter(np.zeros(100)), -1, 1)
    >>> bool(abs(p.data).max() <= 1)
    True
    """
    if a > b:
        raise ValueError(f"uniform_ draws between a and b, where a is at most b; not between {a} and {b}")
    if _is_complex(tensor):
        raise TypeError(f"uniform_ draws real numbers; this parameter has dtype {tensor.dtype}")
    source = _source(generator)
    return _fill(tensor, lambda: source.uniform(tensor.shape, a, b))


def _normal(tensor: Any, shape: tuple[int, ...], mean: float, std: float, source: ad_random.Generator) -> Host:
    """Draw; of complex numbers the real and the imaginary part have half the variance each."""
    if not _is_complex(tensor):
        return source.normal(shape, mean, std)
    real, imag = (source.normal(shape, mean, std / math.sqrt(2)) for _ in range(2))
    return np.asarray(real + 1j * imag)


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: ad_random.Generator | None = None) -> Any:
    """Draw from a normal distribution; give the parameter."""
    if not std >= 0:
        raise ValueError(f"normal_: std is 0 or more, not {std}")
    source = _source(generator)
    return _fill(tensor, lambda: _normal(tensor, tensor.shape, mean, std, source))


def _standard_truncated(shape: tuple[int, ...], low: float, high: float, source: ad_random.Generator) -> Host:
    """Draw from the standard normal distribution between two bounds, by rejection.

    C. P. Robert, "Simulation of truncated normal variables", Statistics and Computing 5 (1995): proposals are normal where the bounds
    lie wide around 0, uniform where they are close together, and exponential in a tail, however far out.
    """
    if high < 0:
        return -_standard_truncated(shape, -high, -low, source)
    count, found = math.prod(shape), [np.empty(0)]
    rate = (low + math.hypot(low, 2)) / 2  # of the exponential proposals
    around = low <= 0
    width = high - low
    close = width < math.sqrt(2 * math.pi) if around else width * rate < math.exp((low * low - low * math.hypot(low, 2)) / 4 + 0.5)
    while (missing := count - sum(map(len, found))) > 0:
        n = 2 * missing + 16
        if close:
            x = source.uniform((n,), low, high)
            kept = source.uniform((n,)) <= np.exp((max(low, 0.0) - x) * (max(low, 0.0) + x) / 2)
        elif around:
            x = source.normal((n,))
            kept = x >= low
        else:
            x = low - np.log1p(-source.uniform((n,))) / rate
            kept = source.uniform((n,)) <= np.exp(-((x - rate) ** 2) / 2)
        found.append(x[kept & (x <= high)][:missing])
    return np.concatenate(found).reshape(shape)


def trunc_normal_(
    tensor: Any, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: ad_random.Generator | None = None
) -> Any:
    """Draw from a normal distribution between ``a`` and ``b``; give the parameter.

    The distribution is right wherever the bounds are, also far from the mean.

    Parameters
    ----------
    tensor : Parameter
        What to fill.
    mean, std : float
        Of the normal distribution before it is cut off.
    a, b : float
        The bounds themselves, not multiples of ``std``; they may be infinite.
    generator : Generator, optional
        Where the numbers come from.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> p = nn.init.trunc_normal_(nn.Parameter(np.zeros(100)), a=8.0, b=9.0)
    >>> bool(p.data.min() >= 8)
    True
    """
    if not std > 0 or not a < b:
        raise ValueError(f"trunc_normal_ wants std > 0 and a < b, not std={std}, a={a}, b={b}")
    if _is_complex(tensor):
        raise TypeError(f"trunc_normal_ draws real numbers; this parameter has dtype {tensor.dtype}")
    shape, low, high, source = tuple(tensor.shape), (a - mean) / std, (b - mean) / std, _source(generator)
    return _fill(tensor, lambda: np.clip(mean + std * _standard_truncated(shape, low, high, source), a, b))


# --- keeping the variance ---------------------------------------------------------------------------------------------------------------
_GAINS = {
    **dict.fromkeys(("linear", *(f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)), "sigmoid"), 1.0),
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Give the factor by which a layer before this nonlinearity should be larger.

    Parameters
    ----------
    nonlinearity : str
        "linear", "conv1d" and so on, "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
    param : float, optional
        The slope of leaky_relu, by default 0.01.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"the slope of leaky_relu is a number, not {slope!r}")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"calculate_gain knows {', '.join(_GAINS)} and leaky_relu; not {nonlinearity!r}")
    return _GAINS[nonlinearity]


def fans(tensor: Any) -> tuple[int, int]:
    """Give how many inputs and outputs each unit of a weight is connected to."""
    if len(tensor.shape) < 2:
        raise ValueError(f"fans are those of a weight of 2 dimensions or more, not of shape {tuple(tensor.shape)}")
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


_calculate_fan_in_and_fan_out = fans  # under PyTorch's name, which much code calls


def _kaiming(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    """Give the standard deviation."""
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is 'fan_in' or 'fan_out', not {mode!r}")
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(tensor)[mode == "fan_out"])


def kaiming_uniform_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: ad_random.Generator | None = None,
) -> Any:
    """Draw from the uniform distribution that keeps the variance through layers with rectifiers (He et al., 2015); give the parameter."""
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3.0) * _kaiming(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: ad_random.Generator | None = None,
) -> Any:
    """Draw from the normal distribution that keeps the variance through layers with rectifiers (He et al., 2015); give the parameter."""
    return tensor if _is_empty(tensor) else normal_(tensor, 0.0, _kaiming(tensor, a, mode, nonlinearity), generator)


def _xavier(tensor: Any, gain: float) -> float:
    """Give the standard deviation."""
    return gain * math.sqrt(2.0 / max(sum(fans(tensor)), 1))  # 0 where nothing is drawn


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: ad_random.Generator | None = None) -> Any:
    """Draw from the uniform distribution of Glorot and Bengio (2010); give the parameter."""
    bound = math.sqrt(3.0) * _xavier(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: ad_random.Generator | None = None) -> Any:
    """Draw from the normal distribution of Glorot and Bengio (2010); give the parameter."""
    return normal_(tensor, 0.0, _xavier(tensor, gain), generator)


# --- matrices ---------------------------------------------------------------------------------------------------------------------------
def orthogonal_(tensor: Any, gain: float = 1, generator: ad_random.Generator | None = None) -> Any:
    """Fill with a random orthogonal matrix (Saxe et al., 2013), uniformly among them; give the parameter.

    Parameters
    ----------
    tensor : Parameter
        Of 2 dimensions or more; those behind the first count as one. The shorter of rows and columns are orthonormal.
    gain : float
        A factor.
    generator : Generator, optional
        Where the numbers come from.
    """
    if len(tensor.shape) < 2:
        raise ValueError(f"orthogonal_ fills arrays of 2 dimensions or more, not of shape {tuple(tensor.shape)}")
    if 0 in tensor.shape:
        return tensor
    source = _source(generator)

    def draw() -> Host:
        rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
        q, r = np.linalg.qr(_normal(tensor, (max(rows, columns), min(rows, columns)), 0.0, 1.0, source))
        diagonal = np.diagonal(r)
        q = q * (diagonal / abs(diagonal))  # without which some matrices would be more probable than others (Mezzadri, 2007)
        return np.asarray(gain * (q if rows >= columns else q.T).reshape(tensor.shape))

    return _fill(tensor, draw)


def sparse_(tensor: Any, sparsity: float, std: float = 0.01, generator: ad_random.Generator | None = None) -> Any:
    """Fill a matrix from a normal distribution, with a fraction of zeros in each column (Martens, 2010); give the parameter.

    Parameters
    ----------
    tensor : Parameter
        Of 2 dimensions.
    sparsity : float
        The fraction of each column's elements, rounded up to whole elements, that are zero.
    std : float
        The standard deviation of the others.
    generator : Generator, optional
        Where the numbers come from.
    """
    _check_ndim(tensor, (2,), "sparse_")
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: sparsity is a fraction between 0 and 1, not {sparsity}")
    source = _source(generator)

    def draw() -> Host:
        values = _normal(tensor, tensor.shape, 0.0, std, source)
        ranks = np.argsort(np.argsort(source.uniform(tensor.shape), axis=0), axis=0)
        values[ranks < math.ceil(sparsity * tensor.shape[0])] = 0.0
        return values

    return _fill(tensor, draw)
