"""mparray: NumPy-like arrays of as many digits as mpmath is set to. Derivatives of fifty digits, and the conformance suite's oracle.

mparray has the main part of the standard; its extensions are computed here with mpmath, one matrix or one number at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mparray as xp
import mpmath
import numpy as np

from agnostic_ad.backends.base import Backend
from agnostic_ad.errors import MissingFunctionError


def _i(order: int, scaled: bool = False) -> Callable[..., Any]:
    return lambda x: mpmath.besseli(order, x) * (mpmath.exp(-abs(x)) if scaled else 1)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "floor_divide": lambda a, b: mpmath.floor(a / b),
    "log2": lambda x: mpmath.log(x) / mpmath.log(2),
    "log10": mpmath.log10,
    "special.beta": mpmath.beta,
    "special.betainc": lambda a, b, x: mpmath.betainc(a, b, 0, x, regularized=True),
    "special.betaln": lambda a, b: mpmath.log(abs(mpmath.beta(a, b))),
    "special.binom": mpmath.binomial,
    "special.cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)),
    "special.digamma": mpmath.digamma,
    "special.ellipe": mpmath.ellipe,
    "special.ellipk": mpmath.ellipk,
    "special.entr": lambda x: -x * mpmath.log(x) if x else x,
    "special.erf": mpmath.erf,
    "special.erfc": mpmath.erfc,
    "special.erfcx": lambda x: mpmath.exp(x * x) * mpmath.erfc(x),
    "special.erfinv": mpmath.erfinv,
    "special.exp10": lambda x: mpmath.power(10, x),
    "special.exp2": lambda x: mpmath.power(2, x),
    "special.expit": lambda x: 1 / (1 + mpmath.exp(-x)),
    "special.exprel": lambda x: mpmath.expm1(x) / x if x else mpmath.mpf(1),
    "special.gamma": mpmath.gamma,
    "special.gammainc": lambda a, x: mpmath.gammainc(a, 0, x, regularized=True),
    "special.gammaincc": lambda a, x: mpmath.gammainc(a, x, regularized=True),
    "special.gammaln": lambda x: mpmath.re(mpmath.loggamma(x)),
    "special.hyp1f1": mpmath.hyp1f1,
    "special.i0": _i(0),
    "special.i0e": _i(0, scaled=True),
    "special.i1": _i(1),
    "special.i1e": _i(1, scaled=True),
    "special.j0": mpmath.j0,
    "special.j1": mpmath.j1,
    "special.k0": lambda x: mpmath.besselk(0, x),
    "special.k1": lambda x: mpmath.besselk(1, x),
    "special.log_ndtr": lambda x: mpmath.log(mpmath.ncdf(x)),
    "special.loggamma": mpmath.loggamma,
    "special.ndtr": mpmath.ncdf,
    "special.ndtri": lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1),
    "special.poch": mpmath.rf,
    "special.polygamma": lambda n, x: mpmath.psi(int(n), x),
    "special.rgamma": mpmath.rgamma,
    "special.stdtr": lambda df, t: _student(df, t),
    "special.stdtrit": lambda df, p: mpmath.findroot(lambda t: _student(df, t) - p, mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)),
    "special.zeta": lambda x, q=None: mpmath.zeta(x) if q is None else mpmath.zeta(x, q),
}


def _student(df: Any, t: Any) -> Any:
    tail = mpmath.betainc(df / 2, mpmath.mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2
    return tail if t < 0 else 1 - tail


def _objects(x: Any) -> Any:
    """Give the numbers of an array, which mparray offers no public way to."""
    return x._data if isinstance(x, xp.MPArray) else np.asarray(x, dtype=object)


def _exact(x: Any) -> Any:
    return mpmath.mpmathify(x) if isinstance(x, int | float | complex) else x


class MparrayBackend(Backend):
    """Arrays of mpmath's numbers; a dtype says only whether they are real or complex."""

    replaced = frozenset({"unique_all", "unique_counts", "unique_inverse", "unique_values"})  # which sort no complex numbers

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is an mparray."""
        return isinstance(x, xp.MPArray)

    def device(self, x: Any) -> Any:
        """Give "cpu"."""
        return "cpu"

    def devices(self) -> list[str]:
        """Give "cpu"."""
        return ["cpu"]

    def to_numpy(self, x: Any) -> Any:
        """Round to double precision."""
        return _objects(x).astype(x.dtype)

    def from_numpy(self, x: Any, device: Any = None) -> Any:
        """Take the numbers as they are."""
        return xp.asarray(x)

    def to_device(self, x: Any, device: Any) -> Any:
        """Give ``x``; these numbers live on the host."""
        if device not in ("cpu", None):
            raise ValueError(f"mparray has no device {device!r}, only 'cpu'")
        return x

    def own(self, x: Any) -> Any:
        """Copy."""
        return xp.asarray(x, copy=True)

    def extension(self, name: str) -> Any:
        """Give None: mparray's special functions have other signatures, and fewer names."""
        return None

    def from_scipy(self, name: str, *args: Any) -> Any:
        """Refuse: SciPy would round to double precision."""
        raise MissingFunctionError(f"mparray has no function special.{name} of many digits")

    def array_of(self, numbers: Any, dtype: Any) -> Any:
        """Give an array of mpmath's numbers."""
        return xp.asarray(np.asarray(numbers, dtype=object), dtype=dtype)

    def each(self, name: str, *args: Any) -> Any:
        """Compute a function of numbers, element by element."""
        function, dtype = _FUNCTIONS[name], xp.result_type(*(a for a in args if self.owns(a)))
        if self.kind(dtype) not in "fc":
            dtype = xp.float64
        exact = np.frompyfunc(lambda *numbers: function(*map(_exact, numbers)), len(args), 1)
        return self.array_of(exact(*map(_objects, args)), dtype)

    def real(self, x: Any, /) -> Any:
        """Give real parts; mparray rounds them to double precision."""
        return self.array_of(np.frompyfunc(mpmath.re, 1, 1)(_objects(x)), self.real_of(x.dtype))

    def imag(self, x: Any, /) -> Any:
        """Give imaginary parts; mparray rounds them to double precision."""
        return self.array_of(np.frompyfunc(mpmath.im, 1, 1)(_objects(x)), self.real_of(x.dtype))

    # --- matrices -----------------------------------------------------------------------------------------------------------------------
    def _stacked(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Compute a function of matrices that gives one or several, of each in a stack; give object arrays."""
        args = tuple(map(_objects, args))
        lead = np.broadcast_shapes(*(a.shape[:-2] for a in args))
        args = tuple(np.broadcast_to(a, (*lead, *a.shape[-2:])) for a in args)
        parts: list[Any] = []
        for index in np.ndindex(lead):
            found = function(*(mpmath.matrix(a[index].tolist()) if a[index].size else mpmath.matrix(*a[index].shape) for a in args))
            found = found if isinstance(found, tuple) else (found,)
            parts = parts or [np.empty((*lead, m.rows, m.cols) if isinstance(m, mpmath.matrix) else lead, dtype=object) for m in found]
            for part, m in zip(parts, found, strict=True):
                part[index] = np.reshape(np.array(list(m), dtype=object), (m.rows, m.cols)) if isinstance(m, mpmath.matrix) else m
        if not parts:
            raise ValueError("mparray: a stack of no matrices has no factors here")
        return parts

    def nextafter(self, x1: Any, x2: Any, /) -> Any:
        """Refuse: there is no next number."""
        raise MissingFunctionError("mparray has no function nextafter: its numbers have as many digits as are asked for")

    def linalg_inv(self, x: Any, /) -> Any:
        """Invert."""
        return self.array_of(self._stacked(mpmath.inverse, x)[0], x.dtype)

    def linalg_det(self, x: Any, /) -> Any:
        """Give determinants."""
        return self.array_of(self._stacked(mpmath.det, x)[0], x.dtype)

    def linalg_slogdet(self, x: Any, /) -> Any:
        """Give signs and logarithms of determinants."""
        det = self._stacked(mpmath.det, x)[0]
        size = np.frompyfunc(abs, 1, 1)(det)
        return self.array_of(det / size, x.dtype), self.array_of(np.frompyfunc(mpmath.log, 1, 1)(size), self.real_of(x.dtype))

    def linalg_solve(self, x1: Any, x2: Any, /) -> Any:
        """Solve."""
        column = x2.ndim == 1
        inverse = self.linalg_inv(x1)
        y = xp.matmul(inverse, xp.expand_dims(x2, axis=-1) if column else x2)
        return y[..., 0] if column else y

    def linalg_pinv(self, x: Any, /, *, rtol: Any = None) -> Any:
        """Invert on the range, for matrices of full rank."""
        adjoint = xp.matrix_transpose(xp.conj(x))
        if x.shape[-2] >= x.shape[-1]:
            return xp.matmul(self.linalg_inv(xp.matmul(adjoint, x)), adjoint)
        return xp.matmul(adjoint, self.linalg_inv(xp.matmul(x, adjoint)))

    def linalg_vector_norm(self, x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
        """Give norms."""
        size = xp.abs(x)
        if abs(ord) == mpmath.inf:
            return (xp.max if ord > 0 else xp.min)(size, axis=axis, keepdims=keepdims)
        if ord == 0:
            return xp.sum(xp.astype(size != 0, size.dtype), axis=axis, keepdims=keepdims)
        return xp.sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / mpmath.mpf(ord))

    def linalg_cholesky(self, x: Any, /, *, upper: bool = False) -> Any:
        """Factor."""
        y = self.array_of(self._stacked(lambda m: mpmath.cholesky(_from_lower(m)), x)[0], x.dtype)
        return xp.matrix_transpose(xp.conj(y)) if upper else y

    def linalg_eigh(self, x: Any, /) -> Any:
        """Give eigenvalues, growing, and eigenvectors."""
        values, vectors = self._stacked(lambda m: (mpmath.eighe if self.kind(x.dtype) == "c" else mpmath.eigsy)(_from_lower(m)), x)
        vectors = vectors * _phases(vectors, np.linalg.eigh(self.to_numpy(x)).eigenvectors)
        return self.array_of(values[..., 0], self.real_of(x.dtype)), self.array_of(vectors, x.dtype)

    def linalg_svd(self, x: Any, /, *, full_matrices: bool = True) -> Any:
        """Give singular values, falling, and both bases."""
        factors = mpmath.svd_c if self.kind(x.dtype) == "c" else mpmath.svd_r
        u, s, vh = self._stacked(lambda m: factors(m, full_matrices=full_matrices), x)
        phases, k = _phases(u, np.linalg.svd(self.to_numpy(x), full_matrices=full_matrices).U), s.shape[-2]
        u = u * phases
        vh[..., :k, :] *= np.swapaxes(np.frompyfunc(mpmath.conj, 1, 1)(phases), -1, -2)[..., :k, :]
        return self.array_of(u, x.dtype), self.array_of(s[..., 0], self.real_of(x.dtype)), self.array_of(vh, x.dtype)

    def linalg_qr(self, x: Any, /, *, mode: str = "reduced") -> Any:
        """Factor."""

        def factors(m: Any) -> Any:
            if m.rows >= m.cols:
                return mpmath.qr(m, mode="skinny" if mode == "reduced" else "full")
            q, _ = mpmath.qr(m[:, : m.rows])
            return q, q.H * m

        q, r = self._stacked(factors, x)
        return self.array_of(q, x.dtype), self.array_of(r, x.dtype)

    # --- Fourier transforms -----------------------------------------------------------------------------------------------------------------
    def _dft(self, x: Any, n: int, axis: int, norm: str, sign: int) -> Any:
        """Multiply by the matrix of the transform, of sign -1 forward and 1 backward."""
        data = np.moveaxis(_objects(x), axis, -1)[..., :n]
        data = np.concatenate([data, np.zeros((*data.shape[:-1], n - data.shape[-1]), dtype=object)], axis=-1)
        turns = np.frompyfunc(lambda j, k: mpmath.expjpi(mpmath.mpf(2 * sign * j * k) / n), 2, 1).outer(range(n), range(n))
        scaled = norm == ("backward" if sign > 0 else "forward")
        y = np.matmul(data, turns) / (n if scaled else mpmath.sqrt(n) if norm == "ortho" else 1)
        return self.array_of(np.moveaxis(y, -1, axis), xp.complex128)

    def fft_fft(self, x: Any, /, *, n: int, axis: int, norm: str) -> Any:
        """Transform."""
        return self._dft(x, n, axis, norm, -1)

    def fft_ifft(self, x: Any, /, *, n: int, axis: int, norm: str) -> Any:
        """Transform back."""
        return self._dft(x, n, axis, norm, 1)

    def fft_fftn(self, x: Any, /, *, s: Any, axes: Any, norm: str) -> Any:
        """Transform along several axes."""
        for n, axis in zip(s, axes, strict=True):
            x = self._dft(x, n, axis, norm, -1)
        return x

    def fft_ifftn(self, x: Any, /, *, s: Any, axes: Any, norm: str) -> Any:
        """Transform back along several axes."""
        for n, axis in zip(s, axes, strict=True):
            x = self._dft(x, n, axis, norm, 1)
        return x

    def fft_rfft(self, x: Any, /, *, n: int, axis: int, norm: str) -> Any:
        """Transform real numbers: the first half."""
        return xp.take(self._dft(x, n, axis, norm, -1), xp.arange(n // 2 + 1), axis=axis)

    def fft_irfft(self, x: Any, /, *, n: int, axis: int, norm: str) -> Any:
        """Transform back to real numbers, from the first half."""
        half = np.moveaxis(_objects(x), axis, -1)[..., : n // 2 + 1]
        half = np.concatenate([half, np.zeros((*half.shape[:-1], n // 2 + 1 - half.shape[-1]), dtype=object)], axis=-1)
        rest = np.frompyfunc(mpmath.conj, 1, 1)(half[..., (n - 1) // 2 : 0 : -1])
        # of the frequencies 0 and n/2 the real part counts
        real = np.frompyfunc(lambda z: mpmath.mpc(mpmath.re(z)), 1, 1)
        half[..., 0] = real(half[..., 0])
        if n % 2 == 0:
            half[..., n // 2] = real(half[..., n // 2])
        whole = np.moveaxis(np.concatenate([half, rest], axis=-1), -1, axis)
        return xp.real(self._dft(whole, n, axis, norm, 1))


def _phases(vectors: Any, wanted: Any) -> Any:
    """Give the numbers of size 1 that turn column vectors as LAPACK's are turned: a choice that mathematics leaves open."""
    along = np.sum(np.frompyfunc(mpmath.conj, 1, 1)(vectors) * wanted, axis=-2, keepdims=True)
    return np.frompyfunc(lambda z: mpmath.sign(z), 1, 1)(along)


def _from_lower(m: Any) -> Any:
    """Give the Hermitian matrix of which ``m`` holds the lower triangle."""
    for i in range(m.rows):
        m[i, i] = mpmath.re(m[i, i])
        for j in range(i):
            m[j, i] = mpmath.conj(m[i, j])
    return m


def _method(name: str) -> Callable[..., Any]:
    def method(self: MparrayBackend, *args: Any) -> Any:
        return self.each(name, *args)

    method.__doc__ = f"Compute {name} with mpmath."
    return method


for _name in _FUNCTIONS:
    setattr(MparrayBackend, _name.replace(".", "_"), _method(_name))

_INSTANCE = MparrayBackend(xp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
