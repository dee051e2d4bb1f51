"""A softmax over very many classes, most of which are rare."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from agnostic_ad.levels import unify
from agnostic_ad.nn import functional as F
from agnostic_ad.nn.containers import ModuleList, Sequential
from agnostic_ad.nn.functional.reductions import check_classes, known
from agnostic_ad.nn.linear import Linear
from agnostic_ad.nn.module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class _ASMoutput(NamedTuple):
    """The logarithms of the targets' probabilities, and the mean of them with the sign of a loss."""

    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """Give the logarithms of class probabilities, where frequent classes cost little to compute.

    The head knows the classes below the first cutoff, and one for each cluster of rarer ones; a cluster's own classes are computed from
    fewer features, and only for the samples whose target is in it.

    Parameters
    ----------
    in_features, n_classes : int
        The number of features, and of classes, the most frequent first.
    cutoffs : sequence of int
        Where the clusters begin; increasing, between 1 and ``n_classes - 1``.
    div_value : float
        What the number of features is divided by, from one cluster to the next.
    head_bias : bool
        Whether the head has a bias.
    device, dtype, xp
        Where the parameters live; by default as `agnostic_ad.defaults` says.

    Attributes
    ----------
    head : Linear
    tail : ModuleList
        Of each cluster, a sequence of two linear layers without bias.

    Notes
    -----
    Grave et al., "Efficient softmax approximation for GPUs" (arXiv:1609.04309).

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> layer = nn.AdaptiveLogSoftmaxWithLoss(16, 20, cutoffs=[5, 10])
    >>> output, loss = layer(np.ones((3, 16), dtype="float32"), np.asarray([0, 7, 19]))
    >>> output.shape, loss.shape, layer.log_prob(np.ones((3, 16), dtype="float32")).shape
    ((3,), (), (3, 20))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs or any(a >= b for a, b in pairwise([0, *cutoffs, n_classes])) or any(int(c) != c for c in cutoffs):
            raise ValueError(
                f"AdaptiveLogSoftmaxWithLoss: cutoffs are different integers between 1 and n_classes - 1 = {n_classes - 1}, increasing, "
                f"and one at least; got {cutoffs}"
            )
        self.in_features, self.n_classes, self.cutoffs = in_features, n_classes, [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype, xp=xp)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            size = int(in_features // div_value ** (i + 1))
            layers = (Linear(in_features, size, False, device, dtype, xp=xp), Linear(size, high - low, False, device, dtype, xp=xp))
            self.tail.append(Sequential(*layers))

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        for layer in (self.head, *(each for cluster in self.tail for each in cluster)):
            layer.reset_parameters()

    def forward(self, input_: Any, target_: Any) -> _ASMoutput:
        """Give ``output``, of shape (N,) or (), and ``loss``, for features of shape (N, in_features) or (in_features,) and class indices."""
        single = len(target_.shape) == 0
        if len(target_.shape) > 1 or len(input_.shape) != len(target_.shape) + 1 or tuple(input_.shape[:-1]) != tuple(target_.shape):
            raise ValueError(
                "AdaptiveLogSoftmaxWithLoss: features have shape (N, in_features) and class indices (N,), or (in_features,) and (); got "
                f"{tuple(input_.shape)} and {tuple(target_.shape)}"
            )
        check_classes("AdaptiveLogSoftmaxWithLoss", target_, self.n_classes, None)
        xp, (x, target) = unify([input_, target_])
        if single:
            x, target = xp.reshape(x, (1, -1)), xp.reshape(target, (1,))
        scores, picked, parts = self.head(x), target, []
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            inside = (target >= low) & (target < high)
            picked = xp.where(inside, xp.full_like(target, self.shortlist_size + i), picked)
            parts.append(_cluster(xp, self.tail[i], x, target - low, inside))
        xp, (scores, picked, *parts) = unify([F.log_softmax(scores, dim=1), picked, *parts])
        output = xp.nn.pick(scores, picked, axis=1)
        for part in parts:
            output = output if part is None else output + part
        output = xp.reshape(output, ()) if single else output
        return _ASMoutput(output, -xp.mean(output))

    def log_prob(self, input: Any) -> Any:
        """Give the logarithms of the probabilities of all classes, of shape (N, n_classes), for features of shape (N, in_features)."""
        head = F.log_softmax(self.head(input), dim=1)
        xp, short = unify([head])[0], self.shortlist_size
        parts = [head[:, :short]]
        parts += [F.log_softmax(cluster(input), dim=1) + head[:, short + i : short + i + 1] for i, cluster in enumerate(self.tail)]
        return xp.concat(parts, axis=1)

    def predict(self, input: Any) -> Any:
        """Give the most probable class of each sample, of shape (N,)."""
        scores = self.log_prob(input)
        return unify([scores])[0].argmax(scores, axis=1)


def _cluster(xp: Any, cluster: Any, x: Any, classes: Any, inside: Any) -> Any:
    """Give the logarithms of the targets' probabilities within their cluster, 0 for targets of others; None where there are none.

    Where looking at targets is cheap, the other samples are left out.
    """
    found = known(inside)
    size, rows = x.shape[0], None
    if found is not None:
        (rows,) = found[0].xp.nonzero(found[1])
        if rows.shape[0] == 0:
            return None
        x, classes = xp.take(x, rows, axis=0), xp.take(classes, rows, axis=0)
    else:
        classes = xp.where(inside, classes, xp.zeros_like(classes))
    scores = F.log_softmax(cluster(x), dim=1)
    xp = unify([scores, classes])[0]
    y = xp.nn.pick(scores, classes, axis=1)
    return xp.where(inside, y, xp.zeros_like(y)) if rows is None else xp.scatter_add(y, rows, size=size)
