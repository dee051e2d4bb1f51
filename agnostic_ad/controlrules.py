"""The derivatives and batches of control flow: ``cond``, ``while_loop`` and ``scan`` in every transformation.

Each rule makes other graphs of those in a node, by running them inside the transformation in question, and hands these to an operation of
the same kind one level down. So rules nest, and what they give is captured like anything else.

In reverse mode, a graph is run forward with further results: what its backward half needs. For loops these are stacked, round by round, and
the backward half is a ``scan`` over them from the last to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agnostic_ad.arguments import zeros
from agnostic_ad.batching import BatchLevel
from agnostic_ad.controlgraphs import (
    Flags,
    Halves,
    alive,
    depends,
    halves,
    kept,
    mapped,
    merged,
    moving_results,
    negated,
    pick,
    pushed,
    specs_of,
    staged,
    steady,
)
from agnostic_ad.errors import MissingRuleError
from agnostic_ad.flatrules import apply_rule
from agnostic_ad.forward import Dual, ForwardLevel
from agnostic_ad.graph.branches import flat_graph, spec_of, stage
from agnostic_ad.graph.control import cond
from agnostic_ad.graph.controlops import CALL, COND, SCAN, WHILE, ControlOp
from agnostic_ad.graph.ir import Graph, GraphNode
from agnostic_ad.graph.rounds import without_rounds
from agnostic_ad.levels import QUIET, Array, device_of, unify
from agnostic_ad.namespaces import ShapeDtype, lookup
from agnostic_ad.reverse import ReverseLevel, Variable
from agnostic_ad.tape import Parts
from agnostic_ad.transforms import vjp

__all__: list[str] = []


def _is_mine(level: Any, x: Any) -> bool:
    return isinstance(x, Array) and x.level is level


def _payloads(level: Any, args: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(x.payload if _is_mine(level, x) else x for x in args)


class Loop(NamedTuple):
    """The operands of a loop, by what they are for."""

    consts: int
    carries: int
    xs: int

    @classmethod
    def of(cls, op: ControlOp, args: Sequence[Any], params: dict[str, Any]) -> Loop:
        consts = params["consts"] if op is SCAN else len(args) - params["carries"]
        return cls(consts, params["carries"], len(args) - consts - params["carries"])

    def split(self, values: Sequence[Any]) -> tuple[Any, Any, Any]:
        end = self.consts + self.carries
        return values[: self.consts], values[self.consts : end], values[end:]


# --- reverse ------------------------------------------------------------------------------------------------------------------------------
class Pull(NamedTuple):
    """What the backward pass of one node needs beside what was saved."""

    wanted: Flags
    visible: int
    run: Callable[..., list[Any]]
    again: Callable[..., Any]


def _reverse(op: ControlOp, level: ReverseLevel, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    recording = level.depth > QUIET.get()
    wanted = tuple(recording and isinstance(a, Variable) and a.level is level and a.node is not None for a in args)
    if not any(wanted):
        return level.apply(op, args, params)
    device = device_of(args[0])
    given = (_reverse_cond if op is COND else _reverse_loop)(op, args, params, wanted, device)
    return level.apply(op, args, given)[: given["pull"].visible]


def _reverse_cond(op: ControlOp, args: Any, params: dict[str, Any], wanted: Flags, device: Any) -> dict[str, Any]:
    graphs = params["true"], params["false"]
    outs, n, m = moving_results(graphs[0]), len(args) - 1, len(graphs[0].outputs)
    first, second = (halves(g, wanted[1:], outs, (True,) * n, device) for g in graphs)

    def filled(half: Halves, other: Halves, swap: bool) -> Graph:
        def f(*xs: Any) -> Any:
            y, xp = half.forward(*xs), unify(list(xs))[0]
            none = tuple(xp.zeros(without_rounds(s.shape), dtype=s.dtype, device=device) for s in other.saved)
            return (*y[:m], *none, *y[m:]) if swap else (*y, *none)

        return staged(f, half.forward, specs_of(half.forward), device)

    def one(half: Halves, start: int) -> Callable[..., Any]:
        stop = start + len(half.saved)
        shapes = [spec_of(o).shape for o in pick(half.forward.outputs[:m], outs)]
        return lambda operands, saved, cts: half.backward(*operands, *saved[start:stop], *map(_in_one_row, cts, shapes))

    def run(xp: Any, cts: Sequence[Any], arrays: Any, y: Any) -> list[Any]:
        operands, saved = arrays[1:], y[m:]
        moving = [_zeros(xp, r) if ct is None else ct for ct, r in zip(pick(cts[:m], outs), pick(y[:m], outs), strict=True)]
        found = _chosen(arrays[0], one(first, 0), one(second, len(first.saved)), list(operands), list(saved), moving, device)
        return merged(wanted, found, [None] * (len(wanted) - sum(wanted)))

    pull = Pull(wanted, m, run, op.run)
    return {**params, "true": filled(first, second, False), "false": filled(second, first, True), "pull": pull}


def _in_one_row(ct: Any, shape: tuple[Any, ...]) -> Any:
    """Sum the cotangent of rows that the other branch's loop has, where this branch gives one row for them: see `without_rounds`."""
    axes = tuple(i for i, (n, row) in enumerate(zip(ct.shape, shape, strict=True)) if row == 1 != n)
    if not axes:
        return ct
    xp, (ct,) = unify([ct])
    return xp.sum(ct, axis=axes, keepdims=True)


