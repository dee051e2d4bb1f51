"""How the benchmarks measure.

- Every benchmark is a process of its own, with one thread for every numerical library (environment, and torch's setting) and
  pinned to one core, the idlest, before anything is imported: pinning later costs some libraries up to three times.
- Time is the CPU time of the process, not the time on the wall: other programs take much of the latter, little of the former.
- The candidates take turns, round by round, in an order that rotates. A ratio is formed within each round; reported are the
  median over the rounds and its quartiles. What slows the machine for a while slows a whole round, not one side.
- Where microseconds are measured, the rounds are shared out over several processes: the same program is a few per cent quicker or
  slower from one start to the next, for where its memory happens to lie.
- Each candidate runs once for its result, which is compared with the others' where there is something to compare, and then to
  find how many repetitions fill a turn: that is the warm-up.
- The cyclic garbage collector runs before each turn, untimed, and stays on within it, as in a user's program: what it costs a
  candidate counts. Benchmarks that do otherwise say so.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "OMP", "MKL", "NUMEXPR", "NUMBA")}

Candidate = Callable[[], Any]
Clock = Callable[[], float]


class BenchmarkError(Exception):
    """A benchmark cannot be run; the message is one line."""


# --- results --------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Spread:
    """A median and the quartiles on either side."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise measurements."""
        ordered = sorted(values)
        if not ordered:
            raise ValueError("no measurements")
        return cls(median(ordered), _quantile(ordered, 0.25), _quantile(ordered, 0.75))

    @classmethod
    def single(cls, value: float) -> Spread:
        """Take one measurement as it is."""
        return cls(value, value, value)


def _quantile(ordered: Sequence[float], q: float) -> float:
    """Interpolate between the two nearest of sorted values."""
    at = q * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``value`` is what the bar is held against: the ratio of ours to theirs or, with ``relative`` false, an amount in ``unit``.
    """

    workload: str
    unit: str
    ours: float | None
    peer: str = ""
    theirs: float | None = None
    value: Spread | None = None
    bar: float | None = None
    relative: bool = True
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None where there is no bar, or nothing to hold against it."""
        if self.bar is None or self.value is None:
            return None
        return self.value.middle >= self.bar if self.at_least else self.value.middle <= self.bar


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Give ours over theirs, round by round."""
    return Spread.of(a / b for a, b in _rounds(ours, theirs))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Give ours minus theirs, round by round."""
    return Spread.of(a - b for a, b in _rounds(ours, theirs))


def _rounds(ours: Sequence[float], theirs: Sequence[float]) -> Iterable[tuple[float, float]]:
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds of ours, {len(theirs)} of the peer's")
    return zip(ours, theirs)


def compare(
    workload: str,
    times: Mapping[str, Sequence[float]],
    ours: str,
    peer: str,
    *,
    bar: float | None = None,
    unit: str = "us",
    scale: float = 1e6,
    name: str = "",
    note: str = "",
) -> Row:
    """Make the row of two candidates from the seconds of each round; one without seconds is one that is not installed."""
    mine, others = times.get(ours), times.get(peer)
    return Row(
        workload,
        unit,
        median(mine) * scale if mine else None,
        name or peer,
        median(others) * scale if others else None,
        ratio(mine, others) if mine and others else None,
        bar,
        note=note or ("" if others else "not installed"),
    )


# --- measuring ------------------------------------------------------------------------------------------------------------------
def repetitions(candidate: Candidate, stretch: float, clock: Clock = time.process_time) -> int:
    """Warm a candidate up and find how often it must run to fill a stretch of time."""
    count = 1
    while True:
        start = clock()
        for _ in range(count):
            candidate()
        elapsed = clock() - start
        if elapsed >= stretch / 2:
            return max(1, round(count * stretch / elapsed))
        count *= 2


def turns(names: Sequence[str], round_: int) -> list[str]:
    """Give the order of a round: it rotates by one from each to the next."""
    shift = round_ % len(names)
    return [*names[shift:], *names[:shift]]


def interleave(
    candidates: Mapping[str, Candidate],
    rounds: int,
    *,
    stretch: float = 0.02,
    clock: Clock = time.process_time,
    collect: Callable[[], object] = gc.collect,
) -> dict[str, list[float]]:
    """Time candidates in turns.

    Parameters
    ----------
    candidates : mapping of str to callable
        What to time.
    rounds : int
        How many turns each gets.
    stretch : float
        Seconds that one turn should last; 0 runs the candidate once a turn, and does not warm it up.
    clock : callable
        Gives seconds.
    collect : callable
        Called, untimed, before every turn.

    Returns
    -------
    dict of str to list of float
        For each candidate, its seconds per run in every round.
    """
    names = list(candidates)
    counts = {name: repetitions(candidates[name], stretch, clock) if stretch else 1 for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds):
        for name in turns(names, round_):
            candidate, count = candidates[name], counts[name]
            collect()
            start = clock()
            for _ in range(count):
                candidate()
            times[name].append((clock() - start) / count)
    return times


def installed(name: str) -> bool:
    """Tell whether a library can be imported, without importing it."""
    return importlib.util.find_spec(name) is not None


def torch_or_none() -> Any:
    """Import torch with one thread; None where it is not installed."""
    if not installed("torch"):
        return None
    import torch

    torch.set_num_threads(1)
    return torch


