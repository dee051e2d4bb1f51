"""Standardization over axes, with a weight and a bias.

Layer, batch, instance and group normalization have it in common; and RMS normalization, which leaves the mean in.

With n = (x - mean) / sqrt(var + eps), c the cotangent of the result times the weight and <.> the mean over the axes, that of x is
(c - <c> - n <c n>) / sqrt(var + eps) (Ioffe and Szegedy, 2015, section 3); without <c> where the mean stays in.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from agnostic_ad.families import align, composite, normalize_axes, sum_to_shape
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.neural import front, general
from agnostic_ad.samples import Domain, Operand, case, strided


class Standardized(NamedTuple):
    """What `nn.standardize` gives: the result, and the mean and the variance over the axes, which are kept with size 1.

    With ``center=False`` the mean is zero, and ``var`` the mean of the squares.
    """

    y: Any
    mean: Any
    var: Any


def _mean(xp: Any, x: Any, axis: Any) -> Any:
    count = math.prod(x.shape[a] for a in axis)
    return xp.sum(x, axis=axis, keepdims=True, dtype=x.dtype) / max(count, 1)  # of nothing: zero


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


@general("nn.standardize")
def _standardize(
    xp: Any, x: Any, weight: Any = None, bias: Any = None, *, axis: Any, eps: float = 1e-5, center: bool = True
) -> tuple[Any, Any, Any]:
    if center:
        mean = _mean(xp, x, axis)
        x = x - mean
    var = _mean(xp, x * x, axis)
    y = _affine(x / xp.sqrt(var + eps), weight, bias)
    return y, mean if center else xp.zeros_like(var), var


def _prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    x, affine = tuple(args[0].shape), [None if a is None else tuple(a.shape) for a in args[1:]]
    axis = normalize_axes(params["axis"], len(x), "standardize")
    for name, shape in zip(("weight", "bias"), affine, strict=True):
        if shape is not None and (len(shape) > len(x) or any(n not in (1, m) for n, m in zip(shape[::-1], x[::-1]))):
            raise ValueError(f"standardize: a {name} of shape {shape} does not broadcast to the input's, {x}")
    return args, {**params, "axis": axis}


def _joint(
    xp: Any, ct: Any, x: Any, weight: Any, bias: Any, y: Any, axis: Any, eps: float, center: bool, wanted: tuple[str, ...]
) -> tuple[Any, ...]:
    (g, g_mean, g_var), (_, mean, var) = ct, y
    g = xp.zeros_like(x) if g is None else g
    first, *rest = xp.nn.standardize_pull(g, x, mean, var, weight, bias, axis=axis, eps=eps, center=center, wanted=wanted)
    if wanted[0] == "x":
        count = math.prod(x.shape[a] for a in axis)
        if g_mean is not None and center:
            first = first + g_mean / count
        if g_var is not None:
            first = first + (x - mean) * (g_var * 2 / count)
    return first, *rest


def _pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (x, weight, _), (tx, tw, tb), axis = args, tangents, params["axis"]
    _, mean, var = y
    scale = 1 / xp.sqrt(var + params["eps"])
    normal = (x - mean) * scale
    terms, moved = [], (None, None)
    if tx is not None:
        along = _mean(xp, tx, axis) if params["center"] else None
        through = _mean(xp, normal * tx, axis)
        moved = along, 2 * through / scale
        tx = (tx if along is None else tx - along) - normal * through
        terms.append(_affine(tx * scale, weight, None))
    if tw is not None:
        terms.append(normal * tw)
    if tb is not None:
        terms.append(tb)
    return xp.broadcast_to(sum(terms[1:], terms[0]), x.shape), *moved


def _batch(xp: Any, size: Any, args: tuple[Any, ...], batched: tuple[bool, ...], params: dict[str, Any]) -> Any:
    x, *affine = args
    axis = tuple(a + 1 for a in params["axis"])
    operands = align(xp, (front(xp, size, x, batched[0]), *affine), (True, *batched[1:]))
    return xp.nn.standardize(*operands, **{**params, "axis": axis})


def _abstract(xp: Any, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[ShapeDtype, ...]:
    x = args[0]
    kept = ShapeDtype(tuple(1 if i in params["axis"] else n for i, n in enumerate(x.shape)), x.dtype)
    return ShapeDtype(x.shape, x.dtype), kept, kept


standardize = Op(
    "nn.standardize",
    "x, weight=None, bias=None, /, *, axis, eps=1e-05, center=True",
    ["x", "weight", "bias"],
    joint=_joint,
    pushforward=_pushforward,
    prepare=_prepare,
    batch=_batch,
    abstract=_abstract,
    outputs=Standardized,
    cases=[
        case((3, 4), (4,), (4,), kinds="f", axis=-1),
        case((3, 2, 4), (2, 1), (2, 1), kinds="f", axis=(0, 2), eps=0.1),
        case((2, 2, 3, 2), None, None, kinds="f", axis=(2, 3)),
        case(strided((3, 4)), None, strided((4,)), kinds="f", axis=(0,), eps=1e-3),
        case((2, 3, 2), (3, 2), None, kinds="f", axis=(1, 2), eps=1e-3, center=False),
        case((0, 3), (3,), (3,), kinds="f", axis=-1),
    ],
)


_STEADY = Operand((3, 1), Domain(0.5, 2.0))


@composite(
    "nn.standardize_pull",
    "ct, x, mean, var, weight=None, bias=None, /, *, axis, eps=1e-05, center=True, wanted",
    ["ct", "x", "mean", "var", "weight", "bias"],
    cases=[
        case((3, 4), (3, 4), (3, 1), _STEADY, (4,), (4,), kinds="f", axis=(1,), wanted=("x", "weight", "bias")),
        case((3, 4), (3, 4), (3, 1), _STEADY, None, None, kinds="f", axis=(1,), eps=0.1, center=False, wanted=("x",)),
    ],
)
def standardize_pull(
    xp: Any,
    ct: Any,
    x: Any,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    axis: Any,
    eps: float = 1e-5,
    center: bool = True,
    wanted: tuple[str, ...],
) -> tuple[Any, ...]:
    """Give the cotangents of the ``wanted`` operands of `standardize` from that of its result, the mean and the variance."""
    found: list[Any] = []
    scale = 1 / xp.sqrt(var + eps)
    normal = (x - mean) * scale
    if "x" in wanted:
        g = _affine(ct, weight, None)
        through = normal * _mean(xp, g * normal, axis)
        through = through + _mean(xp, g, axis) if center else through
        found.append((g - through) * scale)
    if "weight" in wanted:
        found.append(sum_to_shape(xp, ct * normal, tuple(weight.shape)))
    if "bias" in wanted:
        found.append(sum_to_shape(xp, ct, tuple(bias.shape)))
    return tuple(found)
