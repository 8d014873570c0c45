"""Progress on stderr: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

from hybridfusion_core.progress import duration

_QUIET_SECONDS = 10.0  # between two plain lines


class ProgressLine:
    """Shows how far something has come, how fast it goes and what time is left.

    Args:
        unit: what is counted.
        scale: counts per unit shown.
    """

    def __init__(self, unit: str, scale: float = 1.0) -> None:
        self._unit, self._scale = unit, scale
        self._bar: tqdm[NoReturn] | None = None
        self._stage = ""
        self._started = self._shown = self._seen = time.monotonic()

    def update(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show a new state, and what there is to say beside it."""
        if stage != self._stage:
            self._start(stage, total)
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done / self._scale - self._bar.n)
        elif time.monotonic() - self._shown > _QUIET_SECONDS or done >= total:
            self._shown = time.monotonic()
            seconds = max(self._shown - self._started, 1e-6)
            rate = done / self._scale / seconds
            left = (total - done) / self._scale / max(rate, 1e-9)
            print(
                f"{stage}: {100 * done / total:.0f} %, {pace(rate, self._unit)}, {duration(left)} left"
                f"{', ' if note else ''}{note}",
                file=sys.stderr,
                flush=True,
            )
        self._seen = time.monotonic()

    def _start(self, stage: str, total: int) -> None:
        self._close()
        self._stage = stage
        self._started = self._seen
        self._shown = time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total / self._scale,
                desc=stage,
                unit=self._unit,
                file=sys.stderr,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {rate_fmt}, {remaining} left{postfix}",
            )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def pace(rate: float, unit: str) -> str:
    """Return how much of a unit is done in a second, a minute or an hour."""
    if rate >= 0.1:
        return f"{rate:.2f} {unit}/s"
    return f"{60 * rate:.1f} {unit}/min" if rate >= 1 / 60 else f"{3600 * rate:.1f} {unit}/h"
