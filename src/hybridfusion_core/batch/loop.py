"""The loop that keeps workers busy: a few tasks ahead, each one's end taken note of, and two ways to stop."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass

from distributed import Client, Future, KilledWorker

from hybridfusion_core.batch.errand import send
from hybridfusion_core.batch.fit_workers import FitWorkers
from hybridfusion_core.batch.records.store import end_session
from hybridfusion_core.batch.task import Outcome, Settings, Task
from hybridfusion_core.errors import HybridFusionError, UserInputError

_AHEAD = 2  # tasks for each thread that computes
_TICK = 1.0  # s between two looks at the workers
_FETCHED = 5.0  # s for a small result to come from the worker that has it
_PATIENCE = 120.0  # s without any fit worker after which a run ends

Call = Callable[[Task, Settings], Outcome]


@dataclass(frozen=True)
class Work:
    """What is done with each task.

    Attributes:
        call: what a worker does.
        lost: says why a task is not tried again after so many workers went while they had it; "" if it is.
        begun: whether a worker has begun a task, as far as that shows.
    """

    call: Call
    lost: Callable[[Task, int], str]
    begun: Callable[[Task], bool] = lambda _: False


@dataclass(frozen=True)
class _Sent:
    task: Task
    workers: frozenset[str]


class Loop:
    """Runs tasks on workers.

    Args:
        client: connected.
        workers: that may be given tasks.
        settings: of the run.
        work: what is done with each task.
        begun: called with a task that a worker has begun, within a second or two; not if it ends before that.
        ended: called with a task and how it ended.
        stop: whether the user wants it to stop, as with the first Ctrl-C.
    """

    def __init__(
        self,
        client: Client,
        workers: FitWorkers,
        settings: Settings,
        work: Work,
        begun: Callable[[Task], None],
        ended: Callable[[Task, Outcome], None],
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client, self._workers, self._settings, self._work = client, workers, settings, work
        self._begun, self._ended, self._stop = begun, ended, stop
        self._woken = threading.Event()
        self._waiting: deque[Task] = deque()
        self._running: dict[Future[Outcome], _Sent] = {}
        self._losses: Counter[Task] = Counter()
        self._under_way: set[Future[Outcome]] = set()
        self._seen = time.monotonic()
        self._looked = -_TICK

    def run(self, tasks: Iterable[Task]) -> bool:
        """Run all tasks, each to its end; the first Ctrl-C lets those that have begun end after their tile.

        Returns:
            Whether the user stopped it.

        Raises:
            UserInputError: the scheduler or all workers are gone.
            KeyboardInterrupt: for the second time.
        """
        self._waiting.extend(tasks)
        stopping = interrupted = False
        while self._running or (self._waiting and not stopping):
            try:
                if not interrupted and self._stop():
                    stopping = interrupted = True
                    end_session(self._settings.paths)
                self._look(stopping=stopping)
                while self._waiting and not stopping and len(self._running) < _AHEAD * self._workers.threads:
                    self._send(self._waiting.popleft())
                for outcome in self._some():
                    stopping = stopping or outcome.status == "full"
            except KeyboardInterrupt:
                if interrupted:
                    raise
                stopping = interrupted = True
                end_session(self._settings.paths)
                print(
                    "hybridfusion: stopping after the current tiles; Ctrl-C again to stop at once. Run the same "
                    "command again to resume.",
                    file=sys.stderr,
                )
        return interrupted

    def _look(self, *, stopping: bool) -> None:
        """Find out now and then who works, and on what: each question goes to the scheduler or the disk."""
        if time.monotonic() - self._looked < _TICK:
            return
        self._looked = time.monotonic()
        if self._client.status != "running":
            raise self._gone("The Dask scheduler is gone")
        try:
            self._workers.look()
        except (OSError, TimeoutError) as error:
            raise self._gone(f"The Dask scheduler does not answer ({type(error).__name__})") from error
        if self._workers.fit:
            self._seen = self._looked
        elif self._looked - self._seen > _PATIENCE:
            raise self._gone(f"There has been no fit worker for {_PATIENCE:g} s")
        self._take_back(stopping=stopping)
        for future in self._running.keys() - self._under_way:
            task = self._running[future].task
            if self._work.begun(task):
                self._under_way.add(future)
                self._begun(task)

    def _take_back(self, *, stopping: bool) -> None:
        """Take back tasks whose workers are all gone: Dask would keep them for workers of these addresses."""
        fit = set(self._workers.fit)
        for future in [each for each, sent in self._running.items() if not each.done() and not sent.workers & fit]:
            sent = self._running.pop(future)
            self._under_way.discard(future)
            future.cancel()
            if not stopping:
                self._waiting.appendleft(sent.task)

    def _send(self, task: Task) -> None:
        fit = self._workers.fit
        future = send(self._client, fit, self._work.call, task, self._settings)
        self._running[future] = _Sent(task, frozenset(fit))
        # Dask's own `wait` serves only the default client of a process, and this one is not.
        future.add_done_callback(lambda _: self._woken.set())

    def _some(self) -> list[Outcome]:
        """Wait a moment for tasks to end, and take note of those that have."""
        self._woken.wait(_TICK)
        self._woken.clear()
        outcomes = []
        for future in [each for each in self._running if each.done()]:
            task = self._running.pop(future).task
            self._under_way.discard(future)
            outcome = self._outcome(future, task)
            if outcome is None:
                self._waiting.appendleft(task)
            else:
                outcomes.append(outcome)
                self._ended(task, outcome)
        return outcomes

    def _outcome(self, future: Future[Outcome], task: Task) -> Outcome | None:
        """Return how a task ended, or None if it is to be tried again."""
        if self._client.status != "running":
            raise self._gone("The Dask scheduler is gone")
        error: BaseException | None
        try:
            if future.status == "finished":
                result: Outcome = future.result(timeout=_FETCHED)
                if result.status == "refused":
                    self._workers.refuse(result.worker, result.reason)
                    return None
                return result
            error = None if future.cancelled() else future.exception(timeout=_FETCHED)
        except (TimeoutError, CancelledError):
            # Its worker ended before the result was fetched, and no other one may compute it: without a limit, Dask
            # waits for ever. What was fused is found finished when it is tried again.
            future.cancel()
            error = None
        if error is not None and not isinstance(error, KilledWorker):
            told = str(error) if isinstance(error, HybridFusionError) else f"{type(error).__name__}: {error}"
            return Outcome("failed", told)
        self._losses[task] += 1  # Dask blames all that a dying worker had been given
        reason = self._work.lost(task, self._losses[task])
        return Outcome("failed", reason) if reason else None

    def _gone(self, what: str) -> UserInputError:
        return UserInputError(
            f"{what}; expected it until the last field is fused. What is finished is safe: start the cluster again, "
            "and run the same command again to resume.",
            [f"{address} took no part: {reason}" for address, reason in sorted(self._workers.refused.items())[:5]],
        )
