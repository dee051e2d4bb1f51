"""The quick path of the common case: an elementwise operation, or a matrix product, on Variables of one level.

For each such entry of the table this generates a function that wraps the library's own call and records it, with nothing left to decide
but which operands need a gradient. Everything else (other levels, mixed dtypes, hooks on recording) falls back to ``slow``, the
general path, which gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agnostic_ad.levels import ABOVE_ALL, DEAD, FAST
from agnostic_ad.namespaces import RAW
from agnostic_ad.op import TABLE, ZERO, Op
from agnostic_ad.ops.operators import install_operators
from agnostic_ad.reverse import BASE, Node, ReverseLevel, Variable, _adaptation, _new, _number

__all__ = ["fast"]

# A generated function is this text with the operation's own parts in it. It makes the same records as ReverseLevel.apply.
_RECORD = """
        if {needs} and level.depth > FAST():
            n = new(Node)
            n.number = number()
            n.op = op
            n.parents = ({parents},)
            n.saved = {saved}
            n.params = params
            n.adapt = {adapt}
            n.extra = None
        elif level.depth == DEAD or FAST() == ABOVE_ALL:
            return slow({operands})
        else:
            n = None
        v = new(Variable)
        v.data = y
        v.level = level
        v.node = n
        return v
"""

_UNARY = """
def {name}(x, /):
    if type(x) is Variable:
        x1 = x.data
        kind = type(x1)
        call = calls.get(kind)
        if call is None:
            return learn(kind, slow(x))
        level = x.level
        n1 = x.node
        try:
            y = call(x1)
        except Exception:
            return slow(x)
        if type(y) is not kind:
            y = RAW[kind].array(y)
        elif kind is Variable:
            level.nested = True
{record}
    return slow(x)
"""

_BINARY = """
def {name}(x1, x2, /):
    a, b = x1, x2
    ta = type(a)
    tb = type(b)
    n1 = n2 = None
    same = False
    if ta is Variable:
        level = a.level
        x1 = a.data
        n1 = a.node
        kind = type(x1)
        if tb is Variable:
            if b.level is not level:
                return slow(a, b)
            x2 = b.data
            n2 = b.node
            if type(x2) is not kind:
                return slow(a, b)
        elif tb is float or tb is int:
            if not scalar2:
                return slow(a, b)
            same = True
        elif tb is not kind or kind is Variable:
            return slow(a, b)
    elif tb is Variable:
        level = b.level
        x2 = b.data
        n2 = b.node
        kind = type(x2)
        if ta is float or ta is int:
            if not scalar1:
                return slow(a, b)
            same = True
        elif ta is not kind or kind is Variable:
            return slow(a, b)
    else:
        return slow(a, b)
    call = calls.get(kind)
    if call is None:
        return learn(kind, slow(a, b))
    if True:
        try:
            y = call(x1, x2)
        except Exception:
            return slow(a, b)
        if type(y) is not kind:
            y = RAW[kind].array(y)
        elif kind is Variable:
            level.nested = True
{record}
"""


def fast(op: Op, slow: Callable[..., Any]) -> Callable[..., Any]:
    """Give a quick form of ``slow``, the operation's general function; ``slow`` itself where there is none."""
    if not (op.vjps and (op.elementwise or op.name == "matmul")) or None in op.vjps or ZERO in op.vjps or op.params or len(op.arrays) > 2:
        return slow
    name, count = op.name, len(op.arrays)
    names = {op.arrays[0]: "x1", "y": "y"} | ({op.arrays[1]: "x2"} if count == 2 else {})
    if any(s not in names for s in op.saves):
        return slow
    saved = "(" + "".join(f"{names[s]}, " for s in op.saves) + ")"
    if count == 1:
        # only a real result of a complex operand needs a cast on the way back
        adapt = "None" if op.name not in ("abs", "real", "imag") else "adaptation(op, (x1,), (n1,), y)"
        record = _RECORD.format(needs="n1 is not None", parents="n1", saved=saved, adapt=adapt, operands="x")
        source = _UNARY.format(name=name, record=record)
    else:
        alike = "x1.shape == x2.shape and x1.dtype is x2.dtype" if op.elementwise else "x1.dtype is x2.dtype"
        adapt = f"None if same or ({alike}) else adaptation(op, (x1, x2), (n1, n2), y)"
        record = _RECORD.format(needs="(n1 is not None or n2 is not None)", parents="n1, n2", saved=saved, adapt=adapt, operands="a, b")
        source = _BINARY.format(name=name, record=record)
    calls: dict[type, Any] = {}

    def learn(kind: type, result: Any) -> Any:
        if kind is Variable:
            calls[kind] = getattr(Variable, op.operators[0]) if op.operators else METHODS.get(op.name, op.call)
        elif kind in RAW:
            backend = RAW[kind]
            calls[kind] = backend.operators.get(op.name) or op.at(backend)
        return result

    scope = {
        "ABOVE_ALL": ABOVE_ALL,
        "DEAD": DEAD,
        "FAST": FAST.get,
        "Node": Node,
        "RAW": RAW,
        "Variable": Variable,
        "adaptation": _adaptation,
        "calls": calls,
        "learn": learn,
        "new": _new,
        "number": _number,
        "op": op,
        "params": {},
        "scalar1": op.name in ("add", "subtract", "multiply", "divide"),
        "scalar2": op.name in ("add", "subtract", "multiply", "divide", "pow"),
        "slow": slow,
    }
    exec(compile(source, f"<fast {op.name}>", "exec"), scope)
    made: Callable[..., Any] = scope[name]
    return made


METHODS: dict[str, Callable[..., Any]] = {op.name: fast(op, op.call) for op in TABLE.values()}
"""The quick, level-blind form of every operation."""


def _bind(self: ReverseLevel, op: Op) -> Any:
    return fast(op, op.bind(self))


ReverseLevel.bind = _bind  # type: ignore[method-assign]
install_operators(Variable, lambda op: METHODS[op.name])
assert BASE.depth == 0
