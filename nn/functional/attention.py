"""Attention, and products of grouped matrices."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from agnostic_ad.families import broadcast_shapes
from agnostic_ad.levels import Array, device_of, unify
from agnostic_ad.namespaces import lookup
from agnostic_ad.nn.functional.affine import linear
from agnostic_ad.nn.functional.dropouts import dropout
from agnostic_ad.rules import QUICK

__all__ = ["grouped_mm", "multi_head_attention_forward", "scaled_dot_product_attention"]

_add = QUICK["add"]
_attention = QUICK["nn.attention"]
_concat = QUICK["concat"]
_matmul = QUICK["matmul"]
_matrix_transpose = QUICK["matrix_transpose"]
_mean = QUICK["mean"]
_multiply = QUICK["multiply"]
_permute = QUICK["permute_dims"]
_repeat = QUICK["repeat"]
_reshape = QUICK["reshape"]
_softmax = QUICK["nn.softmax"]
_unstack = QUICK["unstack"]


def _namespace(*arrays: Any) -> Any:
    """Give the namespace that computes with the arrays together: a library's backend, or a level's."""
    return unify([x for x in arrays if x is not None])[0]


def _boolean(xp: Any, x: Any) -> bool:
    return bool(xp.isdtype(x.dtype, "bool"))


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Give softmax(query key^T * scale + mask) value.

    The weights are not kept for the backward pass, but computed once more. A query that no key is allowed to answer gets zeros.

    Parameters
    ----------
    query : array
        Shape (..., L, E).
    key : array
        Shape (..., S, E).
    value : array
        Shape (..., S, Ev).
    attn_mask : array, optional
        It broadcasts to (..., L, S): True where a key may answer a query; or a floating array that is added to the scores.
    dropout_p : float
        The probability of dropping a weight. It does not ask whether a module is training.
    is_causal : bool
        Whether query i sees only the keys up to i. There is no ``attn_mask`` then.
    scale : float, optional
        By default 1 / sqrt(E).
    enable_gqa : bool
        Whether ``query`` has a multiple of the heads (the third axis from the end) of ``key`` and ``value``, and shares them among its own.

    Returns
    -------
    array
        Shape (..., L, Ev).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> x = np.arange(6.0).reshape(3, 2)
    >>> F.scaled_dot_product_attention(x, x, x, is_causal=True)[0]
    array([0., 1.])
    """
    what = "scaled_dot_product_attention"
    if is_causal and attn_mask is not None:
        raise ValueError(f"{what}: attn_mask and is_causal=True exclude each other; put the causal mask into attn_mask")
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"{what}: dropout_p is a probability, between 0 and 1, not {dropout_p}")
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(f"{what}: query, key and value have one dtype; got {query.dtype}, {key.dtype} and {value.dtype}")
    if enable_gqa:
        key, value = _shared(what, query, key), _shared(what, query, value)
    keep = None
    if attn_mask is not None or dropout_p:
        xp = _namespace(query, key, value, attn_mask)
        if attn_mask is not None and not _boolean(xp, attn_mask) and attn_mask.dtype != query.dtype:
            raise TypeError(f"{what}: attn_mask is boolean or has the dtype of query, {query.dtype}; got {attn_mask.dtype}")
        if dropout_p:
            batch = broadcast_shapes(*(tuple(x.shape[:-2]) for x in (query, key) if x is not None))
            ones = xp.ones((*batch, query.shape[-2], key.shape[-2]), dtype=query.dtype, device=device_of(query))
            keep = dropout(ones, dropout_p)
    return _attention(query, key, value, attn_mask, keep, scale=scale, causal=bool(is_causal))


def _shared(what: str, query: Any, x: Any) -> Any:
    """Repeat the heads of keys or values until they are as many as the queries'."""
    if min(len(query.shape), len(x.shape)) < 3 or x.shape[-3] == 0 or query.shape[-3] % x.shape[-3]:
        raise ValueError(
            f"{what}: with enable_gqa, the number of heads of query is a multiple of that of key and of value; got shapes "
            f"{tuple(query.shape)} and {tuple(x.shape)}"
        )
    times = query.shape[-3] // x.shape[-3]
    return x if times == 1 else _repeat(x, times, axis=-3)


