"""The parameters of a net, those of one name shared."""

from __future__ import annotations

from agnostic_ad.nn.caffe.blob import Blob
from agnostic_ad.nn.caffe.layer import Layer
from agnostic_ad.nn.caffe.message import Message

__all__ = ["Parameters"]


class Parameters:
    """All parameters of a net.

    Attributes
    ----------
    learnable : list of Blob
        Each once, in the order of the layers.
    """

    def __init__(self) -> None:
        self.learnable: list[Blob] = []
        self._owners: dict[str, tuple[Layer, Blob]] = {}
        self._said: set[tuple[str, int]] = set()  # multipliers that a definition gave, rather than the default

    def add(self, layer: Layer, blob: Blob, spec: Message) -> None:
        """Note a layer's parameter; where its ParamSpec has the name of one that is there, hold that one's arrays."""
        found = self._owners.get(spec.name) if spec.name else None
        if found is None:
            if spec.name:
                self._owners[spec.name] = layer, blob
            self.learnable.append(blob)
            found = layer, blob
        first, owner = found
        if owner is not blob:
            fits = blob.count == owner.count if spec.share_mode == "PERMISSIVE" else blob.shape == owner.shape
            if not fits:
                raise layer.fail(
                    f"parameter {spec.name!r} of shape {blob.shape} cannot be shared with that of layer {first.name!r}, of shape {owner.shape}"
                )
            blob.share_data(owner)
            blob.share_diff(owner)
        for what in ("lr_mult", "decay_mult"):
            given, before, key = getattr(spec, what), getattr(owner, what), (what, id(owner))
            if spec.has(what):
                if key in self._said and given != before:
                    raise layer.fail(
                        f"parameter {spec.name!r} has {what} {given} here and {before} in layer {first.name!r}, which shares it"
                    )
                self._said.add(key)
                setattr(owner, what, given)
            setattr(blob, what, getattr(owner, what))
