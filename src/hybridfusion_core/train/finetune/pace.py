"""How long the steps of a fine-tuning take, and so how many fit into the minutes that were given."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from hybridfusion_core.train.finetune.training_state import CONSTANT, VALIDATIONS, Course

_TIMED = (5, 25)  # steps of a session between which its speed is measured
_AGAIN = 0.8  # of the steps with a constant rate, after which it is measured again
_LEAST_STEPS = 60
_KEEP_SECONDS = 60.0


class Pace:
    """How long a session has taken for what, and so how many steps fit into the time.

    Args:
        seconds: of the whole training.
        first: step that this session begins with.
    """

    def __init__(self, seconds: float, first: int) -> None:
        self._seconds, self._first = seconds, first
        self._started = self._kept_at = time.monotonic()
        self._judging, self._judged = 0.0, 0
        self._timed_from, self._timed_step = 0.0, 0
        self._per_step: float | None = None
        self._again: int | None = None  # step at which the plan is made anew

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Time a validation, which keeps the state too."""
        before = time.monotonic()
        yield
        self.kept()
        self._judging += self._kept_at - before
        self._judged += 1

    def note(self, course: Course) -> None:
        """Take notice of a step; decides how many there are as soon as the speed is known.

        The first steps are slow, since nothing is cached yet: the plan is made anew before the rate begins to fall.
        """
        now, taken = time.monotonic(), course.step - self._first
        if taken == _TIMED[1] or course.step == self._again:
            self._per_step = (now - self._judging - self._timed_from) / (course.step - self._timed_step)
            if course.steps is None or course.step == self._again:
                judgings = VALIDATIONS + 1 - self._judged  # the start was judged too
                left = self._seconds - (now - self._started) - judgings * self._per_judging
                course.steps = max(_LEAST_STEPS, course.step + int(left / self._per_step))
                self._again = None if self._again else int(_AGAIN * CONSTANT * course.steps)
        if taken in _TIMED:
            self._timed_from, self._timed_step = now - self._judging, course.step

    @property
    def keep_due(self) -> bool:
        """The state on disk has become old."""
        return time.monotonic() - self._kept_at > _KEEP_SECONDS

    def kept(self) -> None:
        """Take notice of a state that was written."""
        self._kept_at = time.monotonic()

    def seconds_left(self, course: Course) -> float | None:
        """Seconds to the last step; None while that is not known."""
        if course.steps is None or self._per_step is None:
            return None
        left = course.steps - course.step
        return left * (self._per_step + self._per_judging * VALIDATIONS / course.steps)

    @property
    def _per_judging(self) -> float:
        return self._judging / max(self._judged, 1)
