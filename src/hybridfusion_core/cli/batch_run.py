"""`hybridfusion batch`: run it, show how far it has come, and say how it ended."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from hybridfusion_core.batch.report.write import write_reports
from hybridfusion_core.batch.run import Event, Result, run_batch
from hybridfusion_core.batch.scheduler import Where, connected
from hybridfusion_core.cli.batch import choices_of
from hybridfusion_core.cli.progress import ProgressLine
from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.fusion.request import FuseRequest
from hybridfusion_core.plates.plate import Plate, PlateField

FAILED = 3  # exit status


def run(plate: Plate, units: Sequence[PlateField], request: FuseRequest, options: argparse.Namespace) -> int:
    """Fuse what is missing of a selection.

    Args:
        plate: as it was opened.
        units: that were chosen.
        request: how to fuse them.
        options: for the rest.

    Returns:
        The exit status.
    """
    choices = choices_of(plate, request, options)
    file = options.scheduler_file
    where = Where(options.workers, options.scheduler, None if file is None else Path(file))
    with _terminable(), ProgressLine("fields") as line:
        result = run_batch(
            plate,
            units,
            choices,
            lambda count: connected(where, request.device, count),
            lambda event: _show(event, line, as_json=options.json),
            lambda found: write_reports(plate, found),
        )
    _say(result, as_json=options.json)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.full:
        raise UserInputError(result.full)
    return FAILED if result.failures else 0


def _show(event: Event, line: ProgressLine, *, as_json: bool) -> None:
    if event.stage == "fusing" and as_json:
        print(json.dumps(_as_json(event)), flush=True)
    if event.outcome is not None and event.outcome.status == "failed":
        tqdm.write(f"hybridfusion: {unit_name(event.unit)} failed: {printable(event.outcome.reason)}", file=sys.stderr)
    done, total = event.wells
    note = f"{done} of {total} wells done" if total else ""
    line.update(event.stage, event.done, event.total, note + (f", {event.failed} failed" if event.failed else ""))


def _as_json(event: Event) -> dict[str, Any]:
    unit, outcome = event.unit, event.outcome
    about: dict[str, Any] = {
        "event": "start" if outcome is None else "unit",
        "well": unit.well,
        "field": unit.field,
        "time": unit.t,
    }
    if outcome is not None:
        about |= {
            "status": outcome.status,
            "reason": outcome.reason,
            "seconds": round(outcome.seconds, 3),
            "flags": list(outcome.flags),
        }
    wells = {"wells_done": event.wells[0], "wells": event.wells[1]}
    return about | {"done": event.done, "total": event.total, "failed": event.failed} | wells


def unit_name(unit: PlateField) -> str:
    """Return the name of a unit for a terminal."""
    return printable(unit.name)


def _say(result: Result, *, as_json: bool) -> None:
    places, failed = result.places, len(result.failures)
    for warning in result.warnings:
        print(f"hybridfusion: warning: {printable(warning)}", file=sys.stderr)
    if as_json:
        summary = {
            "event": "summary",
            "output": str(places.output),
            "records": str(places.folder),
            "total": result.total,
            "fused": result.fused,
            "kept": result.kept,
            "failed": failed,
            "warnings": [printable(each) for each in result.warnings],
            "interrupted": result.interrupted,
            "seconds": round(result.seconds, 3),
        }
        print(json.dumps(summary), flush=True)
        return
    kept = f", {result.kept} were fused before" if result.kept else ""
    left = result.total - result.fused - result.kept - failed
    rest = f", {failed} failed" if failed else ""
    rest += f", {left} are left" if left else ""
    print(
        f"{places.output}: {result.fused} of {result.total} fields × times fused in {result.seconds:.0f} s{kept}{rest}"
    )
    print(f"{places.folder / 'report.html'}")
    if failed:
        print(f"{places.failures}: what failed; give it to --only to try these again")


@contextmanager
def _terminable() -> Iterator[None]:
    """Take the end that a cluster's queue or a system announces for Ctrl-C."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
