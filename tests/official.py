"""The official suite of the Array API standard, data-apis/array-api-tests, on namespaces of this package and on their parents.

``make official SUITE=path`` runs a checkout of it three times: on the library itself, on ``ad.differentiable(library)``, and on the same
with every floating and complex array requiring grad. A test that passes on the parent must pass on ours. The suite imports this module
for its namespaces, and pytest loads it as a plugin.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

REVISION = "2025.12"
SEEDS = 8
"""How often the parent tries other examples, where ours fails alone."""
MODES = {"parent": "the library itself", "plain": "Variables that do not require grad", "grad": "Variables that require grad"}
CREATION = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "from_dlpack",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "zeros",
    "zeros_like",
]

REFUSED = {
    ("grad", "test_dlpack.py::test_dunder_dlpack"): (
        "EscapedArrayError",
        "exporting the memory of an array that requires grad would silently lose its derivative; x.detach() is exported",
    )
}
"""What is refused by design: the mode and the test, the error that says so, the reason."""

Outcomes = dict[str, tuple[str, str]]
"""Test -> its outcome, and the error's text."""
GONE = ("gone", "")


# --- inside the suite ----------------------------------------------------------------------------------------------------
class Requiring:
    """A namespace whose creation functions give arrays that require grad, wherever their dtype has gradients."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self.__name__ = f"{xp.__name__}, requiring grad"

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._xp, name)
        if name not in CREATION:
            return found

        @functools.wraps(found)
        def create(*args: Any, **kwargs: Any) -> Any:
            return requiring(found(*args, **kwargs))

        return create


def requiring(x: Any) -> Any:
    """Give an array that requires grad, as the result of an operation: leaves refuse to be changed in place."""
    if x.requires_grad or x.backend.kind(x.dtype) not in "fc":
        return x
    x.requires_grad = True
    return +x


def namespace(library: str, mode: str) -> Any:
    """Give the namespace to test."""
    from support import BACKENDS

    import agnostic_ad as ad

    xp = ad.differentiable(importlib.import_module(BACKENDS[library]))
    return {"parent": xp.backend.xp, "plain": xp, "grad": Requiring(xp)}[mode]


def pytest_configure(config: Any) -> None:
    """Leave out the search for smaller failing examples, which takes most of the time, and write nothing into the suite."""
    from hypothesis import Phase, settings

    # after the suite's own hook has loaded its profile: hooks of conftest files run before those of plugins given by -p
    settings.register_profile("official", settings(phases=(Phase.explicit, Phase.generate), database=None))
    settings.load_profile("official")


def pytest_runtest_setup(item: Any) -> None:
    """Let the tests that draw one example at random, behind hypothesis' back, draw the same on the parent and on ours."""
    random.seed(f"{item.config.getoption('hypothesis_seed')} {item.nodeid}")


# --- outside -------------------------------------------------------------------------------------------------------------
def run(suite: Path, library: str, mode: str, examples: int, more: list[str], seed: int | None = None) -> Outcomes:
    """Run the suite in a process of its own; without a seed, each test draws the same examples every time."""
    here = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "ARRAY_API_TESTS_MODULE": f'exec(\'import official; xp = official.namespace("{library}", "{mode}")\')',
        "ARRAY_API_TESTS_VERSION": REVISION,
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": os.pathsep.join(p for p in (str(here), os.environ.get("PYTHONPATH")) if p),
    }
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--no-summary", "-pofficial", "-pno:cacheprovider", "-Wignore"]
        command += ["--json-report", f"--json-report-file={report}", "--disable-deadline", f"--max-examples={examples}"]
        command += ["--derandomize"] if seed is None else [f"--hypothesis-seed={seed}"]
        targets = [] if any(a.startswith("array_api_tests") for a in more) else ["array_api_tests"]
        subprocess.run([*command, *more, *targets], cwd=suite, env=environment, check=False)
        if not report.exists():
            sys.exit(f"the suite did not run: is {suite} a checkout of data-apis/array-api-tests, and its requirements.txt installed?")
        tests = json.loads(report.read_text(encoding="utf-8"))["tests"]
    return {t["nodeid"].removeprefix("array_api_tests/"): (t["outcome"], error_of(t)) for t in tests}


def error_of(test: dict[str, Any]) -> str:
    """Give the text of a test's error."""
    crashes = (test.get(stage, {}).get("crash", {}) for stage in ("setup", "call"))
    return " ".join(crash["message"] for crash in crashes if crash)


def lost(parent: Outcomes, ours: Outcomes) -> list[str]:
    """List the tests that pass on the parent alone; one that is skipped or gone counts."""
    return [name for name, (outcome, _) in parent.items() if outcome == "passed" and ours.get(name, GONE)[0] != "passed"]


def refusal(mode: str, name: str, error: str) -> str:
    """Say why a test fails by design; empty where it should not."""
    kind, reason = REFUSED.get((mode, name), ("", ""))
    return reason if kind and kind in error else ""


def main() -> int:
    """Run, compare, and say what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suite", type=Path, help="a checkout of data-apis/array-api-tests, with its submodule")
    parser.add_argument("--namespace", default="numpy", help="the parent: numpy, array_api_strict, torch, jax, dask")
    parser.add_argument("--max-examples", type=int, default=20, help="how many examples for each test")
    options, more = parser.parse_known_args()
    found = {mode: run(options.suite, options.namespace, mode, options.max_examples, more) for mode in MODES}
    for mode, what in MODES.items():
        counts = Counter(outcome for outcome, _ in found[mode].values())
        totals = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
        print(f"{options.namespace}, {what}: {totals}; {len(lost(found[mode], found['parent']))} pass here and not on the library")
    differences = {mode: lost(found["parent"], found[mode]) for mode in ("plain", "grad")}
    unclear = sorted(
        {name for mode, names in differences.items() for name in names if not refusal(mode, name, found[mode].get(name, GONE)[1])}
    )
    flaws: set[str] = set()
    for seed in range(SEEDS if unclear else 0):  # with other examples the parent may fail as well
        targets = [f"array_api_tests/{name}" for name in unclear if name not in flaws]
        again = run(options.suite, options.namespace, "parent", 10 * options.max_examples, [*more, *targets], seed) if targets else {}
        flaws |= {name for name, (outcome, _) in again.items() if outcome != "passed"}
    bad = 0
    for mode, names in differences.items():
        for name in names:
            outcome, error = found[mode].get(name, GONE)
            reason = refusal(mode, name, error) or ("the parent fails too, with other examples" if name in flaws else "")
            bad += not reason
            print(f"{'explained' if reason else 'LOST'}, {mode}: {name} {outcome}: {reason or error[:300]}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
