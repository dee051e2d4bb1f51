"""From a dataset to batches, in memory."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Generator as Iteration
from typing import Any

import numpy as np

from agnostic_ad.config import parse
from agnostic_ad.nn.data.collate import arriving
from agnostic_ad.nn.data.dataset import IterableDataset, generator_of
from agnostic_ad.nn.data.orders import Order
from agnostic_ad.nn.data.samplers import BatchSampler, RandomSampler, SequentialSampler
from agnostic_ad.nn.data.seeding import Streams
from agnostic_ad.nn.data.workers import Batch, Fetcher, Recipe, StreamFetcher, WorkerError
from agnostic_ad.nn.data.workers_ahead import by_number, by_stream
from agnostic_ad.nn.data.workers_pools import Pool, ThreadPool, TurnPool
from agnostic_ad.random import Generator

__all__ = ["DataLoader"]

_FIXED = {"batch_size", "batch_sampler", "dataset", "drop_last", "persistent_workers", "sampler"}


class DataLoader:
    """Give the batches of a dataset, in order or shuffled; each pass over it is one epoch.

    All that is random follows from the seed, the epoch and the sample: batches are the same bit by bit whatever the number of workers, and
    after `load_state_dict` they go on as if nothing had happened.

    Parameters
    ----------
    dataset : Dataset
        Anything with ``__getitem__`` and ``__len__``, or an `IterableDataset`. A whole batch is fetched at once by ``take(indices)``
        or ``__getitems__(indices)`` where there is one.
    batch_size : int, optional
        How many samples make a batch; None: samples come one by one and are not put together.
    shuffle : bool
        Whether each epoch has an order of its own.
    sampler : Sampler or iterable, optional
        Gives the numbers of the samples, in place of ``shuffle``.
    batch_sampler : Sampler or iterable, optional
        Gives lists of them, in place of ``batch_size``, ``shuffle``, ``sampler`` and ``drop_last``.
    num_workers : int
        How many workers fetch batches ahead of time; 0: they are fetched when they are asked for.
    collate_fn : callable, optional
        Makes a batch of a list of samples; by default `default_collate`, or `default_convert` of a single sample.
    pin_memory : bool
        PyTorch's, and without effect: batches for CuPy go through pinned memory always, on a stream of their own.
    drop_last : bool
        Whether to leave out a last batch that is smaller.
    timeout : float
        How many seconds to wait for a worker; 0: for ever. A worker that has ended is noticed at once in any case.
    worker_init_fn : callable, optional
        Called in each worker with its number when it starts.
    multiprocessing_context : str or context, optional
        How processes start: "spawn" (the default), "forkserver" or "fork".
    generator : Generator, optional
        What the seed is drawn from, once; by default that of `agnostic_ad.manual_seed`.
    prefetch_factor : int, optional
        How many batches each worker fetches ahead; by default 2.
    persistent_workers : bool
        Whether workers stay when an epoch ends.
    pin_memory_device : str
        PyTorch's, and without effect: ``device`` says where batches go.
    in_order : bool
        Whether batches come in order; if not, those that are fetched first come first.
    seed : int, optional
        In place of ``generator``: the seed itself.
    xp, device
        The library and the device of the batches; by default those of the dataset's arrays.
    workers : "processes" or "threads"
        What workers are. Threads start at once and share all memory, but only one of them at a time runs Python's code.

    Examples
    --------
    >>> import numpy as np
    >>> from agnostic_ad import nn
    >>> loader = nn.data.DataLoader(nn.data.TensorDataset(np.arange(5)), batch_size=2)
    >>> [x.tolist() for x, in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[Any] | None = None,
        batch_sampler: Iterable[Any] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        seed: int | None = None,
        xp: Any = None,
        device: Any = None,
        workers: str = "processes",
    ) -> None:
        streams = isinstance(dataset, IterableDataset)
        _check_arguments(
            streams,
            batch_size=batch_size,
            shuffle=shuffle,
            sampler=sampler,
            batch_sampler=batch_sampler,
            num_workers=num_workers,
            drop_last=drop_last,
            timeout=timeout,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            multiprocessing_context=multiprocessing_context,
            workers=workers,
        )
        if seed is None:
            self._generator = generator_of("DataLoader", generator, None)
        else:
            generator_of("DataLoader", generator, seed)
        self.dataset, self.num_workers, self.collate_fn, self.drop_last = dataset, num_workers, collate_fn, drop_last
        self.generator, self.timeout, self.worker_init_fn = generator, timeout, worker_init_fn
        self.pin_memory, self.pin_memory_device, self.in_order = pin_memory, pin_memory_device, in_order
        self.prefetch_factor = prefetch_factor or (2 if num_workers else None)
        self.persistent_workers, self.multiprocessing_context, self.workers = persistent_workers, multiprocessing_context, workers
        self.batch_size = None if batch_sampler is not None else batch_size
        self.sampler: Any = sampler
        self.batch_sampler: Any = batch_sampler
        self._order: Order | None = None
        if not streams:
            self._order = Order(dataset, batch_size, bool(shuffle), sampler, batch_sampler, drop_last)
            self.sampler = sampler if sampler is not None else RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
            if batch_sampler is None and batch_size is not None:
                self.batch_sampler = BatchSampler(self.sampler, batch_size, drop_last)
        self._to = parse(xp=xp, device=device)
        self._seed = seed
        self._epoch = self._given = 0
        self._ahead: set[int] = set()  # batches after the first `_given` that have been given too, without in_order
        self._resumed = True  # whether the next pass takes up the epoch where it is, or begins another one
        self._passes = 0
        self._fetcher: Fetcher | None = None
        self._pool: Pool | None = None
        self._pool_recipe: Any = None
        self._threads_may: bool | None = None  # read a stream
        self._told = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and "_told" in vars(self):
            raise AttributeError(f"{name} cannot change once a DataLoader is made: make another one")
        super().__setattr__(name, value)

    @property
    def seed(self) -> int:
        """What all random numbers follow from; where no seed was passed, it is drawn when it is first needed."""
        if self._seed is None:
            self._seed = int(self._generator.integers(0, 1 << 62))
        return self._seed

    def __len__(self) -> int:
        if self._order is not None:
            return len(self._order)
        whole, rest = divmod(len(self.dataset), self.batch_size or 1)
        return whole + (rest > 0 and not self.drop_last)

    # --- where it stands -------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, Any]:
        """Give where the loader stands, after the last batch that it has given: numbers, texts, lists and dicts, as JSON has them.

        Examples
        --------
        >>> from agnostic_ad import nn
        >>> make = lambda: nn.data.DataLoader(range(8), batch_size=2, shuffle=True, seed=0)
        >>> loader = make(); batches = iter(loader); _ = next(batches), next(batches)
        >>> again = make(); again.load_state_dict(loader.state_dict())
        >>> [x.tolist() for x in again] == [x.tolist() for x in batches]
        True
        """
        state = {
            "seed": self.seed,
            "epoch": self._epoch,
            "batches": self._given,
            "batch_size": self.batch_size,
            "ahead": sorted(self._ahead),
        }
        return state | ({} if self._order is None else {"sampler": self._order.state()})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from where another loader stood: the next pass gives the rest of its epoch.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` gave.

        Raises
        ------
        ValueError
            If an epoch is to be taken up whose batches had another size.
        """
        missing = [name for name in ("seed", "epoch", "batches") if name not in state_dict]
        if missing:
            raise ValueError(f"DataLoader.load_state_dict takes what state_dict() gave; there is no {missing[0]!r} in it")
        if state_dict["batches"] and state_dict.get("batch_size", self.batch_size) != self.batch_size:
            raise ValueError(
                f"the state stands after {state_dict['batches']} batches of {state_dict['batch_size']} samples, and this loader's have "
                f"{self.batch_size}: make it with batch_size={state_dict['batch_size']}, or take the state of an epoch's end"
            )
        self._seed, self._epoch, self._given = state_dict["seed"], state_dict["epoch"], state_dict["batches"]
        self._ahead, self._resumed = set(state_dict.get("ahead", ())), True
        self._passes += 1  # a pass that is under way moves this loader no more
        self._fetcher = None
        if self._order is not None:
            self._order.load_state(state_dict.get("sampler"))

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next pass is; by default they are counted from 0 on."""
        self._begin(epoch)
        self._resumed = True
        self._passes += 1

    def _begin(self, epoch: int) -> None:
        self._epoch, self._given, self._ahead = epoch, 0, set()
        if self._order is not None:
            self._order.finish()

    # --- passes ----------------------------------------------------------------------------------------------------------------
    def __iter__(self) -> Iterator[Any]:
        if not self._resumed and self._given:  # the last pass was left before its end
            self._begin(self._epoch + 1)
        self._resumed = False
        self._passes += 1
        return self._pass(self._passes, self._epoch, self._given, frozenset(self._ahead))

    def _pass(self, turn: int, epoch: int, given: int, ahead: frozenset[int]) -> Iterator[Any]:
        with contextlib.closing(self._batches(epoch, given, ahead)) as batches:
            for number, value, empty, notes in arriving(batches, self._to):
                for note in notes:
                    warnings.warn(note, stacklevel=2)
                if turn == self._passes:
                    self._count(number)
                if not empty:
                    yield value
                del value
        if turn == self._passes:
            self._begin(epoch + 1)

    def _count(self, number: int) -> None:
        self._ahead.add(number)
        while self._given in self._ahead:
            self._ahead.remove(self._given)
            self._given += 1

    def _recipe(self) -> Recipe:
        size = 1 if self.batch_sampler is not None else self.batch_size  # which only tells that there are batches
        return Recipe(self.dataset, self.collate_fn, size, self.drop_last, self.seed)

    def _batches(self, epoch: int, given: int, done: frozenset[int]) -> Iteration[Batch]:
        """Give the batches of an epoch that are left."""
        recipe = self._recipe()
        if self._order is None:
            if not self.num_workers:
                yield from self._read_here(recipe, epoch, given, done)
            elif self.workers == "threads" and not self._threads_may_read(recipe, epoch):
                turns = TurnPool(recipe, self.num_workers, self.worker_init_fn, _streams_here)
                yield from by_stream(turns, epoch, given, done, 1, self.in_order)
            else:
                with self._started(recipe) as pool:
                    yield from by_stream(pool, epoch, given, done, self.prefetch_factor or 2, self.in_order)
            return
        tasks = self._order.tasks(recipe.epoch_key(epoch), epoch, given, done)
        if self._fetcher is None or not self._fetcher.recipe.same(recipe):
            self._fetcher = Fetcher(recipe, _streams_here)
        fetch = self._fetcher
        fetch.look()
        if self.num_workers and self.workers == "threads" and fetch.streams.unknown and not fetch.quiet:
            yield from map(fetch, itertools.islice(tasks, 1))  # which shows whether threads may fetch
        if not self.num_workers or (self.workers == "threads" and not fetch.quiet and self._falls_back(fetch.streams)):
            yield from map(fetch, tasks)
            return
        with self._started(recipe) as pool:
            yield from by_number(pool, tasks, self.num_workers * (self.prefetch_factor or 2), self.in_order, fetch)

    def _read_here(self, recipe: Recipe, epoch: int, given: int, done: frozenset[int]) -> Iterator[Batch]:
        fetch = StreamFetcher(recipe, _streams_here, epoch)
        for number in itertools.count():
            wanted = number >= given and number not in done
            batch = fetch(wanted)
            if batch is None:
                return
            if wanted:
                yield batch

    def _threads_may_read(self, recipe: Recipe, epoch: int) -> bool:
        if self._threads_may is None:
            streams = Streams(recipe.dataset, recipe.collate_fn, restore=True)
            StreamFetcher(recipe, lambda *roots, again: streams, epoch)()
            self._threads_may = not self._falls_back(streams)
        return self._threads_may

    def _falls_back(self, streams: Streams) -> bool:
        """Tell whether threads must leave the dataset alone, since it draws from what they would share."""
        if streams.shared and not self._told:
            self._told = True
            warnings.warn(
                "the dataset draws from numpy.random's or random's own functions, or from a generator that threads cannot have copies of; its "
                'batches are fetched by the thread that asks for them. Let it draw from a numpy.random.Generator in an attribute, or pass workers="processes"',
                stacklevel=5,
            )
        return streams.shared

    @contextlib.contextmanager
    def _started(self, recipe: Recipe) -> Iterator[Pool]:
        """Give the workers; they end with the epoch, unless they are persistent."""
        if self._pool is not None and not (self.persistent_workers and self._pool_recipe.same(recipe)):
            self._pool.close()
            self._pool = None
        pool, self._pool = self._pool, None  # which a second pass at the same time does not share
        if pool is None:
            init = self.worker_init_fn
            if self.workers == "threads":
                pool = ThreadPool(recipe, self.num_workers, init, self.timeout)
            else:
                from agnostic_ad.nn.data.workers_processes import ProcessPool  # which imports much of the standard library

                pool = ProcessPool(recipe, self.num_workers, init, self.timeout, self.multiprocessing_context)
        try:
            yield pool
        except (WorkerError, KeyboardInterrupt):
            pool.close()
            raise
        finally:
            if self.persistent_workers and not pool.closed and self._pool is None:
                self._pool, self._pool_recipe = pool, recipe
            else:
                pool.close()


def _streams_here(*roots: Any, again: bool) -> Streams:
    return Streams(*roots, restore=True, again=again)


def _check_arguments(streams: bool, **given: Any) -> None:
    """Refuse arguments that are none, or do not go together."""
    size, workers = given["batch_size"], given["num_workers"]
    if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
        raise ValueError(f"batch_size is an integer of 1 or more, or None, not {size!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"num_workers is an integer of 0 or more, not {workers!r}")
    if given["workers"] not in ("processes", "threads"):
        raise ValueError(f'workers is "processes" or "threads", not {given["workers"]!r}; num_workers= says how many')
    if given["timeout"] < 0:
        raise ValueError(f"timeout is 0 or more seconds, not {given['timeout']!r}")
    if given["prefetch_factor"] is not None and (not workers or given["prefetch_factor"] < 1):
        raise ValueError(
            f"prefetch_factor is 1 or more, and needs num_workers of 1 or more; they are {given['prefetch_factor']} and {workers}"
        )
    if given["persistent_workers"] and not workers:
        raise ValueError("persistent_workers needs num_workers of 1 or more")
    if given["multiprocessing_context"] is not None and (not workers or given["workers"] == "threads"):
        raise ValueError('multiprocessing_context needs num_workers of 1 or more, and workers="processes"')
    if streams:
        for name in ("shuffle", "sampler", "batch_sampler"):
            if given[name] not in (None, False):
                raise ValueError(f"{name} orders samples by their numbers, which an IterableDataset does not have")
    elif given["batch_sampler"] is not None:
        if size != 1 or given["shuffle"] or given["sampler"] is not None or given["drop_last"]:
            raise ValueError("batch_sampler takes the place of batch_size, shuffle, sampler and drop_last: pass it alone")
    elif given["sampler"] is not None and given["shuffle"]:
        raise ValueError("shuffle and sampler both order the samples: pass one of them")
    if size is None and given["drop_last"]:
        raise ValueError("drop_last needs batch_size: with None there is no batch that could be smaller")
