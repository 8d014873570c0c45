"""How far long work has come: what its generators yield, step by step, and who runs them to their end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        stage: "measuring" the field or "fusing" it.
        done: pixels × slices so far in this stage.
        total: pixels × slices of this stage.
    """

    stage: str
    done: int
    total: int


def run_to_end(steps: Generator[Progress, None, T], report: Callable[[Progress], None] | None) -> T:
    """Run an iterator of progress to its end, reporting each step; gives what it returns."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if report is not None:
            report(step)


def duration(seconds: float) -> str:
    """Return a length of time, such as "12 s", "1 min 05 s" or "3 h 20 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
