"""Pooling layers: one base a family for any number of spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn._windows import stride_of, tuple_of
from agnostic_ad.nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _Pool(Module):
    """A layer that is a function and its settings: those in ``shown`` are what it prints."""

    axes: int
    function: Callable[..., Any]
    shown: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        """Give the settings."""
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.shown)


# --- maxima -----------------------------------------------------------------------------------------------------------------------------
class _MaxPoolNd(_Pool):
    shown = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Any) -> Any:
        """Give the maximum of each window."""
        return type(self).function(input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)


class MaxPool1d(_MaxPoolNd):
    """Give the maximum of each window of (N, C, L) or (C, L); the arguments are those of `MaxPool2d`."""

    axes, function = 1, F.max_pool1d


class MaxPool2d(_MaxPoolNd):
    """Give the maximum of each window of images (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    padding : int or (int, int)
        Minus infinities around the image, at most half a window.
    dilation : int or (int, int)
        Steps between the elements of a window.
    return_indices : bool
        Whether to give where the maxima were, too, for `MaxUnpool2d`.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """

    axes, function = 2, F.max_pool2d


class MaxPool3d(_MaxPoolNd):
    """Give the maximum of each window of (N, C, D, H, W) or (C, D, H, W); the arguments are those of `MaxPool2d`."""

    axes, function = 3, F.max_pool3d


class _MaxUnpoolNd(_Pool):
    shown = ("kernel_size", "stride", "padding")

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()
        self.kernel_size = tuple_of(kernel_size, self.axes, "kernel_size")
        self.stride = stride_of(stride, self.kernel_size)
        self.padding = tuple_of(padding, self.axes, "padding", 0)

    def forward(self, input: Any, indices: Any, output_size: Any = None) -> Any:
        """Put the maxima back."""
        return type(self).function(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpoolNd):
    """Put maxima back; the arguments are those of `MaxUnpool2d`."""

    axes, function = 1, F.max_unpool1d


class MaxUnpool2d(_MaxUnpoolNd):
    """Put maxima back where `MaxPool2d` found them, among zeros: called with both of its results, and the size if several would do.

    Parameters
    ----------
    kernel_size, stride, padding : int or (int, int)
        The windows, as for `MaxPool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> x = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> nn.MaxUnpool2d(2)(*nn.MaxPool2d(2, return_indices=True)(x))
    array([[[[0., 0.],
             [0., 3.]]]])
    """

    axes, function = 2, F.max_unpool2d


class MaxUnpool3d(_MaxUnpoolNd):
    """Put maxima back; the arguments are those of `MaxUnpool2d`."""

    axes, function = 3, F.max_unpool3d


class _FractionalMaxPoolNd(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        super().__init__()
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{type(self).__name__} takes one of output_size and output_ratio")
        self.kernel_size = tuple_of(kernel_size, self.axes, "kernel_size")
        self.output_size = None if output_size is None else tuple_of(output_size, self.axes, "output_size")
        if output_ratio is not None:
            output_ratio = tuple(output_ratio) if isinstance(output_ratio, tuple | list) else (output_ratio,) * self.axes
            if not all(0 < r < 1 for r in output_ratio):
                raise ValueError(f"{type(self).__name__}: output_ratio lies between 0 and 1, not {output_ratio}")
        self.output_ratio, self.return_indices = output_ratio, return_indices
        self.register_buffer("_random_samples", _random_samples)

    def forward(self, input: Any) -> Any:
        """Give the maximum of each window."""
        return type(self).function(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    """Give the maxima of windows that begin at random places, as many as are asked for.

    Parameters
    ----------
    kernel_size : int or (int, int)
        The size of a window.
    output_size : int or (int, int), optional
        How many windows there are along each axis.
    output_ratio : float or (float, float), optional
        The same as a part of the input's size.
    return_indices : bool
        Whether to give where the maxima were, too.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.FractionalMaxPool2d(2, output_ratio=0.5)(np.ones((1, 3, 8, 9))).shape
    (1, 3, 4, 4)
    """

    axes, function = 2, F.fractional_max_pool2d


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    """Give the maxima of windows that begin at random places; the arguments are those of `FractionalMaxPool2d`."""

    axes, function = 3, F.fractional_max_pool3d


# --- averages and norms -----------------------------------------------------------------------------------------------------------------
class _AvgPoolNd(_Pool):
    shown = ("kernel_size", "stride", "padding")

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Any) -> Any:
        """Give the average of each window."""
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override
        )


class AvgPool1d(_AvgPoolNd):
    """Give the average of each window of (N, C, L) or (C, L); the arguments are those of `AvgPool2d`, but for ``divisor_override``."""

    axes = 1

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
    ) -> None:
        kernel = tuple_of(kernel_size, 1, "kernel_size")
        super().__init__(kernel, stride_of(stride, kernel), tuple_of(padding, 1, "padding", 0), ceil_mode, count_include_pad)

    def forward(self, input: Any) -> Any:
        """Give the average of each window."""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_AvgPoolNd):
    """Give the average of each window of images (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    padding : int or (int, int)
        Zeros around the image, at most half a window.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.
    count_include_pad : bool
        Whether the zeros around count for the average.
    divisor_override : int, optional
        What to divide the sums by, rather than the number of elements.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """

    axes, function = 2, F.avg_pool2d


class AvgPool3d(_AvgPoolNd):
    """Give the average of each window of (N, C, D, H, W) or (C, D, H, W); the arguments are those of `AvgPool2d`."""

    axes, function = 3, F.avg_pool3d


class _LPPoolNd(_Pool):
    shown = ("norm_type", "kernel_size", "stride", "ceil_mode")

    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Any) -> Any:
        """Give the norm of each window."""
        return type(self).function(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(_LPPoolNd):
    """Give the norm of each window of (N, C, L) or (C, L); the arguments are those of `LPPool2d`."""

    axes, function = 1, F.lp_pool1d


class LPPool2d(_LPPoolNd):
    """Give the norm of each window of images (N, C, H, W) or (C, H, W).

    Parameters
    ----------
    norm_type : float
        The power that elements are raised to before they are summed; the sum is raised to its inverse.
    kernel_size : int or (int, int)
        The size of a window.
    stride : int or (int, int), optional
        Steps between windows; by default their size.
    ceil_mode : bool
        Whether a last window that is only partly inside counts.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.LPPool2d(2, 2)(np.full((1, 1, 2, 2), 3.0))
    array([[[[6.]]]])
    """

    axes, function = 2, F.lp_pool2d


class LPPool3d(_LPPoolNd):
    """Give the norm of each window of (N, C, D, H, W) or (C, D, H, W); the arguments are those of `LPPool2d`."""

    axes, function = 3, F.lp_pool3d


# --- to a given size --------------------------------------------------------------------------------------------------------------------
class _AdaptiveAvgPoolNd(_Pool):
    shown = ("output_size",)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Any) -> Any:
        """Give the average of each window."""
        return type(self).function(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Give averages of (N, C, L) or (C, L), as many as are asked for; see `AdaptiveAvgPool2d`."""

    axes, function = 1, F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Give averages of images (N, C, H, W) or (C, H, W), as many as are asked for.

    Parameters
    ----------
    output_size : int, None or a pair of them
        How many windows there are along each axis; None for as many as elements.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.AdaptiveAvgPool2d((1, None))(np.ones((2, 3, 5, 7))).shape
    (2, 3, 1, 7)
    """

    axes, function = 2, F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """Give averages of (N, C, D, H, W) or (C, D, H, W), as many as are asked for; see `AdaptiveAvgPool2d`."""

    axes, function = 3, F.adaptive_avg_pool3d


class _AdaptiveMaxPoolNd(_Pool):
    shown = ("output_size",)

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Any) -> Any:
        """Give the maximum of each window."""
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """Give maxima of (N, C, L) or (C, L), as many as are asked for; see `AdaptiveMaxPool2d`."""

    axes, function = 1, F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """Give maxima of images (N, C, H, W) or (C, H, W), as many as are asked for.

    Parameters
    ----------
    output_size : int, None or a pair of them
        How many windows there are along each axis; None for as many as elements.
    return_indices : bool
        Whether to give where the maxima were, too.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.AdaptiveMaxPool2d(1)(np.arange(6.0).reshape(1, 1, 2, 3))
    array([[[[5.]]]])
    """

    axes, function = 2, F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """Give maxima of (N, C, D, H, W) or (C, D, H, W), as many as are asked for; see `AdaptiveMaxPool2d`."""

    axes, function = 3, F.adaptive_max_pool3d
