"""A report as one page of HTML that needs nothing else: a heat map of operations by laws, with reasons and examples.

It can be read without JavaScript, which only filters; by keyboard; and without telling colours apart, for every status has a symbol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from importlib.resources import files

from agnostic_ad.conformance.report import BAD, STATUSES, Report, Row, number
from agnostic_ad.conformance.running import held
from agnostic_ad.conformance.running import laws as known_laws

__all__ = ["SYMBOLS", "page"]

SYMBOLS = dict(zip(STATUSES, "✓~✗!–∞↻", strict=True))
"""Of each status."""
LONGEST = 4000
"""Characters of a reason or an example that the page shows."""


def page(report: Report) -> str:
    """Give a report as a page.

    Parameters
    ----------
    report : Report
        What to show.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> from agnostic_ad import conformance
    >>> from agnostic_ad.conformance.html import page
    >>> page(conformance.run("numpy", ops=["sin"], jobs=0)).startswith("<!doctype html>")
    True
    """
    laws = held(report)
    noted = sorted((row for row in report.rows if row.status != "passed"), key=lambda row: row.status not in BAD)
    numbers = {id(row): position for position, row in enumerate(noted)}
    fields = {
        "title": escape(f"Conformance of {report.namespace}"),
        "namespace": escape(report.namespace),
        "verdict": _verdict(report),
        "facts": _facts(report),
        "limits": "".join(f'<p class="limit">{escape(limit)}</p>' for limit in report.limits),
        "buttons": "\n".join(
            f'<button type="button" value="{status}" aria-pressed="false"><b class="{status}">{SYMBOLS[status]}</b>{status} {count:,}</button>'
            for status, count in report.counts().items()
        ),
        "laws": "".join(_head(law, report.rows) for law in laws),
        "rows": "\n".join(_lines(report.rows, laws, numbers)),
        "details": "<h2>What is not passed</h2>\n" + "\n".join(_details(row, numbers[id(row)]) for row in noted) if noted else "",
        "explained": "".join(f"<dt><code>{escape(law)}</code></dt><dd>{_says(law)}</dd>" for law in laws),
    }
    template = (files("agnostic_ad.conformance") / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: fields[found[1]], template)


def _verdict(report: Report) -> str:
    if report.ok:
        return f'<span class="passed">{SYMBOLS["passed"]} conforms</span> {number(report.counts()["passed"], "check")} passed'
    if not report.rows:
        return f'<span class="failed">{SYMBOLS["failed"]} nothing was checked</span>'
    ops = number(len({row.op for row in report.failures}), "operation")
    return (
        f'<span class="failed">{SYMBOLS["failed"]} does not conform</span> '
        f"{len(report.failures):,} of {len(report.rows):,} checks fail, of {ops}"
    )


def _facts(report: Report) -> str:
    facts = {"device": report.device, "level": report.level, "seed": str(report.seed), "setup": report.setup}
    facts |= {**report.versions, "date": report.started.replace("T", " "), "time": f"{report.seconds:.0f} s"}
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items() if value)


def _words(law: str) -> str:
    return escape(law.replace("_", " "))


def _says(law: str) -> str:
    return re.sub(r"``(.+?)``", r"<code>\1</code>", escape(known_laws().get(law, "")))


def _head(law: str, rows: Iterable[Row]) -> str:
    of = [row.status for row in rows if row.law == law]
    kept = sum(status in ("passed", "deviation") for status in of)
    return f'<th scope="col">{_words(law)}<small>{kept:,}/{len(of):,}</small></th>'


def _lines(rows: Iterable[Row], laws: list[str], numbers: dict[int, int]) -> Iterable[str]:
    """Give the lines of the table: one for each operation, dtype and device."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.op, row.dtype, row.device), []).append(row)
    last = None
    for (op, dtype, device), group in groups.items():
        statuses = " ".join(dict.fromkeys(row.status for row in group))
        of = " ".join(part for part in (dtype, device) if part)
        first, last = ' class="first"' * (op != last), op
        head = f'<th scope="row">{escape(op or "the run")}</th><td class="dtype">{escape(of)}</td>'
        whole = [row for row in group if not row.law]
        if whole:
            cells = f'<td class="wide {whole[0].status}" colspan="{max(1, len(laws))}">{_link(whole[0], numbers, whole[0].headline)}</td>'
        else:
            by_law = {row.law: row for row in group}
            cells = "".join(_cell(by_law.get(law), numbers) for law in laws)
        yield f'<tr{first} data-of="{escape(_key(group[0]))}" data-statuses="{statuses}">{head}{cells}</tr>'


def _key(row: Row) -> str:
    return f"{row.op}|{row.dtype}|{row.device}"


def _cell(row: Row | None, numbers: dict[int, int]) -> str:
    if row is None:
        return '<td class="none">·</td>'
    if row.status == "passed":
        return f'<td class="passed" title="{_words(row.law)}: {row.cases} calls">✓</td>'
    return f'<td class="{row.status}">{_link(row, numbers)}</td>'


def _link(row: Row, numbers: dict[int, int], text: str = "") -> str:
    spoken = f"{row.title}: {row.status}"
    shown = f"{SYMBOLS[row.status]} {escape(text)}".strip()
    return f'<a href="#r{numbers[id(row)]}" title="{escape(row.headline[:300])}" aria-label="{escape(spoken)}">{shown}</a>'


def _details(row: Row, position: int) -> str:
    title = " ".join(part for part in (row.op or "the run", row.dtype, row.device) if part)
    head = f'<b class="{row.status}">{SYMBOLS[row.status]} {row.status}</b><code>{escape(title)}</code> {_words(row.law)}'
    body = f"<pre>{escape(_cut(row.reason))}</pre>"
    if row.example:
        body += f"<p>The smallest call that shows it:</p><pre><code>{escape(_cut(row.example))}</code></pre>"
    attributes = f'id="r{position}" data-of="{escape(_key(row))}" data-status="{row.status}"'
    return f"<details {attributes}><summary>{head} <span>{escape(row.headline[:160])}</span></summary>{body}</details>"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n... {len(text) - LONGEST:,} more characters: see the JSON report"
