"""Checkpoints: training that was broken off goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support

import agnostic_ad as ad
from agnostic_ad import nn
from agnostic_ad.nn.serialization import FileError
from agnostic_ad.nn.trainer import CheckpointError, Checkpoints, CheckpointWarning, load_state, save_state

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
DATA = nn.data.TensorDataset(X, np.argmax(X[:, :3], axis=1))
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def trainer(
    out: Path | None, hidden: int = 8, backend: support.Backend | None = None, optimizer: Any = nn.optim.Adam, **options: Any
) -> nn.Trainer:
    ad.manual_seed(0)
    with ad.defaults(xp=None if backend is None else backend.xp):
        net = nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.Dropout(0.2), nn.Linear(hidden, 3))
    return nn.Trainer(net, nn.CrossEntropyLoss(), optimizer(net.parameters(), lr=0.01), out=out, **options)


def loader(**options: Any) -> nn.data.DataLoader:
    return nn.data.DataLoader(DATA, 4, shuffle=True, seed=0, **options)


def weights(run: nn.Trainer) -> dict[str, bytes]:
    return {name: np.asarray(x).tobytes() for name, x in run.model.state_dict().items()}


class BreakOff(nn.trainer.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Any) -> None:
        if trainer.step == self.step:
            raise KeyboardInterrupt


def broken_off(step: int, out: Path, **options: Any) -> None:
    run = trainer(out, callbacks=[BreakOff(step)], **options)
    with pytest.raises(KeyboardInterrupt):
        run.fit(loader(), 3, validation=loader())


# --- killed -----------------------------------------------------------------------------------------------------------------------------------
def kill(folder: Path, kills: int, seed: int, *how: str) -> str:
    script = Path(__file__).with_name("kills.py")
    ran = subprocess.run([sys.executable, "-P", str(script), str(folder), str(kills), str(seed), *how], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@FORKS
def test_killed_at_random_moments(tmp_path: Path) -> None:
    assert kill(tmp_path, 3, 1) == "3 kills, the same\n"


@FORKS
@pytest.mark.soak
@pytest.mark.parametrize("how", ["calls", "clock"])
def test_killed_twenty_times(tmp_path: Path, how: str) -> None:
    assert kill(tmp_path, 20, 2, how) == "20 kills, the same\n"


@pytest.mark.soak
@pytest.mark.parametrize(("workers", "kills"), [(0, 20), (2, 6)])
def test_the_command_killed_again_and_again(tmp_path: Path, workers: int, kills: int) -> None:
    code = "import sys; from agnostic_ad.cli import main; sys.exit(main())"
    flags = "--model cnn --epochs 12 --batch-size 48 --checkpoint-every 7 --ema 0.99 --schedule cosine --resume auto"
    command = [sys.executable, "-P", "-c", code, "train", *flags.split(), "--workers", str(workers), "--out"]

    def attempt(out: str, seconds: float | None = None) -> bool:
        """Tell whether it came to the end before it was killed, by SIGKILL."""
        try:
            ran = subprocess.run([*command, out], cwd=tmp_path, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        assert ran.returncode == 0, ran.stderr
        return True

    def weights_of(out: str) -> bytes:
        return (tmp_path / out / "model.safetensors").read_bytes()

    start = time.perf_counter()
    attempt("whole")
    took, rng, done = time.perf_counter() - start, random.Random(0), 0
    while done < kills:
        if not attempt("killed", rng.uniform(0.1, 0.9) * took):
            done += 1
        else:  # killed too late: begin anew, so that every kill falls into a run
            assert weights_of("killed") == weights_of("whole")
            shutil.rmtree(tmp_path / "killed")
    assert attempt("killed") and weights_of("killed") == weights_of("whole")


# --- broken off, in one process -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", [1, 4, 6, 7, 12, 17])
def test_any_step(tmp_path: Path, step: int) -> None:
    whole = trainer(None, callbacks=[BreakOff(0)])
    whole.fit(loader(), 3, validation=loader())
    broken_off(step, tmp_path, checkpoint_every=1)
    for _ in range(5):
        np.random.random(), random.random(), ad.Generator().uniform()
    again = trainer(tmp_path, callbacks=[BreakOff(0)], checkpoint_every=1)
    history = again.fit(loader(), 3, validation=loader(), resume="auto")
    assert weights(again) == weights(whole) and again.resumed_from is not None if step > 1 else again.resumed_from is None
    assert [{**r, "seconds": 0} for r in history] == [{**r, "seconds": 0} for r in whole.history]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "step" in line] == list(range(1, 19))


def test_every_library(backend: support.Backend, tmp_path: Path) -> None:
    if backend.name == "dask":
        pytest.skip("lazy parameters remember every step")
    whole = trainer(None, backend=backend, callbacks=[BreakOff(0)], ema=0.9)
    whole.fit(loader(), 2)
    run = trainer(tmp_path, backend=backend, callbacks=[BreakOff(8)], checkpoint_every=2, ema=0.9)
    with pytest.raises(KeyboardInterrupt):
        run.fit(loader(), 2)
    again = trainer(tmp_path, backend=backend, callbacks=[BreakOff(0)], checkpoint_every=2, ema=0.9)
    again.fit(loader(), 2, resume="auto")
    numbers = [{name: backend.numpy(x) for name, x in run.evaluated.state_dict().items()} for run in (whole, again)]
    assert all((numbers[0][name] == numbers[1][name]).all() for name in numbers[0])
    assert all(type(p.data) is type(q.data) for p, q in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_going_on_with_the_same_trainer(tmp_path: Path) -> None:
    whole = trainer(None)
    whole.fit(loader(), 3)
    run = trainer(tmp_path, callbacks=[BreakOff(10)], checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        run.fit(loader(), 3)
    run.callbacks[-1].step = 0
    run.fit(loader(), 3, resume="auto")
    assert weights(run) == weights(whole) and [r["train_loss"] for r in run.history] == [r["train_loss"] for r in whole.history]


def test_a_run_that_had_ended_stays(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(loader(), 2)
    (tmp_path / "model.safetensors").unlink()  # killed just before it was written
    again = trainer(tmp_path)
    assert len(again.fit(loader(), 2, resume="auto")) == 2 and weights(again) == weights(run)
    assert sorted(nn.load_file(tmp_path / "model.safetensors")) == sorted(run.model.state_dict())
    assert len(trainer(tmp_path).fit(loader(), 3, resume="auto")) == 3


def test_a_loader_without_a_state(tmp_path: Path) -> None:
    batches = list(loader())
    whole = trainer(None, callbacks=[BreakOff(0)])
    whole.fit(batches, 2)
    run = trainer(tmp_path, callbacks=[BreakOff(9)], checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        run.fit(batches, 2)
    again = trainer(tmp_path, callbacks=[BreakOff(0)], checkpoint_every=4)
    again.fit(iter_again(batches), 2, resume="auto")
    assert weights(again) == weights(whole) and again.resumed_from == tmp_path / "checkpoints" / "step-00000008.safetensors"


class iter_again:
    """Of no known length."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def test_one_checkpoint_by_name(tmp_path: Path) -> None:
    trainer(tmp_path / "a").fit(loader(), 2)
    best = tmp_path / "a" / "checkpoints" / "best.safetensors"
    run = trainer(tmp_path / "b")
    run.fit(loader(), 3, resume=best)
    assert run.resumed_from == best and run.epoch == 3


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    run = trainer(tmp_path, keep=2, checkpoint_every=4, monitor="lr", mode="max")  # the rate is best at first
    run.scheduler = nn.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.5)
    run.fit(loader(), 3)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.safetensors", "step-00000016.safetensors", "step-00000018.safetensors"]
    assert load_state(tmp_path / "checkpoints" / "best.safetensors")["books"]["step"] == 6
    trainer(tmp_path).fit(loader(), 1)  # another run
    assert sorted(p.name for p in (tmp_path / "checkpoints.old").iterdir()) == names
    assert [p.name for p in Checkpoints(tmp_path / "checkpoints").paths()] == ["step-00000006.safetensors"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


# --- what bad input gets ------------------------------------------------------------------------------------------------------------------------
def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros_at_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))


