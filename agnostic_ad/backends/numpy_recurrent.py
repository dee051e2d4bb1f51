"""NumPy's own forms of the recurrent operations: all steps in a few buffers, each step in place.

A step's arrays stay in the cache, so a step makes several short passes rather than all steps a few long ones. What the general forms
compute is written in `agnostic_ad.ops.recurrent`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.backends.base import Backend

_WIDE = (np.dtype(np.float32), np.dtype(np.float64))


class NumpyRecurrent:
    """The methods ``nn_lstm``, ``nn_gru``, ``nn_rnn`` and their pullbacks. Projections, and rare or mixed dtypes, go to the general forms."""

    def nn_lstm(
        self,
        x: Any,
        h: Any,
        c: Any,
        weight_ih: Any,
        weight_hh: Any,
        bias_ih: Any = None,
        bias_hh: Any = None,
        weight_hr: Any = None,
        *,
        reverse: bool = False,
    ) -> tuple[Any, ...]:
        """Give hidden states, cell states and gates."""
        if weight_hr is not None or not _alike(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
            return Backend.fallbacks["nn.lstm"](  # type: ignore[no-any-return]
                self, x, h, c, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, reverse=reverse
            )
        steps = x if x.ndim == 3 else x[None]
        count, (batch, size) = len(steps), c.shape
        hidden, cell = np.empty((2, count, batch, size), x.dtype)
        gates = np.empty((count, 4, batch, size), x.dtype)
        product = np.empty(gates.shape[1:], x.dtype)
        from_input, from_state, bias = _turned(weight_ih, 4, count), _turned(weight_hh, 4, count), _bias(4, bias_ih, bias_hh)
        for t in _order(count, reverse):
            z = np.matmul(steps[t], from_input, out=gates[t])
            self.lstm_step(z, np.matmul(h, from_state, out=product), bias, c, cell[t], hidden[t])
            h, c = hidden[t], cell[t]
        return _whole(x, hidden, cell, gates.transpose(0, 2, 1, 3))

    def nn_lstm_pull(
        self,
        ct: Any,
        ct_cell: Any,
        ct_gates: Any,
        x: Any,
        h: Any,
        c: Any,
        hidden: Any,
        cell: Any,
        gates: Any,
        weight_ih: Any,
        weight_hh: Any,
        weight_hr: Any = None,
        *,
        reverse: bool = False,
        wanted: tuple[str, ...],
    ) -> tuple[Any, ...]:
        """Carry cotangents back, and multiply once for each weight."""
        if weight_hr is not None or ct_gates is not None or not _alike(ct, x, h, c, weight_ih, weight_hh):
            given = (ct, ct_cell, ct_gates, x, h, c, hidden, cell, gates, weight_ih, weight_hh, weight_hr)
            return Backend.fallbacks["nn.lstm_pull"](self, *given, reverse=reverse, wanted=wanted)  # type: ignore[no-any-return]
        ct, ct_cell, hidden, cell, gates = (_steps(a, x) for a in (ct, ct_cell, hidden, cell, gates))
        gates = gates.transpose(0, 2, 1, 3)
        from_gates = _planes(4, cell)
        back = np.empty(gates.shape[1:], x.dtype)
        dh, dc = np.zeros((2, *c.shape), x.dtype)
        weight = weight_hh.reshape(4, -1, weight_hh.shape[1])
        for t in _order(len(cell), not reverse):
            dz, last = from_gates[:, t], _previous(t, len(cell), reverse)
            dh += ct[t]
            if ct_cell is not None:
                dc += ct_cell[t]
            self.lstm_step_pull(gates[t], c if last is None else cell[last], cell[t], dh, dc, dz)
            np.add.reduce(np.matmul(dz, weight, out=back), axis=0, out=dh)
        return _wanted(wanted, x, h, hidden, reverse, weight_ih, from_gates, from_gates, {"h": dh, "c": dc})

    @staticmethod
    def lstm_step(z: Any, product: Any, bias: Any, c: Any, cell: Any, hidden: Any) -> None:
        """Make the gates of what input (in ``z``), state and bias contribute, and the new states of them."""
        z += product
        z += bias
        both, g, o = z[:2], z[2], z[3]
        both *= 0.5  # sigmoid(z) = tanh(z / 2) / 2 + 1 / 2
        o *= 0.5
        np.tanh(z, out=z)
        both *= 0.5
        both += 0.5
        o *= 0.5
        o += 0.5
        np.multiply(both[1], c, out=cell)
        cell += np.multiply(both[0], g, out=product[0])
        np.multiply(o, np.tanh(cell, out=product[0]), out=hidden)

    @staticmethod
    def lstm_step_pull(gates: Any, before: Any, cell: Any, dh: Any, dc: Any, dz: Any) -> None:
        """Give the cotangents of what the gates were made of, from those of the states; that of the cell becomes the one before."""
        i, f, g, o = gates
        bent, slopes = np.tanh(cell), np.subtract(1, gates)
        slopes *= gates
        si, sf, sg, so = slopes
        np.multiply(g, g, out=sg)
        np.subtract(1, sg, out=sg)
        si *= g
        sf *= before
        sg *= i
        so *= bent
        np.multiply(so, dh, out=dz[3])
        bent *= bent
        np.subtract(1, bent, out=bent)
        bent *= o
        bent *= dh
        dc += bent
        np.multiply(slopes[:3], dc, out=dz[:3])
        dc *= f

    def nn_gru(
        self, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, *, reverse: bool = False
    ) -> tuple[Any, ...]:
        """Give hidden states and gates."""
        if not _alike(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
            return Backend.fallbacks["nn.gru"](self, x, h, weight_ih, weight_hh, bias_ih, bias_hh, reverse=reverse)  # type: ignore[no-any-return]
        steps = x if x.ndim == 3 else x[None]
        count, (batch, size) = len(steps), h.shape
        hidden, gates = np.empty((count, batch, size), x.dtype), np.empty((count, 4, batch, size), x.dtype)
        z, product = np.empty((2, 3, batch, size), x.dtype)
        from_input, from_state = _turned(weight_ih, 3, count), _turned(weight_hh, 3, count)
        first, second = _bias(3, bias_ih), _bias(3, bias_hh)
        for t in _order(count, reverse):
            np.matmul(steps[t], from_input, out=z)
            z += first
            np.matmul(h, from_state, out=product)
            product += second
            both, n = gates[t, :2], gates[t, 2]
            np.add(z[:2], product[:2], out=both)
            both *= 0.5
            np.tanh(both, out=both)
            both *= 0.5
            both += 0.5
            gates[t, 3] = product[2]
            np.multiply(both[0], product[2], out=n)
            n += z[2]
            np.tanh(n, out=n)
            h = np.subtract(h, n, out=hidden[t])
            h *= both[1]
            h += n
        return _whole(x, hidden, gates.transpose(0, 2, 1, 3))

    def nn_gru_pull(
        self,
        ct: Any,
        ct_gates: Any,
        x: Any,
        h: Any,
        hidden: Any,
        gates: Any,
        weight_ih: Any,
        weight_hh: Any,
        *,
        reverse: bool = False,
        wanted: tuple[str, ...],
    ) -> tuple[Any, ...]:
        """Carry cotangents back, and multiply once for each weight."""
        if ct_gates is not None or not _alike(ct, x, h, weight_ih, weight_hh):
            given = (ct, ct_gates, x, h, hidden, gates, weight_ih, weight_hh)
            return Backend.fallbacks["nn.gru_pull"](self, *given, reverse=reverse, wanted=wanted)  # type: ignore[no-any-return]
        ct, hidden, gates = (_steps(a, x) for a in (ct, hidden, gates))
        gates = gates.transpose(0, 2, 1, 3)
        from_input, from_state = _planes(3, hidden), _planes(3, hidden)
        back, dh, through = np.empty_like(from_state[:, 0]), np.zeros_like(h), np.empty_like(h)
        weight = weight_hh.reshape(3, -1, weight_hh.shape[1])
        for t in _order(len(hidden), not reverse):
            last, (r, u, n, q), (dr, du, dn) = _previous(t, len(hidden), reverse), gates[t], from_input[:, t]
            dh += ct[t]
            np.subtract(1, gates[t, :2], out=from_input[:2, t])  # the slopes, but for a factor
            np.multiply(n, n, out=dn)
            np.subtract(1, dn, out=dn)
            dn *= dh
            dn *= du
            dr *= r
            dr *= q
            dr *= dn
            np.subtract(h if last is None else hidden[last], n, out=through)
            du *= u
            du *= through
            du *= dh
            from_state[:2, t] = from_input[:2, t]
            np.multiply(dn, r, out=from_state[2, t])
            dh *= u
            dh += np.add.reduce(np.matmul(from_state[:, t], weight, out=back), axis=0, out=through)
        return _wanted(wanted, x, h, hidden, reverse, weight_ih, from_input, from_state, {"h": dh})

    def nn_rnn(
        self,
        x: Any,
        h: Any,
        weight_ih: Any,
        weight_hh: Any,
        bias_ih: Any = None,
        bias_hh: Any = None,
        *,
        relu: bool = False,
        reverse: bool = False,
    ) -> Any:
        """Give hidden states."""
        if not _alike(x, h, weight_ih, weight_hh, bias_ih, bias_hh):
            return Backend.fallbacks["nn.rnn"](self, x, h, weight_ih, weight_hh, bias_ih, bias_hh, relu=relu, reverse=reverse)
        hidden = (x.reshape(-1, x.shape[-1]) @ weight_ih.T).reshape(-1, *h.shape)
        hidden += _bias(1, bias_ih, bias_hh)
        product, weight = np.empty_like(h), _turned(weight_hh, 1, len(hidden))[0]
        for t in _order(len(hidden), reverse):
            z = hidden[t]
            z += np.matmul(h, weight, out=product)
            h = np.maximum(z, 0, out=z) if relu else np.tanh(z, out=z)
        return _whole(x, hidden)[0]

    def nn_rnn_pull(
        self,
        ct: Any,
        x: Any,
        h: Any,
        hidden: Any,
        weight_ih: Any,
        weight_hh: Any,
        *,
        relu: bool = False,
        reverse: bool = False,
        wanted: tuple[str, ...],
    ) -> tuple[Any, ...]:
        """Carry cotangents back, and multiply once for each weight."""
        if not _alike(ct, x, h, weight_ih, weight_hh):
            given = (ct, x, h, hidden, weight_ih, weight_hh)
            return Backend.fallbacks["nn.rnn_pull"](self, *given, relu=relu, reverse=reverse, wanted=wanted)  # type: ignore[no-any-return]
        ct, hidden = _steps(ct, x), _steps(hidden, x)
        slopes = np.empty(hidden.shape, x.dtype)
        dh = np.zeros_like(hidden[0])
        for t in _order(len(hidden), not reverse):
            y, dz = hidden[t], slopes[t]
            dh += ct[t]
            if relu:
                np.greater(y, 0, out=dz, casting="unsafe")
            else:
                np.multiply(y, y, out=dz)
                np.subtract(1, dz, out=dz)
            dz *= dh
            np.matmul(dz, weight_hh, out=dh)
        return _wanted(wanted, x, h, hidden, reverse, weight_ih, slopes[None], slopes[None], {"h": dh})


def _alike(first: Any, *others: Any) -> bool:
    """Tell whether all are of one dtype that matrix products are quick in."""
    return first.dtype in _WIDE and all(a is None or a.dtype == first.dtype for a in others)


def _turned(weight: Any, gates: int, count: int) -> Any:
    """Give the transposed matrix of each gate; a copy, with which products are quicker, where there are many steps."""
    turned = weight.reshape(gates, -1, weight.shape[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(turned) if count > 4 else turned


def _bias(gates: int, *biases: Any) -> Any:
    """Give the sum of biases for each gate; zero where there are none."""
    given = [b for b in biases if b is not None]
    return sum(given[1:], given[0]).reshape(gates, 1, -1) if given else 0


def _planes(gates: int, like: Any) -> Any:
    """Give memory for (gates, T, B, hidden), with some space between gates: at powers of two they would compete for one part of the cache."""
    return np.empty((gates, like.size + 1040), like.dtype)[:, : like.size].reshape(gates, *like.shape)


def _steps(a: Any, x: Any) -> Any:
    """Give an array of all steps, where there is one step alone as a view."""
    return a[None] if x.ndim == 2 and a is not None else a


def _whole(x: Any, *results: Any) -> tuple[Any, ...]:
    """Give results of all steps without the axis of steps where ``x`` has none."""
    return tuple(y[0] for y in results) if x.ndim == 2 else results


def _order(count: int, reverse: bool) -> Any:
    return range(count - 1, -1, -1) if reverse else range(count)


def _previous(t: int, count: int, reverse: bool) -> int | None:
    """Give the step that comes before ``t``."""
    return (t + 1 if t + 1 < count else None) if reverse else (t - 1 if t else None)


def _wanted(
    wanted: tuple[str, ...],
    x: Any,
    h: Any,
    hidden: Any,
    reverse: bool,
    weight_ih: Any,
    from_input: Any,
    from_state: Any,
    others: dict[str, Any],
) -> tuple[Any, ...]:
    """Give the ``wanted`` cotangents, from those of what the inputs and the states contribute to each gate and step."""
    inputs = x.reshape(-1, x.shape[-1])
    left, right = (a.reshape(len(a), len(inputs), -1) for a in (from_input, from_state))

    def before() -> Any:
        if len(hidden) == 1:
            return h
        return np.concatenate([hidden[1:], h[None]] if reverse else [h[None], hidden[:-1]]).reshape(-1, h.shape[-1])

    makers: dict[str, Callable[[], Any]] = {
        "x": lambda: _sum_of_products(left, weight_ih.reshape(len(left), -1, weight_ih.shape[1])).reshape(x.shape),
        "weight_ih": lambda: np.matmul(left.transpose(0, 2, 1), inputs).reshape(weight_ih.shape),
        "weight_hh": lambda: np.matmul(right.transpose(0, 2, 1), before()).reshape(-1, h.shape[-1]),
        "bias_ih": lambda: np.matmul(np.ones(len(inputs), x.dtype), left).reshape(-1),
        "bias_hh": lambda: np.matmul(np.ones(len(inputs), x.dtype), right).reshape(-1),
    }
    return tuple(others[name] if name in others else makers[name]() for name in wanted)


def _sum_of_products(left: Any, right: Any) -> Any:
    y = left[0] @ right[0]
    for a, b in zip(left[1:], right[1:], strict=True):
        y += a @ b
    return y
