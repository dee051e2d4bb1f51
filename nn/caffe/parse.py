"""The text form of definitions, prototxt: read into messages, with the file and line in every error."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from agnostic_ad.nn.caffe.message import DefinitionError, Message, checked
from agnostic_ad.nn.caffe.schema import ENUMS, MESSAGES, Field
from agnostic_ad.nn.caffe.upgrade import upgrade

__all__ = ["parse", "read_definition"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f\v]+|\#[^\n]*)
    |(?P<line>\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>[-+]?(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[fF]?(?![\w.]))|-\s*(?:inf|infinity|nan)\b)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<mark>[{}<>\[\]:,;])""",
    re.VERBOSE,
)
_CLOSE = {"{": "}", "<": ">"}
_ESCAPES = {"n": 10, "r": 13, "t": 9, "a": 7, "b": 8, "f": 12, "v": 11}
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_TRUTH = {"true": True, "t": True, "1": True, "True": True, "false": False, "f": False, "0": False, "False": False}


class _Token(NamedTuple):
    kind: str  # "string", "number", "name", "mark", or "end"
    text: str
    line: int


class _Reader:
    """A recursive descent over one text."""

    def __init__(self, text: str, source: str) -> None:
        self.source = source
        self.tokens: list[_Token] = list(self._tokens(text))
        self.at = 0

    def fail(self, line: int, problem: str) -> NoReturn:
        raise DefinitionError(f"{self.source}:{line}: {problem}")

    def _tokens(self, text: str) -> Any:
        line = at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                rest = text[at:].partition("\n")[0]
                self.fail(line + 1, "a string does not end" if rest[0] in "\"'" else f"{rest[:20]!r} is not understood")
            at, kind = found.end(), found.lastgroup
            if kind == "line":
                line += 1
            elif kind != "space":
                yield _Token(str(kind), found.group(), line + 1)
        yield _Token("end", "the end of the text", line + 1)

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def took(self, *marks: str) -> str:
        """Go past a mark, if it comes next."""
        if self.next.kind == "mark" and self.next.text in marks:
            return self.take().text
        return ""

    def message(self, kind: str, close: str = "", opened: int = 1) -> Message:
        """Read fields up to the mark that closes the message."""
        made = Message(kind, f"{self.source}:{opened}")
        while True:
            if close and self.took(close):
                return made
            token = self.take()
            if token.kind == "end":
                if close:
                    self.fail(token.line, f"the text ends inside {kind}, which line {opened} opens: a {close!r} is missing")
                return made
            if token.kind != "name":
                self.fail(token.line, f"a field of {kind} was expected, and here is {token.text!r}")
            try:
                field = made.field(token.text)
            except DefinitionError as error:
                self.fail(token.line, str(error).removeprefix(made.at()))
            self.value(made, field, token.line)
            self.took(",", ";")

    def value(self, into: Message, field: Field, line: int) -> None:
        """Read what follows a field's name."""
        colon = self.took(":")
        if field.type not in MESSAGES and not colon:
            self.fail(line, f"a colon and a value were expected after {field.name!r}, and here is {self.next.text!r}")
        if self.took("["):
            if not field.repeated:
                self.fail(line, f"{field.name!r} of {into.kind} takes one value, not a list")
            while not self.took("]"):
                self.one(into, field, self.next.line)
                if not self.took(",") and not (self.next.kind == "mark" and self.next.text == "]"):
                    self.fail(self.next.line, f"a comma or ']' was expected in the list of {field.name!r}, and here is {self.next.text!r}")
            return
        self.one(into, field, line)

    def one(self, into: Message, field: Field, line: int) -> None:
        """Read one value and put it into its message."""
        if field.type in MESSAGES:
            close = _CLOSE.get(self.took("{", "<"))
            if close is None:
                self.fail(line, f"{field.name!r} is a {field.type}: {{ was expected, and here is {self.next.text!r}")
            value: Any = self.message(field.type, close, line)
        else:
            value = self.scalar(field, line)
        if field.repeated:
            getattr(into, field.name).append(value)
        elif field.name in into.values:
            self.fail(line, f"{field.name!r} of {into.kind} is given twice")
        else:
            into.values[field.name] = value

    def _decoded(self, raw: bytes, line: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.fail(line, f"a string is no UTF-8: {error}")

    def scalar(self, field: Field, line: int) -> Any:
        """Read one value that is no message."""
        token = self.take()
        text, kind = token.text, field.type
        if token.kind in ("mark", "end"):
            self.fail(token.line, f"a value of {field.name!r} was expected, and here is {text!r}")
        if kind in ("string", "bytes"):
            if token.kind != "string":
                self.fail(token.line, f"{field.name!r} takes a string in quotes, not {text}")
            raw = _unquoted(text)
            while self.next.kind == "string":
                raw += _unquoted(self.take().text)
            return self._decoded(raw, token.line) if kind == "string" else raw
        value: Any = text
        if kind == "bool":
            value = _TRUTH.get(text, text) if token.kind != "string" else text
        elif kind in ("float", "double"):
            if token.kind != "string":
                value = _float(text)
        elif token.kind == "number":
            value = _integer(text)
        if token.kind == "string":
            value = self._decoded(_unquoted(text), token.line)
            if kind in ENUMS:
                old = "; a type in quotes is of 'layer', not of 'layers'" if kind == "V1LayerType" else ""
                self.fail(token.line, f"{field.name!r} takes one of {', '.join(ENUMS[kind])}, without quotes, not {text}{old}")
        try:
            return checked(field, value)
        except DefinitionError as error:
            self.fail(token.line, str(error))


def _unquoted(text: str) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        octal, hexadecimal, letter = found.groups()
        if octal or hexadecimal:
            return bytes([int(octal or hexadecimal, 8 if octal else 16) & 255])
        return bytes([_ESCAPES[letter.decode()]]) if letter.decode("latin-1") in _ESCAPES else letter

    return _ESCAPE.sub(one, text[1:-1].encode())


def _float(text: str) -> Any:
    try:
        return float(text.replace(" ", "").rstrip("fF") if text.lower().strip("-+ ") not in ("inf", "infinity") else text.replace(" ", ""))
    except ValueError:
        return text


def _integer(text: str) -> Any:
    try:
        digits = text.lstrip("+-")
        return int(text, 16 if digits[:2] in ("0x", "0X") else 8 if len(digits) > 1 and digits[0] == "0" and digits.isdigit() else 10)
    except ValueError:
        return float(text.rstrip("fF"))


def parse(text: str, kind: str = "NetParameter", source: str = "<text>") -> Message:
    r"""Read a definition in prototxt's form.

    Parameters
    ----------
    text : str
        The definition.
    kind : str
        What it defines: "NetParameter", "SolverParameter", or any other message.
    source : str
        What errors call the text.

    Returns
    -------
    Message
        The definition. Old forms that have one meaning today, such as ``input_dim``, have become today's.

    Raises
    ------
    DefinitionError
        Where the text has an error; its text begins with the file and the line.

    Examples
    --------
    >>> from agnostic_ad.nn import caffe
    >>> solver = caffe.parse('base_lr: 0.01  # and so on\nlr_policy: "fixed"', "SolverParameter")
    >>> solver.base_lr, solver.lr_policy, solver.iter_size
    (0.01, 'fixed', 1)
    """
    return upgrade(_Reader(text, source).message(kind))


def read_definition(definition: Any, kind: str) -> Message:
    """Give a definition as a message: from a message, from text, or from the file of a path."""
    if isinstance(definition, Message):
        if definition.kind != kind:
            raise DefinitionError(f"{definition.at()}a {kind} is wanted, not a {definition.kind}")
        return upgrade(definition.copy())
    if not isinstance(definition, str | os.PathLike):
        raise TypeError(f"a {kind} is wanted, as a path, a text or a Message, not a {type(definition).__name__}")
    given = os.fspath(definition)
    if isinstance(definition, str) and re.search(r"[\n{]|^\s*\w+\s*:\s", given):
        return parse(given, kind)
    path = Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {given!r} with a {kind}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{given}: this is no text; a {kind} in prototxt's form is wanted") from error
    return parse(text, kind, given)
