"""The command: runs benchmarks, each in a process of its own, and prints one table for each."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchmarkError, Row, from_json, in_process, pin, table, to_json

BENCHMARKS = {
    "overhead": "a chain of 100 elementwise operations on 4 numbers, define-by-run, beside torch and HIPS autograd",
    "nested": "the third derivative of sin(x) * x + x, functional, beside HIPS autograd",
    "import": "import agnostic_ad over import numpy",
    "memory": "resident memory over 10,000 training steps without the garbage collector",
    "scale": "a graph of 1,000,000 operations beside torch: time and peak memory",
    "optim": "a step of SGD, RMSprop and Adam on NumPy beside torch",
    "nn": "layers and training steps on NumPy beside torch eager",
    "graph": "captured programs beside plain NumPy, jax.jit and torch eager",
    "train": "an MLP 784-128-10, three epochs, beside the same loop by hand in NumPy and torch",
    "trainer": "nn.Trainer beside the same loop written by hand",
    "data": "a DataLoader's batches a second beside torch's; memory of workers and of mapped files",
    "gpu": "the chain and an MLP step on CuPy beside torch.cuda (needs a GPU)",
}
MODULES = {"import": "imports"}
SLOW = ("scale", "nn", "train", "data", "gpu")


def measure(name: str, rounds: int | None, smoke: bool) -> dict[str, Any]:
    """Run one benchmark in this process; started by `main` in one that is pinned and has one thread."""
    from importlib import import_module

    rows: list[Row] = import_module(f"benchmarks.{MODULES.get(name, name)}").run(rounds=rounds, smoke=smoke)
    return {"rows": [to_json(row) for row in rows]}


def machine() -> dict[str, Any]:
    """Describe where the figures come from."""
    found: dict[str, str | None] = {}
    for package in ("agnostic_ad", "numpy", "torch", "jax", "numba", "autograd", "cupy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next((line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")), model)
    return {"python": platform.python_version(), "cpu": model, "cores": os.cpu_count(), "versions": found}


def load() -> float | None:
    """Give the number of programs that want to run, over the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def parser() -> argparse.ArgumentParser:
    """Make the command's parser."""
    made = argparse.ArgumentParser(
        prog="agnostic-ad bench", description="Benchmarks beside the peers: CPU time, one thread, interleaved rounds."
    )
    made.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; without a name, all but {', '.join(SLOW)}")
    made.add_argument("--list", action="store_true", help="say what there is")
    made.add_argument("--rounds", type=int, help="how many interleaved rounds (each benchmark has its own default)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    made.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs; the figures mean nothing")
    made.add_argument("--strict", action="store_true", help="exit with status 1 where a bar is missed")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run benchmarks; 0 where all ran (with ``--strict``: and no bar was missed)."""
    options = parser().parse_args(argv)
    if options.list:
        for name, what in BENCHMARKS.items():
            print(f"{name:10}{what}{' (slow: only when named)' if name in SLOW else ''}")
        return 0
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown or (options.rounds is not None and options.rounds < 1):
        fault = f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}" if unknown else "--rounds must be 1 or more"
        print(f"agnostic-ad bench: {fault}", file=sys.stderr)
        return 2
    if options.json is not None and not options.json.parent.is_dir():  # said now, not after minutes of measuring
        print(f"agnostic-ad bench: cannot write {options.json}: there is no folder {options.json.parent}", file=sys.stderr)
        return 2
    names = list(dict.fromkeys(options.names)) or [name for name in BENCHMARKS if name not in SLOW]
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    about, failed, missed = machine(), False, False
    print(f"{about['cpu']}, Python {about['python']}, " + ", ".join(f"{k} {v}" for k, v in about["versions"].items() if v))
    print("one thread; median of the rounds' ratios, with quartiles" + ("; SMOKE: the figures mean nothing" if options.smoke else ""))
    report: dict[str, Any] = {"machine": about, "smoke": options.smoke, "benchmarks": {}}
    try:
        for name in names:
            print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
            before, core = load(), pin()
            try:
                rows = [
                    from_json(row) for row in in_process("command.measure", name=name, rounds=options.rounds, smoke=options.smoke)["rows"]
                ]
            except BenchmarkError as error:
                print(f"agnostic-ad bench: {name}: {error}", file=sys.stderr)
                failed = True
                continue
            finally:
                if allowed is not None:
                    os.sched_setaffinity(0, allowed)
            missed |= any(row.met is False for row in rows)
            report["benchmarks"][name] = {"rows": [to_json(row) for row in rows], "load": [before, load()], "core": core}
            print(table(rows))
            print(f"  (load of the machine before and after: {before}, {load()})", flush=True)
    except KeyboardInterrupt:
        print("agnostic-ad bench: interrupted", file=sys.stderr)
        return 130
    if options.json is not None:
        try:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        except OSError as error:
            print(f"agnostic-ad bench: cannot write {options.json}: {error.strerror}", file=sys.stderr)
            return 1
    return 1 if failed or (options.strict and missed) else 0
