"""Recurrent cells, which take one step of a sequence."""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.levels import CASTS, device_of, unify
from agnostic_ad.nn import init
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter
from agnostic_ad.rules import QUICK

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]

_gru, _lstm, _reshape, _rnn = QUICK["nn.gru"], QUICK["nn.lstm"], QUICK["reshape"], QUICK["nn.rnn"]


def draw_uniform(module: Module, hidden_size: int) -> None:
    bound = 1 / math.sqrt(hidden_size) if hidden_size else 0.0
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


def zero_states(shape: tuple[int, ...], like: Any) -> Any:
    xp, (like,) = unify([like])
    return xp.zeros(shape, dtype=like.dtype, device=device_of(like))


def check_dtype(name: str, input: Any, weight: Any) -> None:
    if input.dtype != weight.dtype and CASTS.get() is None:  # autocast makes them fit
        raise ValueError(
            f"{name}: input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert the input, or the layer: "
            f"layer.to({str(input.dtype).rpartition('.')[2]!r})."
        )


def mode_of(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"Unknown nonlinearity {nonlinearity!r}. Select from 'tanh' or 'relu'.")
    return f"RNN_{nonlinearity.upper()}"


class RNNCellBase(Module):
    """What the cells share.

    Parameters
    ----------
    input_size, hidden_size : int
        The sizes of an input and of a state.
    bias : bool
        Whether to add biases.
    num_chunks : int
        How many gates there are.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.
    """

    nonlinearity = "tanh"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        for name, shape in (
            ("weight_ih", (rows, input_size)),
            ("weight_hh", (rows, hidden_size)),
            ("bias_ih", (rows,)),
            ("bias_hh", (rows,)),
        ):
            self.register_parameter(name, new_parameter(shape, xp, dtype, device) if bias or len(shape) == 2 else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        draw_uniform(self, self.hidden_size)

    def extra_repr(self) -> str:
        """Give the sizes, and what is not the default."""
        text = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"

    def _operands(self, input: Any, states: Any, count: int) -> tuple[bool, list[Any]]:
        """Check input and states, and give them with a batch axis; states of zeros where there are none."""
        name = type(self).__name__
        if len(input.shape) not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {len(input.shape)}D instead")
        if input.shape[-1] != self.input_size:
            raise ValueError(f"{name}: input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        check_dtype(name, input, self.weight_ih)
        single = len(input.shape) == 1
        wanted = (*input.shape[:-1], self.hidden_size)
        if states is None:
            states = (zero_states(wanted, input),) * count
        elif len(states) != count:
            raise ValueError(f"{name}: hx is a pair of a hidden and a cell state; {len(states)} came")
        for i, state in enumerate(states):
            if tuple(state.shape) != wanted:
                what = f"hx[{i}]" if count > 1 else "hidden"
                raise ValueError(f"{name}: Expected {what} of shape {wanted}, got {tuple(state.shape)}")
        operands = [input, *states]
        return single, [_reshape(a, (1, *a.shape)) for a in operands] if single else operands

    def _parts(self) -> tuple[Any, ...]:
        p = self._parameters
        return p["weight_ih"], p["weight_hh"], p["bias_ih"], p["bias_hh"]


class RNNCell(RNNCellBase):
    """Take one step of an `RNN`.

    Parameters
    ----------
    input_size, hidden_size, bias
        As for `RNNCellBase`.
    nonlinearity : {"tanh", "relu"}
        The function.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype, xp=xp)
        mode_of(nonlinearity)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Give the next state, (B, hidden_size), from an input (B, input_size) and a state; both may lack B."""
        single, operands = self._operands(input, None if hx is None else (hx,), 1)
        h = _rnn(*operands, *self._parts(), relu=self.nonlinearity == "relu")
        return _reshape(h, h.shape[1:]) if single else h


class LSTMCell(RNNCellBase):
    """Take one step of an `LSTM`.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype, xp
        As for `RNNCellBase`. The rows of weights are those of the gates i, f, g and o.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> h, c = nn.LSTMCell(3, 4)(np.ones((2, 3), dtype="float32"))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None, *, xp: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype, xp=xp)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Give the next hidden and cell state, (B, hidden_size) each, from an input (B, input_size) and a pair of them; all may lack B."""
        single, operands = self._operands(input, hx, 2)
        h, c, _ = _lstm(*operands, *self._parts())
        return (_reshape(h, h.shape[1:]), _reshape(c, c.shape[1:])) if single else (h, c)


class GRUCell(RNNCellBase):
    """Take one step of a `GRU`.

    Parameters
    ----------
    input_size, hidden_size, bias, device, dtype, xp
        As for `RNNCellBase`. The rows of weights are those of r, z and n.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None, *, xp: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype, xp=xp)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Give the next state, (B, hidden_size), from an input (B, input_size) and a state; both may lack B."""
        single, operands = self._operands(input, None if hx is None else (hx,), 1)
        h = _gru(*operands, *self._parts())[0]
        return _reshape(h, h.shape[1:]) if single else h
