"""The suite as a program: its command, its reports, its pytest plugin, and what it makes of libraries that misbehave."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import support

from agnostic_ad import cli, conformance
from agnostic_ad.conformance import Report, Row, caffe, certificates, checking, command, deviations, html, running
from agnostic_ad.conformance.checking import operations

FEW = ["sin", "sum", "where"]
CODE = "import sys; from agnostic_ad.cli import main; sys.exit(main())"
PATHS = os.pathsep.join([str(support.ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "COLUMNS": "100"}


def agnostic(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", CODE, "conformance", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


def by_op(rows: list[Row]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.op, set()).add(row.status)
    return found


def few(namespace: str, ops: list[str], level: str = "least", jobs: int = 2) -> list[Row]:
    """Check a few calls of each operation: at the level "least", one."""
    task = running.Task(namespace, level)
    with running.Workers(task, task.excused(), jobs, 120.0) as workers:
        return [row for _, rows in workers.check(ops) for row in rows]


SOME = Report(
    "a<b",
    setup="flag = '&'",
    versions={"python": "3.11", "a<b": "1.0"},
    device="cpu",
    seconds=1.5,
    rows=[
        Row("sin", "values_stay", "float64", "", "passed", 6),
        Row("sin", "operands_stay", "float64", "", "failed", 6, "first <line>\nsecond \x00 line", "x = 1 < 2"),
        Row("cos", "values_stay", "float64", "", "deviation", 6, "known (https://example.org)\nfirst", "x = 1"),
        Row("tan", "", "", "", "hang", reason="nothing for 5 s"),
        Row("fft.fft", "values_stay", "float64", "", "missing", 1, "no function"),
        Row("exp", "values_stay", "float64", "", "error", 1, "Traceback (most recent call last):\n  File\nValueError: no", "y"),
        Row("exp", "operands_stay", "float64", "", "stale", reason="take it out"),
    ],
)


# --- reports ------------------------------------------------------------------------------------------------------------------------------
def test_a_report_says_what_is_bad() -> None:
    assert not SOME.ok
    assert SOME.counts() == dict.fromkeys(("passed", "deviation", "failed", "error", "missing", "hang", "stale"), 1)
    assert list(SOME.counts())[:3] == ["passed", "deviation", "failed"]
    assert [row.op for row in SOME.failures] == ["sin", "tan", "fft.fft", "exp", "exp"]
    assert [row.op for row in replace(SOME, allow_missing=True).failures] == ["sin", "tan", "exp", "exp"]
    assert not Report("nothing").ok, "a run that checked nothing certifies nothing"
    assert not Report("nothing", allow_missing=True, rows=[SOME.rows[4]]).ok
    assert replace(SOME, rows=SOME.rows[:1] + SOME.rows[2:3]).ok


def test_json_goes_there_and_back() -> None:
    given = json.loads(SOME.json())
    assert given["schema"] == 1 and given["ok"] is False and given["counts"]["hang"] == 1
    assert Report.from_dict(given) == SOME
    empty = Report("empty")
    assert Report.from_dict(json.loads(empty.json())) == empty
    with pytest.raises(ValueError, match="a report of schema 99; this version reads schema 1"):
        Report.from_dict({**given, "schema": 99})


def test_junit_is_xml_that_counts_right() -> None:
    root = ElementTree.fromstring(SOME.junit())
    (suite,) = root
    cases = suite.findall("testcase")
    assert root.tag == "testsuites" and len(cases) == len(SOME.rows)
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "2",
        "errors": "3",
        "skipped": "1",
    }
    assert {p.get("name"): p.get("value") for p in suite.iter("property")}["a<b"] == "1.0"
    failed = cases[1]
    assert (failed.get("classname"), failed.get("name")) == ("a<b.sin", "operands_stay[float64]")
    assert failed[0].get("message") == "failed: first <line>" and "x = 1 < 2" in str(failed[0].text)
    assert cases[5][0].get("message") == "error: ValueError: no"
    relaxed = ElementTree.fromstring(replace(SOME, allow_missing=True).junit())[0]
    assert (relaxed.get("errors"), relaxed.get("skipped")) == ("2", "2")


def test_the_badge() -> None:
    assert SOME.badge() == {"schemaVersion": 1, "label": "agnostic_ad on a<b", "message": "5 of 7 checks fail", "color": "critical"}
    good = replace(SOME, namespace="some_lib", rows=SOME.rows[:1])
    assert good.badge()["color"] == "brightgreen" and good.badge()["message"] == "1 check"
    assert good.badge_line() == (
        "![agnostic_ad on some_lib: 1 check](https://img.shields.io/badge/agnostic__ad%20on%20some__lib-1%20check-brightgreen)"
    )
    assert replace(SOME, rows=SOME.rows[::2][:2]).badge() | {"label": ""} == {
        "schemaVersion": 1, "label": "", "message": "1 check, 1 known deviation", "color": "green"
    }  # fmt: skip


class Page(HTMLParser):
    """What a page is made of; every element must be closed."""

    VOID = {"meta", "input", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.cells = Counter[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.open += [tag] if tag not in self.VOID else []
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.outside += [value for name, value in given.items() if name in ("src", "href") and not value.startswith("#")]
        self.cells += Counter([given["class"].split()[-1]]) if tag == "td" and "class" in given else Counter()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network() -> None:
    text = html.page(SOME)
    page = Page(text)
    assert page.open == [] and page.outside == [] and "@import" not in text and "url(" not in text
    assert sorted(page.links) == [f"#r{n}" for n in range(6)] and set(page.links) <= {f"#{name}" for name in page.ids}
    assert page.links[1] == "#r5", "what is known comes after what is not"
    assert len(page.ids) == len(set(page.ids))
    assert {status: page.cells[status] for status in html.SYMBOLS} == SOME.counts()
    assert "prefers-color-scheme: dark" in text and "{{" not in text
    assert "first &lt;line&gt;" in text and "first <line>" not in text and "flag = &#x27;&amp;&#x27;" in text
    assert all(f'<b class="{status}">{symbol}' in text for status, symbol in html.SYMBOLS.items()), "a status is told by its colour alone"
    assert "nothing was checked" in html.page(Report("nothing"))


def test_the_summary_shows_the_smallest_example() -> None:
    large = replace(SOME.rows[1], dtype="complex128", example="x = 1 < 2 + 3")
    text = command.summary(replace(SOME, rows=[large, *SOME.rows]))
    assert "✗ sin float64 operands_stay: failed\n    first <line>" in text
    assert "the smallest call that shows it:\n    x = 1 < 2\n  also: operands_stay" in text
    assert "a<b lacks the functions of 1 operation: fft.fft" in text
    assert text.splitlines()[-1].startswith("a<b does not conform: 5 operations, 1 passed, 1 deviation, 2 failed,")


WITHOUT = """
import sys
sys.modules["hypothesis"] = sys.modules["mparray"] = None
from agnostic_ad import cli, conformance
from agnostic_ad.conformance import strategies
assert strategies.AVAILABLE is False
print(conformance.run("numpy", ["sin"], jobs=0).json())
"""


def test_every_report_says_what_could_not_be_checked() -> None:
    ran = subprocess.run([sys.executable, "-P", "-c", WITHOUT], capture_output=True, text=True, env=ENVIRONMENT)
    found = Report.from_dict(json.loads(ran.stdout))
    drawn, exact = found.limits
    assert found.ok and drawn.startswith("hypothesis is not installed: only the calls that the table states were checked")
    assert exact.startswith("mparray is not installed: derivatives were compared with differences in double precision alone")
    assert "values_agree" not in {row.law for row in found.rows}, "there is nothing to compare NumPy's values with"
    for text in (" ".join(command.summary(found).split()), html.page(found), found.junit(), certificates.certificate("numpy", found)):
        assert drawn in text and exact in text
    whole = conformance.run("numpy", ["sin"], jobs=0)
    assert whole.limits == [] and "not installed" not in command.summary(whole) + html.page(whole) + whole.junit()


# --- known deviations ---------------------------------------------------------------------------------------------------------------------
def test_known_deviations_excuse_and_go_stale() -> None:
    rows = [Row("sin", "values_stay", "float64", "", "failed", 3, "off"), Row("sin", "operands_stay", "float64", "", "passed", 3)]
    entry = deviations.Deviation("sin", "its fault", "https://example.org/1", law="values_stay")
    excused = deviations.excuse(rows, [entry])
    assert [row.status for row in excused] == ["deviation", "passed"]
    assert excused[0].reason == "its fault (https://example.org/1)\noff"
    stale = deviations.excuse(rows, [entry, replace(entry, law="operands_stay"), replace(entry, op="cos")])
    assert [row.status for row in stale] == ["deviation", "passed", "stale"] and not Report("x", rows=stale).ok
    assert stale[2].reason == "nothing deviates here: take the entry 'sin operands_stay' out of the known deviations"
    other = replace(entry, dtype="float32", level="full")
    assert [row.status for row in deviations.excuse(rows, [other], "quick")] == ["failed", "passed"]
    assert [row.status for row in deviations.excuse(rows, [other], "full")] == ["failed", "passed", "stale"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deviation = 3 3", "known deviations .*file.toml: .*line 1"),
        ("[[deviation]]\nop = 'sin'\nreason = 'so'", "entry 1 lacks link"),
        ("[[deviation]]\nop = 'sin'\nreason = 'so'\nlink = 'l'\nlaws = 'x'", "entry 1 has no use for laws"),
        ("[[deviations]]\nop = 'sin'", r"it holds tables \[\[deviation\]\] alone, not deviations"),
        ("[[deviation]]\nop = 'sinn'\nreason = 'so'\nlink = 'l'", "there is no 'sinn'. Do you mean sin, sinh, sign?"),
        ("[[deviation]]\nop = 'sin'\nlaw = 'values_sty'\nreason = 'so'\nlink = 'l'", "there is no 'values_sty'. Do you mean values_stay"),
    ],
)
def test_a_file_of_deviations_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "file.toml"
    file.write_text(text)
    with pytest.raises(deviations.DeviationsError, match=said):
        conformance.run("numpy", ["sin"], jobs=0, known=file)


def test_the_shipped_deviations_name_what_exists() -> None:
    libraries = [file.stem for file in (support.ROOT / "conformance" / "deviations").glob("*.toml")]
    known = [deviations.known(library) for library in libraries]
    assert all(known) and [deviations.unknown(entries, running.subjects(), list(running.laws())) for entries in known] == [""] * len(known)


def test_the_documents_explain_every_law() -> None:
    text = (support.ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    assert [law for law in running.laws() if f"| `{law}` |" not in text] == []


# --- runs ---------------------------------------------------------------------------------------------------------------------------------
def test_the_same_seed_gives_the_same_verdict_in_any_number_of_processes() -> None:
    def plain(report: Report) -> list[Row]:
        return [replace(row, seconds=0.0) for row in report.rows]

    seen: list[tuple[str, int, int]] = []
    one = conformance.run("numpy", FEW, seed=5, jobs=0)
    two = conformance.run("numpy", FEW, seed=5, jobs=2, progress=lambda name, done, total, rows: seen.append((name, done, total)))
    assert one.ok and plain(one) == plain(two)
    assert sorted(name for name, _, _ in seen) == sorted(FEW) and [(done, total) for _, done, total in seen] == [(1, 3), (2, 3), (3, 3)]
    assert {row.op for row in one.rows} == set(FEW) and one.versions["numpy"] and one.device == "cpu"


def test_what_does_not_exist() -> None:
    with pytest.raises(conformance.UnknownNameError, match=r"unknown operation 'sinn'\. Do you mean sin, sinh, sign\?"):
        conformance.run("numpy", ["sinn"])
    with pytest.raises(conformance.UnknownNameError, match=r"unknown level 'ful'\. Do you mean full\?"):
        conformance.run("numpy", ["sin"], level="ful")
    with pytest.raises(conformance.UnknownNameError, match=r"unknown level 'zzz'\. There is quick, full\."):
        conformance.run("numpy", ["sin"], level="zzz")


def test_a_library_in_trouble(tmp_path: Path) -> None:
    report = conformance.run("toys.troubled", ["sin", "cos", "tan", "exp", "floor", "add"], jobs=2, time_limit=5)
    found = by_op(report.rows)
    assert found["add"] == {"passed"}, "the rest goes on"
    assert (found["cos"], found["tan"]) == ({"hang"}, {"error"})
    assert "error" in found["sin"] and "missing" in found["floor"] and "failed" in found["exp"]
    assert list(found) == ["sin", "cos", "tan", "exp", "floor", "add"] and not report.ok
    reasons = {row.op: row.reason for row in report.failures}
    assert (reasons["cos"], reasons["tan"]) == ("nothing for 5 s", "the process died, exit status 3")
    assert "RuntimeError: no sines today" in reasons["sin"]
    assert "toys.troubled has no function 'floor'" in reasons["floor"]
    assert any("a ndarray, which is no array of toys.troubled" in row.reason for row in report.failures)
    assert all("import toys.troubled as xp" in row.example for row in report.failures if row.op == "sin")


@pytest.mark.parametrize(
    ("namespace", "reason"),
    [
        ("nowhere.at_all", "nowhere.at_all cannot be used: ModuleNotFoundError: No module named 'nowhere'"),
        ("math", "math cannot be used: UnsupportedError: .* is no Array API namespace"),
        ("numpy:nothing", "numpy:nothing cannot be used: AttributeError"),
        ("toys.dies", "the process died, exit status 7, while the library was imported"),
        ("toys.sleeps", "nothing for 4 s, while the library was imported"),
    ],
)
def test_a_library_that_cannot_be_used(namespace: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "START", 4.0 if namespace == "toys.sleeps" else 120.0)
    report = conformance.run(namespace, ["sin"], jobs=1)
    (row,) = report.rows
    assert row.status == ("hang" if namespace == "toys.sleeps" else "error") and not report.ok
    assert re.match(reason, row.reason), row.reason


def test_a_device_that_is_none() -> None:
    (row,) = conformance.run("numpy", ["sin"], jobs=1, device="tpu").rows
    assert row.status == "error" and row.reason.startswith("numpy cannot be used:") and "tpu" in row.reason


def test_a_wrong_library_fails_by_the_right_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "smallest", lambda call, broken, seed: call)  # of examples, which nobody reads here
    ops = ["sum", "where", "exp", "cos", "expm1", "mean", "flip"]
    failed = [row for row in few("toys.wrong", ops, "stated", jobs=0) if row.status != "passed"]
    assert {row.op for row in failed if row.law == "values_agree"} == {"sum", "where", "exp"}
    assert "forward_is_the_derivative" in {row.law for row in failed if row.op == "expm1"}, "its derivative is an exponential"


@pytest.mark.slow
def test_a_library_that_the_package_does_not_know() -> None:
    found = by_op(few("toys.tiny", [*operations(), *caffe.names()]))  # and layers in test_conformance_networks.py
    lacking = {name for name, statuses in found.items() if "missing" in statuses}
    assert lacking == {name for name in operations() if name.startswith("fft.") and not name.endswith("shift")}, "those are made of roll"
    assert {name for name, statuses in found.items() if statuses - {"passed", "missing"}} == set()


@pytest.mark.parametrize("namespace", ["marray:numpy", "mparray"])
def test_strange_libraries(namespace: str) -> None:
    if importlib.util.find_spec(namespace.partition(":")[0]) is None:
        pytest.skip(f"{namespace} is not installed")
    assert by_op(few(namespace, ["sin", "add", "matmul"])) == {"sin": {"passed"}, "add": {"passed"}, "matmul": {"passed"}}


def test_jax_computes_in_double_precision_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax")
    monkeypatch.delenv("JAX_ENABLE_X64")
    report = conformance.run("jax.numpy", ["floor"], jobs=1)
    assert report.ok, report.failures[:1]
    assert "JAX_ENABLE_X64" not in os.environ
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    (row,) = conformance.run("jax.numpy", ["floor"], jobs=1).rows
    assert "it gives float32 for float64. For jax, set JAX_ENABLE_X64=1." in row.reason


def test_setup_runs_before() -> None:
    report = conformance.run("numpy", ["sin"], jobs=1, setup="raise OSError('no licence')")
    assert report.rows[0].reason == "numpy cannot be used: OSError: no licence" and report.setup


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print('once')\nfrom agnostic_ad import conformance\nprint(conformance.run('numpy', ['sin'], jobs=1).ok)\n")
    ran = subprocess.run([sys.executable, "-P", str(script)], capture_output=True, text=True, env=ENVIRONMENT)
    assert ran.stdout.split() == ["once", "True"], ran.stderr


# --- the command --------------------------------------------------------------------------------------------------------------------------
def test_the_command_writes_every_report(tmp_path: Path) -> None:
    files = {"report": "a/out.html", "json": "out.json", "junit": "out.xml", "badge": "badge.json"}
    ran = agnostic(
        "--ops", "sin, add", "--jobs", "1", *(part for kind, file in files.items() for part in (f"--{kind}", file)), cwd=tmp_path
    )
    assert "numpy conforms: 2 operations, " in ran.stdout and "![agnostic_ad on numpy:" in ran.stdout
    report = Report.from_dict(json.loads((tmp_path / "out.json").read_text()))
    assert report.ok and {row.op for row in report.rows} == {"sin", "add"}
    assert (tmp_path / "a" / "out.html").read_text() == html.page(report)
    assert (tmp_path / "out.xml").read_text() == report.junit()
    assert json.loads((tmp_path / "badge.json").read_text())["color"] == "brightgreen"


def test_the_command_fails_where_the_library_does(tmp_path: Path) -> None:
    ran = agnostic("--namespace", "toys.wrong", "--ops", "exp", "--jobs", "1", cwd=tmp_path, code=1)
    assert "✗ exp" in ran.stdout and "ad.differentiable(xp).exp(x0)" in ran.stdout and "toys.wrong does not conform" in ran.stdout
    example = ran.stdout.partition("the smallest call that shows it:\n")[2].partition("  also:")[0]
    subprocess.run(
        [sys.executable, "-P", "-c", "\n".join(line[4:] for line in example.splitlines())], check=True, cwd=tmp_path, env=ENVIRONMENT
    )
    assert "cannot be used" in agnostic("--namespace", "nowhere", "--ops", "sin", cwd=tmp_path, code=1).stdout
    lacking = ("--namespace", "toys.tiny", "--ops", "fft.fft,sin", "--jobs", "1")
    assert "lacks the functions of 1 operation: fft.fft" in agnostic(*lacking, cwd=tmp_path, code=1).stdout
    assert "toys.tiny conforms" in agnostic(*lacking, "--allow-missing", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--ops", "sinn"), "unknown operation 'sinn'. Do you mean sin, sinh, sign?"),
        (("--level", "ful"), "unknown level 'ful'. Do you mean full?"),
        (("--seed", "-1"), "argument --seed: an integer of 0 or more is wanted, not '-1'"),
        (("--jobs", "0"), "argument --jobs: an integer of 1 or more is wanted, not '0'"),
        (("--time-limit", "nan"), "argument --time-limit: a number above 0 is wanted, not 'nan'"),
        (("--deviations", "absent.toml"), "known deviations absent.toml: No such file or directory"),
        (("--json", "."), "cannot write to .: Is a directory"),
        (("--nothing",), "unrecognized arguments: --nothing"),
    ],
)
def test_what_the_command_refuses(
    arguments: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["conformance", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    assert (status, capsys.readouterr().err) == (2, f"agnostic-ad conformance: error: {text}\n")


# --- the plugin ---------------------------------------------------------------------------------------------------------------------------
def pytest_run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PYTEST_")}
    return subprocess.run([sys.executable, "-P", "-m", "pytest", *arguments], capture_output=True, text=True, cwd=cwd, env=own)


SUITE = ("--pyargs", "agnostic_ad.conformance", "-p", "no:cacheprovider")


def test_pytest_runs_one_test_an_operation(tmp_path: Path) -> None:
    ran = pytest_run(*SUITE, "--namespace", "toys.wrong", "--ops", "ceil,exp", "-v", "--junitxml", "out.xml", cwd=tmp_path)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "conformance of toys.wrong, level quick, seed 0" in ran.stdout
    assert "test_operation[ceil] PASSED" in ran.stdout and "test_operation[exp] FAILED" in ran.stdout and "1 failed, 1 passed" in ran.stdout
    assert "✗ exp float" in ran.stdout and "ad.differentiable(xp).exp(x0)" in ran.stdout
    properties = {p.get("name"): p.get("value") for p in ElementTree.parse(tmp_path / "out.xml").iter("property")}
    assert properties["toys.wrong"] == "0.1"


def test_pytest_with_deviations_and_what_is_missing(tmp_path: Path) -> None:
    entry = "[[deviation]]\nop = 'exp'\nreason = 'float32 inside'\nlink = 'https://example.org'\n"
    (tmp_path / "known.toml").write_text(entry)
    ran = pytest_run(
        *SUITE, "--namespace", "toys.wrong", "--ops", "exp,fft.fft", "--deviations", "known.toml", "--allow-missing", cwd=tmp_path
    )
    assert ran.returncode == 0 and "2 xfailed" in ran.stdout, ran.stdout + ran.stderr
    stale = pytest_run(*SUITE, "--ops", "exp", "--deviations", "known.toml", cwd=tmp_path)
    assert stale.returncode == 1 and "take the entry 'exp' out of the known deviations" in stale.stdout


def test_pytest_refuses_an_unknown_operation_and_library(tmp_path: Path) -> None:
    assert (
        "unknown operation 'sinn'. Do you mean sin" in (ran := pytest_run(*SUITE, "--ops", "sinn", cwd=tmp_path)).stdout and ran.returncode
    )
    ran = pytest_run(*SUITE, "--ops", "sin", "--namespace", "nowhere", cwd=tmp_path)
    assert ran.returncode == 1 and "nowhere cannot be used: ModuleNotFoundError" in ran.stdout


def test_the_plugin_leaves_other_runs_alone(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("import sys\ndef test_other():\n    assert 'agnostic_ad' not in sys.modules\n")
    ran = pytest_run("-p", "no:cacheprovider", "test_other.py", cwd=tmp_path)
    assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout
    assert "unrecognized arguments: --namespace" in pytest_run("--namespace", "numpy", cwd=tmp_path).stderr


# --- certificates -------------------------------------------------------------------------------------------------------------------------
def test_a_certificate_counts_by_family_and_law(tmp_path: Path) -> None:
    text = certificates.certificate("some", SOME)
    assert "| family | values stay | operands stay |\n" in text and "| elementwise | **1 of 3** | **0 of 2** |" in text
    assert "Known deviations:\n\n- `cos` (1 deviation): known ([more](https://example.org))" in text
    assert "- `tan` (1 hang): `nothing for 5 s`" in text
    assert set(operations()) <= certificates.families().keys(), "an operation that no chapter holds"


def test_the_page_of_certificates_is_made_of_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(namespace: str, **options: Any) -> Report:
        asked.append((namespace, options["device"]))
        return replace(SOME, namespace=namespace)

    monkeypatch.setattr(certificates, "run", run)
    page = tmp_path / "page.md"
    assert certificates.main([str(page), "--reports", str(tmp_path / "r"), "--only", "numpy", "--time-limit", "90"]) == 0
    assert certificates.main([str(page), "--reports", str(tmp_path / "r"), "--only", "second"]) == 0
    assert asked == [("numpy", None), ("array_api_strict", "device1")]
    text = page.read_text()
    assert "\n## numpy\n" in text and "\n## array_api_strict, second device\n" in text
    assert "| numpy | 1.0 | cpu | 5 | 7 | 1 | 1 | 5 | quick |" in text
    assert certificates.main([str(page), "--reports", str(tmp_path / "none"), "--only", "static"]) == 0, "without the reports of the others"
    others, _, static = page.read_text().partition("\n## array_api_strict, static shapes\n")
    assert static and [line for line in others.splitlines() if "static" not in line] == text.splitlines()
