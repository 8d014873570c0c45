"""Work beside the window: the only file with threads.

A job is a generator that yields what it has come to, mostly `Progress`, and can be stopped between two yields; or a
function that reports by itself and asks whether to stop. It runs in a worker thread; whatever it reports arrives in the
window's own thread, or nowhere if the window is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import GeneratorWorker

Steps = Generator[Any, None, Any]
Calling = Callable[[Callable[[Any], None], Callable[[], bool]], Any]  # gets: whom to report to; whether to stop


@dataclass(frozen=True)
class Listener:
    """Who wants to know; called in the thread that started the job, one of the last three once at the end.

    Attributes:
        progress: after each step, with what it yielded.
        done: with what the job returned.
        stopped: it was cancelled; whatever it had made is gone.
        failed: with the reason.
    """

    progress: Callable[[Any], None]
    done: Callable[[Any], None]
    stopped: Callable[[], None]
    failed: Callable[[Exception], None]


class Jobs:
    """Runs one job at a time."""

    def __init__(self) -> None:
        self._worker: _Worker | _Caller | None = None
        self._closed = False

    @property
    def running(self) -> bool:
        """Whether a job has not ended yet."""
        return self._worker is not None

    def start(self, steps: Steps, listener: Listener) -> None:
        """Run a job; another one must not be running."""
        outcome = _Outcome()
        self._run(_Worker(_watched, steps, outcome), outcome, listener)

    def call(self, function: Calling, listener: Listener) -> None:
        """Run a function that stops when it is told to, and returns what it has done until then."""
        outcome = _Outcome()
        self._run(_Caller(function, outcome), outcome, listener)

    def _run(self, worker: _Worker | _Caller, outcome: _Outcome, listener: Listener) -> None:
        self._worker = worker
        self._worker.yielded.connect(lambda step: None if self._closed else listener.progress(step))
        self._worker.finished.connect(lambda: self._end(outcome, listener))
        self._worker.start()

    def cancel(self) -> None:
        """Stop the running job after its present step."""
        if self._worker is not None:
            self._worker.quit()

    def close(self) -> None:
        """Stop the running job and tell nobody: the listener's window is gone."""
        self._closed = True
        self.cancel()

    def _end(self, outcome: _Outcome, listener: Listener) -> None:
        self._worker = None
        if self._closed:
            return
        if outcome.error is not None:
            listener.failed(outcome.error)
        elif outcome.complete:
            # Also if it was cancelled during its very last step: a file may stand already.
            listener.done(outcome.value)
        else:
            listener.stopped()


@dataclass
class _Outcome:
    complete: bool = False
    value: Any = None
    error: Exception | None = None


class _Worker(GeneratorWorker):  # type: ignore[misc]
    def work(self) -> Any:
        try:
            return super().work()
        finally:
            # In this thread, and before anyone is told: it removes what a stopped job has written.
            self._gen.close()


class _Caller(GeneratorWorker):  # type: ignore[misc]
    def __init__(self, function: Calling, outcome: _Outcome) -> None:
        super().__init__(_nothing)
        self._function, self._outcome = function, outcome

    def work(self) -> None:
        try:
            self._outcome.value = self._function(self.yielded.emit, lambda: bool(self.abort_requested))
            self._outcome.complete = True
        except Exception as error:  # as in `_watched`
            self._outcome.error = error


def _nothing() -> Steps:
    yield


def _watched(steps: Steps, outcome: _Outcome) -> Steps:
    try:
        outcome.value = yield from steps
        outcome.complete = True
    except Exception as error:  # the worker would drop every RuntimeError, thus all that torch raises
        outcome.error = error
