"""``agnostic-ad conformance``: its options, its progress, and its summary in the terminal."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from agnostic_ad.cli import count as at_least_one
from agnostic_ad.cli import positive, seed
from agnostic_ad.conformance.deviations import DeviationsError
from agnostic_ad.conformance.html import SYMBOLS, page
from agnostic_ad.conformance.report import BAD, Report, Row, number
from agnostic_ad.conformance.running import LEVELS, UnknownNameError, run

__all__ = ["add_options", "describe", "main", "summary"]

WRITERS: dict[str, Callable[[Report], str]] = {
    "report": page,
    "json": Report.json,
    "junit": Report.junit,
    "badge": lambda report: json.dumps(report.badge()) + "\n",
}
"""The options that name a file, and what is written into it."""
SHOWN = 12
"""Operations that the summary shows with reason and example; of the others it gives a line each."""
REASON, EXAMPLE = 14, 30
"""Lines of a reason and of an example in the terminal."""


def add_options(add: Callable[..., Any]) -> None:
    """Add what the command line and the pytest plugin have in common.

    Parameters
    ----------
    add : callable
        ``add_argument`` of argparse, or ``addoption`` of pytest.
    """
    add("--namespace", default="numpy", metavar="NAME", help="what to import: numpy, jax.numpy, module:attribute (default: numpy)")
    add("--ops", default="", metavar="A,B", help="only these operations, layers or optimizers")
    add("--level", default="quick", metavar="|".join(LEVELS), help="how many calls of each operation (default: quick)")
    add("--seed", type=seed, default=0, metavar="N", help="of all numbers; one seed gives one verdict (default: 0)")
    add("--device", default=None, metavar="D", help="a device of the library (default: the library's choice)")
    add("--setup", default="", metavar="CODE", help="Python code to run before the library is used, such as the setting of a flag")
    add("--time-limit", type=positive, default=120.0, metavar="S", help="seconds for a law of an operation with a dtype (default: 120)")
    add("--deviations", default=None, metavar="FILE", help="a file of known deviations, beside those that the package ships")
    add("--allow-missing", action="store_true", default=False, help="let functions that the library lacks pass")


def names(ops: str) -> list[str] | None:
    """Give the operations of a comma list; None for all."""
    return [name.strip() for name in ops.split(",") if name.strip()] or None


def main(parser: argparse.ArgumentParser, given: Sequence[str]) -> int:
    """Run the command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        An empty one, whose ``error`` ends the program with status 2.
    given : sequence of str
        The arguments.

    Returns
    -------
    int
        0 where all is well, 1 where anything is not.
    """
    add_options(parser.add_argument)
    parser.add_argument("--jobs", type=at_least_one, default=None, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page of HTML")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    parser.add_argument("--badge", type=Path, metavar="FILE", help="write a badge for shields.io; its line for a README is printed")
    options = parser.parse_args(given)
    files = {kind: path for kind in WRITERS if (path := getattr(options, kind)) is not None}
    for path in files.values():  # before the work, not after it
        _writable(path, parser)
    try:
        with _progress() as progress:
            report = run(
                options.namespace, names(options.ops), options.level, options.seed, device=options.device, jobs=options.jobs,
                time_limit=options.time_limit, known=options.deviations, setup=options.setup, allow_missing=options.allow_missing,
                progress=progress,
            )  # fmt: skip
    except (UnknownNameError, DeviationsError) as error:
        parser.error(str(error))
    print(summary(report))
    for kind, path in files.items():
        path.write_text(WRITERS[kind](report), encoding="utf-8")
        print(f"wrote {path}")
    if options.badge:
        print(report.badge_line())
    return 0 if report.ok else 1


def _writable(path: Path, parser: argparse.ArgumentParser) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        parser.error(f"cannot write to {path}: {error.strerror}")


# --- progress -------------------------------------------------------------------------------------------------------------------------
@contextmanager
def _progress() -> Iterator[Callable[[str, int, int, Sequence[Row]], None]]:
    """Give what to call after each operation: a bar in a terminal where rich is installed, else a line at each tenth of the way."""
    failed = Counter[str]()

    def counted(rows: Sequence[Row]) -> str:
        failed.update(row.status for row in rows if row.status in BAD)
        return ", ".join(f"{count:,} {status}" for status, count in failed.items())

    if find_spec("rich") is not None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            with Progress(*columns, console=console, transient=True) as bar:
                task = bar.add_task("starting", total=None)
                yield lambda name, done, total, rows: bar.update(
                    task, completed=done, total=total, description=" · ".join(filter(None, [name, counted(rows)]))
                )
            return

    def line(name: str, done: int, total: int, rows: Sequence[Row]) -> None:
        so_far = counted(rows)
        if done * 10 // total != (done - 1) * 10 // total and total >= 20:
            print(f"{done} of {total} operations" + (f", {so_far}" if so_far else ""), flush=True)

    yield line


# --- summary --------------------------------------------------------------------------------------------------------------------------
def summary(report: Report) -> str:
    """Give what a run found as text: each operation that fails with the law, the reason and its smallest example, then the counts.

    Parameters
    ----------
    report : Report
        What to tell.

    Returns
    -------
    str

    Examples
    --------
    >>> from agnostic_ad import conformance
    >>> from agnostic_ad.conformance.command import summary
    >>> print(summary(conformance.run("numpy", ops=["sin"], jobs=0)).splitlines()[-1].rpartition(":")[0])
    numpy conforms
    """
    by_op: dict[str, list[Row]] = {}
    for row in report.failures:
        by_op.setdefault(row.op, []).append(row)
    full = [rows for rows in by_op.values() if any(row.status != "missing" for row in rows)]
    missing = [op for op, rows in by_op.items() if rows not in full]
    parts = [describe(rows) for rows in full[:SHOWN]]
    parts += [f"{SYMBOLS[worst.status]} {worst.title}: {worst.status}" for worst in map(_worst, full[SHOWN:])]
    if missing:
        parts.append(_wrapped(f"{report.namespace} lacks the functions of {number(len(missing), 'operation')}: {', '.join(missing)}"))
    known = {**report.versions, "device": report.device, "setup": report.setup}
    facts = [f"{name} {value}" for name, value in known.items() if value and name != "platform"]
    parts.append(" · ".join([*facts, f"level {report.level}", f"seed {report.seed}"]))
    parts += [_wrapped(limit) for limit in report.limits]
    ops = len({row.op for row in report.rows if row.op})
    counts = ", ".join(f"{count:,} {status}" for status, count in report.counts().items()) or "nothing was checked"
    verdict = "conforms" if report.ok else "does not conform"
    parts.append(f"{report.namespace} {verdict}: {number(ops, 'operation')}, {counts}, in {report.seconds:.0f} s")
    return "\n\n".join(parts)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, min(100, shutil.get_terminal_size().columns), break_on_hyphens=False)


def _worst(rows: Sequence[Row]) -> Row:
    """Give the row to show of an operation: what is broken before what is missing, the smallest example before larger ones."""
    order = ("failed", "error", "hang", "stale", "missing")
    return min(rows, key=lambda row: (order.index(row.status), not row.example, len(row.example)))


def describe(rows: Sequence[Row]) -> str:
    """Give the failing rows of one operation as text: one of them with its reason and example, the others by name."""
    worst = _worst(rows)
    text = [f"{SYMBOLS[worst.status]} {worst.title}: {worst.status}", textwrap.indent(_head(worst.reason, REASON), "    ")]
    if worst.example:
        text += ["  the smallest call that shows it:", textwrap.indent(_head(worst.example, EXAMPLE), "    ")]
    others = Counter(
        " ".join(filter(None, [row.law, row.status if row.status != worst.status else ""])) for row in rows if row is not worst
    )
    if others:
        text.append(textwrap.indent(_wrapped(f"also: {', '.join(f'{name} ({n})' if n > 1 else name for name, n in others.items())}"), "  "))
    return "\n".join(text)


def _head(text: str, lines: int) -> str:
    given = text.strip().splitlines()
    return "\n".join(given if len(given) <= lines else [*given[:lines], f"... {len(given) - lines} more lines"])
