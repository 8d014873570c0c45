"""The workers that may be given tasks: each is examined first, also those that join in the middle of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass

from distributed import Client, Future

from hybridfusion_core.batch.errand import send
from hybridfusion_core.batch.fitness import examined
from hybridfusion_core.batch.task import Settings
from hybridfusion_core.errors import UserInputError

WAIT = 300.0  # s for a first worker to be found fit; importing PyTorch from a busy network drive takes minutes
_AGAIN = 30.0  # s after which an unfit worker is asked once more: a network drive may show a new file late
_TICK = 1.0  # s
_FETCHED = 5.0  # s for an answer to come from the worker that has it
_FIRST = 1000  # priority of an examination
_SHOWN = 5


@dataclass
class _Examined:
    """A worker.

    Attributes:
        asked: when, on the monotonic clock.
        answer: of the examination that goes on, or None.
        fit: it has passed one.
    """

    asked: float
    answer: Future[str | None] | None
    fit: bool = False


class FitWorkers:
    """Examines workers.

    Args:
        client: connected.
        settings: of the run.
        inputs: folder or URL of the plate.
    """

    def __init__(self, client: Client, settings: Settings, inputs: str) -> None:
        self._client, self._settings, self._inputs = client, settings, inputs
        self._workers: dict[str, _Examined] = {}
        self._threads: dict[str, int] = {}
        self._woken = threading.Event()
        self.refused: dict[str, str] = {}

    @property
    def fit(self) -> list[str]:
        """Addresses of those that may be given tasks."""
        return [address for address, each in self._workers.items() if each.fit]

    @property
    def threads(self) -> int:
        """How many tasks they can run at a time."""
        return sum(self._threads.get(address, 0) for address in self.fit)

    def look(self) -> None:
        """Take note of workers that came or went, and of what examinations found."""
        self._threads = dict(self._client.nthreads())
        for address in self._workers.keys() - self._threads.keys():
            del self._workers[address]
        now = time.monotonic()
        for address in self._threads:
            known = self._workers.get(address)
            if known is None:
                self._ask(address, now)
            elif known.answer is not None and known.answer.done():
                self._take(address, known)
            elif known.answer is not None and now - known.asked > WAIT:
                self.refused[address] = f"it has not answered within {WAIT:g} s"
            elif known.answer is None and not known.fit and now - known.asked >= _AGAIN:
                self._ask(address, now)

    def refuse(self, address: str, reason: str) -> None:
        """Give a worker no more tasks until it has passed another examination."""
        self.refused[address] = reason
        if address in self._workers:
            self._workers[address] = _Examined(time.monotonic(), None)

    def wait(self, stop: Callable[[], bool]) -> bool:
        """Wait until one worker is found fit, and all that are there have answered or had a second to.

        Args:
            stop: whether the user wants no more.

        Returns:
            Whether there is one; the user may have stopped it.

        Raises:
            UserInputError: none is fit, or none has answered within `WAIT`.
        """
        started = time.monotonic()
        while not stop():
            try:
                self.look()
            except (OSError, TimeoutError) as error:
                raise UserInputError(
                    f"The Dask scheduler went away while its workers were examined ({type(error).__name__}: {error}); "
                    "expected it until the last field is fused. Start the cluster, and run the same command again."
                ) from error
            waited = time.monotonic() - started
            open_ = [each for each in self._workers.values() if each.answer is not None]
            if self.fit and (not open_ or waited > _TICK):
                return True
            if waited > WAIT or (self._workers and not open_ and not self.fit):
                raise self.nobody()
            self._woken.wait(_TICK)
            self._woken.clear()
        return False

    def nobody(self) -> UserInputError:
        """Explain that no worker is fit."""
        mute = {name: f"it has not answered within {WAIT:g} s" for name, each in self._workers.items() if each.answer}
        return UserInputError(
            f"None of {len(self._workers)} workers can take part; expected one at least that has this version of the "
            "program, the device and model that were asked for, and sees the plate and the output under the same "
            "paths. Found:",
            [f"{address}: {reason}" for address, reason in sorted((mute | self.refused).items())[:_SHOWN]],
        )

    def _ask(self, address: str, now: float) -> None:
        answer = send(self._client, [address], examined, self._settings, self._inputs, priority=_FIRST)
        self._workers[address] = _Examined(now, answer)
        # Dask's own `wait` serves only the default client of a process, and this one is not.
        answer.add_done_callback(lambda _: self._woken.set())

    def _take(self, address: str, known: _Examined) -> None:
        answer, known.answer = known.answer, None
        if answer is None or answer.cancelled():
            del self._workers[address]  # it went, or will be asked anew
            return
        try:
            error = answer.exception(timeout=_FETCHED)
            reason = _explained(error) if error is not None else answer.result(timeout=_FETCHED)
        except (TimeoutError, CancelledError):  # it went before the answer was fetched, which Dask would wait for
            del self._workers[address]
            return
        if reason is None:
            known.fit = True
            self.refused.pop(address, None)
        else:
            self.refused[address] = reason


def _explained(error: BaseException) -> str:
    if isinstance(error, ImportError | AttributeError):
        return f"it does not have this version of napari-hybridfusion ({type(error).__name__}: {error})"
    return f"{type(error).__name__}: {error}"
