"""JAX: immutable arrays, on any of its devices, concrete or traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

from agnostic_ad.backends import scipy
from agnostic_ad.backends.base import Backend
from agnostic_ad.backends.jax_control import JaxControl
from agnostic_ad.backends.jax_nn import JaxNeural
from agnostic_ad.backends.keys import specified

_SPECIAL = scipy.Special(jax.scipy.special)


class JaxBackend(JaxNeural, JaxControl):
    """``jax.numpy``."""

    mutable = False
    executor = "jax"
    # the first fails for matrices without elements; of the others, beta is right to 1e-8, erfcx 0 beyond 26, hyp1f1 wrong from -20 down
    replaced = frozenset({"linalg.matrix_rank", "special.beta", "special.betaln", "special.erfcx", "special.hyp1f1"})

    def owns(self, x: Any) -> bool:
        """Tell whether ``x`` is a JAX array or tracer."""
        return isinstance(x, jax.Array)

    def version(self) -> str:
        """Give jax's version."""
        return str(jax.__version__)

    def devices(self) -> list[str]:
        """Give the local devices."""
        return [str(d) for d in jax.local_devices()]

    def complex_dtypes(self) -> Any:
        """Give NumPy's dtype objects, which JAX arrays carry."""
        return [np.dtype(np.complex64), np.dtype(np.complex128)]

    def dtype(self, name: Any) -> Any:
        """Give a NumPy dtype object; JAX's own short types (bfloat16) too."""
        return jnp.dtype(name)

    def complex_of(self, dtype: Any) -> Any:
        """Give the complex dtype of the same precision."""
        return np.dtype(np.complex128 if dtype == np.float64 else np.complex64)

    def real_of(self, dtype: Any) -> Any:
        """Give the real dtype of the same precision."""
        return jnp.finfo(dtype).dtype if self.kind(dtype) == "c" else dtype

    def device(self, x: Any) -> Any:
        """Give the device; a traced array has none to speak of."""
        return None if isinstance(x, jax.core.Tracer) else x.device

    def parse_device(self, device: Any) -> Any:
        """Give a ``jax.Device`` for names such as "cpu" or "gpu:1"."""
        if not isinstance(device, str):
            return device
        platform, _, index = device.partition(":")
        return jax.devices(platform)[int(index or 0)]

    def concrete(self, x: Any) -> bool:
        """Tell whether ``x`` is not traced."""
        return not isinstance(x, jax.core.Tracer)

    def to_numpy(self, x: Any) -> Any:
        """Copy to the host."""
        return np.asarray(x)

    def to_device(self, x: Any, device: Any) -> Any:
        """Move."""
        return jax.device_put(x, self.parse_device(device))

    def own(self, x: Any) -> Any:
        """Give ``x`` itself: nobody can write into it."""
        return x

    def synchronize(self) -> None:
        """Wait for everything that was dispatched."""
        jax.effects_barrier()

    def getitem(self, x: Any, /, key: Any) -> Any:
        """Give ``x[key]``."""
        specified(key, x.shape)  # JAX itself clamps an index out of bounds
        return x[key]

    def scatter_add(self, values: Any, indices: Any, /, *, size: int, axis: int = 0) -> Any:
        """Sum slices by index with ``.at[].add``."""
        values = jnp.moveaxis(values, axis, 0)
        out = jnp.zeros((size, *values.shape[1:]), values.dtype).at[indices].add(values)
        return jnp.moveaxis(out, 0, axis)

    def setitem(self, x: Any, value: Any, /, key: Any) -> Any:
        """Give a copy with the change."""
        specified(key, x.shape)  # JAX itself ignores an index out of bounds
        return x.at[key].set(value)

    def add_into(self, buffer: Any, value: Any, key: Any) -> Any:
        """Give a copy with the sum."""
        return buffer.at[key].add(value)

    def searchsorted(self, x1: Any, x2: Any, /, *, side: str = "left", sorter: Any = None) -> Any:
        """Search, with the default dtype of indices."""
        return jnp.searchsorted(x1, x2, side=side, sorter=sorter).astype(self.default("indexing"))

    def extension(self, name: str) -> Any:
        """Give ``jax.scipy.special``, and the standard's extensions."""
        return _SPECIAL if name == "special" else super().extension(name)

    def from_scipy(self, name: str, *args: Any) -> Any:
        """Compute on the host, where the arrays are traced by a callback."""
        if all(map(self.concrete, args)):
            return super().from_scipy(name, *args)
        like = jax.ShapeDtypeStruct(*scipy.result_like(name, args))
        return jax.pure_callback(lambda *a: scipy.compute(name, *map(np.asarray, a)), like, *args, vmap_method="broadcast_all")

    def sinh(self, x: Any, /) -> Any:
        """Give sinh; of complex numbers by the sine, since JAX's own subtracts exponentials, and loses the digits of small numbers."""
        if self.kind(x.dtype) != "c":
            return jnp.sinh(x)
        sine = jnp.sin(jax.lax.complex(-x.imag, x.real))
        return jax.lax.complex(sine.imag, -sine.real)

    def linalg_cholesky(self, x: Any, /, *, upper: bool = False) -> Any:
        """Factor from the lower triangle; by default JAX takes the mean of both."""
        return jnp.linalg.cholesky(x, upper=upper, symmetrize_input=False)

    def linalg_eigh(self, x: Any, /) -> Any:
        """Decompose from the lower triangle, likewise."""
        return jnp.linalg.eigh(x, symmetrize_input=False)

    def linalg_eigvalsh(self, x: Any, /) -> Any:
        """Give the eigenvalues, likewise."""
        return jnp.linalg.eigvalsh(x, symmetrize_input=False)


_INSTANCE = JaxBackend(jnp)


def make() -> Backend:
    """Give the one backend of this library."""
    return _INSTANCE