# --- several heads -----------------------------------------------------------------------------------------------------------------------
def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
) -> tuple[Any, Any]:
    """Project, attend with several heads, and project again; see `agnostic_ad.nn.MultiheadAttention`.

    Parameters
    ----------
    query : array
        Shape (L, N, E), or (L, E).
    key, value : array
        Shape (S, N, ...), or (S, ...).
    embed_dim_to_check, num_heads : int
        E, and the number of heads, which divides it.
    in_proj_weight, in_proj_bias : array
        Shapes (3 E, E) and (3 E,): the projections of query, key and value.
    bias_k, bias_v : array
        Shape (1, 1, E): one more key and value, or None.
    add_zero_attn : bool
        Whether there is one more key and value of zeros.
    dropout_p : float
        The probability of dropping a weight, in training.
    out_proj_weight, out_proj_bias : array
        Shapes (E, E) and (E,).
    key_padding_mask : array, optional
        Shape (N, S), or (S,): True for keys that do not count; or what is added to the scores.
    need_weights : bool
        Whether to give the weights too. Without, there is less to compute.
    attn_mask : array, optional
        Shape (L, S) or (N * num_heads, L, S): True where a key may *not* answer a query; or what is added to the scores.
    use_separate_proj_weight : bool
        Whether ``q_proj_weight`` (E, E), ``k_proj_weight`` (E, key's features) and ``v_proj_weight`` stand for ``in_proj_weight``.
    static_k, static_v : array, optional
        Shape (N * num_heads, S, E / num_heads): keys and values in place of projected ones.
    average_attn_weights : bool
        Whether the weights given are the mean over heads.
    is_causal : bool
        Whether ``attn_mask`` is the causal one, so that it need not be looked at.
    batch_first : bool
        Whether the first two axes of query, key and value are (N, L) and (N, S).

    Returns
    -------
    array, array or None
        The result, of query's shape; and the weights: (N, L, S), or (N, num_heads, L, S) where they are not averaged.
    """
    what = "multi_head_attention_forward"
    alone = _check_shapes(what, query, key, value, key_padding_mask, attn_mask)
    xp = _namespace(query, key, value, in_proj_weight if q_proj_weight is None else q_proj_weight)
    if is_causal and attn_mask is None:
        raise ValueError(f"{what}: is_causal says that attn_mask is the causal one, so attn_mask is wanted too; see nn.Transformer")
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None
    else:
        is_causal = False
    if alone:
        same_kv, same_qk = key is value, query is key
        query = _reshape(query, (1, *query.shape))
        key = query if same_qk else _reshape(key, (1, *key.shape))
        value = key if same_kv else _reshape(value, (1, *value.shape))
        key_padding_mask = None if key_padding_mask is None else _reshape(key_padding_mask, (1, *key_padding_mask.shape))
        batch_first = True
    order = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)  # (N, L, heads, ...) or (L, N, heads, ...) to (N, heads, L, ...)
    size, length = (query.shape[0], query.shape[1]) if batch_first else (query.shape[1], query.shape[0])
    features = query.shape[-1]
    if features != embed_dim_to_check or features % num_heads:
        raise ValueError(
            f"{what}: query has {features} features; {embed_dim_to_check} are wanted, which {num_heads} heads divide among themselves"
        )
    if tuple(key.shape[:2]) != tuple(value.shape[:2]) or (not use_separate_proj_weight and tuple(key.shape) != tuple(value.shape)):
        raise ValueError(f"{what}: key of shape {tuple(key.shape)} and value of shape {tuple(value.shape)} do not fit")
    weights = in_proj_weight if not use_separate_proj_weight else (q_proj_weight, k_proj_weight, v_proj_weight)
    q, k, v = _projected(query, key, value, weights, in_proj_bias, num_heads)
    q = _permute(q, order)
    k = _heads(what, k, static_k, bias_k, order, num_heads)
    v = _heads(what, v, static_v, bias_v, order, num_heads)
    if (bias_k is None) != (bias_v is None):
        raise ValueError(f"{what}: bias_k and bias_v are given together")
    further = (bias_k is not None) + bool(add_zero_attn)
    if add_zero_attn:
        k, v = (_concat([x, xp.zeros((*x.shape[:2], 1, x.shape[3]), dtype=x.dtype, device=device_of(x))], axis=2) for x in (k, v))
    mask = _merged(what, xp, attn_mask, key_padding_mask, (size, num_heads, length, k.shape[2]), further, query.dtype)
    dropout_p = dropout_p if training else 0.0
    given = None
    if need_weights:
        scores = _matmul(_multiply(q, math.sqrt(1.0 / q.shape[-1])), _matrix_transpose(k))
        given = _softmax(scores if mask is None else _add(scores, _added(xp, mask, scores.dtype)), axis=-1)
        given = dropout(given, dropout_p) if dropout_p else given
        y = _matmul(given, v)
        given = _mean(given, axis=1) if average_attn_weights else given
    else:
        y = scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    y = _permute(y, (0, 2, 1, 3) if batch_first else (2, 0, 1, 3))
    y = linear(_reshape(y, (*y.shape[:2], features)), out_proj_weight, out_proj_bias)
    if not alone:
        return y, given
    return _reshape(y, tuple(y.shape[1:])), None if given is None else _reshape(given, tuple(given.shape[1:]))


