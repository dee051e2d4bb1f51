"""What ``debug_info`` asks for: the mean magnitude of what each layer computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agnostic_ad.nn.caffe.blob import Blob

if TYPE_CHECKING:
    from agnostic_ad.nn.caffe.net import Net

__all__ = ["backward_lines", "forward_lines", "total_line"]


def _mean(blob: Blob, what: str) -> float:
    return float(blob.xp.sum(blob.xp.abs(getattr(blob, what)))) / max(blob.count, 1)


def forward_lines(net: Net, i: int) -> list[str]:
    """Tell of a layer's tops and parameters."""
    layer = net.layers[i]
    lines = [f"    [Forward] Layer {layer.name}, top blob {blob.name} data: {_mean(blob, 'data'):.6g}" for blob in net.tops[i]]
    return lines + [f"    [Forward] Layer {layer.name}, param blob {j} data: {_mean(b, 'data'):.6g}" for j, b in enumerate(layer.blobs)]


def backward_lines(net: Net, i: int) -> list[str]:
    """Tell of the gradients that a layer computed."""
    layer = net.layers[i]
    bottoms = [blob for blob, wanted in zip(net.bottoms[i], net.propagate_down[i]) if wanted]
    params = [(j, blob) for j, (blob, wanted) in enumerate(zip(layer.blobs, layer.param_propagate_down)) if wanted]
    lines = [f"    [Backward] Layer {layer.name}, bottom blob {blob.name} diff: {_mean(blob, 'diff'):.6g}" for blob in bottoms]
    return lines + [f"    [Backward] Layer {layer.name}, param blob {j} diff: {_mean(blob, 'diff'):.6g}" for j, blob in params]


def total_line(net: Net) -> str:
    """Tell of all parameters together."""
    arrays = [[(p.xp, getattr(p, what)) for p in net.learnable_params] for what in ("data", "diff")]
    one = [sum(float(xp.sum(xp.abs(a))) for xp, a in kept) for kept in arrays]
    two = [sum(float(xp.sum(a * a)) for xp, a in kept) ** 0.5 for kept in arrays]
    return f"    [Backward] All net params (data, diff): L1 norm = ({one[0]:.6g}, {one[1]:.6g}); L2 norm = ({two[0]:.6g}, {two[1]:.6g})"
