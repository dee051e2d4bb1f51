"""Recurrent layers over all steps of a sequence: plain, GRU and (in `recurrent_lstm`) LSTM. One step alone is a cell.

Sequences have the shape (T, B, inputs), states (B, hidden); without T it is one step. What the inputs contribute to all steps is one matrix
product, and so is each cotangent of a weight; between them the loops carry states forward and cotangents back. The gates' activations
are results, for the sake of the backward pass. Weights have the rows of torch's gates: LSTM input, forget, cell, output; GRU reset, update, new.

References
----------
Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder", where the reset gate acts on the product, as in cuDNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from agnostic_ad.backends.base import Backend
from agnostic_ad.families import composite
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.neural import front, general
from agnostic_ad.samples import Domain, case

gentle = partial(case, kinds="f", domain=Domain(-1.0, 1.0))
"""Write a case without gates that saturate: 1 - y * y has no digits to compare where y is 1 but for rounding."""


class GRUResult(NamedTuple):
    """What `nn.gru` gives for all steps: hidden states; and the gates, with the state's part of the new one, on an axis before the last."""

    hidden: Any
    gates: Any


# --- what the kinds share ---------------------------------------------------------------------------------------------------------------
def weighted(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    """Compute ``x @ weight.T + bias``; stacks of weights and biases line up with the axes of ``x`` before its last two."""
    y = xp.matmul(x, xp.matrix_transpose(weight))
    return y if bias is None else y + (bias if bias.ndim == 1 else xp.expand_dims(bias, axis=-2))


def sigmoid(xp: Any, x: Any) -> Any:
    """Compute 1 / (1 + exp(-x)) without overflow."""
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def split(x: Any, count: int) -> list[Any]:
    """Split the last axis."""
    size = x.shape[-1] // count
    return [x[..., i * size : (i + 1) * size] for i in range(count)]


def gates_of(x: Any) -> list[Any]:
    """Split the axis of gates."""
    return [x[..., i, :] for i in range(4)]


def over_time(xp: Any, step: Callable[..., Any], sequences: Sequence[Any], state: Any, single: bool, reverse: bool) -> tuple[Any, ...]:
    """Call ``step(state, *elements) -> state, row`` from step to step, and give each part of the rows as an array of all steps."""
    if single:
        return step(state, *sequences)[1]  # type: ignore[no-any-return]
    rows, count = [], sequences[0].shape[0]
    for t in reversed(range(count)) if reverse else range(count):
        state, row = step(state, *(s[t, ...] for s in sequences))
        rows.append(row)
    if reverse:
        rows.reverse()
    return tuple(xp.stack([row[k] for row in rows]) for k in range(len(rows[0])))


def states_before(xp: Any, first: Any, states: Any, reverse: bool) -> Any:
    """Give the states before each step; ``first`` alone for one step."""
    if states.ndim == first.ndim:
        return first
    first = xp.expand_dims(first, axis=0)
    return xp.concat([states[1:, ...], first] if reverse else [first, states[:-1, ...]], axis=0)


def zeros_for(cts: Sequence[Any], like: Sequence[Any], xp: Any) -> list[Any]:
    """Put zeros for cotangents that there are none of."""
    return [xp.zeros_like(y) if ct is None else ct for ct, y in zip(cts, like, strict=True)]


def _rows(xp: Any, x: Any) -> Any:
    return x if x.ndim == 2 else xp.reshape(x, (-1, x.shape[-1]))


def outer(xp: Any, left: Any, right: Any) -> Any:
    """Sum the products of all steps' rows: the cotangent of a weight."""
    return xp.matmul(xp.matrix_transpose(_rows(xp, left)), _rows(xp, right))


def cotangents(
    xp: Any, wanted: tuple[str, ...], from_input: Any, from_state: Any, x: Any, before: Any, weight_ih: Any, others: dict[str, Any]
) -> tuple[Any, ...]:
    """Give the ``wanted`` cotangents, from those of what the inputs and the states contribute to all steps."""
    makers: dict[str, Callable[[], Any]] = {
        "x": lambda: xp.matmul(from_input, weight_ih),
        "weight_ih": lambda: outer(xp, from_input, x),
        "weight_hh": lambda: outer(xp, from_state, before),
        "bias_ih": lambda: xp.sum(_rows(xp, from_input), axis=0),
        "bias_hh": lambda: xp.sum(_rows(xp, from_state), axis=0),
    }
    return tuple(others[name] if name in others else makers[name]() for name in wanted)


def moved_inputs(xp: Any, shape: Any, like: Any, products: Sequence[tuple[Any, Any]], biases: Sequence[Any]) -> Any:
    """Sum the tangents of what inputs and states contribute: products of which one factor moves, and biases; zeros where nothing does."""
    total = xp.zeros((), dtype=like.dtype, device=device_of(like))
    for x, weight in products:
        if x is not None and weight is not None:
            total = total + weighted(xp, x, weight)
    for bias in biases:
        total = total if bias is None else total + bias
    return xp.broadcast_to(total, shape)


def check_shapes(name: str, gates: int, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Refuse operands that do not fit."""
    x, h, weight = (tuple(a.shape) for a in (args[0], args[1], args[3 if name == "lstm" else 2]))
    if len(x) not in (2, 3) or len(h) != 2 or x[-2] != h[0] or len(weight) != 2 or x[-1] != weight[1]:
        raise ValueError(
            f"{name}: an input of shape {x}, a state {h} and a weight {weight} do not fit; (T, B, inputs) or (B, inputs), (B, hidden) and "
            f"({gates} * hidden, inputs) are wanted"
        )
    if len(x) == 3 and x[0] == 0:
        raise ValueError(f"{name}: a sequence of no steps has no last state; an input of one step or more is wanted, not of shape {x}")
    return args, params


def one_batch(op: Op, states: int, xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    """Make one batch of both; with many weights, run the general form with one axis more."""
    moving = [front(xp, size, a, b) for a, b in zip(args[: states + 1], batched, strict=False)]
    weights, single = args[states + 1 :], moving[0].ndim == 3
    if not single:
        moving[0] = xp.moveaxis(moving[0], 0, 1)
    if any(batched[states + 1 :]):
        found = Backend.fallbacks[op.name](xp, *moving, *weights, **params)
    else:
        flat = (xp.reshape(a, (*a.shape[:-3], a.shape[-3] * a.shape[-2], a.shape[-1])) for a in moving)
        found = op.at(xp)(*flat, *weights, **params)
        found = found if isinstance(found, tuple) else (found,)
        at = 0 if single else 1
        found = tuple(xp.reshape(y, (*y.shape[:at], size, y.shape[at] // size, *y.shape[at + 1 :])) for y in found)
    found = found if isinstance(found, tuple) else (found,)
    found = found if single else tuple(xp.moveaxis(y, 1, 0) for y in found)
    return found if op.outputs is not None else found[0]


def all_steps(x: Any, *ends: tuple[int, ...]) -> tuple[ShapeDtype, ...]:
    """Give what is known of results for all steps of ``x``, of these shapes for one row."""
    return tuple(ShapeDtype((*x.shape[:-1], *end), x.dtype) for end in ends)


# --- plain ------------------------------------------------------------------------------------------------------------------------------
def _slope(xp: Any, y: Any, relu: bool) -> Any:
    return xp.astype(y > 0, y.dtype) if relu else 1 - y * y


@general("nn.rnn")
def _rnn(
    xp: Any,
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
    def step(h: Any, z: Any) -> Any:
        z = z + weighted(xp, h, weight_hh, bias_hh)
        h = xp.nn.relu(z) if relu else xp.tanh(z)
        return h, (h,)

    return over_time(xp, step, [weighted(xp, x, weight_ih, bias_ih)], h, x.ndim == h.ndim, reverse)[0]


def _rnn_joint(
    xp: Any, ct: Any, x: Any, h: Any, weight_ih: Any, weight_hh: Any, y: Any, relu: bool, reverse: bool, wanted: tuple[str, ...]
) -> Any:
    return xp.nn.rnn_pull(ct, x, h, y, weight_ih, weight_hh, relu=relu, reverse=reverse, wanted=wanted)


def _rnn_pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x, h, weight_ih, weight_hh, *_), (tx, th, tw_ih, tw_hh, *biases) = args, tangents
    before = states_before(xp, h, y, params["reverse"])
    moved = moved_inputs(xp, y.shape, y, [(tx, weight_ih), (x, tw_ih), (before, tw_hh)], biases)

    def step(th: Any, tz: Any, slope: Any) -> Any:
        th = (tz if th is None else tz + weighted(xp, th, weight_hh)) * slope
        return th, (th,)

    return over_time(xp, step, [moved, _slope(xp, y, params["relu"])], th, x.ndim == h.ndim, params["reverse"])[0]


rnn = Op(
    "nn.rnn",
    "x, h, weight_ih, weight_hh, bias_ih=None, bias_hh=None, /, *, relu=False, reverse=False",
    ["x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"],
    joint=_rnn_joint,
    pushforward=_rnn_pushforward,
    prepare=partial(check_shapes, "rnn", 1),
    abstract=lambda xp, args, params: all_steps(args[0], args[1].shape[1:])[0],
    cases=[
        gentle((3, 2, 2), (2, 3), (3, 2), (3, 3), (3,), (3,)),
        gentle((2, 1, 2), (1, 2), (2, 2), (2, 2), None, None, reverse=True, relu=True),
        gentle((2, 2), (2, 3), (3, 2), (3, 3), (3,), None),
    ],
)
rnn.batch = partial(one_batch, rnn, 1)


@composite(
    "nn.rnn_pull",
    "ct, x, h, hidden, weight_ih, weight_hh, /, *, relu=False, reverse=False, wanted",
    ["ct", "x", "h", "hidden", "weight_ih", "weight_hh"],
    cases=[
        case((2, 2, 2), (2, 2, 3), (2, 2), (2, 2, 2), (2, 3), (2, 2), kinds="f", wanted=("x", "h", "weight_ih", "weight_hh", "bias_ih")),
        case((2, 2), (2, 3), (2, 2), (2, 2), (2, 3), (2, 2), kinds="f", relu=True, wanted=("h", "bias_hh")),
    ],
)
def rnn_pull(
    xp: Any,
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
    """Give the cotangents of the ``wanted`` operands of `rnn` from that of its result."""
    single = x.ndim == h.ndim

    def step(dh: Any, ct: Any, slope: Any) -> Any:
        dz = (ct if dh is None else ct + dh) * slope
        dh = xp.matmul(dz, weight_hh)
        return dh, (dz, dh)

    dz, dh = over_time(xp, step, [ct, _slope(xp, hidden, relu)], None, single, not reverse)
    return cotangents(xp, wanted, dz, dz, x, states_before(xp, h, hidden, reverse), weight_ih, {"h": at_first(dh, single, reverse)})


def at_first(x: Any, single: bool, reverse: bool) -> Any:
    """Give what stands at the step that comes first."""
    return x if single else x[-1 if reverse else 0, ...]


# --- GRU --------------------------------------------------------------------------------------------------------------------------------
@general("nn.gru")
def _gru(
    xp: Any, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None, *, reverse: bool = False
) -> tuple[Any, ...]:
    def step(h: Any, z: Any) -> Any:
        (xr, xu, xn), (hr, hu, q) = split(z, 3), split(weighted(xp, h, weight_hh, bias_hh), 3)
        r, u = sigmoid(xp, xr + hr), sigmoid(xp, xu + hu)
        n = xp.tanh(xn + r * q)
        h = n + u * (h - n)
        return h, (h, xp.stack([r, u, n, q], axis=-2))

    return over_time(xp, step, [weighted(xp, x, weight_ih, bias_ih)], h, x.ndim == h.ndim, reverse)


def _gru_joint(
    xp: Any, ct: Any, x: Any, h: Any, weight_ih: Any, weight_hh: Any, y: Any, reverse: bool, wanted: tuple[str, ...]
) -> tuple[Any, ...]:
    hidden, gates = y
    if ct[0] is None:
        ct = zeros_for(ct, y, xp)
    return xp.nn.gru_pull(ct[0], ct[1], x, h, hidden, gates, weight_ih, weight_hh, reverse=reverse, wanted=wanted)  # type: ignore[no-any-return]


def _gru_pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x, h, weight_ih, weight_hh, *_), (tx, th, tw_ih, tw_hh, tb_ih, tb_hh), (hidden, gates) = args, tangents, y
    before, shape = states_before(xp, h, hidden, params["reverse"]), (*x.shape[:-1], weight_ih.shape[0])
    inputs = moved_inputs(xp, shape, x, [(tx, weight_ih), (x, tw_ih)], [tb_ih])
    states = moved_inputs(xp, shape, x, [(before, tw_hh)], [tb_hh])

    def step(th: Any, tx: Any, tz: Any, h: Any, gates: Any) -> Any:
        tz = tz if th is None else tz + weighted(xp, th, weight_hh)
        (txr, txu, txn), (tr, tu, tq), (r, u, n, q) = split(tx, 3), split(tz, 3), gates_of(gates)
        tr, tu = (txr + tr) * r * (1 - r), (txu + tu) * u * (1 - u)
        tn = (txn + tr * q + r * tq) * (1 - n * n)
        moved = tn * (1 - u) + tu * (h - n)
        th = moved if th is None else moved + u * th
        return th, (th, xp.stack([tr, tu, tn, tq], axis=-2))

    return over_time(xp, step, [inputs, states, before, gates], th, x.ndim == h.ndim, params["reverse"])


gru = Op(
    "nn.gru",
    "x, h, weight_ih, weight_hh, bias_ih=None, bias_hh=None, /, *, reverse=False",
    ["x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"],
    joint=_gru_joint,
    pushforward=_gru_pushforward,
    prepare=partial(check_shapes, "gru", 3),
    abstract=lambda xp, args, params: all_steps(args[0], args[1].shape[1:], (4, args[1].shape[1])),
    outputs=GRUResult,
    cases=[
        gentle((3, 2, 2), (2, 2), (6, 2), (6, 2), (6,), (6,)),
        gentle((2, 1, 2), (1, 1), (3, 2), (3, 1), None, None, reverse=True),
        gentle((2, 2), (2, 1), (3, 2), (3, 1), None, (3,)),
    ],
)
gru.batch = partial(one_batch, gru, 1)


@composite(
    "nn.gru_pull",
    "ct, ct_gates, x, h, hidden, gates, weight_ih, weight_hh, /, *, reverse=False, wanted",
    ["ct", "ct_gates", "x", "h", "hidden", "gates", "weight_ih", "weight_hh"],
    cases=[
        case(
            *((2, 2, 1), None, (2, 2, 2), (2, 1), (2, 2, 1), (2, 2, 4, 1), (3, 2), (3, 1)),
            kinds="f",
            wanted=("x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh"),
        ),
        case((2, 1), (2, 4, 1), (2, 2), (2, 1), (2, 1), (2, 4, 1), (3, 2), (3, 1), kinds="f", wanted=("h", "bias_hh")),
    ],
)
def gru_pull(
    xp: Any,
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
    """Give the cotangents of the ``wanted`` operands of `gru` from those of its results; ``ct_gates`` may be None."""
    single, before = x.ndim == h.ndim, states_before(xp, h, hidden, reverse)

    def step(dh: Any, ct: Any, h: Any, gates: Any, *further: Any) -> Any:
        dh = ct if dh is None else ct + dh
        r, u, n, q = gates_of(gates)
        gr, gu, gn, gq = gates_of(further[0]) if further else (0, 0, 0, 0)
        dn = (dh * (1 - u) + gn) * (1 - n * n)
        dr, du, dq = (dn * q + gr) * r * (1 - r), (dh * (h - n) + gu) * u * (1 - u), dn * r + gq
        from_state = xp.concat([dr, du, dq], axis=-1)
        dh = dh * u + xp.matmul(from_state, weight_hh)
        return dh, (xp.concat([dr, du, dn], axis=-1), from_state, dh)

    sequences = [ct, before, gates, *([] if ct_gates is None else [ct_gates])]
    from_input, from_state, dh = over_time(xp, step, sequences, None, single, not reverse)
    return cotangents(xp, wanted, from_input, from_state, x, before, weight_ih, {"h": at_first(dh, single, reverse)})
