"""What is done to a definition before its net is built: layers chosen by the net's state, and Split layers put in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agnostic_ad.nn.caffe.message import DefinitionError, Message

__all__ = ["State", "chosen", "with_splits"]


class State(NamedTuple):
    """What the rules of layers ask for: the phase, the level and the stages of a net."""

    phase: str = "TRAIN"
    level: int = 0
    stages: tuple[str, ...] = ()

    def meets(self, rule: Message) -> bool:
        """Tell whether a NetStateRule is met in every part."""
        return not (
            (rule.has("phase") and rule.phase != self.phase)
            or (rule.has("min_level") and self.level < rule.min_level)
            or (rule.has("max_level") and self.level > rule.max_level)
            or not set(rule.stage) <= set(self.stages)
            or set(rule.not_stage) & set(self.stages)
        )


def chosen(layers: Sequence[Message], state: State) -> list[Message]:
    """Give the layers that a state has: all that no ``include`` leaves out and no ``exclude`` throws out."""
    kept = []
    for layer in layers:
        if layer.include and layer.exclude:
            raise DefinitionError(f"{layer.at()}layer {layer.name!r} has rules to include and rules to exclude it; one kind is possible")
        if any(map(state.meets, layer.include)) if layer.include else not any(map(state.meets, layer.exclude)):
            kept.append(layer)
    return kept


def with_splits(layers: Sequence[Message]) -> list[Message]:
    """Give copies of the layers, with a Split layer after each top that several layers read, so that its gradients are added.

    A top that is read and also counts in the loss is split as well. The names are Caffe's.
    """
    source: dict[str, tuple[int, int]] = {}  # the last top of each name: its layer's number, and its number among that layer's tops
    sources: dict[tuple[int, int], tuple[int, int]] = {}
    uses: dict[tuple[int, int], int] = {}
    weights: dict[tuple[int, int], float] = {}
    for i, layer in enumerate(layers):
        for j, name in enumerate(layer.bottom):
            if name not in source:
                known = ", ".join(source) or "none"
                raise DefinitionError(
                    f"{layer.at()}layer {layer.name!r} reads blob {name!r}, which no layer before it makes; there are so far: {known}"
                )
            sources[i, j] = source[name]
            uses[source[name]] = uses.get(source[name], 0) + 1
        for j, name in enumerate(layer.top):
            source[name] = i, j
        for j, weight in enumerate(layer.loss_weight[: len(layer.top)]):
            if weight:
                weights[i, j] = weight
                uses[i, j] = uses.get((i, j), 0) + 1
    made: list[Message] = []
    taken: dict[tuple[int, int], int] = {}
    for i, given in enumerate(layers):
        layer = given.copy()
        made.append(layer)
        for j, name in enumerate(given.bottom):
            top = sources[i, j]
            if uses[top] > 1:
                layer.bottom[j] = f"{_split_name(layers, top, name)}_{taken.get(top, 0)}"
                taken[top] = taken.get(top, 0) + 1
        for j, name in enumerate(given.top):
            count = uses.get((i, j), 0)
            if count > 1:
                called = _split_name(layers, (i, j), name)
                split = Message(
                    "LayerParameter", given.where, name=called, type="Split", bottom=[name], top=[f"{called}_{k}" for k in range(count)]
                )
                if (i, j) in weights:  # the first of them counts in the loss, in the place of the top
                    split.loss_weight = [weights[i, j], *[0.0] * (count - 1)]
                    layer.loss_weight[j] = 0.0
                    taken[i, j] = 1
                made.append(split)
    return made


def _split_name(layers: Sequence[Message], top: tuple[int, int], blob: str) -> str:
    return f"{blob}_{layers[top[0]].name}_{top[1]}_split"