def _check_shapes(what: str, query: Any, key: Any, value: Any, key_padding_mask: Any, attn_mask: Any) -> bool:
    """Refuse shapes that do not fit; tell whether there is no batch."""
    ndim = len(query.shape)
    if ndim not in (2, 3) or len(key.shape) != ndim or len(value.shape) != ndim:
        raise ValueError(
            f"{what}: query, key and value have 3 dimensions, or 2 without a batch; got shapes {tuple(query.shape)}, {tuple(key.shape)} and "
            f"{tuple(value.shape)}"
        )
    if key_padding_mask is not None and len(key_padding_mask.shape) != ndim - 1:
        raise ValueError(
            f"{what}: key_padding_mask has {ndim - 1} dimensions beside a query of {ndim}; got {tuple(key_padding_mask.shape)}"
        )
    if attn_mask is not None and len(attn_mask.shape) not in (2, 3):
        raise ValueError(f"{what}: attn_mask has the shape (L, S) or (N * num_heads, L, S); got {tuple(attn_mask.shape)}")
    return ndim == 2


def _projected(query: Any, key: Any, value: Any, weight: Any, bias: Any, heads: int) -> Any:
    """Give queries, keys and values with their heads, from one product where they come from the same array."""

    def several(x: Any, weight: Any, bias: Any, count: int) -> Any:
        y = linear(x, weight, bias)
        shape = (heads, y.shape[-1] // (count * heads))
        return (_reshape(y, (*y.shape[:2], *shape)),) if count == 1 else _unstack(_reshape(y, (*y.shape[:2], count, *shape)), axis=2)

    if isinstance(weight, tuple):
        weights, biases = weight, (None,) * 3 if bias is None else _unstack(_reshape(bias, (3, -1)))
    elif query is key and key is value:
        return several(query, weight, bias, 3)
    else:
        size = query.shape[-1]
        if key is value:
            parts = [(x[:size], x[size:]) if x is not None else (None, None) for x in (weight, bias)]
            (wq, wkv), (bq, bkv) = parts
            return (*several(query, wq, bq, 1), *several(key, wkv, bkv, 2))
        weights = _unstack(_reshape(weight, (3, size, weight.shape[-1])))
        biases = (None,) * 3 if bias is None else _unstack(_reshape(bias, (3, size)))
    return tuple(several(x, w, b, 1)[0] for x, w, b in zip((query, key, value), weights, biases, strict=True))


def _heads(what: str, x: Any, static: Any, bias: Any, order: tuple[int, ...], heads: int) -> Any:
    """Give keys or values as (N, heads, S, features of a head): those that are given in place of projected ones, or one more."""
    x = _permute(x, order)
    size, _, _, width = x.shape
    if static is not None:
        if bias is not None:
            raise ValueError(f"{what}: bias_k and bias_v cannot be added to static_k and static_v")
        if len(static.shape) != 3 or static.shape[0] != size * heads or static.shape[2] != width:
            raise ValueError(f"{what}: static_k and static_v have the shape ({size * heads}, S, {width}); got {tuple(static.shape)}")
        return _reshape(static, (size, heads, static.shape[1], width))
    if bias is None:
        return x
    more = QUICK["broadcast_to"](_reshape(bias, (1, heads, 1, width)), (size, heads, 1, width))
    return _concat([x, more], axis=2)


def _merged(what: str, xp: Any, attn: Any, padding: Any, shape: tuple[int, ...], further: int, dtype: Any) -> Any:
    """Give one mask of True for keys that count, or one to add; ``further`` keys at the end count for every query."""
    size, heads, length, keys = shape
    masks = []
    for name, x, wanted in (
        ("attn_mask", attn, [(length, keys - further), (size * heads, length, keys - further)]),
        ("key_padding_mask", padding, [(size, keys - further)]),
    ):
        if x is None:
            continue
        if tuple(x.shape) not in wanted:
            raise ValueError(f"{what}: {name} has the shape {' or '.join(map(str, wanted))}; got {tuple(x.shape)}")
        if not (_boolean(xp, x) or xp.isdtype(x.dtype, "real floating")):
            raise TypeError(f"{what}: {name} is boolean or floating, not {x.dtype}")
        if further:
            x = _concat([x, xp.zeros((*x.shape[:-1], further), dtype=x.dtype, device=device_of(x))], axis=-1)
        axes = (
            (size, 1, 1, keys) if name == "key_padding_mask" else (size, heads, length, keys) if len(x.shape) == 3 else (1, 1, length, keys)
        )
        masks.append(_reshape(x, axes))
    if not masks:
        return None
    if all(_boolean(xp, x) for x in masks):
        return xp.logical_not(masks[0] if len(masks) == 1 else xp.logical_or(*masks))
    masks = [_added(xp, xp.logical_not(x), dtype) if _boolean(xp, x) else xp.astype(x, dtype, copy=False) for x in masks]
    return masks[0] if len(masks) == 1 else _add(*masks)


def _added(xp: Any, mask: Any, dtype: Any) -> Any:
    """Give what is added to scores for a mask of True where a key counts."""
    if not _boolean(xp, mask):
        return mask
    zero, never = (xp.asarray(x, dtype=dtype, device=device_of(mask)) for x in (0.0, -math.inf))
    return xp.where(mask, zero, never)


# --- grouped products --------------------------------------------------------------------------------------------------------------------
def grouped_mm(mat_a: Any, mat_b: Any, *, offs: Any = None, bias: Any = None, out_dtype: Any = None) -> Any:
    """Multiply groups of rows with one matrix each.

    Parameters
    ----------
    mat_a, mat_b : array
        (G, M, K) and (G, K, N): matrix by matrix. (T, K) and (G, K, N): rows of ``mat_a`` in groups. (G, M, K) and (K, T): columns of
        ``mat_b`` in groups. (M, T) and (T, N): a product a group of what is summed over.
    offs : array of int, optional
        Where each group ends, of shape (G,), where one of them is in groups. What comes after the last end does not count.
    bias : None
        There is none yet, as in PyTorch.
    out_dtype : dtype, optional
        That of the operands.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad.nn import functional as F
    >>> F.grouped_mm(np.ones((3, 2)), np.stack([np.eye(2), 5 * np.eye(2)]), offs=np.asarray([1, 3]))
    array([[1., 1.],
           [5., 5.],
           [5., 5.]])
    """
    a, b = len(mat_a.shape), len(mat_b.shape)
    if not {a, b} <= {2, 3} or mat_a.shape[-1] != mat_b.shape[-2] or (a == b == 3 and mat_a.shape[0] != mat_b.shape[0]):
        raise ValueError(f"grouped_mm: operands of shapes {tuple(mat_a.shape)} and {tuple(mat_b.shape)} do not fit")
    if (offs is None) != (a == b == 3):
        raise ValueError("grouped_mm: offs is wanted where an operand of 2 dimensions is in groups, and only there")
    if bias is not None:
        raise NotImplementedError("grouped_mm: bias is not supported yet; add it to the result")
    if out_dtype is not None and out_dtype != mat_a.dtype:
        raise ValueError(f"grouped_mm: out_dtype is that of the operands, {mat_a.dtype}, not {out_dtype}")
    if offs is None:
        return _matmul(mat_a, mat_b)
    total = mat_a.shape[-1] if a == b else mat_a.shape[0] if a == 2 else mat_b.shape[1]
    ends = _ends(offs, total, mat_a.shape[0] if a == 3 else mat_b.shape[0] if b == 3 else None)
    parts = [slice(start, end) for start, end in pairwise((0, *ends))]
    if a == b:
        return QUICK["stack"]([_matmul(mat_a[:, part], mat_b[part]) for part in parts])
    products = [_matmul(mat_a[part], mat_b[i]) if a == 2 else _matmul(mat_a[i], mat_b[:, part]) for i, part in enumerate(parts)]
    if ends[-1] < total:
        rest = (total - ends[-1], mat_b.shape[2]) if a == 2 else (mat_a.shape[1], total - ends[-1])
        products.append(_namespace(mat_a, mat_b).zeros(rest, dtype=mat_a.dtype, device=device_of(mat_a)))
    return _concat(products, axis=0 if a == 2 else 1)


def _ends(offs: Any, total: int, groups: int | None) -> list[int]:
    """Give where groups end as numbers."""
    backend = lookup(offs)
    ends = offs.tolist() if isinstance(offs, Array) else list(offs) if backend is None else backend.to_numpy(offs).tolist()
    if not ends or (groups is not None and len(ends) != groups) or ends != sorted(ends) or ends[0] < 0 or ends[-1] > total:
        raise ValueError(f"grouped_mm: offs holds the ends of {groups or 'the'} groups, in order, up to {total}; got {ends}")
    return ends