def _chosen(pred: Any, true: Callable[..., Any], false: Callable[..., Any], operands: Any, saved: Any, cts: Any, device: Any) -> Any:
    """Run ``cond`` on what is there already: an operation, also where its values are known."""
    flat = (*operands, *saved, *cts)
    a, b = len(operands), len(operands) + len(saved)
    backend = next(x.backend if isinstance(x, Array) else lookup(x) for x in flat)
    specs = [(ShapeDtype(tuple(x.shape), x.dtype), device) for x in flat]
    graphs = [stage(lambda *xs, f=f: tuple(f(xs[:a], xs[a:b], xs[b:])), "cond, backward", backend, specs).graph for f in (true, false)]
    return COND.run((pred, *flat), {"true": graphs[0], "false": graphs[1], "pull": None})


def _reverse_loop(op: ControlOp, args: Any, params: dict[str, Any], wanted: Flags, device: Any) -> dict[str, Any]:
    body, loop = params["body"], Loop.of(op, args, params)
    before, carried, behind = loop.split(wanted)
    moving = steady(body, before, carried, behind, True)
    rows = moving_results(body)[loop.carries :]
    flags = (*before, *moving, *behind)
    half = halves(body, flags, (*moving, *rows), (*(True,) * loop.consts, *(False,) * loop.carries, *(True,) * loop.xs), device)
    m, forward = len(body.outputs), half.forward
    if op is WHILE:  # whether a round was done: under vmap, members stop at different ones
        forward = forward.rebuild(outputs=[*forward.outputs, body.backend.xp.asarray(True, device=device)])
        forward = flat_graph(forward.label, forward.nodes, forward.inputs, forward.outputs, forward.backend, forward.guards)

    def run(xp: Any, cts: Sequence[Any], arrays: Any, y: Any) -> list[Any]:
        consts, _, xs = loop.split(arrays)
        state = [
            _zeros(xp, r) if ct is None else ct
            for ct, r in zip(pick(cts[: loop.carries], moving), pick(y[: loop.carries], moving), strict=True)
        ]
        sums = [_zeros(xp, x) for x in pick(consts, before)]
        given = pick(cts[loop.carries : m], rows)
        present = tuple(ct is not None for ct in given)
        step = _pull_round(body, half, loop, before, moving, rows, present, op is WHILE, device)
        operands = (*consts, *state, *sums, *xs, *y[m:], *(ct for ct in given if ct is not None))
        back = {"body": step, "consts": loop.consts, "carries": len(state) + len(sums), "reverse": op is WHILE or not params["reverse"]}
        found = SCAN.run(operands, {**back, "length": params.get("length"), "pull": None})
        state, sums, rest = found[: len(state)], found[len(state) : len(state) + len(sums)], found[len(state) + len(sums) :]
        starts = merged(moving, state, [None] * (loop.carries - len(state)))
        return [
            *merged(before, sums, [None] * (loop.consts - len(sums))),
            *(ct if flag else None for ct, flag in zip(starts, carried, strict=True)),
            *merged(behind, rest, [None] * (loop.xs - len(rest))),
        ]

    return {**params, "body": forward, "pull": Pull(wanted, m, run, op.run)}


