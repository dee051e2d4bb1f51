"""Layers that look up rows of a table."""

from __future__ import annotations

from typing import Any, Self

from agnostic_ad.nn import functional as F
from agnostic_ad.nn import init
from agnostic_ad.nn.functional.embeddings import padding
from agnostic_ad.nn.module import Module
from agnostic_ad.nn.parameter import Parameter, assign, new_parameter

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    """A table, one row for each of the numbers below ``num_embeddings``."""

    def _make(self, num_embeddings: int, embedding_dim: int, given: Any, place: tuple[Any, Any, Any], frozen: bool) -> None:
        name, (xp, dtype, device) = type(self).__name__, place
        if num_embeddings < 0 or embedding_dim < 0:
            raise ValueError(f"{name}: the sizes of a table are 0 or more; got {num_embeddings} rows of {embedding_dim}")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if given is not None:
            self.weight = Parameter(given, requires_grad=not frozen)
            if tuple(self.weight.shape) != (num_embeddings, embedding_dim):
                raise ValueError(f"{name}: _weight has shape {tuple(self.weight.shape)}; {(num_embeddings, embedding_dim)} is wanted")
            return
        self.weight = new_parameter((num_embeddings, embedding_dim), xp, dtype, device)
        self.weight.requires_grad = not frozen
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the rows from the standard normal distribution; the one that fills up is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            raw, xp = self.weight.payload, self.weight.backend
            row = xp.zeros((self.embedding_dim,), dtype=raw.dtype, device=xp.device(raw))
            assign(self.weight, xp.setitem(raw, row, key=(self.padding_idx, slice(None))))

    def _said(self, more: str = "") -> str:
        """Give what the two layers' representations begin with."""
        said = f"{self.num_embeddings}, {self.embedding_dim}{more}"
        if self.max_norm is not None:
            said += f", max_norm={self.max_norm}"
        if self.norm_type != 2:
            said += f", norm_type={self.norm_type}"
        return said + (f", scale_grad_by_freq={self.scale_grad_by_freq}" if self.scale_grad_by_freq else "")


class Embedding(_Table):
    """Look up rows of a table that is learned; see `agnostic_ad.nn.functional.embedding`.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        The number of rows, V, and of columns, D.
    padding_idx : int, optional
        The row that fills up sequences: zeros at first, without a gradient. Negative numbers count from the end.
    max_norm : float, optional
        The largest norm of a row: longer ones are shortened, in the parameter itself, when they are looked up.
    norm_type : float
        The order of that norm.
    scale_grad_by_freq : bool
        Whether to divide the gradient of each row by how often it is looked up.
    sparse : bool
        Accepted for PyTorch's sake; gradients are arrays like any other.
    _weight : array, optional
        The table itself.
    _freeze : bool
        Whether it is not to be trained.
    device, dtype, xp
        Where the parameter lives; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    weight : Parameter
        Shape (V, D), drawn from the standard normal distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.Embedding(10, 3)(np.asarray([[1, 2], [4, 5]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        self.padding_idx = padding("Embedding", padding_idx, num_embeddings)
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = max_norm, norm_type, scale_grad_by_freq, sparse
        self._make(num_embeddings, embedding_dim, _weight, (xp, dtype, device), _freeze)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """Make a layer of a table of shape (V, D), which by default is not trained.

        Examples
        --------
        >>> import numpy as np
        >>> from agnostic_ad import nn
        >>> nn.Embedding.from_pretrained(np.eye(3))(np.asarray(1)).data
        array([0., 1., 0.])
        """
        return cls(*_sizes(cls, embeddings), padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def forward(self, input: Any) -> Any:
        """Give the rows of the numbers in ``input``, of any shape, with an axis for their columns behind."""
        return F.embedding(input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse)

    def extra_repr(self) -> str:
        """Give the sizes, and what differs from the defaults."""
        fills = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return self._said(fills) + (", sparse=True" if self.sparse else "")


class EmbeddingBag(_Table):
    """Look up bags of rows of a table that is learned, and reduce each to one; see `agnostic_ad.nn.functional.embedding_bag`.

    Parameters
    ----------
    num_embeddings, embedding_dim, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, device, dtype, xp
        As for `Embedding`.
    mode : {"mean", "sum", "max"}
        How to reduce.
    include_last_offset : bool
        Whether offsets say last where the last bag ends.
    padding_idx : int, optional
        The row that fills up bags: it does not count.

    Attributes
    ----------
    weight : Parameter
        Shape (V, D), drawn from the standard normal distribution.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> nn.EmbeddingBag(10, 3, mode="sum")(np.asarray([1, 2, 4, 5]), np.asarray([0, 3])).shape
    (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        self.padding_idx = padding("EmbeddingBag", padding_idx, num_embeddings)
        self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse = max_norm, norm_type, scale_grad_by_freq, sparse
        self.mode, self.include_last_offset = mode, include_last_offset
        self._make(num_embeddings, embedding_dim, _weight, (xp, dtype, device), False)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """Make a layer of a table of shape (V, D), which by default is not trained."""
        sizes = _sizes(cls, embeddings)
        layer = cls(*sizes, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings, include_last_offset, padding_idx)
        layer.weight.requires_grad = not freeze
        return layer

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        """Give a row for each bag in ``input``: shape (B, D)."""
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        """Give the sizes, how bags are reduced, and what differs from the defaults."""
        return self._said() + f", mode={self.mode!r}" + ("" if self.padding_idx is None else f", padding_idx={self.padding_idx}")


def _sizes(cls: type, embeddings: Any) -> tuple[int, int]:
    """Give the sizes of a table."""
    if len(embeddings.shape) != 2:
        raise ValueError(f"{cls.__name__}.from_pretrained: a table has shape (rows, columns), not {tuple(embeddings.shape)}")
    return tuple(embeddings.shape)