def another_number(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'\\"step\\": 12', b'\\"step\\": 13', 1))


@pytest.mark.parametrize("damage", [cut, zeros_at_the_end, another_number, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: Any) -> None:
    whole = trainer(None)
    whole.fit(loader(), 3)
    trainer(tmp_path).fit(loader(), 2)
    newest = tmp_path / "checkpoints" / "step-00000012.safetensors"
    before = newest.read_bytes()
    damage(newest)
    assert newest.read_bytes() != before
    again = trainer(tmp_path)
    with pytest.warns(CheckpointWarning, match=r"checkpoint left out, and the one before it used: .*step-00000012.safetensors .*damaged"):
        again.fit(loader(), 3, resume="auto")
    assert again.resumed_from == tmp_path / "checkpoints" / "step-00000006.safetensors" and weights(again) == weights(whole)


def test_no_good_checkpoint_is_a_beginning(tmp_path: Path) -> None:
    trainer(tmp_path, keep=1).fit(loader(), 1)
    cut(tmp_path / "checkpoints" / "step-00000006.safetensors")
    again = trainer(tmp_path)
    with pytest.warns(CheckpointWarning, match="step-00000006"):
        again.fit(loader(), 1, resume="auto")
    assert again.resumed_from is None and again.step == 6


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    trainer(tmp_path).fit(loader(), 1)
    wider = trainer(tmp_path, hidden=9)
    before = weights(wider)
    with pytest.raises(
        CheckpointError, match=r"step-00000006.safetensors: the checkpoint is of another model: .*0.weight has shape \(8, 4\)"
    ):
        wider.fit(loader(), 2, resume="auto")
    assert weights(wider) == before
    other = nn.Linear(4, 3)
    with pytest.raises(CheckpointError, match=r"missing: weight, bias; unexpected: 0\.weight, 0\.bias"):
        nn.Trainer(other, nn.CrossEntropyLoss(), nn.optim.Adam(other.parameters()), out=tmp_path).fit(loader(), 2, resume="auto")
    with pytest.raises(CheckpointError, match="the checkpoint is of another run: optimizer: Adam there, SGD here"):
        trainer(tmp_path, optimizer=nn.optim.SGD).fit(loader(), 2, resume="auto")
    with pytest.raises(CheckpointError, match="ema: None there, AveragedModel here"):
        trainer(tmp_path, ema=0.9).fit(loader(), 2, resume="auto")


def test_batches_of_another_size_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    broken_off(4, tmp_path, checkpoint_every=2)
    run = trainer(tmp_path, callbacks=[BreakOff(0)], checkpoint_every=2)
    with pytest.raises(CheckpointError, match=r"the checkpoint is of another run: .* batches of 4 samples"):
        run.fit(nn.data.DataLoader(DATA, 8, shuffle=True, seed=0), 3, validation=loader(), resume="auto")


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files, in a process of its own: a write fails half way, as on a disk that is full."""
    pytest.importorskip("resource")
    code = """if True:
        import resource, signal, sys
        import numpy as np
        from pathlib import Path
        from agnostic_ad.nn.trainer import Checkpoints
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        checkpoints = Checkpoints(sys.argv[1])
        checkpoints.save({"x": np.zeros(1000)}, 1, best=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        try:
            checkpoints.save({"x": np.ones(10_000)}, 2, best=True)
        except RuntimeError as error:
            print(type(error).__name__, error)
    """
    folder = tmp_path / "checkpoints"
    ran = subprocess.run([sys.executable, "-P", "-c", code, str(folder)], capture_output=True, text=True)
    assert "step-00000002.safetensors cannot be written: File too large; step-00000001.safetensors is whole" in ran.stdout, ran.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["best.safetensors", "step-00000001.safetensors"]
    path, state = Checkpoints(folder).newest() or (None, None)
    assert path == folder / "step-00000001.safetensors" and (state["x"] == load_state(folder / "best.safetensors")["x"]).all()


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"a": 1}, 1)
    (tmp_path / ".step-00000002.safetensors.ab12").write_bytes(b"half")
    (tmp_path / ".hidden").write_bytes(b"the user's own")
    checkpoints.tidy()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".hidden", "step-00000001.safetensors"]


def test_files_are_synced_before_they_get_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (calls.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file"), sync(handle))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))[1])
    Checkpoints(tmp_path).save({"a": 1}, 1)
    assert calls == ["file", "rename", "folder"] if os.path.isdir("/proc/self/fd") else calls[1] == "rename"


# --- states -------------------------------------------------------------------------------------------------------------------------------------
def test_states_come_back(tmp_path: Path, backend: support.Backend) -> None:
    state = {
        "arrays": [
            backend.asarray(np.arange(6.0).reshape(2, 3)),
            backend.asarray(np.asarray([True, False])),
            backend.asarray(np.zeros((0, 2))),
        ],
        "complex": backend.asarray(np.asarray([[1 + 2j]])),
        "tuple": (1, 2.5, None, True, "text"),
        "numbers": [float("inf"), -float("inf"), 2**100, np.float32(0.1), np.int64(3)],
        0: {"$": "a mark", 1.5: Counter([1, 1, 2])},
        "a.b": backend.asarray(1.0),
        "a": {"b": backend.asarray(2.0)},
    }
    save_state(state, tmp_path / "s.safetensors")
    found = load_state(tmp_path / "s.safetensors")
    assert list(found) == list(state)
    for got, given in zip(
        [*found["arrays"], found["complex"], found["a.b"], found["a"]["b"]], [*state["arrays"], state["complex"], 1.0, 2.0], strict=True
    ):
        want = np.asarray(given) if isinstance(given, float) else backend.numpy(given)
        assert got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes()
    assert found["tuple"] == state["tuple"] and type(found["numbers"][3]) is np.float32 and found["numbers"] == state["numbers"]
    assert found[0] == state[0] and type(found[0][1.5]) is Counter


def test_narrow_floats_come_back_wider(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_state({"x": torch.asarray([1.5, -3.0], dtype=torch.bfloat16)}, tmp_path / "s.safetensors")
    found = load_state(tmp_path / "s.safetensors")["x"]
    assert found.dtype == np.float32 and found.tolist() == [1.5, -3.0]


def test_random_numbers_go_on(tmp_path: Path) -> None:
    from agnostic_ad.nn.trainer.states import random_state, set_random_state

    random.gauss(), np.random.normal()  # each keeps a second number
    save_state(random_state(), tmp_path / "s.safetensors")
    draw = lambda: (
        random.gauss(),
        random.random(),
        np.random.normal(),
        np.random.random(),
        nn.init.normal_(nn.Parameter(np.zeros(2))).data.tolist(),
    )
    want = draw()
    set_random_state(load_state(tmp_path / "s.safetensors"))
    assert draw() == want


def test_what_a_state_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a checkpoint cannot hold callbacks.0.file, of type object"):
        save_state({"callbacks": [{"file": object()}]}, tmp_path / "s.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    nn.save_file({"x": np.zeros(1)}, tmp_path / "s.safetensors")
    with pytest.raises(FileError, match="is no checkpoint: its header does not say"):
        load_state(tmp_path / "s.safetensors")
    with pytest.raises(ValueError, match="Checkpoints: keep is an integer of 1 or more, not 0"):
        Checkpoints(tmp_path, keep=0)


def test_nothing_is_said_of_good_checkpoints(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(tmp_path).newest() is None
