"""Faults in the op table: what each one changes, and how it is planted on an operation and taken out again.

A fault changes one part of one entry: a reverse rule, a forward rule, the batching rule, the rule for shapes and dtypes, or what a composite
is made of. There are two sorts. *Wrappers* change what a part is given or gives. *Edits* change one place in the rule's own bytecode: a sign, a
term, a conjugate, a constant, a comparison; helpers that an elementwise rule calls count, and are changed for this operation alone. Batching rules, and
the numerical methods that formulas of `special` call, are wrapped but not edited.

The records on which every path looks rules up (`op.Reverse`, the quick path's own among them) are changed in place, so the engine runs as it
always does. Values of raw arrays are never changed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from agnostic_ad.conformance.edits import edits, recoded, replaced, written
from agnostic_ad.namespaces import COMPLEX, ShapeDtype
from agnostic_ad.op import TABLE, ZERO, Op, Reverse

__all__ = ["Fault", "faults", "planted"]

Change = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes the wrong function of the right one."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    op, part, what : str
        The operation; the part of its entry ("reverse 0" for the rule of the first operand, "forward 0", "pushforward", "batch",
        "abstract", "composite"; "rules" where one function serves several); what is wrong with it.
    kind : str
        What is wrong, in general terms.
    slots : tuple of str
        The attributes of the operation that are changed.
    change : callable
        Makes the wrong function of each right one.
    position : int or None
        Of the operand whose rule is changed; None for all.
    """

    op: str
    part: str
    what: str
    kind: str
    slots: tuple[str, ...]
    change: Change
    position: int | None = None

    def __str__(self) -> str:
        return f"{self.op} | {self.part} | {self.what}"


