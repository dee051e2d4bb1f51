"""A whole run: operations handed out to worker processes, which may hang or die without taking the others along."""

from __future__ import annotations

import difflib
import multiprocessing
import os
import signal
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from agnostic_ad.conformance import caffe, deviations, networks, oracle, strategies
from agnostic_ad.conformance.checking import check, operations, resolve
from agnostic_ad.conformance.laws import LAWS, Place
from agnostic_ad.conformance.report import Report, Row, versions
from agnostic_ad.errors import UnsupportedError
from agnostic_ad.namespaces import backend_of_namespace

__all__ = ["LEVELS", "Task", "UnknownNameError", "Workers", "chosen", "held", "laws", "limits", "run", "subjects"]

LEVELS = ("quick", "full")
START = 120.0
"""Seconds for a worker to start and import the library."""
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
ENVIRONMENT = {"": dict.fromkeys(THREADS, "1"), "jax": {"JAX_ENABLE_X64": "1"}}
"""What workers find in their environment, unless it is set already, by the library's top-level module: without it jax has no float64. "" is
for all: one thread each, for there is a worker for every core."""


class UnknownNameError(ValueError):
    """No operation, or no level, has this name."""


def run(
    namespace: str = "numpy",
    ops: Iterable[str] | None = None,
    level: str = "quick",
    seed: int = 0,
    *,
    device: str | None = None,
    jobs: int | None = None,
    time_limit: float = 120.0,
    known: str | Path | None = None,
    setup: str = "",
    allow_missing: bool = False,
    progress: Callable[[str, int, int, Sequence[Row]], None] | None = None,
) -> Report:
    """Check every operation of the table on a library, and every layer, loss and optimizer.

    Parameters
    ----------
    namespace : str
        What to import: a module that follows the Array API standard, or ``module:attribute``.
    ops : iterable of str, optional
        Only these: names of `subjects`.
    level : {"quick", "full"}
        How many calls of each; "full" trains networks, too.
    seed : int
        Of all numbers; the same seed gives the same verdict.
    device : str, optional
        A device of the library; by default the library's choice.
    jobs : int, optional
        Worker processes; by default one a core. 0 computes in this process, where no time limit holds.
    time_limit : float
        Seconds for one law of one operation with one dtype.
    known : path, optional
        A file of known deviations, beside those that this package ships.
    setup : str
        Python code to run before the library is used, such as the setting of a flag.
    allow_missing : bool
        Let functions that the library lacks pass.
    progress : callable, optional
        Called with an operation's name, how many are done, how many there are, and the operation's rows.

    Returns
    -------
    Report
        Whatever is wrong with the library is in its rows; nothing is raised for it.

    Raises
    ------
    UnknownNameError
        Where an operation or the level does not exist; the text names the nearest.
    DeviationsError
        Where the file of known deviations cannot be read, or names what does not exist.

    Examples
    --------
    >>> from agnostic_ad import conformance
    >>> report = conformance.run("numpy", ops=["sin"], jobs=0)
    >>> report.ok
    True
    """
    names, begin = chosen(ops, nearest(level, LEVELS, "level")), time.perf_counter()
    task = Task(namespace, level, seed, device, setup, str(known or ""))
    report = Report(namespace, level, seed, device or "", setup, allow_missing)
    excused = task.excused()
    with Workers(task, excused, min(os.cpu_count() or 1 if jobs is None else jobs, len(names)), time_limit) as workers:
        facts = workers.facts()
        if isinstance(facts, Row):
            report.rows.append(facts)
            return report
        report.versions, report.device, report.limits = facts["versions"], facts["device"], facts["limits"]
        for done, (name, rows) in enumerate(workers.check(names), start=1):
            report.rows.extend(rows)
            if progress is not None:
                progress(name, done, len(names), rows)
    order = {name: i for i, name in enumerate(names)}
    report.rows.sort(key=lambda row: order[row.op])
    report.seconds = time.perf_counter() - begin
    return report


def nearest(name: str, known: Sequence[str], what: str) -> str:
    """Give a name that is known; of one that is not, say the nearest."""
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, 3)
    hint = f"Do you mean {', '.join(near)}?" if near else f"There is {', '.join(known[:3])}{', ...' if len(known) > 3 else '.'}"
    raise UnknownNameError(f"unknown {what} {name!r}. {hint}")


def subjects(level: str = "full") -> list[str]:
    """Give the names of all that is checked: the operations of the table, then layers, losses, optimizers and trainings, then Caffe's layers."""
    return [*operations(), *networks.names(level), *caffe.names()]


