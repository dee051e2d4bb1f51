"""The page of certificates: what each library keeps, by families of operations and laws, made from one run each.

``python -m agnostic_ad.conformance.certificates docs/certificates.md`` runs the suite on every library that is installed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import agnostic_ad.ops
from agnostic_ad.conformance import deviations
from agnostic_ad.conformance.report import Report, Row
from agnostic_ad.conformance.running import LEVELS, held, run
from agnostic_ad.op import Op

__all__ = ["TARGETS", "Target", "certificate", "families", "main"]


@dataclass(frozen=True)
class Target:
    """A library as it is certified: with a device, or with code that runs before and the deviations that are known then."""

    name: str
    namespace: str
    device: str | None = None
    setup: str = ""
    known: str = ""


STATIC = "array_api_strict.set_array_api_strict_flags(data_dependent_shapes=False, boolean_indexing=False)"
TARGETS = (
    Target("numpy", "numpy"),
    Target("array_api_strict", "array_api_strict"),
    Target("array_api_strict, second device", "array_api_strict", "device1"),
    Target(
        "array_api_strict, static shapes", "array_api_strict", setup=f"import array_api_strict; {STATIC}", known="array_api_strict_static"
    ),
    Target("torch", "torch"),
    Target("jax", "jax.numpy"),
    Target("dask", "dask.array"),
    Target("cupy", "cupy"),
)
"""All that the page shows, of what is installed."""
LISTED = 40
"""Failing operations that a certificate names."""

HEAD = """# Certificates

What the [conformance suite](conformance.md) found. A number is of checks that passed: one law of one operation with one dtype, over all
its calls; *n of m* where some did not. `make certificates` writes this page.

