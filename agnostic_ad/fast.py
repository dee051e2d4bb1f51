"""The quick path of the common case: an elementwise operation, or a matrix product, on Variables of one level.

For each such entry of the table this makes a function that wraps the library's own call and records it, with nothing left to decide
but which operands need a gradient. Everything else (other levels, mixed libraries, watched recording) falls back to ``slow``, the
general path, which gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from agnostic_ad.levels import ABOVE_ALL, DEAD, FAST, Level, Size
from agnostic_ad.namespaces import COMPLEX, RAW
from agnostic_ad.op import TABLE, ZERO, Op, Reverse
from agnostic_ad.ops.operators import install_operators
from agnostic_ad.reverse import ReverseLevel, Variable
from agnostic_ad.rules import QUICK
from agnostic_ad.tape import Node, adaptation, next_number

__all__ = ["fast"]

# The functions are made from this text, once for each combination of what is saved. They make the records of ReverseLevel.apply.
_NODE = """
            n = Node()
            n.number = number()
            n.op = {rules}
            n.parents = {parents}
            n.saved = {saved}
            n.adapt = {adapt}
"""
_VARIABLE = """
        v = new(Variable)
        v.payload = y
        v.level = level
        v.node = n
        return v
"""

_UNARY = """
def factory(op, rules, slow, calls, learn, scalar1, scalar2):
    (both,) = rules
    def call(x, /):
        if type(x) is not Variable:
            return slow(x)
        x1 = x.payload
        kind = type(x1)
        compute = calls.get(kind)
        if compute is None:
            return learn(kind, slow(x))
        level = x.level
        n1 = x.node
        try:
            y = compute(x1)
        except Exception:
            return slow(x)
        if kind is Variable:
            level.nested = True
        if n1 is not None and level.depth > FAST():
{both}
        elif level.depth == DEAD or FAST() == ABOVE_ALL:
            return slow(x)
        else:
            n = None
{variable}
    return call
"""

_BINARY = """
def factory(op, rules, slow, calls, learn, scalar1, scalar2):
    both, left, right = rules
    def call(x1, x2, /):
        a = x1
        b = x2
        n1 = n2 = None
        same = False
        if type(a) is Variable:
            level = a.level
            x1 = a.payload
            n1 = a.node
            kind = type(x1)
            if type(b) is Variable:
                if b.level is not level:
                    return slow(a, b)
                x2 = b.payload
                n2 = b.node
                if type(x2) is not kind:
                    if kind is Variable or type(x2) is Variable:
                        kind = Variable
                    elif RAW.get(type(x2)) is not RAW.get(kind, 0):
                        return slow(a, b)
            elif type(b) is not kind:
                if scalar2 and (type(b) is float or type(b) is int):
                    same = True
                elif scalar2 and type(b) is Size:
                    x2 = b = int(b)
                    same = True
                else:
                    found = RAW.get(type(b))
                    if found is None or kind is not Variable and found is not RAW.get(kind):
                        return slow(a, b)
        elif type(b) is Variable:
            level = b.level
            x2 = b.payload
            n2 = b.node
            kind = type(x2)
            if type(a) is not kind:
                if scalar1 and (type(a) is float or type(a) is int):
                    same = True
                elif scalar1 and type(a) is Size:
                    x1 = a = int(a)
                    same = True
                else:
                    found = RAW.get(type(a))
                    if found is None or kind is not Variable and found is not RAW.get(kind):
                        return slow(a, b)
        else:
            return slow(a, b)
        compute = calls.get(kind)
        if compute is None:
            return learn(kind, slow(a, b))
        try:
            y = compute(x1, x2)
        except Exception:
            return slow(a, b)
        if kind is Variable:
            level.nested = True
            m = y.node if type(y) is Variable else None  # inside a branch that is captured it is not
            if m is not None and m.op is both and m.adapt is None:
                same = True  # the level below has compared the operands already
        if level.depth <= FAST() or n1 is None and n2 is None:
            if level.depth == DEAD or FAST() == ABOVE_ALL:
                return slow(a, b)
            n = None
        elif n2 is None:
{left}
        elif n1 is None:
{right}
        else:
{both}
{variable}
    return call