def limits() -> list[str]:
    """Say what cannot be checked here, for lack of a package."""
    return [part.WITHOUT for part in (strategies, oracle) if not part.AVAILABLE]


def laws() -> dict[str, str]:
    """Give all laws by name, with what they say."""
    return {name: " ".join((law.__doc__ or "").split()) for name, law in LAWS.items()} | {
        name: law.text for part in (networks.LAWS, caffe.LAWS) for name, law in part.items()
    }


def held(report: Report) -> list[str]:
    """Give the names of the laws that a report speaks of, in their order."""
    found = {row.law for row in report.rows if row.law}
    return [*(name for name in laws() if name in found), *sorted(found - laws().keys())]


def chosen(ops: Iterable[str] | None, level: str = "full") -> list[str]:
    """Give the names that were asked for, each once: by default all of the level."""
    known = subjects(level)
    return known if ops is None else [nearest(name, known, "operation") for name in dict.fromkeys(ops)]


@dataclass(frozen=True)
class Task:
    """What is the same for all operations of a run."""

    namespace: str
    level: str = "quick"
    seed: int = 0
    device: str | None = None
    setup: str = ""
    known: str = ""

    @cached_property
    def place(self) -> Place:
        """The library, imported, and the device."""
        if self.setup:
            exec(self.setup, {})
        backend = backend_of_namespace(resolve(self.namespace))
        return Place(backend, backend.parse_device(self.device))

    def facts(self) -> dict[str, Any] | Row:
        """Give versions and the device; a row where the library cannot be used."""
        try:
            place = self.place
            x = place.backend.asarray([0.5, 1.5], dtype=place.backend.float64, device=place.device)
            if not str(x.dtype).endswith("float64"):
                raise UnsupportedError(f"it gives {x.dtype} for float64. For jax, set JAX_ENABLE_X64=1.")
            return {"versions": versions(place.backend), "device": str(place.backend.device(x)), "limits": limits()}
        except Exception as error:
            reason = f"{self.namespace} cannot be used: {type(error).__name__}: {error}"
            return Row("", "", "", self.device or "", "error", reason=reason)

    @property
    def library(self) -> str:
        """The top-level module."""
        return self.namespace.partition(":")[0].partition(".")[0]

    def excused(self) -> list[deviations.Deviation]:
        """Give the known deviations of the library."""
        entries = [*deviations.known(self.library), *(deviations.read(Path(self.known)) if self.known else [])]
        wrong = deviations.unknown(entries, subjects(), list(laws()))
        if wrong:
            raise deviations.DeviationsError(wrong)
        return entries

    def rows(self, name: str) -> Iterator[Row]:
        """Give the rows of one operation as they are found; whatever it raises is one of them."""
        try:
            checking = networks.check if name in networks.names("full") else caffe.check if name in caffe.names() else check
            for row in checking(name, self.place, self.level, self.seed):
                yield replace(row, example=self._to_paste(row.example)) if row.example else row
        except Exception:
            yield Row(name, "", "", self.device or "", "error", reason=traceback.format_exc(limit=-4))

    def _to_paste(self, example: str) -> str:
        """Import what was checked, by the name that it was given."""
        module, _, attribute = self.namespace.partition(":")
        line = f"import {module} as xp" if not attribute else f"import {module}\nxp = {module}.{attribute}"
        ready = [self.setup] if self.setup else []
        return "\n".join([*ready, example.replace(f"import {self.place.backend.name} as xp", line)])


