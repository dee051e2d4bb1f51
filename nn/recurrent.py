"""Recurrent layers over sequences."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from agnostic_ad.levels import Array, device_of
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter
from agnostic_ad.nn.recurrent_cells import check_dtype, draw_uniform, mode_of, zero_states
from agnostic_ad.nn.utils.rnn import PackedSequence
from agnostic_ad.rules import QUICK

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]

_concat, _reshape, _stack, _take = QUICK["concat"], QUICK["reshape"], QUICK["stack"], QUICK["take"]
_permute, _gru, _lstm, _rnn = QUICK["permute_dims"], QUICK["nn.gru"], QUICK["nn.lstm"], QUICK["nn.rnn"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


# --- packed sequences -------------------------------------------------------------------------------------------------------------------
class _Packing:
    """Where the rows of packed sequences lie when they are padded: each sequence's last row is repeated to the end of the longest.

    Attributes
    ----------
    padded : array of int
        The row of packed data for each step and sequence.
    turned : array of int
        The row of padded data, step by step, from which a sequence reversed within its length takes each of its steps.
    packed, last : array of int
        The rows of padded data that packed data is made of, and those of the sequences' last steps.
    """

    def __init__(self, sizes: Any) -> None:
        sizes = np.asarray(sizes)
        batch, which = int(sizes[0]), np.arange(sizes[0])
        steps = np.arange(len(sizes))[:, None]
        lengths = (sizes > which[:, None]).sum(axis=1)
        self.padded = (np.cumsum(sizes) - sizes)[np.minimum(steps, lengths - 1)] + which
        self.turned = np.where(steps < lengths, lengths - 1 - steps, steps) * batch + which
        self.packed = (steps * batch + which)[steps < lengths]
        self.last = (lengths - 1) * batch + which


def _rows(x: Any, indices: np.ndarray[Any, Any]) -> Any:
    """Give rows, which all axes but the last count, in the shape of ``indices``."""
    backend = x.backend if isinstance(x, Array) else backend_of(x)
    flat = x if len(x.shape) == 2 else _reshape(x, (-1, x.shape[-1]))
    found = _take(flat, backend.from_numpy(indices.reshape(-1), device_of(x)), axis=0)
    return found if indices.ndim == 1 else _reshape(found, (*indices.shape, x.shape[-1]))


# --- layers -----------------------------------------------------------------------------------------------------------------------------
class RNNBase(Module):
    """What recurrent layers share: the parameters of all layers and directions, and the way through them.

    Parameters
    ----------
    mode : {"LSTM", "GRU", "RNN_TANH", "RNN_RELU"}
        The kind.
    input_size, hidden_size : int
        The sizes of an input and of a state.
    num_layers : int
        How many layers to stack.
    bias : bool
        Whether to add biases.
    batch_first : bool
        Whether sequences have the shape (B, T, ...) rather than (T, B, ...).
    dropout : float
        The share of each layer's results to drop in training, but for the last layer's.
    bidirectional : bool
        Whether to go through sequences backwards as well.
    proj_size : int
        The size that an LSTM's hidden states are projected to; 0 for none.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if mode not in _GATES:
            raise ValueError(f"{name}: mode is one of {', '.join(_GATES)}, not {mode!r}")
        for what, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"{name}: {what} should be of type bool, got: {type(flag).__name__}")
        for what, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name}: {what} should be of type int, got: {type(size).__name__}")
            if size <= 0:
                raise ValueError(f"{name}: {what} must be greater than zero, not {size}")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise ValueError(
                f"{name}: dropout should be a number in range [0, 1], the probability of an element being zeroed, not {dropout!r}"
            )
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"{name}: proj_size has to be smaller than hidden_size ({hidden_size}), and 0 for no projections, not {proj_size}"
            )
        if proj_size and mode != "LSTM":
            raise ValueError(f"{name}: proj_size argument is only supported for LSTM, not RNN or GRU")
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"{name}: dropout is between layers, and there is one alone: dropout={dropout} does nothing", stacklevel=3)
        self.mode, self.input_size, self.hidden_size, self.num_layers, self.bias = mode, input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional, self.proj_size = batch_first, float(dropout), bidirectional, proj_size
        rows, out = _GATES[mode] * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            for end in self._ends(layer):
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, input_size if layer == 0 else out * (1 + bidirectional)),
                    "weight_hh": (rows, out),
                }
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
                shapes |= {"weight_hr": (proj_size, hidden_size)} if proj_size else {}
                for part, shape in shapes.items():
                    self.register_parameter(f"{part}_{end}", new_parameter(shape, xp, dtype, device))
        self.reset_parameters()

    def _ends(self, layer: int) -> list[str]:
        """Give the ends of the names of one layer's parameters, one a direction."""
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        draw_uniform(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Do nothing; it is here for PyTorch's sake."""

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer and direction."""
        ends = [end for layer in range(self.num_layers) for end in self._ends(layer)]
        return [[p for name, p in self._parameters.items() if name.partition("_l")[2] == end[1:]] for end in ends]

    def extra_repr(self) -> str:
        """Give the sizes, and what is not the default."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        parts += [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ", ".join(parts)

    # --- the way through ------------------------------------------------------------------------------------------------------------
    def _states(self) -> tuple[int, ...]:
        """Give the sizes of the states."""
        return (self.proj_size or self.hidden_size, self.hidden_size) if self.mode == "LSTM" else (self.hidden_size,)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Go through sequences.

        Parameters
        ----------
        input : array or PackedSequence
            Shape (T, B, input_size), (B, T, input_size) with ``batch_first``, or (T, input_size) for one sequence.
        hx : array, optional
            The initial states of each layer and direction, by default zeros: shape (layers * directions, B, hidden_size), without B for one
            sequence; for an LSTM a pair of them, of which the first has the size of the projection, if there is one.

        Returns
        -------
        output : array or PackedSequence
            The last layer's hidden states for all steps, both directions side by side.
        hx : array, or a pair of them
            The last states, in the shape of the initial ones.
        """
        name, packing, order = type(self).__name__, None, None
        given = None if hx is None else tuple(hx) if self.mode == "LSTM" else (hx,)
        single = False
        if isinstance(input, PackedSequence):
            x, packing, order = input.data, _Packing(input.batch_sizes), input
            if len(x.shape) != 2:
                raise ValueError(f"{name}: packed data of shape (rows, {self.input_size}) is wanted, not {tuple(x.shape)}")
        else:
            x = input
            if len(x.shape) not in (2, 3):
                raise ValueError(f"{name}: Expected input to be 2D or 3D, got {len(x.shape)}D instead")
            single = len(x.shape) == 2
        if x.shape[-1] != self.input_size:
            raise ValueError(f"{name}: input.size(-1) must be equal to input_size. Expected {self.input_size}, got {x.shape[-1]}")
        check_dtype(name, x, self.weight_ih_l0)
        if packing is not None:
            x = _rows(x, packing.padded)
        elif single:
            x = _reshape(x, (x.shape[0], 1, x.shape[1]))
        elif self.batch_first:
            x = _permute(x, (1, 0, 2))
        states = self._initial(x, given, single, order)
        finals: list[list[Any]] = [[] for _ in states]
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for direction, end in enumerate(self._ends(layer)):
                at = layer * (1 + self.bidirectional) + direction
                hidden, last = self._run(x, [s[at, ...] for s in states], end, direction == 1, packing)
                outputs.append(hidden)
                for final, value in zip(finals, last, strict=True):
                    final.append(value)
            x = outputs[0] if len(outputs) == 1 else _concat(outputs, axis=-1)
        ends = tuple(self._ordered(_stack(final), order, "unsorted_indices") for final in finals)
        if single:
            ends = tuple(_reshape(e, (e.shape[0], e.shape[2])) for e in ends)
            x = _reshape(x, (x.shape[0], x.shape[2]))
        elif packing is not None:
            x = PackedSequence(_rows(x, packing.packed), *input[1:])
        elif self.batch_first:
            x = _permute(x, (1, 0, 2))
        return x, ends if self.mode == "LSTM" else ends[0]

    def _initial(self, x: Any, given: Any, single: bool, order: Any) -> list[Any]:
        """Give the initial states, (layers * directions, B, size) each."""
        name, count = type(self).__name__, self.num_layers * (1 + self.bidirectional)
        sizes = self._states()
        if given is None:
            return [zero_states((count, x.shape[1], size), x) for size in sizes]
        if len(given) != len(sizes):
            raise ValueError(f"{name}: hx is a pair of a hidden and a cell state; {len(given)} came")
        states = []
        for i, (h, size) in enumerate(zip(given, sizes, strict=True)):
            what, wanted = f"hidden[{i}]" if self.mode == "LSTM" else "hidden", (count, *((x.shape[1],) if not single else ()), size)
            if len(h.shape) != len(wanted):
                raise ValueError(
                    f"{name}: For {'unbatched 2-D' if single else 'batched 3-D'} input, hx should also be {len(wanted)}-D but got "
                    f"{len(h.shape)}-D {what}"
                )
            if tuple(h.shape) != wanted:
                raise ValueError(f"{name}: Expected {what} size {wanted}, got {tuple(h.shape)}")
            check_dtype(f"{name}: {what}", h, self.weight_ih_l0)
            states.append(_reshape(h, (count, 1, size)) if single else self._ordered(h, order, "sorted_indices"))
        return states

    @staticmethod
    def _ordered(h: Any, order: Any, which: str) -> Any:
        indices = None if order is None else getattr(order, which)
        return h if indices is None else _take(h, indices, axis=1)

    def _run(self, x: Any, states: list[Any], end: str, reverse: bool, packing: _Packing | None) -> tuple[Any, list[Any]]:
        """Go through one layer in one direction; give the hidden states of all steps, and the last states."""
        get = self._parameters.get
        weights = [get(f"{part}_{end}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        turn = reverse and packing is not None
        if turn:
            assert packing is not None
            x, reverse = _rows(x, packing.turned), False
        found: Any
        if self.mode == "LSTM":
            found = _lstm(x, *states, *weights, get(f"weight_hr_{end}"), reverse=reverse)[:2]
        elif self.mode == "GRU":
            found = _gru(x, *states, *weights, reverse=reverse)[:1]
        else:
            found = (_rnn(x, *states, *weights, relu=self.mode == "RNN_RELU", reverse=reverse),)
        if packing is None:
            last = [s[0 if reverse else -1, ...] for s in found]
        else:
            last = [_rows(s, packing.last) for s in found]
        return (_rows(found[0], packing.turned) if turn and packing is not None else found[0]), last


class RNN(RNNBase):
    """Compute ``h = tanh(x @ W_ih.T + b_ih + h @ W_hh.T + b_hh)`` from step to step, or with ReLU.

    Parameters
    ----------
    input_size, hidden_size, num_layers
        As for `RNNBase`.
    nonlinearity : {"tanh", "relu"}
        The function.
    bias, batch_first, dropout, bidirectional, device, dtype, xp
        As for `RNNBase`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        mode = mode_of(nonlinearity)
        super().__init__(mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, xp=xp)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory.

    From step to step, with gates i, f, o = sigmoid(...) and g = tanh(...) of the input and the hidden state:
    ``c = f * c + i * g`` and ``h = o * tanh(c)``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, xp
        As for `RNNBase`.

    Attributes
    ----------
    weight_ih_l0, weight_hh_l0 : Parameter
        Shapes (4 * hidden_size, input_size) and (4 * hidden_size, hidden_size): the rows of i, f, g and o. ``l1`` stands for the next layer;
        ``_reverse`` follows for the other direction.
    bias_ih_l0, bias_hh_l0 : Parameter
        Shape (4 * hidden_size,).
    weight_hr_l0 : Parameter
        Shape (proj_size, hidden_size), with projections.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> output, (h, c) = nn.LSTM(3, 4, num_layers=2)(np.ones((5, 1, 3), dtype="float32"))
    >>> output.shape, h.shape, c.shape
    ((5, 1, 4), (2, 1, 4), (2, 1, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers)
        super().__init__("LSTM", *sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype, xp=xp)


class GRU(RNNBase):
    """Gated recurrent units.

    From step to step, with r, z = sigmoid(...): ``n = tanh(x @ W_in.T + b_in + r * (h @ W_hn.T + b_hn))`` and ``h = (1 - z) * n + z * h``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype, xp
        As for `RNNBase`. The rows of weights are those of r, z and n.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype, xp=xp)