# --- processes ------------------------------------------------------------------------------------------------------------------
def environment() -> dict[str, str]:
    """Give this process's environment with one thread for every library."""
    return os.environ | THREADS | {"PYTHONHASHSEED": "0"}


def _ticks() -> dict[int, tuple[int, int]]:
    """Give, for each core, its idle time and all its time so far."""
    found = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            spent = [int(field) for field in fields]
            found[int(name[3:])] = (spent[3] + spent[4], sum(spent))
    return found


def pin() -> int | None:
    """Pin this process, and those that it will start, to the idlest core that it may use; None where that cannot be done."""
    if not hasattr(os, "sched_getaffinity") or not Path("/proc/stat").exists():
        return None
    before = _ticks()
    time.sleep(0.2)
    after = _ticks()

    def idle(core: int) -> float:
        if core not in before or core not in after:
            return -1.0
        return (after[core][0] - before[core][0]) / max(1, after[core][1] - before[core][1])

    core = max(os.sched_getaffinity(0), key=idle)
    os.sched_setaffinity(0, {core})
    return core


def python(code: str, *args: str) -> list[str]:
    """Give the command that runs code which may import ``benchmarks``.

    The folder goes to the end of the path: before it, its ``agnostic_ad`` would hide the installed package, which has more in it.
    """
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({str(ROOT)!r}); {code}", *args]


def in_process(function: str, **arguments: Any) -> Any:
    """Run ``function`` of a module of ``benchmarks`` ("scale.ours") in a fresh process and give what it returns, through JSON."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = python("from benchmarks.harness import answer; answer(*sys.argv[1:])", function, json.dumps(arguments), str(answer))
        done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode or not answer.exists():
            lines = done.stderr.strip().splitlines()
            raise BenchmarkError(lines[-1] if lines else f"{function} ended with status {done.returncode}")
        found = json.loads(answer.read_text())
    if "refused" in found:
        raise BenchmarkError(found["refused"])
    return found["result"]


def over_processes(function: str, rounds: int, processes: int = 4, **arguments: Any) -> dict[str, list[float]]:
    """Share rounds out over processes: ``function(rounds=...)`` gives each candidate's times in one of them."""
    shares = [rounds // processes + (i < rounds % processes) for i in range(processes)]
    times: dict[str, list[float]] = {}
    for share in shares:
        if share:
            for name, values in in_process(function, rounds=share, **arguments).items():
                times.setdefault(name, []).extend(values)
    return times


def answer(function: str, arguments: str, path: str) -> None:
    """Do the other process's part of `in_process`."""
    module, _, name = function.rpartition(".")
    try:
        found = {"result": getattr(importlib.import_module(f"benchmarks.{module}"), name)(**json.loads(arguments))}
    except BenchmarkError as error:
        found = {"refused": str(error)}
    Path(path).write_text(json.dumps(found))


def peak_rss() -> float:
    """Give this process's peak resident memory so far, in MB of 10^6 bytes.

    Not ``ru_maxrss`` where it can be helped: a process inherits that from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def rss() -> float:
    """Give this process's resident memory, in MB of 10^6 bytes."""
    path = Path("/proc/self/statm")
    if not path.exists():
        raise BenchmarkError("resident memory is read from /proc, which this system does not have")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# --- the table ------------------------------------------------------------------------------------------------------------------
HEADER = ("workload", "ours", "peer", "theirs", "ratio", "quartiles", "bar", "met")


def number(x: float) -> str:
    """Write about three significant digits, without exponents."""
    digits = 3 if abs(x) < 1 else 2 if abs(x) < 10 else 1 if abs(x) < 100 else 0
    return f"{x:.{digits}f}"


def cells(row: Row) -> tuple[str, ...]:
    """Write a row's cells."""
    amount = "" if row.relative else f" {row.unit}"
    missing = row.note if row.peer and row.note else "-"
    value = row.value
    return (
        row.workload,
        "-" if row.ours is None else f"{number(row.ours)} {row.unit}",
        row.peer or "-",
        missing if row.theirs is None else f"{number(row.theirs)} {row.unit}",
        "-" if value is None else number(value.middle) + amount,
        "-" if value is None or value.low == value.high else f"{number(value.low)} .. {number(value.high)}",
        "-" if row.bar is None else f"{'>=' if row.at_least else '<='} {row.bar:g}{amount}",
        {True: "yes", False: "NO", None: "-"}[row.met],
    )


def table(rows: Sequence[Row]) -> str:
    """Write rows as a table of plain text, with their notes below."""
    lines = [HEADER, *(cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    texts = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    texts.insert(1, "  ".join("-" * width for width in widths))
    texts += [f"  {row.workload}: {row.note}" for row in rows if row.note and row.note not in cells(row)]
    return "\n".join(texts)


def to_json(row: Row) -> dict[str, Any]:
    """Give a row as plain data."""
    return asdict(row) | {"met": row.met}


def from_json(data: Mapping[str, Any]) -> Row:
    """Read back what `to_json` gave."""
    fields = {name: value for name, value in data.items() if name != "met"}
    if fields.get("value") is not None:
        fields["value"] = Spread(**fields["value"])
    return Row(**fields)