# --- workers ------------------------------------------------------------------------------------------------------------------------------
class Workers:
    """Processes that compute operations. One that hangs or dies is replaced.

    Parameters
    ----------
    task : Task
        What is the same for all operations.
    excused : sequence of Deviation
        What is known not to hold.
    jobs : int
        How many processes; 0 for none, and all is computed here.
    time_limit : float
        Seconds that a process may take from one row to the next.
    """

    def __init__(self, task: Task, excused: Sequence[deviations.Deviation], jobs: int, time_limit: float) -> None:
        self.task, self.excused, self.jobs, self.limit = task, excused, jobs, time_limit
        self._all: list[_Worker] = []
        self._facts: dict[str, Any] | Row | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        while self._all:
            self._all.pop().stop()

    def facts(self) -> dict[str, Any] | Row:
        """Give versions and device, or a row that says why the library cannot be used."""
        if self._facts is None:
            self._facts = self._first().facts_or_row() if self.jobs else self.task.facts()
        return self._facts

    def check(self, names: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
        """Yield each operation with its rows, in the order in which they are done."""
        facts = self.facts()
        if isinstance(facts, Row):
            yield from ((name, [replace(facts, op=name)]) for name in names)
            return
        for name, rows in self._spread(names) if self.jobs else ((name, list(self.task.rows(name))) for name in names):
            yield name, deviations.excuse(rows, self.excused, self.task.level)

    def _first(self) -> _Worker:
        worker = self._worker(0)
        while not worker.done:
            worker.step(bool(wait([worker.pipe], max(0.0, worker.deadline - time.monotonic()))))
        return worker

    def _worker(self, number: int) -> _Worker:
        if number == len(self._all):
            self._all.append(_Worker(self.task, self.limit))
        elif self._all[number].dead:
            self._all[number].stop()
            self._all[number] = _Worker(self.task, self.limit)
        return self._all[number]

    def _spread(self, names: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
        todo, busy = list(reversed(names)), dict[int, _Worker]()
        while todo or busy:
            for number in range(self.jobs):
                if todo and number not in busy:
                    busy[number] = self._worker(number)
                    busy[number].give(todo.pop())
            soonest = min(worker.deadline for worker in busy.values())
            ready = wait([worker.pipe for worker in busy.values()], max(0.0, soonest - time.monotonic()))
            for number, worker in list(busy.items()):
                worker.step(worker.pipe in ready)
                if worker.done:
                    yield worker.name, worker.rows
                    del busy[number]


class _Worker:
    """A process, and what is known of it here."""

    def __init__(self, task: Task, limit: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=_work, args=(task, there), daemon=True)
        with _surroundings(task.library):
            self.process.start()
        there.close()
        self.limit, self.deadline = limit, time.monotonic() + START
        self.facts: dict[str, Any] | None = None
        self.name, self.rows = "", list[Row]()
        self.done = self.dead = False

    def give(self, name: str) -> None:
        """Hand it an operation."""
        self.name, self.rows, self.done = name, [], False
        if self.facts is not None:
            self.deadline = time.monotonic() + self.limit
        with suppress(OSError):  # it died meanwhile: the next step finds out
            self.pipe.send(name)

    def step(self, ready: bool) -> None:
        """Take what it says, or see that it says nothing any more."""
        if ready:
            try:
                said = self.pipe.recv()
            except (EOFError, OSError):
                self.process.join()
                self._end("error", f"the process died{_death(self.process.exitcode)}")
                return
            self.deadline = time.monotonic() + self.limit
            if isinstance(said, dict):
                self.facts, self.done = said, not self.name
            elif said is None:
                self.done, self.dead = True, self.facts is None
            else:
                self.rows.append(said if said.op else replace(said, op=self.name))
        elif time.monotonic() >= self.deadline:
            self._end("hang", f"nothing for {self.limit if self.facts is not None else START:g} s")

    def _end(self, status: str, what: str) -> None:
        after = f" after {self.rows[-1].law} with {self.rows[-1].dtype}" if self.rows else ""
        when = "" if self.facts is not None else ", while the library was imported"
        self.rows.append(Row(self.name, "", "", "", status, reason=f"{what}{after}{when}"))
        self.done = self.dead = True

    def facts_or_row(self) -> dict[str, Any] | Row:
        """Give what is known of the library, or why it cannot be used."""
        return self.rows[-1] if self.facts is None else self.facts

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f", exit status {code}"
    with suppress(ValueError):
        return f", killed by {signal.Signals(-code).name}"
    return f", killed by signal {-code}"


def _work(task: Task, pipe: Connection) -> None:
    """Compute the operations that come, row by row, in a process of their own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is asked to stop, and ends this one
    warnings.simplefilter("ignore")  # of overflow and the like, which the laws provoke
    facts = task.facts()
    pipe.send(facts)
    if isinstance(facts, Row):
        pipe.send(None)
        return
    with suppress(EOFError):
        while True:
            for row in task.rows(pipe.recv()):
                pipe.send(row)
            pipe.send(None)


@contextmanager
def _surroundings(library: str) -> Iterator[None]:
    """Let a process start with what the library needs in its environment, and without running the caller's script again."""
    wanted = {**ENVIRONMENT[""], **ENVIRONMENT.get(library, {})}
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    main = sys.modules["__main__"]
    os.environ.update(new)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name in new:
            del os.environ[name]
