"""The suite, tested: faults are planted in the op table one at a time, and each must break a law.

``python -m agnostic_ad.conformance.mutate`` plants them all and prints what came of it; ``--write`` writes the page of the documents. Calls are
those that the table states, on NumPy, and a fault is done with at the first law that is broken: the laws come in the order of what they cost.
A fault that no law sees is a survivor. Those that change nothing anybody could see are listed, each with its reason, in ``equivalents.toml``.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import platform
import sys
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

import agnostic_ad
from agnostic_ad.conformance.catalogue import Call, calls
from agnostic_ad.conformance.checking import EXTENTS, operations
from agnostic_ad.conformance.faults import Fault, faults, planted
from agnostic_ad.conformance.laws import LAWS, NARROW, LawBroken, Place
from agnostic_ad.conformance.running import UnknownNameError, chosen
from agnostic_ad.conformance.strategies import drawn
from agnostic_ad.namespaces import backend_of_namespace
from agnostic_ad.op import TABLE

__all__ = ["Outcome", "Outcomes", "checks", "explained", "explanations", "hold", "main", "page", "run"]

ORDER = (
    "abstract_is_actual",
    "forward_is_the_derivative",
    "reverse_is_the_adjoint",
    "batches_are_loops",
    "values_stay",
    "stated_at_kinks",
    "quick_forms_agree",
    "uses_add_up",
)
"""The laws that come first, with all calls: they are cheap, and most faults break one of them."""
FEW = 3
"""Calls of each kind of dtype, for the other laws."""

BAR = 0.99
"""The share of faults that must be seen."""

Check = tuple[str, Call]


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes
    ----------
    fault, kind : str
        Which one, and of what kind.
    law : str
        The law that was broken; "" for a survivor.
    raised : bool
        Whether something raised, rather than come out wrong.
    reason : str
        Why nobody could see it, for a survivor that is explained.
    """

    fault: str
    kind: str
    law: str = ""
    raised: bool = False
    reason: str = ""


@dataclass
class Outcomes:
    """What became of all faults."""

    outcomes: list[Outcome] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def killed(self) -> list[Outcome]:
        """Those that broke a law."""
        return [o for o in self.outcomes if o.law]

    @property
    def equivalent(self) -> list[Outcome]:
        """Survivors that are explained."""
        return [o for o in self.outcomes if o.reason]

    @property
    def survivors(self) -> list[Outcome]:
        """Survivors that nobody has explained."""
        return [o for o in self.outcomes if not o.law and not o.reason]

    @property
    def score(self) -> float:
        """The share of killed ones among those that anybody could see."""
        return len(self.killed) / max(1, len(self.outcomes) - len(self.equivalent))


# --- running ------------------------------------------------------------------------------------------------------------------------------
def checks(name: str, place: Place, more: bool = False) -> list[Check]:
    """Give the laws with the calls that they hold for as the table is, the cheap laws and the large calls first.

    What is broken without a fault proves nothing with one.

    Parameters
    ----------
    name : str
        The operation.
    place : Place
        The library and the device.
    more : bool
        Rather than the calls that the table states, give those that Hypothesis draws at the quick level, with the cheap laws.
    """
    op, found = TABLE[name], list[Check]()
    wide, narrow = (list(calls(op, precision)) for precision in ("double", "single"))
    wide.sort(key=lambda call: call.size[1:], reverse=True)
    narrow, few = _few([call for call in narrow if call.moving]), _few(wide)
    if more:
        kinds = [kind for kind in "fcib" if any(kind in case.kinds for case in op.cases or ())]
        wide = [c for kind in kinds for c in drawn(op, kind, EXTENTS["quick"].drawn, 0)]
    for law in ORDER if more else (*ORDER, *(law for law in LAWS if law not in ORDER)):
        for call in narrow if law in NARROW else wide if law in ORDER else few:
            try:
                if LAWS[law](call, place):
                    found.append((law, call))
            except Exception:
                continue
    return found


