"""How fast a job goes and how long it will take, in words."""

from __future__ import annotations

import time
from collections.abc import Callable

from hybridfusion_core.progress import Progress, duration

_SURE = 5.0  # s; the first steps of a job are slow, and a time left that is made of them is not true
_STAGES = {"measuring": "measuring brightness and noise"}


class Pace:
    """Measures the present stage of a job.

    Args:
        clock: gives seconds.
        rate_text: says how fast, from what is done in a second; by default nothing does.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        rate_text: Callable[[float], str] = lambda _: "",
    ) -> None:
        self._clock, self._rate_text = clock, rate_text
        self._stage = ""
        self._started = self._seen = clock()

    def describe(self, step: Progress, before: int = 0) -> str:
        """Return stage, share, rate and time left, for example "fusing 43 %, 0.8 fields/s, 12 s left".

        Args:
            step: how far the stage has come.
            before: what of it another job had done.
        """
        if step.stage != self._stage:
            # The stage began where the one before it was last heard of.
            self._stage, self._started = step.stage, self._seen
        self._seen = self._clock()
        spent, done = self._seen - self._started, step.done - before
        said = f"{_STAGES.get(step.stage, step.stage)} {100 * step.done // max(step.total, 1)} %"
        if done <= 0 or step.done >= step.total:  # nothing to go by, or the next stage is about to begin
            return said
        rate = done / max(spent, 1e-6)
        left = (step.total - step.done) / rate
        if spent < _SURE and done < step.total / 10:
            return f"{said}, at least {duration(max(left / 2, 1))} left"
        return ", ".join(filter(None, [said, self._rate_text(rate), f"{duration(left)} left"]))
