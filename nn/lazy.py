"""Modules that learn the sizes of their parameters from the first batch."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from agnostic_ad.nn._windows import checked
from agnostic_ad.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from agnostic_ad.nn.linear import Linear
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from agnostic_ad.nn.parameter import UninitializedBuffer, UninitializedError, UninitializedParameter, adopt, assign, is_lazy
from agnostic_ad.nn.where import say_where

__all__ = [
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
    "LazyLinear",
    "LazyModuleMixin",
]


class LazyModuleMixin(Module):
    """Before the first call, find sizes and values of what is uninitialized; then be an ordinary module.

    A subclass assigns `UninitializedParameter` and `UninitializedBuffer`, and defines ``initialize_parameters``, which is called once, with the
    arguments of the first call, and materializes them. Until then it can be moved, and its state given and taken: a state that has values
    initializes it.

    Attributes
    ----------
    cls_to_become : type or None
        The class that it has from then on.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    >>> model[0]
    LazyLinear(in_features=0, out_features=4, bias=True)
    >>> model(np.ones((5, 3), dtype="float32")).shape
    (5, 2)
    >>> model[0]
    Linear(in_features=3, out_features=4, bias=True)
    """

    cls_to_become: type[Module] | None = None
    _waits = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Find the sizes, where this is the first call; and run the module."""
        if not self._waits:
            return super().__call__(*args, **kwargs)
        try:
            self.initialize_parameters(*args, **kwargs)
            if self.has_uninitialized_params():
                raise UninitializedError(f"{type(self).__name__}.initialize_parameters() left parameters or buffers uninitialized")
        except Exception as error:
            say_where(self, error)
            raise
        if self.cls_to_become is None:
            self._waits = False
        else:
            self.__class__ = self.cls_to_become  # type: ignore[assignment]
        return self(*args, **kwargs)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materialize what is uninitialized, and give it values; the arguments are those of the call."""
        raise NotImplementedError(f"{type(self).__name__} has no initialize_parameters(): define how it finds its sizes")

    def has_uninitialized_params(self) -> bool:
        """Tell whether a parameter or buffer of this module has no values yet."""
        return any(is_lazy(v) for v in (*self._parameters.values(), *self._buffers.values()))


# --- the ordinary layers ------------------------------------------------------------------------------------------------------------------
class _Sized(LazyModuleMixin):
    """A lazy form of ``cls_to_become``, whose first argument the first batch tells; the other arguments are that one's.

    Attributes
    ----------
    sized : str
        The name of that argument, and of the attribute; 0 until then.
    defaults : dict
        Of arguments whose default value is another one than there.
    """

    sized: str
    defaults: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.cls_to_become is not None:
            known = inspect.signature(cls.cls_to_become)
            rest = [p.replace(default=cls.defaults.get(p.name, p.default)) for p in known.parameters.values()][1:]
            cls.__signature__ = known.replace(parameters=rest)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(type(self)).bind(*args, **kwargs)
        given.apply_defaults()
        super().__init__(0, **given.arguments)  # type: ignore[call-arg]
        self._given = {name: value for name, value in given.arguments.items() if name not in ("xp", "dtype", "device")}
        for name, p in self._parameters.items():
            if p is not None:
                setattr(self, name, UninitializedParameter(p.requires_grad, p.device, p.dtype, xp=p.backend.xp))
        for name, b in self._buffers.items():
            if b is not None and 0 in b.shape:
                setattr(self, name, UninitializedBuffer(False, b.device, b.dtype, xp=b.backend.xp))

    def size(self, input: Any) -> int:
        """Give the size that is wanted of an input."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw the initial values, once the size is known."""
        if getattr(self, self.sized):
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Any, *args: Any, **kwargs: Any) -> None:
        """Take parameters and buffers from an ordinary layer of the input's size, where a state has not brought them."""
        size = self.size(input)
        empty = [(name, v) for name, v in (*self._parameters.items(), *self._buffers.items()) if is_lazy(v)]
        if empty:
            like = empty[0][1]
            assert self.cls_to_become is not None
            made = self.cls_to_become(size, **self._given, xp=like.backend.xp, dtype=like.dtype, device=like.device)  # type: ignore[call-arg]
            for name, v in empty:
                values = getattr(made, name).payload
                v.materialize(values.shape)
                assign(v, adopt(values, v.payload))
        setattr(self, self.sized, size)
        del self._given


class LazyLinear(_Sized, Linear):
    """A `Linear` that learns ``in_features`` from the first batch; the other arguments are that one's."""

    cls_to_become, sized = Linear, "in_features"

    def size(self, input: Any) -> int:
        """Give the size of the last axis."""
        if not input.shape:
            raise ValueError("LazyLinear takes an input of one dimension or more, not of shape ()")
        return int(input.shape[-1])


class _Channels(_Sized):
    """Learn the number of channels, of inputs with a batch axis or without one."""

    sized = "in_channels"
    axes: int

    def size(self, input: Any) -> int:
        """Give the size of the channel axis."""
        checked(input, self.axes, type(self).__name__)
        return int(input.shape[-1 - self.axes])


class LazyConv1d(_Channels, Conv1d):
    """A `Conv1d` that learns ``in_channels`` from the first batch; the other arguments are that one's."""

    cls_to_become = Conv1d


class LazyConv2d(_Channels, Conv2d):
    """A `Conv2d` that learns ``in_channels`` from the first batch; the other arguments are that one's."""

    cls_to_become = Conv2d


class LazyConv3d(_Channels, Conv3d):
    """A `Conv3d` that learns ``in_channels`` from the first batch; the other arguments are that one's."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_Channels, ConvTranspose1d):
    """A `ConvTranspose1d` that learns ``in_channels`` from the first batch; the other arguments are that one's."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_Channels, ConvTranspose2d):
    """A `ConvTranspose2d` that learns ``in_channels`` from the first batch; the other arguments are that one's."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_Channels, ConvTranspose3d):
    """A `ConvTranspose3d` that learns ``in_channels`` from the first batch; the other arguments are that one's."""

    cls_to_become = ConvTranspose3d


class _Batches(_Sized):
    """Learn the number of channels, of inputs with a batch axis."""

    sized = "num_features"

    def size(self, input: Any) -> int:
        """Give the size of the channel axis."""
        if len(input.shape) < 2:
            raise ValueError(f"{type(self).__name__} takes an input of shape (N, C, ...), not of shape {tuple(input.shape)}")
        return int(input.shape[1])


class LazyBatchNorm1d(_Batches, BatchNorm1d):
    """A `BatchNorm1d` that learns ``num_features`` from the first batch; the other arguments are that one's."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_Batches, BatchNorm2d):
    """A `BatchNorm2d` that learns ``num_features`` from the first batch; the other arguments are that one's."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_Batches, BatchNorm3d):
    """A `BatchNorm3d` that learns ``num_features`` from the first batch; the other arguments are that one's."""

    cls_to_become = BatchNorm3d


class _Features(_Channels):
    sized = "num_features"
    defaults: ClassVar[dict[str, Any]] = {"affine": True, "track_running_stats": True}


class LazyInstanceNorm1d(_Features, InstanceNorm1d):
    """An `InstanceNorm1d` that learns ``num_features`` from the first batch; as in PyTorch, affine and with statistics by default."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_Features, InstanceNorm2d):
    """An `InstanceNorm2d` that learns ``num_features`` from the first batch; as in PyTorch, affine and with statistics by default."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_Features, InstanceNorm3d):
    """An `InstanceNorm3d` that learns ``num_features`` from the first batch; as in PyTorch, affine and with statistics by default."""

    cls_to_become = InstanceNorm3d
