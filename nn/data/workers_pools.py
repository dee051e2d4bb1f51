"""Workers, and workers as threads."""

from __future__ import annotations

import contextvars
import copy
import itertools
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from agnostic_ad.nn.data.seeding import Streams, ThreadStreams
from agnostic_ad.nn.data.walking import find
from agnostic_ad.nn.data.workers import Recipe, WorkerError
from agnostic_ad.nn.data.workers_child import Failure, Worker

GRACE = 1.0  # seconds that a worker may take to end by itself


class Pool:
    """Workers that answer requests: `send` puts one to a worker, `receive` waits for an answer of any."""

    size: int

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout or None
        self.closed = False
        self._tickets = itertools.count()

    def send(self, worker: int, request: Any) -> int:
        """Put a request to a worker; give its ticket, which comes back with the answer."""
        raise NotImplementedError

    def receive(self) -> tuple[int, int, Any]:
        """Wait for an answer; give the worker, the ticket and the answer."""
        raise NotImplementedError

    def close(self) -> None:
        """End the workers."""
        raise NotImplementedError

    def _late(self) -> WorkerError:
        return WorkerError(f"no worker of the DataLoader gave a batch within timeout={self._timeout:g} seconds")


class ThreadPool(Pool):
    """Threads; each has the dataset's generators for itself, and shares the rest."""

    def __init__(self, recipe: Recipe, count: int, init: Callable[[int], Any] | None, timeout: float) -> None:
        super().__init__(timeout)
        self.size = count
        self._answers: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()
        self._requests: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(count)]
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        for number, requests in enumerate(self._requests):
            mine = _thread_copy(recipe)
            arguments = (requests, self._answers, self._ended, mine, number, count, init)
            self._threads.append(threading.Thread(target=_work, args=arguments, daemon=True, name=f"DataLoader worker {number}"))
            self._threads[-1].start()
        weakref.finalize(self, _end_threads, self._ended, self._requests)

    def send(self, worker: int, request: Any) -> int:
        """Put a request to a worker."""
        ticket = next(self._tickets)
        self._requests[worker].put((ticket, request))
        return ticket

    def receive(self) -> tuple[int, int, Any]:
        """Wait for an answer."""
        try:
            return self._answers.get(timeout=self._timeout)
        except queue.Empty:
            raise self._late() from None

    def close(self) -> None:
        """Let the threads end, each after what it is fetching."""
        self.closed = True
        _end_threads(self._ended, self._requests)
        until = time.monotonic() + GRACE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))


class TurnPool(Pool):
    """Workers in name only: the thread that waits for an answer finds it, where the dataset is none for threads."""

    def __init__(self, recipe: Recipe, count: int, init: Callable[[int], Any] | None, streams: Callable[..., Streams]) -> None:
        super().__init__(0)
        self.size = count
        self._requests: deque[tuple[int, int, Any]] = deque()
        self._workers = []
        for number in range(count):
            context = contextvars.copy_context()
            self._workers.append((context, context.run(Worker, _thread_copy(recipe), number, count, init, streams)))

    def send(self, worker: int, request: Any) -> int:
        """Put a request to a worker."""
        ticket = next(self._tickets)
        self._requests.append((worker, ticket, request))
        return ticket

    def receive(self) -> tuple[int, int, Any]:
        """Find the first answer."""
        number, ticket, request = self._requests.popleft()
        context, worker = self._workers[number]
        return number, ticket, context.run(worker, request)

    def close(self) -> None:
        """End."""
        self.closed = True


def _end_threads(ended: threading.Event, requests: list[queue.SimpleQueue[Any]]) -> None:
    ended.set()
    for each in requests:
        each.put(None)


def _thread_copy(recipe: Recipe) -> Recipe:
    """Give a recipe whose generators are its own; a stream may keep in its attributes where it is, so it is copied in any case."""
    parts = (recipe.dataset, recipe.collate_fn)
    dataset, collate_fn = find([parts]).copy_of(parts)
    if recipe.is_stream and dataset is recipe.dataset:
        dataset = copy.copy(dataset)
    return Recipe(dataset, collate_fn, recipe.batch_size, recipe.drop_last, recipe.seed)


def _work(requests: Any, answers: Any, ended: Any, recipe: Recipe, number: int, count: int, init: Any) -> None:
    where = f"worker {number} (a thread) of a DataLoader"
    try:
        worker = Worker(recipe, number, count, init, ThreadStreams)
    except BaseException as error:
        answers.put((number, -1, Failure.of(error, where)))
        return
    while (message := requests.get()) is not None:
        ticket, request = message
        if ended.is_set():
            return
        try:
            answer = worker(request)
        except BaseException as error:
            answer = Failure.of(error, where)
        answers.put((number, ticket, answer))
        answer = None
