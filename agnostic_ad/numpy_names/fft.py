"""``numpy.fft``."""

from __future__ import annotations

from typing import Any

from agnostic_ad.namespaces import COMPLEX
from agnostic_ad.numpy_names.base import array, floating, named


def _ready(xp: Any, a: Any, kind: str) -> Any:
    """Give an operand of the dtype that the standard asks for: NumPy takes any."""
    a = array(xp, a)
    a = floating(xp, a)
    return xp.astype(a, xp.backend.complex_of(a.dtype)) if kind == "c" and a.dtype not in COMPLEX else a


_ONE = {"fft": "c", "ifft": "c", "rfft": "f", "irfft": "c", "hfft": "c", "ihfft": "f"}
_MANY = {"fftn": "c", "ifftn": "c", "rfftn": "f", "irfftn": "c"}


def _one(name: str, kind: str) -> None:
    @named(f"fft.{name}")
    def transform(xp: Any, a: Any, n: Any = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
        return getattr(xp.fft, name)(_ready(xp, a, kind), n=n, axis=axis, norm=norm or "backward")


def _many(name: str, kind: str) -> None:
    @named(f"fft.{name}")
    def transform(xp: Any, a: Any, s: Any = None, axes: Any = None, norm: Any = None, out: Any = None) -> Any:
        a = _ready(xp, a, kind)
        axes = tuple(range(a.ndim - len(s), a.ndim)) if axes is None and s is not None else axes
        s = s if s is None else tuple(s)
        return getattr(xp.fft, name)(a, s=s, axes=axes if axes is None else tuple(axes), norm=norm or "backward")

    @named(f"fft.{name[:-1]}2")
    def transform2(xp: Any, a: Any, s: Any = None, axes: Any = (-2, -1), norm: Any = None, out: Any = None) -> Any:
        return transform(xp, a, s, axes, norm)


for _name, _kind in _ONE.items():
    _one(_name, _kind)
for _name, _kind in _MANY.items():
    _many(_name, _kind)


def _shift(name: str) -> None:
    @named(f"fft.{name}")
    def shift(xp: Any, x: Any, axes: Any = None) -> Any:
        return getattr(xp.fft, name)(array(xp, x), axes=tuple(axes) if isinstance(axes, list) else axes)


_shift("fftshift")
_shift("ifftshift")
