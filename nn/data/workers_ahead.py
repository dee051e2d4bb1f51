"""Which worker fetches what, and in which order batches come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from agnostic_ad.nn.data.workers import Batch, Fetcher, Task
from agnostic_ad.nn.data.workers_child import Failure, Next, Open
from agnostic_ad.nn.data.workers_pools import Pool


class _Mail:
    """The requests of one pass, and their answers; those of earlier passes, which were left, are thrown away."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.waiting: dict[int, int] = {}  # ticket -> worker
        self.load = [0] * pool.size

    def send(self, worker: int, request: Any) -> int:
        """Put a request to a worker."""
        ticket = self._pool.send(worker, request)
        self.waiting[ticket] = worker
        self.load[worker] += 1
        return ticket

    def receive(self) -> tuple[int, Any]:
        """Wait for the answer to one of them; give the ticket, and the answer."""
        while True:
            worker, ticket, answer = self._pool.receive()
            if ticket == -1:  # a worker could not start
                raise answer.error
            if ticket in self.waiting:
                del self.waiting[ticket]
                self.load[worker] -= 1
                return ticket, answer


def _value(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise answer.error
    return answer


def by_number(pool: Pool, tasks: Iterator[Task], ahead: int, in_order: bool, here: Fetcher) -> Iterator[Batch]:
    """Give the batches of tasks.

    Parameters
    ----------
    pool : Pool
        The workers.
    tasks : iterator of Task
        What to fetch.
    ahead : int
        How many batches may be under way or lie ready.
    in_order : bool
        Whether they come in the order of the tasks.
    here : Fetcher
        Fetches a batch again that a thread drew for from what threads share, while no thread is at work; and all that follow, if it was
        indeed the dataset that drew.
    """
    mail = _Mail(pool)
    order: dict[int, Task] = {}  # ticket -> task, in order
    ready: dict[int, Any] = {}
    alone = False

    def fill() -> None:
        while not alone and len(order) < ahead and (task := next(tasks, None)) is not None:
            order[mail.send(mail.load.index(min(mail.load)), task)] = task

    def receive() -> int:
        ticket, ready[ticket] = mail.receive()
        return ticket

    fill()
    while order:
        first = next(iter(order)) if in_order else next(iter(ready), None)
        while first is None or first not in ready:
            ticket = receive()
            first = first if in_order else ticket
        task, batch = order.pop(first), _value(ready.pop(first))
        if batch is None:
            while mail.waiting:
                receive()
            batch = here(task)
            alone = here.streams.shared
        fill()
        yield batch
        del batch
    yield from map(here, tasks)  # there are some only if it is alone


def by_stream(pool: Pool, epoch: int, given: int, done: frozenset[int], ahead: int, in_order: bool) -> Iterator[Batch]:
    """Give the batches of a stream: in turn from each worker.

    Where the dataset shares its samples out by itself, the turn passes by workers that have come to their end; where it does not, the
    first missing batch is the end.

    Parameters
    ----------
    pool : Pool
        The workers.
    epoch, given, done : int, int, frozenset of int
        Which pass over the stream; how many batches are done, and which others.
    ahead : int
        How many batches each worker may have under way or lying ready.
    in_order : bool
        Whether batches come in turn, or as they are ready.
    """
    mail = _Mail(pool)
    begun = {mail.send(worker, Open(epoch)) for worker in range(pool.size)}
    asked = [deque(mail.send(worker, Next()) for _ in range(ahead)) for worker in range(pool.size)]
    ready: dict[int, Any] = {}
    left = deque(range(pool.size))  # in turn
    turns = 0
    while left:
        worker = left[0] if in_order else next((each for each in left if asked[each][0] in ready), left[0])
        if asked[worker][0] not in ready:
            ticket, answer = mail.receive()
            if ticket in begun:
                _value(answer)
            else:
                ready[ticket] = answer
            continue
        shares, batch = _value(ready.pop(asked[worker].popleft()))
        left.remove(worker)
        if batch is None:
            if in_order and not shares:
                return
            continue
        asked[worker].append(mail.send(worker, Next()))
        left.append(worker)
        number = turns if shares else batch.number
        turns += 1
        if number >= given and number not in done:
            yield batch._replace(number=number)
        del batch
