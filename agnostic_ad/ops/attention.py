"""Attention: softmax(q k^T * scale + mask) v as one operation, which keeps nothing of the size of the weights for the backward pass.

The weights are computed once more there, as in FlashAttention (Dao et al., 2022); the derivatives of all operands share them.
"""

from __future__ import annotations

import math
from typing import Any

from agnostic_ad.families import align, broadcast_shapes, composite, result_dtype, sum_to_shape
from agnostic_ad.levels import device_of
from agnostic_ad.namespaces import ShapeDtype
from agnostic_ad.op import Op
from agnostic_ad.ops.neural import general
from agnostic_ad.samples import Domain, Operand, case, mask, strided


def _weights(xp: Any, q: Any, k: Any, mask: Any, scale: float, causal: bool) -> Any:
    """Give the weights of the keys for each query: they add up to one, or are zero where all keys are masked."""
    scores = xp.matmul(q * scale, xp.matrix_transpose(k))
    never = xp.asarray(-math.inf, dtype=scores.dtype, device=device_of(scores))
    if mask is not None:
        scores = xp.where(mask, scores, never) if xp.isdtype(mask.dtype, "bool") else scores + mask
    if causal:
        rows, columns = (xp.arange(n, device=device_of(scores)) for n in scores.shape[-2:])
        scores = xp.where(columns <= xp.reshape(rows, (-1, 1)), scores, never)
    if scores.shape[-1] == 0:
        return scores
    top = xp.stop_gradient(xp.max(scores, axis=-1, keepdims=True))  # it cancels
    parts = xp.exp(scores - xp.where(top == never, xp.zeros_like(top), top))
    total = xp.sum(parts, axis=-1, keepdims=True)
    return parts / xp.where(total == 0, xp.ones_like(total), total)


def _times(x: Any, keep: Any) -> Any:
    return x if keep is None else x * keep


@general("nn.attention")
def _attention(xp: Any, q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, scale: float, causal: bool = False) -> Any:
    return xp.matmul(_times(_weights(xp, q, k, mask, scale, causal), keep), v)


