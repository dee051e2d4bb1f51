"""Transformers (Vaswani et al., 2017): encoders, decoders, and the layers that they stack."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from agnostic_ad.config import dtype_name, place
from agnostic_ad.levels import Array
from agnostic_ad.namespaces import lookup
from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn.attention import MultiheadAttention
from agnostic_ad.nn.containers import ModuleList
from agnostic_ad.nn.dropout import Dropout
from agnostic_ad.nn.linear import Linear
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.normalization import LayerNorm

__all__ = ["Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer"]


def _activation(given: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    if not isinstance(given, str):
        return given
    if given not in ("relu", "gelu"):
        raise ValueError(f"activation is 'relu', 'gelu' or a function, not {given!r}")
    return F.relu if given == "relu" else F.gelu


class _Layer(Module):
    """What the layers of encoders and decoders have in common: attention to themselves, two linear layers, a norm and a dropout for each part."""

    def __init__(
        self,
        norms: int,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: str | Callable[[Any], Any],
        layer_norm_eps: float,
        batch_first: bool,
        norm_first: bool,
        bias: bool,
        **where: Any,
    ) -> None:
        super().__init__()

        def attention() -> MultiheadAttention:
            return MultiheadAttention(d_model, nhead, dropout=dropout, bias=bias, batch_first=batch_first, **where)

        self.self_attn = attention()
        if norms == 3:
            self.multihead_attn = attention()
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **where)
        self.norm_first, self._norms = norm_first, norms
        for i in range(1, norms + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **where))
        for i in range(1, norms + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation)

    def _add(self, x: Any, norm: Module, block: Callable[[Any], Any]) -> Any:
        """Add to ``x`` what a block makes of it, with the norm before or behind."""
        return x + block(norm(x)) if self.norm_first else norm(x + block(x))

    # the blocks have PyTorch's names: models override them
    def _sa_block(self, x: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False) -> Any:
        return self.dropout1(self.self_attn(x, x, x, key_padding_mask, False, attn_mask, is_causal=is_causal)[0])

    def _ff_block(self, x: Any) -> Any:
        last = self.dropout2 if self._norms == 2 else self.dropout3
        return last(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, and two linear layers for each position, each added to what it was made from.

    Parameters
    ----------
    d_model : int
        The number of features.
    nhead : int
        The number of heads of the attention.
    dim_feedforward : int
        The number of features between the two linear layers.
    dropout : float
        The probability of dropping, in training.
    activation : {"relu", "gelu"} or callable
        What is between the two linear layers.
    layer_norm_eps : float
        The ``eps`` of the norms.
    batch_first : bool
        Whether arrays are (N, S, E) rather than (S, N, E).
    norm_first : bool
        Whether norms come before attention and linear layers, rather than behind (Xiong et al., 2020).
    bias : bool
        Whether linear layers and norms have biases.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.TransformerEncoderLayer(8, 2, 16)(np.ones((5, 3, 8), dtype="float32")).shape
    (5, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        where = {"device": device, "dtype": dtype, "xp": xp}
        super().__init__(2, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, **where)

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """Pass ``src`` through the layer; the masks are those of `MultiheadAttention`."""
        x = self._add(src, self.norm1, lambda x: self._sa_block(x, src_mask, src_key_padding_mask, is_causal=is_causal))
        return self._add(x, self.norm2, self._ff_block)


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself and to the encoder's, and two linear layers, each added to what it was made from.

    Parameters are those of `TransformerEncoderLayer`.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> tgt, memory = np.ones((4, 3, 8), dtype="float32"), np.ones((5, 3, 8), dtype="float32")
    >>> nn.TransformerDecoderLayer(8, 2, 16)(tgt, memory).shape
    (4, 3, 8)
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        where = {"device": device, "dtype": dtype, "xp": xp}
        super().__init__(3, d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, **where)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """Pass ``tgt`` through the layer, with ``memory`` from the encoder; the masks are those of `MultiheadAttention`."""
        x = self._add(tgt, self.norm1, lambda x: self._sa_block(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal))
        x = self._add(x, self.norm2, lambda x: self._mha_block(x, memory, memory_mask, memory_key_padding_mask, memory_is_causal))
        return self._add(x, self.norm3, self._ff_block)

    def _mha_block(self, x: Any, mem: Any, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False) -> Any:
        return self.dropout2(self.multihead_attn(x, mem, mem, key_padding_mask, False, attn_mask, is_causal=is_causal)[0])


class _Stack(Module):
    """Copies of one layer, and a norm at the end."""

    def __init__(self, layer: Module, num_layers: int, norm: Module | None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def _run(self, x: Any, *others: Any, **masks: Any) -> Any:
        for layer in self.layers:
            x = layer(x, *others, **masks)
        return x if self.norm is None else self.norm(x)

    def _is_causal(self, x: Any, mask: Any, said: bool | None) -> bool:
        """Tell whether a mask is the causal one, where it is not said and looking at it is cheap."""
        if said is not None or mask is None:
            return bool(said)
        raw = mask.payload if isinstance(mask, Array) else mask
        backend = lookup(raw)
        length = x.shape[0 if len(x.shape) == 2 or not self.layers[0].self_attn.batch_first else 1]
        if backend is None or not backend.checks_bounds or tuple(raw.shape) != (length, length):
            return False
        return bool((backend.to_numpy(raw) == _hidden(length, backend.kind(raw.dtype) == "b")).all())


def _hidden(size: int, boolean: bool = False) -> Any:
    """Give, in NumPy, the mask that hides what comes later."""
    later = np.triu(np.ones((size, size), bool), 1)
    return later if boolean else np.where(later, -np.inf, 0.0)


class TransformerEncoder(_Stack):
    """A stack of encoder layers.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        The layer, which is copied.
    num_layers : int
        How many there are.
    norm : Module, optional
        What comes behind them.
    enable_nested_tensor, mask_check : bool
        Accepted for PyTorch's sake: there are no nested tensors here, and padded positions are computed like others.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    >>> nn.TransformerEncoder(layer, 2)(np.ones((3, 5, 8), dtype="float32")).shape
    (3, 5, 8)
    """

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None, enable_nested_tensor: bool = True, mask_check: bool = True
    ) -> None:
        super().__init__(encoder_layer, num_layers, norm)
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None) -> Any:
        """Pass ``src`` through the layers; the masks are those of `MultiheadAttention`."""
        causal = self._is_causal(src, mask, is_causal)
        return self._run(src, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=causal)


class TransformerDecoder(_Stack):
    """A stack of decoder layers.

    Parameters
    ----------
    decoder_layer : TransformerDecoderLayer
        The layer, which is copied.
    num_layers : int
        How many there are.
    norm : Module, optional
        What comes behind them.
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__(decoder_layer, num_layers, norm)

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """Pass ``tgt`` through the layers, with ``memory`` from the encoder; the masks are those of `MultiheadAttention`."""
        return self._run(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=self._is_causal(tgt, tgt_mask, tgt_is_causal),
            memory_is_causal=memory_is_causal,
        )


