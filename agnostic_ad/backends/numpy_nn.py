"""NumPy's own forms of the operations of neural networks: in place where the general forms make temporaries."""

from __future__ import annotations

from typing import Any

import numpy as np


class NumpyNeural:
    """The methods ``nn_*`` of the NumPy backend, and what optimizers ask for."""

    blocks = 1 << 15

    def sharers(self, x: Any) -> int:
        """Count none: a view refers to the array that owns its memory."""
        return 0

    def nn_relu(self, x: Any) -> Any:
        """Give max(x, 0)."""
        return np.maximum(x, 0)

    def nn_softmax(self, x: Any, *, axis: int = -1) -> Any:
        """Exponentiate and divide in one piece of memory."""
        y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
        np.exp(y, out=y)
        y /= np.add.reduce(y, axis=axis, keepdims=True)
        return y

    def nn_log_softmax(self, x: Any, *, axis: int = -1) -> Any:
        """Subtract the logarithm of the sum in place."""
        y = x - np.maximum.reduce(x, axis=axis, keepdims=True)
        y -= np.log(np.add.reduce(np.exp(y), axis=axis, keepdims=True))
        return y

    def nn_linear(self, x: Any, weight: Any, bias: Any = None) -> Any:
        """Multiply once, however many axes ``x`` has, and add in place."""
        rows = x if x.ndim <= 2 else x.reshape(-1, x.shape[-1])
        y = rows @ weight.T
        if bias is not None:
            y = np.add(y, bias, out=y) if y.ndim and bias.dtype == y.dtype else y + bias
        return y if x.ndim <= 2 else y.reshape(*x.shape[:-1], -1)
