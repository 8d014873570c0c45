"""The loop that keeps workers busy: a few tasks ahead, each one's end taken note of, and two ways to stop."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable

from distributed import Client, Future, KilledWorker

from hybridfusion_core.batch.fuse_field import KILLS, Outcome, Settings, Task, fuse_unit, killed, write_failure
from hybridfusion_core.batch.records.paths import Places, key_of
from hybridfusion_core.batch.records.store import end_session, starts_in_run
from hybridfusion_core.errors import HybridFusionError, UserInputError
from hybridfusion_core.plates.plate import PlateField

_AHEAD = 2  # tasks for each thread that computes
_TICK = 1.0  # s between two looks at the workers
_RESUBMITS = 5  # of one unit that others took with them
_PATIENCE = 120.0  # s without any worker after which a run ends


class Loop:
    """Runs tasks on workers.

    Args:
        client: connected.
        workers: addresses of those that may be used; None means all, also those that come later.
        places: of the batch.
        settings: of the run.
        begun: called with a unit that a worker has begun, within a second or two; not if it ends before that.
        ended: called with a unit and how it ended.
        stop: whether the user wants it to stop, as with the first Ctrl-C.
    """

    def __init__(
        self,
        client: Client,
        workers: list[str] | None,
        places: Places,
        settings: Settings,
        begun: Callable[[PlateField], None],
        ended: Callable[[PlateField, Outcome], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client, self._workers, self._places = client, workers, places
        self._settings, self._begun, self._ended, self._stop = settings, begun, ended, stop
        self._woken = threading.Event()
        self._running: dict[Future[Outcome], Task] = {}
        self._resubmitted: Counter[PlateField] = Counter()
        self._under_way: set[Future[Outcome]] = set()
        self._seen = time.monotonic()
        self._looked = -_TICK
        self._room = 1

    def run(self, tasks: Iterable[Task]) -> bool:
        """Run all tasks, each to its end; the first Ctrl-C lets those that have begun end after their tile.

        Returns:
            Whether the user stopped it.

        Raises:
            UserInputError: the scheduler or all workers are gone.
            KeyboardInterrupt: for the second time.
        """
        pending = deque(tasks)
        stopping = interrupted = False
        while self._running or (pending and not stopping):
            try:
                if not interrupted and self._stop():
                    stopping = interrupted = True
                    end_session(self._places)
                self._look()
                while pending and not stopping and len(self._running) < self._room:
                    self._submit(pending.popleft())
                for outcome in self._some():
                    stopping = stopping or outcome.status == "full"
            except KeyboardInterrupt:
                if interrupted:
                    raise
                stopping = interrupted = True
                end_session(self._places)
                print(
                    "hybridfusion: stopping after the current tiles; Ctrl-C again to stop at once. Run the same "
                    "command again to go on.",
                    file=sys.stderr,
                )
        return interrupted

    def _look(self) -> None:
        """Find out now and then who works, and on what: each question goes to the scheduler or the disk."""
        if time.monotonic() - self._looked < _TICK:
            return
        self._looked = time.monotonic()
        if self._client.status != "running":
            raise self._gone("The Dask scheduler is gone")
        threads = int(sum(self._client.nthreads().values()))
        self._room = max(_AHEAD * threads, 1)
        if threads:
            self._seen = self._looked
        elif self._looked - self._seen > _PATIENCE:
            raise self._gone(f"There has been no worker for {_PATIENCE:g} s")
        for future in self._running.keys() - self._under_way:
            unit = self._running[future].unit
            if starts_in_run(self._places, key_of(unit), unit.t, self._settings.session):
                self._under_way.add(future)
                self._begun(unit)

    def _submit(self, task: Task) -> None:
        # Every task has its own key: the same unit may be submitted again.
        future = self._client.submit(fuse_unit, task, self._settings, workers=self._workers, pure=False)
        self._running[future] = task
        # Dask's own `wait` serves only the default client of a process, and this one is not.
        future.add_done_callback(lambda _: self._woken.set())

    def _some(self) -> list[Outcome]:
        """Wait a moment for tasks to end, and take note of those that have."""
        self._woken.wait(_TICK)
        self._woken.clear()
        outcomes = []
        for future in [each for each in self._running if each.done()]:
            task = self._running.pop(future)
            self._under_way.discard(future)
            outcome = self._outcome(future, task)
            if outcome is None:
                self._resubmitted[task.unit] += 1
                self._submit(task)
            else:
                outcomes.append(outcome)
                self._ended(task.unit, outcome)
        return outcomes

    def _outcome(self, future: Future[Outcome], task: Task) -> Outcome | None:
        """Return how a task ended, or None if it ought to be tried again."""
        if future.status == "finished":
            result: Outcome = future.result()
            return result
        if self._client.status != "running":
            raise self._gone("The Dask scheduler is gone")
        error = None if future.cancelled() else future.exception()
        starts = starts_in_run(self._places, key_of(task.unit), task.unit.t, self._settings.session)
        if starts < KILLS and (error is None or isinstance(error, KilledWorker)) and self._may_again(task):
            return None  # Dask blames all that a dying worker had been given; only what had begun is at fault
        if isinstance(error, KilledWorker) or error is None:
            reason = killed(max(starts, 1))
        else:
            reason = str(error) if isinstance(error, HybridFusionError) else f"{type(error).__name__}: {error}"
        write_failure(self._places, task.unit, reason)
        return Outcome("failed", reason)

    def _may_again(self, task: Task) -> bool:
        return self._resubmitted[task.unit] < _RESUBMITS

    def _gone(self, what: str) -> UserInputError:
        return UserInputError(
            f"{what}; expected it until the last field is fused. What is finished is safe: start the cluster again, "
            "and run the same command again to go on."
        )
