"""Workers of a DataLoader: the same batches whoever fetches them, and an end to every process."""

from __future__ import annotations

import gc
import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import worker_datasets as toys

from agnostic_ad import nn
from agnostic_ad.nn.data import DataLoader, TensorDataset, WorkerError
from agnostic_ad.nn.data import workers_memory as memory

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
PROCESSES = {"num_workers": 2}
THREADS = {"num_workers": 3, "workers": "threads"}
FALLS_BACK = "ignore:the dataset draws from numpy.random:UserWarning"


def workers() -> list[int]:
    """Give the processes of loaders that have been started from here and have not ended, or not been waited for."""
    found = [each.pid for each in multiprocessing.active_children()]
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            found += [int(pid)] if not command or b"workers_start.py" in command else []
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No worker outlives its test, and none leaves a segment."""
    yield
    gc.collect()
    assert workers() == []
    assert not Path("/dev/shm").is_dir() or [name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "agnostic"))] == []


def same(a: Any, b: Any) -> bool:
    """Tell whether batches are equal bit by bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return bool(np.array_equal(a, b)) and getattr(a, "dtype", None) == getattr(b, "dtype", None)


# --- the same batches --------------------------------------------------------------------------------------------------------------
MAPS = {
    "own generators": lambda **k: DataLoader(toys.Drawing(shared=False), 4, shuffle=True, seed=5, **k),
    "shared ones too": lambda **k: DataLoader(toys.Drawing(), 4, shuffle=True, seed=5, drop_last=True, **k),
    "with repetitions": lambda **k: DataLoader(
        toys.Drawing(), 4, seed=5, sampler=nn.data.WeightedRandomSampler(np.ones(5), 30), collate_fn=toys.with_noise, **k
    ),
    "single samples": lambda **k: DataLoader(toys.Drawing(9), None, shuffle=True, seed=5, **k),
    "made late": lambda **k: DataLoader(toys.Late(), 4, seed=5, **k),
    "drawn rarely": lambda **k: DataLoader(toys.Rarely(), 4, seed=5, **k),
    "in the module": lambda **k: DataLoader(toys.OfModule(), 4, seed=5, **k),
}
STREAMS = {
    "a stream": lambda **k: DataLoader(toys.Counting(), 4, seed=5, **k),
    "a stream without shared draws": lambda **k: DataLoader(toys.Counting(shared=False), 4, seed=5, drop_last=True, **k),
    "single samples of a stream": lambda **k: DataLoader(toys.Counting(9), None, seed=5, **k),
}
KINDS = {
    "1 process": {"num_workers": 1, "persistent_workers": True},
    "3 processes": {"num_workers": 3, "persistent_workers": True},
    "1 thread": {"num_workers": 1, "workers": "threads"},
    "4 threads": {"num_workers": 4, "workers": "threads", "prefetch_factor": 3},
    "multiprocessing's processes": {"num_workers": 2, "multiprocessing_context": "spawn"},
    "its server's processes": {"num_workers": 2, "multiprocessing_context": multiprocessing.get_context("forkserver"), "timeout": 100},
}
SHORT = {("own generators", "3 processes"), ("shared ones too", "multiprocessing's processes"), ("a stream", "3 processes")}


def cases() -> Iterator[Any]:
    for data in MAPS | STREAMS:
        for kind in KINDS:
            spawns = "process" in kind
            marks = [pytest.mark.soak] if spawns and (data, kind) not in SHORT else []
            yield pytest.param(data, kind, id=f"{data}, {kind}", marks=marks)


