"""Operations of neural networks that are worth an entry of their own: fewer records and fewer passes than from the standard's parts.

Each has a general form, in terms of the standard, that runs on every library; a library's backend may have a quicker one of the same name
(``nn_relu`` for ``nn.relu``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.backends.base import Backend
from agnostic_ad.families import composite, elementwise, normalize_axis, result_dtype
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import ZERO, Op
from agnostic_ad.samples import Free, case, integers


def general(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function of ``(xp, *operands, **params)`` as an operation's computation, where a library has no better."""

    def wrap(fn: Callable[..., Any]) -> Callable[..., Any]:
        Backend.fallbacks[name] = fn
        return fn

    return wrap


def front(xp: Any, size: Any, x: Any, batched: bool) -> Any:
    """Give an operand with a batch axis in front, whether it had one or not."""
    return x if batched else xp.broadcast_to(x, (size, *x.shape))


# --- activations ------------------------------------------------------------------------------------------------------------------------
@general("nn.relu")
def _relu(xp: Any, x: Any) -> Any:
    return xp.maximum(x, xp.zeros((), dtype=x.dtype, device=device_of(x)))


relu = elementwise("nn.relu", lambda xp, y: xp.astype(y > 0, y.dtype), domain=(0.2, 3.0, True), kinds="f")


def _axis_prepare(name: str) -> Callable[..., Any]:
    def prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        return args, {**params, "axis": normalize_axis(params["axis"], len(args[0].shape), name)}

    return prepare


def _along(name: str, vjp: Callable[..., Any], jvp: Callable[..., Any]) -> Op:
    """Make an operation along one axis that keeps the shape."""
    op = Op(
        name,
        "x, /, *, axis=-1",
        ["x"],
        vjps=[vjp],
        jvps=[jvp],
        prepare=_axis_prepare(name.removeprefix("nn.")),
        batch=lambda xp, size, args, batched, params: op.at(xp)(args[0], axis=params["axis"] + 1),
        abstract=lambda xp, args, params: ShapeDtype(args[0].shape, args[0].dtype),
        cases=[
            case((2, 3), kinds="f", free=Free("same", {"axis": "axis"}, 1, False)),
            case((3, 2), kinds="f", axis=0),
            case((2, 3, 2), kinds="f", axis=1),
        ],
    )
    return op


@general("nn.softmax")
def _softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


@general("nn.log_softmax")
def _log_softmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    x = x - xp.max(x, axis=axis, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True))


def _softmax_rule(xp: Any, ct: Any, y: Any, axis: int) -> Any:
    # the Jacobian is symmetric: one rule for both modes
    return y * (ct - xp.sum(ct * y, axis=axis, keepdims=True))


softmax = _along("nn.softmax", _softmax_rule, _softmax_rule)
log_softmax = _along(
    "nn.log_softmax",
    lambda xp, ct, y, axis: ct - xp.exp(y) * xp.sum(ct, axis=axis, keepdims=True),
    lambda xp, ct, y, axis: ct - xp.sum(ct * xp.exp(y), axis=axis, keepdims=True),
)


# --- softmax and cross entropy in one ---------------------------------------------------------------------------------------------------
@general("nn.softmax_cross_entropy")
def _cross_entropy(xp: Any, x: Any, target: Any, *, axis: int = -1, ignore_index: int = -100) -> Any:
    ignored = target == ignore_index
    index = xp.expand_dims(xp.where(ignored, xp.zeros_like(target), target), axis=axis)
    x = x - xp.max(x, axis=axis, keepdims=True)
    y = xp.log(xp.sum(xp.exp(x), axis=axis)) - xp.squeeze(xp.take_along_axis(x, index, axis=axis), axis=axis)
    return xp.where(ignored, xp.zeros_like(y), y)


def _one_hot(xp: Any, x: Any, target: Any, axis: int) -> Any:
    """Give where each element of ``x`` is the one that ``target`` names along ``axis``."""
    classes = xp.reshape(xp.arange(x.shape[axis], device=device_of(target)), (-1, *(1,) * (x.ndim - 1 - axis)))
    return classes == xp.expand_dims(xp.astype(target, classes.dtype), axis=axis)  # there may be more classes than a byte has numbers


def _kept(xp: Any, ct: Any, target: Any, ignore_index: int) -> Any:
    return xp.where(target != ignore_index, ct, xp.zeros_like(ct))  # no product: in a mean over none, the cotangent is infinite


_CROSS_ENTROPIES: list[tuple[Any, Any, Any, dict[str, Any]]] = [
    ((2, 3), integers((2,), 0, 2), (2,), {}),
    ((2, 3, 4), integers((2, 4), 0, 2), (2, 4), {"axis": 1, "ignore_index": 1}),
]