def _few(given: list[Call]) -> list[Call]:
    """Give some calls of each kind of dtype, spread over all."""
    kinds = [[call for call in given if call.kind == kind] for kind in "fcib"]
    return [call for of in kinds for call in of[:: max(1, len(of) // FEW)][:FEW]]


def hold(fault: Fault, given: Iterable[Check], place: Place) -> Outcome:
    """Plant a fault, and give the first law that it breaks.

    Parameters
    ----------
    fault : Fault
        The fault.
    given : iterable of (str, Call)
        The laws and calls to try, as `checks` gives them.
    place : Place
        The library and the device.
    """
    with planted(fault):
        for law, call in given:
            try:
                LAWS[law](call, place)
            except LawBroken:
                return Outcome(str(fault), fault.kind, law)
            except Exception:
                return Outcome(str(fault), fault.kind, law, raised=True)
    return Outcome(str(fault), fault.kind)


@cache
def explanations(table: str = "equivalent") -> dict[str, str]:
    """Give the reasons why some faults cannot be seen, or why they are "missed", by patterns of their names."""
    entries = tomllib.loads(files("agnostic_ad.conformance").joinpath("equivalents.toml").read_text("utf-8"))[table]
    return {pattern: entry["reason"] for entry in entries for pattern in entry["faults"]}


def explained(fault: str, table: str = "equivalent") -> str:
    """Give the reason why a fault cannot be seen, or why it is "missed"; "" where there is none."""
    return next((reason for pattern, reason in explanations(table).items() if fnmatchcase(fault, pattern)), "")


def _of_one(name: str, some: Sequence[Fault] | None = None) -> tuple[str, list[Outcome], bool]:
    place = Place(backend_of_namespace(np))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        given, more = checks(name, place), None
        found = []
        for fault in faults(name) if some is None else some:
            outcome = hold(fault, given, place)
            reason = "" if outcome.law else explained(outcome.fault)
            if not outcome.law and not reason:
                more = checks(name, place, more=True) if more is None else more
                outcome = hold(fault, more, place)
            found.append(replace(outcome, reason=reason))
    return name, found, bool(given)


def run(names: Sequence[str] | None = None, jobs: int | None = None, progress: bool = False) -> Outcomes:
    """Plant every fault of the table, one at a time.

    Parameters
    ----------
    names : sequence of str, optional
        Only these operations.
    jobs : int, optional
        Processes; by default one a core. 0 plants them in this process.
    progress : bool
        Whether to say how far it is, on the standard error.

    Raises
    ------
    UnknownNameError
        Where an operation does not exist; the text names the nearest.

    Examples
    --------
    >>> from agnostic_ad.conformance import mutate
    >>> done = mutate.run(["sin"], jobs=0)
    >>> len(done.killed) > 15, done.survivors
    (True, [])
    """
    names, begin, found = chosen(names) if names else operations(), time.perf_counter(), Outcomes()
    by_name: dict[str, list[Outcome]] = {}
    for number, (name, outcomes, checked) in enumerate(_all(names, os.cpu_count() or 1 if jobs is None else jobs), start=1):
        by_name[name] = outcomes
        if not checked:
            found.unchecked.append(name)
        if progress:
            print(f"\r{number} of {len(names)} operations", end="" if number < len(names) else "\n", file=sys.stderr, flush=True)
    found.outcomes = [outcome for name in names for outcome in by_name[name]]
    found.seconds = time.perf_counter() - begin
    return found


def _all(names: Sequence[str], jobs: int) -> Iterator[tuple[str, list[Outcome], bool]]:
    if not jobs:
        yield from map(_of_one, names)
        return
    heavy = sorted(names, key=lambda name: -len(faults(name)))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_of_one, heavy)


# --- the page of the documents ------------------------------------------------------------------------------------------------------------
_INTRODUCTION = """\
# Faults planted in the table

A certificate of the [conformance suite](conformance.md) says that no law was broken. That means something only if a wrong rule *would* have
broken one. So the suite is tested as it tests libraries: `agnostic_ad.conformance.mutate` plants a fault in the op table (a sign, a
forgotten conjugate, an axis, a batch taken for its first member, a number rounded to float32), runs the laws on that operation, takes the
fault out again and plants the next. For authors of array libraries this is the answer to "what would it have found?": each row below is a
way to be wrong, with the number of times it was tried and the number of times it was seen. Every fault is one operation's alone, and the
engine, its quick path included, runs as it always does; values of plain arrays are never changed, so what is seen is seen in derivatives,
batches, and shapes and dtypes.

Two sorts are planted. *Wrappers* change what a rule is given or gives, for every operation. *Edits* change one place of the rule's own text, such as
a sign or a constant, helpers of the standard's elementwise functions included. Of `xp.special` the formulas are edited; the numerical methods that
they call, with branches for the far ends of the real line, are wrapped and not edited: tests of their own compare them with fifty digits there. `nn.pool_take`
and `nn.pool_put`, which only `nn.max_pool` calls, are left out."""


def page(done: Outcomes, jobs: int) -> str:
    """Give the page of the documents, in Markdown."""
    tried, seen, unseen = (Counter(o.kind for o in some) for some in (done.outcomes, done.killed, done.equivalent))
    laws, raised = Counter(o.law for o in done.killed), Counter(o.law for o in done.killed if o.raised)
    facts = [
        f"{len(done.outcomes)} faults in {len({o.fault.split(' | ')[0] for o in done.outcomes})} operations",
        f"{len(done.killed)} seen",
        f"{len(done.equivalent)} that nobody could see",
        f"{len(done.survivors)} missed",
    ]
    lines = [
        _INTRODUCTION,
        "",
        f"{', '.join(facts)}: **{100 * done.score:.2f} %** of those that can be seen.",
        "",
        f"Made by `python -m agnostic_ad.conformance.mutate --write` on {datetime.date.today():%Y-%m-%d}, in {done.seconds:.0f} seconds with "
        f"{jobs} process{'es' * (jobs != 1)}: agnostic_ad {agnostic_ad.__version__}, NumPy {np.__version__}, Python {platform.python_version()}.",
        "",
        "## By kind",
        "",
        "| what is wrong | planted | seen | nobody could see | missed |",
        "|---|---:|---:|---:|---:|",
        *(f"| {k} | {n} | {seen[k]} | {unseen[k] or ''} | {n - seen[k] - unseen[k] or ''} |" for k, n in tried.most_common()),
        "",
        "## By law",
        "",
        f"A fault counts for the first law that it breaks, in this order; most would break several. The first {len(ORDER)} are tried on every call "
        "that the table states, the others on some of them; what is left meets the first on calls that Hypothesis draws.",
        "",
        "| law | faults seen | of which something raised |",
        "|---|---:|---:|",
        *(f"| `{law}` | {laws[law] or ''} | {raised[law] or ''} |" for law in (*ORDER, *(law for law in LAWS if law not in ORDER))),
        "",
        "## Missed",
        "",
        *_listed([(o.fault, explained(o.fault, "missed") or "Nobody has looked into it.") for o in done.survivors]),
        "",
        "## Nobody could see",
        "",
        "What is changed here makes no difference to any result.",
        "",
    ]
    lines += _listed([(o.fault, o.reason) for o in done.equivalent])
    if done.unchecked:
        lines += ["", f"Nothing to check with: {', '.join(f'`{name}`' for name in done.unchecked)}."]
    return "\n".join(lines).rstrip() + "\n"


def _listed(given: Sequence[tuple[str, str]]) -> list[str]:
    """Give faults under their reasons."""
    reasons = dict.fromkeys(reason for _, reason in given)
    return [line for r in reasons for line in (f"- {r}", *(f"  - `{fault}`" for fault, reason in given if reason == r))] or ["None."]


def main(argv: Sequence[str] | None = None) -> int:
    """Plant faults, as the command line says; give 1 where too many were missed."""
    parser = argparse.ArgumentParser(
        "python -m agnostic_ad.conformance.mutate", description="Plant faults in the op table; each must break a law."
    )
    parser.add_argument("ops", nargs="*", help="operations; by default all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; 0 for none")
    parser.add_argument("--write", nargs="?", const="docs/mutation-report.md", metavar="FILE", help="write the page of the documents")
    given = parser.parse_args(argv)
    try:
        done = run(given.ops or None, given.jobs, progress=True)
    except UnknownNameError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.write:
        Path(given.write).write_text(page(done, given.jobs), encoding="utf-8")
    else:
        print("\n".join(o.fault for o in done.survivors))
    print(f"{len(done.killed)} of {len(done.outcomes) - len(done.equivalent)} seen ({100 * done.score:.2f} %)", file=sys.stderr)
    return int(done.score < BAR)


if __name__ == "__main__":
    sys.exit(main())
