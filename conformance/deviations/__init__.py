"""Known deviations: what a library is known not to keep, one file a library, each entry with its reason and a link.

An entry that is not observed any more is an error, so that the files stay true.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from agnostic_ad.conformance.report import BAD, Row

__all__ = ["Deviation", "DeviationsError", "excuse", "known", "read"]


class DeviationsError(ValueError):
    """A file of known deviations cannot be read."""


@dataclass(frozen=True)
class Deviation:
    """A law that an operation does not keep on a library.

    Attributes
    ----------
    op : str
        Its name.
    reason : str
        What is the matter, and whose fault it is.
    link : str
        Where to read on.
    law, dtype : str
        Only this law, only this dtype; "" for all.
    level : str
        "full" where only the calls of that level show it.
    """

    op: str
    reason: str
    link: str
    law: str = ""
    dtype: str = ""
    level: str = ""

    def covers(self, row: Row) -> bool:
        """Tell whether it speaks of this row."""
        return self.op == row.op and self.law in ("", row.law) and self.dtype in ("", row.dtype)

    def __str__(self) -> str:
        return " ".join(part for part in (self.op, self.law, self.dtype) if part)


def read(file: Path) -> list[Deviation]:
    """Read a file of known deviations.

    Parameters
    ----------
    file : Path
        TOML: tables ``[[deviation]]`` with the keys of `Deviation`.

    Returns
    -------
    list of Deviation

    Raises
    ------
    DeviationsError
        Where the file cannot be read, or an entry lacks a key, or has one too many.
    """
    try:
        return _entries(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, DeviationsError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise DeviationsError(f"known deviations {file}: {text}") from None


def _entries(text: str) -> list[Deviation]:
    given = tomllib.loads(text)
    if given.keys() - {"deviation"}:
        raise DeviationsError(f"it holds tables [[deviation]] alone, not {', '.join(sorted(given.keys() - {'deviation'}))}")
    entries = []
    for number, entry in enumerate(given.get("deviation", []), start=1):
        wrong = sorted(entry.keys() - Deviation.__dataclass_fields__.keys())
        lacking = [key for key in ("op", "reason", "link") if not entry.get(key)]
        if wrong or lacking:
            what = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has no use for {', '.join(wrong)}"] * bool(wrong)
            raise DeviationsError(f"entry {number} {' and '.join(what)}")
        entries.append(Deviation(**entry))
    return entries


def known(library: str) -> list[Deviation]:
    """Give the known deviations of a library that this package ships.

    Examples
    --------
    >>> from agnostic_ad.conformance.deviations import known
    >>> known("a library of yours")
    []
    """
    file = files(__name__) / f"{library}.toml"
    return _entries(file.read_text(encoding="utf-8")) if file.is_file() else []


def unknown(entries: Iterable[Deviation], ops: Sequence[str], laws: Sequence[str]) -> str:
    """Say what entries name that does not exist; "" where all does."""
    for entry in entries:
        for name, there in ((entry.op, ops), (entry.law, laws)):
            if name and name not in there:
                near = difflib.get_close_matches(name, there, 3)
                return f"{entry} is listed as a known deviation, but there is no {name!r}." + (
                    f" Do you mean {', '.join(near)}?" if near else ""
                )
    return ""


def excuse(rows: Sequence[Row], entries: Sequence[Deviation], level: str = "full") -> list[Row]:
    """Excuse what is known, in the rows of one operation; an entry that excuses nothing becomes a row of its own.

    Parameters
    ----------
    rows : sequence of Row
        All rows of an operation.
    entries : sequence of Deviation
        The known deviations of the library.
    level : {"quick", "full"}
        What was run: entries for "full" alone are not missed elsewhere.

    Returns
    -------
    list of Row
    """
    found: list[Row] = []
    seen: set[Deviation] = set()
    for row in rows:
        covering = [entry for entry in entries if row.status in BAD and entry.covers(row)]
        seen.update(covering)
        if covering:
            row = replace(row, status="deviation", reason=f"{covering[0].reason} ({covering[0].link})\n{row.reason}")
        found.append(row)
    ops = {row.op for row in rows}
    for entry in entries:
        if entry.op in ops and entry not in seen and entry.level in ("", level):
            reason = f"nothing deviates here: take the entry {str(entry)!r} out of the known deviations"
            found.append(Row(entry.op, entry.law, entry.dtype, "", "stale", reason=reason))
    return found
