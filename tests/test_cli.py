"""The command line, as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import support

from agnostic_ad import cli, nn
from agnostic_ad.nn.data import datasets
from agnostic_ad.nn.trainer import config

LIBRARIES = ("rich", "matplotlib", "sklearn", "threadpoolctl")
WITH_DATA = pytest.mark.skipif(any(importlib.util.find_spec(n) is None for n in LIBRARIES), reason="needs the extra train")
CODE = "import sys; from agnostic_ad.cli import main; sys.exit(main())"


def run(*arguments: str, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command; a failure must say why in one line."""
    ran = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", CODE, *arguments],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment},
    )  # fmt: skip
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    if code:
        assert ran.stderr.count("\n") == 1 and ran.stderr.startswith("agnostic-ad"), ran.stderr
    return ran


def here(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """Run the command in this process, which is quicker; give what it said."""
    try:
        found = cli.main(arguments)
    except SystemExit as end:
        found = int(end.code or 0)
    said = capsys.readouterr()
    assert found == code, said.err
    if code:
        assert said.err.count("\n") == 1 and said.err.startswith("agnostic-ad"), said.err
    return said.out, said.err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@WITH_DATA
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_train(tmp_path: Path, model: str) -> None:
    ran = run("train", "--epochs", "2", "--model", model, "--out", "a/b", "--batch-size", "100", cwd=tmp_path)
    lines = ran.stdout.strip().splitlines()
    assert lines[0].startswith(f"{model} of ") and lines[-1].startswith("test accuracy ") and lines[-1].endswith("%")
    assert sum(line.startswith("epoch ") for line in lines) == 2
    out = tmp_path / "a" / "b"
    files = ["config.toml", "confusion.png", "events.out.tfevents", "log.csv", "log.jsonl", "loss.png", "model.safetensors"]
    assert sorted(p.name for p in out.iterdir()) == ["checkpoints", *files]
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in ("loss.png", "confusion.png"))
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if "step" in e] == list(range(1, 31))
    assert lines[-1] == f"test accuracy {log[-1]['test_accuracy']:.2%}"
    state = nn.load_file(out / "model.safetensors")
    assert {x.dtype for x in state.values()} == {np.dtype("float32")}


@WITH_DATA
def test_a_seed_gives_the_same_run_everywhere(backend: support.Backend, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if backend.name not in cli.NAMESPACES:
        pytest.skip("not offered at the command line")
    logs = []
    for n, name in enumerate(("numpy", backend.name, backend.name)):
        command = ["train", "--epochs", "1", "--seed", "7", "--namespace", name, "--out", f"{n}"]
        if n == 1:  # jax's own float64 switch plays no part: the parameters are float32
            run(*command, cwd=folder, JAX_ENABLE_X64="0")
        else:
            here(capsys, *command)
        logs.append([json.loads(line) for line in (folder / f"{n}" / "log.jsonl").read_text().splitlines()])
    assert logs[0][0]["loss"] == pytest.approx(logs[1][0]["loss"], abs=1e-5)
    assert [{**line, "seconds": 0} for line in logs[1]] == [{**line, "seconds": 0} for line in logs[2]]


@WITH_DATA
def test_float64(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here(capsys, "train", "--epochs", "1", "--dtype", "float64", "--out", "o")
    assert nn.load_file(folder / "o" / "model.safetensors")["1.weight"].dtype == np.float64


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--namespace", "foo"), "invalid choice: 'foo'"),
        (("--dataset", "foo"), "invalid choice: 'foo'"),
        (("--model", "foo"), "invalid choice: 'foo'"),
        (("--epochs", "0"), "an integer of 1 or more is wanted, not '0'"),
        (("--lr", "inf"), "a number above 0 is wanted, not 'inf'"),
        (("--seed", "x"), "an integer of 0 or more is wanted, not 'x'"),
        (("--nothing",), "unrecognized arguments: --nothing"),
        (("--ema", "1"), "a number from 0 to 1, without 1 itself, is wanted, not '1'"),
        (("--weight-decay", "-1"), "a number of 0 or more is wanted, not '-1'"),
    ],
)
def test_what_train_refuses(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str) -> None:
    assert message in here(capsys, "train", *flags, code=2)[1]


