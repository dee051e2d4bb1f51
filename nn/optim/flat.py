"""Parameters in one piece of memory: what an elementwise update changes is a few long arrays, not many short ones.

Where a library's arrays can be views, the parameters of a group that share dtype and device are views of one `Buffer`, and so is what is
remembered of them. A step goes over runs of neighbours, piece by piece, so that its temporaries stay in the cache.

`Buffer._update` is the one place where a formula meets memory; a backend that compiles elementwise functions runs it there in one pass.

Nobody else's array changes: a buffer that somebody else looks into (a graph, a user who kept ``p.data``) is left to them, and the step
goes on in a copy.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from agnostic_ad import Variable
from agnostic_ad.namespaces import backend_of
from agnostic_ad.nn.optim.rule import Formula, apply, apply_real, start
from agnostic_ad.nn.parameter import adopt, assign

__all__ = ["Memory"]

SMALL = 1 << 14
"""Neighbours are taken together up to so many elements: beyond, copying their gradients into one array costs more than it saves."""


class _Slot:
    __slots__ = ("payload",)
    payload: Any


# what a view counts that only its parameter and its place hold: measured, because interpreters differ in how they pass arguments
_SLOT, _DICT = _Slot(), {"": object()}
_SLOT.payload = _DICT[""]
_ALONE = sys.getrefcount(_DICT[""])


class Place:
    """Where one parameter lies.

    Attributes
    ----------
    start, stop : int
        Its part of the buffer.
    views : dict of str to array
        That part in the parameter's shape: of the parameter ("") and of the arrays of its state.
    """

    __slots__ = ("buffer", "start", "state", "stop", "variable", "views")

    def __init__(self, buffer: Buffer, variable: Variable, state: dict[str, Any], start: int) -> None:
        self.buffer, self.variable, self.state = buffer, variable, state
        self.start, self.stop = start, start + math.prod(variable.payload.shape)
        self.views: dict[str, Any] = {}

    def fits(self) -> bool:
        """Tell whether the parameter is still of this library, dtype, device and shape."""
        mine, theirs, xp = self.views[""], self.variable.payload, self.buffer.xp
        same = mine is theirs or (type(mine) is type(theirs) and mine.dtype == theirs.dtype and mine.shape == theirs.shape)
        return same and bool(mine is theirs or xp.device(mine) == xp.device(theirs))

    def private(self) -> bool:
        """Tell whether the parameter is the view, and nobody else holds that."""
        return self.variable.payload is self.views[""] and sys.getrefcount(self.views[""]) <= _ALONE


class Buffer:
    """The memory of some parameters of one library, dtype and device.

    Parameters
    ----------
    xp : Backend
        The library.
    rule : Formula
        What will update them.
    members : list of (Variable, dict)
        The parameters and their states.
    """

    def __init__(self, xp: Any, rule: Formula, members: list[tuple[Variable, dict[str, Any]]]) -> None:
        self.xp, self.rule = xp, rule
        self.arrays: dict[str, Any] = {}
        self.places: list[Place] = []
        end = 0
        for v, state in members:
            self.places.append(Place(self, v, state, end))
            end = self.places[-1].stop
        for name in ("", *(name for name in rule.arrays if name in members[0][1])):
            self.gather(name)

    def gather(self, name: str) -> None:
        """Lay the parameters (""), or one array of all their states, down anew, in memory of their own."""
        xp, places = self.xp, self.places
        parts = [xp.reshape(p.state[name] if name else p.variable.payload, (-1,)) for p in places]
        whole = self.arrays[name] = xp.concat(parts) if len(parts) > 1 else xp.own(parts[0])
        for place in places:
            view = place.views[name] = xp.reshape(whole[place.start : place.stop], place.variable.payload.shape)
            if name:
                place.state[name] = view
            else:
                assign(place.variable, view)
        del parts, whole, view
        if not name:
            self._holders = self._count()

    def _count(self) -> tuple[int, Any]:
        """Count what refers to the parameters' memory."""
        return sys.getrefcount(self.arrays[""]), self.xp.sharers(self.arrays[""])

    def settle(self, used: list[tuple[Place, Any]]) -> None:
        """See to it that what is about to be changed lies here, and that nobody else looks at the parameters."""
        if self._count() != self._holders or not all(place.private() for place, _ in used):
            self.gather("")
        for name in self.arrays:
            if name and any(place.state.get(name) is not place.views[name] for place, _ in used):
                self.gather(name)

    def update(self, used: list[tuple[Place, Any]], h: Any) -> None:
        """Change parameters and states by the gradients."""
        run: list[tuple[Place, Any]] = []
        last: dict[str, Any] = {}
        for place, grad in used:
            numbers = {name: place.state[name] for name in self.rule.numbers if name in place.state}
            near = run and run[-1][0].stop == place.start and place.stop - run[0][0].start <= SMALL
            if not near or numbers != last:
                self._update(run, last, h)
                run, last = [], numbers
            run.append((place, grad))
        self._update(run, last, h)

    def _update(self, run: list[tuple[Place, Any]], numbers: dict[str, Any], h: Any) -> None:
        """Change neighbours whose numbers are the same."""
        if not run:
            return
        xp, first, last = self.xp, run[0][0].start, run[-1][0].stop
        grads = [xp.reshape(g, (-1,)) for _, g in run]
        grad = xp.concat(grads) if len(grads) > 1 else grads[0]
        pieces = {name: whole[first:last] for name, whole in self.arrays.items()}
        changes = xp.in_one_pass(partial(self._one, numbers, h), {**pieces, "grad": grad})
        if changes is None:
            changes = self._piece_by_piece(pieces, grad, numbers, h)
        for place, _ in run:
            place.state.update((name, changes[name]) for name in numbers if name in changes)

    def _one(self, numbers: dict[str, Any], h: Any, xp: Any, arrays: dict[str, Any]) -> dict[str, Any]:
        """Give what a step makes of arrays, the gradient among them."""
        p, grad = arrays.pop(""), arrays.pop("grad")
        new, changes = apply_real(xp, self.rule, p, grad, {**numbers, **arrays}, h)
        return {**changes, "": new}

    def _piece_by_piece(self, arrays: dict[str, Any], grad: Any, numbers: dict[str, Any], h: Any) -> dict[str, Any]:
        """Do a step to arrays; give what it makes of numbers."""
        size, changes = grad.shape[0], dict[str, Any]()
        length = self.xp.blocks or max(size, 1)
        for at in range(0, max(size, 1), length):
            views = {name: whole[at : at + length] for name, whole in arrays.items()}
            changes = self._one(numbers, h, self.xp, {**views, "grad": grad[at : at + length]})
            for name, view in views.items():
                if changes.get(name, view) is not view:
                    view[...] = changes[name]
        return changes


