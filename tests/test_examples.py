"""The examples in a short form: they run, and learn."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import support

from agnostic_ad import nn

FOLDER = support.ROOT / "examples"


def test_each_example_is_run_by_a_test() -> None:
    ours = {"caffe_lenet.py", "char_gpt.py", "damped_oscillator.py", "fashion_mnist.py", "logistic_regression.py", "sentence_encoder.py"}
    assert {path.name for path in FOLDER.glob("*.py")} == ours


def digits(train: bool) -> Any:
    """scikit-learn's digits in the place of the large set, of the same shape."""
    small = nn.data.datasets.Digits(train=train)
    images, labels = small.tensors
    return nn.data.TensorDataset(np.pad(images.repeat(3, 2).repeat(3, 3), ((0, 0), (0, 0), (2, 2), (2, 2))), labels)


@pytest.mark.parametrize(("model", "least"), [("lenet", 0.9), ("resnet", 0.8)])
def test_fashion_mnist(model: str, least: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(nn.data.datasets, "FashionMNIST", digits)
    main = runpy.run_path(str(FOLDER / "fashion_mnist.py"))["main"]
    assert main(["--model", model, "--epochs", "2", "--batch-size", "32"]) > least
    assert "epoch 2: loss" in capsys.readouterr().out


@pytest.mark.slow
def test_caffe_lenet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Layer by layer, LeNet learns as well as the same net of modules."""
    pytest.importorskip("sklearn")
    monkeypatch.setattr(nn.data.datasets, "FashionMNIST", digits)
    main = runpy.run_path(str(FOLDER / "caffe_lenet.py"))["main"]
    layers, modules = main(["--iterations", "101"])
    assert modules > 0.8
    assert layers > 0.98 * modules
    assert "Iteration 100, loss = " in capsys.readouterr().out


def example(name: str, *arguments: str) -> str:
    """Run a script; give what it printed."""
    command = [sys.executable, "-W", "error", str(support.ROOT / "examples" / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("lib", support.params())
def test_logistic_regression(lib: support.Backend) -> None:
    said = example("logistic_regression.py", support.BACKENDS[lib.name])
    assert "accuracy 96.0%" in said, said


def test_damped_oscillator() -> None:
    said = example("damped_oscillator.py")
    for name, truth in (("frequency", 2.0), ("damping", 0.3)):
        line = next(line for line in said.splitlines() if line.startswith(name))
        value, error = (float(word) for word in line.split() if word.replace(".", "").isdigit())
        assert abs(value - truth) < 3 * error < 0.1, line
