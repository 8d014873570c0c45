"""Who may write an output: one run alone, or several that share it by wells (`--shard`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hybridfusion_core.batch.records.paths import BatchPaths
from hybridfusion_core.errors import UserInputError
from hybridfusion_core.io.disk.lock import Lock

_PATIENCE = 2.0  # s: a shard holds the lock of the whole for a moment, to see that nobody else does
_TICK = 0.1  # s


@contextmanager
def claimed(paths: BatchPaths) -> Iterator[None]:
    """Hold the output, or one shard of it; shards exclude runs of the whole, and the other way round.

    Args:
        paths: of the batch.

    Raises:
        UserInputError: another process writes it.
    """
    own = _take(paths.lock, paths.output)
    try:
        for other in sorted(paths.folder.glob("run*.lock")):
            if other != paths.lock and (not paths.shard or other.name == "run.lock"):
                _take(other, paths.output).release()
        yield
    finally:
        own.release()


@contextmanager
def alone(path: Path, output: Path, stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Wait until no other shard does what this lock stands for.

    Args:
        path: of the lock.
        output: of the batch.
        stop: whether the user wants no more; then KeyboardInterrupt is raised.
    """
    while True:
        try:
            lock = Lock(path, output)
        except UserInputError:
            if stop():
                raise KeyboardInterrupt from None
            time.sleep(_TICK)
        else:
            break
    try:
        yield
    finally:
        lock.release()


def _take(path: Path, output: Path) -> Lock:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return Lock(path, output)
        except UserInputError:
            if time.monotonic() > until:
                raise
            time.sleep(_TICK)