class Memory:
    """Where the parameters of one group lie, and how a step changes them.

    Parameters
    ----------
    rule : Formula
        The update.
    states : mapping of Variable to dict
        What is remembered; here it is begun where it is not yet.
    members : list of Variable
        The parameters.
    h : namespace
        The hyperparameters.
    """

    def __init__(self, rule: Formula, states: dict[Variable, dict[str, Any]], members: list[Variable], h: Any) -> None:
        self.rule, self.settings = rule, _settings(h)
        self.places: dict[Variable, tuple[Place | None, dict[str, Any]]] = {}
        together: dict[Any, list[tuple[Variable, dict[str, Any]]]] = {}
        for v in members:
            xp, state = backend_of(v.payload), states.setdefault(v, {})
            _begin(xp, rule, v.payload, state, h)
            self.places[v] = None, state
            if rule.elementwise and xp.mutable and xp.sharers(v.payload) is not None and xp.kind(v.dtype) == "f":
                together.setdefault((xp, v.dtype, str(v.device)), []).append((v, state))
        for (xp, *_), those in together.items():
            self.places.update((place.variable, (place, place.state)) for place in Buffer(xp, rule, those).places)

    def serves(self, states: Mapping[Variable, dict[str, Any]], used: list[tuple[Variable, Any]], h: Any) -> bool:
        """Tell whether everything is still where it was."""
        if self.settings != _settings(h):
            return False
        for v, _ in used:
            place, state = self.places.get(v, (None, None))
            if state is None or states.get(v) is not state or not (place is None or place.fits()):
                return False
        return True

    def step(self, used: list[tuple[Variable, Any]], h: Any) -> None:
        """Change parameters and states by the gradients."""
        together: dict[Buffer, list[tuple[Place, Any]]] = {}
        for v, grad in used:
            place, state = self.places[v]
            if place is not None:
                together.setdefault(place.buffer, []).append((place, grad))
                continue
            xp = backend_of(v.payload)
            p, changes = apply(xp, self.rule, xp.own(v.payload), grad, state, h)
            state.update(changes)
            assign(v, p)
        for buffer, those in together.items():
            buffer.settle(those)
            buffer.update(those, h)


def _settings(h: Any) -> tuple[bool, ...]:
    """Tell which hyperparameters are on: a state's arrays depend on that."""
    return tuple(bool(value) for value in vars(h).values())


def _begin(xp: Any, rule: Formula, p: Any, state: dict[str, Any], h: Any) -> None:
    """Put into a state what it lacks, and move what it has to where the parameter is."""
    if xp.kind(p.dtype) not in "fc":
        raise TypeError(f"{rule.name}: parameters are floating or complex, not {p.dtype}")
    for name in rule.arrays:
        if name in state and not (
            backend_of(state[name]) is xp and state[name].dtype == p.dtype and xp.device(state[name]) == xp.device(p)
        ):
            state[name] = adopt(state[name], p)
    fresh = start(xp, rule, p, h)
    if state and "step" in fresh:
        state.setdefault("step", 1)  # from where steps are not counted
    for name, value in fresh.items():
        state.setdefault(name, value)
