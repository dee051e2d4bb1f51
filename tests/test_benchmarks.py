"""The benchmarks' arithmetic, with clocks that tell invented times; and that each benchmark runs. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support

sys.path.append(str(support.ROOT))  # at the end: see benchmarks.harness.python
try:
    from benchmarks import command, harness
    from benchmarks.harness import Row, Spread
finally:
    sys.path.remove(str(support.ROOT))


class FakeClock:
    """Stands still except when a candidate runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def candidate(self, name: str, *seconds: float) -> Callable[[], None]:
        """Make a candidate that takes these times, over and over."""
        runs = 0

        def run() -> None:
            nonlocal runs
            self.now += seconds[runs % len(seconds)]
            runs += 1
            self.ran.append(name)

        return run


# --- numbers --------------------------------------------------------------------------------------------------------------------
def test_spread_is_the_median_and_the_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 4.0, 2.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([1.0, 2.0, 3.0, 4.0]) == Spread(2.5, 1.75, 3.25)
    assert Spread.of([7.0]) == Spread.single(7.0) == Spread(7.0, 7.0, 7.0)
    with pytest.raises(ValueError, match="no measurements"):
        Spread.of([])


def test_a_ratio_is_formed_within_each_round() -> None:
    """A machine that is ten times slower in one round changes nothing."""
    assert harness.ratio([1.0, 10.0, 2.0], [2.0, 20.0, 4.0]) == Spread.single(0.5)
    assert harness.difference([3.0, 12.0, 4.0], [1.0, 10.0, 2.0]) == Spread.single(2.0)
    with pytest.raises(ValueError, match="2 rounds of ours, 1 of the peer's"):
        harness.ratio([1.0, 2.0], [1.0])


def test_repetitions_fill_the_stretch() -> None:
    clock = FakeClock()
    assert harness.repetitions(clock.candidate("a", 0.001), 0.1, clock) == 100
    assert harness.repetitions(clock.candidate("a", 5.0), 0.1, clock) == 1


def test_candidates_take_turns_in_an_order_that_rotates() -> None:
    clock, collected = FakeClock(), 0

    def collect() -> None:
        nonlocal collected
        collected += 1
        clock.now += 100  # what happens before a turn is not timed

    made = {"a": clock.candidate("a", 1.0, 3.0), "b": clock.candidate("b", 2.0), "c": clock.candidate("c", 4.0)}
    times = harness.interleave(made, 4, stretch=0, clock=clock, collect=collect)
    assert times == {"a": [1.0, 3.0, 1.0, 3.0], "b": [2.0] * 4, "c": [4.0] * 4}
    assert "".join(clock.ran) == "abcbcacababc"
    assert collected == 12


def test_times_are_for_one_run_however_many_fill_a_turn() -> None:
    clock = FakeClock()
    times = harness.interleave({"a": clock.candidate("a", 0.25), "b": clock.candidate("b", 0.5)}, 2, stretch=8, clock=clock)
    assert times == {"a": [0.25, 0.25], "b": [0.5, 0.5]}


# --- rows and the table ---------------------------------------------------------------------------------------------------------
TIMES = {"ours": [1e-6, 2e-6, 3e-6], "torch": [4e-6, 4e-6, 6e-6]}


def test_compare() -> None:
    row = harness.compare("chain", TIMES, "ours", "torch", bar=0.5)
    assert row == Row("chain", "us", 2.0, "torch", 4.0, Spread(0.5, 0.375, 0.5), 0.5)
    assert row.met is True
    assert harness.compare("chain", TIMES, "ours", "torch", bar=0.49).met is False
    assert harness.compare("chain", TIMES, "ours", "torch").met is None


def test_a_peer_that_is_not_installed() -> None:
    row = harness.compare("chain", TIMES, "ours", "autograd", bar=0.5)
    assert (row.theirs, row.value, row.met, row.note) == (None, None, None, "not installed")
    assert harness.cells(row) == ("chain", "2.00 us", "autograd", "not installed", "-", "-", "<= 0.5", "-")


def test_a_bar_from_below() -> None:
    row = Row("accuracy", "", 0.86, value=Spread.single(0.86), bar=0.85, relative=False, at_least=True)
    assert row.met is True
    assert row.met is not Row("accuracy", "", 0.84, value=Spread.single(0.84), bar=0.85, at_least=True).met


@pytest.mark.parametrize(
    ("x", "text"), [(0.12345, "0.123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1234"), (0.0, "0.000"), (-0.5, "-0.500")]
)
def test_number(x: float, text: str) -> None:
    assert harness.number(x) == text