def _prepare(args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    q, k, v, mask, keep = args
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if min(map(len, shapes)) < 2 or shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        raise ValueError(
            f"attention: queries of shape {shapes[0]}, keys {shapes[1]} and values {shapes[2]} do not fit: (..., L, E), (..., S, E) and "
            "(..., S, Ev) are wanted"
        )
    for name, x in (("mask", mask), ("keep", keep)):
        if x is not None:
            weights = (shapes[0][-2], shapes[1][-2])
            if len(x.shape) < 2 or any(n not in (1, m) for n, m in zip(x.shape[-2:], weights)):
                raise ValueError(f"attention: a {name} of shape {tuple(x.shape)} does not broadcast to (..., {weights[0]}, {weights[1]})")
    scale = params["scale"]
    return args, {**params, "scale": 1 / math.sqrt(max(shapes[0][-1], 1)) if scale is None else scale}


def _shape(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*broadcast_shapes(*(tuple(x.shape[:-2]) for x in args if x is not None)), args[0].shape[-2], args[2].shape[-1])


def _joint(
    xp: Any, ct: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, scale: float, causal: bool, wanted: tuple[str, ...]
) -> tuple[Any, ...]:
    return xp.nn.attention_pull(ct, q, k, v, mask, keep, scale=scale, causal=causal, wanted=wanted)  # type: ignore[no-any-return]


def _pushforward(xp: Any, args: tuple[Any, ...], y: Any, tangents: tuple[Any, ...], params: dict[str, Any]) -> Any:
    (q, k, v, mask, keep), (tq, tk, tv, tmask, tkeep), scale = args, tangents, params["scale"]
    weights = _weights(xp, q, k, mask, scale, params["causal"])
    terms = [] if tv is None else [xp.matmul(_times(weights, keep), tv)]
    scores = [tmask] if tmask is not None else []
    if tq is not None:
        scores.append(xp.matmul(tq * scale, xp.matrix_transpose(k)))
    if tk is not None:
        scores.append(xp.matmul(q * scale, xp.matrix_transpose(tk)))
    if scores:
        moved = weights * sum(scores[1:], scores[0])
        terms.append(xp.matmul(_times(moved - weights * xp.sum(moved, axis=-1, keepdims=True), keep), v))
    if tkeep is not None:
        terms.append(xp.matmul(weights * tkeep, v))
    return xp.broadcast_to(sum(terms[1:], terms[0]), y.shape)


_GIVEN = Domain(0.0, 2.0)
attention = Op(
    "nn.attention",
    "q, k, v, mask=None, keep=None, /, *, scale=None, causal=False",
    ["q", "k", "v", "mask", "keep"],
    joint=_joint,
    pushforward=_pushforward,
    prepare=_prepare,
    batch=lambda xp, size, args, batched, params: xp.nn.attention(*align(xp, args, batched), **params),
    abstract=lambda xp, args, params: ShapeDtype(_shape(args), result_dtype(xp, args[:3])),
    cases=[
        case((2, 3), (4, 3), (4, 2), None, None, kinds="f"),
        case((2, 2, 3, 2), (2, 2, 3, 2), (2, 2, 3, 2), None, None, kinds="f", causal=True),
        case((2, 3, 2), (4, 2), (1, 4, 3), (3, 4), None, kinds="f", scale=0.3),
        case((2, 1, 3, 2), (3, 4, 2), (4, 2), mask((1, 1, 3, 4)), Operand((2, 3, 3, 4), _GIVEN), kinds="f", causal=True),
        case(strided((3, 2)), strided((3, 2)), strided((3, 2)), (2, 1, 3), None, kinds="f", causal=True, scale=-1.0),
        case((2, 0, 3), (2, 4, 3), (2, 4, 2), None, None, kinds="f"),
        case((2, 3), (0, 3), (0, 2), None, None, kinds="f"),
    ],
)


@composite(
    "nn.attention_pull",
    "ct, q, k, v, mask=None, keep=None, /, *, scale, causal=False, wanted",
    ["ct", "q", "k", "v", "mask", "keep"],
    cases=[
        case((2, 3, 3), (2, 3, 2), (2, 4, 2), (2, 4, 3), None, None, kinds="f", scale=0.7, wanted=("q", "k", "v")),
        case(
            *(Operand(shape, Domain(-1.0, 1.0)) for shape in ((2, 3, 3), (2, 3, 2), (4, 2), (4, 3), (3, 4))),
            Operand((2, 3, 4), _GIVEN),
            kinds="f",
            scale=0.7,
            causal=True,
            wanted=("q", "k", "v", "mask", "keep"),
        ),
    ],
)
def attention_pull(
    xp: Any,
    ct: Any,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    keep: Any = None,
    *,
    scale: float,
    causal: bool = False,
    wanted: tuple[str, ...],
) -> tuple[Any, ...]:
    """Give the cotangents of the ``wanted`` operands of attention from that of its result."""
    found: dict[str, Any] = {}
    weights = _weights(xp, q, k, mask, scale, causal)
    if "v" in wanted:
        found["v"] = xp.matmul(xp.matrix_transpose(_times(weights, keep)), ct)
    if wanted != ("v",):
        through = xp.matmul(ct, xp.matrix_transpose(v))
        found["keep"] = weights * through
        moved = weights * _times(through, keep)
        scores = moved - weights * xp.sum(moved, axis=-1, keepdims=True)
        found["mask"] = scores
        found["q"] = xp.matmul(scores, k) * scale
        found["k"] = xp.matmul(xp.matrix_transpose(scores), q) * scale
    operands = {"q": q, "k": k, "v": v, "mask": mask, "keep": keep}
    return tuple(sum_to_shape(xp, found[name], operands[name].shape) for name in wanted)