@kept
def _pull_round(
    body: Graph, half: Halves, loop: Loop, before: Flags, moving: Flags, rows: Flags, present: Flags, flagged: bool, device: Any
) -> Graph:
    """Give one round of the backward loop."""
    inputs, outputs = specs_of(body), [spec_of(o) for o in body.outputs]
    consts, _, xs = loop.split(inputs)
    state, sums = pick(outputs[: loop.carries], moving), pick(consts, before)
    given = pick(outputs[loop.carries :], rows)
    flag = [ShapeDtype((), body.backend.dtype("bool"))] if flagged else []
    groups = [consts, state, sums, xs, list(half.saved), flag, pick(given, present)]

    def f(*flat: Any) -> Any:
        left = iter(flat)
        fixed, cts, totals, row, saved, done, arrived = ([next(left) for _ in group] for group in groups)

        def go() -> Any:
            xp = unify(list(flat))[0]
            absent = [xp.zeros(s.shape, dtype=s.dtype, device=device) for s in pick(given, negated(present))]
            found = half.backward(*fixed, *row, *saved, *cts, *merged(present, arrived, absent))
            a, b = len(sums), len(sums) + len(state)
            return (*found[a:b], *(t + g for t, g in zip(totals, found[:a], strict=True)), *found[b:])

        return cond(done[0], go, lambda: (*cts, *totals)) if done else go()

    return staged(f, body, [s for group in groups for s in group], device, ", backward")


def _zeros(xp: Any, x: Any) -> Any:
    return xp.zeros(tuple(x.shape), dtype=x.dtype, device=device_of(x))


def _rule(op: ControlOp, names: tuple[str, ...]) -> Callable[..., Any]:
    """Give the reverse rule, which is told the parameters by name."""

    def pulled(xp: Any, ct: Parts, arrays: tuple[Any, ...], y: tuple[Any, ...], pull: Pull, params: dict[str, Any]) -> list[Any]:
        if all(c is None for c in ct[pull.visible :]):
            return pull.run(xp, ct, arrays, y)
        graphs = [g for g in params.values() if isinstance(g, Graph)]
        if any(node.effects for g in graphs for node in g.walk()):
            raise MissingRuleError(
                f"{op.name} draws random numbers, and a second derivative by create_graph would draw others. Use grad of grad."
            )
        arrived = tuple(c is not None for c in ct)
        rest = pick(arrays, negated(pull.wanted))

        def again(*moved: Any) -> Any:
            found = op.run(tuple(merged(pull.wanted, moved, rest)), {**params, "pull": None})
            return tuple(pick(found, arrived))

        found = vjp(again, *pick(arrays, pull.wanted))[1](tuple(pick(ct, arrived)))
        return merged(pull.wanted, found, [None] * (len(arrays) - len(found)))

    given = ", ".join(f"{n!r}: {n}" for n in names)
    return eval(f"lambda xp, ct, arrays, y, pull, {', '.join(names)}: f(xp, ct, arrays, y, pull, {{{given}}})", {"f": pulled})  # type: ignore[no-any-return]