"""


@cache
def _factory(saved: tuple[str, ...], alike: str) -> Callable[..., Any]:
    """Make the function that makes quick functions, for what the rules save (of both operands, the first, the second)."""
    if len(saved) == 1:
        adapt = alike and "adapted(both, level, (x1,), y)"
        both = _NODE.format(rules="both", parents="n1", saved=saved[0], adapt=adapt or "None")
        source = _UNARY.format(both=both, variable=_VARIABLE)
    else:
        parts = {}
        for which, kept, nodes, operands in zip(
            ("both", "left", "right"), saved, ("(n1, n2)", "n1", "n2"), ("x1, x2", "x1,", "x2,"), strict=True
        ):
            adapt = f"None if same or ({alike}) else adapted({which}, level, ({operands}), y)"
            parts[which] = _NODE.format(rules=which, parents=nodes, saved=kept, adapt=adapt)
        source = _BINARY.format(**parts, variable=_VARIABLE)
    scope: dict[str, Any] = {
        "ABOVE_ALL": ABOVE_ALL,
        "DEAD": DEAD,
        "FAST": FAST.get,
        "Node": Node,
        "RAW": RAW,
        "Size": Size,
        "Variable": Variable,
        "adapted": _adapted,
        "new": object.__new__,
        "number": next_number,
    }
    exec(compile(source, f"<fast path of {(len(saved) + 1) // 2} operands>", "exec"), scope)
    return scope["factory"]  # type: ignore[no-any-return]


@cache
def _calls(op: Op) -> tuple[dict[type, Any], Callable[..., Any]]:
    """Give the table from payload types to functions that compute with them, and the function that fills it."""
    calls: dict[type, Any] = {}
    op.caches.append(calls)

    def learn(kind: type, result: Any) -> Any:
        if kind is Variable:
            calls[kind] = QUICK[op.name]
        elif kind in RAW:
            backend = RAW[kind]
            calls[kind] = backend.operators.get(op.name) or op.at(backend)
        return result

    return calls, learn


def _adapted(rules: Reverse, level: ReverseLevel, operands: tuple[Any, ...], y: Any) -> Any:
    if y.dtype in COMPLEX:
        level.complex = True
    return adaptation(rules, operands, y)


def fast(op: Op, slow: Callable[..., Any]) -> Callable[..., Any]:
    """Give a quick form of ``slow``, the operation's general function; ``slow`` itself where there is none."""
    if not (op.vjps and (op.elementwise or op.name == "matmul")) or None in op.vjps or ZERO in op.vjps or op.params or len(op.arrays) > 2:
        return slow
    names = {op.arrays[0]: "x1", op.arrays[-1]: f"x{len(op.arrays)}", "y": "y"}
    names |= {f"{name}_shape": f"tuple({x}.shape)" for name, x in names.items() if name != "y"}
    rules = tuple(op.reverse(p) for p in (((0,),) if len(op.arrays) == 1 else ((0, 1), (0,), (1,))))
    if any(s not in names for r in rules for s in r.saves):
        return slow
    saved = tuple("(" + "".join(f"{names[s]}, " for s in r.saves) + ")" for r in rules)
    if len(op.arrays) == 1:
        alike = (
            "compare" if op.name in ("abs", "real", "imag") else ""
        )  # only a real result of a complex operand needs a cast on the way back
    else:
        alike = "x1.dtype is x2.dtype" + (" and x1.shape == x2.shape" if op.elementwise else "")
    calls, learn = _calls(op)
    scalar1 = op.name in ("add", "subtract", "multiply", "divide")
    call: Callable[..., Any] = _factory(saved, alike)(op, rules, slow, calls, learn, scalar1, scalar1 or op.name == "pow")
    call.__name__ = call.__qualname__ = op.name.rpartition(".")[2]
    return call


for _name, _op in TABLE.items():  # some operations have two names
    QUICK[_name] = QUICK.get(_op.name) or fast(_op, _op)


def _bind(self: Level, op: Op) -> Any:
    return fast(op, op.bind(self))


ReverseLevel.bind = _bind  # type: ignore[method-assign]
install_operators(Variable, fast)
