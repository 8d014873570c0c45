"""`hybridfusion finetune`: progress of a training on stderr, and Ctrl-C that keeps its state."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hybridfusion_core.cli.progress import ProgressLine
from hybridfusion_core.evaluate.metrics.interval import Gain
from hybridfusion_core.progress import Progress
from hybridfusion_core.train.finetune.request import FinetuneRequest, make_finetune_request
from hybridfusion_core.train.finetune.run import FinetuneResult, finetune_steps
from hybridfusion_core.train.finetune.training import TrainingProgress

_SAID = ("preset", "minutes", "steps", "na", "phase_contrast", "axes", "pattern", "height_standard", "seed", "device")
_QUIET_SECONDS = 30.0  # between two lines about validation


def request_of(options: argparse.Namespace) -> FinetuneRequest:
    """Build the request that was typed."""
    return make_finetune_request(
        inputs=tuple(options.input),
        output=options.output,
        start=options.start,
        wavelength_nm=options.wavelength,
        pixel_size_um=options.pixel_size,
        z_step_um=options.z_step,
        corrections=tuple(options.corrections),
        repeats=tuple(tuple(pair) for pair in options.repeat),
        threads=options.threads,
        overwrite=options.overwrite,
        **{name: getattr(options, name) for name in _SAID},
    )


def run(request: FinetuneRequest) -> FinetuneResult:
    """Fine-tune, telling how it goes.

    Raises:
        KeyboardInterrupt: Ctrl-C; the state was kept before.
    """
    shown = _Shown(request.folder)
    with ProgressLine("steps") as line, _interruptible() as interrupted:
        steps = finetune_steps(request)
        try:
            return _exhaust(steps, line, shown, interrupted)
        finally:
            steps.close()


def answer(result: FinetuneResult) -> tuple[dict[str, Any], str]:
    """Say what came of it, as a summary and as text."""
    trained, word = result.trained, result.verdict.word
    summary = {
        "model": str(result.model),
        "sha256": result.sha256,
        "start": result.start,
        "report": str(result.report),
        "verdict": word,
        "reasons": list(result.verdict.reasons),
        "training": asdict(trained),
        "evidence": [
            {"title": each.title, "unit": each.unit, "word": each.word, "gain": _plain(each.gain)}
            for each in result.findings
            if each.gain is not None
        ],
        "warnings": list(result.warnings),
    }
    lines = [
        f"{result.model}: {trained.steps} steps from {result.start}, the best weights after {trained.best_step}",
        f"verdict: {word}",
        *(f"  {reason}" for reason in result.verdict.reasons),
        f"report: {result.report}",
        f"To use it: --model {result.model}, or `hybridfusion models import {result.model}` and --model "
        f"{result.model.stem}. Nothing uses it unless you say so.",
    ]
    return summary, "\n".join(lines)


def _plain(gain: Gain) -> dict[str, float | None]:
    """Return a difference as JSON can say it: one pair has no interval."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(gain).items()}


class _Shown:
    """Lines between the bars: where the picture is, and each validation."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._at = folder, 0.0
        self._last: dict[str, float] = {}

    def note(self, step: TrainingProgress) -> None:
        found = step.validation
        if found is self._last or not found or time.monotonic() - self._at < _QUIET_SECONDS:
            return
        if not self._last:
            print(f"pictures of the training: {self._folder}", file=sys.stderr)
        self._last, self._at = found, time.monotonic()
        left = "" if step.seconds_left is None else f", about {step.seconds_left / 60:.0f} min left"
        own = f", held-out stacks {found['own']:.4f}" if "own" in found else ""
        print(
            f"\nafter {step.done} steps: this microscope {found['psnr']:.2f} dB and {found['height']:.3f} slices, "
            f"familiar scenes {found['familiar_psnr']:.2f} dB{own}{left}",
            file=sys.stderr,
            flush=True,
        )


def _exhaust(
    steps: Generator[Progress, None, FinetuneResult], line: ProgressLine, shown: _Shown, interrupted: list[bool]
) -> FinetuneResult:
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: FinetuneResult = end.value
            return result
        if isinstance(step, TrainingProgress):
            shown.note(step)
        line.update(step.stage, step.done, step.total)
        if interrupted:
            raise KeyboardInterrupt


@contextmanager
def _interruptible() -> Iterator[list[bool]]:
    """Take the first Ctrl-C at the end of a step, where the state is whole; the second one at once."""
    asked: list[bool] = []

    def ask(*_: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        print("\nstopping after this step; the same command resumes from there", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
