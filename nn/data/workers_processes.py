"""Worker processes, and how they start."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import runpy
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import spawn
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from agnostic_ad.nn.data.workers import Recipe, WorkerError
from agnostic_ad.nn.data.workers_child import Letter, serve
from agnostic_ad.nn.data.workers_memory import Parcel, open_block, unpack
from agnostic_ad.nn.data.workers_pools import GRACE, Pool

_DEFERRED = ("agnostic_ad", "agnostic_ad.nn", "agnostic_ad.nn.data", "agnostic_ad.nn.data.datasets", "agnostic_ad.nn.data.transforms")
_FILE = str(Path(__file__).with_name("workers_start.py"))


class ProcessPool(Pool):
    """Processes; the dataset's arrays lie in memory that they share, and those of batches too.

    Parameters
    ----------
    recipe : Recipe
        How batches are made.
    count : int
        How many processes.
    init : callable, optional
        Called in each with its number.
    timeout : float
        How long to wait for an answer, in seconds; 0: for ever.
    context : str or context of multiprocessing, optional
        How processes start. By default a new interpreter is started as "spawn" does, but without the processes that multiprocessing has
        for its own purposes, and the program's main file is run again only where the dataset needs what is defined there.
    """

    def __init__(self, recipe: Recipe, count: int, init: Callable[[int], Any] | None, timeout: float, context: Any) -> None:
        super().__init__(timeout)
        self.size = count
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "a worker runs the program's main file again, since the dataset is defined there, and came upon a loop over a DataLoader: put the part of "
                "the file that does the work under if __name__ == '__main__':, or the dataset in a module of its own"
            )
        self._blocks: list[dict[int, Any]] = [{} for _ in range(count)]
        self._freed: list[deque[int]] = [deque() for _ in range(count)]
        self._connections: list[Any] = []
        self._processes: list[Any] = []
        self._finalizer = weakref.finalize(self, _end_processes, self._processes, self._connections, os.getpid())
        plain = context is None and os.name == "posix" and not getattr(sys, "frozen", False)
        if not plain and not isinstance(context, multiprocessing.context.BaseContext):
            context = multiprocessing.get_context(context or "spawn")
        inherits = not plain and context.get_start_method() == "fork"
        self._parcel = None if inherits else _parcel(recipe, init)
        try:
            for number in range(count):
                ours, theirs = multiprocessing.Pipe()
                self._connections.append(ours)
                with _interrupts_held(), contextlib.closing(theirs):
                    if inherits:
                        process = context.Process(
                            target=serve, args=(theirs, self._connections, number, count, (recipe, init)), daemon=True
                        )
                    elif plain:
                        process = _Command(theirs)
                    else:
                        given = {"said": self._said(number, True), "connection": theirs}
                        process = context.Process(target=runpy.run_path, args=(_FILE, given, "<worker>"), daemon=True)
                    process.start()
                self._processes.append(process)
            for number in range(count):  # when all are on their way
                if plain:
                    self._tell(number, self._said(number, b"__main__" not in self._parcel.data))  # type: ignore[union-attr]
                if self._parcel is not None:
                    self._tell(number, (self._parcel.data, self._parcel.places))
        except BaseException:
            self.close()
            raise

    def _said(self, number: int, without_main: bool) -> dict[str, Any]:
        """Give what a worker must know to begin."""
        packages = {name: str(Path(sys.modules[name].__file__).parent) for name in _DEFERRED}  # type: ignore[arg-type]
        main: dict[str, Any] | None = None
        if not without_main:
            main = spawn.get_preparation_data(f"DataLoader worker {number}")
            del main["authkey"]  # which multiprocessing lets go nowhere else
        return {"packages": packages, "main": main, "number": number, "count": self.size, "path": sys.path, "argv": sys.argv}

    def _tell(self, worker: int, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended: receive() says so
            self._connections[worker].send_bytes(pickle.dumps(message))

    def send(self, worker: int, request: Any) -> int:
        """Put a request to a worker, with the numbers of the blocks that it may use again."""
        freed = self._freed[worker]
        numbers = [freed.popleft() for _ in range(len(freed))]
        ticket = next(self._tickets)
        self._tell(worker, (numbers, ticket, request))
        return ticket

    def receive(self) -> tuple[int, int, Any]:
        """Wait for an answer, or for the end of a worker."""
        sentinels = {process.sentinel: number for number, process in enumerate(self._processes) if process.sentinel is not None}
        until = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            ready: list[Any] = wait([*self._connections, *sentinels], None if until is None else max(0.0, until - time.monotonic()))
            if not ready:
                raise self._late()
            for connection in ready:
                if connection in sentinels:
                    continue
                worker = self._connections.index(connection)
                try:
                    return worker, *self._opened(worker, Letter(*pickle.loads(connection.recv_bytes())))
                except (EOFError, OSError):
                    raise self._ended(worker) from None
            raise self._ended(next(sentinels[each] for each in ready if each in sentinels))

    def _opened(self, worker: int, letter: Letter) -> tuple[int, Any]:
        blocks = self._blocks[worker]
        for number in letter.gone:
            blocks.pop(number, None)
        if not letter.sizes:
            assert letter.data is not None
            return letter.ticket, pickle.loads(letter.data)
        if letter.block not in blocks:
            blocks[letter.block] = open_block(letter.path, letter.size)
        freed, number = self._freed[worker], letter.block
        return letter.ticket, unpack(letter.data, letter.sizes, blocks[number], lambda: freed.append(number))

    def _ended(self, worker: int) -> WorkerError:
        process = self._processes[worker]
        process.join(GRACE)
        code = process.exitcode
        if code is not None and code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
            how += ": the system does so where memory runs out" if -code == getattr(signal, "SIGKILL", None) else ""
        else:
            how = f"ended with status {code}"
        return WorkerError(f"worker {worker} of the DataLoader (process {process.pid}) {how}")

    def close(self) -> None:
        """End the processes: they are asked to, and after a while made to."""
        self.closed = True
        self._finalizer()
        self._parcel = None


def _end_processes(processes: list[Any], connections: list[Any], owner: int) -> None:
    if os.getpid() != owner:  # a fork of the loader's process
        return
    for connection in connections:
        connection.close()
    until = time.monotonic() + GRACE
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for stop in ("terminate", "kill"):
        for process in processes:
            if process.exitcode is None:
                getattr(process, stop)()
        for process in processes:
            process.join(GRACE)
    for process in processes:
        process.close()
    processes.clear()


class _Command:
    """An interpreter that runs a worker, with what multiprocessing's processes have."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        end = self._connection.fileno()
        command = [spawn.get_executable(), *subprocess._args_from_interpreter_flags(), "-P", _FILE, str(end)]  # type: ignore[attr-defined]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[end])
        self.pid = self._process.pid
        self.sentinel = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None  # elsewhere, the connection's end says so

    @property
    def exitcode(self) -> int | None:
        """Give the status that it ended with."""
        assert self._process is not None
        return self._process.poll()

    def join(self, timeout: float) -> None:
        """Wait for its end."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def terminate(self) -> None:
        """Ask it to end."""
        assert self._process is not None
        self._process.terminate()

    def kill(self) -> None:
        """End it."""
        assert self._process is not None
        self._process.kill()

    def close(self) -> None:
        """Forget it."""
        if self.sentinel is not None:
            os.close(self.sentinel)


def _parcel(recipe: Recipe, init: Any) -> Parcel:
    try:
        return Parcel((recipe, init))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"the dataset, collate_fn and worker_init_fn go to worker processes by pickle, and something in them cannot: {error}. Put functions at "
            'the top of a module in place of lambdas and inner functions, and open files when they are first needed; or pass workers="threads", or '
            'multiprocessing_context="fork"'
        ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let a process that is started begin without hearing of Ctrl-C, which it would answer with a traceback; it will see to that itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
