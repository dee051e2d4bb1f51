"""What a run of the suite found: rows, and the report that holds them, as JSON, JUnit XML and a badge."""

from __future__ import annotations

import datetime
import json
import platform
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

__all__ = ["BAD", "STATUSES", "Report", "Row", "number", "versions"]

STATUSES = ("passed", "deviation", "failed", "error", "missing", "hang", "stale")
"""All that a row can say, from good to bad."""
BAD = STATUSES[2:]
"""The statuses that make a run fail. "passed" and "deviation" (known, with a reason) do not."""
SCHEMA = 1
"""The version of the JSON form: it grows by one when a key changes its meaning or goes away."""


@dataclass(frozen=True)
class Row:
    """One law of one operation, with one dtype on one device.

    Attributes
    ----------
    op, law, dtype, device : str
        What was checked. Where the whole run, or a whole operation, came to nothing, those that say nothing are "".
    status : {"passed", "deviation", "failed", "error", "missing", "hang", "stale"}
        "failed": the law does not hold. "error": something raised. "missing": the library has no such function. "hang": it took longer than
        the limit. "deviation": it does not hold, and is known not to. "stale": it holds, and was known not to.
    cases : int
        How many calls were checked.
    reason : str
        Of what is not passed: the numbers, the error, or the known reason.
    example : str
        The smallest call that shows it, as code to paste.
    seconds : float
        The time it took.
    """

    op: str
    law: str
    dtype: str
    device: str
    status: str
    cases: int = 0
    reason: str = ""
    example: str = ""
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """What was checked, in one line."""
        return " ".join(part for part in (self.op, self.dtype, self.law) if part) or "the run"

    @property
    def headline(self) -> str:
        """The reason in one line: the last one of a traceback, else the first, with what follows its colon."""
        lines = self.reason.strip().splitlines() or [""]
        if lines[0].startswith("Traceback"):
            return lines[-1]
        return " ".join(self.reason.split()) if lines[0].endswith(":") else lines[0]


@dataclass
class Report:
    """What a run found.

    Attributes
    ----------
    namespace : str
        The library, as it was named.
    level : str
        "quick" or "full".
    seed : int
        The seed that all numbers come from.
    device : str
        Where it was computed.
    setup : str
        The code that ran before.
    allow_missing : bool
        Whether functions that the library lacks are let pass.
    limits : list of str
        What was not checked, for lack of a package.
    rows : list of Row
        One for each operation, law, dtype and device.
    versions : dict
        Of Python, this package, the library and the platform.
    started : str
        When, in UTC.
    seconds : float
        How long it took.
    """

    namespace: str
    level: str = "quick"
    seed: int = 0
    device: str = ""
    setup: str = ""
    allow_missing: bool = False
    limits: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    seconds: float = 0.0

    @property
    def failures(self) -> list[Row]:
        """The rows that make the run fail."""
        return [row for row in self.rows if row.status in BAD and not (self.allow_missing and row.status == "missing")]

    @property
    def ok(self) -> bool:
        """Whether anything was checked, and nothing failed."""
        return any(row.status == "passed" for row in self.rows) and not self.failures

    def counts(self) -> dict[str, int]:
        """Give how many rows have each status, from good to bad."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES if found[status]}

    def to_dict(self) -> dict[str, Any]:
        """Give everything as what JSON can hold.

        The keys are the attributes, and "schema" (the version of this form, 1), "ok" and "counts". Keys may be added.
        """
        return {"schema": SCHEMA, "ok": self.ok, "counts": self.counts(), **asdict(self)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Report:
        """Give the report that `to_dict` gave.

        Raises
        ------
        ValueError
            Where another version of this package wrote it in another form.
        """
        if given.get("schema") != SCHEMA:
            raise ValueError(f"a report of schema {given.get('schema')!r}; this version reads schema {SCHEMA}")
        known = {key: value for key, value in given.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "rows": [Row(**row) for row in given["rows"]]})

    def json(self) -> str:
        """Give it as JSON text: `to_dict`, a row a line."""
        head = self.to_dict()
        rows = ",\n".join(json.dumps(row) for row in head.pop("rows"))
        return json.dumps(head, indent=1)[:-2] + f',\n "rows": [\n{rows}\n]}}\n'

    def junit(self) -> str:
        """Give it as JUnit XML: a test case a row; what is missing counts as skipped where it is allowed."""
        skipped = {"deviation"} | ({"missing"} if self.allow_missing else set())
        suite = ElementTree.Element("testsuite", name=f"conformance of {self.namespace}", timestamp=self.started[:19])
        suite.set("time", f"{self.seconds:.3f}")
        properties = ElementTree.SubElement(suite, "properties")
        facts = {"level": self.level, "seed": str(self.seed), "device": self.device, "setup": self.setup, **self.versions}
        facts |= {"not checked": " ".join(self.limits)} if self.limits else {}
        for name, value in facts.items():
            ElementTree.SubElement(properties, "property", name=name, value=_legal(value))
        totals = Counter(tests=len(self.rows), failures=0, errors=0, skipped=0)
        for row in self.rows:
            where = f"{self.namespace}.{row.op}" if row.op else self.namespace
            of = ", ".join(part for part in (row.dtype, row.device) if part)
            case = ElementTree.SubElement(suite, "testcase", classname=where, name=f"{row.law or 'run'}[{of}]", time=f"{row.seconds:.3f}")
            if row.status == "passed":
                continue
            kind = "skipped" if row.status in skipped else "failure" if row.status in ("failed", "stale") else "error"
            totals[{"failure": "failures", "error": "errors"}.get(kind, kind)] += 1
            found = ElementTree.SubElement(case, kind, message=_legal(f"{row.status}: {row.headline}"))
            found.text = _legal(f"{row.reason}\n\n{row.example}".strip())
            if kind != "skipped":
                found.set("type", row.status)
        for name, total in totals.items():
            suite.set(name, str(total))
        root = ElementTree.Element("testsuites")
        root.append(suite)
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"

    def badge(self) -> dict[str, Any]:
        """Give what shields.io's endpoint badges take."""
        known = self.counts().get("deviation", 0)
        passed = self.counts().get("passed", 0)
        message = number(passed, "check") if self.ok else f"{len(self.failures):,} of {len(self.rows):,} checks fail"
        if self.ok and known:
            message += f", {number(known, 'known deviation')}"
        color = "critical" if not self.ok else "green" if known else "brightgreen"
        return {"schemaVersion": 1, "label": f"agnostic_ad on {self.namespace}", "message": message, "color": color}

    def badge_line(self) -> str:
        """Give a badge as a line of Markdown."""
        badge = self.badge()
        label, message = (quote(badge[key].replace("-", "--").replace("_", "__")) for key in ("label", "message"))
        return f"![{badge['label']}: {badge['message']}](https://img.shields.io/badge/{label}-{message}-{badge['color']})"


def number(count: int, what: str) -> str:
    """Give a number with what is counted: "1 check", "2,000 checks"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def _legal(text: str) -> str:
    """Take out what XML 1.0 cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\N{REPLACEMENT CHARACTER}", text)


def versions(backend: Any) -> dict[str, str]:
    """Give the versions that a certificate names; the library's own comes last but for the platform."""
    import numpy as np

    import agnostic_ad as ad

    found = {
        "python": platform.python_version(),
        "agnostic_ad": ad.__version__,
        "hypothesis": _version("hypothesis"),
        "mparray": _version("mparray"),
    }
    return {**found, "numpy": np.__version__, backend.name: backend.version(), "platform": platform.platform()}


def _version(package: str) -> str:
    """Give the version of what the suite draws and computes with; without it, less is checked."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
