"""How many threads compute on a CPU, and work dealt out to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

_usual: list[int | None] = [None]  # of this process, where a request does not say


def set_usual_threads(count: int | None) -> int | None:
    """Compute with so many threads wherever a request does not say how many; returns what was set before."""
    before, _usual[0] = _usual[0], count
    return before


def thread_count(asked: int | None = None) -> int:
    """How many threads compute: what was asked for, is usual here, OMP_NUM_THREADS says, or all cores of ours."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return asked or _usual[0] or (int(stated) if stated.isdecimal() else 0) or cores()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Lanes:
    """Deals items out to threads that outlive a call; within a lane one item comes after the other."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lane") if threads > 1 else None

    def each(self, lane: Callable[[], Callable[[int], None]], items: range) -> None:
        """Do something with every item; order and number of lanes must not matter.

        Args:
            lane: makes what does it; called once in each thread, for buffers and requests that lanes cannot share.
            items: numbers of what to do it with.
        """

        def work(share: range) -> None:
            do = lane()
            for item in share:
                do(item)

        if self._pool is None:
            work(items)
            return
        futures = [self._pool.submit(work, items[first :: self._threads]) for first in range(self._threads)]
        wait(futures)  # all of them, failed ones too: they write into memory of the caller's
        for future in futures:
            future.result()

    def rows(self, do: Callable[[slice], None], size: int, together: int) -> None:
        """Do something with rows, so many together; order and number of lanes must not matter.

        Args:
            do: takes rows.
            size: how many rows there are.
            together: how many are done at a time.
        """
        self.each(lambda: lambda first: do(slice(first, min(first + together, size))), range(0, size, together))


lanes = lru_cache(maxsize=4)(Lanes)  # by the number of threads, which outlive whoever asked for them


@lru_cache(maxsize=1)
def blas() -> ThreadpoolController:
    """NumPy's products; with threads of their own they would crowd those of ours."""
    return ThreadpoolController().select(user_api="blas")


_USERS: list[object] = []  # of one thread of BLAS, at this moment
_CHANGES = ExitStack()
_LOCK = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread; the first of several jobs that overlap does, and the last one gives its threads back."""
    user = object()
    with _LOCK:
        if not _USERS:
            _CHANGES.enter_context(blas().limit(limits=1))
        _USERS.append(user)
    try:
        yield
    finally:
        with _LOCK:
            _USERS.remove(user)
            if not _USERS:
                _CHANGES.close()
