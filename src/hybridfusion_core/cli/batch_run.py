"""`hybridfusion batch`: run it, show how far it has come, and say how it ended."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from distributed import Client
from tqdm import tqdm

from hybridfusion_core.batch.api import BatchPlan, run_batch
from hybridfusion_core.batch.result import Event, Result
from hybridfusion_core.batch.scheduler import Where, connected, dashboard
from hybridfusion_core.cli.progress import ProgressLine
from hybridfusion_core.errors import UserInputError, printable
from hybridfusion_core.plates.plate import PlateField

FAILED = 3  # exit status


def run(plan: BatchPlan, options: argparse.Namespace) -> int:
    """Fuse what is missing of a plan.

    Args:
        plan: what `plan_batch` gave.
        options: for where to compute, and how to show it.

    Returns:
        The exit status.
    """
    where = where_of(options)
    if plan.units and not options.finish:
        where.check()  # before anything is written
    if options.finish:
        plan = replace(plan, units=())
    with _terminable(), ProgressLine("fields") as line:
        result = run_batch(
            plan,
            overwrite=options.overwrite,
            recheck=options.recheck,
            report=lambda event: _show(event, line, as_json=options.json),
            connect=lambda units: _announced(where, plan.device, units, as_json=options.json),
        )
    _say(result, as_json=options.json)
    if result.interrupted:
        raise KeyboardInterrupt
    if result.full:
        raise UserInputError(result.full)
    unfinished = options.finish and any(result.missing.values())
    return FAILED if result.failures or result.unstitched or unfinished else 0


def where_of(options: argparse.Namespace) -> Where:
    """Return where to compute."""
    file, config = (None if each is None else Path(each) for each in (options.scheduler_file, options.cluster_config))
    if config is not None and options.cluster is None:
        raise UserInputError(
            f"--cluster-config {config} was given without a queue; expected --cluster slurm, pbs, sge or lsf with it. "
            "Add it, or leave the configuration out."
        )
    return Where(options.workers, options.scheduler, file, options.cluster, config)


@contextmanager
def _announced(where: Where, device: str, units: int, *, as_json: bool) -> Iterator[Client]:
    """Connect, and say where the page is that shows what the cluster does."""
    if where.cluster is not None:
        print(f"hybridfusion: waiting for jobs of {where.cluster}", file=sys.stderr)
    for name in ("distributed", "asyncio", "tornado"):  # what the user has to know of a lost cluster, we say
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with connected(where, device, units) as client:
        link = dashboard(client) if where.is_shared else ""
        if link and as_json:
            print(json.dumps({"event": "cluster", "dashboard": link}), flush=True)
        elif link:
            print(f"hybridfusion: the cluster shows what it does at {link}", file=sys.stderr)
        yield client


def _show(event: Event, line: ProgressLine, *, as_json: bool) -> None:
    if event.stage == "fusing" and as_json:
        print(json.dumps(_as_json(event)), flush=True)
    if event.outcome is not None and event.outcome.status == "failed":
        what = f"stitching {printable(event.unit.well)}" if event.stage == "stitching" else unit_name(event.unit)
        tqdm.write(f"hybridfusion: {what} failed: {printable(event.outcome.reason)}", file=sys.stderr)
    done, total = event.wells
    notes = [f"{done} of {total} wells done"] if total else []
    notes += [f"{event.failed} failed"] if event.failed else []
    line.update(event.stage, event.done, event.total, ", ".join(notes))


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
    paths, failed = result.paths, len(result.failures)
    for warning in result.warnings:
        print(f"hybridfusion: warning: {printable(warning)}", file=sys.stderr)
    if as_json:
        summary = {
            "event": "summary",
            "output": str(paths.output),
            "records": str(paths.folder),
            "total": result.total,
            "fused": result.fused,
            "kept": result.kept,
            "failed": failed,
            "unstitched": {well: printable(why) for well, why in result.unstitched},
            "flagged": dict(result.flagged),
            "warnings": [printable(each) for each in result.warnings],
            "refused_workers": {address: printable(why) for address, why in result.refused.items()},
            "interrupted": result.interrupted,
            "seconds": round(result.seconds, 3),
        }
        print(json.dumps(summary), flush=True)
        return
    kept = f", {result.kept} were fused before" if result.kept else ""
    left = result.total - result.fused - result.kept - failed
    rest = f", {failed} failed" if failed else ""
    rest += f", {left} are left" if left else ""
    print(f"{paths.output}: {result.fused} of {result.total} focal stacks fused in {result.seconds:.0f} s{kept}{rest}")
    print(f"{paths.folder / 'report.html'}")
    if result.flagged:
        print(f"flagged there: {', '.join(f'{count} {flag}' for flag, count in result.flagged.items())}")
    if failed:
        print(f"{paths.failures}: what failed; give it to --only to try these again")


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
