"""Attention with several heads."""

from __future__ import annotations

from typing import Any

from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn.linear import Linear
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import new_parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Let each query look at all keys, several times at once (Vaswani et al., 2017).

    Parameters
    ----------
    embed_dim : int
        The number of features, E.
    num_heads : int
        Into how many parts they are divided; each part attends on its own.
    dropout : float
        The probability of dropping a weight, in training.
    bias : bool
        Whether the projections have biases.
    add_bias_kv : bool
        Whether there is one more key and value, which are learned.
    add_zero_attn : bool
        Whether there is one more key and value of zeros.
    kdim, vdim : int, optional
        The numbers of features of key and value; by default ``embed_dim``.
    batch_first : bool
        Whether arrays are (N, L, E) rather than (L, N, E).
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    in_proj_weight : Parameter or None
        Shape (3 E, E): the projections of query, key and value.
    q_proj_weight, k_proj_weight, v_proj_weight : Parameter or None
        Shapes (E, E), (E, kdim) and (E, vdim), in its place where the numbers of features differ.
    in_proj_bias : Parameter or None
        Shape (3 E,), zeros at first.
    bias_k, bias_v : Parameter or None
        Shape (1, 1, E).
    out_proj : Linear
        The last projection.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> x = np.ones((2, 5, 4), dtype="float32")
    >>> y, weights = nn.MultiheadAttention(4, 2, batch_first=True)(x, x, x)
    >>> y.shape, weights.shape
    ((2, 5, 4), (2, 5, 5))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: embed_dim is a positive multiple of num_heads; got {embed_dim} and {num_heads}")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        together = self.kdim == self.vdim == embed_dim
        self._qkv_same_embed_dim = together

        def parameter(name: str, *shape: int, there: bool = True) -> None:
            self.register_parameter(name, new_parameter(shape, xp, dtype, device) if there else None)

        parameter("q_proj_weight", embed_dim, embed_dim, there=not together)
        parameter("k_proj_weight", embed_dim, self.kdim, there=not together)
        parameter("v_proj_weight", embed_dim, self.vdim, there=not together)
        parameter("in_proj_weight", 3 * embed_dim, embed_dim, there=together)
        parameter("in_proj_bias", 3 * embed_dim, there=bias)
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, device=device, dtype=dtype, xp=xp)
        parameter("bias_k", 1, 1, embed_dim, there=add_bias_kv)
        parameter("bias_v", 1, 1, embed_dim, there=add_bias_kv)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """Attend.

        Parameters
        ----------
        query : array
            Shape (L, N, E); (N, L, E) where the batch comes first; (L, E) without one.
        key, value : array
            Shapes (S, N, kdim) and (S, N, vdim), likewise.
        key_padding_mask : array, optional
            Shape (N, S), or (S,): True for keys that do not count; or what is added to the scores.
        need_weights : bool
            Whether to give the weights too. Without, there is less to compute.
        attn_mask : array, optional
            Shape (L, S) or (N * num_heads, L, S): True where a key may *not* answer a query; or what is added to the scores.
        average_attn_weights : bool
            Whether the weights given are the mean over heads.
        is_causal : bool
            Whether ``attn_mask`` is the causal one, so that it need not be looked at.

        Returns
        -------
        array, array or None
            The result, of query's shape; and the weights: (N, L, S), or (N, num_heads, L, S) where they are not averaged.
        """
        return F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            batch_first=self.batch_first,
        )
