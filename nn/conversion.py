"""Moving modules: to another array library, dtype or device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from agnostic_ad.arguments import is_array
from agnostic_ad.config import Place, dtype_name, move, parse
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.parameter import convert

__all__ = ["Convertible"]


class Convertible:
    """The part of `Module` that moves and converts what it holds; every method gives the module."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]

    def _apply(self, fn: Callable[[Any], Any], recurse: bool = True) -> Any:
        """Give each parameter, buffer and gradient the array that ``fn`` makes of the one it has."""
        for module in self._modules.values() if recurse else ():
            if module is not None:
                module._apply(fn)
        for v in (*self._parameters.values(), *self._buffers.values()):
            if v is not None:
                convert(v, fn)
        return self

    def to(self, *args: Any, xp: Any = None, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Any:
        """Move parameters, buffers and gradients to another library, dtype or device, in place; give the module.

        Parameters
        ----------
        *args : namespace, dtype, device or array
            In any order. A dtype, floating or complex, concerns floating arrays only. An array stands for its library, dtype and device.
        xp, dtype, device
            The same by name.
        non_blocking : bool
            Accepted, and of no effect.

        Examples
        --------
        >>> import numpy as np
        >>> from agnostic_ad import nn
        >>> nn.Linear(2, 2).to(np, "float64").weight.dtype
        dtype('float64')
        """
        targets: list[Any] = []
        for x in args:
            if is_array(x):
                raw = x
                while isinstance(raw, Array):
                    raw = raw.payload
                backend = backend_of(raw)
                targets += [backend.xp, dtype_name(raw.dtype), backend.device(raw)]
            elif not isinstance(x, bool):  # non_blocking by position
                targets.append(x)
        to = parse(*targets, xp=xp, dtype=dtype, device=device)
        if to.dtype is not None and not to.dtype.startswith(("float", "bfloat", "complex")):
            raise TypeError(f"Module.to takes floating and complex dtypes, not {to.dtype}: parameters have gradients")
        return self._apply(lambda x: move(x, to))

    def _to_dtype(self, name: str) -> Any:
        to = Place(dtype=name)
        return self._apply(lambda x: move(x, to) if backend_of(x).kind(x.dtype) == "f" else x)

    def float(self) -> Any:
        """Convert floating arrays to float32."""
        return self._to_dtype("float32")

    def double(self) -> Any:
        """Convert floating arrays to float64."""
        return self._to_dtype("float64")

    def half(self) -> Any:
        """Convert floating arrays to float16."""
        return self._to_dtype("float16")

    def bfloat16(self) -> Any:
        """Convert floating arrays to bfloat16, where the library has it."""
        return self._to_dtype("bfloat16")

    def type(self, dst_type: Any) -> Any:
        """Convert all arrays, those of integers too, to a dtype."""
        name = dtype_name(dst_type)
        return self._apply(lambda x: backend_of(x).astype(x, backend_of(x).dtype(name)))

    def cpu(self) -> Any:
        """Move to the CPU, within the library."""
        return self.to(device="cpu")

    def to_empty(self, *, device: Any, recurse: bool = True) -> Any:
        """Move to a device without the values, which are any from then on: for a state that is loaded next.

        Parameters
        ----------
        device : device or str
            Where to.
        recurse : bool
            Whether to go through the modules below.
        """

        def empty(x: Any) -> Any:
            backend = backend_of(x)
            return backend.xp.empty(
                tuple(x.shape), dtype=x.dtype, device=backend.device(x) if device is None else backend.parse_device(device)
            )

        return self._apply(empty, recurse)

    def cuda(self, device: Any = None) -> NoReturn:
        """Refuse: an array library says where its arrays can live."""
        _no_device_method("cuda")

    def xpu(self, device: Any = None) -> NoReturn:
        """Refuse, as `cuda`."""
        _no_device_method("xpu")

    def mtia(self, device: Any = None) -> NoReturn:
        """Refuse, as `cuda`."""
        _no_device_method("mtia")

    def ipu(self, device: Any = None) -> NoReturn:
        """Refuse, as `cuda`."""
        _no_device_method("ipu")

    def share_memory(self) -> NoReturn:
        """Refuse: a step of an optimizer may put parameters elsewhere in memory, and they would be shared no longer."""
        raise UnsupportedError(
            "Module.share_memory(): parameters here do not stay in one place in memory, so processes cannot share them. "
            "Send module.state_dict() to the others."
        )


def _no_device_method(name: str) -> NoReturn:
    raise UnsupportedError(
        f"Module.{name}(): a device belongs to an array library. Write module.to(cupy), or module.to(torch, device={name!r}), to move there."
    )