| library | version | device | operations | checks | passed | known deviations | not passed | level | date |
|---|---|---|---|---|---|---|---|---|---|
"""


@cache
def families() -> dict[str, str]:
    """Give the chapter of the table that each operation stands in.

    Examples
    --------
    >>> from agnostic_ad.conformance.certificates import families
    >>> families()["sin"], families()["linalg.inv"]
    ('elementwise', 'linalg')
    """
    found: dict[str, str] = {}
    for chapter, module in vars(agnostic_ad.ops).items():
        for value in vars(module).values() if isinstance(module, ModuleType) else ():
            if isinstance(value, Op):
                found.setdefault(value.name, value.name.partition(".")[0] if "." in value.name else chapter)
    return found


def certificate(name: str, report: Report) -> str:
    """Give the section of one library.

    Parameters
    ----------
    name : str
        The section's title.
    report : Report
        What was found.

    Returns
    -------
    str
        Markdown: a table of families by laws, and what did not pass.
    """
    versions = ", ".join(f"{library} {version}" for library, version in report.versions.items() if library != "platform")
    lines = [f"## {name}", "", f"{versions}; {report.level}, seed {report.seed}, {report.started[:10]}, {report.seconds:.0f} s.", ""]
    if report.setup:
        lines += [f"After `{report.setup}`.", ""]
    lines += [line for limit in report.limits for line in (f"**{limit}**", "")]
    laws = held(report)
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        cells.setdefault((families().get(row.op, row.op.partition(".")[0]), row.law), []).append(row)
    chapters = list(dict.fromkeys(chapter for chapter, _ in cells))
    lines += [f"| family | {' | '.join(law.replace('_', ' ') for law in laws)} |", f"|---|{'---|' * len(laws)}"]
    lines += [f"| {chapter} | {' | '.join(_cell(cells.get((chapter, law), ())) for law in laws)} |" for chapter in chapters]
    lines += ["", f"Its badge: `{report.badge_line()}`", ""]
    return "\n".join(
        [
            *lines,
            *_notes("Known deviations", report, ("deviation",)),
            *_notes("Not passed", report, {row.status for row in report.failures}),
        ]
    )


def _cell(rows: Sequence[Row]) -> str:
    passed = sum(row.status == "passed" for row in rows)
    return "" if not rows else f"{passed:,}" if passed == len(rows) else f"**{passed:,} of {len(rows):,}**"


def _notes(title: str, report: Report, statuses: Iterable[str]) -> list[str]:
    by_op: dict[str, list[Row]] = {}
    for row in report.rows:
        if row.status in statuses:
            by_op.setdefault(row.op or "the run", []).append(row)
    lines = [f"{title}:", ""] * bool(by_op)
    for op, rows in list(by_op.items())[:LISTED]:
        counts = ", ".join(f"{count} {status}" for status, count in Counter(row.status for row in rows).items())
        lines.append(f"- `{op}` ({counts}): {_reason(rows[0])}")
    lines += [f"- and {len(by_op) - LISTED} operations more"] * (len(by_op) > LISTED)
    return lines + [""] * bool(lines)


def _reason(row: Row) -> str:
    """Give a reason as Markdown: what is known has a link, the rest is as it came."""
    if row.status == "deviation":
        return re.sub(r"\((https?://\S+)\)$", r"([more](\1))", row.headline)
    return f"`{row.headline[:160].replace('`', chr(39)).strip()}`"


def _line(name: str, report: Report) -> str:
    counts, ops = report.counts(), len({row.op for row in report.rows})
    bad = len(report.rows) - counts.get("passed", 0) - counts.get("deviation", 0)
    version = next((v for k, v in reversed(report.versions.items()) if k != "platform"), "")
    numbers = [f"{n:,}" for n in (ops, len(report.rows), counts.get("passed", 0), counts.get("deviation", 0), bad)]
    return f"| {' | '.join([name, version, report.device, *numbers, report.level, report.started[:10]])} |"


def _said(page: Path) -> dict[str, tuple[str, str]]:
    """Give the line and the section that a page already has of each library: a clone has the page, but not the reports."""
    head, *sections = (page.read_text(encoding="utf-8") if page.is_file() else "").split("\n## ")
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in head.splitlines()}
    return {name: (lines[name], f"## {text.strip()}") for text in sections if (name := text.partition("\n")[0]) in lines}


def main(given: Sequence[str] | None = None) -> int:
    """Run the suite on every library that is installed, and write the page.

    Parameters
    ----------
    given : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        0; what a library does not keep stands on the page.
    """
    parser = argparse.ArgumentParser(prog="python -m agnostic_ad.conformance.certificates", description=main.__doc__)
    parser.add_argument("page", type=Path, help="where to write it")
    parser.add_argument(
        "--reports", type=Path, default=Path("build/certificates"), help="the folder of the reports that the page is made of"
    )
    parser.add_argument("--only", default="", help="run these alone, by a part of their names, and keep what is known of the others")
    parser.add_argument("--level", choices=LEVELS, default="quick")
    parser.add_argument("--jobs", type=int, default=None)
    parser.add_argument("--time-limit", type=float, default=120.0, metavar="S", help="seconds for a law of an operation with a dtype")
    options = parser.parse_args(given)
    options.reports.mkdir(parents=True, exist_ok=True)
    said = _said(options.page)
    for target in TARGETS:
        file = options.reports / f"{target.name.replace(', ', '-').replace(' ', '-')}.json"
        wanted = any(part in target.name for part in options.only.split(",")) and find_spec(target.namespace.partition(".")[0]) is not None
        if wanted:
            known = str(files(deviations) / f"{target.known}.toml") if target.known else None
            report = run(
                target.namespace, level=options.level, device=target.device, jobs=options.jobs, time_limit=options.time_limit,
                known=known, setup=target.setup,
            )  # fmt: skip
            file.write_text(report.json(), encoding="utf-8")
            print(f"{target.name}: {report.counts()}, {report.seconds:.0f} s", flush=True)
        if file.is_file():
            found = Report.from_dict(json.loads(file.read_text(encoding="utf-8")))
            said[target.name] = _line(target.name, found), certificate(target.name, found).strip()
    kept = [said[target.name] for target in TARGETS if target.name in said]
    options.page.write_text("\n\n".join([HEAD + "\n".join(line for line, _ in kept), *(text for _, text in kept)]) + "\n", encoding="utf-8")
    print(f"wrote {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