def test_folders_that_cannot_be_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("")
    assert "cannot write to file: File exists" in here(capsys, "train", "--out", "file", code=1)[1]
    assert "cannot write to file/sub: Not a directory" in here(capsys, "train", "--out", "file/sub", code=1)[1]


# --- settings from a file -----------------------------------------------------------------------------------------------------------------------
def test_settings_come_from_flags_then_files_then_recipes(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('epochs = 3\nbatch_size = 10\n[steps]\n"clip-norm" = 1\nema = 0.5\n')
    file = config.read_toml(tmp_path / "a.toml")
    assert file == {"epochs": 3, "batch-size": 10, "clip-norm": 1.0, "ema": 0.5}
    found = config.settings(file, {"epochs": 5, "lr": None, "dataset": "fashion-mnist"})
    assert (found["epochs"], found["batch-size"], found["lr"], found["clip-norm"], found["schedule"]) == (5, 10, 6e-3, 1.0, "warmup")
    (tmp_path / "b.toml").write_text(config.as_toml(found))
    assert config.settings(config.read_toml(tmp_path / "b.toml")) == found
    assert list(found) == [option.name for option in config.OPTIONS]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epohcs = 3", "c.toml: there is no setting 'epohcs'; 'epochs' is the nearest"),
        ("[optimizer]\nlearning_rate_ = 1", "there is no setting 'learning_rate_'; there are dataset, namespace"),
        ("batchsize = 3", "there is no setting 'batchsize'; 'batch-size' is the nearest"),
        ("lr = true", "c.toml: lr: a number or a text is wanted, not True"),
        ("lr = -1", "c.toml: lr: a number above 0 is wanted, not '-1'"),
        ("epochs = 1.5", "c.toml: epochs: an integer of 1 or more is wanted, not '1.5'"),
        ('dataset = "digit"', "c.toml: dataset is one of digits, fashion-mnist, not 'digit'; 'digits' is near"),
        ("lr 3", "c.toml is no TOML: "),
    ],
)
def test_faults_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(cli.UserError, match=re.escape(message)):
        config.read_toml(tmp_path / "c.toml")


def test_a_file_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot read no.toml: No such file or directory" in here(capsys, "train", "--config", "no.toml", code=1)[1]
    (folder / "c.toml").write_text("epohcs = 3")
    assert "'epochs' is the nearest" in here(capsys, "train", "--config", "c.toml", code=1)[1]


# --- going on -----------------------------------------------------------------------------------------------------------------------------------


OPTIONS = [
    "--batch-size",
    "100",
    "--ema",
    "0.9",
    "--clip-norm",
    "1",
    "--accumulate",
    "2",
    "--schedule",
    "cosine",
    "--optimizer",
    "sgd",
    "--lr",
    "0.1",
    "--label-smoothing",
    "0.1",
]


@WITH_DATA
def test_going_on_is_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here(capsys, "train", *OPTIONS, "--epochs", "4", "--out", "whole")
    here(capsys, "train", *OPTIONS, "--epochs", "4", "--out", "parts", "--resume", "auto")  # there is nothing yet: it begins
    for name in ("step-00000024.safetensors", "step-00000032.safetensors"):  # as if it had been killed after two epochs
        (folder / "parts" / "checkpoints" / name).unlink()
    (folder / "parts" / "model.safetensors").unlink()
    out, err = here(capsys, "train", "--out", "parts", "--resume", "auto")  # the settings are those of then
    assert f"going on from {Path('parts/checkpoints/step-00000016.safetensors')}: 2 epochs and 16 steps are done" in out and not err
    whole, parts = (nn.load_file(folder / name / "model.safetensors") for name in ("whole", "parts"))
    assert all((whole[name] == parts[name]).all() for name in whole)
    logs = [[json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()] for name in ("whole", "parts")]
    assert [{**line, "seconds": 0} for line in logs[0]] == [{**line, "seconds": 0} for line in logs[1]]