@pytest.mark.filterwarnings(FALLS_BACK)
@pytest.mark.parametrize(("data", "kind"), list(cases()))
def test_batches_do_not_depend_on_workers(data: str, kind: str) -> None:
    make = (MAPS | STREAMS)[data]
    here = make()
    first, second = list(here), list(here)
    assert not same(first, second)
    np.random.seed(0), random.seed(0)
    before = np.random.get_state()[1].tolist(), random.getstate()
    there = make(**KINDS[kind])
    batches = iter(there)
    begun = [next(batches) for _ in range(2)]
    state = json.loads(json.dumps(there.state_dict()))
    assert same(begun + list(batches), first)
    assert same(list(there), second)
    there.load_state_dict(state)
    assert same(list(there), first[2:])
    assert same(list(there), second)
    if (data, "thread" in kind) != ("drawn rarely", True):  # a thread's first draw is noticed when it has been made
        assert (np.random.get_state()[1].tolist(), random.getstate()) == before  # those of this process are left alone
    resumed = make()
    resumed.load_state_dict(state)
    assert same(list(resumed), first[2:])
    assert there.state_dict() == resumed.state_dict() | {"epoch": 2} == here.state_dict()


@pytest.mark.parametrize("kind", [PROCESSES, THREADS], ids=["processes", "threads"])
@pytest.mark.filterwarnings(FALLS_BACK)
def test_streams_that_share_themselves_out(kind: dict[str, Any]) -> None:
    count = kind["num_workers"]
    got = list(DataLoader(toys.Counting(10, share=True), 2, seed=1, **kind))
    shares = [[list(range(worker, 10, count))[i : i + 2] for i in range(0, 10, 2)] for worker in range(count)]
    expected = [share[i] for i in range(5) for share in shares if share[i]]
    assert [numbers.tolist() for numbers, *_ in got] == expected
    assert len({float(x) for _, draws, _ in got for x in draws}) == 10  # workers do not draw the same numbers
    assert same(got, list(DataLoader(toys.Counting(10, share=True), 2, seed=1, **kind)))
    loader = DataLoader(toys.Counting(10, share=True), 2, seed=1, **kind)
    loader.load_state_dict({"seed": 1, "epoch": 0, "batches": 3})
    assert same(list(loader), got[3:])


def test_streams_that_ask_late() -> None:
    assert len(list(DataLoader(toys.AsksLate(), 2))) == 10
    with pytest.raises(nn.data.DatasetError, match="asked for its worker's number when its first batch had been given"):
        list(DataLoader(toys.AsksLate(), 2, **THREADS))


def test_one_worker_of_a_stream_is_as_none() -> None:
    one = list(DataLoader(toys.Counting(10, share=True, shared=False), 3, seed=1, num_workers=1, workers="threads"))
    assert same(one, list(DataLoader(toys.Counting(10, shared=False), 3, seed=1)))


