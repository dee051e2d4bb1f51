"""What a run leaves on the way: logs, events, pictures, the bar."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.trainer import (
    Accuracy,
    ConfusionMatrix,
    ConfusionPlot,
    Curves,
    FileLog,
    ProgressBar,
    TensorBoard,
    draw_confusion,
    draw_curves,
    events,
)

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
BATCHES = [(X[i : i + 4], np.argmax(X[i : i + 4, :3], axis=1)) for i in range(0, 24, 4)]


def run(out: Path | None, *callbacks: Any, loss: Any = None, epochs: int = 2, **options: Any) -> nn.Trainer:
    ad.manual_seed(0)
    net = nn.Linear(4, 3)
    made = nn.Trainer(net, loss or nn.CrossEntropyLoss(), nn.optim.SGD(net.parameters(), lr=0.5), out=out, callbacks=callbacks, **options)
    made.fit(BATCHES, epochs, validation={"test": BATCHES})
    return made


def read_events(path: Path) -> list[bytes]:
    """Give the events of a file; every checksum is right."""
    data, found, at = path.read_bytes(), [], 0
    masked = lambda part: ((events.crc32c(part) >> 15 | events.crc32c(part) << 17) + 0xA282EAD8) & 0xFFFFFFFF
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        event = data[at + 12 : at + 12 + length]
        for start, part in ((at + 8, data[at : at + 8]), (at + 12 + length, event)):
            assert struct.unpack("<I", data[start : start + 4]) == (masked(part),)
        found.append(event)
        at += 16 + length
    return found


def test_lines_of_json(tmp_path: Path) -> None:
    made = run(tmp_path, metrics=[Accuracy(), ConfusionMatrix(3)])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "step" in line]
    assert [line["step"] for line in steps] == list(range(1, 13)) and [line["epoch"] for line in steps] == [1] * 6 + [2] * 6
    assert [line for line in lines if "step" not in line] == made.history
    assert made.history[1]["train_loss"] == pytest.approx(np.mean([line["loss"] for line in steps[6:]]), rel=1e-12)


def test_a_table(tmp_path: Path) -> None:
    made = run(tmp_path, metrics=[Accuracy()])
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == made.history and list(rows[0]) == ["epoch", "train_loss", "test_loss", "test_accuracy", "lr", "seconds"]


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    run(tmp_path, TensorBoard(), Curves(), loss=lambda output, target: output.sum() * math.nan, epochs=1)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {line.get("loss") for line in lines} == {None} and lines[-1]["train_loss"] is None
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


# --- TensorBoard -------------------------------------------------------------------------------------------------------------------------------
def test_checksums() -> None:
    assert events.crc32c(b"123456789") == 0xE3069283  # RFC 3720 has these
    assert events.crc32c(bytes(32)) == 0x8A9136AA
    assert events.crc32c(b"\xff" * 32) == 0x62A8AB43


def test_an_event_is_what_tensorboard_writes() -> None:
    """The bytes of TensorBoard 2.21's RecordWriter for this event."""
    want = "200000000000000029eda95009000000c00b5ad64110ac022a120a100a09737465702f6c6f7373150000803e77ddc9e4"
    assert events.record(events.scalars({"step/loss": 0.25}, 300, 1.5e9)).hex() == want


def test_a_file_of_events(tmp_path: Path) -> None:
    run(tmp_path, TensorBoard())
    found = read_events(tmp_path / "events.out.tfevents")
    assert b"brain.Event:2" in found[0] and len(found) == 1 + 12 + 2
    assert b"epoch/test_loss" in found[-1] and found[1].count(b"step/") == 2


def test_numbers_beyond_float32(tmp_path: Path) -> None:
    with (tmp_path / "events").open("wb") as file:
        board = TensorBoard()
        board.file = file
        for value in (1e300, -1e300, 1.0):
            board.scalars({"a": value}, 1, 0.0)
    assert [struct.unpack("<f", event[-4:])[0] for event in read_events(tmp_path / "events")] == [math.inf, -math.inf, 1.0]


def test_a_log_of_ones_own(tmp_path: Path) -> None:
    class Names(FileLog):
        filename = "names.txt"

        def on_epoch_end(self, trainer: Any, results: dict[str, Any]) -> None:
            self.write(f"{sorted(results)}\n".encode())

    run(tmp_path, Names())
    assert (tmp_path / "names.txt").read_text().startswith("['epoch', 'lr', 'seconds', 'test_loss', 'train_loss']\n[")
    run(tmp_path, Names(), epochs=1)  # another run begins anew
    assert len((tmp_path / "names.txt").read_text().splitlines()) == 1


# --- the bar -----------------------------------------------------------------------------------------------------------------------------------
def test_a_bar_on_a_terminal() -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), force_terminal=True, width=120)
    run(None, ProgressBar(console), metrics=[Accuracy()], log_every=1)
    text = console.file.getvalue()
    assert "epoch 2/2" in text and "batches/s" in text and "6/6" in text and "loss 0." in text


def test_lines_where_there_is_no_terminal() -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), soft_wrap=True)
    made = run(None, ProgressBar(console), metrics=[Accuracy()])
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2 and lines[1].startswith(f"epoch 2/2: train loss {made.history[1]['train_loss']:.4f}, test loss ")
    assert f"test accuracy {made.history[1]['test_accuracy']:.2%}" in lines[1]


# --- pictures ----------------------------------------------------------------------------------------------------------------------------------
def pixels(path: Path) -> Any:
    from matplotlib.image import imread

    return imread(path)


def test_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(tmp_path, Curves(), metrics=[Accuracy()])
    with_accuracy = pixels(tmp_path / "loss.png")
    assert with_accuracy.shape[:2] == (600, 840) and with_accuracy.min() < 0.3  # two parts, and something on them
    draw_curves(tmp_path / "log.jsonl", tmp_path / "again.png")
    assert (pixels(tmp_path / "again.png") == with_accuracy).all()
    (tmp_path / "log.jsonl").write_text('{"step": 1, "epoch": 1, "loss": 2.0, "lr": 0.1}\n')  # killed in the first epoch
    draw_curves(tmp_path / "log.jsonl", tmp_path / "again.png")
    assert pixels(tmp_path / "again.png").shape[:2] == (360, 840)


def test_a_confusion_matrix(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = run(tmp_path, ConfusionPlot(["a", "b", "c"]), metrics=[ConfusionMatrix(3)])
    drawn = pixels(tmp_path / "confusion.png")
    draw_confusion(made.results["test_confusion"], tmp_path / "again.png", ["a", "b", "c"])
    assert (pixels(tmp_path / "again.png") == drawn).all()
    draw_confusion(np.eye(3, dtype="int64"), tmp_path / "other.png", ["a", "b", "c"])
    assert not np.array_equal(pixels(tmp_path / "other.png"), drawn)
    draw_confusion(np.eye(50, dtype="int64"), tmp_path / "many.png")
    with pytest.raises(ValueError, match="ConfusionPlot: there is no confusion matrix among the results"):
        run(tmp_path, ConfusionPlot())