def test_table() -> None:
    rows = [
        harness.compare("chain", TIMES, "ours", "torch", bar=0.45),
        harness.compare("chain", TIMES, "ours", "autograd", bar=0.3),
        Row("peak", "MB", 600.0, "torch", 1100.0, Spread(600.0, 590.0, 610.0), 750, relative=False, note="of ours 40 MB before"),
    ]
    expected = """\
workload  ours     peer      theirs         ratio   quartiles       bar        met
--------  -------  --------  -------------  ------  --------------  ---------  ---
chain     2.00 us  torch     4.00 us        0.500   0.375 .. 0.500  <= 0.45    NO
chain     2.00 us  autograd  not installed  -       -               <= 0.3     -
peak      600 MB   torch     1100 MB        600 MB  590 .. 610      <= 750 MB  yes
  peak: of ours 40 MB before"""
    assert harness.table(rows) == expected


def test_rows_go_through_json_and_back() -> None:
    rows = [harness.compare("chain", TIMES, "ours", "torch", bar=0.45), harness.compare("chain", TIMES, "ours", "autograd")]
    assert [harness.from_json(json.loads(json.dumps(harness.to_json(row)))) for row in rows] == rows


# --- processes ------------------------------------------------------------------------------------------------------------------
def test_a_refusal_in_another_process_arrives_as_one_line() -> None:
    with pytest.raises(harness.BenchmarkError, match=r"^ModuleNotFoundError: No module named 'benchmarks.absent'$"):
        harness.in_process("absent.f")


def test_rounds_are_shared_out_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "in_process", lambda function, rounds, base: {"ours": [base] * rounds, "torch": [2 * base] * rounds})
    assert harness.over_processes("f", 6, processes=4, base=1.5) == {"ours": [1.5] * 6, "torch": [3.0] * 6}
    asked = []
    monkeypatch.setattr(harness, "in_process", lambda function, rounds: asked.append(rounds) or {})
    harness.over_processes("f", 6, processes=4)
    harness.over_processes("f", 2, processes=4)
    assert asked == [2, 2, 1, 1, 1, 1]


def test_peak_memory_is_this_process_s_own() -> None:
    assert 1 < harness.peak_rss() < 100_000


@pytest.mark.parametrize("name", [name for name in command.BENCHMARKS if name != "gpu"])
def test_each_benchmark_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert command.main([name, "--smoke", "--rounds", "1", "--json", str(report)]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "SMOKE" in out
    rows: list[dict[str, Any]] = json.loads(report.read_text())["benchmarks"][name]["rows"]
    assert rows
    for row in rows:
        assert row["workload"] in out


def test_gpu_refuses_in_one_line_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    if support.cuda_devices():
        pytest.skip("there is a GPU")
    assert command.main(["gpu", "--smoke"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("agnostic-ad bench: gpu: no GPU on this machine")
    assert err.count("\n") == 1


# --- the command ----------------------------------------------------------------------------------------------------------------
def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == list(command.BENCHMARKS)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["overheat"], "there is no benchmark 'overheat'; there are overhead, nested,"),
        (["nested", "--rounds", "0"], "--rounds must be 1 or more"),
        (["nested", "--json", "/absent/out.json"], "cannot write /absent/out.json: there is no folder /absent"),
    ],
)
def test_bad_arguments(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(argv) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def row(value: float) -> dict[str, Any]:
    return harness.to_json(Row("chain", "us", 1.0, "torch", 2.0, Spread.single(value), 0.45))


def test_a_missed_bar_is_a_failure_only_when_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "in_process", lambda function, **arguments: {"rows": [row(0.5)]})
    assert command.main(["nested"]) == 0
    assert command.main(["nested", "--strict"]) == 1
    monkeypatch.setattr(command, "in_process", lambda function, **arguments: {"rows": [row(0.4)]})
    assert command.main(["nested", "--strict"]) == 0
    assert "0.400" in capsys.readouterr().out


def test_one_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(function: str, *, name: str, **arguments: Any) -> Any:
        if name == "nested":
            raise harness.BenchmarkError("ZeroDivisionError: division by zero")
        return {"rows": [row(0.4)]}

    monkeypatch.setattr(command, "in_process", run)
    assert command.main(["nested", "memory"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "agnostic-ad bench: nested: ZeroDivisionError: division by zero\n"
    assert "0.400" in captured.out


def test_without_names_the_slow_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(command, "in_process", lambda function, name, **arguments: ran.append(name) or {"rows": []})
    assert command.main([]) == 0
    assert ran == [name for name in command.BENCHMARKS if name not in command.SLOW]


def test_python_m_benchmarks() -> None:
    ran = subprocess.run([sys.executable, "-m", "benchmarks", "--list"], capture_output=True, text=True, check=True, cwd=support.ROOT)
    assert ran.stdout.startswith("overhead")
