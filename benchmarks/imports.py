"""What ``import agnostic_ad`` costs over ``import numpy``.

CPU time, user and system, of whole processes that take turns. The bytecode is there already, in a folder of the benchmark's own, as it
is after an ordinary installation, whatever the surroundings say of writing it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from statistics import median

from benchmarks.harness import BenchmarkError, Row, difference, environment, turns

PROGRAMS = {"nothing": "pass", "numpy": "import numpy", "agnostic_ad": "import agnostic_ad"}


def cpu_time(code: str, cache: str) -> float:
    """Run a program in a fresh interpreter and give its CPU seconds."""
    if not hasattr(os, "wait4"):
        raise BenchmarkError("this system does not tell what a process took (no os.wait4)")
    surroundings = {k: v for k, v in environment().items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": cache}
    with subprocess.Popen([sys.executable, "-P", "-c", code], env=surroundings, stderr=subprocess.PIPE, text=True) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        lines = process.stderr.read().strip().splitlines() if process.stderr else []
    if process.returncode:
        raise BenchmarkError(f"{code}: {lines[-1] if lines else f'status {process.returncode}'}")
    return used.ru_utime + used.ru_stime


def run(rounds: int | None = None, smoke: bool = False) -> list[Row]:
    """Measure."""
    rounds = rounds or (1 if smoke else 25)
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as cache:
        for code in PROGRAMS.values():
            cpu_time(code, cache)  # writes the bytecode, and fills the file cache
        for round_ in range(rounds):
            for name in turns(list(PROGRAMS), round_):
                times[name].append(cpu_time(PROGRAMS[name], cache) * 1e3)
    over = difference(times["agnostic_ad"], times["numpy"])
    note = f"an interpreter that imports nothing takes {median(times['nothing']):.1f} ms"
    ours, theirs = median(times["agnostic_ad"]), median(times["numpy"])
    return [Row("import agnostic_ad over numpy", "ms", ours, "numpy", theirs, over, 80, relative=False, note=note)]