@WITH_DATA
def test_damaged_and_foreign_checkpoints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here(capsys, "train", "--batch-size", "100", "--epochs", "2")
    newest = folder / "out" / "checkpoints" / "step-00000030.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    out, err = here(capsys, "train", "--resume", "auto")
    assert "step-00000015.safetensors: 1 epochs" in out
    assert err.startswith("agnostic-ad train: checkpoint left out, and the one before it used: out") and err.count("\n") == 1
    before = (folder / "out" / "config.toml").read_text()
    _, err = here(capsys, "train", "--resume", "auto", "--model", "cnn", code=1)
    assert "is of another model: Sequential cannot load this state: missing: 0.weight" in err and err.count("\n") == 1
    assert (folder / "out" / "config.toml").read_text() == before
    _, err = here(capsys, "train", "--resume", "auto", "--optimizer", "sgd", code=1)
    assert "the checkpoint is of another run: optimizer: Adam there, SGD here" in err
    here(capsys, "train", "--model", "cnn", "--epochs", "1")  # a new run puts them aside
    assert (folder / "out" / "checkpoints.old" / "step-00000030.safetensors").exists()


@WITH_DATA
@pytest.mark.parametrize(
    ("flags", "columns"),
    [
        (("--validation", "0.2", "--patience", "1", "--schedule", "plateau", "--workers", "0"), "epoch,train_loss,val_loss,val_accuracy"),
        (("--amp", "float16", "--optimizer", "adamw", "--weight-decay", "0.1", "--schedule", "warmup"), "epoch,train_loss,test_loss"),
        (("--checkpoint-every", "4", "--keep", "1", "--threads", "2"), "epoch,train_loss,test_loss"),
    ],
)
def test_other_settings(folder: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], columns: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        out, _ = here(capsys, "train", "--batch-size", "100", "--epochs", "2", *flags)
    log = (folder / "out" / "log.csv").read_text().splitlines()
    assert log[0].startswith(columns) and out.splitlines()[-1].startswith("test accuracy")
    assert float(out.splitlines()[-1].split()[-1].rstrip("%")) > 20


@WITH_DATA
def test_a_device_that_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "numpy cannot compute on device 'tpu'" in here(capsys, "train", "--device", "tpu", code=1)[1]


@WITH_DATA
def test_sixteen_bits_that_a_library_has_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "numpy has no dtype bfloat16, which --amp asks for" in here(capsys, "train", "--amp", "bfloat16", code=1)[1]


def test_a_library_that_is_not_installed(tmp_path: Path) -> None:
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("cupy is installed")
    ran = run("train", "--namespace", "cupy", cwd=tmp_path, code=1)
    assert "cupy is not installed: pip install 'agnostic_ad[cupy13]'" in ran.stderr


@WITH_DATA
def test_data_that_is_absent_or_damaged(tmp_path: Path) -> None:
    homes = {"XDG_DATA_DIRS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "http_proxy": "http://127.0.0.1:9"}
    ran = run("train", "--dataset", "fashion-mnist", cwd=tmp_path, code=1, **homes)
    assert "cannot be fetched" in ran.stderr and "dataset-fashion-mnist" in ran.stderr
    folder = tmp_path / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for name in datasets.FashionMNIST.digests:
        (folder / f"{name}.gz").write_bytes(b"nothing of that kind")
    ran = run("train", "--dataset", "fashion-mnist", cwd=tmp_path, code=1, **homes)
    assert "train-images-idx3-ubyte.gz is damaged" in ran.stderr


def test_info_and_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "numpy 2" in run("info", cwd=tmp_path).stdout
    for command in ([], ["info"], ["train"]):
        assert here(capsys, *command, "--help")[0].startswith("usage: agnostic-ad")
    assert "required" in here(capsys, code=2)[1]
    assert "invalid choice: 'foo'" in here(capsys, "foo", code=2)[1]


def test_bench(tmp_path: Path) -> None:
    code = "def main(argv):\n    print('measured', *argv)\n    return 0\n"
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "__init__.py").write_text("from benchmarks.command import main\n")
    (folder / "command.py").write_text(code)
    assert run("bench", "overhead", "--rounds", "1", cwd=tmp_path).stdout == "measured overhead --rounds 1\n"