# --- forward ------------------------------------------------------------------------------------------------------------------------------
def _forward(op: ControlOp, level: ForwardLevel, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    data = _payloads(level, args)
    tangents = [a.tangent if isinstance(a, Dual) and a.level is level else None for a in args]
    flags = tuple(t is not None for t in tangents)
    if not any(flags[1:] if op is COND else flags):
        return tuple(level.lift(y) for y in op.run(data, params))
    device = device_of(args[0])
    if op is COND:
        outs, n = moving_results(params["true"]), len(params["true"].outputs)
        graphs = {k: pushed(params[k], flags[1:], outs, device) for k in ("true", "false")}
        y = op.run((*data, *pick(tangents[1:], flags[1:])), {**graphs, "pull": None})
        return _duals(level, y[:n], outs, y[n:])
    body, loop = params["body"], Loop.of(op, args, params)
    before, carried, behind = loop.split(flags)
    moving = steady(body, before, carried, behind, True)
    rows, m = moving_results(body)[loop.carries :], len(body.outputs)
    whole = pushed(body, (*before, *moving, *behind), (*moving, *rows), device)
    starts = [
        zeros(x) if t is None else t for x, t in zip(pick(loop.split(data)[1], moving), pick(loop.split(tangents)[1], moving), strict=True)
    ]
    a, b = sum(before), sum(moving)
    n = len(args)

    def arranged(values: Sequence[Any], ts: Sequence[Any]) -> list[Any]:
        consts, carry, xs = loop.split(values)
        return [*consts, *ts[:a], *carry, *ts[a : a + b], *xs, *ts[a + b :]]

    inputs = arranged(whole.inputs[:n], whole.inputs[n:])
    out = whole.outputs
    outputs = [*out[: loop.carries], *out[m : m + b], *out[loop.carries : m], *out[m + b :]]
    step = flat_graph(whole.label, whole.nodes, inputs, outputs, whole.backend, whole.guards)
    given = {**params, "body": step, "carries": loop.carries + b, "pull": None}
    if op is SCAN:
        given["consts"] = loop.consts + a
    else:
        test = params["cond"]
        unused = [GraphNode(None, (), {}, (s,), f"unused{i}") for i, s in enumerate(specs_of(whole)[n:])]
        given["cond"] = flat_graph(test.label, test.nodes, arranged(test.inputs, unused), test.outputs, test.backend, test.guards)
    ts = [*pick(tangents[: loop.consts], before), *starts, *pick(loop.split(tangents)[2], behind)]
    y = op.run(tuple(arranged(data, ts)), given)
    k = loop.carries
    results = [*y[:k], *y[k + b : b + m]]
    return _duals(level, results, (*moving, *rows), [*y[k : k + b], *y[b + m :]])


def _duals(level: ForwardLevel, results: Sequence[Any], flags: Sequence[bool], tangents: Sequence[Any]) -> Any:
    left = iter(tangents)
    return tuple(level.dual(r, next(left) if flag else None) for r, flag in zip(results, flags, strict=True))


# --- batches ------------------------------------------------------------------------------------------------------------------------------
def _select(mask: Any, a: Any, b: Any) -> Any:
    """Give the members of one batch where ``mask`` is true, else those of the other."""
    xp, (mask, a, b) = unify([mask, a, b])
    return xp.where(xp.reshape(mask, (mask.shape[0], *(1,) * (a.ndim - 1))), a, b)


def _spread(x: Any, batched: bool, size: int) -> Any:
    """Give a batch, of what is the same for all members too."""
    if batched:
        return x
    xp, (x,) = unify([x])
    return xp.broadcast_to(x, (size, *x.shape))


def _moved(x: Any, source: int, target: int) -> Any:
    xp, (x,) = unify([x])
    return xp.moveaxis(x, source, target)


def _batch(op: ControlOp, level: BatchLevel, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    data, flags = _payloads(level, args), tuple(_is_mine(level, a) and a.batched for a in args)
    if not any(flags):
        return tuple(level.batched(y, False) for y in op.run(data, params))
    device = device_of(args[0])
    y, outs = (_batch_cond if op is COND else _batch_loop)(op, level.size, data, flags, params, device)
    return tuple(level.batched(part, flag) for part, flag in zip(y, outs, strict=True))


def _batch_cond(op: ControlOp, size: int, data: Any, flags: Flags, params: dict[str, Any], device: Any) -> Any:
    graphs = params["true"], params["false"]
    outs = tuple(a or b for a, b in zip(*(depends(g, flags[1:], False) for g in graphs), strict=True))
    if flags[0]:  # the members go different ways
        true, false = (mapped(g, flags[1:], outs, size, device)(*data[1:]) for g in graphs)
        whole = [[_spread(x, b, size) for x, b in zip(y, outs, strict=True)] for y in (true, false)]
        return [_select(data[0], a, b) for a, b in zip(*whole, strict=True)], (True,) * len(outs)
    true, false = (mapped(g, flags[1:], outs, size, device) for g in graphs)
    return op.run(data, {"true": true, "false": false, "pull": None}), outs


def _batch_loop(op: ControlOp, size: int, data: Any, flags: Flags, params: dict[str, Any], device: Any) -> Any:
    body, loop = params["body"], Loop.of(op, data, params)
    before, carried, behind = loop.split(flags)
    marked = steady(body, before, carried, behind, False)
    test, differ = params.get("cond"), False
    if test is not None:
        (differ,) = depends(test, (*before, *marked), False)
        if differ:
            marked = (True,) * loop.carries
    inside = (*before, *marked, *behind)
    rows = depends(body, inside, False)[loop.carries :]
    if differ:
        rows = (True,) * len(rows)
    outs = (*marked, *rows)
    consts, carry, xs = loop.split(data)
    start = [_spread(x, b, size) if m else x for x, b, m in zip(carry, carried, marked, strict=True)]
    along = [_moved(x, 0, 1) if b else x for x, b in zip(xs, behind, strict=True)]
    step = mapped(body, inside, outs, size, device)
    if differ:
        assert test is not None
        holds = mapped(test, inside, (True,), size, device)
        cond_graph, step = _masked(holds, step, loop, device)
        y = op.run((*consts, *holds(*consts, *start), *start), {**params, "cond": cond_graph, "body": step, "carries": loop.carries + 1})[
            1:
        ]
    else:
        given = {**params, "body": step, "pull": None}
        if test is not None:
            given["cond"] = _unconcerned(test, inside, size)
        y = op.run((*consts, *start, *along), given)
    k = loop.carries
    return [*y[:k], *(_moved(x, 1, 0) if b else x for x, b in zip(y[k:], rows, strict=True))], outs


def _unconcerned(graph: Graph, flags: Flags, size: int) -> Graph:
    """Give a graph that takes batches for the inputs marked, on which its results do not depend."""
    inputs = [
        GraphNode(None, (), {}, (ShapeDtype((size, *s.shape), s.dtype),), node.name) if b else node
        for node, s, b in zip(graph.inputs, specs_of(graph), flags, strict=True)
    ]
    return alive(graph.nodes, inputs, graph.outputs, graph)


@kept
def _masked(holds: Graph, step: Graph, loop: Loop, device: Any) -> tuple[Graph, Graph]:
    """Give condition and body of a loop that goes on until all members are through, and leaves alone those that are."""
    specs = specs_of(step)
    mask = spec_of(holds.outputs[0])
    given = [*specs[: loop.consts], mask, *specs[loop.consts :]]

    def go_on(*flat: Any) -> Any:
        return (unify(list(flat))[0].any(flat[loop.consts]),)

    def once(*flat: Any) -> Any:
        consts, active, carry = flat[: loop.consts], flat[loop.consts], flat[loop.consts + 1 :]
        y = step(*consts, *carry)
        new = [_select(active, a, b) for a, b in zip(y[: loop.carries], carry, strict=True)]
        rows = [_select(active, r, zeros(r)) for r in y[loop.carries :]]
        return (active & holds(*consts, *new)[0], *new, *rows)

    return staged(go_on, holds, given, device), staged(once, step, given, device)


def _call(args: tuple[Any, ...], graph: Graph) -> Any:
    """Run a function with a rule of a user's, or its operations, where the rule is lost."""
    return tuple(graph(*args) if graph.rule is None else apply_rule(graph.rule, args))


def _or_call(rule: Callable[..., Any]) -> Callable[..., Any]:
    return lambda op, level, args, params: _call(args, params["graph"]) if op is CALL else rule(op, level, args, params)


for _op in (COND, WHILE, SCAN):
    _op.joint = _rule(_op, tuple(p for p in _op.params if p != "pull"))
    _op.vjps, _op.differentiable = (_op.joint,), True
ControlOp.rules = {ReverseLevel: _or_call(_reverse), ForwardLevel: _or_call(_forward), BatchLevel: _or_call(_batch)}
