"""Changes to one place of a function's bytecode: a sign, a term, a conjugate, a constant, a comparison.

Bytecode, because rules are lambdas in the middle of a table, or made from text: there is no source line to change.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dis import get_instructions, opmap
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np

__all__ = ["edits", "recoded", "replaced", "written"]

_BINARY = {"+": 0, "-": 10, "*": 5, "/": 11}  # the numbers of CPython's BINARY_OP
_WRONG = {"+": "-", "-": "+", "*": "/", "/": "*"}
_NAMES = {
    "conj": "positive", "real": "imag", "sin": "cos", "cos": "sin", "sinh": "cosh", "cosh": "sinh", "tril": "triu", "triu": "tril",
    "maximum": "minimum", "minimum": "maximum", "zeros_like": "ones_like", "matrix_transpose": "positive", "log": "log1p", "exp": "expm1",
    "flip": "positive", "cumulative_sum": "positive",
}  # fmt: skip
_KINDS = {"conj": "conj dropped", "matrix_transpose": "a transpose dropped", "flip": "wrong axis"}
_COMPARE = ("<", "<=", "==", "!=", ">", ">=")
_COMPARED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "!=", "!=": "=="}
_SHIFT = {11: 0, 12: 4}.get(sys.version_info.minor, 5)


def edits(code: CodeType) -> Iterator[tuple[str, str, CodeType]]:
    """Give every way to change one place of a function: what it is, its kind, and the wrong code."""
    counts: dict[str, itertools.count[int]] = {}

    def label(what: str) -> str:
        return f"{what} #{next(counts.setdefault(what, itertools.count(1)))}"

    raw = code.co_code
    for at in get_instructions(code):
        if at.opname == "BINARY_OP" and at.argrepr in _BINARY:
            sign = at.argrepr
            kind = "sign flipped" if sign in "+-" else "a factor inverted"
            yield label(f"{sign} to {_WRONG[sign]}"), kind, _patched(code, at.offset + 1, bytes([_BINARY[_WRONG[sign]]]))
            if sign in "+-":
                end = at.offset + 2
                while end < len(raw) and raw[end] == opmap["CACHE"]:
                    end += 2
                gone = bytes([opmap["POP_TOP"], 0]) + bytes([opmap["NOP"], 0]) * ((end - at.offset) // 2 - 1)
                yield label(f"what follows {sign} dropped"), "a term dropped", _patched(code, at.offset, gone)
        elif at.opname == "UNARY_NEGATIVE":
            yield label("minus dropped"), "sign flipped", _patched(code, at.offset, bytes([opmap["NOP"], 0]))
        elif at.opname == "COMPARE_OP" and at.arg is not None:
            sign, low = _COMPARE[at.arg >> _SHIFT], at.arg & ((1 << _SHIFT) - 1)
            other = _COMPARED[sign]
            if _SHIFT == 5:  # the lowest four bits name the comparison again
                low = low & 16 | {"<": 2, ">": 4, "==": 8, "!=": 7, "<=": 10, ">=": 12}[other]
            wrong = _COMPARE.index(other) << _SHIFT | low
            yield label(f"{sign} to {other}"), "wrong comparison", _patched(code, at.offset + 1, bytes([wrong]))
    for i, name in enumerate(code.co_names):
        if name in _NAMES:
            names = (*code.co_names[:i], _NAMES[name], *code.co_names[i + 1 :])
            yield f"{name} to {_NAMES[name]}", _KINDS.get(name, "wrong function"), code.replace(co_names=names)
    for i, value in enumerate(code.co_consts):
        for what, kind, new in _constants(value):
            yield label(what), kind, code.replace(co_consts=(*code.co_consts[:i], new, *code.co_consts[i + 1 :]))
        if isinstance(value, CodeType):
            for what, kind, inner in edits(value):
                consts = (*code.co_consts[:i], inner, *code.co_consts[i + 1 :])
                yield f"{label(value.co_name)}: {what}", kind, code.replace(co_consts=consts)


def _constants(value: Any) -> Iterator[tuple[str, str, Any]]:
    if type(value) is int:
        yield f"{value} to {value + 1}", "wrong axis or constant", value + 1
    elif type(value) is float and np.isfinite(value) and value:
        rounded = float(np.float32(value))
        if rounded != value:
            yield f"{value} in float32", "rounded to float32", rounded
        else:
            yield f"{value} to {value * 2}", "off by a factor", value * 2


def _patched(code: CodeType, at: int, new: bytes) -> CodeType:
    return code.replace(co_code=code.co_code[:at] + new + code.co_code[at + len(new) :])


def _held(fn: FunctionType) -> Iterator[tuple[Any, str | int]]:
    """Give the functions that a function refers to: those in its closure, and global ones by name."""
    for i, cell in enumerate(fn.__closure__ or ()):
        yield cell.cell_contents, i
    for name in _all_names(fn.__code__):
        if name in fn.__globals__:
            yield fn.__globals__[name], name


def _all_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _all_names(const)


def _reached(fn: Any, found: dict[int, FunctionType]) -> dict[int, FunctionType]:
    """Give a function and those that it calls, as far as they are the table's own."""
    if isinstance(fn, FunctionType) and id(fn) not in found:
        found[id(fn)] = fn
        for other, _ in _held(fn):
            if _ours(other):
                _reached(other, found)
    return found


def _ours(fn: Any) -> bool:
    return isinstance(fn, FunctionType) and "/ops/" in fn.__code__.co_filename.replace("\\", "/")


def written(root: Any, helpers: bool) -> Iterator[FunctionType]:
    """Give the functions that a part of an entry is written with, and with ``helpers`` those of the table's own that they call.

    None with a loop: it might not end.
    """
    found = [root] if _ours(root) else [fn for fn, _ in _held(root) if _ours(fn)] if isinstance(root, FunctionType) else []
    if helpers:
        found += [fn for entry in found for fn, _ in _held(entry) if _ours(fn)]
    for fn in found:
        if not any("JUMP_BACKWARD" in at.opname for at in get_instructions(fn.__code__)):
            yield fn


def replaced(root: Any, old: FunctionType, new: FunctionType) -> Any:
    """Give ``root`` with one of the functions that it reaches replaced; others are not touched."""
    if root is old:
        return new
    if not isinstance(root, FunctionType) or id(old) not in _reached(root, {}):
        return root
    trail = {id(root)}
    return _rebuilt(root, old, new, trail)


def _rebuilt(fn: Any, old: FunctionType, new: FunctionType, trail: set[int]) -> Any:
    closure, scope = list(fn.__closure__ or ()), dict(fn.__globals__)
    for other, where in _held(fn):
        if other is old:
            made: Any = new
        elif _ours(other) and id(other) not in trail and id(old) in _reached(other, {}):
            made = _rebuilt(other, old, new, trail | {id(other)})
        else:
            continue
        if isinstance(where, int):
            closure[where] = CellType(made)
        else:
            scope[where] = made
    copy = FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, tuple(closure) or None)
    copy.__kwdefaults__ = fn.__kwdefaults__
    return copy


def recoded(fn: FunctionType, code: CodeType) -> FunctionType:
    """Give a function like ``fn`` that runs other code."""
    copy = FunctionType(code, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    copy.__kwdefaults__ = fn.__kwdefaults__
    return copy
