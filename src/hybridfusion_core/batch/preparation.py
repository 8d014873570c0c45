"""What a task changes in the process of its worker, and gives back when it ends: others may compute there, too."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import zarr

from hybridfusion_core.model.threads import set_usual_threads

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
_DEFAULT = 128 << 10  # bytes, of both
_LOCK = threading.Lock()
_USERS: list[object] = []  # tasks that run in this process
_CHANGES = ExitStack()


@contextmanager
def prepared(threads: int) -> Iterator[None]:
    """Compute with so many threads; the first task of a process changes its settings, the last one gives them back.

    Args:
        threads: unless a request says how many.
    """
    user = object()
    with _LOCK:
        if not _USERS:
            _change(threads)
        _USERS.append(user)
    try:
        yield
    finally:
        with _LOCK:
            _USERS.remove(user)
            if not _USERS:
                _CHANGES.close()


def _change(threads: int) -> None:
    _CHANGES.callback(set_usual_threads, set_usual_threads(threads))
    _CHANGES.enter_context(zarr.config.set({"async.concurrency": 4}))
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep memory that is freed, as it does by itself in other processes.

    Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536, which also ends glibc's own adjustment: every large
    tensor is then fetched from the system and given back. Measured for the network, 512 × 512 × 4: 6.7 s of CPU time
    instead of 2.7 s, 2.0 million page faults instead of 0.2.
    """
    before = os.environ.get("MALLOC_TRIM_THRESHOLD_", "")
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if adjust is None or not before.isdecimal():
        return  # glibc adjusts itself, which no call could give back
    mapped = os.environ.get("MALLOC_MMAP_THRESHOLD_", "")
    _CHANGES.callback(adjust, _TRIM_THRESHOLD, min(int(before), 1 << 30))
    _CHANGES.callback(adjust, _MMAP_THRESHOLD, min(int(mapped), 1 << 30) if mapped.isdecimal() else _DEFAULT)
    adjust(_MMAP_THRESHOLD, 32 << 20)
    adjust(_TRIM_THRESHOLD, 64 << 20)
