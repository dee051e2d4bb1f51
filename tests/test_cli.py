"""The command line, as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import support

from agnostic_ad import cli, nn
from agnostic_ad.nn.data import datasets

LIBRARIES = ("rich", "matplotlib", "sklearn")
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


@WITH_DATA
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_train(tmp_path: Path, model: str) -> None:
    ran = run("train", "--epochs", "2", "--model", model, "--out", "a/b", "--batch-size", "100", cwd=tmp_path)
    lines = ran.stdout.strip().splitlines()
    assert lines[0].startswith(f"{model} of ") and lines[-1].startswith("test accuracy ") and lines[-1].endswith("%")
    assert sum(line.startswith("epoch ") for line in lines) == 2
    out = tmp_path / "a" / "b"
    assert sorted(p.name for p in out.iterdir()) == ["log.jsonl", "loss.png", "model.safetensors"]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in log if "step" in e] == list(range(1, 31))
    assert lines[-1] == f"test accuracy {log[-1]['test_accuracy']:.2%}"
    state = nn.load_file(out / "model.safetensors")
    assert {x.dtype for x in state.values()} == {np.dtype("float32")}


@WITH_DATA
def test_a_seed_gives_the_same_run_everywhere(backend: support.Backend, tmp_path: Path) -> None:
    if backend.name not in cli.NAMESPACES:
        pytest.skip("not offered at the command line")
    first = []
    for n, name in enumerate(("numpy", backend.name, backend.name)):
        # jax's own float64 switch plays no part: the parameters are float32
        run("train", "--epochs", "1", "--seed", "7", "--namespace", name, "--out", f"{n}", cwd=tmp_path, JAX_ENABLE_X64="0")
        first.append(json.loads((tmp_path / f"{n}" / "log.jsonl").read_text().splitlines()[0])["loss"])
    assert first[0] == pytest.approx(first[1], abs=1e-5) and first[1] == first[2]


@WITH_DATA
def test_float64(tmp_path: Path) -> None:
    run("train", "--epochs", "1", "--dtype", "float64", "--out", "o", cwd=tmp_path)
    assert nn.load_file(tmp_path / "o" / "model.safetensors")["1.weight"].dtype == np.float64


def test_what_train_refuses(tmp_path: Path) -> None:
    for arguments, text in [
        (("--namespace", "foo"), "invalid choice: 'foo'"),
        (("--dataset", "foo"), "invalid choice: 'foo'"),
        (("--model", "foo"), "invalid choice: 'foo'"),
        (("--epochs", "0"), "an integer of 1 or more is wanted, not '0'"),
        (("--lr", "inf"), "a number above 0 is wanted, not 'inf'"),
        (("--seed", "x"), "an integer of 0 or more is wanted, not 'x'"),
        (("--nothing",), "unrecognized arguments: --nothing"),
    ]:
        assert text in run("train", *arguments, cwd=tmp_path, code=2).stderr
    (tmp_path / "file").write_text("")
    assert "cannot write to file: File exists" in run("train", "--out", "file", cwd=tmp_path, code=1).stderr
    assert "cannot write to file/sub: Not a directory" in run("train", "--out", "file/sub", cwd=tmp_path, code=1).stderr


@WITH_DATA
def test_a_device_that_is_none(tmp_path: Path) -> None:
    assert "numpy cannot compute on device 'tpu'" in run("train", "--device", "tpu", cwd=tmp_path, code=1).stderr


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


def test_info_and_help(tmp_path: Path) -> None:
    assert "numpy 2" in run("info", cwd=tmp_path).stdout
    for command in ([], ["info"], ["train"]):
        assert run(*command, "--help", cwd=tmp_path).stdout.startswith("usage: agnostic-ad")
    assert "required" in run(cwd=tmp_path, code=2).stderr
    assert "invalid choice: 'foo'" in run("foo", cwd=tmp_path, code=2).stderr


def test_bench(tmp_path: Path) -> None:
    code = "def main(argv):\n    print('measured', *argv)\n    return 0\n"
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "__init__.py").write_text("from benchmarks.command import main\n")
    (folder / "command.py").write_text(code)
    assert run("bench", "overhead", "--rounds", "1", cwd=tmp_path).stdout == "measured overhead --rounds 1\n"