def test_threads_leave_a_dataset_alone_that_draws_from_what_they_share() -> None:
    with pytest.warns(UserWarning, match="its batches are fetched by the thread that asks for them"):
        threads = list(DataLoader(toys.Drawing(), 4, seed=0, **THREADS))
    assert same(threads, list(DataLoader(toys.Drawing(), 4, seed=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(DataLoader(toys.Drawing(shared=False), 4, seed=0, **THREADS))


def test_whole_batches_and_other_libraries(backend: Any) -> None:
    x = np.arange(20.0).reshape(10, 2)
    here = list(DataLoader(TensorDataset(x, np.arange(10)), 3, shuffle=True, seed=0, xp=backend.xp))
    there = list(DataLoader(TensorDataset(x, np.arange(10)), 3, shuffle=True, seed=0, xp=backend.xp, **THREADS))
    kind = type(backend.asarray(1.0))
    assert len(here) == len(there) == 4 and all(type(part) is kind for batch in there for part in batch)
    assert all(same(backend.numpy(a), backend.numpy(b)) for left, right in zip(here, there) for a, b in zip(left, right))


# --- what goes between processes ----------------------------------------------------------------------------------------------------
def test_batches_of_any_kind_and_size() -> None:
    here = list(DataLoader(toys.Rows(), 4, collate_fn=toys.as_list))
    there = list(DataLoader(toys.Rows(), 4, collate_fn=toys.as_list, **PROCESSES))  # all kept at once: no memory is used twice
    assert same(here, there)
    there[0][1][1][:] = 5  # a batch is its owner's
    assert (there[0][1][1] == 5).all() and same(here[1:], there[1:])


def test_blocks_are_used_again() -> None:
    loader = DataLoader(toys.Drawing(400, shared=False), 2, num_workers=1)
    places = {batch["draws"].__array_interface__["data"][0] for batch in loader}
    assert len(places) <= 6  # of 200 batches


@pytest.mark.parametrize("portable", [False, True], ids=["nameless", "by temporary files"])
def test_parcels(portable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if portable:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(memory.sys, "platform", "other")
        monkeypatch.setattr(memory.tempfile, "tempdir", str(tmp_path))
    array = np.arange(100_000.0).reshape(100, 1000)
    np.save(tmp_path / "mapped.npy", array)
    mapped = np.load(tmp_path / "mapped.npy", mmap_mode="r")
    parts = [
        array,
        array[:, ::2],
        array.T,
        array[3:],
        np.zeros((0, 3)),
        np.array(["a", None], object),
        mapped,
        mapped[5:, 1::3],
        mapped[::-1],
    ]
    parcel = memory.Parcel(parts)
    got = memory.receive(parcel.data, parcel.places)
    assert all(np.array_equal(a, b) for a, b in zip(parts, got))
    assert not any(x.flags.writeable for x in (got[0], got[6], got[7]))
    assert len(parcel.data) < 20_000  # no array lies in the pickle, mapped ones least of all
    del parcel
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["mapped.npy"]


@ON_LINUX
def test_large_arrays_are_shared_where_they_lie() -> None:
    array = np.arange(6_000_000.0).reshape(3000, 2000)
    view, address = array[100:200], array.ctypes.data
    parcel = memory.Parcel({"all": array, "some": array[1000:], "turned": np.asfortranarray(array[:1500]).T})
    got = memory.receive(parcel.data, parcel.places)
    assert np.array_equal(got["all"], array) and np.array_equal(got["some"], array[1000:])
    assert array.ctypes.data == address and len({span.path for span in parcel.places[:2]}) == 1
    view[:] = -1  # one memory for all
    assert (got["all"][100:200] == -1).all()
    again = memory.Parcel(array)
    assert again.places == parcel.places[:1]
    del array, view
    gc.collect()
    assert (got["all"][100:200] == -1).all()  # who has the memory keeps it
    del got
    files = set(memory._SHARED)
    memory.Parcel(np.ones(5_000_000))
    assert files and files.isdisjoint(memory._SHARED)  # they are closed when their arrays have gone


@pytest.mark.parametrize("dtype", ["bool", "int64", "float32", "complex128"])
def test_arrays_of_other_libraries_cross(backend: Any, dtype: str) -> None:
    array = np.arange(3000).reshape(2, 1500).astype(dtype)
    parcel = memory.Parcel([backend.asarray(array), backend.asarray(array[:, :0])])
    got, empty = memory.receive(parcel.data, parcel.places)
    assert type(got) is type(backend.asarray(array)) and same(backend.numpy(got), array) and empty.shape == (2, 0)


def test_devices_cross() -> None:
    strict = pytest.importorskip("array_api_strict")
    parcel = memory.Parcel([strict.asarray([1.0, 2.0], device=strict.Device(name)) for name in ("CPU_DEVICE", "device1")])
    for got, name in zip(memory.receive(parcel.data, parcel.places), ("CPU_DEVICE", "device1")):
        assert got.device == strict.Device(name) and got.shape == (2,) and float(got[1]) == 2


def test_what_a_worker_is_told() -> None:
    array = np.full(100_000, 7.0)
    loader = DataLoader(toys.About(array), 2, seed=3, worker_init_fn=toys.remember, persistent_workers=True, num_workers=2)
    epochs = [list(loader), list(loader)]
    for batches in epochs:
        ids = {(int(b["worker"][0][i]), int(b["worker"][1][i]), int(b["started"][i])) for b in batches for i in range(2)}
        assert ids <= {(0, 2, 0), (1, 2, 1)} and all(not b["writeable"].any() and (b["first"] == 7).all() for b in batches)
        assert all(not b["heavy"].any() for b in batches)  # a worker imports little of the package
    seeds = {(int(b["worker"][0][0]), int(b["worker"][2][0])) for b in epochs[0]}
    assert len({seed for _, seed in seeds}) == len(seeds)
    pids = [{int(p) for b in batches for p in b["pid"]} for batches in epochs]
    assert len(pids[0] | pids[1]) <= 2 and os.getpid() not in pids[0]
    loader = DataLoader(toys.About(), 2, num_workers=1, workers="threads")
    assert {int(p) for b in loader for p in b["pid"]} == {os.getpid()} and nn.data.get_worker_info() is None


def test_any_order() -> None:
    loader = DataLoader(TensorDataset(np.arange(40)), 4, seed=0, in_order=False, shuffle=True, **THREADS)
    batches = iter(loader)
    begun = [next(batches)[0].tolist() for _ in range(4)]
    state = json.loads(json.dumps(loader.state_dict()))
    rest = [x.tolist() for (x,) in batches]
    assert sorted(itertools.chain(*begun, *rest)) == list(range(40))
    again = DataLoader(TensorDataset(np.arange(40)), 4, seed=0, shuffle=True)
    again.load_state_dict(state)
    assert sorted(x.tolist() for (x,) in again) == sorted(rest)
    stream = DataLoader(toys.Counting(20, shared=False), 3, in_order=False, **THREADS)
    assert sorted(int(n) for numbers, *_ in stream for n in numbers) == list(range(20))


# --- what goes wrong ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [PROCESSES, THREADS], ids=["processes", "threads"])
def test_errors_of_samples(kind: dict[str, Any]) -> None:
    got = []
    with pytest.raises(KeyError, match="thirteen") as caught:
        for batch in DataLoader(toys.Faulty("raise"), 4, **kind):
            got.append(batch)
    (note,) = caught.value.__notes__
    assert "worker" in note and "of a DataLoader" in note and 'raise KeyError("thirteen")' in note and "worker_datasets.py" in note
    assert same(got, list(DataLoader(toys.Faulty("none"), 4))[:3])  # at its turn, not before


def test_errors_that_cannot_cross() -> None:
    with pytest.raises(WorkerError, match="InnerError: thirteen"):
        list(DataLoader(toys.Faulty("inner"), 4, num_workers=1))
    with pytest.raises(TypeError, match=r"something in this one cannot: .*lambda"):
        list(DataLoader(toys.Faulty("unpicklable"), 4, collate_fn=toys.as_list, num_workers=1))


def test_damaged_samples_are_told_of_here() -> None:
    with pytest.warns(UserWarning, match="left out: sample 13, a.png, cannot be read: cut off"):
        batches = list(DataLoader(toys.Faulty("damage"), 4, num_workers=1))
    assert [len(batch) for batch in batches] == [4, 4, 4, 3, 4, 4, 4, 4, 4, 4]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("fault", "text"), [("kill", "was ended by SIGKILL"), ("exit", "ended with status 7")])
def test_a_worker_that_ends_is_noticed(fault: str, text: str) -> None:
    with pytest.raises(WorkerError, match=rf"worker \d of the DataLoader \(process \d+\) {text}"):
        list(DataLoader(toys.Faulty(fault), 4, **PROCESSES))


def test_timeout() -> None:
    with pytest.raises(WorkerError, match=r"gave a batch within timeout=0.2 seconds"):
        list(DataLoader(toys.Faulty("hang", 0), 4, timeout=0.2, num_workers=1))


def test_what_cannot_go_to_processes() -> None:
    with pytest.raises(TypeError, match=r'go to worker processes by pickle.*lambda.*pass workers="threads"'):
        list(DataLoader(toys.Faulty("none"), 4, collate_fn=lambda samples: samples, num_workers=1))


def test_an_iteration_that_is_left() -> None:
    loader = DataLoader(toys.Drawing(shared=False), 4, seed=0, shuffle=True, persistent_workers=True, **PROCESSES)
    expected = DataLoader(toys.Drawing(shared=False), 4, seed=0, shuffle=True)
    list(expected)
    for _ in loader:
        break
    assert same(list(loader), list(expected))  # the next pass is the next epoch; what was under way is thrown away
    del loader


@pytest.mark.soak
def test_workers_that_are_killed_again_and_again() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        loader = DataLoader(toys.Drawing(4000, shared=False), 4, num_workers=3, worker_init_fn=toys.remember)
        stop, got = int(rng.integers(0, 900)), 0
        with pytest.raises(WorkerError, match="was ended by SIGKILL"):
            for got, batch in enumerate(loader):
                assert batch["index"].tolist() == list(range(4 * got, 4 * got + 4))
                if got == stop:
                    os.kill(int(rng.choice(workers())), signal.SIGKILL)
        assert stop <= got < 1000 and workers() == []


@pytest.mark.soak
def test_memory_stays_where_it_is() -> None:
    loader = DataLoader(toys.Rows(), 4, collate_fn=toys.as_list, persistent_workers=True, **PROCESSES)
    sizes = []
    for _ in range(300):
        list(loader)
        sizes.append(sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [os.getpid(), *workers()]))
    assert max(sizes[100:]) < 1.05 * max(sizes[:100])
    assert len(os.listdir("/proc/self/fd")) < 100
    del loader


SCRIPT = """
import glob, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job, and what it starts, would ignore it
sys.path.insert(0, {tests!r})
import numpy as np
import worker_datasets as toys
from agnostic_ad.nn.data import DataLoader

batches = iter(DataLoader(toys.Faulty({fault!r}, 30), 2, num_workers=2))
next(batches)
print(*[pid for path in glob.glob("/proc/self/task/*/children") for pid in open(path).read().split()], flush=True)
{then}
"""


def script(tmp_path: Path, fault: str, then: str) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent), fault=fault, then=then)))
    return subprocess.Popen(
        [sys.executable, "-P", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: list[int]) -> bool:
    """Wait until processes have ended; long only where they do not."""
    until = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


@ON_LINUX
@pytest.mark.parametrize("end", ["the end", "Ctrl-C", "kill", "exit without an end"])
def test_no_process_is_left(end: str, tmp_path: Path) -> None:
    """Nor any word of it; and a script without the usual guard around its main part does it too."""
    then = {"the end": "list(batches)", "Ctrl-C": "list(batches)", "kill": "list(batches)", "exit without an end": "sys.exit()"}[end]
    process = script(tmp_path, "hang" if end in ("Ctrl-C", "kill") else "none", then)
    assert process.stdout is not None
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    if end == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    elif end == "kill":
        process.kill()
    _, errors = process.communicate(timeout=30)
    assert gone(workers)
    if end == "Ctrl-C":
        assert process.returncode == -signal.SIGINT and errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")
    else:
        assert errors == ""


@pytest.mark.parametrize("guard", ['if __name__ == "__main__":', "if True:"])
def test_a_dataset_of_the_script_itself(guard: str, tmp_path: Path) -> None:
    """Workers run the script again then, as Python's own do, and need its guard."""
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent("""
        from agnostic_ad.nn.data import DataLoader


        class Squares:
            def __len__(self):
                return 6

            def __getitem__(self, index):
                return index * index


        GUARD
            print([batch.tolist() for batch in DataLoader(Squares(), 4, num_workers=1)])
        """).replace("GUARD", guard)
    )
    done = subprocess.run([sys.executable, "-P", str(path)], capture_output=True, text=True, timeout=60, check=False)
    if guard == "if True:":
        assert done.returncode == 1 and "RuntimeError: a worker runs the program's main file again" in done.stderr and done.stdout == ""
    else:
        assert (done.stdout, done.stderr) == ("[[0, 1, 4, 9], [16, 25]]\n", "")


@ON_LINUX
def test_forks() -> None:
    """In a process of its own: this one may hold threads of other libraries, with which a fork may hang."""
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import worker_datasets as toys
        from agnostic_ad.nn.data import DataLoader

        def batches(dataset, **options):
            return [repr(batch) for _ in range(2) for batch in DataLoader(dataset, 4, seed=5, **options)]

        for dataset in (toys.Drawing(), toys.OfModule(), toys.Counting()):
            assert batches(dataset) == batches(dataset, num_workers=2, multiprocessing_context="fork")
        print(list(DataLoader(toys.Drawing(9), 4, collate_fn=lambda samples: len(samples), num_workers=1, multiprocessing_context="fork")))
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[4, 4, 1]\n", "")