@composite(
    "nn.softmax_cross_entropy_grad",
    "x, target, ct, /, *, axis=-1, ignore_index=-100",
    ["x", "target", "ct"],
    cases=[case(x, target, ct, kinds="f", **params) for x, target, ct, params in _CROSS_ENTROPIES],
)
def softmax_cross_entropy_grad(xp: Any, x: Any, target: Any, ct: Any, *, axis: int = -1, ignore_index: int = -100) -> Any:
    """Give the gradient of ``softmax_cross_entropy`` with respect to the scores, times ``ct``."""
    axis = normalize_axis(axis, x.ndim, "cross_entropy")
    hit = xp.astype(_one_hot(xp, x, target, axis), x.dtype)
    return (xp.nn.softmax(x, axis=axis) - hit) * xp.expand_dims(_kept(xp, ct, target, ignore_index), axis=axis)


def _cross_entropy_vjp(xp: Any, ct: Any, x: Any, target: Any, axis: int, ignore_index: int) -> Any:
    return xp.nn.softmax_cross_entropy_grad(x, target, ct, axis=axis, ignore_index=ignore_index)


def _cross_entropy_jvp(xp: Any, ct: Any, x: Any, target: Any, axis: int, ignore_index: int) -> Any:
    hit = xp.astype(_one_hot(xp, x, target, axis), x.dtype)
    return _kept(xp, xp.sum((xp.nn.softmax(x, axis=axis) - hit) * ct, axis=axis), target, ignore_index)


def _cross_entropy_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    x, target = args
    axis = normalize_axis(params["axis"], len(x.shape), "cross_entropy")
    if tuple(target.shape) != (*x.shape[:axis], *x.shape[axis + 1 :]):
        raise ValueError(f"cross_entropy: scores of shape {tuple(x.shape)} do not fit class indices of shape {tuple(target.shape)}")
    return args, {**params, "axis": axis}


def _cross_entropy_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, target = (front(xp, size, a, b) for a, b in zip(args, batched, strict=True))
    return xp.nn.softmax_cross_entropy(x, target, **{**params, "axis": params["axis"] + 1})


softmax_cross_entropy = Op(
    "nn.softmax_cross_entropy",
    "x, target, /, *, axis=-1, ignore_index=-100",
    ["x", "target"],
    vjps=[_cross_entropy_vjp, ZERO],
    jvps=[_cross_entropy_jvp, ZERO],
    prepare=_cross_entropy_prepare,
    batch=_cross_entropy_batch,
    abstract=lambda xp, args, params: ShapeDtype(tuple(n for i, n in enumerate(args[0].shape) if i != params["axis"]), args[0].dtype),
    cases=[case(x, target, kinds="f", **params) for x, target, _, params in _CROSS_ENTROPIES],
)


# --- linear -----------------------------------------------------------------------------------------------------------------------------
@general("nn.linear")
def _linear(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    y = xp.matmul(x, xp.matrix_transpose(weight))
    return y if bias is None else y + bias


def _conj(xp: Any, x: Any) -> Any:
    return xp.conj(x) if x.dtype in COMPLEX else x


def _rows(xp: Any, x: Any) -> Any:
    return x if x.ndim == 2 else xp.reshape(x, (-1, x.shape[-1]))


def _linear_prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    x, weight = args[0].shape, args[1].shape
    if not x or len(weight) != 2 or x[-1] != weight[1]:
        raise ValueError(f"linear: an input of shape {tuple(x)} does not fit a weight of shape {tuple(weight)} (outputs, inputs)")
    return args, params


def _linear_pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x, weight, _), (tx, tw, tb) = args, tangents
    t = None if tx is None else xp.nn.linear(tx, weight, tb)
    if tw is not None:
        through = xp.nn.linear(x, tw, tb if t is None else None)
        t = through if t is None else t + through
    return xp.broadcast_to(tb, y.shape) if t is None else t


def _linear_batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    (x, weight, bias), (_, many_weights, many_biases) = args, batched
    if not (many_weights or many_biases):
        return xp.nn.linear(x, weight, bias)
    x = front(xp, size, x, batched[0])
    rows = xp.reshape(x, (size, -1, x.shape[-1]))
    y = xp.matmul(rows, xp.matrix_transpose(weight))
    if bias is not None:
        y = y + (xp.expand_dims(bias, axis=1) if many_biases else bias)
    return xp.reshape(y, (*x.shape[:-1], y.shape[-1]))


linear = Op(
    "nn.linear",
    "x, weight, bias=None, /",
    ["x", "weight", "bias"],
    vjps=[
        lambda xp, ct, weight: xp.nn.linear(ct, xp.matrix_transpose(_conj(xp, weight))),
        lambda xp, ct, x: xp.matmul(xp.matrix_transpose(_rows(xp, ct)), _conj(xp, _rows(xp, x))),
        lambda xp, ct: xp.sum(_rows(xp, ct), axis=0),
    ],
    pushforward=_linear_pushforward,
    prepare=_linear_prepare,
    batch=_linear_batch,
    abstract=lambda xp, args, params: ShapeDtype((*args[0].shape[:-1], args[1].shape[0]), result_dtype(xp, args)),
    cases=[
        case((2, 3), (4, 3), (4,), kinds="fc"),
        case((2, 3), (4, 3), None, kinds="f"),
        case((3,), (4, 3), (4,), kinds="f"),
        case((2, 2, 3), (4, 3), (4,), kinds="f"),
    ],
)
