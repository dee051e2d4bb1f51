"""Fourier transforms. Each has its adjoint for the inner product Re(conj(a) b) among the others.

fft, ifft, fftn, ifftn, rfft and irfft have rules; the rest is made of them. Sizes and axes are written out before anything is computed,
so that all libraries mean the same by what was left out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from agnostic_ad.families import composite, linear, normalize_axes, normalize_axis
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.creation import creation
from agnostic_ad.samples import Free, case, strided

_ONE = "x, /, *, n=None, axis=-1, norm='backward'"
_MANY = "x, /, *, s=None, axes=None, norm='backward'"
_DUAL = {"backward": "forward", "ortho": "ortho", "forward": "backward"}
"""The normalisation of the adjoint: the conjugate transpose of a transform is its inverse, scaled as the transform was."""
_OF_REAL = {"rfft": "fft", "rfftn": "fftn", "ihfft": "ifft"}
"""The transforms of real arrays, and what does the same for complex ones."""


# --- sizes and axes ---------------------------------------------------------------------------------------------------------------------
def _sizes(what: str, half: bool, shape: tuple[Any, ...], axes: tuple[int, ...], given: Sequence[Any]) -> tuple[int, ...]:
    """Give the sizes of a transform over ``axes``; ``half`` says that the operand is half of the last one."""
    whole = [shape[a] for a in axes]
    if half:
        whole[-1] = 2 * (whole[-1] - 1)
    found = []
    for axis, n, m in zip(axes, given, whole, strict=True):
        try:
            found.append(m if n is None else operator.index(n))
        except TypeError:
            raise TypeError(f"{what}: a size is an integer, not {n!r}") from None
        if found[-1] < 1 or shape[axis] == 0:  # NumPy reads foreign memory in irfft of nothing
            raise ValueError(
                f"{what}: axis {axis} of an array of shape {tuple(shape)} cannot be transformed over {found[-1]} elements; "
                "a transform is of 1 element or more, and the size may be passed"
            )
    return tuple(found)


def _prepare(name: str) -> Callable[..., Any]:
    """Give the function that writes out ``n`` and ``axis``, or ``s`` and ``axes``, and refuses what has no transform."""
    what, half = f"fft.{name}", name in ("irfft", "irfftn", "hfft")

    def prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        (x,), norm = args, params["norm"]
        if not hasattr(x, "shape"):
            return args, params
        if norm not in _DUAL:
            raise ValueError(f"{what}: norm is 'backward', 'ortho' or 'forward', not {norm!r}")
        if name in _OF_REAL and x.dtype in COMPLEX:
            raise TypeError(f"{what} transforms real arrays, not {x.dtype}. Use fft.{_OF_REAL[name]} for complex ones.")
        if "axis" in params:
            axis = normalize_axis(params["axis"], len(x.shape), what)
            return args, {"n": _sizes(what, half, x.shape, (axis,), (params["n"],))[0], "axis": axis, "norm": norm}
        s, axes = params["s"], params["axes"]
        if s is not None and axes is None:
            raise ValueError(f"{what}: s is given without axes. Say which axes these sizes belong to: axes={tuple(range(-len(s), 0))}")
        axes = normalize_axes(axes, len(x.shape), what)
        if s is not None and len(s) != len(axes):
            raise ValueError(f"{what}: {len(s)} sizes for {len(axes)} axes")
        if not axes:
            raise ValueError(f"{what}: no axis to transform, in an array of shape {tuple(x.shape)}")
        given = [None] * len(axes) if s is None else [None if n == -1 else n for n in s]
        return args, {"s": _sizes(what, half, x.shape, axes, given), "axes": axes, "norm": norm}

    return prepare


def _batch(name: str) -> Callable[..., Any]:
    def batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
        if "axis" in params:
            return getattr(xp.fft, name)(args[0], **{**params, "axis": params["axis"] + 1})
        return getattr(xp.fft, name)(args[0], **{**params, "axes": tuple(a + 1 for a in params["axes"])})

    return batch


def _abstract(name: str) -> Callable[..., Any]:
    def abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> ShapeDtype:
        (x,) = args
        pairs = [(params["axis"], params["n"])] if "axis" in params else zip(params["axes"], params["s"], strict=True)
        sizes = {axis: n // 2 + 1 if name == "rfft" else n for axis, n in pairs}
        dtype = x.dtype if xp.kind(x.dtype) in "fc" else xp.default("real floating")
        dtype = xp.real_of(dtype) if name == "irfft" else dtype if dtype in COMPLEX else xp.complex_of(dtype)
        return ShapeDtype(tuple(sizes.get(i, n) for i, n in enumerate(x.shape)), dtype)

    return abstract


def _transform(name: str, signature: str, transpose: Callable[..., Any], cases: Any) -> Op:
    return linear(f"fft.{name}", signature, transpose, prepare=_prepare(name), batch=_batch(name), abstract=_abstract(name), cases=cases)


# --- adjoints -----------------------------------------------------------------------------------------------------------------------------
def _fit(xp: Any, x: Any, shape: tuple[Any, ...]) -> Any:
    """Crop to ``shape``, and fill up with zeros: the adjoint of filling up and cropping."""
    if tuple(x.shape) == tuple(shape):
        return x
    common = tuple(slice(0, min(a, b)) for a, b in zip(x.shape, shape, strict=True))
    x = xp.getitem(x, key=common)
    return x if tuple(x.shape) == tuple(shape) else xp.scatter(x, key=common, shape=tuple(shape))


def _weigh(xp: Any, x: Any, n: int, axis: int, paired: float, dtype: Any) -> Any:
    """Multiply by ``paired`` the frequencies that stand for themselves and their mirror images: all but zero and, for even ``n``, n/2."""
    k = xp.arange(n // 2 + 1, device=device_of(x))
    alone = xp.astype((k == 0) | (2 * k == n), dtype)
    return x * xp.reshape(paired + (1 - paired) * alone, tuple(-1 if i == axis else 1 for i in range(x.ndim)))


def _one(name: str) -> Callable[..., Any]:
    return lambda xp, ct, x_shape, n, axis, norm: _fit(xp, getattr(xp.fft, name)(ct, n=n, axis=axis, norm=_DUAL[norm]), x_shape)


def _many(name: str) -> Callable[..., Any]:
    return lambda xp, ct, x_shape, s, axes, norm: _fit(xp, getattr(xp.fft, name)(ct, s=s, axes=axes, norm=_DUAL[norm]), x_shape)


def _rfft_transpose(xp: Any, ct: Any, x_shape: tuple[Any, ...], x_dtype: Any, n: int, axis: int, norm: str) -> Any:
    return _fit(xp, xp.fft.irfft(_weigh(xp, ct, n, axis, 0.5, x_dtype), n=n, axis=axis, norm=_DUAL[norm]), x_shape)


def _irfft_transpose(xp: Any, ct: Any, x_shape: tuple[Any, ...], x_dtype: Any, n: int, axis: int, norm: str) -> Any:
    g = _weigh(xp, xp.fft.rfft(ct, n=n, axis=axis, norm=_DUAL[norm]), n, axis, 2.0, ct.dtype)
    return _fit(xp, g if x_dtype in COMPLEX else xp.real(g), x_shape)


# --- the table ------------------------------------------------------------------------------------------------------------------------------
def _ones(kinds: str) -> list[Any]:
    """Give cases of a transform along one axis: even and odd, cropped and filled up, every normalisation, empty, not contiguous."""
    return [
        case(
            (2, 4), kinds=kinds, free=Free("same", {"axis": "axis", "n": (3, 1, 4, 5), "norm": ("backward", "ortho", "forward")}, 1, False)
        ),
        case((5, 2), kinds=kinds, axis=0, norm="ortho"),
        case((2, 4, 3), kinds=kinds, axis=-2, n=7, norm="forward"),
        case((6,), kinds=kinds, n=3),
        case((3,), kinds=kinds, n=4, norm="ortho"),
        case((2,), kinds=kinds, n=1, norm="forward"),
        case((0, 3), kinds=kinds, axis=1),
        case(strided((4,)), kinds=kinds, norm="forward"),
    ]


def _several(kinds: str) -> list[Any]:
    """Give cases of a transform along several axes."""
    return [
        case((3, 4), kinds=kinds),
        case((2, 3, 4), kinds=kinds, axes=(-1, 0), norm="ortho"),
        case((3, 2, 4), kinds=kinds, s=(5, 3), axes=(2, 0), norm="forward"),
        case((3, 4), kinds=kinds, s=(-1, 6), axes=(0, 1)),
        case((5,), kinds=kinds, norm="forward"),
        case((0, 3), kinds=kinds, axes=(1,)),
        case(strided((2, 3)), kinds=kinds, s=(1, 2), axes=(-2, -1), norm="ortho"),
    ]


fft = _transform("fft", _ONE, _one("ifft"), _ones("c"))
ifft = _transform("ifft", _ONE, _one("fft"), _ones("c"))
fftn = _transform("fftn", _MANY, _many("ifftn"), _several("c"))
ifftn = _transform("ifftn", _MANY, _many("fftn"), _several("c"))
rfft = _transform("rfft", _ONE, _rfft_transpose, _ones("f"))
irfft = _transform("irfft", _ONE, _irfft_transpose, _ones("c"))


@composite("fft.hfft", _ONE, ["x"], prepare=_prepare("hfft"), cases=_ones("c"))
def hfft(xp: Any, x: Any, *, n: int, axis: int, norm: str) -> Any:
    """Transform a signal with Hermitian symmetry, given by its first half."""
    return xp.fft.irfft(xp.conj(x) if x.dtype in COMPLEX else x, n=n, axis=axis, norm=_DUAL[norm])


@composite("fft.ihfft", _ONE, ["x"], prepare=_prepare("ihfft"), cases=_ones("f"))
def ihfft(xp: Any, x: Any, *, n: int, axis: int, norm: str) -> Any:
    """Transform a real spectrum back, to the first half of a signal with Hermitian symmetry."""
    return xp.conj(xp.fft.rfft(x, n=n, axis=axis, norm=_DUAL[norm]))


@composite("fft.rfftn", _MANY, ["x"], prepare=_prepare("rfftn"), cases=_several("f"))
def rfftn(xp: Any, x: Any, *, s: tuple[int, ...], axes: tuple[int, ...], norm: str) -> Any:
    """Transform a real array: half of the last axis, then the others."""
    y = xp.fft.rfft(x, n=s[-1], axis=axes[-1], norm=norm)
    return xp.fft.fftn(y, s=s[:-1], axes=axes[:-1], norm=norm) if len(axes) > 1 else y


@composite("fft.irfftn", _MANY, ["x"], prepare=_prepare("irfftn"), cases=_several("c"))
def irfftn(xp: Any, x: Any, *, s: tuple[int, ...], axes: tuple[int, ...], norm: str) -> Any:
    """Transform back to a real array: the other axes, then the last, of which there is half."""
    x = xp.fft.ifftn(x, s=s[:-1], axes=axes[:-1], norm=norm) if len(axes) > 1 else x
    return xp.fft.irfft(x, n=s[-1], axis=axes[-1], norm=norm)


def _shifted(name: str, doc: str, back: bool) -> Op:
    def shift(xp: Any, x: Any, *, axes: Any = None) -> Any:
        found = normalize_axes(axes, x.ndim, f"fft.{name}")
        return xp.roll(x, tuple(-(x.shape[a] // 2) if back else x.shape[a] // 2 for a in found), axis=found)

    shift.__doc__ = doc
    forms: list[tuple[Any, dict[str, Any]]] = [((4,), {}), ((2, 3), {}), ((2, 5), {"axes": -1}), ((3, 4, 2), {"axes": (0, -2)})]
    forms += [((0, 2), {"axes": 0}), (strided((3,)), {})]
    cases = [case(operand, kinds="fc", free=Free("same", {"axes": "axis?"}, least=1), **params) for operand, params in forms]
    return composite(f"fft.{name}", "x, /, *, axes=None", ["x"], cases=cases)(shift)


fftshift = _shifted("fftshift", "Move the frequency zero to the middle.", back=False)
ifftshift = _shifted("ifftshift", "Undo ``fftshift``.", back=True)


# --- sample frequencies ---------------------------------------------------------------------------------------------------------------------
def _frequencies(name: str, span: Callable[[int], tuple[int, int]]) -> None:
    @creation(f"fft.{name}")
    def make(xp: Any) -> Any:
        def frequencies(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
            """Give the frequencies of a transform of ``n`` samples that lie ``d`` apart; the arguments carry no derivative."""
            raw = xp.backend
            n, d, dtype = operator.index(n), float(d), None if dtype is None else raw.dtype(dtype)
            if n < 1:
                raise ValueError(f"fft.{name}: there is no transform of {n} elements. Pass n, 1 or more.")
            if dtype is not None and raw.kind(dtype) != "f":
                raise TypeError(f"fft.{name}: frequencies are real floating numbers; dtype is {dtype}. Convert them with xp.astype.")
            first, last = span(n)
            k = raw.arange(float(first), float(last), 1.0, dtype=dtype, device=raw.parse_device(device))
            return xp.level.lift(raw.array(raw.roll(k, first) / (n * d)))

        return frequencies


_frequencies("fftfreq", lambda n: (-(n // 2), (n + 1) // 2))
_frequencies("rfftfreq", lambda n: (0, n // 2 + 1))
