"""The inside of a worker: requests come, batches go."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from agnostic_ad.nn.data.seeding import DrawsShared, Streams, key_of
from agnostic_ad.nn.data.workers import INFO, Fetcher, Recipe, StreamFetcher, Task, WorkerError, WorkerInfo
from agnostic_ad.nn.data.workers_memory import Block, pack, receive, room, write

_PIPE = 1 << 15  # what is pickled beside the arrays goes through the pipe up to so many bytes
_PATIENCE = 5.0  # seconds that a fetch may go on for after the loader's process has ended


class Open(NamedTuple):
    """A request: begin to read a stream for an epoch."""

    epoch: int


class Next(NamedTuple):
    """A request: the stream's next batch."""


class Failure(NamedTuple):
    """An answer: what was raised."""

    error: BaseException

    @classmethod
    def of(cls, error: BaseException, where: str) -> Failure:
        """Add to an error where it happened, as it crosses to another thread or process without its traceback."""
        told = f"in {where}:\n{''.join(traceback.format_exception(error))}".rstrip()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # whatever an error of others does when it is taken apart
            error = WorkerError(f"{type(error).__name__}: {error}")
        error = error.with_traceback(None)
        error.add_note(told)
        return cls(error)


class Worker:
    """What answers requests, in a thread or a process of its own."""

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        count: int,
        init: Callable[[int], Any] | None,
        streams: Callable[..., Streams],
    ) -> None:
        seed = int.from_bytes(key_of("worker", recipe.seed, number)[:4], "little")
        INFO.set(WorkerInfo(number, count, seed, recipe.dataset))
        self._recipe, self._share, self._streams = recipe, (number, count), streams
        self._fetch: Fetcher | None = None
        self._stream: StreamFetcher | None = None
        if init is not None:
            init(number)

    def __call__(self, request: Any) -> Any:
        """Answer a request."""
        if isinstance(request, Task):
            if self._fetch is None:
                self._fetch = Fetcher(self._recipe, self._streams)
            try:
                return self._fetch(request)
            except DrawsShared:
                return None
        if isinstance(request, Open):
            self._stream = StreamFetcher(self._recipe, self._streams, request.epoch, self._share)
            return None
        assert self._stream is not None
        batch = self._stream()
        return self._stream.own_share, batch


class _Blocks:
    """A worker's blocks: those that are in use elsewhere, and those that are free."""

    def __init__(self) -> None:
        self._all: dict[int, Block] = {}
        self._free: list[int] = []
        self._made = 0
        self.gone: list[int] = []  # since the last answer

    def take(self, size: int) -> tuple[int, Block]:
        """Give a block of this size or larger; a new one where none is free, in the place of one that is too small."""
        fitting = [number for number in self._free if self._all[number].size >= size]
        if not fitting:
            if self._free:
                self.gone.append(self._free.pop(0))
                del self._all[self.gone[-1]]
            self._made += 1
            self._all[self._made] = Block(size + size // 8)
            fitting = [self._made]
            self._free.append(self._made)
        number = min(fitting, key=lambda i: self._all[i].size)
        self._free.remove(number)
        return number, self._all[number]

    def give_back(self, numbers: list[int]) -> None:
        """Take blocks back whose arrays are gone."""
        self._free += [number for number in numbers if number in self._all]


class Letter(NamedTuple):
    """An answer on its way: its pickle, or None where that lies in the block too; the block, and which blocks there are no more."""

    ticket: int
    data: bytes | None
    sizes: list[int]
    block: int = 0
    path: str = ""
    size: int = 0
    gone: tuple[int, ...] = ()


def _letter(ticket: int, answer: Any, blocks: _Blocks) -> Letter:
    data, apart = pack(answer)
    inside = len(data) > _PIPE
    if inside:
        apart.append(memoryview(data))
    if not apart:
        return Letter(ticket, data, [])
    sizes = [part.nbytes for part in apart]
    number, block = blocks.take(room(sizes))
    write(apart, block.memory)
    gone, blocks.gone = tuple(blocks.gone), []
    return Letter(ticket, None if inside else data, sizes, number, block.path, block.size, gone)


def _run_main(said: dict[str, Any]) -> None:
    """Run the program's main file, under another name than ``__main__``."""
    import multiprocessing.spawn

    process: Any = multiprocessing.current_process()
    process._inheriting = True  # as multiprocessing says that no process may be started meanwhile
    try:
        multiprocessing.spawn.prepare(said)
    finally:
        del process._inheriting


def serve(
    connection: Any,
    parent_ends: list[Any],
    number: int,
    count: int,
    parcel: tuple[Recipe, Any] | None = None,
    main: dict[str, Any] | None = None,
) -> None:
    """Answer requests of the loader's process, until it closes the connection.

    Parameters
    ----------
    connection : Connection
        To that process. The first message is the recipe, unless it is given.
    parent_ends : list of Connection
        That process's ends, where this one has inherited them.
    number, count : int
        Which worker of how many this is.
    parcel : optional
        The recipe and ``worker_init_fn``, where this process has inherited them.
    main : dict, optional
        How to run the program's main file, where the dataset needs what is defined there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the loader's process hears of Ctrl-C, and ends its workers
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    for end in parent_ends:
        end.close()
    where = f"worker {number} (process {os.getpid()}) of a DataLoader"
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    blocks = _Blocks()

    def send(ticket: int, answer: Any) -> None:
        connection.send_bytes(pickle.dumps(tuple(_letter(ticket, answer, blocks))))

    def listen() -> None:  # at all times, so that the other side never waits to send; and notices when that is gone
        with contextlib.suppress(EOFError, OSError):
            while True:
                requests.put(pickle.loads(connection.recv_bytes()))
        requests.put(None)
        threading.Event().wait(_PATIENCE)
        os._exit(1)

    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        try:
            if main is not None:
                _run_main(main)
            recipe, init = receive(*pickle.loads(connection.recv_bytes())) if parcel is None else parcel
            worker = Worker(recipe, number, count, init, lambda *roots, again: Streams(*roots, restore=False, again=again))
        except EOFError:
            return
        except BaseException as error:
            send(-1, Failure.of(error, where))
            return
        threading.Thread(target=listen, daemon=True).start()
        while (message := requests.get()) is not None:
            freed, ticket, request = message
            blocks.give_back(freed)
            try:
                answer = worker(request)
            except Exception as error:
                answer = Failure.of(error, where)
            try:
                send(ticket, answer)
            except (BrokenPipeError, ConnectionResetError):
                return
            except Exception as error:
                told = TypeError(f"a batch goes to the loader's process by pickle, and something in this one cannot: {error}")
                send(ticket, Failure.of(told, where))
            answer = None
