"""Activations as layers: each keeps its arguments as attributes, and calls its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init as initial
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU",
    "RReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Softmax2d", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh",
    "Tanhshrink", "Threshold",
]  # fmt: skip


class _Activation(Module):
    """A function of one array, and further arguments, which are attributes."""

    function: ClassVar[Callable[..., Any]]
    arguments: ClassVar[tuple[str, ...]] = ()

    def forward(self, input: Any) -> Any:
        """Compute."""
        return type(self).function(input, **{name: getattr(self, name) for name in self.arguments})

    def extra_repr(self) -> str:
        """Give the arguments, ``inplace`` only where it is asked for."""
        given = ((name, getattr(self, name)) for name in self.arguments)
        return ", ".join(f"{name}={value!r}" for name, value in given if name != "inplace" or value)


class _InPlace(_Activation):
    """One whose only argument is ``inplace``."""

    arguments = ("inplace",)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class ReLU(_InPlace):
    """Compute max(x, 0).

    Parameters
    ----------
    inplace : bool
        Whether the input itself takes the result, as with `functional.relu_`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.ReLU()(np.asarray([-1.0, 2.0]))
    array([0., 2.])
    """

    function = F.relu


class SELU(_InPlace):
    """Compute `functional.selu`, which keeps mean 0 and variance 1."""

    function = F.selu


class SiLU(_InPlace):
    """Compute x sigmoid(x)."""

    function = F.silu


class Mish(_InPlace):
    """Compute x tanh(softplus(x))."""

    function = F.mish


class Hardsigmoid(_InPlace):
    """Compute x / 6 + 1 / 2, limited to lie between 0 and 1."""

    function = F.hardsigmoid

    def extra_repr(self) -> str:
        """Give nothing, as PyTorch does."""
        return ""


class Hardswish(Hardsigmoid):
    """Compute x hardsigmoid(x)."""

    function = F.hardswish


class Hardtanh(_Activation):
    """Limit values to lie between two bounds.

    Parameters
    ----------
    min_val, max_val : float
        The bounds.
    inplace : bool
        Whether the input itself takes the result.
    min_value, max_value : float, optional
        The bounds' former names.
    """

    function = F.hardtanh
    arguments = ("min_val", "max_val", "inplace")

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__()
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        self.inplace = inplace
        if not self.max_val > self.min_val:
            raise ValueError(f"Hardtanh: max_val {self.max_val} must be greater than min_val {self.min_val}")


class ReLU6(Hardtanh):
    """Compute min(max(x, 0), 6)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        """Give ``inplace`` where it is asked for."""
        return "inplace=True" if self.inplace else ""


class Threshold(_Activation):
    """Give x where it is above ``threshold``, and ``value`` elsewhere."""

    function = F.threshold
    arguments = ("threshold", "value", "inplace")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace


class LeakyReLU(_Activation):
    """Give x where it is positive, and ``negative_slope`` times x elsewhere."""

    function = F.leaky_relu
    arguments = ("negative_slope", "inplace")

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace


class RReLU(_Activation):
    """Give x where it is positive, and elsewhere x times a number drawn for each element, between ``lower`` and ``upper``.

    In evaluation mode the number is the mean of the two.
    """

    function = F.rrelu
    arguments = ("lower", "upper", "inplace")

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Any) -> Any:
        """Compute; the numbers are drawn in training mode alone."""
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class PReLU(Module):
    """Give x where it is positive, and a learned number times x elsewhere.

    Parameters
    ----------
    num_parameters : int
        1, or the number of channels, of which each then has its own number.
    init : float
        The initial value.
    device, dtype, xp
        Where the parameter lives; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight : Parameter
        Shape (num_parameters,).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.PReLU()(np.asarray([-4.0, 2.0], dtype="float32")).data
    array([-1.,  2.], dtype=float32)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None, *, xp: Any = None) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = new_parameter((num_parameters,), xp, dtype, device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the initial value."""
        initial.constant_(self.weight, self.init)

    def forward(self, input: Any) -> Any:
        """Compute."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """Give the number of parameters."""
        return f"num_parameters={self.num_parameters}"


class ELU(_Activation):
    """Give x where it is positive, and alpha (exp(x) - 1) elsewhere."""

    function = F.elu
    arguments = ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace


class CELU(ELU):
    """Give x where it is positive, and alpha (exp(x / alpha) - 1) elsewhere."""

    function = F.celu


class GELU(_Activation):
    """Give x times the normal distribution function of x, or with ``approximate="tanh"`` times a quicker one that is near it."""

    function = F.gelu
    arguments = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate


class Sigmoid(_Activation):
    """Compute 1 / (1 + exp(-x))."""

    function = F.sigmoid


class LogSigmoid(_Activation):
    """Compute the logarithm of the sigmoid, without overflow."""

    function = F.logsigmoid


class Tanh(_Activation):
    """Compute the hyperbolic tangent."""

    function = F.tanh


class Tanhshrink(_Activation):
    """Compute x - tanh(x)."""

    function = F.tanhshrink


class Softsign(_Activation):
    """Compute x / (1 + abs(x))."""

    function = F.softsign


class Softplus(_Activation):
    """Compute log(1 + exp(beta x)) / beta; x itself where beta x is above ``threshold``."""

    function = F.softplus
    arguments = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold


class Hardshrink(_Activation):
    """Give x, and 0 where its absolute value is at most ``lambd``."""

    function = F.hardshrink
    arguments = ("lambd",)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def extra_repr(self) -> str:
        """Give the bound."""
        return str(self.lambd)


class Softshrink(Hardshrink):
    """Give x moved towards 0 by ``lambd``, and 0 where it would get past it."""

    function = F.softshrink


class GLU(_Activation):
    """Give the first half along ``dim`` times the sigmoid of the second."""

    function = F.glu
    arguments = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim


class Softmax(_Activation):
    """Give exp(x) over its sum along ``dim``."""

    function = F.softmax
    arguments = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim


class Softmin(Softmax):
    """Give the softmax of -x along ``dim``."""

    function = F.softmin


class LogSoftmax(Softmax):
    """Give the logarithm of the softmax along ``dim``, without overflow."""

    function = F.log_softmax


class Softmax2d(Module):
    """Give the softmax over the channels at each place of (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Any) -> Any:
        """Compute."""
        if len(input.shape) not in (3, 4):
            raise ValueError(f"Softmax2d takes an input of 3 or 4 dimensions, not of shape {tuple(input.shape)}")
        return F.softmax(input, -3)