class Transformer(Module):
    """An encoder and a decoder.

    Parameters
    ----------
    d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias
        As for `TransformerEncoderLayer`.
    num_encoder_layers, num_decoder_layers : int
        How many layers there are.
    custom_encoder, custom_decoder : Module, optional
        In place of `TransformerEncoder` and `TransformerDecoder`.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> model = nn.Transformer(8, 2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=16)
    >>> src, tgt = np.ones((5, 3, 8), dtype="float32"), np.ones((4, 3, 8), dtype="float32")
    >>> model(src, tgt, tgt_mask=model.generate_square_subsequent_mask(4)).shape
    (4, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Any], Any] = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype, "xp": xp}
        how = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **where)

        if custom_encoder is None:
            custom_encoder = TransformerEncoder(TransformerEncoderLayer(*how, **where), num_encoder_layers, norm())
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(TransformerDecoderLayer(*how, **where), num_decoder_layers, norm())
        self.encoder, self.decoder = custom_encoder, custom_decoder
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def _reset_parameters(self) -> None:
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """Encode ``src``, and decode ``tgt`` with it.

        Parameters
        ----------
        src : array
            Shape (S, N, E); (N, S, E) where the batch comes first; (S, E) without one.
        tgt : array
            Shape (T, N, E), likewise.
        src_mask, tgt_mask, memory_mask : array, optional
            Shapes (S, S), (T, T) and (T, S), or with N * nhead in front: True where a position may *not* be seen; or what is added to scores.
        src_key_padding_mask, tgt_key_padding_mask, memory_key_padding_mask : array, optional
            Shapes (N, S), (N, T) and (N, S): True for positions that do not count; or what is added to scores.
        src_is_causal, tgt_is_causal, memory_is_causal : bool, optional
            Whether a mask is the causal one; None to look.
        """
        batch = 0 if self.batch_first else 1
        if len(src.shape) != len(tgt.shape) or (len(src.shape) == 3 and src.shape[batch] != tgt.shape[batch]):
            raise ValueError(f"Transformer: src of shape {tuple(src.shape)} and tgt of shape {tuple(tgt.shape)} are not of one batch")
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise ValueError(f"Transformer: src and tgt have {self.d_model} features; got shapes {tuple(src.shape)} and {tuple(tgt.shape)}")
        memory = self.encoder(src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal)
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None, *, xp: Any = None) -> Any:
        """Give the causal mask: minus infinity where a position comes later, zero elsewhere.

        Examples
        --------
        >>> from agnostic_ad import nn
        >>> nn.Transformer.generate_square_subsequent_mask(2)
        array([[  0., -inf],
               [  0.,   0.]], dtype=float32)
        """
        where = place(xp, dtype, device)
        assert where.backend is not None
        return where.backend.from_numpy(_hidden(sz).astype(dtype_name(where.dtype)), where.device)
