"""LSTM over all steps of a sequence; one step alone is a cell. See `recurrent`.

References
----------
Hochreiter and Schmidhuber (1997), "Long short-term memory"; the forget gate is that of Gers et al. (2000), the projections those of Sak et al.
(2014).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from agnostic_ad.families import composite
from agnostic_ad.op import Op
from agnostic_ad.ops.neural import general
from agnostic_ad.ops.recurrent import (
    all_steps,
    at_first,
    check_shapes,
    cotangents,
    gates_of,
    gentle,
    moved_inputs,
    one_batch,
    outer,
    over_time,
    sigmoid,
    split,
    states_before,
    weighted,
    zeros_for,
)
from agnostic_ad.samples import case


class LSTMResult(NamedTuple):
    """What `nn.lstm` gives for all steps: hidden and cell states, and the four gates on an axis before the last."""

    hidden: Any
    cell: Any
    gates: Any


@general("nn.lstm")
def _lstm(
    xp: Any,
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
    def step(state: Any, z: Any) -> Any:
        h, c = state
        i, f, g, o = split(z + weighted(xp, h, weight_hh, bias_hh), 4)
        i, f, g, o = sigmoid(xp, i), sigmoid(xp, f), xp.tanh(g), sigmoid(xp, o)
        c = f * c + i * g
        h = o * xp.tanh(c)
        h = h if weight_hr is None else weighted(xp, h, weight_hr)
        return (h, c), (h, c, xp.stack([i, f, g, o], axis=-2))

    return over_time(xp, step, [weighted(xp, x, weight_ih, bias_ih)], (h, c), x.ndim == h.ndim, reverse)


def _lstm_joint(
    xp: Any,
    ct: Any,
    x: Any,
    h: Any,
    c: Any,
    weight_ih: Any,
    weight_hh: Any,
    weight_hr: Any,
    y: Any,
    reverse: bool,
    wanted: tuple[str, ...],
) -> tuple[Any, ...]:
    if ct[0] is None:
        ct = (xp.zeros_like(y[0]), *ct[1:])
    return xp.nn.lstm_pull(*ct, x, h, c, *y, weight_ih, weight_hh, weight_hr, reverse=reverse, wanted=wanted)  # type: ignore[no-any-return]


def _lstm_pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x, h, c, weight_ih, weight_hh, _, _, weight_hr), (tx, th, tc, tw_ih, tw_hh, tb_ih, tb_hh, tw_hr) = args, tangents
    hidden, cell, gates = y
    hidden, before = states_before(xp, h, hidden, params["reverse"]), states_before(xp, c, cell, params["reverse"])
    moved = moved_inputs(xp, (*x.shape[:-1], weight_ih.shape[0]), x, [(tx, weight_ih), (x, tw_ih), (hidden, tw_hh)], [tb_ih, tb_hh])

    def step(state: Any, tz: Any, before: Any, cell: Any, gates: Any) -> Any:
        th, tc = state
        i, f, g, o = gates_of(gates)
        ti, tf, tg, to = split(tz if th is None else tz + weighted(xp, th, weight_hh), 4)
        ti, tf, tg, to = ti * i * (1 - i), tf * f * (1 - f), tg * (1 - g * g), to * o * (1 - o)
        new = tf * before + ti * g + i * tg
        tc = new if tc is None else new + f * tc
        bent = xp.tanh(cell)
        th = to * bent + o * (1 - bent * bent) * tc
        if weight_hr is not None:
            th = weighted(xp, th, weight_hr)
            th = th if tw_hr is None else th + weighted(xp, o * bent, tw_hr)
        return (th, tc), (th, tc, xp.stack([ti, tf, tg, to], axis=-2))

    return over_time(xp, step, [moved, before, cell, gates], (th, tc), x.ndim == h.ndim, params["reverse"])


lstm = Op(
    "nn.lstm",
    "x, h, c, weight_ih, weight_hh, bias_ih=None, bias_hh=None, weight_hr=None, /, *, reverse=False",
    ["x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"],
    joint=_lstm_joint,
    pushforward=_lstm_pushforward,
    prepare=partial(check_shapes, "lstm", 4),
    abstract=lambda xp, args, params: all_steps(args[0], args[1].shape[1:], args[2].shape[1:], (4, args[2].shape[1])),
    outputs=LSTMResult,
    cases=[
        gentle((3, 2, 2), (2, 2), (2, 2), (8, 2), (8, 2), (8,), (8,), None),
        gentle((2, 1, 2), (1, 1), (1, 2), (8, 2), (8, 1), (8,), (8,), (1, 2), reverse=True),
        gentle((2, 2), (2, 1), (2, 1), (4, 2), (4, 1), None, None, None),
        gentle((2, 2, 1), (2, 1), (2, 1), (4, 1), (4, 1), None, (4,), None, reverse=True),
    ],
)
lstm.batch = partial(one_batch, lstm, 2)


@composite(
    "nn.lstm_pull",
    "ct, ct_cell, ct_gates, x, h, c, hidden, cell, gates, weight_ih, weight_hh, weight_hr=None, /, *, reverse=False, wanted",
    ["ct", "ct_cell", "ct_gates", "x", "h", "c", "hidden", "cell", "gates", "weight_ih", "weight_hh", "weight_hr"],
    cases=[
        case(
            *((2, 2, 1), None, None, (2, 2, 2), (2, 1), (2, 1), (2, 2, 1), (2, 2, 1), (2, 2, 4, 1), (4, 2), (4, 1), None),
            kinds="f",
            wanted=("x", "h", "c", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
        ),
        case(
            *((2, 1), (2, 2), (2, 4, 2), (2, 2), (2, 1), (2, 2), (2, 1), (2, 2), (2, 4, 2), (8, 2), (8, 1), (1, 2)),
            kinds="f",
            wanted=("h", "c", "weight_hr"),
        ),
    ],
)
def lstm_pull(
    xp: Any,
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
    """Give the cotangents of the ``wanted`` operands of `lstm` from those of its results; ``ct_cell`` and ``ct_gates`` may be None."""
    single, bent = x.ndim == h.ndim, xp.tanh(cell)
    further = [] if ct_cell is None and ct_gates is None else zeros_for([ct_cell, ct_gates], [cell, gates], xp)

    def step(state: Any, ct: Any, before: Any, bent: Any, gates: Any, *further: Any) -> Any:
        dh, dc = state
        dh = ct if dh is None else ct + dh
        i, f, g, o = gates_of(gates)
        gi, gf, gg, go = gates_of(further[1]) if further else (0, 0, 0, 0)
        through = dh if weight_hr is None else xp.matmul(dh, weight_hr)
        new = through * o * (1 - bent * bent)
        new = new + further[0] if further else new
        dc = new if dc is None else new + dc
        di, df = (dc * g + gi) * i * (1 - i), (dc * before + gf) * f * (1 - f)
        dg, do = (dc * i + gg) * (1 - g * g), (through * bent + go) * o * (1 - o)
        dz = xp.concat([di, df, dg, do], axis=-1)
        back = xp.matmul(dz, weight_hh), dc * f
        return back, (dz, dh, *back)

    sequences = [ct, states_before(xp, c, cell, reverse), bent, gates, *further]
    dz, dh, dh_before, dc_before = over_time(xp, step, sequences, (None, None), single, not reverse)
    others = {"h": at_first(dh_before, single, reverse), "c": at_first(dc_before, single, reverse)}
    if "weight_hr" in wanted:
        others["weight_hr"] = outer(xp, dh, gates_of(gates)[3] * bent)
    return cotangents(xp, wanted, dz, dz, x, states_before(xp, h, hidden, reverse), weight_ih, others)