# --- planting -----------------------------------------------------------------------------------------------------------------------------
_REVERSE = ("rules", "conj_rules", "seeded")


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Plant a fault while the block runs.

    Examples
    --------
    >>> import numpy as np
    >>> import agnostic_ad as ad
    >>> from agnostic_ad.conformance.faults import faults, planted
    >>> sign = next(f for f in faults("sin") if f.part == "reverse 0" and f.kind == "sign flipped")
    >>> xp = ad.differentiable(np)
    >>> with planted(sign):
    ...     print(ad.grad(xp.sin)(0.0))
    -1.0
    >>> print(ad.grad(xp.sin)(0.0))
    1.0
    """
    op = TABLE[fault.op]
    records = _records(op)
    kept = {slot: getattr(op, slot) for slot in ("jvps", "pushforward", "batch", "abstract", "composite", "accumulate")}
    before = [{slot: getattr(r, slot) for slot in (*_REVERSE, "elementwise", "accumulate")} for _, r in records]
    try:
        for slot in fault.slots:
            if slot in ("rules", "conj_rules"):
                for positions, record in records:
                    _change_rules(record, positions, fault, _REVERSE if slot == "rules" else ("conj_rules",))
            elif slot == "elementwise":
                for _, record in records:
                    record.elementwise = False
            elif slot == "jvps":
                op.jvps = tuple(
                    r if r is None or r is ZERO or fault.position not in (None, i) else fault.change(r) for i, r in enumerate(op.jvps)
                )
            else:
                setattr(op, slot, fault.change(getattr(op, slot)))
                if slot == "accumulate":
                    for _, record in records:
                        record.accumulate = op.accumulate
        yield
    finally:
        for slot, value in kept.items():
            setattr(op, slot, value)
        for (_, record), values in zip(records, before, strict=True):
            for slot, value in values.items():
                setattr(record, slot, value)


def _records(op: Op) -> list[tuple[tuple[int, ...], Reverse]]:
    """Give the records of reverse rules for all sets of operands that a node may have."""
    if not op.vjps:
        return []
    given = [i for i, r in enumerate(op.vjps) if r is not None and r is not ZERO]
    sets = [(0,)] if op.variadic else itertools.chain.from_iterable(itertools.combinations(given, n) for n in range(1, len(given) + 1))
    return [(s, op.reverse(s)) for s in sets]


def _change_rules(record: Reverse, positions: tuple[int, ...], fault: Fault, slots: Sequence[str]) -> None:
    if fault.position is not None and fault.position not in positions:
        return
    for slot in slots:
        rules = getattr(record, "rules" if fault.slots == ("conj_rules",) else slot)
        changed = tuple(fault.change(r) if fault.position in (None, i) else r for i, r in zip(positions, rules, strict=True))
        setattr(record, slot, changed)


# --- wrappers -----------------------------------------------------------------------------------------------------------------------------
def _each(change: Callable[[Any, Any], Any], xp: Any, y: Any) -> Any:
    if isinstance(y, tuple | list):
        return tuple(_each(change, xp, part) for part in y)
    return change(xp, y) if hasattr(y, "dtype") else y


def _narrow(xp: Any, x: Any) -> Any:
    name = {"float64": "float32", "complex128": "complex64"}.get(str(x.dtype).rpartition(".")[2])
    return x if name is None else xp.astype(x, getattr(xp, name))


def _rolled(xp: Any, x: Any) -> Any:
    return xp.reshape(xp.roll(xp.reshape(x, (-1,)), 1), tuple(x.shape))


RESULTS: dict[str, Callable[[Any, Any], Any]] = {
    "sign flipped": lambda xp, x: -x,
    "off by a factor": lambda xp, x: x * 2,
    "rounded to float32": lambda xp, x: xp.astype(_narrow(xp, x), x.dtype),
    "elements out of place": _rolled,
    "ZERO in place of a rule": lambda xp, x: xp.zeros_like(x),
    "wrong cast": _narrow,
}
"""What may be wrong with a derivative."""


def _result(change: Callable[[Any, Any], Any]) -> Change:
    return lambda fn: lambda xp, *args, **params: _each(change, xp, fn(xp, *args, **params))


def _inexact(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda xp, x: change(xp, x) if "float" in str(x.dtype) or x.dtype in COMPLEX else x


def _saved(change: Callable[[Any, tuple[Any, ...]], Sequence[Any]]) -> Change:
    return lambda rule: lambda xp, ct, s, p, *rest: rule(xp, ct, tuple(change(xp, s)), p, *rest)


def _axis(params: dict[str, Any]) -> dict[str, Any]:
    def other(axis: Any) -> Any:
        return tuple(a - 1 for a in axis) if isinstance(axis, tuple) else axis - 1 if isinstance(axis, int) else axis

    return {n: other(v) if n in ("axis", "dim", "axes") else v for n, v in params.items()}


def _wrong_axis(rule: Callable[..., Any]) -> Callable[..., Any]:
    return lambda xp, ct, s, p, *rest: rule(xp, ct, s, _axis(p), *rest)


def _reverse_faults(op: Op) -> Iterator[Fault]:
    for positions, record in _records(op):
        if len(positions) != 1:
            continue
        (i,) = positions
        part, place = f"reverse {i}", None if op.variadic else i

        def fault(what: str, change: Change, kind: str = "", slot: str = "rules", part: str = part, place: Any = place) -> Fault:
            return Fault(op.name, part, what, kind or what, (slot,), change, place)

        for what, change in RESULTS.items():
            yield fault(what, _result(change))
        arrays = record.array_saves or ()
        if op.elementwise and len(op.arrays) == 1 and arrays:
            yield fault("wrong saved value", _saved(functools.partial(_applied, op, arrays[0])))
        elif len(arrays) > 1 and record.joint is None:  # a joint rule has used them already
            yield fault("wrong saved value", _saved(functools.partial(_exchanged, arrays[0], arrays[1])))
        if any(n in ("axis", "axes", "dim") for n in op.params) and record.joint is None:
            yield fault("wrong axis", _wrong_axis)
        if op.derive and (isinstance(op.vjps[i], str) or callable(op.vjps[i])) and _takes(op, "c"):
            yield fault("conj dropped", lambda rule: rule, slot="conj_rules")
        if op.elementwise and len(op.arrays) > 1:
            yield fault("missing unbroadcast", lambda rule: rule, slot="elementwise")
    if len(op.vjps) == 2 and not {None, ZERO} & set(op.vjps):
        first, second = (op.reverse((i,)) for i in (0, 1))
        if op.reverse((0, 1)).saves[:2] == op.arrays:  # both are kept, and each rule is given the wrong one
            swap = _saved(lambda xp, s: _swapped(s, 0, 1) if len(s) > 1 else s)
            yield Fault(op.name, "reverse 0 and 1", "operands swapped", "operands swapped", ("rules",), swap)
        elif first.saves == second.saves and _identity(op.vjps[0]) != _identity(op.vjps[1]):
            yield Fault(op.name, "reverse 0", "operands swapped", "operands swapped", ("rules",), lambda _: second.rules[0], 0)
    if op.accumulate is not None:
        yield Fault(
            op.name, "accumulate", "forgets what is there", "a term dropped", ("accumulate",),
            lambda fn: lambda xp, start, *rest: fn(xp, None, *rest),
        )  # fmt: skip


def _applied(op: Op, k: int, xp: Any, s: tuple[Any, ...]) -> list[Any]:
    return [op.at(xp)(v) if j == k else v for j, v in enumerate(s)]


def _exchanged(a: int, b: int, xp: Any, s: tuple[Any, ...]) -> list[Any]:
    return _swapped(s, a, b)


def _swapped(s: Sequence[Any], a: int, b: int) -> list[Any]:
    out = list(s)
    out[a], out[b] = out[b], out[a]
    return out


def _identity(rule: Any) -> Any:
    return rule.__code__ if isinstance(rule, FunctionType) else rule


def _takes(op: Op, kind: str) -> bool:
    return any(kind in case.kinds for case in op.cases or ())


def _forgets(position: int) -> Change:
    def change(fn: Callable[..., Any]) -> Callable[..., Any]:
        def pushforward(xp: Any, args: Any, y: Any, tangents: Any, params: Any) -> Any:
            left = tuple(None if i == position or t is None else t for i, t in enumerate(tangents))
            if all(t is None for t in left):
                return tuple(None for _ in y) if isinstance(y, tuple) else xp.zeros_like(y)
            return fn(xp, args, y, left, params)

        return pushforward

    return change


def _forward_faults(op: Op) -> Iterator[Fault]:
    for i, rule in enumerate(op.jvps):
        if rule is None or rule is ZERO:
            continue
        for what, change in RESULTS.items():
            if what != "wrong cast":  # the engine gives a tangent its primal's dtype
                what = "a tangent forgotten" if what == "ZERO in place of a rule" else what
                yield Fault(op.name, f"forward {i}", what, what, ("jvps",), _result(change), i)
    if op.pushforward is not None:
        for what, change in RESULTS.items():
            if what not in ("wrong cast", "ZERO in place of a rule"):
                yield Fault(op.name, "pushforward", what, what, ("pushforward",), _result(change))
        for i, name in enumerate(op.arrays):
            if i < max(1, len(op.vjps)) and not (op.vjps and op.vjps[i] is ZERO):
                yield Fault(
                    op.name, "pushforward", f"the tangent of {name} forgotten", "a tangent forgotten", ("pushforward",), _forgets(i)
                )


def _first_member(xp: Any, y: Any) -> Any:
    return xp.broadcast_to(y[0:1, ...], tuple(y.shape))


def _batch_faults(op: Op) -> Iterator[Fault]:
    if op.batch is None:
        return
    for what, change in (("batch axis forgotten", _first_member), ("batch axis misplaced", lambda xp, y: xp.moveaxis(y, 0, -1))):
        yield Fault(op.name, "batch", what, what, ("batch",), _result(change))


_OTHER = {"float64": "float32", "float32": "float64", "complex128": "complex64", "complex64": "complex128", "bool": "int64"}


def _other_dtype(xp: Any, a: ShapeDtype) -> ShapeDtype:
    return ShapeDtype(a.shape, xp.dtype(_OTHER.get(str(a.dtype).rpartition(".")[2], "float64")))


def _abstract_faults(op: Op) -> Iterator[Fault]:
    if op.abstract is None:
        return
    for what, change in (
        ("wrong shape rule: an axis too many", lambda xp, a: ShapeDtype((*a.shape, 1), a.dtype)),
        ("wrong shape rule: axes reversed", lambda xp, a: ShapeDtype(a.shape[::-1], a.dtype)),
        ("wrong dtype rule", _other_dtype),
    ):
        yield Fault(op.name, "abstract", what, what.partition(":")[0], ("abstract",), _result(change))


def _stopped(position: int | None) -> Change:
    def stop(xp: Any, x: Any) -> Any:
        return [stop(xp, part) for part in x] if isinstance(x, list | tuple) else xp.stop_gradient(x) if hasattr(x, "dtype") else x

    return lambda fn: (
        lambda xp, *args, **params: fn(xp, *(stop(xp, a) if position in (None, i) else a for i, a in enumerate(args)), **params)
    )


def _composite_faults(op: Op) -> Iterator[Fault]:
    if op.composite is None:
        return
    for what, change in RESULTS.items():
        if what not in ("ZERO in place of a rule", "wrong cast"):
            yield Fault(op.name, "composite", what, what, ("composite",), _result(_inexact(change)))
    if _takes(op, "f") and not op.named:
        yield Fault(
            op.name,
            "composite",
            f"no derivative of {op.arrays[0]}",
            "ZERO in place of a rule",
            ("composite",),
            _stopped(None if op.variadic else 0),
        )


# --- edits ---------------------------------------------------------------------------------------------------------------------------------
def _edit_faults(op: Op) -> Iterator[Fault]:
    parts: dict[str, list[Any]] = {"rules": [], "jvps": list(op.jvps)}
    for _, record in _records(op):
        parts["rules"] += [*record.rules, *record.conj_rules, *record.seeded]
    parts |= {slot: [getattr(op, slot)] for slot in ("pushforward", "composite")}
    users: dict[int, tuple[FunctionType, set[str]]] = {}
    for slot, roots in parts.items():
        for root in roots:
            for fn in written(root, op.elementwise and "." not in op.name):
                if op.name.startswith("special.") and fn.__name__ != "<lambda>":
                    continue  # a numerical method, whose branches for the far ends of the line have tests of their own
                users.setdefault(id(fn), (fn, set()))[1].add(slot)
    numbers: dict[str, int] = {}
    for fn, slots in users.values():
        slot_names = {"rules": "reverse", "jvps": "forward"}
        part = " and ".join(sorted(slot_names.get(s, s) for s in slots))
        name = fn.__qualname__.replace(".<locals>", "")
        numbers[name] = numbers.get(name, 0) + 1
        name += f" {numbers[name]}" if numbers[name] > 1 else ""
        for what, kind, code in edits(fn.__code__):
            new = recoded(fn, code)
            wrong = lambda root, fn=fn, new=new: replaced(root, fn, new)
            yield Fault(op.name, part, f"{name}: {what}", kind, tuple(sorted(slots)), wrong)


def faults(name: str) -> list[Fault]:
    """Give the faults that can be planted on an operation, always in the same order.

    Parameters
    ----------
    name : str
        The operation.

    Examples
    --------
    >>> from agnostic_ad.conformance.faults import faults
    >>> for fault in faults("sin"):
    ...     print(fault)  # doctest: +ELLIPSIS
    sin | reverse 0 | sign flipped
    ...
    """
    op = TABLE[name]
    makers = (_reverse_faults, _forward_faults, _batch_faults, _abstract_faults, _composite_faults, _edit_faults)
    return [fault for make in makers for fault in make(op)]
